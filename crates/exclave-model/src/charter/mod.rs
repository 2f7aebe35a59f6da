//! The root-signed constitution of an archive, and the plate on each site's door (FORMAT.md section 8).
//!
//! The hash of version 1 is the archive's [`Anchor`](crate::Anchor). Each later version names the one before and is signed by the roots
//! of both: [`Charters`] is such a chain, and the only way to it is through the anchor. What no single version shows,
//! that nothing is forgotten between two of them, is the law of succession.

mod class;
mod file;
mod history;
mod law;
mod numbered;
mod people;
mod retention;
mod site;
mod succession;
mod witness;

use minicbor::{Decode, Encode};

pub(crate) use self::numbered::{by_word, numbered};
pub use self::{
    class::{Class, ClassPolicy, ReadBack},
    file::{CHARTER_FILE_BYTES_MAX, CharterFile},
    history::Charters,
    people::{
        Act, Authority, Member, MemberRole, Pin, Purpose, RECIPIENT_KEY_BYTES, Reason, RecipientKey, RecipientSet,
        Revocation, Role, Roots, Writer,
    },
    retention::{AGE_DAYS_DEFAULT, AGE_DAYS_MIN, COUNT_MAX as RETENTION_COUNT_MAX, LAST_MIN, Retention},
    site::{Hosting, Pace, SitePlate, SiteRecord, site_name},
    witness::{
        ED25519_KEY_BYTES, HomeCounts, ML_DSA_44_KEY_BYTES, MlDsa44Key, Vouchers, WITNESS_NAME_BYTES_MAX,
        WITNESSES_MAX, Witness, Witnesses, is_nation, is_note_name,
    },
};
use crate::{
    custody::ShareSet,
    id::{KeyId, RecordHash, SiteId},
    limit::RECORD_BYTES_MAX,
    signed::{PublicKey, SignedRecord},
    wire::{Record, Rule, Version1},
};

/// The constitution of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Charter {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The charter's own version, from 1.
    #[n(1)]
    pub version: u32,
    /// Hash of the version before.
    #[n(2)]
    pub previous: Option<RecordHash>,
    /// When it was made: Unix seconds.
    #[n(3)]
    pub created: i64,
    /// Who vouches for it.
    #[n(4)]
    pub roots: Roots,
    /// Who writes.
    #[n(5)]
    pub writers: Vec<Writer>,
    /// Who reads.
    #[n(6)]
    pub recipient_sets: Vec<RecipientSet>,
    /// Where.
    #[n(7)]
    pub sites: Vec<SiteRecord>,
    /// How.
    #[n(8)]
    pub classes: Vec<Class>,
    /// Makes two owners' charters differ.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
    /// Who has another role, alone.
    #[n(10)]
    pub members: Option<Vec<Member>>,
    /// Who decides something together.
    #[n(11)]
    pub authorities: Option<Vec<Authority>>,
    /// Who has no say any more, ascending.
    #[n(12)]
    pub revocations: Option<Vec<Revocation>>,
    /// Who holds recovery keys in parts: the newest split of each.
    #[n(13)]
    pub share_sets: Option<Vec<ShareSet>>,
    /// Who cosigns checkpoints of the logs, and when that is enough.
    #[n(14)]
    pub witnesses: Option<Witnesses>,
    /// How long snapshots are kept, ascending by class. A class that isn't there keeps everything.
    #[n(15)]
    pub retention: Option<Vec<Retention>>,
    /// Classes that take only datasets which an administrator added, ascending.
    #[n(16)]
    pub registered_classes: Option<Vec<u32>>,
    /// Writers whose runs may be reused by each other alone. Who stands in none is with all others that stand in none.
    #[n(17)]
    pub trust_groups: Option<Vec<Vec<KeyId>>>,
    /// Versions of the format that may be written, ascending. Readers are not bound. Absent: version 1.
    #[n(18)]
    pub format_versions: Option<Vec<u32>>,
}

impl Charter {
    /// The recipient set of a class.
    pub fn recipients_of(&self, class: &Class) -> Option<&RecipientSet> {
        self.recipient_sets.iter().find(|set| set.id == class.recipient_set)
    }

    /// The class with a number.
    pub fn class(&self, id: u32) -> Option<&Class> {
        self.classes.iter().find(|class| class.id == id)
    }

