//! The small records that readers of an archive need, told from what stores list, and brought to stores that lack them.
//!
//! A new charter brings new stores; a repair finds that a store lost some. A store may list what it likes, and whoever has a
//! credential to put may make it list more. Junk must not be carried to honest stores, so a record is copied when it is one
//! of these, and verified:
//!
//! - a version of the charter that the file holds;
//! - a head that counts;
//! - what such heads name by hash: run table pages, and the ledger parts that these name;
//! - of each log its newest checkpoint whose entries are shown, with the bundles and tiles that these entries give;
//! - what someone signed who could, about a run that such a page names: envelopes, claims, closes; grants; holds; records of
//!   datasets; the directory of names; and marks, which a writer must find at a quorum.
//!
//! Most other names are passed over without being read. What a run that goes on at this moment has published and no head
//! names yet is left to that run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use exclave_model::{
    Charter, Charters, Close, KeyId, LedgerPart, ObjectName, Record as _, RecordHash, ReuseClaim, RunId, RunObject,
    SignedObject, SiteId, Tag, limit::RECORD_BYTES_MAX,
};
use exclave_seal::{verify_charter, verify_next_charter, verify_one};
use exclave_site::Class;
use futures::stream::{self, StreamExt};

use crate::{
    archive::{Archive, SiteHandle, SiteTrouble},
    charter::{PublishError, holders_needed},
    collect::{read_hold, verify_mark},
    companion,
    fetch::SiteBook,
    grant,
    log::read_logs,
    publish::publish,
    registry,
    snapshot::{keys::verify_envelope, table::TableReader},
    survey::{is_head, survey_async},
};

/// Small records that one site may list; a hundred datasets' daily runs for decades.
const RECORDS_MAX: usize = 10_000_000;

/// Records that are read or copied at the same time.
const AT_ONCE: usize = 16;

/// How long one store may keep a page of a run table to itself before another is asked, too.
const HEDGE: Duration = Duration::from_secs(2);

/// What readers need, as far as it is known before a record is read.
struct Needed<'a> {
    archive: &'a Archive,
    /// The charter up to the version that is published.
    charters: Charters,
    /// Heads that count.
    heads: BTreeSet<RecordHash>,
    /// Runs that they need.
    runs: BTreeSet<RunId>,
    /// Run table pages and ledger parts.
    named: BTreeSet<(&'static str, Tag)>,
    /// What a site has of the logs, computed from entries that lead to a signed checkpoint.
    logs: BTreeMap<ObjectName, Bytes>,
}

impl<'a> Needed<'a> {
    async fn of(archive: &'a Archive, charters: Charters, tally: &mut RecordTally) -> Result<Self, PublishError> {
        let survey = survey_async(archive).await?;
        let mut needed = Self {
            archive,
            charters,
            heads: survey.found.keys().copied().collect(),
            runs: survey.found.values().map(|found| found.head.run).collect(),
            named: BTreeSet::new(),
            logs: BTreeMap::new(),
        };
        for log in read_logs(archive).await.logs {
            needed.logs.extend(log.objects(archive));
        }
        let tables = TableReader::new(archive.anchor, Arc::new(SiteBook::new(archive, HEDGE)), &survey);
        let pages = stream::iter(tables.pages()).map(|(hash, run)| {
            let tables = &tables;
            async move { (hash, tables.page(run, hash).await) }
        });
        let mut pages = std::pin::pin!(pages.buffer_unordered(AT_ONCE));
        while let Some((hash, page)) = pages.next().await {
            needed.named.insert((LIVE, Tag::of_hash(hash.as_bytes())));
            match page {
                Ok(page) => {
                    for entry in page.runs {
                        needed.runs.insert(entry.run);
                        let parts = entry.ledgers.iter();
                        needed
                            .named
                            .extend(parts.map(|part| (LEDGER, Tag::of_hash(part.as_bytes()))));
                    }
                }
                // Who could read none of it before reads none of it afterwards; whoever signed the head may be a thief,
                // and must not be able to stop the charter that revokes him.
                Err(_) => tally.unread_pages += 1,
            }
        }
        Ok(needed)
    }

