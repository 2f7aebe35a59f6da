//! The disk of a site in memory: objects by name, each with its versions when the disk keeps them, locked when it locks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use exclave_model::ObjectName;

use crate::versions::{NameVersions, Pile, Version, VersionId};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// Objects by name, shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Disk>>);

/// What a store holds.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) keeps_versions: bool,
    pub(super) lock: Option<DefaultLock>,
    histories: BTreeMap<ObjectName, Vec<Kept>>,
    puts: u64,
}

/// How a disk locks what is put.
#[derive(Debug, Clone, Copy)]
pub(super) struct DefaultLock {
    /// For how long.
    pub(super) days: u32,
    /// The disk's clock, in seconds since 1970.
    pub(super) now: i64,
}

/// One version.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    number: u64,
    /// None for a delete marker.
    pub(super) bytes: Option<Bytes>,
    pub(super) locked_until: Option<i64>,
}

impl Kept {
    fn is(&self, version: &VersionId) -> bool {
        version.as_str().parse() == Ok(self.number)
    }
}

impl MemoryStore {
    /// A store that keeps versions.
    pub fn with_versions() -> Self {
        let store = Self::default();
        store.keep_versions();
        store
    }

    /// Lets a store keep versions from now on.
    pub fn keep_versions(&self) {
        self.with(|disk| disk.keeps_versions = true);
    }

    /// A store that keeps versions and lets nobody delete one for so many days after it was put. Its clock stands still
    /// until [`MemoryStore::set_clock`] moves it.
    pub fn locked(days: u32, now_unix_seconds: i64) -> Self {
        let store = Self::default();
        store.lock_by_default(days, now_unix_seconds);
        store
    }

    /// Lets a store do that from now on.
    pub fn lock_by_default(&self, days: u32, now_unix_seconds: i64) {
        self.keep_versions();
        let now = now_unix_seconds;
        self.with(|disk| disk.lock = Some(DefaultLock { days, now }));
    }

    /// Sets the clock of a store that locks.
    pub fn set_clock(&self, now_unix_seconds: i64) {
        self.with(|disk| {
            if let Some(lock) = &mut disk.lock {
                lock.now = now_unix_seconds;
            }
        });
    }

    /// All names with their bytes, sorted by name.
    pub fn objects(&self) -> Vec<(ObjectName, Bytes)> {
        self.with(|disk| {
            disk.objects()
                .map(|(name, bytes)| (name.clone(), bytes.clone()))
                .collect()
        })
    }

    /// An object's bytes.
    pub fn read(&self, name: &ObjectName) -> Option<Bytes> {
        self.with(|disk| disk.read(name).cloned())
    }

    /// Puts an object behind the site's back, on top of what is there if the store keeps versions, and returns what was there.
    pub fn plant(&self, name: &ObjectName, bytes: Bytes) -> Option<Bytes> {
        self.with(|disk| {
            let before = disk.read(name).cloned();
            disk.put(name, Some(bytes));
            before
        })
    }

    /// Removes an object behind the site's back with all its versions, and returns what was there.
    pub fn remove(&self, name: &ObjectName) -> Option<Bytes> {
        self.with(|disk| disk.forget(name))
    }

    /// Removes everything: the site's host lost its disks.
    pub fn clear(&self) {
        self.with(|disk| disk.histories.clear());
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        // Nothing that runs under the lock leaves the disk half changed.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Disk {
    /// What a plain get sees.
    pub(super) fn read(&self, name: &ObjectName) -> Option<&Bytes> {
        self.newest(name)?.bytes.as_ref()
    }

    pub(super) fn newest(&self, name: &ObjectName) -> Option<&Kept> {
        self.histories.get(name)?.last()
    }

    pub(super) fn version(&self, name: &ObjectName, version: &VersionId) -> Option<&Kept> {
        self.histories.get(name)?.iter().find(|kept| kept.is(version))
    }

    /// What a plain listing sees.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&ObjectName, &Bytes)> {
        let histories = self.histories.iter();
        histories.filter_map(|(name, history)| Some((name, history.last()?.bytes.as_ref()?)))
    }

    /// Every name of which there is a version.
    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.histories.keys()
    }

    /// Puts bytes, or a delete marker.
    pub(super) fn put(&mut self, name: &ObjectName, bytes: Option<Bytes>) {
        self.puts += 1;
        let locked = self.lock.filter(|_| bytes.is_some());
        let kept = Kept {
            number: self.puts,
            bytes,
            locked_until: locked.map(|lock| lock.now.saturating_add(i64::from(lock.days) * DAY_S)),
        };
        let history = self.histories.entry(name.clone()).or_default();
        if !self.keeps_versions {
            history.clear();
        }
        history.push(kept);
    }

    /// Removes a name with all that lies there, whatever locks it.
    pub(super) fn forget(&mut self, name: &ObjectName) -> Option<Bytes> {
        self.histories.remove(name)?.pop()?.bytes
    }

    /// Deletes a version; false when it is locked.
    pub(super) fn delete_version(&mut self, name: &ObjectName, version: &VersionId) -> bool {
        let now = self.lock.map_or(i64::MAX, |lock| lock.now);
        let Some(history) = self.histories.get_mut(name) else {
            return true;
        };
        let locked = |kept: &Kept| kept.is(version) && kept.locked_until.is_some_and(|until| until > now);
        if history.iter().any(locked) {
            return false;
        }
        history.retain(|kept| !kept.is(version));
        if history.is_empty() {
            self.histories.remove(name);
        }
        true
    }

    /// Locks a version for longer; false when that would shorten its lock, or nothing here locks.
    pub(super) fn extend(&mut self, name: &ObjectName, version: &VersionId, until: i64) -> Option<bool> {
        let locks = self.lock.is_some();
        let history = self.histories.get_mut(name)?;
        let kept = history
            .iter_mut()
            .find(|kept| kept.is(version) && kept.bytes.is_some())?;
        let lasts_longer = kept.locked_until.is_some_and(|before| before > until);
        let extends = locks && !lasts_longer;
        if extends {
            kept.locked_until = Some(until);
        }
        Some(extends)
    }

    pub(super) fn versions_of(&self, name: &ObjectName, kept_max: usize) -> NameVersions {
        let mut pile = Pile::new(name.clone(), kept_max);
        let history = self.histories.get(name).map_or(&[][..], Vec::as_slice);
        for (back, kept) in history.iter().rev().enumerate() {
            let id = VersionId::parse(&kept.number.to_string());
            let version = id.map(|id| Version {
                id,
                length: kept.bytes.as_ref().map(|bytes| bytes.len() as u64),
                is_newest: back == 0,
            });
            version.into_iter().for_each(|version| pile.push(version));
        }
        pile.finish()
    }
}
