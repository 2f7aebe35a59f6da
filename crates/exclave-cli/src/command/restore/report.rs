//! What a restore did, or would do, for people and programs.

use std::{
    io::{self, Write},
    path::Path,
};

use exclave_engine::{
    fetch::SiteTally,
    restore::{Outcome, RestorePlan, RestoreReport, Written},
};
use serde::Serialize;

use super::rates::{self, Rates};
use crate::{
    error::chain,
    exit::Exit,
    format,
    output::{Report, aligned, figures, words},
    watched,
};

/// Lost or refused entries that the text shows.
const SHOWN: usize = 20;

/// What each site gave.
#[derive(Serialize)]
struct SiteShare {
    site: String,
    bytes: u64,
    shards: u64,
    missing: u64,
    denied: u64,
    timeouts: u64,
    corrupt: u64,
    failed: u64,
}

impl SiteShare {
    fn of(tally: &SiteTally) -> Self {
        Self {
            site: tally.name.clone(),
            bytes: tally.bytes,
            shards: tally.shards,
            missing: tally.missing,
            denied: tally.denied,
            timeouts: tally.timeouts,
            corrupt: tally.corrupt,
            failed: tally.failed,
        }
    }

    fn is_good(&self) -> bool {
        self.missing + self.denied + self.timeouts + self.corrupt + self.failed == 0
    }
}

#[derive(Serialize)]
struct Refused {
    path: String,
    why: String,
}

#[derive(Serialize)]
struct AsNew {
    snapshot: String,
    finished: String,
    #[serde(skip)]
    finished_unix: i64,
}

/// What a restore did.
#[derive(Serialize)]
pub(super) struct Restored {
    snapshot: String,
    dataset: String,
    label: String,
    finished: String,
    #[serde(skip)]
    finished_unix: i64,
    state: &'static str,
    /// Least number of verified shards of any stripe when it was written.
    verified_min: u8,
    #[serde(skip)]
    is_provisional: bool,
    stale: Option<String>,
    /// F1, F2 or F3, what witnesses say, and what isn't proven.
    freshness: &'static str,
    freshness_says: String,
    #[serde(skip)]
    freshness_line: Option<String>,
    /// Snapshots of the dataset that are as new as this one.
    as_new: Vec<AsNew>,
    /// Places of a chain for which several heads were signed.
    forks: usize,
    target: Option<String>,
    outcome: &'static str,
    entries: u64,
    files: u64,
    bytes: u64,
    bytes_fetched: u64,
    seconds: f64,
    lost_count: u64,
    lost: Vec<Refused>,
    /// Stretches of the manifest that can't be read: what they name is unknown.
    manifest_gaps: u64,
    refused_count: u64,
    refused: Vec<Refused>,
    not_found: Vec<String>,
    /// Left out on purpose: owners, special bits, special files, attributes.
    left_out: LeftOut,
    sites: Vec<SiteShare>,
    #[serde(skip)]
    ended: Outcome,
}

#[derive(Serialize, Default)]
struct LeftOut {
    owners: u64,
    special_modes: u64,
    special_files: u64,
    xattrs: u64,
}