    /// Whether an object of this name may be one.
    fn may_be(&self, name: &ObjectName) -> bool {
        let names = &self.archive.names;
        match names.read_run_object(name) {
            Some((_, kind @ (RunObject::Live | RunObject::Ledger), tag)) => self.named.contains(&(kind.as_str(), tag)),
            Some((run, _, _)) => self.runs.contains(&run),
            None if names.logs_prefix().contains(name) => self.logs.contains_key(name),
            None => !names.runs_prefix().contains(name),
        }
    }

    /// Whether these bytes are one.
    fn is(&self, name: &ObjectName, bytes: &Bytes) -> bool {
        if name.tag() != Some(Tag::of(bytes)) {
            return false;
        }
        let (archive, names) = (self.archive, &self.archive.names);
        match names.read_run_object(name) {
            // Their names are in a head that counts; a page that can't be read is carried on as it is.
            Some((_, RunObject::Live, _)) => true,
            Some((_, RunObject::Ledger, _)) => {
                LedgerPart::from_bytes(bytes).is_ok_and(|part| part.anchor == archive.anchor)
            }
            Some((run, RunObject::Envelope, _)) => verify_envelope(archive, run, bytes).is_ok(),
            Some((run, RunObject::Reuse, _)) => self
                .signed::<ReuseClaim>(bytes)
                .is_some_and(|claim| claim.anchor == archive.anchor && claim.run == run),
            Some((run, RunObject::Close, _)) => self
                .signed::<Close>(bytes)
                .is_some_and(|close| close.anchor == archive.anchor && close.run == run),
            None if names.logs_prefix().contains(name) => self.logs.get(name) == Some(bytes),
            None if names.charter_prefix().contains(name) => self.is_version(bytes),
            None if names.heads_prefix().contains(name) => {
                is_head(archive, name, bytes).is_some_and(|hash| self.heads.contains(&hash))
            }
            None if names.marks_prefix().contains(name) => verify_mark(archive, name, bytes).is_some(),
            None if names.holds_prefix().contains(name) => read_hold(archive, name, bytes).is_some(),
            None if names.registrations_prefix().contains(name) => registry::verify_named(archive, name, bytes).is_ok(),
            None if names.companions_prefix().contains(name) => companion::verify_named(archive, name, bytes).is_ok(),
            None => grant::verify(archive, bytes).is_some() && names.grant(Tag::of(bytes)) == *name,
        }
    }

    /// A version of the charter with enough signatures.
    fn is_version(&self, bytes: &Bytes) -> bool {
        let Ok(object) = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX) else {
            return false;
        };
        let Ok(version) = Charter::from_bytes(object.record_bytes()).map(|charter| charter.version) else {
            return false;
        };
        let follows = || {
            let before = self.charters.until(version.checked_sub(1)?)?;
            verify_next_charter(&object, &before).ok()
        };
        self.charters.hash(version) == Some(object.record_hash())
            && (verify_charter(&object, self.archive.anchor).is_ok() || follows().is_some())
    }

    /// A record that a writer of any version signed.
    fn signed<R: exclave_model::SignedRecord>(&self, bytes: &Bytes) -> Option<R> {
        let object = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok()?;
        let signer: KeyId = object.signatures().first()?.key;
        verify_one::<R>(&object, self.archive.charters.writer_key(signer)?).ok()
    }
}

const LIVE: &str = RunObject::Live.as_str();
const LEDGER: &str = RunObject::Ledger.as_str();

/// Which store lists which small record.
type Lying = BTreeMap<ObjectName, BTreeSet<usize>>;

/// What became of small records.
#[derive(Debug, Default)]
pub struct RecordTally {
    /// Small records that readers of the archive need.
    pub records: usize,
    /// Copies of them that were made, or would be.
    pub copied: usize,
    /// Names under which stores list something that is no record of this archive, or one that nobody needs.
    pub junk: usize,
    /// Run table pages of heads that no site gives.
    pub unread_pages: usize,
    /// Records that lie at too few sites, now or still.
    pub short: usize,
    /// The first of them, and how many sites hold it.
    pub first_short: Option<(String, usize)>,
    /// Stripes that keep fewer sites of the charter than a restore needs.
    pub unrestorable: u64,
    /// What sites said.
    pub troubles: Vec<SiteTrouble>,
}

/// How records are brought to sites.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bringing<'a> {
    /// The charter whose sites are looked through.
    pub(crate) before: &'a Charter,
    /// The charter whose sites are to hold them.
    pub(crate) next: &'a Charter,
    /// Read what sites of the charter list, too: a copy may be wrong.
    pub(crate) reread: bool,
    /// Only say what would be copied.
    pub(crate) dry_run: bool,
    /// Go on though stripes keep too few sites.
    pub(crate) accept_loss: bool,
}

