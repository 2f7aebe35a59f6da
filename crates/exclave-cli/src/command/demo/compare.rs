//! Compares two trees byte by byte, knowing nothing of manifests.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Differences that are listed; one is bad enough.
const LISTED_MAX: usize = 20;

/// Where two trees differ: names, types, modes, times, link targets, contents.
pub fn differences(left: &Path, right: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let names: BTreeSet<OsString> = names(&left.join(&folder))?
            .union(&names(&right.join(&folder))?)
            .cloned()
            .collect();
        for name in names {
            let path = folder.join(name);
            let (one, other) = (left.join(&path), right.join(&path));
            match (fs::symlink_metadata(&one), fs::symlink_metadata(&other)) {
                (Ok(stat), Ok(other_stat)) => {
                    if let Some(what) = difference(&one, &stat, &other, &other_stat)? {
                        found.push(format!("{}: {what}", path.display()));
                    } else if stat.is_dir() {
                        folders.push(path);
                    }
                }
                (Ok(_), Err(_)) => found.push(format!("{} is missing", path.display())),
                (Err(_), _) => found.push(format!("{} was not there before", path.display())),
            }
            if found.len() >= LISTED_MAX {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn difference(
    one: &Path,
    stat: &fs::Metadata,
    other: &Path,
    other_stat: &fs::Metadata,
) -> io::Result<Option<&'static str>> {
    if stat.mode() != other_stat.mode() {
        return Ok(Some("another type or mode"));
    }
    if (stat.mtime(), stat.mtime_nsec()) != (other_stat.mtime(), other_stat.mtime_nsec()) {
        return Ok(Some("another time"));
    }
    if stat.is_symlink() && fs::read_link(one)? != fs::read_link(other)? {
        return Ok(Some("another link target"));
    }
    if stat.is_file() && (stat.len() != other_stat.len() || !same_content(one, other)?) {
        return Ok(Some("other content"));
    }
    Ok(None)
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        let count = fill(&mut one, &mut left)?;
        if fill(&mut other, &mut right)? != count || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_difference_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        for tree in [&one, &other] {
            fs::create_dir_all(tree.join("a")).unwrap();
            fs::write(tree.join("a/file"), b"same").unwrap();
        }
        let align = |path: &str| {
            let time = fs::metadata(one.join(path)).unwrap().modified().unwrap();
            File::open(other.join(path)).unwrap().set_modified(time).unwrap();
        };
        align("a/file");
        align("a");
        assert_eq!(differences(&one, &other).unwrap(), Vec::<String>::new());
        fs::write(other.join("a/file"), b"sane").unwrap();
        align("a/file");
        assert_eq!(differences(&one, &other).unwrap(), ["a/file: other content"]);
        fs::remove_file(other.join("a/file")).unwrap();
        align("a");
        assert_eq!(differences(&one, &other).unwrap(), ["a/file is missing"]);
    }
}
