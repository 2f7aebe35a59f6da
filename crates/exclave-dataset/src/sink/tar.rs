//! A tree as one pax stream, for programs that know nothing of us.
//!
//! Entries come in the manifest's order and leave in it; nothing is sought, nothing is held. Holes are written as zeros.
//! The order guards those who unpack: no entry stands below a link, and hard links name files of the same stream.

use std::{
    error::Error,
    io::{self, Write},
};

use ::tar::{EntryType, Header};
use exclave_model::{Entry, EntryKind, EntryPath};

use super::{
    expand::{ExpandError, expand, zeros},
    links::{LinkGroups, Member},
    order::Order,
    pax::{BLOCK_BYTES, Records, describe},
    problem::{Problem, Refusal},
    shared::PROBLEMS_LISTED_MAX,
};

/// Zero blocks that end a stream.
const END_BLOCKS: u64 = 2;

/// Greatest device number part in seven octal digits.
const DEVICE_PART_MAX: u64 = 0o7_777_777;

/// Why a stream could not go on, or, for [`TarError::Entry`], why one entry is not in it.
#[derive(Debug, thiserror::Error)]
pub enum TarError<E: Error + 'static> {
    /// One entry; already in the summary.
    #[error(transparent)]
    Entry(Problem),
    /// The stream ends within a file, and is worthless from there on.
    #[error("{path} ends too early")]
    Content {
        /// The file.
        path: EntryPath,
        /// Why.
        source: ExpandError<E>,
    },
    /// The stream did not take a header.
    #[error("the stream can't be written")]
    Write(#[source] io::Error),
}

impl<E: Error + 'static> TarError<E> {
    /// True when the stream must end; false when only one entry is concerned.
    pub fn stops(&self) -> bool {
        match self {
            Self::Entry(_) => false,
            Self::Content { .. } | Self::Write(_) => true,
        }
    }
}

/// What a stream holds, in counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TarSummary {
    /// Files with their bytes.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Fifos and devices.
    pub specials: u64,
    /// Sockets, and devices with numbers that the format has no room for.
    pub specials_skipped: u64,
    /// Extended attributes whose name a record can't bear.
    pub xattrs_skipped: u64,
    /// Entries that are not in the stream.
    pub problems_count: u64,
    /// The first 1,000 of them.
    pub problems: Vec<Problem>,
}

/// Writes a pax stream.
#[derive(Debug)]
pub struct TarWriter<W: Write> {
    out: W,
    order: Order,
    groups: LinkGroups,
    summary: TarSummary,
}

impl<W: Write> TarWriter<W> {
    /// Writes to this stream; buffering is the caller's affair.
    pub fn new(out: W) -> Self {
        Self {
            out,
            order: Order::default(),
            groups: LinkGroups::default(),
            summary: TarSummary::default(),
        }
    }

