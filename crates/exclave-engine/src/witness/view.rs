//! What witnesses say of the logs that the sites show, and whether that makes a snapshot as fresh as can be (FORMAT.md section 22).
//!
//! A log's state counts as cosigned when the charter's quorum vouches for one checkpoint of it. A head is F1 when its log holds it in
//! such a state, the quorum's word is young enough, all that the log holds beyond is shown, and enough sites answered.
//! What a reader brings along, or a witness says when asked, may speak of a larger tree than the sites show: then they were set back, all
//! of them, and that is no grade but an alarm.
//!
//! **What this doesn't prove.** Logs belong to a key and a life of its holder. Sites that hide a whole life, its log and its heads, from
//! someone who never saw it are not found out by what witnesses say of another one.

use std::collections::BTreeMap;

use exclave_log::{EntryKind, LogId, SignedCheckpoint, TreeHash, tree::root_of};
use exclave_model::{RecordHash, Witnesses, charter::Vouchers};

use super::cosign::{CLOCK_AHEAD_S_MAX, vouching, word};
use crate::{
    archive::Archive,
    log::{Evidence, LogFinding, LogView, Logs, growth, is_signed, read::owner},
};

/// What witnesses say of one log.
#[derive(Debug, Clone)]
struct Seen {
    /// The heads in it, by number.
    heads: BTreeMap<RecordHash, u64>,
    /// True when all that it holds is shown, and nobody forked it.
    is_whole: bool,
    /// The states for which a quorum vouches: size, time, who.
    cosigned: Vec<(u64, i64, Vouchers)>,
    /// The most that vouch for any state, when these are no quorum.
    most: Vouchers,
}

/// What witnesses say of all logs.
#[derive(Debug, Clone)]
pub struct Watched {
    logs: BTreeMap<LogId, Seen>,
    policy: Option<Witnesses>,
    now: Option<i64>,
    /// States that were cosigned, or that the reader brought along, and that the sites don't show.
    pub set_back: Vec<SetBack>,
}

/// The sites show less of a log than there was, or something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBack {
    /// What there was.
    pub checkpoint: SignedCheckpoint,
    /// Leaves of the largest tree that the sites show with its entries.
    pub shown: u64,
    /// True when they show another history, not a part of this one.
    pub is_other: bool,
    /// That a key signed both, where the entries that are shown suffice to prove it.
    pub evidence: Option<Box<Evidence>>,
}

impl SetBack {
    fn of(archive: &Archive, log: Option<&LogView>, checkpoint: SignedCheckpoint) -> Self {
        let size = checkpoint.checkpoint.size;
        let shown = log.and_then(|log| log.proven).map_or(0, |(size, _)| size);
        let is_other = size <= shown;
        let evidence = || {
            let log = log.filter(|_| is_other)?;
            is_ours(archive, &checkpoint).then_some(())?;
            let entries = log.entries.get(..usize::try_from(size).ok()?)?;
            let prefix = root_of(entries.iter().map(|entry| TreeHash::of_leaf(entry)));
            let proof = growth(&log.entries, size)?;
            Some(Evidence::fork(&checkpoint, log.proven_note()?, prefix, &proof))
        };
        let evidence = evidence().map(Box::new);
        Self {
            checkpoint,
            shown,
            is_other,
            evidence,
        }
    }
}

/// True for a checkpoint of this archive, signed by the key of its log with both halves.
pub fn is_ours(archive: &Archive, checkpoint: &SignedCheckpoint) -> bool {
    let log = LogId::parse(&checkpoint.checkpoint.origin).filter(|log| log.is_of(archive.anchor));
    log.is_some_and(|log| owner(archive, log.key).is_some_and(|(_, key)| is_signed(checkpoint, log, key)))
}

impl std::fmt::Display for SetBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let found = &self.checkpoint.checkpoint;
        match self.is_other {
            true => write!(
                f,
                "the sites show another history of log {} than was signed for {} entries",
                found.origin, found.size
            ),
            false => write!(
                f,
                "log {} has {} entries, and the sites show {}: they were all set back, or hide what is newer",
                found.origin, found.size, self.shown
            ),
        }
    }
}

