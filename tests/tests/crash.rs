//! The process dies at every single step of a small replication; a new one finishes the work and everything restores.
//!
//! A step is one operation at one site. At step i the process dies before the operation, after it was carried out, or
//! with a put stored in part; from then on nothing reaches any site. The agent's state folder is what was fsynced until
//! then. A freshly started agent must commit, and an heir without k-of-n's worth of sites must get the tree back.

use exclave_engine::RunOutcome;
use exclave_site::Crash;
use exclave_tests::{
    tree,
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
    Ok(())
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
        let crash = match step % 3 {
            0 => Crash::Before,
            1 => Crash::After,
            _ => Crash::Torn { bytes: 1000 },
        };
        dies_at(step, crash).map_err(|error| format!("step {step} of {first}..{end}, {crash:?}: {error}"))?;
    }
    Ok(())
}
