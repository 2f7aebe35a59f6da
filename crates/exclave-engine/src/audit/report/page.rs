//! The page for those who read no further. Every word of it follows from the report's figures.

use exclave_model::report::{AuditMode, AuditReport, Outcome, Page, Verdict};

/// Writes the page of a report.
pub fn page(report: &AuditReport) -> Page {
    Page {
        question: question(report.audit.mode).to_owned(),
        answer: answer(report),
        evidence: format!(
            "taken from {} to {} (Unix seconds, by the auditor's clock); it says nothing of any later moment",
            report.audit.started, report.audit.finished
        ),
        not_proven: not_proven(report),
        scope: scope(report),
        exclusions: exclusions(report),
    }
}

fn question(mode: AuditMode) -> &'static str {
    match mode {
        AuditMode::Heads => "Do the sites still show the records without which nothing can be found or opened?",
        AuditMode::Sample => "Do the sites still hold the shards, as far as a random sample shows?",
        AuditMode::Full => "Do the sites still hold every shard, byte for byte?",
        AuditMode::Deep => "Do the sites still hold every shard, and do the shards of each stripe belong together?",
    }
}

fn answer(report: &AuditReport) -> String {
    let facts = &report.facts;
    let first = match report.verdict {
        Verdict::Whole => "Yes: everything that was looked at was shown.".to_owned(),
        Verdict::Findings => format!("{}, and something needs a look: {}.", enough(report), listed(report)),
        Verdict::Unproven if report.audit.mode == AuditMode::Sample => format!(
            "Not shown: of {} fewer than k sites showed all of their sample, or a record that is needed was not shown. \
             They may be there still.",
            number(facts.stripes_unproven, "stripe")
        ),
        Verdict::Unproven => format!(
            "Not shown: of {} fewer than k shards, or a record that is needed, were shown. They may be there still.",
            number(facts.stripes_unproven, "stripe")
        ),
        Verdict::Stale => {
            "Too few sites answered: there may be a newer state than the one that was looked at.".to_owned()
        }
        Verdict::Unrecoverable => format!(
            "No: {} certainly can't be restored, and {} without which nothing is found are at no site.",
            number(facts.stripes_unrecoverable, "stripe"),
            number(facts.records_lost, "record")
        ),
        Verdict::Disputed => format!(
            "Two truths were signed in {}: a key is in two hands, or was stolen. Which one counts has to be found out.",
            number(facts.forks, "place")
        ),
    };
    let stopped = match report.audit.interrupted {
        true => " The audit was interrupted: it had seen a part only.",
        false => "",
    };
    format!("{first}{}{stopped}", after_losses(report))
}

/// What was enough for a verdict that is not graver.
fn enough(report: &AuditReport) -> &'static str {
    match report.audit.mode {
        AuditMode::Heads => "What is needed to find the data was shown",
        AuditMode::Sample => "As far as the samples show, enough sites hold every stripe",
        AuditMode::Full | AuditMode::Deep => {
            "Of every stripe that was looked at enough shards were shown to restore it"
        }
    }
}

/// What needs a look, as far as there is any.
fn listed(report: &AuditReport) -> String {
    let facts = &report.facts;
    let copies = match facts.records_not_ok {
        1 => "1 copy of a record not shown".to_owned(),
        several => format!("{several} copies of records not shown"),
    };
    let all = [
        (
            facts.not_codewords,
            format!(
                "{} whose shards do not belong together",
                number(facts.not_codewords, "stripe")
            ),
        ),
        (
            facts.shards_not_ok,
            format!("{} not shown", number(facts.shards_not_ok, shard_noun(report))),
        ),
        (facts.records_not_ok, copies),
        (
            facts.records_below_quorum,
            format!(
                "{} at fewer sites than a commit takes",
                number(facts.records_below_quorum, "record")
            ),
        ),
        (
            facts.datasets_unregistered,
            format!(
                "{} that nobody added to their class",
                number(facts.datasets_unregistered, "dataset")
            ),
        ),
        (facts.alarms, number(facts.alarms, "alarm")),
    ];
    let some: Vec<String> = all
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(_, said)| said)
        .collect();
    some.join(", ")
}

