//! What a witness does with a request (C2SP tlog-witness, `add-checkpoint`).
//!
//! In this order: who signed, what was cosigned before, does the new tree begin with it; then the new tree is written down,
//! and only when that is durable it is cosigned. A witness that is killed in between has said less than it remembers, never more.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use exclave_log::{BadProof, LogId, SignedCheckpoint, TreeHash, note::NoteSignature, verify_consistency};
use exclave_model::{Charters, PublicKey};
use exclave_seal::{CosigningKey, Entropy};

use super::{
    cosign::{CosignError, cosign, vouching},
    request::{AddCheckpoint, BadRequest},
    store::{LOGS_MAX, Store, StoreError},
};
use crate::log::{Evidence, is_signed};

/// A witness of one archive.
pub struct Keeper {
    key: CosigningKey,
    charters: Charters,
    store: Store,
    logs: Mutex<BTreeMap<LogId, Arc<Mutex<Log>>>>,
    /// The logs that the state's list names.
    listed: Mutex<BTreeSet<LogId>>,
}

/// What is remembered of a log. One request at a time holds it.
#[derive(Debug, Default)]
struct Log {
    last: Option<SignedCheckpoint>,
    /// A write went wrong in a way that leaves open what the disk holds. Nothing is cosigned until a start has read it anew.
    halted: bool,
}

/// Why a witness can't start.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Its state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint that is to be taken over isn't its own.
    #[error("the checkpoint of {origin} at size {size} bears no cosignature of this witness")]
    NotOurs {
        /// The log.
        origin: String,
        /// Its size.
        size: u64,
    },
    /// Its own cosignatures contradict each other.
    #[error("this witness has cosigned two trees of {size} leaves of {origin}")]
    Forked {
        /// The log.
        origin: String,
        /// Their size.
        size: u64,
    },
}

