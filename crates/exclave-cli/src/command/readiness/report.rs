//! What `readiness` says, on one page and in JSON.

use std::{
    io::{self, Write},
    time::Duration,
};

use exclave_engine::kit::FoundKit;
use serde::Serialize;

use crate::{
    format,
    output::{Report, aligned, words},
    surroundings::Edge,
};

/// Whether a stranger could restore today.
#[derive(Serialize)]
pub struct Readiness {
    pub archive: String,
    pub charter_version: u32,
    /// The newest kit; `None` when there is none.
    pub kit: Option<KitLine>,
    /// Whether one can read at every site with the kit's credentials; false also when nobody tried.
    pub login_proven: bool,
    pub sites: Vec<SiteLine>,
    /// The newest snapshots, when an identity opened them.
    pub datasets: Vec<Dataset>,
    pub findings: Vec<Finding>,
}

/// The newest kit.
#[derive(Serialize)]
pub struct KitLine {
    version: u32,
    digest: String,
    charter_version: u32,
    created: String,
    age_s: i64,
    program: String,
}

/// One site.
#[derive(Serialize)]
pub struct SiteLine {
    pub site: String,
    /// The newest kit that it shows.
    pub kit: Option<u32>,
    /// What credentials the newest kit has for it.
    pub credentials: Option<&'static str>,
    /// Whether one can read there with them; `None` when nobody tried.
    pub login: Option<bool>,
}

/// A dataset's newest snapshot.
#[derive(Serialize)]
pub struct Dataset {
    pub dataset: String,
    pub finished: String,
    pub age_s: i64,
}

/// Something to be done.
#[derive(Serialize)]
pub struct Finding {
    /// `None` when it is about the kit.
    site: Option<String>,
    what: String,
    next: String,
}

impl Finding {
    /// Something, and what to do about it.
    pub fn new(site: Option<&str>, what: String, next: &str) -> Self {
        Self {
            site: site.map(str::to_owned),
            what,
            next: next.to_owned(),
        }
    }
}

impl KitLine {
    /// The kit as it was found.
    pub fn of(found: &FoundKit, edge: &Edge) -> Self {
        let kit = &found.kit;
        Self {
            version: kit.version,
            digest: found.digest.to_hex(),
            charter_version: kit.charter_version,
            created: format::rfc3339(kit.created),
            age_s: edge.surroundings.clock.now_unix_seconds().saturating_sub(kit.created),
            program: kit.program.clone(),
        }
    }
}

fn age(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Ok(seconds) => format!("{} ago", format::span(Duration::from_secs(seconds))),
        Err(_) => "in the future by this machine's clock".to_owned(),
    }
}

impl Report for Readiness {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "archive {}, charter version {}",
            self.archive, self.charter_version
        )?;
        if let Some(kit) = &self.kit {
            writeln!(
                out,
                "kit {}, made {} ({}) under charter version {}, with {}",
                kit.version,
                kit.created,
                age(kit.age_s),
                kit.charter_version,
                format::plain(&kit.program)
            )?;
            writeln!(out, "digest {}", kit.digest)?;
        }
        let columns = [words("SITE"), words("KIT"), words("CREDENTIALS"), words("LOG-IN")];
        let row = |line: &SiteLine| {
            let login = match line.login {
                Some(true) => "proven",
                Some(false) => "FAILS",
                None => "not proven",
            };
            let kit = line.kit.map_or_else(|| "-".to_owned(), |version| version.to_string());
            vec![
                line.site.clone(),
                kit,
                line.credentials.unwrap_or("-").to_owned(),
                login.to_owned(),
            ]
        };
        write!(out, "\n{}", aligned(&columns, self.sites.iter().map(row)))?;
        if self.sites.iter().all(|line| line.login.is_none()) {
            writeln!(
                out,
                "\nThat one can log in was not proven: that takes --identity FILE, or custodians' shares."
            )?;
        }
        if !self.datasets.is_empty() {
            writeln!(out, "\nNewest snapshots:")?;
        }
        for dataset in &self.datasets {
            let name = format::plain(&dataset.dataset);
            writeln!(out, "  {name}, complete {} ({})", dataset.finished, age(dataset.age_s))?;
        }
        match self.findings.len() {
            0 => writeln!(out, "\nNothing is stale or missing."),
            count => {
                writeln!(out, "\n{}:", format::count(count as u64, "finding"))?;
                for finding in &self.findings {
                    let site = finding.site.as_ref().map_or(String::new(), |site| format!("{site}: "));
                    writeln!(out, "  {}", format::plain(&format!("{site}{}", finding.what)))?;
                    writeln!(out, "    do: {}", format::plain(&finding.next))?;
                }
                Ok(())
            }
        }
    }
}
