//! Key bytes in memory: boxed so that moves leave no copies, wiped when dropped, without `Debug`, `Clone` or `Serialize`,
//! and locked, so that they reach no swap, where the operating system allows it.
//!
//! Each secret has a page of its own: locks don't nest, and to unlock a shared page would unlock its neighbours. What is
//! locked are seeds, derived keys and values of shares. Copies that libraries make of them while they compute (key
//! schedules, expanded keys, Argon2's memory) and passphrases are locked only where the whole process is. A refusal, as
//! beyond RLIMIT_MEMLOCK, is no error: whoever is refused needs swap that is encrypted, or none.

use std::sync::atomic::{AtomicBool, Ordering};

use region::LockGuard;
use zeroize::Zeroize as _;

/// The whole process is locked already: secrets leave it at that, because unlocking theirs would make holes in it.
static PROCESS_IS_LOCKED: AtomicBool = AtomicBool::new(false);

/// Says that all memory of this process is locked, now and in future.
pub fn process_is_locked() {
    PROCESS_IS_LOCKED.store(true, Ordering::Relaxed);
}

/// Room for a secret. Where pages are larger than 4 KiB, two may share one; the first that is dropped then unlocks both.
#[repr(C, align(4096))]
struct Page<const N: usize>([u8; N]);

/// `N` secret bytes.
pub struct Secret<const N: usize> {
    page: Box<Page<N>>,
    /// Dropped after the bytes were wiped.
    _lock: Option<LockGuard>,
}

impl<const N: usize> Secret<N> {
    /// Takes secret bytes; the caller's copy is the caller's to wipe.
    pub fn new(bytes: [u8; N]) -> Self {
        let bytes = zeroize::Zeroizing::new(bytes);
        Self::filled(|secret| secret.copy_from_slice(&bytes[..]))
    }

    /// Secret bytes that are written where they stay.
    fn filled(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let page = Box::new(Page([0; N]));
        let lock = match PROCESS_IS_LOCKED.load(Ordering::Relaxed) {
            true => None,
            false => region::lock(page.0.as_ptr(), N).ok(),
        };
        let mut secret = Self { page, _lock: lock };
        fill(&mut secret.page.0);
        secret
    }

    /// The bytes, for this crate's own arithmetic.
    pub(crate) fn expose(&self) -> &[u8; N] {
        &self.page.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.page.0.zeroize();
    }
}

/// `KDF(context, material)` of FORMAT.md section 1: BLAKE3 in `derive_key` mode, read to the length needed.
pub(crate) fn derive<const N: usize>(context: &'static str, material: &[&[u8]]) -> Secret<N> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in material {
        hasher.update(part);
    }
    Secret::filled(|out| hasher.finalize_xof().fill(out))
}

#[cfg(test)]
mod tests {
    use static_assertions::assert_not_impl_any;

    use super::*;
    use crate::{
        aead::Cipher,
        cosigning::CosigningKey,
        dataset_keys::{ChunkHasher, DatasetSecret, GearBytes, PageBoundaryKey},
        entropy::Drawn,
        envelope::RecoveryIdentity,
        key_file::{KeyFile, Passphrase},
        run_key::RunKey,
        share::{CeremonyKey, Checked, Entry, Share},
        signing::{Kept, SigningKey},
        stripe_key::StripeKey,
    };

    /// What would print, copy or write down a secret does not compile. Each is a line of its own: the house's test holds
    /// them against the types that there are.
    macro_rules! never_printed_copied_or_written {
        ($($secret:ty),* $(,)?) => { $(
            assert_not_impl_any!($secret: std::fmt::Debug, std::fmt::Display, Clone, Copy, serde::Serialize);
        )* };
    }

    never_printed_copied_or_written! {
        Secret<32>,
        Page<32>,
        Cipher,
        ChunkHasher,
        DatasetSecret,
        GearBytes,
        PageBoundaryKey,
        Drawn,
        RecoveryIdentity,
        KeyFile,
        Kept<'static>,
        Passphrase,
        RunKey,
        CeremonyKey,
        CosigningKey,
        Checked<'static>,
        Entry,
        Share,
        SigningKey,
        StripeKey,
    }

    /// Locked kilobytes around an address, from the kernel.
    fn locked_kib_at(address: usize) -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let mut inside = false;
        for line in text.lines() {
            let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
            let number = |digits| usize::from_str_radix(digits, 16).ok();
            if let Some((from, to)) = bounds.and_then(|(from, to)| number(from).zip(number(to))) {
                inside = (from..to).contains(&address);
            } else if let (true, Some(rest)) = (inside, line.strip_prefix("Locked:")) {
                return rest.trim().split(' ').next()?.parse().ok();
            }
        }
        None
    }

    #[test]
    fn a_secret_is_locked_on_a_page_of_its_own_while_it_lives() {
        let (first, second) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let page = |secret: &Secret<32>| secret.expose().as_ptr() as usize;
        assert_ne!(page(&first) / 4096, page(&second) / 4096);
        assert!(
            first._lock.is_some() && second._lock.is_some(),
            "8 MiB may be locked by default"
        );
        let kept = page(&second);
        drop(first);
        assert!(locked_kib_at(kept).is_some_and(|kib| kib >= 4));
        assert_eq!(second.expose(), &[2; 32]);
    }
}
