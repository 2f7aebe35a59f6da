//! A site in this process, for tests and simulations.
//!
//! [`MemoryStore`] is the disk: its clones share it, so what an engine put before it "crashed" is there when another
//! is started over the same store. It may keep versions, and lock them.

mod disk;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};

pub use self::disk::MemoryStore;
use crate::contract::{Children, Destroy, Entry, Listing, PutMode, Site, Stored};
use crate::error::{Failure, Operation};
use crate::retention::{Keep, LockMode, ObjectLock, Retention, Versioning};
use crate::versions::{self, Locked, NameVersions, VersionId, VersionListing, Versions};
use crate::{BadAddress, Body, SiteAddress, SiteError};

/// A site over a [`MemoryStore`].
#[derive(Debug, Clone)]
pub struct MemorySite {
    address: SiteAddress,
    store: MemoryStore,
}

impl MemorySite {
    /// A new, empty site; its address is `memory://name`.
    pub fn new(name: &str) -> Result<Self, BadAddress> {
        Ok(Self::over(
            SiteAddress::parse(&format!("memory://{name}"))?,
            MemoryStore::default(),
        ))
    }

    /// A site over a store that may have been used before.
    pub fn over(address: SiteAddress, store: MemoryStore) -> Self {
        Self { address, store }
    }

    /// What lies in it.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    fn fail(&self, operation: Operation, name: &ObjectName, failure: Failure) -> SiteError {
        SiteError::new(&self.address, operation, failure).object(name)
    }

    fn read(&self, operation: Operation, name: &ObjectName) -> Result<Bytes, SiteError> {
        let bytes = self.store.read(name);
        bytes.ok_or_else(|| self.fail(operation, name, Failure::Missing))
    }

    fn read_version(&self, operation: Operation, name: &ObjectName, version: &VersionId) -> Result<Bytes, SiteError> {
        let bytes = self.store.with(|disk| disk.version(name, version)?.bytes.clone());
        bytes.ok_or_else(|| self.fail(operation, name, Failure::Missing))
    }

    fn whole(&self, operation: Operation, name: &ObjectName, bytes: Bytes, bytes_max: u64) -> Result<Bytes, SiteError> {
        let length = bytes.len() as u64;
        if length > bytes_max {
            let length = Some(length);
            return Err(self.fail(operation, name, Failure::TooLong { length, bytes_max }));
        }
        Ok(bytes)
    }

    fn part(
        &self,
        operation: Operation,
        name: &ObjectName,
        bytes: &Bytes,
        range: &Range<u64>,
    ) -> Result<Bytes, SiteError> {
        let length = bytes.len() as u64;
        if range.end > length || range.start > range.end {
            let (wanted, got) = short_read(range, length);
            return Err(self.fail(operation, name, Failure::ShortRead { wanted, got }));
        }
        // Both ends are within the buffer's length, so they fit.
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }
}

#[async_trait]
impl Site for MemorySite {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        let bytes = body.to_bytes();
        Ok(self.store.with(|disk| match (mode, disk.read(name).is_some()) {
            (PutMode::Create, true) => Stored::AlreadyExists,
            (PutMode::Create, false) | (PutMode::Plain, _) => {
                disk.put(name, Some(bytes));
                Stored::Created
            }
        }))
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        let bytes = self.read(Operation::Get, name)?;
        self.whole(Operation::Get, name, bytes, bytes_max)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        let bytes = self.read(Operation::GetRange, name)?;
        self.part(Operation::GetRange, name, &bytes, &range)
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        Ok(self.read(Operation::Length, name)?.len() as u64)
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let mut entries: Vec<Entry> = self.store.with(|disk| {
            let all = disk.objects().filter(|(name, _)| prefix.contains(name));
            all.take(entries_max.saturating_add(1))
                .map(|(name, bytes)| entry(name, bytes))
                .collect()
        });
        let complete = entries.len() <= entries_max;
        entries.truncate(entries_max);
        Ok(Listing {
            entries,
            ignored: 0,
            complete,
        })
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        let mut children = Children {
            complete: true,
            ..Children::default()
        };
        let everything = self.store.with(|disk| {
            disk.objects()
                .map(|(name, bytes)| entry(name, bytes))
                .collect::<Vec<_>>()
        });
        for entry in everything {
            let Some(rest) = entry.name.as_str().strip_prefix(prefix.as_str()) else {
                continue;
            };
            let child = match rest.split_once('/') {
                Some((first, _)) => prefix.join(first).ok().map(|name| Prefix::below(&name)),
                None => None,
            };
            if child.is_some() && children.prefixes.last() == child.as_ref() {
                continue;
            }
            if children.prefixes.len() + children.entries.len() >= entries_max {
                children.complete = false;
                break;
            }
            match child {
                Some(child) => children.prefixes.push(child),
                None => children.entries.push(entry),
            }
        }
        Ok(children)
    }

    async fn flush(&self) -> Result<(), SiteError> {
        Ok(())
    }

    async fn date(&self) -> Option<i64> {
        self.store.with(|disk| disk.lock.map(|lock| lock.now))
    }

    fn address(&self) -> &SiteAddress {
        &self.address
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.store.with(|disk| disk.keeps_versions).then_some(self)
    }
}

