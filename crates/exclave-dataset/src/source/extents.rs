//! Where a sparse file holds data.

use std::{fs::File, io, ops::Range};

use exclave_model::{ChunkRef, Extent};
use rustix::{fs::SeekFrom, io::Errno};

/// Joins pieces, ascending by offset, into the extents of their file: a gap is a hole.
pub fn extents_of(pieces: impl IntoIterator<Item = (u64, ChunkRef)>) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    for (offset, chunk) in pieces {
        let length = u64::from(chunk.raw);
        match extents.last_mut() {
            Some(last) if last.offset.checked_add(last.length) == Some(offset) => {
                last.length += length;
                last.refs.push(chunk);
            }
            _ => extents.push(Extent {
                offset,
                length,
                refs: vec![chunk],
            }),
        }
    }
    extents
}

/// A shorter hole is read as zeros: it would cost a chunk boundary and an extent, and zeros compress to almost nothing.
pub(super) const HOLE_BYTES_MIN: u64 = 64 << 10;

/// Bytes of a block in `stx_blocks`, whatever the file system's own.
const STAT_BLOCK_BYTES: u64 = 512;

/// Finds the extents of one file, ascending, as they are asked for.
pub(super) struct DataExtents {
    size: u64,
    /// Where to go on.
    next: u64,
    holes: Holes,
}

enum Holes {
    /// As many blocks are allocated as the size needs, or the file system can't say: one extent.
    None,
    /// Ask with `SEEK_DATA` and `SEEK_HOLE`.
    Ask,
}

impl DataExtents {
    pub(super) fn new(size: u64, blocks: u64) -> Self {
        let holes = if blocks.saturating_mul(STAT_BLOCK_BYTES) >= size {
            Holes::None
        } else {
            Holes::Ask
        };
        Self { size, next: 0, holes }
    }

    /// The next stretch of data, never empty, never behind the size; `None` when there is none left.
    pub(super) fn next(&mut self, file: &File) -> io::Result<Option<Range<u64>>> {
        if self.next >= self.size {
            return Ok(None);
        }
        let start = match self.holes {
            Holes::None => Some(self.next),
            Holes::Ask => match seek_data(file, self.next) {
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    self.holes = Holes::None;
                    Some(self.next)
                }
                found => found?,
            },
        };
        let Some(start) = start.filter(|start| *start < self.size) else {
            self.next = self.size;
            return Ok(None);
        };
        let end = match self.holes {
            Holes::None => self.size,
            Holes::Ask => self.end_of_data(file, start)?,
        };
        self.next = end;
        Ok(Some(start..end))
    }

    /// Where the data that begins at `start` ends, short holes included.
    fn end_of_data(&self, file: &File, start: u64) -> io::Result<u64> {
        let mut end = start;
        loop {
            // A hole is at or behind where we ask, but a file that shrinks meanwhile may say otherwise.
            end = rustix::fs::seek(file, SeekFrom::Hole(end))
                .unwrap_or(self.size)
                .clamp(end, self.size);
            if end >= self.size {
                return Ok(self.size);
            }
            match seek_data(file, end)? {
                Some(data) if data > end && data < self.size && data - end < HOLE_BYTES_MIN => end = data,
                // Data right here again: the file grew under us; go on from here with the next extent.
                Some(_) | None => return Ok(end.max(start + 1)),
            }
        }
    }

    /// Stops: the file turned out to end here.
    pub(super) fn end_here(&mut self) {
        self.next = self.size;
    }
}

fn seek_data(file: &File, from: u64) -> Result<Option<u64>, Errno> {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn extents(file: &File) -> Vec<Range<u64>> {
        let metadata = file.metadata().unwrap();
        let mut extents = DataExtents::new(metadata.len(), metadata.blocks());
        std::iter::from_fn(|| extents.next(file).unwrap()).collect()
    }

    #[test]
    fn pieces_join_into_extents() {
        let chunk = |raw| ChunkRef {
            run: exclave_model::RunId::from_bytes([0; 16]),
            ordinal: 0,
            offset: 0,
            stored: raw,
            raw,
            codec: exclave_model::Codec::Raw,
            id: exclave_model::ChunkId::from_bytes([0; 32]),
        };
        let joined = extents_of([(5, chunk(3)), (8, chunk(2)), (11, chunk(1)), (u64::MAX, chunk(1))]);
        let spans: Vec<_> = joined
            .iter()
            .map(|extent| (extent.offset, extent.length, extent.refs.len()))
            .collect();
        assert_eq!(spans, [(5, 5, 2), (11, 1, 1), (u64::MAX, 1, 1)]);
    }

    #[test]
    fn long_holes_split_and_short_ones_do_not() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 << 20).unwrap();
        assert_eq!(extents(&file), []);
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        file.write_all_at(&[1; 4096], (1 << 20) + 8192).unwrap();
        file.write_all_at(&[1; 4096], 5 << 20).unwrap();
        let found = extents(&file);
        // A file system without holes tells of one extent; all that is asked is that no data is missed.
        let covers = |at: u64| found.iter().any(|extent| extent.contains(&at));
        assert!(covers(1 << 20) && covers((1 << 20) + 8192 + 4095) && covers(5 << 20));
        if file.metadata().unwrap().blocks() * 512 < 1 << 20 {
            assert_eq!(found, [1 << 20..(1 << 20) + 12_288, 5 << 20..(5 << 20) + 4096]);
        }
    }

    #[test]
    fn data_up_to_the_end_is_found() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"tail", 3 << 20).unwrap();
        assert_eq!(extents(&file).last().unwrap().end, (3 << 20) + 4);
        let empty = tempfile::tempfile().unwrap();
        assert_eq!(extents(&empty), []);
    }
}
