//! What would be collected, with the anchor and the stores alone.

use std::fs;

use crate::desk::Desk;

#[test]
fn a_plan_names_what_stays_and_changes_nothing() {
    let desk = Desk::new();
    desk.found();
    desk.tree();
    desk.expect(0, &["replicate", "land-register"]);
    let shown = desk.json(0, &["charter", "show"]);
    let anchor = shown["archive"].as_str().unwrap();
    let [a, b, c] = &["a", "b", "c"].map(|name| desk.site(name));
    let public = ["--config", "/dev/null", "--archive", anchor];
    let three = ["--site", a, "--site", b, "--site", c];
    let plan = |code: i32, more: &[&str]| desk.json(code, &[&["collect", "plan"][..], &public, more].concat());
    let first = plan(0, &[&three[..], &["--memory", "receipts.json"]].concat());
    assert_eq!((&first["stays"], &first["goes"]), (&1.into(), &0.into()), "{first}");
    let snapshot = &first["datasets"][0]["snapshots"][0];
    assert_eq!(snapshot["kept_by"], serde_json::json!(["newest", "no-rules"]));
    assert_eq!(first["datasets"][0]["has_rules"], false);

    // The memory keeps the first time, and a memory from long ago is believed.
    let memory = fs::read_to_string(desk.path("receipts.json")).unwrap();
    let head = snapshot["snapshot"].as_str().unwrap();
    let mut remembered: serde_json::Value = serde_json::from_str(&memory).unwrap();
    assert!(remembered["seen"][head].as_i64().unwrap() > 1_700_000_000);
    remembered["seen"][head] = 86_400.into();
    fs::write(desk.path("receipts.json"), remembered.to_string()).unwrap();
    let again = plan(0, &[&three[..], &["--memory", "receipts.json"]].concat());
    assert_eq!(again["datasets"][0]["snapshots"][0]["received"], "1970-01-02T00:00:00Z");
    let (text, _) = desk.expect(0, &[&["collect", "plan"][..], &public, &three].concat());
    assert!(text.contains("no rules for it: everything stays"), "{text}");
    assert!(
        text.ends_with("1 snapshot would stay, 0 would go. Nothing was changed.\n"),
        "{text}"
    );

    // A site that nobody looked at may hold what is needed.
    let two = plan(3, &["--site", a, "--site", b]);
    assert_eq!(two["obstacles"].as_array().map(Vec::len), Some(1), "{two}");

    // Whoever's memory it is, it is this archive's or none.
    remembered["archive"] = "0".repeat(64).into();
    fs::write(desk.path("receipts.json"), remembered.to_string()).unwrap();
    desk.expect(
        2,
        &[
            &["collect", "plan"][..],
            &public,
            &three,
            &["--memory", "receipts.json"],
        ]
        .concat(),
    );
    fs::write(desk.path("receipts.json"), "{}").unwrap();
    desk.expect(
        2,
        &[
            &["collect", "plan"][..],
            &public,
            &three,
            &["--memory", "receipts.json"],
        ]
        .concat(),
    );
}

#[test]
fn a_hold_is_placed_by_one_root_and_read_by_everyone() {
    let desk = Desk::new();
    desk.found();
    desk.tree();
    desk.expect(0, &["replicate", "land-register"]);
    let shown = desk.json(0, &["charter", "show"]);
    let anchor = shown["archive"].as_str().unwrap();
    let [a, b, c] = &["a", "b", "c"].map(|name| desk.site(name));
    let public = [
        "--config",
        "/dev/null",
        "--archive",
        anchor,
        "--site",
        a,
        "--site",
        b,
        "--site",
        c,
    ];
    let hold = |code: i32, words: &[&str]| desk.json(code, &[&["hold"][..], words, &public].concat());
    assert_eq!(hold(0, &["list"]), serde_json::json!([]));
    let reason = ["--reason", "Case 12/2027"];
    let root = ["--key", "exclave-root.key"];
    let placed = hold(0, &[&["place", "--everything"][..], &reason, &root].concat());
    assert_eq!(placed["sites"], 3);
    let id = placed["hold"].as_str().unwrap();
    let listed = hold(0, &["list"]);
    assert_eq!(
        (&listed[0]["hold"], &listed[0]["reason"]),
        (&placed["hold"], &"Case 12/2027".into())
    );
    let plan = desk.json(0, &[&["collect", "plan"][..], &public].concat());
    assert_eq!(plan["holds"].as_array().map(Vec::len), Some(1));
    let kept = &plan["datasets"][0]["snapshots"][0]["kept_by"];
    assert!(kept.as_array().unwrap().contains(&"held".into()), "{kept}");

    // One thing at a time; a reason is a line; and who can't sign can't hold.
    let both = ["place", "--everything", "--snapshot", "00"];
    desk.expect(2, &[&["hold"][..], &both, &reason, &root, &public].concat());
    desk.expect(
        2,
        &[
            &["hold", "place", "--everything", "--reason", "a\nb"][..],
            &root,
            &public,
        ]
        .concat(),
    );
    let recovery = ["--key", "recovery.key"];
    desk.expect(
        2,
        &[&["hold", "place", "--everything"][..], &reason, &recovery, &public].concat(),
    );

    let ended = hold(0, &[&["release", &id[..8]][..], &reason, &root].concat());
    assert_eq!(ended["ends"], placed["hold"]);
    assert_eq!(hold(0, &["list"]), serde_json::json!([]));
    desk.expect(
        2,
        &[&["hold", "release", &id[..8]][..], &reason, &root, &public].concat(),
    );
}
