//! Every kernel that this processor runs against `reed-solomon-erasure` and the portable path: all geometries, all lengths
//! around a step of any loop, all alignments, and nothing written beside a block.

#![expect(clippy::expect_used, reason = "helpers of a test")]

use exclave_erasure::{Coder, Kernel, self_test};
use exclave_model::{Code, Geometry};
use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

/// A column of the pipeline.
const COLUMN_BYTES: usize = 64 << 10;

/// Wider than any step, so that a block may begin anywhere in one.
const OFFSETS: usize = 64;

/// What lies around a block before and after.
const MARGIN: u8 = 0xa5;

fn coder(k: u8, n: u8, kernel: Kernel) -> Coder {
    let geometry = Geometry::new(k, n - k).expect("a valid geometry");
    Coder::with_kernel(Code::ReedSolomonVandermonde, geometry, kernel)
}

/// Bytes without a pattern that a wrong shuffle could hide in.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed << 1 | 1;
    (0..bytes)
        .map(|_| {
            // xorshift64: any spread of bytes will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

fn data_blocks(k: u8, bytes: usize) -> Vec<Vec<u8>> {
    (0..k).map(|shard| noise(bytes, u64::from(shard) + 77)).collect()
}

fn slices(blocks: &[Vec<u8>]) -> Vec<&[u8]> {
    blocks.iter().map(Vec::as_slice).collect()
}

fn parity_of(coder: &Coder, data: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![MARGIN; data[0].len()]; usize::from(coder.geometry().parity())];
    let mut outs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    coder.encode_column(data, &mut outs);
    parity
}

fn parity_of_oracle(k: u8, n: u8, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let codec = ReedSolomon::new(usize::from(k), usize::from(n - k)).expect("a valid geometry");
    let mut parity = vec![vec![0; data[0].len()]; usize::from(n - k)];
    codec.encode_sep(data, &mut parity).expect("equal lengths");
    parity
}

/// A block that begins `offset` bytes behind a boundary of 64, with a margin around it.
struct Placed {
    buffer: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Placed {
    fn new(bytes: usize, offset: usize) -> Self {
        let buffer = vec![MARGIN; bytes + 3 * OFFSETS];
        let start = OFFSETS + buffer.as_ptr().align_offset(OFFSETS) + offset % OFFSETS;
        assert_eq!(buffer[start..].as_ptr().addr() % OFFSETS, offset % OFFSETS);
        Self { buffer, start, bytes }
    }

    fn holding(block: &[u8], offset: usize) -> Self {
        let mut placed = Self::new(block.len(), offset);
        placed.block_mut().copy_from_slice(block);
        placed
    }

    fn block(&self) -> &[u8] {
        &self.buffer[self.start..][..self.bytes]
    }

    fn block_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..][..self.bytes]
    }

    fn margin_is_untouched(&self) -> bool {
        let (before, rest) = self.buffer.split_at(self.start);
        let after = &rest[self.bytes..];
        before.iter().chain(after).all(|byte| *byte == MARGIN)
    }
}

/// Codes blocks that lie at these offsets; block j of either kind lies `7 j` further.
fn parity_at(coder: &Coder, data: &[Vec<u8>], data_offset: usize, parity_offset: usize) -> Vec<Vec<u8>> {
    let place = |(shard, block): (usize, &Vec<u8>)| Placed::holding(block, data_offset + 7 * shard);
    let data: Vec<Placed> = data.iter().enumerate().map(place).collect();
    let blocks: Vec<&[u8]> = data.iter().map(Placed::block).collect();
    let parity = 0..usize::from(coder.geometry().parity());
    let mut parity: Vec<Placed> = parity
        .map(|shard| Placed::new(blocks[0].len(), parity_offset + 7 * shard))
        .collect();
    let mut outs: Vec<&mut [u8]> = parity.iter_mut().map(Placed::block_mut).collect();
    coder.encode_column(&blocks, &mut outs);
    assert!(parity.iter().all(Placed::margin_is_untouched), "{}", coder.kernel());
    parity.iter().map(|placed| placed.block().to_vec()).collect()
}

