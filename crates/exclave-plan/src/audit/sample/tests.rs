use proptest::prelude::*;

use super::*;

fn detection(damage_ppm: u32, confidence_ppm: u32) -> Detection {
    Detection {
        damage: DamageFraction::from_ppm(damage_ppm).unwrap(),
        confidence: Confidence::from_ppm(confidence_ppm).unwrap(),
    }
}

fn seed(number: u64) -> Seed {
    let mut nonce = [0; 32];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    Seed::derive(
        Anchor::from_bytes([1; 32]),
        [RecordHash::from_bytes([2; 32])],
        None,
        &Nonce(nonce),
    )
}

#[test]
fn large_populations_need_the_published_sizes() {
    // THREATS A30: ln(0.01) / ln(1 - p), rounded up.
    for (damage_ppm, expected) in [(10_000, 459), (1_000, 4_603), (100, 46_050)] {
        assert_eq!(detection(damage_ppm, 990_000).size(1 << 50), expected);
    }
}

/// Groups and a trailer for each, at shards of 8 MiB: what a site of any size is asked for.
#[test]
fn a_usual_sample_is_below_40_megabytes() {
    let size = (0..60).map(|bits| Detection::default().size(1 << bits)).max().unwrap();
    assert_eq!(size, 459);
    assert!(size * (65_536 + 128 * 32) < 40_000_000);
}

#[test]
fn a_sample_is_never_larger_than_the_site() {
    let one_percent = Detection::default();
    assert_eq!(one_percent.size(0), 0);
    assert_eq!(one_percent.size(1), 1);
    // One damaged group of 100 is 1 %: all but one must be read to find it with 99 %.
    assert_eq!(one_percent.size(100), 99);
    assert_eq!(detection(1_000_000, 990_000).size(1_000), 1);
}

/// THREATS A30: the rate at which real draws find damage is the formula's, within 1 %.
#[test]
fn monte_carlo_agrees_with_the_formula() {
    let site = SiteId::from_bytes([7; 16]);
    let trials = 20_000u64;
    for (population, damaged, size) in [(1_000, 10, 100), (400, 4, 50), (10_000, 100, 459), (97, 1, 30)] {
        let found = (0..trials).filter(|trial| {
            let chosen = choose(&seed(*trial), site, population, size);
            assert_eq!(chosen.len() as u64, size);
            // Damage lies together at an odd place: the draw doesn't know.
            chosen.iter().any(|number| (31..31 + damaged).contains(number))
        });
        let rate = found.count() as f64 / trials as f64;
        let expected = 1.0 - miss_probability(population, damaged, size);
        assert!(
            (rate - expected).abs() < 0.01,
            "{population} {damaged} {size}: {rate} {expected}"
        );
    }
}

/// A thousand sites that lost 1 %, each audited once at 1 % and 99 %.
#[test]
fn a_thousand_damaged_sites_are_found_at_the_promised_rate() {
    let (population, detection) = (50_000u64, Detection::default());
    let size = detection.size(population);
    let found = (0..1_000u64).filter(|world| {
        let chosen = choose(
            &seed(*world),
            SiteId::from_bytes([(world % 7) as u8; 16]),
            population,
            size,
        );
        // A site that throws away every hundredth group, beginning anywhere.
        chosen.iter().any(|number| number % 100 == world % 100)
    });
    let found = found.count();
    // 990 are expected; 980 is three standard deviations below.
    assert!(found >= 980, "{found} of 1000");
}

#[test]
fn every_group_is_as_likely_as_any_other() {
    let site = SiteId::from_bytes([3; 16]);
    let mut hits = [0u32; 50];
    for trial in 0..10_000 {
        for number in choose(&seed(trial), site, 50, 5) {
            hits[number as usize] += 1;
        }
    }
    // 1,000 expected with a standard deviation of 30.
    assert!(hits.iter().all(|hits| (850..1150).contains(hits)), "{hits:?}");
}

