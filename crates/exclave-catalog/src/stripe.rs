//! Stripes: which are durable, where their shards were stored, when these were last seen, which are marked.

use std::ops::Range;

use exclave_model::{LiveSet, PayloadHash, RunId, SiteId};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use crate::{
    Catalog, CatalogError,
    debt::insert_debt,
    error::Fault,
    run::numbers_of,
    sql::{bytes, number, pieces, values},
};

/// A shard that a site was seen to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the stripe.
    pub index: u8,
    /// The site.
    pub site: SiteId,
    /// The hash of its payload.
    pub payload: PayloadHash,
    /// 0, or the number of the repeated put: part of the object's name.
    pub attempt: u32,
    /// When it was last seen there: Unix seconds.
    pub seen: i64,
}

/// A shard that is not there yet, and the site that should hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// Its place in the stripe.
    pub index: u8,
    /// The site.
    pub site: SiteId,
}

/// A stripe that has become durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeNote {
    /// Its number in the run.
    pub ordinal: u32,
    /// How many of its shards were verified.
    pub verified: u8,
    /// The shards that are there.
    pub receipts: Vec<Receipt>,
    /// The shards that are owed.
    pub owed: Vec<Owed>,
}

/// What is known about a stripe's shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripeHealth {
    /// Its number in the run.
    pub ordinal: u32,
    /// How many of its shards were verified when they were stored or repaired.
    pub verified: u8,
    /// How many shards were seen lately.
    pub seen: u8,
    /// When the shard that was not seen for longest was seen: Unix seconds; `None` without receipts.
    pub oldest_seen: Option<i64>,
    /// True when it is marked for collection.
    pub marked: bool,
}

/// Rows in one insert statement of receipts.
const RECEIPT_ROWS: usize = 32;

impl Catalog {
    /// Notes durable stripes, their receipts and debts in one transaction. Noting a stripe again replaces its verified
    /// count and the receipts given, and pays the debts that those receipts answer. `at` is now, in Unix seconds.
    pub async fn note_stripes(&self, run: RunId, stripes: &[StripeNote], at: i64) -> Result<(), CatalogError> {
        self.explain("stripes were noted", self.try_note_stripes(run, stripes, at).await)
    }

    /// Marks stripes for collection: they are never handed out again, not even when noted later. Marks are never
    /// withdrawn. Returns how many were not marked before; 0 for a run that is not known, whose chunks nobody can find.
    pub async fn mark_stripes(&self, run: RunId, stripes: &LiveSet) -> Result<u64, CatalogError> {
        self.explain("stripes were marked", self.try_mark_stripes(run, stripes).await)
    }

    /// Says that a listing or an audit saw these stripes' shards at a site. An earlier time than the known one changes
    /// nothing. Returns how many shards are newer seen now.
    pub async fn set_seen(&self, run: RunId, stripes: &LiveSet, site: SiteId, at: i64) -> Result<u64, CatalogError> {
        self.explain("shards were seen", self.try_set_seen(run, stripes, site, at).await)
    }

    /// Says that nothing is known any more of what a site holds: its shards count as seen again only when they are.
    pub async fn forget_sightings(&self, site: SiteId) -> Result<u64, CatalogError> {
        let done = async {
            let done = sqlx::query("UPDATE receipts SET seen = 0 WHERE site = $1 AND seen > 0")
                .bind(site.as_bytes().as_slice())
                .execute(self.writer())
                .await?;
            Ok(done.rows_affected())
        };
        self.explain("sightings were forgotten", done.await)
    }

    /// Says that a complete listing of a site did not show these stripes' shards: they are owed there since `since`
    /// (Unix seconds), and their receipts are gone. Returns how many there were.
    pub async fn shards_missing(
        &self,
        run: RunId,
        stripes: &LiveSet,
        site: SiteId,
        since: i64,
    ) -> Result<u64, CatalogError> {
        self.explain(
            "missing shards were noted",
            self.try_shards_missing(run, stripes, site, since).await,
        )
    }

    /// The health of the durable stripes with these ordinals; a shard counts as seen when that was at `seen_since` or
    /// later.
    pub async fn stripe_health(
        &self,
        run: RunId,
        ordinals: Range<u32>,
        seen_since: i64,
    ) -> Result<Vec<StripeHealth>, CatalogError> {
        self.explain(
            "the health of stripes was read",
            self.try_stripe_health(run, ordinals, seen_since).await,
        )
    }

    /// The receipts of the stripes with these ordinals, by ordinal and index.
    pub async fn receipts(&self, run: RunId, ordinals: Range<u32>) -> Result<Vec<(u32, Receipt)>, CatalogError> {
        self.explain("receipts were read", self.try_receipts(run, ordinals).await)
    }

