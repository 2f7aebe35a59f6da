//! The packer: batches back in order, each new chunk into an open stripe, entries into manifest pages.
//!
//! One thread does this, so the same input gives the same stripes. Data and pages fill stripes of their own: reading a
//! manifest then touches few stripes. A chunk that is on its way in this very run is referred to like a stored one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender},
    },
};

use exclave_catalog::{Catalog, StateWriter};
use exclave_dataset::{
    pack::{Compressor, Encoded},
    page::{ContentWriter, PageWriter, Root},
    walk::{Finding, FindingClass, LinkRole},
};
use exclave_model::BufferPool;
use exclave_model::{
    ChunkId, ChunkKind, ChunkRef, Content, Counts, Entry, EntryKind, EntryPath, LiveSet, RunId,
    directory::DirectoryEntry,
};
use exclave_plan::tripwire as plan;
use exclave_seal::{ChunkHasher, PageBoundaryKey};
use exclave_stripe::{PackedStripe, StripeBuilder, StripeShape};

use super::{
    chunks::{Body, Chunk, Named, NamedBatch},
    flow::{Flow, Stopped},
    intake::Event,
    remembered::{Remembered, stripes_of},
};
use crate::surroundings::{Progress, Surroundings};

/// States are handed to the catalog in batches of this many.
const STATES_BATCH: usize = 512;
/// Batches that may still be under way when a stripe settles: for so long its chunks are remembered here.
const BATCHES_UNDER_WAY: u64 = 16;
/// Findings that are kept one by one; beyond it they are counted.
pub(super) const FINDINGS_MAX: usize = 1000;
/// Groups of hard links whose content is remembered until their last name.
const LINK_GROUPS_MAX: usize = 65_536;

/// A stripe that is full, on its way to be sealed.
pub(super) struct Full {
    pub(super) ordinal: u32,
    pub(super) packed: PackedStripe,
    /// Bytes that it counts for in the in-flight budget.
    pub(super) budget_bytes: usize,
}

/// Chunks of this run that the catalog doesn't know yet.
#[derive(Default)]
pub(super) struct OnTheWay {
    chunks: HashMap<ChunkId, ChunkRef>,
    settled: VecDeque<(u64, Vec<ChunkId>)>,
    newest_batch: u64,
}

impl OnTheWay {
    /// The catalog now knows these; they are forgotten once no look-up from before can still be under way.
    pub(super) fn settled(&mut self, chunks: Vec<ChunkId>) {
        self.settled.push_back((self.newest_batch, chunks));
    }

    fn at_batch(&mut self, number: u64) {
        self.newest_batch = number;
        while self
            .settled
            .front()
            .is_some_and(|(then, _)| then + BATCHES_UNDER_WAY < number)
        {
            for chunk in self.settled.pop_front().map(|(_, chunks)| chunks).unwrap_or_default() {
                self.chunks.remove(&chunk);
            }
        }
    }
}

/// What the packer has made when the source is through.
pub(super) struct Packed {
    pub(super) root: Root,
    pub(super) counts: Counts,
    pub(super) live: BTreeMap<RunId, LiveSet>,
    pub(super) findings: Vec<Finding>,
    pub(super) findings_total: u64,
    pub(super) bytes_new: u64,
    pub(super) states: Option<StateWriter>,
    /// What the run met, but for what is gone.
    pub(super) activity: plan::Activity,
}

/// Packs chunks into stripes and tells where they lie.
pub(super) struct ChunkStore<'a> {
    pub(super) flow: &'a Flow,
    pub(super) surroundings: &'a Surroundings,
    pub(super) catalog: &'a Catalog,
    pub(super) run: RunId,
    pub(super) shape: StripeShape,
    pub(super) pool: BufferPool,
    pub(super) on_the_way: &'a Mutex<OnTheWay>,
    pub(super) hasher: &'a ChunkHasher,
    pub(super) compressor: Compressor,
    pub(super) reusable: &'a (dyn Fn(&ChunkRef) -> bool + Sync),
    pub(super) out: SyncSender<Full>,
    next_ordinal: u32,
    data: Option<(u32, StripeBuilder)>,
    pages: Option<(u32, StripeBuilder)>,
    live: BTreeMap<RunId, LiveSet>,
    bytes_new: u64,
}

