//! Who watches the logs, and how many of them must have seen a checkpoint (FORMAT.md sections 8 and 22).
//!
//! A witness is an ally that cosigns checkpoints as C2SP's tlog-cosignature says: with Ed25519, which the whole C2SP world
//! verifies, and with ML-DSA-44. One that has both keys counts when both cosignatures hold. One that has an Ed25519 key alone may stand
//! in the list; it is told apart and fills no quorum, since whoever breaks that scheme later could sign what he likes for
//! then. One of the owner's own nation fills none either, unless the charter says so: who can coerce the owner can coerce it.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use super::numbered::numbered;
use crate::{id::KeyId, wire::Rule};

/// Bytes of an Ed25519 public key (RFC 8032).
pub const ED25519_KEY_BYTES: usize = 32;
/// Bytes of an ML-DSA-44 public key (FIPS 204, table 2).
pub const ML_DSA_44_KEY_BYTES: usize = 1312;
/// Longest name of a witness: what a cosigned message of tlog-cosignature has room for.
pub const WITNESS_NAME_BYTES_MAX: usize = 255;
/// Most witnesses of a charter: a checkpoint with all their cosignatures stays below 256 KiB.
pub const WITNESSES_MAX: usize = 32;
/// Shortest age of a checkpoint that a charter may call too old: an hour.
pub const AGE_MAX_S_LEAST: u32 = 3600;
/// Longest: a leap year.
pub const AGE_MAX_S_MOST: u32 = 366 * 86_400;

/// An ML-DSA-44 public key, not yet looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct MlDsa44Key(Box<[u8; ML_DSA_44_KEY_BYTES]>);

impl MlDsa44Key {
    /// Takes a key's bytes.
    pub fn from_bytes(bytes: [u8; ML_DSA_44_KEY_BYTES]) -> Self {
        Self(Box::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; ML_DSA_44_KEY_BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for MlDsa44Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MlDsa44Key({})", crate::id::hex(&self.0[..8]))
    }
}

crate::wire::boxed_bytes!(MlDsa44Key, ML_DSA_44_KEY_BYTES);

/// Whether witnesses of the owner's nation fill the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeCounts {
    /// They count nothing.
    No,
    /// They count as all others do.
    Yes,
}

numbered!(HomeCounts { No = 0: "no", Yes = 1: "yes" });

/// Who cosigns checkpoints, and when that is enough.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Witnesses {
    /// How many must have cosigned.
    #[n(0)]
    pub quorum: u32,
    /// In how many nations.
    #[n(1)]
    pub nations: u32,
    /// The owner's nation.
    #[n(2)]
    pub home: String,
    /// Whether its witnesses count.
    #[n(3)]
    pub home_counts: HomeCounts,
    /// After how many seconds a cosignature proves nothing about now.
    #[n(4)]
    pub age_max_s: u32,
    /// Who they are.
    #[n(5)]
    pub witnesses: Vec<Witness>,
}

/// One that cosigns.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Witness {
    /// Its name in signed notes.
    #[n(0)]
    pub name: String,
    /// Under whose law it is: ISO 3166-1, two capital letters.
    #[n(1)]
    pub nation: String,
    /// What it cosigns with, for everyone.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub ed25519: [u8; ED25519_KEY_BYTES],
    /// And against quantum computers; absent with witnesses that have no such key.
    #[n(3)]
    pub ml_dsa: Option<MlDsa44Key>,
}

impl Witness {
    /// The id of its key: BLAKE3 of both halves, or of the one that there is.
    pub fn id(&self) -> KeyId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.ed25519);
        if let Some(key) = &self.ml_dsa {
            hasher.update(&key.as_bytes()[..]);
        }
        KeyId::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// How many witnesses vouch for something, counted as a charter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vouchers {
    /// Those that count.
    pub counting: u32,
    /// Their nations.
    pub nations: u32,
    /// Those with an Ed25519 key alone.
    pub classical: u32,
    /// Those of the owner's own nation, where these don't count.
    pub home: u32,
}

impl Witnesses {
    /// True when the witness can fill the quorum.
    pub fn counts(&self, witness: &Witness) -> bool {
        witness.ml_dsa.is_some() && !self.is_left_out(witness)
    }

    fn is_left_out(&self, witness: &Witness) -> bool {
        self.home_counts == HomeCounts::No && witness.nation == self.home
    }

    /// How much some of the witnesses are, each given once.
    pub fn weigh<'a>(&self, some: impl IntoIterator<Item = &'a Witness>) -> Vouchers {
        let mut vouchers = Vouchers::default();
        let mut nations = BTreeSet::new();
        for witness in some {
            match (self.is_left_out(witness), &witness.ml_dsa) {
                (true, _) => vouchers.home += 1,
                (false, None) => vouchers.classical += 1,
                (false, Some(_)) => {
                    vouchers.counting += 1;
                    nations.insert(witness.nation.as_str());
                }
            }
        }
        vouchers.nations = u32::try_from(nations.len()).unwrap_or(u32::MAX);
        vouchers
    }

    /// True when they are enough.
    pub fn is_quorum(&self, vouchers: Vouchers) -> bool {
        vouchers.counting >= self.quorum && vouchers.nations >= self.nations
    }

    pub(super) fn law(&self) -> Result<(), Rule> {
        let broken = |text: String| Err(Rule::new("bad-record", text));
        if self.witnesses.is_empty() {
            return broken("a list of the charter is empty".to_owned());
        }
        if self.witnesses.len() > WITNESSES_MAX {
            return Err(Rule::new("too-long", "a charter has more than 32 witnesses"));
        }
        for nation in self.witnesses.iter().map(|witness| &witness.nation).chain([&self.home]) {
            if !is_nation(nation) {
                return broken("a nation is not two capital letters".to_owned());
            }
        }
        if !self.witnesses.iter().all(|witness| is_note_name(&witness.name)) {
            return broken(
                "a witness's name is not 1 to 255 printable ASCII characters without space and +".to_owned(),
            );
        }
        let names: BTreeSet<_> = self.witnesses.iter().map(|witness| &witness.name).collect();
        if names.len() != self.witnesses.len() {
            return broken("two of the witnesses are the same".to_owned());
        }
        if !(AGE_MAX_S_LEAST..=AGE_MAX_S_MOST).contains(&self.age_max_s) {
            return broken("the age of a checkpoint is not between an hour and a year".to_owned());
        }
        let all = self.weigh(&self.witnesses);
        if self.quorum == 0 || self.nations == 0 || self.nations > self.quorum || !self.is_quorum(all) {
            return Err(Rule::new(
                "bad-threshold",
                format!(
                    "{} witnesses of {} nations can't be had: {} of {} nations count",
                    self.quorum, self.nations, all.counting, all.nations
                ),
            ));
        }
        Ok(())
    }
}

