//! `exclave restore`: from any sufficient subset of the sites and an identity to a directory, a tar stream, or the bytes
//! of one file.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, ValueEnum};
use exclave_dataset::sink::{Existing, Options, Owners, SpecialModes, SpecialNodes, Xattrs};
use exclave_engine::{
    fetch::SiteTally,
    restore::{Outcome, RestoreError, RestorePlan, RestoreReport, Selection, Target, Written, plan_restore, restore},
};
use exclave_model::EntryPath;
use serde::Serialize;

use super::World;
use crate::{
    error::{Context as _, Trouble, chain},
    exit::Exit,
    format,
    output::{Report, aligned, figures, words},
    progress::Shown,
    reader::{Reader, ReaderArguments, SnapshotArguments, choose, staleness},
};

/// Lost or refused entries that the text shows.
const SHOWN: usize = 20;

/// `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  exclave restore --identity recovery.key --site file:///mnt/a --site file:///mnt/b --to ./restored
  exclave restore --to ./restored --dataset land-register --at 2026-03-01 maps/north
  exclave restore --to - --dataset land-register | tar -tv
  exclave restore --to - --format raw --dataset land-db | pg_restore --dbname land")]
pub struct Arguments {
    /// Restore only these paths of the snapshot, and what lies below them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
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
    #[arg(long)]
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
    #[arg(long, conflicts_with = "to")]
    verify: bool,
    /// Fetch no data: show what would be fetched from where
    #[arg(long)]
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
    let snapshots = reader.snapshots(arguments.snapshot.depth())?;
    let which = arguments.snapshot.which();
    let snapshot = choose(&snapshots, &which)?;
    let stale = staleness(&which, snapshot, &snapshots);
    if let Some(stale) = &stale {
        if !arguments.accept_stale {
            return Err(Trouble::new(Exit::Stale, stale.clone())
                .hint("give more of the archive's sites, or take this one: --accept-stale"));
        }
        world.output.note(format!("Warning: {stale}"));
    }
    let freshness = if stale.is_some() { Exit::Stale } else { Exit::Done };
    let name = snapshot.info.name.clone();
    let surroundings = &reader.edge.surroundings;
    if arguments.dry_run {
        let plan = plan_restore(&snapshots, snapshot, &selection, surroundings);
        let plan = Planned::of(plan.map_err(|error| failed(&name, error, arguments))?);
        world.output.report(&plan)?;
        return Ok(freshness.and(plan.exit()));
    }
    let start = Instant::now();
    let shown = Shown::begin(&world.output, &surroundings.progress, "restoring");
    let report = restore(&snapshots, snapshot, &selection, target(arguments), surroundings);
    drop(shown);
    let report = report.map_err(|error| failed(&name, error, arguments))?;
    let restored = Restored::of(report, arguments, stale, start.elapsed().as_secs_f64());
    if to_stdout {
        // Standard output is taken by the stream.
        let mut text = Vec::new();
        let _ = restored.text(&mut text);
        world.output.note(String::from_utf8_lossy(&text).trim_end());
    } else {
        world.output.report(&restored)?;
    }
    Ok(freshness.and(restored.exit()))
}

fn selection(arguments: &Arguments) -> Result<Selection, Trouble> {
    let mut paths = Vec::new();
    for path in &arguments.paths {
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

/// What a restore did.
#[derive(Serialize)]
struct Restored {
    snapshot: String,
    dataset: String,
    label: String,
    finished: String,
    #[serde(skip)]
    finished_unix: i64,
    state: &'static str,
    stale: Option<String>,
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
    fn of(report: RestoreReport, arguments: &Arguments, stale: Option<String>, seconds: f64) -> Self {
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
            stale,
            target: arguments.to.as_ref().map(|path| path.display().to_string()),
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

    fn exit(&self) -> Exit {
        match self.ended {
            Outcome::Complete => Exit::Done,
            Outcome::Findings => Exit::Findings,
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
struct Planned {
    snapshot: String,
    dataset: String,
    files: u64,
    bytes: u64,
    stripes: u64,
    stripes_short: u64,
    stripes_unreadable: u64,
    manifest_gaps: u64,
    sites: Vec<PlannedSite>,
}

#[derive(Serialize)]
struct PlannedSite {
    site: String,
    shards: u64,
    bytes: u64,
}

impl Planned {
    fn of(plan: RestorePlan) -> Self {
        let sites = plan.sites.into_iter().map(|site| PlannedSite {
            site: site.name,
            shards: site.shards,
            bytes: site.bytes,
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
            sites: sites.collect(),
        }
    }

    fn exit(&self) -> Exit {
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
        let rows = self
            .sites
            .iter()
            .map(|site| vec![site.site.clone(), site.shards.to_string(), format::bytes(site.bytes)]);
        write!(
            out,
            "{}",
            aligned(&[words("SITE"), figures("SHARDS"), figures("BYTES")], rows)
        )?;
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
