//! A share on its way by wire: sealed to the one-time key of a ceremony's host (FORMAT.md section 17).
//!
//! HPKE as in envelopes, with an `info` of its own. The custodian compares the key's number with what the host shows, by
//! voice: whoever could put his own key in its place would get the share.

use exclave_model::{RecipientId, RecipientKey, hex, unhex};
use serde::{Deserialize, Serialize};

use super::{BadShare, SHARE_BYTES, Share};
use crate::{
    entropy::{Entropy, NoEntropy},
    envelope::{RecoveryIdentity, fields, hpke_seal},
    key_file::{Cost, KEY_FILE_BYTES_MAX, KeyFile, KeyFileError, KeyKind, Passphrase},
    secret::Secret,
};

/// First line of a wrapped share's file.
const FORMAT: &str = "exclave wrapped share v1";
/// First part of the `info`.
const INFO: &[u8] = b"exclave share v1";
/// Bytes of an X-Wing ciphertext.
const ENC_BYTES: usize = 1120;
/// Bytes of a sealed share: 48 and a tag.
const CIPHERTEXT_BYTES: usize = SHARE_BYTES + 16;

/// The one-time key of a ceremony's host. It opens wrapped shares and nothing else.
pub struct CeremonyKey(RecoveryIdentity);

/// A share that only a ceremony's host opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedShare {
    to: RecipientId,
    enc: [u8; ENC_BYTES],
    ciphertext: [u8; CIPHERTEXT_BYTES],
}

/// Why a share can't be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not a wrapped share.
    #[error("not an exclave wrapped share: {0}")]
    Malformed(String),
    /// For another ceremony.
    #[error("it is wrapped for key {0}, not for this ceremony's")]
    NotForUs(RecipientId),
    /// Altered.
    #[error("it does not open: it was altered")]
    Altered,
    /// It opens to something else than a share.
    #[error(transparent)]
    Share(#[from] BadShare),
    /// Not an X-Wing public key.
    #[error("key {0} is not a valid public key")]
    BadKey(RecipientId),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl CeremonyKey {
    /// Draws a key.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, NoEntropy> {
        RecoveryIdentity::generate(entropy).map(Self)
    }

    /// The key of a seed.
    pub fn from_seed(seed: Secret<32>) -> Self {
        Self(RecoveryIdentity::from_seed(seed))
    }

    /// The public half: what custodians wrap to.
    pub fn public(&self) -> &RecipientKey {
        self.0.public()
    }

    /// Opens a share that was wrapped for this key.
    pub fn unwrap(&self, wrapped: &WrappedShare) -> Result<Share, WireError> {
        let us = self.public().id();
        if wrapped.to != us {
            return Err(WireError::NotForUs(wrapped.to));
        }
        let opened = self.0.hpke_open(&wrapped.enc, &wrapped.ciphertext, &info(&us));
        let opened = opened.ok_or(WireError::Altered)?;
        let bytes = <&[u8; SHARE_BYTES]>::try_from(opened.as_slice()).map_err(|_| WireError::Altered)?;
        Ok(Share::from_bytes(bytes)?)
    }
}

impl Share {
    /// Wraps the share for a ceremony's key.
    pub fn wrap(&self, to: &RecipientKey, entropy: &mut dyn Entropy) -> Result<WrappedShare, WireError> {
        let id = to.id();
        let sealed = hpke_seal(to, &info(&id), &self.to_bytes()[..], entropy)?;
        let bad = || WireError::BadKey(id);
        let (enc, ciphertext) = sealed.ok_or_else(bad)?;
        Ok(WrappedShare {
            to: id,
            enc: enc.try_into().map_err(|_| bad())?,
            ciphertext: ciphertext.try_into().map_err(|_| bad())?,
        })
    }
}

fn info(to: &RecipientId) -> Vec<u8> {
    fields(&[INFO, to.as_bytes()])
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: String,
    to: String,
    enc: String,
    ciphertext: String,
}

impl WrappedShare {
    /// True for text that says it is a wrapped share.
    pub fn is_named_in(text: &str) -> bool {
        text.contains(FORMAT)
    }

    /// Reads a wrapped share's file.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        let malformed = |why: &str| WireError::Malformed(why.to_owned());
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let text: Text = toml::from_str(text).map_err(|error| malformed(error.message()))?;
        if text.format != FORMAT {
            return Err(malformed("its format line is unknown"));
        }
        let odd = || malformed("a part of it is not hex, or of another length");
        Ok(Self {
            to: text.to.parse().map_err(|_| odd())?,
            enc: unhex(&text.enc).ok_or_else(odd)?,
            ciphertext: unhex(&text.ciphertext).ok_or_else(odd)?,
        })
    }

    /// The file's text.
    pub fn to_text(&self) -> Result<String, WireError> {
        let text = Text {
            format: FORMAT.to_owned(),
            to: self.to.to_hex(),
            enc: hex(&self.enc),
            ciphertext: hex(&self.ciphertext),
        };
        toml::to_string(&text).map_err(|error| WireError::Malformed(error.to_string()))
    }
}

