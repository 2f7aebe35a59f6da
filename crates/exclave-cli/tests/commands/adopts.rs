//! A store that was emptied: told by name, taken back, filled again.

use std::{fs, path::Path};

use super::desk::{Desk, same_trees};

fn empty(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

#[test]
fn an_emptied_store_is_told_taken_back_and_filled_again() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    desk.expect(0, &["replicate", "land-register"]);
    let checked = desk.json_lines(0, &["site", "check"]);
    assert_eq!(checked[2]["plate"], "its");
    empty(&desk.path("c"));
    let checked = desk.json_lines(3, &["site", "check"]);
    assert_eq!(
        (&checked[1]["plate"], &checked[2]["plate"]),
        (&"its".into(), &"missing".into())
    );
    let (text, _) = desk.expect(3, &["site", "check", "c"]);
    assert!(
        text.contains("shows no plate") && text.contains("`exclave site adopt c --root FILE`"),
        "{text}"
    );

    // What the check wrote is no archive's.
    let adopt = ["site", "adopt", "c", "--root", "exclave-root.key"];
    let plan = desk.json(0, &[&adopt[..], &["--dry-run"]].concat());
    assert_eq!(
        (&plan["plate"], &plan["charter"], &plan["done"]),
        (&"missing".into(), &"missing".into(), &false.into())
    );
    desk.expect(3, &["site", "check", "c"]);
    let (text, _) = desk.expect(0, &adopt);
    assert!(
        text.contains("its plate was put and read back") && text.contains("counts as c again"),
        "{text}"
    );
    assert_eq!(desk.json(0, &adopt)["plate"], "there");
    desk.expect(0, &["site", "check", "c"]);

    let found = desk.json(3, &["replicate", "land-register"]);
    assert!(found["snapshots"][0]["debt_shards"].as_u64().unwrap() > 0);
    let paid = desk.json(0, &["replicate", "land-register"]);
    assert!(paid["snapshots"][0]["debts_paid"].as_u64().unwrap() > 0);
    assert_eq!(paid["snapshots"][0]["debts_unpaid"], serde_json::json!([]));
    empty(&desk.path("a"));
    let (b, c) = (desk.site("b"), desk.site("c"));
    let from = ["--identity", "recovery.key", "--site", &b, "--site", &c];
    desk.expect(0, &[&["restore", "--to", "restored"][..], &from].concat());
    same_trees(&tree, &desk.path("restored"));
}

#[test]
fn a_commit_that_fails_for_emptied_stores_names_them() {
    let desk = Desk::new();
    desk.tree();
    desk.found();
    desk.expect(0, &["replicate", "land-register"]);
    for site in ["b", "c"] {
        empty(&desk.path(site));
    }
    fs::write(desk.path("land-register/new"), "new").unwrap();
    let (_, err) = desk.expect(1, &["replicate", "land-register"]);
    for wanted in [
        "b answers and shows no plate",
        "c answers and shows no plate",
        "exclave site adopt NAME",
    ] {
        assert!(err.contains(wanted), "{err}");
    }
}

#[test]
fn other_stores_and_keys_are_refused() {
    let desk = Desk::new();
    desk.found();
    let adopt = |site: &'static str, root: &'static str| ["site", "adopt", site, "--root", root];
    let (_, err) = desk.expect(2, &adopt("nowhere", "exclave-root.key"));
    assert!(err.contains("no site \"nowhere\"\nHint: it has a, b, c"), "{err}");
    let text = fs::read_to_string(desk.path("exclave.toml")).unwrap();
    let swapped = text
        .replace("/a\"", "/x\"")
        .replace("/b\"", "/a\"")
        .replace("/x\"", "/b\"");
    fs::write(desk.path("exclave.toml"), &swapped).unwrap();
    let (_, err) = desk.expect(5, &adopt("a", "exclave-root.key"));
    assert!(err.contains("shows the plate of site b, not of a"), "{err}");
    let checked = desk.json_lines(3, &["site", "check"]);
    assert_eq!(checked[0]["plate"], "another");
    fs::write(desk.path("exclave.toml"), &text).unwrap();

    empty(&desk.path("a"));
    let (_, err) = desk.expect(5, &adopt("a", "recovery.key"));
    assert!(err.contains("recovery.key can't be opened"), "{err}");
    let other = Desk::new();
    other.found();
    fs::copy(other.path("exclave-root.key"), desk.path("other-root.key")).unwrap();
    let (_, err) = desk.expect(5, &adopt("a", "other-root.key"));
    assert!(err.contains("no root of this archive's charter"), "{err}");
    assert!(fs::read_dir(desk.path("a")).unwrap().next().is_none());
}
