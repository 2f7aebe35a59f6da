use exclave_model::{Charter, Member, MemberRole, RecordHash, Version1};
use exclave_seal::{SeededEntropy, SigningKey};

use super::*;
use crate::{
    charter::{Publishing, publish_charter},
    testing::{ROOT, World, signing_key},
};

const REAPER: u8 = 202;
const RUN: RunId = RunId::from_bytes([1; 16]);

fn world() -> World {
    let mut world = World::new(2, 1, 1);
    let root = signing_key(ROOT);
    let proposal = world.propose(&[&root], |next: &mut Charter| {
        next.members.get_or_insert_default().push(Member {
            role: MemberRole::Reaper,
            key: signing_key(REAPER).public().clone(),
            classes: Vec::new(),
        });
    });
    publish_charter(&world.archive, &proposal, Publishing::default(), &world.surroundings).unwrap();
    world.reopen();
    assert_eq!(world.archive.charter().version, 2);
    world
}

fn mark(world: &World, ordinals: std::ops::Range<u32>) -> Mark {
    Mark {
        format: Version1,
        anchor: world.archive.anchor,
        charter_version: 2,
        created: 1_000,
        stripes: vec![RunStripes {
            run: RUN,
            stripes: ordinals.collect(),
        }],
        dropped: vec![RecordHash::from_bytes([1; 32])],
        receipts: Vec::new(),
    }
}

/// Plants a mark, signed by a key, at some sites.
fn plant(world: &World, mark: &Mark, key: &SigningKey, sites: &[usize]) -> ObjectName {
    let bytes = Bytes::from(key.sign(mark, &mut SeededEntropy::new(1)).unwrap().to_bytes());
    let name = world.archive.names.mark(Tag::of(&bytes));
    for site in sites {
        world.sites[*site].disk().plant(&name, bytes.clone());
    }
    name
}

fn read(world: &World) -> Marks {
    world.surroundings.runtime.block_on(Marks::read(&world.archive))
}

#[test]
fn what_any_site_shows_counts() {
    let world = world();
    assert_eq!(read(&world).read_from.len(), 3);
    let reaper = signing_key(REAPER);
    plant(&world, &mark(&world, 0..2), &reaper, &[0]);
    plant(&world, &mark(&world, 5..7), &reaper, &[1, 2]);
    let marks = read(&world);
    assert_eq!(
        marks.stripes,
        BTreeMap::from([(RUN, [0, 1, 5, 6].into_iter().collect())])
    );
    assert_eq!(marks.read_from.len(), 3);
    let asked = RunStripes {
        run: RUN,
        stripes: (1..6).collect(),
    };
    assert_eq!(marks.among(&asked), [1, 5].into_iter().collect());
}

#[test]
fn only_reapers_mark() {
    let world = world();
    for number in [
        ROOT,
        crate::testing::WRITER,
        crate::testing::RESTORER,
        crate::testing::AUDITOR,
        99,
    ] {
        plant(&world, &mark(&world, 0..9), &signing_key(number), &[0, 1, 2]);
    }
    let reaper = signing_key(REAPER);
    // Of a version in which it was none, of another archive, under another name, and no record at all.
    let early = Mark {
        charter_version: 1,
        ..mark(&world, 0..9)
    };
    plant(&world, &early, &reaper, &[0]);
    let foreign = Mark {
        anchor: exclave_model::Anchor::from_bytes([9; 32]),
        ..mark(&world, 0..9)
    };
    plant(&world, &foreign, &reaper, &[0]);
    let bytes = Bytes::from(
        reaper
            .sign(&mark(&world, 0..9), &mut SeededEntropy::new(2))
            .unwrap()
            .to_bytes(),
    );
    world.sites[0]
        .disk()
        .plant(&world.archive.names.mark(Tag::of(b"other")), bytes);
    world.sites[0]
        .disk()
        .plant(&world.archive.names.mark(Tag::of(b"junk")), Bytes::from_static(b"junk"));
    let marks = read(&world);
    assert_eq!(marks.stripes, BTreeMap::new());
    assert_eq!(marks.read_from.len(), 3, "junk keeps nobody from reading");
}
