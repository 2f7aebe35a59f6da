//! Decisions: what a commit needs, which head is newest, what to try again, where shards go.
//!
//! Everything here is a pure function or a machine that is handed facts and answers with actions. The engine carries
//! them out against real sites, the simulator against imagined ones; both drive the same machines, and the same facts
//! always give the same decisions.
//!
//! **Architecture Invariant:** this crate knows no clock, network, file, key or randomness. Time and random bits are
//! arguments; bytes from sites arrive here as facts that others have verified.

#![forbid(unsafe_code)]

pub mod audit;
pub mod collect;
pub mod commit;
pub mod heads;
pub mod health;
pub mod layout;
pub mod quorum;
pub mod retry;
pub mod tripwire;

pub use self::{
    audit::{Detection, Nonce, Placement, Seed, Survivors},
    commit::{
        run::{Event as RunEvent, LayoutIndex, NotYet, RunCommit, Step as RunStep, Verdict},
        stripe::{Action as StripeAction, Event as StripeEvent, PutMode, StripeCommit, StripeState},
    },
    heads::{Cosigned, Grade, HeadFact, Heads, Preflight, grade},
    health::{Health, HealthLimits},
    layout::{Candidate, FaultDomains, Layout, Reachability, TooFewSites},
    quorum::{Promise, Quorums, RefusedQuorum, Tolerance, default_geometry},
    retry::{Backoff, FailureClass, RetryBudget},
    tripwire::{Activity, Before, Extent, Flow, Habit, Trip, TripwireLimits, trips},
};
