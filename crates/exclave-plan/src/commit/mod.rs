//! The commit of a snapshot, without a coordinator (DESIGN section 6, THREATS B3): one machine for the shards of a
//! stripe, one for the order of a run.

pub mod run;
pub mod stripe;
