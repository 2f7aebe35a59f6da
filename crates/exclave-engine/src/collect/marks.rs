//! Marks, as a writer reads them: what must not be reused.
//!
//! Anyone with a credential to put can lay things below `marks/`; a reaper's signature makes a mark. It counts under any
//! version of the charter that names the reaper, also after a revocation: to obey a mark too many costs a second upload,
//! to miss one costs a snapshot. For the same reason a site counts as read only when it gave what it lists.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use exclave_model::{
    LiveSet, Mark, ObjectName, RecordHash, RunId, RunStripes, SignedObject, SiteId, Tag, limit::RECORD_BYTES_MAX,
};
use exclave_site::Class;
use futures::stream::{self, StreamExt};

use crate::archive::Archive;

/// Marks that one site may list: a weekly collection for two centuries. A site that lists more counts as not read.
const MARKS_MAX: usize = 10_000;

/// Marks that are fetched at the same time; each may have 16 MiB.
const AT_ONCE: usize = 4;

/// Everything that reapers marked, as far as these sites show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Stripes that nobody may reuse.
    pub(crate) stripes: BTreeMap<RunId, LiveSet>,
    /// When heads and charters were first seen, as reapers remember it.
    pub(crate) receipts: BTreeMap<RecordHash, i64>,
    /// Sites whose marks were all read.
    pub(crate) read_from: BTreeSet<SiteId>,
}

impl Marks {
    /// Reads the marks at every site.
    pub(crate) async fn read(archive: &Archive) -> Self {
        let (listings, _) = archive.list_everywhere(&archive.names.marks_prefix(), MARKS_MAX).await;
        let mut marks = Self::default();
        let mut listed: BTreeMap<ObjectName, BTreeSet<usize>> = BTreeMap::new();
        for (at, listing) in listings {
            let Some(site) = archive.sites.get(at).and_then(|handle| handle.id) else {
                continue;
            };
            if listing.complete {
                marks.read_from.insert(site);
            }
            for entry in listing.entries {
                listed.entry(entry.name).or_default().insert(at);
            }
        }
        let fetches = stream::iter(listed).map(|(name, at)| async move { fetch(archive, &name, at).await });
        let mut fetches = std::pin::pin!(fetches.buffer_unordered(AT_ONCE));
        while let Some((mark, unread)) = fetches.next().await {
            match mark {
                Some(mark) => marks.add(mark),
                // Nobody gave a mark: whoever did not answer may have one.
                None => marks.read_from.retain(|site| !unread.contains(site)),
            }
        }
        marks
    }

    fn add(&mut self, mark: Mark) {
        for stripes in mark.stripes {
            self.stripes.entry(stripes.run).or_default().merge(&stripes.stripes);
        }
        for receipt in mark.receipts {
            let known = self.receipts.entry(receipt.record).or_insert(receipt.at);
            *known = receipt.at.min(*known);
        }
    }

    /// The marked ones of these stripes.
    pub(crate) fn among(&self, stripes: &RunStripes) -> LiveSet {
        let marked = self.stripes.get(&stripes.run);
        marked.map_or_else(LiveSet::new, |marked| marked.common(&stripes.stripes))
    }
}

/// The mark under a name, and the sites that list it and gave no answer.
async fn fetch(archive: &Archive, name: &ObjectName, at: BTreeSet<usize>) -> (Option<Mark>, BTreeSet<SiteId>) {
    let mut unread = BTreeSet::new();
    for handle in at.iter().filter_map(|at| archive.sites.get(*at)) {
        match handle.site.get(name, RECORD_BYTES_MAX as u64).await {
            Ok(bytes) => {
                if let Some(mark) = verify_mark(archive, name, &bytes) {
                    return (Some(mark), BTreeSet::new());
                }
            }
            Err(error) if error.class() == Class::TooLong => {}
            Err(_) => unread.extend(handle.id),
        }
    }
    (None, unread)
}

/// The mark that an object is under its name.
pub(crate) fn verify_mark(archive: &Archive, name: &ObjectName, bytes: &Bytes) -> Option<Mark> {
    let object = SignedObject::from_bytes(bytes, RECORD_BYTES_MAX).ok()?;
    let mark = exclave_seal::verify_mark(&object, &archive.charters).ok()?;
    (archive.names.mark(Tag::of(bytes)) == *name).then_some(mark)
}

#[cfg(test)]
mod tests;
