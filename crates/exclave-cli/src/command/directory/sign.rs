//! `exclave directory sign`: sealed by the first root who signs, signed by each; on a machine that needs no network.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_model::{Act, Companion, RecordHash, Role, SignedObject};
use exclave_seal::{
    companion::{CompanionPlace, companion_signers},
    seal_companion,
};
use serde::Serialize;

use super::{
    draft::{Draft, charters_beside},
    read_object,
};
use crate::{
    arguments::PassphraseArguments,
    command::{World, charter::read_charters},
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    loose::{self, LooseArguments},
    output::Report,
    private_file,
    surroundings::OsEntropy,
};

/// Longest draft: the longest text that can be sealed.
const DRAFT_BYTES_MAX: usize = 2 << 20;

/// `directory sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// A draft, or a directory that others signed before
    file: PathBuf,
    /// The root key to sign with
    #[arg(long, value_name = "FILE", required_unless_present = "signature")]
    root: Option<PathBuf>,
    /// Write the signed directory to FILE [default: FILE with the ending .directory and its version]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The charters that it is signed under [default: what `directory new` wrote beside the draft]
    #[arg(long, value_name = "FILE")]
    charters: Option<PathBuf>,
    /// Sign only if the digest begins so: the one that was agreed on. The first signature makes it
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    #[command(flatten)]
    loose: LooseArguments,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

pub fn sign(arguments: &Sign, world: &mut World) -> Result<Exit, Trouble> {
    let beside = charters_beside(&arguments.file);
    let charters = read_charters(arguments.charters.as_ref().unwrap_or(&beside))?;
    let charter = charters.newest();
    let root = arguments.root.as_ref();
    let source = arguments.passphrase.source();
    let root = root
        .map(|path| keys::open_signing(path, Role::Root, &source, world))
        .transpose()?;
    if let Some(root) = &root {
        charter
            .permit(root.id(), Act::Directory)
            .because(|| Trouble::new(Exit::Refused, "that key may not sign a directory"))?;
    }
    let failed = || Trouble::failed("the directory can't be signed");
    let shown = arguments.file.display().to_string();
    let bytes = private_file::read_public(&arguments.file, DRAFT_BYTES_MAX, "directory")?;
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| text.contains("exclave directory draft"));
    let (object, is_new) = match text {
        Some(text) => {
            let draft = Draft::parse(&text, &shown)?;
            if draft.anchor()? != charters.anchor() {
                return Err(Trouble::usage(format!(
                    "{shown} is for another archive than the charters"
                )));
            }
            let created: jiff::Timestamp = draft
                .created
                .parse()
                .because(|| Trouble::usage(format!("created can't be read: {:?}", draft.created)))?;
            let place = CompanionPlace {
                anchor: charters.anchor(),
                version: draft.version,
                previous: draft.previous()?,
                charter_version: charter.version,
                charter: charters.newest_hash(),
                created: created.as_second(),
            };
            let readers = draft
                .recipients
                .keys(charter, private_file::directory_of(&arguments.file))?;
            let names = zeroize::Zeroizing::new(draft.directory(&shown)?.to_text()?);
            let companion = seal_companion(place, &names, &readers, &mut OsEntropy)
                .because(|| Trouble::failed("the directory can't be sealed"))?;
            let root = root
                .as_ref()
                .ok_or_else(|| Trouble::usage("a draft is sealed by the root who signs it first: --root KEY"))?;
            (root.sign(&companion, &mut OsEntropy).because(failed)?, true)
        }
        None => {
            let mut object = read_object(&arguments.file)?;
            agreed(arguments.digest.as_deref(), object.record_hash())?;
            companion_signers(&object, &charters)
                .because(|| Trouble::new(Exit::Refused, format!("{shown} is not to be believed")))?;
            if let Some(root) = &root {
                object = root.cosign::<Companion>(&object, &mut OsEntropy).because(failed)?;
            }
            for one in arguments.loose.read()? {
                object = loose::joined(object.record_bytes(), object.signatures(), &one)?;
            }
            (object, false)
        }
    };
    let (companion, signers) = companion_signers(&object, &charters)
        .because(|| Trouble::new(Exit::Refused, "what was signed does not verify"))?;
    if let (Some(root), false) = (&root, is_new) {
        let what = format!("signature on directory {}", companion.version);
        if arguments.loose.write(&what, &object, root.id(), Vec::new(), world)? {
            return Ok(Exit::Done);
        }
    }
    let out = match (&arguments.out, is_new) {
        (Some(out), _) => out.clone(),
        (None, true) => {
            let stem = beside.with_extension("");
            let stem = stem.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = format!("{}.v{}.directory", stem.unwrap_or_default(), companion.version);
            arguments.file.with_file_name(name)
        }
        (None, false) => arguments.file.clone(),
    };
    write(&out, &arguments.file, &object)?;
    world.output.report(&Signed {
        file: out.display().to_string(),
        version: companion.version,
        digest: object.record_hash().to_hex(),
        signed_by: object
            .signatures()
            .iter()
            .map(|signature| signature.key.to_hex())
            .collect(),
        recipients: companion.stanzas.len(),
        signatures: signers.len(),
        signatures_needed: charter.roots.threshold as usize,
    })?;
    Ok(Exit::Done)
}

fn write(out: &std::path::Path, from: &std::path::Path, object: &SignedObject) -> Result<(), Trouble> {
    match out == from {
        true => private_file::replace(out, object.to_bytes(), "directory"),
        false => private_file::create(out, object.to_bytes(), "directory"),
    }
}

fn agreed(wanted: Option<&str>, digest: RecordHash) -> Result<(), Trouble> {
    let Some(wanted) = wanted else { return Ok(()) };
    let wanted: String = wanted.chars().filter(char::is_ascii_hexdigit).collect();
    match wanted.len() >= 16 && digest.to_hex().starts_with(&wanted.to_ascii_lowercase()) {
        true => Ok(()),
        false => Err(Trouble::new(
            Exit::Refused,
            format!("the digest is {}, not {wanted}; nothing was signed", digest.to_hex()),
        )
        .hint("at least 16 digits are compared")),
    }
}

/// A directory that was signed once more.
#[derive(Serialize)]
struct Signed {
    file: String,
    version: u32,
    digest: String,
    signed_by: Vec<String>,
    recipients: usize,
    signatures: usize,
    signatures_needed: usize,
}

impl Report for Signed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let recipients = format::count(self.recipients as u64, "recipient");
        writeln!(
            out,
            "directory version {} sealed to {recipients} and signed in {}",
            self.version, self.file
        )?;
        writeln!(out, "digest {}", self.digest)?;
        match self.signatures >= self.signatures_needed {
            true => writeln!(out, "Enough roots signed: `exclave directory publish {}`", self.file),
            false => writeln!(
                out,
                "Others must sign: `exclave directory sign {} --root KEY`",
                self.file
            ),
        }
    }
}
