//! Publishing a later version of the charter.
//!
//! A new version changes which sites there are, so it is joint: before it is published, every small record that a reader
//! needs (charters, heads, grants, and what runs publish beside their shards) lies at enough sites of the new version that no
//! reader of it can miss one; and the charter itself must reach enough sites of the old version and of the new one.
//! Copies need no key: a record's name ends in its hash, and readers verify what it says.
//!
//! The order is plates, records, charter. It can be interrupted anywhere and run again: everything is named by its bytes.
//! Shards are not moved. A site that a version drops is a lost site to the snapshots with shards there.

mod proposal;

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{Charter, ObjectName, RecordError, SiteId, SiteRecord, Tag, limit::RECORD_BYTES_MAX};
use exclave_plan::{RefusedQuorum, quorum::Quorums};
use exclave_seal::{VerifyError, verify_next_charter};
use exclave_site::Class;
use futures::stream::{self, StreamExt};

pub use self::proposal::{Proposal, ProposalError, read_history};
use crate::{
    archive::{Archive, SiteHandle, SiteTrouble},
    plate::Plate,
    publish::{Published, publish, publish_at},
    surroundings::Surroundings,
};

/// Small records that one site may list; a hundred datasets' daily runs for decades.
const RECORDS_MAX: usize = 10_000_000;

/// Records that are copied at the same time.
const COPIES_AT_ONCE: usize = 16;

/// Why a charter was not published. Nothing that was published before is touched.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Roots have to sign still.
    #[error("it is not signed by enough roots")]
    Signatures(#[source] VerifyError),
    /// The sites show a history that the file does not know.
    #[error("the sites show charter version {shown}, which the file does not follow")]
    Outdated {
        /// The version.
        shown: u32,
    },
    /// A site that the charter adds is not at hand.
    #[error("the charter adds site {0}, and no store was given for it")]
    NoStore(String),
    /// A store for a new site belongs to another one.
    #[error("the store for the new site {name} bears the plate of site {found}")]
    OtherPlate {
        /// The new site.
        name: String,
        /// Whose plate it bears.
        found: String,
    },
    /// A store for a new site shows plates of several sites already.
    #[error("the store for the new site {0} shows plates of several sites: stores were copied into each other")]
    Contradictory(String),
    /// Nobody signed a plate for a site that the charter adds.
    #[error("the file holds no plate for the new site {0}")]
    NoPlate(String),
    /// A site that the charter adds did not take its plate.
    #[error("a new site did not take its plate")]
    Plate(#[source] SiteTrouble),
    /// The class's numbers don't fit the new sites.
    #[error("class {class} can't be met by the new charter's {sites} sites")]
    Class {
        /// The class.
        class: u32,
        /// The sites.
        sites: usize,
    },
    /// A class's numbers contradict each other.
    #[error("class {class} can't be met")]
    Quorum {
        /// The class.
        class: u32,
        /// Why.
        #[source]
        source: RefusedQuorum,
    },
    /// A record of the charter can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Too few sites hold a small record.
    #[error(
        "{count} small records lie at too few sites of the new charter, {needed} are needed; the first is {name}, at {found}"
    )]
    Records {
        /// How many.
        count: usize,
        /// One of them.
        name: String,
        /// Sites that hold it.
        found: usize,
        /// Sites that must.
        needed: usize,
        /// What sites said.
        troubles: Vec<SiteTrouble>,
    },
    /// Too few sites took the charter.
    #[error("{found} of {sites} sites of the {which} charter took it, {needed} are needed")]
    Charter {
        /// `old` or `new`.
        which: &'static str,
        /// Sites that took it.
        found: usize,
        /// All.
        sites: usize,
        /// Sites that must.
        needed: usize,
        /// What sites said.
        troubles: Vec<SiteTrouble>,
    },
    /// The sites can't be listed.
    #[error("too few sites can be listed: {found} of {sites}, {needed} are needed")]
    Unlisted {
        /// Sites that were listed.
        found: usize,
        /// All.
        sites: usize,
        /// Sites that must.
        needed: usize,
        /// What the others said.
        troubles: Vec<SiteTrouble>,
    },
}

/// What publishing did, or would do.
#[derive(Debug, Default)]
pub struct PublishReport {
    /// Small records that readers of the archive need.
    pub records: usize,
    /// Copies of them that were made.
    pub copied: usize,
    /// Sites that got a plate.
    pub plates: Vec<String>,
    /// Sites that hold the charter now.
    pub holders: Vec<String>,
    /// What other sites said.
    pub troubles: Vec<SiteTrouble>,
}

