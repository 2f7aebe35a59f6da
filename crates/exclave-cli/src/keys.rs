//! Key files and passphrases.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use exclave_model::{Anchor, Role, ShareSet};
use exclave_seal::{
    KeyFile, KeyKind, Passphrase, RecoveryIdentity, Share, SigningKey,
    key_file::{Cost, KEY_FILE_BYTES_MAX},
    share::CeremonyKey,
};
use zeroize::Zeroizing;

use crate::{
    arguments::IdentityArguments,
    command::World,
    environment::Environment,
    error::{Context as _, Trouble},
    interrupt, private_file, shares,
};

/// The variable that holds a passphrase. For tests and automation: other processes of this user can read it.
pub const PASSPHRASE_VARIABLE: &str = "EXCLAVE_PASSPHRASE";

/// Where passphrases come from.
#[derive(Debug, Clone, Default)]
pub struct PassphraseSource {
    /// A private file, or a pipe.
    pub file: Option<PathBuf>,
}

impl PassphraseSource {
    /// The passphrase of a key that exists.
    pub fn existing(&self, what: &str, environment: &Environment) -> Result<Passphrase, Trouble> {
        match self.given(environment)? {
            Some(passphrase) => Ok(passphrase),
            None => prompt(&format!("Passphrase of {what}: ")),
        }
    }

    /// A passphrase for a new key: asked for twice.
    pub fn new_one(&self, what: &str, environment: &Environment) -> Result<Passphrase, Trouble> {
        if let Some(passphrase) = self.given(environment)? {
            return Ok(passphrase);
        }
        let first = prompt(&format!("New passphrase for {what}: "))?;
        let second = prompt("The same again: ")?;
        if first.matches(&second) {
            Ok(first)
        } else {
            Err(Trouble::usage("the passphrases differ; nothing was written"))
        }
    }

    fn given(&self, environment: &Environment) -> Result<Option<Passphrase>, Trouble> {
        if let Some(path) = &self.file {
            let line = private_file::read_line(path, "passphrase file")?;
            let passphrase = Passphrase::new(String::clone(&line));
            let empty = || Trouble::usage(format!("the first line of {} is empty", path.display()));
            return passphrase.map(Some).ok_or_else(empty);
        }
        Ok(environment.text(PASSPHRASE_VARIABLE).and_then(Passphrase::new))
    }
}

fn prompt(question: &str) -> Result<Passphrase, Trouble> {
    let instead = format!("--passphrase-file FILE, or {PASSPHRASE_VARIABLE} in the environment");
    let text = prompt_hidden(question, &instead)?;
    Passphrase::new(String::clone(&text)).ok_or_else(|| Trouble::usage("an empty passphrase protects nothing"))
}

/// Asks at the terminal; what is typed isn't shown. `instead` is what can be given where there is no terminal.
pub fn prompt_hidden(question: &str, instead: &str) -> Result<Zeroizing<String>, Trouble> {
    let no_terminal = || {
        Trouble::usage("a passphrase or PIN is needed, and there is no terminal to ask at")
            .hint(format!("give {instead}"))
    };
    // rpassword speaks to /dev/tty, also when standard input is a pipe.
    if !std::io::stderr().is_terminal() && std::fs::File::open("/dev/tty").is_err() {
        return Err(no_terminal());
    }
    interrupt::hidden(question).map(Zeroizing::new).because(no_terminal)
}

/// Makes a recovery identity and its file, which isn't written yet.
pub fn new_recovery(passphrase: &Passphrase) -> Result<KeyFile, Trouble> {
    let failed = || Trouble::failed("no recovery identity could be made");
    let mut entropy = crate::surroundings::OsEntropy;
    let identity = RecoveryIdentity::generate(&mut entropy).because(failed)?;
    KeyFile::for_recovery(&identity, passphrase, Cost::STANDARD, &mut entropy).because(failed)
}

/// Makes a signing key's file, which isn't written yet.
pub fn signing_file(key: &SigningKey, role: Role, passphrase: &Passphrase) -> Result<KeyFile, Trouble> {
    let mut entropy = crate::surroundings::OsEntropy;
    KeyFile::for_signing(key, role, passphrase, Cost::STANDARD, &mut entropy)
        .because(|| Trouble::failed(format!("the {role}'s key can't be protected")))
}

/// Opens a signing key of a role.
pub fn open_signing(
    path: &Path,
    role: Role,
    passphrases: &PassphraseSource,
    world: &World,
) -> Result<SigningKey, Trouble> {
    let key = read(path)?;
    let shown = path.display().to_string();
    let kind = KeyKind::Signing(role);
    let passphrase = match key.kind() == kind && key.is_sealed() {
        true => Some(passphrases.existing(&shown, &world.environment)?),
        false => None,
    };
    let opened = key.open_signing_with(kind, passphrase.as_ref(), &*world.tokens);
    opened.because(|| Trouble::new(crate::exit::Exit::Refused, format!("{shown} can't be opened")))
}

