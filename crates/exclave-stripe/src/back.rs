//! Shards become chunks again: verify, decode, verify again, open, cut out.

use std::ops::Range;

use bytes::Bytes;
use exclave_erasure::{Coder, TooFew};
use exclave_model::{
    BufferPool, Directory, Geometry, PayloadHash, PayloadLength, Rule, ShardHeader, StripeContext, StripeRecord,
    buffer::PooledBuffer,
    context::{CHAINING_VALUE_BYTES, HEADER_BYTES},
    limit::{SEGMENT_BYTES, SEGMENT_PLAIN_BYTES},
};
use exclave_seal::{OpenError, RunKey, StripeKey, stripe_key::SegmentPosition};
use zeroize::Zeroizing;

use crate::{
    column::{blocks, blocks_mut},
    tree::{GroupHash, payload_root},
};

/// Why bytes are not the shard that the ledger describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The stripe has no shard of this index.
    #[error("the stripe has no shard {0}")]
    NoSuchIndex(u8),
    /// Another length than a shard of this stripe has.
    #[error("{found} bytes where a shard has {expected}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes of the shard object.
        expected: usize,
    },
    /// Other bytes than the ledger's hash names.
    #[error("the payload's hash is not the ledger's")]
    Hash,
    /// The payload is right and the header isn't.
    #[error("the header is not this shard's")]
    Header,
    /// The payload is right and the trailer doesn't lead to its hash.
    #[error("the trailer is not the payload's")]
    Trailer,
}

/// A shard whose payload has the ledger's hash.
#[derive(Debug, Clone)]
pub struct VerifiedShard {
    index: u8,
    payload: Bytes,
}

impl VerifiedShard {
    /// Its place in the stripe.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Its payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// Checks a shard object's payload against the ledger. The header is not looked at: the ledger overrides it.
pub fn verify_shard(record: &StripeRecord, index: u8, object: &Bytes) -> Result<VerifiedShard, ShardError> {
    let expected_hash = record
        .payloads
        .get(usize::from(index))
        .ok_or(ShardError::NoSuchIndex(index))?;
    let payload = record.context.payload;
    if object.len() != payload.object_bytes() {
        return Err(ShardError::Length {
            found: object.len(),
            expected: payload.object_bytes(),
        });
    }
    let payload = object.slice(HEADER_BYTES..HEADER_BYTES + payload.bytes());
    if PayloadHash::of(&payload) != *expected_hash {
        return Err(ShardError::Hash);
    }
    Ok(VerifiedShard { index, payload })
}

/// Checks a whole shard object: payload, header and trailer. Whoever has the ledger needs only the payload; single groups
/// are proven by the trailer, and header and trailer are what is left to go by when ledgers are lost.
pub fn verify_whole(record: &StripeRecord, index: u8, object: &Bytes) -> Result<VerifiedShard, ShardError> {
    let shard = verify_shard(record, index, object)?;
    let header = ShardHeader {
        context: record.context,
        index,
        commitment: record.commitment,
    };
    if object.get(..HEADER_BYTES) != Some(&header.to_bytes()[..]) {
        return Err(ShardError::Header);
    }
    let trailer = object.get(HEADER_BYTES + record.context.payload.bytes()..);
    let hashes = trailer.and_then(GroupHash::read_trailer).ok_or(ShardError::Trailer)?;
    // The length was right, so there is a hash for each group.
    match record.payloads.get(usize::from(index)) {
        Some(expected) if payload_root(&hashes) == *expected => Ok(shard),
        _ => Err(ShardError::Trailer),
    }
}

/// Where one group lies in a shard object.
pub fn group_range(group: usize) -> Range<usize> {
    let start = HEADER_BYTES + group * SEGMENT_BYTES;
    start..start + SEGMENT_BYTES
}

/// Where the trailer lies in a shard object.
pub fn trailer_range(payload: PayloadLength) -> Range<u64> {
    let start = (HEADER_BYTES + payload.bytes()) as u64;
    start..start + (payload.groups() * CHAINING_VALUE_BYTES) as u64
}

/// Proves one group of a ranged read against the ledger, by way of the trailer.
pub fn verify_group(
    record: &StripeRecord,
    index: u8,
    group: usize,
    block: &[u8],
    trailer: &[u8],
) -> Result<(), ShardError> {
    let expected = record
        .payloads
        .get(usize::from(index))
        .ok_or(ShardError::NoSuchIndex(index))?;
    let groups = record.context.payload.groups();
    let length = |found, expected| ShardError::Length { found, expected };
    if block.len() != SEGMENT_BYTES || group >= groups {
        return Err(length(block.len(), SEGMENT_BYTES));
    }
    let hashes = GroupHash::read_trailer(trailer)
        .filter(|hashes| hashes.len() == groups)
        .ok_or_else(|| length(trailer.len(), groups * CHAINING_VALUE_BYTES))?;
    if payload_root(&hashes) != *expected || GroupHash::of(block, group, groups) != hashes[group] {
        return Err(ShardError::Hash);
    }
    Ok(())
}

/// Why a stripe was not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer than k verified shards.
    #[error(transparent)]
    TooFew(#[from] TooFew),
    /// A rebuilt shard is not the one in the ledger: the writer committed shards that do not belong together.
    #[error("shard {0}, rebuilt from verified shards, is not the ledger's: the stripe was never a codeword")]
    NotACodeword(u8),
    /// A ledger with fewer shards than k, or more than the format has.
    #[error("the ledger's geometry is impossible")]
    Geometry,
}

/// A sealed stripe: its k data shards in order, all verified.
#[derive(Debug)]
pub struct CodedStripe<'a> {
    record: &'a StripeRecord,
    payloads: Vec<Bytes>,
}

