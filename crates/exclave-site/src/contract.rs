//! What a site does: the contract that [`crate::conformance`] checks and every backend and layer keeps.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};

use crate::versions::{VersionId, Versions};
use crate::{Body, SiteAddress, SiteError};

/// What a put asks of the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Store only if the name is free. Some sites don't offer it (an `Unsupported` error), some race, some overwrite
    /// and say that all is well: probe, and read back.
    Create,
    /// Store.
    Plain,
}

/// What a site says became of a put. Evidence, not proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It says it has stored this body.
    Created,
    /// It says that the name was taken and nothing was stored. Some servers say so for our own lost put.
    AlreadyExists,
    /// An earlier attempt may have been applied in part or whole: only reading the whole object tells.
    Unknown,
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: ObjectName,
    /// Its length in bytes, as the site claims.
    pub length: u64,
}

/// What a site says lies below a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects, sorted by name, each name once.
    pub entries: Vec<Entry>,
    /// How many things were there whose name is no object name. They are no concern of ours, but worth a finding.
    pub ignored: usize,
    /// False when there was more than asked for: then `entries` is some part of it, not necessarily the first.
    pub complete: bool,
}

/// What a site says lies directly below a prefix, one level deep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children {
    /// Prefixes that have something below them, sorted, each once.
    pub prefixes: Vec<Prefix>,
    /// Objects directly below, sorted by name, each name once.
    pub entries: Vec<Entry>,
    /// As in [`Listing`].
    pub ignored: usize,
    /// As in [`Listing`].
    pub complete: bool,
}

/// An object store somewhere.
///
/// # Contract
///
/// * A put is all or nothing, or at worst leaves a strict prefix of the body. Equal names carry equal bytes (a name
///   ends in a hash), so a put may be repeated.
/// * No answer is believed. A get may return wrong bytes, a listing may omit or invent, a put may lie. Callers verify;
///   implementations need not. They do keep what is arithmetic: lengths that were asked for, order, caps.
/// * Nothing is buffered beyond the cap that the caller gave.
/// * Every failure is a [`SiteError`] whose class says what to do next.
/// * Dropping a future cancels the wait, not necessarily the deed.
///
/// Layers wrap a site and forward every method.
#[async_trait]
pub trait Site: fmt::Debug + Send + Sync {
    /// Stores an object.
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError>;

    /// Returns a whole object. One longer than `bytes_max` is `TooLong`, before it is buffered.
    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError>;

    /// Returns exactly the bytes in `range`, or an error: `ShortRead` when the object ends before `range.end`.
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError>;

    /// Returns an object's length in bytes.
    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError>;

    /// Returns everything below a prefix, at most `entries_max` objects. Nothing there is an empty listing.
    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError>;

    /// Returns what lies directly below a prefix, at most `entries_max` prefixes and objects together.
    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError>;

    /// Makes everything put so far survive a power cut. A no-op where every put does so already, as object stores
    /// promise; a shard counts as verified only after it.
    async fn flush(&self) -> Result<(), SiteError>;

    /// The site's own clock in seconds since 1970, as its latest answer said; `None` where there is none. It tells a
    /// wrong local clock; it is no proof of anything.
    async fn date(&self) -> Option<i64>;

    /// Where the site is; prints without secrets.
    fn address(&self) -> &SiteAddress;

    /// The way to what lies beneath: older versions of objects. `None` at a kind of store that keeps none, or whose versions we
    /// can't ask for.
    fn versions(&self) -> Option<&dyn Versions>;
}

/// The power to delete. A reaper's, never an agent's; the probe asks for it to find out whether an agent's
/// credentials would have it.
#[async_trait]
pub trait Destroy: fmt::Debug + Send + Sync {
    /// Deletes an object. What isn't there is deleted already. On a versioned store this may only hide it.
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError>;

    /// Deletes one version of an object, or a delete marker. What isn't there is deleted already; what is locked is `Denied`.
    /// A store that keeps no versions is `Unsupported`.
    async fn delete_version(&self, name: &ObjectName, version: &VersionId) -> Result<(), SiteError>;

    /// Removes what puts that were killed long ago have left behind, which no name leads to. Returns how many there were;
    /// none where a put leaves nothing.
    async fn sweep(&self) -> Result<u64, SiteError>;
}

/// A shared site is a site: layers go around what [`crate::open()`] returns.
#[async_trait]
impl<S: Site + ?Sized> Site for Arc<S> {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        (**self).put(name, body, mode).await
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        (**self).get(name, bytes_max).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        (**self).get_range(name, range).await
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        (**self).length(name).await
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        (**self).list(prefix, entries_max).await
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        (**self).list_children(prefix, entries_max).await
    }

    async fn flush(&self) -> Result<(), SiteError> {
        (**self).flush().await
    }

    async fn date(&self) -> Option<i64> {
        (**self).date().await
    }

    fn address(&self) -> &SiteAddress {
        (**self).address()
    }

    fn versions(&self) -> Option<&dyn Versions> {
        (**self).versions()
    }
}

/// As for [`Site`].
#[async_trait]
impl<S: Destroy + ?Sized> Destroy for Arc<S> {
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError> {
        (**self).delete(name).await
    }

    async fn delete_version(&self, name: &ObjectName, version: &VersionId) -> Result<(), SiteError> {
        (**self).delete_version(name, version).await
    }

    async fn sweep(&self) -> Result<u64, SiteError> {
        (**self).sweep().await
    }
}
