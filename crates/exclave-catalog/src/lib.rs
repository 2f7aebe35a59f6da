//! The rebuildable memory of agents.
//!
//! A catalog remembers what an agent would otherwise have to ask the sites for: which chunks lie where (so that they are
//! not sent twice), what every file looked like in the newest snapshot (so that unchanged files are not read again),
//! runs, receipts, debts and heads. **Nothing in it is needed to restore, and deleting it costs only time**: `exclave
//! catalog rebuild` refills it from the sites, with an identity also the dedup index. It does hold names and sizes of
//! files, so the file is private to its user (mode 0600).
//!
//! ```text
//! scopes     who may reuse from whom: dataset, class, label, crypto epoch
//! runs       one row per run: scope, writer, life, state, excluded or not
//! stripes    durable, marked, verified shards    receipts  shard -> site, hash, last seen    debts  shards still owed
//! chunks     (scope, chunk id) -> run, stripe, offset, lengths, codec: the dedup index
//! generations, states     files of the newest snapshot, in path order
//! snapshots  heads seen or written
//! ```
//!
//! # The rules of reuse
//!
//! A run asks with [`Catalog::lookup`] and gets only chunks of stripes that are durable and not marked for collection, in
//! runs of its own scope that are not excluded, not older than the dataset's `reuse_from`, and finished (its own stripes
//! apart). The class is part of the scope because it fixes recipients and geometry. Trust between writers is decided
//! outside: what is never handed in is never handed out, and [`Catalog::exclude_writer`] takes back.
//!
//! # Durability
//!
//! SQLite in WAL mode with `synchronous = NORMAL`: a crash of the process loses nothing, a power cut may lose the last
//! transactions but never tears the file (SQLite's WAL checks every frame). Losing the last transactions means sending
//! some chunks twice; what must not be lost is in the engine's journal. So nothing here waits for a disk.
//!
//! # Memory
//!
//! One writing connection with a page cache of 32 MiB and three reading ones of 8 MiB each. Batches, pages and cursors
//! are bounded by their arguments, and deletions run in bounded steps.
//!
//! # PostgreSQL
//!
//! Statements use `$1`, `ON CONFLICT` and row values only, so that a fleet can share one PostgreSQL; what is SQLite's own
//! (pragmas, table definitions, sizes) lies in the private modules `schema` and `upkeep`.

#![forbid(unsafe_code)]

mod catalog;
mod chunk;
mod debt;
mod error;
mod run;
mod schema;
mod snapshot;
mod sql;
mod state;
mod stripe;
mod sum;
mod upkeep;

#[cfg(test)]
mod tests;

pub use self::{
    catalog::Catalog,
    chunk::LOOKUP_BATCH,
    debt::Debt,
    error::CatalogError,
    run::{KnownRun, RunRecord, RunState},
    snapshot::{ChainTip, Snapshot},
    state::{ENTRY_BYTES_MAX, FileState, StateCursor, StateWriter},
    stripe::{Owed, Receipt, StripeHealth, StripeNote},
    upkeep::{Stats, TableStats},
};
