//! A signature that travels alone: made on a machine without a network, joined to its record elsewhere.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_model::{KeyId, LooseSignature, Signature, SignedObject, handover::LOOSE_SIGNATURE_BYTES_MAX};
use serde::Serialize;

use crate::{
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    output::Report,
    parts::{self, PartsArguments},
    private_file,
};

/// How a signature leaves a machine, or comes to one.
#[derive(Debug, Args)]
pub struct LooseArguments {
    /// Write just the signature to FILE; the file that was signed stays as it is
    #[arg(long, value_name = "FILE", requires = "root")]
    pub signature_only: Option<PathBuf>,
    /// Take a signature that was made elsewhere, a file or its parts as lines, instead of a key; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub signature: Vec<PathBuf>,
    #[command(flatten)]
    pub parts: PartsArguments,
}

impl LooseArguments {
    /// The signatures that were made elsewhere.
    pub fn read(&self) -> Result<Vec<LooseSignature>, Trouble> {
        let read = |path: &PathBuf| {
            let shown = path.display().to_string();
            // As lines it is longer by the base, and by what each line says of itself.
            let bytes = private_file::read_public(path, 4 * LOOSE_SIGNATURE_BYTES_MAX, "signature")?;
            LooseSignature::from_bytes(&parts::whole(bytes, &shown)?)
                .because(|| Trouble::usage(format!("{shown} is no signature")))
        };
        self.signature.iter().map(read).collect()
    }

    /// Writes one key's signature, and shows it in parts when that is wanted. False when a whole file is wanted instead.
    pub fn write(
        &self,
        what: &str,
        object: &SignedObject,
        key: KeyId,
        plates: Vec<SignedObject>,
        world: &mut World,
    ) -> Result<bool, Trouble> {
        let Some(path) = &self.signature_only else {
            return Ok(false);
        };
        let ours = object.signatures().iter().find(|signature| signature.key == key);
        let ours = ours.ok_or_else(|| Trouble::failed("the signature is not among those of the record"))?;
        let loose = LooseSignature {
            record: object.record_hash(),
            signature: ours.clone(),
            plates,
        };
        let bytes = loose.to_bytes();
        private_file::create(path, &bytes, "signature")?;
        self.parts.show(what, &bytes, world)?;
        world.output.report(&Written::of(path, &loose, bytes.len()))?;
        Ok(true)
    }
}

/// A record's object with a further signature. Whether that verifies is the caller's to see.
pub fn joined(record: &[u8], there: &[Signature], loose: &LooseSignature) -> Result<SignedObject, Trouble> {
    let mut signatures = there.to_vec();
    if !signatures.iter().any(|signature| signature.key == loose.signature.key) {
        signatures.push(loose.signature.clone());
    }
    let object = SignedObject::new(record.to_vec(), signatures);
    match object.record_hash() == loose.record {
        true => Ok(object),
        false => Err(Trouble::new(
            Exit::Refused,
            format!(
                "the signature is over {}, and this is {}",
                loose.record.to_hex(),
                object.record_hash().to_hex()
            ),
        )),
    }
}

/// A signature in a file.
#[derive(Serialize)]
struct Written {
    file: String,
    digest: String,
    signed_by: String,
    bytes: usize,
}

impl Written {
    fn of(path: &Path, loose: &LooseSignature, bytes: usize) -> Self {
        Self {
            file: path.display().to_string(),
            digest: loose.record.to_hex(),
            signed_by: loose.signature.key.to_hex(),
            bytes,
        }
    }
}

impl Report for Written {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "signature of {} in {}: {} bytes",
            self.signed_by, self.file, self.bytes
        )?;
        writeln!(out, "digest {}", self.digest)?;
        writeln!(
            out,
            "Join it where the file is: the same command with --signature {}",
            self.file
        )
    }
}
