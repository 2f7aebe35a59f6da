//! An archive on simulated sites, with an agent that can be killed and started again.
//!
//! Stripes are small (64 KiB payloads, 16 KiB chunks on average), so that a tree of some hundred kilobytes has several and
//! exhaustive tests stay quick. Time stands still unless a test moves it.

use std::{
    collections::BTreeSet,
    error::Error,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use exclave_catalog::Catalog;
use exclave_dataset::{cut::ChunkSizes, pack::CompressionLevel, sink, walk::WalkOptions};
use exclave_engine::{
    AgentState, Archive, Clock, DEFAULT_CLASS, EntropySource, IfForgotten, NewArchive, Progress, ReplicateError,
    ReplicateReport, ReplicateRequest, Source, Surroundings, Tripwires,
    fetch::ReadSettings,
    init, replicate,
    restore::{Outcome, RestoreReport, Selection, Target, restore},
    snapshot::{Depth, Snapshots, Which},
    survey::survey,
};
use exclave_model::{
    Anchor, ClassPolicy, Geometry, Hosting, Pace, PayloadLength, ReadBack, SiteId, SiteRecord, limit::SEGMENT_BYTES,
};
use exclave_plan::Quorums;
use exclave_seal::{Entropy, KeyFile, Passphrase, RecoveryIdentity, SeededEntropy, SigningKey, key_file::Cost};
use exclave_site::{SimulatedSite, Site, Steps};

/// Whatever goes wrong in a test.
pub type Whatever = Box<dyn Error>;

/// A clock that a test moves.
pub struct StillClock(AtomicI64);

impl StillClock {
    /// Moves the clock.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for StillClock {
    fn now_unix_seconds(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Streams from one seed, one after another.
pub struct SeededSource(AtomicU64);

impl EntropySource for SeededSource {
    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(SeededEntropy::new(self.0.fetch_add(1, Ordering::SeqCst)))
    }
}

/// A folder in memory where the system has one: tests write many small files and fsync often.
pub fn scratch_folder() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
}

/// How a world is made.
#[derive(Debug, Clone, Copy)]
pub struct WorldPlan {
    /// Data and parity shards.
    pub geometry: (u8, u8),
    /// b.
    pub liars: u8,
    /// Sites beyond those of a layout.
    pub spares: u8,
    /// How shards are read back.
    pub read_back: ReadBack,
    /// Where its randomness begins.
    pub seed: u64,
}

impl WorldPlan {
    /// Data and parity shards on as many sites; no liars.
    pub fn new(data: u8, parity: u8) -> Self {
        Self {
            geometry: (data, parity),
            liars: 0,
            spares: 0,
            read_back: ReadBack::Full,
            seed: 1,
        }
    }
}

/// Sites, an archive, an agent's folder, a source.
pub struct World {
    /// The sites; clones share their stores.
    pub sites: Vec<SimulatedSite>,
    /// Operations at all sites together.
    pub steps: Steps,
    /// The charter's site ids, in order of `sites`.
    pub ids: Vec<SiteId>,
    /// The archive's anchor.
    pub anchor: Anchor,
    /// Vouches for the charter and signs plates.
    pub root: SigningKey,
    /// Opens everything.
    pub identity: RecoveryIdentity,
    /// n, k, q and so on.
    pub quorums: Quorums,
    /// What verbs are handed.
    pub surroundings: Surroundings,
    /// The time.
    pub clock: Arc<StillClock>,
    /// What replication protects.
    pub source: PathBuf,
    /// The label that it gives.
    pub label: String,
    /// What a replication does when the state folder has forgotten datasets.
    pub if_forgotten: IfForgotten,
    /// When a change of the source is told.
    pub tripwires: Tripwires,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    /// Founds an archive.
    pub fn found(plan: WorldPlan) -> Result<Self, Whatever> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let clock = Arc::new(StillClock(AtomicI64::new(1_800_000_000)));
        let surroundings = Surroundings {
            runtime: runtime.handle().clone(),
            clock: clock.clone(),
            entropy: Arc::new(SeededSource(AtomicU64::new(plan.seed << 32))),
            tokens: Arc::new(exclave_seal::NoTokens),
            threads: NonZeroUsize::new(2).ok_or("two is not zero")?,
            progress: Arc::new(Progress::default()),
        };
        let geometry = Geometry::new(plan.geometry.0, plan.geometry.1)?;
        let quorums = Quorums::new(geometry, None, plan.liars)?;
        let steps = Steps::default();
        let count = geometry.total() + plan.spares;
        let sites = (0..count)
            .map(|number| SimulatedSite::simulated(&format!("s{number}"), plan.seed, &steps))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<SiteId> = (0..count).map(|number| SiteId::from_bytes([number + 1; 16])).collect();
        let mut entropy = surroundings.entropy.entropy();
        let (root, writer) = (
            SigningKey::generate(&mut *entropy)?,
            SigningKey::generate(&mut *entropy)?,
        );
        let identity = RecoveryIdentity::generate(&mut *entropy)?;
        let record = |number: usize| SiteRecord {
            id: ids[number],
            name: format!("s{number}"),
            hosting: Hosting::OnPrem,
            pace: Pace::Primary,
            country: None,
            region: None,
            operator: None,
            legal_reach: None,
            iam_realm: None,
        };
        let archive = init(
            NewArchive {
                root: &root,
                writer: writer.public().clone(),
                recipients: vec![identity.public().clone()],
                sites: sites
                    .iter()
                    .enumerate()
                    .map(|(number, site)| (record(number), Arc::new(site.clone()) as Arc<dyn Site>))
                    .collect(),
                policy: ClassPolicy {
                    geometry,
                    losses: quorums.tolerance().losses,
                    liars: plan.liars,
                    payload: PayloadLength::new(SEGMENT_BYTES, geometry.data()).map_err(|rule| rule.text)?,
                    read_back: plan.read_back,
                },
            },
            &surroundings,
        )?;
        let folder = scratch_folder()?;
        AgentState::set_up(&folder.path().join("state"), &writer, &mut *entropy)?;
        let source = folder.path().join("source");
        crate::tree::plant(&source, 1)?;
        Ok(Self {
            sites,
            steps,
            ids,
            anchor: archive.anchor,
            root,
            identity,
            quorums,
            surroundings,
            clock,
            source,
            label: "UNCLASSIFIED".to_owned(),
            if_forgotten: IfForgotten::Refuse,
            tripwires: Tripwires::default(),
            folder,
            _runtime: runtime,
        })
    }

    /// A folder for what a test makes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The agent's state folder.
    pub fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Opens the archive anew through all sites but some.
    pub fn archive_without(&self, without: &[usize]) -> Result<Archive, Whatever> {
        let sites = self.sites.iter().enumerate();
        let left = sites.filter(|(number, _)| !without.contains(number));
        self.archive_at(left.map(|(number, site)| (number, Arc::new(site.clone()) as Arc<dyn Site>)))
    }

    /// Opens the archive anew, as an heir would, at sites that stand in for those of these numbers.
    pub fn archive_at(&self, sites: impl Iterator<Item = (usize, Arc<dyn Site>)>) -> Result<Archive, Whatever> {
        let stores = sites.map(|(number, site)| (format!("s{number}"), site));
        let opened = Archive::open(self.anchor, stores.collect());
        let (archive, _) = self.surroundings.runtime.block_on(opened)?;
        Ok(archive)
    }

    /// An archive as an agent knows it from its settings, without asking any site; `sites` stand in for all.
    pub fn archive_from_settings(&self, sites: Vec<Arc<dyn Site>>) -> Result<Archive, Whatever> {
        // The charter is read from whatever site has it, past any fault: an agent keeps its own copy.
        let calm = self
            .sites
            .iter()
            .map(|site| Arc::new(site.inner().clone()) as Arc<dyn Site>);
        let mut archive = self.archive_at(calm.enumerate())?;
        for (handle, site) in archive.sites.iter_mut().zip(sites) {
            handle.site = site;
        }
        Ok(archive)
    }

    /// Replicates the source as dataset "land", as a freshly started agent would.
    pub fn replicate(&self) -> Result<Result<ReplicateReport, ReplicateError>, Whatever> {
        self.replicate_as(
            "land",
            Source::Tree {
                root: self.source.clone(),
                options: WalkOptions::default(),
            },
        )
    }

    /// Replicates any source.
    pub fn replicate_as(
        &self,
        dataset: &str,
        source: Source,
    ) -> Result<Result<ReplicateReport, ReplicateError>, Whatever> {
        let sites = self.sites.iter().map(|site| Arc::new(site.clone()) as Arc<dyn Site>);
        let archive = self.archive_from_settings(sites.collect())?;
        self.replicate_to(&archive, &self.state_folder(), dataset, source)
    }

    /// Replicates any source to an archive, as the agent whose state lies in a folder.
    pub fn replicate_to(
        &self,
        archive: &Archive,
        state_folder: &Path,
        dataset: &str,
        source: Source,
    ) -> Result<Result<ReplicateReport, ReplicateError>, Whatever> {
        let state = AgentState::open(state_folder)?;
        let catalog = self
            .surroundings
            .runtime
            .block_on(Catalog::open(&state.catalog_path()))?;
        let request = ReplicateRequest {
            dataset: dataset.to_owned(),
            class: DEFAULT_CLASS,
            label: self.label.clone(),
            source,
            source_digest: [7; 32],
            chunk_sizes: ChunkSizes::new(4 << 10, 16 << 10, 32 << 10)?,
            compression: CompressionLevel::DEFAULT,
            read_attempts: NonZeroU32::MIN.saturating_add(1),
            in_flight_bytes: 4 << 20,
            create_only: BTreeSet::new(),
            locks: std::collections::BTreeMap::new(),
            if_forgotten: self.if_forgotten,
            tripwires: self.tripwires,
        };
        let result = replicate(archive, &state, &catalog, request, &self.surroundings);
        self.surroundings.runtime.block_on(catalog.close());
        Ok(result)
    }

    /// Writes what every site really holds to folders, one per site, as `file://` stores would.
    pub fn export(&self, to: &Path) -> Result<Vec<PathBuf>, Whatever> {
        let mut folders = Vec::new();
        for (number, site) in self.sites.iter().enumerate() {
            let folder = to.join(format!("s{number}"));
            for (name, bytes) in site.disk().objects() {
                let path = folder.join(name.as_str());
                std::fs::create_dir_all(path.parent().ok_or("an object has a folder")?)?;
                std::fs::write(path, bytes)?;
            }
            folders.push(folder);
        }
        Ok(folders)
    }
}

