//! What `site check` found at the sites, kept beside the agent's state for the next `replicate`.
//!
//! One file for each store, `probes/<hash>.toml` in the state folder. It holds for one address at one endpoint: the same
//! bucket name means another store elsewhere. A check writes it again, so losing it costs a check; one that is damaged, or
//! that others could have written, counts as absent and is worth a warning. Nothing rests on it but the mode of a put:
//! whatever it says, what was put is read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use exclave_engine::archive::SiteHandle;
use exclave_model::SiteId;
use exclave_site::{
    LockMode, ObjectLock, ProbeReport, Scheme, Versioning,
    probe::{CreateOnly, Finding},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    config::{Config, SiteConfig},
    error::{self, Context as _, Trouble},
    format,
    output::Output,
    private_file,
};

/// The folder within the agent's state.
const FOLDER: &str = "probes";

/// What such a file is, in messages.
const NOUN: &str = "memory of a site check";

/// What was found at one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probed {
    /// The store's address.
    address: String,
    /// Where its service is, when the address doesn't say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// What became of a create-only put on a name that was taken.
    pub create_only: CreateOnly,
    /// When that was.
    pub checked: Timestamp,
    /// Whether older versions were kept, as far as the bucket told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versioning: Option<Versioning>,
    /// Whether objects were locked, as far as the bucket told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
}

impl Probed {
    /// A finding at a site.
    pub fn new(site: &SiteConfig, create_only: CreateOnly, checked: Timestamp) -> Self {
        Self {
            address: site.address.to_string(),
            endpoint: site.settings.endpoint.clone(),
            create_only,
            checked,
            versioning: None,
            object_lock: None,
        }
    }

    /// Adds what a bucket said that it keeps and locks. What it didn't say is taken from what was known before.
    #[must_use]
    pub fn keeping(mut self, report: &ProbeReport, before: Option<&Self>) -> Self {
        self.versioning = known(&report.versioning).or(before.and_then(|before| before.versioning));
        self.object_lock = known(&report.object_lock).or(before.and_then(|before| before.object_lock));
        self
    }

    /// The same, with the stronger promises of what was known before: a bucket that keeps its word less than it did has
    /// drifted, until somebody accepts that.
    #[must_use]
    pub fn holding_to(mut self, before: &Self) -> Self {
        self.versioning = before.versioning;
        self.object_lock = before.object_lock;
        self
    }

    /// In what a bucket promises less than it did when it was checked before, in words.
    pub fn drift(&self, report: &ProbeReport) -> Vec<String> {
        let mut drift = Vec::new();
        if self.versioning == Some(Versioning::Enabled)
            && let Some(now) = known(&report.versioning).filter(|now| *now != Versioning::Enabled)
        {
            drift.push(format!(
                "older versions were kept on {}, and are {now} now",
                day(self.checked)
            ));
        }
        if let (Some(before), Some(now)) = (self.object_lock, known(&report.object_lock))
            && strength(now) < strength(before)
        {
            drift.push(format!(
                "the lock was \"{before}\" on {}, and is \"{now}\" now",
                day(self.checked)
            ));
        }
        drift
    }

    /// Keeps it in an agent's state folder, in place of what was found before.
    pub fn remember(&self, state: &Path) -> Result<(), Trouble> {
        let path = path(state, &self.address, self.endpoint.as_deref());
        let failed = || Trouble::failed(format!("the {NOUN} {} can't be written", path.display()));
        match DirBuilder::new().mode(0o700).create(private_file::directory_of(&path)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed().source(error)),
            Ok(()) | Err(_) => {}
        }
        let text = toml::to_string(self).because(failed)?;
        private_file::replace(&path, &text, NOUN)
    }

    /// What was found at exactly this site; nothing when it was never checked.
    pub fn recall(state: &Path, site: &SiteConfig) -> Result<Option<Self>, Trouble> {
        let (address, endpoint) = (site.address.to_string(), site.settings.endpoint.as_deref());
        let path = path(state, &address, endpoint);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(_) | Err(_) => {}
        }
        let damaged = || {
            Trouble::failed(format!("the {NOUN} {} is of no use", path.display()))
                .hint(format!("write it again: exclave site check {}", site.name))
        };
        let text = private_file::read(&path, NOUN).because(damaged)?;
        let probed: Self = toml::from_str(&text).because(damaged)?;
        if probed.address != address || probed.endpoint.as_deref() != endpoint {
            return Err(damaged().source(io::Error::other("it is about another site")));
        }
        Ok(Some(probed))
    }
}

