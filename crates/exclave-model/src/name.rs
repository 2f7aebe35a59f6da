//! Names of objects at a site.
//!
//! An [`ObjectName`] is a relative path of lowercase letters, digits, `-`, `_` and `.`, cut by single slashes. That is
//! the common subset of what S3, Azure, GCS, WebDAV and POSIX file systems keep unchanged, and it can't climb: no
//! component is empty, `.` or `..`. Parsing refuses everything else, so a hostile listing can't name a file outside.

use std::fmt;

use crate::context::{CHAINING_VALUE_BYTES, HEADER_BYTES};
use crate::id::{Anchor, DatasetId, Incarnation, KeyId, RunId, SiteId, hex, unhex};
use crate::limit::SEGMENT_BYTES;

/// Longest object name. S3 allows 1,024 bytes, file systems 255 a component; our longest is below 160.
pub const OBJECT_NAME_BYTES_MAX: usize = 512;

/// Where one object lies inside a site.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// Why a text is not an object name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an object name: {0:?}")]
pub struct BadObjectName(String);

impl ObjectName {
    /// Reads a name; refuses anything that a site might rewrite or that might leave the prefix.
    ///
    /// ```
    /// use exclave_model::ObjectName;
    /// assert!(ObjectName::parse("a1/charter/1.0011223344556677").is_ok());
    /// for bad in ["", "/a", "a/", "a//b", "a/../b", "A", "a b", "a\\b"] {
    ///     assert!(ObjectName::parse(bad).is_err());
    /// }
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadObjectName> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
        let component = |part: &str| {
            !part.is_empty()
                && part.len() <= crate::limit::PATH_COMPONENT_BYTES_MAX
                && part != "."
                && part != ".."
                && part.bytes().all(allowed)
        };
        if text.len() <= OBJECT_NAME_BYTES_MAX && text.split('/').all(component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadObjectName(text.chars().take(120).collect()))
        }
    }

    /// The name as a site stores it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The tag that the name of a record ends in; shards that were put again end otherwise.
    pub fn tag(&self) -> Option<Tag> {
        // A grant's name is its tag alone.
        self.file_name().rsplit('.').next().and_then(unhex).map(Tag)
    }

    /// Whether an object's bytes are those that its name was made from, as far as the tag in it tells; `None` when there is no
    /// tag in it.
    ///
    /// That sorts out what lies beside or on top of an object. It is no proof: a reader holds the bytes against the whole hash.
    pub fn fits(&self, bytes: &[u8]) -> Option<bool> {
        let is_shard = self.0.split('/').nth(1) == Some("shards");
        if !is_shard {
            return self.tag().map(|tag| Tag::of(bytes) == tag);
        }
        // <ordinal>.<index>.<tag>[.<attempt>]
        let tag = self.file_name().split('.').nth(2).and_then(unhex).map(Tag)?;
        Some(shard_payload(bytes).is_some_and(|payload| Tag::of(payload) == tag))
    }
}

/// A shard's payload within its object (FORMAT.md section 5): all but the header and a trailer of 32 bytes for every 64 KiB.
fn shard_payload(object: &[u8]) -> Option<&[u8]> {
    let behind = object.get(HEADER_BYTES..)?;
    let groups = behind.len() / (SEGMENT_BYTES + CHAINING_VALUE_BYTES);
    let is_whole = groups > 0 && groups * (SEGMENT_BYTES + CHAINING_VALUE_BYTES) == behind.len();
    behind.get(..groups * SEGMENT_BYTES).filter(|_| is_whole)
}

/// A place that names lie below: everything, or an [`ObjectName`] and a slash.
///
/// The slash is part of it, so that `runs/1` never finds what lies below `runs/10`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// The prefix of every name.
    pub const fn all() -> Self {
        Self(String::new())
    }

    /// The prefix of what lies below `name`.
    pub fn below(name: &ObjectName) -> Self {
        Self(format!("{}/", name.0))
    }

    /// Reads a prefix: empty, or an object name and a slash.
    ///
    /// ```
    /// use exclave_model::Prefix;
    /// assert!(Prefix::parse("").is_ok() && Prefix::parse("a1/runs/").is_ok());
    /// for bad in ["/", "a", "a//", "../", "A/"] {
    ///     assert!(Prefix::parse(bad).is_err());
    /// }
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadObjectName> {
        match text.strip_suffix('/') {
            Some(name) => Ok(Self::below(&ObjectName::parse(name)?)),
            None if text.is_empty() => Ok(Self::all()),
            None => Err(BadObjectName(text.chars().take(120).collect())),
        }
    }

    /// The name `rest` below this prefix.
    pub fn join(&self, rest: &str) -> Result<ObjectName, BadObjectName> {
        ObjectName::parse(&format!("{}{rest}", self.0))
    }

    /// True when `name` lies below this prefix.
    pub fn contains(&self, name: &ObjectName) -> bool {
        name.0.starts_with(&self.0)
    }

    /// The prefix as a site compares it: empty or ending in a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The first eight bytes of an object's BLAKE3 hash, as sixteen hex digits at the end of its name.
