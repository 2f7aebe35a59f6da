//! Runs: what they may share, and what became of them.

use std::fmt;

use exclave_model::{DatasetId, Incarnation, KeyId, RunId};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError,
    error::Fault,
    sql::{bytes, number},
};

/// The facts that a run begins with.
///
/// Dataset, class, label and crypto epoch are its *scope*: only runs of one scope share chunks. The class stands for
/// recipients and geometry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// The dataset.
    pub dataset: DatasetId,
    /// The class of the dataset.
    pub class: u32,
    /// Digest of the label.
    pub label_digest: [u8; 32],
    /// The epoch of its recipient set.
    pub crypto_epoch: u32,
    /// Who writes.
    pub writer: KeyId,
    /// Which life of the writer.
    pub incarnation: Incarnation,
    /// When it began: Unix seconds.
    pub started: i64,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// It goes on, or its process died.
    Open,
    /// Its head is committed.
    Committed,
    /// Its head says that shards were missing.
    Provisional,
    /// It died, and a later run has claimed its stripes.
    Adopted,
    /// It died, and nobody uses its stripes.
    Abandoned,
}

impl RunState {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Open => 0,
            Self::Committed => 1,
            Self::Provisional => 2,
            Self::Adopted => 3,
            Self::Abandoned => 4,
        }
    }

    fn from_number(number: i64) -> Option<Self> {
        [
            Self::Open,
            Self::Committed,
            Self::Provisional,
            Self::Adopted,
            Self::Abandoned,
        ]
        .into_iter()
        .find(|state| state.number() == number)
    }

    /// True when a run may go from this state to `next`. Telling it the same twice is no harm.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Open, _) | (Self::Provisional, Self::Committed) | (Self::Abandoned, Self::Adopted) => true,
            (Self::Committed, other) => matches!(other, Self::Committed),
            (Self::Provisional, other) => matches!(other, Self::Provisional),
            (Self::Adopted, other) => matches!(other, Self::Adopted),
            (Self::Abandoned, other) => matches!(other, Self::Abandoned),
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Committed => "committed",
            Self::Provisional => "provisional",
            Self::Adopted => "adopted",
            Self::Abandoned => "abandoned",
        })
    }
}

/// A run as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRun {
    /// What it began with.
    pub record: RunRecord,
    /// What became of it.
    pub state: RunState,
    /// True when nobody may reuse its stripes.
    pub excluded: bool,
}

/// A run's number, its scope's number, and the oldest start that its dataset reuses.
pub(crate) struct RunNumbers {
    pub(crate) run: i64,
    pub(crate) scope: i64,
    pub(crate) reuse_from: i64,
}

const KNOWN_RUN: &str = "SELECT r.run, s.dataset, s.class, s.label_digest, s.crypto_epoch, r.writer, r.incarnation, r.started, r.state, r.excluded
    FROM runs r JOIN scopes s ON s.no = r.scope";

impl Catalog {
    /// Adds a run in state [`RunState::Open`]. Adding the same facts again changes nothing.
    pub async fn begin_run(&self, record: &RunRecord) -> Result<(), CatalogError> {
        self.explain("a run was begun", self.try_begin_run(record).await)
    }

    /// Says what became of a run.
    pub async fn finish_run(&self, run: RunId, state: RunState) -> Result<(), CatalogError> {
        self.explain("a run was finished", self.try_finish_run(run, state).await)
    }

    /// Forgets a run: its receipts, debts and stripes go, its chunks are never found again. False when it was unknown.
    ///
    /// Chunk rows are left behind for [`Catalog::sweep_chunks`]; finding them by run would need a second large index.
    pub async fn forget_run(&self, run: RunId) -> Result<bool, CatalogError> {
        self.explain("a run was forgotten", self.try_forget_run(run).await)
    }

    /// The run with an id.
    pub async fn run(&self, run: RunId) -> Result<Option<KnownRun>, CatalogError> {
        let found = async {
            let text = sqlx::AssertSqlSafe(format!("{KNOWN_RUN} WHERE r.run = $1"));
            let row = sqlx::query(text)
                .bind(run.as_bytes().as_slice())
                .fetch_optional(self.readers())
                .await?;
            row.as_ref().map(known_run).transpose()
        };
        self.explain("a run was read", found.await)
    }