#[test]
fn seeds_depend_on_all_that_goes_in() {
    let (anchor, heads) = (
        Anchor::from_bytes([1; 32]),
        [3, 2].map(|head| RecordHash::from_bytes([head; 32])),
    );
    let base = Seed::derive(anchor, heads, None, &Nonce([0; 32]));
    assert_eq!(
        base,
        Seed::derive(anchor, [heads[1], heads[0], heads[1]], None, &Nonce([0; 32]))
    );
    assert_ne!(
        base,
        Seed::derive(Anchor::from_bytes([2; 32]), heads, None, &Nonce([0; 32]))
    );
    assert_ne!(base, Seed::derive(anchor, [heads[0]], None, &Nonce([0; 32])));
    assert_ne!(base, Seed::derive(anchor, heads, None, &Nonce([1; 32])));
    let state = |number: u8| {
        (
            KeyId::from_bytes([number; 32]),
            Incarnation::from_bytes([1; 16]),
            7,
            [number; 32],
        )
    };
    let logs = Seed::logs_digest([state(1), state(2)]);
    assert_eq!(logs, Seed::logs_digest([state(2), state(1), state(1)]));
    assert_ne!(logs, Seed::logs_digest([state(1)]));
    assert_eq!(Seed::logs_digest([]), None);
    assert_ne!(base, Seed::derive(anchor, heads, logs, &Nonce([0; 32])));
    let site = SiteId::from_bytes([1; 16]);
    assert_eq!(choose(&base, site, 1_000, 20), choose(&base, site, 1_000, 20));
    assert_ne!(
        choose(&base, site, 1_000, 20),
        choose(&base, SiteId::from_bytes([2; 16]), 1_000, 20)
    );
}

/// Fixed for ever: FORMAT.md section 20 gives these numbers to other implementations.
#[test]
fn the_draw_is_the_one_in_the_specification() {
    let seed = Seed::derive(
        Anchor::from_bytes([0x11; 32]),
        [RecordHash::from_bytes([0x22; 32])],
        None,
        &Nonce([0x33; 32]),
    );
    let chosen = choose(&seed, SiteId::from_bytes([0x44; 16]), 1_000, 5);
    assert_eq!(
        (
            seed.to_hex().as_str(),
            chosen.into_iter().collect::<Vec<_>>().as_slice()
        ),
        (
            "502dcdafd90dc221f85881df6eafb6b66972950468d8ad6f4a4984722ea2acb7",
            &[89, 420, 449, 630, 722][..]
        )
    );
}

proptest! {
    #[test]
    fn sizes_are_the_least_that_keep_the_promise(population in 1u64..20_000, damage in 1u32..=1_000_000, confidence in 1u32..1_000_000) {
        let detection = detection(damage, confidence);
        let (size, damaged) = (detection.size(population), detection.damage.of(population));
        let allowed = detection.confidence.miss_max();
        prop_assert!(damaged >= 1 && size <= population);
        prop_assert!(miss_probability(population, damaged, size) <= allowed);
        prop_assert!(size == 0 || miss_probability(population, damaged, size - 1) > allowed);
        let simple = ((1.0 - f64::from(confidence) / 1e6).ln() / (1.0 - f64::from(damage) / 1e6).ln()).ceil();
        prop_assert!(damage == 1_000_000 || size as f64 <= simple + 1.0, "{size} {simple}");
    }

    #[test]
    fn strata_are_laid_end_to_end(counts in proptest::collection::vec(0u64..20, 0..30)) {
        let mut strata = Strata::default();
        counts.iter().for_each(|count| strata.push(*count));
        let places: Vec<(usize, u64)> = (0..counts.len()).flat_map(|at| (0..counts[at]).map(move |offset| (at, offset))).collect();
        prop_assert_eq!(strata.total(), places.len() as u64);
        for (number, place) in places.iter().enumerate() {
            prop_assert_eq!(strata.locate(number as u64), Some(*place));
        }
        prop_assert_eq!(strata.locate(strata.total()), None);
    }

    #[test]
    fn draws_are_different_and_below_the_population(number in any::<u64>(), population in 0u64..300, size in 0u64..400) {
        let chosen = choose(&seed(number), SiteId::from_bytes([1; 16]), population, size);
        prop_assert_eq!(chosen.len() as u64, size.min(population));
        prop_assert!(chosen.iter().all(|number| *number < population));
    }
}
