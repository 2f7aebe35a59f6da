//! The files of `tests/vectors`, evaluated with the real crates.
//!
//! They were written from FORMAT.md together with an independent decoder. A file that ends otherwise here is a
//! disagreement between two readers of the format: one of them, or FORMAT.md, is wrong.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a vector that does not say what its layer needs is a broken test"
)]

mod kinds; // what each error is called
mod layers; // how each layer is evaluated

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use exclave_tests::vector::{Vector, files};

use crate::kinds::Refused;

/// Files are added, never removed.
const FILES_MIN: usize = 766;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn vectors() -> BTreeMap<String, Vector> {
    let files = files(&folder(), "vec").unwrap().into_iter();
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let vector = Vector::parse(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
            (name, vector)
        })
        .collect()
}

/// What a file ends with, in the words of its `expect` line.
fn outcome(vector: &Vector) -> Result<String, String> {
    match layers::evaluate(vector) {
        Err(Refused(kind)) => Ok(kind.to_owned()),
        Ok(output) => {
            let found = output.map(|output| blake3::hash(&output).as_bytes().to_vec());
            let wanted = vector.bytes("output").or_else(|| found.clone());
            let unused = vector.unused();
            if found.is_some() && found != wanted {
                return Err("another output".to_owned());
            }
            match unused.is_empty() {
                true => Ok("success".to_owned()),
                false => Err(format!("header lines that nothing reads: {unused:?}")),
            }
        }
    }
}

#[test]
fn every_file_ends_as_it_says() {
    let mut by_layer = BTreeMap::<String, (usize, usize)>::new();
    let mut disagreements = Vec::new();
    for (name, vector) in vectors() {
        let (good, all) = by_layer.entry(vector.text("layer").unwrap().to_owned()).or_default();
        *all += 1;
        let expected = vector.text("expect").unwrap();
        match outcome(&vector) {
            Ok(found) if found == expected => *good += 1,
            found => disagreements.push(format!("{name}: expected {expected}, found {found:?}")),
        }
    }
    // Shown with `--nocapture`.
    for (layer, (good, all)) in &by_layer {
        println!("{layer:10} {good:3} of {all:3} agree");
    }
    let all: usize = by_layer.values().map(|(_, all)| all).sum();
    println!("{:10} {:3} of {all:3} agree", "all", all - disagreements.len());
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    assert!(all >= FILES_MIN, "{all} files, there were {FILES_MIN}");
}

/// The kinds are the README's: each has a file, but for the one that takes a whole archive.
#[test]
fn the_kinds_are_those_of_the_readme() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let (_, table) = readme.split_once("| kind | meaning |").unwrap();
    let listed: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(kind, _)| kind)
        .collect();
    let vectors = vectors();
    let mut used: BTreeSet<&str> = vectors.values().filter_map(|vector| vector.text("expect")).collect();
    assert!(used.remove("success"));
    used.insert("ledger-conflict");
    assert_eq!(used, listed);
}
