//! Which snapshots are kept.
//!
//! Time is the *receipt*: when others than the writer first showed the head. What a writer says about time decides nothing,
//! so a snapshot can be neither backdated nor dated ahead. Periods are counted back from the newest receipt of the same
//! *chain* (one life of a writer, one dataset), never from what another chain holds, and each period keeps its first and
//! its last snapshot: who writes into another chain displaces nothing, and who continues a chain pushes one period out of
//! a rule for every period that he goes on. THREATS A10 and restic's two published attacks are the tests.
//!
//! Every rule keeps; none drops. A snapshot goes when no rule keeps it.

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{Incarnation, KeyId, RecordHash, Retention};

const DAY_SECONDS: i64 = 24 * 3600;

/// A head that counts, with what is known about it beside the head itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The head.
    pub head: RecordHash,
    /// Its chain.
    pub chain: (KeyId, Incarnation),
    /// Its place there.
    pub seq: u64,
    /// When others first showed it: Unix seconds.
    pub at: i64,
    /// Whether an audit found all of it.
    pub verified: bool,
    /// Whether it is one of the dataset's newest, or of a fork: then nobody knows which side will count.
    pub newest: bool,
    /// Whether a hold lies on it, or on its dataset or class.
    pub held: bool,
    /// Whether the next one of its chain tripped wires: this one is what the source was before something rewrote it.
    pub before_alarm: bool,
    /// Whether a revocation pins it: it is what the owner accepted of a writer that is gone.
    pub pinned: bool,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Someone placed a hold.
    Held,
    /// A revocation pins it.
    Pinned,
    /// It is a newest one.
    Newest,
    /// The one after it tripped wires.
    BeforeAlarm,
    /// It was received too short a time ago.
    Young,
    /// Among the last of its chain.
    Last,
    /// Among the last of its chain that an audit found whole.
    Verified,
    /// Received within the span that the class keeps whole.
    Within,
    /// First or last of its hour.
    Hourly,
    /// First or last of its day.
    Daily,
    /// First or last of its week, from Monday on.
    Weekly,
    /// First or last of its month.
    Monthly,
    /// First or last of its year.
    Yearly,
    /// The charter has no rules for its class, or nobody knows its class.
    NoRules,
}

impl Reason {
    /// The word in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Pinned => "pinned",
            Self::Newest => "newest",
            Self::BeforeAlarm => "before-alarm",
            Self::Young => "young",
            Self::Last => "last",
            Self::Verified => "verified",
            Self::Within => "within",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::NoRules => "no-rules",
        }
    }
}

/// Says for every head of one dataset why it is kept; nothing means that it goes. `None` as rules keeps everything: a
/// class without rules is never collected.
pub fn retain(rules: Option<&Retention>, heads: &[Received], now: i64) -> BTreeMap<RecordHash, BTreeSet<Reason>> {
    let mut kept: BTreeMap<RecordHash, BTreeSet<Reason>> =
        heads.iter().map(|head| (head.head, BTreeSet::new())).collect();
    let mut keep = |head: &Received, reason| _ = kept.entry(head.head).or_default().insert(reason);
    let mut chains: BTreeMap<(KeyId, Incarnation), Vec<&Received>> = BTreeMap::new();
    for head in heads {
        let reasons = [
            (head.held, Reason::Held),
            (head.pinned, Reason::Pinned),
            (head.newest, Reason::Newest),
            (head.before_alarm, Reason::BeforeAlarm),
            (rules.is_none(), Reason::NoRules),
            // A receipt that is still to come means that our clock went back: nothing is known about its age.
            (
                rules.is_some_and(|rules| age(head, now) < days(rules.age_days_min)),
                Reason::Young,
            ),
            (
                rules.is_some_and(|rules| age(head, now) < days(rules.within_days)),
                Reason::Within,
            ),
        ];
        for (_, reason) in reasons.into_iter().filter(|(holds, _)| *holds) {
            keep(head, reason);
        }
        chains.entry(head.chain).or_default().push(head);
    }
    let Some(rules) = rules else { return kept };
    for chain in chains.values_mut() {
        // A chain's order is its numbers; a receipt out of order only says when it was seen.
        chain.sort_by_key(|head| std::cmp::Reverse((head.seq, head.at)));
        for head in chain.iter().take(rules.last as usize) {
            keep(head, Reason::Last);
        }
        for head in chain.iter().filter(|head| head.verified).take(rules.verified as usize) {
            keep(head, Reason::Verified);
        }
        for (count, reason, period) in periods(rules) {
            for head in ends_of_periods(chain, count, period) {
                keep(head, reason);
            }
        }
    }
    kept
}

fn age(head: &Received, now: i64) -> i64 {
    now.saturating_sub(head.at)
}

fn days(days: u32) -> i64 {
    i64::from(days) * DAY_SECONDS
}

type Period = fn(i64) -> i64;

fn periods(rules: &Retention) -> [(u32, Reason, Period); 5] {
    [
        (rules.hourly, Reason::Hourly, |at| at.div_euclid(3600)),
        (rules.daily, Reason::Daily, |at| at.div_euclid(DAY_SECONDS)),
        // 1 January 1970 was a Thursday; weeks begin with Monday (ISO 8601).
        (rules.weekly, Reason::Weekly, |at| {
            (at.div_euclid(DAY_SECONDS) + 3).div_euclid(7)
        }),
        (rules.monthly, Reason::Monthly, |at| month(at.div_euclid(DAY_SECONDS))),
        (rules.yearly, Reason::Yearly, |at| {
            month(at.div_euclid(DAY_SECONDS)).div_euclid(12)
        }),
    ]
}

/// First and last of each of the newest `count` periods that hold anything.
fn ends_of_periods<'a>(chain: &[&'a Received], count: u32, period: Period) -> Vec<&'a Received> {
    let mut of: BTreeMap<i64, Vec<&'a Received>> = BTreeMap::new();
    for head in chain {
        of.entry(period(head.at)).or_default().push(head);
    }
    let newest = of.values().rev().take(count as usize);
    newest
        .flat_map(|heads| [heads.first(), heads.last()])
        .flatten()
        .copied()
        .collect()
}

/// The month that a day lies in, as a number that grows by 1 each month, in UTC and the Gregorian calendar.
/// H. Hinnant's `civil_from_days` (chrono-Compatible Low-Level Date Algorithms, 2013).
fn month(day: i64) -> i64 {
    let day = day.saturating_add(719_468);
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on, so that the day that comes every four years is the year's last.
    let from_march = (5 * of_year + 2) / 153;
    (era * 400 + year_of_era) * 12 + from_march + 2
}

#[cfg(test)]
mod tests;
