//! Tiles and entry bundles (C2SP tlog-tiles): the tree and its leaves as static objects.
//!
//! Tile n of level l holds the hashes `MTH(D[(n * 256 + i) * 256^l : (n * 256 + i + 1) * 256^l])`, 256 of them, or fewer at the tree's
//! right edge: then it is partial and its width is in its name. Bundles hold the entries themselves, each after its length
//! in 16 bits, cut as level 0 is.

use std::{collections::BTreeMap, fmt};

use crate::hash::{TREE_HASH_BYTES, TreeHash};

/// Levels of the tree in one tile.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes of a full tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;
/// Bytes of a full tile.
pub const TILE_BYTES_MAX: usize = TILE_WIDTH as usize * TREE_HASH_BYTES;
/// Longest entry: its length has 16 bits.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;
/// Longest bundle.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (2 + ENTRY_BYTES_MAX);
/// Highest level of a tile: eight levels of 256 hashes hold 2^64 leaves.
pub const TILE_LEVEL_MAX: u8 = 7;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileLevel {
    /// Hashes of this level, 0 for leaves.
    Hashes(u8),
    /// The entries of a level 0 tile.
    Entries,
}

/// One tile of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    level: TileLevel,
    index: u64,
    width: u16,
}

/// Why something is no tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTile {
    /// Not a tile's path in its one spelling.
    #[error("not the path of a tile: {0:?}")]
    Path(String),
    /// Another length than its width calls for.
    #[error("{tile} has {found} bytes, not {expected}")]
    Length {
        /// The tile.
        tile: TileId,
        /// Bytes found.
        found: usize,
        /// Bytes of its hashes.
        expected: usize,
    },
    /// The entries don't end where the bundle does.
    #[error("{tile} does not hold as many entries as its width says, or bytes after them")]
    Bundle {
        /// The bundle.
        tile: TileId,
    },
    /// An entry that a bundle can't hold.
    #[error("an entry of {0} bytes is longer than {ENTRY_BYTES_MAX}")]
    LongEntry(usize),
}

impl TileId {
    /// A tile; `None` when the width isn't 1 to 256, or the level or index none that a tree has.
    pub fn new(level: TileLevel, index: u64, width: u16) -> Option<Self> {
        let exponent = match level {
            TileLevel::Hashes(level) if level <= TILE_LEVEL_MAX => u32::from(level) + 1,
            TileLevel::Hashes(_) => return None,
            TileLevel::Entries => 1,
        };
        let index_max = u64::MAX.checked_shr(TILE_HEIGHT * exponent).unwrap_or(0);
        let good = index <= index_max && (1..=TILE_WIDTH).contains(&u64::from(width));
        good.then_some(Self { level, index, width })
    }

    /// What it holds.
    pub fn level(&self) -> TileLevel {
        self.level
    }

    /// Its number in its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Hashes or entries in it, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// True when it has 256.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// Its path below the log.
    ///
    /// ```
    /// use exclave_log::{TileId, TileLevel};
    /// let tile = TileId::new(TileLevel::Hashes(0), 1_234_067, 256).unwrap();
    /// assert_eq!(tile.path(), "tile/0/x001/x234/067");
    /// let bundle = TileId::new(TileLevel::Entries, 0, 5).unwrap();
    /// assert_eq!(bundle.path(), "tile/entries/000.p/5");
    /// assert_eq!(TileId::parse("tile/entries/000.p/5"), Ok(bundle));
    /// ```
    pub fn path(&self) -> String {
        let mut number = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let partial = if self.is_full() {
            String::new()
        } else {
            format!(".p/{}", self.width)
        };
        match self.level {
            TileLevel::Hashes(level) => format!("tile/{level}/{number}{partial}"),
            TileLevel::Entries => format!("tile/entries/{number}{partial}"),
        }
    }

    /// Reads a path in its one spelling.
    pub fn parse(path: &str) -> Result<Self, BadTile> {
        let bad = || BadTile::Path(path.chars().take(80).collect());
        Self::parts(path).filter(|tile| tile.path() == path).ok_or_else(bad)
    }

