//! Manifests written and read back, good and bad.

use std::{collections::HashMap, convert::Infallible};

use exclave_model::{ChunkId, ChunkRef, Codec, Content, Entry, EntryKind, EntryPath, Extent, RunId};

use super::*;

mod hostile;

const KEY: [u8; 32] = [7; 32];
const CAP: usize = 4 << 20;

/// Pages by the hash of their bytes, as an archive has them by chunk id.
#[derive(Default)]
struct Store {
    pages: HashMap<ChunkId, Vec<u8>>,
    fetched: usize,
}

impl Store {
    fn put(&mut self, page: &[u8]) -> Result<ChunkRef, Infallible> {
        let id = ChunkId::from_bytes(*blake3::hash(page).as_bytes());
        self.pages.insert(id, page.to_vec());
        Ok(ChunkRef {
            id,
            ..reference(0, u32::try_from(page.len()).unwrap())
        })
    }

    fn get(&mut self, page: &ChunkRef) -> Result<Vec<u8>, Lost> {
        self.fetched += 1;
        self.pages.get(&page.id).cloned().ok_or(Lost)
    }

    fn write(&mut self, entries: impl IntoIterator<Item = Entry>) -> Root {
        let mut writer = PageWriter::new(&KEY, CAP);
        for entry in entries {
            writer.append(entry, &mut |page| self.put(page)).unwrap();
        }
        writer.finish(&mut |page| self.put(page)).unwrap()
    }

    fn read(&mut self, root: Root) -> Result<Vec<Entry>, ReadError<Lost>> {
        PageReader::new(root)
            .entries(|page: &ChunkRef| self.get(page))
            .collect()
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("lost")]
struct Lost;

fn reference(number: u32, raw: u32) -> ChunkRef {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_le_bytes());
    ChunkRef {
        run: RunId::from_bytes([(number / 1000 % 7) as u8; 16]),
        ordinal: number / 100,
        offset: number % 100 * 1000,
        stored: raw,
        raw,
        codec: Codec::Raw,
        id: ChunkId::from_bytes(id),
    }
}

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

fn file(at: &str, chunk: u32) -> Entry {
    let mut file = Entry::new(path(at), EntryKind::File);
    file.size = 100;
    file.content = Content::Extents(vec![Extent {
        offset: 0,
        length: 100,
        refs: vec![reference(chunk, 100)],
    }]);
    file
}

fn directory(at: &str) -> Entry {
    Entry::new(path(at), EntryKind::Directory)
}

/// A root, a hundred directories, and a thousand files in each.
fn hundred_thousand() -> Vec<Entry> {
    let mut entries = vec![directory("")];
    for outer in 0..100u32 {
        entries.push(directory(&format!("dir {outer:02}")));
        entries.extend((0..1000).map(|inner| file(&format!("dir {outer:02}/file {inner:04}"), outer * 1000 + inner)));
    }
    entries
}

#[test]
fn a_hundred_thousand_entries_read_back() {
    let entries = hundred_thousand();
    let mut store = Store::default();
    let root = store.write(entries.clone());
    assert!((1..=2).contains(&root.level), "level {}", root.level);
    assert!(
        (50..200).contains(&store.pages.len()),
        "{} pages of about a thousand entries",
        store.pages.len()
    );
    assert_eq!(
        Store::default().write(entries.clone()),
        root,
        "equal entries give equal pages"
    );
    assert!(store.read(root).unwrap() == entries);
    assert_eq!(store.fetched, store.pages.len());
}

#[test]
fn an_insertion_changes_the_pages_on_its_way() {
    let entries = hundred_thousand();
    let mut store = Store::default();
    let root = store.write(entries.clone());
    for at in [
        "dir 00/a",
        "dir 50/file 0500a",
        "dir 99/z",
        "zz",
        "dir 17/file 0000/never",
    ] {
        let before = store.pages.len();
        let mut changed = entries.clone();
        let place = changed.partition_point(|entry| entry.path < path(at));
        changed.insert(place, file(at, 1));
        store.write(changed);
        let new = store.pages.len() - before;
        assert!(
            (1..=2 * (usize::from(root.level) + 1)).contains(&new),
            "{at}: {new} new pages"
        );
    }
}

