//! Tripwires: whether a source changed more than data does by itself (THREATS A11).
//!
//! Ransomware, a botched migration and an emptied mount look alike from here: an agent would replicate them faithfully.
//! So a run counts what it meets, [`Activity`], and holds it against the snapshot before and against what earlier runs
//! were like, [`Habit`]. Nothing here decides about the commit: what trips is told, and the head carries it.
//!
//! Small sources change wholly for good reasons, so a rule speaks only from [`FILES_MIN`] files or [`BYTES_MIN`] bytes on.
//! The figures are judgements, not measurements: half of a register isn't rewritten overnight, text shrinks by far more than
//! a tenth (FIPS-197 ciphertext by nothing), and files that are rewritten in place keep most of their chunks.

use std::fmt;

use exclave_model::Tripwire;

/// Files below which a share of files says nothing.
pub const FILES_MIN: u64 = 20;

/// Bytes below which a share of bytes says nothing: the size of an average chunk.
pub const BYTES_MIN: u64 = 1 << 20;

/// What is new must be at least this share of the snapshot before to be judged by its kind, in percent.
const WEIGHT_PERCENT: u64 = 10;

/// Noise: what is new shrank to no less than this, in percent of its length ...
const NOISE_PERCENT: u64 = 97;
/// ... and what came before to this or less.
const TEXT_PERCENT: u64 = 90;

/// Collapse: of what is written again, no more than this share is known, in percent ...
const COLLAPSED_PERCENT: u64 = 10;
/// ... and earlier it was this share or more.
const SETTLED_PERCENT: u64 = 50;

/// Files and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Regular files and streams.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Bytes that were read, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Bytes that the sites have already.
    pub known: u64,
    /// Bytes that they don't have.
    pub new: u64,
    /// What the new ones take once they are compressed.
    pub stored: u64,
}

impl Flow {
    /// All bytes that were read.
    pub const fn read(&self) -> u64 {
        self.known.saturating_add(self.new)
    }

    /// Adds another flow.
    pub fn add(&mut self, other: &Self) {
        self.known = self.known.saturating_add(other.known);
        self.new = self.new.saturating_add(other.new);
        self.stored = self.stored.saturating_add(other.stored);
    }
}

/// What one run met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// What the snapshot holds.
    pub now: Extent,
    /// Files of the snapshot before that are there no more.
    pub gone_files: u64,
    /// Files of the snapshot before that hold new bytes.
    pub changed_files: u64,
    /// Files that weren't in the snapshot before, and all of whose bytes are known.
    pub moved_files: u64,
    /// Bytes of files that were in the snapshot before and were read again.
    pub again: Flow,
    /// Bytes of files that were not.
    pub first: Flow,
    /// Nothing that lies at the sites could be referred to: it is under another label, class or crypto epoch, or the agent has
    /// forgotten it. Then all that is read is new, and says nothing about what changed.
    pub anew: bool,
}

/// What earlier runs were like: sums in which the run before the last counts half, the one before it a quarter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Habit {
    /// New bytes.
    pub new: u64,
    /// What they took once they were compressed.
    pub stored: u64,
    /// Bytes that were read again.
    pub again: u64,
    /// How many of these were known.
    pub again_known: u64,
}

impl Habit {
    /// The habit after a run that tripped nothing.
    #[must_use]
    pub fn after(&self, activity: &Activity) -> Self {
        let mut all = activity.again;
        all.add(&activity.first);
        let sum = |before: u64, now: u64| (before / 2).saturating_add(now);
        if activity.anew {
            return Self {
                new: sum(self.new, all.new),
                stored: sum(self.stored, all.stored),
                ..*self
            };
        }
        Self {
            new: sum(self.new, all.new),
            stored: sum(self.stored, all.stored),
            again: sum(self.again, activity.again.read()),
            again_known: sum(self.again_known, activity.again.known),
        }
    }
}

/// What is compared with: the snapshot before, and what led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// What it held.
    pub extent: Extent,
    /// Earlier runs.
    pub habit: Habit,
    /// Digest of its source's definition.
    pub source_digest: [u8; 32],
}

/// From which share on a change is told, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TripwireLimits {
    /// Files that are gone or hold new bytes.
    pub changed_percent: u8,
    /// Files that were renamed.
    pub renamed_percent: u8,
    /// By how much the source shrank.
    pub shrunk_percent: u8,
}

impl Default for TripwireLimits {
    fn default() -> Self {
        Self {
            changed_percent: 50,
            renamed_percent: 25,
            shrunk_percent: 50,
        }
    }
}

/// What a [`Trip`]'s numbers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Files.
    Files,
    /// Bytes.
    Bytes,
}

