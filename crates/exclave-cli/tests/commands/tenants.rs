//! Administrators add datasets to their class and demand more; a writer obeys; an audit lists who is missing.

use std::fs;

use super::desk::Desk;

/// An archive of three sites with a 1+2 class, an administrator, and a class that takes registered datasets alone.
fn founded() -> Desk {
    let desk = Desk::new();
    desk.found();
    let generate = |role: &str, name: &str| {
        let [key, public] = [format!("{name}.key"), format!("{name}.pub")];
        desk.expect(
            0,
            &["key", "generate", "--role", role, "--out", &key, "--public", &public],
        );
    };
    generate("administrator", "ministry");
    generate("administrator", "other");
    charter(&desk, "next", |text| {
        // One site may be lost: the class demands something that can be loosened.
        assert!(text.contains("losses = 0"), "{text}");
        let text = text.replace("losses = 0", "losses = 1");
        let member = "[[member]]\nrole = \"administrator\"\nkey = \"ministry.pub\"\nclasses = [0]\n";
        format!("{text}\n{member}\n[rules]\nregistered_classes = [0]\n")
    });
    desk
}

/// Publishes the next charter.
fn charter(desk: &Desk, name: &str, change: impl FnOnce(String) -> String) {
    let draft = format!("{name}.toml");
    desk.expect(0, &["charter", "new", "--out", &draft]);
    let text = fs::read_to_string(desk.path(&draft)).unwrap();
    fs::write(desk.path(&draft), change(text)).unwrap();
    let signed = desk.json(0, &["charter", "sign", &draft, "--root", "exclave-root.key"]);
    desk.expect(0, &["charter", "publish", signed["file"].as_str().unwrap()]);
}

const BY_MINISTRY: [&str; 2] = ["--administrator", "ministry.key"];

#[test]
fn a_ministry_adds_a_database_without_the_roots_and_loosens_nothing() {
    let desk = founded();
    let tree = desk.tree();
    let tree = tree.to_str().unwrap();
    let (_, refused) = desk.expect(5, &["replicate", tree]);
    assert!(
        refused.contains("rule registered-datasets of charter version 2"),
        "{refused}"
    );
    let id = refused.split("exclave dataset add ").nth(1).unwrap();
    let id = id.split(' ').next().unwrap().to_owned();

    // Whoever is no administrator of the class signs nothing, nor does a key of another role.
    let (_, err) = desk.expect(5, &["dataset", "add", &id, "--administrator", "other.key"]);
    assert!(err.contains("nothing was signed"), "{err}");
    let (_, err) = desk.expect(5, &["dataset", "add", &id, "--administrator", "exclave-root.key"]);
    assert!(err.contains("can't be opened"), "{err}");
    // Less than the class demands, or more than its code can bear.
    let (_, err) = desk.expect(
        5,
        &[&["dataset", "add", &id, "--losses", "0"][..], &BY_MINISTRY].concat(),
    );
    assert!(
        err.contains("tightens-never-loosens: losses 0 where 1 was demanded"),
        "{err}"
    );
    let (_, err) = desk.expect(
        5,
        &[&["dataset", "add", &id, "--losses", "9"][..], &BY_MINISTRY].concat(),
    );
    assert!(err.contains("can't lose 9 sites"), "{err}");

    // By the agent's name for it, on the agent's host.
    let added = desk.json(0, &[&["dataset", "add", "land-register"][..], &BY_MINISTRY].concat());
    assert_eq!(
        (&added["record"]["dataset"], &added["sites"]),
        (&id.as_str().into(), &3.into())
    );
    desk.expect(0, &["replicate", tree]);
    let (_, err) = desk.expect(5, &[&["dataset", "add", &id][..], &BY_MINISTRY].concat());
    assert!(err.contains("is in class 0 already"), "{err}");

    let tightened = desk.json(
        0,
        &[
            &["dataset", "tighten", &id[..8], "--read-back", "full"][..],
            &BY_MINISTRY,
        ]
        .concat(),
    );
    assert_eq!(tightened["record"]["version"], 2);
    let (_, err) = desk.expect(
        5,
        &[&["dataset", "tighten", &id, "--read-back", "group"][..], &BY_MINISTRY].concat(),
    );
    assert!(
        err.contains("tightens-never-loosens: read-back group where full"),
        "{err}"
    );
    desk.expect(0, &["replicate", tree]);
    // All sites hide the second record: the agent has seen it, goes on obeying it, and says so.
    let hidden = ["a", "b", "c"].map(|site| {
        let archive = fs::read_dir(desk.path(site))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut folders = archive.map(|path| path.join("datasets").join(&id));
        let mut records = fs::read_dir(folders.find(|path| path.is_dir()).unwrap()).unwrap();
        let second = |path: &std::path::PathBuf| path.to_string_lossy().contains("/00000002.");
        let record = records
            .find_map(|entry| Some(entry.unwrap().path()).filter(second))
            .unwrap();
        let away = desk.path(&format!("hidden-{site}"));
        fs::rename(&record, &away).unwrap();
        (record, away)
    });
    let told = desk.json(3, &["replicate", tree]);
    let alarm = told["snapshots"][0]["alarms"][0].as_str().unwrap();
    assert!(
        alarm.contains("record 2 of dataset") && alarm.contains("no site shows it now"),
        "{alarm}"
    );
    for (record, away) in &hidden {
        fs::rename(away, record).unwrap();
    }
    desk.expect(0, &["replicate", tree]);
    let (shown, _) = desk.expect(0, &["dataset", "show", "land-register"]);
    assert!(
        shown.contains("read-back full") && shown.contains("  2. read-back full"),
        "{shown}"
    );
    let listed = desk.json(0, &["dataset", "list"]);
    let line = &listed["datasets"][0];
    assert_eq!((&line["registered"], &line["must_be"]), (&2.into(), &true.into()));

    // The administrator goes; what he said is void until another says it again.
    charter(&desk, "third", |text| {
        let key = text.split("role = \"administrator\"\nkey = \"").nth(1).unwrap();
        let key = key.split('"').next().unwrap().to_owned();
        let member = format!("[[member]]\nrole = \"administrator\"\nkey = \"{key}\"\nclasses = [0]\n");
        let other = "[[member]]\nrole = \"administrator\"\nkey = \"other.pub\"\nclasses = [0]\n";
        assert!(text.contains(&member), "{text}");
        let text = text.replace(&member, other);
        // The draft's first lines show such a table, too.
        let revoked = format!("\n[[revoked]]\nkey = \"{key}\"\nreason = \"retired\"\n\n[rules]\n");
        text.replace("\n[rules]\n", &revoked)
    });
    let (_, err) = desk.expect(5, &["replicate", tree]);
    assert!(err.contains("rule registered-datasets of charter version 3"), "{err}");
    let audit = desk.json(3, &["audit", "--mode", "heads"]);
    assert_eq!(audit["facts"]["datasets_unregistered"], 1);
    assert_eq!(audit["datasets"][0]["demanded"], true);
    let (told, _) = desk.expect(3, &["audit", "--mode", "heads"]);
    assert!(told.contains("NOT REGISTERED"), "{told}");
    let (_, err) = desk.expect(
        5,
        &["dataset", "add", &id, "--class", "1", "--administrator", "other.key"],
    );
    assert!(err.contains("class-is-kept"), "{err}");
    desk.expect(0, &["dataset", "add", &id, "--administrator", "other.key"]);
    desk.expect(0, &["replicate", tree]);
    let audit = desk.json(0, &["audit", "--mode", "full"]);
    assert_eq!(
        (&audit["verdict"], &audit["datasets"][0]["registered"]),
        (&"whole".into(), &1.into())
    );
}

