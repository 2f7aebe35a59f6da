//! Which heads are newest, in which order to try them, and what their chains give away (DESIGN sections 4 and 6,
//! FORMAT.md section 11).
//!
//! A head names its predecessor in its writer's chain and the tips of other chains it had seen. Its *ancestors* are what
//! these links reach. One chain holds heads of several datasets, so the links of all are followed, and a head of a
//! dataset is *newest* when it is no ancestor of another head of the same dataset. More than one can be: writers that
//! did not see each other. There is no clock in it: a head's *rank* is one more than its highest known ancestor's, and at
//! least its seq + 1 (Lamport, "Time, Clocks, and the Ordering of Events", 1978).
//!
//! Sites forget and lie, so links may lead nowhere. That is reported, never fatal. Where a chain misses a head, or names
//! one that isn't the place before, the next older one present is taken for an ancestor too (it has the lower seq in the
//! same life of the same writer), unless the chain forks there and nobody can say which branch it was.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use exclave_model::{DatasetId, Head, Incarnation, KeyId, RecordHash, SiteId, limit::TIPS_MAX};

mod pins;
mod sides;

pub use self::pins::{Pinned, pinned};

/// What matters about one valid head: its signatures, its writer's rights and its bytes are verified already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadFact {
    /// The hash of its record.
    pub hash: RecordHash,
    /// Who signed it.
    pub writer: KeyId,
    /// Which life of the writer.
    pub incarnation: Incarnation,
    /// Its place in the chain.
    pub seq: u64,
    /// The head before it in the chain.
    pub previous: Option<RecordHash>,
    /// Heads seen in other chains.
    pub tips: Vec<RecordHash>,
    /// The dataset it commits a snapshot of.
    pub dataset: DatasetId,
    /// The sites that returned it.
    pub sites: BTreeSet<SiteId>,
}

impl HeadFact {
    /// The facts of a verified head that was read at `sites`.
    pub fn of(hash: RecordHash, head: &Head, sites: impl IntoIterator<Item = SiteId>) -> Self {
        Self {
            hash,
            writer: head.writer,
            incarnation: head.incarnation,
            seq: head.seq,
            previous: head.previous,
            tips: head.tips.clone(),
            dataset: head.dataset,
            sites: sites.into_iter().collect(),
        }
    }

    fn chain(&self) -> Chain {
        (self.writer, self.incarnation)
    }
}

type Chain = (KeyId, Incarnation);

/// What the chains give away. None of it hinders a restore; all of it belongs in a report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Two valid heads in one place of a chain: a cloned or rolled-back writer, or a stolen key. Both are evidence.
    Fork {
        /// The writer.
        writer: KeyId,
        /// Its life.
        incarnation: Incarnation,
        /// The place.
        seq: u64,
        /// All heads there, ascending.
        heads: Vec<RecordHash>,
    },
    /// Places of a chain below its last known head that nobody showed.
    Gap {
        /// The writer.
        writer: KeyId,
        /// Its life.
        incarnation: Incarnation,
        /// First missing place.
        first: u64,
        /// Last missing place.
        last: u64,
    },
    /// A head names a predecessor that is not the place before it in its own chain.
    ForeignPrevious {
        /// The head.
        head: RecordHash,
        /// What it names.
        previous: RecordHash,
    },
    /// A head has seen another that nobody shows now.
    MissingTip {
        /// The head.
        head: RecordHash,
        /// What it names.
        tip: RecordHash,
    },
}

/// The heads that were found, and how they follow each other.
#[derive(Debug, Clone)]
pub struct Heads {
    facts: BTreeMap<RecordHash, HeadFact>,
    chains: BTreeMap<Chain, BTreeMap<u64, Vec<RecordHash>>>,
    parents: BTreeMap<RecordHash, Vec<RecordHash>>,
    ranks: BTreeMap<RecordHash, u64>,
}