    /// The writer with a key.
    pub fn writer(&self, key: KeyId) -> Option<&Writer> {
        self.writers.iter().find(|writer| writer.key.id() == key)
    }

    /// The site with an id.
    pub fn site(&self, id: SiteId) -> Option<&SiteRecord> {
        self.sites.iter().find(|site| site.id == id)
    }

    /// The keys with a role of their own.
    pub fn members(&self) -> &[Member] {
        self.members.as_deref().unwrap_or_default()
    }

    /// The keys that decide together.
    pub fn authorities(&self) -> &[Authority] {
        self.authorities.as_deref().unwrap_or_default()
    }

    /// The keys that have no say any more.
    pub fn revocations(&self) -> &[Revocation] {
        self.revocations.as_deref().unwrap_or_default()
    }

    /// The newest split of each recovery key that is split.
    pub fn share_sets(&self) -> &[ShareSet] {
        self.share_sets.as_deref().unwrap_or_default()
    }

    /// Who cosigns checkpoints of the logs.
    pub fn witnesses(&self) -> &[Witness] {
        self.witnesses.as_ref().map_or(&[], |some| &some.witnesses)
    }

    /// How long snapshots of a class are kept; for ever, when nothing is said.
    pub fn retention(&self, class: u32) -> Option<&Retention> {
        self.retention.as_deref()?.iter().find(|rules| rules.class == class)
    }

    /// The keys that decide something together, and how many must agree.
    pub fn authority(&self, purpose: Purpose) -> Option<&Authority> {
        self.authorities().iter().find(|authority| authority.purpose == purpose)
    }

    /// Whether datasets of a class must have been added by an administrator.
    pub fn demands_registration(&self, class: u32) -> bool {
        self.registered_classes
            .as_deref()
            .is_some_and(|classes| classes.contains(&class))
    }

    /// Whether a writer's runs may be reused by another one.
    pub fn trusts(&self, reusing: KeyId, wrote: KeyId) -> bool {
        let groups = self.trust_groups.as_deref().unwrap_or_default();
        let group_of = |key: KeyId| groups.iter().position(|group| group.contains(&key));
        reusing == wrote || group_of(reusing) == group_of(wrote)
    }

    /// Whether this version of the format may be written.
    pub fn allows_format(&self, version: u32) -> bool {
        self.format_versions
            .as_deref()
            .map_or(version == 1, |versions| versions.contains(&version))
    }

    /// Why and how a key was revoked, when it was.
    pub fn revocation(&self, key: KeyId) -> Option<&Revocation> {
        self.revocations().iter().find(|revocation| revocation.key == key)
    }

    /// Every key that signs records, with its role. Witnesses sign checkpoints, with keys of another form.
    pub fn keys(&self) -> impl Iterator<Item = (Role, &PublicKey)> {
        let roots = self.roots.keys.iter().map(|key| (Role::Root, key));
        let writers = self.writers.iter().map(|writer| (Role::Writer, &writer.key));
        let members = self.members().iter().map(|member| (member.role.role(), &member.key));
        let authorities = self.authorities().iter().flat_map(|authority| {
            let role = authority.purpose.role();
            authority.keys.iter().map(move |key| (role, key))
        });
        roots.chain(writers).chain(members).chain(authorities)
    }

    /// The role of a key.
    pub fn role_of(&self, key: KeyId) -> Option<Role> {
        let held = self.keys().find(|(_, held)| held.id() == key).map(|(role, _)| role);
        let witness = || self.witnesses().iter().any(|witness| witness.id() == key);
        held.or_else(|| witness().then_some(Role::Witness))
    }

    /// Whether a key may do something, or the rule that forbids it.
    pub fn permit(&self, key: KeyId, act: Act) -> Result<(), Rule> {
        let needed = act.role();
        match self.role_of(key) {
            Some(role) if role == needed => Ok(()),
            Some(role) => Err(Rule::new(
                "wrong-role",
                format!("key {key} has the role {role}, and this takes the role {needed}"),
            )),
            None => Err(Rule::new("unknown-signer", format!("key {key} is not in the charter"))),
        }
    }
}

impl Record for Charter {
    const KIND: &'static str = "charter";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        law::check(self)
    }
}

impl SignedRecord for Charter {
    const TYPE: &'static str = "exclave charter v1";
}

#[cfg(test)]
pub(crate) mod tests;
