//! The manifest: what a snapshot holds, in pages that can each be read alone (FORMAT.md section 12).
//!
//! [`Entry`] and [`Extent`] speak of runs by their id; inside a page a run is a position in the page's own table, so
//! that a reference costs some fifty bytes. [`Page::encode`] and [`Page::decode`] translate.

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::{
    directory::Codec,
    id::{ChunkId, RunId},
    limit::{FILE_BYTES_MAX, PAGE_BYTES_MAX, PAGE_DEPTH_MAX, PATH_BYTES_MAX, XATTR_BYTES_MAX},
    path::{BadPath, EntryPath},
    wire::{Record, RecordError, Rule},
};

/// The level of pages that hold a long file's extents.
pub const EXTENTS_LEVEL: u8 = 255;

/// Where one chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// The run that wrote it.
    pub run: RunId,
    /// The stripe inside the run.
    pub ordinal: u32,
    /// Where its stored bytes begin in the stripe's plaintext.
    pub offset: u32,
    /// Stored bytes.
    pub stored: u32,
    /// Bytes after decompression.
    pub raw: u32,
    /// How it is stored.
    pub codec: Codec,
    /// Its keyed hash.
    pub id: ChunkId,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file, or a named stream.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl EntryKind {
    const ALL: [Self; 7] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::Fifo,
        Self::Socket,
        Self::CharDevice,
        Self::BlockDevice,
    ];

    /// The number in manifests.
    pub fn number(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Directory => 1,
            Self::Symlink => 2,
            Self::Fifo => 3,
            Self::Socket => 4,
            Self::CharDevice => 5,
            Self::BlockDevice => 6,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A moment: seconds since 1970-01-01 UTC, and nanoseconds below 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds; negative before 1970.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// A stretch of a file that holds data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes: the sum of its chunks' raw lengths.
    pub length: u64,
    /// Its chunks in order.
    pub refs: Vec<ChunkRef>,
}

/// Where a file's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The extents themselves; empty for everything that holds no data.
    Extents(Vec<Extent>),
    /// Pages of level [`EXTENTS_LEVEL`] that list the extents.
    Paged(Vec<ChunkRef>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Extents(Vec::new())
    }
}

/// An extended attribute: name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// One file, directory, link or special file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where, below the dataset's root.
    pub path: EntryPath,
    /// What.
    pub kind: EntryKind,
    /// The twelve permission bits.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// When the content was last modified.
    pub modified: Timestamp,
    /// Owner's name, when known.
    pub owner_name: Option<Vec<u8>>,
    /// Group's name, when known.
    pub group_name: Option<Vec<u8>>,
    /// Extended attributes, ascending by name.
    pub xattrs: Vec<Xattr>,
    /// Bytes of a file, holes included; 0 for others.
    pub size: u64,
    /// Where a symbolic link points.
    pub link_target: Option<Vec<u8>>,
    /// A device's number: major x 2^32 + minor.
    pub device: Option<u64>,
    /// First path, in order, of the files that are one file under several names.
    pub link_group: Option<EntryPath>,
    /// A file's data.
    pub content: Content,
}

impl Entry {
    /// An entry of a kind at a path; everything else empty.
    pub fn new(path: EntryPath, kind: EntryKind) -> Self {
        Self {
            path,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            modified: Timestamp::default(),
            owner_name: None,
            group_name: None,
            xattrs: Vec::new(),
            size: 0,
            link_target: None,
            device: None,
            link_group: None,
            content: Content::default(),
        }
    }

    /// An upper bound of the bytes that this entry takes in a page, its share of the run table included.
    pub fn encoded_bytes_max(&self) -> usize {
        let optional = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, |bytes| bytes.len() + 8);
        let xattrs: usize = self
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len() + 16)
            .sum();
        let content = match &self.content {
            Content::Extents(extents) => extents.iter().map(Extent::encoded_bytes_max).sum(),
            Content::Paged(refs) => refs.len() * REF_BYTES_MAX,
        };
        96 + self.path.as_bytes().len()
            + optional(&self.owner_name)
            + optional(&self.group_name)
            + xattrs
            + optional(&self.link_target)
            + self.link_group.as_ref().map_or(0, |path| path.as_bytes().len() + 8)
            + content
    }
}

