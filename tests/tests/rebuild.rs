//! A lost catalog costs time, never data; rebuilding it spares most of that.

use std::fs;

use exclave_catalog::Catalog;
use exclave_engine::{
    AgentState, Progress, RunOutcome, Surroundings,
    rebuild::{DatasetOrigin, LeftOut, RebuildError, RebuildFinding, RebuildReport, StripeGap, rebuild},
};
use exclave_seal::RecoveryIdentity;
use exclave_site::{Crash, Fault, When};
use exclave_tests::world::{Whatever, World, WorldPlan};

/// Deletes the catalog, as someone does who needs the room.
fn lose_catalog(world: &World) -> Result<(), Whatever> {
    for entry in fs::read_dir(world.state_folder())? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("catalog.sqlite"))
        {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Deletes what the agent knows of its datasets too: names, secrets, runs.
fn lose_datasets(world: &World) -> Result<(), Whatever> {
    Ok(fs::remove_dir_all(world.state_folder().join("datasets"))?)
}

fn try_rebuild(
    world: &World,
    identity: Option<&RecoveryIdentity>,
    without: &[usize],
) -> Result<Result<RebuildReport, RebuildError>, Whatever> {
    let surroundings = Surroundings {
        progress: Progress::default().into(),
        ..world.surroundings.clone()
    };
    let archive = world.archive_without(without)?;
    let state = AgentState::open(&world.state_folder())?;
    let catalog = surroundings.runtime.block_on(Catalog::open(&state.catalog_path()))?;
    let rebuilt = rebuild(&archive, &state, &catalog, identity, &[], &surroundings);
    surroundings.runtime.block_on(catalog.close());
    Ok(rebuilt)
}

/// Rebuilds with the identity; the report must have one dataset and no finding.
fn rebuilt_cleanly(world: &World, without: &[usize]) -> Result<RebuildReport, Whatever> {
    let report = try_rebuild(world, Some(&world.identity), without)??;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.findings_total, 0);
    assert_eq!(report.datasets.len(), 1);
    Ok(report)
}

/// A few runs, the later ones with changes.
fn with_history(plan: WorldPlan, runs: u8) -> Result<World, Whatever> {
    let world = World::found(plan)?;
    for number in 0..runs {
        fs::write(
            world.source.join("changing"),
            vec![number; 70_000 + usize::from(number)],
        )?;
        assert_eq!(world.replicate()??.outcome, RunOutcome::Committed);
        world.clock.advance(3600);
    }
    Ok(world)
}

/// The next run finds every chunk at the sites.
fn sends_nothing(world: &World) -> Result<(), Whatever> {
    let report = world.replicate()??;
    assert_eq!(report.outcome, RunOutcome::Committed);
    assert_eq!(report.bytes_new, 0, "everything was there");
    assert_eq!(
        (report.verified_min, report.debt),
        (world.quorums.sites(), 0),
        "all shards count"
    );
    assert!(world.restores_equal(&[])?);
    Ok(())
}

#[test]
fn without_a_rebuild_everything_is_sent_again() -> Result<(), Whatever> {
    let world = with_history(WorldPlan::new(2, 1), 1)?;
    lose_catalog(&world)?;
    let report = world.replicate()??;
    assert_eq!(report.outcome, RunOutcome::Committed);
    assert!(report.bytes_new > 0, "the agent has forgotten what lies where");
    assert!(world.restores_equal(&[])?, "and nothing depends on it");
    Ok(())
}

#[test]
fn with_a_rebuild_nothing_is_sent_again() -> Result<(), Whatever> {
    for runs in [1, 3] {
        let world = with_history(WorldPlan::new(2, 1), runs)?;
        lose_catalog(&world)?;
        let report = rebuilt_cleanly(&world, &[])?;
        let dataset = &report.datasets[0];
        assert_eq!(
            (dataset.name.as_str(), dataset.origin, dataset.seq),
            ("land", DatasetOrigin::Known, u64::from(runs) - 1)
        );
        // What a later run replaced whole is referred to no more.
        let expected = if runs == 1 { 1..=1 } else { 2..=u64::from(runs) };
        assert!(expected.contains(&dataset.runs), "{} runs", dataset.runs);
        assert_eq!(dataset.runs_left_out, 0);
        assert_eq!((dataset.stripes_left_out, dataset.stripes_unread), (0, 0));
        assert_eq!((dataset.shards, dataset.shards_owed), (3 * dataset.stripes, 0));
        assert!(dataset.chunks >= dataset.stripes && dataset.stripes > 2);
        sends_nothing(&world)?;
    }
    Ok(())
}

#[test]
fn rebuilding_twice_or_over_a_whole_catalog_changes_nothing() -> Result<(), Whatever> {
    let world = with_history(WorldPlan::new(2, 1), 2)?;
    let over_whole = rebuilt_cleanly(&world, &[])?;
    lose_catalog(&world)?;
    let first = rebuilt_cleanly(&world, &[])?;
    let second = rebuilt_cleanly(&world, &[])?;
    assert_eq!(first.datasets, over_whole.datasets);
    assert_eq!(first.datasets, second.datasets);
    sends_nothing(&world)
}

