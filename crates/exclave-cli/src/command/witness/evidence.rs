//! `exclave witness evidence`: whether a file convicts a log's key, offline.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_engine::witness::{
    Evidence,
    evidence::{Claim, EVIDENCE_BYTES_MAX},
};
use exclave_model::Anchor;
use serde::Serialize;

use crate::{
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    output::Report,
    private_file,
};

/// `witness evidence`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The file
    file: PathBuf,
    /// The archive's history: a charter file
    #[arg(long, value_name = "FILE")]
    charter: PathBuf,
    /// The archive, as its owner gave it on paper
    #[arg(long, value_name = "HEX")]
    archive: Anchor,
}

/// Verifies it: exit code 3 when it holds, since then something is wrong with the archive; 5 when it doesn't.
pub fn verify(arguments: &Verify, world: &mut World) -> Result<Exit, Trouble> {
    let shown = arguments.file.display();
    let bytes = private_file::read_public(&arguments.file, EVIDENCE_BYTES_MAX, "file of evidence")?;
    let refused = || Trouble::new(Exit::Refused, format!("{shown} shows nothing"));
    let evidence = Evidence::parse(&bytes).because(refused)?;
    let charters = super::charters(&arguments.charter, arguments.archive)?;
    let found = evidence.verify(&charters).because(refused)?;
    world.output.report(&Shown {
        claim: found.claim.as_str(),
        key: found.key.to_hex(),
        role: found.role.to_string(),
        origin: evidence.first.checkpoint.origin.clone(),
        sizes: std::iter::once(&evidence.first)
            .chain(&evidence.second)
            .map(|note| note.checkpoint.size)
            .collect(),
        says: match found.claim {
            Claim::Fork => {
                "The holder of this key has signed two histories that can't both be true. The key is to be revoked."
            }
            Claim::Rollback => {
                "The first checkpoint is signed; that the sites showed less is the word of whoever kept this file."
            }
        },
    })?;
    Ok(Exit::Findings)
}

/// What evidence shows.
#[derive(Serialize)]
struct Shown {
    claim: &'static str,
    key: String,
    role: String,
    origin: String,
    sizes: Vec<u64>,
    says: &'static str,
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let sizes: Vec<String> = self.sizes.iter().map(u64::to_string).collect();
        writeln!(out, "{} of the log of {} {}", self.claim, self.role, self.key)?;
        writeln!(out, "origin {}, trees of {} leaves", self.origin, sizes.join(" and "))?;
        writeln!(out, "{}", self.says)
    }
}
