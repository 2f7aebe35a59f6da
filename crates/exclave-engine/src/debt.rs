//! Pays what earlier runs still owe: shards that a site missed, rebuilt from any k others, without the source or a key.

use std::collections::BTreeMap;

use exclave_catalog::{Catalog, CatalogError, Debt, Receipt};
use exclave_model::{
    LedgerPart, PayloadHash, Record, RecordHash, RunId, RunObject, ShardHeader, ShardName, StripeRecord, Tag,
};
use exclave_site::{Body, Class, PutMode};
use exclave_stripe::{VerifiedShard, rebuild, verify_shard};

use crate::{
    archive::{Archive, SiteHandle},
    state::RunNote,
    surroundings::Surroundings,
};

/// Debts looked at in one step.
const BATCH: u32 = 256;

/// What was paid.
#[derive(Debug, Default, Clone, Copy)]
pub struct Paid {
    /// Shards now verified at the site that was owed them.
    pub shards: u64,
    /// Shards still owed.
    pub remaining: u64,
}

/// Pays every debt whose site answers. A site that fails is not asked again in this call.
pub fn pay_debts(
    archive: &Archive,
    catalog: &Catalog,
    notes: &BTreeMap<RunId, RunNote>,
    surroundings: &Surroundings,
) -> Result<Paid, CatalogError> {
    surroundings.runtime.block_on(async {
        let mut payer = Payer {
            archive,
            catalog,
            notes,
            ledgers: BTreeMap::new(),
            down: Vec::new(),
            surroundings,
        };
        let mut paid = Paid::default();
        let mut after: Option<Debt> = None;
        loop {
            let debts = catalog.debts(after.as_ref(), BATCH).await?;
            let Some(last) = debts.last().cloned() else {
                return Ok(paid);
            };
            for debt in debts {
                if payer.pay(&debt).await? {
                    paid.shards += 1;
                } else {
                    paid.remaining += 1;
                }
            }
            after = Some(last);
        }
    })
}

struct Payer<'a> {
    archive: &'a Archive,
    catalog: &'a Catalog,
    notes: &'a BTreeMap<RunId, RunNote>,
    ledgers: BTreeMap<RecordHash, LedgerPart>,
    down: Vec<exclave_model::SiteId>,
    surroundings: &'a Surroundings,
}

impl Payer<'_> {
    async fn pay(&mut self, debt: &Debt) -> Result<bool, CatalogError> {
        if self.down.contains(&debt.site) {
            return Ok(false);
        }
        let Some(handle) = self.archive.site(debt.site) else {
            return Ok(false);
        };
        let Some((record, layout)) = self.stripe(debt).await else {
            return Ok(false);
        };
        let Some(expected) = record.payloads.get(usize::from(debt.index)).copied() else {
            return Ok(false);
        };
        let Some(object) = self.rebuild_object(&record, &layout, debt.index).await else {
            return Ok(false);
        };
        match put_verified(self.archive, handle, &record, debt.index, expected, object).await {
            Some(true) => {}
            Some(false) => return Ok(false),
            None => {
                self.down.push(debt.site);
                return Ok(false);
            }
        }
        let now = self.surroundings.clock.now_unix_seconds();
        let before = self
            .catalog
            .stripe_health(debt.run, debt.ordinal..debt.ordinal.saturating_add(1), 0)
            .await?;
        let verified = before.first().map_or(0, |health| health.verified).saturating_add(1);
        let receipt = Receipt {
            index: debt.index,
            site: debt.site,
            payload: expected,
            attempt: 0,
            seen: now,
        };
        self.catalog.paid(debt.run, debt.ordinal, &receipt, verified).await
    }

    /// The stripe's line in its ledger, and its layout.
    async fn stripe(&mut self, debt: &Debt) -> Option<(StripeRecord, Vec<exclave_model::SiteId>)> {
        let note = self.notes.get(&debt.run)?;
        for hash in &note.ledgers {
            if !self.ledgers.contains_key(hash) {
                let name = self
                    .archive
                    .names
                    .run_object(debt.run, RunObject::Ledger, Tag::of_hash(hash.as_bytes()));
                let accept = |bytes: &bytes::Bytes| {
                    (RecordHash::of(bytes) == *hash)
                        .then(|| LedgerPart::from_bytes(bytes).ok())
                        .flatten()
                };
                let (part, _) = self
                    .archive
                    .fetch(&name, exclave_model::limit::RECORD_BYTES_MAX, accept)
                    .await;
                self.ledgers.insert(*hash, part?);
            }
            let part = self.ledgers.get(hash)?;
            if let Some(record) = part.stripe(debt.ordinal) {
                return Some((record.clone(), part.layout_of(debt.ordinal).to_vec()));
            }
        }
        None
    }

    /// The owed shard's object, rebuilt from k verified others.
    async fn rebuild_object(
        &self,
        record: &StripeRecord,
        layout: &[exclave_model::SiteId],
        index: u8,
    ) -> Option<Vec<bytes::Bytes>> {
        let mut shards: Vec<VerifiedShard> = Vec::new();
        for (other, site) in (0u8..).zip(layout) {
            if shards.len() == usize::from(record.context.data) {
                break;
            }
            let Some(handle) = self.archive.site(*site).filter(|_| other != index) else {
                continue;
            };
            let hash = record.payloads.get(usize::from(other))?;
            let name = shard_name(self.archive, record, other, *hash);
            let Ok(object) = handle
                .site
                .get(&name, record.context.payload.object_bytes() as u64)
                .await
            else {
                continue;
            };
            shards.extend(verify_shard(record, other, &object));
        }
        let payload = bytes::Bytes::from(rebuild(record, &shards, &[index]).ok()?.pop()?);
        let header = ShardHeader {
            context: record.context,
            index,
            commitment: record.commitment,
        };
        let trailer = exclave_stripe::trailer_of(&payload);
        Some(vec![
            bytes::Bytes::copy_from_slice(&header.to_bytes()),
            payload,
            trailer.into(),
        ])
    }
}

fn shard_name(archive: &Archive, record: &StripeRecord, index: u8, hash: PayloadHash) -> exclave_model::ObjectName {
    archive.names.shard(&ShardName {
        run: record.context.run,
        ordinal: record.context.ordinal,
        index,
        tag: Tag::of_hash(hash.as_bytes()),
        attempt: 0,
    })
}

/// `Some(true)` when the shard was read back whole, `Some(false)` when the site holds something else, `None` when it fails.
async fn put_verified(
    archive: &Archive,
    handle: &SiteHandle,
    record: &StripeRecord,
    index: u8,
    hash: PayloadHash,
    slices: Vec<bytes::Bytes>,
) -> Option<bool> {
    let name = shard_name(archive, record, index, hash);
    let length = record.context.payload.object_bytes() as u64;
    // What lies there may be ours already, from a put whose reply was lost.
    if let Ok(found) = handle.site.get(&name, length).await
        && verify_shard(record, index, &found).is_ok()
    {
        return Some(true);
    }
    handle
        .site
        .put(&name, slices.into_iter().collect::<Body>(), PutMode::Plain)
        .await
        .ok()?;
    match handle.site.get(&name, length).await {
        Ok(found) => {
            handle.site.flush().await.ok()?;
            Some(verify_shard(record, index, &found).is_ok())
        }
        Err(error) if matches!(error.class(), Class::Missing | Class::TooLong) => Some(false),
        Err(_) => None,
    }
}
