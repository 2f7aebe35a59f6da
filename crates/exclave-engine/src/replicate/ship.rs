//! Full stripes on their way: sealing threads, uploads, and the thread that settles them.
//!
//! Settling a stripe means, in this order: its sites have flushed, several stripes at once; its entry is fsynced in the journal; the catalog knows it and its chunks; the
//! ledger lists it; its share of the in-flight budget is free again. Every 4,096 settled stripes a part of the ledger is
//! published while the run goes on.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender},
    },
};

use bytes::Bytes;
use exclave_catalog::{Catalog, Owed, Receipt, StripeNote};
use exclave_model::{
    ArchiveNames, Directory, LayoutFrom, LedgerPart, Record, RecordHash, RunId, RunObject, SiteId, StripeRecord, Tag,
    Version1, limit::STRIPES_PER_LEDGER_PART,
};
use exclave_plan::{Candidate, Layout, Quorums, RunCommit, RunEvent, StripeState};
use exclave_seal::{RunKey, entropy::draw};
use exclave_stripe::Sealer;
use futures::future::join_all;

use super::{
    ReplicateError,
    flow::{Flow, Stopped},
    pack::{Full, OnTheWay},
    upload::{Route, Standing, Uploaded, upload},
};
use crate::{
    archive::Archive,
    directory_tail::chunk_refs,
    journal::{Journal, JournalEntry, SettledStripe},
    publish::publish,
    surroundings::{Progress, Surroundings},
};

/// A stripe whose upload has ended.
pub(super) struct Shipped {
    record: StripeRecord,
    directory: Directory,
    layout: Layout,
    uploaded: Uploaded,
    budget_bytes: usize,
}

impl Shipped {
    /// Sites that hold a verified shard.
    fn holding(&self) -> impl Iterator<Item = SiteId> + '_ {
        self.uploaded
            .verified
            .iter()
            .filter_map(|(index, _)| self.layout.site(*index))
    }
}

/// Stripes that share one flush of their sites, when so many are there.
const FLUSHED_AT_ONCE: usize = 16;

/// What sealing threads and uploads share.
pub(super) struct Shipping<'a> {
    pub(super) flow: &'a Flow,
    pub(super) surroundings: &'a Surroundings,
    pub(super) archive: &'a Archive,
    pub(super) sealer: &'a Sealer,
    pub(super) run_key: &'a RunKey,
    pub(super) quorums: Quorums,
    pub(super) read_back: exclave_model::ReadBack,
    pub(super) create_only: &'a BTreeSet<SiteId>,
    pub(super) layout: &'a Mutex<Layout>,
    pub(super) candidates: &'a [Candidate],
    pub(super) standing: &'a Arc<Standing>,
}

impl Shipping<'_> {
    /// One sealing thread: takes full stripes until there are no more, and starts their uploads.
    pub(super) fn work(&self, input: &Mutex<Receiver<Full>>, done: Sender<Shipped>) -> Result<(), Stopped> {
        let mut entropy = self.surroundings.entropy.entropy();
        loop {
            let received = input.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Full {
                ordinal,
                packed,
                budget_bytes,
            }) = received
            else {
                return Ok(());
            };
            let directory = packed.directory().clone();
            let sealed = self
                .flow
                .check(self.sealer.seal(packed, ordinal, self.run_key, &mut *entropy))?;
            let layout = self.current_layout();
            let route = self.route(&layout);
            let random = u64::from_be_bytes(self.flow.check(draw(&mut *entropy))?);
            let (standing, surroundings, done) = (Arc::clone(self.standing), self.surroundings.clone(), done.clone());
            self.surroundings.runtime.spawn(async move {
                let record = sealed.record();
                let uploaded = upload(&sealed, &route, &standing, &surroundings, random).await;
                // A closed channel means that the run has failed; the stripe is an orphan then, space only.
                let _ = done.send(Shipped {
                    record,
                    directory,
                    layout,
                    uploaded,
                    budget_bytes,
                });
            });
        }
    }

    /// The layout of the next stripe: a site that is down is replaced when a spare one answers.
    fn current_layout(&self) -> Layout {
        let mut layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        let down = self.standing.down();
        if layout.sites().iter().any(|site| down.contains(site)) {
            *layout = layout.replace(&down, self.candidates).layout;
        }
        layout.clone()
    }

    fn route(&self, layout: &Layout) -> Route {
        Route {
            names: self.archive.names,
            quorums: self.quorums,
            read_back: self.read_back,
            sites: layout
                .sites()
                .iter()
                .map(|site| (*site, self.archive.site(*site).cloned()))
                .collect(),
            create_only: self.create_only.clone(),
        }
    }
}

