//! Restores through every loss, lie and damage: the right bytes, or a list of what is not to be had. Never other bytes.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
};

use exclave_model::{Content, Entry, EntryKind, EntryPath, ShardName, StripeRecord};
use exclave_site::{Fault, Operation, When};

use super::*;
use crate::{
    snapshot::{Depth, Which},
    survey::without,
    testing::{CHUNK_BYTES, Forged, World, directory, file, first_ref, noise},
};

/// Files of every shape: empty, short, of several chunks and stripes, with holes, compressible.
fn tree() -> Vec<(Entry, Vec<u8>)> {
    let mut holes = noise(3, 5 * CHUNK_BYTES);
    holes[CHUNK_BYTES..3 * CHUNK_BYTES].fill(0);
    vec![
        directory(""),
        directory("a"),
        file("a/big", &noise(1, 400_000)),
        file("a/empty", b""),
        file("a/holes", &holes),
        file("a/small", b"small"),
        directory("b"),
        file("b/last", &noise(2, 70_000)),
        file("text", &b"land register ".repeat(9_000)),
    ]
}

fn contents() -> BTreeMap<String, Vec<u8>> {
    let files = tree().into_iter().filter(|(entry, _)| entry.kind == EntryKind::File);
    files
        .map(|(entry, content)| (entry.path.to_string(), content))
        .collect()
}

fn world(data: u8, parity: u8) -> (World, Forged) {
    let mut world = World::new(data, parity, 1);
    let forged = world.commit(tree());
    (world, forged)
}

fn newest<'a>(snapshots: &'a Snapshots<'_>) -> &'a Snapshot {
    snapshots.choose(&Which::Newest { dataset: String::new() }).unwrap()
}

fn run(
    world: &World,
    archive: &crate::Archive,
    selection: &Selection,
    target: Target,
) -> Result<RestoreReport, RestoreError> {
    let snapshots = world.snapshots_in(archive, Depth::Newest);
    restore(&snapshots, newest(&snapshots), selection, target, &world.surroundings)
}

fn to_directory(path: &Path) -> Target {
    Target::Directory(path.to_owned(), sink::Options::default())
}

fn replacing(path: &Path) -> Target {
    let options = sink::Options {
        existing: sink::Existing::Replace,
        ..sink::Options::default()
    };
    Target::Directory(path.to_owned(), options)
}

