//! Limits towards a site: requests at the same time, bytes per second each way.
//!
//! A bucket of tokens (one a byte) fills at the allowed rate up to one second's worth. An operation takes its bytes before it
//! starts and may run the bucket into debt; who comes next waits until the debt is paid. So a shard larger than a second's
//! worth passes, and the rate holds on average. What a get will weigh isn't known before, so it pays afterwards.
//!
//! Puts wait for all others. A shard counts when it was read back, so a read-back that queued behind all puts of a slow line
//! would leave what has arrived uncounted; and a put that waits for bandwidth holds no request.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::contract::{Children, Listing, PutMode, Site, Stored};
use crate::error::Operation;
use crate::versions::{self, Locked, NameVersions, VersionId, VersionListing, Versions};
use crate::{Body, SiteAddress, SiteError, SiteSettings};

/// How much a site may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests at the same time; 0 counts as 1.
    pub requests_in_flight_max: u32,
    /// Bytes sent per second; none is no limit.
    pub upload_per_second_max: Option<u64>,
    /// Bytes received per second; none is no limit.
    pub download_per_second_max: Option<u64>,
}

impl From<&SiteSettings> for Limits {
    fn from(settings: &SiteSettings) -> Self {
        Self {
            requests_in_flight_max: settings.requests_in_flight_max,
            upload_per_second_max: settings.upload_per_second_max.map(|count| count.0),
            download_per_second_max: settings.download_per_second_max.map(|count| count.0),
        }
    }
}

/// A site that is asked for no more than its limits. Whoever has to wait, waits in order, puts behind all others.
#[derive(Debug)]
pub struct Limited<S> {
    inner: S,
    requests: Semaphore,
    /// Operations other than puts that wait for a request.
    waiting: AtomicUsize,
    upload: Option<Bucket>,
    download: Option<Bucket>,
}

impl<S: Site> Limited<S> {
    /// Puts limits around a site.
    pub fn new(inner: S, limits: &Limits) -> Self {
        let requests = usize::try_from(limits.requests_in_flight_max.max(1)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            inner,
            requests: Semaphore::new(requests.min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            upload: limits.upload_per_second_max.map(Bucket::new),
            download: limits.download_per_second_max.map(Bucket::new),
        }
    }

    /// Waits for a free request. The semaphore is never closed, so there always is a turn.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let _waits = Waiting::begin(&self.waiting);
        self.requests.acquire().await.ok()
    }

    /// The same for a put, which goes to the end of the queue as long as others wait.
    async fn last_turn(&self) -> Option<SemaphorePermit<'_>> {
        loop {
            let permit = self.requests.acquire().await.ok()?;
            if self.waiting.load(Ordering::SeqCst) == 0 {
                return Some(permit);
            }
            // The one who comes next in the queue has it at once; this put is queued anew when it asks again.
            drop(permit);
            tokio::task::yield_now().await;
        }
    }

    async fn paid(&self, read: Result<Bytes, SiteError>) -> Result<Bytes, SiteError> {
        if let (Some(bucket), Ok(bytes)) = (&self.download, &read) {
            bucket.take(bytes.len() as u64);
        }
        read
    }

    async fn solvent(bucket: Option<&Bucket>) {
        if let Some(bucket) = bucket {
            bucket.wait_until_solvent().await;
        }
    }
}

/// One that waits, until it is dropped: also when its operation is cancelled.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Tokens for bytes.
#[derive(Debug)]
struct Bucket {
    per_second: u64,
    level: Mutex<Level>,
}

/// What is in a bucket: negative when in debt.
#[derive(Debug)]
struct Level {
    tokens: i128,
    at: Instant,
}

impl Bucket {
    fn new(per_second: u64) -> Self {
        let per_second = per_second.max(1);
        Self {
            per_second,
            level: Mutex::new(Level {
                tokens: i128::from(per_second),
                at: Instant::now(),
            }),
        }
    }

