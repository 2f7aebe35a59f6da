//! Pays what earlier runs still owe: shards that a site missed, rebuilt from any k others, without the source or a key.

use std::{collections::BTreeMap, sync::Arc};

use exclave_catalog::{Catalog, CatalogError, Debt, Receipt};
use exclave_model::{LedgerPart, PayloadHash, Record, RecordHash, RunId, RunObject, SiteId, Tag};

use crate::{
    archive::Archive,
    fetch::{ReadSettings, SiteBook},
    mend::{Patient, Unmended},
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
    /// The shard can't be made.
    #[error("no site gives the ledger that lists its stripe")]
    NoLedger,
    /// It could not be rebuilt, or not be put.
    #[error(transparent)]
    Unmended(#[from] Unmended),
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
            book: Arc::new(SiteBook::new(archive, ReadSettings::default().hedge)),
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
    book: Arc<SiteBook>,
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
        let (payload, attempt) = match self.put(debt, note).await {
            Ok(put) => put,
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
            attempt,
            seen: now,
        };
        self.catalog.paid(debt.run, debt.ordinal, &receipt, verified).await?;
        Ok(Payment::Paid)
    }

    /// Rebuilds the shard, puts it and reads it back; its payload's hash, and the attempt under which it lies.
    async fn put(&mut self, debt: &Debt, note: &RunNote) -> Result<(PayloadHash, u32), Unpaid> {
        if let Some(reason) = self.down.get(&debt.site) {
            return Err(reason.clone());
        }
        let archive = self.archive;
        let handle = archive.site(debt.site).ok_or_else(|| self.no_store(debt.site))?;
        let patient = self.stripe(debt, note).await.ok_or(Unpaid::NoLedger)?;
        let payload = patient.record.payloads.get(usize::from(debt.index)).copied();
        let payload = payload.ok_or(Unpaid::NoLedger)?;
        let objects = patient.rebuild(&self.book, &[debt.index]).await?;
        let object = objects.first().ok_or(Unmended::TooFewShards)?;
        let put = patient.put(&self.book, handle, debt.index, object).await;
        if let Err(reason @ Unmended::Site(_)) = &put {
            self.down.insert(debt.site, reason.clone().into());
        }
        Ok((payload, put?))
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
    async fn stripe(&mut self, debt: &Debt, note: &RunNote) -> Option<Patient> {
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
                return Some(Patient {
                    record: Arc::new(record.clone()),
                    layout: part.layout_of(debt.ordinal).to_vec(),
                });
            }
        }
        None
    }
}
