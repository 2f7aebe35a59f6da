//! `exclave witness ask`: anyone who may read the logs can have them cosigned again; and what came of asking, for reports.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_engine::{
    Archive, Surroundings,
    log::read_logs,
    witness::{Asking, Cosignatures, collect},
};
use exclave_log::SignedCheckpoint;
use serde::Serialize;

use crate::{
    command::{World, audit::PublicArguments},
    config::asking,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
    private_file,
};

/// `witness ask`.
#[derive(Debug, Args)]
#[command(after_help = "The witnesses are the [[witness]] tables of the configuration.

Exit codes: 0 a quorum vouches for every writer's log, 3 not, 6 a witness knows more than the sites show.")]
pub struct Ask {
    /// Keep the cosigned checkpoints in this folder; `restore --checkpoint FILE` takes them
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Put nothing at the sites
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    public: PublicArguments,
}

/// What witnesses said of one log.
#[derive(Serialize)]
struct Asked {
    origin: String,
    #[serde(flatten)]
    cosigned: Cosigned,
    saved: Option<String>,
}

#[derive(Serialize)]
struct AllAsked {
    logs: Vec<Asked>,
}

/// What came of asking witnesses, for reports.
#[derive(Serialize)]
pub struct Cosigned {
    /// Entries of the log.
    size: u64,
    /// Who did.
    cosigned: Vec<String>,
    /// Who did not, and why.
    without: Vec<Without>,
    /// Whether the charter's quorum vouches for it.
    pub quorum: bool,
    /// How many that count do, in how many nations.
    counting: u32,
    nations: u32,
    /// Sites that hold the cosigned checkpoint.
    sites: usize,
    /// Those who know another history, or a longer one.
    pub alarms: Vec<String>,
}

#[derive(Serialize)]
struct Without {
    witness: String,
    reason: String,
}

impl Cosigned {
    /// As the engine says.
    pub fn of(found: &Cosignatures) -> Self {
        Self {
            size: found.checkpoint.checkpoint.size,
            cosigned: found.by.clone(),
            without: found
                .without
                .iter()
                .map(|(witness, why)| Without {
                    witness: witness.clone(),
                    reason: format::plain(&why.to_string()),
                })
                .collect(),
            quorum: found.is_quorum,
            counting: found.vouchers.counting,
            nations: found.vouchers.nations,
            sites: found.sites,
            alarms: found.alarms().collect(),
        }
    }

    /// One line for people, and one for each witness that didn't.
    pub fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let asked = self.cosigned.len() + self.without.len();
        let quorum = if self.quorum {
            "the charter's quorum"
        } else {
            "no quorum"
        };
        writeln!(
            out,
            "Log of {} cosigned by {} of {}: {quorum}",
            format::entries(self.size),
            self.cosigned.len(),
            if asked == 1 {
                "1 witness".to_owned()
            } else {
                format!("{asked} witnesses")
            },
        )?;
        self.without
            .iter()
            .try_for_each(|without| writeln!(out, "  {}: {}", without.witness, without.reason))
    }
}

/// Asks, and puts what was signed at the sites.
pub fn cosigned(
    archive: &Archive,
    checkpoint: &SignedCheckpoint,
    entries: &[Vec<u8>],
    some: &[Asking],
    surroundings: &Surroundings,
) -> Cosigned {
    let mut found = collect::ask(archive, checkpoint, entries, some, surroundings);
    found.put(archive, surroundings);
    Cosigned::of(&found)
}

/// Asks about every log that the sites show.
pub fn ask(arguments: &Ask, world: &mut World) -> Result<Exit, Trouble> {
    let config = world.config()?;
    let (edge, archive, _) = arguments.public.open(world)?;
    let (some, unknown) = asking(&config.witnesses, archive.charter());
    for name in unknown {
        world
            .output
            .note(format!("Warning: the charter names no witness {name}"));
    }
    if some.is_empty() {
        return Err(Trouble::usage("there is no witness to ask").hint("name those of the charter under [[witness]]"));
    }
    let logs = edge.block_on(read_logs(&archive));
    let mut asked = Vec::new();
    let mut exit = Exit::Done;
    for log in &logs.logs {
        let Some(note) = log.proven_note() else { continue };
        let mut found = collect::ask(&archive, note, &log.entries, &some, &edge.surroundings);
        if !arguments.read_only {
            found.put(&archive, &edge.surroundings);
        }
        let cosigned = Cosigned::of(&found);
        let alarmed = if cosigned.alarms.is_empty() {
            Exit::Done
        } else {
            Exit::Stale
        };
        exit = exit
            .and(alarmed)
            .and(if cosigned.quorum { Exit::Done } else { Exit::Findings });
        let saved = match &arguments.save {
            Some(folder) if !found.by.is_empty() => Some(save(folder, &found.checkpoint)?),
            _ => None,
        };
        asked.push(Asked {
            origin: log.id.origin(),
            cosigned,
            saved,
        });
    }
    world.output.report(&AllAsked { logs: asked })?;
    Ok(exit)
}

fn save(folder: &std::path::Path, checkpoint: &SignedCheckpoint) -> Result<String, Trouble> {
    let cannot = || Trouble::failed(format!("a checkpoint can't be kept in {}", folder.display()));
    std::fs::create_dir_all(folder).because(cannot)?;
    let found = &checkpoint.checkpoint;
    let name = found.origin.rsplit('/').next().unwrap_or("log").to_owned();
    let path = folder.join(format!("{name}.{}.checkpoint", found.size));
    private_file::replace_public(&path, checkpoint.to_bytes(), "checkpoint")?;
    Ok(path.display().to_string())
}

impl Report for AllAsked {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for log in &self.logs {
            writeln!(out, "{}", log.origin)?;
            log.cosigned.text(out)?;
            for alarm in &log.cosigned.alarms {
                writeln!(out, "ALARM: {}", format::plain(alarm))?;
            }
            if let Some(saved) = &log.saved {
                writeln!(out, "kept in {saved}")?;
            }
        }
        Ok(())
    }
}
