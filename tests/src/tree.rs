//! Small source trees, and a comparison of two trees that knows nothing of Exclave.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

/// Writes a tree with a bit of everything; `flavour` changes some of its bytes.
pub fn plant(root: &Path, flavour: u8) -> io::Result<()> {
    fs::create_dir_all(root.join("registers/land"))?;
    fs::create_dir_all(root.join("empty"))?;
    fs::write(root.join("registers/land/parcels.csv"), noise(300_000, 1))?;
    fs::write(root.join("registers/land/owners.csv"), "owner;parcel\n".repeat(9000))?;
    fs::write(root.join("registers/changed.bin"), noise(70_000, flavour))?;
    fs::write(root.join("nothing"), b"")?;
    fs::write(root.join("tiny"), [flavour])?;
    fs::set_permissions(root.join("tiny"), fs::Permissions::from_mode(0o640))?;
    if fs::symlink_metadata(root.join("link")).is_err() {
        std::os::unix::fs::symlink("registers/land", root.join("link"))?;
        fs::hard_link(root.join("tiny"), root.join("zz-second-name"))?;
    }
    Ok(())
}

/// Bytes that don't compress and are always the same.
pub fn noise(bytes: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// What a tree holds: path, and a line that describes the entry.
pub fn describe(root: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let stat = fs::symlink_metadata(&path)?;
            let kind = if stat.is_dir() {
                folders.push(path.clone());
                "directory".to_owned()
            } else if stat.is_symlink() {
                format!("link to {}", fs::read_link(&path)?.display())
            } else {
                let content = fs::read(&path)?;
                format!(
                    "{} bytes, sum {:x}, {} names",
                    content.len(),
                    sum(&content),
                    stat.nlink()
                )
            };
            let mode = if stat.is_symlink() { 0 } else { stat.mode() };
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            found.insert(
                name,
                format!("{kind}, mode {mode:o}, {}.{}", stat.mtime(), stat.mtime_nsec()),
            );
        }
    }
    Ok(found)
}

/// FNV-1a, 64 bit: enough to tell test contents apart.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
