//! Whether a report can be as old as it says, offline.
//!
//! A cosignature says that at its time the witness knew no larger tree of the log. So a report that lists a larger one was made
//! after that. One that says it ended before is backdated: its auditor's clock was wrong by as much, or he lied.

use exclave_log::{LogId, SignedCheckpoint};
use exclave_model::{AuditReport, Charters};

use super::cosign::{CLOCK_AHEAD_S_MAX, vouching};

/// That a report says it is older than it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the report ended at {ended} by its auditor's clock and lists {listed} entries of log {}, of which witness {witness} knew {known} at {at}",
    log.origin()
)]
pub struct Backdated {
    /// The log.
    pub log: LogId,
    /// Entries that the report lists.
    pub listed: u64,
    /// Entries that the witness knew later.
    pub known: u64,
    /// The witness.
    pub witness: String,
    /// When it said so: Unix seconds.
    pub at: i64,
    /// When the report ended, as it says: Unix seconds.
    pub ended: i64,
}

/// Holds a report's time against a cosigned checkpoint.
pub fn backdated(report: &AuditReport, charters: &Charters, checkpoint: &SignedCheckpoint) -> Option<Backdated> {
    let known = checkpoint.checkpoint.size;
    let log = LogId::parse(&checkpoint.checkpoint.origin).filter(|log| log.is_of(report.archive))?;
    let mut logs = report.logs.iter();
    let listed = logs
        .find(|seen| seen.key == log.key && seen.incarnation == log.incarnation)?
        .size;
    let ended = report.audit.finished;
    let later = |at: i64| at > ended.saturating_add(CLOCK_AHEAD_S_MAX);
    let witness = vouching(checkpoint, charters.newest().witnesses())
        .into_iter()
        .find(|vouching| listed > known && later(vouching.at))?;
    Some(Backdated {
        log,
        listed,
        known,
        witness: witness.witness.name.clone(),
        at: witness.at,
        ended,
    })
}
