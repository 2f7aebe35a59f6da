//! What lies beneath: older versions of objects at stores that keep them.
//!
//! At such a store a thief with a put credential can lay other bytes or a delete marker on top of an object and can't take
//! the object itself away, when it is locked (THREATS A8). [`Versions`] lists what lies there and reads it, so that a reader
//! finds the version that has the right hash. It destroys nothing and is no power of its own: what it shows, a get showed before
//! it was hidden.
//!
//! Whoever piles 10^6 versions on one name must not fill our memory: of each name only the newest and the oldest versions are
//! kept, and counted all. What was put first is the oldest; what we had to put again is among the newest.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};
use serde::Serialize;

use crate::contract::Site;
use crate::error::{Failure, Operation};
use crate::retention::LockMode;
use crate::{SiteAddress, SiteError};

/// Longest name of a version: S3 says 1,024 bytes.
const VERSION_ID_BYTES_MAX: usize = 1024;

/// The store's own name for one version of an object. Opaque.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(String);

impl VersionId {
    /// Takes what a store calls a version; `None` for what can't travel in a request.
    ///
    /// ```
    /// use exclave_site::VersionId;
    /// assert!(VersionId::parse("3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY").is_some());
    /// for bad in ["", "a b", "a\n", "\u{e9}"] {
    ///     assert!(VersionId::parse(bad).is_none());
    /// }
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=VERSION_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// As the store calls it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of an object, as the store claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its name.
    pub id: VersionId,
    /// Its length in bytes; `None` for a delete marker, which has none.
    pub length: Option<u64>,
    /// Whether a plain get sees it.
    pub is_newest: bool,
}

impl Version {
    /// True for a delete marker: it hides the object, and is all that a delete leaves at a store that keeps versions.
    pub fn is_marker(&self) -> bool {
        self.length.is_none()
    }
}

/// The versions of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameVersions {
    /// The object.
    pub name: ObjectName,
    /// The newest and the oldest versions, the newest first; all of them when they are `total`.
    pub kept: Vec<Version>,
    /// How many there are.
    pub total: u64,
}

impl NameVersions {
    /// The oldest version with bytes among those that were kept: at a name that was put to once before a thief came, it is
    /// what was put.
    pub fn oldest_bytes(&self) -> Option<&Version> {
        self.kept.iter().rev().find(|version| !version.is_marker())
    }

    /// True when a plain get finds no bytes, though there are some.
    pub fn is_hidden(&self) -> bool {
        let newest = self.kept.first();
        newest.is_some_and(Version::is_marker) && self.oldest_bytes().is_some()
    }
}

/// What a store says lies below a prefix, versions and delete markers included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionListing {
    /// Objects sorted by name, each name once.
    pub names: Vec<NameVersions>,
    /// Versions whose object's name is none of ours.
    pub ignored: usize,
    /// False when there was more than asked for: then `names` is some part of it.
    pub complete: bool,
}

/// How long one version can't be deleted, as the store claims: until when, in seconds since 1970, and who may lift that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Locked {
    /// Until when.
    pub until: i64,
    /// Who may lift it before.
    pub mode: LockMode,
}

/// The way to older versions. A site that has it is reached by [`Site::versions`].
///
/// No answer is believed, as with [`Site`]; the same caps hold, and the same errors come.
#[async_trait]
pub trait Versions: fmt::Debug + Send + Sync {
    /// Whether this store keeps versions at all, or ever did: at one that doesn't, there is nothing beneath.
    async fn are_kept(&self) -> Result<bool, SiteError>;

    /// Returns the versions of one object, at most `kept_max` of them: half of it the newest, the rest the oldest. An object of
    /// which there is none has none.
    async fn versions_of(&self, name: &ObjectName, kept_max: usize) -> Result<NameVersions, SiteError>;

    /// Returns the versions of everything below a prefix, at most `names_max` objects with at most `kept_max` versions each.
    async fn list_versions(
        &self,
        prefix: &Prefix,
        names_max: usize,
        kept_max: usize,
    ) -> Result<VersionListing, SiteError>;

