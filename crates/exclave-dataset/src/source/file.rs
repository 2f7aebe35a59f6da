//! Files that a walk found.
//!
//! A read opens the file again, checks that it is the one the walk saw, takes its metadata from the descriptor, reads
//! its data extents and looks once more at the end. When size, times and number are what they were at the beginning, the
//! read is [`Consistency::Stable`]; else it mixes two states and should be repeated. Before Linux 6.13 a write within the
//! same clock tick (a few milliseconds) as the opening leaves no trace; the two-second rule of
//! [`unchanged`](crate::walk::unchanged) makes the next snapshot read such a file again. The metadata that belongs to the
//! content is the read's own, not the walk's: [`Metadata::apply_to`].

use std::{
    fs::File,
    io,
    num::NonZeroU32,
    ops::Range,
    os::{fd::AsFd, unix::fs::FileExt},
};

use exclave_model::{Entry, EntryPath};
use rustix::fs::Statx;

use super::{Piece, extents::DataExtents};
use crate::{
    cut::{Cutter, Window},
    walk::{
        FileStat, Finding, OpenError, Opener,
        attributes::{self, Attributes},
        directory::stat_descriptor,
    },
};

/// Reads files, one after another, in one window of memory. One per thread.
pub struct FileReader {
    cutter: Cutter,
    window: Window,
}

/// Why a file can't be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not the file that the walk saw, or none.
    #[error("the file can't be opened again")]
    Open(#[from] OpenError),
    /// The device, the network or the file system failed.
    #[error("reading fails at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ReadError {
    /// Says it as a finding about the file.
    pub fn to_finding(&self, path: EntryPath) -> Finding {
        match self {
            Self::Open(OpenError::Vanished | OpenError::Replaced) => Finding::Vanished { path },
            Self::Open(OpenError::Refused(source)) | Self::Read { source, .. } => Finding::Unreadable {
                path,
                refusal: source.into(),
            },
        }
    }
}

/// Whether a read saw one state of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing changed between opening and the last byte.
    Stable,
    /// Something did.
    Changed,
}

/// A read that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether what was read is one state.
    pub consistency: Consistency,
    /// What belongs to the content that was read.
    pub metadata: Metadata,
    /// How often the file was read.
    pub attempts: u32,
}

/// Metadata as it was when the file was opened for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What tells this state from another; to be remembered for the next snapshot.
    pub stat: FileStat,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Read only when the file differs from what the walk saw.
    xattrs: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Metadata {
    /// Brings the walk's entry up to the state that was read.
    pub fn apply_to(self, entry: &mut Entry) {
        if entry.uid != self.uid {
            entry.owner_name = None;
        }
        if entry.gid != self.gid {
            entry.group_name = None;
        }
        entry.mode = self.mode;
        entry.uid = self.uid;
        entry.gid = self.gid;
        entry.modified = self.stat.modified;
        entry.size = self.stat.size;
        if let Some(xattrs) = self.xattrs {
            entry.xattrs = xattrs;
        }
    }

    fn of(statx: &Statx, file: &File, seen: &FileStat) -> Self {
        let stat = FileStat::of(statx);
        // Attributes that can't be read now stay as the walk has them.
        let xattrs = (!stat.same_state(seen))
            .then(|| attributes::of_descriptor(file.as_fd()).ok())
            .flatten()
            .map(|Attributes { pairs, .. }| pairs);
        Self {
            stat,
            mode: u32::from(statx.stx_mode) & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            xattrs,
        }
    }
}

/// Why [`FileReader::read_stable`] stopped.
#[derive(Debug, thiserror::Error)]
pub enum StableError<E> {
    /// The file can't be read.
    #[error(transparent)]
    Read(ReadError),
    /// Whoever takes the pieces has had enough.
    #[error("a piece was not taken")]
    Taken(E),
}

impl FileReader {
    /// Prepares an empty window.
    pub fn new(cutter: Cutter) -> Self {
        Self {
            cutter,
            window: Window::default(),
        }
    }

