//! The kit: what a stranger needs to restore, as it lies at every site (FORMAT.md section 19).
//!
//! A manifest names every file with its hash, and is signed by as many roots as a charter takes: the program in a kit sees
//! the recovery key, and so no key of an agent's host, and no single root where several must agree, may vouch for it.
//! Files lie in pieces, each an object of its own, so that a program of any length goes over a slow line and through
//! little memory. The credentials are sealed to every recipient of the charter: who can open the data can log in.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::{
    charter::{Charter, RecipientKey, site_name},
    envelope::Stanza,
    id::{Anchor, Commitment, FileHash, RecipientId, RecordHash},
    signed::SignedRecord,
    wire::{Record, Rule, Version1, strictly_ascending},
};

/// Longest manifest, signatures included: 64 files of 32 pieces, and fifty signatures.
pub const KIT_BYTES_MAX: usize = 256 << 10;
/// Most files of a kit.
pub const KIT_FILES_MAX: usize = 64;
/// Most sites that a kit names.
pub const KIT_SITES_MAX: usize = 256;
/// Bytes of every piece of a file but the last: 260 s at 256 kbit/s, a bad satellite link.
pub const KIT_PIECE_BYTES: usize = 8 << 20;
/// Most pieces of a file: 256 MiB.
pub const KIT_PIECES_MAX: usize = 32;
/// Longest name of a file.
pub const KIT_NAME_BYTES_MAX: usize = 40;
/// Longest name and version of the program.
pub const KIT_PROGRAM_BYTES_MAX: usize = 80;

/// Longest record of sealed credentials.
pub const LOGINS_BYTES_MAX: usize = 512 << 10;
/// Most recipients of sealed credentials: those of all sets of a charter.
pub const LOGINS_STANZAS_MAX: usize = 128;

/// The file of a kit that holds the sealed credentials.
pub const LOGINS_FILE: &str = "credentials.sealed";
/// The file of a kit that holds the charters, from version 1 to the one that the kit was made under.
pub const CHARTERS_FILE: &str = "charters";
/// The file of a kit that says where the sites are and how they are reached.
pub const SITES_FILE: &str = "sites.toml";
/// The manifest's name, which no file has.
pub const MANIFEST: &str = "manifest";

/// What credentials a kit holds for a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Login {
    /// The site asks for none.
    Open,
    /// Credentials of their own, which the agent doesn't write with.
    Read,
    /// The agent's, which can write: the owner accepted that.
    Writes,
    /// None, and the site asks for some.
    Missing,
}

crate::charter::numbered!(Login {
    Open = 0: "open",
    Read = 1: "read",
    Writes = 2: "writes",
    Missing = 3: "missing",
});

/// Whether a file is a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// To be read.
    Plain,
    /// To be run.
    Program,
}

crate::charter::numbered!(FileKind { Plain = 0: "plain", Program = 1: "program" });

/// A site that a kit leads to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct KitSite {
    /// Its name in the charter.
    #[n(0)]
    pub name: String,
    /// What credentials the kit holds for it.
    #[n(1)]
    pub login: Login,
}

/// A file of a kit.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct KitFile {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Whether it is a program.
    #[n(1)]
    pub kind: FileKind,
    /// Its length in bytes.
    #[n(2)]
    pub length: u64,
    /// The hash of the whole.
    #[n(3)]
    pub hash: FileHash,
    /// The hash of each piece, in order.
    #[n(4)]
    pub pieces: Vec<FileHash>,
}

/// What a kit holds: its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Kit {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The kit's own version, from 1.
    #[n(2)]
    pub version: u32,
    /// The charter that it was made under.
    #[n(3)]
    pub charter_version: u32,
    /// The hash of that charter's record.
    #[n(4)]
    pub charter: RecordHash,
    /// When it was made: Unix seconds.
    #[n(5)]
    pub created: i64,
    /// The program's name and version, for people.
    #[n(6)]
    pub program: String,
    /// The sites that it leads to, ascending names.
    #[n(7)]
    pub sites: Vec<KitSite>,
    /// Its files, ascending names.
    #[n(8)]
    pub files: Vec<KitFile>,
}

impl KitFile {
    /// Bytes of a piece; `None` where there is none.
    pub fn piece_bytes(&self, piece: usize) -> Option<usize> {
        let start = (piece as u64).checked_mul(KIT_PIECE_BYTES as u64)?;
        let left = self.length.checked_sub(start).filter(|left| *left > 0)?;
        usize::try_from(left.min(KIT_PIECE_BYTES as u64)).ok()
    }