    /// Returns a whole version, as [`Site::get`] does the newest one. A delete marker is an error.
    async fn get_version(&self, name: &ObjectName, version: &VersionId, bytes_max: u64) -> Result<Bytes, SiteError>;

    /// Returns a range of a version, as [`Site::get_range`] does of the newest one.
    async fn get_version_range(
        &self,
        name: &ObjectName,
        version: &VersionId,
        range: Range<u64>,
    ) -> Result<Bytes, SiteError>;

    /// Returns how long an object, or one version of it, is locked; `None` when it isn't.
    async fn lock_of(&self, name: &ObjectName, version: Option<&VersionId>) -> Result<Option<Locked>, SiteError>;
}

/// A site's versions, or the error that it has none to ask for.
pub(crate) fn of<S: Site + ?Sized>(site: &S, operation: Operation) -> Result<&dyn Versions, SiteError> {
    site.versions().ok_or_else(|| has_none(site.address(), operation))
}

/// The error of a store that keeps no versions.
pub(crate) fn has_none(address: &SiteAddress, operation: Operation) -> SiteError {
    let what = "older versions at this kind of store".into();
    SiteError::new(address, operation, Failure::Unsupported { what })
}

/// Takes the versions of one object as they come, the newest first, and keeps the first and the last of them.
#[derive(Debug)]
pub(crate) struct Pile {
    name: ObjectName,
    newest: Vec<Version>,
    newest_max: usize,
    /// A ring of the last ones; `at` is where the oldest of it lies.
    oldest: Vec<Version>,
    oldest_max: usize,
    at: usize,
    total: u64,
}

impl Pile {
    /// An empty pile that keeps at most so many versions; at least one new and one old.
    pub(crate) fn new(name: ObjectName, kept_max: usize) -> Self {
        let newest_max = kept_max.div_ceil(2).max(1);
        Self {
            name,
            newest: Vec::new(),
            newest_max,
            oldest: Vec::new(),
            oldest_max: kept_max.saturating_sub(newest_max).max(1),
            at: 0,
            total: 0,
        }
    }

    /// The object.
    pub(crate) fn name(&self) -> &ObjectName {
        &self.name
    }

    /// Adds the next older version.
    pub(crate) fn push(&mut self, version: Version) {
        self.total = self.total.saturating_add(1);
        if self.newest.len() < self.newest_max {
            self.newest.push(version);
        } else if self.oldest.len() < self.oldest_max {
            self.oldest.push(version);
        } else if let Some(slot) = self.oldest.get_mut(self.at) {
            *slot = version;
            self.at = (self.at + 1) % self.oldest_max;
        }
    }

    /// What it kept.
    pub(crate) fn finish(mut self) -> NameVersions {
        self.oldest.rotate_left(self.at);
        self.newest.append(&mut self.oldest);
        NameVersions {
            name: self.name,
            kept: self.newest,
            total: self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pile_keeps_the_newest_and_the_oldest() {
        let name = ObjectName::parse("a").unwrap();
        for (count, kept_max, wanted) in [
            (0, 4, vec![]),
            (3, 4, vec![0, 1, 2]),
            (4, 4, vec![0, 1, 2, 3]),
            (9, 4, vec![0, 1, 7, 8]),
            (9, 5, vec![0, 1, 2, 7, 8]),
            (9, 0, vec![0, 8]),
            (1000, 2, vec![0, 999]),
        ] {
            let mut pile = Pile::new(name.clone(), kept_max);
            for length in 0..count {
                pile.push(Version {
                    id: VersionId::parse("v").unwrap(),
                    length: Some(length),
                    is_newest: length == 0,
                });
            }
            let found = pile.finish();
            let lengths: Vec<u64> = found.kept.iter().filter_map(|version| version.length).collect();
            assert_eq!((lengths, found.total), (wanted, count), "{count} {kept_max}");
        }
    }
}
