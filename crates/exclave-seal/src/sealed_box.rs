//! Short secrets inside records: `salt (32) || commitment (32) || ciphertext || tag` (FORMAT.md section 1).
//!
//! The salt is drawn for each box, so its key seals one plaintext; the commitment makes AES-GCM, which alone would let
//! two keys open one ciphertext, mean one thing.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use exclave_model::{
    Record, RecordError, SealedHead,
    companion::{COMPANION_BOX_BYTES_MAX, COMPANION_BOX_BYTES_MIN},
    head::SEALED_STEP_BYTES,
    limit::TAG_BYTES,
};

use crate::{
    aead::Cipher,
    entropy::{Entropy, NoEntropy, draw},
    run_key::RunKey,
    secret::{Secret, derive},
};

/// Bytes that a box adds to its plaintext.
pub const OVERHEAD_BYTES: usize = 32 + 32 + TAG_BYTES;

/// Plaintext bytes of a label's box: a length, the label, zeros.
const LABEL_PLAIN_BYTES: usize = 256;

/// What a box holds; each purpose has its own keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A run's label.
    Label,
    /// A head's sealed part.
    Head,
    /// A kit's credentials.
    Logins,
    /// The directory of names and contacts.
    Names,
}

/// Why a box does not open or close.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// Too short to be a box, or of another length than its purpose fixes.
    #[error("a sealed part of {0} bytes is not a box")]
    Length(usize),
    /// Another run's key, or an altered box.
    #[error("a sealed part's commitment does not fit its key")]
    Commitment,
    /// Altered.
    #[error("a sealed part's tag does not fit")]
    Tag,
    /// It opened to another number of bytes than belong in it, or to a length beyond them.
    #[error("a sealed part of {0} bytes holds a length that does not fit")]
    PlainLength(usize),
    /// What fills it up is not zeros.
    #[error("a sealed part is not filled up with zeros")]
    Padding,
    /// A label, credentials or names that are not UTF-8.
    #[error("a sealed text is not UTF-8")]
    NotText,
    /// What was in it is not the record it should be.
    #[error("a sealed part does not parse")]
    Record(#[from] RecordError),
    /// A label longer than fits.
    #[error("a label of {0} bytes is longer than {max}", max = LABEL_PLAIN_BYTES - 2)]
    LabelTooLong(usize),
    /// No randomness for the salt.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Seals a label.
pub fn seal_label(run_key: &RunKey, label: &str, entropy: &mut dyn Entropy) -> Result<Vec<u8>, BoxError> {
    let length = u16::try_from(label.len())
        .ok()
        .filter(|length| usize::from(*length) <= LABEL_PLAIN_BYTES - 2)
        .ok_or(BoxError::LabelTooLong(label.len()))?;
    let mut plain = Zeroizing::new(vec![0; LABEL_PLAIN_BYTES]);
    plain[..2].copy_from_slice(&length.to_be_bytes());
    plain[2..2 + label.len()].copy_from_slice(label.as_bytes());
    Ok(seal(run_key, Purpose::Label, &plain, entropy)?)
}

/// Opens a label.
pub fn open_label(run_key: &RunKey, sealed: &[u8]) -> Result<String, BoxError> {
    let plain = open(run_key, Purpose::Label, sealed)?;
    let length = plain
        .split_first_chunk::<2>()
        .filter(|_| plain.len() == LABEL_PLAIN_BYTES);
    let (length, rest) = length.ok_or(BoxError::PlainLength(plain.len()))?;
    let label = unpad(rest, usize::from(u16::from_be_bytes(*length)))?;
    String::from_utf8(label.to_vec()).map_err(|_| BoxError::NotText)
}

/// Seals a head's secret part, padded so that the whole box is a multiple of 1,024 bytes.
pub fn seal_head(run_key: &RunKey, head: &SealedHead, entropy: &mut dyn Entropy) -> Result<Vec<u8>, BoxError> {
    let record = Zeroizing::new(head.to_bytes()?);
    seal_padded(run_key, Purpose::Head, &record, in_kibibytes, entropy)
}

/// Seals a kit's credentials, padded in the same way: how long a password is shows no more than where the steps are.
pub(crate) fn seal_logins(key: &RunKey, text: &str, entropy: &mut dyn Entropy) -> Result<Vec<u8>, BoxError> {
    seal_padded(key, Purpose::Logins, text.as_bytes(), in_kibibytes, entropy)
}

/// Seals a directory, padded to a power of two: how many datasets there are shows only where it doubles.
pub(crate) fn seal_names(key: &RunKey, text: &str, entropy: &mut dyn Entropy) -> Result<Vec<u8>, BoxError> {
    let doubled = |bytes: usize| bytes.next_power_of_two().max(COMPANION_BOX_BYTES_MIN);
    let sealed = seal_padded(key, Purpose::Names, text.as_bytes(), doubled, entropy)?;
    match sealed.len() > COMPANION_BOX_BYTES_MAX {
        true => Err(BoxError::PlainLength(text.len())),
        false => Ok(sealed),
    }
}

/// Opens a directory.
pub(crate) fn open_names(key: &RunKey, sealed: &[u8]) -> Result<Zeroizing<String>, BoxError> {
    open_text(key, Purpose::Names, sealed)
}

fn in_kibibytes(bytes: usize) -> usize {
    bytes.next_multiple_of(SEALED_STEP_BYTES)
}

/// A length of four bytes, what is sealed, and zeros up to the length that the whole box is to have.
fn seal_padded(
    key: &RunKey,
    purpose: Purpose,
    content: &[u8],
    boxed: impl Fn(usize) -> usize,
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, BoxError> {
    let length = u32::try_from(content.len()).map_err(|_| BoxError::PlainLength(content.len()))?;
    let boxed = boxed(content.len() + 4 + OVERHEAD_BYTES);
    let mut plain = Zeroizing::new(vec![0; boxed - OVERHEAD_BYTES]);
    plain[..4].copy_from_slice(&length.to_be_bytes());
    plain[4..4 + content.len()].copy_from_slice(content);
    Ok(seal(key, purpose, &plain, entropy)?)
}

/// Opens a head's secret part.
pub fn open_head(run_key: &RunKey, sealed: &[u8]) -> Result<SealedHead, BoxError> {
    let plain = open(run_key, Purpose::Head, sealed)?;
    Ok(SealedHead::from_bytes(content(&plain)?)?)
}

/// Opens a kit's credentials.
pub(crate) fn open_logins(key: &RunKey, sealed: &[u8]) -> Result<Zeroizing<String>, BoxError> {
    open_text(key, Purpose::Logins, sealed)
}

fn open_text(key: &RunKey, purpose: Purpose, sealed: &[u8]) -> Result<Zeroizing<String>, BoxError> {
    let plain = open(key, purpose, sealed)?;
    let text = std::str::from_utf8(content(&plain)?).map_err(|_| BoxError::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// What [`seal_padded`] put in.
fn content(plain: &[u8]) -> Result<&[u8], BoxError> {
    let (length, rest) = plain
        .split_first_chunk::<4>()
        .ok_or(BoxError::PlainLength(plain.len()))?;
    unpad(rest, u32::from_be_bytes(*length) as usize)
}

/// The first `length` bytes; zeros follow.
fn unpad(padded: &[u8], length: usize) -> Result<&[u8], BoxError> {
    let (content, zeros) = padded
        .split_at_checked(length)
        .ok_or(BoxError::PlainLength(padded.len()))?;
    match zeros.iter().all(|byte| *byte == 0) {
        true => Ok(content),
        false => Err(BoxError::Padding),
    }
}

fn seal(run_key: &RunKey, purpose: Purpose, plain: &[u8], entropy: &mut dyn Entropy) -> Result<Vec<u8>, NoEntropy> {
    let salt = draw::<32>(entropy)?;
    let (key, commitment) = keys(run_key, purpose, &salt);
    let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(&commitment);
    sealed.extend_from_slice(plain);
    sealed.extend_from_slice(&[0; TAG_BYTES]);
    Cipher::new(&key).seal(&[0; 12], b"", &mut sealed[64..]);
    Ok(sealed)
}

fn open(run_key: &RunKey, purpose: Purpose, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, BoxError> {
    let (salt, rest) = sealed.split_first_chunk::<32>().ok_or(BoxError::Length(sealed.len()))?;
    let (claimed, body) = rest.split_first_chunk::<32>().ok_or(BoxError::Length(sealed.len()))?;
    let plain_bytes = body
        .len()
        .checked_sub(TAG_BYTES)
        .ok_or(BoxError::Length(sealed.len()))?;
    let (key, commitment) = keys(run_key, purpose, salt);
    if !bool::from(commitment.ct_eq(claimed)) {
        return Err(BoxError::Commitment);
    }
    let mut plain = Zeroizing::new(body.to_vec());
    Cipher::new(&key)
        .open(&[0; 12], b"", &mut plain)
        .map_err(|_| BoxError::Tag)?;
    plain.truncate(plain_bytes);
    Ok(plain)
}

fn keys(run_key: &RunKey, purpose: Purpose, salt: &[u8; 32]) -> (Secret<32>, [u8; 32]) {
    let number = match purpose {
        Purpose::Label => 1,
        Purpose::Head => 2,
        Purpose::Logins => 3,
        Purpose::Names => 4,
    };
    let both = derive::<64>("exclave 2026 box v1", &[run_key.expose(), &[number], salt]);
    let (mut key, mut commitment) = (Zeroizing::new([0; 32]), [0; 32]);
    key.copy_from_slice(&both.expose()[..32]);
    commitment.copy_from_slice(&both.expose()[32..]);
    (Secret::new(*key), commitment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn boxes_open_only_as_what_they_are() {
        let mut entropy = SeededEntropy::new(3);
        let key = RunKey::generate(&mut entropy).unwrap();
        let other = RunKey::generate(&mut entropy).unwrap();
        let sealed = seal_label(&key, "NATO RESTRICTED", &mut entropy).unwrap();
        assert_eq!(open_label(&key, &sealed).unwrap(), "NATO RESTRICTED");
        assert!(matches!(open_label(&other, &sealed), Err(BoxError::Commitment)));
        assert!(matches!(open_head(&key, &sealed), Err(BoxError::Commitment)));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 0x80;
            assert!(open_label(&key, &bad).is_err(), "byte {at}");
            assert!(open_label(&key, &sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(matches!(
            seal_label(&key, &"x".repeat(255), &mut entropy),
            Err(BoxError::LabelTooLong(255))
        ));
    }
}
