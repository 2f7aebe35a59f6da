//! What a restore promises to honest trees.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::Path,
    sync::Arc,
};

use exclave_model::{Entry, EntryKind, Timestamp};

use super::{
    Comparer, Difference, Existing, Options, Placed, Refusal, SinkError, SpecialModes, SpecialNodes, TreeWriter,
    Xattrs,
    beneath::lists_exactly,
    file::part_name,
    testing::{data, directory, entry, file, member, path, picture, restore, restore_into, symlink},
};

mod full;
mod tar;

fn replace() -> Options {
    Options {
        existing: Existing::Replace,
        ..Options::default()
    }
}

/// A tree with something of everything that needs no privilege.
fn sample() -> Vec<Entry> {
    let mut closed = directory(b"closed");
    closed.mode = 0o500;
    closed.modified = Timestamp { secs: 7, nanos: 1 };
    let mut early = file(b"closed/early");
    early.modified = Timestamp {
        secs: -5,
        nanos: 250_000_000,
    };
    early.mode = 0o400;
    let mut root = directory(b"");
    root.mode = 0o750;
    let mut tagged = file(b"tagged");
    tagged.xattrs = vec![
        (b"user.bytes".to_vec(), vec![0, 255, 10, 61]),
        (b"user.empty".to_vec(), vec![]),
    ];
    vec![
        root,
        member(b"a first", b"a first"),
        closed,
        early,
        symlink(b"closed/up", b"../a first"),
        directory(b"dir"),
        member(b"dir/second", b"a first"),
        file(b"empty\xff\xfe"),
        symlink(b"nowhere", b"/does/not/exist/\xff"),
        tagged,
        file("z\u{e4}h".as_bytes()),
    ]
}

/// True when the folder's file system takes user attributes.
fn takes_xattrs(folder: &Path) -> bool {
    xattr::set(folder, "user.probe", b"x").is_ok()
}

#[test]
fn a_tree_comes_back_with_everything() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let entries = sample();
    let summary = restore(&target, Options::default(), &entries).unwrap();
    assert_eq!(summary.problems, []);
    assert_eq!((summary.files, summary.hard_links), (5, 1));
    assert_eq!((summary.directories, summary.symlinks), (3, 2));

    let comparer = Comparer::open(&target, Options::default()).unwrap();
    let with_xattrs = takes_xattrs(folder.path());
    assert_eq!(summary.xattrs_skipped, if with_xattrs { 0 } else { 2 });
    for entry in &entries {
        let mut differences = comparer.compare(entry);
        differences.retain(|difference| with_xattrs || !matches!(difference, Difference::Xattr { .. }));
        assert_eq!(differences, [], "{}", entry.path);
        if entry.kind == EntryKind::File {
            let at = target.join(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
            assert_eq!(fs::read(at).unwrap(), data(entry), "{}", entry.path);
        }
    }
    assert_eq!(fs::metadata(target.join("a first")).unwrap().nlink(), 2);
}

#[test]
fn the_comparer_names_each_difference() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let entries = sample();
    restore(&target, Options::default(), &entries).unwrap();
    let comparer = Comparer::open(&target, Options::default()).unwrap();
    let find = |at: &[u8]| {
        entries
            .iter()
            .find(|entry| entry.path.as_bytes() == at)
            .unwrap()
            .clone()
    };
    let set_time = |name: &str| {
        let file = fs::File::open(target.join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 987_654_321))
            .unwrap();
    };

    fs::write(target.join("a first"), "other").unwrap();
    set_time("a first");
    assert_eq!(
        comparer.compare(&find(b"a first")),
        [Difference::Size { expected: 7, found: 5 }]
    );
    fs::set_permissions(target.join("dir"), fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(
        comparer.compare(&find(b"dir")),
        [Difference::Mode {
            expected: 0o755,
            found: 0o711
        }]
    );
    fs::remove_file(target.join("nowhere")).unwrap();
    assert_eq!(comparer.compare(&find(b"nowhere")), [Difference::Missing]);
    fs::create_dir(target.join("nowhere")).unwrap();
    let kind = Difference::Kind {
        expected: EntryKind::Symlink,
        found: Some(EntryKind::Directory),
    };
    assert_eq!(comparer.compare(&find(b"nowhere")), [kind]);
    fs::remove_file(target.join("dir/second")).unwrap();
    fs::write(target.join("dir/second"), "a first").unwrap();
    set_time("dir/second");
    assert_eq!(
        comparer.compare(&find(b"dir/second")),
        [Difference::HardLink {
            first: path(b"a first")
        }]
    );
    let mut elsewhere = find(b"closed/up");
    elsewhere.link_target = Some(b"elsewhere".to_vec());
    assert!(matches!(
        comparer.compare(&elsewhere)[..],
        [Difference::LinkTarget { .. }]
    ));
    let mut later = find(b"closed/early");
    later.modified.nanos += 1;
    assert!(matches!(comparer.compare(&later)[..], [Difference::Modified { .. }]));
    let mut tagged = find(b"tagged");
    tagged.xattrs[1].1.push(1);
    assert!(comparer.compare(&tagged).contains(&Difference::Xattr {
        name: b"user.empty".to_vec()
    }));
}

