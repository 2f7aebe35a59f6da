//! What a dataset secret gives: chunk ids, a gear table and page boundaries, never itself.

use exclave_model::ChunkId;
use zeroize::Zeroizing;

use crate::{
    entropy::{Entropy, NoEntropy, draw},
    secret::{Secret, derive},
};

/// The long-lived secret of one dataset.
///
/// It opens nothing. Who has it can confirm a guess about a chunk, so it lies in the agent's state folder and, for
/// restorers and for new agents, in each head's sealed part.
pub struct DatasetSecret(Secret<32>);

impl DatasetSecret {
    /// Draws a new dataset's secret.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, NoEntropy> {
        Ok(Self(Secret::new(draw(entropy)?)))
    }

    /// Takes a secret from an agent's state folder or from a sealed head.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The bytes: for the agent's state folder and the sealed part of a head, nothing else.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*self.0.expose())
    }

    /// Names chunks.
    pub fn chunk_hasher(&self) -> ChunkHasher {
        ChunkHasher(derive("exclave 2026 chunk id key v1", &[self.0.expose()]))
    }

    /// Decides where chunks end.
    pub fn gear_bytes(&self) -> GearBytes {
        GearBytes(derive("exclave 2026 gear table v1", &[self.0.expose()]))
    }

    /// Decides where manifest pages end.
    pub fn page_boundary_key(&self) -> PageBoundaryKey {
        PageBoundaryKey(derive("exclave 2026 page boundary v1", &[self.0.expose()]))
    }
}

/// Names chunks: BLAKE3 keyed with the dedup key over the raw bytes.
pub struct ChunkHasher(Secret<32>);

impl ChunkHasher {
    /// Takes a dedup key that was derived already: for whoever was given the key but not the dataset secret.
    pub fn from_dedup_key(key: [u8; 32]) -> Self {
        Self(Secret::new(key))
    }

    /// The chunk's id.
    pub fn id(&self, raw: &[u8]) -> ChunkId {
        ChunkId::from_bytes(*blake3::keyed_hash(self.0.expose(), raw).as_bytes())
    }
}

/// 256 little-endian numbers for the cutter: opaque, and of no use to anyone else.
pub struct GearBytes(Secret<2048>);

impl GearBytes {
    /// The table's bytes.
    pub fn as_bytes(&self) -> &[u8; 2048] {
        self.0.expose()
    }
}

/// The key of the hash that ends manifest pages.
pub struct PageBoundaryKey(Secret<32>);

impl PageBoundaryKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.expose()
    }
}
