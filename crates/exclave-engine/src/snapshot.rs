//! Snapshots: heads that an identity opens.
//!
//! For each head: the pages of its run table by hash, the envelope of its run (signed by a writer of the charter, wrapped
//! for exactly the recipients that the charter names, committed to the key that the run table commits to), the run key,
//! the sealed record. What can't be opened is passed over with its reason, never silently.
//!
//! Heads are tried in the order of [`exclave_plan::heads`]: first the newest ones, all of them, then the others. When
//! several newest ones open (writers that did not see each other), the one that was complete last comes first, by their
//! writers' clocks, and the others are named. Of a fork no side is taken unless a person names one (FORMAT.md section 14).

pub(crate) mod keys;
pub(crate) mod table;

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use exclave_model::{
    Counts, DatasetId, Incarnation, KeyId, ManifestRoot, RecordHash, RunId, SealedHead, SnapshotState, SourceKind,
    Tripwire,
};
use exclave_plan::heads::{HeadFact, Heads};
use exclave_seal::{BoxError, DatasetSecret, RecoveryIdentity, sealed_box};
use futures::stream::{self, StreamExt};

pub use self::{
    keys::{EnvelopeProblem, KeyError},
    table::{RunTable, TableError},
};
pub(crate) use self::{
    keys::{Keyring, OpenedRun},
    table::TableReader,
};
use crate::{
    archive::Archive,
    fetch::{ReadSettings, SiteBook},
    grant::given_to,
    surroundings::Surroundings,
    survey::{FoundHead, Freshness, Survey},
};

/// Heads that are opened at the same time.
const OPENED_AT_ONCE: usize = 16;

/// How much to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Of each dataset the newest snapshot that opens.
    Newest,
    /// Every snapshot.
    All,
}

/// What a snapshot is, as far as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The hash of its head: its name.
    pub head: RecordHash,
    /// The dataset.
    pub dataset: DatasetId,
    /// The dataset's name.
    pub name: String,
    /// Its label.
    pub label: String,
    /// Its class in the charter.
    pub class: u32,
    /// Who committed it.
    pub writer: KeyId,
    /// Which life of the writer.
    pub incarnation: Incarnation,
    /// Its place in the chain.
    pub seq: u64,
    /// When it was begun, by the writer's clock: Unix seconds.
    pub started: i64,
    /// When it was complete, by the writer's clock: Unix seconds.
    pub finished: i64,
    /// Where it came from.
    pub source: SourceKind,
    /// What it holds.
    pub counts: Counts,
    /// How safe it was when it was committed.
    pub state: SnapshotState,
    /// Least number of verified shards of any stripe at the time.
    pub verified_min: u8,
    /// Shards that were missing up to n.
    pub debt: u64,
    /// What its writer found strange about the source.
    pub tripwires: Vec<Tripwire>,
    /// Names of the sites that list its head.
    pub sites: Vec<String>,
}

/// A snapshot whose sealed record was opened.
pub struct Snapshot {
    /// What people are told.
    pub info: SnapshotInfo,
    /// How sure it is that no newer one exists.
    pub freshness: Freshness,
    pub(crate) run: RunId,
    pub(crate) table: Arc<RunTable>,
    pub(crate) root: ManifestRoot,
    pub(crate) secret: DatasetSecret,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// A head that was not opened.
#[derive(Debug, Clone)]
pub struct PassedOver {
    /// The head.
    pub head: RecordHash,
    /// Its dataset.
    pub dataset: DatasetId,
    /// Its writer.
    pub writer: KeyId,
    /// Its place in the chain.
    pub seq: u64,
    /// Why.
    pub reason: Reason,
}

/// Why a head was not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Reason {
    /// Its run table can't be had.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The run that seals it is not in its run table.
    #[error("the head's own run {run} is not in its run table")]
    ForeignRun {
        /// The run.
        run: RunId,
    },
    /// Its key can't be had.
    #[error(transparent)]
    Key(#[from] Arc<KeyError>),
    /// The sealed record does not open.
    #[error(transparent)]
    Sealed(Arc<BoxError>),
    /// The sealed record bears another label than the run's envelope.
    #[error("the head's label is not the one its run was sealed under")]
    Label,
    /// The charter's numbers for its class fit no layout.
    #[error("class {class} of the charter promises what no layout can keep")]
    Class {
        /// The class.
        class: u32,
    },
}

/// Which snapshot is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By the dataset's name or the full hex of its id; empty when the archive has only one dataset.
    Newest {
        /// The dataset.
        dataset: String,
    },
    /// The newest of a dataset that was complete at a time (Unix seconds, by the writers' clocks).
    At {
        /// The dataset.
        dataset: String,
        /// The time.
        time: i64,
    },
    /// By the first hex digits of its head's hash.
    Head {
        /// The digits.
        prefix: String,
    },
}