///
/// Equal names mean equal bytes, so puts are idempotent, and a thief with a put credential can't squat a name we need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 8]);

impl Tag {
    /// The tag of an object's whole bytes, or of a shard's payload.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_hash(blake3::hash(bytes).as_bytes())
    }

    /// The tag of something whose BLAKE3 hash is known.
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Self(first)
    }
}

impl std::str::FromStr for Tag {
    type Err = BadObjectName;

    fn from_str(text: &str) -> Result<Self, BadObjectName> {
        unhex(text)
            .map(Tag)
            .ok_or_else(|| BadObjectName(text.chars().take(120).collect()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// What a run publishes about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunObject {
    /// Its claim and key.
    Envelope,
    /// Its claim on others' stripes.
    Reuse,
    /// What it wrote.
    Ledger,
    /// What a snapshot needs.
    Live,
    /// Its last word.
    Close,
}

impl RunObject {
    const ALL: [Self; 5] = [Self::Envelope, Self::Reuse, Self::Ledger, Self::Live, Self::Close];

    /// The word in its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Reuse => "reuse",
            Self::Ledger => "ledger",
            Self::Live => "live",
            Self::Close => "close",
        }
    }
}

/// The names of one archive's objects at every site (FORMAT.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveNames {
    anchor: Anchor,
}

impl ArchiveNames {
    /// The names of an archive.
    pub const fn new(anchor: Anchor) -> Self {
        Self { anchor }
    }

    /// The archive.
    pub const fn anchor(&self) -> Anchor {
        self.anchor
    }

    fn archive(&self) -> String {
        hex(&self.anchor.as_bytes()[..16])
    }

    fn name(&self, rest: fmt::Arguments<'_>) -> ObjectName {
        // Built from hex, digits and the words of FORMAT.md only: always a lawful name.
        ObjectName(format!("{}/{rest}", self.archive()))
    }

    fn prefix(&self, rest: fmt::Arguments<'_>) -> Prefix {
        Prefix(format!("{}/{rest}", self.archive()))
    }

    /// Everything of the archive.
    pub fn root_prefix(&self) -> Prefix {
        self.prefix(format_args!(""))
    }

    /// A charter version.
    pub fn charter(&self, version: u32, tag: Tag) -> ObjectName {
        self.name(format_args!("charter/{version:08}.{tag}"))
    }

    /// All charters.
    pub fn charter_prefix(&self) -> Prefix {
        self.prefix(format_args!("charter/"))
    }

    /// A site's plate.
    pub fn plate(&self, site: SiteId, tag: Tag) -> ObjectName {
        self.name(format_args!("sites/{}.{tag}", site.to_hex()))
    }

    /// All plates at a site; more than one is a mistake or a lie.
    pub fn plate_prefix(&self) -> Prefix {
        self.prefix(format_args!("sites/"))
    }

    /// Something a run publishes.
    pub fn run_object(&self, run: RunId, object: RunObject, tag: Tag) -> ObjectName {
        self.name(format_args!("runs/{}/{}.{tag}", run.to_hex(), object.as_str()))
    }

    /// Takes the parts from the name of something that a run publishes about itself; `None` when it is none in its one
    /// spelling.
    pub fn read_run_object(&self, name: &ObjectName) -> Option<(RunId, RunObject, Tag)> {
        let below = name.as_str().strip_prefix(self.runs_prefix().as_str())?;
        let (run, file) = below.split_once('/')?;
        let (word, _) = file.split_once('.')?;
        let run = run.parse().ok()?;
        let object = RunObject::ALL.into_iter().find(|object| object.as_str() == word)?;
        let tag = name.tag()?;
        (self.run_object(run, object, tag) == *name).then_some((run, object, tag))
    }

