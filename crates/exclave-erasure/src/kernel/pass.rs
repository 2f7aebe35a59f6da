//! How a vector kernel's passes share out the rows and what they leave over.

use std::array;

use exclave_model::limit::SHARDS_PER_STRIPE_MAX;

use super::portable;

/// The loop of one instruction set.
pub(super) trait Pass: Copy {
    /// What the loop needs to know of one coefficient.
    type Factor: Copy + 'static;

    /// That of every coefficient.
    const FACTORS: &'static [Self::Factor; 256];

    /// Most rows whose sums the registers hold.
    const ROWS_MAX: usize;

    /// Computes R rows as far as whole steps reach, and returns how many bytes that is. `factors[j][r]` belongs to block
    /// j and row r.
    fn run<const R: usize>(self, factors: &[[Self::Factor; R]], blocks: &[&[u8]], outs: &mut [&mut [u8]; R]) -> usize;
}

/// Computes all rows, in as few passes as the registers allow; the bytes behind the last whole step on the portable path.
pub(super) fn combine<P: Pass>(pass: P, rows: &[&[u8]], blocks: &[&[u8]], outs: &mut [&mut [u8]]) {
    if rows.is_empty() {
        return;
    }
    // Passes of about equal numbers of rows: each costs a reading of the blocks.
    let passes = rows.len().div_ceil(P::ROWS_MAX);
    let rows_per_pass = rows.len().div_ceil(passes);
    for (rows, outs) in rows.chunks(rows_per_pass).zip(outs.chunks_mut(rows_per_pass)) {
        let done = match rows.len() {
            1 => of_size::<P, 1>(pass, rows, blocks, outs),
            2 => of_size::<P, 2>(pass, rows, blocks, outs),
            3 => of_size::<P, 3>(pass, rows, blocks, outs),
            4 => of_size::<P, 4>(pass, rows, blocks, outs),
            5 => of_size::<P, 5>(pass, rows, blocks, outs),
            6 => of_size::<P, 6>(pass, rows, blocks, outs),
            // No kernel has more rows in a pass; were there one, its rows would be right and slow.
            _ => 0,
        };
        finish(rows, blocks, outs, done);
    }
}

fn of_size<P: Pass, const R: usize>(pass: P, rows: &[&[u8]], blocks: &[&[u8]], outs: &mut [&mut [u8]]) -> usize {
    let (Some(rows), Some(outs)) = (rows.first_chunk::<R>(), outs.first_chunk_mut::<R>()) else {
        return 0;
    };
    let factor = |coefficient: u8| P::FACTORS[usize::from(coefficient)];
    // A few KiB at most, laid side by side in the order of their use.
    let mut factors = [[factor(0); R]; SHARDS_PER_STRIPE_MAX];
    for (j, factors) in factors.iter_mut().enumerate().take(blocks.len()) {
        *factors = array::from_fn(|r| factor(rows[r][j]));
    }
    pass.run(&factors[..blocks.len()], blocks, outs)
}

/// Computes what is behind the first `done` bytes.
fn finish(rows: &[&[u8]], blocks: &[&[u8]], outs: &mut [&mut [u8]], done: usize) {
    let tails: [&[u8]; SHARDS_PER_STRIPE_MAX] =
        array::from_fn(|j| blocks.get(j).map_or(&[][..], |block| &block[done..]));
    for (row, out) in rows.iter().zip(outs) {
        let out = &mut out[done..];
        if !out.is_empty() {
            portable::combine(row, &tails[..blocks.len()], out);
        }
    }
}
