//! What a collection would let go, and why the rest stays. Reads, and changes nothing; needs no key.
//!
//! Everything that is doubtful stays: a dataset whose class can't be told, a chain with a fork, a site that did not answer.
//! Marks are believed for what they remember of receipts, and nothing else here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use exclave_model::{
    Class, DatasetId, Hold, HoldScope, KeyId, LiveSet, ObjectName, RecordHash, Retention, RunId,
    limit::ENVELOPE_BYTES_MAX,
};
use exclave_plan::{
    collect::{
        retain::{Reason, Received, retain},
        run::{Stripes, unneeded},
    },
    heads::{Finding, pinned},
};

use super::{Marks, hold::in_force};
use crate::{
    archive::Archive,
    fetch::SiteBook,
    snapshot::{TableReader, keys::verify_envelope},
    surroundings::Surroundings,
    survey::{Answer, FoundHead, Survey, SurveyError, survey_async},
};

/// How long one store may keep a page to itself before another is asked, too.
const HEDGE: Duration = Duration::from_secs(2);

/// What a reaper knows beside what the sites show.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// When each head or charter was first seen: Unix seconds.
    pub receipts: BTreeMap<RecordHash, i64>,
    /// Heads that an audit found whole.
    pub verified: BTreeSet<RecordHash>,
}

/// What would happen.
#[derive(Debug)]
pub struct CollectPlan {
    /// The datasets, by id.
    pub datasets: Vec<DatasetPlan>,
    /// When everything that is there was first seen: what the reaper is to remember.
    pub receipts: BTreeMap<RecordHash, i64>,
    /// Why nothing may be marked now, if anything is in the way.
    pub obstacles: Vec<Obstacle>,
    /// Holds that are in force.
    pub holds: Vec<(RecordHash, Hold)>,
}

/// Why nothing may be marked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A site may hold heads or claims that nobody sees.
    #[error("site {0} did not answer completely: what it holds may be needed")]
    Silent(String),
    /// A site of the charter that nobody looked at.
    #[error("site {0} of the charter is not among the sites that were asked")]
    NotAsked(String),
    /// Who may write is disputed, or something is hidden.
    #[error("the charter is disputed, or a version of it is hidden; see `exclave audit`")]
    Charter,
    /// A new charter may have shortened retention.
    #[error("this charter was first seen less than 72 hours ago; it can be objected to for {hours} more")]
    NewCharter {
        /// How long still.
        hours: i64,
    },
    /// A head's run table is not to be had, so what it needs is unknown.
    #[error("what snapshot {0} needs can't be read: its run table is missing")]
    TableMissing(RecordHash),
}

/// One dataset.
#[derive(Debug)]
pub struct DatasetPlan {
    /// The dataset.
    pub dataset: DatasetId,
    /// Its class, when all its envelopes agree on one.
    pub class: Option<u32>,
    /// What the class keeps; `None` keeps everything.
    pub rules: Option<Retention>,
    /// Its snapshots, the newest receipt first.
    pub snapshots: Vec<PlannedSnapshot>,
    /// Stripes that only dropped snapshots need.
    pub stripes: Stripes,
    /// Bytes of their shards at all sites, at most: a last stripe may be shorter.
    pub bytes_max: u64,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSnapshot {
    /// The head.
    pub head: RecordHash,
    /// Who committed it.
    pub writer: KeyId,
    /// Its place in its chain.
    pub seq: u64,
    /// When it was first seen.
    pub received: i64,
    /// Why it stays; empty when it would go.
    pub kept: BTreeSet<Reason>,
}

/// Works out what no rule keeps.
pub fn plan(archive: &Archive, memory: &Memory, surroundings: &Surroundings) -> Result<CollectPlan, SurveyError> {
    let now = surroundings.clock.now_unix_seconds();
    surroundings.runtime.block_on(Planning { archive, memory, now }.run())
}

struct Planning<'a> {
    archive: &'a Archive,
    memory: &'a Memory,
    now: i64,
}

