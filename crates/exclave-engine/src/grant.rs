//! Giving run keys to someone, and finding what was given to us (FORMAT.md section 18).
//!
//! A grant holds the keys of all runs that the named snapshots need, and nothing else: not the identity, not the dataset
//! secret of another dataset. But a run is one key. Where another snapshot refers to the same runs, the grant opens that
//! too, in whole or in part; who gives has to know, so it is reported before anything is signed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use exclave_log::{EntryKind, LogEntry};
use exclave_model::{
    Commitment, DatasetId, Grant, KeyId, RecipientKey, Record as _, RecordHash, RunId, SignedObject, Tag, Version1,
    charter::Act, limit::RECORD_BYTES_MAX,
};
use exclave_seal::{
    EnvelopeError, NoEntropy, RecoveryIdentity, SigningKey, envelope::wrap_granted, signing::SignError, verify_one,
};

use crate::{
    archive::{Archive, SiteTrouble},
    log::{LogStanding, log_session},
    publish::publish,
    snapshot::{KeyError, Snapshot, SnapshotInfo, Snapshots},
    surroundings::Surroundings,
};

/// Grants that are looked at per site.
const GRANTS_MAX: usize = 10_000;

/// What is to be given.
pub struct Granting<'a> {
    /// The snapshots.
    pub snapshots: Vec<&'a Snapshot>,
    /// To whom.
    pub recipient: RecipientKey,
    /// Until when it is meant to be used: Unix seconds. Nothing closes afterwards.
    pub until: Option<i64>,
}

/// Another snapshot that the granted keys open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlsoOpen {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// True when everything of it opens, false when parts do.
    pub whole: bool,
}

/// A grant that was made.
#[derive(Debug)]
pub struct Granted {
    /// The grant.
    pub grant: Grant,
    /// Its object, to be handed over; the sites have it too.
    pub object: Bytes,
    /// What else its keys open.
    pub also_open: Vec<AlsoOpen>,
    /// Sites that hold it.
    pub sites: usize,
    /// What other sites said.
    pub troubles: Vec<SiteTrouble>,
    /// Whether it is in a log of the restorer's; nobody asked for that with `dry_run`.
    pub log: Option<LogStanding>,
}

