//! Records of collection (FORMAT.md section 23): what is to go, who released it, and what must not go.
//!
//! A reaper *marks* stripes that no kept snapshot needs; from then on nobody reuses them. Collection authorities release
//! what a mark names by signing a *sweep*. A *hold* keeps snapshots whatever the rules say. None of these is ever withdrawn
//! by deleting it.

use minicbor::{Decode, Encode, decode};

use crate::{
    envelope::RunStripes,
    id::{Anchor, DatasetId, RecordHash},
    limit::{RECORD_BYTES_MAX, RUNS_PER_HEAD_MAX},
    signed::SignedRecord,
    wire::{Record, Rule, Version1, strictly_ascending},
};

/// Most records whose receipts one mark carries on: heads of four sites' full listings, and some charters. Twelve MiB.
pub const RECEIPTS_MAX: usize = 300_000;

/// Longest reason of a hold, in bytes.
pub const HOLD_REASON_BYTES_MAX: usize = 400;

/// When a record was first shown, by the clock of the reaper that saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct FirstSeen {
    /// A head or a charter.
    #[n(0)]
    pub record: RecordHash,
    /// Unix seconds.
    #[n(1)]
    pub at: i64,
}

/// What a reaper wants to delete. Signed by it alone; deletes nothing, and forbids reuse.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Mark {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The charter that the reaper obeyed.
    #[n(2)]
    pub charter_version: u32,
    /// Unix seconds.
    #[n(3)]
    pub created: i64,
    /// Stripes that nobody may reuse from now on, ascending by run.
    #[n(4)]
    pub stripes: Vec<RunStripes>,
    /// Snapshots that no rule keeps, ascending.
    #[n(5)]
    pub dropped: Vec<RecordHash>,
    /// What the reaper remembers, so that another one goes on with it, ascending by record.
    #[n(6)]
    pub receipts: Vec<FirstSeen>,
}

/// A release: the authorities' word that these may be deleted, from `not_before` on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Sweep {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The charter whose authorities sign.
    #[n(2)]
    pub charter_version: u32,
    /// The mark's record.
    #[n(3)]
    pub mark: RecordHash,
    /// Unix seconds.
    #[n(4)]
    pub created: i64,
    /// Unix seconds: the end of the cool-off.
    #[n(5)]
    pub not_before: i64,
    /// All or some of the mark's stripes, ascending by run.
    #[n(6)]
    pub stripes: Vec<RunStripes>,
    /// All or some of the snapshots that it drops, ascending. They can't be restored from then on.
    #[n(7)]
    pub dropped: Vec<RecordHash>,
}

/// Seconds between a release and the first deletion: a long weekend, so that somebody who has seen it can object.
pub const COOL_OFF_SECONDS: i64 = 72 * 3600;

/// What a hold covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HoldScope {
    /// One snapshot.
    Snapshot(RecordHash),
    /// Every snapshot of a dataset.
    Dataset(DatasetId),
    /// Every snapshot of every dataset.
    Archive,
}

/// Keeps snapshots whatever the rules say, until it is released.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hold {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The charter that the signers obeyed.
    #[n(2)]
    pub charter_version: u32,
    /// What it covers.
    #[n(3)]
    pub scope: HoldScope,
    /// Unix seconds.
    #[n(4)]
    pub created: i64,
    /// Why: a file number, a court. Public.
    #[n(5)]
    pub reason: String,
    /// The hold that this record ends; absent in one that places a hold.
    #[n(6)]
    pub releases: Option<RecordHash>,
}

