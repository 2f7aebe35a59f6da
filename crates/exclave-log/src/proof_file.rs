//! Proof files (C2SP tlog-proof, `.tlog-proof`): that an entry is in a log, for who has no network.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    checkpoint::{BadCheckpoint, SignedCheckpoint, decimal},
    hash::TreeHash,
    note::NOTE_BYTES_MAX,
    proof::{BadProof, PROOF_HASHES_MAX, verify_inclusion},
};

/// The first line.
const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Longest extra data: an entry of ours and more.
pub const EXTRA_BYTES_MAX: usize = 64 << 10;
/// Longest proof file.
pub const PROOF_FILE_BYTES_MAX: usize = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX + 64 * 64;

/// An entry's place in a log. Nobody has checked it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    /// Data that nothing vouches for; ours is the entry, which the proof then does.
    pub extra: Option<Vec<u8>>,
    /// The entry's number.
    pub index: u64,
    /// The inclusion proof, from the leaf's sibling up.
    pub hashes: Vec<TreeHash>,
    /// The checkpoint that it leads to.
    pub checkpoint: SignedCheckpoint,
}

/// Why something is no proof file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProofFile {
    /// Longer than any.
    #[error("{0} bytes, the longest proof has {PROOF_FILE_BYTES_MAX}")]
    TooLong(usize),
    /// Not the lines of a proof.
    #[error("not a proof: {0}")]
    Form(&'static str),
    /// What should be its checkpoint is none.
    #[error("its checkpoint can't be read")]
    Checkpoint(#[from] BadCheckpoint),
}

impl LogProof {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}\n");
        if let Some(extra) = &self.extra {
            text.push_str(&format!("extra {}\n", STANDARD.encode(extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.hashes {
            text.push_str(&format!("{hash}\n"));
        }
        text.push('\n');
        [text.into_bytes(), self.checkpoint.to_bytes()].concat()
    }

    /// Reads a file strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadProofFile> {
        if bytes.len() > PROOF_FILE_BYTES_MAX {
            return Err(BadProofFile::TooLong(bytes.len()));
        }
        let form = BadProofFile::Form;
        let text = std::str::from_utf8(bytes).map_err(|_| form("it is no text"))?;
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(form("no empty line before its checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(form("its first line is not that of a proof"));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(extra) if extra.len() <= EXTRA_BYTES_MAX.div_ceil(3) * 4 => {
                lines.next();
                let bytes = STANDARD
                    .decode(extra)
                    .map_err(|_| form("its extra data is not base64"))?;
                Some(bytes)
            }
            Some(_) => return Err(form("its extra data is too long")),
            None => None,
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(decimal).ok_or(form("no index"))?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == PROOF_HASHES_MAX {
                return Err(form("more hashes than the largest tree has levels"));
            }
            hashes.push(TreeHash::parse(line).ok_or(form("a line that is no hash"))?);
        }
        Ok(Self {
            extra,
            index,
            hashes,
            checkpoint: SignedCheckpoint::parse(checkpoint.as_bytes())?,
        })
    }

    /// Checks that `entry` is the one it speaks of. The checkpoint's signatures are another matter.
    pub fn verify(&self, entry: &[u8]) -> Result<(), BadProof> {
        let checkpoint = &self.checkpoint.checkpoint;
        verify_inclusion(
            TreeHash::of_leaf(entry),
            self.index,
            checkpoint.size,
            checkpoint.root,
            &self.hashes,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::Checkpoint,
        note::{KeyHash, KeyName, NoteSignature},
        proof::inclusion,
        tile::Tiles,
        tree::root_of,
    };

    fn proof() -> LogProof {
        let leaves: Vec<TreeHash> = (0u8..9).map(|number| TreeHash::of_leaf(&[number])).collect();
        let checkpoint = Checkpoint::new("example.com/log".to_owned(), 9, root_of(leaves.iter().copied()));
        let mut checkpoint = SignedCheckpoint::unsigned(checkpoint).unwrap();
        checkpoint.note.signatures.push(NoteSignature {
            name: KeyName::parse("example.com/log").unwrap(),
            key: KeyHash([1, 2, 3, 4]),
            bytes: vec![5; 64],
        });
        LogProof {
            extra: Some(b"more".to_vec()),
            index: 4,
            hashes: inclusion(&Tiles::of_leaves(leaves), 4, 9).unwrap(),
            checkpoint,
        }
    }

    #[test]
    fn proofs_read_back_and_speak_of_one_entry() {
        let mut proof = proof();
        for extra in [Some(b"more".to_vec()), None] {
            proof.extra = extra;
            assert_eq!(LogProof::parse(&proof.to_bytes()).unwrap(), proof);
        }
        assert_eq!(proof.verify(&[4]), Ok(()));
        assert!(proof.verify(&[5]).is_err());
        proof.index = 5;
        assert!(proof.verify(&[4]).is_err());
    }

    #[test]
    fn other_forms_are_refused() {
        let good = String::from_utf8(proof().to_bytes()).unwrap();
        let hash = proof().hashes[0].to_string();
        let many = format!("{hash}\n").repeat(PROOF_HASHES_MAX + 1);
        for (from, to) in [
            ("@v1", "@v2"),
            ("extra bW9yZQ==", "extra bW9yZQ="),
            ("extra bW9yZQ==", "extra"),
            ("extra bW9yZQ==", "more bW9yZQ=="),
            ("index 4", "index 04"),
            ("index 4", "index -4"),
            ("index 4", "index 18446744073709551616"),
            ("index 4\n", ""),
            (&hash, "hash"),
            (&format!("{hash}\n"), &many),
            ("\n\nexample", "\nexample"),
            ("\n9\n", "\n09\n"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(LogProof::parse(bad.as_bytes()).is_err(), "{from:?} -> {to:?}");
        }
        assert!(LogProof::parse(&[b'x'; PROOF_FILE_BYTES_MAX + 1]).is_err());
    }
}
