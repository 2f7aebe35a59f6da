//! Looking into snapshots: lists, finds and compares entries, page by page, in bounded memory.
//!
//! Entries are handed to a callback in the manifest's order, which may end the reading. What can't be read of a manifest is
//! a gap in the answer, never silence.

use std::{collections::VecDeque, ops::ControlFlow};

use exclave_dataset::page::ExtentReader;
use exclave_model::{ChunkId, ChunkRef, Entry, EntryPath};

use crate::{
    restore::{
        BadPattern, ChunkError, ChunkReader, ManifestGap, Pages, RestoreError, Selection, Step, Walk, matches_pattern,
        pattern, root_of,
    },
    snapshot::{Snapshot, Snapshots},
    surroundings::Surroundings,
};

/// Gaps that an answer lists; further ones are only counted.
const GAPS_LISTED_MAX: usize = 1000;

/// How deep to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deep {
    /// What lies directly in the directory, or the entry itself when it is none.
    Children,
    /// The entry and everything below it.
    All,
}

/// How a look went.
#[derive(Debug, Clone, Default)]
pub struct Browsed {
    /// Entries handed out.
    pub entries: u64,
    /// Paths that are not in the snapshot.
    pub not_found: Vec<EntryPath>,
    /// How many stretches of manifests can't be read.
    pub gaps_count: u64,
    /// The first 1,000 of them.
    pub gaps: Vec<ManifestGap>,
}

impl Browsed {
    fn gap(&mut self, gap: ManifestGap) {
        self.gaps_count += 1;
        if self.gaps.len() < GAPS_LISTED_MAX {
            self.gaps.push(gap);
        }
    }
}

/// Lists a directory, or an entry that is none.
pub fn ls(
    snapshots: &Snapshots<'_>,
    snapshot: &Snapshot,
    path: &EntryPath,
    deep: Deep,
    surroundings: &Surroundings,
    mut each: impl FnMut(&Entry) -> ControlFlow<()>,
) -> Result<Browsed, RestoreError> {
    let selection = Selection::below(path.clone());
    let mut entries = Entries::new(snapshots, snapshot, &selection, surroundings)?;
    while let Some(entry) = entries.next()? {
        let is_itself = entry.path == *path;
        let wanted = match deep {
            Deep::All => true,
            Deep::Children if is_itself => entry.kind != exclave_model::EntryKind::Directory,
            Deep::Children => {
                entries.walk.skip_below(&entry.path);
                entry.path.parent().as_ref() == Some(path)
            }
        };
        if wanted {
            entries.browsed.entries += 1;
            if each(&entry).is_break() {
                break;
            }
        }
    }
    Ok(entries.finish())
}

/// Finds the entries that a pattern in gitignore syntax matches: `*.db` anywhere, `/etc/` the directory at the top.
pub fn find(
    snapshots: &Snapshots<'_>,
    snapshot: &Snapshot,
    glob: &str,
    surroundings: &Surroundings,
    mut each: impl FnMut(&Entry) -> ControlFlow<()>,
) -> Result<Browsed, FindError> {
    let glob = pattern(&[glob.to_owned()])?;
    let selection = Selection::all();
    let mut entries = Entries::new(snapshots, snapshot, &selection, surroundings)?;
    while let Some(entry) = entries.next()? {
        if !entry.path.is_root() && matches_pattern(&glob, &entry) {
            entries.browsed.entries += 1;
            if each(&entry).is_break() {
                break;
            }
        }
    }
    Ok(entries.finish())
}

/// Why nothing could be found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The pattern is none.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The snapshot can't be read.
    #[error(transparent)]
    Read(#[from] RestoreError),
}

/// In what two snapshots differ at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Only the second has it.
    Added(Box<Entry>),
    /// Only the first has it.
    Removed(Box<Entry>),
    /// Both have it, and it is not the same.
    Changed {
        /// In the first.
        before: Box<Entry>,
        /// In the second.
        after: Box<Entry>,
        /// What changed.
        what: Changed,
    },
}

/// What changed about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changed {
    /// Mode, owner, time, attributes or the like.
    Metadata,
    /// The bytes of a file; perhaps metadata too.
    Content,
    /// It became something else, such as a link in place of a file.
    Kind,
}

