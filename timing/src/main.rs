//! Two classes of secrets, one function, and Welch's t: more than 4.5 says that their times differ (dudect).
//!
//! Each measurement goes through the crate's own types where they take the input. Both classes are made by the same steps,
//! into the same buffer, before the clock runs. `control` leaks on purpose: a run in which it is not found measured nothing.
//! SAMPLES is how many times each is called, by default a million.

#![forbid(unsafe_code)]

use dudect_bencher::{BenchRng, Class, CtRunner, ctbench_main};
use exclave_model::{Body, Commitment};
use exclave_seal::{
    Passphrase, RecoveryIdentity, RunKey, SeededEntropy,
    aead::{Cipher, Path},
    secret::Secret,
    share::{GroupPlan, SplitPlan, split},
};
use rand::{Rng as _, RngExt as _};
use vsss_rs::Gf256;
use x_wing::{Decapsulator as _, kem::Decapsulate as _};

fn samples() -> usize {
    std::env::var("SAMPLES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000)
}

fn class(rng: &mut BenchRng) -> (Class, u8) {
    match rng.random::<bool>() {
        true => (Class::Left, 0),
        false => (Class::Right, 0xff),
    }
}

/// Compares with an early exit.
fn control(runner: &mut CtRunner, rng: &mut BenchRng) {
    let right = [7u8; 256];
    for _ in 0..samples() {
        let (class, mask) = class(rng);
        let mut other = right;
        other[0] ^= mask;
        runner.run_one(class, || {
            right.iter().zip(&other).all(|(a, b)| std::hint::black_box(a) == b)
        });
    }
}

/// The run key's commitment: one that fits, and one that is wrong from its first byte on.
fn run_key_commitment(runner: &mut CtRunner, rng: &mut BenchRng) {
    let key = RunKey::generate(&mut SeededEntropy::new(1)).unwrap();
    for _ in 0..samples() {
        let (class, mask) = class(rng);
        let bytes = key.commitment().as_bytes().map(|byte| byte ^ mask);
        let commitment = Commitment::from_bytes(bytes);
        runner.run_one(class, || key.fits(&commitment));
    }
}

/// A share's commitment: one that fits, and one that is wrong.
fn share_commitment(runner: &mut CtRunner, rng: &mut BenchRng) {
    let mut entropy = SeededEntropy::new(2);
    let identity = RecoveryIdentity::generate(&mut entropy).unwrap();
    let plan = SplitPlan {
        threshold: 1,
        groups: vec![GroupPlan {
            name: "all".to_owned(),
            threshold: 2,
            custodians: ["a", "b"].map(|name| (name.to_owned(), Body::Allied)).to_vec(),
        }],
        previous: None,
    };
    let (_, shares) = split(&identity, &plan, &mut entropy).unwrap();
    let right = *shares[0].commitment().as_bytes();
    for _ in 0..samples() {
        let (class, mask) = class(rng);
        let commitment = Commitment::from_bytes(right.map(|byte| byte ^ mask));
        runner.run_one(class, || shares[0].fits(&commitment));
    }
}

/// A passphrase typed twice: the same, and another of its length.
fn passphrase(runner: &mut CtRunner, rng: &mut BenchRng) {
    let first = Passphrase::new("a passphrase of some forty letters, typed".to_owned()).unwrap();
    let both = [
        "a passphrase of some forty letters, typed",
        "Z passphrase of some forty letters, typed",
    ];
    let both = both.map(|text| Passphrase::new(text.to_owned()).unwrap());
    for _ in 0..samples() {
        let (class, mask) = class(rng);
        let other = &both[usize::from(mask & 1)];
        runner.run_one(class, || first.matches(other));
    }
}

/// A tag that is wrong in its first byte, and one that is wrong in its last.
fn tag(path: Path, runner: &mut CtRunner, rng: &mut BenchRng) {
    let cipher = Cipher::on(path, &Secret::new([5; 32]));
    let mut sealed = [9; 80];
    cipher.seal(&[0; 12], b"", &mut sealed);
    for _ in 0..samples() {
        let (class, mask) = class(rng);
        let mut altered = sealed;
        altered[64] ^= !mask;
        altered[79] ^= mask;
        runner.run_one(class, || {
            let mut plain = [0; 64];
            cipher.open_to(&[0; 12], b"", &altered, &mut plain).is_err()
        });
    }
}

fn tag_bulk(runner: &mut CtRunner, rng: &mut BenchRng) {
    tag(Path::Bulk, runner, rng);
}

fn tag_portable(runner: &mut CtRunner, rng: &mut BenchRng) {
    tag(Path::Portable, runner, rng);
}

/// Values of shares that are all zeros, and random ones: field arithmetic without tables or branches.
fn combine(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..samples() / 4 {
        let (class, mask) = class(rng);
        let shares: Vec<Vec<u8>> = (1..=3)
            .map(|x| {
                let mut share = vec![0; 33];
                rng.fill_bytes(&mut share);
                share.iter_mut().for_each(|byte| *byte &= mask);
                share[0] = x;
                share
            })
            .collect();
        runner.run_one(class, || Gf256::combine_bytes(&shares).is_ok());
    }
}

/// Ciphertexts that are right, and ones that are not: ML-KEM's implicit rejection.
fn decapsulation(runner: &mut CtRunner, rng: &mut BenchRng) {
    let key = x_wing::DecapsulationKey::from([3; 32]);
    for _ in 0..samples() / 20 {
        let (class, mask) = class(rng);
        let mut randomness = [0; 64];
        rng.fill_bytes(&mut randomness);
        let (mut ciphertext, _) = key.encapsulation_key().encapsulate_deterministic(&randomness.into());
        ciphertext[10] ^= mask;
        ciphertext[700] ^= mask;
        runner.run_one(class, || key.decapsulate(&ciphertext));
    }
}

ctbench_main!(
    control,
    run_key_commitment,
    share_commitment,
    passphrase,
    tag_bulk,
    tag_portable,
    combine,
    decapsulation
);