/// Puts the data shards in order, rebuilding those that are missing from any k others. What arrived is not copied.
///
/// Every data shard, fetched or rebuilt, has been compared with the ledger: two restorers get the same bytes or an error.
pub fn decode<'a>(record: &'a StripeRecord, shards: &[VerifiedShard]) -> Result<CodedStripe<'a>, DecodeError> {
    let of = |index: u8| shards.iter().find(|shard| shard.index == index);
    let missing: Vec<u8> = (0..record.context.data).filter(|index| of(*index).is_none()).collect();
    let mut rebuilt = match missing.is_empty() {
        true => Vec::new(),
        false => rebuild(record, shards, &missing)?,
    }
    .into_iter();
    let payloads = (0..record.context.data).filter_map(|index| match of(index) {
        Some(shard) => Some(shard.payload.clone()),
        None => rebuilt.next().map(Bytes::from),
    });
    Ok(CodedStripe {
        record,
        payloads: payloads.collect(),
    })
}

/// Rebuilds the payloads of shards `wanted`, data or parity, from any k verified ones, and compares each with the ledger.
///
/// # Panics
///
/// When more than 32 are wanted: our own bug, each is wanted once.
pub fn rebuild(record: &StripeRecord, shards: &[VerifiedShard], wanted: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let payload = |_| vec![0; record.context.payload.bytes()];
    let mut payloads: Vec<Vec<u8>> = wanted.iter().map(payload).collect();
    let slots = payloads.iter_mut().map(Vec::as_mut_slice).collect();
    rebuild_into(record, shards, wanted, slots)?;
    Ok(payloads)
}

