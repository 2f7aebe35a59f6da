//! Repair: shards that are missing or wrong are rebuilt from any k others and put back, without a key.
//!
//! What is broken, an audit finds ([`crate::audit`]); here it is mended, the most endangered stripes first: those that can
//! bear the fewest further losses. A rebuilt shard is compared with the ledger before it is put and read back whole after
//! ([`crate::mend`]), so a liar among the sources costs time and nothing else. Nothing is deleted and no other shard is
//! touched: a repair that dies leaves every stripe as good as it was, or better, and the next one goes on.
//!
//! Small records go first: what readers need is copied to sites that lost it or hold a wrong copy, from those that have it.
//!
//! A shard belongs to its site in the layout. Where the newest charter names that site no more, it is lost for good: the
//! shard goes to a site of the charter that holds none of the stripe yet, the one that shares the fewest fault domains with
//! those that do. Readers find it there by its name, as they find repeated puts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use exclave_model::{RunId, SiteId, SiteRecord};
use futures::stream::{self, StreamExt};

use crate::{
    archive::Archive,
    audit::{Audit, AuditRequest, Damage, Inspection, inspect},
    charter::PublishError,
    fetch::{ReadSettings, SiteBook, ledger::Ledgers},
    mend::{Patient, Unmended},
    records::{RecordTally, level},
    surroundings::{Progress, Surroundings},
    survey::Survey,
};

/// Bytes of stripes in memory: fetched shards and rebuilt ones. Two stripes are always let in.
const MEMORY_BYTES_MAX: usize = 256 << 20;

/// Stripes that are mended at the same time, however small they are.
const STRIPES_MAX: usize = 16;

/// What was mended at one site, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The site; its id where the charter names none such.
    pub site: String,
    /// Why.
    pub reason: String,
}

/// What a repair did, or would do.
#[derive(Debug)]
pub struct RepairReport {
    /// What the audit before it found.
    pub audit: Audit,
    /// Small records: what was copied to sites that lost it. Why not, when too few sites could be listed.
    pub records: Result<RecordTally, PublishError>,
    /// Stripes with shards that are missing or wrong.
    pub stripes: u64,
    /// Shards of them that are.
    pub shards: u64,
    /// Shards that were put and read back, by site.
    pub mended: BTreeMap<String, u64>,
    /// Those of them at another site than their layout's, which the charter dropped.
    pub moved: u64,
    /// Those that lie beside other bytes, under a repeated put's name.
    pub displaced: u64,
    /// Shards that are still missing or wrong.
    pub left: BTreeMap<Left, u64>,
    /// Stripes that have fewer good shards than a restore needs.
    pub unrecoverable: u64,
    /// The least number of further losses that any damaged stripe could bear before.
    pub margin_before: Option<i16>,
    /// True when it ended early because someone asked it to.
    pub interrupted: bool,
}