/// What a run has stored.
pub(super) struct Settled {
    pub(super) commit: RunCommit,
    pub(super) ledger: Ledger,
    pub(super) stripes: u64,
}

/// The settling thread's work.
pub(super) struct Settling<'a> {
    pub(super) flow: &'a Flow,
    pub(super) surroundings: &'a Surroundings,
    pub(super) archive: &'a Archive,
    pub(super) catalog: &'a Catalog,
    pub(super) on_the_way: &'a Mutex<OnTheWay>,
    pub(super) quorums: Quorums,
    pub(super) run: RunId,
    pub(super) standing: &'a Standing,
}

impl Settling<'_> {
    pub(super) fn work(
        &self,
        input: Receiver<Shipped>,
        journal: &mut Journal,
        commit: RunCommit,
    ) -> Result<Settled, Stopped> {
        let mut settled = Settled {
            commit,
            ledger: Ledger::new(self.archive, self.run),
            stripes: 0,
        };
        while let Ok(first) = input.recv() {
            let mut group: Vec<Shipped> = std::iter::once(first)
                .chain(input.try_iter().take(FLUSHED_AT_ONCE - 1))
                .collect();
            self.flush(&mut group);
            for shipped in group {
                let budget_bytes = shipped.budget_bytes;
                // After a failure what is still under way is journalled all the same: the next run takes it over.
                let result = self.settle(shipped, journal, &mut settled);
                self.flow.release(budget_bytes);
                result?;
            }
        }
        Ok(settled)
    }

    /// Makes what was read back survive a power cut. The shards of a site that can't flush don't count.
    fn flush(&self, group: &mut [Shipped]) {
        let holding: BTreeSet<SiteId> = group.iter().flat_map(Shipped::holding).collect();
        let handles: Vec<_> = holding
            .iter()
            .filter_map(|site| Some((*site, self.archive.site(*site)?)))
            .collect();
        let flushed = self
            .surroundings
            .runtime
            .block_on(join_all(handles.iter().map(|(_, handle)| handle.site.flush())));
        for ((site, _), result) in handles.iter().zip(flushed) {
            let Err(error) = result else { continue };
            self.standing.failed(*site, &error, self.surroundings);
            for shipped in group.iter_mut() {
                let index = shipped.layout.index_of(*site);
                shipped
                    .uploaded
                    .verified
                    .retain(|(verified, _)| Some(*verified) != index);
                let verified = shipped.uploaded.verified.len() as u8;
                shipped.uploaded.state = StripeState::of(&self.quorums, verified);
            }
        }
    }

    fn settle(&self, shipped: Shipped, journal: &mut Journal, settled: &mut Settled) -> Result<(), Stopped> {
        let Shipped {
            record,
            directory,
            layout,
            uploaded,
            ..
        } = shipped;
        let ordinal = record.context.ordinal;
        if let StripeState::Failed { verified } = uploaded.state {
            let (needed, sites) = (self.quorums.data(), self.quorums.sites());
            return Err(self.flow.fail(ReplicateError::StripeFailed {
                ordinal,
                verified,
                needed,
                sites,
            }));
        }
        let entry = SettledStripe {
            record,
            sites: layout.sites().to_vec(),
            verified: uploaded.verified,
            directory: directory.to_bytes(),
        };
        let entry = JournalEntry::Stripe(entry);
        self.flow.check(journal.append(&entry))?;
        let JournalEntry::Stripe(entry) = entry else {
            return Err(Stopped);
        };
        let index = self.flow.check(settled.commit.add_layout(layout, self.quorums))?;
        let event = RunEvent::StripeSettled {
            layout: index,
            state: uploaded.state,
        };
        self.flow.check(settled.commit.handle(event))?;
        let now = self.surroundings.clock.now_unix_seconds();
        let chunks = chunk_refs(self.run, ordinal, &directory);
        let noted = self.surroundings.runtime.block_on(async {
            self.catalog
                .note_stripes(self.run, &[stripe_note(&entry, now)], now)
                .await?;
            self.catalog.insert_chunks(&chunks).await
        });
        self.flow.check(noted)?;
        let ids = chunks.iter().map(|chunk| chunk.id).collect();
        self.on_the_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .settled(ids);
        settled.stripes += 1;
        Progress::add(&self.surroundings.progress.stripes, 1);
        settled.ledger.add(entry.record, entry.sites);
        if settled.ledger.open.len() >= STRIPES_PER_LEDGER_PART {
            self.flow.check(
                settled
                    .ledger
                    .publish(self.archive, self.surroundings, Some(&mut settled.commit)),
            )?;
        }
        Ok(())
    }
}

