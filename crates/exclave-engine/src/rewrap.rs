//! Wrapping run keys anew, for the recipients that the newest charter names.
//!
//! Whoever joins a recipient set opens what comes later; what came before is wrapped for others. A restorer opens each
//! run with an identity that can, and publishes a further envelope of the same run key (the same commitment, so nobody can
//! slip in another one) for the set as it is now. Shards, ledgers and heads stay as they are, and so does the crypto epoch
//! under which the run was sealed: a run does not become fit for reuse by being wrapped again.
//!
//! It can be interrupted and run again: a run that has an envelope for the present set is passed over. What it can't do is
//! take anything back: earlier envelopes stay, and open for whom they were wrapped. The report counts those.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use exclave_log::{EntryKind, LogEntry};
use exclave_model::{
    Commitment, DatasetId, Envelope, KeyId, RecipientId, RecipientKey, RunId, RunObject, Tag, Version1, charter::Act,
};
use exclave_seal::{EnvelopeError, SigningKey, envelope::wrap, signing::SignError};

use crate::{
    archive::{Archive, SiteTrouble},
    charter::{PublishError, holders_needed},
    log::{LogStanding, log_session},
    publish::publish,
    snapshot::{KeyError, OpenedRun, Snapshots},
    surroundings::{Progress, Surroundings},
};

/// What became of each run.
#[derive(Debug, Default)]
pub struct RewrapReport {
    /// Runs that snapshots need.
    pub runs: usize,
    /// Runs that have an envelope for the present recipients already.
    pub current: usize,
    /// Runs that got one, or would get one.
    pub wrapped: usize,
    /// Runs whose key the identity does not open.
    pub unopened: Vec<(RunId, Arc<KeyError>)>,
    /// Runs whose new envelope lies at too few sites.
    pub short: Vec<RunId>,
    /// Identities that no set has now and that earlier envelopes open for: how many runs.
    pub left_open: BTreeMap<RecipientId, usize>,
    /// What sites said.
    pub troubles: Vec<SiteTrouble>,
    /// Whether the new envelopes are in a log of the restorer's; absent when there are none.
    pub log: Option<LogStanding>,
}