/// How many sites of a charter must hold a small record so that no layout of any class can miss it.
///
/// A layout is n of the charter's sites and must have q holders: at most n - q sites may be without, wherever they are.
pub fn holders_needed(charter: &Charter) -> Result<usize, PublishError> {
    let sites = charter.sites.len();
    let mut without = sites;
    for class in &charter.classes {
        let policy = class
            .policy()
            .map_err(|rule| RecordError::Unlawful { kind: "charter", rule })?;
        let quorums = Quorums::new(policy.geometry, Some(policy.losses), policy.liars).map_err(|source| {
            PublishError::Quorum {
                class: class.id,
                source,
            }
        })?;
        let (layout, heads) = (usize::from(quorums.sites()), usize::from(quorums.heads()));
        if layout > sites {
            return Err(PublishError::Class { class: class.id, sites });
        }
        without = without.min(layout.saturating_sub(heads));
    }
    Ok(sites - without)
}

/// Publishes the proposed version. With `dry_run` nothing is written: the report tells what would be.
pub fn publish_charter(
    archive: &Archive,
    proposal: &Proposal,
    dry_run: bool,
    surroundings: &Surroundings,
) -> Result<PublishReport, PublishError> {
    verify_next_charter(&proposal.object, &proposal.before).map_err(PublishError::Signatures)?;
    follows_what_is_there(archive, proposal)?;
    let needed = holders_needed(&proposal.next)?;
    let mut archive = archive.clone();
    let mut report = PublishReport::default();
    for site in proposal.added() {
        install(&mut archive, proposal, site, dry_run, &mut report, surroundings)?;
    }
    surroundings.runtime.block_on(async {
        let lying = small_records(&archive, proposal.before.newest(), &mut report).await?;
        bring_over(&archive, proposal, lying, needed, dry_run, &mut report).await?;
        if dry_run {
            return Ok(report);
        }
        put_charter(&archive, proposal, needed, &mut report).await?;
        Ok(report)
    })
}

/// The sites' history is a beginning of the file's.
fn follows_what_is_there(archive: &Archive, proposal: &Proposal) -> Result<(), PublishError> {
    let shown = archive.charter().version;
    let ours = match shown == proposal.next.version {
        true => Some(proposal.digest()),
        false => proposal.before.hash(shown),
    };
    match ours == Some(archive.charters.newest_hash()) {
        true => Ok(()),
        false => Err(PublishError::Outdated { shown }),
    }
}

/// Gives a new site's store its plate.
fn install(
    archive: &mut Archive,
    proposal: &Proposal,
    site: &SiteRecord,
    dry_run: bool,
    report: &mut PublishReport,
    surroundings: &Surroundings,
) -> Result<(), PublishError> {
    let is_its = |handle: &&mut SiteHandle| handle.id == Some(site.id) || handle.name == site.name;
    let at = archive.sites.iter_mut().find(is_its);
    let handle = at.ok_or_else(|| PublishError::NoStore(site.name.clone()))?;
    match handle.id {
        Some(found) if found == site.id => return Ok(()),
        Some(found) => {
            return Err(PublishError::OtherPlate {
                name: site.name.clone(),
                found: found.to_hex(),
            });
        }
        None if handle.plate == Plate::Contradictory => return Err(PublishError::Contradictory(site.name.clone())),
        None => {}
    }
    let plate = proposal
        .plate(site.id)
        .ok_or_else(|| PublishError::NoPlate(site.name.clone()))?;
    (handle.id, handle.record) = (Some(site.id), Some(site.clone()));
    handle.plate = Plate::Of(site.id);
    report.plates.push(site.name.clone());
    if dry_run {
        return Ok(());
    }
    let bytes = bytes::Bytes::from(plate.to_bytes());
    let name = archive.names.plate(site.id, Tag::of(&bytes));
    let placed = surroundings.runtime.block_on(publish_at(handle, &name, &bytes));
    placed.map_err(|error| {
        PublishError::Plate(SiteTrouble {
            site: site.name.clone(),
            error,
        })
    })
}

/// Which store holds which small record.
type Lying = BTreeMap<ObjectName, BTreeSet<usize>>;

/// Lists small records at every store; enough sites of the old charter must answer, or some might be missed.
async fn small_records(archive: &Archive, before: &Charter, report: &mut PublishReport) -> Result<Lying, PublishError> {
    let names = &archive.names;
    let mut lying = Lying::new();
    let mut answered: BTreeSet<usize> = (0..archive.sites.len()).collect();
    let prefixes = [
        names.charter_prefix(),
        names.runs_prefix(),
        names.heads_prefix(),
        names.grants_prefix(),
    ];
    for prefix in prefixes {
        let (listings, troubles) = archive.list_everywhere(&prefix, RECORDS_MAX).await;
        answered.retain(|at| listings.get(at).is_some_and(|listing| listing.complete));
        report.troubles.extend(troubles);
        for (at, listing) in listings {
            for entry in listing.entries {
                lying.entry(entry.name).or_default().insert(at);
            }
        }
    }
    let ids = answered.iter().filter_map(|at| archive.sites.get(*at)?.id);
    let found = ids.filter(|id| before.site(*id).is_some()).count();
    // Every record lies at q sites of its layout: as many must be listed as leave no room for it to hide.
    let sites = before.sites.len();
    let needed = (sites + 1).saturating_sub(holders_needed(before)?).max(1);
    match found >= needed {
        true => Ok(lying),
        false => Err(PublishError::Unlisted {
            found,
            sites,
            needed,
            troubles: std::mem::take(&mut report.troubles),
        }),
    }
}