impl Restored {
    pub(super) fn of(
        report: RestoreReport,
        target: Option<&Path>,
        stale: Option<String>,
        forks: usize,
        (seconds, now): (f64, i64),
    ) -> Self {
        let ended = report.outcome();
        let (refused_count, problems, left_out) = match &report.written {
            Written::Tree(summary) => (
                summary.problems_count,
                summary.problems.as_slice(),
                LeftOut {
                    owners: summary.owners_skipped,
                    special_modes: summary.special_modes_skipped,
                    special_files: summary.specials_skipped,
                    xattrs: summary.xattrs_skipped,
                },
            ),
            Written::Tar(summary) => (
                summary.problems_count,
                summary.problems.as_slice(),
                LeftOut {
                    special_files: summary.specials_skipped,
                    xattrs: summary.xattrs_skipped,
                    ..LeftOut::default()
                },
            ),
            Written::Raw | Written::Nothing => (0, &[][..], LeftOut::default()),
        };
        let refused = problems.iter().map(|problem| Refused {
            path: problem.path.to_string(),
            why: problem.refusal.to_string(),
        });
        let lost = report.lost.listed.iter().map(|lost| Refused {
            path: lost.path.to_string(),
            why: chain(&lost.why),
        });
        Self {
            snapshot: report.snapshot.head.to_hex(),
            dataset: report.snapshot.name.clone(),
            label: report.snapshot.label.clone(),
            finished: format::rfc3339(report.snapshot.finished),
            finished_unix: report.snapshot.finished,
            state: match report.snapshot.state {
                exclave_model::SnapshotState::Durable => "durable",
                exclave_model::SnapshotState::Provisional => "provisional",
            },
            verified_min: report.snapshot.verified_min,
            is_provisional: report.snapshot.state == exclave_model::SnapshotState::Provisional,
            stale,
            freshness: report.freshness.grade.as_str(),
            freshness_says: watched::says(&report.freshness),
            freshness_line: watched::line(&report.freshness, now),
            as_new: report
                .rivals
                .iter()
                .map(|rival| AsNew {
                    snapshot: rival.head.to_hex(),
                    finished: format::rfc3339(rival.finished),
                    finished_unix: rival.finished,
                })
                .collect(),
            forks,
            target: target.map(|path| path.display().to_string()),
            outcome: match ended {
                Outcome::Complete => "complete",
                Outcome::Findings => "findings",
                Outcome::Damaged => "damaged",
            },
            entries: report.entries,
            files: report.files,
            bytes: report.bytes,
            bytes_fetched: report.bytes_fetched(),
            seconds,
            lost_count: report.lost.count,
            lost: lost.collect(),
            manifest_gaps: report.lost.gaps_count,
            refused_count,
            refused: refused.collect(),
            not_found: report.not_found.iter().map(ToString::to_string).collect(),
            left_out,
            sites: report.sites.iter().map(SiteShare::of).collect(),
            ended,
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self.ended {
            Outcome::Complete if self.forks == 0 => Exit::Done,
            Outcome::Complete | Outcome::Findings => Exit::Findings,
            Outcome::Damaged => Exit::Unrecoverable,
        }
    }
}

impl Report for Restored {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let short = self.snapshot.get(..8).unwrap_or(&self.snapshot);
        let what = if self.target.is_some() { "Restored" } else { "Checked" };
        let place = match self.target.as_deref() {
            Some("-") => " to standard output".to_owned(),
            Some(target) => format!(" to {target}"),
            None => String::new(),
        };
        let (files, bytes) = (format::count(self.files, "file"), format::bytes(self.bytes));
        writeln!(
            out,
            "{what} {files}, {bytes} of {}{place}",
            format::plain(&self.dataset)
        )?;
        let time = format::span(std::time::Duration::from_secs_f64(self.seconds.max(0.0)));
        writeln!(
            out,
            "from snapshot {short}, complete {}; {} fetched in {time}",
            format::local(self.finished_unix),
            format::bytes(self.bytes_fetched)
        )?;
        if let Some(line) = &self.freshness_line {
            writeln!(out, "{line}")?;
        }
        if self.is_provisional {
            writeln!(
                out,
                "PROVISIONAL: when it was written, some of its stripes had only {} shards, fewer than the policy wants",
                self.verified_min
            )?;
        }
        for other in &self.as_new {
            writeln!(
                out,
                "As new: snapshot {}, complete {}, by a writer that had not seen this one",
                other.snapshot.get(..8).unwrap_or(&other.snapshot),
                format::local(other.finished_unix)
            )?;
        }
        self.text_findings(out)?;
        for site in self.sites.iter().filter(|site| !site.is_good()) {
            writeln!(
                out,
                "Site {}: {} missing, {} denied, {} timed out, {} corrupt, {} failed",
                site.site, site.missing, site.denied, site.timeouts, site.corrupt, site.failed
            )?;
        }
        Ok(())
    }
}