/// A wire that was tripped, with the numbers that did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trip {
    /// Which.
    pub wire: Tripwire,
    /// What the numbers count.
    pub measure: Measure,
    /// So much ...
    pub part: u64,
    /// ... of so much.
    pub whole: u64,
}

/// Which wires a run trips, ascending, each at most once.
pub fn trips(before: &Before, source_digest: &[u8; 32], activity: &Activity, limits: &TripwireLimits) -> Vec<Trip> {
    let was = before.extent;
    let files = |wire, part, percent| share(wire, Measure::Files, part, was.files, percent);
    let bytes = |wire, part, percent| share(wire, Measure::Bytes, part, was.bytes, percent);
    // By files alone: bytes are known by whole chunks, and a few small changes of a stream touch most of its chunks. What a
    // stream is like when it is itself, its habit tells.
    let changed_files = if activity.anew { 0 } else { activity.changed_files };
    let replaced = activity.gone_files.saturating_add(changed_files);
    let redefined = Trip {
        wire: Tripwire::Redefined,
        measure: Measure::Files,
        part: activity.now.files,
        whole: was.files,
    };
    [
        files(Tripwire::Changed, replaced, limits.changed_percent),
        files(
            Tripwire::Renamed,
            activity.gone_files.min(activity.moved_files),
            limits.renamed_percent,
        ),
        files(
            Tripwire::Shrunk,
            was.files.saturating_sub(activity.now.files),
            limits.shrunk_percent,
        )
        .or_else(|| {
            bytes(
                Tripwire::Shrunk,
                was.bytes.saturating_sub(activity.now.bytes),
                limits.shrunk_percent,
            )
        }),
        noise(before, activity),
        collapse(before, activity),
        (before.source_digest != *source_digest).then_some(redefined),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The trip when `part` is at least `percent` of a whole that is large enough to judge.
fn share(wire: Tripwire, measure: Measure, part: u64, whole: u64, percent: u8) -> Option<Trip> {
    let least = match measure {
        Measure::Files => FILES_MIN,
        Measure::Bytes => BYTES_MIN,
    };
    let trips = whole >= least && part > 0 && at_least(part, whole, u64::from(percent));
    trips.then_some(Trip {
        wire,
        measure,
        part,
        whole,
    })
}

fn noise(before: &Before, activity: &Activity) -> Option<Trip> {
    let mut all = activity.again;
    all.add(&activity.first);
    let habit = before.habit;
    let judged = weighs(all.new, before) && habit.new >= BYTES_MIN;
    let was_text = !at_least(habit.stored, habit.new, TEXT_PERCENT + 1);
    let trips = judged && was_text && at_least(all.stored, all.new, NOISE_PERCENT);
    trips.then_some(Trip {
        wire: Tripwire::Noise,
        measure: Measure::Bytes,
        part: all.stored,
        whole: all.new,
    })
}

fn collapse(before: &Before, activity: &Activity) -> Option<Trip> {
    let (habit, again) = (before.habit, activity.again);
    let judged = !activity.anew && weighs(again.read(), before) && habit.again >= BYTES_MIN;
    let was_settled = at_least(habit.again_known, habit.again, SETTLED_PERCENT);
    let trips = judged && was_settled && !at_least(again.known, again.read(), COLLAPSED_PERCENT + 1);
    trips.then_some(Trip {
        wire: Tripwire::Collapsed,
        measure: Measure::Bytes,
        part: again.known,
        whole: again.read(),
    })
}

/// Whether so many bytes are enough of the snapshot before to judge by their kind.
fn weighs(bytes: u64, before: &Before) -> bool {
    bytes >= BYTES_MIN && at_least(bytes, before.extent.bytes, WEIGHT_PERCENT)
}

/// Whether `part` is at least `percent` of `whole`.
fn at_least(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, whole, .. } = self;
        let of = match self.measure {
            Measure::Files => format!("{part} of {whole} files"),
            Measure::Bytes => format!("{part} of {whole} bytes"),
        };
        match self.wire {
            Tripwire::Changed => write!(f, "{of} of the snapshot before are gone or were rewritten"),
            Tripwire::Renamed => write!(f, "{of} of the snapshot before have other names"),
            Tripwire::Shrunk => write!(f, "the source has lost {of}"),
            Tripwire::Noise => write!(
                f,
                "what is new doesn't compress ({of} remain), and what came before did"
            ),
            Tripwire::Collapsed => write!(
                f,
                "of what was written again, {of} were known, and most were in earlier runs"
            ),
            Tripwire::Redefined => f.write_str("the source is defined otherwise than for the snapshot before"),
        }
    }
}

#[cfg(test)]
mod tests;
