//! Any k shards of one stripe, fetched ahead of the thread that will verify them.
//!
//! A task on the runtime asks the sites of the layout, the cheapest k first; one more whenever one fails, keeps us waiting,
//! or turns out to have sent wrong bytes. When the layout has nothing left to ask, the stripe's folder is listed at every
//! site and its shards are looked for by name, repeated puts included. The verifying thread takes what arrives, and says
//! when it was wrong; when it has enough it lets go, and everything still under way is dropped.
//!
//! A site is asked once for a shard. Who sent wrong bytes is asked last from then on, so a liar costs one transfer.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use exclave_model::{RunId, ShardName, SiteId, StripeRecord, Tag};
use futures::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::book::{Problem, SiteBook};

/// Repeated puts of one shard that are looked at per site.
const ATTEMPTS_MAX: usize = 8;

/// What to ask a site for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Candidate {
    site: usize,
    index: u8,
    attempt: u32,
}

/// A shard object that arrived, unverified.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) site: usize,
    pub(crate) index: u8,
    pub(crate) object: Bytes,
}

/// Shards on their way. Dropped, it ends the fetching.
#[derive(Debug)]
pub(crate) struct ShardFeed {
    arrivals: UnboundedReceiver<Arrival>,
    refused: UnboundedSender<u8>,
    task: tokio::task::JoinHandle<()>,
}

impl ShardFeed {
    /// Ends the fetching from elsewhere.
    pub(crate) fn abort_handle(&self) -> tokio::task::AbortHandle {
        self.task.abort_handle()
    }

    /// Starts fetching.
    pub(crate) fn start(
        runtime: &tokio::runtime::Handle,
        book: &Arc<SiteBook>,
        record: &Arc<StripeRecord>,
        layout: &[SiteId],
    ) -> Self {
        // Never more in them than requests were made for one stripe.
        let (to_reader, arrivals) = unbounded_channel();
        let (refused, verdicts) = unbounded_channel();
        let fetch = StripeFetch::new(Arc::clone(book), Arc::clone(record), layout);
        Self {
            arrivals,
            refused,
            task: runtime.spawn(fetch.run(to_reader, verdicts)),
        }
    }

    /// The next shard; `None` when no site has another one. Blocks; not for the runtime's own threads.
    pub(crate) fn next(&mut self) -> Option<Arrival> {
        self.arrivals.blocking_recv()
    }

    /// The next shard, for who waits on the runtime.
    pub(crate) async fn arrival(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }

    /// Says that the shard of this index was wrong, so that another one is fetched.
    pub(crate) fn refuse(&self, index: u8) {
        // The task may have ended: then nothing more is to be had anyway.
        let _ = self.refused.send(index);
    }
}

impl Drop for ShardFeed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Got = (Candidate, Result<Bytes, Problem>);
type Listed = (usize, Result<Arc<Vec<ShardName>>, Problem>);

/// The task behind a feed.
struct StripeFetch {
    book: Arc<SiteBook>,
    record: Arc<StripeRecord>,
    /// Still to be asked, the cheapest last.
    waiting: Vec<Candidate>,
    asked: BTreeSet<Candidate>,
    /// Indices that arrived, and were not refused so far.
    here: BTreeSet<u8>,
    under_way: FuturesUnordered<BoxFuture<'static, Got>>,
    fetching: Vec<u8>,
    listings: FuturesUnordered<BoxFuture<'static, Listed>>,
    searched: bool,
}

impl StripeFetch {
    fn new(book: Arc<SiteBook>, record: Arc<StripeRecord>, layout: &[SiteId]) -> Self {
        let shards = (0..).zip(layout).take(record.payloads.len());
        let by_layout = shards.filter_map(|(index, id)| {
            let site = book.position(*id)?;
            Some(Candidate {
                site,
                index,
                attempt: 0,
            })
        });
        let waiting = by_layout.collect();
        let mut fetch = Self {
            book,
            record,
            waiting,
            asked: BTreeSet::new(),
            here: BTreeSet::new(),
            under_way: FuturesUnordered::new(),
            fetching: Vec::new(),
            listings: FuturesUnordered::new(),
            searched: false,
        };
        fetch.sort();
        fetch
    }

    fn needed(&self) -> usize {
        usize::from(self.record.context.data)
    }

