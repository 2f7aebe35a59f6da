//! The agent's state folder: its signing key, its place in its chain, its datasets' secrets, journals, catalog.
//!
//! ```text
//! writer.key            the signing key, open, 0600
//! chain                 incarnation, next seq, hash of the last head
//! charter               version and hash of the newest charter that was seen
//! chain.lock            held while a head is written: one chain for all datasets of this writer
//! log                   the log of this life's chain: its entries, its newest checkpoint, what each site has of it
//! log.lock              held while the log grows
//! datasets/<id>         name, class, secret
//! datasets/<id>.lock    held while the dataset is replicated
//! datasets/<id>.runs    the run table of its newest head
//! datasets/<id>.records administrators' records of it that counted: sites that hide one can't loosen it
//! datasets/<id>.streams lengths of its newest head's streams: a dump that shrinks is held against them
//! journal/<run>         what a run has done so far
//! catalog.sqlite        rebuildable
//! probes/<hash>         what `site check` found at a site; the command line's, rebuildable
//! ```
//!
//! Losing the folder loses no snapshot: secrets are in every head, sealed; the chain begins anew as a new incarnation.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use exclave_model::{
    Charters, Commitment, DatasetId, Incarnation, KeyId, LayoutFrom, PublicKey, RecordHash, Registration, RunId, SiteId,
};
use exclave_seal::{
    DatasetSecret, Entropy, KeyFile, KeyFileError, KeyKind, NoEntropy, SigningKey, Tokens, entropy::draw,
};
use minicbor::{Decode, Encode};

use crate::local::{self, LocalError, Lock, Patience};

/// Why the state folder is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// No writer's key: the folder was never set up.
    #[error("{} holds no writer's key", .0.display())]
    NotSetUp(PathBuf),
    /// The writer's key does not open.
    #[error("the writer's key in {} does not open", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: KeyFileError,
    },
    /// A key is there already.
    #[error("{} belongs to a writer already", .0.display())]
    SetUpAlready(PathBuf),
    /// The sites show less than was seen before, or something else.
    #[error(
        "charter version {seen} of this archive was seen before ({hash}), and the sites show {}",
        match *shown == *seen { true => "another one of that version".to_owned(), false => format!("version {shown}") }
    )]
    OlderCharter {
        /// The version that was seen.
        seen: u32,
        /// Its hash.
        hash: RecordHash,
        /// The newest version that the sites show.
        shown: u32,
    },
    /// Two datasets of one name, or one in another class.
    #[error("dataset {name:?} is in class {found}, not in {wanted}")]
    OtherClass {
        /// The dataset.
        name: String,
        /// Its class.
        found: u32,
        /// The class asked for.
        wanted: u32,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// The state folder of one agent.
#[derive(Debug, Clone)]
pub struct AgentState {
    folder: PathBuf,
}

/// A writer's place in its chain of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Chain {
    /// Which life of the writer.
    #[n(0)]
    pub incarnation: Incarnation,
    /// The seq of the next head.
    #[n(1)]
    pub next_seq: u64,
    /// The last head.
    #[n(2)]
    pub previous: Option<RecordHash>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct SeenCharter {
    #[n(0)]
    version: u32,
    #[n(1)]
    hash: RecordHash,
}

/// What an agent must know of a run to refer to its stripes again. All of it is public, and at the sites too.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RunNote {
    /// The run.
    #[n(0)]
    pub run: RunId,
    /// Commitment to its key.
    #[n(1)]
    pub commitment: Commitment,
    /// Its ledger parts.
    #[n(2)]
    pub ledgers: Vec<RecordHash>,
    /// Where its shards were meant to lie.
    #[n(3)]
    pub layouts: Vec<LayoutFrom>,
}

impl RunNote {
    /// The sites of a stripe's shards.
    pub fn layout_of(&self, ordinal: u32) -> &[SiteId] {
        let behind = self.layouts.partition_point(|layout| layout.first_ordinal <= ordinal);
        behind.checked_sub(1).map_or(&[], |at| &self.layouts[at].sites)
    }
}

/// A dataset as its agent knows it.
pub struct Dataset {
    /// Its opaque id.
    pub id: DatasetId,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: u32,
    /// Derives chunk ids, cuts and page boundaries.
    pub secret: DatasetSecret,
}

/// An administrator's record of a dataset, as it was verified once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SeenRecord {
    /// Its hash.
    #[n(0)]
    pub hash: RecordHash,
    /// Who signed it.
    #[n(1)]
    pub signer: KeyId,
    /// The record.
    #[n(2)]
    pub record: Registration,
}

/// Streams of a snapshot and their lengths in bytes.
pub type StreamLengths = BTreeMap<Vec<u8>, u64>;

