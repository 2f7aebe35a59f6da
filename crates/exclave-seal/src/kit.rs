//! Kits: signed by roots, their credentials sealed to the charter's recipients (FORMAT.md section 19).
//!
//! The key of sealed credentials is drawn, committed to and wrapped as a run key is, under an `info` of its own, and seals
//! nothing but these credentials.

use std::collections::BTreeSet;

use exclave_model::{
    Anchor, Charters, KeyId, Kit, PublicKey, RecipientId, RecipientKey, RecordHash, Rule, SealedLogins, SignedObject,
    SignedRecord, Stanza, Version1, charter::Reason,
};
use zeroize::Zeroizing;

use crate::{
    entropy::{Entropy, NoEntropy},
    envelope::{EnvelopeError, RecoveryIdentity, fields, hpke_seal},
    run_key::RunKey,
    sealed_box::{self, BoxError},
    signing::{VerifyError, verify_threshold},
};

/// First part of the `info`.
const INFO: &[u8] = b"exclave kit v1";

/// Why a kit, or a directory, is not believed.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A signature, or the record itself.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// It is another archive's, or refers to a charter that isn't there.
    #[error("{0}")]
    Rule(Rule),
}

/// Why credentials don't open, or can't be sealed.
#[derive(Debug, thiserror::Error)]
pub enum LoginsError {
    /// Their key.
    #[error(transparent)]
    Key(#[from] EnvelopeError),
    /// They themselves.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// A record that roots sign, as many as a charter takes, under the charter that it names.
pub trait OfRoots: SignedRecord {
    /// The archive, and the version and hash of that charter.
    fn place(&self) -> (Anchor, u32, RecordHash);
}

impl OfRoots for Kit {
    fn place(&self) -> (Anchor, u32, RecordHash) {
        (self.anchor, self.charter_version, self.charter)
    }
}

/// A kit's manifest, and whose signatures on it count; perhaps too few.
pub fn kit_signers(object: &SignedObject, charters: &Charters) -> Result<(Kit, BTreeSet<KeyId>), KitError> {
    root_signers(object, charters)
}

/// A kit that as many roots signed as a charter takes.
pub fn verify_kit(object: &SignedObject, charters: &Charters) -> Result<Kit, KitError> {
    verify_of_roots(object, charters)
}

/// A record of roots, and whose signatures on it count: those of roots of the charter that it was made under, whose keys
/// nobody stole since. Perhaps too few.
pub(crate) fn root_signers<R: OfRoots>(
    object: &SignedObject,
    charters: &Charters,
) -> Result<(R, BTreeSet<KeyId>), KitError> {
    let roots: Vec<PublicKey> = charters
        .iter()
        .flat_map(|charter| charter.roots.keys.iter().cloned())
        .collect();
    let record: R = verify_threshold(object, &roots, 1)?;
    let refuse = |kind, text: String| Err(KitError::Rule(Rule::new(kind, text)));
    let (anchor, version, hash) = record.place();
    if anchor != charters.anchor() {
        return refuse("wrong-archive", format!("the {} is another archive's", R::KIND));
    }
    let charter = charters.obeyed(version).map_err(KitError::Rule)?;
    if charters.hash(version) != Some(hash) {
        let text = format!("the {} was made under another charter of that number", R::KIND);
        return refuse("wrong-charter", text);
    }
    let signers: BTreeSet<KeyId> = object.signatures().iter().map(|signature| signature.key).collect();
    let is_root = |key: &&KeyId| charter.roots.keys.iter().any(|root| root.id() == **key);
    if let Some(stranger) = signers.iter().find(|key| !is_root(key)) {
        return Err(VerifyError::Stranger(*stranger).into());
    }
    let stolen = |key: &KeyId| {
        let revocation = charters.newest().revocation(*key);
        revocation.is_some_and(|revocation| revocation.reason == Reason::Compromised)
    };
    Ok((record, signers.into_iter().filter(|key| !stolen(key)).collect()))
}

pub(crate) fn verify_of_roots<R: OfRoots>(object: &SignedObject, charters: &Charters) -> Result<R, KitError> {
    let (record, signers) = root_signers::<R>(object, charters)?;
    let charter = charters.obeyed(record.place().1).map_err(KitError::Rule)?;
    let (valid, needed) = (signers.len(), charter.roots.threshold as usize);
    match valid < needed {
        true => Err(VerifyError::Missing { valid, needed }.into()),
        false => Ok(record),
    }
}

/// Seals credentials to recipients, who are in ascending order of their ids.
pub fn seal_logins(
    anchor: Anchor,
    kit: u32,
    text: &str,
    recipients: &[RecipientKey],
    entropy: &mut dyn Entropy,
) -> Result<SealedLogins, LoginsError> {
    let key = RunKey::generate(entropy)?;
    let mut logins = SealedLogins {
        format: Version1,
        anchor,
        kit,
        commitment: key.commitment(),
        stanzas: Vec::new(),
        sealed: sealed_box::seal_logins(&key, text, entropy)?,
    };
    for recipient in recipients {
        let id = recipient.id();
        let sealed = hpke_seal(recipient, &info(&logins, &id), key.expose(), entropy)?;
        let (enc, ciphertext) = sealed.ok_or(EnvelopeError::BadRecipient(id))?;
        logins.stanzas.push(Stanza {
            recipient: id,
            enc,
            ciphertext,
        });
    }
    Ok(logins)
}

impl RecoveryIdentity {
    /// Opens a kit's credentials.
    pub fn open_logins(&self, logins: &SealedLogins) -> Result<Zeroizing<String>, LoginsError> {
        let us = self.public().id();
        let ours = logins.stanzas.iter().find(|stanza| stanza.recipient == us);
        let ours = ours.ok_or(EnvelopeError::NotForUs(us))?;
        let key = self.open(&ours.enc, &ours.ciphertext, &info(logins, &us), &logins.commitment)?;
        Ok(sealed_box::open_logins(&key, &logins.sealed)?)
    }
}

fn info(logins: &SealedLogins, recipient: &RecipientId) -> Vec<u8> {
    fields(&[
        INFO,
        logins.anchor.as_bytes(),
        &logins.kit.to_be_bytes(),
        recipient.as_bytes(),
        logins.commitment.as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use exclave_model::Record as _;

    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn credentials_open_for_every_recipient_of_this_kit_and_nobody_else() {
        let mut entropy = SeededEntropy::new(31);
        let mut identities = [(); 3].map(|()| RecoveryIdentity::generate(&mut entropy).unwrap());
        identities[..2].sort_by_key(|identity| identity.public().id());
        let recipients: Vec<RecipientKey> = identities[..2].iter().map(|one| one.public().clone()).collect();
        let anchor = Anchor::from_bytes([1; 32]);
        let logins = seal_logins(anchor, 4, "a text", &recipients, &mut entropy).unwrap();
        assert_eq!(SealedLogins::from_bytes(&logins.to_bytes().unwrap()).unwrap(), logins);
        for identity in &identities[..2] {
            assert_eq!(*identity.open_logins(&logins).unwrap(), "a text");
        }
        let stranger = identities[2].open_logins(&logins).unwrap_err();
        assert!(matches!(stranger, LoginsError::Key(EnvelopeError::NotForUs(_))));
        type Change = fn(&mut SealedLogins);
        let changes: [Change; 5] = [
            |logins| logins.kit = 5,
            |logins| logins.anchor = Anchor::from_bytes([2; 32]),
            |logins| logins.commitment = exclave_model::Commitment::from_bytes([0; 32]),
            |logins| logins.sealed[100] ^= 1,
            |logins| logins.stanzas[0].enc[5] ^= 1,
        ];
        for change in changes {
            let mut other = logins.clone();
            change(&mut other);
            assert!(identities[0].open_logins(&other).is_err());
        }
    }
}