/// The files beneath a directory, by path.
fn files_in(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    _ = found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

/// Restores into a fresh directory and compares what is there with what was stored.
fn restored(world: &World, archive: &crate::Archive) -> (RestoreReport, BTreeMap<String, Vec<u8>>) {
    let target = tempfile::tempdir().unwrap();
    let report = run(world, archive, &Selection::all(), to_directory(target.path())).unwrap();
    (report, files_in(target.path()))
}

/// What was restored is right; what was not is listed. Gives the listed names.
fn is_right_or_listed(report: &RestoreReport, found: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let lost: Vec<String> = report.lost.listed.iter().map(|entry| entry.path.to_string()).collect();
    for (name, content) in contents() {
        match found.get(&name) {
            Some(bytes) => assert!(*bytes == content && !lost.contains(&name), "{name}"),
            None => assert!(lost.contains(&name), "{name} is neither there nor listed"),
        }
    }
    lost
}

fn lose(world: &World, pattern: u32) -> crate::Archive {
    let lost = (0..world.sites.len()).filter(|site| pattern >> site & 1 == 1);
    without(&world.archive, &lost.map(|site| format!("s{site}")).collect::<Vec<_>>()).unwrap()
}

#[test]
fn any_k_sites_restore_everything_and_fewer_nothing() {
    for (data, parity) in [(2, 1), (4, 2)] {
        let (world, _) = world(data, parity);
        for pattern in 0u32..1 << (data + parity) {
            let left = u32::from(data + parity) - pattern.count_ones();
            if left == 0 {
                continue;
            }
            let archive = lose(&world, pattern);
            let target = tempfile::tempdir().unwrap();
            let report = run(&world, &archive, &Selection::all(), to_directory(target.path())).unwrap();
            let found = files_in(target.path());
            if left >= u32::from(data) {
                assert_eq!(
                    (report.outcome(), &found),
                    (Outcome::Complete, &contents()),
                    "{pattern:b}"
                );
            } else {
                assert_eq!((report.outcome(), found.len()), (Outcome::Damaged, 0), "{pattern:b}");
                let why = report.lost.gaps[0].why.to_string();
                let chain = std::error::Error::source(&*report.lost.gaps[0].why)
                    .unwrap()
                    .to_string();
                assert!(chain.contains("needed"), "{why}: {chain}");
            }
        }
    }
}

#[test]
fn a_healthy_restore_fetches_each_data_shard_once() {
    let (world, forged) = world(2, 1);
    let (report, found) = restored(&world, &world.archive);
    assert_eq!((report.outcome(), &found), (Outcome::Complete, &contents()));
    assert!(forged.data_stripes >= 4);
    let stripes = forged.stripes.len() as u64;
    let shards: Vec<u64> = report.sites.iter().map(|site| site.shards).collect();
    assert_eq!(shards, [stripes, stripes, 0]);
    assert_eq!((report.entries, report.files), (9, 6));
    assert_eq!(report.freshness.grade, crate::survey::Grade::F2);
    assert!(matches!(&report.written, Written::Tree(summary) if summary.files == 6 && summary.directories == 3));
}

#[test]
fn liars_are_found_out_and_asked_last() {
    let shards = || When::any().only(&[Operation::Get]).containing("/shards/");
    for fault in [
        Fault::WrongBytes,
        Fault::Deny,
        Fault::Fail,
        Fault::Slow {
            wait: std::time::Duration::from_secs(30),
        },
    ] {
        for liars in [vec![0], vec![1], vec![0, 3], vec![1, 2]] {
            let (world, forged) = world(4, 2);
            for liar in &liars {
                world.sites[*liar].inflict(shards(), fault.clone());
            }
            let (report, found) = restored(&world, &world.archive);
            // Everything is back either way; that a site lied has to be looked at.
            let expected = match fault {
                Fault::WrongBytes => Outcome::Findings,
                _ => Outcome::Complete,
            };
            assert_eq!(
                (report.outcome(), found == contents()),
                (expected, true),
                "{liars:?} {fault:?}"
            );
            for liar in &liars {
                let tally = &report.sites[*liar];
                assert_eq!(tally.shards, 0);
                if fault == Fault::WrongBytes {
                    assert!(
                        tally.corrupt > 0 && tally.corrupt <= forged.stripes.len() as u64,
                        "{tally:?}"
                    );
                }
            }
        }
    }
}

/// Changes what lies at a site under a shard's name.
fn tamper(world: &World, stripe: &StripeRecord, index: u8, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let disk = world.sites[usize::from(index)].disk();
    let name = world.shard_name(stripe, index);
    let bytes = disk.read(&name).unwrap();
    disk.plant(&name, change(bytes.to_vec()).into());
}

#[test]
fn lengths_and_swaps_are_noticed() {
    let changes: [fn(Vec<u8>) -> Vec<u8>; 4] = [
        |bytes| bytes[..bytes.len() - 1].to_vec(),
        |bytes| [bytes, vec![0; 100_000]].concat(),
        |_| Vec::new(),
        |mut bytes| {
            bytes[30_000] ^= 1;
            bytes
        },
    ];
    for change in changes {
        let (world, forged) = world(2, 1);
        for stripe in &forged.stripes {
            tamper(&world, stripe, 0, change);
        }
        let (report, found) = restored(&world, &world.archive);
        assert_eq!((report.outcome(), found == contents()), (Outcome::Findings, true));
        assert!(report.sites[0].corrupt > 0 && report.sites[0].shards == 0);
    }
    // Each site gives shards of the next stripe under the names of this one.
    let (world, forged) = world(2, 1);
    for pair in forged.stripes.windows(2) {
        let other = world.sites[0].disk().read(&world.shard_name(&pair[1], 0)).unwrap();
        tamper(&world, &pair[0], 0, |_| other.to_vec());
    }
    let (report, found) = restored(&world, &world.archive);
    assert_eq!((report.outcome(), found == contents()), (Outcome::Findings, true));
}

#[test]
fn a_damaged_stripe_loses_its_files_and_no_others() {
    for lost in 0..3 {
        let (world, forged) = world(2, 1);
        let stripe = &forged.stripes[lost];
        for index in [0, 2] {
            world.sites[usize::from(index)]
                .disk()
                .remove(&world.shard_name(stripe, index));
        }
        let (report, found) = restored(&world, &world.archive);
        assert_eq!(report.outcome(), Outcome::Damaged);
        let names = is_right_or_listed(&report, &found);
        let touched: Vec<String> = forged
            .entries
            .iter()
            .filter(|entry| touches(entry, lost as u32))
            .map(|entry| entry.path.to_string())
            .collect();
        assert_eq!(names.len() as u64, report.lost.count);
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(sorted, touched);
        assert!(!found.keys().any(|name| name.contains(".part")), "{found:?}");
        let why = report.lost.listed[0].why.to_string();
        assert!(why.contains("1 good shards, 2 needed"), "{why}");
    }
}

fn touches(entry: &Entry, ordinal: u32) -> bool {
    match &entry.content {
        Content::Extents(extents) => extents
            .iter()
            .flat_map(|extent| &extent.refs)
            .any(|chunk| chunk.ordinal == ordinal),
        Content::Paged(_) => false,
    }
}

#[test]
fn a_lost_page_of_the_manifest_costs_its_names_only() {
    // One in 1,024 entries ends a page: this many make several pages, in several stripes.
    let mut world = World::new(2, 1, 2);
    let mut tree = vec![directory("")];
    tree.extend((0..2000).map(|number| {
        let (mut entry, content) = file(&format!("f{number:05}"), format!("{number}").as_bytes());
        // Makes pages that don't shrink.
        entry.owner_name = Some(noise(number, 300));
        (entry, content)
    }));
    let forged = world.commit(tree);
    let pages: Vec<&StripeRecord> = forged.stripes[forged.data_stripes as usize..].iter().collect();
    assert!(pages.len() >= 3, "{}", pages.len());
    let middle = pages[1];
    for index in [1, 2] {
        world.sites[usize::from(index)]
            .disk()
            .remove(&world.shard_name(middle, index));
    }
    let (report, found) = {
        let snapshots = world.snapshots(Depth::Newest);
        let target = tempfile::tempdir().unwrap();
        let report = restore(
            &snapshots,
            newest(&snapshots),
            &Selection::all(),
            to_directory(target.path()),
            &world.surroundings,
        )
        .unwrap();
        (report, files_in(target.path()))
    };
    assert_eq!(report.outcome(), Outcome::Damaged);
    assert!(report.lost.gaps_count >= 1);
    assert!(found.len() > 500 && found.len() < 2000, "{}", found.len());
    assert!(found.contains_key("f01999") && found.contains_key("f00000"));
    let gap = &report.lost.gaps[0];
    assert!(gap.after < gap.before);
    // Everything that is not there lies in a gap.
    for number in 0..2000 {
        let name = format!("f{number:05}");
        let path = EntryPath::parse(name.as_bytes()).unwrap();
        let within = |gap: &ManifestGap| {
            gap.after.as_ref().is_none_or(|after| *after < path)
                && gap.before.as_ref().is_none_or(|before| path < *before)
        };
        assert_eq!(
            found.contains_key(&name),
            !report.lost.gaps.iter().any(within),
            "{name}"
        );
    }
}

#[test]
fn shards_are_found_wherever_they_lie_and_however_often_they_were_put() {
    let (world, forged) = world(2, 1);
    for stripe in &forged.stripes {
        // Shard 0 moved to site 2 under a later attempt, garbage under the first; shard 2 moved to site 0.
        let [zero, two] = [0, 2].map(|index: u8| (index, world.shard_name(stripe, index)));
        let bytes = world.sites[0].disk().remove(&zero.1).unwrap();
        let later = world.archive.names.shard(&ShardName {
            attempt: 2,
            ..ShardName::parse(&world.archive.names, &zero.1).unwrap()
        });
        world.sites[2].disk().plant(&later, bytes);
        world.sites[2].disk().plant(&zero.1, vec![7; 65_720].into());
        let bytes = world.sites[2].disk().remove(&two.1).unwrap();
        world.sites[0].disk().plant(&two.1, bytes);
        world.sites[1].disk().remove(&world.shard_name(stripe, 1));
    }
    let (report, found) = restored(&world, &world.archive);
    assert_eq!((report.outcome(), found == contents()), (Outcome::Findings, true));
    assert!(report.sites[0].missing > 0 && report.sites[2].corrupt > 0);
}

#[test]
fn stores_without_plates_serve_too() {
    let (world, _) = world(2, 1);
    let mut archive = world.archive.clone();
    for handle in &mut archive.sites {
        (handle.id, handle.record) = (None, None);
    }
    let (report, found) = restored(&world, &archive);
    assert_eq!((report.outcome(), &found), (Outcome::Complete, &contents()));
    // Nobody knows which site answered, so nothing is said about what may be hidden.
    assert_eq!(report.freshness.grade, crate::survey::Grade::F3);
}

fn selection(paths: &[&str], exclude: &[&str]) -> Selection {
    let paths = paths.iter().map(|path| EntryPath::parse(path.as_bytes()).unwrap());
    let exclude: Vec<String> = exclude.iter().map(|rule| (*rule).to_owned()).collect();
    Selection::new(paths.collect(), &exclude).unwrap()
}

#[test]
fn a_selection_restores_what_it_names() {
    let (world, _) = world(2, 1);
    let names = |selection: Selection| {
        let target = tempfile::tempdir().unwrap();
        let report = run(&world, &world.archive, &selection, to_directory(target.path()))?;
        Ok::<_, RestoreError>((report, files_in(target.path()).into_keys().collect::<Vec<_>>()))
    };
    let (report, found) = names(selection(&["b", "a/small", "b/last", "nowhere"], &[])).unwrap();
    assert_eq!(found, ["a/small", "b/last"]);
    assert_eq!(report.not_found, [EntryPath::parse(b"nowhere").unwrap()]);
    assert_eq!(report.outcome(), Outcome::Findings);
    let (report, found) = names(selection(&[], &["/a/", "*.tmp", "last"])).unwrap();
    assert_eq!((found, report.entries), (vec!["text".to_owned()], 3));
    assert!(matches!(
        names(selection(&["nowhere"], &[])),
        Err(RestoreError::NothingSelected { .. })
    ));
    assert!(Selection::new(vec![], &["a{b".to_owned()]).is_err());
}

#[test]
fn little_is_fetched_when_little_is_wanted() {
    let mut world = World::new(2, 1, 32);
    let forged = world.commit(vec![
        directory(""),
        file("big", &noise(1, 3_000_000)),
        file("small", &noise(2, 1000)),
    ]);
    assert_eq!(forged.data_stripes, 1);
    let chosen = || selection(&["small"], &[]);
    let fetched = |world: &World| {
        let target = tempfile::tempdir().unwrap();
        let report = run(world, &world.archive, &chosen(), to_directory(target.path())).unwrap();
        assert_eq!(files_in(target.path())["small"], noise(2, 1000));
        report
    };
    let report = fetched(&world);
    let whole = forged.stripes[0].context.sealed_bytes() as u64;
    assert!(
        report.bytes_fetched() < whole / 4,
        "{} of {whole}",
        report.bytes_fetched()
    );
    assert_eq!(report.sites.iter().map(|site| site.groups).sum::<u64>(), 1);
    // A liar can't pass off anything for a group: the whole stripe comes instead, from the others.
    for site in &world.sites[..2] {
        site.inflict(When::any().only(&[Operation::GetRange]), Fault::WrongBytes);
    }
    let report = fetched(&world);
    assert_eq!(report.outcome(), Outcome::Findings);
    assert!(report.sites.iter().any(|site| site.corrupt > 0) && report.bytes_fetched() > whole);
}

/// A stream that a test can read afterwards.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn untar(stream: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(stream).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            found.insert(name, bytes);
        }
    }
    found
}

