//! What a witness signs, and who is believed (C2SP tlog-cosignature).
//!
//! A witness of ours signs with both its keys, under one name and at one time: two lines. A reader counts it when both hold.

use exclave_log::{
    BadCosignature, BadNote, KeyHash, KeyName, SignatureType, SignedCheckpoint, TimestampedSignature, VerifierKey,
    cosignature::{ED25519_SIGNATURE_BYTES, ML_DSA_44_SIGNATURE_BYTES, ed25519_message, ml_dsa_44_message},
    note::NoteSignature,
};
use exclave_model::{Witness, Witnesses, charter::Vouchers};
use exclave_seal::{
    Cosigner, CosigningKey, Entropy,
    cosigning::{verify_ed25519, verify_ml_dsa_44},
    signing::SignError,
};

/// How far ahead of ours a witness's clock may be, in seconds.
pub const CLOCK_AHEAD_S_MAX: i64 = 300;

/// Why nothing was cosigned.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// The key's name can't stand in a note.
    #[error(transparent)]
    Name(#[from] BadNote),
    /// The checkpoint can't be cosigned.
    #[error(transparent)]
    Message(#[from] BadCosignature),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The clock shows a time before 1970.
    #[error("the clock shows a time before 1970")]
    Clock,
}

/// Both halves of a witness's key, as others' tools want them: Ed25519, then ML-DSA-44.
pub fn verifier_keys(cosigner: &Cosigner) -> Result<[VerifierKey; 2], BadNote> {
    let name = KeyName::parse(&cosigner.name)?;
    let key = |kind, public_key: &[u8]| VerifierKey {
        name: name.clone(),
        kind,
        public_key: public_key.to_vec(),
    };
    Ok([
        key(SignatureType::CosignatureEd25519, &cosigner.ed25519),
        key(SignatureType::CosignatureMlDsa44, &cosigner.ml_dsa.as_bytes()[..]),
    ])
}

/// Cosigns a checkpoint at a time: the two lines. Whether that is right is the caller's to know.
pub fn cosign(
    checkpoint: &SignedCheckpoint,
    key: &CosigningKey,
    now: i64,
    entropy: &mut dyn Entropy,
) -> Result<[NoteSignature; 2], CosignError> {
    let timestamp = u64::try_from(now)
        .ok()
        .filter(|now| *now > 0)
        .ok_or(CosignError::Clock)?;
    let [ed25519, ml_dsa] = verifier_keys(key.public())?;
    let first = key.sign_ed25519(&ed25519_message(timestamp, &checkpoint.checkpoint));
    let message = ml_dsa_44_message(&ml_dsa.name, timestamp, &checkpoint.checkpoint)?;
    let second = key.sign_ml_dsa(&message, entropy)?;
    let line = |key: VerifierKey, signature: &[u8]| NoteSignature {
        key: key.key_hash(),
        name: key.name,
        bytes: TimestampedSignature {
            timestamp,
            signature: signature.to_vec(),
        }
        .to_bytes(),
    };
    Ok([line(ed25519, &first), line(ml_dsa, &second[..])])
}

/// A witness that vouches for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouching<'w> {
    /// Who.
    pub witness: &'w Witness,
    /// Since when it is known that the log wasn't larger: Unix seconds, of its two cosignatures the earlier.
    pub at: i64,
}

/// The witnesses that vouch for a checkpoint, each once, with their newest time.
pub fn vouching<'w>(checkpoint: &SignedCheckpoint, witnesses: &'w [Witness]) -> Vec<Vouching<'w>> {
    witnesses
        .iter()
        .filter_map(|witness| {
            Some(Vouching {
                witness,
                at: vouched_at(checkpoint, witness)?,
            })
        })
        .collect()
}

fn vouched_at(checkpoint: &SignedCheckpoint, witness: &Witness) -> Option<i64> {
    let name = KeyName::parse(&witness.name).ok()?;
    let classical = newest(
        checkpoint,
        &name,
        SignatureType::CosignatureEd25519,
        &witness.ed25519,
        |timestamp, signature: &[u8; ED25519_SIGNATURE_BYTES]| {
            let message = ed25519_message(timestamp, &checkpoint.checkpoint);
            verify_ed25519(&witness.ed25519, &message, signature)
        },
    )?;
    let Some(key) = &witness.ml_dsa else {
        return Some(classical);
    };
    let lattice = newest(
        checkpoint,
        &name,
        SignatureType::CosignatureMlDsa44,
        &key.as_bytes()[..],
        |timestamp, signature: &[u8; ML_DSA_44_SIGNATURE_BYTES]| {
            // A time of zero says nothing about the largest tree.
            timestamp > 0
                && ml_dsa_44_message(&name, timestamp, &checkpoint.checkpoint)
                    .is_ok_and(|message| verify_ml_dsa_44(key, &message, signature))
        },
    )?;
    Some(classical.min(lattice))
}

/// The newest time among the lines of one key that verify.
fn newest<const N: usize>(
    checkpoint: &SignedCheckpoint,
    name: &KeyName,
    kind: SignatureType,
    public_key: &[u8],
    verify: impl Fn(u64, &[u8; N]) -> bool,
) -> Option<i64> {
    let id = KeyHash::of(name, kind, public_key);
    let lines = checkpoint.note.signatures.iter();
    lines
        .filter(|line| line.key == id && line.name == *name)
        .filter_map(|line| {
            let found = TimestampedSignature::parse(&line.bytes, N).ok()?;
            let signature = found.signature.as_slice().try_into().ok()?;
            verify(found.timestamp, signature).then_some(i64::try_from(found.timestamp).ok()?)
        })
        .max()
}

/// What a charter's witnesses say of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// How many vouch, whenever they did.
    pub ever: Vouchers,
    /// When so many of them had vouched that the quorum held, at the latest: Unix seconds. `None` without a quorum.
    pub quorum_at: Option<i64>,
}

/// Counts who vouches, and since when they are enough.
pub fn word(policy: &Witnesses, vouching: &[Vouching<'_>]) -> Word {
    let ever = policy.weigh(vouching.iter().map(|vouching| vouching.witness));
    // The newest times first: the quorum is as old as the oldest cosignature that it needs.
    let mut newest: Vec<&Vouching<'_>> = vouching.iter().collect();
    newest.sort_by_key(|vouching| std::cmp::Reverse(vouching.at));
    let quorum_at = (1..=newest.len()).find_map(|count| {
        let some = newest.get(..count)?;
        let vouchers = policy.weigh(some.iter().map(|vouching| vouching.witness));
        policy.is_quorum(vouchers).then(|| some.last().map(|last| last.at))?
    });
    Word { ever, quorum_at }
}
