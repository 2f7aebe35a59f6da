//! The files of a kit's folder: whole, under their own names, or in pieces, under those that they have at a site.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use exclave_model::{FileHash, Kit, KitFile, Tag, kit::KIT_PIECE_BYTES};
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
};

/// A file that isn't what the manifest says.
#[derive(Debug, thiserror::Error)]
#[error("{file} is {why}")]
pub struct Altered {
    /// The file.
    pub file: String,
    /// How.
    pub why: String,
    missing: bool,
}

/// A file's bytes, checked.
pub fn whole(folder: &Path, file: &KitFile) -> Result<Vec<u8>, Altered> {
    let mut bytes = Vec::new();
    for (at, hash) in file.pieces.iter().enumerate() {
        bytes.extend(checked(folder, file, at, hash)?);
    }
    Ok(bytes)
}

/// Checks every file, piece by piece. Returns those that are missing.
pub fn check_all(folder: &Path, kit: &Kit) -> Result<Vec<String>, Altered> {
    let mut missing = Vec::new();
    for file in &kit.files {
        let mut hash = blake3::Hasher::new();
        let checked: Result<(), Altered> = file.pieces.iter().enumerate().try_for_each(|(at, wanted)| {
            hash.update(&checked(folder, file, at, wanted)?);
            Ok(())
        });
        match checked {
            Ok(()) if *hash.finalize().as_bytes() == *file.hash.as_bytes() => {}
            Ok(()) => return Err(altered(file, "altered: it has another hash than the manifest says")),
            Err(trouble) if trouble.missing => missing.push(file.name.clone()),
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(missing)
}

fn checked(folder: &Path, file: &KitFile, at: usize, hash: &FileHash) -> Result<Vec<u8>, Altered> {
    let bytes = piece(folder, file, at)?;
    match FileHash::of(&bytes) == *hash {
        true => Ok(bytes),
        false => Err(altered(file, "altered: it has another hash than the manifest says")),
    }
}

/// A piece of a file, not checked.
pub fn piece(folder: &Path, file: &KitFile, at: usize) -> Result<Vec<u8>, Altered> {
    let bytes = file.piece_bytes(at).unwrap_or_default();
    let start = at as u64 * KIT_PIECE_BYTES as u64;
    match opened(&folder.join(&file.name), file, file.length)? {
        Some(whole) => read(whole, file, start, bytes),
        None => {
            let tag = file.pieces.get(at).map(|hash| Tag::of_hash(hash.as_bytes()));
            let name = tag.map_or_else(String::new, |tag| format!("{}.{at:03}.{tag}", file.name));
            match opened(&folder.join(name), file, bytes as u64)? {
                Some(piece) => read(piece, file, 0, bytes),
                None => Err(Altered {
                    missing: true,
                    ..altered(file, "missing")
                }),
            }
        }
    }
}

/// A regular file of this length; `None` where there is none of the name.
fn opened(path: &Path, file: &KitFile, length: u64) -> Result<Option<File>, Altered> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let descriptor = match open(path, flags, Mode::empty()) {
        Ok(descriptor) => descriptor,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(altered(file, &format!("not to be read: {errno}"))),
    };
    let stat = fstat(&descriptor).map_err(|errno| altered(file, &format!("not to be read: {errno}")))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(altered(file, "no regular file"));
    }
    match u64::try_from(stat.st_size) == Ok(length) {
        true => Ok(Some(File::from(descriptor))),
        false => {
            let found = stat.st_size;
            Err(altered(
                file,
                &format!("altered: it has {found} bytes, the manifest says {length}"),
            ))
        }
    }
}

fn read(mut from: File, file: &KitFile, start: u64, bytes: usize) -> Result<Vec<u8>, Altered> {
    let mut piece = vec![0; bytes];
    let done = from
        .seek(SeekFrom::Start(start))
        .and_then(|_| from.read_exact(&mut piece));
    match done {
        Ok(()) => Ok(piece),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(altered(file, "altered: it ends early")),
        Err(error) => Err(altered(file, &format!("not to be read: {error}"))),
    }
}

fn altered(file: &KitFile, why: &str) -> Altered {
    Altered {
        file: file.name.clone(),
        why: why.to_owned(),
        missing: false,
    }
}
