//! Worker threads: name each piece, ask whether the sites have it, compress what they don't.
//!
//! A whole batch is looked up at once. Workers may finish out of order; the packer puts batches back in order.

use std::sync::{
    Mutex, PoisonError,
    mpsc::{Receiver, SyncSender},
};

use exclave_catalog::Catalog;
use exclave_dataset::{
    pack::{CompressionLevel, Compressor, Encoded},
    source::Piece,
};
use exclave_model::{ChunkId, ChunkRef, RunId};
use exclave_seal::ChunkHasher;

use super::{
    flow::{Flow, Stopped},
    intake::{Batch, Event},
};
use crate::surroundings::Surroundings;

/// A piece with its name.
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) raw_bytes: u32,
    pub(super) id: ChunkId,
    pub(super) body: Body,
}

/// Where a chunk's bytes are.
pub(super) enum Body {
    /// At the sites already, as far as the catalog knows.
    Stored(ChunkRef),
    /// Here.
    New(Encoded),
}

/// An event whose piece has become a chunk.
pub(super) enum Named {
    Chunk(u32, Chunk),
    Other(Event),
}

/// A named batch.
pub(super) struct NamedBatch {
    pub(super) number: u64,
    pub(super) events: Vec<Named>,
}

/// What every worker uses.
pub(super) struct Workers<'a> {
    pub(super) flow: &'a Flow,
    pub(super) surroundings: &'a Surroundings,
    pub(super) catalog: &'a Catalog,
    pub(super) run: RunId,
    pub(super) hasher: &'a ChunkHasher,
    pub(super) level: CompressionLevel,
    /// Tells whether a stored chunk may be referred to.
    pub(super) reusable: &'a (dyn Fn(&ChunkRef) -> bool + Sync),
}

impl Workers<'_> {
    /// One worker: takes batches until there are no more.
    pub(super) fn work(&self, input: &Mutex<Receiver<Batch>>, out: SyncSender<NamedBatch>) -> Result<(), Stopped> {
        let mut compressor = self.flow.check(Compressor::new(self.level))?;
        loop {
            let received = input.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = received else { return Ok(()) };
            let named = self.name(batch, &mut compressor)?;
            out.send(named).map_err(|_| Stopped)?;
        }
    }

    fn name(&self, batch: Batch, compressor: &mut Compressor) -> Result<NamedBatch, Stopped> {
        let ids: Vec<ChunkId> = batch
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Piece(_, piece) => Some(self.hasher.id(&piece.raw)),
                _ => None,
            })
            .collect();
        let found = self
            .flow
            .check(self.surroundings.runtime.block_on(self.catalog.lookup(self.run, &ids)))?;
        let mut answers = ids.into_iter().zip(found);
        let mut events = Vec::with_capacity(batch.events.len());
        for event in batch.events {
            events.push(match event {
                Event::Piece(attempt, piece) => {
                    let Some((id, found)) = answers.next() else {
                        return Err(Stopped);
                    };
                    Named::Chunk(attempt, self.chunk(piece, id, found, compressor)?)
                }
                other => Named::Other(other),
            });
        }
        Ok(NamedBatch {
            number: batch.number,
            events,
        })
    }

    fn chunk(
        &self,
        piece: Piece,
        id: ChunkId,
        found: Option<ChunkRef>,
        compressor: &mut Compressor,
    ) -> Result<Chunk, Stopped> {
        let Piece { offset, raw } = piece;
        let raw_bytes = raw.len() as u32;
        let body = match found.filter(|found| found.raw == raw_bytes && (self.reusable)(found)) {
            Some(found) => Body::Stored(found),
            None => Body::New(self.flow.check(compressor.encode(raw))?),
        };
        Ok(Chunk {
            offset,
            raw_bytes,
            id,
            body,
        })
    }
}
