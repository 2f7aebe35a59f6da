//! Inclusion and consistency proofs (RFC 6962 sections 2.1.1 and 2.1.2; checked as RFC 9162 sections 2.1.3.2 and
//! 2.1.4.2 do).
//!
//! They are made from tiles. Whoever makes one needs no trust: a proof made of wrong hashes is refused by who checks it.

use crate::{
    hash::TreeHash,
    tile::TileSource,
    tree::{MissingTile, TREE_SIZE_MAX, split, subtree},
};

/// Most hashes of a proof: one for each level of the largest tree.
pub const PROOF_HASHES_MAX: usize = 63;

/// Why a proof doesn't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// A number that no tree has, or two that don't fit together.
    #[error("there is no such entry, or no such tree before it")]
    Range,
    /// More or fewer hashes than the sizes call for.
    #[error("the proof has {found} hashes, which is not the number for these sizes")]
    Length {
        /// Hashes found.
        found: usize,
    },
    /// Another root comes out.
    #[error("the proof leads to another root")]
    Root,
}

/// The proof that leaf `index` is in the tree of `size` leaves: hashes from the leaf's sibling up. `index` is below `size`;
/// otherwise the proof is empty and refused.
pub fn inclusion(tiles: &impl TileSource, index: u64, size: u64) -> Result<Vec<TreeHash>, MissingTile> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while index < size && end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(subtree(tiles, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(tiles, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `new` leaves begins with the tree of `old` leaves. It is empty when there is nothing to prove:
/// `old` is 0 or `new`.
pub fn consistency(tiles: &impl TileSource, old: u64, new: u64) -> Result<Vec<TreeHash>, MissingTile> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new);
    // Goes down to where the old tree ends; until a left part is left behind, its root is known to who checks.
    while old < end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(subtree(tiles, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(tiles, start, middle)?);
            start = middle;
        }
    }
    if start > 0 {
        proof.push(subtree(tiles, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` is number `index` in the tree of `size` leaves and this root.
pub fn verify_inclusion(
    leaf: TreeHash,
    index: u64,
    size: u64,
    root: TreeHash,
    proof: &[TreeHash],
) -> Result<(), BadProof> {
    if index >= size || size > TREE_SIZE_MAX {
        return Err(BadProof::Range);
    }
    let length = BadProof::Length { found: proof.len() };
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            hash = TreeHash::of_node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = TreeHash::of_node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    match (last, hash == root) {
        (0, true) => Ok(()),
        (0, false) => Err(BadProof::Root),
        _ => Err(length),
    }
}

/// Checks that the tree of `new` leaves and root `new_root` begins with that of `old` leaves and root `old_root`.
pub fn verify_consistency(
    old: u64,
    old_root: TreeHash,
    new: u64,
    new_root: TreeHash,
    proof: &[TreeHash],
) -> Result<(), BadProof> {
    let length = BadProof::Length { found: proof.len() };
    if old > new || new > TREE_SIZE_MAX {
        return Err(BadProof::Range);
    }
    if old == 0 || old == new {
        // Every tree begins with the empty one, and with itself.
        let expected = if old == 0 { TreeHash::empty() } else { new_root };
        return match (proof.is_empty(), old_root == expected) {
            (false, _) => Err(length),
            (true, false) => Err(BadProof::Root),
            (true, true) => Ok(()),
        };
    }
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    // A complete old tree is the first hash itself.
    let (first, rest) = match (old.is_power_of_two(), proof.split_first()) {
        (true, _) => (old_root, proof),
        (false, Some((first, rest))) => (*first, rest),
        (false, None) => return Err(length),
    };
    let (mut old_hash, mut new_hash) = (first, first);
    for hash in rest {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            old_hash = TreeHash::of_node(hash, &old_hash);
            new_hash = TreeHash::of_node(hash, &new_hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new_hash = TreeHash::of_node(&new_hash, hash);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    match (last, old_hash == old_root && new_hash == new_root) {
        (0, true) => Ok(()),
        (0, false) => Err(BadProof::Root),
        _ => Err(length),
    }
}
