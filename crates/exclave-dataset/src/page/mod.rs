//! The manifest as a tree of pages: written and read in bounded memory, whatever the number of files.
//!
//! ```text
//! level 2            [first path, page] [first path, page]
//!                         /                      \
//! level 1        [first, page] [first, page]     [first, page] ...
//!                   /             \
//! level 0      entries ..      entries ..          long files: extents pages (level 255)
//! ```
//!
//! **Where pages end.** A page ends after an item whose *boundary hash* says so: the low ten bits of the first eight
//! bytes, little-endian, of BLAKE3 keyed with the page boundary key over `level (1) || path` are zero; one item in 1,024
//! does. It also ends before an item that would lead over the cap. So boundaries depend on what lies around them and
//! not on what lies before: an inserted file changes the page it falls into and the pages above it, and every other
//! page is found again by its chunk id. The key keeps the lengths of pages from telling which names are in them.
//!
//! **What a reader believes.** Nothing: each page is a chunk whose id was checked, but whoever wrote it may have been
//! taken over. The level falls by one with each step, so there are no cycles and the stack has at most eight pages;
//! a page begins with the path its parent names; paths ascend over all pages, so no page counts twice.

mod content;
mod extents;
mod reader;
mod writer;

use exclave_model::ChunkRef;

pub use self::{
    content::ContentWriter,
    extents::ExtentReader,
    reader::{Entries, PageReader, ReadError},
    writer::{PageWriter, WriteError},
};

/// The top of a manifest, as a head names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// Level of the root page.
    pub level: u8,
    /// Where the root page lies.
    pub page: ChunkRef,
}

/// Lowest cap of a page: fifteen of the longest paths must fit into an index page, or the tree would not get narrower.
pub const PAGE_CAP_MIN: usize = 64 << 10;

/// Bytes of a page around its items: map, version, level, and the heads of two lists.
const PAGE_FRAME_BYTES: usize = 32;

/// The secret that decides where pages end.
#[derive(Clone)]
struct Boundary([u8; 32]);

impl Boundary {
    /// One item in 1,024 ends a page of entries or children.
    const ITEM_BITS: u32 = 10;

    /// One chunk in 4,096 ends a page of extents: some 4 GiB of a file.
    const CHUNK_BITS: u32 = 12;

    fn ends(&self, level: u8, name: &[u8], bits: u32) -> bool {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[level]).update(name);
        let mut first = [0u8; 8];
        hasher.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first).trailing_zeros() >= bits
    }
}

impl std::fmt::Debug for Boundary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Boundary(..)")
    }
}

#[cfg(test)]
mod tests;
