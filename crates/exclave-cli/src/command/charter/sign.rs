//! `exclave charter sign`: one root's signature, on a machine that needs no network.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_engine::charter::Proposal;
use exclave_model::{
    Anchor, Charter, CharterFile, KeyId, LooseSignature, Record as _, Role, SignedObject, SitePlate, Version1,
};
use exclave_seal::{SigningKey, charter_signers};
use serde::Serialize;

use super::{Subject, read_bytes, words::Signatures};
use crate::{
    arguments::PassphraseArguments,
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    keys,
    loose::{self, LooseArguments},
    output::Report,
    private_file,
    surroundings::OsEntropy,
};

/// `charter sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// A draft, or a charter file that others signed before
    file: PathBuf,
    /// The root key to sign with
    #[arg(long, value_name = "FILE", required_unless_present = "signature")]
    root: Option<PathBuf>,
    /// Write the signed file to FILE [default: FILE with the ending .charter and its version]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
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
    let subject = Subject::read(&arguments.file)?;
    let digest = subject.digest()?;
    let refused = |what: String| Trouble::new(Exit::Refused, what);
    if let Some(wanted) = &arguments.digest {
        let wanted: String = wanted.chars().filter(char::is_ascii_hexdigit).collect();
        if wanted.len() < 16 || !digest.to_hex().starts_with(&wanted.to_ascii_lowercase()) {
            return Err(
                refused(format!("the digest is {digest}, not {wanted}; nothing was signed"))
                    .hint("at least 16 digits are compared; `exclave charter explain` shows what this file says"),
            );
        }
    }
    let anchor = subject.before.anchor();
    if arguments.archive.is_some_and(|wanted| wanted != anchor) {
        return Err(refused(format!("the file is of archive {anchor}; nothing was signed")));
    }
    let (object, plates, signed_by) = match &arguments.root {
        Some(path) => {
            let root = keys::open_signing(path, Role::Root, &arguments.passphrase.source(), world)?;
            let has_say = |charter: &Charter| charter.role_of(root.id()) == Some(Role::Root);
            if !has_say(subject.before.newest()) && !has_say(&subject.next) {
                return Err(refused(format!(
                    "key {} is no root of version {} or {}",
                    root.id(),
                    subject.before.newest().version,
                    subject.next.version
                )));
            }
            let (object, plates) = signed(&subject, &root)?;
            let what = format!("signature on charter version {}", subject.next.version);
            if arguments
                .loose
                .write(&what, &object, root.id(), plates.clone(), world)?
            {
                return Ok(Exit::Done);
            }
            (object, plates, vec![root.id()])
        }
        None => joined(&subject, &arguments.loose.read()?)?,
    };
    let mut charters = subject.history.clone();
    charters.push(object);
    let file = CharterFile { charters, plates };
    let out = arguments.out.clone().unwrap_or_else(|| {
        let stem = arguments.file.with_extension("");
        let stem = stem
            .file_stem()
            .map_or_else(|| "charter".into(), |stem| stem.to_string_lossy().into_owned());
        arguments
            .file
            .with_file_name(format!("{stem}.v{}.charter", subject.next.version))
    });
    match out == arguments.file {
        // Two roots may sign the same file at the same time, on a shared folder: neither signature may be lost.
        true if read_bytes(&out)? != subject.bytes => {
            return Err(
                Trouble::failed(format!("{} was signed by someone else meanwhile", out.display()))
                    .hint("sign it again"),
            );
        }
        true => private_file::replace(&out, file.to_bytes(), "charter file")?,
        false => private_file::create(&out, file.to_bytes(), "charter file")?,
    }
    arguments
        .loose
        .parts
        .show(&out.display().to_string(), &file.to_bytes(), world)?;
    let proposal = Proposal::read(&file).because(|| Trouble::failed("what was signed does not verify"))?;
    let signatures = Signatures {
        before: Some(proposal.signatures()[0]),
        own: proposal.signatures()[1],
    };
    world.output.report(&Signed {
        file: out.display().to_string(),
        version: proposal.next.version,
        digest: proposal.digest().to_hex(),
        signed_by: signed_by.iter().map(KeyId::to_hex).collect(),
        complete: signatures.are_enough(),
        signatures,
    })?;
    Ok(Exit::Done)
}

/// The version with signatures that were made elsewhere, whose those are, and plates that came with them.
fn joined(
    subject: &Subject,
    loose: &[LooseSignature],
) -> Result<(SignedObject, Vec<SignedObject>, Vec<KeyId>), Trouble> {
    let record = subject
        .next
        .to_bytes()
        .because(|| Trouble::failed("the charter can't be written down"))?;
    let there = subject.signed.as_ref();
    let mut signatures = there.map_or_else(Vec::new, |proposal| proposal.object.signatures().to_vec());
    let mut plates = there.map_or_else(Vec::new, |proposal| proposal.plates.clone());
    let mut object = None;
    for one in loose {
        let with = loose::joined(&record, &signatures, one)?;
        charter_signers(&with, &subject.before)
            .because(|| Trouble::new(Exit::Refused, "the signature is not to be believed"))?;
        signatures = with.signatures().to_vec();
        plates.extend(
            one.plates
                .iter()
                .filter(|plate| !plates.contains(plate))
                .cloned()
                .collect::<Vec<_>>(),
        );
        object = Some(with);
    }
    let object = object.ok_or_else(|| Trouble::usage("no signature was given"))?;
    Ok((object, plates, loose.iter().map(|one| one.signature.key).collect()))
}

/// The version with one signature more, and plates for new sites.
fn signed(subject: &Subject, root: &SigningKey) -> Result<(SignedObject, Vec<SignedObject>), Trouble> {
    let failed = || Trouble::failed("the charter can't be signed");
    let mut entropy = OsEntropy;
    let object = match &subject.signed {
        Some(proposal) => root.cosign::<Charter>(&proposal.object, &mut entropy).because(failed)?,
        None => root.sign(&subject.next, &mut entropy).because(failed)?,
    };
    let proposal = Proposal {
        before: subject.before.clone(),
        next: subject.next.clone(),
        object: object.clone(),
        plates: subject
            .signed
            .as_ref()
            .map_or_else(Vec::new, |proposal| proposal.plates.clone()),
    };
    let mut plates = proposal.plates.clone();
    for site in proposal.added().filter(|site| proposal.plate(site.id).is_none()) {
        let plate = SitePlate {
            format: Version1,
            anchor: subject.before.anchor(),
            site: site.id,
        };
        plates.push(root.sign(&plate, &mut entropy).because(failed)?);
    }
    Ok((object, plates))
}

/// A version that was signed once more.
#[derive(Serialize)]
struct Signed {
    file: String,
    version: u32,
    digest: String,
    signed_by: Vec<String>,
    signatures: Signatures,
    complete: bool,
}

impl Report for Signed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "charter version {} signed in {}", self.version, self.file)?;
        writeln!(out, "digest {}", self.digest)?;
        match self.complete {
            true => writeln!(out, "Enough roots signed: `exclave charter publish {}`", self.file),
            false => writeln!(out, "Others must sign: `exclave charter sign {} --root KEY`", self.file),
        }
    }
}
