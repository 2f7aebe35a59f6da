//! `exclave key rewrap`: gives those who joined a recipient set what came before them.

use std::io::{self, Write};

use clap::Args;
use exclave_engine::{
    rewrap::{RewrapError, RewrapReport, rewrap},
    snapshot::Depth,
};
use serde::Serialize;

use super::{World, log::Logged};
use crate::{
    agent::refuse_disputed,
    arguments::RestorerArguments,
    error::Trouble,
    exit::Exit,
    format,
    output::Report,
    progress::Shown,
    reader::{Reader, ReaderArguments},
};

/// `key rewrap`.
#[derive(Debug, Args)]
#[command(after_help = "\
Run keys are opened with --identity and wrapped for the recipients that the newest charter names. No shard is touched, and
nothing is taken back: what an identity that left the set could open, it still can, and the report counts it.")]
pub struct Rewrap {
    #[command(flatten)]
    restorer: RestorerArguments,
    /// Show what would be wrapped; write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reader: ReaderArguments,
}

/// Wraps the keys of all runs that snapshots need.
pub fn run(arguments: &Rewrap, world: &mut World) -> Result<Exit, Trouble> {
    let reader = Reader::open(&arguments.reader, world)?;
    refuse_disputed(&reader.archive)?;
    let restorer = arguments.restorer.open(arguments.reader.passphrases(), world)?;
    let snapshots = reader.snapshots(Depth::All)?;
    let surroundings = &reader.edge.surroundings;
    let shown = Shown::begin(&world.output, &surroundings.progress, "wrapping");
    let report = rewrap(&snapshots, &restorer, arguments.dry_run, surroundings);
    drop(shown);
    let report = report.map_err(failed)?;
    let passed_over = snapshots.passed_over().len();
    let rewrapped = Rewrapped::of(report, passed_over, arguments.dry_run);
    world.output.report(&rewrapped)?;
    Ok(rewrapped.exit().and(reader.exit()).and(reader.poisoned(world)))
}

fn failed(error: RewrapError) -> Trouble {
    let what = "run keys were not wrapped anew";
    match &error {
        RewrapError::NotARestorer { .. } => Trouble::new(Exit::Refused, what)
            .hint("name the key in the charter as [[member]] with the role restorer, and publish that"),
        RewrapError::Interrupted(_) => {
            Trouble::new(Exit::Interrupted, what).hint("run it again; it goes on from there")
        }
        RewrapError::Charter(_) | RewrapError::Wrap(_) | RewrapError::Sign(_) | RewrapError::Entropy(_) => {
            Trouble::failed(what)
        }
    }
    .source(error)
}

/// What became of the runs.
#[derive(Serialize)]
struct Rewrapped {
    dry_run: bool,
    runs: usize,
    wrapped: usize,
    current: usize,
    unopened: Vec<String>,
    /// Runs whose new envelope lies at too few sites.
    short: Vec<String>,
    /// Identities outside of the sets that earlier envelopes open for.
    left_open: Vec<LeftOpen>,
    snapshots_passed_over: usize,
    log: Option<Logged>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct LeftOpen {
    recipient: String,
    runs: usize,
}

impl Rewrapped {
    fn of(report: RewrapReport, snapshots_passed_over: usize, dry_run: bool) -> Self {
        let mut warnings: Vec<String> = report.troubles.iter().map(ToString::to_string).collect();
        warnings.sort();
        warnings.dedup();
        Self {
            dry_run,
            runs: report.runs,
            wrapped: report.wrapped,
            current: report.current,
            unopened: report.unopened.iter().map(|(_, error)| error.to_string()).collect(),
            short: report.short.iter().map(|run| run.to_hex()).collect(),
            left_open: report
                .left_open
                .iter()
                .map(|(recipient, runs)| LeftOpen {
                    recipient: recipient.to_hex(),
                    runs: *runs,
                })
                .collect(),
            snapshots_passed_over,
            log: report.log.as_ref().map(Logged::of),
            warnings,
        }
    }

    fn exit(&self) -> Exit {
        let clean = self.unopened.is_empty() && self.short.is_empty() && self.snapshots_passed_over == 0;
        if clean { Exit::Done } else { Exit::Findings }
    }
}

impl Report for Rewrapped {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let word = if self.dry_run { "would be wrapped" } else { "wrapped" };
        writeln!(
            out,
            "{}: {} {word} for the present recipients, {} were already",
            format::count(self.runs as u64, "run"),
            self.wrapped,
            self.current
        )?;
        for warning in self.warnings.iter().chain(&self.unopened) {
            writeln!(out, "Warning: {}", format::plain(warning))?;
        }
        for run in &self.short {
            writeln!(
                out,
                "Warning: the new envelope of run {run} lies at too few sites; run it again when more answer"
            )?;
        }
        if let Some(why) = self.log.as_ref().and_then(|log| log.not_yet.as_ref()) {
            writeln!(out, "Warning: the new envelopes are in no log: {}", format::plain(why))?;
        }
        if self.snapshots_passed_over > 0 {
            let passed = format::count(self.snapshots_passed_over as u64, "snapshot");
            writeln!(
                out,
                "Warning: {passed} can't be opened; their runs were left as they are"
            )?;
        }
        for open in &self.left_open {
            let runs = format::count(open.runs as u64, "run");
            writeln!(
                out,
                "{} is no recipient now, and still opens {runs}, for ever",
                open.recipient
            )?;
        }
        Ok(())
    }
}
