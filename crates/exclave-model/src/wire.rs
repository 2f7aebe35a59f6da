//! The one written form of records: deterministic CBOR (RFC 8949 section 4.2.1) with integer keys.
//!
//! Reading goes from the outside in, so that two readers refuse the same bytes for the same reason: the length, the
//! encoding as a whole ([`cbor`]), the version, the fields, the rules. Last comes *encode again, compare*:
//! whatever the decoder passed over (an unknown field, an element too many) changes the bytes and is refused. So every
//! record has one spelling, and its hash names its meaning.

use std::error::Error as _;

use minicbor::{Decode, Decoder, Encode, Encoder, data::Int, decode};

use crate::cbor::{self, NotCanonical};

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than the cap for its kind; not decoded.
    #[error("{kind} of {found} bytes is longer than the cap of {cap}")]
    TooLong {
        /// The record's kind.
        kind: &'static str,
        /// Bytes found.
        found: usize,
        /// The cap.
        cap: usize,
    },
    /// Not one item of deterministic CBOR.
    #[error("{kind} is not in the one written form of records")]
    NotCanonical {
        /// The record's kind.
        kind: &'static str,
        /// What stands where.
        source: NotCanonical,
    },
    /// Not a map or array that begins with a version.
    #[error("{kind} does not begin with a version")]
    NoVersion {
        /// The record's kind.
        kind: &'static str,
    },
    /// A version that this program does not know.
    #[error("{kind} has version {found}, this program reads version 1")]
    Version {
        /// The record's kind.
        kind: &'static str,
        /// The version found.
        found: Int,
    },
    /// Not the CBOR structure of this kind.
    #[error("{kind} does not parse")]
    Malformed {
        /// The record's kind.
        kind: &'static str,
        /// Where the decoder stopped.
        source: minicbor::decode::Error,
    },
    /// A field or an element that this kind does not have.
    #[error("{kind} has a field or an element too many")]
    Surplus {
        /// The record's kind.
        kind: &'static str,
    },
    /// Well-formed, but breaks a rule of the format.
    #[error("{kind} breaks a rule: {rule}")]
    Unlawful {
        /// The record's kind.
        kind: &'static str,
        /// The rule and what was found.
        rule: Rule,
    },
}

/// A rule of FORMAT.md that a record breaks, with a stable kind for vectors and people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Rule {
    /// The failure kind shared with the independent decoder, such as `bad-order`.
    pub kind: &'static str,
    /// What was found, for people.
    pub text: String,
}

impl Rule {
    /// A broken rule.
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

/// A record: a value with one written form.
pub trait Record: Sized + Encode<()> + for<'b> Decode<'b, ()> {
    /// What a person calls it.
    const KIND: &'static str;
    /// Longest accepted form in bytes, without signatures.
    const BYTES_MAX: usize;

    /// The rules of FORMAT.md that the types do not already express.
    fn law(&self) -> Result<(), Rule>;

    /// Writes the record; fails only when the value breaks its own law or cap.
    fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        self.law()
            .map_err(|rule| RecordError::Unlawful { kind: Self::KIND, rule })?;
        let bytes = encode(self);
        within_cap::<Self>(bytes.len())?;
        Ok(bytes)
    }

    /// Reads the record strictly.
    fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let kind = Self::KIND;
        within_cap::<Self>(bytes.len())?;
        cbor::check(bytes).map_err(|source| RecordError::NotCanonical { kind, source })?;
        check_version(kind, version(bytes))?;
        let record = Self::decode(&mut Decoder::new(bytes), &mut ()).map_err(|source| refusal(kind, source))?;
        if encode(&record) != bytes {
            return Err(RecordError::Surplus { kind });
        }
        record.law().map_err(|rule| RecordError::Unlawful { kind, rule })?;
        Ok(record)
    }
}

/// What a decoder's error means: a rule that only the decoder could check, or another structure.
pub(crate) fn refusal(kind: &'static str, error: decode::Error) -> RecordError {
    let rule = error.source().and_then(|source| source.downcast_ref::<Rule>()).cloned();
    match rule {
        Some(rule) => RecordError::Unlawful { kind, rule },
        None => RecordError::Malformed { kind, source: error },
    }
}

/// Carries a broken rule through a decoder.
pub(crate) fn broken(rule: Rule) -> decode::Error {
    decode::Error::custom(rule)
}

fn within_cap<R: Record>(found: usize) -> Result<(), RecordError> {
    if found > R::BYTES_MAX {
        return Err(RecordError::TooLong {
            kind: R::KIND,
            found,
            cap: R::BYTES_MAX,
        });
    }
    Ok(())
}

/// Version 1 is the only one so far.
pub(crate) fn check_version(kind: &'static str, found: Option<Int>) -> Result<(), RecordError> {
    match found {
        None => Err(RecordError::NoVersion { kind }),
        Some(found) if found != Int::from(1u8) => Err(RecordError::Version { kind, found }),
        Some(_) => Ok(()),
    }
}

/// The version in field 0, when the bytes begin like a record at all.
fn version(bytes: &[u8]) -> Option<Int> {
    let mut decoder = Decoder::new(bytes);
    decoder.map().ok()??;
    (decoder.u8().ok()? == 0).then(|| decoder.int().ok())?
}

/// Encodes into memory, which cannot fail.
pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    let written = encoder.encode(value).is_ok();
    assert!(
        written,
        "memory takes every byte, and our encoders raise no errors of their own"
    );
    encoder.into_writer()
}

/// The number 1: the version of every record so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version1;

impl<C> Encode<C> for Version1 {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.u8(1)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Version1 {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        match decoder.u64()? {
            1 => Ok(Self),
            _ => Err(minicbor::decode::Error::message("unknown version")),
        }
    }
}

/// True when a list is strictly ascending: sorted, and nothing twice.
pub(crate) fn strictly_ascending<T: Ord>(list: &[T]) -> bool {
    list.windows(2).all(|pair| pair[0] < pair[1])
}

/// Implements the codec of a newtype over `Box<[u8; N]>` that has `from_bytes` and `as_bytes`.
macro_rules! boxed_bytes {
    ($name:ident, $bytes:expr) => {
        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.bytes(&self.as_bytes()[..])?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                <[u8; $bytes]>::try_from(decoder.bytes()?)
                    .map($name::from_bytes)
                    .map_err(|_| minicbor::decode::Error::message("a byte string has another length"))
            }
        }
    };
}
pub(crate) use boxed_bytes;
