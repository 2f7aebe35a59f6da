//! What can go wrong on the way back: with one stripe, with one chunk, with the whole restore.

use std::{io, sync::Arc};

use exclave_dataset::{
    pack,
    page::ReadError,
    sink::{Problem as SinkProblem, SinkError},
};
use exclave_model::{EntryPath, Rule, RunId};
use exclave_seal::OpenError;
use exclave_stripe::DecodeError;

use crate::{fetch::LedgerError, snapshot::KeyError};

/// Why a stripe can't be read. Its chunks are lost, the others are not.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StripeError {
    /// Its run's key can't be had.
    #[error("stripe {ordinal} of run {run} has no key")]
    Key {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
        /// Why.
        #[source]
        source: Arc<KeyError>,
    },
    /// The ledger says nothing about it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Fewer than k shards of it are to be had.
    #[error("stripe {ordinal} of run {run}: {found} good shards, {needed} needed")]
    TooFew {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
        /// Shards that verified.
        found: usize,
        /// k.
        needed: usize,
    },
    /// Its shards don't belong together.
    #[error("stripe {ordinal} of run {run} can't be decoded")]
    Decode {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
        /// Why.
        #[source]
        error: DecodeError,
    },
    /// It was sealed under another label than its run's.
    #[error("stripe {ordinal} of run {run} was sealed under another label than its run's")]
    Label {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
    },
    /// It does not open under its run's key.
    #[error("stripe {ordinal} of run {run} can't be opened")]
    Open {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
        /// Why.
        #[source]
        error: OpenError,
    },
    /// Its plaintext breaks the format.
    #[error("stripe {ordinal} of run {run} breaks a rule: {rule}")]
    Directory {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
        /// Which.
        rule: Rule,
    },
    /// Our bug: whoever opened it did not finish.
    #[error("opening the stripe was not finished")]
    Abandoned,
}

/// Why a chunk can't be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChunkError {
    /// Its stripe can't be read.
    #[error(transparent)]
    Stripe(Arc<StripeError>),
    /// The manifest points to a stripe that the head does not vouch for.
    #[error("the manifest refers to stripe {ordinal} of run {run}, which the snapshot's run table does not hold")]
    NotLive {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
    },
    /// The manifest points outside the stripe.
    #[error("the manifest refers to bytes outside stripe {ordinal} of run {run}")]
    Outside {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
    },
    /// What is stored does not decompress.
    #[error("a chunk of stripe {ordinal} of run {run} can't be unpacked")]
    Unpack {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
        /// Why.
        #[source]
        source: Arc<pack::DecodeError>,
    },
    /// It is another chunk than the manifest names.
    #[error("a chunk of stripe {ordinal} of run {run} is not the one that the manifest names")]
    WrongId {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
    },
    /// The work was stopped before the chunk was read.
    #[error("stopped")]
    Stopped,
}

/// Why an entry's data was not restored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LostWhy {
    /// A chunk of it can't be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// Its list of chunks can't be read.
    #[error("its list of chunks can't be read")]
    List(#[source] Arc<ReadError<ChunkError>>),
}

/// Why a restore ended before it was done. What was complete by then stays; unfinished files are removed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Someone asked to stop.
    #[error("interrupted after {entries} entries")]
    Interrupted {
        /// Entries handled.
        entries: u64,
    },
    /// The target can't be written.
    #[error(transparent)]
    Target(#[from] SinkError),
    /// The stream can't be written.
    #[error("the output can't be written")]
    Stream(#[source] io::Error),
    /// The stream ends within a file whose data is lost: what was written of it is worthless.
    #[error("the output ends within {path}")]
    StreamBroken {
        /// The file.
        path: EntryPath,
        /// What is lost.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An entry that the stream's format can't hold, in a stream of one file.
    #[error(transparent)]
    Entry(SinkProblem),
    /// Nothing in the snapshot matches.
    #[error("nothing in the snapshot matches{}", paths.first().map(|path| format!(" {path}")).unwrap_or_default())]
    NothingSelected {
        /// The paths that were asked for.
        paths: Vec<EntryPath>,
    },
    /// Raw output is the bytes of one file.
    #[error("raw output takes exactly one file, {found} were selected")]
    NotOneFile {
        /// `no files`, or the first two.
        found: String,
    },
    /// zstd could not be started.
    #[error(transparent)]
    Zstd(#[from] pack::CompressError),
    /// Our bug: a thread of the restore ended without a result.
    #[error("a thread of the restore did not finish")]
    Thread,
}
