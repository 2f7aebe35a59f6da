//! The public record of what a run wrote (FORMAT.md section 10).
//!
//! A part needs no signature: heads name it by the hash of its bytes. Where shards lie is a hint; their hashes are the
//! truth, and they override what headers say.

use minicbor::{Decode, Encode};

use crate::{
    context::{CONTEXT_BYTES, StripeContext},
    id::{Anchor, Commitment, PayloadHash, RunId, SiteId},
    limit::{RECORD_BYTES_MAX, SHARDS_PER_STRIPE_MAX, STRIPES_PER_LEDGER_PART},
    wire::{Record, Rule, Version1, broken, strictly_ascending},
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
        let context = StripeContext::from_bytes(&bytes).map_err(broken)?;
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
        if self.layouts.is_empty() || self.stripes.is_empty() {
            return Err(Rule::new("bad-record", "a ledger part without layouts or stripes"));
        }
        if self.stripes.len() > STRIPES_PER_LEDGER_PART {
            let text = format!("{} stripes, the cap is {STRIPES_PER_LEDGER_PART}", self.stripes.len());
            return Err(Rule::new("too-long", text));
        }
        let firsts: Vec<_> = self.layouts.iter().map(|layout| layout.first_ordinal).collect();
        if !strictly_ascending(&firsts) {
            return Err(Rule::new("bad-order", "layouts do not ascend"));
        }
        self.stripes.iter().try_for_each(|stripe| self.stripe_law(stripe))?;
        let ordinals: Vec<_> = self.stripes.iter().map(|stripe| stripe.context.ordinal).collect();
        if !strictly_ascending(&ordinals) {
            return Err(Rule::new("bad-order", "stripes do not ascend"));
        }
        if firsts.first() > ordinals.first() {
            return Err(Rule::new(
                "bad-order",
                "the first layout begins behind the first stripe",
            ));
        }
        self.layouts_law()
    }
}

impl LedgerPart {
    fn stripe_law(&self, stripe: &StripeRecord) -> Result<(), Rule> {
        if stripe.context.anchor != self.anchor {
            return Err(Rule::new("wrong-archive", "a stripe's context names another archive"));
        }
        if stripe.context.run != self.run {
            return Err(Rule::new("wrong-run", "a stripe's context names another run"));
        }
        let shards = stripe.payloads.len();
        if shards < usize::from(stripe.context.data) || shards > SHARDS_PER_STRIPE_MAX {
            let text = format!("{shards} shards of a stripe whose k is {}", stripe.context.data);
            return Err(Rule::new("bad-geometry", text));
        }
        Ok(())
    }

    /// A layout that no stripe uses may name any number of sites that a stripe could have.
    fn layouts_law(&self) -> Result<(), Rule> {
        if self.layouts.iter().any(|layout| layout.sites.is_empty()) {
            return Err(Rule::new("bad-record", "a layout of no sites"));
        }
        let too_wide = |layout: &LayoutFrom| layout.sites.len() > SHARDS_PER_STRIPE_MAX;
        if self.layouts.iter().any(too_wide) {
            return Err(Rule::new("bad-geometry", "a layout of more than 32 sites"));
        }
        let differs = |stripe: &&StripeRecord| self.layout_of(stripe.context.ordinal).len() != stripe.payloads.len();
        match self.stripes.iter().find(differs) {
            Some(stripe) => Err(Rule::new(
                "bad-geometry",
                format!(
                    "stripe {} has another number of shards than its layout",
                    stripe.context.ordinal
                ),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, LabelTag, PayloadLength};

    fn stripe(ordinal: u32, shards: usize) -> StripeRecord {
        StripeRecord {
            context: StripeContext {
                code: Code::ReedSolomonVandermonde,
                data: 2,
                payload: PayloadLength::new(64 << 10, 2).unwrap(),
                anchor: Anchor::from_bytes([1; 32]),
                run: RunId::from_bytes([2; 16]),
                ordinal,
                salt: [0; 32],
                label_tag: LabelTag::from_bytes([0; 16]),
            },
            commitment: Commitment::from_bytes([0; 32]),
            payloads: vec![PayloadHash::from_bytes([0; 32]); shards],
        }
    }

    fn part(layouts: &[(u32, u8)], stripes: &[(u32, usize)]) -> LedgerPart {
        let layout = |(first_ordinal, sites): &(u32, u8)| LayoutFrom {
            first_ordinal: *first_ordinal,
            sites: (0..*sites).map(|site| SiteId::from_bytes([site; 16])).collect(),
        };
        LedgerPart {
            format: Version1,
            anchor: Anchor::from_bytes([1; 32]),
            run: RunId::from_bytes([2; 16]),
            part: 0,
            layouts: layouts.iter().map(layout).collect(),
            stripes: stripes
                .iter()
                .map(|(ordinal, shards)| stripe(*ordinal, *shards))
                .collect(),
        }
    }

    #[test]
    fn layouts_are_as_wide_as_their_stripes() {
        let widened = part(&[(0, 2), (6, 3)], &[(5, 2), (6, 3)]);
        let bytes = widened.to_bytes().unwrap();
        assert_eq!(LedgerPart::from_bytes(&bytes).unwrap(), widened);
        for (layouts, stripes, kind) in [
            (&[(0, 3)][..], &[(5, 2)][..], "bad-geometry"),
            (&[(0, 2)], &[(5, 3)], "bad-geometry"),
            (&[(0, 2), (9, 33)], &[(5, 2)], "bad-geometry"),
            (&[(0, 2), (9, 0)], &[(5, 2)], "bad-record"),
            (&[(0, 2)], &[(5, 1)], "bad-geometry"),
            (&[(0, 2)], &[(5, 2), (5, 2)], "bad-order"),
            (&[(0, 2), (0, 2)], &[(5, 2)], "bad-order"),
            (&[(6, 2)], &[(5, 2)], "bad-order"),
            (&[], &[(5, 2)], "bad-record"),
            (&[(0, 2)], &[], "bad-record"),
        ] {
            let rule = part(layouts, stripes).law().unwrap_err();
            assert_eq!(rule.kind, kind, "{layouts:?} {stripes:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_context_is_said() {
        let mut bytes = part(&[(0, 2)], &[(5, 2)]).to_bytes().unwrap();
        let magic = bytes.windows(8).position(|window| window == b"EXCLSHRD").unwrap();
        bytes[magic] ^= 1;
        let error = LedgerPart::from_bytes(&bytes).unwrap_err();
        assert!(matches!(error, crate::RecordError::Unlawful { rule, .. } if rule.kind == "bad-magic"));
    }
}
