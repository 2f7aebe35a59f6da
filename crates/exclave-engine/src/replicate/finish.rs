//! From stored stripes to a committed head (DESIGN section 6, steps 4 to 8).
//!
//! The machine of `exclave-plan` says what may come next; every step here asks it. The head's exact bytes are fsynced in
//! the journal before the first put, so a crash in between leads to the same bytes again, never to two heads of one seq.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_catalog::Catalog;
use exclave_model::{
    Head, LedgerPart, LiveSet, ManifestRoot, ObjectName, Record, RecordHash, ReuseClaim, RunEntry, RunId, RunObject,
    RunPage, RunStripes, SealedHead, SiteId, Tag, Tripwire, Version1,
    limit::{RUNS_PER_HEAD_MAX, RUNS_PER_PAGE},
};
use exclave_plan::{Layout, Quorums, RunCommit, RunEvent, Verdict};
use exclave_seal::{RunKey, SigningKey, sealed_box::seal_head};

use super::{ReplicateError, look, pack::Packed, recover::chain_behind_journals, ship::publish_record};
use crate::{
    archive::Archive,
    collect::Marks,
    journal::{Journal, JournalEntry, JournalledHead},
    log::write::CommittedHead,
    publish::publish,
    state::{AgentState, Dataset, RunNote},
    surroundings::Surroundings,
};

/// A day, in seconds.
const DAY_S: i64 = 86_400;
/// How long a shard that was seen counts without being looked for again.
const SEEN_SECONDS: i64 = 24 * 3600;
/// Most shards of one run that are listed at one site.
pub(super) const LISTED_MAX: usize = 10_000_000;

/// What finishing needs.
pub(super) struct Finish<'a> {
    pub(super) archive: &'a Archive,
    pub(super) state: &'a AgentState,
    pub(super) catalog: &'a Catalog,
    pub(super) surroundings: &'a Surroundings,
    pub(super) dataset: &'a Dataset,
    pub(super) key: &'a SigningKey,
    pub(super) run: RunId,
    pub(super) run_key: &'a RunKey,
    pub(super) quorums: Quorums,
    /// Runs that may be referred to, this one not among them.
    pub(super) notes: &'a BTreeMap<RunId, RunNote>,
    pub(super) tips: Vec<RecordHash>,
    /// Sites that answered before the run began.
    pub(super) reachable: &'a BTreeSet<SiteId>,
    /// Sites whose bucket locks by itself what is put, and for how many days.
    pub(super) locks: &'a BTreeMap<SiteId, u32>,
}

/// Tells the catalog what reapers marked, so that no look-up finds it any more. A mark may name four billion stripes of a
/// run; those that the catalog knows are all that could be reused.
pub(super) fn note_marks(catalog: &Catalog, surroundings: &Surroundings, marks: &Marks) -> Result<(), ReplicateError> {
    surroundings.runtime.block_on(async {
        for (run, stripes) in &marks.stripes {
            if catalog.run(*run).await?.is_none() {
                continue;
            }
            let known = catalog.stripe_health(*run, 0..u32::MAX, 0).await?;
            let known = known
                .iter()
                .filter(|stripe| !stripe.marked)
                .map(|stripe| stripe.ordinal);
            let newly: LiveSet = known.filter(|ordinal| stripes.contains(*ordinal)).collect();
            catalog.mark_stripes(*run, &newly).await?;
        }
        Ok(())
    })
}

/// What became of the head.
pub(super) struct Finished {
    pub(super) verdict: Verdict,
    pub(super) seq: u64,
    pub(super) hash: RecordHash,
    pub(super) sites: usize,
    /// Sites that don't lock what was just put, though they did when they were checked.
    pub(super) unlocked: Vec<String>,
    /// What the log wants to know.
    pub(super) logged: CommittedHead,
}

