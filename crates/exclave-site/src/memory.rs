//! A site in this process, for tests and simulations.
//!
//! [`MemoryStore`] is the disk: its clones share it, so what an engine put before it "crashed" is there when another
//! is started over the same store.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};

use crate::contract::{Children, Destroy, Entry, Listing, PutMode, Site, Stored};
use crate::error::{Failure, Operation};
use crate::retention::{ObjectLock, Retention, Versioning};
use crate::{BadAddress, Body, SiteAddress, SiteError};

/// Objects by name, shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<BTreeMap<ObjectName, Bytes>>>);

impl MemoryStore {
    /// All names with their bytes, sorted by name.
    pub fn objects(&self) -> Vec<(ObjectName, Bytes)> {
        self.with(|map| map.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect())
    }

    /// An object's bytes.
    pub fn read(&self, name: &ObjectName) -> Option<Bytes> {
        self.with(|map| map.get(name).cloned())
    }

    /// Puts an object behind the site's back and returns what was there.
    pub fn plant(&self, name: &ObjectName, bytes: Bytes) -> Option<Bytes> {
        self.with(|map| map.insert(name.clone(), bytes))
    }

    /// Removes an object behind the site's back and returns what was there.
    pub fn remove(&self, name: &ObjectName) -> Option<Bytes> {
        self.with(|map| map.remove(name))
    }

    /// Removes everything: the site's host lost its disks.
    pub fn clear(&self) {
        self.with(BTreeMap::clear);
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<ObjectName, Bytes>) -> T) -> T {
        // Nothing that runs under the lock leaves the map half changed.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

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

    fn read(&self, operation: Operation, name: &ObjectName) -> Result<Bytes, SiteError> {
        self.store
            .read(name)
            .ok_or_else(|| SiteError::new(&self.address, operation, Failure::Missing).object(name))
    }
}

#[async_trait]
impl Site for MemorySite {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        let bytes = body.to_bytes();
        Ok(self.store.with(|map| match (mode, map.contains_key(name)) {
            (PutMode::Create, true) => Stored::AlreadyExists,
            (PutMode::Create, false) | (PutMode::Plain, _) => {
                map.insert(name.clone(), bytes);
                Stored::Created
            }
        }))
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        let bytes = self.read(Operation::Get, name)?;
        let length = bytes.len() as u64;
        if length > bytes_max {
            let failure = Failure::TooLong {
                length: Some(length),
                bytes_max,
            };
            return Err(SiteError::new(&self.address, Operation::Get, failure).object(name));
        }
        Ok(bytes)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        let bytes = self.read(Operation::GetRange, name)?;
        let length = bytes.len() as u64;
        if range.end > length || range.start > range.end {
            let (wanted, got) = short_read(&range, length);
            let failure = Failure::ShortRead { wanted, got };
            return Err(SiteError::new(&self.address, Operation::GetRange, failure).object(name));
        }
        // Both ends are within the buffer's length, so they fit.
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        Ok(self.read(Operation::Length, name)?.len() as u64)
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let below = |name: &&ObjectName| prefix.contains(name);
        let mut entries: Vec<Entry> = self.store.with(|map| {
            let all = map.iter().filter(|(name, _)| below(name));
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
        let everything = self
            .store
            .with(|map| map.iter().map(|(name, bytes)| entry(name, bytes)).collect::<Vec<_>>());
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
        None
    }

    fn address(&self) -> &SiteAddress {
        &self.address
    }
}

#[async_trait]
impl Destroy for MemorySite {
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError> {
        self.store.remove(name);
        Ok(())
    }

    async fn sweep(&self) -> Result<u64, SiteError> {
        Ok(0)
    }
}

#[async_trait]
impl Retention for MemorySite {
    async fn versioning(&self, _sample: &ObjectName) -> Result<Versioning, SiteError> {
        Ok(Versioning::Off)
    }

    async fn object_lock(&self) -> Result<ObjectLock, SiteError> {
        Ok(ObjectLock::None)
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
