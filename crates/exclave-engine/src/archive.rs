//! An archive as seen through the sites that answer: its charter, its names, who is who.
//!
//! Only the anchor is brought along. The charter is whatever object at any site has a record of that hash and enough
//! root signatures, and whatever later versions follow it by signatures and the law of succession; what the sites show
//! together counts, since each alone may hide a version. A store's plate tells which site of the charter it is. A store without a (valid) plate is used too,
//! as a stranger: shards are found by name and believed by hash.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use exclave_model::{
    Anchor, ArchiveNames, Charter, Charters, ObjectName, Record as _, RecordHash, SignedObject, SiteId, SiteRecord,
    Tag, limit::RECORD_BYTES_MAX,
};
use exclave_seal::{verify_charter, verify_next_charter};
use exclave_site::{Class as FailureClass, Seeing, Sight, Site, SiteError};
use futures::future::join_all;

use crate::plate::{Plate, read_plate};

/// Most charters and plates that are looked at per site; more are a sign of a store that isn't ours.
pub(crate) const SMALL_LISTING_MAX: usize = 1000;

/// Bytes of charters that are kept of one site: a hundred versions of a large state's. A hostile one can fill it, and
/// hides nothing that another shows.
const CHARTER_BYTES_PER_SITE_MAX: usize = 2 * RECORD_BYTES_MAX;

/// One site of an archive.
#[derive(Debug, Clone)]
pub struct SiteHandle {
    /// What people call it: its name in the charter or in the settings, else its address.
    pub name: String,
    /// Which site of the charter it is; `None` for a store whose plate is missing or contradicts itself.
    pub id: Option<SiteId>,
    /// What the charter says about it.
    pub record: Option<SiteRecord>,
    /// What it showed when it was asked which site it is.
    pub plate: Plate,
    /// The store, seen through whatever was laid on top of its objects.
    pub site: Arc<dyn Site>,
    /// What had to be seen through so far.
    pub sight: Sight,
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

/// Two versions of a charter in one place, both signed by enough roots. Nothing in them tells which is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the roots signed {} different charters of version {version}: {}", hashes.len(), listed(hashes))]
pub struct CharterFork {
    /// Their version.
    pub version: u32,
    /// Their hashes, ascending.
    pub hashes: Vec<RecordHash>,
    /// The one that was taken, since the reader knew it; `None` when history ends before them.
    pub taken: Option<RecordHash>,
}

fn listed(hashes: &[RecordHash]) -> String {
    hashes.iter().map(RecordHash::to_hex).collect::<Vec<_>>().join(", ")
}

/// A store that is a copy of another site's, or the same one under another address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} shows the plate that {first} shows too; a site is one store, and nothing goes to the second")]
pub struct SecondStore {
    /// Its address.
    pub address: String,
    /// The store that counts.
    pub first: String,
}

/// Objects of a site that a plain read doesn't find, since somebody laid delete markers or other bytes on top of them. They
/// were read all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{site}: {count} objects lie beneath {on_top} delete markers and versions that are not ours, {first} among them: whoever \
     laid these there has a credential that may put or delete"
)]
pub struct Poisoned {
    /// The site's name.
    pub site: String,
    /// How many objects.
    pub count: u64,
    /// How many delete markers and versions lie on top of those that are known by name.
    pub on_top: u64,
    /// One of them.
    pub first: String,
}

/// An archive whose charter was found and verified.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Its trust anchor.
    pub anchor: Anchor,
    /// The names of its objects.
    pub names: ArchiveNames,
    /// Its charter: every version that the sites show.
    pub charters: Charters,
    /// The place where the roots signed two different versions, when they did: history ends before it.
    pub fork: Option<CharterFork>,
    /// The sites that were handed in, also those that did not answer.
    pub sites: Vec<SiteHandle>,
    /// Grants that the reader brought along, not verified yet.
    pub grants: Vec<Vec<u8>>,
}

impl Archive {
    /// Finds the charter at any of the sites, and each store's plate. Troubles of single sites are findings.
    pub async fn open(
        anchor: Anchor,
        stores: Vec<(String, Arc<dyn Site>)>,
    ) -> Result<(Self, Vec<SiteTrouble>), ArchiveError> {
        Self::open_knowing(anchor, stores, None).await
    }