#[test]
fn a_tar_stream_holds_what_the_tree_holds() {
    let (world, forged) = world(2, 1);
    let pipe = Pipe::default();
    let target = Target::Tar(Box::new(pipe.clone()));
    let report = run(&world, &world.archive, &Selection::all(), target).unwrap();
    assert_eq!(
        (report.outcome(), report.files, report.entries),
        (Outcome::Complete, 6, 9)
    );
    assert_eq!(untar(&pipe.0.lock().unwrap()), contents());

    // With a stripe lost, short files that lie in it are left out and listed; the stream goes on.
    for index in [0, 1] {
        world.sites[usize::from(index)]
            .disk()
            .remove(&world.shard_name(&forged.stripes[1], index));
    }
    let pipe = Pipe::default();
    let target = Target::Tar(Box::new(pipe.clone()));
    let report = run(&world, &world.archive, &Selection::all(), target).unwrap();
    assert_eq!(report.outcome(), Outcome::Damaged);
    let found = untar(&pipe.0.lock().unwrap());
    assert!(!found.is_empty() && found.len() < 6);
    is_right_or_listed(&report, &found);
}

#[test]
fn raw_output_is_one_file_or_an_error() {
    let (world, forged) = world(2, 1);
    let raw = |chosen: Selection| {
        let pipe = Pipe::default();
        let report = run(&world, &world.archive, &chosen, Target::Raw(Box::new(pipe.clone())));
        let bytes = pipe.0.lock().unwrap().clone();
        (report, bytes)
    };
    let (report, bytes) = raw(selection(&["a/holes"], &[]));
    assert_eq!(
        (report.unwrap().outcome(), &bytes),
        (Outcome::Complete, &contents()["a/holes"])
    );
    for chosen in [Selection::all(), selection(&["b"], &["last"])] {
        assert!(matches!(raw(chosen).0, Err(RestoreError::NotOneFile { .. })));
    }
    for index in [0, 1] {
        world.sites[usize::from(index)]
            .disk()
            .remove(&world.shard_name(&forged.stripes[2], index));
    }
    let (report, bytes) = raw(selection(&["a/big"], &[]));
    assert!(matches!(report, Err(RestoreError::StreamBroken { path, .. }) if path.to_string() == "a/big"));
    assert!(bytes.len() < 400_000 && contents()["a/big"].starts_with(&bytes));
}

