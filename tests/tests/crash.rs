//! The process dies at every single step of a small replication; a new one finishes the work and everything restores.
//! Nor do two deaths lose anything, the second in the run that mends the first; and a restore that dies at any step leaves no
//! half file under a final name, and another one finishes it.
//!
//! A step is one operation at one site. At step i the process dies before the operation, after it was carried out, or
//! with a put stored in part; from then on nothing reaches any site. The agent's state folder is what was fsynced until
//! then. A freshly started agent must commit, and an heir without k-of-n's worth of sites must get the tree back.

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path, time::Duration};

use exclave_dataset::sink::{Existing, Options};
use exclave_engine::{
    RunOutcome,
    fetch::ReadSettings,
    log::{LogFinding, read_logs},
    restore::{Outcome, Selection, Target, restore},
    snapshot::{Depth, Snapshots, Which},
    survey::survey,
};
use exclave_site::Crash;
use exclave_tests::{
    scale, tree,
    world::{Whatever, World, WorldPlan},
};

/// A world with one committed snapshot and a changed source: the next run is the one that dies.
fn about_to_replicate() -> Result<World, Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    world.replicate()??;
    tree::plant(&world.source, 2)?;
    world.clock.advance(3600);
    Ok(world)
}

fn steps_of_a_run() -> Result<(u64, u64), Whatever> {
    let world = about_to_replicate()?;
    let before = world.steps.taken();
    world.replicate()??;
    Ok((before, world.steps.taken()))
}

fn dies_at(step: u64, crash: Crash) -> Result<(), Whatever> {
    let world = about_to_replicate()?;
    world.steps.crash_at(step, crash);
    let died = world.replicate()?;
    assert!(world.steps.has_crashed(), "step {step} was never reached");
    // Dying while the very last records go out may leave a commit behind; it may never leave a wrong one.
    let committed_before_death = died.is_ok();
    world.steps.restart();
    world.clock.advance(60);
    let report = world.replicate()??;
    assert_eq!(
        report.outcome,
        RunOutcome::Committed,
        "step {step}, {crash:?}, committed: {committed_before_death}"
    );
    assert_eq!(report.debt, 0, "step {step}, {crash:?}");
    assert!(world.restores_equal(&[(step % 3) as usize])?, "step {step}, {crash:?}");
    assert_eq!(log_findings(&world)?, [], "step {step}, {crash:?}");
    Ok(())
}

/// What is wrong with the writer's log, after the run that made up for a death.
fn log_findings(world: &World) -> Result<Vec<LogFinding>, Whatever> {
    let archive = world.archive_without(&[])?;
    let survey = survey(&archive, &world.surroundings)?;
    let mut logs = world.surroundings.runtime.block_on(read_logs(&archive));
    logs.compare(&archive, &survey);
    assert_eq!(logs.logs.len(), 1);
    Ok(logs.findings().map(|(_, finding)| finding.clone()).collect())
}

#[test]
fn dying_at_any_step_loses_nothing() -> Result<(), Whatever> {
    let (first, end) = steps_of_a_run()?;
    assert!(
        end - first > 50,
        "the run is long enough to be interesting: {} steps",
        end - first
    );
    // Threads race, so a run may take a few steps fewer than the one that was counted.
    let last = first + (end - first) * 9 / 10;
    for step in first..last {
        let crash = crash_of(step);
        dies_at(step, crash).map_err(|error| format!("step {step} of {first}..{end}, {crash:?}: {error}"))?;
    }
    Ok(())
}

/// A deterministic way to die at a step.
fn crash_of(step: u64) -> Crash {
    match step % 3 {
        0 => Crash::Before,
        1 => Crash::After,
        _ => Crash::Torn { bytes: 1000 },
    }
}

/// Dies at a step of the run, then at a step of the run that mends it; the third one has to finish.
fn dies_twice(first: u64, second: u64) -> Result<(), Whatever> {
    let world = about_to_replicate()?;
    world.steps.crash_at(world.steps.taken() + first, crash_of(first));
    let _died = world.replicate()?;
    assert!(world.steps.has_crashed(), "step {first} was never reached");
    world.steps.restart();
    world.clock.advance(60);
    // A run that has little left to mend may end before that step.
    world
        .steps
        .crash_at(world.steps.taken() + second, crash_of(first + second));
    let _died = world.replicate()?;
    world.steps.restart();
    world.clock.advance(60);
    let report = world.replicate()??;
    assert_eq!(report.outcome, RunOutcome::Committed, "steps {first} and {second}");
    assert_eq!(report.debt, 0, "steps {first} and {second}");
    assert!(
        world.restores_equal(&[(second % 3) as usize])?,
        "steps {first} and {second}"
    );
    Ok(())
}

