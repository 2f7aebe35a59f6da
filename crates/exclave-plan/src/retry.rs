//! What is tried again, how often and when (THREATS D: 8 attempts an operation, 1 % of operations + 100 a run).
//!
//! Waits grow exponentially with *full jitter*: a wait is drawn evenly between nothing and a bound that doubles
//! (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): many clients of a site that comes back
//! spread out. The budget of a run keeps a failing site from costing a multiple of the work (no retry storm, THREATS I10).

use std::time::Duration;

/// Attempts of one operation, the first included.
pub const ATTEMPTS_MAX: u8 = 8;

/// Bound of the first wait, longer than a round trip between continents. It doubles with each attempt, to 16 s for the
/// last: by then another site or a later run does more good.
pub const FIRST_WAIT_MAX: Duration = Duration::from_millis(250);

/// Retries that a run has before any operation has earned some.
pub const RETRIES_FREE: u64 = 100;

/// Operations that earn one retry: 1 %.
pub const OPERATIONS_PER_RETRY: u64 = 100;

/// Why an operation failed, as far as trying again is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureClass {
    /// It did not happen, and may well happen next time: no connection, the site failed inside.
    Passing,
    /// The site asks for a slower pace. It did not happen.
    Throttled,
    /// The reply got lost: it may have happened. What was put must be read before it is believed or put again.
    LostReply,
    /// It won't happen however often it is asked: denied, full, not supported, or the caller gave the site up.
    Lasting,
}

impl FailureClass {
    /// True when asking again can help.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Passing | Self::Throttled | Self::LostReply => true,
            Self::Lasting => false,
        }
    }
}

/// The waits of one operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Backoff {
    failures: u8,
}

/// Why an operation is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    /// Asking again can't help.
    #[error("trying again can't help")]
    Lasting,
    /// The operation was tried often enough.
    #[error("it failed {ATTEMPTS_MAX} times")]
    Attempts,
    /// The run has used its retries.
    #[error("the run has used its budget of {allowed} retries")]
    Budget {
        /// Retries the run had.
        allowed: u64,
    },
}

impl Backoff {
    /// An operation that has not failed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Attempts that have failed.
    pub fn failures(&self) -> u8 {
        self.failures
    }

    /// Takes note of a failed attempt. Returns how long to wait before the next, `None` when there is none. `jitter` is
    /// 64 random bits.
    pub fn next(&mut self, jitter: u64) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= ATTEMPTS_MAX {
            return None;
        }
        let doublings = u32::from(self.failures - 1);
        let bound = FIRST_WAIT_MAX.saturating_mul(1 << doublings);
        // The bound times a fraction of 2^64: below the bound, and evenly spread.
        let nanos = bound.as_nanos().saturating_mul(u128::from(jitter)) >> u64::BITS;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Takes note of a failed attempt of a class, within the budget of the run. Returns how long to wait.
    pub fn after(&mut self, class: FailureClass, budget: &mut RetryBudget, jitter: u64) -> Result<Duration, GaveUp> {
        if !class.is_retryable() {
            return Err(GaveUp::Lasting);
        }
        let wait = self.next(jitter).ok_or(GaveUp::Attempts)?;
        budget.take()?;
        Ok(wait)
    }
}

/// The retries of one run, for all its operations together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RetryBudget {
    operations: u64,
    retries: u64,
}

impl RetryBudget {
    /// A run that has done nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of an operation that is begun for the first time.
    pub fn began(&mut self) {
        self.operations = self.operations.saturating_add(1);
    }

    /// Retries that the operations so far allow.
    pub fn allowed(&self) -> u64 {
        RETRIES_FREE.saturating_add(self.operations / OPERATIONS_PER_RETRY)
    }

    /// Retries used.
    pub fn used(&self) -> u64 {
        self.retries
    }

    /// Uses one retry.
    pub fn take(&mut self) -> Result<(), GaveUp> {
        let allowed = self.allowed();
        if self.retries >= allowed {
            return Err(GaveUp::Budget { allowed });
        }
        self.retries += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let mut backoff = Backoff::new();
        let bounds: Vec<Duration> = std::iter::from_fn(|| backoff.next(u64::MAX)).collect();
        let millis: Vec<u128> = bounds.iter().map(|wait| wait.as_nanos().div_ceil(1_000_000)).collect();
        assert_eq!(millis, [250, 500, 1000, 2000, 4000, 8000, 16000]);
        assert_eq!(bounds.len() + 1, usize::from(ATTEMPTS_MAX));
        assert_eq!(backoff.next(0), None);
    }

    #[test]
    fn jitter_reaches_from_nothing_to_the_bound() {
        let first = |jitter| Backoff::new().next(jitter).unwrap();
        assert_eq!(first(0), Duration::ZERO);
        assert_eq!(first(u64::MAX / 2 + 1), FIRST_WAIT_MAX / 2);
        assert!(first(u64::MAX) < FIRST_WAIT_MAX);
    }

    #[test]
    fn a_run_retries_one_percent_and_a_hundred() {
        let mut budget = RetryBudget::new();
        (0..1000).for_each(|_| budget.began());
        let granted = std::iter::from_fn(|| budget.take().ok()).count();
        assert_eq!(granted, 110);
        assert_eq!(budget.take(), Err(GaveUp::Budget { allowed: 110 }));
        (0..100).for_each(|_| budget.began());
        assert_eq!(budget.take(), Ok(()));
    }

    #[test]
    fn lasting_failures_cost_nothing_and_end_at_once() {
        let (mut backoff, mut budget) = (Backoff::new(), RetryBudget::new());
        assert_eq!(
            backoff.after(FailureClass::Lasting, &mut budget, 1),
            Err(GaveUp::Lasting)
        );
        assert_eq!((backoff.failures(), budget.used()), (0, 0));
        for class in [FailureClass::Passing, FailureClass::Throttled, FailureClass::LostReply] {
            assert!(backoff.after(class, &mut budget, 1).is_ok());
        }
        assert_eq!((backoff.failures(), budget.used()), (3, 3));
    }
}
