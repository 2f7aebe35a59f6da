//! Which entries are wanted, and the walk over a manifest that gives them, around what is damaged.

use std::{collections::VecDeque, ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use exclave_dataset::page::{PageReader, ReadError, Root};
use exclave_model::{ChunkRef, Entry, EntryKind, EntryPath, limit::PAGE_DEPTH_MAX, manifest::Page};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::error::ChunkError;

/// Which entries are wanted.
#[derive(Debug, Clone)]
pub struct Selection {
    /// In order; none lies below another.
    paths: Vec<EntryPath>,
    exclude: Gitignore,
}

/// An exclude rule or glob that can't be understood.
#[derive(Debug, thiserror::Error)]
#[error("{rule:?} is no pattern in gitignore syntax")]
pub struct BadPattern {
    /// The rule.
    pub rule: String,
    /// Why.
    #[source]
    pub source: ignore::Error,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self {
            paths: vec![EntryPath::root()],
            exclude: Gitignore::empty(),
        }
    }

    /// These entries and all below them (everything when there are none), but not what the rules exclude. Rules have
    /// gitignore syntax and are anchored at the root of the dataset.
    pub fn new(mut paths: Vec<EntryPath>, exclude: &[String]) -> Result<Self, BadPattern> {
        if paths.is_empty() {
            paths.push(EntryPath::root());
        }
        paths.sort();
        paths.dedup_by(|next, kept| kept.contains(next));
        Ok(Self {
            paths,
            exclude: pattern(exclude)?,
        })
    }

    /// One entry and all below it.
    pub(crate) fn below(path: EntryPath) -> Self {
        Self {
            paths: vec![path],
            exclude: Gitignore::empty(),
        }
    }

    /// True when the whole manifest is wanted, exclude rules aside.
    pub fn is_everything(&self) -> bool {
        self.paths.iter().any(EntryPath::is_root)
    }

    /// The paths asked for.
    pub fn paths(&self) -> &[EntryPath] {
        &self.paths
    }

    fn is_excluded(&self, entry: &Entry) -> bool {
        !self.exclude.is_empty() && !entry.path.is_root() && matches_pattern(&self.exclude, entry)
    }
}

/// Reads patterns in gitignore syntax.
pub(crate) fn pattern(rules: &[String]) -> Result<Gitignore, BadPattern> {
    let mut builder = GitignoreBuilder::new("");
    let mut last = "";
    let bad = |rule: &str, source| BadPattern {
        rule: rule.to_owned(),
        source,
    };
    for rule in rules {
        last = rule;
        builder.add_line(None, rule).map_err(|source| bad(rule, source))?;
    }
    builder.build().map_err(|source| bad(last, source))
}

/// True when a pattern matches an entry itself.
pub(crate) fn matches_pattern(pattern: &Gitignore, entry: &Entry) -> bool {
    let path = Path::new(OsStr::from_bytes(entry.path.as_bytes()));
    pattern.matched(path, entry.kind == EntryKind::Directory).is_ignore()
}

/// A part of the manifest that can't be read: names are lost with it.
#[derive(Debug, Clone)]
pub struct ManifestGap {
    /// The entry read before it; none at the beginning.
    pub after: Option<EntryPath>,
    /// Where reading went on; none when it could not.
    pub before: Option<EntryPath>,
    /// Why.
    pub why: std::sync::Arc<ReadError<ChunkError>>,
}

/// What comes next.
pub(crate) enum Step {
    Entry(Box<Entry>),
    Gap(ManifestGap),
    End,
}

/// Walks over the selected entries of one manifest.
pub(crate) struct Walk<'s> {
    root: Root,
    selection: &'s Selection,
    waiting: VecDeque<EntryPath>,
    reader: Option<(EntryPath, PageReader)>,
    found_any: bool,
    last: Option<EntryPath>,
    /// Where reading went on behind the last gap.
    resumed: Option<EntryPath>,
    /// An excluded directory: what it holds is passed over.
    hidden: Option<EntryPath>,
    /// Paths that were asked for and are not there.
    pub(crate) not_found: Vec<EntryPath>,
}

impl<'s> Walk<'s> {
    pub(crate) fn new(root: Root, selection: &'s Selection) -> Self {
        Self {
            root,
            selection,
            waiting: selection.paths.iter().cloned().collect(),
            reader: None,
            found_any: false,
            last: None,
            resumed: None,
            hidden: None,
            not_found: Vec::new(),
        }
    }

