//! The order of a collection (DESIGN section 6, decision 0015).
//!
//! ```text
//! marks        at q of every layout that the stripes lie in; from then on nobody reuses them
//! closes       of their runs, from every site
//! references   heads, and claims of runs that were not seen closed, from every site, and only then
//! release      signed by the collection authorities
//! cool-off     72 h
//! closes, references once more
//! sweep        what is left
//! ```
//!
//! Closes are read before heads and claims, never after: a run closes when its head lies at a quorum, so whoever saw the
//! close first can't miss the head. The other way round a commit fits between the two readings, and the model in
//! `tests/tests/collection` shows how a snapshot is lost then. A site that can't be read ends a collection: nothing is
//! urgent about it.
//!
//! The machine only ever lets things stay: whatever is told twice, late or by a site that nobody asked takes stripes out of
//! what may go, and puts none in.

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{LiveSet, RunId, SiteId, collection::COOL_OFF_SECONDS};

use crate::{layout::Layout, quorum::Quorums};

/// Stripes by run.
pub type Stripes = BTreeMap<RunId, LiveSet>;

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The mark was read back from a site.
    MarkAt(SiteId),
    /// All closes of the marked runs were read from a site; these runs it shows closed, or a revocation closes them.
    ClosesRead {
        /// The site.
        site: SiteId,
        /// Runs that will write nothing more.
        closed: BTreeSet<RunId>,
    },
    /// All heads and claims were read from a site.
    ReferencesRead {
        /// The site.
        site: SiteId,
        /// What snapshots that count, and are not dropped, need.
        needed: Stripes,
        /// What claims name, by the run that claims.
        claims: Vec<(RunId, Stripes)>,
    },
    /// Enough collection authorities signed a release of these.
    Released {
        /// What they released.
        stripes: Stripes,
        /// When they did: Unix seconds.
        at: i64,
    },
    /// Everything is to be read again: the cool-off is over, or a reading was interrupted.
    ReadAgain,
}

/// Why something may not be done yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// The mark lies at too few sites of a layout.
    #[error("the mark lies at {found} sites of layout {layout}, {needed} are needed")]
    MarkBelowQuorum {
        /// Which of the layouts.
        layout: usize,
        /// Sites that hold it.
        found: usize,
        /// Sites that must.
        needed: u8,
    },
    /// Some sites' closes were not read.
    #[error("the closes of {missing} sites have not been read; every site must answer")]
    ClosesUnread {
        /// Sites that are missing.
        missing: usize,
    },
    /// Some sites' heads and claims were not read after all closes.
    #[error("heads and claims of {missing} sites have not been read; every site must answer")]
    ReferencesUnread {
        /// Sites that are missing.
        missing: usize,
    },
    /// Nobody released anything.
    #[error("the collection authorities have released nothing")]
    NotReleased,
    /// It is too early.
    #[error("the cool-off ends in {seconds} seconds")]
    CoolingOff {
        /// How long it takes still.
        seconds: i64,
    },
}

/// The machine of one mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Every site that the charter names: one that is dropped from it counts no more.
    sites: BTreeSet<SiteId>,
    layouts: Vec<(Layout, Quorums)>,
    marked: Stripes,
    mark_at: BTreeSet<SiteId>,
    closes_from: BTreeSet<SiteId>,
    closed: BTreeSet<RunId>,
    references_from: BTreeSet<SiteId>,
    left: Stripes,
    released: Option<i64>,
}

impl Collection {
    /// A collection of these stripes, that lie in these layouts.
    pub fn new(sites: BTreeSet<SiteId>, layouts: Vec<(Layout, Quorums)>, marked: Stripes) -> Self {
        Self {
            sites,
            layouts,
            left: marked.clone(),
            marked,
            mark_at: BTreeSet::new(),
            closes_from: BTreeSet::new(),
            closed: BTreeSet::new(),
            references_from: BTreeSet::new(),
            released: None,
        }
    }

