//! Snapshots: heads that were written or seen. A hint for people and for the next run; the heads at the sites are the
//! truth.

use exclave_model::{Counts, DatasetId, Incarnation, RecordHash, RunId, SnapshotState};
use sqlx::{AssertSqlSafe, Row as _, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError,
    error::Fault,
    sql::{bits, bytes, number},
};

/// A head, as far as listings need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The head's hash.
    pub head: RecordHash,
    /// The dataset.
    pub dataset: DatasetId,
    /// The run whose key opens it.
    pub run: RunId,
    /// The life of the writer that committed it.
    pub incarnation: Incarnation,
    /// Its place in that chain.
    pub seq: u64,
    /// When it was finished: Unix seconds.
    pub taken: i64,
    /// How safe it was.
    pub state: SnapshotState,
    /// Least number of verified shards of any stripe.
    pub verified_min: u8,
    /// Shards that were missing up to n.
    pub debt: u64,
    /// What it holds.
    pub counts: Counts,
}

/// The end of one chain of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainTip {
    /// Its place in the chain.
    pub seq: u64,
    /// The head's hash.
    pub head: RecordHash,
}

const COLUMNS: &str = "head, dataset, run, incarnation, seq, taken, state, verified_min, debt,
    files, directories, others, bytes, skipped, excluded, changed";

impl Catalog {
    /// Adds a head. Adding it again changes nothing: a head's hash fixes everything about it.
    pub async fn note_snapshot(&self, snapshot: &Snapshot) -> Result<(), CatalogError> {
        self.explain("a snapshot was noted", self.try_note_snapshot(snapshot).await)
    }

    /// The newest snapshot of a dataset: the latest taken, of equals the one furthest in its chain.
    pub async fn newest_snapshot(&self, dataset: DatasetId) -> Result<Option<Snapshot>, CatalogError> {
        Ok(self.snapshots(dataset, 0, 1).await?.pop())
    }

    /// Snapshots of a dataset, newest first.
    pub async fn snapshots(&self, dataset: DatasetId, offset: u32, limit: u32) -> Result<Vec<Snapshot>, CatalogError> {
        let found = async {
            let text = format!(
                "SELECT {COLUMNS} FROM snapshots WHERE dataset = $1 ORDER BY taken DESC, seq DESC, head LIMIT $2 OFFSET $3"
            );
            let query = sqlx::query(AssertSqlSafe(text))
                .bind(dataset.as_bytes().as_slice())
                .bind(i64::from(limit))
                .bind(i64::from(offset));
            query.fetch_all(self.readers()).await?.iter().map(snapshot_of).collect()
        };
        self.explain("snapshots were listed", found.await)
    }

    /// The furthest known head of one life of a writer. The journal knows better: it is written before the head is put.
    pub async fn chain_tip(&self, incarnation: Incarnation) -> Result<Option<ChainTip>, CatalogError> {
        let found = async {
            let row =
                sqlx::query("SELECT seq, head FROM snapshots WHERE incarnation = $1 ORDER BY seq DESC, head LIMIT 1")
                    .bind(incarnation.as_bytes().as_slice())
                    .fetch_optional(self.readers())
                    .await?;
            let tip = |row: SqliteRow| {
                Ok(ChainTip {
                    seq: number(&row, 0)?,
                    head: RecordHash::from_bytes(bytes(&row, 1)?),
                })
            };
            row.map(tip).transpose()
        };
        self.explain("a chain's tip was read", found.await)
    }

    /// Takes a head out, when its snapshot was collected; false when it was unknown.
    pub async fn forget_snapshot(&self, head: RecordHash) -> Result<bool, CatalogError> {
        let done = async {
            let query = sqlx::query("DELETE FROM snapshots WHERE head = $1").bind(head.as_bytes().as_slice());
            Ok(query.execute(self.writer()).await?.rows_affected() > 0)
        };
        self.explain("a snapshot was forgotten", done.await)
    }

    async fn try_note_snapshot(&self, snapshot: &Snapshot) -> Result<(), Fault> {
        let seq =
            i64::try_from(snapshot.seq).map_err(|_| Fault::Value(format!("place {} in a chain", snapshot.seq)))?;
        let counts = &snapshot.counts;
        let text = format!(
            "INSERT INTO snapshots ({COLUMNS}) VALUES ({}) ON CONFLICT (head) DO NOTHING",
            crate::sql::parameters(16)
        );
        let mut query = sqlx::query(AssertSqlSafe(text))
            .bind(snapshot.head.as_bytes().as_slice())
            .bind(snapshot.dataset.as_bytes().as_slice())
            .bind(snapshot.run.as_bytes().as_slice())
            .bind(snapshot.incarnation.as_bytes().as_slice())
            .bind(seq)
            .bind(snapshot.taken)
            .bind(state_number(snapshot.state))
            .bind(i64::from(snapshot.verified_min))
            .bind(snapshot.debt.cast_signed());
        for count in [
            counts.files,
            counts.directories,
            counts.others,
            counts.bytes,
            counts.skipped,
            counts.excluded,
            counts.changed,
        ] {
            query = query.bind(count.cast_signed());
        }
        query.execute(self.writer()).await?;
        Ok(())
    }
}

const fn state_number(state: SnapshotState) -> i64 {
    match state {
        SnapshotState::Durable => 0,
        SnapshotState::Provisional => 1,
    }
}

fn snapshot_of(row: &SqliteRow) -> Result<Snapshot, Fault> {
    Ok(Snapshot {
        head: RecordHash::from_bytes(bytes(row, 0)?),
        dataset: DatasetId::from_bytes(bytes(row, 1)?),
        run: RunId::from_bytes(bytes(row, 2)?),
        incarnation: Incarnation::from_bytes(bytes(row, 3)?),
        seq: number(row, 4)?,
        taken: row.try_get(5)?,
        state: match row.try_get::<i64, _>(6)? {
            0 => SnapshotState::Durable,
            1 => SnapshotState::Provisional,
            other => return Err(Fault::Value(format!("snapshot state {other} is unknown"))),
        },
        verified_min: number(row, 7)?,
        debt: bits(row, 8)?,
        counts: Counts {
            files: bits(row, 9)?,
            directories: bits(row, 10)?,
            others: bits(row, 11)?,
            bytes: bits(row, 12)?,
            skipped: bits(row, 13)?,
            excluded: bits(row, 14)?,
            changed: bits(row, 15)?,
        },
    })
}
