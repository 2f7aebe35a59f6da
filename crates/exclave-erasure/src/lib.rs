//! Arithmetic between a sealed stripe and its shards: systematic Reed-Solomon over GF(2^8) (FORMAT.md section 6).
//!
//! A stripe is coded *column by column*: a column is one block of 64 KiB (any equal length will do) of each of its
//! shards. The pipeline seals the k data blocks of a column, computes the parity blocks while they are in cache, hashes
//! all n and goes on. Nothing here allocates per column, and nothing knows what the bytes mean.
//!
//! # The code
//!
//! The field is GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1, 0x11D (not the 0x11B of AES and GFNI). Byte `x` of
//! shard `i` is the value at the point `i` of the one polynomial of degree below k that takes, at the points 0 .. k-1, the
//! values of byte `x` of the k data shards. FORMAT.md writes the same as a matrix product: `V[r][c] = r^c`, M = V x T^-1
//! with T the top k rows of V; T^-1 turns values into a polynomial, V evaluates it. Lagrange's formula gives both the
//! rows of M and the rows that rebuild any shard from any k others, without inverting a matrix:
//!
//! ```text
//! shard i = sum over s in S of shard s x product over t in S, t != s, of (i + t) / (s + t)      S: any k indices, + is XOR
//! ```
//!
//! With S = 0 .. k-1 that is row i of the code. It shows why a row depends on (i, k) only: parity can be added later, up
//! to index 31, and nothing that is stored changes. `k = 1` makes every row `[1]`: plain replication.
//! (Lagrange interpolation as a Reed-Solomon decoder: Reed and Solomon, "Polynomial codes over certain finite fields",
//! J. SIAM 8, 1960. The crate `reed-solomon-erasure` emits the same rows and is the oracle of the tests.)
//!
//! # Kernels
//!
//! Multiplying and adding is done by the fastest [`Kernel`] that this processor runs, chosen at run time: GFNI on 512 or 256
//! bits, AVX2, or the portable loops of `reed-solomon-erasure`. All parity blocks of a column come from one pass over its
//! data. The portable path is the oracle of the others: the [`self_test()`] compares each with it at program start, and
//! `exclave-stripe` once for every stripe.
//!
//! # What it does not do
//!
//! An erasure code never notices a wrong shard: it answers with wrong bytes. Callers hand in only blocks whose hash they
//! have checked, and check what was rebuilt.
//!
//! **Architecture Invariant:** no I/O, no keys, no threads. Lengths and indices that don't fit are our own bugs and stop
//! the program; indices that come from files are parsed by `exclave-model` first.

// The kernels for one processor's vector instructions lift this in their own module, `kernel::x86`, nowhere else.
#![deny(unsafe_code)]

mod coder;
mod kernel;
mod row;
mod self_test;

pub use self::{
    coder::{Coder, Decoder, TooFew},
    kernel::Kernel,
    row::row,
    self_test::{SelfTestFailed, self_test},
};
