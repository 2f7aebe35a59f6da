//! Takes a store back under its site: one that lost everything, or a new one in its place.
//!
//! A store counts as a site only while it shows the site's plate, and only a root signs plates: so an operator can't put
//! another store in a site's place, and an agent can't either. What the site lost comes back with the next replications,
//! rebuilt from the others ([`crate::debt`]).
//!
//! What is to be done is a plan first, which asks and writes nothing, and refuses what would make the charter's sites
//! doubtful: a store that is another site already or belongs to another archive, and a site that another store is.

use std::collections::BTreeSet;

use bytes::Bytes;
use exclave_model::{ObjectName, Prefix, RecordHash, SitePlate, SiteRecord, Tag, Version1};
use exclave_seal::{SigningKey, signing::SignError};
use exclave_site::SiteError;

use crate::{
    archive::{Archive, SMALL_LISTING_MAX, SiteHandle, SiteTrouble, charter_objects, history_objects},
    plate::{Plate, read_plate},
    publish::publish_at,
    surroundings::Surroundings,
};

/// Hex digits of an archive's folder at a site (FORMAT.md section 2).
const ARCHIVE_DIGITS: usize = 32;

/// What a store lacks to count as a site.
#[derive(Debug)]
pub struct Adoption {
    /// The site.
    pub site: SiteRecord,
    /// The store's position among the archive's.
    at: usize,
    /// True when it shows the site's plate already.
    pub has_plate: bool,
    /// True when it holds every version of the charter already.
    pub has_charter: bool,
    /// The versions that it lacks.
    charters: Vec<(ObjectName, Bytes)>,
}

impl Adoption {
    /// True when there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.has_plate && self.has_charter
    }
}

/// Why a store is not taken back.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The charter has no site of that name.
    #[error("the charter has no site {name:?}; it has {known}")]
    NoSuchSite {
        /// The name asked for.
        name: String,
        /// Those it has.
        known: String,
    },
    /// The store is another site.
    #[error("the store shows the plate of site {other}, not of {site}")]
    OtherSite {
        /// The site asked for.
        site: String,
        /// The one it is.
        other: String,
    },
    /// The store shows plates of several sites.
    #[error("the store shows plates of several sites of this archive")]
    Contradictory,
    /// The store holds another archive's charter.
    #[error("the store holds the charter of another archive, {archive}")]
    OtherArchive {
        /// Its folder's name: the beginning of its anchor.
        archive: String,
    },
    /// Another store shows the site's plate.
    #[error("{address} shows the plate of {site} already; a site is one store")]
    Elsewhere {
        /// The site.
        site: String,
        /// The other store.
        address: String,
    },
    /// The key is none of the charter's.
    #[error("the key is no root of this archive's charter")]
    NotARoot,
    /// A site failed.
    #[error(transparent)]
    Site(#[from] SiteTrouble),
    /// No store gave the charter that the archive was opened with.
    #[error("no store gives the charter any more")]
    CharterGone,
    /// Signing.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// It took plate and charter, and does not show them.
    #[error("{site} took the {what} and does not show it")]
    NotShown {
        /// The site.
        site: String,
        /// What is missing.
        what: &'static str,
    },
}

/// Looks at what the store `at` of the archive lacks to be the site `name` again. Nothing is written.
pub fn plan_adoption(
    archive: &Archive,
    at: usize,
    name: &str,
    surroundings: &Surroundings,
) -> Result<Adoption, AdoptError> {
    surroundings.runtime.block_on(plan(archive, at, name))
}

