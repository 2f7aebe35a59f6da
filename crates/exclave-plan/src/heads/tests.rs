use exclave_model::Geometry;
use proptest::prelude::*;

use super::*;
use crate::quorum::Quorums;

const A: DatasetId = DatasetId::from_bytes([0xa; 16]);
const B: DatasetId = DatasetId::from_bytes([0xb; 16]);

fn hash(number: u8) -> RecordHash {
    RecordHash::from_bytes([number; 32])
}

fn writer(number: u8) -> KeyId {
    KeyId::from_bytes([number; 32])
}

const LIFE: Incarnation = Incarnation::from_bytes([1; 16]);

fn site(number: u8) -> SiteId {
    SiteId::from_bytes([number; 16])
}

fn head(number: u8, of: u8, seq: u64, previous: Option<u8>, tips: &[u8], dataset: DatasetId) -> HeadFact {
    HeadFact {
        hash: hash(number),
        writer: writer(of),
        incarnation: LIFE,
        seq,
        previous: previous.map(hash),
        tips: tips.iter().copied().map(hash).collect(),
        dataset,
        sites: [site(1)].into(),
    }
}

fn numbers(heads: &[&HeadFact]) -> Vec<u8> {
    heads.iter().map(|head| head.hash.as_bytes()[0]).collect()
}

#[test]
fn the_end_of_a_chain_is_newest_also_through_other_datasets() {
    let heads = Heads::new([
        head(1, 1, 0, None, &[], A),
        head(2, 1, 1, Some(1), &[], B),
        head(3, 1, 2, Some(2), &[], A),
        head(4, 1, 3, Some(3), &[], B),
    ]);
    assert_eq!(numbers(&heads.newest(A)), [3]);
    assert_eq!(numbers(&heads.order(A)), [3, 1]);
    assert_eq!(
        numbers(&heads.newest(B)),
        [4],
        "a head of another dataset supersedes nothing"
    );
    assert_eq!(numbers(&heads.order(B)), [4, 2]);
    assert_eq!(heads.findings(), []);
    assert_eq!(heads.datasets(), [A, B].into());
}

#[test]
fn a_head_that_saw_another_chain_supersedes_it() {
    let chains = [
        head(1, 1, 0, None, &[], A),
        head(2, 1, 1, Some(1), &[], A),
        head(3, 2, 0, None, &[2], A),
    ];
    assert_eq!(numbers(&Heads::new(chains.clone()).newest(A)), [3]);
    let [first, second, mut third] = chains;
    third.tips.clear();
    let unaware = Heads::new([first, second, third]);
    assert_eq!(
        numbers(&unaware.newest(A)),
        [2, 3],
        "both are newest, the higher rank comes first"
    );
    assert_eq!(numbers(&unaware.order(A)), [2, 3, 1]);
}

#[test]
fn ties_are_broken_by_sites_then_ids_whatever_the_order_of_arrival() {
    let mut one = head(9, 1, 0, None, &[], A);
    let two = head(8, 2, 0, None, &[], A);
    let both = |first: &HeadFact, second: &HeadFact| {
        let heads = Heads::new([first.clone(), second.clone()]);
        let order = numbers(&heads.order(A));
        assert_eq!(order, numbers(&Heads::new([second.clone(), first.clone()]).order(A)));
        order
    };
    assert_eq!(both(&one, &two), [9, 8], "the lower writer");
    one.sites = BTreeSet::new();
    assert_eq!(both(&one, &two), [8, 9], "more sites");
    let again = HeadFact {
        sites: [site(2), site(3)].into(),
        ..one.clone()
    };
    let joined = Heads::new([one, two, again]);
    assert_eq!(numbers(&joined.order(A)), [9, 8]);
    assert_eq!(joined.get(hash(9)).unwrap().sites, [site(2), site(3)].into());
}

