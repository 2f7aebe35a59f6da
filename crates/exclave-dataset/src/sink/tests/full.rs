//! What happens when the target has no room, or names are taken meanwhile.

use std::{fs, process::Command};

use exclave_model::Entry;
use rustix::io::Errno;

use crate::sink::{
    Options, Placed, Refusal, SinkError, TreeWriter,
    testing::{file, path, picture},
};

/// A small file system in memory; needs privilege.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn small() -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(at.path())
            .output();
        mount.is_ok_and(|done| done.status.success()).then(|| Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_disk_without_room_stops_the_restore_cleanly() {
    let Some(disk) = Mounted::small() else { return };
    let mut tree = TreeWriter::create(disk.0.path(), Options::default()).unwrap();
    let mut begin = |name: &[u8], size: u64| match tree.place(&Entry { size, ..file(name) }).unwrap() {
        Placed::Content(writer) => writer,
        Placed::Done => panic!("a file wants data"),
    };
    let small = begin(b"a", 5);
    small.write_at(0, b"small").unwrap();
    small.commit().unwrap();
    let big = begin(b"b", 4 << 20);
    let full = big.write_at(0, &vec![1; 4 << 20]).unwrap_err();
    assert_eq!(
        full,
        SinkError::TargetFull {
            path: path(b"b"),
            errno: Errno::NOSPC
        }
    );
    assert!(full.stops());
    drop(big);
    let left: Vec<_> = picture(disk.0.path()).into_keys().collect();
    assert_eq!(
        left,
        [b"".to_vec(), b"a".to_vec()],
        "the complete file stays, nothing else does"
    );
}

#[test]
fn a_name_that_others_took_meanwhile_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = TreeWriter::create(folder.path(), Options::default()).unwrap();
    let Placed::Content(writer) = tree.place(&file(b"a")).unwrap() else {
        panic!("a file wants data")
    };
    fs::write(folder.path().join("a"), "theirs").unwrap();
    fs::write(folder.path().join("b"), "theirs").unwrap();
    writer.write_at(0, b"a").unwrap();
    let taken = |at: &[u8]| SinkError::refused(&path(at), Refusal::Occupied);
    assert_eq!(writer.commit().unwrap_err(), taken(b"a"));
    assert_eq!(tree.place(&file(b"b")).unwrap_err(), taken(b"b"));
    assert_eq!(tree.finish().unwrap().problems_count, 2);
    for name in ["a", "b"] {
        assert_eq!(fs::read(folder.path().join(name)).unwrap(), b"theirs");
    }
}

#[test]
fn a_full_target_stops_the_restore() {
    let where_full = path(b"a");
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        let full = SinkError::system(&where_full, "write it", errno);
        assert_eq!(
            full,
            SinkError::TargetFull {
                path: where_full.clone(),
                errno
            }
        );
        assert!(full.stops());
    }
    assert!(!SinkError::system(&where_full, "write it", Errno::IO).stops());
    assert!(SinkError::system(&where_full, "write it", Errno::ROFS).stops());
}
