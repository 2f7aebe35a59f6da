//! A site over the network: S3, Azure, GCS or WebDAV through `object_store`.
//!
//! `object_store` signs requests and parses answers. Retries, limits and deadlines are ours (its own are switched off), and so
//! is the way requests leave (`crate::http`). Listings are asked for page by page, so that a server that never stops
//! ends at a cap and not in all our memory; a WebDAV tree is walked a directory at a time, because many servers refuse
//! `Depth: infinity`.
//!
//! A plain read sees the newest version. On a versioned bucket a thief with a put credential can lay other bytes or a delete
//! marker on top of ours; what lies beneath is reached by [`crate::Versions`] ([`versions`]).

pub(crate) mod bucket;
mod failure;
mod versions;
mod walk;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use exclave_model::{ObjectName, Prefix};
use futures::TryStreamExt;
use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, PutOptions, PutPayload};

use self::bucket::Bucket;
use crate::contract::{Children, Destroy, Listing, PutMode, Site, Stored};
use crate::error::{Failure, Operation};
use crate::http::Transport;
use crate::memory::short_read;
use crate::retention::{Keep, ObjectLock, Retention, Versioning};
use crate::versions::{Locked, VersionId, Versions};
use crate::{Body, SiteAddress, SiteError};

/// What is reserved for an answer before its first byte came; a site's word about a length is worth no more.
const RESERVED_BYTES_MAX: u64 = 1 << 20;

/// A site over an object store.
#[derive(Debug, Clone)]
pub(crate) struct RemoteSite {
    address: SiteAddress,
    store: Arc<dyn ObjectStore>,
    lister: Lister,
    prefix: String,
    transport: Transport,
    bucket: Bucket,
}

/// How a store lists.
#[derive(Clone)]
pub(crate) enum Lister {
    /// In pages, recursively or one level.
    Paged(Arc<dyn PaginatedListStore>),
    /// One directory at a time.
    Directories,
}

impl std::fmt::Debug for Lister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Paged(_) => "Paged",
            Self::Directories => "Directories",
        })
    }
}

