//! What a run has done so far, on local disk, so that a killed run loses at most its in-flight stripes.
//!
//! A journal is a file of frames: `length (4, big-endian) | first 8 bytes of the BLAKE3 of the entry | entry (CBOR)`.
//! An entry is fsynced before what it allows is done. Reading ends at the first frame that is short or does not fit
//! its hash: that is where the power went; everything before it counts. A read that fails is no such end but an error:
//! what follows may be whole. An fsync that fails poisons the journal, since the kernel may have dropped the pages (it is
//! never repeated): the run ends.
//!
//! Other runs of this host come across it: their datasets are others, but the folder is the same. So whoever writes a
//! journal holds a lock on it, and a journal that is gone a moment after it was listed reads as empty.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use exclave_model::{Commitment, DatasetId, Incarnation, RecordHash, RunId, SiteId, StripeRecord};
use minicbor::{Decode, Encode};
use rustix::fs::{FlockOperation, flock};

use crate::{
    local::{self, LocalError},
    state::RunNote,
};

/// Longest entry: a head with its run pages.
const ENTRY_BYTES_MAX: usize = 64 << 20;

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum JournalEntry {
    /// The run has a key and an envelope.
    #[n(0)]
    Begun(#[n(0)] Begun),
    /// A stripe has settled.
    #[n(1)]
    Stripe(#[n(0)] SettledStripe),
    /// The head is about to be put.
    #[n(2)]
    Head(#[n(0)] JournalledHead),
    /// The head is at its quorum.
    #[n(3)]
    Committed,
}

/// How a run began.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Begun {
    /// The run.
    #[n(0)]
    pub run: RunId,
    /// Its dataset.
    #[n(1)]
    pub dataset: DatasetId,
    /// Which life of the writer.
    #[n(2)]
    pub incarnation: Incarnation,
    /// The dataset's class.
    #[n(3)]
    pub class: u32,
    /// The recipient set's epoch.
    #[n(4)]
    pub crypto_epoch: u32,
    /// Digest of the label.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub label_digest: [u8; 32],
    /// Commitment to the run key.
    #[n(6)]
    pub commitment: Commitment,
    /// Unix seconds.
    #[n(7)]
    pub started: i64,
    /// The signed envelope, to be put again where it is missing.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub envelope: Vec<u8>,
}

/// A stripe whose shards were verified or are owed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SettledStripe {
    /// Its line in the ledger.
    #[n(0)]
    pub record: StripeRecord,
    /// The layout.
    #[n(1)]
    pub sites: Vec<SiteId>,
    /// Index and attempt of each verified shard.
    #[n(2)]
    pub verified: Vec<(u8, u32)>,
    /// The end of the stripe's plaintext: its directory.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub directory: Vec<u8>,
}

/// A head with everything that must be at the sites before it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct JournalledHead {
    /// Its seq.
    #[n(0)]
    pub seq: u64,
    /// Its record's hash.
    #[n(1)]
    pub hash: RecordHash,
    /// The object.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub object: Vec<u8>,
    /// The sites it must be at: every layout that the snapshot refers to.
    #[n(3)]
    pub layouts: Vec<Vec<SiteId>>,
    /// How many of each layout must hold it.
    #[n(4)]
    pub quorum: u8,
    /// The runs that the snapshot refers to.
    #[n(5)]
    pub runs: Vec<RunNote>,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    poisoned: bool,
}

impl Journal {
    /// Begins a run's journal.
    pub fn create(path: &Path) -> Result<Self, LocalError> {
        let file = create_locked(path)
            .and_then(|file| local::sync_parent(path).map(|()| file))
            .map_err(local::failed("create journal", path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            poisoned: false,
        })
    }

    /// Goes on with a journal, behind its last whole entry.
    pub fn reopen(path: &Path) -> Result<(Self, Vec<JournalEntry>), LocalError> {
        let (entries, whole) = read(path)?;
        let opened = OpenOptions::new().append(true).open(path).and_then(|file| {
            file.set_len(whole)?;
            file.sync_all()?;
            Ok(file)
        });
        let file = opened.map_err(local::failed("open journal", path))?;
        Ok((
            Self {
                file,
                path: path.to_owned(),
                poisoned: false,
            },
            entries,
        ))
    }

