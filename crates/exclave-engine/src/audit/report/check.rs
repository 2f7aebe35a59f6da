//! Whether a report agrees with itself and with the charter that it carries.

use std::collections::BTreeSet;

use exclave_model::{
    Charters, RecordHash, SiteId,
    report::{AuditMode, AuditReport, LogSeen, OutcomeCounts, PlacementSeen, SiteSeen, Verdict},
};
use exclave_plan::audit::{
    Confidence, DamageFraction, Detection, Nonce, Seed, choose,
    sample::{SAMPLE_MAX, power_ppm, sample_digest},
};

use super::{newest_of, page::page};
use crate::audit::{FINDINGS_KEPT_MAX, logs::digest_of};

/// What is wrong, in words; nothing when the arithmetic is right.
pub(super) fn contradictions(report: &AuditReport, charters: &Charters) -> Vec<String> {
    let mut wrong = Vec::new();
    seed(report, &mut wrong);
    sites(report, charters, &mut wrong);
    sums(report, &mut wrong);
    datasets(report, charters, &mut wrong);
    for placement in &report.placement {
        margins(report, placement, &mut wrong);
    }
    if Verdict::on(&report.facts) != report.verdict {
        wrong.push(format!(
            "its facts mean {}, and it says {}",
            Verdict::on(&report.facts),
            report.verdict
        ));
    }
    if report.audit.started > report.audit.finished {
        wrong.push("it ended before it began".to_owned());
    }
    if page(report) != report.page {
        wrong.push("its page is not the one that its figures give".to_owned());
    }
    wrong
}

fn seed(report: &AuditReport, wrong: &mut Vec<String>) {
    let newest = newest_of(report);
    let nonce = Nonce::from_bytes(*report.seed.nonce.as_bytes());
    if Seed::heads_digest(&newest) != report.seed.heads_digest {
        wrong.push("the digest of heads is not that of the newest heads that it lists".to_owned());
    }
    let logs = logs(report, wrong);
    let seed = Seed::derive(report.archive, newest, logs, &nonce);
    if RecordHash::from_bytes(*seed.as_bytes()) != report.seed.seed {
        wrong.push("the seed does not follow from archive, heads, logs and nonce".to_owned());
    }
}

/// The digest of the logs that it lists, each once and in order.
fn logs(report: &AuditReport, wrong: &mut Vec<String>) -> Option<RecordHash> {
    let ascend = |two: &[LogSeen]| (two[0].key, two[0].incarnation) < (two[1].key, two[1].incarnation);
    if !report.logs.windows(2).all(ascend) {
        wrong.push("its logs are not each once and in order".to_owned());
    }
    let digest = digest_of(&report.logs);
    if digest != report.seed.logs_digest {
        wrong.push("the digest of logs is not that of the logs that it lists".to_owned());
    }
    digest
}

fn detection(report: &AuditReport, wrong: &mut Vec<String>) -> Option<Detection> {
    let (damage, confidence) = (report.audit.damage_ppm, report.audit.confidence_ppm);
    let parsed = damage.zip(confidence).and_then(|(damage, confidence)| {
        Some(Detection {
            damage: DamageFraction::from_ppm(damage).ok()?,
            confidence: Confidence::from_ppm(confidence).ok()?,
        })
    });
    let sampled = report.audit.mode == AuditMode::Sample;
    if sampled != parsed.is_some() || (!sampled && (damage.is_some() || confidence.is_some())) {
        wrong.push("what a sample should find does not fit the mode".to_owned());
    }
    parsed.filter(|_| sampled)
}

fn sites(report: &AuditReport, charters: &Charters, wrong: &mut Vec<String>) {
    let detection = detection(report, wrong);
    let mut seen: BTreeSet<SiteId> = BTreeSet::new();
    for site in &report.sites {
        if !seen.insert(site.id) {
            wrong.push(format!("site {} stands twice", site.name));
        }
        if let Some(record) = charters.newest().site(site.id)
            && record.name != site.name
        {
            wrong.push(format!("the charter calls site {} {}", site.name, record.name));
        }
        match detection {
            Some(detection) => sample(report, site, detection, wrong),
            None => {
                let expected = match report.audit.mode {
                    AuditMode::Heads => 0,
                    AuditMode::Sample | AuditMode::Full | AuditMode::Deep => site.shards_expected,
                };
                let sampled = (site.sample, site.sample_digest, site.power_ppm) != (None, None, None);
                if sampled || !accounted(site.shards, expected, report.audit.interrupted) {
                    wrong.push(format!("site {}: its shards do not add up", site.name));
                }
            }
        }
    }
    if let Some(left_out) = charters.newest().sites.iter().find(|site| !seen.contains(&site.id)) {
        wrong.push(format!("site {} of the charter is left out", left_out.name));
    }
}

/// True when as many came to something as were asked for; fewer when the audit was interrupted.
fn accounted(counts: OutcomeCounts, expected: u64, interrupted: bool) -> bool {
    counts.total() == expected || (interrupted && counts.total() < expected)
}

