//! `exclave collect plan`: which snapshots the charter keeps, and what a collection would let go. Reads only; no verb of
//! this program deletes anything yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use exclave_engine::{
    Archive,
    audit::report::verify_report,
    collect::{self, CollectPlan, DatasetPlan, Memory, PlannedSnapshot},
};
use exclave_model::{
    Anchor, LiveSet, RecordHash,
    report::{AuditMode, REPORT_BYTES_MAX, Verdict},
};
use exclave_plan::collect::retain::Reason;
use serde::{Deserialize, Serialize};

use super::{World, audit::PublicArguments, hold::Held};
use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
    private_file, surroundings,
};

/// `collect`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show which snapshots stay, by which rule, and which would go; changes nothing and needs no key
    Plan(Box<Arguments>),
}

/// `collect plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
What a class keeps stands in the charter ([[retention]] in a draft of `exclave charter new`); a class without rules keeps
everything. A snapshot is as old as the time since it was first seen: --memory remembers that, and without it everything
is new and stays. Run it regularly, from one machine.
Example: exclave collect plan --memory /var/lib/exclave/receipts.json --report last-audit.json

Exit codes: 0 a plan; 3 something is in the way of any collection.")]
pub struct Arguments {
    /// Remember in FILE when each snapshot was first seen; it is made when it is not there
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// A signed audit report that found everything whole: what it names counts as verified. May be repeated
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    #[command(flatten)]
    public: PublicArguments,
}

/// Longest memory that is read: some hundred bytes for each of 300,000 records.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// First line of a memory.
const FORMAT: &str = "exclave receipts v1";

/// What a reaper remembers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    format: String,
    archive: Anchor,
    /// Record and Unix seconds.
    seen: BTreeMap<RecordHash, i64>,
}

/// Runs it.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    let Command::Plan(arguments) = command;
    surroundings::self_tests()?;
    let (edge, archive, _) = arguments.public.open(world)?;
    let memory = Memory {
        receipts: arguments
            .memory
            .as_deref()
            .map(|path| recall(path, &archive))
            .transpose()?
            .unwrap_or_default(),
        verified: verified(&arguments.report, &archive)?,
    };
    let plan = collect::plan(&archive, &memory, &edge.surroundings)
        .because(|| Trouble::failed(format!("archive {} can't be read", archive.anchor)))?;
    if let Some(path) = &arguments.memory {
        remember(path, &archive, memory.receipts, &plan)?;
    }
    let exit = if plan.obstacles.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    };
    world.output.report(&Told::of(&plan, &archive))?;
    Ok(exit)
}

fn recall(path: &Path, archive: &Archive) -> Result<BTreeMap<RecordHash, i64>, Trouble> {
    if path
        .symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        return Ok(BTreeMap::new());
    }
    let bytes = private_file::read_public(path, MEMORY_BYTES_MAX, "memory")?;
    let wrong = || Trouble::usage(format!("{} is no memory of receipts", path.display()));
    let remembered: Remembered = serde_json::from_slice(&bytes).because(wrong)?;
    match (remembered.format == FORMAT, remembered.archive == archive.anchor) {
        (true, true) => Ok(remembered.seen),
        (false, _) => Err(wrong()),
        (true, false) => Err(Trouble::usage(format!("{} is another archive's", path.display()))
            .hint("each archive has a memory of its own")),
    }
}

/// Writes down what is new. What no site shows now is still remembered: a site may show it again.
fn remember(
    path: &Path,
    archive: &Archive,
    mut seen: BTreeMap<RecordHash, i64>,
    plan: &CollectPlan,
) -> Result<(), Trouble> {
    for (record, at) in &plan.receipts {
        let known = seen.entry(*record).or_insert(*at);
        *known = (*known).min(*at);
    }
    let remembered = Remembered {
        format: FORMAT.to_owned(),
        archive: archive.anchor,
        seen,
    };
    let text = serde_json::to_vec(&remembered).because(|| Trouble::failed("the memory can't be written down"))?;
    private_file::replace(path, text, "memory")
}

