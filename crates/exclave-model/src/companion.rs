//! The directory of names and contacts, as it lies at the sites: sealed (FORMAT.md section 25).
//!
//! Everything public calls datasets and sites by opaque ids and short names. What they are called at home, whom they belong
//! to, who is to be rung, and in which order they come back, stands in this one record, sealed to recipients whom its makers
//! chose. Roots sign it, as many as a charter takes: who calls a number in a crisis must not call a thief.

use minicbor::{Decode, Encode};

use crate::{
    envelope::Stanza,
    id::{Anchor, Commitment, RecipientId, RecordHash},
    signed::SignedRecord,
    wire::{Record, Rule, Version1, strictly_ascending},
};

/// Most recipients: those of a charter, and auditors.
pub const COMPANION_STANZAS_MAX: usize = 128;

/// Shortest sealed part. Each longer one is twice as long as the one before, so its length tells little.
pub const COMPANION_BOX_BYTES_MIN: usize = 16 << 10;

/// Longest sealed part: some thousand datasets with their contacts.
pub const COMPANION_BOX_BYTES_MAX: usize = 1 << 20;

/// Longest record: the longest sealed part, and 128 stanzas of 1.2 KiB.
pub const COMPANION_BYTES_MAX: usize = COMPANION_BOX_BYTES_MAX + (256 << 10);

/// Longest object: the record, and the signatures of a hundred roots.
pub const COMPANION_OBJECT_BYTES_MAX: usize = COMPANION_BYTES_MAX + (512 << 10);

/// Names and contacts, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Companion {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// Its place among the directories, from 1.
    #[n(2)]
    pub version: u32,
    /// Hash of the one before; absent in the first.
    #[n(3)]
    pub previous: Option<RecordHash>,
    /// The charter whose roots sign it.
    #[n(4)]
    pub charter_version: u32,
    /// The hash of that charter's record.
    #[n(5)]
    pub charter: RecordHash,
    /// When it was made: Unix seconds.
    #[n(6)]
    pub created: i64,
    /// Commitment to the key of field 9.
    #[n(7)]
    pub commitment: Commitment,
    /// The key, wrapped for each recipient, ascending ids.
    #[n(8)]
    pub stanzas: Vec<Stanza>,
    /// The text: a box, purpose 4.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

impl Companion {
    /// Who can open it.
    pub fn recipients(&self) -> impl Iterator<Item = RecipientId> + '_ {
        self.stanzas.iter().map(|stanza| stanza.recipient)
    }
}

/// Whether a sealed part has one of the lengths that there are.
fn is_step(length: usize) -> bool {
    length.is_power_of_two() && (COMPANION_BOX_BYTES_MIN..=COMPANION_BOX_BYTES_MAX).contains(&length)
}

impl Record for Companion {
    const KIND: &'static str = "directory";
    const BYTES_MAX: usize = COMPANION_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        if self.charter_version == 0 {
            return Err(Rule::new("wrong-charter", "charter versions begin with 1"));
        }
        match (self.version, self.previous) {
            (0, _) => return Err(Rule::new("bad-version", "directories begin with 1")),
            (1, Some(_)) => return Err(Rule::new("bad-record", "the first directory has no predecessor")),
            (1, None) | (_, Some(_)) => {}
            (version, None) => {
                let text = format!("directory {version} does not name the one before it");
                return Err(Rule::new("bad-version", text));
            }
        }
        if self.stanzas.is_empty() {
            return Err(Rule::new("bad-record", "nobody can open the directory"));
        }
        if !self.stanzas.iter().all(Stanza::has_lengths) {
            return Err(Rule::new("bad-record", "a wrapped key has another length"));
        }
        if self.stanzas.len() > COMPANION_STANZAS_MAX {
            return Err(Rule::new("too-long", "more recipients than a directory may have"));
        }
        let ids: Vec<RecipientId> = self.recipients().collect();
        if !strictly_ascending(&ids) {
            return Err(Rule::new("bad-order", "recipients are unsorted or doubled"));
        }
        match is_step(self.sealed.len()) {
            true => Ok(()),
            false => Err(Rule::new(
                "bad-length",
                format!("a sealed part of {} bytes", self.sealed.len()),
            )),
        }
    }
}

impl SignedRecord for Companion {
    const TYPE: &'static str = "exclave names v1";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{STANZA_CIPHERTEXT_BYTES, STANZA_ENC_BYTES};

    fn companion() -> Companion {
        let stanza = |number: u8| Stanza {
            recipient: RecipientId::from_bytes([number; 32]),
            enc: vec![1; STANZA_ENC_BYTES],
            ciphertext: vec![2; STANZA_CIPHERTEXT_BYTES],
        };
        Companion {
            format: Version1,
            anchor: Anchor::from_bytes([1; 32]),
            version: 2,
            previous: Some(RecordHash::from_bytes([3; 32])),
            charter_version: 1,
            charter: RecordHash::from_bytes([4; 32]),
            created: 5,
            commitment: Commitment::from_bytes([6; 32]),
            stanzas: vec![stanza(1), stanza(2)],
            sealed: vec![7; COMPANION_BOX_BYTES_MIN],
        }
    }

    #[test]
    fn directories_read_back_and_obey_their_law() {
        let good = companion();
        assert_eq!(Companion::from_bytes(&good.to_bytes().unwrap()).unwrap(), good);
        type Change = fn(&mut Companion);
        let changes: [(&str, Change); 11] = [
            ("bad-version", |directory| directory.version = 0),
            ("bad-record", |directory| directory.version = 1),
            ("bad-version", |directory| directory.previous = None),
            ("wrong-charter", |directory| directory.charter_version = 0),
            ("bad-record", |directory| directory.stanzas.clear()),
            ("bad-record", |directory| _ = directory.stanzas[0].enc.pop()),
            ("bad-order", |directory| directory.stanzas.reverse()),
            ("too-long", |directory| {
                directory.stanzas = vec![directory.stanzas[0].clone(); COMPANION_STANZAS_MAX + 1]
            }),
            ("bad-length", |directory| _ = directory.sealed.pop()),
            ("bad-length", |directory| {
                directory.sealed = vec![0; COMPANION_BOX_BYTES_MIN / 2]
            }),
            ("bad-length", |directory| {
                directory.sealed = vec![0; COMPANION_BOX_BYTES_MAX * 2]
            }),
        ];
        for (kind, change) in changes {
            let mut bad = companion();
            change(&mut bad);
            assert_eq!(bad.law().unwrap_err().kind, kind);
        }
    }
}
