use exclave_model::{Charter, Record as _, Tag, Version1};
use exclave_seal::SeededEntropy;
use exclave_site::{Fault, When};

use super::*;
use crate::{
    charter::{Publishing, publish_charter},
    collect::{HoldError, holds, place_hold},
    testing::{AUDITOR, Forged, RESTORER, ROOT, WRITER, World, file, noise, signing_key},
};

/// The world's clock stands at 1,000 s: what was received so long ago is far in its past.
const LONG_AGO: i64 = -1_000_000_000;
const RULES: Retention = Retention {
    within_days: 0,
    daily: 0,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    ..Retention::proposed(0)
};

/// A world with so many snapshots of its own stripes each, and rules that keep three.
fn world(snapshots: u64) -> (World, Vec<Forged>) {
    let mut world = World::new(2, 1, 1);
    let forged = (0..snapshots).map(|number| world.commit(vec![file("register", &noise(number, 50_000))]));
    let forged: Vec<_> = forged.collect();
    let root = signing_key(ROOT);
    let proposal = world.propose(&[&root], |next: &mut Charter| next.retention = Some(vec![RULES]));
    publish_charter(&world.archive, &proposal, Publishing::default(), &world.surroundings).unwrap();
    world.reopen();
    (world, forged)
}

/// Everything was first seen long ago, the charters too.
fn remembering(world: &World) -> Memory {
    let seen = planned(world, &Memory::default()).receipts;
    Memory {
        receipts: seen.into_keys().map(|record| (record, LONG_AGO)).collect(),
        verified: BTreeSet::new(),
    }
}

fn planned(world: &World, memory: &Memory) -> CollectPlan {
    plan(&world.archive, memory, &world.surroundings).unwrap()
}

fn dropped(plan: &CollectPlan) -> BTreeSet<RecordHash> {
    let snapshots = plan.datasets.iter().flat_map(|dataset| &dataset.snapshots);
    snapshots
        .filter(|snapshot| snapshot.kept.is_empty())
        .map(|snapshot| snapshot.head)
        .collect()
}

#[test]
fn nothing_goes_while_nobody_remembers_when_it_came() {
    let (world, _) = world(6);
    let plan = planned(&world, &Memory::default());
    assert_eq!(dropped(&plan), BTreeSet::new());
    assert_eq!(plan.receipts.len(), 6 + 2, "heads and charters");
    assert_eq!(plan.obstacles, [Obstacle::NewCharter { hours: 72 }]);
}

#[test]
fn what_only_old_snapshots_need_would_go() {
    let (world, forged) = world(6);
    let plan = planned(&world, &remembering(&world));
    assert_eq!(plan.obstacles, []);
    // The forged run tables name every run before them: the oldest snapshots' stripes are still needed.
    assert_eq!(dropped(&plan), forged[..3].iter().map(|forged| forged.head).collect());
    let [dataset] = plan.datasets.as_slice() else {
        panic!("one dataset")
    };
    assert_eq!((dataset.class, dataset.rules), (Some(0), Some(RULES)));
    assert_eq!((dataset.stripes.len(), dataset.bytes_max), (0, 0));
}

#[test]
fn verified_and_held_snapshots_stay() {
    let (world, forged) = world(7);
    let mut memory = remembering(&world);
    memory.verified.insert(forged[0].head);
    let scopes = [HoldScope::Snapshot(forged[1].head), HoldScope::Dataset(world.dataset)];
    let hold = |scope, releases| Hold {
        format: Version1,
        anchor: world.archive.anchor,
        charter_version: 2,
        scope,
        created: 0,
        reason: "a case".to_owned(),
        releases,
    };
    let put = |hold: &Hold| {
        let object = signing_key(ROOT).sign(hold, &mut SeededEntropy::new(5)).unwrap();
        let bytes = bytes::Bytes::from(object.to_bytes());
        // One site that shows it is enough.
        world.sites[1]
            .disk()
            .plant(&world.archive.names.hold(Tag::of(&bytes)), bytes);
        object.record_hash()
    };
    put(&hold(scopes[0], None));
    let expected: BTreeSet<_> = forged[2..4].iter().map(|forged| forged.head).collect();
    assert_eq!(dropped(&planned(&world, &memory)), expected);
    let whole = put(&hold(scopes[1], None));
    assert_eq!(dropped(&planned(&world, &memory)), BTreeSet::new());
    put(&hold(scopes[1], Some(whole)));
    let plan = planned(&world, &memory);
    assert_eq!(dropped(&plan), expected);
    assert_eq!(plan.holds.len(), 1);
    assert!(hold(scopes[0], None).to_bytes().is_ok());
}

#[test]
fn a_silent_site_is_an_obstacle() {
    let (world, _) = world(4);
    let memory = remembering(&world);
    world.sites[2].inflict(When::any(), Fault::Deny);
    let plan = planned(&world, &memory);
    assert_eq!(plan.obstacles, [Obstacle::Silent("s2".to_owned())]);
}

#[test]
fn a_fork_keeps_its_chain() {
    let (mut world, _) = world(5);
    world.roll_back();
    world.commit(vec![file("register", &noise(77, 50_000))]);
    world.reopen();
    let plan = planned(&world, &remembering(&world));
    assert_eq!(dropped(&plan), BTreeSet::new());
}

#[test]
fn holds_are_placed_by_people_with_standing_and_ended_by_roots() {
    let (world, forged) = world(4);
    let signed = |number: u8, releases| {
        let hold = Hold {
            format: Version1,
            anchor: world.archive.anchor,
            charter_version: 2,
            scope: HoldScope::Snapshot(forged[0].head),
            created: 0,
            reason: "a case".to_owned(),
            releases,
        };
        signing_key(number).sign(&hold, &mut SeededEntropy::new(6)).unwrap()
    };
    let put = |number, releases| place_hold(&world.archive, &signed(number, releases), &world.surroundings);
    for number in [WRITER, RESTORER, AUDITOR, 99] {
        assert!(
            matches!(put(number, None), Err(HoldError::Unbelievable(_))),
            "key {number}"
        );
    }
    let unknown = RecordHash::from_bytes([8; 32]);
    assert!(matches!(put(ROOT, Some(unknown)), Err(HoldError::NotThere(hash)) if hash == unknown));
    let placed = put(ROOT, None).unwrap();
    assert_eq!(placed.sites, 3);
    let in_force = || holds(&world.archive, &world.surroundings);
    assert_eq!(in_force().into_keys().collect::<Vec<_>>(), [placed.hash]);
    assert!(put(ROOT, Some(placed.hash)).is_ok());
    assert!(in_force().is_empty());
}

#[test]
fn what_was_there_before_an_alarm_stays() {
    let (world, forged) = world(5);
    let survey = world.survey();
    let mut heads: Vec<FoundHead> = survey.found.into_values().collect();
    for found in &mut heads {
        // The fourth of its chain, and the first, which has nothing before it.
        if [forged[0].head, forged[3].head].contains(&found.hash) {
            found.head.tripwires = Some(vec![exclave_model::Tripwire::ALL[0]]);
        }
    }
    let heads: Vec<&FoundHead> = heads.iter().collect();
    assert_eq!(before_alarm(&heads), BTreeSet::from([forged[2].head]));
}