impl RemoteSite {
    /// A site over `store`; every key starts with `prefix`, which is empty or has no slashes at its ends.
    pub(crate) fn new(
        address: &SiteAddress,
        store: Arc<dyn ObjectStore>,
        lister: Lister,
        prefix: &str,
        transport: Transport,
        bucket: Bucket,
    ) -> Self {
        let prefix = if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        };
        Self {
            address: address.clone(),
            store,
            lister,
            prefix,
            transport,
            bucket,
        }
    }

    fn path(&self, operation: Operation, name: &ObjectName) -> Result<Path, SiteError> {
        let fail = |error| {
            SiteError::new(&self.address, operation, Failure::Other)
                .object(name)
                .because(error)
        };
        Path::parse(format!("{}{name}", self.prefix)).map_err(fail)
    }

    /// An object's key in the bucket.
    fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.prefix)
    }

    fn fail(&self, operation: Operation, name: &ObjectName, failure: Failure) -> SiteError {
        SiteError::new(&self.address, operation, failure).object(name)
    }

    fn blame(&self, operation: Operation, error: &object_store::Error) -> SiteError {
        let (failure, why) = failure::of(error);
        SiteError::new(&self.address, operation, failure).because(why)
    }

    fn refuse(&self, operation: Operation, (failure, why): bucket::Refusal) -> SiteError {
        let error = SiteError::new(&self.address, operation, failure);
        if why.is_empty() { error } else { error.because(why) }
    }

    /// Some servers answer a range beyond the end with what `object_store` calls malformed; the length tells.
    async fn blame_range(&self, name: &ObjectName, range: &Range<u64>, error: &object_store::Error) -> SiteError {
        let blamed = self.blame(Operation::GetRange, error).object(name);
        if blamed.class() != crate::Class::Malformed {
            return blamed;
        }
        match self.length(name).await {
            Ok(length) if length < range.end => {
                let (wanted, got) = short_read(range, length);
                self.fail(Operation::GetRange, name, Failure::ShortRead { wanted, got })
            }
            Ok(_) | Err(_) => blamed,
        }
    }

    /// A whole object, or a version of it.
    async fn whole(
        &self,
        operation: Operation,
        name: &ObjectName,
        version: Option<&VersionId>,
        bytes_max: u64,
    ) -> Result<Bytes, SiteError> {
        let path = self.path(operation, name)?;
        let answer = self.store.get_opts(&path, options(None, version)).await;
        let answer = answer.map_err(|error| self.blame(operation, &error).object(name))?;
        let length = answer.meta.size;
        if length > bytes_max {
            let length = Some(length);
            return Err(self.fail(operation, name, Failure::TooLong { length, bytes_max }));
        }
        self.read(operation, name, answer, length).await
    }

    /// A range that isn't empty, of an object or a version of it.
    async fn part(
        &self,
        operation: Operation,
        name: &ObjectName,
        version: Option<&VersionId>,
        range: Range<u64>,
    ) -> Result<Bytes, SiteError> {
        let path = self.path(operation, name)?;
        let asked = options(Some(GetRange::Bounded(range.clone())), version);
        let answer = match self.store.get_opts(&path, asked).await {
            Ok(answer) => answer,
            // The object ends before the range begins.
            Err(error) if failure::is_range_beyond(&error) => {
                let (wanted, got) = short_read(&range, 0);
                return Err(self.fail(operation, name, Failure::ShortRead { wanted, got }));
            }
            Err(error) if version.is_some() => return Err(self.blame(operation, &error).object(name)),
            Err(error) => return Err(self.blame_range(name, &range, &error).await),
        };
        if answer.range != range {
            let (wanted, got) = short_read(&range, answer.meta.size);
            return Err(self.fail(operation, name, Failure::ShortRead { wanted, got }));
        }
        self.read(operation, name, answer, range.end - range.start).await
    }

    /// Reads an answer's body, which has to be `length` bytes.
    async fn read(
        &self,
        operation: Operation,
        name: &ObjectName,
        answer: GetResult,
        length: u64,
    ) -> Result<Bytes, SiteError> {
        let mut pieces = answer.into_stream();
        let mut read = BytesMut::with_capacity(usize::try_from(length.min(RESERVED_BYTES_MAX)).unwrap_or(0));
        while let Some(piece) = pieces
            .try_next()
            .await
            .map_err(|e| self.blame(operation, &e).object(name))?
        {
            let got = (read.len() as u64).saturating_add(piece.len() as u64);
            if got > length {
                let what = format!("answer of more than the announced {length} B");
                return Err(self.fail(operation, name, Failure::Malformed { what }));
            }
            read.extend_from_slice(&piece);
        }
        let got = read.len() as u64;
        if got < length {
            return Err(self.fail(operation, name, Failure::ShortRead { wanted: length, got }));
        }
        Ok(read.freeze())
    }
}

/// What is asked of `object_store`.
fn options(range: Option<GetRange>, version: Option<&VersionId>) -> GetOptions {
    GetOptions {
        range,
        version: version.map(ToString::to_string),
        ..GetOptions::default()
    }
}