/// Why nothing was cosigned.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a request (400).
    #[error(transparent)]
    Malformed(#[from] BadRequest),
    /// The old size is larger than the new one (400).
    #[error("the old size {old} is larger than the checkpoint's, {size}")]
    OldLarger {
        /// Old size.
        old: u64,
        /// The checkpoint's.
        size: u64,
    },
    /// Not a log of this archive's charters (404).
    #[error("the log is unknown here")]
    UnknownLog,
    /// Not signed by the log's key, or that key was revoked (403).
    #[error("the checkpoint bears no signature of the log's key that counts here")]
    Unsigned,
    /// The witness knows another size (409, with the size).
    #[error("the tree that was cosigned last has {known} leaves")]
    OtherSize {
        /// The size.
        known: u64,
    },
    /// The witness has cosigned another tree of this size (409, with the size).
    #[error("another tree of {known} leaves was cosigned")]
    OtherRoot {
        /// The size.
        known: u64,
        /// Where the evidence lies, unless there is too much.
        evidence: Option<PathBuf>,
    },
    /// The new tree isn't shown to begin with the old one (422).
    #[error("the proof of consistency does not hold: {0}")]
    Proof(BadProof),
    /// More logs than are kept (503).
    #[error("this witness keeps {LOGS_MAX} logs and no more")]
    TooMany,
    /// Its own state can't be written (503).
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A write failed before (503).
    #[error("what was written of this log is in doubt: the witness has to be started anew")]
    Halted,
    /// The key did not sign (500).
    #[error(transparent)]
    Cosign(#[from] CosignError),
}

impl Keeper {
    /// Opens a witness's state.
    pub fn open(folder: &Path, key: CosigningKey, charters: Charters) -> Result<Self, KeeperError> {
        let (store, logs) = Store::open(folder, key.public().id(), &charters)?;
        let log = |last| {
            Arc::new(Mutex::new(Log {
                last: Some(last),
                halted: false,
            }))
        };
        // A crash between a log's first file and the list: the list is brought up before anything is cosigned.
        let listed: BTreeSet<LogId> = logs.keys().copied().collect();
        store.save_origins(listed.iter())?;
        Ok(Self {
            key,
            charters,
            store,
            logs: Mutex::new(logs.into_iter().map(|(id, last)| (id, log(last))).collect()),
            listed: Mutex::new(listed),
        })
    }

    /// How many logs it has cosigned.
    pub fn logs(&self) -> usize {
        lock(&self.logs).len()
    }

    /// Takes over what bears its own cosignatures and is larger than what it remembers: after a backup came back.
    pub fn take_over(&self, checkpoint: &SignedCheckpoint) -> Result<(), KeeperError> {
        let found = &checkpoint.checkpoint;
        let (origin, size) = (found.origin.clone(), found.size);
        let ourselves = [self.key.public().clone().witness(String::new())];
        let log = LogId::parse(&origin).filter(|log| log.is_of(self.charters.anchor()));
        let Some(log) = log.filter(|_| !vouching(checkpoint, &ourselves).is_empty()) else {
            return Err(KeeperError::NotOurs { origin, size });
        };
        let entry = Arc::clone(lock(&self.logs).entry(log).or_default());
        let mut entry = lock(&entry);
        match entry.last.as_ref().map(|last| &last.checkpoint) {
            Some(last) if last.size == size && last.root != found.root => {
                return Err(KeeperError::Forked { origin, size });
            }
            Some(last) if last.size >= size => return Ok(()),
            Some(_) | None => {}
        }
        self.save(&log, &mut entry, checkpoint)?;
        Ok(())
    }

    /// Does what a request asks, or says why not. `now` is Unix seconds.
    pub fn add_checkpoint(
        &self,
        body: &[u8],
        now: i64,
        entropy: &mut dyn Entropy,
    ) -> Result<[NoteSignature; 2], Refusal> {
        let request = AddCheckpoint::parse(body)?;
        let found = &request.checkpoint.checkpoint;
        let (log, key) = self.log_of(&found.origin).ok_or(Refusal::UnknownLog)?;
        if self.charters.newest().role_of(log.key).is_none() || !is_signed(&request.checkpoint, log, key) {
            return Err(Refusal::Unsigned);
        }
        if request.old > found.size {
            return Err(Refusal::OldLarger {
                old: request.old,
                size: found.size,
            });
        }
        let entry = self.entry(log)?;
        let mut entry = lock(&entry);
        if entry.halted {
            return Err(Refusal::Halted);
        }
        self.check(&entry, &request)?;
        if entry.last.as_ref().is_none_or(|last| last.checkpoint.size < found.size) {
            self.save(&log, &mut entry, &request.checkpoint)?;
        }
        Ok(cosign(&request.checkpoint, &self.key, now, entropy)?)
    }

    /// The log, when its key has been in a charter.
    fn log_of(&self, origin: &str) -> Option<(LogId, &PublicKey)> {
        let log = LogId::parse(origin).filter(|log| log.is_of(self.charters.anchor()))?;
        let mut versions = self.charters.iter().rev();
        let key = versions.find_map(|charter| charter.keys().find(|(_, key)| key.id() == log.key))?;
        Some((log, key.1))
    }

    fn entry(&self, log: LogId) -> Result<Arc<Mutex<Log>>, Refusal> {
        let mut logs = lock(&self.logs);
        if !logs.contains_key(&log) && logs.len() >= LOGS_MAX {
            return Err(Refusal::TooMany);
        }
        Ok(Arc::clone(logs.entry(log).or_default()))
    }

    fn check(&self, entry: &Log, request: &AddCheckpoint) -> Result<(), Refusal> {
        let found = &request.checkpoint.checkpoint;
        let last = entry.last.as_ref().map(|last| &last.checkpoint);
        let (known, known_root) = last.map_or((0, TreeHash::empty()), |last| (last.size, last.root));
        if request.old != known {
            return Err(Refusal::OtherSize { known });
        }
        if found.size == known && found.root != known_root {
            let evidence = match &entry.last {
                Some(last) => {
                    let fork = Evidence::split(last, &request.checkpoint);
                    self.store.keep(&fork)?
                }
                // A tree without leaves has one root.
                None => None,
            };
            return Err(Refusal::OtherRoot { known, evidence });
        }
        verify_consistency(known, known_root, found.size, found.root, &request.proof).map_err(Refusal::Proof)
    }

    /// Makes a checkpoint the last one, durably, or leaves what was.
    fn save(&self, log: &LogId, entry: &mut Log, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        let saved = self.store.save(log, checkpoint).and_then(|()| self.list(log));
        match saved {
            Ok(()) => {
                entry.last = Some(checkpoint.clone());
                Ok(())
            }
            Err(error) => {
                // A full disk fails before the name is given. After anything else nobody knows what is there.
                entry.halted = !matches!(&error, StoreError::Local(local) if local.is_full());
                Err(error)
            }
        }
    }
}

impl Keeper {
    /// Sees to it that a log whose file is gone stops the next start.
    fn list(&self, log: &LogId) -> Result<(), StoreError> {
        let mut listed = lock(&self.listed);
        if listed.contains(log) {
            return Ok(());
        }
        self.store.save_origins(listed.iter().chain([log]))?;
        listed.insert(*log);
        Ok(())
    }
}

/// A panic elsewhere leaves these values whole: they change in one step each.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
