//! `exclave demo`: seven sites in folders, a real dataset, and a bad year.
//!
//! Nothing here is special: the demo calls the verbs that the other commands call, on real files. Four data and three
//! parity shards go to seven sites; the class promises that two may be lost while a third lies. Two folders are emptied, in
//! a third every shard gets a flipped bit, and the dataset comes back from bare addresses and an identity, without
//! configuration, catalog or agent. Then a fourth site is lost, which is more than was promised, and the demo shows what
//! that looks like.

mod compare;
mod disaster;
mod report;

use std::{
    collections::BTreeSet,
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use clap::Args;
use exclave_catalog::Catalog;
use exclave_dataset::{cut::ChunkSizes, pack::CompressionLevel, sink, walk::WalkOptions};
use exclave_engine::{
    AgentState, Archive, DEFAULT_CLASS, NewArchive, ReplicateReport, ReplicateRequest, Source,
    fetch::ReadSettings,
    init, replicate,
    replicate::IN_FLIGHT_BYTES_DEFAULT,
    restore::{Outcome, RestoreReport, Selection, Target, restore},
    snapshot::{Depth, Snapshots, Which},
    survey::survey,
};
use exclave_model::{Anchor, ClassPolicy, Geometry, Hosting, Pace, PayloadLength, ReadBack, SiteId, SiteRecord};
use exclave_plan::Quorums;
use exclave_seal::{RecoveryIdentity, SigningKey, entropy::draw};
use exclave_site::{Site, SiteAddress, SiteSettings};

use self::report::{Deed, DemoReport};
use super::World;
use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    progress::Shown,
    surroundings::{self, Edge, OsEntropy},
};

/// Where the demo's sites would be, in the order in which they are lost.
const SITES: [(&str, Hosting, &str); 7] = [
    ("capital", Hosting::OnPrem, "home"),
    ("harbour", Hosting::OnPrem, "home"),
    ("cloud-west", Hosting::Hyperscale, "federation"),
    ("embassy-north", Hosting::Embassy, "north"),
    ("ally-north", Hosting::OnPrem, "north"),
    ("ally-south", Hosting::Sovereign, "south"),
    ("ally-isles", Hosting::Tactical, "isles"),
];

/// The source when none is named: the first of these that is there. All hold some thousands of real files.
const DEFAULT_SOURCES: [&str; 4] = ["/usr/share/doc", "/usr/share/man", "/usr/share", "/etc"];

/// `demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Protect this directory [default: /usr/share/doc, or what is there of its kind]
    #[arg(value_name = "DIR")]
    source: Option<PathBuf>,
    /// Put the sites and the restored tree into DIR, which must be empty, and leave them there
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Shows it.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let source = source(arguments)?;
    let temporary = match &arguments.folder {
        Some(_) => None,
        None => Some(tempfile::tempdir().because(|| Trouble::failed("no temporary folder can be made"))?),
    };
    let folder = match (&arguments.folder, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(Trouble::failed("there is no folder for the sites")),
    };
    let stage = Stage::set(folder, source)?;
    let report = stage.play(world)?;
    let all_well = report.restored_equal && report.unrecoverable_is_told;
    world.output.report(&report)?;
    Ok(if all_well { Exit::Done } else { Exit::Failed })
}

fn source(arguments: &Arguments) -> Result<PathBuf, Trouble> {
    let named = arguments.source.clone();
    let found = named.or_else(|| DEFAULT_SOURCES.iter().map(PathBuf::from).find(|path| path.is_dir()));
    let source = found
        .ok_or_else(|| Trouble::usage("there is nothing to protect").hint("name a directory: exclave demo DIR"))?;
    if !source.is_dir() {
        return Err(Trouble::usage(format!("{} is not a directory", source.display())));
    }
    source
        .canonicalize()
        .because(|| Trouble::usage(format!("{} can't be opened", source.display())))
}

/// What the demo stands on.
struct Stage {
    folder: PathBuf,
    source: PathBuf,
    edge: Edge,
    identity: RecoveryIdentity,
    root: SigningKey,
    writer: SigningKey,
}

