//! One file on its way: written under another name, and named when it is complete.
//!
//! The unfinished file lies beside its final place as `.exclave-<16 hex digits>.part`; the digits are the beginning of
//! the BLAKE3 of its path, so that a later restore of the same entry finds what a killed one left, and replaces it.
//! Several threads may write one file: [`FileWriter::write_at`] takes `&self` and positions. What is never written is a
//! hole: the size is set at the end, where the data doesn't reach it.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use exclave_model::{Entry, EntryPath, hex};
use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    beneath::{lists_exactly, stat},
    options::Existing,
    problem::{Refusal, SinkError, errno_of},
    shared::Shared,
};

const PART_PREFIX: &[u8] = b".exclave-";
const PART_SUFFIX: &[u8] = b".part";

/// Name of a spool for the moment in which it has one.
pub(super) const SPOOL_NAME: &[u8] = b".exclave-spool.part";

/// True for names that only unfinished files bear. An entry of such a name would be taken for a leftover.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PART_PREFIX) && name.ends_with(PART_SUFFIX)
}

/// The name under which an entry is written until it is complete.
pub(super) fn part_name(path: &EntryPath) -> Vec<u8> {
    let hash = blake3::hash(path.as_bytes());
    [PART_PREFIX, hex(&hash.as_bytes()[..8]).as_bytes(), PART_SUFFIX].concat()
}

/// A file being restored. Dropped without [`commit`](Self::commit), it leaves nothing.
#[derive(Debug)]
pub struct FileWriter {
    shared: Arc<Shared>,
    parent: Arc<OwnedFd>,
    name: Vec<u8>,
    part: Vec<u8>,
    entry: Box<Entry>,
    file: File,
    /// Where the data so far ends.
    end: AtomicU64,
    failed: AtomicBool,
    committed: bool,
}

impl FileWriter {
    /// Creates the unfinished file, without data.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        parent: &Arc<OwnedFd>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<Self, SinkError> {
        let part = part_name(&entry.path);
        let file = create(parent, &part).map_err(|errno| SinkError::system(&entry.path, "create it", errno))?;
        shared.files_open.fetch_add(1, Ordering::AcqRel);
        Ok(Self {
            shared: Arc::clone(shared),
            parent: Arc::clone(parent),
            name: name.to_vec(),
            part,
            entry: Box::new(entry.clone()),
            file,
            end: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            committed: false,
        })
    }

    /// The entry's path.
    pub fn path(&self) -> &EntryPath {
        &self.entry.path
    }

    /// The file's size.
    pub fn size(&self) -> u64 {
        self.entry.size
    }

    /// Writes data at a position. Any number of threads may do so at once.
    ///
    /// After an error the file can only be abandoned.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let size = self.entry.size;
        let Some(end) = offset.checked_add(bytes.len() as u64).filter(|end| *end <= size) else {
            let refusal = Refusal::BeyondSize {
                offset,
                length: bytes.len(),
                size,
            };
            return Err(self.fail(SinkError::refused(&self.entry.path, refusal)));
        };
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| self.fail(SinkError::system(&self.entry.path, "write it", errno_of(&error))))?;
        self.end.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    /// Gives the complete file its mode, owner, time and attributes, and then its name. The caller has checked what it
    /// wrote.
    pub fn commit(mut self) -> Result<(), SinkError> {
        if self.failed.load(Ordering::Acquire) {
            // Recorded when it failed.
            return Err(SinkError::refused(&self.entry.path, Refusal::Incomplete));
        }
        // A hole at the end; all others came to be by writing beyond them.
        if self.end.load(Ordering::Acquire) < self.entry.size {
            rustix::fs::ftruncate(&self.file, self.entry.size)
                .map_err(|errno| self.fail(SinkError::system(&self.entry.path, "set its size", errno)))?;
        }
        let skipped = self
            .shared
            .rights
            .apply(self.file.as_fd(), &self.entry)
            .map_err(|(doing, errno)| self.fail(SinkError::system(&self.entry.path, doing, errno)))?;
        take_name(&self.shared, self.parent.as_fd(), &self.part, &self.name)
            .map_err(|errno| self.fail(SinkError::system(&self.entry.path, "name it", errno)))?;
        self.committed = true;
        self.shared.skipped(skipped);
        self.shared.summary().files += 1;
        Ok(())
    }

    /// Gives the file up and removes what was written.
    pub fn abandon(self) {
        self.shared.summary().files_abandoned += 1;
    }

    /// Records the first failure; the others follow from it.
    fn fail(&self, error: SinkError) -> SinkError {
        if self.failed.swap(true, Ordering::AcqRel) {
            return error;
        }
        self.shared.record(error)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.committed {
            // A leftover is harmless: the next restore replaces it.
            let _ = rustix::fs::unlinkat(&self.parent, &self.part[..], AtFlags::empty());
            self.shared.uncommitted(&self.entry);
        }
        self.shared.files_open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Creates the unfinished file, in place of what a killed restore left.
fn create(parent: &OwnedFd, part: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, part, flags, Mode::RUSR | Mode::WUSR);
    match open() {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(parent, part, AtFlags::empty())?;
            open()
        }
        other => other,
    }
    .map(File::from)
}

/// Renames something complete to its final name; `EEXIST` when that must not replace what is there.
pub(super) fn take_name(shared: &Shared, parent: BorrowedFd<'_>, part: &[u8], name: &[u8]) -> Result<(), Errno> {
    match shared.existing {
        Existing::Replace if !shared.folds_names => rustix::fs::renameat(parent, part, parent, name),
        Existing::Replace => match rename_new(parent, part, name) {
            // Only the same bytes are the same entry; another spelling is another entry that would be lost.
            Err(Errno::EXIST) if lists_exactly(parent, name)? => rustix::fs::renameat(parent, part, parent, name),
            other => other,
        },
        Existing::Refuse => rename_new(parent, part, name),
    }
}

/// Renames to a name that is free.
fn rename_new(parent: BorrowedFd<'_>, part: &[u8], name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::renameat_with(parent, part, parent, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        other => return other,
    }
    rename_by_link(parent, part, name)
}

/// The same for file systems without that flag: a hard link is never made over an existing name.
fn rename_by_link(parent: BorrowedFd<'_>, part: &[u8], name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::linkat(parent, part, parent, name, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(parent, part, AtFlags::empty()),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => rename_after_look(parent, part, name),
        Err(errno) => Err(errno),
    }
}

/// And without links: look first. Someone else's file that appears in between is replaced, still beneath the target.
fn rename_after_look(parent: BorrowedFd<'_>, part: &[u8], name: &[u8]) -> Result<(), Errno> {
    match stat(parent, name)? {
        Some(_) => Err(Errno::EXIST),
        None => rustix::fs::renameat(parent, part, parent, name),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_way_of_naming_replaces_anything() {
        for rename in [rename_new, rename_by_link, rename_after_look] {
            let folder = tempfile::tempdir().unwrap();
            let parent = File::open(folder.path()).unwrap();
            fs::write(folder.path().join("part"), "new").unwrap();
            fs::write(folder.path().join("taken"), "old").unwrap();
            assert_eq!(rename(parent.as_fd(), b"part", b"taken"), Err(Errno::EXIST));
            assert_eq!(rename(parent.as_fd(), b"part", b"free"), Ok(()));
            assert_eq!(fs::read(folder.path().join("taken")).unwrap(), b"old");
            assert_eq!(fs::read(folder.path().join("free")).unwrap(), b"new");
            assert!(!folder.path().join("part").exists());
        }
    }
}
