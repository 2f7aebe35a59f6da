//! Groups that a public seed chose, asked of all sites in one short window, each proven by its shard's trailer.
//!
//! Each site has a sample of its own, drawn from the groups that it should hold ([`exclave_plan::audit::sample`]). The walk
//! over the stripes is the one that numbered them, so numbers become shards block by block, and no more than one round of
//! challenges is in memory. A round goes out to all sites at once: a site that would fetch from another what it doesn't hold
//! has to do so within the deadline, while that other one is asked too.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use exclave_model::{RunId, ShardName, SiteId, StripeRecord, Tag, report::Outcome};
use exclave_plan::audit::{Detection, Seed, choose, sample::sample_digest, survivors::Pattern};
use exclave_stripe::{ShardError, group_range, trailer_range, verify_group};
use futures::{
    future::join_all,
    stream::{self, StreamExt},
};

use super::{
    Auditor,
    desk::{Desk, Said},
    scope::Scope,
    stripes::{Census, Walk, holders},
};
use crate::surroundings::Progress;

/// Challenges of one round, over all sites: some tens of mebibytes.
const ROUND_MAX: usize = 512;

/// Challenges that are put to one site at the same time.
const PER_SITE: usize = 8;

/// One group that a site has to show.
#[derive(Clone)]
struct Challenge {
    site: SiteId,
    at: usize,
    index: u8,
    group: usize,
    record: Arc<StripeRecord>,
}

