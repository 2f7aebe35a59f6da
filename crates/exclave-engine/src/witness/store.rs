//! What a witness must not forget: of each log the largest tree that it has cosigned.
//!
//! ```text
//! witness        the archive, the key, the newest charter that was given: made once, by `create`
//! lock           held while the witness runs
//! origins        the logs that were ever cosigned, a line each
//! logs/<hash>    the last checkpoint that was cosigned, as its log signed it
//! evidence/      what logs signed that can't be true together
//! ```
//!
//! A witness that forgets signs two histories. So nothing here is made anew silently: a folder without its `witness` file is none, and a
//! log that stands in `origins` and has no file stops the start.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use exclave_log::{LogId, SignedCheckpoint};
use exclave_model::{Anchor, Charters, KeyId, RecordHash, Version1};
use minicbor::{Decode, Encode};

use crate::{
    local::{self, LocalError, Lock, Patience},
    log::Evidence,
};

/// First line of a log's file.
const LOG_FORMAT: &str = "exclave witness log v1";

/// Most logs of one archive. A key has one for each of its incarnations; whoever steals a key could begin any number.
pub const LOGS_MAX: usize = 16_384;
/// Most files of evidence: one tells enough, and none may fill the disk.
const EVIDENCE_MAX: usize = 64;

/// Why the state folder is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// Never made, or lost.
    #[error("{} is not the state of a witness", .0.display())]
    None(PathBuf),
    /// There already.
    #[error("{} is the state of a witness already", .0.display())]
    There(PathBuf),
    /// That of another key or archive.
    #[error("{} is the state of witness key {key} for archive {anchor}", path.display())]
    Other {
        /// The folder.
        path: PathBuf,
        /// Its key.
        key: KeyId,
        /// Its archive.
        anchor: Anchor,
    },
    /// A log's file is gone.
    #[error("the file of a log that was cosigned is gone: {origin}")]
    Forgotten {
        /// The log.
        origin: String,
    },
    /// Older charters than before.
    #[error("charter version {seen} was given before, and this history ends with another one, version {given}")]
    OlderCharter {
        /// The newest that was given.
        seen: u32,
        /// The newest of this history.
        given: u32,
    },
}

/// Whose state it is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Owner {
    #[n(0)]
    format: Version1,
    #[n(1)]
    anchor: Anchor,
    #[n(2)]
    key: KeyId,
    #[n(3)]
    charter: Option<(u32, RecordHash)>,
}

/// The state folder of a running witness.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    _lock: Lock,
}

impl Store {
    /// Makes the state of a new witness.
    pub fn create(folder: &Path, anchor: Anchor, key: KeyId) -> Result<(), StoreError> {
        let path = folder.join("witness");
        if local::read(&path)?.is_some() {
            return Err(StoreError::There(folder.to_owned()));
        }
        local::create_folder(&folder.join("logs"))?;
        local::create_folder(&folder.join("evidence"))?;
        let owner = Owner {
            format: Version1,
            anchor,
            key,
            charter: None,
        };
        Ok(local::replace(&path, &encode(&owner))?)
    }

    /// Opens the state of a witness for good: nobody else may while this lives. Gives what each log was cosigned at last.
    pub fn open(
        folder: &Path,
        key: KeyId,
        charters: &Charters,
    ) -> Result<(Self, BTreeMap<LogId, SignedCheckpoint>), StoreError> {
        let path = folder.join("witness");
        let bytes = local::read(&path)?.ok_or_else(|| StoreError::None(folder.to_owned()))?;
        let lock = Lock::take(&folder.join("lock"), "this witness's state", Patience::Refuse)?;
        let mut owner: Owner = minicbor::decode(&bytes).map_err(|why| damaged(&path, why.to_string()))?;
        if (owner.anchor, owner.key) != (charters.anchor(), key) {
            return Err(StoreError::Other {
                path: folder.to_owned(),
                key: owner.key,
                anchor: owner.anchor,
            });
        }
        if let Some((seen, hash)) = owner.charter
            && charters.hash(seen) != Some(hash)
        {
            let given = charters.newest().version;
            return Err(StoreError::OlderCharter { seen, given });
        }
        let store = Self {
            folder: folder.to_owned(),
            _lock: lock,
        };
        let logs = store.logs(owner.anchor)?;
        let newest = Some((charters.newest().version, charters.newest_hash()));
        if owner.charter != newest {
            owner.charter = newest;
            local::replace(&path, &encode(&owner))?;
        }
        Ok((store, logs))
    }