    /// All that a run publishes.
    pub fn run_prefix(&self, run: RunId) -> Prefix {
        self.prefix(format_args!("runs/{}/", run.to_hex()))
    }

    /// All runs.
    pub fn runs_prefix(&self) -> Prefix {
        self.prefix(format_args!("runs/"))
    }

    /// The manifest of a kit's version.
    pub fn kit_manifest(&self, version: u32, tag: Tag) -> ObjectName {
        self.name(format_args!("kit/{version:08}/{}.{tag}", crate::kit::MANIFEST))
    }

    /// A piece of a kit's file; `None` when no file of a kit has that name.
    pub fn kit_piece(&self, version: u32, file: &str, piece: usize, tag: Tag) -> Option<ObjectName> {
        // A lawful file's name is a lawful component.
        crate::kit::file_name(file).then(|| self.name(format_args!("kit/{version:08}/{file}.{piece:03}.{tag}")))
    }

    /// All of a kit's version.
    pub fn kit_prefix(&self, version: u32) -> Prefix {
        self.prefix(format_args!("kit/{version:08}/"))
    }

    /// All kits.
    pub fn kits_prefix(&self) -> Prefix {
        self.prefix(format_args!("kit/"))
    }

    /// A record of a dataset.
    pub fn registration(&self, dataset: DatasetId, version: u32, tag: Tag) -> ObjectName {
        self.name(format_args!("datasets/{}/{version:08}.{tag}", dataset.to_hex()))
    }

    /// All records of datasets.
    pub fn registrations_prefix(&self) -> Prefix {
        self.prefix(format_args!("datasets/"))
    }

    /// A version of the directory of names and contacts.
    pub fn companion(&self, version: u32, tag: Tag) -> ObjectName {
        self.name(format_args!("names/{version:08}.{tag}"))
    }

    /// All versions of the directory.
    pub fn companions_prefix(&self) -> Prefix {
        self.prefix(format_args!("names/"))
    }

    /// A grant.
    pub fn grant(&self, tag: Tag) -> ObjectName {
        self.name(format_args!("grants/{tag}"))
    }

    /// All grants.
    pub fn grants_prefix(&self) -> Prefix {
        self.prefix(format_args!("grants/"))
    }

    /// A checkpoint of a log: a key's in one life of its holder. Several may lie there for one size, with more signatures.
    pub fn log_checkpoint(&self, key: KeyId, life: Incarnation, size: u64, tag: Tag) -> ObjectName {
        let (key, life) = (key.to_hex(), life.to_hex());
        self.name(format_args!("log/{key}/{life}/checkpoint/{size:020}.{tag}"))
    }

    /// A tile or bundle of a log, `path` being its own as C2SP has it; `None` when that is no path.
    pub fn log_tile(&self, key: KeyId, life: Incarnation, path: &str, tag: Tag) -> Option<ObjectName> {
        let (key, life) = (key.to_hex(), life.to_hex());
        let name = self.name(format_args!("log/{key}/{life}/{path}.{tag}"));
        (path.starts_with("tile/") && ObjectName::parse(name.as_str()).is_ok()).then_some(name)
    }

    /// Takes the parts from the name of something in a log; `None` when it is none in its one spelling.
    pub fn read_log(&self, name: &ObjectName) -> Option<LogName> {
        let below = name.as_str().strip_prefix(self.logs_prefix().as_str())?;
        let (key, rest) = below.split_once('/')?;
        let (life, rest) = rest.split_once('/')?;
        let (path, _) = rest.rsplit_once('.')?;
        let (key, life, tag) = (key.parse().ok()?, life.parse().ok()?, name.tag()?);
        let (object, again) = match path.strip_prefix("checkpoint/") {
            Some(size) => {
                let size = size.parse().ok()?;
                let again = self.log_checkpoint(key, life, size, tag);
                (LogObject::Checkpoint { size }, again)
            }
            None => {
                let again = self.log_tile(key, life, path, tag)?;
                (LogObject::Tile { path: path.to_owned() }, again)
            }
        };
        (again == *name).then_some(LogName { key, life, object, tag })
    }

    /// All of a log.
    pub fn log_prefix(&self, key: KeyId, life: Incarnation) -> Prefix {
        self.prefix(format_args!("log/{}/{}/", key.to_hex(), life.to_hex()))
    }