#[test]
fn a_missing_link_is_bridged_and_reported() {
    let heads = Heads::new([
        head(2, 1, 1, Some(1), &[], A),
        head(3, 1, 2, Some(2), &[77], A),
        head(6, 1, 5, Some(5), &[], A),
    ]);
    assert_eq!(numbers(&heads.newest(A)), [6]);
    assert_eq!(numbers(&heads.order(A)), [6, 3, 2]);
    let gap = |first, last| Finding::Gap {
        writer: writer(1),
        incarnation: LIFE,
        first,
        last,
    };
    let tip = Finding::MissingTip {
        head: hash(3),
        tip: hash(77),
    };
    assert_eq!(heads.findings(), [gap(0, 0), gap(3, 4), tip]);
}

/// A run was killed before its head's first put, and its state rolled back: a new life names the head after the lost one.
#[test]
fn a_head_that_reached_no_site_hides_no_ancestor() {
    let heads = Heads::new([
        head(1, 1, 0, None, &[], A),
        head(3, 1, 2, Some(2), &[], B),
        head(9, 2, 0, None, &[3], A),
    ]);
    assert_eq!(numbers(&heads.newest(A)), [9]);
    assert_eq!(numbers(&heads.newest(B)), [3]);
}

#[test]
fn a_fork_is_evidence_and_hides_neither_branch() {
    let forked = [
        head(1, 1, 0, None, &[], A),
        head(2, 1, 1, Some(1), &[], A),
        head(3, 1, 1, Some(1), &[], A),
    ];
    let fork = Finding::Fork {
        writer: writer(1),
        incarnation: LIFE,
        seq: 1,
        heads: vec![hash(2), hash(3)],
    };
    let heads = Heads::new(forked.clone());
    assert_eq!(heads.findings(), std::slice::from_ref(&fork));
    assert_eq!(numbers(&heads.newest(A)), [2, 3]);

    // Its successor's link is lost: nobody can say from which branch it grew.
    let later = Heads::new(forked.iter().cloned().chain([head(5, 1, 3, Some(4), &[], A)]));
    assert_eq!(numbers(&later.newest(A)), [5, 2, 3]);
    let gap = Finding::Gap {
        writer: writer(1),
        incarnation: LIFE,
        first: 2,
        last: 2,
    };
    assert_eq!(later.findings(), [fork, gap]);
}

#[test]
fn a_predecessor_out_of_place_hides_nothing() {
    let heads = Heads::new([
        head(1, 1, 0, None, &[], A),
        head(2, 1, 1, Some(1), &[], A),
        head(3, 2, 0, None, &[], A),
        head(4, 1, 2, Some(3), &[], A),
    ]);
    assert_eq!(
        numbers(&heads.newest(A)),
        [4],
        "it is later in its chain, whatever it names"
    );
}

#[test]
fn a_predecessor_out_of_place_is_reported() {
    let heads = Heads::new([
        head(1, 1, 0, None, &[], A),
        head(2, 2, 1, Some(1), &[], A),
        head(3, 1, 2, Some(1), &[], A),
    ]);
    let foreign = |number| Finding::ForeignPrevious {
        head: hash(number),
        previous: hash(1),
    };
    let findings = heads.findings();
    assert!(
        findings.contains(&foreign(2)) && findings.contains(&foreign(3)),
        "{findings:?}"
    );
}

#[test]
fn made_up_circles_end() {
    let heads = Heads::new([
        head(1, 1, 4, Some(2), &[1], A),
        head(2, 1, 5, Some(1), &[], A),
        head(3, 1, 6, Some(2), &[], A),
    ]);
    assert_eq!(heads.order(A).len(), 3);
    assert_eq!(numbers(&heads.newest(A)), [3]);
}

