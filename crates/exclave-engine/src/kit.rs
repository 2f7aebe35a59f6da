//! Kits at the sites: found, put there, fetched (FORMAT.md section 19).
//!
//! Files go out in pieces, and the manifest last: without it a kit is nothing. Everything is named by its bytes, so putting
//! a kit can be interrupted anywhere and begun again, and what lies there already is read and compared, not sent. Kits are
//! never taken away: who has an old card finds the kit that it names.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_model::{
    FileHash, Kit, KitFile, ObjectName, RecordHash, SignedObject, SiteId, Tag,
    kit::{KIT_BYTES_MAX, KIT_PIECE_BYTES, MANIFEST},
    limit::RECORD_BYTES_MAX,
};
use exclave_seal::{KitError, verify_kit};
use exclave_site::{Class, Listing, SiteError};
use futures::future::join_all;

use crate::{
    archive::{Archive, SiteHandle, SiteTrouble},
    charter::{PublishError, holders_needed},
    publish::publish_at,
    surroundings::Surroundings,
};

/// Objects of kits that one site may list: a kit for each week of a century.
const KIT_LISTING_MAX: usize = 500_000;

/// Bytes of manifests that are kept of one site. A hostile one can fill it, and hides nothing that another shows.
const MANIFEST_BYTES_PER_SITE_MAX: usize = 2 * RECORD_BYTES_MAX;

/// A kit that enough roots signed.
#[derive(Debug, Clone)]
pub struct FoundKit {
    /// What it holds.
    pub kit: Kit,
    /// The hash of its manifest's record, which cards carry.
    pub digest: RecordHash,
    /// Its manifest, with the signatures.
    pub object: SignedObject,
    /// Sites that gave the manifest, by their places in the archive.
    pub sites: BTreeSet<usize>,
}

/// What the sites show of kits.
#[derive(Debug, Default)]
pub struct Kits {
    /// Those that are believed, ascending versions.
    pub found: Vec<FoundKit>,
    /// Manifests that are not: at which site, under which name, why.
    pub refused: Vec<(String, ObjectName, String)>,
    /// What each site that answered lists of kits.
    listings: BTreeMap<usize, Listing>,
    /// What the others said.
    pub troubles: Vec<SiteTrouble>,
}

/// Two kits of one version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the roots signed two kits of version {version}: {first} and {second}")]
pub struct KitFork {
    /// Their version.
    pub version: u32,
    /// One's digest.
    pub first: String,
    /// The other's.
    pub second: String,
}

impl Kits {
    /// Whether a site answered.
    pub fn answered(&self, site: usize) -> bool {
        self.listings.contains_key(&site)
    }

    /// The kit of a version, or the newest; `None` when there is none.
    pub fn choose(&self, version: Option<u32>) -> Result<Option<&FoundKit>, KitFork> {
        let newest = self.found.last().map(|found| found.kit.version);
        let wanted = version.or(newest);
        let mut of_it = self.found.iter().filter(|found| Some(found.kit.version) == wanted);
        match (of_it.next(), of_it.next()) {
            (Some(first), Some(second)) => Err(KitFork {
                version: first.kit.version,
                first: first.digest.to_hex(),
                second: second.digest.to_hex(),
            }),
            (first, _) => Ok(first),
        }
    }

    /// Whether a site lists every piece of a kit, with its length. What it gives is known only when it is read.
    pub fn is_listed_whole(&self, archive: &Archive, site: usize, kit: &Kit) -> bool {
        let pieces = kit
            .files
            .iter()
            .flat_map(|file| (0..file.pieces.len()).map(move |piece| (file, piece)));
        pieces.into_iter().all(|(file, piece)| {
            let name = piece_name(archive, kit, file, piece);
            name.is_some_and(|name| self.lists(site, &name, file.piece_bytes(piece)))
        })
    }

    fn lists(&self, site: usize, name: &ObjectName, bytes: Option<usize>) -> bool {
        let entries = self.listings.get(&site).map(|listing| listing.entries.as_slice());
        let entries = entries.unwrap_or_default();
        let found = entries.binary_search_by(|entry| entry.name.cmp(name)).ok();
        found
            .and_then(|at| entries.get(at))
            .is_some_and(|entry| bytes.is_none_or(|bytes| entry.length == bytes as u64))
    }
}

/// The name of a piece at every site.
pub fn piece_name(archive: &Archive, kit: &Kit, file: &KitFile, piece: usize) -> Option<ObjectName> {
    let tag = Tag::of_hash(file.pieces.get(piece)?.as_bytes());
    archive.names.kit_piece(kit.version, &file.name, piece, tag)
}