#[test]
fn datasets_come_back_from_sealed_heads() -> Result<(), Whatever> {
    let world = with_history(WorldPlan::new(2, 1), 2)?;
    let before = AgentState::open(&world.state_folder())?.datasets()?.remove(0);
    lose_catalog(&world)?;
    lose_datasets(&world)?;
    let report = rebuilt_cleanly(&world, &[])?;
    assert_eq!(report.datasets[0].origin, DatasetOrigin::Restored);
    let after = AgentState::open(&world.state_folder())?.datasets()?.remove(0);
    assert_eq!(
        (after.id, after.name, after.class),
        (before.id, before.name, before.class)
    );
    assert_eq!(*after.secret.to_bytes(), *before.secret.to_bytes());
    sends_nothing(&world)
}

#[test]
fn a_dataset_whose_name_is_taken_is_left_alone() -> Result<(), Whatever> {
    let mut world = with_history(WorldPlan::new(2, 1), 1)?;
    lose_catalog(&world)?;
    lose_datasets(&world)?;
    fs::create_dir(world.state_folder().join("datasets"))?;
    world.if_forgotten = exclave_engine::IfForgotten::BeginAnew;
    let anew = world.replicate()??;
    let report = try_rebuild(&world, Some(&world.identity), &[])??;
    assert_eq!(report.datasets.len(), 1);
    assert_eq!(report.datasets[0].id, anew.dataset);
    assert!(matches!(report.findings.as_slice(), [RebuildFinding::NameTaken { name, .. }] if name == "land"));
    let next = world.replicate()??;
    assert_eq!((next.dataset, next.bytes_new), (anew.dataset, 0));
    Ok(())
}

#[test]
fn any_lost_sites_up_to_the_policy_are_no_obstacle() -> Result<(), Whatever> {
    let (data, parity) = (3, 2);
    let world = with_history(WorldPlan::new(data, parity), 2)?;
    let sites = usize::from(data + parity);
    let mut whole = None;
    for pattern in 0u32..1 << sites {
        let lost: Vec<usize> = (0..sites).filter(|site| pattern >> site & 1 == 1).collect();
        if lost.len() > usize::from(parity) {
            continue;
        }
        lose_catalog(&world)?;
        let report = rebuilt_cleanly(&world, &lost)?;
        let dataset = &report.datasets[0];
        let whole = *whole.get_or_insert((dataset.runs, dataset.stripes, dataset.chunks));
        assert_eq!(
            (dataset.runs, dataset.stripes, dataset.chunks),
            whole,
            "without {lost:?}"
        );
        assert_eq!(
            dataset.shards_owed,
            dataset.stripes * lost.len() as u64,
            "without {lost:?}"
        );
    }
    // The last pattern's sites come back: what they were thought to owe is found there.
    let held = |world: &World| -> usize {
        let objects = world.sites.iter().flat_map(|site| site.disk().objects());
        objects.filter(|(name, _)| name.as_str().contains("/shards/")).count()
    };
    let before = held(&world);
    let report = world.replicate()??;
    assert!(report.debts_paid > 0);
    assert_eq!(
        (report.bytes_new, report.verified_min, report.debt),
        (0, data + parity, 0)
    );
    assert_eq!(held(&world), before, "no shard was put");
    assert!(world.restores_equal(&[])?);
    Ok(())
}

#[test]
fn with_too_few_shards_stripes_are_left_out_and_sent_again() -> Result<(), Whatever> {
    let world = with_history(WorldPlan::new(2, 1), 1)?;
    lose_catalog(&world)?;
    let report = try_rebuild(&world, Some(&world.identity), &[0, 2])??;
    let dataset = &report.datasets[0];
    assert_eq!((dataset.stripes, dataset.chunks), (0, 0));
    assert!(dataset.stripes_left_out > 0);
    assert_eq!(report.findings_total, dataset.stripes_left_out);
    assert!(report.findings.iter().all(|finding| matches!(
        finding,
        RebuildFinding::Stripe {
            why: StripeGap::TooFew { found: 1, needed: 2 },
            ..
        }
    )));
    let next = world.replicate()??;
    assert_eq!(next.outcome, RunOutcome::Committed);
    assert!(next.bytes_new > 0);
    assert!(world.restores_equal(&[])?);
    Ok(())
}

#[test]
fn a_lying_site_is_not_believed() -> Result<(), Whatever> {
    let world = with_history(WorldPlan::new(2, 1), 1)?;
    lose_catalog(&world)?;
    let honest = rebuilt_cleanly(&world, &[])?;
    for liar in 0..3 {
        lose_catalog(&world)?;
        world.sites[liar].inflict(When::any().containing("shards/"), Fault::WrongBytes);
        let report = rebuilt_cleanly(&world, &[])?;
        assert_eq!(report.datasets[0].chunks, honest.datasets[0].chunks, "{liar} lies");
        world.sites[liar].calm();
    }
    sends_nothing(&world)
}

