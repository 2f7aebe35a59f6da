//! `exclave key ..`: long-lived keys, alone and in the hands of several.

mod combine;
mod custodians;
mod facts;
mod split;
mod wire;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use exclave_engine::AgentState;
use exclave_model::{Role, hex};
use exclave_seal::{CosigningKey, KeyFile, KeyKind, SigningKey, entropy::draw};
use serde::Serialize;

use super::World;
use crate::{
    arguments::PassphraseArguments,
    error::{Context as _, Trouble},
    exit::Exit,
    keys,
    output::{self, Report},
    shares::{self, ShareForm},
    surroundings,
    tokens::NewPair,
};

/// `key ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key: a recovery identity, which opens what was replicated, or one with a role in the charter
    Generate(Generate),
    /// Show what a key file holds, without its secret; or a share, for its custodian
    Show(Show),
    /// Give this agent another writer's key, and a chain of heads of its own
    Install(Install),
    /// Wrap the keys of all runs anew, for the recipients that the newest charter names
    Rewrap(crate::command::rewrap::Rewrap),
    /// Split a recovery identity among custodians: shares, cards, and the public share set
    Split(split::Split),
    /// Hold shares against their set, each alone, without combining them
    Check(combine::Check),
    /// Combine shares in memory, and show which key they give
    Combine(combine::Combine),
    /// Make a one-time key for a ceremony, to which custodians wrap shares that come by wire
    Request(wire::Request),
    /// Wrap a share for a ceremony's one-time key
    WrapShare(wire::WrapShare),
}

/// `key install`.
#[derive(Debug, Args)]
pub struct Install {
    /// The writer's key, made with `key generate --role writer`
    file: PathBuf,
    /// The agent's folder, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// `key generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Write the key to FILE, which must not be there; only this user may read it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Make a signing key with this role instead: root, writer, administrator, restorer, auditor, repairer, keeper,
    /// reaper, witness, collection-authority or posture-authority. A writer's or witness's key lies open, since whoever uses it
    /// starts unattended; every other one is protected by a passphrase
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// What a witness is called in the notes that it signs, an address without its scheme: `witness.example/w1`
    #[arg(long, value_name = "NAME", requires = "role", conflicts_with = "token")]
    name: Option<String>,
    /// Make its Ed25519 half in the token (PKCS#11) called LABEL, which it can't leave; FILE keeps the ML-DSA-65 half and
    /// says where the other one is
    #[arg(long, value_name = "LABEL", requires = "role")]
    token: Option<String>,
    /// Write its public half to FILE as well; `init` and `charter` need no more
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// `key show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The key file
    file: PathBuf,
    /// Open a share and print it so; whoever sees it has it
    #[arg(long = "as", value_enum, value_name = "FORM")]
    form: Option<ShareForm>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    match command {
        Command::Generate(arguments) => generate(arguments, world),
        Command::Install(arguments) => install(arguments, world),
        Command::Rewrap(arguments) => crate::command::rewrap::run(arguments, world),
        Command::Show(arguments) => show(arguments, world),
        Command::Split(arguments) => split::run(arguments, world),
        Command::Check(arguments) => combine::check(arguments, world),
        Command::Combine(arguments) => combine::combine(arguments, world),
        Command::Request(arguments) => wire::request(arguments, world),
        Command::WrapShare(arguments) => wire::wrap_share(arguments, world),
    }
}

fn show(arguments: &Show, world: &mut World) -> Result<Exit, Trouble> {
    let key = keys::read(&arguments.file)?;
    let Some(form) = arguments.form else {
        world.output.report(&Shown::of(&arguments.file, &key)?)?;
        return Ok(Exit::Done);
    };
    let shown = arguments.file.display().to_string();
    // Its kind first, so that nobody types a passphrase in vain.
    key.share_header()
        .because(|| Trouble::usage(format!("{shown} is no share, and nothing else is printed")))?;
    let share = keys::open_share(&key, &shown, &arguments.passphrase.source(), &world.environment)?;
    let text = shares::shown(&share, form)?;
    let printed = world.output.raw().write_all(text.as_bytes());
    printed.map_err(output::broken)?;
    world.output.finish()?;
    Ok(Exit::Done)
}