/// What witnesses say of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The charter names no witnesses, or they weren't looked at.
    Unwatched,
    /// No log that is shown holds it.
    NotLogged,
    /// A log is forked, or holds what the sites don't show.
    Disturbed,
    /// Fewer vouch for it than must.
    NoQuorum {
        /// How many that count do.
        counting: u32,
        /// Of how many nations.
        nations: u32,
    },
    /// A quorum vouched for it, at that time, which is too long ago: Unix seconds.
    Old {
        /// When.
        at: i64,
    },
    /// A quorum vouched for it, and this machine's clock can't be held against that: it is in doubt, or behind theirs.
    Clock {
        /// When.
        at: i64,
    },
    /// A quorum vouches for it.
    Vouched {
        /// How many that count.
        counting: u32,
        /// Of how many nations.
        nations: u32,
        /// Since when, at the latest: Unix seconds.
        at: i64,
    },
}

impl Watched {
    /// Holds the logs against what the newest charter asks of witnesses, and against what was `brought` along: checkpoints from elsewhere
    /// that are the archive's ([`is_ours`]). `now` is Unix seconds, nothing when this machine's clock is in doubt.
    pub fn of(archive: &Archive, logs: &Logs, brought: &[SignedCheckpoint], now: Option<i64>) -> Self {
        let mut watched = Self {
            logs: BTreeMap::new(),
            policy: archive.charter().witnesses.clone(),
            now,
            set_back: set_back(archive, logs, brought),
        };
        for log in &logs.logs {
            let seen = watched.seen(archive, log, brought);
            watched.logs.insert(log.id, seen);
        }
        watched
    }

    fn seen(&mut self, archive: &Archive, log: &LogView, brought: &[SignedCheckpoint]) -> Seen {
        let entries: Vec<(u64, RecordHash)> = log
            .read_entries()
            .filter(|(_, entry)| entry.kind == EntryKind::Head)
            .map(|(index, entry)| (index, entry.hash))
            .collect();
        let proven = log.proven.map_or(0, |(size, _)| size);
        let leaves: Vec<TreeHash> = log.entries.iter().map(|entry| TreeHash::of_leaf(entry)).collect();
        // One state may lie there under several names, each with other cosignatures: they are counted together.
        let mut states: BTreeMap<(u64, TreeHash), Vec<&SignedCheckpoint>> = BTreeMap::new();
        let shown = log.checkpoints.values().flat_map(|seen| &seen.notes);
        let origin = log.id.origin();
        for note in shown.chain(brought.iter().filter(|note| note.checkpoint.origin == origin)) {
            let found = &note.checkpoint;
            states.entry((found.size, found.root)).or_default().push(note);
        }
        let (mut cosigned, mut most) = (Vec::new(), Vouchers::default());
        for ((size, root), notes) in states {
            let Some(mut joined) = notes.first().map(|note| (*note).clone()) else {
                continue;
            };
            joined.note.signatures = notes.iter().flat_map(|note| note.note.signatures.clone()).collect();
            let Some(policy) = &self.policy else { continue };
            let word = word(policy, &vouching(&joined, &policy.witnesses));
            let prefix = usize::try_from(size).ok().and_then(|size| leaves.get(..size));
            let is_shown = size <= proven && prefix.is_some_and(|prefix| root_of(prefix.iter().copied()) == root);
            match (word.quorum_at, is_shown) {
                (Some(at), true) => cosigned.push((size, at, word.ever)),
                (None, true) if word.ever.counting > most.counting => most = word.ever,
                (None, _) => {}
                // A quorum for what the sites don't prove is an alarm, whoever brought it.
                (Some(_), false) => {
                    if !self
                        .set_back
                        .iter()
                        .any(|known| known.checkpoint.checkpoint == joined.checkpoint)
                    {
                        self.set_back.push(SetBack::of(archive, Some(log), joined));
                    }
                }
            }
        }
        Seen {
            heads: entries.into_iter().map(|(index, hash)| (hash, index)).collect(),
            is_whole: log.findings.iter().all(|finding| !hides(finding)),
            cosigned,
            most,
        }
    }

