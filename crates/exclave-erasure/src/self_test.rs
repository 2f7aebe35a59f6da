//! Known answers at program start: a processor, a compiler or a kernel that computes wrongly must not code a stripe.

use exclave_model::{Code, Geometry, limit::SHARDS_PER_STRIPE_MAX};

use crate::{coder::Coder, kernel::Kernel};

/// The arithmetic on this machine is wrong; nothing may be coded or rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelfTestFailed {
    /// A product in GF(2^8) differs from the definition.
    #[error("{left} times {right} is {expected} in GF(2^8) / 0x11D, the {kernel} kernel found {found}")]
    Product {
        /// What computed.
        kernel: Kernel,
        /// First factor.
        left: u8,
        /// Second factor.
        right: u8,
        /// Their product by the definition.
        expected: u8,
        /// What was computed.
        found: u8,
    },
    /// A shard was coded wrongly.
    #[error("shard {index} of a stripe with k = {k} was not coded as known by the {kernel} kernel")]
    Encode {
        /// What computed.
        kernel: Kernel,
        /// Data shards.
        k: u8,
        /// The shard.
        index: u8,
    },
    /// A shard was rebuilt wrongly.
    #[error(
        "data shard 0 of a stripe with k = {k} was not rebuilt from shard {index} and the others by the {kernel} kernel"
    )]
    Rebuild {
        /// What computed.
        kernel: Kernel,
        /// Data shards.
        k: u8,
        /// The parity shard that took its place.
        index: u8,
    },
    /// A kernel and the portable path disagree.
    #[error(
        "shard {index} of a stripe with k = {k} and n = {n} was coded by the {kernel} kernel otherwise than by the portable one"
    )]
    Differs {
        /// What computed.
        kernel: Kernel,
        /// Data shards.
        k: u8,
        /// All shards.
        n: u8,
        /// The first shard that differs.
        index: u8,
    },
}

/// Tests every kernel that this processor runs: multiplies every pair of field elements, codes and rebuilds the known
/// answers, and compares with the portable path. Takes a few milliseconds.
pub fn self_test() -> Result<(), SelfTestFailed> {
    for kernel in Kernel::available() {
        products(kernel)?;
        for answer in &ANSWERS {
            answer.check(kernel)?;
        }
        differences(kernel)?;
    }
    Ok(())
}

/// Bytes of one period of the test blocks.
const PERIOD_BYTES: usize = 8;

/// Long enough for three turns of any vector kernel's loop, odd enough for the tail behind it.
const BLOCK_BYTES: usize = 50 * PERIOD_BYTES + 5;

/// Byte x of data shard j is 1 + 37 j + 101 (x mod 8), modulo 256.
fn data_byte(shard: u8, x: usize) -> u8 {
    let x = (x % PERIOD_BYTES) as u8;
    1_u8.wrapping_add(shard.wrapping_mul(37))
        .wrapping_add(x.wrapping_mul(101))
}

fn data_blocks(k: u8) -> Vec<Vec<u8>> {
    let block = |shard| (0..BLOCK_BYTES).map(|x| data_byte(shard, x)).collect();
    (0..k).map(block).collect()
}

struct Answer {
    k: u8,
    index: u8,
    block: [u8; PERIOD_BYTES],
}

/// Printed by `tests/known_answers.py`, which knows the definition of FORMAT.md section 6 and nothing of this crate.
const ANSWERS: [Answer; 7] = [
    Answer {
        k: 1,
        index: 1,
        block: [1, 102, 203, 48, 149, 250, 95, 196],
    },
    Answer {
        k: 2,
        index: 2,
        block: [79, 161, 189, 250, 203, 45, 244, 158],
    },
    Answer {
        k: 2,
        index: 3,
        block: [104, 76, 134, 159, 228, 200, 47, 179],
    },
    Answer {
        k: 4,
        index: 5,
        block: [71, 27, 190, 14, 112, 86, 118, 39],
    },
    Answer {
        k: 5,
        index: 8,
        block: [42, 237, 176, 238, 35, 33, 190, 96],
    },
    Answer {
        k: 9,
        index: 31,
        block: [172, 197, 7, 223, 69, 93, 76, 14],
    },
    Answer {
        k: 20,
        index: 26,
        block: [42, 150, 209, 206, 255, 73, 130, 223],
    },
];

