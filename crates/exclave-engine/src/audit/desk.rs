//! Where an audit asks: each request with its deadline, its outcome, its bytes and its time.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use exclave_model::{
    Charter, ObjectName, SiteId,
    report::{Outcome, OutcomeCounts},
};
use exclave_site::{Site, SiteError};

use super::{AuditRequest, SiteAudit, records::Records, stripes::Census};
use crate::{
    archive::{Archive, SiteHandle},
    fetch::{Problem, SiteBook, book::lock},
    plate::Plate,
};

/// Requests in a row without an answer after which a site isn't asked any more: it must not cost a deadline for each of
/// millions of shards. What was not asked is unproven.
const SILENT_MAX: u32 = 8;

/// Times are kept as powers of two of microseconds, so that any number of answers takes the same memory.
const LATENCY_STEPS: usize = 40;

/// How long answers took. The median is known to a factor of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Half of the answers took no longer; rounded up to a power of two of microseconds, at most the longest.
    pub median: Duration,
    /// The longest.
    pub longest: Duration,
}

/// What was asked of one store.
#[derive(Debug, Default)]
struct Meter {
    bytes: u64,
    requests: u64,
    longest: Duration,
    steps: Vec<u64>,
    silent: u32,
    shards: OutcomeCounts,
}

impl Meter {
    fn latency(&self) -> Latency {
        let answers: u64 = self.steps.iter().sum();
        let mut seen = 0;
        let step = self.steps.iter().position(|count| {
            seen += count;
            seen * 2 >= answers && answers > 0
        });
        let median = step.map_or(0, |step| 1u64 << step);
        Latency {
            median: Duration::from_micros(median).min(self.longest),
            longest: self.longest,
        }
    }
}

/// What a site said to one request.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// Bytes, not yet believed.
    Bytes(Bytes),
    /// No bytes.
    Nothing(Outcome),
}

/// The stores of an archive and what was asked of them.
pub(super) struct Desk {
    pub(super) archive: Archive,
    pub(super) book: Arc<SiteBook>,
    deadline: Duration,
    meters: Vec<Mutex<Meter>>,
    /// What shards at a site of the charter come to whose store isn't there.
    absent: BTreeMap<SiteId, Outcome>,
    /// The same counts for those sites.
    absent_shards: BTreeMap<SiteId, OutcomeCounts>,
}

impl Desk {
    pub(super) fn new(archive: &Archive, request: &AuditRequest) -> Self {
        Self {
            book: Arc::new(SiteBook::new(archive, request.deadline)),
            meters: archive.sites.iter().map(|_| Mutex::default()).collect(),
            deadline: request.deadline,
            absent: absent(archive, &request.troubles),
            absent_shards: BTreeMap::new(),
            archive: archive.clone(),
        }
    }

    /// The store that shows a site's plate.
    pub(super) fn position(&self, id: SiteId) -> Option<usize> {
        self.book.position(id)
    }

    /// Stores that count: each site's first one.
    pub(super) fn positions(&self) -> Vec<usize> {
        let sites = &self.archive.sites;
        let first = |at: &usize| {
            sites
                .get(*at)
                .and_then(|handle| handle.id)
                .is_some_and(|id| self.position(id) == Some(*at))
        };
        (0..sites.len()).filter(first).collect()
    }

    pub(super) fn handle(&self, at: usize) -> Option<&SiteHandle> {
        self.archive.sites.get(at)
    }

    pub(super) fn name_of(&self, at: usize) -> String {
        self.book.name_of(at)
    }

    /// What a shard at a site comes to that no store shows.
    pub(super) fn absence(&self, id: SiteId) -> Outcome {
        self.absent.get(&id).copied().unwrap_or(Outcome::Unproven)
    }

    /// A whole object.
    pub(super) async fn get(&self, at: usize, name: &ObjectName, bytes_max: u64) -> Said {
        self.ask(at, async |site| site.get(name, bytes_max).await).await
    }

    /// Part of an object.
    pub(super) async fn get_range(&self, at: usize, name: &ObjectName, range: Range<u64>) -> Said {
        self.ask(at, async |site| site.get_range(name, range).await).await
    }

