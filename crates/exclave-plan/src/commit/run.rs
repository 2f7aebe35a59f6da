//! The order of a run: what must lie where before the next thing may be done (DESIGN section 6, THREATS B3).
//!
//! ```text
//! claim       the envelope at b + 1 sites before the first shard, at q before the head
//! shards      every stripe of the run settles (`StripeCommit`)
//! reuse       the reuse claim at q, and only then the marks read from q: of a collector and us, one sees the other
//! ledger      ledger parts and the run table at q
//! head        its bytes fsynced in the journal, then put everywhere, then read back from q
//! ```
//!
//! "At q" means: within every layout that the snapshot refers to, at least that layout's q sites. The head is the commit
//! point, so it comes last: whoever sees it can restore it (I1).
//!
//! The machine is a fold of events. It performs nothing and refuses what comes too early with the reason, so a driver can
//! neither put a head before its ledger lies safe nor count a stripe before the run was claimed. Replaying journalled
//! events after a crash gives the same machine.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{RecordHash, SiteId, SnapshotState};

pub use self::words::{Event, Held, LayoutIndex, NotYet, Safety, Step, Verdict};
use crate::{commit::stripe::StripeState, layout::Layout, quorum::Quorums};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    layout: Layout,
    quorums: Quorums,
}

/// What the settled stripes add up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Tally {
    verified_min: Option<u8>,
    provisional: u64,
    failed: u64,
    debt: u64,
}

/// A reuse claim on its way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Reuse {
    claimed: BTreeSet<SiteId>,
    marks: BTreeSet<SiteId>,
}

/// The machine of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommit {
    places: Vec<Place>,
    envelope: BTreeSet<SiteId>,
    tally: Tally,
    reuse: Option<Reuse>,
    records: BTreeMap<RecordHash, BTreeSet<SiteId>>,
    /// Sites that hold the head, once it is journalled.
    head: Option<BTreeSet<SiteId>>,
}

impl RunCommit {
    /// A run whose stripes go to one layout at first.
    ///
    /// # Panics
    ///
    /// When the layout has not n sites: our own bug.
    pub fn new(layout: Layout, quorums: Quorums) -> Self {
        Self {
            places: vec![Place::new(layout, quorums)],
            envelope: BTreeSet::new(),
            tally: Tally::default(),
            reuse: None,
            records: BTreeMap::new(),
            head: None,
        }
    }

    /// The layout that the run began with.
    pub const FIRST_LAYOUT: LayoutIndex = LayoutIndex(0);

    /// Adds a layout: one that replaces a dead site from the next stripe on, or one that reused stripes lie in. A layout
    /// that is known already keeps its index. Marks that were read for a reuse claim must be read again: the new layout's
    /// sites may hold others.
    ///
    /// # Panics
    ///
    /// When the layout has not n sites: our own bug.
    pub fn add_layout(&mut self, layout: Layout, quorums: Quorums) -> Result<LayoutIndex, NotYet> {
        self.open()?;
        let place = Place::new(layout, quorums);
        if let Some(known) = self.places.iter().position(|other| *other == place) {
            return Ok(LayoutIndex(known));
        }
        self.places.push(place);
        if let Some(reuse) = &mut self.reuse {
            reuse.marks.clear();
        }
        Ok(LayoutIndex(self.places.len() - 1))
    }

