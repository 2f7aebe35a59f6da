//! The directory at the end of a stripe's plaintext: what lies where (FORMAT.md section 4).
//!
//! ```text
//! chunks back to back | zero bytes | 48-byte entries | length of the entries in bytes (4)
//! ```
//!
//! The length stands last so that a stripe explains itself from its end, and the chunks come first so that they can be
//! packed before their number is known.

use crate::{
    id::ChunkId,
    limit::{CHUNK_BYTES_MAX, SEGMENT_BYTES, SEGMENT_PLAIN_BYTES},
    wire::Rule,
};

/// Bytes of one directory entry.
pub const ENTRY_BYTES: usize = 48;

/// Bytes that end every stripe's plaintext: the directory's length.
pub const LENGTH_BYTES: usize = 4;

/// Plaintext bytes of a sealed stripe of `sealed_bytes`.
pub const fn plain_bytes(sealed_bytes: usize) -> usize {
    sealed_bytes / SEGMENT_BYTES * SEGMENT_PLAIN_BYTES
}

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// A piece of a dataset.
    Data,
    /// A page of a manifest.
    Page,
}

/// How a chunk's raw bytes were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// As they are.
    Raw,
    /// One zstd frame (RFC 8878), shorter than the raw bytes.
    Zstd,
}

impl ChunkKind {
    const fn number(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Page => 2,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Data),
            2 => Some(Self::Page),
            _ => None,
        }
    }
}

impl Codec {
    /// The number in directories and references.
    pub const fn number(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    /// Reads the number; `None` for a codec this version does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// True when a stored and a raw length fit this codec and the caps.
    pub const fn allows(self, stored: u32, raw: u32) -> bool {
        let lengths = match self {
            Self::Raw => stored == raw,
            Self::Zstd => stored < raw,
        };
        lengths && stored > 0 && raw as usize <= CHUNK_BYTES_MAX
    }
}

/// One chunk in a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// What it holds.
    pub kind: ChunkKind,
    /// How it is stored.
    pub codec: Codec,
    /// Where its stored bytes begin in the stripe's plaintext.
    pub offset: u32,
    /// Stored bytes.
    pub stored: u32,
    /// Bytes after decompression.
    pub raw: u32,
    /// Its keyed hash.
    pub id: ChunkId,
}

impl DirectoryEntry {
    fn write(&self, out: &mut [u8; ENTRY_BYTES]) {
        out[0] = self.kind.number();
        out[1] = self.codec.number();
        out[2..4].fill(0);
        out[4..8].copy_from_slice(&self.offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.stored.to_be_bytes());
        out[12..16].copy_from_slice(&self.raw.to_be_bytes());
        out[16..].copy_from_slice(self.id.as_bytes());
    }

    fn read(bytes: &[u8; ENTRY_BYTES]) -> Result<Self, Rule> {
        let (head, id) = bytes.split_at(16);
        let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut chunk_id = [0; 32];
        chunk_id.copy_from_slice(id);
        let entry = Self {
            kind: ChunkKind::from_number(head[0])
                .ok_or_else(|| broken(format!("chunk kind {} is unknown", head[0])))?,
            codec: Codec::from_number(head[1]).ok_or_else(|| broken(format!("codec {} is unknown", head[1])))?,
            offset: number(4),
            stored: number(8),
            raw: number(12),
            id: ChunkId::from_bytes(chunk_id),
        };
        if head[2..4] != [0, 0] {
            return Err(broken("reserved bytes are not zero"));
        }
        if !entry.codec.allows(entry.stored, entry.raw) {
            return Err(broken(format!("{} bytes stored for {} raw", entry.stored, entry.raw)));
        }
        Ok(entry)
    }
}

/// The chunks of one stripe, back to back from offset 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    entries: Vec<DirectoryEntry>,
}

impl Directory {
    /// The chunks in order.
    pub fn entries(&self) -> &[DirectoryEntry] {
        &self.entries
    }

    /// True when nothing was packed yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where the next chunk would begin.
    pub fn end(&self) -> usize {
        self.entries
            .last()
            .map_or(0, |last| last.offset as usize + last.stored as usize)
    }

    /// Bytes of plaintext that one more chunk of `stored` bytes would need, directory and length included.
    pub fn bytes_with(&self, stored: usize) -> usize {
        self.end() + stored + (self.entries.len() + 1) * ENTRY_BYTES + LENGTH_BYTES
    }

