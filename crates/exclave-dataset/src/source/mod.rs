//! Reads what a dataset is made of, and cuts it as it comes.
//!
//! * [`FileReader`]: files that a [walk](crate::walk) found, holes left out, changes noticed;
//! * [`ImageReader`]: a block device or disk image in blocks of fixed size;
//! * [`CommandStream`]: what a command writes, without a temporary file;
//! * [`StreamReader`]: any stream, such as standard input.
//!
//! Each gives [`Piece`]s in ascending order, in bounded memory: a window of three of the cutter's greatest chunks, and
//! the piece itself. A piece that begins where the one before ended continues its extent; a gap is a hole.
//!
//! A source is whole only when its last call said so: `Ok(None)` for streams and commands, `finish` for files and
//! images. Pieces handed on before a failure are garbage in the dataset, and harmless.

mod command;
mod extents;
mod file;
mod image;
mod process;
mod stream;

pub use self::{
    command::{CommandError, CommandFailure, CommandSpec, CommandStream, EmptyCommand, Environment},
    extents::extents_of,
    file::{Consistency, FileReader, Metadata, Outcome, Pieces, ReadError, StableError},
    image::{ImageError, ImageReader},
    process::Killer,
    stream::{BadOutput, OutputRule, ShrinkRule, StreamError, StreamReader, stream_entry},
};

/// A stretch of a source, cut as one chunk.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in its file or stream.
    pub offset: u64,
    /// Its bytes: at least one, at most the cutter's greatest chunk.
    pub raw: Vec<u8>,
}

/// Never shows content.
impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Piece({} bytes at {})", self.raw.len(), self.offset)
    }
}
