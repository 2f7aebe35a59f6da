//! What a replication did.

use exclave_dataset::walk::Finding;
use exclave_model::{Counts, DatasetId, RecordHash, RunId};
use exclave_plan::tripwire::Trip;

use crate::{
    debt::UnpaidDebts,
    log::{LogStanding, Logged},
};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// Committed and as safe as its class demands.
    Committed,
    /// Committed, with fewer shards than its class demands.
    Provisional,
    /// The head lies at too few sites. It is journalled: the next replicate of the dataset puts it again first.
    BelowQuorum,
}

/// What a replication did.
#[derive(Debug)]
pub struct ReplicateReport {
    /// How it ended.
    pub outcome: RunOutcome,
    /// The dataset.
    pub dataset: DatasetId,
    /// The run.
    pub run: RunId,
    /// The head's record.
    pub head: RecordHash,
    /// Its place in the chain.
    pub seq: u64,
    /// Sites that hold the head, of all.
    pub head_sites: usize,
    /// What the snapshot holds.
    pub counts: Counts,
    /// Stored bytes that were new, before coding.
    pub bytes_new: u64,
    /// Stripes that this run wrote.
    pub stripes: u64,
    /// Least verified shards of a stripe; n of the class.
    pub verified_min: u8,
    /// Shards that are owed, over all stripes.
    pub debt: u64,
    /// Shards owed by earlier runs that were paid first.
    pub debts_paid: u64,
    /// Shards owed by earlier runs that could not be paid, by site and reason.
    pub debts_unpaid: Vec<UnpaidDebts>,
    /// Stripes of dead runs that were taken over, and heads of dead runs that were completed.
    pub recovered_stripes: u64,
    /// See above.
    pub recovered_heads: u64,
    /// A new incarnation began, because the sites were ahead of our journal.
    pub new_incarnation: bool,
    /// What the source would not show.
    pub findings: Vec<Finding>,
    /// How many of these there were.
    pub findings_total: u64,
    /// How the source changed more than data does by itself.
    pub trips: Vec<Trip>,
    /// Sites that failed, and what they said.
    pub site_troubles: Vec<(String, String)>,
    /// Things that must not happen at an honest site.
    pub alarms: Vec<String>,
    /// Whether the head is in the writer's log.
    pub log: LogStanding,
    /// The log, for whoever asks witnesses to cosign it.
    pub logged: Option<Logged>,
}
