//! A stripe there and back, and every way it may be wrong.

use exclave_model::{Anchor, ChunkId, ChunkKind, Codec, Geometry, PayloadLength, RunId, ShardHeader};
use exclave_seal::SeededEntropy;

use super::*;
use crate::{SealedStripe, Sealer, StripeBuilder, StripeShape};

struct World {
    run_key: RunKey,
    stripe: SealedStripe,
    chunks: Vec<Vec<u8>>,
}

fn shape(data: u8, parity: u8, groups: usize) -> StripeShape {
    StripeShape {
        geometry: Geometry::new(data, parity).unwrap(),
        payload: PayloadLength::new(groups * SEGMENT_BYTES, data).unwrap(),
    }
}

fn world(shape: StripeShape, chunk_bytes: &[usize], seed: u64) -> World {
    let mut entropy = SeededEntropy::new(seed);
    let run_key = RunKey::generate(&mut entropy).unwrap();
    let pool = BufferPool::new(4);
    let mut builder = StripeBuilder::new(shape, &pool);
    let chunks: Vec<Vec<u8>> = chunk_bytes
        .iter()
        .map(|bytes| (0..*bytes).map(|at| (at * 7 + bytes) as u8).collect())
        .collect();
    for (number, chunk) in chunks.iter().enumerate() {
        assert!(builder.has_room(chunk.len()));
        let id = ChunkId::from_bytes([number as u8; 32]);
        builder.push(ChunkKind::Data, Codec::Raw, chunk, chunk.len() as u32, id);
    }
    let run = RunId::from_bytes([2; 16]);
    let sealer = Sealer::new(Anchor::from_bytes([1; 32]), run, run_key.label_tag(""), shape, pool);
    let stripe = sealer
        .seal(builder.close().unwrap(), 7, &run_key, &mut entropy)
        .unwrap();
    World {
        run_key,
        stripe,
        chunks,
    }
}

fn objects(stripe: &SealedStripe) -> Vec<Bytes> {
    stripe
        .shards
        .iter()
        .map(|shard| shard.slices().concat().into())
        .collect()
}

#[test]
fn any_k_shards_give_the_chunks_back() {
    let world = world(shape(3, 2, 2), &[100_000, 1, 65_520, 70_000], 1);
    let record = world.stripe.record();
    let objects = objects(&world.stripe);
    for pattern in 0u32..1 << 5 {
        let shards: Vec<_> = (0..5u8)
            .filter(|index| pattern >> index & 1 == 1)
            .map(|index| verify_shard(&record, index, &objects[usize::from(index)]).unwrap())
            .collect();
        let coded = decode(&record, &shards);
        if pattern.count_ones() < 3 {
            assert!(matches!(coded, Err(DecodeError::TooFew(_))), "{pattern:b}");
            continue;
        }
        let opened = coded.unwrap().open(&world.run_key, &BufferPool::new(1)).unwrap();
        let directory = opened.directory().unwrap();
        for (entry, chunk) in directory.entries().iter().zip(&world.chunks) {
            assert_eq!(opened.stored(entry.offset, entry.stored).unwrap(), chunk);
        }
    }
}

#[test]
fn the_last_stripe_is_cut_down_to_a_power_of_two() {
    for (bytes, groups) in [
        (1, 1),
        (65_000, 1),
        (130_000, 1),
        (131_040, 2),
        (400_000, 4),
        (1_000_000, 8),
    ] {
        let world = world(shape(2, 1, 8), &[bytes], 2);
        assert_eq!(world.stripe.context.payload.groups(), groups, "{bytes} bytes");
    }
}

