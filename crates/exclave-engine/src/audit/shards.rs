//! Every shard, whole: header, payload, trailer; and, when deep, each stripe computed again.
//!
//! Stripes are taken in batches of a bounded number of bytes. Within a batch all sites are read at the same time, each a few
//! objects at once. Computing again takes k verified shards of a stripe, rebuilds all others from them, data and parity, and
//! compares every one with the ledger: shards that are each what the ledger says, and together no codeword, would give two
//! restorers different bytes or an error (THREATS A14).

use std::collections::BTreeMap;

use bytes::Bytes;
use exclave_model::{ObjectName, ShardName, SiteId, StripeRecord, Tag, report::Outcome};
use exclave_plan::audit::survivors::Pattern;
use exclave_stripe::{DecodeError, VerifiedShard, rebuild, verify_whole};
use futures::{
    future::join_all,
    stream::{self, StreamExt},
};

use super::{
    Auditor, Damage,
    desk::{Desk, Said},
    scope::Scope,
    stripes::{Census, Walk, holders},
};
use crate::{fetch::ledger::Line, surroundings::Progress};

/// Bytes of shard objects in memory.
const BATCH_BYTES_MAX: usize = 128 << 20;

/// Stripes in a batch: small ones would otherwise make one round of thousands.
const BATCH_STRIPES_MAX: usize = 256;

/// Objects that are asked of one site at the same time.
const PER_SITE: usize = 4;

/// Repeated puts of one shard that are looked at.
const ATTEMPTS_MAX: usize = 8;

/// How much is done with a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Its shards are read.
    Whole,
    /// And computed again.
    Coded,
}

/// A shard that should be somewhere.
#[derive(Clone, Copy)]
struct Wanted {
    /// Which stripe of the batch.
    stripe: usize,
    index: u8,
    at: usize,
    site: SiteId,
}

/// What came of it.
struct Got {
    wanted: Wanted,
    outcome: Outcome,
    why: String,
    shard: Option<VerifiedShard>,
    bytes: u64,
    /// Other bytes lie under its name; a repeated put holds the right ones.
    displaced: bool,
}

/// Reads every shard of every stripe.
pub(super) async fn look(auditor: &mut Auditor<'_>, scope: &Scope, census: &Census, depth: Depth) {
    for run in scope.runs.values() {
        let mut walk = Walk::of(auditor, run, None);
        walk.losses = census.losses_of(run.entry.run);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for ordinal in run.entry.live.iter() {
            if auditor.stops() {
                return;
            }
            // What no ledger describes was told when it was counted.
            let Ok(line) = walk.line(ordinal).await else { continue };
            bytes += line.record.context.payload.object_bytes() * line.record.payloads.len();
            batch.push(line);
            if bytes >= BATCH_BYTES_MAX || batch.len() >= BATCH_STRIPES_MAX {
                look_at(auditor, &batch, walk.losses, depth).await;
                batch.clear();
                bytes = 0;
            }
        }
        look_at(auditor, &batch, walk.losses, depth).await;
    }
}

async fn look_at(auditor: &mut Auditor<'_>, batch: &[Line], losses: u8, depth: Depth) {
    let mut by_site: BTreeMap<usize, Vec<Wanted>> = BTreeMap::new();
    let mut patterns = vec![Pattern::default(); batch.len()];
    for (stripe, line) in batch.iter().enumerate() {
        for (index, site) in holders(&line.record, &line.layout) {
            match auditor.desk.position(site) {
                Some(at) => by_site.entry(at).or_default().push(Wanted {
                    stripe,
                    index,
                    at,
                    site,
                }),
                None => {
                    let outcome = auditor.desk.absence(site);
                    auditor.count_shard(site, outcome);
                }
            }
        }
    }
    let desk = &auditor.desk;
    let keeps = depth == Depth::Coded;
    let reads = by_site.into_values().map(|wanted| {
        let reads = stream::iter(wanted).map(|wanted| async move {
            match batch.get(wanted.stripe) {
                Some(line) => Some(read(desk, &line.record, wanted, keeps).await),
                None => None,
            }
        });
        reads
            .buffer_unordered(PER_SITE)
            .filter_map(std::future::ready)
            .collect::<Vec<Got>>()
    });
    let mut got: Vec<Got> = join_all(reads).await.into_iter().flatten().collect();
    got.sort_by_key(|got| (got.wanted.stripe, got.wanted.index));
    let mut shards: BTreeMap<usize, Vec<VerifiedShard>> = BTreeMap::new();
    for got in got {
        let Some(line) = batch.get(got.wanted.stripe) else {
            continue;
        };
        if let Some(pattern) = patterns.get_mut(got.wanted.stripe) {
            let bit = 1u32.checked_shl(u32::from(got.wanted.index)).unwrap_or(0);
            match got.outcome {
                Outcome::Ok => pattern.shown |= bit,
                outcome if outcome.is_gone() => pattern.gone |= bit,
                _ => {}
            }
        }
        Progress::add(&auditor.progress.bytes_moved, got.bytes);
        auditor.take_shard(line, &got);
        shards.entry(got.wanted.stripe).or_default().extend(got.shard);
    }
    for (stripe, line) in batch.iter().enumerate() {
        let pattern = patterns.get(stripe).copied().unwrap_or_default();
        auditor
            .survivors
            .add(&line.layout, line.record.context.data, losses, pattern, 1);
        auditor.note_damage(line, pattern);
        if let Some(shards) = shards.get(&stripe).filter(|_| keeps) {
            auditor.compute_again(&line.record, shards);
        }
        let bytes = line.record.context.payload.object_bytes() * line.record.payloads.len();
        auditor.progressed(1, bytes as u64);
    }
}