/// What a store is made of.
pub(super) struct StoreParts<'a> {
    pub(super) flow: &'a Flow,
    pub(super) surroundings: &'a Surroundings,
    pub(super) catalog: &'a Catalog,
    pub(super) run: RunId,
    pub(super) shape: StripeShape,
    pub(super) pool: BufferPool,
    pub(super) on_the_way: &'a Mutex<OnTheWay>,
    pub(super) hasher: &'a ChunkHasher,
    pub(super) compressor: Compressor,
    pub(super) reusable: &'a (dyn Fn(&ChunkRef) -> bool + Sync),
    pub(super) out: SyncSender<Full>,
}

impl<'a> ChunkStore<'a> {
    pub(super) fn new(parts: StoreParts<'a>) -> Self {
        let StoreParts {
            flow,
            surroundings,
            catalog,
            run,
            shape,
            pool,
            on_the_way,
            hasher,
            compressor,
            reusable,
            out,
        } = parts;
        Self {
            flow,
            surroundings,
            catalog,
            run,
            shape,
            pool,
            on_the_way,
            hasher,
            compressor,
            reusable,
            out,
            next_ordinal: 0,
            data: None,
            pages: None,
            live: BTreeMap::new(),
            bytes_new: 0,
        }
    }

    /// Where a chunk of the source lies, packing it when it is new; and what that makes of its bytes.
    fn place(&mut self, chunk: Chunk) -> Result<(ChunkRef, plan::Flow), Stopped> {
        let Chunk {
            raw_bytes, id, body, ..
        } = chunk;
        let found = match &body {
            Body::Stored(found) => Some(*found),
            Body::New(_) => self.under_way(&id),
        };
        match (found, body) {
            (Some(found), _) | (None, Body::Stored(found)) => {
                Progress::add(&self.surroundings.progress.bytes_reused, u64::from(raw_bytes));
                let flow = plan::Flow {
                    known: u64::from(raw_bytes),
                    ..plan::Flow::default()
                };
                Ok((found, flow))
            }
            (None, Body::New(encoded)) => {
                let packed = self.pack(ChunkKind::Data, raw_bytes, id, &encoded)?;
                let flow = plan::Flow {
                    known: 0,
                    new: u64::from(raw_bytes),
                    stored: u64::from(packed.stored),
                };
                Ok((packed, flow))
            }
        }
    }

    /// Where a manifest page lies.
    fn place_page(&mut self, page: &[u8]) -> Result<ChunkRef, Stopped> {
        let id = self.hasher.id(page);
        let raw_bytes = page.len() as u32;
        let found = match self.under_way(&id) {
            Some(found) => Some(found),
            None => {
                let looked_up = self.surroundings.runtime.block_on(self.catalog.lookup(self.run, &[id]));
                let found = self.flow.check(looked_up)?.pop().flatten();
                found.filter(|found| found.raw == raw_bytes && (self.reusable)(found))
            }
        };
        let page_ref = match found {
            Some(found) => found,
            None => {
                let encoded = self.flow.check(self.compressor.encode(page.to_vec()))?;
                self.pack(ChunkKind::Page, raw_bytes, id, &encoded)?
            }
        };
        self.needs(page_ref.run, page_ref.ordinal);
        Ok(page_ref)
    }

    /// Notes that the snapshot needs a stripe.
    fn needs(&mut self, run: RunId, ordinal: u32) {
        self.live.entry(run).or_default().insert(ordinal);
    }

    fn under_way(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.on_the_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .chunks
            .get(id)
            .copied()
    }

    fn pack(&mut self, kind: ChunkKind, raw_bytes: u32, id: ChunkId, encoded: &Encoded) -> Result<ChunkRef, Stopped> {
        let stored = &encoded.stored;
        let open = self.open(kind).take();
        let (ordinal, mut builder) = match open {
            Some((ordinal, builder)) if builder.has_room(stored.len()) => (ordinal, builder),
            open => {
                if let Some(full) = open {
                    self.ship(full)?;
                }
                self.begin_stripe()?
            }
        };
        let DirectoryEntry {
            codec,
            offset,
            stored,
            raw,
            id,
            ..
        } = builder.push(kind, encoded.codec, stored, raw_bytes, id);
        *self.open(kind) = Some((ordinal, builder));
        self.bytes_new += u64::from(stored);
        let chunk = ChunkRef {
            run: self.run,
            ordinal,
            offset,
            stored,
            raw,
            codec,
            id,
        };
        self.on_the_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .chunks
            .insert(id, chunk);
        Ok(chunk)
    }

    fn open(&mut self, kind: ChunkKind) -> &mut Option<(u32, StripeBuilder)> {
        match kind {
            ChunkKind::Data => &mut self.data,
            ChunkKind::Page => &mut self.pages,
        }
    }

    fn budget_bytes(&self) -> usize {
        self.shape.payload.bytes() * usize::from(self.shape.geometry.total())
    }