/// Heads that signed reports found whole. Each report is verified against the charters as they are now.
fn verified(reports: &[PathBuf], archive: &Archive) -> Result<BTreeSet<RecordHash>, Trouble> {
    let mut verified = BTreeSet::new();
    for path in reports {
        let bytes = private_file::read_public(path, REPORT_BYTES_MAX, "report")?;
        let report = verify_report(&bytes, Some(archive.anchor), Some(&archive.charters), false)
            .because(|| Trouble::new(Exit::Refused, format!("{} can't be believed", path.display())))?
            .report;
        if report.verdict != Verdict::Whole || report.audit.mode == AuditMode::Heads || report.audit.interrupted {
            return Err(
                Trouble::usage(format!("{} does not say that everything was whole", path.display()))
                    .hint("only an audit that looked at shards and found nothing amiss verifies snapshots"),
            );
        }
        verified.extend(report.heads.iter().map(|head| head.hash));
    }
    Ok(verified)
}

/// The plan, as it is printed.
#[derive(Serialize)]
struct Told {
    /// Why nothing may be collected now.
    obstacles: Vec<String>,
    holds: Vec<Held>,
    datasets: Vec<Dataset>,
    stays: usize,
    goes: usize,
}

#[derive(Serialize)]
struct Dataset {
    dataset: String,
    class: Option<u32>,
    has_rules: bool,
    snapshots: Vec<Snapshot>,
    /// What would be deleted.
    stripes: u64,
    bytes_max: u64,
}

#[derive(Serialize)]
struct Snapshot {
    snapshot: String,
    writer: String,
    seq: u64,
    received: String,
    goes: bool,
    kept_by: Vec<&'static str>,
}

impl Told {
    fn of(plan: &CollectPlan, archive: &Archive) -> Self {
        let datasets: Vec<Dataset> = plan.datasets.iter().map(Dataset::of).collect();
        let all = || datasets.iter().flat_map(|dataset| &dataset.snapshots);
        let goes = all().filter(|snapshot| snapshot.goes).count();
        Self {
            obstacles: plan.obstacles.iter().map(ToString::to_string).collect(),
            holds: plan
                .holds
                .iter()
                .map(|(hash, hold)| Held::of(*hash, hold, archive))
                .collect(),
            stays: all().count() - goes,
            goes,
            datasets,
        }
    }
}

impl Dataset {
    fn of(plan: &DatasetPlan) -> Self {
        Self {
            dataset: plan.dataset.to_hex(),
            class: plan.class,
            has_rules: plan.rules.is_some(),
            snapshots: plan.snapshots.iter().map(Snapshot::of).collect(),
            stripes: plan.stripes.values().map(LiveSet::len).sum(),
            bytes_max: plan.bytes_max,
        }
    }
}

impl Snapshot {
    fn of(planned: &PlannedSnapshot) -> Self {
        Self {
            snapshot: planned.head.to_hex(),
            writer: planned.writer.to_hex(),
            seq: planned.seq,
            received: format::rfc3339(planned.received),
            goes: planned.kept.is_empty(),
            kept_by: planned.kept.iter().copied().map(Reason::as_str).collect(),
        }
    }
}

/// The first digits, as other commands show them.
fn short(hex: &str) -> String {
    hex.chars().take(8).collect()
}

impl Report for Told {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for dataset in &self.datasets {
            let class = dataset
                .class
                .map_or("of no one class".to_owned(), |class| format!("class {class}"));
            writeln!(out, "Dataset {} ({class})", short(&dataset.dataset))?;
            match (dataset.class, dataset.has_rules) {
                (None, _) => writeln!(out, "  its envelopes don't agree on a class: everything stays")?,
                (Some(_), false) => writeln!(out, "  the charter has no rules for it: everything stays")?,
                (Some(_), true) => {}
            }
            for snapshot in &dataset.snapshots {
                let fate = match snapshot.goes {
                    true => "goes: no rule keeps it".to_owned(),
                    false => format!("stays: {}", snapshot.kept_by.join(", ")),
                };
                writeln!(
                    out,
                    "  {}  received {}  {fate}",
                    short(&snapshot.snapshot),
                    snapshot.received
                )?;
            }
            if dataset.stripes > 0 {
                let stripes = format::count(dataset.stripes, "stripe");
                writeln!(
                    out,
                    "  {stripes} would go, at most {}",
                    format::bytes(dataset.bytes_max)
                )?;
            }
        }
        self.holds.iter().try_for_each(|held| held.line(out))?;
        for obstacle in &self.obstacles {
            writeln!(out, "Nothing may be collected now: {obstacle}.")?;
        }
        let stays = format::count(self.stays as u64, "snapshot");
        writeln!(out, "{stays} would stay, {} would go. Nothing was changed.", self.goes)
    }
}
