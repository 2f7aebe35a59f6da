//! A store that lost everything is taken back under its site, and what it lost comes back.

use exclave_engine::{AdoptError, Archive, Plate, RunOutcome, adopt, plan_adoption};
use exclave_model::{ArchiveNames, Tag};
use exclave_tests::{
    tree,
    world::{Whatever, World, WorldPlan},
};

fn shards_at(world: &World, site: usize) -> usize {
    let objects = world.sites[site].disk().objects();
    objects
        .iter()
        .filter(|(name, _)| name.as_str().contains("/shards/"))
        .count()
}

fn adopt_site(world: &World, site: usize) -> Result<(), Whatever> {
    let archive = world.archive_without(&[])?;
    let name = format!("s{site}");
    let adoption = plan_adoption(&archive, site, &name, &world.surroundings)?;
    Ok(adopt(&archive, &adoption, &world.root, &world.surroundings)?)
}

#[test]
fn what_an_emptied_store_lost_comes_back_from_the_others_alone() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 2))?;
    let first = world.replicate()??;
    let whole = shards_at(&world, 3);
    assert!(whole > 2);
    world.sites[3].disk().clear();
    assert_eq!(world.archive_without(&[])?.sites[3].plate, Plate::Missing);
    adopt_site(&world, 3)?;
    assert_eq!(world.archive_without(&[])?.sites[3].id, Some(world.ids[3]));

    // Within the day in which what was seen counts: that the site shows no head of ours gives it away.
    world.clock.advance(60);
    let second = world.replicate()??;
    assert_eq!((second.outcome, second.debts_paid), (RunOutcome::Committed, 0));
    assert!(second.debt >= first.stripes, "{} owed", second.debt);
    world.clock.advance(60);
    let third = world.replicate()??;
    assert_eq!((third.outcome, third.debt), (RunOutcome::Committed, 0));
    assert!(third.debts_paid >= first.stripes && third.debts_unpaid.is_empty());
    assert!(shards_at(&world, 3) >= whole);
    for lost in [[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]] {
        assert!(world.restores_equal(&lost)?, "without {lost:?}");
    }
    Ok(())
}

#[test]
fn all_sites_lose_everything_one_after_another_and_nothing_is_lost() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    world.replicate()??;
    for site in 0..3 {
        world.sites[site].disk().clear();
        adopt_site(&world, site)?;
        for _ in 0..2 {
            world.clock.advance(60);
            assert_eq!(world.replicate()??.outcome, RunOutcome::Committed);
        }
    }
    for site in 0..3 {
        assert!(world.restores_equal(&[site])?, "without site {site}");
    }
    Ok(())
}

#[test]
fn shards_that_vanish_are_owed_after_a_day_and_paid_by_the_next_run() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 2))?;
    let first = world.replicate()??;
    let before = shards_at(&world, 1);
    let gone: Vec<_> = world.sites[1]
        .disk()
        .objects()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.as_str().contains("/shards/"))
        .collect();
    for name in &gone {
        world.sites[1].disk().remove(name);
    }
    world.clock.advance(2 * 24 * 3600);
    let second = world.replicate()??;
    assert!(second.debt >= first.stripes, "{} owed", second.debt);
    world.clock.advance(60);
    let third = world.replicate()??;
    assert_eq!((third.outcome, third.debt), (RunOutcome::Committed, 0));
    assert!(shards_at(&world, 1) >= before);
    Ok(())
}

#[test]
fn adopting_twice_changes_nothing_and_a_plan_writes_nothing() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    world.sites[2].disk().clear();
    let archive = world.archive_without(&[])?;
    let adoption = plan_adoption(&archive, 2, "s2", &world.surroundings)?;
    assert!(!adoption.has_plate && !adoption.has_charter && !adoption.is_done());
    assert_eq!(world.sites[2].disk().objects().len(), 0);
    adopt(&archive, &adoption, &world.root, &world.surroundings)?;
    assert_eq!(world.sites[2].disk().objects().len(), 2);
    let again = plan_adoption(&world.archive_without(&[])?, 2, "s2", &world.surroundings)?;
    assert!(again.is_done());
    Ok(())
}

#[test]
fn what_would_make_the_sites_doubtful_is_refused() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    let plan = |archive: &Archive, at, name: &str| plan_adoption(archive, at, name, &world.surroundings);
    let archive = world.archive_without(&[])?;
    assert!(matches!(plan(&archive, 0, "s9"), Err(AdoptError::NoSuchSite { .. })));
    assert!(matches!(plan(&archive, 0, "s1"), Err(AdoptError::OtherSite { .. })));

    // An empty store in the place of a site that another store still is.
    let mut swapped = archive.clone();
    world.sites[2].disk().clear();
    swapped.sites[2].id = None;
    assert!(matches!(plan(&swapped, 2, "s1"), Err(AdoptError::Elsewhere { .. })));

    // Another archive's store; what merely lies beside it is none.
    let stranger = World::found(WorldPlan {
        seed: 2,
        ..WorldPlan::new(2, 1)
    })?;
    let charter = bytes::Bytes::from_static(b"whatever it holds");
    let name = ArchiveNames::new(stranger.anchor).charter(1, Tag::of(&charter));
    world.sites[2].disk().plant(&name, charter);
    assert!(matches!(plan(&archive, 2, "s2"), Err(AdoptError::OtherArchive { .. })));
    world.sites[2].disk().clear();

    let adoption = plan(&archive, 2, "s2")?;
    let forged = adopt(&archive, &adoption, &stranger.root, &world.surroundings);
    assert!(matches!(forged, Err(AdoptError::NotARoot)));
    assert_eq!(world.sites[2].disk().objects().len(), 0);
    Ok(())
}

#[test]
fn debts_that_cannot_be_paid_say_why() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 2))?;
    world.replicate()??;
    world.sites[3].disk().clear();
    world.clock.advance(2 * 24 * 3600);
    tree::plant(&world.source, 2)?;
    let second = world.replicate()??;
    assert!(second.debt > 0 && second.debts_unpaid.is_empty());
    world.clock.advance(60);
    let third = world.replicate()??;
    let told: Vec<_> = third
        .debts_unpaid
        .iter()
        .map(|debts| (debts.site.as_str(), debts.reason.as_str()))
        .collect();
    assert!(
        matches!(&told[..], [("s3", why)] if why.contains("no plate")),
        "{told:?}"
    );
    Ok(())
}
