//! What the tree writer and its file writers share.

use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use exclave_model::{Content, Entry, EntryPath};

use super::{
    beneath::Beneath,
    links::{PathKey, key_of},
    metadata::{Rights, Skipped},
    options::Existing,
    problem::{Problem, SinkError},
};

/// Problems that a summary lists; further ones are only counted.
pub(super) const PROBLEMS_LISTED_MAX: usize = 1000;

/// What a restore did, in counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkSummary {
    /// Files completed, those kept from an earlier try included.
    pub files: u64,
    /// Files that an earlier try had completed.
    pub files_kept: u64,
    /// Files given up by the caller; they left nothing behind.
    pub files_abandoned: u64,
    /// Directories of the manifest.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Further names of files that became files of their own.
    pub hard_links_separated: u64,
    /// Fifos, sockets and devices made.
    pub specials: u64,
    /// Fifos, sockets and devices left out on demand.
    pub specials_skipped: u64,
    /// Entries whose owner or group was left as it is.
    pub owners_skipped: u64,
    /// Entries whose setuid, setgid or sticky bit was left out.
    pub special_modes_skipped: u64,
    /// Extended attributes left out.
    pub xattrs_skipped: u64,
    /// Entries that were not restored.
    pub problems_count: u64,
    /// The first 1,000 of them.
    pub problems: Vec<Problem>,
}

/// State of one restore.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: Beneath,
    pub(super) rights: Rights,
    pub(super) existing: Existing,
    /// The file system takes different names for the same.
    pub(super) folds_names: bool,
    /// Files being written now.
    pub(super) files_open: AtomicU64,
    /// Files with further names that were begun and not completed. As many as link groups at most.
    uncommitted: Mutex<HashSet<PathKey>>,
    summary: Mutex<SinkSummary>,
}

impl Shared {
    pub(super) fn new(target: Beneath, rights: Rights, existing: Existing, folds_names: bool) -> Self {
        Self {
            target,
            rights,
            existing,
            folds_names,
            files_open: AtomicU64::new(0),
            uncommitted: Mutex::default(),
            summary: Mutex::default(),
        }
    }

    /// Remembers that a file was not completed, so that its further names do not come to mean an older file.
    pub(super) fn uncommitted(&self, entry: &Entry) {
        if entry.link_group.is_some() {
            let mut uncommitted = self.uncommitted.lock().unwrap_or_else(PoisonError::into_inner);
            uncommitted.insert(key_of(&entry.path));
        }
    }

    /// True when a file with further names was begun and not completed.
    pub(super) fn is_uncommitted(&self, path: &EntryPath) -> bool {
        self.uncommitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&key_of(path))
    }

    /// The counts, to change them.
    pub(super) fn summary(&self) -> MutexGuard<'_, SinkSummary> {
        // Counting can't be left half done, so a panic elsewhere leaves it usable.
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was left out.
    pub(super) fn skipped(&self, skipped: Skipped) {
        let mut summary = self.summary();
        summary.owners_skipped += u64::from(skipped.owner);
        summary.special_modes_skipped += u64::from(skipped.special_mode);
        summary.xattrs_skipped += skipped.xattrs;
    }

    /// Records the error when it concerns one entry.
    pub(super) fn record(&self, error: SinkError) -> SinkError {
        if let SinkError::Entry(problem) = &error {
            let mut summary = self.summary();
            summary.problems_count += 1;
            if summary.problems.len() < PROBLEMS_LISTED_MAX {
                summary.problems.push(problem.clone());
            }
        }
        error
    }

    /// Files being written now.
    pub(super) fn files_open(&self) -> u64 {
        self.files_open.load(Ordering::Acquire)
    }
}

/// An entry without what it holds, which may be long and is not needed to make it.
pub(super) fn bare(entry: &Entry) -> Entry {
    Entry {
        path: entry.path.clone(),
        kind: entry.kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        modified: entry.modified,
        owner_name: entry.owner_name.clone(),
        group_name: entry.group_name.clone(),
        xattrs: entry.xattrs.clone(),
        size: entry.size,
        link_target: entry.link_target.clone(),
        device: entry.device,
        link_group: entry.link_group.clone(),
        content: Content::default(),
    }
}
