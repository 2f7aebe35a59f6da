//! Locks follow references: until when everything is locked that retained snapshots need, and how that is extended.
//!
//! What is needed follows from heads, run tables and ledgers, as in every audit: all small records, and the shards that
//! ledgers name at a site. Of each the version that has the right bytes counts, not what a thief may have laid on top. A keeper
//! asks how long it is locked and extends what falls short, so that whoever is interrupted begins again and does only what is
//! left. It deletes nothing, and never shortens.
//!
//! Time is the site's own, where it tells one: a wrong local clock must not make a lock seem long (THREATS A9).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use exclave_model::{
    ObjectName, Prefix, RunId, ShardName, SiteId, Tag, limit::RECORD_BYTES_MAX, name::STRIPES_PER_FOLDER,
};
use exclave_plan::audit::Nonce;
use exclave_site::{Class, Keep, LockMode, Locked, NameVersions, VersionId, Versions};
use futures::stream::{self, StreamExt};

use super::{
    AuditRequest, Auditor, Mode,
    scope::Scope,
    stripes::{Walk, holders},
};
use crate::{
    archive::{Archive, SMALL_LISTING_MAX, SiteHandle},
    surroundings::{Progress, Surroundings},
    survey::{HEADS_PER_SITE_MAX, Survey},
};

/// A day, in seconds.
pub const DAY_S: i64 = 86_400;

/// Farthest end of a lock that a keeper sets, in days from now: nobody can take back a lock of ten years that was a slip of
/// the finger.
pub const DAYS_MAX: u32 = 400;

/// In how many days something falls out of lock, as forecasts count it.
pub const FORECAST_DAYS: [u32; 3] = [30, 60, 90];

/// Versions of one object that are looked at.
const KEPT_MAX: usize = 16;

/// Objects that are asked about at the same time at one site.
const AT_ONCE: usize = 16;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRequest {
    /// For how many days from now everything must be locked; `None` only looks.
    pub days: Option<u32>,
    /// Only say what would be extended.
    pub dry_run: bool,
    /// How long a site may take for one answer.
    pub deadline: Duration,
}

/// What one site's locks come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SiteLocks {
    /// Its name.
    pub site: String,
    /// Why nothing is known of its locks: it keeps no versions, or does not say.
    pub unknown: Option<String>,
    /// Objects that retained snapshots need and that lie there.
    pub objects: u64,
    /// Objects that ledgers name there and it doesn't list.
    pub missing: u64,
    /// Objects that are not locked.
    pub unlocked: u64,
    /// Objects whose lock somebody with a special right may lift.
    pub governance: u64,
    /// Objects that fall out of lock within [`FORECAST_DAYS`], each in the first that it falls in; those that are not locked are
    /// not among them.
    pub falls_out: [u64; FORECAST_DAYS.len()],
    /// The first that falls out of lock, and when, in Unix seconds.
    pub earliest: Option<(i64, String)>,
    /// Objects whose lock ends before it should: each takes one request to extend.
    pub short: u64,
    /// Objects whose lock was extended.
    pub extended: u64,
    /// Objects of which it could not be told or done, and what the site said first.
    pub failed: u64,
    /// See above.
    pub said: Option<String>,
    /// Objects that lie beneath what is not ours.
    pub beneath: u64,
    /// The site's time that all this was held against, in Unix seconds; the local clock's where it tells none.
    pub now: i64,
}

/// What all sites' locks come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LockReport {
    /// Each site's.
    pub sites: Vec<SiteLocks>,
    /// Records that could not be read, so that not everything is known that is needed.
    pub unread: u64,
    /// True when someone asked to stop.
    pub interrupted: bool,
}