/// Compares two snapshots of one dataset. Those of different datasets name equal chunks differently: every file that
/// holds data has changed then.
pub fn diff(
    snapshots: &Snapshots<'_>,
    before: &Snapshot,
    after: &Snapshot,
    surroundings: &Surroundings,
    mut each: impl FnMut(&Difference) -> ControlFlow<()>,
) -> Result<Browsed, RestoreError> {
    let selection = Selection::all();
    let mut left = Entries::new(snapshots, before, &selection, surroundings)?;
    let mut right = Entries::new(snapshots, after, &selection, surroundings)?;
    let (mut old, mut new) = (left.next()?, right.next()?);
    let mut count = 0;
    loop {
        let is_old_first = match (&old, &new) {
            (None, None) => break,
            (Some(old), Some(new)) => old.path.cmp(&new.path),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
        };
        let difference = match is_old_first {
            std::cmp::Ordering::Less => {
                let next = left.next()?;
                std::mem::replace(&mut old, next).map(Difference::Removed)
            }
            std::cmp::Ordering::Greater => {
                let next = right.next()?;
                std::mem::replace(&mut new, next).map(Difference::Added)
            }
            std::cmp::Ordering::Equal => {
                let pair = old.take().zip(new.take());
                let changed = pair.and_then(|(before, after)| {
                    let what = changed(&mut left.reader, &before, &mut right.reader, &after)?;
                    Some(Difference::Changed { before, after, what })
                });
                (old, new) = (left.next()?, right.next()?);
                changed
            }
        };
        if let Some(difference) = difference {
            count += 1;
            if each(&difference).is_break() {
                break;
            }
        }
    }
    let (mut browsed, other) = (left.finish(), right.finish());
    browsed.entries = count;
    browsed.gaps_count += other.gaps_count;
    browsed.gaps.extend(other.gaps);
    browsed.gaps.truncate(GAPS_LISTED_MAX);
    Ok(browsed)
}

/// The selected entries of one snapshot, gaps noted.
struct Entries<'s, 'w> {
    reader: ChunkReader<'s>,
    walk: Walk<'w>,
    browsed: Browsed,
    stop: std::sync::Arc<crate::surroundings::Progress>,
    seen: u64,
}

impl<'s, 'w> Entries<'s, 'w> {
    fn new(
        snapshots: &'s Snapshots<'s>,
        snapshot: &'s Snapshot,
        selection: &'w Selection,
        surroundings: &Surroundings,
    ) -> Result<Self, RestoreError> {
        let pages = match selection.is_everything() {
            true => Pages::Most,
            false => Pages::Few,
        };
        Ok(Self {
            reader: ChunkReader::new(snapshots, snapshot, pages, surroundings)?,
            walk: Walk::new(root_of(snapshot), selection),
            browsed: Browsed::default(),
            stop: std::sync::Arc::clone(&surroundings.progress),
            seen: 0,
        })
    }

    fn next(&mut self) -> Result<Option<Box<Entry>>, RestoreError> {
        loop {
            if self.stop.stop_asked() {
                return Err(RestoreError::Interrupted { entries: self.seen });
            }
            let reader = &mut self.reader;
            match self.walk.next(&mut |page| reader.page(page)) {
                Step::Entry(entry) => {
                    self.seen += 1;
                    return Ok(Some(entry));
                }
                Step::Gap(gap) => self.browsed.gap(gap),
                Step::End => return Ok(None),
            }
        }
    }

    fn finish(self) -> Browsed {
        let mut browsed = self.browsed;
        browsed.not_found = self.walk.not_found;
        browsed
    }
}

/// What changed about an entry, if anything.
fn changed(left: &mut ChunkReader<'_>, before: &Entry, right: &mut ChunkReader<'_>, after: &Entry) -> Option<Changed> {
    if before.kind != after.kind {
        return Some(Changed::Kind);
    }
    let has_same_content = before.size == after.size
        && (before.content == after.content
            || same_chunks(&mut Chunks::new(before), left, &mut Chunks::new(after), right));
    let described = |entry: &Entry| Entry {
        content: Default::default(),
        ..entry.clone()
    };
    match (has_same_content, described(before) == described(after)) {
        (false, _) => Some(Changed::Content),
        (true, false) => Some(Changed::Metadata),
        (true, true) => None,
    }
}

/// The chunks of one file, wherever they are stored: where each begins in the file, and its id.
struct Chunks {
    extents: ExtentReader,
    open: VecDeque<(u64, ChunkId)>,
}

impl Chunks {
    fn new(entry: &Entry) -> Self {
        Self {
            extents: ExtentReader::new(entry),
            open: VecDeque::new(),
        }
    }

    /// An error when the list can't be read.
    fn next(&mut self, reader: &mut ChunkReader<'_>) -> Result<Option<(u64, ChunkId)>, Unreadable> {
        let mut fetch = |page: &ChunkRef| -> Result<Vec<u8>, ChunkError> { reader.page(page) };
        while self.open.is_empty() {
            let Some(extent) = self.extents.next_extent(&mut fetch).map_err(|_| Unreadable)? else {
                return Ok(None);
            };
            let mut offset = extent.offset;
            for chunk in extent.refs {
                self.open.push_back((offset, chunk.id));
                offset = offset.saturating_add(u64::from(chunk.raw));
            }
        }
        Ok(self.open.pop_front())
    }
}

/// A file's list of chunks can't be read.
struct Unreadable;

