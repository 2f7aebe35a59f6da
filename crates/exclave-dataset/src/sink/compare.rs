//! Holds an existing tree against a manifest: what a drill and `restore --verify` look at.

use std::{
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use exclave_model::{Entry, EntryKind, EntryPath, Timestamp};
use rustix::{
    fs::{FileType, Stat},
    io::Errno,
};

use super::{
    beneath::{Beneath, stat},
    metadata::Rights,
    options::{Options, SpecialNodes},
    problem::SinkError,
};

/// One way in which the tree is not what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Nothing bears the name.
    #[error("it is missing")]
    Missing,
    /// It is something else.
    #[error("it is a {found}, not a {expected}", expected = kind_name(Some(*expected)), found = kind_name(*found))]
    Kind {
        /// What the manifest says.
        expected: EntryKind,
        /// What it is; `None` for what a manifest has no word for.
        found: Option<EntryKind>,
    },
    /// Other permission bits.
    #[error("its mode is {found:o}, not {expected:o}")]
    Mode {
        /// What the manifest and the options say.
        expected: u32,
        /// What it is.
        found: u32,
    },
    /// Another owner or group.
    #[error("it belongs to {}:{}, not {}:{}", found.0, found.1, expected.0, expected.1)]
    Owner {
        /// Owner and group in the manifest.
        expected: (u32, u32),
        /// Owner and group found.
        found: (u32, u32),
    },
    /// Another size.
    #[error("its size is {found}, not {expected}")]
    Size {
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Another time of modification.
    #[error("its time is {}.{:09}, not {}.{:09}", found.secs, found.nanos, expected.secs, expected.nanos)]
    Modified {
        /// The time in the manifest.
        expected: Timestamp,
        /// The time found.
        found: Timestamp,
    },
    /// The link points elsewhere.
    #[error(
        "it points to {:?}, not {:?}",
        String::from_utf8_lossy(found),
        String::from_utf8_lossy(expected)
    )]
    LinkTarget {
        /// Where it should point.
        expected: Vec<u8>,
        /// Where it points.
        found: Vec<u8>,
    },
    /// An extended attribute is missing or has another value.
    #[error("its attribute {:?} differs", String::from_utf8_lossy(name))]
    Xattr {
        /// The attribute.
        name: Vec<u8>,
    },
    /// It is not the file that it should be another name of.
    #[error("it is not another name of {first}")]
    HardLink {
        /// The file's first name.
        first: EntryPath,
    },
    /// Another device.
    #[error("its device number differs")]
    Device,
    /// It can't be looked at.
    #[error("it can't be read: {0}")]
    Unreadable(Errno),
}

/// Looks at a tree, and changes nothing.
#[derive(Debug)]
pub struct Comparer {
    target: Beneath,
    rights: Rights,
    special_nodes: SpecialNodes,
}

impl Comparer {
    /// Opens a tree. The options say what was restored, hence what counts.
    pub fn open(target: &Path, options: Options) -> Result<Self, SinkError> {
        let target = Beneath::open(target).map_err(|errno| SinkError::Target { doing: "open", errno })?;
        Ok(Self {
            target,
            rights: Rights::of_process(options),
            special_nodes: options.special_nodes,
        })
    }

    /// Everything in which the tree differs from an entry, content aside. Empty: they agree.
    pub fn compare(&self, entry: &Entry) -> Vec<Difference> {
        let is_node = match entry.kind {
            EntryKind::Fifo | EntryKind::Socket | EntryKind::CharDevice | EntryKind::BlockDevice => true,
            EntryKind::File | EntryKind::Directory | EntryKind::Symlink => false,
        };
        if is_node && self.special_nodes == SpecialNodes::Skip {
            return Vec::new();
        }
        self.differences(entry).unwrap_or_else(|errno| match errno {
            Errno::NOENT => vec![Difference::Missing],
            errno => vec![Difference::Unreadable(errno)],
        })
    }

    /// Opens a file of the tree for reading, never through a link: the caller compares content.
    pub fn open_file(&self, path: &EntryPath) -> Result<File, SinkError> {
        self.target
            .file(path)
            .map_err(|errno| SinkError::system(path, "open it", errno))
    }

