//! `exclave log verify`: what the sites show of logs, or what a file says of one.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_engine::{
    archive::history,
    log::{Evidence, LogFinding, check_proof, evidence::EVIDENCE_BYTES_MAX, hash_of_file},
};
use exclave_log::proof_file::PROOF_FILE_BYTES_MAX;
use exclave_model::{Anchor, CharterFile, Charters, charter::CHARTER_FILE_BYTES_MAX, limit::RECORD_BYTES_MAX};
use serde::Serialize;

use super::{PublicArguments, Read};
use crate::{
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
    private_file,
};

/// `log verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: a proof that was handed over, without any network
  exclave log verify head.tlog-proof --charter-file charter.exclave --archive HEX

Exit codes: 0 all is as it should be, 3 findings, 5 two histories were signed, or a file proves nothing.")]
pub struct Arguments {
    /// A proof (.tlog-proof), or evidence of a fork, to be checked instead of the sites
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The proof must be about this record
    #[arg(long, value_name = "FILE", requires = "file")]
    record: Option<PathBuf>,
    /// Take the charter from this file: nothing is asked of any site
    #[arg(long, value_name = "FILE", requires = "file")]
    charter_file: Option<PathBuf>,
    /// Keep evidence of forks in this folder
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    evidence: Option<PathBuf>,
    #[command(flatten)]
    public: PublicArguments,
}

pub(super) fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    match &arguments.file {
        Some(file) => run_file(file, arguments, world),
        None => run_sites(arguments, world),
    }
}

/// What the sites show.
#[derive(Serialize)]
struct Verified {
    logs: usize,
    entries: u64,
    heads: usize,
    findings: Vec<Told>,
}

#[derive(Serialize)]
struct Told {
    kind: &'static str,
    log: Option<String>,
    detail: String,
    /// Where the evidence was kept.
    evidence: Option<String>,
}

fn run_sites(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let read = Read::of(&arguments.public, world)?;
    let (mut findings, mut forked) = (Vec::new(), false);
    for (log, finding) in read.logs.findings() {
        forked |= finding.is_fork();
        let evidence = match (finding, &arguments.evidence) {
            (
                LogFinding::Fork {
                    evidence: Some(evidence),
                    ..
                },
                Some(folder),
            ) => Some(keep(evidence, folder)?),
            _ => None,
        };
        findings.push(Told {
            kind: finding.kind(),
            log: log.map(|log| log.origin()),
            detail: finding.to_string(),
            evidence,
        });
    }
    let exit = match (forked, findings.is_empty()) {
        (true, _) => Exit::Refused,
        (false, false) => Exit::Findings,
        (false, true) => Exit::Done,
    };
    world.output.report(&Verified {
        logs: read.logs.logs.len(),
        entries: read.logs.logs.iter().map(|log| log.entries.len() as u64).sum(),
        heads: read.survey.found.len(),
        findings,
    })?;
    Ok(exit)
}

/// Writes evidence under a name that its bytes give it.
fn keep(evidence: &Evidence, folder: &Path) -> Result<String, Trouble> {
    let cannot = || Trouble::failed(format!("the evidence can't be kept in {}", folder.display()));
    let bytes = serde_json::to_vec_pretty(evidence).because(cannot)?;
    std::fs::create_dir_all(folder).because(cannot)?;
    let path = folder.join(format!("log-fork-{}.json", exclave_model::Tag::of(&bytes)));
    if path.symlink_metadata().is_err() {
        private_file::create(&path, &bytes, "evidence")?;
    }
    Ok(path.display().to_string())
}

