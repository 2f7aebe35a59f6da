//! An archive as seen through the sites that answer: its charter, its names, who is who.
//!
//! Only the anchor is brought along. The charter is whatever object at any site has a record of that hash and enough
//! root signatures; a store's plate tells which site of the charter it is. A store without a (valid) plate is used too,
//! as a stranger: shards are found by name and believed by hash.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use exclave_model::{
    Anchor, ArchiveNames, Charter, ObjectName, RecordHash, SignedObject, SiteId, SitePlate, SiteRecord,
    limit::RECORD_BYTES_MAX,
};
use exclave_seal::verify_threshold;
use exclave_site::{Class as FailureClass, Site, SiteError};
use futures::future::join_all;

/// Most charters and plates that are looked at per site; more are a sign of a store that isn't ours.
const SMALL_LISTING_MAX: usize = 1000;

/// One site of an archive.
#[derive(Debug, Clone)]
pub struct SiteHandle {
    /// What people call it: its name in the charter or in the settings, else its address.
    pub name: String,
    /// Which site of the charter it is; `None` for a store whose plate is missing or contradicts itself.
    pub id: Option<SiteId>,
    /// What the charter says about it.
    pub record: Option<SiteRecord>,
    /// The store.
    pub site: Arc<dyn Site>,
}

/// A site that did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("{site}: {error}")]
pub struct SiteTrouble {
    /// The site's name.
    pub site: String,
    /// What happened.
    #[source]
    pub error: SiteError,
}

/// Why an archive can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No site that answered holds the charter.
    #[error("no charter with anchor {anchor} at {answered} of {asked} sites that answered")]
    NoCharter {
        /// The anchor looked for.
        anchor: Anchor,
        /// Sites that answered.
        answered: usize,
        /// Sites asked.
        asked: usize,
        /// What the others said.
        troubles: Vec<SiteTrouble>,
    },
}

/// An archive whose charter was found and verified.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Its trust anchor.
    pub anchor: Anchor,
    /// The names of its objects.
    pub names: ArchiveNames,
    /// Its charter.
    pub charter: Charter,
    /// The sites that were handed in, also those that did not answer.
    pub sites: Vec<SiteHandle>,
}

impl Archive {
    /// Finds the charter at any of the sites, and each store's plate. Troubles of single sites are findings.
    pub async fn open(
        anchor: Anchor,
        stores: Vec<(String, Arc<dyn Site>)>,
    ) -> Result<(Self, Vec<SiteTrouble>), ArchiveError> {
        let names = ArchiveNames::new(anchor);
        let mut troubles = Vec::new();
        let mut charter = None;
        let asked = stores.len();
        let found = join_all(stores.iter().map(|(_, site)| find_charter(&names, anchor, &**site))).await;
        for ((name, _), found) in stores.iter().zip(found) {
            match found {
                Ok(Some(found)) => charter = Some(found),
                Ok(None) => {}
                Err(error) => troubles.push(SiteTrouble {
                    site: name.clone(),
                    error,
                }),
            }
        }
        let Some(charter) = charter else {
            return Err(ArchiveError::NoCharter {
                anchor,
                answered: asked - troubles.len(),
                asked,
                troubles,
            });
        };
        let plates = join_all(stores.iter().map(|(_, site)| read_plate(&names, &charter, &**site))).await;
        let sites = stores.into_iter().zip(plates).map(|((name, site), id)| {
            let record = id.and_then(|id| charter.site(id)).cloned();
            let name = record.as_ref().map_or(name, |record| record.name.clone());
            SiteHandle { name, id, record, site }
        });
        let sites = sites.collect();
        Ok((
            Self {
                anchor,
                names,
                charter,
                sites,
            },
            troubles,
        ))
    }

    /// The handed-in site with an id.
    pub fn site(&self, id: SiteId) -> Option<&SiteHandle> {
        self.sites.iter().find(|site| site.id == Some(id))
    }