impl Planning<'_> {
    async fn run(self) -> Result<CollectPlan, SurveyError> {
        let survey = survey_async(self.archive).await?;
        let marks = Marks::read(self.archive).await;
        let holds: Vec<(RecordHash, Hold)> = in_force(self.archive).await.into_iter().collect();
        let receipts = self.receipts(&survey, &marks);
        let mut obstacles = self.obstacles(&survey, &receipts);
        let tables = TableReader::new(
            self.archive.anchor,
            Arc::new(SiteBook::new(self.archive, HEDGE)),
            &survey,
        );
        let mut needed_by: BTreeMap<RecordHash, Stripes> = BTreeMap::new();
        for found in survey.found.values() {
            match tables.read(&found.head).await {
                Ok(table) => {
                    let live = table.runs().map(|entry| (entry.run, entry.live.clone()));
                    needed_by.insert(found.hash, live.collect());
                }
                Err(_) => obstacles.push(Obstacle::TableMissing(found.hash)),
            }
        }
        let mut of_dataset: BTreeMap<DatasetId, Vec<&FoundHead>> = BTreeMap::new();
        for found in survey.found.values() {
            of_dataset.entry(found.head.dataset).or_default().push(found);
        }
        let mut datasets = Vec::new();
        for (dataset, heads) in of_dataset {
            datasets.push(self.dataset(dataset, &heads, &survey, &receipts, &holds).await);
        }
        // A stripe stays when a snapshot of any dataset needs it.
        let kept = datasets.iter().flat_map(|dataset| &dataset.snapshots);
        let kept = kept
            .filter(|snapshot| !snapshot.kept.is_empty())
            .map(|snapshot| snapshot.head);
        let needed = together(kept.filter_map(|head| needed_by.get(&head)));
        for dataset in &mut datasets {
            let dropped = dataset.snapshots.iter().filter(|snapshot| snapshot.kept.is_empty());
            let theirs = together(dropped.filter_map(|snapshot| needed_by.get(&snapshot.head)));
            dataset.stripes = unneeded(&theirs, &needed);
            let count: u64 = dataset.stripes.values().map(LiveSet::len).sum();
            let class = dataset.class.and_then(|class| self.archive.charter().class(class));
            dataset.bytes_max = count.saturating_mul(class.map_or(0, stripe_bytes));
        }
        Ok(CollectPlan {
            datasets,
            receipts,
            obstacles,
            holds,
        })
    }

    /// The earliest that anyone remembers; what nobody does was received now.
    fn receipts(&self, survey: &Survey, marks: &Marks) -> BTreeMap<RecordHash, i64> {
        let charters = self
            .archive
            .charters
            .iter()
            .filter_map(|charter| self.archive.charters.hash(charter.version));
        let seen = survey.found.keys().copied().chain(charters);
        let remembered = |record: &RecordHash| {
            let own = self.memory.receipts.get(record);
            let others = marks.receipts.get(record);
            own.into_iter().chain(others).copied().min()
        };
        seen.map(|record| (record, remembered(&record).unwrap_or(self.now)))
            .collect()
    }

    fn obstacles(&self, survey: &Survey, receipts: &BTreeMap<RecordHash, i64>) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        for record in &self.archive.charter().sites {
            let at = self
                .archive
                .sites
                .iter()
                .position(|handle| handle.id == Some(record.id));
            match at.and_then(|at| survey.answers.get(at)) {
                None => obstacles.push(Obstacle::NotAsked(record.name.clone())),
                Some(Answer::Complete) => {}
                Some(Answer::Partial | Answer::None) => obstacles.push(Obstacle::Silent(record.name.clone())),
            }
        }
        if survey
            .charter_findings(self.archive)
            .iter()
            .any(|finding| finding.is_alarm())
        {
            obstacles.push(Obstacle::Charter);
        }
        // Version 1 shortened nothing.
        let newest = self.archive.charters.newest_hash();
        let age = self
            .now
            .saturating_sub(receipts.get(&newest).copied().unwrap_or(self.now));
        let left = exclave_model::collection::COOL_OFF_SECONDS.saturating_sub(age);
        if self.archive.charter().version > 1 && left > 0 {
            let hours = left.saturating_add(3599).div_euclid(3600);
            obstacles.push(Obstacle::NewCharter { hours });
        }
        obstacles
    }

    async fn dataset(
        &self,
        dataset: DatasetId,
        heads: &[&FoundHead],
        survey: &Survey,
        receipts: &BTreeMap<RecordHash, i64>,
        holds: &[(RecordHash, Hold)],
    ) -> DatasetPlan {
        let class = self.class_of(heads).await;
        let rules = class.and_then(|class| self.archive.charter().retention(class)).copied();
        let newest: BTreeSet<RecordHash> = survey.heads.newest(dataset).into_iter().map(|head| head.hash).collect();
        let doubtful = doubtful_chains(survey);
        let pinned = self.pinned(survey);
        let before_alarm = before_alarm(heads);
        let received: Vec<Received> = heads
            .iter()
            .map(|found| {
                let chain = (found.head.writer, found.head.incarnation);
                Received {
                    head: found.hash,
                    chain,
                    seq: found.head.seq,
                    at: receipts.get(&found.hash).copied().unwrap_or(self.now),
                    verified: self.memory.verified.contains(&found.hash),
                    newest: newest.contains(&found.hash) || doubtful.contains(&chain),
                    before_alarm: before_alarm.contains(&found.hash),
                    held: holds.iter().any(|(_, hold)| covers(&hold.scope, found)),
                    pinned: pinned.contains(&found.hash),
                }
            })
            .collect();
        let why = retain(rules.as_ref(), &received, self.now);
        let mut snapshots: Vec<PlannedSnapshot> = received
            .iter()
            .map(|head| PlannedSnapshot {
                head: head.head,
                writer: head.chain.0,
                seq: head.seq,
                received: head.at,
                kept: why.get(&head.head).cloned().unwrap_or_default(),
            })
            .collect();
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.received, snapshot.seq)));
        DatasetPlan {
            dataset,
            class,
            rules,
            snapshots,
            stripes: Stripes::new(),
            bytes_max: 0,
        }
    }

    /// The one class that all valid envelopes of the heads' runs name.
    async fn class_of(&self, heads: &[&FoundHead]) -> Option<u32> {
        let runs: BTreeSet<RunId> = heads.iter().map(|found| found.head.run).collect();
        let mut classes = BTreeSet::new();
        for run in runs {
            let found = envelope_classes(self.archive, run).await;
            if found.is_empty() {
                return None;
            }
            classes.extend(found);
        }
        match classes.len() {
            1 => classes.first().copied(),
            _ => None,
        }
    }

    /// Heads that the newest charter's revocations pin, and what they reach: what the owner accepted by name.
    fn pinned(&self, survey: &Survey) -> BTreeSet<RecordHash> {
        let revocations = self.archive.charter().revocations().iter();
        let pinned = revocations.map(|revocation| pinned(revocation.key, &revocation.pins, survey.heads.iter()));
        pinned.flat_map(|pinned| pinned.counted).collect()
    }
}

