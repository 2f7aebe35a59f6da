//! The hash tree over a shard's 64 KiB groups (FORMAT.md section 5).
//!
//! A trailer lists each group's BLAKE3 chaining value; merging them as BLAKE3 merges subtrees gives the payload's plain
//! BLAKE3 hash. So the payload is hashed once, and any group can be proven against the ledger alone.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use exclave_model::{PayloadHash, context::CHAINING_VALUE_BYTES, limit::SEGMENT_BYTES};

/// What a trailer says of one group: its chaining value, or the root hash when it is the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHash([u8; CHAINING_VALUE_BYTES]);

impl GroupHash {
    /// Hashes group number `group` of a payload of `groups` groups.
    pub fn of(block: &[u8], group: usize, groups: usize) -> Self {
        if groups == 1 {
            return Self(*blake3::hash(block).as_bytes());
        }
        let mut hasher = blake3::Hasher::new();
        hasher
            .set_input_offset(group as u64 * SEGMENT_BYTES as u64)
            .update(block);
        Self(hasher.finalize_non_root())
    }

    /// The bytes in a trailer.
    pub fn as_bytes(&self) -> &[u8; CHAINING_VALUE_BYTES] {
        &self.0
    }

    /// Takes the entries of a trailer apart.
    pub fn read_trailer(trailer: &[u8]) -> Option<Vec<Self>> {
        let (entries, rest) = trailer.as_chunks::<CHAINING_VALUE_BYTES>();
        rest.is_empty().then(|| entries.iter().copied().map(Self).collect())
    }
}

/// The trailer of a whole payload.
pub fn trailer_of(payload: &[u8]) -> Vec<u8> {
    let groups = payload.len() / SEGMENT_BYTES;
    let blocks = payload.chunks_exact(SEGMENT_BYTES).enumerate();
    blocks
        .flat_map(|(group, block)| GroupHash::of(block, group, groups).0)
        .collect()
}

/// The payload's hash from its groups; a payload has at least one.
pub fn payload_root(groups: &[GroupHash]) -> PayloadHash {
    let root = match groups {
        [only] => only.0,
        _ => {
            let (left, right) = halves(groups);
            *merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes()
        }
    };
    PayloadHash::from_bytes(root)
}

fn subtree(groups: &[GroupHash]) -> ChainingValue {
    match groups {
        [only] => only.0,
        _ => {
            let (left, right) = halves(groups);
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// Splits where BLAKE3 splits: the left part is the largest power of two below the whole.
fn halves(groups: &[GroupHash]) -> (&[GroupHash], &[GroupHash]) {
    assert!(groups.len() > 1, "only a tree of two or more groups has halves");
    let left = left_subtree_len(groups.len() as u64 * SEGMENT_BYTES as u64) / SEGMENT_BYTES as u64;
    groups.split_at(left as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_merge_to_the_plain_hash() {
        let payload: Vec<u8> = (0..SEGMENT_BYTES * 13).map(|at| ((at * 31) >> 3) as u8).collect();
        for groups in 1..=13 {
            let payload = &payload[..groups * SEGMENT_BYTES];
            let blocks = payload.chunks(SEGMENT_BYTES).enumerate();
            let hashes: Vec<_> = blocks
                .map(|(group, block)| GroupHash::of(block, group, groups))
                .collect();
            assert_eq!(payload_root(&hashes), PayloadHash::of(payload), "{groups} groups");
        }
    }
}