impl Answer {
    fn check(&self, kernel: Kernel) -> Result<(), SelfTestFailed> {
        let Self { k, index, .. } = *self;
        let wrong_code = SelfTestFailed::Encode { kernel, k, index };
        let wrong_rebuild = SelfTestFailed::Rebuild { kernel, k, index };
        let geometry = Geometry::new(k, SHARDS_PER_STRIPE_MAX as u8 - k).map_err(|_| wrong_code)?;
        let coder = Coder::with_kernel(Code::ReedSolomonVandermonde, geometry, kernel);

        let data = data_blocks(k);
        let mut blocks: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut coded = vec![0; BLOCK_BYTES];
        coder.encode_row(index, &blocks, &mut coded);
        if !coded.iter().eq(self.block.iter().cycle().take(BLOCK_BYTES)) {
            return Err(wrong_code);
        }

        let present: Vec<u8> = (1..k).chain([index]).collect();
        let decoder = coder.decoder(&present).map_err(|_| wrong_rebuild)?;
        blocks.rotate_left(1);
        blocks.truncate(usize::from(k) - 1);
        blocks.push(&coded);
        let mut rebuilt = vec![0; BLOCK_BYTES];
        decoder.rebuild_row(0, &blocks, &mut rebuilt);
        match rebuilt == data[0] {
            true => Ok(()),
            false => Err(wrong_rebuild),
        }
    }
}

/// All 65,536 products, against the definition without tables.
fn products(kernel: Kernel) -> Result<(), SelfTestFailed> {
    let all: Vec<u8> = (0..=255).collect();
    let mut found = vec![0; all.len()];
    for left in 0..=255 {
        // The zero keeps the row of 1 from being taken for replication, which is copied and not multiplied.
        kernel.combine(&[&[left, 0]], &[&all, &all], &mut [&mut found]);
        for (right, &found) in (0..=255).zip(&found) {
            let expected = product_by_definition(left, right);
            if found != expected {
                return Err(SelfTestFailed::Product {
                    kernel,
                    left,
                    right,
                    expected,
                    found,
                });
            }
        }
    }
    Ok(())
}

/// Columns with every number of parity blocks that a pass may have and more, coded twice.
fn differences(kernel: Kernel) -> Result<(), SelfTestFailed> {
    let k = 5;
    let data = data_blocks(k);
    let blocks: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    for parity in 1..=SHARDS_PER_STRIPE_MAX as u8 - k {
        let n = k + parity;
        let differs = |index| SelfTestFailed::Differs { kernel, k, n, index };
        let geometry = Geometry::new(k, parity).map_err(|_| differs(k))?;
        let coder = Coder::with_kernel(Code::ReedSolomonVandermonde, geometry, kernel);
        let [coded, expected] = [coder.clone(), coder.portable()].map(|coder| {
            let mut parity = vec![vec![0; BLOCK_BYTES]; usize::from(parity)];
            let mut outs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
            coder.encode_column(&blocks, &mut outs);
            parity
        });
        if let Some(index) = (k..n)
            .zip(coded.iter().zip(&expected))
            .find(|(_, (coded, expected))| coded != expected)
        {
            return Err(differs(index.0));
        }
    }
    Ok(())
}

/// Multiplies polynomials over GF(2), modulo x^8 + x^4 + x^3 + x^2 + 1.
fn product_by_definition(left: u8, right: u8) -> u8 {
    let (mut shifted, mut product) = (left, 0);
    for bit in 0..8 {
        if right >> bit & 1 == 1 {
            product ^= shifted;
        }
        let carry = if shifted & 0x80 == 0 { 0 } else { 0x1d };
        shifted = shifted << 1 ^ carry;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes() {
        assert_eq!(self_test(), Ok(()));
    }

    #[test]
    fn a_wrong_answer_is_noticed() {
        let mut block = ANSWERS[3].block;
        block[7] ^= 1;
        let wrong = Answer { k: 4, index: 5, block };
        for kernel in Kernel::available() {
            let expected = SelfTestFailed::Encode { kernel, k: 4, index: 5 };
            assert_eq!(wrong.check(kernel), Err(expected));
        }
    }
}
