//! Logs and witnesses for tests: a log that its key's holder may tell in several ways.

use exclave_log::{Checkpoint, LogId, SignedCheckpoint, Tiles, TreeHash, consistency, pair, tree::root_of};
use exclave_model::{Anchor, Incarnation, Witness, Witnesses, charter::HomeCounts};
use exclave_seal::{CosigningKey, SeededEntropy, SigningKey};

use super::request::AddCheckpoint;

/// A log with its key.
pub(crate) struct ForgedLog {
    pub key: SigningKey,
    pub id: LogId,
    pub leaves: Vec<TreeHash>,
}

impl ForgedLog {
    pub fn new(anchor: Anchor, key: SigningKey, life: u8) -> Self {
        let id = LogId::new(anchor, key.id(), Incarnation::from_bytes([life; 16]));
        Self {
            key,
            id,
            leaves: Vec::new(),
        }
    }

    /// Adds leaves that `history` tells from those of another history.
    pub fn grow(&mut self, history: u8, count: usize) -> &mut Self {
        for _ in 0..count {
            let number = self.leaves.len() as u64;
            self.leaves
                .push(TreeHash::of_leaf(&[&[history][..], &number.to_be_bytes()].concat()));
        }
        self
    }

    /// The checkpoint of the first `size` leaves, signed.
    pub fn checkpoint(&self, size: usize) -> SignedCheckpoint {
        let root = root_of(self.leaves[..size].iter().copied());
        self.sign(Checkpoint::new(self.id.origin(), size as u64, root))
    }

    pub fn sign(&self, checkpoint: Checkpoint) -> SignedCheckpoint {
        let mut signed = SignedCheckpoint::unsigned(checkpoint).unwrap();
        let signature = self
            .key
            .sign_note(signed.note.text(), &mut SeededEntropy::new(5))
            .unwrap();
        let name = self.id.key_name().unwrap();
        signed.note.signatures = pair::lines(&name, self.key.public(), &signature).to_vec();
        signed
    }

    pub fn proof(&self, old: usize, new: usize) -> Vec<TreeHash> {
        consistency(&Tiles::of_leaves(self.leaves.clone()), old as u64, new as u64).unwrap()
    }

    /// A request for the first `new` leaves.
    pub fn request(&self, old: usize, new: usize) -> AddCheckpoint {
        AddCheckpoint {
            old: old as u64,
            proof: self.proof(old, new),
            checkpoint: self.checkpoint(new),
        }
    }
}

/// The cosigning key of a number, named after it.
pub(crate) fn cosigning_key(number: u8) -> CosigningKey {
    let name = format!("w{number}.example/w");
    CosigningKey::generate(&name, &mut SeededEntropy::new(1000 + u64::from(number)))
        .unwrap()
        .unwrap()
}

/// Witnesses 1, 2 and 3 in LU, FI and EE, the last of which is the owner's nation; two of two nations are enough.
pub(crate) fn policy() -> Witnesses {
    let witness =
        |(number, nation): (u8, &str)| -> Witness { cosigning_key(number).public().clone().witness(nation.to_owned()) };
    Witnesses {
        quorum: 2,
        nations: 2,
        home: "EE".to_owned(),
        home_counts: HomeCounts::No,
        age_max_s: 72 * 3600,
        witnesses: [(1, "LU"), (2, "FI"), (3, "EE")].map(witness).to_vec(),
    }
}
