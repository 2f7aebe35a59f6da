//! Trees that were made to hurt (THREATS A23, C20): each is restored beside a folder that must not change, with both
//! ways of resolving; and a race against someone who exchanges directories for links meanwhile.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink as link_to},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use exclave_model::{Entry, EntryKind, EntryPath};
use rustix::fs::inotify;

use super::{
    Existing, Options, SinkSummary, SpecialNodes, TreeWriter,
    file::part_name,
    testing::{entry, picture, restore_into},
};

mod cases;

/// What stands at a path.
#[derive(Clone, Copy)]
enum Thing {
    File,
    Dir,
    /// A link; `@` is the folder outside.
    Link(&'static str),
    /// A file with this link group.
    Named(&'static str),
    Node(EntryKind),
    Size(u64),
    Mode(u32),
    DirMode(u32),
    Xattr(&'static [u8]),
    Owner(u32),
    Time(i64, u32),
}

use Thing::{Dir, DirMode, File, Link, Mode, Named, Node, Owner, Size, Time, Xattr};

struct Case {
    name: &'static str,
    things: Vec<(Vec<u8>, Thing)>,
    /// Entries refused, by the path's law or by the sink.
    refused: u64,
    options: Options,
    before: fn(&Sandbox),
    after: fn(&Sandbox, &SinkSummary),
}

impl Case {
    fn before(mut self, before: fn(&Sandbox)) -> Self {
        self.options.existing = Existing::Replace;
        self.before = before;
        self
    }

    fn after(mut self, after: fn(&Sandbox, &SinkSummary)) -> Self {
        self.after = after;
        self
    }

    fn with_nodes(mut self) -> Self {
        self.options.special_nodes = SpecialNodes::Create;
        self
    }
}

fn case(name: &'static str, refused: u64, things: &[(&str, Thing)]) -> Case {
    let things = things
        .iter()
        .map(|(path, thing)| (path.as_bytes().to_vec(), *thing))
        .collect();
    case_of_bytes(name, refused, things)
}

fn case_of_bytes(name: &'static str, refused: u64, things: Vec<(Vec<u8>, Thing)>) -> Case {
    Case {
        name,
        things,
        refused,
        options: Options::default(),
        before: |_| {},
        after: |_, _| {},
    }
}

/// A target, and beside it what must not change.
struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        // In memory, where there is such a place: each restore ends with a wait for the disk.
        let folder = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let sandbox = Self { folder };
        fs::create_dir_all(sandbox.outside().join("dir")).unwrap();
        fs::write(sandbox.outside().join("secret"), "secret").unwrap();
        fs::set_permissions(sandbox.outside().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(sandbox.target()).unwrap();
        sandbox
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.target().join(path)
    }

    fn is_absent(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_err()
    }
}

fn part(path: &str) -> PathBuf {
    let name = part_name(&EntryPath::parse(path.as_bytes()).unwrap());
    PathBuf::from(std::ffi::OsStr::from_bytes(&name))
}

/// The entry, or nothing when a path breaks the law and so could never come out of a page.
fn build(sandbox: &Sandbox, path: &[u8], thing: Thing) -> Option<Entry> {
    EntryPath::parse(path).ok()?;
    let size = path.len() as u64;
    let file = Entry {
        size,
        ..entry(path, EntryKind::File)
    };
    Some(match thing {
        File => file,
        Dir => entry(path, EntryKind::Directory),
        Link(to) => {
            let to = to.replace('@', &sandbox.outside().to_string_lossy());
            Entry {
                link_target: Some(to.into_bytes()),
                ..entry(path, EntryKind::Symlink)
            }
        }
        Named(group) => Entry {
            link_group: Some(EntryPath::parse(group.as_bytes()).ok()?),
            ..file
        },
        Node(kind) => entry(path, kind),
        Size(size) => Entry { size, ..file },
        Mode(mode) => Entry { mode, ..file },
        DirMode(mode) => Entry {
            mode,
            ..entry(path, EntryKind::Directory)
        },
        Xattr(name) => Entry {
            xattrs: vec![(name.to_vec(), b"value".to_vec())],
            ..file
        },
        Owner(uid) => Entry { uid, ..file },
        Time(secs, nanos) => Entry {
            modified: exclave_model::Timestamp { secs, nanos },
            ..file
        },
    })
}

#[test]
fn hostile_trees_change_nothing_outside() {
    let cases: Vec<Case> = [
        cases::paths(),
        cases::structures(),
        cases::attributes(),
        cases::prepared(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    for case in &cases {
        for step_by_step in [false, true] {
            let sandbox = Sandbox::new();
            (case.before)(&sandbox);
            let outside = picture(&sandbox.outside());
            let entries: Vec<_> = case
                .things
                .iter()
                .filter_map(|(path, thing)| build(&sandbox, path, *thing))
                .collect();
            let unlawful = (case.things.len() - entries.len()) as u64;

            let mut tree = TreeWriter::create(&sandbox.target(), case.options).expect(case.name);
            if step_by_step {
                tree.resolve_step_by_step();
            }
            let summary = restore_into(tree, &entries).expect(case.name);

            assert_eq!(
                summary.problems_count + unlawful,
                case.refused,
                "{}: {:?}",
                case.name,
                summary.problems
            );
            assert_eq!(picture(&sandbox.outside()), outside, "{}", case.name);
            assert_eq!(fs::read_dir(sandbox.folder.path()).unwrap().count(), 2, "{}", case.name);
            (case.after)(&sandbox, &summary);
            if case.name != "directory named as the unfinished file" {
                let leftover = picture(&sandbox.target())
                    .into_keys()
                    .find(|path| path.ends_with(b".part"));
                assert_eq!(leftover, None, "{}", case.name);
            }
        }
    }
}

/// The next number of a linear congruential generator (Knuth, MMIX).
fn roll(state: &mut u64, sides: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % sides
}

fn random_entries(sandbox: &Sandbox, seed: u64) -> Vec<Entry> {
    let mut state = seed;
    let mut entries = Vec::new();
    for _ in 0..40 {
        let depth = 1 + roll(&mut state, 4);
        let parts: Vec<_> = (0..depth)
            .map(|_| ["a", "b", "c", "..", "."][roll(&mut state, 5) as usize])
            .collect();
        let thing = match roll(&mut state, 8) {
            0..3 => Dir,
            3 => Link("@/dir"),
            4 => Link(".."),
            5 => Named("a/a"),
            6 => Node(EntryKind::Fifo),
            _ => File,
        };
        entries.extend(build(sandbox, parts.join("/").as_bytes(), thing));
    }
    if roll(&mut state, 4) > 0 {
        entries.sort_by(|left, right| left.path.cmp(&right.path));
    }
    entries
}

#[test]
fn random_trees_change_nothing_outside() {
    let sandbox = Sandbox::new();
    let outside = picture(&sandbox.outside());
    for seed in 0..300 {
        // Each is restored over what the one before left.
        let options = Options {
            existing: Existing::Replace,
            special_nodes: SpecialNodes::Create,
            ..Options::default()
        };
        let entries = random_entries(&sandbox, seed);
        let summary = restore_into(TreeWriter::create(&sandbox.target(), options).unwrap(), &entries).unwrap();
        let made = summary.files + summary.hard_links + summary.directories + summary.symlinks + summary.specials;
        assert_eq!(made + summary.problems_count, entries.len() as u64, "seed {seed}");
        assert_eq!(picture(&sandbox.outside()), outside, "seed {seed}");
    }
}

#[test]
fn a_full_house_is_refused() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.at("mine"), "mine").unwrap();
    let refused = TreeWriter::create(&sandbox.target(), Options::default()).unwrap_err();
    assert_eq!(
        refused,
        super::SinkError::TargetNotEmpty {
            found: "mine".to_owned()
        }
    );
    assert!(refused.stops());
}

/// Exchanges directories for links to the outside, as fast as it can.
fn exchange(target: &Path, outside: &Path, stop: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        for name in ["d", "d/e"] {
            let (at, aside) = (target.join(name), target.join("aside"));
            // Whatever a lost race makes of these is part of the attack.
            let _ = fs::rename(&at, &aside);
            let _ = link_to(outside.join("dir"), &at);
            std::thread::yield_now();
            let _ = fs::remove_file(&at);
            let _ = fs::rename(&aside, &at);
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn exchanged_directories_lead_nowhere() {
    for step_by_step in [false, true] {
        let sandbox = Sandbox::new();
        let (target, outside) = (sandbox.target(), sandbox.outside());
        let before = picture(&outside);
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let changes = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::MOVE;
        for folder in [outside.clone(), outside.join("dir")] {
            inotify::add_watch(&watch, folder, changes).unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let attacker = std::thread::spawn({
            let (target, outside, stop) = (target.clone(), outside.clone(), Arc::clone(&stop));
            move || exchange(&target, &outside, &stop)
        });
        let options = Options {
            existing: Existing::Replace,
            ..Options::default()
        };
        let mut completed = 0;
        for _ in 0..20 {
            let mut entries = vec![entry(b"d", EntryKind::Directory), entry(b"d/e", EntryKind::Directory)];
            for number in 0..40 {
                let name = format!("d/e/{number:03}");
                let path = |tail: &str| format!("{name}{tail}").into_bytes();
                entries.push(entry(&path(""), EntryKind::Directory));
                entries.push(Entry {
                    size: 5,
                    ..entry(&path("/file"), EntryKind::File)
                });
                entries.push(Entry {
                    link_target: Some(b"x".to_vec()),
                    ..entry(&path("/link"), EntryKind::Symlink)
                });
            }
            let mut tree = TreeWriter::create(&target, options).unwrap();
            if step_by_step {
                tree.resolve_step_by_step();
            }
            completed += restore_into(tree, &entries).unwrap().files;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(attacker.join().unwrap() > 0, "the attacker got his turns");
        assert!(completed > 0, "some files got through");
        assert_eq!(picture(&outside), before);
        let mut events = [std::mem::MaybeUninit::uninit(); 4096];
        let event = inotify::Reader::new(&watch, &mut events)
            .next()
            .map(|event| format!("{event:?}"));
        assert!(
            matches!(&event, Err(rustix::io::Errno::AGAIN)),
            "something changed outside: {event:?}"
        );
    }
}