    fn parts(path: &str) -> Option<Self> {
        let (level, number) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = match level {
            "entries" => TileLevel::Entries,
            digits => TileLevel::Hashes(digits.parse().ok()?),
        };
        let (number, width) = match number.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok()?),
            None => (number, TILE_WIDTH as u16),
        };
        let mut index = 0u64;
        // 2^56 has 17 digits: six parts.
        for part in number.split('/').take(7) {
            let digits: u64 = part.strip_prefix('x').unwrap_or(part).parse().ok()?;
            index = index.checked_mul(1000)?.checked_add(digits)?;
        }
        Self::new(level, index, width)
    }

    /// Takes a hash tile apart; its length is checked first.
    pub fn read_hashes(self, bytes: &[u8]) -> Result<Vec<TreeHash>, BadTile> {
        let expected = usize::from(self.width) * TREE_HASH_BYTES;
        if bytes.len() != expected {
            return Err(BadTile::Length {
                tile: self,
                found: bytes.len(),
                expected,
            });
        }
        let (hashes, _) = bytes.as_chunks::<TREE_HASH_BYTES>();
        Ok(hashes.iter().copied().map(TreeHash::from_bytes).collect())
    }

    /// Takes a bundle apart: exactly as many entries as its width says, and nothing after them.
    pub fn read_entries(self, bytes: &[u8]) -> Result<Vec<&[u8]>, BadTile> {
        let bad = BadTile::Bundle { tile: self };
        let mut entries = Vec::with_capacity(usize::from(self.width));
        let mut rest = bytes;
        for _ in 0..self.width {
            let (length, after) = rest.split_first_chunk::<2>().ok_or(bad.clone())?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (entry, after) = after.split_at_checked(length).ok_or(bad.clone())?;
            entries.push(entry);
            rest = after;
        }
        match rest.is_empty() {
            true => Ok(entries),
            false => Err(bad),
        }
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// Writes entries as a bundle.
pub fn bundle<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Result<Vec<u8>, BadTile> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).map_err(|_| BadTile::LongEntry(entry.len()))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// How many hashes (or entries) of a level a tree of `size` leaves has.
fn count_at(level: TileLevel, size: u64) -> u64 {
    match level {
        TileLevel::Hashes(level) => size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0),
        TileLevel::Entries => size,
    }
}

/// The tiles and bundles that a tree of `new` leaves has and one of `old` leaves has not: what is written when it grows.
pub fn grown(old: u64, new: u64) -> Vec<TileId> {
    let levels = std::iter::once(TileLevel::Entries).chain((0..=TILE_LEVEL_MAX).map(TileLevel::Hashes));
    let mut tiles = Vec::new();
    for level in levels {
        let (before, after) = (count_at(level, old), count_at(level, new));
        if after <= before {
            continue;
        }
        let indices = before / TILE_WIDTH..after.div_ceil(TILE_WIDTH);
        tiles.extend(indices.map(|index| TileId {
            level,
            index,
            width: (after - index * TILE_WIDTH).min(TILE_WIDTH) as u16,
        }));
    }
    tiles
}

/// Where hashes of tiles come from. What it gives isn't trusted: proofs are held against a signed root.
pub trait TileSource {
    /// The hashes of a tile that are known, from its first on; `None` when there is none.
    fn hashes(&self, level: u8, index: u64) -> Option<&[TreeHash]>;
}

/// Tiles in memory, of the widest width that was put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiles(BTreeMap<(u8, u64), Vec<TreeHash>>);

impl Tiles {
    /// The tiles of a tree of these leaves.
    pub fn of_leaves(leaves: impl IntoIterator<Item = TreeHash>) -> Self {
        let mut tiles = BTreeMap::new();
        let mut row: Vec<TreeHash> = leaves.into_iter().collect();
        for level in 0..=TILE_LEVEL_MAX {
            for (index, hashes) in row.chunks(TILE_WIDTH as usize).enumerate() {
                tiles.insert((level, index as u64), hashes.to_vec());
            }
            let full = row.chunks_exact(TILE_WIDTH as usize);
            row = full
                .map(|hashes| crate::tree::root_of(hashes.iter().copied()))
                .collect();
        }
        Self(tiles)
    }

