//! Streams: standard input, and what all streams must obey before they are believed.

use std::io::{self, Read};

use exclave_model::{Entry, EntryKind, EntryPath, Timestamp};

use super::Piece;
use crate::cut::{ChunkReader, Cutter};

/// How much a stream must give. A dump that suddenly is empty or half as long is a failure, not a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputRule {
    /// Least bytes.
    pub min_bytes: u64,
    /// How much less than last time is accepted.
    pub shrink: Option<ShrinkRule>,
}

/// Bounds a stream by its previous length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShrinkRule {
    /// Bytes in the previous snapshot.
    pub previous_bytes: u64,
    /// Greatest loss, in percent of the previous bytes; 100 and more allow anything.
    pub max_percent: u8,
}

/// A stream gave too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOutput {
    /// Under the least.
    #[error("it gave {bytes} bytes, at least {min_bytes} are expected")]
    TooShort {
        /// What it gave.
        bytes: u64,
        /// What is expected.
        min_bytes: u64,
    },
    /// Less than the previous length allows.
    #[error("it gave {bytes} bytes after {previous_bytes} last time, a loss of more than {max_percent} %")]
    Shrunk {
        /// What it gave.
        bytes: u64,
        /// What it gave last time.
        previous_bytes: u64,
        /// Greatest loss allowed.
        max_percent: u8,
    },
}

impl OutputRule {
    /// Judges a whole stream.
    pub fn check(&self, bytes: u64) -> Result<(), BadOutput> {
        if bytes < self.min_bytes {
            let min_bytes = self.min_bytes;
            return Err(BadOutput::TooShort { bytes, min_bytes });
        }
        let Some(ShrinkRule {
            previous_bytes,
            max_percent,
        }) = self.shrink
        else {
            return Ok(());
        };
        let least = u128::from(previous_bytes) * u128::from(100u8.saturating_sub(max_percent));
        if u128::from(bytes) * 100 < least {
            return Err(BadOutput::Shrunk {
                bytes,
                previous_bytes,
                max_percent,
            });
        }
        Ok(())
    }
}

/// Why a stream is not whole.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Reading fails.
    #[error("reading the stream fails at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It gave too little.
    #[error("the stream is refused")]
    Output(#[from] BadOutput),
    /// It failed before; what came so far is no stream.
    #[error("the stream has failed before")]
    Over,
}

/// Cuts any stream to its end.
pub struct StreamReader<R> {
    chunks: ChunkReader<R>,
    rule: OutputRule,
    failed: bool,
}

impl<R: Read> StreamReader<R> {
    /// Reads `input`, which must obey `rule`.
    pub fn new(input: R, cutter: Cutter, rule: OutputRule) -> Self {
        Self {
            chunks: ChunkReader::new(input, cutter),
            rule,
            failed: false,
        }
    }

    /// The next piece; `Ok(None)` only when the stream came to its end and obeys the rule.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, StreamError> {
        if self.failed {
            return Err(StreamError::Over);
        }
        let result = match self.chunks.next() {
            Some(Ok(piece)) => return Ok(Some(piece)),
            Some(Err(source)) => Err(StreamError::Read {
                offset: self.chunks.bytes(),
                source,
            }),
            None => self.rule.check(self.chunks.bytes()).map_err(StreamError::Output),
        };
        self.failed = result.is_err();
        result.map(|()| None)
    }

    /// Bytes handed on so far.
    pub fn bytes(&self) -> u64 {
        self.chunks.bytes()
    }
}

/// The entry of a named stream: a file that only its owner may read, changed when it was taken.
pub fn stream_entry(path: EntryPath, bytes: u64, taken: Timestamp) -> Entry {
    let mut entry = Entry::new(path, EntryKind::File);
    entry.mode = 0o600;
    entry.modified = taken;
    entry.size = bytes;
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::tests::{noise, small};

    #[test]
    fn streams_are_whole_or_an_error() {
        let input = noise(100_000, 1);
        let mut stream = StreamReader::new(input.as_slice(), small(), OutputRule::default());
        let mut joined = Vec::new();
        while let Some(piece) = stream.next_piece().unwrap() {
            joined.extend_from_slice(&piece.raw);
        }
        assert_eq!(joined, input);
        assert_eq!(stream.bytes(), 100_000);
        let rule = OutputRule {
            min_bytes: 1,
            shrink: None,
        };
        let mut empty = StreamReader::new(io::empty(), small(), rule);
        assert!(matches!(
            empty.next_piece(),
            Err(StreamError::Output(BadOutput::TooShort { .. }))
        ));
        assert!(matches!(empty.next_piece(), Err(StreamError::Over)));
    }

    #[test]
    fn shrinking_is_judged_exactly() {
        let rule = |max_percent| OutputRule {
            min_bytes: 0,
            shrink: Some(ShrinkRule {
                previous_bytes: 1_000,
                max_percent,
            }),
        };
        assert!(rule(10).check(900).is_ok() && rule(10).check(899).is_err());
        assert!(rule(0).check(1_000).is_ok() && rule(0).check(999).is_err());
        assert!(rule(100).check(0).is_ok() && rule(255).check(0).is_ok());
        let huge = OutputRule {
            min_bytes: 0,
            shrink: Some(ShrinkRule {
                previous_bytes: u64::MAX,
                max_percent: 1,
            }),
        };
        assert!(huge.check(u64::MAX).is_ok() && huge.check(1).is_err());
    }
}
