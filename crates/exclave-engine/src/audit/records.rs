//! The small records: each read at every site, held against the name that its bytes give it, verified once, and counted
//! against the quorum of its class.
//!
//! A record's name ends in the tag of all its bytes, so a copy is intact when its bytes have that tag; what a copy *is* is
//! asked of the first intact one and holds for all that are equal to it. Of one thing there may be several objects (an
//! envelope that was wrapped anew, a ledger part under two runs): a site has it when it has one of them.

mod judge;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_model::{
    Class, ClassPolicy, DatasetId, ObjectName, Prefix, RecordHash, RunId, SiteId, Tag,
    limit::{RECORD_BYTES_MAX, STRIPES_PER_LEDGER_PART},
    report::{Outcome, OutcomeCounts},
};
use exclave_plan::quorum::Quorums;
use futures::{
    future::join_all,
    stream::{self, StreamExt},
};

use super::{
    Auditor, Mode,
    desk::{Said, outcome_of},
    scope::Scope,
};
use crate::{
    archive::{Archive, SMALL_LISTING_MAX},
    registry::Registry,
    survey::HEADS_PER_SITE_MAX,
};

/// Objects of one run that are listed at a site: a ledger part for each 4,096 stripes, and a few.
const RUN_OBJECTS_MAX: usize = (1 << 32) / STRIPES_PER_LEDGER_PART + 1000;

/// Grants that are listed at a site.
const GRANTS_MAX: usize = 10_000;

/// Records of datasets that are listed at a site.
const REGISTRATIONS_MAX: usize = 100_000;

/// Records that are asked for at the same time, each at all sites.
const AT_ONCE: usize = 16;

/// The same for records of runs, which may be ledger parts.
const LARGE_AT_ONCE: usize = 4;

/// What a small record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A version of the charter.
    Charter,
    /// A site's plate.
    Plate,
    /// A head.
    Head,
    /// A page of a run table.
    RunPage,
    /// A run's key, wrapped.
    Envelope,
    /// A part of a ledger.
    Ledger,
    /// A claim on others' stripes.
    Claim,
    /// A run's last word.
    Close,
    /// A grant.
    Grant,
    /// An administrator's record of a dataset.
    Dataset,
    /// The sealed directory of names.
    Names,
}

impl RecordKind {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charter => "charter",
            Self::Plate => "plate",
            Self::Head => "head",
            Self::RunPage => "run-page",
            Self::Envelope => "envelope",
            Self::Ledger => "ledger",
            Self::Claim => "claim",
            Self::Close => "close",
            Self::Grant => "grant",
            Self::Dataset => "dataset",
            Self::Names => "names",
        }
    }

    /// True when a commit needs it at a quorum of sites.
    const fn has_quorum(self) -> bool {
        matches!(self, Self::Head | Self::RunPage | Self::Envelope | Self::Ledger)
    }
}

/// What the records of one kind came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTally {
    /// The kind.
    pub kind: RecordKind,
    /// Different records.
    pub records: u64,
    /// Their copies.
    pub copies: OutcomeCounts,
    /// Copies that a site lists and that were not read: ledgers, when only a sample was wanted.
    pub listed: u64,
    /// Records that fewer sites showed than a commit takes.
    pub below_quorum: u64,
}

/// One thing, whatever objects it lies in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Charter(u32),
    Plate(SiteId),
    Head(RecordHash),
    Page(RecordHash),
    Ledger(RecordHash),
    Envelope(RunId),
    Named(ObjectName),
}

/// Where one thing lies.
struct State {
    kind: RecordKind,
    /// A name that it has.
    name: ObjectName,
    /// The run that needs it.
    run: Option<RunId>,
    ok: BTreeSet<usize>,
    listed: BTreeSet<usize>,
    bad: BTreeMap<usize, Outcome>,
}

/// What is known about an envelope without its key.
#[derive(Debug, Clone, Copy)]
struct EnvelopeFacts {
    class: u32,
    dataset: DatasetId,
}

/// The small records of an archive.
#[derive(Default)]
pub(super) struct Records {
    states: BTreeMap<Key, State>,
    envelopes: BTreeMap<RunId, EnvelopeFacts>,
    at_site: BTreeMap<usize, OutcomeCounts>,
    tallies: BTreeMap<RecordKind, RecordTally>,
    registry: Registry,
}

/// What the copies of one name came to.
struct Copies {
    name: ObjectName,
    /// By store: intact ones with their hash, others with their outcome.
    read: BTreeMap<usize, Result<RecordHash, Outcome>>,
    first: Option<Bytes>,
}

/// A judged object.
struct Judged {
    key: Key,
    kind: RecordKind,
    run: Option<RunId>,
    envelope: Option<EnvelopeFacts>,
}