#[test]
fn holes_stay_holes() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let mut sparse = file(b"sparse");
    sparse.size = 5 << 40;
    let mut tree = TreeWriter::create(&target, Options::default()).unwrap();
    let Placed::Content(writer) = tree.place(&sparse).unwrap() else {
        panic!("a file wants data")
    };
    writer.write_at(4 << 40, b"far out").unwrap();
    writer.commit().unwrap();
    tree.finish().unwrap();
    let found = fs::metadata(target.join("sparse")).unwrap();
    assert_eq!(found.len(), 5 << 40);
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
}

#[test]
fn threads_share_a_file_and_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    const PIECE: usize = 10_000;
    const PIECES: usize = 32;
    let mut tree = TreeWriter::create(&target, Options::default()).unwrap();
    let mut begin = |name: &[u8]| {
        let mut whole = file(name);
        whole.size = (PIECE * PIECES) as u64;
        match tree.place(&whole).unwrap() {
            Placed::Content(writer) => Arc::new(writer),
            Placed::Done => panic!("a file wants data"),
        }
    };
    let writers = [begin(b"a"), begin(b"b"), begin(b"c")];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let writers = &writers;
            scope.spawn(move || {
                for piece in (0..PIECES).rev().filter(|piece| piece % 4 == thread) {
                    for writer in writers {
                        writer
                            .write_at((piece * PIECE) as u64, &[piece as u8 + 1; PIECE])
                            .unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(
        fs::read_dir(&target)
            .unwrap()
            .filter(|it| !is_part(it.as_ref().unwrap()))
            .count(),
        0,
        "no name yet"
    );
    std::thread::scope(|scope| {
        for writer in writers {
            scope.spawn(move || Arc::into_inner(writer).unwrap().commit().unwrap());
        }
    });
    assert_eq!(tree.finish().unwrap().files, 3);
    let whole: Vec<u8> = (0..PIECES).flat_map(|piece| [piece as u8 + 1; PIECE]).collect();
    for name in ["a", "b", "c"] {
        assert!(fs::read(target.join(name)).unwrap() == whole);
    }
}

fn is_part(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_bytes().ends_with(b".part")
}

#[test]
fn what_is_not_committed_has_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let mut tree = TreeWriter::create(&target, Options::default()).unwrap();
    let mut begin = |name: &[u8]| match tree.place(&file(name)).unwrap() {
        Placed::Content(writer) => writer,
        Placed::Done => panic!("a file wants data"),
    };
    begin(b"abandoned").abandon();
    drop(begin(b"dropped"));
    let failed = begin(b"failed");
    let beyond = failed.write_at(6, b"x").unwrap_err();
    let refusal = Refusal::BeyondSize {
        offset: 6,
        length: 1,
        size: 6,
    };
    assert_eq!(
        beyond,
        SinkError::Entry(super::Problem {
            path: path(b"failed"),
            refusal
        })
    );
    assert!(failed.write_at(u64::MAX, b"x").is_err());
    assert!(!beyond.stops() && failed.commit().is_err());
    let open = begin(b"open");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    drop(open);
    let summary = tree.finish().unwrap();
    assert_eq!(
        (summary.files, summary.files_abandoned, summary.problems_count),
        (0, 1, 1)
    );
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn a_tree_is_not_finished_over_open_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = TreeWriter::create(folder.path(), Options::default()).unwrap();
    let open = tree.place(&file(b"open")).unwrap();
    assert_eq!(tree.finish().unwrap_err(), SinkError::FilesOpen { count: 1 });
    drop(open);
}

#[test]
fn an_interrupted_restore_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let entries = sample();
    // The first try is killed within the file "tagged".
    let mut tree = TreeWriter::create(&target, Options::default()).unwrap();
    for entry in entries.iter().take_while(|entry| entry.path != path(b"tagged")) {
        if let Placed::Content(writer) = tree.place(entry).unwrap() {
            writer.write_at(0, data(entry)).unwrap();
            writer.commit().unwrap();
        }
    }
    drop(tree);
    let leftover = part_name(&path(b"tagged"));
    fs::write(
        target.join(std::ffi::OsStr::from_bytes(&leftover)),
        "half of something longer",
    )
    .unwrap();
    let first = fs::metadata(target.join("a first")).unwrap().ino();

    let mut tree = TreeWriter::create(&target, replace()).unwrap();
    for entry in &entries {
        if tree.already_restored(entry) {
            let mut found = Vec::new();
            std::io::Read::read_to_end(&mut tree.open_existing(&entry.path).unwrap(), &mut found).unwrap();
            assert_eq!(found, data(entry));
            tree.keep(entry).unwrap();
        } else if let Placed::Content(writer) = tree.place(entry).unwrap() {
            writer.write_at(0, data(entry)).unwrap();
            writer.commit().unwrap();
        }
    }
    let summary = tree.finish().unwrap();
    assert_eq!(summary.problems, []);
    assert_eq!((summary.files, summary.files_kept, summary.hard_links), (5, 3, 1));
    assert_eq!(fs::metadata(target.join("a first")).unwrap().ino(), first);
    assert!(picture(&target).into_keys().all(|name| !name.ends_with(b".part")));

    // And a whole further restore over it changes nothing that counts.
    let before = picture(&target);
    assert_eq!(restore(&target, replace(), &entries).unwrap().problems, []);
    assert_eq!(picture(&target), before);
    assert_eq!(fs::metadata(target.join("a first")).unwrap().nlink(), 2);
}

#[test]
fn a_partial_restore_keeps_hard_links_among_what_it_restores() {
    let folder = tempfile::tempdir().unwrap();
    let entries = [member(b"b", b"a"), member(b"c", b"a"), member(b"d/e", b"a")];
    let summary = restore(&folder.path().join("t"), Options::default(), &entries).unwrap();
    assert_eq!((summary.files, summary.hard_links), (1, 2));
    assert_eq!(fs::metadata(folder.path().join("t/d/e")).unwrap().nlink(), 3);
}

#[test]
fn a_further_name_never_comes_to_mean_an_older_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "old").unwrap();
    let mut tree = TreeWriter::create(folder.path(), replace()).unwrap();
    let Placed::Content(first) = tree.place(&member(b"a", b"a")).unwrap() else {
        panic!("a file wants data")
    };
    assert!(matches!(tree.place(&member(b"b", b"a")), Ok(Placed::Done)));
    first.abandon();
    let summary = tree.finish().unwrap();
    let refusal = Refusal::LinkWithoutFile { first: path(b"a") };
    assert_eq!(
        summary.problems,
        [super::Problem {
            path: path(b"b"),
            refusal
        }]
    );
    assert!(!folder.path().join("b").exists());
    assert_eq!(
        fs::read(folder.path().join("a")).unwrap(),
        b"old",
        "what was there stays"
    );
}

