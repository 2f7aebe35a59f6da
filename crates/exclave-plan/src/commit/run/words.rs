//! What the machine of a run is told, what it is asked, and what it answers.

use exclave_model::{RecordHash, SiteId, SnapshotState};

use crate::commit::stripe::StripeState;

/// Names a layout of the run: the first is 0, the next 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayoutIndex(pub(super) usize);

/// What has happened. Sites outside of every layout may be named; they count for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The envelope was read back from a site.
    EnvelopeAt(SiteId),
    /// A stripe that this run wrote, adopted or wrote anew has settled. Told once for each stripe, when nothing more is
    /// tried for it.
    StripeSettled {
        /// Where its shards lie.
        layout: LayoutIndex,
        /// How it ended.
        state: StripeState,
    },
    /// Stripes of other runs are wanted; a reuse claim for them has been made. A further claim starts the reading of
    /// marks over.
    ReuseClaimMade,
    /// The newest reuse claim was read back from a site.
    ReuseClaimAt(SiteId),
    /// All marks were read from a site, after the newest claim lay at q.
    MarksReadFrom(SiteId),
    /// A reused stripe bears no mark, and a listing or audit younger than 24 h shows this many of its shards. A marked
    /// one is written anew instead and settles like any other.
    StripeReused {
        /// Where its shards lie.
        layout: LayoutIndex,
        /// Shards shown.
        verified: u8,
    },
    /// A ledger part or a page of the run table exists and must be at q.
    RecordMade(RecordHash),
    /// It was read back from a site.
    RecordAt(RecordHash, SiteId),
    /// The head's exact bytes are fsynced in the journal.
    HeadJournalled,
    /// The same bytes were read back from a site.
    HeadAt(SiteId),
}

/// What a driver may be about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Put the envelope: the run's claim.
    PutEnvelope,
    /// Put shards in a layout.
    PutShards(LayoutIndex),
    /// Put the newest reuse claim.
    PutReuseClaim,
    /// Read the marks that concern the reused stripes.
    ReadMarks,
    /// Count reused stripes.
    CountReused,
    /// Put ledger parts and pages of the run table.
    PutRecords,
    /// Fsync the head's bytes in the journal.
    JournalHead,
    /// Put the head, and read it back.
    PutHead,
}

/// Which thing must lie at how many sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    /// The envelope.
    Envelope,
    /// The reuse claim.
    ReuseClaim,
    /// The marks, read.
    Marks,
    /// One of the ledger parts or run table pages.
    Record(RecordHash),
    /// The head.
    Head,
}

/// What stands in the way of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// Too few sites of one layout hold something, or have been read.
    #[error("{held:?} at {found} sites of layout {}, {needed} needed", layout.0)]
    TooFewSites {
        /// What.
        held: Held,
        /// The layout that lacks most.
        layout: LayoutIndex,
        /// Sites of it.
        found: u8,
        /// Sites needed.
        needed: u8,
    },
    /// No reuse claim was made.
    #[error("no reuse claim was made")]
    NoReuseClaim,
    /// No ledger part and no run table page was made.
    #[error("no ledger was made")]
    NoLedger,
    /// A record that was not announced.
    #[error("record {record} was never made")]
    UnknownRecord {
        /// The record.
        record: RecordHash,
    },
    /// No stripe has settled: there is nothing to commit.
    #[error("no stripe has settled")]
    NothingStored,
    /// Stripes with fewer than k verified shards: no head may name them.
    #[error("{stripes} stripes can't be restored")]
    StripesFailed {
        /// How many.
        stripes: u64,
    },
    /// The head is not journalled.
    #[error("the head is not in the journal")]
    HeadNotJournalled,
    /// The head is journalled: what it says can't change any more.
    #[error("the head is in the journal already")]
    HeadJournalled,
    /// The run has no such layout.
    #[error("the run has no layout {}", layout.0)]
    UnknownLayout {
        /// The layout.
        layout: LayoutIndex,
    },
}

/// How the run ended (DESIGN section 6 step 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The head lies at q and every stripe has a shards or more.
    Committed {
        /// Shards missing up to n.
        debt: u64,
    },
    /// The head lies at q and says itself that some stripe has between k and a shards.
    Provisional {
        /// Shards missing up to n.
        debt: u64,
        /// The fewest verified shards of a stripe.
        verified_min: u8,
    },
    /// The head is journalled and lies at too few sites: not committed. The next run puts the same bytes again first.
    HeadBelowQuorum(NotYet),
    /// There is no head.
    NoHead(NotYet),
}

/// What the head says about the stripes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Safety {
    /// Durable when every stripe has a shards or more.
    pub state: SnapshotState,
    /// The fewest verified shards of a stripe.
    pub verified_min: u8,
    /// Shards missing up to n, over all stripes.
    pub debt: u64,
}
