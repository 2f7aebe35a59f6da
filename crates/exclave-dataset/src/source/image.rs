//! Block devices and disk images, in blocks of fixed size.
//!
//! Blocks lie at multiples of their size, so one written block changes one chunk. A block of zeros is a hole: it reads as
//! zeros, as the format promises for what no extent covers, and a thin terabyte doesn't cost a million references. Who
//! writes the image back onto a device must therefore write zeros, or discard, where nothing lies.
//!
//! A device has no time that tells whether it changed while it was read: image a snapshot (LVM, ZFS, the hypervisor's),
//! not a mounted device. A file's times are compared as always.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
};

use exclave_model::{Entry, EntryKind, EntryPath};
use rustix::{
    fs::{OFlags, SeekFrom, Statx},
    io::Errno,
};

use super::{Consistency, Piece, extents::DataExtents};
use crate::{
    cut::{BadChunkSizes, Cutter},
    walk::{
        FileStat,
        directory::{open_given, stat_descriptor},
        kind_of,
    },
};

/// Reads one image, from its beginning to its end.
pub struct ImageReader {
    path: PathBuf,
    file: File,
    kind: EntryKind,
    statx: Statx,
    cutter: Cutter,
    size: u64,
    extents: DataExtents,
    /// End of the extent that is being read.
    extent_end: u64,
    /// The next block to read.
    position: u64,
    ended: bool,
}

/// Why an image can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It can't be opened or read.
    #[error("the image {} can't be read at byte {offset}", path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Neither a file nor a block device.
    #[error("{} is neither a file nor a block device", path.display())]
    NotAnImage {
        /// As given.
        path: PathBuf,
    },
    /// It ends before its size.
    #[error("the image {} ends at byte {end} of {size}", path.display())]
    Truncated {
        /// As given.
        path: PathBuf,
        /// Where it ends.
        end: u64,
        /// What its size said.
        size: u64,
    },
    /// The blocks.
    #[error(transparent)]
    Blocks(#[from] BadChunkSizes),
}