#[test]
fn another_key_gives_other_boundaries() {
    let mut store = Store::default();
    let entries = hundred_thousand();
    let root = store.write(entries.clone());
    let pages = store.pages.len();
    let mut writer = PageWriter::new(&[8; 32], CAP);
    for entry in entries {
        writer.append(entry, &mut |page| store.put(page)).unwrap();
    }
    assert_ne!(writer.finish(&mut |page| store.put(page)).unwrap(), root);
    assert!(store.pages.len() > pages + 40);
}

#[test]
fn pages_stay_below_their_cap() {
    let mut store = Store::default();
    let mut writer = PageWriter::new(&KEY, 1); // raised to the least
    let long = "n".repeat(250);
    let entries: Vec<_> = (0..3000)
        .map(|number| directory(&format!("{long}/{long}/{long}/{number:05}")))
        .collect();
    for entry in &entries {
        writer.append(entry.clone(), &mut |page| store.put(page)).unwrap();
    }
    let root = writer.finish(&mut |page| store.put(page)).unwrap();
    assert!(store.pages.values().all(|page| page.len() <= PAGE_CAP_MIN));
    assert!(store.read(root).unwrap() == entries);
}

#[test]
fn one_entry_is_a_manifest_and_none_is_not() {
    let mut store = Store::default();
    let root = store.write([directory("")]);
    assert_eq!(root.level, 0);
    assert_eq!(store.read(root).unwrap(), [directory("")]);
    let empty = PageWriter::new(&KEY, CAP).finish(&mut |page| store.put(page));
    assert!(matches!(empty, Err(WriteError::Empty)));
}

#[test]
fn order_is_the_writers_duty() {
    let mut writer = PageWriter::new(&KEY, CAP);
    let mut store = Store::default();
    writer.append(directory("b"), &mut |page| store.put(page)).unwrap();
    for at in ["b", "a", ""] {
        let refused = writer.append(directory(at), &mut |page| store.put(page));
        assert!(matches!(refused, Err(WriteError::OutOfOrder { .. })), "{at:?}");
    }
}

#[test]
fn a_store_that_fails_is_heard() {
    let mut writer = PageWriter::new(&KEY, CAP);
    writer.append(directory("b"), &mut |_| Err(Lost)).unwrap();
    assert!(matches!(
        writer.finish(&mut |_| Err(Lost)),
        Err(WriteError::Store(Lost))
    ));
}

/// A file of 100,000 chunks in three extents.
fn huge() -> Entry {
    let mut huge = Entry::new(path("huge"), EntryKind::File);
    let extent = |offset: u64, chunks: std::ops::Range<u32>| Extent {
        offset,
        length: u64::from(chunks.end - chunks.start) << 20,
        refs: chunks.map(|number| reference(number, 1 << 20)).collect(),
    };
    let extents = vec![
        extent(0, 0..40_000),
        extent(50_000 << 20, 40_000..40_001),
        extent(60_000 << 20, 40_001..100_000),
    ];
    huge.size = 200_000 << 20;
    huge.content = Content::Extents(extents);
    huge
}

/// The chunks of extents with their positions, which is what they mean; where extents are cut is not.
fn chunks(extents: impl IntoIterator<Item = Extent>) -> Vec<(u64, ChunkRef)> {
    let mut chunks = Vec::new();
    for extent in extents {
        let mut offset = extent.offset;
        for chunk in extent.refs {
            chunks.push((offset, chunk));
            offset += u64::from(chunk.raw);
        }
        assert_eq!(offset, extent.offset + extent.length);
    }
    chunks
}

#[test]
fn a_huge_file_has_pages_of_its_own() {
    let mut store = Store::default();
    let root = store.write([directory(""), huge(), file("next", 1)]);
    let entries = store.read(root).unwrap();
    let Content::Paged(pages) = &entries[1].content else {
        panic!("100,000 references are a long list")
    };
    assert!(
        (10..60).contains(&pages.len()),
        "{} pages of about 4,096 references",
        pages.len()
    );
    let reader = ExtentReader::new(&entries[1]);
    let read = chunks(reader.extents(|page: &ChunkRef| store.get(page)).map(Result::unwrap));
    let Content::Extents(written) = huge().content else {
        unreachable!()
    };
    assert!(read == chunks(written));
    let inline = ExtentReader::new(&entries[2]);
    assert_eq!(inline.extents(|page: &ChunkRef| store.get(page)).count(), 1);
}