/// Brings to every site of the newest charter the small records that it lost, or holds wrong copies of.
pub(crate) async fn level(archive: &Archive, dry_run: bool) -> Result<RecordTally, PublishError> {
    let bringing = Bringing {
        before: archive.charter(),
        next: archive.charter(),
        reread: true,
        dry_run,
        accept_loss: true,
    };
    let mut tally = RecordTally::default();
    bring_over(archive, archive.charters.clone(), bringing, &mut tally).await?;
    Ok(tally)
}

/// Brings to every site of a charter what readers need and it lacks, and counts. `charters` are the versions that count.
pub(crate) async fn bring_over(
    archive: &Archive,
    charters: Charters,
    bringing: Bringing<'_>,
    tally: &mut RecordTally,
) -> Result<(), PublishError> {
    let holders = holders_needed(bringing.next)?;
    let needed = Needed::of(archive, charters, tally).await?;
    let lying = listed(&needed, bringing.before, tally).await?;
    let stays = |site: &exclave_model::SiteRecord| bringing.next.site(site.id).is_some();
    if !bringing.before.sites.iter().all(stays) {
        tally.unrestorable = needed.unrestorable(&lying, bringing.next).await;
        if tally.unrestorable > 0 && !bringing.dry_run && !bringing.accept_loss {
            let stripes = tally.unrestorable;
            return Err(PublishError::Unrestorable { stripes });
        }
    }
    let targets = targets(archive, bringing.next);
    let work = stream::iter(lying).map(|(name, at)| {
        let (targets, needed) = (&targets, &needed);
        async move { (needed.bring(&name, at, targets, bringing).await, name) }
    });
    let mut work = std::pin::pin!(work.buffer_unordered(AT_ONCE));
    while let Some((brought, name)) = work.next().await {
        tally.troubles.extend(brought.troubles);
        if brought.is_junk {
            tally.junk += 1;
            continue;
        }
        tally.records += 1;
        tally.copied += brought.copied;
        if brought.held < holders {
            tally.short += 1;
            tally.first_short.get_or_insert((name.to_string(), brought.held));
        }
    }
    Ok(())
}

/// One store for each site of the charter: a second one with the same plate counts for nothing.
fn targets(archive: &Archive, charter: &Charter) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let ids = archive.sites.iter().map(|handle| handle.id);
    ids.enumerate()
        .filter(|(_, id)| id.is_some_and(|id| charter.site(id).is_some() && seen.insert(id)))
        .map(|(at, _)| at)
        .collect()
}

/// Lists small records at every store; enough sites of the old charter must answer, or some might be missed.
async fn listed(needed: &Needed<'_>, before: &Charter, tally: &mut RecordTally) -> Result<Lying, PublishError> {
    let archive = needed.archive;
    let names = &archive.names;
    let mut lying = Lying::new();
    let mut answered: BTreeSet<usize> = (0..archive.sites.len()).collect();
    let prefixes = [
        names.charter_prefix(),
        names.runs_prefix(),
        names.heads_prefix(),
        names.grants_prefix(),
        names.logs_prefix(),
        names.marks_prefix(),
        names.holds_prefix(),
        names.registrations_prefix(),
        names.companions_prefix(),
    ];
    for prefix in prefixes {
        let (listings, troubles) = archive.list_everywhere(&prefix, RECORDS_MAX).await;
        answered.retain(|at| listings.get(at).is_some_and(|listing| listing.complete));
        tally.troubles.extend(troubles);
        for (at, listing) in listings {
            for entry in listing.entries {
                match needed.may_be(&entry.name) {
                    true => _ = lying.entry(entry.name).or_default().insert(at),
                    // What a log has grown out of stays where it lies.
                    false if names.read_log(&entry.name).is_some() => {}
                    false => tally.junk += 1,
                }
            }
        }
    }
    let ids = answered.iter().filter_map(|at| archive.sites.get(*at)?.id);
    let found = ids
        .filter(|id| before.site(*id).is_some())
        .collect::<BTreeSet<SiteId>>()
        .len();
    // Every record lies at q sites of its layout: as many must be listed as leave no room for it to hide.
    let sites = before.sites.len();
    let enough = (sites + 1).saturating_sub(holders_needed(before)?).max(1);
    match found >= enough {
        true => Ok(lying),
        false => Err(PublishError::Unlisted {
            found,
            sites,
            needed: enough,
            troubles: std::mem::take(&mut tally.troubles),
        }),
    }
}

