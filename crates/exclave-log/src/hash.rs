//! Hashes of the tree (RFC 6962 section 2.1): SHA-256, with one byte in front that tells leaves from nodes.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub const TREE_HASH_BYTES: usize = 32;

/// A hash of a leaf, a node or a root. Its text is base64 (RFC 4648 section 4), as C2SP writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash([u8; TREE_HASH_BYTES]);

impl TreeHash {
    /// Takes bytes that are a hash.
    pub const fn from_bytes(bytes: [u8; TREE_HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; TREE_HASH_BYTES] {
        &self.0
    }

    /// The root of the tree without leaves: the hash of nothing.
    ///
    /// ```
    /// let empty = exclave_log::TreeHash::empty();
    /// assert_eq!(empty.to_string(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    /// ```
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The hash of a leaf: `SHA-256(0x00 || entry)`.
    pub fn of_leaf(entry: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
    }

    /// The hash of a node: `SHA-256(0x01 || left || right)`.
    pub fn of_node(left: &Self, right: &Self) -> Self {
        let hash = Sha256::new().chain_update([1]).chain_update(left.0);
        Self(hash.chain_update(right.0).finalize().into())
    }

    /// Reads base64 in its one spelling.
    pub fn parse(text: &str) -> Option<Self> {
        // 32 bytes take 44 characters; nothing longer is decoded.
        let bytes = (text.len() == 44).then(|| STANDARD.decode(text).ok())??;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeHash({self})")
    }
}
