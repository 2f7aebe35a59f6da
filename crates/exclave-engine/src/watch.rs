//! Keeps an eye on a site for its retries: the clock and the lock around the machine of `exclave-plan`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use exclave_plan::{Health, HealthLimits};
use exclave_site::layer::retrying::Watch;
use tokio::time::Instant;

/// What all operations of one run know about one site.
#[derive(Debug)]
pub struct SiteWatch {
    start: Instant,
    health: Mutex<Health>,
}

impl SiteWatch {
    /// A site of which nothing is known.
    pub fn begin() -> Self {
        Self {
            start: Instant::now(),
            health: Mutex::new(Health::new(HealthLimits::ATTEMPTS)),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Health, Duration) -> T) -> T {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut health, self.start.elapsed())
    }
}

impl Watch for SiteWatch {
    fn may_begin(&self) -> bool {
        self.with(Health::may_begin)
    }

    fn is_down(&self) -> bool {
        self.with(|health, _| health.is_down())
    }

    fn answered(&self) {
        self.with(|health, _| health.answered());
    }

    fn failed(&self, began: Instant) {
        let began = began.saturating_duration_since(self.start);
        self.with(|health, now| health.failed(began, now));
    }
}
