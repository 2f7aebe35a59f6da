//! Chunks into a stripe's plaintext, laid out as its segments will be.
//!
//! The plaintext's byte `o` goes to segment `o / 65,520`, so every segment has room for its tag and is sealed in place.
//! A stripe that is full has the class's payload; the last one of a run is cut down to the least power of two of groups
//! that holds it, so that its size tells little and a tiny dataset costs little.

use exclave_model::{
    BufferPool, ChunkId, ChunkKind, Codec, Directory, Geometry, PayloadLength,
    buffer::PooledBuffer,
    directory::{DirectoryEntry, plain_bytes},
    limit::{SEGMENT_BYTES, SEGMENT_PLAIN_BYTES},
};

/// Geometry and payload of a class's stripes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripeShape {
    /// k and n.
    pub geometry: Geometry,
    /// Payload of a full shard.
    pub payload: PayloadLength,
}

impl StripeShape {
    /// Longest stored chunk that an empty stripe takes.
    pub fn chunk_bytes_max(self) -> usize {
        self.plain_bytes(self.payload)
            .saturating_sub(Directory::default().bytes_with(0))
    }

    fn plain_bytes(self, payload: PayloadLength) -> usize {
        plain_bytes(payload.bytes() * usize::from(self.geometry.data()))
    }

    /// The least payload, 64 KiB x 2^j and at most the full one, that holds `plain` bytes.
    fn payload_for(self, plain: usize) -> PayloadLength {
        let data = self.geometry.data();
        let mut bytes = SEGMENT_BYTES;
        while bytes < self.payload.bytes() {
            match PayloadLength::new(bytes, data) {
                Ok(payload) if self.plain_bytes(payload) >= plain => return payload,
                _ => bytes *= 2,
            }
        }
        self.payload
    }
}

/// A stripe that is being filled.
#[derive(Debug)]
pub struct StripeBuilder {
    shape: StripeShape,
    buffer: PooledBuffer,
    directory: Directory,
}

impl StripeBuilder {
    /// An empty stripe.
    pub fn new(shape: StripeShape, pool: &BufferPool) -> Self {
        let buffer = pool.take(shape.payload.bytes() * usize::from(shape.geometry.data()));
        Self {
            shape,
            buffer,
            directory: Directory::default(),
        }
    }

    /// True when a chunk of `stored` bytes fits.
    pub fn has_room(&self, stored: usize) -> bool {
        self.directory.bytes_with(stored) <= self.shape.plain_bytes(self.shape.payload)
    }

    /// True when nothing was packed yet.
    pub fn is_empty(&self) -> bool {
        self.directory.is_empty()
    }

    /// Packs a chunk for which [`has_room`](Self::has_room) holds.
    pub fn push(
        &mut self,
        kind: ChunkKind,
        codec: Codec,
        stored: &[u8],
        raw_bytes: u32,
        id: ChunkId,
    ) -> DirectoryEntry {
        assert!(self.has_room(stored.len()), "the packer asks before it pushes");
        let at = self.directory.end();
        write_plain(self.buffer.as_mut(), at, stored);
        self.directory.push(kind, codec, stored.len() as u32, raw_bytes, id)
    }

    /// Ends the stripe; `None` when it is empty.
    pub fn close(self) -> Option<PackedStripe> {
        let Self {
            shape,
            mut buffer,
            directory,
        } = self;
        if directory.is_empty() {
            return None;
        }
        let payload = shape.payload_for(directory.bytes_needed());
        let sealed_bytes = payload.bytes() * usize::from(shape.geometry.data());
        buffer.truncate(sealed_bytes);
        let tail = directory.to_bytes();
        let tail_at = plain_bytes(sealed_bytes) - tail.len();
        zero_plain(buffer.as_mut(), directory.end(), tail_at);
        write_plain(buffer.as_mut(), tail_at, &tail);
        Some(PackedStripe {
            geometry: shape.geometry,
            payload,
            buffer,
            directory,
        })
    }
}

/// A stripe whose plaintext is complete.
#[derive(Debug)]
pub struct PackedStripe {
    pub(crate) geometry: Geometry,
    pub(crate) payload: PayloadLength,
    pub(crate) buffer: PooledBuffer,
    directory: Directory,
}

impl PackedStripe {
    /// Its chunks.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The payload length of its shards.
    pub fn payload(&self) -> PayloadLength {
        self.payload
    }
}

/// Calls `write(buffer part, plaintext part)` for each segment that the plaintext bytes `from..to` touch.
fn each_part(buffer: &mut [u8], from: usize, to: usize, mut write: impl FnMut(&mut [u8], std::ops::Range<usize>)) {
    let mut at = from;
    while at < to {
        let (segment, within) = (at / SEGMENT_PLAIN_BYTES, at % SEGMENT_PLAIN_BYTES);
        let bytes = (SEGMENT_PLAIN_BYTES - within).min(to - at);
        let start = segment * SEGMENT_BYTES + within;
        write(&mut buffer[start..start + bytes], at - from..at - from + bytes);
        at += bytes;
    }
}

fn write_plain(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    each_part(buffer, at, at + bytes.len(), |part, range| {
        part.copy_from_slice(&bytes[range])
    });
}

fn zero_plain(buffer: &mut [u8], from: usize, to: usize) {
    each_part(buffer, from, to, |part, _| part.fill(0));
}
