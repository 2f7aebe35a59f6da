//! What a tar stream promises to programs that know nothing of us.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use exclave_model::{Entry, EntryKind, Timestamp};

use super::{sample, takes_xattrs};
use crate::sink::{
    Comparer, Difference, Options, TarSummary, TarWriter,
    testing::{data, directory, entry, file, picture, restore, symlink},
};

/// Streams entries as tar and has the system's tar extract them.
fn through_tar(entries: &[Entry], into: &Path) -> TarSummary {
    let mut writer = TarWriter::new(Vec::new());
    for entry in entries {
        let pieces = [Ok::<_, std::convert::Infallible>((0, data(entry)))];
        writer.append(entry, pieces).unwrap();
    }
    let (stream, summary) = writer.finish().unwrap();
    fs::create_dir(into).unwrap();
    let mut tar = Command::new("tar")
        .args([
            "--extract",
            "--preserve-permissions",
            "--xattrs",
            "--xattrs-include=user.*",
            "--directory",
        ])
        .arg(into)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&stream).unwrap();
    assert!(tar.wait().unwrap().success());
    summary
}

#[test]
fn the_systems_tar_extracts_what_we_stream() {
    let folder = tempfile::tempdir().unwrap();
    let (by_tar, by_us) = (folder.path().join("tar"), folder.path().join("us"));
    let mut entries = sample();
    let long = [b"long".as_slice(), &[b'n'; 200]].concat();
    entries.insert(9, directory(&long));
    entries.insert(
        10,
        Entry {
            size: 9,
            ..file(&[&long[..], b"/", &[b'f'; 255]].concat())
        },
    );
    entries.insert(11, symlink(&[&long[..], b"/link"].concat(), &[b't'; 300]));
    entries.insert(
        12,
        Entry {
            size: 100_000,
            ..file(b"m sparse")
        },
    );
    entries.sort_by(|left, right| left.path.cmp(&right.path));
    let summary = through_tar(&entries, &by_tar);
    assert_eq!(summary.problems, []);
    assert_eq!(
        (summary.files, summary.hard_links, summary.symlinks, summary.directories),
        (7, 1, 3, 4)
    );
    restore(&by_us, Options::default(), &entries).unwrap();
    assert_eq!(picture(&by_tar), picture(&by_us));
    let with_xattrs = takes_xattrs(folder.path());
    let comparer = Comparer::open(&by_tar, Options::default()).unwrap();
    for entry in &entries {
        let mut differences = comparer.compare(entry);
        differences.retain(|difference| with_xattrs || !matches!(difference, Difference::Xattr { .. }));
        assert_eq!(differences, [], "{}", entry.path);
    }
}

#[test]
fn a_tar_stream_never_leads_through_a_link() {
    let mut writer = TarWriter::new(Vec::new());
    let mut append = |entry: &Entry| writer.append(entry, [Ok::<_, std::convert::Infallible>((0, data(entry)))]);
    append(&symlink(b"a", b"/etc")).unwrap();
    assert!(!append(&file(b"a/passwd")).unwrap_err().stops());
    append(&file(b"b")).unwrap();
    assert!(append(&file(b"b")).is_err() && append(&file(b"a")).is_err());
    append(&entry(b"s", EntryKind::Socket)).unwrap();
    append(&Entry {
        device: Some(u64::MAX),
        ..entry(b"t", EntryKind::CharDevice)
    })
    .unwrap();
    let (stream, summary) = writer.finish().unwrap();
    assert_eq!(
        (
            summary.files,
            summary.symlinks,
            summary.specials_skipped,
            summary.problems_count
        ),
        (1, 1, 2, 3)
    );
    let names: Vec<_> = tar::Archive::new(&stream[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path_bytes().to_vec())
        .collect();
    assert_eq!(names, [b"a".to_vec(), b"b".to_vec()]);
}

#[test]
fn tar_has_room_for_what_does_not_fit_its_header() {
    let mut big = file(b"big");
    (big.uid, big.gid) = (3_000_000, u32::MAX);
    big.owner_name = Some([b'o'; 40].to_vec());
    big.group_name = Some(b"gr\xff".to_vec());
    big.modified = Timestamp { secs: -7, nanos: 5 };
    let mut writer = TarWriter::new(Vec::new());
    writer
        .append(&big, [Ok::<_, std::convert::Infallible>((0, b"big"))])
        .unwrap();
    let (stream, _) = writer.finish().unwrap();
    let mut archive = tar::Archive::new(&stream[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let records: Vec<_> = entry
        .pax_extensions()
        .unwrap()
        .unwrap()
        .map(|record| {
            record
                .map(|record| (record.key_bytes().to_vec(), record.value_bytes().to_vec()))
                .unwrap()
        })
        .collect();
    let value = |key: &str| &records.iter().find(|(found, _)| found == key.as_bytes()).unwrap().1[..];
    assert_eq!((value("uid"), value("gid")), (&b"3000000"[..], &b"4294967295"[..]));
    assert_eq!(
        (value("mtime"), value("uname")),
        (&b"-6.999999995"[..], &[b'o'; 40][..])
    );
    assert_eq!((value("gname"), value("hdrcharset")), (&b"gr\xff"[..], &b"BINARY"[..]));
}
