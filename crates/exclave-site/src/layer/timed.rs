//! A deadline for every operation: the last resort against a site that trickles.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};

use crate::contract::{Children, Destroy, Listing, PutMode, Site, Stored};
use crate::error::{Failure, Operation};
use crate::retention::{Keep, ObjectLock, Retention, Versioning};
use crate::versions::{self, Locked, NameVersions, VersionId, VersionListing, Versions};
use crate::{Body, SiteAddress, SiteError};

/// A site whose operations end within a time, in tokio's clock. A put that is cut off may still be applied.
#[derive(Debug, Clone)]
pub struct Timed<S> {
    inner: S,
    operation_max: Duration,
    listing_max: Duration,
}

impl<S> Timed<S> {
    /// Gives every listing and flush `listing_max`, everything else `operation_max`.
    pub fn new(inner: S, operation_max: Duration, listing_max: Duration) -> Self {
        Self {
            inner,
            operation_max,
            listing_max,
        }
    }
}

/// Waits for `act` no longer than `waited`.
async fn within<T>(
    address: &SiteAddress,
    operation: Operation,
    waited: Duration,
    act: impl Future<Output = Result<T, SiteError>>,
) -> Result<T, SiteError> {
    match tokio::time::timeout(waited, act).await {
        Ok(done) => done,
        Err(_) => Err(SiteError::new(address, operation, Failure::Slow { waited })),
    }
}

#[async_trait]
impl<S: Site> Site for Timed<S> {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        let act = self.inner.put(name, body, mode);
        within(self.address(), Operation::Put, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        let act = self.inner.get(name, bytes_max);
        within(self.address(), Operation::Get, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        let act = self.inner.get_range(name, range);
        within(self.address(), Operation::GetRange, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        let act = self.inner.length(name);
        within(self.address(), Operation::Length, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let act = self.inner.list(prefix, entries_max);
        within(self.address(), Operation::List, self.listing_max, act)
            .await
            .map_err(|error| error.prefix(prefix))
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        let act = self.inner.list_children(prefix, entries_max);
        let children = within(self.address(), Operation::ListChildren, self.listing_max, act).await;
        children.map_err(|error| error.prefix(prefix))
    }

    async fn flush(&self) -> Result<(), SiteError> {
        within(self.address(), Operation::Flush, self.listing_max, self.inner.flush()).await
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
impl<S: Site> Versions for Timed<S> {
    async fn are_kept(&self) -> Result<bool, SiteError> {
        let below = versions::of(&self.inner, Operation::Versioning)?;
        let act = below.are_kept();
        within(self.address(), Operation::Versioning, self.operation_max, act).await
    }

    async fn versions_of(&self, name: &ObjectName, kept_max: usize) -> Result<NameVersions, SiteError> {
        let below = versions::of(&self.inner, Operation::ListVersions)?;
        let act = below.versions_of(name, kept_max);
        within(self.address(), Operation::ListVersions, self.listing_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn list_versions(
        &self,
        prefix: &Prefix,
        names_max: usize,
        kept_max: usize,
    ) -> Result<VersionListing, SiteError> {
        let below = versions::of(&self.inner, Operation::ListVersions)?;
        let act = below.list_versions(prefix, names_max, kept_max);
        within(self.address(), Operation::ListVersions, self.listing_max, act)
            .await
            .map_err(|error| error.prefix(prefix))
    }

    async fn get_version(&self, name: &ObjectName, version: &VersionId, bytes_max: u64) -> Result<Bytes, SiteError> {
        let below = versions::of(&self.inner, Operation::GetVersion)?;
        let act = below.get_version(name, version, bytes_max);
        within(self.address(), Operation::GetVersion, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn get_version_range(
        &self,
        name: &ObjectName,
        version: &VersionId,
        range: Range<u64>,
    ) -> Result<Bytes, SiteError> {
        let below = versions::of(&self.inner, Operation::GetVersionRange)?;
        let act = below.get_version_range(name, version, range);
        within(self.address(), Operation::GetVersionRange, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn lock_of(&self, name: &ObjectName, version: Option<&VersionId>) -> Result<Option<Locked>, SiteError> {
        let below = versions::of(&self.inner, Operation::LockOf)?;
        let act = below.lock_of(name, version);
        within(self.address(), Operation::LockOf, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }
}

#[async_trait]
impl<S: Site + Destroy> Destroy for Timed<S> {
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError> {
        let act = self.inner.delete(name);
        within(self.address(), Operation::Delete, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn delete_version(&self, name: &ObjectName, version: &VersionId) -> Result<(), SiteError> {
        let act = self.inner.delete_version(name, version);
        within(self.address(), Operation::DeleteVersion, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }

    async fn sweep(&self) -> Result<u64, SiteError> {
        // It looks at every name, as a listing does.
        within(self.address(), Operation::Sweep, self.listing_max, self.inner.sweep()).await
    }
}

#[async_trait]
impl<S: Site + Retention> Retention for Timed<S> {
    async fn versioning(&self, sample: &ObjectName) -> Result<Versioning, SiteError> {
        let act = self.inner.versioning(sample);
        within(self.address(), Operation::Versioning, self.operation_max, act).await
    }

    async fn object_lock(&self) -> Result<ObjectLock, SiteError> {
        let act = self.inner.object_lock();
        within(self.address(), Operation::ObjectLock, self.operation_max, act).await
    }
}

#[async_trait]
impl<S: Site + Keep> Keep for Timed<S> {
    async fn extend(&self, name: &ObjectName, version: &VersionId, locked: Locked) -> Result<(), SiteError> {
        let act = self.inner.extend(name, version, locked);
        within(self.address(), Operation::Extend, self.operation_max, act)
            .await
            .map_err(|error| error.object(name))
    }
}
