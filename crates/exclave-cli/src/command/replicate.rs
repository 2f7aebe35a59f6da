//! `exclave replicate [PATH..]`: one new snapshot of each dataset.

mod dry_run;
mod scan;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::PathBuf,
    time::Instant,
};

use clap::Args;
use exclave_catalog::CatalogError;
use exclave_dataset::source::{BadOutput, CommandFailure, StreamError};
use exclave_engine::{
    Archive, IfForgotten, ReplicateError, ReplicateReport, RunOutcome, SourceError, StateError, witness::Asking,
};
use exclave_model::SiteId;
use exclave_plan::Trip;
use serde::Serialize;

use self::scan::Scan;
use super::{World, log::Logged, witness::ask::cosigned};
use crate::{
    agent::{Agent, catalog_hint},
    clock,
    config::{Config, DatasetConfig, asking},
    datasets::{self, FileAs, ListFrom, Separator},
    error::{Context as _, Trouble},
    exit::Exit,
    format, interrupt,
    output::Report,
    probed,
    progress::Shown,
    surroundings::{self, Edge},
};

/// What to do about a stream that is much shorter than last time.
const SHRUNK_HINT: &str =
    "when that is right, let it pass once: --max-shrink 100; the snapshot before stays the newest";

/// What to do about a state directory that has forgotten datasets.
const FORGOTTEN_HINT: &str = "was the state directory restored from a copy? `exclave catalog rebuild --identity FILE` brings \
                              them back; if this is another dataset: --new-dataset";

/// What to do about a full disk under the state directory.
const FULL_HINT: &str = "make room on the disk of the state directory; the next `exclave replicate` goes on from there";

/// What to do about a source that tripped wires.
const TRIPPED_HINT: &str = "The snapshot is committed, and its head says so; the ones before it are as they were. Look at the \
                            source before you rely on it. When the change is right: --expected-change";

/// Findings that the text shows; JSON holds all that the engine kept.
const FINDINGS_SHOWN: usize = 20;

/// `replicate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  exclave replicate ~/land-register
  exclave replicate /srv/data --name registers --exclude '*.tmp' --exclude '/cache/'
  pg_dump --format=custom land | exclave replicate --stdin --name land-db
  find . -newer stamp -print0 | exclave replicate . --files-from - -0")]
pub struct Arguments {
    /// Directories, files or block devices; without any, every `[[dataset]]` of the configuration
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only these datasets of the configuration; or the name of the one path's dataset, instead of its last part
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Take standard input as the dataset --name
    #[arg(long, conflicts_with = "paths", requires = "name")]
    stdin: bool,
    /// Leave out what matches, as in .gitignore; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what matches a line of FILE
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Take only the paths, relative to PATH, that FILE lists; - is standard input
    #[arg(long, value_name = "FILE", requires = "paths")]
    files_from: Option<PathBuf>,
    /// The list's paths end in NUL bytes, as from find -print0
    #[arg(short = '0', long = "null", requires = "files_from")]
    null: bool,
    /// Stay on the file system of PATH
    #[arg(long)]
    one_file_system: bool,
    /// Leave out what lies in directories with a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Take a file as a disk image: cut into blocks of fixed size
    #[arg(long)]
    image: bool,
    /// For commands and standard input: let them be up to PERCENT shorter than last time; 100 allows anything
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    max_shrink: Option<u8>,
    /// The source changed on purpose, however much: trip no wire, and take it for usual from now on
    #[arg(long)]
    expected_change: bool,
    /// The label of the snapshot
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Begin new datasets although the sites hold some of this writer's that its state directory has forgotten
    #[arg(long)]
    new_dataset: bool,
    /// Look at what would be taken; send nothing
    #[arg(long)]
    dry_run: bool,
}

