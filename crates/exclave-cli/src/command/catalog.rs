//! `exclave catalog show|rebuild`: the agent's memory, which can be lost.

use std::{
    error::Error as _,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use exclave_catalog::{Catalog, CatalogError};
use exclave_engine::{
    StateError,
    rebuild::{DatasetOrigin, RebuildError, RebuildFinding, RebuildReport, RebuiltDataset, rebuild},
};
use exclave_model::KeyId;
use serde::Serialize;

use super::World;
use crate::{
    agent::{Agent, catalog_trouble, open_state},
    arguments::{IdentityArguments, PassphraseArguments},
    error::{Context as _, Trouble},
    exit::Exit,
    format, interrupt, keys,
    output::Report,
    progress::Shown,
    surroundings::{self, Edge},
};

/// `catalog`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what the catalog holds; asks no site
    Show,
    /// Refill the catalog from the sites after it was lost
    Rebuild(RebuildArguments),
}

/// `catalog rebuild`.
#[derive(Debug, Args)]
#[command(after_help = "\
Deleting the catalog costs only time; no restore ever needs it. With --identity the dedup index is refilled too, and
datasets that the agent has forgotten come back, so that the next replicate sends only what is new. It reads every file
once: what files looked like is known to nobody else. Nothing is taken out of a catalog that is sound; one that is damaged is
kept under another name, and a new one filled.")]
pub struct RebuildArguments {
    #[command(flatten)]
    identity: IdentityArguments,
    /// Go on with the datasets of a revoked writer too, whose key begins so; may be repeated
    #[arg(long, value_name = "HEX")]
    successor_of: Vec<String>,
    /// Keep the catalog that is there under another name, sound or not, and fill a new one
    #[arg(long)]
    anew: bool,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// Shows or rebuilds it.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    match command {
        Command::Show => show(world),
        Command::Rebuild(arguments) => run_rebuild(arguments, world),
    }
}

fn show(world: &mut World) -> Result<Exit, Trouble> {
    let config = world.config()?;
    let state = open_state(&config, &world.environment)?;
    let edge = Edge::start(config.threads)?;
    let path = state.catalog_path();
    let (stats, debts) = edge
        .block_on(async {
            let catalog = Catalog::open(&path).await?;
            let read = (catalog.stats().await?, catalog.debt_counts().await?);
            catalog.close().await;
            Ok(read)
        })
        .map_err(catalog_trouble)?;
    let tables = stats.tables.iter().map(|table| TableSize {
        table: table.table,
        rows: table.rows,
        bytes: table.bytes,
    });
    let debts = debts.into_iter().map(|(site, shards)| Owed {
        site_id: site.to_hex(),
        shards,
    });
    world.output.report(&CatalogSize {
        catalog: path.display().to_string(),
        file_bytes: stats.file_bytes,
        tables: tables.collect(),
        owed: debts.collect(),
    })?;
    Ok(Exit::Done)
}

fn run_rebuild(arguments: &RebuildArguments, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let config = world.config()?;
    let edge = Edge::start(config.threads)?;
    interrupt::listen(&edge)?;
    let mut aside = None;
    let agent = Agent::open_with(&config, &world.environment, &edge, |path| {
        let (catalog, moved) = open_sound(path, arguments.anew, &edge)?;
        aside = moved;
        Ok(catalog)
    })?;
    for trouble in &agent.troubles {
        let text = format::plain(&trouble.to_string());
        world.output.note(format!("Warning: {text}"));
    }
    let predecessors = predecessors(&agent, &arguments.successor_of)?;
    if arguments.identity.is_empty() && !predecessors.is_empty() {
        return Err(Trouble::usage("--successor-of: a recovery identity is needed").hint("give --identity FILE"));
    }
    // The passphrase comes last: nobody should type it for a command that can't be.
    let opened = keys::open(
        &arguments.identity,
        None,
        agent.archive.charter().share_sets(),
        &arguments.passphrase.source(),
        world,
    )?;
    let elsewhere = opened.as_ref().and_then(|opened| Some((opened.archive?, &opened.from)));
    if let Some((other, from)) = elsewhere.filter(|(archive, _)| *archive != agent.archive.anchor) {
        return Err(Trouble::new(Exit::Refused, format!("{from}: of archive {other}")));
    }
    let identity = opened.map(|opened| opened.identity);
    let shown = Shown::begin(&world.output, &edge.surroundings.progress, "rebuilding");
    let rebuilt = rebuild(
        &agent.archive,
        &agent.state,
        &agent.catalog,
        identity.as_ref(),
        &predecessors,
        &edge.surroundings,
    );
    drop(shown);
    edge.block_on(agent.catalog.close());
    let report = rebuilt.map_err(failed)?;
    let clean = report.findings_total == 0 && report.site_troubles.is_empty() && agent.troubles.is_empty();
    world.output.report(&Rebuilt::of(&report, aside.as_deref()))?;
    Ok(if clean { Exit::Done } else { Exit::Findings })
}

