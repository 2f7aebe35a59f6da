//! What an audit says, as others read it: an in-toto Statement with a predicate of our own (FORMAT.md section 20).
//!
//! JSON, since in-toto and DSSE are; strict all the same: unknown fields, other words and ids in another spelling are
//! refused, numbers are whole, and one value has one text here. What is signed are the exact bytes of that text.

use serde::{Deserialize, Serialize};

use crate::id::{Anchor, DatasetId, Incarnation, KeyId, RecordHash, SiteId};

/// Longest report that is read: a thousand findings, a hundred thousand heads, the charter.
pub const REPORT_BYTES_MAX: usize = 64 << 20;

/// The type of an in-toto Statement (in-toto attestation framework v1).
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The type of our predicate.
pub const PREDICATE_TYPE: &str = "exclave:audit-report/v1";

/// An in-toto Statement about an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The archive, by its anchor.
    pub subject: Vec<Subject>,
    /// [`PREDICATE_TYPE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What is said of it.
    pub predicate: AuditReport,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// `exclave archive`.
    pub name: String,
    /// Its digests.
    pub digest: Digest,
}

/// Digests of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// BLAKE3 of charter version 1: the anchor.
    pub blake3: Anchor,
}

/// Why bytes are no statement of ours.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Longer than any report.
    #[error("{found} bytes, the longest report has {REPORT_BYTES_MAX}")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Not JSON of the form that section 20 gives.
    #[error("not a report of this version")]
    Form(#[source] serde_json::Error),
    /// A statement of another kind.
    #[error("a statement of type {found:?}, not {expected:?}")]
    Kind {
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// A statement about another number of archives than one, or about another than its predicate.
    #[error("the statement's subject is not the archive of its report")]
    Subject,
}

impl Statement {
    /// A statement of a report.
    pub fn of(predicate: AuditReport) -> Self {
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject {
                name: SUBJECT_NAME.to_owned(),
                digest: Digest {
                    blake3: predicate.archive,
                },
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate,
        }
    }

    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads a statement strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReportError> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(ReportError::TooLong { found: bytes.len() });
        }
        let statement: Self = serde_json::from_slice(bytes).map_err(ReportError::Form)?;
        let kinds = [
            (&statement.kind, STATEMENT_TYPE),
            (&statement.predicate_type, PREDICATE_TYPE),
        ];
        for (found, expected) in kinds {
            if found != expected {
                return Err(ReportError::Kind {
                    found: found.chars().take(80).collect(),
                    expected,
                });
            }
        }
        match statement.subject.as_slice() {
            [one] if one.name == SUBJECT_NAME && one.digest.blake3 == statement.predicate.archive => Ok(statement),
            _ => Err(ReportError::Subject),
        }
    }
}

const SUBJECT_NAME: &str = "exclave archive";

/// What an object that should be at a site came to. Only [`Outcome::Ok`] counts: who does not show it has not got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was shown and proven.
    Ok,
    /// The site says that it has none.
    Missing,
    /// The site gave other bytes.
    Corrupt,
    /// The site did not answer in time.
    Timeout,
    /// The site denies it to us.
    Denied,
    /// Anything else: unreachable, throttled, not among the sites that were asked.
    Unproven,
}

impl Outcome {
    /// All, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Missing,
        Self::Corrupt,
        Self::Timeout,
        Self::Denied,
        Self::Unproven,
    ];

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
            Self::Timeout => "timeout",
            Self::Denied => "denied",
            Self::Unproven => "unproven",
        }
    }

    /// True when the object is certainly not there as it should be.
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Missing | Self::Corrupt)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many objects came to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeCounts {
    /// [`Outcome::Ok`].
    pub ok: u64,
    /// [`Outcome::Missing`].
    pub missing: u64,
    /// [`Outcome::Corrupt`].
    pub corrupt: u64,
    /// [`Outcome::Timeout`].
    pub timeout: u64,
    /// [`Outcome::Denied`].
    pub denied: u64,
    /// [`Outcome::Unproven`].
    pub unproven: u64,
}

