//! Reads a file's extents, from its entry or from pages of their own.

use std::{error::Error, vec};

use exclave_model::{
    ChunkRef, Content, Entry, Extent,
    manifest::{EXTENTS_LEVEL, Page},
};

use super::{ReadError, reader::fetch_page};

/// Gives a file's extents in order; one page of them is in memory.
#[derive(Debug)]
pub struct ExtentReader {
    pages: vec::IntoIter<ChunkRef>,
    open: vec::IntoIter<Extent>,
    end: u64,
    size: u64,
}

impl ExtentReader {
    /// Reads the extents of an entry. What is no file has none.
    pub fn new(entry: &Entry) -> Self {
        let (pages, open) = match &entry.content {
            Content::Extents(extents) => (Vec::new(), extents.clone()),
            Content::Paged(pages) => (pages.clone(), Vec::new()),
        };
        Self {
            pages: pages.into_iter(),
            open: open.into_iter(),
            end: 0,
            size: entry.size,
        }
    }

    /// The next extent; `None` at the end. After an error, reading does not go on.
    pub fn next_extent<E: Error + 'static, B: AsRef<[u8]>>(
        &mut self,
        fetch: &mut impl FnMut(&ChunkRef) -> Result<B, E>,
    ) -> Result<Option<Extent>, ReadError<E>> {
        self.advance(fetch).inspect_err(|_| {
            self.pages = Vec::new().into_iter();
            self.open = Vec::new().into_iter();
        })
    }

    /// Iterates over the extents with one way to fetch pages.
    pub fn extents<E: Error + 'static, B: AsRef<[u8]>>(
        mut self,
        mut fetch: impl FnMut(&ChunkRef) -> Result<B, E>,
    ) -> impl Iterator<Item = Result<Extent, ReadError<E>>> {
        std::iter::from_fn(move || self.next_extent(&mut fetch).transpose())
    }

    fn advance<E: Error + 'static, B: AsRef<[u8]>>(
        &mut self,
        fetch: &mut impl FnMut(&ChunkRef) -> Result<B, E>,
    ) -> Result<Option<Extent>, ReadError<E>> {
        loop {
            if let Some(extent) = self.open.next() {
                let (offset, end, size) = (extent.offset, self.end, self.size);
                if offset < end {
                    return Err(ReadError::Overlap { offset, end });
                }
                // The page's law keeps the sum within 63 bits.
                self.end = offset.saturating_add(extent.length);
                if self.end > size {
                    return Err(ReadError::BeyondSize { end: self.end, size });
                }
                return Ok(Some(extent));
            }
            let Some(page) = self.pages.next() else { return Ok(None) };
            self.open = match fetch_page(&page, fetch)? {
                Page::Extents(extents) => extents.into_iter(),
                Page::Entries(_) => {
                    return Err(ReadError::WrongLevel {
                        expected: EXTENTS_LEVEL,
                        found: 0,
                    });
                }
                Page::Children { level, .. } => {
                    return Err(ReadError::WrongLevel {
                        expected: EXTENTS_LEVEL,
                        found: level,
                    });
                }
            };
        }
    }
}
