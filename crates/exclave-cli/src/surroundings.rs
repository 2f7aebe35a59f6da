//! What the verbs are handed: the clock, randomness, threads, a runtime. The only place where these enter.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use exclave_engine::{Clock, EntropySource, Progress, Surroundings};
use exclave_seal::{Entropy, NoEntropy, NoTokens};

use crate::error::{Context as _, Trouble};

/// The operating system's generator.
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: randomness enters here and nowhere else"
    )]
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        getrandom::fill(out).map_err(|error| NoEntropy(error.to_string()))
    }
}

impl EntropySource for OsEntropy {
    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(Self)
    }
}

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: the time enters here and nowhere else"
    )]
    fn now_unix_seconds(&self) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => seconds(since),
            // A clock before 1970 is wrong, and nothing depends on it.
            Err(before) => -seconds(before.duration()),
        }
    }
}

/// A runtime and what a verb needs beside it. The runtime lives as long as this.
pub struct Edge {
    runtime: tokio::runtime::Runtime,
    /// What verbs are handed.
    pub surroundings: Surroundings,
}

impl Edge {
    /// Starts the runtime: one worker, which drives sites and catalog only.
    pub fn start(threads: Option<NonZeroUsize>) -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .because(|| Trouble::failed("the runtime can't be started"))?;
        let available = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let surroundings = Surroundings {
            runtime: runtime.handle().clone(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            tokens: Arc::new(NoTokens),
            threads: threads.unwrap_or_else(available),
            progress: Arc::new(Progress::default()),
        };
        Ok(Self { runtime, surroundings })
    }

    /// Runs a future to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

/// Known answers, before anything is sealed or opened: a machine that computes wrongly must stop here.
pub fn self_tests() -> Result<(), Trouble> {
    let wrong =
        || Trouble::failed("this machine computes wrongly").hint("try another machine; nothing was read or written");
    exclave_seal::self_test::self_test().because(wrong)?;
    exclave_erasure::self_test().because(wrong)
}
