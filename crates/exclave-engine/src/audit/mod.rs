//! Audit: do the sites still hold what they should? Without any key, any secret, any catalog.
//!
//! Brought along are the anchor and the stores. What should be there follows from the charter and the heads, by way of run
//! tables and ledgers, each checked by signature or hash ([`scope`]). What is there is asked:
//!
//! * [`logs`]: the transparency logs, against themselves and against the heads;
//! * [`records`]: the small records, at every site, against the quorums of their class;
//! * [`sample`]: groups of 64 KiB that a public seed chose, at all sites in one short window ([`exclave_plan::audit`]);
//! * [`shards`]: every shard whole; or also coded again, so that shards that don't belong together are found;
//! * [`strays`]: what lies there and no valid head or ledger names.
//!
//! [`report`] makes of it what others can check.
//!
//! Only what was shown counts: who doesn't answer in time, denies or answers wrongly has not got it. Findings are data. An
//! audit that was interrupted says so and what it had seen until then.

mod datasets;
mod desk;
pub mod locks;
mod logs;
mod records;
pub mod report;
mod sample;
mod scope;
mod shards;
mod strays;
mod stripes;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use exclave_model::{
    DatasetId, Incarnation, KeyId, RecordHash, RunId, SiteId,
    report::{Facts, LogSeen, Outcome, OutcomeCounts, Verdict},
};
use exclave_plan::audit::{Detection, Nonce, Placement, Seed, Survivors};

pub use self::{
    datasets::DatasetAudit,
    desk::Latency,
    records::{RecordKind, RecordTally},
    strays::Strays,
};
use self::{desk::Desk, logs::LogAudit, records::Records, scope::Scope, stripes::Census};
use crate::{
    archive::{Archive, SiteTrouble},
    surroundings::{Progress, Surroundings},
    survey::{CharterFinding, Grade, Survey},
};

/// Findings that are kept word for word; all are counted.
pub const FINDINGS_KEPT_MAX: usize = 1000;

/// How deep an audit looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Charters, plates, heads, run tables, envelopes, ledgers, grants.
    Heads,
    /// These, and sampled groups of the shards.
    Sample(Detection),
    /// These, and every shard whole.
    Full,
    /// These, and every shard of each stripe computed again from k others.
    Deep,
}

impl Mode {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heads => "heads",
            Self::Sample(_) => "sample",
            Self::Full => "full",
            Self::Deep => "deep",
        }
    }
}

/// What is to be audited, and how.
#[derive(Debug, Clone)]
pub struct AuditRequest {
    /// How deep.
    pub mode: Mode,
    /// Which datasets; none are all.
    pub datasets: Option<BTreeSet<DatasetId>>,
    /// What the auditor adds to the seed.
    pub nonce: Nonce,
    /// How long a site may take for one answer.
    pub deadline: Duration,
    /// Only say what would be read.
    pub forecast_only: bool,
    /// What opening the archive met with.
    pub troubles: Vec<(String, Outcome)>,
}

impl AuditRequest {
    /// What the troubles of opening an archive mean to an audit.
    pub fn troubles_of(troubles: &[SiteTrouble]) -> Vec<(String, Outcome)> {
        let of = |trouble: &SiteTrouble| (trouble.site.clone(), desk::outcome_of(&trouble.error));
        troubles.iter().map(of).collect()
    }
}

/// Something that needs a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing it is about.
    pub kind: &'static str,
    /// Where; empty when it is about no single site.
    pub site: String,
    /// The object, or what else it is about.
    pub object: String,
    /// What the object came to, when it is about one.
    pub outcome: Option<Outcome>,
    /// In words.
    pub detail: String,
}

/// Findings, the first ones kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The first ones.
    pub first: Vec<Finding>,
    /// All.
    pub total: u64,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        self.total += 1;
        if self.first.len() < FINDINGS_KEPT_MAX {
            self.first.push(finding);
        }
    }
}

/// A head that was audited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedHead {
    /// Its hash.
    pub hash: RecordHash,
    /// Its dataset.
    pub dataset: DatasetId,
    /// Who signed it.
    pub writer: KeyId,
    /// Which life of the writer.
    pub incarnation: Incarnation,
    /// Its place in the chain.
    pub seq: u64,
    /// True when no other head of the dataset comes after it.
    pub newest: bool,
    /// Sites that showed it whole.
    pub sites: u64,
    /// q of its class, when an envelope tells the class.
    pub needed: Option<u8>,
}

