//! Listings of a tree of directories, within caps.
//!
//! What isn't a plain file with an object's name is no object: a name with a slash, `..`, a NUL or bytes that are no text,
//! and links, pipes and devices. They are counted. Leftovers of puts (`~..`) aren't even that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use exclave_model::{ObjectName, Prefix};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::connection::Session;
use super::handle::OpenHandle;
use super::packet::{FileKind, Name};
use super::trouble::Trouble;
use super::{LEFTOVER, join};
use crate::contract::{Children, Entry};

/// Directories that are read at the same time. Each takes four round trips, and an archive has hundreds.
const AT_ONCE: usize = 8;

/// Most directories of one listing that wait to be read (THREATS D5).
const WAITING_MAX: usize = 100_000;

/// How far a walk goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    One,
    All,
}

/// What a walk may still keep.
struct Budget(AtomicUsize);

impl Budget {
    /// Takes one; false when there is none left.
    fn take(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// Collects what lies below a prefix. Nothing there is an empty listing.
pub(super) async fn walk(
    session: &Arc<Session>,
    root: &str,
    prefix: &Prefix,
    entries_max: usize,
    depth: Depth,
) -> Result<Children, Trouble> {
    let budget = Budget(AtomicUsize::new(entries_max));
    let mut found = Children {
        complete: true,
        ..Children::default()
    };
    let mut waiting = vec![prefix.clone()];
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(below) = waiting.pop()
        {
            running.push(directory(session, root, below, &budget, depth));
        }
        let Some(read) = running.next().await else {
            break;
        };
        let read = read?;
        found.entries.extend(read.found.entries);
        found.prefixes.extend(read.found.prefixes);
        found.ignored = found.ignored.saturating_add(read.found.ignored);
        if !read.found.complete {
            found.complete = false;
            break;
        }
        waiting.extend(read.directories);
        if waiting.len() > WAITING_MAX {
            return Err(Trouble::malformed(format!(
                "listing of more than {WAITING_MAX} directories"
            )));
        }
    }
    // A server may tell a name twice, with another length each time; one of them is kept, as any reader may get.
    found.prefixes.sort();
    found.prefixes.dedup();
    found.entries.sort();
    found.entries.dedup_by(|a, b| a.name == b.name);
    Ok(found)
}

/// One directory's part of a listing.
struct Part {
    found: Children,
    /// Directories below that are still to be read.
    directories: Vec<Prefix>,
}

async fn directory(
    session: &Arc<Session>,
    root: &str,
    below: Prefix,
    budget: &Budget,
    depth: Depth,
) -> Result<Part, Trouble> {
    let mut part = Part {
        found: Children {
            complete: true,
            ..Children::default()
        },
        directories: Vec::new(),
    };
    let path = join(root, below.as_str().trim_end_matches('/'));
    let handle = match session.client.open_directory(&path).await {
        Ok(handle) => OpenHandle::new(session, handle),
        // Nothing was put there, or a reaper was faster.
        Err(trouble) if trouble.is_missing() => return Ok(part),
        // What version 3 says of a file where a directory is looked for.
        Err(trouble) if trouble.may_be_taken() => {
            let about = session.client.lstat(&path).await?;
            return if about.kind() == FileKind::Directory {
                Err(trouble)
            } else {
                Ok(part)
            };
        }
        Err(trouble) => return Err(trouble),
    };
    while let Some(names) = session.client.read_directory(handle.bytes()).await? {
        for name in names {
            if !add(session, root, &below, name, budget, depth, &mut part).await? {
                part.found.complete = false;
                return Ok(part);
            }
        }
    }
    Ok(part)
}

/// Adds one name; false when there is no room for it.
async fn add(
    session: &Session,
    root: &str,
    below: &Prefix,
    Name { name, attributes }: Name,
    budget: &Budget,
    depth: Depth,
    part: &mut Part,
) -> Result<bool, Trouble> {
    if matches!(&*name, b"." | b"..") || name.starts_with(LEFTOVER.as_bytes()) {
        return Ok(true);
    }
    let Some(name) = object_name(&name, below) else {
        part.found.ignored = part.found.ignored.saturating_add(1);
        return Ok(true);
    };
    let mut about = attributes;
    if about.kind() == FileKind::Unknown || about.length.is_none() {
        about = match session.client.lstat(&join(root, name.as_str())).await {
            Ok(about) => about,
            Err(trouble) if trouble.is_missing() => return Ok(true),
            Err(trouble) => return Err(trouble),
        };
    }
    match (about.kind(), depth) {
        (FileKind::Directory, Depth::All) if part.directories.len() > WAITING_MAX => {
            let what = format!("listing of more than {WAITING_MAX} directories");
            return Err(Trouble::malformed(what));
        }
        (FileKind::Directory, Depth::All) => part.directories.push(Prefix::below(&name)),
        (FileKind::Directory | FileKind::Regular, _) if !budget.take() => return Ok(false),
        (FileKind::Directory, Depth::One) => part.found.prefixes.push(Prefix::below(&name)),
        (FileKind::Regular, _) => part.found.entries.push(Entry {
            name,
            length: about.length.unwrap_or(0),
        }),
        (FileKind::Other | FileKind::Unknown, _) => part.found.ignored = part.found.ignored.saturating_add(1),
    }
    Ok(true)
}

/// The object name of a name in a directory; one with a slash would lead elsewhere.
fn object_name(name: &[u8], below: &Prefix) -> Option<ObjectName> {
    let text = std::str::from_utf8(name).ok().filter(|text| !text.contains('/'))?;
    below.join(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_no_objects() {
        let below = Prefix::parse("a/").unwrap();
        assert_eq!(object_name(b"b", &below).unwrap().as_str(), "a/b");
        for bad in [
            &b""[..],
            b".",
            b"..",
            b"b/c",
            b"/b",
            b"../b",
            b"b\0",
            b"\xff",
            b"B",
            b"b\n",
            b"~1.2",
        ] {
            assert_eq!(object_name(bad, &below), None, "{bad:?}");
        }
    }
}
