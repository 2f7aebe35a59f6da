//! What crosses an air gap in small pieces (FORMAT.md section 25): a charter to be signed, and one signature back.
//!
//! A version that nobody has signed is no signed record yet, so it travels as its history and its bytes. What comes back is
//! one signature alone, with the hash of the record that it is over, and plates where the version adds sites.

use minicbor::{Decode, Decoder, Encode, bytes::ByteVec};

use crate::{
    cbor,
    charter::CHARTER_FILE_BYTES_MAX,
    id::RecordHash,
    limit::RECORD_BYTES_MAX,
    signed::{Signature, SignedObject, WireSignature, decode_signature, version},
    wire::{RecordError, Rule, Version1, check_version, encode, refusal},
};

/// Longest signature that travels alone: 3.4 KiB, and a plate of as much for each of a few dozen new sites.
pub const LOOSE_SIGNATURE_BYTES_MAX: usize = 256 << 10;

const KIND_PROPOSAL: &str = "unsigned charter";
const KIND_SIGNATURE: &str = "signature";

/// A charter's next version before anyone signed it. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedCharter {
    /// The versions before it, from 1 on.
    pub history: Vec<SignedObject>,
    /// Its record's bytes.
    pub record: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireProposal(#[n(0)] Version1, #[n(1)] Vec<ByteVec>, #[n(2)] ByteVec);

impl UnsignedCharter {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let history = self.history.iter().map(|object| ByteVec::from(object.to_bytes()));
        encode(&WireProposal(
            Version1,
            history.collect(),
            ByteVec::from(self.record.clone()),
        ))
    }

    /// Reads a file strictly. The records in it are not looked at.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let kind = KIND_PROPOSAL;
        outside(kind, bytes, CHARTER_FILE_BYTES_MAX)?;
        check_version(kind, version(bytes))?;
        let wire = WireProposal::decode(&mut Decoder::new(bytes), &mut ()).map_err(|source| refusal(kind, source))?;
        if encode(&wire) != bytes {
            return Err(RecordError::Surplus { kind });
        }
        let history = wire
            .1
            .iter()
            .map(|object| SignedObject::from_bytes(object, RECORD_BYTES_MAX));
        let history: Vec<SignedObject> = history.collect::<Result<_, _>>()?;
        if history.is_empty() {
            let rule = Rule::new("bad-record", "an unsigned charter follows no version");
            return Err(RecordError::Unlawful { kind, rule });
        }
        Ok(Self {
            history,
            record: wire.2.to_vec(),
        })
    }
}

/// One signature, apart from its record. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LooseSignature {
    /// The hash of the record that it is over.
    pub record: RecordHash,
    /// The signature.
    pub signature: Signature,
    /// Plates that the signer made for sites that a charter adds.
    pub plates: Vec<SignedObject>,
}

impl LooseSignature {
    /// The file's bytes: `[1, hash, signature, [* plate]]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signature = &self.signature;
        let signature = WireSignature(signature.key, signature.ed25519.to_vec(), signature.ml_dsa.to_vec());
        let plates: Vec<ByteVec> = self
            .plates
            .iter()
            .map(|plate| ByteVec::from(plate.to_bytes()))
            .collect();
        encode(&WireLoose(Version1, self.record, signature, plates))
    }

    /// Reads a file strictly. The plates in it are not looked at.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let kind = KIND_SIGNATURE;
        outside(kind, bytes, LOOSE_SIGNATURE_BYTES_MAX)?;
        check_version(kind, loose_version(bytes))?;
        let mut decoder = Decoder::new(bytes);
        let read = |decoder: &mut Decoder<'_>| {
            let _ = (decoder.array()?, decoder.int()?);
            let record = RecordHash::decode(decoder, &mut ())?;
            let signature = decode_signature(decoder)?;
            let plates = Vec::<ByteVec>::decode(decoder, &mut ())?;
            Ok::<_, minicbor::decode::Error>((record, signature, plates))
        };
        let (record, signature, plates) = read(&mut decoder).map_err(|source| refusal(kind, source))?;
        let plates = plates
            .iter()
            .map(|plate| SignedObject::from_bytes(plate, RECORD_BYTES_MAX));
        let loose = Self {
            record,
            signature,
            plates: plates.collect::<Result<_, _>>()?,
        };
        match loose.to_bytes() == bytes {
            true => Ok(loose),
            false => Err(RecordError::Surplus { kind }),
        }
    }
}

#[derive(Encode)]
#[cbor(array)]
struct WireLoose(
    #[n(0)] Version1,
    #[n(1)] RecordHash,
    #[n(2)] WireSignature,
    #[n(3)] Vec<ByteVec>,
);

fn loose_version(bytes: &[u8]) -> Option<minicbor::data::Int> {
    let mut decoder = Decoder::new(bytes);
    (decoder.array().ok()?? == 4).then(|| decoder.int().ok())?
}

/// The length, then the encoding as a whole.
fn outside(kind: &'static str, bytes: &[u8], cap: usize) -> Result<(), RecordError> {
    if bytes.len() > cap {
        let found = bytes.len();
        return Err(RecordError::TooLong { kind, found, cap });
    }
    cbor::check(bytes).map_err(|source| RecordError::NotCanonical { kind, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::KeyId, signed::ML_DSA_65_SIGNATURE_BYTES};

    fn signature(key: u8) -> Signature {
        Signature {
            key: KeyId::from_bytes([key; 32]),
            ed25519: [key; 64],
            ml_dsa: Box::new([key; ML_DSA_65_SIGNATURE_BYTES]),
        }
    }

    #[test]
    fn what_crosses_reads_back_and_nothing_else_does() {
        let object = SignedObject::new(vec![0xa0], vec![signature(1)]);
        let charter = UnsignedCharter {
            history: vec![object.clone()],
            record: vec![1, 2, 3],
        };
        let loose = LooseSignature {
            record: RecordHash::from_bytes([9; 32]),
            signature: signature(2),
            plates: vec![object],
        };
        let (charter_bytes, loose_bytes) = (charter.to_bytes(), loose.to_bytes());
        assert_eq!(UnsignedCharter::from_bytes(&charter_bytes).unwrap(), charter);
        assert_eq!(LooseSignature::from_bytes(&loose_bytes).unwrap(), loose);
        assert!(UnsignedCharter::from_bytes(&loose_bytes).is_err());
        assert!(LooseSignature::from_bytes(&charter_bytes).is_err());
        for bytes in [&charter_bytes, &loose_bytes] {
            for end in 0..bytes.len().min(200) {
                assert!(UnsignedCharter::from_bytes(&bytes[..end]).is_err());
                assert!(LooseSignature::from_bytes(&bytes[..end]).is_err());
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(UnsignedCharter::from_bytes(&longer).is_err() && LooseSignature::from_bytes(&longer).is_err());
        }
        let none = UnsignedCharter {
            history: Vec::new(),
            record: Vec::new(),
        };
        assert!(UnsignedCharter::from_bytes(&none.to_bytes()).is_err());
    }
}
