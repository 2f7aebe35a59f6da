//! Our tree, tiles, proofs and checkpoints against another implementation, the crate `tlog_tiles`, and as properties.

#![expect(clippy::unwrap_used, reason = "a test may stop at its first surprise")]

use std::collections::BTreeSet;

use exclave_log::{
    Checkpoint, Edge, TileId, TileLevel, TileSource, Tiles, TreeHash, consistency, inclusion, tile::grown,
    tree::root_of, verify_consistency, verify_inclusion,
};
use proptest::{collection::vec, prelude::*};
use tlog_tiles::{tile::Tile, tlog};

fn leaf(number: u64) -> TreeHash {
    TreeHash::of_leaf(&number.to_be_bytes())
}

fn theirs(hash: TreeHash) -> tlog::Hash {
    tlog::Hash(*hash.as_bytes())
}

/// The other implementation's storage: hashes in the order in which subtrees are completed.
#[derive(Default)]
struct Stored(Vec<tlog::Hash>);

impl tlog::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
    }
}

impl Stored {
    fn of(size: u64) -> Self {
        let mut stored = Self::default();
        for number in 0..size {
            let new = tlog::stored_hashes(number, &number.to_be_bytes(), &stored).unwrap();
            stored.0.extend(new);
        }
        stored
    }
}

fn tiles(size: u64) -> Tiles {
    Tiles::of_leaves((0..size).map(leaf))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn roots_and_proofs_are_theirs(size in 1u64..1500, a in any::<u64>(), b in any::<u64>()) {
        let (stored, tiles) = (Stored::of(size), tiles(size));
        let root = root_of((0..size).map(leaf));
        prop_assert_eq!(theirs(root), tlog::tree_hash(size, &stored).unwrap());
        let index = a % size;
        let path = inclusion(&tiles, index, size).unwrap();
        let path_theirs: Vec<_> = path.iter().copied().map(theirs).collect();
        prop_assert_eq!(&path_theirs, &tlog::prove_record(size, index, &stored).unwrap());
        tlog::check_record(&path_theirs, size, theirs(root), index, theirs(leaf(index))).unwrap();
        let old = b % size + 1;
        let old_root = root_of((0..old).map(leaf));
        let proof = consistency(&tiles, old, size).unwrap();
        let proof_theirs: Vec<_> = proof.iter().copied().map(theirs).collect();
        prop_assert_eq!(&proof_theirs, &tlog::prove_tree(size, old, &stored).unwrap());
        prop_assert_eq!(verify_inclusion(leaf(index), index, size, root, &path), Ok(()));
        prop_assert_eq!(verify_consistency(old, old_root, size, root, &proof), Ok(()));
    }

    /// Growing in any steps, each from the tiles that the steps before wrote, gives the tree of all leaves; and what is
    /// written is what the other implementation would write.
    #[test]
    fn appending_in_any_batches_gives_one_tree(batches in vec(1u64..400, 1..8)) {
        let mut kept = Tiles::default();
        let mut size = 0;
        for batch in batches {
            let mut edge = Edge::from_tiles(size, &kept).unwrap();
            let new = size + batch;
            (size..new).for_each(|number| edge.append(leaf(number)));
            let whole = tiles(new);
            let written: BTreeSet<String> = grown(size, new).iter().map(TileId::path).collect();
            let mut expected = BTreeSet::new();
            for tile in Tile::new_tiles(8, size, new) {
                // Their path has the tile's height in front.
                let path = tile.path().replacen("tile/8/", "tile/", 1);
                if tile.level() == 0 {
                    expected.insert(path.replacen("tile/0/", "tile/entries/", 1));
                }
                expected.insert(path);
            }
            prop_assert_eq!(&written, &expected);
            for tile in grown(size, new) {
                if let TileLevel::Hashes(level) = tile.level() {
                    let hashes = tile.read_hashes(&whole.bytes(tile).unwrap()).unwrap();
                    kept.insert(level, tile.index(), hashes);
                }
            }
            size = new;
            prop_assert_eq!(edge.size(), size);
            prop_assert_eq!(edge.root(), root_of((0..size).map(leaf)));
            prop_assert_eq!(Edge::from_tiles(size, &kept).unwrap(), edge);
        }
        prop_assert_eq!(kept, tiles(size));
    }

    /// Another leaf, index, size, root or hash, a hash more or less: refused.
    #[test]
    fn altered_inclusion_proofs_are_refused(size in 1u64..700, a in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let index = a % size;
        let (tiles, root) = (tiles(size), root_of((0..size).map(leaf)));
        let path = inclusion(&tiles, index, size).unwrap();
        let check = |leaf, index, size, root, path: &[TreeHash]| verify_inclusion(leaf, index, size, root, path).is_ok();
        prop_assert!(check(leaf(index), index, size, root, &path));
        prop_assert!(!check(leaf(size), index, size, root, &path));
        prop_assert!(!check(leaf(index), index, size, leaf(index), &path) || size == 1);
        prop_assert!(!check(leaf(index), size, size, root, &path));
        for other in [index.wrapping_sub(1), index + 1, index ^ 2] {
            prop_assert!(!check(leaf(index), other, size, root, &path));
        }
        let mut longer = path.clone();
        longer.push(root);
        prop_assert!(!check(leaf(index), index, size, root, &longer));
        if !path.is_empty() {
            prop_assert!(!check(leaf(index), index, size, root, &path[1..]));
            prop_assert!(!check(leaf(index), index, size, root, &path[..path.len() - 1]));
            prop_assert!(!check(leaf(index), index, size, root, &altered(&path, at, bit)));
        }
    }

    #[test]
    fn altered_consistency_proofs_are_refused(new in 2u64..700, a in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let old = a % (new - 1) + 1;
        let (old_root, new_root) = (root_of((0..old).map(leaf)), root_of((0..new).map(leaf)));
        let proof = consistency(&tiles(new), old, new).unwrap();
        let check = |old, old_root, new, new_root, proof: &[TreeHash]| verify_consistency(old, old_root, new, new_root, proof).is_ok();
        prop_assert!(check(old, old_root, new, new_root, &proof));
        prop_assert!(!check(old, new_root, new, new_root, &proof));
        prop_assert!(!check(old, old_root, new, old_root, &proof));
        prop_assert!(!check(new, new_root, old, old_root, &proof));
        prop_assert!(!check(old, old_root, new, new_root, &altered(&proof, at, bit)));
        prop_assert!(!check(old, old_root, new, new_root, &proof[1..]));
        let mut longer = proof.clone();
        longer.push(new_root);
        prop_assert!(!check(old, old_root, new, new_root, &longer));
        // A fork: one leaf of the old tree is another.
        let mut forked: Vec<TreeHash> = (0..old).map(leaf).collect();
        let last = forked.len() - 1;
        forked[last] = leaf(new + 1);
        prop_assert!(!check(old, root_of(forked), new, new_root, &proof));
    }
}

