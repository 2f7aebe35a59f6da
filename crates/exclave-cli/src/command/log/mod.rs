//! `exclave log ..`: the transparency logs, for everyone who has the anchor.

mod export;
mod proof;
mod show;
mod verify;

use clap::Subcommand;
use exclave_engine::{
    Archive, LogStanding,
    log::{Logs, read_logs},
    survey::{Survey, survey},
};
use serde::Serialize;

use super::{World, audit::PublicArguments, witness::ask::Cosigned};
use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    surroundings::Edge,
};

/// `log ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the logs that the sites show
    Show(Box<show::Arguments>),
    /// Hold all logs against the heads and against each other; or check a proof, or evidence of a fork
    Verify(Box<verify::Arguments>),
    /// Write the proof that a record is in a log
    Proof(Box<proof::Arguments>),
    /// Put a record of your own, such as an audit's report, into a log of its own at the sites
    Add(Box<proof::AddArguments>),
    /// Write all logs to a folder as other programs want them (C2SP tlog-tiles)
    Export(Box<export::Arguments>),
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    match command {
        Command::Show(arguments) => show::run(arguments, world),
        Command::Verify(arguments) => verify::run(arguments, world),
        Command::Proof(arguments) => proof::run(arguments, world),
        Command::Add(arguments) => proof::add(arguments, world),
        Command::Export(arguments) => export::run(arguments, world),
    }
}

/// An archive with all that its sites show of logs.
struct Read {
    /// Sites live as long as what drives them.
    _edge: Edge,
    archive: Archive,
    survey: Survey,
    logs: Logs,
}

impl Read {
    fn of(public: &PublicArguments, world: &World) -> Result<Self, Trouble> {
        let (edge, archive, _) = public.open(world)?;
        let survey = survey(&archive, &edge.surroundings)
            .because(|| Trouble::failed(format!("archive {} can't be read", archive.anchor)))?;
        let mut logs = edge.block_on(read_logs(&archive));
        logs.compare(&archive, &survey);
        for trouble in survey.troubles.iter().chain(&logs.troubles) {
            world
                .output
                .note(format!("Warning: {}", format::plain(&trouble.to_string())));
        }
        Ok(Self {
            _edge: edge,
            archive,
            survey,
            logs,
        })
    }
}

/// Whether something is in its signer's log, for reports.
#[derive(Serialize)]
pub struct Logged {
    /// Entries of the log.
    pub size: Option<u64>,
    /// Sites that hold it.
    pub sites: usize,
    /// Why it is not in it.
    pub not_yet: Option<String>,
    /// What witnesses said of it, where any were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<Cosigned>,
}

impl Logged {
    /// As the engine says.
    pub fn of(standing: &LogStanding) -> Self {
        match standing {
            LogStanding::Logged { size, sites } => Self {
                size: Some(*size),
                sites: *sites,
                not_yet: None,
                witnesses: None,
            },
            LogStanding::NotYet(why) => Self {
                size: None,
                sites: 0,
                not_yet: Some(why.clone()),
                witnesses: None,
            },
        }
    }
}
