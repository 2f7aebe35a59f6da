//! What coding one column costs on one core, on each kernel that this processor runs, in bytes of data coded a second.
//!
//! The bound: a pass reads k blocks and writes up to four or six, of 64 KiB each. A column is larger than the first cache
//! and fits the second, so a kernel that is done with its arithmetic in time is held up by that cache. `copy` shows what
//! it gives: the k data blocks, copied. Blocks lie where the allocator puts them, as in the pipeline: not on lines of the
//! cache. The portable path looks a table up for each byte and coefficient.
//! Run with `cargo bench -p exclave-benches --bench kernels`.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use exclave_erasure::{Coder, Kernel};
use exclave_model::{Code, Geometry, limit::SEGMENT_BYTES};
use exclave_seal::{Entropy as _, SeededEntropy};

/// Blocks of one column that don't repeat themselves.
fn blocks(count: u8) -> Vec<Vec<u8>> {
    let mut entropy = SeededEntropy::new(7);
    (0..count)
        .map(|_| {
            let mut block = vec![0; SEGMENT_BYTES];
            // Seeded entropy never fails.
            let _ = entropy.fill(&mut block);
            block
        })
        .collect()
}

fn columns(c: &mut Criterion) {
    for (k, parity) in [(4, 2), (4, 3), (4, 6), (10, 4)] {
        let Ok(geometry) = Geometry::new(k, parity) else {
            continue;
        };
        let data = blocks(k);
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut out = blocks(parity.max(k));
        let mut out: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();

        let mut group = c.benchmark_group(format!("a column, {k}+{parity}"));
        group
            .throughput(Throughput::Bytes(u64::from(k) * SEGMENT_BYTES as u64))
            .warm_up_time(Duration::from_secs(1))
            .measurement_time(Duration::from_secs(2));
        group.bench_function("copy", |b| {
            b.iter(|| {
                for (out, data) in out.iter_mut().zip(black_box(&data)) {
                    out.copy_from_slice(data);
                }
                black_box(&mut out);
            });
        });
        for kernel in Kernel::available() {
            let coder = Coder::with_kernel(Code::ReedSolomonVandermonde, geometry, kernel);
            group.bench_function(BenchmarkId::new("encode", kernel), |b| {
                b.iter(|| {
                    coder.encode_column(black_box(&data), &mut out[..usize::from(parity)]);
                    black_box(&mut out);
                });
            });
        }
        // The worst loss: as many data shards as there are parity shards, rebuilt together.
        let lost: Vec<u8> = (0..k.min(parity)).collect();
        let present: Vec<u8> = (lost.len() as u8..k + parity).collect();
        let Ok(decoder) = Coder::new(Code::ReedSolomonVandermonde, geometry).decoder(&present) else {
            continue;
        };
        group.bench_function(BenchmarkId::new("rebuild", Kernel::fastest()), |b| {
            b.iter(|| {
                decoder.rebuild_rows(&lost, black_box(&data), &mut out[..lost.len()]);
                black_box(&mut out);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, columns);
criterion_main!(benches);
