//! libFuzzer at one parser of `exclave_tests::fuzz::PARSERS`, which is the only list of them.
//!
//! | variable | what it does |
//! |---|---|
//! | `EXCLAVE_FUZZ_PARSER` | names the parser |
//! | `EXCLAVE_FUZZ_SEEDS` | instead: a folder in which each parser gets a folder with its seeds; ends then |
//!
//! `tools/nightly fuzz-coverage` sets them. Memory: 256 MiB of addresses on top of those that the process begins with, as in the
//! test `fuzz`; so it is built without AddressSanitizer, whose shadow alone takes terabytes of addresses. What that would
//! look for isn't here: no parser has unsafe code of ours, and a library's would be libFuzzer's to find under ASan with
//! a limit of resident memory only. A failed allocation ends the process and is a finding, as a panic is.

#![no_main]

use std::{fs, io, path::Path, process, sync::OnceLock};

use exclave_tests::fuzz::{
    PARSERS, Parser, limit_addresses, parser_named,
    seeds::{seeds, vectors},
};
use libfuzzer_sys::fuzz_target;

static PARSER: OnceLock<&'static Parser> = OnceLock::new();

fuzz_target!(init: begin(), |bytes: &[u8]| {
    if let Some(parser) = PARSER.get() {
        (parser.read)(bytes);
    }
});

/// Before the first input.
fn begin() {
    if let Some(folder) = variable("EXCLAVE_FUZZ_SEEDS") {
        end(write_seeds(Path::new(&folder)));
    }
    let name = variable("EXCLAVE_FUZZ_PARSER").unwrap_or_default();
    let Some(parser) = parser_named(&name) else {
        end(Err(io::Error::other(format!(
            "EXCLAVE_FUZZ_PARSER: no parser is named {name:?}"
        ))));
    };
    if let Err(error) = limit_addresses() {
        end(Err(error));
    }
    let _ = PARSER.set(parser);
}

fn write_seeds(folder: &Path) -> io::Result<()> {
    let vectors = vectors();
    for parser in PARSERS {
        let folder = folder.join(parser.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in seeds(parser.name, &vectors).iter().enumerate() {
            fs::write(folder.join(format!("{number:04}")), seed)?;
        }
    }
    Ok(())
}

fn end(how: io::Result<()>) -> ! {
    match how {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("{error}");
            process::exit(2)
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "libFuzzer owns the command line: what to fuzz has to come another way"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