impl OutcomeCounts {
    /// Counts some.
    pub fn add(&mut self, outcome: Outcome, count: u64) {
        let slot = match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Missing => &mut self.missing,
            Outcome::Corrupt => &mut self.corrupt,
            Outcome::Timeout => &mut self.timeout,
            Outcome::Denied => &mut self.denied,
            Outcome::Unproven => &mut self.unproven,
        };
        *slot = slot.saturating_add(count);
    }

    /// How many came to this.
    pub fn get(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Ok => self.ok,
            Outcome::Missing => self.missing,
            Outcome::Corrupt => self.corrupt,
            Outcome::Timeout => self.timeout,
            Outcome::Denied => self.denied,
            Outcome::Unproven => self.unproven,
        }
    }

    /// All but those that were shown.
    pub fn not_ok(&self) -> u64 {
        let all = Outcome::ALL.map(|outcome| self.get(outcome));
        all.iter().skip(1).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// All.
    pub fn total(&self) -> u64 {
        self.ok.saturating_add(self.not_ok())
    }
}

/// What a verdict goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Places of chains or charters with two signed records: somebody signs twice, or stole a key.
    pub forks: u64,
    /// Stripes of which certainly fewer than k shards are left.
    pub stripes_unrecoverable: u64,
    /// Records that the archive can't be read without and no site showed.
    pub records_lost: u64,
    /// True when too few sites answered to know the newest heads.
    pub stale: bool,
    /// Stripes of which fewer than k shards were shown, and more may be there; and records that no site showed, not all
    /// of which were asked in vain.
    pub stripes_unproven: u64,
    /// Records that fewer sites showed than a commit takes.
    pub records_below_quorum: u64,
    /// Stripes whose shards are the ledger's and don't belong together.
    pub not_codewords: u64,
    /// Shards and groups that were not shown.
    pub shards_not_ok: u64,
    /// Records that a site should have and did not show.
    pub records_not_ok: u64,
    /// Gaps in chains, hidden charters, pins without a head, stores that are no site, and the like.
    pub alarms: u64,
    /// Datasets that nobody added to their class, though it takes no others.
    pub datasets_unregistered: u64,
}

/// What an audit concludes, in one word: the gravest that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything that was looked at is there.
    Whole,
    /// It can be restored, and something needs a look.
    Findings,
    /// It was not shown that it can be restored.
    Unproven,
    /// There may be a newer state that nobody showed.
    Stale,
    /// Something can't be restored.
    Unrecoverable,
    /// Two truths were signed.
    Disputed,
}

impl Verdict {
    /// All, the gravest last.
    pub const ALL: [Self; 6] = [
        Self::Whole,
        Self::Findings,
        Self::Unproven,
        Self::Stale,
        Self::Unrecoverable,
        Self::Disputed,
    ];

    /// The verdict on these facts.
    pub fn on(facts: &Facts) -> Self {
        let lost = facts.stripes_unrecoverable > 0 || facts.records_lost > 0;
        let findings = [
            facts.records_below_quorum,
            facts.not_codewords,
            facts.shards_not_ok,
            facts.records_not_ok,
            facts.alarms,
            facts.datasets_unregistered,
        ];
        let rules = [
            (facts.forks > 0, Self::Disputed),
            (lost, Self::Unrecoverable),
            (facts.stale, Self::Stale),
            (facts.stripes_unproven > 0, Self::Unproven),
            (findings.iter().any(|count| *count > 0), Self::Findings),
        ];
        let held = rules.into_iter().find(|(holds, _)| *holds);
        held.map_or(Self::Whole, |(_, verdict)| verdict)
    }

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Findings => "findings",
            Self::Unproven => "unproven",
            Self::Stale => "stale",
            Self::Unrecoverable => "unrecoverable",
            Self::Disputed => "disputed",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How deep an audit looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditMode {
    /// Small records only.
    Heads,
    /// And sampled groups.
    Sample,
    /// And every shard.
    Full,
    /// And every stripe computed again.
    Deep,
}

impl AuditMode {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heads => "heads",
            Self::Sample => "sample",
            Self::Full => "full",
            Self::Deep => "deep",
        }
    }
}

/// The page for those who read no further. It follows from the rest of the report, word for word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// What was asked.
    pub question: String,
    /// What came out.
    pub answer: String,
    /// From when to when the evidence was taken.
    pub evidence: String,
    /// What the audit does not show.
    pub not_proven: Vec<String>,
    /// What was looked at.
    pub scope: String,
    /// What was left out.
    pub exclusions: Vec<String>,
}

