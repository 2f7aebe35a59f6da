//! A source of one file.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use exclave_model::{EntryKind, EntryPath};

use super::{FileList, Finding, Found, ListedDirectory, Walk, WalkOptions, Walked};

/// Finds one regular file as a dataset of its own: an entry at the file's name. A link there is followed.
pub fn find_file(path: &Path) -> Result<(Found, Vec<Finding>), BadFile> {
    let refuse = |source: io::Error| BadFile::Refused {
        path: path.to_owned(),
        source,
    };
    let real = std::fs::canonicalize(path).map_err(refuse)?;
    let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(BadFile::NotAFile { path: path.to_owned() });
    };
    let name = EntryPath::root()
        .join(name.as_bytes())
        .map_err(|bad| refuse(io::Error::other(bad)))?;
    let options = WalkOptions {
        list: Some(FileList::of(vec![name], ListedDirectory::Alone)),
        ..WalkOptions::default()
    };
    let walk = Walk::new(parent, options).map_err(|bad| refuse(bad.source))?;
    let (mut file, mut findings) = (None, Vec::new());
    for step in walk {
        match step {
            Walked::Found(found) if found.entry.kind == EntryKind::File => file = Some(*found),
            Walked::Found(_) => {}
            Walked::Finding(finding) => findings.push(finding),
        }
    }
    file.map(|file| (file, findings))
        .ok_or(BadFile::NotAFile { path: path.to_owned() })
}

/// A path is no file that can be read.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// The system refuses.
    #[error("the file {} can't be found", path.display())]
    Refused {
        /// As given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory, a device, or gone.
    #[error("{} is no regular file", path.display())]
    NotAFile {
        /// As given.
        path: PathBuf,
    },
}
