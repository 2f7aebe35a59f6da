//! `exclave ls`, `find` and `diff`: what snapshots hold, entry by entry as it is read, in bounded memory.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    path::PathBuf,
};

use clap::Args;
use exclave_engine::{
    browse::{self, Browsed, Changed, Deep, Difference, FindError},
    restore::RestoreError,
    snapshot::{Depth, Snapshot, Snapshots, Which},
};
use exclave_model::{Entry, EntryKind};
use serde::Serialize;

use super::{World, restore::entry_path};
use crate::{
    error::Trouble,
    exit::Exit,
    format,
    output::Report,
    reader::{Reader, ReaderArguments, SnapshotArguments, choose, staleness},
};

/// Gaps in the list of files that are described; further ones are counted.
const GAPS_SHOWN: usize = 5;

/// `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// The directory or file; the root of the dataset when none is given
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// List everything below it
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    snapshot: SnapshotArguments,
    #[command(flatten)]
    reader: ReaderArguments,
}

/// `find`.
#[derive(Debug, Args)]
pub struct Find {
    /// What to look for, as in .gitignore: '*.tif' anywhere, '/maps/' the directory at the top
    #[arg(value_name = "PATTERN")]
    pattern: String,
    #[command(flatten)]
    snapshot: SnapshotArguments,
    #[command(flatten)]
    reader: ReaderArguments,
}

/// `diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Marks: + added, - removed, M content changed, m mode, owner, time or attributes changed, T type changed")]
pub struct Diff {
    /// The older snapshot, by the beginning of its name; by default the one before TO
    #[arg(value_name = "FROM")]
    from: Option<String>,
    /// The newer snapshot; by default the newest
    #[arg(value_name = "TO")]
    to: Option<String>,
    /// The dataset; may be left out where the archive has one
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    #[command(flatten)]
    reader: ReaderArguments,
}

/// Lists a directory.
pub fn ls(arguments: &Ls, world: &mut World) -> Result<Exit, Trouble> {
    let path = entry_path(&arguments.path)?;
    let deep = if arguments.recursive { Deep::All } else { Deep::Children };
    in_snapshot(
        &arguments.snapshot,
        &arguments.reader,
        world,
        |reader, snapshots, snapshot, each| {
            browse::ls(snapshots, snapshot, &path, deep, &reader.edge.surroundings, each).map_err(unreadable)
        },
    )
}

/// Finds entries.
pub fn find(arguments: &Find, world: &mut World) -> Result<Exit, Trouble> {
    in_snapshot(
        &arguments.snapshot,
        &arguments.reader,
        world,
        |reader, snapshots, snapshot, each| {
            let found = browse::find(snapshots, snapshot, &arguments.pattern, &reader.edge.surroundings, each);
            found.map_err(|error| match error {
                FindError::Pattern(bad) => Trouble::usage("nothing can be looked for").source(bad),
                FindError::Read(error) => unreadable(error),
            })
        },
    )
}

/// Compares two snapshots.
pub fn diff(arguments: &Diff, world: &mut World) -> Result<Exit, Trouble> {
    let reader = Reader::open(&arguments.reader, world)?;
    let snapshots = reader.snapshots(Depth::All)?;
    let head = |prefix: &String| Which::Head {
        prefix: prefix.to_ascii_lowercase(),
    };
    let newest = Which::Newest {
        dataset: arguments.dataset.clone().unwrap_or_default(),
    };
    let to_which = arguments.to.as_ref().map_or(newest, head);
    let after = choose(&snapshots, &to_which)?;
    let before = match &arguments.from {
        Some(prefix) => choose(&snapshots, &head(prefix))?,
        None => previous(&snapshots, after)?,
    };
    let mut failed = None;
    let each = |difference: &Difference| match world.output.item(&Marked::of(difference)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(trouble) => {
            failed = Some(trouble);
            ControlFlow::Break(())
        }
    };
    let browsed = browse::diff(&snapshots, before, after, &reader.edge.surroundings, each).map_err(unreadable)?;
    failed.map_or(Ok(()), Err)?;
    world.output.finish()?;
    let exit = ended(&browsed, world)?.and(reader.exit()).and(reader.poisoned(world));
    Ok(exit.and(freshness(&to_which, after, &snapshots, world)))
}

/// The snapshot of the same dataset before one: the list has the newest first.
fn previous<'s>(snapshots: &'s Snapshots<'_>, after: &Snapshot) -> Result<&'s Snapshot, Trouble> {
    let same = snapshots
        .list()
        .iter()
        .filter(|snapshot| snapshot.info.dataset == after.info.dataset);
    let mut later = same
        .skip_while(|snapshot| snapshot.info.head != after.info.head)
        .skip(1);
    later.next().ok_or_else(|| {
        Trouble::usage(format!(
            "snapshot {} is the first of {}",
            after.info.head,
            format::plain(&after.info.name)
        ))
        .hint("`exclave snapshots` lists what there is")
    })
}

