//! What a run met, held against what the state folder remembers of earlier ones (see [`exclave_plan::tripwire`]).
//!
//! What is remembered is a few numbers beside each dataset. Without them, after `catalog rebuild` or at the first run, there
//! is nothing to compare with: no wire trips, and the run lays the ground anew.

use exclave_model::DatasetId;
use exclave_plan::tripwire::{Activity, Before, Extent, Habit, Trip, TripwireLimits, trips};
use minicbor::{Decode, Encode};

use crate::{
    local,
    state::{AgentState, StateError, decode, encode},
};

/// What to do about a run that trips wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tripwires {
    /// From which share on.
    pub limits: TripwireLimits,
    /// Someone has said that the source changed on purpose: nothing trips, and what is now is the new habit.
    pub expected: bool,
}

/// What a run is compared with, and what it tripped.
pub(super) struct Judged {
    pub(super) trips: Vec<Trip>,
    remember: Before,
}

impl Judged {
    /// Judges what a run met.
    pub(super) fn of(
        state: &AgentState,
        dataset: DatasetId,
        source_digest: &[u8; 32],
        activity: &Activity,
        tripwires: &Tripwires,
    ) -> Result<Self, StateError> {
        let before = state.before(dataset)?;
        let trips = match (&before, tripwires.expected) {
            (Some(before), false) => trips(before, source_digest, activity, &tripwires.limits),
            (Some(_), true) | (None, _) => Vec::new(),
        };
        // A run that tripped something says nothing about what is usual.
        let habit = match (before, tripwires.expected) {
            (Some(before), _) if !trips.is_empty() => before.habit,
            (Some(before), false) => before.habit.after(activity),
            // Whatever a first run read, it didn't read again.
            (Some(_), true) | (None, _) => Habit::default().after(&Activity {
                anew: true,
                ..*activity
            }),
        };
        Ok(Self {
            trips,
            remember: Before {
                extent: activity.now,
                habit,
                source_digest: *source_digest,
            },
        })
    }

    /// Keeps what the next run is compared with; once this one is committed.
    pub(super) fn remember(&self, state: &AgentState, dataset: DatasetId) -> Result<(), StateError> {
        state.save_before(dataset, &self.remember)
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct BeforeFile {
    #[n(0)]
    version: u8,
    #[n(1)]
    files: u64,
    #[n(2)]
    bytes: u64,
    #[n(3)]
    new: u64,
    #[n(4)]
    stored: u64,
    #[n(5)]
    again: u64,
    #[n(6)]
    again_known: u64,
    #[cbor(n(7), with = "minicbor::bytes")]
    source_digest: [u8; 32],
}

const VERSION: u8 = 1;

impl AgentState {
    /// What the dataset's next run is compared with; `None` when nothing is known. A file of another version is passed over:
    /// it costs one run's comparison.
    fn before(&self, dataset: DatasetId) -> Result<Option<Before>, StateError> {
        let path = self.dataset_path(dataset, "before");
        let Some(bytes) = local::read(&path)? else {
            return Ok(None);
        };
        let file: BeforeFile = decode(&path, &bytes)?;
        Ok((file.version == VERSION).then_some(Before {
            extent: Extent {
                files: file.files,
                bytes: file.bytes,
            },
            habit: Habit {
                new: file.new,
                stored: file.stored,
                again: file.again,
                again_known: file.again_known,
            },
            source_digest: file.source_digest,
        }))
    }

    fn save_before(&self, dataset: DatasetId, before: &Before) -> Result<(), StateError> {
        let file = BeforeFile {
            version: VERSION,
            files: before.extent.files,
            bytes: before.extent.bytes,
            new: before.habit.new,
            stored: before.habit.stored,
            again: before.habit.again,
            again_known: before.habit.again_known,
            source_digest: before.source_digest,
        };
        Ok(local::replace(&self.dataset_path(dataset, "before"), &encode(&file))?)
    }
}