impl Heads {
    /// Orders what sites returned. The same head may come several times; its sites are joined.
    pub fn new(found: impl IntoIterator<Item = HeadFact>) -> Self {
        let mut facts: BTreeMap<RecordHash, HeadFact> = BTreeMap::new();
        for fact in found {
            match facts.get_mut(&fact.hash) {
                Some(known) => known.sites.extend(fact.sites),
                None => {
                    facts.insert(fact.hash, fact);
                }
            }
        }
        let mut chains: BTreeMap<Chain, BTreeMap<u64, Vec<RecordHash>>> = BTreeMap::new();
        for fact in facts.values() {
            // Facts come in ascending order of their hashes, so forks do too.
            chains
                .entry(fact.chain())
                .or_default()
                .entry(fact.seq)
                .or_default()
                .push(fact.hash);
        }
        let mut heads = Self {
            facts,
            chains,
            parents: BTreeMap::new(),
            ranks: BTreeMap::new(),
        };
        heads.parents = heads
            .facts
            .values()
            .map(|fact| (fact.hash, heads.parents_of(fact)))
            .collect();
        heads.ranks = ranks(&heads.facts, &heads.parents);
        heads
    }

    /// One head.
    pub fn get(&self, hash: RecordHash) -> Option<&HeadFact> {
        self.facts.get(&hash)
    }

    /// All heads, by ascending hash.
    pub fn iter(&self) -> impl Iterator<Item = &HeadFact> {
        self.facts.values()
    }

    /// The datasets that have a head.
    pub fn datasets(&self) -> BTreeSet<DatasetId> {
        self.facts.values().map(|fact| fact.dataset).collect()
    }

    /// The newest heads of a dataset: no ancestor of another one of it. The best first.
    pub fn newest(&self, dataset: DatasetId) -> Vec<&HeadFact> {
        let superseded = self.superseded(dataset);
        let mut newest = self.in_order(dataset, &superseded);
        newest.retain(|head| !superseded.contains(&head.hash));
        newest
    }

    /// All heads of a dataset in the order to try them: the newest, then the others; in both the highest rank first. An
    /// ancestor never comes before its descendant. Ties go by seq, by the number of sites, then by writer, incarnation
    /// and hash, so that everyone who sees the same heads takes the same one.
    pub fn order(&self, dataset: DatasetId) -> Vec<&HeadFact> {
        self.in_order(dataset, &self.superseded(dataset))
    }

    /// Those of `hashes` that are no ancestor of another one of them.
    pub fn newest_among(&self, hashes: &BTreeSet<RecordHash>) -> BTreeSet<RecordHash> {
        let superseded = self.ancestors_of(hashes.iter());
        hashes.difference(&superseded).copied().collect()
    }

    /// A head's rank; 0 for one that is not here.
    pub fn rank(&self, hash: RecordHash) -> u64 {
        self.ranks.get(&hash).copied().unwrap_or(0)
    }

