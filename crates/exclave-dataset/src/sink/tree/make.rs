//! Making one thing in an open directory.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use exclave_model::{Entry, EntryKind};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, makedev},
    io::Errno,
};

use crate::sink::{
    beneath::{child, lists_exactly},
    file::{part_name, take_name},
    options::Existing,
    problem::{Refusal, SinkError},
    shared::Shared,
};

/// Makes a directory that only this process's user can enter, and opens it. `EEXIST` when the name is taken and must
/// not be shared.
pub(super) fn directory(shared: &Shared, parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => return child(parent, name),
        Err(Errno::EXIST) if shared.existing == Existing::Replace => {}
        Err(errno) => return Err(errno),
    }
    // Another spelling is another entry, whose content must not be mixed with ours.
    if shared.folds_names && !lists_exactly(parent, name)? {
        return Err(Errno::EXIST);
    }
    match child(parent, name) {
        Ok(found) => {
            make_writable(&found)?;
            Ok(found)
        }
        Err(Errno::ACCESS) => unlock(parent, name),
        // A link or file bears the name: it is replaced, what it points to is left alone.
        Err(Errno::LOOP | Errno::NOTDIR) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            child(parent, name)
        }
        Err(errno) => Err(errno),
    }
}

/// Lets the owner write into an existing directory; its final mode comes at the end.
fn make_writable(directory: &OwnedFd) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(directory)?.st_mode);
    if mode.contains(Mode::RWXU) {
        return Ok(());
    }
    rustix::fs::fchmod(directory, mode | Mode::RWXU)
}

/// Opens an own directory that forbids even its owner to read it.
fn unlock(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let (_, mode) = pinned(parent, name)?;
    change_mode(parent, name, mode | Mode::RWXU)?;
    child(parent, name)
}

/// Changes the mode of what bears a name, and never of what a link points to.
fn change_mode(parent: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<(), Errno> {
    let (pinned, _) = pinned(parent, name)?;
    // fchmod refuses such a descriptor; the kernel's own name for it means this very thing.
    rustix::fs::chmod(format!("/proc/self/fd/{}", pinned.as_raw_fd()), mode)
}

/// A descriptor of what bears a name, without opening it, and its mode; an error for a link.
fn pinned(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(OwnedFd, Mode), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pinned = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let mode = rustix::fs::fstat(&pinned)?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::Symlink => Err(Errno::LOOP),
        _ => Ok((pinned, Mode::from_raw_mode(mode))),
    }
}

/// Makes a fifo, socket or device, under the unfinished name first.
pub(super) fn node(shared: &Shared, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), SinkError> {
    let path = &entry.path;
    let (kind, device) = match (entry.kind, entry.device) {
        (EntryKind::Fifo, _) => (FileType::Fifo, 0),
        (EntryKind::Socket, _) => (FileType::Socket, 0),
        (EntryKind::CharDevice, Some(number)) => (FileType::CharacterDevice, number),
        (EntryKind::BlockDevice, Some(number)) => (FileType::BlockDevice, number),
        (
            EntryKind::CharDevice
            | EntryKind::BlockDevice
            | EntryKind::File
            | EntryKind::Directory
            | EntryKind::Symlink,
            _,
        ) => {
            let rule = "a device without a number".to_owned();
            return Err(SinkError::refused(path, Refusal::Unlawful { rule }));
        }
    };
    // Halves of 32 bits each, see FORMAT.md section 12.
    let device = makedev((device >> 32) as u32, (device & u64::from(u32::MAX)) as u32);
    let part = part_name(path);
    replace(shared, parent, &part, name, |part| {
        rustix::fs::mknodat(parent, part, kind, Mode::RUSR | Mode::WUSR, device)
    })
    .map_err(|errno| SinkError::system(path, "make the node", errno))?;
    let skipped = shared
        .rights
        .apply_by_name(parent, name, entry)
        .map_err(|(doing, errno)| SinkError::system(path, doing, errno))?;
    change_mode(parent, name, Mode::from_raw_mode(entry.mode & 0o777))
        .map_err(|errno| SinkError::system(path, "set its mode", errno))?;
    shared.skipped(skipped);
    Ok(())
}

/// Makes something under the unfinished name and gives it its own.
pub(super) fn replace(
    shared: &Shared,
    parent: BorrowedFd<'_>,
    part: &[u8],
    name: &[u8],
    make: impl Fn(&[u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let made = match make(part) {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(parent, part, AtFlags::empty())?;
            make(part)
        }
        other => other,
    };
    made.and_then(|()| take_name(shared, parent, part, name))
        .inspect_err(|_| {
            let _ = rustix::fs::unlinkat(parent, part, AtFlags::empty());
        })
}
