//! What each stage of the pipeline costs on one core, in bytes of raw data a second.
//!
//! The bound of each: cutting and naming read every byte once (memory bandwidth, BLAKE3); sealing adds AES-GCM, the code
//! and a BLAKE3 pass over n / k of the bytes; opening is the same without the code while all data shards are there.
//! What the code alone costs, and the bound of that, shows the bench `kernels`.
//! Run with `cargo bench -p exclave-benches`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exclave_dataset::{
    cut::{ChunkSizes, Cutter, GearTable},
    pack::{CompressionLevel, Compressor},
};
use exclave_model::BufferPool;
use exclave_model::{Anchor, ChunkKind, Codec, Geometry, PayloadLength, RunId};
use exclave_seal::{DatasetSecret, Entropy as _, RunKey, SeededEntropy};
use exclave_stripe::{Sealer, StripeBuilder, StripeShape, decode, verify_shard};

/// Bytes that don't compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    // Seeded entropy never fails.
    let _ = SeededEntropy::new(7).fill(&mut out);
    out
}

fn cutting_and_naming(c: &mut Criterion) {
    let data = noise(32 << 20);
    let secret = DatasetSecret::from_bytes([3; 32]);
    let cutter = Cutter::content_defined(
        &GearTable::from_le_bytes(secret.gear_bytes().as_bytes()),
        ChunkSizes::DEFAULT,
    );
    let hasher = secret.chunk_hasher();
    let mut group = c.benchmark_group("source");
    group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(10);
    group.bench_function("cut", |b| {
        b.iter(|| {
            let mut at = 0;
            while at < data.len() {
                at += cutter.cut(&data[at..]);
            }
            black_box(at)
        });
    });
    group.bench_function("name", |b| {
        b.iter(|| data.chunks(1 << 20).map(|chunk| hasher.id(chunk)).collect::<Vec<_>>())
    });
    if let Ok(mut compressor) = Compressor::new(CompressionLevel::DEFAULT) {
        group.bench_function("compress (noise, skipped by sample)", |b| {
            b.iter(|| {
                data.chunks(1 << 20)
                    .map(|chunk| compressor.encode(chunk.to_vec()).is_ok())
                    .filter(|ok| *ok)
                    .count()
            });
        });
    }
    group.finish();
}

fn stripes(c: &mut Criterion) {
    let (Ok(geometry), Ok(payload)) = (Geometry::new(4, 2), PayloadLength::new(8 << 20, 4)) else {
        return;
    };
    let shape = StripeShape { geometry, payload };
    let mut entropy = SeededEntropy::new(9);
    let Ok(run_key) = RunKey::generate(&mut entropy) else {
        return;
    };
    let pool = BufferPool::new(8);
    let label_tag = run_key.label_tag("");
    let sealer = Sealer::new(
        Anchor::from_bytes([1; 32]),
        RunId::from_bytes([2; 16]),
        label_tag,
        shape,
        pool.clone(),
    );
    let chunk = noise(1 << 20);
    let hasher = DatasetSecret::from_bytes([3; 32]).chunk_hasher();
    let id = hasher.id(&chunk);
    let pack = || {
        let mut builder = StripeBuilder::new(shape, &pool);
        while builder.has_room(chunk.len()) {
            builder.push(ChunkKind::Data, Codec::Raw, &chunk, chunk.len() as u32, id);
        }
        builder.close()
    };
    let raw_bytes = (shape.chunk_bytes_max() / chunk.len() * chunk.len()) as u64;
    let mut group = c.benchmark_group("stripe 4+2, 8 MiB");
    group.throughput(Throughput::Bytes(raw_bytes)).sample_size(10);
    group.bench_function("pack", |b| b.iter(|| black_box(pack())));
    group.bench_function("pack, seal, code and hash", |b| {
        b.iter(|| pack().and_then(|packed| sealer.seal(packed, 0, &run_key, &mut entropy).ok()));
    });
    let Some(sealed) = pack().and_then(|packed| sealer.seal(packed, 1, &run_key, &mut SeededEntropy::new(1)).ok())
    else {
        return;
    };
    let record = sealed.record();
    let objects: Vec<_> = sealed.shards.iter().map(|shard| bytes_of(&shard.slices())).collect();
    for (name, indices) in [
        ("verify and open, all data shards", [0u8, 1, 2, 3]),
        ("the same, two rebuilt", [2, 3, 4, 5]),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let shards: Vec<_> = indices
                    .iter()
                    .filter_map(|index| verify_shard(&record, *index, &objects[usize::from(*index)]).ok())
                    .collect();
                decode(&record, &shards)
                    .ok()
                    .and_then(|coded| coded.open(&run_key, &pool).ok())
            });
        });
    }
    group.finish();
}

fn bytes_of(slices: &[bytes::Bytes]) -> bytes::Bytes {
    slices.concat().into()
}

criterion_group!(benches, cutting_and_naming, stripes);
criterion_main!(benches);
