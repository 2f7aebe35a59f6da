//! One chunk in its stored form and back: as it is, or one zstd frame (RFC 8878).
//!
//! Compression is tried on a sample first, since most bulk (images, archives, encrypted exports) doesn't shrink and a
//! full attempt costs more than everything else that is done to a chunk. Each chunk is compressed alone: it must be
//! readable alone.
//!
//! Decompression meets bytes that were authenticated but written by someone else's machine. It releases exactly the
//! expected number of bytes or an error, and allocates that number and a fixed context, whatever the frame claims.

use std::io;

use exclave_model::{
    Codec,
    limit::{CHUNK_BYTES_MAX, ZSTD_WINDOW_LOG_MAX},
};
use zstd::{bulk, zstd_safe};

/// A zstd level from 1 to 19, or 0 for none. Higher ones need windows that readers refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionLevel(i32);

/// A level that is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("compression level {0} is outside 0 to 19")]
pub struct BadLevel(i32);

impl CompressionLevel {
    /// Chunks stay as they are.
    pub const NONE: Self = Self(0);

    /// Level 3: zstd's own balance; keeps up with a fast link on one core.
    pub const DEFAULT: Self = Self(3);

    /// Checks the range.
    pub const fn new(level: i32) -> Result<Self, BadLevel> {
        if level >= 0 && level <= 19 {
            Ok(Self(level))
        } else {
            Err(BadLevel(level))
        }
    }
}

/// A chunk as a stripe stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// How the bytes are stored.
    pub codec: Codec,
    /// The bytes; shorter than the raw ones when compressed.
    pub stored: Vec<u8>,
}

