//! What lies beneath at a store over the network.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};

use super::RemoteSite;
use super::bucket::versions::Line;
use crate::SiteError;
use crate::error::{Failure, Operation};
use crate::memory::short_read;
use crate::retention::Versioning;
use crate::versions::{Locked, NameVersions, Pile, VersionId, VersionListing, Versions};

#[async_trait]
impl Versions for RemoteSite {
    async fn are_kept(&self) -> Result<bool, SiteError> {
        match self.bucket.versioning().await {
            Ok(versioning) => Ok(versioning != Versioning::Off),
            Err(refusal) => Err(self.refuse(Operation::Versioning, refusal)),
        }
    }

    async fn versions_of(&self, name: &ObjectName, kept_max: usize) -> Result<NameVersions, SiteError> {
        let key = self.key(name);
        let mut pile = Pile::new(name.clone(), kept_max);
        let each = |line: Line| {
            // Keys that only begin like ours come after it.
            if line.key == key {
                pile.push(line.version);
                return ControlFlow::Continue(());
            }
            match line.key.as_str() > key.as_str() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let listed = self.bucket.versions(&key, each).await;
        listed.map_err(|refusal| self.refuse(Operation::ListVersions, refusal).object(name))?;
        Ok(pile.finish())
    }

    async fn list_versions(
        &self,
        prefix: &Prefix,
        names_max: usize,
        kept_max: usize,
    ) -> Result<VersionListing, SiteError> {
        let mut listing = VersionListing {
            complete: true,
            ..VersionListing::default()
        };
        let mut piles: BTreeMap<ObjectName, Pile> = BTreeMap::new();
        let each = |line: Line| {
            let name = line
                .key
                .strip_prefix(&self.prefix)
                .and_then(|name| ObjectName::parse(name).ok());
            let Some(name) = name.filter(|name| prefix.contains(name)) else {
                listing.ignored = listing.ignored.saturating_add(1);
                return ControlFlow::Continue(());
            };
            if let Some(pile) = piles.get_mut(&name) {
                pile.push(line.version);
                return ControlFlow::Continue(());
            }
            if piles.len() >= names_max {
                listing.complete = false;
                return ControlFlow::Break(());
            }
            let mut pile = Pile::new(name, kept_max);
            pile.push(line.version);
            piles.insert(pile.name().clone(), pile);
            ControlFlow::Continue(())
        };
        let listed = self.bucket.versions(&format!("{}{prefix}", self.prefix), each).await;
        listed.map_err(|refusal| self.refuse(Operation::ListVersions, refusal).prefix(prefix))?;
        listing.names = piles.into_values().map(Pile::finish).collect();
        Ok(listing)
    }

    async fn get_version(&self, name: &ObjectName, version: &VersionId, bytes_max: u64) -> Result<Bytes, SiteError> {
        self.whole(Operation::GetVersion, name, Some(version), bytes_max).await
    }

    async fn get_version_range(
        &self,
        name: &ObjectName,
        version: &VersionId,
        range: Range<u64>,
    ) -> Result<Bytes, SiteError> {
        let operation = Operation::GetVersionRange;
        if range.start >= range.end {
            // No server can be asked for nothing.
            let (wanted, got) = short_read(&range, 0);
            return match range.start == range.end {
                true => Ok(Bytes::new()),
                false => Err(self.fail(operation, name, Failure::ShortRead { wanted, got })),
            };
        }
        self.part(operation, name, Some(version), range).await
    }

    async fn lock_of(&self, name: &ObjectName, version: Option<&VersionId>) -> Result<Option<Locked>, SiteError> {
        let locked = self.bucket.lock_of(&self.key(name), version).await;
        locked.map_err(|refusal| self.refuse(Operation::LockOf, refusal).object(name))
    }
}
