//! Every world of {honest, lost, corrupt, stale}^n: each site is one of the four, in every combination, and what a restore
//! then gives is foretold by a rule that is written here from DESIGN sections 4 and 6 and calls nothing of the product.
//!
//! Two snapshots were committed, the second of a changed source. An honest site holds all it was given; a lost one is not
//! there; a corrupt one holds every object with one bit turned; a stale one is as it was after the first snapshot.

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path};

use bytes::Bytes;
use exclave_engine::{restore::Outcome, survey::Grade};
use exclave_model::ObjectName;
use exclave_tests::{
    scale, tree,
    world::{Whatever, World, WorldPlan},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Honest,
    Lost,
    Corrupt,
    Stale,
}

const STATES: [State; 4] = [State::Honest, State::Lost, State::Corrupt, State::Stale];

type Description = BTreeMap<String, String>;
type Objects = Vec<(ObjectName, Bytes)>;

/// What a restore must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// All of a snapshot, and how sure it is that it is the newest.
    Whole { newest: bool, grade: Grade },
    /// A typed error, or a report of damage; whatever was written is this snapshot's.
    Damage { newest: bool },
    /// A typed error: no site shows so much as a charter.
    Nothing,
}

/// The rule, for policies without liars. A head lies whole at every site, so one honest site makes the newest known, and a
/// restore keeps to it: data is in shards, of which it takes k. Where no site is honest the stale ones agree on the past.
fn foretell(data: usize, states: &[State]) -> Expected {
    let sites = states.len();
    let count = |wanted: State| states.iter().filter(|state| **state == wanted).count();
    let (honest, stale) = (count(State::Honest), count(State::Stale));
    // q = max(n - k + 1, ceil((n + 1) / 2)) sites hold a committed head, so r = n - q + 1 complete answers show it.
    let heads = (sites - data + 1).max((sites + 1).div_ceil(2));
    let grade = match sites - count(State::Lost) > sites - heads {
        true => Grade::F2,
        false => Grade::F3,
    };
    let holders = if honest > 0 { honest } else { stale };
    match holders {
        0 => Expected::Nothing,
        holders if holders >= data => Expected::Whole {
            newest: honest > 0,
            grade,
        },
        _ => Expected::Damage { newest: honest > 0 },
    }
}

/// An archive of two snapshots, with what each site held after the first and after the second.
struct Past {
    world: World,
    data: usize,
    first: (Description, Vec<Objects>),
    second: (Description, Vec<Objects>),
}

impl Past {
    fn new(data: u8, parity: u8) -> Result<Self, Whatever> {
        let world = World::found(WorldPlan::new(data, parity))?;
        let held = |world: &World| world.sites.iter().map(|site| site.disk().objects()).collect();
        assert_eq!(world.replicate()??.debt, 0);
        let first = (tree::describe(&world.source)?, held(&world));
        tree::plant(&world.source, 2)?;
        world.clock.advance(3600);
        assert_eq!(world.replicate()??.debt, 0);
        let second = (tree::describe(&world.source)?, held(&world));
        assert_ne!(first.0, second.0, "the source has changed");
        Ok(Self {
            world,
            data: usize::from(data),
            first,
            second,
        })
    }

    /// Makes the sites what the world says, behind their backs.
    fn arrange(&self, states: &[State]) {
        for (number, state) in states.iter().enumerate() {
            let disk = self.world.sites[number].disk();
            disk.clear();
            let held = match state {
                State::Lost => continue,
                State::Stale => &self.first.1[number],
                State::Honest | State::Corrupt => &self.second.1[number],
            };
            for (name, bytes) in held {
                let bytes = match state {
                    State::Corrupt => with_a_bit_turned(bytes),
                    _ => bytes.clone(),
                };
                disk.plant(name, bytes);
            }
        }
    }

    fn judge(&self, states: &[State]) -> Result<(), Whatever> {
        self.arrange(states);
        let expected = foretell(self.data, states);
        let lost: Vec<usize> = (0..states.len()).filter(|site| states[*site] == State::Lost).collect();
        let folder = tempfile::tempdir_in(self.world.folder())?;
        let target = folder.path().join("restored");
        let restored = self.world.restore("land", &target, &lost);
        let snapshot = |newest: bool| if newest { &self.second.0 } else { &self.first.0 };
        match (expected, restored) {
            (Expected::Whole { newest, grade }, Ok(report)) => {
                assert_ne!(report.outcome(), Outcome::Damaged, "{states:?}: {report:?}");
                assert_eq!(report.freshness.grade, grade, "{states:?}");
                assert_eq!(&tree::describe(&target)?, snapshot(newest), "{states:?}");
            }
            (Expected::Damage { newest }, Ok(report)) => {
                assert_eq!(report.outcome(), Outcome::Damaged, "{states:?}: {report:?}");
                assert_only_true_contents(&target, snapshot(newest), states)?;
            }
            (Expected::Damage { newest }, Err(_)) => {
                assert_only_true_contents(&target, snapshot(newest), states)?;
            }
            (Expected::Nothing, Err(_)) => assert!(!target.exists(), "{states:?}"),
            (expected, restored) => {
                return Err(format!("{states:?}: {expected:?} was foretold, came {restored:?}").into());
            }
        }
        Ok(())
    }

