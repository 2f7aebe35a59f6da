//! Whether a store keeps the contract of [`Site`]: checks that anyone can run against any site, and what they found.
//!
//! [`run`] writes some 1,200 small objects below a name that the caller chooses fresh, and deletes none. An outcome is data: a
//! store that overwrites silently is still of use, as long as we know.

mod checks;

use std::fmt;

use exclave_model::{ObjectName, Prefix};
use serde::Serialize;

use crate::contract::Site;
use crate::{Class, SiteError};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Outcome {
    /// The contract holds.
    Ok,
    /// It doesn't.
    Fail {
        /// What was seen.
        why: String,
    },
    /// The site says that it did what was asked, and didn't.
    Silent {
        /// What was seen.
        why: String,
    },
    /// The site says that it can't.
    Unsupported {
        /// What it says.
        why: String,
    },
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it found.
    pub outcome: Outcome,
}

/// All checks, in the order in which they ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The site's address.
    pub site: String,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// What a check found.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.checks
            .iter()
            .find(|check| check.name == name)
            .map(|check| &check.outcome)
    }

    /// The checks whose outcome isn't [`Outcome::Ok`].
    pub fn deviations(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.outcome != Outcome::Ok)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.site)?;
        for Check { name, outcome } in &self.checks {
            match outcome {
                Outcome::Ok => writeln!(f, "  {name:<24} ok")?,
                Outcome::Fail { why } => writeln!(f, "  {name:<24} FAIL: {why}")?,
                Outcome::Silent { why } => writeln!(f, "  {name:<24} SILENT: {why}")?,
                Outcome::Unsupported { why } => writeln!(f, "  {name:<24} unsupported: {why}")?,
            }
        }
        Ok(())
    }
}

/// Runs every check below `root`, which has to be unused.
pub async fn run(site: &dyn Site, root: &ObjectName) -> Report {
    let below = Prefix::below(root);
    let mut checks = Vec::new();
    macro_rules! check {
        ($($name:ident),*) => {$(
            let outcome = checks::$name(site, &below).await.map_or_else(Outcome::from, |()| Outcome::Ok);
            checks.push(Check { name: stringify!($name), outcome });
        )*};
    }
    check!(
        put_and_get,
        empty_object,
        odd_lengths,
        ranges,
        ranges_beyond_the_end,
        lengths,
        missing_objects,
        too_long_objects,
        put_again,
        overwrite,
        create_only,
        create_race,
        new_directory_race,
        flush,
        list_nothing,
        list_within_prefix,
        list_children,
        list_many,
        list_capped,
        versions
    );
    Report {
        site: site.address().to_string(),
        checks,
    }
}

/// Why a check stops.
pub(crate) enum Deviation {
    Fail(String),
    Silent(String),
    Unsupported(String),
}

impl From<Deviation> for Outcome {
    fn from(deviation: Deviation) -> Self {
        match deviation {
            Deviation::Fail(why) => Self::Fail { why },
            Deviation::Silent(why) => Self::Silent { why },
            Deviation::Unsupported(why) => Self::Unsupported { why },
        }
    }
}

impl From<SiteError> for Deviation {
    fn from(error: SiteError) -> Self {
        let cause = std::error::Error::source(&error)
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        match error.class() {
            Class::Unsupported => Self::Unsupported(format!("{error}{cause}")),
            _ => Self::Fail(format!("{error}{cause}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Durability, Fault, FileSite, MemorySite, SimulatedSite, SiteAddress, Steps, When};

    async fn conforms(site: &dyn Site) {
        let report = run(site, &ObjectName::parse("conformance/1").unwrap()).await;
        assert_eq!(report.checks.len(), 20);
        assert_eq!(report.deviations().count(), 0, "{report}");
    }

    #[tokio::test]
    async fn memory_conforms() {
        conforms(&MemorySite::new("one").unwrap()).await;
    }

    #[tokio::test]
    async fn memory_with_versions_conforms() {
        let address = SiteAddress::parse("memory://one").unwrap();
        conforms(&MemorySite::over(address, crate::MemoryStore::with_versions())).await;
    }

    #[tokio::test]
    async fn a_calm_simulated_site_conforms() {
        conforms(&SimulatedSite::simulated("one", 1, &Steps::new()).unwrap()).await;
    }

    #[tokio::test]
    async fn a_directory_conforms() {
        for durability in [Durability::Flush, Durability::Each] {
            let folder = tempfile::tempdir().unwrap();
            let address = SiteAddress::of_directory(folder.path()).unwrap();
            conforms(&FileSite::new(&address, durability).unwrap()).await;
        }
    }

    #[tokio::test]
    async fn layers_conform() {
        let settings: crate::SiteSettings = toml::from_str("requests_in_flight_max = 3").unwrap();
        let site = crate::open(&SiteAddress::parse("memory://one").unwrap(), &settings).unwrap();
        conforms(&crate::Faulty::new(Arc::clone(&site), 1, &Steps::new())).await;
        let site = crate::open(&SiteAddress::parse("memory://two").unwrap(), &settings).unwrap();
        conforms(&crate::Retrying::new(site, crate::Patience::default(), |_| 0)).await;
    }

    /// Every lie is caught by the check that is there for it.
    #[tokio::test]
    async fn each_fault_is_noticed_by_its_check() {
        let any = When::any;
        let cases = [
            (
                any().writes().containing("create_only"),
                Fault::Overwrite,
                "create_only",
            ),
            (
                any().writes().containing("create_race"),
                Fault::Overwrite,
                "create_race",
            ),
            (any().containing("put_and_get"), Fault::WrongBytes, "put_and_get"),
            (any().writes().containing("odd"), Fault::Spoil, "odd_lengths"),
            (any().containing("ranges/"), Fault::WrongBytes, "ranges"),
            (any().writes().containing("empty"), Fault::Vanish, "empty_object"),
            (any().containing("missing"), Fault::Deny, "missing_objects"),
            (
                any().writes().containing("put_again").after(1),
                Fault::Throttle,
                "put_again",
            ),
            (
                any().writes().containing("overwrite").after(1),
                Fault::Vanish,
                "overwrite",
            ),
            (
                any(),
                Fault::Omit {
                    containing: "many/0042".into(),
                },
                "list_many",
            ),
            (
                any().reads().containing("children"),
                Fault::Stale { puts: 2 },
                "list_children",
            ),
            (any().only(&[crate::Operation::Flush]), Fault::Fail, "flush"),
        ];
        for (when, fault, check) in cases {
            let site = SimulatedSite::simulated("one", 1, &Steps::new()).unwrap();
            site.inflict(when, fault.clone());
            let report = run(&site, &ObjectName::parse("conformance/1").unwrap()).await;
            let names: Vec<_> = report.deviations().map(|check| check.name).collect();
            assert_eq!(names, [check], "{fault:?}: {report}");
        }
    }
}
