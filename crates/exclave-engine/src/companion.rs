//! The directory of names and contacts at the sites: found, put there (FORMAT.md section 25).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_model::{Companion, ObjectName, RecordHash, SignedObject, Tag, companion::COMPANION_OBJECT_BYTES_MAX};
use exclave_seal::{KitError, verify_companion};

use crate::{
    archive::{Archive, SiteTrouble},
    charter::{PublishError, holders_needed},
    publish::publish,
    surroundings::Surroundings,
};

/// Directories that one site may list: one a week for two centuries.
const LISTED_MAX: usize = 10_000;

/// How many of the newest names are looked at: others may be junk under great numbers.
const READ_MAX: usize = 100;

/// A directory that enough roots signed.
#[derive(Debug, Clone)]
pub struct FoundCompanion {
    /// It.
    pub companion: Companion,
    /// The hash of its record.
    pub digest: RecordHash,
    /// With the signatures.
    pub object: SignedObject,
}

/// What the sites show of directories.
#[derive(Debug, Default)]
pub struct Companions {
    /// Those that are believed, ascending versions.
    pub found: Vec<FoundCompanion>,
    /// Names under which no site gives one that is, and why.
    pub refused: Vec<(ObjectName, String)>,
    /// What sites said.
    pub troubles: Vec<SiteTrouble>,
}

/// Two directories of one version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the roots signed two directories of version {version}: {first} and {second}")]
pub struct CompanionFork {
    /// Their version.
    pub version: u32,
    /// One's digest.
    pub first: RecordHash,
    /// The other's.
    pub second: RecordHash,
}

impl Companions {
    /// The newest one; `None` when there is none.
    pub fn newest(&self) -> Result<Option<&FoundCompanion>, CompanionFork> {
        let mut from_behind = self.found.iter().rev();
        match (from_behind.next(), from_behind.next()) {
            (Some(newest), Some(other)) if newest.companion.version == other.companion.version => Err(CompanionFork {
                version: newest.companion.version,
                first: other.digest,
                second: newest.digest,
            }),
            (newest, _) => Ok(newest),
        }
    }
}

/// Looks for directories at every site, the newest names first.
pub async fn find(archive: &Archive) -> Companions {
    let (listings, troubles) = archive
        .list_everywhere(&archive.names.companions_prefix(), LISTED_MAX)
        .await;
    let mut companions = Companions {
        troubles,
        ..Companions::default()
    };
    let names: BTreeSet<ObjectName> = listings
        .into_values()
        .flat_map(|listing| listing.entries)
        .map(|entry| entry.name)
        .collect();
    let mut found: BTreeMap<(u32, RecordHash), FoundCompanion> = BTreeMap::new();
    let mut newest_seen = None;
    for name in names.into_iter().rev().take(READ_MAX) {
        // One version before the newest is enough to see whether that follows it.
        if newest_seen.is_some_and(|newest: u32| version_of(&name).is_some_and(|version| version + 1 < newest)) {
            break;
        }
        let mut why = "no site gives it".to_owned();
        let accept = |bytes: &Bytes| {
            verify_named(archive, &name, bytes)
                .map_err(|refusal| why = refusal)
                .ok()
        };
        let (read, said) = archive.fetch(&name, COMPANION_OBJECT_BYTES_MAX, accept).await;
        companions.troubles.extend(said);
        match read {
            Some(one) => {
                newest_seen = newest_seen.max(Some(one.companion.version));
                found.insert((one.companion.version, one.digest), one);
            }
            None => companions.refused.push((name, why)),
        }
    }
    companions.found = found.into_values().collect();
    companions
}

fn version_of(name: &ObjectName) -> Option<u32> {
    name.file_name().split('.').next()?.parse().ok()
}

/// A directory under its name, or why it is none.
pub(crate) fn verify_named(archive: &Archive, name: &ObjectName, bytes: &[u8]) -> Result<FoundCompanion, String> {
    let object = SignedObject::from_bytes(bytes, COMPANION_OBJECT_BYTES_MAX).map_err(|error| error.to_string())?;
    let companion = verify_companion(&object, &archive.charters).map_err(|error| error.to_string())?;
    match archive.names.companion(companion.version, Tag::of(bytes)) == *name {
        true => Ok(FoundCompanion {
            companion,
            digest: object.record_hash(),
            object,
        }),
        false => Err("it lies under another name than its bytes give it".to_owned()),
    }
}

/// Why a directory was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishCompanionError {
    /// It is not signed by enough roots, or is another archive's.
    #[error("the directory is not to be believed")]
    Companion(#[from] KitError),
    /// The sites show two of one version.
    #[error(transparent)]
    Fork(#[from] CompanionFork),
    /// It follows another one than the sites show.
    #[error("the sites show directory version {shown}, which it does not follow")]
    Outdated {
        /// The newest that they show; 0 when there is none.
        shown: u32,
    },
    /// The charter's numbers say nothing of how many sites must hold it.
    #[error("how many sites must hold it is not known")]
    Needed(#[source] Box<PublishError>),
    /// Too few sites took it.
    #[error("{found} of {sites} sites hold the directory, {needed} are needed")]
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

/// Puts a directory at every site. Returns how many of the charter's hold it, and what others said.
pub fn publish_companion(
    archive: &Archive,
    object: &SignedObject,
    surroundings: &Surroundings,
) -> Result<(usize, Vec<SiteTrouble>), PublishCompanionError> {
    let companion = verify_companion(object, &archive.charters)?;
    let needed = holders_needed(archive.charter()).map_err(|error| PublishCompanionError::Needed(Box::new(error)))?;
    surroundings.runtime.block_on(async {
        let there = find(archive).await;
        let newest = there.newest()?;
        let again = newest.is_some_and(|newest| newest.digest == object.record_hash());
        let follows = match newest {
            None => companion.previous.is_none(),
            Some(newest) => {
                companion.previous == Some(newest.digest)
                    && newest.companion.version.checked_add(1) == Some(companion.version)
            }
        };
        if !again && !follows {
            let shown = newest.map_or(0, |newest| newest.companion.version);
            return Err(PublishCompanionError::Outdated { shown });
        }
        let bytes = Bytes::from(object.to_bytes());
        let name = archive.names.companion(companion.version, Tag::of(&bytes));
        let published = publish(&archive.sites, &name, &bytes).await;
        let all: Vec<_> = archive.charter().sites.iter().map(|site| site.id).collect();
        let found = published.count_in(&all);
        match found < needed {
            true => Err(PublishCompanionError::Sites {
                found,
                sites: all.len(),
                needed,
                troubles: published.troubles,
            }),
            false => Ok((found, published.troubles)),
        }
    })
}
