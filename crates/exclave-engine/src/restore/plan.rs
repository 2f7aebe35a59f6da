//! What a restore would fetch from where: from references and layouts, without fetching data.

use std::collections::BTreeMap;

use exclave_dataset::page::ExtentReader;
use exclave_model::{ArchiveNames, ChunkRef, EntryKind, LiveSet, ObjectName, RunId, ShardName, SiteId, Tag};

use super::{
    Selection, Step, Walk,
    chunks::{ChunkReader, Pages},
    error::{ChunkError, RestoreError},
    root_of,
    stripes::Source,
};
use crate::{
    snapshot::{Snapshot, SnapshotInfo, Snapshots},
    surroundings::Surroundings,
};

/// What would be fetched from one site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SitePlan {
    /// Its name.
    pub name: String,
    /// Its id; none for a store without a plate.
    pub id: Option<SiteId>,
    /// Bytes of shard objects.
    pub bytes: u64,
    /// Shard objects.
    pub shards: u64,
    /// One of them, by which the site's rate can be measured.
    pub sample: Option<Sample>,
}

/// A shard object that would be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its name.
    pub name: ObjectName,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What a restore would fetch. An upper bound: stripes are counted whole, also those of which single groups would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// Which snapshot.
    pub snapshot: SnapshotInfo,
    /// Files selected.
    pub files: u64,
    /// Bytes of these files, holes included.
    pub bytes: u64,
    /// Stripes needed, those of the manifest included.
    pub stripes: u64,
    /// What each site would give, in the order of the archive's sites.
    pub sites: Vec<SitePlan>,
    /// Stripes with fewer than k shards at the sites of their layout that were handed in. They may still be found by
    /// name.
    pub short: u64,
    /// Stripes that no ledger describes, or whose key can't be had.
    pub unreadable: u64,
    /// Stretches of the manifest that can't be read.
    pub gaps: u64,
}

/// Adds up what a restore would fetch. Reads the manifest only when a part of it is selected.
pub fn plan_restore(
    snapshots: &Snapshots<'_>,
    snapshot: &Snapshot,
    selection: &Selection,
    surroundings: &Surroundings,
) -> Result<RestorePlan, RestoreError> {
    let mut reader = ChunkReader::new(snapshots, snapshot, Pages::Few, surroundings)?;
    let book = &snapshots.tables.book;
    let mut plan = RestorePlan {
        snapshot: snapshot.info.clone(),
        files: 0,
        bytes: 0,
        stripes: 0,
        sites: book
            .tallies()
            .into_iter()
            .map(|tally| SitePlan {
                name: tally.name,
                id: tally.id,
                ..SitePlan::default()
            })
            .collect(),
        short: 0,
        unreadable: 0,
        gaps: 0,
    };
    let needed = match selection.is_everything() {
        true => {
            plan.files = snapshot.info.counts.files;
            plan.bytes = snapshot.info.counts.bytes;
            let live = snapshot.table.runs().map(|entry| (entry.run, entry.live.clone()));
            live.collect()
        }
        false => needed_by(&mut reader, selection, &mut plan, surroundings)?,
    };
    for (run, stripes) in needed {
        for ordinal in stripes.iter() {
            if surroundings.progress.stop_asked() {
                return Err(RestoreError::Interrupted { entries: plan.files });
            }
            plan.stripes += 1;
            match reader.source(run, ordinal) {
                Ok(source) => plan.add(&source, &snapshots.archive.names),
                Err(_) => plan.unreadable += 1,
            }
        }
    }
    Ok(plan)
}

impl RestorePlan {
    /// The cheapest k shards of a stripe, as the restore itself would choose them.
    fn add(&mut self, source: &Source, names: &ArchiveNames) {
        let (record, book) = (&source.record, &source.book);
        let data = record.context.data;
        let mut shards: Vec<_> = (0u8..)
            .zip(&source.layout)
            .filter_map(|(index, id)| {
                let site = book.position(*id)?;
                let mut cost = book.cost(site);
                cost.parity = index >= data;
                Some((cost, site, index))
            })
            .collect();
        shards.sort_unstable();
        shards.truncate(usize::from(data));
        self.short += u64::from(shards.len() < usize::from(data));
        let bytes = record.context.payload.object_bytes() as u64;
        for (_, site, index) in shards {
            let Some(plan) = self.sites.get_mut(site) else { continue };
            plan.shards += 1;
            plan.bytes += bytes;
            // The longest one: in a short transfer the round trip is most of the time.
            if plan.sample.as_ref().is_none_or(|sample| sample.bytes < bytes) {
                plan.sample = record.payloads.get(usize::from(index)).map(|payload| Sample {
                    name: names.shard(&ShardName {
                        run: record.context.run,
                        ordinal: record.context.ordinal,
                        index,
                        tag: Tag::of_hash(payload.as_bytes()),
                        attempt: 0,
                    }),
                    bytes,
                });
            }
        }
    }
}

/// The stripes that a selection needs: of its entries' data, and of the pages that were read to find them.
fn needed_by(
    reader: &mut ChunkReader<'_>,
    selection: &Selection,
    plan: &mut RestorePlan,
    surroundings: &Surroundings,
) -> Result<BTreeMap<RunId, LiveSet>, RestoreError> {
    let mut needed: BTreeMap<RunId, LiveSet> = BTreeMap::new();
    let mut walk = Walk::new(root_of(reader.snapshot()), selection);
    loop {
        if surroundings.progress.stop_asked() {
            return Err(RestoreError::Interrupted { entries: plan.files });
        }
        let mut fetch = |page: &ChunkRef| -> Result<Vec<u8>, ChunkError> {
            needed.entry(page.run).or_default().insert(page.ordinal);
            reader.page(page)
        };
        let entry = match walk.next(&mut fetch) {
            Step::Entry(entry) if entry.kind == EntryKind::File => entry,
            Step::Entry(_) => continue,
            Step::Gap(_) => {
                plan.gaps += 1;
                continue;
            }
            Step::End => break,
        };
        plan.files += 1;
        plan.bytes = plan.bytes.saturating_add(entry.size);
        let mut extents = ExtentReader::new(&entry);
        // A list that can't be read shows in the restore; here its data is left out.
        while let Ok(Some(extent)) = extents.next_extent(&mut |page: &ChunkRef| {
            needed.entry(page.run).or_default().insert(page.ordinal);
            reader.page(page)
        }) {
            for chunk in extent.refs {
                needed.entry(chunk.run).or_default().insert(chunk.ordinal);
            }
        }
    }
    Ok(needed)
}
