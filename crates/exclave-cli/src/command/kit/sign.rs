//! `exclave kit sign`: one root's signature, on a machine that needs no network.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_model::{Act, Anchor, Kit, Record as _, Role, SignedObject, kit::MANIFEST};
use exclave_seal::kit_signers;
use serde::Serialize;

use crate::{
    arguments::PassphraseArguments,
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    kit::{DRAFT, KitFolder},
    loose::{self, LooseArguments},
    output::Report,
    private_file,
    surroundings::OsEntropy,
};

/// `kit sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Custodians will type their shares into the program that this kit holds. Before you sign, compare its SHA-256, which
`exclave kit show` prints, with that of a build that you trust.")]
pub struct Sign {
    /// The kit's folder
    folder: PathBuf,
    /// The root key to sign with
    #[arg(long, value_name = "FILE", required_unless_present = "signature")]
    root: Option<PathBuf>,
    /// Sign only if the digest begins so: the one on the page that was agreed on
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// Sign only if it is this archive's
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
    #[command(flatten)]
    loose: LooseArguments,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

pub fn sign(arguments: &Sign, world: &mut World) -> Result<Exit, Trouble> {
    let kit = KitFolder::read(&arguments.folder, arguments.archive)?;
    if let Some(wanted) = &arguments.digest {
        let wanted: String = wanted.chars().filter(char::is_ascii_hexdigit).collect();
        if wanted.len() < 16 || !kit.digest.to_hex().starts_with(&wanted.to_ascii_lowercase()) {
            let what = format!(
                "the digest is {}, not {wanted}; nothing was signed",
                kit.digest.to_hex()
            );
            return Err(Trouble::new(Exit::Refused, what)
                .hint("at least 16 digits are compared; `exclave kit show` shows what this kit holds"));
        }
    }
    if let Some(name) = kit.missing.first() {
        return Err(Trouble::new(
            Exit::Refused,
            format!("{name} is missing; nothing was signed"),
        ));
    }
    let charter = kit.charters.obeyed(kit.kit.charter_version);
    let charter = charter.because(|| Trouble::failed("the kit does not bring its charter"))?;
    let failed = || Trouble::failed("the kit can't be signed");
    let mut signed = match &kit.object {
        Some(object) => object.clone(),
        None => SignedObject::new(kit.kit.to_bytes().because(failed)?, Vec::new()),
    };
    let mut signed_by = Vec::new();
    if let Some(path) = &arguments.root {
        let root = keys::open_signing(path, Role::Root, &arguments.passphrase.source(), world)?;
        charter
            .permit(root.id(), Act::Kit)
            .because(|| Trouble::new(Exit::Refused, "that key may not sign a kit"))?;
        signed = root.cosign::<Kit>(&signed, &mut OsEntropy).because(failed)?;
        signed_by.push(root.id());
        let what = format!("signature on kit {}", kit.kit.version);
        if arguments.loose.write(&what, &signed, root.id(), Vec::new(), world)? {
            return Ok(Exit::Done);
        }
    }
    for one in arguments.loose.read()? {
        signed = loose::joined(signed.record_bytes(), signed.signatures(), &one)?;
        kit_signers(&signed, &kit.charters)
            .because(|| Trouble::new(Exit::Refused, "the signature is not to be believed"))?;
        signed_by.push(one.signature.key);
    }
    private_file::replace_public(&arguments.folder.join(MANIFEST), signed.to_bytes(), "kit's manifest")?;
    let draft = arguments.folder.join(DRAFT);
    if draft.exists() {
        std::fs::remove_file(&draft).because(|| Trouble::failed(format!("{} can't be removed", draft.display())))?;
    }
    let kit = KitFolder::read(&arguments.folder, arguments.archive)?;
    world.output.report(&Signed {
        folder: arguments.folder.display().to_string(),
        version: kit.kit.version,
        digest: kit.digest.to_hex(),
        signed_by: signed_by.iter().map(|key| key.to_hex()).collect(),
        signatures: kit.signers.len(),
        signatures_needed: kit.needed(),
    })?;
    Ok(Exit::Done)
}

/// A kit that was signed once more.
#[derive(Serialize)]
struct Signed {
    folder: String,
    version: u32,
    digest: String,
    signed_by: Vec<String>,
    signatures: usize,
    signatures_needed: usize,
}

impl Report for Signed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "kit {} in {} signed by root {}",
            self.version,
            self.folder,
            self.signed_by.join(", ")
        )?;
        writeln!(out, "digest {}", self.digest)?;
        let roots = format::count(self.signatures_needed as u64, "root");
        match self.signatures >= self.signatures_needed {
            true => writeln!(out, "Enough roots signed: `exclave kit publish {}`", self.folder),
            false => writeln!(
                out,
                "{} of {roots} that must: `exclave kit sign {} --root KEY`",
                self.signatures, self.folder
            ),
        }
    }
}