/// Reads a key file. One that holds a secret must be private; a public one need not.
pub fn read(path: &Path) -> Result<KeyFile, Trouble> {
    let text = private_file::read(path, "key file");
    let text = match text {
        // A public half may be mode 0644: look what it is before complaining.
        Err(trouble) => match private_file::read_public(path, KEY_FILE_BYTES_MAX, "key file")
            .ok()
            .map(|bytes| KeyFile::from_bytes(&bytes))
        {
            // Of these two kinds only a public half has no seal.
            Some(Ok(key)) if !key.is_sealed() && key.kind() != KeyKind::WRITER => return Ok(key),
            _ => return Err(trouble),
        },
        Ok(text) => text,
    };
    KeyFile::parse(&text).because(|| Trouble::usage(format!("{} is of no use", path.display())))
}

/// Writes a new key file.
pub fn create(path: &Path, key: &KeyFile) -> Result<(), Trouble> {
    let text = key
        .to_text()
        .because(|| Trouble::failed("the key can't be written down"))?;
    private_file::create(path, text.as_bytes(), "key file")
}

/// Writes into a key file which archive it belongs to.
pub fn set_archive(path: &Path, anchor: Anchor) -> Result<(), Trouble> {
    let mut key = read(path)?;
    key.set_archive(anchor);
    let text = key
        .to_text()
        .because(|| Trouble::failed("the key can't be written down"))?;
    private_file::replace(path, text.as_bytes(), "key file")
}

/// Opens a custodian's share.
pub fn open_share(
    file: &KeyFile,
    shown: &str,
    passphrases: &PassphraseSource,
    environment: &Environment,
) -> Result<Share, Trouble> {
    let opened = match file.is_sealed() {
        true => file.open_share(Some(&passphrases.existing(shown, environment)?)),
        false => file.open_share(None),
    };
    opened.because(|| Trouble::new(crate::exit::Exit::Refused, format!("{shown} can't be opened")))
}

/// Opens the one-time key of a ceremony.
pub fn open_ceremony(
    path: &Path,
    passphrases: &PassphraseSource,
    environment: &Environment,
) -> Result<CeremonyKey, Trouble> {
    let file = read(path)?;
    let shown = path.display().to_string();
    // Its kind first, so that nobody types a passphrase in vain.
    file.ceremony_request()
        .because(|| Trouble::usage(format!("{shown} is no ceremony's key")))?;
    let opened = match file.is_sealed() {
        true => file.open_ceremony(Some(&passphrases.existing(&shown, environment)?)),
        false => file.open_ceremony(None),
    };
    opened.because(|| Trouble::new(crate::exit::Exit::Refused, format!("{shown} can't be opened")))
}

/// A recovery identity that is open, in memory.
pub struct Opened {
    /// The identity.
    pub identity: RecoveryIdentity,
    /// The archive that its file names.
    pub archive: Option<Anchor>,
    /// What it came from.
    pub from: String,
    /// Shares among those that were given that are no good.
    pub bad_shares: usize,
}

/// Which archive the identity's file says that it is of: nothing is opened. Shares don't say.
pub fn archive_of(arguments: &IdentityArguments, configured: Option<&Path>) -> Result<Option<Anchor>, Trouble> {
    match arguments.identity.as_deref().or(configured) {
        Some(path) if arguments.share.is_empty() => Ok(read(path)?.archive()),
        Some(_) | None => Ok(None),
    }
}

/// Opens what the command line names: an identity file (of the configuration, when none is given), or shares of an
/// identity, which are combined in memory. `None` when nothing is named. `known` are the charter's share sets.
pub fn open(
    arguments: &IdentityArguments,
    configured: Option<&Path>,
    known: &[ShareSet],
    passphrases: &PassphraseSource,
    world: &World,
) -> Result<Option<Opened>, Trouble> {
    let (identity, archive, from, bad_shares) = if arguments.share.is_empty() {
        let Some(path) = arguments.identity.as_deref().or(configured) else {
            return Ok(None);
        };
        let (identity, archive) = open_recovery(path, passphrases, &world.environment)?;
        (identity, archive, path.display().to_string(), 0)
    } else {
        let (identity, bad) = shares::combine(arguments, known, passphrases, world)?;
        (identity, None, "the shares".to_owned(), bad)
    };
    Ok(Some(Opened {
        identity,
        archive,
        from,
        bad_shares,
    }))
}

/// Opens a recovery identity; says which archive it belongs to.
pub fn open_recovery(
    path: &Path,
    passphrases: &PassphraseSource,
    environment: &Environment,
) -> Result<(RecoveryIdentity, Option<Anchor>), Trouble> {
    let key = read(path)?;
    let shown = path.display().to_string();
    let opened = match key.kind() {
        KeyKind::Recovery if key.is_sealed() => key.open_recovery(Some(&passphrases.existing(&shown, environment)?)),
        KeyKind::Recovery | KeyKind::Signing(_) | KeyKind::Share | KeyKind::Ceremony | KeyKind::Witness => {
            key.open_recovery(None)
        }
    };
    let identity = opened.because(|| Trouble::new(crate::exit::Exit::Refused, format!("{shown} can't be opened")))?;
    Ok((identity, key.archive()))
}
