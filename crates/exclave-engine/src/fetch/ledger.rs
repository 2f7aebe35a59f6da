//! The ledger's line for a stripe, its parts fetched when they are needed.
//!
//! A run of ten petabytes has some ten thousand parts, so parts are neither all fetched nor all kept. Writers number them
//! as they go; a reader guesses the part from the ordinal, and remembers which ordinals each part it saw describes.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    sync::Arc,
};

use bytes::Bytes;
use exclave_model::{
    Anchor, LedgerPart, Record, RecordHash, RunEntry, RunId, RunObject, SiteId, StripeRecord, Tag,
    limit::{RECORD_BYTES_MAX, STRIPES_PER_LEDGER_PART},
};

use super::book::{SiteBook, Unavailable};

/// Parts in memory; a part of 4,096 stripes of 32 shards takes some five mebibytes.
const PARTS_KEPT_MAX: usize = 16;

/// Why the ledger says nothing about a stripe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No part that could be had describes it, and one is missing.
    #[error("a ledger part of run {run} is missing")]
    Part {
        /// The run.
        run: RunId,
        /// What the sites said.
        #[source]
        source: Unavailable,
    },
    /// No part describes it.
    #[error("no ledger part of run {run} describes stripe {ordinal}")]
    NotDescribed {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
    },
    /// Two parts describe it differently.
    #[error("two ledger parts of run {run} describe stripe {ordinal} differently")]
    Conflict {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
    },
}

/// A stripe's line, and the sites its shards were meant for.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) record: StripeRecord,
    pub(crate) layout: Vec<SiteId>,
}

/// What is known about one part.
#[derive(Debug, Clone)]
enum Known {
    Describes(RangeInclusive<u32>),
    Missing(Unavailable),
}

/// The ledgers of one snapshot's runs.
#[derive(Debug)]
pub(crate) struct Ledgers {
    anchor: Anchor,
    book: Arc<SiteBook>,
    /// The runs of the heads, under which adopted parts may lie.
    head_runs: Vec<RunId>,
    known: HashMap<RecordHash, Known>,
    /// The part used last stands at the end.
    kept: VecDeque<(RecordHash, Arc<LedgerPart>)>,
}

impl Ledgers {
    pub(crate) fn new(anchor: Anchor, book: Arc<SiteBook>, head_run: RunId) -> Self {
        Self::below(anchor, book, vec![head_run])
    }

    /// The ledgers of runs that several heads need.
    pub(crate) fn below(anchor: Anchor, book: Arc<SiteBook>, head_runs: Vec<RunId>) -> Self {
        Self {
            anchor,
            book,
            head_runs,
            known: HashMap::new(),
            kept: VecDeque::new(),
        }
    }

    /// The line of a stripe. Among the parts that were seen, all that describe it must agree.
    pub(crate) async fn line(&mut self, entry: &RunEntry, ordinal: u32) -> Result<Line, LedgerError> {
        let (run, mut found) = (entry.run, None::<Line>);
        for hash in self.likely_parts(entry, ordinal) {
            // A part that was never seen is fetched only while nothing is found.
            if found.is_some() && !self.known.contains_key(&hash) {
                continue;
            }
            let Some(part) = self.part(run, hash).await else {
                continue;
            };
            let Some(record) = part.stripe(ordinal) else { continue };
            let line = Line {
                record: record.clone(),
                layout: part.layout_of(ordinal).to_vec(),
            };
            match &found {
                Some(before) if before.record != line.record => return Err(LedgerError::Conflict { run, ordinal }),
                // The layout said last is the newest hint; either will do.
                Some(_) => {}
                None => found = Some(line),
            }
        }
        found.ok_or_else(|| self.why_not(entry, ordinal))
    }

    fn why_not(&self, entry: &RunEntry, ordinal: u32) -> LedgerError {
        let run = entry.run;
        let missing = entry.ledgers.iter().find_map(|hash| match self.known.get(hash) {
            Some(Known::Missing(source)) => Some(source.clone()),
            Some(Known::Describes(_)) | None => None,
        });
        match missing {
            Some(source) => LedgerError::Part { run, source },
            None => LedgerError::NotDescribed { run, ordinal },
        }
    }

    /// The parts that may describe a stripe: those that are known to come first, then the unseen ones, the likeliest first.
    fn likely_parts(&self, entry: &RunEntry, ordinal: u32) -> Vec<RecordHash> {
        let guess = (ordinal as usize / STRIPES_PER_LEDGER_PART).min(entry.ledgers.len().saturating_sub(1));
        let mut likely: Vec<(bool, usize, RecordHash)> = entry
            .ledgers
            .iter()
            .enumerate()
            .filter_map(|(at, hash)| match self.known.get(hash) {
                Some(Known::Describes(range)) => range.contains(&ordinal).then_some((false, at, *hash)),
                Some(Known::Missing(_)) => None,
                None => Some((true, at.abs_diff(guess), *hash)),
            })
            .collect();
        likely.sort_unstable();
        likely.into_iter().map(|(_, _, hash)| hash).collect()
    }

    async fn part(&mut self, run: RunId, hash: RecordHash) -> Option<Arc<LedgerPart>> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == hash) {
            let kept = self.kept.remove(at)?;
            let part = Arc::clone(&kept.1);
            self.kept.push_back(kept);
            return Some(part);
        }
        match self.fetch(run, hash).await {
            Ok(part) => {
                let ordinal = |stripe: &StripeRecord| stripe.context.ordinal;
                if let (Some(first), Some(last)) = (part.stripes.first(), part.stripes.last()) {
                    let range = ordinal(first)..=ordinal(last);
                    self.known.insert(hash, Known::Describes(range));
                }
                let part = Arc::new(part);
                if self.kept.len() >= PARTS_KEPT_MAX {
                    self.kept.pop_front();
                }
                self.kept.push_back((hash, Arc::clone(&part)));
                Some(part)
            }
            Err(unavailable) => {
                self.known.insert(hash, Known::Missing(unavailable));
                None
            }
        }
    }

    /// A part lies under the run it is about, or under the one that adopted that run's stripes.
    async fn fetch(&self, run: RunId, hash: RecordHash) -> Result<LedgerPart, Unavailable> {
        let read = |bytes: &Bytes| {
            let part = (RecordHash::of(bytes) == hash).then(|| LedgerPart::from_bytes(bytes).ok())??;
            (part.anchor == self.anchor && part.run == run).then_some(part)
        };
        let tag = Tag::of_hash(hash.as_bytes());
        let name = |run| self.book.names().run_object(run, RunObject::Ledger, tag);
        let mut answered = self.book.small(&name(run), RECORD_BYTES_MAX, read).await;
        for home in self.head_runs.iter().filter(|home| **home != run) {
            if answered.is_ok() {
                break;
            }
            answered = self.book.small(&name(*home), RECORD_BYTES_MAX, read).await;
        }
        answered
    }
}
