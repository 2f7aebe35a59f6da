//! The trees themselves.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink as link_to},
    path::Path,
};

use exclave_model::EntryKind;

use super::{
    Case, Sandbox,
    Thing::{Dir, DirMode, File, Link, Mode, Named, Node, Owner, Size, Time, Xattr},
    case, case_of_bytes, part,
};
use crate::sink::SinkSummary;

/// Paths that climb, or look as if they did.
pub(super) fn paths() -> Vec<Case> {
    let one = |name, refused, path: &str| case(name, refused, &[(path, File)]);
    vec![
        one("parent", 1, "../outside/x"),
        one("parent later", 1, "a/../../outside/x"),
        one("absolute", 1, "/tmp/x"),
        one("doubly absolute", 1, "//x"),
        one("empty component", 1, "a//b"),
        one("slash at the end", 1, "a/"),
        one("dot first", 1, "./a"),
        one("dot within", 1, "a/./b"),
        one("parent alone", 1, ".."),
        one("dot alone", 1, "."),
        one("nul", 1, "a\0b"),
        one("nul behind parent", 1, "a/..\0"),
        one("long component", 1, &"n".repeat(256)),
        one("longest component", 0, &"n".repeat(255)),
        one("long path", 1, &format!("{}x", "n/".repeat(2048))),
        case("parent as directory", 1, &[("a/..", Dir)]),
        case("parent as link", 1, &[("..", Link("@"))]),
        one("drive letter", 0, "C:\\x"),
        one("backslashes", 0, "..\\..\\x"),
        one("network share", 0, "\\\\server\\share"),
        one("three dots", 0, "..."),
        one("dots and blank", 0, ".. "),
        one("dots and letter", 0, "..a"),
        one("line feed", 0, "a\nb"),
        one("terminal escape", 0, "\x1b[31m"),
        one("wide dots", 0, "\u{ff0e}\u{ff0e}/x"),
        one("right to left", 0, "\u{202e}txt.exe"),
        case_of_bytes("not UTF-8", 0, vec![(b"\xff\xfe".to_vec(), File)]),
        case_of_bytes("overlong slash", 0, vec![(b"..\xc0\xaf..\xc0\xafx".to_vec(), File)]),
        case_of_bytes("deepest path", 0, vec![([b"n".as_slice(); 2048].join(&b'/'), File)]),
    ]
}

/// Entries that contradict each other.
pub(super) fn structures() -> Vec<Case> {
    vec![
        case("below a link out", 1, &[("a", Link("@/dir")), ("a/x", File)]).after(|sandbox, _| {
            assert_eq!(fs::read_link(sandbox.at("a")).unwrap(), sandbox.outside().join("dir"));
        }),
        case(
            "directory through a link",
            2,
            &[("a", Link("@/dir")), ("a/b", Dir), ("a/b/c", File)],
        ),
        case("link, then directory", 1, &[("a", Link("@")), ("a", Dir)]),
        case("link, then file", 1, &[("a", Link("@/secret")), ("a", File)]),
        case("file, then below it", 1, &[("a", File), ("a/b", File)]),
        case(
            "file, then a tree below",
            2,
            &[("a", File), ("a/b", Dir), ("a/b/c", File)],
        ),
        case(
            "link to parent within",
            1,
            &[("a", Dir), ("a/b", Link("..")), ("a/b/c", File)],
        ),
        case("link to itself", 1, &[("a", Link("a")), ("a/a", File)]),
        case("link to dot", 1, &[("a", Link(".")), ("a/b", File)]),
        case(
            "chain of links",
            2,
            &[("a", Link("b")), ("a/x", File), ("b", Link("@/dir")), ("b/x", File)],
        ),
        case("backwards", 1, &[("b", File), ("a", File)]),
        case("directory backwards", 1, &[("b", Dir), ("b/x", File), ("a", Dir)]),
        case("file twice", 1, &[("a", File), ("a", File)]),
        case("directory twice", 1, &[("a", Dir), ("a", Dir)]),
        case("directory again later", 1, &[("a", Dir), ("a/x", File), ("a", Dir)]),
        case("parents left out", 0, &[("a/b/c/d", File)]).after(|sandbox, _| {
            assert_eq!(fs::metadata(sandbox.at("a/b")).unwrap().mode() & 0o777, 0o700);
        }),
        case("parent after child", 1, &[("a/b", File), ("a", Dir)]),
        case("parent as link after child", 1, &[("a/b", File), ("a", Link("@"))]),
        case("root is a file", 1, &[("", File)]),
        case("root is a link", 1, &[("", Link("@"))]),
        case("root is a fifo", 1, &[("", Node(EntryKind::Fifo))]).with_nodes(),
        case("below a root that is a link", 2, &[("", Link("@")), ("x", File)]),
        case(
            "name of an unfinished file",
            1,
            &[(".exclave-0123456789abcdef.part", File)],
        ),
        case(
            "reserved directory",
            2,
            &[(".exclave-x.part", Dir), (".exclave-x.part/x", File)],
        ),
        case("empty link", 1, &[("a", Link(""))]),
        case("link with nul", 1, &[("a", Link("b\0c"))]),
        case("long link", 1, &[("a", Link(concat_5000()))]),
        case("link without target", 1, &[("a", Node(EntryKind::Symlink))]),
    ]
}

