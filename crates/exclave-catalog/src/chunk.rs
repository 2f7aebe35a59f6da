//! The dedup index: which chunk lies where.
//!
//! One row per scope and chunk id, the newest place wins. A row is found only while its run and stripe may be reused, so
//! excluding a run or marking a stripe touches a few rows and not the index.

use std::collections::HashMap;

use exclave_model::{ChunkId, ChunkRef, Codec, LiveSet, RunId};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError,
    error::Fault,
    run::{RunNumbers, RunState, numbers_of},
    sql::{bytes, number, parameters, pieces, values},
    sum::RowSum,
};

/// Ids worth asking for at once: a call costs a switch of threads, so single look-ups are several times slower
/// (`examples/measure.rs`).
pub const LOOKUP_BATCH: usize = 1024;

/// Ids in one look-up statement. A temporary table is a sixth faster than `IN`, but writes, and so would keep look-ups
/// from read-only connections; a join with `VALUES` depends on the planner's mood.
const LOOKUP_IDS: usize = 512;

/// Rows in one insert statement: more save little, and make a longer text to keep.
const INSERT_ROWS: usize = 32;

/// Rows that one step of a sweep looks at.
const SWEEP_ROWS: i64 = 4096;

/// What makes a stripe reusable for the run that parameter `first` names, with reuse_from in the next parameter; `r` is its
/// run, `s` the stripe. The numbers are those of the finished states: committed, provisional, adopted.
fn reusable(first: usize) -> String {
    format!(
        "s.durable = 1 AND s.marked = 0 AND r.excluded = 0 AND r.started >= ${} AND (r.no = ${first} OR r.state IN (1, 2, 3))",
        first + 1
    )
}

const _: () = assert!(
    RunState::Committed.number() == 1 && RunState::Provisional.number() == 2 && RunState::Adopted.number() == 3
);

impl Catalog {
    /// Finds chunks that the run `asking` may refer to instead of sending them; one answer per id, in order.
    ///
    /// Only durable, unmarked stripes of finished runs in the asking run's scope, and its own, are considered; see the
    /// crate's rules of reuse. Whether enough shards were seen lately is [`Catalog::stripe_health`]'s to say.
    pub async fn lookup(&self, asking: RunId, ids: &[ChunkId]) -> Result<Vec<Option<ChunkRef>>, CatalogError> {
        self.explain("chunks were looked up", self.try_lookup(asking, ids).await)
    }

    /// The stripes of `run` that the run `asking` may refer to, for references that come from file states and not from a
    /// look-up. Empty for a run of another scope and for one that is not known.
    pub async fn reusable_stripes(&self, asking: RunId, run: RunId) -> Result<LiveSet, CatalogError> {
        self.explain(
            "reusable stripes were read",
            self.try_reusable_stripes(asking, run).await,
        )
    }

    /// Adds chunks in one transaction, each to the scope of its own run, which must be known. Any order, any number;
    /// some thousands at a time are fastest. A chunk that is there already moves to the new place.
    ///
    /// A chunk is found from the moment its stripe is noted, so note stripes first: until then the new place hides an
    /// older one.
    pub async fn insert_chunks(&self, chunks: &[ChunkRef]) -> Result<(), CatalogError> {
        self.explain("chunks were added", self.try_insert_chunks(chunks).await)
    }

    /// Deletes the rows of chunks whose run was forgotten; how many. Reads the whole index, in bounded steps.
    pub async fn sweep_chunks(&self) -> Result<u64, CatalogError> {
        self.explain("forgotten chunks were swept", self.try_sweep_chunks().await)
    }

