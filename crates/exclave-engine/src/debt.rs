//! Pays what earlier runs still owe: shards that a site missed, rebuilt from any k others, without the source or a key.

use std::collections::BTreeMap;

use exclave_catalog::{Catalog, CatalogError, Debt, Receipt};
use exclave_model::{
    LedgerPart, PayloadHash, Record, RecordHash, RunId, RunObject, ShardHeader, ShardName, SiteId, StripeRecord, Tag,
};
use exclave_site::{Body, Class, PutMode, SiteError};
use exclave_stripe::{VerifiedShard, rebuild, verify_shard};

use crate::{
    archive::{Archive, SiteHandle},
    replicate::chain_text,
    state::RunNote,
    surroundings::Surroundings,
};

/// Debts looked at in one step.
const BATCH: u32 = 256;

/// What was paid.
#[derive(Debug, Default, Clone)]
pub struct Paid {
    /// Shards now verified at the site that was owed them.
    pub shards: u64,
    /// Shards still owed, by site and reason.
    pub unpaid: Vec<UnpaidDebts>,
}

/// Shards that one site is still owed for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpaidDebts {
    /// The site's name.
    pub site: String,
    /// How many.
    pub shards: u64,
    /// Why they could not be paid.
    pub reason: String,
}

/// Why a shard could not be paid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
enum Unpaid {
    /// Its store is not among those at hand.
    #[error("no store that is configured shows its plate")]
    NoStore,
    /// Its store is at hand, and counts as no site.
    #[error("its store {0}")]
    Stranger(&'static str),
    /// What lay there before is not what the ledger says, and a put changed nothing.
    #[error("it keeps other bytes under the shard's name")]
    OtherBytes,
    /// The site failed.
    #[error("{0}")]
    Site(String),
    /// The shard can't be made.
    #[error("no site gives the ledger that lists its stripe")]
    NoLedger,
    /// The shard can't be made.
    #[error("fewer than k of the stripe's other shards can be read")]
    TooFewShards,
}

impl Unpaid {
    fn site(error: &SiteError) -> Self {
        Self::Site(chain_text(error))
    }
}

/// How one debt ended.
enum Payment {
    Paid,
    /// Its run belongs to another dataset, whose own replication pays, or to none any more.
    NotOurs,
    Owed(Unpaid),
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
            down: BTreeMap::new(),
            surroundings,
        };
        let mut shards = 0;
        let mut unpaid: BTreeMap<(SiteId, Unpaid), u64> = BTreeMap::new();
        let mut after: Option<Debt> = None;
        loop {
            let debts = catalog.debts(after.as_ref(), BATCH).await?;
            let Some(last) = debts.last().cloned() else {
                break;
            };
            for debt in debts {
                match payer.pay(&debt).await? {
                    Payment::Paid => shards += 1,
                    Payment::NotOurs => {}
                    Payment::Owed(reason) => *unpaid.entry((debt.site, reason)).or_default() += 1,
                }
            }
            after = Some(last);
        }
        let unpaid = unpaid.into_iter().map(|((site, reason), shards)| UnpaidDebts {
            site: archive.site_name(site),
            shards,
            reason: reason.to_string(),
        });
        Ok(Paid {
            shards,
            unpaid: unpaid.collect(),
        })
    })
}

struct Payer<'a> {
    archive: &'a Archive,
    catalog: &'a Catalog,
    notes: &'a BTreeMap<RunId, RunNote>,
    ledgers: BTreeMap<RecordHash, LedgerPart>,
    /// Sites that failed, and how.
    down: BTreeMap<SiteId, Unpaid>,
    surroundings: &'a Surroundings,
}

impl Payer<'_> {
    async fn pay(&mut self, debt: &Debt) -> Result<Payment, CatalogError> {
        let Some(note) = self.notes.get(&debt.run) else {
            return Ok(Payment::NotOurs);
        };
        let payload = match self.put(debt, note).await {
            Ok(payload) => payload,
            Err(reason) => return Ok(Payment::Owed(reason)),
        };
        let now = self.surroundings.clock.now_unix_seconds();
        let before = self
            .catalog
            .stripe_health(debt.run, debt.ordinal..debt.ordinal.saturating_add(1), 0)
            .await?;
        let verified = before.first().map_or(0, |health| health.verified).saturating_add(1);
        let receipt = Receipt {
            index: debt.index,
            site: debt.site,
            payload,
            attempt: 0,
            seen: now,
        };
        self.catalog.paid(debt.run, debt.ordinal, &receipt, verified).await?;
        Ok(Payment::Paid)
    }

    /// Rebuilds the shard, puts it and reads it back; its payload's hash.
    async fn put(&mut self, debt: &Debt, note: &RunNote) -> Result<PayloadHash, Unpaid> {
        if let Some(reason) = self.down.get(&debt.site) {
            return Err(reason.clone());
        }
        let archive = self.archive;
        let handle = archive.site(debt.site).ok_or_else(|| self.no_store(debt.site))?;
        let (record, layout) = self.stripe(debt, note).await.ok_or(Unpaid::NoLedger)?;
        let payload = record.payloads.get(usize::from(debt.index)).copied();
        let payload = payload.ok_or(Unpaid::NoLedger)?;
        let object = self.rebuild_object(&record, &layout, debt.index).await;
        let object = object.ok_or(Unpaid::TooFewShards)?;
        let put = put_verified(archive, handle, &record, debt.index, payload, object).await;
        if let Err(reason @ Unpaid::Site(_)) = &put {
            self.down.insert(debt.site, reason.clone());
        }
        put.map(|()| payload)
    }

    /// Why no store at hand is the site: the one that bears its name in the settings may say.
    fn no_store(&self, site: SiteId) -> Unpaid {
        let name = self.archive.site_name(site);
        let mut strangers = self.archive.sites.iter().filter(|handle| handle.name == name);
        match strangers.find_map(|handle| handle.plate.complaint()) {
            Some(complaint) => Unpaid::Stranger(complaint),
            None => Unpaid::NoStore,
        }
    }

    /// The stripe's line in its ledger, and its layout.
    async fn stripe(&mut self, debt: &Debt, note: &RunNote) -> Option<(StripeRecord, Vec<SiteId>)> {
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
    async fn rebuild_object(&self, record: &StripeRecord, layout: &[SiteId], index: u8) -> Option<Vec<bytes::Bytes>> {
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

/// Puts a shard and reads it back whole.
async fn put_verified(
    archive: &Archive,
    handle: &SiteHandle,
    record: &StripeRecord,
    index: u8,
    hash: PayloadHash,
    slices: Vec<bytes::Bytes>,
) -> Result<(), Unpaid> {
    let name = shard_name(archive, record, index, hash);
    let length = record.context.payload.object_bytes() as u64;
    // What lies there may be ours already, from a put whose reply was lost.
    if let Ok(found) = handle.site.get(&name, length).await
        && verify_shard(record, index, &found).is_ok()
    {
        return Ok(());
    }
    let put = handle
        .site
        .put(&name, slices.into_iter().collect::<Body>(), PutMode::Plain)
        .await;
    put.map_err(|error| Unpaid::site(&error))?;
    match handle.site.get(&name, length).await {
        Ok(found) if verify_shard(record, index, &found).is_ok() => {
            handle.site.flush().await.map_err(|error| Unpaid::site(&error))
        }
        Ok(_) => Err(Unpaid::OtherBytes),
        Err(error) if matches!(error.class(), Class::Missing | Class::TooLong) => Err(Unpaid::OtherBytes),
        Err(error) => Err(Unpaid::site(&error)),
    }
}