#[test]
fn tips_are_the_ends_of_other_chains() {
    let heads = Heads::new([
        head(1, 1, 0, None, &[], A),
        head(2, 1, 1, Some(1), &[11], A),
        head(11, 2, 0, None, &[], A),
        head(21, 3, 0, None, &[], B),
        head(22, 3, 1, Some(21), &[], A),
    ]);
    assert_eq!(heads.tips_for(writer(1), LIFE), [hash(22)], "11 was seen already");
    assert_eq!(heads.tips_for(writer(9), LIFE), [hash(2), hash(22)]);
    let many = (0..=255).map(|number| head(number, number, u64::from(number), Some(254), &[], A));
    let tips = Heads::new(many.filter(|head| head.hash != hash(254))).tips_for(writer(255), LIFE);
    assert_eq!(tips.len(), TIPS_MAX);
    assert!(
        tips.is_sorted() && tips[0] == hash(190),
        "the 64 of the highest rank: 190 to 253"
    );
}

#[test]
fn preflight_compares_the_sites_with_the_journal() {
    let heads = Heads::new([
        head(1, 1, 0, None, &[], A),
        head(2, 1, 1, Some(1), &[], A),
        head(3, 2, 7, Some(9), &[], A),
    ]);
    let of = |journalled: Option<(u64, u8)>| {
        heads.preflight(writer(1), LIFE, journalled.map(|(seq, number)| (seq, hash(number))))
    };
    assert_eq!(
        of(Some((1, 2))),
        Preflight::Continue {
            seq: 2,
            previous: Some(hash(2))
        }
    );
    assert_eq!(
        of(Some((4, 9))),
        Preflight::Continue {
            seq: 5,
            previous: Some(hash(9))
        },
        "the sites may lag behind the journal"
    );
    assert_eq!(
        of(Some((0, 1))),
        Preflight::Ahead {
            seq: 1,
            shown: vec![hash(2)]
        }
    );
    assert_eq!(
        of(None),
        Preflight::Ahead {
            seq: 1,
            shown: vec![hash(2)]
        }
    );
    assert_eq!(of(Some((1, 9))), Preflight::OtherBytes { seq: 1, shown: hash(2) });
    let other_life = Incarnation::from_bytes([2; 16]);
    assert_eq!(
        heads.preflight(writer(1), other_life, None),
        Preflight::Continue { seq: 0, previous: None }
    );
    let forked = Heads::new([head(1, 1, 0, None, &[], A), head(2, 1, 0, None, &[], A)]);
    assert_eq!(
        forked.preflight(writer(1), LIFE, Some((3, hash(4)))),
        Preflight::OtherBytes { seq: 0, shown: hash(2) }
    );
}

#[test]
fn freshness_needs_r_answers() {
    let quorums = Quorums::new(Geometry::new(4, 5).unwrap(), None, 1).unwrap();
    assert_eq!(quorums.answers(), 4);
    for answered in 0..=9 {
        let (plain, cosigned) = match answered {
            0..=3 => (Grade::F3, Grade::F3),
            _ => (Grade::F2, Grade::F1),
        };
        assert_eq!(grade(answered, usize::from(quorums.answers()), Cosigned::No), plain);
        assert_eq!(
            grade(answered, usize::from(quorums.answers()), Cosigned::Recently),
            cosigned
        );
    }
}

