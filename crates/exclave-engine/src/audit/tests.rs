//! Audits of the small world: nothing wrong, each thing wrong alone, and sites that cheat.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use exclave_model::report::{Outcome, OutcomeCounts, Verdict};
use exclave_model::{ObjectName, RunId, Tag, context::HEADER_BYTES};
use exclave_plan::audit::{Confidence, DamageFraction};
use exclave_site::{Fault, Operation, SimulatedSite, Site as _, When};

use super::*;
use crate::testing::{Forged, World, file, noise};

fn request(mode: Mode) -> AuditRequest {
    AuditRequest {
        mode,
        datasets: None,
        nonce: Nonce::from_bytes([9; 32]),
        deadline: Duration::from_secs(5),
        forecast_only: false,
        troubles: Vec::new(),
    }
}

fn run(world: &World, request: &AuditRequest) -> Audit {
    audit(&world.archive, &world.survey(), request, &world.surroundings)
}

/// 2+2 over four sites, two snapshots, a few stripes of two groups a shard.
fn world() -> (World, Forged) {
    let mut world = World::new(2, 2, 2);
    world.commit(vec![file("first", &noise(1, 300_000))]);
    let forged = world.commit(vec![file("second", &noise(2, 500_000))]);
    assert!(forged.stripes.len() >= 2, "{}", forged.stripes.len());
    (world, forged)
}

fn kinds(audit: &Audit) -> Vec<(&'static str, String, Option<Outcome>)> {
    let findings = audit.findings.first.iter();
    findings
        .map(|finding| (finding.kind, finding.site.clone(), finding.outcome))
        .collect()
}

#[test]
fn a_sound_archive_is_whole_in_every_mode() {
    let (world, _) = world();
    for mode in [Mode::Heads, Mode::Sample(Detection::default()), Mode::Full, Mode::Deep] {
        let audit = run(&world, &request(mode));
        assert_eq!((audit.verdict, kinds(&audit)), (Verdict::Whole, Vec::new()), "{mode:?}");
        assert_eq!((audit.heads.len(), audit.strays.total), (2, 0));
        assert!(audit.heads.iter().all(|head| head.sites == 4 && head.needed == Some(3)));
        for site in &audit.sites {
            assert!(site.present && site.records.not_ok() == 0 && site.records.total() > 0);
            let expected = match mode {
                Mode::Heads => 0,
                // So few groups that a sample of them is nearly all.
                Mode::Sample(detection) => detection.size(site.population),
                Mode::Full | Mode::Deep => site.shards_expected,
            };
            assert_eq!(site.shards.get(Outcome::Ok), expected, "{mode:?}");
        }
        if mode != Mode::Heads {
            let [placement] = audit.placements.as_slice() else {
                panic!("one layout")
            };
            assert_eq!((placement.data, placement.least_shown), (2, 4));
            assert_eq!(placement.stripes, audit.stripes);
            assert_eq!(placement.faults[0].margin, 4 - i16::from(placement.losses) - 2);
        }
    }
}

/// One object of one site, changed.
type Plant = fn(&World, &Forged, &SimulatedSite) -> ObjectName;

fn named(site: &SimulatedSite, text: &str) -> ObjectName {
    let found = site.disk().objects().into_iter().map(|(name, _)| name);
    let mut found = found.filter(|name| name.as_str().contains(text));
    found.next().unwrap_or_else(|| panic!("nothing is named {text}"))
}

fn change(site: &SimulatedSite, name: ObjectName, act: impl FnOnce(&mut Vec<u8>)) -> ObjectName {
    let mut bytes = site.disk().read(&name).unwrap().to_vec();
    act(&mut bytes);
    site.disk().plant(&name, bytes.into());
    name
}

fn flip(site: &SimulatedSite, name: ObjectName, at: usize) -> ObjectName {
    change(site, name, |bytes| bytes[at] ^= 1)
}

fn swap(site: &SimulatedSite, one: ObjectName, other: ObjectName) -> ObjectName {
    let (first, second) = (site.disk().read(&one).unwrap(), site.disk().read(&other).unwrap());
    assert_ne!(first, second);
    site.disk().plant(&one, second);
    site.disk().plant(&other, first);
    one
}

