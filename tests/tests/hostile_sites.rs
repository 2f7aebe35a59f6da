//! The whole system at 2+2 with one site, then two, behind a hostile proxy, for every behaviour that the proxy knows.
//!
//! Two honest sites hold k shards of everything, so nothing that the others say may keep a restore from right bytes: the newest
//! snapshot where its commit was reported, else the one before or that one. One hostile site of four keeps no run from its
//! commit.

#![expect(
    clippy::unwrap_used,
    reason = "the shared server and proxy stop at their first surprise"
)]

// Shared with the tests of `exclave-site`; the proxy says why.
#[path = "../../crates/exclave-site/tests/hostile_servers/proxy.rs"]
mod proxy;
#[path = "../../crates/exclave-site/tests/hostile_servers/support.rs"]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
};

use exclave_dataset::walk::WalkOptions;
use exclave_engine::{RunOutcome, Source, restore::Outcome};
use exclave_site::{MemorySite, MemoryStore, Site, SiteAddress, SiteSettings, Span, open};
use exclave_tests::{
    tree,
    world::{Whatever, World, WorldPlan, scratch_folder},
};
use proxy::{ALL, Behaviour, Bucket, Objects};
use support::{Server, reply};

/// Far beyond what the slowest behaviour takes, so that only a hang meets it.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Plays at a time: most of a play is waiting for a server that doesn't answer.
const PLAYS_AT_ONCE: usize = 8;

type Tree = BTreeMap<String, String>;

/// An archive with one snapshot, and a source that has changed since. Every play begins with a copy of it.
struct Stage {
    world: World,
    beginnings: Vec<Objects>,
    old: Tree,
    new: Tree,
}

impl Stage {
    fn set() -> Result<Self, Whatever> {
        let world = World::found(WorldPlan::new(2, 2))?;
        world.replicate()??;
        let objects = |site: &exclave_site::SimulatedSite| -> Objects {
            let objects = site.disk().objects().into_iter();
            objects.map(|(name, body)| (name.to_string(), body.to_vec())).collect()
        };
        let beginnings = world.sites.iter().map(objects).collect();
        let old = tree::describe(&world.source)?;
        tree::plant(&world.source, 2)?;
        let new = tree::describe(&world.source)?;
        Ok(Self {
            world,
            beginnings,
            old,
            new,
        })
    }
}

/// One behaviour in front of some of the sites.
struct Play<'a> {
    stage: &'a Stage,
    sites: Vec<Arc<dyn Site>>,
    hostile: Vec<usize>,
    /// In front of the hostile ones, with what really lies there.
    servers: Vec<(Server, Arc<Bucket>)>,
    honest: Vec<(usize, MemoryStore)>,
    trap: Server,
    folder: tempfile::TempDir,
}

impl<'a> Play<'a> {
    fn new(stage: &'a Stage, behaviour: Behaviour, hostile: &[usize]) -> Result<Self, Whatever> {
        let runtime = &stage.world.surroundings.runtime;
        let folder = scratch_folder()?;
        copy(&stage.world.state_folder(), &folder.path().join("state"))?;
        let mut play = Self {
            stage,
            sites: Vec::new(),
            hostile: hostile.to_vec(),
            servers: Vec::new(),
            honest: Vec::new(),
            trap: runtime.block_on(Server::start(|_| reply(200, "ETag: \"x\"\r\n", "stolen"))),
            folder,
        };
        for (number, beginnings) in stage.beginnings.iter().enumerate() {
            let site = match hostile.contains(&number) {
                true => play.hostile(behaviour, beginnings)?,
                false => play.honest(number, beginnings)?,
            };
            play.sites.push(site);
        }
        Ok(play)
    }

    fn honest(&mut self, number: usize, beginnings: &Objects) -> Result<Arc<dyn Site>, Whatever> {
        let store = MemoryStore::default();
        let site = MemorySite::over(SiteAddress::parse(&format!("memory://s{number}"))?, store.clone());
        for (name, body) in beginnings {
            let name = exclave_model::ObjectName::parse(name)?;
            let put = site.put(&name, body.clone().into(), exclave_site::PutMode::Create);
            self.stage.world.surroundings.runtime.block_on(put)?;
        }
        self.honest.push((number, store));
        Ok(Arc::new(site))
    }

    /// As the program opens a site on the network, with less patience and no second attempts: the site's own tests have those,
    /// and here they would only multiply the waits.
    fn hostile(&mut self, behaviour: Behaviour, beginnings: &Objects) -> Result<Arc<dyn Site>, Whatever> {
        let bucket = Arc::new(Bucket::new(beginnings.clone(), beginnings.clone()));
        let (played, trap) = (Arc::clone(&bucket), self.trap.url());
        let started = Server::start(move |request| played.play(behaviour, &trap, request));
        let server = self.stage.world.surroundings.runtime.block_on(started);
        let settings = SiteSettings {
            endpoint: Some(server.url()),
            silence_max: Span(Duration::from_millis(200)),
            operation_max: Span(Duration::from_secs(1)),
            listing_max: Span(Duration::from_secs(1)),
            ..SiteSettings::default()
        };
        self.servers.push((server, bucket));
        Ok(open(&SiteAddress::parse("s3://bucket")?, &settings)?)
    }

