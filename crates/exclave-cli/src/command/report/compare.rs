//! What changed from one report to a later one: drift.

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{
    RecordHash, SiteId,
    report::{AuditReport, FindingSeen, SiteSeen},
};
use serde::Serialize;

use crate::{error::Trouble, exit::Exit, format, output::Report};

/// Findings that are printed of each side.
const FINDINGS_SHOWN_MAX: usize = 30;

/// The differences of two reports about one archive.
#[derive(Serialize)]
pub struct Compared {
    before: Side,
    after: Side,
    seconds_between: i64,
    /// What got worse, in words.
    worse: Vec<String>,
    /// What else changed.
    changed: Vec<String>,
    /// Findings that only the later one has.
    new_findings: Vec<FindingSeen>,
    /// Findings that only the earlier one has.
    gone_findings: Vec<FindingSeen>,
}

/// One report, as far as it is compared.
#[derive(Serialize)]
struct Side {
    verdict: &'static str,
    mode: &'static str,
    finished: String,
}

impl Side {
    fn of(report: &AuditReport) -> Self {
        Self {
            verdict: report.verdict.as_str(),
            mode: report.audit.mode.as_str(),
            finished: format::rfc3339(report.audit.finished),
        }
    }
}

impl Compared {
    /// True when something got worse.
    pub fn is_worse(&self) -> bool {
        !self.worse.is_empty()
    }
}

/// Compares them. Reports about two archives say nothing about each other.
pub fn compare(before: &AuditReport, after: &AuditReport) -> Result<Compared, Trouble> {
    if before.archive != after.archive {
        return Err(Trouble::new(Exit::Usage, "the reports are about two archives"));
    }
    let mut compared = Compared {
        before: Side::of(before),
        after: Side::of(after),
        seconds_between: after.audit.finished.saturating_sub(before.audit.finished),
        worse: Vec::new(),
        changed: Vec::new(),
        new_findings: only_in(&after.findings, &before.findings),
        gone_findings: only_in(&before.findings, &after.findings),
    };
    if after.verdict > before.verdict {
        compared
            .worse
            .push(format!("the verdict was {} and is {}", before.verdict, after.verdict));
    } else if after.verdict != before.verdict {
        compared
            .changed
            .push(format!("the verdict was {} and is {}", before.verdict, after.verdict));
    }
    charters(before, after, &mut compared);
    heads(before, after, &mut compared);
    sites(before, after, &mut compared);
    margins(before, after, &mut compared);
    if before.audit.mode != after.audit.mode {
        compared.changed.push(format!(
            "the earlier one is of mode {}, the later one of mode {}: shards are not compared",
            before.audit.mode.as_str(),
            after.audit.mode.as_str()
        ));
    }
    Ok(compared)
}

fn only_in(these: &[FindingSeen], those: &[FindingSeen]) -> Vec<FindingSeen> {
    let key = |finding: &FindingSeen| (finding.kind.clone(), finding.site.clone(), finding.object.clone());
    let known: BTreeSet<_> = those.iter().map(key).collect();
    these
        .iter()
        .filter(|finding| !known.contains(&key(finding)))
        .cloned()
        .collect()
}

fn charters(before: &AuditReport, after: &AuditReport, compared: &mut Compared) {
    let (old, new) = (&before.charter, &after.charter);
    if new.version < old.version || (new.version == old.version && new.digest != old.digest) {
        compared.worse.push(format!(
            "charter version {} was seen before and version {} now: a version is hidden, or two were signed",
            old.version, new.version
        ));
    } else if new.version > old.version {
        compared
            .changed
            .push(format!("charter version {} became {}", old.version, new.version));
    }
}

/// A head that was seen before and isn't seen now is lost or hidden, since nothing deletes heads.
fn heads(before: &AuditReport, after: &AuditReport, compared: &mut Compared) {
    if before.audit.datasets != after.audit.datasets {
        compared
            .changed
            .push("they are about other datasets: heads are not compared".to_owned());
        return;
    }
    let hashes = |report: &AuditReport| {
        report
            .heads
            .iter()
            .map(|head| head.hash)
            .collect::<BTreeSet<RecordHash>>()
    };
    let (old, new) = (hashes(before), hashes(after));
    let gone = old.difference(&new).count() as u64;
    if gone > 0 {
        compared.worse.push(format!(
            "{} that the earlier one saw are not shown now",
            format::count(gone, "head")
        ));
    }
    let more = new.difference(&old).count() as u64;
    if more > 0 {
        compared
            .changed
            .push(format!("{} are new", format::count(more, "head")));
    }
}