    /// Adds a chunk behind the last one and returns its entry.
    ///
    /// The caller has checked with [`bytes_with`](Self::bytes_with) that the stripe has room.
    pub fn push(&mut self, kind: ChunkKind, codec: Codec, stored: u32, raw: u32, id: ChunkId) -> DirectoryEntry {
        assert!(codec.allows(stored, raw), "a packed chunk has lawful lengths");
        let offset = u32::try_from(self.end()).unwrap_or(u32::MAX);
        let entry = DirectoryEntry {
            kind,
            codec,
            offset,
            stored,
            raw,
            id,
        };
        self.entries.push(entry);
        entry
    }

    /// Bytes of plaintext that the stripe needs: chunks, directory and length.
    pub fn bytes_needed(&self) -> usize {
        self.end() + self.entries.len() * ENTRY_BYTES + LENGTH_BYTES
    }

    /// The end of a stripe's plaintext: the directory and its length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let table = self.entries.len() * ENTRY_BYTES;
        let mut bytes = vec![0; table];
        for (entry, slot) in self.entries.iter().zip(bytes.as_chunks_mut::<ENTRY_BYTES>().0) {
            entry.write(slot);
        }
        bytes.extend_from_slice(&u32::try_from(table).unwrap_or(u32::MAX).to_be_bytes());
        bytes
    }

    /// Reads the directory of a stripe's whole plaintext and checks every rule of FORMAT.md section 4, padding included.
    pub fn read(plain: &[u8]) -> Result<Self, Rule> {
        let (rest, length) = plain
            .split_last_chunk::<LENGTH_BYTES>()
            .ok_or_else(|| broken("plaintext is too short"))?;
        let bytes = u32::from_be_bytes(*length) as usize;
        if bytes == 0 || !bytes.is_multiple_of(ENTRY_BYTES) || bytes > rest.len() {
            return Err(broken(format!(
                "a directory of {bytes} bytes does not fit {} bytes",
                plain.len()
            )));
        }
        let (body, table) = rest.split_at(rest.len() - bytes);
        let mut directory = Self {
            entries: Vec::with_capacity(bytes / ENTRY_BYTES),
        };
        for slot in table.as_chunks::<ENTRY_BYTES>().0 {
            let entry = DirectoryEntry::read(slot)?;
            if entry.offset as usize != directory.end() {
                return Err(broken(format!(
                    "a chunk begins at {}, not at {}",
                    entry.offset,
                    directory.end()
                )));
            }
            directory.entries.push(entry);
            if directory.end() > body.len() {
                return Err(broken("a chunk reaches into the directory"));
            }
        }
        if body[directory.end()..].iter().any(|byte| *byte != 0) {
            return Err(Rule::new("bad-padding", "a padding byte is not zero"));
        }
        Ok(directory)
    }
}

fn broken(text: impl Into<String>) -> Rule {
    Rule::new("bad-directory", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_chunks() -> (Directory, Vec<u8>) {
        let mut directory = Directory::default();
        let mut plain = vec![0u8; 1000];
        plain[..30].fill(7);
        directory.push(ChunkKind::Data, Codec::Raw, 10, 10, ChunkId::from_bytes([1; 32]));
        directory.push(ChunkKind::Page, Codec::Zstd, 20, 99, ChunkId::from_bytes([2; 32]));
        let tail = directory.to_bytes();
        let start = plain.len() - tail.len();
        plain[start..].copy_from_slice(&tail);
        (directory, plain)
    }

    #[test]
    fn what_was_written_is_read() {
        let (directory, plain) = two_chunks();
        assert_eq!(Directory::read(&plain), Ok(directory));
    }

    #[test]
    fn every_byte_of_directory_and_padding_matters() {
        let (directory, plain) = two_chunks();
        for at in directory.end()..plain.len() {
            for bit in 0..8 {
                let mut bad = plain.clone();
                bad[at] ^= 1 << bit;
                match Directory::read(&bad) {
                    Err(_) => {}
                    // Ids and a compressed chunk's raw length carry no redundancy here; others check them.
                    Ok(read) => assert_ne!(read, directory, "byte {at} bit {bit} changed nothing"),
                }
            }
        }
    }

    #[test]
    fn short_plaintexts_are_refused() {
        for length in 0..60 {
            assert!(Directory::read(&vec![0; length]).is_err());
            assert!(Directory::read(&vec![255; length]).is_err());
        }
    }
}
