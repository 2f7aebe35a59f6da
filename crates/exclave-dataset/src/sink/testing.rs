//! What the sinks' tests share: entries by hand, a restore in one call, and pictures of folders.

use std::{
    collections::BTreeMap,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use exclave_model::{Entry, EntryKind, EntryPath, Timestamp};

use super::{Options, Placed, SinkError, SinkSummary, TreeWriter};

pub(super) fn path(bytes: &[u8]) -> EntryPath {
    EntryPath::parse(bytes).unwrap()
}

/// An entry of the process's own user, with a time that has nanoseconds.
pub(super) fn entry(at: &[u8], kind: EntryKind) -> Entry {
    let mut entry = Entry::new(path(at), kind);
    entry.uid = rustix::process::geteuid().as_raw();
    entry.gid = rustix::process::getegid().as_raw();
    entry.mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    entry.modified = Timestamp {
        secs: 1_234_567_890,
        nanos: 987_654_321,
    };
    entry
}

pub(super) fn directory(at: &[u8]) -> Entry {
    entry(at, EntryKind::Directory)
}

pub(super) fn symlink(at: &[u8], to: &[u8]) -> Entry {
    Entry {
        link_target: Some(to.to_vec()),
        ..entry(at, EntryKind::Symlink)
    }
}

/// A file that holds its own path.
pub(super) fn file(at: &[u8]) -> Entry {
    Entry {
        size: at.len() as u64,
        ..entry(at, EntryKind::File)
    }
}

pub(super) fn member(at: &[u8], group: &[u8]) -> Entry {
    Entry {
        link_group: Some(path(group)),
        size: group.len() as u64,
        ..entry(at, EntryKind::File)
    }
}

/// The bytes that tests write into a file: its path, or that of its group, and nothing behind that.
pub(super) fn data(entry: &Entry) -> &[u8] {
    let bytes = entry.link_group.as_ref().unwrap_or(&entry.path).as_bytes();
    &bytes[..bytes.len().min(usize::try_from(entry.size).unwrap_or(usize::MAX))]
}

/// Places and completes every entry, passing over those that are refused.
pub(super) fn restore_into(mut tree: TreeWriter, entries: &[Entry]) -> Result<SinkSummary, SinkError> {
    for entry in entries {
        match tree.place(entry) {
            Ok(Placed::Done) => {}
            Ok(Placed::Content(writer)) => {
                let done = writer.write_at(0, data(entry)).and_then(|()| writer.commit());
                done.or_else(pass_over)?;
            }
            Err(error) => pass_over(error)?,
        }
    }
    tree.finish()
}

fn pass_over(error: SinkError) -> Result<(), SinkError> {
    if error.stops() { Err(error) } else { Ok(()) }
}

pub(super) fn restore(target: &Path, options: Options, entries: &[Entry]) -> Result<SinkSummary, SinkError> {
    restore_into(TreeWriter::create(target, options)?, entries)
}

/// What a folder holds: for each path its type and mode, time to the nanosecond, and bytes or target.
pub(super) type Picture = BTreeMap<Vec<u8>, (u32, i64, i64, Vec<u8>)>;

pub(super) fn picture(folder: &Path) -> Picture {
    let mut picture = Picture::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(at) = left.pop() {
        if at.as_os_str().len() > 4000 {
            continue; // deeper than a path can say; only the sink gets there
        }
        let found = at.symlink_metadata().unwrap();
        let bytes = if found.is_symlink() {
            std::fs::read_link(&at).unwrap().as_os_str().as_bytes().to_vec()
        } else if found.is_file() && found.len() < 1 << 20 {
            std::fs::read(&at).unwrap()
        } else {
            Vec::new()
        };
        if found.is_dir() {
            left.extend(std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = at.strip_prefix(folder).unwrap().as_os_str().as_bytes().to_vec();
        picture.insert(name, (found.mode(), found.mtime(), found.mtime_nsec(), bytes));
    }
    picture
}
