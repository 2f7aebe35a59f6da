//! One stripe's key (FORMAT.md sections 3 and 4).
//!
//! Key and commitment are derived from the run key and the stripe's context; the context's salt is derived from the run
//! key, fresh randomness *and* the stripe's chunk ids, so that a cloned machine which draws the same randomness twice
//! still gets another key for other content. The nonce is the segment's number, so no state has to be kept.

use exclave_model::{ChunkId, Commitment, StripeContext, limit::SEGMENT_BYTES};
use subtle::ConstantTimeEq;

use crate::{
    aead::{BadTag, Cipher, NONCE_BYTES, Path},
    entropy::{Entropy, NoEntropy, draw},
    run_key::RunKey,
    secret::{Secret, derive},
};

/// Why a stripe does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The run key and the context do not belong to this stripe.
    #[error("the stripe's commitment does not fit its key")]
    Commitment,
    /// A segment was altered, moved or cut off.
    #[error("segment {segment} does not open")]
    Segment {
        /// Its number in the stripe.
        segment: u32,
    },
}

/// Seals or opens exactly one stripe.
///
/// Must never seal two stripes. Met by deriving it from the context, whose ordinal the run uses once and whose salt is
/// drawn for it; it is not `Clone`, and a retry sends the sealed bytes again.
pub struct StripeKey {
    cipher: Cipher,
    commitment: Commitment,
}

impl StripeKey {
    /// The salt of a new stripe's context.
    pub fn salt(run_key: &RunKey, chunks: &[ChunkId], entropy: &mut dyn Entropy) -> Result<[u8; 32], NoEntropy> {
        let random = draw::<32>(entropy)?;
        let mut material: Vec<&[u8]> = vec![run_key.expose(), &random];
        material.extend(chunks.iter().map(|chunk| &chunk.as_bytes()[..]));
        Ok(*derive::<32>("exclave 2026 stripe salt v1", &material).expose())
    }

    /// The key of the stripe with this context.
    pub fn derive(run_key: &RunKey, context: &StripeContext) -> Self {
        Self::on(Path::Bulk, run_key, context)
    }

    fn on(path: Path, run_key: &RunKey, context: &StripeContext) -> Self {
        let both = derive::<64>("exclave 2026 stripe key v1", &[run_key.expose(), &context.to_bytes()]);
        let (mut key, mut commitment) = (zeroize::Zeroizing::new([0; 32]), [0; 32]);
        key.copy_from_slice(&both.expose()[..32]);
        commitment.copy_from_slice(&both.expose()[32..]);
        Self {
            cipher: Cipher::on(path, &Secret::new(*key)),
            commitment: Commitment::from_bytes(commitment),
        }
    }

    /// The same key on the portable path, to open a block again and compare.
    pub fn derive_portable(run_key: &RunKey, context: &StripeContext) -> Self {
        Self::on(Path::Portable, run_key, context)
    }

    /// The key of a stripe that claims `commitment`; compared in constant time before anything is opened.
    pub fn derive_committed(
        run_key: &RunKey,
        context: &StripeContext,
        commitment: &Commitment,
    ) -> Result<Self, OpenError> {
        let key = Self::derive(run_key, context);
        if bool::from(key.commitment.as_bytes().ct_eq(commitment.as_bytes())) {
            Ok(key)
        } else {
            Err(OpenError::Commitment)
        }
    }

    /// The stripe's commitment.
    pub fn commitment(&self) -> Commitment {
        self.commitment
    }

    /// Seals one segment in place: 65,520 bytes of plaintext before, ciphertext and tag after.
    pub fn seal_segment(&self, position: SegmentPosition, segment: &mut [u8]) {
        assert_eq!(segment.len(), SEGMENT_BYTES, "a segment has one size");
        self.cipher.seal(&position.nonce(), b"", segment);
    }

    /// Opens one segment of 65,536 bytes into `plain`, which has 65,520; zeros on error.
    pub fn open_segment(&self, position: SegmentPosition, segment: &[u8], plain: &mut [u8]) -> Result<(), OpenError> {
        let refused = OpenError::Segment {
            segment: position.number,
        };
        if segment.len() != SEGMENT_BYTES {
            return Err(refused);
        }
        self.cipher
            .open_to(&position.nonce(), b"", segment, plain)
            .map_err(|BadTag| refused)
    }
}

/// Which segment of a stripe, and whether it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentPosition {
    number: u32,
    last: bool,
}

impl SegmentPosition {
    /// Segment `number` of the stripe that `context` describes.
    pub fn of(context: &StripeContext, number: u32) -> Self {
        assert!((number as usize) < context.segments(), "a segment lies in its stripe");
        Self {
            number,
            last: number as usize + 1 == context.segments(),
        }
    }

    /// Seven zero bytes, the number, the final flag.
    fn nonce(self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce[7..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(self.last);
        nonce
    }
}
