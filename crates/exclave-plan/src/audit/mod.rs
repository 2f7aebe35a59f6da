//! What an audit looks at, and what it may conclude (DESIGN section 8, THREATS A29 and A30).
//!
//! [`sample`] says how many groups must be read so that damage of a given size is found with a given confidence, and which
//! ones: they follow from a public seed, so that everyone who holds the report can choose them again. [`survivors`] counts
//! what is left of each stripe. What it means in one word is [`Verdict::on`](exclave_model::report::Verdict::on).

pub mod sample;
pub mod survivors;

pub use self::{
    sample::{Confidence, DamageFraction, Detection, Nonce, Seed, Strata, choose},
    survivors::{FaultSet, Least, Placement, Survivors},
};
