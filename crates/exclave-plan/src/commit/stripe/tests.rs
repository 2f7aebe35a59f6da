use std::collections::{BTreeMap, HashSet};

use exclave_model::Geometry;

use super::*;
use PutMode::{CreateOnly, Overwrites};
use ReadBack::{Full, Group};

fn quorums(k: u8, parity: u8, f: u8, b: u8) -> Quorums {
    Quorums::new(Geometry::new(k, parity).unwrap(), Some(f), b).unwrap()
}

/// One shard at one site: the whole story in one line.
fn single(read_back: ReadBack, mode: PutMode) -> StripeCommit {
    let (machine, actions) = StripeCommit::new(quorums(1, 0, 0, 0), read_back, &[mode], &[]);
    assert_eq!(actions, [put(0)]);
    machine
}

fn put(attempt: u32) -> Action {
    Action::Put { index: 0, attempt }
}

fn read(attempt: u32, extent: ReadBack) -> Action {
    Action::ReadBack {
        index: 0,
        attempt,
        extent,
    }
}

fn durable(verified: u8) -> Action {
    Action::Settled(StripeState::Durable { verified })
}

fn failed(class: FailureClass) -> Event {
    Event::Failed { index: 0, class }
}

const STORED: Event = Event::Stored { index: 0 };
const CONFLICT: Event = Event::Conflict { index: 0 };
const VERIFIED: Event = Event::Verified { index: 0 };
const ABSENT: Event = Event::Absent { index: 0 };
const TORN: Event = Event::Torn { index: 0 };
const OTHER: Event = Event::Other { index: 0 };

fn tell(machine: &mut StripeCommit, story: &[(Event, Action)]) {
    for (event, action) in story {
        assert_eq!(machine.handle(*event), Ok(vec![*action]), "after {event:?}");
    }
}

#[test]
fn a_clean_put_is_read_back_as_the_policy_says() {
    for extent in [Group, Full] {
        let mut machine = single(extent, CreateOnly);
        tell(&mut machine, &[(STORED, read(0, extent)), (VERIFIED, durable(1))]);
        assert_eq!((machine.attempt_of(0), machine.debt()), (Some(0), vec![]));
    }
}

#[test]
fn a_conflict_or_a_lost_reply_is_read_whole() {
    for event in [CONFLICT, failed(FailureClass::LostReply)] {
        let mut machine = single(Group, CreateOnly);
        tell(&mut machine, &[(event, read(0, Full)), (VERIFIED, durable(1))]);
        let mut machine = single(Group, CreateOnly);
        tell(
            &mut machine,
            &[
                (event, read(0, Full)),
                (ABSENT, put(0)),
                (STORED, read(0, Group)),
                (VERIFIED, durable(1)),
            ],
        );
        assert_eq!(machine.findings().count(), 0);
    }
}

#[test]
fn torn_is_put_again_and_is_no_alarm() {
    let mut machine = single(Group, Overwrites);
    tell(
        &mut machine,
        &[
            (STORED, read(0, Group)),
            (TORN, read(0, Full)),
            (TORN, put(0)),
            (STORED, read(0, Group)),
        ],
    );
    assert_eq!(
        machine.findings().collect::<Vec<_>>(),
        [Finding::Torn { index: 0, attempt: 0 }]
    );
    let mut machine = single(Group, CreateOnly);
    tell(
        &mut machine,
        &[
            (CONFLICT, read(0, Full)),
            (TORN, put(1)),
            (STORED, read(1, Group)),
            (VERIFIED, durable(1)),
        ],
    );
    assert_eq!(machine.attempt_of(0), Some(1));
}

