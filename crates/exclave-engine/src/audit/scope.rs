//! What should be there: heads, and through their run tables the runs, stripes and ledger parts that they need.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use exclave_model::{RecordHash, RunEntry, RunId};

use super::Auditor;
use crate::{
    fetch::{Problem, book::Unavailable},
    snapshot::{TableError, TableReader},
    survey::Survey,
};

/// A run that audited heads need.
pub(crate) struct RunScope {
    /// Its stripes and ledger parts, those of all heads together.
    pub(crate) entry: RunEntry,
    /// The runs of the heads that need it: under one of them its adopted ledger parts may lie.
    pub(crate) homes: BTreeSet<RunId>,
    parts: HashSet<RecordHash>,
}

/// What an audit is about.
#[derive(Default)]
pub(super) struct Scope {
    pub(super) heads: Vec<RecordHash>,
    pub(super) runs: BTreeMap<RunId, RunScope>,
    /// Pages of run tables.
    pub(super) pages: BTreeSet<RecordHash>,
}

impl Scope {
    /// Reads the run tables of all heads that are asked for.
    pub(super) async fn read(auditor: &mut Auditor<'_>) -> Self {
        let tables = TableReader::new(
            auditor.desk.archive.anchor,
            std::sync::Arc::clone(&auditor.desk.book),
            auditor.survey,
        );
        let mut scope = Self::default();
        let asked = &auditor.request.datasets;
        let wanted = auditor.survey.found.values().filter(|found| {
            let dataset = found.head.dataset;
            asked.as_ref().is_none_or(|asked| asked.contains(&dataset))
        });
        let wanted: Vec<_> = wanted.collect();
        for found in wanted {
            scope.heads.push(found.hash);
            match tables.read(&found.head).await {
                Ok(table) => {
                    scope.pages.extend(&found.head.run_pages);
                    for entry in table.runs() {
                        scope.add(auditor, found.head.run, entry);
                    }
                }
                Err(error) => {
                    let lost = match &error {
                        TableError::Page(unavailable) => is_lost(unavailable),
                        TableError::Order { .. } => true,
                    };
                    match lost {
                        true => auditor.facts.records_lost += 1,
                        false => auditor.facts.stripes_unproven += 1,
                    }
                    let text = crate::audit::with_source(&error);
                    auditor.note("run-table", "", &format!("head {}", found.hash.to_hex()), None, &text);
                }
            }
        }
        scope
    }

    fn add(&mut self, auditor: &mut Auditor<'_>, home: RunId, entry: &RunEntry) {
        let known = self.runs.entry(entry.run).or_insert_with(|| RunScope {
            entry: RunEntry {
                run: entry.run,
                commitment: entry.commitment,
                live: exclave_model::LiveSet::new(),
                ledgers: Vec::new(),
            },
            homes: BTreeSet::new(),
            parts: HashSet::new(),
        });
        if known.entry.commitment != entry.commitment {
            auditor.facts.alarms += 1;
            let run = entry.run.to_hex();
            auditor.note(
                "commitment",
                "",
                &run,
                None,
                "two heads commit to different keys of this run",
            );
        }
        known.homes.insert(home);
        known.entry.live.merge(&entry.live);
        let new = entry.ledgers.iter().filter(|hash| known.parts.insert(**hash));
        known.entry.ledgers.extend(new);
    }

    /// The newest heads of the datasets that are asked for.
    pub(super) fn newest<'s>(&'s self, survey: &'s Survey) -> impl Iterator<Item = RecordHash> + 's {
        let newest = survey.heads.datasets().into_iter().flat_map(|dataset| {
            let heads = survey.heads.newest(dataset);
            heads.into_iter().map(|head| head.hash).collect::<Vec<_>>()
        });
        newest.filter(|hash| self.heads.contains(hash))
    }

    /// True when some head needs a ledger part.
    pub(super) fn needs_part(&self, hash: RecordHash) -> bool {
        self.runs.values().any(|run| run.parts.contains(&hash))
    }
}

/// True when every store that was asked answered, and none has it.
pub(super) fn is_lost(unavailable: &Unavailable) -> bool {
    let gone = |(_, problem): &(String, Problem)| matches!(problem, Problem::Missing | Problem::Corrupt);
    unavailable.answers.iter().all(gone)
}
