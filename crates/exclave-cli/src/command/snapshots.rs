//! `exclave snapshots`: what can be restored.

use clap::Args;
use exclave_engine::{
    snapshot::{Depth, PassedOver, Snapshot},
    survey::Grade,
};
use exclave_model::SnapshotState;
use exclave_plan::heads::Finding;
use serde::Serialize;

use super::World;
use crate::{
    error::{Trouble, chain},
    exit::Exit,
    format,
    output::{Form, figures, words},
    reader::{Reader, ReaderArguments},
    watched,
};

/// `snapshots`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only those of this dataset
    #[arg(value_name = "DATASET")]
    dataset: Option<String>,
    /// Only the newest of each dataset
    #[arg(long)]
    newest: bool,
    #[command(flatten)]
    reader: ReaderArguments,
}

/// Lists them, the newest first; in the order of the directory when there is one.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let reader = Reader::open(&arguments.reader, world)?;
    let depth = if arguments.newest { Depth::Newest } else { Depth::All };
    let snapshots = reader.snapshots(depth)?;
    let is_wanted = |snapshot: &&Snapshot| {
        let asked = arguments.dataset.as_deref();
        asked.is_none_or(|name| snapshot.info.name == name || snapshot.info.dataset.to_hex() == name)
    };
    let directory = reader.directory();
    let mut listed: Vec<Listed> = snapshots.list().iter().filter(is_wanted).map(Listed::of).collect();
    if let Some(directory) = &directory {
        // As they come back: by tier, and what others need before those.
        listed.sort_by_key(|snapshot| directory.place(&snapshot.dataset_id));
        for snapshot in &mut listed {
            snapshot.tier = directory.dataset(&snapshot.dataset_id).map(|entry| entry.tier);
        }
    }
    if listed.is_empty() && !snapshots.list().is_empty() {
        let name = arguments.dataset.as_deref().unwrap_or_default();
        return Err(Trouble::usage(format!("no snapshot of {name:?}")).hint("`exclave snapshots` lists all"));
    }
    let mut columns = vec![
        words("SNAPSHOT"),
        words("COMPLETE"),
        words("DATASET"),
        words("LABEL"),
        figures("FILES"),
        figures("BYTES"),
        words("STATE"),
        words("FRESHNESS"),
    ];
    if directory.is_some() {
        columns.push(figures("TIER"));
    }
    world.output.table(&columns, &listed, |snapshot| {
        let mut cells = vec![
            snapshot.snapshot.chars().take(8).collect(),
            format::local(snapshot.finished_unix),
            format::plain(&snapshot.dataset),
            if snapshot.label.is_empty() {
                "-".to_owned()
            } else {
                format::plain(&snapshot.label)
            },
            snapshot.files.to_string(),
            format::bytes(snapshot.bytes),
            state(snapshot),
            format!(
                "{} ({} answered, {} needed)",
                snapshot.freshness, snapshot.sites_answered, snapshot.sites_needed
            ),
        ];
        if directory.is_some() {
            cells.push(snapshot.tier.map_or_else(|| "-".to_owned(), |tier| tier.to_string()));
        }
        cells
    })?;
    if world.output.form() == Form::Text {
        for passed in snapshots.passed_over() {
            world.output.note(format!("Warning: {}", passed_over(passed)));
        }
    }
    let stale = listed.iter().any(|snapshot| snapshot.grade == Grade::F3);
    let clean = snapshots.passed_over().is_empty() && reader.is_undisturbed();
    let exit = if stale { Exit::Stale } else { Exit::Done };
    let exit = exit.and(reader.exit()).and(reader.poisoned(world));
    Ok(exit.and(if clean { Exit::Done } else { Exit::Findings }))
}

/// How safe a snapshot was, and what its writer found strange.
fn state(snapshot: &Listed) -> String {
    let mut said = vec![snapshot.state.to_owned()];
    if snapshot.debt_shards > 0 {
        said.push(format!("{} owed", format::count(snapshot.debt_shards, "shard")));
    }
    if !snapshot.tripwires.is_empty() {
        said.push(format!("TRIPWIRES {}", snapshot.tripwires.join(" ")));
    }
    said.join(", ")
}

/// A head that was not opened, in words.
pub fn passed_over(passed: &PassedOver) -> String {
    let text = format!("snapshot {} can't be opened: {}", passed.head, chain(&passed.reason));
    format::plain(&text)
}

/// What chains of heads give away, in words.
pub fn finding(finding: &Finding) -> String {
    match finding {
        Finding::Fork { writer, seq, heads, .. } => {
            let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
            format!(
                "writer {writer} signed {} different heads for place {seq} of its chain ({}): a clone, or a stolen key",
                heads.len(),
                heads.join(", ")
            )
        }
        Finding::Gap {
            writer, first, last, ..
        } if first == last => {
            format!("head {first} of writer {writer} is shown by no site")
        }
        Finding::Gap {
            writer, first, last, ..
        } => {
            format!("heads {first} to {last} of writer {writer} are shown by no site")
        }
        Finding::ForeignPrevious { head, previous } => {
            format!("head {head} names {previous} as its predecessor, which is another chain's or not the one before")
        }
        Finding::MissingTip { head, tip } => format!("head {head} has seen head {tip}, which no site shows now"),
    }
}

/// A snapshot in the list.
#[derive(Serialize)]
struct Listed {
    snapshot: String,
    dataset: String,
    dataset_id: String,
    label: String,
    started: String,
    finished: String,
    #[serde(skip)]
    finished_unix: i64,
    source: &'static str,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    skipped: u64,
    excluded: u64,
    state: &'static str,
    verified_min: u8,
    debt_shards: u64,
    tripwires: Vec<&'static str>,
    writer: String,
    seq: u64,
    head_sites: Vec<String>,
    freshness: &'static str,
    freshness_says: String,
    sites_answered: usize,
    sites_needed: usize,
    /// When its dataset comes back, by the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<u8>,
    #[serde(skip)]
    grade: Grade,
}

impl Listed {
    fn of(snapshot: &Snapshot) -> Self {
        let info = &snapshot.info;
        Self {
            snapshot: info.head.to_hex(),
            dataset: info.name.clone(),
            dataset_id: info.dataset.to_hex(),
            label: info.label.clone(),
            started: format::rfc3339(info.started),
            finished: format::rfc3339(info.finished),
            finished_unix: info.finished,
            source: match info.source {
                exclave_model::SourceKind::Tree => "tree",
                exclave_model::SourceKind::File => "file",
                exclave_model::SourceKind::Image => "image",
                exclave_model::SourceKind::Command => "command",
            },
            files: info.counts.files,
            directories: info.counts.directories,
            others: info.counts.others,
            bytes: info.counts.bytes,
            skipped: info.counts.skipped,
            excluded: info.counts.excluded,
            state: match info.state {
                SnapshotState::Durable => "durable",
                SnapshotState::Provisional => "provisional",
            },
            verified_min: info.verified_min,
            debt_shards: info.debt,
            tripwires: info.tripwires.iter().map(|wire| wire.as_str()).collect(),
            writer: info.writer.to_hex(),
            seq: info.seq,
            head_sites: info.sites.clone(),
            freshness: snapshot.freshness.grade.as_str(),
            freshness_says: watched::says(&snapshot.freshness),
            sites_answered: snapshot.freshness.answered,
            sites_needed: snapshot.freshness.needed,
            tier: None,
            grade: snapshot.freshness.grade,
        }
    }
}
