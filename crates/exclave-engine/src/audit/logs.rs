//! The logs that the sites show: against themselves, and against the heads.

use exclave_model::report::{LogSeen, Outcome};
use exclave_plan::audit::Seed;

use super::Auditor;
use crate::{
    archive::Archive,
    log::{LogFinding, Logs, read_logs},
};

/// What an audit has seen of the logs.
#[derive(Debug, Clone, Default)]
pub(super) struct LogAudit {
    /// Every log whose newest state the sites could show, by owner and life.
    pub(super) seen: Vec<LogSeen>,
}

impl LogAudit {
    /// The digest that goes into the seed.
    pub(super) fn digest(&self) -> Option<exclave_model::RecordHash> {
        digest_of(&self.seen)
    }
}

/// The digest of the logs that a report lists.
pub(super) fn digest_of(logs: &[LogSeen]) -> Option<exclave_model::RecordHash> {
    let states = logs
        .iter()
        .map(|log| (log.key, log.incarnation, log.size, *log.root.as_bytes()));
    Seed::logs_digest(states)
}

/// Reads all logs, and notes what needs a look.
pub(super) async fn look(auditor: &mut Auditor<'_>) -> LogAudit {
    let mut logs = read_logs(&auditor.desk.archive).await;
    logs.compare(&auditor.desk.archive, auditor.survey);
    for trouble in std::mem::take(&mut logs.troubles) {
        let outcome = super::desk::outcome_of(&trouble.error);
        auditor.note(
            "listing",
            &trouble.site,
            "log",
            Some(outcome),
            &trouble.error.to_string(),
        );
    }
    let findings: Vec<(String, String, LogFinding)> = logs
        .findings()
        .map(|(log, finding)| {
            let object = log.map_or_else(|| "log".to_owned(), |log| log.origin());
            let site = match finding {
                LogFinding::Behind { site, .. } => site.clone(),
                _ => String::new(),
            };
            (object, site, finding.clone())
        })
        .collect();
    for (object, site, finding) in findings {
        match finding.is_fork() {
            true => auditor.facts.forks += 1,
            false => auditor.facts.alarms += 1,
        }
        auditor.note(finding.kind(), &site, &object, None::<Outcome>, &finding.to_string());
    }
    LogAudit {
        seen: seen(&auditor.desk.archive, &logs),
    }
}

/// The proven states.
fn seen(archive: &Archive, logs: &Logs) -> Vec<LogSeen> {
    let charter = archive.charter();
    let of = |log: &crate::log::LogView| {
        let (size, root) = log.proven?;
        let sites = log.checkpoints.get(&(size, root))?.sites.iter();
        let ids = sites
            .filter_map(|at| archive.sites.get(*at)?.id)
            .filter(|id| charter.site(*id).is_some());
        Some(LogSeen {
            key: log.id.key,
            incarnation: log.id.incarnation,
            size,
            root: exclave_model::RecordHash::from_bytes(*root.as_bytes()),
            sites: ids.collect::<std::collections::BTreeSet<_>>().len() as u64,
        })
    };
    logs.logs.iter().filter_map(of).collect()
}
