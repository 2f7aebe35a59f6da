//! What a witness cosigns with: an Ed25519 key (RFC 8032) and an ML-DSA-44 key (FIPS 204), each from a seed of its own.
//!
//! What is signed, and how a signature is written, is C2SP's tlog-cosignature; here are keys and arithmetic. The two
//! halves sign different messages, as that page has it, so a pair isn't a [`crate::SigningKey`]. The name belongs to the
//! key: it is part of every line that the key signs, so the key's file keeps it.

use ed25519_dalek::Signer as _;
use exclave_model::{
    KeyId, Witness,
    charter::{ED25519_KEY_BYTES, ML_DSA_44_KEY_BYTES, MlDsa44Key, is_note_name},
};
use ml_dsa::{KeyExport as _, Keypair as _, MlDsa44};
use zeroize::Zeroizing;

use crate::{
    entropy::{Drawn, Entropy, NoEntropy, draw},
    key_file::{KeyFile, KeyFileError, KeyKind},
    secret::Secret,
    signing::SignError,
};

/// Bytes of an ML-DSA-44 signature (FIPS 204, table 2).
pub const ML_DSA_44_SIGNATURE_BYTES: usize = 2420;
/// Bytes of a cosigning key's secret: both seeds.
pub const COSIGNING_SECRET_BYTES: usize = 64;
/// Bytes of its public half in a key file: Ed25519, then ML-DSA-44.
pub const COSIGNING_PUBLIC_BYTES: usize = ED25519_KEY_BYTES + ML_DSA_44_KEY_BYTES;

/// The public half of a cosigning key, with the key's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigner {
    /// The name in signed notes.
    pub name: String,
    /// The Ed25519 half.
    pub ed25519: [u8; ED25519_KEY_BYTES],
    /// The ML-DSA-44 half.
    pub ml_dsa: MlDsa44Key,
}

impl Cosigner {
    /// As a charter names it.
    pub fn witness(self, nation: String) -> Witness {
        Witness {
            name: self.name,
            nation,
            ed25519: self.ed25519,
            ml_dsa: Some(self.ml_dsa),
        }
    }

    /// The key's id, as charters count it.
    pub fn id(&self) -> KeyId {
        self.clone().witness(String::new()).id()
    }
}

/// A cosigning key.
pub struct CosigningKey {
    seeds: Secret<COSIGNING_SECRET_BYTES>,
    ed25519: ed25519_dalek::SigningKey,
    ml_dsa: Box<ml_dsa::SigningKey<MlDsa44>>,
    public: Cosigner,
}

impl CosigningKey {
    /// Draws a new key of this name; `None` when no note could carry it.
    pub fn generate(name: &str, entropy: &mut dyn Entropy) -> Result<Option<Self>, NoEntropy> {
        match is_note_name(name) {
            true => Ok(Some(Self::from_seeds(name.to_owned(), Secret::new(draw(entropy)?)))),
            false => Ok(None),
        }
    }

    /// The key of two seeds: Ed25519, then ML-DSA-44.
    pub fn from_seeds(name: String, seeds: Secret<COSIGNING_SECRET_BYTES>) -> Self {
        let (mut first, mut second) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        first.copy_from_slice(&seeds.expose()[..32]);
        second.copy_from_slice(&seeds.expose()[32..]);
        let ed25519 = ed25519_dalek::SigningKey::from_bytes(&first);
        let ml_dsa = Box::new(ml_dsa::SigningKey::<MlDsa44>::from_seed(&(*second).into()));
        let public = Cosigner {
            name,
            ed25519: ed25519.verifying_key().to_bytes(),
            ml_dsa: MlDsa44Key::from_bytes(ml_dsa.verifying_key().to_bytes().into()),
        };
        Self {
            seeds,
            ed25519,
            ml_dsa,
            public,
        }
    }

    /// The public half.
    pub fn public(&self) -> &Cosigner {
        &self.public
    }

    /// Signs with the Ed25519 half.
    pub fn sign_ed25519(&self, message: &[u8]) -> [u8; 64] {
        self.ed25519.sign(message).to_bytes()
    }

    /// Signs with the ML-DSA-44 half: hedged, pure, with an empty context.
    pub fn sign_ml_dsa(
        &self,
        message: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Box<[u8; ML_DSA_44_SIGNATURE_BYTES]>, SignError> {
        let signature = self
            .ml_dsa
            .expanded_key()
            .sign_randomized(message, b"", &mut Drawn::from(entropy)?)
            .map_err(|_| SignError::MlDsa)?
            .encode();
        Ok(Box::new(<[u8; ML_DSA_44_SIGNATURE_BYTES]>::from(signature)))
    }
}

/// True when the signature is that key's over the message. Strict: no small-order or non-canonical points.
pub fn verify_ed25519(key: &[u8; ED25519_KEY_BYTES], message: &[u8], signature: &[u8; 64]) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(key).is_ok_and(|key| {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        key.verify_strict(message, &signature).is_ok()
    })
}

