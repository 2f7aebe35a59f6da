//! Where one chunk ends and the next begins.
//!
//! Content-defined cutting is FastCDC ("The Design of Fast Content-Defined Chunking for Data Deduplication Based
//! Storage Systems", Xia et al., IEEE TPDS 2020), normalisation level 1, boundary for boundary as the `fastcdc` crate does
//! it, and faster (`scan`). Its gear table is derived from the dataset secret by the house of secrets and arrives here as an
//! opaque [`GearTable`], so that nobody who lacks the secret can foretell boundaries. Fixed cutting is for block images and
//! database pages, where data never shifts.
//!
//! A cut depends on the bytes of its window alone, never on how they arrived: the same input gives the same chunks.
//! Restore never cuts; the cutter's text form is kept in the head so that a later snapshot finds the same boundaries.

mod reader;
mod scan;

use std::{fmt, sync::Arc};

use exclave_model::limit::CHUNK_BYTES_MAX;
use fastcdc::v2020::{self, Normalization};
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use self::reader::ChunkReader;
pub(crate) use self::reader::Window;
use self::scan::Bounds;

/// Entries of a gear table: one random number for each byte value.
const GEAR_ENTRIES: usize = 256;

/// Bytes of a gear table as it is derived.
pub const GEAR_TABLE_BYTES: usize = GEAR_ENTRIES * 8;

/// Least block of the fixed cutter: a reference of some fifty bytes must not outweigh what it names.
pub const FIXED_BYTES_MIN: usize = 512;

/// The secret numbers that decide where content is cut.
///
/// No `Debug`, no `Clone`: who knows the table can recognise files by their chunk lengths.
pub struct GearTable(Arc<Gear>);

#[derive(Zeroize, ZeroizeOnDrop)]
struct Gear([u64; GEAR_ENTRIES]);

impl GearTable {
    /// Reads 256 little-endian numbers, as FORMAT.md section 1 derives them.
    pub fn from_le_bytes(bytes: &[u8; GEAR_TABLE_BYTES]) -> Self {
        let mut gear = [0; GEAR_ENTRIES];
        let (numbers, _) = bytes.as_chunks::<8>();
        for (entry, number) in gear.iter_mut().zip(numbers) {
            *entry = u64::from_le_bytes(*number);
        }
        Self(Arc::new(Gear(gear)))
    }
}

/// Bounds of content-defined chunks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    min: usize,
    average: usize,
    max: usize,
}

/// Why sizes can't bound chunks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChunkSizes {
    /// Out of the range that FastCDC or the format allows.
    #[error("{which} chunk size of {bytes} bytes is outside {least} to {most}")]
    OutOfRange {
        /// Which of the sizes.
        which: &'static str,
        /// What was asked for.
        bytes: usize,
        /// Least size allowed.
        least: usize,
        /// Greatest size allowed.
        most: usize,
    },
    /// The masks are chosen by the logarithm, so another average would silently mean its neighbour.
    #[error("average chunk size of {0} bytes is not a power of two")]
    AverageNotPowerOfTwo(usize),
    /// The scan takes two bytes at a time.
    #[error("{which} chunk size of {bytes} bytes is odd")]
    Odd {
        /// Which of the sizes.
        which: &'static str,
        /// What was asked for.
        bytes: usize,
    },
    /// Not min <= average <= max.
    #[error("chunk sizes {min}, {average}, {max} do not ascend")]
    NotAscending {
        /// Least size.
        min: usize,
        /// Average size.
        average: usize,
        /// Greatest size.
        max: usize,
    },
}

impl ChunkSizes {
    /// 256 KiB, 1 MiB, 4 MiB: a hundred thousand references for 100 GB, and any chunk fits the format's cap.
    pub const DEFAULT: Self = Self {
        min: 256 << 10,
        average: 1 << 20,
        max: 4 << 20,
    };

