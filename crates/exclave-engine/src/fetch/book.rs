//! What each site did so far, and whom to ask next.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use exclave_model::{ArchiveNames, ObjectName, Pace, RunId, ShardName, SiteId, name::STRIPES_PER_FOLDER};
use exclave_site::{Class, SiteError};

use super::race::first_good;
use crate::archive::{Archive, SiteHandle};

/// Requests in a row that must fail before a site counts as down.
const FAILURES_UNTIL_DOWN: u32 = 2;

/// Names of one folder of shards that are kept: a full folder at one site, and as many repeated puts.
const FOLDER_NAMES_MAX: usize = 2 * STRIPES_PER_FOLDER as usize;

/// Folders whose names are kept.
const FOLDERS_KEPT_MAX: usize = 64;

/// Why a site's answer was of no use, as reports count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// It says that it has no such object.
    Missing,
    /// It denies us the object.
    Denied,
    /// It did not answer in time.
    Timeout,
    /// It sent other bytes than were stored, more, or fewer.
    Corrupt,
    /// Anything else: unreachable, throttled, broken inside.
    Failed,
}

impl Problem {
    /// Sorts a site's error.
    pub fn of(error: &SiteError) -> Self {
        match error.class() {
            Class::Missing => Self::Missing,
            Class::Denied => Self::Denied,
            Class::Slow => Self::Timeout,
            Class::TooLong | Class::ShortRead | Class::Malformed => Self::Corrupt,
            Class::Unreachable
            | Class::Untrusted
            | Class::Throttled
            | Class::Full
            | Class::Internal
            | Class::Unsupported
            | Class::Crashed
            | Class::Other => Self::Failed,
        }
    }

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::Corrupt => "corrupt",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one site gave and what it failed to give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SiteTally {
    /// Its name.
    pub name: String,
    /// Its id; none for a store without a plate.
    pub id: Option<SiteId>,
    /// Bytes that arrived from it.
    pub bytes: u64,
    /// Shards of it that verified.
    pub shards: u64,
    /// Single groups of it that verified.
    pub groups: u64,
    /// Objects it should have and hasn't.
    pub missing: u64,
    /// Requests it denied.
    pub denied: u64,
    /// Requests it did not answer in time.
    pub timeouts: u64,
    /// Answers with wrong bytes.
    pub corrupt: u64,
    /// Other failed requests.
    pub failed: u64,
}

/// One site's line in the book.
#[derive(Debug, Default)]
struct Standing {
    tally: SiteTally,
    /// It returned wrong bytes: asked last from now on.
    struck: bool,
    failures_in_a_row: u32,
    latency: Option<Duration>,
}

/// A site, a run, and the folder of its stripes.
type FolderKey = (usize, RunId, u32);

/// The shards that a site listed in one folder.
type Folder = Arc<Vec<ShardName>>;

/// The sites of one archive and what they did.
#[derive(Debug)]
pub struct SiteBook {
    names: ArchiveNames,
    sites: Vec<SiteHandle>,
    standings: Vec<Mutex<Standing>>,
    folders: Mutex<Vec<(FolderKey, Folder)>>,
    hedge: Duration,
}

impl SiteBook {
    /// An empty book.
    pub fn new(archive: &Archive, hedge: Duration) -> Self {
        let standing = |handle: &SiteHandle| {
            Mutex::new(Standing {
                tally: SiteTally {
                    name: handle.name.clone(),
                    id: handle.id,
                    ..SiteTally::default()
                },
                ..Standing::default()
            })
        };
        Self {
            names: archive.names,
            standings: archive.sites.iter().map(standing).collect(),
            sites: archive.sites.clone(),
            folders: Mutex::default(),
            hedge,
        }
    }

    /// What each site did, in the order of the archive's sites.
    pub fn tallies(&self) -> Vec<SiteTally> {
        (0..self.sites.len())
            .filter_map(|site| self.standing(site).map(|standing| standing.tally.clone()))
            .collect()
    }

    /// The names of the archive's objects.
    pub fn names(&self) -> &ArchiveNames {
        &self.names
    }

    pub(crate) fn hedge(&self) -> Duration {
        self.hedge
    }

    pub(crate) fn handle(&self, site: usize) -> Option<&SiteHandle> {
        self.sites.get(site)
    }

