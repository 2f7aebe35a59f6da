//! Names of owners and groups.
//!
//! Asked of the system's own user database (so a directory service counts too) and remembered, since a tree has
//! millions of files and few owners. The numbers are the truth; names help a restore on another machine.

use std::collections::HashMap;

use nix::unistd::{Gid, Group, Uid, User};

/// Names remembered of each kind. A tree with more owners asks again; memory stays below some 10 MiB.
const NAMES_MAX: usize = 65_536;

/// Remembers the names of owners and groups.
pub(crate) struct Owners {
    users: HashMap<u32, Option<Vec<u8>>>,
    groups: HashMap<u32, Option<Vec<u8>>>,
}

impl Owners {
    pub(crate) fn new() -> Self {
        Self {
            users: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    /// The owner's name; `None` when the system knows none or can't say.
    pub(crate) fn user(&mut self, uid: u32) -> Option<Vec<u8>> {
        remembered(&mut self.users, uid, |uid| {
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            user.map(|user| user.name.into_bytes())
        })
    }

    /// The group's name, likewise.
    pub(crate) fn group(&mut self, gid: u32) -> Option<Vec<u8>> {
        remembered(&mut self.groups, gid, |gid| {
            let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
            group.map(|group| group.name.into_bytes())
        })
    }
}

fn remembered(
    names: &mut HashMap<u32, Option<Vec<u8>>>,
    number: u32,
    ask: impl FnOnce(u32) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    if names.len() >= NAMES_MAX && !names.contains_key(&number) {
        names.clear();
    }
    names
        .entry(number)
        .or_insert_with(|| ask(number).filter(|name| !name.is_empty()))
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_nobody_asks_twice() {
        let mut owners = Owners::new();
        assert_eq!(owners.user(0).as_deref(), Some(&b"root"[..]));
        assert!(owners.group(0).is_some());
        assert_eq!(owners.user(3_999_999_999), None);
        let mut names = HashMap::new();
        let asked = remembered(&mut names, 5, |_| Some(b"five".to_vec()));
        assert_eq!(remembered(&mut names, 5, |_| None), asked);
    }
}
