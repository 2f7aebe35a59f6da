//! A file in numbered parts, as QR codes and as lines of text: how a charter crosses to a machine without a network, and a
//! signature comes back (FORMAT.md section 25).
//!
//! A part is one line of the letters that QR codes hold most densely (ISO/IEC 18004, alphanumeric mode): what set it belongs
//! to, its number, how many there are, a checksum, and its bytes in base 32 (RFC 4648). A phone or a scanner yields such
//! lines; they are put together in any order, twice or not, and what is damaged or missing is named by its number.

mod page;

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, ValueEnum};

use crate::{
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format, private_file,
};

/// Begins every part.
const MARK: &str = "EXC1";

/// Bytes of a part on a page: a code of 113 modules at most, which a phone reads from paper and screens.
const PAGE_PART_BYTES: usize = 800;

/// Bytes of a part in a terminal: a code that fits 80 columns, and with half lines 40 rows.
const TERMINAL_PART_BYTES: usize = 240;

/// Most parts of a set.
const PARTS_MAX: usize = 999;

/// Longest file that is taken for lines of parts.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// RFC 4648 section 6.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// In what form parts are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartsForm {
    /// A page of HTML with a code for each, for a screen or a printer
    Page,
    /// Codes in the terminal, one after the other
    Terminal,
    /// Lines of text
    Text,
}

/// How a file is shown in parts.
#[derive(Debug, Args)]
pub struct PartsArguments {
    /// Show it in numbered parts, to be carried across an air gap as QR codes or lines
    #[arg(long, value_name = "FORM")]
    parts: Option<PartsForm>,
    /// Write the parts to FILE instead of printing them
    #[arg(long, value_name = "FILE", requires = "parts")]
    parts_out: Option<PathBuf>,
    /// So many bytes in each part
    #[arg(long, value_name = "BYTES", requires = "parts", value_parser = clap::value_parser!(u16).range(50..=1200))]
    part_bytes: Option<u16>,
}

impl PartsArguments {
    /// Whether parts are wanted.
    pub fn are_wanted(&self) -> bool {
        self.parts.is_some()
    }

    /// Shows a file's bytes in parts, when that is wanted. `what` says for people what it is.
    pub fn show(&self, what: &str, bytes: &[u8], world: &mut World) -> Result<(), Trouble> {
        let Some(form) = self.parts else { return Ok(()) };
        let default = match form {
            PartsForm::Page | PartsForm::Text => PAGE_PART_BYTES,
            PartsForm::Terminal => TERMINAL_PART_BYTES,
        };
        let lines = split(bytes, self.part_bytes.map_or(default, usize::from))?;
        let text = match form {
            PartsForm::Page => page::page(what, &lines)?,
            PartsForm::Terminal => page::terminal(&lines)?,
            PartsForm::Text => lines.iter().map(|line| format!("{line}\n")).collect(),
        };
        match &self.parts_out {
            Some(path) => {
                private_file::replace_public(path, &text, "parts")?;
                let parts = format::count(lines.len() as u64, "part");
                world.output.note(format!("{what} in {parts}: {}", path.display()));
                Ok(())
            }
            None => world
                .output
                .raw()
                .write_all(text.as_bytes())
                .because(|| Trouble::failed("the parts can't be printed")),
        }
    }
}

/// A file as lines.
pub fn split(bytes: &[u8], part_bytes: usize) -> Result<Vec<String>, Trouble> {
    let count = bytes.len().div_ceil(part_bytes.max(1)).max(1);
    if count > PARTS_MAX {
        return Err(Trouble::usage(format!("{count} parts are more than anyone would scan"))
            .hint("carry the file itself; --part-bytes makes larger parts"));
    }
    let set = set_of(bytes);
    let line = |(number, part): (usize, &[u8])| {
        let head = format!("{MARK}/{set}/{number:03}/{count:03}");
        format!("{head}/{}/{}", checksum(&head, part), base32(part))
    };
    Ok(match bytes.is_empty() {
        true => vec![line((1, &[]))],
        false => (1..).zip(bytes.chunks(part_bytes)).map(line).collect(),
    })
}

