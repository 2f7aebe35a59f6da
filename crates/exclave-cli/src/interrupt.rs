//! Ctrl-C: first a wish, then an order.
//!
//! The first SIGINT (or SIGTERM, from a service manager) asks the engine to stop at the next stripe boundary, so that
//! what was sent so far is kept; the second ends the process at once.
//!
//! SIGXFSZ, which a limit on the length of files sends (`ulimit -f`), is taken and not obeyed: the write fails as at a full
//! disk, and is told.

use std::sync::Arc;

use exclave_engine::Progress;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    surroundings::Edge,
};

/// Listens from now on.
pub fn listen(edge: &Edge) -> Result<(), Trouble> {
    let progress = Arc::clone(&edge.surroundings.progress);
    edge.block_on(async move {
        let failed = || Trouble::failed("signals can't be listened for");
        let interrupt = signal(SignalKind::interrupt()).because(failed)?;
        let terminate = signal(SignalKind::terminate()).because(failed)?;
        // Once taken, a signal never ends the process again.
        let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).because(failed)?;
        tokio::spawn(obey(interrupt, terminate, progress));
        Ok(())
    })
}

async fn obey(mut interrupt: Signal, mut terminate: Signal, progress: Arc<Progress>) {
    next(&mut interrupt, &mut terminate).await;
    progress.ask_to_stop();
    eprintln!("Stopping at the next stripe; press Ctrl-C again to stop at once.");
    next(&mut interrupt, &mut terminate).await;
    std::process::exit(i32::from(Exit::Interrupted.code()));
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