    fn take(&self, bytes: u64) {
        self.with_level(|level| level.tokens -= i128::from(bytes));
    }

    async fn wait_until_solvent(&self) {
        loop {
            let debt = self.with_level(|level| -level.tokens);
            if debt < 0 {
                return;
            }
            // Rounded up, so that one wait suffices when nobody else takes.
            let wait_us = (debt + 1) * 1_000_000 / i128::from(self.per_second) + 1;
            tokio::time::sleep(Duration::from_micros(u64::try_from(wait_us).unwrap_or(u64::MAX))).await;
        }
    }

    fn with_level<T>(&self, act: impl FnOnce(&mut Level) -> T) -> T {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let elapsed_us = i128::try_from(now.duration_since(level.at).as_micros()).unwrap_or(i128::MAX);
        let gained = elapsed_us.saturating_mul(i128::from(self.per_second)) / 1_000_000;
        // Less than a token's time stays on the clock: polling often must not lose it.
        if gained > 0 {
            level.tokens = level.tokens.saturating_add(gained).min(i128::from(self.per_second));
            level.at = now;
        }
        act(&mut level)
    }
}

#[async_trait]
impl<S: Site> Site for Limited<S> {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        Self::solvent(self.upload.as_ref()).await;
        if let Some(bucket) = &self.upload {
            bucket.take(body.len());
        }
        let _turn = self.last_turn().await;
        self.inner.put(name, body, mode).await
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        let _turn = self.turn().await;
        Self::solvent(self.download.as_ref()).await;
        self.paid(self.inner.get(name, bytes_max).await).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        let _turn = self.turn().await;
        Self::solvent(self.download.as_ref()).await;
        self.paid(self.inner.get_range(name, range).await).await
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        let _turn = self.turn().await;
        self.inner.length(name).await
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let _turn = self.turn().await;
        self.inner.list(prefix, entries_max).await
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        let _turn = self.turn().await;
        self.inner.list_children(prefix, entries_max).await
    }

    async fn flush(&self) -> Result<(), SiteError> {
        let _turn = self.turn().await;
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
impl<S: Site> Versions for Limited<S> {
    async fn are_kept(&self) -> Result<bool, SiteError> {
        let _turn = self.turn().await;
        versions::of(&self.inner, Operation::Versioning)?.are_kept().await
    }

    async fn versions_of(&self, name: &ObjectName, kept_max: usize) -> Result<NameVersions, SiteError> {
        let _turn = self.turn().await;
        versions::of(&self.inner, Operation::ListVersions)?
            .versions_of(name, kept_max)
            .await
    }

    async fn list_versions(
        &self,
        prefix: &Prefix,
        names_max: usize,
        kept_max: usize,
    ) -> Result<VersionListing, SiteError> {
        let _turn = self.turn().await;
        let below = versions::of(&self.inner, Operation::ListVersions)?;
        below.list_versions(prefix, names_max, kept_max).await
    }

    async fn get_version(&self, name: &ObjectName, version: &VersionId, bytes_max: u64) -> Result<Bytes, SiteError> {
        let _turn = self.turn().await;
        Self::solvent(self.download.as_ref()).await;
        let below = versions::of(&self.inner, Operation::GetVersion)?;
        self.paid(below.get_version(name, version, bytes_max).await).await
    }

    async fn get_version_range(
        &self,
        name: &ObjectName,
        version: &VersionId,
        range: Range<u64>,
    ) -> Result<Bytes, SiteError> {
        let _turn = self.turn().await;
        Self::solvent(self.download.as_ref()).await;
        let below = versions::of(&self.inner, Operation::GetVersionRange)?;
        self.paid(below.get_version_range(name, version, range).await).await
    }

    async fn lock_of(&self, name: &ObjectName, version: Option<&VersionId>) -> Result<Option<Locked>, SiteError> {
        let _turn = self.turn().await;
        versions::of(&self.inner, Operation::LockOf)?
            .lock_of(name, version)
            .await
    }
}