fn concat_5000() -> &'static str {
    Box::leak("t".repeat(5000).into_boxed_str())
}

/// Hard links that lead elsewhere, nodes, bits and numbers.
pub(super) fn attributes() -> Vec<Case> {
    let secret_is_alone = |sandbox: &Sandbox, _: &SinkSummary| {
        assert_eq!(fs::metadata(sandbox.outside().join("secret")).unwrap().nlink(), 1);
    };
    vec![
        case("hard link out", 1, &[("a", Named("../outside/secret"))]).after(secret_is_alone),
        case("hard link to an absolute path", 1, &[("a", Named("/etc/passwd"))]),
        case("hard link to what comes later", 0, &[("a", Named("b")), ("b", File)]),
        case("hard link to nothing", 0, &[("b", Named("a"))]),
        case("hard link to a directory", 0, &[("a", Dir), ("b", Named("a"))]),
        case(
            "hard link to a link out",
            0,
            &[("a", Link("@/secret")), ("b", Named("a"))],
        )
        .after(|sandbox, summary| {
            assert_eq!(summary.hard_links, 0);
            assert!(fs::metadata(sandbox.at("b")).unwrap().is_file());
            assert_eq!(fs::metadata(sandbox.outside().join("secret")).unwrap().nlink(), 1);
        }),
        case("hard link below a file", 1, &[("a", Named("a")), ("a/b", Named("a"))]),
        case(
            "first name refused",
            1,
            &[("a", Named("a")), ("b", Named("a")), ("c", Named("a"))],
        )
        .before(|sandbox| fs::create_dir(sandbox.at("a")).unwrap())
        .after(|sandbox, summary| {
            assert_eq!((summary.files, summary.hard_links), (1, 1));
            assert_eq!(
                fs::metadata(sandbox.at("b")).unwrap().ino(),
                fs::metadata(sandbox.at("c")).unwrap().ino()
            );
        }),
        case("fifo", 0, &[("a", Node(EntryKind::Fifo))]).after(skipped),
        case("socket", 0, &[("a", Node(EntryKind::Socket))]).after(skipped),
        case("character device", 0, &[("a", Node(EntryKind::CharDevice))]).after(skipped),
        case("block device", 0, &[("a", Node(EntryKind::BlockDevice))]).after(skipped),
        case("device without number", 1, &[("a", Node(EntryKind::CharDevice))]).with_nodes(),
        case("below a fifo", 1, &[("a", Node(EntryKind::Fifo)), ("a/b", File)]).with_nodes(),
        case("setuid", 0, &[("a", Mode(0o4755))]).after(|sandbox, summary| {
            assert_eq!(fs::metadata(sandbox.at("a")).unwrap().mode() & 0o7777, 0o755);
            assert_eq!(summary.special_modes_skipped, 1);
        }),
        case("setgid directory", 0, &[("a", DirMode(0o2777))]).after(|sandbox, _| {
            assert_eq!(fs::metadata(sandbox.at("a")).unwrap().mode() & 0o7777, 0o777);
        }),
        case("file type in the mode", 0, &[("a", Mode(0o120_644))]).after(|sandbox, _| {
            assert!(sandbox.at("a").symlink_metadata().unwrap().is_file());
        }),
        case("file type in a directory's mode", 1, &[("a", DirMode(0o120_755))]),
        case("capability", 0, &[("a", Xattr(b"security.capability"))]).after(|sandbox, summary| {
            assert_eq!(summary.xattrs_skipped, 1);
            assert_eq!(xattr::list(sandbox.at("a")).unwrap().count(), 0);
        }),
        case("attribute of no class", 0, &[("a", Xattr(b"nonsense"))]),
        case("attribute with nul", 0, &[("a", Xattr(b"user.a\0b"))]),
        case("long attribute name", 0, &[("a", Xattr(&[b'u'; 300]))]),
        case("owner nobody can have", 0, &[("a", Owner(u32::MAX))]),
        case("first moment", 0, &[("a", Time(i64::MIN, 0))]),
        case("last moment", 0, &[("a", Time(i64::MAX, 999_999_999))]),
        case("too many nanoseconds", 1, &[("a", Time(0, 4_000_000_000))]),
        case("greatest size", 1, &[("a", Size(u64::MAX))]),
        case("size beyond what is signed", 1, &[("a", Size(1 << 63))]),
        case("sparse bomb", 0, &[("a", Size(1 << 42))]).after(|sandbox, _| {
            assert!(
                fs::metadata(sandbox.at("a")).unwrap().blocks() < 1024,
                "holes take no space"
            );
        }),
    ]
}

