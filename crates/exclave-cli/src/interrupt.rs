//! Ctrl-C: first a wish, then an order.
//!
//! The first SIGINT (or SIGTERM, from a service manager) asks the engine to stop at the next stripe boundary, so that
//! what was sent so far is kept; the second ends the process at once.
//!
//! While something secret is typed the terminal shows nothing, so then the first one gives the terminal back as it was
//! and ends the process: nothing is under way.
//!
//! SIGXFSZ, which a limit on the length of files sends (`ulimit -f`), is taken and not obeyed: the write fails as at a full
//! disk, and is told.

use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use exclave_engine::Progress;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    surroundings::Edge,
};

/// True when the engine is asked to stop first.
static ENGINE_LISTENS: AtomicBool = AtomicBool::new(false);

/// The terminal as it was before something hidden was asked for, while it is asked for.
static PROMPT: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// How long the watch has to end the process: it is at work already.
const WATCH_PATIENCE: Duration = Duration::from_secs(5);

/// Asks at the terminal for something that isn't shown.
pub fn hidden(question: &str) -> io::Result<String> {
    static WATCH: OnceLock<io::Result<()>> = OnceLock::new();
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let before = terminal.and_then(|terminal| Ok((tcgetattr(&terminal)?, terminal)));
    if let Ok((attributes, terminal)) = before {
        let started = WATCH.get_or_init(|| {
            let (ready, is_ready) = mpsc::channel();
            let thread = thread::Builder::new().name("prompt".to_owned());
            thread.spawn(move || watch(&ready))?;
            // It ends without a word when signals can't be listened for.
            is_ready.recv().map_err(io::Error::other)
        });
        if started.is_ok() {
            *PROMPT.lock().unwrap_or_else(PoisonError::into_inner) = Some((terminal, attributes));
        }
    }
    let answer = rpassword::prompt_password(question);
    if answer
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
    {
        // The signal that broke the reading off is the watch's to obey, which ends the process: no error is to be told.
        thread::sleep(WATCH_PATIENCE);
    }
    PROMPT.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer
}

/// Gives the terminal back when a signal comes at a prompt. Once taken, a signal never ends the process by itself again,
/// so this goes on for good, and does it where the engine does not listen.
fn watch(ready: &mpsc::Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            return;
        };
        if ready.send(()).is_err() {
            return;
        }
        loop {
            next(&mut interrupt, &mut terminate).await;
            let prompt = PROMPT.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((terminal, before)) = &prompt {
                let _ = tcsetattr(terminal, OptionalActions::Now, before);
                eprintln!();
            }
            if prompt.is_some() || !ENGINE_LISTENS.load(Ordering::Acquire) {
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
        }
    });
}

/// Listens from now on.
pub fn listen(edge: &Edge) -> Result<(), Trouble> {
    let progress = Arc::clone(&edge.surroundings.progress);
    ENGINE_LISTENS.store(true, Ordering::Release);
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
