//! Writes a manifest: entries in, pages out, one open page per level in memory.

use std::error::Error;

use exclave_model::{
    ChunkRef, Content, Entry, EntryPath, RecordError,
    limit::{PAGE_BYTES_MAX, PAGE_DEPTH_MAX},
    manifest::{Child, Page},
};

use super::{Boundary, ContentWriter, PAGE_CAP_MIN, PAGE_FRAME_BYTES, Root};

/// Bytes of a child in an index page besides its path: two heads, a reference, and its run in the table.
const CHILD_BYTES: usize = 96;

/// Why a manifest can't be written. `E` is what storing a page can answer.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E: Error + 'static> {
    /// Our bug: entries come in order, each path once.
    #[error("{path} comes after {last}, which is not before it in order")]
    OutOfOrder {
        /// The entry.
        path: EntryPath,
        /// The entry before.
        last: EntryPath,
    },
    /// Our bug: chunks of a file come in order.
    #[error("a chunk at {offset} begins before {end}, where the one before ends")]
    Overlap {
        /// Where the chunk begins.
        offset: u64,
        /// Where the one before ends.
        end: u64,
    },
    /// The page would not be read back.
    #[error("a page can't be written")]
    Unlawful(#[source] RecordError),
    /// More levels than a reader follows.
    #[error("the manifest would be deeper than {PAGE_DEPTH_MAX} pages")]
    TooDeep,
    /// A manifest holds at least its root directory.
    #[error("the manifest holds nothing")]
    Empty,
    /// A page could not be stored.
    #[error("a page can't be stored")]
    Store(#[source] E),
}

/// Writes the pages of one manifest.
#[derive(Debug)]
pub struct PageWriter {
    boundary: Boundary,
    cap: usize,
    last: Option<EntryPath>,
    entries: Vec<Entry>,
    entries_bytes: usize,
    /// The open index pages: position 0 is level 1.
    indices: Vec<Index>,
}

#[derive(Debug)]
struct Index {
    children: Vec<Child>,
    bytes: usize,
}

impl PageWriter {
    /// Begins a manifest. `boundary_key` decides where pages end; equal keys, caps and entries give equal pages.
    /// `page_bytes_max` is brought between [`PAGE_CAP_MIN`] and the format's cap; a single long entry may pass it.
    pub fn new(boundary_key: &[u8; 32], page_bytes_max: usize) -> Self {
        Self {
            boundary: Boundary(*boundary_key),
            cap: page_bytes_max.clamp(PAGE_CAP_MIN, PAGE_BYTES_MAX),
            last: None,
            entries: Vec::new(),
            entries_bytes: PAGE_FRAME_BYTES,
            indices: Vec::new(),
        }
    }

    /// A list of chunks for the next file, with this manifest's key and cap.
    pub fn content(&self) -> ContentWriter {
        ContentWriter::with(self.boundary.clone(), self.cap)
    }

    /// Takes the next entry. Finished pages go to `store`, which says where they lie.
    pub fn append<E: Error + 'static>(
        &mut self,
        mut entry: Entry,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<(), WriteError<E>> {
        if let Some(last) = self.last.as_ref().filter(|last| **last >= entry.path) {
            return Err(WriteError::OutOfOrder {
                path: entry.path,
                last: last.clone(),
            });
        }
        self.last = Some(entry.path.clone());
        if let Content::Extents(extents) = entry.content {
            entry.content = self.shorten(extents, store)?;
        }
        let bytes = entry.encoded_bytes_max();
        if !self.entries.is_empty() && self.entries_bytes + bytes > self.cap {
            self.close_entries(store)?;
        }
        let ends = self.boundary.ends(0, entry.path.as_bytes(), Boundary::ITEM_BITS);
        self.entries.push(entry);
        self.entries_bytes += bytes;
        if ends {
            self.close_entries(store)?;
        }
        Ok(())
    }

    /// Moves a long list of extents to pages of its own.
    fn shorten<E: Error + 'static>(
        &self,
        extents: Vec<exclave_model::Extent>,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<Content, WriteError<E>> {
        let mut content = self.content();
        for extent in extents {
            let mut offset = extent.offset;
            for chunk in extent.refs {
                content.push(offset, chunk, store)?;
                offset = offset.saturating_add(u64::from(chunk.raw));
            }
        }
        content.finish(store)
    }

    /// Ends the manifest.
    pub fn finish<E: Error + 'static>(
        mut self,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<Root, WriteError<E>> {
        if !self.entries.is_empty() {
            self.close_entries(store)?;
        }
        let mut level = 1;
        loop {
            let is_top = level == self.indices.len();
            let Some(index) = self.indices.get(level - 1) else {
                return Err(WriteError::Empty);
            };
            if let [only] = index.children.as_slice()
                && is_top
            {
                let level = u8::try_from(level - 1).map_err(|_| WriteError::TooDeep)?;
                return Ok(Root { level, page: only.page });
            }
            if !index.children.is_empty() {
                self.close_index(level, store)?;
            }
            level += 1;
        }
    }

    fn close_entries<E: Error + 'static>(
        &mut self,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<(), WriteError<E>> {
        let entries = std::mem::take(&mut self.entries);
        self.entries_bytes = PAGE_FRAME_BYTES;
        let Some(first) = entries.first().map(|entry| entry.path.clone()) else {
            return Ok(());
        };
        let page = put(&Page::Entries(entries), store)?;
        self.push_child(1, Child { first, page }, store)
    }

    fn close_index<E: Error + 'static>(
        &mut self,
        level: usize,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<(), WriteError<E>> {
        let number = u8::try_from(level)
            .ok()
            .filter(|_| level < PAGE_DEPTH_MAX)
            .ok_or(WriteError::TooDeep)?;
        let Some(index) = self.indices.get_mut(level - 1) else {
            return Ok(());
        };
        let children = std::mem::take(&mut index.children);
        index.bytes = PAGE_FRAME_BYTES;
        let Some(first) = children.first().map(|child| child.first.clone()) else {
            return Ok(());
        };
        let page = put(
            &Page::Children {
                level: number,
                children,
            },
            store,
        )?;
        self.push_child(level + 1, Child { first, page }, store)
    }

    /// Adds a finished page to the open index page above it. Calls itself once a level, eight deep at most.
    fn push_child<E: Error + 'static>(
        &mut self,
        level: usize,
        child: Child,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<(), WriteError<E>> {
        if self.indices.len() < level {
            self.indices.push(Index {
                children: Vec::new(),
                bytes: PAGE_FRAME_BYTES,
            });
        }
        let bytes = CHILD_BYTES + child.first.as_bytes().len();
        let is_full = |index: &Index| !index.children.is_empty() && index.bytes + bytes > self.cap;
        if self.indices.get(level - 1).is_some_and(is_full) {
            self.close_index(level, store)?;
        }
        let number = u8::try_from(level).map_err(|_| WriteError::TooDeep)?;
        let ends = self.boundary.ends(number, child.first.as_bytes(), Boundary::ITEM_BITS);
        if let Some(index) = self.indices.get_mut(level - 1) {
            index.children.push(child);
            index.bytes += bytes;
        }
        // A page of one child would add a level and nothing else.
        if ends
            && self
                .indices
                .get(level - 1)
                .is_some_and(|index| index.children.len() > 1)
        {
            self.close_index(level, store)?;
        }
        Ok(())
    }
}

fn put<E: Error + 'static>(
    page: &Page,
    store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
) -> Result<ChunkRef, WriteError<E>> {
    let bytes = page.encode().map_err(WriteError::Unlawful)?;
    store(&bytes).map_err(WriteError::Store)
}
