//! Records of datasets at sites that lose, hide and invent, and a writer that obeys them.

use exclave_model::{Act, Charter, ClassPolicy, Member, MemberRole, ReadBack, Role, Version1, charter::Reason};
use exclave_seal::SigningKey;

use super::*;
use crate::{
    charter::{Proposal, Publishing, publish_charter, read_history},
    testing::{ROOT, WRITER, World, signing_key},
};

/// The administrator's number in [`signing_key`].
const ADMINISTRATOR: u8 = 210;
/// Another one of the same class.
const COLLEAGUE: u8 = 211;

const DATASET: DatasetId = DatasetId::from_bytes([9; 16]);

/// A world of 2+2 whose charter, from version 2 on, has two administrators of class 0.
fn world() -> World {
    let mut world = World::new(2, 2, 1);
    advance(&mut world, |next| {
        let members = next.members.get_or_insert_default();
        for number in [ADMINISTRATOR, COLLEAGUE] {
            members.push(Member {
                role: MemberRole::Administrator,
                key: signing_key(number).public().clone(),
                classes: vec![0],
            });
        }
    });
    world
}

/// Publishes the next charter.
fn advance(world: &mut World, change: impl FnOnce(&mut Charter)) {
    let before = world.archive.charters.clone();
    let mut next = before.newest().clone();
    next.version += 1;
    next.previous = Some(before.newest_hash());
    change(&mut next);
    let object = signing_key(ROOT).sign(&next, &mut world.entropy).unwrap();
    let proposal = Proposal {
        before,
        next,
        object,
        plates: Vec::new(),
    };
    publish_charter(&world.archive, &proposal, Publishing::default(), &world.surroundings).unwrap();
    let (next, digest) = (proposal.next.clone(), proposal.digest());
    world.archive.charters.push(next, digest).unwrap();
    assert!(read_history(&[]).unwrap().is_none());
}

fn first(world: &World) -> Registration {
    Registration {
        format: Version1,
        anchor: world.archive.anchor,
        dataset: DATASET,
        version: 1,
        previous: None,
        charter_version: world.archive.charter().version,
        class: 0,
        created: 5,
        losses: None,
        liars: None,
        read_back: None,
    }
}

fn after(world: &World, before: &RegisteredAt, change: impl FnOnce(&mut Registration)) -> Registration {
    let mut next = Registration {
        version: before.found.record.version + 1,
        previous: Some(before.found.hash),
        charter_version: world.archive.charter().version,
        ..before.found.record.clone()
    };
    change(&mut next);
    next
}

fn published(world: &mut World, record: &Registration, key: &SigningKey) -> Result<RegisteredAt, RegisterError> {
    let bytes = Bytes::from(key.sign(record, &mut world.entropy).unwrap().to_bytes());
    publish_record(&world.archive, &bytes, &world.surroundings)
}

fn found(world: &World) -> Registry {
    world.surroundings.runtime.block_on(Registry::find(&world.archive))
}

fn class(world: &World) -> ClassPolicy {
    world.archive.charter().class(0).unwrap().policy().unwrap()
}

#[test]
fn only_administrators_of_the_class_are_believed() {
    let mut world = world();
    let record = first(&world);
    let mut refused = Vec::new();
    for (role, number) in [
        (Role::Root, ROOT),
        (Role::Writer, WRITER),
        (Role::Restorer, crate::testing::RESTORER),
        (Role::Auditor, crate::testing::AUDITOR),
    ] {
        assert!(!role.may(Act::Tenant));
        let answer = published(&mut world, &record, &signing_key(number));
        assert!(matches!(answer, Err(RegisterError::Record(_))), "{role}");
        refused.push(role);
    }
    assert!(published(&mut world, &record, &signing_key(99)).is_err(), "a stranger");
    assert!(found(&world).datasets().next().is_none());
    let at = published(&mut world, &record, &signing_key(ADMINISTRATOR)).unwrap();
    assert_eq!(at.sites, 4);
    let registry = found(&world);
    assert_eq!(registry.class(DATASET), Ok(Some(0)));
    assert_eq!(registry.policy(DATASET, &class(&world)), Ok(class(&world)));
}