impl Records {
    /// Looks at all of them.
    pub(super) async fn look(&mut self, auditor: &mut Auditor<'_>, scope: &Scope) {
        let names = auditor.desk.archive.names;
        self.registry = Registry::find(&auditor.desk.archive).await;
        for (prefix, most) in [
            (names.charter_prefix(), SMALL_LISTING_MAX),
            (names.plate_prefix(), SMALL_LISTING_MAX),
            (names.heads_prefix(), HEADS_PER_SITE_MAX),
            (names.grants_prefix(), GRANTS_MAX),
            (names.registrations_prefix(), REGISTRATIONS_MAX),
            (names.companions_prefix(), GRANTS_MAX),
        ] {
            self.look_below(auditor, scope, &prefix, most).await;
        }
        let runs: Vec<RunId> = scope.runs.keys().copied().collect();
        for run in runs {
            if auditor.stops() {
                return;
            }
            let prefix = names.run_prefix(run);
            self.look_below(auditor, scope, &prefix, RUN_OBJECTS_MAX).await;
        }
        self.require(auditor, scope);
        self.weigh(auditor).await;
    }

    /// Reads what lies below a prefix, at every site that lists it.
    async fn look_below(&mut self, auditor: &mut Auditor<'_>, scope: &Scope, prefix: &Prefix, most: usize) {
        let positions = auditor.desk.positions();
        let listings = join_all(positions.iter().map(|at| async {
            match auditor.desk.handle(*at) {
                Some(handle) => handle.site.list(prefix, most).await,
                None => Ok(exclave_site::Listing::default()),
            }
        }));
        let mut lying: BTreeMap<ObjectName, BTreeSet<usize>> = BTreeMap::new();
        for (at, listing) in positions.iter().zip(listings.await) {
            match listing {
                Ok(listing) => {
                    if !listing.complete {
                        auditor.facts.alarms += 1;
                        let site = auditor.desk.name_of(*at);
                        auditor.note(
                            "listing",
                            &site,
                            prefix.as_str(),
                            None,
                            "it lists more than an auditor takes",
                        );
                    }
                    for entry in listing.entries {
                        lying.entry(entry.name).or_default().insert(*at);
                    }
                }
                Err(error) => {
                    let outcome = outcome_of(&error);
                    let site = auditor.desk.name_of(*at);
                    auditor.note("listing", &site, prefix.as_str(), Some(outcome), &error.to_string());
                }
            }
        }
        let only_listed = matches!(auditor.request.mode, Mode::Sample(_));
        let (listed, read): (BTreeMap<_, _>, BTreeMap<_, _>) = lying
            .into_iter()
            .partition(|(name, _)| only_listed && name.file_name().starts_with("ledger."));
        for (name, sites) in listed {
            self.note_listed(scope, name, sites);
        }
        // A few at a time, judged before the next are read: a ledger part has mebibytes, and every site gives one.
        let at_once = match prefix.as_str().contains("/runs/") {
            true => LARGE_AT_ONCE,
            false => AT_ONCE,
        };
        let read: Vec<_> = read.into_iter().collect();
        for some in read.chunks(at_once) {
            let desk = &auditor.desk;
            let copies = some.iter().map(async |(name, sites)| {
                let read = async |at: &usize| (*at, desk.get(*at, name, RECORD_BYTES_MAX as u64).await);
                let got = join_all(sites.iter().map(read)).await;
                Copies::of(name.clone(), got)
            });
            for copies in join_all(copies).await {
                self.take(auditor, scope, copies);
            }
        }
    }

    /// Notes a ledger part that was not read.
    fn note_listed(&mut self, scope: &Scope, name: ObjectName, sites: BTreeSet<usize>) {
        let wanted = scope.runs.values().find_map(|run| {
            let part = run
                .entry
                .ledgers
                .iter()
                .find(|hash| name.tag() == Some(Tag::of_hash(hash.as_bytes())));
            part.map(|hash| (run.entry.run, *hash))
        });
        if let Some((run, hash)) = wanted {
            let state = self.state(Key::Ledger(hash), RecordKind::Ledger, &name, Some(run));
            state.listed.extend(sites);
        }
    }

    fn state(&mut self, key: Key, kind: RecordKind, name: &ObjectName, run: Option<RunId>) -> &mut State {
        self.states.entry(key).or_insert_with(|| State {
            kind,
            name: name.clone(),
            run,
            ok: BTreeSet::new(),
            listed: BTreeSet::new(),
            bad: BTreeMap::new(),
        })
    }

