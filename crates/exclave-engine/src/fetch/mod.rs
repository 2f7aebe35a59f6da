//! Getting bytes from sites that are slow, gone, or lying: who is asked, in which order, and when somebody else is.
//!
//! * [`book`] remembers what each site did and puts the sites in order: cheapest first, liars last;
//! * [`race`] asks one site after another, a further one whenever one fails or keeps us waiting;
//! * [`shards`] fetches any k shards of a stripe ahead of time, by layout first and by name everywhere else;
//! * [`ranges`] fetches single segments when little of a stripe is wanted;
//! * [`ledger`] finds the ledger's line for a stripe.
//!
//! Nothing here believes what it fetched. Whoever verifies it says so, and what doesn't verify costs its site its place.

pub mod book;
pub(crate) mod ledger;
pub(crate) mod race;
pub(crate) mod ranges;
pub(crate) mod shards;

use std::time::Duration;

pub use self::{
    book::{Problem, SiteBook, SiteTally},
    ledger::LedgerError,
};

/// How a reader goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSettings {
    /// How long a site may keep us waiting before another one is asked too.
    pub hedge: Duration,
    /// Bytes of stripes in memory: fetched ahead, being opened, and opened ones kept for later. Two stripes are always
    /// let in, however long they are.
    pub memory_bytes_max: usize,
    /// Files being written at the same time.
    pub files_open_max: usize,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            // Longer than a good request for 8 MiB takes, short enough that a dead site costs little.
            hedge: Duration::from_secs(2),
            // Eight stripes of 4+2 at 8 MiB, sealed and opened; DESIGN section 10 allows twice as much. More of them made
            // a restore no faster.
            memory_bytes_max: 256 << 20,
            // A quarter of the usual limit of 1,024 descriptors.
            files_open_max: 256,
        }
    }
}
