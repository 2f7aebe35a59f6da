//! A walk over all stripes that audited heads need, in one fixed order: runs ascending, then ordinals.
//!
//! Lines come from ledgers a part at a time, so memory doesn't grow with the archive. The order is what numbers the groups
//! of a site: group 0 is the first group of the first shard that the site should hold, and so on.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::Arc,
};

use exclave_model::{RecordHash, RunId, ShardName, SiteId, StripeRecord, Tag};
use exclave_plan::audit::Strata;

use super::{
    Auditor, Mode,
    records::Records,
    scope::{RunScope, Scope, is_lost},
};
use crate::{
    fetch::{
        LedgerError, SiteBook,
        ledger::{Ledgers, Line},
    },
    surroundings::Progress,
};

/// Stripes that are counted together.
pub(super) const STRIPES_PER_BLOCK: usize = 4096;

/// Up to 4,096 live stripes of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) run: RunId,
    /// How many live stripes of the run come before it.
    pub(super) skip: u64,
}

/// What one site should hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    /// Groups, by block.
    pub(super) groups: Strata,
    pub(super) shards: u64,
    pub(super) bytes_forecast: u64,
    pub(super) digest: Option<RecordHash>,
}

/// What all sites should hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Census {
    pub(super) blocks: Vec<Block>,
    expected: BTreeMap<SiteId, Expected>,
    /// By layout, k and f: how many stripes.
    pub(super) layouts: BTreeMap<(Vec<SiteId>, u8, u8), u64>,
    pub(super) stripes: u64,
    /// f of each run's class.
    losses: BTreeMap<RunId, u8>,
    empty: Expected,
}

/// The ledgers of one run.
pub(super) struct Walk<'s> {
    run: &'s RunScope,
    ledgers: Ledgers,
    book: Arc<SiteBook>,
    /// The charter's sites.
    sites: BTreeSet<SiteId>,
    pub(super) losses: u8,
}

impl<'s> Walk<'s> {
    pub(super) fn of(auditor: &Auditor<'_>, run: &'s RunScope, records: Option<&Records>) -> Self {
        let archive = &auditor.desk.archive;
        let policy = records.and_then(|records| records.policy(archive, run.entry.run));
        // Without an envelope nobody knows the class; the first one's promise is as good as any.
        let losses = policy.map(|policy| policy.losses);
        let losses = losses.or_else(|| archive.charter().classes.first().map(|class| class.losses));
        Self {
            run,
            book: Arc::clone(&auditor.desk.book),
            sites: archive.charter().sites.iter().map(|site| site.id).collect(),
            ledgers: Ledgers::below(
                archive.anchor,
                Arc::clone(&auditor.desk.book),
                run.homes.iter().copied().collect(),
            ),
            losses: losses.unwrap_or(0),
        }
    }

    pub(super) async fn line(&mut self, ordinal: u32) -> Result<Line, LedgerError> {
        let mut line = self.ledgers.line(&self.run.entry, ordinal).await?;
        self.follow_moved(&mut line).await;
        Ok(line)
    }

    /// A repair moves shards from sites that the charter dropped to others; these have them, whatever the ledger hints.
    async fn follow_moved(&self, line: &mut Line) {
        let context = &line.record.context;
        let dropped: Vec<usize> = (0..line.layout.len())
            .filter(|index| line.layout.get(*index).is_some_and(|site| !self.sites.contains(site)))
            .collect();
        for index in dropped {
            let tag = line
                .record
                .payloads
                .get(index)
                .map(|hash| Tag::of_hash(hash.as_bytes()));
            let others = self.sites.iter().filter(|site| !line.layout.contains(site));
            let mut found = None;
            for site in others {
                let Some(at) = self.book.position(*site) else { continue };
                let Ok(folder) = self.book.folder(at, context.run, context.ordinal).await else {
                    continue;
                };
                let is_it = |shard: &ShardName| {
                    (shard.ordinal, usize::from(shard.index)) == (context.ordinal, index) && Some(shard.tag) == tag
                };
                if folder.iter().any(is_it) {
                    found = Some(*site);
                    break;
                }
            }
            if let (Some(site), Some(place)) = (found, line.layout.get_mut(index)) {
                *place = site;
            }
        }
    }
}

