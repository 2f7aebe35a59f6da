//! What a restore does at its end, kept on disk meanwhile: links and directories may be as many as files.
//!
//! A spool is an unnamed file in the target, so that names never leave the disk they are restored to. Records are
//! `length (4) || page of one entry || length (4)`: the trailing length lets directories be read deepest first, which
//! is the reverse of the manifest's order.

use std::{fs::File, os::unix::fs::FileExt};

use exclave_model::{Entry, manifest::Page};
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    beneath::Beneath,
    file::SPOOL_NAME,
    problem::{Refusal, errno_of},
    shared::bare,
};

/// Written in pieces of this size: large enough to make the calls rare.
const BUFFER_BYTES: usize = 64 << 10;

/// Bytes of one length.
const LENGTH_BYTES: u64 = 4;

/// Entries without their content, in the order of [`Spool::push`].
#[derive(Debug, Default)]
pub(super) struct Spool {
    file: Option<File>,
    buffer: Vec<u8>,
    flushed: u64,
}

/// Why an entry could not be spooled.
pub(super) enum SpoolError {
    /// The entry itself is at fault.
    Entry(Refusal),
    /// The target is.
    System(Errno),
}

impl Spool {
    /// Appends an entry. What it holds is left out: only files hold data, and links share it.
    pub(super) fn push(&mut self, target: &Beneath, entry: &Entry) -> Result<(), SpoolError> {
        let unlawful = |rule: String| SpoolError::Entry(Refusal::Unlawful { rule });
        let page = Page::Entries(vec![bare(entry)])
            .encode()
            .map_err(|error| unlawful(error.to_string()))?;
        let length = u32::try_from(page.len())
            .map_err(|_| unlawful("too long".to_owned()))?
            .to_le_bytes();
        for part in [&length[..], &page, &length[..]] {
            self.buffer.extend_from_slice(part);
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush(target).map_err(SpoolError::System)?;
        }
        Ok(())
    }

    fn flush(&mut self, target: &Beneath) -> Result<(), Errno> {
        let file = match self.file.take() {
            Some(file) => file,
            None => unnamed(target)?,
        };
        file.write_all_at(&self.buffer, self.flushed)
            .map_err(|error| errno_of(&error))?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Ends writing.
    pub(super) fn into_reader(mut self, target: &Beneath) -> Result<SpoolReader, Errno> {
        if !self.buffer.is_empty() {
            self.flush(target)?;
        }
        Ok(SpoolReader {
            file: self.file,
            begin: 0,
            end: self.flushed,
        })
    }
}

/// Reads a spool from either end.
#[derive(Debug)]
pub(super) struct SpoolReader {
    file: Option<File>,
    begin: u64,
    end: u64,
}

impl SpoolReader {
    /// The entry that was pushed first of those left.
    pub(super) fn first(&mut self) -> Result<Option<Entry>, Errno> {
        if self.begin >= self.end {
            return Ok(None);
        }
        let length = self.length_at(self.begin)?;
        let entry = self.entry_at(self.begin + LENGTH_BYTES, length)?;
        self.begin += 2 * LENGTH_BYTES + length;
        Ok(Some(entry))
    }

    /// The entry that was pushed last of those left.
    pub(super) fn last(&mut self) -> Result<Option<Entry>, Errno> {
        if self.begin >= self.end {
            return Ok(None);
        }
        let length = self.length_at(self.end - LENGTH_BYTES)?;
        let begin = self.end.checked_sub(2 * LENGTH_BYTES + length).ok_or(Errno::IO)?;
        let entry = self.entry_at(begin + LENGTH_BYTES, length)?;
        self.end = begin;
        Ok(Some(entry))
    }

    fn length_at(&self, at: u64) -> Result<u64, Errno> {
        let mut length = [0u8; 4];
        self.read(&mut length, at)?;
        Ok(u64::from(u32::from_le_bytes(length)))
    }

    fn entry_at(&self, at: u64, length: u64) -> Result<Entry, Errno> {
        if at.checked_add(length).is_none_or(|end| end > self.end) {
            return Err(Errno::IO);
        }
        let mut page = vec![0u8; usize::try_from(length).map_err(|_| Errno::IO)?];
        self.read(&mut page, at)?;
        // We wrote these bytes; a disk that gives back others is a broken disk.
        match Page::decode(&page) {
            Ok(Page::Entries(mut entries)) => entries.pop().ok_or(Errno::IO),
            Ok(Page::Children { .. } | Page::Extents(_)) | Err(_) => Err(Errno::IO),
        }
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Errno> {
        let file = self.file.as_ref().ok_or(Errno::IO)?;
        file.read_exact_at(bytes, at).map_err(|error| errno_of(&error))
    }
}

/// A file without a name in the target; where the file system has none, one whose name is gone at once.
fn unnamed(target: &Beneath) -> Result<File, Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(target.root(), ".", flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(File::from(file)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    match rustix::fs::unlinkat(target.root(), SPOOL_NAME, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(target.root(), SPOOL_NAME, flags, mode)?;
    rustix::fs::unlinkat(target.root(), SPOOL_NAME, AtFlags::empty())?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use exclave_model::{EntryKind, EntryPath};

    use super::*;

    #[test]
    fn reads_from_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let target = Beneath::open(folder.path()).unwrap();
        let entries: Vec<_> = (0..5000)
            .map(|number| {
                let path = EntryPath::parse(format!("{number:05}{}", "x".repeat(number % 200)).as_bytes()).unwrap();
                Entry::new(path, EntryKind::Directory)
            })
            .collect();
        let fill = || {
            let mut spool = Spool::default();
            for entry in &entries {
                assert!(spool.push(&target, entry).is_ok());
            }
            spool.into_reader(&target).unwrap()
        };
        let mut reader = fill();
        let forward: Vec<_> = std::iter::from_fn(|| reader.first().unwrap()).collect();
        let mut reader = fill();
        let mut backward: Vec<_> = std::iter::from_fn(|| reader.last().unwrap()).collect();
        backward.reverse();
        assert_eq!(forward, entries);
        assert_eq!(backward, entries);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "a spool has no name"
        );
    }
}
