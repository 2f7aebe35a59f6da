//! The testkit: a small world of sites, an agent and a source, for tests of the whole system.

#![forbid(unsafe_code)]

pub mod fuzz;
pub mod scale;
pub mod tree;
pub mod vector;
pub mod world;