fn skipped(sandbox: &Sandbox, summary: &SinkSummary) {
    assert_eq!(summary.specials_skipped, 1);
    assert!(sandbox.is_absent("a"));
}

/// Targets that were prepared.
pub(super) fn prepared() -> Vec<Case> {
    let is_file = |sandbox: &Sandbox, _: &SinkSummary| {
        let found = sandbox.at("a").symlink_metadata().unwrap();
        assert!(found.is_file() && fs::read(sandbox.at("a")).unwrap() == b"a");
    };
    vec![
        case("link where a directory goes", 0, &[("a", Dir), ("a/x", File)])
            .before(|sandbox| link_to(sandbox.outside().join("dir"), sandbox.at("a")).unwrap())
            .after(|sandbox, _| assert!(sandbox.at("a").symlink_metadata().unwrap().is_dir())),
        case("link where a file goes", 0, &[("a", File)])
            .before(|sandbox| link_to(sandbox.outside().join("secret"), sandbox.at("a")).unwrap())
            .after(is_file),
        case("link on the way", 0, &[("a/b/x", File)]).before(|sandbox| {
            fs::create_dir(sandbox.at("a")).unwrap();
            link_to(sandbox.outside().join("dir"), sandbox.at("a/b")).unwrap();
        }),
        case("second name of a file outside", 0, &[("a", File)])
            .before(|sandbox| fs::hard_link(sandbox.outside().join("secret"), sandbox.at("a")).unwrap())
            .after(is_file),
        case("link named as the unfinished file", 0, &[("a", File)])
            .before(|sandbox| link_to(sandbox.outside().join("secret"), sandbox.target().join(part("a"))).unwrap())
            .after(is_file),
        case("second name as the unfinished file", 0, &[("a", File)])
            .before(|sandbox| {
                fs::hard_link(sandbox.outside().join("secret"), sandbox.target().join(part("a"))).unwrap()
            })
            .after(is_file),
        case("directory named as the unfinished file", 1, &[("a", File)])
            .before(|sandbox| fs::create_dir(sandbox.target().join(part("a"))).unwrap()),
        case("link named as the unfinished link", 0, &[("a", Link("@"))])
            .before(|sandbox| link_to("/", sandbox.target().join(part("a"))).unwrap()),
        case("fifo where a file goes", 0, &[("a", File)])
            .before(|sandbox| {
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, sandbox.at("a"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
            })
            .after(is_file),
        case("directory where a file goes", 1, &[("a", File)])
            .before(|sandbox| fs::create_dir(sandbox.at("a")).unwrap()),
        case("directory where a link goes", 1, &[("a", Link("@"))])
            .before(|sandbox| fs::create_dir(sandbox.at("a")).unwrap()),
        case("file where a directory goes", 0, &[("a", Dir), ("a/x", File)])
            .before(|sandbox| fs::write(sandbox.at("a"), "old").unwrap()),
        case("link where a link goes", 0, &[("a", Link("b"))])
            .before(|sandbox| link_to(sandbox.outside().join("dir"), sandbox.at("a")).unwrap())
            .after(|sandbox, _| assert_eq!(fs::read_link(sandbox.at("a")).unwrap(), Path::new("b"))),
        case("locked directory", 0, &[("a", Dir), ("a/x", File)]).before(|sandbox| {
            fs::create_dir(sandbox.at("a")).unwrap();
            fs::set_permissions(sandbox.at("a"), fs::Permissions::from_mode(0o000)).unwrap();
        }),
        case("link named as the probe", 0, &[("a", File)]).before(|sandbox| {
            link_to(sandbox.outside().join("secret"), sandbox.at(".exclave-A\u{e9}.part")).unwrap();
            link_to(sandbox.outside().join("new"), sandbox.at(".exclave-link.part")).unwrap();
        }),
        case("fifo where a fifo goes", 0, &[("a", Node(EntryKind::Fifo))])
            .with_nodes()
            .before(|sandbox| link_to(sandbox.outside().join("secret"), sandbox.at("a")).unwrap()),
        case("hard link over a link", 0, &[("a", Named("a")), ("b", Named("a"))])
            .before(|sandbox| link_to(sandbox.outside().join("secret"), sandbox.at("b")).unwrap())
            .after(|sandbox, summary| {
                assert_eq!(summary.hard_links, 1);
                assert_eq!(
                    fs::metadata(sandbox.at("a")).unwrap().ino(),
                    fs::metadata(sandbox.at("b")).unwrap().ino()
                );
            }),
    ]
}