    /// All logs.
    pub fn logs_prefix(&self) -> Prefix {
        self.prefix(format_args!("log/"))
    }

    /// All collection marks.
    pub fn marks_prefix(&self) -> Prefix {
        self.prefix(format_args!("marks/"))
    }

    /// A collection mark.
    pub fn mark(&self, tag: Tag) -> ObjectName {
        self.name(format_args!("marks/{tag}"))
    }

    /// What collection authorities released.
    pub fn sweep(&self, tag: Tag) -> ObjectName {
        self.name(format_args!("sweeps/{tag}"))
    }

    /// All releases.
    pub fn sweeps_prefix(&self) -> Prefix {
        self.prefix(format_args!("sweeps/"))
    }

    /// A hold, or its end.
    pub fn hold(&self, tag: Tag) -> ObjectName {
        self.name(format_args!("holds/{tag}"))
    }

    /// All holds.
    pub fn holds_prefix(&self) -> Prefix {
        self.prefix(format_args!("holds/"))
    }

    /// A shard.
    pub fn shard(&self, shard: &ShardName) -> ObjectName {
        let ShardName {
            run,
            ordinal,
            index,
            tag,
            attempt,
        } = shard;
        let folder = ordinal / STRIPES_PER_FOLDER;
        let run = run.to_hex();
        match attempt {
            0 => self.name(format_args!("shards/{run}/{folder:06}/{ordinal:010}.{index:02}.{tag}")),
            _ => self.name(format_args!(
                "shards/{run}/{folder:06}/{ordinal:010}.{index:02}.{tag}.{attempt}"
            )),
        }
    }

    /// All shards of a run.
    pub fn shards_prefix(&self, run: RunId) -> Prefix {
        self.prefix(format_args!("shards/{}/", run.to_hex()))
    }

    /// The shards of up to 4,096 stripes, among them `ordinal`.
    pub fn shards_folder(&self, run: RunId, ordinal: u32) -> Prefix {
        self.prefix(format_args!(
            "shards/{}/{:06}/",
            run.to_hex(),
            ordinal / STRIPES_PER_FOLDER
        ))
    }

    /// A head.
    pub fn head(&self, writer: KeyId, incarnation: Incarnation, seq: u64, tag: Tag) -> ObjectName {
        self.name(format_args!(
            "heads/{}/{}/{seq:020}.{tag}",
            writer.to_hex(),
            incarnation.to_hex()
        ))
    }

    /// All heads.
    pub fn heads_prefix(&self) -> Prefix {
        self.prefix(format_args!("heads/"))
    }

    /// The heads of one writer.
    pub fn writer_prefix(&self, writer: KeyId) -> Prefix {
        self.prefix(format_args!("heads/{}/", writer.to_hex()))
    }

    /// The heads of one life of a writer.
    pub fn chain_prefix(&self, writer: KeyId, incarnation: Incarnation) -> Prefix {
        self.prefix(format_args!("heads/{}/{}/", writer.to_hex(), incarnation.to_hex()))
    }
}

/// The parts of the name of something in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogName {
    /// Whose log.
    pub key: KeyId,
    /// Which life of the key's holder.
    pub life: Incarnation,
    /// What it is.
    pub object: LogObject,
    /// Beginning of its hash.
    pub tag: Tag,
}

/// What lies in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogObject {
    /// A checkpoint.
    Checkpoint {
        /// Leaves of its tree.
        size: u64,
    },
    /// A tile or a bundle of entries.
    Tile {
        /// Its path as C2SP has it.
        path: String,
    },
}

/// Stripes per folder of shards, so that one listing stays short.
pub const STRIPES_PER_FOLDER: u32 = 4096;

/// The parts of a shard's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardName {
    /// The run that wrote it.
    pub run: RunId,
    /// Its stripe.
    pub ordinal: u32,
    /// Its place in the stripe.
    pub index: u8,
    /// Beginning of its payload's hash.
    pub tag: Tag,
    /// 0, or the number of the repeated put.
    pub attempt: u32,
}