    /// What witnesses say of a head.
    pub fn standing(&self, log: &LogId, head: RecordHash) -> Standing {
        let Some(policy) = &self.policy else {
            return Standing::Unwatched;
        };
        let Some((seen, index)) = self
            .logs
            .get(log)
            .and_then(|seen| Some((seen, *seen.heads.get(&head)?)))
        else {
            return Standing::NotLogged;
        };
        if !self.set_back.is_empty() || !self.logs.values().all(|seen| seen.is_whole) {
            return Standing::Disturbed;
        }
        let holding = seen.cosigned.iter().filter(|(size, ..)| *size > index);
        let Some((_, at, vouchers)) = holding.max_by_key(|(_, at, _)| *at) else {
            return Standing::NoQuorum {
                counting: seen.most.counting,
                nations: seen.most.nations,
            };
        };
        match self.now.map(|now| now.saturating_sub(*at)) {
            None => Standing::Clock { at: *at },
            Some(ahead) if ahead < -CLOCK_AHEAD_S_MAX => Standing::Clock { at: *at },
            Some(age) if age > i64::from(policy.age_max_s) => Standing::Old { at: *at },
            Some(_) => Standing::Vouched {
                counting: vouchers.counting,
                nations: vouchers.nations,
                at: *at,
            },
        }
    }
}

/// What was brought along and isn't part of what the sites show.
fn set_back(archive: &Archive, logs: &Logs, brought: &[SignedCheckpoint]) -> Vec<SetBack> {
    let mut found: Vec<SetBack> = Vec::new();
    for checkpoint in brought {
        let (size, root) = (checkpoint.checkpoint.size, checkpoint.checkpoint.root);
        let log = logs
            .logs
            .iter()
            .find(|log| log.id.origin() == checkpoint.checkpoint.origin);
        let same = log.is_some_and(|log| {
            let prefix = usize::try_from(size).ok().and_then(|size| log.entries.get(..size));
            prefix.is_some_and(|prefix| root_of(prefix.iter().map(|entry| TreeHash::of_leaf(entry))) == root)
        });
        if !same
            && !found
                .iter()
                .any(|known| known.checkpoint.checkpoint == checkpoint.checkpoint)
        {
            found.push(SetBack::of(archive, log, checkpoint.clone()));
        }
    }
    found
}

