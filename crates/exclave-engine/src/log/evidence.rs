//! Two checkpoints of one log that can't both be true, as a file: who has the log's public key needs nothing else.
//!
//! Of one size, two roots speak for themselves. Of different sizes, the file has the root that the smaller tree must have had for
//! the larger one to be true, with the consistency proof from it: the smaller checkpoint says another.

use exclave_log::{LogId, SignedCheckpoint, TreeHash, verify_consistency};
use exclave_model::PublicKey;
use serde::{Deserialize, Serialize};

use super::is_signed;

/// What such a file says it is.
pub const EVIDENCE_FORMAT: &str = "exclave log evidence v1";

/// Longest file that is read: two notes and a proof.
pub const EVIDENCE_BYTES_MAX: usize = 1 << 20;

/// A fork of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// [`EVIDENCE_FORMAT`].
    pub format: String,
    /// The smaller checkpoint's note.
    pub first: String,
    /// The other one's.
    pub second: String,
    /// The root at the smaller size of the tree that the second checkpoint speaks of; absent when the sizes are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_root: Option<String>,
    /// The consistency proof from it to the second checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<String>,
}

/// Why a file proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum BadEvidence {
    /// Not such a file.
    #[error("not a file of evidence")]
    Form,
    /// A checkpoint that is none of this log, or not signed by its key.
    #[error("a checkpoint in it is not signed by the key of one log")]
    Signature,
    /// Both checkpoints may be true.
    #[error("its checkpoints don't contradict each other")]
    Consistent,
}

impl Evidence {
    /// Of two checkpoints of one size.
    pub(crate) fn split(first: &SignedCheckpoint, second: &SignedCheckpoint) -> Self {
        Self {
            format: EVIDENCE_FORMAT.to_owned(),
            first: note(first),
            second: note(second),
            prefix_root: None,
            proof: Vec::new(),
        }
    }

    /// Of two checkpoints of different sizes: `second` has the tree whose first part has root `prefix`.
    pub(crate) fn fork(
        first: &SignedCheckpoint,
        second: &SignedCheckpoint,
        prefix: TreeHash,
        proof: &[TreeHash],
    ) -> Self {
        Self {
            prefix_root: Some(prefix.to_string()),
            proof: proof.iter().map(TreeHash::to_string).collect(),
            ..Self::split(first, second)
        }
    }

    /// Reads a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadEvidence> {
        let known = |evidence: &Self| evidence.format == EVIDENCE_FORMAT;
        let read = (bytes.len() <= EVIDENCE_BYTES_MAX).then(|| serde_json::from_slice(bytes).ok());
        read.flatten().filter(known).ok_or(BadEvidence::Form)
    }

    /// The log that it is about, as it says.
    pub fn log(&self) -> Option<LogId> {
        let first = SignedCheckpoint::parse(self.first.as_bytes()).ok()?;
        LogId::parse(&first.checkpoint.origin)
    }

    /// Checks that the key signed two checkpoints of one log that can't both be true.
    pub fn check(&self, key: &PublicKey) -> Result<LogId, BadEvidence> {
        let log = self.log().ok_or(BadEvidence::Form)?;
        let read = |note: &str| {
            let signed = SignedCheckpoint::parse(note.as_bytes()).map_err(|_| BadEvidence::Form)?;
            match is_signed(&signed, log, key) {
                true => Ok(signed.checkpoint),
                false => Err(BadEvidence::Signature),
            }
        };
        let (first, second) = (read(&self.first)?, read(&self.second)?);
        let hashes = self.proof.iter().map(|hash| TreeHash::parse(hash));
        let hashes: Option<Vec<TreeHash>> = hashes.collect();
        let hashes = hashes.ok_or(BadEvidence::Form)?;
        let contradicts = match &self.prefix_root {
            None => first.size == second.size && first.root != second.root,
            Some(prefix) => {
                let prefix = TreeHash::parse(prefix).ok_or(BadEvidence::Form)?;
                prefix != first.root
                    && verify_consistency(first.size, prefix, second.size, second.root, &hashes).is_ok()
            }
        };
        match contradicts {
            true => Ok(log),
            false => Err(BadEvidence::Consistent),
        }
    }
}

fn note(signed: &SignedCheckpoint) -> String {
    String::from_utf8(signed.to_bytes()).unwrap_or_default()
}
