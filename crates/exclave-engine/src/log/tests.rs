//! What a log costs, and what becomes of one that grows past its first bundle.

use std::collections::BTreeSet;

use exclave_model::{Incarnation, RecordHash};
use exclave_seal::SeededEntropy;

use super::{
    read::read_logs,
    write::{CommittedHead, LogError, log_head},
};
use crate::{
    state::AgentState,
    testing::{WRITER, World, signing_key},
};

fn head(seq: u64) -> CommittedHead {
    let hash = |seq: u64| RecordHash::of(&seq.to_be_bytes());
    CommittedHead {
        incarnation: Incarnation::from_bytes([7; 16]),
        seq,
        hash: hash(seq),
        previous: seq.checked_sub(1).map(hash),
        charter_version: 1,
    }
}

fn log(world: &World, state: &AgentState, seq: u64) -> Result<super::Logged, LogError> {
    let key = signing_key(WRITER);
    log_head(
        &world.archive,
        state,
        &key,
        head(seq),
        &BTreeSet::new(),
        &world.surroundings,
    )
}

fn state(folder: &std::path::Path) -> AgentState {
    AgentState::set_up(folder, &signing_key(WRITER), &mut SeededEntropy::new(1)).unwrap()
}

/// The figures that the decision record gives.
#[test]
fn a_thousand_commits_stay_small() {
    let world = World::new(2, 1, 1);
    let folder = tempfile::tempdir().unwrap();
    let state = state(folder.path());
    for seq in 0..1000 {
        log(&world, &state, seq).unwrap();
    }
    let objects = world.sites[0].disk().objects();
    let of_log = objects.iter().filter(|(name, _)| name.as_str().contains("/log/"));
    let (count, bytes) = of_log.fold((0, 0), |(count, bytes), (_, object)| (count + 1, bytes + object.len()));
    // A checkpoint and a bundle each, and three full tiles: the log has one charter and 1,000 heads.
    assert_eq!((count, bytes), (2003, 10_303_288));
    let logs = world.surroundings.runtime.block_on(read_logs(&world.archive));
    let [log] = logs.logs.as_slice() else {
        panic!("one log was written");
    };
    assert_eq!(
        (log.entries.len(), log.checkpoints.len(), log.findings.len()),
        (1001, 1000, 0)
    );
    assert_eq!(log.proven.map(|(size, _)| size), Some(1001));
    // Tiles for others: four bundles, four tiles of leaves, one above.
    assert_eq!(log.tiles().len(), 9);
}

/// A head of which the log has none of the heads before, and no site shows them.
#[test]
fn a_gap_is_told_and_logs_nothing() {
    let world = World::new(2, 1, 1);
    let folder = tempfile::tempdir().unwrap();
    let state = state(folder.path());
    log(&world, &state, 0).unwrap();
    assert!(matches!(log(&world, &state, 2), Err(LogError::Gap { seq: 1 })));
    log(&world, &state, 1).unwrap();
    assert_eq!(log(&world, &state, 2).unwrap().checkpoint.checkpoint.size, 4);
    // The same head again, as after a death: the same bytes.
    let (first, again) = (log(&world, &state, 2).unwrap(), log(&world, &state, 2).unwrap());
    assert_eq!(first.checkpoint, again.checkpoint);
}