/// Replicates each dataset; one that fails does not keep the others from it.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let config = world.config()?;
    let wanted = wanted(arguments, &config)?;
    if arguments.dry_run {
        return dry_run::dry_run(arguments, &wanted, world);
    }
    surroundings::self_tests()?;
    let mut edge = Edge::start(config.threads)?;
    edge.surroundings.tokens = world.tokens.clone();
    interrupt::listen(&edge)?;
    let agent = Agent::open(&config, &world.environment, &edge)?;
    for trouble in &agent.troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    if let Some(doubt) = clock::doubt(&agent.archive, &edge) {
        world.output.note(format!("Warning: {doubt}"));
    }
    let (witnesses, unknown) = asking(&config.witnesses, agent.archive.charter());
    for name in unknown {
        world
            .output
            .note(format!("Warning: the charter names no witness {name}"));
    }
    let create_only = probed::create_only(&agent, &config, &world.output);
    let locks = probed::locks(&agent, &config);
    let mut exit = Exit::Done;
    let mut done = Vec::new();
    let alone = wanted.len() == 1;
    for dataset in &wanted {
        let known = Known {
            create_only: &create_only,
            locks: &locks,
            witnesses: witnesses.as_slice(),
        };
        let result = one(arguments, dataset, &agent, &known, &edge, world);
        match result {
            Ok(snapshot) => {
                exit = exit.and(snapshot.exit());
                done.push(snapshot);
            }
            Err(trouble) if alone => return Err(trouble),
            Err(trouble) => {
                let _ = trouble.print(&mut io::stderr());
                exit = exit.and(trouble.exit());
                if trouble.exit() == Exit::Interrupted {
                    break;
                }
            }
        }
    }
    edge.block_on(agent.catalog.close());
    world.output.report(&Snapshots { snapshots: done })?;
    Ok(exit)
}

fn wanted(arguments: &Arguments, config: &Config) -> Result<Vec<DatasetConfig>, Trouble> {
    let mut datasets = Vec::new();
    if arguments.stdin || !arguments.paths.is_empty() {
        if arguments.name.len() > 1 || (arguments.name.len() == 1 && arguments.paths.len() > 1) {
            return Err(Trouble::usage(
                "--name gives one dataset its name, and there are several",
            ));
        }
        let mut paths: Vec<PathBuf> = arguments.paths.clone();
        if arguments.stdin {
            paths.push(PathBuf::from("-"));
        }
        for path in paths {
            let name = match arguments.name.first() {
                Some(name) => name.clone(),
                None => datasets::name_of(&path)?,
            };
            datasets.push(config.dataset_at(&path, &name)?);
        }
    } else {
        for name in &arguments.name {
            if !config.datasets.iter().any(|dataset| dataset.name == *name) {
                let known: Vec<&str> = config.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
                let trouble = Trouble::usage(format!("the configuration has no dataset {name:?}"));
                return Err(trouble.hint(format!("it has {}", known.join(", "))));
            }
        }
        let is_wanted = |dataset: &&DatasetConfig| arguments.name.is_empty() || arguments.name.contains(&dataset.name);
        datasets.extend(config.datasets.iter().filter(is_wanted).cloned());
    }
    if datasets.is_empty() {
        return Err(
            Trouble::usage("nothing to replicate").hint("name a path: exclave replicate PATH; or add a [[dataset]]")
        );
    }
    for dataset in &mut datasets {
        change(arguments, dataset)?;
    }
    Ok(datasets)
}

/// What the command line says lies over the configuration.
fn change(arguments: &Arguments, dataset: &mut DatasetConfig) -> Result<(), Trouble> {
    dataset.exclude.extend(arguments.exclude.iter().cloned());
    for path in &arguments.exclude_file {
        let text = std::fs::read_to_string(path)
            .because(|| Trouble::usage(format!("the exclude file {} can't be read", path.display())))?;
        dataset.exclude.extend(text.lines().map(str::to_owned));
    }
    if let Some(label) = &arguments.label {
        dataset.label.clone_from(label);
    }
    if let Some(percent) = arguments.max_shrink {
        dataset.streams.max_shrink_percent = percent;
    }
    dataset.one_file_system |= arguments.one_file_system;
    dataset.exclude_caches |= arguments.exclude_caches;
    Ok(())
}