impl KeyFile {
    /// A file for a ceremony's key.
    pub fn for_ceremony(
        key: &CeremonyKey,
        passphrase: &Passphrase,
        cost: Cost,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, KeyFileError> {
        let public = key.public().as_bytes().to_vec();
        Self::sealed(
            KeyKind::Ceremony,
            public,
            key.0.seed().expose(),
            passphrase,
            cost,
            entropy,
        )
    }

    /// The public half of a ceremony's key: the request that custodians get.
    pub fn ceremony_request(&self) -> Result<RecipientKey, KeyFileError> {
        self.expect(KeyKind::Ceremony)?;
        let bytes = self.public().try_into().map_err(|_| KeyFileError::Mismatch)?;
        Ok(RecipientKey::from_bytes(bytes))
    }

    /// Opens a ceremony's key.
    pub fn open_ceremony(&self, passphrase: Option<&Passphrase>) -> Result<CeremonyKey, KeyFileError> {
        self.expect(KeyKind::Ceremony)?;
        let key = CeremonyKey::from_seed(self.secret(passphrase)?);
        match key.public().as_bytes()[..] == *self.public() {
            true => Ok(key),
            false => Err(KeyFileError::Mismatch),
        }
    }
}

#[cfg(test)]
mod tests {
    use exclave_model::Body;

    use super::*;
    use crate::{
        entropy::SeededEntropy,
        share::{GroupPlan, SplitPlan, split},
    };

    #[test]
    fn only_the_ceremony_it_was_wrapped_for_opens_a_share() {
        let mut entropy = SeededEntropy::new(90);
        let identity = RecoveryIdentity::generate(&mut entropy).unwrap();
        let group = GroupPlan {
            name: "all".to_owned(),
            threshold: 2,
            custodians: vec![("a".to_owned(), Body::Allied), ("b".to_owned(), Body::Allied)],
        };
        let plan = SplitPlan {
            threshold: 1,
            groups: vec![group],
            previous: None,
        };
        let (_, shares) = split(&identity, &plan, &mut entropy).unwrap();
        let [key, other] = [(); 2].map(|()| CeremonyKey::generate(&mut entropy).unwrap());
        let wrapped = shares[1].wrap(key.public(), &mut entropy).unwrap();
        let text = wrapped.to_text().unwrap();
        assert!(WrappedShare::is_named_in(&text));
        let read = WrappedShare::parse(&text).unwrap();
        assert_eq!(read, wrapped);
        assert!(key.unwrap(&read).unwrap().to_bytes() == shares[1].to_bytes());
        assert!(matches!(other.unwrap(&read), Err(WireError::NotForUs(_))));
        for byte in [0, 700, 1119] {
            let mut altered = wrapped.clone();
            altered.enc[byte] ^= 1;
            assert!(matches!(key.unwrap(&altered), Err(WireError::Altered)), "{byte}");
        }
        for byte in [0, 47, 63] {
            let mut altered = wrapped.clone();
            altered.ciphertext[byte] ^= 1;
            assert!(matches!(key.unwrap(&altered), Err(WireError::Altered)), "{byte}");
        }
        let mut redirected = wrapped;
        redirected.to = other.public().id();
        assert!(matches!(other.unwrap(&redirected), Err(WireError::Altered)));
        for (from, to) in [
            ("share v1", "share v2"),
            ("enc = \"", "enc = \"0"),
            ("to = ", "extra = 1\nto = "),
            ("to = \"", "to = \"X"),
        ] {
            assert!(
                matches!(
                    WrappedShare::parse(&text.replace(from, to)),
                    Err(WireError::Malformed(_))
                ),
                "{from}"
            );
        }

        let passphrase = Passphrase::new("one time".to_owned()).unwrap();
        let file = KeyFile::for_ceremony(&key, &passphrase, Cost::TEST, &mut entropy).unwrap();
        let file = KeyFile::parse(&file.to_text().unwrap()).unwrap();
        assert_eq!(file.ceremony_request().unwrap(), *key.public());
        assert!(file.open_recovery(Some(&passphrase)).is_err() && file.open_share(Some(&passphrase)).is_err());
        let opened = file.open_ceremony(Some(&passphrase)).unwrap();
        assert!(opened.unwrap(&read).unwrap().to_bytes() == shares[1].to_bytes());
        let request = KeyFile::parse(&file.public_part().to_text().unwrap()).unwrap();
        assert!(matches!(request.open_ceremony(None), Err(KeyFileError::PublicOnly)));
        assert_eq!(request.ceremony_request().unwrap(), *key.public());
    }
}
