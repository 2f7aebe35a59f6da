//! The primitives that this crate rests on, held against published known answers: NIST's, and those of the RFCs and drafts.
//!
//! Each is called as the crate calls it, through its own types where they take the input. The answers, with their
//! sources, lie in `known_answers/`. Cases that break other implementations are in `wycheproof.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at its first surprise")]

use std::collections::BTreeMap;

use ed25519_dalek::Signer as _;
use exclave_seal::{
    RecoveryIdentity, SigningKey,
    aead::{Cipher, Path},
    secret::Secret,
};
use hmac::{KeyInit as _, Mac as _};
use hpke::{Deserializable as _, OpModeR, aead::AesGcm256, kdf::HkdfSha256, kem::X25519HkdfSha256};
use ml_dsa::{ExpandedSigningKey, MlDsa65};
use ml_kem::{DecapsulationKey768, EncapsulationKey768, KeyExport as _, kem::Decapsulate as _};
use sha2::Digest as _;
use x_wing::Decapsulator as _;

/// One case: its fields by name.
struct Case(BTreeMap<String, String>);

impl Case {
    fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    fn text(&self, field: &str) -> &str {
        self.0
            .get(field)
            .unwrap_or_else(|| panic!("case {:?} has no {field}", self.0.get("case")))
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        let digits = self.text(field).as_bytes().as_chunks::<2>();
        assert!(digits.1.is_empty(), "half a byte in {field}");
        digits
            .0
            .iter()
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn array<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes(field)
            .try_into()
            .unwrap_or_else(|_| panic!("{field} has not {N} bytes"))
    }
}

/// The sections of a file of answers.
fn sections(text: &str) -> BTreeMap<&str, Vec<Case>> {
    let mut found: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
    let mut section = "";
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (name, value) = line.split_once(" =").unwrap();
        let cases = found.entry(section).or_default();
        if name == "case" {
            cases.push(Case(BTreeMap::new()));
        }
        let case = cases.last_mut().unwrap();
        case.0.insert(name.to_owned(), value.trim().to_owned());
    }
    found
}

/// The cases of a section, which has so many.
fn cases<'a>(sections: &'a BTreeMap<&str, Vec<Case>>, name: &str, wanted: usize) -> &'a [Case] {
    let cases = &sections[name];
    assert_eq!(cases.len(), wanted, "cases of {name}");
    cases
}

#[test]
fn aes_256_gcm() {
    let sections = sections(include_str!("known_answers/aes-256-gcm.txt"));
    let (mut good, mut bad) = (0, 0);
    for case in sections.values().flatten() {
        let sealed = [case.bytes("ciphertext"), case.bytes("tag")].concat();
        for path in [Path::Bulk, Path::Portable] {
            let cipher = Cipher::on(path, &Secret::new(case.array("key")));
            let (nonce, aad) = (case.array("nonce"), case.bytes("aad"));
            let mut buffer = sealed.clone();
            let opened = cipher.open(&nonce, &aad, &mut buffer);
            if !case.has("plaintext") {
                bad += 1;
                assert!(opened.is_err(), "{:?}", case.0);
                continue;
            }
            good += 1;
            opened.unwrap();
            assert_eq!(&buffer[..sealed.len() - 16], case.bytes("plaintext"));
            cipher.seal(&nonce, &aad, &mut buffer);
            assert_eq!(buffer, sealed);
        }
    }
    assert_eq!((good, bad), (50, 50));
}