/// Challenges every site with its sample.
pub(super) async fn challenge(
    auditor: &mut Auditor<'_>,
    scope: &Scope,
    census: &mut Census,
    seed: &Seed,
    detection: Detection,
) {
    let mut chosen: BTreeMap<SiteId, BTreeSet<u64>> = BTreeMap::new();
    let sites: Vec<SiteId> = census.sites().collect();
    for site in sites {
        let population = census.site(site).groups.total();
        let numbers = choose(seed, site, population, detection.size(population));
        census.set_digest(site, sample_digest(&numbers));
        match auditor.desk.position(site) {
            Some(_) => _ = chosen.insert(site, numbers),
            None => {
                let outcome = auditor.desk.absence(site);
                auditor.desk.count(site, outcome, numbers.len() as u64);
                auditor.facts.shards_not_ok += numbers.len() as u64;
            }
        }
    }
    let mut failed: BTreeSet<SiteId> = BTreeSet::new();
    let mut round = Vec::new();
    let mut walk: Option<(RunId, Walk<'_>)> = None;
    for (number, block) in census.blocks.clone().into_iter().enumerate() {
        let first = |site: &SiteId| census.site(*site).groups.start(number);
        let ranges: BTreeMap<SiteId, (u64, u64)> = chosen
            .keys()
            .filter_map(|site| Some((*site, (first(site)?, census.site(*site).groups.start(number + 1)?))))
            .filter(|(site, (start, end))| {
                let numbers = chosen.get(site);
                numbers.is_some_and(|numbers| numbers.range(start..end).next().is_some())
            })
            .collect();
        let Some(run) = scope.runs.get(&block.run).filter(|_| !ranges.is_empty()) else {
            continue;
        };
        // Ledger parts that were read for one block serve the next one of the run.
        if walk.as_ref().is_none_or(|(of, _)| *of != block.run) {
            walk = Some((block.run, Walk::of(auditor, run, None)));
        }
        let Some((_, walk)) = &mut walk else { continue };
        let mut next: BTreeMap<SiteId, u64> = ranges.iter().map(|(site, (start, _))| (*site, *start)).collect();
        for ordinal in census.ordinals(scope, block) {
            // What no ledger describes has no groups.
            let Ok(line) = walk.line(ordinal).await else { continue };
            let groups = line.record.context.payload.groups() as u64;
            let record = Arc::new(line.record);
            for (index, site) in holders(&record, &line.layout) {
                let (Some(start), Some(numbers), Some(at)) =
                    (next.get_mut(&site), chosen.get(&site), auditor.desk.position(site))
                else {
                    continue;
                };
                let end = *start + groups;
                for number in numbers.range((Bound::Included(*start), Bound::Excluded(end))) {
                    round.push(Challenge {
                        site,
                        at,
                        index,
                        // Below the groups of one shard.
                        group: (number - *start) as usize,
                        record: Arc::clone(&record),
                    });
                }
                *start = end;
            }
            if round.len() >= ROUND_MAX {
                if auditor.stops() {
                    return;
                }
                play(auditor, &mut round, &mut failed).await;
            }
        }
    }
    play(auditor, &mut round, &mut failed).await;
    // A site counts as a whole: what it showed stands for what it holds, at the stated confidence.
    let stopped = auditor.stops();
    for ((layout, data, losses), stripes) in census.layouts.iter().filter(|_| !stopped) {
        let proven = (0u32..)
            .zip(layout)
            .filter(|(_, site)| chosen.contains_key(site) && !failed.contains(site));
        let shown = proven.fold(0, |shown, (bit, _)| shown | 1u32.checked_shl(bit).unwrap_or(0));
        auditor
            .survivors
            .add(layout, *data, *losses, Pattern { shown, gone: 0 }, *stripes);
    }
}

/// Puts one round to all sites at once.
async fn play(auditor: &mut Auditor<'_>, round: &mut Vec<Challenge>, failed: &mut BTreeSet<SiteId>) {
    let mut by_site: BTreeMap<usize, Vec<Challenge>> = BTreeMap::new();
    for challenge in round.drain(..) {
        by_site.entry(challenge.at).or_default().push(challenge);
    }
    let since = tokio::time::Instant::now();
    let desk = &auditor.desk;
    let answers = by_site.into_values().map(|challenges| {
        let asked = stream::iter(challenges).map(|challenge| async move {
            let answer = show(desk, &challenge).await;
            (challenge, answer)
        });
        asked.buffered(PER_SITE).collect::<Vec<_>>()
    });
    let answers = join_all(answers).await;
    auditor.window = auditor.window.max(since.elapsed());
    for (challenge, (outcome, why, bytes)) in answers.into_iter().flatten() {
        auditor.desk.count(challenge.site, outcome, 1);
        Progress::add(&auditor.progress.bytes_moved, bytes);
        auditor.progressed(1, bytes);
        if outcome == Outcome::Ok {
            continue;
        }
        failed.insert(challenge.site);
        auditor.facts.shards_not_ok += 1;
        let site = auditor.desk.name_of(challenge.at);
        let object = name_of(&auditor.desk, &challenge).map_or_else(String::new, |name| name.to_string());
        let detail = format!(
            "group {}{}{why}",
            challenge.group,
            if why.is_empty() { "" } else { ": " }
        );
        auditor.note("group", &site, &object, Some(outcome), &detail);
    }
}

fn name_of(desk: &Desk, challenge: &Challenge) -> Option<exclave_model::ObjectName> {
    let hash = challenge.record.payloads.get(usize::from(challenge.index))?;
    Some(desk.archive.names.shard(&ShardName {
        run: challenge.record.context.run,
        ordinal: challenge.record.context.ordinal,
        index: challenge.index,
        tag: Tag::of_hash(hash.as_bytes()),
        // A shard that a site made us put again lies under a further name: full mode tells that apart, a sample counts it
        // as not shown.
        attempt: 0,
    }))
}

/// Asks for a group and its trailer, and holds both against the ledger. Where they are wrong, other bytes may lie on top of the
/// shard: then it is read whole, which sees through them.
async fn show(desk: &Desk, challenge: &Challenge) -> (Outcome, String, u64) {
    let Some(name) = name_of(desk, challenge) else {
        return (Outcome::Missing, String::new(), 0);
    };
    let (outcome, why, bytes) = show_group(desk, challenge, &name).await;
    let versioned = desk
        .handle(challenge.at)
        .is_some_and(|handle| handle.site.versions().is_some());
    if outcome != Outcome::Corrupt || !versioned {
        return (outcome, why, bytes);
    }
    let payload = challenge.record.context.payload;
    let whole = match desk.get(challenge.at, &name, payload.object_bytes() as u64).await {
        Said::Bytes(whole) if name.fits(&whole) == Some(true) => whole,
        Said::Bytes(_) | Said::Nothing(_) => return (outcome, why, bytes),
    };
    let (group, trailer) = (group_range(challenge.group), trailer_range(payload));
    let trailer = trailer.start as usize..trailer.end as usize;
    let (Some(block), Some(trailer)) = (whole.get(group), whole.get(trailer)) else {
        return (outcome, why, bytes);
    };
    match verify_group(&challenge.record, challenge.index, challenge.group, block, trailer) {
        Ok(()) => (Outcome::Ok, String::new(), bytes + whole.len() as u64),
        Err(_) => (outcome, why, bytes),
    }
}

/// One group as the site shows it.
async fn show_group(desk: &Desk, challenge: &Challenge, name: &exclave_model::ObjectName) -> (Outcome, String, u64) {
    let payload = challenge.record.context.payload;
    let range = group_range(challenge.group);
    let block = match desk
        .get_range(challenge.at, name, range.start as u64..range.end as u64)
        .await
    {
        Said::Bytes(block) => block,
        Said::Nothing(outcome) => return (outcome, String::new(), 0),
    };
    let trailer = match desk.get_range(challenge.at, name, trailer_range(payload)).await {
        Said::Bytes(trailer) => trailer,
        Said::Nothing(outcome) => return (outcome, String::new(), block.len() as u64),
    };
    let bytes = (block.len() + trailer.len()) as u64;
    match verify_group(&challenge.record, challenge.index, challenge.group, &block, &trailer) {
        Ok(()) => (Outcome::Ok, String::new(), bytes),
        Err(error) => {
            let why = match error {
                ShardError::Hash => "neither group nor trailer lead to the ledger's hash".to_owned(),
                other => other.to_string(),
            };
            (Outcome::Corrupt, why, bytes)
        }
    }
}
