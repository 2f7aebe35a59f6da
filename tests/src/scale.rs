//! How much the long tests do.

use std::num::NonZeroUsize;

use crate::world::Whatever;

/// The number that a variable gives, from 1; this one without it.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is an edge: whoever runs it says how long it may take"
)]
pub fn of(variable: &str, otherwise: NonZeroUsize) -> Result<NonZeroUsize, Whatever> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .map_err(|bad| format!("{variable} is {text:?}: {bad}").into()),
        Err(_) => Ok(otherwise),
    }
}