impl<C> Encode<C> for HoldScope {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Snapshot(head) => encoder.array(2)?.u8(0)?.bytes(head.as_bytes())?.ok(),
            Self::Dataset(dataset) => encoder.array(2)?.u8(1)?.bytes(dataset.as_bytes())?.ok(),
            Self::Archive => encoder.array(1)?.u8(2)?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for HoldScope {
    fn decode(decoder: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, decode::Error> {
        match (decoder.array()?, decoder.u8()?) {
            (Some(2), 0) => RecordHash::decode(decoder, context).map(Self::Snapshot),
            (Some(2), 1) => DatasetId::decode(decoder, context).map(Self::Dataset),
            (Some(1), 2) => Ok(Self::Archive),
            _ => Err(decode::Error::message("a hold covers something unknown")),
        }
    }
}

/// Runs ascend, are few enough, and each has stripes.
fn stripes_are_lawful(stripes: &[RunStripes]) -> Result<(), Rule> {
    let runs: Vec<_> = stripes.iter().map(|stripes| stripes.run).collect();
    if runs.len() > RUNS_PER_HEAD_MAX {
        let text = format!("{} runs, the cap is {RUNS_PER_HEAD_MAX}", runs.len());
        return Err(Rule::new("too-long", text));
    }
    if !strictly_ascending(&runs) {
        return Err(Rule::new("bad-order", "runs are unsorted or doubled"));
    }
    match stripes.iter().any(|stripes| stripes.stripes.is_empty()) {
        true => Err(Rule::new("bad-record", "a run without stripes")),
        false => Ok(()),
    }
}

fn charter_is_named(version: u32) -> Result<(), Rule> {
    match version {
        0 => Err(Rule::new("wrong-charter", "charter versions begin with 1")),
        _ => Ok(()),
    }
}

fn heads_ascend(dropped: &[RecordHash]) -> Result<(), Rule> {
    match strictly_ascending(dropped) {
        true => Ok(()),
        false => Err(Rule::new("bad-order", "dropped snapshots are unsorted or doubled")),
    }
}

impl Record for Mark {
    const KIND: &'static str = "mark";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        charter_is_named(self.charter_version)?;
        stripes_are_lawful(&self.stripes)?;
        heads_ascend(&self.dropped)?;
        if self.receipts.len() > RECEIPTS_MAX {
            let text = format!("{} receipts, the cap is {RECEIPTS_MAX}", self.receipts.len());
            return Err(Rule::new("too-long", text));
        }
        let records: Vec<_> = self.receipts.iter().map(|receipt| receipt.record).collect();
        match strictly_ascending(&records) {
            true => Ok(()),
            false => Err(Rule::new("bad-order", "receipts are unsorted or doubled")),
        }
    }
}

impl SignedRecord for Mark {
    const TYPE: &'static str = "exclave mark v1";
}

impl Record for Sweep {
    const KIND: &'static str = "sweep";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        charter_is_named(self.charter_version)?;
        stripes_are_lawful(&self.stripes)?;
        heads_ascend(&self.dropped)?;
        if self.stripes.is_empty() {
            return Err(Rule::new("bad-record", "a sweep releases nothing"));
        }
        match self.not_before.checked_sub(self.created) {
            Some(wait) if wait >= COOL_OFF_SECONDS => Ok(()),
            _ => Err(Rule::new("bad-record", "a sweep begins before its cool-off is over")),
        }
    }
}

impl SignedRecord for Sweep {
    const TYPE: &'static str = "exclave sweep v1";
}

impl Record for Hold {
    const KIND: &'static str = "hold";
    const BYTES_MAX: usize = 4096;

    fn law(&self) -> Result<(), Rule> {
        charter_is_named(self.charter_version)?;
        let lawful = |c: char| !c.is_control();
        match (1..=HOLD_REASON_BYTES_MAX).contains(&self.reason.len()) && self.reason.chars().all(lawful) {
            true => Ok(()),
            false => Err(Rule::new(
                "bad-record",
                format!("a hold's reason is not 1 to {HOLD_REASON_BYTES_MAX} bytes without control characters"),
            )),
        }
    }
}

impl SignedRecord for Hold {
    const TYPE: &'static str = "exclave hold v1";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::RunId, wire::RecordError};