/// What one site came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteAudit {
    /// Its id.
    pub id: SiteId,
    /// Its name in the charter.
    pub name: String,
    /// True when a store that was asked shows its plate.
    pub present: bool,
    /// Its small records.
    pub records: OutcomeCounts,
    /// Its shards (full, deep) or groups (sample).
    pub shards: OutcomeCounts,
    /// Groups that it should hold.
    pub population: u64,
    /// Shards that it should hold.
    pub shards_expected: u64,
    /// Digest of the numbers of the groups that were asked for.
    pub sample_digest: Option<RecordHash>,
    /// Bytes that were to be read, shards alone.
    pub bytes_forecast: u64,
    /// Bytes that arrived, records included.
    pub bytes_read: u64,
    /// Requests.
    pub requests: u64,
    /// How long answers took.
    pub latency: Latency,
}

/// Freshness of one class, as counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassFreshness {
    /// The class.
    pub class: u32,
    /// Sites that answered completely.
    pub answered: u64,
    /// How many must.
    pub needed: u64,
    /// True when they did.
    pub newest_is_sure: bool,
}

/// What an audit found.
#[derive(Debug, Clone)]
pub struct Audit {
    /// How deep it looked.
    pub mode: Mode,
    /// Began, by the local clock: Unix seconds.
    pub started: i64,
    /// Ended.
    pub finished: i64,
    /// How long a site had for one answer.
    pub deadline: Duration,
    /// The datasets that were asked for; none are all.
    pub datasets: Option<BTreeSet<DatasetId>>,
    /// What the auditor added.
    pub nonce: Nonce,
    /// Digest of the newest heads.
    pub heads_digest: RecordHash,
    /// What samples were drawn from.
    pub seed: Seed,
    /// Newest states of the logs; they are in the seed, too.
    pub logs: Vec<LogSeen>,
    /// Every head that counts.
    pub heads: Vec<AuditedHead>,
    /// How sure the newest heads are.
    pub freshness: Vec<ClassFreshness>,
    /// Datasets, by their ids, and whether an administrator added them.
    pub registered: Vec<DatasetAudit>,
    /// The small records, by kind.
    pub records: Vec<RecordTally>,
    /// The sites of the charter and of layouts.
    pub sites: Vec<SiteAudit>,
    /// What is left of stripes, by layout.
    pub placements: Vec<Placement>,
    /// Stripes that should be there.
    pub stripes: u64,
    /// Stripes of which certainly too little is left, and of which too little was shown.
    pub stripes_unrecoverable: u64,
    /// See above.
    pub stripes_unproven: u64,
    /// Longest time in which one round of challenges was answered by all sites.
    pub window: Duration,
    /// What needs a look.
    pub findings: Findings,
    /// What nobody names.
    pub strays: Strays,
    /// What the verdict went by.
    pub facts: Facts,
    /// The verdict.
    pub verdict: Verdict,
    /// True when it ended early because someone asked it to.
    pub interrupted: bool,
    /// True when only the forecast was wanted.
    pub forecast_only: bool,
}

/// A stripe with shards that are not where they should be, for whoever mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) run: RunId,
    pub(crate) ordinal: u32,
    /// Its shards that are missing or wrong, or were at a site that the charter dropped; a bit for each index.
    pub(crate) wanted: u32,
    /// How many more shards were shown than a restore needs.
    pub(crate) margin: i16,
}

/// An audit, and what whoever mends needs to know beside.
pub(crate) struct Inspection {
    pub(crate) audit: Audit,
    /// The runs that the audited heads need.
    pub(crate) runs: BTreeMap<RunId, scope::RunScope>,
    /// Every stripe that is not whole; 24 bytes each.
    pub(crate) damages: Vec<Damage>,
}

/// Audits an archive whose heads were surveyed.
pub fn audit(archive: &Archive, survey: &Survey, request: &AuditRequest, surroundings: &Surroundings) -> Audit {
    inspect(archive, survey, request, surroundings).audit
}

/// Audits, and says what is to be mended.
pub(crate) fn inspect(
    archive: &Archive,
    survey: &Survey,
    request: &AuditRequest,
    surroundings: &Surroundings,
) -> Inspection {
    let started = surroundings.clock.now_unix_seconds();
    let runtime = surroundings.runtime.clone();
    let mut inspection = runtime.block_on(Auditor::begin(archive, survey, request, &surroundings.progress).run());
    inspection.audit.started = started;
    inspection.audit.finished = surroundings.clock.now_unix_seconds();
    inspection
}

/// What an audit in progress knows.
struct Auditor<'a> {
    survey: &'a Survey,
    request: &'a AuditRequest,
    progress: &'a Progress,
    desk: Desk,
    facts: Facts,
    findings: Findings,
    strays: Strays,
    survivors: Survivors,
    damages: Vec<Damage>,
    window: Duration,
    interrupted: bool,
}

