//! One run: its scope, its stripes, which of their shards are there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use exclave_catalog::{Catalog, Owed, Receipt, RunRecord, RunState, StripeNote};
use exclave_model::{
    Head, KeyId, LayoutFrom, RunEntry, RunId, ShardName, SiteId, StripeRecord, Tag, charter::Act,
    name::STRIPES_PER_FOLDER,
};
use exclave_seal::sealed_box::{open_head, open_label};

use super::{
    Journalled, RebuildError, Source,
    report::{Findings, LeftOut, RebuildFinding, RebuiltDataset, StripeGap},
};
use crate::{
    archive::Archive,
    fetch::ledger::Ledgers,
    journal::Begun,
    restore::Stripes,
    snapshot::OpenedRun,
    state::RunNote,
    surroundings::{Progress, Surroundings},
    survey::Survey,
};

/// Names of one folder of shards that are read at one site: a full folder, and as many repeated puts.
const FOLDER_NAMES_MAX: usize = 2 * STRIPES_PER_FOLDER as usize;

/// Stripes noted in one transaction: some thousand rows with their receipts.
const NOTED_AT_ONCE: usize = 256;

/// When a run began that nobody can date: before all others, so that excluding old runs excludes it.
const UNDATED: i64 = 0;

/// What the runs of one dataset are refilled with.
pub(super) struct Runs<'a> {
    pub(super) archive: &'a Archive,
    pub(super) catalog: &'a Catalog,
    pub(super) surroundings: &'a Surroundings,
    pub(super) own: &'a Survey,
    /// This agent's key, and those of writers that it succeeds.
    pub(super) writers: &'a BTreeSet<KeyId>,
    pub(super) journalled: &'a BTreeMap<RunId, Journalled>,
    pub(super) source: &'a Source<'a>,
    pub(super) stripes: Arc<Stripes>,
    pub(super) findings: &'a mut Findings,
    pub(super) rebuilt: &'a mut RebuiltDataset,
}

/// A run that has a row in the catalog.
struct Begin {
    state: RunState,
    /// Its key and label, when there is an identity.
    opened: Option<Labelled>,
}

/// A run's key, and the label that its stripes must bear.
#[derive(Clone)]
pub(super) struct Labelled {
    pub(super) run: Arc<OpenedRun>,
    pub(super) label: Arc<str>,
}

/// A stripe's ledger line.
pub(super) struct Line {
    pub(super) record: Arc<StripeRecord>,
    pub(super) layout: Vec<SiteId>,
}

impl Line {
    pub(super) fn ordinal(&self) -> u32 {
        self.record.context.ordinal
    }
}

