//! Refills the catalog from the sites, after it was lost.
//!
//! A lost catalog costs time, never data: no restore needs it, and without it the next run only sends everything again.
//! Rebuilding spares that. For each dataset of this agent the newest head that reads names its runs (run table), their
//! stripes (ledger parts) and where shards should lie (layouts); listings say which are there.
//!
//! ```text
//! heads -> run table -> runs -> ledger lines -> listings     rows of runs and stripes, receipts, debts, run notes
//!                        |          with an identity:
//!                        envelope   scope of the run (its label is sealed)
//!                        stripes    the end of each: its directory     rows of the dedup index
//! ```
//!
//! **Without an identity** a run's label, and with it the scope in which it may be reused, is known only when the catalog
//! or a journal still has it: other runs are left out, and said to be. **With one**, datasets whose files are gone come
//! back too, secret included, from the sealed part of heads that this agent's own key signed.
//!
//! A shard that is listed at its site under the name that its hash gives it counts as seen (DESIGN section 6, step 4);
//! the others of its layout are owed, and the next run pays. A stripe with fewer than k of them is left out: its chunks are
//! sent again. Only runs that this agent signed are taken: whom else to trust is not decided here.
//!
//! Not rebuilt: what files looked like when they were last read. That is known to nobody else, so the next run reads every
//! file once and finds its chunks at the sites. Exclusions and marks that were set by hand have to be set again.
//!
//! Nothing is ever taken out of the catalog here, and a dataset is locked while it is rebuilt. An interrupted rebuild
//! leaves runs open, whose chunks nobody is given; begin again. Memory is bounded by a run table, one folder of shards
//! (4,096 stripes), eight directories and a budget for whole stripes.

mod index;
mod report;
mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use exclave_catalog::{Catalog, CatalogError};
use exclave_model::{DatasetId, Head, KeyId, RunId};
use exclave_plan::heads::Heads;
use exclave_seal::{DatasetSecret, RecoveryIdentity};

pub use self::report::{DatasetOrigin, LeftOut, RebuildFinding, RebuildReport, RebuiltDataset, StripeGap};
use self::{report::Findings, run::Runs};
use crate::{
    archive::Archive,
    fetch::{ReadSettings, SiteBook},
    journal::{self, Begun, JournalEntry},
    local::{self, LocalError},
    restore::Stripes,
    snapshot::{Depth, Keyring, Reason, RunTable, Snapshots, TableReader},
    state::{AgentState, Dataset, RunNote, StateError},
    surroundings::Surroundings,
    survey::{Survey, SurveyError, survey},
};

/// Bytes of whole stripes in memory, where the end of one can't be had alone.
const WHOLE_BYTES_MAX: usize = 256 << 20;

