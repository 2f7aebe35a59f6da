//! Founds an archive: a charter of one owner, at every site, and each site's plate.

use std::sync::Arc;

use bytes::Bytes;
use exclave_model::{
    Anchor, ArchiveNames, Charter, Charters, Class, ClassPolicy, PublicKey, RecipientKey, RecipientSet, Roots, Rule,
    SitePlate, SiteRecord, Tag, Version1, Writer,
};
use exclave_seal::{NoEntropy, SigningKey, entropy::draw, signing::SignError};
use exclave_site::{Sight, Site};

use crate::{
    archive::{Archive, SiteHandle, SiteTrouble},
    plate::Plate,
    publish::publish_at,
    surroundings::Surroundings,
};

/// The class of an archive's datasets until more are asked for.
pub const DEFAULT_CLASS: u32 = 0;

/// The recipient set of the default class.
const DEFAULT_RECIPIENTS: u32 = 0;

/// What a new archive begins with.
pub struct NewArchive<'a> {
    /// Vouches for the charter; belongs offline afterwards.
    pub root: &'a SigningKey,
    /// Who commits snapshots.
    pub writer: PublicKey,
    /// Who opens them.
    pub recipients: Vec<RecipientKey>,
    /// Where they go.
    pub sites: Vec<(SiteRecord, Arc<dyn Site>)>,
    /// How they are protected.
    pub policy: ClassPolicy,
}

/// Why an archive was not founded.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The charter breaks a rule.
    #[error("the charter can't be signed")]
    Charter(#[from] SignError),
    /// The charter is no first version.
    #[error("the charter founds no archive: {0}")]
    Version(Rule),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Some site did not take charter and plate; founding needs all of them.
    #[error("{} of {asked} sites did not take the charter", troubles.len())]
    Sites {
        /// Sites asked.
        asked: usize,
        /// What happened.
        troubles: Vec<SiteTrouble>,
    },
}

/// Signs the charter and puts it, with a plate for each site, at every site.
pub fn init(new: NewArchive<'_>, surroundings: &Surroundings) -> Result<Archive, InitError> {
    let mut entropy = surroundings.entropy.entropy();
    let mut stores = new.sites;
    stores.sort_by_key(|(record, _)| record.id);
    let charter = Charter {
        format: Version1,
        version: 1,
        previous: None,
        created: surroundings.clock.now_unix_seconds(),
        roots: Roots {
            threshold: 1,
            keys: vec![new.root.public().clone()],
        },
        writers: vec![Writer {
            key: new.writer,
            classes: vec![DEFAULT_CLASS],
        }],
        recipient_sets: vec![RecipientSet {
            id: DEFAULT_RECIPIENTS,
            crypto_epoch: 0,
            keys: new.recipients,
        }],
        sites: stores.iter().map(|(record, _)| record.clone()).collect(),
        classes: vec![Class::new(DEFAULT_CLASS, DEFAULT_RECIPIENTS, new.policy)],
        nonce: draw(&mut *entropy)?,
        members: None,
        authorities: None,
        revocations: None,
        share_sets: None,
        retention: None,
        registered_classes: None,
        trust_groups: None,
        format_versions: None,
        witnesses: None,
    };
    let signed = new.root.sign(&charter, &mut *entropy)?;
    let anchor = Anchor::from_bytes(*signed.record_hash().as_bytes());
    let names = ArchiveNames::new(anchor);
    let object = Bytes::from(signed.to_bytes());
    let charter_name = names.charter(1, Tag::of(&object));
    let mut sites = Vec::new();
    let mut troubles = Vec::new();
    for (record, site) in stores {
        let plate = SitePlate {
            format: Version1,
            anchor,
            site: record.id,
        };
        let plate = Bytes::from(new.root.sign(&plate, &mut *entropy)?.to_bytes());
        let plate_name = names.plate(record.id, Tag::of(&plate));
        let handle = SiteHandle {
            name: record.name.clone(),
            id: Some(record.id),
            plate: Plate::Of(record.id),
            record: Some(record),
            site,
            sight: Sight::default(),
        };
        let placed = surroundings.runtime.block_on(async {
            publish_at(&handle, &plate_name, &plate).await?;
            publish_at(&handle, &charter_name, &object).await
        });
        match placed {
            Ok(()) => sites.push(handle),
            Err(error) => troubles.push(SiteTrouble {
                site: handle.name,
                error,
            }),
        }
    }
    if troubles.is_empty() {
        let charters = Charters::begin(charter, anchor).map_err(InitError::Version)?;
        Ok(Archive {
            anchor,
            names,
            charters,
            fork: None,
            sites,
            grants: Vec::new(),
        })
    } else {
        Err(InitError::Sites {
            asked: sites.len() + troubles.len(),
            troubles,
        })
    }
}