    /// The same, for one who knows a version of the charter by its hash: where two were signed, the side on which it
    /// lies is taken.
    pub async fn open_knowing(
        anchor: Anchor,
        stores: Vec<(String, Arc<dyn Site>)>,
        known: Option<RecordHash>,
    ) -> Result<(Self, Vec<SiteTrouble>), ArchiveError> {
        Self::open_bringing(anchor, stores, known, Vec::new()).await
    }

    /// The same, for one who brings charters along, as a kit does: they count as if one more site showed them.
    pub async fn open_bringing(
        anchor: Anchor,
        stores: Vec<(String, Arc<dyn Site>)>,
        known: Option<RecordHash>,
        brought: Vec<SignedObject>,
    ) -> Result<(Self, Vec<SiteTrouble>), ArchiveError> {
        let names = ArchiveNames::new(anchor);
        let (stores, sights): (Vec<_>, Vec<_>) = stores.into_iter().map(seeing).unzip();
        let mut troubles = Vec::new();
        let brought = brought.into_iter();
        let mut objects: BTreeMap<RecordHash, SignedObject> = brought
            .map(|object| (RecordHash::of(&object.to_bytes()), object))
            .collect();
        let asked = stores.len();
        let found = join_all(stores.iter().map(|(_, site)| charter_objects(&names, &**site))).await;
        for ((name, _), found) in stores.iter().zip(found) {
            match found {
                Ok(found) => objects.extend(found),
                Err(error) => troubles.push(SiteTrouble {
                    site: name.clone(),
                    error,
                }),
            }
        }
        let Some((charters, fork)) = history(anchor, &objects.into_values().collect::<Vec<_>>(), known) else {
            return Err(ArchiveError::NoCharter {
                anchor,
                answered: asked - troubles.len(),
                asked,
                troubles,
            });
        };
        let plates = join_all(stores.iter().map(|(_, site)| read_plate(&names, &charters, &**site))).await;
        let sites = stores
            .into_iter()
            .zip(sights)
            .zip(plates)
            .map(|(((name, site), sight), plate)| {
                let plate = plate.unwrap_or(Plate::Unread);
                let record = plate.site().and_then(|id| charters.newest().site(id)).cloned();
                let name = record.as_ref().map_or(name, |record| record.name.clone());
                let id = plate.site();
                SiteHandle {
                    name,
                    id,
                    record,
                    plate,
                    site,
                    sight,
                }
            });
        let sites = sites.collect();
        Ok((
            Self {
                anchor,
                names,
                charters,
                fork,
                sites,
                grants: Vec::new(),
            },
            troubles,
        ))
    }

    /// The newest version of its charter.
    pub fn charter(&self) -> &Charter {
        self.charters.newest()
    }

    /// The handed-in site with an id.
    pub fn site(&self, id: SiteId) -> Option<&SiteHandle> {
        self.sites.iter().find(|site| site.id == Some(id))
    }

    /// Stores that show the plate of a site that a store before them shows too: nothing is read or put there.
    pub fn doubles(&self) -> impl Iterator<Item = (String, SecondStore)> + '_ {
        self.sites.iter().enumerate().filter_map(|(at, handle)| {
            let first = self.sites.get(..at)?.iter().find(|first| first.id == handle.id);
            let first = first.filter(|_| handle.id.is_some())?;
            let second = SecondStore {
                address: handle.site.address().to_string(),
                first: first.site.address().to_string(),
            };
            Some((handle.name.clone(), second))
        })
    }

    /// What had to be seen through so far, site by site.
    pub fn poisoned(&self) -> Vec<Poisoned> {
        let of = |handle: &SiteHandle| {
            let buried = handle.sight.buried();
            Some(Poisoned {
                site: handle.name.clone(),
                count: handle.sight.count(),
                on_top: buried.iter().map(|buried| buried.on_top).sum(),
                first: buried.first()?.name.to_string(),
            })
        };
        self.sites.iter().filter_map(of).collect()
    }

    /// Names of sites by id, for reports.
    pub fn site_name(&self, id: SiteId) -> String {
        self.charter()
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

/// A store with sight around it.
fn seeing((name, site): (String, Arc<dyn Site>)) -> ((String, Arc<dyn Site>), Sight) {
    let site = Seeing::new(site);
    let sight = site.sight();
    ((name, Arc::new(site)), sight)
}

/// The charters that a store holds, of any version, not verified.
///
/// By their whole bytes: of one version, a store may show too few signatures, and another store enough.
pub(crate) async fn charter_objects(
    names: &ArchiveNames,
    site: &dyn Site,
) -> Result<Vec<(RecordHash, SignedObject)>, SiteError> {
    let listing = site.list(&names.charter_prefix(), SMALL_LISTING_MAX).await?;
    let (mut objects, mut budget) = (Vec::new(), CHARTER_BYTES_PER_SITE_MAX);
    for entry in listing.entries {
        if budget == 0 {
            break;
        }
        let bytes = match site.get(&entry.name, RECORD_BYTES_MAX.min(budget) as u64).await {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.class(), FailureClass::Missing | FailureClass::TooLong) => continue,
            Err(error) => return Err(error),
        };
        if let Some(object) = charter_object(names, &entry.name, &bytes) {
            // What is kept counts; what is dropped at once does not.
            budget -= bytes.len();
            objects.push((RecordHash::of(&bytes), object));
        }
    }
    Ok(objects)
}