#[test]
fn a_chunk_in_the_midst_changes_one_page_of_a_huge_file() {
    let mut store = Store::default();
    let mut write = |skip: Option<u32>| {
        let mut content = ContentWriter::new(&KEY, CAP);
        for (position, number) in (0..100_000).filter(|number| Some(*number) != skip).enumerate() {
            let at = (position as u64) << 20;
            content
                .push(at, reference(number, 1 << 20), &mut |page| store.put(page))
                .unwrap();
        }
        let Content::Paged(pages) = content.finish(&mut |page| store.put(page)).unwrap() else {
            panic!("long")
        };
        pages
    };
    let before = write(None);
    let replaced = {
        let mut content = ContentWriter::new(&KEY, CAP);
        for number in 0..100_000u32 {
            let chunk = reference(if number == 50_000 { 999_999 } else { number }, 1 << 20);
            content
                .push(u64::from(number) << 20, chunk, &mut |page| store.put(page))
                .unwrap();
        }
        let Content::Paged(pages) = content.finish(&mut |page| store.put(page)).unwrap() else {
            panic!("long")
        };
        pages
    };
    let known: Vec<_> = before.iter().map(|page| page.id).collect();
    let new = replaced.iter().filter(|page| !known.contains(&page.id)).count();
    assert!((1..=3).contains(&new), "{new} new pages");
}

#[test]
fn chunks_of_a_file_come_in_order() {
    let mut content = ContentWriter::new(&KEY, CAP);
    let mut store = Store::default();
    content.push(5, reference(1, 10), &mut |page| store.put(page)).unwrap();
    let overlap = content.push(14, reference(2, 10), &mut |page| store.put(page));
    assert!(matches!(overlap, Err(WriteError::Overlap { offset: 14, end: 15 })));
    let beyond = content.push(u64::MAX, reference(2, 10), &mut |page| store.put(page));
    assert!(matches!(beyond, Err(WriteError::Overlap { .. })));
    content.push(15, reference(2, 10), &mut |page| store.put(page)).unwrap();
    content.push(40, reference(3, 10), &mut |page| store.put(page)).unwrap();
    let Content::Extents(extents) = content.finish(&mut |page| store.put(page)).unwrap() else {
        panic!("short")
    };
    assert_eq!(
        extents.iter().map(|it| (it.offset, it.length)).collect::<Vec<_>>(),
        [(5, 20), (40, 10)]
    );
}

#[test]
fn a_part_is_read_with_few_pages() {
    let entries = hundred_thousand();
    let mut store = Store::default();
    let root = store.write(entries.clone());
    for at in [
        "",
        "dir 00",
        "dir 42",
        "dir 42/file 0999",
        "dir 99",
        "dir 42/none",
        "dir 4",
        "zz",
    ] {
        let at = path(at);
        let expected: Vec<_> = entries
            .iter()
            .filter(|entry| at.contains(&entry.path))
            .cloned()
            .collect();
        store.fetched = 0;
        let read: Vec<_> = PageReader::below(root, &at)
            .entries(|page: &ChunkRef| store.get(page))
            .map(Result::unwrap)
            .collect();
        assert!(read == expected, "{at}: {} of {}", read.len(), expected.len());
        let needed = 4 + 2 * usize::from(root.level) + expected.len() / 300;
        assert!(store.fetched <= needed, "{at}: {} pages fetched", store.fetched);
    }
}

#[test]
fn seeking_goes_forward_only() {
    let entries = hundred_thousand();
    let mut store = Store::default();
    let root = store.write(entries);
    let mut reader = PageReader::new(root);
    let mut next = |reader: &mut PageReader| {
        reader
            .next_entry(&mut |page: &ChunkRef| store.get(page))
            .unwrap()
            .map(|entry| entry.path.to_string())
    };
    assert_eq!(next(&mut reader).as_deref(), Some("."));
    for (to, found) in [
        ("dir 00/file 0003", Some("dir 00/file 0003")),
        ("dir 00/file 0003", Some("dir 00/file 0004")),
        ("dir 77/file 0500x", Some("dir 77/file 0501")),
        ("dir 10", Some("dir 77/file 0502")),
        ("dir 99/file 0999", Some("dir 99/file 0999")),
        ("dir 99/file 0999", None),
    ] {
        reader.seek(&path(to));
        assert_eq!(next(&mut reader).as_deref(), found, "{to}");
    }
    assert!(store.fetched < 15, "{} pages fetched", store.fetched);
}
