//! Datasets against their classes: which ones an administrator added, and which ones nobody did.
//!
//! Ids alone; what they are called stands in the sealed directory.

use std::collections::BTreeSet;

use exclave_model::{DatasetId, RunId};

use super::{Auditor, records::Records, scope::Scope};

/// A dataset that has snapshots, or was added and has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetAudit {
    /// Its id.
    pub dataset: DatasetId,
    /// Its class, by its records or its run's envelope; `None` when neither was shown.
    pub class: Option<u32>,
    /// The version of its newest record that counts; `None` when nobody added it.
    pub registered: Option<u32>,
    /// True when its class takes only datasets that were added.
    pub demanded: bool,
    /// True when a head of it counts.
    pub has_snapshots: bool,
}

/// Holds datasets against the records that the sites show.
pub(super) fn look(auditor: &mut Auditor<'_>, scope: &Scope, records: &Records) -> Vec<DatasetAudit> {
    let registry = records.registry();
    let runs: Vec<(DatasetId, RunId)> = scope
        .heads
        .iter()
        .filter_map(|hash| auditor.survey.found.get(hash))
        .map(|found| (found.head.dataset, found.head.run))
        .collect();
    let mut ids: BTreeSet<DatasetId> = runs.iter().map(|(dataset, _)| *dataset).collect();
    match &auditor.request.datasets {
        None => ids.extend(registry.datasets()),
        Some(wanted) => ids.extend(registry.datasets().filter(|dataset| wanted.contains(dataset))),
    }
    let findings = registry.findings.iter().map(|finding| {
        let object = "datasets".to_owned();
        (object, finding.to_string())
    });
    let mut notes: Vec<(String, String)> = findings.collect();
    auditor.facts.alarms += notes.len() as u64;
    let mut seen = Vec::new();
    for dataset in ids {
        let archive = &auditor.desk.archive;
        let of_it = || runs.iter().filter(|(of, _)| *of == dataset).map(|(_, run)| *run);
        let class = match registry.class(dataset) {
            Ok(Some(class)) => Some(class),
            Ok(None) => of_it().find_map(|run| records.class(archive, run).map(|class| class.id)),
            Err(rule) => {
                auditor.facts.alarms += 1;
                notes.push((dataset.to_hex(), rule.to_string()));
                None
            }
        };
        let demanded = class.is_some_and(|class| archive.charter().demands_registration(class));
        let registered = registry.newest(dataset).map(|found| found.record.version);
        if demanded && registered.is_none() {
            auditor.facts.datasets_unregistered += 1;
            let class = class.unwrap_or_default();
            notes.push((dataset.to_hex(), format!("no administrator of class {class} added it")));
        }
        seen.push(DatasetAudit {
            dataset,
            class,
            registered,
            demanded,
            has_snapshots: of_it().next().is_some(),
        });
    }
    for (object, detail) in notes {
        auditor.note("dataset", "", &object, None, &detail);
    }
    seen
}
