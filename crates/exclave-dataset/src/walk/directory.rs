//! Directories as descriptors, of which only a bounded number is open at any time.
//!
//! The walk and every [`Opener`] refer to a [`Directory`]. Its descriptor may be closed at any time to keep within the
//! pool's bound, and is opened again from its parent when needed; the file's number is compared, so a directory that
//! was moved or replaced in between is noticed, never followed. Thus a queue of openers, however long, and a tree,
//! however deep, can't exhaust the process's descriptors.

use std::{
    collections::VecDeque,
    ffi::{CStr, CString},
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Statx, StatxFlags},
    io::Errno,
};

use super::{
    names::Names,
    stat::{FileId, FileStat},
};

/// Directories that are open at the same time, besides those in use at this moment. Far below the usual limit of 1,024
/// descriptors, and deep enough that ordinary trees never reopen anything.
const OPEN_DIRECTORIES_MAX: usize = 64;

/// Bytes that one `getdents64` call fills.
const LISTING_BYTES: usize = 64 << 10;

/// One directory of a tree. Keeps its parents, so that it can be found again.
pub(crate) struct Directory {
    parent: Option<(Arc<Directory>, CString)>,
    id: FileId,
    open: Mutex<Option<Arc<OwnedFd>>>,
    pool: Arc<Pool>,
}

/// The directories whose descriptors are open, oldest first.
#[derive(Default)]
struct Pool(Mutex<VecDeque<Weak<Directory>>>);

impl Directory {
    /// The root of a walk; its descriptor stays open.
    pub(crate) fn root(descriptor: OwnedFd) -> Result<Arc<Self>, Errno> {
        let id = FileStat::of(&stat_descriptor(descriptor.as_fd())?).id();
        Ok(Arc::new(Self {
            parent: None,
            id,
            open: Mutex::new(Some(Arc::new(descriptor))),
            pool: Arc::default(),
        }))
    }

    /// Opens a directory inside this one, without following a link; gives its metadata from the descriptor.
    pub(crate) fn child(self: &Arc<Self>, name: CString) -> Result<(Arc<Self>, Statx), Errno> {
        let descriptor = open_directory(self.descriptor()?.as_fd(), &name)?;
        let statx = stat_descriptor(descriptor.as_fd())?;
        let child = Arc::new(Self {
            parent: Some((Arc::clone(self), name)),
            id: FileStat::of(&statx).id(),
            open: Mutex::new(Some(Arc::new(descriptor))),
            pool: Arc::clone(&self.pool),
        });
        child.pool.admit(&child);
        Ok((child, statx))
    }

    /// The descriptor, opened again from the nearest open parent when it was closed.
    pub(crate) fn descriptor(self: &Arc<Self>) -> Result<Arc<OwnedFd>, Errno> {
        let mut closed = Vec::new();
        let mut nearest = self;
        let mut descriptor = loop {
            if let Some(open) = lock(&nearest.open).as_ref() {
                break Arc::clone(open);
            }
            let (parent, name) = nearest.parent.as_ref().ok_or(Errno::STALE)?;
            closed.push((nearest, name));
            nearest = parent;
        };
        for (directory, name) in closed.into_iter().rev() {
            let reopened = open_directory(descriptor.as_fd(), name)?;
            if FileStat::of(&stat_descriptor(reopened.as_fd())?).id() != directory.id {
                return Err(Errno::STALE);
            }
            descriptor = Arc::new(reopened);
            *lock(&directory.open) = Some(Arc::clone(&descriptor));
            directory.pool.admit(directory);
        }
        Ok(descriptor)
    }

    /// Reads all names but `.` and `..`, unsorted. `Ok(None)` when they need more than `bytes_max`.
    pub(crate) fn names(self: &Arc<Self>, bytes_max: usize) -> Result<Option<Names>, Errno> {
        let descriptor = self.descriptor()?;
        // The descriptor may have been listed before; the position is shared by all who hold it.
        rustix::fs::seek(&descriptor, rustix::fs::SeekFrom::Start(0))?;
        let mut buffer = Vec::with_capacity(LISTING_BYTES);
        let mut listing = RawDir::new(&descriptor, buffer.spare_capacity_mut());
        let mut names = Names::default();
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if !names.push(name, bytes_max) {
                return Ok(None);
            }
        }
        Ok(Some(names))
    }

    #[cfg(test)]
    fn is_open(&self) -> bool {
        lock(&self.open).is_some()
    }
}

impl Pool {
    fn admit(&self, directory: &Arc<Directory>) {
        let mut open = lock(&self.0);
        if open.len() >= OPEN_DIRECTORIES_MAX {
            open.retain(|known| known.strong_count() > 0);
        }
        let oldest = (open.len() >= OPEN_DIRECTORIES_MAX)
            .then(|| open.pop_front())
            .flatten()
            .and_then(|oldest| oldest.upgrade());
        open.push_back(Arc::downgrade(directory));
        drop(open);
        // A directory admitted twice may lose its place early: it is opened once more, nothing else.
        if let Some(oldest) = oldest.filter(|oldest| !Arc::ptr_eq(oldest, directory)) {
            drop(lock(&oldest.open).take());
        }
    }
}

/// A panic elsewhere leaves these plain values whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens one regular file later, from any thread: the file that the walk saw, or an error.
#[derive(Clone)]
pub struct Opener {
    directory: Arc<Directory>,
    name: CString,
    seen: FileStat,
}

/// Why a file that the walk saw can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its name is gone, or its directory was moved.
    #[error("it vanished after it was seen")]
    Vanished,
    /// Another file has taken its name.
    #[error("another file has taken its place")]
    Replaced,
    /// The system refuses.
    #[error("it can't be opened")]
    Refused(#[source] std::io::Error),
}

