//! The loops over bytes. One per instruction set, chosen once per coder; all give the same bytes.
//!
//! A vector kernel computes several rows in one pass: it loads a line of each block once and keeps the sums of all rows
//! in registers. So a column's parity costs little more than reading its data.

mod portable;

// What vector kernels share, and those of this processor.
#[cfg(target_arch = "x86_64")]
mod pass;
#[cfg(target_arch = "x86_64")]
mod table;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

use exclave_model::limit::SHARDS_PER_STRIPE_MAX;

/// Which instructions multiply and add blocks.
///
/// Only [`available`](Self::available) and [`fastest`](Self::fastest) make vector kernels, after they have asked the
/// processor: who holds a kernel can run it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Instructions);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    GfniAvx2(x86::GfniAvx2),
    #[cfg(target_arch = "x86_64")]
    GfniAvx512(x86::GfniAvx512),
}

impl Kernel {
    /// One table look-up per byte and coefficient, on every processor. It checks the others, and runs where they can't.
    pub const PORTABLE: Self = Self(Instructions::Portable);

    /// The kernels that this processor runs, the fastest first and the portable one last.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vector = [
            x86::GfniAvx512::detect().map(Instructions::GfniAvx512),
            x86::GfniAvx2::detect().map(Instructions::GfniAvx2),
            x86::Avx2::detect().map(Instructions::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let vector: [Option<Instructions>; 0] = [];
        vector.into_iter().flatten().map(Self).chain([Self::PORTABLE])
    }

    /// The fastest kernel that this processor runs.
    pub fn fastest() -> Self {
        Self::available().next().unwrap_or(Self::PORTABLE)
    }

    /// Its name: the instructions that it needs.
    pub fn name(self) -> &'static str {
        match self.0 {
            Instructions::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Instructions::GfniAvx2(_) => "gfni-avx2",
            #[cfg(target_arch = "x86_64")]
            Instructions::GfniAvx512(_) => "gfni-avx512",
        }
    }

    /// Sets each of `outs` to the sum over j of its row's coefficient j times `blocks[j]`.
    ///
    /// # Panics
    ///
    /// When rows and outs, or coefficients and blocks differ in number, or the blocks in length: our own bug, and it
    /// would spoil a stripe.
    pub(crate) fn combine(self, rows: &[&[u8]], blocks: &[&[u8]], outs: &mut [&mut [u8]]) {
        assert_eq!(rows.len(), outs.len(), "one row for each block that is computed");
        assert!(blocks.len() <= SHARDS_PER_STRIPE_MAX, "no stripe has so many shards");
        for row in rows {
            assert_eq!(row.len(), blocks.len(), "one block for each coefficient");
        }
        let lengths = outs.iter().map(|out| out.len());
        let lengths = lengths.chain(blocks.iter().map(|block| block.len()));
        assert!(all_equal(lengths), "blocks of one column are equally long");

        // Replication is copying, and nothing copies faster than that path.
        let replication = rows.iter().all(|row| *row == [1]);
        match self.0 {
            _ if replication => each_row(rows, blocks, outs),
            Instructions::Portable => each_row(rows, blocks, outs),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(kernel) => pass::combine(kernel, rows, blocks, outs),
            #[cfg(target_arch = "x86_64")]
            Instructions::GfniAvx2(kernel) => pass::combine(kernel, rows, blocks, outs),
            #[cfg(target_arch = "x86_64")]
            Instructions::GfniAvx512(kernel) => pass::combine(kernel, rows, blocks, outs),
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn each_row(rows: &[&[u8]], blocks: &[&[u8]], outs: &mut [&mut [u8]]) {
    for (row, out) in rows.iter().zip(outs) {
        portable::combine(row, blocks, out);
    }
}

fn all_equal(mut lengths: impl Iterator<Item = usize>) -> bool {
    lengths.next().is_none_or(|first| lengths.all(|length| length == first))
}