#[test]
fn other_bytes_are_left_alone_and_alarm() {
    for mode in [CreateOnly, Overwrites] {
        let mut machine = single(Group, mode);
        tell(
            &mut machine,
            &[
                (CONFLICT, read(0, Full)),
                (OTHER, put(1)),
                (STORED, read(1, Group)),
                (OTHER, read(1, Full)),
            ],
        );
        tell(
            &mut machine,
            &[(OTHER, put(2)), (STORED, read(2, Group)), (VERIFIED, durable(1))],
        );
        let alarm = |attempt| Finding::OtherBytes { index: 0, attempt };
        assert_eq!(machine.findings().collect::<Vec<_>>(), [alarm(0), alarm(1)]);
    }
}

#[test]
fn failures_end_in_debt_after_a_bound() {
    let owed = vec![Action::Settled(StripeState::Failed { verified: 0 })];
    let mut machine = single(Group, CreateOnly);
    assert_eq!(machine.handle(failed(FailureClass::Lasting)), Ok(owed.clone()));
    assert_eq!((machine.attempt_of(0), machine.debt()), (None, vec![0]));

    let mut machine = single(Group, CreateOnly);
    (1..TRIES_MAX).for_each(|_| tell(&mut machine, &[(failed(FailureClass::Passing), put(0))]));
    assert_eq!(machine.handle(failed(FailureClass::Throttled)), Ok(owed.clone()));

    let mut machine = single(Group, CreateOnly);
    tell(&mut machine, &[(STORED, read(0, Group))]);
    (1..TRIES_MAX).for_each(|_| tell(&mut machine, &[(failed(FailureClass::LostReply), read(0, Group))]));
    assert_eq!(
        machine.handle(failed(FailureClass::Passing)),
        Ok(owed),
        "a put that can't be read back doesn't count"
    );
}

#[test]
fn what_nothing_is_under_way_for_is_refused() {
    let mut machine = single(Group, CreateOnly);
    let before = machine.clone();
    for event in [VERIFIED, ABSENT, TORN, OTHER, Event::Stored { index: 1 }] {
        assert_eq!(machine.handle(event), Err(Unexpected { event }));
    }
    assert_eq!(machine, before);
    tell(&mut machine, &[(STORED, read(0, Group))]);
    assert_eq!(machine.handle(STORED), Err(Unexpected { event: STORED }));
    tell(&mut machine, &[(VERIFIED, durable(1))]);
    for event in [STORED, VERIFIED, failed(FailureClass::Passing)] {
        assert_eq!(machine.handle(event), Err(Unexpected { event }), "it settles once");
    }
}

#[test]
fn journalled_shards_count_and_are_not_put_again() {
    let (machine, actions) = StripeCommit::new(quorums(2, 2, 1, 0), Group, &[CreateOnly; 4], &[0, 2, 3]);
    assert_eq!(actions, [Action::Put { index: 1, attempt: 0 }]);
    assert_eq!(
        (machine.standing(), machine.settled()),
        (StripeState::Durable { verified: 3 }, None)
    );
    let (_, actions) = StripeCommit::new(quorums(2, 2, 1, 0), Group, &[CreateOnly; 4], &[0, 1, 2, 3]);
    assert_eq!(actions, [durable(4)]);
}

/// An event of every kind for one shard.
fn events(index: u8) -> Vec<Event> {
    let failures = [
        FailureClass::Passing,
        FailureClass::Throttled,
        FailureClass::LostReply,
        FailureClass::Lasting,
    ];
    let mut events: Vec<Event> = failures
        .into_iter()
        .map(|class| Event::Failed { index, class })
        .collect();
    events.extend([
        Event::Stored { index },
        Event::Conflict { index },
        Event::Verified { index },
    ]);
    events.extend([Event::Absent { index }, Event::Torn { index }, Event::Other { index }]);
    events
}