    const ANCHOR: Anchor = Anchor::from_bytes([1; 32]);

    fn stripes(run: u8, ordinals: impl IntoIterator<Item = u32>) -> RunStripes {
        RunStripes {
            run: RunId::from_bytes([run; 16]),
            stripes: ordinals.into_iter().collect(),
        }
    }

    fn mark() -> Mark {
        Mark {
            format: Version1,
            anchor: ANCHOR,
            charter_version: 2,
            created: 1_800_000_000,
            stripes: vec![stripes(1, [0, 1, 5]), stripes(2, 0..9)],
            dropped: vec![RecordHash::from_bytes([3; 32])],
            receipts: vec![FirstSeen {
                record: RecordHash::from_bytes([3; 32]),
                at: 1_700_000_000,
            }],
        }
    }

    fn sweep() -> Sweep {
        Sweep {
            format: Version1,
            anchor: ANCHOR,
            charter_version: 2,
            mark: RecordHash::from_bytes([4; 32]),
            created: 1_800_000_000,
            not_before: 1_800_000_000 + COOL_OFF_SECONDS,
            stripes: vec![stripes(1, [0])],
            dropped: Vec::new(),
        }
    }

    fn hold(scope: HoldScope) -> Hold {
        Hold {
            format: Version1,
            anchor: ANCHOR,
            charter_version: 1,
            scope,
            created: 1_800_000_000,
            reason: "Case 12/2027".to_owned(),
            releases: None,
        }
    }

    fn kind<R: Record>(record: &R) -> Option<&'static str> {
        match record.to_bytes() {
            Ok(bytes) => {
                let again = R::from_bytes(&bytes).and_then(|record| record.to_bytes());
                assert_eq!(again.ok(), Some(bytes));
                None
            }
            Err(RecordError::Unlawful { rule, .. }) => Some(rule.kind),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn lawful_records_come_back() {
        assert_eq!(kind(&mark()), None);
        assert_eq!(kind(&sweep()), None);
        let scopes = [
            HoldScope::Snapshot(RecordHash::from_bytes([9; 32])),
            HoldScope::Dataset(DatasetId::from_bytes([9; 16])),
            HoldScope::Archive,
        ];
        for scope in scopes {
            let hold = hold(scope);
            assert_eq!(Hold::from_bytes(&hold.to_bytes().unwrap()).unwrap(), hold);
        }
    }

    #[test]
    fn each_rule_refuses() {
        let changed = |change: fn(&mut Mark)| {
            let mut mark = mark();
            change(&mut mark);
            kind(&mark)
        };
        assert_eq!(changed(|mark| mark.charter_version = 0), Some("wrong-charter"));
        assert_eq!(changed(|mark| mark.stripes.reverse()), Some("bad-order"));
        assert_eq!(
            changed(|mark| mark.stripes[0].stripes = Default::default()),
            Some("bad-record")
        );
        assert_eq!(
            changed(|mark| mark.dropped = vec![mark.dropped[0]; 2]),
            Some("bad-order")
        );
        assert_eq!(
            changed(|mark| mark.receipts = vec![mark.receipts[0]; 2]),
            Some("bad-order")
        );
        let changed = |change: fn(&mut Sweep)| {
            let mut sweep = sweep();
            change(&mut sweep);
            kind(&sweep)
        };
        assert_eq!(changed(|sweep| sweep.not_before -= 1), Some("bad-record"));
        assert_eq!(changed(|sweep| sweep.created = i64::MIN), Some("bad-record"));
        assert_eq!(changed(|sweep| sweep.stripes.clear()), Some("bad-record"));
        let mut bad = hold(HoldScope::Archive);
        bad.reason = "a\nb".to_owned();
        assert_eq!(kind(&bad), Some("bad-record"));
        bad.reason.clear();
        assert_eq!(kind(&bad), Some("bad-record"));
    }
}