impl Extent {
    /// An upper bound of the bytes that this extent takes in a page.
    pub fn encoded_bytes_max(&self) -> usize {
        32 + self.refs.len() * REF_BYTES_MAX
    }
}

/// Upper bound of one reference in a page: seven items, and once its run in the table.
const REF_BYTES_MAX: usize = 1 + 5 + 4 * 5 + 1 + 34 + 17;

/// A page of the level below, and the first path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Path of the first entry below.
    pub first: EntryPath,
    /// Where the page lies.
    pub page: ChunkRef,
}

/// One page of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// Level 0: entries, ascending.
    Entries(Vec<Entry>),
    /// Level 1 and up: pages of the level below.
    Children {
        /// The level of this page.
        level: u8,
        /// Pages of the level below, ascending.
        children: Vec<Child>,
    },
    /// Extents of one long file.
    Extents(Vec<Extent>),
}

impl Page {
    /// Writes the page; refuses one that a reader would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let wire = self.to_wire();
        let bytes = wire.to_bytes()?;
        // The law is stated once, where wire becomes page: a page that can't be read back is not written.
        wire.into_page().map_err(unlawful)?;
        Ok(bytes)
    }

    /// Reads a page strictly.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        WirePage::from_bytes(bytes)?.into_page().map_err(unlawful)
    }
}

fn unlawful(rule: Rule) -> RecordError {
    RecordError::Unlawful {
        kind: WirePage::KIND,
        rule,
    }
}

/// Runs in order of first use.
#[derive(Default)]
struct RunTable {
    runs: Vec<RunId>,
    last: usize,
}

impl RunTable {
    fn position(&mut self, run: RunId) -> u32 {
        // Neighbouring chunks mostly share a run; the table itself stays short.
        if self.runs.get(self.last) != Some(&run) {
            self.last = self.runs.iter().position(|known| *known == run).unwrap_or_else(|| {
                self.runs.push(run);
                self.runs.len() - 1
            });
        }
        u32::try_from(self.last).unwrap_or(u32::MAX)
    }

