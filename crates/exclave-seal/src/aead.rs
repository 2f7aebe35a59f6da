//! AES-256-GCM (FIPS 197, SP 800-38D) twice behind one small type: `aws-lc-rs` for bulk, `aes-gcm` as the portable path.
//!
//! Each is the other's oracle: tests compare them on random inputs, the self-test compares both with a published answer.
//! Both work in place: the caller's buffer holds plaintext and room for the tag before, ciphertext and tag after. What is
//! bulk is opened from one buffer into another, which saves a copy.

use aes_gcm::{
    AeadInOut, KeyInit,
    aead::{Nonce, Tag, inout::InOutBuf},
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce as BulkNonce, UnboundKey};
use exclave_model::limit::TAG_BYTES;

use crate::secret::Secret;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = NONCE_LEN;

/// The tag did not fit; nothing of the buffer may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tag does not fit its ciphertext")]
pub struct BadTag;

/// Which implementation seals and opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Assembly kernels of AWS-LC.
    Bulk,
    /// Pure Rust.
    Portable,
}

/// One AES-256-GCM key, ready for use.
pub struct Cipher(Inner);

enum Inner {
    Bulk(Box<LessSafeKey>),
    Portable(Box<aes_gcm::Aes256Gcm>),
}

impl Cipher {
    /// The bulk implementation.
    pub fn new(key: &Secret<32>) -> Self {
        Self::on(Path::Bulk, key)
    }

    /// A chosen implementation.
    pub fn on(path: Path, key: &Secret<32>) -> Self {
        let portable = || Inner::Portable(Box::new(aes_gcm::Aes256Gcm::new(key.expose().into())));
        Self(match path {
            // A 32-byte key is always accepted; were it not, the portable path gives the same bytes.
            Path::Bulk => match UnboundKey::new(&AES_256_GCM, key.expose()) {
                Ok(unbound) => Inner::Bulk(Box::new(LessSafeKey::new(unbound))),
                Err(_) => portable(),
            },
            Path::Portable => portable(),
        })
    }

    /// Encrypts all but the last 16 bytes of `buffer` in place and writes the tag there.
    ///
    /// A key must see each nonce once.
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8]) {
        assert!(buffer.len() >= TAG_BYTES, "a sealed buffer has room for its tag");
        let (plain, tag_out) = buffer.split_at_mut(buffer.len() - TAG_BYTES);
        match &self.0 {
            Inner::Bulk(key) => {
                let nonce = BulkNonce::assume_unique_for_key(*nonce);
                match key.seal_in_place_separate_tag(nonce, Aad::from(aad), plain) {
                    Ok(tag) => tag_out.copy_from_slice(tag.as_ref()),
                    Err(_) => fail_sealing(),
                }
            }
            Inner::Portable(key) => {
                match key.encrypt_inout_detached(&Nonce::<aes_gcm::Aes256Gcm>::from(*nonce), aad, InOutBuf::from(plain))
                {
                    Ok(tag) => tag_out.copy_from_slice(&tag),
                    Err(_) => fail_sealing(),
                }
            }
        }
    }

    /// Decrypts `buffer` in place; the first `len - 16` bytes are plaintext afterwards. On error it holds zeros.
    pub fn open(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8]) -> Result<(), BadTag> {
        let Some(plain_bytes) = buffer.len().checked_sub(TAG_BYTES) else {
            return Err(BadTag);
        };
        let opened = match &self.0 {
            Inner::Bulk(key) => key
                .open_in_place(BulkNonce::assume_unique_for_key(*nonce), Aad::from(aad), buffer)
                .is_ok(),
            Inner::Portable(key) => {
                let (body, tag) = buffer.split_at_mut(plain_bytes);
                Tag::<aes_gcm::Aes256Gcm>::try_from(&*tag).is_ok_and(|tag| {
                    key.decrypt_inout_detached(
                        &Nonce::<aes_gcm::Aes256Gcm>::from(*nonce),
                        aad,
                        InOutBuf::from(body),
                        &tag,
                    )
                    .is_ok()
                })
            }
        };
        if opened {
            return Ok(());
        }
        // Never leave unauthenticated plaintext behind (RUSTSEC-2023-0096).
        buffer.fill(0);
        Err(BadTag)
    }

    /// Decrypts `sealed`, ciphertext and tag, into `plain`, which is shorter by the tag. On error that holds zeros.
    pub fn open_to(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        sealed: &[u8],
        plain: &mut [u8],
    ) -> Result<(), BadTag> {
        let parts = sealed
            .split_last_chunk::<TAG_BYTES>()
            .filter(|(body, _)| body.len() == plain.len());
        let opened = match (&self.0, parts) {
            (_, None) => false,
            (Inner::Bulk(key), Some((body, tag))) => {
                let nonce = BulkNonce::assume_unique_for_key(*nonce);
                key.open_separate_gather(nonce, Aad::from(aad), body, tag, plain)
                    .is_ok()
            }
            (Inner::Portable(key), Some((body, tag))) => {
                plain.copy_from_slice(body);
                let nonce = Nonce::<aes_gcm::Aes256Gcm>::from(*nonce);
                key.decrypt_inout_detached(&nonce, aad, InOutBuf::from(&mut *plain), &(*tag).into())
                    .is_ok()
            }
        };
        if opened {
            return Ok(());
        }
        // As above.
        plain.fill(0);
        Err(BadTag)
    }
}