impl<'a> Auditor<'a> {
    fn begin(archive: &Archive, survey: &'a Survey, request: &'a AuditRequest, progress: &'a Progress) -> Self {
        Self {
            survey,
            request,
            progress,
            desk: Desk::new(archive, request),
            facts: Facts::default(),
            findings: Findings::default(),
            strays: Strays::default(),
            survivors: Survivors::default(),
            damages: Vec::new(),
            window: Duration::ZERO,
            interrupted: false,
        }
    }

    async fn run(mut self) -> Inspection {
        self.chains();
        let scope = Scope::read(&mut self).await;
        let newest: BTreeSet<RecordHash> = scope.newest(self.survey).collect();
        let logs = logs::look(&mut self).await;
        let seed = Seed::derive(
            self.desk.archive.anchor,
            newest.iter().copied(),
            logs.digest(),
            &self.request.nonce,
        );
        let mut records = Records::default();
        if !self.request.forecast_only {
            records.look(&mut self, &scope).await;
        }
        let mut census = Census::default();
        if self.request.mode != Mode::Heads {
            census = Census::take(&mut self, &scope, &records).await;
            match (self.request.forecast_only, self.request.mode) {
                (true, _) | (false, Mode::Heads) => {}
                (false, Mode::Sample(detection)) => {
                    sample::challenge(&mut self, &scope, &mut census, &seed, detection).await;
                }
                (false, Mode::Full) => shards::look(&mut self, &scope, &census, shards::Depth::Whole).await,
                (false, Mode::Deep) => shards::look(&mut self, &scope, &census, shards::Depth::Coded).await,
            }
        }
        if !self.request.forecast_only {
            self.settle(&census);
        }
        if matches!(self.request.mode, Mode::Full | Mode::Deep) && !self.request.forecast_only {
            strays::look(&mut self, &scope).await;
        }
        self.poisoned();
        let damages = std::mem::take(&mut self.damages);
        Inspection {
            audit: self.finish(&scope, &newest, (seed, logs), records, census),
            runs: scope.runs,
            damages,
        }
    }