/// True for what must not be where nothing is hidden. A head that was committed a moment ago isn't logged yet, and a site may have been away.
fn hides(finding: &LogFinding) -> bool {
    match finding {
        LogFinding::Fork { .. }
        | LogFinding::Unproven { .. }
        | LogFinding::OtherHead { .. }
        | LogFinding::HiddenHead { .. } => true,
        LogFinding::Behind { .. } | LogFinding::NotLogged { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap as Map, BTreeSet};

    use exclave_log::{Checkpoint, LogEntry};
    use exclave_model::{Charter, Record as _};
    use exclave_seal::SeededEntropy;

    use super::*;
    use crate::{
        log::SeenCheckpoint,
        testing::{ROOT, WRITER, World, signing_key},
        witness::{
            cosign::cosign,
            testing::{ForgedLog, cosigning_key, policy},
        },
    };

    const NOW: i64 = 1_790_000_000;

    /// An archive whose charter names witnesses, and a log of heads 0, 1, 2 ..
    struct Shown {
        archive: Archive,
        log: ForgedLog,
        entries: Vec<Vec<u8>>,
    }

    fn head(number: u8) -> RecordHash {
        RecordHash::from_bytes([number; 32])
    }

    impl Shown {
        fn new() -> Self {
            let mut world = World::new(2, 1, 1);
            let proposal = world.propose(&[&signing_key(ROOT)], |charter: &mut Charter| {
                charter.witnesses = Some(policy());
            });
            let mut archive = world.archive.clone();
            archive
                .charters
                .push(proposal.next, proposal.object.record_hash())
                .unwrap();
            let log = ForgedLog::new(archive.anchor, signing_key(WRITER), 1);
            Self {
                archive,
                log,
                entries: Vec::new(),
            }
        }

        fn grow(&mut self, heads: impl IntoIterator<Item = u8>) {
            for number in heads {
                self.entries
                    .push(LogEntry::new(EntryKind::Head, head(number)).to_bytes().unwrap());
            }
        }

        fn checkpoint(&self, size: usize) -> SignedCheckpoint {
            let root = root_of(self.entries[..size].iter().map(|entry| TreeHash::of_leaf(entry)));
            self.log.sign(Checkpoint::new(self.log.id.origin(), size as u64, root))
        }

        fn cosigned(&self, size: usize, by: &[(u8, i64)]) -> SignedCheckpoint {
            let mut checkpoint = self.checkpoint(size);
            for (number, at) in by {
                let lines = cosign(&checkpoint, &cosigning_key(*number), *at, &mut SeededEntropy::new(3)).unwrap();
                checkpoint.note.signatures.extend(lines);
            }
            checkpoint
        }

        /// The log as sites show it up to a size, with these checkpoints.
        fn logs(&self, size: usize, notes: &[SignedCheckpoint]) -> Logs {
            let own = self.checkpoint(size);
            let mut checkpoints: Map<(u64, TreeHash), SeenCheckpoint> = Map::new();
            for note in notes.iter().chain([&own]) {
                let state = (note.checkpoint.size, note.checkpoint.root);
                let seen = checkpoints.entry(state).or_insert_with(|| SeenCheckpoint {
                    notes: Vec::new(),
                    sites: BTreeSet::new(),
                });
                seen.notes.push(note.clone());
            }
            let mut logs = Logs::default();
            logs.logs.push(LogView {
                id: self.log.id,
                role: exclave_model::Role::Writer,
                checkpoints,
                proven: Some((size as u64, own.checkpoint.root)),
                entries: self.entries[..size].to_vec(),
                findings: Vec::new(),
            });
            logs
        }

        fn standing(&self, logs: &Logs, brought: &[SignedCheckpoint], number: u8) -> Standing {
            Watched::of(&self.archive, logs, brought, Some(NOW)).standing(&self.log.id, head(number))
        }
    }

    #[test]
    fn a_quorum_makes_a_head_as_fresh_as_can_be_and_less_does_not() {
        let mut shown = Shown::new();
        shown.grow(0..4);
        let vouched = |at| Standing::Vouched {
            counting: 2,
            nations: 2,
            at,
        };
        let both = shown.cosigned(4, &[(1, NOW - 60), (2, NOW - 3600)]);
        assert_eq!(shown.standing(&shown.logs(4, &[both]), &[], 3), vouched(NOW - 3600));
        // Each under a name of its own, or brought along: it is one state.
        let [one, two] = [(1, NOW - 60), (2, NOW)].map(|by| shown.cosigned(4, &[by]));
        assert_eq!(
            shown.standing(&shown.logs(4, &[one.clone(), two.clone()]), &[], 3),
            vouched(NOW - 60)
        );
        assert_eq!(
            shown.standing(&shown.logs(4, std::slice::from_ref(&one)), &[two], 3),
            vouched(NOW - 60)
        );
        let none = |counting, nations| Standing::NoQuorum { counting, nations };
        assert_eq!(shown.standing(&shown.logs(4, &[one]), &[], 3), none(1, 1));
        // Of the owner's nation; by nobody; one half of a cosignature.
        let home = shown.cosigned(4, &[(1, NOW), (3, NOW)]);
        assert_eq!(shown.standing(&shown.logs(4, &[home]), &[], 3), none(1, 1));
        assert_eq!(shown.standing(&shown.logs(4, &[]), &[], 3), none(0, 0));
        let mut half = shown.cosigned(4, &[(1, NOW), (2, NOW)]);
        half.note.signatures.pop();
        assert_eq!(shown.standing(&shown.logs(4, &[half]), &[], 3), none(1, 1));
        // An older state holds older heads alone.
        let older = shown.cosigned(3, &[(1, NOW), (2, NOW)]);
        assert_eq!(
            shown.standing(&shown.logs(4, std::slice::from_ref(&older)), &[], 2),
            vouched(NOW)
        );
        assert_eq!(shown.standing(&shown.logs(4, &[older]), &[], 3), none(0, 0));
        assert_eq!(shown.standing(&shown.logs(4, &[]), &[], 9), Standing::NotLogged);
    }

    #[test]
    fn ages_are_judged_by_a_clock_that_is_in_no_doubt() {
        let mut shown = Shown::new();
        shown.grow(0..1);
        let at = |at: i64| shown.logs(1, &[shown.cosigned(1, &[(1, at), (2, at)])]);
        let hours = |hours: i64| NOW - hours * 3600;
        assert!(matches!(
            shown.standing(&at(hours(72)), &[], 0),
            Standing::Vouched { .. }
        ));
        assert_eq!(
            shown.standing(&at(hours(72) - 1), &[], 0),
            Standing::Old { at: hours(72) - 1 }
        );
        assert_eq!(
            shown.standing(&at(hours(30 * 24)), &[], 0),
            Standing::Old { at: hours(30 * 24) }
        );
        assert!(matches!(
            shown.standing(&at(NOW + 300), &[], 0),
            Standing::Vouched { .. }
        ));
        assert_eq!(
            shown.standing(&at(NOW + 301), &[], 0),
            Standing::Clock { at: NOW + 301 }
        );
        let doubted = Watched::of(&shown.archive, &at(NOW), &[], None);
        assert_eq!(doubted.standing(&shown.log.id, head(0)), Standing::Clock { at: NOW });
    }

    #[test]
    fn sites_that_were_set_back_together_are_found_out() {
        let mut shown = Shown::new();
        shown.grow(0..4);
        let newest = shown.cosigned(4, &[(1, NOW), (2, NOW)]);
        let older = shown.cosigned(2, &[(1, NOW), (2, NOW)]);
        // Whoever brings what was cosigned along sees that they show less; an older state is no contradiction.
        let logs = shown.logs(2, std::slice::from_ref(&older));
        assert!(
            Watched::of(&shown.archive, &logs, &[older], Some(NOW))
                .set_back
                .is_empty()
        );
        let watched = Watched::of(&shown.archive, &logs, std::slice::from_ref(&newest), Some(NOW));
        let [found] = watched.set_back.as_slice() else {
            panic!("{:?}", watched.set_back);
        };
        assert_eq!((found.shown, found.is_other, &found.evidence), (2, false, &None));
        assert_eq!(watched.standing(&shown.log.id, head(1)), Standing::Disturbed);
        // They hide the log altogether.
        let nothing = Watched::of(
            &shown.archive,
            &Logs::default(),
            std::slice::from_ref(&newest),
            Some(NOW),
        );
        assert_eq!(nothing.set_back[0].shown, 0);
        // A checkpoint that nobody signed is none.
        let mut forged = newest.clone();
        forged.note.signatures[0].bytes[9] ^= 1;
        assert!(is_ours(&shown.archive, &newest) && !is_ours(&shown.archive, &forged));
        // One of the sites keeps the cosigned checkpoint and hides the entries.
        let watched = Watched::of(&shown.archive, &shown.logs(2, &[newest]), &[], Some(NOW));
        assert_eq!(watched.set_back.len(), 1);
        // Another history convicts the log's key, offline.
        let mut other = Shown::new();
        other.grow([0, 1, 7, 8, 9]);
        let logs = other.logs(5, &[]);
        let three = shown.cosigned(3, &[(1, NOW), (2, NOW)]);
        let watched = Watched::of(&other.archive, &logs, &[three], Some(NOW));
        let found = &watched.set_back[0];
        assert!(found.is_other);
        let evidence = found.evidence.as_ref().unwrap();
        assert_eq!(evidence.check(signing_key(WRITER).public()).unwrap(), other.log.id);
    }

    #[test]
    fn what_is_hidden_or_forked_is_never_as_fresh_as_can_be() {
        let mut shown = Shown::new();
        shown.grow(0..3);
        let both = shown.cosigned(3, &[(1, NOW), (2, NOW)]);
        let findings = [
            (
                LogFinding::HiddenHead {
                    head: head(2),
                    index: 2,
                },
                true,
            ),
            (LogFinding::Unproven { size: 4 }, true),
            (LogFinding::OtherHead { head: head(2), seq: 2 }, true),
            (LogFinding::NotLogged { head: head(9), seq: 3 }, false),
            (
                LogFinding::Behind {
                    site: "s0".to_owned(),
                    shown: 1,
                    newest: 3,
                },
                false,
            ),
        ];
        for (finding, disturbs) in findings {
            let mut logs = shown.logs(3, std::slice::from_ref(&both));
            logs.logs[0].findings.push(finding.clone());
            let standing = shown.standing(&logs, &[], 1);
            assert_eq!(standing == Standing::Disturbed, disturbs, "{finding}");
        }
    }
}
