//! Signatures: Ed25519 (RFC 8032) *and* ML-DSA-65 (FIPS 204), always both.
//!
//! A signature stays convincing if either scheme falls: to forge one, both must be broken. Ed25519 is verified strictly.
//! ML-DSA signs hedged (fresh randomness), pure, with an empty context.
//!
//! The Ed25519 half may lie in a token ([`crate::token`]): then the token signs, and its signature is verified before it is
//! used. The ML-DSA half is a seed here until tokens have that scheme.

use std::collections::BTreeSet;

use ed25519_dalek::Signer as _;
use ml_dsa::{KeyExport as _, Keypair as _, MlDsa65};
use zeroize::Zeroizing;

use exclave_model::{
    Anchor, Charter, Charters, DsseEnvelope, KeyId, PublicKey, Record, RecordError, Rule, Signature, SignedObject,
    SignedRecord, signed::ML_DSA_65_SIGNATURE_BYTES,
};

use crate::{
    entropy::{Drawn, Entropy, NoEntropy, draw},
    secret::Secret,
    token::{Ed25519Signer, TokenKey, TokenTrouble},
};

/// Bytes of a signing key's secret: both seeds.
pub const SIGNING_SECRET_BYTES: usize = 64;
/// Bytes of its ML-DSA-65 seed alone, when the other half lies in a token.
pub(crate) const ML_DSA_SECRET_BYTES: usize = 32;

/// A signing key: an Ed25519 key and an ML-DSA-65 seed, used together.
pub struct SigningKey {
    classical: Classical,
    ml_dsa: Box<ml_dsa::SigningKey<MlDsa65>>,
    public: PublicKey,
}

/// Where the Ed25519 half is.
enum Classical {
    /// Here, with both seeds.
    Here {
        seeds: Secret<SIGNING_SECRET_BYTES>,
        key: ed25519_dalek::SigningKey,
    },
    /// In a token; the seed is that of ML-DSA-65.
    Token {
        seed: Secret<ML_DSA_SECRET_BYTES>,
        key: TokenKey,
        signer: Box<dyn Ed25519Signer>,
    },
}

/// What a key file keeps of a signing key.
pub(crate) enum Kept<'a> {
    /// Both seeds.
    Both(&'a Secret<SIGNING_SECRET_BYTES>),
    /// The ML-DSA-65 seed: the other half lies in a token.
    MlDsa(&'a Secret<ML_DSA_SECRET_BYTES>),
}

/// Why a signed record is not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Not a record of the kind.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Not the charter that the anchor names.
    #[error("the charter's hash is not the anchor")]
    Anchor,
    /// A version that can't follow the one before.
    #[error("the charter breaks the law of succession: {0}")]
    Succession(Rule),
    /// More than one signature where exactly one belongs.
    #[error("{0} signatures where one belongs")]
    NotOne(usize),
    /// Fewer of the expected keys signed than must.
    #[error("{valid} of {needed} signatures needed")]
    Missing {
        /// Valid signatures of expected keys.
        valid: usize,
        /// How many must sign.
        needed: usize,
    },
    /// Signed by a key that has no say here.
    #[error("signed by key {0}, which has no say here")]
    Stranger(KeyId),
    /// One of the two halves does not verify.
    #[error("the {half} signature of key {key} does not verify")]
    Bad {
        /// Whose signature.
        key: KeyId,
        /// Which half.
        half: &'static str,
    },
}

