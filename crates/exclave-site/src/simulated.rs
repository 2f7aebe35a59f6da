//! The site of simulations: memory, with faults.

use crate::layer::faulty::Faulty;
use crate::layer::script::Steps;
use crate::{BadAddress, MemorySite, MemoryStore};

/// A site in memory that misbehaves on command and keeps a log. Clones share store, rules and log: hand one to the
/// engine and keep one.
pub type SimulatedSite = Faulty<MemorySite>;

impl SimulatedSite {
    /// A new, empty, calm site named `memory://name`.
    pub fn simulated(name: &str, seed: u64, steps: &Steps) -> Result<Self, BadAddress> {
        Ok(Self::new(MemorySite::new(name)?, seed, steps))
    }

    /// What really lies there, whatever the site says.
    pub fn disk(&self) -> &MemoryStore {
        self.inner().store()
    }
}
