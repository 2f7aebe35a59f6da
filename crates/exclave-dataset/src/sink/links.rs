//! Files with several names: which name was restored first.

use std::collections::HashMap;

use exclave_model::{Entry, EntryPath};

/// Link groups that are remembered, at some 50 bytes each. The members of further ones become files of their own.
const GROUPS_MAX: usize = 1 << 20;

/// Where a group's file is: under its first name, or under a later one when the first was not restored.
#[derive(Debug, Default)]
pub(super) struct LinkGroups {
    /// By the first 16 bytes of the BLAKE3 of the group's name: 2^64 work for two that meet.
    groups: HashMap<[u8; 16], Option<EntryPath>>,
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
        match self.groups.get(&key(group)) {
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
            self.groups.insert(key(group), elsewhere);
        }
    }
}

fn key(group: &EntryPath) -> [u8; 16] {
    let mut key = [0u8; 16];
    key.copy_from_slice(&blake3::hash(group.as_bytes()).as_bytes()[..16]);
    key
}