#[test]
fn verifying_writes_nothing_and_finds_the_same() {
    let (world, forged) = world(2, 1);
    let report = run(&world, &world.archive, &Selection::all(), Target::Nothing).unwrap();
    let bytes: u64 = forged
        .entries
        .iter()
        .map(|entry| match &entry.content {
            Content::Extents(extents) => extents.iter().map(|extent| extent.length).sum(),
            Content::Paged(_) => 0,
        })
        .sum();
    assert_eq!(
        (report.outcome(), report.files, report.bytes),
        (Outcome::Complete, 6, bytes)
    );
    for index in [0, 1] {
        world.sites[usize::from(index)]
            .disk()
            .remove(&world.shard_name(&forged.stripes[0], index));
    }
    let report = run(&world, &world.archive, &Selection::all(), Target::Nothing).unwrap();
    assert_eq!(
        (report.outcome(), report.lost.listed[0].path.to_string().as_str()),
        (Outcome::Damaged, "a/big")
    );
}

#[test]
fn an_interrupted_restore_goes_on_without_fetching_again() {
    let (world, _) = world(2, 1);
    let target = tempfile::tempdir().unwrap();
    run(&world, &world.archive, &Selection::all(), replacing(target.path())).unwrap();
    // One file is gone, one has other content behind the same size and time.
    fs::remove_file(target.path().join("b/last")).unwrap();
    let small = target.path().join("a/small");
    let time = fs::metadata(&small).unwrap().modified().unwrap();
    fs::write(&small, b"SMALL").unwrap();
    fs::File::options()
        .write(true)
        .open(&small)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let report = run(&world, &world.archive, &Selection::all(), replacing(target.path())).unwrap();
    assert_eq!(
        (report.outcome(), files_in(target.path())),
        (Outcome::Complete, contents())
    );
    assert!(
        matches!(&report.written, Written::Tree(summary) if summary.files_kept == 4),
        "{:?}",
        report.written
    );
    assert_eq!(report.bytes, 70_000 + 5);
    let refused = run(&world, &world.archive, &Selection::all(), to_directory(target.path()));
    assert!(matches!(
        refused,
        Err(RestoreError::Target(sink::SinkError::TargetNotEmpty { .. }))
    ));
}