    async fn run(mut self, arrivals: UnboundedSender<Arrival>, mut refused: UnboundedReceiver<u8>) {
        let hedge = self.book.hedge();
        loop {
            while self.here.len() + self.under_way.len() < self.needed() && self.ask_next() {}
            let is_short = self.here.len() < self.needed();
            if is_short && self.under_way.is_empty() && self.listings.is_empty() {
                match self.searched {
                    true => return,
                    false => self.search(),
                }
                continue;
            }
            tokio::select! {
                Some((candidate, got)) = self.under_way.next() => self.take(candidate, got, &arrivals),
                Some((site, listed)) = self.listings.next() => self.found(site, listed),
                verdict = refused.recv() => match verdict {
                    Some(index) => _ = self.here.remove(&index),
                    None => return,
                },
                () = tokio::time::sleep(hedge), if is_short => {
                    if !self.ask_next() && !self.searched {
                        self.search();
                    }
                }
            }
        }
    }

    /// Asks for the cheapest shard that is neither here nor under way.
    fn ask_next(&mut self) -> bool {
        self.sort();
        let is_new =
            |candidate: &Candidate| !self.here.contains(&candidate.index) && !self.fetching.contains(&candidate.index);
        let Some(at) = self.waiting.iter().rposition(is_new) else {
            return false;
        };
        let candidate = self.waiting.remove(at);
        self.asked.insert(candidate);
        self.fetching.push(candidate.index);
        let (book, record) = (Arc::clone(&self.book), Arc::clone(&self.record));
        self.under_way.push(Box::pin(async move {
            let cap = record.context.payload.object_bytes() as u64;
            let got = match shard_name(&record, candidate) {
                Some(shard) => book.get(candidate.site, &book.names().shard(&shard), cap).await,
                None => Err(Problem::Missing),
            };
            (candidate, got)
        }));
        true
    }

    /// The cheapest last: a shard that needs no arithmetic from the best site.
    fn sort(&mut self) {
        let (book, data) = (&self.book, self.record.context.data);
        self.waiting.sort_by_cached_key(|candidate| {
            let mut cost = book.cost(candidate.site);
            cost.parity = candidate.index >= data;
            std::cmp::Reverse((cost, *candidate))
        });
    }

    fn take(&mut self, candidate: Candidate, got: Result<Bytes, Problem>, arrivals: &UnboundedSender<Arrival>) {
        let Candidate { site, index, .. } = candidate;
        self.fetching.retain(|fetching| *fetching != index);
        if let Ok(object) = got
            && self.here.insert(index)
        {
            // The reader may have let go: then `recv` ends us.
            let _ = arrivals.send(Arrival { site, index, object });
        }
    }

    /// Asks every site for the names in the stripe's folder.
    fn search(&mut self) {
        self.searched = true;
        for site in self.book.order() {
            let book = Arc::clone(&self.book);
            let (run, ordinal): (RunId, u32) = (self.record.context.run, self.record.context.ordinal);
            self.listings
                .push(Box::pin(async move { (site, book.folder(site, run, ordinal).await) }));
        }
    }

    /// Adds the shards of this stripe that a site lists.
    fn found(&mut self, site: usize, listed: Result<Arc<Vec<ShardName>>, Problem>) {
        // What went wrong is in the book.
        let Ok(folder) = listed else { return };
        let context = &self.record.context;
        let ours = folder.iter().filter(|shard| {
            let hash = self.record.payloads.get(usize::from(shard.index));
            (shard.run, shard.ordinal) == (context.run, context.ordinal)
                && hash.is_some_and(|hash| Tag::of_hash(hash.as_bytes()) == shard.tag)
        });
        let candidates = ours.map(|shard| Candidate {
            site,
            index: shard.index,
            attempt: shard.attempt,
        });
        let limit = ATTEMPTS_MAX * self.record.payloads.len();
        let new: Vec<Candidate> = candidates
            .filter(|candidate| !self.asked.contains(candidate) && !self.waiting.contains(candidate))
            .take(limit)
            .collect();
        self.waiting.extend(new);
    }
}

fn shard_name(record: &StripeRecord, candidate: Candidate) -> Option<ShardName> {
    let hash = record.payloads.get(usize::from(candidate.index))?;
    Some(ShardName {
        run: record.context.run,
        ordinal: record.context.ordinal,
        index: candidate.index,
        tag: Tag::of_hash(hash.as_bytes()),
        attempt: candidate.attempt,
    })
}
