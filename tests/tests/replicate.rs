//! Replication on simulated sites.

use exclave_engine::RunOutcome;
use exclave_tests::world::{Whatever, World, WorldPlan};

#[test]
fn a_first_run_commits_and_a_second_sends_almost_nothing() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    let first = world.replicate()??;
    assert_eq!(first.outcome, RunOutcome::Committed);
    assert_eq!((first.verified_min, first.debt, first.head_sites), (3, 0, 3));
    assert!(first.site_troubles.is_empty() && first.alarms.is_empty() && first.findings.is_empty());
    world.clock.advance(3600);
    let second = world.replicate()??;
    assert_eq!(second.outcome, RunOutcome::Committed);
    assert_eq!(second.counts, first.counts);
    assert_eq!(second.bytes_new, 0, "nothing changed");
    assert_eq!((first.seq, second.seq), (0, 1));
    Ok(())
}