fn list_from(arguments: &Arguments) -> Option<ListFrom> {
    arguments.files_from.as_ref().map(|file| ListFrom {
        file: file.clone(),
        separator: if arguments.null {
            Separator::Nul
        } else {
            Separator::Newline
        },
    })
}

/// What is known of sites and witnesses before a dataset's run.
struct Known<'a> {
    /// Sites that keep what they have when a name is taken.
    create_only: &'a BTreeSet<SiteId>,
    /// For how many days sites lock by themselves, as of their last check.
    locks: &'a BTreeMap<SiteId, u32>,
    /// Who is asked to cosign.
    witnesses: &'a [Asking],
}

fn one(
    arguments: &Arguments,
    dataset: &DatasetConfig,
    agent: &Agent,
    known: &Known<'_>,
    edge: &Edge,
    world: &World,
) -> Result<Done, Trouble> {
    let mut request = if arguments.stdin {
        datasets::request_stdin(dataset)
    } else {
        let file_as = if arguments.image { FileAs::Image } else { FileAs::File };
        datasets::request(dataset, list_from(arguments).as_ref(), file_as, &world.environment)?
    };
    request.create_only.clone_from(known.create_only);
    request.tripwires.expected = arguments.expected_change;
    request.locks.clone_from(known.locks);
    request.class = class_of(dataset, agent)?;
    if arguments.new_dataset {
        request.if_forgotten = IfForgotten::BeginAnew;
    }
    let start = Instant::now();
    edge.surroundings.progress.begin_anew();
    let shown = Shown::begin(&world.output, &edge.surroundings.progress, "replicating");
    let scan = Scan::begin(arguments, dataset, edge, world);
    let result = exclave_engine::replicate(
        &agent.archive,
        &agent.state,
        &agent.catalog,
        request,
        &edge.surroundings,
    );
    drop((scan, shown));
    match result {
        Ok(mut report) => {
            let logged = report.logged.take().filter(|_| !known.witnesses.is_empty());
            let mut done = Done::of(dataset, report, agent, start.elapsed().as_secs_f64());
            // The commit is one without this, and waits for it some seconds at most.
            let asked = logged.map(|logged| {
                let (checkpoint, entries) = (&logged.checkpoint, logged.entries());
                cosigned(&agent.archive, checkpoint, entries, known.witnesses, &edge.surroundings)
            });
            done.alarms
                .extend(asked.iter().flat_map(|asked| asked.alarms.iter().cloned()));
            done.log.witnesses = asked;
            Ok(done)
        }
        Err(error) => Err(failed(&dataset.name, error, &agent.archive)),
    }
}

/// The dataset's class: as the configuration says, else as this agent has it, else the first one.
fn class_of(dataset: &DatasetConfig, agent: &Agent) -> Result<u32, Trouble> {
    if let Some(class) = dataset.class {
        return Ok(class);
    }
    let known = agent.state.datasets();
    let known = known.because(|| Trouble::failed("the agent's datasets can't be read"))?;
    let ours = known.iter().find(|ours| ours.name == dataset.name);
    Ok(ours.map_or(exclave_engine::DEFAULT_CLASS, |ours| ours.class))
}

