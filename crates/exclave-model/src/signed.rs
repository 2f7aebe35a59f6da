//! A record with its signatures, as one object (FORMAT.md section 7).
//!
//! The object is `[1, record bytes, [[key id, Ed25519 signature, ML-DSA-65 signature] ...]]`. Signing and verifying use
//! the record's exact bytes; this module only takes them apart. Verification is `exclave-seal`'s.

use minicbor::{Decoder, Encode, data::Int, decode};

use crate::{
    cbor,
    id::{KeyId, RecordHash},
    limit::RECORD_BYTES_MAX,
    wire::{Record, RecordError, Rule, Version1, broken, check_version, encode, refusal, strictly_ascending},
};

/// Bytes of an Ed25519 signature (RFC 8032).
pub const ED25519_SIGNATURE_BYTES: usize = 64;
/// Bytes of an ML-DSA-65 signature (FIPS 204).
pub const ML_DSA_65_SIGNATURE_BYTES: usize = 3309;
/// Bytes of a public key: Ed25519 (32), ML-DSA-65 (1,952).
pub const PUBLIC_KEY_BYTES: usize = 32 + 1952;

/// A public signing key: both halves, always used together.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Box<[u8; PUBLIC_KEY_BYTES]>);

impl PublicKey {
    /// Takes the bytes of both halves; whether they are points and polynomials shows when they are used.
    pub fn from_bytes(bytes: [u8; PUBLIC_KEY_BYTES]) -> Self {
        Self(Box::new(bytes))
    }

    /// Ed25519 key, then ML-DSA-65 key.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.0
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        KeyId::from_bytes(*blake3::hash(&self.0[..]).as_bytes())
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

crate::wire::boxed_bytes!(PublicKey, PUBLIC_KEY_BYTES);

/// A record whose type string separates its signatures from all others.
pub trait SignedRecord: Record {
    /// The type string of FORMAT.md section 7.
    const TYPE: &'static str;

    /// What is signed: type string, a zero byte, the record's bytes.
    fn message(record_bytes: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(Self::TYPE.len() + 1 + record_bytes.len());
        message.extend_from_slice(Self::TYPE.as_bytes());
        message.push(0);
        message.extend_from_slice(record_bytes);
        message
    }
}

/// Both signatures of one key over one message.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    /// Who signed.
    pub key: KeyId,
    /// RFC 8032.
    pub ed25519: [u8; ED25519_SIGNATURE_BYTES],
    /// FIPS 204.
    pub ml_dsa: Box<[u8; ML_DSA_65_SIGNATURE_BYTES]>,
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({})", self.key)
    }
}

/// A record with signatures that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedObject {
    record: Vec<u8>,
    signatures: Vec<Signature>,
}

impl SignedObject {
    /// Joins a record's bytes and its signatures.
    pub fn new(record: Vec<u8>, mut signatures: Vec<Signature>) -> Self {
        signatures.sort_by_key(|signature| signature.key);
        Self { record, signatures }
    }

    /// The record's exact bytes.
    pub fn record_bytes(&self) -> &[u8] {
        &self.record
    }

    /// The signatures, ascending by key.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The record's hash, which names it in other records.
    pub fn record_hash(&self) -> RecordHash {
        RecordHash::of(&self.record)
    }

    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures = self
            .signatures
            .iter()
            .map(|signature| WireSignature(signature.key, signature.ed25519.to_vec(), signature.ml_dsa.to_vec()))
            .collect();
        encode(&WireSigned(Version1, self.record.clone(), signatures))
    }

    /// Reads an object of at most `bytes_max` bytes strictly. The record inside is not looked at.
    pub fn from_bytes(bytes: &[u8], bytes_max: usize) -> Result<Self, RecordError> {
        let kind = KIND;
        let cap = bytes_max.min(RECORD_BYTES_MAX);
        if bytes.len() > cap {
            return Err(RecordError::TooLong {
                kind,
                found: bytes.len(),
                cap,
            });
        }
        cbor::check(bytes).map_err(|source| RecordError::NotCanonical { kind, source })?;
        check_version(kind, version(bytes))?;
        let object = decode_object(&mut Decoder::new(bytes)).map_err(|source| refusal(kind, source))?;
        let keys: Vec<_> = object.signatures.iter().map(|signature| signature.key).collect();
        if !strictly_ascending(&keys) {
            let rule = Rule::new("bad-order", "signatures are not in ascending order of keys");
            return Err(RecordError::Unlawful { kind, rule });
        }
        Ok(object)
    }
}

const KIND: &str = "signed record";

/// The version in front of an array of three.
pub(crate) fn version(bytes: &[u8]) -> Option<Int> {
    let mut decoder = Decoder::new(bytes);
    (decoder.array().ok()?? == 3).then(|| decoder.int().ok())?
}