    /// Checks the laws that `fastcdc` itself checks in debug builds only, and the cap of the format.
    ///
    /// ```
    /// use exclave_dataset::cut::ChunkSizes;
    /// assert!(ChunkSizes::new(64 << 10, 256 << 10, 1 << 20).is_ok());
    /// assert!(ChunkSizes::new(64 << 10, 200_000, 1 << 20).is_err());
    /// ```
    pub fn new(min: usize, average: usize, max: usize) -> Result<Self, BadChunkSizes> {
        in_range("least", min, v2020::MINIMUM_MIN, v2020::MINIMUM_MAX)?;
        in_range("average", average, v2020::AVERAGE_MIN, v2020::AVERAGE_MAX)?;
        in_range("greatest", max, v2020::MAXIMUM_MIN, CHUNK_BYTES_MAX)?;
        if !average.is_power_of_two() {
            return Err(BadChunkSizes::AverageNotPowerOfTwo(average));
        }
        for (which, bytes) in [("least", min), ("greatest", max)] {
            if !bytes.is_multiple_of(2) {
                return Err(BadChunkSizes::Odd { which, bytes });
            }
        }
        if min > average || average > max {
            return Err(BadChunkSizes::NotAscending { min, average, max });
        }
        Ok(Self { min, average, max })
    }

    /// No chunk but the last of a file is shorter.
    pub const fn min(self) -> usize {
        self.min
    }

    /// What most chunks are near to.
    pub const fn average(self) -> usize {
        self.average
    }

    /// No chunk is longer.
    pub const fn max(self) -> usize {
        self.max
    }
}

fn in_range(which: &'static str, bytes: usize, least: usize, most: usize) -> Result<(), BadChunkSizes> {
    if (least..=most).contains(&bytes) {
        Ok(())
    } else {
        Err(BadChunkSizes::OutOfRange {
            which,
            bytes,
            least,
            most,
        })
    }
}

/// Decides where a chunk ends. Cheap to clone; one serves any number of threads.
#[derive(Clone)]
pub struct Cutter(Kind);

#[derive(Clone)]
enum Kind {
    ContentDefined {
        gear: Arc<Gear>,
        sizes: ChunkSizes,
        bounds: Bounds,
    },
    Fixed {
        bytes: usize,
    },
}

impl Cutter {
    /// FastCDC v2020 with a secret gear table.
    pub fn content_defined(table: &GearTable, sizes: ChunkSizes) -> Self {
        let (mask_strict, mask_relaxed) = v2020::select_masks(sizes.average, Normalization::Level1);
        Self(Kind::ContentDefined {
            gear: Arc::clone(&table.0),
            sizes,
            bounds: Bounds {
                min: sizes.min,
                average: sizes.average,
                max: sizes.max,
                mask_strict,
                mask_relaxed,
            },
        })
    }

    /// Blocks of equal size; the last one of a file may be shorter.
    pub fn fixed(bytes: usize) -> Result<Self, BadChunkSizes> {
        in_range("fixed", bytes, FIXED_BYTES_MIN, CHUNK_BYTES_MAX)?;
        Ok(Self(Kind::Fixed { bytes }))
    }

    /// Bytes of the longest chunk, and so of the window that [`cut`](Self::cut) wants to see.
    pub fn max(&self) -> usize {
        match &self.0 {
            Kind::ContentDefined { sizes, .. } => sizes.max,
            Kind::Fixed { bytes } => *bytes,
        }
    }

    /// Length of the chunk at the beginning of `window`, which holds at least [`max`](Self::max) bytes, or all that
    /// remain. 0 only for an empty window.
    pub fn cut(&self, window: &[u8]) -> usize {
        match &self.0 {
            Kind::ContentDefined { gear, bounds, .. } => scan::cut(window, &gear.0, bounds),
            Kind::Fixed { bytes } => window.len().min(*bytes),
        }
    }
}