#[test]
fn headers_and_trailers_are_those_of_the_format() {
    let world = world(shape(2, 2, 4), &[300_000], 3);
    let record = world.stripe.record();
    for (index, object) in objects(&world.stripe).iter().enumerate() {
        let header = ShardHeader::from_bytes(object[..HEADER_BYTES].try_into().unwrap()).unwrap();
        assert_eq!((header.context, usize::from(header.index)), (record.context, index));
        assert_eq!(header.commitment, record.commitment);
        let trailer = trailer_range(record.context.payload);
        let trailer = &object[trailer.start as usize..trailer.end as usize];
        for group in 0..4 {
            let block = &object[group_range(group)];
            verify_group(&record, index as u8, group, block, trailer).unwrap();
            let mut bad = block.to_vec();
            bad[17] ^= 4;
            assert_eq!(
                verify_group(&record, index as u8, group, &bad, trailer),
                Err(ShardError::Hash)
            );
            let other = (group + 1) % 4;
            assert_eq!(
                verify_group(&record, index as u8, other, block, trailer),
                Err(ShardError::Hash)
            );
        }
    }
}

#[test]
fn single_segments_open_alone() {
    let world = world(shape(2, 1, 2), &[200_000], 4);
    let record = world.stripe.record();
    let object = &objects(&world.stripe)[1];
    let plain = open_one_segment(&record, &world.run_key, 1, 0, &object[group_range(0)]).unwrap();
    let start = 2 * SEGMENT_PLAIN_BYTES;
    assert_eq!(plain[..], world.chunks[0][start..start + SEGMENT_PLAIN_BYTES]);
    assert!(open_one_segment(&record, &world.run_key, 1, 1, &object[group_range(0)]).is_err());
    assert!(open_one_segment(&record, &world.run_key, 2, 0, &object[group_range(0)]).is_err());
}

#[test]
fn damage_and_swaps_are_noticed_by_the_layer_that_must() {
    let world = world(shape(2, 1, 1), &[100_000], 5);
    let record = world.stripe.record();
    let objects = objects(&world.stripe);
    let verify = |index: u8| verify_shard(&record, index, &objects[usize::from(index)]).unwrap();
    assert_eq!(verify_shard(&record, 0, &objects[1]).err(), Some(ShardError::Hash));
    assert_eq!(
        verify_shard(&record, 9, &objects[1]).err(),
        Some(ShardError::NoSuchIndex(9))
    );
    let short = objects[0].slice(1..);
    assert!(matches!(
        verify_shard(&record, 0, &short),
        Err(ShardError::Length { .. })
    ));

    // A writer that commits a parity shard of something else: some sets of k shards decode, the others must not.
    let mut lying = record.clone();
    lying.payloads[2] = PayloadHash::of(&[9; SEGMENT_BYTES]);
    let foreign = VerifiedShard {
        index: 2,
        payload: Bytes::from(vec![9; SEGMENT_BYTES]),
    };
    assert!(decode(&lying, &[verify(0), verify(1)]).is_ok());
    assert_eq!(
        decode(&lying, &[verify(0), foreign]).err(),
        Some(DecodeError::NotACodeword(1))
    );

    // Another run's key, another ordinal, another salt: the commitment says so before anything is opened.
    let other_key = RunKey::generate(&mut SeededEntropy::new(99)).unwrap();
    let open = |record: &StripeRecord, key: &RunKey| {
        decode(record, &[verify(0), verify(1)])
            .unwrap()
            .open(key, &BufferPool::new(1))
            .err()
    };
    assert_eq!(open(&record, &other_key), Some(OpenError::Commitment));
    let mut moved = record.clone();
    moved.context.ordinal += 1;
    assert_eq!(open(&moved, &world.run_key), Some(OpenError::Commitment));
    assert_eq!(open(&record, &world.run_key), None);
}

#[test]
fn a_cloned_machine_never_repeats_a_key_for_other_content() {
    let one = world(shape(1, 1, 1), &[1000], 6);
    let same = world(shape(1, 1, 1), &[1000], 6);
    assert_eq!(one.stripe.context, same.stripe.context);
    // Same run key and randomness, other chunks: another salt, so another key.
    let mut entropy = SeededEntropy::new(6);
    let key = RunKey::generate(&mut entropy).unwrap();
    let other = StripeKey::salt(&key, &[ChunkId::from_bytes([1; 32])], &mut entropy).unwrap();
    assert_ne!(one.stripe.context.salt, other);
}
