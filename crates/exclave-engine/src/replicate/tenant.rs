//! What the charter and a class's administrators say of the dataset that is to be replicated, before anything is written.

use std::collections::BTreeMap;

use exclave_catalog::Catalog;
use exclave_model::{ClassPolicy, KeyId, RecordError, RunId};

use super::ReplicateError;
use crate::{
    archive::Archive,
    registry::Registry,
    state::{AgentState, Dataset, RunNote},
    surroundings::Surroundings,
};

/// What holds for a dataset.
pub(super) struct Standing {
    pub(super) class: u32,
    /// The class's policy, and what is demanded for the dataset alone.
    pub(super) policy: ClassPolicy,
    /// What is odd about its records. Their demands hold all the same.
    pub(super) alarms: Vec<String>,
}

/// Asks the sites for the dataset's records, and the agent's memory for those that they hide.
pub(super) fn standing(
    archive: &Archive,
    state: &AgentState,
    dataset: &Dataset,
    surroundings: &Surroundings,
) -> Result<Standing, ReplicateError> {
    let charter = archive.charter();
    let class = charter.class(dataset.class);
    let policy = class
        .ok_or(ReplicateError::NoSuchClass(dataset.class))?
        .policy()
        .map_err(|rule| RecordError::Unlawful { kind: "charter", rule })?;
    let mut registry = surroundings.runtime.block_on(Registry::of(archive, dataset.id));
    let seen = state.seen_records(dataset.id)?;
    let hidden = registry.recall(dataset.id, seen.clone(), charter);
    let remembered = registry.to_remember(dataset.id);
    if remembered != seen {
        state.save_seen_records(dataset.id, &remembered)?;
    }
    let demands = |rule| ReplicateError::Demands {
        dataset: dataset.id,
        rule,
    };
    match registry.class(dataset.id).map_err(demands)? {
        Some(registered) if registered != dataset.class => {
            return Err(ReplicateError::OtherRegistration {
                dataset: dataset.id,
                class: dataset.class,
                registered,
            });
        }
        None if charter.demands_registration(dataset.class) => {
            return Err(ReplicateError::Unregistered {
                dataset: dataset.id,
                class: dataset.class,
                charter: charter.version,
            });
        }
        Some(_) | None => {}
    }
    Ok(Standing {
        class: dataset.class,
        policy: registry.policy(dataset.id, &policy).map_err(demands)?,
        alarms: registry
            .findings
            .iter()
            .map(ToString::to_string)
            .chain(hidden.iter().map(|seen| {
                format!(
                    "record {} of dataset {} was seen before, and no site shows it now; what it demands holds",
                    seen.record.version, dataset.id
                )
            }))
            .collect(),
    })
}

/// Drops the runs of writers outside this one's trust group: what they hold is sent anew.
pub(super) fn keep_trusted(
    notes: &mut BTreeMap<RunId, RunNote>,
    archive: &Archive,
    catalog: &Catalog,
    writer: KeyId,
    surroundings: &Surroundings,
) -> Result<(), ReplicateError> {
    let charter = archive.charter();
    if charter.trust_groups.is_none() {
        return Ok(());
    }
    let mut distrusted = Vec::new();
    for run in notes.keys() {
        let known = surroundings.runtime.block_on(catalog.run(*run))?;
        // Who wrote a run that the catalog does not know isn't known either.
        if !known.is_some_and(|known| charter.trusts(writer, known.record.writer)) {
            distrusted.push(*run);
        }
    }
    for run in distrusted {
        notes.remove(&run);
    }
    Ok(())
}
