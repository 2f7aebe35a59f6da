//! A shard on its own word: what is left to go by when no ledger can be had (FORMAT.md section 5).
//!
//! Nobody vouches for what is read here. The trailer shows that the payload is whole, the header which stripe it says
//! it is of; whether that is true shows when the stripe's commitment fits and its segments open.

use exclave_model::{PayloadHash, Rule, ShardHeader, context::HEADER_BYTES};

use crate::tree::{GroupHash, payload_root};

/// Why an object is no whole shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AloneError {
    /// Too short for a header.
    #[error("{0} bytes are too short for a shard")]
    Short(usize),
    /// Its header is none.
    #[error("the header of a shard is broken")]
    Header(#[source] Rule),
    /// Another length than its header calls for.
    #[error("{found} bytes where the shard's header calls for {expected}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes of the whole object.
        expected: usize,
    },
    /// The trailer does not lead to the hash of the payload.
    #[error("the trailer is not the payload's")]
    Trailer,
}

/// What a shard says of itself.
#[derive(Debug, Clone, Copy)]
pub struct LoneShard<'a> {
    /// Its header.
    pub header: ShardHeader,
    /// Its payload.
    pub payload: &'a [u8],
    /// The payload's hash, which the trailer leads to.
    pub hash: PayloadHash,
}

/// Takes a shard object apart and checks that it agrees with itself.
pub fn read_alone(object: &[u8]) -> Result<LoneShard<'_>, AloneError> {
    let (header, rest) = object
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(AloneError::Short(object.len()))?;
    let header = ShardHeader::from_bytes(header).map_err(AloneError::Header)?;
    let length = header.context.payload;
    let wrong_length = AloneError::Length {
        found: object.len(),
        expected: length.object_bytes(),
    };
    if object.len() != length.object_bytes() {
        return Err(wrong_length);
    }
    let (payload, trailer) = rest.split_at_checked(length.bytes()).ok_or(wrong_length)?;
    let hash = PayloadHash::of(payload);
    let groups = GroupHash::read_trailer(trailer).ok_or(AloneError::Trailer)?;
    if payload_root(&groups) != hash {
        return Err(AloneError::Trailer);
    }
    Ok(LoneShard { header, payload, hash })
}

#[cfg(test)]
mod tests {
    use exclave_model::{
        Anchor, Code, Commitment, LabelTag, PayloadLength, RunId, StripeContext, limit::SEGMENT_BYTES,
    };

    use super::*;
    use crate::trailer_of;

    #[test]
    fn whole_shards_agree_with_themselves() {
        let header = ShardHeader {
            context: StripeContext {
                code: Code::ReedSolomonVandermonde,
                data: 2,
                payload: PayloadLength::new(3 * SEGMENT_BYTES, 2).unwrap(),
                anchor: Anchor::from_bytes([1; 32]),
                run: RunId::from_bytes([2; 16]),
                ordinal: 7,
                salt: [3; 32],
                label_tag: LabelTag::from_bytes([4; 16]),
            },
            index: 1,
            commitment: Commitment::from_bytes([5; 32]),
        };
        let payload: Vec<u8> = (0..3 * SEGMENT_BYTES).map(|at| (at / 7) as u8).collect();
        let object = [&header.to_bytes()[..], &payload, &trailer_of(&payload)].concat();
        let read = read_alone(&object).unwrap();
        assert_eq!(
            (read.header, read.payload, read.hash),
            (header, &payload[..], PayloadHash::of(&payload))
        );
        for (at, expected) in [(0, "header"), (HEADER_BYTES, "trailer"), (object.len() - 1, "trailer")] {
            let mut bad = object.clone();
            bad[at] ^= 1;
            assert!(
                read_alone(&bad).unwrap_err().to_string().contains(expected),
                "byte {at}"
            );
        }
        let longer = [&object[..], &[0]].concat();
        for (bytes, short) in [
            (&object[..object.len() - 1], false),
            (&longer, false),
            (&object[..151], true),
        ] {
            let error = read_alone(bytes).unwrap_err();
            assert_eq!(matches!(error, AloneError::Short(_)), short);
            assert_eq!(matches!(error, AloneError::Length { .. }), !short);
        }
    }
}