fn failed(name: &str, error: ReplicateError, archive: &Archive) -> Trouble {
    let what = format!("cannot replicate {name}");
    let strangers = strangers(archive);
    let registration;
    let (exit, hint) = match &error {
        ReplicateError::Interrupted { .. } => (
            Exit::Interrupted,
            Some("the next `exclave replicate` goes on from there"),
        ),
        ReplicateError::Unregistered { dataset, class, .. } => {
            registration = format!(
                "let an administrator of the class add it: `exclave dataset add {} --class {class} --administrator KEY`; \
                 the id stays what it is",
                dataset.to_hex()
            );
            (Exit::Refused, Some(registration.as_str()))
        }
        ReplicateError::OtherRegistration { .. } => (
            Exit::Refused,
            Some(
                "give the dataset that class in the configuration (`class` under [[dataset]]), under another name here",
            ),
        ),
        ReplicateError::Demands { .. } => (
            Exit::Refused,
            Some("`exclave dataset show` lists what administrators demand; a charter may have raised its class since"),
        ),
        ReplicateError::Format { .. } => (
            Exit::Refused,
            Some("use a program that writes an allowed version, or let the roots allow this one"),
        ),
        ReplicateError::NoSuchClass(_) | ReplicateError::NotAWriter { .. } => (
            Exit::Refused,
            Some("is this the state directory that `init` set up for this archive?"),
        ),
        ReplicateError::Sites(_) | ReplicateError::StripeFailed { .. } | ReplicateError::NotYet(_)
            if !strangers.is_empty() =>
        {
            (Exit::Failed, Some(strangers.as_str()))
        }
        ReplicateError::Sites(_) | ReplicateError::StripeFailed { .. } | ReplicateError::NotYet(_) => (
            Exit::Failed,
            Some("`exclave site check` tells which sites are down; the snapshot before stays the newest"),
        ),
        ReplicateError::Forgotten { .. } => (Exit::Refused, Some(FORGOTTEN_HINT)),
        ReplicateError::NothingStored => (Exit::Failed, Some("the source is empty")),
        ReplicateError::NotListed { .. } => (
            Exit::Failed,
            Some("replicate again: what it holds is sent anew; was the state directory restored from a copy?"),
        ),
        ReplicateError::Marked { .. } => (
            Exit::Failed,
            Some("replicate again: those are sent anew, and everything else that was stored is taken over"),
        ),
        ReplicateError::Catalog(CatalogError::Full { .. }) => (Exit::Failed, Some(FULL_HINT)),
        ReplicateError::Catalog(error) => (Exit::Failed, catalog_hint(error)),
        ReplicateError::State(StateError::OtherClass { .. }) => (Exit::Refused, None),
        ReplicateError::Local(local) | ReplicateError::State(StateError::Local(local)) if local.is_full() => {
            (Exit::Failed, Some(FULL_HINT))
        }
        ReplicateError::Source(source) => (Exit::Failed, shrunk(source).then_some(SHRUNK_HINT)),
        _ => (Exit::Failed, None),
    };
    let mut trouble = Trouble::new(exit, what);
    if let Some(hint) = hint {
        trouble = trouble.hint(hint);
    }
    if let ReplicateError::Source(SourceError::Command { error, .. }) = &error {
        trouble = trouble.last_words(&error.stderr);
    }
    trouble.source(error)
}

/// Which stores answer and count as no site, and what to do about it; empty when there are none.
fn strangers(archive: &Archive) -> String {
    let stores = archive.sites.iter();
    let said: Vec<String> = stores
        .filter_map(|handle| Some(format!("{} {}", handle.name, handle.plate.complaint()?)))
        .collect();
    match said.is_empty() {
        true => String::new(),
        false => format!(
            "{}. A store that was emptied is taken back with `exclave site adopt NAME --root FILE`; the snapshot before \
             stays the newest",
            said.join("; ")
        ),
    }
}

/// True when a stream was refused because it is so much shorter than last time.
fn shrunk(error: &SourceError) -> bool {
    match error {
        SourceError::Command { error, .. } => {
            matches!(error.failure, CommandFailure::Output(BadOutput::Shrunk { .. }))
        }
        SourceError::Stream { error, .. } => matches!(error, StreamError::Output(BadOutput::Shrunk { .. })),
        _ => false,
    }
}

/// All datasets of one call.
#[derive(Serialize)]
struct Snapshots {
    snapshots: Vec<Done>,
}

impl Report for Snapshots {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.snapshots.iter().try_for_each(|snapshot| snapshot.text(out))
    }
}