/// Why nothing was wrapped.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The key is no restorer's.
    #[error("key {key} may not wrap run keys: {rule}")]
    NotARestorer {
        /// The key.
        key: KeyId,
        /// The rule.
        rule: exclave_model::Rule,
    },
    /// The charter's numbers.
    #[error("the charter's classes can't be met")]
    Charter(#[source] Box<PublishError>),
    /// A recipient's key is none.
    #[error("a run key can't be wrapped")]
    Wrap(#[from] EnvelopeError),
    /// The envelope can't be signed.
    #[error("an envelope can't be signed")]
    Sign(#[from] SignError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] exclave_seal::NoEntropy),
    /// Someone asked to stop.
    #[error("interrupted after {0} runs; run it again, it goes on from there")]
    Interrupted(usize),
}

/// Wraps the keys of all runs that the opened snapshots need. With `dry_run` nothing is written.
pub fn rewrap(
    snapshots: &Snapshots<'_>,
    restorer: &SigningKey,
    dry_run: bool,
    surroundings: &Surroundings,
) -> Result<RewrapReport, RewrapError> {
    let archive = &snapshots.archive;
    let charter = archive.charter();
    charter
        .permit(restorer.id(), Act::Rewrap)
        .map_err(|rule| RewrapError::NotARestorer {
            key: restorer.id(),
            rule,
        })?;
    let needed = holders_needed(charter).map_err(|error| RewrapError::Charter(Box::new(error)))?;
    let runs = needed_runs(snapshots);
    let mut report = RewrapReport {
        runs: runs.len(),
        ..RewrapReport::default()
    };
    let mut entries = Vec::new();
    for (at, (run, (commitment, dataset))) in runs.into_iter().enumerate() {
        if surroundings.progress.stop_asked() {
            // What was wrapped so far counts, and is logged.
            log(archive, restorer, &entries, surroundings);
            return Err(RewrapError::Interrupted(at));
        }
        Progress::add(&surroundings.progress.entries, 1);
        let opening = snapshots.keys.open(run, commitment, dataset);
        let opened = match surroundings.runtime.block_on(opening) {
            Ok(opened) => opened,
            Err(error) => {
                report.unopened.push((run, error));
                continue;
            }
        };
        let class = charter.class(opened.class);
        let Some(set) = class.and_then(|class| charter.recipients_of(class)) else {
            // The law of succession keeps classes and sets; a charter without it was never adopted.
            report.short.push(run);
            continue;
        };
        let lying = surroundings.runtime.block_on(snapshots.keys.envelopes(run));
        let present: BTreeSet<RecipientId> = set.keys.iter().map(RecipientKey::id).collect();
        let ever: BTreeSet<RecipientId> = lying.iter().flat_map(|lying| &lying.recipients).copied().collect();
        for recipient in ever.difference(&present) {
            *report.left_open.entry(*recipient).or_default() += 1;
        }
        let fitting = lying.into_iter().filter(|lying| lying.recipients == present);
        let fitting = fitting.max_by_key(|lying| lying.sites.len());
        if fitting.as_ref().is_some_and(|lying| lying.sites.len() >= needed) {
            report.current += 1;
            continue;
        }
        report.wrapped += 1;
        if dry_run {
            continue;
        }
        // One that lies at too few sites is completed: each new one is one more for every reader to look at.
        let (name, bytes) = match fitting {
            Some(lying) => (lying.name, lying.bytes),
            None => {
                let envelope = again(&opened, run, snapshots, set, surroundings)?;
                let mut entropy = surroundings.entropy.entropy();
                let signed = restorer.sign(&envelope, &mut *entropy)?;
                entries.push(LogEntry::new(EntryKind::Rewrap, signed.record_hash()));
                let bytes = Bytes::from(signed.to_bytes());
                (
                    archive.names.run_object(run, RunObject::Envelope, Tag::of(&bytes)),
                    bytes,
                )
            }
        };
        let published = surroundings.runtime.block_on(publish(&archive.sites, &name, &bytes));
        if published.count() < needed {
            report.short.push(run);
        }
        report.troubles.extend(published.troubles);
    }
    report.log = log(archive, restorer, &entries, surroundings);
    Ok(report)
}

fn log(
    archive: &Archive,
    restorer: &SigningKey,
    entries: &[LogEntry],
    surroundings: &Surroundings,
) -> Option<LogStanding> {
    let written = || LogStanding::of(&log_session(archive, restorer, entries, surroundings));
    (!entries.is_empty()).then(written)
}

/// The envelope of an opened run for a set of the newest charter.
fn again(
    opened: &OpenedRun,
    run: RunId,
    snapshots: &Snapshots<'_>,
    set: &exclave_model::RecipientSet,
    surroundings: &Surroundings,
) -> Result<Envelope, RewrapError> {
    let archive = &snapshots.archive;
    let mut entropy = surroundings.entropy.entropy();
    Ok(Envelope {
        format: Version1,
        anchor: archive.anchor,
        run,
        dataset: opened.dataset,
        class: opened.class,
        charter_version: archive.charter().version,
        recipient_set: set.id,
        crypto_epoch: opened.crypto_epoch,
        commitment: opened.key.commitment(),
        label: opened.label.clone(),
        stanzas: wrap(&opened.key, &archive.anchor, &run, &set.keys, &mut *entropy)?,
        incarnation: opened.incarnation,
    })
}

fn needed_runs(snapshots: &Snapshots<'_>) -> BTreeMap<RunId, (Commitment, DatasetId)> {
    let mut runs = BTreeMap::new();
    for snapshot in snapshots.list() {
        for entry in snapshot.table.runs() {
            runs.insert(entry.run, (entry.commitment, snapshot.info.dataset));
        }
    }
    runs
}
