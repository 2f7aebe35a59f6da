//! A thief at stores that keep versions: everything lies beneath what he put, and everything is found.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use exclave_dataset::sink::Options;
use exclave_model::report::{Outcome, Verdict};
use exclave_plan::audit::{Detection, Nonce};
use exclave_site::{Destroy as _, Operation, Site};

use crate::{
    Archive,
    audit::{AuditRequest, Mode, audit},
    repair::repair,
    restore::{self, Selection, Target, restore},
    snapshot::Depth,
    survey::survey,
    testing::{World, file, noise},
};

/// 2+2 over four stores that keep versions, two snapshots of a few stripes.
fn world() -> World {
    let mut world = World::new(2, 2, 2);
    world.commit(vec![file("first", &noise(1, 300_000))]);
    world.commit(vec![file("second", &noise(2, 500_000))]);
    for site in &world.sites {
        site.disk().keep_versions();
    }
    world
}

/// Lays something on top of every object of every store: delete markers, other bytes, shorter and longer ones, many of them.
fn poison(world: &World) -> u64 {
    let mut count = 0;
    for site in &world.sites {
        for (number, (name, bytes)) in site.disk().objects().into_iter().enumerate() {
            let garbage: Vec<Vec<u8>> = match number % 4 {
                0 => vec![],
                1 => vec![vec![7; bytes.len()]],
                2 => vec![bytes[..bytes.len() / 2].to_vec(), b"other".to_vec()],
                _ => (0..40).map(|at| vec![at; bytes.len() + 1]).collect(),
            };
            let hide = garbage.is_empty() || number % 8 > 4;
            for other in garbage {
                site.disk().plant(&name, other.into());
            }
            if hide {
                world.surroundings.runtime.block_on(site.delete(&name)).unwrap();
            }
            count += 1;
        }
    }
    count
}

/// As somebody opens it who knows the anchor alone.
fn opened(world: &World) -> Archive {
    let stores = world
        .sites
        .iter()
        .map(|site| (String::new(), Arc::new(site.clone()) as Arc<dyn Site>));
    let opening = Archive::open(world.archive.anchor, stores.collect());
    let (archive, troubles) = world.surroundings.runtime.block_on(opening).unwrap();
    assert!(troubles.is_empty());
    archive
}

fn restored(world: &World, archive: &Archive, which: usize) -> BTreeMap<String, Vec<u8>> {
    let snapshots = world.snapshots_in(archive, Depth::All);
    let snapshot = &snapshots.list()[which];
    let folder = tempfile::tempdir().unwrap();
    let target = Target::Directory(folder.path().to_owned(), Options::default());
    let report = restore(&snapshots, snapshot, &Selection::all(), target, &world.surroundings).unwrap();
    assert_eq!(report.outcome(), restore::Outcome::Complete);
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            std::fs::read(&path).unwrap(),
        )
    };
    entries.map(read).collect()
}

#[test]
fn everything_comes_back_from_beneath() {
    let world = world();
    let count = poison(&world);
    let archive = opened(&world);
    let of = |name: &str, bytes: Vec<u8>| BTreeMap::from([(name.to_owned(), bytes)]);
    assert_eq!(restored(&world, &archive, 0), of("second", noise(2, 500_000)));
    assert_eq!(restored(&world, &archive, 1), of("first", noise(1, 300_000)));
    let poisoned = archive.poisoned();
    assert_eq!(poisoned.len(), 4);
    let seen: u64 = poisoned.iter().map(|site| site.count).sum();
    // Of each stripe two shards were enough.
    assert!(seen > count / 3 && seen <= count, "{seen} of {count}");
    assert!(poisoned.iter().all(|site| site.on_top > site.count), "{poisoned:?}");
}

#[test]
fn audits_count_what_is_there_and_tell_what_lies_on_top() {
    let world = world();
    let count = poison(&world);
    for mode in [Mode::Heads, Mode::Sample(Detection::default()), Mode::Full, Mode::Deep] {
        let archive = opened(&world);
        let survey = survey(&archive, &world.surroundings).unwrap();
        let request = AuditRequest {
            mode,
            datasets: None,
            nonce: Nonce::from_bytes([9; 32]),
            deadline: Duration::from_secs(5),
            forecast_only: false,
            troubles: Vec::new(),
        };
        let audit = audit(&archive, &survey, &request, &world.surroundings);
        let others: Vec<_> = audit
            .findings
            .first
            .iter()
            .filter(|finding| finding.kind != "poisoned")
            .collect();
        assert!(others.is_empty(), "{mode:?}: {others:?}");
        assert_eq!((audit.verdict, audit.facts.alarms), (Verdict::Findings, 4), "{mode:?}");
        assert_eq!(
            (audit.facts.shards_not_ok, audit.facts.records_not_ok),
            (0, 0),
            "{mode:?}"
        );
        for site in &audit.sites {
            assert_eq!(site.shards.not_ok() + site.records.not_ok(), 0, "{mode:?}");
            assert!(mode == Mode::Heads || site.shards.get(Outcome::Ok) > 0, "{mode:?}");
        }
        if mode == Mode::Deep {
            assert_eq!(audit.findings.total, count);
        }
    }
}

#[test]
fn what_is_only_hidden_is_not_mended() {
    let world = world();
    poison(&world);
    let archive = opened(&world);
    let survey = survey(&archive, &world.surroundings).unwrap();
    let request = AuditRequest {
        mode: Mode::Full,
        datasets: None,
        nonce: Nonce::from_bytes([0; 32]),
        deadline: Duration::from_secs(5),
        forecast_only: false,
        troubles: Vec::new(),
    };
    let puts = || world.sites.iter().map(|site| site.count(Operation::Put)).sum::<usize>();
    let before = puts();
    let report = repair(&archive, &survey, &request, false, &world.surroundings);
    assert_eq!((report.stripes, report.shards, puts()), (0, 0, before));
}

/// A store whose versions may not be listed hides what lies beneath, and says so; the others are enough.
#[test]
fn who_may_not_look_beneath_is_told() {
    let world = world();
    let hidden = &world.sites[0];
    for (name, _) in hidden.disk().objects() {
        world.surroundings.runtime.block_on(hidden.delete(&name)).unwrap();
    }
    let when = exclave_site::When::any().only(&[Operation::ListVersions]);
    hidden.inflict(when, exclave_site::Fault::Deny);
    let archive = opened(&world);
    assert_eq!(restored(&world, &archive, 0).len(), 1);
    let blind: Vec<_> = archive.sites.iter().filter_map(|handle| handle.sight.blind()).collect();
    assert_eq!((blind.len(), blind[0].0), (1, exclave_site::Class::Denied));
    assert!(archive.poisoned().is_empty());
}