impl SigningKey {
    /// Draws a new key.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, NoEntropy> {
        Ok(Self::from_seeds(Secret::new(draw(entropy)?)))
    }

    /// The key of two seeds: Ed25519, then ML-DSA-65.
    pub fn from_seeds(seeds: Secret<SIGNING_SECRET_BYTES>) -> Self {
        let (mut first, mut second) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        first.copy_from_slice(&seeds.expose()[..32]);
        second.copy_from_slice(&seeds.expose()[32..]);
        let key = ed25519_dalek::SigningKey::from_bytes(&first);
        let public = key.verifying_key().to_bytes();
        Self::of(Classical::Here { seeds, key }, &public, &second)
    }

    /// Draws a key whose Ed25519 half, with this public key, lies in a token.
    pub fn generate_beside(
        key: TokenKey,
        public: &[u8; 32],
        signer: Box<dyn Ed25519Signer>,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, NoEntropy> {
        Ok(Self::from_token(key, public, signer, Secret::new(draw(entropy)?)))
    }

    /// The key of an Ed25519 half in a token, and an ML-DSA-65 seed.
    pub(crate) fn from_token(
        key: TokenKey,
        public: &[u8; 32],
        signer: Box<dyn Ed25519Signer>,
        seed: Secret<ML_DSA_SECRET_BYTES>,
    ) -> Self {
        let copy = Zeroizing::new(*seed.expose());
        Self::of(Classical::Token { seed, key, signer }, public, &copy)
    }

    fn of(classical: Classical, ed25519: &[u8; 32], ml_dsa_seed: &[u8; 32]) -> Self {
        let ml_dsa = Box::new(ml_dsa::SigningKey::<MlDsa65>::from_seed(&(*ml_dsa_seed).into()));
        let mut public = [0; exclave_model::signed::PUBLIC_KEY_BYTES];
        public[..32].copy_from_slice(ed25519);
        public[32..].copy_from_slice(&ml_dsa.verifying_key().to_bytes());
        Self {
            classical,
            ml_dsa,
            public: PublicKey::from_bytes(public),
        }
    }

    /// What a key file keeps.
    pub(crate) fn kept(&self) -> Kept<'_> {
        match &self.classical {
            Classical::Here { seeds, .. } => Kept::Both(seeds),
            Classical::Token { seed, .. } => Kept::MlDsa(seed),
        }
    }

    /// Where the Ed25519 half lies, when that is a token.
    pub fn token(&self) -> Option<&TokenKey> {
        match &self.classical {
            Classical::Here { .. } => None,
            Classical::Token { key, .. } => Some(key),
        }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// Signs once for nobody, and verifies: that a new key, perhaps in a token, does what it is for.
    pub fn try_out(&self, entropy: &mut dyn Entropy) -> Result<(), SignError> {
        let message = b"exclave: a new key is tried out";
        let ml_dsa = self
            .ml_dsa
            .expanded_key()
            .sign_randomized(message, b"", &mut Drawn::from(entropy)?)
            .map_err(|_| SignError::MlDsa)?;
        if !self.ml_dsa.verifying_key().verify_with_context(message, b"", &ml_dsa) {
            return Err(SignError::MlDsa);
        }
        self.sign_classically(message).map(|_| ())
    }

    /// Signs a record and returns the object to store.
    pub fn sign<R: SignedRecord>(&self, record: &R, entropy: &mut dyn Entropy) -> Result<SignedObject, SignError> {
        let bytes = record.to_bytes()?;
        let signature = self.sign_bytes::<R>(&bytes, entropy)?;
        Ok(SignedObject::new(bytes, vec![signature]))
    }

    /// Adds this key's signature to an object of `R`'s type; one that it signed already is signed anew.
    pub fn cosign<R: SignedRecord>(
        &self,
        object: &SignedObject,
        entropy: &mut dyn Entropy,
    ) -> Result<SignedObject, SignError> {
        R::from_bytes(object.record_bytes())?;
        let mut signatures = object.signatures().to_vec();
        signatures.retain(|signature| signature.key != self.id());
        signatures.push(self.sign_bytes::<R>(object.record_bytes(), entropy)?);
        Ok(SignedObject::new(object.record_bytes().to_vec(), signatures))
    }

    /// Signs a payload of a type and returns the envelope: what an auditor's report goes out in.
    pub fn sign_dsse(
        &self,
        payload_type: &str,
        payload: Vec<u8>,
        entropy: &mut dyn Entropy,
    ) -> Result<DsseEnvelope, SignError> {
        let mut envelope = DsseEnvelope {
            payload_type: payload_type.to_owned(),
            payload,
            signatures: Vec::new(),
        };
        envelope
            .signatures
            .push(self.sign_message(&envelope.message(), entropy)?);
        Ok(envelope)
    }

    /// Signs the text of a note (C2SP signed-note), with both halves.
    ///
    /// No such text can be another message of ours: records are signed behind a zero byte, which no note may hold, and
    /// reports behind a word that is refused here.
    pub fn sign_note(&self, text: &str, entropy: &mut dyn Entropy) -> Result<Signature, SignError> {
        let control = text.chars().any(|c| c < ' ' && c != '\n');
        if control || !text.ends_with('\n') || text.starts_with("DSSEv1 ") {
            return Err(SignError::NotANote);
        }
        self.sign_message(text.as_bytes(), entropy)
    }

    fn sign_bytes<R: SignedRecord>(&self, record: &[u8], entropy: &mut dyn Entropy) -> Result<Signature, SignError> {
        self.sign_message(&R::message(record), entropy)
    }

    fn sign_message(&self, message: &[u8], entropy: &mut dyn Entropy) -> Result<Signature, SignError> {
        let ml_dsa = self
            .ml_dsa
            .expanded_key()
            .sign_randomized(message, b"", &mut Drawn::from(entropy)?)
            .map_err(|_| SignError::MlDsa)?
            .encode();
        Ok(Signature {
            key: self.id(),
            ed25519: self.sign_classically(message)?,
            ml_dsa: Box::new(<[u8; ML_DSA_65_SIGNATURE_BYTES]>::from(ml_dsa)),
        })
    }
}