impl Restored {
    fn text_findings(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.lost_count > 0 {
            writeln!(
                out,
                "LOST: the data of {} can't be had from these sites",
                format::entries(self.lost_count)
            )?;
            list(out, &self.lost, self.lost_count)?;
        }
        if self.manifest_gaps > 0 {
            let gaps = format::count(self.manifest_gaps, "stretch").replace("stretchs", "stretches");
            writeln!(
                out,
                "LOST: {gaps} of the list of files can't be read; what stood there is unknown"
            )?;
        }
        if self.refused_count > 0 {
            writeln!(out, "Not restored: {}", format::entries(self.refused_count))?;
            list(out, &self.refused, self.refused_count)?;
        }
        for path in &self.not_found {
            writeln!(out, "Not in the snapshot: {path}")?;
        }
        let left = &self.left_out;
        for (count, what) in [
            (
                left.special_modes,
                "setuid, setgid or sticky bits of entries (--special-modes restores them)",
            ),
            (
                left.special_files,
                "fifos, sockets or devices (--special-files makes them)",
            ),
            (left.owners, "owners of entries (only root restores them)"),
            (left.xattrs, "extended attributes"),
        ] {
            if count > 0 {
                writeln!(out, "Left out: {count} {what}")?;
            }
        }
        Ok(())
    }
}

fn list(out: &mut dyn Write, entries: &[Refused], count: u64) -> io::Result<()> {
    for entry in entries.iter().take(SHOWN) {
        writeln!(out, "  {}: {}", entry.path, format::plain(&entry.why))?;
    }
    if count > SHOWN as u64 {
        writeln!(out, "  .. and {} more", count - SHOWN as u64)?;
    }
    Ok(())
}

/// What would be fetched.
#[derive(Serialize)]
pub(super) struct Planned {
    snapshot: String,
    dataset: String,
    files: u64,
    bytes: u64,
    stripes: u64,
    stripes_short: u64,
    stripes_unreadable: u64,
    manifest_gaps: u64,
    /// At the sites' rates, measured by one shard each; none when one that is needed gave none.
    seconds: Option<u64>,
    sites: Vec<PlannedSite>,
}

#[derive(Serialize)]
struct PlannedSite {
    site: String,
    shards: u64,
    bytes: u64,
    bytes_per_second: Option<u64>,
}

impl Planned {
    pub(super) fn of(plan: RestorePlan, rates: &Rates) -> Self {
        let seconds = rates::duration(&plan, rates).map(|duration| duration.as_secs());
        let sites = plan.sites.into_iter().zip(rates).map(|(site, rate)| PlannedSite {
            site: site.name,
            shards: site.shards,
            bytes: site.bytes,
            bytes_per_second: *rate,
        });
        Self {
            snapshot: plan.snapshot.head.to_hex(),
            dataset: plan.snapshot.name,
            files: plan.files,
            bytes: plan.bytes,
            stripes: plan.stripes,
            stripes_short: plan.short,
            stripes_unreadable: plan.unreadable,
            manifest_gaps: plan.gaps,
            seconds,
            sites: sites.collect(),
        }
    }

    pub(super) fn exit(&self) -> Exit {
        if self.stripes_short + self.stripes_unreadable + self.manifest_gaps == 0 {
            Exit::Done
        } else {
            Exit::Findings
        }
    }
}

impl Report for Planned {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "Would restore {}, {} of {} from snapshot {}",
            format::count(self.files, "file"),
            format::bytes(self.bytes),
            format::plain(&self.dataset),
            self.snapshot.get(..8).unwrap_or(&self.snapshot)
        )?;
        let rows = self.sites.iter().map(|site| {
            let rate = match (site.bytes_per_second, site.shards) {
                (Some(rate), _) => format!("{}/s", format::bytes(rate)),
                (None, 0) => "-".to_owned(),
                (None, _) => "no sample".to_owned(),
            };
            vec![
                site.site.clone(),
                site.shards.to_string(),
                format::bytes(site.bytes),
                rate,
            ]
        });
        let columns = [words("SITE"), figures("SHARDS"), figures("BYTES"), figures("RATE NOW")];
        write!(out, "{}", aligned(&columns, rows))?;
        if let Some(seconds) = self.seconds {
            let time = format::span(std::time::Duration::from_secs(seconds));
            writeln!(out, "At these rates, all sites at once: {time}")?;
        }
        if self.stripes_short > 0 {
            let short = format::count(self.stripes_short, "stripe");
            writeln!(
                out,
                "Warning: {short} of {} may have too few shards at these sites",
                self.stripes
            )?;
        }
        if self.stripes_unreadable > 0 {
            let unreadable = format::count(self.stripes_unreadable, "stripe");
            writeln!(out, "Warning: {unreadable} have no ledger or no key")?;
        }
        Ok(())
    }
}