/// Why no snapshot was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSnapshot {
    /// No snapshot of that dataset opens.
    #[error("no snapshot of {dataset:?} opens; there are {}", listed(known))]
    NoDataset {
        /// What was asked for.
        dataset: String,
        /// Names of the datasets that do.
        known: Vec<String>,
    },
    /// Several datasets bear the name, or none was named.
    #[error("{dataset:?} may be any of {}", listed(known))]
    Ambiguous {
        /// What was asked for.
        dataset: String,
        /// The ids that it may be.
        known: Vec<String>,
    },
    /// Nothing was complete by then.
    #[error("no snapshot of {dataset:?} was complete by then; the oldest was complete at {oldest} (Unix seconds)")]
    NotYet {
        /// What was asked for.
        dataset: String,
        /// When the oldest that opens was complete.
        oldest: i64,
    },
    /// The newest snapshot is one side of a fork: two heads were signed for one place of a writer's chain, by a clone or by
    /// a thief, and nothing in them tells which is the true one.
    #[error("snapshot {} of {dataset:?} is one side of a fork; the other has {}", side.to_hex(), hex_listed(others))]
    Fork {
        /// The dataset.
        dataset: String,
        /// The head that would be taken.
        side: RecordHash,
        /// Newest heads that take another side.
        others: Vec<RecordHash>,
    },
    /// No head, or more than one, begins with these digits.
    #[error("{found} snapshots begin with {prefix:?}")]
    NoHead {
        /// What was asked for.
        prefix: String,
        /// How many begin so.
        found: usize,
    },
}

fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

fn hex_listed(heads: &[RecordHash]) -> String {
    listed(&heads.iter().map(RecordHash::to_hex).collect::<Vec<String>>())
}

/// The snapshots that an identity opens, and those it doesn't.
pub struct Snapshots<'a> {
    pub(crate) archive: Archive,
    pub(crate) settings: ReadSettings,
    pub(crate) keys: keys::Keyring<'a>,
    pub(crate) tables: TableReader,
    heads: Heads,
    list: Vec<Snapshot>,
    passed_over: Vec<PassedOver>,
}

impl<'a> Snapshots<'a> {
    /// Opens what the survey found.
    pub fn open(
        archive: &Archive,
        survey: &Survey,
        identity: &'a RecoveryIdentity,
        depth: Depth,
        settings: ReadSettings,
        surroundings: &Surroundings,
    ) -> Self {
        let book = Arc::new(SiteBook::new(archive, settings.hedge));
        let grants = surroundings.runtime.block_on(given_to(archive, identity));
        let mut snapshots = Self {
            archive: archive.clone(),
            settings,
            keys: keys::Keyring::new(archive, Arc::clone(&book), identity, grants),
            tables: TableReader::new(archive.anchor, book, survey),
            heads: survey.heads.clone(),
            list: Vec::new(),
            passed_over: Vec::new(),
        };
        let (list, passed_over) = surroundings.runtime.block_on(snapshots.open_all(survey, depth));
        snapshots.list = list;
        snapshots.passed_over = passed_over;
        snapshots
    }

    /// The snapshots that open: by dataset, the newest first.
    pub fn list(&self) -> &[Snapshot] {
        &self.list
    }

