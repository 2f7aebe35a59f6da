//! What can go wrong while a tree is written: with one entry, or with the whole target.

use exclave_model::EntryPath;
use rustix::io::Errno;

/// One entry that was not restored. The rest went on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {refusal}")]
pub struct Problem {
    /// Which entry.
    pub path: EntryPath,
    /// Why not.
    pub refusal: Refusal,
}

/// Why an entry was not restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Entries come in the manifest's order; this one does not.
    #[error("stands behind {after}, which is later in order")]
    OutOfOrder {
        /// The path before it.
        after: EntryPath,
    },
    /// The path before it is the same.
    #[error("is in the manifest twice")]
    Duplicate,
    /// The directory that holds it was refused.
    #[error("lies in {directory}, which was refused")]
    BelowRefused {
        /// The refused directory.
        directory: EntryPath,
    },
    /// The manifest has something that is no directory above it.
    #[error("lies below {above}, which is no directory")]
    BelowFile {
        /// The file, link or node above.
        above: EntryPath,
    },
    /// The name is one that unfinished files bear.
    #[error("bears a name that is reserved for unfinished files")]
    ReservedName,
    /// The root of a tree must be a directory.
    #[error("is the root, but no directory")]
    RootNotDirectory,
    /// Something bears this name already, or one that the file system takes for the same (case, Unicode form).
    #[error("the target already has this name, or one the file system takes for the same")]
    Occupied,
    /// A directory bears its name, and directories are never removed.
    #[error("a directory is in the way")]
    DirectoryInTheWay,
    /// A directory on the way turned out to be a link, or to lead outside.
    #[error("its way leads through a symbolic link or out of the target")]
    ThroughLink,
    /// The data would reach behind the file's size.
    #[error("data of {length} bytes at {offset} reaches behind the size of {size}")]
    BeyondSize {
        /// Where the data begins.
        offset: u64,
        /// Its bytes.
        length: usize,
        /// The file's size.
        size: u64,
    },
    /// A write of it failed before, so it can't be completed.
    #[error("was not written completely")]
    Incomplete,
    /// The file that it should be another name of is not there.
    #[error("should be another name of {first}, which was not restored")]
    LinkWithoutFile {
        /// First name of the file.
        first: EntryPath,
    },
    /// The entry breaks the format's law; a page that was decoded never holds such a one.
    #[error("breaks a rule of the manifest: {rule}")]
    Unlawful {
        /// The rule and what was found.
        rule: String,
    },
    /// The operating system refused.
    #[error("cannot {doing}: {errno}")]
    System {
        /// The attempted step.
        doing: &'static str,
        /// The system's reason.
        errno: Errno,
    },
}

/// Why a call on a sink failed. Only [`SinkError::Entry`] lets the restore go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// One entry; already in the summary.
    #[error(transparent)]
    Entry(Problem),
    /// No space or quota left. What was committed stays, unfinished files are removed.
    #[error("the target is full at {path}: {errno}")]
    TargetFull {
        /// The entry that did not fit.
        path: EntryPath,
        /// No space, or no quota.
        errno: Errno,
    },
    /// The target holds something and [`Existing::Refuse`](super::Existing::Refuse) is set.
    #[error("the target is not empty: it holds {found:?}")]
    TargetNotEmpty {
        /// One of the names found.
        found: String,
    },
    /// The target itself can't be used.
    #[error("cannot {doing} the target: {errno}")]
    Target {
        /// The attempted step.
        doing: &'static str,
        /// The system's reason.
        errno: Errno,
    },
    /// Our bug: a tree was finished while files were still being written.
    #[error("{count} files are still being written")]
    FilesOpen {
        /// How many.
        count: u64,
    },
}

impl SinkError {
    /// True when the restore must end; false when only one entry is concerned.
    pub fn stops(&self) -> bool {
        match self {
            Self::Entry(_) => false,
            Self::TargetFull { .. } | Self::TargetNotEmpty { .. } | Self::Target { .. } | Self::FilesOpen { .. } => {
                true
            }
        }
    }

    /// Sorts a system error: a full or read-only target ends the restore, the rest concerns one entry.
    pub(super) fn system(path: &EntryPath, doing: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::TargetFull {
                path: path.clone(),
                errno,
            },
            Errno::ROFS => Self::Target { doing, errno },
            _ => Self::refused(path, Refusal::of(doing, errno)),
        }
    }

    pub(super) fn refused(path: &EntryPath, refusal: Refusal) -> Self {
        Self::Entry(Problem {
            path: path.clone(),
            refusal,
        })
    }
}

impl Refusal {
    /// What a system error means for one entry. The resolver answers a link with `ELOOP`, a way out with `EXDEV`.
    pub(super) fn of(doing: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::LOOP | Errno::XDEV | Errno::NOTDIR => Self::ThroughLink,
            Errno::EXIST => Self::Occupied,
            Errno::ISDIR | Errno::NOTEMPTY => Self::DirectoryInTheWay,
            _ => Self::System { doing, errno },
        }
    }
}

/// The system's number of an error of the standard library.
pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