    async fn try_lookup(&self, asking: RunId, ids: &[ChunkId]) -> Result<Vec<Option<ChunkRef>>, Fault> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.readers().acquire().await?;
        let numbers = numbers_of(&mut connection, asking).await?;
        // Neighbours in the index are read together.
        let mut wanted = ids.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = HashMap::with_capacity(wanted.len());
        for piece in wanted.chunks(LOOKUP_IDS) {
            for row in select_chunks(&mut connection, &numbers, piece).await? {
                let chunk = chunk_of(&row)?;
                found.insert(chunk.id, chunk);
            }
        }
        Ok(ids.iter().map(|id| found.get(id).copied()).collect())
    }

    async fn try_reusable_stripes(&self, asking: RunId, run: RunId) -> Result<LiveSet, Fault> {
        let mut connection = self.readers().acquire().await?;
        let numbers = numbers_of(&mut connection, asking).await?;
        let text = format!(
            "SELECT s.ordinal FROM runs r JOIN stripes s ON s.run = r.no
            WHERE r.run = $3 AND r.scope = $4 AND {} AND s.ordinal > $5 ORDER BY s.ordinal LIMIT 65536",
            reusable(1)
        );
        let (mut set, mut last) = (LiveSet::new(), -1);
        loop {
            let ordinals: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(text.clone()))
                .bind(numbers.run)
                .bind(numbers.reuse_from)
                .bind(run.as_bytes().as_slice())
                .bind(numbers.scope)
                .bind(last)
                .fetch_all(&mut *connection)
                .await?;
            let Some(end) = ordinals.last() else { return Ok(set) };
            last = *end;
            for ordinal in ordinals {
                set.insert(
                    u32::try_from(ordinal).map_err(|_| Fault::Value(format!("stripe {ordinal} is out of range")))?,
                );
            }
        }
    }

    async fn try_insert_chunks(&self, chunks: &[ChunkRef]) -> Result<(), Fault> {
        // Per run and in index order; of two places of one chunk the last one given stays.
        let mut sorted: Vec<&ChunkRef> = chunks.iter().collect();
        sorted.sort_by_key(|chunk| (chunk.run, chunk.id));
        let mut transaction = self.write().await?;
        for of_run in sorted.chunk_by(|left, right| left.run == right.run) {
            let Some(first) = of_run.first() else { continue };
            let numbers = numbers_of(&mut transaction, first.run).await?;
            let distinct: Vec<&ChunkRef> = of_run
                .chunk_by(|left, right| left.id == right.id)
                .filter_map(|same| same.last().copied())
                .collect();
            for piece in pieces(&distinct, INSERT_ROWS) {
                upsert_chunks(&mut transaction, &numbers, piece).await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    async fn try_sweep_chunks(&self) -> Result<u64, Fault> {
        let (mut swept, mut scope, mut id) = (0, 0_i64, Vec::new());
        loop {
            let end: Option<(i64, Vec<u8>)> = sqlx::query_as(
                "SELECT scope, id FROM chunks WHERE (scope, id) > ($1, $2) ORDER BY scope, id LIMIT 1 OFFSET $3",
            )
            .bind(scope)
            .bind(id.as_slice())
            .bind(SWEEP_ROWS)
            .fetch_optional(self.readers())
            .await?;
            let (end_scope, end_id) = end.clone().unwrap_or((i64::MAX, Vec::new()));
            let deleted = sqlx::query(
                "DELETE FROM chunks WHERE (scope, id) > ($1, $2) AND (scope, id) <= ($3, $4) AND run NOT IN (SELECT no FROM runs)",
            )
            .bind(scope)
            .bind(id.as_slice())
            .bind(end_scope)
            .bind(end_id.as_slice())
            .execute(self.writer())
            .await?;
            swept += deleted.rows_affected();
            match end {
                Some((next_scope, next_id)) => (scope, id) = (next_scope, next_id),
                None => return Ok(swept),
            }
        }
    }
}

/// The statement of a look-up of `count` ids. `CROSS JOIN` is the standard's, and keeps SQLite from beginning with any
/// table but the index of chunks: it has no statistics to know better by.
pub(crate) fn lookup_text(count: usize) -> String {
    format!(
        "SELECT c.id, r.run, c.ordinal, c.start, c.stored, c.raw, c.codec, c.scope, c.run, c.sum
        FROM chunks c CROSS JOIN runs r CROSS JOIN stripes s
        WHERE c.scope = ${} AND c.id IN ({}) AND r.no = c.run AND s.run = c.run AND s.ordinal = c.ordinal AND {}",
        count + 3,
        parameters(count),
        reusable(count + 1)
    )
}

async fn select_chunks(
    connection: &mut SqliteConnection,
    numbers: &RunNumbers,
    ids: &[ChunkId],
) -> Result<Vec<SqliteRow>, Fault> {
    // Filled up with the last id, so that few different statements are ever prepared.
    let width = ids.len().next_power_of_two();
    let mut query = sqlx::query(AssertSqlSafe(lookup_text(width)));
    for at in 0..width {
        let id = ids.get(at).or(ids.last());
        query = query.bind(id.map(|id| id.as_bytes().as_slice()));
    }
    let query = query.bind(numbers.run).bind(numbers.reuse_from).bind(numbers.scope);
    Ok(query.fetch_all(connection).await?)
}

async fn upsert_chunks(
    connection: &mut SqliteConnection,
    numbers: &RunNumbers,
    chunks: &[&ChunkRef],
) -> Result<(), Fault> {
    let text = format!(
        "INSERT INTO chunks (scope, run, id, ordinal, start, stored, raw, codec, sum) VALUES {}
        ON CONFLICT (scope, id) DO UPDATE SET run = excluded.run, ordinal = excluded.ordinal, start = excluded.start,
        stored = excluded.stored, raw = excluded.raw, codec = excluded.codec, sum = excluded.sum",
        values(chunks.len(), 9)
    );
    let mut query = sqlx::query(AssertSqlSafe(text));
    for chunk in chunks {
        query = query
            .bind(numbers.scope)
            .bind(numbers.run)
            .bind(chunk.id.as_bytes().as_slice())
            .bind(i64::from(chunk.ordinal))
            .bind(i64::from(chunk.offset))
            .bind(i64::from(chunk.stored))
            .bind(i64::from(chunk.raw))
            .bind(i64::from(chunk.codec.number()))
            .bind(sum(numbers.scope, numbers.run, chunk).value());
    }
    query.execute(connection).await?;
    Ok(())
}

fn chunk_of(row: &SqliteRow) -> Result<ChunkRef, Fault> {
    let (stored, raw, codec) = (number(row, 4)?, number(row, 5)?, number(row, 6)?);
    let codec = Codec::from_number(codec)
        .filter(|codec| codec.allows(stored, raw))
        .ok_or_else(|| {
            Fault::Value(format!(
                "a chunk of {stored} B stored for {raw} B raw with codec {codec}"
            ))
        })?;
    let chunk = ChunkRef {
        run: RunId::from_bytes(bytes(row, 1)?),
        ordinal: number(row, 2)?,
        offset: number(row, 3)?,
        stored,
        raw,
        codec,
        id: ChunkId::from_bytes(bytes(row, 0)?),
    };
    let (scope, run) = (row.try_get(7)?, row.try_get(8)?);
    sum(scope, run, &chunk).check(row, 9, || format!("the place of chunk {}", chunk.id))?;
    Ok(chunk)
}

/// The sum of a chunk's row; scope and run by their numbers, as the row has them.
fn sum(scope: i64, run: i64, chunk: &ChunkRef) -> RowSum {
    RowSum::of("chunks")
        .number(scope)
        .number(run)
        .bytes(chunk.id.as_bytes())
        .number(i64::from(chunk.ordinal))
        .number(i64::from(chunk.offset))
        .number(i64::from(chunk.stored))
        .number(i64::from(chunk.raw))
        .number(i64::from(chunk.codec.number()))
}