/// Why zstd could not be used at all; never the fault of a chunk.
#[derive(Debug, thiserror::Error)]
#[error("zstd refused to start or to compress")]
pub struct CompressError(#[source] io::Error);

/// Compresses chunks, one at a time. Owns about 5 MiB; one per thread.
pub struct Compressor {
    sampler: bulk::Compressor<'static>,
    packer: bulk::Compressor<'static>,
    level: CompressionLevel,
    scratch: Vec<u8>,
}

/// Bytes of one of two samples. Chosen by eye: 32 KiB show text, tables and zeros as well as the whole chunk does, for a
/// thirtieth of the work.
const SAMPLE_BYTES: usize = 16 << 10;

/// Shorter chunks are just compressed: samples would be too large a part of them.
const SAMPLED_FROM_BYTES: usize = 256 << 10;

/// A sample must shrink by this fraction, or the chunk stays as it is: less isn't worth decompressing for.
const SAMPLE_GAIN: usize = 32;

impl Compressor {
    /// Prepares both contexts.
    pub fn new(level: CompressionLevel) -> Result<Self, CompressError> {
        Ok(Self {
            // Level 1 answers whether there is anything to gain; how much is the packer's affair.
            sampler: bulk::Compressor::new(1).map_err(CompressError)?,
            packer: bulk::Compressor::new(level.0).map_err(CompressError)?,
            level,
            scratch: Vec::new(),
        })
    }

    /// Compresses a chunk when that is wanted and makes it shorter, else gives it back unchanged.
    pub fn encode(&mut self, raw: Vec<u8>) -> Result<Encoded, CompressError> {
        if self.level == CompressionLevel::NONE || !self.sample_shrinks(&raw)? {
            return Ok(stored_raw(raw));
        }
        self.scratch.clear();
        self.scratch.reserve(zstd_safe::compress_bound(raw.len()));
        let stored = self
            .packer
            .compress_to_buffer(&raw, &mut self.scratch)
            .map_err(CompressError)?;
        match self.scratch.get(..stored) {
            Some(frame) if stored < raw.len() => Ok(Encoded {
                codec: Codec::Zstd,
                stored: frame.to_vec(),
            }),
            _ => Ok(stored_raw(raw)),
        }
    }

    /// Judges by the beginning and the middle: headers often differ from what follows.
    fn sample_shrinks(&mut self, raw: &[u8]) -> Result<bool, CompressError> {
        if raw.len() < SAMPLED_FROM_BYTES {
            return Ok(true);
        }
        let middle = raw.len() / 2;
        let samples = [raw.get(..SAMPLE_BYTES), raw.get(middle..middle + SAMPLE_BYTES)];
        for sample in samples.into_iter().flatten() {
            self.scratch.clear();
            self.scratch.reserve(zstd_safe::compress_bound(sample.len()));
            let stored = self
                .sampler
                .compress_to_buffer(sample, &mut self.scratch)
                .map_err(CompressError)?;
            if stored + sample.len() / SAMPLE_GAIN < sample.len() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn stored_raw(raw: Vec<u8>) -> Encoded {
    Encoded {
        codec: Codec::Raw,
        stored: raw,
    }
}

/// Why stored bytes are not the chunk that a reference promises.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The lengths contradict the codec or the cap.
    #[error("a chunk of {stored} stored and {raw} raw bytes is unlawful for codec {codec:?}")]
    Lengths {
        /// How it is said to be stored.
        codec: Codec,
        /// Stored bytes.
        stored: usize,
        /// Raw bytes.
        raw: u32,
    },
    /// Not one standard zstd frame and nothing else.
    #[error("the {stored} stored bytes are not exactly one zstd frame")]
    NotOneFrame {
        /// Stored bytes.
        stored: usize,
    },
    /// The frame asks for a larger window than readers grant.
    #[error("the zstd frame asks for a window of {bytes} bytes, {} are granted", 1u64 << ZSTD_WINDOW_LOG_MAX)]
    Window {
        /// What the frame asks for.
        bytes: u64,
    },
    /// Damaged, or longer than expected.
    #[error("the zstd frame does not decompress into {raw} bytes")]
    Frame {
        /// Raw bytes expected.
        raw: u32,
        /// What zstd says.
        #[source]
        source: io::Error,
    },
    /// Ends early.
    #[error("the zstd frame holds {found} bytes, {raw} were expected")]
    Short {
        /// Raw bytes expected.
        raw: u32,
        /// Raw bytes found.
        found: usize,
    },
}

/// Decompresses chunks, one at a time. Owns about 150 KiB and the longest chunk so far; one per thread.
pub struct Decompressor {
    context: bulk::Decompressor<'static>,
    raw: Vec<u8>,
}

impl Decompressor {
    /// Prepares the context.
    pub fn new() -> Result<Self, CompressError> {
        Ok(Self {
            context: bulk::Decompressor::new().map_err(CompressError)?,
            raw: Vec::new(),
        })
    }

    /// Gives the `raw` bytes of a chunk, those stored when they are the same; the caller still checks the chunk's id.
    pub fn decode<'a>(&'a mut self, codec: Codec, stored: &'a [u8], raw: u32) -> Result<&'a [u8], DecodeError> {
        let lawful = u32::try_from(stored.len()).is_ok_and(|stored| codec.allows(stored, raw));
        if !lawful {
            let stored = stored.len();
            return Err(DecodeError::Lengths { codec, stored, raw });
        }
        match codec {
            Codec::Raw => Ok(stored),
            Codec::Zstd => self.decode_frame(stored, raw),
        }
    }

    fn decode_frame(&mut self, stored: &[u8], raw: u32) -> Result<&[u8], DecodeError> {
        let not_one_frame = || DecodeError::NotOneFrame { stored: stored.len() };
        let window = frame_window_bytes(stored).ok_or_else(not_one_frame)?;
        if window > 1 << ZSTD_WINDOW_LOG_MAX {
            return Err(DecodeError::Window { bytes: window });
        }
        if zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
            return Err(not_one_frame());
        }
        // `codec.allows` has capped `raw`. zstd writes into this buffer at once, without a window of its own.
        self.raw.resize((raw as usize).min(CHUNK_BYTES_MAX), 0);
        let found = self
            .context
            .decompress_to_buffer(stored, self.raw.as_mut_slice())
            .map_err(|source| DecodeError::Frame { raw, source })?;
        if found != self.raw.len() {
            return Err(DecodeError::Short { raw, found });
        }
        Ok(&self.raw)
    }
}

/// The window a frame asks for (RFC 8878 section 3.1.1.1); `None` unless it begins as a standard frame does.
///
/// Checked here since one-shot decompression doesn't: other decoders stream, and all must accept the same frames.
fn frame_window_bytes(frame: &[u8]) -> Option<u64> {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    const SINGLE_SEGMENT: u8 = 1 << 5;
    const CONTENT_SIZE_SHIFT: u8 = 6;
    let (magic, rest) = frame.split_first_chunk::<4>()?;
    let (descriptor, rest) = rest.split_first()?;
    if *magic != MAGIC {
        return None;
    }
    if descriptor & SINGLE_SEGMENT == 0 {
        let window = *rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment's window is its content size, behind the dictionary id.
    let dictionary_bytes = match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let rest = rest.get(dictionary_bytes..)?;
    match descriptor >> CONTENT_SIZE_SHIFT {
        0 => rest.first().map(|size| u64::from(*size)),
        1 => rest
            .first_chunk()
            .map(|size| u64::from(u16::from_le_bytes(*size)) + 256),
        2 => rest.first_chunk().map(|size| u64::from(u32::from_le_bytes(*size))),
        _ => rest.first_chunk().map(|size| u64::from_le_bytes(*size)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cut::tests::noise;

    fn encode(raw: &[u8]) -> Encoded {
        Compressor::new(CompressionLevel::DEFAULT)
            .unwrap()
            .encode(raw.to_vec())
            .unwrap()
    }

    fn decode(encoded: &Encoded, raw: u32) -> Result<Vec<u8>, DecodeError> {
        let mut decompressor = Decompressor::new().unwrap();
        let decoded = decompressor.decode(encoded.codec, &encoded.stored, raw);
        decoded.map(<[u8]>::to_vec)
    }

    #[test]
    fn chunks_return() {
        let mut compressor = Compressor::new(CompressionLevel::DEFAULT).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        let cases = [
            (vec![0; CHUNK_BYTES_MAX], Codec::Zstd),
            (b"register ".repeat(20_000), Codec::Zstd),
            (noise(1 << 20, 4), Codec::Raw),
            (vec![9], Codec::Raw),
        ];
        for (raw, codec) in cases {
            let encoded = compressor.encode(raw.clone()).unwrap();
            assert_eq!(encoded.codec, codec);
            assert!(codec.allows(encoded.stored.len() as u32, raw.len() as u32));
            let back = decompressor.decode(codec, &encoded.stored, raw.len() as u32).unwrap();
            assert_eq!(back, raw);
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        let encoded = encode(&[7; 10_000]);
        assert!(matches!(decode(&encoded, 9_999), Err(DecodeError::Frame { .. })));
        assert!(matches!(
            decode(&encoded, 10_001),
            Err(DecodeError::Short { found: 10_000, .. })
        ));
        assert!(matches!(decode(&encoded, 0), Err(DecodeError::Lengths { .. })));
        assert!(matches!(decode(&encoded, u32::MAX), Err(DecodeError::Lengths { .. })));
        let plain = Encoded {
            codec: Codec::Raw,
            stored: vec![1, 2],
        };
        assert!(matches!(decode(&plain, 3), Err(DecodeError::Lengths { .. })));
    }

    #[test]
    fn only_one_standard_frame_is_read() {
        let frame = encode(&[7; 10_000]).stored;
        let zstd = |stored: Vec<u8>| Encoded {
            codec: Codec::Zstd,
            stored,
        };
        let twice = [frame.as_slice(), frame.as_slice()].concat();
        assert!(matches!(
            decode(&zstd(twice), 20_000),
            Err(DecodeError::NotOneFrame { .. })
        ));
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], frame.as_slice()].concat();
        assert!(matches!(
            decode(&zstd(skippable), 10_000),
            Err(DecodeError::NotOneFrame { .. })
        ));
        let trailing = [frame.as_slice(), &[0]].concat();
        assert!(matches!(
            decode(&zstd(trailing), 10_000),
            Err(DecodeError::NotOneFrame { .. })
        ));
        let cut = frame[..frame.len() - 1].to_vec();
        assert!(matches!(
            decode(&zstd(cut), 10_000),
            Err(DecodeError::NotOneFrame { .. })
        ));
    }

    #[test]
    fn large_windows_are_refused() {
        let frame_of = |log: u32| {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            io::Write::write_all(&mut encoder, &[7; 10_000]).unwrap();
            Encoded {
                codec: Codec::Zstd,
                stored: encoder.finish().unwrap(),
            }
        };
        assert_eq!(decode(&frame_of(23), 10_000).unwrap(), [7; 10_000]);
        assert!(matches!(
            decode(&frame_of(24), 10_000),
            Err(DecodeError::Window { bytes: 16_777_216 })
        ));
    }

    #[test]
    fn levels_are_bounded() {
        assert!(CompressionLevel::new(-1).is_err() && CompressionLevel::new(20).is_err());
        let mut none = Compressor::new(CompressionLevel::NONE).unwrap();
        assert_eq!(none.encode(vec![0; 4096]).unwrap(), stored_raw(vec![0; 4096]));
        let mut best = Compressor::new(CompressionLevel::new(19).unwrap()).unwrap();
        let raw = b"abcdefgh".repeat(CHUNK_BYTES_MAX / 8);
        let encoded = best.encode(raw.clone()).unwrap();
        assert_eq!(decode(&encoded, raw.len() as u32).unwrap(), raw);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_return(raw in proptest::collection::vec(0u8..4, 1..60_000)) {
            let encoded = encode(&raw);
            prop_assert_eq!(decode(&encoded, raw.len() as u32).unwrap(), raw);
        }

        #[test]
        fn damage_never_panics(at in any::<prop::sample::Index>(), flip in 1u8..=255, raw in 1u32..70_000) {
            let mut encoded = encode(&b"0123456789abcdef".repeat(1_000));
            let at = at.index(encoded.stored.len());
            encoded.stored[at] ^= flip;
            if let Ok(bytes) = decode(&encoded, raw) {
                prop_assert_eq!(bytes.len(), raw as usize);
            }
        }
    }
}
