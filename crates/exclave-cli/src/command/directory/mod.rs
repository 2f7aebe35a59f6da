//! `exclave directory new|show|sign|publish`: names and contacts, sealed to those whom its makers chose.
//!
//! Everything public calls datasets and sites by ids. The directory says what they are called at home, whose they are, whom to
//! ring, and in which order they come back. It is written as TOML, sealed and signed by roots, as many as a charter takes,
//! and lies at every site; nobody but its recipients reads it.

mod draft;
mod names;
mod sign;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use exclave_engine::{
    Archive,
    companion::{CompanionFork, FoundCompanion, PublishCompanionError, find, publish_companion},
};
use exclave_model::{Anchor, SignedObject, companion::COMPANION_OBJECT_BYTES_MAX};
use exclave_seal::RecoveryIdentity;
use serde::Serialize;

pub use self::names::Directory;
use super::World;
use crate::{
    arguments::{IdentityArguments, PassphraseArguments, SiteArguments},
    command::charter::{Public, open_public},
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    output::Report,
    private_file, sites,
    surroundings::{self, Edge},
};

/// `directory ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a draft: what the newest directory says, and datasets and sites that it doesn't know yet
    New(draft::New),
    /// Show the newest directory at the sites, or one in a file; names only with an identity
    Show(Show),
    /// Seal and sign a draft, or sign a directory that others signed before
    Sign(sign::Sign),
    /// Put a signed directory at the sites
    Publish(Publish),
}

/// `directory show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A signed directory; without it the sites are asked
    file: Option<PathBuf>,
    /// The charters that a file is judged by, without a network: a charter file, or `charters` of a kit
    #[arg(long, value_name = "FILE", requires = "file")]
    charters: Option<PathBuf>,
    /// Also write it, sealed as it is, to FILE
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    place: Place,
}

