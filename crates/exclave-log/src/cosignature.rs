//! Cosignatures (C2SP tlog-cosignature): what a witness signs, and how its line is built.
//!
//! Only the messages are made here; who has the witness' key signs them, who has its public key verifies.

use crate::{
    checkpoint::{Checkpoint, ORIGIN_BYTES_MAX},
    hash::TreeHash,
    note::KeyName,
};

/// Bytes of an Ed25519 signature.
pub const ED25519_SIGNATURE_BYTES: usize = 64;
/// Bytes of an ML-DSA-44 signature (FIPS 204).
pub const ML_DSA_44_SIGNATURE_BYTES: usize = 2420;
/// Latest time that a cosignature can have.
pub const TIMESTAMP_MAX: u64 = i64::MAX as u64;

/// What a line of a cosignature holds after the key id: a time and a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampedSignature {
    /// When it was made, Unix seconds.
    pub timestamp: u64,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Why something is no cosignature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCosignature {
    /// Another length than a time and a signature have.
    #[error("a cosignature of {found} bytes, not {expected}")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes of a time and a signature.
        expected: usize,
    },
    /// A time that is none.
    #[error("a cosignature's time is not between 1970 and 2^63")]
    Timestamp,
    /// A name or an origin longer than its length can say.
    #[error("the name of a cosigner or a log is empty or longer than 255 bytes")]
    Name,
}

impl TimestampedSignature {
    /// Takes a line's bytes apart; the signature has `signature_bytes`.
    pub fn parse(bytes: &[u8], signature_bytes: usize) -> Result<Self, BadCosignature> {
        let length = BadCosignature::Length {
            found: bytes.len(),
            expected: 8 + signature_bytes,
        };
        let (timestamp, signature) = bytes.split_first_chunk::<8>().ok_or(length)?;
        if signature.len() != signature_bytes {
            return Err(length);
        }
        let timestamp = u64::from_be_bytes(*timestamp);
        if timestamp > TIMESTAMP_MAX {
            return Err(BadCosignature::Timestamp);
        }
        Ok(Self {
            timestamp,
            signature: signature.to_vec(),
        })
    }

    /// The bytes of the line, after the key id.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.timestamp.to_be_bytes()[..], &self.signature].concat()
    }
}

/// What a cosigner signs with Ed25519: two lines, then the note's text.
pub fn ed25519_message(timestamp: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    format!("cosignature/v1\ntime {timestamp}\n{}", checkpoint.text()).into_bytes()
}

/// What a cosigner signs with ML-DSA-44 for a whole tree: a `cosigned_message` that begins at leaf 0.
pub fn ml_dsa_44_message(
    cosigner: &KeyName,
    timestamp: u64,
    checkpoint: &Checkpoint,
) -> Result<Vec<u8>, BadCosignature> {
    subtree_message(
        cosigner,
        timestamp,
        &checkpoint.origin,
        (0, checkpoint.size),
        &checkpoint.root,
    )
}

fn subtree_message(
    cosigner: &KeyName,
    timestamp: u64,
    origin: &str,
    (start, end): (u64, u64),
    hash: &TreeHash,
) -> Result<Vec<u8>, BadCosignature> {
    let short = |text: &str| match u8::try_from(text.len()) {
        Ok(length @ 1..) if text.len() <= ORIGIN_BYTES_MAX => Ok(length),
        _ => Err(BadCosignature::Name),
    };
    let mut message = b"subtree/v1\n\0".to_vec();
    message.push(short(cosigner.as_str())?);
    message.extend_from_slice(cosigner.as_str().as_bytes());
    message.extend_from_slice(&timestamp.to_be_bytes());
    message.push(short(origin)?);
    message.extend_from_slice(origin.as_bytes());
    message.extend_from_slice(&start.to_be_bytes());
    message.extend_from_slice(&end.to_be_bytes());
    message.extend_from_slice(hash.as_bytes());
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint::parse("example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n")
            .unwrap()
    }

    #[test]
    fn messages_are_those_of_the_specification() {
        assert_eq!(
            String::from_utf8(ed25519_message(1_679_315_147, &checkpoint())).unwrap(),
            "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
             CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        );
        let name = KeyName::parse("w.example").unwrap();
        let message = ml_dsa_44_message(&name, 2, &checkpoint()).unwrap();
        let root = checkpoint().root;
        let expected = [
            b"subtree/v1\n\0\x09w.example\0\0\0\0\0\0\0\x02\x1bexample.com/behind-the-sofa".as_slice(),
            &[0; 8],
            &20_852_163u64.to_be_bytes(),
            root.as_bytes(),
        ];
        assert_eq!(message, expected.concat());
        let mut long = checkpoint();
        long.origin = "o".repeat(256);
        assert_eq!(ml_dsa_44_message(&name, 2, &long), Err(BadCosignature::Name));
    }

    #[test]
    fn lines_have_their_length() {
        let cosignature = TimestampedSignature {
            timestamp: 7,
            signature: vec![9; ED25519_SIGNATURE_BYTES],
        };
        let bytes = cosignature.to_bytes();
        assert_eq!(
            TimestampedSignature::parse(&bytes, ED25519_SIGNATURE_BYTES),
            Ok(cosignature)
        );
        for wrong in [&bytes[1..], &bytes[..7], &[], &[bytes.clone(), vec![0]].concat()] {
            assert!(TimestampedSignature::parse(wrong, ED25519_SIGNATURE_BYTES).is_err());
        }
        let late = [&[0x80; 8][..], &[0; 64]].concat();
        assert_eq!(
            TimestampedSignature::parse(&late, ED25519_SIGNATURE_BYTES),
            Err(BadCosignature::Timestamp)
        );
    }
}
