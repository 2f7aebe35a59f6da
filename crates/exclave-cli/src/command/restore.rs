//! `exclave restore`: from any sufficient subset of the sites and an identity to a directory, a tar stream, or the bytes
//! of one file.

mod rates;
mod report;

use std::{
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, ValueEnum};
use exclave_dataset::sink::{Existing, Options, Owners, SpecialModes, SpecialNodes, Xattrs};
use exclave_engine::restore::{RestoreError, Selection, Target, plan_restore, restore};
use exclave_model::EntryPath;
use exclave_plan::heads::Finding;

use self::report::{Planned, Restored};
use super::World;
use crate::{
    agent::refuse_disputed,
    error::{Context as _, Trouble},
    exit::Exit,
    output::Report,
    progress::Shown,
    reader::{Reader, ReaderArguments, SnapshotArguments, choose, staleness},
};

/// `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  exclave restore --identity recovery.key --site file:///mnt/a --site file:///mnt/b --to ./restored
  exclave restore --set shares.set --share office.share --share - --archive HEX --site file:///mnt/a --to ./restored
  exclave restore --kit ./kit --share - --share - --archive HEX --to ./restored
  exclave restore --to ./restored --dataset land-register --at 2026-03-01 maps/north
  exclave restore --to - --dataset land-register | tar -tv
  exclave restore --to - --format raw --dataset land-db | pg_restore --dbname land")]
pub struct Arguments {
    /// Restore only these paths of the snapshot, and what lies below them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same, as an option; may be repeated
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Write into this directory, which must be empty or absent; - is standard output
    #[arg(long, value_name = "DIR", required_unless_present_any = ["verify", "dry_run"])]
    to: Option<PathBuf>,
    /// What standard output gets
    #[arg(long, value_enum, default_value = "tar")]
    format: Format,
    #[command(flatten)]
    snapshot: SnapshotArguments,
    #[command(flatten)]
    reader: ReaderArguments,
    /// Leave out what matches, as in .gitignore; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Restore although there may be a newer snapshot
    #[arg(long)]
    accept_stale: bool,
    /// Replace what is in the way; go on with a restore that was interrupted
    #[arg(long, visible_alias = "overwrite")]
    replace: bool,
    /// Restore setuid, setgid and sticky bits and file capabilities
    #[arg(long)]
    special_modes: bool,
    /// Make fifos, sockets and devices
    #[arg(long)]
    special_files: bool,
    /// Leave all files to this user, also as root
    #[arg(long)]
    no_owners: bool,
    /// Leave out extended attributes
    #[arg(long)]
    no_xattrs: bool,
    /// Write nothing: fetch, open and check everything
    #[arg(long, visible_alias = "verify-only", conflicts_with = "to")]
    verify: bool,
    /// Write nothing: show what would be fetched from where, and how long that takes at rates measured now
    #[arg(long, visible_alias = "plan")]
    dry_run: bool,
}

/// What standard output gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A tar stream (POSIX.1-2001)
    Tar,
    /// The bytes of one file
    Raw,
}

/// Restores.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let to_stdout = arguments.to.as_deref() == Some(Path::new("-"));
    if to_stdout && world.global.json {
        return Err(Trouble::usage("--to - and --json both want standard output"));
    }
    let selection = selection(arguments)?;
    let reader = Reader::open(&arguments.reader, world)?;
    refuse_disputed(&reader.archive)?;
    let snapshots = reader.snapshots(arguments.snapshot.depth())?;
    let which = arguments.snapshot.which();
    let snapshot = choose(&snapshots, &which)?;
    let stale = reader
        .set_back(&which)
        .or_else(|| staleness(&which, snapshot, &snapshots));
    let stale = stale.or_else(|| reader.hidden_charter(&which));
    if let Some(stale) = &stale {
        if !arguments.accept_stale {
            return Err(Trouble::new(Exit::Stale, stale.clone())
                .hint("give more of the archive's sites, or take this one: --accept-stale"));
        }
        world.output.note(format!("Warning: {stale}"));
    }
    let freshness = if stale.is_some() { Exit::Stale } else { Exit::Done };
    let heads = reader.exit().and(freshness);
    let name = snapshot.info.name.clone();
    let surroundings = &reader.edge.surroundings;
    if arguments.dry_run {
        let plan = plan_restore(&snapshots, snapshot, &selection, surroundings);
        let plan = plan.map_err(|error| failed(&name, error, arguments))?;
        let rates = rates::measure(&plan, &reader);
        let plan = Planned::of(plan, &rates);
        world.output.report(&plan)?;
        return Ok(heads.and(plan.exit()).and(reader.poisoned(world)));
    }
    let start = Instant::now();
    let shown = Shown::begin(&world.output, &surroundings.progress, "restoring");
    let report = restore(&snapshots, snapshot, &selection, target(arguments), surroundings);
    drop(shown);
    let report = report.map_err(|error| failed(&name, error, arguments))?;
    let forks = reader.survey.findings.iter().filter(|finding| is_fork(finding)).count() + reader.charter_alarms();
    let seconds = start.elapsed().as_secs_f64();
    let now = surroundings.clock.now_unix_seconds();
    let restored = Restored::of(report, arguments.to.as_deref(), stale, forks, (seconds, now));
    if to_stdout {
        // Standard output is taken by the stream.
        let mut text = Vec::new();
        let _ = restored.text(&mut text);
        world.output.note(String::from_utf8_lossy(&text).trim_end());
    } else {
        world.output.report(&restored)?;
    }
    Ok(heads.and(restored.exit()).and(reader.poisoned(world)))
}

