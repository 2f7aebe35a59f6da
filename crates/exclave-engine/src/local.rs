//! Files of the agent's own: replaced as a whole, fsynced, readable by their owner only; and locks.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Longest local record; journals are read entry by entry and may be longer.
const LOCAL_BYTES_MAX: u64 = 64 << 20;

/// Something about the agent's own files went wrong.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The operating system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what this program wrote.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// Another process works on the same thing.
    #[error("{what} is in use by process {pid}")]
    Locked {
        /// What.
        what: String,
        /// By whom.
        pid: String,
    },
}

impl LocalError {
    /// True when the disk is full: nothing is lost, and trying again after making room is right.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Damaged { .. } | Self::Locked { .. } => false,
        }
    }
}

pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    let path = path.to_owned();
    move |source| LocalError::Io { what, path, source }
}

/// Creates a folder that only its owner may enter.
pub(crate) fn create_folder(path: &Path) -> Result<(), LocalError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create folder", path))
}

/// Replaces a file as a whole: afterwards it holds the old bytes or the new ones, also after a power cut.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), LocalError> {
    let beside = path.with_extension("new");
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_parent(path)
    };
    written().map_err(failed("write", path))
}

/// Makes a created, renamed or removed name durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Reads a small file; `None` when it is not there.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, LocalError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(LOCAL_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    Ok(Some(bytes))
}

/// Removes a file; it may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), LocalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => sync_parent(path).map_err(failed("remove", path)),
    }
}

/// Moves a file or folder to a name beside it that isn't taken.
pub(crate) fn move_aside(path: &Path, to: &Path) -> Result<(), LocalError> {
    if to.symlink_metadata().is_ok() {
        return Err(failed("move aside to", to)(io::Error::from(
            io::ErrorKind::AlreadyExists,
        )));
    }
    fs::rename(path, to)
        .and_then(|()| sync_parent(to))
        .map_err(failed("move aside", path))
}

/// What to do when someone else holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Refuse, naming the process.
    Refuse,
    /// Wait.
    Wait,
}

/// A lock of this host; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock that `path` stands for.
    pub(crate) fn take(path: &Path, what: &str, patience: Patience) -> Result<Self, LocalError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed("open lock", path))?;
        let operation = match patience {
            Patience::Refuse => FlockOperation::NonBlockingLockExclusive,
            Patience::Wait => FlockOperation::LockExclusive,
        };
        if let Err(error) = flock(&file, operation) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(failed("lock", path)(error.into()));
            }
            let mut pid = String::new();
            let _ = file.take(32).read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() {
                "unknown".to_owned()
            } else {
                pid.trim().to_owned()
            };
            return Err(LocalError::Locked {
                what: what.to_owned(),
                pid,
            });
        }
        let noted = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        noted.map_err(failed("write lock", path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path, "dataset x", Patience::Refuse).unwrap();
        let refused = Lock::take(&path, "dataset x", Patience::Refuse).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("dataset x is in use by process {}", std::process::id())
        );
        drop(held);
        Lock::take(&path, "dataset x", Patience::Refuse).unwrap();
    }

    #[test]
    fn replacing_is_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
