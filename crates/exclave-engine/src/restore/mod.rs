//! Restore: a snapshot's entries from any k shards of each stripe to a tree, a tar stream, or the bytes of one file.
//!
//! ```text
//! manifest pages -> entries -> chunk references -> jobs, one stripe each     the caller's thread
//!        fetch k shards of a job's stripe, from the moment it is queued      the runtime
//!        verify, decode, open, cut, unpack, check id, write                  worker threads
//! ```
//!
//! Each chunk is released only after its shard's hash, the stripe's commitment, its segments' tags and its own id fit. A
//! file gets its name when its last chunk is written; one that loses a chunk leaves nothing and is listed, and the others
//! go on. Memory is bounded: stripes by bytes ([`crate::fetch::ReadSettings`]), jobs and open files by number.
//!
//! A tar stream and raw bytes need their chunks in order: there the workers open the stripes, and one more thread cuts
//! and writes ([`stream`]).

mod chunks;
mod error;
mod jobs;
mod plan;
mod report;
mod resume;
mod select;
mod stream;
mod stripes;
mod tree;

#[cfg(test)]
mod tests;

use std::{io::Write, path::PathBuf};

use exclave_dataset::{page::Root, sink};

pub(crate) use self::{
    chunks::{ChunkReader, Pages},
    select::{Step, Walk, matches_pattern, pattern},
    stripes::{Opened, Source as StripeSource, Stripes},
};
pub use self::{
    error::{ChunkError, LostWhy, RestoreError, StripeError},
    plan::{RestorePlan, Sample, SitePlan, plan_restore},
    report::{Lost, LostEntry, Outcome, RestoreReport, Written},
    select::{BadPattern, ManifestGap, Selection},
};
use crate::{
    snapshot::{Snapshot, Snapshots},
    surroundings::Surroundings,
};

/// Where the entries go.
pub enum Target {
    /// Beneath a directory. With [`sink::Existing::Replace`] an interrupted restore goes on: files that are there, of the
    /// right size and time, whose content is that of the snapshot, are kept.
    Directory(PathBuf, sink::Options),
    /// As one tar stream.
    Tar(Box<dyn Write + Send>),
    /// The bytes of the one file that is selected.
    Raw(Box<dyn Write + Send>),
    /// Nowhere: everything is fetched, opened and checked.
    Nothing,
}

/// Restores what is selected of a snapshot.
pub fn restore(
    snapshots: &Snapshots<'_>,
    snapshot: &Snapshot,
    selection: &Selection,
    target: Target,
    surroundings: &Surroundings,
) -> Result<RestoreReport, RestoreError> {
    let pages = match selection.is_everything() {
        true => Pages::Most,
        false => Pages::Few,
    };
    if selection.is_everything() {
        surroundings.progress.expect(snapshot.info.counts.bytes);
    }
    let mut reader = ChunkReader::new(snapshots, snapshot, pages, surroundings)?;
    let walk = Walk::new(root_of(snapshot), selection);
    let restored = match target {
        Target::Directory(path, options) => {
            let writer = Box::new(sink::TreeWriter::create(&path, options)?);
            let existing = options.existing;
            tree::restore(
                &mut reader,
                walk,
                tree::Sink::Tree { writer, existing },
                snapshots,
                surroundings,
            )?
        }
        Target::Nothing => tree::restore(&mut reader, walk, tree::Sink::Nothing, snapshots, surroundings)?,
        Target::Tar(out) => stream::restore(&mut reader, walk, stream::Format::tar(out), surroundings)?,
        Target::Raw(out) => {
            stream::require_one_file(&mut reader, selection)?;
            stream::restore(&mut reader, walk, stream::Format::raw(out), surroundings)?
        }
    };
    if restored.entries == 0 && restored.lost.is_nothing() {
        return Err(RestoreError::NothingSelected {
            paths: selection.paths().to_vec(),
        });
    }
    let of_dataset = |passed: &&crate::snapshot::PassedOver| passed.dataset == snapshot.info.dataset;
    Ok(RestoreReport {
        snapshot: snapshot.info.clone(),
        freshness: snapshot.freshness,
        passed_over: snapshots.passed_over().iter().filter(of_dataset).cloned().collect(),
        rivals: snapshots
            .rivals(snapshot)
            .into_iter()
            .map(|rival| rival.info.clone())
            .collect(),
        entries: restored.entries,
        files: restored.files,
        bytes: restored.bytes,
        sites: snapshots.tables.book.tallies(),
        lost: restored.lost,
        not_found: restored.not_found,
        written: restored.written,
    })
}

/// What a pipeline hands back.
pub(crate) struct Restored {
    entries: u64,
    files: u64,
    bytes: u64,
    lost: Lost,
    not_found: Vec<exclave_model::EntryPath>,
    written: Written,
}

/// The top of a snapshot's manifest.
pub(crate) fn root_of(snapshot: &Snapshot) -> Root {
    Root {
        level: snapshot.root.level,
        page: snapshot.root.page,
    }
}
