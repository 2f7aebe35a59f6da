//! What waits for a worker: a queue with a bound, and a stop for everyone.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::stripes::{LOOK_UP, Stopped, Stripes};
use crate::{fetch::book::lock, surroundings::Progress};

/// Jobs that wait; each is pieces of one stripe, which the stripes' own bound holds back much earlier.
const WAITING_MAX: usize = 64;

struct Inner<J> {
    waiting: VecDeque<J>,
    is_closed: bool,
}

/// A bounded queue from one thread to several.
pub(crate) struct Jobs<J> {
    inner: Mutex<Inner<J>>,
    changed: Condvar,
    stopped: AtomicBool,
    stripes: Arc<Stripes>,
    progress: Arc<Progress>,
}

impl<J> Jobs<J> {
    pub(crate) fn new(stripes: &Arc<Stripes>, progress: &Arc<Progress>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                waiting: VecDeque::new(),
                is_closed: false,
            }),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            stripes: Arc::clone(stripes),
            progress: Arc::clone(progress),
        }
    }

    /// Adds a job; waits while too many wait.
    pub(crate) fn push(&self, job: J) -> Result<(), Stopped> {
        let mut inner = lock(&self.inner);
        while inner.waiting.len() >= WAITING_MAX && !self.is_stopped() {
            inner = self.wait(inner);
        }
        if self.is_stopped() {
            return Err(Stopped);
        }
        inner.waiting.push_back(job);
        drop(inner);
        self.changed.notify_all();
        Ok(())
    }

    /// The next job; `None` when there will be none.
    pub(crate) fn pop(&self) -> Option<J> {
        let mut inner = lock(&self.inner);
        loop {
            if self.is_stopped() {
                drop(inner);
                self.stop();
                return None;
            }
            if let Some(job) = inner.waiting.pop_front() {
                drop(inner);
                self.changed.notify_all();
                return Some(job);
            }
            if inner.is_closed {
                return None;
            }
            inner = self.wait(inner);
        }
    }

    /// Waits for a change, and looks up now and then: the wish to stop wakes nobody.
    fn wait<'a>(&self, inner: MutexGuard<'a, Inner<J>>) -> MutexGuard<'a, Inner<J>> {
        let woken = self.changed.wait_timeout(inner, LOOK_UP);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// No more jobs will come.
    pub(crate) fn close(&self) {
        lock(&self.inner).is_closed = true;
        self.changed.notify_all();
    }

    /// Everyone stops; what waits is dropped.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let dropped = std::mem::take(&mut lock(&self.inner).waiting);
        self.changed.notify_all();
        self.stripes.stop();
        drop(dropped);
    }

    /// True when everyone must stop, because something failed or someone asked.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) || self.progress.stop_asked()
    }
}

/// Stops everyone when the thread that holds it panics.
pub(crate) struct StopOnPanic<'a, J>(pub(crate) &'a Jobs<J>);

impl<J> Drop for StopOnPanic<'_, J> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}