    fn take(&mut self, auditor: &mut Auditor<'_>, scope: &Scope, copies: Copies) {
        let judged = copies
            .first
            .as_ref()
            .and_then(|bytes| judge::judge(auditor, scope, &copies.name, bytes));
        let hash = copies.first.as_ref().map(|bytes| RecordHash::of(bytes));
        let Some(judged) = judged else {
            auditor.strays.add(auditor.request.datasets.is_none(), &copies.name);
            // A copy that no other site vouches for may be a record that was damaged: it is named, and what it should have
            // been is missed where it counts.
            for (at, read) in &copies.read {
                if let Err(outcome) = read {
                    let site = auditor.desk.name_of(*at);
                    auditor.note(
                        "record",
                        &site,
                        copies.name.as_str(),
                        Some(*outcome),
                        "no site shows it whole",
                    );
                    auditor.facts.records_not_ok += 1;
                }
            }
            return;
        };
        if let Some(facts) = judged.envelope
            && let Key::Envelope(run) = &judged.key
        {
            self.envelopes.entry(*run).or_insert(facts);
        }
        let state = self.state(judged.key, judged.kind, &copies.name, judged.run);
        let mut damaged = Vec::new();
        for (at, read) in copies.read {
            match read {
                Ok(found) if Some(found) == hash => _ = state.ok.insert(at),
                Ok(_) => damaged.push((at, Outcome::Corrupt)),
                Err(outcome) => damaged.push((at, outcome)),
            }
        }
        state.bad.extend(damaged.iter().copied());
        let kind = state.kind;
        for (at, outcome) in damaged {
            let site = auditor.desk.name_of(at);
            auditor.facts.records_not_ok += 1;
            auditor.note(kind.as_str(), &site, copies.name.as_str(), Some(outcome), "");
        }
    }

    /// What heads name and no site lists is looked for all the same.
    fn require(&mut self, auditor: &Auditor<'_>, scope: &Scope) {
        let names = auditor.desk.archive.names;
        let object = |run, kind, hash: &RecordHash| names.run_object(run, kind, Tag::of_hash(hash.as_bytes()));
        for run in scope.runs.values() {
            let id = run.entry.run;
            for hash in &run.entry.ledgers {
                let name = object(id, exclave_model::RunObject::Ledger, hash);
                self.state(Key::Ledger(*hash), RecordKind::Ledger, &name, Some(id));
            }
            // Its name is known only from a listing; an envelope that nobody lists is asked for under none.
            let name = object(id, exclave_model::RunObject::Envelope, &RecordHash::from_bytes([0; 32]));
            self.state(Key::Envelope(id), RecordKind::Envelope, &name, Some(id));
        }
        let archive = &auditor.desk.archive;
        for handle in archive.sites.iter().filter_map(|handle| handle.id) {
            let name = names.plate(handle, Tag::of_hash(&[0; 32]));
            self.state(Key::Plate(handle), RecordKind::Plate, &name, None);
        }
        for hash in &scope.heads {
            if let Some(found) = auditor.survey.found.get(hash) {
                let head = &found.head;
                let name = names.head(head.writer, head.incarnation, head.seq, Tag::of_hash(hash.as_bytes()));
                self.state(Key::Head(*hash), RecordKind::Head, &name, Some(head.run));
                for page in &head.run_pages {
                    let name = object(head.run, exclave_model::RunObject::Live, page);
                    self.state(Key::Page(*page), RecordKind::RunPage, &name, Some(head.run));
                }
            }
        }
    }

    /// Asks the sites that list something not for it all the same, and counts.
    async fn weigh(&mut self, auditor: &mut Auditor<'_>) {
        let positions = auditor.desk.positions();
        let states = std::mem::take(&mut self.states);
        let (desk, places) = (&auditor.desk, &positions);
        let asked = stream::iter(&states).map(|(key, state)| async move {
            let expected = places.iter().copied().filter(|at| match key {
                Key::Plate(site) => desk.position(*site) == Some(*at),
                _ => true,
            });
            let left = expected
                .filter(|at| !state.ok.contains(at) && !state.listed.contains(at) && !state.bad.contains_key(at));
            join_all(left.map(|at| async move {
                let said = desk.get(at, &state.name, RECORD_BYTES_MAX as u64).await;
                let outcome = match said {
                    Said::Bytes(bytes) if Some(Tag::of(&bytes)) == state.name.tag() => Outcome::Ok,
                    Said::Bytes(_) => Outcome::Corrupt,
                    Said::Nothing(outcome) => outcome,
                };
                (at, outcome)
            }))
            .await
        });
        let asked: Vec<Vec<(usize, Outcome)>> = asked.buffered(AT_ONCE).collect().await;
        for ((_, state), late) in states.iter().zip(asked) {
            self.weigh_one(auditor, state, &positions, late);
        }
        self.states = states;
    }