/// Chains with two heads in one place: nobody knows which side will count.
fn doubtful_chains(survey: &Survey) -> BTreeSet<(KeyId, exclave_model::Incarnation)> {
    let forks = survey.findings.iter().filter_map(|finding| match finding {
        Finding::Fork {
            writer, incarnation, ..
        } => Some((*writer, *incarnation)),
        Finding::Gap { .. } | Finding::ForeignPrevious { .. } | Finding::MissingTip { .. } => None,
    });
    forks.collect()
}

/// Heads of a dataset whose successor in the same chain tripped wires (FORMAT.md section 11).
fn before_alarm(heads: &[&FoundHead]) -> BTreeSet<RecordHash> {
    let tripped = heads.iter().filter(|found| !found.head.tripwires().is_empty());
    let before = tripped.flat_map(|alarm| {
        let chain = (alarm.head.writer, alarm.head.incarnation);
        let same = heads
            .iter()
            .filter(move |found| (found.head.writer, found.head.incarnation) == chain);
        let earlier = same.filter(move |found| found.head.seq < alarm.head.seq);
        earlier.max_by_key(|found| found.head.seq)
    });
    before.map(|found| found.hash).collect()
}

fn covers(scope: &HoldScope, found: &FoundHead) -> bool {
    match scope {
        HoldScope::Snapshot(head) => *head == found.hash,
        HoldScope::Dataset(dataset) => *dataset == found.head.dataset,
        HoldScope::Archive => true,
    }
}

fn together<'s>(all: impl Iterator<Item = &'s Stripes>) -> Stripes {
    let mut sum = Stripes::new();
    for (run, stripes) in all.flatten() {
        sum.entry(*run).or_default().merge(stripes);
    }
    sum
}

/// Bytes of a full stripe's shards.
fn stripe_bytes(class: &Class) -> u64 {
    let policy = class.policy().ok();
    policy.map_or(0, |policy| {
        let payload = policy.payload.bytes() as u64;
        // Header and trailer (FORMAT.md section 5).
        u64::from(policy.geometry.total()) * (152 + payload + payload / 2048)
    })
}

async fn envelope_classes(archive: &Archive, run: RunId) -> BTreeSet<u32> {
    let (listings, _) = archive.list_everywhere(&archive.names.run_prefix(run), 1 << 20).await;
    let names: BTreeSet<ObjectName> = listings
        .into_values()
        .flat_map(|listing| listing.entries)
        .map(|entry| entry.name)
        .collect();
    let mut classes = BTreeSet::new();
    for name in names.iter().filter(|name| name.file_name().starts_with("envelope.")) {
        let fetched = archive.fetch(name, ENVELOPE_BYTES_MAX, |bytes| {
            verify_envelope(archive, run, bytes)
                .ok()
                .map(|(_, envelope)| envelope.class)
        });
        classes.extend(fetched.await.0);
    }
    classes
}

#[cfg(test)]
mod tests;