    /// Takes the next entry, and a file's `(offset, bytes)` pieces, ascending. The pieces are asked for only when the
    /// file's bytes are written: not for further names of it.
    pub fn append<E: Error + 'static, B: AsRef<[u8]>>(
        &mut self,
        entry: &Entry,
        pieces: impl IntoIterator<Item = Result<(u64, B), E>>,
    ) -> Result<(), TarError<E>> {
        self.order
            .admit(&entry.path)
            .map_err(|refusal| self.refuse(entry, refusal))?;
        match entry.kind {
            EntryKind::Directory => self.order.directory(),
            EntryKind::File
            | EntryKind::Symlink
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharDevice
            | EntryKind::BlockDevice => self.order.leaf(),
        }
        if entry.path.is_root() && entry.kind != EntryKind::Directory {
            return Err(self.refuse(entry, Refusal::RootNotDirectory));
        }
        match entry.kind {
            EntryKind::File => self.file(entry, pieces),
            kind => self.without_data(entry, kind),
        }
    }

    fn file<E: Error + 'static, B: AsRef<[u8]>>(
        &mut self,
        entry: &Entry,
        pieces: impl IntoIterator<Item = Result<(u64, B), E>>,
    ) -> Result<(), TarError<E>> {
        let name = entry.path.as_bytes();
        if let Member::Link(first) = self.groups.member(entry) {
            self.header(entry, EntryType::Link, name, Some(first.as_bytes()), 0)?;
            self.summary.hard_links += 1;
            return Ok(());
        }
        self.groups.note(entry);
        self.header(entry, EntryType::Regular, name, None, entry.size)?;
        let content = |source| TarError::Content {
            path: entry.path.clone(),
            source,
        };
        expand(&mut self.out, entry.size, pieces).map_err(content)?;
        self.pad(entry.size)?;
        self.summary.files += 1;
        Ok(())
    }

    fn without_data<E: Error + 'static>(&mut self, entry: &Entry, kind: EntryKind) -> Result<(), TarError<E>> {
        let name = entry.path.as_bytes();
        match kind {
            EntryKind::Directory => {
                let name = [if name.is_empty() { b"." } else { name }, b"/"].concat();
                self.header(entry, EntryType::Directory, &name, None, 0)?;
                self.summary.directories += 1;
            }
            EntryKind::Symlink => {
                let to = entry.link_target.as_deref().unwrap_or_default();
                if to.is_empty() || to.contains(&0) {
                    let rule = "the target of a link is empty or holds a NUL byte".to_owned();
                    return Err(self.refuse(entry, Refusal::Unlawful { rule }));
                }
                self.header(entry, EntryType::Symlink, name, Some(to), 0)?;
                self.summary.symlinks += 1;
            }
            EntryKind::Fifo => {
                self.header(entry, EntryType::Fifo, name, None, 0)?;
                self.summary.specials += 1;
            }
            EntryKind::CharDevice => self.device(entry, EntryType::Char)?,
            EntryKind::BlockDevice => self.device(entry, EntryType::Block)?,
            EntryKind::Socket | EntryKind::File => self.summary.specials_skipped += 1,
        }
        Ok(())
    }

    fn device<E: Error + 'static>(&mut self, entry: &Entry, kind: EntryType) -> Result<(), TarError<E>> {
        let number = entry.device.unwrap_or(u64::MAX);
        let (major, minor) = (number >> 32, number & u64::from(u32::MAX));
        if major > DEVICE_PART_MAX || minor > DEVICE_PART_MAX {
            self.summary.specials_skipped += 1;
            return Ok(());
        }
        let (mut header, records) = self.describe(entry, kind, entry.path.as_bytes(), None, 0);
        // Both numbers were just found to fit.
        let set = header
            .set_device_major(major as u32)
            .and_then(|()| header.set_device_minor(minor as u32));
        set.map_err(TarError::Write)?;
        self.put(header, records)?;
        self.summary.specials += 1;
        Ok(())
    }

    fn header<E: Error + 'static>(
        &mut self,
        entry: &Entry,
        kind: EntryType,
        name: &[u8],
        link: Option<&[u8]>,
        size: u64,
    ) -> Result<(), TarError<E>> {
        let (header, records) = self.describe(entry, kind, name, link, size);
        self.put(header, records)
    }

    fn describe(
        &mut self,
        entry: &Entry,
        kind: EntryType,
        name: &[u8],
        link: Option<&[u8]>,
        size: u64,
    ) -> (Header, Records) {
        let (header, mut records) = describe(entry, kind, name, link, size);
        if kind != EntryType::Link {
            for (name, value) in &entry.xattrs {
                match std::str::from_utf8(name) {
                    Ok(name) if !name.contains(['=', '\0', '\n']) && !name.is_empty() => {
                        records.push(&format!("SCHILY.xattr.{name}"), value);
                    }
                    Ok(_) | Err(_) => self.summary.xattrs_skipped += 1,
                }
            }
        }
        (header, records)
    }

    fn put<E: Error + 'static>(&mut self, mut header: Header, records: Records) -> Result<(), TarError<E>> {
        if let Some((before, bytes)) = records.into_block() {
            self.out.write_all(before.as_bytes()).map_err(TarError::Write)?;
            self.out.write_all(&bytes).map_err(TarError::Write)?;
            self.pad(bytes.len() as u64)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(TarError::Write)
    }

    /// Fills the last block.
    fn pad<E: Error + 'static>(&mut self, bytes: u64) -> Result<(), TarError<E>> {
        let rest = bytes % BLOCK_BYTES;
        zeros(&mut self.out, if rest == 0 { 0 } else { BLOCK_BYTES - rest }).map_err(TarError::Write)
    }

    fn refuse<E: Error + 'static>(&mut self, entry: &Entry, refusal: Refusal) -> TarError<E> {
        let problem = Problem {
            path: entry.path.clone(),
            refusal,
        };
        self.summary.problems_count += 1;
        if self.summary.problems.len() < PROBLEMS_LISTED_MAX {
            self.summary.problems.push(problem.clone());
        }
        TarError::Entry(problem)
    }

    /// Ends the stream and gives it back.
    pub fn finish(mut self) -> io::Result<(W, TarSummary)> {
        zeros(&mut self.out, END_BLOCKS * BLOCK_BYTES)?;
        self.out.flush()?;
        Ok((self.out, self.summary))
    }
}
