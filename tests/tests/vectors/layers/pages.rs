//! Pages of the manifest (FORMAT.md section 12), read as a restore reads them: below a parent, by the manifest's reader.

use std::collections::BTreeMap;

use exclave_dataset::page::{ExtentReader, PageReader, ReadError, Root};
use exclave_model::{
    ChunkId, ChunkRef, Codec, Content, Entry, EntryKind, EntryPath, Extent, LiveSet, RunId,
    limit::{FILE_BYTES_MAX, PAGE_DEPTH_MAX},
    manifest::{Child, EXTENTS_LEVEL, Page},
};
use exclave_tests::vector::{Vector, unhex};

use super::Outcome;
use crate::kinds::{Refused, need};

/// Pages below the one that is evaluated aren't there.
#[derive(Debug, thiserror::Error)]
#[error("no such page")]
pub struct NoSuchPage;

pub fn manifest(vector: &Vector) -> Outcome {
    let level = u8::try_from(vector.number("level").unwrap()).unwrap();
    match level {
        EXTENTS_LEVEL => read_extents(&vector.body)?,
        _ => read_below_parent(&vector.body, level, vector.bytes("first"))?,
    }
    let live = live_sets(vector);
    for reference in references(&Page::decode(&vector.body)?) {
        let lives = live
            .get(&reference.run)
            .is_some_and(|set| set.contains(reference.ordinal));
        need(lives, "outside-live-set")?;
    }
    Ok(vector.body.clone())
}

fn live_sets(vector: &Vector) -> BTreeMap<RunId, LiveSet> {
    let items = vector.text("live").unwrap_or_default().split(';');
    items
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (run, numbers) = item.split_once('=').unwrap();
            let numbers: Vec<u64> = numbers.split(',').map(|number| number.parse().unwrap()).collect();
            let run = RunId::from_bytes(unhex(run).try_into().unwrap());
            (run, LiveSet::from_numbers(&numbers).unwrap())
        })
        .collect()
}

/// A reference to the `number`-th page that is made up here.
fn made_up(number: u32) -> ChunkRef {
    ChunkRef {
        run: RunId::from_bytes([0; 16]),
        ordinal: number,
        offset: 0,
        stored: 1,
        raw: 1,
        codec: Codec::Raw,
        id: ChunkId::from_bytes([0; 32]),
    }
}

/// Reads the page as the root, or below a parent that names its first path, until a page is asked for that isn't there.
fn read_below_parent(body: &[u8], level: u8, first: Option<Vec<u8>>) -> Result<(), Refused> {
    const PARENT: u32 = 0;
    const PAGE: u32 = 1;
    let parent_level = level + 1;
    let parent = first
        .filter(|_| usize::from(parent_level) < PAGE_DEPTH_MAX)
        .map(|first| {
            let first = EntryPath::parse(&first).unwrap();
            let page = made_up(PAGE);
            let children = vec![Child { first, page }];
            let level = parent_level;
            Page::Children { level, children }.encode().unwrap()
        });
    let root = match parent {
        Some(_) => Root {
            level: parent_level,
            page: made_up(PARENT),
        },
        None => Root {
            level,
            page: made_up(PAGE),
        },
    };
    let mut fetched = 0;
    let fetch = |reference: &ChunkRef| {
        fetched += 1;
        match (reference.ordinal, &parent) {
            (PARENT, Some(parent)) if fetched == 1 => Ok(parent.clone()),
            (PAGE, _) if fetched == 1 + usize::from(parent.is_some()) => Ok(body.to_vec()),
            _ => Err(NoSuchPage),
        }
    };
    for entry in PageReader::new(root).entries(fetch) {
        match entry {
            Ok(_) | Err(ReadError::Fetch(NoSuchPage)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads the page as the only one of a file of the greatest size.
fn read_extents(body: &[u8]) -> Result<(), Refused> {
    let mut entry = Entry::new(EntryPath::parse(b"file").unwrap(), EntryKind::File);
    entry.size = FILE_BYTES_MAX;
    entry.content = Content::Paged(vec![made_up(0)]);
    let fetch = |_: &ChunkRef| Ok::<_, NoSuchPage>(body.to_vec());
    ExtentReader::new(&entry)
        .extents(fetch)
        .try_for_each(|extent| extent.map(|_| ()))?;
    Ok(())
}

fn references(page: &Page) -> Vec<ChunkRef> {
    let of_extents = |extents: &[Extent]| {
        extents
            .iter()
            .flat_map(|extent| extent.refs.clone())
            .collect::<Vec<_>>()
    };
    match page {
        Page::Children { children, .. } => children.iter().map(|child| child.page).collect(),
        Page::Extents(extents) => of_extents(extents),
        Page::Entries(entries) => entries
            .iter()
            .flat_map(|entry| match &entry.content {
                Content::Extents(extents) => of_extents(extents),
                Content::Paged(pages) => pages.clone(),
            })
            .collect(),
    }
}