    pub(crate) fn name_of(&self, site: usize) -> String {
        self.sites
            .get(site)
            .map_or_else(String::new, |handle| handle.name.clone())
    }

    /// Every site, by position.
    pub(crate) fn all(&self) -> std::ops::Range<usize> {
        0..self.sites.len()
    }

    /// Where a site of the charter stands, when it was handed in.
    pub(crate) fn position(&self, id: SiteId) -> Option<usize> {
        self.sites.iter().position(|handle| handle.id == Some(id))
    }

    /// All sites, the cheapest first.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = self.all().collect();
        order.sort_by_key(|site| (self.cost(*site), *site));
        order
    }

    /// What it costs to ask a site, to be compared: liars last, then what is down, then what is slow; among the others
    /// PACE order, then measured latency.
    pub(crate) fn cost(&self, site: usize) -> Cost {
        let pace = self
            .handle(site)
            .and_then(|handle| handle.record.as_ref())
            .map(|record| record.pace);
        let Some(standing) = self.standing(site) else {
            return Cost::default();
        };
        let latency = standing.latency.unwrap_or_default();
        Cost {
            struck: standing.struck,
            down: standing.failures_in_a_row >= FAILURES_UNTIL_DOWN,
            slow: latency > self.hedge,
            parity: false,
            // A store that no plate names is asked after those that one does.
            pace: (pace.is_none(), pace.unwrap_or(Pace::Emergency)),
            latency,
        }
    }

    pub(crate) fn is_good(&self, site: usize) -> bool {
        self.standing(site)
            .is_some_and(|standing| !standing.struck && standing.failures_in_a_row < FAILURES_UNTIL_DOWN)
    }

    /// Notes that bytes arrived, and how long that took.
    pub(crate) fn arrived(&self, site: usize, bytes: u64, took: Duration) {
        if let Some(mut standing) = self.standing(site) {
            standing.tally.bytes = standing.tally.bytes.saturating_add(bytes);
            standing.failures_in_a_row = 0;
            // An average in which the newest of four counts: recent, yet not jumpy.
            standing.latency = Some(standing.latency.map_or(took, |before| (before * 3 + took) / 4));
        }
    }

    /// Notes that a site's answer was of no use. Wrong bytes cost it its place.
    pub(crate) fn note(&self, site: usize, problem: Problem) {
        if let Some(mut standing) = self.standing(site) {
            let tally = &mut standing.tally;
            let counter = match problem {
                Problem::Missing => &mut tally.missing,
                Problem::Denied => &mut tally.denied,
                Problem::Timeout => &mut tally.timeouts,
                Problem::Corrupt => &mut tally.corrupt,
                Problem::Failed => &mut tally.failed,
            };
            *counter = counter.saturating_add(1);
            match problem {
                Problem::Corrupt => standing.struck = true,
                Problem::Denied | Problem::Timeout | Problem::Failed => {
                    standing.failures_in_a_row = standing.failures_in_a_row.saturating_add(1);
                }
                // It answered; that it lacks one object says nothing about the next.
                Problem::Missing => standing.failures_in_a_row = 0,
            }
        }
    }

    /// Notes that a shard of a site verified.
    pub(crate) fn used_shard(&self, site: usize) {
        if let Some(mut standing) = self.standing(site) {
            standing.tally.shards = standing.tally.shards.saturating_add(1);
        }
    }

    /// Notes that groups of a site verified.
    pub(crate) fn used_groups(&self, site: usize, count: u64) {
        if let Some(mut standing) = self.standing(site) {
            standing.tally.groups = standing.tally.groups.saturating_add(count);
        }
    }

    /// One request for a whole object, with its outcome in the book.
    pub(crate) async fn get(&self, site: usize, name: &ObjectName, bytes_max: u64) -> Result<Bytes, Problem> {
        let handle = self.handle(site).ok_or(Problem::Missing)?;
        let since = tokio::time::Instant::now();
        self.book_answer(site, since, handle.site.get(name, bytes_max).await)
    }

