//! The primitives that this crate rests on, held against Project Wycheproof's cases: inputs at which other implementations
//! broke. Each is called as the crate calls it: AES-256-GCM through [`Cipher`] on both paths, Ed25519 strictly, ML-DSA-65
//! pure and with an empty context, ML-KEM-768 and X25519 as X-Wing has them, HKDF-SHA256 as HPKE has it.

use exclave_seal::{
    aead::{Cipher, NONCE_BYTES, Path},
    secret::Secret,
};
use ml_dsa::MlDsa65;
use ml_kem::{DecapsulationKey768, kem::Decapsulate as _};
use wycheproof::{TestResult, aead, eddsa, hkdf as hkdf_cases, mldsa_verify, mlkem, xdh};

/// A case that is refused although it is valid, or taken although it isn't. `acceptable` ones may go either way.
fn held(name: &str, number: usize, comment: &str, expected: TestResult, good: bool) {
    match expected {
        TestResult::Valid => assert!(good, "{name} {number} is valid: {comment}"),
        TestResult::Invalid => assert!(!good, "{name} {number} is invalid: {comment}"),
        TestResult::Acceptable => {}
    }
}

#[test]
fn aes_256_gcm_on_both_paths() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let mut cases = 0;
    let ours =
        |group: &&aead::TestGroup| (group.key_size, group.nonce_size, group.tag_size) == (256, 8 * NONCE_BYTES, 128);
    for case in set.test_groups.iter().filter(ours).flat_map(|group| &group.tests) {
        cases += 1;
        let key: [u8; 32] = case.key.as_slice().try_into().unwrap();
        let nonce: [u8; NONCE_BYTES] = case.nonce.as_slice().try_into().unwrap();
        let sealed = [case.ct.as_slice(), case.tag.as_slice()].concat();
        for path in [Path::Bulk, Path::Portable] {
            let cipher = Cipher::on(path, &Secret::new(key));
            let mut buffer = sealed.clone();
            let opened = cipher.open(&nonce, &case.aad, &mut buffer).is_ok();
            held("AES-GCM", case.tc_id, &case.comment, case.result, opened);
            let mut plain = vec![0xa5; case.pt.len()];
            let opened_to = cipher.open_to(&nonce, &case.aad, &sealed, &mut plain).is_ok();
            assert_eq!(opened, opened_to, "{}", case.tc_id);
            if opened {
                assert_eq!(&buffer[..case.pt.len()], case.pt.as_slice(), "{}", case.tc_id);
                assert_eq!(plain, case.pt.as_slice(), "{}", case.tc_id);
                let mut again = [case.pt.as_slice(), &[0; 16]].concat();
                cipher.seal(&nonce, &case.aad, &mut again);
                assert_eq!(again, sealed, "{}", case.tc_id);
            } else {
                let left = buffer.iter().chain(&plain).any(|byte| *byte != 0);
                assert!(!left, "{}: plaintext is left", case.tc_id);
            }
        }
    }
    assert!(cases >= 60, "{cases}");
}

#[test]
fn ed25519_is_strict() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut cases = 0;
    for group in &set.test_groups {
        let key: [u8; 32] = group.key.pk.as_slice().try_into().unwrap();
        let key = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
        for case in &group.tests {
            cases += 1;
            let signature = ed25519_dalek::Signature::from_slice(&case.sig);
            let good = signature.is_ok_and(|signature| key.verify_strict(&case.msg, &signature).is_ok());
            held("Ed25519", case.tc_id, &case.comment, case.result, good);
        }
    }
    assert!(cases >= 140, "{cases}");
}

#[test]
fn ml_dsa_65_is_pure_and_has_no_context() {
    let set = mldsa_verify::TestSet::load(mldsa_verify::TestName::MlDsa65Verify).unwrap();
    let (mut cases, mut others) = (0, 0);
    for group in &set.test_groups {
        let key = ml_dsa::EncodedVerifyingKey::<MlDsa65>::try_from(group.pubkey.as_slice()).ok();
        let key = key.map(|key| ml_dsa::VerifyingKey::<MlDsa65>::decode(&key));
        for case in &group.tests {
            // Records are signed without a context; a case that has one is another scheme to us.
            if case.ctx.as_ref().is_some_and(|context| !context.is_empty()) {
                others += 1;
                continue;
            }
            cases += 1;
            let signature = ml_dsa::EncodedSignature::<MlDsa65>::try_from(case.sig.as_slice()).ok();
            let signature = signature.and_then(|signature| ml_dsa::Signature::<MlDsa65>::decode(&signature));
            let good = key
                .as_ref()
                .zip(signature)
                .is_some_and(|(key, signature)| key.verify_with_context(&case.msg, b"", &signature));
            held("ML-DSA-65", case.tc_id, &case.comment, case.result, good);
        }
    }
    assert!(cases >= 100, "{cases} and {others}");
}

#[test]
fn ml_kem_768_rejects_implicitly_and_by_length() {
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768).unwrap();
    let mut cases = 0;
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Some(seed), Some(ciphertext)) = (&case.seed, &case.ct) else {
            continue;
        };
        cases += 1;
        let seed: Option<[u8; 64]> = seed.as_slice().try_into().ok();
        let encapsulated: Option<[u8; 1088]> = ciphertext.as_slice().try_into().ok();
        // A ciphertext of the right length always gives a secret: a wrong one gives another secret.
        let shared = seed.zip(encapsulated).map(|(seed, encapsulated)| {
            let key = DecapsulationKey768::from_seed(seed.into());
            key.decapsulate(&encapsulated.into())
        });
        let expected = case.shared_secret.as_ref();
        let good = shared
            .zip(expected)
            .is_some_and(|(shared, expected)| shared.as_slice() == expected.as_slice());
        held("ML-KEM-768", case.tc_id, &case.comment, case.result, good);
    }
    assert!(cases >= 60, "{cases}");
}

#[test]
fn x25519_gives_the_shared_secret() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let mut cases = 0;
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        cases += 1;
        let point: Option<[u8; 32]> = case.public_key.as_slice().try_into().ok();
        let scalar: [u8; 32] = case.private_key.as_slice().try_into().unwrap();
        let good =
            point.is_some_and(|point| x25519_dalek::x25519(scalar, point).as_slice() == case.shared_secret.as_slice());
        held("X25519", case.tc_id, &case.comment, case.result, good);
    }
    assert!(cases >= 500, "{cases}");
}

#[test]
fn hkdf_sha256_derives_and_knows_its_limit() {
    let set = hkdf_cases::TestSet::load(hkdf_cases::TestName::HkdfSha256).unwrap();
    let mut cases = 0;
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        cases += 1;
        let mut derived = vec![0; case.size];
        let kdf = hkdf::Hkdf::<sha2::Sha256>::new(Some(&case.salt), &case.ikm);
        let good = kdf.expand(&case.info, &mut derived).is_ok() && derived == case.okm.as_slice();
        held("HKDF-SHA256", case.tc_id, &case.comment, case.result, good);
    }
    assert!(cases >= 80, "{cases}");
}
