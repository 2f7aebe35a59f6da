//! Commands and standard input as sources: what is believed, what is told, what stays the newest.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::desk::{Desk, raw};

/// A founded archive whose configuration ends in `text`.
fn with(text: &str) -> Desk {
    let desk = Desk::new();
    desk.found();
    append(&desk, text);
    desk
}

fn append(desk: &Desk, text: &str) {
    let path = desk.path("exclave.toml");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{before}\n{text}")).unwrap();
}

fn pipe(desk: &Desk, arguments: &[&str], bytes: &[u8]) -> (Option<i32>, String) {
    let mut child = desk
        .command(&[&["replicate", "--stdin", "--name", "piped"][..], arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn several_commands_are_streams_of_one_snapshot() {
    let desk = with(
        "[[dataset]]\nname = \"registers\"\n\
         commands = { \"b.dump\" = [\"/bin/echo\", \"second\"], \"a.dump\" = [\"/bin/echo\", \"first\"] }",
    );
    let done = desk.json(0, &["replicate"]);
    assert_eq!(done["snapshots"][0]["files"], 2);
    desk.expect(0, &["restore", "--identity", "recovery.key", "--to", "back"]);
    let read = |name: &str| fs::read_to_string(desk.path("back").join(name)).unwrap();
    assert_eq!(
        (read("a.dump"), read("b.dump")),
        ("first\n".to_owned(), "second\n".to_owned())
    );
    // When one of them fails, none counts.
    append(
        &desk,
        "[[dataset]]\nname = \"half\"\n\
         commands = { a = [\"/bin/echo\", \"whole\"], b = [\"/bin/sh\", \"-c\", \"echo part; exit 3\"] }",
    );
    let (_, err) = desk.expect(1, &["replicate", "--name", "half"]);
    assert!(err.contains("exited with code 3"), "{err}");
    let (out, _) = desk.expect(0, &["snapshots", "--identity", "recovery.key"]);
    assert!(out.contains("registers") && !out.contains("half"), "{out}");
}

#[test]
fn a_dump_that_fails_leaves_the_old_snapshot_and_its_last_words() {
    let desk = with(
        "[[dataset]]\nname = \"land\"\n\
         command = [\"/bin/sh\", \"-c\", \"cat dump; test ! -e broken || { echo 'FATAL: the server is gone' >&2; kill -9 $$; }\"]",
    );
    fs::write(desk.path("dump"), "all of it").unwrap();
    desk.expect(0, &["replicate"]);
    fs::write(desk.path("dump"), "half").unwrap();
    fs::write(desk.path("broken"), "").unwrap();
    let (_, err) = desk.expect(1, &["replicate"]);
    assert!(
        err.contains("was ended by signal 9")
            && err.contains("It said on standard error:\n  FATAL: the server is gone"),
        "{err}"
    );
    assert_eq!(raw(&desk, "land"), b"all of it");
}

#[test]
fn streams_that_are_too_short_or_shrank_are_refused_until_they_are_let_pass() {
    let desk = Desk::new();
    desk.found();
    let (code, err) = pipe(&desk, &[], b"");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("it gave 0 bytes, at least 1 are expected"), "{err}");

    assert_eq!(pipe(&desk, &[], &[7; 1000]).0, Some(0));
    let (code, err) = pipe(&desk, &[], &[7; 499]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("it gave 499 bytes after 1000 last time, a loss of more than 50 %")
            && err.contains("Hint: when that is right, let it pass once: --max-shrink 100"),
        "{err}"
    );
    assert_eq!(raw(&desk, "piped"), [7; 1000], "the snapshot before stays the newest");
    assert_eq!(pipe(&desk, &[], &[7; 500]).0, Some(0), "half is still believed");
    assert_eq!(pipe(&desk, &["--max-shrink", "100"], b"x").0, Some(0));
    assert_eq!(raw(&desk, "piped"), b"x");
    assert_eq!(pipe(&desk, &[], b"x").0, Some(0), "the new length is the measure now");
}

#[test]
fn an_interrupt_ends_a_silent_command_too() {
    let desk = with("[[dataset]]\nname = \"slow\"\ncommand = [\"/bin/sh\", \"-c\", \"echo begun; sleep 600\"]");
    let mut child = desk
        .command(&["replicate"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Once its run has a journal, it listens and the command runs.
    let journals = desk.path("exclave-state/journal");
    let begun = Instant::now();
    while fs::read_dir(&journals).map_or(0, Iterator::count) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&child, "INT");
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said.push(line.unwrap());
    }
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said:?}");
    assert!(
        said.iter()
            .any(|line| line.contains("interrupted; 0 stripes of this run are durable")),
        "{said:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(300), "it waited for the command");
}

fn signal(child: &std::process::Child, name: &str) {
    let sent = std::process::Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}