/// Why nothing was given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The key is no restorer's.
    #[error("key {key} may not give run keys away: {rule}")]
    NotARestorer {
        /// The key.
        key: KeyId,
        /// The rule.
        rule: exclave_model::Rule,
    },
    /// A run's key can't be had.
    #[error("a snapshot's run does not open")]
    Key(#[source] Arc<KeyError>),
    /// The recipient's key is none.
    #[error("a run key can't be wrapped")]
    Wrap(#[from] EnvelopeError),
    /// It can't be signed.
    #[error("the grant can't be signed")]
    Sign(#[from] SignError),
    /// It can't be written.
    #[error(transparent)]
    Record(#[from] exclave_model::RecordError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No site took it.
    #[error("no site took the grant")]
    Sites(Vec<SiteTrouble>),
}

/// Gives the run keys of snapshots to someone. With `dry_run` nothing is written: the report tells what would be open.
pub fn give(
    snapshots: &Snapshots<'_>,
    granting: &Granting<'_>,
    restorer: &SigningKey,
    dry_run: bool,
    surroundings: &Surroundings,
) -> Result<Granted, GrantError> {
    let archive = &snapshots.archive;
    let charter = archive.charter();
    charter
        .permit(restorer.id(), Act::Grant)
        .map_err(|rule| GrantError::NotARestorer {
            key: restorer.id(),
            rule,
        })?;
    let mut runs: BTreeMap<RunId, (Commitment, DatasetId)> = BTreeMap::new();
    for snapshot in &granting.snapshots {
        for entry in snapshot
            .table
            .runs()
            .filter(|entry| entry.run == snapshot.run || !entry.live.is_empty())
        {
            runs.insert(entry.run, (entry.commitment, snapshot.info.dataset));
        }
    }
    let mut entropy = surroundings.entropy.entropy();
    let mut given = Vec::new();
    for (run, (commitment, dataset)) in &runs {
        let opening = snapshots.keys.open(*run, *commitment, *dataset);
        let opened = surroundings.runtime.block_on(opening).map_err(GrantError::Key)?;
        given.push(wrap_granted(
            &opened.key,
            &archive.anchor,
            *run,
            &granting.recipient,
            &mut *entropy,
        )?);
    }
    let mut heads: Vec<RecordHash> = granting.snapshots.iter().map(|snapshot| snapshot.info.head).collect();
    heads.sort_unstable();
    heads.dedup();
    let also_open = also_open(snapshots, &heads, |run| runs.contains_key(&run));
    let grant = Grant {
        format: Version1,
        anchor: archive.anchor,
        charter_version: charter.version,
        recipient: granting.recipient.clone(),
        heads,
        runs: given,
        created: surroundings.clock.now_unix_seconds(),
        until: granting.until,
    };
    let object = Bytes::from(restorer.sign(&grant, &mut *entropy)?.to_bytes());
    let mut granted = Granted {
        grant,
        object,
        also_open,
        sites: 0,
        troubles: Vec::new(),
        log: None,
    };
    if dry_run {
        return Ok(granted);
    }
    let name = archive.names.grant(Tag::of(&granted.object));
    let published = surroundings
        .runtime
        .block_on(publish(&archive.sites, &name, &granted.object));
    if published.count() == 0 {
        return Err(GrantError::Sites(published.troubles));
    }
    granted.sites = published.count();
    granted.troubles = published.troubles;
    let entry = LogEntry::new(EntryKind::Grant, RecordHash::of(&granted.grant.to_bytes()?));
    granted.log = Some(LogStanding::of(&log_session(archive, restorer, &[entry], surroundings)));
    Ok(granted)
}

/// Other snapshots that have runs among those given.
fn also_open(snapshots: &Snapshots<'_>, meant: &[RecordHash], is_given: impl Fn(RunId) -> bool) -> Vec<AlsoOpen> {
    let others = snapshots
        .list()
        .iter()
        .filter(|snapshot| !meant.contains(&snapshot.info.head));
    others
        .filter_map(|snapshot| {
            let needed: Vec<RunId> = snapshot
                .table
                .runs()
                .filter(|entry| entry.run == snapshot.run || !entry.live.is_empty())
                .map(|entry| entry.run)
                .collect();
            let open = needed.iter().filter(|run| is_given(**run)).count();
            (open > 0).then(|| AlsoOpen {
                snapshot: snapshot.info.clone(),
                whole: open == needed.len(),
            })
        })
        .collect()
}

/// A grant that a restorer of this archive signed.
pub fn verify(archive: &Archive, bytes: &[u8]) -> Option<(KeyId, Grant)> {
    let object = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok()?;
    // Which version it obeys is read before the signature is checked, and used for nothing but finding the key.
    let claimed = Grant::from_bytes(object.record_bytes()).ok()?.charter_version;
    let signer = object.signatures().first()?.key;
    archive.charters.version(claimed)?.permit(signer, Act::Grant).ok()?;
    let grant = verify_one::<Grant>(&object, archive.charters.key(signer, claimed)?).ok()?;
    (grant.anchor == archive.anchor).then_some((signer, grant))
}

/// Every grant that the sites show, with who signed it; those that were brought along too.
pub async fn all(archive: &Archive) -> (BTreeMap<Tag, (KeyId, Grant)>, Vec<SiteTrouble>) {
    let (listings, mut troubles) = archive
        .list_everywhere(&archive.names.grants_prefix(), GRANTS_MAX)
        .await;
    let mut found = BTreeMap::new();
    for bytes in &archive.grants {
        if let Some(grant) = verify(archive, bytes) {
            found.insert(Tag::of(bytes), grant);
        }
    }
    let names: BTreeSet<_> = listings
        .into_values()
        .flat_map(|listing| listing.entries)
        .map(|entry| entry.name)
        .collect();
    for name in names {
        let Some(tag) = name
            .file_name()
            .parse::<Tag>()
            .ok()
            .filter(|tag| !found.contains_key(tag))
        else {
            continue;
        };
        let read = |bytes: &Bytes| (Tag::of(bytes) == tag).then(|| verify(archive, bytes)).flatten();
        let (grant, said) = archive.fetch(&name, RECORD_BYTES_MAX, read).await;
        troubles.extend(said);
        found.extend(grant.map(|grant| (tag, grant)));
    }
    (found, troubles)
}

/// The grants for an identity that no recipient set names; those of recipients open everything without.
pub(crate) async fn given_to(archive: &Archive, identity: &RecoveryIdentity) -> Vec<Grant> {
    let us = identity.public();
    let mut sets = archive.charters.iter().flat_map(|charter| &charter.recipient_sets);
    if archive.grants.is_empty() && sets.any(|set| set.keys.contains(us)) {
        return Vec::new();
    }
    let (grants, _) = all(archive).await;
    let grants = grants.into_values().map(|(_, grant)| grant);
    grants.filter(|grant| grant.recipient == *us).collect()
}
