//! `exclave log show`: which logs there are.

use clap::Args;
use exclave_engine::log::LogView;
use exclave_log::EntryKind;
use serde::Serialize;

use super::{PublicArguments, Read};
use crate::{
    command::World,
    error::Trouble,
    exit::Exit,
    output::{figures, words},
};

/// `log show`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// List the entries of the logs whose owner's id begins so, instead of the logs
    #[arg(long, value_name = "HEX")]
    entries: Option<String>,
    #[command(flatten)]
    public: PublicArguments,
}

/// A log.
#[derive(Serialize)]
struct Line {
    key: String,
    incarnation: String,
    role: String,
    origin: String,
    /// Entries that lead to a signed checkpoint.
    size: u64,
    root: Option<String>,
    heads: usize,
    /// Sites that list the newest checkpoint.
    sites: usize,
    findings: usize,
}

impl Line {
    fn of(log: &LogView) -> Self {
        let newest = log.proven.and_then(|state| log.checkpoints.get(&state));
        Self {
            key: log.id.key.to_hex(),
            incarnation: log.id.incarnation.to_hex(),
            role: log.role.to_string(),
            origin: log.id.origin(),
            size: log.proven.map_or(0, |(size, _)| size),
            root: log.proven.map(|(_, root)| root.to_string()),
            heads: log
                .read_entries()
                .filter(|(_, entry)| entry.kind == EntryKind::Head)
                .count(),
            sites: newest.map_or(0, |seen| seen.sites.len()),
            findings: log.findings.len(),
        }
    }
}

/// An entry.
#[derive(Serialize)]
struct EntryLine {
    key: String,
    incarnation: String,
    index: u64,
    kind: &'static str,
    hash: String,
}

pub(super) fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let read = Read::of(&arguments.public, world)?;
    let short = |id: &str| id.chars().take(16).collect::<String>();
    if let Some(prefix) = &arguments.entries {
        let prefix = prefix.to_ascii_lowercase();
        let logs = read
            .logs
            .logs
            .iter()
            .filter(|log| log.id.key.to_hex().starts_with(&prefix));
        let lines = logs.flat_map(|log| {
            log.read_entries().map(|(index, entry)| EntryLine {
                key: log.id.key.to_hex(),
                incarnation: log.id.incarnation.to_hex(),
                index,
                kind: entry.kind.as_str(),
                hash: entry.hash.to_hex(),
            })
        });
        let lines: Vec<EntryLine> = lines.collect();
        let columns = [
            words("KEY"),
            words("LIFE"),
            figures("INDEX"),
            words("KIND"),
            words("HASH"),
        ];
        world.output.table(&columns, &lines, |line| {
            vec![
                short(&line.key),
                line.incarnation.chars().take(8).collect(),
                line.index.to_string(),
                line.kind.to_owned(),
                line.hash.clone(),
            ]
        })?;
        return Ok(Exit::Done);
    }
    let lines: Vec<Line> = read.logs.logs.iter().map(Line::of).collect();
    let columns = [
        words("KEY"),
        words("LIFE"),
        words("ROLE"),
        figures("ENTRIES"),
        figures("HEADS"),
        figures("SITES"),
        figures("FINDINGS"),
    ];
    world.output.table(&columns, &lines, |line| {
        vec![
            short(&line.key),
            line.incarnation.chars().take(8).collect(),
            line.role.clone(),
            line.size.to_string(),
            line.heads.to_string(),
            line.sites.to_string(),
            line.findings.to_string(),
        ]
    })?;
    Ok(Exit::Done)
}
