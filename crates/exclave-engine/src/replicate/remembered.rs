//! An entry with its content, and which stripes that content needs: what the catalog keeps of a file.
//!
//! A long file's references lie in pages that an agent can't read back (it holds no key), so the stripes they name are
//! kept beside the entry: the head's live sets must cover them.

use exclave_catalog::FileState;
use exclave_dataset::walk::FileStat;
use exclave_model::{Content, Entry, LiveSet, RunId, RunStripes, Timestamp, manifest::Page};
use minicbor::{Decode, Encode};

/// An entry, its content's stripes, and the state it was read in.
pub(super) struct Remembered {
    pub(super) entry: Entry,
    /// Stripes that the content needs, beyond those that the entry itself names.
    pub(super) beyond: Vec<RunStripes>,
    pub(super) stat: Option<FileStat>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Kept {
    #[n(0)]
    version: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    page: Vec<u8>,
    #[n(2)]
    beyond: Vec<RunStripes>,
}

impl Remembered {
    pub(super) fn without_content(entry: Entry) -> Self {
        Self {
            entry,
            beyond: Vec::new(),
            stat: None,
        }
    }

    /// Reads what [`to_state`](Self::to_state) kept; `None` when it is anything else, which costs a read of the file.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let kept: Kept = minicbor::decode(bytes).ok()?;
        let Ok(Page::Entries(entries)) = Page::decode(&kept.page) else {
            return None;
        };
        let [entry] = <[Entry; 1]>::try_from(entries).ok()?;
        (kept.version == 1).then_some(Self {
            entry,
            beyond: kept.beyond,
            stat: None,
        })
    }

    /// What the catalog keeps; `None` for what is cheap to look at anew.
    pub(super) fn to_state(&self) -> Option<FileState> {
        let stat = self.stat?;
        let page = Page::Entries(vec![self.entry.clone()]).encode().ok()?;
        let kept = Kept {
            version: 1,
            page,
            beyond: self.beyond.clone(),
        };
        Some(FileState {
            path: self.entry.path.clone(),
            size: stat.size,
            mtime_ns: nanoseconds(stat.modified)?,
            ctime_ns: nanoseconds(stat.changed)?,
            inode: stat.inode,
            device: stat.device,
            entry: minicbor::to_vec(&kept).ok()?,
        })
    }

    /// Calls `note` for every stripe that the content needs.
    pub(super) fn each_stripe(&self, mut note: impl FnMut(RunId, u32)) {
        match &self.entry.content {
            Content::Extents(extents) => {
                for chunk in extents.iter().flat_map(|extent| &extent.refs) {
                    note(chunk.run, chunk.ordinal);
                }
            }
            Content::Paged(pages) => pages.iter().for_each(|page| note(page.run, page.ordinal)),
        }
        for stripes in &self.beyond {
            stripes.stripes.iter().for_each(|ordinal| note(stripes.run, ordinal));
        }
    }
}

/// Stripes by run, in the form that is kept.
pub(super) fn stripes_of(live: std::collections::BTreeMap<RunId, LiveSet>) -> Vec<RunStripes> {
    live.into_iter()
        .map(|(run, stripes)| RunStripes { run, stripes })
        .collect()
}

/// The file's state as the walk describes it; links and device are not compared.
pub(super) fn stat_of(state: &FileState) -> FileStat {
    FileStat {
        device: state.device,
        inode: state.inode,
        size: state.size,
        modified: timestamp(state.mtime_ns),
        changed: timestamp(state.ctime_ns),
        links: 1,
    }
}

const NANOS: i64 = 1_000_000_000;

/// Nanoseconds since 1970; `None` beyond the year 2262, which costs such a file a read each time.
fn nanoseconds(time: Timestamp) -> Option<i64> {
    time.secs.checked_mul(NANOS)?.checked_add(i64::from(time.nanos))
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp {
        secs: nanoseconds.div_euclid(NANOS),
        nanos: nanoseconds.rem_euclid(NANOS) as u32,
    }
}