fn sample(report: &AuditReport, site: &SiteSeen, detection: Detection, wrong: &mut Vec<String>) {
    // Before anything is computed: the figures come from outside.
    if site
        .sample
        .is_none_or(|size| size > SAMPLE_MAX || size > site.population)
    {
        wrong.push(format!("site {}: its sample is none, or larger than any", site.name));
        return;
    }
    if !detection.is_affordable() {
        wrong.push("its samples are larger than any".to_owned());
        return;
    }
    let size = detection.size(site.population);
    let power = power_ppm(detection.damage, site.population, size);
    if site.sample != Some(size) || site.power_ppm != Some(power) {
        wrong.push(format!("site {}: a sample of {size} was called for", site.name));
        return;
    }
    if !accounted(site.shards, size, report.audit.interrupted) {
        wrong.push(format!("site {}: its groups do not add up", site.name));
    }
    let nonce = Nonce::from_bytes(*report.seed.nonce.as_bytes());
    let seed = Seed::derive(report.archive, newest_of(report), digest_of(&report.logs), &nonce);
    let digest = sample_digest(&choose(&seed, site.id, site.population, size));
    // A site that holds nothing was not asked; one that was interrupted before it was drawn has none.
    let unasked = site.population == 0 || report.audit.interrupted;
    if site.sample_digest != Some(digest) && !(unasked && site.sample_digest.is_none()) {
        wrong.push(format!(
            "site {}: other groups were asked for than the seed gives",
            site.name
        ));
    }
}

fn sums(report: &AuditReport, wrong: &mut Vec<String>) {
    let add = |sum: u64, count: u64| sum.saturating_add(count);
    let shards = report.sites.iter().map(|site| site.shards.not_ok()).fold(0, add);
    if shards != report.facts.shards_not_ok {
        wrong.push("the shards that were not shown do not add up".to_owned());
    }
    let below = report.records.iter().map(|records| records.below_quorum).fold(0, add);
    if below != report.facts.records_below_quorum {
        wrong.push("the records below a quorum do not add up".to_owned());
    }
    let copies = report
        .records
        .iter()
        .map(|records| records.copies.not_ok())
        .fold(0, add);
    if copies > report.facts.records_not_ok {
        wrong.push("more copies of records were not shown than its facts say".to_owned());
    }
    let stale = report.freshness.iter().any(|class| class.answered < class.needed);
    if stale != report.facts.stale {
        wrong.push("who answered does not fit how fresh it says the heads are".to_owned());
    }
    let listed = report.findings.len() as u64;
    if listed != report.findings_total.min(FINDINGS_KEPT_MAX as u64) {
        wrong.push("its findings are not as many as it says".to_owned());
    }
    let troubled = report.facts.shards_not_ok.saturating_add(report.facts.records_not_ok);
    if report.verdict == Verdict::Whole && (report.findings_total > 0 || troubled > 0) {
        wrong.push("it has findings and calls it whole".to_owned());
    }
}

/// Which classes take registered datasets alone follows from the charter, and how many are not from the list.
fn datasets(report: &AuditReport, charters: &Charters, wrong: &mut Vec<String>) {
    let charter = charters.newest();
    let mut seen = BTreeSet::new();
    for dataset in &report.datasets {
        if !seen.insert(dataset.dataset) {
            wrong.push(format!("dataset {} stands twice", dataset.dataset));
        }
        let demanded = dataset.class.is_some_and(|class| charter.demands_registration(class));
        if demanded != dataset.demanded {
            wrong.push(format!(
                "dataset {}: what its class takes is not what the charter says",
                dataset.dataset
            ));
        }
    }
    let missing = report
        .datasets
        .iter()
        .filter(|dataset| dataset.demanded && dataset.registered.is_none());
    if missing.count() as u64 != report.facts.datasets_unregistered {
        wrong.push("the datasets that nobody added do not add up".to_owned());
    }
}

fn margins(report: &AuditReport, placement: &PlacementSeen, wrong: &mut Vec<String>) {
    let n = usize::from(placement.n);
    let mut say = |what: &str| wrong.push(format!("a layout of {n} sites: {what}"));
    if placement.sites.len() != n
        || placement.k == 0
        || placement.k > placement.n
        || placement.least_shown > placement.n
    {
        say("its numbers fit no layout");
    }
    if placement.stripes > report.stripes {
        say("more stripes lie there than there are");
    }
    for fault in &placement.faults {
        if fault.margin != i16::from(fault.survivors) - i16::from(placement.k) {
            say("a margin is not what is left less k");
        }
        if fault.survivors > placement.least_shown {
            say("a loss leaves more than there was");
        }
    }
    let any = placement.faults.iter().find(|fault| fault.kind == "any-sites");
    let left = placement.least_shown.saturating_sub(placement.losses);
    if any.is_none_or(|any| any.survivors != left || any.name != placement.losses.to_string()) {
        say("the loss of any f sites is not weighed, or wrongly");
    }
}