    /// Replicates, restores with and without the hostile sites, and returns what is wrong with that.
    fn run(&self) -> Result<Vec<String>, Whatever> {
        let Stage { world, old, new, .. } = self.stage;
        let mut wrong = Vec::new();
        let archive = world.archive_from_settings(self.sites.clone())?;
        let source = Source::Tree {
            root: world.source.clone(),
            options: WalkOptions::default(),
        };
        let replicated = world.replicate_to(&archive, &self.folder.path().join("state"), "land", source)?;
        let reported = match &replicated {
            Ok(report) => report.outcome != RunOutcome::BelowQuorum,
            Err(_) => false,
        };
        let committed = matches!(&replicated, Ok(report) if report.outcome == RunOutcome::Committed);
        if self.hostile.len() == 1 && !committed {
            wrong.push(format!("three honest sites, and no commit: {replicated:?}"));
        }
        for (case, without) in [("with", &[][..]), ("without", &self.hostile[..])] {
            match self.restore(case, without) {
                Ok(tree) if tree == *new || tree == *old && !reported => {}
                Ok(tree) if tree == *old => wrong.push(format!("{case} them the old snapshot, after {replicated:?}")),
                Ok(_) => wrong.push(format!("{case} them WRONG BYTES")),
                Err(error) => wrong.push(format!("{case} them {error}, after {replicated:?}")),
            }
        }
        if !self.trap.requests().is_empty() {
            wrong.push("the trap was asked".to_owned());
        }
        Ok(wrong)
    }

    fn restore(&self, case: &str, without: &[usize]) -> Result<Tree, Whatever> {
        let sites = self.sites.iter().cloned().enumerate();
        let left = sites.filter(|(number, _)| !without.contains(number));
        let archive = self.stage.world.archive_at(left)?;
        let to = self.folder.path().join(case);
        let report = self.stage.world.restore_from(&archive, "land", &to)?;
        match report.outcome() {
            Outcome::Complete | Outcome::Findings => Ok(tree::describe(&to)?),
            Outcome::Damaged => Err("damaged".into()),
        }
    }

    /// What was there before, and isn't as it was.
    fn changed(&self, torn: bool) -> Vec<String> {
        let honest = self.honest.iter().map(|(number, store)| {
            let objects = store.objects().into_iter();
            let objects = objects.map(|(name, body)| (name.to_string(), body.to_vec()));
            (*number, objects.collect::<Objects>())
        });
        let played = self.hostile.iter().zip(&self.servers).filter(|_| !torn);
        let played = played.map(|(number, (_, bucket))| (*number, bucket.objects()));
        let mut changed = Vec::new();
        for (number, objects) in honest.chain(played) {
            for (name, body) in &self.stage.beginnings[number] {
                if objects.get(name) != Some(body) {
                    changed.push(format!("s{number} has another {name}, or none"));
                }
            }
        }
        changed
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let to: PathBuf = to.join(name);
        match from.is_dir() {
            true => copy(&from, &to)?,
            false => fs::copy(&from, &to).map(|_| ())?,
        }
    }
    Ok(())
}

fn play(stage: &Stage, behaviour: Behaviour, hostile: &[usize]) -> Vec<String> {
    let play = Play::new(stage, behaviour, hostile);
    let wrong = play.and_then(|play| {
        let mut wrong = play.run()?;
        // A tearing server tears what is put again as well.
        wrong.extend(play.changed(behaviour == Behaviour::PutTorn));
        Ok(wrong)
    });
    wrong.unwrap_or_else(|error| vec![error.to_string()])
}

/// Plays every behaviour at these sites.
fn every_behaviour(hostile: &'static [usize]) -> Result<(), Whatever> {
    let stage = Arc::new(Stage::set()?);
    let waiting = Arc::new(Mutex::new(ALL.to_vec()));
    let (tell, told) = channel();
    // Not scoped: a play that hangs must not keep the test from saying so.
    for _ in 0..PLAYS_AT_ONCE {
        let (stage, waiting, tell) = (Arc::clone(&stage), Arc::clone(&waiting), tell.clone());
        std::thread::spawn(move || {
            loop {
                let next = waiting.lock().unwrap().pop();
                let Some(behaviour) = next else { return };
                if tell.send((behaviour, play(&stage, behaviour, hostile))).is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    let mut left = ALL.to_vec();
    let mut all_wrong = Vec::new();
    loop {
        match told.recv_timeout(WATCHDOG) {
            Ok((behaviour, wrong)) => {
                left.retain(|other| *other != behaviour);
                all_wrong.extend(wrong.iter().map(|wrong| format!("{behaviour:?}: {wrong}")));
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => return Err(format!("hangs, one of {left:?}").into()),
        }
    }
    assert!(left.is_empty(), "not played to the end: {left:?}");
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
    Ok(())
}

#[test]
fn one_hostile_site_of_four_costs_no_commit_and_no_byte() -> Result<(), Whatever> {
    every_behaviour(&[1])
}

#[test]
fn two_hostile_sites_of_four_cost_no_byte() -> Result<(), Whatever> {
    every_behaviour(&[0, 2])
}

#[test]
fn the_bomb_is_one() {
    let bomb = proxy::bomb();
    // A gzip header has ten bytes; the rest is raw deflate, cut off.
    let unpacked = miniz_oxide::inflate::decompress_to_vec(&bomb[10..]).unwrap_err().output;
    assert!(bomb.len() < 600 && unpacked.len() > 80_000 && unpacked.iter().all(|byte| *byte == 0));
}