/// What made the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// `exclave`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The charter that the audit went by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharterSeen {
    /// The newest version that was seen.
    pub version: u32,
    /// The hash of its record: the policy's digest.
    pub digest: RecordHash,
    /// A charter file with all versions, base64 (RFC 4648 section 4): who signed can be checked with the anchor alone.
    pub history: String,
}

/// How the audit went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conduct {
    /// How deep.
    pub mode: AuditMode,
    /// Began, by the auditor's clock: Unix seconds.
    pub started: i64,
    /// Ended.
    pub finished: i64,
    /// How long a site had for one answer, in milliseconds.
    pub deadline_ms: u64,
    /// Longest time in which all sites answered one round of challenges, in milliseconds.
    pub window_ms: u64,
    /// The datasets that were asked for; null for all.
    pub datasets: Option<Vec<DatasetId>>,
    /// True when it ended before it was done.
    pub interrupted: bool,
    /// What the sample had to find, in parts of a million; null when nothing was sampled.
    pub damage_ppm: Option<u32>,
    /// How surely.
    pub confidence_ppm: Option<u32>,
}

/// What samples were drawn from (FORMAT.md section 20).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedSeen {
    /// BLAKE3 over the hashes of the newest heads.
    pub heads_digest: RecordHash,
    /// What the auditor added: 32 bytes.
    pub nonce: RecordHash,
    /// The seed: 32 bytes.
    pub seed: RecordHash,
    /// BLAKE3 over the newest states of the logs, where any were shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_digest: Option<RecordHash>,
}

/// A log whose newest state was shown, with all entries that lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSeen {
    /// Whose log.
    pub key: KeyId,
    /// Which life of the key's holder.
    pub incarnation: Incarnation,
    /// Entries in it.
    pub size: u64,
    /// Root of its tree: SHA-256.
    pub root: RecordHash,
    /// Sites of the charter that list this state.
    pub sites: u64,
}

/// A head that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadSeen {
    /// Its hash.
    pub hash: RecordHash,
    /// Its dataset, by its opaque id.
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
    /// Sites that a commit of its class takes; null when its class isn't known.
    pub needed: Option<u8>,
}

/// How sure the newest heads of a class are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshnessSeen {
    /// The class.
    pub class: u32,
    /// Sites of the charter that answered completely.
    pub answered: u64,
    /// How many must.
    pub needed: u64,
}

/// A dataset, by its opaque id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSeen {
    /// Its id.
    pub dataset: DatasetId,
    /// Its class; null when nothing that was shown tells it.
    pub class: Option<u32>,
    /// The version of its newest record that counts; null when no administrator added it.
    pub registered: Option<u32>,
    /// True when its class takes only datasets that were added.
    pub demanded: bool,
    /// True when a head of it counts.
    pub has_snapshots: bool,
}

/// Small records of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsSeen {
    /// The kind.
    pub kind: String,
    /// Different ones.
    pub records: u64,
    /// Their copies.
    pub copies: OutcomeCounts,
    /// Copies that a site lists and that were not read.
    pub listed: u64,
    /// Records that fewer sites showed than a commit takes.
    pub below_quorum: u64,
}

/// What one site came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteSeen {
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
    /// Shards that it should hold.
    pub shards_expected: u64,
    /// Groups that it should hold.
    pub population: u64,
    /// Groups that were chosen; null when nothing was sampled.
    pub sample: Option<u64>,
    /// BLAKE3 over their numbers, ascending.
    pub sample_digest: Option<RecordHash>,
    /// How surely they find the damage, in parts of a million, rounded down.
    pub power_ppm: Option<u32>,
    /// Bytes of shards that were to be read.
    pub bytes_forecast: u64,
    /// Bytes that arrived, records included.
    pub bytes_read: u64,
    /// Requests for objects.
    pub requests: u64,
    /// Half of the answers took no longer, in microseconds, to a factor of two.
    pub latency_median_us: u64,
    /// The longest answer.
    pub latency_longest_us: u64,
}

/// What a fault set does at the worst.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSeen {
    /// `any-sites`, `country`, `region`, `operator`, `legal-reach` or `iam-realm`.
    pub kind: String,
    /// Which; for `any-sites` how many.
    pub name: String,
    /// The sites that are lost then.
    pub worst: Vec<SiteId>,
    /// Shards that are left of the stripe that is hit worst.
    pub survivors: u8,
    /// These less k: below zero it can't be restored.
    pub margin: i16,
}