    /// Adds an entry; it is durable on return.
    pub fn append(&mut self, entry: &JournalEntry) -> Result<(), LocalError> {
        let failed = local::failed("write journal", &self.path);
        if self.poisoned {
            return Err(failed(io::Error::other("an earlier write failed")));
        }
        let payload = minicbor::to_vec(entry).unwrap_or_default();
        let mut frame = Vec::with_capacity(payload.len() + 12);
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(&blake3::hash(&payload).as_bytes()[..8]);
        frame.extend_from_slice(&payload);
        let written = self.file.write_all(&frame).and_then(|()| self.file.sync_data());
        self.poisoned = written.is_err();
        written.map_err(failed)
    }
}

/// A new file with a lock on it. Between the two someone may take it for a dead run's and remove it: then once more.
fn create_locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// Removes a journal without a whole entry, unless a living run is about to write it.
pub fn remove_empty(path: &Path) -> Result<(), LocalError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(local::failed("open journal", path))?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
        Err(errno) => return Err(local::failed("lock journal", path)(errno.into())),
    }
    // Its run may have written and died since we looked.
    if read(path)?.0.is_empty() {
        local::remove(path)?;
    }
    Ok(())
}

/// The whole entries of a journal, and where they end. One that is gone has none.
pub fn read(path: &Path) -> Result<(Vec<JournalEntry>, u64), LocalError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        opened => opened.map_err(local::failed("open journal", path))?,
    };
    let mut file = io::BufReader::new(file);
    let mut entries = Vec::new();
    let mut whole = 0u64;
    let mut frame = [0; 12];
    while read_full(&mut file, &mut frame).map_err(local::failed("read journal", path))? {
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        if length > ENTRY_BYTES_MAX {
            break;
        }
        let mut payload = Vec::new();
        let read = (&mut file).take(length as u64).read_to_end(&mut payload);
        read.map_err(local::failed("read journal", path))?;
        let fits = payload.len() == length && blake3::hash(&payload).as_bytes()[..8] == frame[4..];
        if !fits {
            break;
        }
        let Ok(entry) = minicbor::decode(&payload) else { break };
        entries.push(entry);
        whole += 12 + length as u64;
    }
    Ok((entries, whole))
}

/// Fills the buffer; false when the file ends before it is full.
fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(number: u8) -> JournalEntry {
        JournalEntry::Begun(Begun {
            run: RunId::from_bytes([number; 16]),
            dataset: DatasetId::from_bytes([2; 16]),
            incarnation: Incarnation::from_bytes([3; 16]),
            class: 0,
            crypto_epoch: 0,
            label_digest: [4; 32],
            commitment: Commitment::from_bytes([5; 32]),
            started: 6,
            envelope: vec![7; 100],
        })
    }

    #[test]
    fn only_a_dead_run_s_empty_journal_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut living = Journal::create(&path).unwrap();
        remove_empty(&path).unwrap();
        assert!(path.exists());
        living.append(&begun(1)).unwrap();
        drop(living);
        remove_empty(&path).unwrap();
        assert_eq!(read(&path).unwrap().0, [begun(1)]);
        std::fs::write(&path, b"half a frame").unwrap();
        remove_empty(&path).unwrap();
        assert!(!path.exists());
        remove_empty(&path).unwrap();
        assert_eq!(read(&path).unwrap(), (Vec::new(), 0));
    }

    #[test]
    fn a_cut_or_altered_tail_loses_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        let entries = vec![begun(1), begun(2), JournalEntry::Committed];
        let mut ends = vec![0];
        for entry in &entries {
            journal.append(entry).unwrap();
            ends.push(std::fs::metadata(&path).unwrap().len());
        }
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let whole = ends.iter().filter(|end| **end <= length as u64).count() - 1;
            assert_eq!(
                read(&path).unwrap(),
                (entries[..whole].to_vec(), ends[whole]),
                "{length}"
            );
        }
        let mut altered = bytes.clone();
        altered[ends[1] as usize + 20] ^= 1;
        std::fs::write(&path, &altered).unwrap();
        let (mut journal, read_back) = Journal::reopen(&path).unwrap();
        assert_eq!(read_back, entries[..1]);
        journal.append(&JournalEntry::Committed).unwrap();
        assert_eq!(read(&path).unwrap().0, [entries[0].clone(), JournalEntry::Committed]);
    }
}
