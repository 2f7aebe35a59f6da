//! The body of `add-checkpoint` (C2SP tlog-witness): the size that the witness knows, a consistency proof from there, a checkpoint.

use exclave_log::{
    BadCheckpoint, SignedCheckpoint, TreeHash, checkpoint::decimal, note::NOTE_BYTES_MAX, proof::PROOF_HASHES_MAX,
};

/// Longest body: the longest note, and a proof of 63 lines of 45 bytes.
pub const REQUEST_BYTES_MAX: usize = NOTE_BYTES_MAX + (4 << 10);

/// What a witness is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Leaves of the tree that the witness has cosigned last, 0 for none.
    pub old: u64,
    /// That the new tree begins with it.
    pub proof: Vec<TreeHash>,
    /// The new tree.
    pub checkpoint: SignedCheckpoint,
}

/// Why a body is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Longer than any.
    #[error("{0} bytes, the longest request has {REQUEST_BYTES_MAX}")]
    TooLong(usize),
    /// Not the lines of a request.
    #[error("not a request: {0}")]
    Form(&'static str),
    /// What should be its checkpoint is none.
    #[error("its checkpoint can't be read")]
    Checkpoint(#[from] BadCheckpoint),
}

impl AddCheckpoint {
    /// The body's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("old {}\n", self.old);
        for hash in &self.proof {
            head.push_str(&format!("{hash}\n"));
        }
        head.push('\n');
        [head.into_bytes(), self.checkpoint.to_bytes()].concat()
    }

    /// Reads a body strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadRequest> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(BadRequest::TooLong(bytes.len()));
        }
        let form = BadRequest::Form;
        let text = std::str::from_utf8(bytes).map_err(|_| form("it is no text"))?;
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or(form("no empty line before its checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old = old
            .and_then(decimal)
            .ok_or(form("its first line is not that of an old size"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_HASHES_MAX {
                return Err(form("more hashes than the largest tree has levels"));
            }
            proof.push(TreeHash::parse(line).ok_or(form("a line that is no hash"))?);
        }
        Ok(Self {
            old,
            proof,
            checkpoint: SignedCheckpoint::parse(checkpoint.as_bytes())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn the_example_reads_back_and_other_forms_are_refused() {
        let request = AddCheckpoint::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
        assert_eq!(request.checkpoint.checkpoint.size, 20_852_163);
        assert_eq!(request.to_bytes(), EXAMPLE.as_bytes());
        let line = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        for (from, to) in [
            ("old 2", "old  2"),
            ("old 2", "old 02"),
            ("old 2", "old -2"),
            ("old 2", "new 2"),
            ("old 20852014\n", ""),
            (line, "\n"),
            (line, "hash\n"),
            (line, line.repeat(61).as_str()),
            ("\n\nexample", "\nexample"),
            ("20852163", "020852163"),
        ] {
            let bad = EXAMPLE.replacen(from, to, 1);
            assert_ne!(bad, EXAMPLE, "{from}");
            assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{from:?} -> {to:?}");
        }
        assert!(AddCheckpoint::parse(&[b'x'; REQUEST_BYTES_MAX + 1]).is_err());
        assert!(AddCheckpoint::parse(b"\xff").is_err());
    }
}
