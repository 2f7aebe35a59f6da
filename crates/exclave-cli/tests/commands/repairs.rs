//! What stores lose is put back, with the anchor and the stores alone.

use std::{fs, path::PathBuf};

use crate::desk::Desk;

/// Every file of a store whose name holds a text.
fn files(desk: &Desk, store: &str, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![desk.path(store)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().contains(text) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_ally_repairs_without_any_key() {
    let desk = Desk::new();
    desk.found();
    desk.tree();
    desk.expect(0, &["replicate", "land-register"]);
    let shown = desk.json(0, &["charter", "show"]);
    let anchor = shown["archive"].as_str().unwrap();
    let sites = ["a", "b", "c"].map(|name| desk.site(name));
    let [a, b, c] = &sites;
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
    let repair = |code: i32, more: &[&str]| desk.json(code, &[&["repair"][..], &public, more].concat());
    let nothing = repair(0, &[]);
    assert_eq!(
        (&nothing["damaged_shards"], &nothing["mended_shards"]),
        (&0.into(), &0.into())
    );

    // What wasn't looked at is not called whole.
    let two = ["--config", "/dev/null", "--archive", anchor, "--site", a, "--site", b];
    let partly = desk.json(3, &[&["repair"][..], &two].concat());
    assert!(partly["unproven_shards"].as_u64().unwrap() > 0, "{partly}");
    assert_eq!(
        (&partly["damaged_shards"], &partly["unrecoverable_stripes"]),
        (&0.into(), &0.into())
    );

    // One store lost a shard, one has a rotten one, one lost the ledger.
    let lost = &files(&desk, "a", "/shards/")[0];
    let before = fs::read(lost).unwrap();
    fs::remove_file(lost).unwrap();
    let rotten = files(&desk, "b", "/shards/").pop().unwrap();
    let sound = fs::read(&rotten).unwrap();
    let mut bytes = sound.clone();
    bytes[5000] ^= 1;
    fs::write(&rotten, bytes).unwrap();
    let ledger = files(&desk, "c", "/ledger.").remove(0);
    fs::remove_file(&ledger).unwrap();

    let dry = repair(3, &["--dry-run"]);
    assert_eq!(
        (&dry["damaged_shards"], &dry["mended_shards"]),
        (&2.into(), &0.into()),
        "{dry}"
    );
    assert!(!lost.exists());
    let (text, _) = desk.expect(3, &[&["repair", "--plan"][..], &public].concat());
    assert!(text.contains("2 shards of 2 stripes are missing or wrong"), "{text}");
    assert!(text.contains("Nothing was written"), "{text}");

    let done = repair(0, &[]);
    assert_eq!(
        (&done["mended_shards"], &done["left_shards"]),
        (&2.into(), &0.into()),
        "{done}"
    );
    assert_eq!(done["copied_records"], 1);
    assert_eq!((fs::read(lost).unwrap(), fs::read(&rotten).unwrap()), (before, sound));
    assert!(ledger.exists());
    desk.expect(0, &[&["audit", "--mode", "full"][..], &public].concat());

    // A store that takes nothing where something is missing: said, and mended when it can be.
    let folder = files(&desk, "c", "/ledger.").remove(0).parent().unwrap().to_owned();
    let aside = desk.path("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let done = repair(3, &[]);
    assert_eq!(
        (&done["records_short"], &done["left_shards"]),
        (&0.into(), &0.into()),
        "{done}"
    );
    assert!(done["warnings"].as_array().unwrap().len() >= 3, "{done}");
    fs::remove_file(&folder).unwrap();
    let done = repair(0, &[]);
    assert_eq!(done["copied_records"], fs::read_dir(&aside).unwrap().count(), "{done}");
    assert!(ledger.exists());

    // More is lost than the rest can make up for: said with its own code, and the restore says the same.
    for store in ["a", "b"] {
        let first = files(&desk, store, "/shards/").remove(0);
        fs::remove_file(first).unwrap();
    }
    let done = repair(4, &[]);
    assert_eq!(done["unrecoverable_stripes"], 1, "{done}");
    // A repair reads no name and opens nothing.
    assert!(!done.to_string().contains("land-register"));
    desk.expect(4, &["restore", "--to", "out", "--identity", "recovery.key"]);
}
