//! Walks over real trees.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
};

use rustix::fs::{CWD, FileType, Mode};

use super::*;

fn path(bytes: &[u8]) -> EntryPath {
    EntryPath::parse(bytes).unwrap()
}

/// Walks to the end.
fn walk(root: &Path, options: WalkOptions) -> (Vec<Found>, Vec<Finding>, Counts) {
    let mut walk = Walk::new(root, options).unwrap();
    let (mut found, mut findings) = (Vec::new(), Vec::new());
    for step in walk.by_ref() {
        match step {
            Walked::Found(entry) => found.push(*entry),
            Walked::Finding(finding) => findings.push(finding),
        }
    }
    assert!(walk.names_bytes == 0 && walk.next().is_none());
    assert!(found.is_sorted_by(|left, right| left.path() < right.path()));
    (found, findings, walk.counts())
}

fn paths(found: &[Found]) -> Vec<String> {
    found.iter().map(|found| found.entry.path.to_string()).collect()
}

fn listed(text: &[u8], directories: ListedDirectory) -> WalkOptions {
    WalkOptions {
        list: Some(FileList::read(text, directories).unwrap()),
        ..WalkOptions::default()
    }
}

fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, b"x").unwrap();
    }
    folder
}

#[test]
fn a_directory_is_followed_at_once_by_what_it_holds() {
    let folder = tree(&["a/b/c", "a/z", "a b", "a.b", "b"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff\n\\")), b"").unwrap();
    let (found, findings, counts) = walk(folder.path(), WalkOptions::default());
    let expected = [
        ".",
        "a",
        "a/b",
        "a/b/c",
        "a/z",
        "a b",
        "a.b",
        "b",
        "empty",
        "\\xff\\n\\",
    ];
    assert_eq!(paths(&found), expected);
    assert_eq!(found[9].entry.path.as_bytes(), b"\xff\n\\");
    assert_eq!(findings, []);
    let expected = Counts {
        files: 6,
        directories: 4,
        bytes: 5,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
}

#[test]
fn metadata_is_what_the_system_says() {
    let folder = tree(&["f"]);
    let file = folder.path().join("f");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6751)).unwrap();
    let time = rustix::fs::Timespec {
        tv_sec: -7,
        tv_nsec: 123_456_789,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, &file, &times, rustix::fs::AtFlags::empty()).unwrap();
    xattr::set(&file, "user.label", b"\0secret").unwrap();
    xattr::set(folder.path(), "user.root", b"").unwrap();
    symlink("no/where", folder.path().join("link")).unwrap();
    let (found, findings, counts) = walk(folder.path(), WalkOptions::default());
    assert_eq!(findings, []);
    let (root, f, link) = (&found[0], &found[1], &found[2]);
    assert_eq!(root.entry.xattrs, [(b"user.root".to_vec(), vec![])]);
    assert_eq!(f.entry.mode, 0o6751);
    assert_eq!((f.entry.modified.secs, f.entry.modified.nanos), (-7, 123_456_789));
    assert_eq!(f.entry.xattrs, [(b"user.label".to_vec(), b"\0secret".to_vec())]);
    let system = fs::metadata(&file).unwrap();
    assert_eq!(
        (f.entry.uid, f.entry.gid, f.entry.size),
        (system.uid(), system.gid(), 1)
    );
    assert_eq!((f.stat.inode, f.stat.links), (system.ino(), 1));
    assert_eq!(f.stat.changed.secs, system.ctime());
    assert_eq!(link.entry.kind, EntryKind::Symlink);
    assert_eq!(link.entry.link_target.as_deref(), Some(&b"no/where"[..]));
    assert!(link.opener.is_none() && f.opener.is_some());
    assert_eq!(counts.others, 1);
}

#[test]
fn special_files_are_recorded_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
    rustix::fs::mknodat(CWD, folder.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let device = rustix::fs::makedev(7, 300);
    let made = rustix::fs::mknodat(
        CWD,
        folder.path().join("device"),
        FileType::CharacterDevice,
        Mode::RUSR,
        device,
    );
    let (found, findings, _) = walk(folder.path(), WalkOptions::default());
    let kind = |name: &[u8]| {
        found
            .iter()
            .find(|found| found.entry.path == path(name))
            .map(|found| &found.entry)
    };
    assert_eq!(kind(b"socket").unwrap().kind, EntryKind::Socket);
    assert_eq!(kind(b"pipe").unwrap().kind, EntryKind::Fifo);
    if made.is_ok() {
        assert_eq!(kind(b"device").unwrap().device, Some((7 << 32) + 300));
    }
    assert_eq!(findings, []);
}

#[test]
fn hard_links_name_the_first_of_their_group() {
    let folder = tree(&["b", "z"]);
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::hard_link(folder.path().join("b"), folder.path().join("a/late")).unwrap();
    fs::hard_link(folder.path().join("b"), folder.path().join("c")).unwrap();
    let (found, ..) = walk(folder.path(), WalkOptions::default());
    let groups: Vec<_> = found
        .iter()
        .filter(|found| found.entry.kind == EntryKind::File)
        .map(|found| (found.entry.path.to_string(), found.link, found.entry.link_group.clone()))
        .collect();
    let group = Some(path(b"a/late"));
    assert_eq!(
        groups,
        [
            ("a/late".to_owned(), LinkRole::First, group.clone()),
            ("b".to_owned(), LinkRole::Later, group.clone()),
            ("c".to_owned(), LinkRole::Later, group),
            ("z".to_owned(), LinkRole::Single, None),
        ]
    );
}

#[test]
fn rules_leave_out_and_are_counted() {
    let folder = tree(&["keep/x.rs", "keep/x.tmp", "target/a", "target/b/c", "x.tmp"]);
    let options = WalkOptions {
        exclude: ExcludeRules::parse(["*.tmp", "/target/"]).unwrap(),
        ..WalkOptions::default()
    };
    let (found, findings, counts) = walk(folder.path(), options);
    assert_eq!(paths(&found), [".", "keep", "keep/x.rs"]);
    assert_eq!((findings.len(), counts.excluded), (0, 3));
}

#[test]
fn caches_are_left_out_when_asked() {
    let folder = tree(&["cache/CACHEDIR.TAG", "cache/x", "cache/y", "no/CACHEDIR.TAG", "no/x"]);
    fs::write(
        folder.path().join("cache/CACHEDIR.TAG"),
        [CACHE_TAG.as_slice(), b"\n"].concat(),
    )
    .unwrap();
    let options = WalkOptions {
        caches: Caches::Exclude,
        ..WalkOptions::default()
    };
    let (found, findings, counts) = walk(folder.path(), options);
    assert_eq!(
        paths(&found),
        [".", "cache", "cache/CACHEDIR.TAG", "no", "no/CACHEDIR.TAG", "no/x"]
    );
    let cache = path(b"cache");
    assert_eq!(findings, [Finding::Cache { path: cache, names: 2 }]);
    assert_eq!(counts.excluded, 2);
    assert_eq!(walk(folder.path(), WalkOptions::default()).0.len(), 8);
}

#[test]
fn a_list_is_walked_with_its_parents() {
    let folder = tree(&["a/b/1", "a/b/2", "a/c/3", "d/4", "d/5", "e"]);
    let (found, findings, counts) = walk(
        folder.path(),
        listed(b"e\0a/b/2\0d\0gone\0a/none/x\0e/below\0", ListedDirectory::Whole),
    );
    assert_eq!(paths(&found), [".", "a", "a/b", "a/b/2", "d", "d/4", "d/5", "e"]);
    assert_eq!(
        findings,
        [
            Finding::Vanished { path: path(b"a/none") },
            Finding::NotADirectory {
                path: path(b"e"),
                listed: 1
            },
            Finding::Vanished { path: path(b"gone") },
        ]
    );
    assert_eq!(counts.skipped, 3);
    let (found, ..) = walk(folder.path(), listed(b"d\0d/5\0a\0", ListedDirectory::Alone));
    assert_eq!(paths(&found), [".", "a", "d", "d/5"]);
}

#[test]
fn deep_trees_end_in_a_finding() {
    // In memory where possible: ten thousand changes of directories keep a busy disk for seconds.
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    // Deeper than PATH_MAX: only descriptors reach it.
    let mut at = directory::open_given(folder.path(), OFlags::DIRECTORY).unwrap();
    const DEPTH: usize = 5_000;
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
        at = directory::open_directory(at.as_fd(), c"d").unwrap();
    }
    let (found, findings, counts) = walk(folder.path(), WalkOptions::default());
    // 2,048 names and 2,047 slashes fit into 4,096 bytes.
    assert_eq!((found.len(), counts.directories), (2_049, 2_049));
    assert!(
        matches!(
            &findings[..],
            [Finding::PathUnlawful {
                bad: exclave_model::BadPath::TooLong(4097),
                ..
            }]
        ),
        "{findings:?}"
    );
    // Removed from the bottom; the ordinary way needs paths that are too long.
    for _ in 0..DEPTH {
        at = directory::open_directory(at.as_fd(), c"..").unwrap();
        rustix::fs::unlinkat(&at, c"d", rustix::fs::AtFlags::REMOVEDIR).unwrap();
    }
}