/// `directory publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// A directory that enough roots signed
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Which archive.
#[derive(Debug, Args)]
pub struct Place {
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

impl Place {
    fn open(&self, world: &World) -> Result<Public, Trouble> {
        let public = open_public(&self.sites, self.archive, world)?;
        public.refuse_doubtful()?;
        Ok(public)
    }
}

/// What opens a directory.
#[derive(Debug, Args)]
pub struct Opening {
    #[command(flatten)]
    identity: IdentityArguments,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

impl Opening {
    fn identity(&self, world: &World) -> Result<Option<RecoveryIdentity>, Trouble> {
        if self.identity.is_empty() {
            return Ok(None);
        }
        let opened = keys::open(&self.identity, None, &[], &self.passphrase.source(), world)?;
        Ok(opened.map(|opened| opened.identity))
    }
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    match command {
        Command::New(arguments) => draft::new(arguments, world),
        Command::Show(arguments) => show(arguments, world),
        Command::Sign(arguments) => sign::sign(arguments, world),
        Command::Publish(arguments) => publish(arguments, world),
    }
}

/// The newest directory at the sites.
fn newest(public: &Public) -> Result<Option<FoundCompanion>, Trouble> {
    let found = public.edge.block_on(find(&public.archive));
    let newest = found.newest().map_err(disputed)?;
    Ok(newest.cloned())
}

fn disputed(fork: CompanionFork) -> Trouble {
    Trouble::new(Exit::Refused, "the directory is disputed")
        .hint("find out which one the roots meant, and sign a later one that names it")
        .source(fork)
}

/// A signed directory in a file; nothing in it is verified.
fn read_object(path: &std::path::Path) -> Result<SignedObject, Trouble> {
    let bytes = private_file::read_public(path, COMPANION_OBJECT_BYTES_MAX, "directory")?;
    SignedObject::from_bytes(&bytes, COMPANION_OBJECT_BYTES_MAX)
        .because(|| Trouble::usage(format!("{} is no signed directory", path.display())))
}

/// The newest directory at an archive's sites, opened; `None` when there is none.
pub fn open_at_sites(
    archive: &Archive,
    identity: &RecoveryIdentity,
    edge: &Edge,
) -> Result<Option<Directory>, Trouble> {
    let found = edge.block_on(find(archive));
    let newest = found.newest().map_err(disputed)?;
    newest.map(|found| open(found, identity)).transpose()
}

/// A directory in a file, verified by charters and opened.
pub fn open_file(
    path: &std::path::Path,
    charters: &exclave_model::Charters,
    identity: &RecoveryIdentity,
) -> Result<Directory, Trouble> {
    let object = read_object(path)?;
    open(&verified(object, charters, path)?, identity)
}

fn verified(
    object: SignedObject,
    charters: &exclave_model::Charters,
    path: &std::path::Path,
) -> Result<FoundCompanion, Trouble> {
    let companion = exclave_seal::verify_companion(&object, charters)
        .because(|| Trouble::new(Exit::Refused, format!("{} is not to be believed", path.display())))?;
    Ok(FoundCompanion {
        companion,
        digest: object.record_hash(),
        object,
    })
}

fn open(found: &FoundCompanion, identity: &RecoveryIdentity) -> Result<Directory, Trouble> {
    let text = identity
        .open_companion(&found.companion)
        .because(|| Trouble::new(Exit::Refused, "the directory does not open with this identity"))?;
    Directory::parse(&text, "the directory")
}

fn show(arguments: &Show, world: &mut World) -> Result<Exit, Trouble> {
    let found = match (&arguments.file, &arguments.charters) {
        (Some(path), Some(charters)) => {
            let charters = super::charter::read_charters(charters)?;
            Some(verified(read_object(path)?, &charters, path)?)
        }
        (Some(path), None) => {
            let public = arguments.place.open(world)?;
            Some(verified(read_object(path)?, &public.archive.charters, path)?)
        }
        (None, _) => newest(&arguments.place.open(world)?)?,
    };
    let found = found
        .ok_or_else(|| Trouble::usage("the sites show no directory").hint("`exclave directory new` begins one"))?;
    if let Some(path) = &arguments.out {
        private_file::create(path, found.object.to_bytes(), "directory")?;
    }
    let identity = arguments.opening.identity(world)?;
    let directory = identity.map(|identity| open(&found, &identity)).transpose()?;
    world.output.report(&Shown::of(&found, directory))?;
    Ok(Exit::Done)
}

/// What is public of a directory, and what it says to whom it opens.
#[derive(Serialize)]
struct Shown {
    archive: String,
    version: u32,
    digest: String,
    created: String,
    charter_version: u32,
    signed_by: Vec<String>,
    recipients: Vec<String>,
    sealed_bytes: usize,
    directory: Option<Directory>,
}

impl Shown {
    fn of(found: &FoundCompanion, directory: Option<Directory>) -> Self {
        let companion = &found.companion;
        let signers = found.object.signatures().iter();
        Self {
            archive: companion.anchor.to_hex(),
            version: companion.version,
            digest: found.digest.to_hex(),
            created: format::rfc3339(companion.created),
            charter_version: companion.charter_version,
            signed_by: signers.map(|signature| signature.key.to_hex()).collect(),
            recipients: companion.recipients().map(|id| id.to_hex()).collect(),
            sealed_bytes: companion.sealed.len(),
            directory,
        }
    }
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Directory version {} of archive {}", self.version, self.archive)?;
        writeln!(out, "digest {}", self.digest)?;
        let roots = format::count(self.signed_by.len() as u64, "root");
        let recipients = format::count(self.recipients.len() as u64, "recipient");
        writeln!(
            out,
            "made {} under charter version {}, signed by {roots}, sealed to {recipients}",
            self.created, self.charter_version
        )?;
        match &self.directory {
            Some(directory) => directory.text(out),
            None => writeln!(out, "Names and contacts show with --identity FILE."),
        }
    }
}

fn publish(arguments: &Publish, world: &mut World) -> Result<Exit, Trouble> {
    let object = read_object(&arguments.file)?;
    let public = arguments.place.open(world)?;
    let done = publish_companion(&public.archive, &object, &public.edge.surroundings);
    let (holders, troubles) = done.map_err(not_published)?;
    for trouble in &troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    let of = public.archive.charter().sites.len();
    world.output.report(&Published {
        digest: object.record_hash().to_hex(),
        sites: holders,
        of,
    })?;
    Ok(match holders == of && troubles.is_empty() {
        true => Exit::Done,
        false => Exit::Findings,
    })
}

fn not_published(error: PublishCompanionError) -> Trouble {
    let what = "the directory was not published";
    match &error {
        PublishCompanionError::Companion(_) => {
            Trouble::new(Exit::Refused, what).hint("every root that must signs with `exclave directory sign`")
        }
        PublishCompanionError::Fork(_) => Trouble::new(Exit::Refused, what),
        PublishCompanionError::Outdated { .. } => Trouble::new(Exit::Refused, what)
            .hint("another one was published meanwhile: begin again with `exclave directory new`"),
        PublishCompanionError::Needed(_) => Trouble::failed(what),
        PublishCompanionError::Sites { troubles, .. } => {
            let hint = troubles.iter().find_map(|trouble| sites::hint(&trouble.error));
            Trouble::failed(what).hint(hint.unwrap_or_else(|| "bring more sites up, and publish it again".to_owned()))
        }
    }
    .source(error)
}

/// A directory at the sites.
#[derive(Serialize)]
struct Published {
    digest: String,
    sites: usize,
    of: usize,
}

impl Report for Published {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "The directory is at {} of {} sites", self.sites, self.of)?;
        writeln!(out, "digest {}", self.digest)
    }
}
