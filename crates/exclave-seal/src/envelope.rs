//! Run keys on their way to recipients: HPKE base mode with X-Wing, HKDF-SHA256 and AES-256-GCM (RFC 9180).
//!
//! An X-Wing ciphertext that was tampered with gives a random secret instead of an error, and AES-GCM alone commits to
//! nothing; so what comes out is a run key only when it fits the commitment in the envelope.

use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256, kem::XWing};
use zeroize::Zeroizing;

use exclave_model::{
    Anchor, Commitment, Envelope, GrantedRun, RecipientId, RecipientKey, RunId, Stanza,
    charter::RECIPIENT_KEY_BYTES,
    envelope::{STANZA_CIPHERTEXT_BYTES, STANZA_ENC_BYTES},
};

use crate::{
    entropy::{Drawn, Entropy, NoEntropy, draw},
    run_key::RunKey,
    secret::Secret,
};

/// First part of every stanza's `info`.
const INFO: &[u8] = b"exclave envelope v1";

/// First part of the `info` of every key in a grant.
const GRANT_INFO: &[u8] = b"exclave grant v1";

/// A recovery identity: a 32-byte X-Wing key that opens run keys.
pub struct RecoveryIdentity {
    seed: Secret<32>,
    public: RecipientKey,
}

/// Why an envelope does not open or close.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The envelope has no stanza for this identity.
    #[error("no stanza for recipient {0}")]
    NotForUs(RecipientId),
    /// Altered, or for another run.
    #[error("the stanza for recipient {0} does not open")]
    Stanza(RecipientId),
    /// It opened to something else than the run's key.
    #[error("the run key does not fit the envelope's commitment")]
    Commitment,
    /// The recipients are not those of the charter.
    #[error("the stanzas are not those of the recipient set")]
    Recipients,
    /// Not an X-Wing public key.
    #[error("recipient {0} is not a valid public key")]
    BadRecipient(RecipientId),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl RecoveryIdentity {
    /// Draws a new identity.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, NoEntropy> {
        Ok(Self::from_seed(Secret::new(draw(entropy)?)))
    }

    /// The identity of a seed.
    pub fn from_seed(seed: Secret<32>) -> Self {
        let public = match private_key(&seed) {
            Some(private) => XWing::sk_to_pk(&private).to_bytes().into(),
            None => [0; RECIPIENT_KEY_BYTES],
        };
        Self {
            seed,
            public: RecipientKey::from_bytes(public),
        }
    }

    /// The public half, which agents wrap run keys to.
    pub fn public(&self) -> &RecipientKey {
        &self.public
    }

    /// The seed, for a key file.
    pub(crate) fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// Opens an envelope's run key.
    pub fn unwrap(&self, envelope: &Envelope) -> Result<RunKey, EnvelopeError> {
        let us = self.public.id();
        let stanza = envelope
            .stanzas
            .iter()
            .find(|stanza| stanza.recipient == us)
            .ok_or(EnvelopeError::NotForUs(us))?;
        let info = info(INFO, &envelope.anchor, &envelope.run, &us, &envelope.commitment);
        self.open(&stanza.enc, &stanza.ciphertext, &info, &envelope.commitment)
    }

    /// Opens a run key that a grant gives us.
    pub fn unwrap_granted(&self, anchor: &Anchor, granted: &GrantedRun) -> Result<RunKey, EnvelopeError> {
        let info = info(GRANT_INFO, anchor, &granted.run, &self.public.id(), &granted.commitment);
        self.open(&granted.enc, &granted.ciphertext, &info, &granted.commitment)
    }

    /// Opens a stanza under its `info`: the key that it is committed to.
    pub(crate) fn open(
        &self,
        enc: &[u8],
        ciphertext: &[u8],
        info: &[u8],
        commitment: &Commitment,
    ) -> Result<RunKey, EnvelopeError> {
        let refused = || EnvelopeError::Stanza(self.public.id());
        // Exact lengths before decapsulation: the type asks for the one, this line for the other.
        let enc = <&[u8; STANZA_ENC_BYTES]>::try_from(enc).map_err(|_| refused())?;
        let ciphertext = <&[u8; STANZA_CIPHERTEXT_BYTES]>::try_from(ciphertext).map_err(|_| refused())?;
        let plain = self.hpke_open(enc, ciphertext, info).ok_or_else(refused)?;
        let bytes = <[u8; 32]>::try_from(&plain[..]).map_err(|_| refused())?;
        let run_key = RunKey::from_secret(Secret::new(bytes));
        if run_key.fits(commitment) {
            Ok(run_key)
        } else {
            Err(EnvelopeError::Commitment)
        }
    }

    /// Opens what was sealed to this key under this `info`. Nothing of another length can be decapsulated. An altered X-Wing ciphertext gives another key, not an error:
    /// only the tag, and whatever is committed to, show it.
    pub(crate) fn hpke_open<const C: usize>(
        &self,
        enc: &[u8; STANZA_ENC_BYTES],
        ciphertext: &[u8; C],
        info: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let private = private_key(&self.seed)?;
        let enc = <XWing as Kem>::EncappedKey::from_bytes(enc).ok()?;
        let context = hpke::setup_receiver::<AesGcm256, HkdfSha256, XWing>(&OpModeR::Base, &private, &enc, info);
        context.ok()?.open(ciphertext, b"").ok().map(Zeroizing::new)
    }
}

