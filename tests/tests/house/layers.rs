//! Dependencies flow one way (DESIGN section 3).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{TARGET, expect_none, output_of};

/// Layers, lowest first. A crate may use only lower layers; siblings never meet.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["dataset", "seal", "erasure", "plan", "log", "catalog", "site"],
    &["stripe"],
    &["engine"],
    &["agent"],
    &["cli"],
];

/// Packages that only test and measure: they may use everything and nothing may use them.
const OUTSIDE: &[&str] = &["tests", "benches"];

/// Crates whose public types or threads may know an async runtime.
const MAY_USE_TOKIO: &[&str] = &["site", "catalog", "engine", "agent", "cli"];

/// Crates that take no part in I/O at all: nothing below them may either.
const PURE: &[&str] = &["model", "plan", "log", "erasure", "seal", "stripe", "dataset"];

#[test]
fn dependencies_flow_one_way() {
    let mut wrong = Vec::new();
    for (user, dependencies) in direct_dependencies() {
        if OUTSIDE.contains(&user.as_str()) {
            continue;
        }
        let Some(own) = layer(&user) else {
            wrong.push(format!(
                "exclave-{user} is in no layer; give it one in DESIGN section 3 and here"
            ));
            continue;
        };
        for used in dependencies.iter().filter_map(|name| name.strip_prefix("exclave-")) {
            if layer(used).is_none_or(|used| used >= own) {
                wrong.push(format!("exclave-{user} uses exclave-{used}, which isn't below it"));
            }
        }
    }
    expect_none("a crate uses only lower layers", &wrong);
}

#[test]
fn runtimes_and_command_lines_stay_at_the_edge() {
    let mut wrong = Vec::new();
    for (user, dependencies) in direct_dependencies() {
        if OUTSIDE.contains(&user.as_str()) {
            continue;
        }
        for name in dependencies {
            let allowed = match name.split(['-', '_']).next().unwrap_or_default() {
                "tokio" => MAY_USE_TOKIO.contains(&user.as_str()),
                "clap" => user == "cli",
                _ => true,
            };
            if !allowed {
                wrong.push(format!("exclave-{user} uses {name}"));
            }
        }
    }
    expect_none(
        "tokio stays in site, catalog, engine, agent and cli; clap in cli",
        &wrong,
    );
}

#[test]
fn nothing_below_a_pure_crate_does_io() {
    const IO: &[&str] = &["tokio", "mio", "reqwest", "hyper", "object_store", "sqlx", "async-std"];
    let mut wrong = Vec::new();
    for name in PURE {
        let package = format!("exclave-{name}");
        let tree = output_of(
            "cargo",
            &[
                "tree",
                "--offline",
                "--package",
                &package,
                "--target",
                TARGET,
                "--edges",
                "normal",
                "--prefix",
                "none",
            ],
        );
        let found = tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .filter(|used| IO.contains(used));
        wrong.extend(found.map(|used| format!("{package} reaches {used}")));
    }
    expect_none(
        "model, plan, log, erasure, seal, stripe and dataset reach no network library",
        &wrong,
    );
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Each package of the workspace without its `exclave-`, and whom its Cargo.toml names, of every kind.
fn direct_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = output_of(
        "cargo",
        &["metadata", "--format-version", "1", "--no-deps", "--offline"],
    );
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let found: BTreeMap<_, _> = packages
        .map(|package| {
            let own = name(package);
            let dependencies = package["dependencies"].as_array().unwrap().iter().map(name);
            (own.strip_prefix("exclave-").unwrap().to_owned(), dependencies.collect())
        })
        .collect();
    assert!(found.len() > 10, "the workspace has all its crates: {:?}", found.keys());
    found
}