impl SigningKey {
    fn sign_classically(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        match &self.classical {
            Classical::Here { key, .. } => Ok(key.sign(message).to_bytes()),
            Classical::Token { signer, key, .. } => {
                let signed = signer.sign(message)?;
                // A faulty token, or one that was exchanged, must not put bad signatures out.
                match verify_ed25519(&self.public, message, &signed) {
                    true => Ok(signed),
                    false => Err(SignError::Faulty(key.label.clone())),
                }
            }
        }
    }
}

/// Of the Ed25519 half of a pair.
fn verify_ed25519(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
    let key = key.as_bytes().first_chunk::<32>();
    key.is_some_and(|key| crate::cosigning::verify_ed25519(key, message, signature))
}

/// Why a record was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It breaks its own law.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// No randomness for the hedge.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The token did not sign.
    #[error(transparent)]
    Token(#[from] TokenTrouble),
    /// It signed, and wrongly.
    #[error("what token {0:?} signed does not verify: the token is faulty, or its key is another")]
    Faulty(String),
    /// What was to be signed as a note is no note's text.
    #[error("a text with control characters, or that does not end in a newline, is not signed as a note")]
    NotANote,
    /// The scheme refused, which FIPS 204 allows with negligible probability.
    #[error("ML-DSA refused to sign")]
    MlDsa,
}

/// Verifies a record that carries exactly one signature, by `key`.
pub fn verify_one<R: SignedRecord>(object: &SignedObject, key: &PublicKey) -> Result<R, VerifyError> {
    verify_one_of(object, [key]).map(|(record, _)| record)
}

/// Verifies a record that carries exactly one signature, by one of `keys`; says whose.
pub fn verify_one_of<'k, R: SignedRecord>(
    object: &SignedObject,
    keys: impl IntoIterator<Item = &'k PublicKey>,
) -> Result<(R, KeyId), VerifyError> {
    let signer = signer_of::<R>(object, keys)?;
    Ok((R::from_bytes(object.record_bytes())?, signer))
}

/// Whose the one signature is that an object of `R`'s type carries. The record itself is not read.
pub fn signer_of<'k, R: SignedRecord>(
    object: &SignedObject,
    keys: impl IntoIterator<Item = &'k PublicKey>,
) -> Result<KeyId, VerifyError> {
    let [signature] = object.signatures() else {
        return Err(VerifyError::NotOne(object.signatures().len()));
    };
    verify_signature::<R>(object, signature, keys)?;
    Ok(signature.key)
}

/// Verifies a record that at least `needed` of `keys` signed, and no one else.
pub fn verify_threshold<R: SignedRecord>(
    object: &SignedObject,
    keys: &[PublicKey],
    needed: usize,
) -> Result<R, VerifyError> {
    for signature in object.signatures() {
        verify_signature::<R>(object, signature, keys)?;
    }
    let signers: BTreeSet<_> = object.signatures().iter().map(|signature| signature.key).collect();
    let valid = signers.len();
    if valid < needed.max(1) {
        return Err(VerifyError::Missing { valid, needed });
    }
    Ok(R::from_bytes(object.record_bytes())?)
}

