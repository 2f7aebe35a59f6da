//! The house rules that no compiler knows: who may use whom, what may be in the graph, how files look.
//!
//! Everything is read from where it is decided: DESIGN section 3's map stands in [`layers`], licences, bans and known
//! duplicates in deny.toml, reasons in Cargo.toml. A failure names the file and what to do.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at its first surprise")]

mod files;
mod graph;
mod layers;
mod licences;
mod secrets;

use std::{path::PathBuf, process::Command};

/// Where the graph is resolved for; what other systems would add isn't ours to judge.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The project's root.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A file of the project, by its path from the root.
fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A TOML file of the project.
fn toml(path: &str) -> toml::Table {
    text(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a command prints, run in the root.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with every line of what is wrong.
#[track_caller]
fn expect_none(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}