    /// Starts one read of a file.
    pub fn open(&mut self, opener: &Opener) -> Result<Pieces<'_>, ReadError> {
        let (file, statx) = opener.open()?;
        self.window.clear();
        let metadata = Metadata::of(&statx, &file, opener.seen());
        Ok(Pieces {
            reader: self,
            extents: DataExtents::new(metadata.stat.size, statx.stx_blocks),
            extent: 0..0,
            piece_at: 0,
            ended: false,
            size: metadata.stat.size,
            metadata,
            file,
        })
    }

    /// Reads a file until a read is stable, at most `attempts` times, and hands on each piece with the number of its
    /// attempt, from 1. Only the pieces of the last attempt, [`Outcome::attempts`], are the file.
    pub fn read_stable<E>(
        &mut self,
        opener: &Opener,
        attempts: NonZeroU32,
        mut take: impl FnMut(u32, Piece) -> Result<(), E>,
    ) -> Result<Outcome, StableError<E>> {
        let mut attempt = 1;
        loop {
            let mut pieces = self.open(opener).map_err(StableError::Read)?;
            while let Some(piece) = pieces.next_piece().map_err(StableError::Read)? {
                take(attempt, piece).map_err(StableError::Taken)?;
            }
            let outcome = pieces.finish().map_err(StableError::Read)?;
            if outcome.consistency == Consistency::Stable || attempt >= attempts.get() {
                return Ok(Outcome {
                    attempts: attempt,
                    ..outcome
                });
            }
            attempt += 1;
        }
    }
}

/// The pieces of one read of one file.
pub struct Pieces<'r> {
    reader: &'r mut FileReader,
    file: File,
    metadata: Metadata,
    extents: DataExtents,
    /// The part of the present extent that is not yet in the window.
    extent: Range<u64>,
    piece_at: u64,
    size: u64,
    ended: bool,
}

impl Pieces<'_> {
    /// The next piece; `None` when all data was read.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, ReadError> {
        loop {
            let (file, extent) = (&self.file, &mut self.extent);
            let read = |buffer: &mut [u8]| read_within(file, extent, buffer);
            let chunk = self.reader.window.next_chunk(&self.reader.cutter, read);
            if let Some(raw) = chunk.map_err(|source| self.failed(source))? {
                let offset = self.piece_at;
                self.piece_at += raw.len() as u64;
                return Ok(Some(Piece { offset, raw }));
            }
            if !self.extent.is_empty() {
                // The file ends early: it shrank, or its file system never told the truth about its size.
                self.size = self.extent.start;
                self.extents.end_here();
            }
            match self.extents.next(&self.file) {
                Ok(Some(extent)) => {
                    self.reader.window.clear();
                    self.piece_at = extent.start;
                    self.extent = extent;
                }
                Ok(None) => {
                    self.extent = 0..0;
                    self.ended = true;
                    return Ok(None);
                }
                Err(source) => return Err(self.failed(source)),
            }
        }
    }

    /// Compares the file with what it was at the beginning. Before [`next_piece`](Self::next_piece) has given `None`, the
    /// read is no state of the file at all, and never stable.
    pub fn finish(self) -> Result<Outcome, ReadError> {
        let statx = stat_descriptor(self.file.as_fd()).map_err(|errno| self.failed(errno.into()))?;
        let consistency = if self.ended && FileStat::of(&statx).same_state(&self.metadata.stat) {
            Consistency::Stable
        } else {
            Consistency::Changed
        };
        let mut metadata = self.metadata;
        metadata.stat.size = self.size;
        Ok(Outcome {
            consistency,
            metadata,
            attempts: 1,
        })
    }

    fn failed(&self, source: io::Error) -> ReadError {
        ReadError::Read {
            offset: self.extent.start,
            source,
        }
    }
}