#[test]
fn a_record_is_signed_without_a_network_and_published_elsewhere() {
    let desk = founded();
    let tree = desk.tree();
    desk.expect(5, &["replicate", tree.to_str().unwrap()]);
    let listed = desk.json(3, &["dataset", "list"]);
    let id = listed["datasets"][0]["dataset"].as_str().unwrap().to_owned();
    // A folder with the key and the charters, and nothing else.
    let away = desk.path("away");
    fs::create_dir(&away).unwrap();
    for (from, to) in [("ministry.key", "ministry.key"), ("next.v2.charter", "charters")] {
        fs::copy(desk.path(from), away.join(to)).unwrap();
    }
    let signed = |arguments: &[&str]| {
        let output = desk.command(arguments).current_dir(&away).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let offline = [&BY_MINISTRY[..], &["--charters", "charters"]].concat();
    signed(&[&["dataset", "add", &id, "--out", "one.dataset"][..], &offline].concat());
    let tighten = [
        "dataset",
        "tighten",
        &id,
        "--read-back",
        "full",
        "--after",
        "one.dataset",
    ];
    signed(&[&tighten[..], &["--out", "two.dataset"], &offline].concat());
    let (_, err) = desk.expect(2, &["dataset", "publish", "away/charters"]);
    assert!(
        err.contains("was not published") || err.contains("longer than"),
        "{err}"
    );
    for file in ["away/one.dataset", "away/two.dataset", "away/two.dataset"] {
        desk.expect(0, &["dataset", "publish", file]);
    }
    let (_, err) = desk.expect(5, &["dataset", "publish", "away/one.dataset"]);
    assert!(err.contains("does not follow it"), "{err}");
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
}

#[test]
fn a_writer_keeps_to_its_group_and_to_allowed_formats() {
    let desk = Desk::new();
    desk.found();
    let tree = desk.tree();
    let tree = tree.to_str().unwrap();
    let first = desk.json(0, &["replicate", tree]);
    assert!(first["snapshots"][0]["bytes_new"].as_u64().unwrap() > 0);
    assert_eq!(desk.json(0, &["replicate", tree])["snapshots"][0]["bytes_new"], 0);
    // An heir in another group refers to nothing of the one before him.
    desk.expect(
        0,
        &[
            "key", "generate", "--role", "writer", "--out", "heir.key", "--public", "heir.pub",
        ],
    );
    let writer = |text: &str| text.split("[[writer]]\nkey = \"").nth(1).unwrap()[..16].to_owned();
    charter(&desk, "next", |text| {
        let key = writer(&text);
        let heir = "[[writer]]\nkey = \"heir.pub\"\nclasses = [0]\n\n[[recipients]]";
        let group = format!("\n[[trust_group]]\nwriters = [\"{key}\"]\n");
        format!("{}{group}", text.replace("[[recipients]]", heir))
    });
    let (page, _) = desk.expect(0, &["charter", "show"]);
    assert!(page.contains("reuse each other's runs and nobody else's"), "{page}");
    desk.expect(0, &["key", "install", "heir.key"]);
    let resent = desk.json(0, &["replicate", tree]);
    assert_eq!(resent["snapshots"][0]["bytes_new"], first["snapshots"][0]["bytes_new"]);
    assert_eq!(
        desk.json(0, &["replicate", tree])["snapshots"][0]["bytes_new"],
        0,
        "his own are his"
    );
    charter(&desk, "third", |text| {
        format!("{text}\n[rules]\nformat_versions = [2]\n")
    });
    let (_, err) = desk.expect(5, &["replicate", tree]);
    assert!(err.contains("rule allowed-formats of charter version 3"), "{err}");
    // Readers are not bound.
    desk.expect(0, &["snapshots", "--identity", "recovery.key"]);
}
