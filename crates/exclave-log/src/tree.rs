//! The tree (RFC 6962 section 2.1): roots of any prefix, from leaves or from tiles.
//!
//! `MTH` of n leaves splits them at the largest power of two below n. So the left part of a tree is always complete, and its
//! *right edge* is a list of complete subtrees of falling size, one for each bit of n: [`Edge`].

use crate::{
    hash::TreeHash,
    tile::{TILE_HEIGHT, TILE_WIDTH, TileSource},
};

/// Most leaves of a tree: an `i64` of other programs can count them.
pub const TREE_SIZE_MAX: u64 = i64::MAX as u64;

/// A tile that is needed and not there, or too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tile {index} of level {level} is missing, or has fewer than {width} hashes")]
pub struct MissingTile {
    /// Level of the tile, 0 for leaves.
    pub level: u8,
    /// Its number in the level.
    pub index: u64,
    /// Hashes of it that are needed, 1 to 256.
    pub width: u16,
}

/// The right edge of a tree: what it takes to append to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edge {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for each bit of `size`.
    peaks: Vec<TreeHash>,
}

impl Edge {
    /// The edge of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a tree of `size` leaves, from its tiles.
    pub fn from_tiles(size: u64, tiles: &impl TileSource) -> Result<Self, MissingTile> {
        let mut peaks = Vec::new();
        let mut start = 0;
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            peaks.push(node(tiles, level, start >> level)?);
            start += 1 << level;
        }
        Ok(Self { size, peaks })
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf: TreeHash) {
        let mut hash = leaf;
        // Each trailing one of the size is a complete subtree that the new one completes to the next larger.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = TreeHash::of_node(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> TreeHash {
        let mut smallest_first = self.peaks.iter().rev();
        let Some(last) = smallest_first.next() else {
            return TreeHash::empty();
        };
        smallest_first.fold(*last, |right, left| TreeHash::of_node(left, &right))
    }
}

/// The root of a tree of these leaves.
pub fn root_of(leaves: impl IntoIterator<Item = TreeHash>) -> TreeHash {
    let mut edge = Edge::new();
    leaves.into_iter().for_each(|leaf| edge.append(leaf));
    edge.root()
}

/// The hash of the complete subtree number `index` of 2^`level` leaves, from the tile that has its hashes.
pub(crate) fn node(tiles: &impl TileSource, level: u32, index: u64) -> Result<TreeHash, MissingTile> {
    let (tile_level, within) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
    let first = index << within;
    let (tile, begin) = (first / TILE_WIDTH, first % TILE_WIDTH);
    let end = begin + (1 << within);
    let missing = MissingTile {
        level: tile_level as u8,
        index: tile,
        width: end as u16,
    };
    let hashes = tiles.hashes(missing.level, tile).ok_or(missing)?;
    let mut row = hashes.get(begin as usize..end as usize).ok_or(missing)?.to_vec();
    while row.len() > 1 {
        row = row
            .chunks_exact(2)
            .map(|pair| TreeHash::of_node(&pair[0], &pair[1]))
            .collect();
    }
    row.first().copied().ok_or(missing)
}

/// `MTH` of the leaves `start..end`, which must be a range that the definition splits off; at least one leaf.
pub(crate) fn subtree(tiles: &impl TileSource, start: u64, end: u64) -> Result<TreeHash, MissingTile> {
    let count = end - start;
    if count.is_power_of_two() && start.is_multiple_of(count) {
        let level = count.trailing_zeros();
        return node(tiles, level, start >> level);
    }
    let split = start + split(count);
    let (left, right) = (subtree(tiles, start, split)?, subtree(tiles, split, end)?);
    Ok(TreeHash::of_node(&left, &right))
}

/// The largest power of two below `count`, which is at least 2.
pub(crate) fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 section 2.1, word for word.
    fn naive(leaves: &[TreeHash]) -> TreeHash {
        match leaves {
            [] => TreeHash::empty(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                TreeHash::of_node(&naive(left), &naive(right))
            }
        }
    }

    /// Roots of the reference implementation of Certificate Transparency for its eight inputs (`MerkleTreeTest`).
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let inputs: [&[u8]; 8] = [
            b"",
            &[0],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f,
            ],
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = Edge::new();
        for (input, root) in inputs.iter().zip(roots) {
            edge.append(TreeHash::of_leaf(input));
            assert_eq!(exclave_model::hex(edge.root().as_bytes()), root);
        }
    }

    #[test]
    fn an_edge_is_the_naive_tree() {
        let leaves: Vec<TreeHash> = (0u32..600)
            .map(|number| TreeHash::of_leaf(&number.to_be_bytes()))
            .collect();
        let mut edge = Edge::new();
        assert_eq!(edge.root(), naive(&[]));
        for (count, leaf) in leaves.iter().enumerate() {
            edge.append(*leaf);
            assert_eq!(edge.root(), naive(&leaves[..=count]));
            assert_eq!(edge.size(), count as u64 + 1);
        }
        assert_eq!(root_of(leaves.iter().copied()), naive(&leaves));
    }
}
