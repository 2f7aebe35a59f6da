//! Run tables: which runs a snapshot needs, and which of their stripes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use exclave_model::{
    Anchor, ChunkRef, Head, Record, RecordHash, RunEntry, RunId, RunObject, RunPage, Tag,
    limit::{RECORD_BYTES_MAX, RUNS_PER_HEAD_MAX},
};

use crate::{
    fetch::{
        SiteBook,
        book::{Unavailable, lock},
    },
    survey::Survey,
};

/// Why a run table can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No site has one of its pages.
    #[error("a page of the run table is missing")]
    Page(#[from] Unavailable),
    /// Its runs are not ascending over all pages, or too many.
    #[error("the run table's {runs} runs are unsorted, doubled or more than {RUNS_PER_HEAD_MAX}")]
    Order {
        /// Runs in it.
        runs: usize,
    },
}

/// The runs of one head.
#[derive(Debug, Default)]
pub struct RunTable(BTreeMap<RunId, RunEntry>);

impl RunTable {
    /// What the head needs of a run.
    pub fn get(&self, run: RunId) -> Option<&RunEntry> {
        self.0.get(&run)
    }

    /// All runs, ascending.
    pub fn runs(&self) -> impl Iterator<Item = &RunEntry> {
        self.0.values()
    }

    /// True when a reference points to a stripe that the snapshot needs.
    pub fn is_live(&self, chunk: &ChunkRef) -> bool {
        self.get(chunk.run)
            .is_some_and(|entry| entry.live.contains(chunk.ordinal))
    }
}

/// Fetches run tables; heads that share their pages share the table.
#[derive(Debug)]
pub(crate) struct TableReader {
    anchor: Anchor,
    pub(crate) book: Arc<SiteBook>,
    /// The runs whose heads name a page: under one of them it lies.
    homes: HashMap<RecordHash, BTreeSet<RunId>>,
    tables: Mutex<HashMap<Vec<RecordHash>, Arc<RunTable>>>,
}

impl TableReader {
    pub(crate) fn new(anchor: Anchor, book: Arc<SiteBook>, survey: &Survey) -> Self {
        let mut homes: HashMap<RecordHash, BTreeSet<RunId>> = HashMap::new();
        for found in survey.found.values() {
            for page in &found.head.run_pages {
                homes.entry(*page).or_default().insert(found.head.run);
            }
        }
        Self {
            anchor,
            book,
            homes,
            tables: Mutex::default(),
        }
    }

    pub(crate) async fn read(&self, head: &Head) -> Result<Arc<RunTable>, TableError> {
        if let Some(table) = lock(&self.tables).get(&head.run_pages) {
            return Ok(Arc::clone(table));
        }
        let mut table = RunTable::default();
        for hash in &head.run_pages {
            let page = self.page(head.run, *hash).await?;
            for entry in page.runs {
                let follows = table.0.last_key_value().is_none_or(|(last, _)| *last < entry.run);
                let runs = table.0.len() + 1;
                if !follows || runs > RUNS_PER_HEAD_MAX {
                    return Err(TableError::Order { runs });
                }
                table.0.insert(entry.run, entry);
            }
        }
        let table = Arc::new(table);
        lock(&self.tables).insert(head.run_pages.clone(), Arc::clone(&table));
        Ok(table)
    }

    /// The pages that heads name, each with a run under which it may lie.
    pub(crate) fn pages(&self) -> Vec<(RecordHash, RunId)> {
        let homes = self.homes.iter();
        homes.filter_map(|(page, runs)| Some((*page, *runs.first()?))).collect()
    }

    /// A page lies under the run of the first head that names it, most often this one.
    pub(crate) async fn page(&self, own: RunId, hash: RecordHash) -> Result<RunPage, TableError> {
        let others = self.homes.get(&hash).into_iter().flatten().copied();
        let homes = std::iter::once(own).chain(others.filter(|run| *run != own));
        let mut missing = None;
        for home in homes {
            let tag = Tag::of_hash(hash.as_bytes());
            let name = self.book.names().run_object(home, RunObject::Live, tag);
            let read = |bytes: &bytes::Bytes| {
                let page = (RecordHash::of(bytes) == hash).then(|| RunPage::from_bytes(bytes).ok())??;
                (page.anchor == self.anchor).then_some(page)
            };
            match self.book.small(&name, RECORD_BYTES_MAX, read).await {
                Ok(page) => return Ok(page),
                Err(unavailable) => missing = missing.or(Some(unavailable)),
            }
        }
        // The loop ran at least for the head's own run.
        Err(TableError::Page(missing.unwrap_or_else(|| Unavailable {
            object: hash.to_hex(),
            answers: Vec::new(),
        })))
    }
}
