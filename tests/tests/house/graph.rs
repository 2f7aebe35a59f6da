//! What is in the resolved graph: licences, bans, duplicates; and why each direct dependency is there.

use std::collections::{BTreeMap, BTreeSet};

use crate::{TARGET, expect_none, licences, output_of, text, toml};

/// A foreign package in the graph.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

#[test]
fn every_licence_is_on_the_list() {
    let deny = toml("deny.toml");
    let allowed: BTreeSet<&str> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|licence| licence.as_str().unwrap())
        .collect();
    let wrong: Vec<String> = packages()
        .into_iter()
        .filter(|package| !licences::permitted(&package.licence, &allowed))
        .map(|package| format!("{} {}: {}", package.name, package.version, package.licence))
        .collect();
    expect_none("licences outside deny.toml's list", &wrong);
}

#[test]
fn no_banned_crate_is_in_the_graph() {
    let deny = toml("deny.toml");
    let banned = reasons(&deny["bans"]["deny"]);
    let wrong: Vec<String> = packages()
        .iter()
        .filter_map(|package| {
            banned
                .get(package.name.as_str())
                .map(|why| format!("{} {}: {why}", package.name, package.version))
        })
        .collect();
    expect_none("crates that deny.toml bans", &wrong);
}

#[test]
fn duplicates_are_known_and_have_a_reason() {
    let deny = toml("deny.toml");
    let known = reasons(&deny["bans"]["skip"]);
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions
            .entry(package.name)
            .or_default()
            .insert(line_of(&package.version));
    }
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, versions) in versions {
        let unknown: Vec<&String> = versions
            .iter()
            .filter(|version| {
                let key = format!("{name}@{version}");
                let skipped = known.contains_key(key.as_str());
                seen.insert(key);
                !skipped
            })
            .collect();
        if unknown.len() > 1 {
            wrong.push(format!(
                "{name}: {unknown:?}: all but one need a line with a reason in deny.toml"
            ));
        }
    }
    wrong.extend(
        known
            .keys()
            .filter(|key| !seen.contains(**key))
            .map(|key| format!("{key} is gone: remove its line")),
    );
    expect_none("duplicates in the graph", &wrong);
}

#[test]
fn every_direct_dependency_says_why() {
    let manifest = text("Cargo.toml");
    let table = manifest
        .split("[workspace.dependencies]\n")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let lines: Vec<&str> = table.lines().filter(|line| line.contains(" = ")).collect();
    assert!(lines.len() > 30);
    let wrong: Vec<String> = lines
        .iter()
        .filter(|line| !line.contains("path = ") && line.split_once(" # ").is_none_or(|(_, why)| why.len() < 5))
        .map(|line| (*line).to_owned())
        .collect();
    expect_none("dependencies in Cargo.toml without a reason on their line", &wrong);
}

/// The crates of a list of `{ crate, reason }`, with their reasons.
fn reasons(list: &toml::Value) -> BTreeMap<&str, &str> {
    let entries = list.as_array().unwrap().iter();
    let found: BTreeMap<&str, &str> = entries
        .map(|entry| {
            (
                entry["crate"].as_str().unwrap(),
                entry["reason"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    expect_none(
        "deny.toml gives no reason for",
        &found
            .iter()
            .filter(|(_, why)| why.len() < 5)
            .map(|(name, _)| (*name).to_owned())
            .collect::<Vec<_>>(),
    );
    found
}

/// The part of a version that tells incompatible ones apart: 2 of 2.0.119, 0.10 of 0.10.7.
fn line_of(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}"),
        (Some(major), _) => major.to_owned(),
        (None, _) => panic!("no version: {version}"),
    }
}

/// All foreign packages that a build of the workspace and its tests uses, with the features that are really on.
fn packages() -> BTreeSet<Package> {
    let tree = output_of(
        "cargo",
        &[
            "tree",
            "--offline",
            "--workspace",
            "--target",
            TARGET,
            "--edges",
            "normal,build,dev",
            "--prefix",
            "none",
            "--no-dedupe",
            "--format",
            "{p}|{l}",
        ],
    );
    let found: BTreeSet<Package> = tree
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("exclave-"))
        .map(|line| {
            let (package, licence) = line.split_once('|').unwrap();
            let (name, rest) = package.split_once(" v").unwrap();
            let version = rest.split(' ').next().unwrap();
            Package {
                name: name.to_owned(),
                version: version.to_owned(),
                licence: licence.to_owned(),
            }
        })
        .collect();
    assert!(found.len() > 100, "only {} packages in the graph", found.len());
    found
}
