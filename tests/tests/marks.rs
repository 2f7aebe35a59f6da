//! A writer and a reaper: what is marked is never referred to again, whenever the mark comes.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use exclave_dataset::walk::WalkOptions;
use exclave_engine::{
    Archive, ReplicateError, ReplicateReport, RunOutcome, Source,
    charter::{Proposal, Publishing, publish_charter},
    collect::{self, Memory},
};
use exclave_model::{
    Charter, Mark, Member, MemberRole, ObjectName, Prefix, Record, Retention, RunId, RunPage, RunStripes, ShardName,
    Tag, Version1,
};
use exclave_seal::SigningKey;
use exclave_site::{Body, Children, Listing, PutMode, Site, SiteAddress, SiteError, Stored, Versions};
use exclave_tests::{
    tree,
    world::{Whatever, World, WorldPlan},
};

/// Publishes the world's second charter.
fn publish(world: &World, change: impl FnOnce(&mut Charter)) -> Result<(), Whatever> {
    let archive = world.archive_without(&[])?;
    let before = archive.charters.clone();
    let mut next = Charter {
        version: 2,
        previous: Some(before.newest_hash()),
        ..before.newest().clone()
    };
    change(&mut next);
    let object = world.root.sign(&next, &mut *world.surroundings.entropy.entropy())?;
    let proposal = Proposal {
        before,
        next,
        object,
        plates: Vec::new(),
    };
    publish_charter(&archive, &proposal, Publishing::default(), &world.surroundings)?;
    Ok(())
}

/// A world whose second charter names a reaper, and a snapshot in it.
fn world_with_a_reaper() -> Result<(World, SigningKey, ReplicateReport), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    let reaper = SigningKey::generate(&mut *world.surroundings.entropy.entropy())?;
    publish(&world, |next| {
        next.members = Some(vec![Member {
            role: MemberRole::Reaper,
            key: reaper.public().clone(),
            classes: Vec::new(),
        }]);
    })?;
    let report = world.replicate()??;
    Ok((world, reaper, report))
}

/// A mark on every stripe of a run.
fn mark(world: &World, reaper: &SigningKey, run: RunId) -> Result<(ObjectName, Bytes), Whatever> {
    let mark = Mark {
        format: Version1,
        anchor: world.anchor,
        charter_version: 2,
        created: 1_800_000_000,
        stripes: vec![RunStripes {
            run,
            stripes: (0..1_000).collect(),
        }],
        dropped: Vec::new(),
        receipts: Vec::new(),
    };
    let mut entropy = world.surroundings.entropy.entropy();
    let bytes = Bytes::from(reaper.sign(&mark, &mut *entropy)?.to_bytes());
    let names = exclave_model::ArchiveNames::new(world.anchor);
    Ok((names.mark(Tag::of(&bytes)), bytes))
}

/// Runs that the pages of a run's own table need.
fn needed(world: &World, run: RunId) -> Result<BTreeSet<RunId>, Whatever> {
    let names = exclave_model::ArchiveNames::new(world.anchor);
    let mut needed = BTreeSet::new();
    for (name, bytes) in world.sites[0].disk().objects() {
        if names
            .read_run_object(&name)
            .is_some_and(|(of, kind, _)| of == run && kind.as_str() == "live")
        {
            let live = RunPage::from_bytes(&bytes)?
                .runs
                .into_iter()
                .filter(|entry| !entry.live.is_empty());
            needed.extend(live.map(|entry| entry.run));
        }
    }
    Ok(needed)
}

#[test]
fn what_was_marked_before_is_sent_anew() -> Result<(), Whatever> {
    let (world, reaper, first) = world_with_a_reaper()?;
    // Without a mark the unchanged rest of the tree stays where it is.
    tree::plant(&world.source, 2)?;
    world.clock.advance(3600);
    let second = world.replicate()??;
    assert!(needed(&world, second.run)?.contains(&first.run), "something is reused");
    // One site that shows it is enough.
    let (name, bytes) = mark(&world, &reaper, first.run)?;
    world.sites[1].disk().plant(&name, bytes);
    world.clock.advance(3600);
    let third = world.replicate()??;
    assert_eq!(third.outcome, RunOutcome::Committed);
    let runs = needed(&world, third.run)?;
    assert!(!runs.contains(&first.run) && runs.contains(&third.run), "{runs:?}");
    // The reaper may do its worst now.
    for site in &world.sites {
        let gone = site.disk().objects().into_iter().map(|(name, _)| name);
        let shards = format!("/shards/{}/", first.run.to_hex());
        for name in gone.filter(|name| name.as_str().contains(&shards)) {
            site.disk().remove(&name);
        }
    }
    assert!(world.restores_equal(&[2])?);
    Ok(())
}