    /// Names of sites by id, for reports.
    pub fn site_name(&self, id: SiteId) -> String {
        self.charter
            .site(id)
            .map_or_else(|| id.to_hex(), |record| record.name.clone())
    }

    /// Fetches a small object from the first site whose bytes `accept` takes.
    ///
    /// `None` when no site has acceptable bytes; what each site said instead is in the list.
    pub async fn fetch<T>(
        &self,
        name: &ObjectName,
        bytes_max: usize,
        mut accept: impl FnMut(&Bytes) -> Option<T>,
    ) -> (Option<T>, Vec<SiteTrouble>) {
        let mut troubles = Vec::new();
        for handle in &self.sites {
            match handle.site.get(name, bytes_max as u64).await {
                Ok(bytes) => {
                    if let Some(value) = accept(&bytes) {
                        return (Some(value), troubles);
                    }
                }
                Err(error) if error.class() == FailureClass::Missing => {}
                Err(error) => troubles.push(SiteTrouble {
                    site: handle.name.clone(),
                    error,
                }),
            }
        }
        (None, troubles)
    }

    /// Lists a prefix at every site; sites that failed are missing from the map and stand in the list.
    pub async fn list_everywhere(
        &self,
        prefix: &exclave_model::Prefix,
        entries_max: usize,
    ) -> (BTreeMap<usize, exclave_site::Listing>, Vec<SiteTrouble>) {
        let listings = join_all(self.sites.iter().map(|handle| handle.site.list(prefix, entries_max))).await;
        let mut answered = BTreeMap::new();
        let mut troubles = Vec::new();
        for (at, (handle, listing)) in self.sites.iter().zip(listings).enumerate() {
            match listing {
                Ok(listing) => {
                    answered.insert(at, listing);
                }
                Err(error) => troubles.push(SiteTrouble {
                    site: handle.name.clone(),
                    error,
                }),
            }
        }
        (answered, troubles)
    }
}

/// The charter whose record hash is the anchor, when this store has it and its roots signed it.
async fn find_charter(names: &ArchiveNames, anchor: Anchor, site: &dyn Site) -> Result<Option<Charter>, SiteError> {
    let listing = site.list(&names.charter_prefix(), SMALL_LISTING_MAX).await?;
    for entry in listing.entries {
        let bytes = site.get(&entry.name, RECORD_BYTES_MAX as u64).await?;
        if let Some(charter) = verify_charter(&bytes, anchor) {
            return Ok(Some(charter));
        }
    }
    Ok(None)
}

/// Reads a charter object and checks that it is the anchor's and that its own roots signed it.
pub fn verify_charter(bytes: &[u8], anchor: Anchor) -> Option<Charter> {
    use exclave_model::Record;
    let object = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok()?;
    if object.record_hash() != RecordHash::from_bytes(*anchor.as_bytes()) {
        return None;
    }
    // The hash is the anchor, so the roots in it are the ones the owner meant; now they must have signed.
    let roots = Charter::from_bytes(object.record_bytes()).ok()?.roots;
    verify_threshold::<Charter>(&object, &roots.keys, roots.threshold as usize).ok()
}

/// Which site of the charter a store says it is; `None` when it says nothing, or two things.
async fn read_plate(names: &ArchiveNames, charter: &Charter, site: &dyn Site) -> Option<SiteId> {
    let listing = site.list(&names.plate_prefix(), SMALL_LISTING_MAX).await.ok()?;
    let mut found = None;
    for entry in listing.entries {
        let Ok(bytes) = site.get(&entry.name, 64 << 10).await else {
            continue;
        };
        let Ok(object) = SignedObject::from_bytes(&bytes, 64 << 10) else {
            continue;
        };
        let Ok(plate) = verify_threshold::<SitePlate>(&object, &charter.roots.keys, 1) else {
            continue;
        };
        let ours = plate.anchor == names.anchor() && charter.site(plate.site).is_some();
        if ours && found.replace(plate.site).is_some_and(|before| before != plate.site) {
            return None;
        }
    }
    found
}