#[derive(Encode, Decode)]
#[cbor(map)]
struct StreamLength {
    #[cbor(n(0), with = "minicbor::bytes")]
    name: Vec<u8>,
    #[n(1)]
    bytes: u64,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct DatasetFile {
    #[n(0)]
    version: u8,
    #[n(1)]
    id: DatasetId,
    #[n(2)]
    name: String,
    #[n(3)]
    class: u32,
    #[cbor(n(4), with = "minicbor::bytes")]
    secret: [u8; 32],
}

/// A name beside another.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    PathBuf::from(name)
}

/// The first such name that isn't taken.
fn free(path: &Path, suffix: &str) -> PathBuf {
    let names = std::iter::once(suffix.to_owned()).chain((2u64..).map(|number| format!("{suffix}.{number}")));
    let mut names = names.map(|suffix| beside(path, &suffix));
    // The numbers don't end before the names do.
    names
        .find(|name| name.symlink_metadata().is_err())
        .unwrap_or_else(|| beside(path, suffix))
}

impl AgentState {
    /// Sets a folder up for a writer.
    pub fn set_up(folder: &Path, key: &SigningKey, entropy: &mut dyn Entropy) -> Result<Self, StateError> {
        let state = Self {
            folder: folder.to_owned(),
        };
        for folder in [
            state.folder.clone(),
            state.folder.join("datasets"),
            state.folder.join("journal"),
        ] {
            local::create_folder(&folder)?;
        }
        if local::read(&state.key_path())?.is_some() {
            return Err(StateError::SetUpAlready(folder.to_owned()));
        }
        state.begin_incarnation(entropy)?;
        state.write_key(key)?;
        Ok(state)
    }

    /// Gives a folder another writer's key, and with it a chain of its own. Sets the folder up when it is new.
    ///
    /// The key before is kept beside it, and so are the journals of its unfinished runs: what these had sent is lost
    /// space, and no snapshot. Datasets stay what they are.
    pub fn install_key(folder: &Path, key: &SigningKey, entropy: &mut dyn Entropy) -> Result<Self, StateError> {
        let state = match Self::open(folder) {
            Err(StateError::NotSetUp(_)) => return Self::set_up(folder, key, entropy),
            opened => opened?,
        };
        let before = state.writer_public()?.id();
        if before == key.id() {
            return Ok(state);
        }
        let mut locks = vec![state.lock_chain()?];
        for dataset in state.datasets()? {
            let what = format!("dataset {:?}", dataset.name);
            locks.push(Lock::take(
                &state.dataset_path(dataset.id, "lock"),
                &what,
                Patience::Refuse,
            )?);
        }
        // Every step can be taken again after a death: the key before is written down first, and the new one last.
        let old = zeroize::Zeroizing::new(local::read(&state.key_path())?.unwrap_or_default());
        local::replace(&beside(&state.key_path(), &before.to_hex()[..16]), &old)?;
        let journals = state.folder.join("journal");
        local::create_folder(&journals)?;
        if !state.journals()?.is_empty() {
            local::move_aside(&journals, &free(&journals, &before.to_hex()[..16]))?;
        }
        local::create_folder(&journals)?;
        state.begin_incarnation(entropy)?;
        state.write_key(key)?;
        Ok(state)
    }

    fn write_key(&self, key: &SigningKey) -> Result<(), StateError> {
        let text = KeyFile::for_writer(key).to_text().map_err(|source| StateError::Key {
            path: self.key_path(),
            source,
        })?;
        Ok(local::replace(&self.key_path(), text.as_bytes())?)
    }

