//! A keeper at stores that lock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use exclave_site::{Destroy as _, Keep, MemorySite, Operation, Versions as _};

use crate::{
    audit::locks::{DAY_S, LockReport, LockRequest, locks},
    testing::{World, file, noise},
};

/// A time at which the stores' clocks stand; the local one is years off.
const NOW: i64 = 1_900_000_000;

/// 2+2 over four stores, of which two lock for thirty days what is put, with one snapshot.
fn world() -> World {
    let mut world = World::new(2, 2, 2);
    for site in world.sites.iter().take(2) {
        site.disk().lock_by_default(30, NOW);
        // What was planted before comes again, so that all of it is locked.
        for (name, bytes) in site.disk().objects() {
            site.disk().remove(&name);
            site.disk().plant(&name, bytes);
        }
    }
    world.commit(vec![file("first", &noise(1, 300_000))]);
    world
}

fn keep(world: &World, days: Option<u32>, dry_run: bool) -> LockReport {
    let deadline = Duration::from_secs(5);
    let request = LockRequest {
        days,
        dry_run,
        deadline,
    };
    let keeps: BTreeMap<usize, Arc<dyn Keep>> = (0..4)
        .map(|at| (at, Arc::new(world.sites[at].inner().clone()) as Arc<dyn Keep>))
        .collect();
    locks(&world.archive, &world.survey(), &request, &keeps, &world.surroundings)
}

/// Until when every object's only version is locked.
fn until(world: &World, site: &MemorySite) -> Vec<Option<i64>> {
    let objects = site.store().objects();
    world.surroundings.runtime.block_on(async {
        let mut all = Vec::new();
        for (name, _) in objects {
            all.push(site.lock_of(&name, None).await.unwrap().map(|locked| locked.until));
        }
        all
    })
}

#[test]
fn a_keeper_looks_extends_what_falls_short_and_then_nothing() {
    let world = world();
    let objects = world.sites[0].disk().objects().len() as u64;
    let report = keep(&world, None, false);
    let [one, two, three, _] = report.sites.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!((report.unread, report.interrupted), (0, false));
    for site in [one, two] {
        assert_eq!(
            (site.objects, site.missing, site.unlocked, site.failed),
            (objects, 0, 0, 0),
            "{site:?}"
        );
        assert_eq!((site.falls_out, site.now), ([0, objects, 0], NOW), "{site:?}");
        assert_eq!(site.earliest.as_ref().unwrap().0, NOW + 30 * DAY_S);
        assert_eq!((site.short, site.extended), (0, 0));
    }
    assert!(three.unknown.is_some() && three.objects == 0);

    // A rehearsal says what it costs.
    let report = keep(&world, Some(90), true);
    assert_eq!((report.sites[0].short, report.sites[0].extended), (objects, 0));
    assert!(
        until(&world, world.sites[0].inner())
            .iter()
            .all(|until| *until == Some(NOW + 30 * DAY_S))
    );

    let report = keep(&world, Some(90), false);
    assert_eq!(
        (report.sites[0].short, report.sites[0].extended, report.sites[0].failed),
        (objects, objects, 0)
    );
    assert_eq!(report.sites[0].falls_out, [0, 0, 0]);
    assert!(
        until(&world, world.sites[1].inner())
            .iter()
            .all(|until| *until == Some(NOW + 90 * DAY_S))
    );

    // Again, and for less: nothing is left to do, and nothing is shortened.
    for days in [90, 10] {
        let report = keep(&world, Some(days), false);
        assert_eq!((report.sites[0].short, report.sites[0].extended), (0, 0), "{days}");
    }
    assert!(
        until(&world, world.sites[0].inner())
            .iter()
            .all(|until| *until == Some(NOW + 90 * DAY_S))
    );

    // Nobody locks for longer than the cap.
    let report = keep(&world, Some(100_000), false);
    assert_eq!(report.sites[0].extended, objects);
    assert!(
        until(&world, world.sites[0].inner())
            .iter()
            .all(|until| *until == Some(NOW + 400 * DAY_S))
    );
}

#[test]
fn what_is_needed_is_locked_and_not_what_a_thief_put_there() {
    let world = world();
    let site = &world.sites[0];
    let objects = site.disk().objects();
    let shard = objects
        .iter()
        .map(|(name, _)| name)
        .find(|name| name.as_str().contains("/shards/"))
        .unwrap();
    let charter = objects
        .iter()
        .map(|(name, _)| name)
        .find(|name| name.as_str().contains("/charter/"))
        .unwrap();
    site.disk().plant(shard, b"garbage".as_slice().into());
    world.surroundings.runtime.block_on(site.delete(charter)).unwrap();
    let foreign = shard.as_str().replace("/shards/", "/shards/ff");
    site.disk().plant(
        &exclave_model::ObjectName::parse(&foreign).unwrap(),
        b"foreign".as_slice().into(),
    );
    let report = keep(&world, Some(90), false);
    let tally = &report.sites[0];
    assert_eq!(
        (tally.objects, tally.extended, tally.beneath),
        (objects.len() as u64, objects.len() as u64, 2)
    );
    for name in [shard, charter] {
        let found = world
            .surroundings
            .runtime
            .block_on(site.inner().versions_of(name, 9))
            .unwrap();
        let ours = found.kept.last().unwrap();
        let locked = world
            .surroundings
            .runtime
            .block_on(site.inner().lock_of(name, Some(&ours.id)))
            .unwrap();
        assert_eq!(locked.unwrap().until, NOW + 90 * DAY_S);
    }
    // What nobody needs keeps the lock that it came with.
    let garbage = world
        .surroundings
        .runtime
        .block_on(site.inner().lock_of(shard, None))
        .unwrap();
    assert_eq!(garbage.unwrap().until, NOW + 30 * DAY_S);
}

#[test]
fn what_is_missing_or_refused_is_told() {
    let world = world();
    let site = &world.sites[1];
    let shards = site.disk().objects().into_iter().map(|(name, _)| name);
    let shards: Vec<_> = shards.filter(|name| name.as_str().contains("/shards/")).collect();
    site.disk().remove(&shards[0]);
    // Later, nothing is locked any more.
    site.disk().set_clock(NOW + 31 * DAY_S);
    let report = keep(&world, None, false);
    let tally = &report.sites[1];
    assert_eq!(
        (tally.missing, tally.unlocked, tally.falls_out),
        (1, tally.objects, [0, 0, 0])
    );
    let denied = exclave_site::When::any()
        .only(&[Operation::LockOf])
        .containing("/heads/");
    site.inflict(denied, exclave_site::Fault::Deny);
    let report = keep(&world, None, false);
    assert_eq!(report.sites[1].failed, 1);
    assert!(report.sites[1].said.as_ref().unwrap().contains("denied"), "{report:?}");
}