    /// The next selected entry, or a gap in the manifest. Reading goes on behind a gap where that is possible. When
    /// `fetch` says that the work was stopped, that is the last step.
    pub(crate) fn next(&mut self, fetch: &mut impl FnMut(&ChunkRef) -> Result<Vec<u8>, ChunkError>) -> Step {
        loop {
            let Some((path, mut reader)) = self.reader.take() else {
                let Some(path) = self.waiting.pop_front() else {
                    return Step::End;
                };
                let reader = PageReader::below(self.root, &path);
                self.reader = Some((path, reader));
                self.found_any = false;
                continue;
            };
            let mut asked = None;
            let mut noting = |chunk: &ChunkRef| {
                asked = Some(*chunk);
                fetch(chunk)
            };
            match reader.next_entry(&mut noting) {
                Ok(Some(entry)) => {
                    self.reader = Some((path, reader));
                    self.found_any = true;
                    self.last = Some(entry.path.clone());
                    if !self.passes_over(&entry) {
                        return Step::Entry(Box::new(entry));
                    }
                }
                Ok(None) if self.found_any => {}
                Ok(None) => self.not_found.push(path),
                Err(error) => return self.gap(path, error, asked, fetch),
            }
        }
    }

    fn passes_over(&mut self, entry: &Entry) -> bool {
        if self.hidden.as_ref().is_some_and(|hidden| hidden.contains(&entry.path)) {
            return true;
        }
        let excluded = self.selection.is_excluded(entry);
        self.hidden = (excluded && entry.kind == EntryKind::Directory).then(|| entry.path.clone());
        if let Some(hidden) = self.hidden.clone() {
            self.skip_below(&hidden);
        }
        excluded
    }

    /// Passes over what lies below an entry, as far as its pages need not be read for anything else.
    pub(crate) fn skip_below(&mut self, path: &EntryPath) {
        // Bytes of a name begin at 1, so this is the least path behind everything below. A name that is full length has
        // none; then all is read and the caller sees it.
        let behind = EntryPath::parse(&[path.as_bytes(), &[1]].concat());
        if let (Some((_, reader)), Ok(behind), false) = (&mut self.reader, behind, path.is_root()) {
            reader.seek(&behind);
        }
    }

    /// Goes on behind the page that could not be read.
    fn gap(
        &mut self,
        path: EntryPath,
        error: ReadError<ChunkError>,
        asked: Option<ChunkRef>,
        fetch: &mut impl FnMut(&ChunkRef) -> Result<Vec<u8>, ChunkError>,
    ) -> Step {
        if matches!(error, ReadError::Fetch(ChunkError::Stopped)) {
            self.waiting.clear();
            return Step::End;
        }
        let seen = [self.last.as_ref(), self.resumed.as_ref(), Some(&path)];
        let near = seen.into_iter().flatten().max().cloned().unwrap_or_default();
        let next = asked.and_then(|page| find_next(self.root.level, &self.root.page, None, &page, &near, fetch));
        // Only ever forwards, whatever a hostile index says.
        let before = next.flatten().filter(|next| path.contains(next) && *next > near);
        if let Some(next) = &before {
            let mut reader = PageReader::below(self.root, &path);
            reader.seek(next);
            self.resumed = Some(next.clone());
            self.found_any = true;
            self.reader = Some((path, reader));
        }
        Step::Gap(ManifestGap {
            after: self.last.clone(),
            before,
            why: std::sync::Arc::new(error),
        })
    }
}

/// Finds the page `lost`, which holds what comes right behind `near`, and says where the page after it begins:
/// `Some(None)` when none does, `None` when the page was not found. Depth is that of the manifest.
fn find_next(
    level: u8,
    page: &ChunkRef,
    after: Option<&EntryPath>,
    lost: &ChunkRef,
    near: &EntryPath,
    fetch: &mut impl FnMut(&ChunkRef) -> Result<Vec<u8>, ChunkError>,
) -> Option<Option<EntryPath>> {
    if page == lost {
        return Some(after.cloned());
    }
    if level == 0 || usize::from(level) >= PAGE_DEPTH_MAX {
        return None;
    }
    let Page::Children { level: found, children } = Page::decode(&fetch(page).ok()?).ok()? else {
        return None;
    };
    if found != level {
        return None;
    }
    let at = children.partition_point(|child| child.first <= *near).saturating_sub(1);
    (at..at.saturating_add(2)).find_map(|at| {
        let child = children.get(at)?;
        let after = children.get(at + 1).map(|next| &next.first).or(after);
        find_next(level - 1, &child.page, after, lost, near, fetch)
    })
}
