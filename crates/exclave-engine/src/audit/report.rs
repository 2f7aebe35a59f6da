//! From what an audit found to a report, and back to whether a report can be believed.
//!
//! A report carries all that its verification needs but the anchor: the charter's history, the heads that made the seed,
//! the numbers of each site. Whoever verifies it does the arithmetic again: seed and samples, sizes and powers, sums,
//! verdict, the page itself. What can't be computed again, whether a site really gave what the report says, is the
//! auditor's word, and that is what the signature is for.

mod check;
mod page;

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use exclave_model::{
    Anchor, CharterFile, Charters, KeyId, RecordHash, Role,
    charter::{Act, CHARTER_FILE_BYTES_MAX},
    dsse::{DsseEnvelope, DsseError, IN_TOTO},
    report::{
        AuditMode, AuditReport, CharterSeen, Conduct, DatasetSeen, FaultSeen, FindingSeen, FreshnessSeen, HeadSeen,
        Page, PlacementSeen, RecordsSeen, ReportError, SeedSeen, SiteSeen, Statement, Tool,
    },
};
use exclave_plan::audit::{Detection, FaultSet, sample::power_ppm};
use exclave_seal::{
    SigningKey,
    signing::{SignError, VerifyError, verify_dsse},
};

pub use self::page::page;
use super::{Audit, Mode};
use crate::{
    archive::{Archive, history, history_objects},
    surroundings::Surroundings,
};

/// Heads that a report lists; an archive of a thousand datasets with daily snapshots has as many in a season.
const HEADS_LISTED_MAX: usize = 100_000;