/// Digits that a key must be named by, so that nobody names one by mistake.
const KEY_DIGITS_MIN: usize = 8;

/// Writers that the charter revokes and that this agent succeeds.
fn predecessors(agent: &Agent, named: &[String]) -> Result<Vec<KeyId>, Trouble> {
    let revoked = || {
        agent
            .archive
            .charter()
            .revocations()
            .iter()
            .map(|revocation| revocation.key)
    };
    named
        .iter()
        .map(|digits| {
            let found: Vec<KeyId> = revoked()
                .filter(|key| key.to_hex().starts_with(&digits.to_ascii_lowercase()))
                .collect();
            match found.as_slice() {
                _ if digits.len() < KEY_DIGITS_MIN => {
                    Err(Trouble::usage(format!("--successor-of {digits:?} is too short"))
                        .hint(format!("give at least {KEY_DIGITS_MIN} digits of the key's id")))
                }
                [one] => Ok(*one),
                several => Err(
                    Trouble::usage(format!("{} revoked keys begin with {digits}", several.len())).hint(
                        "`exclave charter show` lists them; only a writer that the charter revokes can be succeeded",
                    ),
                ),
            }
        })
        .collect()
}

/// Opens the catalog after a look at all of it. One that is damaged, or is none, is moved aside, and a new one made; so is
/// any when that is asked for.
fn open_sound(path: &Path, anew: bool, edge: &Edge) -> Result<(Catalog, Option<PathBuf>), Trouble> {
    let there = path.symlink_metadata().is_ok();
    if !(anew && there) {
        let opened = edge.block_on(async {
            let catalog = Catalog::open(path).await?;
            match catalog.verify().await {
                Ok(()) => Ok(catalog),
                Err(error) => {
                    catalog.close().await;
                    Err(error)
                }
            }
        });
        match opened {
            Ok(catalog) => return Ok((catalog, None)),
            Err(CatalogError::Damaged { .. } | CatalogError::NotACatalog { .. }) => {}
            Err(error) => return Err(catalog_trouble(error)),
        }
    }
    let aside = Catalog::move_aside(path)
        .because(|| Trouble::failed(format!("the catalog {} can't be moved aside", path.display())))?;
    let catalog = edge.block_on(Catalog::open(path)).map_err(catalog_trouble)?;
    Ok((catalog, Some(aside)))
}

fn failed(error: RebuildError) -> Trouble {
    let what = "the catalog can't be rebuilt";
    let trouble = match &error {
        RebuildError::Interrupted { .. } => {
            Trouble::new(Exit::Interrupted, what).hint("run `exclave catalog rebuild` again; nothing is lost")
        }
        RebuildError::State(StateError::Local(_)) => {
            Trouble::failed(what).hint("a dataset can't be rebuilt while it is replicated")
        }
        RebuildError::Catalog(error) => {
            let trouble = Trouble::failed(what);
            match crate::agent::catalog_hint(error) {
                Some(hint) => trouble.hint(hint),
                None => trouble,
            }
        }
        RebuildError::State(_) | RebuildError::Local(_) | RebuildError::Survey(_) => Trouble::failed(what),
    };
    trouble.source(error)
}

/// What `catalog show` prints.
#[derive(Serialize)]
struct CatalogSize {
    catalog: String,
    file_bytes: u64,
    tables: Vec<TableSize>,
    owed: Vec<Owed>,
}