#[test]
fn the_fastest_comes_first_and_the_portable_one_last() {
    let kernels: Vec<Kernel> = Kernel::available().collect();
    assert_eq!(kernels.first(), Some(&Kernel::fastest()));
    assert_eq!(kernels.last(), Some(&Kernel::PORTABLE));
    let mut names: Vec<&str> = kernels.iter().map(|kernel| kernel.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), kernels.len());
    // For whoever reads a log of this test: what was tested on this machine.
    println!("{kernels:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_processor_with_avx2_has_a_vector_kernel() {
    let vector = Kernel::fastest() != Kernel::PORTABLE;
    assert_eq!(vector, is_x86_feature_detected!("avx2"));
}

#[test]
fn every_kernel_passes_the_self_test() {
    assert_eq!(self_test(), Ok(()));
}

#[test]
fn every_geometry_is_coded_as_by_the_crate() {
    for k in 1..=32_u8 {
        for n in k..=32 {
            // Steps of all kernels and tails behind them; the length varies with the geometry too.
            for bytes in [1, 130, 256 + usize::from(k) * 3 + usize::from(n)] {
                let data = data_blocks(k, bytes);
                let expected = if n > k {
                    parity_of_oracle(k, n, &data)
                } else {
                    Vec::new()
                };
                for kernel in Kernel::available() {
                    let coded = parity_of(&coder(k, n, kernel), &slices(&data));
                    assert_eq!(coded, expected, "{k} of {n}, {bytes} bytes, {kernel}");
                }
            }
        }
    }
}

#[test]
fn every_length_is_coded_alike() {
    let around_a_column = COLUMN_BYTES - 3..=COLUMN_BYTES + 3;
    let past_a_column = [COLUMN_BYTES - 64, COLUMN_BYTES + 64, COLUMN_BYTES + 129];
    for bytes in (0..=300).chain(around_a_column).chain(past_a_column) {
        for (k, n) in [(4, 6), (3, 14)] {
            let data = data_blocks(k, bytes);
            let expected = parity_of(&coder(k, n, Kernel::PORTABLE), &slices(&data));
            assert_eq!(
                expected,
                parity_of_oracle_of_any_length(k, n, &data),
                "{bytes} bytes, the portable path"
            );
            for kernel in Kernel::available() {
                let coded = parity_at(&coder(k, n, kernel), &data, 1, 2);
                assert!(coded == expected, "{k} of {n}, {bytes} bytes, {kernel}");
            }
        }
    }
}

/// The oracle refuses blocks without a byte.
fn parity_of_oracle_of_any_length(k: u8, n: u8, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    match data[0].len() {
        0 => vec![Vec::new(); usize::from(n - k)],
        _ => parity_of_oracle(k, n, data),
    }
}

#[test]
fn every_alignment_is_coded_alike() {
    let (k, n, bytes) = (3, 5, 2 * 128 + 64 + 9);
    let data = data_blocks(k, bytes);
    let expected = parity_of_oracle(k, n, &data);
    for kernel in Kernel::available() {
        let coder = coder(k, n, kernel);
        for data_offset in 0..OFFSETS {
            for parity_offset in 0..OFFSETS {
                let coded = parity_at(&coder, &data, data_offset, parity_offset);
                assert!(coded == expected, "{data_offset}, {parity_offset}, {kernel}");
            }
        }
    }
}

#[test]
fn single_rows_and_several_are_the_same() {
    let (k, bytes) = (6, 391);
    let data = data_blocks(k, bytes);
    let all = parity_of(&coder(k, 32, Kernel::PORTABLE), &slices(&data));
    let shards = [data.clone(), all].concat();
    for kernel in Kernel::available() {
        let coder = coder(k, 9, kernel);
        for (index, expected) in (0..).zip(&shards) {
            let mut out = vec![MARGIN; bytes];
            coder.encode_row(index, &slices(&data), &mut out);
            assert_eq!(&out, expected, "row {index}, {kernel}");
        }
    }
}

