//! How the project's files look.

use std::path::Path;

use crate::{expect_none, output_of, root, text};

/// Longest source file, in lines. At this length a concept is missing.
const LINES_MAX: usize = 900;

/// Files that may be longer.
const LONG: &[(&str, &str)] = &[(
    "tools/rescue.py",
    "one file is its point: a stranger needs nothing else of ours",
)];

/// The one file with unsafe code: kernels for vector instructions. Clippy asks for a proof beside each use.
const UNSAFE: &str = "crates/exclave-erasure/src/kernel/x86.rs";

/// What belongs to one machine or to a build's surroundings, in halves so that this file has none of them.
const FOREIGN: &[(&str, &str)] = &[
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("registry.npmjs", ".org"),
    ("deb.debian", ".org"),
    ("proxy.golang", ".org"),
    ("/work/", "main"),
    ("/work/", "shared"),
    ("/tmp/", "brief"),
];

#[test]
fn no_source_file_is_too_long() {
    let wrong: Vec<String> = tracked(&["rs", "py"])
        .into_iter()
        .filter(|path| !LONG.iter().any(|(long, _)| long == path))
        .map(|path| (text(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    expect_none("source files above 900 lines: which concept is missing?", &wrong);
}

#[test]
fn unsafe_code_stays_in_the_kernels_of_erasure() {
    let mut wrong = Vec::new();
    let mut roots = 0;
    for path in tracked(&["rs"]) {
        let erasure = path.starts_with("crates/exclave-erasure/");
        let source = text(&path);
        if path.starts_with("crates/") && (path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs")) {
            roots += 1;
            let wanted = if erasure {
                "#![deny(unsafe_code)]"
            } else {
                "#![forbid(unsafe_code)]"
            };
            if !source.lines().any(|line| line == wanted) {
                wrong.push(format!("{path} has no {wanted}"));
            }
        }
        if path == UNSAFE {
            assert!(
                unsafe_lines(&source).count() > 0,
                "{UNSAFE} has no unsafe code: no file may"
            );
        } else {
            wrong.extend(unsafe_lines(&source).map(|line| format!("{path}:{line}")));
        }
    }
    assert!(roots >= 10, "only {roots} crate roots found");
    expect_none("unsafe code outside the kernels of exclave-erasure", &wrong);
}

#[test]
fn no_file_names_a_registry_or_a_machine() {
    let mut wrong = Vec::new();
    for path in tracked(&[]) {
        // Cargo writes its own index's address there.
        if path == "Cargo.lock" || path.ends_with(".vec") {
            continue;
        }
        let Ok(source) = std::fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in source.lines().enumerate() {
            let found = FOREIGN
                .iter()
                .map(|(first, second)| format!("{first}{second}"))
                .find(|word| line.contains(word));
            wrong.extend(found.map(|word| format!("{path}:{}: {word}", number + 1)));
        }
    }
    expect_none("files that name a registry's host or a path of one machine", &wrong);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut links = 0;
    for path in tracked(&["md"]) {
        let document = text(&path);
        for target in document.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            links += 1;
            if !root().join(&path).parent().unwrap().join(target).exists() {
                wrong.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(links > 0, "no link between documents was found");
    expect_none("links that lead nowhere", &wrong);
}

/// Paths of the files under version control that exist, with one of these extensions, or all.
fn tracked(extensions: &[&str]) -> Vec<String> {
    let listed = output_of("git", &["ls-files", "-z"]);
    let found: Vec<String> = listed
        .split('\0')
        .filter(|path| !path.is_empty() && root().join(path).is_file())
        .filter(|path| {
            let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
            extensions.is_empty() || extension.is_some_and(|extension| extensions.contains(&extension))
        })
        .map(str::to_owned)
        .collect();
    assert!(!found.is_empty(), "no tracked file ends in {extensions:?}");
    found
}

/// Numbers of the lines that open an unsafe block, function, trait or implementation.
fn unsafe_lines(source: &str) -> impl Iterator<Item = usize> {
    let opens = |line: &str| {
        // Between quotes there is text.
        let code: String = line.split('"').step_by(2).collect();
        let code = code.split("//").next().unwrap_or_default();
        let words: Vec<&str> = code
            .split(|c: char| !(c.is_alphanumeric() || "_{".contains(c)))
            .collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        words
            .windows(2)
            .any(|pair| pair[0] == "unsafe" && ["{", "fn", "impl", "trait", "extern"].contains(&pair[1]))
    };
    source
        .lines()
        .enumerate()
        .filter(move |(_, line)| opens(line))
        .map(|(number, _)| number + 1)
}

#[test]
fn unsafe_is_recognised() {
    let found = |source: &str| unsafe_lines(source).count();
    assert_eq!(found("    unsafe { f() }"), 1);
    assert_eq!(found("pub unsafe fn f() {}"), 1);
    assert_eq!(found("unsafe impl Send for X {}"), 1);
    assert_eq!(
        found("// unsafe { f() }\n#![forbid(unsafe_code)]\nlet unsafe_name = 1;"),
        0
    );
}
