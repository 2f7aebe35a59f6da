//! `exclave witness run`: opens the state, listens, and ends on SIGTERM.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use exclave_engine::witness::{Keeper, KeeperError};
use exclave_log::{SignedCheckpoint, note::NOTE_BYTES_MAX};

use super::http::{self, Listen};
use crate::{
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    keys, private_file,
    surroundings::Edge,
};

/// `witness run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The witness's key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What the witness must not forget, made with `witness init`
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// The archive's history, from version 1 on: a charter file
    #[arg(long, value_name = "FILE")]
    charter: PathBuf,
    /// Listen here: an address with its port, or `unix:PATH`. TLS and names are a proxy's
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: Listen,
    /// Take over a checkpoint that this witness has cosigned and its state, brought back from a backup, has not; may be repeated
    #[arg(long, value_name = "FILE")]
    take_over: Vec<PathBuf>,
}

/// Runs until it is told to stop.
pub fn run(arguments: &Run, world: &World) -> Result<Exit, Trouble> {
    let shown = arguments.key.display();
    let file = keys::read(&arguments.key)?;
    let key = file
        .open_cosigning()
        .because(|| Trouble::usage(format!("{shown} is no witness's key with its secret")))?;
    let anchor = file.archive().ok_or_else(|| {
        Trouble::usage(format!("the key in {shown} belongs to no archive yet")).hint("`exclave witness init`")
    })?;
    let charters = super::charters(&arguments.charter, anchor)?;
    let keeper = Keeper::open(&arguments.state_dir, key, charters).map_err(closed)?;
    for path in &arguments.take_over {
        let bytes = private_file::read_public(path, NOTE_BYTES_MAX, "checkpoint")?;
        let checkpoint = SignedCheckpoint::parse(&bytes)
            .because(|| Trouble::usage(format!("{} is no checkpoint", path.display())))?;
        keeper.take_over(&checkpoint).map_err(closed)?;
    }
    let edge = Edge::start(None)?;
    let clock = Arc::clone(&edge.surroundings.clock);
    world.output.note(format!("{} logs are known", keeper.logs()));
    edge.block_on(http::serve(&arguments.listen, Arc::new(keeper), clock, &world.output))?;
    Ok(Exit::Done)
}

fn closed(error: KeeperError) -> Trouble {
    match error {
        KeeperError::Store(error) => super::state(error),
        error @ (KeeperError::NotOurs { .. } | KeeperError::Forked { .. }) => {
            Trouble::new(Exit::Refused, "a checkpoint can't be taken over").source(error)
        }
    }
}
