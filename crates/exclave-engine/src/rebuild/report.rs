//! What a rebuild found.

use std::sync::Arc;

use exclave_model::{DatasetId, Head, KeyId, RecordHash, RunId};

use crate::{
    archive::SiteTrouble,
    fetch::LedgerError,
    restore::StripeError,
    snapshot::{KeyError, Reason},
    state::Dataset,
};

/// Findings that are kept; the others are counted.
const FINDINGS_MAX: usize = 100;

/// What was refilled, and what was not.
#[derive(Debug, Default)]
pub struct RebuildReport {
    /// Each dataset, by name.
    pub datasets: Vec<RebuiltDataset>,
    /// The first hundred things that were left out.
    pub findings: Vec<RebuildFinding>,
    /// How many there were.
    pub findings_total: u64,
    /// Sites that did not answer when heads were listed.
    pub site_troubles: Vec<SiteTrouble>,
}

/// Where a dataset's name and secret come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetOrigin {
    /// The agent had them.
    Known,
    /// They were read from a sealed head and are in the agent's folder again.
    Restored,
}

/// What the catalog has of one dataset again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltDataset {
    /// Its id.
    pub id: DatasetId,
    /// Its name.
    pub name: String,
    /// Where its name and secret come from.
    pub origin: DatasetOrigin,
    /// The seq of the head it was rebuilt from.
    pub seq: u64,
    /// Runs in the catalog.
    pub runs: u64,
    /// Runs left out.
    pub runs_left_out: u64,
    /// Stripes in the catalog.
    pub stripes: u64,
    /// Stripes left out: no ledger line, or fewer than k shards.
    pub stripes_left_out: u64,
    /// Shards that were seen.
    pub shards: u64,
    /// Shards that were not, and are owed.
    pub shards_owed: u64,
    /// Chunks in the dedup index.
    pub chunks: u64,
    /// Stripes in the catalog whose directory could not be read: their chunks are not in the index.
    pub stripes_unread: u64,
}

impl RebuiltDataset {
    pub(super) fn new(dataset: &Dataset, origin: DatasetOrigin, head: &Head) -> Self {
        Self {
            id: dataset.id,
            name: dataset.name.clone(),
            origin,
            seq: head.seq,
            runs: 0,
            runs_left_out: 0,
            stripes: 0,
            stripes_left_out: 0,
            shards: 0,
            shards_owed: 0,
            chunks: 0,
            stripes_unread: 0,
        }
    }
}

/// Something that was left out. What it costs is that chunks are sent again.
#[derive(Debug, thiserror::Error)]
pub enum RebuildFinding {
    /// No site that answered shows a head of a dataset that this agent signed and that reads.
    #[error("no head of dataset {name:?} was found that this agent signed and that can be read")]
    NoHead {
        /// The dataset.
        name: String,
    },
    /// A newer head than the one that was used.
    #[error("head {head} can't be used")]
    PassedOver {
        /// The head.
        head: RecordHash,
        /// Why.
        #[source]
        reason: Reason,
    },
    /// A dataset at the sites whose name another one has here.
    #[error("dataset {} at the sites is called {name:?} too; it is left alone", .dataset.to_hex())]
    NameTaken {
        /// The name.
        name: String,
        /// The dataset at the sites.
        dataset: DatasetId,
    },
    /// A run.
    #[error("run {run} is left out")]
    Run {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        why: LeftOut,
    },
    /// A stripe.
    #[error("stripe {ordinal} of run {run} is not in the index")]
    Stripe {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
        /// Why.
        #[source]
        why: StripeGap,
    },
}

/// Why a run is left out.
#[derive(Debug, thiserror::Error)]
pub enum LeftOut {
    /// Its label is sealed, and without it nobody may reuse it.
    #[error("its label is sealed: a recovery identity is needed")]
    NoIdentity,
    /// Its key can't be had.
    #[error(transparent)]
    Key(Arc<KeyError>),
    /// Its label does not open.
    #[error("its label does not open")]
    Label,
    /// Someone else wrote it.
    #[error("writer {0} wrote it")]
    Foreign(KeyId),
}

/// Why a stripe, or its directory, is left out.
#[derive(Debug, thiserror::Error)]
pub enum StripeGap {
    /// Its ledger line can't be had.
    #[error(transparent)]
    Ledger(LedgerError),
    /// Too few of its shards are where they should be.
    #[error("{found} of its shards are where they should be, {needed} are needed")]
    TooFew {
        /// Shards found.
        found: u8,
        /// k.
        needed: u8,
    },
    /// It was sealed under another label than its run's.
    #[error("it bears another label than its run")]
    Label,
    /// Its directory can't be read.
    #[error("its directory can't be read")]
    Directory(#[source] Arc<StripeError>),
}

/// Findings, the first of them kept.
#[derive(Default)]
pub(super) struct Findings {
    kept: Vec<RebuildFinding>,
    total: u64,
}

impl Findings {
    pub(super) fn add(&mut self, finding: RebuildFinding) {
        self.total += 1;
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push(finding);
        }
    }

    pub(super) fn into_parts(self) -> (Vec<RebuildFinding>, u64) {
        (self.kept, self.total)
    }
}