impl Auditor<'_> {
    /// Keeps a stripe that is to be mended.
    fn note_damage(&mut self, line: &Line, pattern: Pattern) {
        let charter = self.desk.archive.charter();
        let dropped = holders(&line.record, &line.layout)
            .filter(|(_, site)| charter.site(*site).is_none())
            .fold(0, |dropped, (index, _)| {
                dropped | 1u32.checked_shl(u32::from(index)).unwrap_or(0)
            });
        let wanted = pattern.gone | (dropped & !pattern.shown);
        if wanted != 0 {
            let context = &line.record.context;
            let margin = pattern.shown.count_ones() as i16 - i16::from(context.data);
            self.damages.push(Damage {
                run: context.run,
                ordinal: context.ordinal,
                wanted,
                margin,
            });
        }
    }

    fn take_shard(&mut self, line: &Line, got: &Got) {
        self.count_shard(got.wanted.site, got.outcome);
        if got.outcome == Outcome::Ok && !got.displaced {
            return;
        }
        let (site, name) = (
            self.desk.name_of(got.wanted.at),
            name_of(&self.desk, &line.record, got.wanted.index, 0),
        );
        let name = name.map_or_else(String::new, |name| name.to_string());
        if got.displaced {
            self.facts.alarms += 1;
            let detail = "other bytes lie under its name; a repeated put holds the right ones";
            self.note("displaced", &site, &name, Some(Outcome::Corrupt), detail);
        } else {
            self.note("shard", &site, &name, Some(got.outcome), &got.why);
        }
    }

    fn count_shard(&mut self, site: SiteId, outcome: Outcome) {
        self.desk.count(site, outcome, 1);
        if outcome != Outcome::Ok {
            self.facts.shards_not_ok += 1;
        }
    }

    /// Rebuilds all shards of a stripe from k of them.
    fn compute_again(&mut self, record: &StripeRecord, shards: &[VerifiedShard]) {
        if shards.len() < usize::from(record.context.data) {
            return;
        }
        // At most 32.
        let all: Vec<u8> = (0..record.payloads.len() as u8).collect();
        if let Err(error) = rebuild(record, shards, &all) {
            let object = format!("run {} stripe {}", record.context.run.to_hex(), record.context.ordinal);
            match error {
                DecodeError::NotACodeword(_) => self.facts.not_codewords += 1,
                DecodeError::TooFew(_) | DecodeError::Geometry => self.facts.alarms += 1,
            }
            self.note("not-a-codeword", "", &object, None, &error.to_string());
        }
    }
}

fn name_of(desk: &Desk, record: &StripeRecord, index: u8, attempt: u32) -> Option<ObjectName> {
    let hash = record.payloads.get(usize::from(index))?;
    Some(desk.archive.names.shard(&ShardName {
        run: record.context.run,
        ordinal: record.context.ordinal,
        index,
        tag: Tag::of_hash(hash.as_bytes()),
        attempt,
    }))
}

/// Reads one shard; where its name holds something else or nothing, the repeated puts that the site lists.
async fn read(desk: &Desk, record: &StripeRecord, wanted: Wanted, keeps: bool) -> Got {
    let cap = record.context.payload.object_bytes() as u64;
    let mut got = Got {
        wanted,
        outcome: Outcome::Unproven,
        why: String::new(),
        shard: None,
        bytes: 0,
        displaced: false,
    };
    let first = attempt(desk, record, &mut got, 0, cap).await;
    let Err((outcome, why)) = first else {
        return got.ok(first.ok(), keeps);
    };
    (got.outcome, got.why) = (outcome, why);
    if !outcome.is_gone() {
        return got;
    }
    let Ok(folder) = desk
        .book
        .folder(wanted.at, record.context.run, record.context.ordinal)
        .await
    else {
        return got;
    };
    let tag = record
        .payloads
        .get(usize::from(wanted.index))
        .map(|hash| Tag::of_hash(hash.as_bytes()));
    let again = folder.iter().filter(|shard| {
        (shard.ordinal, shard.index) == (record.context.ordinal, wanted.index)
            && Some(shard.tag) == tag
            && shard.attempt > 0
    });
    for name in again.take(ATTEMPTS_MAX) {
        let tried = attempt(desk, record, &mut got, name.attempt, cap).await;
        if tried.is_ok() {
            got.displaced = got.outcome == Outcome::Corrupt;
            return got.ok(tried.ok(), keeps);
        }
    }
    got
}

async fn attempt(
    desk: &Desk,
    record: &StripeRecord,
    got: &mut Got,
    attempt: u32,
    cap: u64,
) -> Result<VerifiedShard, (Outcome, String)> {
    let Some(name) = name_of(desk, record, got.wanted.index, attempt) else {
        return Err((Outcome::Missing, String::new()));
    };
    match desk.get(got.wanted.at, &name, cap).await {
        Said::Nothing(outcome) => Err((outcome, String::new())),
        Said::Bytes(object) => {
            got.bytes += object.len() as u64;
            whole(record, got.wanted.index, &object)
        }
    }
}

fn whole(record: &StripeRecord, index: u8, object: &Bytes) -> Result<VerifiedShard, (Outcome, String)> {
    verify_whole(record, index, object).map_err(|error| (Outcome::Corrupt, error.to_string()))
}

impl Got {
    fn ok(mut self, shard: Option<VerifiedShard>, keeps: bool) -> Self {
        self.outcome = Outcome::Ok;
        self.why = String::new();
        self.shard = shard.filter(|_| keeps);
        self
    }
}