    /// One request for a range.
    pub(crate) async fn get_range(
        &self,
        site: usize,
        name: &ObjectName,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, Problem> {
        let handle = self.handle(site).ok_or(Problem::Missing)?;
        let since = tokio::time::Instant::now();
        self.book_answer(site, since, handle.site.get_range(name, range).await)
    }

    fn book_answer(
        &self,
        site: usize,
        since: tokio::time::Instant,
        answer: Result<Bytes, SiteError>,
    ) -> Result<Bytes, Problem> {
        match answer {
            Ok(bytes) => {
                self.arrived(site, bytes.len() as u64, since.elapsed());
                Ok(bytes)
            }
            Err(error) => {
                let problem = Problem::of(&error);
                tracing::debug!(%error, "a site's answer is of no use");
                self.note(site, problem);
                Err(problem)
            }
        }
    }

    /// Fetches a small object from the first site whose bytes `accept` takes.
    pub(crate) async fn small<T>(
        &self,
        name: &ObjectName,
        bytes_max: usize,
        accept: impl Fn(&Bytes) -> Option<T>,
    ) -> Result<T, Unavailable> {
        let accept = &accept;
        let found = first_good(self.order(), self.hedge, |site| async move {
            let bytes = self.get(site, name, bytes_max as u64).await?;
            accept(&bytes).ok_or_else(|| {
                self.note(site, Problem::Corrupt);
                Problem::Corrupt
            })
        });
        match found.await {
            (Some((_, value)), _) => Ok(value),
            (None, problems) => Err(Unavailable {
                object: name.to_string(),
                answers: self.answers(problems),
            }),
        }
    }

    pub(crate) fn answers<E>(&self, answers: Vec<(usize, E)>) -> Vec<(String, E)> {
        let named = |(site, answer)| (self.name_of(site), answer);
        answers.into_iter().map(named).collect()
    }

    /// The shards that a site lists in the folder of a stripe; asked once.
    pub(crate) async fn folder(&self, site: usize, run: RunId, ordinal: u32) -> Result<Folder, Problem> {
        let key = (site, run, ordinal / STRIPES_PER_FOLDER);
        let known = |folders: &[(FolderKey, Folder)]| {
            let found = folders.iter().find(|(at, _)| *at == key);
            found.map(|(_, folder)| Arc::clone(folder))
        };
        if let Some(folder) = known(&lock(&self.folders)) {
            return Ok(folder);
        }
        let handle = self.handle(site).ok_or(Problem::Missing)?;
        let prefix = self.names.shards_folder(run, ordinal);
        let listing = handle.site.list(&prefix, FOLDER_NAMES_MAX).await.map_err(|error| {
            let problem = Problem::of(&error);
            self.note(site, problem);
            problem
        })?;
        let shards = listing.entries.iter();
        let folder: Folder = Arc::new(
            shards
                .filter_map(|entry| ShardName::parse(&self.names, &entry.name))
                .collect(),
        );
        let mut folders = lock(&self.folders);
        if folders.len() >= FOLDERS_KEPT_MAX {
            folders.remove(0);
        }
        folders.push((key, Arc::clone(&folder)));
        Ok(folder)
    }

    fn standing(&self, site: usize) -> Option<MutexGuard<'_, Standing>> {
        self.standings.get(site).map(lock)
    }
}

/// What asking a site costs; smaller is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    struck: bool,
    down: bool,
    slow: bool,
    /// A parity shard, which costs arithmetic: it is asked for when the data shard's site is no good.
    pub(crate) parity: bool,
    pace: (bool, Pace),
    latency: Duration,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            struck: true,
            down: true,
            slow: true,
            parity: true,
            pace: (true, Pace::Emergency),
            latency: Duration::MAX,
        }
    }
}

/// No site has acceptable bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no site has {object}{}", told(answers))]
pub struct Unavailable {
    /// Which object.
    pub object: String,
    /// What each site answered.
    pub answers: Vec<(String, Problem)>,
}

/// What sites answered, for people.
pub(crate) fn told<E: std::fmt::Display>(answers: &[(String, E)]) -> String {
    let each: Vec<String> = answers
        .iter()
        .map(|(site, answer)| format!("{site}: {answer}"))
        .collect();
    match each.is_empty() {
        true => String::new(),
        false => format!(" ({})", each.join(", ")),
    }
}

/// Counting can't be left half done, so a panic elsewhere leaves what is locked usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
