//! What may be deleted, and when (DESIGN section 6, decision 0015): which snapshots are kept, and the order in which what
//! the others leave is marked, looked for again, released and swept.

pub mod retain;
pub mod run;
