//! What all sites together show of all logs.
//!
//! Nothing that a site lists is believed. A checkpoint counts when both halves of its key's signature verify; entries count when
//! they lead to the root of a checkpoint that counts. Checkpoints are taken in ascending order: the entries that lead to one must
//! begin with those that led to the one before. Where they don't, the log was forked.
//!
//! A log holds what a writer committed. So what the sites show of heads is held against it, both ways: a head without a leaf
//! may be one that was committed a moment ago; a leaf without a head is a head that somebody hides.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_log::{
    EntryKind, LogEntry, LogId, LogProof, SignedCheckpoint, TileId, TileLevel, Tiles, TreeHash, consistency,
    note::NOTE_BYTES_MAX, tile::grown, tree::root_of,
};
use exclave_model::{KeyId, LogName, LogObject, ObjectName, PublicKey, Record as _, RecordHash, Role, Tag};
use futures::stream::{self, StreamExt};

use super::{BUNDLE_BYTES_MAX, Evidence, is_signed, leaves, objects, tile_bytes};
use crate::{
    archive::{Archive, SiteTrouble},
    survey::Survey,
};

/// Objects of all logs that one site may list: a checkpoint and a bundle for each commit, of a hundred datasets' daily runs for
/// decades.
const OBJECTS_MAX: usize = 10_000_000;

/// Entries of one log that are read: as many commits as no writer makes.
const ENTRIES_MAX: u64 = 1 << 22;

/// Objects that are read at the same time.
const AT_ONCE: usize = 16;

/// Ways to put bundles together that are tried for one checkpoint. Strangers can put bundles beside ours, and each has to be tried.
const TRIALS_MAX: usize = 4096;

/// All logs.
#[derive(Debug, Default)]
pub struct Logs {
    /// The logs of which a signed checkpoint was shown, by owner and life.
    pub logs: Vec<LogView>,
    /// Heads of chains that have no log at all, once [`Logs::compare`] was asked.
    pub unlogged: Vec<LogFinding>,
    /// What sites said instead of listing.
    pub troubles: Vec<SiteTrouble>,
}

/// A state of a log that its owner signed.
#[derive(Debug, Clone)]
pub struct SeenCheckpoint {
    /// Its note; several may be shown for one state, with more signatures.
    pub notes: Vec<SignedCheckpoint>,
    /// The sites that list one, by their position in the archive.
    pub sites: BTreeSet<usize>,
}

/// One log, as the sites show it.
#[derive(Debug, Clone)]
pub struct LogView {
    /// Which log.
    pub id: LogId,
    /// Its owner's role in the newest charter that names the key.
    pub role: Role,
    /// Signed states, by size and root.
    pub checkpoints: BTreeMap<(u64, TreeHash), SeenCheckpoint>,
    /// The largest state whose entries the sites show.
    pub proven: Option<(u64, TreeHash)>,
    /// Its entries, in order.
    pub entries: Vec<Vec<u8>>,
    /// What needs a look.
    pub findings: Vec<LogFinding>,
}

/// Something about a log that needs a look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFinding {
    /// The owner signed two histories.
    #[error(
        "two checkpoints, of sizes {first} and {second}, can't both be true: the log was forked, or two views of it are shown"
    )]
    Fork {
        /// Size of the one.
        first: u64,
        /// Size of the other.
        second: u64,
        /// Both, as a file; absent when entries are missing that would show it.
        evidence: Option<Box<Evidence>>,
    },
    /// No entries lead to a signed checkpoint.
    #[error("no site shows the entries that lead to the checkpoint of size {size}: they are lost or hidden")]
    Unproven {
        /// Its size.
        size: u64,
    },
    /// A site shows an older state than others.
    #[error("site {site} shows the log up to size {shown}, others up to {newest}: it was away, or was set back")]
    Behind {
        /// The site.
        site: String,
        /// The largest size it lists.
        shown: u64,
        /// The largest of all.
        newest: u64,
    },
    /// A head that lies at sites and isn't in its writer's log, though later ones are.
    #[error("head {} in place {seq} is not in its writer's log, which names another one there, or none", head.to_hex())]
    OtherHead {
        /// The head.
        head: RecordHash,
        /// Its place in its chain.
        seq: u64,
    },
    /// A head that isn't in its writer's log yet.
    #[error("head {} in place {seq} is not in its writer's log yet", head.to_hex())]
    NotLogged {
        /// The head.
        head: RecordHash,
        /// Its place in its chain.
        seq: u64,
    },
    /// A head that was committed and that no site shows.
    #[error("head {}, number {index} of the log, is shown by no site: it is lost or hidden", head.to_hex())]
    HiddenHead {
        /// The head.
        head: RecordHash,
        /// Its entry's number.
        index: u64,
    },
}

