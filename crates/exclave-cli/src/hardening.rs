//! Keys stay in this process: no core dump, no tracer, no swap where the system allows that (THREATS A33).

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};

use crate::error::{Context as _, Trouble};

/// Forbids core dumps, attaching debuggers and reading our memory by other processes of the same user.
pub fn protect_memory() -> Result<(), Trouble> {
    let failed = || Trouble::failed("this process can't be protected from core dumps; no key is read");
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).because(failed)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).because(failed)?;
    lock_memory();
    Ok(())
}

/// Locks all memory, each page when it is first touched, if none of it can be refused later: with a limit, an allocation
/// beyond it would fail. Otherwise each secret locks its own page (`exclave_seal::secret`).
fn lock_memory() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Only root may raise it; one of a user namespace is refused, as it should be.
    let allowed = getrlimit(Resource::Memlock) == unlimited || setrlimit(Resource::Memlock, unlimited).is_ok();
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if allowed && mlockall(all).is_ok() {
        exclave_seal::secret::process_is_locked();
    }
}
