//! Removes what killed puts left in a directory.
//!
//! Several machines may write into one directory over a network, each with its own process numbers and its own clock. So a
//! leftover's age alone decides, and only the file system's clock counts: that of a file which was just made there. A put
//! that still writes keeps its leftover young, and no put may take a day. What is removed has the name of a leftover and is
//! a plain file in a directory that objects can lie in; nothing is followed through a symbolic link.

use std::os::fd::{AsFd, OwnedFd};

use exclave_model::Prefix;
use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use super::Cause;
use super::tree::{again, open_directory};

/// How long a leftover lies there before its put counts as killed: many times what any deadline of a put allows.
const AGE_SECONDS_MIN: i64 = 24 * 3600;

/// Removes the leftovers that are a day older than `marker`, a file that was just made. Returns how many there were.
pub(super) fn sweep(root: &OwnedFd, marker: impl AsFd) -> Result<u64, Cause> {
    let now = rustix::fs::fstat(marker)?.st_mtime;
    let mut swept = 0;
    // Prefixes, not descriptors, wait on the stack: a wide tree must not use them up.
    let mut waiting = vec![Prefix::all()];
    while let Some(below) = waiting.pop() {
        let mut directory = again(root)?;
        let mut components = below.as_str().split_terminator('/');
        let reached = components.try_for_each(|component| {
            directory = open_directory(&directory, component)?;
            Ok(())
        });
        match reached {
            Ok(()) => swept += sweep_directory(&directory, &below, now, &mut waiting)?,
            // Deleted or replaced while we walk.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(swept)
}

fn sweep_directory(directory: &OwnedFd, below: &Prefix, now: i64, waiting: &mut Vec<Prefix>) -> Result<u64, Cause> {
    let mut swept = 0;
    for item in Dir::read_from(directory)? {
        let item = item?;
        let Ok(text) = item.file_name().to_str() else { continue };
        let name = below.join(text);
        if name.is_err() && !is_leftover(text) {
            continue;
        }
        let about = match rustix::fs::statat(directory, item.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => about,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        match (FileType::from_raw_mode(about.st_mode), name) {
            (FileType::Directory, Ok(name)) => waiting.push(Prefix::below(&name)),
            (FileType::RegularFile, Err(_)) if is_old(&about, now) => {
                match rustix::fs::unlinkat(directory, item.file_name(), AtFlags::empty()) {
                    Ok(()) => swept += 1,
                    // Another sweep, or its put after all.
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            _ => {}
        }
    }
    Ok(swept)
}

/// True for `~<process>.<number>` and nothing else.
fn is_leftover(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.strip_prefix('~').and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(process, put)| number(process) && number(put))
}

fn is_old(about: &Stat, now: i64) -> bool {
    now.saturating_sub(about.st_mtime) >= AGE_SECONDS_MIN
}
