//! Why a replication ended without a snapshot.

use exclave_catalog::CatalogError;
use exclave_dataset::{pack::CompressError, page::WriteError};
use exclave_model::{DatasetId, RecordError, Rule, RunId};
use exclave_plan::{NotYet, RefusedQuorum, layout::TooFewSites};
use exclave_seal::{BoxError, EnvelopeError, NoEntropy, signing::SignError};
use exclave_stripe::SealError;

use super::{flow::Stopped, intake::SourceError};
use crate::{local::LocalError, state::StateError, survey::SurveyError};

/// Why there is no new snapshot. The one before stays the newest.
#[derive(Debug, thiserror::Error)]
pub enum ReplicateError {
    /// The charter has no such class.
    #[error("the charter has no class {0}")]
    NoSuchClass(u32),
    /// The writer may not write this class.
    #[error("this agent's key may not write class {class}")]
    NotAWriter {
        /// The class.
        class: u32,
    },
    /// The charter does not let this version of the format be written.
    #[error(
        "rule allowed-formats of charter version {charter}: version {version} of the format, which this program writes, is \
         not allowed"
    )]
    Format {
        /// What this program writes.
        version: u32,
        /// The charter.
        charter: u32,
    },
    /// The class takes only datasets that an administrator added, and this one is none.
    #[error(
        "rule registered-datasets of charter version {charter}: no administrator of class {class} added dataset {dataset}"
    )]
    Unregistered {
        /// The dataset.
        dataset: DatasetId,
        /// Its class.
        class: u32,
        /// The charter.
        charter: u32,
    },
    /// An administrator added the dataset to another class.
    #[error(
        "rule class-is-kept: dataset {dataset} was added to class {registered}, and this agent has it in class {class}"
    )]
    OtherRegistration {
        /// The dataset.
        dataset: DatasetId,
        /// Its class here.
        class: u32,
        /// Its class by its records.
        registered: u32,
    },
    /// What is demanded for the dataset contradicts itself, or can't be met by its class.
    #[error("what is demanded for dataset {dataset} can't be met: {rule}")]
    Demands {
        /// The dataset.
        dataset: DatasetId,
        /// Why.
        rule: Rule,
    },
    /// The state folder has forgotten datasets, and this may be one of them.
    #[error(
        "the dataset is new here, and the sites hold snapshots of {datasets} datasets of this writer that its state folder \
         does not know"
    )]
    Forgotten {
        /// How many.
        datasets: usize,
    },
    /// The class's numbers are impossible.
    #[error("class {class} can't be met")]
    Class {
        /// The class.
        class: u32,
        /// Why.
        source: RefusedQuorum,
    },
    /// Too few sites for the class.
    #[error("too few sites")]
    Sites(#[from] TooFewSites),
    /// The class's stripes are too small for the chunks.
    #[error("a chunk of up to {chunk} bytes does not fit a stripe, which takes {stripe}")]
    ChunkTooLarge {
        /// Greatest chunk.
        chunk: usize,
        /// What an empty stripe takes.
        stripe: usize,
    },
    /// The source.
    #[error("the source can't be taken in")]
    Source(#[from] SourceError),
    /// A stripe reached too few sites.
    #[error("stripe {ordinal}: {verified} of {sites} shards verified, {needed} needed")]
    StripeFailed {
        /// The stripe.
        ordinal: u32,
        /// Shards that count.
        verified: u8,
        /// k.
        needed: u8,
        /// n.
        sites: u8,
    },
    /// The protocol does not allow what comes next.
    #[error("too few sites for a commit")]
    NotYet(#[from] NotYet),
    /// Nothing was stored, so nothing can be committed.
    #[error("nothing was stored")]
    NothingStored,
    /// A reused run whose layout is not known.
    #[error("run {run} is referred to, but where its stripe {ordinal} lies is not known here")]
    UnknownLayout {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
    },
    /// No site has a ledger that is referred to.
    #[error("no site has the ledger of run {run}, which the snapshot would refer to")]
    LedgerGone {
        /// The run.
        run: RunId,
    },
    /// A ledger that does not list what is referred to.
    #[error("run {run} is referred to, but no ledger of it that is known here lists its stripe {ordinal}")]
    NotListed {
        /// The run.
        run: RunId,
        /// The stripe.
        ordinal: u32,
    },
    /// A reaper marked what the snapshot would refer to, while the run went on. Marks are never withdrawn.
    #[error(
        "{stripes} stripes that the snapshot would reuse were marked for collection meanwhile, the first of run {run}"
    )]
    Marked {
        /// The first run.
        run: RunId,
        /// Marked stripes of all runs.
        stripes: u64,
    },
    /// More runs than a head may refer to.
    #[error("the snapshot would refer to {0} runs, at most {max} are allowed", max = exclave_model::limit::RUNS_PER_HEAD_MAX)]
    TooManyRuns(usize),
    /// The heads at the sites can't be surveyed.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// Someone asked to stop.
    #[error("interrupted; {durable_stripes} stripes of this run are durable and will be used by the next one")]
    Interrupted {
        /// Stripes that are durable.
        durable_stripes: u64,
    },
    /// Local files.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The agent's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The catalog.
    #[error("the catalog failed")]
    Catalog(#[from] CatalogError),
    /// A stripe could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A manifest page could not be written.
    #[error("the manifest can't be written")]
    Manifest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Compression.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// A record breaks its own law.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Signing.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Wrapping the run key.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A sealed part.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// A thread could not be followed to its end.
    #[error("a thread of the run ended without a word; please report this")]
    ThreadLost,
}

impl From<WriteError<Stopped>> for ReplicateError {
    fn from(error: WriteError<Stopped>) -> Self {
        Self::Manifest(Box::new(error))
    }
}
