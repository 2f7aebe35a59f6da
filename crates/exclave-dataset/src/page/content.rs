//! A file's list of chunks, which may be longer than memory is meant to hold.

use std::error::Error;

use exclave_model::{
    ChunkRef, Content, Extent,
    limit::PAGE_BYTES_MAX,
    manifest::{EXTENTS_LEVEL, Page},
};

use super::{Boundary, PAGE_CAP_MIN, PAGE_FRAME_BYTES, WriteError};

/// A list longer than this part of a page's cap goes to pages of its own, so that entries stay small.
const INLINE_SHARE: usize = 8;

/// Collects a file's chunks as extents; long lists go to extents pages as they grow.
///
/// A tebibyte's references would take a hundred mebibytes. Here at most one page of them is in memory.
#[derive(Debug)]
pub struct ContentWriter {
    boundary: Boundary,
    cap: usize,
    open: Vec<Extent>,
    open_bytes: usize,
    end: u64,
    pages: Vec<ChunkRef>,
}

impl ContentWriter {
    /// Begins a file's list. Key and cap as in [`PageWriter::new`](super::PageWriter::new).
    pub fn new(boundary_key: &[u8; 32], page_bytes_max: usize) -> Self {
        Self::with(
            Boundary(*boundary_key),
            page_bytes_max.clamp(PAGE_CAP_MIN, PAGE_BYTES_MAX),
        )
    }

    pub(super) fn with(boundary: Boundary, cap: usize) -> Self {
        Self {
            boundary,
            cap,
            open: Vec::new(),
            open_bytes: PAGE_FRAME_BYTES,
            end: 0,
            pages: Vec::new(),
        }
    }

    /// Adds the chunk that begins at a position of the file. What lies between it and the chunk before is a hole.
    pub fn push<E: Error + 'static>(
        &mut self,
        offset: u64,
        chunk: ChunkRef,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<(), WriteError<E>> {
        if offset < self.end {
            return Err(WriteError::Overlap { offset, end: self.end });
        }
        let length = u64::from(chunk.raw);
        let end = offset
            .checked_add(length)
            .ok_or(WriteError::Overlap { offset, end: self.end })?;
        let single = Extent {
            offset,
            length,
            refs: vec![chunk],
        };
        // As an extent of its own it takes most room, so this bound holds in either case.
        let bytes = single.encoded_bytes_max();
        if self.open_bytes + bytes > self.cap {
            self.close(store)?;
        }
        self.open_bytes += bytes;
        match self.open.last_mut() {
            Some(last) if last.offset + last.length == offset => {
                last.length += length;
                last.refs.push(chunk);
            }
            Some(_) | None => self.open.push(single),
        }
        self.end = end;
        if self
            .boundary
            .ends(EXTENTS_LEVEL, chunk.id.as_bytes(), Boundary::CHUNK_BITS)
            && !self.is_short()
        {
            self.close(store)?;
        }
        Ok(())
    }

    /// Ends the list: short ones stand in the entry itself.
    pub fn finish<E: Error + 'static>(
        mut self,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<Content, WriteError<E>> {
        if self.is_short() {
            return Ok(Content::Extents(self.open));
        }
        if !self.open.is_empty() {
            self.close(store)?;
        }
        Ok(Content::Paged(self.pages))
    }

    /// True while the list may end up in the entry.
    fn is_short(&self) -> bool {
        self.pages.is_empty() && self.open_bytes <= self.cap / INLINE_SHARE
    }

    fn close<E: Error + 'static>(
        &mut self,
        store: &mut impl FnMut(&[u8]) -> Result<ChunkRef, E>,
    ) -> Result<(), WriteError<E>> {
        let page = Page::Extents(std::mem::take(&mut self.open))
            .encode()
            .map_err(WriteError::Unlawful)?;
        self.pages.push(store(&page).map_err(WriteError::Store)?);
        self.open_bytes = PAGE_FRAME_BYTES;
        Ok(())
    }
}
