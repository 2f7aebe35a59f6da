//! Chunks to shard objects, and back.
//!
//! **Out:** [`StripeBuilder`] packs stored chunks straight into segment layout; [`Sealer::seal`] then goes
//! through the stripe *column by column*: it seals one 64 KiB segment of each data shard, computes the parity blocks and
//! takes every block's chaining value while the column is in cache. What comes out are [`Shard`]s, whose bodies are
//! slices of two pooled buffers: nothing is copied on its way to a site.
//!
//! **Back:** [`verify_shard`] lets only bytes with the ledger's hash become a [`VerifiedShard`]; [`decode`] rebuilds
//! missing data shards and checks them against the ledger too, so that two restorers with different shards get the same
//! bytes or an error; [`CodedStripe::open`] compares the commitment, opens the segments and hands out stored chunks.
//! [`verify_whole`] looks at header and trailer too. [`verify_group`] proves one group of a ranged read. [`read_alone`] is for shards without a ledger.
//!
//! **Architecture Invariant:** no I/O, no clock, no async. Only a sealed stripe can be coded and only a verified shard
//! decoded: the types say so.

#![forbid(unsafe_code)]

mod alone;
mod back;
mod column;
mod pack;
mod seal;
mod tree;

pub use self::{
    alone::{AloneError, LoneShard, read_alone},
    back::{
        CodedStripe, DecodeError, OpenedStripe, ShardError, VerifiedShard, decode, group_range, open_one_segment,
        rebuild, trailer_range, verify_group, verify_shard, verify_whole,
    },
    pack::{PackedStripe, StripeBuilder, StripeShape},
    seal::{SealError, SealedStripe, Sealer, Shard},
    tree::{GroupHash, payload_root, trailer_of},
};
