//! What a charter file proposes: its history verified, its last version perhaps with too few signatures.

use std::collections::BTreeSet;

use exclave_model::{
    Anchor, Charter, CharterFile, Charters, PublicKey, RecordHash, Rule, SignedObject, SiteId, SitePlate, SiteRecord,
};
use exclave_seal::{VerifyError, charter_signers, verify_charter, verify_next_charter, verify_one_of};

/// A charter file whose history holds, and whose last version may lack signatures.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The history up to the last version, that one excluded.
    pub before: Charters,
    /// The last version.
    pub next: Charter,
    /// Its object, with the signatures that there are.
    pub object: SignedObject,
    /// Plates for sites that it adds.
    pub plates: Vec<SignedObject>,
}

/// Why a charter file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// It proposes nothing: it holds the first version alone.
    #[error("the file holds charter version 1 alone, which is what an archive begins with")]
    NothingProposed,
    /// A version does not verify.
    #[error("charter version {version} of the file does not hold")]
    Version {
        /// Its place in the file.
        version: usize,
        /// Why.
        source: VerifyError,
    },
    /// A version follows no other.
    #[error("charter version {version} of the file can't follow: {rule}")]
    Order {
        /// Its place in the file.
        version: usize,
        /// Why.
        rule: Rule,
    },
}

impl Proposal {
    /// Verifies a file: version 1 by its own hash, which [`Charters::anchor`] then tells, and the others by succession.
    /// Whether that anchor is the one that the reader means is the caller's to compare.
    pub fn read(file: &CharterFile) -> Result<Self, ProposalError> {
        let (last, history) = file.charters.split_last().ok_or(ProposalError::NothingProposed)?;
        let before = read_history(history)?.ok_or(ProposalError::NothingProposed)?;
        let version = file.charters.len();
        let (next, _) = charter_signers(last, &before).map_err(|source| ProposalError::Version { version, source })?;
        Ok(Self {
            before,
            next,
            object: last.clone(),
            plates: file.plates.clone(),
        })
    }

    /// How many roots of the version before and of its own have signed, and how many must.
    pub fn signatures(&self) -> [(usize, usize); 2] {
        let signers: BTreeSet<_> = self.object.signatures().iter().map(|signature| signature.key).collect();
        [&self.before.newest().roots, &self.next.roots].map(|roots| {
            let valid = roots.keys.iter().filter(|key| signers.contains(&key.id())).count();
            (valid, roots.threshold as usize)
        })
    }

    /// The hash of the proposed record: what the people who sign compare.
    pub fn digest(&self) -> RecordHash {
        self.object.record_hash()
    }

    /// Sites that it adds.
    pub fn added(&self) -> impl Iterator<Item = &SiteRecord> {
        let before = self.before.newest();
        self.next.sites.iter().filter(|site| before.site(site.id).is_none())
    }

    /// Sites that it drops.
    pub fn dropped(&self) -> impl Iterator<Item = &SiteRecord> {
        let before = self.before.newest();
        before.sites.iter().filter(|site| self.next.site(site.id).is_none())
    }

    /// The plate for a site, signed by a root that counts.
    pub fn plate(&self, site: SiteId) -> Option<&SignedObject> {
        let anchor = self.before.anchor();
        let keys: Vec<&PublicKey> = self
            .before
            .plate_keys()
            .into_iter()
            .chain(&self.next.roots.keys)
            .collect();
        self.plates.iter().find(|object| {
            verify_one_of::<SitePlate>(object, keys.iter().copied())
                .is_ok_and(|(plate, _)| plate.anchor == anchor && plate.site == site)
        })
    }
}

/// Verifies the versions of a file from the first on; `None` when there are none.
pub fn read_history(objects: &[SignedObject]) -> Result<Option<Charters>, ProposalError> {
    let Some((first, later)) = objects.split_first() else {
        return Ok(None);
    };
    let anchor = Anchor::from_bytes(*first.record_hash().as_bytes());
    let mut charters = verify_charter(first, anchor).map_err(|source| ProposalError::Version { version: 1, source })?;
    for (object, version) in later.iter().zip(2..) {
        let next =
            verify_next_charter(object, &charters).map_err(|source| ProposalError::Version { version, source })?;
        charters
            .push(next, object.record_hash())
            .map_err(|rule| ProposalError::Order { version, rule })?;
    }
    Ok(Some(charters))
}
