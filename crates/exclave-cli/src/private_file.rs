//! Files that only their owner may read: keys, credentials, passphrases (THREATS A33).
//!
//! Read: a regular file, no symbolic link, of this user or root, without any permission for group and others. Otherwise
//! refused, with what to do. Made: never over something that is there, with mode 0600, on disk before we go on.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
    process::geteuid,
};
use zeroize::Zeroizing;

use crate::error::{Context as _, Trouble};

/// No key, credential or passphrase is longer.
const BYTES_MAX: u64 = 64 << 10;

/// Reads a private file; `noun` is what it is.
pub fn read(path: &Path, noun: &str) -> Result<Zeroizing<String>, Trouble> {
    let cannot = || format!("the {noun} {} can't be read", path.display());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let descriptor = open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => Trouble::usage(format!("{}: it is a symbolic link", cannot())).hint("name the file itself"),
        errno => Trouble::usage(cannot()).source(errno),
    })?;
    let stat = fstat(&descriptor).because(|| Trouble::usage(cannot()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Trouble::usage(format!("{}: it is no regular file", cannot())));
    }
    if stat.st_uid != geteuid().as_raw() && stat.st_uid != 0 {
        return Err(Trouble::usage(format!(
            "{}: it belongs to another user ({})",
            cannot(),
            stat.st_uid
        )));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(Trouble::usage(format!(
            "the {noun} {} is open to others (mode {:04o})",
            path.display(),
            stat.st_mode & 0o7777
        ))
        .hint(format!("chmod 600 {}", path.display())));
    }
    text_of(File::from(descriptor), &cannot())
}

/// Reads the first line of a private file or of a pipe, such as `<(pass show exclave)`.
pub fn read_line(path: &Path, noun: &str) -> Result<Zeroizing<String>, Trouble> {
    use std::os::unix::fs::FileTypeExt as _;
    let is_pipe = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    let text = if is_pipe {
        let cannot = format!("the {noun} {} can't be read", path.display());
        let pipe = File::open(path).because(|| Trouble::usage(cannot.clone()))?;
        text_of(pipe, &cannot)?
    } else {
        read(path, noun)?
    };
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Reads a file that isn't secret, of at most so many bytes. Devices and pipes are none.
pub fn read_public(path: &Path, bytes_max: usize, noun: &str) -> Result<Vec<u8>, Trouble> {
    let cannot = || Trouble::usage(format!("the {noun} {} can't be read", path.display()));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let descriptor = open(path, flags, Mode::empty()).because(cannot)?;
    let stat = fstat(&descriptor).because(cannot)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Trouble::usage(format!("{} is no regular file", path.display())));
    }
    let mut bytes = Vec::new();
    let file = File::from(descriptor);
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .because(cannot)?;
    match bytes.len() > bytes_max {
        true => Err(Trouble::usage(format!("{} is longer than any {noun}", path.display()))),
        false => Ok(bytes),
    }
}

/// Makes a private file that was not there before.
pub fn create(path: &Path, content: impl AsRef<[u8]>, noun: &str) -> Result<(), Trouble> {
    let cannot = || format!("the {noun} {} can't be written", path.display());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let descriptor = open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| match errno {
        Errno::EXIST => Trouble::usage(format!("the {noun} {} is there already", path.display()))
            .hint("it is never written over; name another file or move that one away"),
        errno => Trouble::failed(cannot()).source(errno),
    })?;
    let mut file = File::from(descriptor);
    let written = file.write_all(content.as_ref()).and_then(|()| file.sync_all());
    written
        .and_then(|()| sync_directory(path))
        .because(|| Trouble::failed(cannot()))
}

/// Replaces a private file in one step: whoever looks sees the old or the new one.
pub fn replace(path: &Path, content: impl AsRef<[u8]>, noun: &str) -> Result<(), Trouble> {
    let cannot = || Trouble::failed(format!("the {noun} {} can't be rewritten", path.display()));
    // Such a file has mode 0600 from its first moment.
    let mut file = tempfile::NamedTempFile::new_in(directory_of(path)).because(cannot)?;
    let written = file
        .write_all(content.as_ref())
        .and_then(|()| file.as_file().sync_all());
    written.because(cannot)?;
    file.persist(path).map_err(|error| error.error).because(cannot)?;
    sync_directory(path).because(cannot)
}

/// Replaces a file that anyone may read in one step.
pub fn replace_public(path: &Path, content: impl AsRef<[u8]>, noun: &str) -> Result<(), Trouble> {
    let cannot = || Trouble::failed(format!("the {noun} {} can't be rewritten", path.display()));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let made = tempfile::Builder::new()
        .permissions(mode)
        .tempfile_in(directory_of(path));
    let mut file = made.because(cannot)?;
    let written = file
        .write_all(content.as_ref())
        .and_then(|()| file.as_file().sync_all());
    written.because(cannot)?;
    file.persist(path).map_err(|error| error.error).because(cannot)?;
    sync_directory(path).because(cannot)
}

/// The directory that a file lies in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn text_of(file: File, cannot: &str) -> Result<Zeroizing<String>, Trouble> {
    let mut text = Zeroizing::new(String::new());
    // One byte more than allowed tells a long file from one that fits; room for all, so that nothing is copied about.
    text.reserve(BYTES_MAX as usize + 1);
    let read = file.take(BYTES_MAX + 1).read_to_string(&mut text);
    let read = read.because(|| Trouble::usage(cannot.to_owned()))?;
    if read as u64 > BYTES_MAX {
        return Err(Trouble::usage(format!("{cannot}: it is longer than {BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn only_private_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        create(&path, "secret\n", "key").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(*read(&path, "key").unwrap(), "secret\n");
        assert_eq!(*read_line(&path, "key").unwrap(), "secret");
        assert!(
            create(&path, "other", "key")
                .unwrap_err()
                .to_string()
                .contains("is there already")
        );
        replace(&path, "other", "key").unwrap();
        assert_eq!((mode(&path), read(&path, "key").unwrap().as_str()), (0o600, "other"));

        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read(&link, "key").unwrap_err().to_string().contains("symbolic link"));
        assert!(
            read(directory.path(), "key")
                .unwrap_err()
                .to_string()
                .contains("no regular file")
        );
        for mode in [0o640, 0o604, 0o660, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path, "key").unwrap_err();
            assert!(error.to_string().contains("open to others"), "{error}");
            assert_eq!(
                error.hint_text(),
                Some(format!("chmod 600 {}", path.display()).as_str())
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, vec![b'x'; BYTES_MAX as usize + 1]).unwrap();
        assert!(read(&path, "key").unwrap_err().to_string().contains("longer than"));
    }
}
