//! Who may do what: keys and their roles (FORMAT.md section 8).
//!
//! One key has one job. Roots vouch for charters and plates, writers commit snapshots; everyone else stands in the list
//! of members, and those who decide together in the list of authorities. What a key may do follows from its role alone:
//! [`Role::may`] is the whole table.

use minicbor::{Decode, Encode};

use super::numbered::{by_word, numbered};
use crate::{
    id::{Incarnation, KeyId, RecipientId, RecordHash},
    signed::PublicKey,
};

/// Bytes of an X-Wing public key (draft-connolly-cfrg-xwing-kem).
pub const RECIPIENT_KEY_BYTES: usize = 1216;

/// A public key that run keys are wrapped to.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientKey(Box<[u8; RECIPIENT_KEY_BYTES]>);

impl RecipientKey {
    /// Takes an X-Wing public key's bytes.
    pub fn from_bytes(bytes: [u8; RECIPIENT_KEY_BYTES]) -> Self {
        Self(Box::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; RECIPIENT_KEY_BYTES] {
        &self.0
    }

    /// The recipient's id.
    pub fn id(&self) -> RecipientId {
        RecipientId::from_bytes(*blake3::hash(&self.0[..]).as_bytes())
    }
}

impl std::fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecipientKey({})", self.id())
    }
}

crate::wire::boxed_bytes!(RecipientKey, RECIPIENT_KEY_BYTES);

/// Who may vouch for the charter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Roots {
    /// How many must sign.
    #[n(0)]
    pub threshold: u32,
    /// The keys.
    #[n(1)]
    pub keys: Vec<PublicKey>,
}

/// Who may commit snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Writer {
    /// The key.
    #[n(0)]
    pub key: PublicKey,
    /// The classes it may write.
    #[n(1)]
    pub classes: Vec<u32>,
}

/// Whom run keys are wrapped to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct RecipientSet {
    /// Its number.
    #[n(0)]
    pub id: u32,
    /// Raised when someone leaves the set; runs of an older epoch are not reused.
    #[n(1)]
    pub crypto_epoch: u32,
    /// The keys.
    #[n(2)]
    pub keys: Vec<RecipientKey>,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Vouches for charters and plates, with others.
    Root,
    /// Commits snapshots of its classes.
    Writer,
    /// Decides about collection, with others.
    CollectionAuthority,
    /// Declares postures, with others.
    PostureAuthority,
    /// Adds datasets to its classes, and tightens.
    Administrator,
    /// Wraps run keys anew, and grants them.
    Restorer,
    /// Signs reports.
    Auditor,
    /// Puts rebuilt shards, and signs where they lie.
    Repairer,
    /// Extends locks, up to a cap.
    Keeper,
    /// Deletes what the collection authorities released.
    Reaper,
    /// Cosigns checkpoints of the log.
    Witness,
}

/// What a key can be asked to vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    /// Sign a charter.
    Charter,
    /// Sign a site's plate.
    Plate,
    /// Sign a kit, with others.
    Kit,
    /// Sign the directory of names and contacts, with others.
    Directory,
    /// Commit a snapshot: head, envelope, reuse claim, close.
    Commit,
    /// Wrap a run key anew for the recipients of a later charter.
    Rewrap,
    /// Give run keys to someone.
    Grant,
    /// Add a dataset to a class, or tighten.
    Tenant,
    /// Sign a report.
    Report,
    /// Sign where rebuilt shards lie.
    Placement,
    /// Extend a lock.
    Keep,
    /// Delete.
    Sweep,
    /// Release for deletion, with others.
    Release,
    /// Declare a posture, with others.
    Posture,
    /// Cosign a checkpoint.
    Cosign,
}

