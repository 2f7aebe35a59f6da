//! One table look-up per byte and coefficient, on every processor: `reed-solomon-erasure`'s loops.

use reed_solomon_erasure::galois_8::{mul_slice, mul_slice_xor};

/// Sets `out` to the sum over j of `row[j]` times `blocks[j]`.
pub(super) fn combine(row: &[u8], blocks: &[&[u8]], out: &mut [u8]) {
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
