//! The whole crate through its public face, on real files where files matter.

mod debts;
mod file;
mod reuse;
mod states;

use exclave_model::{ChunkId, ChunkRef, Codec, DatasetId, Incarnation, KeyId, LiveSet, PayloadHash, RunId, SiteId};

use crate::{Catalog, Receipt, RunRecord, StripeNote};

const DATASET: DatasetId = DatasetId::from_bytes([7; 16]);
const SITE: SiteId = SiteId::from_bytes([9; 16]);
const OTHER_SITE: SiteId = SiteId::from_bytes([8; 16]);

fn run_id(number: u8) -> RunId {
    RunId::from_bytes([number; 16])
}

fn record(number: u8) -> RunRecord {
    RunRecord {
        run: run_id(number),
        dataset: DATASET,
        class: 1,
        label_digest: [1; 32],
        crypto_epoch: 1,
        writer: KeyId::from_bytes([1; 32]),
        incarnation: Incarnation::from_bytes([1; 16]),
        started: 1000 + i64::from(number),
    }
}

fn chunk_id(number: u32) -> ChunkId {
    let mut bytes = [0xA5; 32];
    bytes[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    ChunkId::from_bytes(bytes)
}

fn chunk(run: u8, ordinal: u32, number: u32) -> ChunkRef {
    ChunkRef {
        run: run_id(run),
        ordinal,
        offset: number,
        stored: 10,
        raw: 20,
        codec: Codec::Zstd,
        id: chunk_id(number),
    }
}

fn receipt(index: u8, site: SiteId, seen: i64) -> Receipt {
    Receipt {
        index,
        site,
        payload: PayloadHash::from_bytes([index; 32]),
        attempt: 0,
        seen,
    }
}

fn note(ordinal: u32) -> StripeNote {
    StripeNote {
        ordinal,
        verified: 2,
        receipts: vec![receipt(0, SITE, 5), receipt(1, OTHER_SITE, 5)],
        owed: Vec::new(),
    }
}

fn ordinals(from: impl IntoIterator<Item = u32>) -> LiveSet {
    let mut set = LiveSet::new();
    from.into_iter().for_each(|ordinal| set.insert(ordinal));
    set
}

/// Run 1 with the durable stripe 0 that holds chunks 0..10; still open.
async fn one_run() -> Catalog {
    let catalog = Catalog::in_memory().await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    let chunks: Vec<_> = (0..10).map(|number| chunk(1, 0, number)).collect();
    catalog.insert_chunks(&chunks).await.unwrap();
    catalog
}

/// How many of chunks 0..10 a run finds.
async fn found_by(catalog: &Catalog, run: u8) -> usize {
    let ids: Vec<_> = (0..10).map(chunk_id).collect();
    catalog
        .lookup(run_id(run), &ids)
        .await
        .unwrap()
        .iter()
        .flatten()
        .count()
}
