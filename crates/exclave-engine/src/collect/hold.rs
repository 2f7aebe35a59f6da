//! Holds: what stays whatever the rules say. Placed by one person with standing, ended by roots (FORMAT.md section 23).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_model::{Hold, ObjectName, RecordHash, SignedObject, Tag, limit::RECORD_BYTES_MAX};
use exclave_seal::{CollectionError, verify_hold};

use crate::{
    archive::{Archive, SMALL_LISTING_MAX, SiteTrouble},
    charter::{PublishError, holders_needed},
    publish::publish,
    surroundings::Surroundings,
};

/// Why a hold was not placed or ended.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Those who signed may not.
    #[error("the hold would be believed by nobody")]
    Unbelievable(#[from] CollectionError),
    /// It ends a hold that isn't in force.
    #[error("no hold {0} is in force")]
    NotThere(RecordHash),
    /// The charter's classes contradict each other.
    #[error(transparent)]
    Charter(#[from] PublishError),
    /// Too few sites took it.
    #[error("{found} sites took the hold, {needed} must")]
    Sites {
        /// Sites that took it.
        found: usize,
        /// Sites that must.
        needed: usize,
        /// What the others said.
        troubles: Vec<SiteTrouble>,
    },
}

/// What came of a hold.
#[derive(Debug)]
pub struct PlacedHold {
    /// Its hash: what names it when it is ended.
    pub hash: RecordHash,
    /// Sites that hold it.
    pub sites: usize,
    /// What other sites said.
    pub troubles: Vec<SiteTrouble>,
}

/// Puts a signed hold, or the end of one, at the sites. It is repeated without harm.
pub fn place_hold(
    archive: &Archive,
    object: &SignedObject,
    surroundings: &Surroundings,
) -> Result<PlacedHold, HoldError> {
    let hold = verify_hold(object, &archive.charters)?;
    if let Some(ended) = hold.releases {
        let known = surroundings.runtime.block_on(placed(archive));
        if known.get(&ended).is_none_or(|hold| hold.releases.is_some()) {
            return Err(HoldError::NotThere(ended));
        }
    }
    let needed = holders_needed(archive.charter())?;
    let bytes = Bytes::from(object.to_bytes());
    let name = archive.names.hold(Tag::of(&bytes));
    let published = surroundings.runtime.block_on(publish(&archive.sites, &name, &bytes));
    match published.count() {
        found if found < needed => Err(HoldError::Sites {
            found,
            needed,
            troubles: published.troubles,
        }),
        sites => Ok(PlacedHold {
            hash: object.record_hash(),
            sites,
            troubles: published.troubles,
        }),
    }
}

/// The holds that are in force, by hash. What one site shows counts.
pub fn holds(archive: &Archive, surroundings: &Surroundings) -> BTreeMap<RecordHash, Hold> {
    surroundings.runtime.block_on(in_force(archive))
}

pub(super) async fn in_force(archive: &Archive) -> BTreeMap<RecordHash, Hold> {
    let mut found = placed(archive).await;
    let ended: BTreeSet<RecordHash> = found.values().filter_map(|hold| hold.releases).collect();
    found.retain(|hash, hold| hold.releases.is_none() && !ended.contains(hash));
    found
}

/// Every valid hold, and every valid end of one.
async fn placed(archive: &Archive) -> BTreeMap<RecordHash, Hold> {
    let (listings, _) = archive
        .list_everywhere(&archive.names.holds_prefix(), SMALL_LISTING_MAX)
        .await;
    let entries = listings.into_values().flat_map(|listing| listing.entries);
    let names: BTreeSet<ObjectName> = entries.map(|entry| entry.name).collect();
    let mut found = BTreeMap::new();
    for name in names {
        let fetched = archive.fetch(&name, RECORD_BYTES_MAX, |bytes| read_hold(archive, &name, bytes));
        found.extend(fetched.await.0);
    }
    found
}

/// The hold, or the end of one, that an object is under its name.
pub(crate) fn read_hold(archive: &Archive, name: &ObjectName, bytes: &Bytes) -> Option<(RecordHash, Hold)> {
    let object = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok()?;
    let hold = verify_hold(&object, &archive.charters).ok()?;
    (archive.names.hold(Tag::of(bytes)) == *name).then(|| (object.record_hash(), hold))
}
