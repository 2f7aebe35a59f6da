//! Mode, owner, time and extended attributes of one restored thing.
//!
//! The order matters: a change of owner clears setuid and capabilities, ACLs change the group bits, and everything
//! changes times. So: owner, attributes, mode, time.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use exclave_model::Entry;
use rustix::{
    fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags},
    io::Errno,
};

use super::options::{Options, Owners, SpecialModes, Xattrs};

/// The setuid, setgid and sticky bits.
const SPECIAL_BITS: u32 = 0o7000;
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// What this process may restore.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    options: Options,
    privileged: bool,
    uid: u32,
    gid: u32,
}

/// What was left out for one entry, without being a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Skipped {
    /// The owner or group is not the manifest's.
    pub(super) owner: bool,
    /// Special bits were stripped.
    pub(super) special_mode: bool,
    /// Attributes that were not set.
    pub(super) xattrs: u64,
}

impl Rights {
    /// The options, and whether the process is root.
    pub(super) fn of_process(options: Options) -> Self {
        let uid = rustix::process::geteuid();
        let gid = rustix::process::getegid().as_raw();
        Self {
            options,
            privileged: uid.is_root(),
            uid: uid.as_raw(),
            gid,
        }
    }

    /// True when owners are to be restored.
    pub(super) fn owners(&self) -> bool {
        self.options.owners == Owners::Auto && self.privileged
    }

    /// True when an attribute of this name is to be restored.
    pub(super) fn xattr(&self, name: &[u8]) -> bool {
        let keep_special = self.options.special_modes == SpecialModes::Keep;
        self.options.xattrs == Xattrs::Auto
            && match name {
                b"security.capability" => self.privileged && keep_special,
                _ if name.starts_with(b"security.") || name.starts_with(b"trusted.") => self.privileged,
                _ => name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_"),
            }
    }

    /// The bits that an entry gets when its owner is as found.
    pub(super) fn mode(&self, entry: &Entry, uid: u32, gid: u32) -> u32 {
        let mut mode = entry.mode & 0o7777;
        if self.options.special_modes == SpecialModes::Strip {
            mode &= !SPECIAL_BITS;
        }
        // A program must not run with the rights of whoever happened to restore it.
        if uid != entry.uid {
            mode &= !SETUID;
        }
        if gid != entry.gid {
            mode &= !SETGID;
        }
        mode
    }

    /// Applies everything to an open file or directory.
    pub(super) fn apply(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<Skipped, (&'static str, Errno)> {
        let owner = self.own(entry, |uid, gid| rustix::fs::fchown(fd, Some(uid), Some(gid)))?;
        let mut skipped = Skipped {
            owner,
            ..Skipped::default()
        };
        for (name, value) in &entry.xattrs {
            let set = || rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty());
            if !self.xattr(name) || set().is_err() {
                // Whatever the reason, also `ENOSPC`, which here means the inode's own room: the data is not at risk.
                skipped.xattrs += 1;
            }
        }
        let (uid, gid) = match entry.mode & SPECIAL_BITS {
            0 => (entry.uid, entry.gid),
            _ => rustix::fs::fstat(fd)
                .map(|stat| (stat.st_uid, stat.st_gid))
                .map_err(|errno| ("look at it", errno))?,
        };
        let mode = self.mode(entry, uid, gid);
        skipped.special_mode = mode != entry.mode & 0o7777;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)).map_err(|errno| ("set its mode", errno))?;
        rustix::fs::futimens(fd, &times(entry)).map_err(|errno| ("set its time", errno))?;
        Ok(skipped)
    }

    /// Applies everything to a link or node, by its name in an open directory. Never follows a link.
    pub(super) fn apply_by_name(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<Skipped, (&'static str, Errno)> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let owner = self.own(entry, |uid, gid| {
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)
        })?;
        let mut skipped = Skipped {
            owner,
            ..Skipped::default()
        };
        if !entry.xattrs.is_empty() {
            // There is no fsetxattr without opening; the kernel's own name of the directory pins it as well.
            let mut path = format!("/proc/self/fd/{}/", parent.as_fd().as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            for (name, value) in &entry.xattrs {
                let set = || rustix::fs::lsetxattr(path.as_slice(), name.as_slice(), value, XattrFlags::empty());
                if !self.xattr(name) || set().is_err() {
                    skipped.xattrs += 1;
                }
            }
        }
        rustix::fs::utimensat(parent, name, &times(entry), flags).map_err(|errno| ("set its time", errno))?;
        Ok(skipped)
    }

    /// Sets the owner; true when it was left out.
    fn own(
        &self,
        entry: &Entry,
        chown: impl FnOnce(Uid, Gid) -> Result<(), Errno>,
    ) -> Result<bool, (&'static str, Errno)> {
        // The greatest number means "leave as it is" to the kernel.
        if !self.owners() || entry.uid == u32::MAX || entry.gid == u32::MAX {
            return Ok((entry.uid, entry.gid) != (self.uid, self.gid));
        }
        match chown(Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)) {
            Ok(()) => Ok(false),
            // Root of a container or user namespace, or a file system without owners.
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => Ok(true),
            Err(errno) => Err(("set its owner", errno)),
        }
    }
}

fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: entry.modified.secs,
            tv_nsec: entry.modified.nanos.into(),
        },
    }
}