/// Sites where a put leaves alone what lies there: those where the last `site check` saw that, and directories, where the
/// kernel sees to it, unless a check saw something else.
pub fn create_only(agent: &Agent, config: &Config, output: &Output) -> BTreeSet<SiteId> {
    let honours = |handle: &&SiteHandle| {
        let address = handle.site.address();
        // Several sites may have the address, at endpoints of their own: then all must honour it.
        let configured = config.sites.iter().filter(|site| site.address == *address);
        let probes: Vec<Option<Probed>> = configured
            .map(|site| {
                Probed::recall(agent.state.folder(), site).unwrap_or_else(|trouble| {
                    output.note(format!("Warning: {}", format::plain(&error::chain(&trouble))));
                    None
                })
            })
            .collect();
        let by_kind = matches!(address.scheme(), Scheme::File { .. });
        let honoured = |probed: &Option<Probed>| match probed {
            Some(probed) => probed.create_only == CreateOnly::Honoured,
            None => by_kind,
        };
        match probes.is_empty() {
            true => by_kind,
            false => probes.iter().all(honoured),
        }
    };
    let sites = agent.archive.sites.iter().filter(honours);
    sites.filter_map(|handle| handle.id).collect()
}

/// Sites whose bucket locks by itself what is put, for so many days, as far as the last check of each saw.
pub fn locks(agent: &Agent, config: &Config) -> BTreeMap<SiteId, u32> {
    let of = |handle: &SiteHandle| {
        let address = handle.site.address();
        let configured = config.sites.iter().filter(|site| site.address == *address);
        // `create_only` has told of those that can't be recalled.
        let days = configured.filter_map(|site| Probed::recall(agent.state.folder(), site).ok()??.object_lock);
        let days = days.filter_map(|lock| match lock {
            ObjectLock::ByDefault { days, .. } => Some(days),
            ObjectLock::None | ObjectLock::OnRequest | ObjectLock::Policy => None,
        });
        Some((handle.id?, days.min()?))
    };
    agent.archive.sites.iter().filter_map(of).collect()
}

/// What a probe knows.
fn known<T: Copy>(finding: &Finding<T>) -> Option<T> {
    match finding {
        Finding::Known(known) => Some(*known),
        Finding::Failed { .. } | Finding::Unknown => None,
    }
}

/// Locks by what they promise without being asked: who may lift one, and how long it lasts.
fn strength(lock: ObjectLock) -> (u8, u32) {
    match lock {
        ObjectLock::None => (0, 0),
        ObjectLock::OnRequest => (1, 0),
        // What it says isn't known.
        ObjectLock::Policy => (2, 0),
        ObjectLock::ByDefault {
            mode: LockMode::Governance,
            days,
        } => (3, days),
        ObjectLock::ByDefault {
            mode: LockMode::Compliance,
            days,
        } => (4, days),
    }
}

/// A day in UTC.
fn day(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d").to_string()
}

