//! Chunks of one snapshot: which stripe, admitted, opened, cut out, unpacked, and its id checked.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use exclave_dataset::pack::{CompressError, Decompressor};
use exclave_model::{BufferPool, ChunkRef, RunId};
use exclave_seal::ChunkHasher;

use super::{
    error::{ChunkError, StripeError},
    stripes::{Lease, Opened, Source, Stopped, Stripes},
};
use crate::{
    fetch::{
        ledger::Ledgers,
        ranges::{is_little, segments_of},
    },
    snapshot::{Snapshot, Snapshots},
    surroundings::{Progress, Surroundings},
};

/// Stripes of which it is remembered how much was read in parts.
const PARTLY_READ_MAX: usize = 4096;

/// Buffers of opened stripes that are kept for the next ones: as many as there may be between two that are written.
const POOLED_MAX: usize = 4;

/// Turns stored bytes into a chunk, and releases it only when it is the one that was meant. One per thread.
pub(crate) struct Unpacker {
    decompressor: Decompressor,
    hasher: Arc<ChunkHasher>,
}

impl Unpacker {
    pub(crate) fn new(hasher: &Arc<ChunkHasher>) -> Result<Self, CompressError> {
        Ok(Self {
            decompressor: Decompressor::new()?,
            hasher: Arc::clone(hasher),
        })
    }

    /// Shows a chunk whose id was checked, where it lies.
    pub(crate) fn with_chunk<T>(
        &mut self,
        opened: &Opened,
        chunk: &ChunkRef,
        show: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ChunkError> {
        let (run, ordinal) = (chunk.run, chunk.ordinal);
        let checked = opened.with_stored(chunk.offset, chunk.stored, |stored| {
            let unpacked = self.decompressor.decode(chunk.codec, stored, chunk.raw);
            let raw = unpacked.map_err(|source| ChunkError::Unpack {
                run,
                ordinal,
                source: Arc::new(source),
            })?;
            match self.hasher.id(raw) == chunk.id {
                true => Ok(show(raw)),
                false => Err(ChunkError::WrongId { run, ordinal }),
            }
        });
        checked.ok_or(ChunkError::Outside { run, ordinal })?
    }

    /// The chunk of a leased stripe.
    pub(crate) fn leased(&mut self, lease: &Lease, chunk: &ChunkRef) -> Result<Vec<u8>, ChunkError> {
        let opened = lease.open().map_err(ChunkError::Stripe)?;
        self.with_chunk(&opened, chunk, <[u8]>::to_vec)
    }
}

/// How chunks of a stripe are wanted.
pub(crate) enum Wanted<'a> {
    /// More of the stripe will be wanted soon.
    Stripe,
    /// Perhaps only these.
    Chunks(&'a [&'a ChunkRef]),
}

/// Whether single pages of the manifest are worth a whole stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Most of them will be read.
    Most,
    /// A few of them will be read.
    Few,
}

/// Reads one snapshot's chunks. One thread owns it and lets stripes in; leases go to others.
pub(crate) struct ChunkReader<'s> {
    snapshots: &'s Snapshots<'s>,
    snapshot: &'s Snapshot,
    ledgers: Ledgers,
    runtime: tokio::runtime::Handle,
    progress: Arc<Progress>,
    pub(crate) stripes: Arc<Stripes>,
    pub(crate) hasher: Arc<ChunkHasher>,
    pool: BufferPool,
    unpacker: Unpacker,
    pages: Pages,
    /// Segments that were read of a stripe in parts.
    partly_read: HashMap<(RunId, u32), usize>,
}

impl<'s> ChunkReader<'s> {
    pub(crate) fn new(
        snapshots: &'s Snapshots<'s>,
        snapshot: &'s Snapshot,
        pages: Pages,
        surroundings: &Surroundings,
    ) -> Result<Self, CompressError> {
        let book = Arc::clone(&snapshots.tables.book);
        let hasher = Arc::new(snapshot.secret.chunk_hasher());
        Ok(Self {
            ledgers: Ledgers::new(snapshots.archive.anchor, book, snapshot.run),
            runtime: surroundings.runtime.clone(),
            progress: Arc::clone(&surroundings.progress),
            stripes: Stripes::new(snapshots.settings.memory_bytes_max, &surroundings.progress),
            pool: BufferPool::new(POOLED_MAX),
            unpacker: Unpacker::new(&hasher)?,
            hasher,
            pages,
            partly_read: HashMap::new(),
            snapshots,
            snapshot,
        })
    }

    pub(crate) fn snapshot(&self) -> &'s Snapshot {
        self.snapshot
    }

    /// A page of the manifest.
    pub(crate) fn page(&mut self, page: &ChunkRef) -> Result<Vec<u8>, ChunkError> {
        let lease = match self.pages {
            Pages::Most => self.lease(page, &Wanted::Stripe)?,
            Pages::Few => self.lease(page, &Wanted::Chunks(&[page]))?,
        };
        self.unpacker.leased(&lease, page)
    }

    /// The stripe of a chunk: here, or on its way from now on. May wait for room; the caller holds no other lease.
    pub(crate) fn lease(&mut self, chunk: &ChunkRef, wanted: &Wanted<'_>) -> Result<Lease, ChunkError> {
        let (run, ordinal) = (chunk.run, chunk.ordinal);
        if !self.snapshot.table.is_live(chunk) {
            return Err(ChunkError::NotLive { run, ordinal });
        }
        if let Some(lease) = self.stripes.lease(run, ordinal) {
            return Ok(lease);
        }
        let source = self
            .source(run, ordinal)
            .map_err(|error| ChunkError::Stripe(Arc::new(error)))?;
        let segments = self.segments(&source, wanted);
        Progress::add(&self.progress.stripes, 1);
        self.stripes
            .admit(source, segments.as_ref())
            .map_err(|Stopped| ChunkError::Stopped)
    }

    /// The ledger's line and the key of a stripe.
    pub(crate) fn source(&mut self, run: RunId, ordinal: u32) -> Result<Source, StripeError> {
        let entry = self.snapshot.table.get(run);
        let entry = entry.ok_or(crate::fetch::LedgerError::NotDescribed { run, ordinal })?;
        let dataset = self.snapshot.info.dataset;
        let opened = self
            .runtime
            .block_on(self.snapshots.keys.open(run, entry.commitment, dataset))
            .map_err(|source| StripeError::Key { run, ordinal, source })?;
        let line = self.runtime.block_on(self.ledgers.line(entry, ordinal))?;
        Ok(Source {
            runtime: self.runtime.clone(),
            book: Arc::clone(&self.snapshots.tables.book),
            record: Arc::new(line.record),
            layout: line.layout,
            run: opened,
            pool: self.pool.clone(),
        })
    }

    /// The segments to fetch, when that is little, also together with what was fetched of the stripe before.
    fn segments(&mut self, source: &Source, wanted: &Wanted<'_>) -> Option<BTreeSet<u32>> {
        let Wanted::Chunks(chunks) = wanted else { return None };
        let segments = segments_of(chunks.iter().copied());
        let context = &source.record.context;
        if self.partly_read.len() >= PARTLY_READ_MAX {
            self.partly_read.clear();
        }
        let read = self.partly_read.entry((context.run, context.ordinal)).or_default();
        *read = read.saturating_add(segments.len());
        is_little(&source.record, *read).then_some(segments)
    }
}
