//! Pieces of a file, written one after the other, holes as zeros.

use std::{
    error::Error,
    io::{self, Write},
};

/// Zeros are written in blocks of this size.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Why a file's bytes could not be written as a stream. What was written before is no complete file.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError<E: Error + 'static> {
    /// The data did not come.
    #[error("the data of the file is not to be had")]
    Data(#[source] E),
    /// A piece begins before the end of the one before.
    #[error("data at {offset} overlaps what ends at {end}")]
    Overlap {
        /// Where the piece begins.
        offset: u64,
        /// Where the piece before ends.
        end: u64,
    },
    /// A piece reaches behind the file's size.
    #[error("data of {length} bytes at {offset} reaches behind the size of {size}")]
    BeyondSize {
        /// Where the piece begins.
        offset: u64,
        /// Its bytes.
        length: usize,
        /// The file's size.
        size: u64,
    },
    /// The stream did not take the bytes.
    #[error("the stream can't be written")]
    Write(#[source] io::Error),
}

/// Writes exactly `size` bytes: the pieces `(offset, bytes)`, ascending, and zeros wherever there is none.
pub(super) fn expand<W: Write, E: Error + 'static, B: AsRef<[u8]>>(
    out: &mut W,
    size: u64,
    pieces: impl IntoIterator<Item = Result<(u64, B), E>>,
) -> Result<(), ExpandError<E>> {
    let mut end = 0u64;
    for piece in pieces {
        let (offset, bytes) = piece.map_err(ExpandError::Data)?;
        let bytes = bytes.as_ref();
        let gap = offset.checked_sub(end).ok_or(ExpandError::Overlap { offset, end })?;
        let next = offset.checked_add(bytes.len() as u64).filter(|next| *next <= size);
        let length = bytes.len();
        end = next.ok_or(ExpandError::BeyondSize { offset, length, size })?;
        zeros(out, gap)
            .and_then(|()| out.write_all(bytes))
            .map_err(ExpandError::Write)?;
    }
    zeros(out, size - end).map_err(ExpandError::Write)
}

/// Writes zeros.
pub(super) fn zeros(out: &mut impl Write, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let block = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        out.write_all(&ZEROS[..block])?;
        count -= block as u64;
    }
    Ok(())
}