#[test]
fn a_demand_holds_though_sites_hide_it_and_nothing_is_loosened() {
    let mut world = world();
    let record = first(&world);
    let one = published(&mut world, &record, &signing_key(ADMINISTRATOR)).unwrap();
    let tighter = after(&world, &one, |next| next.losses = Some(2));
    let two = published(&mut world, &tighter, &signing_key(COLLEAGUE)).unwrap();
    for hidden in 0..3 {
        let name = world.archive.names.registration(DATASET, 2, tag_of(&world, 2));
        world.sites[hidden].disk().remove(&name).unwrap();
        let policy = found(&world).policy(DATASET, &class(&world)).unwrap();
        assert_eq!(policy.losses, 2, "one site shows it still");
    }
    let looser = after(&world, &two, |next| next.losses = Some(1));
    let refused = published(&mut world, &looser, &signing_key(ADMINISTRATOR)).unwrap_err();
    let RegisterError::Order(rule) = refused else {
        panic!("{refused}")
    };
    assert_eq!(rule.text, "tightens-never-loosens: losses 1 where 2 was demanded");
    // Planted all the same by someone who has an administrator's key and a site, it says nothing.
    let object = signing_key(ADMINISTRATOR).sign(&looser, &mut world.entropy).unwrap();
    let bytes = Bytes::from(object.to_bytes());
    let name = world.archive.names.registration(DATASET, 3, Tag::of(&bytes));
    world.sites[0].disk().plant(&name, bytes);
    let registry = found(&world);
    assert_eq!(registry.policy(DATASET, &class(&world)).unwrap().losses, 2);
    assert!(matches!(
        &registry.findings[..],
        [RegistryFinding::Unlawful { version: 3, .. }]
    ));
    let again = after(&world, &one, |next| next.read_back = Some(ReadBack::Full));
    let behind = published(&mut world, &again, &signing_key(ADMINISTRATOR)).unwrap_err();
    assert!(matches!(behind, RegisterError::Order(_)), "{behind}");
}

/// The tag of the record of a place, as the last site shows it.
fn tag_of(world: &World, version: u32) -> Tag {
    let registry = found(world);
    let record = registry
        .records(DATASET)
        .iter()
        .find(|found| found.record.version == version);
    let listing = world.surroundings.runtime.block_on(
        world
            .archive
            .list_everywhere(&world.archive.names.registrations_prefix(), 100),
    );
    let wanted = format!("{version:08}.");
    let entries = listing.0.into_values().flat_map(|listing| listing.entries);
    let name = entries
        .map(|entry| entry.name)
        .find(|name| name.file_name().starts_with(&wanted));
    assert!(record.is_some());
    name.unwrap().tag().unwrap()
}

#[test]
fn two_records_in_one_place_are_told_and_both_hold() {
    let mut world = world();
    let record = first(&world);
    let one = published(&mut world, &record, &signing_key(ADMINISTRATOR)).unwrap();
    let left = after(&world, &one, |next| next.losses = Some(2));
    let right = after(&world, &one, |next| next.read_back = Some(ReadBack::Full));
    for (site, record) in [(0, &left), (1, &right)] {
        let object = signing_key(ADMINISTRATOR).sign(record, &mut world.entropy).unwrap();
        let bytes = Bytes::from(object.to_bytes());
        let name = world.archive.names.registration(DATASET, 2, Tag::of(&bytes));
        world.sites[site].disk().plant(&name, bytes);
    }
    let registry = found(&world);
    assert!(matches!(
        &registry.findings[..],
        [RegistryFinding::Fork { version: 2, .. }]
    ));
    let policy = registry.policy(DATASET, &class(&world)).unwrap();
    assert_eq!((policy.losses, policy.read_back), (2, ReadBack::Full));
}