impl Stage {
    fn set(folder: PathBuf, source: PathBuf) -> Result<Self, Trouble> {
        let unusable = || Trouble::usage(format!("the folder {} can't be used", folder.display()));
        fs::create_dir_all(&folder).because(unusable)?;
        if fs::read_dir(&folder).because(unusable)?.next().is_some() {
            return Err(Trouble::usage(format!("the folder {} is not empty", folder.display()))
                .hint("name another one: the demo destroys what it finds in its sites"));
        }
        let folder = folder.canonicalize().because(unusable)?;
        if source.starts_with(&folder) || folder.starts_with(&source) {
            return Err(Trouble::usage("the folder and the source lie within each other")
                .hint("name a folder elsewhere: --folder DIR"));
        }
        for (name, _, _) in SITES {
            fs::create_dir_all(folder.join("sites").join(name)).because(unusable)?;
        }
        let mut entropy = OsEntropy;
        let no_randomness = || Trouble::failed("no keys can be made");
        Ok(Self {
            edge: Edge::start(None)?,
            identity: RecoveryIdentity::generate(&mut entropy).because(no_randomness)?,
            root: SigningKey::generate(&mut entropy).because(no_randomness)?,
            writer: SigningKey::generate(&mut entropy).because(no_randomness)?,
            folder,
            source,
        })
    }

    /// The whole play.
    fn play(self, world: &World) -> Result<DemoReport, Trouble> {
        let archive = self.found()?;
        let mut deeds = Vec::new();

        let begun = Instant::now();
        let replicated = {
            let _shown = Shown::begin(&world.output, &self.edge.surroundings.progress, "Replicating");
            self.replicate(&archive)?
        };
        deeds.push(Deed::replicated(&replicated, begun.elapsed(), self.stored_bytes()?));
        let anchor = archive.anchor;
        drop(archive);

        for lost in &SITES[..2] {
            disaster::destroy(&self.site_folder(lost.0)).because(|| Trouble::failed("a site can't be destroyed"))?;
            deeds.push(Deed::said(format!("{} is destroyed: every object is gone", lost.0)));
        }
        let liar = SITES[2].0;
        let altered =
            disaster::corrupt(&self.site_folder(liar)).because(|| Trouble::failed("a site can't be corrupted"))?;
        deeds.push(Deed::said(format!(
            "{liar} lies: one bit is flipped in each of its {altered} shards, names and lengths are kept"
        )));

        let begun = Instant::now();
        let target = self.folder.join("restored");
        let restored = {
            let _shown = Shown::begin(&world.output, &self.edge.surroundings.progress, "Restoring");
            self.restore(anchor, &target)?
        };
        deeds.push(Deed::restored(&restored, begun.elapsed()));
        let differences =
            compare::differences(&self.source, &target).because(|| Trouble::failed("the trees can't be compared"))?;
        // That the liar was caught is a finding, and the only one there may be.
        let caught = restored.outcome() == Outcome::Findings && restored.sites.iter().any(|site| site.corrupt > 0);
        let restored_equal = caught && differences.is_empty();
        deeds.push(Deed::compared(&differences));

        let fourth = SITES[3].0;
        disaster::destroy(&self.site_folder(fourth)).because(|| Trouble::failed("a site can't be destroyed"))?;
        deeds.push(Deed::said(format!(
            "{fourth} is destroyed too: more than the class promises to survive"
        )));
        let (deed, unrecoverable_is_told) = self.restore_beyond_the_promise(anchor);
        deeds.push(deed);
        Ok(DemoReport {
            source: self.source.display().to_string(),
            folder: self.folder.display().to_string(),
            sites: SITES.iter().map(|(name, _, _)| (*name).to_owned()).collect(),
            code: "4+3".to_owned(),
            deeds,
            restored_equal,
            unrecoverable_is_told,
        })
    }

    fn site_folder(&self, name: &str) -> PathBuf {
        self.folder.join("sites").join(name)
    }

    fn open_site(&self, name: &str) -> Result<Arc<dyn Site>, Trouble> {
        let unusable = || Trouble::failed(format!("the demo's site {name} can't be opened"));
        let address = SiteAddress::of_directory(&self.site_folder(name)).because(unusable)?;
        exclave_site::open(&address, &SiteSettings::default()).because(unusable)
    }