    /// Runs of a dataset, newest first.
    pub async fn runs(&self, dataset: DatasetId, offset: u32, limit: u32) -> Result<Vec<KnownRun>, CatalogError> {
        let found = async {
            let text = sqlx::AssertSqlSafe(format!(
                "{KNOWN_RUN} WHERE s.dataset = $1 ORDER BY r.started DESC, r.no DESC LIMIT $2 OFFSET $3"
            ));
            let query = sqlx::query(text)
                .bind(dataset.as_bytes().as_slice())
                .bind(i64::from(limit))
                .bind(i64::from(offset));
            query.fetch_all(self.readers()).await?.iter().map(known_run).collect()
        };
        self.explain("runs were listed", found.await)
    }

    /// Runs of one life of a writer that were begun and never finished: its dead runs, when none goes on now.
    pub async fn open_runs(&self, incarnation: Incarnation) -> Result<Vec<KnownRun>, CatalogError> {
        let found = async {
            let text = sqlx::AssertSqlSafe(format!(
                "{KNOWN_RUN} WHERE r.incarnation = $1 AND r.state = $2 ORDER BY r.no"
            ));
            let query = sqlx::query(text)
                .bind(incarnation.as_bytes().as_slice())
                .bind(RunState::Open.number());
            query.fetch_all(self.readers()).await?.iter().map(known_run).collect()
        };
        self.explain("open runs were listed", found.await)
    }

    /// Takes a run out of reuse for good.
    pub async fn exclude_run(&self, run: RunId) -> Result<(), CatalogError> {
        let done = async {
            let query = sqlx::query("UPDATE runs SET excluded = 1 WHERE run = $1").bind(run.as_bytes().as_slice());
            match query.execute(self.writer()).await?.rows_affected() {
                0 => Err(CatalogError::UnknownRun(run).into()),
                _ => Ok(()),
            }
        };
        self.explain("a run was excluded", done.await)
    }

    /// Takes every run of a dataset that began before `reuse_from` out of reuse, those added later included. An earlier
    /// time than one given before changes nothing.
    pub async fn exclude_runs_before(&self, dataset: DatasetId, reuse_from: i64) -> Result<(), CatalogError> {
        let done = async {
            sqlx::query(
                "INSERT INTO datasets (dataset, reuse_from) VALUES ($1, $2)
                ON CONFLICT (dataset) DO UPDATE SET reuse_from = excluded.reuse_from WHERE datasets.reuse_from < excluded.reuse_from",
            )
            .bind(dataset.as_bytes().as_slice())
            .bind(reuse_from)
            .execute(self.writer())
            .await?;
            Ok(())
        };
        self.explain("old runs were excluded", done.await)
    }

    /// Takes every run of a writer out of reuse, those added later included.
    pub async fn exclude_writer(&self, writer: KeyId) -> Result<(), CatalogError> {
        let done = async {
            let mut transaction = self.write().await?;
            for text in [
                "INSERT INTO excluded_writers (writer) VALUES ($1) ON CONFLICT (writer) DO NOTHING",
                "UPDATE runs SET excluded = 1 WHERE writer = $1",
            ] {
                sqlx::query(text)
                    .bind(writer.as_bytes().as_slice())
                    .execute(&mut *transaction)
                    .await?;
            }
            Ok(transaction.commit().await?)
        };
        self.explain("a writer was excluded", done.await)
    }

    async fn try_begin_run(&self, record: &RunRecord) -> Result<(), Fault> {
        let mut transaction = self.write().await?;
        let scope = scope_of(&mut transaction, record).await?;
        sqlx::query(
            "INSERT INTO runs (run, scope, writer, incarnation, started, state, excluded)
            VALUES ($1, $2, $3, $4, $5, $6, (SELECT count(*) FROM excluded_writers WHERE writer = $3))
            ON CONFLICT (run) DO NOTHING",
        )
        .bind(record.run.as_bytes().as_slice())
        .bind(scope)
        .bind(record.writer.as_bytes().as_slice())
        .bind(record.incarnation.as_bytes().as_slice())
        .bind(record.started)
        .bind(RunState::Open.number())
        .execute(&mut *transaction)
        .await?;
        let text = sqlx::AssertSqlSafe(format!("{KNOWN_RUN} WHERE r.run = $1"));
        let row = sqlx::query(text)
            .bind(record.run.as_bytes().as_slice())
            .fetch_one(&mut *transaction)
            .await?;
        if known_run(&row)?.record != *record {
            return Err(CatalogError::RunDiffers(record.run).into());
        }
        Ok(transaction.commit().await?)
    }