    /// Judges all 4^n worlds and returns how many were foretold whole, damaged and nothing.
    fn judge_all(&self) -> Result<[u32; 3], Whatever> {
        self.judge_every(1)
    }

    /// Judges every `stride`-th of them.
    fn judge_every(&self, stride: usize) -> Result<[u32; 3], Whatever> {
        let sites = self.world.sites.len();
        let mut counts = [0; 3];
        for number in (0..1usize << (2 * sites)).step_by(stride) {
            let states: Vec<State> = (0..sites).map(|site| STATES[number >> (2 * site) & 3]).collect();
            self.judge(&states)?;
            counts[match foretell(self.data, &states) {
                Expected::Whole { .. } => 0,
                Expected::Damage { .. } => 1,
                Expected::Nothing => 2,
            }] += 1;
        }
        Ok(counts)
    }
}

fn with_a_bit_turned(bytes: &Bytes) -> Bytes {
    let mut turned = bytes.to_vec();
    let middle = turned.len() / 2;
    if let Some(byte) = turned.get_mut(middle) {
        *byte ^= 1;
    }
    turned.into()
}

/// Every file that bears its final name has its final content. Modes and times of folders come last, so they may differ.
fn assert_only_true_contents(target: &Path, snapshot: &Description, states: &[State]) -> Result<(), Whatever> {
    if !target.exists() {
        return Ok(());
    }
    // The number of names is left out: a second name may be what was lost.
    let content = |line: &str| line.split(", ").take(2).collect::<Vec<_>>().join(", ");
    for (path, line) in tree::describe(target)? {
        if line.starts_with("directory") {
            continue;
        }
        let wanted = snapshot.get(&path).map(|line| content(line));
        assert_eq!(Some(content(&line)), wanted, "{states:?}: {path}");
    }
    Ok(())
}

/// C(n, i) 3^(n - i) worlds have exactly i honest sites, and so on: the rule, counted another way.
#[test]
fn the_rule_counts_right() {
    let worlds = |data: usize| {
        let all = (0..64usize).map(|number| [0, 2, 4].map(|shift| STATES[number >> shift & 3]));
        all.filter(|states| matches!(foretell(data, states), Expected::Whole { .. }))
            .count()
    };
    // 2 of 3: two or three honest (9 + 1), or none honest and two or three stale (3 * 2 + 1).
    assert_eq!(worlds(2), 17);
    // 1 of 3: all but the 8 in which each site is lost or corrupt.
    assert_eq!(worlds(1), 56);
}

#[test]
fn one_plus_one() -> Result<(), Whatever> {
    assert_eq!(Past::new(1, 1)?.judge_all()?, [12, 0, 4]);
    Ok(())
}

#[test]
fn two_plus_one() -> Result<(), Whatever> {
    assert_eq!(Past::new(2, 1)?.judge_all()?, [17, 39, 8]);
    Ok(())
}

#[test]
fn two_plus_two() -> Result<(), Whatever> {
    let [whole, damaged, nothing] = Past::new(2, 2)?.judge_all()?;
    assert_eq!((whole + damaged + nothing, nothing), (256, 16));
    Ok(())
}

#[test]
fn three_plus_two() -> Result<(), Whatever> {
    let [whole, damaged, nothing] = Past::new(3, 2)?.judge_all()?;
    assert_eq!((whole + damaged + nothing, nothing), (1024, 32));
    Ok(())
}

/// 4,096 worlds: `tools/nightly worlds`.
#[test]
#[ignore = "takes minutes; tools/nightly worlds runs it"]
fn four_plus_two() -> Result<(), Whatever> {
    let stride = scale::of("WORLDS_STRIDE", NonZeroUsize::MIN)?.get();
    let [whole, damaged, nothing] = Past::new(4, 2)?.judge_every(stride)?;
    println!("{whole} whole, {damaged} damaged, {nothing} nothing");
    if stride == 1 {
        assert_eq!((whole + damaged + nothing, nothing), (4096, 64));
    }
    Ok(())
}