/// Pairs of steps, every `stride`-th of all in order of the first.
fn pairs_of_deaths(stride: usize) -> Result<(), Whatever> {
    let (before, end) = steps_of_a_run()?;
    // As above: a run may take a few steps fewer than the one that was counted.
    let steps = (end - before) * 9 / 10;
    let pairs = (0..steps).flat_map(|first| (0..steps).map(move |second| (first, second)));
    for (first, second) in pairs.step_by(stride) {
        dies_twice(first, second).map_err(|error| format!("steps {first} and {second} of {steps}: {error}"))?;
    }
    Ok(())
}

/// A stride that shares no small factor with the number of steps walks over both.
#[test]
fn dying_twice_loses_nothing() -> Result<(), Whatever> {
    pairs_of_deaths(331)
}

#[test]
#[ignore = "takes many minutes; tools/nightly crash runs it"]
fn dying_twice_at_every_seventh_pair_loses_nothing() -> Result<(), Whatever> {
    const SEVEN: NonZeroUsize = NonZeroUsize::new(7).unwrap();
    pairs_of_deaths(scale::of("CRASH_STRIDE", SEVEN)?.get())
}

/// Restores the newest snapshot over what lies there; false when it failed or is incomplete.
fn restore_over(world: &World, to: &Path) -> Result<bool, Whatever> {
    let archive = world.archive_without(&[])?;
    let survey = survey(&archive, &world.surroundings)?;
    let settings = ReadSettings {
        hedge: Duration::from_millis(500),
        ..ReadSettings::default()
    };
    let surroundings = &world.surroundings;
    let snapshots = Snapshots::open(
        &archive,
        &survey,
        &world.identity,
        Depth::Newest,
        settings,
        surroundings,
    );
    let snapshot = snapshots.choose(&Which::Newest {
        dataset: "land".to_owned(),
    })?;
    let options = Options {
        existing: Existing::Replace,
        ..Options::default()
    };
    let target = Target::Directory(to.to_owned(), options);
    let report = restore(&snapshots, snapshot, &Selection::all(), target, surroundings)?;
    Ok(report.outcome() != Outcome::Damaged)
}

/// Content without modes, times and numbers of names, which come last.
fn contents(root: &Path) -> Result<BTreeMap<String, String>, Whatever> {
    let described = tree::describe(root)?.into_iter();
    Ok(described
        .filter(|(_, line)| !line.starts_with("directory"))
        .map(|(path, line)| (path, line.split(", ").take(2).collect::<Vec<_>>().join(", ")))
        .collect())
}

#[test]
fn a_restore_that_dies_at_any_step_leaves_no_half_file_and_goes_on() -> Result<(), Whatever> {
    let world = about_to_replicate()?;
    world.replicate()??;
    let wanted = contents(&world.source)?;
    let before = world.steps.taken();
    assert!(restore_over(&world, &world.folder().join("calm"))?);
    let steps = world.steps.taken() - before;
    assert!(steps > 20, "a restore of {steps} steps shows nothing");
    let mut died = 0;
    for step in 0..steps {
        let to = world.folder().join(format!("restored-{step}"));
        world.steps.crash_at(world.steps.taken() + step, Crash::Before);
        let whole = restore_over(&world, &to).unwrap_or(false);
        died += u64::from(!whole);
        world.steps.restart();
        if to.exists() {
            for (path, line) in contents(&to)? {
                assert_eq!(wanted.get(&path), Some(&line), "step {step}: {path}");
            }
        }
        assert!(restore_over(&world, &to)?, "step {step}");
        assert_eq!(tree::describe(&to)?, tree::describe(&world.source)?, "step {step}");
        std::fs::remove_dir_all(&to)?;
    }
    assert!(died > steps / 2, "only {died} of {steps} restores died");
    Ok(())
}
