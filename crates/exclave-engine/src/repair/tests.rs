//! Repairs of the small world: what is lost comes back as it was, and a repair that goes wrong makes nothing worse.

use std::time::Duration;

use bytes::Bytes;
use exclave_model::{ObjectName, context::HEADER_BYTES, report::Verdict};
use exclave_plan::audit::Nonce;
use exclave_site::{Crash, Fault, Operation, SimulatedSite, Steps, When};

use super::*;
use crate::{
    audit::Mode,
    charter::{Publishing, publish_charter},
    testing::{Forged, ROOT, World, file, noise, signing_key},
};

fn request() -> AuditRequest {
    AuditRequest {
        mode: Mode::Full,
        datasets: None,
        nonce: Nonce::from_bytes([0; 32]),
        deadline: Duration::from_secs(5),
        forecast_only: false,
        troubles: Vec::new(),
    }
}

fn run(world: &World, dry_run: bool) -> RepairReport {
    repair(
        &world.archive,
        &world.survey(),
        &request(),
        dry_run,
        &world.surroundings,
    )
}

fn verdict(world: &World) -> Verdict {
    crate::audit::audit(&world.archive, &world.survey(), &request(), &world.surroundings).verdict
}

/// 2+2 over four sites, two snapshots.
fn world() -> (World, Forged) {
    let mut world = World::new(2, 2, 2);
    world.commit(vec![file("first", &noise(1, 300_000))]);
    let forged = world.commit(vec![file("second", &noise(2, 500_000))]);
    assert!(forged.stripes.len() >= 2, "{}", forged.stripes.len());
    (world, forged)
}

/// Every object of every site.
fn everything(world: &World) -> Vec<Vec<(ObjectName, Bytes)>> {
    let sites = world.sites.iter();
    sites.map(|site| site.disk().objects().into_iter().collect()).collect()
}

fn named(site: &SimulatedSite, text: &str) -> ObjectName {
    let mut names = site.disk().objects().into_iter().map(|(name, _)| name);
    names.find(|name| name.as_str().contains(text)).unwrap()
}

fn flip(site: &SimulatedSite, name: &ObjectName, at: usize) {
    let mut bytes = site.disk().read(name).unwrap().to_vec();
    bytes[at] ^= 1;
    site.disk().plant(name, bytes.into());
}

/// Of the first stripe shard 0 is gone and shard 1 spoilt; of the second shard 2 has a wrong trailer and shard 3 is cut.
fn damage(world: &World, forged: &Forged) {
    let name = |stripe: usize, index: u8| world.shard_name(&forged.stripes[stripe], index);
    world.sites[0].disk().remove(&name(0, 0));
    flip(&world.sites[1], &name(0, 1), HEADER_BYTES + 7);
    let last = world.sites[2].disk().read(&name(1, 2)).unwrap().len() - 1;
    flip(&world.sites[2], &name(1, 2), last);
    let cut = world.sites[3].disk().read(&name(1, 3)).unwrap().slice(..1000);
    world.sites[3].disk().plant(&name(1, 3), cut);
}

#[test]
fn what_was_lost_comes_back_as_it_was() {
    let (world, forged) = world();
    let sound = everything(&world);
    damage(&world, &forged);
    // Small records, too.
    let lost = ["/ledger.", "/heads/", "/envelope.", "/charter/"];
    for (site, text) in world.sites.iter().zip(lost) {
        let name = named(site, text);
        match text {
            "/ledger." | "/charter/" => drop(site.disk().remove(&name)),
            _ => flip(site, &name, 70),
        };
    }
    let broken = everything(&world);
    let dry = run(&world, true);
    assert_eq!((dry.stripes, dry.shards, dry.margin_before), (2, 4, Some(0)));
    assert_eq!(dry.records.as_ref().unwrap().copied, 4);
    assert!(everything(&world) == broken, "a dry run writes nothing");

    let done = run(&world, false);
    assert_eq!(done.mended.values().sum::<u64>(), 4);
    assert_eq!(
        (done.left.len(), done.moved, done.displaced),
        (0, 0, 0),
        "{:?}",
        done.left
    );
    assert_eq!(done.records.as_ref().unwrap().copied, 4);
    assert!(everything(&world) == sound, "every site is as it was before");
    assert_eq!(verdict(&world), Verdict::Whole);
    let again = run(&world, false);
    assert_eq!((again.stripes, again.records.unwrap().copied), (0, 0));
}