    /// The heads that were tried and don't open. With [`Depth::Newest`] none of them is older than what was opened.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// The newest snapshot of a dataset that opens, and was complete at `time` when one is given.
    pub fn choose(&self, which: &Which) -> Result<&Snapshot, NoSnapshot> {
        match which {
            Which::Newest { dataset } => self.undisputed(self.of_dataset(dataset)?.0),
            Which::At { dataset, time } => self.undisputed(self.complete_at(dataset, *time)?),
            Which::Head { prefix } => {
                let fits = |snapshot: &&Snapshot| snapshot.info.head.to_hex().starts_with(prefix.as_str());
                let found: Vec<&Snapshot> = self.list.iter().filter(fits).collect();
                match found.as_slice() {
                    [one] => Ok(one),
                    several => Err(NoSnapshot::NoHead {
                        prefix: prefix.clone(),
                        found: several.len(),
                    }),
                }
            }
        }
    }

    /// Other snapshots of the same dataset that are as new: no ancestor of another head, and opened.
    pub fn rivals(&self, snapshot: &Snapshot) -> Vec<&Snapshot> {
        let newest = self.heads.newest(snapshot.info.dataset);
        let is_newest = |hash: RecordHash| newest.iter().any(|head| head.hash == hash);
        let others = self.list.iter().filter(|other| other.info.head != snapshot.info.head);
        match is_newest(snapshot.info.head) {
            true => others.filter(|other| is_newest(other.info.head)).collect(),
            false => Vec::new(),
        }
    }

