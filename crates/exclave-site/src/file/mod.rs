//! A site that is a directory: a mounted disk, a share, a stick in a diplomatic bag.
//!
//! An object `a/b/c` is the file `a/b/c` below the root. The root must exist: a disk that isn't mounted is an error, not
//! a new empty site. It is opened once and everything is looked up from that descriptor, a component at a time and
//! never through a symbolic link; only plain files are objects. So a stick that comes back from abroad can't point us at
//! `/etc`, and a pipe among its files can't make a reader hang.
//!
//! # A put
//!
//! The body goes to `~<process>.<number>` beside its place (no object name has a `~`, so it is never listed or read),
//! then takes its name in one step: `renameat2(RENAME_NOREPLACE)` for a create-only put, `link` and `unlink` where the
//! file system lacks that, `rename` for a plain one. A killed put leaves at most such a leftover, until a sweep finds it
//! a day old; a failed one removes its own.
//!
//! # When it is durable
//!
//! [`Durability::Each`] syncs the file before it takes its name, then its directory, then every directory that it had to
//! make: three or more flushes of the disk's cache per object. [`Durability::Flush`] leaves all that to
//! [`crate::Site::flush`], one `syncfs` for everything put so far; a power cut before it may lose or tear objects, which is
//! why nothing counts as verified before it. `syncfs` reports lost writes since Linux 5.8, and only to a descriptor that
//! was open when they were lost: hence the root's stays open. A failed sync isn't retried: the kernel may have dropped
//! the pages, and a second sync would report success.
//!
//! # Why not `object_store::local`
//!
//! Its version 0.14 syncs what it should (file, directory, new parents). But it follows symbolic links in listings and
//! reads, opens whatever lies there, knows no `syncfs`, and tells errors such as a full disk only as text.

mod sweep;
mod tree;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{BufferPool, ObjectName, Prefix};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::Deserialize;

use self::tree::Depth;
use crate::contract::{Children, Destroy, Listing, PutMode, Site, Stored};
use crate::error::{Failure, Operation};
use crate::memory::short_read;
use crate::retention::{ObjectLock, Retention, Versioning};
use crate::versions::{self, VersionId, Versions};
use crate::{BadAddress, Body, Scheme, SiteAddress, SiteError};

/// When puts into a directory survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Each put, before it returns.
    Each,
    /// At the next flush.
    #[default]
    Flush,
}

impl Durability {
    /// Its word in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::Flush => "flush",
        }
    }
}

/// A site that is a directory.
#[derive(Debug, Clone)]
pub struct FileSite(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SiteAddress,
    path: PathBuf,
    durability: Durability,
    root: OnceLock<OwnedFd>,
    puts: AtomicU64,
}

impl FileSite {
    /// A site over the directory that `address` names; it is opened at the first use.
    pub fn new(address: &SiteAddress, durability: Durability) -> Result<Self, BadAddress> {
        let Scheme::File { root } = address.scheme() else {
            return Err(BadAddress::Scheme(address.to_string()));
        };
        let (address, path) = (address.clone(), root.clone());
        Ok(Self(Arc::new(Inner {
            address,
            path,
            durability,
            root: OnceLock::new(),
            puts: AtomicU64::new(0),
        })))
    }

    /// Runs `act` where blocking is allowed. Dropping the future doesn't stop it.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: Operation,
        act: impl FnOnce(&Inner) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, SiteError> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || act(&inner)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(cause)) => Err(cause.into_error(&self.0.address, operation)),
            Err(stopped) => Err(SiteError::new(&self.0.address, operation, Failure::Other).because(stopped)),
        }
    }
}

