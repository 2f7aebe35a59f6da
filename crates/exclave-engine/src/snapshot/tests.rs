//! Heads found, believed, opened or passed over.

use exclave_model::RunObject;
use exclave_plan::heads::Finding;
use exclave_seal::{RecoveryIdentity, SeededEntropy};
use exclave_site::{Fault, Operation, When};

use super::*;
use crate::{
    survey::{Answer, Grade, without},
    testing::{World, directory, file, noise},
};

fn world() -> World {
    let mut world = World::new(2, 1, 1);
    for round in 0..3 {
        world.commit(vec![directory(""), file("a", &noise(round, 5000))]);
    }
    world
}

fn newest() -> Which {
    Which::Newest { dataset: String::new() }
}

#[test]
fn snapshots_come_newest_first() {
    let world = world();
    let snapshots = world.snapshots(Depth::All);
    let seqs: Vec<u64> = snapshots.list().iter().map(|snapshot| snapshot.info.seq).collect();
    assert_eq!(seqs, [2, 1, 0]);
    let info = &snapshots.choose(&newest()).unwrap().info;
    assert_eq!((info.name.as_str(), info.seq, info.counts.files), ("register", 2, 1));
    assert_eq!(info.sites, ["s0", "s1", "s2"]);
    let at = |time| {
        let dataset = "register".to_owned();
        let found = snapshots.choose(&Which::At { dataset, time });
        found.map(|snapshot| snapshot.info.seq)
    };
    assert_eq!(at(1_700_000_160), Ok(1));
    assert!(matches!(
        at(5),
        Err(NoSnapshot::NotYet {
            oldest: 1_700_000_050,
            ..
        })
    ));
    let prefix = snapshots.list()[1].info.head.to_hex()[..10].to_owned();
    assert_eq!(snapshots.choose(&Which::Head { prefix }).unwrap().info.seq, 1);
    let unknown = snapshots.choose(&Which::Newest { dataset: "tax".into() });
    assert!(matches!(unknown, Err(NoSnapshot::NoDataset { known, .. }) if known == ["register"]));
    assert_eq!(world.snapshots(Depth::Newest).list().len(), 1);
}

#[test]
fn a_stale_site_hides_nothing_while_another_answers() {
    let mut world = world();
    let forged = world.commit(vec![directory("")]);
    for stale in [0, 2] {
        world.sites[stale].disk().remove(&forged.head_name);
    }
    let snapshots = world.snapshots(Depth::Newest);
    let newest = snapshots.choose(&newest()).unwrap();
    assert_eq!((newest.info.head, newest.info.sites.len()), (forged.head, 1));
    assert_eq!(newest.freshness.grade, Grade::F2);
}

#[test]
fn freshness_counts_complete_answers() {
    let world = world();
    // 2+1: q = 2, so one site that doesn't answer can hide nothing, two can.
    world.sites[0].inflict(When::any().containing("heads/"), Fault::Deny);
    let freshness = |world: &World| world.snapshots(Depth::Newest).list()[0].freshness;
    assert_eq!(freshness(&world).grade, Grade::F2);
    assert_eq!((freshness(&world).answered, freshness(&world).needed), (2, 2));
    assert_eq!(
        world.survey().answers,
        [Answer::None, Answer::Complete, Answer::Complete]
    );
    let archive = without(&world.archive, &["s1".to_owned()]).unwrap();
    let snapshots = world.snapshots_in(&archive, Depth::Newest);
    assert_eq!(snapshots.list()[0].freshness.grade, Grade::F3);
    assert!(without(&world.archive, &["s9".to_owned()]).is_err());
}

#[test]
fn wrong_bytes_and_junk_are_asked_for_elsewhere_and_counted() {
    let world = world();
    let heads = || When::any().only(&[Operation::Get]).containing("heads/");
    world.sites[0].inflict(heads(), Fault::WrongBytes);
    let writer = world.snapshots(Depth::Newest).list()[0].info.writer;
    let junk = world.archive.names.heads_prefix();
    for name in [
        "zz/not-a-head".to_owned(),
        format!("{}/x/y", writer.to_hex()),
        format!("{}/{}/{:020}.{:016}", writer.to_hex(), "0".repeat(32), 7, 1),
    ] {
        world.sites[1]
            .disk()
            .plant(&junk.join(&name).unwrap(), vec![1, 2, 3].into());
    }
    let survey = world.survey();
    assert_eq!((survey.found.len(), survey.ignored), (3, 3));
    assert!(survey.problems.iter().any(|problem| problem.site == "s0"));
    assert_eq!(world.snapshots(Depth::Newest).list()[0].info.seq, 2);
}

#[test]
fn what_does_not_open_is_passed_over_with_its_reason() {
    let world = world();
    let survey = world.survey();
    let run = survey.found[&survey.heads.newest(world.dataset)[0].hash].head.run;
    // The newest run's envelope is gone from every site.
    for site in &world.sites {
        let objects = site.disk().objects();
        let envelope = objects
            .iter()
            .find(|(name, _)| name.as_str().contains(&format!("{}/envelope", run.to_hex())));
        site.disk().remove(&envelope.unwrap().0);
    }
    let snapshots = world.snapshots(Depth::Newest);
    assert_eq!(snapshots.list()[0].info.seq, 1);
    assert_eq!((snapshots.passed_over().len(), snapshots.passed_over()[0].seq), (1, 2));
    assert!(matches!(&snapshots.passed_over()[0].reason, Reason::Key(error)
        if matches!(&**error, KeyError::NoEnvelope { answers, .. } if answers.len() == 3)));
}

