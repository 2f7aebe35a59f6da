//! Every loss of every small geometry, and random losses of the widest, against `reed-solomon-erasure` as the oracle
//! (THREATS C1).

#![expect(clippy::expect_used, reason = "helpers of a test")]

use exclave_erasure::{Coder, TooFew};
use exclave_model::{Code, Geometry};
use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

fn coder(k: u8, n: u8) -> Coder {
    let geometry = Geometry::new(k, n - k).expect("a valid geometry");
    Coder::new(Code::ReedSolomonVandermonde, geometry)
}

fn data_shards(k: u8, bytes: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut state = seed | 1;
    let mut next = || {
        // xorshift64: any spread of bytes will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..k).map(|_| (0..bytes).map(|_| next()).collect()).collect()
}

fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
    shards.iter().map(Vec::as_slice).collect()
}

/// All n shards of a column, by our coder.
fn encoded(coder: &Coder, mut shards: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let bytes = shards[0].len();
    let mut parity = vec![vec![0xee; bytes]; usize::from(coder.geometry().parity())];
    let mut outs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    coder.encode_column(&slices(&shards), &mut outs);
    shards.extend(parity);
    shards
}

/// All n shards of a column, by the oracle. It refuses geometries without parity.
fn encoded_by_oracle(k: u8, n: u8, mut shards: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if n > k {
        shards.resize(usize::from(n), vec![0; shards[0].len()]);
        let codec = ReedSolomon::new(usize::from(k), usize::from(n - k)).expect("a valid geometry");
        codec.encode(&mut shards).expect("equal lengths");
    }
    shards
}

fn rebuilt_by_oracle(k: u8, n: u8, shards: &[Vec<u8>], present: &[u8]) -> Vec<Vec<u8>> {
    let mut holes: Vec<Option<Vec<u8>>> = vec![None; usize::from(n)];
    for &index in present {
        holes[usize::from(index)] = Some(shards[usize::from(index)].clone());
    }
    if n > k {
        let codec = ReedSolomon::new(usize::from(k), usize::from(n - k)).expect("a valid geometry");
        codec.reconstruct(&mut holes).expect("enough shards");
    }
    holes.into_iter().map(|shard| shard.expect("rebuilt")).collect()
}

/// Every shard, rebuilt from those present by our decoder.
fn rebuilt(coder: &Coder, shards: &[Vec<u8>], present: &[u8]) -> Vec<Vec<u8>> {
    let decoder = coder.decoder(present).expect("enough shards");
    assert!(decoder.sources().is_sorted() && decoder.sources().len() == usize::from(coder.geometry().data()));
    assert!(decoder.sources().iter().all(|source| present.contains(source)));
    let sources: Vec<&[u8]> = decoder
        .sources()
        .iter()
        .map(|&index| shards[usize::from(index)].as_slice())
        .collect();
    (0..coder.geometry().total())
        .map(|index| {
            let mut out = vec![0xee; shards[0].len()];
            decoder.rebuild_row(index, &sources, &mut out);
            out
        })
        .collect()
}

/// Around the crate's unrolled loop of four and past any vector width.
const LENGTHS: [usize; 4] = [1, 4, 71, 517];

#[test]
fn every_subset_of_every_geometry_up_to_nine_shards() {
    let (mut decoded, mut refused) = (0, 0);
    for n in 1..=9_u8 {
        for k in 1..=n {
            let coder = coder(k, n);
            for bytes in LENGTHS {
                let data = data_shards(k, bytes, u64::from(n) << 16 | u64::from(k) << 8 | bytes as u64);
                let shards = encoded(&coder, data.clone());
                assert_eq!(shards, encoded_by_oracle(k, n, data), "{k} of {n}, {bytes} bytes");
                for subset in 0..1_u16 << n {
                    let present: Vec<u8> = (0..n).filter(|index| subset >> index & 1 == 1).collect();
                    if present.len() < usize::from(k) {
                        let found = present.len() as u8;
                        assert_eq!(coder.decoder(&present).err(), Some(TooFew { found, needed: k }));
                        refused += 1;
                        continue;
                    }
                    let ours = rebuilt(&coder, &shards, &present);
                    assert_eq!(ours, shards, "{k} of {n} from {present:?}, {bytes} bytes");
                    assert_eq!(ours, rebuilt_by_oracle(k, n, &shards, &present), "the oracle");
                    decoded += 1;
                }
            }
        }
    }
    // The sum over n of n 2^(n-1) patterns that decode, as THREATS C1 counts them.
    assert_eq!((decoded, refused), (4097 * LENGTHS.len(), 4097 * LENGTHS.len()));
}