/// An encapsulated key, and the ciphertext that it opens.
type Encapsulated = (Vec<u8>, Vec<u8>);

/// Seals to a key under an `info`: the encapsulated key and the ciphertext; `None` when it is no public key.
pub(crate) fn hpke_seal(
    to: &RecipientKey,
    info: &[u8],
    plain: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Option<Encapsulated>, NoEntropy> {
    let mut randomness = Drawn::from(entropy)?;
    let mut seal = || {
        let public = <XWing as Kem>::PublicKey::from_bytes(to.as_bytes()).ok()?;
        let (enc, mut context) =
            hpke::setup_sender_with_rng::<AesGcm256, HkdfSha256, XWing>(&OpModeS::Base, &public, info, &mut randomness)
                .ok()?;
        Some((enc.to_bytes().to_vec(), context.seal(plain, b"").ok()?))
    };
    Ok(seal())
}

fn private_key(seed: &Secret<32>) -> Option<<XWing as Kem>::PrivateKey> {
    <XWing as Kem>::PrivateKey::from_bytes(seed.expose()).ok()
}

/// Wraps a run key for recipients, ascending by id.
pub fn wrap(
    run_key: &RunKey,
    anchor: &Anchor,
    run: &RunId,
    recipients: &[RecipientKey],
    entropy: &mut dyn Entropy,
) -> Result<Vec<Stanza>, EnvelopeError> {
    let commitment = run_key.commitment();
    let mut stanzas = recipients
        .iter()
        .map(|recipient| wrap_one(run_key, anchor, run, &commitment, recipient, entropy))
        .collect::<Result<Vec<_>, _>>()?;
    stanzas.sort_by_key(|stanza| stanza.recipient);
    Ok(stanzas)
}

fn wrap_one(
    run_key: &RunKey,
    anchor: &Anchor,
    run: &RunId,
    commitment: &Commitment,
    recipient: &RecipientKey,
    entropy: &mut dyn Entropy,
) -> Result<Stanza, EnvelopeError> {
    let id = recipient.id();
    let info = info(INFO, anchor, run, &id, commitment);
    let sealed = hpke_seal(recipient, &info, run_key.expose(), entropy)?;
    let (enc, ciphertext) = sealed.ok_or(EnvelopeError::BadRecipient(id))?;
    Ok(Stanza {
        recipient: id,
        enc,
        ciphertext,
    })
}

/// Wraps a run key for the recipient of a grant.
pub fn wrap_granted(
    run_key: &RunKey,
    anchor: &Anchor,
    run: RunId,
    recipient: &RecipientKey,
    entropy: &mut dyn Entropy,
) -> Result<GrantedRun, EnvelopeError> {
    let commitment = run_key.commitment();
    let info = info(GRANT_INFO, anchor, &run, &recipient.id(), &commitment);
    let sealed = hpke_seal(recipient, &info, run_key.expose(), entropy)?;
    let (enc, ciphertext) = sealed.ok_or(EnvelopeError::BadRecipient(recipient.id()))?;
    Ok(GrantedRun {
        run,
        commitment,
        enc,
        ciphertext,
    })
}

/// True when an envelope is wrapped for exactly these recipients.
pub fn is_for(envelope: &Envelope, recipients: &[RecipientKey]) -> bool {
    let mut expected: Vec<_> = recipients.iter().map(RecipientKey::id).collect();
    expected.sort();
    envelope.stanzas.iter().map(|stanza| stanza.recipient).eq(expected)
}

fn info(kind: &[u8], anchor: &Anchor, run: &RunId, recipient: &RecipientId, commitment: &Commitment) -> Vec<u8> {
    fields(&[
        kind,
        anchor.as_bytes(),
        run.as_bytes(),
        recipient.as_bytes(),
        commitment.as_bytes(),
    ])
}

/// Every field with its length before it, so that no two inputs run together.
pub(crate) fn fields(fields: &[&[u8]]) -> Vec<u8> {
    let mut info = Vec::new();
    for field in fields {
        // All are shorter than 64 bytes.
        info.extend_from_slice(&(field.len() as u16).to_be_bytes());
        info.extend_from_slice(field);
    }
    info
}

#[cfg(test)]
mod tests {
    use exclave_model::{DatasetId, Incarnation, Record as _, Version1};

    use super::*;
    use crate::{entropy::SeededEntropy, sealed_box::seal_label};

    fn envelope(run_key: &RunKey, recipients: &[RecipientKey], entropy: &mut SeededEntropy) -> Envelope {
        let (anchor, run) = (Anchor::from_bytes([1; 32]), RunId::from_bytes([2; 16]));
        Envelope {
            format: Version1,
            anchor,
            run,
            dataset: DatasetId::from_bytes([3; 16]),
            class: 0,
            charter_version: 1,
            recipient_set: 0,
            crypto_epoch: 0,
            commitment: run_key.commitment(),
            label: seal_label(run_key, "", entropy).unwrap(),
            stanzas: wrap(run_key, &anchor, &run, recipients, entropy).unwrap(),
            incarnation: Incarnation::from_bytes([4; 16]),
        }
    }

    #[test]
    fn an_envelope_is_held_to_its_place() {
        let mut entropy = SeededEntropy::new(10);
        let ours: Vec<_> = (0..2)
            .map(|_| RecoveryIdentity::generate(&mut entropy).unwrap().public().clone())
            .collect();
        let run_key = RunKey::generate(&mut entropy).unwrap();
        let envelope = envelope(&run_key, &ours, &mut entropy);
        let ids = || ours.iter().rev().map(RecipientKey::id);
        let kind = |checked: Result<(), exclave_model::Rule>| checked.map_err(|rule| rule.kind);
        assert_eq!(kind(envelope.check_place(envelope.anchor, envelope.run)), Ok(()));
        let (anchor, run) = (Anchor::from_bytes([9; 32]), RunId::from_bytes([9; 16]));
        assert_eq!(kind(envelope.check_place(anchor, envelope.run)), Err("wrong-archive"));
        assert_eq!(kind(envelope.check_place(envelope.anchor, run)), Err("wrong-run"));
        assert_eq!(kind(envelope.check_set(1, (0, 0), ids())), Ok(()));
        assert_eq!(kind(envelope.check_set(1, (0, 1), ids())), Err("wrong-charter"));
        assert_eq!(kind(envelope.check_set(1, (0, 0), ids().skip(1))), Err("bad-stanzas"));
        assert_eq!(
            kind(envelope.check_set(1, (0, 0), ids().chain(ids()))),
            Err("bad-stanzas")
        );
        assert_eq!(kind(envelope.check_dataset(envelope.dataset)), Ok(()));
        assert_eq!(
            kind(envelope.check_dataset(DatasetId::from_bytes([9; 16]))),
            Err("wrong-run")
        );
    }

    #[test]
    fn a_grant_opens_for_its_recipient_and_for_its_run() {
        let mut entropy = SeededEntropy::new(11);
        let [ally, other] = [(); 2].map(|()| RecoveryIdentity::generate(&mut entropy).unwrap());
        let run_key = RunKey::generate(&mut entropy).unwrap();
        let (anchor, run) = (Anchor::from_bytes([1; 32]), RunId::from_bytes([2; 16]));
        let granted = wrap_granted(&run_key, &anchor, run, ally.public(), &mut entropy).unwrap();
        let opened = ally.unwrap_granted(&anchor, &granted).ok().unwrap();
        assert_eq!(opened.expose(), run_key.expose());
        assert!(other.unwrap_granted(&anchor, &granted).is_err());
        assert!(ally.unwrap_granted(&Anchor::from_bytes([3; 32]), &granted).is_err());
        let elsewhere = GrantedRun {
            run: RunId::from_bytes([4; 16]),
            ..granted.clone()
        };
        assert!(ally.unwrap_granted(&anchor, &elsewhere).is_err());
        // A key that was granted is no stanza of an envelope: the two are kept apart by their info.
        let mut envelope = envelope(&run_key, &[ally.public().clone()], &mut entropy);
        envelope.stanzas[0].enc.clone_from(&granted.enc);
        envelope.stanzas[0].ciphertext.clone_from(&granted.ciphertext);
        assert!(ally.unwrap(&envelope).is_err());
    }

    #[test]
    fn another_length_is_refused_before_decapsulation() {
        let mut entropy = SeededEntropy::new(12);
        let ours = RecoveryIdentity::generate(&mut entropy).unwrap();
        let run_key = RunKey::generate(&mut entropy).unwrap();
        let envelope = envelope(&run_key, &[ours.public().clone()], &mut entropy);
        let granted = wrap_granted(&run_key, &envelope.anchor, envelope.run, ours.public(), &mut entropy).unwrap();
        let resized = |bytes: &[u8], length: usize| {
            let mut bytes = bytes.to_vec();
            bytes.resize(length, 0);
            bytes
        };
        let refused = |opened: Result<RunKey, EnvelopeError>| matches!(opened, Err(EnvelopeError::Stanza(_)));
        for length in [0, 1, 32, 1088, 1119, 1121, 2240, 65_536] {
            let mut odd = envelope.clone();
            odd.stanzas[0].enc = resized(&odd.stanzas[0].enc, length);
            assert!(odd.to_bytes().is_err(), "no record has an enc of {length}");
            assert!(refused(ours.unwrap(&odd)), "enc of {length}");
            let mut odd = granted.clone();
            odd.enc = resized(&odd.enc, length);
            assert!(refused(ours.unwrap_granted(&envelope.anchor, &odd)), "enc of {length}");
        }
        for length in [0, 1, 16, 32, 47, 49, 96, 65_536] {
            let mut odd = envelope.clone();
            odd.stanzas[0].ciphertext = resized(&odd.stanzas[0].ciphertext, length);
            assert!(odd.to_bytes().is_err(), "no record has a ciphertext of {length}");
            assert!(refused(ours.unwrap(&odd)), "ciphertext of {length}");
            let mut odd = granted.clone();
            odd.ciphertext = resized(&odd.ciphertext, length);
            assert!(
                refused(ours.unwrap_granted(&envelope.anchor, &odd)),
                "ciphertext of {length}"
            );
        }
        for length in [0, 31, 1119, 1215, 1217] {
            let short = resized(ours.public().as_bytes(), length);
            assert!(
                <XWing as Kem>::PublicKey::from_bytes(&short).is_err(),
                "a public key of {length}"
            );
        }
    }

    #[test]
    fn only_recipients_of_this_run_open_it() {
        let mut entropy = SeededEntropy::new(9);
        let identities: Vec<_> = (0..3)
            .map(|_| RecoveryIdentity::generate(&mut entropy).unwrap())
            .collect();
        let recipients: Vec<_> = identities[..2]
            .iter()
            .map(|identity| identity.public().clone())
            .collect();
        let run_key = RunKey::generate(&mut entropy).unwrap();
        let envelope = envelope(&run_key, &recipients, &mut entropy);
        for identity in &identities[..2] {
            assert_eq!(identity.unwrap(&envelope).ok().unwrap().expose(), run_key.expose());
        }
        assert!(matches!(
            identities[2].unwrap(&envelope),
            Err(EnvelopeError::NotForUs(_))
        ));
        assert!(is_for(&envelope, &recipients) && !is_for(&envelope, &recipients[..1]));

        let mut other_run = envelope.clone();
        other_run.run = RunId::from_bytes([9; 16]);
        assert!(identities[0].unwrap(&other_run).is_err());
        let mut other_commitment = envelope.clone();
        other_commitment.commitment = Commitment::from_bytes([0; 32]);
        assert!(identities[0].unwrap(&other_commitment).is_err());
        let us = identities[0].public().id();
        let at = envelope
            .stanzas
            .iter()
            .position(|stanza| stanza.recipient == us)
            .unwrap();
        for byte in [0, 500, 1087, 1088, 1119] {
            let mut tampered = envelope.clone();
            tampered.stanzas[at].enc[byte] ^= 1;
            assert!(identities[0].unwrap(&tampered).is_err(), "enc byte {byte}");
        }
    }
}