#[test]
fn what_a_revoked_administrator_said_is_void_and_another_says_it_again() {
    let mut world = world();
    let record = first(&world);
    published(&mut world, &record, &signing_key(ADMINISTRATOR)).unwrap();
    advance(&mut world, |next| {
        next.registered_classes = Some(vec![0]);
        next.members
            .as_mut()
            .unwrap()
            .retain(|member| member.key != *signing_key(ADMINISTRATOR).public());
        next.revocations = Some(vec![exclave_model::Revocation {
            key: signing_key(ADMINISTRATOR).id(),
            reason: Reason::Compromised,
            pins: Vec::new(),
        }]);
    });
    let registry = found(&world);
    assert!(registry.datasets().next().is_none() && registry.records(DATASET).len() == 1);
    let refused = published(&mut world, &record, &signing_key(ADMINISTRATOR)).unwrap_err();
    assert!(matches!(refused, RegisterError::Revoked(_)), "{refused}");
    let record = first(&world);
    published(&mut world, &record, &signing_key(COLLEAGUE)).unwrap();
    let registry = found(&world);
    assert_eq!(registry.class(DATASET), Ok(Some(0)));
    assert!(registry.findings.is_empty(), "{:?}", registry.findings);
}

#[test]
fn junk_is_named_and_hides_nothing() {
    let mut world = world();
    let record = first(&world);
    published(&mut world, &record, &signing_key(ADMINISTRATOR)).unwrap();
    let junk = Bytes::from_static(b"junk");
    let name = world.archive.names.registration(DATASET, 9, Tag::of(&junk));
    world.sites[2].disk().plant(&name, junk);
    let registry = found(&world);
    assert!(matches!(&registry.findings[..], [RegistryFinding::Refused { .. }]));
    assert!(registry.findings[0].is_about(DATASET));
    assert_eq!(registry.class(DATASET), Ok(Some(0)));
}

#[test]
fn an_impossible_demand_is_refused_before_it_is_signed() {
    let world = world();
    let terms = |losses, liars| Terms {
        losses,
        liars,
        read_back: ReadBack::Group,
    };
    let charter = world.archive.charter();
    assert_eq!(feasible(charter, 0, &terms(2, 0)).unwrap().losses, 2);
    for (losses, liars) in [(3, 0), (2, 1), (0, 2)] {
        assert_eq!(
            feasible(charter, 0, &terms(losses, liars)).unwrap_err().kind,
            "bad-geometry"
        );
    }
    assert_eq!(feasible(charter, 7, &terms(1, 0)).unwrap_err().kind, "wrong-charter");
}

#[test]
fn a_record_that_every_site_hides_is_recalled_unless_its_signer_was_revoked() {
    let mut world = world();
    let record = first(&world);
    let one = published(&mut world, &record, &signing_key(ADMINISTRATOR)).unwrap();
    let tighter = after(&world, &one, |next| next.losses = Some(2));
    published(&mut world, &tighter, &signing_key(COLLEAGUE)).unwrap();
    let seen = found(&world).to_remember(DATASET);
    assert_eq!(seen.len(), 2);
    let name = world.archive.names.registration(DATASET, 2, tag_of(&world, 2));
    for site in &world.sites {
        site.disk().remove(&name).unwrap();
    }
    let mut registry = found(&world);
    assert_eq!(
        registry.policy(DATASET, &class(&world)).unwrap().losses,
        class(&world).losses
    );
    let hidden = registry.recall(DATASET, seen.clone(), world.archive.charter());
    assert_eq!(hidden.len(), 1);
    assert_eq!(registry.policy(DATASET, &class(&world)).unwrap().losses, 2);
    assert_eq!(registry.to_remember(DATASET), seen);
    let mut charter = world.archive.charter().clone();
    charter.revocations = Some(vec![exclave_model::Revocation {
        key: signing_key(COLLEAGUE).id(),
        reason: Reason::Retired,
        pins: Vec::new(),
    }]);
    assert!(found(&world).recall(DATASET, seen, &charter).is_empty());
}