/// What was done with one dataset.
#[derive(Serialize)]
struct Done {
    dataset: String,
    dataset_id: String,
    outcome: &'static str,
    head: String,
    seq: u64,
    run: String,
    head_sites: usize,
    sites: usize,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    skipped: u64,
    excluded: u64,
    changed_while_read: u64,
    bytes_new: u64,
    stripes: u64,
    verified_min: u8,
    debt_shards: u64,
    debts_paid: u64,
    debts_unpaid: Vec<UnpaidDebts>,
    recovered_stripes: u64,
    recovered_heads: u64,
    new_incarnation: bool,
    seconds: f64,
    findings: Vec<String>,
    findings_total: u64,
    tripwires: Vec<Tripped>,
    site_troubles: Vec<SiteTrouble>,
    alarms: Vec<String>,
    log: Logged,
    #[serde(skip)]
    run_outcome: RunOutcome,
}

/// Shards that earlier runs owe a site, and why they were not paid.
#[derive(Serialize)]
struct UnpaidDebts {
    site: String,
    shards: u64,
    reason: String,
}

impl From<exclave_engine::debt::UnpaidDebts> for UnpaidDebts {
    fn from(debts: exclave_engine::debt::UnpaidDebts) -> Self {
        let exclave_engine::debt::UnpaidDebts { site, shards, reason } = debts;
        Self { site, shards, reason }
    }
}

/// A wire that the source tripped.
#[derive(Serialize)]
struct Tripped {
    wire: &'static str,
    part: u64,
    whole: u64,
    why: String,
}

#[derive(Serialize)]
struct SiteTrouble {
    site: String,
    error: String,
}

impl Tripped {
    fn of(trip: &Trip) -> Self {
        Self {
            wire: trip.wire.as_str(),
            part: trip.part,
            whole: trip.whole,
            why: trip.to_string(),
        }
    }
}

impl Done {
    fn of(dataset: &DatasetConfig, report: ReplicateReport, agent: &Agent, seconds: f64) -> Self {
        let outcome = match report.outcome {
            RunOutcome::Committed => "committed",
            RunOutcome::Provisional => "provisional",
            RunOutcome::BelowQuorum => "below-quorum",
        };
        let troubles = report.site_troubles.into_iter();
        Self {
            dataset: dataset.name.clone(),
            dataset_id: report.dataset.to_hex(),
            outcome,
            head: report.head.to_hex(),
            seq: report.seq,
            run: report.run.to_hex(),
            head_sites: report.head_sites,
            sites: agent.archive.charter().sites.len(),
            files: report.counts.files,
            directories: report.counts.directories,
            others: report.counts.others,
            bytes: report.counts.bytes,
            skipped: report.counts.skipped,
            excluded: report.counts.excluded,
            changed_while_read: report.counts.changed,
            bytes_new: report.bytes_new,
            stripes: report.stripes,
            verified_min: report.verified_min,
            debt_shards: report.debt,
            debts_paid: report.debts_paid,
            debts_unpaid: report.debts_unpaid.into_iter().map(Into::into).collect(),
            recovered_stripes: report.recovered_stripes,
            recovered_heads: report.recovered_heads,
            new_incarnation: report.new_incarnation,
            seconds,
            findings: report.findings.iter().map(ToString::to_string).collect(),
            findings_total: report.findings_total,
            tripwires: report.trips.iter().map(Tripped::of).collect(),
            site_troubles: troubles.map(|(site, error)| SiteTrouble { site, error }).collect(),
            alarms: report.alarms,
            log: Logged::of(&report.log),
            run_outcome: report.outcome,
        }
    }