/// Random histories: each head extends one of four chains and has seen some heads of the others.
fn histories() -> impl Strategy<Value = Vec<HeadFact>> {
    proptest::collection::vec((0..4_u8, any::<u32>(), any::<bool>()), 1..24).prop_map(|steps| {
        let mut facts: Vec<HeadFact> = Vec::new();
        for (number, (of, seen, first_dataset)) in (0..).zip(steps) {
            let last = facts.iter().rfind(|fact| fact.writer == writer(of));
            let (seq, previous) = last.map_or((0, None), |fact| (fact.seq + 1, Some(fact.hash.as_bytes()[0])));
            let tips: Vec<u8> = (0..number)
                .filter(|tip| seen >> tip & 1 == 1 && seen % 3 == 0)
                .collect();
            facts.push(head(
                number,
                of,
                seq,
                previous,
                &tips,
                if first_dataset { A } else { B },
            ));
        }
        facts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn orders_are_the_same_for_everyone_and_follow_the_links(
        facts in histories(),
        lost in any::<u32>(),
        turn in any::<proptest::sample::Index>(),
    ) {
        let shown: Vec<HeadFact> =
            facts.iter().zip(0..).filter(|(_, bit)| lost >> bit & 7 != 7).map(|(fact, _)| fact.clone()).collect();
        let heads = Heads::new(shown.clone());
        let mut turned = shown.clone();
        if !turned.is_empty() {
            turned.rotate_left(turn.index(shown.len()));
        }
        let again = Heads::new(turned);
        prop_assert_eq!(heads.findings(), again.findings());
        for dataset in [A, B] {
            let order = numbers(&heads.order(dataset));
            prop_assert_eq!(&order, &numbers(&again.order(dataset)));
            let own = shown.iter().filter(|fact| fact.dataset == dataset).count();
            prop_assert_eq!(order.len(), own);
            prop_assert_eq!(heads.newest(dataset).is_empty(), own == 0);
            prop_assert!(order.starts_with(&numbers(&heads.newest(dataset))));
            for fact in heads.order(dataset) {
                let place = |number: u8| order.iter().position(|&other| other == number);
                for parent in fact.previous.iter().chain(&fact.tips) {
                    let parent = parent.as_bytes()[0];
                    prop_assert!(place(parent).is_none_or(|at| Some(at) > place(fact.hash.as_bytes()[0])));
                    prop_assert!(!numbers(&heads.newest(dataset)).contains(&parent) || place(parent).is_none());
                }
            }
        }
    }
}

#[test]
fn a_side_of_a_fork_is_never_taken_unasked() {
    let fork = || {
        vec![
            head(1, 1, 0, None, &[], A),
            head(2, 1, 1, Some(1), &[], A),
            head(3, 1, 1, Some(1), &[], A),
        ]
    };
    let heads = Heads::new(fork());
    assert_eq!(heads.other_sides(hash(1)), [], "before the fork there are no sides");
    assert_eq!(heads.other_sides(hash(2)), [hash(3)]);
    assert_eq!(heads.other_sides(hash(3)), [hash(2)]);
    assert_eq!(heads.other_sides(hash(9)), [], "not here");

    let mut longer = fork();
    longer.push(head(4, 1, 2, Some(3), &[], A));
    let heads = Heads::new(longer);
    assert_eq!(numbers(&heads.newest(A)), [4, 2]);
    assert_eq!(heads.other_sides(hash(4)), [hash(2)], "what follows a side is on it");

    let mut settled = fork();
    settled.push(head(5, 2, 0, None, &[2, 3], A));
    let heads = Heads::new(settled);
    assert_eq!(heads.other_sides(hash(5)), [], "it has seen both");
    assert_eq!(heads.other_sides(hash(2)), [hash(5)], "the past stays contested");
}

#[test]
fn a_fork_in_another_dataset_contests_nothing_here() {
    let mut heads = vec![
        head(1, 1, 0, None, &[], B),
        head(2, 1, 0, None, &[], B),
        head(3, 1, 1, Some(2), &[], A),
    ];
    assert_eq!(Heads::new(heads.clone()).other_sides(hash(3)), []);
    heads.push(head(4, 1, 1, Some(1), &[], A));
    assert_eq!(Heads::new(heads).other_sides(hash(3)), [hash(4)]);
}

#[test]
fn newest_among_some_leaves_out_ancestors_only() {
    let heads = Heads::new([
        head(1, 1, 0, None, &[], A),
        head(2, 1, 1, Some(1), &[], A),
        head(3, 2, 0, None, &[], A),
    ]);
    let among = |hashes: &[u8]| heads.newest_among(&hashes.iter().copied().map(hash).collect());
    assert_eq!(among(&[1, 2, 3]), [hash(2), hash(3)].into());
    assert_eq!(among(&[1, 3]), [hash(1), hash(3)].into());
}
