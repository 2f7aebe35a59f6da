//! A report as one page: no script, no font, no image, nothing that is fetched. It prints, and it reads without colour:
//! every state has a word and a sign of its own.

use std::{collections::BTreeSet, fmt::Write as _};

use exclave_engine::audit::report::VerifiedReport;
use exclave_model::{
    DatasetId, SiteId,
    report::{AuditReport, Outcome, SiteSeen, Verdict},
};

use crate::{command::directory::Directory, format};

const STYLE: &str = "\
:root{color-scheme:light}\
body{font:16px/1.5 Georgia,'Times New Roman',serif;color:#111;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid #888}\
.first{border:2px solid #111;padding:1rem 1.25rem;margin:1rem 0}\
.answer{font-size:1.25rem;margin:.25rem 0 .75rem}\
dl{display:grid;grid-template-columns:9rem 1fr;gap:.35rem 1rem;margin:0}dt{font-weight:bold}dd{margin:0}\
ul{margin:0;padding-left:1.1rem}\
table{border-collapse:collapse;width:100%;font-size:.85rem}\
th,td{border:1px solid #999;padding:.2rem .45rem;text-align:left;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
code{font:.8rem/1.3 ui-monospace,'DejaVu Sans Mono',monospace;word-break:break-all}\
.ok{background:#e9f5ea}.bad{background:#fbe3e0;font-weight:bold}.open{background:#fdf3d6}\
.wide{overflow-x:auto}\
@media print{body{margin:0;max-width:none;font-size:11pt}.first{break-after:page}tr{break-inside:avoid}}";

/// The page; with names when a directory was opened.
pub fn page(verified: &VerifiedReport, names: Option<&Directory>) -> String {
    let report = &verified.report;
    let mut out = String::with_capacity(32 << 10);
    let _ = writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>Audit of archive {}: {}</title><style>{STYLE}</style></head><body>",
        report.archive, report.verdict
    );
    first(&mut out, verified);
    matrix(&mut out, report, names);
    sites(&mut out, report);
    placement(&mut out, report);
    records(&mut out, report);
    findings(&mut out, report);
    provenance(&mut out, verified);
    out.push_str("</body></html>\n");
    out
}

fn first(out: &mut String, verified: &VerifiedReport) {
    let (report, page) = (&verified.report, &verified.report.page);
    let _ = writeln!(
        out,
        "<h1>Audit of archive <code>{}</code></h1>\n<section class=\"first\"><dl>\
         <dt>Question</dt><dd>{}</dd><dt>Answer</dt><dd><div class=\"answer\">{} {}</div></dd>\
         <dt>Evidence</dt><dd>from {} to {} (UTC, by the auditor's clock). It says nothing of any later moment.</dd>\
         <dt>Scope</dt><dd>{}</dd><dt>Left out</dt><dd>{}</dd><dt>Not proven</dt><dd>{}</dd>\
         <dt>Signed by</dt><dd>{}</dd></dl></section>",
        report.archive,
        escaped(&page.question),
        sign(report.verdict),
        escaped(&page.answer),
        format::rfc3339(report.audit.started),
        format::rfc3339(report.audit.finished),
        escaped(&page.scope),
        list(&page.exclusions),
        list(&page.not_proven),
        match verified.auditor {
            Some(auditor) => format!(
                "auditor <code>{}</code>, verified when this page was made",
                auditor.to_hex()
            ),
            None => "<b>nobody: this report is unsigned</b>".to_owned(),
        }
    );
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Whole => "<b>[\u{2713} whole]</b>",
        Verdict::Findings => "<b>[! findings]</b>",
        Verdict::Unproven => "<b>[? unproven]</b>",
        Verdict::Stale => "<b>[? stale]</b>",
        Verdict::Unrecoverable => "<b>[\u{2717} unrecoverable]</b>",
        Verdict::Disputed => "<b>[\u{2717} disputed]</b>",
    }
}

fn list(lines: &[String]) -> String {
    if lines.is_empty() {
        return "nothing".to_owned();
    }
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", escaped(line))).collect();
    format!("<ul>{items}</ul>")
}