/// Addresses hold characters that names of files don't.
fn path(state: &Path, address: &str, endpoint: Option<&str>) -> PathBuf {
    let about = format!("{address}\n{}", endpoint.unwrap_or_default());
    let hash = blake3::hash(about.as_bytes()).to_hex();
    let name: String = hash.chars().take(16).collect();
    state.join(FOLDER).join(format!("{name}.toml"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Config;

    fn site(text: &str) -> SiteConfig {
        Config::parse(&format!("[[site]]\n{text}"), None)
            .unwrap()
            .sites
            .remove(0)
    }

    #[test]
    fn a_finding_is_recalled_for_exactly_its_site() {
        let state = tempfile::tempdir().unwrap();
        let here = site("address = \"s3://bucket/x\"\nendpoint = \"https://one.example\"");
        let others = [
            site("address = \"s3://bucket/x\"\nendpoint = \"https://two.example\""),
            site("address = \"s3://bucket/x\""),
            site("address = \"s3://bucket/y\"\nendpoint = \"https://one.example\""),
        ];
        assert_eq!(Probed::recall(state.path(), &here).unwrap(), None);
        let first = Probed::new(&here, CreateOnly::SilentlyOverwrites, Timestamp::UNIX_EPOCH);
        first.remember(state.path()).unwrap();
        assert_eq!(Probed::recall(state.path(), &here).unwrap(), Some(first));
        let second = Probed::new(&here, CreateOnly::Honoured, Timestamp::MAX);
        second.remember(state.path()).unwrap();
        assert_eq!(Probed::recall(state.path(), &here).unwrap(), Some(second));
        for other in &others {
            assert_eq!(Probed::recall(state.path(), other).unwrap(), None);
        }
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        let file = path(state.path(), "s3://bucket/x", Some("https://one.example"));
        assert_eq!((mode(&file), mode(&state.path().join(FOLDER))), (0o600, 0o700));
    }

    #[test]
    fn a_bucket_that_promises_less_has_drifted() {
        let state = tempfile::tempdir().unwrap();
        let here = site("address = \"s3://bucket/x\"");
        let compliance = |days| ObjectLock::ByDefault {
            mode: LockMode::Compliance,
            days,
        };
        let report = |versioning, object_lock| {
            let unknown: ProbeReport = probe_report();
            ProbeReport {
                versioning,
                object_lock,
                ..unknown
            }
        };
        let good = report(Finding::Known(Versioning::Enabled), Finding::Known(compliance(30)));
        let first = Probed::new(&here, CreateOnly::Honoured, Timestamp::UNIX_EPOCH).keeping(&good, None);
        first.remember(state.path()).unwrap();
        let first = Probed::recall(state.path(), &here).unwrap().unwrap();
        assert_eq!(first.object_lock, Some(compliance(30)));
        assert!(first.drift(&good).is_empty());
        for (versioning, object_lock, drifts) in [
            (Versioning::Suspended, compliance(30), 1),
            (Versioning::Enabled, compliance(29), 1),
            (Versioning::Enabled, compliance(31), 0),
            (Versioning::Enabled, ObjectLock::OnRequest, 1),
            (Versioning::Off, ObjectLock::None, 2),
        ] {
            let found = first.drift(&report(Finding::Known(versioning), Finding::Known(object_lock)));
            assert_eq!(found.len(), drifts, "{versioning:?} {object_lock:?}: {found:?}");
        }
        // What isn't told is no drift, and doesn't wipe out what was known.
        let silent = report(Finding::Unknown, Finding::Unknown);
        assert!(first.drift(&silent).is_empty());
        let later = Probed::new(&here, CreateOnly::Honoured, Timestamp::MAX).keeping(&silent, Some(&first));
        assert_eq!(
            (later.versioning, later.object_lock),
            (first.versioning, first.object_lock)
        );
    }

    fn probe_report() -> ProbeReport {
        ProbeReport {
            site: String::new(),
            objects: String::new(),
            put_and_get: Finding::Unknown,
            create_only: Finding::Unknown,
            overwrite: Finding::Unknown,
            ranges: Finding::Unknown,
            listing: Finding::Unknown,
            delete: Finding::Unknown,
            versioning: Finding::Unknown,
            object_lock: Finding::Unknown,
            put_is_locked: Finding::Unknown,
            round_trip_us: Finding::Unknown,
            upload_bytes_per_second: Finding::Unknown,
            download_bytes_per_second: Finding::Unknown,
            date: None,
        }
    }

    #[test]
    fn what_is_damaged_or_anyones_is_no_finding() {
        let state = tempfile::tempdir().unwrap();
        let here = site("address = \"s3://bucket/x\"");
        let found = Probed::new(&here, CreateOnly::Honoured, Timestamp::UNIX_EPOCH);
        found.remember(state.path()).unwrap();
        let file = path(state.path(), "s3://bucket/x", None);
        let good = std::fs::read_to_string(&file).unwrap();
        for bad in [
            String::new(),
            good.replace("honoured", "kept"),
            good.replace("bucket/x", "bucket/y"),
            format!("{good}more = 1\n"),
            good.get(..good.len() / 2).unwrap().to_owned(),
        ] {
            std::fs::write(&file, &bad).unwrap();
            let error = Probed::recall(state.path(), &here).unwrap_err();
            assert!(error.to_string().ends_with(".toml is of no use"), "{bad}: {error}");
        }
        std::fs::write(&file, &good).unwrap();
        assert_eq!(Probed::recall(state.path(), &here).unwrap(), Some(found));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Probed::recall(state.path(), &here).is_err());
    }
}
