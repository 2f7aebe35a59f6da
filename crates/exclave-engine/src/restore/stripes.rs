//! The stripes in memory: fetched ahead, being opened, opened and kept for later; bounded in bytes.
//!
//! One thread lets stripes in ([`Stripes::admit`]), and waits while there is no room. Any thread opens one
//! ([`Stripe::open`]): the first that asks does the work, the others wait for it. A [`Lease`] keeps a stripe; without one
//! it may be dropped, the least recently used first. Whoever waits for room must hold no lease, so that those who do can
//! finish.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use exclave_model::{BufferPool, RunId, SiteId, StripeRecord};
use exclave_stripe::{DecodeError, OpenedStripe, decode, verify_shard};
use tokio::task::AbortHandle;

use super::error::StripeError;
use crate::{
    fetch::{
        Problem, SiteBook,
        book::lock,
        ranges::{self, PartsFeed, Segments},
        shards::ShardFeed,
    },
    snapshot::OpenedRun,
    surroundings::Progress,
};

/// Stripes that are used at the same time. More requests than this serve no one.
const USED_MAX: usize = 64;

/// Stripes that are let in whatever their length: one to be opened, one to be fetched meanwhile.
const USED_MIN: usize = 2;

/// How often those who wait look whether someone asked to stop.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(100);

/// Everything needed to fetch and open one stripe.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) book: Arc<SiteBook>,
    pub(crate) record: Arc<StripeRecord>,
    pub(crate) layout: Vec<SiteId>,
    pub(crate) run: Arc<OpenedRun>,
    /// Where plaintext is written to.
    pub(crate) pool: BufferPool,
}

/// A stripe's plaintext, or the part of it that was wanted.
pub(crate) enum Opened {
    Whole(OpenedStripe),
    Parts(Segments),
}

impl Opened {
    /// Shows the stored bytes of a chunk; `None` when they are not within what was opened.
    pub(crate) fn with_stored<T>(&self, offset: u32, bytes: u32, show: impl FnOnce(&[u8]) -> T) -> Option<T> {
        match self {
            Self::Whole(stripe) => stripe.stored(offset, bytes).map(show),
            Self::Parts(segments) => ranges::stored(segments, offset, bytes).map(|stored| show(&stored)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Whole(stripe) => stripe.bytes(),
            Self::Parts(segments) => segments.values().map(|segment| segment.len()).sum(),
        }
    }
}

enum State {
    Whole(ShardFeed),
    Parts(PartsFeed),
    Opening,
    Done(Result<Arc<Opened>, Arc<StripeError>>),
}

/// One stripe on its way from the sites to plaintext.
pub(crate) struct Stripe {
    source: Source,
    /// Ends the fetching, and with it the wait of whoever opens it.
    fetching: AbortHandle,
    state: Mutex<State>,
    done: Condvar,
}

impl Stripe {
    /// Starts fetching the whole stripe.
    pub(crate) fn whole(source: Source) -> Self {
        let feed = ShardFeed::start(&source.runtime, &source.book, &source.record, &source.layout);
        Self::with(source, feed.abort_handle(), State::Whole(feed))
    }

    /// Starts fetching these segments, or the whole stripe when a site that has one is no good.
    pub(crate) fn parts(source: Source, segments: &BTreeSet<u32>) -> Self {
        let Source {
            runtime,
            book,
            record,
            layout,
            run: _,
            pool: _,
        } = &source;
        match PartsFeed::start(runtime, book, record, layout, segments) {
            Some(feed) => Self::with(source, feed.abort_handle(), State::Parts(feed)),
            None => Self::whole(source),
        }
    }

    fn with(source: Source, fetching: AbortHandle, state: State) -> Self {
        Self {
            source,
            fetching,
            state: Mutex::new(state),
            done: Condvar::new(),
        }
    }

    /// The plaintext, once. Who comes first verifies, decodes and opens; the others wait.
    fn open(&self) -> Result<Arc<Opened>, Arc<StripeError>> {
        let mut state = lock(&self.state);
        loop {
            match std::mem::replace(&mut *state, State::Opening) {
                State::Done(done) => {
                    *state = State::Done(done.clone());
                    return done;
                }
                State::Opening => state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner),
                State::Whole(feed) => {
                    drop(state);
                    return self.settle(|source| open_whole(feed, source));
                }
                State::Parts(feed) => {
                    drop(state);
                    return self.settle(|source| open_parts(feed, source));
                }
            }
        }
    }

