//! The nouns of Exclave and their one written form.
//!
//! Everything that is stored, signed or sent is defined here as a type whose constructor states the law, together with
//! its bytes as FORMAT.md fixes them.
//!
//! **Architecture Invariant:** this crate knows no I/O, no async, no clock and no randomness.

#![forbid(unsafe_code)]

pub mod directory;
pub mod geometry;
pub mod id;
pub mod limit;
pub mod manifest;
pub mod name;
pub mod path;
pub mod wire;

pub use self::{
    directory::Codec,
    geometry::{BadGeometry, Code, Geometry},
    id::{
        Anchor, BadId, ChunkId, Commitment, DatasetId, Incarnation, KeyId, LabelTag, PayloadHash, RecipientId,
        RecordHash, RunId, SiteId, hex, unhex,
    },
    manifest::{ChunkRef, Content, Entry, EntryKind, Extent, Timestamp},
    name::{BadObjectName, ObjectName, Prefix},
    path::{BadPath, EntryPath},
    wire::{Record, RecordError, Rule},
};
