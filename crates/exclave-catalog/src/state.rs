//! File states of the newest snapshot of a dataset.
//!
//! A run writes a whole new *generation* beside the one that is read, then swaps them in one transaction: a crash leaves
//! the old one. Rows stand under the path with `/` replaced by NUL, which no name can hold, so the order of bytes is
//! [`EntryPath`]'s order, component by component, and a walk and a cursor can be merged. An entry over 64 KiB is split
//! over several rows.

use exclave_model::{DatasetId, EntryPath, RunId};
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError,
    error::Fault,
    sql::{bits, bytes, pieces, values},
    sum::RowSum,
};

/// Longest entry of one file: a manifest's extents are paged long before.
pub const ENTRY_BYTES_MAX: usize = 64 << 20;
/// Bytes of an entry in one row: a connection reads 128 rows ahead, and that must stay small. A file of a gigabyte fits one.
const PART_BYTES: usize = 64 << 10;
/// A page of a cursor ends once it holds this much, whatever number was asked for.
const PAGE_BYTES: usize = 8 << 20;
/// Rows in one insert statement.
const INSERT_ROWS: usize = 16;
/// Rows that one step of a deletion takes.
const DELETE_ROWS: i64 = 1024;

/// What a file looked like, and the entry that it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// Where it is in the dataset.
    pub path: EntryPath,
    /// Its bytes, holes included.
    pub size: u64,
    /// When its content was last modified: nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When its inode was last changed: nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Its inode.
    pub inode: u64,
    /// The device that holds it.
    pub device: u64,
    /// Its manifest entry, in whatever form the engine writes; at most [`ENTRY_BYTES_MAX`].
    pub entry: Vec<u8>,
}

/// What a generation is there for.
#[derive(Clone, Copy)]
enum Stage {
    Building = 0,
    Live = 1,
    Retired = 2,
}

/// Writes the file states of one run.
///
/// Without [`StateWriter::commit`] nothing becomes visible; what a dead process left behind goes when the next writer of
/// that dataset begins.
#[derive(Debug)]
#[must_use = "states are thrown away unless committed"]
pub struct StateWriter {
    catalog: Catalog,
    dataset: DatasetId,
    run: RunId,
    generation: i64,
}

/// Reads the file states of a dataset in path order.
#[derive(Debug)]
pub struct StateCursor {
    catalog: Catalog,
    /// The generation and its run; `None` when the dataset has no states.
    source: Option<(i64, RunId)>,
    /// Where the next row is looked for: behind this path and part.
    after: (Vec<u8>, i64),
    /// A state whose last parts are still to be read, and how many rows it has.
    partial: Option<(FileState, i64)>,
}

impl Catalog {
    /// Begins a new generation of a dataset's states. Another writer of the same dataset, dead or not, loses: its commit
    /// ends in [`CatalogError::StatesReplaced`].
    pub async fn write_states(&self, dataset: DatasetId, run: RunId) -> Result<StateWriter, CatalogError> {
        let begun = async {
            let mut transaction = self.write().await?;
            sqlx::query("UPDATE generations SET state = $2 WHERE dataset = $1 AND state = $3")
                .bind(dataset.as_bytes().as_slice())
                .bind(Stage::Retired as i64)
                .bind(Stage::Building as i64)
                .execute(&mut *transaction)
                .await?;
            let generation =
                sqlx::query_scalar("INSERT INTO generations (dataset, run, state) VALUES ($1, $2, $3) RETURNING no")
                    .bind(dataset.as_bytes().as_slice())
                    .bind(run.as_bytes().as_slice())
                    .bind(Stage::Building as i64)
                    .fetch_one(&mut *transaction)
                    .await?;
            transaction.commit().await?;
            delete_retired(self, dataset).await?;
            Ok(StateWriter {
                catalog: self.clone(),
                dataset,
                run,
                generation,
            })
        };
        self.explain("file states were begun", begun.await)
    }

    /// Reads a dataset's states from the first path on; none when no run has committed any.
    pub async fn states(&self, dataset: DatasetId) -> Result<StateCursor, CatalogError> {
        let found = async {
            let row = sqlx::query("SELECT no, run FROM generations WHERE dataset = $1 AND state = $2")
                .bind(dataset.as_bytes().as_slice())
                .bind(Stage::Live as i64)
                .fetch_optional(self.readers())
                .await?;
            row.map(|row| Ok::<_, Fault>((row.try_get(0)?, RunId::from_bytes(bytes(&row, 1)?))))
                .transpose()
        };
        let source = self.explain("file states were looked for", found.await)?;
        Ok(StateCursor {
            catalog: self.clone(),
            source,
            after: (Vec::new(), -1),
            partial: None,
        })
    }
}

impl StateWriter {
    /// Adds states in one transaction; any order, each path once. Some hundreds at a time are fastest.
    pub async fn push(&mut self, states: &[FileState]) -> Result<(), CatalogError> {
        if let Some(long) = states.iter().find(|state| state.entry.len() > ENTRY_BYTES_MAX) {
            return Err(CatalogError::EntryTooLong {
                path: long.path.clone(),
                bytes: long.entry.len(),
            });
        }
        self.catalog
            .explain("file states were added", self.try_push(states).await)
    }

