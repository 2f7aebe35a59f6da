use exclave_model::Geometry;

use super::*;

const NOW: i64 = 1_800_000_000;

fn site(number: u8) -> SiteId {
    SiteId::from_bytes([number; 16])
}

fn run(number: u8) -> RunId {
    RunId::from_bytes([number; 16])
}

fn stripes(number: u8, ordinals: impl IntoIterator<Item = u32>) -> Stripes {
    BTreeMap::from([(run(number), ordinals.into_iter().collect())])
}

/// 2+1 on sites 1 to 3: a quorum is two.
fn collection() -> Collection {
    let quorums = Quorums::new(Geometry::new(2, 1).unwrap(), None, 0).unwrap();
    let layout = Layout::from_sites((1..=3).map(site).collect()).unwrap();
    Collection::new((1..=3).map(site).collect(), vec![(layout, quorums)], stripes(1, 0..10))
}

fn marked() -> Collection {
    let mut collection = collection();
    collection.handle(Event::MarkAt(site(1))).unwrap();
    collection.handle(Event::MarkAt(site(3))).unwrap();
    collection
}

fn closes(collection: &mut Collection, closed: &[u8]) {
    for number in 1..=3 {
        let closed = closed.iter().map(|number| run(*number)).collect();
        collection
            .handle(Event::ClosesRead {
                site: site(number),
                closed,
            })
            .unwrap();
    }
}

fn references(collection: &mut Collection, needed: Stripes, claims: Vec<(RunId, Stripes)>) {
    for number in 1..=3 {
        // One site alone shows them: that is enough to keep what they name.
        let (needed, claims) = match number {
            2 => (needed.clone(), claims.clone()),
            _ => Default::default(),
        };
        collection
            .handle(Event::ReferencesRead {
                site: site(number),
                needed,
                claims,
            })
            .unwrap();
    }
}

#[test]
fn nothing_is_read_before_the_mark_lies_at_its_quorum() {
    let mut early = collection();
    early.handle(Event::MarkAt(site(2))).unwrap();
    early.handle(Event::MarkAt(site(9))).unwrap();
    let refused = early.handle(Event::ClosesRead {
        site: site(1),
        closed: BTreeSet::new(),
    });
    assert_eq!(
        refused,
        Err(NotYet::MarkBelowQuorum {
            layout: 0,
            found: 1,
            needed: 2
        })
    );
}

#[test]
fn every_site_must_answer_both_times() {
    let mut one = marked();
    for number in 1..=2 {
        one.handle(Event::ClosesRead {
            site: site(number),
            closed: [run(1)].into(),
        })
        .unwrap();
    }
    let read = |site| Event::ReferencesRead {
        site,
        needed: Stripes::new(),
        claims: Vec::new(),
    };
    assert_eq!(one.handle(read(site(1))), Err(NotYet::ClosesUnread { missing: 1 }));
    one.handle(Event::ClosesRead {
        site: site(3),
        closed: BTreeSet::new(),
    })
    .unwrap();
    one.handle(read(site(1))).unwrap();
    assert_eq!(one.candidates(), Err(NotYet::ReferencesUnread { missing: 2 }));
}

#[test]
fn what_anybody_needs_or_claims_stays() {
    let mut one = marked();
    closes(&mut one, &[1, 5]);
    let claims = vec![(run(4), stripes(1, [2, 3])), (run(5), stripes(1, [4]))];
    references(&mut one, stripes(1, [0, 1]), claims);
    // Run 5 is closed: only its head would count.
    assert_eq!(one.candidates(), Ok(stripes(1, 4..10)));
}

#[test]
fn open_runs_stay() {
    let mut one = marked();
    closes(&mut one, &[2]);
    references(&mut one, Stripes::new(), Vec::new());
    assert_eq!(one.candidates(), Ok(Stripes::new()));
}

#[test]
fn a_close_after_the_first_head_was_read_counts_for_nothing() {
    let mut one = marked();
    closes(&mut one, &[]);
    let read = |site| Event::ReferencesRead {
        site,
        needed: Stripes::new(),
        claims: Vec::new(),
    };
    one.handle(read(site(1))).unwrap();
    one.handle(Event::ClosesRead {
        site: site(2),
        closed: [run(1)].into(),
    })
    .unwrap();
    one.handle(read(site(2))).unwrap();
    one.handle(read(site(3))).unwrap();
    assert_eq!(one.candidates(), Ok(Stripes::new()));
}

#[test]
fn deletion_waits_for_a_release_and_the_cool_off_and_a_last_look() {
    let mut one = marked();
    closes(&mut one, &[1]);
    references(&mut one, Stripes::new(), Vec::new());
    assert_eq!(one.may_be_deleted(NOW), Err(NotYet::NotReleased));
    // Released: less than was marked, and something that was not.
    let mut released = stripes(1, 3..20);
    released.extend(stripes(7, [0]));
    one.handle(Event::Released {
        stripes: released,
        at: NOW,
    })
    .unwrap();
    let early = one.may_be_deleted(NOW + COOL_OFF_SECONDS - 1);
    assert_eq!(early, Err(NotYet::CoolingOff { seconds: 1 }));
    assert_eq!(
        one.may_be_deleted(NOW - 5),
        Err(NotYet::CoolingOff {
            seconds: COOL_OFF_SECONDS + 5
        })
    );
    one.handle(Event::ReadAgain).unwrap();
    let later = NOW + COOL_OFF_SECONDS;
    assert_eq!(one.may_be_deleted(later), Err(NotYet::ClosesUnread { missing: 3 }));
    closes(&mut one, &[1]);
    references(&mut one, stripes(1, [5]), Vec::new());
    assert_eq!(one.may_be_deleted(later), Ok(stripes(1, [3, 4, 6, 7, 8, 9])));
    // A late look can only keep.
    references(&mut one, stripes(1, [3]), Vec::new());
    assert_eq!(one.may_be_deleted(later), Ok(stripes(1, [4, 6, 7, 8, 9])));
    assert_eq!(one.marked(), &stripes(1, 0..10));
}

#[test]
fn what_is_written_and_not_needed_may_be_marked() {
    let mut written = stripes(1, 0..5);
    written.extend(stripes(2, 0..2));
    let mut needed = stripes(1, [1, 2]);
    needed.extend(stripes(2, 0..2));
    needed.extend(stripes(3, [0]));
    assert_eq!(unneeded(&written, &needed), stripes(1, [0, 3, 4]));
}