impl Opener {
    pub(crate) fn new(directory: Arc<Directory>, name: CString, seen: FileStat) -> Self {
        Self { directory, name, seen }
    }

    /// The file's state when the walk saw it.
    pub fn seen(&self) -> &FileStat {
        &self.seen
    }

    /// Opens the file for reading, without following a link and without touching its access time where permitted.
    pub(crate) fn open(&self) -> Result<(File, Statx), OpenError> {
        let directory = self.directory.descriptor().map_err(open_error)?;
        let descriptor = open_file(directory.as_fd(), &self.name).map_err(open_error)?;
        let statx = stat_descriptor(descriptor.as_fd()).map_err(open_error)?;
        if FileStat::of(&statx).id() != self.seen.id() || !is_regular(&statx) {
            return Err(OpenError::Replaced);
        }
        Ok((File::from(descriptor), statx))
    }
}

fn open_error(errno: Errno) -> OpenError {
    match errno {
        // NOTDIR, LOOP: a parent or the file became something else.
        Errno::NOENT | Errno::STALE | Errno::NOTDIR => OpenError::Vanished,
        Errno::LOOP => OpenError::Replaced,
        other => OpenError::Refused(other.into()),
    }
}

/// Opens what stands at a path that a person gave: links are followed.
pub(crate) fn open_given(path: &std::path::Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    open_quietly(parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW)
}

/// Opens a file so that neither a pipe nor a lease can hold us up for ever.
pub(crate) fn open_file(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::NOCTTY;
    match open_quietly(parent, name, flags | OFlags::NONBLOCK) {
        Err(Errno::AGAIN) => {}
        opened => return opened,
    }
    // A lease (Samba's oplocks) is being broken: wait for it, but only once we know that this is a file. The link in
    // /proc leads to exactly the file that was looked at.
    let handle = rustix::fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if !is_regular(&stat_descriptor(handle.as_fd())?) {
        return Err(Errno::AGAIN);
    }
    let path = proc_path(handle.as_fd(), b"");
    rustix::fs::openat(
        CWD,
        path.as_slice(),
        OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Tries not to touch the access time; only the owner of a file may ask for that.
fn open_quietly(parent: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(parent, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// The way to `name` through an open directory, for calls that know no directory descriptors; without a name, to the
/// descriptor's own file.
pub(crate) fn proc_path(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}", directory.as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

pub(crate) fn stat_descriptor(descriptor: BorrowedFd<'_>) -> Result<Statx, Errno> {
    rustix::fs::statx(descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// Looks at a name without following a link or mounting anything.
pub(crate) fn stat_name(directory: BorrowedFd<'_>, name: &CStr) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)
}

fn is_regular(statx: &Statx) -> bool {
    FileType::from_raw_mode(u32::from(statx.stx_mode)) == FileType::RegularFile
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    fn root(path: &Path) -> Arc<Directory> {
        Directory::root(open_given(path, OFlags::DIRECTORY).unwrap()).unwrap()
    }

    fn c(name: &str) -> CString {
        CString::new(name).unwrap()
    }

    #[test]
    fn descriptors_are_bounded_and_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let mut chain = vec![root(folder.path())];
        let mut path = folder.path().to_path_buf();
        for _ in 0..3 * OPEN_DIRECTORIES_MAX {
            path.push("d");
            fs::create_dir(&path).unwrap();
            let (child, _) = chain.last().unwrap().child(c("d")).unwrap();
            chain.push(child);
        }
        let open = |chain: &[Arc<Directory>]| chain.iter().filter(|directory| directory.is_open()).count();
        assert_eq!(open(&chain), OPEN_DIRECTORIES_MAX + 1);
        assert!(!chain[100].is_open());
        chain[100].descriptor().unwrap();
        assert!(chain[100].is_open());
        assert_eq!(open(&chain), OPEN_DIRECTORIES_MAX + 1);
    }

    #[test]
    fn a_directory_that_was_swapped_is_not_entered() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/f"), b"x").unwrap();
        let root = root(folder.path());
        let (a, _) = root.child(c("a")).unwrap();
        let (b, _) = a.child(c("b")).unwrap();
        let seen = FileStat::of(&stat_name(b.descriptor().unwrap().as_fd(), &c("f")).unwrap());
        let opener = Opener::new(Arc::clone(&b), c("f"), seen);
        assert!(opener.open().is_ok());
        drop(lock(&b.open).take());
        fs::rename(folder.path().join("a/b"), folder.path().join("a/old")).unwrap();
        symlink("old", folder.path().join("a/b")).unwrap();
        assert!(matches!(opener.open(), Err(OpenError::Vanished | OpenError::Replaced)));
        fs::remove_file(folder.path().join("a/b")).unwrap();
        fs::create_dir(folder.path().join("a/b")).unwrap();
        assert!(matches!(opener.open(), Err(OpenError::Vanished)));
    }

    #[test]
    fn a_file_that_was_replaced_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"x").unwrap();
        let root = root(folder.path());
        let seen = FileStat::of(&stat_name(root.descriptor().unwrap().as_fd(), &c("f")).unwrap());
        let opener = Opener::new(root, c("f"), seen);
        fs::rename(&path, folder.path().join("kept")).unwrap();
        assert!(matches!(opener.open(), Err(OpenError::Vanished)));
        symlink("kept", &path).unwrap();
        assert!(matches!(opener.open(), Err(OpenError::Replaced)));
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(
            matches!(opener.open(), Err(OpenError::Replaced)),
            "and a pipe doesn't hold us up"
        );
    }
}
