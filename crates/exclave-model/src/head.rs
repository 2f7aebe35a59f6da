//! The record that commits a snapshot, its run table and its sealed part (FORMAT.md section 11).

use minicbor::{Decode, Encode};

use crate::{
    directory::Codec,
    id::{Anchor, ChunkId, Commitment, DatasetId, Incarnation, KeyId, RecordHash, RunId},
    limit::{HEAD_BYTES_MAX, PAGE_DEPTH_MAX, RECORD_BYTES_MAX, RUNS_PER_HEAD_MAX, RUNS_PER_PAGE, TIPS_MAX},
    live_set::LiveSet,
    manifest::ChunkRef,
    signed::SignedRecord,
    tripwire::Tripwire,
    wire::{Record, Rule, Version1, broken, strictly_ascending},
};

/// How safe a snapshot was when its head was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotState {
    /// Every stripe had the shards that its class demands.
    Durable,
    /// Some stripe had fewer, though at least k.
    Provisional,
}

impl<C> Encode<C> for SnapshotState {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.u8(match self {
            Self::Durable => 0,
            Self::Provisional => 1,
        })?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for SnapshotState {
    fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        match decoder.u8()? {
            0 => Ok(Self::Durable),
            1 => Ok(Self::Provisional),
            _ => Err(minicbor::decode::Error::message("unknown snapshot state")),
        }
    }
}

/// The public half of a snapshot's commit.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Head {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The dataset.
    #[n(2)]
    pub dataset: DatasetId,
    /// Who commits.
    #[n(3)]
    pub writer: KeyId,
    /// Which life of the writer.
    #[n(4)]
    pub incarnation: Incarnation,
    /// Its place in the chain, from 0.
    #[n(5)]
    pub seq: u64,
    /// The head before it in the chain.
    #[n(6)]
    pub previous: Option<RecordHash>,
    /// Heads seen in other chains, ascending.
    #[n(7)]
    pub tips: Vec<RecordHash>,
    /// The charter that the writer obeyed.
    #[n(8)]
    pub charter_version: u32,
    /// Least number of verified shards of any stripe that the snapshot needs.
    #[n(9)]
    pub verified_min: u8,
    /// How safe it was.
    #[n(10)]
    pub state: SnapshotState,
    /// Shards that were missing up to n.
    #[n(11)]
    pub debt: u64,
    /// The run whose key opens the sealed part.
    #[n(12)]
    pub run: RunId,
    /// The pages of the run table, in order.
    #[n(13)]
    pub run_pages: Vec<RecordHash>,
    /// The sealed part, in a box.
    #[cbor(n(14), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
    /// What the writer found strange about its source, ascending.
    #[n(15)]
    pub tripwires: Option<Vec<Tripwire>>,
}

impl Head {
    /// What the writer found strange about its source.
    pub fn tripwires(&self) -> &[Tripwire] {
        self.tripwires.as_deref().unwrap_or_default()
    }
}

impl Record for Head {
    const KIND: &'static str = "head";
    const BYTES_MAX: usize = HEAD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        let broken = |kind, text: &str| Err(Rule::new(kind, text));
        if self.run_pages.is_empty() {
            return broken("bad-record", "the run table has no page");
        }
        if self.previous.is_some() != (self.seq > 0) {
            return broken("bad-record", "a first head has no predecessor, every other one has");
        }
        if self.tips.len() > TIPS_MAX || self.run_pages.len() > RUN_PAGES_MAX {
            return broken("too-long", "more tips or pages of the run table than a head may have");
        }
        if !strictly_ascending(&self.tips) {
            return broken("bad-order", "tips are unsorted or doubled");
        }
        if self.charter_version == 0 {
            return broken("wrong-charter", "charter versions begin with 1");
        }
        if self.sealed.is_empty() || !self.sealed.len().is_multiple_of(SEALED_STEP_BYTES) {
            return Err(Rule::new(
                "bad-length",
                "the sealed part is not a multiple of 1,024 bytes",
            ));
        }
        if let Some(wires) = &self.tripwires {
            if wires.is_empty() {
                return broken("bad-record", "a list of tripwires without one");
            }
            if !strictly_ascending(wires) {
                return broken("bad-order", "tripwires are unsorted or doubled");
            }
        }
        Ok(())
    }
}

impl SignedRecord for Head {
    const TYPE: &'static str = "exclave head v1";
}

/// Pages of a head's run table: full ones hold the most runs a head may refer to.
pub const RUN_PAGES_MAX: usize = RUNS_PER_HEAD_MAX / RUNS_PER_PAGE;

/// A head's sealed part is padded to whole steps, so that its length says little.
pub const SEALED_STEP_BYTES: usize = 1024;

/// What a snapshot needs of one run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct RunEntry {
    /// The run.
    #[n(0)]
    pub run: RunId,
    /// Commitment to its key.
    #[n(1)]
    pub commitment: Commitment,
    /// The stripes that are needed.
    #[n(2)]
    pub live: LiveSet,
    /// The ledger parts that describe them.
    #[n(3)]
    pub ledgers: Vec<RecordHash>,
}

