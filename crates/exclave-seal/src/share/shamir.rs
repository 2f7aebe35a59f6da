//! Shamir's scheme over GF(2^8), byte by byte (A. Shamir, How to share a secret, Comm. ACM 22, 1979).
//!
//! The field is that of AES (0x11B), not the erasure code's (0x11D). Its arithmetic is `vsss-rs`, in constant time and
//! without tables. A secret byte is the value at 0 of a polynomial of degree t - 1 whose other coefficients are uniform,
//! the leading one included; a share is its value at x. The x are 1, 2, ... by position and never 0, where the secret is.
//! The polynomials are evaluated here and not by the library, so that the coefficients are drawn from our own source and
//! wiped.

use vsss_rs::Gf256;
use zeroize::Zeroizing;

use super::VALUE_BYTES;
use crate::{
    entropy::{Entropy, NoEntropy},
    secret::Secret,
};

/// Values at x = 1 to m, any t of which give the secret.
pub(super) fn split(
    secret: &Secret<VALUE_BYTES>,
    threshold: u8,
    shares: u8,
    entropy: &mut dyn Entropy,
) -> Result<Vec<Secret<VALUE_BYTES>>, NoEntropy> {
    let mut coefficients = Zeroizing::new(vec![[0; VALUE_BYTES]; usize::from(threshold).saturating_sub(1)]);
    for coefficient in coefficients.iter_mut() {
        entropy.fill(coefficient)?;
    }
    Ok((1..=shares).map(|x| evaluate(secret, &coefficients, x)).collect())
}

/// Horner's rule, highest coefficient first.
fn evaluate(secret: &Secret<VALUE_BYTES>, coefficients: &[[u8; VALUE_BYTES]], x: u8) -> Secret<VALUE_BYTES> {
    let mut value = Zeroizing::new([0; VALUE_BYTES]);
    for coefficient in coefficients.iter().rev().chain([secret.expose()]) {
        for (sum, byte) in value.iter_mut().zip(coefficient) {
            *sum = (Gf256(*sum) * Gf256(x) + Gf256(*byte)).0;
        }
    }
    Secret::new(*value)
}

/// The secret of values at distinct x. With fewer than t of them, or others than were split, it is another one: callers
/// compare a commitment. `None` for x that are 0 or stand twice, and for fewer than two values.
pub(super) fn combine<'a>(values: impl Iterator<Item = (u8, &'a Secret<VALUE_BYTES>)>) -> Option<Secret<VALUE_BYTES>> {
    let shares: Vec<Vec<u8>> = values
        .map(|(x, value)| {
            // One allocation of the final size, so that no copy is left behind.
            let mut share = Vec::with_capacity(1 + VALUE_BYTES);
            share.push(x);
            share.extend_from_slice(value.expose());
            share
        })
        .collect();
    let shares = Zeroizing::new(shares);
    let secret = Zeroizing::new(Gf256::combine_bytes(&*shares).ok()?);
    <[u8; VALUE_BYTES]>::try_from(secret.as_slice())
        .ok()
        .map(|bytes| Secret::new(*Zeroizing::new(bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::SeededEntropy;

    /// Every subset of `of` things, as bit masks.
    fn subsets(of: u8) -> impl Iterator<Item = Vec<u8>> {
        (0u32..1 << of).map(move |mask| (1..=of).filter(|x| mask >> (x - 1) & 1 == 1).collect())
    }

    #[test]
    fn every_subset_of_t_gives_the_secret_and_no_smaller_one_does() {
        let mut entropy = SeededEntropy::new(70);
        for of in 2..=6u8 {
            for threshold in 2..=of {
                let secret = Secret::new([of ^ threshold << 4; 32]);
                let values = split(&secret, threshold, of, &mut entropy).unwrap();
                for chosen in subsets(of) {
                    let found = combine(chosen.iter().map(|x| (*x, &values[usize::from(*x) - 1])));
                    let right = found.is_some_and(|found| found.expose() == secret.expose());
                    assert_eq!(
                        right,
                        chosen.len() >= usize::from(threshold),
                        "{threshold} of {of}: {chosen:?}"
                    );
                }
            }
        }
    }

    /// For every t - 1 values and every secret there is exactly one polynomial: the values leave all secrets possible,
    /// and equally likely. Shown for one byte, all 256 secrets, and every t - 1 of m shares up to m = 6.
    #[test]
    fn fewer_than_t_leave_every_secret_possible() {
        let mut entropy = SeededEntropy::new(71);
        for of in 2..=6u8 {
            for threshold in 2..=of {
                let values = split(&Secret::new([0x5a; 32]), threshold, of, &mut entropy).unwrap();
                for chosen in subsets(of).filter(|chosen| chosen.len() + 1 == usize::from(threshold)) {
                    let mut last = std::collections::BTreeSet::new();
                    let absent = (1..=of).find(|x| !chosen.contains(x)).unwrap();
                    // Walk through all values of one more share: each gives another secret.
                    for guess in 0..=255u8 {
                        let one_more = Secret::new([guess; 32]);
                        let known = chosen.iter().map(|x| (*x, &values[usize::from(*x) - 1]));
                        let secret = combine(known.chain([(absent, &one_more)])).unwrap();
                        last.insert(secret.expose()[0]);
                    }
                    assert_eq!(last.len(), 256, "{threshold} of {of}: {chosen:?}");
                }
            }
        }
    }

    #[test]
    fn x_is_neither_zero_nor_twice() {
        let values = split(&Secret::new([1; 32]), 2, 3, &mut SeededEntropy::new(72)).unwrap();
        assert!(combine([(0, &values[0]), (1, &values[1])].into_iter()).is_none());
        assert!(combine([(1, &values[0]), (1, &values[0])].into_iter()).is_none());
        assert!(combine([(1, &values[0])].into_iter()).is_none());
    }

    proptest! {
        /// The library's own splitting is another evaluation of the same polynomials: what it splits we combine, and
        /// a known answer in AES's field stands in the vectors.
        #[test]
        fn what_the_library_splits_combines(secret: [u8; 32], threshold in 2usize..=16, seed: u64) {
            let mut source = SeededEntropy::new(seed);
            let random = crate::entropy::Drawn::from(&mut source).unwrap();
            let shares = Gf256::split_bytes(threshold, 16, secret, random).unwrap();
            let values: Vec<_> = shares
                .iter()
                .map(|share| (share[0], Secret::new(share[1..].try_into().unwrap())))
                .collect();
            let last = values.iter().rev().take(threshold).map(|(x, value)| (*x, value));
            let found = combine(last).unwrap();
            prop_assert_eq!(found.expose(), &secret);
        }

        #[test]
        fn what_we_split_the_library_combines(secret: [u8; 32], threshold in 2u8..=16, seed: u64) {
            let values = split(&Secret::new(secret), threshold, 16, &mut SeededEntropy::new(seed)).unwrap();
            let shares: Vec<Vec<u8>> = (1u8..)
                .zip(&values)
                .map(|(x, value)| [&[x][..], value.expose()].concat())
                .take(usize::from(threshold))
                .collect();
            prop_assert_eq!(Gf256::combine_bytes(shares).unwrap(), secret.to_vec());
        }
    }
}