    fn undisputed<'s>(&self, snapshot: &'s Snapshot) -> Result<&'s Snapshot, NoSnapshot> {
        let others = self.heads.other_sides(snapshot.info.head);
        match others.is_empty() {
            true => Ok(snapshot),
            false => Err(NoSnapshot::Fork {
                dataset: snapshot.info.name.clone(),
                side: snapshot.info.head,
                others,
            }),
        }
    }

    /// Of the snapshots that were complete by then, the newest; of several such, the one that was complete last.
    fn complete_at(&self, dataset: &str, time: i64) -> Result<&Snapshot, NoSnapshot> {
        let (first, all) = self.of_dataset(dataset)?;
        let by_then = || all.iter().filter(|snapshot| snapshot.info.finished <= time);
        let newest = self
            .heads
            .newest_among(&by_then().map(|snapshot| snapshot.info.head).collect());
        // Of equals the one that comes first in the list: `max_by_key` takes the last.
        let latest = by_then()
            .rev()
            .filter(|snapshot| newest.contains(&snapshot.info.head))
            .max_by_key(|snapshot| snapshot.info.finished);
        latest.copied().ok_or_else(|| NoSnapshot::NotYet {
            dataset: dataset.to_owned(),
            oldest: all
                .iter()
                .map(|snapshot| snapshot.info.finished)
                .min()
                .unwrap_or(first.info.finished),
        })
    }

    /// The snapshots of one dataset, newest first.
    fn of_dataset(&self, dataset: &str) -> Result<(&Snapshot, Vec<&Snapshot>), NoSnapshot> {
        let mut by_id: BTreeMap<DatasetId, Vec<&Snapshot>> = BTreeMap::new();
        for snapshot in &self.list {
            let info = &snapshot.info;
            if dataset.is_empty() || info.name == dataset || info.dataset.to_hex() == dataset {
                by_id.entry(info.dataset).or_default().push(snapshot);
            }
        }
        let ids: Vec<String> = by_id.keys().map(DatasetId::to_hex).collect();
        let mut found = by_id.into_values();
        match (found.next(), found.next()) {
            (Some(all), None) => match all.first() {
                Some(first) => Ok((first, all)),
                None => Err(self.no_dataset(dataset)),
            },
            (Some(_), Some(_)) => Err(NoSnapshot::Ambiguous {
                dataset: dataset.to_owned(),
                known: ids,
            }),
            (None, _) => Err(self.no_dataset(dataset)),
        }
    }

    fn no_dataset(&self, dataset: &str) -> NoSnapshot {
        let mut known: Vec<String> = self.list.iter().map(|snapshot| snapshot.info.name.clone()).collect();
        known.sort();
        known.dedup();
        NoSnapshot::NoDataset {
            dataset: dataset.to_owned(),
            known,
        }
    }

    async fn open_all(&self, survey: &Survey, depth: Depth) -> (Vec<Snapshot>, Vec<PassedOver>) {
        let (mut list, mut passed_over) = (Vec::new(), Vec::new());
        for dataset in survey.heads.datasets() {
            let newest = survey.heads.newest(dataset);
            let older = survey.heads.order(dataset).split_off(newest.len());
            let mut opened = self
                .open_some(survey, &newest, OPENED_AT_ONCE, Depth::All, &mut passed_over)
                .await;
            opened.sort_by_key(|snapshot| Reverse(snapshot.info.finished));
            match depth {
                Depth::Newest if !opened.is_empty() => {}
                // One by one: the first that opens is the last that is asked for.
                Depth::Newest => opened.extend(self.open_some(survey, &older, 1, depth, &mut passed_over).await),
                Depth::All => opened.extend(
                    self.open_some(survey, &older, OPENED_AT_ONCE, depth, &mut passed_over)
                        .await,
                ),
            }
            list.append(&mut opened);
        }
        (list, passed_over)
    }

    /// Opens heads in their order; with [`Depth::Newest`] only up to the first that opens.
    async fn open_some(
        &self,
        survey: &Survey,
        heads: &[&HeadFact],
        ahead: usize,
        depth: Depth,
        passed_over: &mut Vec<PassedOver>,
    ) -> Vec<Snapshot> {
        let mut list = Vec::new();
        let found = heads.iter().filter_map(|fact| survey.found.get(&fact.hash));
        let opened = stream::iter(found).map(|head| async move { (head, self.open_one(survey, head).await) });
        let mut opened = std::pin::pin!(opened.buffered(ahead));
        while let Some((head, snapshot)) = opened.next().await {
            match snapshot {
                Ok(snapshot) => {
                    list.push(snapshot);
                    if depth == Depth::Newest {
                        break;
                    }
                }
                Err(reason) => passed_over.push(PassedOver {
                    head: head.hash,
                    dataset: head.head.dataset,
                    writer: head.head.writer,
                    seq: head.head.seq,
                    reason,
                }),
            }
        }
        list
    }

    async fn open_one(&self, survey: &Survey, found: &FoundHead) -> Result<Snapshot, Reason> {
        let head = &found.head;
        let table = self.tables.read(head).await?;
        let own = table.get(head.run).ok_or(Reason::ForeignRun { run: head.run })?;
        let opened = self.keys.open(head.run, own.commitment, head.dataset).await?;
        let sealed =
            sealed_box::open_head(&opened.key, &head.sealed).map_err(|error| Reason::Sealed(Arc::new(error)))?;
        if !opened.label_is(&sealed.label) {
            return Err(Reason::Label);
        }
        let class = opened.class;
        let freshness = self.archive.charter().class(class);
        let freshness = freshness.and_then(|class| survey.freshness_of(&self.archive, class, found));
        let name_of = |site: &usize| self.archive.sites.get(*site).map(|handle| handle.name.clone());
        Ok(Snapshot {
            freshness: freshness.ok_or(Reason::Class { class })?,
            run: head.run,
            table: Arc::clone(&table),
            root: sealed.root,
            secret: DatasetSecret::from_bytes(sealed.dataset_secret),
            info: info_of(found, sealed, class, found.sites.iter().filter_map(name_of).collect()),
        })
    }
}

fn info_of(found: &FoundHead, sealed: SealedHead, class: u32, sites: Vec<String>) -> SnapshotInfo {
    let head = &found.head;
    SnapshotInfo {
        head: found.hash,
        dataset: head.dataset,
        name: sealed.name,
        label: sealed.label,
        class,
        writer: head.writer,
        incarnation: head.incarnation,
        seq: head.seq,
        started: sealed.started,
        finished: sealed.finished,
        source: sealed.source,
        counts: sealed.counts,
        state: head.state,
        verified_min: head.verified_min,
        tripwires: head.tripwires().to_vec(),
        debt: head.debt,
        sites,
    }
}

#[cfg(test)]
mod tests;