    fn found(&self) -> Result<Archive, Trouble> {
        let failed = || Trouble::failed("the demo's archive can't be founded");
        let mut entropy = OsEntropy;
        let mut sites = Vec::new();
        for (name, hosting, country) in SITES {
            let record = SiteRecord {
                id: SiteId::from_bytes(draw(&mut entropy).because(failed)?),
                name: name.to_owned(),
                hosting,
                pace: Pace::Primary,
                country: Some(country.to_owned()),
                region: None,
                operator: None,
                legal_reach: None,
                iam_realm: None,
            };
            sites.push((record, self.open_site(name)?));
        }
        let geometry = Geometry::new(4, 3).because(failed)?;
        let quorums = Quorums::new(geometry, Some(2), 1).because(failed)?;
        let payload = PayloadLength::new(2 << 20, geometry.data()).map_err(|rule| failed().source(rule))?;
        let new = NewArchive {
            root: &self.root,
            writer: self.writer.public().clone(),
            recipients: vec![self.identity.public().clone()],
            sites,
            policy: ClassPolicy {
                geometry,
                losses: quorums.tolerance().losses,
                liars: quorums.tolerance().liars,
                payload,
                read_back: ReadBack::Group,
            },
        };
        init(new, &self.edge.surroundings).because(failed)
    }

    fn replicate(&self, archive: &Archive) -> Result<ReplicateReport, Trouble> {
        let failed = || Trouble::failed("the demo's dataset can't be replicated");
        let state = AgentState::set_up(&self.folder.join("agent"), &self.writer, &mut OsEntropy).because(failed)?;
        let catalog = self
            .edge
            .block_on(Catalog::open(&state.catalog_path()))
            .because(failed)?;
        let request = ReplicateRequest {
            dataset: "demo".to_owned(),
            class: DEFAULT_CLASS,
            label: String::new(),
            source: Source::Tree {
                root: self.source.clone(),
                options: WalkOptions::default(),
            },
            source_digest: [0; 32],
            chunk_sizes: ChunkSizes::DEFAULT,
            compression: CompressionLevel::DEFAULT,
            read_attempts: NonZeroU32::MIN.saturating_add(1),
            in_flight_bytes: IN_FLIGHT_BYTES_DEFAULT,
            create_only: BTreeSet::new(),
            locks: std::collections::BTreeMap::new(),
            if_forgotten: exclave_engine::IfForgotten::Refuse,
            tripwires: exclave_engine::Tripwires::default(),
        };
        let report = replicate(archive, &state, &catalog, request, &self.edge.surroundings).because(failed)?;
        self.edge.block_on(catalog.close());
        Ok(report)
    }

    /// What an heir has: addresses, the anchor, an identity.
    fn restore(&self, anchor: Anchor, target: &Path) -> Result<RestoreReport, Trouble> {
        let failed = || Trouble::failed("the demo's dataset can't be restored");
        let surroundings = &self.edge.surroundings;
        let stores = SITES
            .iter()
            .map(|(name, _, _)| Ok(((*name).to_owned(), self.open_site(name)?)));
        let stores = stores.collect::<Result<Vec<_>, Trouble>>()?;
        let (archive, _) = self.edge.block_on(Archive::open(anchor, stores)).because(failed)?;
        let survey = survey(&archive, surroundings).because(failed)?;
        let settings = ReadSettings::default();
        let snapshots = Snapshots::open(&archive, &survey, &self.identity, Depth::Newest, settings, surroundings);
        let which = Which::Newest {
            dataset: "demo".to_owned(),
        };
        let snapshot = snapshots.choose(&which).because(failed)?;
        let target = Target::Directory(target.to_owned(), sink::Options::default());
        restore(&snapshots, snapshot, &Selection::all(), target, surroundings).because(failed)
    }

    /// What the same command says when more is lost than was promised; true when it says so and restores nothing.
    fn restore_beyond_the_promise(&self, anchor: Anchor) -> (Deed, bool) {
        let target = self.folder.join("restored-too-late");
        match self.restore(anchor, &target) {
            Ok(report) => {
                let told = report.outcome() == Outcome::Damaged;
                (Deed::unrecoverable(&report), told)
            }
            Err(trouble) => {
                let told = trouble.exit() != Exit::Done;
                (Deed::refused(&trouble), told)
            }
        }
    }

    /// Bytes at all sites together.
    fn stored_bytes(&self) -> Result<u64, Trouble> {
        disaster::bytes_below(&self.folder.join("sites")).because(|| Trouble::failed("the sites can't be measured"))
    }
}

impl From<&Trouble> for Deed {
    fn from(trouble: &Trouble) -> Self {
        let mut text = Vec::new();
        let told = trouble
            .print(&mut text)
            .map(|()| String::from_utf8_lossy(&text).trim().to_owned());
        Self::said(told.unwrap_or_else(|_| format::plain("an error that can't be printed")))
    }
}
