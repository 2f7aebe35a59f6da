//! The bytes of one file as a stream, for a pipe or a device.

use std::{error::Error, io::Write};

use exclave_model::{Entry, EntryKind};

use super::expand::{ExpandError, expand};

/// Writes the bytes of a single file, holes as zeros.
#[derive(Debug)]
pub struct RawWriter<W: Write> {
    out: W,
}

impl<W: Write> RawWriter<W> {
    /// Writes to this stream.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes the file's `(offset, bytes)` pieces, ascending. Anything but a file has no bytes.
    pub fn append<E: Error + 'static, B: AsRef<[u8]>>(
        &mut self,
        entry: &Entry,
        pieces: impl IntoIterator<Item = Result<(u64, B), E>>,
    ) -> Result<(), ExpandError<E>> {
        match entry.kind {
            EntryKind::File => expand(&mut self.out, entry.size, pieces),
            EntryKind::Directory
            | EntryKind::Symlink
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharDevice
            | EntryKind::BlockDevice => Ok(()),
        }
    }

    /// Flushes, and gives the stream back.
    pub fn finish(mut self) -> std::io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use exclave_model::EntryPath;

    use super::*;

    fn write(size: u64, pieces: &[(u64, &[u8])]) -> Result<Vec<u8>, ExpandError<Infallible>> {
        let mut entry = Entry::new(EntryPath::parse(b"f").unwrap(), EntryKind::File);
        entry.size = size;
        let mut writer = RawWriter::new(Vec::new());
        writer.append(&entry, pieces.iter().copied().map(Ok))?;
        Ok(writer.finish().unwrap())
    }

    #[test]
    fn holes_are_zeros() {
        assert_eq!(write(0, &[]).unwrap(), b"");
        assert_eq!(write(7, &[(1, b"ab"), (4, b"c")]).unwrap(), b"\0ab\0c\0\0");
        let far = 200_000;
        let wrote = write(far + 1, &[(far, b"x")]).unwrap();
        assert!(
            wrote.len() as u64 == far + 1 && wrote.ends_with(b"\0x") && wrote.iter().filter(|b| **b != 0).count() == 1
        );
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        assert!(matches!(
            write(9, &[(0, b"abc"), (2, b"d")]),
            Err(ExpandError::Overlap { offset: 2, end: 3 })
        ));
        assert!(matches!(
            write(2, &[(0, b"abc")]),
            Err(ExpandError::BeyondSize { size: 2, .. })
        ));
        assert!(matches!(
            write(2, &[(u64::MAX, b"abc")]),
            Err(ExpandError::BeyondSize { .. })
        ));
    }
}
