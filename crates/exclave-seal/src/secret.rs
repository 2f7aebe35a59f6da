//! Key bytes in memory: boxed so that moves leave no copies, wiped when dropped, without `Debug`, `Clone` or `Serialize`.

use zeroize::Zeroizing;

/// `N` secret bytes.
pub struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

impl<const N: usize> Secret<N> {
    /// Takes secret bytes; the caller's copy is the caller's to wipe.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// The bytes, for this crate's own arithmetic.
    pub(crate) fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

/// `KDF(context, material)` of FORMAT.md section 1: BLAKE3 in `derive_key` mode, read to the length needed.
pub(crate) fn derive<const N: usize>(context: &'static str, material: &[&[u8]]) -> Secret<N> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in material {
        hasher.update(part);
    }
    let mut out = Zeroizing::new([0; N]);
    hasher.finalize_xof().fill(&mut out[..]);
    Secret(Box::new(out))
}