fn sites(before: &AuditReport, after: &AuditReport, compared: &mut Compared) {
    let of = |report: &AuditReport| -> BTreeMap<SiteId, SiteSeen> {
        report.sites.iter().map(|site| (site.id, site.clone())).collect()
    };
    let (old, new) = (of(before), of(after));
    for (id, site) in &new {
        let Some(earlier) = old.get(id) else {
            compared.changed.push(format!("site {} is new", site.name));
            continue;
        };
        if earlier.present != site.present {
            let (list, said) = match site.present {
                true => (&mut compared.changed, "answers again as itself"),
                false => (&mut compared.worse, "does not answer as itself any more"),
            };
            list.push(format!("site {} {said}", site.name));
        }
        let counts = [
            ("records", earlier.records.not_ok(), site.records.not_ok()),
            ("shards or groups", earlier.shards.not_ok(), site.shards.not_ok()),
        ];
        let same_mode = before.audit.mode == after.audit.mode;
        for (what, was, is) in counts.into_iter().filter(|(what, ..)| same_mode || *what == "records") {
            let said = format!("site {}: {was} {what} were not shown, now {is}", site.name);
            match is.cmp(&was) {
                std::cmp::Ordering::Greater => compared.worse.push(said),
                std::cmp::Ordering::Less => compared.changed.push(said),
                std::cmp::Ordering::Equal => {}
            }
        }
    }
    for (id, site) in &old {
        if !new.contains_key(id) {
            compared.changed.push(format!("site {} is no site any more", site.name));
        }
    }
}

fn margins(before: &AuditReport, after: &AuditReport, compared: &mut Compared) {
    let least = |report: &AuditReport| {
        let all = report.placement.iter().flat_map(|placement| &placement.faults);
        all.map(|fault| fault.margin).min()
    };
    if let (Some(was), Some(is)) = (least(before), least(after)) {
        let said = format!("the least margin over all declared losses was {was} and is {is}");
        match is.cmp(&was) {
            std::cmp::Ordering::Less => compared.worse.push(said),
            std::cmp::Ordering::Greater => compared.changed.push(said),
            std::cmp::Ordering::Equal => {}
        }
    }
}

impl Report for Compared {
    fn text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        for (name, side) in [("before", &self.before), ("after", &self.after)] {
            writeln!(
                out,
                "{name:<7} {} (mode {}, {})",
                side.verdict, side.mode, side.finished
            )?;
        }
        if self.worse.is_empty()
            && self.changed.is_empty()
            && self.new_findings.is_empty()
            && self.gone_findings.is_empty()
        {
            return writeln!(out, "nothing changed");
        }
        for (mark, list) in [("WORSE", &self.worse), ("changed", &self.changed)] {
            for line in list {
                writeln!(out, "{mark:<7} {}", format::plain(line))?;
            }
        }
        for (mark, list) in [("new", &self.new_findings), ("gone", &self.gone_findings)] {
            for finding in list.iter().take(FINDINGS_SHOWN_MAX) {
                let text = format!(
                    "{} {} {} {}",
                    finding.kind, finding.site, finding.object, finding.detail
                );
                writeln!(out, "{mark:<7} {}", format::plain(text.trim()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use exclave_model::report::{Outcome, Statement, Verdict};

    use super::*;

    fn report() -> AuditReport {
        let bytes = include_bytes!("../../../../../tests/src/fuzz/report.json");
        Statement::from_bytes(bytes).unwrap().predicate
    }

    /// What a rolled-back or lying site, or one that lost something, looks like in two reports.
    #[test]
    fn what_got_worse_is_told_from_what_changed() {
        type Change = fn(&mut AuditReport);
        let table: &[(&str, Change, usize, usize)] = &[
            ("nothing", |_| {}, 0, 0),
            ("a head is hidden", |after| after.heads.clear(), 1, 0),
            (
                "a snapshot",
                |after| {
                    let mut head = after.heads[0].clone();
                    head.hash = RecordHash::from_bytes([9; 32]);
                    after.heads.push(head);
                },
                0,
                1,
            ),
            ("a charter is hidden", |after| after.charter.version = 0, 1, 0),
            (
                "two charters",
                |after| after.charter.digest = RecordHash::from_bytes([9; 32]),
                1,
                0,
            ),
            ("a new charter", |after| after.charter.version = 2, 0, 1),
            ("the verdict", |after| after.verdict = Verdict::Unrecoverable, 1, 0),
            ("a site is gone", |after| after.sites[0].present = false, 1, 0),
            (
                "more lost",
                |after| after.sites[0].shards.add(Outcome::Missing, 1),
                1,
                0,
            ),
            ("less lost", |after| after.sites[0].shards.missing = 0, 0, 1),
            ("less to spare", |after| after.placement[0].faults[0].margin = 0, 1, 0),
            (
                "a site joined",
                |after| {
                    let mut site = after.sites[0].clone();
                    site.id = SiteId::from_bytes([9; 16]);
                    after.sites.push(site);
                },
                0,
                1,
            ),
        ];
        for (what, change, worse, changed) in table {
            let mut after = report();
            change(&mut after);
            let compared = compare(&report(), &after).unwrap();
            assert_eq!(
                (compared.worse.len(), compared.changed.len()),
                (*worse, *changed),
                "{what}"
            );
            assert_eq!(compared.is_worse(), *worse > 0);
        }
        let mut other = report();
        other.archive = exclave_model::Anchor::from_bytes([9; 32]);
        assert!(compare(&report(), &other).is_err());
    }
}
