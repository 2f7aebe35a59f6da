//! Signed notes (C2SP signed-note): a text, an empty line, and lines that say who signed it.
//!
//! Reading is strict and keeps no spelling but one, so that what was read is written again as the same bytes. Whether a signature
//! holds is not looked at here.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// Longest note. A checkpoint with both our signatures has 5 KiB, each cosignature adds up to 3.4.
pub const NOTE_BYTES_MAX: usize = 256 << 10;
/// Most signatures of a note; the specification asks for at least 16.
pub const NOTE_SIGNATURES_MAX: usize = 64;
/// Longest signature, key id aside: larger than any of FIPS 204's.
pub const NOTE_SIGNATURE_BYTES_MAX: usize = 8192;
/// Longest name of a key: a cosignature by ML-DSA-44 has one byte for its length.
pub const KEY_NAME_BYTES_MAX: usize = 255;

const LINE_BEGINS: &str = "\u{2014} ";

/// The name of a key: not empty, without spaces, plus signs and control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, BadNote> {
        let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
        match (1..=KEY_NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(BadNote::Name(text.chars().take(80).collect())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The four bytes that tell keys of one name apart. No cryptographic hash: it only says which key to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 4]);

impl KeyHash {
    /// The key id that the specification recommends, `SHA-256(name || 0x0A || type || public key)[:4]`.
    pub fn of(name: &KeyName, kind: SignatureType, public_key: &[u8]) -> Self {
        let hash = Sha256::new()
            .chain_update(name.as_str())
            .chain_update([b'\n'])
            .chain_update(kind.bytes())
            .chain_update(public_key)
            .finalize();
        Self([hash[0], hash[1], hash[2], hash[3]])
    }
}

/// How a note is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignatureType {
    /// Ed25519 over the text (0x01).
    Ed25519,
    /// A timestamped cosignature by Ed25519 (0x04), `cosignature/v1`.
    CosignatureEd25519,
    /// A timestamped cosignature by ML-DSA-44 (0x06), `subtree/v1`.
    CosignatureMlDsa44,
    /// Exclave's own: ML-DSA-65, pure and with an empty context, over the text (0xff and [`ML_DSA_65_IDENTIFIER`]).
    MlDsa65,
}

/// What tells our ML-DSA-65 signatures from other types without a number.
pub const ML_DSA_65_IDENTIFIER: &[u8] = b"exclave/ml-dsa-65/v1";

impl SignatureType {
    /// All types.
    pub const ALL: [Self; 4] = [
        Self::Ed25519,
        Self::CosignatureEd25519,
        Self::CosignatureMlDsa44,
        Self::MlDsa65,
    ];

    /// The type's bytes in a key id and a verifier key.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Ed25519 => vec![0x01],
            Self::CosignatureEd25519 => vec![0x04],
            Self::CosignatureMlDsa44 => vec![0x06],
            Self::MlDsa65 => [&[0xff], ML_DSA_65_IDENTIFIER].concat(),
        }
    }

    /// Bytes of its public keys.
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::Ed25519 | Self::CosignatureEd25519 => 32,
            Self::CosignatureMlDsa44 => 1312,
            Self::MlDsa65 => 1952,
        }
    }
}

/// A public key with its name, as it is handed around (*vkey*).
///
/// ```
/// use exclave_log::VerifierKey;
/// let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
/// let key: VerifierKey = text.parse().unwrap();
/// assert_eq!(key.name.as_str(), "example.com/foo");
/// assert_eq!(key.to_string(), text);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// The key's name.
    pub name: KeyName,
    /// How it signs.
    pub kind: SignatureType,
    /// The public key.
    pub public_key: Vec<u8>,
}

impl VerifierKey {
    /// Its id in signatures.
    pub fn key_hash(&self) -> KeyHash {
        KeyHash::of(&self.name, self.kind, &self.public_key)
    }

    /// The signatures of a note that claim to be this key's: same name, same id.
    pub fn signatures_in<'n>(&self, note: &'n Note) -> impl Iterator<Item = &'n NoteSignature> {
        let id = self.key_hash();
        let name = self.name.clone();
        let signatures = note.signatures.iter();
        signatures.filter(move |signature| signature.key == id && signature.name == name)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [self.kind.bytes(), self.public_key.clone()].concat();
        let id = exclave_model::hex(&self.key_hash().0);
        write!(f, "{}+{id}+{}", self.name, STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = BadNote;

    fn from_str(text: &str) -> Result<Self, BadNote> {
        let bad = || BadNote::VerifierKey;
        if text.len() > KEY_NAME_BYTES_MAX + 9 + 2 * NOTE_SIGNATURE_BYTES_MAX {
            return Err(bad());
        }
        let (name, rest) = text.split_once('+').ok_or_else(bad)?;
        let (id, key) = rest.split_once('+').ok_or_else(bad)?;
        let bytes = STANDARD.decode(key).map_err(|_| bad())?;
        let typed = |kind: &SignatureType| {
            let key = bytes.strip_prefix(kind.bytes().as_slice())?;
            (key.len() == kind.public_key_bytes()).then(|| (*kind, key.to_vec()))
        };
        let (kind, public_key) = SignatureType::ALL.iter().find_map(typed).ok_or_else(bad)?;
        let name = KeyName::parse(name)?;
        let key = Self { name, kind, public_key };
        match exclave_model::unhex(id) == Some(key.key_hash().0) {
            true => Ok(key),
            false => Err(bad()),
        }
    }
}

