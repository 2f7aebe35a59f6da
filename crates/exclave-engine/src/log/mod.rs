//! The transparency log of an archive: written by whoever signs, read by everyone (FORMAT.md section 21).
//!
//! Each signing key has a log for each life of its holder ([docs/decisions/0013](../../../docs/decisions/0013-a-log-for-each-life.md)).
//! A writer's log is a function of its chain of heads: of each head the charters up to the one that it obeys, as far as they
//! are not in it yet, then the head. So a machine that was set back and goes on in the same life writes the same log
//! again, and forks it only when it forks its chain.
//!
//! * [`mod@write`]: a commit's head goes into the log after the commit ([`write::log_head`]); what others sign, into a log of its
//!   own ([`write::log_session`]);
//! * [`read`]: what all sites together show of all logs, held against the signatures and against each other;
//! * [`proof`]: a `.tlog-proof` checked with nothing but the anchor and the charter;
//! * [`evidence`]: two checkpoints that can't both be true, for who has nothing but the charter.

pub mod evidence;
pub mod proof;
pub mod read;
pub mod write;

use bytes::Bytes;
use exclave_log::{
    LogEntry, LogId, SignedCheckpoint, TileId, TileLevel, Tiles, TreeHash, pair,
    tile::{bundle, grown},
};
use exclave_model::{ArchiveNames, ObjectName, PublicKey, Record as _, Tag};
use exclave_seal::verify_note;

pub use self::{
    evidence::Evidence,
    proof::{BadLogProof, CheckedProof, check_proof, check_proof_by, hash_of_file},
    read::{LogFinding, LogView, Logs, SeenCheckpoint, read_logs},
    write::{LogError, LogStanding, Logged, log_session},
};

/// Longest entry that is read: ours have 40 bytes, those of later versions may have some more.
const ENTRY_BYTES_MAX: usize = 64;

/// Longest bundle that is fetched.
const BUNDLE_BYTES_MAX: u64 = 256 * (2 + ENTRY_BYTES_MAX as u64);

/// The bytes of entries, as their leaves hash them.
fn entry_bytes(entries: &[LogEntry]) -> Result<Vec<Vec<u8>>, exclave_model::RecordError> {
    entries.iter().map(LogEntry::to_bytes).collect()
}

/// The leaves of entries.
fn leaves(entries: &[Vec<u8>]) -> Vec<TreeHash> {
    entries.iter().map(|entry| TreeHash::of_leaf(entry)).collect()
}

/// The proof that the tree of all entries begins with that of the first `old`; `None` when there are fewer.
pub fn growth(entries: &[Vec<u8>], old: u64) -> Option<Vec<TreeHash>> {
    let size = entries.len() as u64;
    let tiles = || Tiles::of_leaves(leaves(entries));
    (old <= size).then(|| exclave_log::consistency(&tiles(), old, size).ok())?
}

/// What lies at a site of a log that has grown from `old` to all of `entries`: bundles, and full tiles.
///
/// Partial tiles of hashes are left out: they follow from the bundle beside them and from the full tiles below, and every commit
/// would leave one.
fn objects(names: &ArchiveNames, log: LogId, entries: &[Vec<u8>], old: u64) -> Vec<(ObjectName, Bytes)> {
    let tiles = Tiles::of_leaves(leaves(entries));
    let kept = |tile: &TileId| tile.level() == TileLevel::Entries || tile.is_full();
    let grown = grown(old, entries.len() as u64).into_iter().filter(kept);
    grown
        .filter_map(|tile| {
            let bytes = Bytes::from(tile_bytes(&tiles, entries, tile)?);
            let name = names.log_tile(log.key, log.incarnation, &tile.path(), Tag::of(&bytes))?;
            Some((name, bytes))
        })
        .collect()
}

/// The bytes of a tile or bundle; `None` when the log has none like that.
fn tile_bytes(tiles: &Tiles, entries: &[Vec<u8>], tile: TileId) -> Option<Vec<u8>> {
    match tile.level() {
        TileLevel::Hashes(_) => tiles.bytes(tile),
        TileLevel::Entries => {
            let start = usize::try_from(tile.index()).ok()?.checked_mul(256)?;
            let end = start.checked_add(usize::from(tile.width()))?;
            bundle(entries.get(start..end)?.iter().map(Vec::as_slice)).ok()
        }
    }
}

/// True when a checkpoint speaks of this log and carries both halves of its key's signature.
pub(crate) fn is_signed(signed: &SignedCheckpoint, log: LogId, key: &PublicKey) -> bool {
    let verified = || {
        let signature = pair::signature_of(&signed.note, &log.key_name().ok()?, key).ok()?;
        verify_note(signed.note.text(), &signature, key).ok()
    };
    signed.checkpoint.origin == log.origin() && key.id() == log.key && verified().is_some()
}

#[cfg(test)]
mod tests;