/// Verifies charter version 1: its hash is the anchor that the caller brought along, and its own roots signed it.
pub fn verify_charter(object: &SignedObject, anchor: Anchor) -> Result<Charters, VerifyError> {
    if object.record_hash().as_bytes() != anchor.as_bytes() {
        return Err(VerifyError::Anchor);
    }
    // The hash is the anchor, so the roots in it are the ones the owner meant; now they must have signed.
    let roots = Charter::from_bytes(object.record_bytes())?.roots;
    let charter = verify_threshold(object, &roots.keys, roots.threshold as usize)?;
    Charters::begin(charter, anchor).map_err(VerifyError::Succession)
}

/// Verifies the next version of a charter: it follows by the law of succession, and enough roots signed it, of the
/// version before and of its own.
pub fn verify_next_charter(object: &SignedObject, charters: &Charters) -> Result<Charter, VerifyError> {
    let (next, signers) = charter_signers(object, charters)?;
    for roots in [&charters.newest().roots, &next.roots] {
        let valid = roots.keys.iter().filter(|key| signers.contains(&key.id())).count();
        let needed = roots.threshold as usize;
        if valid < needed {
            return Err(VerifyError::Missing { valid, needed });
        }
    }
    Ok(next)
}

/// The next version of a charter and who has signed it so far, perhaps too few. All signatures are those of roots, of the
/// version before or of its own, and verify.
pub fn charter_signers(object: &SignedObject, charters: &Charters) -> Result<(Charter, BTreeSet<KeyId>), VerifyError> {
    let next = Charter::from_bytes(object.record_bytes())?;
    charters.check_next(&next).map_err(VerifyError::Succession)?;
    let keys: Vec<&PublicKey> = charters.newest().roots.keys.iter().chain(&next.roots.keys).collect();
    for signature in object.signatures() {
        verify_signature::<Charter>(object, signature, keys.iter().copied())?;
    }
    let signers = object.signatures().iter().map(|signature| signature.key).collect();
    Ok((next, signers))
}

fn verify_signature<'k, R: SignedRecord>(
    object: &SignedObject,
    signature: &Signature,
    keys: impl IntoIterator<Item = &'k PublicKey>,
) -> Result<(), VerifyError> {
    verify_message(&R::message(object.record_bytes()), signature, keys)
}

/// Verifies an envelope that exactly one of `keys` signed; says which.
pub fn verify_dsse<'k>(
    envelope: &DsseEnvelope,
    keys: impl IntoIterator<Item = &'k PublicKey>,
) -> Result<KeyId, VerifyError> {
    let [signature] = envelope.signatures.as_slice() else {
        return Err(VerifyError::NotOne(envelope.signatures.len()));
    };
    verify_message(&envelope.message(), signature, keys)?;
    Ok(signature.key)
}

/// Verifies both halves of a signature over the text of a note.
pub fn verify_note(text: &str, signature: &Signature, key: &PublicKey) -> Result<(), VerifyError> {
    verify_message(text.as_bytes(), signature, [key])
}

fn verify_message<'k>(
    message: &[u8],
    signature: &Signature,
    keys: impl IntoIterator<Item = &'k PublicKey>,
) -> Result<(), VerifyError> {
    let id = signature.key;
    let key = keys
        .into_iter()
        .find(|key| key.id() == id)
        .ok_or(VerifyError::Stranger(id))?;
    let bad = |half| VerifyError::Bad { key: id, half };
    if !verify_ed25519(key, message, &signature.ed25519) {
        return Err(bad("Ed25519"));
    }
    let ml_dsa_key = &key.as_bytes()[32..];
    let encoded_key = ml_dsa::EncodedVerifyingKey::<MlDsa65>::try_from(ml_dsa_key).map_err(|_| bad("ML-DSA-65"))?;
    let encoded = ml_dsa::EncodedSignature::<MlDsa65>::try_from(&signature.ml_dsa[..]).map_err(|_| bad("ML-DSA-65"))?;
    let ml_dsa = ml_dsa::Signature::<MlDsa65>::decode(&encoded).ok_or(bad("ML-DSA-65"))?;
    if !ml_dsa::VerifyingKey::<MlDsa65>::decode(&encoded_key).verify_with_context(message, b"", &ml_dsa) {
        return Err(bad("ML-DSA-65"));
    }
    Ok(())
}