/// Looks for kits at every site.
pub async fn find(archive: &Archive) -> Kits {
    let (listings, troubles) = archive
        .list_everywhere(&archive.names.kits_prefix(), KIT_LISTING_MAX)
        .await;
    let mut kits = Kits {
        listings,
        troubles,
        ..Kits::default()
    };
    let gathered = join_all(
        kits.listings
            .iter()
            .map(|(site, listing)| manifests(archive, *site, listing)),
    )
    .await;
    let mut found: BTreeMap<(u32, RecordHash), FoundKit> = BTreeMap::new();
    for (site, read) in kits.listings.keys().zip(gathered) {
        let (objects, trouble) = read;
        let named = archive
            .sites
            .get(*site)
            .map_or_else(String::new, |handle| handle.name.clone());
        kits.troubles.extend(trouble.map(|error| SiteTrouble {
            site: named.clone(),
            error,
        }));
        for (name, bytes) in objects {
            match read_manifest(archive, &name, &bytes) {
                Ok((kit, object)) => {
                    let digest = object.record_hash();
                    let place = found.entry((kit.version, digest)).or_insert_with(|| FoundKit {
                        kit,
                        digest,
                        object,
                        sites: BTreeSet::new(),
                    });
                    place.sites.insert(*site);
                }
                Err(why) => kits.refused.push((named.clone(), name, why)),
            }
        }
    }
    kits.found = found.into_values().collect();
    kits
}

/// The manifests that a site gives, newest names first.
async fn manifests(archive: &Archive, site: usize, listing: &Listing) -> (Vec<(ObjectName, Bytes)>, Option<SiteError>) {
    let mut objects = Vec::new();
    let Some(handle) = archive.sites.get(site) else {
        return (objects, None);
    };
    let is_manifest = |name: &ObjectName| name.file_name().split('.').next() == Some(MANIFEST);
    let mut budget = MANIFEST_BYTES_PER_SITE_MAX;
    for entry in listing.entries.iter().rev().filter(|entry| is_manifest(&entry.name)) {
        if budget == 0 {
            break;
        }
        match handle.site.get(&entry.name, KIT_BYTES_MAX.min(budget) as u64).await {
            Ok(bytes) => {
                budget -= bytes.len();
                objects.push((entry.name.clone(), bytes));
            }
            Err(error) if matches!(error.class(), Class::Missing | Class::TooLong) => {}
            Err(error) => return (objects, Some(error)),
        }
    }
    (objects, None)
}

/// A manifest under its name, or why it is none.
fn read_manifest(archive: &Archive, name: &ObjectName, bytes: &Bytes) -> Result<(Kit, SignedObject), String> {
    let object = SignedObject::from_bytes(bytes, KIT_BYTES_MAX).map_err(|error| error.to_string())?;
    let kit = verify_kit(&object, &archive.charters).map_err(|error: KitError| error.to_string())?;
    match archive.names.kit_manifest(kit.version, Tag::of(bytes)) == *name {
        true => Ok((kit, object)),
        false => Err("it lies under another name than its bytes give it".to_owned()),
    }
}

/// Why a kit was not put at enough sites. What was put stays, and is not sent again.
#[derive(Debug, thiserror::Error)]
pub enum PublishKitError {
    /// It is not signed by enough roots, or is another archive's.
    #[error("the kit is not to be believed")]
    Kit(#[from] KitError),
    /// The sites show another kit of that version.
    #[error("the sites show another kit of version {version}: {digest}")]
    Taken {
        /// The version.
        version: u32,
        /// Its digest.
        digest: String,
    },
    /// The charter's numbers say nothing of how many sites must hold it.
    #[error("how many sites must hold it is not known")]
    Needed(#[source] Box<PublishError>),
    /// A piece of it can't be read here, or isn't what the manifest says.
    #[error("{file} is not what the manifest says: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Too few sites took it.
    #[error("{found} of {sites} sites hold the whole kit, {needed} are needed")]
    Sites {
        /// Sites that hold it.
        found: usize,
        /// All.
        sites: usize,
        /// Sites that must.
        needed: usize,
        /// What sites said.
        troubles: Vec<SiteTrouble>,
    },
}

/// Where a kit now lies.
#[derive(Debug, Default)]
pub struct PublishedKit {
    /// Sites that hold all of it, and what was sent to each.
    pub holders: Vec<(String, u64)>,
    /// Sites that must hold it.
    pub needed: usize,
    /// What the others said.
    pub troubles: Vec<SiteTrouble>,
}

/// Puts a kit at every site. `read` gives a piece of a file.
pub fn publish_kit(
    archive: &Archive,
    object: &SignedObject,
    read: &dyn Fn(&KitFile, usize) -> Result<Bytes, String>,
    surroundings: &Surroundings,
) -> Result<PublishedKit, PublishKitError> {
    let kit = verify_kit(object, &archive.charters)?;
    let needed = holders_needed(archive.charter()).map_err(|error| PublishKitError::Needed(Box::new(error)))?;
    surroundings.runtime.block_on(async {
        let kits = find(archive).await;
        let digest = object.record_hash();
        let others = kits.found.iter().filter(|found| found.kit.version == kit.version);
        if let Some(other) = others.into_iter().find(|found| found.digest != digest) {
            return Err(PublishKitError::Taken {
                version: kit.version,
                digest: other.digest.to_hex(),
            });
        }
        let mut putting = Putting::of(archive, &kits);
        for file in &kit.files {
            for piece in 0..file.pieces.len() {
                let bytes = checked(file, piece, read)?;
                let Some(name) = piece_name(archive, &kit, file, piece) else {
                    continue;
                };
                putting.put(&name, &bytes).await;
            }
        }
        let bytes = Bytes::from(object.to_bytes());
        let name = archive.names.kit_manifest(kit.version, Tag::of(&bytes));
        putting.put(&name, &bytes).await;
        putting.outcome(needed)
    })
}

fn checked(
    file: &KitFile,
    piece: usize,
    read: &dyn Fn(&KitFile, usize) -> Result<Bytes, String>,
) -> Result<Bytes, PublishKitError> {
    let wrong = |why: String| PublishKitError::File {
        file: file.name.clone(),
        why,
    };
    let bytes = read(file, piece).map_err(wrong)?;
    match file.pieces.get(piece) == Some(&FileHash::of(&bytes)) {
        true => Ok(bytes),
        false => Err(wrong(format!("piece {piece} has another hash"))),
    }
}

/// Sites that took everything so far.
struct Putting<'a> {
    archive: &'a Archive,
    kits: &'a Kits,
    /// Bytes that were sent to each of them.
    taking: BTreeMap<usize, u64>,
    troubles: Vec<SiteTrouble>,
}

impl<'a> Putting<'a> {
    fn of(archive: &'a Archive, kits: &'a Kits) -> Self {
        Self {
            archive,
            kits,
            taking: (0..archive.sites.len()).map(|site| (site, 0)).collect(),
            troubles: Vec::new(),
        }
    }