impl LogFinding {
    /// The word in reports.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Fork { .. } => "log-fork",
            Self::Unproven { .. } => "log-unproven",
            Self::Behind { .. } => "log-behind",
            Self::OtherHead { .. } => "log-other-head",
            Self::NotLogged { .. } => "head-not-logged",
            Self::HiddenHead { .. } => "head-hidden",
        }
    }

    /// True when somebody signed two truths.
    pub const fn is_fork(&self) -> bool {
        matches!(self, Self::Fork { .. } | Self::OtherHead { .. })
    }
}

/// A bundle that some site gave: who knows of which log.
struct Bundle {
    width: u16,
    entries: Vec<Vec<u8>>,
}

/// Names of one log, with the sites that list them.
type Listed = Vec<(ObjectName, LogName, BTreeSet<usize>)>;

/// Reads every log that the sites show.
pub async fn read_logs(archive: &Archive) -> Logs {
    let (listings, troubles) = archive.list_everywhere(&archive.names.logs_prefix(), OBJECTS_MAX).await;
    let mut names: BTreeMap<ObjectName, BTreeSet<usize>> = BTreeMap::new();
    let answered: BTreeSet<usize> = listings.keys().copied().collect();
    for (at, listing) in listings {
        for entry in listing.entries {
            names.entry(entry.name).or_default().insert(at);
        }
    }
    let mut by_log: BTreeMap<LogId, Listed> = BTreeMap::new();
    for (name, sites) in names {
        if let Some(parts) = archive.names.read_log(&name) {
            let log = LogId::new(archive.anchor, parts.key, parts.life);
            by_log.entry(log).or_default().push((name, parts, sites));
        }
    }
    let mut logs = Logs {
        logs: Vec::new(),
        unlogged: Vec::new(),
        troubles,
    };
    for (log, listed) in by_log {
        if let Some((role, key)) = owner(archive, log.key) {
            logs.logs
                .extend(read_log(archive, log, role, key, &listed, &answered).await);
        }
    }
    logs
}

/// A key of any version of the charter, with its role in the newest that names it.
pub(crate) fn owner(archive: &Archive, key: KeyId) -> Option<(Role, &PublicKey)> {
    archive
        .charters
        .iter()
        .rev()
        .find_map(|charter| charter.keys().find(|(_, held)| held.id() == key))
}

async fn read_log(
    archive: &Archive,
    id: LogId,
    role: Role,
    key: &PublicKey,
    listed: &Listed,
    answered: &BTreeSet<usize>,
) -> Option<LogView> {
    let mut view = LogView {
        id,
        role,
        checkpoints: BTreeMap::new(),
        proven: None,
        entries: Vec::new(),
        findings: Vec::new(),
    };
    let checkpoints = listed.iter().filter_map(|(name, parts, sites)| match parts.object {
        LogObject::Checkpoint { size } if size <= ENTRIES_MAX => Some((name, size, sites)),
        LogObject::Checkpoint { .. } | LogObject::Tile { .. } => None,
    });
    let read = stream::iter(checkpoints).map(async |(name, size, sites)| {
        let bytes = fetch(archive, name, sites, NOTE_BYTES_MAX as u64).await?;
        let signed = SignedCheckpoint::parse(&bytes).ok()?;
        let counts = signed.checkpoint.size == size && is_signed(&signed, id, key);
        counts.then_some((signed, sites))
    });
    let read: Vec<_> = read.buffered(AT_ONCE).collect().await;
    for (signed, sites) in read.into_iter().flatten() {
        let state = (signed.checkpoint.size, signed.checkpoint.root);
        let seen = view.checkpoints.entry(state).or_insert_with(|| SeenCheckpoint {
            notes: Vec::new(),
            sites: BTreeSet::new(),
        });
        seen.notes.push(signed);
        seen.sites.extend(sites);
    }
    let (newest, _) = *view.checkpoints.keys().next_back()?;
    let tiles = listed.iter().filter_map(|(name, parts, sites)| match &parts.object {
        LogObject::Tile { path } => {
            let tile = TileId::parse(path).ok()?;
            let wanted = tile.level() == TileLevel::Entries && tile.index() * 256 < newest;
            wanted.then_some((name, tile, sites))
        }
        LogObject::Checkpoint { .. } => None,
    });
    let tiles: Vec<_> = tiles.collect();
    // The widest bundle of each place is all that an honest log needs; the others only when these lead nowhere.
    let mut widest: BTreeMap<u64, u16> = BTreeMap::new();
    for (_, tile, _) in &tiles {
        let width = widest.entry(tile.index()).or_default();
        *width = tile.width().max(*width);
    }
    let is_widest = |tile: &TileId| widest.get(&tile.index()) == Some(&tile.width());
    let mut bundles = read_bundles(archive, tiles.iter().filter(|(_, tile, _)| is_widest(tile))).await;
    if !view.prove(&bundles) {
        for (index, more) in read_bundles(archive, tiles.iter().filter(|(_, tile, _)| !is_widest(tile))).await {
            bundles.entry(index).or_default().extend(more);
        }
        view.prove(&bundles);
    }
    view.behind(archive, newest, answered);
    Some(view)
}

