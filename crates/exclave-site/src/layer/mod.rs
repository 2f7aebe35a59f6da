//! What goes around a site. Each layer is a site itself and forwards every method.
//!
//! From the outside in: sight ([`seeing`]), retries, limits, a deadline, the store ([`crate::open()`] builds the last three; an archive puts sight around what it is given). So a retry waits its turn
//! again, and a deadline starts when the request leaves, not when it queues.

pub mod faulty;
pub mod limited;
pub mod retrying;
pub mod script;
pub mod seeing;
pub mod timed;

#[cfg(test)]
mod tests;