#[test]
fn where_names_fold_only_the_same_bytes_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/a"), "old").unwrap();
    let mut tree = TreeWriter::create(folder.path(), replace()).unwrap();
    tree.pretend_folded_names();
    let entries = [
        directory(b"d"),
        Entry {
            size: 3,
            ..file(b"d/a")
        },
        file(b"e"),
    ];
    assert_eq!(restore_into(tree, &entries).unwrap().problems, []);
    assert_eq!(fs::read(folder.path().join("d/a")).unwrap(), b"d/a");

    let parent = fs::File::open(folder.path()).unwrap();
    assert!(lists_exactly(&parent, b"d").unwrap() && !lists_exactly(&parent, b"D").unwrap());
}

#[test]
fn special_things_are_made_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let options = Options {
        special_modes: SpecialModes::Keep,
        special_nodes: SpecialNodes::Create,
        xattrs: Xattrs::Skip,
        ..Options::default()
    };
    let mut setuid = file(b"setuid");
    setuid.mode = 0o6755;
    let mut sticky = directory(b"sticky");
    sticky.mode = 0o1777;
    let mut tagged = file(b"tagged");
    tagged.xattrs = vec![(b"user.a".to_vec(), vec![1])];
    let mut entries = vec![
        entry(b"fifo", EntryKind::Fifo),
        setuid,
        entry(b"socket", EntryKind::Socket),
        sticky,
        tagged,
    ];
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let null = Entry {
            device: Some(1 << 32 | 3),
            mode: 0o600,
            ..entry(b"null", EntryKind::CharDevice)
        };
        entries.insert(1, null);
    }
    let summary = restore(&target, options, &entries).unwrap();
    assert_eq!(summary.problems, []);
    assert_eq!((summary.specials, summary.xattrs_skipped), (2 + u64::from(is_root), 1));
    assert!(fs::metadata(target.join("fifo")).unwrap().file_type().is_fifo());
    let comparer = Comparer::open(&target, options).unwrap();
    for entry in &entries {
        assert_eq!(comparer.compare(entry), [], "{}", entry.path);
    }
}

#[test]
fn owners_come_back_as_root_only() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let mut foreign = file(b"foreign");
    (foreign.uid, foreign.gid, foreign.mode) = (4321, 8765, 0o4755);
    let mut link = symlink(b"link", b"x");
    (link.uid, link.gid) = (4321, 8765);
    let options = Options {
        special_modes: SpecialModes::Keep,
        ..Options::default()
    };
    let summary = restore(&target, options, &[foreign.clone(), link]).unwrap();
    let found = fs::metadata(target.join("foreign")).unwrap();
    if rustix::process::geteuid().is_root() {
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (4321, 8765, 0o4755));
        assert_eq!(target.join("link").symlink_metadata().unwrap().uid(), 4321);
        assert_eq!(summary.owners_skipped, 0);
    } else {
        assert_eq!(
            found.mode() & 0o7777,
            0o755,
            "no one's program runs as whoever restored it"
        );
        assert_eq!((summary.owners_skipped, summary.special_modes_skipped), (2, 1));
    }
}
