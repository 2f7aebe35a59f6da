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

/// Whoever may open one label must not be needed, nor enough, for the other.
#[test]
fn an_unchanged_source_under_another_label_is_sent_anew() -> Result<(), Whatever> {
    let mut world = World::found(WorldPlan::new(2, 1))?;
    let first = world.replicate()??;
    assert!(first.bytes_new > 0);
    world.clock.advance(3600);
    world.label = "SECRET".to_owned();
    let second = world.replicate()??;
    assert_eq!((second.counts, second.stripes), (first.counts, first.stripes));
    world.clock.advance(3600);
    let third = world.replicate()??;
    assert_eq!(third.bytes_new, 0, "nothing changed under this label");
    // The first run's shards are needed by nobody but the first snapshot.
    let of_first = format!("/shards/{}/", first.run.to_hex());
    let mut removed = 0;
    for site in &world.sites {
        for (name, _) in site.disk().objects() {
            if name.as_str().contains(&of_first) {
                removed += usize::from(site.disk().remove(&name).is_some());
            }
        }
    }
    assert_eq!(removed as u64, 3 * first.stripes);
    assert!(world.restores_equal(&[])?);
    Ok(())
}
