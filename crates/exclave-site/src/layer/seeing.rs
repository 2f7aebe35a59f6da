//! Sees through what was laid on top of an object.
//!
//! At a store that keeps versions, whoever has a put credential can hide an object under other bytes or under a delete marker,
//! even where the object itself is locked (THREATS A8). Names end in a tag of the bytes, so a site can tell when it isn't
//! given what it asked for. Then the object's versions are listed, and the one that fits is read: the oldest first, for what was
//! put before the thief came, then the newest, for what we put again. So a reader above finds it and need not know. The tag
//! is no proof; every reader holds what it gets against the whole hash, as it does anyway.
//!
//! Listings show the names whose newest version is a delete marker, too. What is collected for good is deleted version by
//! version, and isn't shown.
//!
//! Everything that had to be seen through is noted in a [`Sight`], for a finding: it can only be a theft or a mistake.
//!
//! **Bounds.** Of one name, [`LOOKED_AT_MAX`] versions are read. A store that doesn't keep versions costs one request, and one
//! whose versions these credentials may not list is noted as such.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};
use tokio::sync::OnceCell;

use crate::contract::{Children, Entry, Listing, PutMode, Site, Stored};
use crate::versions::{NameVersions, Version, VersionId, Versions};
use crate::{Body, Class, SiteAddress, SiteError};

/// Versions of one object that are read, the newest and the oldest.
pub const LOOKED_AT_MAX: usize = 16;

/// Objects that are remembered by name as having been seen through; the others are counted.
const BURIED_MAX: usize = 4096;

/// Longest version that is read whole for the sake of a range.
const RANGE_OF_BYTES_MAX: u64 = 256 << 20;

/// Bytes that are hashed without leaving the runtime's thread: some 100 microseconds.
const HASHED_HERE_MAX: usize = 256 << 10;

/// An object that a plain read doesn't find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// The object.
    pub name: ObjectName,
    /// The version that fits; `None` while it was only seen in a listing.
    pub version: Option<VersionId>,
    /// Versions and delete markers on top of it; of what was only listed, on top of the oldest one.
    pub on_top: u64,
    /// True when the uppermost is a delete marker: the object seems not to be there. Else other bytes are.
    pub is_hidden: bool,
}

/// What had to be seen through at one site, and why it couldn't be where it couldn't. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sight(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    buried: BTreeMap<ObjectName, Buried>,
    more: u64,
    blind: Option<(Class, String)>,
}

impl Sight {
    /// The objects, sorted by name; at most some thousands.
    pub fn buried(&self) -> Vec<Buried> {
        self.seen().buried.values().cloned().collect()
    }

    /// How many there were, as far as they were counted.
    pub fn count(&self) -> u64 {
        let seen = self.seen();
        (seen.buried.len() as u64).saturating_add(seen.more)
    }

    /// Why versions couldn't be listed when something was missing: the class, and the error in words.
    pub fn blind(&self) -> Option<(Class, String)> {
        self.seen().blind.clone()
    }

    /// The version of an object that had to be read in place of the newest.
    pub fn version(&self, name: &ObjectName) -> Option<VersionId> {
        self.seen().buried.get(name)?.version.clone()
    }

    /// Notes an object that a version of it was found of, or that was seen in a listing.
    fn note(&self, found: &NameVersions, version: &Version, is_chosen: bool) {
        let at = found.kept.iter().position(|kept| kept.id == version.id).unwrap_or(0);
        let older = (found.kept.len() as u64).saturating_sub(at as u64 + 1);
        let from_below = found.total.saturating_sub(older + 1);
        let buried = Buried {
            name: found.name.clone(),
            version: is_chosen.then(|| version.id.clone()),
            // In the newer half of what was kept it is counted from the top, in the older one from below.
            on_top: match found.kept.len() as u64 == found.total || at >= found.kept.len().div_ceil(2) {
                true => from_below,
                false => at as u64,
            },
            is_hidden: found.kept.first().is_some_and(Version::is_marker),
        };
        let mut seen = self.seen();
        let is_known = seen.buried.contains_key(&buried.name);
        match seen.buried.len() < BURIED_MAX || is_known {
            true if is_known && !is_chosen => {}
            true => _ = seen.buried.insert(buried.name.clone(), buried),
            false => seen.more = seen.more.saturating_add(1),
        }
    }