    fn weigh_one(
        &mut self,
        auditor: &mut Auditor<'_>,
        state: &State,
        positions: &[usize],
        late: Vec<(usize, Outcome)>,
    ) {
        let tally = self.tallies.entry(state.kind).or_insert(RecordTally {
            kind: state.kind,
            records: 0,
            copies: OutcomeCounts::default(),
            listed: 0,
            below_quorum: 0,
        });
        tally.records += 1;
        tally.listed += state.listed.len() as u64;
        let mut shown = state.ok.len() + state.listed.len();
        let mut all_gone = true;
        let ok = state.ok.iter().map(|at| (*at, Outcome::Ok));
        let bad = state.bad.iter().map(|(at, outcome)| (*at, *outcome));
        let bad = bad.filter(|(at, _)| !state.ok.contains(at));
        for (at, outcome) in ok.chain(bad).chain(late.iter().copied()) {
            tally.copies.add(outcome, 1);
            self.at_site.entry(at).or_default().add(outcome, 1);
            all_gone &= outcome.is_gone();
        }
        for (at, outcome) in late {
            if outcome == Outcome::Ok {
                shown += 1;
                continue;
            }
            auditor.facts.records_not_ok += 1;
            let site = auditor.desk.name_of(at);
            auditor.note(state.kind.as_str(), &site, state.name.as_str(), Some(outcome), "");
        }
        if shown == 0 && state.kind.has_quorum() && !positions.is_empty() {
            match all_gone {
                true => auditor.facts.records_lost += 1,
                false => auditor.facts.stripes_unproven += 1,
            }
            auditor.note("lost", "", state.name.as_str(), None, "no site that was asked shows it");
        }
        let needed = state.run.and_then(|run| self.quorum(&auditor.desk.archive, run));
        let needed = needed.filter(|_| state.kind.has_quorum());
        if let Some(needed) = needed.filter(|needed| shown < usize::from(*needed)) {
            if let Some(tally) = self.tallies.get_mut(&state.kind) {
                tally.below_quorum += 1;
            }
            auditor.facts.records_below_quorum += 1;
            let detail = format!("{shown} sites show it, a commit takes {needed}");
            auditor.note("below-quorum", "", state.name.as_str(), None, &detail);
        }
    }

    /// What the records of one store came to.
    pub(super) fn at_site(&self, at: usize) -> OutcomeCounts {
        self.at_site.get(&at).copied().unwrap_or_default()
    }

    /// All kinds.
    pub(super) fn tallies(&self) -> Vec<RecordTally> {
        self.tallies.values().copied().collect()
    }

    /// Sites that showed a head whole.
    pub(super) fn head_sites(&self, head: RecordHash) -> u64 {
        self.states
            .get(&Key::Head(head))
            .map_or(0, |state| state.ok.len() as u64)
    }

    /// The class of a run, as its envelope says.
    pub(super) fn class<'c>(&self, archive: &'c Archive, run: RunId) -> Option<&'c Class> {
        archive.charter().class(self.envelopes.get(&run)?.class)
    }

    /// The classes that envelopes name; all of the charter's where no envelope was read.
    pub(super) fn classes<'c>(&self, archive: &'c Archive) -> Vec<&'c Class> {
        let named: BTreeSet<u32> = self.envelopes.values().map(|facts| facts.class).collect();
        let classes = archive.charter().classes.iter();
        classes
            .filter(|class| named.is_empty() || named.contains(&class.id))
            .collect()
    }

    /// What administrators have said of datasets.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What is demanded of a run's commit: by its class, and for its dataset alone.
    pub(super) fn policy(&self, archive: &Archive, run: RunId) -> Option<ClassPolicy> {
        let class = self.class(archive, run)?.policy().ok()?;
        let dataset = self.envelopes.get(&run)?.dataset;
        // Demands that contradict each other were told; then the class's hold.
        Some(self.registry.policy(dataset, &class).unwrap_or(class))
    }

    /// q of a run's dataset.
    pub(super) fn quorum(&self, archive: &Archive, run: RunId) -> Option<u8> {
        let policy = self.policy(archive, run)?;
        let quorums = Quorums::new(policy.geometry, Some(policy.losses), policy.liars).ok()?;
        Some(quorums.heads())
    }
}

impl Copies {
    fn of(name: ObjectName, got: Vec<(usize, Said)>) -> Self {
        let (mut read, mut first) = (BTreeMap::new(), None);
        for (at, said) in got {
            let copy = match said {
                Said::Bytes(bytes) if name.tag() == Some(Tag::of(&bytes)) => {
                    let hash = RecordHash::of(&bytes);
                    first.get_or_insert(bytes);
                    Ok(hash)
                }
                Said::Bytes(_) => Err(Outcome::Corrupt),
                Said::Nothing(outcome) => Err(outcome),
            };
            read.insert(at, copy);
        }
        Self { name, read, first }
    }
}