impl Finish<'_> {
    /// Claims what is reused, and counts how much of it is there.
    pub(super) fn claim_reused(
        &self,
        commit: &mut RunCommit,
        live: &BTreeMap<RunId, LiveSet>,
    ) -> Result<(), ReplicateError> {
        let reused: Vec<RunStripes> = live
            .iter()
            .filter(|(run, _)| **run != self.run)
            .map(|(run, stripes)| RunStripes {
                run: *run,
                stripes: stripes.clone(),
            })
            .collect();
        if reused.is_empty() {
            return Ok(());
        }
        // Every layout that the snapshot refers to must hold the claim, so all of them are known first.
        for stripes in &reused {
            for ordinal in stripes.stripes.iter() {
                self.layout(stripes.run, ordinal)
                    .map(|layout| commit.add_layout(layout, self.quorums))
                    .transpose()?;
            }
        }
        let claim = ReuseClaim {
            format: Version1,
            anchor: self.archive.anchor,
            run: self.run,
            stripes: reused,
        };
        let object = Bytes::from(
            self.key
                .sign(&claim, &mut *self.surroundings.entropy.entropy())?
                .to_bytes(),
        );
        let name = self
            .archive
            .names
            .run_object(self.run, RunObject::Reuse, Tag::of(&object));
        commit.handle(RunEvent::ReuseClaimMade)?;
        for site in self
            .surroundings
            .runtime
            .block_on(publish(&self.archive.sites, &name, &object))
            .sites
        {
            commit.handle(RunEvent::ReuseClaimAt(site))?;
        }
        self.obey_marks(commit, &claim)?;
        for stripes in &claim.stripes {
            self.count_reused(commit, stripes)?;
        }
        Ok(())
    }

    /// Looks for collection marks after the claim lies at its quorum: of a collector and us, one sees the other.
    ///
    /// What was marked before the run began is not among what it reuses. What was marked since is never referred to: the
    /// next run sends it anew, under fresh names, and takes over everything else.
    fn obey_marks(&self, commit: &mut RunCommit, claim: &ReuseClaim) -> Result<(), ReplicateError> {
        let runtime = &self.surroundings.runtime;
        let marks = runtime.block_on(Marks::read(self.archive));
        let marked = claim.stripes.iter().map(|stripes| (stripes.run, marks.among(stripes)));
        if let Some((run, _)) = marked.clone().find(|(_, stripes)| !stripes.is_empty()) {
            note_marks(self.catalog, self.surroundings, &marks)?;
            let stripes = marked.map(|(_, stripes)| stripes.len()).sum();
            return Err(ReplicateError::Marked { run, stripes });
        }
        for site in marks.read_from {
            commit.handle(RunEvent::MarksReadFrom(site))?;
        }
        Ok(())
    }

    fn layout(&self, run: RunId, ordinal: u32) -> Option<Layout> {
        Layout::from_sites(self.notes.get(&run)?.layout_of(ordinal).to_vec())
    }

    fn count_reused(&self, commit: &mut RunCommit, stripes: &RunStripes) -> Result<(), ReplicateError> {
        let RunStripes { run, stripes } = stripes;
        let since = self.surroundings.clock.now_unix_seconds() - SEEN_SECONDS;
        let seen = look::seen_anew(self, *run, stripes, since)?;
        for ordinal in stripes.iter() {
            let Some(layout) = self.layout(*run, ordinal) else {
                return Err(ReplicateError::UnknownLayout { run: *run, ordinal });
            };
            let layout = commit.add_layout(layout, self.quorums)?;
            let verified = seen.get(&ordinal).copied().unwrap_or(0);
            if verified < self.quorums.data() {
                // Never referred to again: the next run writes these chunks anew from the source.
                let lost: LiveSet = [ordinal].into_iter().collect();
                self.surroundings
                    .runtime
                    .block_on(self.catalog.mark_stripes(*run, &lost))?;
            }
            commit.handle(RunEvent::StripeReused { layout, verified })?;
        }
        Ok(())
    }

    /// Brings the records of runs that are referred to up to their quorum. Their ledgers must list all that is needed.
    pub(super) fn refresh_records(
        &self,
        commit: &mut RunCommit,
        live: &BTreeMap<RunId, LiveSet>,
    ) -> Result<(), ReplicateError> {
        for (note, needed) in live
            .iter()
            .filter_map(|(run, needed)| Some((self.notes.get(run)?, needed)))
        {
            let mut listed = LiveSet::default();
            for hash in &note.ledgers {
                let tag = Tag::of_hash(hash.as_bytes());
                let name = self.archive.names.run_object(note.run, RunObject::Ledger, tag);
                let bytes_max = exclave_model::limit::RECORD_BYTES_MAX;
                let fetched = self
                    .surroundings
                    .runtime
                    .block_on(self.archive.fetch(&name, bytes_max, |bytes| {
                        (RecordHash::of(bytes) == *hash).then(|| bytes.clone())
                    }));
                let Some(bytes) = fetched.0 else {
                    return Err(ReplicateError::LedgerGone { run: note.run });
                };
                let part = LedgerPart::from_bytes(&bytes)?;
                part.stripes
                    .iter()
                    .for_each(|stripe| listed.insert(stripe.context.ordinal));
                publish_record(
                    self.archive,
                    self.surroundings,
                    note.run,
                    RunObject::Ledger,
                    &bytes,
                    Some(commit),
                )?;
            }
            self.all_listed(note.run, needed, &listed)?;
        }
        Ok(())
    }

    /// Refuses a reference to a stripe that no ledger lists: nobody could restore it. The catalog forgets it, so that the
    /// next run writes its chunks anew.
    fn all_listed(&self, run: RunId, needed: &LiveSet, listed: &LiveSet) -> Result<(), ReplicateError> {
        let missing: LiveSet = needed.iter().filter(|ordinal| !listed.contains(*ordinal)).collect();
        let Some(ordinal) = missing.iter().next() else {
            return Ok(());
        };
        self.surroundings
            .runtime
            .block_on(self.catalog.mark_stripes(run, &missing))?;
        Err(ReplicateError::NotListed { run, ordinal })
    }

    /// Writes the run table; its pages' hashes, in order, and the notes that the next run begins with.
    pub(super) fn write_run_table(
        &self,
        commit: &mut RunCommit,
        live: &BTreeMap<RunId, LiveSet>,
        own: RunNote,
    ) -> Result<(Vec<RecordHash>, Vec<RunNote>), ReplicateError> {
        let mut notes = vec![own];
        for run in live.keys().filter(|run| **run != self.run) {
            let note = self
                .notes
                .get(run)
                .ok_or(ReplicateError::UnknownLayout { run: *run, ordinal: 0 })?;
            notes.push(note.clone());
        }
        if notes.len() > RUNS_PER_HEAD_MAX {
            return Err(ReplicateError::TooManyRuns(notes.len()));
        }
        notes.sort_by_key(|note| note.run);
        let entries: Vec<RunEntry> = notes
            .iter()
            .map(|note| {
                let live = live.get(&note.run).cloned().unwrap_or_default();
                let ledgers = if live.is_empty() {
                    Vec::new()
                } else {
                    note.ledgers.clone()
                };
                RunEntry {
                    run: note.run,
                    commitment: note.commitment,
                    live,
                    ledgers,
                }
            })
            .collect();
        let mut hashes = Vec::new();
        for runs in entries.chunks(RUNS_PER_PAGE) {
            let page = RunPage {
                format: Version1,
                anchor: self.archive.anchor,
                runs: runs.to_vec(),
            };
            let bytes = Bytes::from(page.to_bytes()?);
            hashes.push(publish_record(
                self.archive,
                self.surroundings,
                self.run,
                RunObject::Live,
                &bytes,
                Some(commit),
            )?);
        }
        Ok((hashes, notes))
    }

    /// The sealed part of the head.
    pub(super) fn seal(&self, packed: &Packed, described: Described<'_>) -> Result<Vec<u8>, ReplicateError> {
        let sealed = SealedHead {
            name: self.dataset.name.clone(),
            label: described.label.to_owned(),
            started: described.started,
            finished: self.surroundings.clock.now_unix_seconds(),
            source: described.source,
            source_digest: described.source_digest,
            counts: packed.counts,
            root: ManifestRoot {
                level: packed.root.level,
                page: packed.root.page,
            },
            dataset_secret: *self.dataset.secret.to_bytes(),
            cutter: described.cutter,
        };
        Ok(seal_head(
            self.run_key,
            &sealed,
            &mut *self.surroundings.entropy.entropy(),
        )?)
    }

    /// Journals the head, puts it everywhere, reads it back.
    pub(super) fn put_head(
        &self,
        commit: &mut RunCommit,
        journal: &mut Journal,
        said: Said,
        notes: &[RunNote],
    ) -> Result<Finished, ReplicateError> {
        commit.allows(exclave_plan::RunStep::JournalHead)?;
        let safety = commit.safety().ok_or(ReplicateError::NothingStored)?;
        let _chain_lock = self.state.lock_chain()?;
        let mut chain = chain_behind_journals(self.state, Some(self.run))?;
        let head = Head {
            format: Version1,
            anchor: self.archive.anchor,
            dataset: self.dataset.id,
            writer: self.key.id(),
            incarnation: chain.incarnation,
            seq: chain.next_seq,
            previous: chain.previous,
            tips: self.tips.clone(),
            charter_version: self.archive.charter().version,
            verified_min: safety.verified_min,
            state: safety.state,
            debt: safety.debt,
            run: self.run,
            run_pages: said.run_pages,
            sealed: said.sealed,
            tripwires: (!said.tripwires.is_empty()).then_some(said.tripwires),
        };
        let object = self.key.sign(&head, &mut *self.surroundings.entropy.entropy())?;
        let hash = object.record_hash();
        let bytes = Bytes::from(object.to_bytes());
        let mut layouts: Vec<_> = notes
            .iter()
            .flat_map(|note| note.layouts.iter().map(|layout| layout.sites.clone()))
            .collect();
        layouts.sort();
        layouts.dedup();
        journal.append(&JournalEntry::Head(JournalledHead {
            seq: head.seq,
            hash,
            object: bytes.to_vec(),
            layouts,
            quorum: self.quorums.heads(),
            runs: notes.to_vec(),
        }))?;
        commit.handle(RunEvent::HeadJournalled)?;
        chain.next_seq += 1;
        chain.previous = Some(hash);
        self.state.save_chain(&chain)?;
        let name = self
            .archive
            .names
            .head(head.writer, head.incarnation, head.seq, Tag::of(&bytes));
        let published = self
            .surroundings
            .runtime
            .block_on(publish(&self.archive.sites, &name, &bytes));
        for site in &published.sites {
            commit.handle(RunEvent::HeadAt(*site))?;
        }
        let local_now = self.surroundings.clock.now_unix_seconds();
        let unlocked = unlocked(self.archive, &name, self.locks, local_now);
        Ok(Finished {
            verdict: commit.verdict(),
            seq: head.seq,
            hash,
            sites: published.count(),
            unlocked: self.surroundings.runtime.block_on(unlocked),
            logged: CommittedHead {
                incarnation: head.incarnation,
                seq: head.seq,
                hash,
                previous: head.previous,
                charter_version: head.charter_version,
            },
        })
    }
}

