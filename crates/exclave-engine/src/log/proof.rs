//! Proof files (`.tlog-proof`) of our logs, checked without any site.

use exclave_log::{BadProof, BadProofFile, LogEntry, LogId, LogProof, NoPair, pair};
use exclave_model::{
    Anchor, Charters, DsseEnvelope, KeyId, PublicKey, Record as _, RecordError, RecordHash, Role, SignedObject,
    limit::RECORD_BYTES_MAX,
};
use exclave_seal::{VerifyError, verify_note};

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum BadLogProof {
    /// Not a proof file.
    #[error(transparent)]
    File(#[from] BadProofFile),
    /// A proof of a log that is none of this archive.
    #[error("it is about the log {0:?}, which is none of this archive")]
    Log(String),
    /// A proof without its entry.
    #[error("it does not hold its entry, as ours do")]
    NoEntry,
    /// An entry that can't be read.
    #[error("its entry can't be read")]
    Entry(#[from] RecordError),
    /// The log's key is in no charter.
    #[error("no charter names the key of its log")]
    Stranger,
    /// The checkpoint lacks a half of the signature of the log's key.
    #[error("its checkpoint is not signed by both halves of the log's key")]
    Unsigned(#[from] NoPair),
    /// One of them doesn't verify.
    #[error("its checkpoint's signature does not verify")]
    Signature(#[from] VerifyError),
    /// The entry isn't in the tree.
    #[error("its entry is not in the tree of its checkpoint")]
    Inclusion(#[from] BadProof),
}

/// What a proof proves.
#[derive(Debug, Clone)]
pub struct CheckedProof {
    /// The log.
    pub log: LogId,
    /// Its owner's role, in the newest charter that names the key.
    pub role: Role,
    /// True when the newest charter revokes the owner.
    pub revoked: bool,
    /// What is in it.
    pub entry: LogEntry,
    /// Its number there.
    pub index: u64,
    /// Entries of the log, at the time of the checkpoint.
    pub size: u64,
}

/// Checks a proof file against charters that lead to the anchor.
pub fn check_proof(bytes: &[u8], anchor: Anchor, charters: &Charters) -> Result<CheckedProof, BadLogProof> {
    let held = |id: KeyId| {
        let versions = charters.iter().rev();
        let mut held = versions.filter_map(|charter| charter.keys().find(|(_, key)| key.id() == id));
        held.next()
    };
    let (log, entry, index, size) = check_proof_by(bytes, anchor, |id| held(id).map(|(_, key)| key))?;
    Ok(CheckedProof {
        log,
        role: held(log.key).map(|(role, _)| role).ok_or(BadLogProof::Stranger)?,
        revoked: charters.newest().revocation(log.key).is_some(),
        entry,
        index,
        size,
    })
}

/// The same, for who knows public keys: the log, the entry, its number, and how many there are.
pub fn check_proof_by<'k>(
    bytes: &[u8],
    anchor: Anchor,
    key_of: impl Fn(KeyId) -> Option<&'k PublicKey>,
) -> Result<(LogId, LogEntry, u64, u64), BadLogProof> {
    let proof = LogProof::parse(bytes)?;
    let checkpoint = &proof.checkpoint.checkpoint;
    let other = || BadLogProof::Log(checkpoint.origin.clone());
    let log = LogId::parse(&checkpoint.origin)
        .filter(|log| log.is_of(anchor))
        .ok_or_else(other)?;
    let entry_bytes = proof.extra.as_deref().ok_or(BadLogProof::NoEntry)?;
    let entry = LogEntry::from_bytes(entry_bytes)?;
    let key = key_of(log.key).ok_or(BadLogProof::Stranger)?;
    let note = &proof.checkpoint.note;
    let signature = pair::signature_of(note, &log.key_name().map_err(|_| other())?, key)?;
    verify_note(note.text(), &signature, key)?;
    proof.verify(entry_bytes)?;
    Ok((log, entry, proof.index, checkpoint.size))
}

/// The hash under which a log names a file: of a signed object its record's, of a report its payload's, of anything else that
/// of its bytes.
pub fn hash_of_file(bytes: &[u8]) -> RecordHash {
    if let Ok(object) = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX) {
        return object.record_hash();
    }
    match DsseEnvelope::from_bytes(bytes) {
        Ok(envelope) => RecordHash::of(&envelope.payload),
        Err(_) => RecordHash::of(bytes),
    }
}
