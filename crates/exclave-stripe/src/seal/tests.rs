//! A processor that computes wrongly: the check of a random column must end the run.

use std::cell::Cell;

use exclave_model::{ChunkKind, Codec, Geometry, PayloadLength};
use exclave_seal::SeededEntropy;

use super::*;
use crate::StripeBuilder;

const ORDINAL: u32 = 7;

/// Seals a stripe whose parity is coded right and then spoilt by `fault(column, parity blocks)`.
fn seal_with_fault(
    (data, parity, groups): (u8, u8, usize),
    seed: u64,
    fault: impl Fn(usize, &mut [&mut [u8]]),
) -> Result<SealedStripe, SealError> {
    let shape = StripeShape {
        geometry: Geometry::new(data, parity).unwrap(),
        payload: PayloadLength::new(groups * SEGMENT_BYTES, data).unwrap(),
    };
    let mut entropy = SeededEntropy::new(seed);
    let run_key = RunKey::generate(&mut entropy).unwrap();
    let pool = BufferPool::new(2);
    let mut builder = StripeBuilder::new(shape, &pool);
    let chunk = vec![0x35; shape.chunk_bytes_max()];
    let id = ChunkId::from_bytes([1; 32]);
    builder.push(ChunkKind::Data, Codec::Raw, &chunk, chunk.len() as u32, id);
    let sealer = Sealer::new(
        Anchor::from_bytes([1; 32]),
        RunId::from_bytes([2; 16]),
        run_key.label_tag(""),
        shape,
        pool,
    );
    let column = Cell::new(0);
    let encode = |data: &[&[u8]], parity: &mut [&mut [u8]]| {
        sealer.coder.encode_column(data, parity);
        fault(column.replace(column.get() + 1), parity);
    };
    sealer.seal_with(&encode, builder.close().unwrap(), ORDINAL, &run_key, &mut entropy)
}

fn is_the_code(sealed: &Result<SealedStripe, SealError>) -> bool {
    matches!(
        sealed,
        Err(SealError::Miscomputed {
            ordinal: ORDINAL,
            what: "the erasure code"
        })
    )
}

#[test]
fn a_kernel_that_is_right_passes() {
    let stripe = seal_with_fault((3, 2, 4), 1, |_, _| ()).unwrap();
    assert_eq!(stripe.shards.len(), 5);
    assert_eq!(stripe.context.payload.groups(), 4);
    assert!(seal_with_fault((3, 0, 2), 1, |_, parity| assert!(parity.is_empty())).is_ok());
}

#[test]
fn one_wrong_bit_of_any_parity_block_ends_the_run() {
    for shard in 0..3 {
        for at in [0, 63, 12_345, SEGMENT_BYTES - 1] {
            let sealed = seal_with_fault((4, 3, 2), 2, |_, parity| parity[shard][at] ^= 0x10);
            assert!(is_the_code(&sealed), "block {shard}, byte {at}: {sealed:?}");
        }
    }
}

#[test]
fn rows_in_another_order_end_the_run() {
    let swap = |_, parity: &mut [&mut [u8]]| {
        let [one, other] = parity else {
            panic!("two parity blocks")
        };
        one.swap_with_slice(other);
    };
    let sealed = seal_with_fault((4, 2, 1), 3, swap);
    assert!(is_the_code(&sealed));
    assert_eq!(
        sealed.unwrap_err().to_string(),
        "stripe 7: the erasure code computed twice gives two results; this machine must not write"
    );
}

#[test]
fn every_column_may_be_the_one_that_is_checked() {
    let groups = 4;
    for wrong in 0..groups {
        // A fault of one column is found when that column is drawn: about every fourth time.
        let found = (0..40)
            .filter(|seed| {
                let fault = |column: usize, parity: &mut [&mut [u8]]| parity[0][9] ^= u8::from(column == wrong);
                is_the_code(&seal_with_fault((2, 1, groups), *seed, fault))
            })
            .count();
        assert!((1..40).contains(&found), "column {wrong}: {found} of 40");
    }
}
