//! Writing a log: entries, a signed checkpoint, and what lies at the sites.
//!
//! In this order, so that a death anywhere leaves a log that goes on: the entries and the checkpoint's exact bytes are fsynced
//! in the state folder before the first put; bundles and tiles come to a site before the checkpoint that needs them; the folder
//! notes how far each site has come. The next run puts what a site lacks, from there on.
//!
//! A commit is one without its log. What goes wrong here is told and made up for by the next run.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_log::{
    Checkpoint, EntryKind, LogEntry, LogId, LogProof, SignedCheckpoint, Tiles, inclusion, pair, tree::root_of,
};
use exclave_model::{Incarnation, ObjectName, Record as _, RecordError, RecordHash, SiteId, Tag};
use exclave_seal::{NoEntropy, SigningKey, entropy::draw, signing::SignError};
use futures::{
    future::join_all,
    stream::{self, StreamExt, TryStreamExt},
};
use minicbor::{Decode, Encode};

use super::{entry_bytes, leaves, objects};
use crate::{
    archive::{Archive, SiteHandle, SiteTrouble},
    publish::publish_at,
    state::{AgentState, StateError},
    surroundings::Surroundings,
    survey::{SurveyError, survey},
};

/// Objects that are put at one site at the same time.
const AT_ONCE: usize = 4;

