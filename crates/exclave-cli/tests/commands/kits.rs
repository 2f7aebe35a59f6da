//! Kits: two roots must agree, and a restore needs nothing else.

use std::fs;

use super::desk::{Desk, same_trees};

/// An archive with one snapshot, whose charter takes two roots of three.
fn founded() -> Desk {
    let desk = Desk::new();
    desk.found();
    let tree = desk.tree();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    for name in ["second", "third"] {
        let [key, public] = [format!("{name}.key"), format!("{name}.pub")];
        desk.expect(
            0,
            &["key", "generate", "--role", "root", "--out", &key, "--public", &public],
        );
    }
    desk.expect(0, &["charter", "new"]);
    let text = fs::read_to_string(desk.path("charter.toml")).unwrap();
    let one = "[roots]\nthreshold = 1\nkeys = [";
    assert!(text.contains(one), "{text}");
    let two = "[roots]\nthreshold = 2\nkeys = [\"second.pub\", \"third.pub\", ";
    fs::write(desk.path("charter.toml"), text.replace(one, two)).unwrap();
    desk.expect(0, &["charter", "sign", "charter.toml", "--root", "exclave-root.key"]);
    desk.expect(0, &["charter", "sign", "charter.v2.charter", "--root", "second.key"]);
    desk.expect(0, &["charter", "publish", "charter.v2.charter"]);
    desk
}

#[test]
fn one_root_alone_vouches_for_no_program() {
    let desk = founded();
    let made = desk.json(0, &["kit", "make", "--out", "kit", "--binary", "/bin/true"]);
    assert_eq!(
        (made["version"].as_u64(), made["signatures"].as_u64()),
        (Some(1), Some(0))
    );
    let digest = made["digest"].as_str().unwrap();
    // A kit has a folder of its own, and is signed for what it is.
    desk.expect(2, &["kit", "make", "--out", "kit", "--binary", "/bin/true"]);
    let (_, err) = desk.expect(
        5,
        &[
            "kit",
            "sign",
            "kit",
            "--root",
            "second.key",
            "--digest",
            "0123456789abcdef",
        ],
    );
    assert!(err.contains("nothing was signed"), "{err}");
    let (_, err) = desk.expect(5, &["kit", "sign", "kit", "--root", "exclave-state/writer.key"]);
    assert!(err.contains("can't be opened") || err.contains("may not sign"), "{err}");
    desk.expect(3, &["kit", "show", "kit"]);
    for _ in 0..2 {
        // Twice by one root is once.
        desk.expect(
            0,
            &["kit", "sign", "kit", "--root", "second.key", "--digest", &digest[..20]],
        );
        let (_, err) = desk.expect(5, &["kit", "publish", "kit"]);
        assert!(err.contains("1 of 2 roots signed it"), "{err}");
    }
    let restore = [
        "restore",
        "--kit",
        "kit",
        "--identity",
        "recovery.key",
        "--to",
        "restored",
    ];
    let (_, err) = desk.expect(5, &restore);
    assert!(
        err.contains("1 of 2 roots signed it") && !desk.path("restored").exists(),
        "{err}"
    );
    desk.expect(0, &["kit", "sign", "kit", "--root", "third.key"]);
    assert_eq!(desk.json(0, &["kit", "show", "kit"])["signatures"].as_u64(), Some(2));
    desk.expect(0, &["kit", "publish", "kit"]);

    // No settings, no state, one site lost: the kit is enough.
    for gone in ["exclave.toml", "a"] {
        fs::rename(desk.path(gone), desk.path(&format!("{gone}.gone"))).unwrap();
    }
    desk.expect(0, &restore);
    same_trees(&desk.path("land-register"), &desk.path("restored"));
    let kit = ["--kit", "kit", "--identity", "recovery.key"];
    for command in [&["snapshots"][..], &["ls"], &["find", "*.csv"]] {
        let (out, _) = desk.expect(0, &[command, &kit].concat());
        assert!(
            out.contains("land-register") || out.contains("owners.csv"),
            "{command:?}: {out}"
        );
    }
    // A site that moved is named anew, the others are the kit's.
    fs::rename(desk.path("b"), desk.path("elsewhere")).unwrap();
    let moved = format!("b={}", desk.site("elsewhere"));
    let (out, _) = desk.expect(
        0,
        &[&["snapshots"][..], &kit, &["--site", &moved, "--site", "c"]].concat(),
    );
    assert!(out.contains("land-register"), "{out}");
    let (_, err) = desk.expect(2, &[&["snapshots"][..], &kit, &["--credentials", "x"]].concat());
    assert!(err.contains("cannot be used with"), "{err}");
}
