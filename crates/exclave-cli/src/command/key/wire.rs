//! `exclave key request|wrap-share`: shares on their way by wire, sealed to the one-time key of a ceremony's host.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_seal::{KeyFile, key_file::Cost, share::CeremonyKey};
use serde::Serialize;

use crate::{
    arguments::PassphraseArguments,
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    keys,
    output::Report,
    private_file, shares,
    surroundings::{self, OsEntropy},
};

/// `key request`.
#[derive(Debug, Args)]
#[command(after_help = "\
On the ceremony's host: `exclave key request --key ceremony.key --out request`, send `request` to the custodians, and read
its number to each over another channel. Each wraps his share: `exclave key wrap-share --share FILE --to request --out wrapped`.
Then `exclave restore --set shares.set --ceremony-key ceremony.key --share wrapped-1 --share wrapped-2 ..`, and destroy
ceremony.key.")]
pub struct Request {
    /// Write the one-time key to FILE, protected by a passphrase
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write the request, its public half, to FILE
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// `key wrap-share`.
#[derive(Debug, Args)]
pub struct WrapShare {
    /// The share: its file, its text, or - to type it
    #[arg(long, value_name = "FILE")]
    share: String,
    /// The ceremony's request
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Write the wrapped share to FILE
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// Makes a ceremony's key.
pub fn request(arguments: &Request, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    for path in [&arguments.key, &arguments.out] {
        if path.symlink_metadata().is_ok() {
            return Err(Trouble::usage(format!("{} is there already", path.display()))
                .hint("a ceremony's key is used once: name new files"));
        }
    }
    let failed = || Trouble::failed("no key could be made for the ceremony");
    let passphrase = arguments
        .passphrase
        .source()
        .new_one("the ceremony's key", &world.environment)?;
    let key = CeremonyKey::generate(&mut OsEntropy).because(failed)?;
    let file = KeyFile::for_ceremony(&key, &passphrase, Cost::STANDARD, &mut OsEntropy).because(failed)?;
    keys::create(&arguments.key, &file)?;
    keys::create(&arguments.out, &file.public_part())?;
    world.output.report(&Made {
        key: key.public().id().to_hex(),
        written: arguments.out.display().to_string(),
        what: "request",
    })?;
    world
        .output
        .note("Read this number to each custodian by voice. Destroy the key after the ceremony.");
    Ok(Exit::Done)
}

/// Wraps a share for it.
pub fn wrap_share(arguments: &WrapShare, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let request = keys::read(&arguments.to)?;
    let to = request
        .ceremony_request()
        .because(|| Trouble::usage(format!("{} is no ceremony's request", arguments.to.display())))?;
    let names = std::slice::from_ref(&arguments.share);
    let brought = shares::read_all(names, None, &arguments.passphrase.source(), world)?;
    let failed = || Trouble::failed("the share can't be wrapped");
    for given in &brought.given {
        let wrapped = given.share.wrap(&to, &mut OsEntropy).because(failed)?;
        private_file::create(&arguments.out, &wrapped.to_text().because(failed)?, "wrapped share")?;
    }
    world.output.report(&Made {
        key: to.id().to_hex(),
        written: arguments.out.display().to_string(),
        what: "wrapped share",
    })?;
    world
        .output
        .note("Send it only when the ceremony's host, asked by voice, shows the same number.");
    Ok(Exit::Done)
}

/// What was written, for which key.
#[derive(Serialize)]
struct Made {
    key: String,
    written: String,
    what: &'static str,
}

impl Report for Made {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} in {}", self.what, self.written)?;
        writeln!(out, "ceremony's key {}", self.key)
    }
}
