//! Keys stay in this process: no core dump, no tracer (THREATS A33).

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::error::{Context as _, Trouble};

/// Forbids core dumps, attaching debuggers and reading our memory by other processes of the same user.
pub fn protect_memory() -> Result<(), Trouble> {
    let failed = || Trouble::failed("this process can't be protected from core dumps; no key is read");
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).because(failed)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).because(failed)
}
