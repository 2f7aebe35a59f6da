//! What a verb is handed instead of taking it from the air: time, randomness, threads, a runtime, a place to count.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use exclave_seal::{Entropy, Tokens};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01 UTC.
    fn now_unix_seconds(&self) -> i64;
}

/// Gives each thread its own source of randomness.
pub trait EntropySource: Send + Sync {
    /// A fresh source.
    fn entropy(&self) -> Box<dyn Entropy>;
}

/// Time, randomness, threads and a runtime.
#[derive(Clone)]
pub struct Surroundings {
    /// Drives sites and catalog. Verbs block on it, so they must not run inside it.
    pub runtime: tokio::runtime::Handle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn EntropySource>,
    /// Where halves of signing keys lie that are not in files.
    pub tokens: Arc<dyn Tokens>,
    /// Threads for work that a processor does.
    pub threads: NonZeroUsize,
    /// What has been done so far, for whoever watches; and the wish to stop.
    pub progress: Arc<Progress>,
}

/// Counters that a watcher reads while a verb works. They inform; nothing is decided by them.
#[derive(Debug, Default)]
pub struct Progress {
    /// Entries handled.
    pub entries: AtomicU64,
    /// Raw bytes read from the source, or written to the target.
    pub bytes: AtomicU64,
    /// Raw bytes that were already at the sites.
    pub bytes_reused: AtomicU64,
    /// Bytes sent to sites, or fetched from them.
    pub bytes_moved: AtomicU64,
    /// Stripes settled, or opened.
    pub stripes: AtomicU64,
    /// Raw bytes expected in all, 0 while unknown.
    pub bytes_expected: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Says how many raw bytes there will be in all.
    pub fn expect(&self, bytes: u64) {
        self.bytes_expected.store(bytes, Ordering::Relaxed);
    }

    /// Counts from nothing again, for the next of several deeds; a wish to stop stays.
    pub fn begin_anew(&self) {
        for counter in [
            &self.entries,
            &self.bytes,
            &self.bytes_reused,
            &self.bytes_moved,
            &self.stripes,
            &self.bytes_expected,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Asks the verb to stop at the next stripe boundary.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// True when someone asked to stop.
    pub fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}