/// The text in the head's field 11; it says nothing about the table.
impl fmt::Display for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::ContentDefined { sizes, .. } => {
                write!(f, "fastcdc-v2020/{}/{}/{}", sizes.min, sizes.average, sizes.max)
            }
            Kind::Fixed { bytes } => write!(f, "fixed/{bytes}"),
        }
    }
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cutter({self})")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Noise from a linear congruence (Knuth, MMIX): equal on every machine, incompressible enough.
    pub(crate) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    pub(crate) fn table() -> GearTable {
        let bytes = noise(GEAR_TABLE_BYTES, 7);
        GearTable::from_le_bytes(bytes.as_slice().try_into().unwrap())
    }

    /// 1 KiB, 4 KiB, 16 KiB.
    pub(crate) fn small() -> Cutter {
        Cutter::content_defined(&table(), ChunkSizes::new(1 << 10, 4 << 10, 16 << 10).unwrap())
    }

    pub(crate) fn lengths(cutter: &Cutter, mut input: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !input.is_empty() {
            let length = cutter.cut(input);
            lengths.push(length);
            input = &input[length..];
        }
        lengths
    }

    #[test]
    fn boundaries_are_pinned() {
        // Seen with fastcdc 5.0.0 and equal to the oracle below: a library that cuts elsewhere would end all
        // deduplication silently.
        let pinned = [6740, 4765, 4427, 1945, 8954, 2167, 4343, 4830];
        assert_eq!(&lengths(&small(), &noise(200_000, 1))[..8], &pinned);
    }

    /// FastCDC as the paper states it, one byte at a time, with the masks of 8 KiB and 2 KiB for an average of 4 KiB.
    fn oracle(input: &[u8]) -> usize {
        let bytes = noise(GEAR_TABLE_BYTES, 7);
        let mut hash = 0u64;
        for (at, byte) in input.iter().enumerate().take(16 << 10).skip(1 << 10) {
            let entry = usize::from(*byte) * 8;
            let gear = u64::from_le_bytes(bytes[entry..entry + 8].try_into().unwrap());
            hash = (hash << 1).wrapping_add(gear);
            let mask = if at < 4 << 10 {
                v2020::MASKS[13]
            } else {
                v2020::MASKS[11]
            };
            if hash & mask == 0 {
                return at;
            }
        }
        input.len().min(16 << 10)
    }

    #[test]
    fn boundaries_are_those_of_the_paper() {
        let input = noise(500_000, 6);
        let mut rest = input.as_slice();
        for length in lengths(&small(), &input) {
            assert_eq!(length, oracle(rest));
            rest = &rest[length..];
        }
    }

    #[test]
    fn sizes_stay_within_bounds() {
        let cutter = small();
        for input in [noise(1_000_000, 2), vec![0; 100_000], b"ab".repeat(70_001)] {
            let lengths = lengths(&cutter, &input);
            assert_eq!(lengths.iter().sum::<usize>(), input.len());
            let (last, others) = lengths.split_last().unwrap();
            assert!((1..=16 << 10).contains(last));
            assert!(others.iter().all(|length| (1 << 10..=16 << 10).contains(length)));
        }
    }

    #[test]
    fn the_table_decides() {
        let other = GearTable::from_le_bytes(noise(GEAR_TABLE_BYTES, 8).as_slice().try_into().unwrap());
        let other = Cutter::content_defined(&other, ChunkSizes::new(1 << 10, 4 << 10, 16 << 10).unwrap());
        let input = noise(200_000, 1);
        assert_ne!(lengths(&small(), &input), lengths(&other, &input));
    }

    #[test]
    fn an_inserted_byte_moves_few_boundaries() {
        let input = noise(2_000_000, 3);
        let mut longer = input.clone();
        longer.insert(1_000_000, 0x55);
        let chunks = |input: &[u8]| {
            let mut at = 0;
            let mut chunks = std::collections::HashSet::new();
            for length in lengths(&small(), input) {
                chunks.insert(input[at..at + length].to_vec());
                at += length;
            }
            chunks
        };
        let (before, after) = (chunks(&input), chunks(&longer));
        let new = after.difference(&before).count();
        assert!(new <= 5, "{new} of {} chunks are new", after.len());
    }

    #[test]
    fn unlawful_sizes_are_refused() {
        let bad = [
            (62, 256, 1024),
            (64, 128, 1024),
            (64, 256, 1022),
            (64, 300, 1024),
            (65, 256, 1024),
            (64, 256, 1025),
            (512, 256, 1024),
            (64, 2048, 1024),
            (64, 256, CHUNK_BYTES_MAX + 2),
        ];
        for (min, average, max) in bad {
            assert!(ChunkSizes::new(min, average, max).is_err(), "{min} {average} {max}");
        }
        assert!(ChunkSizes::new(256 << 10, 1 << 20, 4 << 20) == Ok(ChunkSizes::DEFAULT));
        assert!(Cutter::fixed(511).is_err() && Cutter::fixed(CHUNK_BYTES_MAX + 1).is_err());
        assert_eq!(small().to_string(), "fastcdc-v2020/1024/4096/16384");
        assert_eq!(Cutter::fixed(8192).unwrap().to_string(), "fixed/8192");
    }
}