/// What the head says of the snapshot, beside what follows from the commit.
pub(super) struct Said {
    pub(super) sealed: Vec<u8>,
    pub(super) run_pages: Vec<RecordHash>,
    pub(super) tripwires: Vec<Tripwire>,
}

/// Looks whether an object that was put a moment ago is locked for as long as its sites' buckets were seen to lock what is put.
/// Days count from the site's own clock, so a wrong local one neither hides a short lock nor finds one (THREATS A9). A site that
/// doesn't say is none that lies: `site check` tells that.
async fn unlocked(archive: &Archive, name: &ObjectName, locks: &BTreeMap<SiteId, u32>, local_now: i64) -> Vec<String> {
    let mut alarms = Vec::new();
    for handle in &archive.sites {
        let days = handle.id.and_then(|id| locks.get(&id));
        let (Some(days), Some(versions)) = (days, handle.site.versions()) else {
            continue;
        };
        let Ok(found) = versions.lock_of(name, None).await else {
            continue;
        };
        let now = handle.site.date().await.unwrap_or(local_now);
        // A day for clocks, and for buckets that count whole days.
        let wanted = now.saturating_add((i64::from(*days) - 1).saturating_mul(DAY_S));
        if found.is_none_or(|locked| locked.until < wanted) {
            alarms.push(format!(
                "{}: what is put there is not locked for {days} days, as it was when the site was checked",
                handle.name
            ));
        }
    }
    alarms
}

/// What the request says about the snapshot.
pub(super) struct Described<'a> {
    pub(super) label: &'a str,
    pub(super) started: i64,
    pub(super) source: exclave_model::SourceKind,
    pub(super) source_digest: [u8; 32],
    pub(super) cutter: String,
}
