//! Where randomness comes from: handed in, never ambient.
//!
//! The agent and the command line hand in the operating system's generator. Tests and simulations hand in
//! [`SeededEntropy`], so that what they seal can be replayed from a printed seed.

use std::convert::Infallible;

use zeroize::Zeroizing;

/// The operating system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no randomness: {0}")]
pub struct NoEntropy(pub String);

/// A source of unpredictable bytes.
pub trait Entropy: Send {
    /// Fills `out` with fresh bytes.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy>;
}

impl<E: Entropy + ?Sized> Entropy for &mut E {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        (**self).fill(out)
    }
}

impl<E: Entropy + ?Sized> Entropy for Box<E> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        (**self).fill(out)
    }
}

/// Fresh bytes for an id, a salt or a key.
pub fn draw<const N: usize>(entropy: &mut dyn Entropy) -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// A predictable stream from a seed: for tests and simulations only.
pub struct SeededEntropy(blake3::OutputReader);

impl SeededEntropy {
    /// The stream that belongs to a seed.
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("exclave seeded entropy, tests only");
        hasher.update(&seed.to_be_bytes());
        Self(hasher.finalize_xof())
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        self.0.fill(out);
        Ok(())
    }
}

/// Fresh randomness drawn once and expanded, for libraries whose generator can't report failure.
pub(crate) struct Drawn(blake3::OutputReader);

impl Drawn {
    pub(crate) fn from(entropy: &mut dyn Entropy) -> Result<Self, NoEntropy> {
        let seed = Zeroizing::new(draw::<32>(entropy)?);
        let mut hasher = blake3::Hasher::new_derive_key("exclave 2026 drawn randomness v1");
        hasher.update(&seed[..]);
        Ok(Self(hasher.finalize_xof()))
    }
}

impl rand_core::TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Drawn {}
