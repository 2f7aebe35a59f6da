//! Another try, where that may help.
//!
//! Only failures whose class says so are tried again ([`crate::Class::is_retryable`]): never denied, missing, full or too long.
//! An operation has 8 attempts. A run has a budget per site, 100 retries and 1 % of its operations, so that a site that
//! fails half the time is soon given up instead of being asked twice for everything (THREATS D5). The wait before attempt i + 1
//! is drawn from 0 to `base` x 2^i, at most `wait_max` ("full jitter").
//!
//! Operations share what they learn, when a [`Watch`] is given: an operation that fails while others fail as well is not
//! tried to the end, and none is begun at a site that is known to be down. Who decides that is the watch, not this layer.
//!
//! A put that succeeds at a later attempt returns [`Stored::Unknown`], whatever the site said: an earlier attempt may have been
//! applied, whole or torn, and then "already exists" is our own doing. Reading the whole object tells.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::contract::{Children, Listing, PutMode, Site, Stored};
use crate::error::{Failure, Operation};
use crate::versions::{self, Locked, NameVersions, VersionId, VersionListing, Versions};
use crate::{Body, Class, SiteAddress, SiteError};

/// Attempts of one operation, the first included.
pub const ATTEMPTS_MAX: u32 = 8;

/// Retries of one run at one site, whatever the number of its operations.
pub const RETRIES_MIN: u64 = 100;

/// Operations that earn one more retry.
pub const OPERATIONS_PER_RETRY: u64 = 100;

/// Draws waits: returns a number from 0 to the given one, both included. Jitter needs no secrecy.
pub trait Jitter: Send + Sync {
    /// A number of microseconds from 0 to `most`.
    fn draw(&self, most: u64) -> u64;
}

impl<F: Fn(u64) -> u64 + Send + Sync> Jitter for F {
    fn draw(&self, most: u64) -> u64 {
        self(most)
    }
}

/// Keeps an eye on a site over all operations.
pub trait Watch: Send + Sync {
    /// Asks for leave to begin an operation.
    fn may_begin(&self) -> bool;

    /// True when the site is given up, so that waiting for another attempt is in vain.
    fn is_down(&self) -> bool;

    /// An attempt was answered, whatever the answer.
    fn answered(&self);

    /// An attempt that was begun then got no answer.
    fn failed(&self, began: Instant);
}

/// Waits are cut into pieces, so that an operation which waits hears soon that the site was given up.
const WAIT_PIECE: Duration = Duration::from_millis(500);

/// How retries wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longest wait before the second attempt.
    pub base: Duration,
    /// Longest wait before any attempt.
    pub wait_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(200),
            wait_max: Duration::from_secs(20),
        }
    }
}

/// A site whose passing failures are tried again.
pub struct Retrying<S> {
    inner: S,
    patience: Patience,
    jitter: Box<dyn Jitter>,
    watch: Option<Box<dyn Watch>>,
    operations: AtomicU64,
    retries: AtomicU64,
}

impl<S: fmt::Debug> fmt::Debug for Retrying<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("inner", &self.inner)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

impl<S: Site> Retrying<S> {
    /// Puts retries around a site, for one run.
    pub fn new(inner: S, patience: Patience, jitter: impl Jitter + 'static) -> Self {
        let (operations, retries) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            inner,
            patience,
            jitter: Box::new(jitter),
            watch: None,
            operations,
            retries,
        }
    }

    /// Lets all operations share what they learn about the site.
    #[must_use]
    pub fn watched(mut self, watch: impl Watch + 'static) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// Retries so far.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Runs `act` until it succeeds, fails for good, or its attempts or the run's budget are used up; tells how many
    /// attempts it took.
    async fn persist<'a, T>(
        &self,
        operation: Operation,
        act: impl Fn() -> BoxFuture<'a, Result<T, SiteError>> + Send + Sync,
    ) -> Result<(T, u32), SiteError> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        if self.watch.as_ref().is_some_and(|watch| !watch.may_begin()) {
            let error = SiteError::new(self.inner.address(), operation, Failure::Unreachable);
            return Err(error.because(io::Error::other("it has not answered for a while and is left alone")));
        }
        let mut attempt = 1;
        loop {
            let began = Instant::now();
            let outcome = act().await;
            self.tell(began, outcome.as_ref().err());
            match outcome {
                Ok(done) => return Ok((done, attempt)),
                Err(error) if error.is_retryable() && attempt < ATTEMPTS_MAX && self.spend() => {
                    let wait = self.wait_before(attempt);
                    tracing::debug!(%error, attempt, wait_ms = wait.as_millis(), "trying again");
                    if !self.wait(wait).await {
                        return Err(error);
                    }
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn tell(&self, began: Instant, error: Option<&SiteError>) {
        let Some(watch) = &self.watch else { return };
        match error.map(SiteError::class) {
            Some(Class::Unreachable | Class::Slow) => watch.failed(began),
            // A refusal, a failure inside or half an answer come from a site that is there.
            Some(_) | None => watch.answered(),
        }
    }

    /// Waits; false when the site was given up meanwhile.
    async fn wait(&self, wait: Duration) -> bool {
        let given_up = || self.watch.as_ref().is_some_and(|watch| watch.is_down());
        let until = Instant::now() + wait;
        loop {
            if given_up() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            tokio::time::sleep(left.min(WAIT_PIECE)).await;
        }
    }

    /// Takes one retry from the run's budget; false when there is none left.
    fn spend(&self) -> bool {
        let budget = RETRIES_MIN.saturating_add(self.operations.load(Ordering::Relaxed) / OPERATIONS_PER_RETRY);
        let spent = |retries: u64| (retries < budget).then_some(retries + 1);
        self.retries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent)
            .is_ok()
    }

    fn wait_before(&self, attempt: u32) -> Duration {
        let most = self
            .patience
            .base
            .saturating_mul(1 << attempt.saturating_sub(1).min(20))
            .min(self.patience.wait_max);
        let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.jitter.draw(most_us).min(most_us))
    }
}

