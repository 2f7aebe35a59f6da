//! `exclave repair`: shards that are missing or wrong are rebuilt and put back. Needs no key; needs stores that may be
//! written to.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use clap::Args;
use exclave_engine::{
    audit::{AuditRequest, Mode},
    records::RecordTally,
    repair::{RepairReport, repair},
    survey::survey,
};
use exclave_plan::audit::Nonce;
use serde::Serialize;

use super::{
    World,
    audit::{PublicArguments, datasets},
};
use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
    progress::Shown,
    surroundings,
};

/// `repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
It audits first, as `exclave audit --mode full` does: every shard is read. Then shards that are missing or wrong are rebuilt
from any sufficient number of others and compared with the ledger before they are put; nothing is deleted. An ally's machine
can do it: it takes the anchor, the stores, and credentials that may put.
Example: exclave repair --archive HEX --site file:///mnt/a --site file:///mnt/b --dry-run

Exit codes: 0 whole, or whole again; 3 something is left; 4 something can't be restored; 5 two truths were signed.")]
pub struct Arguments {
    /// Only these datasets, by the first digits of their opaque ids; all without
    #[arg(value_name = "DATASET")]
    datasets: Vec<String>,
    /// Show what would be mended; write nothing
    #[arg(long, visible_alias = "plan")]
    dry_run: bool,
    #[command(flatten)]
    public: PublicArguments,
}

/// Repairs.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let (edge, archive, troubles) = arguments.public.open(world)?;
    crate::agent::refuse_disputed(&archive)?;
    let survey = survey(&archive, &edge.surroundings)
        .because(|| Trouble::failed(format!("archive {} can't be read", archive.anchor)))?;
    for trouble in &survey.troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    let request = AuditRequest {
        mode: Mode::Full,
        datasets: datasets(&arguments.datasets, &survey.heads.datasets())?,
        // Nothing is sampled.
        nonce: Nonce::from_bytes([0; 32]),
        deadline: arguments.public.deadline(),
        forecast_only: false,
        troubles: AuditRequest::troubles_of(&troubles),
    };
    let shown = Shown::begin(&world.output, &edge.surroundings.progress, "repairing");
    let report = repair(&archive, &survey, &request, arguments.dry_run, &edge.surroundings);
    drop(shown);
    let repaired = Repaired::of(report, arguments.dry_run);
    world.output.report(&repaired)?;
    Ok(repaired.exit())
}

/// What was mended, and what is left.
#[derive(Serialize)]
struct Repaired {
    dry_run: bool,
    /// Stripes with shards that are missing or wrong.
    damaged_stripes: u64,
    /// Those shards.
    damaged_shards: u64,
    /// Further losses that the most endangered one could bear before; below 0 it can't be restored.
    least_margin: Option<i16>,
    /// Shards at sites that were not given, don't answer or deny them: nobody knows whether these are whole.
    unproven_shards: u64,
    /// Stripes of which too little is left for certain.
    unrecoverable_stripes: u64,
    mended: Vec<Mended>,
    mended_shards: u64,
    moved_shards: u64,
    displaced_shards: u64,
    /// Small records that were copied to sites that lost them.
    copied_records: usize,
    /// Small records that lie at too few sites still.
    records_short: usize,
    /// Why small records were not looked after.
    records_error: Option<String>,
    /// What sites said when small records were put there.
    warnings: Vec<String>,
    left: Vec<LeftThere>,
    left_shards: u64,
    /// Findings of the audit before; `exclave audit` shows them.
    findings: u64,
    bytes_read: u64,
    interrupted: bool,
}

#[derive(Serialize)]
struct Mended {
    site: String,
    shards: u64,
}

#[derive(Serialize)]
struct LeftThere {
    site: String,
    reason: String,
    shards: u64,
}

/// What sites said, each thing once.
fn warnings(records: &RecordTally) -> Vec<String> {
    let said: BTreeSet<String> = records.troubles.iter().map(ToString::to_string).collect();
    said.into_iter().take(WARNINGS_MAX).collect()
}

/// Shards that no site showed.
fn not_shown(report: &RepairReport) -> u64 {
    report.audit.sites.iter().map(|site| site.shards.not_ok()).sum()
}

/// Warnings that are shown.
const WARNINGS_MAX: usize = 20;

