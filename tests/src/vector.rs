//! A vector's text: header lines, an empty line, a body (see `tests/vectors/README.md`).

#![expect(
    clippy::unwrap_used,
    reason = "a number or digits that can't be read are a broken test"
)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};

/// Files of a folder that end so, in order of their names.
pub fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let paths: io::Result<Vec<_>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.retain(|path| path.extension().is_some_and(|end| end == extension));
    paths.sort();
    Ok(paths)
}

/// One file.
pub struct Vector {
    fields: BTreeMap<String, Vec<String>>,
    used: RefCell<BTreeSet<String>>,
    /// What is evaluated.
    pub body: Vec<u8>,
}

impl Vector {
    /// Reads a file's text; why not, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (header, body) = text.split_once("\n\n").ok_or("no empty line")?;
        let mut fields = BTreeMap::<String, Vec<String>>::new();
        for line in header.replace("\n ", "").lines() {
            let (key, value) = line
                .split_once(": ")
                .ok_or_else(|| format!("not a header line: {line}"))?;
            let values = fields.entry(key.to_owned()).or_default();
            if !values.is_empty() && key != "public-key" {
                return Err(format!("{key} stands twice"));
            }
            values.push(value.to_owned());
        }
        let known = ["comment", "encoding", "expect", "layer", "output"].map(str::to_owned);
        let mut vector = Self {
            fields,
            used: RefCell::new(known.into()),
            body: Vec::new(),
        };
        let digits: String = body.split_ascii_whitespace().collect();
        vector.body = match vector.text("encoding") {
            Some("hex") => unhex(&digits),
            Some("base64") => STANDARD.decode(digits).map_err(|error| error.to_string())?,
            Some("zlib") => {
                let packed = STANDARD.decode(digits).map_err(|error| error.to_string())?;
                miniz_oxide::inflate::decompress_to_vec_zlib(&packed).map_err(|error| error.to_string())?
            }
            other => return Err(format!("encoding {other:?}")),
        };
        Ok(vector)
    }

    /// Every value of a key.
    pub fn all(&self, key: &str) -> &[String] {
        self.used.borrow_mut().insert(key.to_owned());
        self.fields.get(key).map_or(&[], Vec::as_slice)
    }

    /// The first value of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.all(key).first().map(String::as_str)
    }

    /// As a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.text(key).map(|digits| digits.parse().unwrap())
    }

    /// As bytes.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.text(key).map(unhex)
    }

    /// As so many bytes.
    pub fn array<const N: usize>(&self, key: &str) -> Option<[u8; N]> {
        self.bytes(key).map(|bytes| bytes.try_into().unwrap())
    }

    /// Keys that nothing has asked for.
    pub fn unused(&self) -> Vec<&String> {
        let used = self.used.borrow();
        self.fields.keys().filter(|key| !used.contains(*key)).collect()
    }
}

/// Bytes from their hex digits.
pub fn unhex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "an odd number of hex digits");
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
