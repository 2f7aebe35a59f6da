//! Files that show that a log lied, to whoever has the archive's charters and no network (FORMAT.md section 22).
//!
//! ```text
//! exclave evidence v1
//! kind fork
//! archive <anchor, hex>
//! first <a checkpoint's note, base64>
//! second <another one, base64>
//! root <base64>
//! hash <base64>
//! ```
//!
//! A *fork* convicts by itself: the log's key has signed both checkpoints, and no tree begins with the one and is the other. When both have
//! one size their roots differ; else `root` is that of the second tree cut to the first one's size, the hashes are the consistency
//! proof between these two, and the first checkpoint has another root.
//! A *rollback* convicts nobody by itself: it keeps what witnesses had cosigned (first), and that the sites showed a smaller tree of the same log,
//! or none (second, perhaps absent).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use exclave_log::{
    BadCheckpoint, BadProof, LogId, SignedCheckpoint, TreeHash, note::NOTE_BYTES_MAX, pair::signature_of,
    proof::PROOF_HASHES_MAX, verify_consistency,
};
use exclave_model::{Anchor, Charters, KeyId, PublicKey, Role};
use exclave_seal::signing::verify_note;

const FIRST_LINE: &str = "exclave evidence v1";
/// Longest file of evidence: two notes in base64, and a proof.
pub const EVIDENCE_BYTES_MAX: usize = 3 * NOTE_BYTES_MAX + (16 << 10);

/// What is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// One key signed two histories.
    Fork,
    /// The sites show less than was cosigned.
    Rollback,
}

impl Claim {
    const ALL: [Self; 2] = [Self::Fork, Self::Rollback];

    /// The word in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Rollback => "rollback",
        }
    }
}

/// Checkpoints that can't be true together, or shouldn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What it shows.
    pub claim: Claim,
    /// Of which archive.
    pub anchor: Anchor,
    /// What was cosigned, or seen first.
    pub first: SignedCheckpoint,
    /// What was shown otherwise.
    pub second: Option<SignedCheckpoint>,
    /// Of a fork between trees of two sizes: the root of the second cut to the first's size, and the proof of that.
    pub cut: Option<(TreeHash, Vec<TreeHash>)>,
}

