//! Opening the file, and the two pools behind everything else.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    error::{CatalogError, Fault},
    schema,
};

/// Page cache of the one writing connection: the upper levels of a hundred million chunks' index.
const WRITER_CACHE_KIB: u32 = 32 << 10;
/// Page cache of each reading connection; the operating system's cache holds the rest.
const READER_CACHE_KIB: u32 = 8 << 10;
/// Reading connections: look-ups, one cursor over states and one listing at a time.
const READERS: u32 = 3;
/// The log is folded back after this many 4 KiB pages. SQLite's default of 1,000 rewrites the scattered pages of the
/// dedup index several times as often.
const WAL_PAGES: u32 = 8 << 10;
/// The log file shrinks back to this after a burst.
const WAL_BYTES_MAX: u32 = 64 << 20;
/// How long another process may hold the write lock. Our own transactions take milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// Statements kept prepared per connection: about forty fixed ones, and eight widths of each batch.
const STATEMENTS: usize = 128;
/// Rows that a connection's thread reads ahead: fewer make it wait for every few rows of a look-up, and a row of file
/// states may weigh 64 KiB.
const ROWS_AHEAD: usize = 128;

/// A rebuildable memory; clones share it.
#[derive(Debug, Clone)]
pub struct Catalog {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
}

/// The wait before a busy file is opened once more.
const OPEN_AGAIN: Duration = Duration::from_millis(50);

impl Catalog {
    /// Opens the catalog at `path`, or makes an empty one that only this user can read.
    ///
    /// Refuses files of other programs and of newer schemas. It looks at the file's head only: [`Catalog::verify`] reads
    /// all of it.
    ///
    /// Two processes that open a fresh file at once both turn it to WAL mode, which SQLite refuses without waiting
    /// (its busy timeout does not apply to that switch): so being busy is waited out here. All tries together take as
    /// long as one write lock may be waited for, since each of them may wait for one.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        let opened = async {
            loop {
                match Self::open_once(path).await {
                    Err(CatalogError::Busy { .. }) => tokio::time::sleep(OPEN_AGAIN).await,
                    answered => return answered,
                }
            }
        };
        match tokio::time::timeout(LOCK_WAIT, opened).await {
            Ok(answered) => answered,
            Err(_) => Err(CatalogError::Busy {
                path: path.into(),
                doing: "it was opened",
            }),
        }
    }

    async fn open_once(path: &Path) -> Result<Self, CatalogError> {
        schema::make_private(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                CatalogError::ReadOnly { path: path.into() }
            }
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                CatalogError::Full { path: path.into() }
            }
            _ => CatalogError::Unreachable {
                path: path.into(),
                source,
            },
        })?;
        let opened: Result<_, Fault> = async {
            let options = file_options(path);
            let writer = pool(options.clone().pragma("cache_size", format!("-{WRITER_CACHE_KIB}")), 1).await?;
            schema::migrate(&mut *writer.acquire().await?, path).await?;
            let readers = options
                .pragma("cache_size", format!("-{READER_CACHE_KIB}"))
                .pragma("query_only", "on");
            Ok(Self {
                path: path.into(),
                writer,
                readers: pool(readers, READERS).await?,
            })
        }
        .await;
        opened.map_err(|fault| fault.explain(path.into(), "it was opened"))
    }

    /// A catalog that lives as long as its last clone.
    pub async fn in_memory() -> Result<Self, CatalogError> {
        let path = PathBuf::from(":memory:");
        let opened: Result<_, Fault> = async {
            // One connection is the whole database, so it must never be given up.
            let options = SqliteConnectOptions::new()
                .in_memory(true)
                .shared_cache(false)
                .disable_statement_logging();
            let writer = pool(options, 1).await?;
            schema::migrate(&mut *writer.acquire().await?, &path).await?;
            Ok(Self {
                path: path.clone(),
                readers: writer.clone(),
                writer,
            })
        }
        .await;
        opened.map_err(|fault| fault.explain(path.clone(), "it was made"))
    }

    /// The file; `:memory:` for one that has none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folds the log into the file and closes it for all clones.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Begins a transaction that writes. It is undone unless committed.
    ///
    /// Must not be held while a reading connection is waited for: in memory there is only one connection.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, Fault> {
        Ok(self.writer.begin_with(schema::BEGIN_WRITE).await?)
    }

    /// The one connection that writes.
    pub(crate) const fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Connections that only read.
    pub(crate) const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Says where a fault happened.
    pub(crate) fn explain<T>(&self, doing: &'static str, result: Result<T, Fault>) -> Result<T, CatalogError> {
        result.map_err(|fault| fault.explain(self.path.clone(), doing))
    }
}

fn file_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode the file can't tear; see "Durability" in the crate's documentation.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(LOCK_WAIT)
        .pragma("wal_autocheckpoint", WAL_PAGES.to_string())
        .pragma("journal_size_limit", WAL_BYTES_MAX.to_string())
        // Sorts must not spill names into a shared folder for temporary files. Nothing here sorts without bounds.
        .pragma("temp_store", "memory")
        // Other people's bytes could lie in the file: no SQL functions with side effects from the schema.
        .pragma("trusted_schema", "off")
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging()
}

async fn pool(options: SqliteConnectOptions, connections: u32) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .min_connections(connections)
        .max_connections(connections)
        .acquire_timeout(2 * LOCK_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await
}