/// Column by column, so that the sources of all wanted shards are read once.
fn rebuild_into(
    record: &StripeRecord,
    shards: &[VerifiedShard],
    wanted: &[u8],
    mut payloads: Vec<&mut [u8]>,
) -> Result<(), DecodeError> {
    let k = record.context.data;
    let parity = record
        .payloads
        .len()
        .checked_sub(usize::from(k))
        .and_then(|parity| u8::try_from(parity).ok());
    let geometry = parity
        .and_then(|parity| Geometry::new(k, parity).ok())
        .ok_or(DecodeError::Geometry)?;
    let present: Vec<u8> = shards.iter().map(VerifiedShard::index).collect();
    let decoder = Coder::new(record.context.code, geometry).decoder(&present)?;
    let payload_of = |index: &u8| {
        let shard = shards.iter().find(|shard| shard.index == *index);
        shard.map(|shard| shard.payload.as_ref())
    };
    let sources: Vec<&[u8]> = decoder.sources().iter().filter_map(payload_of).collect();
    let expected = |index: &u8| record.payloads.get(usize::from(*index)).ok_or(DecodeError::Geometry);
    let hashes: Vec<&PayloadHash> = wanted.iter().map(expected).collect::<Result<_, _>>()?;

    for column in 0..record.context.payload.groups() {
        let sources = blocks(sources.iter().copied(), column);
        let mut outs = blocks_mut(payloads.iter_mut().map(|payload| &mut **payload), column);
        decoder.rebuild_rows(wanted, &sources[..usize::from(k)], &mut outs[..wanted.len()]);
    }
    for ((index, payload), expected) in wanted.iter().zip(&payloads).zip(hashes) {
        if PayloadHash::of(payload) != *expected {
            return Err(DecodeError::NotACodeword(*index));
        }
    }
    Ok(())
}

impl CodedStripe<'_> {
    /// Opens the stripe with its run's key, into a buffer of the pool.
    pub fn open(self, run_key: &RunKey, pool: &BufferPool) -> Result<OpenedStripe, OpenError> {
        let context = &self.record.context;
        let key = StripeKey::derive_committed(run_key, context, &self.record.commitment)?;
        // One segment's plaintext behind the other's, so that a chunk is one slice.
        let mut plain = pool.take(context.segments() * SEGMENT_PLAIN_BYTES);
        let sealed = self
            .payloads
            .iter()
            .flat_map(|payload| payload.chunks_exact(SEGMENT_BYTES));
        for (number, block) in sealed.enumerate() {
            let start = number * SEGMENT_PLAIN_BYTES;
            let opened = &mut plain.as_mut()[start..start + SEGMENT_PLAIN_BYTES];
            if let Err(refused) = key.open_segment(SegmentPosition::of(context, number as u32), block, opened) {
                // Nothing of a stripe that does not open as a whole stays readable.
                plain.as_mut().fill(0);
                return Err(refused);
            }
        }
        Ok(OpenedStripe { plain })
    }
}

/// Opens one segment of a stripe, from a proven group of data shard `index`.
pub fn open_one_segment(
    record: &StripeRecord,
    run_key: &RunKey,
    index: u8,
    group: usize,
    block: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let context: &StripeContext = &record.context;
    let number = usize::from(index) * context.payload.groups() + group;
    if index >= context.data || number >= context.segments() {
        return Err(OpenError::Segment { segment: number as u32 });
    }
    let key = StripeKey::derive_committed(run_key, context, &record.commitment)?;
    let mut plain = Zeroizing::new(vec![0; SEGMENT_PLAIN_BYTES]);
    key.open_segment(SegmentPosition::of(context, number as u32), block, &mut plain)?;
    Ok(plain)
}

/// A stripe's plaintext, in a buffer that goes back to its pool; the pool wipes what it lets go.
pub struct OpenedStripe {
    plain: PooledBuffer,
}

impl OpenedStripe {
    /// A chunk's stored bytes; `None` when a reference points outside the stripe.
    pub fn stored(&self, offset: u32, bytes: u32) -> Option<&[u8]> {
        let start = offset as usize;
        self.plain.as_ref().get(start..start.checked_add(bytes as usize)?)
    }

    /// The stripe's own account of itself, every rule checked.
    pub fn directory(&self) -> Result<Directory, Rule> {
        Directory::read(self.plain.as_ref())
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> usize {
        self.plain.as_ref().len()
    }
}

impl std::fmt::Debug for OpenedStripe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenedStripe({} B)", self.bytes())
    }
}

#[cfg(test)]
mod tests;