impl Report for Verified {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let logs = format::count(self.logs as u64, "log");
        let entries = format::entries(self.entries);
        writeln!(
            out,
            "{logs} with {entries}, held against {}",
            format::count(self.heads as u64, "head")
        )?;
        for finding in &self.findings {
            writeln!(out, "{}: {}", finding.kind, format::plain(&finding.detail))?;
            if let Some(log) = &finding.log {
                writeln!(out, "  in {log}")?;
            }
            if let Some(file) = &finding.evidence {
                writeln!(out, "  evidence: {file}")?;
            }
        }
        match self.findings.is_empty() {
            true => writeln!(
                out,
                "Every checkpoint leads to the next, and every head is where it should be."
            ),
            false => Ok(()),
        }
    }
}

/// What a file proves.
#[derive(Serialize)]
struct Proven {
    what: &'static str,
    log: String,
    role: String,
    /// True when the newest charter that was at hand revokes the log's key.
    revoked: bool,
    kind: Option<&'static str>,
    hash: Option<String>,
    index: Option<u64>,
    size: Option<u64>,
}

fn run_file(path: &Path, arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let bytes = private_file::read_public(path, PROOF_FILE_BYTES_MAX.max(EVIDENCE_BYTES_MAX), "proof")?;
    let (anchor, charters) = charters(arguments, world)?;
    let refused = || Trouble::new(Exit::Refused, format!("{} proves nothing", path.display()));
    if let Ok(evidence) = Evidence::from_bytes(&bytes) {
        let log = evidence.log().filter(|log| log.is_of(anchor)).ok_or_else(refused)?;
        let held = charters
            .iter()
            .rev()
            .find_map(|charter| charter.keys().find(|(_, key)| key.id() == log.key));
        let (role, key) = held.ok_or_else(refused)?;
        evidence.check(key).because(refused)?;
        world.output.report(&Proven {
            what: "fork",
            log: log.origin(),
            role: role.to_string(),
            revoked: charters.newest().revocation(log.key).is_some(),
            kind: None,
            hash: None,
            index: None,
            size: None,
        })?;
        return Ok(Exit::Done);
    }
    let proof = check_proof(&bytes, anchor, &charters).because(refused)?;
    if let Some(record) = &arguments.record {
        let bytes = private_file::read_public(record, RECORD_BYTES_MAX, "record")?;
        if hash_of_file(&bytes) != proof.entry.hash {
            return Err(refused().hint(format!("it is about another record than {}", record.display())));
        }
    }
    world.output.report(&Proven {
        what: "entry",
        log: proof.log.origin(),
        role: proof.role.to_string(),
        revoked: proof.revoked,
        kind: Some(proof.entry.kind.as_str()),
        hash: Some(proof.entry.hash.to_hex()),
        index: Some(proof.index),
        size: Some(proof.size),
    })?;
    Ok(Exit::Done)
}

/// The charters that say whose keys are whose: from a file, else from the sites.
fn charters(arguments: &Arguments, world: &World) -> Result<(Anchor, Charters), Trouble> {
    let Some(path) = &arguments.charter_file else {
        let (_, archive, _) = arguments.public.open(world)?;
        return Ok((archive.anchor, archive.charters));
    };
    let anchor = arguments.public.anchor(world)?;
    let bytes = private_file::read_public(path, CHARTER_FILE_BYTES_MAX, "charter file")?;
    let refused = || Trouble::new(Exit::Refused, format!("{} does not lead to the anchor", path.display()));
    let file = CharterFile::from_bytes(&bytes).because(refused)?;
    let (charters, _) = history(anchor, &file.charters, None).ok_or_else(refused)?;
    Ok((anchor, charters))
}

impl Report for Proven {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match (self.kind, &self.hash, self.index, self.size) {
            (Some(kind), Some(hash), Some(index), Some(size)) => {
                writeln!(out, "{kind} {hash} is entry {index} of {size} in {}", self.log)?;
            }
            _ => writeln!(out, "The key signed two histories of {}", self.log)?,
        }
        writeln!(out, "The log is that of a {}.", self.role)?;
        match self.revoked {
            true => writeln!(out, "Warning: the newest charter at hand revokes its key."),
            false => Ok(()),
        }
    }
}