/// What is left of the stripes of one layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementSeen {
    /// The sites, by shard index.
    pub sites: Vec<SiteId>,
    /// n.
    pub n: u8,
    /// k.
    pub k: u8,
    /// f of the class.
    pub losses: u8,
    /// Stripes that were looked at; of a sample, all that lie so.
    pub stripes: u64,
    /// Shown shards of the stripe that has the fewest.
    pub least_shown: u8,
    /// The worst of each declared fault set.
    pub faults: Vec<FaultSeen>,
}

/// Something that needs a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingSeen {
    /// What kind of thing it is about.
    pub kind: String,
    /// Where; empty when it is about no single site.
    pub site: String,
    /// The object, or what else it is about.
    pub object: String,
    /// What the object came to; null when it is about none.
    pub outcome: Option<Outcome>,
    /// In words.
    pub detail: String,
}

/// The predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditReport {
    /// For those who read no further.
    pub page: Page,
    /// The conclusion.
    pub verdict: Verdict,
    /// What it goes by.
    pub facts: Facts,
    /// What made the report.
    pub tool: Tool,
    /// The archive.
    pub archive: Anchor,
    /// The charter that was seen.
    pub charter: CharterSeen,
    /// How the audit went.
    pub audit: Conduct,
    /// What samples were drawn from.
    pub seed: SeedSeen,
    /// Logs, ascending by key and incarnation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogSeen>,
    /// Every head that counts.
    pub heads: Vec<HeadSeen>,
    /// How sure the newest heads are.
    pub freshness: Vec<FreshnessSeen>,
    /// The small records.
    pub records: Vec<RecordsSeen>,
    /// The sites.
    pub sites: Vec<SiteSeen>,
    /// Datasets against their classes.
    pub datasets: Vec<DatasetSeen>,
    /// Stripes that should be there.
    pub stripes: u64,
    /// What is left of them.
    pub placement: Vec<PlacementSeen>,
    /// All findings.
    pub findings_total: u64,
    /// The first of them.
    pub findings: Vec<FindingSeen>,
    /// All things that nobody names.
    pub strays_total: u64,
    /// The first of them.
    pub strays: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each fact alone, then below all lesser ones.
    #[test]
    fn the_gravest_fact_decides() {
        type Change = fn(&mut Facts);
        let table: [(Change, Verdict); 11] = [
            (|facts| facts.forks = 1, Verdict::Disputed),
            (|facts| facts.stripes_unrecoverable = 1, Verdict::Unrecoverable),
            (|facts| facts.records_lost = 1, Verdict::Unrecoverable),
            (|facts| facts.stale = true, Verdict::Stale),
            (|facts| facts.stripes_unproven = 1, Verdict::Unproven),
            (|facts| facts.records_below_quorum = 1, Verdict::Findings),
            (|facts| facts.not_codewords = 1, Verdict::Findings),
            (|facts| facts.shards_not_ok = 1, Verdict::Findings),
            (|facts| facts.records_not_ok = 1, Verdict::Findings),
            (|facts| facts.alarms = 1, Verdict::Findings),
            (|facts| facts.datasets_unregistered = 1, Verdict::Findings),
        ];
        assert_eq!(Verdict::on(&Facts::default()), Verdict::Whole);
        for (at, (change, expected)) in table.iter().enumerate() {
            let mut facts = Facts::default();
            change(&mut facts);
            assert_eq!(Verdict::on(&facts), *expected, "fact {at} alone");
            for (lesser, _) in &table[at..] {
                lesser(&mut facts);
            }
            assert_eq!(Verdict::on(&facts), *expected, "fact {at} above all lesser ones");
        }
    }

    #[test]
    fn words_are_those_of_the_json() {
        for verdict in Verdict::ALL {
            assert_eq!(serde_json::to_string(&verdict).unwrap(), format!("\"{verdict}\""));
        }
        let mut counts = OutcomeCounts::default();
        for (count, outcome) in (1..).zip(Outcome::ALL) {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{outcome}\""));
            counts.add(outcome, count);
            assert_eq!(counts.get(outcome), count);
        }
        assert_eq!((counts.total(), counts.not_ok()), (21, 20));
    }
}
