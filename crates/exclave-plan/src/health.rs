//! Whether a site is up, from what became of operations there (a circuit breaker: M. Nygard, "Release It!", 2007).
//!
//! One operation's attempts say little: a short break of the line fails all that are under way at once, and all of them
//! succeed a second later. So a site is down only when several failures came in a row, with no answer in between, and the
//! row has lasted: from the moment at which the first of them was begun, so that attempts which hang count as long as they
//! hang. While it is down nothing is asked of it; now and then one operation tries, and its answer decides.
//!
//! Times are spans since a moment of the caller's choice.

use std::time::Duration;

/// When a site counts as down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HealthLimits {
    /// Failures in a row, over all operations.
    pub failures: u32,
    /// How long the row must have lasted.
    pub silence: Duration,
}

impl HealthLimits {
    /// For single attempts. Six of them are more than the first two waits of one operation; eight seconds are longer than a
    /// switch, a proxy or a server takes to start anew, and short beside the forty that an operation's own attempts take.
    pub const ATTEMPTS: Self = Self {
        failures: 6,
        silence: Duration::from_secs(8),
    };

    /// For operations that have used up their attempts: these have waited already.
    pub const OPERATIONS: Self = Self {
        failures: 3,
        silence: Duration::ZERO,
    };
}

/// How long a site is left alone before one operation tries again. It doubles with each trial that fails.
pub const REST_MIN: Duration = Duration::from_secs(30);

/// The longest rest.
pub const REST_MAX: Duration = Duration::from_secs(480);

/// What is known about one site.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    limits: HealthLimits,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    /// It answered last, or too little has failed since.
    Up {
        failures: u32,
        /// When the first of them was begun.
        since: Duration,
    },
    /// Nothing is asked of it before `until`.
    Resting { until: Duration, rest: Duration },
    /// One operation is trying, since `began`.
    Trial { began: Duration, rest: Duration },
}

const UP: State = State::Up {
    failures: 0,
    since: Duration::ZERO,
};

impl Health {
    /// A site of which nothing is known: it is up.
    pub fn new(limits: HealthLimits) -> Self {
        Self { limits, state: UP }
    }

    /// True while nothing but a trial may be asked of the site.
    pub fn is_down(&self) -> bool {
        match self.state {
            State::Up { .. } => false,
            State::Resting { .. } | State::Trial { .. } => true,
        }
    }

    /// Asks for leave to begin an operation. When a rest is over, the first who asks gets it, as a trial; a trial that tells
    /// nothing for as long as a rest is forgotten.
    pub fn may_begin(&mut self, now: Duration) -> bool {
        let rest = match self.state {
            State::Up { .. } => return true,
            State::Resting { until, rest } if now >= until => rest,
            State::Trial { began, rest } if now >= began.saturating_add(rest) => rest,
            State::Resting { .. } | State::Trial { .. } => return false,
        };
        self.state = State::Trial { began: now, rest };
        true
    }

    /// The site answered, whatever it said.
    pub fn answered(&mut self) {
        self.state = UP;
    }

    /// The site did not answer an attempt, or an operation, that was begun at `began`.
    pub fn failed(&mut self, began: Duration, now: Duration) {
        self.state = match self.state {
            State::Up { failures, since } => {
                let since = if failures == 0 { began } else { since.min(began) };
                let failures = failures.saturating_add(1);
                let lasted = now.saturating_sub(since) >= self.limits.silence;
                if failures >= self.limits.failures && lasted {
                    rest_from(now, REST_MIN)
                } else {
                    State::Up { failures, since }
                }
            }
            State::Trial { began: trial, rest } if began >= trial => {
                rest_from(now, rest.saturating_mul(2).min(REST_MAX))
            }
            // What was under way before says nothing new.
            State::Resting { .. } | State::Trial { .. } => return,
        };
    }
}

fn rest_from(now: Duration, rest: Duration) -> State {
    State::Resting {
        until: now.saturating_add(rest),
        rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn down_at(now: u64) -> Health {
        let mut health = Health::new(HealthLimits::OPERATIONS);
        (0..3).for_each(|_| health.failed(secs(now), secs(now)));
        assert!(health.is_down());
        health
    }

    #[test]
    fn a_short_break_that_fails_everything_is_not_an_end() {
        let mut health = Health::new(HealthLimits::ATTEMPTS);
        for _ in 0..100 {
            health.failed(secs(1000), secs(1001));
        }
        assert!(!health.is_down() && health.may_begin(secs(1002)));
        health.answered();
        health.failed(secs(1010), secs(1011));
        assert!(!health.is_down(), "the row has begun anew");
    }

    #[test]
    fn failures_in_a_row_that_last_are() {
        let mut health = Health::new(HealthLimits::ATTEMPTS);
        for now in 0..8 {
            health.failed(secs(now), secs(now));
            assert!(!health.is_down());
        }
        health.failed(secs(8), secs(8));
        assert!(health.is_down() && !health.may_begin(secs(9)));
    }

    #[test]
    fn attempts_that_hang_count_from_their_beginning_in_any_order() {
        let mut health = Health::new(HealthLimits::ATTEMPTS);
        for began in [3, 1, 0, 2, 4] {
            health.failed(secs(began), secs(30));
        }
        assert!(!health.is_down(), "five are too few");
        health.failed(secs(29), secs(30));
        assert!(health.is_down());
    }

    #[test]
    fn few_failures_are_no_end_however_long_they_last() {
        let mut health = Health::new(HealthLimits::ATTEMPTS);
        for attempt in 0..5 {
            health.failed(secs(100 * attempt), secs(100 * attempt + 30));
        }
        assert!(!health.is_down());
    }

    #[test]
    fn after_a_rest_one_operation_tries_and_its_answer_decides() {
        let mut health = down_at(100);
        assert!(!health.may_begin(secs(129)));
        assert!(health.may_begin(secs(130)), "the rest is over");
        assert!(health.is_down() && !health.may_begin(secs(130)), "one tries, not all");
        // One that was under way all the time ends: that is no news.
        health.failed(secs(90), secs(131));
        assert!(!health.may_begin(secs(132)));
        health.failed(secs(130), secs(140));
        assert!(!health.may_begin(secs(199)), "the second rest is twice as long");
        assert!(health.may_begin(secs(200)));
        health.answered();
        assert!(!health.is_down() && health.may_begin(secs(201)));
    }

    #[test]
    fn a_trial_that_never_ends_is_followed_by_another() {
        let mut health = down_at(0);
        assert!(health.may_begin(secs(30)));
        assert!(!health.may_begin(secs(59)));
        assert!(health.may_begin(secs(60)));
    }

    #[test]
    fn rests_grow_to_a_bound() {
        let mut health = down_at(0);
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..7 {
            let from = now;
            while !health.may_begin(secs(now)) {
                now += 1;
            }
            rests.push(now - from);
            health.failed(secs(now), secs(now));
        }
        assert_eq!(rests, [30, 60, 120, 240, 480, 480, 480]);
    }
}