type Bundles = BTreeMap<u64, Vec<Bundle>>;

async fn read_bundles<'t>(
    archive: &Archive,
    tiles: impl Iterator<Item = &'t (&'t ObjectName, TileId, &'t BTreeSet<usize>)>,
) -> Bundles {
    let read = stream::iter(tiles).map(async |(name, tile, sites)| {
        let bytes = fetch(archive, name, sites, BUNDLE_BYTES_MAX).await?;
        let entries = tile.read_entries(&bytes).ok()?;
        Some((*tile, entries.into_iter().map(<[u8]>::to_vec).collect()))
    });
    let read: Vec<Option<(TileId, Vec<Vec<u8>>)>> = read.buffered(AT_ONCE).collect().await;
    let mut bundles = Bundles::new();
    for (tile, entries) in read.into_iter().flatten() {
        let bundle = Bundle {
            width: tile.width(),
            entries,
        };
        bundles.entry(tile.index()).or_default().push(bundle);
    }
    bundles
}

/// An object from the first site whose bytes have the tag in its name.
async fn fetch(archive: &Archive, name: &ObjectName, sites: &BTreeSet<usize>, bytes_max: u64) -> Option<Bytes> {
    for handle in sites.iter().filter_map(|at| archive.sites.get(*at)) {
        match handle.site.get(name, bytes_max).await {
            Ok(bytes) if Some(Tag::of(&bytes)) == name.tag() => return Some(bytes),
            // What it said instead shows where the log is found to be short.
            Ok(_) | Err(_) => {}
        }
    }
    None
}

impl LogView {
    /// Finds the entries that lead to each checkpoint, smallest first; true when that went well for all.
    fn prove(&mut self, bundles: &Bundles) -> bool {
        self.findings.clear();
        let mut trunk: Vec<Vec<u8>> = Vec::new();
        let mut last: Option<(u64, TreeHash)> = None;
        let states: Vec<(u64, TreeHash)> = self.checkpoints.keys().copied().collect();
        let split: BTreeSet<u64> = states
            .windows(2)
            .filter(|two| two[0].0 == two[1].0)
            .map(|two| two[0].0)
            .collect();
        for two in states.windows(2).filter(|two| two[0].0 == two[1].0) {
            self.findings.push(self.fork(two[0], two[1], &[]));
        }
        for (size, root) in states {
            if last.is_some_and(|(before, _)| before == size) {
                continue;
            }
            if let Some(entries) = lead(&trunk, size, root, bundles) {
                (trunk, last) = (entries, Some((size, root)));
                continue;
            }
            // Not from the history before: from one of its own?
            match (last, lead(&[], size, root, bundles)) {
                (Some(before), Some(entries)) => {
                    self.findings.push(self.fork(before, (size, root), &entries));
                    (trunk, last) = (entries, Some((size, root)));
                }
                _ if split.contains(&size) => {}
                _ => self.findings.push(LogFinding::Unproven { size }),
            }
        }
        (self.entries, self.proven) = (trunk, last);
        self.findings.is_empty()
    }

