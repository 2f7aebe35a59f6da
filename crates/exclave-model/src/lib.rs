//! The nouns of Exclave and their one written form.
//!
//! Everything that is stored, signed or sent is defined here as a type whose constructor states the law, together with
//! its bytes as FORMAT.md fixes them.
//!
//! **Architecture Invariant:** this crate knows no I/O, no async, no clock and no randomness.

#![forbid(unsafe_code)]

pub mod geometry;
pub mod id;
pub mod limit;
pub mod name;

pub use self::{
    geometry::{BadGeometry, Code, Geometry},
    id::{
        Anchor, BadId, ChunkId, Commitment, DatasetId, Incarnation, KeyId, LabelTag, PayloadHash, RecipientId,
        RecordHash, RunId, SiteId, hex, unhex,
    },
    name::{BadObjectName, ObjectName},
};
