//! Which site of the charter a store is: what its plate says.

use exclave_model::{ArchiveNames, Charters, SignedObject, SiteId, SitePlate};
use exclave_seal::verify_one_of;
use exclave_site::{Class, Site, SiteError};

use crate::archive::SMALL_LISTING_MAX;

/// Longest plate: three short fields and one signature.
const PLATE_BYTES_MAX: usize = 64 << 10;

/// What a store shows when it is asked which site it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plate {
    /// The plate of this site of the charter, signed by a root, and of no other.
    Of(SiteId),
    /// No plate that counts: it was emptied, or is another store.
    Missing,
    /// The plate of a site that the charter named once and names no more.
    Dropped,
    /// Plates of several sites: it is believed none of them.
    Contradictory,
    /// It gave no answer.
    Unread,
}

impl Plate {
    /// The site that the store counts as.
    pub fn site(self) -> Option<SiteId> {
        match self {
            Self::Of(site) => Some(site),
            Self::Missing | Self::Dropped | Self::Contradictory | Self::Unread => None,
        }
    }

    /// Why the store counts as no site, when it answered and counts as none.
    pub fn complaint(self) -> Option<&'static str> {
        match self {
            Self::Missing => Some(
                "answers and shows no plate of this archive: it was emptied, or is another store; no shards go there",
            ),
            Self::Dropped => Some(
                "is a site that the charter names no more; no shards go there, and it can be taken out of the settings",
            ),
            Self::Contradictory => Some(
                "shows plates of several sites of this archive: stores were copied into each other; no shards go there",
            ),
            Self::Of(_) | Self::Unread => None,
        }
    }
}

/// Asks a store which site of the charter it is.
pub(crate) async fn read_plate(names: &ArchiveNames, charters: &Charters, site: &dyn Site) -> Result<Plate, SiteError> {
    let listing = site.list(&names.plate_prefix(), SMALL_LISTING_MAX).await?;
    let (mut found, mut unread) = (Plate::Missing, None);
    for entry in listing.entries {
        let bytes = match site.get(&entry.name, PLATE_BYTES_MAX as u64).await {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.class(), Class::Missing | Class::TooLong) => continue,
            Err(error) => {
                unread = Some(error);
                continue;
            }
        };
        let Ok(object) = SignedObject::from_bytes(&bytes, PLATE_BYTES_MAX) else {
            continue;
        };
        let Ok((plate, _)) = verify_one_of::<SitePlate>(&object, charters.plate_keys()) else {
            continue;
        };
        if plate.anchor != names.anchor() {
            continue;
        }
        if charters.newest().site(plate.site).is_none() {
            let was = charters.iter().any(|charter| charter.site(plate.site).is_some());
            if was && found == Plate::Missing {
                found = Plate::Dropped;
            }
            continue;
        }
        match found.site() {
            Some(before) if before != plate.site => return Ok(Plate::Contradictory),
            Some(_) | None => found = Plate::Of(plate.site),
        }
    }
    match (found, unread) {
        (Plate::Missing | Plate::Dropped, Some(error)) => Err(error),
        (found, _) => Ok(found),
    }
}
