//! The shards of one stripe on their way to the sites (DESIGN section 6 step 3, THREATS B3 and B7).
//!
//! A shard counts when it was *read back*, never because a site said so. What happens to one shard:
//!
//! ```text
//! put ── stored ──────────> read back a group (or the whole, as the policy says) ── verified ──> counts
//!     ── conflict ────────> read the whole      ── absent ──> put again, same name
//!     ── lost reply ──────> read the whole      ── torn ────> put again: same name where puts overwrite, else next attempt
//!     ── passing failure ─> put again           ── other ───> put again as the next attempt, and alarm
//!     ── lasting failure ─> owed                ── can't be read ──> read again, then owed
//! ```
//!
//! Torn means a strict prefix of our own bytes: a crash in the site or on the way, not an enemy. A read of one group
//! can't tell torn from hostile, so a group that differs is followed by a read of the whole. Nothing that lies at a site
//! is overwritten unless it is our own torn shard.
//!
//! What holds, and is asserted: a stripe is never durable with fewer than a verified shards, never provisional with fewer
//! than k (I1); a shard's name is never put again with other bytes (I4: an attempt has its own name); puts and reads per
//! shard are bounded (I10). The stripe settles when every shard has counted or is owed; a caller that doesn't want to
//! wait for a slow site ends it with a lasting failure.

use exclave_model::ReadBack;

use crate::{quorum::Quorums, retry::FailureClass};

/// Most puts of one shard, and most reads, as THREATS D bounds every operation.
const TRIES_MAX: u8 = crate::retry::ATTEMPTS_MAX;

/// What a put does at a site when the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PutMode {
    /// It is refused: the site was probed and keeps what it has.
    CreateOnly,
    /// It replaces what is there.
    Overwrites,
}

/// What happened to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The put succeeded, says the site.
    Stored {
        /// The shard.
        index: u8,
    },
    /// The put was refused because the name is taken. It is not believed unread.
    Conflict {
        /// The shard.
        index: u8,
    },
    /// The put or the read failed.
    Failed {
        /// The shard.
        index: u8,
        /// How.
        class: FailureClass,
    },
    /// What was read is ours: the length and the group that was asked for, or the whole.
    Verified {
        /// The shard.
        index: u8,
    },
    /// There is no such object.
    Absent {
        /// The shard.
        index: u8,
    },
    /// What was read is shorter than our bytes, and as far as it goes the same.
    Torn {
        /// The shard.
        index: u8,
    },
    /// Other bytes were read.
    Other {
        /// The shard.
        index: u8,
    },
}

impl Event {
    /// The shard it is about.
    pub fn index(self) -> u8 {
        match self {
            Self::Stored { index }
            | Self::Conflict { index }
            | Self::Failed { index, .. }
            | Self::Verified { index }
            | Self::Absent { index }
            | Self::Torn { index }
            | Self::Other { index } => index,
        }
    }
}

/// What to do next. For each shard at most one action is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Put the shard. After a failure the caller waits first (`Backoff`).
    Put {
        /// The shard.
        index: u8,
        /// 0, or the number that ends its name.
        attempt: u32,
    },
    /// Read the shard back.
    ReadBack {
        /// The shard.
        index: u8,
        /// Which of its names.
        attempt: u32,
        /// How much of it.
        extent: ReadBack,
    },
    /// Every shard has counted or is owed. Comes once, last.
    Settled(StripeState),
}

/// How safe a stripe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StripeState {
    /// At least a shards are verified.
    Durable {
        /// How many.
        verified: u8,
    },
    /// At least k.
    Provisional {
        /// How many.
        verified: u8,
    },
    /// Fewer than k: no head may name the stripe.
    Failed {
        /// How many.
        verified: u8,
    },
}

impl StripeState {
    /// The state of a stripe with a number of verified shards.
    pub fn of(quorums: &Quorums, verified: u8) -> Self {
        if verified >= quorums.shards_at_commit() {
            Self::Durable { verified }
        } else if verified >= quorums.data() {
            Self::Provisional { verified }
        } else {
            Self::Failed { verified }
        }
    }

    /// Verified shards.
    pub fn verified(self) -> u8 {
        match self {
            Self::Durable { verified } | Self::Provisional { verified } | Self::Failed { verified } => verified,
        }
    }
}

/// Something that a report must name. The commit goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// Bytes that are not ours lie under our name: the site is broken or hostile. Alarm.
    OtherBytes {
        /// The shard.
        index: u8,
        /// Which of its names.
        attempt: u32,
    },
    /// A put arrived in part.
    Torn {
        /// The shard.
        index: u8,
        /// Which of its names.
        attempt: u32,
    },
}

/// An event that nothing was under way for: the caller's bug, or a reply that came twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} does not answer what is under way for that shard")]
pub struct Unexpected {
    /// The event.
    pub event: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Putting,
    Reading(ReadBack),
    Verified,
    Owed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shard {
    mode: PutMode,
    stage: Stage,
    attempt: u32,
    puts: u8,
    reads: u8,
    findings: Vec<Finding>,
}

/// The machine of one stripe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StripeCommit {
    quorums: Quorums,
    read_back: ReadBack,
    tries_max: u8,
    shards: Vec<Shard>,
}