#[test]
fn every_loss_up_to_seven_shards_is_rebuilt_in_one_pass() {
    let bytes = 128 + 64 + 5;
    for n in 1..=7_u8 {
        for k in 1..=n {
            let data = data_blocks(k, bytes);
            let shards = [data.clone(), parity_of(&coder(k, n, Kernel::PORTABLE), &slices(&data))].concat();
            for kernel in Kernel::available() {
                let coder = coder(k, n, kernel);
                for pattern in (0_u8..1 << n).filter(|pattern| pattern.count_ones() >= u32::from(k)) {
                    let (present, lost): (Vec<u8>, Vec<u8>) = (0..n).partition(|index| pattern >> index & 1 == 1);
                    let decoder = coder.decoder(&present).expect("enough shards");
                    let sources = decoder
                        .sources()
                        .iter()
                        .map(|index| shards[usize::from(*index)].as_slice());
                    let mut rebuilt = vec![vec![MARGIN; bytes]; lost.len()];
                    let mut outs: Vec<&mut [u8]> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
                    decoder.rebuild_rows(&lost, &sources.collect::<Vec<_>>(), &mut outs);
                    let expected: Vec<&Vec<u8>> = lost.iter().map(|index| &shards[usize::from(*index)]).collect();
                    assert_eq!(
                        rebuilt.iter().collect::<Vec<_>>(),
                        expected,
                        "{k} of {n}, {pattern:b}, {kernel}"
                    );
                }
            }
        }
    }
}

#[test]
fn nothing_wanted_is_nothing_done() {
    for kernel in Kernel::available() {
        let coder = coder(2, 2, kernel);
        coder.encode_column(&[&[1, 2], &[3, 4]], &mut []);
        let decoder = coder.decoder(&[0, 1]).expect("enough shards");
        decoder.rebuild_rows(&[], &[&[1, 2], &[3, 4]], &mut []);
    }
}

#[test]
#[should_panic(expected = "one row for each block")]
fn another_number_of_blocks_than_of_indices_stops_the_program() {
    let decoder = coder(2, 4, Kernel::fastest()).decoder(&[2, 3]).expect("enough shards");
    decoder.rebuild_rows(&[0, 1], &[&[1], &[2]], &mut [&mut [0]]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_geometry_length_and_place_and_any_loss(
        k in 1..=32_u8,
        order in Just((0..32_u8).collect::<Vec<_>>()).prop_shuffle(),
        wanted in 1..=32_usize,
        bytes in prop_oneof![0..=300_usize, 300..=3000_usize],
        data_offset in 0..OFFSETS,
        parity_offset in 0..OFFSETS,
    ) {
        let data = data_blocks(k, bytes);
        let parity = match k {
            32 => Vec::new(),
            _ => parity_of_oracle_of_any_length(k, 32, &data),
        };
        let shards = [data.clone(), parity.clone()].concat();
        for kernel in Kernel::available() {
            let coder = coder(k, 32, kernel);
            prop_assert_eq!(&parity_at(&coder, &data, data_offset, parity_offset), &parity);

            let decoder = coder.decoder(&order[..usize::from(k)]).expect("enough shards");
            let place = |index: &u8| Placed::holding(&shards[usize::from(*index)], data_offset + 3 * usize::from(*index));
            let sources: Vec<Placed> = decoder.sources().iter().map(place).collect();
            let sources: Vec<&[u8]> = sources.iter().map(Placed::block).collect();
            let indices = &order[32 - wanted..];
            let mut outs: Vec<Placed> = indices.iter().map(|_| Placed::new(bytes, parity_offset)).collect();
            let mut blocks: Vec<&mut [u8]> = outs.iter_mut().map(Placed::block_mut).collect();
            decoder.rebuild_rows(indices, &sources, &mut blocks);
            for (index, out) in indices.iter().zip(&outs) {
                prop_assert_eq!(out.block(), &shards[usize::from(*index)][..]);
                prop_assert!(out.margin_is_untouched());
            }
        }
    }
}
