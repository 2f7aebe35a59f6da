//! Sites that fail, lie and lose: what a replication does then.

use std::fs;

use exclave_dataset::walk::WalkOptions;
use exclave_engine::{ReplicateError, RunOutcome, Source};
use exclave_model::ReadBack;
use exclave_site::{Fault, When};
use exclave_tests::{
    tree,
    world::{Whatever, World, WorldPlan},
};

#[test]
fn one_dead_site_leaves_a_debt_that_the_next_run_pays_without_the_source() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 2))?;
    world.sites[3].inflict(When::any(), Fault::LostBefore);
    let first = world.replicate()??;
    assert_eq!((first.outcome, first.verified_min), (RunOutcome::Committed, 3));
    assert_eq!(first.debt, first.stripes, "each stripe owes one shard");
    assert_eq!(first.site_troubles.first().map(|(site, _)| site.as_str()), Some("s3"));

    world.sites[3].calm();
    // Not the source: debts are paid from the other sites.
    fs::remove_dir_all(&world.source)?;
    fs::create_dir(&world.source)?;
    world.clock.advance(60);
    let second = world.replicate()??;
    assert_eq!(second.debts_paid, first.stripes);
    assert_eq!((second.outcome, second.debt), (RunOutcome::Committed, 0));
    Ok(())
}

#[test]
fn too_few_sites_for_a_head_say_so_and_leave_the_old_snapshot() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 2))?;
    world.replicate()??;
    tree::plant(&world.source, 2)?;
    for site in &world.sites[2..] {
        site.inflict(When::any().writes(), Fault::Deny);
    }
    let refused = world.replicate()?;
    // Two verified shards are k: a head could say "provisional", but it can't reach its quorum of three.
    assert!(matches!(refused, Err(ReplicateError::NotYet(_))), "{refused:?}");
    for site in &world.sites {
        site.calm();
    }
    let healed = world.replicate()??;
    assert_eq!((healed.outcome, healed.seq, healed.debt), (RunOutcome::Committed, 1, 0));
    assert!(healed.recovered_stripes > 0, "what the refused run had stored is used");
    Ok(())
}

#[test]
fn fewer_than_k_sites_give_no_head() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(3, 2))?;
    for site in &world.sites[2..] {
        site.inflict(When::any().writes().containing("/shards/"), Fault::Fill);
    }
    let refused = world.replicate()?;
    assert!(
        matches!(
            refused,
            Err(ReplicateError::StripeFailed {
                verified: 2,
                needed: 3,
                sites: 5,
                ..
            })
        ),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn replies_that_get_lost_and_puts_that_arrive_in_part_cost_nothing() -> Result<(), Whatever> {
    for read_back in [ReadBack::Group, ReadBack::Full] {
        let world = World::found(WorldPlan {
            read_back,
            ..WorldPlan::new(2, 1)
        })?;
        world.sites[0].inflict(When::any().writes().one_in(3), Fault::ReplyLost);
        world.sites[1].inflict(
            When::any().writes().containing("/shards/").one_in(5),
            Fault::Torn { bytes: 40_000 },
        );
        world.sites[2].inflict(When::any().writes().one_in(4), Fault::SayExists);
        let report = world.replicate()??;
        assert_eq!((report.outcome, report.debt), (RunOutcome::Committed, 0), "{report:?}");
    }
    Ok(())
}

#[test]
fn a_site_that_stores_other_bytes_is_named_and_does_not_count() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 2))?;
    world.sites[1].inflict(When::any().writes().containing("/shards/"), Fault::Spoil);
    let report = world.replicate()??;
    assert_eq!((report.outcome, report.verified_min), (RunOutcome::Committed, 3));
    assert!(
        report
            .alarms
            .iter()
            .any(|alarm| alarm.starts_with("s1 answers with other bytes")),
        "{:?}",
        report.alarms
    );
    Ok(())
}

#[test]
fn a_dead_site_is_replaced_by_a_spare_from_the_next_stripe_on() -> Result<(), Whatever> {
    let world = World::found(WorldPlan {
        spares: 1,
        ..WorldPlan::new(2, 1)
    })?;
    world.sites[2].inflict(When::any().containing("/shards/"), Fault::LostBefore);
    let report = world.replicate()??;
    assert_eq!(report.outcome, RunOutcome::Committed);
    let shards = |site: usize| {
        world.sites[site]
            .disk()
            .objects()
            .iter()
            .filter(|(name, _)| name.as_str().contains("/shards/"))
            .count() as u64
    };
    assert!(
        shards(3) > 0 && shards(3) < report.stripes,
        "the spare took over in between"
    );
    assert_eq!(shards(3) + report.debt, report.stripes);
    Ok(())
}

#[test]
fn a_rolled_back_agent_goes_on_as_a_new_incarnation() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    world.replicate()??;
    let chain = fs::read(world.state_folder().join("chain"))?;
    tree::plant(&world.source, 2)?;
    world.replicate()??;
    fs::write(world.state_folder().join("chain"), chain)?;
    tree::plant(&world.source, 3)?;
    let after = world.replicate()??;
    assert!(after.new_incarnation);
    assert_eq!((after.seq, after.outcome), (0, RunOutcome::Committed));
    let next = world.replicate()??;
    assert!(!next.new_incarnation);
    assert_eq!(next.seq, 1);
    Ok(())
}

#[test]
fn a_dataset_in_use_is_refused_by_name_and_process() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    let state = exclave_engine::AgentState::open(&world.state_folder())?;
    let (_dataset, _lock) = state.lock_dataset("land", 0, &mut *world.surroundings.entropy.entropy())?;
    let refused = world.replicate()?.err().map(|error| error.to_string());
    assert_eq!(
        refused,
        Some(format!("dataset \"land\" is in use by process {}", std::process::id()))
    );
    let other = world.replicate_as(
        "tax",
        Source::Tree {
            root: world.source.clone(),
            options: WalkOptions::default(),
        },
    )??;
    assert_eq!(other.outcome, RunOutcome::Committed);
    Ok(())
}
