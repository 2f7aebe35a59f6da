use exclave_model::Geometry;
use proptest::prelude::*;

use super::*;

const FIRST: LayoutIndex = RunCommit::FIRST_LAYOUT;

fn site(number: u8) -> SiteId {
    SiteId::from_bytes([number; 16])
}

fn layout(numbers: impl IntoIterator<Item = u8>) -> Layout {
    Layout::from_sites(numbers.into_iter().map(site).collect()).unwrap()
}

fn quorums(k: u8, parity: u8, b: u8) -> Quorums {
    Quorums::new(Geometry::new(k, parity).unwrap(), None, b).unwrap()
}

/// 4+5 with a liar: a 8, q 7, claims at 2.
fn nine() -> RunCommit {
    RunCommit::new(layout(0..9), quorums(4, 5, 1))
}

/// 2+2: a 3, q 3, claims at 1.
fn four() -> RunCommit {
    RunCommit::new(layout(0..4), quorums(2, 2, 0))
}

const LEDGER: RecordHash = RecordHash::from_bytes([7; 32]);

fn settled(verified: u8) -> Event {
    Event::StripeSettled {
        layout: FIRST,
        state: StripeState::of(&quorums(2, 2, 0), verified),
    }
}

fn tell(run: &mut RunCommit, events: impl IntoIterator<Item = Event>) {
    for event in events {
        assert_eq!(run.handle(event), Ok(()), "{event:?}");
    }
}

fn too_few(held: Held, found: u8, needed: u8) -> NotYet {
    NotYet::TooFewSites {
        held,
        layout: FIRST,
        found,
        needed,
    }
}

fn refuse(run: &mut RunCommit, event: Event, reason: NotYet) {
    let before = run.clone();
    assert_eq!(run.handle(event), Err(reason), "{event:?}");
    assert_eq!(*run, before, "a refused event changes nothing");
}

fn at(count: u8, event: impl Fn(SiteId) -> Event) -> Vec<Event> {
    (0..count).map(|number| event(site(number))).collect()
}

#[test]
fn a_run_in_order_commits() {
    let mut run = four();
    assert_eq!(run.verdict(), Verdict::NoHead(too_few(Held::Envelope, 0, 3)));
    refuse(&mut run, settled(4), too_few(Held::Envelope, 0, 1));
    refuse(&mut run, Event::RecordMade(LEDGER), too_few(Held::Envelope, 0, 1));
    assert_eq!(run.next_steps(), [Step::PutEnvelope]);

    tell(&mut run, [Event::EnvelopeAt(site(0)), settled(4), settled(3)]);
    refuse(&mut run, Event::HeadJournalled, too_few(Held::Envelope, 1, 3));
    tell(&mut run, at(3, Event::EnvelopeAt));
    refuse(&mut run, Event::HeadJournalled, NotYet::NoLedger);
    refuse(
        &mut run,
        Event::RecordAt(LEDGER, site(0)),
        NotYet::UnknownRecord { record: LEDGER },
    );
    tell(&mut run, [Event::RecordMade(LEDGER)]);
    tell(&mut run, at(2, |site| Event::RecordAt(LEDGER, site)));
    refuse(&mut run, Event::HeadJournalled, too_few(Held::Record(LEDGER), 2, 3));
    tell(&mut run, [Event::RecordAt(LEDGER, site(3))]);
    assert_eq!(
        run.next_steps(),
        [
            Step::PutEnvelope,
            Step::PutShards(FIRST),
            Step::PutRecords,
            Step::JournalHead
        ]
    );
    assert_eq!(
        run.safety(),
        Some(Safety {
            state: SnapshotState::Durable,
            verified_min: 3,
            debt: 1
        })
    );

    refuse(&mut run, Event::HeadAt(site(0)), NotYet::HeadNotJournalled);
    tell(&mut run, [Event::HeadJournalled]);
    refuse(&mut run, settled(4), NotYet::HeadJournalled);
    assert_eq!(run.next_steps(), [Step::PutEnvelope, Step::PutHead]);
    assert_eq!(run.verdict(), Verdict::HeadBelowQuorum(too_few(Held::Head, 0, 3)));
    tell(&mut run, at(2, Event::HeadAt));
    tell(&mut run, [Event::HeadAt(site(1)), Event::HeadAt(site(77))]);
    assert_eq!(
        run.verdict(),
        Verdict::HeadBelowQuorum(too_few(Held::Head, 2, 3)),
        "doubles and strangers don't count"
    );
    tell(&mut run, [Event::HeadAt(site(3))]);
    assert_eq!(run.verdict(), Verdict::Committed { debt: 1 });
}

