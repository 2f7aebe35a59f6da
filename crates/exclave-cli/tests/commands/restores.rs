//! Restores by the built program: what is planned, what is said of liars, what of forks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::desk::{Desk, same_trees};

#[test]
fn a_plan_says_what_comes_from_where_at_which_rate_and_writes_nothing() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    let plan = desk.json(0, &["restore", "--plan", "--identity", "recovery.key"]);
    let sites = plan["sites"].as_array().unwrap();
    assert_eq!(sites.len(), 3);
    for site in sites {
        let (shards, rate) = (site["shards"].as_u64().unwrap(), &site["bytes_per_second"]);
        assert_eq!(shards > 0, rate.as_u64().is_some_and(|rate| rate > 0), "{site}");
    }
    assert!(plan["seconds"].as_u64().is_some(), "{plan}");
    let (text, _) = desk.expect(
        0,
        &["restore", "--dry-run", "--identity", "recovery.key", "--path", "maps"],
    );
    assert!(
        text.starts_with("Would restore 1 file") && text.contains("RATE NOW") && text.contains("At these rates"),
        "{text}"
    );
    assert!(!desk.path("restored").exists());
}

#[test]
fn a_head_that_is_damaged_at_one_site_is_a_finding() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    let identity = ["--identity", "recovery.key"];
    desk.expect(0, &[&["snapshots"][..], &identity].concat());
    // Every site is asked for a head only when others fail: so the one left whole is the last one.
    for site in ["a", "b"] {
        let head = one_file(&one_folder(&one_folder(&one_folder(&desk.path(site)).join("heads"))));
        let mut bytes = fs::read(&head).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::remove_file(&head).unwrap();
        fs::write(&head, bytes).unwrap();
    }
    let (_, err) = desk.expect(3, &[&["snapshots"][..], &identity].concat());
    assert!(err.contains("Warning: "), "{err}");
    desk.expect(3, &[&["ls"][..], &identity].concat());
    desk.expect(3, &[&["restore", "--to", "back"][..], &identity].concat());
    same_trees(&tree, &desk.path("back"));
}

fn one_folder(within: &Path) -> PathBuf {
    let folders = fs::read_dir(within).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

fn one_file(within: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(within)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn sites_can_be_thought_lost() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    let restore = |without: &str, to: &str| -> Vec<String> {
        [
            "restore",
            "--identity",
            "recovery.key",
            "--without",
            without,
            "--to",
            to,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let run = |code: i32, arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        desk.expect(code, &arguments)
    };
    let (out, _) = desk.expect(
        0,
        &[
            "--json",
            "restore",
            "--identity",
            "recovery.key",
            "--without",
            "a",
            "--to",
            "back",
        ],
    );
    let restored: Value = serde_json::from_str(&out).unwrap();
    let sites: Vec<&str> = restored["sites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|site| site["site"].as_str().unwrap())
        .collect();
    assert_eq!(sites, ["b", "c"]);
    same_trees(&tree, &desk.path("back"));
    // Fewer than two of three: a newer snapshot could hide, and nothing can be read.
    let (_, err) = run(6, restore("a,b", "less"));
    assert!(err.contains("there may be a newer snapshot"), "{err}");
    let (_, err) = run(2, restore("x", "less"));
    assert!(
        err.contains("--without x: there is no such site") && err.contains("there are a, b, c"),
        "{err}"
    );
    run(2, restore("a,b,c", "less"));
    desk.expect(0, &["snapshots", "--identity", "recovery.key", "--without", "c"]);
}

#[test]
fn what_was_restored_in_spite_of_a_liar_is_a_finding() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    let mut altered = 0;
    for path in crate::walk(&desk.path("a")) {
        if path.to_str().unwrap().contains("/shards/") {
            let mut bytes = fs::read(&path).unwrap();
            bytes[30_000] ^= 1;
            fs::write(&path, bytes).unwrap();
            altered += 1;
        }
    }
    assert!(altered > 0);
    // A liar that happens to be slow may not be used at all; whoever met it says so.
    let met_the_liar = |arguments: &[&str]| {
        let output = desk.run(&[&["--json"], arguments].concat());
        let restored: Value = serde_json::from_slice(&output.stdout).unwrap();
        let corrupt = restored["sites"][0]["corrupt"].as_u64().unwrap();
        let expected = if corrupt > 0 {
            (Some(3), "findings")
        } else {
            (Some(0), "complete")
        };
        assert_eq!(
            (output.status.code(), restored["outcome"].as_str().unwrap()),
            expected,
            "{restored}"
        );
    };
    met_the_liar(&["restore", "--identity", "recovery.key", "--to", "back"]);
    same_trees(&tree, &desk.path("back"));
    // The old names of options and the new ones are the same.
    met_the_liar(&["restore", "--identity", "recovery.key", "--to", "back", "--overwrite"]);
    met_the_liar(&["restore", "--identity", "recovery.key", "--verify-only"]);
}

#[test]
fn of_a_forked_chain_a_side_must_be_named() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    // The machine is cloned; the clone and the original both go on, each with stores that the other does not see.
    for name in ["a", "b", "c"] {
        copy(&desk, name, &format!("{name}.clone"));
    }
    copy(&desk, "exclave-state", "state.clone");
    fs::write(tree.join("owners.csv"), "1;Anna\n").unwrap();
    let original = desk.json(0, &["replicate", tree.to_str().unwrap()]);
    for name in ["exclave-state", "a", "b", "c"] {
        fs::rename(desk.path(name), desk.path(&format!("{name}.original"))).unwrap();
    }
    for name in ["a", "b", "c"] {
        fs::rename(desk.path(&format!("{name}.clone")), desk.path(name)).unwrap();
    }
    fs::rename(desk.path("state.clone"), desk.path("exclave-state")).unwrap();
    fs::write(tree.join("owners.csv"), "2;Juri\n").unwrap();
    let clone = desk.json(0, &["replicate", tree.to_str().unwrap()]);
    assert_eq!(original["snapshots"][0]["seq"], clone["snapshots"][0]["seq"]);
    // Then all that both wrote comes together.
    for name in ["a", "b", "c"] {
        copy(&desk, &format!("{name}.original"), name);
    }
    let (_, err) = desk.expect(5, &["restore", "--identity", "recovery.key", "--to", "back"]);
    assert!(
        err.contains("ALARM: writer") && err.contains("is one side of a fork") && err.contains("--snapshot"),
        "{err}"
    );
    assert!(!desk.path("back").exists());
    let side = original["snapshots"][0]["head"].as_str().unwrap();
    desk.expect(
        3,
        &[
            "restore",
            "--identity",
            "recovery.key",
            "--snapshot",
            &side[..16],
            "--to",
            "back",
        ],
    );
    assert_eq!(fs::read_to_string(desk.path("back/owners.csv")).unwrap(), "1;Anna\n");

    // The writer notices, begins a new life that has seen both, and the newest snapshot is beyond dispute.
    let settled = desk.json(3, &["replicate", tree.to_str().unwrap()]);
    assert_eq!(settled["snapshots"][0]["new_incarnation"], true);
    assert!(
        settled["snapshots"][0]["alarms"][0]
            .as_str()
            .unwrap()
            .contains("was signed with this writer's key")
    );
    desk.expect(3, &["restore", "--identity", "recovery.key", "--to", "settled"]);
    same_trees(&tree, &desk.path("settled"));
}

fn copy(desk: &Desk, from: &str, to: &str) {
    let copied = std::process::Command::new("cp")
        .args(["-a", "-T", "--", from, to])
        .current_dir(desk.path(""))
        .status()
        .unwrap();
    assert!(copied.success());
}