/// Looks at the locks of everything that retained snapshots need, and extends those that fall short. `keeps` gives the power to
/// extend, by the place of a site in the archive.
pub fn locks(
    archive: &Archive,
    survey: &Survey,
    request: &LockRequest,
    keeps: &BTreeMap<usize, Arc<dyn Keep>>,
    surroundings: &Surroundings,
) -> LockReport {
    let audit = AuditRequest {
        mode: Mode::Heads,
        datasets: None,
        nonce: Nonce::from_bytes([0; 32]),
        deadline: request.deadline,
        forecast_only: true,
        troubles: Vec::new(),
    };
    let local_now = surroundings.clock.now_unix_seconds();
    surroundings.runtime.block_on(async {
        let mut auditor = Auditor::begin(archive, survey, &audit, &surroundings.progress);
        let scope = Scope::read(&mut auditor).await;
        let mut keepers = Vec::new();
        for at in auditor.desk.positions() {
            if let Some(handle) = auditor.desk.handle(at) {
                let keeper = Keeper::begin(handle, request, keeps.get(&at), local_now).await;
                keepers.push((at, keeper));
            }
        }
        small(&mut auditor, &scope, &mut keepers, &surroundings.progress).await;
        shards(&mut auditor, &scope, &mut keepers, &surroundings.progress).await;
        LockReport {
            sites: keepers.into_iter().map(|(_, keeper)| keeper.tally).collect(),
            unread: auditor.facts.records_lost + auditor.facts.stripes_unproven,
            interrupted: auditor.interrupted,
        }
    })
}

/// Charters, plates, kits, grants, heads, and what runs publish of themselves.
async fn small(auditor: &mut Auditor<'_>, scope: &Scope, keepers: &mut [(usize, Keeper)], progress: &Progress) {
    let names = auditor.desk.archive.names;
    let mut places = vec![
        (names.charter_prefix(), SMALL_LISTING_MAX),
        (names.plate_prefix(), SMALL_LISTING_MAX),
        (names.kits_prefix(), SMALL_LISTING_MAX),
        (names.grants_prefix(), SMALL_LISTING_MAX),
        (names.registrations_prefix(), SMALL_LISTING_MAX),
        (names.companions_prefix(), SMALL_LISTING_MAX),
        (names.logs_prefix(), SMALL_LISTING_MAX),
        (names.marks_prefix(), SMALL_LISTING_MAX),
        (names.holds_prefix(), SMALL_LISTING_MAX),
        (names.heads_prefix(), HEADS_PER_SITE_MAX),
    ];
    places.extend(scope.runs.keys().map(|run| (names.run_prefix(*run), SMALL_LISTING_MAX)));
    for (prefix, most) in places {
        if auditor.stops() {
            return;
        }
        for (_, keeper) in &mut *keepers {
            let has_tag = |name: &ObjectName| name.fits(&[]).is_some();
            keeper
                .look_below(&prefix, most, progress, Trust::Nothing, has_tag)
                .await;
        }
    }
}

/// The shards that ledgers name, a folder at a time.
async fn shards(auditor: &mut Auditor<'_>, scope: &Scope, keepers: &mut [(usize, Keeper)], progress: &Progress) {
    for run in scope.runs.values() {
        let id = run.entry.run;
        let mut walk = Walk::of(auditor, run, None);
        let mut folder = Folder::default();
        for ordinal in run.entry.live.iter() {
            if folder
                .ordinal
                .is_some_and(|first| first / STRIPES_PER_FOLDER != ordinal / STRIPES_PER_FOLDER)
            {
                if auditor.stops() {
                    return;
                }
                std::mem::take(&mut folder).settle(auditor, id, keepers, progress).await;
            }
            folder.ordinal = Some(ordinal);
            match walk.line(ordinal).await {
                Ok(line) => {
                    let bytes = line.record.context.payload.object_bytes() as u64;
                    folder.bytes_max = folder.bytes_max.max(bytes);
                    for (index, site) in holders(&line.record, &line.layout) {
                        if let Some(hash) = line.record.payloads.get(usize::from(index)) {
                            let named = folder.named.entry(site).or_default();
                            named.insert((ordinal, index, Tag::of_hash(hash.as_bytes())));
                        }
                    }
                }
                Err(error) => auditor.without_line(&error),
            }
        }
        folder.settle(auditor, id, keepers, progress).await;
    }
}

/// What ledgers name in one folder of a run, by site.
#[derive(Default)]
struct Folder {
    /// One of its stripes.
    ordinal: Option<u32>,
    named: BTreeMap<SiteId, BTreeSet<(u32, u8, Tag)>>,
    /// The longest of these, in bytes.
    bytes_max: u64,
}

