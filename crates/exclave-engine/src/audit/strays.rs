//! What lies at sites and no valid head or ledger names. It costs space and harms nobody: runs that died leave such
//! things, and so may strangers. Listed, counted, and no part of the verdict.

use exclave_model::{ObjectName, Prefix, RunId, ShardName, SiteId, Tag};

use super::{Auditor, scope::Scope, stripes::Walk};
use crate::fetch::ledger::Line;

/// Names that are kept.
const STRAYS_KEPT_MAX: usize = 100;

/// Names in one folder of shards: 4,096 stripes, a shard of each, and as many repeated puts.
const FOLDER_NAMES_MAX: usize = 2 * 4096;

/// Runs, or folders of one run, that a site may list.
const FOLDERS_MAX: usize = 1 << 20;

/// The places of an archive that hold something (FORMAT.md section 2), the reserved ones included.
const PLACES: [&str; 14] = [
    "charter", "sites", "runs", "shards", "heads", "grants", "datasets", "names", "marks", "sweeps", "holds",
    "reports", "log", "kit",
];

/// What nobody names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strays {
    /// Names and folders of the first ones, with the site where a listing showed them; each folder counts once.
    pub first: Vec<String>,
    /// All.
    pub total: u64,
}

impl Strays {
    /// Counts a record, when all datasets are audited: else it may be another's.
    pub(super) fn add(&mut self, counts: bool, name: &ObjectName) {
        if counts {
            self.push(name.to_string());
        }
    }

    fn push(&mut self, name: String) {
        self.total += 1;
        if self.first.len() < STRAYS_KEPT_MAX {
            self.first.push(name);
        }
    }
}

/// Lists what each site has beside what it should have.
pub(super) async fn look(auditor: &mut Auditor<'_>, scope: &Scope) {
    if auditor.request.datasets.is_some() {
        return;
    }
    for at in auditor.desk.positions() {
        if auditor.stops() {
            return;
        }
        let Some(id) = auditor.desk.handle(at).and_then(|handle| handle.id) else {
            continue;
        };
        let root = auditor.desk.archive.names.root_prefix();
        let names = children(auditor, at, &root).await;
        for place in names.iter().filter(|place| !PLACES.contains(&last(place).as_str())) {
            stray(auditor, at, place.as_str());
        }
        for place in names
            .iter()
            .filter(|place| matches!(last(place).as_str(), "shards" | "runs"))
        {
            for folder in children(auditor, at, place).await {
                let run = last(&folder).parse::<RunId>().ok();
                match run.and_then(|run| scope.runs.get(&run)) {
                    None => stray(auditor, at, folder.as_str()),
                    Some(_) if last(place) == "runs" => {}
                    Some(run) => {
                        let mut walk = Walk::of(auditor, run, None);
                        for folder in children(auditor, at, &folder).await {
                            shards(auditor, &mut walk, at, id, &folder).await;
                        }
                    }
                }
            }
        }
    }
}

/// The last part of a prefix.
fn last(prefix: &Prefix) -> String {
    let text = prefix.as_str().trim_end_matches('/');
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

async fn children(auditor: &mut Auditor<'_>, at: usize, prefix: &Prefix) -> Vec<Prefix> {
    let Some(handle) = auditor.desk.handle(at) else {
        return Vec::new();
    };
    let site = handle.site.clone();
    // A site that does not list was told when its records were looked for.
    let Ok(children) = site.list_children(prefix, FOLDERS_MAX).await else {
        return Vec::new();
    };
    for entry in &children.entries {
        stray(auditor, at, entry.name.as_str());
    }
    children.prefixes
}

/// The shards that a site lists in one folder of a run.
async fn shards(auditor: &mut Auditor<'_>, walk: &mut Walk<'_>, at: usize, id: SiteId, folder: &Prefix) {
    let Some(handle) = auditor.desk.handle(at) else { return };
    let site = handle.site.clone();
    let Ok(listing) = site.list(folder, FOLDER_NAMES_MAX).await else {
        return;
    };
    for entry in listing.entries {
        let shard = ShardName::parse(&auditor.desk.archive.names, &entry.name);
        let named = match shard {
            Some(shard) => walk
                .line(shard.ordinal)
                .await
                .is_ok_and(|line| is_named(&line, id, &shard)),
            None => false,
        };
        if !named {
            stray(auditor, at, entry.name.as_str());
        }
    }
}

/// True when a ledger says that this shard lies at this site.
fn is_named(line: &Line, site: SiteId, shard: &ShardName) -> bool {
    let index = usize::from(shard.index);
    let hash = line.record.payloads.get(index);
    line.layout.get(index) == Some(&site) && hash.is_some_and(|hash| Tag::of_hash(hash.as_bytes()) == shard.tag)
}

fn stray(auditor: &mut Auditor<'_>, at: usize, name: &str) {
    let site = auditor.desk.name_of(at);
    auditor.strays.push(format!("{site}: {name}"));
}
