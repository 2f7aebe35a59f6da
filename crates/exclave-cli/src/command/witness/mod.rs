//! `exclave witness init|run|ask`: the service that an ally operates, and whoever asks it.
//!
//! A witness serves one archive, with a key and a state folder of its own. `init` ties the three together for good: the key's file then
//! names the archive, so that a key whose state was lost isn't begun anew with by accident.

pub mod ask;
mod http;
mod run;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use exclave_engine::{
    charter::read_history,
    witness::{Store, StoreError, verifier_keys},
};
use exclave_model::{Anchor, CharterFile, Charters, charter::CHARTER_FILE_BYTES_MAX};
use serde::Serialize;

use super::World;
use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    keys,
    output::Report,
    private_file, surroundings,
};

/// `witness ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the state of a new witness of one archive
    Init(Init),
    /// Cosign checkpoints over HTTP, as C2SP's tlog-witness says
    Run(run::Run),
    /// Ask witnesses to cosign the logs as the sites show them, now and whoever asks; needs no key
    Ask(Box<ask::Ask>),
}

/// `witness init`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  exclave key generate --role witness --name lu.example/w --out witness.key --public witness.pub
  exclave witness init --key witness.key --state-dir /var/lib/exclave-witness --archive HEX
  exclave witness run --key witness.key --state-dir /var/lib/exclave-witness --charter embassy.charter")]
pub struct Init {
    /// The witness's key, made with `key generate --role witness` and not used before
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The folder for what the witness must not forget; make no copy of it that could come back
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// The archive, as its owner gave it on paper
    #[arg(long, value_name = "HEX")]
    archive: Anchor,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    match command {
        Command::Init(arguments) => init(arguments, world),
        Command::Run(arguments) => run::run(arguments, world),
        Command::Ask(arguments) => ask::ask(arguments, world),
    }
}

fn init(arguments: &Init, world: &mut World) -> Result<Exit, Trouble> {
    let shown = arguments.key.display();
    let file = keys::read(&arguments.key)?;
    let key = file
        .open_cosigning()
        .because(|| Trouble::usage(format!("{shown} is no witness's key with its secret")))?;
    if let Some(anchor) = file.archive() {
        return Err(Trouble::new(
            Exit::Refused,
            format!("the key in {shown} is that of a witness of archive {anchor} already"),
        )
        .hint(
            "bring its state folder back from a backup (run-book, \"The state is lost\"); when there is none, make a new key \
             and have the owner's charter name it",
        ));
    }
    // The key first: a crash between the two leaves a key that begins nothing, and no state that could forget.
    keys::set_archive(&arguments.key, arguments.archive)?;
    Store::create(&arguments.state_dir, arguments.archive, key.public().id()).map_err(state)?;
    let verifier_keys = verifier_keys(key.public()).because(|| Trouble::failed("the key's name is none"))?;
    world.output.report(&Made {
        state_dir: arguments.state_dir.display().to_string(),
        archive: arguments.archive.to_hex(),
        name: key.public().name.clone(),
        key: key.public().id().to_hex(),
        verifier_keys: verifier_keys.map(|key| key.to_string()).to_vec(),
    })?;
    Ok(Exit::Done)
}

/// What keeps a witness from its state, with what to do about it.
fn state(error: StoreError) -> Trouble {
    let hint = match &error {
        StoreError::None(_) => {
            "`exclave witness init` makes the state of a new witness; a lost one is brought back from a backup (run-book)"
        }
        StoreError::Forgotten { .. } => {
            "bring the state folder back from a backup (run-book): a witness that forgets could vouch for two histories"
        }
        StoreError::OlderCharter { .. } => "give the newest charter file that the owner published",
        StoreError::Other { .. } => "each witness has a key and a state folder of its own",
        StoreError::There(_) => "it has been made before: `exclave witness run`",
        StoreError::Local(_) => "nothing is cosigned until its state can be read and written",
    };
    Trouble::new(Exit::Refused, "the witness has no state that it could trust")
        .hint(hint)
        .source(error)
}

/// The charters of a file whose first version has that hash.
fn charters(path: &Path, anchor: Anchor) -> Result<Charters, Trouble> {
    let shown = path.display();
    let bytes = private_file::read_public(path, CHARTER_FILE_BYTES_MAX, "charter file")?;
    let file = CharterFile::from_bytes(&bytes).because(|| Trouble::usage(format!("{shown} is no charter file")))?;
    let history = read_history(&file.charters)
        .map_err(|error| Trouble::new(Exit::Refused, format!("{shown} is not to be believed")).source(error))?;
    let history = history.ok_or_else(|| Trouble::usage(format!("{shown} holds no charter")))?;
    match history.anchor() == anchor {
        true => Ok(history),
        false => Err(Trouble::new(
            Exit::Refused,
            format!(
                "{shown} is the history of archive {}, not of {anchor}",
                history.anchor()
            ),
        )),
    }
}

/// A new witness.
#[derive(Serialize)]
struct Made {
    state_dir: String,
    archive: String,
    name: String,
    key: String,
    verifier_keys: Vec<String>,
}

impl Report for Made {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "witness {} of archive {}, state in {}",
            self.name, self.archive, self.state_dir
        )?;
        writeln!(out, "key {}", self.key)?;
        self.verifier_keys
            .iter()
            .try_for_each(|key| writeln!(out, "verifier key {key}"))
    }
}
