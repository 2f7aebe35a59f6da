//! What a vector kernel needs to know of each coefficient, computed at compile time.
//!
//! Multiplication by a constant is linear over the bits of the other factor: eight products, of the powers of two, give
//! all 256. A nibble table has the products of the low and of the high half of a byte, for a shuffle; a bit matrix has
//! the eight products themselves, for the affine instruction. Neither depends on the hardware's own idea of GF(2^8).

/// Products of one coefficient with 0 .. 15, and with 0, 16 .. 240.
pub(super) type Nibbles = [u8; 32];

/// Multiplication by one coefficient as the 8x8 bit matrix of `gf2p8affineqb`.
pub(super) type Matrix = u64;

/// Nibble tables of all coefficients, 8 KiB.
pub(super) static NIBBLES: [Nibbles; 256] = {
    let mut tables = [[0; 32]; 256];
    let mut coefficient = 0;
    while coefficient < 256 {
        tables[coefficient] = nibbles(powers(coefficient as u8));
        coefficient += 1;
    }
    tables
};

/// Bit matrices of all coefficients, 2 KiB.
pub(super) static MATRICES: [Matrix; 256] = {
    let mut tables = [0; 256];
    let mut coefficient = 0;
    while coefficient < 256 {
        tables[coefficient] = matrix(powers(coefficient as u8));
        coefficient += 1;
    }
    tables
};

/// The coefficient times 1, 2, 4 .. 128, modulo x^8 + x^4 + x^3 + x^2 + 1.
const fn powers(coefficient: u8) -> [u8; 8] {
    let mut powers = [coefficient; 8];
    let mut bit = 1;
    while bit < 8 {
        let carry = if powers[bit - 1] & 0x80 == 0 { 0 } else { 0x1d };
        powers[bit] = powers[bit - 1] << 1 ^ carry;
        bit += 1;
    }
    powers
}

const fn nibbles(powers: [u8; 8]) -> Nibbles {
    let mut table = [0; 32];
    let mut value = 1_usize;
    while value < 16 {
        // A value is its lowest bit and a smaller value.
        let (rest, bit) = (value & (value - 1), value.trailing_zeros() as usize);
        table[value] = table[rest] ^ powers[bit];
        table[16 + value] = table[16 + rest] ^ powers[4 + bit];
        value += 1;
    }
    table
}

/// Bit i of a product is the parity of the factor and byte 7 - i of the matrix (Intel SDM, GF2P8AFFINEQB).
const fn matrix(powers: [u8; 8]) -> Matrix {
    let mut bytes = [0; 8];
    let mut bit = 0;
    while bit < 8 {
        let mut factor_bit = 0;
        while factor_bit < 8 {
            bytes[7 - bit] |= (powers[factor_bit] >> bit & 1) << factor_bit;
            factor_bit += 1;
        }
        bit += 1;
    }
    Matrix::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use reed_solomon_erasure::galois_8::mul;

    use super::*;

    #[test]
    fn both_tables_give_every_product() {
        for coefficient in 0..=255_u8 {
            let nibbles = NIBBLES[usize::from(coefficient)];
            let rows = MATRICES[usize::from(coefficient)].to_le_bytes();
            for factor in 0..=255_u8 {
                let expected = mul(coefficient, factor);
                let (low, high) = (usize::from(factor & 15), usize::from(factor >> 4));
                assert_eq!(nibbles[low] ^ nibbles[16 + high], expected, "{coefficient} x {factor}");
                let affine = (0..8).map(|bit| ((rows[7 - bit] & factor).count_ones() as u8 & 1) << bit);
                assert_eq!(affine.sum::<u8>(), expected, "{coefficient} x {factor}");
            }
        }
    }
}