fn generate(arguments: &Generate, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    for path in std::iter::once(&arguments.out).chain(&arguments.public) {
        // Asked before the passphrase, so that nobody types in vain; creating it asks again.
        if path.symlink_metadata().is_ok() {
            return Err(
                Trouble::usage(format!("the key file {} is there already", path.display()))
                    .hint("a key is never written over; name another file or move that one away"),
            );
        }
    }
    let key = new_key(arguments, world)?;
    keys::create(&arguments.out, &key)?;
    if let Some(path) = &arguments.public {
        keys::create(path, &key.public_part())?;
    }
    world.output.report(&Shown::of(&arguments.out, &key)?)?;
    world.output.note(match arguments.role {
        Some(Role::Writer) => {
            "The key lies open: move it to the agent's machine, `exclave key install` it, remove the file."
        }
        Some(Role::Witness) => {
            "The key lies open: it belongs on the witness's machine alone. Owners need its public half (--public)."
        }
        _ => "Keep the file and its passphrase apart, and away from the machine that replicates.",
    });
    Ok(Exit::Done)
}

fn new_key(arguments: &Generate, world: &World) -> Result<KeyFile, Trouble> {
    let passphrase = |what: &str| arguments.passphrase.source().new_one(what, &world.environment);
    let signing = || new_signing(arguments.token.as_deref(), world);
    if arguments.name.is_some() != (arguments.role == Some(Role::Witness)) {
        return Err(Trouble::usage("a witness's key has a name, and no other has one")
            .hint("--role witness --name witness.example/w1"));
    }
    match arguments.role {
        None => keys::new_recovery(&passphrase("the recovery identity")?),
        Some(Role::Writer) => Ok(KeyFile::for_writer(&signing()?)),
        Some(Role::Witness) => new_cosigning(arguments.name.as_deref().unwrap_or_default()),
        Some(role) => {
            // First what can be typed wrongly at no cost: a token counts.
            let passphrase = passphrase(&format!("the {role}'s key"))?;
            keys::signing_file(&signing()?, role, &passphrase)
        }
    }
}

/// A witness's key.
fn new_cosigning(name: &str) -> Result<KeyFile, Trouble> {
    let key = CosigningKey::generate(name, &mut surroundings::OsEntropy);
    match key.because(|| Trouble::failed("no key could be made"))? {
        Some(key) => Ok(KeyFile::for_witness(&key)),
        None => Err(Trouble::usage(format!("{name:?} can't be the name of a witness"))
            .hint("1 to 255 printable ASCII characters without space and +")),
    }
}

/// A signing key: both halves here, or one in a token.
fn new_signing(token: Option<&str>, world: &World) -> Result<SigningKey, Trouble> {
    let failed = || Trouble::failed("no key could be made");
    let mut entropy = surroundings::OsEntropy;
    let Some(label) = token else {
        return SigningKey::generate(&mut entropy).because(failed);
    };
    let NewPair { key, public, signer } = world.tokens.generate(label, draw(&mut entropy).because(failed)?)?;
    let key = SigningKey::generate_beside(key, &public, signer, &mut entropy).because(failed)?;
    // A token that makes keys and can't sign with them is found out now, not at the first ceremony.
    key.try_out(&mut entropy).because(failed)?;
    Ok(key)
}

fn install(arguments: &Install, world: &mut World) -> Result<Exit, Trouble> {
    let config = world.config()?;
    let folder = arguments
        .state_dir
        .clone()
        .unwrap_or_else(|| config.state_dir(&world.environment));
    let file = keys::read(&arguments.file)?;
    let key = file
        .open_signing_with(KeyKind::WRITER, None, &*world.tokens)
        .because(|| Trouble::usage(format!("{} can't be installed", arguments.file.display())))?;
    AgentState::install_key(&folder, &key, &mut surroundings::OsEntropy)
        .because(|| Trouble::failed(format!("the key can't be installed in {}", folder.display())))?;
    world.output.report(&Installed {
        key: key.id().to_hex(),
        state_dir: folder.display().to_string(),
    })?;
    Ok(Exit::Done)
}

