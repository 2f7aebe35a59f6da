//! `exclave grant give|list`: run keys of named snapshots for someone, and what was given so far.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use exclave_engine::{
    Archive,
    grant::{self, AlsoOpen, GrantError, Granted, Granting},
    snapshot::{Depth, Snapshot, Snapshots, Which},
};
use exclave_model::{Grant, KeyId, RecipientKey, Tag};
use serde::Serialize;

use super::{
    World,
    charter::{Public, open_public},
    log::Logged,
};
use crate::{
    agent::refuse_disputed,
    arguments::RestorerArguments,
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    output::{Report, figures, words},
    private_file,
    reader::{Reader, ReaderArguments, choose, moment},
};

/// `grant ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give someone the run keys of named snapshots
    Give(Box<Give>),
    /// List what was given, to whom, by whom
    List(List),
}

/// `grant give`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is given can't be taken back, and --until is a promise between people: nothing closes afterwards. A run is one key;
the report names other snapshots that the same keys open. Look at it with --dry-run first.")]
pub struct Give {
    /// The snapshots, by the first digits of their names
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Who gets them: a recovery identity's file (its public half suffices)
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    restorer: RestorerArguments,
    /// Until when it is meant to be used, such as 2026-12-31
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// Write the grant to FILE too, to be handed over; the sites have it in any case
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show what would be open; sign and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reader: ReaderArguments,
}

/// `grant list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    sites: crate::arguments::SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<exclave_model::Anchor>,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    match command {
        Command::Give(arguments) => give(arguments, world),
        Command::List(arguments) => list(arguments, world),
    }
}

fn give(arguments: &Give, world: &mut World) -> Result<Exit, Trouble> {
    let recipient = recipient(&arguments.to)?;
    if let Some(out) = arguments.out.as_ref().filter(|out| out.symlink_metadata().is_ok()) {
        return Err(Trouble::usage(format!("{} is there already", out.display())));
    }
    let reader = Reader::open(&arguments.reader, world)?;
    refuse_disputed(&reader.archive)?;
    let restorer = arguments.restorer.open(arguments.reader.passphrases(), world)?;
    let snapshots = reader.snapshots(Depth::All)?;
    let granting = Granting {
        snapshots: chosen(&snapshots, &arguments.snapshots)?,
        recipient,
        until: arguments.until,
    };
    let granted = grant::give(
        &snapshots,
        &granting,
        &restorer,
        arguments.dry_run,
        &reader.edge.surroundings,
    );
    let granted = granted.map_err(not_given)?;
    if let Some(out) = arguments.out.as_ref().filter(|_| !arguments.dry_run) {
        private_file::create(out, &granted.object, "grant")?;
    }
    world
        .output
        .report(&Given::of(&granted, &granting.snapshots, arguments))?;
    Ok(reader.exit().and(reader.poisoned(world)))
}

fn recipient(path: &Path) -> Result<RecipientKey, Trouble> {
    let file = keys::read(path)?;
    file.recipient()
        .because(|| Trouble::usage(format!("{} is no recovery identity", path.display())))
}

fn chosen<'s>(snapshots: &'s Snapshots<'_>, prefixes: &[String]) -> Result<Vec<&'s Snapshot>, Trouble> {
    let which = |prefix: &String| Which::Head {
        prefix: prefix.to_ascii_lowercase(),
    };
    prefixes
        .iter()
        .map(|prefix| choose(snapshots, &which(prefix)))
        .collect()
}

fn not_given(error: GrantError) -> Trouble {
    let what = "nothing was given";
    match &error {
        GrantError::NotARestorer { .. } => Trouble::new(Exit::Refused, what)
            .hint("name the key in the charter as [[member]] with the role restorer, and publish that"),
        GrantError::Key(_) => Trouble::new(Exit::Refused, what),
        GrantError::Sites(_)
        | GrantError::Wrap(_)
        | GrantError::Sign(_)
        | GrantError::Record(_)
        | GrantError::Entropy(_) => Trouble::failed(what),
    }
    .source(error)
}

