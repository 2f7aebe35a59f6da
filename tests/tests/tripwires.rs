//! A source that changes more than data does by itself: committed, told, and said in the head.

use std::{fs, path::Path};

use exclave_engine::{
    RunOutcome,
    fetch::ReadSettings,
    snapshot::{Depth, Snapshot, Snapshots},
    survey::survey,
};
use exclave_model::Tripwire;
use exclave_tests::{
    tree::noise,
    world::{Whatever, World, WorldPlan},
};

const FILES: u8 = 40;

/// About 60 KB that shrink to a third, other ones for each number.
fn text(number: u8) -> String {
    let lines = noise(20_000, number.saturating_add(1));
    lines.chunks(2).fold(String::new(), |mut text, pair| {
        let number = pair.iter().fold(0_u32, |sum, &byte| sum * 256 + u32::from(byte));
        text.push_str(&format!("{number:05};"));
        text
    })
}

fn fill(folder: &Path, numbers: std::ops::Range<u8>, content: impl Fn(u8) -> Vec<u8>) -> Result<(), Whatever> {
    for number in numbers {
        fs::write(folder.join(format!("parcels-{number:02}.csv")), content(number))?;
    }
    Ok(())
}

/// A register of forty files of text, replicated twice, with a small change in between.
fn register() -> Result<World, Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    fs::remove_dir_all(&world.source)?;
    fs::create_dir_all(&world.source)?;
    fill(&world.source, 0..FILES, |number| text(number).into_bytes())?;
    assert_eq!(tripped(&world)?, [], "there is nothing to compare a first run with");
    world.clock.advance(3600);
    fill(&world.source, 0..1, |number| format!("{}x", text(number)).into_bytes())?;
    assert_eq!(tripped(&world)?, [], "one file of forty");
    world.clock.advance(3600);
    Ok(world)
}

fn tripped(world: &World) -> Result<Vec<Tripwire>, Whatever> {
    let report = world.replicate()??;
    assert_eq!(report.outcome, RunOutcome::Committed);
    Ok(report.trips.iter().map(|trip| trip.wire).collect())
}

/// What the heads say, oldest first.
fn in_heads(world: &World) -> Result<Vec<Vec<Tripwire>>, Whatever> {
    let archive = world.archive_without(&[])?;
    let survey = survey(&archive, &world.surroundings)?;
    let snapshots = Snapshots::open(
        &archive,
        &survey,
        &world.identity,
        Depth::All,
        ReadSettings::default(),
        &world.surroundings,
    );
    let told = |snapshot: &Snapshot| (snapshot.info.seq, snapshot.info.tripwires.clone());
    let mut found: Vec<_> = snapshots.list().iter().map(told).collect();
    found.sort();
    Ok(found.into_iter().map(|(_, wires)| wires).collect())
}

#[test]
fn four_fifths_turned_to_noise() -> Result<(), Whatever> {
    let world = register()?;
    fill(&world.source, 0..FILES / 5 * 4, |number| noise(60_000, number))?;
    assert_eq!(tripped(&world)?, [Tripwire::Changed, Tripwire::Noise]);
    assert!(world.restores_equal(&[0])?, "it is committed all the same");
    world.clock.advance(3600);
    assert_eq!(tripped(&world)?, [], "nothing changed since");
    let expected: [&[Tripwire]; 4] = [&[], &[], &[Tripwire::Changed, Tripwire::Noise], &[]];
    assert_eq!(in_heads(&world)?, expected);
    Ok(())
}

#[test]
fn files_with_other_names_and_files_that_are_gone() -> Result<(), Whatever> {
    let world = register()?;
    for number in 0..FILES / 4 {
        let name = |suffix| world.source.join(format!("parcels-{number:02}.csv{suffix}"));
        fs::rename(name(""), name(".locked"))?;
    }
    assert_eq!(tripped(&world)?, [Tripwire::Renamed]);
    world.clock.advance(3600);
    for entry in fs::read_dir(&world.source)?.skip(1) {
        fs::remove_file(entry?.path())?;
    }
    assert_eq!(tripped(&world)?, [Tripwire::Changed, Tripwire::Shrunk]);
    Ok(())
}

#[test]
fn a_change_that_is_expected_trips_nothing_and_is_usual_from_then_on() -> Result<(), Whatever> {
    let mut world = register()?;
    world.tripwires.expected = true;
    fill(&world.source, 0..FILES, |number| noise(60_000, number))?;
    assert_eq!(tripped(&world)?, []);
    world.tripwires.expected = false;
    world.clock.advance(3600);
    fill(&world.source, 0..FILES / 4, |number| noise(60_000, number + 100))?;
    assert_eq!(tripped(&world)?, [], "noise came before this noise");
    Ok(())
}

#[test]
fn an_agent_that_forgot_compares_with_nothing_and_goes_on() -> Result<(), Whatever> {
    let world = register()?;
    for entry in fs::read_dir(world.state_folder().join("datasets"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "before") {
            fs::remove_file(path)?;
        }
    }
    fill(&world.source, 0..FILES, |number| noise(60_000, number))?;
    assert_eq!(tripped(&world)?, []);
    Ok(())
}