    async fn ask(&self, at: usize, act: impl AsyncFnOnce(&dyn Site) -> Result<Bytes, SiteError>) -> Said {
        let (Some(handle), Some(meter)) = (self.handle(at), self.meters.get(at)) else {
            return Said::Nothing(Outcome::Unproven);
        };
        if lock(meter).silent >= SILENT_MAX {
            return Said::Nothing(Outcome::Unproven);
        }
        let since = tokio::time::Instant::now();
        let answer = tokio::time::timeout(self.deadline, act(&*handle.site)).await;
        let took = since.elapsed();
        let said = match answer {
            Ok(Ok(bytes)) => Said::Bytes(bytes),
            Ok(Err(error)) => Said::Nothing(outcome_of(&error)),
            Err(_) => Said::Nothing(Outcome::Timeout),
        };
        let mut meter = lock(meter);
        meter.requests += 1;
        match &said {
            Said::Nothing(Outcome::Timeout) => meter.silent += 1,
            Said::Nothing(_) => meter.silent = 0,
            Said::Bytes(bytes) => {
                meter.silent = 0;
                meter.bytes += bytes.len() as u64;
                meter.longest = meter.longest.max(took);
                let step = (u64::try_from(took.as_micros()).unwrap_or(u64::MAX)).checked_next_power_of_two();
                let step = step.map_or(LATENCY_STEPS, |micros| micros.trailing_zeros() as usize);
                meter.steps.resize(LATENCY_STEPS, 0);
                if let Some(slot) = meter.steps.get_mut(step.min(LATENCY_STEPS - 1)) {
                    *slot += 1;
                }
            }
        }
        said
    }

    /// Counts what a shard or group of a site came to.
    pub(super) fn count(&mut self, id: SiteId, outcome: Outcome, count: u64) {
        match self.position(id).and_then(|at| self.meters.get(at)) {
            Some(meter) => lock(meter).shards.add(outcome, count),
            None => self.absent_shards.entry(id).or_default().add(outcome, count),
        }
    }

    /// What the shards or groups of a site came to so far.
    pub(super) fn counted(&self, id: SiteId) -> OutcomeCounts {
        match self.position(id).and_then(|at| self.meters.get(at)) {
            Some(meter) => lock(meter).shards,
            None => self.absent_shards.get(&id).copied().unwrap_or_default(),
        }
    }

    /// The lines of all sites of the charter and of layouts.
    pub(super) fn sites(&self, charter: &Charter, records: &Records, census: &Census) -> Vec<SiteAudit> {
        let known = charter.sites.iter().map(|record| record.id);
        let mut ids: Vec<SiteId> = known.collect();
        ids.extend(census.sites().filter(|id| charter.site(*id).is_none()));
        let tallies = self.book.tallies();
        ids.into_iter()
            .map(|id| {
                let (at, shards) = (self.position(id), self.counted(id));
                let meter = at.and_then(|at| self.meters.get(at)).map(lock);
                let booked = at.and_then(|at| tallies.get(at)).map_or(0, |tally| tally.bytes);
                let expected = census.site(id);
                SiteAudit {
                    id,
                    name: self.archive.site_name(id),
                    present: at.is_some(),
                    records: at.map_or_else(OutcomeCounts::default, |at| records.at_site(at)),
                    shards,
                    population: expected.groups.total(),
                    shards_expected: expected.shards,
                    sample_digest: expected.digest,
                    bytes_forecast: expected.bytes_forecast,
                    bytes_read: meter.as_ref().map_or(0, |meter| meter.bytes) + booked,
                    requests: meter.as_ref().map_or(0, |meter| meter.requests),
                    latency: meter.as_ref().map_or_else(Latency::default, |meter| meter.latency()),
                }
            })
            .collect()
    }
}

/// What a site's error makes of the object that it was asked for.
pub(super) fn outcome_of(error: &SiteError) -> Outcome {
    match Problem::of(error) {
        Problem::Missing => Outcome::Missing,
        Problem::Denied => Outcome::Denied,
        Problem::Timeout => Outcome::Timeout,
        Problem::Corrupt => Outcome::Corrupt,
        Problem::Failed => Outcome::Unproven,
    }
}

/// Why the stores of sites are not there: by name where the store was given one, or when one store said nothing and one
/// site is not accounted for.
fn absent(archive: &Archive, troubles: &[(String, Outcome)]) -> BTreeMap<SiteId, Outcome> {
    let seen: BTreeSet<SiteId> = archive.sites.iter().filter_map(|handle| handle.id).collect();
    let left: Vec<_> = archive
        .charter()
        .sites
        .iter()
        .filter(|site| !seen.contains(&site.id))
        .collect();
    let silent: Vec<&SiteHandle> = archive
        .sites
        .iter()
        .filter(|handle| handle.plate == Plate::Unread)
        .collect();
    let of = |name: &str| {
        troubles
            .iter()
            .find(|(site, _)| site == name)
            .map(|(_, outcome)| *outcome)
    };
    let mut found = BTreeMap::new();
    for site in &left {
        let handle = silent.iter().find(|handle| handle.name == site.name);
        let only = (left.len() == 1 && silent.len() == 1).then(|| silent.first()).flatten();
        if let Some(outcome) = handle.or(only).and_then(|handle| of(&handle.name)) {
            found.insert(site.id, outcome);
        }
    }
    found
}