/// What was given.
#[derive(Serialize)]
struct Given {
    dry_run: bool,
    grant: Option<String>,
    recipient: String,
    snapshots: Vec<Named>,
    runs: usize,
    until: Option<String>,
    /// Other snapshots that the same keys open.
    also_open: Vec<Also>,
    sites: usize,
    file: Option<String>,
    log: Option<Logged>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Named {
    snapshot: String,
    dataset: String,
    finished: String,
}

#[derive(Serialize)]
struct Also {
    snapshot: String,
    dataset: String,
    finished: String,
    whole: bool,
}

impl Given {
    fn of(granted: &Granted, meant: &[&Snapshot], arguments: &Give) -> Self {
        let also = |also: &AlsoOpen| Also {
            snapshot: also.snapshot.head.to_hex(),
            dataset: also.snapshot.name.clone(),
            finished: format::rfc3339(also.snapshot.finished),
            whole: also.whole,
        };
        let named = |snapshot: &&Snapshot| Named {
            snapshot: snapshot.info.head.to_hex(),
            dataset: snapshot.info.name.clone(),
            finished: format::rfc3339(snapshot.info.finished),
        };
        let written = |path: &PathBuf| path.display().to_string();
        Self {
            dry_run: arguments.dry_run,
            grant: (!arguments.dry_run).then(|| Tag::of(&granted.object).to_string()),
            recipient: granted.grant.recipient.id().to_hex(),
            snapshots: meant.iter().map(named).collect(),
            runs: granted.grant.runs.len(),
            until: granted.grant.until.map(format::rfc3339),
            also_open: granted.also_open.iter().map(also).collect(),
            sites: granted.sites,
            file: arguments.out.as_ref().filter(|_| !arguments.dry_run).map(written),
            log: granted.log.as_ref().map(Logged::of),
            warnings: granted.troubles.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Report for Given {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let deed = if self.dry_run { "would get" } else { "gets" };
        let runs = format::count(self.runs as u64, "run key");
        writeln!(out, "{} {deed} {runs}, which open:", self.recipient)?;
        for snapshot in &self.snapshots {
            let Named {
                snapshot,
                dataset,
                finished,
            } = snapshot;
            writeln!(
                out,
                "  {} {} of {finished}",
                snapshot.get(..8).unwrap_or(snapshot),
                format::plain(dataset)
            )?;
        }
        if !self.also_open.is_empty() {
            writeln!(out, "The same keys open, though nobody asked for it:")?;
        }
        for also in &self.also_open {
            let Also {
                snapshot,
                dataset,
                finished,
                whole,
            } = also;
            let part = if *whole { "all" } else { "parts" };
            writeln!(
                out,
                "  {part} of {} {} of {finished}",
                snapshot.get(..8).unwrap_or(snapshot),
                format::plain(dataset)
            )?;
        }
        if let Some(until) = &self.until {
            writeln!(out, "Meant to be used until {until}; nothing closes afterwards.")?;
        }
        for warning in &self.warnings {
            writeln!(out, "Warning: {}", format::plain(warning))?;
        }
        if let Some(why) = self.log.as_ref().and_then(|log| log.not_yet.as_ref()) {
            writeln!(out, "Warning: it is in no log: {}", format::plain(why))?;
        }
        if let Some(grant) = &self.grant {
            writeln!(out, "Grant {grant} is at {}", format::count(self.sites as u64, "site"))?;
        }
        match &self.file {
            Some(file) => writeln!(out, "and in {file}"),
            None => Ok(()),
        }
    }
}

fn list(arguments: &List, world: &mut World) -> Result<Exit, Trouble> {
    let Public { archive, edge, .. } = open_public(&arguments.sites, arguments.archive, world)?;
    let (grants, troubles) = edge.block_on(grant::all(&archive));
    for trouble in troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    let mut listed: Vec<Listed> = grants
        .iter()
        .map(|(tag, (signer, grant))| Listed::of(*tag, *signer, grant, &archive))
        .collect();
    listed.sort_by(|left, right| (&right.given, &right.grant).cmp(&(&left.given, &left.grant)));
    let columns = [
        words("GRANT"),
        words("GIVEN"),
        words("UNTIL"),
        words("RECIPIENT"),
        words("RESTORER"),
        figures("SNAPSHOTS"),
        figures("RUNS"),
    ];
    world.output.table(&columns, &listed, |grant| {
        let short = |id: &String| id.chars().take(16).collect::<String>();
        vec![
            grant.grant.clone(),
            grant.given.clone(),
            grant.until.clone().unwrap_or_else(|| "-".to_owned()),
            short(&grant.recipient),
            match grant.restorer_revoked {
                false => short(&grant.restorer),
                true => format!("{} (revoked)", short(&grant.restorer)),
            },
            grant.snapshots.len().to_string(),
            grant.runs.to_string(),
        ]
    })?;
    Ok(Exit::Done)
}

/// A grant at the sites.
#[derive(Serialize)]
struct Listed {
    grant: String,
    given: String,
    until: Option<String>,
    recipient: String,
    restorer: String,
    /// True when the newest charter revokes the restorer.
    restorer_revoked: bool,
    charter_version: u32,
    snapshots: Vec<String>,
    runs: usize,
}

impl Listed {
    fn of(tag: Tag, signer: KeyId, grant: &Grant, archive: &Archive) -> Self {
        Self {
            grant: tag.to_string(),
            given: format::rfc3339(grant.created),
            until: grant.until.map(format::rfc3339),
            recipient: grant.recipient.id().to_hex(),
            restorer: signer.to_hex(),
            restorer_revoked: archive.charter().revocation(signer).is_some(),
            charter_version: grant.charter_version,
            snapshots: grant.heads.iter().map(exclave_model::RecordHash::to_hex).collect(),
            runs: grant.runs.len(),
        }
    }
}
