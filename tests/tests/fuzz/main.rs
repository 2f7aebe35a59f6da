//! Every parser, fed with nearly good bytes: none panics, none takes what it would not write, none needs more than its cap.
//!
//! Each input comes of one number, and a failure prints both. Nothing here is guided by coverage; the package in `fuzz/` is.
//! The whole process may not have more than 256 MiB of addresses on top of those it began with.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a limit that can't be set is a broken test, and a failure names its input"
)]

mod mutate; // nearly good inputs

use std::{num::NonZeroUsize, panic};

use exclave_tests::{
    fuzz::{
        PARSERS, Parser, limit_addresses,
        seeds::{seeds, vectors},
    },
    scale,
};

use crate::mutate::{Chance, mutate};

const INPUTS_IN_EVERY_RUN: u64 = 40_000;
const INPUTS_BY_NIGHT: NonZeroUsize = NonZeroUsize::new(4_000_000).unwrap();

/// The input that a number makes.
fn input(number: u64, seeds: &[Vec<u8>]) -> Vec<u8> {
    mutate(&mut Chance(number.wrapping_mul(0xD6E8_FEB8_6659_FD93)), seeds)
}

fn feed(parser: &Parser, bytes: &[u8], which: &str) -> bool {
    panic::catch_unwind(|| (parser.read)(bytes)).unwrap_or_else(|_| {
        let digits: String = bytes.iter().take(4096).map(|byte| format!("{byte:02x}")).collect();
        panic!("{} panics on {which}: {} bytes, {digits}", parser.name, bytes.len())
    })
}

fn feed_all(inputs: u64) {
    let vectors = vectors();
    limit_addresses().unwrap();
    for parser in PARSERS {
        let seeds = seeds(parser.name, &vectors);
        // Large inputs, and those that touch a file, are slow; fewer of them do.
        let inputs = match parser.name {
            "shard" | "journal" | "chunk" => inputs / 8,
            _ => inputs,
        };
        let of_seeds = seeds.iter().filter(|seed| feed(parser, seed, "a seed")).count();
        let accepted = (0..inputs)
            .filter(|number| feed(parser, &input(*number, &seeds), &format!("input {number}")))
            .count();
        println!(
            "{:14} {:3} seeds, {of_seeds:3} good; {inputs} inputs, {accepted} accepted",
            parser.name,
            seeds.len()
        );
    }
}

#[test]
fn no_parser_panics_or_takes_what_it_would_not_write() {
    feed_all(INPUTS_IN_EVERY_RUN);
}

#[test]
#[ignore = "takes many minutes; tools/nightly fuzz runs it"]
fn no_parser_panics_on_many_more() {
    let inputs = scale::of("FUZZ_INPUTS", INPUTS_BY_NIGHT).unwrap();
    feed_all(inputs.get() as u64);
}
