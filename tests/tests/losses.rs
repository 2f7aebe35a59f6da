//! Every set of lost sites, end to end: what the policy promises restores, and more than that is told.

use std::collections::BTreeSet;

use exclave_engine::{restore::Outcome, survey::Grade};
use exclave_site::{Fault, When};
use exclave_tests::world::{Whatever, World, WorldPlan};

fn every_loss(data: u8, parity: u8) -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(data, parity))?;
    world.replicate()??;
    let sites = usize::from(data + parity);
    for pattern in 0u32..1 << sites {
        let lost: Vec<usize> = (0..sites).filter(|site| pattern >> site & 1 == 1).collect();
        if lost.len() <= usize::from(parity) {
            assert!(world.restores_equal(&lost)?, "{data}+{parity} without {lost:?}");
        } else if lost.len() < sites {
            let to = tempfile::tempdir()?;
            let outcome = world
                .restore("land", &to.path().join("tree"), &lost)
                .map(|report| report.outcome());
            assert!(
                !matches!(outcome, Ok(Outcome::Complete | Outcome::Findings)),
                "{data}+{parity} without {lost:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn every_subset_of_six_sites_four_plus_two() -> Result<(), Whatever> {
    every_loss(4, 2)
}

#[test]
fn every_subset_of_five_sites_three_plus_two() -> Result<(), Whatever> {
    every_loss(3, 2)
}

#[test]
fn every_pair_of_losses_with_any_liar_restores() -> Result<(), Whatever> {
    let world = World::found(WorldPlan {
        liars: 1,
        ..WorldPlan::new(3, 4)
    })?;
    world.replicate()??;
    let losses = usize::from(world.quorums.tolerance().losses);
    let sites = world.sites.len();
    let mut tried = 0;
    for pattern in 0u32..1 << sites {
        let lost: BTreeSet<usize> = (0..sites).filter(|site| pattern >> site & 1 == 1).collect();
        if lost.len() != losses {
            continue;
        }
        let lost: Vec<usize> = lost.into_iter().collect();
        // One liar for each set of losses, another each time.
        let Some(liar) = (0..sites)
            .map(|turn| (turn + tried) % sites)
            .find(|site| !lost.contains(site))
        else {
            continue;
        };
        // A liar that serves garbage, and one that hides what it was given last: neither hides the newest head.
        for lie in [Fault::WrongBytes, Fault::Stale { puts: 1000 }] {
            world.sites[liar].inflict(When::any().reads(), lie.clone());
            let case = format!("without {lost:?}, {liar} lying: {lie:?}");
            assert!(world.restores_equal(&lost)?, "{case}");
            let to = tempfile::tempdir()?;
            let restored = world.restore("land", &to.path().join("tree"), &lost)?;
            assert_eq!(restored.freshness.grade, Grade::F2, "{case}");
            world.sites[liar].calm();
        }
        tried += 1;
    }
    assert!(tried > 20);
    Ok(())
}
