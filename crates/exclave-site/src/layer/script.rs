//! What goes wrong and when: the script that a [`super::faulty::Faulty`] site plays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Class;
use crate::error::Operation;

/// Something that a site does wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The request never arrives: `Unreachable`, nothing done.
    LostBefore,
    /// The request is carried out and its answer lost: `Slow`.
    ReplyLost,
    /// A put stores only the first bytes and breaks: `Unreachable`. Other operations are lost before.
    Torn {
        /// How many bytes are stored.
        bytes: u64,
    },
    /// A put says that it stored the body, and didn't.
    Vanish,
    /// A put stores other bytes of the same length and says that all is well.
    Spoil,
    /// A create-only put overwrites and says `Created`.
    Overwrite,
    /// A put says `AlreadyExists` and stores nothing, whatever is there.
    SayExists,
    /// A read returns the right number of wrong bytes.
    WrongBytes,
    /// Reads and listings don't know yet of the newest `puts` names that were put through this site.
    Stale {
        /// How many.
        puts: usize,
    },
    /// Listings leave out names that hold this text.
    Omit {
        /// The text.
        containing: String,
    },
    /// A delay before the operation, in tokio's time.
    Slow {
        /// How long.
        wait: Duration,
    },
    /// No answer, ever. Only a deadline ends it.
    Hang,
    /// `Denied`.
    Deny,
    /// `Full`.
    Fill,
    /// `Throttled`.
    Throttle,
    /// `Internal`, HTTP 500.
    Fail,
}

/// Which operations a rule concerns. Starts with all of them; each method narrows.
#[derive(Debug, Clone, Default)]
pub struct When {
    operations: Option<Vec<Operation>>,
    containing: Option<String>,
    after: u64,
    times: Option<u64>,
    one_in: Option<u64>,
}

/// A fault and when it strikes.
#[derive(Debug, Clone)]
pub struct Rule {
    when: When,
    pub(super) fault: Fault,
    seen: u64,
    struck: u64,
}

/// What happened at one step, as the site's log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The step's number, from 0, over all sites that share the [`Steps`].
    pub step: u64,
    /// What was asked.
    pub operation: Operation,
    /// On which object or prefix.
    pub object: String,
    /// Which faults struck.
    pub faults: Vec<Fault>,
    /// How it ended; `None` for success.
    pub failure: Option<Class>,
}

/// How our process dies at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Before the operation does anything.
    Before,
    /// After it was carried out, before we hear of it.
    After,
    /// With the first bytes of a put stored; other operations as `Before`.
    Torn {
        /// How many bytes are stored.
        bytes: u64,
    },
}

/// Counts operations at one site or several, and makes our process die at one of them.
#[derive(Debug, Clone, Default)]
pub struct Steps(Arc<Mutex<Counter>>);

#[derive(Debug, Default)]
struct Counter {
    taken: u64,
    crash: Option<(u64, Crash)>,
}

impl When {
    /// Every operation.
    pub fn any() -> Self {
        Self::default()
    }

    /// Only puts and deletes.
    #[must_use]
    pub fn writes(self) -> Self {
        self.only(&[Operation::Put, Operation::Delete, Operation::DeleteVersion])
    }

    /// Only reads, lengths and listings.
    #[must_use]
    pub fn reads(self) -> Self {
        use Operation::{Get, GetRange, GetVersion, GetVersionRange, Length, List, ListChildren, ListVersions};
        let newest = [Get, GetRange, Length, List, ListChildren];
        self.only(&[&newest[..], &[GetVersion, GetVersionRange, ListVersions]].concat())
    }

    /// Only these operations.
    #[must_use]
    pub fn only(mut self, operations: &[Operation]) -> Self {
        self.operations = Some(operations.to_vec());
        self
    }

    /// Only objects and prefixes whose name holds `text`.
    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        self.containing = Some(text.to_owned());
        self
    }

    /// Not the first `count` of what else matches.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.after = count;
        self
    }

    /// At most `count` times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    /// By chance, once in `odds` on average.
    #[must_use]
    pub fn one_in(mut self, odds: u64) -> Self {
        self.one_in = Some(odds.max(1));
        self
    }
}

impl Rule {
    /// A rule.
    pub fn new(when: When, fault: Fault) -> Self {
        Self {
            when,
            fault,
            seen: 0,
            struck: 0,
        }
    }

    /// Counts an operation and tells whether the fault strikes it.
    pub(super) fn strikes(&mut self, operation: Operation, object: &str, chance: &mut SplitMix64) -> bool {
        let When {
            operations,
            containing,
            after,
            times,
            one_in,
        } = &self.when;
        let concerned = operations.as_ref().is_none_or(|only| only.contains(&operation))
            && containing.as_ref().is_none_or(|text| object.contains(text));
        if !concerned {
            return false;
        }
        self.seen += 1;
        let strikes = self.seen > *after
            && times.is_none_or(|times| self.struck < times)
            && one_in.is_none_or(|odds| chance.next().is_multiple_of(odds));
        self.struck += u64::from(strikes);
        strikes
    }
}

impl Steps {
    /// A counter at 0 with no crash ahead.
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations so far.
    pub fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Makes our process die at the operation that will be number `step`, counted from 0 since the start.
    pub fn crash_at(&self, step: u64, how: Crash) {
        self.lock().crash = Some((step, how));
    }

    /// True when the crash has happened.
    pub fn has_crashed(&self) -> bool {
        let counter = self.lock();
        counter.crash.is_some_and(|(at, _)| counter.taken > at)
    }

    /// Starts our process again: no crash ahead, the count goes on.
    pub fn restart(&self) {
        self.lock().crash = None;
    }

    /// Takes a step; tells its number and whether we die at it, or did before.
    pub(super) fn take(&self) -> (u64, Option<Crash>) {
        let mut counter = self.lock();
        let step = counter.taken;
        counter.taken += 1;
        match counter.crash {
            Some((at, how)) if at == step => (step, Some(how)),
            Some((at, _)) if at < step => (step, Some(Crash::Before)),
            Some(_) | None => (step, None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014): a small generator for
/// faults that replay from a seed, no more.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