/// Sealing fails only beyond 2^36 bytes under one nonce, which no caller's buffer reaches.
#[expect(
    clippy::panic,
    reason = "unreachable by the caps of FORMAT.md; going on would send plaintext"
)]
fn fail_sealing() -> ! {
    panic!("AES-GCM refused to seal a buffer within the caps")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::{Entropy, SeededEntropy};

    #[test]
    fn each_path_is_the_others_oracle() {
        let mut entropy = SeededEntropy::new(1);
        for bytes in [0usize, 1, 15, 16, 17, 1000, 65_520] {
            let (mut key, mut nonce, mut plain) = ([0; 32], [0; 12], vec![0; bytes + TAG_BYTES]);
            entropy.fill(&mut key).unwrap();
            entropy.fill(&mut nonce).unwrap();
            entropy.fill(&mut plain[..bytes]).unwrap();
            let bulk = Cipher::on(Path::Bulk, &Secret::new(key));
            let portable = Cipher::on(Path::Portable, &Secret::new(key));
            let (mut one, mut other) = (plain.clone(), plain.clone());
            bulk.seal(&nonce, b"aad", &mut one);
            portable.seal(&nonce, b"aad", &mut other);
            assert_eq!(one, other);
            for cipher in [&bulk, &portable] {
                let mut opened = vec![1; bytes];
                cipher.open_to(&nonce, b"aad", &one, &mut opened).unwrap();
                assert_eq!(opened, plain[..bytes]);
            }
            portable.open(&nonce, b"aad", &mut one).unwrap();
            bulk.open(&nonce, b"aad", &mut other).unwrap();
            assert_eq!(one[..bytes], plain[..bytes]);
            assert_eq!(other[..bytes], plain[..bytes]);
        }
    }

    #[test]
    fn a_failed_opening_leaves_zeros() {
        for path in [Path::Bulk, Path::Portable] {
            let cipher = Cipher::on(path, &Secret::new([7; 32]));
            let mut buffer = vec![9; 100];
            cipher.seal(&[0; 12], b"", &mut buffer);
            for at in [0, 50, 83, 84, 99] {
                let mut bad = buffer.clone();
                bad[at] ^= 1;
                assert_eq!(cipher.open(&[0; 12], b"", &mut bad), Err(BadTag));
                assert_eq!(bad, vec![0; 100]);
                let (mut altered, mut plain) = (buffer.clone(), [1; 84]);
                altered[at] ^= 1;
                assert_eq!(cipher.open_to(&[0; 12], b"", &altered, &mut plain), Err(BadTag));
                assert_eq!(plain, [0; 84]);
            }
            for bytes in [83, 85] {
                let mut plain = vec![1; bytes];
                assert_eq!(cipher.open_to(&[0; 12], b"", &buffer, &mut plain), Err(BadTag));
                assert_eq!(plain, vec![0; bytes]);
            }
            assert_eq!(cipher.open_to(&[0; 12], b"", &[0; 15], &mut []), Err(BadTag));
            assert_eq!(cipher.open(&[0; 12], b"", &mut [0; 15]), Err(BadTag));
        }
    }
}
