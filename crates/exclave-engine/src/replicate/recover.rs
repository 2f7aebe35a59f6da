//! Runs that died: a head that was journalled is put again, what was stored is taken over, nothing is sent twice.
//!
//! A journal whose head was fsynced ends the run it belongs to: the same bytes go to the sites again (I1: all that the
//! head names was durable before it was written). A journal without a head gives its stripes to the catalog, so that the
//! next run refers to them; its ledger is published on its behalf, and it is closed once that next run has committed.
//!
//! A journal may also be an old copy that a backup brought back, of a run that went on after it. It is told by what the
//! catalog knows beyond it, and forgotten: its ledger would list fewer stripes than are referred to.

use std::{collections::BTreeSet, path::PathBuf};

use bytes::Bytes;
use exclave_catalog::{Catalog, RunRecord, RunState};
use exclave_model::{Anchor, Close, DatasetId, RunId, RunObject, SignedObject, Tag, Version1};
use exclave_seal::SigningKey;

use super::{
    ReplicateError,
    ship::{Ledger, stripe_note},
};
use crate::{
    archive::Archive,
    directory_tail,
    journal::{self, Begun, JournalEntry, JournalledHead, SettledStripe},
    local,
    publish::publish,
    state::{AgentState, Chain, RunNote},
    surroundings::Surroundings,
};

/// A run without a head whose process has died.
pub(super) struct DeadRun {
    pub(super) note: RunNote,
    begun: Begun,
    path: PathBuf,
}

/// What was found and done.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) dead: Vec<DeadRun>,
    /// Stripes that were taken over.
    pub(super) stripes: u64,
    /// Heads that were journalled and are now at their quorum.
    pub(super) heads_completed: u64,
    /// Heads that still lack sites.
    pub(super) heads_below_quorum: u64,
}

/// Looks after every dead run of a dataset, whose lock the caller holds.
pub(super) fn recover(
    archive: &Archive,
    state: &AgentState,
    catalog: &Catalog,
    dataset: DatasetId,
    key: &SigningKey,
    surroundings: &Surroundings,
) -> Result<Recovered, ReplicateError> {
    let mut recovered = Recovered::default();
    for path in state.journals()? {
        let (entries, _) = journal::read(&path)?;
        let mut entries = entries.into_iter();
        let Some(JournalEntry::Begun(begun)) = entries.next() else {
            // Power went before the first entry was whole: nothing had been put. Or its run is just beginning.
            journal::remove_empty(&path)?;
            continue;
        };
        if begun.dataset != dataset {
            continue;
        }
        let (mut stripes, mut head, mut committed) = (Vec::new(), None, false);
        for entry in entries {
            match entry {
                JournalEntry::Begun(_) => {}
                JournalEntry::Stripe(stripe) => stripes.push(stripe),
                JournalEntry::Head(journalled) => head = Some(journalled),
                JournalEntry::Committed => committed = true,
            }
        }
        if overtaken(catalog, surroundings, begun.run, &stripes)? {
            local::remove(&path)?;
            continue;
        }
        replay(catalog, surroundings, &begun, key, &stripes)?;
        match head {
            Some(head) => {
                let completed = committed || complete_head(archive, state, &begun, &head, surroundings)?;
                if !completed {
                    recovered.heads_below_quorum += 1;
                    continue;
                }
                recovered.heads_completed += u64::from(!committed);
                finish_completed(archive, state, catalog, &begun, &head, key, surroundings)?;
                local::remove(&path)?;
            }
            None => {
                recovered.stripes += stripes.len() as u64;
                let note = take_over(archive, catalog, &begun, stripes, surroundings)?;
                recovered.dead.push(DeadRun { note, begun, path });
            }
        }
    }
    Ok(recovered)
}

/// True when the catalog knows that a run was committed, or a stripe of it that its journal lacks. A run journals first,
/// and removes its journal soon after it has committed; all that may be left undone between the two is its last word.
fn overtaken(
    catalog: &Catalog,
    surroundings: &Surroundings,
    run: RunId,
    journalled: &[SettledStripe],
) -> Result<bool, ReplicateError> {
    let Some(known) = surroundings.runtime.block_on(catalog.run(run))? else {
        return Ok(false);
    };
    match known.state {
        RunState::Committed | RunState::Provisional => Ok(true),
        RunState::Open | RunState::Adopted | RunState::Abandoned => {
            let journalled: BTreeSet<u32> = journalled.iter().map(|stripe| stripe.record.context.ordinal).collect();
            let known = surroundings
                .runtime
                .block_on(catalog.stripe_health(run, 0..u32::MAX, 0))?;
            Ok(known.iter().any(|stripe| !journalled.contains(&stripe.ordinal)))
        }
    }
}

/// Gives the catalog what the journal knows; all of it may be there already.
fn replay(
    catalog: &Catalog,
    surroundings: &Surroundings,
    begun: &Begun,
    key: &SigningKey,
    stripes: &[SettledStripe],
) -> Result<(), ReplicateError> {
    let record = RunRecord {
        run: begun.run,
        dataset: begun.dataset,
        class: begun.class,
        label_digest: begun.label_digest,
        crypto_epoch: begun.crypto_epoch,
        writer: key.id(),
        incarnation: begun.incarnation,
        started: begun.started,
    };
    surroundings.runtime.block_on(async {
        catalog.begin_run(&record).await?;
        for stripe in stripes {
            let note = stripe_note(stripe, begun.started);
            catalog.note_stripes(begun.run, &[note], begun.started).await?;
            if let Some(directory) = directory_tail::read(&stripe.directory) {
                let chunks = directory_tail::chunk_refs(begun.run, stripe.record.context.ordinal, &directory);
                catalog.insert_chunks(&chunks).await?;
            }
        }
        Ok::<(), exclave_catalog::CatalogError>(())
    })?;
    Ok(())
}