#[test]
fn the_weakest_stripe_decides() {
    let ended = |verified: &[u8]| {
        let mut run = four();
        tell(&mut run, at(4, Event::EnvelopeAt));
        tell(&mut run, verified.iter().copied().map(settled));
        tell(&mut run, [Event::RecordMade(LEDGER)]);
        tell(&mut run, at(4, |site| Event::RecordAt(LEDGER, site)));
        if run.handle(Event::HeadJournalled).is_ok() {
            tell(&mut run, at(4, Event::HeadAt));
        }
        run.verdict()
    };
    assert_eq!(ended(&[4, 4]), Verdict::Committed { debt: 0 });
    assert_eq!(ended(&[3, 4]), Verdict::Committed { debt: 1 });
    assert_eq!(
        ended(&[4, 2, 3]),
        Verdict::Provisional {
            debt: 3,
            verified_min: 2
        }
    );
    assert_eq!(
        ended(&[4, 1, 0, 4]),
        Verdict::NoHead(NotYet::StripesFailed { stripes: 2 })
    );
    assert_eq!(ended(&[]), Verdict::NoHead(NotYet::NothingStored));
}

#[test]
fn a_liar_takes_one_more_claim_before_the_first_shard() {
    let mut run = nine();
    let step = Step::PutShards(FIRST);
    tell(&mut run, [Event::EnvelopeAt(site(0))]);
    assert_eq!(run.allows(step), Err(too_few(Held::Envelope, 1, 2)));
    tell(&mut run, [Event::EnvelopeAt(site(1))]);
    assert_eq!(run.allows(step), Ok(()));
    assert_eq!(run.allows(Step::JournalHead), Err(too_few(Held::Envelope, 2, 7)));
}

#[test]
fn marks_count_only_after_the_claim_lies_at_q() {
    let reused = Event::StripeReused {
        layout: FIRST,
        verified: 4,
    };
    let mut run = four();
    tell(&mut run, at(4, Event::EnvelopeAt));
    refuse(&mut run, Event::ReuseClaimAt(site(0)), NotYet::NoReuseClaim);
    refuse(&mut run, reused, NotYet::NoReuseClaim);
    tell(&mut run, [Event::ReuseClaimMade]);
    tell(&mut run, at(2, Event::ReuseClaimAt));
    refuse(&mut run, Event::MarksReadFrom(site(0)), too_few(Held::ReuseClaim, 2, 3));
    tell(&mut run, [Event::ReuseClaimAt(site(2))]);
    tell(&mut run, at(2, Event::MarksReadFrom));
    refuse(&mut run, reused, too_few(Held::Marks, 2, 3));
    tell(&mut run, [Event::MarksReadFrom(site(3)), reused]);

    // A second claim starts over, and holds the head back until its marks are read.
    tell(&mut run, [Event::ReuseClaimMade, Event::RecordMade(LEDGER)]);
    tell(&mut run, at(4, |site| Event::RecordAt(LEDGER, site)));
    refuse(&mut run, Event::HeadJournalled, too_few(Held::ReuseClaim, 0, 3));
    tell(&mut run, at(3, Event::ReuseClaimAt));
    refuse(&mut run, Event::HeadJournalled, too_few(Held::Marks, 0, 3));
    tell(&mut run, at(3, Event::MarksReadFrom));
    tell(&mut run, [Event::HeadJournalled]);
}

#[test]
fn every_layout_has_its_own_quorum() {
    let mut run = four();
    tell(&mut run, at(4, Event::EnvelopeAt));
    tell(&mut run, [settled(4), Event::ReuseClaimMade]);
    tell(&mut run, at(4, Event::ReuseClaimAt));
    tell(&mut run, at(4, Event::MarksReadFrom));

    let second = run.add_layout(layout([0, 1, 8, 9]), quorums(2, 2, 0)).unwrap();
    assert_eq!(
        run.add_layout(layout(0..4), quorums(2, 2, 0)),
        Ok(FIRST),
        "a known layout keeps its index"
    );
    let missing = |held, found| NotYet::TooFewSites {
        held,
        layout: second,
        found,
        needed: 3,
    };
    assert_eq!(run.allows(Step::ReadMarks), Err(missing(Held::ReuseClaim, 2)));
    tell(&mut run, [Event::ReuseClaimAt(site(9))]);
    assert_eq!(
        run.allows(Step::CountReused),
        Err(too_few(Held::Marks, 0, 3)),
        "marks are read again"
    );
    tell(&mut run, [0, 1, 2, 9].map(|number| Event::MarksReadFrom(site(number))));
    tell(
        &mut run,
        [
            Event::StripeReused {
                layout: second,
                verified: 3,
            },
            Event::RecordMade(LEDGER),
        ],
    );
    assert_eq!(run.allows(Step::JournalHead), Err(missing(Held::Envelope, 2)));
    tell(&mut run, [8, 9].map(|number| Event::EnvelopeAt(site(number))));
    tell(
        &mut run,
        [0, 1, 2, 8].map(|number| Event::RecordAt(LEDGER, site(number))),
    );
    tell(&mut run, [Event::HeadJournalled]);
    tell(&mut run, at(4, Event::HeadAt));
    assert_eq!(run.verdict(), Verdict::HeadBelowQuorum(missing(Held::Head, 2)));
    tell(&mut run, [Event::HeadAt(site(8))]);
    assert_eq!(run.verdict(), Verdict::Committed { debt: 1 });
    assert_eq!(
        run.add_layout(layout(4..8), quorums(2, 2, 0)),
        Err(NotYet::HeadJournalled)
    );
}

