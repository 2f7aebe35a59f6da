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

/// Signs a draft with the one root, and publishes it.
fn published(desk: &Desk, draft: &str, signed: &str) {
    desk.expect(0, &["charter", "sign", draft, "--root", "exclave-root.key"]);
    desk.expect(0, &["charter", "publish", signed]);
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
    assert_eq!(done["outcome"], "committed");
    // Nothing is referred to that was sealed before.
    assert!(done["bytes_new"].as_u64().unwrap() > 200_000, "{done}");
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
    published(&desk, "charter.toml", "charter.v2.charter");
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

#[test]
fn a_second_custodian_joins_and_a_successor_goes_on_from_nothing() {
    let desk = founded();
    desk.expect(0, &["key", "generate", "--out", "second.key", "--public", "second.pub"]);
    desk.expect(
        0,
        &[
            "key",
            "generate",
            "--role",
            "restorer",
            "--out",
            "restorer.key",
            "--public",
            "restorer.pub",
        ],
    );
    desk.expect(
        0,
        &[
            "key", "generate", "--role", "writer", "--out", "heir.key", "--public", "heir.pub",
        ],
    );
    let shown = desk.json(0, &["charter", "show"]);
    let writer = strings(&shown["people"])
        .iter()
        .find_map(|line| line.strip_prefix("writer ").map(|line| line[..16].to_owned()));
    let writer = writer.unwrap();
    let new = [
        "charter", "new", "--revoke", &writer, "--reason", "retired", "--writer", "heir.pub",
    ];
    desk.expect(0, &new);
    let text = fs::read_to_string(desk.path("charter.toml")).unwrap();
    let (before, behind) = text.split_once("[[recipients]]\n").unwrap();
    let behind = replaced(behind, "keys = [", "keys = [\"second.pub\", ");
    let member = "[[member]]\nrole = \"restorer\"\nkey = \"restorer.pub\"\n";
    fs::write(
        desk.path("charter.toml"),
        format!("{before}{member}\n[[recipients]]\n{behind}"),
    )
    .unwrap();
    published(&desk, "charter.toml", "charter.v2.charter");

    let second = [
        "--identity",
        "second.key",
        "--archive",
        shown["archive"].as_str().unwrap(),
    ];
    let (_, err) = desk.expect(5, &[&["snapshots"][..], &second].concat());
    assert!(err.contains("none of 1 snapshot can be opened"), "{err}");
    let rewrap = ["key", "rewrap", "--identity", "recovery.key", "--restorer"];
    let (_, err) = desk.expect(5, &[&rewrap[..], &["exclave-root.key"]].concat());
    assert!(err.contains("one for the role restorer is needed"), "{err}");
    let done = desk.json(0, &[&rewrap[..], &["restorer.key"]].concat());
    assert_eq!((&done["wrapped"], &done["current"]), (&1.into(), &0.into()), "{done}");
    desk.expect(0, &[&["restore", "--to", "back"][..], &second].concat());
    same_trees(&desk.path("land-register"), &desk.path("back"));

    // The old machine is gone. The heir takes the datasets over, and sends only what is new.
    fs::rename(desk.path("exclave-state"), desk.path("gone")).unwrap();
    desk.expect(0, &["key", "install", "heir.key"]);
    let rebuild = ["catalog", "rebuild", "--identity", "second.key", "--successor-of"];
    desk.expect(2, &[&rebuild[..], &["00112233"]].concat());
    desk.expect(0, &[&rebuild[..], &[&writer]].concat());
    fs::write(desk.path("land-register/new"), "x").unwrap();
    let done = desk.json(0, &["replicate", "land-register"]);
    let snapshot = &done["snapshots"][0];
    assert!(snapshot["bytes_new"].as_u64().unwrap() < 50_000, "{snapshot}");
    let listed = desk.json_lines(0, &[&["snapshots"][..], &second].concat());
    assert_eq!((listed.len(), &listed[0]["dataset_id"]), (2, &listed[1]["dataset_id"]));
    desk.expect(0, &[&["restore", "--to", "again"][..], &second].concat());
    same_trees(&desk.path("land-register"), &desk.path("again"));
}

#[test]
fn an_ally_gets_one_snapshot_and_no_other_dataset() {
    let desk = founded();
    fs::create_dir(desk.path("tax")).unwrap();
    fs::write(desk.path("tax/owed.csv"), "1;100\n").unwrap();
    desk.expect(0, &["replicate", "tax"]);
    desk.expect(0, &["key", "generate", "--out", "ally.key", "--public", "ally.pub"]);
    desk.expect(
        0,
        &[
            "key",
            "generate",
            "--role",
            "restorer",
            "--out",
            "restorer.key",
            "--public",
            "restorer.pub",
        ],
    );
    draft(&desk, "charter.toml", |text| {
        replaced(
            &text,
            "[[recipients]]",
            "[[member]]\nrole = \"restorer\"\nkey = \"restorer.pub\"\n\n[[recipients]]",
        )
    });
    published(&desk, "charter.toml", "charter.v2.charter");
    let listed = desk.json_lines(0, &["snapshots", "--identity", "recovery.key"]);
    let register = listed
        .iter()
        .find(|snapshot| snapshot["dataset"] == "land-register")
        .unwrap();
    let register = register["snapshot"].as_str().unwrap();
    let give = [
        "grant",
        "give",
        &register[..12],
        "--to",
        "ally.pub",
        "--restorer",
        "restorer.key",
        "--identity",
        "recovery.key",
        "--until",
        "2030-01-01",
    ];
    let dry = desk.json(0, &[&give[..], &["--dry-run"]].concat());
    assert_eq!(
        (&dry["runs"], &dry["also_open"], &dry["grant"]),
        (&1.into(), &serde_json::json!([]), &Value::Null)
    );
    assert!(desk.json_lines(0, &["grant", "list"]).is_empty());
    let (text, _) = desk.expect(0, &[&give[..], &["--out", "for-ally.grant"]].concat());
    assert!(
        text.contains("nothing closes afterwards") && text.contains("is at 3 sites"),
        "{text}"
    );
    let grants = desk.json_lines(0, &["grant", "list"]);
    assert_eq!(
        (grants.len(), &grants[0]["runs"], &grants[0]["restorer_revoked"]),
        (1, &1.into(), &false.into())
    );
    assert_eq!(strings(&grants[0]["snapshots"]), [register]);

    let archive = dry_archive(&desk);
    let ally = ["--identity", "ally.key", "--archive", &archive];
    let opened = desk.json_lines(3, &[&["snapshots"][..], &ally].concat());
    assert_eq!((opened.len(), &opened[0]["snapshot"]), (1, &register.into()));
    desk.expect(
        0,
        &[&["restore", "--to", "back", "--snapshot", &register[..12]][..], &ally].concat(),
    );
    same_trees(&desk.path("land-register"), &desk.path("back"));
    let (_, err) = desk.expect(
        2,
        &[&["restore", "--to", "tax-back", "--dataset", "tax"][..], &ally].concat(),
    );
    assert!(err.contains("no snapshot of \"tax\" opens"), "{err}");
    // A file that is no grant of this archive.
    let (_, err) = desk.expect(
        5,
        &[&["snapshots", "--grant", "charter.v2.charter"][..], &ally].concat(),
    );
    assert!(err.contains("is no grant of this archive"), "{err}");
}

fn dry_archive(desk: &Desk) -> String {
    desk.json(0, &["charter", "show"])["archive"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Takes a site out of a draft.
fn without(text: &str, site: &str) -> String {
    let (before, behind) = text.split_once(&format!("[[site]]\nname = \"{site}\"")).unwrap();
    let rest = behind.split_once("\n[[").map_or("", |(_, rest)| rest);
    format!("{before}[[{rest}")
}

#[test]
fn one_site_after_another_is_replaced_and_replication_goes_on() {
    let desk = Desk::new();
    desk.expect(0, &["key", "generate", "--out", "recovery.key"]);
    for site in ["d", "e", "f"] {
        fs::create_dir(desk.path(site)).unwrap();
    }
    let sites = ["a", "b", "c", "d"].map(|name| desk.site(name));
    let each = sites.iter().flat_map(|site| ["--site", site]);
    desk.expect(
        0,
        &["init", "--recovery", "recovery.key"]
            .into_iter()
            .chain(each)
            .collect::<Vec<_>>(),
    );
    let tree = desk.tree();
    desk.expect(0, &["replicate", "land-register"]);
    let shown = desk.json(0, &["charter", "show"]);
    let names: Vec<String> = strings(&shown["places"])
        .iter()
        .map(|place| place.split(':').next().unwrap().to_owned())
        .collect();
    for (round, (new, gone)) in [("e", &names[3]), ("f", &names[2])].into_iter().enumerate() {
        let config = fs::read_to_string(desk.path("exclave.toml")).unwrap();
        let site = format!("\n[[site]]\nname = \"{new}\"\naddress = \"{}\"\n", desk.site(new));
        fs::write(desk.path("exclave.toml"), config + &site).unwrap();
        let name = format!("round-{round}.toml");
        draft(&desk, &name, |text| without(&text, gone));
        published(&desk, &name, &format!("round-{round}.v{}.charter", round + 2));
        fs::write(tree.join(new), "more").unwrap();
        // It is told as long as the settings name the store that was dropped.
        let done = desk.json(3, &["replicate", "land-register"]);
        assert_eq!(done["snapshots"][0]["outcome"], "committed", "{done}");
        let told = done["snapshots"][0]["site_troubles"].to_string();
        assert!(told.contains("names no more"), "{told}");
    }
    desk.expect(0, &["restore", "--to", "back", "--identity", "recovery.key"]);
    same_trees(&tree, &desk.path("back"));
}

#[test]
fn a_root_retires_and_its_plates_stay() {
    let desk = founded();
    desk.expect(
        0,
        &[
            "key", "generate", "--role", "root", "--out", "new.key", "--public", "new.pub",
        ],
    );
    draft(&desk, "charter.toml", |text| {
        let (_, behind) = text.split_once("[roots]\nthreshold = 1\nkeys = [\"").unwrap();
        let old = behind[..16].to_owned();
        let text = replaced(
            &text,
            &format!("[roots]\nthreshold = 1\nkeys = [\"{old}\"]"),
            "[roots]\nthreshold = 1\nkeys = [\"new.pub\"]",
        );
        format!("{text}\n[[revoked]]\nkey = \"{old}\"\nreason = \"retired\"\n")
    });
    desk.expect(0, &["charter", "sign", "charter.toml", "--root", "exclave-root.key"]);
    desk.expect(0, &["charter", "sign", "charter.v2.charter", "--root", "new.key"]);
    desk.expect(0, &["charter", "publish", "charter.v2.charter"]);
    desk.expect(0, &["snapshots", "--identity", "recovery.key"]);
    desk.expect(0, &["replicate", "land-register"]);
    desk.expect(0, &["charter", "publish", "charter.v2.charter"]);
}

#[test]
fn a_writer_is_not_retired_by_what_one_site_shows() {
    let desk = founded();
    let shown = desk.json(0, &["charter", "show"]);
    let people = strings(&shown["people"]);
    let writer = people
        .iter()
        .find_map(|line| Some(line.strip_prefix("writer ")?[..16].to_owned()))
        .unwrap();
    let a = desk.site("a");
    let new = [
        "charter", "new", "--revoke", &writer, "--reason", "retired", "--site", &a,
    ];
    let (_, err) = desk.expect(6, &new);
    assert!(
        err.contains("too few sites answer") && !desk.path("charter.toml").exists(),
        "{err}"
    );
    // Keys come from files, and nothing else.
    draft(&desk, "device.toml", |text| {
        replaced(
            &text,
            "threshold = 1\nkeys = [\"",
            "threshold = 1\nkeys = [\"/dev/zero\", \"",
        )
    });
    let (_, err) = desk.expect(2, &["charter", "explain", "device.toml"]);
    assert!(err.contains("no regular file"), "{err}");
}

#[test]
fn a_key_can_be_installed_again_after_another_one() {
    let desk = founded();
    for name in ["first", "second"] {
        desk.expect(
            0,
            &["key", "generate", "--role", "writer", "--out", &format!("{name}.key")],
        );
    }
    for name in ["first", "second", "first", "second", "first"] {
        // A journal of a run that never ended, in the way of each.
        fs::write(desk.path("exclave-state/journal/0011"), "").unwrap();
        desk.expect(0, &["key", "install", &format!("{name}.key")]);
        assert!(
            fs::read_dir(desk.path("exclave-state/journal"))
                .unwrap()
                .next()
                .is_none()
        );
    }
    // A death between moving the journals and making the folder anew.
    fs::remove_dir(desk.path("exclave-state/journal")).unwrap();
    desk.expect(0, &["key", "install", "second.key"]);
}