    fn settle(
        &self,
        work: impl FnOnce(&Source) -> Result<Opened, StripeError>,
    ) -> Result<Arc<Opened>, Arc<StripeError>> {
        let settled = Settled(self);
        let done = work(&self.source).map(Arc::new).map_err(Arc::new);
        *lock(&self.state) = State::Done(done.clone());
        drop(settled);
        done
    }
}

/// Wakes those who wait, also when the work panicked.
struct Settled<'a>(&'a Stripe);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(*state, State::Opening) {
            *state = State::Done(Err(Arc::new(StripeError::Abandoned)));
        }
        drop(state);
        self.0.done.notify_all();
    }
}

fn open_whole(mut feed: ShardFeed, source: &Source) -> Result<Opened, StripeError> {
    require_label(source)?;
    let (record, book) = (&*source.record, &source.book);
    let needed = usize::from(record.context.data);
    let mut shards = Vec::with_capacity(needed);
    while shards.len() < needed {
        let Some(arrival) = feed.next() else {
            return Err(StripeError::TooFew {
                run: record.context.run,
                ordinal: record.context.ordinal,
                found: shards.len(),
                needed,
            });
        };
        match verify_shard(record, arrival.index, &arrival.object) {
            Ok(shard) => {
                book.used_shard(arrival.site);
                shards.push(shard);
            }
            Err(_) => {
                book.note(arrival.site, Problem::Corrupt);
                feed.refuse(arrival.index);
            }
        }
    }
    drop(feed);
    let coded = decode(record, &shards).map_err(|error: DecodeError| StripeError::Decode {
        run: record.context.run,
        ordinal: record.context.ordinal,
        error,
    })?;
    drop(shards);
    let refused = |error| StripeError::Open {
        run: record.context.run,
        ordinal: record.context.ordinal,
        error,
    };
    let opened = coded.open(&source.run.key, &source.pool).map_err(refused)?;
    opened.directory().map_err(|rule| StripeError::Directory {
        run: record.context.run,
        ordinal: record.context.ordinal,
        rule,
    })?;
    Ok(Opened::Whole(opened))
}

/// One try; whatever goes wrong with it, the whole stripe is fetched.
fn open_parts(feed: PartsFeed, source: &Source) -> Result<Opened, StripeError> {
    require_label(source)?;
    match feed.open(&source.book, &source.record, &source.run.key) {
        Some(segments) => Ok(Opened::Parts(segments)),
        None => {
            let feed = ShardFeed::start(&source.runtime, &source.book, &source.record, &source.layout);
            open_whole(feed, source)
        }
    }
}

/// FORMAT.md section 14: a stripe belongs to its run's label.
fn require_label(source: &Source) -> Result<(), StripeError> {
    let context = &source.record.context;
    match source.run.labelled(context) {
        true => Ok(()),
        false => Err(StripeError::Label {
            run: context.run,
            ordinal: context.ordinal,
        }),
    }
}

/// Names a stripe in memory. Parts of one are told apart by a number, whole ones have 0 and are shared.
type Key = (RunId, u32, u64);

struct Slot {
    stripe: Arc<Stripe>,
    leases: usize,
    bytes: usize,
    used_at: u64,
}

#[derive(Default)]
struct Inner {
    slots: HashMap<Key, Slot>,
    bytes: usize,
    used: usize,
    ticks: u64,
    stopped: bool,
}

/// The stripes in memory.
pub(crate) struct Stripes {
    inner: Mutex<Inner>,
    freed: Condvar,
    bytes_max: usize,
    progress: Arc<Progress>,
}

/// Everything has to stop: nobody is let in any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub(crate) struct Stopped;

impl Stripes {
    pub(crate) fn new(bytes_max: usize, progress: &Arc<Progress>) -> Arc<Self> {
        Arc::new(Self {
            progress: Arc::clone(progress),
            inner: Mutex::default(),
            freed: Condvar::new(),
            bytes_max,
        })
    }