    async fn try_finish_run(&self, run: RunId, to: RunState) -> Result<(), Fault> {
        let mut transaction = self.write().await?;
        let numbers = numbers_of(&mut transaction, run).await?;
        let from: i64 = sqlx::query_scalar("SELECT state FROM runs WHERE no = $1")
            .bind(numbers.run)
            .fetch_one(&mut *transaction)
            .await?;
        let from = state_of(from)?;
        if !from.may_become(to) {
            return Err(CatalogError::BadTransition { run, from, to }.into());
        }
        sqlx::query("UPDATE runs SET state = $2 WHERE no = $1")
            .bind(numbers.run)
            .bind(to.number())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn try_forget_run(&self, run: RunId) -> Result<bool, Fault> {
        // First out of sight, then out of the file, a bounded step at a time.
        let found: Option<i64> = sqlx::query_scalar("UPDATE runs SET excluded = 1 WHERE run = $1 RETURNING no")
            .bind(run.as_bytes().as_slice())
            .fetch_optional(self.writer())
            .await?;
        let Some(number) = found else { return Ok(false) };
        loop {
            let last: Option<i64> =
                sqlx::query_scalar("SELECT ordinal FROM stripes WHERE run = $1 ORDER BY ordinal LIMIT 1 OFFSET $2")
                    .bind(number)
                    .bind(STRIPES_PER_STEP)
                    .fetch_optional(self.writer())
                    .await?;
            let mut transaction = self.write().await?;
            for text in [
                "DELETE FROM receipts WHERE run = $1 AND ordinal <= $2",
                "DELETE FROM debts WHERE run = $1 AND ordinal <= $2",
                "DELETE FROM stripes WHERE run = $1 AND ordinal <= $2",
            ] {
                sqlx::query(text)
                    .bind(number)
                    .bind(last.unwrap_or(i64::MAX))
                    .execute(&mut *transaction)
                    .await?;
            }
            if last.is_none() {
                sqlx::query("DELETE FROM runs WHERE no = $1")
                    .bind(number)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            if last.is_none() {
                return Ok(true);
            }
        }
    }
}

/// Stripes that one step of a deletion takes: some 10,000 rows with their receipts, a few milliseconds.
const STRIPES_PER_STEP: i64 = 1024;

/// The numbers of a known run.
pub(crate) async fn numbers_of(connection: &mut SqliteConnection, run: RunId) -> Result<RunNumbers, Fault> {
    let row = sqlx::query(
        "SELECT r.no, r.scope, d.reuse_from FROM runs r JOIN scopes s ON s.no = r.scope
        LEFT JOIN datasets d ON d.dataset = s.dataset WHERE r.run = $1",
    )
    .bind(run.as_bytes().as_slice())
    .fetch_optional(connection)
    .await?
    .ok_or(CatalogError::UnknownRun(run))?;
    let reuse_from: Option<i64> = row.try_get(2)?;
    Ok(RunNumbers {
        run: row.try_get(0)?,
        scope: row.try_get(1)?,
        reuse_from: reuse_from.unwrap_or(i64::MIN),
    })
}

async fn scope_of(connection: &mut SqliteConnection, record: &RunRecord) -> Result<i64, Fault> {
    let texts = [
        "INSERT INTO scopes (dataset, class, label_digest, crypto_epoch) VALUES ($1, $2, $3, $4)
        ON CONFLICT (dataset, class, label_digest, crypto_epoch) DO NOTHING RETURNING no",
        "SELECT no FROM scopes WHERE dataset = $1 AND class = $2 AND label_digest = $3 AND crypto_epoch = $4",
    ];
    for text in texts {
        let number: Option<i64> = sqlx::query_scalar(text)
            .bind(record.dataset.as_bytes().as_slice())
            .bind(i64::from(record.class))
            .bind(record.label_digest.as_slice())
            .bind(i64::from(record.crypto_epoch))
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(number) = number {
            return Ok(number);
        }
    }
    Err(Fault::Value("a scope vanished while it was added".into()))
}

fn state_of(number: i64) -> Result<RunState, Fault> {
    RunState::from_number(number).ok_or_else(|| Fault::Value(format!("run state {number} is unknown")))
}

fn known_run(row: &SqliteRow) -> Result<KnownRun, Fault> {
    Ok(KnownRun {
        record: RunRecord {
            run: RunId::from_bytes(bytes(row, 0)?),
            dataset: DatasetId::from_bytes(bytes(row, 1)?),
            class: number(row, 2)?,
            label_digest: bytes(row, 3)?,
            crypto_epoch: number(row, 4)?,
            writer: KeyId::from_bytes(bytes(row, 5)?),
            incarnation: Incarnation::from_bytes(bytes(row, 6)?),
            started: row.try_get(7)?,
        },
        state: state_of(row.try_get(8)?)?,
        excluded: row.try_get::<i64, _>(9)? != 0,
    })
}