/// An object that may be a version of this archive's charter: it has the name that its bytes give it, and the first one
/// is the anchor's.
pub(crate) fn charter_object(names: &ArchiveNames, name: &ObjectName, bytes: &Bytes) -> Option<SignedObject> {
    let object = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok()?;
    let version = Charter::from_bytes(object.record_bytes()).ok()?.version;
    let is_first = object.record_hash().as_bytes() == names.anchor().as_bytes();
    let fits = names.charter(version, Tag::of(bytes)) == *name && (version == 1) == is_first;
    fits.then_some(object)
}

/// The signed objects of the versions that an archive was opened with, in order, each with enough signatures.
pub async fn history_objects(archive: &Archive) -> Option<Vec<SignedObject>> {
    let found = join_all(
        archive
            .sites
            .iter()
            .map(|handle| charter_objects(&archive.names, &*handle.site)),
    )
    .await;
    let objects: Vec<SignedObject> = found
        .into_iter()
        .flatten()
        .flatten()
        .map(|(_, object)| object)
        .collect();
    let first = objects
        .iter()
        .find(|object| verify_charter(object, archive.anchor).is_ok())?;
    let mut charters = verify_charter(first, archive.anchor).ok()?;
    let mut history = vec![first.clone()];
    while charters.newest_hash() != archive.charters.newest_hash() {
        let wanted = archive.charters.hash(charters.newest().version.checked_add(1)?)?;
        let candidates = objects.iter().filter(|object| object.record_hash() == wanted);
        let mut believed = candidates.filter_map(|object| Some((object, verify_next_charter(object, &charters).ok()?)));
        let (object, next) = believed.next()?;
        charters.push(next, wanted).ok()?;
        history.push(object.clone());
    }
    Some(history)
}

/// Puts charters in order from the anchor on, as far as they follow each other undisputed. Where they don't, the side
/// on which a known version lies is taken, when one is known.
pub fn history(
    anchor: Anchor,
    objects: &[SignedObject],
    known: Option<RecordHash>,
) -> Option<(Charters, Option<CharterFork>)> {
    let mut charters = objects.iter().find_map(|object| verify_charter(object, anchor).ok())?;
    let known = with_predecessors(objects, known);
    let mut fork = None;
    loop {
        let next: BTreeMap<RecordHash, Charter> = objects
            .iter()
            .filter_map(|object| Some((object.record_hash(), verify_next_charter(object, &charters).ok()?)))
            .collect();
        let taken = match next.len() {
            0 => return Some((charters, fork)),
            1 => next.keys().next().copied(),
            _ => next.keys().find(|hash| known.contains(hash)).copied(),
        };
        if next.len() > 1 {
            fork = Some(CharterFork {
                version: charters.newest().version.saturating_add(1),
                hashes: next.keys().copied().collect(),
                taken,
            });
        }
        let Some((hash, charter)) = taken.and_then(|hash| Some((hash, next.get(&hash)?.clone()))) else {
            return Some((charters, fork));
        };
        if charters.push(charter, hash).is_err() {
            return Some((charters, fork));
        }
    }
}

/// A version's hash with those of all versions that it goes back to, as the objects tell. Nothing is verified: a version
/// that isn't valid is never asked about.
fn with_predecessors(objects: &[SignedObject], known: Option<RecordHash>) -> BTreeSet<RecordHash> {
    let mut all = BTreeSet::new();
    let mut next = known;
    while let Some(hash) = next.filter(|hash| all.insert(*hash)) {
        let object = objects.iter().find(|object| object.record_hash() == hash);
        let charter = object.and_then(|object| Charter::from_bytes(object.record_bytes()).ok());
        next = charter.and_then(|charter| charter.previous);
    }
    all
}
