//! The scan for a content-defined boundary: FastCDC's, position for position, in several places at the same time.
//!
//! A gear hash rolls: `h' = 2 h + gear[byte]`, so each step waits for the one before, and a scan from left to right is bound
//! by that chain (1.5 cycles a byte, two bytes at a time). But the hash has 64 bits: what lies 64 bytes back has been
//! shifted out. So the hash at any position is known after a run-up of 64 bytes, and a block can be scanned from
//! [`LANES`] places at once, chains side by side. A block that has a boundary anywhere is scanned again from its
//! beginning, one byte at a time; that happens once in each chunk.
//!
//! Which positions are candidates, and under which mask, is the `fastcdc` crate's rule, which the tests hold this to: an
//! odd last byte never is one.

use super::GEAR_ENTRIES;

/// Chains side by side: as many as keep a processor's load ports busy; more don't fit its registers.
const LANES: usize = 4;

/// Bytes of one lane: long against the run-up, short against a chunk.
const LANE_BYTES: usize = 1 << 10;

const BLOCK_BYTES: usize = LANES * LANE_BYTES;

/// After so many bytes a byte's part has left the hash.
const RUN_UP_BYTES: usize = u64::BITS as usize;

/// Lengths that bound a chunk, and the masks before and after the average.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) min: usize,
    pub(super) average: usize,
    pub(super) max: usize,
    pub(super) mask_strict: u64,
    pub(super) mask_relaxed: u64,
}

/// Length of the chunk at the beginning of `window`.
pub(super) fn cut(window: &[u8], gear: &[u64; GEAR_ENTRIES], bounds: &Bounds) -> usize {
    let end = window.len().min(bounds.max);
    if end <= bounds.min {
        return end;
    }
    let (center, last) = (bounds.average.min(end) & !1, end & !1);
    let mut scan = Scan {
        window,
        gear,
        at: bounds.min,
        hash: 0,
    };
    scan.until(center, bounds.mask_strict)
        .or_else(|| scan.until(last, bounds.mask_relaxed))
        .unwrap_or(end)
}

struct Scan<'a> {
    window: &'a [u8],
    gear: &'a [u64; GEAR_ENTRIES],
    /// The next candidate.
    at: usize,
    /// Of what precedes it.
    hash: u64,
}

impl Scan<'_> {
    /// The first boundary before `end`, or none, and then `at` is `end`.
    fn until(&mut self, end: usize, mask: u64) -> Option<usize> {
        while let Some((block, _)) = self
            .window
            .get(self.at..end)
            .and_then(<[u8]>::split_first_chunk::<BLOCK_BYTES>)
        {
            match self.hash_past(block, mask) {
                Some(hash) => {
                    self.hash = hash;
                    self.at += BLOCK_BYTES;
                }
                None => break,
            }
        }
        for byte in self.window.get(self.at..end)? {
            self.hash = step(self.gear, self.hash, *byte);
            if self.hash & mask == 0 {
                return Some(self.at);
            }
            self.at += 1;
        }
        None
    }

    /// The hash after a block without a boundary, or none if it has one.
    fn hash_past(&self, block: &[u8; BLOCK_BYTES], mask: u64) -> Option<u64> {
        let run_up = |lane: usize| {
            let before = &block[lane * LANE_BYTES - RUN_UP_BYTES..lane * LANE_BYTES];
            before.iter().fold(0, |hash, byte| step(self.gear, hash, *byte))
        };
        let (mut a, mut b, mut c, mut d) = (self.hash, run_up(1), run_up(2), run_up(3));
        for at in 0..LANE_BYTES {
            a = step(self.gear, a, block[at]);
            b = step(self.gear, b, block[at + LANE_BYTES]);
            c = step(self.gear, c, block[at + 2 * LANE_BYTES]);
            d = step(self.gear, d, block[at + 3 * LANE_BYTES]);
            if a & mask == 0 || b & mask == 0 || c & mask == 0 || d & mask == 0 {
                return None;
            }
        }
        Some(d)
    }
}

fn step(gear: &[u64; GEAR_ENTRIES], hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(gear[usize::from(byte)])
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::{self, Normalization};
    use proptest::prelude::*;

    use super::*;
    use crate::cut::tests::noise;

    fn gear() -> [u64; GEAR_ENTRIES] {
        let bytes = noise(GEAR_ENTRIES * 8, 7);
        std::array::from_fn(|entry| u64::from_le_bytes(bytes[8 * entry..8 * entry + 8].try_into().unwrap()))
    }

    fn bounds(min: usize, average: usize, max: usize) -> Bounds {
        let (mask_strict, mask_relaxed) = v2020::select_masks(average, Normalization::Level1);
        Bounds {
            min,
            average,
            max,
            mask_strict,
            mask_relaxed,
        }
    }

    /// The crate's own scan.
    fn oracle(window: &[u8], gear: &[u64; GEAR_ENTRIES], bounds: &Bounds) -> usize {
        let (_, length) = v2020::cut_gear(
            window,
            bounds.min,
            bounds.average,
            bounds.max,
            bounds.mask_strict,
            bounds.mask_relaxed,
            bounds.mask_strict << 1,
            bounds.mask_relaxed << 1,
            gear,
            &gear.map(|entry| entry << 1),
        );
        length
    }

    fn require_equal(mut rest: &[u8], bounds: &Bounds) {
        let gear = gear();
        while !rest.is_empty() {
            let length = cut(rest, &gear, bounds);
            assert_eq!(
                length,
                oracle(rest, &gear, bounds),
                "{} bytes before the end",
                rest.len()
            );
            rest = &rest[length..];
        }
    }

    #[test]
    fn noise_is_cut_as_the_crate_cuts_it() {
        for (min, average, max) in [
            (64, 256, 1024),
            (1 << 10, 4 << 10, 16 << 10),
            (4 << 10, 16 << 10, 64 << 10),
            (16 << 10, 64 << 10, 256 << 10),
            (256 << 10, 1 << 20, 4 << 20),
        ] {
            require_equal(&noise(8 << 20, average as u64), &bounds(min, average, max));
        }
    }

    #[test]
    fn bytes_that_repeat_are_cut_at_the_greatest_length() {
        let bounds = bounds(1 << 10, 4 << 10, 16 << 10);
        for byte in [0, 1, 255] {
            require_equal(&vec![byte; 100_001], &bounds);
        }
    }

    proptest! {
        /// Short, long, odd, repeating and mixed windows, at every phase of a block.
        #[test]
        fn any_window_is_cut_as_the_crate_cuts_it(
            seed in any::<u64>(),
            bytes in 0usize..60_000,
            period in 1usize..9_000,
            min in 32usize..3_000,
        ) {
            let mut window = noise(period, seed);
            while window.len() < bytes {
                window.extend_from_within(..);
            }
            window.truncate(bytes);
            require_equal(&window, &bounds(min * 2, 8 << 10, 40_000));
        }
    }
}