    /// Keeps a tile's hashes, unless a wider one is there.
    pub fn insert(&mut self, level: u8, index: u64, hashes: Vec<TreeHash>) {
        let kept = self.0.entry((level, index)).or_default();
        if kept.len() < hashes.len() {
            *kept = hashes;
        }
    }

    /// The bytes of a hash tile, cut to its width; `None` when it isn't there, or is narrower.
    pub fn bytes(&self, tile: TileId) -> Option<Vec<u8>> {
        let TileLevel::Hashes(level) = tile.level else {
            return None;
        };
        let hashes = self.hashes(level, tile.index)?.get(..usize::from(tile.width))?;
        Some(hashes.iter().flat_map(|hash| *hash.as_bytes()).collect())
    }
}

impl TileSource for Tiles {
    fn hashes(&self, level: u8, index: u64) -> Option<&[TreeHash]> {
        self.0.get(&(level, index)).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(level: u8, index: u64, width: u16) -> TileId {
        TileId::new(TileLevel::Hashes(level), index, width).unwrap()
    }

    /// The example of tlog-tiles: a tree of 70,000 leaves.
    #[test]
    fn a_tree_has_the_tiles_that_the_specification_counts() {
        let tiles = grown(0, 70_000);
        let of =
            |level: TileLevel| -> Vec<TileId> { tiles.iter().copied().filter(|tile| tile.level == level).collect() };
        for level in [TileLevel::Hashes(0), TileLevel::Entries] {
            let row = of(level);
            assert_eq!(row.len(), 274);
            assert!(row[..273].iter().all(TileId::is_full));
            assert_eq!(row[273].width(), 112);
        }
        assert_eq!(of(TileLevel::Hashes(1)), [hashes(1, 0, 256), hashes(1, 1, 17)]);
        assert_eq!(of(TileLevel::Hashes(2)), [hashes(2, 0, 1)]);
        assert_eq!(tiles.len(), 2 * 274 + 3);
        let bundle = TileId::new(TileLevel::Entries, 0, 256).unwrap();
        assert_eq!(grown(0, 256), [bundle, hashes(0, 0, 256), hashes(1, 0, 1)]);
        assert_eq!(grown(256, 256), []);
        assert_eq!(grown(255, 257).len(), 2 + 2 + 1);
    }

    #[test]
    fn paths_have_one_spelling() {
        for (path, tile) in [
            ("tile/0/000", hashes(0, 0, 256)),
            ("tile/1/x999/999.p/17", hashes(1, 999_999, 17)),
            ("tile/0/x001/x234/067", hashes(0, 1_234_067, 256)),
        ] {
            assert_eq!(TileId::parse(path), Ok(tile));
            assert_eq!(tile.path(), path);
        }
        for bad in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/00/000",
            "tile/8/000",
            "tile/-1/000",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p/1/",
            "/tile/0/000",
            "tile/data/000",
            "tile/0/+01",
            "tile/7/001",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert!(TileId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_are_checked() {
        let tile = hashes(0, 0, 2);
        assert_eq!(tile.read_hashes(&[7; 64]).unwrap().len(), 2);
        for wrong in [0, 32, 63, 65, 96] {
            assert!(tile.read_hashes(&vec![7; wrong]).is_err());
        }
        let entries = TileId::new(TileLevel::Entries, 0, 2).unwrap();
        let bytes = bundle([&b"abc"[..], b""]).unwrap();
        assert_eq!(bytes, b"\0\x03abc\0\0");
        assert_eq!(entries.read_entries(&bytes).unwrap(), [&b"abc"[..], b""]);
        for wrong in [
            &b""[..],
            b"\0\x03abc",
            b"\0\x03abc\0\x01",
            b"\0\x03abc\0\0\0",
            b"\xff\xffabc\0\0",
        ] {
            assert!(entries.read_entries(wrong).is_err(), "{wrong:?}");
        }
        assert!(bundle([&vec![0; ENTRY_BYTES_MAX + 1][..]]).is_err());
    }
}
