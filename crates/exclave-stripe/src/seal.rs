//! A packed stripe becomes shards, column by column.
//!
//! Column c is segment c of each of the k data shards, and the n - k parity blocks made of them. While the column is in
//! cache its k segments are sealed, its parity is computed and all n blocks are hashed: each byte is touched once.

use bytes::Bytes;
use exclave_erasure::Coder;
use exclave_model::{
    Anchor, BufferPool, ChunkId, Code, Commitment, LabelTag, PayloadHash, RunId, ShardHeader, StripeContext,
    StripeRecord,
    buffer::PooledBuffer,
    context::HEADER_BYTES,
    limit::{SEGMENT_BYTES, TAG_BYTES},
};
use exclave_seal::{Entropy, NoEntropy, RunKey, StripeKey, entropy::draw, stripe_key::SegmentPosition};

use crate::{
    column::{blocks, blocks_mut},
    pack::{PackedStripe, StripeShape},
    tree::{GroupHash, payload_root},
};

/// Why a stripe was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No randomness for the salt.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The check of a random column found that this machine computes wrongly.
    #[error("stripe {ordinal}: {what} computed twice gives two results; this machine must not write")]
    Miscomputed {
        /// The stripe.
        ordinal: u32,
        /// What was computed again.
        what: &'static str,
    },
}

/// What all stripes of a run share.
#[derive(Debug, Clone)]
pub struct Sealer {
    anchor: Anchor,
    run: RunId,
    label_tag: LabelTag,
    coder: Coder,
    pool: BufferPool,
}

/// One shard, ready to be put.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its place in the stripe.
    pub index: u8,
    /// The hash of its payload.
    pub hash: PayloadHash,
    header: [u8; HEADER_BYTES],
    payload: Bytes,
    trailer: Bytes,
}

impl Shard {
    /// The object's bytes as slices: header, payload, trailer.
    pub fn slices(&self) -> [Bytes; 3] {
        [
            Bytes::copy_from_slice(&self.header),
            self.payload.clone(),
            self.trailer.clone(),
        ]
    }

    /// Bytes of the whole object.
    pub fn object_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len() + self.trailer.len()
    }

    /// Groups of the payload.
    pub fn groups(&self) -> usize {
        self.payload.len() / SEGMENT_BYTES
    }

    /// One group's bytes, and where it begins in the object.
    pub fn group(&self, group: usize) -> (usize, Bytes) {
        let start = group * SEGMENT_BYTES;
        (HEADER_BYTES + start, self.payload.slice(start..start + SEGMENT_BYTES))
    }
}

/// A sealed and coded stripe.
#[derive(Debug, Clone)]
pub struct SealedStripe {
    /// What it is bound to.
    pub context: StripeContext,
    /// Its commitment.
    pub commitment: Commitment,
    /// All n shards.
    pub shards: Vec<Shard>,
}

impl SealedStripe {
    /// Its line in the ledger.
    pub fn record(&self) -> StripeRecord {
        StripeRecord {
            context: self.context,
            commitment: self.commitment,
            payloads: self.shards.iter().map(|shard| shard.hash).collect(),
        }
    }
}

impl Sealer {
    /// Seals the stripes of one run.
    pub fn new(anchor: Anchor, run: RunId, label_tag: LabelTag, shape: StripeShape, pool: BufferPool) -> Self {
        let coder = Coder::new(Code::ReedSolomonVandermonde, shape.geometry);
        Self {
            anchor,
            run,
            label_tag,
            coder,
            pool,
        }
    }

    /// Seals, codes and hashes a packed stripe. `ordinal` must be used once in the run.
    ///
    /// One random column is opened and coded again on the portable paths. When that gives other bytes, the machine
    /// computes wrongly and the run must end.
    pub fn seal(
        &self,
        packed: PackedStripe,
        ordinal: u32,
        run_key: &RunKey,
        entropy: &mut dyn Entropy,
    ) -> Result<SealedStripe, SealError> {
        let encode = |data: &[&[u8]], parity: &mut [&mut [u8]]| self.coder.encode_column(data, parity);
        self.seal_with(&encode, packed, ordinal, run_key, entropy)
    }

    /// The same with parity from elsewhere: a test hands in a kernel that computes wrongly.
    fn seal_with(
        &self,
        encode: &Encode,
        packed: PackedStripe,
        ordinal: u32,
        run_key: &RunKey,
        entropy: &mut dyn Entropy,
    ) -> Result<SealedStripe, SealError> {
        let chunks: Vec<ChunkId> = packed.directory().entries().iter().map(|entry| entry.id).collect();
        let context = StripeContext {
            code: self.coder.code(),
            data: packed.geometry.data(),
            payload: packed.payload,
            anchor: self.anchor,
            run: self.run,
            ordinal,
            salt: StripeKey::salt(run_key, &chunks, entropy)?,
            label_tag: self.label_tag,
        };
        let key = StripeKey::derive(run_key, &context);
        let checked = u64::from_be_bytes(draw(entropy)?) as usize % context.payload.groups();
        let mut columns = Columns::new(&context, &self.coder, encode, packed, &self.pool);
        for column in 0..context.payload.groups() {
            if column == checked {
                columns.seal_and_check(column, &key, run_key)?;
            } else {
                columns.seal(column, &key);
            }
        }
        Ok(columns.into_stripe(key.commitment()))
    }
}

