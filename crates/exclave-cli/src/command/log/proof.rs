//! `exclave log proof` and `log add`: that a record is in a log, as a file.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_engine::log::{hash_of_file, log_session};
use exclave_log::{EntryKind, LogEntry, LogProof};
use exclave_model::{DsseEnvelope, KeyId, RecordHash, Role, limit::RECORD_BYTES_MAX};
use serde::Serialize;

use super::{PublicArguments, Read};
use crate::{
    arguments::PassphraseArguments,
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    output::Report,
    private_file,
};

/// `log proof`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A record's hash, the first digits of one, or a file that holds it
    #[arg(value_name = "HASH|FILE")]
    what: String,
    /// Where the proof goes; a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    public: PublicArguments,
}

/// `log add`.
#[derive(Debug, Args)]
#[command(after_help = "\
An audit reads and writes nothing. Who signs reports and has credentials that put can have them logged all the same:
  exclave log add report.json --key auditor.key

The log is a new one, of this key, with this entry; it lies at every site that took it.")]
pub struct AddArguments {
    /// An audit's signed report
    #[arg(value_name = "REPORT")]
    report: PathBuf,
    /// The key that signed it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the proof goes; beside the report, ending in .tlog-proof, without
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(flatten)]
    public: PublicArguments,
}

/// A proof that was written.
#[derive(Serialize)]
struct Written {
    log: String,
    kind: &'static str,
    hash: String,
    index: u64,
    size: u64,
    /// Sites that hold the log.
    sites: usize,
    file: String,
}

impl Report for Written {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let (kind, hash, index, size) = (self.kind, &self.hash, self.index, self.size);
        writeln!(out, "{kind} {hash} is entry {index} of {size} in {}", self.log)?;
        writeln!(
            out,
            "At {}; the proof is in {}",
            format::count(self.sites as u64, "site"),
            self.file
        )
    }
}

pub(super) fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    refuse_present(&arguments.out)?;
    let wanted = Wanted::of(&arguments.what)?;
    let read = Read::of(&arguments.public, world)?;
    let mut hashes: Vec<RecordHash> = read
        .logs
        .logs
        .iter()
        .flat_map(|log| log.read_entries().map(|(_, entry)| entry.hash))
        .filter(|hash| wanted.fits(*hash))
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    let hash = match hashes.as_slice() {
        [one] => *one,
        [] => {
            return Err(
                Trouble::failed(format!("{} is in no log that the sites show", arguments.what)).hint(
                    "a commit is logged after it is done; the next `exclave replicate` makes up for what is missing",
                ),
            );
        }
        _ => return Err(Trouble::usage("several entries have a hash that begins so").hint("give more digits")),
    };
    let (log, entry, proof) = read
        .logs
        .proof(hash)
        .ok_or_else(|| Trouble::failed("the entries of its log were not shown"))?;
    let sites = log
        .proven
        .and_then(|state| log.checkpoints.get(&state))
        .map_or(0, |seen| seen.sites.len());
    finish(&proof, entry, sites, &arguments.out, world)
}

/// What is looked for.
enum Wanted {
    Hash(RecordHash),
    Prefix(String),
}

impl Wanted {
    fn of(text: &str) -> Result<Self, Trouble> {
        let digits = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match digits && !Path::new(text).exists() {
            true if text.len() < 8 => Err(Trouble::usage("eight digits of a hash at least, or a file")),
            true => Ok(Self::Prefix(text.to_ascii_lowercase())),
            false => Ok(Self::Hash(hash_of_file(&private_file::read_public(
                Path::new(text),
                RECORD_BYTES_MAX,
                "record",
            )?))),
        }
    }

    fn fits(&self, hash: RecordHash) -> bool {
        match self {
            Self::Hash(wanted) => *wanted == hash,
            Self::Prefix(prefix) => hash.to_hex().starts_with(prefix),
        }
    }
}

pub(super) fn add(arguments: &AddArguments, world: &mut World) -> Result<Exit, Trouble> {
    let out = arguments.out.clone().unwrap_or_else(|| {
        let mut name = arguments.report.as_os_str().to_owned();
        name.push(".tlog-proof");
        PathBuf::from(name)
    });
    refuse_present(&out)?;
    let bytes = private_file::read_public(&arguments.report, exclave_model::dsse::DSSE_BYTES_MAX, "report")?;
    let envelope = DsseEnvelope::from_bytes(&bytes)
        .because(|| Trouble::usage(format!("{} is no report", arguments.report.display())))?;
    let key = keys::open_signing(&arguments.key, Role::Auditor, &arguments.passphrase.source(), world)?;
    let signers: Vec<KeyId> = envelope.signatures.iter().map(|signature| signature.key).collect();
    if signers != [key.id()] {
        return Err(Trouble::new(Exit::Refused, "the report is not signed by this key")
            .hint("a log holds what its owner signed; name the key that signed the report"));
    }
    exclave_seal::signing::verify_dsse(&envelope, [key.public()])
        .because(|| Trouble::new(Exit::Refused, "the report's signature does not verify"))?;
    let (edge, archive, _) = arguments.public.open(world)?;
    if let Err(rule) = archive.charter().permit(key.id(), exclave_model::Act::Report) {
        return Err(
            Trouble::new(Exit::Refused, "the key may not sign reports").source(io::Error::other(rule.to_string()))
        );
    }
    let entry = LogEntry::new(EntryKind::Report, hash_of_file(&bytes));
    let logged = log_session(&archive, &key, &[entry], &edge.surroundings).because(|| {
        Trouble::failed("the report was not logged").hint("the credentials must be able to put; reading is not enough")
    })?;
    for trouble in &logged.troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    let proof = logged
        .proof(entry.kind, entry.hash)
        .ok_or_else(|| Trouble::failed("the proof can't be made"))?;
    finish(&proof, entry, logged.sites, &out, world)
}

fn refuse_present(path: &Path) -> Result<(), Trouble> {
    match path.symlink_metadata() {
        Ok(_) => Err(Trouble::usage(format!("{} is there already", path.display()))),
        Err(_) => Ok(()),
    }
}

fn finish(proof: &LogProof, entry: LogEntry, sites: usize, out: &Path, world: &mut World) -> Result<Exit, Trouble> {
    private_file::create(out, proof.to_bytes(), "proof")?;
    world.output.report(&Written {
        log: proof.checkpoint.checkpoint.origin.clone(),
        kind: entry.kind.as_str(),
        hash: entry.hash.to_hex(),
        index: proof.index,
        size: proof.checkpoint.checkpoint.size,
        sites,
        file: out.display().to_string(),
    })?;
    Ok(Exit::Done)
}