    /// What chains of heads and charters give away.
    fn chains(&mut self) {
        for finding in &self.survey.findings {
            let (kind, is_fork) = match finding {
                exclave_plan::heads::Finding::Fork { .. } => ("fork", true),
                exclave_plan::heads::Finding::Gap { .. } => ("gap", false),
                exclave_plan::heads::Finding::ForeignPrevious { .. } => ("foreign-previous", false),
                exclave_plan::heads::Finding::MissingTip { .. } => ("missing-tip", false),
            };
            match is_fork {
                true => self.facts.forks += 1,
                false => self.facts.alarms += 1,
            }
            self.note(kind, "", "heads", None, &said(finding));
        }
        for finding in self.survey.charter_findings(&self.desk.archive) {
            match &finding {
                CharterFinding::Fork(_) => self.facts.forks += 1,
                CharterFinding::Hidden { .. } | CharterFinding::PinMissing { .. } => self.facts.alarms += 1,
                // What a revocation is for.
                CharterFinding::Void { .. } => continue,
            }
            self.note("charter", "", "charter", None, &finding.to_string());
        }
        let unplaced = self.desk.archive.sites.iter().filter(|handle| handle.id.is_none());
        let unplaced: Vec<(String, &'static str)> = unplaced
            .map(|handle| {
                (
                    handle.name.clone(),
                    handle
                        .plate
                        .complaint()
                        .unwrap_or("gives no answer: which site it is, isn't known"),
                )
            })
            .collect();
        for (name, complaint) in unplaced {
            self.facts.alarms += 1;
            self.note("plate", &name, "plate", None, complaint);
        }
        let doubles: Vec<_> = self.desk.archive.doubles().collect();
        for (name, double) in doubles {
            self.facts.alarms += 1;
            self.note("second-store", &name, "plate", None, &double.to_string());
        }
    }

    /// What had to be seen through, and where that could not be done.
    fn poisoned(&mut self) {
        let sights = self.desk.archive.sites.iter();
        let sights: Vec<_> = sights
            .map(|handle| (handle.name.clone(), handle.sight.clone()))
            .collect();
        for (site, sight) in sights {
            let buried = sight.buried();
            if !buried.is_empty() {
                self.facts.alarms += 1;
            }
            for found in buried {
                let what = if found.is_hidden {
                    "a delete marker"
                } else {
                    "other bytes"
                };
                let detail = format!("{} on top of it, the uppermost {what}", found.on_top);
                self.note("poisoned", &site, found.name.as_str(), None, &detail);
            }
            // A store that has none to show is no finding.
            if let Some((class, error)) = sight
                .blind()
                .filter(|(class, _)| *class != exclave_site::Class::Unsupported)
            {
                let detail = format!("older versions can't be looked at ({}): {error}", class.as_str());
                self.note("versions", &site, "versions", None, &detail);
            }
        }
    }

    fn note(&mut self, kind: &'static str, site: &str, object: &str, outcome: Option<Outcome>, detail: &str) {
        self.findings.push(Finding {
            kind,
            site: site.to_owned(),
            object: object.to_owned(),
            outcome,
            detail: detail.to_owned(),
        });
    }

    /// What was counted and then not asked for, since a ledger part could not be had a second time, is unproven.
    fn settle(&mut self, census: &Census) {
        if self.interrupted {
            return;
        }
        for id in census.sites() {
            let expected = match self.request.mode {
                Mode::Heads => 0,
                Mode::Sample(detection) => detection.size(census.site(id).groups.total()),
                Mode::Full | Mode::Deep => census.site(id).shards,
            };
            let left = expected.saturating_sub(self.desk.counted(id).total());
            if left > 0 {
                self.desk.count(id, Outcome::Unproven, left);
                self.facts.shards_not_ok += left;
                let site = self.desk.archive.site_name(id);
                let detail = format!("{left} were not asked for: their ledger could not be read again");
                self.note("unasked", &site, "shards", Some(Outcome::Unproven), &detail);
            }
        }
    }

    /// True when someone asked to stop.
    fn stops(&mut self) -> bool {
        self.interrupted |= self.progress.stop_asked();
        self.interrupted
    }

    fn finish(
        mut self,
        scope: &Scope,
        newest: &BTreeSet<RecordHash>,
        (seed, logs): (Seed, LogAudit),
        records: Records,
        census: Census,
    ) -> Audit {
        let freshness = self.freshness(&records);
        let registered = match self.request.forecast_only {
            true => Vec::new(),
            false => datasets::look(&mut self, scope, &records),
        };
        self.facts.stale = freshness.iter().any(|class| !class.newest_is_sure);
        self.facts.stripes_unrecoverable = self.survivors.unrecoverable;
        self.facts.stripes_unproven += self.survivors.unproven;
        let heads = scope.heads.iter().filter_map(|hash| {
            let found = self.survey.found.get(hash)?;
            Some(AuditedHead {
                hash: *hash,
                dataset: found.head.dataset,
                writer: found.head.writer,
                incarnation: found.head.incarnation,
                seq: found.head.seq,
                newest: newest.contains(hash),
                sites: records.head_sites(*hash),
                needed: records.quorum(&self.desk.archive, found.head.run),
            })
        });
        let heads = heads.collect();
        let charter = self.desk.archive.charter().clone();
        Audit {
            mode: self.request.mode,
            started: 0,
            finished: 0,
            deadline: self.request.deadline,
            datasets: self.request.datasets.clone(),
            nonce: self.request.nonce,
            heads_digest: Seed::heads_digest(newest),
            seed,
            logs: logs.seen,
            heads,
            freshness,
            registered,
            sites: self.desk.sites(&charter, &records, &census),
            records: records.tallies(),
            placements: self.survivors.placements(&charter.sites),
            stripes: census.stripes,
            stripes_unrecoverable: self.facts.stripes_unrecoverable,
            stripes_unproven: self.facts.stripes_unproven,
            window: self.window,
            verdict: Verdict::on(&self.facts),
            findings: self.findings,
            strays: self.strays,
            facts: self.facts,
            interrupted: self.interrupted,
            forecast_only: self.request.forecast_only,
        }
    }

    fn freshness(&self, records: &Records) -> Vec<ClassFreshness> {
        let archive = &self.desk.archive;
        let classes = records.classes(archive);
        let of = |class: &exclave_model::Class| {
            let counted = self.survey.freshness(archive, class)?;
            Some(ClassFreshness {
                class: class.id,
                answered: counted.answered as u64,
                needed: counted.needed as u64,
                newest_is_sure: counted.grade != Grade::F3,
            })
        };
        classes.into_iter().filter_map(of).collect()
    }
}

/// An error with its causes, in one line.
fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A finding about chains, in words.
fn said(finding: &exclave_plan::heads::Finding) -> String {
    use exclave_plan::heads::Finding as Chain;
    match finding {
        Chain::Fork { writer, seq, heads, .. } => {
            let heads: Vec<String> = heads.iter().map(RecordHash::to_hex).collect();
            format!(
                "writer {writer} signed several heads for place {seq}: {}",
                heads.join(", ")
            )
        }
        Chain::Gap {
            writer, first, last, ..
        } => format!("heads {first} to {last} of writer {writer} are shown by no site"),
        Chain::ForeignPrevious { head, previous } => format!(
            "head {} names {} as the one before, which is not its place",
            head.to_hex(),
            previous.to_hex()
        ),
        Chain::MissingTip { head, tip } => format!(
            "head {} has seen head {}, which no site shows",
            head.to_hex(),
            tip.to_hex()
        ),
    }
}

#[cfg(test)]
mod tests;