impl StripeCommit {
    /// A fresh stripe, or one whose shards have been lost. `modes` says for each shard what its site does with a name that
    /// is taken; `verified` are shards that count already, by a journalled receipt or an audit. Returns the first actions.
    ///
    /// # Panics
    ///
    /// When there are not exactly n modes: our own bug.
    pub fn new(quorums: Quorums, read_back: ReadBack, modes: &[PutMode], verified: &[u8]) -> (Self, Vec<Action>) {
        assert_eq!(
            modes.len(),
            usize::from(quorums.sites()),
            "one mode for each site of the layout"
        );
        let shards = (0..).zip(modes).map(|(index, &mode)| {
            let stage = if verified.contains(&index) {
                Stage::Verified
            } else {
                Stage::Putting
            };
            Shard {
                mode,
                stage,
                attempt: 0,
                puts: u8::from(stage == Stage::Putting),
                reads: 0,
                findings: Vec::new(),
            }
        });
        let machine = Self {
            quorums,
            read_back,
            tries_max: TRIES_MAX,
            shards: shards.collect(),
        };
        let mut actions: Vec<Action> = machine
            .debt()
            .into_iter()
            .map(|index| Action::Put { index, attempt: 0 })
            .collect();
        actions.extend(machine.settled().map(Action::Settled));
        (machine, actions)
    }

    /// Takes note of an event. Returns what to do next for that shard, and `Settled` after the last one. An unexpected
    /// event changes nothing.
    pub fn handle(&mut self, event: Event) -> Result<Vec<Action>, Unexpected> {
        let (index, read_back, tries_max) = (event.index(), self.read_back, self.tries_max);
        let unexpected = Unexpected { event };
        let shard = self.shards.get_mut(usize::from(index)).ok_or(unexpected)?;
        let next = match (shard.stage, event) {
            (Stage::Putting, Event::Stored { .. }) => shard.read(read_back, tries_max),
            (Stage::Putting, Event::Conflict { .. }) => shard.read(ReadBack::Full, tries_max),
            (Stage::Putting, Event::Failed { class, .. }) => match class {
                FailureClass::LostReply => shard.read(ReadBack::Full, tries_max),
                FailureClass::Passing | FailureClass::Throttled => shard.put(tries_max),
                FailureClass::Lasting => Stage::Owed,
            },
            (Stage::Reading(_), Event::Verified { .. }) => Stage::Verified,
            (Stage::Reading(_), Event::Absent { .. }) => shard.put(tries_max),
            (Stage::Reading(ReadBack::Group), Event::Torn { .. } | Event::Other { .. }) => {
                shard.read(ReadBack::Full, tries_max)
            }
            (Stage::Reading(ReadBack::Full), Event::Torn { .. }) => {
                shard.findings.push(Finding::Torn {
                    index,
                    attempt: shard.attempt,
                });
                match shard.mode {
                    PutMode::Overwrites => shard.put(tries_max),
                    PutMode::CreateOnly => shard.put_as_next_attempt(tries_max),
                }
            }
            (Stage::Reading(ReadBack::Full), Event::Other { .. }) => {
                shard.findings.push(Finding::OtherBytes {
                    index,
                    attempt: shard.attempt,
                });
                shard.put_as_next_attempt(tries_max)
            }
            (Stage::Reading(extent), Event::Failed { class, .. }) => match class.is_retryable() {
                true => shard.read(extent, tries_max),
                false => Stage::Owed,
            },
            (
                Stage::Putting,
                Event::Verified { .. } | Event::Absent { .. } | Event::Torn { .. } | Event::Other { .. },
            )
            | (Stage::Reading(_), Event::Stored { .. } | Event::Conflict { .. })
            | (Stage::Verified | Stage::Owed, _) => return Err(unexpected),
        };
        shard.stage = next;
        let attempt = shard.attempt;
        Ok(match next {
            Stage::Putting => vec![Action::Put { index, attempt }],
            Stage::Reading(extent) => vec![Action::ReadBack { index, attempt, extent }],
            Stage::Verified | Stage::Owed => self.settled().map(Action::Settled).into_iter().collect(),
        })
    }

    /// Shards that count so far.
    pub fn verified(&self) -> u8 {
        let verified = self
            .shards
            .iter()
            .filter(|shard| shard.stage == Stage::Verified)
            .count();
        // At most n, which is a u8.
        verified as u8
    }

    /// How safe the stripe is so far; it only gets better.
    pub fn standing(&self) -> StripeState {
        StripeState::of(&self.quorums, self.verified())
    }

    /// How safe the stripe has ended up; `None` while something is under way.
    pub fn settled(&self) -> Option<StripeState> {
        let under_way = |shard: &Shard| matches!(shard.stage, Stage::Putting | Stage::Reading(_));
        (!self.shards.iter().any(under_way)).then(|| self.standing())
    }

    /// The indices that don't count (yet): once settled, what the next run owes.
    pub fn debt(&self) -> Vec<u8> {
        let missing = (0..)
            .zip(&self.shards)
            .filter(|(_, shard)| shard.stage != Stage::Verified);
        missing.map(|(index, _)| index).collect()
    }

    /// Under which attempt a shard counts, for its name; `None` when it doesn't.
    pub fn attempt_of(&self, index: u8) -> Option<u32> {
        let shard = self.shards.get(usize::from(index))?;
        (shard.stage == Stage::Verified).then_some(shard.attempt)
    }

    /// What a report must name, by shard.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        self.shards.iter().flat_map(|shard| shard.findings.iter().copied())
    }
}

impl Shard {
    fn put(&mut self, tries_max: u8) -> Stage {
        if self.puts >= tries_max {
            return Stage::Owed;
        }
        self.puts += 1;
        Stage::Putting
    }

    fn put_as_next_attempt(&mut self, tries_max: u8) -> Stage {
        let next = self.put(tries_max);
        if next == Stage::Putting {
            self.attempt += 1;
        }
        next
    }

    fn read(&mut self, extent: ReadBack, tries_max: u8) -> Stage {
        if self.reads >= tries_max {
            return Stage::Owed;
        }
        self.reads += 1;
        Stage::Reading(extent)
    }
}

#[cfg(test)]
mod tests;