#[test]
fn without_an_identity_runs_of_unknown_label_are_left_out() -> Result<(), Whatever> {
    let world = with_history(WorldPlan::new(2, 1), 2)?;
    // A catalog that knows its runs gains receipts again.
    let report = try_rebuild(&world, None, &[])??;
    assert_eq!((report.datasets[0].runs, report.datasets[0].runs_left_out), (2, 0));
    assert_eq!(report.findings_total, 0);
    lose_catalog(&world)?;
    let report = try_rebuild(&world, None, &[])??;
    let dataset = &report.datasets[0];
    assert_eq!((dataset.runs, dataset.runs_left_out, dataset.chunks), (0, 2, 0));
    assert!(report.findings.iter().all(|finding| matches!(
        finding,
        RebuildFinding::Run {
            why: LeftOut::NoIdentity,
            ..
        }
    )));
    assert_eq!(report.findings_total, 2);
    let next = world.replicate()??;
    assert_eq!(next.outcome, RunOutcome::Committed);
    assert!(next.bytes_new > 0);
    Ok(())
}

#[test]
fn run_notes_come_back_without_an_identity() -> Result<(), Whatever> {
    let world = with_history(WorldPlan::new(2, 1), 2)?;
    for entry in fs::read_dir(world.state_folder().join("datasets"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "runs") {
            fs::remove_file(path)?;
        }
    }
    try_rebuild(&world, None, &[])??;
    sends_nothing(&world)
}

#[test]
fn whoever_asks_to_stop_is_heard_and_may_go_on_later() -> Result<(), Whatever> {
    let world = with_history(WorldPlan::new(2, 1), 2)?;
    lose_catalog(&world)?;
    let archive = world.archive_without(&[])?;
    let state = AgentState::open(&world.state_folder())?;
    let runtime = &world.surroundings.runtime;
    let catalog = runtime.block_on(Catalog::open(&state.catalog_path()))?;
    let surroundings = Surroundings {
        progress: Progress::default().into(),
        ..world.surroundings.clone()
    };
    surroundings.progress.ask_to_stop();
    let stopped = rebuild(&archive, &state, &catalog, Some(&world.identity), &[], &surroundings);
    assert!(matches!(stopped, Err(RebuildError::Interrupted { .. })));
    runtime.block_on(catalog.close());
    rebuilt_cleanly(&world, &[])?;
    sends_nothing(&world)
}

/// Runs that died leave journals, which the next replicate replays into the catalog: the rebuilt rows must agree.
#[test]
fn journals_of_dead_runs_agree_with_what_was_rebuilt() -> Result<(), Whatever> {
    let steps = {
        let world = with_history(WorldPlan::new(2, 1), 1)?;
        let before = world.steps.taken();
        fs::write(world.source.join("changing"), vec![9; 200_000])?;
        world.replicate()??;
        world.steps.taken() - before
    };
    let stride = (steps / 24).max(1);
    for step in (0..steps).step_by(usize::try_from(stride)?) {
        let world = with_history(WorldPlan::new(2, 1), 1)?;
        fs::write(world.source.join("changing"), vec![9; 200_000])?;
        world.steps.crash_at(world.steps.taken() + step, Crash::After);
        let died = world.replicate()?;
        world.steps.restart();
        // The run after it takes over what it left and dies in its last steps, or lives.
        if died.is_err() {
            world
                .steps
                .crash_at(world.steps.taken() + steps / 2 + step / 2, Crash::After);
            let _ = world.replicate()?;
            world.steps.restart();
        }
        lose_catalog(&world)?;
        try_rebuild(&world, Some(&world.identity), &[])??;
        let next = world.replicate()?.map_err(|error| format!("step {step}: {error}"))?;
        assert_eq!(next.outcome, RunOutcome::Committed, "step {step}");
        assert!(world.restores_equal(&[])?, "step {step}");
    }
    Ok(())
}

/// A process that dies after its head is at the sites, before it has forgotten the dead run whose stripes it took over.
#[test]
fn a_journal_whose_stripes_were_taken_over_agrees_too() -> Result<(), Whatever> {
    let begun = || -> Result<World, Whatever> {
        let world = with_history(WorldPlan::new(2, 1), 1)?;
        let noise: Vec<u8> = (0..400_000u32).flat_map(|number| number.to_le_bytes()).collect();
        fs::write(world.source.join("changing"), noise)?;
        Ok(world)
    };
    let steps = {
        let world = begun()?;
        let before = world.steps.taken();
        world.replicate()??;
        world.steps.taken() - before
    };
    let world = begun()?;
    world.steps.crash_at(world.steps.taken() + steps / 2, Crash::Before);
    assert!(world.replicate()?.is_err());
    world.steps.restart();
    let folder = world.state_folder().join("journal");
    let mut journals = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        journals.push((path.clone(), fs::read(path)?));
    }
    assert_eq!(journals.len(), 1);
    let taken_over = world.replicate()??;
    assert!(taken_over.recovered_stripes > 0);
    assert_eq!(fs::read_dir(&folder)?.count(), 0);
    for (path, bytes) in journals {
        fs::write(path, bytes)?;
    }
    lose_catalog(&world)?;
    rebuilt_cleanly(&world, &[])?;
    sends_nothing(&world)
}
