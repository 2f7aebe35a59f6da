//! How long snapshots of a class are kept (FORMAT.md section 23).

use minicbor::{Decode, Encode};

use crate::wire::Rule;

/// Fewest snapshots of a chain that are kept, whatever their age. The newest may already hold what an intruder made of the
/// source, and the one before it what he tried first.
pub const LAST_MIN: u32 = 3;

/// Least age in days before a snapshot may go. A weekly audit, and a person back from a week's absence, come before the
/// first deletion that a theft could bring about.
pub const AGE_DAYS_MIN: u32 = 7;

/// The age that a draft proposes (DESIGN: stores lock what is put for at least as long).
pub const AGE_DAYS_DEFAULT: u32 = 90;

/// Greatest number in a rule, so that spans in seconds fit wherever they are added: some 2,700 years of days.
pub const COUNT_MAX: u32 = 1_000_000;

/// Which snapshots of a class are kept. Each number keeps more; without rules a class keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Retention {
    /// The class.
    #[n(0)]
    pub class: u32,
    /// The last ones of each chain.
    #[n(1)]
    pub last: u32,
    /// The last ones of each chain that an audit found whole.
    #[n(2)]
    pub verified: u32,
    /// Everything that was received less than so many days ago, whatever else is said.
    #[n(3)]
    pub age_days_min: u32,
    /// Everything that was received within so many days.
    #[n(4)]
    pub within_days: u32,
    /// First and last of each of so many hours.
    #[n(5)]
    pub hourly: u32,
    /// Of so many days.
    #[n(6)]
    pub daily: u32,
    /// Of so many weeks.
    #[n(7)]
    pub weekly: u32,
    /// Of so many months.
    #[n(8)]
    pub monthly: u32,
    /// Of so many years.
    #[n(9)]
    pub yearly: u32,
}

impl Retention {
    /// What a class keeps when somebody asks for collection and says nothing more.
    pub const fn proposed(class: u32) -> Self {
        Self {
            class,
            last: LAST_MIN,
            verified: LAST_MIN,
            age_days_min: AGE_DAYS_DEFAULT,
            within_days: 0,
            hourly: 0,
            daily: 14,
            weekly: 8,
            monthly: 24,
            yearly: 10,
        }
    }

    /// The rules of one class, looked at alone.
    pub(super) fn law(&self) -> Result<(), Rule> {
        let counts = [
            self.last,
            self.verified,
            self.age_days_min,
            self.within_days,
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ];
        if self.last < LAST_MIN || self.verified == 0 || self.age_days_min < AGE_DAYS_MIN {
            return Err(Rule::new(
                "bad-retention",
                format!(
                    "class {} keeps less than {LAST_MIN} snapshots, none that is verified, or nothing for {AGE_DAYS_MIN} days",
                    self.class
                ),
            ));
        }
        match counts.iter().find(|count| **count > COUNT_MAX) {
            Some(count) => Err(Rule::new(
                "bad-retention",
                format!(
                    "class {} keeps {count} of something, the cap is {COUNT_MAX}",
                    self.class
                ),
            )),
            None => Ok(()),
        }
    }
}
