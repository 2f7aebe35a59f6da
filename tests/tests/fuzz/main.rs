//! Every parser, fed with nearly good bytes: none panics, none takes what it would not write, none needs more than its cap.
//!
//! Seeds are the bodies of `tests/vectors`, and where there are none, what our own writers write and what people do. Each input
//! comes of one number, and a failure prints both.
//! The whole process may not have more than 256 MiB of addresses on top of those it began with.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a vector that can't be read is a broken test, and a failure names its input"
)]

#[path = "../vectors/file.rs"]
#[expect(dead_code, reason = "only layers and bodies are wanted here")]
mod file;
mod mutate; // nearly good inputs
mod seeds; // good ones

use std::{fs, num::NonZeroUsize, panic, path::Path};

use exclave_tests::{
    fuzz::{PARSERS, Parser},
    scale,
};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{
    mutate::{Chance, mutate},
    seeds::{seeds, vectors},
};

const ADDRESS_BYTES_MAX: u64 = 256 << 20;
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

/// Limits the addresses of this process; each test of this project has one of its own.
fn limit_addresses() {
    let pages: u64 = fs::read_to_string("/proc/self/statm")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let most = pages * rustix::param::page_size() as u64 + ADDRESS_BYTES_MAX;
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::As, limit).unwrap();
}

fn feed_all(inputs: u64) {
    let vectors = vectors(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"));
    limit_addresses();
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
            "{:13} {:3} seeds, {of_seeds:3} good; {inputs} inputs, {accepted} accepted",
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