/// Names a file among others: the beginning of its hash, 64 bits.
fn set_of(bytes: &[u8]) -> String {
    hash_digits(blake3::hash(bytes), 16)
}

/// Finds a part that was read wrongly; that the whole is right, the set's name says.
fn checksum(head: &str, part: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.as_bytes()).update(&[0]).update(part);
    hash_digits(hasher.finalize(), 8)
}

fn hash_digits(hash: blake3::Hash, digits: usize) -> String {
    let hex = hash.to_hex();
    hex.get(..digits).unwrap_or_default().to_ascii_uppercase()
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits) as usize & 31]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits)) as usize & 31]));
    }
    text
}

/// `None` for a text that [`base32`] doesn't give.
fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        held = (held << 5) | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    (bits < 5 && held == 0).then_some(bytes)
}

/// One line that was read.
struct Part<'a> {
    set: &'a str,
    number: usize,
    count: usize,
    bytes: Vec<u8>,
}

/// Why a line is no part.
enum NoPart {
    /// It doesn't begin like one.
    OtherText,
    /// It does, and its number is readable or not.
    Damaged(Option<usize>),
}

impl<'a> Part<'a> {
    fn read(line: &'a str) -> Result<Self, NoPart> {
        let fields: Vec<&str> = line.split('/').collect();
        if fields.first() != Some(&MARK) {
            return Err(NoPart::OtherText);
        }
        let number = fields.get(2).and_then(|text| text.parse().ok());
        let damaged = || NoPart::Damaged(number);
        let [_, set, _, count, check, data] = fields.as_slice() else {
            return Err(damaged());
        };
        let (set, count) = (*set, count.parse().map_err(|_| damaged())?);
        let number = number.ok_or_else(damaged)?;
        let bytes = unbase32(data).ok_or_else(damaged)?;
        let head = line.splitn(5, '/').take(4).collect::<Vec<_>>().join("/");
        let is_right = checksum(&head, &bytes) == **check && (1..=count).contains(&number) && count <= PARTS_MAX;
        match is_right {
            true => Ok(Self {
                set,
                number,
                count,
                bytes,
            }),
            false => Err(damaged()),
        }
    }
}

/// Whether a file's bytes are lines of parts.
pub fn are_parts(bytes: &[u8]) -> bool {
    let text = bytes.iter().copied().skip_while(u8::is_ascii_whitespace);
    bytes.len() <= TEXT_BYTES_MAX && text.take(MARK.len() + 1).eq(format!("{MARK}/").bytes())
}