    fn reference(&mut self, chunk: &ChunkRef) -> WireRef {
        let run = self.position(chunk.run);
        WireRef(
            run,
            chunk.ordinal,
            chunk.offset,
            chunk.stored,
            chunk.raw,
            chunk.codec.number(),
            chunk.id,
        )
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireRef(
    #[n(0)] u32,
    #[n(1)] u32,
    #[n(2)] u32,
    #[n(3)] u32,
    #[n(4)] u32,
    #[n(5)] u8,
    #[n(6)] ChunkId,
);

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireExtent(#[n(0)] u64, #[n(1)] u64, #[n(2)] Vec<WireRef>);

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireXattr(
    #[cbor(n(0), with = "minicbor::bytes")] Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")] Vec<u8>,
);

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireChild(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>, #[n(1)] WireRef);

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireEntry {
    #[cbor(n(0), with = "minicbor::bytes")]
    path: Vec<u8>,
    #[n(1)]
    kind: u8,
    #[n(2)]
    mode: u32,
    #[n(3)]
    uid: u32,
    #[n(4)]
    gid: u32,
    #[n(5)]
    secs: i64,
    #[n(6)]
    nanos: u32,
    #[cbor(n(7), with = "minicbor::bytes")]
    owner_name: Option<Vec<u8>>,
    #[cbor(n(8), with = "minicbor::bytes")]
    group_name: Option<Vec<u8>>,
    #[n(9)]
    xattrs: Option<Vec<WireXattr>>,
    #[n(10)]
    size: Option<u64>,
    #[cbor(n(11), with = "minicbor::bytes")]
    link_target: Option<Vec<u8>>,
    #[n(12)]
    device: Option<u64>,
    #[cbor(n(13), with = "minicbor::bytes")]
    link_group: Option<Vec<u8>>,
    #[n(14)]
    extents: Option<Vec<WireExtent>>,
    #[n(15)]
    paged: Option<Vec<WireRef>>,
}

/// Field 3 of a page; the level says which.
enum WireItems {
    Entries(Vec<WireEntry>),
    Children(Vec<WireChild>),
    Extents(Vec<WireExtent>),
}

struct WirePage {
    level: u8,
    runs: Vec<RunId>,
    items: WireItems,
}

impl Record for WirePage {
    const KIND: &'static str = "manifest page";
    const BYTES_MAX: usize = PAGE_BYTES_MAX;

    /// Checked where the wire form becomes a [`Page`].
    fn law(&self) -> Result<(), Rule> {
        Ok(())
    }
}

impl<C> Encode<C> for WirePage {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder
            .map(4)?
            .u8(0)?
            .u8(1)?
            .u8(1)?
            .u8(self.level)?
            .u8(2)?
            .encode_with(&self.runs, context)?
            .u8(3)?;
        match &self.items {
            WireItems::Entries(items) => encoder.encode_with(items, context)?.ok(),
            WireItems::Children(items) => encoder.encode_with(items, context)?.ok(),
            WireItems::Extents(items) => encoder.encode_with(items, context)?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for WirePage {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        // Keys, order and count are checked by encoding again; here they only have to be where they belong.
        let _ = decoder.map()?;
        let _ = (decoder.u8()?, decoder.u64()?, decoder.u8()?);
        let level = decoder.u8()?;
        let _ = decoder.u8()?;
        let runs = decoder.decode_with(context)?;
        let _ = decoder.u8()?;
        let items = match level {
            0 => WireItems::Entries(decoder.decode_with(context)?),
            EXTENTS_LEVEL => WireItems::Extents(decoder.decode_with(context)?),
            _ => WireItems::Children(decoder.decode_with(context)?),
        };
        Ok(Self { level, runs, items })
    }
}

impl Page {
    fn to_wire(&self) -> WirePage {
        let mut table = RunTable::default();
        let (level, items) = match self {
            Self::Entries(entries) => (
                0,
                WireItems::Entries(entries.iter().map(|entry| entry_to_wire(entry, &mut table)).collect()),
            ),
            Self::Children { level, children } => {
                let child = |child: &Child| WireChild(child.first.as_bytes().to_vec(), table.reference(&child.page));
                (*level, WireItems::Children(children.iter().map(child).collect()))
            }
            Self::Extents(extents) => (
                EXTENTS_LEVEL,
                WireItems::Extents(
                    extents
                        .iter()
                        .map(|extent| extent_to_wire(extent, &mut table))
                        .collect(),
                ),
            ),
        };
        WirePage {
            level,
            runs: table.runs,
            items,
        }
    }
}

fn entry_to_wire(entry: &Entry, table: &mut RunTable) -> WireEntry {
    let (extents, paged) = match &entry.content {
        Content::Extents(extents) if extents.is_empty() => (None, None),
        Content::Extents(extents) => (
            Some(extents.iter().map(|extent| extent_to_wire(extent, table)).collect()),
            None,
        ),
        Content::Paged(refs) => (None, Some(refs.iter().map(|page| table.reference(page)).collect())),
    };
    let xattrs: Vec<_> = entry
        .xattrs
        .iter()
        .map(|(name, value)| WireXattr(name.clone(), value.clone()))
        .collect();
    WireEntry {
        path: entry.path.as_bytes().to_vec(),
        kind: entry.kind.number(),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        secs: entry.modified.secs,
        nanos: entry.modified.nanos,
        owner_name: entry.owner_name.clone(),
        group_name: entry.group_name.clone(),
        xattrs: (!xattrs.is_empty()).then_some(xattrs),
        size: (entry.kind == EntryKind::File).then_some(entry.size),
        link_target: entry.link_target.clone(),
        device: entry.device,
        link_group: entry.link_group.as_ref().map(|path| path.as_bytes().to_vec()),
        extents,
        paged,
    }
}

fn extent_to_wire(extent: &Extent, table: &mut RunTable) -> WireExtent {
    WireExtent(
        extent.offset,
        extent.length,
        extent.refs.iter().map(|chunk| table.reference(chunk)).collect(),
    )
}

impl WirePage {
    fn into_page(self) -> Result<Page, Rule> {
        let runs = &self.runs;
        match self.items {
            WireItems::Entries(items) if items.is_empty() => Err(nothing()),
            WireItems::Extents(items) if items.is_empty() => Err(nothing()),
            WireItems::Entries(items) => {
                let entries = items
                    .into_iter()
                    .map(|item| item.into_entry(runs))
                    .collect::<Result<Vec<_>, _>>()?;
                ascending(entries.iter().map(|entry| &entry.path))?;
                Ok(Page::Entries(entries))
            }
            WireItems::Extents(items) => Ok(Page::Extents(extents_from_wire(items, runs)?)),
            WireItems::Children(items) => {
                if items.is_empty() {
                    return Err(nothing());
                }
                if usize::from(self.level) >= PAGE_DEPTH_MAX {
                    return Err(Rule::new(
                        "bad-level",
                        format!("level {} is over {PAGE_DEPTH_MAX}", self.level),
                    ));
                }
                let children = items
                    .into_iter()
                    .map(|item| {
                        Ok(Child {
                            first: path(&item.0)?,
                            page: item.1.resolve(runs)?,
                        })
                    })
                    .collect::<Result<Vec<_>, Rule>>()?;
                ascending(children.iter().map(|child| &child.first))?;
                Ok(Page::Children {
                    level: self.level,
                    children,
                })
            }
        }
    }
}

fn ascending<'a>(paths: impl Iterator<Item = &'a EntryPath>) -> Result<(), Rule> {
    let mut last: Option<&EntryPath> = None;
    for path in paths {
        if last.is_some_and(|last| last >= path) {
            return Err(Rule::new("bad-order", format!("{path} stands behind a later path")));
        }
        last = Some(path);
    }
    Ok(())
}

fn nothing() -> Rule {
    Rule::new("bad-record", "a list holds nothing")
}

fn path(bytes: &[u8]) -> Result<EntryPath, Rule> {
    EntryPath::parse(bytes).map_err(|bad| {
        let kind = match bad {
            BadPath::TooLong(_) | BadPath::ComponentTooLong(_) => "too-long",
            BadPath::EmptyComponent | BadPath::Climbs | BadPath::Nul => "bad-path",
        };
        Rule::new(kind, bad.to_string())
    })
}

impl WireRef {
    fn resolve(&self, runs: &[RunId]) -> Result<ChunkRef, Rule> {
        let run = usize::try_from(self.0)
            .ok()
            .and_then(|position| runs.get(position))
            .copied();
        let (Some(run), Some(codec)) = (run, Codec::from_number(self.5)) else {
            let text = format!("a reference names run {} and codec {}", self.0, self.5);
            return Err(Rule::new("bad-record", text));
        };
        let (stored, raw) = (self.3, self.4);
        if !codec.allows(stored, raw) {
            let text = format!("a reference names {stored} stored and {raw} raw bytes");
            return Err(Rule::new("bad-length", text));
        }
        Ok(ChunkRef {
            run,
            ordinal: self.1,
            offset: self.2,
            stored,
            raw,
            codec,
            id: self.6,
        })
    }
}

impl WireEntry {
    fn into_entry(self, runs: &[RunId]) -> Result<Entry, Rule> {
        let path = path(&self.path)?;
        let (kind, link_group) = self.law(&path)?;
        let broken = |rule: Rule| Rule::new(rule.kind, format!("{path}: {}", rule.text));
        let xattrs = xattrs_from_wire(self.xattrs).map_err(broken)?;
        let size = self.size.unwrap_or(0);
        let content = match (self.extents, self.paged) {
            (None, Some(pages)) => {
                Content::Paged(pages.iter().map(|page| page.resolve(runs)).collect::<Result<_, _>>()?)
            }
            (extents, _) => {
                let extents = extents.map_or(Ok(Vec::new()), |extents| extents_from_wire(extents, runs))?;
                if extents.last().is_some_and(|last| last.offset + last.length > size) {
                    return Err(Rule::new(
                        "bad-extents",
                        format!("{path}: an extent ends behind the file's size"),
                    ));
                }
                Content::Extents(extents)
            }
        };
        Ok(Entry {
            path,
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            modified: Timestamp {
                secs: self.secs,
                nanos: self.nanos,
            },
            owner_name: self.owner_name,
            group_name: self.group_name,
            xattrs,
            size,
            link_target: self.link_target,
            device: self.device,
            link_group,
            content,
        })
    }

    /// What fits together in an entry, its type and its link group.
    fn law(&self, path: &EntryPath) -> Result<(EntryKind, Option<EntryPath>), Rule> {
        let broken = |kind, text: &str| Rule::new(kind, format!("{path}: {text}"));
        let kind = EntryKind::from_number(self.kind).ok_or_else(|| broken("bad-record", "its type is unknown"))?;
        let ranges = self.mode <= 0o7777
            && self.nanos < 1_000_000_000
            && self.size.is_none_or(|size| size <= FILE_BYTES_MAX)
            && !self.extents.as_ref().is_some_and(Vec::is_empty)
            && !self.paged.as_ref().is_some_and(Vec::is_empty);
        if !ranges {
            return Err(broken("bad-record", "a number is out of range or a list is empty"));
        }
        if path.is_root() && kind != EntryKind::Directory {
            return Err(Rule::new("bad-path", "the root is no directory"));
        }
        let fits = self.size.is_some() == (kind == EntryKind::File)
            && self.link_target.is_some() == (kind == EntryKind::Symlink)
            && self.device.is_some() == matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice)
            && (kind == EntryKind::File
                || (self.link_group.is_none() && self.extents.is_none() && self.paged.is_none()))
            && !(self.extents.is_some() && self.paged.is_some());
        if !fits {
            return Err(broken("bad-record", "its fields do not fit its type"));
        }
        match self.link_target.as_deref() {
            Some(target) if target.len() > PATH_BYTES_MAX => {
                return Err(broken("too-long", "its target is longer than a path"));
            }
            Some(target) if target.is_empty() || target.contains(&0) => {
                return Err(broken("bad-path", "its target is empty or holds a NUL byte"));
            }
            Some(_) | None => {}
        }
        let link_group = self.link_group.as_deref().map(self::path).transpose()?;
        if link_group.as_ref().is_some_and(|first| first > path) {
            return Err(broken("bad-order", "its link group begins behind it"));
        }
        Ok((kind, link_group))
    }
}

fn xattrs_from_wire(wire: Option<Vec<WireXattr>>) -> Result<Vec<Xattr>, Rule> {
    let Some(wire) = wire else { return Ok(Vec::new()) };
    if wire.is_empty() {
        return Err(nothing());
    }
    let pairs: Vec<_> = wire.into_iter().map(|pair| (pair.0, pair.1)).collect();
    if !pairs.is_sorted_by(|left, right| left.0 < right.0) {
        return Err(Rule::new("bad-order", "extended attributes are unsorted or doubled"));
    }
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > XATTR_BYTES_MAX {
        let text = format!("{bytes} bytes of extended attributes, the cap is {XATTR_BYTES_MAX}");
        return Err(Rule::new("too-long", text));
    }
    Ok(pairs)
}

/// Extents ascend, do not overlap, and each is as long as its chunks.
fn extents_from_wire(wire: Vec<WireExtent>, runs: &[RunId]) -> Result<Vec<Extent>, Rule> {
    let mut end = 0u64;
    let mut extents = Vec::with_capacity(wire.len());
    for WireExtent(offset, length, refs) in wire {
        if refs.is_empty() {
            return Err(nothing());
        }
        let refs = refs
            .iter()
            .map(|chunk| chunk.resolve(runs))
            .collect::<Result<Vec<_>, _>>()?;
        let raw: u64 = refs.iter().map(|chunk| u64::from(chunk.raw)).sum();
        let next = offset.checked_add(length).filter(|next| *next <= FILE_BYTES_MAX);
        match next {
            Some(next) if offset >= end && raw == length && length > 0 => end = next,
            _ => {
                return Err(Rule::new(
                    "bad-extents",
                    format!("extent at {offset} of {length} bytes holds {raw}, the one before ends at {end}"),
                ));
            }
        }
        extents.push(Extent { offset, length, refs });
    }
    Ok(extents)
}

#[cfg(test)]
mod tests;