    fn note_blind(&self, error: &SiteError) {
        tracing::debug!(%error, "older versions can't be looked at");
        self.seen().blind.get_or_insert((error.class(), error.to_string()));
    }

    /// True when asking for versions is in vain for good.
    fn is_blind(&self) -> bool {
        let lasting = |class: &Class| matches!(class, Class::Denied | Class::Unsupported);
        self.seen().blind.as_ref().is_some_and(|(class, _)| lasting(class))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A site through which one sees what lies beneath.
#[derive(Debug)]
pub struct Seeing<S> {
    inner: S,
    sight: Sight,
    /// Whether the store keeps versions, once asked.
    kept: OnceCell<bool>,
}

impl<S: Site> Seeing<S> {
    /// Looks through a site.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            sight: Sight::default(),
            kept: OnceCell::new(),
        }
    }

    /// What it had to see through.
    pub fn sight(&self) -> Sight {
        self.sight.clone()
    }

    /// The way beneath, where there is one.
    async fn beneath(&self) -> Option<&dyn Versions> {
        let versions = self.inner.versions()?;
        if self.sight.is_blind() {
            return None;
        }
        let kept = self.kept.get_or_try_init(|| async {
            match versions.are_kept().await {
                // Whoever may not ask for the bucket's switch may still list its versions.
                Err(error) if matches!(error.class(), Class::Denied | Class::Unsupported) => Ok(true),
                asked => asked,
            }
        });
        match kept.await {
            Ok(true) => Some(versions),
            Ok(false) => None,
            Err(error) => {
                self.sight.note_blind(&error);
                None
            }
        }
    }

    /// The versions of an object whose name says which bytes are its own.
    async fn pile(&self, name: &ObjectName) -> Option<(&dyn Versions, NameVersions)> {
        name.fits(&[])?;
        let versions = self.beneath().await?;
        match versions.versions_of(name, LOOKED_AT_MAX).await {
            Ok(found) => Some((versions, found)),
            Err(error) => {
                self.sight.note_blind(&error);
                None
            }
        }
    }