    /// Makes the new generation the one that is read, then deletes the old one in bounded steps.
    pub async fn commit(self) -> Result<(), CatalogError> {
        let done = async {
            let mut transaction = self.catalog.write().await?;
            require_building(&mut transaction, self.generation, self.run).await?;
            for (from, to, only) in [
                (Stage::Live, Stage::Retired, None),
                (Stage::Building, Stage::Live, Some(self.generation)),
            ] {
                sqlx::query(
                    "UPDATE generations SET state = $3 WHERE dataset = $1 AND state = $2 AND no = coalesce($4, no)",
                )
                .bind(self.dataset.as_bytes().as_slice())
                .bind(from as i64)
                .bind(to as i64)
                .bind(only)
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
            delete_retired(&self.catalog, self.dataset).await
        };
        self.catalog.explain("file states were committed", done.await)
    }

    /// Throws the new generation away; the old one stays.
    pub async fn abandon(self) -> Result<(), CatalogError> {
        let done = async {
            sqlx::query("UPDATE generations SET state = $2 WHERE no = $1 AND state = $3")
                .bind(self.generation)
                .bind(Stage::Retired as i64)
                .bind(Stage::Building as i64)
                .execute(self.catalog.writer())
                .await?;
            delete_retired(&self.catalog, self.dataset).await
        };
        self.catalog.explain("file states were abandoned", done.await)
    }

    async fn try_push(&self, states: &[FileState]) -> Result<(), Fault> {
        let mut rows: Vec<_> = states
            .iter()
            .flat_map(|state| {
                let parts = state.entry.len().div_ceil(PART_BYTES).max(1);
                (0..parts).map(move |part| {
                    let start = part * PART_BYTES;
                    let end = state.entry.len().min(start + PART_BYTES);
                    (
                        state,
                        part as i64,
                        parts as i64,
                        state.entry.get(start..end).unwrap_or_default(),
                    )
                })
            })
            .collect();
        rows.sort_by(|left, right| (&left.0.path, left.1).cmp(&(&right.0.path, right.1)));
        let mut transaction = self.catalog.write().await?;
        require_building(&mut transaction, self.generation, self.run).await?;
        for piece in pieces(&rows, INSERT_ROWS) {
            let text = format!(
                "INSERT INTO states (generation, path, part, parts, size, modified_ns, changed_ns, inode, device, entry, sum) VALUES {}",
                values(piece.len(), 11)
            );
            let mut query = sqlx::query(AssertSqlSafe(text));
            for (state, part, parts, entry) in piece {
                query = query
                    .bind(self.generation)
                    .bind(key_of(&state.path))
                    .bind(*part)
                    .bind(*parts)
                    .bind(state.size.cast_signed())
                    .bind(state.mtime_ns)
                    .bind(state.ctime_ns)
                    .bind(state.inode.cast_signed())
                    .bind(state.device.cast_signed())
                    .bind(*entry)
                    .bind(sum(state, *part, *parts, entry).value());
            }
            query
                .execute(&mut *transaction)
                .await
                .map_err(|error| match error.as_database_error() {
                    Some(database) if database.is_unique_violation() => Fault::Known(CatalogError::StateTwice),
                    _ => Fault::Sql(error),
                })?;
        }
        Ok(transaction.commit().await?)
    }
}

impl StateCursor {
    /// The run whose snapshot the states describe; `None` when there are none.
    pub fn run(&self) -> Option<RunId> {
        self.source.map(|(_, run)| run)
    }

    /// Up to `count` further states, fewer when their entries are long; empty at the end, and when `count` is 0.
    ///
    /// Ends in [`CatalogError::StatesReplaced`] when another run has committed since: what is left would be a mixture.
    pub async fn next_page(&mut self, count: usize) -> Result<Vec<FileState>, CatalogError> {
        let Some((generation, run)) = self.source else {
            return Ok(Vec::new());
        };
        let catalog = self.catalog.clone();
        catalog.explain(
            "file states were read",
            self.try_next_page(generation, run, count).await,
        )
    }