impl Act {
    /// Every act.
    pub const ALL: &'static [Self] = &[
        Self::Charter,
        Self::Plate,
        Self::Kit,
        Self::Directory,
        Self::Commit,
        Self::Rewrap,
        Self::Grant,
        Self::Tenant,
        Self::Report,
        Self::Placement,
        Self::Keep,
        Self::Sweep,
        Self::Release,
        Self::Posture,
        Self::Cosign,
    ];

    /// The one role that may do it.
    pub const fn role(self) -> Role {
        match self {
            Self::Charter | Self::Plate | Self::Kit | Self::Directory => Role::Root,
            Self::Commit => Role::Writer,
            Self::Rewrap | Self::Grant => Role::Restorer,
            Self::Tenant => Role::Administrator,
            Self::Report => Role::Auditor,
            Self::Placement => Role::Repairer,
            Self::Keep => Role::Keeper,
            Self::Sweep => Role::Reaper,
            Self::Release => Role::CollectionAuthority,
            Self::Posture => Role::PostureAuthority,
            Self::Cosign => Role::Witness,
        }
    }
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] = &[
        Self::Root,
        Self::Writer,
        Self::CollectionAuthority,
        Self::PostureAuthority,
        Self::Administrator,
        Self::Restorer,
        Self::Auditor,
        Self::Repairer,
        Self::Keeper,
        Self::Reaper,
        Self::Witness,
    ];

    /// True when keys of this role may do that.
    pub fn may(self, act: Act) -> bool {
        act.role() == self
    }

    /// What people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Writer => "writer",
            Self::CollectionAuthority => "collection-authority",
            Self::PostureAuthority => "posture-authority",
            Self::Administrator => MemberRole::Administrator.as_str(),
            Self::Restorer => MemberRole::Restorer.as_str(),
            Self::Auditor => MemberRole::Auditor.as_str(),
            Self::Repairer => MemberRole::Repairer.as_str(),
            Self::Keeper => MemberRole::Keeper.as_str(),
            Self::Reaper => MemberRole::Reaper.as_str(),
            Self::Witness => MemberRole::Witness.as_str(),
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_word(Self::ALL, Self::as_str, text)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The roles of members: of keys that act alone, beside roots and writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemberRole {
    /// [`Role::Administrator`].
    Administrator,
    /// [`Role::Restorer`].
    Restorer,
    /// [`Role::Auditor`].
    Auditor,
    /// [`Role::Repairer`].
    Repairer,
    /// [`Role::Keeper`].
    Keeper,
    /// [`Role::Reaper`].
    Reaper,
    /// Nobody: the number is kept for charters that have it. Witnesses cosign with keys of another form, and stand in a list of their own
    /// ([`super::Witnesses`]).
    Witness,
}

numbered!(MemberRole {
    Administrator = 0: "administrator",
    Restorer = 1: "restorer",
    Auditor = 2: "auditor",
    Repairer = 3: "repairer",
    Keeper = 4: "keeper",
    Reaper = 5: "reaper",
    Witness = 6: "witness",
});

impl MemberRole {
    /// Among all roles.
    pub const fn role(self) -> Role {
        match self {
            Self::Administrator => Role::Administrator,
            Self::Restorer => Role::Restorer,
            Self::Auditor => Role::Auditor,
            Self::Repairer => Role::Repairer,
            Self::Keeper => Role::Keeper,
            Self::Reaper => Role::Reaper,
            Self::Witness => Role::Witness,
        }
    }

    /// True when members of this role have classes: what they may do is bound to them.
    pub const fn has_classes(self) -> bool {
        matches!(self, Self::Administrator)
    }
}

/// A key with a role of its own.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Member {
    /// What it is for.
    #[n(0)]
    pub role: MemberRole,
    /// The key.
    #[n(1)]
    pub key: PublicKey,
    /// The classes it has a say in; empty for roles that have none.
    #[n(2)]
    pub classes: Vec<u32>,
}

/// What keys decide together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// What may be deleted.
    Collection,
    /// Which posture holds.
    Posture,
}

numbered!(Purpose { Collection = 0: "collection", Posture = 1: "posture" });

impl Purpose {
    /// The role of those keys.
    pub const fn role(self) -> Role {
        match self {
            Self::Collection => Role::CollectionAuthority,
            Self::Posture => Role::PostureAuthority,
        }
    }
}

/// Keys that decide something together.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Authority {
    /// What they decide.
    #[n(0)]
    pub purpose: Purpose,
    /// How many must agree.
    #[n(1)]
    pub threshold: u32,
    /// The keys.
    #[n(2)]
    pub keys: Vec<PublicKey>,
}

/// Why a key lost its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Its time was over; nobody else had it.
    Retired,
    /// Someone else had it, or may have had it.
    Compromised,
}

numbered!(Reason { Retired = 0: "retired", Compromised = 1: "compromised" });

/// The last head of one life of a revoked writer that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct Pin {
    /// The life.
    #[n(0)]
    pub incarnation: Incarnation,
    /// The head's place.
    #[n(1)]
    pub seq: u64,
    /// The head.
    #[n(2)]
    pub head: RecordHash,
}

/// A key that has no say any more. What it signed is void, but for the heads that a pin holds, and those before them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Revocation {
    /// The key.
    #[n(0)]
    pub key: KeyId,
    /// Why.
    #[n(1)]
    pub reason: Reason,
    /// One for each life whose heads count, ascending.
    #[n(2)]
    pub pins: Vec<Pin>,
}
