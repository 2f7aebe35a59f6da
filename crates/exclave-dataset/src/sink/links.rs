//! Files with several names: which name was restored first.

use std::collections::HashMap;

use exclave_model::{Entry, EntryPath};

/// Link groups that are remembered, at some 50 bytes each. The members of further ones become files of their own.
const GROUPS_MAX: usize = 1 << 20;

/// Where a group's file is: under its first name, or under a later one when the first was not restored.
#[derive(Debug, Default)]
pub(super) struct LinkGroups {
    /// By the group's name.
    groups: HashMap<PathKey, Option<EntryPath>>,
}

/// What to do with a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// Write its content: it has one name, or is the first of its group here.
    First,
    /// It is another name of this file.
    Link(EntryPath),
    /// Write its content although another name exists: too many groups to remember.
    Separate,
}

impl LinkGroups {
    /// What to do with a file, given what was [noted](Self::note) before.
    pub(super) fn member(&self, entry: &Entry) -> Member {
        let Some(group) = &entry.link_group else {
            return Member::First;
        };
        match self.groups.get(&key_of(group)) {
            Some(None) if *group != entry.path => Member::Link(group.clone()),
            Some(Some(first)) => Member::Link(first.clone()),
            // A second "first" has the same path, which order forbids.
            Some(None) => Member::First,
            None if self.groups.len() < GROUPS_MAX => Member::First,
            None => Member::Separate,
        }
    }

    /// Remembers that a group's content lies, or is being written, under this entry's path.
    pub(super) fn note(&mut self, entry: &Entry) {
        if let Some(group) = &entry.link_group
            && self.groups.len() < GROUPS_MAX
        {
            let elsewhere = (*group != entry.path).then(|| entry.path.clone());
            self.groups.insert(key_of(group), elsewhere);
        }
    }
}

/// A path in little room: the first 16 bytes of its BLAKE3. Two that meet take 2^64 work.
pub(super) type PathKey = [u8; 16];

/// The key of a path.
pub(super) fn key_of(path: &EntryPath) -> PathKey {
    let mut key = PathKey::default();
    blake3::Hasher::new()
        .update(path.as_bytes())
        .finalize_xof()
        .fill(&mut key);
    key
}
