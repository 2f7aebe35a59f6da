//! Run keys given to someone (FORMAT.md section 18).
//!
//! What a ceremony gives away is never the identity but the keys of the runs that named snapshots need, each wrapped for
//! one recipient. It is signed by a restorer and public: anyone sees what was given, to whose key, by whom.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::{
    charter::RecipientKey,
    envelope::{STANZA_CIPHERTEXT_BYTES, STANZA_ENC_BYTES},
    id::{Anchor, Commitment, RecordHash, RunId},
    limit::{RECORD_BYTES_MAX, RUNS_PER_HEAD_MAX},
    signed::SignedRecord,
    wire::{Record, Rule, Version1, strictly_ascending},
};

/// Most snapshots of one grant.
pub const GRANTED_HEADS_MAX: usize = 256;

/// One run's key, wrapped for the recipient of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct GrantedRun {
    /// The run.
    #[n(0)]
    pub run: RunId,
    /// Commitment to its key.
    #[n(1)]
    pub commitment: Commitment,
    /// What HPKE encapsulates.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub enc: Vec<u8>,
    /// The sealed run key.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub ciphertext: Vec<u8>,
}

/// The keys that named snapshots need, for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Grant {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The charter that names the restorer.
    #[n(2)]
    pub charter_version: u32,
    /// Who gets them.
    #[n(3)]
    pub recipient: RecipientKey,
    /// The heads of the snapshots that are meant, ascending.
    #[n(4)]
    pub heads: Vec<RecordHash>,
    /// The keys of all runs that these snapshots need, ascending.
    #[n(5)]
    pub runs: Vec<GrantedRun>,
    /// When it was given, by the restorer's clock: Unix seconds.
    #[n(6)]
    pub created: i64,
    /// Until when it is meant to be used: a promise between people. Nothing closes afterwards.
    #[n(7)]
    pub until: Option<i64>,
}

impl Record for Grant {
    const KIND: &'static str = "grant";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        if self.charter_version == 0 {
            return Err(Rule::new("wrong-charter", "charter versions begin with 1"));
        }
        if self.heads.is_empty() || self.runs.is_empty() {
            return Err(Rule::new("bad-record", "a grant names no snapshot, or gives no key"));
        }
        if self.heads.len() > GRANTED_HEADS_MAX || self.runs.len() > RUNS_PER_HEAD_MAX {
            return Err(Rule::new("too-long", "more snapshots or runs than a grant may have"));
        }
        let runs: Vec<RunId> = self.runs.iter().map(|granted| granted.run).collect();
        if !strictly_ascending(&self.heads) || !strictly_ascending(&runs) {
            return Err(Rule::new("bad-order", "heads or runs are unsorted or doubled"));
        }
        let lengths = |granted: &GrantedRun| {
            granted.enc.len() == STANZA_ENC_BYTES && granted.ciphertext.len() == STANZA_CIPHERTEXT_BYTES
        };
        match self.runs.iter().all(lengths) {
            true => Ok(()),
            false => Err(Rule::new("bad-record", "a wrapped key has another length")),
        }
    }
}

impl SignedRecord for Grant {
    const TYPE: &'static str = "exclave grant v1";
}

impl Grant {
    /// The run's wrapped key, when it is among those given.
    pub fn run(&self, run: RunId) -> Option<&GrantedRun> {
        let at = self.runs.binary_search_by_key(&run, |granted| granted.run).ok()?;
        self.runs.get(at)
    }

    /// The runs that are given.
    pub fn run_ids(&self) -> BTreeSet<RunId> {
        self.runs.iter().map(|granted| granted.run).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charter::RECIPIENT_KEY_BYTES;

    fn grant() -> Grant {
        let run = |number: u8| GrantedRun {
            run: RunId::from_bytes([number; 16]),
            commitment: Commitment::from_bytes([number; 32]),
            enc: vec![1; STANZA_ENC_BYTES],
            ciphertext: vec![2; STANZA_CIPHERTEXT_BYTES],
        };
        Grant {
            format: Version1,
            anchor: Anchor::from_bytes([1; 32]),
            charter_version: 1,
            recipient: RecipientKey::from_bytes([7; RECIPIENT_KEY_BYTES]),
            heads: vec![RecordHash::from_bytes([1; 32]), RecordHash::from_bytes([2; 32])],
            runs: vec![run(1), run(3)],
            created: 5,
            until: None,
        }
    }

    #[test]
    fn grants_read_back_and_obey_their_law() {
        let good = grant();
        assert_eq!(Grant::from_bytes(&good.to_bytes().unwrap()).unwrap(), good);
        assert!(good.run(RunId::from_bytes([3; 16])).is_some());
        assert!(good.run(RunId::from_bytes([2; 16])).is_none());
        type Change = fn(&mut Grant);
        let changes: [(&str, Change); 8] = [
            ("wrong-charter", |grant| grant.charter_version = 0),
            ("bad-record", |grant| grant.heads.clear()),
            ("bad-record", |grant| grant.runs.clear()),
            ("bad-order", |grant| grant.heads.reverse()),
            ("bad-order", |grant| grant.runs[1].run = grant.runs[0].run),
            ("bad-record", |grant| _ = grant.runs[0].enc.pop()),
            ("bad-record", |grant| grant.runs[1].ciphertext.push(0)),
            ("too-long", |grant| {
                grant.heads = vec![grant.heads[0]; GRANTED_HEADS_MAX + 1]
            }),
        ];
        for (kind, change) in changes {
            let mut bad = grant();
            change(&mut bad);
            assert_eq!(bad.law().unwrap_err().kind, kind);
        }
    }
}
