//! Why the catalog didn't do what it was asked, and what its user can do about it.

use std::{error::Error as StdError, io, path::PathBuf};

use exclave_model::{EntryPath, RunId};

use crate::run::RunState;

/// A failed operation on a catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file is something else.
    #[error(
        "{} is not a catalog ({detail}); if it should be one, `exclave catalog rebuild` makes a new one, which costs only time",
        .path.display()
    )]
    NotACatalog {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        detail: String,
    },
    /// The file was a catalog, and parts of it no longer make sense.
    #[error(
        "catalog {} is damaged ({detail}); `exclave catalog rebuild` makes a new one, which costs only time",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer program wrote it.
    #[error(
        "catalog {} has schema {found}, this program knows up to {known}; use the newer program, or delete the catalog and run `exclave catalog rebuild`",
        .path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema of this program.
        known: i64,
    },
    /// The disk, or a quota, is full.
    #[error("no room left for catalog {}", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder can't be written.
    #[error("catalog {} is read-only, or its folder is", .path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be reached at all.
    #[error("catalog {} can't be opened", .path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has been writing for too long.
    #[error("catalog {} is locked by another process while {doing}", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// What had to wait.
        doing: &'static str,
    },
    /// Anything else that the database reports.
    #[error("catalog {} failed while {doing}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// What the database says.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A run that was never begun here, or was forgotten.
    #[error("run {0:?} is not in the catalog")]
    UnknownRun(RunId),
    /// A run was begun a second time with other facts.
    #[error("run {0:?} is in the catalog with other facts")]
    RunDiffers(RunId),
    /// A run's state can't change that way.
    #[error("run {run:?} is {from} and can't become {to}")]
    BadTransition {
        /// The run.
        run: RunId,
        /// Its state.
        from: RunState,
        /// What was asked for.
        to: RunState,
    },
    /// The file states that a cursor reads, or a writer writes, were replaced by a newer run.
    #[error("the file states of run {0:?} were replaced by a newer run's")]
    StatesReplaced(RunId),
    /// Two states of one path in one snapshot.
    #[error("a file state was pushed twice into one snapshot")]
    StateTwice,
    /// An entry that no manifest can hold.
    #[error(
        "the entry of {path} takes {bytes} bytes, more than {} allowed",
        crate::ENTRY_BYTES_MAX
    )]
    EntryTooLong {
        /// The entry's path.
        path: EntryPath,
        /// Its bytes.
        bytes: usize,
    },
}

/// What goes wrong inside, before it is known where.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database says so.
    Sql(sqlx::Error),
    /// A stored value breaks its law.
    Value(String),
    /// Already explained.
    Known(CatalogError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<CatalogError> for Fault {
    fn from(error: CatalogError) -> Self {
        Self::Known(error)
    }
}

impl Fault {
    /// Says what it means for the catalog at `path`.
    pub(crate) fn explain(self, path: PathBuf, doing: &'static str) -> CatalogError {
        match self {
            Self::Known(error) => error,
            Self::Value(detail) => CatalogError::Damaged { path, detail },
            Self::Sql(sqlx::Error::PoolTimedOut) => CatalogError::Busy { path, doing },
            Self::Sql(sqlx::Error::Io(source)) => CatalogError::Unreachable { path, source },
            // On a full disk, growing the index of the write-ahead log ends in this.
            Self::Sql(error) if code(&error) == Some(SQLITE_IOERR_SHMSIZE) => CatalogError::Full { path },
            Self::Sql(error) => match code(&error).map(|code| code & 0xff) {
                Some(SQLITE_FULL) => CatalogError::Full { path },
                Some(SQLITE_READONLY | SQLITE_PERM | SQLITE_AUTH) => CatalogError::ReadOnly { path },
                Some(SQLITE_CANTOPEN) => CatalogError::Unreachable {
                    path,
                    source: io::Error::other(error),
                },
                Some(SQLITE_BUSY | SQLITE_LOCKED) => CatalogError::Busy { path, doing },
                Some(SQLITE_CORRUPT) => CatalogError::Damaged {
                    path,
                    detail: error.to_string(),
                },
                Some(SQLITE_NOTADB) => CatalogError::NotACatalog {
                    path,
                    detail: "no SQLite database".into(),
                },
                Some(_) | None => CatalogError::Database {
                    path,
                    doing,
                    source: Box::new(error),
                },
            },
        }
    }
}

// https://www.sqlite.org/rescode.html; the low byte of an extended code is the primary one.
const SQLITE_PERM: u32 = 3;
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_READONLY: u32 = 8;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_CANTOPEN: u32 = 14;
const SQLITE_AUTH: u32 = 23;
const SQLITE_NOTADB: u32 = 26;

const SQLITE_IOERR_SHMSIZE: u32 = 4874;

fn code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}