#[test]
fn a_layout_of_another_run_is_unknown() {
    let elsewhere = four().add_layout(layout(4..8), quorums(2, 2, 0)).unwrap();
    let mut run = four();
    tell(&mut run, at(4, Event::EnvelopeAt));
    let event = Event::StripeSettled {
        layout: elsewhere,
        state: StripeState::Durable { verified: 4 },
    };
    refuse(&mut run, event, NotYet::UnknownLayout { layout: elsewhere });
}

fn any_event() -> impl Strategy<Value = Event> {
    let any_site = || (0..4_u8).prop_map(site);
    prop_oneof![
        6 => any_site().prop_map(Event::EnvelopeAt),
        3 => (1..=4_u8).prop_map(settled),
        1 => Just(Event::ReuseClaimMade),
        5 => any_site().prop_map(Event::ReuseClaimAt),
        5 => any_site().prop_map(Event::MarksReadFrom),
        2 => (2..=4_u8).prop_map(|verified| Event::StripeReused { layout: FIRST, verified }),
        3 => Just(Event::RecordMade(LEDGER)),
        6 => any_site().prop_map(|site| Event::RecordAt(LEDGER, site)),
        5 => Just(Event::HeadJournalled),
        6 => any_site().prop_map(Event::HeadAt),
    ]
}

/// Counts different sites of one kind of event in an accepted history, from a place on.
fn sites_of(history: &[Event], from: usize, pick: impl Fn(&Event) -> Option<SiteId>) -> usize {
    history[from..].iter().filter_map(pick).collect::<BTreeSet<_>>().len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever order a driver tries, the history that was accepted obeys the commit's rules, recounted from the events.
    #[test]
    fn accepted_histories_are_in_order(tried in proptest::collection::vec(any_event(), 0..120)) {
        let mut run = four();
        let history: Vec<Event> = tried.into_iter().filter(|event| run.handle(*event).is_ok()).collect();
        let first = |pick: fn(&Event) -> bool| history.iter().position(pick);
        let stripe = |event: &Event| matches!(event, Event::StripeSettled { .. });
        if let Some(shard) = first(stripe) {
            prop_assert!(history[..shard].iter().any(|event| matches!(event, Event::EnvelopeAt(_))));
        }
        for (place, _) in history.iter().enumerate().filter(|(_, event)| matches!(event, Event::MarksReadFrom(_))) {
            let made = history[..place].iter().rposition(|event| *event == Event::ReuseClaimMade);
            let claimed = sites_of(&history[..place], made.unwrap_or(place), |event| match event {
                Event::ReuseClaimAt(site) => Some(*site),
                _ => None,
            });
            prop_assert!(claimed >= 3, "marks read before the claim lay at q");
        }
        let verified: Vec<u8> = history.iter().filter_map(|event| match event {
            Event::StripeSettled { state, .. } => Some(state.verified()),
            Event::StripeReused { verified, .. } => Some(*verified),
            _ => None,
        }).collect();
        let Some(journalled) = first(|event| *event == Event::HeadJournalled) else {
            prop_assert!(matches!(run.verdict(), Verdict::NoHead(_)));
            return Ok(());
        };
        let before = &history[..journalled];
        prop_assert!(!history[journalled + 1..].iter().any(stripe), "the head was journalled too early");
        prop_assert!(!verified.is_empty() && verified.iter().all(|count| *count >= 2), "I1: visible, so restorable");
        let envelopes = sites_of(before, 0, |event| match event { Event::EnvelopeAt(site) => Some(*site), _ => None });
        let ledgers = sites_of(before, 0, |event| match event { Event::RecordAt(_, site) => Some(*site), _ => None });
        prop_assert!(envelopes >= 3 && ledgers >= 3);
        if let Some(made) = before.iter().rposition(|event| *event == Event::ReuseClaimMade) {
            let marks = sites_of(before, made, |event| match event { Event::MarksReadFrom(site) => Some(*site), _ => None });
            prop_assert!(marks >= 3, "the marks of the last claim were not read");
        }
        let heads = sites_of(&history, 0, |event| match event { Event::HeadAt(site) => Some(*site), _ => None });
        let durable = verified.iter().all(|count| *count >= 3);
        match run.verdict() {
            Verdict::Committed { .. } => prop_assert!(heads >= 3 && durable),
            Verdict::Provisional { .. } => prop_assert!(heads >= 3 && !durable),
            Verdict::HeadBelowQuorum(_) => prop_assert!(heads < 3),
            Verdict::NoHead(_) => prop_assert!(false, "a journalled head is a head"),
        }
    }
}
