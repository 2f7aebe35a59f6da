//! The nouns of Exclave and their one written form.
//!
//! Everything that is stored, signed or sent is defined here as a type whose constructor states the law, together with
//! its bytes as FORMAT.md fixes them.
//!
//! **Architecture Invariant:** this crate knows no I/O, no async, no clock and no randomness.

#![forbid(unsafe_code)]

pub mod buffer;
pub mod cbor;
pub mod charter;
pub mod collection;
pub mod companion;
pub mod context;
pub mod custody;
pub mod directory;
pub mod dsse;
pub mod envelope;
pub mod geometry;
pub mod grant;
pub mod handover;
pub mod head;
pub mod id;
pub mod kit;
pub mod ledger;
pub mod limit;
pub mod live_set;
pub mod manifest;
pub mod name;
pub mod path;
pub mod registration;
pub mod report;
pub mod signed;
pub mod tripwire;
pub mod wire;

pub use self::{
    buffer::BufferPool,
    cbor::NotCanonical,
    charter::{
        Act, Authority, Charter, CharterFile, Charters, Class, ClassPolicy, Hosting, Member, MemberRole, Pace, Pin,
        Purpose, ReadBack, RecipientKey, RecipientSet, Retention, Revocation, Role, Roots, SitePlate, SiteRecord,
        Witness, Witnesses, Writer,
    },
    collection::{FirstSeen, Hold, HoldScope, Mark, Sweep},
    companion::Companion,
    context::{PayloadLength, ShardHeader, StripeContext},
    custody::{Body, Custodian, CustodianGroup, Place, ShareSet},
    directory::{ChunkKind, Codec, Directory},
    dsse::DsseEnvelope,
    envelope::{Close, Envelope, ReuseClaim, RunStripes, Stanza},
    geometry::{BadGeometry, Code, Geometry},
    grant::{Grant, GrantedRun},
    handover::{LooseSignature, UnsignedCharter},
    head::{Counts, Head, ManifestRoot, RunEntry, RunPage, SealedHead, SnapshotState, SourceKind},
    id::{
        Anchor, BadId, ChunkId, Commitment, DatasetId, FileHash, Incarnation, KeyId, LabelTag, PayloadHash,
        RecipientId, RecordHash, RunId, ShareSetId, SiteId, hex, unhex,
    },
    kit::{FileKind, Kit, KitFile, KitSite, Login, SealedLogins},
    ledger::{LayoutFrom, LedgerPart, StripeRecord},
    live_set::LiveSet,
    manifest::{ChunkRef, Content, Entry, EntryKind, Extent, Timestamp},
    name::{ArchiveNames, BadObjectName, LogName, LogObject, ObjectName, Prefix, RunObject, ShardName, Tag},
    path::{BadPath, EntryPath},
    registration::{Registration, Terms},
    report::{AuditReport, Statement},
    signed::{PublicKey, Signature, SignedObject, SignedRecord},
    tripwire::Tripwire,
    wire::{Record, RecordError, Rule, Version1},
};