/// Audits an archive and mends what it finds. With `dry_run` nothing is written.
pub fn repair(
    archive: &Archive,
    survey: &Survey,
    request: &AuditRequest,
    dry_run: bool,
    surroundings: &Surroundings,
) -> RepairReport {
    let Inspection {
        audit,
        runs,
        mut damages,
    } = inspect(archive, survey, request, surroundings);
    // Of equally endangered stripes those of one ledger part together.
    damages.sort_unstable_by_key(|damage| (damage.margin, damage.run, damage.ordinal));
    // First: without ledgers and heads nobody knows what the shards are.
    let records = surroundings.runtime.block_on(level(archive, dry_run));
    let mut report = RepairReport {
        records,
        stripes: damages.len() as u64,
        shards: damages.iter().map(|damage| u64::from(damage.wanted.count_ones())).sum(),
        mended: BTreeMap::new(),
        moved: 0,
        displaced: 0,
        left: BTreeMap::new(),
        unrecoverable: damages.iter().filter(|damage| damage.margin < 0).count() as u64,
        margin_before: damages.first().map(|damage| damage.margin),
        interrupted: audit.interrupted,
        audit,
    };
    if dry_run || report.interrupted {
        return report;
    }
    surroundings.progress.begin_anew();
    let book = Arc::new(SiteBook::new(archive, ReadSettings::default().hedge));
    let healer = Healer {
        archive,
        book,
        progress: &surroundings.progress,
    };
    surroundings.runtime.block_on(async {
        let mut ledgers: BTreeMap<RunId, Ledgers> = BTreeMap::new();
        let mut rest = damages.iter().peekable();
        while rest.peek().is_some() && !surroundings.progress.stop_asked() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(damage) = rest.peek() {
                if batch.len() >= 2 && (bytes >= MEMORY_BYTES_MAX || batch.len() >= STRIPES_MAX) {
                    break;
                }
                let damage = *damage;
                rest.next();
                let Some(run) = runs.get(&damage.run) else { continue };
                let known = ledgers.len();
                let of_run = ledgers.entry(damage.run).or_insert_with(|| {
                    let homes = run.homes.iter().copied().collect();
                    Ledgers::below(archive.anchor, Arc::clone(&healer.book), homes)
                });
                match of_run.line(&run.entry, damage.ordinal).await {
                    Ok(line) => {
                        let payload = line.record.context.payload.object_bytes();
                        bytes +=
                            payload * (usize::from(line.record.context.data) + damage.wanted.count_ones() as usize);
                        let patient = Patient {
                            record: Arc::new(line.record),
                            layout: line.layout,
                        };
                        batch.push((damage, patient));
                    }
                    Err(error) => report.leave(String::new(), error.to_string(), damage.wanted.count_ones()),
                }
                // Ledgers of runs that were looked at before would only take memory.
                if known > RUNS_KEPT_MAX {
                    ledgers.retain(|run, _| *run == damage.run);
                }
            }
            let mended = stream::iter(batch).map(|(damage, patient)| healer.mend(damage, patient));
            let mended: Vec<Healed> = mended.buffer_unordered(STRIPES_MAX).collect().await;
            for healed in mended.into_iter().flatten() {
                report.take(healed);
            }
        }
        report.interrupted = rest.peek().is_some();
    });
    report
}

/// Runs whose ledgers are in memory.
const RUNS_KEPT_MAX: usize = 8;

impl RepairReport {
    fn leave(&mut self, site: String, reason: String, shards: u32) {
        *self.left.entry(Left { site, reason }).or_default() += u64::from(shards);
    }

    fn take(&mut self, shard: HealedShard) {
        match shard.put {
            Ok(attempt) => {
                *self.mended.entry(shard.site).or_default() += 1;
                self.moved += u64::from(shard.moved);
                self.displaced += u64::from(attempt > 0);
            }
            Err(reason) => self.leave(shard.site, reason, 1),
        }
    }
}

/// What became of one shard.
struct HealedShard {
    site: String,
    /// At another site than the layout's.
    moved: bool,
    /// The attempt under which it lies, or why it doesn't.
    put: Result<u32, String>,
}

type Healed = Vec<HealedShard>;

struct Healer<'a> {
    archive: &'a Archive,
    book: Arc<SiteBook>,
    progress: &'a Progress,
}