    /// A stripe that is here, whole.
    pub(crate) fn lease(self: &Arc<Self>, run: RunId, ordinal: u32) -> Option<Lease> {
        let key = (run, ordinal, 0);
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        let slot = inner.slots.get_mut(&key)?;
        inner.ticks += 1;
        slot.used_at = inner.ticks;
        slot.leases += 1;
        inner.used += usize::from(slot.leases == 1);
        Some(Lease {
            stripes: Arc::clone(self),
            stripe: Arc::clone(&slot.stripe),
            key,
        })
    }

    /// Lets a stripe in as soon as there is room for it. `start` begins to fetch it.
    pub(crate) fn admit(self: &Arc<Self>, source: Source, segments: Option<&BTreeSet<u32>>) -> Result<Lease, Stopped> {
        let context = source.record.context;
        let bytes = match segments {
            None => 2 * context.sealed_bytes(),
            Some(segments) => 2 * segments.len() * exclave_model::limit::SEGMENT_BYTES,
        };
        let number = self.reserve(bytes)?;
        let key = (context.run, context.ordinal, segments.map_or(0, |_| number));
        let stripe = Arc::new(match segments {
            None => Stripe::whole(source),
            Some(segments) => Stripe::parts(source, segments),
        });
        let slot = Slot {
            stripe: Arc::clone(&stripe),
            leases: 1,
            bytes,
            used_at: number,
        };
        lock(&self.inner).slots.insert(key, slot);
        Ok(Lease {
            stripes: Arc::clone(self),
            stripe,
            key,
        })
    }

    fn reserve(&self, bytes: usize) -> Result<u64, Stopped> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.stopped || self.progress.stop_asked() {
                return Err(Stopped);
            }
            while inner.bytes + bytes > self.bytes_max && inner.evict() {}
            let has_room = inner.bytes + bytes <= self.bytes_max || inner.used < USED_MIN;
            if has_room && inner.used < USED_MAX {
                inner.bytes += bytes;
                inner.used += 1;
                inner.ticks += 1;
                return Ok(inner.ticks);
            }
            let woken = self.freed.wait_timeout(inner, LOOK_UP);
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends all waiting and all fetching.
    pub(crate) fn stop(&self) {
        let mut inner = lock(&self.inner);
        inner.stopped = true;
        for slot in inner.slots.values() {
            slot.stripe.fetching.abort();
        }
        drop(inner);
        self.freed.notify_all();
    }
}

impl Inner {
    /// Drops what nobody uses and was used longest ago.
    fn evict(&mut self) -> bool {
        let idle = self.slots.iter().filter(|(_, slot)| slot.leases == 0);
        let oldest = idle.min_by_key(|(_, slot)| slot.used_at).map(|(key, _)| *key);
        let Some(slot) = oldest.and_then(|key| self.slots.remove(&key)) else {
            return false;
        };
        self.bytes -= slot.bytes;
        true
    }
}

/// Keeps a stripe in memory.
pub(crate) struct Lease {
    stripes: Arc<Stripes>,
    stripe: Arc<Stripe>,
    key: Key,
}

impl Lease {
    /// The stripe's plaintext. Blocks until it is opened; not for the runtime's own threads.
    pub(crate) fn open(&self) -> Result<Arc<Opened>, Arc<StripeError>> {
        let done = self.stripe.open();
        let bytes = done.as_ref().map_or(0, |opened| opened.bytes());
        let mut guard = lock(&self.stripes.inner);
        let inner = &mut *guard;
        if let Some(slot) = inner.slots.get_mut(&self.key)
            && slot.bytes != bytes
        {
            inner.bytes = inner.bytes - slot.bytes + bytes;
            slot.bytes = bytes;
            drop(guard);
            self.stripes.freed.notify_all();
        }
        done
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut guard = lock(&self.stripes.inner);
        let inner = &mut *guard;
        let Some(slot) = inner.slots.get_mut(&self.key) else {
            return;
        };
        slot.leases -= 1;
        if slot.leases > 0 {
            return;
        }
        inner.used -= 1;
        // Parts serve nobody else.
        if self.key.2 != 0
            && let Some(slot) = inner.slots.remove(&self.key)
        {
            inner.bytes -= slot.bytes;
        }
        drop(guard);
        self.stripes.freed.notify_all();
    }
}
