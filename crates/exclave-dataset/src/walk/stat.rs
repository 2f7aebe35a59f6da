//! What the operating system says about a file, and whether that means it is still the same.

use exclave_model::{EntryKind, Timestamp};
use rustix::fs::{FileType, Statx, StatxTimestamp};

/// Time that must lie between a file's last change and the scan that read it, before the scan is believed.
///
/// Kernels stamp files with a clock that ticks every few milliseconds, FAT every two seconds: a write in the same tick
/// as the scan leaves no trace in the times.
pub const SETTLED_SECS: i64 = 2;

/// What tells one state of a file from another. All times in nanoseconds, as the file system keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Number of the file system: major x 2^32 + minor. May differ after a restart.
    pub device: u64,
    /// Number of the file in its file system.
    pub inode: u64,
    /// Bytes, holes included.
    pub size: u64,
    /// When the content was last written; programs can set it.
    pub modified: Timestamp,
    /// When anything was last changed; the kernel alone sets it.
    pub changed: Timestamp,
    /// Names this file has.
    pub links: u64,
}

/// Names a file inside one running system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileStat {
    pub(crate) fn of(statx: &Statx) -> Self {
        Self {
            device: join_device(statx.stx_dev_major, statx.stx_dev_minor),
            inode: statx.stx_ino,
            size: statx.stx_size,
            modified: timestamp(&statx.stx_mtime),
            changed: timestamp(&statx.stx_ctime),
            links: u64::from(statx.stx_nlink),
        }
    }

    pub(crate) fn id(&self) -> FileId {
        FileId {
            device: self.device,
            inode: self.inode,
        }
    }

    /// True when both describe one state of one file: nothing was written or changed in between.
    pub fn same_state(&self, other: &Self) -> bool {
        // The device is left out: its number may change with a restart. So are links: ctime covers them.
        self.inode == other.inode
            && self.size == other.size
            && self.modified == other.modified
            && self.changed == other.changed
    }
}

/// True when a file need not be read again: nothing differs from its `previous` state, and that state had settled when
/// the scan that recorded it started.
///
/// A file whose times lie in the future never settles, and is read every time.
pub fn unchanged(previous: &FileStat, found: &FileStat, previous_scan_started: Timestamp) -> bool {
    let settled = |time: Timestamp| {
        let secs = time.secs.saturating_add(SETTLED_SECS);
        Timestamp { secs, ..time } < previous_scan_started
    };
    previous.same_state(found) && settled(previous.changed) && settled(previous.modified)
}

/// major x 2^32 + minor.
pub(crate) fn join_device(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

/// What manifests call it; `None` for types that Linux doesn't have.
pub(crate) fn kind_of(statx: &Statx) -> Option<EntryKind> {
    match FileType::from_raw_mode(u32::from(statx.stx_mode)) {
        FileType::RegularFile => Some(EntryKind::File),
        FileType::Directory => Some(EntryKind::Directory),
        FileType::Symlink => Some(EntryKind::Symlink),
        FileType::Fifo => Some(EntryKind::Fifo),
        FileType::Socket => Some(EntryKind::Socket),
        FileType::CharacterDevice => Some(EntryKind::CharDevice),
        FileType::BlockDevice => Some(EntryKind::BlockDevice),
        FileType::Unknown => None,
    }
}

pub(crate) fn timestamp(time: &StatxTimestamp) -> Timestamp {
    Timestamp {
        secs: time.tv_sec,
        // A broken file system driver must not make a page unlawful.
        nanos: time.tv_nsec.min(999_999_999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64, nanos: u32) -> Timestamp {
        Timestamp { secs, nanos }
    }

    fn stat() -> FileStat {
        FileStat {
            device: 1,
            inode: 2,
            size: 3,
            modified: at(100, 5),
            changed: at(101, 6),
            links: 1,
        }
    }

    #[test]
    fn every_sign_of_change_counts() {
        let late = at(1_000, 0);
        assert!(unchanged(&stat(), &stat(), late));
        let other_device = FileStat { device: 9, ..stat() };
        assert!(unchanged(&stat(), &other_device, late));
        for found in [
            FileStat { inode: 9, ..stat() },
            FileStat { size: 9, ..stat() },
            FileStat {
                modified: at(100, 6),
                ..stat()
            },
            FileStat {
                changed: at(101, 7),
                ..stat()
            },
        ] {
            assert!(!unchanged(&stat(), &found, late), "{found:?}");
        }
    }

    #[test]
    fn what_changed_within_two_seconds_of_the_scan_is_not_believed() {
        assert!(!unchanged(&stat(), &stat(), at(103, 6)));
        assert!(unchanged(&stat(), &stat(), at(103, 7)));
        let future = FileStat {
            modified: at(i64::MAX, 0),
            ..stat()
        };
        assert!(!unchanged(&future, &future, at(103, 7)));
    }
}