    async fn try_note_stripes(&self, run: RunId, stripes: &[StripeNote], at: i64) -> Result<(), Fault> {
        let mut transaction = self.write().await?;
        let run = numbers_of(&mut transaction, run).await?.run;
        for stripe in stripes {
            upsert_stripe(&mut transaction, run, stripe.ordinal, stripe.verified).await?;
            for piece in pieces(&stripe.receipts, RECEIPT_ROWS) {
                upsert_receipts(&mut transaction, run, stripe.ordinal, piece).await?;
            }
            sqlx::query(
                "DELETE FROM debts WHERE run = $1 AND ordinal = $2
                AND shard IN (SELECT shard FROM receipts WHERE run = $1 AND ordinal = $2)",
            )
            .bind(run)
            .bind(i64::from(stripe.ordinal))
            .execute(&mut *transaction)
            .await?;
            for owed in &stripe.owed {
                insert_debt(&mut transaction, run, stripe.ordinal, owed, at).await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    async fn try_mark_stripes(&self, run: RunId, stripes: &LiveSet) -> Result<u64, Fault> {
        let mut transaction = self.write().await?;
        let run = match numbers_of(&mut transaction, run).await {
            Ok(numbers) => numbers.run,
            Err(Fault::Known(CatalogError::UnknownRun(_))) => return Ok(0),
            Err(fault) => return Err(fault),
        };
        let mut marked = 0;
        for ordinal in stripes.iter() {
            // A mark may come before its stripe: the catalog learns things in any order.
            let done = sqlx::query(
                "INSERT INTO stripes (run, ordinal, durable, marked, verified) VALUES ($1, $2, 0, 1, 0)
                ON CONFLICT (run, ordinal) DO UPDATE SET marked = 1 WHERE stripes.marked = 0",
            )
            .bind(run)
            .bind(i64::from(ordinal))
            .execute(&mut *transaction)
            .await?;
            marked += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(marked)
    }

    async fn try_set_seen(&self, run: RunId, stripes: &LiveSet, site: SiteId, at: i64) -> Result<u64, Fault> {
        let mut transaction = self.write().await?;
        let run = numbers_of(&mut transaction, run).await?.run;
        let mut seen = 0;
        for stretch in stretches(stripes) {
            let done = sqlx::query(
                "UPDATE receipts SET seen = $5 WHERE run = $1 AND ordinal BETWEEN $2 AND $3 AND site = $4 AND seen < $5",
            )
            .bind(run)
            .bind(i64::from(*stretch.start()))
            .bind(i64::from(*stretch.end()))
            .bind(site.as_bytes().as_slice())
            .bind(at)
            .execute(&mut *transaction)
            .await?;
            seen += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(seen)
    }

    async fn try_shards_missing(&self, run: RunId, stripes: &LiveSet, site: SiteId, since: i64) -> Result<u64, Fault> {
        let mut transaction = self.write().await?;
        let run = numbers_of(&mut transaction, run).await?.run;
        let mut missing = 0;
        for stretch in stretches(stripes) {
            let of_stretch = |statement| {
                sqlx::query(statement)
                    .bind(run)
                    .bind(i64::from(*stretch.start()))
                    .bind(i64::from(*stretch.end()))
                    .bind(site.as_bytes().as_slice())
            };
            of_stretch(
                "INSERT INTO debts (run, ordinal, shard, site, since) SELECT run, ordinal, shard, site, $5 FROM receipts
                WHERE run = $1 AND ordinal BETWEEN $2 AND $3 AND site = $4
                ON CONFLICT (run, ordinal, shard) DO NOTHING",
            )
            .bind(since)
            .execute(&mut *transaction)
            .await?;
            of_stretch(
                "UPDATE stripes SET verified = max(0, verified - (SELECT count(*) FROM receipts r
                WHERE r.run = stripes.run AND r.ordinal = stripes.ordinal AND r.site = $4))
                WHERE run = $1 AND ordinal BETWEEN $2 AND $3",
            )
            .execute(&mut *transaction)
            .await?;
            let done = of_stretch("DELETE FROM receipts WHERE run = $1 AND ordinal BETWEEN $2 AND $3 AND site = $4")
                .execute(&mut *transaction)
                .await?;
            missing += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(missing)
    }

    async fn try_stripe_health(
        &self,
        run: RunId,
        ordinals: Range<u32>,
        seen_since: i64,
    ) -> Result<Vec<StripeHealth>, Fault> {
        let mut connection = self.readers().acquire().await?;
        let run = numbers_of(&mut connection, run).await?.run;
        let rows = sqlx::query(
            "SELECT s.ordinal, s.verified, s.marked, coalesce(sum(CASE WHEN p.seen >= $4 THEN 1 ELSE 0 END), 0), min(p.seen),
            count(p.shard)
            FROM stripes s LEFT JOIN receipts p ON p.run = s.run AND p.ordinal = s.ordinal
            WHERE s.run = $1 AND s.ordinal >= $2 AND s.ordinal < $3 AND s.durable = 1
            GROUP BY s.ordinal, s.verified, s.marked ORDER BY s.ordinal",
        )
        .bind(run)
        .bind(i64::from(ordinals.start))
        .bind(i64::from(ordinals.end))
        .bind(seen_since)
        .fetch_all(&mut *connection)
        .await?;
        let health = rows.iter().map(|row| {
            let (ordinal, verified, receipts) = (number(row, 0)?, number(row, 1)?, number::<u8>(row, 5)?);
            // Each verified shard has a receipt. Pages that SQLite lost leave fewer, and the stripe would count as unsafe for ever.
            if receipts < verified {
                let text = format!("stripe {ordinal}: {verified} shards were verified, {receipts} receipts are left");
                return Err(Fault::Value(text));
            }
            Ok(StripeHealth {
                ordinal,
                verified,
                seen: number(row, 3)?,
                oldest_seen: row.try_get(4)?,
                marked: row.try_get::<i64, _>(2)? != 0,
            })
        });
        health.collect()
    }

    async fn try_receipts(&self, run: RunId, ordinals: Range<u32>) -> Result<Vec<(u32, Receipt)>, Fault> {
        let mut connection = self.readers().acquire().await?;
        let run = numbers_of(&mut connection, run).await?.run;
        let rows = sqlx::query(
            "SELECT ordinal, shard, site, payload, attempt, seen FROM receipts
            WHERE run = $1 AND ordinal >= $2 AND ordinal < $3 ORDER BY ordinal, shard",
        )
        .bind(run)
        .bind(i64::from(ordinals.start))
        .bind(i64::from(ordinals.end))
        .fetch_all(&mut *connection)
        .await?;
        let receipts = rows.iter().map(|row| {
            let receipt = Receipt {
                index: number(row, 1)?,
                site: SiteId::from_bytes(bytes(row, 2)?),
                payload: PayloadHash::from_bytes(bytes(row, 3)?),
                attempt: number(row, 4)?,
                seen: row.try_get(5)?,
            };
            Ok((number(row, 0)?, receipt))
        });
        receipts.collect()
    }
}

/// Notes a stripe as durable; a mark stays.
pub(crate) async fn upsert_stripe(
    connection: &mut SqliteConnection,
    run: i64,
    ordinal: u32,
    verified: u8,
) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO stripes (run, ordinal, durable, marked, verified) VALUES ($1, $2, 1, 0, $3)
        ON CONFLICT (run, ordinal) DO UPDATE SET durable = 1, verified = excluded.verified",
    )
    .bind(run)
    .bind(i64::from(ordinal))
    .bind(i64::from(verified))
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds receipts of one stripe, or replaces those of the same shards.
pub(crate) async fn upsert_receipts(
    connection: &mut SqliteConnection,
    run: i64,
    ordinal: u32,
    receipts: &[Receipt],
) -> Result<(), Fault> {
    let text = format!(
        "INSERT INTO receipts (run, ordinal, shard, site, payload, attempt, seen) VALUES {}
        ON CONFLICT (run, ordinal, shard) DO UPDATE SET site = excluded.site, payload = excluded.payload,
        attempt = excluded.attempt, seen = excluded.seen",
        values(receipts.len(), 7)
    );
    let mut query = sqlx::query(AssertSqlSafe(text));
    for receipt in receipts {
        query = query
            .bind(run)
            .bind(i64::from(ordinal))
            .bind(i64::from(receipt.index))
            .bind(receipt.site.as_bytes().as_slice())
            .bind(receipt.payload.as_bytes().as_slice())
            .bind(i64::from(receipt.attempt))
            .bind(receipt.seen);
    }
    query.execute(connection).await?;
    Ok(())
}

/// The set as stretches of neighbours, so that one statement updates many rows.
fn stretches(set: &LiveSet) -> impl Iterator<Item = std::ops::RangeInclusive<u32>> + '_ {
    let mut ordinals = set.iter().peekable();
    std::iter::from_fn(move || {
        let start = ordinals.next()?;
        let mut end = start;
        while let Some(next) = ordinals.next_if(|next| end.checked_add(1) == Some(*next)) {
            end = next;
        }
        Some(start..=end)
    })
}
