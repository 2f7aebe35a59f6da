//! Which log a checkpoint speaks of (FORMAT.md section 21).
//!
//! A log belongs to one signing key and one *incarnation*: one life of whoever holds the key. Two machines with one key, or one that
//! was set back, begin logs of their own instead of forking one.

use exclave_model::{Anchor, Incarnation, KeyId, hex};

use crate::note::{BadNote, KeyName};

/// A log of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The archive: the first half of its anchor, as in names.
    archive: [u8; 16],
    /// Whose log it is.
    pub key: KeyId,
    /// Which life of the key's holder.
    pub incarnation: Incarnation,
}

impl LogId {
    /// The log of a key and an incarnation.
    pub fn new(anchor: Anchor, key: KeyId, incarnation: Incarnation) -> Self {
        let mut archive = [0; 16];
        archive.copy_from_slice(&anchor.as_bytes()[..16]);
        Self {
            archive,
            key,
            incarnation,
        }
    }

    /// True when it is a log of this archive.
    pub fn is_of(&self, anchor: Anchor) -> bool {
        anchor.as_bytes()[..16] == self.archive
    }

    /// The origin of its checkpoints, which is also the name of its key in signatures.
    ///
    /// ```
    /// use exclave_log::LogId;
    /// use exclave_model::{Anchor, Incarnation, KeyId};
    /// let log = LogId::new(Anchor::from_bytes([1; 32]), KeyId::from_bytes([2; 32]), Incarnation::from_bytes([3; 16]));
    /// assert_eq!(log.origin().len(), 138);
    /// assert_eq!(LogId::parse(&log.origin()), Some(log));
    /// ```
    pub fn origin(&self) -> String {
        let (key, incarnation) = (self.key.to_hex(), self.incarnation.to_hex());
        format!("exclave/{}/{key}/{incarnation}", hex(&self.archive))
    }

    /// The name of its key.
    pub fn key_name(&self) -> Result<KeyName, BadNote> {
        KeyName::parse(&self.origin())
    }

    /// Reads an origin.
    pub fn parse(origin: &str) -> Option<Self> {
        let mut parts = origin.strip_prefix("exclave/")?.split('/');
        let log = Self {
            archive: exclave_model::unhex(parts.next()?)?,
            key: parts.next()?.parse().ok()?,
            incarnation: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(log)
    }
}