    fn differences(&self, entry: &Entry) -> Result<Vec<Difference>, Errno> {
        let (parent, name) = match self.target.parent(&entry.path)? {
            Some(found) => found,
            None => (self.target.directory(&entry.path)?, &b"."[..]),
        };
        let found = stat(&parent, name)?.ok_or(Errno::NOENT)?;
        let kind = kind_of(&found);
        if kind != Some(entry.kind) {
            return Ok(vec![Difference::Kind {
                expected: entry.kind,
                found: kind,
            }]);
        }
        let mut differences = self.of_metadata(entry, &found);
        match entry.kind {
            EntryKind::Symlink => {
                let to = rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes();
                let expected = entry.link_target.clone().unwrap_or_default();
                if to != expected {
                    differences.push(Difference::LinkTarget { expected, found: to });
                }
            }
            EntryKind::File => differences.extend(self.of_file(entry, &found)?),
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                let number = entry.device.unwrap_or_default();
                let device = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
                if u64::from(device.0) << 32 | u64::from(device.1) != number {
                    differences.push(Difference::Device);
                }
            }
            EntryKind::Directory | EntryKind::Fifo | EntryKind::Socket => {}
        }
        differences.extend(self.of_xattrs(entry, &parent, name));
        Ok(differences)
    }

    fn of_metadata(&self, entry: &Entry, found: &Stat) -> Vec<Difference> {
        let mut differences = Vec::new();
        let owner = (found.st_uid, found.st_gid);
        if self.rights.owners() && owner != (entry.uid, entry.gid) {
            differences.push(Difference::Owner {
                expected: (entry.uid, entry.gid),
                found: owner,
            });
        }
        let mode = found.st_mode & 0o7777;
        let expected = self.rights.mode(entry, found.st_uid, found.st_gid);
        if entry.kind != EntryKind::Symlink && mode != expected {
            differences.push(Difference::Mode { expected, found: mode });
        }
        let nanos = u32::try_from(found.st_mtime_nsec).unwrap_or(u32::MAX);
        let time = Timestamp {
            secs: found.st_mtime,
            nanos,
        };
        if time != entry.modified {
            differences.push(Difference::Modified {
                expected: entry.modified,
                found: time,
            });
        }
        differences
    }

    fn of_file(&self, entry: &Entry, found: &Stat) -> Result<Vec<Difference>, Errno> {
        let mut differences = Vec::new();
        let size = u64::try_from(found.st_size).unwrap_or(u64::MAX);
        if size != entry.size {
            differences.push(Difference::Size {
                expected: entry.size,
                found: size,
            });
        }
        // A partial restore may lack the first name; then this one is a file of its own.
        if let Some(first) = entry.link_group.as_ref().filter(|first| **first != entry.path)
            && let Ok(Some((parent, name))) = self.target.parent(first)
            && let Some(other) = stat(&parent, name)?
            && (other.st_dev, other.st_ino) != (found.st_dev, found.st_ino)
        {
            differences.push(Difference::HardLink { first: first.clone() });
        }
        Ok(differences)
    }

    fn of_xattrs(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Vec<Difference> {
        // Attributes of links and nodes can only be read by path; the kernel's name of the directory pins it.
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        let differs = |name: &[u8], value: &[u8]| {
            // One byte more than expected, so that a longer value shows.
            let mut found = vec![0u8; value.len() + 1];
            match rustix::fs::lgetxattr(path.as_slice(), name, &mut found[..]) {
                Ok(length) => found.get(..length) != Some(value),
                Err(_) => true,
            }
        };
        entry
            .xattrs
            .iter()
            .filter(|(name, value)| self.rights.xattr(name) && differs(name, value))
            .map(|(name, _)| Difference::Xattr { name: name.clone() })
            .collect()
    }
}

fn kind_of(stat: &Stat) -> Option<EntryKind> {
    match FileType::from_raw_mode(stat.st_mode) {
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

fn kind_name(kind: Option<EntryKind>) -> &'static str {
    match kind {
        Some(EntryKind::File) => "file",
        Some(EntryKind::Directory) => "directory",
        Some(EntryKind::Symlink) => "symbolic link",
        Some(EntryKind::Fifo) => "fifo",
        Some(EntryKind::Socket) => "socket",
        Some(EntryKind::CharDevice) => "character device",
        Some(EntryKind::BlockDevice) => "block device",
        None => "thing unknown",
    }
}