/// Up to 256 runs of a head's run table.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RunPage {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The runs, ascending.
    #[n(2)]
    pub runs: Vec<RunEntry>,
}

impl Record for RunPage {
    const KIND: &'static str = "run table page";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        let runs: Vec<_> = self.runs.iter().map(|entry| entry.run).collect();
        let unnamed = |entry: &RunEntry| entry.ledgers.is_empty() && !entry.live.is_empty();
        if runs.is_empty() || self.runs.iter().any(unnamed) {
            return Err(Rule::new(
                "bad-record",
                "no run, or one with live stripes and no ledger part",
            ));
        }
        if runs.len() > RUNS_PER_PAGE {
            return Err(Rule::new(
                "too-long",
                format!("{} runs, the cap is {RUNS_PER_PAGE}", runs.len()),
            ));
        }
        if !strictly_ascending(&runs) {
            return Err(Rule::new("bad-order", "runs are unsorted or doubled"));
        }
        Ok(())
    }
}

/// Checks what only all pages of one run table show: that their runs ascend from page to page, and how many there are.
pub fn check_run_table(pages: &[RunPage]) -> Result<(), Rule> {
    let runs: Vec<_> = pages
        .iter()
        .flat_map(|page| &page.runs)
        .map(|entry| entry.run)
        .collect();
    if runs.len() > RUNS_PER_HEAD_MAX {
        return Err(Rule::new(
            "too-long",
            format!("{} runs, the cap is {RUNS_PER_HEAD_MAX}", runs.len()),
        ));
    }
    if !strictly_ascending(&runs) {
        return Err(Rule::new(
            "bad-order",
            "runs do not ascend over the pages of a run table",
        ));
    }
    Ok(())
}

/// Where a snapshot came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A directory tree.
    Tree,
    /// A single file.
    File,
    /// A block image.
    Image,
    /// The output of commands.
    Command,
}

impl SourceKind {
    /// The word in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::File => "file",
            Self::Image => "image",
            Self::Command => "command",
        }
    }
}

impl<C> Encode<C> for SourceKind {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.u8(match self {
            Self::Tree => 0,
            Self::File => 1,
            Self::Image => 2,
            Self::Command => 3,
        })?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for SourceKind {
    fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        match decoder.u8()? {
            0 => Ok(Self::Tree),
            1 => Ok(Self::File),
            2 => Ok(Self::Image),
            3 => Ok(Self::Command),
            _ => Err(minicbor::decode::Error::message("unknown source kind")),
        }
    }
}

/// What a snapshot holds and what it left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub struct Counts {
    /// Regular files and streams.
    #[n(0)]
    pub files: u64,
    /// Directories.
    #[n(1)]
    pub directories: u64,
    /// Links and special files.
    #[n(2)]
    pub others: u64,
    /// Bytes of files, holes included.
    #[n(3)]
    pub bytes: u64,
    /// Entries that could not be read.
    #[n(4)]
    pub skipped: u64,
    /// Entries that rules exclude.
    #[n(5)]
    pub excluded: u64,
    /// Files that changed while they were read.
    #[n(6)]
    pub changed: u64,
}

/// Where the manifest's root page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestRoot {
    /// Its level.
    pub level: u8,
    /// The page.
    pub page: ChunkRef,
}

/// What only recipients read of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedHead {
    /// Name of the dataset.
    pub name: String,
    /// Label.
    pub label: String,
    /// Unix seconds.
    pub started: i64,
    /// Unix seconds.
    pub finished: i64,
    /// Where it came from.
    pub source: SourceKind,
    /// Digest of the source's definition.
    pub source_digest: [u8; 32],
    /// What it holds.
    pub counts: Counts,
    /// Where its manifest begins.
    pub root: ManifestRoot,
    /// Derives the dedup key, so that a restorer can check every chunk and a new agent can go on.
    pub dataset_secret: [u8; 32],
    /// How it was cut.
    pub cutter: String,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireRoot(
    #[n(0)] RunId,
    #[n(1)] u32,
    #[n(2)] u32,
    #[n(3)] u32,
    #[n(4)] u32,
    #[n(5)] u8,
    #[n(6)] ChunkId,
);

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireSealed {
    #[n(0)]
    format: Version1,
    #[n(1)]
    name: String,
    #[n(2)]
    label: String,
    #[n(3)]
    started: i64,
    #[n(4)]
    finished: i64,
    #[n(5)]
    source: SourceKind,
    #[cbor(n(6), with = "minicbor::bytes")]
    source_digest: [u8; 32],
    #[n(7)]
    counts: Counts,
    #[n(8)]
    level: u8,
    #[n(9)]
    root: WireRoot,
    #[cbor(n(10), with = "minicbor::bytes")]
    dataset_secret: [u8; 32],
    #[n(11)]
    cutter: String,
}

impl<C> Encode<C> for SealedHead {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let page = &self.root.page;
        let root = WireRoot(
            page.run,
            page.ordinal,
            page.offset,
            page.stored,
            page.raw,
            page.codec.number(),
            page.id,
        );
        WireSealed {
            format: Version1,
            name: self.name.clone(),
            label: self.label.clone(),
            started: self.started,
            finished: self.finished,
            source: self.source,
            source_digest: self.source_digest,
            counts: self.counts,
            level: self.root.level,
            root,
            dataset_secret: self.dataset_secret,
            cutter: self.cutter.clone(),
        }
        .encode(encoder, context)
    }
}