    /// Takes note of what happened. What came too early is refused, with what is missing, and changes nothing.
    pub fn handle(&mut self, event: Event) -> Result<(), NotYet> {
        match event {
            Event::EnvelopeAt(site) => {
                self.envelope.insert(site);
            }
            Event::StripeSettled { layout, state } => {
                self.allows(Step::PutShards(layout))?;
                self.count(layout, state.verified())?;
            }
            Event::ReuseClaimMade => {
                self.open()?;
                self.reuse = Some(Reuse::default());
            }
            Event::ReuseClaimAt(site) => {
                self.allows(Step::PutReuseClaim)?;
                self.reuse.as_mut().ok_or(NotYet::NoReuseClaim)?.claimed.insert(site);
            }
            Event::MarksReadFrom(site) => {
                self.allows(Step::ReadMarks)?;
                self.reuse.as_mut().ok_or(NotYet::NoReuseClaim)?.marks.insert(site);
            }
            Event::StripeReused { layout, verified } => {
                self.allows(Step::CountReused)?;
                self.count(layout, verified)?;
            }
            Event::RecordMade(record) => {
                self.allows(Step::PutRecords)?;
                self.records.entry(record).or_default();
            }
            Event::RecordAt(record, site) => {
                let sites = self.records.get_mut(&record).ok_or(NotYet::UnknownRecord { record })?;
                sites.insert(site);
            }
            Event::HeadJournalled => {
                self.allows(Step::JournalHead)?;
                self.head = Some(BTreeSet::new());
            }
            Event::HeadAt(site) => {
                self.head.as_mut().ok_or(NotYet::HeadNotJournalled)?.insert(site);
            }
        }
        Ok(())
    }

    /// Whether a step may be done now, or what stands in its way.
    pub fn allows(&self, step: Step) -> Result<(), NotYet> {
        match step {
            Step::PutHead => self.head.as_ref().map(|_| ()).ok_or(NotYet::HeadNotJournalled),
            // A site that comes back late may still get its copy of these.
            Step::PutEnvelope => Ok(()),
            Step::PutShards(layout) => {
                self.open()?;
                let place = self.place(layout)?;
                let needed = place.quorums.claims_before_shards();
                place.reached(layout, Held::Envelope, &self.envelope, needed)
            }
            Step::PutReuseClaim => {
                self.open()?;
                self.reuse.as_ref().map(|_| ()).ok_or(NotYet::NoReuseClaim)
            }
            Step::ReadMarks => {
                self.open()?;
                self.reuse_claimed().map(|_| ())
            }
            Step::CountReused => {
                self.open()?;
                self.marks_read()
            }
            Step::PutRecords => {
                self.open()?;
                // A ledger of a run that no one has heard of would be an orphan.
                self.claimed_before_shards()
            }
            Step::JournalHead => {
                self.open()?;
                self.ready_for_head()
            }
        }
    }

    /// The steps that may be done now, in the order in which they are due. Steps that are done are listed as long as
    /// repeating them does no harm.
    pub fn next_steps(&self) -> Vec<Step> {
        let shards = (0..self.places.len()).map(|index| Step::PutShards(LayoutIndex(index)));
        let rest = [
            Step::PutReuseClaim,
            Step::ReadMarks,
            Step::CountReused,
            Step::PutRecords,
            Step::JournalHead,
            Step::PutHead,
        ];
        let steps = std::iter::once(Step::PutEnvelope).chain(shards).chain(rest);
        steps.filter(|step| self.allows(*step).is_ok()).collect()
    }

    /// What the head is to say; `None` before any stripe has settled or when one can't be restored.
    pub fn safety(&self) -> Option<Safety> {
        let Tally {
            verified_min,
            provisional,
            failed,
            debt,
        } = self.tally;
        let state = match (failed, provisional) {
            (0, 0) => SnapshotState::Durable,
            (0, _) => SnapshotState::Provisional,
            (_, _) => return None,
        };
        Some(Safety {
            state,
            verified_min: verified_min?,
            debt,
        })
    }

    /// How the run ends if nothing more happens.
    pub fn verdict(&self) -> Verdict {
        let Some(head) = &self.head else {
            return match self.ready_for_head() {
                Ok(()) => Verdict::NoHead(NotYet::HeadNotJournalled),
                Err(missing) => Verdict::NoHead(missing),
            };
        };
        match (self.at_quorum(Held::Head, head), self.safety()) {
            (Err(missing), _) => Verdict::HeadBelowQuorum(missing),
            (Ok(()), None) => Verdict::NoHead(NotYet::NothingStored),
            (
                Ok(()),
                Some(Safety {
                    state,
                    verified_min,
                    debt,
                }),
            ) => match state {
                SnapshotState::Durable => Verdict::Committed { debt },
                SnapshotState::Provisional => Verdict::Provisional { debt, verified_min },
            },
        }
    }