    /// What the chains give away, in a fixed order.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (&(writer, incarnation), chain) in &self.chains {
            let mut expected = 0;
            for (&seq, heads) in chain {
                if let Some(missing) = missing(expected, seq) {
                    let (first, last) = missing.into_inner();
                    findings.push(Finding::Gap {
                        writer,
                        incarnation,
                        first,
                        last,
                    });
                }
                if heads.len() > 1 {
                    findings.push(Finding::Fork {
                        writer,
                        incarnation,
                        seq,
                        heads: heads.clone(),
                    });
                }
                expected = seq.saturating_add(1);
            }
        }
        for fact in self.facts.values() {
            if let Some(previous) = fact.previous.filter(|previous| self.is_foreign(fact, previous)) {
                findings.push(Finding::ForeignPrevious {
                    head: fact.hash,
                    previous,
                });
            }
            for &tip in fact.tips.iter().filter(|tip| !self.facts.contains_key(tip)) {
                findings.push(Finding::MissingTip { head: fact.hash, tip });
            }
        }
        findings
    }

    /// The tips that the next head of a chain names: heads outside the chain that are no ancestor of any head. When there
    /// are more than the format has room for, those of the highest rank; the rest are for the head after it. Ascending.
    pub fn tips_for(&self, writer: KeyId, incarnation: Incarnation) -> Vec<RecordHash> {
        let reached = self.ancestors_of(self.facts.keys());
        let mut tips: Vec<&HeadFact> = self
            .facts
            .values()
            .filter(|fact| fact.chain() != (writer, incarnation) && !reached.contains(&fact.hash))
            .collect();
        tips.sort_by_key(|fact| (Reverse(self.rank(fact.hash)), fact.hash));
        tips.truncate(TIPS_MAX);
        let mut hashes: Vec<RecordHash> = tips.into_iter().map(|fact| fact.hash).collect();
        hashes.sort_unstable();
        hashes
    }

    /// Compares what sites show of a writer's own chain with its journal, whose last head is `journalled` (seq and hash).
    pub fn preflight(
        &self,
        writer: KeyId,
        incarnation: Incarnation,
        journalled: Option<(u64, RecordHash)>,
    ) -> Preflight {
        let chain = self.chains.get(&(writer, incarnation));
        let Some((&seq, hashes)) = chain.and_then(|chain| chain.last_key_value()) else {
            return Preflight::follows(journalled);
        };
        match journalled {
            Some((last, _)) if seq < last => self.check_overlap(chain, journalled),
            Some((last, hash)) if seq == last => match hashes.iter().find(|&&shown| shown != hash) {
                Some(&shown) => Preflight::OtherBytes { seq, shown },
                None => Preflight::follows(journalled),
            },
            Some(_) | None => Preflight::Ahead {
                seq,
                shown: hashes.clone(),
            },
        }
    }

    /// A chain whose shown end lies below the journal's: it must at least not fork.
    fn check_overlap(
        &self,
        chain: Option<&BTreeMap<u64, Vec<RecordHash>>>,
        journalled: Option<(u64, RecordHash)>,
    ) -> Preflight {
        let fork = chain.and_then(|chain| {
            chain.iter().rev().find_map(|(&seq, heads)| match heads.as_slice() {
                [_, shown, ..] => Some((seq, *shown)),
                _ => None,
            })
        });
        match fork {
            Some((seq, shown)) => Preflight::OtherBytes { seq, shown },
            None => Preflight::follows(journalled),
        }
    }

    /// What a head names, as far as it is here; and what stands in for a predecessor that is not.
    fn parents_of(&self, fact: &HeadFact) -> Vec<RecordHash> {
        let known = |hash: &&RecordHash| self.facts.contains_key(hash) && **hash != fact.hash;
        let mut parents: Vec<RecordHash> = fact.tips.iter().filter(known).copied().collect();
        match fact.previous.as_ref() {
            None => {}
            Some(previous) if known(&previous) && !self.is_foreign(fact, previous) => parents.push(*previous),
            Some(previous) => {
                parents.extend(Some(*previous).filter(|previous| known(&previous)));
                let older = self
                    .chains
                    .get(&fact.chain())
                    .and_then(|chain| chain.range(..fact.seq).next_back());
                // Only an unforked place can stand in: of two branches, the wrong one would hide.
                if let Some((_, [only])) = older.map(|(seq, heads)| (seq, heads.as_slice())) {
                    parents.push(*only);
                }
            }
        }
        parents
    }

    fn is_foreign(&self, fact: &HeadFact, previous: &RecordHash) -> bool {
        self.facts
            .get(previous)
            .is_some_and(|previous| previous.chain() != fact.chain() || previous.seq.checked_add(1) != Some(fact.seq))
    }

    /// Everything that is an ancestor of one of `heads`.
    fn ancestors_of<'a>(&self, heads: impl Iterator<Item = &'a RecordHash>) -> BTreeSet<RecordHash> {
        let mut open: Vec<RecordHash> = heads
            .filter_map(|hash| self.parents.get(hash))
            .flatten()
            .copied()
            .collect();
        let mut reached = BTreeSet::new();
        while let Some(hash) = open.pop() {
            if reached.insert(hash) {
                open.extend(self.parents.get(&hash).into_iter().flatten());
            }
        }
        reached
    }

    fn superseded(&self, dataset: DatasetId) -> BTreeSet<RecordHash> {
        let own = self.facts.values().filter(|fact| fact.dataset == dataset);
        self.ancestors_of(own.map(|fact| &fact.hash))
    }

    fn in_order(&self, dataset: DatasetId, superseded: &BTreeSet<RecordHash>) -> Vec<&HeadFact> {
        let mut heads: Vec<&HeadFact> = self.facts.values().filter(|fact| fact.dataset == dataset).collect();
        heads.sort_by_key(|fact| {
            (
                superseded.contains(&fact.hash),
                Reverse(self.rank(fact.hash)),
                Reverse(fact.seq),
                Reverse(fact.sites.len()),
                (fact.writer, fact.incarnation, fact.hash),
            )
        });
        heads
    }
}

