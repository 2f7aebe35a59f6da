//! What goes around a site. Each layer is a site itself and forwards every method.
//!
//! [`crate::open`] builds, from the outside in, retrying, limits, a deadline, the store. So a retry waits its turn again, and a
//! request's deadline starts when it leaves, not when it queues.

pub mod faulty;
