//! What a stripe is bound to, and the header that each of its shards carries (FORMAT.md sections 3 and 5).
//!
//! ```text
//! context (116): magic 8 | version 1 | suite 1 | code 1 | k 1 | payload length 4 | anchor 32 | run 16 | ordinal 4 | salt 32 | label tag 16
//! header (152):  context 116 | index 1 | zero 3 | commitment 32
//! object:        header | payload P | trailer P / 2048
//! ```
//!
//! n is not in the context: parity row i depends on (i, k) only, so a stripe can get more parity later, without keys.

use crate::{
    geometry::Code,
    id::{Anchor, Commitment, LabelTag, RunId},
    limit::{SEGMENT_BYTES, SHARDS_PER_STRIPE_MAX, STRIPE_BYTES_MAX},
    wire::Rule,
};

/// First bytes of every shard object.
pub const MAGIC: [u8; 8] = *b"EXCLSHRD";
/// The version of contexts and headers that this program writes.
pub const VERSION: u8 = 1;
/// AES-256-GCM segments, BLAKE3 hashes.
pub const SUITE: u8 = 1;
/// Bytes of a context.
pub const CONTEXT_BYTES: usize = 116;
/// Bytes of a shard object's header.
pub const HEADER_BYTES: usize = 152;
/// Bytes of one chaining value in a trailer.
pub const CHAINING_VALUE_BYTES: usize = 32;

const _: () = assert!(HEADER_BYTES == CONTEXT_BYTES + 1 + 3 + 32);

/// The length of one shard's payload: whole segments, k of them within the cap of a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadLength(u32);

impl PayloadLength {
    /// Checks a length for stripes of `data` data shards.
    pub fn new(bytes: usize, data: u8) -> Result<Self, Rule> {
        let stripe = bytes.checked_mul(usize::from(data));
        match (u32::try_from(bytes), stripe) {
            (Ok(length), Some(stripe))
                if bytes > 0 && bytes.is_multiple_of(SEGMENT_BYTES) && stripe <= STRIPE_BYTES_MAX && data > 0 =>
            {
                Ok(Self(length))
            }
            _ => Err(Rule::new(
                "bad-geometry",
                format!("a payload of {bytes} bytes in {data} data shards"),
            )),
        }
    }

    /// Bytes.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// Groups of 64 KiB.
    pub const fn groups(self) -> usize {
        self.bytes() / SEGMENT_BYTES
    }

    /// Bytes of the whole shard object: header, payload, trailer.
    pub const fn object_bytes(self) -> usize {
        HEADER_BYTES + self.bytes() + self.groups() * CHAINING_VALUE_BYTES
    }
}

/// What one stripe is: bound to its content by the derivation of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripeContext {
    /// How it was coded.
    pub code: Code,
    /// k: data shards.
    pub data: u8,
    /// Length of each shard's payload.
    pub payload: PayloadLength,
    /// The archive.
    pub anchor: Anchor,
    /// The run that wrote it.
    pub run: RunId,
    /// Its number in the run.
    pub ordinal: u32,
    /// Makes its key its own, even on a cloned machine.
    pub salt: [u8; 32],
    /// Binds the run's label.
    pub label_tag: LabelTag,
}

impl StripeContext {
    /// Bytes of the sealed stripe.
    pub const fn sealed_bytes(&self) -> usize {
        self.payload.bytes() * self.data as usize
    }

    /// Segments of the sealed stripe.
    pub const fn segments(&self) -> usize {
        self.payload.groups() * self.data as usize
    }

    /// The context's bytes.
    pub fn to_bytes(&self) -> [u8; CONTEXT_BYTES] {
        let mut bytes = [0; CONTEXT_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&[VERSION, SUITE, self.code.number(), self.data]);
        bytes[12..16].copy_from_slice(&self.payload.0.to_be_bytes());
        bytes[16..48].copy_from_slice(self.anchor.as_bytes());
        bytes[48..64].copy_from_slice(self.run.as_bytes());
        bytes[64..68].copy_from_slice(&self.ordinal.to_be_bytes());
        bytes[68..100].copy_from_slice(&self.salt);
        bytes[100..].copy_from_slice(self.label_tag.as_bytes());
        bytes
    }

