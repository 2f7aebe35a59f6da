//! The tables, as numbered migrations, and how a SQLite file is prepared.
//!
//! A migration is never changed once released: a new one is added. Numbers stand for ids of runs and scopes in the large
//! tables, because a 16-byte id in a hundred million rows would cost gigabytes; they are never given twice
//! (`AUTOINCREMENT`), so a row that outlives its run points to nothing rather than to a stranger.

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, os::unix::fs::PermissionsExt as _, path::Path};

use sqlx::SqliteConnection;

use crate::error::{CatalogError, Fault};

/// Tells our files from other SQLite files: "EXCL".
const APPLICATION_ID: i64 = 0x4558_434C;

/// Begins a transaction that will write. SQLite's default would take the lock at the first write and could fail there.
pub(crate) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// Every table of ours, for statistics and for emptying.
pub(crate) const TABLES: &[&str] = &[
    "scopes",
    "datasets",
    "excluded_writers",
    "runs",
    "stripes",
    "receipts",
    "debts",
    "chunks",
    "generations",
    "states",
    "snapshots",
];

/// The migrations in order; the first brings an empty file to schema 1.
const MIGRATIONS: &[&str] = &[FIRST, SUMS];

const FIRST: &str = "
CREATE TABLE scopes (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset BLOB NOT NULL,
    class BIGINT NOT NULL,
    label_digest BLOB NOT NULL,
    crypto_epoch BIGINT NOT NULL,
    UNIQUE (dataset, class, label_digest, crypto_epoch)
);
CREATE TABLE datasets (
    dataset BLOB NOT NULL PRIMARY KEY,
    reuse_from BIGINT NOT NULL
);
CREATE TABLE excluded_writers (
    writer BLOB NOT NULL PRIMARY KEY
);
CREATE TABLE runs (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    run BLOB NOT NULL UNIQUE,
    scope BIGINT NOT NULL,
    writer BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    started BIGINT NOT NULL,
    state BIGINT NOT NULL,
    excluded BIGINT NOT NULL
);
CREATE INDEX runs_by_scope ON runs (scope, started);
CREATE TABLE stripes (
    run BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    durable BIGINT NOT NULL,
    marked BIGINT NOT NULL,
    verified BIGINT NOT NULL,
    PRIMARY KEY (run, ordinal)
) WITHOUT ROWID;
CREATE TABLE receipts (
    run BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    site BLOB NOT NULL,
    payload BLOB NOT NULL,
    attempt BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    PRIMARY KEY (run, ordinal, shard)
) WITHOUT ROWID;
CREATE TABLE debts (
    run BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    site BLOB NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (run, ordinal, shard)
) WITHOUT ROWID;
CREATE TABLE chunks (
    scope BIGINT NOT NULL,
    id BLOB NOT NULL,
    run BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    start BIGINT NOT NULL,
    stored BIGINT NOT NULL,
    raw BIGINT NOT NULL,
    codec BIGINT NOT NULL,
    PRIMARY KEY (scope, id)
) WITHOUT ROWID;
CREATE TABLE generations (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset BLOB NOT NULL,
    run BLOB NOT NULL,
    state BIGINT NOT NULL
);
CREATE INDEX generations_by_dataset ON generations (dataset, state);
CREATE TABLE states (
    generation BIGINT NOT NULL,
    path BLOB NOT NULL,
    part BIGINT NOT NULL,
    parts BIGINT NOT NULL,
    size BIGINT NOT NULL,
    modified_ns BIGINT NOT NULL,
    changed_ns BIGINT NOT NULL,
    inode BIGINT NOT NULL,
    device BIGINT NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (generation, path, part)
) WITHOUT ROWID;
CREATE TABLE snapshots (
    head BLOB NOT NULL PRIMARY KEY,
    dataset BLOB NOT NULL,
    run BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    seq BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    state BIGINT NOT NULL,
    verified_min BIGINT NOT NULL,
    debt BIGINT NOT NULL,
    files BIGINT NOT NULL,
    directories BIGINT NOT NULL,
    others BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    excluded BIGINT NOT NULL,
    changed BIGINT NOT NULL
);
CREATE INDEX snapshots_by_dataset ON snapshots (dataset, taken, seq);
CREATE INDEX snapshots_by_chain ON snapshots (incarnation, seq);
";

/// What a snapshot's content hangs on gets a sum over its row (see [`crate::sum`]). Rows from before have none.
const SUMS: &str = "
ALTER TABLE chunks ADD COLUMN sum BIGINT;
ALTER TABLE states ADD COLUMN sum BIGINT;
";

/// Makes sure that the file is there and that only its user may read it: it holds names of files. SQLite gives its WAL
/// the same mode.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::metadata(path)?;
            if metadata.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Brings the tables to the newest schema, in one transaction; two processes that open at once take turns.
pub(crate) async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), Fault> {
    use sqlx::Connection as _;
    let mut transaction = connection.begin_with(BEGIN_WRITE).await?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = schema_of(&mut transaction, path).await?;
    if found > known {
        return Err(CatalogError::NewerSchema {
            path: path.into(),
            found,
            known,
        }
        .into());
    }
    for (migration, version) in MIGRATIONS.iter().zip(1_i64..) {
        if version > found {
            sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO catalog_schema (version) VALUES ($1)")
                .bind(version)
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

/// The schema of the file; 0 for an empty one, which gets our mark.
async fn schema_of(connection: &mut SqliteConnection, path: &Path) -> Result<i64, Fault> {
    let id: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *connection)
        .await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
        .fetch_one(&mut *connection)
        .await?;
    if tables == 0 {
        sqlx::raw_sql("PRAGMA application_id = 0x4558434C")
            .execute(&mut *connection)
            .await?;
        sqlx::raw_sql("CREATE TABLE catalog_schema (version BIGINT NOT NULL PRIMARY KEY)")
            .execute(&mut *connection)
            .await?;
    } else if id != APPLICATION_ID {
        let detail = format!("a SQLite database of another program, application id {id:#x}");
        return Err(CatalogError::NotACatalog {
            path: path.into(),
            detail,
        }
        .into());
    }
    let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM catalog_schema")
        .fetch_one(&mut *connection)
        .await?;
    Ok(found.unwrap_or(0))
}

/// Drops every table and makes them anew.
pub(crate) async fn start_over(connection: &mut SqliteConnection, path: &Path) -> Result<(), Fault> {
    use sqlx::Connection as _;
    let mut transaction = connection.begin_with(BEGIN_WRITE).await?;
    for table in TABLES {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}")))
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query("DELETE FROM catalog_schema")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    migrate(connection, path).await
}