/// True when the signature is that key's over the message, pure and with an empty context.
pub fn verify_ml_dsa_44(key: &MlDsa44Key, message: &[u8], signature: &[u8; ML_DSA_44_SIGNATURE_BYTES]) -> bool {
    let Ok(key) = ml_dsa::EncodedVerifyingKey::<MlDsa44>::try_from(&key.as_bytes()[..]) else {
        return false;
    };
    let Ok(encoded) = ml_dsa::EncodedSignature::<MlDsa44>::try_from(&signature[..]) else {
        return false;
    };
    ml_dsa::Signature::<MlDsa44>::decode(&encoded).is_some_and(|signature| {
        ml_dsa::VerifyingKey::<MlDsa44>::decode(&key).verify_with_context(message, b"", &signature)
    })
}

impl KeyFile {
    /// A file for a witness's key, which lies open: the service starts unattended.
    pub fn for_witness(key: &CosigningKey) -> Self {
        let public = [&key.public.ed25519[..], &key.public.ml_dsa.as_bytes()[..]].concat();
        Self::open_witness_file(key.public.name.clone(), public, key.seeds.expose())
    }

    /// The public half of a witness's key.
    pub fn cosigner(&self) -> Result<Cosigner, KeyFileError> {
        self.expect(KeyKind::Witness)?;
        let (ed25519, ml_dsa) = self
            .public()
            .split_first_chunk::<ED25519_KEY_BYTES>()
            .ok_or(KeyFileError::Mismatch)?;
        Ok(Cosigner {
            name: self.name().ok_or(KeyFileError::Mismatch)?.to_owned(),
            ed25519: *ed25519,
            ml_dsa: MlDsa44Key::from_bytes(ml_dsa.try_into().map_err(|_| KeyFileError::Mismatch)?),
        })
    }

    /// Opens a witness's key.
    pub fn open_cosigning(&self) -> Result<CosigningKey, KeyFileError> {
        let public = self.cosigner()?;
        let key = CosigningKey::from_seeds(public.name.clone(), self.secret(None)?);
        match key.public == public {
            true => Ok(key),
            false => Err(KeyFileError::Mismatch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    fn key() -> CosigningKey {
        CosigningKey::generate("lu.example/w", &mut SeededEntropy::new(31))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn each_half_verifies_what_it_signed_and_nothing_else() {
        let key = key();
        let (ed25519, ml_dsa) = (
            key.sign_ed25519(b"now"),
            key.sign_ml_dsa(b"now", &mut SeededEntropy::new(32)).unwrap(),
        );
        let public = key.public();
        assert!(verify_ed25519(&public.ed25519, b"now", &ed25519));
        assert!(verify_ml_dsa_44(&public.ml_dsa, b"now", &ml_dsa));
        assert!(!verify_ed25519(&public.ed25519, b"then", &ed25519));
        assert!(!verify_ml_dsa_44(&public.ml_dsa, b"then", &ml_dsa));
        let mut bad = ml_dsa.clone();
        bad[100] ^= 1;
        assert!(!verify_ml_dsa_44(&public.ml_dsa, b"now", &bad));
        assert!(!verify_ed25519(&[0xff; 32], b"now", &ed25519));
    }

    #[test]
    fn a_key_survives_its_file() {
        let key = key();
        let file = KeyFile::for_witness(&key);
        let text = file.to_text().unwrap();
        let read = KeyFile::parse(&text).unwrap();
        assert_eq!(read.cosigner().unwrap(), *key.public());
        assert_eq!(read.open_cosigning().unwrap().public(), key.public());
        let public = KeyFile::parse(&read.public_part().to_text().unwrap()).unwrap();
        assert_eq!(public.cosigner().unwrap(), *key.public());
        assert!(matches!(public.open_cosigning(), Err(KeyFileError::PublicOnly)));
        assert!(matches!(read.public_key(), Err(KeyFileError::Kind { .. })));
        for (from, to) in [
            ("name = \"lu.example/w\"\n", ""),
            ("name = \"lu.example/w\"", "name = \"lu example\""),
            ("kind = \"witness\"", "kind = \"writer\""),
        ] {
            assert_ne!(text.replace(from, to), *text, "{from}");
            assert!(
                matches!(KeyFile::parse(&text.replace(from, to)), Err(KeyFileError::Malformed(_))),
                "{to}"
            );
        }
        let digit = text.find("secret = \"").unwrap() + "secret = \"".len();
        let mut other = text.to_string();
        let changed = if text[digit..].starts_with('0') { "1" } else { "0" };
        other.replace_range(digit..=digit, changed);
        let opened = KeyFile::parse(&other).unwrap().open_cosigning();
        assert!(matches!(opened, Err(KeyFileError::Mismatch)));
    }

    #[test]
    fn a_name_that_no_note_carries_names_no_key() {
        for name in ["", "a b", "a+b", "ä"] {
            assert!(
                CosigningKey::generate(name, &mut SeededEntropy::new(33))
                    .unwrap()
                    .is_none()
            );
        }
    }
}