/// Lists that can't be read count as different: nobody can say that they are the same.
fn same_chunks(
    before: &mut Chunks,
    left: &mut ChunkReader<'_>,
    after: &mut Chunks,
    right: &mut ChunkReader<'_>,
) -> bool {
    loop {
        match (before.next(left), after.next(right)) {
            (Ok(None), Ok(None)) => return true,
            (Ok(Some(one)), Ok(Some(other))) if one == other => {}
            (Ok(_) | Err(Unreadable), Ok(_) | Err(Unreadable)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::Depth,
        testing::{World, directory, file, noise},
    };

    fn world() -> World {
        let mut world = World::new(2, 1, 1);
        world.commit(vec![
            directory(""),
            directory("a"),
            directory("a/deep"),
            file("a/deep/x.db", b"x"),
            file("a/y.db", &noise(1, 50_000)),
            file("gone", b"gone"),
            file("same", &noise(2, 50_000)),
            file("z", b"z"),
        ]);
        let (mut touched, content) = file("z", b"z");
        touched.mode = 0o600;
        world.commit(vec![
            directory(""),
            directory("a"),
            directory("a/deep"),
            file("a/deep/x.db", b"x"),
            file("a/y.db", &noise(7, 50_000)),
            file("new", b"new"),
            file("same", &noise(2, 50_000)),
            (touched, content),
        ]);
        world
    }

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn listing_shows_children_or_everything() {
        let world = world();
        let snapshots = world.snapshots(Depth::Newest);
        let list = |at: &str, deep| {
            let mut names = Vec::new();
            let each = |entry: &Entry| {
                names.push(entry.path.to_string());
                ControlFlow::Continue(())
            };
            let browsed = ls(
                &snapshots,
                &snapshots.list()[0],
                &path(at),
                deep,
                &world.surroundings,
                each,
            )
            .unwrap();
            assert_eq!(browsed.entries as usize, names.len());
            (names, browsed.not_found.len())
        };
        assert_eq!(list("", Deep::Children).0, ["a", "new", "same", "z"]);
        assert_eq!(list("a", Deep::Children).0, ["a/deep", "a/y.db"]);
        assert_eq!(list("a", Deep::All).0, ["a", "a/deep", "a/deep/x.db", "a/y.db"]);
        assert_eq!(list("z", Deep::Children).0, ["z"]);
        assert_eq!(list("nowhere", Deep::All), (vec![], 1));
    }

    #[test]
    fn finding_goes_by_pattern_and_may_end_early() {
        let world = world();
        let snapshots = world.snapshots(Depth::Newest);
        let found = |glob: &str, most: usize| {
            let mut names = Vec::new();
            let each = |entry: &Entry| {
                names.push(entry.path.to_string());
                match names.len() < most {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            };
            find(&snapshots, &snapshots.list()[0], glob, &world.surroundings, each).map(|_| names)
        };
        assert_eq!(found("*.db", 9).unwrap(), ["a/deep/x.db", "a/y.db"]);
        assert_eq!(found("*.db", 1).unwrap(), ["a/deep/x.db"]);
        assert_eq!(found("/a/*/", 9).unwrap(), ["a/deep"]);
        assert!(matches!(found("a{b", 9), Err(FindError::Pattern(_))));
    }

    #[test]
    fn differences_are_what_changed_and_not_where_it_lies() {
        let world = world();
        let snapshots = world.snapshots(Depth::All);
        let [new, old] = snapshots.list() else {
            panic!("two snapshots")
        };
        let compared = |before, after| {
            let mut lines = Vec::new();
            let each = |difference: &Difference| {
                lines.push(match difference {
                    Difference::Added(entry) => format!("+ {}", entry.path),
                    Difference::Removed(entry) => format!("- {}", entry.path),
                    Difference::Changed { after, what, .. } => format!("{what:?} {}", after.path),
                });
                ControlFlow::Continue(())
            };
            diff(&snapshots, before, after, &world.surroundings, each).unwrap();
            lines
        };
        // `same` lies in other stripes of another run, and is the same.
        assert_eq!(compared(old, new), ["Content a/y.db", "- gone", "+ new", "Metadata z"]);
        assert_eq!(compared(new, old), ["Content a/y.db", "+ gone", "- new", "Metadata z"]);
        assert!(compared(old, old).is_empty());
    }

    #[test]
    fn gaps_are_told() {
        let world = world();
        let snapshots = world.snapshots(Depth::Newest);
        for site in &world.sites[..2] {
            for (name, _) in site.disk().objects() {
                if name.as_str().contains("/shards/") {
                    site.disk().remove(&name);
                }
            }
        }
        let all = |_: &Entry| ControlFlow::Continue(());
        let browsed = ls(
            &snapshots,
            &snapshots.list()[0],
            &EntryPath::root(),
            Deep::All,
            &world.surroundings,
            all,
        );
        let browsed = browsed.unwrap();
        assert_eq!((browsed.entries, browsed.gaps_count), (0, 1));
    }
}
