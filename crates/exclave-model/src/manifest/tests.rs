use super::*;

fn reference(run: u8, raw: u32) -> ChunkRef {
    ChunkRef {
        run: RunId::from_bytes([run; 16]),
        ordinal: 3,
        offset: 70_000,
        stored: raw,
        raw,
        codec: Codec::Raw,
        id: ChunkId::from_bytes([run; 32]),
    }
}

fn file(path: &str, extents: Vec<Extent>) -> Entry {
    let mut entry = Entry::new(EntryPath::parse(path.as_bytes()).unwrap(), EntryKind::File);
    entry.size = extents.last().map_or(0, |last| last.offset + last.length);
    entry.content = Content::Extents(extents);
    entry
}

fn sample() -> Vec<Entry> {
    let mut directory = Entry::new(EntryPath::root(), EntryKind::Directory);
    directory.xattrs = vec![(b"user.a".to_vec(), vec![1]), (b"user.b".to_vec(), vec![])];
    let mut link = Entry::new(EntryPath::parse(b"l\xff").unwrap(), EntryKind::Symlink);
    link.link_target = Some(b"../x".to_vec());
    vec![
        directory,
        file(
            "a",
            vec![
                Extent {
                    offset: 0,
                    length: 9,
                    refs: vec![reference(1, 4), reference(2, 5)],
                },
                Extent {
                    offset: 100,
                    length: 7,
                    refs: vec![reference(1, 7)],
                },
            ],
        ),
        link,
    ]
}

#[test]
fn pages_read_back() {
    let entries = Page::Entries(sample());
    let child = Child {
        first: EntryPath::root(),
        page: reference(9, 50),
    };
    let children = Page::Children {
        level: 2,
        children: vec![child],
    };
    let extents = Page::Extents(vec![Extent {
        offset: 5,
        length: 7,
        refs: vec![reference(1, 7)],
    }]);
    for page in [entries, children, extents] {
        let bytes = page.encode().unwrap();
        assert_eq!(Page::decode(&bytes).unwrap(), page);
    }
}

#[test]
fn a_pages_runs_stand_in_any_order_twice_or_in_vain() {
    let page = Page::Entries(sample());
    let mut wire = page.to_wire();
    let (first, second) = (wire.runs[0], wire.runs[1]);
    wire.runs = vec![first, second, RunId::from_bytes([9; 16]), second, first];
    let WireItems::Entries(entries) = &mut wire.items else {
        panic!("entries")
    };
    let extents = entries.iter_mut().flat_map(|entry| entry.extents.iter_mut().flatten());
    for chunk in extents.flat_map(|extent| &mut extent.2) {
        chunk.0 = 4 - chunk.0;
    }
    let bytes = wire.to_bytes().unwrap();
    assert_ne!(bytes, page.encode().unwrap());
    assert_eq!(Page::decode(&bytes).unwrap(), page);
}

#[test]
fn encoded_size_is_bounded() {
    for entry in sample() {
        let bound = entry.encoded_bytes_max();
        assert!(Page::Entries(vec![entry]).encode().unwrap().len() <= bound + 16);
    }
}

#[test]
fn unlawful_pages_are_refused() {
    let overlap = vec![
        Extent {
            offset: 0,
            length: 9,
            refs: vec![reference(1, 9)],
        },
        Extent {
            offset: 8,
            length: 9,
            refs: vec![reference(1, 9)],
        },
    ];
    let sum = vec![Extent {
        offset: 0,
        length: 9,
        refs: vec![reference(1, 8)],
    }];
    let mut short = file(
        "a",
        vec![Extent {
            offset: 0,
            length: 9,
            refs: vec![reference(1, 9)],
        }],
    );
    short.size = 8;
    let mut group = file("a", vec![]);
    group.link_group = Some(EntryPath::parse(b"b").unwrap());
    let cases = [
        vec![file("a", overlap)],
        vec![file("a", sum)],
        vec![short],
        vec![group],
        vec![file("b", vec![]), file("a", vec![])],
        vec![file("a", vec![]), file("a", vec![])],
        vec![],
    ];
    for (number, entries) in cases.into_iter().enumerate() {
        assert!(Page::Entries(entries).encode().is_err(), "case {number}");
    }
}

#[test]
fn roots_targets_and_sizes_are_lawful() {
    let target = |target: Vec<u8>| {
        let mut link = Entry::new(EntryPath::parse(b"l").unwrap(), EntryKind::Symlink);
        link.link_target = Some(target);
        link
    };
    let mut endless = file("a", vec![]);
    endless.size = FILE_BYTES_MAX + 1;
    for (entry, kind) in [
        (file("", vec![]), "bad-path"),
        (target(vec![]), "bad-path"),
        (target(b"a\0b".to_vec()), "bad-path"),
        (target(vec![b'x'; PATH_BYTES_MAX + 1]), "too-long"),
        (endless, "bad-record"),
    ] {
        let error = Page::Entries(vec![entry.clone()]).encode().unwrap_err();
        assert!(
            matches!(&error, RecordError::Unlawful { rule, .. } if rule.kind == kind),
            "{entry:?}: {error:?}"
        );
    }
    let longest = target(vec![b'x'; PATH_BYTES_MAX]);
    assert!(Page::Entries(vec![longest]).encode().is_ok());
}

#[test]
fn flipped_bits_never_panic_and_never_read_back_the_same() {
    let bytes = Page::Entries(sample()).encode().unwrap();
    let page = Page::decode(&bytes).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(Page::decode(&bad).ok().as_ref() != Some(&page), "byte {at} bit {bit}");
        }
    }
}