/// How many stripes have fewer shards meant for sites of the charter than a restore needs.
fn too_thin(part: &LedgerPart, charter: &Charter) -> u64 {
    let contexts = part.stripes.iter().map(|stripe| &stripe.context);
    let thin = contexts.filter(|context| {
        let sites = part.layout_of(context.ordinal).iter();
        sites.filter(|site| charter.site(**site).is_some()).count() < usize::from(context.data)
    });
    thin.count() as u64
}

/// What became of one name.
#[derive(Default)]
struct Brought {
    /// Target sites that hold it now, or would.
    held: usize,
    /// Those of them that did not before.
    copied: usize,
    /// No store gives a record under it.
    is_junk: bool,
    troubles: Vec<SiteTrouble>,
}

impl Needed<'_> {
    /// How many stripes have fewer shards meant for sites of the charter than a restore needs. Stripes that no snapshot
    /// needs any more count, too; ledger parts that no store gives can't be looked at.
    async fn unrestorable(&self, lying: &Lying, charter: &Charter) -> u64 {
        let names = &self.archive.names;
        let is_ledger = |name: &ObjectName| matches!(names.read_run_object(name), Some((_, RunObject::Ledger, _)));
        let parts = stream::iter(lying.keys().filter(|name| is_ledger(name))).map(|name| async move {
            let read = |bytes: &Bytes| self.is(name, bytes).then(|| LedgerPart::from_bytes(bytes).ok())?;
            let (part, _) = self.archive.fetch(name, RECORD_BYTES_MAX, read).await;
            part.map_or(0, |part| too_thin(&part, charter))
        });
        let counts: Vec<u64> = parts.buffer_unordered(AT_ONCE).collect().await;
        counts.into_iter().sum()
    }

    /// Whether a store gives a record under a name. One that gives no answer may: nothing is put over it.
    async fn gives(&self, at: usize, name: &ObjectName) -> bool {
        let Some(handle) = self.archive.sites.get(at) else {
            return false;
        };
        match handle.site.get(name, RECORD_BYTES_MAX as u64).await {
            Ok(bytes) => self.is(name, &bytes),
            Err(error) => !matches!(
                error.class(),
                Class::Missing | Class::TooLong | Class::ShortRead | Class::Malformed
            ),
        }
    }

    /// Copies one record to the targets that lack it, from the first store whose bytes are one.
    async fn bring(&self, name: &ObjectName, mut at: BTreeSet<usize>, targets: &[usize], how: Bringing<'_>) -> Brought {
        if how.reread {
            for target in targets
                .iter()
                .filter(|target| at.contains(target))
                .copied()
                .collect::<Vec<_>>()
            {
                if !self.gives(target, name).await {
                    at.remove(&target);
                }
            }
        }
        let at = &at;
        let lacking: Vec<usize> = targets.iter().copied().filter(|target| !at.contains(target)).collect();
        let mut brought = Brought {
            held: targets.len() - lacking.len(),
            ..Brought::default()
        };
        if lacking.is_empty() {
            return brought;
        }
        let sites = &self.archive.sites;
        for holder in at.iter().filter_map(|at| sites.get(*at)) {
            match holder.site.get(name, RECORD_BYTES_MAX as u64).await {
                Ok(bytes) if self.is(name, &bytes) => {
                    brought.copied = match how.dry_run {
                        true => lacking.len(),
                        false => {
                            let to: Vec<SiteHandle> = lacking.iter().filter_map(|at| sites.get(*at)).cloned().collect();
                            let published = publish(&to, name, &bytes).await;
                            brought.troubles.extend(published.troubles);
                            published.sites.len()
                        }
                    };
                    brought.held += brought.copied;
                    return brought;
                }
                Ok(_) => {}
                Err(error) if matches!(error.class(), Class::Missing | Class::TooLong) => {}
                Err(error) => brought.troubles.push(SiteTrouble {
                    site: holder.name.clone(),
                    error,
                }),
            }
        }
        // Of a store that does not answer it isn't known.
        brought.is_junk = brought.troubles.is_empty();
        brought
    }
}