/// Where a shard goes.
enum Place {
    /// A store, by position, and whether it is another site than the layout's.
    At(usize, bool),
    /// Nowhere.
    Nowhere(String, &'static str),
}

impl Healer<'_> {
    /// Rebuilds and puts the wanted shards of one stripe.
    async fn mend(&self, damage: &Damage, patient: Patient) -> Healed {
        let total = u8::try_from(patient.layout.len()).unwrap_or(u8::MAX);
        let wanted = (0..total.min(32)).filter(|index| damage.wanted & (1 << index) != 0);
        let mut taken = BTreeSet::new();
        let (mut healed, mut places) = (Vec::new(), Vec::new());
        for index in wanted {
            match self.place(&patient, index, &mut taken).await {
                Place::At(at, moved) => places.push((index, at, moved)),
                Place::Nowhere(site, reason) => healed.push(HealedShard {
                    site,
                    moved: false,
                    put: Err(reason.to_owned()),
                }),
            }
        }
        if places.is_empty() {
            return healed;
        }
        let indices: Vec<u8> = places.iter().map(|(index, ..)| *index).collect();
        let objects = patient.rebuild(&self.book, &indices).await;
        let objects = match objects {
            Ok(objects) => objects.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); indices.len()],
        };
        for ((index, at, moved), object) in places.into_iter().zip(objects) {
            let put = match object {
                Ok(object) => self.put(&patient, at, index, &object).await,
                Err(error) => Err(error),
            };
            healed.push(HealedShard {
                site: self.book.name_of(at),
                moved,
                put: put.map_err(|error| error.to_string()),
            });
        }
        Progress::add(&self.progress.stripes, 1);
        Progress::add(&self.progress.entries, 1);
        healed
    }

    async fn put(&self, patient: &Patient, at: usize, index: u8, object: &exclave_site::Body) -> Result<u32, Unmended> {
        let handle = self.archive.sites.get(at).ok_or(Unmended::TooFewShards)?;
        let attempt = patient.put(&self.book, handle, index, object).await?;
        Progress::add(&self.progress.bytes_moved, object.len());
        Ok(attempt)
    }

    /// The site of the layout; for one that the charter dropped, another one.
    async fn place(&self, patient: &Patient, index: u8, taken: &mut BTreeSet<SiteId>) -> Place {
        let charter = self.archive.charter();
        let Some(site) = patient.layout.get(usize::from(index)) else {
            return Place::Nowhere(String::new(), "the layout names no site for it");
        };
        if charter.site(*site).is_some() {
            return match self.book.position(*site) {
                Some(at) => Place::At(at, false),
                None => Place::Nowhere(self.archive.site_name(*site), "no store that was given shows its plate"),
            };
        }
        let mut holders: Vec<&SiteRecord> = patient.layout.iter().filter_map(|id| charter.site(*id)).collect();
        holders.extend(taken.iter().filter_map(|id| charter.site(*id)));
        let mut free: Vec<(usize, &SiteRecord, usize)> = Vec::new();
        for candidate in &charter.sites {
            if holders.iter().any(|holder| holder.id == candidate.id) {
                continue;
            }
            let Some(at) = self.book.position(candidate.id) else {
                continue;
            };
            match self.holds(at, patient, index).await {
                // It was moved there before.
                Some(true) => {
                    taken.insert(candidate.id);
                    return Place::At(at, true);
                }
                Some(false) => free.push((shared_domains(candidate, &holders), candidate, at)),
                None => {}
            }
        }
        free.sort_by_key(|(shared, site, _)| (*shared, site.pace, site.id));
        match free.first() {
            Some((_, site, at)) => {
                taken.insert(site.id);
                Place::At(*at, true)
            }
            None => Place::Nowhere(
                site.to_hex(),
                "its site is dropped, and every other site of the charter holds a shard of the stripe or does not answer",
            ),
        }
    }

    /// Whether a site lists this very shard: `Some(false)` when it lists none of the stripe, `None` when it lists another
    /// one, or gives no answer.
    async fn holds(&self, at: usize, patient: &Patient, index: u8) -> Option<bool> {
        let context = &patient.record.context;
        let folder = self.book.folder(at, context.run, context.ordinal).await.ok()?;
        let mut of_stripe = folder.iter().filter(|shard| shard.ordinal == context.ordinal);
        match of_stripe.next() {
            None => Some(false),
            Some(first) if first.index == index && of_stripe.all(|shard| shard.index == index) => Some(true),
            Some(_) => None,
        }
    }
}

/// How many fault domains a site shares with those that hold shards of the stripe: region, operator, country, identity
/// system, each counted with each of them.
fn shared_domains(site: &SiteRecord, holders: &[&SiteRecord]) -> usize {
    let same = |ours: &Option<String>, theirs: &Option<String>| usize::from(ours.is_some() && ours == theirs);
    let with = |holder: &&SiteRecord| {
        same(&site.region, &holder.region)
            + same(&site.operator, &holder.operator)
            + same(&site.country, &holder.country)
            + same(&site.iam_realm, &holder.iam_realm)
    };
    holders.iter().map(with).sum()
}

#[cfg(test)]
mod tests;