impl Runs<'_> {
    /// Refills what is known of a run; what the next one must know to refer to its stripes.
    pub(super) fn refill(&mut self, entry: &RunEntry) -> Result<RunNote, RebuildError> {
        let begin = self.begin(entry)?;
        let mut ledgers = Ledgers::new(self.archive.anchor, Arc::clone(self.source.book), self.source.head.run);
        let mut layouts: Vec<LayoutFrom> = Vec::new();
        let mut ordinals = entry.live.iter().peekable();
        while let Some(first) = ordinals.next() {
            let same_folder = |ordinal: &u32| ordinal / STRIPES_PER_FOLDER == first / STRIPES_PER_FOLDER;
            let mut window = vec![first];
            while let Some(next) = ordinals.next_if(same_folder) {
                window.push(next);
            }
            let before = self.bytes_fetched();
            let lines = self.lines(&mut ledgers, entry, &window);
            for line in &lines {
                if layouts.last().is_none_or(|last| last.sites != line.layout) {
                    layouts.push(LayoutFrom {
                        first_ordinal: line.ordinal(),
                        sites: line.layout.clone(),
                    });
                }
            }
            if let Some(begin) = &begin {
                let noted = self.note(entry.run, lines)?;
                if let Some(opened) = &begin.opened {
                    self.index(opened, noted)?;
                }
            }
            let fetched = self.bytes_fetched().saturating_sub(before);
            Progress::add(&self.surroundings.progress.bytes_moved, fetched);
            self.go_on()?;
        }
        match begin {
            Some(begin) => self.finish(entry.run, begin.state)?,
            None => self.rebuilt.runs_left_out += 1,
        }
        Ok(RunNote {
            run: entry.run,
            commitment: entry.commitment,
            ledgers: entry.ledgers.clone(),
            layouts,
        })
    }

    /// Gives the run its row; `None` when it is left out.
    fn begin(&mut self, entry: &RunEntry) -> Result<Option<Begin>, RebuildError> {
        let run = entry.run;
        let opened = self.open(entry);
        let known = self.surroundings.runtime.block_on(self.catalog.run(run))?;
        let journalled = self.journalled.get(&run);
        let (record, state) = match (known, journalled, &opened) {
            (Some(known), _, _) => (known.record, known.state),
            (None, Some(Journalled { begun, .. }), _) => (self.as_journalled(begun), RunState::Open),
            (None, None, Ok(opened)) => (self.as_in_envelope(run, opened), RunState::Open),
            (None, None, Err(_)) => {
                if let Err(why) = opened {
                    self.findings.add(RebuildFinding::Run { run, why });
                }
                return Ok(None);
            }
        };
        self.surroundings.runtime.block_on(self.catalog.begin_run(&record))?;
        let opened = match opened {
            Ok(opened) => Some(opened),
            Err(LeftOut::NoIdentity) => None,
            Err(why) => {
                self.findings.add(RebuildFinding::Run { run, why });
                None
            }
        };
        Ok(Some(Begin { state, opened }))
    }

    /// The run's key and label, out of an envelope that this agent signed.
    fn open(&self, entry: &RunEntry) -> Result<Labelled, LeftOut> {
        let keys = self.source.keys.ok_or(LeftOut::NoIdentity)?;
        let opening = keys.open(entry.run, entry.commitment, self.rebuilt.id);
        let run = self.surroundings.runtime.block_on(opening).map_err(LeftOut::Key)?;
        if !self.writers.contains(&run.writer) && !self.is_restorer(run.writer) {
            return Err(LeftOut::Foreign(run.writer));
        }
        let label = open_label(&run.key, &run.label).map_err(|_| LeftOut::Label)?;
        Ok(Labelled {
            run,
            label: label.into(),
        })
    }

    /// A restorer wraps the keys of others' runs.
    fn is_restorer(&self, key: KeyId) -> bool {
        let mut versions = self.archive.charters.iter();
        versions.any(|charter| charter.permit(key, Act::Rewrap).is_ok())
    }

    fn as_journalled(&self, begun: &Begun) -> RunRecord {
        RunRecord {
            run: begun.run,
            dataset: begun.dataset,
            class: begun.class,
            label_digest: begun.label_digest,
            crypto_epoch: begun.crypto_epoch,
            writer: self.source.head.writer,
            incarnation: begun.incarnation,
            started: begun.started,
        }
    }

    fn as_in_envelope(&self, run: RunId, opened: &Labelled) -> RunRecord {
        // When it began stands in its own head alone, if it has one.
        let sealed = |head: &Head| open_head(&opened.run.key, &head.sealed).ok();
        let started = self.heads_of(run).find_map(|head| Some(sealed(head)?.started));
        RunRecord {
            run,
            dataset: self.rebuilt.id,
            class: opened.run.class,
            label_digest: *blake3::hash(opened.label.as_bytes()).as_bytes(),
            crypto_epoch: opened.run.crypto_epoch,
            writer: match self.writers.contains(&opened.run.writer) {
                true => opened.run.writer,
                false => self.source.head.writer,
            },
            incarnation: opened.run.incarnation,
            started: started.unwrap_or(UNDATED),
        }
    }

    fn finish(&mut self, run: RunId, state: RunState) -> Result<(), RebuildError> {
        self.rebuilt.runs += 1;
        let has_head = match self.journalled.get(&run) {
            Some(journalled) => journalled.has_head,
            None => self.heads_of(run).next().is_some(),
        };
        let next = match (state, has_head) {
            // A head refers to it, so it is over.
            (RunState::Open, true) => RunState::Committed,
            // That head is another run's, which took it over.
            (RunState::Open, false) | (RunState::Abandoned, _) => RunState::Adopted,
            (state @ (RunState::Committed | RunState::Provisional | RunState::Adopted), _) => state,
        };
        Ok(self.surroundings.runtime.block_on(self.catalog.finish_run(run, next))?)
    }

    /// The heads that a run's key opens: its own, and heartbeats that repeat it.
    fn heads_of(&self, run: RunId) -> impl Iterator<Item = &Head> {
        let heads = self.own.found.values().map(|found| &found.head);
        heads.filter(move |head| head.run == run)
    }

    fn lines(&mut self, ledgers: &mut Ledgers, entry: &RunEntry, window: &[u32]) -> Vec<Line> {
        let mut lines = Vec::with_capacity(window.len());
        for ordinal in window {
            match self.surroundings.runtime.block_on(ledgers.line(entry, *ordinal)) {
                Ok(line) => lines.push(Line {
                    record: Arc::new(line.record),
                    layout: line.layout,
                }),
                Err(error) => self.leave_out(entry.run, *ordinal, StripeGap::Ledger(error)),
            }
        }
        lines
    }

    fn leave_out(&mut self, run: RunId, ordinal: u32, why: StripeGap) {
        self.rebuilt.stripes_left_out += 1;
        self.findings.add(RebuildFinding::Stripe { run, ordinal, why });
    }

    /// Notes the stripes of one folder that have enough shards; these.
    fn note(&mut self, run: RunId, lines: Vec<Line>) -> Result<Vec<Line>, RebuildError> {
        let Some(first) = lines.first().map(Line::ordinal) else {
            return Ok(lines);
        };
        let listed = self.listed(run, first);
        let now = self.surroundings.clock.now_unix_seconds();
        let (mut noted, mut notes) = (Vec::with_capacity(lines.len()), Vec::with_capacity(lines.len()));
        for line in lines {
            let note = note_of(&line, &listed, now);
            let (found, needed) = (note.verified, line.record.context.data);
            if found < needed {
                self.leave_out(run, line.ordinal(), StripeGap::TooFew { found, needed });
                continue;
            }
            self.rebuilt.stripes += 1;
            self.rebuilt.shards += note.receipts.len() as u64;
            self.rebuilt.shards_owed += note.owed.len() as u64;
            notes.push(note);
            noted.push(line);
        }
        Progress::add(&self.surroundings.progress.stripes, notes.len() as u64);
        for notes in notes.chunks(NOTED_AT_ONCE) {
            let noting = self.catalog.note_stripes(run, notes, now);
            self.surroundings.runtime.block_on(noting)?;
        }
        Ok(noted)
    }

    /// The shards that the charter's sites list in a folder.
    fn listed(&self, run: RunId, ordinal: u32) -> Listed {
        let names = &self.archive.names;
        let prefix = names.shards_folder(run, ordinal);
        let listing = self.archive.list_everywhere(&prefix, FOLDER_NAMES_MAX);
        let (listings, _) = self.surroundings.runtime.block_on(listing);
        let mut listed = Listed::new();
        for (at, listing) in listings {
            let Some(site) = self.archive.sites.get(at).and_then(|handle| handle.id) else {
                continue;
            };
            for entry in &listing.entries {
                let Some(shard) = ShardName::parse(names, &entry.name).filter(|shard| shard.run == run) else {
                    continue;
                };
                let attempt = listed
                    .entry((site, shard.ordinal, shard.index, shard.tag))
                    .or_insert(shard.attempt);
                *attempt = shard.attempt.min(*attempt);
            }
        }
        listed
    }

    fn bytes_fetched(&self) -> u64 {
        self.source.book.tallies().iter().map(|tally| tally.bytes).sum()
    }

    /// Ends the work when someone asked to stop.
    pub(super) fn go_on(&self) -> Result<(), RebuildError> {
        match self.surroundings.progress.stop_asked() {
            true => Err(RebuildError::Interrupted {
                stripes: Progress::get(&self.surroundings.progress.stripes),
            }),
            false => Ok(()),
        }
    }
}

/// The least attempt under which a site lists a shard.
type Listed = HashMap<(SiteId, u32, u8, Tag), u32>;

/// A shard counts at the site that its layout names: two shards at one site are lost together.
fn note_of(line: &Line, listed: &Listed, now: i64) -> StripeNote {
    let (mut receipts, mut owed) = (Vec::new(), Vec::new());
    for ((index, site), payload) in (0u8..).zip(&line.layout).zip(&line.record.payloads) {
        let tag = Tag::of_hash(payload.as_bytes());
        match listed.get(&(*site, line.ordinal(), index, tag)) {
            Some(attempt) => receipts.push(Receipt {
                index,
                site: *site,
                payload: *payload,
                attempt: *attempt,
                seen: now,
            }),
            None => owed.push(Owed { index, site: *site }),
        }
    }
    StripeNote {
        ordinal: line.ordinal(),
        verified: u8::try_from(receipts.len()).unwrap_or(u8::MAX),
        receipts,
        owed,
    }
}