/// Why a report is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Unbelievable {
    /// Not an envelope.
    #[error(transparent)]
    Envelope(#[from] DsseError),
    /// An envelope of something else.
    #[error("its payload is {0:?}, not an in-toto statement")]
    Payload(String),
    /// Not a report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A report about another archive.
    #[error("the report is about archive {}, not {}", found.to_hex(), expected.to_hex())]
    Archive {
        /// The archive that it is about.
        found: Anchor,
        /// The one that was expected.
        expected: Anchor,
    },
    /// The charter in it does not lead to the anchor.
    #[error("the charter in the report does not follow from the anchor by signatures and succession")]
    Charter,
    /// Nobody signed it.
    #[error("nobody signed the report")]
    Unsigned,
    /// Signed by someone who is no auditor.
    #[error("key {key} is no auditor of the charter{}", role.map(|role| format!(": its role is {role}")).unwrap_or_default())]
    NotAnAuditor {
        /// The key.
        key: KeyId,
        /// Its role, when it has one.
        role: Option<Role>,
    },
    /// The signature does not verify.
    #[error("the report's signature does not verify")]
    Signature(#[source] VerifyError),
    /// What it says does not agree with itself.
    #[error("the report contradicts itself: {}", .0.join("; "))]
    Inconsistent(Vec<String>),
}

/// A report that was verified.
#[derive(Debug)]
pub struct VerifiedReport {
    /// The report.
    pub report: AuditReport,
    /// Who signed it; nobody, when an unsigned one was allowed.
    pub auditor: Option<KeyId>,
    /// The charters in it.
    pub charters: Charters,
}

/// Makes the report of an audit.
pub fn report_of(audit: &Audit, archive: &Archive, version: &str, surroundings: &Surroundings) -> Option<AuditReport> {
    let history = surroundings.runtime.block_on(history_objects(archive))?;
    let file = CharterFile {
        charters: history,
        plates: Vec::new(),
    };
    let charter = CharterSeen {
        version: archive.charter().version,
        digest: archive.charters.newest_hash(),
        history: STANDARD.encode(file.to_bytes()),
    };
    let mut report = unpaged(audit, archive.anchor, charter, version);
    report.page = page(&report);
    Some(report)
}

/// Signs a report; or leaves it unsigned, which nobody has to believe.
pub fn seal_report(
    report: AuditReport,
    auditor: Option<&SigningKey>,
    surroundings: &Surroundings,
) -> Result<Vec<u8>, SealReportError> {
    let payload = Statement::of(report).to_bytes()?;
    let envelope = match auditor {
        Some(key) => key.sign_dsse(IN_TOTO, payload, &mut *surroundings.entropy.entropy())?,
        None => DsseEnvelope {
            payload_type: IN_TOTO.to_owned(),
            payload,
            signatures: Vec::new(),
        },
    };
    Ok(envelope.to_bytes()?)
}

/// Why no report came out.
#[derive(Debug, thiserror::Error)]
pub enum SealReportError {
    /// It can't be written down.
    #[error("the report can't be written as JSON")]
    Json(#[from] serde_json::Error),
    /// It can't be signed.
    #[error("the report can't be signed")]
    Sign(#[from] SignError),
}

/// Verifies a report with nothing but the anchor: signature, role, arithmetic. `newer` are charters that the verifier
/// knows, which may have revoked the auditor since. An unsigned report is refused unless `unsigned_too`.
pub fn verify_report(
    bytes: &[u8],
    anchor: Option<Anchor>,
    newer: Option<&Charters>,
    unsigned_too: bool,
) -> Result<VerifiedReport, Unbelievable> {
    let envelope = DsseEnvelope::from_bytes(bytes)?;
    if envelope.payload_type != IN_TOTO {
        return Err(Unbelievable::Payload(envelope.payload_type.chars().take(80).collect()));
    }
    let report = Statement::from_bytes(&envelope.payload)?.predicate;
    let expected = anchor.or(newer.map(Charters::anchor)).unwrap_or(report.archive);
    if report.archive != expected {
        return Err(Unbelievable::Archive {
            found: report.archive,
            expected,
        });
    }
    let charters = charters_in(&report).ok_or(Unbelievable::Charter)?;
    let auditor = match envelope.signatures.first() {
        None if unsigned_too => None,
        None => return Err(Unbelievable::Unsigned),
        Some(signature) => {
            // The report's own charter must know the auditor, and every later one that the verifier knows.
            for charter in std::iter::once(charters.newest()).chain(newer.map(Charters::newest)) {
                if charter.permit(signature.key, Act::Report).is_err() {
                    return Err(Unbelievable::NotAnAuditor {
                        key: signature.key,
                        role: charter.role_of(signature.key),
                    });
                }
            }
            let keys = charters.newest().keys().map(|(_, key)| key);
            Some(verify_dsse(&envelope, keys).map_err(Unbelievable::Signature)?)
        }
    };
    let wrong = check::contradictions(&report, &charters);
    match wrong.is_empty() {
        true => Ok(VerifiedReport {
            report,
            auditor,
            charters,
        }),
        false => Err(Unbelievable::Inconsistent(wrong)),
    }
}

/// The charters that a report carries, verified from its anchor on; they end where it says.
fn charters_in(report: &AuditReport) -> Option<Charters> {
    // Four digits of base64 for three bytes.
    if report.charter.history.len() / 4 > CHARTER_FILE_BYTES_MAX / 3 + 1 {
        return None;
    }
    let bytes = STANDARD.decode(&report.charter.history).ok()?;
    let file = CharterFile::from_bytes(&bytes).ok()?;
    let (charters, fork) = history(report.archive, &file.charters, None)?;
    let fits = charters.newest().version == report.charter.version && charters.newest_hash() == report.charter.digest;
    (fits && fork.is_none()).then_some(charters)
}

impl From<Mode> for AuditMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Heads => Self::Heads,
            Mode::Sample(_) => Self::Sample,
            Mode::Full => Self::Full,
            Mode::Deep => Self::Deep,
        }
    }
}

