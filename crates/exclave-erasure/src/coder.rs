//! Parity from data, and any shard from any k others.

use std::{array, sync::Arc};

use exclave_model::{Code, Geometry, limit::SHARDS_PER_STRIPE_MAX};

use crate::{
    kernel::Kernel,
    row::{interpolation_row, row},
};

/// Computes shards of one geometry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Coder {
    code: Code,
    geometry: Geometry,
    kernel: Kernel,
    /// Row i of the code, for every index the format has: wider than n, so that parity can be added.
    rows: Arc<[Vec<u8>]>,
}

/// Fewer shards than restore a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{found} different shards are there, {needed} are needed")]
pub struct TooFew {
    /// Different shards present.
    pub found: u8,
    /// k.
    pub needed: u8,
}

impl Coder {
    /// A coder for stripes of one geometry, on the fastest kernel of this processor. It can't fail: every geometry has
    /// its rows.
    pub fn new(code: Code, geometry: Geometry) -> Self {
        Self::with_kernel(code, geometry, Kernel::fastest())
    }

    /// The same on a chosen kernel: to compute a block again and compare, to test a kernel, to measure it.
    pub fn with_kernel(code: Code, geometry: Geometry, kernel: Kernel) -> Self {
        let rows = (0..SHARDS_PER_STRIPE_MAX as u8).map(|index| row(code, geometry.data(), index));
        Self {
            code,
            geometry,
            kernel,
            rows: rows.collect(),
        }
    }

    /// A coder of the same geometry on the portable path, to compute a block again and compare. It has rows of its own.
    pub fn portable(&self) -> Self {
        Self::with_kernel(self.code, self.geometry, Kernel::PORTABLE)
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// k and n.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What multiplies and adds.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Computes the n - k parity blocks of one column from its k data blocks, all in one pass over the data where the
    /// kernel can; `parity[0]` is shard k's.
    ///
    /// # Panics
    ///
    /// When there are not exactly k data and n - k parity blocks, all of one length: our own bug.
    pub fn encode_column(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        assert_eq!(parity.len(), usize::from(self.geometry.parity()), "parity blocks");
        let indices: [u8; SHARDS_PER_STRIPE_MAX] = array::from_fn(|offset| self.geometry.data() + offset as u8);
        combine(self.kernel, &self.rows, &indices[..parity.len()], data, parity);
    }

    /// Computes shard `index`'s block of one column from its k data blocks. The index may be one beyond n, up to 31:
    /// that is how a stored stripe gets more parity. An index below k gives that data block back.
    ///
    /// # Panics
    ///
    /// When the index is above 31, or there are not exactly k data blocks as long as `out`: our own bug.
    pub fn encode_row(&self, index: u8, data: &[&[u8]], out: &mut [u8]) {
        combine(self.kernel, &self.rows, &[index], data, &mut [out]);
    }

    /// Plans how to rebuild shards from those that are `present`, in any order; doubles count once. The k lowest
    /// indices become the sources: data shards first, because they need the least arithmetic. Indices beyond n are
    /// welcome: a stripe may have been widened.
    ///
    /// The plan is made once per pattern of losses and serves every column of every stripe with that pattern.
    ///
    /// # Panics
    ///
    /// When an index is above 31: `exclave-model` parses none.
    pub fn decoder(&self, present: &[u8]) -> Result<Decoder, TooFew> {
        let mut sources = present.to_vec();
        sources.sort_unstable();
        sources.dedup();
        if let Some(&last) = sources.last() {
            assert!(
                usize::from(last) < SHARDS_PER_STRIPE_MAX,
                "no stripe has a shard {last}"
            );
        }
        let needed = self.geometry.data();
        if sources.len() < usize::from(needed) {
            return Err(TooFew {
                found: sources.len() as u8,
                needed,
            });
        }
        sources.truncate(usize::from(needed));
        let rows = (0..SHARDS_PER_STRIPE_MAX as u8).map(|index| interpolation_row(&sources, index));
        Ok(Decoder {
            kernel: self.kernel,
            rows: rows.collect(),
            sources: sources.into(),
        })
    }
}

/// Rebuilds any shard from k sources. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Decoder {
    kernel: Kernel,
    /// The k indices used, ascending.
    sources: Arc<[u8]>,
    /// For every index the format has, its coefficients over the sources.
    rows: Arc<[Vec<u8>]>,
}

impl Decoder {
    /// The k indices whose blocks are needed, ascending.
    pub fn sources(&self) -> &[u8] {
        &self.sources
    }

    /// True when a shard is itself a source, so that its block needs no arithmetic.
    pub fn holds(&self, index: u8) -> bool {
        self.sources.contains(&index)
    }

    /// Computes the block of shard `index`, data or parity, from the blocks of [`sources`](Self::sources) in that order.
    ///
    /// # Panics
    ///
    /// When the index is above 31, or there are not exactly k blocks as long as `out`: our own bug.
    pub fn rebuild_row(&self, index: u8, sources: &[&[u8]], out: &mut [u8]) {
        combine(self.kernel, &self.rows, &[index], sources, &mut [out]);
    }

    /// Computes the blocks of several shards, in the order of `indices`, all in one pass over the sources where the kernel
    /// can. Otherwise as [`rebuild_row`](Self::rebuild_row).
    ///
    /// # Panics
    ///
    /// When an index is above 31, there are more than 32 or another number of `outs`, or there are not exactly k blocks
    /// as long as each of `outs`: our own bug.
    pub fn rebuild_rows(&self, indices: &[u8], sources: &[&[u8]], outs: &mut [&mut [u8]]) {
        combine(self.kernel, &self.rows, indices, sources, outs);
    }
}

/// Computes the rows of some shards, without an allocation.
fn combine(kernel: Kernel, rows: &[Vec<u8>], indices: &[u8], blocks: &[&[u8]], outs: &mut [&mut [u8]]) {
    assert!(indices.len() <= SHARDS_PER_STRIPE_MAX, "no stripe has so many shards");
    let row = |index: &u8| rows[usize::from(*index)].as_slice();
    let wanted: [&[u8]; SHARDS_PER_STRIPE_MAX] = array::from_fn(|at| indices.get(at).map_or(&[][..], row));
    kernel.combine(&wanted[..indices.len()], blocks, outs);
}
