//! The loops over bytes. One per instruction set, chosen once per coder; all give the same bytes.

use reed_solomon_erasure::galois_8::{mul_slice, mul_slice_xor};

/// Which instructions multiply and add blocks.
///
/// Vector kernels will be further variants. The portable one stays: it checks the others, and runs where they can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// One table look-up per byte and coefficient, on every processor.
    Portable,
}

impl Kernel {
    /// The fastest kernel that this processor runs.
    pub(crate) fn fastest() -> Self {
        Self::Portable
    }

    /// Sets `out` to the sum over j of `row[j]` times `blocks[j]`.
    ///
    /// # Panics
    ///
    /// When the row and the blocks differ in number, or the blocks in length: our own bug, and it would spoil a stripe.
    pub(crate) fn combine(self, row: &[u8], blocks: &[&[u8]], out: &mut [u8]) {
        assert_eq!(row.len(), blocks.len(), "one block for each coefficient");
        for block in blocks {
            assert_eq!(block.len(), out.len(), "blocks of one column are equally long");
        }
        match self {
            Self::Portable => combine_portable(row, blocks, out),
        }
    }
}

fn combine_portable(row: &[u8], blocks: &[&[u8]], out: &mut [u8]) {
    // Zeros are most of a row that names a stored shard, ones are all of replication: neither needs arithmetic.
    let mut terms = row
        .iter()
        .zip(blocks)
        .filter(|&(&coefficient, _)| coefficient != 0)
        .map(|(&coefficient, &block)| (coefficient, block));
    match terms.next() {
        None => out.fill(0),
        Some((1, block)) => out.copy_from_slice(block),
        Some((coefficient, block)) => mul_slice(coefficient, block, out),
    }
    for (coefficient, block) in terms {
        match coefficient {
            1 => out.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte),
            _ => mul_slice_xor(coefficient, block, out),
        }
    }
}