#[test]
fn too_many_names_are_a_finding() {
    let folder = tree(&["a/1", "b/1", "c"]);
    for name in 0..200 {
        fs::write(folder.path().join(format!("b/{name:050}")), b"").unwrap();
    }
    let options = WalkOptions {
        names_bytes_max: 5_000,
        ..WalkOptions::default()
    };
    let (found, findings, counts) = walk(folder.path(), options);
    assert_eq!(paths(&found), [".", "a", "a/1", "b", "c"]);
    assert!(matches!(&findings[..], [Finding::DirectoryTooLarge { .. }]));
    assert_eq!(counts.skipped, 1);
}

#[test]
fn a_tree_that_changes_underfoot_leads_to_findings_only() {
    let folder = tree(&["a/1", "b/1", "c/1"]);
    let mut walk = Walk::new(folder.path(), WalkOptions::default()).unwrap();
    assert!(matches!(walk.next(), Some(Walked::Found(_))));
    fs::remove_dir_all(folder.path().join("b")).unwrap();
    fs::remove_dir_all(folder.path().join("c")).unwrap();
    symlink("/etc", folder.path().join("c")).unwrap();
    let mut seen = Vec::new();
    for step in walk {
        match step {
            Walked::Found(found) => seen.push(format!("{} {:?}", found.entry.path, found.entry.kind)),
            Walked::Finding(finding) => seen.push(finding.to_string()),
        }
    }
    assert_eq!(seen, ["a Directory", "a/1 File", "b vanished", "c Symlink"]);
}