#[test]
fn a_wish_to_stop_is_obeyed_and_leaves_no_unfinished_file() {
    let (world, _) = world(2, 1);
    world.surroundings.progress.ask_to_stop();
    let target = tempfile::tempdir().unwrap();
    let stopped = run(&world, &world.archive, &Selection::all(), to_directory(target.path()));
    assert!(matches!(stopped, Err(RestoreError::Interrupted { .. })));
    assert!(files_in(target.path()).is_empty());
    let pipe = Pipe::default();
    let stopped = run(&world, &world.archive, &Selection::all(), Target::Tar(Box::new(pipe)));
    assert!(matches!(stopped, Err(RestoreError::Interrupted { .. })));
}

#[test]
fn a_hostile_manifest_gives_no_wrong_bytes() {
    let attempt = |twist: fn(&mut Entry)| {
        let mut world = World::new(2, 1, 1);
        world.commit_with(tree(), twist);
        let target = tempfile::tempdir().unwrap();
        let report = run(&world, &world.archive, &Selection::all(), to_directory(target.path())).unwrap();
        let found = files_in(target.path());
        (report.outcome(), is_right_or_listed(&report, &found))
    };
    let twists: [fn(&mut Entry); 4] = [
        |entry| twist_small(entry, |chunk| chunk.ordinal = 4000),
        |entry| twist_small(entry, |chunk| chunk.offset += 1),
        |entry| twist_small(entry, |chunk| chunk.offset = u32::MAX - 1),
        |entry| twist_small(entry, |chunk| chunk.run = exclave_model::RunId::from_bytes([99; 16])),
    ];
    for twist in twists {
        assert_eq!(attempt(twist), (Outcome::Damaged, vec!["a/small".to_owned()]));
    }
    // A name that unfinished files bear is the target's to refuse; nothing is lost by it.
    let mut world = World::new(2, 1, 1);
    world.commit(vec![
        directory(""),
        file(".exclave-0011223344556677.part", b"x"),
        file("z", b"z"),
    ]);
    let target = tempfile::tempdir().unwrap();
    let report = run(&world, &world.archive, &Selection::all(), to_directory(target.path())).unwrap();
    assert_eq!(report.outcome(), Outcome::Findings);
    assert_eq!(files_in(target.path()).into_keys().collect::<Vec<_>>(), ["z"]);
}

