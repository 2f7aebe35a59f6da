use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_800_000_000;
const HONEST: (KeyId, Incarnation) = (KeyId::from_bytes([1; 32]), Incarnation::from_bytes([1; 16]));

fn rules() -> Retention {
    Retention {
        class: 0,
        last: 3,
        verified: 2,
        age_days_min: 7,
        within_days: 0,
        hourly: 0,
        daily: 7,
        weekly: 4,
        monthly: 6,
        yearly: 2,
    }
}

/// Head number `number` of a chain, received some days ago.
fn head(chain: u8, number: u64, days_ago: i64) -> Received {
    let mut hash = [chain; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    Received {
        head: RecordHash::from_bytes(hash),
        chain: (HONEST.0, Incarnation::from_bytes([chain; 16])),
        seq: number,
        at: NOW - days_ago * DAY_SECONDS,
        verified: false,
        newest: false,
        before_alarm: false,
        held: false,
        pinned: false,
    }
}

/// One snapshot a day for so many days, until `until` days ago.
fn daily(chain: u8, count: u64, until: i64) -> Vec<Received> {
    (0..count)
        .map(|number| head(chain, number, until + (count - 1 - number) as i64))
        .collect()
}

fn kept(rules: &Retention, heads: &[Received]) -> BTreeSet<RecordHash> {
    let kept = retain(Some(rules), heads, NOW);
    kept.into_iter()
        .filter(|(_, why)| !why.is_empty())
        .map(|(head, _)| head)
        .collect()
}

#[test]
fn months_are_those_of_the_calendar() {
    // Days since 1970 of: 1970-01-01, 1970-01-31, 1970-02-01, 2000-02-29, 2000-03-01, 2023-12-31, 2024-01-01, 1969-12-31.
    let found = [0, 30, 31, 11_016, 11_017, 19_722, 19_723, -1].map(month);
    let of = |year: i64, number: i64| year * 12 + number - 1;
    let expected = [
        (1970, 1),
        (1970, 1),
        (1970, 2),
        (2000, 2),
        (2000, 3),
        (2023, 12),
        (2024, 1),
        (1969, 12),
    ]
    .map(|(y, m)| of(y, m));
    assert_eq!(found, expected);
}

#[test]
fn each_rule_keeps_what_it_says() {
    let heads = daily(1, 800, 0);
    let why = retain(Some(&rules()), &heads, NOW);
    let count = |reason| why.values().filter(|reasons| reasons.contains(&reason)).count();
    assert_eq!(count(Reason::Last), 3);
    assert_eq!(count(Reason::Young), 7);
    assert_eq!(count(Reason::Daily), 7, "one a day is first and last of its day");
    assert_eq!(
        (count(Reason::Weekly), count(Reason::Monthly), count(Reason::Yearly)),
        (8, 12, 4)
    );
    assert!(why.values().any(BTreeSet::is_empty), "something goes");
}

#[test]
fn a_class_without_rules_keeps_everything() {
    let why = retain(None, &daily(1, 5000, 0), NOW);
    assert!(why.values().all(|reasons| !reasons.is_empty()));
}

#[test]
fn holds_pins_newest_ones_and_those_before_an_alarm_stay_for_ever() {
    let mut heads = daily(1, 400, 5000);
    heads[0].held = true;
    heads[1].pinned = true;
    heads[2].newest = true;
    heads[3].before_alarm = true;
    let why = retain(
        Some(&Retention {
            yearly: 0,
            monthly: 0,
            weekly: 0,
            daily: 0,
            ..rules()
        }),
        &heads,
        NOW,
    );
    let reason = |at: usize| why[&heads[at].head].first().copied();
    assert_eq!(
        [0, 1, 2, 3, 4].map(reason),
        [
            Some(Reason::Held),
            Some(Reason::Pinned),
            Some(Reason::Newest),
            Some(Reason::BeforeAlarm),
            None
        ]
    );
}

#[test]
fn verified_ones_stay_however_many_others_follow() {
    let mut heads = daily(1, 5000, 0);
    heads[10].verified = true;
    heads[20].verified = true;
    heads[30].verified = true;
    let kept = kept(&rules(), &heads);
    assert!(!kept.contains(&heads[10].head));
    assert!(kept.contains(&heads[20].head) && kept.contains(&heads[30].head));
}

/// restic, design.rst "Threat Model", first attack: who can only append adds snapshots until `forget --keep-last` or
/// `--keep-daily` keeps his instead of the good ones.
#[test]
fn a_flood_in_one_day_displaces_nothing() {
    let good = daily(1, 40, 0);
    let before = kept(&rules(), &good);
    let mut all = good.clone();
    // He goes on in the stolen life (its honest owner begins another one then) and begins lives of his own.
    all.extend((0..500).map(|number| head(1, 40 + number, 0)));
    all.extend((0..500).map(|number| head(2 + (number % 50) as u8, number, 0)));
    let after = kept(&rules(), &all);
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// restic's second: one snapshot dated ahead makes `--keep-within`, counted from the newest, forget all others. Receipts
/// are ours, so it arrives when it arrives; even a receipt ahead of our clock changes nothing.
#[test]
fn a_date_to_come_displaces_nothing() {
    let good = daily(1, 40, 0);
    let within = Retention {
        within_days: 30,
        ..rules()
    };
    let before = kept(&within, &good);
    let mut all = good.clone();
    all.push(head(2, 0, -36_500));
    let after = kept(&within, &all);
    assert!(before.is_subset(&after));
    assert!(
        after.contains(&all[40].head),
        "what we know nothing about isn't dropped"
    );
}

proptest! {
    /// Whatever others write into chains of their own, at whatever receipts, nothing honest goes for it.
    #[test]
    fn other_chains_displace_nothing(
        honest in prop::collection::vec(0i64..900, 1..60),
        others in prop::collection::vec((2u8..6, 0u64..100, -900i64..900), 0..100),
        counts in prop::array::uniform5(0u32..8),
    ) {
        let mut ages = honest;
        ages.sort_unstable_by_key(|age| std::cmp::Reverse(*age));
        let good: Vec<_> = ages.iter().zip(0..).map(|(age, number)| head(1, number, *age)).collect();
        let [hourly, daily, weekly, monthly, yearly] = counts;
        let rules = Retention { hourly, daily, weekly, monthly, yearly, ..rules() };
        let before = retain(Some(&rules), &good, NOW);
        let mut all = good.clone();
        all.extend(others.into_iter().map(|(chain, number, age)| head(chain, number, age)));
        let after = retain(Some(&rules), &all, NOW);
        for head in &good {
            prop_assert_eq!(&before[&head.head], &after[&head.head]);
        }
    }

    /// Whoever continues a chain for less than a day, with however many snapshots, leaves of every period that was kept
    /// at least one that is honest; of the newest day only he may have the last.
    #[test]
    fn a_flood_leaves_every_period_an_honest_snapshot(days in 10u64..600, flood in 1u64..300) {
        let good = daily(1, days, 0);
        let before = kept(&rules(), &good);
        let mut all = good.clone();
        all.extend((0..flood).map(|number| head(1, days + number, 0)));
        let after = kept(&rules(), &all);
        prop_assert!(before.is_subset(&after), "{} of {}", after.len(), before.len());
    }

    /// The newest of a chain, the verified ones and the young ones are never dropped.
    #[test]
    fn floors_hold(ages in prop::collection::vec((0i64..3000, any::<bool>()), 1..80)) {
        let mut ages = ages;
        ages.sort_unstable_by_key(|(age, _)| std::cmp::Reverse(*age));
        let heads: Vec<_> = ages.iter().zip(0..).map(|((age, verified), number)| Received {
            verified: *verified,
            ..head(1, number, *age)
        }).collect();
        let none = Retention { daily: 0, weekly: 0, monthly: 0, yearly: 0, ..rules() };
        let kept = kept(&none, &heads);
        prop_assert!(heads.iter().rev().take(3).all(|head| kept.contains(&head.head)));
        prop_assert!(heads.iter().rev().filter(|head| head.verified).take(2).all(|head| kept.contains(&head.head)));
        prop_assert!(heads.iter().filter(|head| age(head, NOW) < 7 * DAY_SECONDS).all(|head| kept.contains(&head.head)));
    }
}
