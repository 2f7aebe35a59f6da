//! Single segments of a stripe, when little of it is wanted.
//!
//! Segment s of the sealed stripe is group s mod g of data shard s div g. A shard's trailer proves its groups one by one
//! (FORMAT.md section 5), so a small file costs a few groups and trailers instead of k whole shards. There is one try, at
//! the layout's own sites; whatever goes wrong, the whole stripe is fetched instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use exclave_model::{
    ChunkRef, ShardName, SiteId, StripeRecord, Tag,
    limit::{SEGMENT_BYTES, SEGMENT_PLAIN_BYTES},
};
use exclave_seal::RunKey;
use exclave_stripe::{group_range, open_one_segment, trailer_range, verify_group};
use futures::future::try_join_all;
use zeroize::Zeroizing;

use super::book::{Problem, SiteBook};

/// Whole stripes are fetched when more than one segment in this many is wanted: requests cost more than bytes then.
const WANTED_ONE_IN: usize = 4;

/// The segments that hold these chunks.
pub(crate) fn segments_of<'a>(chunks: impl IntoIterator<Item = &'a ChunkRef>) -> BTreeSet<u32> {
    let of_chunk = |chunk: &ChunkRef| {
        let end = chunk.offset.saturating_add(chunk.stored).saturating_sub(1);
        let segment = |at: u32| at / SEGMENT_PLAIN_BYTES as u32;
        segment(chunk.offset)..=segment(end)
    };
    chunks.into_iter().flat_map(of_chunk).collect()
}

/// True when it pays to fetch only these segments.
pub(crate) fn is_little(record: &StripeRecord, segments: usize) -> bool {
    segments.saturating_mul(WANTED_ONE_IN) < record.context.segments()
}

/// Groups of one data shard, unverified.
#[derive(Debug)]
pub(crate) struct Part {
    site: usize,
    index: u8,
    trailer: Bytes,
    /// By group: 65,536 bytes each.
    groups: BTreeMap<usize, Bytes>,
}

/// Segments that were proven and opened, by number.
pub(crate) type Segments = BTreeMap<u32, Zeroizing<Vec<u8>>>;

/// Parts on their way. Dropped, it ends the fetching.
#[derive(Debug)]
pub(crate) struct PartsFeed {
    parts: tokio::sync::oneshot::Receiver<Option<Vec<Part>>>,
    task: tokio::task::JoinHandle<()>,
}

impl PartsFeed {
    /// Ends the fetching from elsewhere.
    pub(crate) fn abort_handle(&self) -> tokio::task::AbortHandle {
        self.task.abort_handle()
    }

    /// Starts fetching, when the layout's sites for these segments are all good; `None` otherwise.
    pub(crate) fn start(
        runtime: &tokio::runtime::Handle,
        book: &Arc<SiteBook>,
        record: &Arc<StripeRecord>,
        layout: &[SiteId],
        segments: &BTreeSet<u32>,
    ) -> Option<Self> {
        let mut wanted: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        let groups = record.context.payload.groups();
        for segment in segments {
            let (index, group) = (*segment as usize / groups, *segment as usize % groups);
            let index = u8::try_from(index).ok().filter(|index| *index < record.context.data)?;
            wanted.entry(index).or_default().push(group);
        }
        let mut plan = Vec::new();
        for (index, groups) in wanted {
            let site = book.position(*layout.get(usize::from(index))?)?;
            if !book.is_good(site) {
                return None;
            }
            plan.push((site, index, groups));
        }
        let (tell, parts) = tokio::sync::oneshot::channel();
        let (book, record) = (Arc::clone(book), Arc::clone(record));
        let task = runtime.spawn(async move {
            let fetches = plan
                .into_iter()
                .map(|(site, index, groups)| fetch_part(&book, &record, site, index, groups));
            // A slow site is not worth waiting for when any k others would do.
            let patience = book.hedge().saturating_mul(4);
            let fetched = tokio::time::timeout(patience, try_join_all(fetches)).await;
            // The reader may have let go.
            let _ = tell.send(fetched.ok().and_then(Result::ok));
        });
        Some(Self { parts, task })
    }

    /// Waits for the parts, proves and opens them; `None` when any of it fails. Blocks.
    pub(crate) fn open(self, book: &SiteBook, record: &StripeRecord, run_key: &RunKey) -> Option<Segments> {
        let parts = self.parts.blocking_recv().ok()??;
        self.task.abort();
        let mut segments = Segments::new();
        for part in parts {
            for (group, block) in &part.groups {
                if verify_group(record, part.index, *group, block, &part.trailer).is_err() {
                    book.note(part.site, Problem::Corrupt);
                    return None;
                }
                let plain = open_one_segment(record, run_key, part.index, *group, block).ok()?;
                let number = usize::from(part.index) * record.context.payload.groups() + group;
                segments.insert(u32::try_from(number).ok()?, plain);
            }
            book.used_groups(part.site, part.groups.len() as u64);
        }
        Some(segments)
    }
}

async fn fetch_part(
    book: &SiteBook,
    record: &StripeRecord,
    site: usize,
    index: u8,
    groups: Vec<usize>,
) -> Result<Part, Problem> {
    let hash = record.payloads.get(usize::from(index)).ok_or(Problem::Missing)?;
    let name = book.names().shard(&ShardName {
        run: record.context.run,
        ordinal: record.context.ordinal,
        index,
        tag: Tag::of_hash(hash.as_bytes()),
        attempt: 0,
    });
    let trailer = book
        .get_range(site, &name, trailer_range(record.context.payload))
        .await?;
    let mut part = Part {
        site,
        index,
        trailer,
        groups: BTreeMap::new(),
    };
    for stretch in stretches(&groups) {
        let start = group_range(stretch.start).start as u64;
        let bytes = stretch.len() * SEGMENT_BYTES;
        let got = book.get_range(site, &name, start..start + bytes as u64).await?;
        for (at, group) in stretch.enumerate() {
            let from = at * SEGMENT_BYTES;
            if got.len() < from + SEGMENT_BYTES {
                book.note(site, Problem::Corrupt);
                return Err(Problem::Corrupt);
            }
            part.groups.insert(group, got.slice(from..from + SEGMENT_BYTES));
        }
    }
    Ok(part)
}

/// Neighbouring groups as one request.
fn stretches(groups: &[usize]) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for group in groups {
        match stretches.last_mut() {
            Some(last) if last.end == *group => last.end += 1,
            Some(_) | None => stretches.push(*group..*group + 1),
        }
    }
    stretches
}

/// The stored bytes of a chunk, out of the segments that hold it; `None` when one is not there.
pub(crate) fn stored(segments: &Segments, offset: u32, bytes: u32) -> Option<Zeroizing<Vec<u8>>> {
    let (mut at, end) = (offset as usize, (offset as usize).checked_add(bytes as usize)?);
    let mut out = Zeroizing::new(Vec::with_capacity(end - at));
    while at < end {
        let (number, within) = (at / SEGMENT_PLAIN_BYTES, at % SEGMENT_PLAIN_BYTES);
        let take = (SEGMENT_PLAIN_BYTES - within).min(end - at);
        let segment = segments.get(&u32::try_from(number).ok()?)?;
        out.extend_from_slice(segment.get(within..within + take)?);
        at += take;
    }
    Some(out)
}
