//! All versions of a charter that a reader knows.

use super::{Charter, Reason, succession};
use crate::{
    id::{Anchor, KeyId, RecordHash},
    signed::PublicKey,
    wire::Rule,
};

/// The versions of one charter, from 1 on, without a gap. Signatures were verified before a version came in.
///
/// Records name the version that they obeyed, and are judged by it: recipients and writers by that version, revocations
/// by the newest one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charters {
    first: Charter,
    anchor: Anchor,
    later: Vec<(RecordHash, Charter)>,
}

impl Charters {
    /// Begins with version 1, whose hash is the anchor.
    pub fn begin(first: Charter, anchor: Anchor) -> Result<Self, Rule> {
        if first.version != 1 {
            let text = format!("an archive begins with charter version 1, not {}", first.version);
            return Err(Rule::new("bad-version", text));
        }
        Ok(Self {
            first,
            anchor,
            later: Vec::new(),
        })
    }

    /// Whether a version may follow the newest one.
    pub fn check_next(&self, next: &Charter) -> Result<(), Rule> {
        succession::check(next, self)
    }

    /// Adds the next version.
    pub fn push(&mut self, next: Charter, hash: RecordHash) -> Result<(), Rule> {
        self.check_next(&next)?;
        self.later.push((hash, next));
        Ok(())
    }

    /// The history as it was when this version was the newest; `None` for one that it doesn't hold.
    pub fn until(&self, version: u32) -> Option<Self> {
        let later = usize::try_from(version.checked_sub(1)?).ok()?;
        Some(Self {
            first: self.first.clone(),
            anchor: self.anchor,
            later: self.later.get(..later)?.to_vec(),
        })
    }

    /// The archive's anchor.
    pub fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// The newest version.
    pub fn newest(&self) -> &Charter {
        self.later.last().map_or(&self.first, |(_, charter)| charter)
    }

    /// The hash of the newest version's record.
    pub fn newest_hash(&self) -> RecordHash {
        self.later.last().map_or(self.first_hash(), |(hash, _)| *hash)
    }

    fn first_hash(&self) -> RecordHash {
        RecordHash::from_bytes(*self.anchor.as_bytes())
    }

    /// The hash of a version's record.
    pub fn hash(&self, version: u32) -> Option<RecordHash> {
        match version.checked_sub(2) {
            None => (version == 1).then(|| self.first_hash()),
            Some(at) => self.later.get(at as usize).map(|(hash, _)| *hash),
        }
    }

    /// A version by its number.
    pub fn version(&self, number: u32) -> Option<&Charter> {
        match number.checked_sub(2) {
            None => (number == 1).then_some(&self.first),
            Some(at) => self.later.get(at as usize).map(|(_, charter)| charter),
        }
    }

    /// Every version, from 1 on.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Charter> {
        std::iter::once(&self.first).chain(self.later.iter().map(|(_, charter)| charter))
    }

    /// The version that a record obeyed, or the rule it broke by naming one that isn't there.
    pub fn obeyed(&self, version: u32) -> Result<&Charter, Rule> {
        self.version(version).ok_or_else(|| {
            let text = format!(
                "charter version {version}, the newest known is {}",
                self.newest().version
            );
            Rule::new("wrong-charter", text)
        })
    }

    /// The key of anyone who ever was a writer.
    pub fn writer_key(&self, key: KeyId) -> Option<&PublicKey> {
        self.iter()
            .rev()
            .find_map(|charter| charter.writer(key))
            .map(|writer| &writer.key)
    }

    /// A key that has a role in a version.
    pub fn key(&self, key: KeyId, version: u32) -> Option<&PublicKey> {
        let held = self.version(version)?.keys().map(|(_, held)| held);
        held.into_iter().find(|held| held.id() == key)
    }

    /// The keys whose plates are believed: roots of any version whose keys nobody stole.
    pub fn plate_keys(&self) -> Vec<&PublicKey> {
        let newest = self.newest();
        let mut keys: Vec<&PublicKey> = Vec::new();
        for key in self.iter().rev().flat_map(|charter| &charter.roots.keys) {
            let stolen = newest
                .revocation(key.id())
                .is_some_and(|revocation| revocation.reason == Reason::Compromised);
            if !stolen && !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}
