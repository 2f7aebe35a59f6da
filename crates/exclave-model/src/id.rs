//! Identifiers: fixed-length byte strings with one written form each.
//!
//! `Display` prints the first eight hex digits, enough for a person to tell two apart; `Debug` and
//! [`hex`] print all of them; parsing accepts only the full lowercase form. Sixteen-byte ids are random
//! (a collision needs about 2^64 draws); thirty-two-byte ids are BLAKE3 hashes.

use minicbor::bytes::ByteArray;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {digits} lowercase hex digits, found {found:?}")]
pub struct BadId {
    kind: &'static str,
    digits: usize,
    found: String,
}

/// Writes bytes as lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads exactly `N` bytes of lowercase hex; `None` for anything else.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

macro_rules! define_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Bytes in this id.
            pub const BYTES: usize = $bytes;

            /// Takes bytes that are an id by construction: fresh randomness or a hash.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes, as written in records.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// All digits, as written in object names and settings.
            pub fn to_hex(&self) -> String {
                hex(&self.0)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex(&self.0[..4]))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), hex(&self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                unhex(text).map(Self).ok_or_else(|| BadId {
                    kind: $kind,
                    digits: $bytes * 2,
                    found: text.chars().take(80).collect(),
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_hex())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                decoder: &mut minicbor::Decoder<'b>,
                context: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                ByteArray::<$bytes>::decode(decoder, context).map(|bytes| Self(*bytes))
            }
        }
    };
}

define_id! {
    /// Names an archive, and is its trust anchor: the BLAKE3 hash of charter version 1.
    Anchor, 32, "an archive anchor"
}
define_id! {
    /// Names a signing key: BLAKE3 of the Ed25519 public key followed by the ML-DSA-65 public key.
    KeyId, 32, "a key id"
}
define_id! {
    /// Names a recipient: BLAKE3 of its X-Wing public key.
    RecipientId, 32, "a recipient id"
}
define_id! {
    /// The BLAKE3 hash of a record's exact bytes.
    RecordHash, 32, "a record hash"
}
define_id! {
    /// The plain BLAKE3 hash of a shard's payload.
    PayloadHash, 32, "a payload hash"
}
define_id! {
    /// The plain BLAKE3 hash of a kit's file, or of a piece of one.
    FileHash, 32, "a file's hash"
}
define_id! {
    /// Names a chunk inside one dataset: keyed BLAKE3 of its raw bytes, under the dataset's dedup key.
    ChunkId, 32, "a chunk id"
}
define_id! {
    /// Shows which key material a sealed thing was made with, without revealing it.
    Commitment, 32, "a commitment"
}
define_id! {
    /// Names a dataset, opaquely: nothing about it can be read from the id.
    DatasetId, 16, "a dataset id"
}
define_id! {
    /// Names one replication of one dataset.
    RunId, 16, "a run id"
}
define_id! {
    /// Names a site.
    SiteId, 16, "a site id"
}
define_id! {
    /// Names one life of a writer: a restored or cloned agent gets a new one.
    Incarnation, 16, "an incarnation"
}
define_id! {
    /// Names a share set. Eight random bytes: it tells an owner's sets apart and protects nothing, and people type it.
    ShareSetId, 8, "a share set id"
}
define_id! {
    /// Binds a label to a run without showing it.
    LabelTag, 16, "a label tag"
}

impl RecordHash {
    /// The hash of a record's exact bytes.
    pub fn of(record: &[u8]) -> Self {
        Self(*blake3::hash(record).as_bytes())
    }
}

impl FileHash {
    /// The hash of a file, or of a piece of one.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl PayloadHash {
    /// The hash of a shard's payload.
    pub fn of(payload: &[u8]) -> Self {
        Self(*blake3::hash(payload).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_full_lowercase_form_parses() {
        let id = RunId::from_bytes([0xa5; 16]);
        assert_eq!(id.to_hex().parse::<RunId>(), Ok(id));
        assert_eq!(id.to_string(), "a5a5a5a5");
        for bad in ["", "a5", &id.to_hex().to_uppercase(), &format!("{}0", id.to_hex())] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
