//! What a bad year does to a folder that plays a site.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Empties a site. The folder itself stays: a store that answers and has nothing.
pub fn destroy(site: &Path) -> io::Result<()> {
    for entry in fs::read_dir(site)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path)?
        } else {
            fs::remove_file(&path)?
        }
    }
    Ok(())
}

/// Flips one bit in the middle of each shard of a site; how many.
pub fn corrupt(site: &Path) -> io::Result<u64> {
    let mut altered = 0;
    for path in files_below(site)? {
        let is_shard = path.components().any(|part| part.as_os_str() == "shards");
        if !is_shard {
            continue;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let middle = file.metadata()?.len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle)?;
        file.write_all_at(&[byte[0] ^ 1], middle)?;
        altered += 1;
    }
    Ok(altered)
}

/// Bytes of all files below a folder.
pub fn bytes_below(folder: &Path) -> io::Result<u64> {
    files_below(folder)?
        .iter()
        .map(|path| Ok(fs::metadata(path)?.len()))
        .sum()
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path())
            } else {
                files.push(entry.path())
            }
        }
    }
    Ok(files)
}