    async fn put(&mut self, name: &ObjectName, bytes: &Bytes) {
        let sites: Vec<(usize, &SiteHandle)> = self
            .taking
            .keys()
            .filter_map(|site| Some((*site, self.archive.sites.get(*site)?)))
            .collect();
        let tried = join_all(sites.iter().map(|(site, handle)| {
            let listed = self.kits.lists(*site, name, Some(bytes.len()));
            put_unless_there(handle, name, bytes, listed)
        }))
        .await;
        for ((site, handle), tried) in sites.iter().zip(tried) {
            match tried {
                Ok(sent) => *self.taking.entry(*site).or_default() += sent,
                Err(error) => {
                    self.taking.remove(site);
                    self.troubles.push(SiteTrouble {
                        site: handle.name.clone(),
                        error,
                    });
                }
            }
        }
    }

    fn outcome(self, needed: usize) -> Result<PublishedKit, PublishKitError> {
        let holders = |site: &usize| self.archive.sites.get(*site);
        // A store without a plate may keep a copy; it counts for nothing, and two stores of one plate are one site.
        let counted: BTreeSet<SiteId> = self.taking.keys().filter_map(|site| holders(site)?.id).collect();
        if counted.len() < needed {
            return Err(PublishKitError::Sites {
                found: counted.len(),
                sites: self.archive.charter().sites.len(),
                needed,
                troubles: self.troubles,
            });
        }
        let named = |(site, sent): (&usize, &u64)| Some((holders(site)?.name.clone(), *sent));
        Ok(PublishedKit {
            holders: self.taking.iter().filter_map(named).collect(),
            needed,
            troubles: self.troubles,
        })
    }
}

/// Puts an object and reads it back; what lies there already, whole, isn't sent. Returns the bytes that were sent.
async fn put_unless_there(
    handle: &SiteHandle,
    name: &ObjectName,
    bytes: &Bytes,
    listed: bool,
) -> Result<u64, SiteError> {
    let length = bytes.len() as u64;
    if listed && handle.site.get(name, length).await.is_ok_and(|found| found == *bytes) {
        return Ok(0);
    }
    publish_at(handle, name, bytes).await.map(|()| length)
}

/// No site has a piece of a file.
#[derive(Debug, thiserror::Error)]
#[error("no site has piece {piece} of {file}")]
pub struct NoPiece {
    /// The file.
    pub file: String,
    /// The piece, from 0.
    pub piece: usize,
    /// What sites said, or that what they gave is something else.
    pub troubles: Vec<String>,
}

/// Fetches a piece from the first site that gives the right bytes.
pub async fn fetch_piece(archive: &Archive, kit: &Kit, file: &KitFile, piece: usize) -> Result<Bytes, NoPiece> {
    let mut troubles = Vec::new();
    let (name, hash) = (piece_name(archive, kit, file, piece), file.pieces.get(piece));
    let length = file.piece_bytes(piece).unwrap_or(KIT_PIECE_BYTES) as u64;
    for handle in &archive.sites {
        let Some(name) = &name else { break };
        match handle.site.get(name, length).await {
            Ok(bytes) if hash == Some(&FileHash::of(&bytes)) => return Ok(bytes),
            Ok(_) => troubles.push(format!(
                "{}: {name} has other bytes than the manifest says",
                handle.name
            )),
            Err(error) => troubles.push(format!("{}: {error}", handle.name)),
        }
    }
    Err(NoPiece {
        file: file.name.clone(),
        piece,
        troubles,
    })
}
