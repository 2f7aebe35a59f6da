//! The end of a restore: hard links, symbolic links, directories, disk.

use std::os::fd::AsFd;

use exclave_model::{Entry, EntryPath};
use rustix::{fs::AtFlags, io::Errno};

use super::{TreeWriter, make::replace};
use crate::sink::{
    beneath::stat,
    file::part_name,
    problem::{Refusal, SinkError},
    shared::{Shared, SinkSummary},
};

/// See [`TreeWriter::finish`].
pub(super) fn finish(writer: TreeWriter) -> Result<SinkSummary, SinkError> {
    let shared = writer.shared;
    let count = shared.files_open();
    if count > 0 {
        return Err(SinkError::FilesOpen { count });
    }
    let lost = |errno| SinkError::Target {
        doing: "read what is left to do from",
        errno,
    };

    let mut links = writer.hard_link_spool.into_reader(&shared.target).map_err(lost)?;
    while let Some(entry) = links.first().map_err(lost)? {
        go_on(&shared, hard_link(&shared, &entry))?;
    }
    let mut symlinks = writer.symlink_spool.into_reader(&shared.target).map_err(lost)?;
    while let Some(entry) = symlinks.first().map_err(lost)? {
        go_on(&shared, symlink(&shared, &entry))?;
    }
    let mut directories = writer.directory_spool.into_reader(&shared.target).map_err(lost)?;
    while let Some(entry) = directories.last().map_err(lost)? {
        go_on(&shared, finish_directory(&shared, &entry))?;
    }
    rustix::fs::syncfs(shared.target.root()).map_err(|errno| SinkError::Target {
        doing: "write to the disk of",
        errno,
    })?;
    let summary = shared.summary().clone();
    Ok(summary)
}

/// Records what concerns one entry, and stops for the rest.
fn go_on(shared: &Shared, done: Result<(), SinkError>) -> Result<(), SinkError> {
    match done.map_err(|error| shared.record(error)) {
        Err(error) if error.stops() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Gives a restored file a further name.
fn hard_link(shared: &Shared, entry: &Entry) -> Result<(), SinkError> {
    let path = &entry.path;
    let failed = |errno| SinkError::system(path, "link it", errno);
    let first = entry.link_group.clone().unwrap_or_default();
    let missing = || SinkError::refused(path, Refusal::LinkWithoutFile { first: first.clone() });
    // What bears the first name now may be an older file.
    if shared.is_uncommitted(&first) {
        return Err(missing());
    }
    let (from, from_name) = shared.target.parent(&first).map_err(failed)?.ok_or_else(missing)?;
    let file = stat(&from, from_name).map_err(failed)?.ok_or_else(missing)?;
    let (to, name) = parent(shared, path)?;
    if stat(&to, name)
        .map_err(failed)?
        .is_some_and(|it| (it.st_dev, it.st_ino) == (file.st_dev, file.st_ino))
    {
        // An earlier try made it. Renaming one name of a file over another would do nothing.
        shared.summary().hard_links += 1;
        return Ok(());
    }
    let link = |part: &[u8]| rustix::fs::linkat(&from, from_name, &to, part, AtFlags::empty());
    replace(shared, to.as_fd(), &part_name(path), name, link).map_err(failed)?;
    shared.summary().hard_links += 1;
    Ok(())
}

/// Makes a symbolic link. Where it points is its owner's affair; nothing of ours follows it.
fn symlink(shared: &Shared, entry: &Entry) -> Result<(), SinkError> {
    let path = &entry.path;
    let (parent, name) = parent(shared, path)?;
    let to = entry.link_target.clone().unwrap_or_default();
    let make = |part: &[u8]| rustix::fs::symlinkat(to.as_slice(), &parent, part);
    replace(shared, parent.as_fd(), &part_name(path), name, make)
        .map_err(|errno| SinkError::system(path, "make the link", errno))?;
    let skipped = shared
        .rights
        .apply_by_name(parent.as_fd(), name, entry)
        .map_err(|(doing, errno)| SinkError::system(path, doing, errno))?;
    shared.skipped(skipped);
    shared.summary().symlinks += 1;
    Ok(())
}

/// Gives a directory its owner, attributes, mode and time, once nothing more is made in it.
fn finish_directory(shared: &Shared, entry: &Entry) -> Result<(), SinkError> {
    let path = &entry.path;
    let directory = shared
        .target
        .directory(path)
        .map_err(|errno| SinkError::system(path, "open it again", errno))?;
    let skipped = shared
        .rights
        .apply(directory.as_fd(), entry)
        .map_err(|(doing, errno)| SinkError::system(path, doing, errno))?;
    shared.skipped(skipped);
    Ok(())
}

fn parent<'a>(shared: &Shared, path: &'a EntryPath) -> Result<(std::os::fd::OwnedFd, &'a [u8]), SinkError> {
    shared
        .target
        .parent(path)
        .and_then(|found| found.ok_or(Errno::ISDIR))
        .map_err(|errno| SinkError::system(path, "open its directory", errno))
}
