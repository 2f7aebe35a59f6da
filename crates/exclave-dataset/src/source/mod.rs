//! Reading a dataset's sources: placeholder.

/// A stretch of a source, cut as one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in its file or stream.
    pub offset: u64,
    /// Its bytes: at least one, at most the cutter's greatest chunk.
    pub raw: Vec<u8>,
}