    fn law(&self) -> Result<(), Rule> {
        if !file_name(&self.name) {
            return Err(Rule::new(
                "bad-path",
                format!("{:?} is no name of a kit's file", self.name),
            ));
        }
        let pieces = self.length.div_ceil(KIT_PIECE_BYTES as u64);
        if pieces > KIT_PIECES_MAX as u64 {
            return Err(Rule::new(
                "too-long",
                format!("{} has {} bytes", self.name, self.length),
            ));
        }
        if pieces == 0 || pieces != self.pieces.len() as u64 {
            let text = format!(
                "{} has {} bytes and {} pieces",
                self.name,
                self.length,
                self.pieces.len()
            );
            return Err(Rule::new("bad-length", text));
        }
        match self.pieces.as_slice() {
            [only] if *only != self.hash => {
                let text = format!("the only piece of {} has another hash than the whole", self.name);
                Err(Rule::new("bad-hash", text))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a text names a kit's file: 1 to 40 of `a-z 0-9 . _ -`, a letter or digit first, and not the manifest's.
pub fn file_name(text: &str) -> bool {
    let begins = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = |byte: u8| begins(byte) || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= KIT_NAME_BYTES_MAX
        && text.bytes().next().is_some_and(begins)
        && text.bytes().all(allowed)
        && text != MANIFEST
        && !text.starts_with("manifest.")
}

impl Kit {
    /// The file of a name.
    pub fn file(&self, name: &str) -> Option<&KitFile> {
        let at = self.files.binary_search_by(|file| file.name.as_str().cmp(name)).ok()?;
        self.files.get(at)
    }
}

impl Record for Kit {
    const KIND: &'static str = "kit";
    const BYTES_MAX: usize = KIT_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        if self.version == 0 || self.charter_version == 0 {
            return Err(Rule::new("bad-record", "versions of kits and charters begin with 1"));
        }
        let program = self.program.len();
        if program == 0 || program > KIT_PROGRAM_BYTES_MAX || self.program.chars().any(char::is_control) {
            return Err(Rule::new(
                "bad-record",
                "the program's version is no short line of text",
            ));
        }
        if self.sites.is_empty() || self.files.is_empty() {
            return Err(Rule::new("bad-record", "a kit leads to no site, or holds no file"));
        }
        if self.sites.len() > KIT_SITES_MAX || self.files.len() > KIT_FILES_MAX {
            return Err(Rule::new("too-long", "more sites or files than a kit may have"));
        }
        if !self.sites.iter().all(|site| site_name(&site.name)) {
            return Err(Rule::new("bad-record", "a site's name is none"));
        }
        self.files.iter().try_for_each(KitFile::law)?;
        let sites: Vec<&str> = self.sites.iter().map(|site| site.name.as_str()).collect();
        let files: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        if !strictly_ascending(&sites) || !strictly_ascending(&files) {
            return Err(Rule::new("bad-order", "sites or files are unsorted or doubled"));
        }
        Ok(())
    }
}

impl SignedRecord for Kit {
    const TYPE: &'static str = "exclave kit v1";
}

/// The credentials of a kit, sealed to every recipient of a charter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SealedLogins {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The kit's version.
    #[n(2)]
    pub kit: u32,
    /// Commitment to the key of field 5.
    #[n(3)]
    pub commitment: Commitment,
    /// The key, wrapped for each recipient, ascending ids.
    #[n(4)]
    pub stanzas: Vec<Stanza>,
    /// The credentials: a box, purpose 3.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

impl SealedLogins {
    /// Whether these are a kit's, wrapped for exactly the recipients of the charter that it was made under; or the rule that
    /// is broken.
    pub fn check_place(&self, anchor: Anchor, kit: u32, charter: &Charter) -> Result<(), Rule> {
        if self.anchor != anchor {
            return Err(Rule::new("wrong-archive", "the credentials are another archive's"));
        }
        if self.kit != kit {
            let text = format!("the credentials are those of kit {}", self.kit);
            return Err(Rule::new("bad-record", text));
        }
        let expected: Vec<RecipientId> = recipients(charter).iter().map(RecipientKey::id).collect();
        match self.stanzas.iter().map(|stanza| stanza.recipient).eq(expected) {
            true => Ok(()),
            false => Err(Rule::new(
                "bad-stanzas",
                "the credentials are sealed to others than the charter's recipients",
            )),
        }
    }
}

/// Every recipient of a charter, of all its sets, once, ascending ids.
pub fn recipients(charter: &Charter) -> Vec<RecipientKey> {
    let mut seen = BTreeSet::new();
    let keys = charter.recipient_sets.iter().flat_map(|set| &set.keys);
    let mut keys: Vec<RecipientKey> = keys.filter(|key| seen.insert(key.id())).cloned().collect();
    keys.sort_by_key(RecipientKey::id);
    keys
}

impl Record for SealedLogins {
    const KIND: &'static str = "sealed credentials";
    const BYTES_MAX: usize = LOGINS_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        if self.kit == 0 || self.stanzas.is_empty() {
            return Err(Rule::new(
                "bad-record",
                "versions of kits begin with 1, and someone opens the credentials",
            ));
        }
        if !self.stanzas.iter().all(Stanza::has_lengths) {
            return Err(Rule::new("bad-record", "a wrapped key has another length"));
        }
        if self.stanzas.len() > LOGINS_STANZAS_MAX {
            return Err(Rule::new(
                "too-long",
                "more recipients than credentials may be sealed to",
            ));
        }
        let ids: Vec<RecipientId> = self.stanzas.iter().map(|stanza| stanza.recipient).collect();
        if !strictly_ascending(&ids) {
            return Err(Rule::new("bad-order", "recipients are unsorted or doubled"));
        }
        match self.sealed.len() {
            length if length > 0 && length.is_multiple_of(crate::head::SEALED_STEP_BYTES) => Ok(()),
            length => Err(Rule::new("bad-length", format!("a sealed part of {length} bytes"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, length: u64) -> KitFile {
        let pieces = length.div_ceil(KIT_PIECE_BYTES as u64) as usize;
        KitFile {
            name: name.to_owned(),
            kind: FileKind::Plain,
            length,
            hash: FileHash::from_bytes([7; 32]),
            pieces: vec![FileHash::from_bytes([7; 32]); pieces],
        }
    }

    fn kit() -> Kit {
        let site = |name: &str| KitSite {
            name: name.to_owned(),
            login: Login::Read,
        };
        Kit {
            format: Version1,
            anchor: Anchor::from_bytes([1; 32]),
            version: 3,
            charter_version: 2,
            charter: RecordHash::from_bytes([2; 32]),
            created: 5,
            program: "exclave 0.1.0".to_owned(),
            sites: vec![site("a"), site("b")],
            files: vec![file("exclave", KIT_PIECE_BYTES as u64 + 1), file("format.md", 9)],
        }
    }

    #[test]
    fn kits_read_back_and_obey_their_law() {
        let good = kit();
        assert_eq!(Kit::from_bytes(&good.to_bytes().unwrap()).unwrap(), good);
        assert_eq!(good.file("format.md").unwrap().piece_bytes(0), Some(9));
        let program = good.file("exclave").unwrap();
        let pieces = [0, 1, 2].map(|piece| program.piece_bytes(piece));
        assert_eq!(pieces, [Some(KIT_PIECE_BYTES), Some(1), None]);
        assert!(good.file("manifest").is_none());
        type Change = fn(&mut Kit);
        let changes: [(&str, Change); 15] = [
            ("bad-record", |kit| kit.version = 0),
            ("bad-record", |kit| kit.charter_version = 0),
            ("bad-record", |kit| kit.program.clear()),
            ("bad-record", |kit| kit.program.push('\n')),
            ("bad-record", |kit| kit.sites.clear()),
            ("bad-record", |kit| kit.files.clear()),
            ("bad-record", |kit| kit.sites[0].name = "A".to_owned()),
            ("bad-order", |kit| kit.sites.reverse()),
            ("bad-order", |kit| kit.files[1] = kit.files[0].clone()),
            ("bad-path", |kit| kit.files[0].name = "../exclave".to_owned()),
            ("bad-path", |kit| kit.files[1].name = "manifest.draft".to_owned()),
            ("bad-length", |kit| kit.files[1].length = 0),
            ("bad-length", |kit| _ = kit.files[0].pieces.pop()),
            ("bad-hash", |kit| kit.files[1].hash = FileHash::from_bytes([8; 32])),
            ("too-long", |kit| kit.files[0].length = u64::MAX),
        ];
        for (kind, change) in changes {
            let mut bad = kit();
            change(&mut bad);
            assert_eq!(bad.law().unwrap_err().kind, kind);
        }
        let mut many = kit();
        many.files = (0..=KIT_FILES_MAX)
            .map(|number| file(&format!("{number:03}"), 1))
            .collect();
        assert_eq!(many.law().unwrap_err().kind, "too-long");
    }
}