#[async_trait]
impl Site for RemoteSite {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        let path = self.path(Operation::Put, name)?;
        let asked = match mode {
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Plain => object_store::PutMode::Overwrite,
        };
        let payload: PutPayload = body.slices().iter().cloned().collect();
        match (self.store.put_opts(&path, payload, PutOptions::from(asked)).await, mode) {
            (Ok(_), _) => Ok(Stored::Created),
            (Err(object_store::Error::AlreadyExists { .. }), PutMode::Create) => Ok(Stored::AlreadyExists),
            // 409: two puts at once.
            (Err(object_store::Error::AlreadyExists { source, .. }), PutMode::Plain) => Err(self
                .fail(Operation::Put, name, Failure::Internal { status: Some(409) })
                .because(source)),
            (Err(error), _) => match failure::of(&error) {
                // Not this object is missing but its bucket.
                (Failure::Missing, why) => Err(self.fail(Operation::Put, name, Failure::Unreachable).because(why)),
                (failure, why) => Err(self.fail(Operation::Put, name, failure).because(why)),
            },
        }
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        self.whole(Operation::Get, name, None, bytes_max).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        if range.start >= range.end {
            // No server can be asked for nothing.
            let length = self.length(name).await?;
            let (wanted, got) = short_read(&range, length);
            return match range.start == range.end && range.end <= length {
                true => Ok(Bytes::new()),
                false => Err(self.fail(Operation::GetRange, name, Failure::ShortRead { wanted, got })),
            };
        }
        self.part(Operation::GetRange, name, None, range).await
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        let path = self.path(Operation::Length, name)?;
        let about = self.store.head(&path).await;
        Ok(about
            .map_err(|error| self.blame(Operation::Length, &error).object(name))?
            .size)
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let walk = match &self.lister {
            Lister::Paged(store) => {
                let found = walk::pages(&**store, &self.prefix, prefix, entries_max, walk::Depth::All).await;
                found.map(|found| Listing {
                    entries: found.entries,
                    ignored: found.ignored,
                    complete: found.complete,
                })
            }
            Lister::Directories => walk::directories(&*self.store, &self.prefix, prefix, entries_max).await,
        };
        walk.map_err(|stop| stop.into_error(&self.address, Operation::List).prefix(prefix))
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        let walk = match &self.lister {
            Lister::Paged(store) => walk::pages(&**store, &self.prefix, prefix, entries_max, walk::Depth::One).await,
            Lister::Directories => walk::directory(&*self.store, &self.prefix, prefix, entries_max).await,
        };
        walk.map_err(|stop| stop.into_error(&self.address, Operation::ListChildren).prefix(prefix))
    }

    async fn flush(&self) -> Result<(), SiteError> {
        Ok(())
    }

    async fn date(&self) -> Option<i64> {
        self.transport.date()
    }

    fn address(&self) -> &SiteAddress {
        &self.address
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.bucket.lists_versions().then_some(self)
    }
}

#[async_trait]
impl Destroy for RemoteSite {
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError> {
        let path = self.path(Operation::Delete, name)?;
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.blame(Operation::Delete, &error).object(name)),
        }
    }

    async fn delete_version(&self, name: &ObjectName, version: &VersionId) -> Result<(), SiteError> {
        if !self.bucket.lists_versions() {
            return Err(crate::versions::has_none(&self.address, Operation::DeleteVersion).object(name));
        }
        let deleted = self.bucket.delete_version(&self.key(name), version).await;
        deleted.map_err(|refusal| self.refuse(Operation::DeleteVersion, refusal).object(name))
    }

    async fn sweep(&self) -> Result<u64, SiteError> {
        Ok(0)
    }
}

#[async_trait]
impl Retention for RemoteSite {
    async fn versioning(&self, sample: &ObjectName) -> Result<Versioning, SiteError> {
        if !self.bucket.tells_by_objects() {
            let answer = self.bucket.versioning().await;
            return answer.map_err(|refusal| self.refuse(Operation::Versioning, refusal));
        }
        let path = self.path(Operation::Versioning, sample)?;
        let about = self.store.head(&path).await;
        let about = about.map_err(|error| self.blame(Operation::Versioning, &error).object(sample))?;
        Ok(match about.version {
            Some(_) => Versioning::Enabled,
            None => Versioning::Off,
        })
    }

    async fn object_lock(&self) -> Result<ObjectLock, SiteError> {
        let answer = self.bucket.object_lock().await;
        answer.map_err(|refusal| self.refuse(Operation::ObjectLock, refusal))
    }
}

#[async_trait]
impl Keep for RemoteSite {
    async fn extend(&self, name: &ObjectName, version: &VersionId, locked: Locked) -> Result<(), SiteError> {
        if !self.bucket.lists_versions() {
            return Err(crate::versions::has_none(&self.address, Operation::Extend).object(name));
        }
        let extended = self.bucket.extend(&self.key(name), version, locked).await;
        extended.map_err(|refusal| self.refuse(Operation::Extend, refusal).object(name))
    }
}