impl Census {
    /// Counts what every site should hold. Stripes that no ledger describes are told.
    pub(super) async fn take(auditor: &mut Auditor<'_>, scope: &Scope, records: &Records) -> Self {
        let mut census = Self::default();
        for run in scope.runs.values() {
            let mut walk = Walk::of(auditor, run, Some(records));
            census.losses.insert(run.entry.run, walk.losses);
            let mut told = false;
            for (at, ordinal) in (0u64..).zip(run.entry.live.iter()) {
                if at.is_multiple_of(STRIPES_PER_BLOCK as u64) {
                    if auditor.stops() {
                        return census;
                    }
                    census.begin(Block {
                        run: run.entry.run,
                        skip: at,
                    });
                }
                census.stripes += 1;
                match walk.line(ordinal).await {
                    Ok(line) => census.add(&line, walk.losses),
                    Err(error) => {
                        auditor.without_line(&error);
                        if !std::mem::replace(&mut told, true) {
                            let text = super::with_source(&error);
                            auditor.note("ledger", "", &format!("run {}", run.entry.run.to_hex()), None, &text);
                        }
                    }
                }
            }
        }
        census.forecast(auditor);
        auditor
            .progress
            .expect(census.expected.values().map(|expected| expected.bytes_forecast).sum());
        census
    }

    fn begin(&mut self, block: Block) {
        self.blocks.push(block);
        let blocks = self.blocks.len();
        for expected in self.expected.values_mut() {
            expected.open(blocks);
        }
    }

    fn add(&mut self, line: &Line, losses: u8) {
        let (payload, blocks) = (line.record.context.payload, self.blocks.len());
        for site in line.layout.iter().take(line.record.payloads.len()) {
            let expected = match self.expected.entry(*site) {
                btree_map::Entry::Occupied(known) => known.into_mut(),
                btree_map::Entry::Vacant(new) => {
                    let expected = new.insert(Expected::default());
                    expected.open(blocks);
                    expected
                }
            };
            expected.shards += 1;
            expected.bytes_forecast += payload.object_bytes() as u64;
            expected.groups.extend_last(payload.groups() as u64);
        }
        let key = (line.layout.clone(), line.record.context.data, losses);
        *self.layouts.entry(key).or_default() += 1;
    }

    /// A sample reads its groups and, at the most, a trailer for each.
    fn forecast(&mut self, auditor: &Auditor<'_>) {
        let Mode::Sample(detection) = auditor.request.mode else {
            return;
        };
        for expected in self.expected.values_mut() {
            let size = detection.size(expected.groups.total());
            let average = expected.bytes_forecast.checked_div(expected.shards).unwrap_or(0);
            // The trailer is a 2,048th of an average shard's payload.
            let each = exclave_model::limit::SEGMENT_BYTES as u64 + average / 2048;
            expected.bytes_forecast = size.saturating_mul(each);
        }
    }

    /// Every site that should hold something.
    pub(super) fn sites(&self) -> impl Iterator<Item = SiteId> + '_ {
        self.expected.keys().copied()
    }

    /// What a site should hold.
    pub(super) fn site(&self, id: SiteId) -> &Expected {
        self.expected.get(&id).unwrap_or(&self.empty)
    }

    /// f of a run's class.
    pub(super) fn losses_of(&self, run: RunId) -> u8 {
        self.losses.get(&run).copied().unwrap_or(0)
    }

    /// Notes which groups of a site were chosen.
    pub(super) fn set_digest(&mut self, id: SiteId, digest: RecordHash) {
        if let Some(expected) = self.expected.get_mut(&id) {
            expected.digest = Some(digest);
        }
    }

    /// The stripes of a block that are live, by ordinal.
    pub(super) fn ordinals<'s>(&self, scope: &'s Scope, block: Block) -> impl Iterator<Item = u32> + 's {
        let run = scope.runs.get(&block.run);
        let live = run.into_iter().flat_map(|run| run.entry.live.iter());
        live.skip(usize::try_from(block.skip).unwrap_or(usize::MAX))
            .take(STRIPES_PER_BLOCK)
    }
}

impl Expected {
    /// Opens the newest block; sites that came later held nothing before.
    fn open(&mut self, blocks: usize) {
        while self.groups.len() < blocks {
            self.groups.push(0);
        }
    }
}

impl Auditor<'_> {
    /// A stripe without a line in any ledger.
    pub(super) fn without_line(&mut self, error: &LedgerError) {
        let lost = match error {
            LedgerError::Part { source, .. } => is_lost(source),
            LedgerError::NotDescribed { .. } | LedgerError::Conflict { .. } => true,
        };
        match lost {
            true => self.facts.records_lost += 1,
            false => self.facts.stripes_unproven += 1,
        }
    }

    /// Counts what was done, for whoever watches.
    pub(super) fn progressed(&self, stripes: u64, bytes: u64) {
        Progress::add(&self.progress.stripes, stripes);
        Progress::add(&self.progress.entries, stripes);
        Progress::add(&self.progress.bytes, bytes);
    }
}

/// The site that should hold a shard, and where it stands among the stripe's.
pub(super) fn holders<'l>(record: &StripeRecord, layout: &'l [SiteId]) -> impl Iterator<Item = (u8, SiteId)> + 'l {
    (0u8..).zip(layout.iter().copied()).take(record.payloads.len())
}
