//! The transparency log: an append-only Merkle tree whose root its owner signs, in the formats of C2SP.
//!
//! A log holds small entries, each naming a record by its hash. Its owner signs *checkpoints*: size and root of the tree. Who has
//! two checkpoints can be shown that the later tree begins with the earlier one, and who has one can be shown that a
//! record is in it. So a head that was shown once can't be taken back unseen, and nobody can be shown another history than
//! everyone else.
//!
//! Formats: RFC 6962 section 2.1 (tree, proofs), and of C2SP: tlog-tiles, signed-note, tlog-checkpoint, tlog-cosignature,
//! tlog-proof. What is Exclave's own, the entry and the origin, stands in FORMAT.md section 21.
//!
//! The way in: [`entry`] and [`origin`] say what is logged, [`tree`] hashes it, [`tile`] cuts the tree into objects, [`proof`]
//! makes and checks proofs, [`note`], [`checkpoint`] and [`cosignature`] are what is signed, [`proof_file`] travels.
//!
//! **Architecture Invariant:** no I/O, no clock, no keys. Signatures are taken apart here and verified by who has keys; bytes come
//! from a [`TileSource`] that the caller fills.

#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod cosignature;
pub mod entry;
pub mod hash;
pub mod note;
pub mod origin;
pub mod pair;
pub mod proof;
pub mod proof_file;
pub mod tile;
pub mod tree;

pub use self::{
    checkpoint::{BadCheckpoint, Checkpoint, SignedCheckpoint},
    cosignature::{BadCosignature, TimestampedSignature},
    entry::{EntryKind, LogEntry},
    hash::TreeHash,
    note::{BadNote, KeyHash, KeyName, Note, NoteSignature, SignatureType, VerifierKey},
    origin::LogId,
    pair::NoPair,
    proof::{BadProof, consistency, inclusion, verify_consistency, verify_inclusion},
    proof_file::{BadProofFile, LogProof},
    tile::{BadTile, TileId, TileLevel, TileSource, Tiles},
    tree::{Edge, MissingTile},
};