#[async_trait]
impl Site for FileSite {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        let at = name.clone();
        // A link or a file where a directory must be isn't a missing object.
        let unfit = |cause: Cause| match cause.failure {
            Failure::Missing => Cause {
                failure: Failure::Other,
                source: cause.source,
            },
            _ => cause,
        };
        let put = self
            .blocking(Operation::Put, move |inner| inner.put(&at, &body, mode).map_err(unfit))
            .await;
        put.map_err(|error| error.object(name))
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        let at = name.clone();
        let get = self.blocking(Operation::Get, move |inner| {
            let (file, length) = inner.open(&at)?;
            if length > bytes_max {
                return Err(Failure::TooLong {
                    length: Some(length),
                    bytes_max,
                }
                .into());
            }
            read_exactly(file, length)
        });
        get.await.map_err(|error| error.object(name))
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        let at = name.clone();
        let get = self.blocking(Operation::GetRange, move |inner| {
            let (mut file, length) = inner.open(&at)?;
            if range.end > length || range.start > range.end {
                let (wanted, got) = short_read(&range, length);
                return Err(Failure::ShortRead { wanted, got }.into());
            }
            file.seek(SeekFrom::Start(range.start))?;
            read_exactly(file, range.end - range.start)
        });
        get.await.map_err(|error| error.object(name))
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        let at = name.clone();
        let length = self
            .blocking(Operation::Length, move |inner| Ok(inner.open(&at)?.1))
            .await;
        length.map_err(|error| error.object(name))
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let below = prefix.clone();
        let list = self.blocking(Operation::List, move |inner| {
            let found = tree::walk(inner.root()?, &below, entries_max, Depth::All)?;
            Ok(Listing {
                entries: found.entries,
                ignored: found.ignored,
                complete: found.complete,
            })
        });
        list.await.map_err(|error| error.prefix(prefix))
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        let below = prefix.clone();
        let list = self.blocking(Operation::ListChildren, move |inner| {
            tree::walk(inner.root()?, &below, entries_max, Depth::One)
        });
        list.await.map_err(|error| error.prefix(prefix))
    }

    async fn flush(&self) -> Result<(), SiteError> {
        self.blocking(Operation::Flush, |inner| match inner.durability {
            Durability::Each => Ok(()),
            Durability::Flush => Ok(rustix::fs::syncfs(inner.root()?)?),
        })
        .await
    }

    async fn date(&self) -> Option<i64> {
        None
    }

    fn address(&self) -> &SiteAddress {
        &self.0.address
    }

    fn versions(&self) -> Option<&dyn Versions> {
        None
    }
}

#[async_trait]
impl Destroy for FileSite {
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError> {
        let at = name.clone();
        let delete = self.blocking(Operation::Delete, move |inner| {
            let directory = match tree::open_parent(inner.root()?, &at) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match rustix::fs::unlinkat(&directory, at.file_name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(rustix::fs::fsync(&directory)?),
                Err(error) => Err(error.into()),
            }
        });
        delete.await.map_err(|error| error.object(name))
    }

    async fn delete_version(&self, name: &ObjectName, _version: &VersionId) -> Result<(), SiteError> {
        Err(versions::has_none(&self.0.address, Operation::DeleteVersion).object(name))
    }

    async fn sweep(&self) -> Result<u64, SiteError> {
        self.blocking(Operation::Sweep, |inner| {
            let root = inner.root()?;
            let (name, marker) = inner.create_leftover(root)?;
            let swept = sweep::sweep(root, &marker);
            let _ = rustix::fs::unlinkat(root, &name, AtFlags::empty());
            swept
        })
        .await
    }
}

#[async_trait]
impl Retention for FileSite {
    async fn versioning(&self, _sample: &ObjectName) -> Result<Versioning, SiteError> {
        Ok(Versioning::Off)
    }

    async fn object_lock(&self) -> Result<ObjectLock, SiteError> {
        Ok(ObjectLock::None)
    }
}

impl Inner {
    fn root(&self) -> Result<&OwnedFd, Cause> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A root that isn't there is a site that can't be reached, not a missing object.
        let root = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => Cause {
                failure: Failure::Unreachable,
                source: Some(error.into()),
            },
            other => other.into(),
        })?;
        Ok(self.root.get_or_init(|| root))
    }

    fn put(&self, name: &ObjectName, body: &Body, mode: PutMode) -> Result<Stored, Cause> {
        let directory = tree::make_parent(self.root()?, name, self.durability)?;
        let (leftover, file) = self.create_leftover(&directory)?;
        let stored = self
            .fill(file, body)
            .and_then(|()| publish(&directory, &leftover, name.file_name(), mode));
        match stored {
            Ok(Stored::Created) => {
                if self.durability == Durability::Each {
                    rustix::fs::fsync(&directory)?;
                }
            }
            // The failure or the refusal is what the caller must hear of; a leftover harms nobody.
            Ok(Stored::AlreadyExists | Stored::Unknown) | Err(_) => {
                let _ = rustix::fs::unlinkat(&directory, &leftover, AtFlags::empty());
            }
        }
        stored
    }

    /// Makes the file that a body is written to. Another machine or container may share the directory and our process
    /// number, so a name that is taken is passed over.
    fn create_leftover(&self, directory: &OwnedFd) -> Result<(String, OwnedFd), Cause> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let number = self.puts.fetch_add(1, Ordering::Relaxed);
            let leftover = format!("~{}.{number}", std::process::id());
            match rustix::fs::openat(directory, &leftover, flags, Mode::from_raw_mode(0o644)) {
                Ok(file) => return Ok((leftover, file)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn fill(&self, file: OwnedFd, body: &Body) -> Result<(), Cause> {
        let mut file = File::from(file);
        for slice in body.slices() {
            file.write_all(slice)?;
        }
        if self.durability == Durability::Each {
            file.sync_all()?;
        }
        Ok(())
    }

    /// Opens an object and tells its length.
    fn open(&self, name: &ObjectName) -> Result<(File, u64), Cause> {
        let directory = tree::open_parent(self.root()?, name)?;
        // Non-blocking, so that a pipe can't hold us up; it means nothing for a plain file.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&directory, name.file_name(), flags, Mode::empty())?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(Failure::Missing.into());
        }
        Ok((file, about.len()))
    }
}