/// By hand, since a signature is kept only once its lengths are right: three bytes of input must not cost a hundred of
/// memory.
fn decode_object(decoder: &mut Decoder<'_>) -> Result<SignedObject, decode::Error> {
    let _ = (decoder.array()?, decoder.int()?);
    let record = decoder.bytes()?;
    let count = decoder.array()?.unwrap_or(0);
    if count == 0 {
        return Err(missing("nobody signed"));
    }
    let signatures = (0..count)
        .map(|_| decode_signature(decoder))
        .collect::<Result<_, _>>()?;
    Ok(SignedObject {
        record: record.to_vec(),
        signatures,
    })
}

pub(crate) fn decode_signature(decoder: &mut Decoder<'_>) -> Result<Signature, decode::Error> {
    let count = decoder.array()?.unwrap_or(0);
    let mut parts: [&[u8]; 3] = [&[]; 3];
    let mut any_empty = false;
    for at in 0..count {
        let part = decoder.bytes()?;
        any_empty |= part.is_empty();
        if let Some(slot) = usize::try_from(at).ok().and_then(|at| parts.get_mut(at)) {
            *slot = part;
        }
    }
    if count < 3 || any_empty {
        return Err(missing("half of a signature is missing"));
    }
    let [key, ed25519, ml_dsa] = parts;
    match (
        key.try_into(),
        ed25519.try_into(),
        <[u8; ML_DSA_65_SIGNATURE_BYTES]>::try_from(ml_dsa),
    ) {
        (Ok(key), Ok(ed25519), Ok(ml_dsa)) if count == 3 => Ok(Signature {
            key: KeyId::from_bytes(key),
            ed25519,
            ml_dsa: Box::new(ml_dsa),
        }),
        _ => Err(decode::Error::message(
            "a signature has another number of parts or other lengths",
        )),
    }
}

fn missing(text: &str) -> decode::Error {
    broken(Rule::new("missing-signature", text))
}

#[derive(Encode)]
#[cbor(array)]
struct WireSigned(
    #[n(0)] Version1,
    #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>,
    #[n(2)] Vec<WireSignature>,
);

#[derive(Encode)]
#[cbor(array)]
pub(crate) struct WireSignature(
    #[n(0)] pub(crate) KeyId,
    #[cbor(n(1), with = "minicbor::bytes")] pub(crate) Vec<u8>,
    #[cbor(n(2), with = "minicbor::bytes")] pub(crate) Vec<u8>,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_read_back_and_order_is_kept() {
        let signature = |key: u8| Signature {
            key: KeyId::from_bytes([key; 32]),
            ed25519: [key; 64],
            ml_dsa: Box::new([key; ML_DSA_65_SIGNATURE_BYTES]),
        };
        let object = SignedObject::new(vec![0xa0], vec![signature(2), signature(1)]);
        let bytes = object.to_bytes();
        assert_eq!(SignedObject::from_bytes(&bytes, 1 << 20).unwrap(), object);
        assert!(SignedObject::from_bytes(&bytes, bytes.len() - 1).is_err());
        assert!(SignedObject::from_bytes(&bytes[..bytes.len() - 1], 1 << 20).is_err());
        let twice = SignedObject::new(vec![0xa0], vec![signature(1), signature(1)]).to_bytes();
        assert!(SignedObject::from_bytes(&twice, 1 << 20).is_err());
        let none = SignedObject::new(vec![0xa0], vec![]).to_bytes();
        assert!(SignedObject::from_bytes(&none, 1 << 20).is_err());
    }

    #[test]
    fn half_a_signature_is_a_missing_one() {
        let parts = |lengths: &[usize]| {
            let mut encoder = minicbor::Encoder::new(Vec::new());
            encoder.array(3).unwrap().u8(1).unwrap().bytes(&[0xa0]).unwrap();
            encoder.array(1).unwrap().array(lengths.len() as u64).unwrap();
            for length in lengths {
                encoder.bytes(&vec![7; *length]).unwrap();
            }
            SignedObject::from_bytes(&encoder.into_writer(), 1 << 20)
        };
        assert!(parts(&[32, 64, 3309]).is_ok());
        for missing in [&[32, 64][..], &[32, 64, 0], &[32, 0, 3309], &[]] {
            let error = parts(missing).unwrap_err();
            assert!(
                matches!(&error, RecordError::Unlawful { rule, .. } if rule.kind == "missing-signature"),
                "{missing:?}: {error:?}"
            );
        }
        for malformed in [&[32, 63, 3309][..], &[32, 64, 3309, 1]] {
            assert!(
                matches!(parts(malformed), Err(RecordError::Malformed { .. })),
                "{malformed:?}"
            );
        }
    }
}