#[async_trait]
impl Versions for MemorySite {
    async fn are_kept(&self) -> Result<bool, SiteError> {
        Ok(self.store.with(|disk| disk.keeps_versions))
    }

    async fn versions_of(&self, name: &ObjectName, kept_max: usize) -> Result<NameVersions, SiteError> {
        Ok(self.store.with(|disk| disk.versions_of(name, kept_max)))
    }

    async fn list_versions(
        &self,
        prefix: &Prefix,
        names_max: usize,
        kept_max: usize,
    ) -> Result<VersionListing, SiteError> {
        let mut names: Vec<NameVersions> = self.store.with(|disk| {
            let below = disk.names().filter(|name| prefix.contains(name));
            let below = below.take(names_max.saturating_add(1));
            below.map(|name| disk.versions_of(name, kept_max)).collect()
        });
        let complete = names.len() <= names_max;
        names.truncate(names_max);
        Ok(VersionListing {
            names,
            ignored: 0,
            complete,
        })
    }

    async fn get_version(&self, name: &ObjectName, version: &VersionId, bytes_max: u64) -> Result<Bytes, SiteError> {
        let bytes = self.read_version(Operation::GetVersion, name, version)?;
        self.whole(Operation::GetVersion, name, bytes, bytes_max)
    }

    async fn get_version_range(
        &self,
        name: &ObjectName,
        version: &VersionId,
        range: Range<u64>,
    ) -> Result<Bytes, SiteError> {
        let bytes = self.read_version(Operation::GetVersionRange, name, version)?;
        self.part(Operation::GetVersionRange, name, &bytes, &range)
    }

    async fn lock_of(&self, name: &ObjectName, version: Option<&VersionId>) -> Result<Option<Locked>, SiteError> {
        let until = self.store.with(|disk| {
            let found = match version {
                Some(version) => disk.version(name, version),
                None => disk.newest(name),
            };
            found
                .filter(|found| found.bytes.is_some())
                .map(|found| found.locked_until)
        });
        let until = until.ok_or_else(|| self.fail(Operation::LockOf, name, Failure::Missing))?;
        let mode = LockMode::Compliance;
        Ok(until.map(|until| Locked { until, mode }))
    }
}

#[async_trait]
impl Destroy for MemorySite {
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError> {
        self.store.with(|disk| match disk.keeps_versions {
            true => disk.put(name, None),
            false => _ = disk.forget(name),
        });
        Ok(())
    }

    async fn delete_version(&self, name: &ObjectName, version: &VersionId) -> Result<(), SiteError> {
        if !self.store.with(|disk| disk.keeps_versions) {
            return Err(versions::has_none(&self.address, Operation::DeleteVersion).object(name));
        }
        match self.store.with(|disk| disk.delete_version(name, version)) {
            true => Ok(()),
            false => Err(self.fail(Operation::DeleteVersion, name, Failure::Denied)),
        }
    }

    async fn sweep(&self) -> Result<u64, SiteError> {
        Ok(0)
    }
}

#[async_trait]
impl Retention for MemorySite {
    async fn versioning(&self, _sample: &ObjectName) -> Result<Versioning, SiteError> {
        Ok(match self.store.with(|disk| disk.keeps_versions) {
            true => Versioning::Enabled,
            false => Versioning::Off,
        })
    }

    async fn object_lock(&self) -> Result<ObjectLock, SiteError> {
        Ok(match self.store.with(|disk| disk.lock) {
            Some(lock) => ObjectLock::ByDefault {
                mode: LockMode::Compliance,
                days: lock.days,
            },
            None => ObjectLock::None,
        })
    }
}

#[async_trait]
impl Keep for MemorySite {
    async fn extend(&self, name: &ObjectName, version: &VersionId, locked: Locked) -> Result<(), SiteError> {
        match self.store.with(|disk| disk.extend(name, version, locked.until)) {
            Some(true) => Ok(()),
            Some(false) => Err(self.fail(Operation::Extend, name, Failure::Denied)),
            None => Err(self.fail(Operation::Extend, name, Failure::Missing)),
        }
    }
}

/// Bytes wanted by a range and bytes that an object of this length has of it.
pub(crate) fn short_read(range: &Range<u64>, length: u64) -> (u64, u64) {
    let wanted = range.end.saturating_sub(range.start);
    (wanted, length.saturating_sub(range.start).min(wanted))
}

fn entry(name: &ObjectName, bytes: &Bytes) -> Entry {
    Entry {
        name: name.clone(),
        length: bytes.len() as u64,
    }
}
