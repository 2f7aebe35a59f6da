//! Kernels for x86-64: nibble tables and shuffles with AVX2, bit matrices with GFNI on 256 or 512 bits.
//!
//! GFNI's own multiplication is that of AES (0x11B), not ours (0x11D); its affine instruction multiplies by any matrix, so
//! by any coefficient of any field. A shuffle looks up 32 bytes at once in tables of sixteen: one for each half of a byte.
//! (Plank, Greenan, Miller, "Screaming fast Galois field arithmetic using Intel SIMD instructions", FAST 2013.)
//!
//! What is unsafe here, and why it is sound:
//!
//! - *Instructions that the processor may not have.* They stand in functions with `#[target_feature]`. Only a call from
//!   outside such functions is unsafe; there is one, in a method of types that nothing but `detect` makes. What is detected
//!   and what the loop enables come from one list, and the compiler lets the loop call nothing that needs more.
//! - *Loads and stores through pointers.* There is one of each per vector width. Each is given a reference to an array of
//!   exactly as many bytes, so no length has to be believed; safe code cuts blocks into such arrays.

#![expect(
    unsafe_code,
    reason = "vector instructions; the module's head says why each use is sound"
)]

use super::{
    pass::Pass,
    table::{MATRICES, Matrix, NIBBLES, Nibbles},
};

/// The proof that the processor has some instructions, and the kernel that uses them: `run` of the module.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident = $module:ident, $factor:ty = $factors:ident, up to $rows_max:literal rows) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) struct $name(());

        impl $name {
            /// Asks the processor and the operating system; `std` remembers the answer.
            pub(super) fn detect() -> Option<Self> {
                $module::detected().then_some(Self(()))
            }
        }

        impl Pass for $name {
            type Factor = $factor;
            const FACTORS: &'static [$factor; 256] = &$factors;
            const ROWS_MAX: usize = $rows_max;

            fn run<const R: usize>(
                self,
                factors: &[[$factor; R]],
                blocks: &[&[u8]],
                outs: &mut [&mut [u8]; R],
            ) -> usize {
                // SAFETY: `self` was made by `detect`, so `detected` has found every feature that `run` enables: the macro
                // `run!` makes both from one list.
                unsafe { $module::run(factors, blocks, outs) }
            }
        }
    };
}

kernel! {
    /// A shuffle for each half of a byte. Four rows leave room for tables in sixteen registers.
    Avx2 = avx2, Nibbles = NIBBLES, up to 4 rows
}

kernel! {
    /// One affine instruction for 32 products.
    GfniAvx2 = gfni_avx2, Matrix = MATRICES, up to 4 rows
}

kernel! {
    /// One affine instruction for 64 products, and 32 registers.
    GfniAvx512 = gfni_avx512, Matrix = MATRICES, up to 6 rows
}