    fn exit(&self) -> Exit {
        let outcome = match self.run_outcome {
            RunOutcome::Committed => Exit::Done,
            RunOutcome::Provisional | RunOutcome::BelowQuorum => Exit::Stale,
        };
        let clean = self.findings_total == 0
            && self.tripwires.is_empty()
            && self.site_troubles.is_empty()
            && self.alarms.is_empty()
            && !self.new_incarnation
            && self.log.not_yet.is_none()
            && self.debt_shards == 0
            && self.debts_unpaid.is_empty();
        outcome.and(if clean { Exit::Done } else { Exit::Findings })
    }
}

impl Report for Done {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            dataset,
            head_sites,
            sites,
            ..
        } = self;
        let short = self.head.get(..8).unwrap_or(&self.head);
        let time = format::span(std::time::Duration::from_secs_f64(self.seconds.max(0.0)));
        writeln!(
            out,
            "{dataset}: {}, {}; {} new; {time}",
            format::count(self.files, "file"),
            format::bytes(self.bytes),
            format::bytes(self.bytes_new),
        )?;
        match self.run_outcome {
            RunOutcome::Committed => writeln!(out, "Committed at {head_sites} of {sites} sites as snapshot {short}")?,
            RunOutcome::Provisional => writeln!(
                out,
                "PROVISIONAL at {head_sites} of {sites} sites as snapshot {short}: some stripes have only {} shards. \
                 Replicate again once more sites answer.",
                self.verified_min
            )?,
            RunOutcome::BelowQuorum => writeln!(
                out,
                "NOT COMMITTED: snapshot {short} reached only {head_sites} of {sites} sites. \
                 Replicate again once more sites answer; nothing is sent twice."
            )?,
        }
        if self.debt_shards > 0 {
            let owed = format::count(self.debt_shards, "shard");
            writeln!(out, "Still owed: {owed}; the next replicate pays first")?;
        }
        if self.debts_paid > 0 {
            writeln!(
                out,
                "Paid: {} that earlier runs owed",
                format::count(self.debts_paid, "shard")
            )?;
        }
        for UnpaidDebts { site, shards, reason } in &self.debts_unpaid {
            let owed = format::count(*shards, "shard");
            writeln!(out, "Not paid: {owed} that {site} is owed: {}", format::plain(reason))?;
        }
        if self.recovered_stripes + self.recovered_heads > 0 {
            let (stripes, heads) = (self.recovered_stripes, self.recovered_heads);
            let (stripes, heads) = (format::count(stripes, "stripe"), format::count(heads, "head"));
            writeln!(out, "Recovered from interrupted runs: {stripes}, {heads}")?;
        }
        if self.skipped > 0 {
            writeln!(out, "Skipped: {} could not be read", format::entries(self.skipped))?;
        }
        if self.changed_while_read > 0 {
            let files = format::count(self.changed_while_read, "file");
            writeln!(out, "Changed while read, kept as they were last seen: {files}")?;
        }
        for finding in self.findings.iter().take(FINDINGS_SHOWN) {
            writeln!(out, "  {}", format::plain(finding))?;
        }
        if self.findings_total > FINDINGS_SHOWN as u64 {
            writeln!(out, "  .. and {} more", self.findings_total - FINDINGS_SHOWN as u64)?;
        }
        if let Some(why) = self
            .log
            .not_yet
            .as_ref()
            .filter(|_| self.run_outcome != RunOutcome::BelowQuorum)
        {
            writeln!(
                out,
                "Committed, not logged: {}; the next run makes up for it",
                format::plain(why)
            )?;
        }
        for Tripped { wire, why, .. } in &self.tripwires {
            writeln!(out, "TRIPWIRE {wire}: {why}")?;
        }
        if !self.tripwires.is_empty() {
            writeln!(out, "{TRIPPED_HINT}")?;
        }
        if let Some(witnesses) = &self.log.witnesses {
            witnesses.text(out)?;
        }
        for trouble in &self.site_troubles {
            writeln!(out, "Site {}: {}", trouble.site, format::plain(&trouble.error))?;
        }
        self.alarms
            .iter()
            .try_for_each(|alarm| writeln!(out, "ALARM: {}", format::plain(alarm)))
    }
}
