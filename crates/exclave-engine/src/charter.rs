//! Publishing a later version of the charter.
//!
//! A new version changes which sites there are, so it is joint: before it is published, every small record that a reader
//! needs (charters, heads, grants, and what runs publish beside their shards) lies at enough sites of the new version that no
//! reader of it can miss one; and the charter itself must reach enough sites of the old version and of the new one.
//! Copies need no key: a record's name ends in its hash, and it is verified as readers do before it is carried anywhere.
//!
//! The order is plates, records, charter. It can be interrupted anywhere and run again: everything is named by its bytes.
//! Shards are not moved. A site that a version drops is a lost site to the snapshots with shards there.

mod proposal;

use std::sync::Arc;

use exclave_model::{Charter, RecordError, SiteId, SiteRecord, Tag};
use exclave_plan::{RefusedQuorum, quorum::Quorums};
use exclave_seal::{VerifyError, verify_next_charter};

pub use self::proposal::{Proposal, ProposalError, read_history};
use crate::{
    archive::{Archive, SiteHandle, SiteTrouble},
    plate::{Plate, read_plate},
    publish::{Published, publish, publish_at},
    records::{Bringing, RecordTally, bring_over},
    surroundings::Surroundings,
    survey::SurveyError,
};

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
    /// The file holds a version that was signed and never published.
    #[error("the sites show charter version {shown}, and version {missing} of the file was never published")]
    Skips {
        /// The newest version that they show.
        shown: u32,
        /// The next one.
        missing: u32,
    },
    /// The sites don't show it afterwards as the newest and only one of its number.
    #[error(
        "the sites took it and do not show it as the one version {version}: another one was published too, or is hidden"
    )]
    Disputed {
        /// Its version.
        version: u32,
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
    /// What was written could not be restored from the sites that stay.
    #[error("{stripes} stripes that were written have fewer shards at the sites that stay than a restore needs")]
    Unrestorable {
        /// How many.
        stripes: u64,
    },
    /// A record of the charter can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The heads can't be surveyed.
    #[error(transparent)]
    Survey(#[from] SurveyError),
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

/// How a charter is to be published.
#[derive(Debug, Clone, Copy, Default)]
pub struct Publishing {
    /// Write nothing: the report tells what would be.
    pub dry_run: bool,
    /// Drop sites although stripes that were written keep fewer shards than a restore needs at those that stay.
    pub accept_loss: bool,
}

/// What publishing did, or would do.
#[derive(Debug, Default)]
pub struct PublishReport {
    /// The small records.
    pub records: RecordTally,
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

/// Publishes the proposed version.
pub fn publish_charter(
    archive: &Archive,
    proposal: &Proposal,
    publishing: Publishing,
    surroundings: &Surroundings,
) -> Result<PublishReport, PublishError> {
    let dry_run = publishing.dry_run;
    verify_next_charter(&proposal.object, &proposal.before).map_err(PublishError::Signatures)?;
    follows_what_is_there(archive, proposal)?;
    let needed = holders_needed(&proposal.next)?;
    let mut archive = archive.clone();
    let mut report = PublishReport::default();
    for site in proposal.added() {
        install(&mut archive, proposal, site, dry_run, &mut report, surroundings)?;
    }
    surroundings.runtime.block_on(async {
        let mut charters = proposal.before.clone();
        charters
            .push(proposal.next.clone(), proposal.digest())
            .map_err(|rule| PublishError::Signatures(VerifyError::Succession(rule)))?;
        let bringing = Bringing {
            before: proposal.before.newest(),
            next: &proposal.next,
            reread: false,
            dry_run,
            accept_loss: publishing.accept_loss,
        };
        let records = &mut report.records;
        bring_over(&archive, charters, bringing, records).await?;
        if let Some((name, found)) = records.first_short.take() {
            return Err(PublishError::Records {
                count: records.short,
                name,
                found,
                needed,
                troubles: std::mem::take(&mut records.troubles),
            });
        }
        if dry_run {
            return Ok(report);
        }
        put_charter(&archive, proposal, needed, &mut report).await?;
        is_in_force(&archive, proposal).await?;
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
    if ours != Some(archive.charters.newest_hash()) {
        return Err(PublishError::Outdated { shown });
    }
    // Sites know a version only through the one before it.
    match shown.saturating_add(1) < proposal.next.version {
        true => Err(PublishError::Skips {
            shown,
            missing: shown.saturating_add(1),
        }),
        false => Ok(()),
    }
}

/// Whether the sites show the proposed version as the newest, and no other of its number.
async fn is_in_force(archive: &Archive, proposal: &Proposal) -> Result<(), PublishError> {
    let stores = archive
        .sites
        .iter()
        .map(|handle| (handle.name.clone(), Arc::clone(&handle.site)));
    let disputed = PublishError::Disputed {
        version: proposal.next.version,
    };
    match Archive::open(archive.anchor, stores.collect()).await {
        Ok((shown, _)) if shown.fork.is_none() && shown.charters.newest_hash() == proposal.digest() => Ok(()),
        Ok(_) | Err(_) => Err(disputed),
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
    let failed = |error| {
        PublishError::Plate(SiteTrouble {
            site: site.name.clone(),
            error,
        })
    };
    let mut charters = proposal.before.clone();
    charters
        .push(proposal.next.clone(), proposal.digest())
        .map_err(|rule| PublishError::Signatures(VerifyError::Succession(rule)))?;
    // Asked again: two new sites may be one store under two addresses.
    let shown = surroundings
        .runtime
        .block_on(read_plate(&archive.names, &charters, &*handle.site));
    match shown.map_err(failed)? {
        Plate::Of(found) if found != site.id => Err(PublishError::OtherPlate {
            name: site.name.clone(),
            found: found.to_hex(),
        }),
        Plate::Contradictory => Err(PublishError::Contradictory(site.name.clone())),
        _ => surroundings
            .runtime
            .block_on(publish_at(handle, &name, &bytes))
            .map_err(failed),
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
