//! Upkeep of the file itself: how large it is, whether it is sound, and starting over.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::Row as _;

use crate::{
    Catalog, CatalogError,
    error::Fault,
    schema::{TABLES, start_over},
    sql::number,
};

/// Figures of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStats {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Its bytes in the file, indexes included.
    pub bytes: u64,
}

/// Figures of a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Every table.
    pub tables: Vec<TableStats>,
    /// The file's bytes, free pages included, without the log.
    pub file_bytes: u64,
}

/// Numbers that are tried for an old file's new name.
const ASIDE_MAX: u32 = 1000;

impl Catalog {
    /// Moves the file of a catalog aside, under a name that says so, and returns that name. Its log goes along. Nothing is
    /// deleted, and nothing that lies there is written over.
    ///
    /// No process should have it open: one that has goes on writing into the old file.
    pub fn move_aside(path: &Path) -> io::Result<PathBuf> {
        let with = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        for number in 1..=ASIDE_MAX {
            let aside = with(&format!(".old-{number}"));
            // The folder is this user's alone, so nobody takes the name in between.
            match aside.symlink_metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(_) => continue,
            }
            // The log first: it must never lie beside a file that it isn't the log of.
            for log in ["-wal", "-shm"] {
                let mut moved = aside.as_os_str().to_owned();
                moved.push(log);
                match fs::rename(with(log), PathBuf::from(moved)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
        Err(io::Error::other(format!("{ASIDE_MAX} old catalogs lie there already")))
    }

    /// Rows and bytes of every table. Reads the whole file.
    pub async fn stats(&self) -> Result<Stats, CatalogError> {
        self.explain("it was measured", self.try_stats().await)
    }

    /// Reads the whole file and ends in [`CatalogError::Damaged`] when it is not sound.
    pub async fn verify(&self) -> Result<(), CatalogError> {
        let found = async {
            let findings: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(3)")
                .fetch_all(self.readers())
                .await?;
            match findings.as_slice() {
                [sound] if sound == "ok" => Ok(()),
                _ => Err(Fault::Value(findings.join("; "))),
            }
        };
        self.explain("it was verified", found.await)
    }

    /// Forgets everything, exclusions and marks included, and gives the space back: the first step of a rebuild.
    ///
    /// State the exclusions and marks again before the next look-up; the charter and the sites have them.
    pub async fn clear(&self) -> Result<(), CatalogError> {
        let done = async {
            let mut connection = self.writer().acquire().await?;
            // Statements prepared for the old tables would be prepared again one by one.
            sqlx::Connection::clear_cached_statements(&mut *connection).await?;
            start_over(&mut connection, self.path()).await?;
            sqlx::raw_sql("VACUUM").execute(&mut *connection).await?;
            Ok(())
        };
        self.explain("it was cleared", done.await)
    }

    async fn try_stats(&self) -> Result<Stats, Fault> {
        let mut connection = self.readers().acquire().await?;
        let mut tables = Vec::with_capacity(TABLES.len());
        for table in TABLES.iter().copied() {
            let text = format!("SELECT count(*) FROM {table}");
            let row = sqlx::query(sqlx::AssertSqlSafe(text))
                .fetch_one(&mut *connection)
                .await?;
            let rows = number(&row, 0)?;
            let row = sqlx::query(
                "SELECT coalesce(sum(d.pgsize), 0) FROM dbstat d JOIN sqlite_master m ON m.name = d.name
                WHERE d.aggregate = TRUE AND m.tbl_name = $1",
            )
            .bind(table)
            .fetch_one(&mut *connection)
            .await?;
            tables.push(TableStats {
                table,
                rows,
                bytes: number(&row, 0)?,
            });
        }
        let pages: i64 = sqlx::query("PRAGMA page_count")
            .fetch_one(&mut *connection)
            .await?
            .try_get(0)?;
        let page_bytes: i64 = sqlx::query("PRAGMA page_size")
            .fetch_one(&mut *connection)
            .await?
            .try_get(0)?;
        let file_bytes = pages
            .checked_mul(page_bytes)
            .and_then(|bytes| u64::try_from(bytes).ok())
            .ok_or_else(|| Fault::Value(format!("{pages} pages of {page_bytes} B")))?;
        Ok(Stats { tables, file_bytes })
    }
}
