//! The file that carries charters between people (FORMAT.md section 8): the whole history up to a proposed version, so
//! that whoever signs can check it against nothing but the anchor.

use minicbor::{Decode, Decoder, Encode, bytes::ByteVec};

use crate::{
    cbor,
    limit::RECORD_BYTES_MAX,
    signed::{SignedObject, version},
    wire::{RecordError, Rule, Version1, check_version, encode, refusal},
};

/// Longest charter file: a few versions of the longest charter.
pub const CHARTER_FILE_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;

const KIND: &str = "charter file";

/// Charters from version 1 on, and plates for sites that the last one adds. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharterFile {
    /// The versions, in order; the last one may lack signatures.
    pub charters: Vec<SignedObject>,
    /// Plates for the sites that the last one adds.
    pub plates: Vec<SignedObject>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Wire(#[n(0)] Version1, #[n(1)] Vec<ByteVec>, #[n(2)] Vec<ByteVec>);

impl CharterFile {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |objects: &[SignedObject]| -> Vec<ByteVec> {
            objects.iter().map(|object| ByteVec::from(object.to_bytes())).collect()
        };
        encode(&Wire(Version1, bytes(&self.charters), bytes(&self.plates)))
    }

    /// Reads a file strictly. The records in it are not looked at.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > CHARTER_FILE_BYTES_MAX {
            return Err(RecordError::TooLong {
                kind: KIND,
                found: bytes.len(),
                cap: CHARTER_FILE_BYTES_MAX,
            });
        }
        cbor::check(bytes).map_err(|source| RecordError::NotCanonical { kind: KIND, source })?;
        check_version(KIND, version(bytes))?;
        let wire = Wire::decode(&mut Decoder::new(bytes), &mut ()).map_err(|source| refusal(KIND, source))?;
        if encode(&wire) != bytes {
            return Err(RecordError::Surplus { kind: KIND });
        }
        let objects = |list: &[ByteVec]| -> Result<Vec<SignedObject>, RecordError> {
            list.iter()
                .map(|object| SignedObject::from_bytes(object, RECORD_BYTES_MAX))
                .collect()
        };
        let file = Self {
            charters: objects(&wire.1)?,
            plates: objects(&wire.2)?,
        };
        if file.charters.is_empty() {
            let rule = Rule::new("bad-record", "a charter file holds no charter");
            return Err(RecordError::Unlawful { kind: KIND, rule });
        }
        Ok(file)
    }
}