#[test]
fn a_mounted_file_system_can_be_stayed_out_of() {
    // /dev and /dev/shm or /proc are other file systems on any Linux; no need to mount one.
    let options = || WalkOptions {
        list: Some(FileList::read(&b"proc/self/status\0"[..], ListedDirectory::Whole).unwrap()),
        mount_points: MountPoints::StayOut,
        ..WalkOptions::default()
    };
    let (found, findings, _) = walk(Path::new("/"), options());
    assert_eq!(paths(&found), [".", "proc"]);
    assert_eq!(findings, [Finding::OtherFileSystem { path: path(b"proc") }]);
    let enter = WalkOptions {
        mount_points: MountPoints::Enter,
        ..options()
    };
    assert_eq!(
        paths(&walk(Path::new("/"), enter).0),
        [".", "proc", "proc/self"],
        "self is a link"
    );
}

#[test]
fn a_root_that_is_a_link_is_followed_and_a_file_refused() {
    let folder = tree(&["real/f"]);
    symlink("real", folder.path().join("link")).unwrap();
    let (found, ..) = walk(&folder.path().join("link"), WalkOptions::default());
    assert_eq!(paths(&found), [".", "f"]);
    assert_eq!(found[0].entry.kind, EntryKind::Directory);
    assert!(Walk::new(&folder.path().join("real/f"), WalkOptions::default()).is_err());
    assert!(Walk::new(&folder.path().join("none"), WalkOptions::default()).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    #[test]
    fn any_tree_is_found_whole_and_in_order(
        names in proptest::collection::btree_set("[ab .\u{e9}]{1,3}x(/[ab.]{1,2}x){0,3}", 0..30),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = std::collections::BTreeSet::from([EntryPath::root()]);
        for name in &names {
            let file = folder.path().join(name);
            // Where a file is in the way of a directory or the other way round, the first one stays.
            if fs::create_dir_all(file.parent().unwrap()).is_ok() && !file.exists() {
                fs::write(&file, b"").unwrap();
            }
            if file.exists() {
                let mut at = Some(path(name.as_bytes()));
                while let Some(path) = at {
                    at = path.parent();
                    expected.insert(path);
                }
            }
        }
        let (found, findings, _) = walk(folder.path(), WalkOptions::default());
        let found: Vec<_> = found.into_iter().map(|found| found.entry.path).collect();
        proptest::prop_assert_eq!(&found, &expected.into_iter().collect::<Vec<_>>());
        proptest::prop_assert!(findings.is_empty());

        // A list of everything, directories alone, is the same walk.
        let mut list = Vec::new();
        for path in found.iter().rev() {
            list.extend_from_slice(if path.is_root() { b"." } else { path.as_bytes() });
            list.push(0);
        }
        let (again, findings, _) = walk(folder.path(), listed(&list, ListedDirectory::Alone));
        let again: Vec<_> = again.into_iter().map(|found| found.entry.path).collect();
        proptest::prop_assert_eq!(again, found);
        proptest::prop_assert!(findings.is_empty());
    }
}