fn shard(world: &World, forged: &Forged) -> ObjectName {
    world.shard_name(&forged.stripes[0], 1)
}

/// Full mode finds each single fault, over every kind of object; and says at which site, of what, and which.
#[test]
fn every_single_fault_is_found() {
    let table: &[(&str, Plant, &str, Outcome)] = &[
        (
            "head",
            |_, forged, site| flip(site, forged.head_name.clone(), 90),
            "head",
            Outcome::Corrupt,
        ),
        (
            "head's signature",
            |_, forged, site| {
                let last = site.disk().read(&forged.head_name).unwrap().len() - 1;
                flip(site, forged.head_name.clone(), last)
            },
            "head",
            Outcome::Corrupt,
        ),
        (
            "head gone",
            |_, forged, site| {
                site.disk().remove(&forged.head_name);
                forged.head_name.clone()
            },
            "head",
            Outcome::Missing,
        ),
        (
            "charter",
            |_, _, site| flip(site, named(site, "/charter/"), 200),
            "charter",
            Outcome::Corrupt,
        ),
        (
            "charter gone",
            |_, _, site| {
                let name = named(site, "/charter/");
                site.disk().remove(&name);
                name
            },
            "charter",
            Outcome::Missing,
        ),
        (
            "envelope",
            |_, _, site| flip(site, named(site, "/envelope."), 77),
            "envelope",
            Outcome::Corrupt,
        ),
        (
            "envelope gone",
            |_, _, site| {
                let name = named(site, "/envelope.");
                site.disk().remove(&name);
                name
            },
            "envelope",
            Outcome::Missing,
        ),
        (
            "ledger",
            |_, _, site| flip(site, named(site, "/ledger."), 400),
            "ledger",
            Outcome::Corrupt,
        ),
        (
            "ledger cut",
            |_, _, site| change(site, named(site, "/ledger."), |bytes| bytes.truncate(100)),
            "ledger",
            Outcome::Corrupt,
        ),
        (
            "ledger gone",
            |_, _, site| {
                let name = named(site, "/ledger.");
                site.disk().remove(&name);
                name
            },
            "ledger",
            Outcome::Missing,
        ),
        (
            "run table",
            |_, _, site| flip(site, named(site, "/live."), 50),
            "run-page",
            Outcome::Corrupt,
        ),
        (
            "run table gone",
            |_, _, site| {
                let name = named(site, "/live.");
                site.disk().remove(&name);
                name
            },
            "run-page",
            Outcome::Missing,
        ),
        (
            "grant",
            |world, _, site| {
                let name = world.plant_grant();
                flip(site, name, 30)
            },
            "grant",
            Outcome::Corrupt,
        ),
        (
            "grant gone",
            |world, _, site| {
                let name = world.plant_grant();
                site.disk().remove(&name);
                name
            },
            "grant",
            Outcome::Missing,
        ),
        (
            "shard gone",
            |world, forged, site| {
                let name = shard(world, forged);
                site.disk().remove(&name);
                name
            },
            "shard",
            Outcome::Missing,
        ),
        (
            "shard's header",
            |world, forged, site| flip(site, shard(world, forged), 116),
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shard's salt",
            |world, forged, site| flip(site, shard(world, forged), 70),
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shard's commitment",
            |world, forged, site| flip(site, shard(world, forged), 130),
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shard's first byte",
            |world, forged, site| flip(site, shard(world, forged), HEADER_BYTES),
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shard's last byte",
            |world, forged, site| {
                let groups = HEADER_BYTES + 2 * 65_536 - 1;
                flip(site, shard(world, forged), groups)
            },
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shard's trailer",
            |world, forged, site| {
                let name = shard(world, forged);
                let last = site.disk().read(&name).unwrap().len() - 1;
                flip(site, name, last)
            },
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shard cut",
            |world, forged, site| change(site, shard(world, forged), |bytes| _ = bytes.pop()),
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shard longer",
            |world, forged, site| change(site, shard(world, forged), |bytes| bytes.push(0)),
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shard empty",
            |world, forged, site| change(site, shard(world, forged), Vec::clear),
            "shard",
            Outcome::Corrupt,
        ),
        (
            "shards swapped",
            |world, forged, site| swap(site, shard(world, forged), world.shard_name(&forged.stripes[1], 1)),
            "shard",
            Outcome::Corrupt,
        ),
        (
            "heads swapped",
            |_, forged, site| {
                let other = site.disk().objects().into_iter().map(|(name, _)| name);
                let mut other = other.filter(|name| name.as_str().contains("/heads/") && *name != forged.head_name);
                let other = other.next().unwrap();
                swap(site, forged.head_name.clone(), other)
            },
            "head",
            Outcome::Corrupt,
        ),
    ];
    for (what, plant, kind, outcome) in table {
        let (world, forged) = world();
        let name = plant(&world, &forged, &world.sites[1]);
        let audit = run(&world, &request(Mode::Full));
        let found = audit.findings.first.iter().find(|finding| {
            (finding.kind, finding.site.as_str(), finding.outcome) == (*kind, "s1", Some(*outcome))
                && finding.object == name.as_str()
        });
        assert!(found.is_some(), "{what}: {:?}", audit.findings.first);
        assert_eq!(audit.verdict, Verdict::Findings, "{what}");
        let elsewhere = audit.findings.first.iter().filter(|finding| finding.site != "s1");
        assert_eq!(elsewhere.count(), 0, "{what}: {:?}", audit.findings.first);
    }
}