/// Why a rebuild ended before it was done. What is in the catalog by then is true and stays.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The heads at the sites can't be surveyed.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// Local files.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The agent's state; also when a dataset is being replicated.
    #[error(transparent)]
    State(#[from] StateError),
    /// The catalog.
    #[error("the catalog failed")]
    Catalog(#[from] CatalogError),
    /// Someone asked to stop.
    #[error("interrupted after {stripes} stripes; rebuild again, nothing is lost")]
    Interrupted {
        /// Stripes that are in the catalog.
        stripes: u64,
    },
}

/// Refills the catalog with what this agent's newest heads refer to, and those of the writers that it succeeds.
pub fn rebuild(
    archive: &Archive,
    state: &AgentState,
    catalog: &Catalog,
    identity: Option<&RecoveryIdentity>,
    predecessors: &[KeyId],
    surroundings: &Surroundings,
) -> Result<RebuildReport, RebuildError> {
    for folder in ["datasets", "journal"] {
        local::create_folder(&state.folder().join(folder))?;
    }
    let own_key = state.writer_public()?.id();
    let writers: BTreeSet<KeyId> = predecessors.iter().copied().chain([own_key]).collect();
    let mut surveyed = survey(archive, surroundings)?;
    let site_troubles = std::mem::take(&mut surveyed.troubles);
    let own = own_heads(surveyed, &writers);
    let settings = ReadSettings::default();
    let mut report = RebuildReport {
        site_troubles,
        ..RebuildReport::default()
    };
    let mut rebuild = Rebuild {
        archive,
        state,
        catalog,
        surroundings,
        own: &own,
        writers,
        journalled: journalled(state)?,
        findings: Findings::default(),
    };
    report.datasets = match identity {
        Some(identity) => {
            let snapshots = Snapshots::open(archive, &own, identity, Depth::Newest, settings, surroundings);
            rebuild.with_identity(&snapshots)?
        }
        None => {
            let book = Arc::new(SiteBook::new(archive, settings.hedge));
            rebuild.without_identity(&TableReader::new(archive.anchor, book, &own))?
        }
    };
    (report.findings, report.findings_total) = rebuild.findings.into_parts();
    Ok(report)
}

/// The survey as if these writers were the only ones.
fn own_heads(mut survey: Survey, writers: &BTreeSet<KeyId>) -> Survey {
    survey.found.retain(|_, found| writers.contains(&found.head.writer));
    survey.heads = Heads::new(
        survey
            .heads
            .iter()
            .filter(|fact| writers.contains(&fact.writer))
            .cloned(),
    );
    survey
}

/// A run whose journal is still here: the next replicate looks after it, and must find what it expects.
struct Journalled {
    begun: Begun,
    /// True when it got as far as a head.
    has_head: bool,
}

fn journalled(state: &AgentState) -> Result<BTreeMap<RunId, Journalled>, RebuildError> {
    let mut found = BTreeMap::new();
    for path in state.journals()? {
        let mut entries = journal::read(&path)?.0.into_iter();
        if let Some(JournalEntry::Begun(begun)) = entries.next() {
            let has_head = entries.any(|entry| matches!(entry, JournalEntry::Head(_)));
            found.insert(begun.run, Journalled { begun, has_head });
        }
    }
    Ok(found)
}

struct Rebuild<'a> {
    archive: &'a Archive,
    state: &'a AgentState,
    catalog: &'a Catalog,
    surroundings: &'a Surroundings,
    /// This agent's heads.
    own: &'a Survey,
    /// Whose heads those are.
    writers: BTreeSet<KeyId>,
    journalled: BTreeMap<RunId, Journalled>,
    findings: Findings,
}

