//! Exclave's pair of signatures on a note: Ed25519 for everyone's tools, ML-DSA-65 for the day when Ed25519 is broken.
//!
//! Both are over the note's text, by the two halves of one key, and both must be there. No other message of such a key can be a note's
//! text: records are signed behind a type and a zero byte, which no note may hold, and reports behind `DSSEv1`.

use exclave_model::{
    PublicKey, Signature,
    signed::{ED25519_SIGNATURE_BYTES, ML_DSA_65_SIGNATURE_BYTES},
};

use crate::note::{KeyHash, KeyName, Note, NoteSignature, SignatureType, VerifierKey};

/// Why a note doesn't carry a key's pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPair {
    /// No line of that half, or one of another length.
    #[error("no {0} signature of this key, or one of another length")]
    Missing(&'static str),
    /// Several lines of that half.
    #[error("several {0} signatures of this key")]
    Several(&'static str),
}

/// Both halves of a key under a name, as others' tools want them.
pub fn verifier_keys(name: &KeyName, key: &PublicKey) -> [VerifierKey; 2] {
    let (ed25519, ml_dsa) = key.as_bytes().split_at(32);
    [(SignatureType::Ed25519, ed25519), (SignatureType::MlDsa65, ml_dsa)].map(|(kind, public_key)| VerifierKey {
        name: name.clone(),
        kind,
        public_key: public_key.to_vec(),
    })
}

/// The two lines of a pair.
pub fn lines(name: &KeyName, key: &PublicKey, signature: &Signature) -> [NoteSignature; 2] {
    let [ed25519, ml_dsa] = verifier_keys(name, key);
    let line = |key: &VerifierKey, bytes: &[u8]| NoteSignature {
        name: name.clone(),
        key: KeyHash::of(name, key.kind, &key.public_key),
        bytes: bytes.to_vec(),
    };
    [line(&ed25519, &signature.ed25519), line(&ml_dsa, &signature.ml_dsa[..])]
}

/// Takes a key's pair from a note. It isn't verified: that takes the note's text and a library of signatures.
pub fn signature_of(note: &Note, name: &KeyName, key: &PublicKey) -> Result<Signature, NoPair> {
    let [ed25519, ml_dsa] = verifier_keys(name, key);
    Ok(Signature {
        key: key.id(),
        ed25519: one::<ED25519_SIGNATURE_BYTES>(note, &ed25519, "Ed25519")?,
        ml_dsa: Box::new(one::<ML_DSA_65_SIGNATURE_BYTES>(note, &ml_dsa, "ML-DSA-65")?),
    })
}

fn one<const N: usize>(note: &Note, key: &VerifierKey, half: &'static str) -> Result<[u8; N], NoPair> {
    let mut found = key.signatures_in(note);
    let first = found.next().ok_or(NoPair::Missing(half))?;
    if found.next().is_some() {
        return Err(NoPair::Several(half));
    }
    first.bytes.as_slice().try_into().map_err(|_| NoPair::Missing(half))
}

#[cfg(test)]
mod tests {
    use exclave_model::signed::PUBLIC_KEY_BYTES;

    use super::*;

    #[test]
    fn a_pair_is_two_lines_of_one_key() {
        let key = PublicKey::from_bytes([5; PUBLIC_KEY_BYTES]);
        let name = KeyName::parse("exclave/test").unwrap();
        let signature = Signature {
            key: key.id(),
            ed25519: [1; 64],
            ml_dsa: Box::new([2; ML_DSA_65_SIGNATURE_BYTES]),
        };
        let mut note = Note::unsigned("text\n".to_owned()).unwrap();
        note.signatures = lines(&name, &key, &signature).to_vec();
        let note = Note::parse(&note.to_bytes()).unwrap();
        assert_eq!(signature_of(&note, &name, &key), Ok(signature));
        let other = PublicKey::from_bytes([6; PUBLIC_KEY_BYTES]);
        assert_eq!(signature_of(&note, &name, &other), Err(NoPair::Missing("Ed25519")));
        let mut half = note.clone();
        half.signatures.pop();
        assert_eq!(signature_of(&half, &name, &key), Err(NoPair::Missing("ML-DSA-65")));
        let mut twice = note.clone();
        twice.signatures.push(note.signatures[0].clone());
        assert_eq!(signature_of(&twice, &name, &key), Err(NoPair::Several("Ed25519")));
        let mut short = note;
        short.signatures[1].bytes.pop();
        assert_eq!(signature_of(&short, &name, &key), Err(NoPair::Missing("ML-DSA-65")));
    }
}