/// One line of signature. Nobody has checked it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: KeyName,
    /// Which of its keys.
    pub key: KeyHash,
    /// The signature.
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    /// Reads a line, without its end.
    pub fn parse(line: &str) -> Result<Self, BadNote> {
        let bad = || BadNote::Signature(line.chars().take(80).collect());
        let (name, signature) = line
            .strip_prefix(LINE_BEGINS)
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(bad)?;
        if signature.len() > NOTE_SIGNATURE_BYTES_MAX.div_ceil(3) * 4 + 8 {
            return Err(bad());
        }
        let bytes = STANDARD.decode(signature).map_err(|_| bad())?;
        let (key, bytes) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
        if bytes.is_empty() || bytes.len() > NOTE_SIGNATURE_BYTES_MAX {
            return Err(bad());
        }
        Ok(Self {
            name: KeyName::parse(name)?,
            key: KeyHash(*key),
            bytes: bytes.to_vec(),
        })
    }

    /// The line, with its end.
    pub fn to_line(&self) -> String {
        let bytes = [&self.key.0[..], &self.bytes].concat();
        format!("{LINE_BEGINS}{} {}\n", self.name, STANDARD.encode(bytes))
    }
}

/// A text and its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    /// Who signed, in the order of the lines. None only on a note that is about to be signed.
    pub signatures: Vec<NoteSignature>,
}

/// Why something is no note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    /// Longer than any.
    #[error("{0} bytes, the longest note has {NOTE_BYTES_MAX}")]
    TooLong(usize),
    /// Not UTF-8, or with control characters.
    #[error("a note is UTF-8 text without control characters")]
    Text,
    /// No text that ends in a newline, an empty line, and lines of signatures.
    #[error("a note is a text, an empty line, and at least one line of signature")]
    Form,
    /// A line that is no signature.
    #[error("not a line of signature: {0:?}")]
    Signature(String),
    /// More signatures than are looked at.
    #[error("more than {NOTE_SIGNATURES_MAX} signatures")]
    TooMany,
    /// Not a key's name.
    #[error("not the name of a key: {0:?}")]
    Name(String),
    /// Not a verifier key.
    #[error("not a verifier key (name+id+key) of a type that is known here")]
    VerifierKey,
}

impl Note {
    /// A note that nobody has signed yet; the text ends in a newline and has no control characters.
    pub fn unsigned(text: String) -> Result<Self, BadNote> {
        if text.len() > NOTE_BYTES_MAX {
            return Err(BadNote::TooLong(text.len()));
        }
        if text.chars().any(|c| c < ' ' && c != '\n') {
            return Err(BadNote::Text);
        }
        if !text.ends_with('\n') {
            return Err(BadNote::Form);
        }
        Ok(Self {
            text,
            signatures: Vec::new(),
        })
    }

    /// What is signed, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads a note strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadNote> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(BadNote::TooLong(bytes.len()));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| BadNote::Text)?;
        // The last empty line parts text and signatures; a text may have empty lines of its own.
        let at = whole.rfind("\n\n").ok_or(BadNote::Form)?;
        let (text, lines) = (&whole[..=at], &whole[at + 2..]);
        let mut note = Self::unsigned(text.to_owned())?;
        let lines = lines.strip_suffix('\n').ok_or(BadNote::Form)?;
        for line in lines.split('\n') {
            if note.signatures.len() == NOTE_SIGNATURES_MAX {
                return Err(BadNote::TooMany);
            }
            note.signatures.push(NoteSignature::parse(line)?);
        }
        Ok(note)
    }

    /// The note's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let lines = self.signatures.iter().map(NoteSignature::to_line);
        format!("{}\n{}", self.text, lines.collect::<String>()).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const EXAMPLE: &str = "This is an example message.\n\n\
        \u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_example_reads_back() {
        let note = Note::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(note.to_bytes(), EXAMPLE.as_bytes());
        let key: VerifierKey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
            .parse()
            .unwrap();
        let signature = key.signatures_in(&note).next().unwrap();
        assert_eq!(signature.bytes.len(), 64);
        assert_eq!(signature.key, KeyHash([0x53, 0x0d, 0x90, 0x3a]));
    }

    #[test]
    fn other_forms_are_refused() {
        let line = EXAMPLE.split("\n\n").nth(1).unwrap();
        let many = format!("x\n\n{}", line.repeat(NOTE_SIGNATURES_MAX + 1));
        for (from, to) in [
            ("\n\n", "\n"),
            ("message.", "mess\tage."),
            ("message.", "mess\rage."),
            ("\u{2014} ", "- "),
            ("\u{2014} ", "\u{2014}  "),
            ("example.com/foo", ""),
            ("example.com/foo", "example.com/+foo"),
            ("example.com/foo", "example.com/\u{a0}foo"),
            (line, "\u{2014} example.com/foo Uw2Q\n"),
            (line, "\u{2014} example.com/foo Uw2QOg==\n"),
            ("aQM=\n", "aQM=\n\n"),
            ("aQM=\n", "aQM="),
            ("aQM=\n", "aQM\n"),
            ("aQN=\n", "aQM=\nrest\n"),
            ("aQM=\n", "aQN=\n"),
            (line, ""),
            (EXAMPLE, &many),
            (EXAMPLE, ""),
            (EXAMPLE, "\n\n"),
        ] {
            let bad = EXAMPLE.replacen(from, to, 1);
            if bad != EXAMPLE {
                assert!(Note::parse(bad.as_bytes()).is_err(), "{from:?} -> {to:?}");
            }
        }
        assert!(Note::parse(b"\xff\n\n").is_err());
        let blank = format!("a\n\nb\n\n{line}");
        assert_eq!(Note::parse(blank.as_bytes()).unwrap().text(), "a\n\nb\n");
    }
}