/// Why something is not in the log yet.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// Earlier heads of the chain could not be read.
    #[error("earlier heads, which the log needs first, can't be read")]
    Survey(#[from] SurveyError),
    /// No site shows an earlier head of the chain.
    #[error("no site shows head {seq} of this chain, which the log needs first")]
    Gap {
        /// Its place.
        seq: u64,
    },
    /// The checkpoint can't be signed.
    #[error("the checkpoint can't be signed")]
    Sign(#[from] SignError),
    /// An entry can't be written.
    #[error(transparent)]
    Entry(#[from] RecordError),
    /// The checkpoint can't be written.
    #[error(transparent)]
    Checkpoint(#[from] exclave_log::BadCheckpoint),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No site took it.
    #[error("no site took the log's checkpoint{}", first(.0))]
    Sites(Vec<SiteTrouble>),
}

fn first(troubles: &[SiteTrouble]) -> String {
    troubles
        .first()
        .map_or_else(String::new, |trouble| format!(": {trouble}"))
}

/// A log that was written.
#[derive(Debug)]
pub struct Logged {
    /// Which log.
    pub log: LogId,
    /// Its newest checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// Sites that hold it, and all that it needs.
    pub sites: usize,
    /// What other sites said.
    pub troubles: Vec<SiteTrouble>,
    /// Its entries.
    entries: Vec<Vec<u8>>,
}

impl Logged {
    /// Its entries, in order.
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// The proof that a record is in it.
    pub fn proof(&self, kind: EntryKind, hash: RecordHash) -> Option<LogProof> {
        let entry = LogEntry::new(kind, hash).to_bytes().ok()?;
        let index = self.entries.iter().position(|logged| *logged == entry)? as u64;
        proof(&self.entries, index, self.checkpoint.clone())
    }
}

/// The proof that an entry is in the tree of a checkpoint, which has all of `entries`.
pub(super) fn proof(entries: &[Vec<u8>], index: u64, checkpoint: SignedCheckpoint) -> Option<LogProof> {
    let tiles = Tiles::of_leaves(leaves(entries));
    Some(LogProof {
        extra: entries.get(usize::try_from(index).ok()?).cloned(),
        index,
        hashes: inclusion(&tiles, index, entries.len() as u64).ok()?,
        checkpoint,
    })
}

/// Whether what was signed is in the signer's log. It counts without that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogStanding {
    /// It is.
    Logged {
        /// Entries of the log.
        size: u64,
        /// Sites that hold it whole.
        sites: usize,
    },
    /// It is not, and why.
    NotYet(String),
}

impl LogStanding {
    /// What came of writing a log.
    pub fn of(written: &Result<Logged, LogError>) -> Self {
        match written {
            Ok(logged) => Self::Logged {
                size: logged.checkpoint.checkpoint.size,
                sites: logged.sites,
            },
            Err(error) => {
                let error: &dyn std::error::Error = error;
                let causes = std::iter::successors(error.source(), |cause| cause.source());
                Self::NotYet(causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
            }
        }
    }
}

/// A head that was committed, as the log wants it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommittedHead {
    pub(crate) incarnation: Incarnation,
    pub(crate) seq: u64,
    pub(crate) hash: RecordHash,
    pub(crate) previous: Option<RecordHash>,
    pub(crate) charter_version: u32,
}

/// What the state folder keeps of the log. A folder that has lost it begins a new life, and with it a new log.
#[derive(Encode, Decode)]
#[cbor(map)]
struct LogFile {
    #[n(0)]
    incarnation: Incarnation,
    /// The seq of the next head that goes into it.
    #[n(1)]
    next_seq: u64,
    /// The newest charter that is in it.
    #[n(2)]
    charter_version: u32,
    #[n(3)]
    entries: Vec<Entry>,
    /// The newest checkpoint's note.
    #[cbor(n(4), with = "minicbor::bytes")]
    checkpoint: Vec<u8>,
    /// How much of it each site holds.
    #[n(5)]
    held: Vec<(SiteId, u64)>,
}

#[derive(Clone, Encode, Decode)]
#[cbor(array)]
struct Entry(#[n(0)] u8, #[n(1)] RecordHash);

impl LogFile {
    const NAME: &'static str = "log";

    fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            next_seq: 0,
            charter_version: 0,
            entries: Vec::new(),
            checkpoint: Vec::new(),
            held: Vec::new(),
        }
    }

    fn push(&mut self, kind: EntryKind, hash: RecordHash) {
        self.entries.push(Entry(kind.number(), hash));
    }

    fn entry_bytes(&self) -> Result<Vec<Vec<u8>>, RecordError> {
        let entries = self.entries.iter();
        let entries: Vec<LogEntry> = entries
            .map(|Entry(kind, hash)| LogEntry::new(EntryKind::of_number(*kind), *hash))
            .collect();
        entry_bytes(&entries)
    }

    /// Appends a head, and the charters up to its own before it.
    fn append(&mut self, archive: &Archive, hash: RecordHash, charter_version: u32) {
        for version in self.charter_version + 1..=charter_version {
            if let Some(charter) = archive.charters.hash(version) {
                self.push(EntryKind::Charter, charter);
            }
        }
        self.charter_version = self.charter_version.max(charter_version);
        self.push(EntryKind::Head, hash);
        self.next_seq += 1;
    }
}

/// Appends a committed head to the log of its chain, with every earlier head that isn't in it yet, and brings the log to the
/// sites. `bare` are sites that lost what they had.
pub(crate) fn log_head(
    archive: &Archive,
    state: &AgentState,
    key: &SigningKey,
    head: CommittedHead,
    bare: &BTreeSet<SiteId>,
    surroundings: &Surroundings,
) -> Result<Logged, LogError> {
    let _lock = state.lock_log()?;
    let kept: Option<LogFile> = state.load(LogFile::NAME)?;
    let mut file = kept
        .filter(|file| file.incarnation == head.incarnation)
        .unwrap_or_else(|| LogFile::new(head.incarnation));
    let log = LogId::new(archive.anchor, key.id(), head.incarnation);
    if head.seq >= file.next_seq {
        for (hash, version) in missing(archive, head, file.next_seq, surroundings)? {
            file.append(archive, hash, version);
        }
        file.append(archive, head.hash, head.charter_version);
        let checkpoint = sign(log, &file.entry_bytes()?, key, surroundings)?;
        file.checkpoint = checkpoint.to_bytes();
        // From here on these are the log's bytes, whatever happens.
        state.store(LogFile::NAME, &file)?;
    }
    let entries = file.entry_bytes()?;
    let checkpoint = SignedCheckpoint::parse(&file.checkpoint)?;
    let held = file.held.iter().copied();
    let mut held: BTreeMap<SiteId, u64> = held.filter(|(site, _)| !bare.contains(site)).collect();
    let troubles = put(archive, log, &entries, &file.checkpoint, &mut held, surroundings);
    file.held = held.into_iter().collect();
    state.store(LogFile::NAME, &file)?;
    let whole = |(_, size): &&(SiteId, u64)| *size == checkpoint.checkpoint.size;
    match file.held.iter().filter(whole).count() {
        0 => Err(LogError::Sites(troubles)),
        sites => Ok(Logged {
            log,
            checkpoint,
            sites,
            troubles,
            entries,
        }),
    }
}

/// The heads of a chain from `first` up to the one before `head`, by their links, with the charters that they obey.
fn missing(
    archive: &Archive,
    head: CommittedHead,
    first: u64,
    surroundings: &Surroundings,
) -> Result<Vec<(RecordHash, u32)>, LogError> {
    let mut heads = Vec::new();
    if head.seq == first {
        return Ok(heads);
    }
    let survey = survey(archive, surroundings)?;
    let mut wanted = head.previous;
    for seq in (first..head.seq).rev() {
        let found = wanted.and_then(|hash| survey.found.get(&hash));
        let found = found.filter(|found| found.head.seq == seq && found.head.incarnation == head.incarnation);
        let found = found.ok_or(LogError::Gap { seq })?;
        heads.push((found.hash, found.head.charter_version));
        wanted = found.head.previous;
    }
    heads.reverse();
    Ok(heads)
}

/// Writes records that someone signed into a log of their own: whoever has no state folder can't know what they logged
/// before, and must not fork it.
pub fn log_session(
    archive: &Archive,
    key: &SigningKey,
    entries: &[LogEntry],
    surroundings: &Surroundings,
) -> Result<Logged, LogError> {
    let life = Incarnation::from_bytes(draw(&mut *surroundings.entropy.entropy())?);
    let log = LogId::new(archive.anchor, key.id(), life);
    let entries = entry_bytes(entries)?;
    let checkpoint = sign(log, &entries, key, surroundings)?;
    let mut held = BTreeMap::new();
    let troubles = put(archive, log, &entries, &checkpoint.to_bytes(), &mut held, surroundings);
    match held.len() {
        0 => Err(LogError::Sites(troubles)),
        sites => Ok(Logged {
            log,
            checkpoint,
            sites,
            troubles,
            entries,
        }),
    }
}

/// The checkpoint of a log of these entries, signed with both halves.
pub(super) fn sign(
    log: LogId,
    entries: &[Vec<u8>],
    key: &SigningKey,
    surroundings: &Surroundings,
) -> Result<SignedCheckpoint, LogError> {
    let root = root_of(leaves(entries));
    let mut signed = SignedCheckpoint::unsigned(Checkpoint::new(log.origin(), entries.len() as u64, root))?;
    let signature = key.sign_note(signed.note.text(), &mut *surroundings.entropy.entropy())?;
    let name = log.key_name().map_err(exclave_log::BadCheckpoint::from)?;
    signed.note.signatures = pair::lines(&name, key.public(), &signature).to_vec();
    Ok(signed)
}

/// Brings a log to every site of the charter that lacks some of it.
fn put(
    archive: &Archive,
    log: LogId,
    entries: &[Vec<u8>],
    checkpoint: &[u8],
    held: &mut BTreeMap<SiteId, u64>,
    surroundings: &Surroundings,
) -> Vec<SiteTrouble> {
    let size = entries.len() as u64;
    let bytes = Bytes::copy_from_slice(checkpoint);
    let name = archive
        .names
        .log_checkpoint(log.key, log.incarnation, size, Tag::of(&bytes));
    let mut seen = BTreeSet::new();
    let lacking = archive.sites.iter().filter_map(|handle| {
        let counts = |id: &SiteId| archive.charter().site(*id).is_some() && seen.insert(*id);
        let id = handle.id.filter(counts)?;
        let has = held.get(&id).copied().unwrap_or(0);
        (has < size).then_some((handle, id, has))
    });
    let lacking: Vec<_> = lacking.collect();
    // Most sites lack the same.
    let mut needed: BTreeMap<u64, Vec<(ObjectName, Bytes)>> = BTreeMap::new();
    for (_, _, has) in &lacking {
        needed
            .entry(*has)
            .or_insert_with(|| objects(&archive.names, log, entries, *has));
    }
    let tried = lacking.iter().map(async |(handle, id, has)| {
        let before = needed.get(has).map(Vec::as_slice).unwrap_or_default();
        (*id, handle.name.clone(), put_at(handle, before, (&name, &bytes)).await)
    });
    let tried = surroundings.runtime.block_on(join_all(tried));
    let mut troubles = Vec::new();
    for (id, site, put) in tried {
        match put {
            Ok(()) => _ = held.insert(id, size),
            Err(error) => troubles.push(SiteTrouble { site, error }),
        }
    }
    troubles
}

/// Bundles and tiles first: a checkpoint whose entries aren't there would be a promise.
async fn put_at(
    handle: &SiteHandle,
    before: &[(ObjectName, Bytes)],
    (name, checkpoint): (&ObjectName, &Bytes),
) -> Result<(), exclave_site::SiteError> {
    let puts = stream::iter(before.iter().map(|(name, bytes)| publish_at(handle, name, bytes)));
    puts.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    publish_at(handle, name, checkpoint).await
}
