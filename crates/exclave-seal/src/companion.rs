//! The directory of names and contacts: sealed to the recipients that its makers chose, signed by roots (FORMAT.md
//! section 25).
//!
//! Its key is drawn, committed to and wrapped as a run key is, under an `info` of its own, and seals nothing but this text.

use std::collections::BTreeSet;

use exclave_model::{
    Anchor, Charters, Companion, KeyId, RecipientId, RecipientKey, RecordHash, SignedObject, Stanza, Version1,
};
use zeroize::Zeroizing;

use crate::{
    entropy::Entropy,
    envelope::{EnvelopeError, RecoveryIdentity, fields, hpke_seal},
    kit::{KitError, LoginsError, OfRoots, root_signers, verify_of_roots},
    run_key::RunKey,
    sealed_box,
};

/// First part of the `info`.
const INFO: &[u8] = b"exclave names v1";

impl OfRoots for Companion {
    fn place(&self) -> (Anchor, u32, RecordHash) {
        (self.anchor, self.charter_version, self.charter)
    }
}

/// A directory, and whose signatures on it count; perhaps too few.
pub fn companion_signers(object: &SignedObject, charters: &Charters) -> Result<(Companion, BTreeSet<KeyId>), KitError> {
    root_signers(object, charters)
}

/// A directory that as many roots signed as a charter takes.
pub fn verify_companion(object: &SignedObject, charters: &Charters) -> Result<Companion, KitError> {
    verify_of_roots(object, charters)
}

/// What a new directory says of itself, in the open.
#[derive(Debug, Clone, Copy)]
pub struct CompanionPlace {
    /// The archive.
    pub anchor: Anchor,
    /// Its version.
    pub version: u32,
    /// The one before.
    pub previous: Option<RecordHash>,
    /// The charter whose roots sign it.
    pub charter_version: u32,
    /// That charter's hash.
    pub charter: RecordHash,
    /// When it was made: Unix seconds.
    pub created: i64,
}

/// Seals a text to recipients, each once, in whatever order.
pub fn seal_companion(
    place: CompanionPlace,
    text: &str,
    recipients: &[RecipientKey],
    entropy: &mut dyn Entropy,
) -> Result<Companion, LoginsError> {
    let key = RunKey::generate(entropy)?;
    let mut companion = Companion {
        format: Version1,
        anchor: place.anchor,
        version: place.version,
        previous: place.previous,
        charter_version: place.charter_version,
        charter: place.charter,
        created: place.created,
        commitment: key.commitment(),
        stanzas: Vec::new(),
        sealed: sealed_box::seal_names(&key, text, entropy)?,
    };
    for recipient in recipients {
        let id = recipient.id();
        let sealed = hpke_seal(recipient, &info(&companion, &id), key.expose(), entropy)?;
        let (enc, ciphertext) = sealed.ok_or(EnvelopeError::BadRecipient(id))?;
        companion.stanzas.push(Stanza {
            recipient: id,
            enc,
            ciphertext,
        });
    }
    companion.stanzas.sort_by_key(|stanza| stanza.recipient);
    companion.stanzas.dedup_by_key(|stanza| stanza.recipient);
    Ok(companion)
}

impl RecoveryIdentity {
    /// Opens a directory.
    pub fn open_companion(&self, companion: &Companion) -> Result<Zeroizing<String>, LoginsError> {
        let us = self.public().id();
        let ours = companion.stanzas.iter().find(|stanza| stanza.recipient == us);
        let ours = ours.ok_or(EnvelopeError::NotForUs(us))?;
        let info = info(companion, &us);
        let key = self.open(&ours.enc, &ours.ciphertext, &info, &companion.commitment)?;
        Ok(sealed_box::open_names(&key, &companion.sealed)?)
    }
}

fn info(companion: &Companion, recipient: &RecipientId) -> Vec<u8> {
    fields(&[
        INFO,
        companion.anchor.as_bytes(),
        &companion.version.to_be_bytes(),
        recipient.as_bytes(),
        companion.commitment.as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use exclave_model::{Record as _, companion::COMPANION_BOX_BYTES_MIN};

    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn a_directory_opens_for_its_recipients_and_tells_little_by_its_length() {
        let mut entropy = SeededEntropy::new(41);
        let identities = [(); 3].map(|()| RecoveryIdentity::generate(&mut entropy).unwrap());
        let recipients: Vec<RecipientKey> = identities[..2].iter().map(|one| one.public().clone()).collect();
        let place = CompanionPlace {
            anchor: Anchor::from_bytes([1; 32]),
            version: 1,
            previous: None,
            charter_version: 1,
            charter: RecordHash::from_bytes([2; 32]),
            created: 5,
        };
        let mut seal = |text: &str| seal_companion(place, text, &recipients, &mut entropy);
        let sealed = seal("name = \"Maaregister\"").unwrap();
        assert_eq!(Companion::from_bytes(&sealed.to_bytes().unwrap()).unwrap(), sealed);
        for identity in &identities[..2] {
            assert_eq!(*identity.open_companion(&sealed).unwrap(), "name = \"Maaregister\"");
        }
        let stranger = identities[2].open_companion(&sealed).unwrap_err();
        assert!(matches!(stranger, LoginsError::Key(EnvelopeError::NotForUs(_))));
        let lengths = [0, 1000, 16_000, 17_000, 40_000].map(|bytes| seal(&"x".repeat(bytes)).unwrap().sealed.len());
        let step = COMPANION_BOX_BYTES_MIN;
        assert_eq!(lengths, [step, step, step, 2 * step, 4 * step]);
        assert!(seal(&"x".repeat(1 << 20)).is_err());
        type Change = fn(&mut Companion);
        let changes: [Change; 5] = [
            |directory| directory.version = 2,
            |directory| directory.anchor = Anchor::from_bytes([2; 32]),
            |directory| directory.commitment = exclave_model::Commitment::from_bytes([0; 32]),
            |directory| directory.sealed[100] ^= 1,
            |directory| directory.stanzas.iter_mut().for_each(|stanza| stanza.enc[5] ^= 1),
        ];
        for change in changes {
            let mut other = sealed.clone();
            change(&mut other);
            assert!(identities[0].open_companion(&other).is_err());
        }
    }
}
