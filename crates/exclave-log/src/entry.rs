//! What a leaf holds (FORMAT.md section 21): which kind of record, and its hash. No names, no times.

use exclave_model::{Record, RecordHash, Rule, Version1};
use minicbor::{Decode, Encode};

/// What an entry names.
///
/// Numbers are never used again for something else. A reader keeps entries of kinds that it doesn't know: a log holds what later
/// versions put in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A head.
    Head,
    /// A charter.
    Charter,
    /// A grant.
    Grant,
    /// A further envelope of a run.
    Rewrap,
    /// The manifest of a kit.
    Kit,
    /// An audit's report: the BLAKE3 of its DSSE payload.
    Report,
    /// What a repair did.
    Repair,
    /// A posture's event.
    Posture,
    /// A drill's report.
    Drill,
    /// A collection's sweep.
    Sweep,
    /// A collection's mark.
    Mark,
    /// A hold on what a collection would take.
    Hold,
    /// Another, of a later version.
    Other(u8),
}

impl EntryKind {
    const KNOWN: [(Self, u8, &'static str); 12] = [
        (Self::Head, 1, "head"),
        (Self::Charter, 2, "charter"),
        (Self::Grant, 3, "grant"),
        (Self::Rewrap, 4, "rewrap"),
        (Self::Kit, 5, "kit"),
        (Self::Report, 6, "report"),
        (Self::Repair, 7, "repair"),
        (Self::Posture, 8, "posture"),
        (Self::Drill, 9, "drill"),
        (Self::Sweep, 10, "sweep"),
        (Self::Mark, 11, "mark"),
        (Self::Hold, 12, "hold"),
    ];

    /// Its number in an entry.
    pub fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            _ => Self::KNOWN
                .iter()
                .find(|known| known.0 == self)
                .map_or(0, |known| known.1),
        }
    }

    /// The kind with that number.
    pub fn of_number(number: u8) -> Self {
        let known = Self::KNOWN.iter().find(|known| known.1 == number);
        known.map_or(Self::Other(number), |known| known.0)
    }

    /// What people call it.
    pub fn as_str(self) -> &'static str {
        Self::KNOWN
            .iter()
            .find(|known| known.0 == self)
            .map_or("other", |known| known.2)
    }
}

impl<C> Encode<C> for EntryKind {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.u8(self.number())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for EntryKind {
    fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(Self::of_number(decoder.u8()?))
    }
}

/// One entry of a log.
///
/// ```
/// use exclave_log::{EntryKind, LogEntry};
/// use exclave_model::{Record, RecordHash};
/// let entry = LogEntry::new(EntryKind::Head, RecordHash::from_bytes([7; 32]));
/// // Three pairs: version, kind, hash.
/// assert_eq!(entry.to_bytes().unwrap().len(), 40);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LogEntry {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// What it names.
    #[n(1)]
    pub kind: EntryKind,
    /// The hash of what it names.
    #[n(2)]
    pub hash: RecordHash,
}

impl LogEntry {
    /// An entry.
    pub fn new(kind: EntryKind, hash: RecordHash) -> Self {
        Self {
            format: Version1,
            kind,
            hash,
        }
    }
}

impl Record for LogEntry {
    const KIND: &'static str = "log entry";
    const BYTES_MAX: usize = 64;

    fn law(&self) -> Result<(), Rule> {
        match self.kind.number() {
            0 => Err(Rule::new("bad-record", "an entry of no kind")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_one_number() {
        for number in 0..=u8::MAX {
            assert_eq!(EntryKind::of_number(number).number(), number);
            let entry = LogEntry::new(EntryKind::of_number(number), RecordHash::from_bytes([3; 32]));
            match number {
                0 => assert!(entry.to_bytes().is_err()),
                _ => assert_eq!(LogEntry::from_bytes(&entry.to_bytes().unwrap()).unwrap(), entry),
            }
        }
    }
}
