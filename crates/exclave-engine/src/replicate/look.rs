//! Looks whether shards that a snapshot will refer to still lie where they were put.
//!
//! What was seen within a day counts. Where that has passed, the sites that answer are listed: a shard that is shown counts
//! as seen, and one that a complete listing does not show becomes a debt, which the next run pays from any k others. Such a
//! site may have lost everything, and with it the run's envelope, without which nothing of the run opens: so that is put
//! again before anything is written down as owed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use exclave_catalog::Receipt;
use exclave_model::{
    ArchiveNames, Envelope, LiveSet, ObjectName, Record, RunId, RunObject, ShardName, SignedObject, SiteId, Tag,
    limit::ENVELOPE_BYTES_MAX,
};
use exclave_site::Listing;
use futures::future::join_all;

use super::{
    ReplicateError,
    finish::{Finish, LISTED_MAX},
};
use crate::{archive::SiteHandle, publish::publish};

/// Objects that a run publishes: a ledger part for each 4,096 stripes, and a few.
const RUN_OBJECTS_MAX: usize = 1 << 20;

/// How many shards of each stripe were seen since `since`, after a look at the sites where that isn't known.
pub(super) fn seen_anew(
    finish: &Finish<'_>,
    run: RunId,
    stripes: &LiveSet,
    since: i64,
) -> Result<BTreeMap<u32, u8>, ReplicateError> {
    let runtime = &finish.surroundings.runtime;
    let receipts = runtime.block_on(finish.catalog.receipts(run, 0..u32::MAX))?;
    let unseen = |(ordinal, receipt): &&(u32, Receipt)| stripes.contains(*ordinal) && receipt.seen < since;
    let doubtful: BTreeSet<SiteId> = receipts
        .iter()
        .filter(unseen)
        .map(|(_, receipt)| receipt.site)
        .collect();
    let needed = finish.quorums.shards_at_commit();
    let mut seen = seen(finish, run, since)?;
    let enough = |seen: &BTreeMap<u32, u8>, ordinal| seen.get(&ordinal).is_some_and(|count| *count >= needed);
    // A site that didn't answer before is asked once more when the commit hangs on it.
    let ask_all = !stripes.iter().all(|ordinal| enough(&seen, ordinal));
    let asked: Vec<&SiteHandle> = doubtful
        .iter()
        .filter(|site| ask_all || finish.reachable.contains(site))
        .filter_map(|site| finish.archive.site(*site))
        .collect();
    if asked.is_empty() {
        return Ok(seen);
    }
    look_for_shards(finish, run, stripes, &receipts, &asked)?;
    seen.clone_from(&self::seen(finish, run, since)?);
    Ok(seen)
}

/// Shards of each stripe that were seen since a time.
fn seen(finish: &Finish<'_>, run: RunId, since: i64) -> Result<BTreeMap<u32, u8>, ReplicateError> {
    let asked = finish.catalog.stripe_health(run, 0..u32::MAX, since);
    let health = finish.surroundings.runtime.block_on(asked)?;
    Ok(health.into_iter().map(|stripe| (stripe.ordinal, stripe.seen)).collect())
}

/// Lists a run's shards at sites and notes which are there, under the name that their hash gives them, and which not.
fn look_for_shards(
    finish: &Finish<'_>,
    run: RunId,
    stripes: &LiveSet,
    receipts: &[(u32, Receipt)],
    asked: &[&SiteHandle],
) -> Result<(), ReplicateError> {
    let now = finish.surroundings.clock.now_unix_seconds();
    let (runtime, names) = (&finish.surroundings.runtime, &finish.archive.names);
    let prefix = names.shards_prefix(run);
    let listings = asked.iter().map(|handle| handle.site.list(&prefix, LISTED_MAX));
    let mut missing = Vec::new();
    for (handle, listing) in asked.iter().zip(runtime.block_on(join_all(listings))) {
        let (Some(site), Ok(listing)) = (handle.id, listing) else {
            continue;
        };
        let expected = receipts
            .iter()
            .filter(|(ordinal, receipt)| receipt.site == site && stripes.contains(*ordinal));
        let (there, gone) = told_apart(names, run, expected, &listing);
        runtime.block_on(finish.catalog.set_seen(run, &there, site, now))?;
        // A listing that was cut short proves nothing absent.
        if listing.complete && !gone.is_empty() {
            missing.push((site, gone));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    put_envelopes_again(finish, run);
    for (site, gone) in missing {
        runtime.block_on(finish.catalog.shards_missing(run, &gone, site, now))?;
    }
    Ok(())
}

/// Stripes whose shard a listing shows, and those whose shard it does not.
fn told_apart<'a>(
    names: &ArchiveNames,
    run: RunId,
    expected: impl Iterator<Item = &'a (u32, Receipt)>,
    listing: &Listing,
) -> (LiveSet, LiveSet) {
    let listed: HashSet<&ObjectName> = listing.entries.iter().map(|entry| &entry.name).collect();
    let (mut there, mut gone) = (LiveSet::default(), LiveSet::default());
    for (ordinal, receipt) in expected {
        let name = names.shard(&ShardName {
            run,
            ordinal: *ordinal,
            index: receipt.index,
            tag: Tag::of_hash(receipt.payload.as_bytes()),
            attempt: receipt.attempt,
        });
        match listed.contains(&name) {
            true => there.insert(*ordinal),
            false => gone.insert(*ordinal),
        }
    }
    (there, gone)
}

/// Puts every envelope of a run that any site has at every site. A site that fails is no failure of the run: the envelope
/// lies at a quorum since the run was committed.
fn put_envelopes_again(finish: &Finish<'_>, run: RunId) {
    let (archive, runtime) = (finish.archive, &finish.surroundings.runtime);
    let (listings, _) = runtime.block_on(archive.list_everywhere(&archive.names.run_prefix(run), RUN_OBJECTS_MAX));
    let listed: BTreeSet<ObjectName> = listings
        .into_values()
        .flat_map(|listing| listing.entries)
        .map(|entry| entry.name)
        .collect();
    for name in listed {
        let accept = |bytes: &bytes::Bytes| {
            let object = SignedObject::from_bytes(bytes, ENVELOPE_BYTES_MAX).ok()?;
            let envelope = Envelope::from_bytes(object.record_bytes()).ok()?;
            let place = archive.names.run_object(run, RunObject::Envelope, Tag::of(bytes));
            (envelope.run == run && place == name).then(|| bytes.clone())
        };
        if !name.file_name().starts_with("envelope.") {
            continue;
        }
        if let (Some(object), _) = runtime.block_on(archive.fetch(&name, ENVELOPE_BYTES_MAX, accept)) {
            runtime.block_on(publish(&archive.sites, &name, &object));
        }
    }
}