    fn begin_stripe(&mut self) -> Result<(u32, StripeBuilder), Stopped> {
        self.flow.acquire(self.budget_bytes())?;
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        Ok((ordinal, StripeBuilder::new(self.shape, &self.pool)))
    }

    fn ship(&self, (ordinal, builder): (u32, StripeBuilder)) -> Result<(), Stopped> {
        match builder.close() {
            Some(packed) => {
                let full = Full {
                    ordinal,
                    packed,
                    budget_bytes: self.budget_bytes(),
                };
                self.out.send(full).map_err(|_| Stopped)
            }
            None => Ok(()),
        }
    }

    fn ship_rest(&mut self) -> Result<(), Stopped> {
        for open in [self.data.take(), self.pages.take()].into_iter().flatten() {
            self.ship(open)?;
        }
        Ok(())
    }
}

/// A file whose pieces are arriving.
struct OpenFile {
    attempt: u32,
    content: ContentWriter,
    /// Stripes of its data chunks.
    live: BTreeMap<RunId, LiveSet>,
    flow: plan::Flow,
}

/// Puts everything in order.
pub(super) struct Packer<'a> {
    store: ChunkStore<'a>,
    pages: PageWriter,
    file: Option<OpenFile>,
    links: HashMap<EntryPath, (Content, Vec<exclave_model::RunStripes>)>,
    counts: Counts,
    findings: Vec<Finding>,
    findings_total: u64,
    states: Option<StateWriter>,
    states_batch: Vec<exclave_catalog::FileState>,
    activity: plan::Activity,
}

impl<'a> Packer<'a> {
    pub(super) fn new(
        store: ChunkStore<'a>,
        boundary: &PageBoundaryKey,
        page_bytes_max: usize,
        states: Option<StateWriter>,
    ) -> Self {
        Self {
            store,
            pages: PageWriter::new(boundary.as_bytes(), page_bytes_max),
            file: None,
            links: HashMap::new(),
            counts: Counts::default(),
            findings: Vec::new(),
            findings_total: 0,
            states,
            states_batch: Vec::new(),
            activity: plan::Activity::default(),
        }
    }