impl ShardName {
    /// Takes the parts from a name; `None` when it is not a shard's name in its one spelling.
    pub fn parse(names: &ArchiveNames, name: &ObjectName) -> Option<Self> {
        let mut parts = name.as_str().split('/');
        let (_, _, run, _, file) = (
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
            parts.next()?,
        );
        let mut fields = file.split('.');
        let shard = Self {
            run: run.parse().ok()?,
            ordinal: fields.next()?.parse().ok()?,
            index: fields.next()?.parse().ok()?,
            tag: Tag(unhex(fields.next()?)?),
            attempt: fields.next().map_or(Some(0), |attempt| attempt.parse().ok())?,
        };
        // Writing it again refuses every other spelling and every other archive.
        (names.shard(&shard) == *name).then_some(shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_which_bytes_they_were_made_from() {
        let names = ArchiveNames::new(Anchor::from_bytes([0xab; 32]));
        let grant = names.grant(Tag::of(b"grant"));
        assert_eq!((grant.fits(b"grant"), grant.fits(b"other")), (Some(true), Some(false)));
        let charter = names.charter(1, Tag::of(b""));
        assert_eq!((charter.fits(b""), charter.fits(b"x")), (Some(true), Some(false)));
        assert_eq!(ObjectName::parse("probe/small").unwrap().fits(b""), None);
        for groups in [1, 3] {
            let payload = vec![7; groups * SEGMENT_BYTES];
            let object = [
                vec![1; HEADER_BYTES],
                payload.clone(),
                vec![2; groups * CHAINING_VALUE_BYTES],
            ]
            .concat();
            for attempt in [0, 3] {
                let name = names.shard(&ShardName {
                    run: RunId::from_bytes([1; 16]),
                    ordinal: 1,
                    index: 0,
                    tag: Tag::of(&payload),
                    attempt,
                });
                assert_eq!(name.fits(&object), Some(true));
                assert_eq!(name.fits(&payload), Some(false));
                assert_eq!(name.fits(&object[..object.len() - 1]), Some(false));
                assert_eq!(name.fits(b""), Some(false));
                let mut other = object.clone();
                other[HEADER_BYTES] ^= 1;
                assert_eq!(name.fits(&other), Some(false));
            }
        }
    }

    #[test]
    fn names_in_a_log_have_one_spelling() {
        let names = ArchiveNames::new(Anchor::from_bytes([0xab; 32]));
        let (key, life) = (KeyId::from_bytes([1; 32]), Incarnation::from_bytes([2; 16]));
        let checkpoint = names.log_checkpoint(key, life, 7, Tag::of(b"x"));
        let read = names.read_log(&checkpoint).unwrap();
        assert_eq!((read.key, read.life, read.tag), (key, life, Tag::of(b"x")));
        assert_eq!(read.object, LogObject::Checkpoint { size: 7 });
        for path in ["tile/0/000", "tile/entries/x001/002.p/17"] {
            let tile = names.log_tile(key, life, path, Tag::of(b"x")).unwrap();
            assert_eq!(ObjectName::parse(tile.as_str()).as_ref(), Ok(&tile));
            let path = path.to_owned();
            assert_eq!(names.read_log(&tile).unwrap().object, LogObject::Tile { path });
            assert!(names.log_prefix(key, life).contains(&tile));
        }
        for bad in ["", "/tile/0/000", "checkpoint/1", "tile/../x", "tile/A"] {
            assert!(names.log_tile(key, life, bad, Tag::of(b"x")).is_none(), "{bad}");
        }
        let odd = checkpoint.as_str().replace("/00000000000000000007.", "/7.");
        assert_eq!(names.read_log(&ObjectName::parse(&odd).unwrap()), None);
    }

    #[test]
    fn shard_names_have_one_spelling() {
        let names = ArchiveNames::new(Anchor::from_bytes([0xab; 32]));
        let mut shard = ShardName {
            run: RunId::from_bytes([1; 16]),
            ordinal: 5000,
            index: 3,
            tag: Tag::of(b"x"),
            attempt: 0,
        };
        for attempt in [0, 1, 12] {
            shard.attempt = attempt;
            let name = names.shard(&shard);
            assert_eq!(ObjectName::parse(name.as_str()).as_ref(), Ok(&name));
            assert_eq!(ShardName::parse(&names, &name), Some(shard));
            let other = ArchiveNames::new(Anchor::from_bytes([0xac; 32]));
            assert_eq!(ShardName::parse(&other, &name), None);
        }
        let folder = names.shards_folder(shard.run, 5000);
        assert!(names.shard(&shard).as_str().starts_with(folder.as_str()), "{folder}");
        let odd = names.shard(&shard).as_str().replace(".12", ".012");
        assert_eq!(ShardName::parse(&names, &ObjectName::parse(&odd).unwrap()), None);
    }
}