#[async_trait]
impl<S: Site> Site for Retrying<S> {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        let (stored, attempts) = self
            .persist(Operation::Put, || self.inner.put(name, body.clone(), mode))
            .await?;
        Ok(if attempts == 1 { stored } else { Stored::Unknown })
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        Ok(self
            .persist(Operation::Get, || self.inner.get(name, bytes_max))
            .await?
            .0)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        Ok(self
            .persist(Operation::GetRange, || self.inner.get_range(name, range.clone()))
            .await?
            .0)
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        Ok(self.persist(Operation::Length, || self.inner.length(name)).await?.0)
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        Ok(self
            .persist(Operation::List, || self.inner.list(prefix, entries_max))
            .await?
            .0)
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        Ok(self
            .persist(Operation::ListChildren, || {
                self.inner.list_children(prefix, entries_max)
            })
            .await?
            .0)
    }

    async fn flush(&self) -> Result<(), SiteError> {
        // A failed sync may have dropped what it couldn't write; a second one would say that all is well.
        self.inner.flush().await
    }

    async fn date(&self) -> Option<i64> {
        self.inner.date().await
    }

    fn address(&self) -> &SiteAddress {
        self.inner.address()
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.inner.versions().is_some().then_some(self)
    }
}

#[async_trait]
impl<S: Site> Versions for Retrying<S> {
    async fn are_kept(&self) -> Result<bool, SiteError> {
        let below = versions::of(&self.inner, Operation::Versioning)?;
        Ok(self.persist(Operation::Versioning, || below.are_kept()).await?.0)
    }

    async fn versions_of(&self, name: &ObjectName, kept_max: usize) -> Result<NameVersions, SiteError> {
        let below = versions::of(&self.inner, Operation::ListVersions)?;
        Ok(self
            .persist(Operation::ListVersions, || below.versions_of(name, kept_max))
            .await?
            .0)
    }

    async fn list_versions(
        &self,
        prefix: &Prefix,
        names_max: usize,
        kept_max: usize,
    ) -> Result<VersionListing, SiteError> {
        let below = versions::of(&self.inner, Operation::ListVersions)?;
        Ok(self
            .persist(Operation::ListVersions, || {
                below.list_versions(prefix, names_max, kept_max)
            })
            .await?
            .0)
    }

    async fn get_version(&self, name: &ObjectName, version: &VersionId, bytes_max: u64) -> Result<Bytes, SiteError> {
        let below = versions::of(&self.inner, Operation::GetVersion)?;
        Ok(self
            .persist(Operation::GetVersion, || below.get_version(name, version, bytes_max))
            .await?
            .0)
    }

    async fn get_version_range(
        &self,
        name: &ObjectName,
        version: &VersionId,
        range: Range<u64>,
    ) -> Result<Bytes, SiteError> {
        let below = versions::of(&self.inner, Operation::GetVersionRange)?;
        Ok(self
            .persist(Operation::GetVersionRange, || {
                below.get_version_range(name, version, range.clone())
            })
            .await?
            .0)
    }

    async fn lock_of(&self, name: &ObjectName, version: Option<&VersionId>) -> Result<Option<Locked>, SiteError> {
        let below = versions::of(&self.inner, Operation::LockOf)?;
        Ok(self
            .persist(Operation::LockOf, || below.lock_of(name, version))
            .await?
            .0)
    }
}