/// Computes the parity blocks of a column from its data blocks.
type Encode<'a> = dyn Fn(&[&[u8]], &mut [&mut [u8]]) + 'a;

/// The work on one stripe.
struct Columns<'a> {
    context: &'a StripeContext,
    coder: &'a Coder,
    encode: &'a Encode<'a>,
    data: PooledBuffer,
    parity: PooledBuffer,
    /// One list of groups for each of the n shards.
    hashes: Vec<Vec<GroupHash>>,
}

impl<'a> Columns<'a> {
    fn new(
        context: &'a StripeContext,
        coder: &'a Coder,
        encode: &'a Encode<'a>,
        packed: PackedStripe,
        pool: &BufferPool,
    ) -> Self {
        let geometry = coder.geometry();
        let parity = pool.take(context.payload.bytes() * usize::from(geometry.parity()));
        let hashes = vec![Vec::with_capacity(context.payload.groups()); usize::from(geometry.total())];
        Self {
            context,
            coder,
            encode,
            data: packed.buffer,
            parity,
            hashes,
        }
    }

    fn seal(&mut self, column: usize, key: &StripeKey) {
        let groups = self.context.payload.groups();
        for (shard, payload) in self
            .data
            .as_mut()
            .chunks_exact_mut(self.context.payload.bytes())
            .enumerate()
        {
            let block = &mut payload[column * SEGMENT_BYTES..(column + 1) * SEGMENT_BYTES];
            let position = SegmentPosition::of(self.context, (shard * groups + column) as u32);
            key.seal_segment(position, block);
            self.hashes[shard].push(GroupHash::of(block, column, groups));
        }
        let (k, n) = self.shards();
        let payload_bytes = self.context.payload.bytes();
        let data = blocks(self.data.as_ref().chunks_exact(payload_bytes), column);
        let mut parity = blocks_mut(self.parity.as_mut().chunks_exact_mut(payload_bytes), column);
        let parity = &mut parity[..n - k];
        (self.encode)(&data[..k], parity);
        for (hashes, block) in self.hashes[k..].iter_mut().zip(parity) {
            hashes.push(GroupHash::of(block, column, groups));
        }
    }

    /// k and n.
    fn shards(&self) -> (usize, usize) {
        let geometry = self.coder.geometry();
        (usize::from(geometry.data()), usize::from(geometry.total()))
    }

    /// Seals a column, then opens its first segment again and codes it again on the portable path.
    fn seal_and_check(&mut self, column: usize, key: &StripeKey, run_key: &RunKey) -> Result<(), SealError> {
        let miscomputed = |what| SealError::Miscomputed {
            ordinal: self.context.ordinal,
            what,
        };
        let at = column * SEGMENT_BYTES;
        let plain = zeroize_on_drop(self.data.as_ref()[at..at + SEGMENT_BYTES - TAG_BYTES].to_vec());
        self.seal(column, key);
        let segment = &self.data.as_ref()[at..at + SEGMENT_BYTES];
        let mut opened = zeroize_on_drop(vec![0; plain.len()]);
        let position = SegmentPosition::of(self.context, column as u32);
        let key = StripeKey::derive_portable(run_key, self.context);
        if key.open_segment(position, segment, &mut opened).is_err() || opened != plain {
            return Err(miscomputed("AES-256-GCM"));
        }
        let (k, n) = self.shards();
        let payload_bytes = self.context.payload.bytes();
        let data = blocks(self.data.as_ref().chunks_exact(payload_bytes), column);
        let parity = blocks(self.parity.as_ref().chunks_exact(payload_bytes), column);
        let portable = self.coder.portable();
        let mut again = vec![0; SEGMENT_BYTES];
        for (index, block) in (k..n).zip(parity) {
            portable.encode_row(index as u8, &data[..k], &mut again);
            if again != block {
                return Err(miscomputed("the erasure code"));
            }
        }
        Ok(())
    }

    fn into_stripe(self, commitment: Commitment) -> SealedStripe {
        let payload_bytes = self.context.payload.bytes();
        let data = self.data.into_bytes();
        let parity = self.parity.into_bytes();
        let k = usize::from(self.context.data);
        let shards = self.hashes.iter().enumerate().map(|(index, groups)| {
            let (buffer, at) = if index < k {
                (&data, index)
            } else {
                (&parity, index - k)
            };
            let header = ShardHeader {
                context: *self.context,
                index: index as u8,
                commitment,
            };
            Shard {
                index: index as u8,
                hash: payload_root(groups),
                header: header.to_bytes(),
                payload: buffer.slice(at * payload_bytes..(at + 1) * payload_bytes),
                trailer: groups
                    .iter()
                    .flat_map(|group| *group.as_bytes())
                    .collect::<Vec<u8>>()
                    .into(),
            }
        });
        SealedStripe {
            context: *self.context,
            commitment,
            shards: shards.collect(),
        }
    }
}

fn zeroize_on_drop(bytes: Vec<u8>) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(bytes)
}

#[cfg(test)]
mod tests;
