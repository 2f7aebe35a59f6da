//! Directories below a site's root: looked up a component at a time, never through a symbolic link.

use std::os::fd::{AsFd, OwnedFd};

use exclave_model::{ObjectName, Prefix};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Cause, Durability};
use crate::contract::{Children, Entry};

/// How far a walk goes down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    One,
    All,
}

/// Opens the directory of an object.
pub(super) fn open_parent(root: &OwnedFd, name: &ObjectName) -> Result<OwnedFd, Errno> {
    let mut directory = again(root)?;
    for component in parents(name.as_str()) {
        directory = open_directory(&directory, component)?;
    }
    Ok(directory)
}

/// Opens the directory of an object and makes what is missing of it.
pub(super) fn make_parent(root: &OwnedFd, name: &ObjectName, durability: Durability) -> Result<OwnedFd, Errno> {
    let mut directory = again(root)?;
    for component in parents(name.as_str()) {
        directory = match open_directory(&directory, component) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&directory, component, Mode::from_raw_mode(0o755)) {
                    // Another put was faster. It may not have synced the parent yet, so we do it as well.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                if durability == Durability::Each {
                    rustix::fs::fsync(&directory)?;
                }
                open_directory(&directory, component)?
            }
            other => other?,
        };
    }
    Ok(directory)
}

/// Collects what lies below a prefix. Names that don't parse count as ignored, with all that lies below them; leftovers
/// of puts don't count. At most `entries_max` objects and, one level deep, prefixes are kept.
pub(super) fn walk(root: &OwnedFd, prefix: &Prefix, entries_max: usize, depth: Depth) -> Result<Children, Cause> {
    let mut found = Children {
        complete: true,
        ..Children::default()
    };
    let mut start = again(root)?;
    for component in prefix.as_str().split_terminator('/') {
        start = match open_directory(&start, component) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(found),
            Err(error) => return Err(error.into()),
        };
    }
    // Prefixes, not descriptors, wait on the stack: a wide tree must not use them up.
    let mut waiting = vec![prefix.clone()];
    while let Some(below) = waiting.pop() {
        let relative = below.as_str().strip_prefix(prefix.as_str()).unwrap_or_default();
        let mut directory = again(&start)?;
        let mut gone = false;
        for component in relative.split_terminator('/') {
            match open_directory(&directory, component) {
                Ok(next) => directory = next,
                // Deleted while we walk, by a reaper.
                Err(Errno::NOENT) => gone = true,
                Err(error) => return Err(error.into()),
            }
            if gone {
                break;
            }
        }
        if !gone && !read_directory(&directory, &below, entries_max, depth, &mut found, &mut waiting)? {
            found.complete = false;
            break;
        }
    }
    found.entries.sort();
    found.prefixes.sort();
    Ok(found)
}

/// Reads one directory into `found`; false when there was more than `entries_max`.
fn read_directory(
    directory: &OwnedFd,
    below: &Prefix,
    entries_max: usize,
    depth: Depth,
    found: &mut Children,
    waiting: &mut Vec<Prefix>,
) -> Result<bool, Cause> {
    for item in Dir::read_from(directory)? {
        let item = item?;
        let text = item.file_name().to_bytes();
        if matches!(text, b"." | b"..") || text.starts_with(b"~") {
            continue;
        }
        let Some(name) = std::str::from_utf8(text).ok().and_then(|text| below.join(text).ok()) else {
            found.ignored = found.ignored.saturating_add(1);
            continue;
        };
        let about = match rustix::fs::statat(directory, item.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => about,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(about.st_mode);
        match (kind, depth) {
            (FileType::Directory, Depth::All) => waiting.push(Prefix::below(&name)),
            (FileType::Directory | FileType::RegularFile, _) => {
                if found.entries.len() + found.prefixes.len() >= entries_max {
                    return Ok(false);
                }
                if kind == FileType::Directory {
                    found.prefixes.push(Prefix::below(&name));
                } else {
                    let length = u64::try_from(about.st_size).unwrap_or(0);
                    found.entries.push(Entry { name, length });
                }
            }
            _ => found.ignored = found.ignored.saturating_add(1),
        }
    }
    Ok(true)
}

/// The components above the last.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.rsplit_once('/')
        .map(|(parents, _)| parents)
        .unwrap_or_default()
        .split_terminator('/')
}

pub(super) fn open_directory(at: impl AsFd, component: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, component, flags, Mode::empty())
}

pub(super) fn again(directory: &OwnedFd) -> Result<OwnedFd, Errno> {
    // A fresh open file description: reading a directory moves its position.
    open_directory(directory, ".")
}
