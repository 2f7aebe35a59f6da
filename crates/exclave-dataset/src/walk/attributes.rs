//! Extended attributes, which hold access control lists and capabilities too.
//!
//! Directories are asked by descriptor. Files, links and special files are asked by name inside their open directory,
//! through `/proc/self/fd`: opening every file for its attributes alone would cost three calls instead of one, and
//! opening a pipe or a socket is no option. The last component is never followed.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::BorrowedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
};

use exclave_model::limit::XATTR_BYTES_MAX;
use rustix::io::Errno;

use super::directory::proc_path;

/// What was read, ascending by name, and how many attributes did not fit the format's cap.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) left_out: usize,
}

/// Attributes of an open file or directory.
pub(crate) fn of_descriptor(descriptor: BorrowedFd<'_>) -> Result<Attributes, io::Error> {
    of_path(proc_path(descriptor, b""), Follow::Yes)
}

/// Attributes of a name in an open directory; a link's own, not its target's.
pub(crate) fn of_name(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Attributes, io::Error> {
    of_path(proc_path(directory, name), Follow::No)
}

enum Follow {
    /// The path is a link of /proc that leads to an open file.
    Yes,
    No,
}

fn of_path(path: Vec<u8>, follow: Follow) -> Result<Attributes, io::Error> {
    let path = PathBuf::from(OsString::from_vec(path));
    let listed = match follow {
        Follow::Yes => xattr::list_deref(&path),
        Follow::No => xattr::list(&path),
    };
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) if unsupported(&error) => return Ok(Attributes::default()),
        Err(error) => return Err(error),
    };
    let mut names: Vec<Vec<u8>> = listed.map(OsString::into_vec).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    let mut attributes = Attributes::default();
    let mut bytes = 0;
    for name in names {
        let value = match follow {
            Follow::Yes => xattr::get_deref(&path, OsStr::from_bytes(&name)),
            Follow::No => xattr::get(&path, OsStr::from_bytes(&name)),
        };
        let value = match value {
            Ok(Some(value)) => value,
            Ok(None) => continue, // removed since it was listed
            Err(error) if unsupported(&error) => continue,
            Err(error) => return Err(error),
        };
        if bytes + name.len() + value.len() > XATTR_BYTES_MAX {
            attributes.left_out += 1;
            continue;
        }
        bytes += name.len() + value.len();
        attributes.pairs.push((name, value));
    }
    Ok(attributes)
}

fn unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(Errno::NOTSUP.raw_os_error()) || errno == Some(Errno::OPNOTSUPP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd};

    use super::*;

    #[test]
    fn attributes_are_sorted_and_links_have_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = File::create(&path).unwrap();
        xattr::set(&path, "user.z", b"last").unwrap();
        xattr::set(&path, "user.a", b"\0\xff").unwrap();
        std::os::unix::fs::symlink("f", folder.path().join("l")).unwrap();
        let directory = File::open(folder.path()).unwrap();
        let expected = vec![
            (b"user.a".to_vec(), b"\0\xff".to_vec()),
            (b"user.z".to_vec(), b"last".to_vec()),
        ];
        assert_eq!(of_name(directory.as_fd(), b"f").unwrap().pairs, expected);
        assert_eq!(of_descriptor(file.as_fd()).unwrap().pairs, expected);
        assert!(of_name(directory.as_fd(), b"l").unwrap().pairs.is_empty());
        assert!(of_name(directory.as_fd(), b"gone").is_err());
    }

    #[test]
    fn access_lists_and_capabilities_are_kept_when_the_system_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        File::create(&path).unwrap();
        // Version 2: owner rw-, user 1000 r--, group r--, mask r--, others ---; (tag, permissions, id) each.
        let mut list = 2u32.to_le_bytes().to_vec();
        let no_id = u32::MAX;
        for (tag, permissions, id) in [
            (1u16, 6u16, no_id),
            (2, 4, 1000),
            (4, 4, no_id),
            (16, 4, no_id),
            (32, 0, no_id),
        ] {
            list.extend(tag.to_le_bytes());
            list.extend(permissions.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        // Version 2, effective: cap_net_bind_service.
        let mut capability = 0x0200_0001u32.to_le_bytes().to_vec();
        capability.extend([1u32 << 10, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
        let wanted = [("security.capability", capability), ("system.posix_acl_access", list)];
        let set: Vec<_> = wanted
            .iter()
            .filter(|(name, value)| xattr::set(&path, name, value).is_ok())
            .map(|(name, value)| (name.as_bytes().to_vec(), value.clone()))
            .collect();
        let directory = File::open(folder.path()).unwrap();
        assert_eq!(of_name(directory.as_fd(), b"f").unwrap().pairs, set);
    }

    #[test]
    fn attributes_over_the_cap_are_counted() {
        let folder = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let path = folder.path().join("f");
        let file = File::create(&path).unwrap();
        let mut set = 0;
        for number in 0..5 {
            set += usize::from(xattr::set(&path, format!("user.{number}"), &vec![1; 20_000]).is_ok());
        }
        let attributes = of_descriptor(file.as_fd()).unwrap();
        // File systems differ in what they store; what they stored is here or counted.
        assert_eq!(attributes.pairs.len() + attributes.left_out, set);
        assert_eq!(attributes.pairs.len(), set.min(3));
    }
}
