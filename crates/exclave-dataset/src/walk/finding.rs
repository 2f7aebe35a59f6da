//! What a walk could not see, as data. Nothing here ends a snapshot.

use std::{fmt, io};

use exclave_model::{BadPath, EntryPath};
use rustix::io::Errno;

/// Why the operating system refused, as it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(i32);

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<&io::Error> for Refusal {
    fn from(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// Something the snapshot's owner should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A file or link, or what a directory holds, can't be read.
    #[error("{path} can't be read: {refusal}")]
    Unreadable {
        /// Where.
        path: EntryPath,
        /// What the system said.
        refusal: Refusal,
    },
    /// It was listed, and gone when it was looked at.
    #[error("{path} vanished")]
    Vanished {
        /// Where.
        path: EntryPath,
    },
    /// The name can't stand in a manifest, or makes the path too long.
    #[error("a name in {directory} can't be kept: {bad}: {}", name.escape_ascii())]
    PathUnlawful {
        /// The directory.
        directory: EntryPath,
        /// The name.
        name: Vec<u8>,
        /// The law it breaks.
        bad: BadPath,
    },
    /// The names of a directory, with those of its parents, need more memory than is granted.
    #[error("{path} holds more names than fit {names_bytes_max} bytes")]
    DirectoryTooLarge {
        /// Where.
        path: EntryPath,
        /// What is granted.
        names_bytes_max: usize,
    },
    /// A list names paths below something that is no directory.
    #[error("{path} is no directory, but {listed} listed paths lie below it")]
    NotADirectory {
        /// Where.
        path: EntryPath,
        /// Paths that are left out.
        listed: u64,
    },
    /// No file, directory, link, pipe, socket or device.
    #[error("{path} is of a type that manifests don't know (mode {mode:o})")]
    UnknownType {
        /// Where.
        path: EntryPath,
        /// Its mode, type included.
        mode: u32,
    },
    /// A mounted file system that the walk was told to stay out of. The directory itself is kept.
    #[error("{path} is another file system")]
    OtherFileSystem {
        /// Where.
        path: EntryPath,
    },
    /// A directory marked by a CACHEDIR.TAG. The directory and the tag are kept.
    #[error("{path} is marked as a cache")]
    Cache {
        /// Where.
        path: EntryPath,
        /// Names that are left out.
        names: u64,
    },
    /// The entry is kept without its extended attributes.
    #[error("extended attributes of {path} can't be read: {refusal}")]
    AttributesUnread {
        /// Where.
        path: EntryPath,
        /// What the system said.
        refusal: Refusal,
    },
    /// The entry is kept without some of its extended attributes.
    #[error("{left_out} extended attributes of {path} are over the cap")]
    AttributesTooLarge {
        /// Where.
        path: EntryPath,
        /// How many are left out.
        left_out: usize,
    },
    /// The file is kept whole, but its other names will be files of their own.
    #[error("{path} has other names, but too many such files are open to follow them")]
    LinksUntracked {
        /// Where.
        path: EntryPath,
    },
    /// The file changed each time it was read; what was read last is kept.
    #[error("{path} changed while it was read, {attempts} times")]
    ChangedWhileRead {
        /// Where.
        path: EntryPath,
        /// How often it was read.
        attempts: u32,
    },
}

/// How a finding is counted in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingClass {
    /// Something that should be in the snapshot isn't.
    Skipped,
    /// Something was left out as told.
    Excluded,
    /// A file's content may mix two states.
    Changed,
    /// The entry is there, some of its metadata isn't.
    Noted,
}

impl Finding {
    /// How it is counted.
    pub fn class(&self) -> FindingClass {
        match self {
            Self::Unreadable { .. }
            | Self::Vanished { .. }
            | Self::PathUnlawful { .. }
            | Self::DirectoryTooLarge { .. }
            | Self::NotADirectory { .. }
            | Self::UnknownType { .. } => FindingClass::Skipped,
            Self::OtherFileSystem { .. } | Self::Cache { .. } => FindingClass::Excluded,
            Self::ChangedWhileRead { .. } => FindingClass::Changed,
            Self::AttributesUnread { .. } | Self::AttributesTooLarge { .. } | Self::LinksUntracked { .. } => {
                FindingClass::Noted
            }
        }
    }

    /// Entries that it stands for.
    pub(crate) fn entries(&self) -> u64 {
        match self {
            Self::NotADirectory { listed, .. } => *listed,
            Self::Cache { names, .. } => *names,
            Self::Unreadable { .. }
            | Self::Vanished { .. }
            | Self::PathUnlawful { .. }
            | Self::DirectoryTooLarge { .. }
            | Self::UnknownType { .. }
            | Self::OtherFileSystem { .. }
            | Self::AttributesUnread { .. }
            | Self::AttributesTooLarge { .. }
            | Self::LinksUntracked { .. }
            | Self::ChangedWhileRead { .. } => 1,
        }
    }

    /// Turns what the system said about a path into a finding.
    pub(crate) fn of_errno(path: EntryPath, errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::STALE => Self::Vanished { path },
            errno => Self::Unreadable {
                path,
                refusal: errno.into(),
            },
        }
    }
}

/// What a walk met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Regular files, each name of a file counted.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Links and special files.
    pub others: u64,
    /// Bytes of all files, holes included, each name of a file counted.
    pub bytes: u64,
    /// Findings of class [`FindingClass::Skipped`].
    pub skipped: u64,
    /// Entries left out by rule; a directory counts once, whatever it holds.
    pub excluded: u64,
}
