//! Collection: what is to be deleted, and how a writer keeps out of its way (DESIGN section 6, decision 0015).
//!
//! What exists so far is the writer's side, marks that are read and obeyed, so that no snapshot of this program refers to
//! what a reaper may delete; the [`plan()`], which says what would go; and holds. No verb of this crate deletes anything.

mod hold;
mod marks;
mod plan;

pub(crate) use self::{
    hold::read_hold,
    marks::{Marks, verify_mark},
};
pub use self::{
    hold::{HoldError, PlacedHold, holds, place_hold},
    plan::{CollectPlan, DatasetPlan, Memory, Obstacle, PlannedSnapshot, plan},
};