    fn ready_for_head(&self) -> Result<(), NotYet> {
        self.at_quorum(Held::Envelope, &self.envelope)?;
        match self.tally.failed {
            0 => {}
            stripes => return Err(NotYet::StripesFailed { stripes }),
        }
        if self.reuse.is_some() {
            self.marks_read()?;
        }
        if self.tally.verified_min.is_none() {
            return Err(NotYet::NothingStored);
        }
        if self.records.is_empty() {
            return Err(NotYet::NoLedger);
        }
        self.records
            .iter()
            .try_for_each(|(record, sites)| self.at_quorum(Held::Record(*record), sites))
    }

    fn reuse_claimed(&self) -> Result<&Reuse, NotYet> {
        let reuse = self.reuse.as_ref().ok_or(NotYet::NoReuseClaim)?;
        self.at_quorum(Held::ReuseClaim, &reuse.claimed)?;
        Ok(reuse)
    }

    fn marks_read(&self) -> Result<(), NotYet> {
        self.at_quorum(Held::Marks, &self.reuse_claimed()?.marks)
    }

    fn claimed_before_shards(&self) -> Result<(), NotYet> {
        self.indexed().try_for_each(|(layout, place)| {
            place.reached(
                layout,
                Held::Envelope,
                &self.envelope,
                place.quorums.claims_before_shards(),
            )
        })
    }

    /// At least q sites within every layout.
    fn at_quorum(&self, held: Held, sites: &BTreeSet<SiteId>) -> Result<(), NotYet> {
        self.indexed()
            .try_for_each(|(layout, place)| place.reached(layout, held, sites, place.quorums.heads()))
    }

    /// What the head says can change until it is journalled.
    fn open(&self) -> Result<(), NotYet> {
        match self.head {
            None => Ok(()),
            Some(_) => Err(NotYet::HeadJournalled),
        }
    }

    fn count(&mut self, layout: LayoutIndex, verified: u8) -> Result<(), NotYet> {
        let quorums = self.place(layout)?.quorums;
        let tally = &mut self.tally;
        match StripeState::of(&quorums, verified) {
            StripeState::Durable { .. } => {}
            StripeState::Provisional { .. } => tally.provisional += 1,
            StripeState::Failed { .. } => tally.failed += 1,
        }
        tally.verified_min = Some(tally.verified_min.map_or(verified, |least| least.min(verified)));
        tally.debt += u64::from(quorums.sites().saturating_sub(verified));
        Ok(())
    }

    fn place(&self, layout: LayoutIndex) -> Result<&Place, NotYet> {
        self.places.get(layout.0).ok_or(NotYet::UnknownLayout { layout })
    }

    fn indexed(&self) -> impl Iterator<Item = (LayoutIndex, &Place)> {
        self.places
            .iter()
            .enumerate()
            .map(|(index, place)| (LayoutIndex(index), place))
    }
}

impl Place {
    fn new(layout: Layout, quorums: Quorums) -> Self {
        assert_eq!(layout.total(), quorums.sites(), "one site for each shard");
        Self { layout, quorums }
    }

    fn reached(&self, layout: LayoutIndex, held: Held, at: &BTreeSet<SiteId>, needed: u8) -> Result<(), NotYet> {
        // At most n, which is a u8.
        let found = self.layout.sites().iter().filter(|site| at.contains(site)).count() as u8;
        match found >= needed {
            true => Ok(()),
            false => Err(NotYet::TooFewSites {
                held,
                layout,
                found,
                needed,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