impl Repaired {
    fn of(report: RepairReport, dry_run: bool) -> Self {
        Self {
            dry_run,
            damaged_stripes: report.stripes,
            damaged_shards: report.shards,
            least_margin: report.margin_before,
            // What is missing for certain is damage; the rest of what was not shown is not known.
            unproven_shards: not_shown(&report).saturating_sub(report.shards),
            unrecoverable_stripes: report.audit.stripes_unrecoverable,
            mended_shards: report.mended.values().sum(),
            mended: report
                .mended
                .into_iter()
                .map(|(site, shards)| Mended { site, shards })
                .collect(),
            moved_shards: report.moved,
            displaced_shards: report.displaced,
            copied_records: report.records.as_ref().map_or(0, |records| records.copied),
            records_short: report.records.as_ref().map_or(0, |records| records.short),
            records_error: report.records.as_ref().err().map(ToString::to_string),
            warnings: report.records.as_ref().map_or_else(|_| Vec::new(), warnings),
            left_shards: report.left.values().sum(),
            left: report
                .left
                .into_iter()
                .map(|(left, shards)| LeftThere {
                    site: left.site,
                    reason: left.reason,
                    shards,
                })
                .collect(),
            findings: report.audit.findings.total,
            bytes_read: report.audit.sites.iter().map(|site| site.bytes_read).sum(),
            interrupted: report.interrupted,
        }
    }

    fn exit(&self) -> Exit {
        let left = match (self.unrecoverable_stripes, self.left_shards, self.dry_run) {
            (1.., ..) => Exit::Unrecoverable,
            (0, 1.., _) => Exit::Findings,
            (0, 0, true) if self.damaged_shards > 0 || self.copied_records > 0 => Exit::Findings,
            _ if self.unproven_shards > 0 => Exit::Findings,
            _ if self.records_error.is_some() || self.records_short > 0 || !self.warnings.is_empty() => Exit::Findings,
            _ => Exit::Done,
        };
        match self.interrupted {
            true => left.and(Exit::Interrupted),
            false => left,
        }
    }
}

impl Report for Repaired {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.unproven_shards > 0 {
            let shards = format::count(self.unproven_shards, "shard");
            writeln!(
                out,
                "{shards} at sites that were not given, don't answer or deny them: not known, and not mended."
            )?;
        }
        if self.damaged_shards == 0 {
            let whole = match self.unproven_shards {
                0 => "Every shard is there and right; nothing to mend.",
                _ => "Every other shard is there and right.",
            };
            writeln!(out, "{whole}")?;
        } else {
            writeln!(
                out,
                "{} of {} are missing or wrong.",
                format::count(self.damaged_shards, "shard"),
                format::count(self.damaged_stripes, "stripe")
            )?;
        }
        match self.least_margin {
            Some(margin @ 0..) => writeln!(
                out,
                "The most endangered stripe could bear {} before.",
                format::count(margin.unsigned_abs().into(), "further loss").replace("losss", "losses")
            )?,
            Some(_) => writeln!(
                out,
                "Of the most endangered stripe fewer shards were shown than a restore needs."
            )?,
            None => {}
        }
        if self.unrecoverable_stripes > 0 {
            let stripes = format::count(self.unrecoverable_stripes, "stripe");
            writeln!(out, "{stripes} can't be restored: too many shards are gone.")?;
        }
        for mended in &self.mended {
            writeln!(
                out,
                "  {}: {} mended",
                mended.site,
                format::count(mended.shards, "shard")
            )?;
        }
        if self.moved_shards > 0 {
            let shards = format::count(self.moved_shards, "shard");
            writeln!(out, "  {shards} of sites that the charter dropped went to others")?;
        }
        if self.displaced_shards > 0 {
            let shards = format::count(self.displaced_shards, "shard");
            writeln!(out, "  {shards} lie beside other bytes, which their store keeps")?;
        }
        if self.copied_records > 0 {
            let copied = match self.copied_records {
                1 => "1 copy".to_owned(),
                copies => format!("{copies} copies"),
            };
            let deed = if self.dry_run { "would be put" } else { "put" };
            writeln!(out, "  {copied} of small records {deed} where sites had lost them")?;
        }
        if self.records_short > 0 {
            let records = format::count(self.records_short as u64, "small record");
            writeln!(out, "  LEFT {records} at fewer sites than must have them")?;
        }
        for warning in &self.warnings {
            writeln!(out, "  {}", format::plain(warning))?;
        }
        if let Some(error) = &self.records_error {
            writeln!(out, "  LEFT small records: {}", format::plain(error))?;
        }
        for left in &self.left {
            writeln!(
                out,
                "  LEFT {}: {}: {}",
                left.site,
                format::count(left.shards, "shard"),
                format::plain(&left.reason)
            )?;
        }
        if self.dry_run && self.damaged_shards > 0 {
            writeln!(out, "Nothing was written; without --dry-run they would be mended.")?;
        }
        if self.interrupted {
            writeln!(out, "Interrupted; run it again, it goes on from there.")?;
        }
        Ok(())
    }
}