/// Copies what sites of the new charter lack, and counts.
async fn bring_over(
    archive: &Archive,
    proposal: &Proposal,
    lying: Lying,
    needed: usize,
    dry_run: bool,
    report: &mut PublishReport,
) -> Result<(), PublishError> {
    // One store for each site: a second one with the same plate counts for nothing.
    let mut seen = BTreeSet::new();
    let ids = archive.sites.iter().map(|handle| handle.id);
    let targets: Vec<usize> = ids
        .enumerate()
        .filter(|(_, id)| id.is_some_and(|id| proposal.next.site(id).is_some() && seen.insert(id)))
        .map(|(at, _)| at)
        .collect();
    report.records = lying.len();
    let work = stream::iter(lying).map(|(name, holders)| {
        let targets = &targets;
        async move {
            let lacking: Vec<usize> = targets.iter().copied().filter(|at| !holders.contains(at)).collect();
            let held = targets.len() - lacking.len();
            if lacking.is_empty() || dry_run {
                return (name, held, lacking.len(), Vec::new());
            }
            match copy(archive, &name, &holders, &lacking).await {
                Copied::To(copied, troubles) => (name, held + copied, copied, troubles),
                Copied::Unreachable(troubles) => (name, held, 0, troubles),
                // A store may list what it likes.
                Copied::NoRecord => (name, needed, 0, Vec::new()),
            }
        }
    });
    let mut work = std::pin::pin!(work.buffer_unordered(COPIES_AT_ONCE));
    let (mut short, mut first) = (0, None);
    while let Some((name, held, copied, troubles)) = work.next().await {
        report.copied += copied;
        report.troubles.extend(troubles);
        if held + if dry_run { copied } else { 0 } < needed {
            short += 1;
            first.get_or_insert((name.to_string(), held));
        }
    }
    match first {
        None => Ok(()),
        Some((name, found)) => Err(PublishError::Records {
            count: short,
            name,
            found,
            needed,
            troubles: std::mem::take(&mut report.troubles),
        }),
    }
}

enum Copied {
    /// To so many stores.
    To(usize, Vec<SiteTrouble>),
    /// No store that lists it gave it, and some did not answer.
    Unreachable(Vec<SiteTrouble>),
    /// All stores that list it gave other bytes than its name tells, or none.
    NoRecord,
}

/// Copies one record to stores that lack it, from the first store whose bytes its name tells.
async fn copy(archive: &Archive, name: &ObjectName, holders: &BTreeSet<usize>, lacking: &[usize]) -> Copied {
    let mut troubles = Vec::new();
    for holder in holders.iter().filter_map(|at| archive.sites.get(*at)) {
        match holder.site.get(name, RECORD_BYTES_MAX as u64).await {
            Ok(bytes) if name.tag() == Some(Tag::of(&bytes)) => {
                let sites: Vec<SiteHandle> = lacking
                    .iter()
                    .filter_map(|at| archive.sites.get(*at))
                    .cloned()
                    .collect();
                let published = publish(&sites, name, &bytes).await;
                troubles.extend(published.troubles);
                return Copied::To(published.sites.len(), troubles);
            }
            Ok(_) => {}
            Err(error) if matches!(error.class(), Class::Missing | Class::TooLong) => {}
            Err(error) => troubles.push(SiteTrouble {
                site: holder.name.clone(),
                error,
            }),
        }
    }
    match troubles.is_empty() {
        true => Copied::NoRecord,
        false => Copied::Unreachable(troubles),
    }
}

async fn put_charter(
    archive: &Archive,
    proposal: &Proposal,
    needed: usize,
    report: &mut PublishReport,
) -> Result<(), PublishError> {
    let bytes = bytes::Bytes::from(proposal.object.to_bytes());
    let name = archive.names.charter(proposal.next.version, Tag::of(&bytes));
    let published = publish(&archive.sites, &name, &bytes).await;
    let before = proposal.before.newest();
    let counts = [
        ("old", before, holders_needed(before)?),
        ("new", &proposal.next, needed),
    ];
    report.holders = holders(archive, &published);
    for (which, charter, needed) in counts {
        let sites: Vec<SiteId> = charter.sites.iter().map(|site| site.id).collect();
        let found = published.count_in(&sites);
        if found < needed {
            return Err(PublishError::Charter {
                which,
                found,
                sites: sites.len(),
                needed,
                troubles: published.troubles,
            });
        }
    }
    report.troubles.extend(published.troubles);
    Ok(())
}

fn holders(archive: &Archive, published: &Published) -> Vec<String> {
    let named = archive
        .sites
        .iter()
        .filter(|handle| handle.id.is_some_and(|id| published.sites.contains(&id)));
    named.map(|handle| handle.name.clone()).collect()
}

#[cfg(test)]
mod tests;