#[test]
fn what_can_not_be_mended_is_said_and_the_rest_is() {
    let (world, forged) = world();
    let name = |stripe: usize, index: u8| world.shard_name(&forged.stripes[stripe], index);
    for index in 0..3 {
        world.sites[usize::from(index)].disk().remove(&name(0, index));
    }
    world.sites[3].disk().remove(&name(1, 3));
    let done = run(&world, false);
    assert_eq!((done.stripes, done.unrecoverable, done.margin_before), (2, 1, Some(-1)));
    assert_eq!(done.mended, [("s3".to_owned(), 1)].into());
    let left: u64 = done.left.values().sum();
    assert_eq!(left, 3);
    assert!(done.left.keys().all(|left| left.reason.contains("fewer than k")));
    // A site that refuses puts: told, and mended the next time.
    let (world, forged) = self::world();
    damage(&world, &forged);
    world.sites[1].inflict(When::any().only(&[Operation::Put]), Fault::Deny);
    let done = run(&world, false);
    assert_eq!((done.mended.len(), done.left.len()), (3, 1));
    assert_eq!(done.left.keys().next().unwrap().site, "s1");
    world.sites[1].calm();
    assert_eq!(run(&world, false).mended, [("s1".to_owned(), 1)].into());
    assert_eq!(verdict(&world), Verdict::Whole);
}

#[test]
fn a_store_that_spoils_or_keeps_other_bytes_is_put_beside() {
    let (world, forged) = world();
    let name = world.shard_name(&forged.stripes[0], 0);
    flip(&world.sites[0], &name, HEADER_BYTES);
    // It says yes to whatever is put under that name, and keeps what it has.
    world.sites[0].inflict(
        When::any().only(&[Operation::Put]).containing(name.as_str()).times(1),
        Fault::Vanish,
    );
    let done = run(&world, false);
    assert_eq!((done.mended, done.displaced), ([("s0".to_owned(), 1)].into(), 1));
    assert!(named(&world.sites[0], &format!("{name}.1")).as_str().ends_with(".1"));
    // An audit names what lies under the first name, and counts the shard.
    assert_eq!(verdict(&world), Verdict::Findings);
    assert_eq!(run(&world, false).stripes, 0);
}

#[test]
fn a_death_at_any_step_makes_nothing_worse() {
    let taken = {
        let (world, forged) = world();
        damage(&world, &forged);
        let before = world.steps.taken();
        assert_eq!(run(&world, false).mended.len(), 4);
        world.steps.taken() - before
    };
    for step in (0..taken).step_by(3) {
        let (world, forged) = world();
        damage(&world, &forged);
        let sound = |world: &World| {
            let good = |(site, name): (usize, ObjectName), record: &exclave_model::StripeRecord, index| {
                let found = world.sites[site].disk().read(&name);
                found.is_some_and(|found| exclave_stripe::verify_shard(record, index, &found).is_ok())
            };
            let each = forged
                .stripes
                .iter()
                .flat_map(|record| (0..4u8).map(move |index| (record, index)));
            each.filter(|(record, index)| good((usize::from(*index), world.shard_name(record, *index)), record, *index))
                .count()
        };
        let before = sound(&world);
        let (survey, request) = (world.survey(), request());
        world.steps.crash_at(world.steps.taken() + step, Crash::Before);
        let _ = repair(&world.archive, &survey, &request, false, &world.surroundings);
        world.steps.restart();
        assert!(sound(&world) >= before, "a death at step {step}");
        run(&world, false);
        assert_eq!(verdict(&world), Verdict::Whole, "a death at step {step}");
    }
}

#[test]
fn shards_of_a_dropped_site_move_to_the_new_one() {
    let (mut world, _) = world();
    let root = signing_key(ROOT);
    world
        .sites
        .push(SimulatedSite::simulated("s4", 1, &Steps::new()).unwrap());
    world.reopen();
    let mut record = world.archive.charter().sites[0].clone();
    (record.id, record.name) = (SiteId::from_bytes([40; 16]), "s4".to_owned());
    let gone = world.archive.charter().sites[3].id;
    let proposal = world.propose(&[&root], move |next| {
        next.sites.retain(|site| site.id != gone);
        next.sites.push(record);
    });
    publish_charter(&world.archive, &proposal, Publishing::default(), &world.surroundings).unwrap();
    world.sites[3].disk().clear();
    world.reopen();
    let dry = run(&world, true);
    assert!(
        dry.stripes >= 2 && dry.stripes == dry.shards,
        "{} {}",
        dry.stripes,
        dry.shards
    );
    let done = run(&world, false);
    assert_eq!((done.mended.get("s4"), done.moved), (Some(&dry.stripes), dry.stripes));
    assert_eq!(done.left.len(), 0, "{:?}", done.left);
    let again = run(&world, false);
    assert_eq!(again.stripes, 0, "an audit finds them where they are");
    // Two of the old ones go, too: what was moved is needed.
    world.sites[0].disk().clear();
    world.sites[1].disk().clear();
    world.reopen();
    let snapshots = world.snapshots(crate::snapshot::Depth::Newest);
    let snapshot = &snapshots.list()[0];
    let selection = crate::restore::Selection::new(Vec::new(), &[]).unwrap();
    let target = crate::restore::Target::Nothing;
    let restored = crate::restore::restore(&snapshots, snapshot, &selection, target, &world.surroundings).unwrap();
    assert_eq!((restored.lost.count, restored.lost.gaps_count), (0, 0));
}
