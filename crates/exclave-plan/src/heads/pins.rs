//! What counts of a writer that was revoked (FORMAT.md section 8).
//!
//! A revocation pins the last head of each life that the owner accepts. That head counts, and what its chain of
//! predecessors reaches; everything else with this writer's signature is void, however it is numbered and whatever it
//! names. A thief can put heads behind the pin, beside it or into other lives: none of them is reached.

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{KeyId, Pin, RecordHash};

use super::HeadFact;

/// Heads of a revoked writer: those that count, and pins whose head no site shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The heads that count.
    pub counted: BTreeSet<RecordHash>,
    /// Pins that hold nothing: the head is lost, or hidden.
    pub missing: Vec<Pin>,
}

/// Follows a revoked writer's pins through the heads that sites show.
pub fn pinned<'a>(writer: KeyId, pins: &[Pin], heads: impl IntoIterator<Item = &'a HeadFact>) -> Pinned {
    let own: BTreeMap<RecordHash, &HeadFact> = heads
        .into_iter()
        .filter(|head| head.writer == writer)
        .map(|head| (head.hash, head))
        .collect();
    let mut result = Pinned::default();
    for pin in pins {
        let in_place = |head: &&&HeadFact| (head.incarnation, head.seq) == (pin.incarnation, pin.seq);
        let Some(mut head) = own.get(&pin.head).filter(in_place).copied() else {
            result.missing.push(*pin);
            continue;
        };
        while result.counted.insert(head.hash) {
            let before = head.previous.and_then(|hash| own.get(&hash).copied());
            let Some(before) = before.filter(|before| before.incarnation == pin.incarnation && before.seq < head.seq)
            else {
                break;
            };
            head = before;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use exclave_model::{DatasetId, Incarnation};

    use super::*;

    const WRITER: KeyId = KeyId::from_bytes([1; 32]);

    fn hash(number: u8) -> RecordHash {
        RecordHash::from_bytes([number; 32])
    }

    fn head(number: u8, life: u8, seq: u64, previous: Option<u8>) -> HeadFact {
        HeadFact {
            hash: hash(number),
            writer: WRITER,
            incarnation: Incarnation::from_bytes([life; 16]),
            seq,
            previous: previous.map(hash),
            tips: Vec::new(),
            dataset: DatasetId::from_bytes([9; 16]),
            sites: BTreeSet::new(),
        }
    }

    fn pin(number: u8, life: u8, seq: u64) -> Pin {
        Pin {
            incarnation: Incarnation::from_bytes([life; 16]),
            seq,
            head: hash(number),
        }
    }

    #[test]
    fn what_the_pin_reaches_counts_and_nothing_else() {
        let heads = [
            head(1, 1, 0, None),
            head(2, 1, 1, Some(1)),
            // The thief's: behind the pin, beside it, far ahead, in another life, and one that claims the pin's place.
            head(3, 1, 2, Some(2)),
            head(4, 1, 1, Some(1)),
            head(5, 1, u64::MAX - 1, Some(2)),
            head(6, 2, 0, None),
        ];
        let found = pinned(WRITER, &[pin(2, 1, 1)], &heads);
        assert_eq!(found.counted, BTreeSet::from([hash(1), hash(2)]));
        assert!(found.missing.is_empty());
        assert!(pinned(WRITER, &[], &heads).counted.is_empty());
        assert!(
            pinned(KeyId::from_bytes([2; 32]), &[pin(2, 1, 1)], &heads)
                .counted
                .is_empty()
        );
    }

    #[test]
    fn a_pin_whose_head_is_missing_or_elsewhere_is_told() {
        let heads = [head(1, 1, 0, None), head(3, 1, 2, Some(2))];
        for (pin, counted) in [
            (pin(2, 1, 1), vec![]),
            (pin(3, 1, 1), vec![]),
            (pin(3, 2, 2), vec![]),
            // A gap below the pin: what lies below it isn't reached.
            (pin(3, 1, 2), vec![hash(3)]),
        ] {
            let found = pinned(WRITER, &[pin], &heads);
            assert_eq!(found.counted, counted.iter().copied().collect());
            assert_eq!(found.missing.is_empty(), !counted.is_empty(), "{pin:?}");
        }
    }

    #[test]
    fn links_that_go_round_end() {
        let heads = [head(1, 1, 1, Some(2)), head(2, 1, 0, Some(1))];
        let found = pinned(WRITER, &[pin(1, 1, 1)], &heads);
        assert_eq!(found.counted, BTreeSet::from([hash(1), hash(2)]));
    }
}