/// Why something is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// Not a file of evidence.
    #[error("not a file of evidence: {0}")]
    Form(&'static str),
    /// One of its checkpoints is none.
    #[error("one of its checkpoints can't be read")]
    Checkpoint(#[from] BadCheckpoint),
    /// Of another archive.
    #[error("it is about archive {0}")]
    Archive(Anchor),
    /// Nobody known signed it.
    #[error("its checkpoints are not signed by one key of this archive's charters, both halves of it")]
    Unsigned,
    /// The two can be true together.
    #[error("its checkpoints don't contradict each other")]
    NoContradiction,
    /// Its proof proves nothing.
    #[error("its proof does not hold")]
    Proof(#[from] BadProof),
}

/// What evidence shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The claim that holds.
    pub claim: Claim,
    /// Whose log.
    pub key: KeyId,
    /// That key's role in the newest charter that has it.
    pub role: Role,
}

impl Evidence {
    /// Two checkpoints of one size that a log signed.
    pub fn of_one_size(anchor: Anchor, first: SignedCheckpoint, second: SignedCheckpoint) -> Self {
        Self {
            claim: Claim::Fork,
            anchor,
            first,
            second: Some(second),
            cut: None,
        }
    }

    /// A name that the same evidence always has.
    pub fn file_name(&self) -> String {
        let hash = blake3::hash(self.to_text().as_bytes()).to_hex();
        format!("{}.{}", self.claim.as_str(), hash.get(..16).unwrap_or_default())
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{FIRST_LINE}\nkind {}\narchive {}\n",
            self.claim.as_str(),
            self.anchor.to_hex()
        );
        let note = |name: &str, note: &SignedCheckpoint| format!("{name} {}\n", STANDARD.encode(note.to_bytes()));
        text.push_str(&note("first", &self.first));
        text.extend(self.second.as_ref().map(|second| note("second", second)));
        if let Some((root, hashes)) = &self.cut {
            text.push_str(&format!("root {root}\n"));
            text.extend(hashes.iter().map(|hash| format!("hash {hash}\n")));
        }
        text
    }

    /// Reads a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let form = EvidenceError::Form;
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(form("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| form("it is no text"))?;
        let mut lines = text
            .strip_suffix('\n')
            .ok_or(form("its last line has no end"))?
            .split('\n')
            .peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(form("its first line is unknown"));
        }
        let mut next = |name: &str| {
            let line = lines.peek()?.strip_prefix(name)?.strip_prefix(' ')?;
            lines.next();
            Some(line)
        };
        let kind = next("kind").and_then(|word| Claim::ALL.into_iter().find(|claim| claim.as_str() == word));
        let anchor = next("archive").and_then(|digits| digits.parse().ok());
        let first = next("first").ok_or(form("it has no first checkpoint"))?;
        let second = next("second");
        let root = next("root").map(|text| TreeHash::parse(text).ok_or(form("its root is no hash")));
        let mut hashes = Vec::new();
        while let Some(line) = next("hash") {
            if hashes.len() == PROOF_HASHES_MAX {
                return Err(form("more hashes than the largest tree has levels"));
            }
            hashes.push(TreeHash::parse(line).ok_or(form("a line that is no hash"))?);
        }
        let root = root.transpose()?;
        if lines.next().is_some() || (root.is_none() && !hashes.is_empty()) {
            return Err(form("a line that doesn't belong there"));
        }
        Ok(Self {
            claim: kind.ok_or(form("its kind is unknown"))?,
            anchor: anchor.ok_or(form("its archive is no anchor"))?,
            first: note(first)?,
            second: second.map(note).transpose()?,
            cut: root.map(|root| (root, hashes)),
        })
    }

    /// Holds the claim against the archive's charters.
    pub fn verify(&self, charters: &Charters) -> Result<Shown, EvidenceError> {
        if self.anchor != charters.anchor() {
            return Err(EvidenceError::Archive(self.anchor));
        }
        let (key, role) = signer(&self.first, charters)?;
        if let Some(second) = &self.second {
            let same = second.checkpoint.origin == self.first.checkpoint.origin;
            if !same || signer(second, charters)?.0 != key {
                return Err(EvidenceError::Unsigned);
            }
        }
        let (first, second) = (
            &self.first.checkpoint,
            self.second.as_ref().map(|second| &second.checkpoint),
        );
        let holds = match (self.claim, second) {
            (Claim::Rollback, None) => true,
            (Claim::Rollback, Some(second)) => second.size < first.size,
            (Claim::Fork, None) => false,
            (Claim::Fork, Some(second)) => match &self.cut {
                None => first.size == second.size && first.root != second.root,
                Some((root, proof)) => {
                    verify_consistency(first.size, *root, second.size, second.root, proof)?;
                    *root != first.root
                }
            },
        };
        match holds {
            true => Ok(Shown {
                claim: self.claim,
                key,
                role,
            }),
            false => Err(EvidenceError::NoContradiction),
        }
    }
}

fn note(text: &str) -> Result<SignedCheckpoint, EvidenceError> {
    let bytes = STANDARD.decode(text);
    let bytes = bytes.map_err(|_| EvidenceError::Form("a checkpoint is no base64"))?;
    Ok(SignedCheckpoint::parse(&bytes)?)
}

/// Whose log's checkpoint this is: a key that some charter has, in whatever role.
pub fn signer(checkpoint: &SignedCheckpoint, charters: &Charters) -> Result<(KeyId, Role), EvidenceError> {
    let unsigned = EvidenceError::Unsigned;
    let Some(log) = LogId::parse(&checkpoint.checkpoint.origin).filter(|log| log.is_of(charters.anchor())) else {
        return Err(unsigned);
    };
    let held = charters
        .iter()
        .rev()
        .find_map(|charter| charter.keys().find(|(_, key)| key.id() == log.key));
    let Some((role, key)) = held else {
        return Err(unsigned);
    };
    match signed_by(checkpoint, &log, key) {
        true => Ok((log.key, role)),
        false => Err(unsigned),
    }
}

/// True when a log's key has signed the checkpoint with both its halves.
pub fn signed_by(checkpoint: &SignedCheckpoint, log: &LogId, key: &PublicKey) -> bool {
    let signature = log
        .key_name()
        .ok()
        .and_then(|name| signature_of(&checkpoint.note, &name, key).ok());
    signature.is_some_and(|signature| verify_note(checkpoint.note.text(), &signature, key).is_ok())
}