/// Puts a file together from lines, in any order. `shown` says where they were read.
pub fn join(text: &[u8], shown: &str) -> Result<Vec<u8>, Trouble> {
    let refused = |what: String| Trouble::new(Exit::Refused, format!("{shown}: {what}"));
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (mut parts, mut damaged): (BTreeMap<usize, Part<'_>>, Vec<String>) = (BTreeMap::new(), Vec::new());
    for (at, line) in (1..).zip(lines) {
        match Part::read(line) {
            Ok(part) => {
                let first = parts.values().next();
                if first.is_some_and(|first| first.set != part.set || first.count != part.count) {
                    return Err(
                        refused(format!("part {} (line {at}) belongs to another set", part.number))
                            .hint("scan one file at a time"),
                    );
                }
                parts.insert(part.number, part);
            }
            Err(NoPart::OtherText) => damaged.push(format!("line {at} is no part")),
            Err(NoPart::Damaged(Some(number))) => damaged.push(format!("part {number} (line {at}) is damaged")),
            Err(NoPart::Damaged(None)) => damaged.push(format!("line {at} is damaged")),
        }
    }
    let first = parts.values().next();
    let (set, count) = first
        .map(|first| (first.set.to_owned(), first.count))
        .ok_or_else(|| refused(format!("no part could be read; {}", damaged.join(", "))))?;
    let missing: Vec<String> = (1..=count)
        .filter(|number| !parts.contains_key(number))
        .map(|number| number.to_string())
        .collect();
    if !missing.is_empty() {
        let mut what = format!("of {count} parts these are missing: {}", missing.join(", "));
        if !damaged.is_empty() {
            what = format!("{what}; {}", damaged.join(", "));
        }
        return Err(refused(what).hint("scan them, and add the lines; the order does not matter"));
    }
    let bytes: Vec<u8> = parts.into_values().flat_map(|part| part.bytes).collect();
    match set_of(&bytes) == set {
        true => Ok(bytes),
        false => Err(refused("the parts are each right and are not of one file".to_owned())),
    }
}

/// Bytes of a file, put together when they are lines of parts.
pub fn whole(bytes: Vec<u8>, shown: &str) -> Result<Vec<u8>, Trouble> {
    match are_parts(&bytes) {
        true => join(&bytes, shown),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|number| (number * 7 % 251) as u8).collect()
    }

    fn joined(lines: &[String]) -> Result<Vec<u8>, String> {
        join(lines.join("\n").as_bytes(), "it").map_err(|trouble| trouble.to_string())
    }

    #[test]
    fn parts_come_together_in_any_order_twice_or_not() {
        for (bytes, part) in [
            (0, 100),
            (1, 100),
            (99, 100),
            (100, 100),
            (101, 100),
            (15_000, 800),
            (3_450, 240),
        ] {
            let file = file(bytes);
            let mut lines = split(&file, part).unwrap();
            assert_eq!(lines.len(), bytes.div_ceil(part).max(1));
            assert!(lines.iter().all(|line| are_parts(line.as_bytes())));
            lines.reverse();
            lines.push(lines[0].clone());
            assert_eq!(joined(&lines).unwrap(), file);
            let in_windows = format!("\r\n{}\r\n", lines.join("\r\n"));
            assert_eq!(join(in_windows.as_bytes(), "it").unwrap(), file);
        }
        assert!(split(&file(100_000), 50).is_err());
    }

    #[test]
    fn what_is_damaged_foreign_or_missing_is_named() {
        let lines = split(&file(1000), 100).unwrap();
        let missing = joined(&[&lines[..3], &lines[4..9]].concat()).unwrap_err();
        assert!(missing.contains("of 10 parts these are missing: 4, 10"), "{missing}");
        for at in 0..lines[6].len() {
            let mut bad = lines.clone();
            let other = if lines[6].as_bytes()[at] == b'7' { "5" } else { "7" };
            bad[6].replace_range(at..=at, other);
            let refused = joined(&bad).unwrap_err();
            let told = ["part 7", "missing: 7", "line 7", "belongs to another set"];
            assert!(told.iter().any(|text| refused.contains(text)), "{at}: {refused}");
        }
        let damaged = lines[6].replace(&lines[6][40..44], "AAAA");
        let refused = joined(&[&lines[..6], &[damaged], &lines[7..]].concat()).unwrap_err();
        assert!(refused.contains("part 7 (line 7) is damaged"), "{refused}");
        let foreign = split(&file(1001), 100).unwrap();
        let refused = joined(&[lines.clone(), vec![foreign[3].clone()]].concat()).unwrap_err();
        assert!(refused.contains("part 4 (line 11) belongs to another set"), "{refused}");
        assert!(joined(&["nothing".to_owned()]).is_err());
    }

    #[test]
    fn base_32_is_that_of_the_rfc_and_has_one_spelling() {
        let vectors = [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
        ];
        for (plain, text) in vectors {
            assert_eq!(base32(plain.as_bytes()), text);
            assert_eq!(unbase32(text).unwrap(), plain.as_bytes());
        }
        for bad in ["M", "MZ", "my", "MZX", "M1", "MY======"] {
            assert_eq!(unbase32(bad), None, "{bad}");
        }
    }
}
