//! Files with several names.

use std::collections::HashMap;

use exclave_model::EntryPath;

use super::stat::{FileId, FileStat};

/// Bytes of memory for groups whose names were not all seen yet. About two million groups; beyond it, further groups are
/// read as separate files, which costs a restore its sharing but no byte of content.
const OPEN_GROUPS_BYTES_MAX: usize = 256 << 20;

/// Bytes of one group besides its path, the table's slack included.
const GROUP_BYTES: usize = 96;

/// A file's place among the names that lead to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRole {
    /// It has one name.
    Single,
    /// It has several, and this is the first in order: its content is read here.
    First,
    /// The content was met under an earlier name, the entry's link group.
    Later,
}

/// Groups that are still open: first name, and names that are still to come.
#[derive(Default)]
pub(crate) struct LinkGroups {
    open: HashMap<FileId, (EntryPath, u64)>,
    bytes: usize,
}

/// Memory is full: this file's group can't be followed.
pub(crate) struct LinksFull;

impl LinkGroups {
    /// Places a file; gives its group's first path when it has several names.
    pub(crate) fn place(
        &mut self,
        stat: &FileStat,
        path: &EntryPath,
    ) -> Result<(LinkRole, Option<EntryPath>), LinksFull> {
        if stat.links < 2 {
            return Ok((LinkRole::Single, None));
        }
        if let Some((first, remaining)) = self.open.get_mut(&stat.id()) {
            let first = first.clone();
            *remaining = remaining.saturating_sub(1);
            if *remaining == 0 {
                self.open.remove(&stat.id());
                self.bytes = self.bytes.saturating_sub(weight(&first));
            }
            return Ok((LinkRole::Later, Some(first)));
        }
        if self.bytes + weight(path) > OPEN_GROUPS_BYTES_MAX {
            return Err(LinksFull);
        }
        self.bytes += weight(path);
        self.open.insert(stat.id(), (path.clone(), stat.links - 1));
        Ok((LinkRole::First, Some(path.clone())))
    }
}

fn weight(path: &EntryPath) -> usize {
    path.as_bytes().len() + GROUP_BYTES
}

#[cfg(test)]
mod tests {
    use exclave_model::Timestamp;

    use super::*;

    #[test]
    fn groups_close_when_all_names_were_seen() {
        let stat = |inode, links| FileStat {
            device: 1,
            inode,
            size: 0,
            modified: Timestamp::default(),
            changed: Timestamp::default(),
            links,
        };
        let path = |name: &str| EntryPath::parse(name.as_bytes()).unwrap();
        let mut groups = LinkGroups::default();
        let mut place = |inode, links, name| groups.place(&stat(inode, links), &path(name)).ok().unwrap();
        assert_eq!(place(1, 1, "a"), (LinkRole::Single, None));
        assert_eq!(place(2, 3, "b"), (LinkRole::First, Some(path("b"))));
        assert_eq!(place(2, 3, "c"), (LinkRole::Later, Some(path("b"))));
        assert_eq!(place(3, 2, "d"), (LinkRole::First, Some(path("d"))));
        assert_eq!(place(2, 3, "e"), (LinkRole::Later, Some(path("b"))));
        assert_eq!(groups.open.len(), 1, "b's group is forgotten");
        assert_eq!(groups.bytes, GROUP_BYTES + 1);
    }
}