impl<'b, C> Decode<'b, C> for SealedHead {
    fn decode(decoder: &mut minicbor::Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let wire = WireSealed::decode(decoder, context)?;
        let WireRoot(run, ordinal, offset, stored, raw, codec, id) = wire.root;
        let codec = Codec::from_number(codec)
            .ok_or_else(|| minicbor::decode::Error::message("the root page's codec is unknown"))?;
        if usize::from(wire.level) >= PAGE_DEPTH_MAX {
            let text = format!(
                "the root page has level {}, the cap is {PAGE_DEPTH_MAX} levels",
                wire.level
            );
            return Err(broken(Rule::new("too-long", text)));
        }
        if !codec.allows(stored, raw) {
            let text = format!("the root page has {stored} stored and {raw} raw bytes");
            return Err(broken(Rule::new("bad-length", text)));
        }
        Ok(Self {
            name: wire.name,
            label: wire.label,
            started: wire.started,
            finished: wire.finished,
            source: wire.source,
            source_digest: wire.source_digest,
            counts: wire.counts,
            root: ManifestRoot {
                level: wire.level,
                page: ChunkRef {
                    run,
                    ordinal,
                    offset,
                    stored,
                    raw,
                    codec,
                    id,
                },
            },
            dataset_secret: wire.dataset_secret,
            cutter: wire.cutter,
        })
    }
}

impl Record for SealedHead {
    const KIND: &'static str = "sealed head";
    const BYTES_MAX: usize = HEAD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            format: Version1,
            anchor: Anchor::from_bytes([1; 32]),
            dataset: DatasetId::from_bytes([2; 16]),
            writer: KeyId::from_bytes([3; 32]),
            incarnation: Incarnation::from_bytes([4; 16]),
            seq: 0,
            previous: None,
            tips: Vec::new(),
            charter_version: 1,
            verified_min: 3,
            state: SnapshotState::Durable,
            debt: 0,
            run: RunId::from_bytes([5; 16]),
            run_pages: vec![RecordHash::from_bytes([6; 32]); RUN_PAGES_MAX],
            sealed: vec![0; SEALED_STEP_BYTES],
            tripwires: None,
        }
    }

    #[test]
    fn heads_keep_their_law() {
        assert_eq!(Head::from_bytes(&head().to_bytes().unwrap()).unwrap(), head());
        let strange = Head {
            tripwires: Some(Tripwire::ALL.to_vec()),
            ..head()
        };
        assert_eq!(Head::from_bytes(&strange.to_bytes().unwrap()).unwrap(), strange);
        type Change = fn(&mut Head);
        let cases: [(&str, Change); 12] = [
            ("bad-record", |head| head.run_pages.clear()),
            ("bad-record", |head| head.seq = 1),
            ("bad-record", |head| {
                head.previous = Some(RecordHash::from_bytes([0; 32]))
            }),
            ("too-long", |head| head.run_pages.push(RecordHash::from_bytes([6; 32]))),
            ("too-long", |head| {
                head.tips = vec![RecordHash::from_bytes([0; 32]); TIPS_MAX + 1]
            }),
            ("bad-order", |head| head.tips = vec![RecordHash::from_bytes([0; 32]); 2]),
            ("wrong-charter", |head| head.charter_version = 0),
            ("bad-length", |head| head.sealed.clear()),
            ("bad-length", |head| head.sealed.push(0)),
            ("bad-record", |head| head.tripwires = Some(Vec::new())),
            ("bad-order", |head| {
                head.tripwires = Some(vec![Tripwire::Noise, Tripwire::Changed]);
            }),
            ("bad-order", |head| head.tripwires = Some(vec![Tripwire::Noise; 2])),
        ];
        for (at, (kind, change)) in cases.into_iter().enumerate() {
            let mut head = head();
            change(&mut head);
            assert_eq!(head.law().unwrap_err().kind, kind, "case {at}");
        }
    }

    #[test]
    fn a_run_without_ledgers_needs_nothing() {
        let page = |run, live: &[u32], ledgers| RunPage {
            format: Version1,
            anchor: Anchor::from_bytes([1; 32]),
            runs: vec![RunEntry {
                run: RunId::from_bytes([run; 16]),
                commitment: Commitment::from_bytes([0; 32]),
                live: live.iter().copied().collect(),
                ledgers: vec![RecordHash::from_bytes([0; 32]); ledgers],
            }],
        };
        assert_eq!(page(1, &[], 0).law(), Ok(()));
        assert_eq!(page(1, &[3], 0).law().unwrap_err().kind, "bad-record");
        assert_eq!(check_run_table(&[page(1, &[], 0), page(2, &[3], 1)]), Ok(()));
        let twice = check_run_table(&[page(1, &[], 0), page(1, &[3], 1)]);
        assert_eq!(twice.unwrap_err().kind, "bad-order");
    }
}
