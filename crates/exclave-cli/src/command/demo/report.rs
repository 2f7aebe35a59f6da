//! What the demo says.

use std::{
    io::{self, Write},
    time::Duration,
};

use exclave_engine::{ReplicateReport, restore::RestoreReport};
use serde::Serialize;

use crate::{error::Trouble, format, output::Report};

/// The play, act by act.
#[derive(Debug, Serialize)]
pub struct DemoReport {
    /// What was protected.
    pub source: String,
    /// Where the sites lay.
    pub folder: String,
    /// The sites.
    pub sites: Vec<String>,
    /// The code.
    pub code: String,
    /// What happened.
    pub deeds: Vec<Deed>,
    /// The restored tree equals the source, byte by byte, after two losses and a liar.
    pub restored_equal: bool,
    /// After a fourth site was lost, the restore said so, with the exit code for "unrecoverable".
    pub unrecoverable_is_told: bool,
}

/// One act.
#[derive(Debug, Serialize)]
pub struct Deed {
    /// In words.
    pub what: String,
    /// Its figures, where it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// Further lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// The exit code that a command of its own would have had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

/// An act's figures.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Files.
    pub files: u64,
    /// Raw bytes.
    pub bytes: u64,
    /// Bytes stored at all sites, or fetched from them.
    pub bytes_at_sites: u64,
    /// Wall time.
    pub seconds: f64,
    /// Raw bytes a second.
    pub bytes_per_second: f64,
}

impl Figures {
    fn new(files: u64, bytes: u64, bytes_at_sites: u64, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        Self {
            files,
            bytes,
            bytes_at_sites,
            seconds,
            bytes_per_second: bytes as f64 / seconds.max(1e-9),
        }
    }
}

impl Deed {
    /// Something that was done.
    pub fn said(what: String) -> Self {
        Self {
            what,
            figures: None,
            details: Vec::new(),
            exit_code: None,
        }
    }

    /// The dataset went abroad.
    pub fn replicated(report: &ReplicateReport, time: Duration, stored: u64) -> Self {
        let figures = Figures::new(report.counts.files, report.counts.bytes, stored, time);
        Self {
            figures: Some(figures),
            details: vec![format!(
                "{} stripes, each verified at {} sites or more; the head lies at {}",
                report.stripes, report.verified_min, report.head_sites
            )],
            exit_code: Some(0),
            ..Self::said("The dataset is replicated to seven sites, 4+3".to_owned())
        }
    }

    /// It came back.
    pub fn restored(report: &RestoreReport, time: Duration) -> Self {
        let figures = Figures::new(report.files, report.bytes, report.bytes_fetched(), time);
        Self {
            figures: Some(figures),
            details: site_lines(report),
            exit_code: Some(0),
            ..Self::said("The dataset is restored from addresses and an identity alone".to_owned())
        }
    }

    /// Both trees side by side.
    pub fn compared(differences: &[String]) -> Self {
        let what = match differences {
            [] => "Every file, byte by byte, with modes and times: equal".to_owned(),
            _ => "The restored tree differs".to_owned(),
        };
        Self {
            details: differences.to_vec(),
            ..Self::said(what)
        }
    }

    /// What is left when too much is lost.
    pub fn unrecoverable(report: &RestoreReport) -> Self {
        let lost = &report.lost;
        let mut details: Vec<String> = lost
            .listed
            .iter()
            .take(3)
            .map(|entry| format!("{}: {}", entry.path, entry.why))
            .chain(
                lost.gaps
                    .iter()
                    .take(3)
                    .map(|gap| format!("the manifest can't be read: {}", chain(&*gap.why))),
            )
            .collect();
        details.extend(site_lines(report));
        let what = format!(
            "A restore now says: {} entries and {} stretches of the manifest are unrecoverable",
            lost.count, lost.gaps_count
        );
        Self {
            details,
            exit_code: Some(4),
            ..Self::said(what)
        }
    }

    /// The restore did not begin.
    pub fn refused(trouble: &Trouble) -> Self {
        Self {
            exit_code: Some(trouble.exit().code()),
            ..Self::from(trouble)
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn site_lines(report: &RestoreReport) -> Vec<String> {
    let line = |site: &exclave_engine::fetch::SiteTally| {
        let mut said = vec![if site.shards == 0 {
            "no good shard".to_owned()
        } else {
            format!("{} good shards", site.shards)
        }];
        let faults = [
            (site.missing, "missing"),
            (site.corrupt, "corrupt"),
            (site.denied, "denied"),
            (site.timeouts, "late"),
            (site.failed, "failed"),
        ];
        said.extend(
            faults
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}")),
        );
        format!("{}: {}", site.name, said.join(", "))
    };
    report.sites.iter().map(line).collect()
}

impl Report for DemoReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Protecting {} at seven sites in {}\n", self.source, self.folder)?;
        for (number, deed) in self.deeds.iter().enumerate() {
            writeln!(out, "{}. {}", number + 1, deed.what)?;
            if let Some(figures) = &deed.figures {
                writeln!(
                    out,
                    "   {} files, {} in {:.1} s ({}/s), {} at or from the sites",
                    figures.files,
                    format::bytes(figures.bytes),
                    figures.seconds,
                    format::bytes(figures.bytes_per_second as u64),
                    format::bytes(figures.bytes_at_sites),
                )?;
            }
            for detail in &deed.details {
                writeln!(out, "   {detail}")?;
            }
            if let Some(code) = deed.exit_code {
                writeln!(out, "   exit code {code}")?;
            }
        }
        let verdict = |held: bool| if held { "held" } else { "NOT HELD" };
        writeln!(
            out,
            "\nTwo sites lost and one lying: the promise is {}.",
            verdict(self.restored_equal)
        )?;
        writeln!(
            out,
            "Four sites lost or lying: told, not guessed: {}.",
            verdict(self.unrecoverable_is_told)
        )
    }
}
