//! How long snapshots are kept: in drafts, and in the words of the page that roots compare.

use exclave_model::{Charter, Retention};
use serde::{Deserialize, Serialize};

use crate::format;

/// The rules of one class, as a draft has them. What isn't said is 0, but for the floors, which must be said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftRetention {
    class: u32,
    last: u32,
    verified: u32,
    age_days_min: u32,
    #[serde(default)]
    within_days: u32,
    #[serde(default)]
    hourly: u32,
    #[serde(default)]
    daily: u32,
    #[serde(default)]
    weekly: u32,
    #[serde(default)]
    monthly: u32,
    #[serde(default)]
    yearly: u32,
}

impl DraftRetention {
    /// The draft of some rules.
    pub fn of(rules: &Retention) -> Self {
        Self {
            class: rules.class,
            last: rules.last,
            verified: rules.verified,
            age_days_min: rules.age_days_min,
            within_days: rules.within_days,
            hourly: rules.hourly,
            daily: rules.daily,
            weekly: rules.weekly,
            monthly: rules.monthly,
            yearly: rules.yearly,
        }
    }

    /// The rules of a draft; the charter's law judges them.
    pub fn rules(&self) -> Retention {
        Retention {
            class: self.class,
            last: self.last,
            verified: self.verified,
            age_days_min: self.age_days_min,
            within_days: self.within_days,
            hourly: self.hourly,
            daily: self.daily,
            weekly: self.weekly,
            monthly: self.monthly,
            yearly: self.yearly,
        }
    }
}

/// What a class keeps, in a sentence.
pub fn sentence(charter: &Charter, class: u32) -> String {
    let Some(rules) = charter.retention(class) else {
        return format!("class {class} keeps every snapshot for ever");
    };
    let spans = [
        (rules.within_days, "day", "everything of the last"),
        (rules.hourly, "hour", "first and last of"),
        (rules.daily, "day", "first and last of"),
        (rules.weekly, "week", "first and last of"),
        (rules.monthly, "month", "first and last of"),
        (rules.yearly, "year", "first and last of"),
    ];
    let spans = spans.into_iter().filter(|(count, _, _)| *count > 0);
    let spans: String = spans
        .map(|(count, unit, what)| format!(", {what} {}", format::count(u64::from(count), unit)))
        .collect();
    format!(
        "class {class} keeps the last {}, {} of them verified, everything for {}{spans}",
        format::count(u64::from(rules.last), "snapshot"),
        rules.verified,
        format::count(u64::from(rules.age_days_min), "day"),
    )
}

/// What a version says otherwise than the one before.
pub fn changes(before: &Charter, next: &Charter, lines: &mut Vec<String>) {
    for class in &next.classes {
        let (then, now) = (before.retention(class.id), next.retention(class.id));
        if then == now {
            continue;
        }
        let shorter = match (then, now) {
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(then), Some(now)) => keeps_less(then, now),
            (None, None) => false,
        };
        let warning = if shorter { ": LESS than before" } else { "" };
        lines.push(format!("{}{warning}", sentence(next, class.id)));
    }
}

/// True when some number fell.
fn keeps_less(then: &Retention, now: &Retention) -> bool {
    [
        (then.last, now.last),
        (then.verified, now.verified),
        (then.age_days_min, now.age_days_min),
        (then.within_days, now.within_days),
        (then.hourly, now.hourly),
        (then.daily, now.daily),
        (then.weekly, now.weekly),
        (then.monthly, now.monthly),
        (then.yearly, now.yearly),
    ]
    .iter()
    .any(|(then, now)| now < then)
}