#[test]
fn ml_kem_768() {
    let sections = sections(include_str!("known_answers/ml-kem-768.txt"));
    for case in cases(&sections, "key-generation", 5) {
        let seed: [u8; 64] = [case.bytes("d"), case.bytes("z")].concat().try_into().unwrap();
        let key = DecapsulationKey768::from_seed(seed.into());
        assert_eq!(
            key.encapsulation_key().to_bytes().as_slice(),
            case.bytes("ek"),
            "{}",
            case.text("case")
        );
    }
    for case in cases(&sections, "encapsulation", 5) {
        let key = EncapsulationKey768::new(&case.array::<1184>("ek").into()).unwrap();
        let (ciphertext, secret) = key.encapsulate_deterministic(&case.array::<32>("m").into());
        assert_eq!(ciphertext.as_slice(), case.bytes("c"), "{}", case.text("case"));
        assert_eq!(secret.as_slice(), case.bytes("k"), "{}", case.text("case"));
    }
    let [key, cases @ ..] = cases(&sections, "decapsulation", 11) else {
        panic!("the key stands first");
    };
    #[expect(deprecated, reason = "NIST gives the expanded key only; ours are seeds")]
    let key = DecapsulationKey768::from_expanded(&key.array::<2400>("dk").into()).unwrap();
    // A ciphertext that was modified gives the secret of implicit rejection, which NIST computed too.
    for case in cases {
        let secret = key.decapsulate(&case.array::<1088>("c").into());
        assert_eq!(secret.as_slice(), case.bytes("k"), "{}", case.text("case"));
    }
}

#[test]
fn x_wing() {
    let sections = sections(include_str!("known_answers/x-wing.txt"));
    let all = cases(&sections, "draft", 3).iter().chain(cases(&sections, "hpke", 2));
    for case in all {
        let ours = RecoveryIdentity::from_seed(Secret::new(case.array("seed")));
        assert_eq!(&ours.public().as_bytes()[..], case.bytes("pk"), "{}", case.text("case"));
        let key = x_wing::DecapsulationKey::from(case.array::<32>("seed"));
        let secret = key.decapsulate(&case.array::<1120>("ct").into());
        assert_eq!(secret.as_slice(), case.bytes("ss"), "{}", case.text("case"));
        if case.has("eseed") {
            let (ciphertext, secret) = key
                .encapsulation_key()
                .encapsulate_deterministic(&case.array::<64>("eseed").into());
            assert_eq!(ciphertext.as_slice(), case.bytes("ct"), "{}", case.text("case"));
            assert_eq!(secret.as_slice(), case.bytes("ss"), "{}", case.text("case"));
        }
    }
}

/// The key schedule and the AEAD of our envelopes, beneath another KEM: no published case has X-Wing and AES-256-GCM.
#[test]
fn hpke_in_base_mode() {
    let sections = sections(include_str!("known_answers/hpke.txt"));
    let [key, cases @ ..] = cases(&sections, "base", 7) else {
        panic!("the key stands first");
    };
    type Kem = X25519HkdfSha256;
    let secret = <Kem as hpke::Kem>::PrivateKey::from_bytes(&key.bytes("secret")).unwrap();
    let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&key.bytes("enc")).unwrap();
    let mut context =
        hpke::setup_receiver::<AesGcm256, HkdfSha256, Kem>(&OpModeR::Base, &secret, &enc, &key.bytes("info")).unwrap();
    for case in cases {
        let opened = context.open(&case.bytes("ct"), &case.bytes("aad")).unwrap();
        assert_eq!(opened, case.bytes("pt"), "{}", case.text("case"));
    }
}