impl Folder {
    async fn settle(self, auditor: &Auditor<'_>, run: RunId, keepers: &mut [(usize, Keeper)], progress: &Progress) {
        let Some(ordinal) = self.ordinal else { return };
        let names = auditor.desk.archive.names;
        let prefix = names.shards_folder(run, ordinal);
        for (site, mut named) in self.named {
            let at = auditor.desk.position(site);
            let Some((_, keeper)) = keepers.iter_mut().find(|(place, _)| Some(*place) == at) else {
                continue;
            };
            let bytes_max = self.bytes_max;
            let trust = Trust::Names { bytes_max };
            // Repeated puts of a shard, and what was laid there beside ours.
            let most = 2 * STRIPES_PER_FOLDER as usize;
            let mut found = BTreeSet::new();
            let is_named = |name: &ObjectName| {
                let shard = ShardName::parse(&names, name);
                let key = shard.map(|shard| (shard.ordinal, shard.index, shard.tag));
                let ours = key.filter(|key| named.contains(key));
                ours.is_some_and(|key| {
                    found.insert(key);
                    true
                })
            };
            if keeper.look_below(&prefix, most, progress, trust, is_named).await {
                named.retain(|key| !found.contains(key));
                keeper.tally.missing += named.len() as u64;
            }
        }
    }
}

/// What makes an object one that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// A ledger names it, and has no longer ones: the only version under that name is taken unread.
    Names {
        /// Bytes of the longest.
        bytes_max: u64,
    },
    /// Anybody may have put it: it is read, so that junk isn't kept. What is junk and has its own tag is kept in vain.
    Nothing,
}

impl Trust {
    fn bytes_max(self) -> u64 {
        match self {
            Self::Names { bytes_max } => bytes_max,
            Self::Nothing => RECORD_BYTES_MAX as u64,
        }
    }
}

/// What is done at one site.
struct Keeper {
    handle: SiteHandle,
    keep: Option<Arc<dyn Keep>>,
    /// Until when everything must be locked.
    until: Option<i64>,
    dry_run: bool,
    deadline: Duration,
    tally: SiteLocks,
}

/// What came of one object.
enum Settled {
    /// Its lock before, and whether it was extended.
    Known(Option<Locked>, Option<Result<(), String>>),
    Failed(String),
}

impl Keeper {
    async fn begin(handle: &SiteHandle, request: &LockRequest, keep: Option<&Arc<dyn Keep>>, local_now: i64) -> Self {
        let mut tally = SiteLocks {
            site: handle.name.clone(),
            ..SiteLocks::default()
        };
        match handle.site.versions() {
            None => tally.unknown = Some("it keeps no versions, or shows none: nothing there is locked".to_owned()),
            Some(versions) => match tokio::time::timeout(request.deadline, versions.are_kept()).await {
                Ok(Ok(false)) => tally.unknown = Some("it keeps no versions: nothing there is locked".to_owned()),
                Ok(Err(error)) if !matches!(error.class(), Class::Denied | Class::Unsupported) => {
                    tally.unknown = Some(error.to_string());
                }
                Ok(_) => {}
                Err(_) => tally.unknown = Some("no answer in time".to_owned()),
            },
        }
        // Its clock is known once it has answered.
        tally.now = handle.site.date().await.unwrap_or(local_now);
        let days = request.days.map(|days| i64::from(days.min(DAYS_MAX)));
        Self {
            handle: handle.clone(),
            keep: keep.cloned(),
            until: days.map(|days| tally.now.saturating_add(days * DAY_S)),
            dry_run: request.dry_run,
            deadline: request.deadline,
            tally,
        }
    }

    /// Looks after everything below a prefix whose name `is_needed`; false when it could not be listed.
    async fn look_below(
        &mut self,
        prefix: &Prefix,
        names_max: usize,
        progress: &Progress,
        trust: Trust,
        mut is_needed: impl FnMut(&ObjectName) -> bool,
    ) -> bool {
        let handle = self.handle.clone();
        let Some(versions) = handle.site.versions().filter(|_| self.tally.unknown.is_none()) else {
            return false;
        };
        let listing = match versions.list_versions(prefix, names_max, KEPT_MAX).await {
            Ok(listing) => listing,
            Err(error) => {
                self.failed(&error.to_string());
                return false;
            }
        };
        if !listing.complete {
            self.failed(&format!("{prefix}: it lists more than a keeper takes"));
        }
        let needed = listing.names.into_iter().filter(|found| is_needed(&found.name));
        let this = &*self;
        let settled = stream::iter(needed.collect::<Vec<_>>()).map(|found| async move {
            let version = this.version_of(versions, &found, trust).await?;
            let settled = this.settle(versions, &found.name, &version).await;
            let newest = found.kept.first().is_some_and(|newest| newest.id == version);
            Some((found.name, newest, settled))
        });
        let settled: Vec<_> = settled.buffer_unordered(AT_ONCE).collect().await;
        for (name, newest, settled) in settled.into_iter().flatten() {
            Progress::add(&progress.entries, 1);
            self.tally.beneath += u64::from(!newest);
            self.count(&name, settled);
        }
        true
    }