/// Reads and verifies, in one step, an object that exactly `key` signed.
pub fn read_one<R: SignedRecord>(bytes: &[u8], bytes_max: usize, key: &PublicKey) -> Result<R, VerifyError> {
    verify_one(&SignedObject::from_bytes(bytes, bytes_max)?, key)
}

#[cfg(test)]
mod tests {
    use exclave_model::{Close, Incarnation, RunId, SitePlate, Version1};

    use super::*;
    use crate::entropy::SeededEntropy;

    fn close() -> Close {
        Close {
            format: Version1,
            anchor: Anchor::from_bytes([1; 32]),
            run: RunId::from_bytes([2; 16]),
            incarnation: Incarnation::from_bytes([3; 16]),
        }
    }

    #[test]
    fn both_halves_must_verify() {
        let mut entropy = SeededEntropy::new(5);
        let key = SigningKey::generate(&mut entropy).unwrap();
        let other = SigningKey::generate(&mut entropy).unwrap();
        let object = key.sign(&close(), &mut entropy).unwrap();
        assert_eq!(verify_one::<Close>(&object, key.public()).unwrap(), close());
        assert!(matches!(
            verify_one::<Close>(&object, other.public()),
            Err(VerifyError::Stranger(_))
        ));
        assert!(matches!(
            verify_one::<SitePlate>(&object, key.public()),
            Err(VerifyError::Bad { .. })
        ));

        let mut signature = object.signatures()[0].clone();
        signature.ed25519[0] ^= 1;
        let bad = SignedObject::new(object.record_bytes().to_vec(), vec![signature]);
        assert!(matches!(
            verify_one::<Close>(&bad, key.public()),
            Err(VerifyError::Bad { half: "Ed25519", .. })
        ));
        let mut signature = object.signatures()[0].clone();
        signature.ml_dsa[100] ^= 1;
        let bad = SignedObject::new(object.record_bytes().to_vec(), vec![signature]);
        assert!(matches!(
            verify_one::<Close>(&bad, key.public()),
            Err(VerifyError::Bad { half: "ML-DSA-65", .. })
        ));
    }

    /// A token that signs with a key of its own, perhaps wrongly.
    struct Token(ed25519_dalek::SigningKey, u8);

    impl Ed25519Signer for Token {
        fn sign(&self, message: &[u8]) -> Result<[u8; 64], TokenTrouble> {
            let mut signed = self.0.sign(message).to_bytes();
            signed[7] ^= self.1;
            Ok(signed)
        }
    }

    #[test]
    fn a_token_signs_one_half_and_a_faulty_one_signs_nothing() {
        let mut entropy = SeededEntropy::new(7);
        let [ours, other] = [3, 4].map(|byte| ed25519_dalek::SigningKey::from_bytes(&[byte; 32]));
        let mut key = |in_token: &ed25519_dalek::SigningKey, flip| {
            let token = TokenKey {
                label: "safe".to_owned(),
                serial: "1".to_owned(),
                id: vec![1],
            };
            let signer = Box::new(Token(in_token.clone(), flip));
            SigningKey::generate_beside(token, &ours.verifying_key().to_bytes(), signer, &mut entropy).unwrap()
        };
        let (good, faulty, exchanged) = (key(&ours, 0), key(&ours, 1), key(&other, 0));
        let object = good.sign(&close(), &mut SeededEntropy::new(8)).unwrap();
        assert_eq!(verify_one::<Close>(&object, good.public()).unwrap(), close());
        for bad in [faulty, exchanged] {
            let refused = bad.sign(&close(), &mut SeededEntropy::new(8));
            assert!(matches!(refused, Err(SignError::Faulty(label)) if label == "safe"));
        }
    }

