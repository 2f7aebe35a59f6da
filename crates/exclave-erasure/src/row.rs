//! The coefficients of the code: Lagrange's formula over GF(2^8).

use exclave_model::{Code, limit::SHARDS_PER_STRIPE_MAX};
use reed_solomon_erasure::galois_8::{div, mul};

/// Returns the k coefficients of shard `index`: byte x of the shard is the sum over j of coefficient j times byte x of
/// data shard j. It depends on k and the index only, never on how many shards there are.
///
/// ```
/// use exclave_erasure::row;
/// use exclave_model::Code;
///
/// assert_eq!(row(Code::ReedSolomonVandermonde, 2, 2), [3, 2]); // FORMAT.md section 6
/// assert_eq!(row(Code::ReedSolomonVandermonde, 2, 3), [2, 3]);
/// ```
///
/// # Panics
///
/// When k is 0, or k or the index are beyond what the format has room for: both were parsed long before.
pub fn row(code: Code, k: u8, index: u8) -> Vec<u8> {
    let Code::ReedSolomonVandermonde = code;
    assert!(
        k >= 1 && usize::from(k) <= SHARDS_PER_STRIPE_MAX,
        "no stripe has {k} data shards"
    );
    let points: Vec<u8> = (0..k).collect();
    interpolation_row(&points, index)
}

/// The coefficients that give the value at the point `index` from the values at `points`, which are distinct.
pub(crate) fn interpolation_row(points: &[u8], index: u8) -> Vec<u8> {
    assert!(
        usize::from(index) < SHARDS_PER_STRIPE_MAX,
        "no stripe has a shard {index}"
    );
    let basis = |own: u8| {
        points
            .iter()
            .filter(|&&other| other != own)
            // Addition and subtraction are XOR. The divisor is not 0: the points are distinct.
            .map(|&other| div(index ^ other, own ^ other))
            .fold(1, mul)
    };
    points.iter().map(|&own| basis(own)).collect()
}

#[cfg(test)]
mod tests {
    use exclave_model::Geometry;
    use reed_solomon_erasure::galois_8::ReedSolomon;

    use super::*;

    const RS: Code = Code::ReedSolomonVandermonde;

    /// Multiplication from the definition, without tables: shift, subtract the polynomial, add.
    fn multiply(mut a: u8, mut b: u8) -> u8 {
        let mut product = 0;
        while b != 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d };
            b >>= 1;
        }
        product
    }

    /// FORMAT.md's definition, word for word: V x T^-1 with Gauss-Jordan elimination and table-free multiplication.
    fn rows_by_matrix(k: usize, n: usize) -> Vec<Vec<u8>> {
        let power = |r: u8, c: usize| (0..c).fold(1, |product, _| multiply(product, r));
        let vandermonde: Vec<Vec<u8>> = (0..n).map(|r| (0..k).map(|c| power(r as u8, c)).collect()).collect();
        let mut left: Vec<Vec<u8>> = vandermonde[..k].to_vec();
        let mut right: Vec<Vec<u8>> = (0..k).map(|r| (0..k).map(|c| u8::from(r == c)).collect()).collect();
        for d in 0..k {
            let pivot = (d..k).find(|&r| left[r][d] != 0).expect("T is regular");
            left.swap(d, pivot);
            right.swap(d, pivot);
            let inverse = (1..=255).find(|&x| multiply(x, left[d][d]) == 1).expect("not zero");
            for c in 0..k {
                left[d][c] = multiply(left[d][c], inverse);
                right[d][c] = multiply(right[d][c], inverse);
            }
            for r in (0..k).filter(|&r| r != d) {
                let factor = left[r][d];
                for c in 0..k {
                    left[r][c] ^= multiply(factor, left[d][c]);
                    right[r][c] ^= multiply(factor, right[d][c]);
                }
            }
        }
        let product = |row: &[u8]| {
            (0..k)
                .map(|c| (0..k).fold(0, |sum, i| sum ^ multiply(row[i], right[i][c])))
                .collect()
        };
        vandermonde.iter().map(|row| product(row)).collect()
    }

    /// What the oracle crate computes with: unit vectors show its rows.
    fn rows_of_the_crate(k: usize, n: usize) -> Vec<Vec<u8>> {
        let codec = ReedSolomon::new(k, n - k).expect("a valid geometry");
        let mut shards: Vec<Vec<u8>> = (0..n).map(|i| (0..k).map(|j| u8::from(i == j)).collect()).collect();
        codec.encode(&mut shards).expect("equal lengths");
        shards
    }

    #[test]
    fn rows_are_those_of_the_matrix_and_of_the_crate() {
        for k in 1..=32_usize {
            let ours: Vec<Vec<u8>> = (0..32).map(|index| row(RS, k as u8, index)).collect();
            assert_eq!(ours, rows_by_matrix(k, 32), "k = {k}, the definition");
            if k < 32 {
                assert_eq!(ours, rows_of_the_crate(k, 32), "k = {k}, the crate");
            }
        }
    }

    #[test]
    fn a_row_never_changes_when_n_grows() {
        for k in 1..32_usize {
            let widest = rows_of_the_crate(k, 32);
            for n in k + 1..32 {
                assert_eq!(rows_of_the_crate(k, n), widest[..n], "{k} of {n}");
            }
            for (index, expected) in widest.iter().enumerate() {
                assert_eq!(&row(RS, k as u8, index as u8), expected, "k = {k}, index {index}");
            }
        }
        assert!(Geometry::new(1, 31).is_ok() && Geometry::new(1, 32).is_err());
    }

    #[test]
    fn the_top_is_the_identity_and_k_1_replicates() {
        for k in 1..=32_u8 {
            for index in 0..k {
                let unit: Vec<u8> = (0..k).map(|j| u8::from(j == index)).collect();
                assert_eq!(row(RS, k, index), unit);
            }
        }
        for index in 0..32 {
            assert_eq!(row(RS, 1, index), [1]);
        }
    }
}