async fn plan(archive: &Archive, at: usize, name: &str) -> Result<Adoption, AdoptError> {
    let sites = &archive.charter().sites;
    let no_such_site = || {
        let known: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        AdoptError::NoSuchSite {
            name: name.to_owned(),
            known: known.join(", "),
        }
    };
    let site = sites.iter().find(|site| site.name == name).ok_or_else(no_such_site)?;
    let handle = archive.sites.get(at).ok_or_else(no_such_site)?;
    let failed = |error| trouble(handle, error);
    let plate = read_plate(&archive.names, &archive.charters, &*handle.site).await;
    let has_plate = match plate.map_err(failed)? {
        Plate::Of(shown) if shown == site.id => true,
        Plate::Of(other) => {
            return Err(AdoptError::OtherSite {
                site: name.to_owned(),
                other: archive.site_name(other),
            });
        }
        Plate::Contradictory => return Err(AdoptError::Contradictory),
        Plate::Missing | Plate::Dropped | Plate::Unread => false,
    };
    let mut others = archive.sites.iter().enumerate();
    if let Some((_, other)) = others.find(|(other, handle)| *other != at && handle.id == Some(site.id)) {
        return Err(AdoptError::Elsewhere {
            site: name.to_owned(),
            address: other.site.address().to_string(),
        });
    }
    if let Some(archive) = other_archive(archive, handle).await.map_err(failed)? {
        return Err(AdoptError::OtherArchive { archive });
    }
    let history = history_objects(archive).await.ok_or(AdoptError::CharterGone)?;
    let held = charter_hashes(archive, handle).await.map_err(failed)?;
    let lacking = history
        .iter()
        .zip(1..)
        .filter(|(object, _)| !held.contains(&object.record_hash()));
    let charters: Vec<(ObjectName, Bytes)> = lacking
        .map(|(object, version)| {
            let bytes = Bytes::from(object.to_bytes());
            (archive.names.charter(version, Tag::of(&bytes)), bytes)
        })
        .collect();
    Ok(Adoption {
        site: site.clone(),
        at,
        has_plate,
        has_charter: charters.is_empty(),
        charters,
    })
}

/// Signs the site's plate and puts it, and the charter, where they are missing; both must show afterwards.
pub fn adopt(
    archive: &Archive,
    adoption: &Adoption,
    root: &SigningKey,
    surroundings: &Surroundings,
) -> Result<(), AdoptError> {
    if !archive.charters.plate_keys().contains(&root.public()) {
        return Err(AdoptError::NotARoot);
    }
    let site = &adoption.site;
    let Some(handle) = archive.sites.get(adoption.at) else {
        return Err(AdoptError::CharterGone);
    };
    let plate = SitePlate {
        format: Version1,
        anchor: archive.anchor,
        site: site.id,
    };
    let plate = Bytes::from(root.sign(&plate, &mut *surroundings.entropy.entropy())?.to_bytes());
    surroundings
        .runtime
        .block_on(async {
            // The plate last: it makes the store count.
            for (name, object) in &adoption.charters {
                publish_at(handle, name, object).await?;
            }
            if !adoption.has_plate {
                publish_at(handle, &archive.names.plate(site.id, Tag::of(&plate)), &plate).await?;
            }
            Ok(())
        })
        .map_err(|error| trouble(handle, error))?;
    let shown = surroundings.runtime.block_on(async {
        let held = charter_hashes(archive, handle).await?;
        let plate = read_plate(&archive.names, &archive.charters, &*handle.site).await?;
        let mut versions = archive
            .charters
            .iter()
            .map(|charter| archive.charters.hash(charter.version));
        let charter = versions.all(|hash| hash.is_some_and(|hash| held.contains(&hash)));
        Ok((charter, plate == Plate::Of(site.id)))
    });
    let not_shown = |what| AdoptError::NotShown {
        site: site.name.clone(),
        what,
    };
    match shown.map_err(|error| trouble(handle, error))? {
        (true, true) => Ok(()),
        (false, _) => Err(not_shown("charter")),
        (true, false) => Err(not_shown("plate")),
    }
}

fn trouble(handle: &SiteHandle, error: SiteError) -> AdoptError {
    AdoptError::Site(SiteTrouble {
        site: handle.name.clone(),
        error,
    })
}

/// The records of the charters that a store holds.
async fn charter_hashes(archive: &Archive, handle: &SiteHandle) -> Result<BTreeSet<RecordHash>, SiteError> {
    let objects = charter_objects(&archive.names, &*handle.site).await?;
    Ok(objects.into_iter().map(|(_, object)| object.record_hash()).collect())
}

/// The folder of another archive whose charter lies in a store.
async fn other_archive(archive: &Archive, handle: &SiteHandle) -> Result<Option<String>, SiteError> {
    let ours = archive.names.root_prefix();
    let folders = handle.site.list_children(&Prefix::all(), SMALL_LISTING_MAX).await?;
    for folder in folders.prefixes.into_iter().filter(|folder| *folder != ours) {
        let name = folder.as_str().trim_end_matches('/');
        let hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if name.len() != ARCHIVE_DIGITS || !name.bytes().all(hex) {
            continue;
        }
        let Ok(charters) = folder.join("charter").map(|name| Prefix::below(&name)) else {
            continue;
        };
        if !handle.site.list(&charters, 1).await?.entries.is_empty() {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}