/// A plate is what makes a store a site: without it the store counts as none, and nothing of the site is shown.
#[test]
fn a_store_without_its_plate_is_no_site() {
    for gone in [true, false] {
        let (mut world, _) = world();
        let name = named(&world.sites[2], "/sites/");
        match gone {
            true => _ = world.sites[2].disk().remove(&name),
            false => _ = flip(&world.sites[2], name, 40),
        }
        world.reopen();
        let audit = run(&world, &request(Mode::Full));
        let site = audit.sites.iter().find(|site| site.name == "s2").unwrap();
        assert!(!site.present);
        assert_eq!(site.shards.get(Outcome::Unproven), site.shards_expected);
        assert_eq!(audit.verdict, Verdict::Findings);
        assert_eq!(audit.placements[0].least_shown, 3);
    }
}

#[test]
fn too_little_left_is_told_from_too_little_shown() {
    let (world, forged) = world();
    for site in &world.sites[..3] {
        site.disk()
            .remove(&world.shard_name(&forged.stripes[0], site_number(site)));
    }
    let audit = run(&world, &request(Mode::Full));
    assert_eq!(
        (audit.verdict, audit.stripes_unrecoverable),
        (Verdict::Unrecoverable, 1)
    );

    let (world, _) = self::world();
    for site in &world.sites[..3] {
        site.inflict(When::any().reads().containing("/shards/"), Fault::Deny);
    }
    let audit = run(&world, &request(Mode::Full));
    assert_eq!((audit.verdict, audit.stripes_unrecoverable), (Verdict::Unproven, 0));
    assert_eq!(audit.stripes_unproven, audit.stripes);
    assert!(audit.sites[0].shards.get(Outcome::Denied) == audit.sites[0].shards_expected);
}

fn site_number(site: &SimulatedSite) -> u8 {
    let address = site.address().to_string();
    address.rsplit('s').next().unwrap().parse().unwrap()
}