    /// Takes note of what happened. What came too early is refused, with what is missing, and changes nothing.
    pub fn handle(&mut self, event: Event) -> Result<(), NotYet> {
        match event {
            Event::MarkAt(site) => {
                self.mark_at.insert(site);
            }
            Event::ClosesRead { site, closed } => {
                self.mark_lies()?;
                // What is closed later than the first head was read is not known to be closed.
                if self.references_from.is_empty() {
                    self.closes_from.insert(site);
                    self.closed.extend(closed);
                }
            }
            Event::ReferencesRead { site, needed, claims } => {
                self.closes_are_read()?;
                for (run, stripes) in needed {
                    self.keep(run, &stripes);
                }
                let open = claims.into_iter().filter(|(run, _)| !self.closed.contains(run));
                for (run, stripes) in open.flat_map(|(_, stripes)| stripes).collect::<Vec<_>>() {
                    self.keep(run, &stripes);
                }
                self.references_from.insert(site);
            }
            Event::Released { stripes, at } => {
                let candidates = self.candidates()?;
                self.left = common(&candidates, &stripes);
                self.released = Some(self.released.map_or(at, |earlier| earlier.max(at)));
            }
            Event::ReadAgain => {
                self.closes_from.clear();
                self.closed.clear();
                self.references_from.clear();
            }
        }
        Ok(())
    }

    /// What authorities may be asked to release: marked, of closed runs, and needed or claimed by nobody.
    pub fn candidates(&self) -> Result<Stripes, NotYet> {
        self.references_are_read()?;
        let closed = self.left.iter().filter(|(run, _)| self.closed.contains(run));
        Ok(closed.map(|(run, stripes)| (*run, stripes.clone())).collect())
    }

    /// What may be deleted now.
    pub fn may_be_deleted(&self, now: i64) -> Result<Stripes, NotYet> {
        let released = self.released.ok_or(NotYet::NotReleased)?;
        // A clock that went back makes it longer, never shorter.
        let waited = now.saturating_sub(released);
        if waited < COOL_OFF_SECONDS {
            return Err(NotYet::CoolingOff {
                seconds: COOL_OFF_SECONDS.saturating_sub(waited),
            });
        }
        self.candidates()
    }

    /// Everything that was marked: never to be reused, whatever becomes of it.
    pub fn marked(&self) -> &Stripes {
        &self.marked
    }

    fn keep(&mut self, run: RunId, stripes: &LiveSet) {
        if let Some(left) = self.left.get_mut(&run) {
            left.subtract(stripes);
            if left.is_empty() {
                self.left.remove(&run);
            }
        }
    }

    fn mark_lies(&self) -> Result<(), NotYet> {
        for (at, (layout, quorums)) in self.layouts.iter().enumerate() {
            let found = layout.sites().iter().filter(|site| self.mark_at.contains(site)).count();
            if found < usize::from(quorums.heads()) {
                return Err(NotYet::MarkBelowQuorum {
                    layout: at,
                    found,
                    needed: quorums.heads(),
                });
            }
        }
        Ok(())
    }

    fn closes_are_read(&self) -> Result<(), NotYet> {
        self.mark_lies()?;
        match self.sites.difference(&self.closes_from).count() {
            0 => Ok(()),
            missing => Err(NotYet::ClosesUnread { missing }),
        }
    }

    fn references_are_read(&self) -> Result<(), NotYet> {
        self.closes_are_read()?;
        match self.sites.difference(&self.references_from).count() {
            0 => Ok(()),
            missing => Err(NotYet::ReferencesUnread { missing }),
        }
    }
}

/// The stripes that are in both.
pub fn common(one: &Stripes, other: &Stripes) -> Stripes {
    let both = one.iter().filter_map(|(run, stripes)| {
        let stripes = stripes.common(other.get(run)?);
        (!stripes.is_empty()).then_some((*run, stripes))
    });
    both.collect()
}

/// Stripes that no head needs, of all that were written: what a mark may name.
pub fn unneeded(written: &Stripes, needed: &Stripes) -> Stripes {
    let left = written.iter().filter_map(|(run, stripes)| {
        let mut stripes = stripes.clone();
        if let Some(needed) = needed.get(run) {
            stripes.subtract(needed);
        }
        (!stripes.is_empty()).then_some((*run, stripes))
    });
    left.collect()
}

#[cfg(test)]
mod tests;
