//! Measures the dedup index and the file states at a million rows: `cargo run --profile ci -p exclave-catalog --example
//! measure -- FOLDER [ROWS]`. Look-ups are of random ids in batches, as a walk over changed files makes them.

use std::{path::PathBuf, time::Instant};

use exclave_catalog::{Catalog, CatalogError, FileState, RunRecord, StripeNote};
use exclave_model::{ChunkId, ChunkRef, Codec, DatasetId, EntryPath, Incarnation, KeyId, RunId};

const BATCH: u64 = 1024;
const CHUNKS_PER_STRIPE: u64 = 32;
const DATASET: DatasetId = DatasetId::from_bytes([1; 16]);
const RUN: RunId = RunId::from_bytes([2; 16]);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("a folder is needed")?);
    let rows: u64 = arguments.next().map_or(Ok(1_000_000), |rows| rows.parse())?;
    let catalog = Catalog::open(&folder.join("measure.db")).await?;
    catalog.clear().await?;
    catalog.begin_run(&record()).await?;
    insert(&catalog, rows).await?;
    lookup(&catalog, "look-ups, all found", |random| random % rows).await?;
    lookup(&catalog, "look-ups, none found", |random| rows + random % rows).await?;
    states(&catalog, rows / 4).await?;
    for table in catalog.stats().await?.tables {
        println!("{:>12} {:>10} rows {:>12} B", table.table, table.rows, table.bytes);
    }
    catalog.close().await;
    Ok(())
}

async fn insert(catalog: &Catalog, rows: u64) -> Result<(), CatalogError> {
    let begun = Instant::now();
    for first in (0..rows).step_by(BATCH as usize) {
        let notes: Vec<_> = (first..first + BATCH)
            .step_by(CHUNKS_PER_STRIPE as usize)
            .map(note)
            .collect();
        catalog.note_stripes(RUN, &notes, 0).await?;
        let chunks: Vec<_> = (first..first + BATCH).map(chunk).collect();
        catalog.insert_chunks(&chunks).await?;
    }
    report("inserts", rows, begun);
    Ok(())
}

async fn lookup(catalog: &Catalog, what: &str, pick: impl Fn(u64) -> u64) -> Result<(), CatalogError> {
    let (begun, mut random, mut found) = (Instant::now(), 7_u64, 0);
    const COUNT: u64 = 300 * BATCH;
    for _ in 0..COUNT / BATCH {
        let ids: Vec<_> = (0..BATCH)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                id(pick(random >> 20))
            })
            .collect();
        found += catalog.lookup(RUN, &ids).await?.iter().flatten().count();
    }
    report(&format!("{what} ({found} of {COUNT})"), COUNT, begun);
    Ok(())
}

async fn states(catalog: &Catalog, files: u64) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let mut writer = catalog.write_states(DATASET, RUN).await?;
    for first in (0..files).step_by(BATCH as usize) {
        let batch: Result<Vec<_>, _> = (first..first + BATCH).map(state).collect();
        writer.push(&batch?).await?;
    }
    writer.commit().await?;
    report("states written", files, begun);
    let (begun, mut read) = (Instant::now(), 0);
    let mut cursor = catalog.states(DATASET).await?;
    loop {
        let page = cursor.next_page(BATCH as usize).await?;
        if page.is_empty() {
            break;
        }
        read += page.len() as u64;
    }
    report("states read", read, begun);
    let begun = Instant::now();
    catalog.write_states(DATASET, RUN).await?.commit().await?;
    report("states replaced by none", read, begun);
    Ok(())
}

fn report(what: &str, count: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!("{what}: {:.0}/s ({seconds:.2} s)", count as f64 / seconds);
}

fn record() -> RunRecord {
    RunRecord {
        run: RUN,
        dataset: DATASET,
        class: 1,
        label_digest: [3; 32],
        crypto_epoch: 1,
        writer: KeyId::from_bytes([4; 32]),
        incarnation: Incarnation::from_bytes([5; 16]),
        started: 0,
    }
}

fn note(chunk: u64) -> StripeNote {
    StripeNote {
        ordinal: (chunk / CHUNKS_PER_STRIPE) as u32,
        verified: 6,
        receipts: Vec::new(),
        owed: Vec::new(),
    }
}

fn chunk(number: u64) -> ChunkRef {
    let ordinal = (number / CHUNKS_PER_STRIPE) as u32;
    ChunkRef {
        run: RUN,
        ordinal,
        offset: 77,
        stored: 700_000,
        raw: 1_000_000,
        codec: Codec::Zstd,
        id: id(number),
    }
}

/// A well mixed id (splitmix64), as a hash would give.
fn id(number: u64) -> ChunkId {
    let mut bytes = [0; 32];
    for (lane, slot) in (0_u64..).zip(bytes.as_chunks_mut::<8>().0) {
        let mut mixed = (number * 4 + lane).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        *slot = (mixed ^ (mixed >> 31)).to_be_bytes();
    }
    ChunkId::from_bytes(bytes)
}

fn state(number: u64) -> Result<FileState, exclave_model::BadPath> {
    let path = format!(
        "registers/{:04}/{:04}/record-{number:09}.xml",
        number / 100_000,
        number / 500
    );
    Ok(FileState {
        path: EntryPath::parse(path.as_bytes())?,
        size: 40_000,
        mtime_ns: 1,
        ctime_ns: 2,
        inode: number,
        device: 1,
        entry: vec![9; 220],
    })
}