/// A writer that commits a parity shard of something else: every shard is the ledger's, and only computing tells.
#[test]
fn shards_that_do_not_belong_together_are_found_by_computing() {
    let mut world = World::new(2, 2, 2);
    world.commit_twisted(
        vec![file("first", &noise(1, 300_000))],
        |_| {},
        |world, stripes| {
            let record = &mut stripes[0];
            let mut bytes = world.sites[3]
                .disk()
                .read(&world.shard_name(record, 3))
                .unwrap()
                .to_vec();
            bytes[HEADER_BYTES] ^= 1;
            bytes.truncate(HEADER_BYTES + 2 * 65_536);
            let payload = bytes[HEADER_BYTES..].to_vec();
            bytes.extend(exclave_stripe::trailer_of(&payload));
            record.payloads[3] = exclave_model::PayloadHash::of(&payload);
            world.sites[3].disk().plant(&world.shard_name(record, 3), bytes.into());
        },
    );
    let full = run(&world, &request(Mode::Full));
    assert!(
        full.findings
            .first
            .iter()
            .all(|finding| finding.kind != "not-a-codeword")
    );
    let deep = run(&world, &request(Mode::Deep));
    let found = deep
        .findings
        .first
        .iter()
        .filter(|finding| finding.kind == "not-a-codeword");
    assert_eq!(
        (found.count(), deep.facts.not_codewords),
        (1, 1),
        "{:?}",
        deep.findings.first
    );
}

#[test]
fn what_nobody_names_is_listed_and_harms_nothing() {
    let (world, forged) = world();
    let site = &world.sites[0];
    let mut stripe = forged.stripes[0].clone();
    stripe.context.ordinal = 4_000_000;
    site.disk()
        .plant(&world.shard_name(&stripe, 0), Bytes::from_static(b"orphan"));
    // Somebody else's shard of a stripe that is ours.
    site.disk().plant(
        &world.shard_name(&forged.stripes[0], 3),
        Bytes::from_static(b"misplaced"),
    );
    stripe.context.run = RunId::from_bytes([99; 16]);
    site.disk()
        .plant(&world.shard_name(&stripe, 0), Bytes::from_static(b"dead run"));
    let root = world.archive.names.root_prefix();
    site.disk()
        .plant(&root.join("readme").unwrap(), Bytes::from_static(b"hello"));
    site.disk()
        .plant(&root.join("junk/x").unwrap(), Bytes::from_static(b"hello"));
    let bytes = Bytes::from_static(b"no head at all");
    let head = world.archive.names.heads_prefix();
    site.disk().plant(
        &head
            .join(&format!("{:064}/{:032}/{:020}.{}", 1, 1, 1, Tag::of(&bytes)))
            .unwrap(),
        bytes,
    );
    let audit = run(&world, &request(Mode::Full));
    assert_eq!(
        (audit.verdict, audit.strays.total),
        (Verdict::Whole, 6),
        "{:?}",
        audit.strays
    );
}

#[test]
fn a_repeated_put_counts_and_is_told() {
    let (world, forged) = world();
    let name = shard(&world, &forged);
    let right = world.sites[1].disk().read(&name).unwrap();
    world.sites[1].disk().plant(&name, Bytes::from_static(b"squatted"));
    let again = ObjectName::parse(&format!("{name}.1")).unwrap();
    world.sites[1].disk().plant(&again, right);
    let audit = run(&world, &request(Mode::Full));
    assert_eq!(kinds(&audit), [("displaced", "s1".to_owned(), Some(Outcome::Corrupt))]);
    assert_eq!((audit.verdict, audit.strays.total), (Verdict::Findings, 0));
    assert_eq!(audit.sites[1].shards.not_ok(), 0);
}

/// THREATS A29. A site that keeps a part and answers from it, one that invents bytes of the right length, one that asks
/// others and is too slow, one that doesn't answer: none of them passes.
#[test]
fn cheating_sites_do_not_pass() {
    let cheats: &[(&str, Fault, Outcome)] = &[
        ("invents", Fault::WrongBytes, Outcome::Corrupt),
        ("hangs", Fault::Hang, Outcome::Timeout),
        (
            "fetches from elsewhere, slowly",
            Fault::Slow {
                wait: Duration::from_secs(3),
            },
            Outcome::Timeout,
        ),
        ("denies", Fault::Deny, Outcome::Denied),
        ("breaks", Fault::Fail, Outcome::Unproven),
    ];
    for (what, fault, outcome) in cheats {
        let (world, _) = world();
        world.sites[3].inflict(When::any().only(&[Operation::GetRange]), fault.clone());
        let mut request = request(Mode::Sample(Detection::default()));
        request.deadline = Duration::from_millis(300);
        let audit = run(&world, &request);
        let counts: BTreeMap<&str, OutcomeCounts> = audit
            .sites
            .iter()
            .map(|site| (site.name.as_str(), site.shards))
            .collect();
        assert_eq!(counts["s3"].get(Outcome::Ok), 0, "{what}");
        assert!(counts["s3"].get(*outcome) > 0, "{what}: {counts:?}");
        assert_eq!(counts["s0"].not_ok(), 0, "{what}");
        assert_eq!(audit.verdict, Verdict::Findings, "{what}");
        assert_eq!(audit.placements[0].least_shown, 3, "{what}");
    }
}

