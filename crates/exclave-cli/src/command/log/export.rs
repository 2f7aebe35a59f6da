//! `exclave log export`: the logs as other programs read them, with all tiles and a `checkpoint` that changes.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_log::{VerifierKey, pair};
use serde::Serialize;

use super::{PublicArguments, Read};
use crate::{
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
};

/// `log export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each log gets a folder of its own, KEY/LIFE below DIR, with `checkpoint` and `tile/` as C2SP tlog-tiles has them, and
`vkeys`, the log's keys as other programs want them. What is there already is brought up to date.")]
pub struct Arguments {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    public: PublicArguments,
}

/// What was written.
#[derive(Serialize)]
struct Exported {
    logs: Vec<One>,
}

#[derive(Serialize)]
struct One {
    folder: String,
    size: u64,
    files: usize,
    vkeys: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let read = Read::of(&arguments.public, world)?;
    let mut logs = Vec::new();
    for log in &read.logs.logs {
        let (Some((size, _)), Some(note), Some(key)) = (log.proven, log.proven_note(), log.owner_key(&read.archive))
        else {
            continue;
        };
        let folder = arguments
            .folder
            .join(log.id.key.to_hex())
            .join(log.id.incarnation.to_hex());
        let name = log.id.key_name().because(|| Trouble::failed("a log has no name"))?;
        let vkeys = pair::verifier_keys(&name, key).map(|key: VerifierKey| key.to_string());
        let tiles = log.tiles();
        for (path, bytes) in &tiles {
            write(&folder.join(path), bytes)?;
        }
        write(&folder.join("vkeys"), format!("{}\n", vkeys.join("\n")).as_bytes())?;
        // Last: what it speaks of is there.
        write(&folder.join("checkpoint"), &note.to_bytes())?;
        logs.push(One {
            folder: folder.display().to_string(),
            size,
            files: tiles.len() + 2,
            vkeys: vkeys.to_vec(),
        });
    }
    world.output.report(&Exported { logs })?;
    Ok(Exit::Done)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let cannot = || Trouble::failed(format!("{} can't be written", path.display()));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).because(cannot)?;
    }
    fs::write(path, bytes).because(cannot)
}

impl Report for Exported {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for One {
            folder, size, files, ..
        } in &self.logs
        {
            let (entries, files) = (format::entries(*size), format::count(*files as u64, "file"));
            writeln!(out, "{folder}: {entries}, {files}")?;
        }
        Ok(())
    }
}
