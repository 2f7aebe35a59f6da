//! What a restore did, as data.

use exclave_dataset::sink::{SinkSummary, TarSummary};
use exclave_model::EntryPath;

use super::{error::LostWhy, select::ManifestGap};
use crate::{
    fetch::SiteTally,
    snapshot::{PassedOver, SnapshotInfo},
    survey::Freshness,
};

/// Lost entries and gaps that a report lists; further ones are only counted.
pub const LOST_LISTED_MAX: usize = 1000;

/// An entry whose data could not be restored; nothing of it was left in the target.
#[derive(Debug, Clone)]
pub struct LostEntry {
    /// Which.
    pub path: EntryPath,
    /// Why.
    pub why: LostWhy,
}

/// What could not be restored.
#[derive(Debug, Clone, Default)]
pub struct Lost {
    /// How many entries.
    pub count: u64,
    /// The first 1,000 of them, in the order in which they were found to be lost.
    pub listed: Vec<LostEntry>,
    /// How many stretches of the manifest can't be read. What they name is unknown, and lost.
    pub gaps_count: u64,
    /// The first 1,000 of them.
    pub gaps: Vec<ManifestGap>,
}

impl Lost {
    pub(crate) fn entry(&mut self, path: EntryPath, why: LostWhy) {
        self.count += 1;
        if self.listed.len() < LOST_LISTED_MAX {
            self.listed.push(LostEntry { path, why });
        }
    }

    pub(crate) fn gap(&mut self, gap: ManifestGap) {
        self.gaps_count += 1;
        if self.gaps.len() < LOST_LISTED_MAX {
            self.gaps.push(gap);
        }
    }

    /// True when nothing was lost.
    pub fn is_nothing(&self) -> bool {
        self.count == 0 && self.gaps_count == 0
    }
}

/// What the target says about what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// A tree.
    Tree(SinkSummary),
    /// A tar stream.
    Tar(TarSummary),
    /// The bytes of one file.
    Raw,
    /// Nothing: everything was read and checked only.
    Nothing,
}

/// How a restore that went through ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Everything that was selected is there.
    Complete,
    /// Every byte could be read, but something has to be looked at: the target did not take some entries, a path that was
    /// asked for is not there, a site gave wrong bytes, or another snapshot is as new as this one.
    Findings,
    /// Some of it can't be had from these sites.
    Damaged,
}

/// What a restore did.
#[derive(Debug, Clone)]
pub struct RestoreReport {
    /// Which snapshot.
    pub snapshot: SnapshotInfo,
    /// How sure it is that no newer one exists.
    pub freshness: Freshness,
    /// Heads of the same dataset that were tried and not opened.
    pub passed_over: Vec<PassedOver>,
    /// Other snapshots of the dataset that are as new: writers that did not see each other.
    pub rivals: Vec<SnapshotInfo>,
    /// Entries handled.
    pub entries: u64,
    /// Files whose bytes were all read and checked, those kept from an earlier try included.
    pub files: u64,
    /// Raw bytes read, checked and handed to the target.
    pub bytes: u64,
    /// What each site gave and failed to give since the snapshots were opened.
    pub sites: Vec<SiteTally>,
    /// What could not be restored.
    pub lost: Lost,
    /// Paths that were asked for and are not in the snapshot.
    pub not_found: Vec<EntryPath>,
    /// What the target says.
    pub written: Written,
}

impl RestoreReport {
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        let refused = match &self.written {
            Written::Tree(summary) => summary.problems_count,
            Written::Tar(summary) => summary.problems_count,
            Written::Raw | Written::Nothing => 0,
        };
        if !self.lost.is_nothing() {
            return Outcome::Damaged;
        }
        let nobody_lied = self.sites.iter().all(|site| site.corrupt == 0);
        match refused == 0 && self.not_found.is_empty() && nobody_lied && self.rivals.is_empty() {
            true => Outcome::Complete,
            false => Outcome::Findings,
        }
    }

    /// Bytes that arrived from all sites.
    pub fn bytes_fetched(&self) -> u64 {
        self.sites.iter().map(|site| site.bytes).sum()
    }
}
