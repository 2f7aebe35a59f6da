//! Finding directories beneath the target, and only there.
//!
//! Every access starts at the target's descriptor and ends with a single name below a directory's descriptor. The way
//! between is resolved by `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`
//! (openat2(2), Linux 5.6). An older kernel, or a sandbox that hides the call, gets the same step by step: each component
//! is opened with `O_NOFOLLOW | O_DIRECTORY`, and no component is `..` by the law of `EntryPath`. Either way a directory
//! that someone swaps for a link ends in an error, never in a write elsewhere.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use exclave_model::EntryPath;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How the kernel lets us resolve a way of several components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// `openat2` keeps us beneath.
    Kernel,
    /// One `openat` per component.
    StepByStep,
}

/// The target directory.
#[derive(Debug)]
pub(super) struct Beneath {
    root: OwnedFd,
    resolver: Resolver,
}

impl Beneath {
    /// Opens an existing target. Links in the caller's own path to it are followed: that path is his word, not ours.
    pub(super) fn open(target: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(target, flags, Mode::empty())?;
        let resolver = match rustix::fs::openat2(&root, ".", DIRECTORY, Mode::empty(), resolve()) {
            Ok(_) => Resolver::Kernel,
            Err(_) => Resolver::StepByStep,
        };
        Ok(Self { root, resolver })
    }

    #[cfg(test)]
    pub(super) fn set_resolver(&mut self, resolver: Resolver) {
        self.resolver = resolver;
    }

    /// The target itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a directory beneath the target for reading and as a starting point.
    pub(super) fn directory(&self, path: &EntryPath) -> Result<OwnedFd, Errno> {
        if path.is_root() {
            return rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty());
        }
        match self.resolver {
            Resolver::Kernel => {
                retry(|| rustix::fs::openat2(&self.root, path.as_bytes(), DIRECTORY, Mode::empty(), resolve()))
            }
            Resolver::StepByStep => {
                let mut here = rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty())?;
                for name in path.components() {
                    here = child(&here, name)?;
                }
                Ok(here)
            }
        }
    }

    /// Opens the directory that holds an entry, and gives the entry's name in it; `None` for the root.
    pub(super) fn parent<'a>(&self, path: &'a EntryPath) -> Result<Option<(OwnedFd, &'a [u8])>, Errno> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(Some((self.directory(&parent)?, name))),
            _ => Ok(None),
        }
    }

    /// Opens a regular file beneath the target for reading.
    pub(super) fn file(&self, path: &EntryPath) -> Result<File, Errno> {
        let (parent, name) = self.parent(path)?.ok_or(Errno::ISDIR)?;
        // A fifo would block without NONBLOCK; what is no regular file is refused after the fact.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(File::from(file)),
            _ => Err(Errno::INVAL),
        }
    }
}

fn resolve() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// `openat2` answers `EAGAIN` when a rename raced with the check that we are still beneath.
fn retry(mut open: impl FnMut() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    const ATTEMPTS: u32 = 128; // a rename in a tight loop loses a few; more is an attack, and ends as an error
    for _ in 1..ATTEMPTS {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    open()
}

/// Opens a directory by its name in another one; a link is an error.
pub(super) fn child(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// What bears a name in a directory, links not followed; `None` when nothing does.
pub(super) fn stat(parent: impl AsFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// True when the directory lists exactly these bytes. A file system that folds case finds a name it does not list.
pub(super) fn lists_exactly(parent: impl AsFd, name: &[u8]) -> Result<bool, Errno> {
    for entry in Dir::read_from(parent)? {
        if entry?.file_name().to_bytes() == name {
            return Ok(true);
        }
    }
    Ok(false)
}