impl ImageReader {
    /// Opens an image; a link is followed.
    pub fn open(path: &Path, block_bytes: usize) -> Result<Self, ImageError> {
        let cutter = Cutter::fixed(block_bytes)?;
        let failed = |errno: Errno| ImageError::Read {
            path: path.to_owned(),
            offset: 0,
            source: errno.into(),
        };
        // NONBLOCK: a pipe must be refused, not waited for.
        let file = File::from(open_given(path, OFlags::NOCTTY | OFlags::NONBLOCK).map_err(failed)?);
        let statx = stat_descriptor(file.as_fd()).map_err(failed)?;
        let kind = kind_of(&statx);
        let (size, blocks) = match kind {
            Some(EntryKind::File) => (statx.stx_size, statx.stx_blocks),
            // Devices have no holes; every block is looked at.
            Some(EntryKind::BlockDevice) => (rustix::fs::seek(&file, SeekFrom::End(0)).map_err(failed)?, u64::MAX),
            _ => return Err(ImageError::NotAnImage { path: path.to_owned() }),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            kind: kind.unwrap_or(EntryKind::File),
            statx,
            cutter,
            size,
            extents: DataExtents::new(size, blocks),
            extent_end: 0,
            position: 0,
            ended: false,
        })
    }

    /// Bytes of the image, holes included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What the blocks are cut by; its text belongs into the head.
    pub fn cutter(&self) -> &Cutter {
        &self.cutter
    }

    /// The image as an entry: a file of the image's size.
    pub fn entry(&self, path: EntryPath) -> Entry {
        let mut entry = Entry::new(path, EntryKind::File);
        entry.mode = u32::from(self.statx.stx_mode) & 0o7777;
        entry.uid = self.statx.stx_uid;
        entry.gid = self.statx.stx_gid;
        entry.modified = FileStat::of(&self.statx).modified;
        entry.size = self.size;
        entry
    }

    /// The next block that isn't all zeros; `None` at the end.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, ImageError> {
        let block_bytes = self.cutter.max() as u64;
        loop {
            if self.position >= self.extent_end {
                match self.extents.next(&self.file) {
                    Ok(Some(extent)) => {
                        // Back to the grid; the block may hold the end of the extent before, which was read then.
                        self.position = self.position.max(extent.start / block_bytes * block_bytes);
                        self.extent_end = extent.end;
                        continue;
                    }
                    Ok(None) => {
                        self.ended = true;
                        return Ok(None);
                    }
                    Err(source) => return Err(self.failed(source)),
                }
            }
            let offset = self.position;
            let raw = self.read_block(offset, block_bytes.min(self.size - offset))?;
            self.position += raw.len() as u64;
            if raw.iter().any(|byte| *byte != 0) {
                return Ok(Some(Piece { offset, raw }));
            }
        }
    }

    fn read_block(&self, offset: u64, length: u64) -> Result<Vec<u8>, ImageError> {
        let mut raw = vec![0; usize::try_from(length).unwrap_or_default().min(self.cutter.max())];
        self.file.read_exact_at(&mut raw, offset).map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                let (path, size) = (self.path.clone(), self.size);
                ImageError::Truncated {
                    path,
                    end: offset,
                    size,
                }
            } else {
                self.failed(source)
            }
        })?;
        Ok(raw)
    }

    /// Compares a file with what it was at the beginning; a device is believed. Before
    /// [`next_piece`](Self::next_piece) has given `None`, nothing is stable.
    pub fn finish(self) -> Result<Consistency, ImageError> {
        let now = stat_descriptor(self.file.as_fd()).map_err(|errno| self.failed(errno.into()))?;
        let same = FileStat::of(&now).same_state(&FileStat::of(&self.statx));
        Ok(match self.kind {
            _ if !self.ended => Consistency::Changed,
            EntryKind::File if !same => Consistency::Changed,
            _ => Consistency::Stable,
        })
    }

    fn failed(&self, source: io::Error) -> ImageError {
        ImageError::Read {
            path: self.path.clone(),
            offset: self.position,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cut::tests::noise;

    const BLOCK: usize = 4096;

    fn read(path: &Path) -> (Vec<u64>, Vec<u8>, Consistency) {
        let mut image = ImageReader::open(path, BLOCK).unwrap();
        let mut content = vec![0; image.size() as usize];
        let mut offsets = Vec::new();
        while let Some(piece) = image.next_piece().unwrap() {
            offsets.push(piece.offset);
            let start = piece.offset as usize;
            content[start..start + piece.raw.len()].copy_from_slice(&piece.raw);
        }
        (offsets, content, image.finish().unwrap())
    }

    #[test]
    fn blocks_lie_on_the_grid_and_zeros_are_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let mut input = vec![0; 10 * BLOCK + 100];
        input[..BLOCK].copy_from_slice(&noise(BLOCK, 1));
        input[5 * BLOCK + 7] = 1;
        input[10 * BLOCK + 99] = 2;
        fs::write(&path, &input).unwrap();
        let (offsets, content, consistency) = read(&path);
        assert_eq!(offsets, [0, 5, 10].map(|block| block * BLOCK as u64));
        assert_eq!((content == input, consistency), (true, Consistency::Stable));
    }

    #[test]
    fn sparse_images_are_read_where_data_lies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        // Not on the grid, over a boundary, and shortly before the end.
        for at in [1_000_003, 30 * (1 << 20) - 5, (64 << 20) - 3] {
            file.write_all_at(&[7; 3 + 6][..if at > 60 << 20 { 3 } else { 9 }], at)
                .unwrap();
        }
        let (offsets, content, _) = read(&path);
        assert!(content == fs::read(&path).unwrap());
        assert_eq!(offsets.len(), 4);
        assert!(offsets.iter().all(|offset| offset.is_multiple_of(BLOCK as u64)));
    }

    #[test]
    #[ignore = "needs root and a loop device"]
    fn a_block_device_is_read() {
        use std::process::Command;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let mut input = vec![0; 4 << 20];
        input[(1 << 20) + 5..][..100_000].copy_from_slice(&noise(100_000, 1));
        fs::write(&path, &input).unwrap();
        let attached = Command::new("losetup")
            .args(["--find", "--show", "--read-only"])
            .arg(&path)
            .output()
            .unwrap();
        let device = String::from_utf8(attached.stdout).unwrap();
        assert!(attached.status.success() && !device.is_empty());
        let (offsets, content, consistency) = read(Path::new(device.trim()));
        Command::new("losetup")
            .args(["--detach", device.trim()])
            .status()
            .unwrap();
        assert!(content == input && consistency == Consistency::Stable);
        assert_eq!(offsets.len(), 25, "zeros are holes");
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &Path| ImageReader::open(path, BLOCK).err().unwrap();
        assert!(matches!(open(folder.path()), ImageError::NotAnImage { .. }));
        assert!(matches!(open(Path::new("/dev/zero")), ImageError::NotAnImage { .. }));
        assert!(matches!(open(Path::new("/none")), ImageError::Read { .. }));
        let path = folder.path().join("image");
        fs::write(&path, vec![1; 3 * BLOCK]).unwrap();
        assert!(matches!(ImageReader::open(&path, 7), Err(ImageError::Blocks(_))));
        let mut image = ImageReader::open(&path, BLOCK).unwrap();
        image.next_piece().unwrap().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
        assert!(matches!(
            image.next_piece(),
            Err(ImageError::Truncated {
                end: 4096,
                size: 12_288,
                ..
            })
        ));
        assert_eq!(image.finish().unwrap(), Consistency::Changed);
    }
}