    /// The version that has the right bytes; none where nothing has. Among several, the one that fits is found by reading.
    async fn version_of(&self, versions: &dyn Versions, found: &NameVersions, trust: Trust) -> Option<VersionId> {
        if let [only] = found.kept.as_slice()
            && found.total == 1
        {
            let length = only.length.filter(|length| *length <= trust.bytes_max())?;
            if trust == Trust::Nothing {
                let bytes = versions.get_version(&found.name, &only.id, length).await.ok()?;
                found.name.fits(&bytes).filter(|fits| *fits)?;
            }
            return Some(only.id.clone());
        }
        let bytes = self.handle.site.get(&found.name, trust.bytes_max()).await.ok()?;
        if found.name.fits(&bytes) != Some(true) {
            return None;
        }
        let beneath = self.handle.sight.version(&found.name);
        beneath.or_else(|| found.kept.first().map(|newest| newest.id.clone()))
    }

    async fn settle(&self, versions: &dyn Versions, name: &ObjectName, version: &VersionId) -> Settled {
        let asked = tokio::time::timeout(self.deadline, versions.lock_of(name, Some(version))).await;
        let before = match asked {
            Ok(Ok(before)) => before,
            Ok(Err(error)) => return Settled::Failed(error.to_string()),
            Err(_) => return Settled::Failed(format!("{name}: no answer in time")),
        };
        let is_short = |until: i64| before.is_none_or(|before| before.until < until);
        let (Some(until), Some(keep)) = (self.until.filter(|until| is_short(*until)), &self.keep) else {
            return Settled::Known(before, None);
        };
        if self.dry_run {
            return Settled::Known(before, None);
        }
        // Who may lift it stays what it is: to change that takes a further right.
        let mode = before.map_or(LockMode::Compliance, |before| before.mode);
        let extended = tokio::time::timeout(self.deadline, keep.extend(name, version, Locked { until, mode })).await;
        Settled::Known(
            before,
            Some(match extended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("{name}: no answer in time")),
            }),
        )
    }

    fn count(&mut self, name: &ObjectName, settled: Settled) {
        let tally = &mut self.tally;
        tally.objects += 1;
        let (before, extended) = match settled {
            Settled::Failed(said) => return self.failed(&said),
            Settled::Known(before, extended) => (before, extended),
        };
        let is_short = |until: i64| before.is_none_or(|before| before.until < until);
        let was_short = self.until.is_some_and(is_short);
        tally.short += u64::from(was_short);
        tally.governance += u64::from(before.is_some_and(|before| before.mode == LockMode::Governance));
        let until = match (&extended, before) {
            (Some(Ok(())), _) => {
                tally.extended += 1;
                self.until
            }
            (_, before) => before.map(|before| before.until),
        };
        // A lock that is over is none.
        match until.filter(|until| *until > tally.now) {
            None => tally.unlocked += 1,
            Some(until) => {
                let days = (until - tally.now).div_euclid(DAY_S);
                let within = FORECAST_DAYS.iter().position(|within| days < i64::from(*within));
                if let Some(slot) = within.and_then(|at| tally.falls_out.get_mut(at)) {
                    *slot += 1;
                }
                if tally.earliest.as_ref().is_none_or(|(earliest, _)| until < *earliest) {
                    tally.earliest = Some((until, name.to_string()));
                }
            }
        }
        if let Some(Err(said)) = extended {
            self.failed(&said);
        }
    }

    fn failed(&mut self, said: &str) {
        self.tally.failed += 1;
        self.tally.said.get_or_insert_with(|| said.to_owned());
    }
}