/// What each site showed, for each dataset: heads are counted by dataset, shards by site, since a run's shards belong to
/// whichever datasets' snapshots refer to them.
fn matrix(out: &mut String, report: &AuditReport, names: Option<&Directory>) {
    let datasets: BTreeSet<DatasetId> = report.heads.iter().map(|head| head.dataset).collect();
    let added = report.datasets.iter().map(|seen| seen.dataset);
    let mut datasets: Vec<DatasetId> = datasets.into_iter().chain(added).collect();
    datasets.sort_by_key(|dataset| (names.map_or(0, |names| names.place(&dataset.to_hex())), *dataset));
    datasets.dedup();
    out.push_str("<h2>Datasets and sites</h2>\n<div class=\"wide\"><table><tr><th>Dataset (opaque id)</th><th>Class</th><th class=\"n\">Snapshots</th><th>Newest heads shown at</th>");
    for site in &report.sites {
        let _ = write!(out, "<th>{}</th>", escaped(&site.name));
    }
    out.push_str("</tr>\n");
    for dataset in datasets {
        let heads: Vec<_> = report.heads.iter().filter(|head| head.dataset == dataset).collect();
        let newest = heads.iter().filter(|head| head.newest);
        let shown: Vec<String> = newest
            .map(|head| match head.needed {
                Some(needed) => format!("{} sites, {needed} needed", head.sites),
                None => format!("{} sites", head.sites),
            })
            .collect();
        let _ = write!(
            out,
            "<tr><td>{}<code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td>{}</td>",
            named(names, dataset),
            dataset.to_hex(),
            standing(report, dataset),
            heads.len(),
            shown.join("; ")
        );
        for site in &report.sites {
            let (class, word) = state(site);
            let _ = write!(out, "<td class=\"{class}\">{word}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n<p>Shards are counted for each site, over all datasets that were audited.</p>\n");
}

/// What a directory calls a dataset.
fn named(names: Option<&Directory>, dataset: DatasetId) -> String {
    let entry = names.and_then(|names| names.dataset(&dataset.to_hex()));
    entry.map_or_else(String::new, |entry| {
        format!("<b>{}</b> (tier {})<br>", escaped(&entry.name), entry.tier)
    })
}

/// A dataset's class, and whether an administrator added it.
fn standing(report: &AuditReport, dataset: DatasetId) -> String {
    let Some(seen) = report.datasets.iter().find(|seen| seen.dataset == dataset) else {
        return "?".to_owned();
    };
    let class = seen.class.map_or_else(|| "?".to_owned(), |class| class.to_string());
    match (seen.registered, seen.demanded) {
        (Some(_), _) => format!("{class}, registered"),
        (None, true) => format!("{class}, <b>! not registered</b>"),
        (None, false) => format!("{class}, not registered"),
    }
}

/// A site in one word.
fn state(site: &SiteSeen) -> (&'static str, String) {
    let shards = &site.shards;
    if !site.present {
        return ("open", "? not there".to_owned());
    }
    if site.shards.not_ok() == 0 && site.records.not_ok() == 0 {
        let what = if shards.total() == 0 { "records" } else { "all" };
        return ("ok", format!("\u{2713} {what} shown"));
    }
    let gone = shards.missing + shards.corrupt + site.records.missing + site.records.corrupt;
    match gone {
        0 => (
            "open",
            format!("? {} unproven", shards.not_ok() + site.records.not_ok()),
        ),
        gone => ("bad", format!("\u{2717} {gone} missing or corrupt")),
    }
}

fn sites(out: &mut String, report: &AuditReport) {
    let noun = if report.audit.damage_ppm.is_some() {
        "Groups"
    } else {
        "Shards"
    };
    let _ = writeln!(
        out,
        "<h2>Sites</h2>\n<div class=\"wide\"><table><tr><th>Site</th><th class=\"n\">Records shown</th><th class=\"n\">{noun} shown</th>\
         <th>Not shown</th><th class=\"n\">Groups held</th><th class=\"n\">Finds the damage with</th><th class=\"n\">Forecast</th>\
         <th class=\"n\">Read</th><th class=\"n\">Median</th><th class=\"n\">Longest</th></tr>"
    );
    for site in &report.sites {
        let troubles: Vec<String> = Outcome::ALL
            .into_iter()
            .skip(1)
            .map(|outcome| (outcome, site.shards.get(outcome) + site.records.get(outcome)))
            .filter(|(_, count)| *count > 0)
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        let power = site.power_ppm.map_or_else(String::new, |ppm| {
            format!("{}.{:02} %", ppm / 10_000, ppm % 10_000 / 100)
        });
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\">{} of {}</td><td class=\"n\">{} of {}</td><td>{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{power}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} ms</td><td class=\"n\">{} ms</td></tr>",
            escaped(&site.name),
            site.records.ok,
            site.records.total(),
            site.shards.ok,
            site.shards.total(),
            if troubles.is_empty() {
                "nothing".to_owned()
            } else {
                troubles.join(", ")
            },
            site.population,
            format::bytes(site.bytes_forecast),
            format::bytes(site.bytes_read),
            site.latency_median_us / 1000,
            site.latency_longest_us / 1000,
        );
    }
    out.push_str("</table></div>\n");
}

fn placement(out: &mut String, report: &AuditReport) {
    if report.placement.is_empty() {
        return;
    }
    let name = |id: &SiteId| {
        let site = report.sites.iter().find(|site| site.id == *id);
        site.map_or_else(|| id.to_hex(), |site| escaped(&site.name))
    };
    out.push_str("<h2>What may still be lost</h2>\n<table><tr><th>Layout</th><th>If this is lost</th><th>Worst case</th><th class=\"n\">Shards left</th><th class=\"n\">Needed</th><th class=\"n\">Margin</th></tr>\n");
    for placement in &report.placement {
        let layout: Vec<String> = placement.sites.iter().map(name).collect();
        for fault in &placement.faults {
            let what = match fault.kind.as_str() {
                "any-sites" if placement.losses == 0 => "no further site".to_owned(),
                "any-sites" => format!("any {}", format::count(u64::from(placement.losses), "further site")),
                kind => format!("{kind} {}", fault.name),
            };
            let worst: Vec<String> = fault.worst.iter().map(name).collect();
            let class = if fault.margin < 0 { "bad" } else { "ok" };
            let _ = writeln!(
                out,
                "<tr><td>{} ({} stripes)</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n {class}\">{:+}</td></tr>",
                layout.join(", "),
                placement.stripes,
                escaped(&what),
                worst.join(", "),
                fault.survivors,
                placement.k,
                fault.margin
            );
        }
    }
    out.push_str("</table>\n");
}

fn records(out: &mut String, report: &AuditReport) {
    out.push_str("<h2>Records</h2>\n<table><tr><th>Kind</th><th class=\"n\">Different</th><th class=\"n\">Copies shown</th><th class=\"n\">Listed, not read</th><th class=\"n\">Below quorum</th></tr>\n");
    for records in &report.records {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{} of {}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escaped(&records.kind),
            records.records,
            records.copies.ok,
            records.copies.total(),
            records.listed,
            records.below_quorum
        );
    }
    out.push_str("</table>\n");
}