/// The loop over a column, which is the same for all. A step is two lines of each block, so that a factor that was spread
/// over a register serves twice.
///
/// It is made of the module's own `read` (a line of a block), `spread` (a factor), `zero`, `multiply_add` and `write` (a
/// line of a sum). All have the same features, so that they are inlined; closures and adapters would not be.
macro_rules! run {
    ($($feature:tt),+) => {
        /// True when all features of [`run`](fn@run) are there.
        pub(super) fn detected() -> bool {
            $(is_x86_feature_detected!($feature))&&+
        }

        /// As [`Pass::run`](super::Pass::run).
        $(#[target_feature(enable = $feature)])+
        pub(super) fn run<const R: usize>(
            factors: &[[Factor; R]],
            blocks: &[&[u8]],
            outs: &mut [&mut [u8]; R],
        ) -> usize {
            let steps = outs
                .iter()
                .map(|out| out.len() / (2 * LINE_BYTES))
                .min()
                .unwrap_or(0);
            for step in 0..steps {
                let mut sums = [[zero(); 2]; R];
                for (factors, block) in factors.iter().zip(blocks) {
                    let [first, second] = &block.as_chunks::<LINE_BYTES>().0.as_chunks().0[step];
                    let (first, second) = (read(first), read(second));
                    for (sums, factor) in sums.iter_mut().zip(factors) {
                        let factor = spread(factor);
                        sums[0] = multiply_add(sums[0], factor, first);
                        sums[1] = multiply_add(sums[1], factor, second);
                    }
                }
                for (out, sums) in outs.iter_mut().zip(&sums) {
                    let [first, second] = &mut out.as_chunks_mut::<LINE_BYTES>().0.as_chunks_mut().0[step];
                    write(first, sums[0]);
                    write(second, sums[1]);
                }
            }
            steps * 2 * LINE_BYTES
        }
    };
}

mod avx2 {
    use std::arch::x86_64::*;

    use super::Nibbles as Factor;

    const LINE_BYTES: usize = 32;

    run!("avx2");

    /// The low and the high half of each byte of a line.
    #[derive(Clone, Copy)]
    struct Source(__m256i, __m256i);

    /// The products of those halves, in each 128 bits.
    #[derive(Clone, Copy)]
    struct Tables(__m256i, __m256i);

    #[inline]
    #[target_feature(enable = "avx2")]
    fn read(line: &[u8; LINE_BYTES]) -> Source {
        // SAFETY: the reference is to 32 bytes that may be read; the instruction asks for no alignment.
        let bytes = unsafe { _mm256_loadu_si256(line.as_ptr().cast()) };
        let nibble = _mm256_set1_epi8(15);
        // There is no shift of bytes: what comes over from the neighbour is masked away.
        let high = _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), nibble);
        Source(_mm256_and_si256(bytes, nibble), high)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn spread(factor: &Factor) -> Tables {
        let (low, high) = factor.split_at(16);
        // SAFETY: both halves of 32 bytes are 16 bytes long and may be read; the instruction asks for no alignment.
        let (low, high) = unsafe {
            (
                _mm_loadu_si128(low.as_ptr().cast()),
                _mm_loadu_si128(high.as_ptr().cast()),
            )
        };
        Tables(_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn multiply_add(sum: __m256i, Tables(low, high): Tables, source: Source) -> __m256i {
        let products = _mm256_xor_si256(_mm256_shuffle_epi8(low, source.0), _mm256_shuffle_epi8(high, source.1));
        _mm256_xor_si256(sum, products)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn write(line: &mut [u8; LINE_BYTES], sum: __m256i) {
        // SAFETY: the reference is to 32 bytes that only we may write; the instruction asks for no alignment.
        unsafe { _mm256_storeu_si256(line.as_mut_ptr().cast(), sum) };
    }
}

mod gfni_avx2 {
    use std::arch::x86_64::*;

    use super::Matrix as Factor;

    const LINE_BYTES: usize = 32;

    run!("gfni", "avx2");

    #[inline]
    #[target_feature(enable = "gfni,avx2")]
    fn read(line: &[u8; LINE_BYTES]) -> __m256i {
        // SAFETY: the reference is to 32 bytes that may be read; the instruction asks for no alignment.
        unsafe { _mm256_loadu_si256(line.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "gfni,avx2")]
    fn spread(factor: &Factor) -> __m256i {
        _mm256_set1_epi64x(factor.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "gfni,avx2")]
    fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline]
    #[target_feature(enable = "gfni,avx2")]
    fn multiply_add(sum: __m256i, matrix: __m256i, source: __m256i) -> __m256i {
        _mm256_xor_si256(sum, _mm256_gf2p8affine_epi64_epi8::<0>(source, matrix))
    }

    #[inline]
    #[target_feature(enable = "gfni,avx2")]
    fn write(line: &mut [u8; LINE_BYTES], sum: __m256i) {
        // SAFETY: the reference is to 32 bytes that only we may write; the instruction asks for no alignment.
        unsafe { _mm256_storeu_si256(line.as_mut_ptr().cast(), sum) };
    }
}

mod gfni_avx512 {
    use std::arch::x86_64::*;

    use super::Matrix as Factor;

    const LINE_BYTES: usize = 64;

    run!("gfni", "avx512f");

    #[inline]
    #[target_feature(enable = "gfni,avx512f")]
    fn read(line: &[u8; LINE_BYTES]) -> __m512i {
        // SAFETY: the reference is to 64 bytes that may be read; the instruction asks for no alignment.
        unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "gfni,avx512f")]
    fn spread(factor: &Factor) -> __m512i {
        _mm512_set1_epi64(factor.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "gfni,avx512f")]
    fn zero() -> __m512i {
        _mm512_setzero_si512()
    }

    #[inline]
    #[target_feature(enable = "gfni,avx512f")]
    fn multiply_add(sum: __m512i, matrix: __m512i, source: __m512i) -> __m512i {
        _mm512_xor_si512(sum, _mm512_gf2p8affine_epi64_epi8::<0>(source, matrix))
    }

    #[inline]
    #[target_feature(enable = "gfni,avx512f")]
    fn write(line: &mut [u8; LINE_BYTES], sum: __m512i) {
        // SAFETY: the reference is to 64 bytes that only we may write; the instruction asks for no alignment.
        unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), sum) };
    }
}
