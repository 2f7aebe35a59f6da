//! Commit, adoption, closing and collection, in every order: no snapshot that anyone can see ever lacks a stripe.
//!
//! The model is exhaustive within its bounds: every interleaving of single operations at single sites, with a site that is
//! away at any moment, one that is lost for ever, or one that lies; processes that stop anywhere. Each safeguard of the
//! protocol (DESIGN section 6, decision 0015) is then taken away alone, and the checker must show how a snapshot is lost.
//! What a model can't show, that something happens at all, is asked for too: stripes are collected, reused and adopted.

mod model;

use model::{Mutant, Plan, Protocol};
use stateright::{Checker, HasDiscoveries, Model};

/// Fewest states that a run of CI must have seen in all honest worlds together (THREATS C11).
const STATES_MIN: usize = 1_000_000;

/// Two threads: the machine that this runs on has two cores.
const THREADS: usize = 2;

fn check(protocol: Protocol) -> usize {
    let what = format!("{protocol:?}");
    let checker = protocol.checker().threads(THREADS).spawn_bfs().join();
    checker.assert_properties();
    println!(
        "{what}: {} states, {} deep",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.unique_state_count()
}

/// Expects that a snapshot is lost, and says in how many steps.
#[track_caller]
fn is_caught(plan: Plan, mutant: Mutant) {
    let protocol = Protocol::new(plan, Some(mutant));
    let wanted = HasDiscoveries::AnyOf([model::WHOLE].into());
    let checker = protocol
        .checker()
        .threads(THREADS)
        .finish_when(wanted)
        .spawn_bfs()
        .join();
    let path = checker.discovery(model::WHOLE);
    assert!(
        path.is_some(),
        "{mutant:?} loses nothing in {} states",
        checker.unique_state_count()
    );
    let steps = path.map(|path| path.into_actions()).unwrap_or_default();
    println!("{mutant:?}: lost after {} steps: {steps:?}", steps.len());
}

#[test]
fn no_order_loses_a_snapshot() {
    let states: usize = Plan::HONEST.iter().map(|plan| check(Protocol::new(*plan, None))).sum();
    assert!(states >= STATES_MIN, "only {states} states");
}

#[test]
#[ignore = "several minutes and gigabytes: tools/nightly model"]
fn no_order_of_more_runs_and_absences_loses_a_snapshot() {
    let states: usize = Plan::NIGHT.iter().map(|plan| check(Protocol::new(*plan, None))).sum();
    assert!(states >= 10 * STATES_MIN, "only {states} states");
}

#[test]
fn reuse_without_a_claim_is_caught() {
    is_caught(Plan::THREE, Mutant::NoClaim);
}

#[test]
fn marks_not_read_after_the_claim_are_caught() {
    is_caught(Plan::THREE, Mutant::MarksNotRead);
}

#[test]
fn marks_read_before_the_claim_are_caught() {
    is_caught(Plan::THREE, Mutant::MarksReadFirst);
}

#[test]
fn heads_and_claims_not_read_after_the_mark_are_caught() {
    is_caught(Plan::THREE, Mutant::NotReadAgain);
}

#[test]
fn a_withdrawn_mark_is_caught() {
    is_caught(Plan::TWO_REAPERS, Mutant::MarkWithdrawn);
}

#[test]
fn the_same_name_at_a_second_upload_is_caught() {
    is_caught(Plan::THREE, Mutant::SameName);
}

#[test]
fn sites_that_are_passed_over_are_caught() {
    is_caught(Plan::THREE, Mutant::SitesPassedOver);
}

#[test]
fn a_claim_at_one_site_is_caught_when_sites_are_lost() {
    is_caught(Plan::LOST, Mutant::ClaimAtOneSite);
}

#[test]
fn a_mark_below_the_quorum_is_caught() {
    is_caught(Plan::THREE, Mutant::MarkBelowQuorum);
}

#[test]
fn marks_read_from_too_few_sites_are_caught() {
    is_caught(Plan::THREE, Mutant::MarksReadBelowQuorum);
}

#[test]
fn an_open_run_that_is_collected_is_caught() {
    is_caught(Plan::THREE, Mutant::OpenRunCollected);
}

#[test]
fn adoption_without_a_claim_is_caught() {
    is_caught(Plan::ADOPTION, Mutant::AdoptionWithoutClaim);
}

#[test]
fn a_close_before_the_head_is_caught() {
    is_caught(Plan::THREE, Mutant::ClosedBeforeHead);
}

#[test]
fn closes_read_after_heads_are_caught() {
    is_caught(Plan::THREE, Mutant::ClosesReadLast);
}