fn findings(out: &mut String, report: &AuditReport) {
    let _ = writeln!(out, "<h2>Findings: {}</h2>", report.findings_total);
    if !report.findings.is_empty() {
        out.push_str("<div class=\"wide\"><table><tr><th>About</th><th>Outcome</th><th>Site</th><th>Object</th><th>Detail</th></tr>\n");
        for finding in &report.findings {
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td><td>{}</td></tr>",
                escaped(&finding.kind),
                finding.outcome.map_or("", |outcome| outcome.as_str()),
                escaped(&finding.site),
                escaped(&finding.object),
                escaped(&finding.detail)
            );
        }
        out.push_str("</table></div>\n");
    }
    if report.strays_total > 0 {
        let _ = writeln!(
            out,
            "<p>{} that no head or ledger names. They cost space and harm nothing.</p>",
            format::count(report.strays_total, "thing")
        );
    }
}

fn provenance(out: &mut String, verified: &VerifiedReport) {
    let report = &verified.report;
    let _ = writeln!(
        out,
        "<h2>Where it comes from</h2>\n<dl><dt>Archive</dt><dd><code>{}</code></dd>\
         <dt>Charter</dt><dd>version {}, digest <code>{}</code></dd><dt>Seed</dt><dd><code>{}</code></dd>\
         <dt>Nonce</dt><dd><code>{}</code> (chosen by the auditor)</dd><dt>Mode</dt><dd>{}, {} s for an answer, longest round {} ms</dd>\
         <dt>Made by</dt><dd>{} {}</dd></dl>",
        report.archive.to_hex(),
        report.charter.version,
        report.charter.digest.to_hex(),
        report.seed.seed.to_hex(),
        report.seed.nonce.to_hex(),
        report.audit.mode.as_str(),
        report.audit.deadline_ms / 1000,
        report.audit.window_ms,
        escaped(&report.tool.name),
        escaped(&report.tool.version)
    );
}

/// Text for a page: nothing in it is markup, and control characters are shown.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in format::plain(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_abroad_is_markup() {
        assert_eq!(
            escaped("<script>alert('x' & \"y\")</script>\u{1b}"),
            "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;\\u{1b}"
        );
    }
}