fn altered(proof: &[TreeHash], at: prop::sample::Index, bit: u8) -> Vec<TreeHash> {
    let mut altered = proof.to_vec();
    let hash = at.get_mut(&mut altered);
    let mut bytes = *hash.as_bytes();
    bytes[usize::from(bit) * 4] ^= 1 << bit;
    *hash = TreeHash::from_bytes(bytes);
    altered
}

#[test]
fn nothing_to_prove_is_an_empty_proof() {
    let root = root_of((0..5).map(leaf));
    assert_eq!(consistency(&tiles(5), 5, 5), Ok(vec![]));
    assert_eq!(consistency(&tiles(5), 0, 5), Ok(vec![]));
    assert_eq!(verify_consistency(5, root, 5, root, &[]), Ok(()));
    assert_eq!(verify_consistency(0, TreeHash::empty(), 5, root, &[]), Ok(()));
    assert!(verify_consistency(5, root, 5, leaf(1), &[]).is_err());
    assert!(verify_consistency(0, root, 5, root, &[]).is_err());
    assert!(verify_consistency(0, TreeHash::empty(), 5, root, &[root]).is_err());
    assert!(verify_inclusion(root, u64::MAX, u64::MAX, root, &[]).is_err());
}

#[test]
fn a_missing_tile_is_named() {
    let mut kept = Tiles::default();
    kept.insert(0, 0, (0..100).map(leaf).collect());
    let missing = inclusion(&kept, 3, 200).unwrap_err();
    assert_eq!((missing.level, missing.index), (0, 0));
    assert!(missing.width > 100);
    assert!(kept.hashes(1, 0).is_none());
}

#[test]
fn checkpoints_are_theirs() {
    let ours = Checkpoint::new("example.com/log".to_owned(), 7, root_of((0..7).map(leaf)));
    let read = tlog_tiles::Checkpoint::from_bytes(ours.text().as_bytes()).unwrap();
    assert_eq!(
        (read.origin(), read.size(), read.hash()),
        ("example.com/log", 7, &theirs(ours.root))
    );
    assert_eq!(read.to_bytes(), ours.text().into_bytes());
}