    /// Opens a folder that was set up.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let state = Self {
            folder: folder.to_owned(),
        };
        match local::read(&state.key_path())? {
            Some(_) => Ok(state),
            None => Err(StateError::NotSetUp(folder.to_owned())),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the catalog lies.
    pub fn catalog_path(&self) -> PathBuf {
        self.folder.join("catalog.sqlite")
    }

    fn key_path(&self) -> PathBuf {
        self.folder.join("writer.key")
    }

    fn chain_path(&self) -> PathBuf {
        self.folder.join("chain")
    }

    /// The writer's signing key, one half of which may lie in a token.
    pub fn writer_key(&self, tokens: &dyn Tokens) -> Result<SigningKey, StateError> {
        self.read_key(|file| file.open_signing_with(KeyKind::WRITER, None, tokens))
    }

    /// The public half of the writer's signing key.
    pub fn writer_public(&self) -> Result<PublicKey, StateError> {
        self.read_key(KeyFile::public_key)
    }

    fn read_key<T>(&self, read: impl FnOnce(&KeyFile) -> Result<T, KeyFileError>) -> Result<T, StateError> {
        let path = self.key_path();
        let bytes = local::read(&path)?.ok_or_else(|| StateError::NotSetUp(self.folder.clone()))?;
        let bytes = zeroize::Zeroizing::new(bytes);
        let text = String::from_utf8_lossy(&bytes);
        KeyFile::parse(&text)
            .and_then(|file| read(&file))
            .map_err(|source| StateError::Key { path, source })
    }

    /// Begins a new life of the writer: a chain of its own.
    pub fn begin_incarnation(&self, entropy: &mut dyn Entropy) -> Result<Chain, StateError> {
        let chain = Chain {
            incarnation: Incarnation::from_bytes(draw(entropy)?),
            next_seq: 0,
            previous: None,
        };
        self.save_chain(&chain)?;
        Ok(chain)
    }

    /// The writer's place in its chain.
    pub fn chain(&self) -> Result<Chain, StateError> {
        let path = self.chain_path();
        let bytes = local::read(&path)?.ok_or_else(|| StateError::NotSetUp(self.folder.clone()))?;
        decode(&path, &bytes)
    }

    /// Notes the writer's place in its chain.
    pub fn save_chain(&self, chain: &Chain) -> Result<(), StateError> {
        Ok(local::replace(&self.chain_path(), &encode(chain))?)
    }

    /// The hash of the newest charter that was seen.
    pub fn seen_charter(&self) -> Result<Option<RecordHash>, StateError> {
        Ok(self.seen()?.map(|seen| seen.hash))
    }

    fn seen(&self) -> Result<Option<SeenCharter>, StateError> {
        let path = self.folder.join("charter");
        local::read(&path)?.map(|bytes| decode(&path, &bytes)).transpose()
    }

    /// Refuses charters that are older than what was seen before, or others; remembers newer ones.
    pub fn see_charters(&self, charters: &Charters) -> Result<(), StateError> {
        let seen = self.seen()?;
        let now = SeenCharter {
            version: charters.newest().version,
            hash: charters.newest_hash(),
        };
        if let Some(seen) = seen {
            if charters.hash(seen.version) != Some(seen.hash) {
                return Err(StateError::OlderCharter {
                    seen: seen.version,
                    hash: seen.hash,
                    shown: now.version,
                });
            }
            if seen.version == now.version {
                return Ok(());
            }
        }
        Ok(local::replace(&self.folder.join("charter"), &encode(&now))?)
    }

    /// Holds the chain while a head is written; waits for another dataset's head.
    pub fn lock_chain(&self) -> Result<Lock, StateError> {
        Ok(Lock::take(
            &self.folder.join("chain.lock"),
            "the chain of heads",
            Patience::Wait,
        )?)
    }

    /// Holds the log while it grows; waits for another dataset's commit.
    pub fn lock_log(&self) -> Result<Lock, StateError> {
        Ok(Lock::take(&self.folder.join("log.lock"), "the log", Patience::Wait)?)
    }

    /// A small file of the folder; `None` when it is not there.
    pub(crate) fn load<T: for<'b> Decode<'b, ()>>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.folder.join(name);
        local::read(&path)?.map(|bytes| decode(&path, &bytes)).transpose()
    }

    /// Replaces a small file of the folder as a whole.
    pub(crate) fn store<T: Encode<()>>(&self, name: &str, value: &T) -> Result<(), StateError> {
        Ok(local::replace(&self.folder.join(name), &encode(value))?)
    }

    /// The dataset with a name, made when it is new, and the lock on it.
    pub fn lock_dataset(
        &self,
        name: &str,
        class: u32,
        entropy: &mut dyn Entropy,
    ) -> Result<(Dataset, Lock), StateError> {
        let naming = Lock::take(
            &self.folder.join("datasets.lock"),
            "the list of datasets",
            Patience::Wait,
        )?;
        let known = self.datasets()?.into_iter().find(|dataset| dataset.name == name);
        let dataset = match known {
            Some(known) if known.class != class => {
                return Err(StateError::OtherClass {
                    name: known.name,
                    found: known.class,
                    wanted: class,
                });
            }
            Some(known) => known,
            None => {
                let id = DatasetId::from_bytes(draw(entropy)?);
                let dataset = Dataset {
                    id,
                    name: name.to_owned(),
                    class,
                    secret: DatasetSecret::generate(entropy)?,
                };
                self.save_dataset(&dataset)?;
                dataset
            }
        };
        drop(naming);
        let path = self.dataset_path(dataset.id, "lock");
        let lock = Lock::take(&path, &format!("dataset {name:?}"), Patience::Refuse)?;
        Ok((dataset, lock))
    }

    /// Takes a dataset over from a head that was opened: a new agent goes on deduplicating.
    pub fn save_dataset(&self, dataset: &Dataset) -> Result<(), StateError> {
        let file = DatasetFile {
            version: 1,
            id: dataset.id,
            name: dataset.name.clone(),
            class: dataset.class,
            secret: *dataset.secret.to_bytes(),
        };
        Ok(local::replace(
            &self.dataset_path(dataset.id, "dataset"),
            &encode(&file),
        )?)
    }

    /// Every dataset of this agent, by name.
    pub fn datasets(&self) -> Result<Vec<Dataset>, StateError> {
        let mut datasets = Vec::new();
        for path in self.files_in("datasets")? {
            if path.extension().is_none_or(|extension| extension != "dataset") {
                continue;
            }
            let bytes = zeroize::Zeroizing::new(local::read(&path)?.unwrap_or_default());
            let file: DatasetFile = decode(&path, &bytes)?;
            datasets.push(Dataset {
                id: file.id,
                name: file.name,
                class: file.class,
                secret: DatasetSecret::from_bytes(file.secret),
            });
        }
        datasets.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(datasets)
    }

    pub(crate) fn dataset_path(&self, id: DatasetId, extension: &str) -> PathBuf {
        self.folder
            .join("datasets")
            .join(format!("{}.{extension}", id.to_hex()))
    }

    /// What is known of the runs that the dataset's newest head refers to; empty when there is none here.
    pub fn run_notes(&self, id: DatasetId) -> Result<Vec<RunNote>, StateError> {
        let path = self.dataset_path(id, "runs");
        match local::read(&path)? {
            Some(bytes) => decode(&path, &bytes),
            None => Ok(Vec::new()),
        }
    }

    /// Notes the runs that the dataset's newest head refers to.
    pub fn save_run_notes(&self, id: DatasetId, runs: &Vec<RunNote>) -> Result<(), StateError> {
        Ok(local::replace(&self.dataset_path(id, "runs"), &encode(runs))?)
    }

    /// Administrators' records of the dataset that counted when they were seen.
    pub fn seen_records(&self, id: DatasetId) -> Result<Vec<SeenRecord>, StateError> {
        let path = self.dataset_path(id, "records");
        match local::read(&path)? {
            Some(bytes) => decode(&path, &bytes),
            None => Ok(Vec::new()),
        }
    }

    /// Remembers them.
    pub fn save_seen_records(&self, id: DatasetId, records: &Vec<SeenRecord>) -> Result<(), StateError> {
        Ok(local::replace(&self.dataset_path(id, "records"), &encode(records))?)
    }

    /// The streams of the dataset's newest snapshot and their lengths in bytes; empty when nothing is known here.
    pub fn stream_lengths(&self, id: DatasetId) -> Result<StreamLengths, StateError> {
        let path = self.dataset_path(id, "streams");
        let Some(bytes) = local::read(&path)? else {
            return Ok(StreamLengths::new());
        };
        let streams: Vec<StreamLength> = decode(&path, &bytes)?;
        Ok(streams.into_iter().map(|stream| (stream.name, stream.bytes)).collect())
    }

    /// Notes the streams of the dataset's newest snapshot; a dataset that has none leaves no file.
    pub fn save_stream_lengths(&self, id: DatasetId, streams: &StreamLengths) -> Result<(), StateError> {
        let path = self.dataset_path(id, "streams");
        if streams.is_empty() {
            return match path.exists() {
                true => Ok(local::remove(&path)?),
                false => Ok(()),
            };
        }
        let streams = streams.iter().map(|(name, bytes)| StreamLength {
            name: name.clone(),
            bytes: *bytes,
        });
        Ok(local::replace(&path, &encode(&streams.collect::<Vec<_>>()))?)
    }

    /// Where a run's journal lies.
    pub fn journal_path(&self, run: RunId) -> PathBuf {
        self.folder.join("journal").join(run.to_hex())
    }

    /// Journals that are there: of dead runs, and of runs that go on.
    pub fn journals(&self) -> Result<Vec<PathBuf>, StateError> {
        self.files_in("journal")
    }

    fn files_in(&self, folder: &str) -> Result<Vec<PathBuf>, StateError> {
        let folder = self.folder.join(folder);
        let listed = fs::read_dir(&folder).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()
        });
        let mut paths = listed.map_err(local::failed("list", &folder))?;
        paths.sort();
        Ok(paths)
    }
}

pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to memory can't fail, and our encoders raise no errors of their own.
    minicbor::to_vec(value).unwrap_or_default()
}

pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(path: &Path, bytes: &[u8]) -> Result<T, StateError> {
    minicbor::decode(bytes).map_err(|error| {
        LocalError::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
        }
        .into()
    })
}
