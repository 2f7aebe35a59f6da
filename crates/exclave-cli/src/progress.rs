//! What a verb is doing, drawn on standard error while it works.
//!
//! A thread looks at the engine's counters a few times a second; the engine knows nothing of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use exclave_engine::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{format, output::Output};

/// Often enough to look alive, rarely enough to cost nothing over a slow line.
const INTERVAL: Duration = Duration::from_millis(200);

/// Time over which the rate is averaged: long enough for 8 MiB shards on a slow link not to make it jump.
const RATE_OVER: Duration = Duration::from_secs(10);

/// Draws until it is dropped.
pub struct Shown {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shown {
    /// Begins to draw, when anyone is looking.
    pub fn begin(output: &Output, progress: &Arc<Progress>, doing: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = output.draws_progress().then(|| {
            let (stop, progress) = (Arc::clone(&stop), Arc::clone(progress));
            std::thread::spawn(move || draw(&stop, &progress, doing))
        });
        Self { stop, thread }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A drawing that failed is no reason for anything.
            let _ = thread.join();
        }
    }
}

fn draw(stop: &AtomicBool, progress: &Progress, doing: &str) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let mut rate = Rate::default();
    let start = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let figures = Figures::of(progress);
        let per_second = rate.update(start.elapsed(), figures.bytes);
        bar.set_message(line(doing, &figures, per_second));
        bar.tick();
        std::thread::park_timeout(INTERVAL);
    }
    bar.finish_and_clear();
}

struct Figures {
    entries: u64,
    bytes: u64,
    reused: u64,
    moved: u64,
    expected: u64,
}

impl Figures {
    fn of(progress: &Progress) -> Self {
        Self {
            entries: Progress::get(&progress.entries),
            bytes: Progress::get(&progress.bytes),
            reused: Progress::get(&progress.bytes_reused),
            moved: Progress::get(&progress.bytes_moved),
            expected: Progress::get(&progress.bytes_expected),
        }
    }
}

/// One line: entries, bytes, what moved, rate, time left when it can be known.
fn line(doing: &str, figures: &Figures, per_second: u64) -> String {
    let mut text = format!("{doing} {}", format::entries(figures.entries));
    text.push_str(&format!(", {}", format::bytes(figures.bytes)));
    if figures.expected > 0 {
        text.push_str(&format!(" of {}", format::bytes(figures.expected)));
    }
    if figures.reused > 0 {
        text.push_str(&format!(", {} there already", format::bytes(figures.reused)));
    }
    if figures.moved > 0 {
        text.push_str(&format!(", {} moved", format::bytes(figures.moved)));
    }
    text.push_str(&format!(", {}/s", format::bytes(per_second)));
    let left = figures.expected.saturating_sub(figures.bytes);
    if left > 0 && per_second > 0 {
        text.push_str(&format!(
            ", {} left",
            format::span(Duration::from_secs(left / per_second))
        ));
    }
    text
}

/// Bytes per second over the last while.
#[derive(Default)]
struct Rate {
    seen: std::collections::VecDeque<(Duration, u64)>,
}

impl Rate {
    fn update(&mut self, now: Duration, bytes: u64) -> u64 {
        self.seen.push_back((now, bytes));
        while self.seen.len() > 2
            && self
                .seen
                .get(1)
                .is_some_and(|(at, _)| now.saturating_sub(*at) >= RATE_OVER)
        {
            self.seen.pop_front();
        }
        let Some((then, before)) = self.seen.front() else {
            return 0;
        };
        let took_ms = now.saturating_sub(*then).as_millis().max(1);
        let gained = u128::from(bytes.saturating_sub(*before)) * 1000;
        u64::try_from(gained / took_ms).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_while() {
        let mut rate = Rate::default();
        rate.update(Duration::ZERO, 0);
        for second in 1..=30 {
            rate.update(Duration::from_secs(second), second * 1000);
        }
        assert_eq!(rate.update(Duration::from_secs(31), 31_000), 1000);
        for second in 32..=60 {
            rate.update(Duration::from_secs(second), 31_000);
        }
        assert_eq!(rate.update(Duration::from_secs(61), 31_000), 0);
    }

    #[test]
    fn the_line_says_what_is_known() {
        let mut figures = Figures {
            entries: 12,
            bytes: 3 << 20,
            reused: 0,
            moved: 0,
            expected: 0,
        };
        assert_eq!(line("restoring", &figures, 0), "restoring 12 entries, 3.0 MiB, 0 B/s");
        figures.expected = 13 << 20;
        figures.moved = 4 << 20;
        assert_eq!(
            line("restoring", &figures, 1 << 20),
            "restoring 12 entries, 3.0 MiB of 13.0 MiB, 4.0 MiB moved, 1.0 MiB/s, 10.0 s left"
        );
    }
}