/// The writer's place in its chain, behind every head that is in a journal. The caller holds the chain.
///
/// A process that died, or failed, between its journal and the chain's own file has taken a place, whichever dataset it
/// worked on: a head of another dataset must not take it a second time. `own` is a run whose head isn't written yet: its
/// journal may be long, and needs no look.
pub(super) fn chain_behind_journals(state: &AgentState, own: Option<RunId>) -> Result<Chain, ReplicateError> {
    let mut chain = state.chain()?;
    let own = own.map(|run| state.journal_path(run));
    let mut heads = Vec::new();
    for path in state.journals()?.into_iter().filter(|path| Some(path) != own.as_ref()) {
        let mut entries = journal::read(&path)?.0.into_iter();
        let Some(JournalEntry::Begun(begun)) = entries.next() else {
            continue;
        };
        if begun.incarnation != chain.incarnation {
            continue;
        }
        heads.extend(entries.filter_map(|entry| match entry {
            JournalEntry::Head(head) => Some((head.seq, head.hash)),
            JournalEntry::Begun(_) | JournalEntry::Stripe(_) | JournalEntry::Committed => None,
        }));
    }
    let Some((seq, hash)) = heads.into_iter().max() else {
        return Ok(chain);
    };
    if seq >= chain.next_seq {
        chain.next_seq = seq + 1;
        chain.previous = Some(hash);
        state.save_chain(&chain)?;
    }
    Ok(chain)
}

/// Puts a journalled head's exact bytes again; true when it is at its quorum.
fn complete_head(
    archive: &Archive,
    state: &AgentState,
    begun: &Begun,
    head: &JournalledHead,
    surroundings: &Surroundings,
) -> Result<bool, ReplicateError> {
    let _chain_lock = state.lock_chain()?;
    chain_behind_journals(state, None)?;
    let object = Bytes::from(head.object.clone());
    let writer = SignedObject::from_bytes(&object, exclave_model::limit::HEAD_BYTES_MAX)?.signatures()[0].key;
    let name = archive
        .names
        .head(writer, begun.incarnation, head.seq, Tag::of(&object));
    let published = surroundings.runtime.block_on(publish(&archive.sites, &name, &object));
    Ok(head
        .layouts
        .iter()
        .all(|layout| published.count_in(layout) >= usize::from(head.quorum)))
}

fn finish_completed(
    archive: &Archive,
    state: &AgentState,
    catalog: &Catalog,
    begun: &Begun,
    head: &JournalledHead,
    key: &SigningKey,
    surroundings: &Surroundings,
) -> Result<(), ReplicateError> {
    state.save_run_notes(begun.dataset, &head.runs)?;
    surroundings
        .runtime
        .block_on(catalog.finish_run(begun.run, RunState::Committed))?;
    close(archive, begun.run, begun.incarnation, key, surroundings)
}

/// Makes a dead run's stripes usable: envelope and ledger at the sites, its run known as adopted.
fn take_over(
    archive: &Archive,
    catalog: &Catalog,
    begun: &Begun,
    stripes: Vec<SettledStripe>,
    surroundings: &Surroundings,
) -> Result<RunNote, ReplicateError> {
    let envelope = Bytes::from(begun.envelope.clone());
    let name = archive
        .names
        .run_object(begun.run, RunObject::Envelope, Tag::of(&envelope));
    surroundings.runtime.block_on(publish(&archive.sites, &name, &envelope));
    let mut ledger = Ledger::new(archive, begun.run);
    for stripe in stripes {
        ledger.add(stripe.record, stripe.sites);
        if ledger.open.len() >= exclave_model::limit::STRIPES_PER_LEDGER_PART {
            ledger.publish(archive, surroundings, None)?;
        }
    }
    ledger.publish(archive, surroundings, None)?;
    surroundings
        .runtime
        .block_on(catalog.finish_run(begun.run, RunState::Adopted))?;
    Ok(RunNote {
        run: begun.run,
        commitment: begun.commitment,
        ledgers: ledger.parts,
        layouts: ledger.layouts,
    })
}

impl DeadRun {
    /// Says the run's last word and forgets its journal, now that a head covers what is used of it.
    pub(super) fn close(
        self,
        archive: &Archive,
        key: &SigningKey,
        surroundings: &Surroundings,
    ) -> Result<(), ReplicateError> {
        close(archive, self.begun.run, self.begun.incarnation, key, surroundings)?;
        Ok(local::remove(&self.path)?)
    }
}

/// Publishes a run's signed last word. It is needed by collection only, so sites that miss it are no failure.
pub(super) fn close(
    archive: &Archive,
    run: RunId,
    incarnation: exclave_model::Incarnation,
    key: &SigningKey,
    surroundings: &Surroundings,
) -> Result<(), ReplicateError> {
    let anchor: Anchor = archive.anchor;
    let record = Close {
        format: Version1,
        anchor,
        run,
        incarnation,
    };
    let object = key.sign(&record, &mut *surroundings.entropy.entropy())?;
    let bytes = Bytes::from(object.to_bytes());
    let name = archive.names.run_object(run, RunObject::Close, Tag::of(&bytes));
    surroundings.runtime.block_on(publish(&archive.sites, &name, &bytes));
    Ok(())
}
