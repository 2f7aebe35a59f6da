//! Debts: shards that a committed snapshot still lacks up to n. The next replicate pays them first.

use std::collections::BTreeMap;

use exclave_model::{RunId, SiteId};
use sqlx::{Row as _, SqliteConnection};

use crate::{
    Catalog, CatalogError, Owed, Receipt,
    error::Fault,
    run::numbers_of,
    sql::{bytes, number},
    stripe::{upsert_receipts, upsert_stripe},
};

/// A shard that is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// The run that wrote its stripe.
    pub run: RunId,
    /// The stripe.
    pub ordinal: u32,
    /// Its place in the stripe.
    pub index: u8,
    /// The site that should hold it.
    pub site: SiteId,
    /// Since when: Unix seconds.
    pub since: i64,
}

impl Catalog {
    /// Notes shards of one stripe as owed since `since` (Unix seconds). A shard that was owed before is now owed to the
    /// site given, since the earlier time.
    pub async fn owe(&self, run: RunId, ordinal: u32, owed: &[Owed], since: i64) -> Result<(), CatalogError> {
        let done = async {
            let mut transaction = self.write().await?;
            let run = numbers_of(&mut transaction, run).await?.run;
            for owed in owed {
                insert_debt(&mut transaction, run, ordinal, owed, since).await?;
            }
            Ok(transaction.commit().await?)
        };
        self.explain("debts were noted", done.await)
    }

    /// Up to `limit` debts behind `after`, a page at a time; all shards of one stripe stand together.
    pub async fn debts(&self, after: Option<&Debt>, limit: u32) -> Result<Vec<Debt>, CatalogError> {
        self.explain("debts were listed", self.try_debts(after, limit).await)
    }

    /// A shard was stored after all: takes its debt out, keeps the receipt and the stripe's new count of verified
    /// shards, in one transaction. Returns false when nothing was owed; the receipt is kept all the same.
    pub async fn paid(&self, run: RunId, ordinal: u32, receipt: &Receipt, verified: u8) -> Result<bool, CatalogError> {
        let done = async {
            let mut transaction = self.write().await?;
            let run = numbers_of(&mut transaction, run).await?.run;
            upsert_stripe(&mut transaction, run, ordinal, verified).await?;
            upsert_receipts(&mut transaction, run, ordinal, std::slice::from_ref(receipt)).await?;
            let deleted = sqlx::query("DELETE FROM debts WHERE run = $1 AND ordinal = $2 AND shard = $3")
                .bind(run)
                .bind(i64::from(ordinal))
                .bind(i64::from(receipt.index))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(deleted.rows_affected() > 0)
        };
        self.explain("a debt was paid", done.await)
    }

    /// How many shards each site is owed; sites without debts don't appear.
    pub async fn debt_counts(&self) -> Result<BTreeMap<SiteId, u64>, CatalogError> {
        let found = async {
            let rows = sqlx::query("SELECT site, count(*) FROM debts GROUP BY site")
                .fetch_all(self.readers())
                .await?;
            rows.iter()
                .map(|row| Ok((SiteId::from_bytes(bytes(row, 0)?), number(row, 1)?)))
                .collect()
        };
        self.explain("debts were counted", found.await)
    }

    async fn try_debts(&self, after: Option<&Debt>, limit: u32) -> Result<Vec<Debt>, Fault> {
        let mut connection = self.readers().acquire().await?;
        let (run, ordinal, index) = match after {
            Some(debt) => (
                numbers_of(&mut connection, debt.run).await?.run,
                i64::from(debt.ordinal),
                i64::from(debt.index),
            ),
            None => (0, 0, 0),
        };
        let rows = sqlx::query(
            "SELECT r.run, d.ordinal, d.shard, d.site, d.since FROM debts d JOIN runs r ON r.no = d.run
            WHERE (d.run, d.ordinal, d.shard) > ($1, $2, $3) ORDER BY d.run, d.ordinal, d.shard LIMIT $4",
        )
        .bind(run)
        .bind(ordinal)
        .bind(index)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await?;
        let debts = rows.iter().map(|row| {
            Ok(Debt {
                run: RunId::from_bytes(bytes(row, 0)?),
                ordinal: number(row, 1)?,
                index: number(row, 2)?,
                site: SiteId::from_bytes(bytes(row, 3)?),
                since: row.try_get(4)?,
            })
        });
        debts.collect()
    }
}

/// Adds a debt, or moves it to another site.
pub(crate) async fn insert_debt(
    connection: &mut SqliteConnection,
    run: i64,
    ordinal: u32,
    owed: &Owed,
    since: i64,
) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO debts (run, ordinal, shard, site, since) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (run, ordinal, shard) DO UPDATE SET site = excluded.site",
    )
    .bind(run)
    .bind(i64::from(ordinal))
    .bind(i64::from(owed.index))
    .bind(owed.site.as_bytes().as_slice())
    .bind(since)
    .execute(connection)
    .await?;
    Ok(())
}