/// The places from `expected` up to, not including, `seq`.
fn missing(expected: u64, seq: u64) -> Option<RangeInclusive<u64>> {
    (expected < seq).then(|| expected..=seq - 1)
}

/// Ranks every head after all its parents. Links are hashes of what they are in, so they can't form a circle; made-up
/// facts that do keep the rank their seq gives them.
fn ranks(
    facts: &BTreeMap<RecordHash, HeadFact>,
    parents: &BTreeMap<RecordHash, Vec<RecordHash>>,
) -> BTreeMap<RecordHash, u64> {
    let mut ranks: BTreeMap<RecordHash, u64> = facts
        .values()
        .map(|fact| (fact.hash, fact.seq.saturating_add(1)))
        .collect();
    let mut waiting: BTreeMap<RecordHash, usize> =
        parents.iter().map(|(hash, parents)| (*hash, parents.len())).collect();
    let mut children: BTreeMap<RecordHash, Vec<RecordHash>> = BTreeMap::new();
    for (child, parents) in parents {
        for parent in parents {
            children.entry(*parent).or_default().push(*child);
        }
    }
    let mut ready: Vec<RecordHash> = waiting
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(hash, _)| *hash)
        .collect();
    while let Some(parent) = ready.pop() {
        let rank = ranks.get(&parent).copied().unwrap_or(0).saturating_add(1);
        for child in children.get(&parent).into_iter().flatten() {
            if let Some(own) = ranks.get_mut(child) {
                *own = (*own).max(rank);
            }
            if let Some(count) = waiting.get_mut(child) {
                *count -= 1;
                if *count == 0 {
                    ready.push(*child);
                }
            }
        }
    }
    ranks
}

/// How a writer goes on with its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preflight {
    /// The sites know nothing that the journal doesn't: this is the place of the next head.
    Continue {
        /// Its seq.
        seq: u64,
        /// Its predecessor.
        previous: Option<RecordHash>,
    },
    /// The sites know later heads: the journal was rolled back or copied. Only a new incarnation may go on; alarm.
    Ahead {
        /// The last place shown.
        seq: u64,
        /// What is there.
        shown: Vec<RecordHash>,
    },
    /// A site shows another valid head in a place of this chain: someone else signs with this key. Only a new
    /// incarnation may go on; alarm.
    OtherBytes {
        /// The place.
        seq: u64,
        /// What was shown.
        shown: RecordHash,
    },
}

impl Preflight {
    fn follows(journalled: Option<(u64, RecordHash)>) -> Self {
        match journalled {
            None => Self::Continue { seq: 0, previous: None },
            // 2^64 heads are not written in the life of a sun.
            Some((seq, hash)) => Self::Continue {
                seq: seq.saturating_add(1),
                previous: Some(hash),
            },
        }
    }
}

/// Whether witnesses have recently cosigned a checkpoint of the log that the head is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cosigned {
    /// They have.
    Recently,
    /// They have not, or there are none.
    No,
}

/// How sure it is that no newer snapshot was committed (DESIGN section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// Enough sites answered, and witnesses vouch for the log.
    F1,
    /// Enough sites answered completely: an honest one among them holds the newest committed head.
    F2,
    /// Too few answered: there may be newer ones. Restoring takes `--accept-stale` and says so.
    F3,
}

impl Grade {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F1 => "F1",
            Self::F2 => "F2",
            Self::F3 => "F3",
        }
    }
}

/// Grades what was found, by how many of the sites listed and returned all their heads.
pub fn grade(answered_completely: usize, needed: usize, cosigned: Cosigned) -> Grade {
    match (answered_completely >= needed, cosigned) {
        (true, Cosigned::Recently) => Grade::F1,
        (true, Cosigned::No) => Grade::F2,
        (false, Cosigned::Recently | Cosigned::No) => Grade::F3,
    }
}

#[cfg(test)]
mod tests;