    fn logs(&self, anchor: Anchor) -> Result<BTreeMap<LogId, SignedCheckpoint>, StoreError> {
        let mut logs = BTreeMap::new();
        let folder = self.folder.join("logs");
        let listed = std::fs::read_dir(&folder).map_err(local::failed("list", &folder))?;
        for entry in listed {
            let path = entry.map_err(local::failed("list", &folder))?.path();
            // What a crash left of a file that was never renamed.
            if path.extension().is_some_and(|extension| extension == "new") {
                continue;
            }
            let bytes = local::read(&path)?.unwrap_or_default();
            let (log, checkpoint) = read_log(&bytes).map_err(|why| damaged(&path, why))?;
            if !log.is_of(anchor) || path != self.log_path(&log) {
                return Err(damaged(&path, "it is the file of another log".to_owned()).into());
            }
            logs.insert(log, checkpoint);
        }
        let path = self.folder.join("origins");
        let known = local::read(&path)?.unwrap_or_default();
        let known = String::from_utf8(known).map_err(|_| damaged(&path, "it is no text".to_owned()))?;
        for origin in known.lines() {
            let log = LogId::parse(origin).ok_or_else(|| damaged(&path, "a line is no origin".to_owned()))?;
            if !logs.contains_key(&log) {
                return Err(StoreError::Forgotten {
                    origin: origin.to_owned(),
                });
            }
        }
        Ok(logs)
    }

    fn log_path(&self, log: &LogId) -> PathBuf {
        let hash = blake3::hash(log.origin().as_bytes());
        self.folder.join("logs").join(hash.to_hex().as_str())
    }

    /// Writes down, durably, what will be cosigned.
    pub fn save(&self, log: &LogId, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        let note = checkpoint.to_bytes();
        let mut bytes = format!("{LOG_FORMAT}\n{}\n", blake3::hash(&note).to_hex()).into_bytes();
        bytes.extend_from_slice(&note);
        Ok(local::replace(&self.log_path(log), &bytes)?)
    }

    /// Writes down, durably, which logs there are; each of them has its file.
    pub fn save_origins<'l>(&self, logs: impl Iterator<Item = &'l LogId>) -> Result<(), StoreError> {
        let lines: BTreeSet<String> = logs.map(|log| log.origin() + "\n").collect();
        let text: String = lines.into_iter().collect();
        Ok(local::replace(&self.folder.join("origins"), text.as_bytes())?)
    }

    /// Keeps evidence, unless there is enough. Gives its path.
    pub fn keep(&self, evidence: &Evidence) -> Result<Option<PathBuf>, StoreError> {
        let folder = self.folder.join("evidence");
        let bytes = serde_json::to_vec_pretty(evidence).unwrap_or_default();
        let hash = blake3::hash(&bytes).to_hex();
        let path = folder.join(format!("fork.{}.json", hash.get(..16).unwrap_or_default()));
        let listed = std::fs::read_dir(&folder).map_err(local::failed("list", &folder))?;
        if path.exists() || listed.count() >= EVIDENCE_MAX {
            return Ok(path.exists().then_some(path));
        }
        local::replace(&path, &bytes)?;
        Ok(Some(path))
    }
}

fn read_log(bytes: &[u8]) -> Result<(LogId, SignedCheckpoint), String> {
    let wrong = || "it is not what was written".to_owned();
    let rest = bytes
        .strip_prefix(LOG_FORMAT.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"\n"))
        .ok_or_else(wrong)?;
    let (hash, rest) = rest.split_at_checked(64).ok_or_else(wrong)?;
    let note = rest.strip_prefix(b"\n").ok_or_else(wrong)?;
    if blake3::hash(note).to_hex().as_bytes() != hash {
        return Err(wrong());
    }
    let checkpoint = SignedCheckpoint::parse(note).map_err(|why| why.to_string())?;
    let log = LogId::parse(&checkpoint.checkpoint.origin).ok_or_else(wrong)?;
    Ok((log, checkpoint))
}

fn damaged(path: &Path, why: String) -> LocalError {
    LocalError::Damaged {
        path: path.to_owned(),
        why,
    }
}

fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to memory can't fail, and our encoders raise no errors of their own.
    minicbor::to_vec(value).unwrap_or_default()
}