/// Reads from the front of an extent and shortens it.
fn read_within(file: &File, extent: &mut Range<u64>, buffer: &mut [u8]) -> io::Result<usize> {
    let left = usize::try_from(extent.end - extent.start).unwrap_or(usize::MAX);
    let length = buffer.len().min(left);
    let count = file.read_at(buffer.get_mut(..length).unwrap_or_default(), extent.start)?;
    extent.start += count as u64;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use crate::{
        cut::tests::{lengths, noise, small},
        walk::find_file,
    };

    const ONCE: NonZeroU32 = NonZeroU32::MIN;

    fn found(path: &Path) -> (Entry, Opener) {
        let (found, findings) = find_file(path).unwrap();
        assert_eq!(findings, []);
        (found.entry, found.opener.unwrap())
    }

    /// Reads once; puts the pieces where they belong.
    fn content(reader: &mut FileReader, opener: &Opener) -> (Vec<Piece>, Vec<u8>, Outcome) {
        let mut pieces = Vec::new();
        let outcome = reader
            .read_stable(opener, ONCE, |_, piece| {
                pieces.push(piece);
                Ok::<(), ()>(())
            })
            .unwrap();
        let mut content = vec![0; outcome.metadata.stat.size as usize];
        for piece in &pieces {
            let start = piece.offset as usize;
            content[start..start + piece.raw.len()].copy_from_slice(&piece.raw);
        }
        (pieces, content, outcome)
    }

    #[test]
    fn files_of_all_sizes_are_read_whole_with_one_reader() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = FileReader::new(small());
        for size in [0, 1, 1023, 1024, 16 << 10, (16 << 10) + 1, 300_000, 2, 1_000_000] {
            let path = folder.path().join(size.to_string());
            let input = noise(size, size as u64);
            fs::write(&path, &input).unwrap();
            let (entry, opener) = found(&path);
            let (pieces, content, outcome) = content(&mut reader, &opener);
            assert_eq!(content, input);
            assert_eq!(outcome.consistency, Consistency::Stable);
            assert_eq!(entry.size, size as u64);
            let cut: Vec<_> = pieces.iter().map(|piece| piece.raw.len()).collect();
            assert_eq!(cut, lengths(&small(), &input), "a file is cut like its bytes");
        }
    }

    #[test]
    fn holes_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let (head, tail) = (noise(50_000, 1), noise(60_000, 2));
        file.write_all_at(&head, 0).unwrap();
        file.write_all_at(&tail, 900 << 30).unwrap();
        let (entry, opener) = found(&path);
        assert_eq!(entry.size, 1 << 40);
        let mut reader = FileReader::new(small());
        let mut pieces = reader.open(&opener).unwrap();
        let mut data = std::collections::BTreeMap::new();
        let mut bytes = 0;
        while let Some(piece) = pieces.next_piece().unwrap() {
            bytes += piece.raw.len();
            data.insert(piece.offset, piece.raw);
        }
        assert_eq!(pieces.finish().unwrap().consistency, Consistency::Stable);
        assert!(bytes < 200_000, "{bytes}");
        let joined: Vec<u8> = data.range(..1 << 30).flat_map(|(_, raw)| raw.clone()).collect();
        assert!(joined.starts_with(&head) && joined[head.len()..].iter().all(|byte| *byte == 0));
        let joined: Vec<u8> = data.range(900 << 30..).flat_map(|(_, raw)| raw.clone()).collect();
        assert!(joined.starts_with(&tail));
        assert!(data.contains_key(&(900 << 30)), "an extent begins a chunk");
    }

    #[test]
    fn a_read_that_was_not_finished_is_not_stable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, noise(100_000, 1)).unwrap();
        let (_, opener) = found(&path);
        let mut reader = FileReader::new(small());
        let mut pieces = reader.open(&opener).unwrap();
        assert!(pieces.next_piece().unwrap().is_some());
        assert_eq!(pieces.finish().unwrap().consistency, Consistency::Changed);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

        #[test]
        fn any_layout_of_data_and_holes_is_read_exactly(
            writes in proptest::collection::vec((0u64..3_000_000, 1usize..90_000, 1u8..), 0..8),
            size in 0u64..3_500_000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("f");
            let file = File::create(&path).unwrap();
            for (at, length, byte) in &writes {
                file.write_all_at(&vec![*byte; *length], *at).unwrap();
            }
            file.set_len(size).unwrap();
            let (_, opener) = found(&path);
            let (pieces, read, outcome) = content(&mut FileReader::new(small()), &opener);
            proptest::prop_assert!(read == fs::read(&path).unwrap());
            proptest::prop_assert_eq!(outcome.consistency, Consistency::Stable);
            let ends = pieces.iter().map(|piece| piece.offset + piece.raw.len() as u64);
            let starts = pieces.iter().skip(1).map(|piece| piece.offset);
            proptest::prop_assert!(ends.zip(starts).all(|(end, start)| end <= start));
        }
    }

    #[test]
    fn a_change_while_reading_is_noticed_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, noise(500_000, 1)).unwrap();
        let (mut entry, opener) = found(&path);
        let mut reader = FileReader::new(small());
        let mut last = (0, Vec::new());
        let outcome = reader
            .read_stable(&opener, NonZeroU32::new(3).unwrap(), |attempt, piece| {
                if attempt != last.0 {
                    last = (attempt, Vec::new());
                }
                if attempt == 1 && piece.offset == 0 {
                    // In place: the same file, longer.
                    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
                    io::Write::write_all(&mut &file, b"more").unwrap();
                }
                last.1.extend_from_slice(&piece.raw);
                Ok::<(), ()>(())
            })
            .unwrap();
        assert_eq!((outcome.attempts, outcome.consistency), (2, Consistency::Stable));
        assert_eq!(last.1, fs::read(&path).unwrap());
        outcome.metadata.apply_to(&mut entry);
        assert_eq!(entry.size, 500_004);
    }

    #[test]
    fn a_busy_writer_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, vec![0; 400_000]).unwrap();
        let (_, opener) = found(&path);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    file.write_all_at(&[1; 400_000], 0).unwrap();
                }
            });
            let mut reader = FileReader::new(small());
            let noticed = (0..1_000).any(|_| {
                let mut pieces = reader.open(&opener).unwrap();
                let mut read = 0;
                while let Some(piece) = pieces.next_piece().unwrap() {
                    read += piece.raw.len();
                    std::thread::yield_now();
                }
                assert_eq!(read, 400_000);
                pieces.finish().unwrap().consistency == Consistency::Changed
            });
            stop.store(true, Ordering::Relaxed);
            assert!(noticed);
        });
    }

    #[test]
    fn a_file_that_shrinks_is_as_long_as_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, noise(500_000, 1)).unwrap();
        let (mut entry, opener) = found(&path);
        let mut reader = FileReader::new(small());
        let mut pieces = reader.open(&opener).unwrap();
        let mut end = 0;
        while let Some(piece) = pieces.next_piece().unwrap() {
            if end == 0 {
                File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
            }
            end = piece.offset + piece.raw.len() as u64;
        }
        let outcome = pieces.finish().unwrap();
        assert_eq!(outcome.consistency, Consistency::Changed);
        outcome.metadata.apply_to(&mut entry);
        assert_eq!(entry.size, end);
    }

    #[test]
    fn metadata_is_that_of_the_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"one").unwrap();
        let (mut entry, opener) = found(&path);
        fs::write(&path, b"three").unwrap();
        xattr::set(&path, "user.new", b"1").unwrap();
        let (_, content, outcome) = content(&mut FileReader::new(small()), &opener);
        assert_eq!((content, outcome.consistency), (b"three".to_vec(), Consistency::Stable));
        outcome.metadata.apply_to(&mut entry);
        assert_eq!(
            (entry.size, &entry.xattrs[..]),
            (5, &[(b"user.new".to_vec(), b"1".to_vec())][..])
        );
        fs::remove_file(&path).unwrap();
        let error = FileReader::new(small()).open(&opener).err().unwrap();
        let gone = entry.path.clone();
        assert_eq!(error.to_finding(gone.clone()), Finding::Vanished { path: gone });
    }

    #[test]
    fn a_source_of_one_file_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), b"x").unwrap();
        std::os::unix::fs::symlink("f", folder.path().join("link")).unwrap();
        let (entry, _) = found(&folder.path().join("link"));
        assert_eq!(entry.path.as_bytes(), b"f");
        assert!(find_file(folder.path()).is_err());
        assert!(find_file(&folder.path().join("none")).is_err());
        assert!(find_file(Path::new("/dev/null")).is_err());
    }
}
