//! The verbs: what Exclave does, one module each, between pure decisions (`exclave-plan`) and the world.
//!
//! A verb is a plain function on plain threads. It drives the machines of `plan`, moves bytes through bounded channels,
//! and reaches sites and catalog through one tokio runtime that the caller owns ([`Surroundings`]). Findings are data in
//! the verb's report; failures are errors.
//!
//! **Architecture Invariant:** no ambient clock, randomness or environment: [`Surroundings`] brings them.
//!
//! **Architecture Invariant:** the head is written last. Until then the dataset has not left the country.

#![forbid(unsafe_code)]

pub mod adopt;
pub mod archive;
pub mod audit;
pub mod browse;
pub mod charter;
pub mod collect;
pub mod companion;
pub mod debt;
pub(crate) mod directory_tail;
pub mod fetch;
pub mod grant;
pub mod init;
pub mod journal;
pub mod kit;
pub mod local;
pub mod log;
pub(crate) mod mend;
pub mod plate;
pub mod publish;
pub mod rebuild;
pub mod records;
pub mod registry;
pub mod repair;
pub mod replicate;
pub mod restore;
pub mod rewrap;
pub mod snapshot;
pub mod state;
pub mod surroundings;
pub mod survey;
pub mod watch;
pub mod witness;

#[cfg(test)]
mod lock_tests;
#[cfg(test)]
mod poison_tests;
#[cfg(test)]
pub(crate) mod testing;

pub use self::{
    adopt::{AdoptError, Adoption, adopt, plan_adoption},
    archive::{Archive, ArchiveError, Poisoned, SiteHandle},
    init::{DEFAULT_CLASS, InitError, NewArchive, init},
    log::LogStanding,
    plate::Plate,
    replicate::{
        IfForgotten, NamedStream, ReplicateError, ReplicateReport, ReplicateRequest, RunOutcome, Source, SourceError,
        StreamInput, Tripwires, replicate,
    },
    state::{AgentState, Chain, Dataset, StateError},
    surroundings::{Clock, EntropySource, Progress, Surroundings},
};
