//! Sites that fail, lie and lose: what a replication does then.

use std::fs;

use exclave_dataset::walk::WalkOptions;
use exclave_engine::{IfForgotten, ReplicateError, RunOutcome, Source};
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
fn a_store_that_was_emptied_is_told_and_not_counted() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 2))?;
    world.replicate()??;
    world.sites[3].disk().clear();
    tree::plant(&world.source, 2)?;
    world.clock.advance(60);
    let second = world.replicate()??;
    assert_eq!((second.outcome, second.head_sites), (RunOutcome::Committed, 3));
    assert_eq!(
        second.debt, second.stripes,
        "each new stripe owes the shard of that site"
    );
    let told = &second.site_troubles;
    assert!(
        matches!(&told[..], [(site, what)] if site == "s3" && what.contains("no plate")),
        "{told:?}"
    );
    assert!(world.restores_equal(&[0, 3])?);
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
    // More stripes than may be on their way at once: the last ones are laid out when the site is known to be dead.
    fs::write(world.source.join("large"), tree::noise(8_000_000, 9))?;
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
        "the spare took over in between: {} of {}",
        shards(3),
        report.stripes
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
fn a_state_folder_that_forgot_a_dataset_begins_no_second_one_of_its_name() -> Result<(), Whatever> {
    let mut world = World::found(WorldPlan::new(2, 1))?;
    world.replicate()??;
    let folder = world.state_folder().join("datasets");
    let kept = world.folder().join("kept");
    fs::rename(&folder, &kept)?;
    fs::create_dir(&folder)?;
    let refused = world.replicate()?;
    assert!(
        matches!(refused, Err(ReplicateError::Forgotten { datasets: 1 })),
        "{refused:?}"
    );
    assert_eq!(fs::read_dir(&folder)?.count(), 0, "nothing was begun");
    fs::remove_dir(&folder)?;
    fs::rename(&kept, &folder)?;
    world.replicate()??;

    // Those that are known are no obstacle to a new one.
    let other = world.folder().join("other");
    tree::plant(&other, 7)?;
    let tree_of = |root: &std::path::Path| Source::Tree {
        root: root.to_owned(),
        options: WalkOptions::default(),
    };
    world.replicate_as("tax", tree_of(&other))??;
    fs::remove_dir_all(&folder)?;
    fs::create_dir(&folder)?;
    world.if_forgotten = IfForgotten::BeginAnew;
    assert_eq!(
        world.replicate_as("new", tree_of(&other))??.outcome,
        RunOutcome::Committed
    );
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

#[test]
fn two_writers_with_different_datasets_do_not_meet() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    let tree = |root: &std::path::Path| Source::Tree {
        root: root.to_owned(),
        options: WalkOptions::default(),
    };
    let other = world.folder().join("other");
    for round in 1..=5 {
        tree::plant(&world.source, round)?;
        tree::plant(&other, round + 100)?;
        let outcomes = std::thread::scope(|scope| {
            let writers = [("land", &world.source), ("tax", &other)].map(|(name, root)| {
                let world = &world;
                scope.spawn(move || match world.replicate_as(name, tree(root)) {
                    Ok(Ok(report)) => Ok((report.outcome, report.new_incarnation, report.alarms)),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.to_string()),
                })
            });
            writers.map(|writer| writer.join().unwrap_or_else(|_| Err("panicked".to_owned())))
        });
        for outcome in outcomes {
            assert_eq!(outcome, Ok((RunOutcome::Committed, false, Vec::new())), "round {round}");
        }
        assert!(world.restores_equal(&[1])?, "round {round}");
        let to = tempfile::tempdir()?;
        world.restore("tax", &to.path().join("tax"), &[2])?;
        assert_eq!(tree::describe(&to.path().join("tax"))?, tree::describe(&other)?);
    }
    Ok(())
}

#[test]
fn a_clock_ten_years_off_decides_nothing() -> Result<(), Whatever> {
    const TEN_YEARS_S: i64 = 10 * 365 * 86_400;
    let world = World::found(WorldPlan::new(2, 1))?;
    for (round, leap) in (1..).zip([0, TEN_YEARS_S, -2 * TEN_YEARS_S, TEN_YEARS_S + 60]) {
        world.clock.advance(leap);
        tree::plant(&world.source, round)?;
        let report = world.replicate()??;
        assert_eq!(
            (report.outcome, report.seq, report.new_incarnation),
            (RunOutcome::Committed, u64::from(round) - 1, false)
        );
        // The newest is the one that follows the others, whatever time it says.
        assert!(world.restores_equal(&[(usize::from(round)) % 3])?, "round {round}");
    }
    Ok(())
}

#[test]
fn a_full_site_leaves_a_debt_and_all_full_sites_leave_the_old_snapshot() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 2))?;
    world.replicate()??;
    tree::plant(&world.source, 2)?;
    world.sites[0].inflict(When::any().writes(), Fault::Fill);
    let one = world.replicate()??;
    assert_eq!((one.outcome, one.debt), (RunOutcome::Committed, one.stripes));
    assert!(
        one.site_troubles
            .iter()
            .any(|(site, said)| site == "s0" && said.contains("no space left")),
        "{:?}",
        one.site_troubles
    );
    let before = tree::describe(&world.source)?;
    for site in &world.sites {
        site.inflict(When::any().writes(), Fault::Fill);
    }
    tree::plant(&world.source, 3)?;
    let refused = world.replicate()?;
    assert!(matches!(refused, Err(ReplicateError::NotYet(_))), "{refused:?}");
    let to = tempfile::tempdir()?;
    world.restore("land", &to.path().join("tree"), &[])?;
    assert_eq!(
        tree::describe(&to.path().join("tree"))?,
        before,
        "the old snapshot stays the newest"
    );
    for site in &world.sites {
        site.calm();
    }
    let healed = world.replicate()??;
    assert_eq!((healed.outcome, healed.debt), (RunOutcome::Committed, 0));
    assert_eq!(healed.debts_paid, one.debt, "what was owed is paid first");
    assert!(world.restores_equal(&[2, 3])?);
    Ok(())
}