#[test]
fn data_shards_are_preferred_and_doubles_count_once() {
    let coder = coder(3, 6);
    let sources = |present: &[u8]| coder.decoder(present).map(|decoder| decoder.sources().to_vec());
    assert_eq!(sources(&[5, 4, 3, 2, 1, 0]), Ok(vec![0, 1, 2]));
    assert_eq!(sources(&[5, 1, 5, 4, 1]), Ok(vec![1, 4, 5]));
    assert_eq!(sources(&[5, 5, 5, 1]), Err(TooFew { found: 2, needed: 3 }));
    // A stripe that was widened after it was written: index 31 is beyond this geometry, and serves.
    assert_eq!(sources(&[31, 0, 8]), Ok(vec![0, 8, 31]));
}

#[test]
fn parity_added_later_restores_what_was_coded_before() {
    let (narrow, wide) = (coder(3, 5), coder(3, 32));
    let data = data_shards(3, 200, 7);
    let shards = encoded(&wide, data.clone());
    assert_eq!(encoded(&narrow, data.clone()), shards[..5]);
    for index in 0..32 {
        let mut out = vec![0; 200];
        narrow.encode_row(index, &slices(&data), &mut out);
        assert_eq!(out, shards[usize::from(index)], "row {index}");
    }
    let decoder = narrow.decoder(&[29, 30, 31]).expect("three are enough");
    let mut out = vec![0; 200];
    decoder.rebuild_row(1, &slices(&shards[29..32]), &mut out);
    assert_eq!(out, data[1]);
}

#[test]
fn one_data_shard_is_replication_and_no_parity_is_a_copy() {
    let data = data_shards(1, 33, 3);
    assert!(
        encoded(&coder(1, 5), data.clone())
            .iter()
            .all(|shard| *shard == data[0])
    );
    let data = data_shards(6, 33, 4);
    assert_eq!(encoded(&coder(6, 6), data.clone()), data);
    assert_eq!(rebuilt(&coder(6, 6), &data, &[5, 4, 3, 2, 1, 0]), data);
}

#[test]
fn the_portable_coder_gives_the_same_bytes() {
    let coder = coder(5, 9);
    let data = data_shards(5, 4096 + 3, 5);
    assert_eq!(encoded(&coder.portable(), data.clone()), encoded(&coder, data));
}

#[test]
#[should_panic(expected = "equally long")]
fn blocks_of_different_lengths_stop_the_program() {
    coder(2, 3).encode_row(2, &[&[1, 2], &[3]], &mut [0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_losses_of_thirty_two_shards(
        k in 1..=32_u8,
        order in Just((0..32_u8).collect::<Vec<_>>()).prop_shuffle(),
        bytes in 1..600_usize,
        seed: u64,
    ) {
        let coder = coder(k, 32);
        let data = data_shards(k, bytes, seed);
        let shards = encoded(&coder, data.clone());
        prop_assert_eq!(&shards, &encoded_by_oracle(k, 32, data));
        let present = &order[..usize::from(k)];
        prop_assert_eq!(&rebuilt(&coder, &shards, present), &shards);
        prop_assert_eq!(rebuilt_by_oracle(k, 32, &shards, present), shards);
    }
}
