//! The public record of what a run wrote (FORMAT.md section 10).
//!
//! A part needs no signature: heads name it by the hash of its bytes. Where shards lie is a hint; their hashes are the
//! truth, and they override what headers say.

use minicbor::{Decode, Encode};

use crate::{
    context::{CONTEXT_BYTES, StripeContext},
    id::{Anchor, Commitment, PayloadHash, RunId, SiteId},
    limit::{RECORD_BYTES_MAX, SHARDS_PER_STRIPE_MAX, STRIPES_PER_LEDGER_PART},
    wire::{Record, Rule, Version1, strictly_ascending},
};

/// The sites of a run's shards, from one stripe on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LayoutFrom {
    /// First stripe it is about.
    #[n(0)]
    pub first_ordinal: u32,
    /// The i-th site holds shard i.
    #[n(1)]
    pub sites: Vec<SiteId>,
}

/// One stripe in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripeRecord {
    /// What it is bound to.
    pub context: StripeContext,
    /// Its commitment.
    pub commitment: Commitment,
    /// The hash of each shard's payload, those still owed included.
    pub payloads: Vec<PayloadHash>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireStripe(
    #[cbor(n(0), with = "minicbor::bytes")] [u8; CONTEXT_BYTES],
    #[n(1)] Commitment,
    #[n(2)] Vec<PayloadHash>,
);

impl<C> Encode<C> for StripeRecord {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        WireStripe(self.context.to_bytes(), self.commitment, self.payloads.clone()).encode(encoder, context)
    }
}

impl<'b, C> Decode<'b, C> for StripeRecord {
    fn decode(decoder: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let WireStripe(bytes, commitment, payloads) = decoder.decode_with(context)?;
        let context = StripeContext::from_bytes(&bytes).map_err(|rule| minicbor::decode::Error::message(rule.text))?;
        Ok(Self {
            context,
            commitment,
            payloads,
        })
    }
}

/// Up to 4,096 stripes of one run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LedgerPart {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The run that wrote the stripes.
    #[n(2)]
    pub run: RunId,
    /// Its number among the run's parts.
    #[n(3)]
    pub part: u32,
    /// Where shards were meant to lie.
    #[n(4)]
    pub layouts: Vec<LayoutFrom>,
    /// The stripes, ascending.
    #[n(5)]
    pub stripes: Vec<StripeRecord>,
}

impl LedgerPart {
    /// The sites of a stripe's shards, in order of their index.
    pub fn layout_of(&self, ordinal: u32) -> &[SiteId] {
        let behind = self.layouts.partition_point(|layout| layout.first_ordinal <= ordinal);
        behind.checked_sub(1).map_or(&[], |at| &self.layouts[at].sites)
    }

    /// The stripe with a number.
    pub fn stripe(&self, ordinal: u32) -> Option<&StripeRecord> {
        let at = self
            .stripes
            .binary_search_by_key(&ordinal, |stripe| stripe.context.ordinal)
            .ok()?;
        self.stripes.get(at)
    }
}

impl Record for LedgerPart {
    const KIND: &'static str = "ledger part";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        let broken = |text: &str| Err(Rule::new("bad-ledger", text));
        let ordinals: Vec<_> = self.stripes.iter().map(|stripe| stripe.context.ordinal).collect();
        if ordinals.is_empty() || ordinals.len() > STRIPES_PER_LEDGER_PART || !strictly_ascending(&ordinals) {
            return broken("stripes are missing, unsorted, doubled or too many");
        }
        let firsts: Vec<_> = self.layouts.iter().map(|layout| layout.first_ordinal).collect();
        if !strictly_ascending(&firsts) || firsts.first().is_none_or(|first| *first > ordinals[0]) {
            return broken("layouts are unsorted or begin behind the first stripe");
        }
        for stripe in &self.stripes {
            if stripe.context.anchor != self.anchor || stripe.context.run != self.run {
                return Err(Rule::new(
                    "wrong-run",
                    "a stripe's context names another archive or run",
                ));
            }
            let shards = stripe.payloads.len();
            if shards < usize::from(stripe.context.data) || shards > SHARDS_PER_STRIPE_MAX {
                return broken("a stripe has fewer shards than k or more than 32");
            }
            if self.layout_of(stripe.context.ordinal).len() != shards {
                return broken("a layout has another number of sites than its stripes have shards");
            }
        }
        Ok(())
    }
}