#[test]
fn a_missing_run_table_is_a_reason_too() {
    let mut world = world();
    let forged = world.commit(vec![directory("")]);
    let page = world.survey().found[&forged.head].head.run_pages[0];
    let tag = exclave_model::Tag::of_hash(page.as_bytes());
    let name = world.archive.names.run_object(forged.run, RunObject::Live, tag);
    world.sites[0].disk().remove(&name);
    world.sites[1].disk().plant(&name, vec![0; 40].into());
    assert_eq!(world.snapshots(Depth::Newest).list()[0].info.seq, 3);
    world.sites[2].disk().remove(&name);
    let snapshots = world.snapshots(Depth::Newest);
    assert_eq!(snapshots.list()[0].info.seq, 2);
    assert!(matches!(
        snapshots.passed_over()[0].reason,
        Reason::Table(TableError::Page(_))
    ));
}

#[test]
fn another_identity_opens_nothing() {
    let world = world();
    let stranger = RecoveryIdentity::generate(&mut SeededEntropy::new(123)).unwrap();
    let survey = world.survey();
    let settings = World::settings();
    let snapshots = Snapshots::open(
        &world.archive,
        &survey,
        &stranger,
        Depth::Newest,
        settings,
        &world.surroundings,
    );
    assert!(snapshots.list().is_empty());
    assert_eq!(snapshots.passed_over().len(), 3);
    assert!(matches!(snapshots.choose(&newest()), Err(NoSnapshot::NoDataset { .. })));
    let told = snapshots.passed_over()[0].reason.to_string();
    assert!(told.contains("no stanza"), "{told}");
}

#[test]
fn gaps_are_findings() {
    let world = world();
    let survey = world.survey();
    assert!(survey.findings.is_empty());
    let middle = survey.found.values().find(|found| found.head.seq == 1).unwrap();
    for site in &world.sites {
        let named = |name: &str| name.contains(&format!("/{:020}.", middle.head.seq));
        let objects = site.disk().objects();
        let (name, _) = objects.iter().find(|(name, _)| named(name.as_str())).unwrap();
        site.disk().remove(name);
    }
    let findings = world.survey().findings;
    assert!(
        matches!(findings[..], [Finding::Gap { first: 1, last: 1, .. }]),
        "{findings:?}"
    );
}

#[test]
fn of_a_fork_no_side_is_taken_unless_it_is_named() {
    let mut world = world();
    let forked_from = world.snapshots(Depth::Newest).list()[0].info.head;
    let one = world.commit(vec![directory("")]).head;
    world.roll_back();
    let other = world.commit(vec![directory("")]).head;
    assert!(matches!(world.survey().findings[..], [Finding::Fork { seq: 3, .. }]));

    let snapshots = world.snapshots(Depth::All);
    let refused = snapshots.choose(&newest()).unwrap_err();
    let NoSnapshot::Fork { side, others, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(
        (*side, &others[..]),
        (other, &[one][..]),
        "the later one stands for both"
    );
    let named = |head: exclave_model::RecordHash| {
        let found = snapshots.choose(&Which::Head { prefix: head.to_hex() });
        found.map(|snapshot| snapshot.info.head)
    };
    assert_eq!((named(one), named(other)), (Ok(one), Ok(other)));
    // Before the fork there is nothing to dispute.
    let dataset = "register".to_owned();
    let before = snapshots
        .choose(&Which::At {
            dataset,
            time: 1_700_000_299,
        })
        .unwrap();
    assert_eq!(before.info.head, forked_from);

    // The writer's next life has seen both sides: what it commits follows neither alone.
    world.begin_life(vec![one.min(other), one.max(other)]);
    let settled = world.commit(vec![directory("")]).head;
    let snapshots = world.snapshots(Depth::Newest);
    assert_eq!(snapshots.choose(&newest()).unwrap().info.head, settled);
}

#[test]
fn of_several_newest_the_one_complete_last_is_taken_and_the_others_are_named() {
    let mut world = world();
    let first = world.snapshots(Depth::Newest).list()[0].info.head;
    // It never saw the first life's heads: as new as its last one, of a lower rank, and complete later.
    world.begin_life(Vec::new());
    let second = world.commit(vec![directory("")]).head;
    for depth in [Depth::Newest, Depth::All] {
        let snapshots = world.snapshots(depth);
        let taken = snapshots.choose(&newest()).unwrap();
        assert_eq!(taken.info.head, second);
        let rivals: Vec<_> = snapshots.rivals(taken).iter().map(|rival| rival.info.head).collect();
        assert_eq!(rivals, [first]);
    }
    let snapshots = world.snapshots(Depth::All);
    let at = |time| {
        let dataset = "register".to_owned();
        let found = snapshots.choose(&Which::At { dataset, time });
        found.map(|snapshot| snapshot.info.head)
    };
    assert_eq!((at(1_700_000_299), at(1_700_000_350)), (Ok(first), Ok(second)));
    let older = snapshots.list().last().unwrap();
    assert!(snapshots.rivals(older).is_empty(), "an older one has no rivals");
}