    /// Two states of which one can't come after the other. `entries` lead to the larger one.
    fn fork(&self, first: (u64, TreeHash), state: (u64, TreeHash), entries: &[Vec<u8>]) -> LogFinding {
        LogFinding::Fork {
            first: first.0,
            second: state.0,
            evidence: self.evidence(first, state, entries).map(Box::new),
        }
    }

    fn evidence(&self, first: (u64, TreeHash), second: (u64, TreeHash), entries: &[Vec<u8>]) -> Option<Evidence> {
        let note = |state| self.checkpoints.get(&state)?.notes.first();
        let (one, other) = (note(first)?, note(second)?);
        if first.0 == second.0 {
            return Some(Evidence::split(one, other));
        }
        let leaves = leaves(entries);
        let size = usize::try_from(first.0).ok()?;
        let prefix = root_of(leaves.get(..size)?.iter().copied());
        let proof = consistency(&Tiles::of_leaves(leaves), first.0, second.0).ok()?;
        Some(Evidence::fork(one, other, prefix, &proof))
    }

    /// Sites of the charter that list an older state than others do.
    fn behind(&mut self, archive: &Archive, newest: u64, answered: &BTreeSet<usize>) {
        for (at, handle) in archive.sites.iter().enumerate() {
            let counts = handle.id.is_some_and(|id| archive.charter().site(id).is_some());
            if !counts || !answered.contains(&at) {
                continue;
            }
            let shown = self.checkpoints.iter().filter(|(_, seen)| seen.sites.contains(&at));
            let shown = shown.map(|((size, _), _)| *size).max().unwrap_or(0);
            if shown < newest {
                self.findings.push(LogFinding::Behind {
                    site: handle.name.clone(),
                    shown,
                    newest,
                });
            }
        }
    }

    /// The newest state that anyone shows, proven or not.
    pub fn newest(&self) -> Option<(u64, TreeHash)> {
        self.checkpoints.keys().next_back().copied()
    }

    /// The note of the proven state, with the most signatures.
    pub fn proven_note(&self) -> Option<&SignedCheckpoint> {
        let seen = self.checkpoints.get(&self.proven?)?;
        seen.notes.iter().max_by_key(|signed| signed.note.signatures.len())
    }

    /// The owner's key.
    pub fn owner_key<'a>(&self, archive: &'a Archive) -> Option<&'a PublicKey> {
        owner(archive, self.id.key).map(|(_, key)| key)
    }

    /// Every tile and bundle of the proven state, partial ones too, by its path as C2SP has it.
    pub fn tiles(&self) -> Vec<(String, Vec<u8>)> {
        let tiles = Tiles::of_leaves(leaves(&self.entries));
        let all = grown(0, self.entries.len() as u64).into_iter();
        all.filter_map(|tile| Some((tile.path(), tile_bytes(&tiles, &self.entries, tile)?)))
            .collect()
    }

    /// What the entries say, unreadable ones left out.
    pub fn read_entries(&self) -> impl Iterator<Item = (u64, LogEntry)> + '_ {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(index, bytes)| Some((index as u64, LogEntry::from_bytes(bytes).ok()?)))
    }

    /// The proof that a record is in the log, with the entry.
    pub fn proof(&self, hash: RecordHash) -> Option<(LogEntry, LogProof)> {
        let (index, entry) = self.read_entries().find(|(_, entry)| entry.hash == hash)?;
        let proof = super::write::proof(&self.entries, index, self.proven_note()?.clone())?;
        Some((entry, proof))
    }

    /// Names and bytes of all that a site has of the log in its proven state.
    pub(crate) fn objects(&self, archive: &Archive) -> Vec<(ObjectName, Bytes)> {
        let mut all = objects(&archive.names, self.id, &self.entries, 0);
        if let Some(signed) = self.proven_note() {
            let bytes = Bytes::from(signed.to_bytes());
            let (key, life, size) = (self.id.key, self.id.incarnation, signed.checkpoint.size);
            all.push((archive.names.log_checkpoint(key, life, size, Tag::of(&bytes)), bytes));
        }
        all
    }

    /// Holds the log against the heads that the sites show.
    fn compare(&mut self, archive: &Archive, survey: &Survey) {
        if self.proven.is_none() {
            return;
        }
        let logged: Vec<(u64, RecordHash)> = self
            .read_entries()
            .filter(|(_, entry)| entry.kind == EntryKind::Head)
            .map(|(index, entry)| (index, entry.hash))
            .collect();
        let of_chain =
            |head: &exclave_model::Head| head.writer == self.id.key && head.incarnation == self.id.incarnation;
        let mut findings = Vec::new();
        for found in survey.found.values().filter(|found| of_chain(&found.head)) {
            // The heads of a chain stand in its log in their order.
            let (head, seq) = (found.hash, found.head.seq);
            let place = usize::try_from(seq).ok().and_then(|seq| logged.get(seq));
            match place {
                Some((_, logged)) if *logged == head => {}
                Some(_) => findings.push(LogFinding::OtherHead { head, seq }),
                None => findings.push(LogFinding::NotLogged { head, seq }),
            }
        }
        // What a revoked writer left and no pin holds is void, and told as such.
        let revoked = archive.charter().revocation(self.id.key).is_some();
        let hidden = logged
            .iter()
            .filter(|(_, hash)| !survey.found.contains_key(hash) && !revoked);
        findings.extend(hidden.map(|(index, head)| LogFinding::HiddenHead {
            head: *head,
            index: *index,
        }));
        self.findings.extend(findings);
    }
}