/// Opens the snapshot that is meant and prints entries as they come.
fn in_snapshot(
    snapshot: &SnapshotArguments,
    reader: &ReaderArguments,
    world: &mut World,
    look: impl FnOnce(
        &Reader,
        &Snapshots<'_>,
        &Snapshot,
        &mut dyn FnMut(&Entry) -> ControlFlow<()>,
    ) -> Result<Browsed, Trouble>,
) -> Result<Exit, Trouble> {
    let reader = Reader::open(reader, world)?;
    let snapshots = reader.snapshots(snapshot.depth())?;
    let which = snapshot.which();
    let chosen = choose(&snapshots, &which)?;
    let mut failed = None;
    let mut each = |entry: &Entry| match world.output.item(&Line::of(entry)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(trouble) => {
            failed = Some(trouble);
            ControlFlow::Break(())
        }
    };
    let browsed = look(&reader, &snapshots, chosen, &mut each)?;
    failed.map_or(Ok(()), Err)?;
    world.output.finish()?;
    let exit = ended(&browsed, world)?.and(reader.exit()).and(reader.poisoned(world));
    Ok(exit.and(freshness(&which, chosen, &snapshots, world)))
}

fn freshness(which: &Which, snapshot: &Snapshot, snapshots: &Snapshots<'_>, world: &World) -> Exit {
    match staleness(which, snapshot, snapshots) {
        Some(stale) => {
            world.output.note(format!("Warning: {stale}"));
            Exit::Stale
        }
        None => Exit::Done,
    }
}

fn ended(browsed: &Browsed, world: &World) -> Result<Exit, Trouble> {
    if let Some(path) = browsed.not_found.first() {
        return Err(Trouble::failed(format!("{path} is not in the snapshot")).hint("`exclave find` looks everywhere"));
    }
    for gap in browsed.gaps.iter().take(GAPS_SHOWN) {
        let after = gap
            .after
            .as_ref()
            .map_or_else(|| "the beginning".to_owned(), ToString::to_string);
        let before = gap
            .before
            .as_ref()
            .map_or_else(|| "the end".to_owned(), ToString::to_string);
        let why = format::plain(&gap.why.to_string());
        world
            .output
            .note(format!("LOST: what stands between {after} and {before}: {why}"));
    }
    if browsed.gaps_count > GAPS_SHOWN as u64 {
        world
            .output
            .note(format!("LOST: {} more gaps", browsed.gaps_count - GAPS_SHOWN as u64));
    }
    Ok(if browsed.gaps_count == 0 {
        Exit::Done
    } else {
        Exit::Unrecoverable
    })
}

fn unreadable(error: RestoreError) -> Trouble {
    let exit = match &error {
        RestoreError::Interrupted { .. } => Exit::Interrupted,
        RestoreError::Target(_)
        | RestoreError::Stream(_)
        | RestoreError::StreamBroken { .. }
        | RestoreError::Entry(_)
        | RestoreError::NothingSelected { .. }
        | RestoreError::NotOneFile { .. }
        | RestoreError::Zstd(_)
        | RestoreError::Thread => Exit::Failed,
    };
    Trouble::new(exit, "the snapshot can't be read").source(error)
}

/// One entry.
#[derive(Serialize)]
struct Line {
    path: String,
    /// The path's bytes, where they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    modified: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip)]
    shown: String,
}

impl Line {
    fn of(entry: &Entry) -> Self {
        let (path, path_hex) = format::json_path(&entry.path);
        let target = entry
            .link_target
            .as_ref()
            .map(|target| String::from_utf8_lossy(target).into_owned());
        let (letter, kind) = match entry.kind {
            EntryKind::File => ('-', "file"),
            EntryKind::Directory => ('d', "directory"),
            EntryKind::Symlink => ('l', "symlink"),
            EntryKind::Fifo => ('p', "fifo"),
            EntryKind::Socket => ('s', "socket"),
            EntryKind::CharDevice => ('c', "char-device"),
            EntryKind::BlockDevice => ('b', "block-device"),
        };
        let arrow = target
            .as_ref()
            .map(|target| format!(" -> {}", format::plain(target)))
            .unwrap_or_default();
        let shown = format!(
            "{}  {:>9}  {}  {}{arrow}",
            format::mode(letter, entry.mode),
            format::bytes(entry.size),
            format::local(entry.modified.secs),
            entry.path
        );
        Self {
            path,
            path_hex,
            kind,
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            modified: format::rfc3339_exact(&entry.modified),
            target,
            shown,
        }
    }
}

impl Report for Line {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.shown)
    }
}

/// One difference.
#[derive(Serialize)]
struct Marked {
    change: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    size_before: Option<u64>,
    size_after: Option<u64>,
    #[serde(skip)]
    shown: String,
}

impl Marked {
    fn of(difference: &Difference) -> Self {
        let (mark, change, entry, size_before, size_after) = match difference {
            Difference::Added(entry) => ('+', "added", entry, None, Some(entry.size)),
            Difference::Removed(entry) => ('-', "removed", entry, Some(entry.size), None),
            Difference::Changed { before, after, what } => {
                let (mark, change) = match what {
                    Changed::Content => ('M', "content"),
                    Changed::Metadata => ('m', "metadata"),
                    Changed::Kind => ('T', "type"),
                };
                (mark, change, after, Some(before.size), Some(after.size))
            }
        };
        let (path, path_hex) = format::json_path(&entry.path);
        Self {
            change,
            path,
            path_hex,
            size_before,
            size_after,
            shown: format!("{mark} {}", entry.path),
        }
    }
}

impl Report for Marked {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.shown)
    }
}
