//! A report for a terminal: the plain page, then the figures.

use std::fmt::Write as _;

use exclave_model::report::{AuditReport, DatasetSeen, Outcome, OutcomeCounts, SiteSeen};

use crate::{
    command::directory::Directory,
    format,
    output::{aligned, figures, words},
};

/// Findings that are printed; the JSON has more.
const FINDINGS_SHOWN_MAX: usize = 50;

/// The whole report.
pub fn whole(report: &AuditReport, names: Option<&Directory>) -> String {
    let mut text = page(report);
    text.push('\n');
    text.push_str(&sites(report));
    text.push('\n');
    text.push_str(&records(report));
    text.push_str(&datasets(report, names));
    text.push_str(&placement(report));
    text.push_str(&findings(report));
    text
}

/// Datasets by class, and whether an administrator added them; with what a directory calls them.
fn datasets(report: &AuditReport, names: Option<&Directory>) -> String {
    let mut seen: Vec<&DatasetSeen> = report.datasets.iter().collect();
    let place = |seen: &DatasetSeen| names.map_or(0, |names| names.place(&seen.dataset.to_hex()));
    seen.sort_by_key(|seen| (place(seen), seen.class, seen.dataset));
    let mut text = String::new();
    for seen in seen {
        let class = seen
            .class
            .map_or_else(|| "class ?".to_owned(), |class| format!("class {class}"));
        let standing = match (seen.registered, seen.demanded) {
            (Some(version), _) => format!("registered ({version})"),
            (None, true) => "NOT REGISTERED, and its class demands it".to_owned(),
            (None, false) => "not registered".to_owned(),
        };
        let entry = names.and_then(|names| names.dataset(&seen.dataset.to_hex()));
        let named = entry.map(|entry| format!("  tier {} {}", entry.tier, format::plain(&entry.name)));
        let _ = writeln!(
            text,
            "Dataset    {}  {class}, {standing}{}{}",
            seen.dataset.to_hex(),
            if seen.has_snapshots { "" } else { ", no snapshot" },
            named.unwrap_or_default()
        );
    }
    text
}

/// The page for those who read no further.
fn page(report: &AuditReport) -> String {
    let page = &report.page;
    let mut text = String::new();
    let _ = writeln!(text, "Question   {}", page.question);
    let _ = writeln!(text, "Answer     {} [{}]", page.answer, report.verdict);
    let _ = writeln!(
        text,
        "Evidence   {} to {}; it says nothing of any later moment",
        format::local(report.audit.started),
        format::local(report.audit.finished)
    );
    let _ = writeln!(text, "Scope      {}", page.scope);
    let mut list = |name: &str, lines: &[String]| {
        for (at, line) in lines.iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            let _ = writeln!(text, "{name:<10} - {}", format::plain(line));
        }
    };
    list("Left out", &page.exclusions);
    list("Not proven", &page.not_proven);
    let _ = writeln!(text, "Archive    {}", report.archive.to_hex());
    let _ = writeln!(
        text,
        "Charter    version {}, {}",
        report.charter.version,
        report.charter.digest.to_hex()
    );
    let _ = writeln!(text, "Nonce      {}", report.seed.nonce.to_hex());
    text
}

/// Outcomes but `ok`, those that happened.
fn troubles(counts: &OutcomeCounts) -> String {
    let some = Outcome::ALL
        .into_iter()
        .skip(1)
        .filter(|outcome| counts.get(*outcome) > 0);
    let some: Vec<String> = some
        .map(|outcome| format!("{} {outcome}", counts.get(outcome)))
        .collect();
    some.join(", ")
}

fn sites(report: &AuditReport) -> String {
    let row = |site: &SiteSeen| {
        vec![
            format::plain(&site.name),
            format!("{}/{}", site.records.ok, site.records.total()),
            format!("{}/{}", site.shards.ok, site.shards.total()),
            site.population.to_string(),
            site.power_ppm.map_or_else(String::new, |ppm| {
                format!("{}.{:02} %", ppm / 10_000, ppm % 10_000 / 100)
            }),
            format::bytes(site.bytes_forecast),
            format::bytes(site.bytes_read),
            format!("{} ms", site.latency_median_us / 1000),
            format!("{} ms", site.latency_longest_us / 1000),
            match site.present {
                true => troubles(&site.shards),
                false => format!("no store shows its plate; {}", troubles(&site.shards)),
            },
        ]
    };
    let columns = [
        words("SITE"),
        figures("RECORDS"),
        figures(match report.audit.damage_ppm {
            Some(_) => "GROUPS SHOWN",
            None => "SHARDS SHOWN",
        }),
        figures("GROUPS HELD"),
        figures("POWER"),
        figures("FORECAST"),
        figures("READ"),
        figures("MEDIAN"),
        figures("LONGEST"),
        words(""),
    ];
    aligned(&columns, report.sites.iter().map(row))
}

fn records(report: &AuditReport) -> String {
    let rows = report.records.iter().map(|records| {
        let mut more = troubles(&records.copies);
        if records.listed > 0 {
            let _ = write!(
                more,
                "{}{} listed, not read",
                if more.is_empty() { "" } else { ", " },
                records.listed
            );
        }
        if records.below_quorum > 0 {
            let _ = write!(more, "; {} below quorum", records.below_quorum);
        }
        vec![
            records.kind.clone(),
            records.records.to_string(),
            format!("{}/{}", records.copies.ok, records.copies.total()),
            more,
        ]
    });
    let columns = [
        words("RECORD"),
        figures("DIFFERENT"),
        figures("COPIES SHOWN"),
        words(""),
    ];
    aligned(&columns, rows)
}

fn placement(report: &AuditReport) -> String {
    let mut text = String::new();
    for placement in &report.placement {
        let _ = writeln!(
            text,
            "\nPlacement  {} of {} shards restore; {}; the stripe with the fewest showed {}",
            placement.k,
            placement.n,
            format::count(placement.stripes, "stripe"),
            placement.least_shown
        );
        for fault in &placement.faults {
            let what = match fault.kind.as_str() {
                "any-sites" if placement.losses == 0 => "no further site lost".to_owned(),
                "any-sites" => format!(
                    "any {} lost",
                    format::count(u64::from(placement.losses), "further site")
                ),
                kind => format!("{kind} {} lost", fault.name),
            };
            let _ = writeln!(
                text,
                "           {}: {} left, margin {}",
                format::plain(&what),
                fault.survivors,
                fault.margin
            );
        }
    }
    text
}

fn findings(report: &AuditReport) -> String {
    let mut text = String::new();
    if report.findings_total > 0 {
        let _ = writeln!(text, "\n{}:", format::count(report.findings_total, "finding"));
    }
    for finding in report.findings.iter().take(FINDINGS_SHOWN_MAX) {
        let outcome = finding.outcome.map_or("", |outcome| outcome.as_str());
        let parts = [
            finding.kind.as_str(),
            outcome,
            &finding.site,
            &finding.object,
            &finding.detail,
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| format::plain(part))
            .collect();
        let _ = writeln!(text, "  {}", parts.join("  "));
    }
    if report.findings_total > FINDINGS_SHOWN_MAX as u64 {
        let _ = writeln!(text, "  ... and more; the JSON lists the first thousand");
    }
    if report.strays_total > 0 {
        let _ = writeln!(
            text,
            "\n{} that no head or ledger names: they cost space and harm nothing",
            format::count(report.strays_total, "thing")
        );
    }
    text
}
