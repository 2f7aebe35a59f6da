//! Refuses to begin a dataset while the sites hold datasets of this writer that its state folder does not know.
//!
//! A state folder that was restored from before a dataset's first snapshot has forgotten the dataset's id and secret. A new
//! one of the same name would send everything again, and a restore would have two to choose from. What the forgotten ones
//! are called stands in their sealed heads, which this writer can't open: a rebuild with an identity brings them back.

use std::collections::BTreeSet;

use exclave_model::DatasetId;
use exclave_seal::SigningKey;

use super::{IfForgotten, ReplicateError, ReplicateRequest};
use crate::{archive::Archive, state::AgentState, surroundings::Surroundings, survey::survey};

/// Looks for them, when the dataset is new here. Sites that don't answer hide what they hold.
pub(super) fn refuse_forgotten(
    archive: &Archive,
    state: &AgentState,
    key: &SigningKey,
    request: &ReplicateRequest,
    surroundings: &Surroundings,
) -> Result<(), ReplicateError> {
    let known = |name: &str| Ok::<_, ReplicateError>(state.datasets()?.iter().any(|dataset| dataset.name == name));
    if request.if_forgotten == IfForgotten::BeginAnew || known(&request.dataset)? {
        return Ok(());
    }
    let ours = archive.names.writer_prefix(key.id());
    let (listings, _) = surroundings.runtime.block_on(archive.list_everywhere(&ours, 1));
    if listings.values().all(|listing| listing.entries.is_empty()) {
        return Ok(());
    }
    let survey = survey(archive, surroundings)?;
    // Read after the heads: another process saves a dataset before it puts the first head of it.
    let known: BTreeSet<DatasetId> = state.datasets()?.iter().map(|dataset| dataset.id).collect();
    let own = survey.found.values().filter(|found| found.head.writer == key.id());
    let forgotten: BTreeSet<DatasetId> = own
        .map(|found| found.head.dataset)
        .filter(|id| !known.contains(id))
        .collect();
    match forgotten.len() {
        0 => Ok(()),
        datasets => Err(ReplicateError::Forgotten { datasets }),
    }
}
