//! A list of paths, instead of everything below the root.

use std::{
    io::{self, BufRead, BufReader, Read},
    ops::Range,
};

use exclave_model::{BadPath, EntryPath, limit::PATH_BYTES_MAX};

/// Bytes of all paths in a list, since it is sorted in memory: some ten million paths.
pub const LIST_BYTES_MAX: usize = 1 << 30;

/// Bytes of one item: a path, and room for a leading `./`.
const ITEM_BYTES_MAX: u64 = PATH_BYTES_MAX as u64 + 64;

/// What a directory in a list stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedDirectory {
    /// Everything below it, as in tar.
    Whole,
    /// The directory alone; what lies below must be listed too, as in cpio.
    Alone,
}

/// Paths below the root, sorted; each with its parent directories will be found.
#[derive(Debug, Clone)]
pub struct FileList {
    paths: Vec<EntryPath>,
    directories: ListedDirectory,
}

/// Why a list can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFileList {
    /// It can't be read.
    #[error("the list of files can't be read")]
    Read(#[source] io::Error),
    /// One item isn't a path below the root.
    #[error("item {number} of the list of files is no path below the root: {}", item.escape_ascii())]
    Item {
        /// Counted from 1.
        number: usize,
        /// The bytes, cut short.
        item: Vec<u8>,
        /// Why not.
        #[source]
        source: BadPath,
    },
    /// More than is sorted in memory.
    #[error("the list of files is longer than {LIST_BYTES_MAX} bytes")]
    TooLong,
}

impl FileList {
    /// Reads paths, each ended by a NUL byte (the last one's may be missing), in any order. A leading `./` and a
    /// trailing `/` are taken off, `.` is the root.
    pub fn read(input: impl Read, directories: ListedDirectory) -> Result<Self, BadFileList> {
        let mut input = BufReader::new(input);
        let mut paths = Vec::new();
        let mut bytes = 0;
        let mut item = Vec::new();
        for number in 1.. {
            item.clear();
            let read = (&mut input).take(ITEM_BYTES_MAX).read_until(0, &mut item);
            if read.map_err(BadFileList::Read)? == 0 {
                break;
            }
            if item.last() == Some(&0) {
                item.pop();
            }
            let path = parse_item(&item).map_err(|source| BadFileList::Item {
                number,
                item: item.iter().copied().take(120).collect(),
                source,
            })?;
            bytes += path.as_bytes().len() + size_of::<EntryPath>();
            if bytes > LIST_BYTES_MAX {
                return Err(BadFileList::TooLong);
            }
            paths.push(path);
        }
        Ok(Self::of(paths, directories))
    }

    /// A list of paths at hand, in any order.
    pub fn of(mut paths: Vec<EntryPath>, directories: ListedDirectory) -> Self {
        paths.sort_unstable();
        paths.dedup();
        Self { paths, directories }
    }

    /// Different paths in the list.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// True when nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// What is wanted below the root.
    pub(super) fn select_root(&self) -> Selection {
        self.select(0..self.paths.len(), &EntryPath::root())
    }

    /// What is wanted below `path`, out of what was wanted below its parent.
    pub(super) fn select_below(&self, parent: &Range<usize>, path: &EntryPath) -> Selection {
        self.select(self.at_or_below(parent, path), path)
    }

    /// Listed paths that lie below `path`, itself not counted.
    pub(super) fn count_below(&self, parent: &Range<usize>, path: &EntryPath) -> u64 {
        let found = self.paths.get(self.at_or_below(parent, path)).unwrap_or_default();
        found.iter().filter(|listed| *listed != path).count() as u64
    }

    fn at_or_below(&self, parent: &Range<usize>, path: &EntryPath) -> Range<usize> {
        let within = self.paths.get(parent.clone()).unwrap_or_default();
        let first = within.partition_point(|listed| listed < path);
        let rest = within.get(first..).unwrap_or_default();
        let start = parent.start + first;
        start..start + rest.partition_point(|listed| path.contains(listed))
    }

    fn select(&self, mut range: Range<usize>, path: &EntryPath) -> Selection {
        if self.paths.get(range.start).filter(|_| !range.is_empty()) == Some(path) {
            match self.directories {
                ListedDirectory::Whole => return Selection::Everything,
                ListedDirectory::Alone => range.start += 1,
            }
        }
        Selection::Listed(range)
    }

    /// The next components below a directory `depth` components deep, sorted, each once.
    pub(super) fn components(&self, range: &Range<usize>, depth: usize) -> impl Iterator<Item = &[u8]> {
        let mut last = None;
        let paths = self.paths.get(range.clone()).unwrap_or_default();
        paths
            .iter()
            .filter_map(move |path| path.components().nth(depth))
            .filter(move |name| last.replace(*name) != Some(*name))
    }
}

/// What is wanted below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// All there is.
    Everything,
    /// This part of the list.
    Listed(Range<usize>),
}

fn parse_item(mut item: &[u8]) -> Result<EntryPath, BadPath> {
    if item.is_empty() {
        return Err(BadPath::EmptyComponent);
    }
    while let Some(rest) = item.strip_prefix(b"./") {
        item = rest;
    }
    if item.len() > 1 {
        item = item.strip_suffix(b"/").unwrap_or(item);
    }
    if item == b"." {
        item = b"";
    }
    EntryPath::parse(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &[u8], directories: ListedDirectory) -> FileList {
        FileList::read(text, directories).unwrap()
    }

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn lists_are_read_sorted_and_checked() {
        let read = list(b"b\0./a/x\0a b\0a/\0b\0\xff\0last", ListedDirectory::Whole);
        let paths: Vec<_> = read.paths.iter().map(|path| path.as_bytes()).collect();
        assert_eq!(paths, [&b"a"[..], b"a/x", b"a b", b"b", b"last", b"\xff"]);
        for bad in [&b"/etc\0"[..], b"a/../b\0", b"a\0\0b\0", b"a//b\0"] {
            assert!(matches!(
                FileList::read(bad, ListedDirectory::Whole),
                Err(BadFileList::Item { .. })
            ));
        }
        let long = vec![b'a'; 10_000];
        assert!(matches!(
            FileList::read(long.as_slice(), ListedDirectory::Whole),
            Err(BadFileList::Item {
                number: 1,
                source: BadPath::TooLong(_),
                ..
            })
        ));
        assert!(list(b"", ListedDirectory::Whole).is_empty());
    }

    #[test]
    fn selections_follow_the_tree() {
        let text = b"a/x/1\0a/x/2\0a/y\0a.b\0c\0c/d";
        let whole = list(text, ListedDirectory::Whole);
        let Selection::Listed(all) = whole.select_root() else {
            panic!()
        };
        assert_eq!(whole.components(&all, 0).collect::<Vec<_>>(), [&b"a"[..], b"a.b", b"c"]);
        let Selection::Listed(a) = whole.select_below(&all, &path("a")) else {
            panic!()
        };
        assert_eq!(whole.components(&a, 1).collect::<Vec<_>>(), [b"x", b"y"]);
        assert_eq!(whole.select_below(&all, &path("c")), Selection::Everything);
        assert_eq!(
            list(b".\0a", ListedDirectory::Whole).select_root(),
            Selection::Everything
        );
        let alone = list(text, ListedDirectory::Alone);
        let Selection::Listed(c) = alone.select_below(&all, &path("c")) else {
            panic!()
        };
        assert_eq!(alone.components(&c, 1).collect::<Vec<_>>(), [b"d"]);
    }
}