/// What the worst declared loss of sites would leave.
fn after_losses(report: &AuditReport) -> String {
    let margins = report.placement.iter().flat_map(|placement| {
        let any = placement.faults.iter().filter(|fault| fault.kind == "any-sites");
        any.map(move |fault| (fault.margin, placement, fault))
    });
    let Some((margin, placement, fault)) = margins.min_by_key(|(margin, ..)| *margin) else {
        return String::new();
    };
    let lost = match placement.losses {
        0 => "With no further site lost".to_owned(),
        losses => format!("After a loss of any {}", number(u64::from(losses), "further site")),
    };
    let left = number(u64::from(fault.survivors), "shard");
    match margin {
        0.. => format!(
            " {lost} at least {left} of each stripe would be left; {} restore it: {margin} to spare.",
            placement.k
        ),
        _ => format!(
            " {lost} only {left} of some stripe would be left as shown; {} restore it.",
            placement.k
        ),
    }
}

fn shard_noun(report: &AuditReport) -> &'static str {
    match report.audit.mode {
        AuditMode::Sample => "sampled group",
        AuditMode::Heads | AuditMode::Full | AuditMode::Deep => "shard",
    }
}

fn scope(report: &AuditReport) -> String {
    let newest = report.heads.iter().filter(|head| head.newest).count();
    let heads = format!(
        "{} of {}",
        number(newest as u64, "newest head"),
        match &report.audit.datasets {
            None => "all datasets".to_owned(),
            Some(some) => number(some.len() as u64, "named dataset"),
        }
    );
    let present = report.sites.iter().filter(|site| site.present).count();
    let sites = format!(
        "{present} of {} answered as such",
        number(report.sites.len() as u64, "site")
    );
    let shards = match (report.audit.mode, report.audit.damage_ppm, report.audit.confidence_ppm) {
        (AuditMode::Sample, Some(damage), Some(confidence)) => format!(
            "; of each site a sample that finds damage to {} of its groups with {} confidence",
            percent(damage),
            percent(confidence)
        ),
        (AuditMode::Heads, ..) => "; no shard".to_owned(),
        _ => format!("; every shard of {}", number(report.stripes, "stripe")),
    };
    format!("{heads}; {sites}{shards}")
}

/// What no audit of this mode shows, plainly.
fn not_proven(report: &AuditReport) -> Vec<String> {
    let mut said = vec![
        "that anyone can open the data: the auditor has no key, and whether custodians can put theirs together is another \
         exercise"
            .to_owned(),
        "that the data is what the owner meant to save: contents and names stay sealed".to_owned(),
        "that a site holds its shards itself: one that fetched them from another site within the deadline, or computed \
         them from k others, would look the same"
            .to_owned(),
        "that the sites together don't show an old state: no witness was asked, and the seed was the auditor's \
         to choose; an auditor who tried many nonces could choose his sample, so the nonce is in the report"
            .to_owned(),
        "how long objects are locked against deletion: that was not asked".to_owned(),
    ];
    match report.audit.mode {
        AuditMode::Heads => said.push("that any shard is there: only small records were read".to_owned()),
        AuditMode::Sample => {
            said.push(
                "that less damage than the stated fraction is absent: a few lost shards most likely go unnoticed"
                    .to_owned(),
            );
            said.push("that ledgers lie whole at more than one site: elsewhere they were listed, not read".to_owned());
        }
        AuditMode::Full => {
            said.push("that the shards of a stripe belong together: each was compared with its own hash".to_owned())
        }
        AuditMode::Deep => {}
    }
    said
}

fn exclusions(report: &AuditReport) -> Vec<String> {
    let mut said: Vec<String> = report
        .sites
        .iter()
        .filter(|site| !site.present)
        .map(|site| format!("site {}: no store that was asked shows its plate", site.name))
        .collect();
    for site in report.sites.iter().filter(|site| site.present) {
        let silent = site.shards.get(Outcome::Timeout) + site.shards.get(Outcome::Unproven);
        if silent > 0 && site.shards.ok == 0 {
            said.push(format!("site {}: it showed nothing that was asked for", site.name));
        }
    }
    if let Some(datasets) = &report.audit.datasets {
        said.push(format!(
            "every dataset but {}",
            number(datasets.len() as u64, "named one")
        ));
    }
    if report.audit.interrupted {
        said.push("what came after the interruption".to_owned());
    }
    said
}

/// Parts of a million as per cent, exactly.
pub(super) fn percent(ppm: u32) -> String {
    let (whole, rest) = (ppm / 10_000, ppm % 10_000);
    match rest {
        0 => format!("{whole} %"),
        _ => format!("{whole}.{} %", format!("{rest:04}").trim_end_matches('0')),
    }
}

fn number(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