/// Walks every state that any order of events leads to and checks what must hold in it. Returns how many there are.
fn explore(quorums: Quorums, read_back: ReadBack, modes: &[PutMode], tries_max: u8) -> usize {
    let (mut first, _) = StripeCommit::new(quorums, read_back, modes, &[]);
    first.tries_max = tries_max;
    let mut seen: HashSet<StripeCommit> = [first.clone()].into();
    let mut open = vec![first];
    while let Some(machine) = open.pop() {
        for event in (0..quorums.sites()).flat_map(events) {
            let mut next = machine.clone();
            let Ok(actions) = next.handle(event) else {
                assert_eq!(next, machine, "a refused event changes nothing");
                continue;
            };
            check(&machine, event, &next, &actions);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    seen.len()
}

fn check(before: &StripeCommit, event: Event, after: &StripeCommit, actions: &[Action]) {
    let quorums = after.quorums;
    let index = event.index();
    assert!(before.settled().is_none(), "nothing happens after the end");
    // A shard counts only through a read, and stays counted.
    let counted = after.verified() - before.verified();
    assert_eq!(counted, u8::from(matches!(event, Event::Verified { .. })));
    assert_eq!(
        usize::from(after.verified()) + after.debt().len(),
        usize::from(quorums.sites())
    );
    match after.standing() {
        StripeState::Durable { verified } => assert!(verified >= quorums.shards_at_commit()),
        StripeState::Provisional { verified } => {
            assert!(quorums.data() <= verified && verified < quorums.shards_at_commit());
        }
        StripeState::Failed { verified } => assert!(verified < quorums.data()),
    }
    // Exactly one thing follows for a shard that is not at its end; settling comes with the last.
    let shard = &after.shards[usize::from(index)];
    match actions {
        [] => assert!(after.settled().is_none() && matches!(shard.stage, Stage::Verified | Stage::Owed)),
        [Action::Settled(state)] => assert_eq!(after.settled(), Some(*state)),
        [Action::Put { index: put, attempt }] => {
            assert_eq!((*put, *attempt, shard.stage), (index, shard.attempt, Stage::Putting));
            let old = &before.shards[usize::from(index)];
            match event {
                // Other bytes are never overwritten; torn ones of ours only where the site lets us.
                Event::Other { .. } => assert_eq!(*attempt, old.attempt + 1),
                Event::Torn { .. } => assert_eq!(*attempt, old.attempt + u32::from(old.mode == CreateOnly)),
                _ => assert_eq!(*attempt, old.attempt),
            }
        }
        [
            Action::ReadBack {
                index: read,
                attempt,
                extent,
            },
        ] => {
            assert_eq!(
                (*read, *attempt, shard.stage),
                (index, shard.attempt, Stage::Reading(*extent))
            );
            let doubtful = matches!(event, Event::Conflict { .. } | Event::Torn { .. } | Event::Other { .. })
                || before.shards[usize::from(index)].stage == Stage::Putting && matches!(event, Event::Failed { .. });
            assert!(!doubtful || *extent == Full, "what is in doubt is read whole");
        }
        more => panic!("one action for one event: {more:?}"),
    }
    assert!(shard.puts <= after.tries_max && shard.reads <= after.tries_max);
    assert_eq!(
        after.findings().count() - before.findings().count(),
        usize::from(
            matches!(before.shards[usize::from(index)].stage, Stage::Reading(Full))
                && matches!(event, Event::Torn { .. } | Event::Other { .. })
        )
    );
}

#[test]
fn every_order_of_events_keeps_the_promises() {
    let mut states = BTreeMap::new();
    for read_back in [Group, Full] {
        states.insert(
            ("1+0", read_back),
            explore(quorums(1, 0, 0, 0), read_back, &[CreateOnly], TRIES_MAX),
        );
        states.insert(
            ("1+1", read_back),
            explore(quorums(1, 1, 1, 0), read_back, &[CreateOnly, Overwrites], 3),
        );
        states.insert(
            ("2+1", read_back),
            explore(quorums(2, 1, 0, 1), read_back, &[CreateOnly, Overwrites, CreateOnly], 2),
        );
        states.insert(
            ("2+2", read_back),
            explore(quorums(2, 2, 1, 0), read_back, &[CreateOnly; 4], 1),
        );
    }
    assert!(states.values().all(|count| *count > 20), "{states:?}");
}