/// At one time, over many seeds: a site that lost one of its groups in ten is found as often as promised.
#[test]
fn samples_find_damage_at_the_promised_rate() {
    let mut world = World::new(1, 1, 1);
    let forged = world.commit(vec![file("many", &noise(5, 60 * 60_000))]);
    let lost = forged.stripes.len() / 10;
    assert!(lost >= 4, "{}", forged.stripes.len());
    for stripe in forged.stripes.iter().take(lost) {
        world.sites[1].disk().remove(&world.shard_name(stripe, 1));
    }
    let detection = Detection {
        damage: DamageFraction::from_ppm(80_000).unwrap(),
        confidence: Confidence::from_ppm(900_000).unwrap(),
    };
    let survey = world.survey();
    let trials = 60;
    let mut found = 0;
    for trial in 0..trials {
        let mut request = request(Mode::Sample(detection));
        request.nonce = Nonce::from_bytes([trial; 32]);
        let audit = audit(&world.archive, &survey, &request, &world.surroundings);
        assert!(
            audit.sites[1].shards.total() < audit.sites[1].population,
            "a sample, not all"
        );
        assert_eq!(audit.sites[0].shards.not_ok(), 0);
        found += usize::from(audit.sites[1].shards.get(Outcome::Missing) > 0);
    }
    // 54 are promised; 47 is three standard deviations below.
    assert!(found >= 47, "{found} of {trials}");
}

#[test]
fn the_same_nonce_asks_for_the_same_groups_and_another_for_others() {
    let (world, _) = world();
    let digests = |nonce: u8| {
        let detection = Detection {
            damage: DamageFraction::from_ppm(500_000).unwrap(),
            confidence: Confidence::from_ppm(500_000).unwrap(),
        };
        let mut request = request(Mode::Sample(detection));
        request.nonce = Nonce::from_bytes([nonce; 32]);
        run(&world, &request)
            .sites
            .iter()
            .map(|site| site.sample_digest)
            .collect::<Vec<_>>()
    };
    assert_eq!(digests(1), digests(1));
    assert!((2..9).any(|nonce| digests(1) != digests(nonce)));
}

#[test]
fn a_forecast_reads_no_shard_and_says_what_would_be_read() {
    let (world, _) = world();
    let mut forecast = request(Mode::Full);
    forecast.forecast_only = true;
    let told = run(&world, &forecast);
    let before: usize = world.sites.iter().map(|site| site.log().len()).sum();
    assert!(
        told.sites
            .iter()
            .all(|site| site.shards.total() == 0 && site.bytes_forecast > 0),
        "{before}"
    );
    let real = run(&world, &request(Mode::Full));
    for (told, real) in told.sites.iter().zip(&real.sites) {
        let records = real.bytes_read - told.bytes_forecast;
        assert!(records > 0 && records < 200_000, "{records}");
    }
}

#[test]
fn other_datasets_are_left_out() {
    let (world, _) = world();
    let mut request = request(Mode::Full);
    request.datasets = Some([exclave_model::DatasetId::from_bytes([1; 16])].into());
    let audit = run(&world, &request);
    assert_eq!((audit.heads.len(), audit.stripes), (0, 0));
    request.datasets = Some([world.dataset].into());
    assert_eq!(run(&world, &request).heads.len(), 2);
}