    /// The version of an object that fits its name, when it isn't the newest.
    async fn find(&self, name: &ObjectName, bytes_max: u64) -> Option<Bytes> {
        let (versions, found) = self.pile(name).await?;
        for version in candidates(&found) {
            let Some(length) = version.length.filter(|length| *length <= bytes_max) else {
                continue;
            };
            match versions.get_version(name, &version.id, length).await {
                Ok(bytes) if fits(name, &bytes).await == Some(true) => {
                    self.sight.note(&found, version, true);
                    return Some(bytes);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a version can't be read"),
            }
        }
        None
    }

    /// The version that a range of a hidden object is to be read from. The only one with bytes is taken as it is: who asked
    /// for a range proves it. Among several, the one that fits has to be read whole.
    async fn find_for_range(&self, name: &ObjectName) -> Option<VersionId> {
        let (_, found) = self.pile(name).await?;
        let mut with_bytes = found.kept.iter().filter(|version| !version.is_marker());
        let only = with_bytes.next().filter(|_| with_bytes.next().is_none());
        if let Some(version) = only.filter(|version| !version.is_newest && found.kept.len() as u64 == found.total) {
            self.sight.note(&found, version, true);
            return Some(version.id.clone());
        }
        self.find(name, RANGE_OF_BYTES_MAX).await?;
        self.sight.version(name)
    }
}

/// Versions worth reading: the oldest, then the newest, then the next ones from both ends.
fn candidates(found: &NameVersions) -> Vec<&Version> {
    let with_bytes = found.kept.iter().filter(|version| !version.is_marker());
    // A plain get has shown the newest.
    let mut left: Vec<&Version> = with_bytes.filter(|version| !version.is_newest).collect();
    let mut chosen = Vec::with_capacity(left.len());
    while let Some(oldest) = left.pop() {
        chosen.push(oldest);
        if !left.is_empty() {
            chosen.push(left.remove(0));
        }
    }
    chosen
}

/// Whether bytes are those that a name was made from. What takes long is done beside the runtime's threads.
async fn fits(name: &ObjectName, bytes: &Bytes) -> Option<bool> {
    if bytes.len() <= HASHED_HERE_MAX {
        return name.fits(bytes);
    }
    let (name, bytes) = (name.clone(), bytes.clone());
    tokio::task::spawn_blocking(move || name.fits(&bytes)).await.ok()?
}

/// Whether something else may lie beneath what a site says about an object.
fn may_hide(error: &SiteError) -> bool {
    matches!(error.class(), Class::Missing | Class::TooLong | Class::ShortRead)
}

/// The entry of an object in a listing: its newest bytes, or its oldest ones when they are hidden.
fn entry(found: &NameVersions) -> Option<Entry> {
    let newest = found.kept.first().and_then(|version| version.length);
    let length = newest.or_else(|| found.oldest_bytes()?.length)?;
    let name = found.name.clone();
    Some(Entry { name, length })
}

#[async_trait]
impl<S: Site> Site for Seeing<S> {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        self.inner.put(name, body, mode).await
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        let newest = self.inner.get(name, bytes_max).await;
        // Where nothing can lie beneath, nothing is hashed.
        if self.inner.versions().is_none() || self.kept.get() == Some(&false) || self.sight.is_blind() {
            return newest;
        }
        let is_other = match &newest {
            Ok(bytes) => fits(name, bytes).await == Some(false),
            Err(error) => may_hide(error),
        };
        match is_other {
            true => self.find(name, bytes_max).await.map_or(newest, Ok),
            false => newest,
        }
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        if let (Some(version), Some(versions)) = (self.sight.version(name), self.inner.versions()) {
            return versions.get_version_range(name, &version, range).await;
        }
        let newest = self.inner.get_range(name, range.clone()).await;
        let Err(error) = &newest else { return newest };
        if !may_hide(error) {
            return newest;
        }
        match (self.find_for_range(name).await, self.inner.versions()) {
            (Some(version), Some(versions)) => versions.get_version_range(name, &version, range).await,
            _ => newest,
        }
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        let newest = self.inner.length(name).await;
        match &newest {
            Err(error) if error.class() == Class::Missing => {}
            _ => return newest,
        }
        let found = self.pile(name).await;
        match found.and_then(|(_, found)| found.oldest_bytes()?.length) {
            Some(length) => Ok(length),
            None => newest,
        }
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let Some(versions) = self.beneath().await else {
            return self.inner.list(prefix, entries_max).await;
        };
        let beneath = match versions.list_versions(prefix, entries_max, 2).await {
            Ok(beneath) => beneath,
            Err(error) => {
                self.sight.note_blind(&error);
                return self.inner.list(prefix, entries_max).await;
            }
        };
        for found in beneath.names.iter().filter(|found| found.is_hidden()) {
            let version = found.oldest_bytes().filter(|_| found.name.fits(&[]).is_some());
            version
                .into_iter()
                .for_each(|version| self.sight.note(found, version, false));
        }
        let mut listing = Listing {
            entries: beneath.names.iter().filter_map(entry).collect(),
            ignored: beneath.ignored,
            complete: true,
        };
        if !beneath.complete {
            // Names that have nothing but delete markers may have filled it.
            let plain = self.inner.list(prefix, entries_max).await?;
            listing.entries.extend(plain.entries);
            listing.entries.sort();
            listing.entries.dedup_by(|a, b| a.name == b.name);
            listing.entries.truncate(entries_max);
            listing.complete = false;
        }
        Ok(listing)
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        self.inner.list_children(prefix, entries_max).await
    }

    async fn flush(&self) -> Result<(), SiteError> {
        self.inner.flush().await
    }

    async fn date(&self) -> Option<i64> {
        self.inner.date().await
    }

    fn address(&self) -> &SiteAddress {
        self.inner.address()
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.inner.versions()
    }
}

#[cfg(test)]
#[path = "seeing_tests.rs"]
mod tests;