#[derive(Serialize)]
struct TableSize {
    table: &'static str,
    rows: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Owed {
    site_id: String,
    shards: u64,
}

impl Report for CatalogSize {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}: {}", self.catalog, format::bytes(self.file_bytes))?;
        for table in self.tables.iter().filter(|table| table.rows > 0) {
            let bytes = format::bytes(table.bytes);
            writeln!(out, "  {}: {}, {bytes}", table.table, format::count(table.rows, "row"))?;
        }
        for owed in &self.owed {
            let shards = format::count(owed.shards, "shard");
            writeln!(out, "Owed to site {}: {shards}", owed.site_id)?;
        }
        Ok(())
    }
}

/// What `catalog rebuild` prints.
#[derive(Serialize)]
struct Rebuilt {
    /// Where the catalog that was there is kept, when it was damaged or a new one was asked for.
    old_kept_as: Option<String>,
    datasets: Vec<RebuiltLine>,
    findings: Vec<String>,
    findings_total: u64,
    site_troubles: Vec<String>,
}

#[derive(Serialize)]
struct RebuiltLine {
    dataset: String,
    dataset_id: String,
    restored: bool,
    seq: u64,
    runs: u64,
    runs_left_out: u64,
    stripes: u64,
    stripes_left_out: u64,
    stripes_unread: u64,
    shards: u64,
    debt_shards: u64,
    chunks: u64,
}

impl RebuiltLine {
    fn of(dataset: &RebuiltDataset) -> Self {
        Self {
            dataset: dataset.name.clone(),
            dataset_id: dataset.id.to_hex(),
            restored: match dataset.origin {
                DatasetOrigin::Known => false,
                DatasetOrigin::Restored => true,
            },
            seq: dataset.seq,
            runs: dataset.runs,
            runs_left_out: dataset.runs_left_out,
            stripes: dataset.stripes,
            stripes_left_out: dataset.stripes_left_out,
            stripes_unread: dataset.stripes_unread,
            shards: dataset.shards,
            debt_shards: dataset.shards_owed,
            chunks: dataset.chunks,
        }
    }
}

impl Rebuilt {
    fn of(report: &RebuildReport, aside: Option<&Path>) -> Self {
        Self {
            old_kept_as: aside.map(|path| path.display().to_string()),
            datasets: report.datasets.iter().map(RebuiltLine::of).collect(),
            findings: report.findings.iter().map(told).collect(),
            findings_total: report.findings_total,
            site_troubles: report.site_troubles.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A finding with its causes.
fn told(finding: &RebuildFinding) -> String {
    let mut text = finding.to_string();
    let mut cause = finding.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl Report for Rebuilt {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(aside) = &self.old_kept_as {
            writeln!(out, "The old catalog is kept as {aside}")?;
        }
        if self.datasets.is_empty() {
            writeln!(out, "No dataset was rebuilt")?;
        }
        for line in &self.datasets {
            let restored = if line.restored {
                " (its secret was lost, too)"
            } else {
                ""
            };
            writeln!(
                out,
                "{}{restored}: {}, {}, {} as of snapshot {}",
                format::plain(&line.dataset),
                format::count(line.runs, "run"),
                format::count(line.stripes, "stripe"),
                format::count(line.chunks, "chunk"),
                line.seq
            )?;
            if line.runs_left_out + line.stripes_left_out + line.stripes_unread > 0 {
                writeln!(
                    out,
                    "  Left out: {}, {}; {} not in the index. What they hold is sent again",
                    format::count(line.runs_left_out, "run"),
                    format::count(line.stripes_left_out, "stripe"),
                    format::count(line.stripes_unread, "stripe")
                )?;
            }
            if line.debt_shards > 0 {
                let owed = format::count(line.debt_shards, "shard");
                writeln!(out, "  Not seen: {owed}; the next replicate looks for them and pays")?;
            }
        }
        for finding in &self.findings {
            writeln!(out, "  {}", format::plain(finding))?;
        }
        let shown = self.findings.len() as u64;
        if self.findings_total > shown {
            writeln!(out, "  .. and {} more", self.findings_total - shown)?;
        }
        self.site_troubles
            .iter()
            .try_for_each(|trouble| writeln!(out, "Site {}", format::plain(trouble)))
    }
}