    /// Reads a context.
    pub fn from_bytes(bytes: &[u8; CONTEXT_BYTES]) -> Result<Self, Rule> {
        if bytes[..8] != MAGIC {
            return Err(Rule::new("bad-magic", "not a shard of an Exclave stripe"));
        }
        if bytes[8] != VERSION {
            return Err(Rule::new("bad-version", format!("version {} of a context", bytes[8])));
        }
        if bytes[9] != SUITE {
            return Err(Rule::new("bad-suite", format!("suite {} is unknown", bytes[9])));
        }
        let code = Code::from_number(bytes[10])
            .ok_or_else(|| Rule::new("bad-suite", format!("code {} is unknown", bytes[10])))?;
        let data = bytes[11];
        if data == 0 || usize::from(data) > SHARDS_PER_STRIPE_MAX {
            return Err(Rule::new("bad-geometry", format!("{data} data shards")));
        }
        let length = u32::from_be_bytes(array(bytes, 12)) as usize;
        Ok(Self {
            code,
            data,
            payload: PayloadLength::new(length, data)?,
            anchor: Anchor::from_bytes(array(bytes, 16)),
            run: RunId::from_bytes(array(bytes, 48)),
            ordinal: u32::from_be_bytes(array(bytes, 64)),
            salt: array(bytes, 68),
            label_tag: LabelTag::from_bytes(array(bytes, 100)),
        })
    }
}

/// `N` bytes of a fixed layout; `at + N` is within it by the layout's own constants.
fn array<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// The first bytes of a shard object: enough for a stranger without a ledger to group shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardHeader {
    /// The stripe.
    pub context: StripeContext,
    /// Which shard: below k data, from k on parity.
    pub index: u8,
    /// The stripe's commitment.
    pub commitment: Commitment,
}

impl ShardHeader {
    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..CONTEXT_BYTES].copy_from_slice(&self.context.to_bytes());
        bytes[CONTEXT_BYTES] = self.index;
        bytes[120..].copy_from_slice(self.commitment.as_bytes());
        bytes
    }

    /// Reads a header.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Rule> {
        let context = StripeContext::from_bytes(&array(bytes, 0))?;
        let index = bytes[CONTEXT_BYTES];
        if usize::from(index) >= SHARDS_PER_STRIPE_MAX {
            return Err(Rule::new("bad-geometry", format!("no stripe has a shard {index}")));
        }
        if bytes[117..120] != [0; 3] {
            return Err(Rule::new("bad-padding", "reserved bytes of a header are not zero"));
        }
        Ok(Self {
            context,
            index,
            commitment: Commitment::from_bytes(array(bytes, 120)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ShardHeader {
        ShardHeader {
            context: StripeContext {
                code: Code::ReedSolomonVandermonde,
                data: 4,
                payload: PayloadLength::new(8 << 20, 4).unwrap(),
                anchor: Anchor::from_bytes([1; 32]),
                run: RunId::from_bytes([2; 16]),
                ordinal: 77,
                salt: [3; 32],
                label_tag: LabelTag::from_bytes([4; 16]),
            },
            index: 5,
            commitment: Commitment::from_bytes([6; 32]),
        }
    }

    #[test]
    fn every_bit_of_a_header_counts() {
        let bytes = header().to_bytes();
        assert_eq!(ShardHeader::from_bytes(&bytes), Ok(header()));
        for at in 0..HEADER_BYTES {
            for bit in 0..8 {
                let mut bad = bytes;
                bad[at] ^= 1 << bit;
                assert_ne!(ShardHeader::from_bytes(&bad), Ok(header()), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn sizes_are_those_of_the_format() {
        let payload = |bytes, data| PayloadLength::new(bytes, data).unwrap();
        assert_eq!(payload(64 << 10, 2).object_bytes(), 65_720);
        assert_eq!(payload(8 << 20, 4).object_bytes(), 8_392_856);
        assert_eq!(
            crate::directory::plain_bytes(header().context.sealed_bytes()),
            33_546_240
        );
        for (bytes, data) in [(0, 1), (65_535, 1), (65_537, 1), (1 << 30, 2), (64 << 10, 0)] {
            assert!(PayloadLength::new(bytes, data).is_err());
        }
    }
}
