//! Charters change: drafts, signatures of several roots, a stolen writer's key, a new site, a hidden version.

use std::fs;

use serde_json::Value;

use super::desk::{Desk, same_trees};

/// An archive with one snapshot.
fn founded() -> Desk {
    let desk = Desk::new();
    desk.found();
    let tree = desk.tree();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    desk
}

/// Writes a draft and changes its text.
fn draft(desk: &Desk, name: &str, change: impl FnOnce(String) -> String) {
    desk.expect(0, &["charter", "new", "--out", name]);
    let path = desk.path(name);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} in {text}");
    text.replacen(from, to, 1)
}

/// The one writer's line in a draft.
fn writer_of(text: &str) -> String {
    let behind = text.split("[[writer]]\nkey = \"").nth(1).unwrap();
    behind.split('"').next().unwrap().to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_stolen_writer_is_replaced_and_his_heads_are_void() {
    let desk = founded();
    let identity = ["--identity", "recovery.key"];
    let snapshots = |code| desk.json_lines(code, &[&["snapshots"][..], &identity].concat());
    let good = snapshots(0).remove(0);
    let (good, writer) = (good["snapshot"].as_str().unwrap(), good["writer"].as_str().unwrap());
    // The thief has the agent's folder and key, and commits something else under the dataset's name.
    let theirs = fs::read_to_string(desk.path("exclave.toml")).unwrap();
    fs::write(desk.path("theirs.toml"), theirs.replace("exclave-state", "theirs")).unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-a", "exclave-state", "theirs"])
        .current_dir(desk.path(""))
        .status();
    assert!(copied.unwrap().success());
    fs::remove_file(desk.path("land-register/owners.csv")).unwrap();
    desk.expect(0, &["--config", "theirs.toml", "replicate", "land-register"]);
    assert_eq!(snapshots(0).len(), 2);

    // The owner pins the last good snapshot and names another writer.
    desk.expect(
        0,
        &[
            "key", "generate", "--role", "writer", "--out", "heir.key", "--public", "heir.pub",
        ],
    );
    let new = [
        "charter",
        "new",
        "--revoke",
        &writer[..16],
        "--accept",
        &good[..12],
        "--writer",
        "heir.pub",
    ];
    let drafted = desk.json(0, &new);
    assert_eq!(
        (&drafted["version"], &drafted["draft"]),
        (&2.into(), &"charter.toml".into())
    );
    let page = desk.json(0, &["charter", "explain", "charter.toml"]);
    let changes = strings(&page["changes"]);
    assert!(
        changes
            .iter()
            .any(|change| change.contains("is revoked as compromised: its heads count up to")),
        "{changes:?}"
    );
    assert!(
        changes
            .iter()
            .any(|change| change == "the crypto epoch of set 0 rises from 0 to 1"),
        "{changes:?}"
    );
    assert_eq!(page["signatures"]["own"], serde_json::json!([0, 1]));
    let digest = page["digest"].as_str().unwrap();

    // Signed only under the digest that was agreed on.
    let sign = [
        "charter",
        "sign",
        "charter.toml",
        "--root",
        "exclave-root.key",
        "--digest",
    ];
    let (_, err) = desk.expect(5, &[&sign[..], &["00112233445566778899"]].concat());
    assert!(err.contains("nothing was signed"), "{err}");
    let signed = desk.json(0, &[&sign[..], &[digest]].concat());
    assert_eq!(
        (&signed["file"], &signed["complete"]),
        (&"charter.v2.charter".into(), &true.into())
    );
    let dry = desk.json(0, &["charter", "publish", "charter.v2.charter", "--dry-run"]);
    assert_eq!(dry["dry_run"], true);
    let published = desk.json(0, &["charter", "publish", "charter.v2.charter"]);
    assert_eq!(
        (&published["version"], &published["digest"]),
        (&2.into(), &digest.into())
    );
    assert_eq!(published["holders"].as_array().unwrap().len(), 3);

    // The thief's snapshot is void, his key commits no more, nor does the one that the agent still has.
    let listed = snapshots(0);
    assert_eq!((listed.len(), &listed[0]["snapshot"]), (1, &good.into()));
    for config in ["theirs.toml", "exclave.toml"] {
        let (_, err) = desk.expect(5, &["--config", config, "replicate", "land-register"]);
        assert!(err.contains("may not write class 0"), "{err}");
    }
    desk.expect(0, &["key", "install", "heir.key"]);
    let again = desk.json(0, &["key", "install", "heir.key"]);
    assert_eq!(
        again["state_dir"].as_str().unwrap().rsplit('/').next(),
        Some("exclave-state")
    );
    fs::write(desk.path("land-register/owners.csv"), "1;Anna\n2;Juri\n3;Mare\n").unwrap();
    let done = desk.json(0, &["replicate", "land-register"]);
    let done = &done["snapshots"][0];
    assert_eq!(
        (&done["outcome"], &done["chunks_reused"]),
        (&"committed".into(), &0.into()),
        "{done}"
    );
    let listed = snapshots(0);
    assert_eq!((listed.len(), &listed[1]["snapshot"]), (2, &good.into()));
    desk.expect(0, &[&["restore", "--to", "back"][..], &identity].concat());
    same_trees(&desk.path("land-register"), &desk.path("back"));
    let older = ["restore", "--to", "older", "--snapshot", &good[..12]];
    desk.expect(0, &[&older[..], &identity].concat());
    assert_eq!(
        fs::read_to_string(desk.path("older/owners.csv")).unwrap(),
        "1;Anna\n2;Juri\n"
    );
}

#[test]
fn two_ministers_sign_and_one_alone_does_not() {
    let desk = founded();
    for name in ["second", "third"] {
        let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
        desk.expect(
            0,
            &["key", "generate", "--role", "root", "--out", &key, "--public", &public],
        );
    }
    draft(&desk, "draft.toml", |text| {
        let text = replaced(
            &text,
            "[roots]\nthreshold = 1\nkeys = [",
            "[roots]\nthreshold = 2\nkeys = [\"second.pub\", \"third.pub\", ",
        );
        replaced(
            &text,
            "[[writer]]",
            "[[member]]\nrole = \"auditor\"\nkey = \"auditor.pub\"\n\n[[writer]]",
        )
    });
    // A key file that isn't there, then one of another kind.
    let (_, err) = desk.expect(2, &["charter", "explain", "draft.toml"]);
    assert!(err.contains("auditor.pub"), "{err}");
    desk.expect(
        0,
        &[
            "key",
            "generate",
            "--role",
            "auditor",
            "--out",
            "auditor.key",
            "--public",
            "auditor.pub",
        ],
    );
    let (page, _) = desk.expect(0, &["charter", "explain", "draft.toml"]);
    for line in [
        "2 of 3 roots decide together",
        "gets the role auditor",
        "2 roots must sign, and not 1",
        "Digest, to be compared",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    let (_, err) = desk.expect(5, &["charter", "sign", "draft.toml", "--root", "auditor.key"]);
    assert!(
        err.contains("this is a key for the role auditor, one for the role root is needed"),
        "{err}"
    );
    // The old root alone: enough of the version before, too few of its own.
    desk.expect(0, &["charter", "sign", "draft.toml", "--root", "exclave-root.key"]);
    let verified = desk.json(5, &["charter", "verify", "draft.v2.charter"]);
    assert_eq!(
        (&verified["complete"], &verified["signatures"]["own"]),
        (&false.into(), &serde_json::json!([1, 2]))
    );
    let (_, err) = desk.expect(5, &["charter", "publish", "draft.v2.charter"]);
    assert!(err.contains("1 of 2 signatures needed"), "{err}");
    // The file goes to the second minister, who signs it in place, on a machine that knows no site.
    desk.expect(
        0,
        &[
            "--config",
            "/dev/null",
            "charter",
            "sign",
            "draft.v2.charter",
            "--root",
            "second.key",
        ],
    );
    let anchor = verified["archive"].as_str().unwrap();
    let verified = desk.json(0, &["charter", "verify", "draft.v2.charter", "--archive", anchor]);
    assert_eq!(verified["complete"], true);
    let other = "00".repeat(32);
    desk.expect(5, &["charter", "verify", "draft.v2.charter", "--archive", &other]);
    // Any byte of it that is altered: refused.
    let bytes = fs::read(desk.path("draft.v2.charter")).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut altered = bytes.clone();
        altered[at] ^= 4;
        fs::write(desk.path("altered.charter"), altered).unwrap();
        let output = desk.run(&["charter", "verify", "altered.charter", "--archive", anchor]);
        assert!(matches!(output.status.code(), Some(2 | 5)), "byte {at}: {output:?}");
    }
    desk.expect(0, &["charter", "publish", "draft.v2.charter"]);
    let (shown, _) = desk.expect(0, &["charter", "show"]);
    assert!(
        shown.contains("Charter version 2 of archive ") && shown.contains("auditor "),
        "{shown}"
    );
    let (first, _) = desk.expect(0, &["charter", "show", "--version", "1"]);
    assert!(first.contains("1 of 1 roots decide together"), "{first}");
    desk.expect(0, &["replicate", "land-register"]);
}

#[test]
fn a_site_joins_and_another_one_leaves() {
    let desk = founded();
    fs::create_dir(desk.path("d")).unwrap();
    let config = fs::read_to_string(desk.path("exclave.toml")).unwrap();
    fs::write(
        desk.path("exclave.toml"),
        format!(
            "{config}\n[[site]]\nname = \"embassy\"\naddress = \"{}\"\nhosting = \"embassy\"\n",
            desk.site("d")
        ),
    )
    .unwrap();
    let drafted = desk.json(0, &["charter", "new"]);
    assert_eq!(strings(&drafted["added_sites"]), ["embassy"]);
    desk.expect(0, &["charter", "sign", "charter.toml", "--root", "exclave-root.key"]);
    let published = desk.json(0, &["charter", "publish", "charter.v2.charter"]);
    assert_eq!(strings(&published["new_sites"]), ["embassy"]);
    assert!(published["copied"].as_u64().unwrap() > 0);
    // One of the first three goes. The next snapshot lies at the other three.
    let first = published["holders"][0].as_str().unwrap().to_owned();
    draft(&desk, "leaves.toml", |text| {
        let (before, behind) = text.split_once(&format!("[[site]]\nname = \"{first}\"")).unwrap();
        let rest = behind.split_once("\n[[").map_or("", |(_, rest)| rest);
        format!("{before}[[{rest}")
    });
    let (page, _) = desk.expect(0, &["charter", "explain", "leaves.toml"]);
    assert!(
        page.contains(&format!("site {first} is dropped")) && page.contains("it is a lost site"),
        "{page}"
    );
    desk.expect(0, &["charter", "sign", "leaves.toml", "--root", "exclave-root.key"]);
    let published = desk.json(0, &["charter", "publish", "leaves.v3.charter"]);
    assert_eq!(strings(&published["dropped_sites"]), std::slice::from_ref(&first));
    fs::remove_dir_all(desk.path(&first)).unwrap();
    fs::create_dir(desk.path(&first)).unwrap();
    fs::write(desk.path("land-register/new"), "x").unwrap();
    let done = desk.json(3, &["replicate", "land-register"]);
    assert_eq!(done["snapshots"][0]["outcome"], "committed", "{done}");
    desk.expect(0, &["restore", "--to", "back", "--identity", "recovery.key"]);
    same_trees(&desk.path("land-register"), &desk.path("back"));
}

#[test]
fn a_hidden_or_unlawful_charter_is_refused() {
    let desk = founded();
    draft(&desk, "charter.toml", |text| {
        replaced(&text, "losses = 0", "losses = 1")
    });
    desk.expect(0, &["charter", "sign", "charter.toml", "--root", "exclave-root.key"]);
    desk.expect(0, &["charter", "publish", "charter.v2.charter"]);
    desk.expect(0, &["replicate", "land-register"]);
    // The agent has seen version 2. Sites that show only version 1 are refused.
    let hide = |from: &str, to: &str| {
        for site in ["a", "b", "c"] {
            let archive = fs::read_dir(desk.path(site)).unwrap().next().unwrap().unwrap().path();
            for entry in fs::read_dir(archive.join(from)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if name.starts_with("00000002.") {
                    fs::create_dir_all(archive.join(to)).unwrap();
                    fs::rename(&path, archive.join(to).join(name)).unwrap();
                }
            }
        }
    };
    hide("charter", "hidden");
    let (_, err) = desk.expect(5, &["replicate", "land-register"]);
    assert!(
        err.contains("charter version 2 of this archive was seen before"),
        "{err}"
    );
    // A reader who remembers nothing sees it by the head that obeys it.
    let (_, err) = desk.expect(6, &["restore", "--to", "back", "--identity", "recovery.key"]);
    assert!(err.contains("a head obeys charter version 2"), "{err}");
    hide("hidden", "charter");
    desk.expect(0, &["restore", "--to", "back", "--identity", "recovery.key"]);
    // What a draft may not say.
    for (number, (from, to, what)) in [
        ("version = 3", "version = 4", "does not follow"),
        ("parity = 1", "parity = 2", "make a new class"),
        ("crypto_epoch = 0", "crypto_epoch = 0\nsurplus = 1", "unknown field"),
        ("[roots]\nthreshold = 1", "[roots]\nthreshold = 2", "root threshold"),
        ("liars = 0", "liars = 2", "can't lose"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("bad-{number}.toml");
        draft(&desk, &name, |text| replaced(&text, from, to));
        let output = desk.run(&["charter", "explain", &name]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            matches!(output.status.code(), Some(2 | 5)) && err.contains(what),
            "{what}: {err}"
        );
    }
    // A writer that is dropped without being revoked.
    draft(&desk, "dropped.toml", |text| {
        let writer = writer_of(&text);
        replaced(&text, &format!("key = \"{writer}\""), "key = \"heir.pub\"")
    });
    desk.expect(
        0,
        &[
            "key", "generate", "--role", "writer", "--out", "heir.key", "--public", "heir.pub",
        ],
    );
    let (_, err) = desk.expect(5, &["charter", "explain", "dropped.toml"]);
    assert!(err.contains("lost its role and is not revoked"), "{err}");
}