/// Gives a complete file its name in one step.
fn publish(directory: &OwnedFd, from: &str, to: &str, mode: PutMode) -> Result<Stored, Cause> {
    let renamed = match mode {
        PutMode::Plain => rustix::fs::renameat(directory, from, directory, to),
        PutMode::Create => rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE),
    };
    match (mode, renamed) {
        (_, Ok(())) => Ok(Stored::Created),
        (PutMode::Create, Err(Errno::EXIST)) => Ok(Stored::AlreadyExists),
        // NFS and older kernels don't know NOREPLACE. A link refuses an existing name as well.
        (PutMode::Create, Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP)) => {
            match rustix::fs::linkat(directory, from, directory, to, AtFlags::empty()) {
                Ok(()) => {
                    let _ = rustix::fs::unlinkat(directory, from, AtFlags::empty());
                    Ok(Stored::Created)
                }
                Err(Errno::EXIST) => Ok(Stored::AlreadyExists),
                Err(error @ (Errno::PERM | Errno::NOTSUP | Errno::NOSYS)) => {
                    let what = "create-only puts (neither RENAME_NOREPLACE nor hard links)".to_owned();
                    Err(Cause {
                        failure: Failure::Unsupported { what },
                        source: Some(error.into()),
                    })
                }
                Err(error) => Err(error.into()),
            }
        }
        (_, Err(error)) => Err(error.into()),
    }
}

/// What is shorter comes from the allocator's own stock.
const POOLED_BYTES_MIN: usize = 1 << 20;

/// Buffers of shards that all sites share. Sixteen of 8 MiB are what is on its way of four stripes of 4+2.
static POOL: LazyLock<BufferPool> = LazyLock::new(|| BufferPool::new(16));

/// Reads `length` bytes from here on; the file was measured and may still be cut by someone meanwhile.
fn read_exactly(mut file: File, length: u64) -> Result<Bytes, Cause> {
    let capacity = usize::try_from(length).map_err(|_| Failure::TooLong {
        length: Some(length),
        bytes_max: 0,
    })?;
    if capacity >= POOLED_BYTES_MIN {
        let mut buffer = POOL.take(capacity);
        return match file.read_exact(buffer.as_mut()) {
            Ok(()) => Ok(buffer.into_bytes()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let got = file.stream_position().unwrap_or_default().min(length);
                Err(Failure::ShortRead { wanted: length, got }.into())
            }
            Err(error) => Err(error.into()),
        };
    }
    let mut bytes = Vec::with_capacity(capacity);
    file.take(length).read_to_end(&mut bytes)?;
    let got = bytes.len() as u64;
    if got != length {
        return Err(Failure::ShortRead { wanted: length, got }.into());
    }
    Ok(bytes.into())
}

/// A failure before it knows its site and operation.
#[derive(Debug)]
pub(crate) struct Cause {
    failure: Failure,
    source: Option<std::io::Error>,
}

impl Cause {
    fn into_error(self, address: &SiteAddress, operation: Operation) -> SiteError {
        let error = SiteError::new(address, operation, self.failure);
        match self.source {
            Some(source) => error.because(source),
            None => error,
        }
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        Self { failure, source: None }
    }
}

impl From<Errno> for Cause {
    fn from(error: Errno) -> Self {
        std::io::Error::from(error).into()
    }
}

impl From<std::io::Error> for Cause {
    fn from(error: std::io::Error) -> Self {
        let failure = match Errno::from_io_error(&error) {
            // LOOP: a symbolic link where an object or a directory was looked for. It is no object.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR) => Failure::Missing,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Failure::Denied,
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Failure::Full,
            Some(Errno::STALE | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NODEV | Errno::NXIO) => {
                Failure::Unreachable
            }
            Some(Errno::TIMEDOUT) => Failure::Slow {
                waited: std::time::Duration::ZERO,
            },
            _ => Failure::Other,
        };
        Self {
            failure,
            source: Some(error),
        }
    }
}

#[cfg(test)]
mod tests;
