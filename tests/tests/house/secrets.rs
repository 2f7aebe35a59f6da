//! Types that hold secrets have no `Debug`, `Display`, `Clone` or `Serialize` (STYLE 14).
//!
//! Which types these are is read from their fields, so that a new one can't be forgotten; that they don't compile with any
//! of the four is asserted in exclave-seal, for each that stands here.

use std::collections::{BTreeMap, BTreeSet};

use crate::{expect_none, output_of, text};

/// What makes a type secret, when a field is or holds it.
const SECRETS: &[&str] = &[
    "Secret",
    "Zeroizing",
    "LessSafeKey",
    "Aes256Gcm",
    "MlDsa65",
    "OutputReader", // foreign and our own roots
];

/// Types that hold a secret and may do one of the four, with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("Text", "a key file's text: to be written down is what it is for"),
    ("SeededEntropy", "for tests: its seed is printed"),
];

/// What must not be had.
const FORBIDDEN: &[&str] = &["Debug", "Display", "Clone", "Copy", "Serialize"];

/// Where the assertions stand.
const ASSERTED: &str = "crates/exclave-seal/src/secret.rs";

/// A struct or enum.
struct Type {
    path: String,
    derives: String,
    fields: String,
    public: bool,
}

#[test]
fn no_secret_prints_copies_or_writes_itself() {
    let (seal, cli) = (sources("exclave-seal"), sources("exclave-cli"));
    let in_seal = secret_types(&types(&seal), SECRETS.iter().map(|name| (*name).to_owned()).collect());
    assert!(in_seal.len() >= 18, "{in_seal:?}");
    let asserted = text(ASSERTED);
    let asserted = words(asserted.split("never_printed_copied_or_written! {").nth(1).unwrap());
    let mut wrong = Vec::new();
    for (own, sources) in [(true, &seal), (false, &cli)] {
        let types = types(sources);
        let secret = match own {
            true => in_seal.clone(),
            // A store's credentials have a type of the same name, which hides itself; and names repeat here, so that only
            // what holds a secret itself is told.
            false => {
                let mut roots = in_seal.clone();
                roots.retain(|name| name != "Secret" && !types.contains_key(name));
                let holds = |of: &Type| !words(&of.fields).is_disjoint(&roots);
                let holders = types.iter().filter(|(_, of)| holds(of));
                holders.map(|(name, _)| name.clone()).collect()
            }
        };
        assert!(!secret.is_empty());
        for name in secret
            .iter()
            .filter(|name| !EXCEPTIONS.iter().any(|(other, _)| other == name))
        {
            let Some(of) = types.get(name) else { continue };
            let derives = words(&of.derives);
            let written = sources.values().flat_map(|source| implemented(source, name));
            let had: BTreeSet<String> = derives.into_iter().chain(written).collect();
            let had: Vec<&&str> = FORBIDDEN.iter().filter(|it| had.contains(**it)).collect();
            if !had.is_empty() {
                wrong.push(format!("{}: {name} holds a secret and has {had:?}", of.path));
            }
            if own && of.public && !asserted.contains(name) {
                wrong.push(format!(
                    "{}: {name} holds a secret; add it to the list in {ASSERTED}",
                    of.path
                ));
            }
        }
    }
    expect_none("secrets that can be printed, copied or written down", &wrong);
}

/// The crate's sources without their tests, by path.
fn sources(package: &str) -> BTreeMap<String, String> {
    let listed = output_of("git", &["ls-files", "-z", &format!("crates/{package}/src/*.rs")]);
    listed
        .split('\0')
        .filter(|path| !path.is_empty() && !path.ends_with("tests.rs"))
        .map(|path| {
            let source = text(path);
            let code = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
            (path.to_owned(), lines.collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

/// Every struct and enum that has fields.
fn types(sources: &BTreeMap<String, String>) -> BTreeMap<String, Type> {
    let mut found = BTreeMap::new();
    for (path, source) in sources {
        let mut derives = String::new();
        let mut lines = source.lines().peekable();
        while let Some(line) = lines.next() {
            if line.trim_start().starts_with("#[derive(") {
                derives.push_str(line);
            }
            let declared = line
                .trim_start()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            let Some(rest) = ["struct ", "enum "].iter().find_map(|word| declared.strip_prefix(word)) else {
                if !line.trim_start().starts_with("#[") && !line.trim().is_empty() {
                    derives.clear();
                }
                continue;
            };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let mut fields = held(rest.get(name.len()..).unwrap_or_default()).to_owned();
            while !line.ends_with(';') && !line.ends_with('}') {
                match lines.next() {
                    Some(line) if line.trim_end() == "}" => break,
                    Some(line) => fields.extend([" ", held(line)]),
                    None => break,
                }
            }
            let public = line.trim_start().starts_with("pub");
            let path = path.clone();
            let derives = std::mem::take(&mut derives);
            found.insert(
                name,
                Type {
                    path,
                    derives,
                    fields,
                    public,
                },
            );
        }
    }
    found
}

/// The types in a line of a declaration: behind a field's name, or in a variant's parentheses.
fn held(line: &str) -> &str {
    match line.trim_start().starts_with('#') {
        true => "",
        false => line.find([':', '(']).map_or("", |at| &line[at..]),
    }
}

/// Names of the types that hold one of these, or hold a type that does.
fn secret_types(types: &BTreeMap<String, Type>, mut known: BTreeSet<String>) -> BTreeSet<String> {
    loop {
        let more: Vec<&String> = types
            .iter()
            .filter(|(name, of)| !known.contains(*name) && !words(&of.fields).is_disjoint(&known))
            .map(|(name, _)| name)
            .collect();
        if more.is_empty() {
            return known;
        }
        known.extend(more.into_iter().cloned().collect::<Vec<_>>());
    }
}

/// Traits that a source implements for a type by hand.
fn implemented<'a>(source: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let heads = source.lines().filter(|line| line.trim_start().starts_with("impl"));
    heads
        .filter_map(|line| line.split_once(" for "))
        .filter(move |(_, whom)| words(whom).contains(name))
        .flat_map(|(what, _)| words(what))
}

fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