/// A writer's key in an agent's folder.
#[derive(Serialize)]
struct Installed {
    key: String,
    state_dir: String,
}

impl Report for Installed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "writer's key {} in {}", self.key, self.state_dir)?;
        writeln!(out, "It may commit once a charter names it: `exclave charter new`")
    }
}

/// A key file, without its secret.
#[derive(Serialize)]
struct Shown {
    file: String,
    kind: &'static str,
    /// Recipient id of a recovery identity, key id of a signing key.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// What others verify a witness's cosignatures with (C2SP signed-note).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verifier_keys: Vec<String>,
    holds: &'static str,
    /// Where the Ed25519 half lies, when it isn't in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<ShownToken>,
    archive: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<ShownShare>,
}

/// A key in a token.
#[derive(Serialize)]
struct ShownToken {
    label: String,
    serial: String,
    id: String,
}

/// What a share is part of.
#[derive(Serialize)]
struct ShownShare {
    set: String,
    epoch: u32,
    group: u8,
    groups: u8,
    groups_needed: u8,
    x: u8,
    threshold: u8,
    custodians: u8,
}

impl Shown {
    fn of(path: &Path, key: &KeyFile) -> Result<Self, Trouble> {
        let useless = || Trouble::usage(format!("{} is of no use", path.display()));
        let (recipient, id) = match key.kind() {
            KeyKind::Recovery => (Some(key.recipient().because(useless)?.id().to_hex()), None),
            KeyKind::Signing(_) => (None, Some(key.public_key().because(useless)?.id().to_hex())),
            KeyKind::Share => (None, None),
            KeyKind::Ceremony => (None, Some(key.ceremony_request().because(useless)?.id().to_hex())),
            KeyKind::Witness => (None, Some(key.cosigner().because(useless)?.id().to_hex())),
        };
        let verifier_keys = match key.kind() {
            KeyKind::Witness => exclave_engine::witness::verifier_keys(&key.cosigner().because(useless)?)
                .because(useless)?
                .map(|key| key.to_string())
                .to_vec(),
            _ => Vec::new(),
        };
        let holds = match (key.is_sealed(), key.kind()) {
            (true, _) => "secret, protected by a passphrase",
            (false, KeyKind::WRITER | KeyKind::Witness) if key.lies_open() => "secret, open",
            (false, _) => "public half only",
        };
        Ok(Self {
            file: path.display().to_string(),
            kind: key.kind().as_str(),
            recipient,
            key: id,
            verifier_keys,
            holds,
            token: key.token().map(|token| ShownToken {
                label: token.label.clone(),
                serial: token.serial.clone(),
                id: hex(&token.id),
            }),
            archive: key.archive().map(|anchor| anchor.to_hex()),
            share: key.share_header().ok().map(|header| ShownShare {
                set: header.set.to_hex(),
                epoch: header.epoch,
                group: header.place.group + 1,
                groups: header.groups,
                groups_needed: header.groups_needed,
                x: header.place.x,
                threshold: header.threshold,
                custodians: header.custodians,
            }),
        })
    }
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} key in {} ({})", self.kind, self.file, self.holds)?;
        if let Some(recipient) = &self.recipient {
            writeln!(out, "recipient {recipient}")?;
        }
        if let Some(key) = &self.key {
            writeln!(out, "key {key}")?;
        }
        for key in &self.verifier_keys {
            writeln!(out, "verifier key {key}")?;
        }
        if let Some(ShownToken { label, serial, id }) = &self.token {
            writeln!(
                out,
                "Ed25519 half in token {label:?} (serial number {serial}), key {id}"
            )?;
        }
        if let Some(share) = &self.share {
            let ShownShare {
                x,
                custodians,
                threshold,
                group,
                groups,
                groups_needed,
                set,
                epoch,
            } = share;
            writeln!(
                out,
                "share {x} of {custodians}, {threshold} needed, in group {group} of {groups}, {groups_needed} needed"
            )?;
            writeln!(out, "set {set}, epoch {epoch}")?;
        }
        match &self.archive {
            Some(archive) => writeln!(out, "archive {archive}"),
            None => Ok(()),
        }
    }
}
