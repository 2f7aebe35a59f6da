//! Checkpoints (C2SP tlog-checkpoint): which log, how many leaves, which root.

use crate::{
    hash::TreeHash,
    note::{BadNote, Note},
    tree::TREE_SIZE_MAX,
};

/// Longest origin: a cosignature by ML-DSA-44 has one byte for its length.
pub const ORIGIN_BYTES_MAX: usize = 255;

/// The state of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Leaves of its tree.
    pub size: u64,
    /// Root of its tree.
    pub root: TreeHash,
    /// Further lines; Exclave writes none, and a log's reader takes no meaning from them.
    pub extensions: Vec<String>,
}

/// Why something is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    /// Not a note.
    #[error("not a signed note")]
    Note(#[from] BadNote),
    /// Not lines of origin, size and root.
    #[error("a checkpoint's text is an origin, a size and a root, a line each")]
    Form,
}

impl Checkpoint {
    /// A checkpoint without further lines.
    pub fn new(origin: String, size: u64, root: TreeHash) -> Self {
        Self {
            origin,
            size,
            root,
            extensions: Vec::new(),
        }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads a note's text strictly.
    pub fn parse(text: &str) -> Result<Self, BadCheckpoint> {
        let lines = text.strip_suffix('\n').ok_or(BadCheckpoint::Form)?;
        let mut lines = lines.split('\n');
        let mut next = || lines.next().filter(|line| !line.is_empty()).ok_or(BadCheckpoint::Form);
        let (origin, size, root) = (next()?, next()?, next()?);
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: decimal(size).ok_or(BadCheckpoint::Form)?,
            root: TreeHash::parse(root).ok_or(BadCheckpoint::Form)?,
            extensions: lines.map(str::to_owned).collect(),
        };
        let lawful = origin.len() <= ORIGIN_BYTES_MAX
            && checkpoint.size <= TREE_SIZE_MAX
            && checkpoint.extensions.iter().all(|line| !line.is_empty());
        match lawful {
            true => Ok(checkpoint),
            false => Err(BadCheckpoint::Form),
        }
    }
}

/// A number in decimal digits, without leading zeros, signs or anything else.
pub fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading = text.len() > 1 && text.starts_with('0');
    (digits && !leading).then(|| text.parse().ok())?
}

/// A checkpoint with its note. Nobody has checked the signatures yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// How it was signed.
    pub note: Note,
}

impl SignedCheckpoint {
    /// A checkpoint that nobody has signed yet.
    pub fn unsigned(checkpoint: Checkpoint) -> Result<Self, BadCheckpoint> {
        let note = Note::unsigned(checkpoint.text())?;
        // What isn't read back isn't written: an origin with a line end, for one.
        match Checkpoint::parse(note.text())? == checkpoint {
            true => Ok(Self { checkpoint, note }),
            false => Err(BadCheckpoint::Form),
        }
    }

    /// Reads a note that holds a checkpoint.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadCheckpoint> {
        let note = Note::parse(bytes)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        Ok(Self { checkpoint, note })
    }

    /// The note's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.note.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_example_reads_back_and_other_forms_are_refused() {
        let checkpoint = Checkpoint::parse(EXAMPLE).unwrap();
        assert_eq!(
            (checkpoint.origin.as_str(), checkpoint.size),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(checkpoint.text(), EXAMPLE);
        let longer = format!("{EXAMPLE}more\n");
        assert_eq!(Checkpoint::parse(&longer).unwrap().text(), longer);
        for (from, to) in [
            ("20852163", "020852163"),
            ("20852163", "+20852163"),
            ("20852163", "-1"),
            ("20852163", ""),
            ("20852163", "9223372036854775808"),
            ("20852163", "18446744073709551616"),
            ("q2I=", "q2I"),
            ("q2I=", "q2J="),
            ("CsUY", ""),
            ("example.com/behind-the-sofa", ""),
            ("q2I=\n", "q2I="),
            ("q2I=\n", "q2I=\n\n"),
            (EXAMPLE, ""),
        ] {
            let bad = EXAMPLE.replacen(from, to, 1);
            assert!(Checkpoint::parse(&bad).is_err(), "{from:?} -> {to:?}");
        }
    }
}
