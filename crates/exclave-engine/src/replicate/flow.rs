//! What the threads of one replication share: the in-flight budget, the first failure, the wish to stop.

use std::sync::{Condvar, Mutex, PoisonError};

use super::ReplicateError;

/// The threads' common ground.
#[derive(Debug)]
pub(super) struct Flow {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    in_flight_bytes: usize,
    failure: Option<ReplicateError>,
}

/// Someone else has failed; the reason lies in the [`Flow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run has failed elsewhere")]
pub(super) struct Stopped;

impl Flow {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            bytes_max,
        }
    }

    /// Waits until `bytes` more may be in flight.
    pub(super) fn acquire(&self, bytes: usize) -> Result<(), Stopped> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.failure.is_some() {
                return Err(Stopped);
            }
            // One stripe is always let through, however large.
            if state.in_flight_bytes == 0 || state.in_flight_bytes + bytes <= self.bytes_max {
                state.in_flight_bytes += bytes;
                return Ok(());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that `bytes` have settled.
    pub(super) fn release(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(bytes);
        self.changed.notify_all();
    }

    /// Ends the run; the first failure counts.
    pub(super) fn fail(&self, failure: ReplicateError) -> Stopped {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failure.get_or_insert(failure);
        self.changed.notify_all();
        Stopped
    }

    /// Ends the run when a step failed.
    pub(super) fn check<T, E: Into<ReplicateError>>(&self, result: Result<T, E>) -> Result<T, Stopped> {
        result.map_err(|error| self.fail(error.into()))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failure
            .is_some()
    }

    pub(super) fn into_failure(self) -> Option<ReplicateError> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).failure
    }
}