fn unpaged(audit: &Audit, archive: Anchor, charter: CharterSeen, version: &str) -> AuditReport {
    let detection = match audit.mode {
        Mode::Sample(detection) => Some(detection),
        Mode::Heads | Mode::Full | Mode::Deep => None,
    };
    let datasets = audit.datasets.as_ref();
    AuditReport {
        page: Page::default(),
        verdict: audit.verdict,
        facts: audit.facts,
        tool: Tool {
            name: "exclave".to_owned(),
            version: version.to_owned(),
        },
        archive,
        charter,
        audit: Conduct {
            mode: audit.mode.into(),
            started: audit.started,
            finished: audit.finished,
            deadline_ms: millis(audit.deadline),
            window_ms: millis(audit.window),
            datasets: datasets.map(|datasets| datasets.iter().copied().collect()),
            interrupted: audit.interrupted,
            damage_ppm: detection.map(|detection| detection.damage.ppm()),
            confidence_ppm: detection.map(|detection| detection.confidence.ppm()),
        },
        seed: SeedSeen {
            heads_digest: audit.heads_digest,
            nonce: RecordHash::from_bytes(*audit.nonce.as_bytes()),
            seed: RecordHash::from_bytes(*audit.seed.as_bytes()),
            logs_digest: super::logs::digest_of(&audit.logs),
        },
        logs: audit.logs.clone(),
        heads: heads_of(audit),
        freshness: audit
            .freshness
            .iter()
            .map(|class| FreshnessSeen {
                class: class.class,
                answered: class.answered,
                needed: class.needed,
            })
            .collect(),
        records: audit
            .records
            .iter()
            .map(|tally| RecordsSeen {
                kind: tally.kind.as_str().to_owned(),
                records: tally.records,
                copies: tally.copies,
                listed: tally.listed,
                below_quorum: tally.below_quorum,
            })
            .collect(),
        sites: audit.sites.iter().map(|site| site_of(site, detection)).collect(),
        datasets: audit
            .registered
            .iter()
            .map(|seen| DatasetSeen {
                dataset: seen.dataset,
                class: seen.class,
                registered: seen.registered,
                demanded: seen.demanded,
                has_snapshots: seen.has_snapshots,
            })
            .collect(),
        stripes: audit.stripes,
        placement: audit.placements.iter().map(placement_of).collect(),
        findings_total: audit.findings.total,
        findings: audit.findings.first.iter().map(finding_of).collect(),
        strays_total: audit.strays.total,
        strays: audit.strays.first.clone(),
    }
}

/// The newest heads, which make the seed, then the others as far as they fit.
fn heads_of(audit: &Audit) -> Vec<HeadSeen> {
    let seen = |head: &super::AuditedHead| HeadSeen {
        hash: head.hash,
        dataset: head.dataset,
        writer: head.writer,
        incarnation: head.incarnation,
        seq: head.seq,
        newest: head.newest,
        sites: head.sites,
        needed: head.needed,
    };
    let newest = audit.heads.iter().filter(|head| head.newest);
    let others = audit.heads.iter().filter(|head| !head.newest).take(HEADS_LISTED_MAX);
    newest.chain(others).map(seen).collect()
}

fn site_of(site: &super::SiteAudit, detection: Option<Detection>) -> SiteSeen {
    let size = detection.map(|detection| detection.size(site.population));
    SiteSeen {
        id: site.id,
        name: site.name.clone(),
        present: site.present,
        records: site.records,
        shards: site.shards,
        shards_expected: site.shards_expected,
        population: site.population,
        sample: size,
        sample_digest: site.sample_digest.filter(|_| detection.is_some()),
        power_ppm: detection
            .zip(size)
            .map(|(detection, size)| power_ppm(detection.damage, site.population, size)),
        bytes_forecast: site.bytes_forecast,
        bytes_read: site.bytes_read,
        requests: site.requests,
        latency_median_us: micros(site.latency.median),
        latency_longest_us: micros(site.latency.longest),
    }
}

fn placement_of(placement: &exclave_plan::Placement) -> PlacementSeen {
    let fault = |least: &exclave_plan::audit::Least| {
        let (kind, name) = match &least.fault {
            FaultSet::AnySites(count) => ("any-sites", count.to_string()),
            FaultSet::Domain { kind, name, .. } => (*kind, name.clone()),
        };
        FaultSeen {
            kind: kind.to_owned(),
            name,
            worst: least.worst.clone(),
            survivors: least.survivors,
            margin: least.margin,
        }
    };
    PlacementSeen {
        sites: placement.sites.clone(),
        // At most 32.
        n: placement.sites.len() as u8,
        k: placement.data,
        losses: placement.losses,
        stripes: placement.stripes,
        least_shown: placement.least_shown,
        faults: placement.faults.iter().map(fault).collect(),
    }
}

fn finding_of(finding: &super::Finding) -> FindingSeen {
    FindingSeen {
        kind: finding.kind.to_owned(),
        site: finding.site.clone(),
        object: finding.object.clone(),
        outcome: finding.outcome,
        detail: finding.detail.clone(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The hashes of the newest heads that a report lists.
fn newest_of(report: &AuditReport) -> BTreeSet<RecordHash> {
    let newest = report.heads.iter().filter(|head| head.newest);
    newest.map(|head| head.hash).collect()
}

#[cfg(test)]
mod tests;
