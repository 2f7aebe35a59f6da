//! Pages that are lawful each for itself, and together are not.

use exclave_model::{
    ChunkRef, Content, Entry, Extent,
    manifest::{Child, Page},
};

use super::{
    super::{ExtentReader, ReadError, Root},
    Lost, Store, directory, file, path, reference,
};

/// Writes pages by hand, lawful each for itself.
fn put(store: &mut Store, page: Page) -> ChunkRef {
    let bytes = page.encode().unwrap();
    store.put(&bytes).unwrap()
}

fn child(first: &str, page: ChunkRef) -> Child {
    Child {
        first: path(first),
        page,
    }
}

#[test]
fn hostile_trees_of_pages_are_refused() {
    let mut store = Store::default();
    let leaf =
        |store: &mut Store, paths: &[&str]| put(store, Page::Entries(paths.iter().map(|at| directory(at)).collect()));
    let a = leaf(&mut store, &["a", "b"]);
    let c = leaf(&mut store, &["c"]);
    let late = leaf(&mut store, &["b", "d"]);
    let extents = put(
        &mut store,
        Page::Extents(vec![Extent {
            offset: 0,
            length: 1,
            refs: vec![reference(1, 1)],
        }]),
    );
    let mut index = |level, children| put(&mut store, Page::Children { level, children });
    let good = index(1, vec![child("a", a), child("c", c)]);
    let wrong_first = index(1, vec![child("a", a), child("b", c)]);
    let out_of_order = index(1, vec![child("a", a), child("b", late)]);
    let twice = index(1, vec![child("a", a), child("a/x", a)]);
    let skips = index(2, vec![child("a", a)]);
    let stays = index(1, vec![child("a", good)]);
    let to_extents = index(1, vec![child("a", extents)]);
    let wrong_index_first = index(2, vec![child("A", good)]);
    let nothing = index(1, vec![child("a", reference(4, 9))]);
    let top = index(2, vec![child("a", good)]);

    let mut read = |level, page| store.read(Root { level, page });
    assert_eq!(read(1, good).unwrap().len(), 3);
    assert_eq!(read(2, top).unwrap().len(), 3);
    type Check = fn(&ReadError<Lost>) -> bool;
    let wrong_level: Check = |error| matches!(error, ReadError::WrongLevel { .. });
    let cases: [(&str, u8, ChunkRef, Check); 12] = [
        ("another first path", 1, wrong_first, |error| {
            matches!(error, ReadError::WrongFirst { .. })
        }),
        ("another first path of an index", 2, wrong_index_first, |error| {
            matches!(error, ReadError::WrongFirst { .. })
        }),
        ("paths of two pages overlap", 1, out_of_order, |error| {
            matches!(error, ReadError::OutOfOrder { .. })
        }),
        ("a page twice", 1, twice, |error| {
            matches!(error, ReadError::WrongFirst { .. })
        }),
        ("a level is skipped", 2, skips, wrong_level),
        ("a level stays", 1, stays, wrong_level),
        ("extents among entries", 1, to_extents, wrong_level),
        ("extents as root", 0, extents, wrong_level),
        ("the head says another level", 1, a, wrong_level),
        ("too deep", 8, top, |error| {
            matches!(error, ReadError::TooDeep { level: 8 })
        }),
        ("level of extents", 255, extents, |error| {
            matches!(error, ReadError::TooDeep { level: 255 })
        }),
        ("a page is gone", 1, nothing, |error| {
            matches!(error, ReadError::Fetch(Lost))
        }),
    ];
    for (name, level, page, check) in cases {
        let error = read(level, page).unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
    }
}

#[test]
fn hostile_extents_pages_are_refused() {
    let mut store = Store::default();
    let mut page = |offset, length| {
        put(
            &mut store,
            Page::Extents(vec![Extent {
                offset,
                length,
                refs: vec![reference(1, length as u32)],
            }]),
        )
    };
    let (first, behind, over, far) = (page(0, 10), page(10, 10), page(9, 10), page(95, 10));
    let entries = put(&mut store, Page::Entries(vec![directory("a")]));
    let index = put(
        &mut store,
        Page::Children {
            level: 1,
            children: vec![child("a", entries)],
        },
    );
    let mut read = |pages: &[ChunkRef]| {
        let file = Entry {
            content: Content::Paged(pages.to_vec()),
            size: 100,
            ..file("a", 1)
        };
        let mut reader = ExtentReader::new(&file);
        let mut fetch = |page: &ChunkRef| store.get(page);
        let mut count = 0;
        loop {
            match reader.next_extent(&mut fetch) {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Ok(count),
                Err(error) => {
                    assert!(
                        matches!(reader.next_extent(&mut fetch), Ok(None)),
                        "an error is the end"
                    );
                    return Err(error);
                }
            }
        }
    };
    assert_eq!(read(&[first, behind]).unwrap(), 2);
    assert!(matches!(
        read(&[first, over]),
        Err(ReadError::Overlap { offset: 9, end: 10 })
    ));
    assert!(matches!(read(&[first, first]), Err(ReadError::Overlap { .. })));
    assert!(matches!(read(&[behind, first]), Err(ReadError::Overlap { .. })));
    assert!(matches!(
        read(&[far]),
        Err(ReadError::BeyondSize { end: 105, size: 100 })
    ));
    assert!(matches!(
        read(&[first, entries]),
        Err(ReadError::WrongLevel {
            expected: 255,
            found: 0
        })
    ));
    assert!(matches!(
        read(&[index]),
        Err(ReadError::WrongLevel {
            expected: 255,
            found: 1
        })
    ));
    assert!(matches!(read(&[reference(77, 1)]), Err(ReadError::Fetch(Lost))));
}

#[test]
fn damaged_pages_end_in_errors() {
    let mut store = Store::default();
    let root = store.write((0..300).map(|number| file(&format!("{number:03}"), number)));
    let good = store.read(root).unwrap();
    let bytes = store.pages[&root.page.id].clone();
    // A page would not pass the check of its chunk id; that it ends in order here too is a second line.
    for at in (0..bytes.len()).step_by(7) {
        for damaged in [bytes[..at].to_vec(), {
            let mut it = bytes.clone();
            it[at] ^= 0x80;
            it
        }] {
            store.pages.insert(root.page.id, damaged);
            if let Ok(read) = store.read(root) {
                assert!(read != good, "byte {at}");
            }
        }
    }
}