fn is_fork(finding: &Finding) -> bool {
    matches!(finding, Finding::Fork { .. })
}

fn selection(arguments: &Arguments) -> Result<Selection, Trouble> {
    let mut paths = Vec::new();
    for path in arguments.paths.iter().chain(&arguments.path) {
        paths.push(entry_path(path)?);
    }
    Selection::new(paths, &arguments.exclude).because(|| Trouble::usage("--exclude can't be used"))
}

/// A path inside a snapshot, as people write it: `./a/`, `/a` and `a` are the same.
pub fn entry_path(path: &Path) -> Result<EntryPath, Trouble> {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
    let end = bytes
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(start, |last| last + 1);
    let bytes = bytes.get(start..end).unwrap_or_default();
    if bytes.is_empty() || bytes == b"." {
        return Ok(EntryPath::root());
    }
    EntryPath::parse(bytes).because(|| Trouble::usage(format!("{} is no path of a snapshot", path.display())))
}

fn target(arguments: &Arguments) -> Target {
    let options = Options {
        existing: if arguments.replace {
            Existing::Replace
        } else {
            Existing::Refuse
        },
        special_modes: if arguments.special_modes {
            SpecialModes::Keep
        } else {
            SpecialModes::Strip
        },
        special_nodes: if arguments.special_files {
            SpecialNodes::Create
        } else {
            SpecialNodes::Skip
        },
        owners: if arguments.no_owners {
            Owners::Skip
        } else {
            Owners::Auto
        },
        xattrs: if arguments.no_xattrs {
            Xattrs::Skip
        } else {
            Xattrs::Auto
        },
    };
    match (&arguments.to, arguments.format) {
        (None, _) => Target::Nothing,
        (Some(path), Format::Tar) if path == Path::new("-") => Target::Tar(Box::new(io::stdout())),
        (Some(path), Format::Raw) if path == Path::new("-") => Target::Raw(Box::new(io::stdout())),
        (Some(path), Format::Tar | Format::Raw) => Target::Directory(path.clone(), options),
    }
}

fn failed(name: &str, error: RestoreError, arguments: &Arguments) -> Trouble {
    use exclave_dataset::sink::SinkError;
    let to = arguments.to.as_deref().unwrap_or(Path::new(".")).display().to_string();
    let (exit, hint) = match &error {
        RestoreError::Interrupted { .. } => (
            Exit::Interrupted,
            Some(format!("what is complete stays; go on with --to {to} --replace")),
        ),
        RestoreError::Target(SinkError::TargetFull { .. }) => (
            Exit::Failed,
            Some(format!(
                "what is complete stays; make room and go on with --to {to} --replace"
            )),
        ),
        RestoreError::Target(SinkError::TargetNotEmpty { .. }) => (
            Exit::Usage,
            Some("name another directory, or --replace what is there and go on with an interrupted restore".to_owned()),
        ),
        RestoreError::NothingSelected { .. } => (Exit::Usage, Some("`exclave ls` shows what there is".to_owned())),
        RestoreError::NotOneFile { .. } => (
            Exit::Usage,
            Some("name one file, or take the default: --format tar".to_owned()),
        ),
        RestoreError::StreamBroken { .. } => (
            Exit::Unrecoverable,
            Some("restore into a directory instead: there the other files go on".to_owned()),
        ),
        RestoreError::Stream(error) if error.kind() == io::ErrorKind::BrokenPipe => return Trouble::reader_gone(),
        RestoreError::Target(_)
        | RestoreError::Stream(_)
        | RestoreError::Entry(_)
        | RestoreError::Zstd(_)
        | RestoreError::Thread => (Exit::Failed, None),
    };
    let trouble = Trouble::new(exit, format!("cannot restore {name}"));
    let trouble = match hint {
        Some(hint) => trouble.hint(hint),
        None => trouble,
    };
    trouble.source(error)
}