/// True for a code as ISO 3166-1 has them: one spelling a nation, so that none counts twice.
pub fn is_nation(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// True for the name of a key in a signed note, as far as charters allow one (C2SP signed-note).
pub fn is_note_name(text: &str) -> bool {
    (1..=WITNESS_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        charter::tests::{charter, kind_of},
        wire::Record as _,
    };

    fn witness(name: &str, nation: &str, byte: u8) -> Witness {
        Witness {
            name: name.to_owned(),
            nation: nation.to_owned(),
            ed25519: [byte; ED25519_KEY_BYTES],
            ml_dsa: Some(MlDsa44Key::from_bytes([byte; ML_DSA_44_KEY_BYTES])),
        }
    }

    fn witnesses() -> Witnesses {
        Witnesses {
            quorum: 2,
            nations: 2,
            home: "EE".to_owned(),
            home_counts: HomeCounts::No,
            age_max_s: 72 * 3600,
            witnesses: vec![
                witness("lu.example/w", "LU", 41),
                witness("fi.example/w", "FI", 42),
                witness("ee.example/w", "EE", 43),
                Witness {
                    ml_dsa: None,
                    ..witness("old.example/w", "SE", 44)
                },
            ],
        }
    }

    fn kind(change: impl FnOnce(&mut Witnesses)) -> &'static str {
        kind_of(|charter| {
            let mut some = witnesses();
            change(&mut some);
            charter.witnesses = Some(some);
        })
    }

    #[test]
    fn a_charter_with_witnesses_reads_as_it_was_written() {
        let mut charter = charter();
        charter.witnesses = Some(witnesses());
        let bytes = charter.to_bytes().unwrap();
        assert_eq!(crate::Charter::from_bytes(&bytes).unwrap(), charter);
        let ids: Vec<KeyId> = charter.witnesses().iter().map(Witness::id).collect();
        assert!(ids.iter().all(|id| charter.role_of(*id) == Some(crate::Role::Witness)));
        assert!(charter.permit(ids[0], crate::Act::Cosign).is_ok());
        assert!(charter.permit(ids[0], crate::Act::Commit).is_err());
    }

    #[test]
    fn what_the_law_forbids() {
        type Change = fn(&mut Witnesses);
        let bad: [Change; 13] = [
            |some| some.witnesses.clear(),
            |some| some.home = "ee".to_owned(),
            |some| some.witnesses[0].nation = "LUX".to_owned(),
            |some| some.witnesses[0].name = String::new(),
            |some| some.witnesses[0].name = "a b".to_owned(),
            |some| some.witnesses[0].name = "a+b".to_owned(),
            |some| some.witnesses[0].name = "x".repeat(256),
            |some| some.witnesses[1].name = some.witnesses[0].name.clone(),
            |some| some.age_max_s = 3599,
            |some| some.age_max_s = AGE_MAX_S_MOST + 1,
            |some| some.witnesses[1].ed25519 = some.witnesses[0].ed25519,
            |some| some.witnesses[1].ml_dsa = some.witnesses[0].ml_dsa.clone(),
            // The Ed25519 half of the one writer.
            |some| some.witnesses[1].ed25519 = [3; ED25519_KEY_BYTES],
        ];
        for (number, change) in bad.into_iter().enumerate() {
            assert_eq!(kind(change), "bad-record", "{number}");
        }
        let impossible: [Change; 6] = [
            |some| some.quorum = 0,
            |some| some.nations = 0,
            |some| some.quorum = 3,
            |some| (some.quorum, some.nations) = (1, 2),
            |some| some.witnesses[1].nation = "LU".to_owned(),
            |some| some.witnesses[1].ml_dsa = None,
        ];
        for (number, change) in impossible.into_iter().enumerate() {
            assert_eq!(kind(change), "bad-threshold", "{number}");
        }
        let many = |some: &mut Witnesses| {
            some.witnesses = (0..33)
                .map(|byte| witness(&format!("w{byte}"), "LU", 100 + byte))
                .collect();
        };
        assert_eq!(kind(many), "too-long");
    }

    #[test]
    fn home_and_classical_witnesses_are_told_apart() {
        let mut some = witnesses();
        let all = some.weigh(&some.witnesses);
        assert_eq!(
            all,
            Vouchers {
                counting: 2,
                nations: 2,
                classical: 1,
                home: 1
            }
        );
        assert!(some.is_quorum(all));
        assert!(!some.is_quorum(some.weigh(&some.witnesses[1..])));
        some.home_counts = HomeCounts::Yes;
        assert!(some.is_quorum(some.weigh(&some.witnesses[1..])));
    }
}