fn twist_small(entry: &mut Entry, twist: fn(&mut exclave_model::ChunkRef)) {
    if entry.path.to_string() == "a/small" {
        twist(first_ref(entry).unwrap());
    }
}

#[test]
fn snapshots_that_share_nothing_but_runs_tables_restore_each() {
    let mut world = World::new(2, 1, 1);
    world.commit(vec![directory(""), file("v", b"one")]);
    world.commit(vec![directory(""), file("v", b"two")]);
    let snapshots = world.snapshots(Depth::All);
    for (snapshot, expected) in snapshots.list().iter().zip(["two", "one"]) {
        let target = tempfile::tempdir().unwrap();
        restore(
            &snapshots,
            snapshot,
            &Selection::all(),
            to_directory(target.path()),
            &world.surroundings,
        )
        .unwrap();
        assert_eq!(files_in(target.path())["v"], expected.as_bytes());
    }
}

#[test]
fn a_plan_says_what_each_site_would_give() {
    let (world, forged) = world(2, 1);
    let snapshots = world.snapshots(Depth::Newest);
    let snapshot = newest(&snapshots);
    let plan = plan_restore(&snapshots, snapshot, &Selection::all(), &world.surroundings).unwrap();
    let stripes = forged.stripes.len() as u64;
    assert_eq!(
        (plan.stripes, plan.files, plan.short, plan.unreadable),
        (stripes, 6, 0, 0)
    );
    let shards: Vec<u64> = plan.sites.iter().map(|site| site.shards).collect();
    assert_eq!(shards, [stripes, stripes, 0]);
    let report = run(&world, &world.archive, &Selection::all(), Target::Nothing).unwrap();
    let shard_bytes: u64 = plan.sites.iter().map(|site| site.bytes).sum();
    assert!(
        shard_bytes <= report.bytes_fetched(),
        "{shard_bytes} of {}",
        report.bytes_fetched()
    );
    let part = plan_restore(&snapshots, snapshot, &selection(&["b"], &[]), &world.surroundings).unwrap();
    assert!(part.stripes < plan.stripes && part.files == 1 && part.bytes == 70_000);
    let archive = lose(&world, 0b011);
    let snapshots = world.snapshots_in(&archive, Depth::Newest);
    let plan = plan_restore(&snapshots, newest(&snapshots), &Selection::all(), &world.surroundings).unwrap();
    assert_eq!(plan.short, stripes);
}

#[test]
fn a_long_file_has_its_list_in_pages() {
    let mut world = World::new(2, 1, 2);
    let content = noise(8, 60 * CHUNK_BYTES);
    let mut sparse = Vec::new();
    for chunk in content.chunks(CHUNK_BYTES) {
        sparse.extend_from_slice(chunk);
        sparse.resize(sparse.len() + CHUNK_BYTES, 0);
    }
    let forged = world.commit(vec![directory(""), file("sparse", &sparse)]);
    assert!(
        matches!(&forged.entries[1].content, Content::Extents(extents) if extents.len() == 60)
            || matches!(&forged.entries[1].content, Content::Paged(_))
    );
    let target = tempfile::tempdir().unwrap();
    run(&world, &world.archive, &Selection::all(), to_directory(target.path())).unwrap();
    assert!(files_in(target.path())["sparse"] == sparse);
}