impl<'a> Rebuild<'a> {
    fn with_identity(&mut self, snapshots: &Snapshots<'_>) -> Result<Vec<RebuiltDataset>, RebuildError> {
        for passed in snapshots.passed_over() {
            self.findings.add(RebuildFinding::PassedOver {
                head: passed.head,
                reason: passed.reason.clone(),
            });
        }
        let known = self.state.datasets()?;
        for dataset in &known {
            if snapshots
                .list()
                .iter()
                .all(|snapshot| snapshot.info.dataset != dataset.id)
            {
                self.no_head(dataset);
            }
        }
        // Of two datasets of one name, the one that was replicated last gets it.
        let mut newest: Vec<_> = snapshots.list().iter().collect();
        newest.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.info.finished, snapshot.info.dataset)));
        let mut rebuilt = Vec::new();
        for snapshot in newest {
            let info = &snapshot.info;
            let Some(found) = self.own.found.get(&info.head) else {
                continue;
            };
            let sealed = Dataset {
                id: info.dataset,
                name: info.name.clone(),
                class: info.class,
                secret: DatasetSecret::from_bytes(*snapshot.secret.to_bytes()),
            };
            let Some((dataset, origin)) = self.restored(sealed)? else {
                continue;
            };
            let source = Source {
                head: &found.head,
                table: &snapshot.table,
                book: &snapshots.tables.book,
                keys: Some(&snapshots.keys),
            };
            rebuilt.extend(self.dataset(&dataset, origin, &source)?);
        }
        rebuilt.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(rebuilt)
    }

    /// The dataset as the agent knows it, or as the head tells; `None` when another one bears its name.
    fn restored(&mut self, sealed: Dataset) -> Result<Option<(Dataset, DatasetOrigin)>, RebuildError> {
        let mut known = self.state.datasets()?;
        if let Some(at) = known.iter().position(|dataset| dataset.id == sealed.id) {
            return Ok(Some((known.swap_remove(at), DatasetOrigin::Known)));
        }
        if known.iter().any(|dataset| dataset.name == sealed.name) {
            self.name_taken(&sealed);
            return Ok(None);
        }
        self.state.save_dataset(&sealed)?;
        Ok(Some((sealed, DatasetOrigin::Restored)))
    }

    fn without_identity(&mut self, tables: &TableReader) -> Result<Vec<RebuiltDataset>, RebuildError> {
        let mut rebuilt = Vec::new();
        for dataset in self.state.datasets()? {
            let Some((head, table)) = self.newest(dataset.id, tables) else {
                self.no_head(&dataset);
                continue;
            };
            let source = Source {
                head,
                table: &table,
                book: &tables.book,
                keys: None,
            };
            rebuilt.extend(self.dataset(&dataset, DatasetOrigin::Known, &source)?);
        }
        Ok(rebuilt)
    }

    /// The newest head of a dataset whose run table can be had.
    fn newest(&mut self, dataset: DatasetId, tables: &TableReader) -> Option<(&'a Head, Arc<RunTable>)> {
        let own = self.own;
        for fact in own.heads.order(dataset) {
            let Some(found) = own.found.get(&fact.hash) else {
                continue;
            };
            match self.surroundings.runtime.block_on(tables.read(&found.head)) {
                Ok(table) => return Some((&found.head, table)),
                Err(error) => self.findings.add(RebuildFinding::PassedOver {
                    head: found.hash,
                    reason: Reason::Table(error),
                }),
            }
        }
        None
    }

    fn no_head(&mut self, dataset: &Dataset) {
        self.findings.add(RebuildFinding::NoHead {
            name: dataset.name.clone(),
        });
    }

    fn name_taken(&mut self, dataset: &Dataset) {
        self.findings.add(RebuildFinding::NameTaken {
            name: dataset.name.clone(),
            dataset: dataset.id,
        });
    }

    /// One dataset, locked; `None` when another process has just given its name to a new one.
    fn dataset(
        &mut self,
        dataset: &Dataset,
        origin: DatasetOrigin,
        source: &Source<'_>,
    ) -> Result<Option<RebuiltDataset>, RebuildError> {
        let mut entropy = self.surroundings.entropy.entropy();
        let (locked, _lock) = self.state.lock_dataset(&dataset.name, dataset.class, &mut *entropy)?;
        if locked.id != dataset.id {
            self.name_taken(dataset);
            return Ok(None);
        }
        let mut rebuilt = RebuiltDataset::new(dataset, origin, source.head);
        let mut notes = BTreeMap::new();
        let mut runs = Runs {
            archive: self.archive,
            catalog: self.catalog,
            surroundings: self.surroundings,
            own: self.own,
            writers: &self.writers,
            journalled: &self.journalled,
            source,
            stripes: Stripes::new(WHOLE_BYTES_MAX, &self.surroundings.progress),
            findings: &mut self.findings,
            rebuilt: &mut rebuilt,
        };
        for entry in source.table.runs().filter(|entry| !entry.live.is_empty()) {
            notes.insert(entry.run, runs.refill(entry)?);
        }
        self.save_notes(dataset.id, notes)?;
        Ok(Some(rebuilt))
    }

    /// Notes of runs that no head shows now stay: a site that has it may be down.
    fn save_notes(&self, dataset: DatasetId, mut notes: BTreeMap<RunId, RunNote>) -> Result<(), RebuildError> {
        let before = match self.state.run_notes(dataset) {
            Ok(before) => before,
            Err(StateError::Local(LocalError::Damaged { .. })) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for note in before {
            notes.entry(note.run).or_insert(note);
        }
        Ok(self.state.save_run_notes(dataset, &notes.into_values().collect())?)
    }
}

/// Where a dataset is rebuilt from.
struct Source<'a> {
    head: &'a Head,
    table: &'a RunTable,
    book: &'a Arc<SiteBook>,
    /// Opens runs, when there is an identity.
    keys: Option<&'a Keyring<'a>>,
}