#[test]
fn ml_dsa_65() {
    let sections = sections(include_str!("known_answers/ml-dsa-65.txt"));
    for case in cases(&sections, "key-generation", 5) {
        let seeds: [u8; 64] = [vec![7; 32], case.bytes("seed")].concat().try_into().unwrap();
        let ours = SigningKey::from_seeds(Secret::new(seeds));
        assert_eq!(
            &ours.public().as_bytes()[32..],
            case.bytes("pk"),
            "{}",
            case.text("case")
        );
    }
    for case in cases(&sections, "signature-generation", 4) {
        let encoded = ml_dsa::ExpandedSigningKeyBytes::<MlDsa65>::try_from(case.bytes("sk").as_slice()).unwrap();
        #[expect(deprecated, reason = "NIST gives the expanded key only; ours are seeds")]
        let key = ExpandedSigningKey::<MlDsa65>::from_expanded(&encoded);
        let message = case.bytes("message");
        let signature = key.sign_internal(&[&message], &case.array::<32>("rnd").into());
        assert_eq!(
            signature.encode().as_slice(),
            case.bytes("signature"),
            "{}",
            case.text("case")
        );
        assert!(key.verifying_key().verify_internal(&message, &signature));
    }
    let [key, verified @ ..] = cases(&sections, "signature-verification", 16) else {
        panic!("the key stands first");
    };
    let key = verifying_key(&key.bytes("pk"));
    let mut passed = 0;
    for case in verified {
        let good =
            signature(&case.bytes("signature")).is_some_and(|it| key.verify_internal(&case.bytes("message"), &it));
        assert_eq!(good, case.text("passed") == "true", "{}", case.text("case"));
        passed += usize::from(good);
    }
    assert!((1..verified.len()).contains(&passed), "{passed}");
    for case in cases(&sections, "with-context", 3) {
        let key = ml_dsa::SigningKey::<MlDsa65>::from_seed(&case.array::<32>("seed").into());
        let (message, context) = (case.bytes("message"), case.bytes("context"));
        let signed = key.expanded_key().sign_deterministic(&message, &context).unwrap();
        assert_eq!(
            signed.encode().as_slice(),
            case.bytes("signature"),
            "{}",
            case.text("case")
        );
        let key = verifying_key(&case.bytes("pk"));
        assert!(key.verify_with_context(&message, &context, &signed));
        assert!(
            !key.verify_with_context(&message, b"", &signed),
            "a context is part of what is signed"
        );
    }
}

fn verifying_key(bytes: &[u8]) -> ml_dsa::VerifyingKey<MlDsa65> {
    ml_dsa::VerifyingKey::decode(&ml_dsa::EncodedVerifyingKey::<MlDsa65>::try_from(bytes).unwrap())
}

fn signature(bytes: &[u8]) -> Option<ml_dsa::Signature<MlDsa65>> {
    let encoded = ml_dsa::EncodedSignature::<MlDsa65>::try_from(bytes).ok()?;
    ml_dsa::Signature::decode(&encoded)
}

#[test]
fn hashes_and_curves() {
    let sections = sections(include_str!("known_answers/hashes-and-curves.txt"));
    for case in cases(&sections, "sha-256", 17) {
        assert_eq!(
            sha2::Sha256::digest(case.bytes("message")).as_slice(),
            case.bytes("digest")
        );
    }
    for case in cases(&sections, "hmac-sha-256", 6) {
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&case.bytes("key")).unwrap();
        mac.update(&case.bytes("message"));
        // One of the cases is cut to 128 bits.
        assert!(mac.finalize().into_bytes().starts_with(&case.bytes("digest")));
    }
    for case in cases(&sections, "hkdf-sha-256", 3) {
        let (prk, kdf) = hkdf::Hkdf::<sha2::Sha256>::extract(Some(&case.bytes("salt")), &case.bytes("ikm"));
        assert_eq!(prk.as_slice(), case.bytes("prk"));
        let mut derived = vec![0; case.bytes("okm").len()];
        kdf.expand(&case.bytes("info"), &mut derived).unwrap();
        assert_eq!(derived, case.bytes("okm"));
    }
    for case in cases(&sections, "x25519", 3) {
        let out = x25519_dalek::x25519(case.array("scalar"), case.array("u"));
        assert_eq!(out.as_slice(), case.bytes("out"));
    }
    for case in cases(&sections, "ed25519", 4) {
        let seeds: [u8; 64] = [case.bytes("seed"), vec![7; 32]].concat().try_into().unwrap();
        let ours = SigningKey::from_seeds(Secret::new(seeds));
        assert_eq!(&ours.public().as_bytes()[..32], case.bytes("public"));
        let key = ed25519_dalek::SigningKey::from_bytes(&case.array("seed"));
        let message = case.bytes("message");
        let signed = key.sign(&message);
        assert_eq!(signed.to_bytes().as_slice(), case.bytes("signature"));
        key.verifying_key().verify_strict(&message, &signed).unwrap();
    }
}