    async fn try_next_page(&mut self, generation: i64, run: RunId, count: usize) -> Result<Vec<FileState>, Fault> {
        let mut page = Vec::new();
        let (mut page_bytes, mut ended) = (0, false);
        while !ended && page.len() < count && (page_bytes < PAGE_BYTES || page.is_empty()) {
            let wanted = i64::try_from(count - page.len()).unwrap_or(i64::MAX);
            let mut connection = self.catalog.readers().acquire().await?;
            let mut rows = sqlx::query(
                "SELECT path, part, parts, size, modified_ns, changed_ns, inode, device, entry, sum FROM states
                WHERE generation = $1 AND (path, part) > ($2, $3) ORDER BY path, part LIMIT $4",
            )
            .bind(generation)
            .bind(self.after.0.clone())
            .bind(self.after.1)
            .bind(wanted)
            .fetch(&mut *connection);
            ended = true;
            while let Some(row) = rows.try_next().await? {
                ended = false;
                page_bytes += row.try_get::<&[u8], _>(8)?.len();
                page.extend(take_row(&row, &mut self.partial, &mut self.after)?);
                if page_bytes >= PAGE_BYTES && !page.is_empty() {
                    break;
                }
            }
        }
        // Deletion begins after the swap, so a generation that is still live now was whole while it was read.
        let stage: Option<i64> = sqlx::query_scalar("SELECT state FROM generations WHERE no = $1")
            .bind(generation)
            .fetch_optional(self.catalog.readers())
            .await?;
        if stage != Some(Stage::Live as i64) {
            return Err(CatalogError::StatesReplaced(run).into());
        }
        match &self.partial {
            Some((state, _)) if ended => Err(Fault::Value(format!("the entry of {} is cut short", state.path))),
            Some(_) | None => Ok(page),
        }
    }
}

/// Takes one row in: a whole state, or one part of a long one. Returns the state that is complete now.
fn take_row(
    row: &SqliteRow,
    partial: &mut Option<(FileState, i64)>,
    after: &mut (Vec<u8>, i64),
) -> Result<Option<FileState>, Fault> {
    let (key, part, parts): (&[u8], i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let entry: &[u8] = row.try_get(8)?;
    let path = path_of(key)?;
    let described = FileState {
        path: path.clone(),
        size: bits(row, 3)?,
        mtime_ns: row.try_get(4)?,
        ctime_ns: row.try_get(5)?,
        inode: bits(row, 6)?,
        device: bits(row, 7)?,
        entry: Vec::new(),
    };
    sum(&described, part, parts, entry).check(row, 9, || format!("the state of {path}"))?;
    let broken = || Fault::Value(format!("part {part} of {parts} of the entry of {path} is out of place"));
    let mut state = match partial.take() {
        None if part == 0 => described,
        Some((state, of)) if state.path == path && of == parts && after.1 + 1 == part => state,
        Some(_) | None => return Err(broken()),
    };
    if part >= parts || state.entry.len() + entry.len() > ENTRY_BYTES_MAX {
        return Err(broken());
    }
    state.entry.extend_from_slice(entry);
    *after = (key.to_vec(), part);
    if part + 1 == parts {
        return Ok(Some(state));
    }
    *partial = Some((state, parts));
    Ok(None)
}

async fn require_building(connection: &mut SqliteConnection, generation: i64, run: RunId) -> Result<(), Fault> {
    let stage: Option<i64> = sqlx::query_scalar("SELECT state FROM generations WHERE no = $1")
        .bind(generation)
        .fetch_optional(connection)
        .await?;
    if stage == Some(Stage::Building as i64) {
        return Ok(());
    }
    Err(CatalogError::StatesReplaced(run).into())
}

/// Deletes generations that nobody reads any more, a bounded step at a time.
async fn delete_retired(catalog: &Catalog, dataset: DatasetId) -> Result<(), Fault> {
    let retired: Vec<i64> = sqlx::query_scalar("SELECT no FROM generations WHERE dataset = $1 AND state = $2")
        .bind(dataset.as_bytes().as_slice())
        .bind(Stage::Retired as i64)
        .fetch_all(catalog.writer())
        .await?;
    for generation in retired {
        loop {
            let last: Option<Vec<u8>> = sqlx::query_scalar(
                "SELECT path FROM states WHERE generation = $1 ORDER BY path, part LIMIT 1 OFFSET $2",
            )
            .bind(generation)
            .bind(DELETE_ROWS)
            .fetch_optional(catalog.writer())
            .await?;
            let Some(last) = last else { break };
            sqlx::query("DELETE FROM states WHERE generation = $1 AND path <= $2")
                .bind(generation)
                .bind(last)
                .execute(catalog.writer())
                .await?;
        }
        let mut transaction = catalog.write().await?;
        for text in [
            "DELETE FROM states WHERE generation = $1",
            "DELETE FROM generations WHERE no = $1",
        ] {
            sqlx::query(text).bind(generation).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// The sum of one row: a part of a state, or the whole.
fn sum(state: &FileState, part: i64, parts: i64, entry: &[u8]) -> RowSum {
    RowSum::of("states")
        .bytes(state.path.as_bytes())
        .number(part)
        .number(parts)
        .number(state.size.cast_signed())
        .number(state.mtime_ns)
        .number(state.ctime_ns)
        .number(state.inode.cast_signed())
        .number(state.device.cast_signed())
        .bytes(entry)
}

/// The path's bytes, with NUL between components.
fn key_of(path: &EntryPath) -> Vec<u8> {
    path.as_bytes()
        .iter()
        .map(|byte| if *byte == b'/' { 0 } else { *byte })
        .collect()
}

fn path_of(key: &[u8]) -> Result<EntryPath, Fault> {
    let bytes: Vec<u8> = key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    EntryPath::parse(&bytes).map_err(|error| Fault::Value(format!("a stored path is unlawful: {error}")))
}