/// What the catalog keeps of a settled stripe.
pub(super) fn stripe_note(stripe: &SettledStripe, now: i64) -> StripeNote {
    let verified: BTreeSet<u8> = stripe.verified.iter().map(|(index, _)| *index).collect();
    let receipt = |(index, attempt): &(u8, u32)| {
        let site = *stripe.sites.get(usize::from(*index))?;
        let payload = *stripe.record.payloads.get(usize::from(*index))?;
        Some(Receipt {
            index: *index,
            site,
            payload,
            attempt: *attempt,
            seen: now,
        })
    };
    StripeNote {
        ordinal: stripe.record.context.ordinal,
        verified: verified.len() as u8,
        receipts: stripe.verified.iter().filter_map(receipt).collect(),
        owed: (0..)
            .zip(&stripe.sites)
            .filter(|(index, _)| !verified.contains(index))
            .map(|(index, site)| Owed { index, site: *site })
            .collect(),
    }
}

/// The ledger of one run, published in parts.
pub(super) struct Ledger {
    names: ArchiveNames,
    run: RunId,
    pub(super) open: Vec<(StripeRecord, Vec<SiteId>)>,
    pub(super) parts: Vec<RecordHash>,
    pub(super) layouts: Vec<LayoutFrom>,
}

impl Ledger {
    pub(super) fn new(archive: &Archive, run: RunId) -> Self {
        Self {
            names: archive.names,
            run,
            open: Vec::new(),
            parts: Vec::new(),
            layouts: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, record: StripeRecord, sites: Vec<SiteId>) {
        self.open.push((record, sites));
    }

    /// Publishes what is open as one part and tells the machine where it lies.
    pub(super) fn publish(
        &mut self,
        archive: &Archive,
        surroundings: &Surroundings,
        commit: Option<&mut RunCommit>,
    ) -> Result<(), ReplicateError> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.open.sort_by_key(|(record, _)| record.context.ordinal);
        let mut layouts: Vec<LayoutFrom> = Vec::new();
        let mut stripes = Vec::with_capacity(self.open.len());
        for (record, sites) in self.open.drain(..) {
            if layouts.last().is_none_or(|last| last.sites != sites) {
                layouts.push(LayoutFrom {
                    first_ordinal: record.context.ordinal,
                    sites,
                });
            }
            stripes.push(record);
        }
        let part = LedgerPart {
            format: Version1,
            anchor: self.names.anchor(),
            run: self.run,
            part: self.parts.len() as u32,
            layouts: layouts.clone(),
            stripes,
        };
        let bytes = Bytes::from(part.to_bytes()?);
        let hash = RecordHash::of(&bytes);
        self.parts.push(hash);
        // Parts overlap in time, so a layout's beginning may lie before one that is known.
        self.layouts.extend(layouts);
        self.layouts.sort_by_key(|layout| layout.first_ordinal);
        publish_record(archive, surroundings, self.run, RunObject::Ledger, &bytes, commit)?;
        Ok(())
    }
}

/// Puts a companion record at every site and tells the machine where it lies.
pub(super) fn publish_record(
    archive: &Archive,
    surroundings: &Surroundings,
    run: RunId,
    object: RunObject,
    bytes: &Bytes,
    commit: Option<&mut RunCommit>,
) -> Result<RecordHash, ReplicateError> {
    let hash = RecordHash::of(bytes);
    let name = archive.names.run_object(run, object, Tag::of(bytes));
    let published = surroundings.runtime.block_on(publish(&archive.sites, &name, bytes));
    if let Some(commit) = commit {
        commit.handle(RunEvent::RecordMade(hash))?;
        for site in published.sites {
            commit.handle(RunEvent::RecordAt(hash, site))?;
        }
    }
    Ok(hash)
}