#[test]
fn a_mark_that_nobody_may_make_changes_nothing() -> Result<(), Whatever> {
    let (world, _, first) = world_with_a_reaper()?;
    let (name, bytes) = mark(&world, &world.root, first.run)?;
    for site in &world.sites {
        site.disk().plant(&name, bytes.clone());
    }
    tree::plant(&world.source, 2)?;
    world.clock.advance(3600);
    let second = world.replicate()??;
    assert!(needed(&world, second.run)?.contains(&first.run));
    Ok(())
}

#[test]
fn a_mark_during_the_run_ends_it_and_the_next_one_goes_on() -> Result<(), Whatever> {
    let (world, reaper, first) = world_with_a_reaper()?;
    tree::plant(&world.source, 2)?;
    world.clock.advance(3600);
    let planted = Arc::new(Mutex::new(Some(mark(&world, &reaper, first.run)?)));
    let sites = world.sites.iter().map(|site| {
        let inner: Arc<dyn Site> = Arc::new(site.clone());
        Arc::new(MarksAtClaim {
            inner,
            mark: Arc::clone(&planted),
        }) as Arc<dyn Site>
    });
    let archive: Archive = world.archive_from_settings(sites.collect())?;
    let source = || Source::Tree {
        root: world.source.clone(),
        options: WalkOptions::default(),
    };
    let ended = world.replicate_to(&archive, &world.state_folder(), "land", source())?;
    assert!(
        matches!(ended, Err(ReplicateError::Marked { run, stripes }) if run == first.run && stripes > 0),
        "{ended:?}"
    );
    assert!(
        planted.lock().is_ok_and(|mark| mark.is_none()),
        "the mark came with the claim"
    );
    world.clock.advance(60);
    let next = world.replicate()??;
    assert_eq!(next.outcome, RunOutcome::Committed);
    assert!(!needed(&world, next.run)?.contains(&first.run));
    assert!(world.restores_equal(&[0])?);
    Ok(())
}

/// What the plan lets go is needed by no snapshot that it keeps: with all of it gone, the newest still comes back.
#[test]
fn what_the_plan_lets_go_is_needed_by_nothing_that_stays() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    publish(&world, |next| {
        let class = next.classes.first().map_or(0, |class| class.id);
        next.retention = Some(vec![Retention {
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            ..Retention::proposed(class)
        }]);
    })?;
    let mut memory = Memory::default();
    for number in 1..=6 {
        tree::plant(&world.source, number)?;
        world.replicate()??;
        let seen = collect::plan(&world.archive_without(&[])?, &memory, &world.surroundings)?;
        assert_eq!(
            seen.datasets
                .iter()
                .flat_map(|dataset| dataset.stripes.values())
                .count(),
            0,
            "all are young"
        );
        memory.receipts = seen.receipts;
        world.clock.advance(24 * 3600);
    }
    world.clock.advance(100 * 24 * 3600);
    let plan = collect::plan(&world.archive_without(&[])?, &memory, &world.surroundings)?;
    assert_eq!(plan.obstacles, []);
    let [dataset] = plan.datasets.as_slice() else {
        return Err("there is one dataset".into());
    };
    let dropped = dataset.snapshots.iter().filter(|snapshot| snapshot.kept.is_empty());
    assert_eq!((dropped.count(), dataset.snapshots.len()), (3, 6));
    assert!(!dataset.stripes.is_empty() && dataset.bytes_max > 0);
    let names = exclave_model::ArchiveNames::new(world.anchor);
    let mut deleted = 0;
    for site in &world.sites {
        for (name, _) in site.disk().objects() {
            let goes = ShardName::parse(&names, &name).is_some_and(|shard| {
                let stripes = dataset.stripes.get(&shard.run);
                stripes.is_some_and(|stripes| stripes.contains(shard.ordinal))
            });
            if goes {
                site.disk().remove(&name);
                deleted += 1;
            }
        }
    }
    assert!(deleted >= 3, "{deleted} shards");
    assert!(world.restores_equal(&[1])?);
    Ok(())
}

/// A site at which a mark appears in the moment when a reuse claim is put: after the look at the run's beginning.
#[derive(Debug)]
struct MarksAtClaim {
    inner: Arc<dyn Site>,
    mark: Arc<Mutex<Option<(ObjectName, Bytes)>>>,
}

#[async_trait]
impl Site for MarksAtClaim {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        if name.as_str().contains("/reuse.") {
            let mark = self.mark.lock().ok().and_then(|mut mark| mark.take());
            if let Some((name, bytes)) = mark {
                self.inner.put(&name, Body::from(bytes), PutMode::Plain).await?;
            }
        }
        self.inner.put(name, body, mode).await
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        self.inner.get(name, bytes_max).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        self.inner.get_range(name, range).await
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        self.inner.length(name).await
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        self.inner.list(prefix, entries_max).await
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        self.inner.list_children(prefix, entries_max).await
    }

    async fn flush(&self) -> Result<(), SiteError> {
        self.inner.flush().await
    }

    async fn date(&self) -> Option<i64> {
        self.inner.date().await
    }

    fn address(&self) -> &SiteAddress {
        self.inner.address()
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.inner.versions()
    }
}
