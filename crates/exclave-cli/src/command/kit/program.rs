//! The programs of a new kit: which they are, what they call themselves, and what they need of a machine.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use exclave_model::kit::{KIT_PROGRAM_BYTES_MAX, file_name};

use crate::error::{Context as _, Trouble};

/// The program's name in a kit.
const PROGRAM: &str = "exclave";

/// Programs by their names in the kit.
pub fn named(given: &[String]) -> Result<Vec<(String, PathBuf)>, Trouble> {
    if given.is_empty() {
        let running = std::env::current_exe().because(|| Trouble::failed("this program's own file is not known"))?;
        return Ok(vec![(PROGRAM.to_owned(), running)]);
    }
    let mut binaries: Vec<(String, PathBuf)> = Vec::new();
    for text in given {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if file_name(name) => (name, path),
            _ => (PROGRAM, text.as_str()),
        };
        if binaries.iter().any(|(other, _)| other == name) || super::make::TEXTS.iter().any(|(other, _)| *other == name)
        {
            return Err(Trouble::usage(format!("two files of the kit would be named {name}"))
                .hint("give each program a name: --binary exclave-aarch64=FILE"));
        }
        binaries.push((name.to_owned(), PathBuf::from(path)));
    }
    Ok(binaries)
}

/// What the kit's program calls itself. Another one than the running is asked, with nothing of ours in its environment.
pub fn version(given: &[String], binaries: &[(String, PathBuf)]) -> String {
    let ours = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
    let Some((_, path)) = binaries.first().filter(|_| !given.is_empty()) else {
        return ours;
    };
    let said = std::process::Command::new(path).arg("--version").env_clear().output();
    let said = said.ok().filter(|said| said.status.success());
    let line = said.and_then(|said| Some(String::from_utf8(said.stdout).ok()?.lines().next()?.to_owned()));
    let lawful =
        |line: &String| !line.is_empty() && line.len() <= KIT_PROGRAM_BYTES_MAX && !line.contains(char::is_control);
    line.filter(lawful)
        .unwrap_or_else(|| format!("{PROGRAM}, which does not run on the machine that made the kit"))
}

/// The loader that a program asks for (System V ABI, ELF: a header of type PT_INTERP); `None` for a static one, and for what
/// isn't ELF of 64 bits, little-endian.
pub fn loader(path: &Path) -> Option<String> {
    const HEADERS_MAX: u16 = 64;
    const PT_INTERP: u32 = 3;
    let mut file = File::open(path).ok()?;
    let mut header = [0; 64];
    file.read_exact(&mut header).ok()?;
    let number = |bytes: &[u8], at: usize, width: usize| -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(width)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    };
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (start, size) = (number(&header, 32, 8)?, number(&header, 54, 2)?);
    let count = u16::try_from(number(&header, 56, 2)?).ok()?.min(HEADERS_MAX);
    for entry in 0..u64::from(count) {
        let mut line = [0; 56];
        file.seek(SeekFrom::Start(start.checked_add(entry * size)?)).ok()?;
        file.read_exact(&mut line).ok()?;
        if number(&line, 0, 4)? == u64::from(PT_INTERP) {
            let mut name = Vec::new();
            file.seek(SeekFrom::Start(number(&line, 8, 8)?)).ok()?;
            file.take(number(&line, 32, 8)?.min(256)).read_to_end(&mut name).ok()?;
            return Some(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_asks_for_a_loader_is_known() {
        // This test's own program is linked as the platform's programs are.
        let ours = loader(&std::env::current_exe().unwrap()).unwrap();
        assert!(ours.starts_with('/') && ours.contains("ld"), "{ours}");
        let folder = tempfile::tempdir().unwrap();
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for bytes in [
            &b"#!/bin/sh\n"[..],
            b"",
            b"\x7fELF\x02\x01",
            &whole[..64],
            &whole[..100],
        ] {
            let path = folder.path().join("x");
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(loader(&path), None);
        }
    }
}