/// What the key file of a world's identity is protected by.
pub const PASSPHRASE: &str = "correct horse";

impl World {
    /// Writes the identity's key file, as `exclave init` leaves it.
    pub fn write_identity(&self, path: &Path) -> Result<(), Whatever> {
        let passphrase = Passphrase::new(PASSPHRASE.to_owned()).ok_or("the passphrase is empty")?;
        let mut entropy = self.surroundings.entropy.entropy();
        let mut file = KeyFile::for_recovery(&self.identity, &passphrase, Cost::TEST, &mut *entropy)?;
        file.set_archive(self.anchor);
        Ok(std::fs::write(path, file.to_text()?.as_bytes())?)
    }
}

impl World {
    /// Restores the newest snapshot of a dataset as an heir would: from sites and an identity alone.
    pub fn restore(&self, dataset: &str, to: &Path, without: &[usize]) -> Result<RestoreReport, Whatever> {
        self.restore_from(&self.archive_without(without)?, dataset, to)
    }

    /// The same from an opened archive.
    pub fn restore_from(&self, archive: &Archive, dataset: &str, to: &Path) -> Result<RestoreReport, Whatever> {
        let surroundings = &self.surroundings;
        let survey = survey(archive, surroundings)?;
        let settings = ReadSettings {
            hedge: Duration::from_millis(500),
            ..ReadSettings::default()
        };
        let snapshots = Snapshots::open(archive, &survey, &self.identity, Depth::Newest, settings, surroundings);
        let snapshot = snapshots.choose(&Which::Newest {
            dataset: dataset.to_owned(),
        })?;
        let target = Target::Directory(to.to_owned(), sink::Options::default());
        Ok(restore(&snapshots, snapshot, &Selection::all(), target, surroundings)?)
    }

    /// Restores dataset "land" without some sites and compares it with the source.
    pub fn restores_equal(&self, without: &[usize]) -> Result<bool, Whatever> {
        let to = tempfile::tempdir_in(self.folder.path())?;
        let target = to.path().join("restored");
        let report = self.restore("land", &target, without)?;
        Ok(report.outcome() != Outcome::Damaged
            && crate::tree::describe(&target)? == crate::tree::describe(&self.source)?)
    }
}