    #[test]
    fn an_envelope_is_signed_by_both_halves_and_bound_to_its_type() {
        let mut entropy = SeededEntropy::new(8);
        let key = SigningKey::generate(&mut entropy).unwrap();
        let envelope = key
            .sign_dsse("text/plain", b"all is well".to_vec(), &mut entropy)
            .unwrap();
        assert_eq!(verify_dsse(&envelope, [key.public()]).unwrap(), key.id());
        let change = |change: &dyn Fn(&mut DsseEnvelope)| {
            let mut changed = envelope.clone();
            change(&mut changed);
            verify_dsse(&changed, [key.public()])
        };
        type Change = dyn Fn(&mut DsseEnvelope);
        let changes: [(&str, &Change); 4] = [
            ("Ed25519", &|changed| changed.payload[0] ^= 1),
            ("Ed25519", &|changed| changed.payload_type.push('x')),
            ("Ed25519", &|changed| changed.signatures[0].ed25519[3] ^= 1),
            ("ML-DSA-65", &|changed| changed.signatures[0].ml_dsa[3] ^= 1),
        ];
        for (expected, how) in changes {
            assert!(matches!(change(how), Err(VerifyError::Bad { half, .. }) if half == expected));
        }
        assert!(matches!(
            change(&|changed| changed.signatures.clear()),
            Err(VerifyError::NotOne(0))
        ));
        // A record's signature is none over an envelope of the same bytes.
        let object = key.sign(&close(), &mut entropy).unwrap();
        let other = change(&|changed| {
            changed.payload = object.record_bytes().to_vec();
            changed.signatures = object.signatures().to_vec();
        });
        assert!(matches!(other, Err(VerifyError::Bad { .. })));
    }

    #[test]
    fn notes_are_signed_by_both_halves_and_are_nothing_else() {
        let mut entropy = SeededEntropy::new(9);
        let key = SigningKey::generate(&mut entropy).unwrap();
        let signature = key.sign_note("log\n1\nroot\n", &mut entropy).unwrap();
        verify_note("log\n1\nroot\n", &signature, key.public()).unwrap();
        assert!(verify_note("log\n2\nroot\n", &signature, key.public()).is_err());
        let mut half = signature.clone();
        half.ml_dsa[9] ^= 1;
        assert!(matches!(
            verify_note("log\n1\nroot\n", &half, key.public()),
            Err(VerifyError::Bad { half: "ML-DSA-65", .. })
        ));
        let record = String::from_utf8(Close::message(b"x")).unwrap();
        for text in [record.as_str(), "no end", "DSSEv1 1 a 1 b\n", "a\tb\n"] {
            assert!(
                matches!(key.sign_note(text, &mut entropy), Err(SignError::NotANote)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_threshold_counts_distinct_known_keys() {
        let mut entropy = SeededEntropy::new(6);
        let keys: Vec<_> = (0..3).map(|_| SigningKey::generate(&mut entropy).unwrap()).collect();
        let public: Vec<_> = keys[..2].iter().map(|key| key.public().clone()).collect();
        let record = close().to_bytes().unwrap();
        let mut sign = |key: &SigningKey| key.sign_bytes::<Close>(&record, &mut entropy).unwrap();
        let (first, second, stranger) = (sign(&keys[0]), sign(&keys[1]), sign(&keys[2]));
        let object = |signatures| SignedObject::new(record.clone(), signatures);
        assert!(verify_threshold::<Close>(&object(vec![first.clone(), second]), &public, 2).is_ok());
        let two = object(vec![first.clone(), sign(&keys[1])]);
        assert!(matches!(
            verify_one_of::<Close>(&two, &public),
            Err(VerifyError::NotOne(2))
        ));
        let one = object(vec![first.clone()]);
        assert_eq!(verify_one_of::<Close>(&one, &public).unwrap(), (close(), keys[0].id()));
        assert!(matches!(
            verify_threshold::<Close>(&one, &public, 2),
            Err(VerifyError::Missing { valid: 1, needed: 2 })
        ));
        let strange = object(vec![first, stranger]);
        assert!(matches!(
            verify_threshold::<Close>(&strange, &public, 1),
            Err(VerifyError::Stranger(_))
        ));
    }
}
