//! How much there is to read, found out beside the work, so that the progress line can tell the time left.
//!
//! A second walk over the same directory costs little beside reading it, and nothing when nobody watches: then there is
//! none. It ends with the run, whichever is through first, and is believed only when it came to its end.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use exclave_dataset::walk::{LinkRole, Walk, WalkOptions, Walked};
use exclave_engine::Progress;
use exclave_model::EntryKind;

use super::{Arguments, World, list_from};
use crate::{
    config::{DatasetConfig, SourceConfig},
    datasets,
    surroundings::Edge,
};

/// A walk beside the run; ended when it is dropped.
pub(super) struct Scan {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scan {
    /// Begins to count, when anyone is looking and the source can be counted. Whatever goes wrong is the run's to tell.
    pub(super) fn begin(arguments: &Arguments, dataset: &DatasetConfig, edge: &Edge, world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::clone(&edge.surroundings.progress);
        let none = Self {
            stop: Arc::clone(&stop),
            thread: None,
        };
        let SourceConfig::Path(path) = &dataset.source else {
            return none;
        };
        // A list that comes by standard input can be read once only.
        let from_stdin = arguments
            .files_from
            .as_ref()
            .is_some_and(|file| file.as_os_str() == "-");
        if arguments.stdin || from_stdin || !world.output.draws_progress() {
            return none;
        }
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) => {
                progress.expect(metadata.len());
                return none;
            }
            Err(_) => return none,
        }
        let Ok(options) = datasets::walk_options(dataset, list_from(arguments).as_ref()) else {
            return none;
        };
        let (path, stop_asked) = (path.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || count(path, options, &progress, &stop_asked));
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A count that failed is no reason for anything.
            let _ = thread.join();
        }
    }
}

fn count(root: PathBuf, options: WalkOptions, progress: &Progress, stop: &AtomicBool) {
    let Ok(walk) = Walk::new(&root, options) else { return };
    let mut bytes = 0u64;
    for walked in walk {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        match walked {
            Walked::Found(found) if found.entry.kind == EntryKind::File && found.link != LinkRole::Later => {
                bytes = bytes.saturating_add(found.entry.size);
            }
            Walked::Found(_) | Walked::Finding(_) => {}
        }
    }
    progress.expect(bytes);
}
