//! Opening a target, and asking what its file system can do.

use std::{os::fd::AsFd, path::Path};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags},
    io::Errno,
};

use crate::sink::{
    beneath::{Beneath, stat},
    options::Existing,
    problem::SinkError,
};

/// What the target's file system does with names.
pub(super) struct Traits {
    /// It takes names for the same that differ in case or in Unicode form.
    pub(super) folds_names: bool,
    /// A file can have several names.
    pub(super) hard_links: bool,
}

pub(super) fn open(path: &Path, existing: Existing) -> Result<Beneath, SinkError> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(SinkError::Target { doing: "create", errno }),
    }
    let target = Beneath::open(path).map_err(|errno| SinkError::Target { doing: "open", errno })?;
    match existing {
        Existing::Replace => Ok(target),
        Existing::Refuse => match anything_in(&target).map_err(|errno| SinkError::Target { doing: "read", errno })? {
            Some(found) => Err(SinkError::TargetNotEmpty { found }),
            None => Ok(target),
        },
    }
}

/// Some name in the target, if there is one. A fresh ext4 disk holds `lost+found`, and is as good as empty.
fn anything_in(target: &Beneath) -> Result<Option<String>, Errno> {
    for entry in Dir::read_from(target.root())? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// Three spellings of one name: the first is created, the second differs in case, the third in Unicode form.
const PROBES: [&str; 3] = [
    ".exclave-A\u{e9}.part",
    ".exclave-a\u{e9}.part",
    ".exclave-Ae\u{301}.part",
];
const PROBE_LINK: &str = ".exclave-link.part";

/// Tries the file system: makes a file, looks for it under other spellings, links it, and removes it.
pub(super) fn probe(target: &Beneath) -> Result<Traits, SinkError> {
    let root = target.root();
    let remove = |name: &str| rustix::fs::unlinkat(root, name, AtFlags::empty());
    let [made, ..] = PROBES;
    for name in [made, PROBE_LINK] {
        match remove(name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                return Err(SinkError::Target {
                    doing: "write to",
                    errno,
                });
            }
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(root, made, flags, Mode::RUSR | Mode::WUSR) {
        Ok(_) => {}
        Err(errno) => {
            return Err(SinkError::Target {
                doing: "write to",
                errno,
            });
        }
    }
    let other = |name: &str| stat(root.as_fd(), name.as_bytes()).is_ok_and(|found| found.is_some());
    let folds_names = PROBES.iter().skip(1).any(|name| other(name));
    let hard_links = rustix::fs::linkat(root, made, root, PROBE_LINK, AtFlags::empty()).is_ok();
    if hard_links {
        let _ = remove(PROBE_LINK);
    }
    let _ = remove(made);
    Ok(Traits {
        folds_names,
        hard_links,
    })
}
