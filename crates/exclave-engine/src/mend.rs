//! Shards of a stripe, rebuilt from any k others, put where they belong and read back: what paying a debt and repairing have
//! in common. No key and no source is needed; the ledger says what must come out.

use std::sync::Arc;

use bytes::Bytes;
use exclave_model::{ObjectName, ShardHeader, ShardName, SiteId, StripeRecord, Tag};
use exclave_site::{Body, Class, PutMode, SiteError};
use exclave_stripe::{DecodeError, VerifiedShard, rebuild, trailer_of, verify_shard, verify_whole};

use crate::{
    archive::SiteHandle,
    fetch::{Problem, SiteBook, shards::ShardFeed},
    replicate::chain_text,
};

/// Names under which one shard is put at one site: its own, and repeated puts where foreign bytes stay in the way.
const ATTEMPTS_MAX: u32 = 8;

/// Why a shard is not where it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Unmended {
    /// What lies there is not what the ledger says, and puts changed nothing.
    #[error("it keeps other bytes under the shard's name")]
    OtherBytes,
    /// The site failed.
    #[error("{0}")]
    Site(String),
    /// The shard can't be made.
    #[error("fewer than k of the stripe's other shards can be read")]
    TooFewShards,
    /// The shard can't be made.
    #[error("{0}")]
    NotACodeword(String),
}

impl Unmended {
    fn site(error: &SiteError) -> Self {
        Self::Site(chain_text(error))
    }
}

/// A stripe whose shards are rebuilt.
#[derive(Debug, Clone)]
pub(crate) struct Patient {
    /// Its line in the ledger.
    pub(crate) record: Arc<StripeRecord>,
    /// The sites of its shards.
    pub(crate) layout: Vec<SiteId>,
}

impl Patient {
    /// The objects of the wanted shards, in their order, from k others: those of the layout first, then whatever any site
    /// lists. Who sends wrong bytes is asked last from then on.
    pub(crate) async fn rebuild(&self, book: &Arc<SiteBook>, wanted: &[u8]) -> Result<Vec<Body>, Unmended> {
        let runtime = tokio::runtime::Handle::current();
        let mut feed = ShardFeed::start(&runtime, book, &self.record, &self.layout);
        let mut shards: Vec<VerifiedShard> = Vec::new();
        while shards.len() < usize::from(self.record.context.data) {
            let arrival = feed.arrival().await.ok_or(Unmended::TooFewShards)?;
            match verify_shard(&self.record, arrival.index, &arrival.object) {
                Ok(shard) => {
                    book.used_shard(arrival.site);
                    shards.push(shard);
                }
                Err(_) => {
                    book.note(arrival.site, Problem::Corrupt);
                    feed.refuse(arrival.index);
                }
            }
        }
        drop(feed);
        let payloads = rebuild(&self.record, &shards, wanted).map_err(|error| match error {
            DecodeError::TooFew(_) => Unmended::TooFewShards,
            DecodeError::NotACodeword(_) | DecodeError::Geometry => Unmended::NotACodeword(error.to_string()),
        })?;
        let objects = wanted.iter().zip(payloads).map(|(index, payload)| {
            let header = ShardHeader {
                context: self.record.context,
                index: *index,
                commitment: self.record.commitment,
            };
            let trailer = trailer_of(&payload);
            let slices = [header.to_bytes().to_vec(), payload, trailer];
            slices.into_iter().map(Bytes::from).collect()
        });
        Ok(objects.collect())
    }

    /// The name of a shard, `None` for an index that the stripe has not.
    pub(crate) fn name(&self, book: &SiteBook, index: u8, attempt: u32) -> Option<ObjectName> {
        let hash = self.record.payloads.get(usize::from(index))?;
        Some(book.names().shard(&ShardName {
            run: self.record.context.run,
            ordinal: self.record.context.ordinal,
            index,
            tag: Tag::of_hash(hash.as_bytes()),
            attempt,
        }))
    }

    /// Puts a shard and reads it back whole; says under which attempt it lies. What is right there already stays: it may be
    /// ours, from a put whose reply was lost. What is wrong is put over, where the store lets that happen, since a name
    /// has one right content; where it doesn't, the shard is put beside it.
    pub(crate) async fn put(
        &self,
        book: &SiteBook,
        handle: &SiteHandle,
        index: u8,
        object: &Body,
    ) -> Result<u32, Unmended> {
        let length = self.record.context.payload.object_bytes() as u64;
        for attempt in 0..ATTEMPTS_MAX {
            let name = self.name(book, index, attempt).ok_or(Unmended::TooFewShards)?;
            if self.lies(handle, index, &name, length).await? {
                return Ok(attempt);
            }
            let put = handle.site.put(&name, object.clone(), PutMode::Plain).await;
            put.map_err(|error| Unmended::site(&error))?;
            if self.lies(handle, index, &name, length).await? {
                handle.site.flush().await.map_err(|error| Unmended::site(&error))?;
                return Ok(attempt);
            }
        }
        Err(Unmended::OtherBytes)
    }

    /// Whether the right bytes lie under a name.
    async fn lies(&self, handle: &SiteHandle, index: u8, name: &ObjectName, length: u64) -> Result<bool, Unmended> {
        match handle.site.get(name, length).await {
            Ok(found) => Ok(verify_whole(&self.record, index, &found).is_ok()),
            Err(error) => match error.class() {
                Class::Missing | Class::TooLong | Class::ShortRead | Class::Malformed => Ok(false),
                _ => Err(Unmended::site(&error)),
            },
        }
    }
}
