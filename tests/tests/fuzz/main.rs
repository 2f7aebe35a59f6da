//! Every parser, fed with nearly good bytes: none panics, none takes what it would not write, none needs more than its cap.
//!
//! Seeds are the bodies of `tests/vectors` and a few texts. Each input comes of one number, and a failure prints both.
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

use std::{fs, panic, path::Path};

use exclave_engine::journal::{Journal, JournalEntry};
use exclave_model::{SignedObject, limit::RECORD_BYTES_MAX};
use exclave_tests::fuzz::{PARSERS, Parser};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{
    file::Vector,
    mutate::{Chance, mutate},
};

const ADDRESS_BYTES_MAX: u64 = 256 << 20;
const INPUTS_IN_EVERY_RUN: u64 = 8_000;
const INPUTS_BY_NIGHT: u64 = 400_000;

/// Longer bodies of vectors make slow inputs and teach nothing that short ones don't.
const SEED_BYTES_MAX: usize = 64 << 10;

/// Which layers' bodies a parser begins with; whether the record is taken out of the signed object first.
fn layers(parser: &str) -> (&'static [&'static str], bool) {
    match parser {
        "cbor" => (&["record", "ledger", "manifest"], false),
        "context" => (&["context"], false),
        "shard-header" | "shard" => (&["shard"], false),
        "signed" => (&["signed", "charter", "head"], false),
        "charter" => (&["charter"], true),
        "envelope" => (&["envelope"], true),
        "head" => (&["head"], true),
        "plate" | "close" | "reuse" | "sealed-head" => (&["record"], false),
        "ledger" => (&["ledger"], false),
        "page" | "manifest" => (&["manifest"], false),
        "directory" => (&["directory"], false),
        "chunk" => (&["chunk"], false),
        "key-file" => (&["keyfile"], false),
        _ => (&[], false),
    }
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let files = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "vec"));
    files
        .map(|path| Vector::parse(&fs::read_to_string(path).unwrap()).unwrap())
        .collect()
}

/// Pages of run tables, which the vectors keep several at a time.
fn run_pages(vectors: &[Vector]) -> Vec<Vec<u8>> {
    let several = vectors.iter().filter(|vector| vector.text("layer") == Some("runs"));
    several
        .filter_map(|vector| minicbor::decode::<Vec<minicbor::bytes::ByteVec>>(&vector.body).ok())
        .flatten()
        .map(Vec::from)
        .collect()
}

fn a_journal() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut journal = Journal::create(&path).unwrap();
    for _ in 0..3 {
        journal.append(&JournalEntry::Committed).unwrap();
    }
    fs::read(path).unwrap()
}

fn seeds(parser: &str, vectors: &[Vector]) -> Vec<Vec<u8>> {
    let (layers, inside) = layers(parser);
    let bodies = vectors
        .iter()
        .filter(|vector| layers.contains(&vector.text("layer").unwrap()));
    let mut seeds: Vec<Vec<u8>> = bodies
        .filter_map(|vector| match inside {
            true => SignedObject::from_bytes(&vector.body, RECORD_BYTES_MAX)
                .ok()
                .map(|object| object.record_bytes().to_vec()),
            false => Some(vector.body.clone()),
        })
        .collect();
    let texts: &[&str] = match parser {
        "object-name" => &["runs/0123/stripes/00/0.1.ab", "heads/", "plate"],
        "entry-path" => &["registers/land/parcels.csv", "a"],
        "address" => &[
            "/srv/exclave",
            "file:///srv/a%20b",
            "s3://bucket/some/prefix",
            "az://container/prefix",
            "gs://bucket",
            "https://host:8443/dav/",
        ],
        "file-list" => &["./a\0b/c/\0.\0", "registers\0"],
        "exclude-rules" => &["*.tmp\n!keep.tmp\n/cache/\n# why\n[a-z]?/**/x\\ "],
        _ => &[],
    };
    seeds.extend(texts.iter().map(|text| text.as_bytes().to_vec()));
    match parser {
        "runs" => seeds.extend(run_pages(vectors)),
        "live-set" => seeds.push([1u64, 2, 3, 4].iter().flat_map(|number| number.to_be_bytes()).collect()),
        "journal" => seeds.push(a_journal()),
        // The level of the root, and the raw length, stand in front.
        "manifest" => seeds.iter_mut().for_each(|seed| seed.insert(0, 0)),
        "chunk" => seeds.iter_mut().for_each(|seed| _ = seed.splice(0..0, [0, 0, 16, 0])),
        // The header alone, too: it is of one length.
        "shard-header" => seeds
            .iter_mut()
            .for_each(|seed| seed.truncate(exclave_model::context::HEADER_BYTES)),
        _ => {}
    }
    seeds.retain(|seed| seed.len() <= SEED_BYTES_MAX || parser == "shard");
    assert!(!seeds.is_empty(), "{parser} has no seeds");
    seeds
}

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
    let vectors = vectors();
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
    feed_all(INPUTS_BY_NIGHT);
}
