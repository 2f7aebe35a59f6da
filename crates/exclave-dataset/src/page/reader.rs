//! Reads a manifest: pages in, entries out, one page per level in memory.

use std::{collections::VecDeque, error::Error};

use exclave_model::{
    ChunkRef, Entry, EntryPath, RecordError,
    limit::PAGE_DEPTH_MAX,
    manifest::{Child, EXTENTS_LEVEL, Page},
};

use super::Root;

/// Why a manifest can't be read on. `E` is what fetching a page can answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E: Error + 'static> {
    /// A page could not be had.
    #[error("a page of the manifest can't be fetched")]
    Fetch(#[source] E),
    /// A page is not one.
    #[error("a page of the manifest can't be read")]
    Page(#[source] RecordError),
    /// The root page's level is over the cap.
    #[error("the manifest is {level} levels deep, the cap is {PAGE_DEPTH_MAX}")]
    TooDeep {
        /// The level that the head names.
        level: u8,
    },
    /// The level did not fall by one.
    #[error("a page has level {found}, its parent says {expected}")]
    WrongLevel {
        /// One below the parent's level.
        expected: u8,
        /// The page's own level.
        found: u8,
    },
    /// A page does not begin where its parent says.
    #[error("a page begins with {found}, its parent says {expected}")]
    WrongFirst {
        /// The path in the parent.
        expected: EntryPath,
        /// The path in the page.
        found: EntryPath,
    },
    /// A path is not behind the one before, which lies in another page.
    #[error("{path} stands behind {last}")]
    OutOfOrder {
        /// The entry.
        path: EntryPath,
        /// The entry before.
        last: EntryPath,
    },
    /// Extents of one file overlap over the end of a page.
    #[error("an extent at {offset} begins before {end}, where the one before ends")]
    Overlap {
        /// Where it begins.
        offset: u64,
        /// Where the one before ends.
        end: u64,
    },
    /// An extent ends behind its file's size.
    #[error("an extent ends at {end}, behind the file's size of {size}")]
    BeyondSize {
        /// Where it ends.
        end: u64,
        /// The file's size.
        size: u64,
    },
}

/// Reads the entries of one manifest in order. Pages are fetched when they are needed.
#[derive(Debug)]
pub struct PageReader {
    /// The page to begin with, until it is open.
    root: Option<Root>,
    /// Open index pages from the root down, each with the children that are still to come.
    stack: Vec<Frame>,
    /// Entries of the open page that are still to come.
    entries: VecDeque<Entry>,
    /// Path of the entry that came last.
    last: Option<EntryPath>,
    /// Entries before this path are passed over.
    from: Option<EntryPath>,
    /// Entries outside this directory end the reading.
    within: Option<EntryPath>,
}

#[derive(Debug)]
struct Frame {
    level: u8,
    children: VecDeque<Child>,
}

impl PageReader {
    /// Reads all entries.
    pub fn new(root: Root) -> Self {
        Self {
            root: Some(root),
            stack: Vec::new(),
            entries: VecDeque::new(),
            last: None,
            from: None,
            within: None,
        }
    }

    /// Reads the entry at a path and all below it, and only the pages needed for that.
    pub fn below(root: Root, path: &EntryPath) -> Self {
        Self {
            from: Some(path.clone()),
            within: Some(path.clone()),
            ..Self::new(root)
        }
    }

    /// Passes over everything before a path. Only forwards: a path behind which reading already is changes nothing.
    pub fn seek(&mut self, path: &EntryPath) {
        if self.from.as_ref().is_some_and(|from| from >= path) {
            return;
        }
        self.from = Some(path.clone());
        // The highest index page whose next child still begins at or before the path makes all below it needless.
        let next_is_before = |frame: &Frame| frame.children.front().is_some_and(|next| next.first <= *path);
        if let Some(depth) = self.stack.iter().position(next_is_before) {
            self.stack.truncate(depth + 1);
            self.entries.clear();
        }
        if let Some(frame) = self.stack.last_mut() {
            pass_over(&mut frame.children, path);
        }
        while self.entries.front().is_some_and(|entry| entry.path < *path) {
            self.entries.pop_front();
        }
    }

    /// The next entry; `None` at the end. After an error, reading does not go on.
    pub fn next_entry<E: Error + 'static, B: AsRef<[u8]>>(
        &mut self,
        fetch: &mut impl FnMut(&ChunkRef) -> Result<B, E>,
    ) -> Result<Option<Entry>, ReadError<E>> {
        match self.advance(fetch) {
            Ok(Some(entry)) if self.within.as_ref().is_none_or(|within| within.contains(&entry.path)) => {
                self.last = Some(entry.path.clone());
                Ok(Some(entry))
            }
            Ok(_) => {
                self.end();
                Ok(None)
            }
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// Iterates over the entries with one way to fetch pages.
    pub fn entries<F>(self, fetch: F) -> Entries<F> {
        Entries { reader: self, fetch }
    }

    fn end(&mut self) {
        self.root = None;
        self.stack.clear();
        self.entries.clear();
    }

    fn advance<E: Error + 'static, B: AsRef<[u8]>>(
        &mut self,
        fetch: &mut impl FnMut(&ChunkRef) -> Result<B, E>,
    ) -> Result<Option<Entry>, ReadError<E>> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                if let Some(last) = self.last.as_ref().filter(|last| **last >= entry.path) {
                    return Err(ReadError::OutOfOrder {
                        path: entry.path,
                        last: last.clone(),
                    });
                }
                return Ok(Some(entry));
            }
            if let Some(root) = self.root.take() {
                if usize::from(root.level) >= PAGE_DEPTH_MAX {
                    return Err(ReadError::TooDeep { level: root.level });
                }
                self.open(root.level, None, &root.page, fetch)?;
                continue;
            }
            let Some(frame) = self.stack.last_mut() else {
                return Ok(None);
            };
            match frame.children.pop_front() {
                // Level 0 pages have no frame, so a frame's level is at least 1.
                Some(child) => {
                    let level = frame.level.saturating_sub(1);
                    self.open(level, Some(child.first), &child.page, fetch)?;
                }
                None => {
                    self.stack.pop();
                }
            }
        }
    }

    fn open<E: Error + 'static, B: AsRef<[u8]>>(
        &mut self,
        expected: u8,
        promised: Option<EntryPath>,
        page: &ChunkRef,
        fetch: &mut impl FnMut(&ChunkRef) -> Result<B, E>,
    ) -> Result<(), ReadError<E>> {
        let (found, first) = match fetch_page(page, fetch)? {
            Page::Entries(entries) => {
                self.entries = entries.into();
                (0, self.entries.front().map(|entry| &entry.path))
            }
            Page::Children { level, children } => {
                self.stack.push(Frame {
                    level,
                    children: children.into(),
                });
                (
                    level,
                    self.stack
                        .last()
                        .and_then(|frame| frame.children.front())
                        .map(|child| &child.first),
                )
            }
            Page::Extents(_) => (EXTENTS_LEVEL, None),
        };
        if found != expected {
            return Err(ReadError::WrongLevel { expected, found });
        }
        if let (Some(expected), Some(found)) = (promised, first)
            && expected != *found
        {
            return Err(ReadError::WrongFirst {
                expected,
                found: found.clone(),
            });
        }
        if let Some(from) = &self.from {
            match self.stack.last_mut() {
                Some(frame) if found > 0 => pass_over(&mut frame.children, from),
                Some(_) | None => self.entries.retain(|entry| entry.path >= *from),
            }
        }
        Ok(())
    }
}

/// Drops the children that end before a path: those whose next sibling begins at or before it.
fn pass_over(children: &mut VecDeque<Child>, path: &EntryPath) {
    while children.get(1).is_some_and(|next| next.first <= *path) {
        children.pop_front();
    }
}

/// Fetches and reads one page.
pub(super) fn fetch_page<E: Error + 'static, B: AsRef<[u8]>>(
    page: &ChunkRef,
    fetch: &mut impl FnMut(&ChunkRef) -> Result<B, E>,
) -> Result<Page, ReadError<E>> {
    let bytes = fetch(page).map_err(ReadError::Fetch)?;
    Page::decode(bytes.as_ref()).map_err(ReadError::Page)
}

/// Entries as an iterator; ends after the first error.
#[derive(Debug)]
pub struct Entries<F> {
    reader: PageReader,
    fetch: F,
}

impl<F, E: Error + 'static, B: AsRef<[u8]>> Iterator for Entries<F>
where
    F: FnMut(&ChunkRef) -> Result<B, E>,
{
    type Item = Result<Entry, ReadError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.reader.next_entry(&mut self.fetch).transpose()
    }
}