impl Logs {
    /// Holds every writer's log against the heads that the sites show.
    ///
    /// Chains that have no log are told of only where other logs are: an archive that was written without any has none to miss.
    pub fn compare(&mut self, archive: &Archive, survey: &Survey) {
        for log in &mut self.logs {
            log.compare(archive, survey);
        }
        let known: BTreeSet<LogId> = self.logs.iter().map(|log| log.id).collect();
        let chain = |head: &exclave_model::Head| LogId::new(archive.anchor, head.writer, head.incarnation);
        let without = survey
            .found
            .values()
            .filter(|found| !known.contains(&chain(&found.head)));
        self.unlogged = without
            .map(|found| LogFinding::NotLogged {
                head: found.hash,
                seq: found.head.seq,
            })
            .collect();
    }

    /// Everything that needs a look, with the log that it is about.
    pub fn findings(&self) -> impl Iterator<Item = (Option<LogId>, &LogFinding)> {
        let of_logs = self
            .logs
            .iter()
            .flat_map(|log| log.findings.iter().map(|finding| (Some(log.id), finding)));
        let unlogged = self.unlogged.iter().filter(|_| !self.logs.is_empty());
        of_logs.chain(unlogged.map(|finding| (None, finding)))
    }

    /// The log that a record is in, and the proof of it.
    pub fn proof(&self, hash: RecordHash) -> Option<(&LogView, LogEntry, LogProof)> {
        self.logs.iter().find_map(|log| {
            let (entry, proof) = log.proof(hash)?;
            Some((log, entry, proof))
        })
    }
}

/// Entries that begin with `trunk` and whose tree has this size and root, from bundles.
fn lead(trunk: &[Vec<u8>], size: u64, root: TreeHash, bundles: &Bundles) -> Option<Vec<Vec<u8>>> {
    let mut trials = TRIALS_MAX;
    extend(trunk.to_vec(), trunk, size, root, bundles, &mut trials)
}

/// One bundle more, of each of those that fit; the root decides at the end.
fn extend(
    so_far: Vec<Vec<u8>>,
    trunk: &[Vec<u8>],
    size: u64,
    root: TreeHash,
    bundles: &Bundles,
    trials: &mut usize,
) -> Option<Vec<Vec<u8>>> {
    let have = so_far.len() as u64;
    if have >= size {
        *trials = trials.saturating_sub(1);
        let fits = have == size && root_of(leaves(&so_far)) == root;
        return fits.then_some(so_far);
    }
    let index = have / 256;
    let start = usize::try_from(index * 256).ok()?;
    let width = usize::try_from((size - index * 256).min(256)).ok()?;
    let begun = trunk.get(start..).unwrap_or_default();
    let mut tried: BTreeSet<&[Vec<u8>]> = BTreeSet::new();
    for bundle in bundles
        .get(&index)?
        .iter()
        .filter(|bundle| usize::from(bundle.width) >= width)
    {
        let Some(entries) = bundle.entries.get(..width) else {
            continue;
        };
        // Many bundles begin alike: those of later commits.
        if *trials == 0 || !entries.starts_with(begun) || !tried.insert(entries) {
            continue;
        }
        let mut longer = so_far.get(..start).unwrap_or_default().to_vec();
        longer.extend_from_slice(entries);
        if let Some(found) = extend(longer, trunk, size, root, bundles, trials) {
            return Some(found);
        }
    }
    None
}
