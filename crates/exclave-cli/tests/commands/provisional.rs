//! Six directories of which two are away at a commit: what is said of it, and how the next run mends it.

use std::fs;

use crate::desk::{Desk, same_trees};

const SITES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[test]
fn a_provisional_snapshot_is_called_so_until_the_next_run_has_paid() {
    let desk = Desk::new();
    let tree = desk.tree();
    let tree_text = tree.to_str().unwrap();
    desk.expect(0, &["key", "generate", "--out", "recovery.key"]);
    let mut init: Vec<String> = ["init", "--recovery", "recovery.key"].map(str::to_owned).to_vec();
    for name in SITES {
        fs::create_dir_all(desk.path(name)).unwrap();
        init.extend(["--site".to_owned(), desk.site(name)]);
    }
    let init: Vec<&str> = init.iter().map(String::as_str).collect();
    desk.expect(0, &init);

    // 4+2: a commit wants five verified shards of each stripe and its head at four sites.
    away(&desk, &["b", "e"]);
    let said = desk.json(6, &["replicate", tree_text]);
    let said = &said["snapshots"][0];
    assert_eq!(said["outcome"], "provisional", "{said}");
    assert_eq!(
        (&said["verified_min"], &said["head_sites"]),
        (&4.into(), &4.into()),
        "{said}"
    );
    let owed = said["debt_shards"].as_u64().unwrap();
    assert_eq!(
        Some(owed),
        said["stripes"].as_u64().map(|stripes| 2 * stripes),
        "{said}"
    );

    let restore = ["restore", "--identity", "recovery.key", "--to"];
    let listed = desk.json_lines(0, &["snapshots", "--identity", "recovery.key"]);
    assert_eq!(
        (&listed[0]["state"], &listed[0]["debt_shards"]),
        (&"provisional".into(), &owed.into())
    );
    let (text, _) = desk.expect(0, &[&restore[..], &["back"]].concat());
    assert!(
        text.contains("\nPROVISIONAL: ") && text.contains(" only 4 shards"),
        "{text}"
    );
    same_trees(&tree, &desk.path("back"));
    let said = desk.json(0, &[&restore[..], &["again"]].concat());
    assert_eq!(
        (&said["state"], &said["verified_min"]),
        (&"provisional".into(), &4.into()),
        "{said}"
    );

    back(&desk, &["b", "e"]);
    let said = desk.json(0, &["replicate", tree_text]);
    let said = &said["snapshots"][0];
    assert_eq!(
        (&said["outcome"], &said["debts_paid"]),
        (&"committed".into(), &owed.into()),
        "{said}"
    );
    away(&desk, &["a", "f"]);
    let (text, _) = desk.expect(0, &[&restore[..], &["mended"]].concat());
    assert!(!text.contains("PROVISIONAL"), "{text}");
    same_trees(&tree, &desk.path("mended"));
}

fn away(desk: &Desk, names: &[&str]) {
    for name in names {
        fs::rename(desk.path(name), desk.path(&format!("{name}.away"))).unwrap();
    }
}

fn back(desk: &Desk, names: &[&str]) {
    for name in names {
        fs::rename(desk.path(&format!("{name}.away")), desk.path(name)).unwrap();
    }
}