    /// Takes batches until there are no more, then ends the manifest and ships what is left.
    pub(super) fn run(mut self, input: Receiver<NamedBatch>) -> Result<Packed, Stopped> {
        let mut early = BTreeMap::new();
        let mut next = 0;
        for batch in input {
            early.insert(batch.number, batch.events);
            while let Some(events) = early.remove(&next) {
                self.store
                    .on_the_way
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .at_batch(next);
                next += 1;
                for event in events {
                    self.take(event)?;
                }
            }
        }
        if self.store.flow.has_failed() || !early.is_empty() {
            return Err(Stopped);
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Packed, Stopped> {
        let root = self.pages.finish(&mut |page| self.store.place_page(page));
        let root = root.map_err(|error| self.store.flow.fail(error.into()))?;
        self.store.ship_rest()?;
        let states = flush_states(&self.store, self.states, &mut self.states_batch)?;
        Ok(Packed {
            root,
            counts: self.counts,
            live: self.store.live,
            findings: self.findings,
            findings_total: self.findings_total,
            bytes_new: self.store.bytes_new,
            states,
            activity: plan::Activity {
                now: plan::Extent {
                    files: self.counts.files,
                    bytes: self.counts.bytes,
                },
                ..self.activity
            },
        })
    }

    fn take(&mut self, event: Named) -> Result<(), Stopped> {
        match event {
            Named::Chunk(attempt, chunk) => self.chunk(attempt, chunk),
            Named::Other(Event::Whole(remembered)) => self.entry(*remembered),
            Named::Other(Event::FileEnd {
                entry,
                attempts,
                stat,
                link,
                before,
            }) => {
                let mut entry = *entry;
                let file = self.file.take().filter(|file| file.attempt == attempts);
                if let Some(file) = &file {
                    self.note_activity(&file.flow, before);
                }
                let (content, live) = match file {
                    Some(file) => {
                        let content = file.content.finish(&mut |page| self.store.place_page(page));
                        (content.map_err(|error| self.store.flow.fail(error.into()))?, file.live)
                    }
                    None => (Content::default(), BTreeMap::new()),
                };
                let beyond = match &content {
                    Content::Paged(_) => stripes_of(live),
                    Content::Extents(_) => Vec::new(),
                };
                if link == LinkRole::First && self.links.len() < LINK_GROUPS_MAX {
                    self.links.insert(entry.path.clone(), (content.clone(), beyond.clone()));
                }
                entry.content = content;
                self.entry(Remembered { entry, beyond, stat })
            }
            Named::Other(Event::Later(entry)) => self.later(*entry),
            Named::Other(Event::Dropped) => {
                self.file = None;
                Ok(())
            }
            Named::Other(Event::Finding(finding)) => {
                self.finding(finding);
                Ok(())
            }
            // The workers turned every piece into a chunk.
            Named::Other(Event::Piece(..)) => Ok(()),
        }
    }

    /// Counts a file that was read, and isn't empty.
    fn note_activity(&mut self, flow: &plan::Flow, before: bool) {
        let Self { activity, .. } = self;
        match (before, flow.new > 0) {
            (true, true) => activity.changed_files += 1,
            (false, false) => activity.moved_files += 1,
            (true, false) | (false, true) => {}
        }
        match before {
            true => activity.again.add(flow),
            false => activity.first.add(flow),
        }
    }

    fn finding(&mut self, finding: Finding) {
        self.findings_total += 1;
        match finding.class() {
            FindingClass::Skipped => self.counts.skipped += 1,
            FindingClass::Changed => self.counts.changed += 1,
            FindingClass::Excluded | FindingClass::Noted => {}
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    fn chunk(&mut self, attempt: u32, chunk: Chunk) -> Result<(), Stopped> {
        let offset = chunk.offset;
        let (placed, flow) = self.store.place(chunk)?;
        let fresh = || OpenFile {
            attempt,
            content: self.pages.content(),
            live: BTreeMap::new(),
            flow: plan::Flow::default(),
        };
        let file = match self.file.take() {
            Some(file) if file.attempt == attempt => file,
            // An earlier attempt's pieces are garbage: in the dataset, and harmless.
            Some(_) | None => fresh(),
        };
        let file = self.file.insert(file);
        file.live.entry(placed.run).or_default().insert(placed.ordinal);
        file.flow.add(&flow);
        let store = &mut self.store;
        let pushed = file.content.push(offset, placed, &mut |page| store.place_page(page));
        pushed.map_err(|error| self.store.flow.fail(error.into()))
    }

    fn later(&mut self, mut entry: Entry) -> Result<(), Stopped> {
        let first = entry
            .link_group
            .as_ref()
            .and_then(|group| self.links.get(group))
            .cloned();
        match first {
            Some((content, beyond)) => {
                // The size belongs to the content that was read under the first name.
                if let Content::Extents(extents) = &content {
                    let end = extents.last().map_or(0, |extent| extent.offset + extent.length);
                    entry.size = entry.size.max(end);
                }
                entry.content = content;
                self.entry(Remembered {
                    entry,
                    beyond,
                    stat: None,
                })
            }
            None => {
                self.finding(Finding::Vanished { path: entry.path });
                Ok(())
            }
        }
    }

    fn entry(&mut self, remembered: Remembered) -> Result<(), Stopped> {
        let entry = &remembered.entry;
        match entry.kind {
            EntryKind::File => {
                self.counts.files += 1;
                self.counts.bytes += entry.size;
            }
            EntryKind::Directory => self.counts.directories += 1,
            EntryKind::Symlink
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharDevice
            | EntryKind::BlockDevice => self.counts.others += 1,
        }
        remembered.each_stripe(|run, ordinal| self.store.needs(run, ordinal));
        if let Some(state) = remembered.to_state() {
            self.states_batch.push(state);
            if self.states_batch.len() >= STATES_BATCH {
                self.states = flush_states(&self.store, self.states.take(), &mut self.states_batch)?;
            }
        }
        let link_first = remembered.entry.link_group.as_ref() == Some(&remembered.entry.path);
        if link_first && self.links.len() < LINK_GROUPS_MAX {
            let kept = (remembered.entry.content.clone(), remembered.beyond);
            self.links.insert(remembered.entry.path.clone(), kept);
        }
        let store = &mut self.store;
        let appended = self.pages.append(remembered.entry, &mut |page| store.place_page(page));
        appended.map_err(|error| self.store.flow.fail(error.into()))
    }
}

fn flush_states(
    store: &ChunkStore<'_>,
    states: Option<StateWriter>,
    batch: &mut Vec<exclave_catalog::FileState>,
) -> Result<Option<StateWriter>, Stopped> {
    let Some(mut states) = states else { return Ok(None) };
    if !batch.is_empty() {
        store
            .flow
            .check(store.surroundings.runtime.block_on(states.push(batch)))?;
        batch.clear();
    }
    Ok(Some(states))
}
