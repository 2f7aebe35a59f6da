//! The sealed directory: names for those whom it is sealed to, and for nobody else at any site.

use std::fs;

use super::desk::Desk;

const CANARY: &str = "Maaregister-Zylinder-7731";
const CONTACT: &str = "Frau Xanthippe 0049-4711";

/// Every file below a folder that holds some bytes.
fn holding(folder: &std::path::Path, wanted: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(holding(&path, wanted)),
            false => {
                let bytes = fs::read(&path).unwrap();
                if bytes.windows(wanted.len()).any(|window| window == wanted) {
                    found.push(path);
                }
            }
        }
    }
    found
}

#[test]
fn names_and_contacts_are_sealed_and_order_what_comes_back() {
    let desk = Desk::new();
    desk.found();
    let tree = desk.tree();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    fs::write(desk.path("people.csv"), "1;Anna\n").unwrap();
    desk.expect(0, &["replicate", "people.csv", "--name", "people"]);
    desk.expect(
        0,
        &[
            "key",
            "generate",
            "--out",
            "auditor-reads.key",
            "--public",
            "auditor-reads.pub",
        ],
    );
    desk.expect(0, &["key", "generate", "--out", "stranger.key"]);

    let (_, err) = desk.expect(2, &["directory", "show"]);
    assert!(err.contains("show no directory"), "{err}");
    let drafted = desk.json(0, &["directory", "new"]);
    assert_eq!(
        (&drafted["version"], &drafted["datasets"], &drafted["unnamed"]),
        (&1.into(), &2.into(), &0.into())
    );
    let path = desk.path("directory.toml");
    assert_eq!(super::mode(&path), 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("name = \"land-register\"\ntier = 3"), "{text}");
    let named = format!("name = \"{CANARY}\"\ncontact = \"{CONTACT}\"\ntier = 2");
    let text = text.replace("name = \"land-register\"\ntier = 3", &named);
    let text = text.replace("name = \"people\"\ntier = 3", "name = \"people\"\ntier = 0");
    let text = text.replace(
        "charter = true\nkeys = []",
        "charter = true\nkeys = [\"auditor-reads.pub\"]",
    );
    fs::write(&path, &text).unwrap();
    let (_, err) = desk.expect(
        5,
        &[
            "directory",
            "sign",
            "directory.toml",
            "--root",
            "exclave-state/writer.key",
        ],
    );
    assert!(err.contains("can't be opened"), "{err}");
    fs::write(&path, text.replace("tier = 0", "tier = 7")).unwrap();
    let (_, err) = desk.expect(
        2,
        &["directory", "sign", "directory.toml", "--root", "exclave-root.key"],
    );
    assert!(err.contains("tiers are 0 to 3"), "{err}");
    fs::write(&path, &text).unwrap();
    let signed = desk.json(
        0,
        &["directory", "sign", "directory.toml", "--root", "exclave-root.key"],
    );
    assert_eq!(
        (&signed["file"], &signed["recipients"]),
        (&"directory.v1.directory".into(), &2.into())
    );
    let put = desk.json(0, &["directory", "publish", "directory.v1.directory"]);
    assert_eq!(put["sites"], 3);
    desk.expect(0, &["directory", "publish", "directory.v1.directory"]);

    // Nothing of it in any byte at any site; its recipients read it, others don't.
    for site in ["a", "b", "c"] {
        for canary in [CANARY, CONTACT, "exclave directory v1"] {
            assert_eq!(
                holding(&desk.path(site), canary.as_bytes()),
                Vec::<std::path::PathBuf>::new()
            );
        }
    }
    assert!(
        !holding(&desk.path(""), CANARY.as_bytes()).is_empty(),
        "the draft has it"
    );
    let (closed, _) = desk.expect(0, &["directory", "show"]);
    assert!(
        !closed.contains(CANARY) && closed.contains("sealed to 2 recipients"),
        "{closed}"
    );
    for key in ["recovery.key", "auditor-reads.key"] {
        let (open, _) = desk.expect(0, &["directory", "show", "--identity", key]);
        let (people, lands) = (open.find("people").unwrap(), open.find(CANARY).unwrap());
        assert!(people < lands && open.contains(CONTACT), "{open}");
    }
    desk.expect(5, &["directory", "show", "--identity", "stranger.key"]);

    // Snapshots come in its order, an audit shows names to the reader alone.
    let snapshots = desk.json_lines(0, &["snapshots", "--identity", "recovery.key"]);
    let tiers: Vec<_> = snapshots
        .iter()
        .map(|snapshot| snapshot["tier"].as_u64().unwrap())
        .collect();
    assert_eq!(tiers, [0, 2]);
    let audit = ["audit", "--mode", "heads", "--report", "one.report", "--directory"];
    let (told, _) = desk.expect(0, &[&audit[..], &["--identity", "auditor-reads.key"]].concat());
    assert!(told.contains(CANARY), "{told}");
    desk.expect(2, &["audit", "--mode", "heads", "--directory"]);
    let report = fs::read(desk.path("one.report")).unwrap();
    assert!(!String::from_utf8_lossy(&report).contains(CANARY));
    assert!(holding(&desk.path("a"), CANARY.as_bytes()).is_empty());
    desk.expect(0, &["directory", "show", "--out", "at-hand.directory"]);
    let page = ["report", "html", "one.report", "--unsigned", "--out", "page.html"];
    let open = ["--directory", "at-hand.directory", "--identity", "auditor-reads.key"];
    desk.expect(0, &[&page[..], &open].concat());
    assert!(fs::read_to_string(desk.path("page.html")).unwrap().contains(CANARY));

    // The next one begins with what this one says, and nothing follows twice.
    desk.expect(2, &["directory", "new", "--out", "second.toml"]);
    desk.expect(
        0,
        &["directory", "new", "--out", "second.toml", "--identity", "recovery.key"],
    );
    let text = fs::read_to_string(desk.path("second.toml")).unwrap();
    assert!(text.contains(CANARY) && text.contains("version = 2"), "{text}");
    desk.expect(0, &["directory", "sign", "second.toml", "--root", "exclave-root.key"]);
    desk.expect(0, &["directory", "publish", "second.v2.directory"]);
    let (_, err) = desk.expect(5, &["directory", "publish", "directory.v1.directory"]);
    assert!(err.contains("version 2, which it does not follow"), "{err}");
}

#[test]
fn several_roots_agree_on_a_directory() {
    let desk = Desk::new();
    desk.found();
    desk.expect(
        0,
        &[
            "key",
            "generate",
            "--role",
            "root",
            "--out",
            "second.key",
            "--public",
            "second.pub",
        ],
    );
    desk.expect(0, &["charter", "new"]);
    let text = fs::read_to_string(desk.path("charter.toml")).unwrap();
    let two = text.replace("threshold = 1\nkeys = [", "threshold = 2\nkeys = [\"second.pub\", ");
    fs::write(desk.path("charter.toml"), two).unwrap();
    desk.expect(0, &["charter", "sign", "charter.toml", "--root", "exclave-root.key"]);
    desk.expect(0, &["charter", "sign", "charter.v2.charter", "--root", "second.key"]);
    desk.expect(0, &["charter", "publish", "charter.v2.charter"]);
    desk.expect(0, &["directory", "new"]);
    let one = desk.json(
        0,
        &["directory", "sign", "directory.toml", "--root", "exclave-root.key"],
    );
    assert_eq!((&one["signatures"], &one["signatures_needed"]), (&1.into(), &2.into()));
    let (_, err) = desk.expect(5, &["directory", "publish", "directory.v1.directory"]);
    assert!(err.contains("was not published"), "{err}");
    let sign = ["directory", "sign", "directory.v1.directory", "--root", "second.key"];
    let (_, err) = desk.expect(5, &[&sign[..], &["--digest", "0123456789abcdef"]].concat());
    assert!(err.contains("nothing was signed"), "{err}");
    // The second signature comes alone.
    desk.expect(0, &[&sign[..], &["--signature-only", "two.signature"]].concat());
    let joined = [
        "directory",
        "sign",
        "directory.v1.directory",
        "--signature",
        "two.signature",
    ];
    let two = desk.json(0, &joined);
    assert_eq!(two["signatures"], 2);
    desk.expect(0, &["directory", "publish", "directory.v1.directory"]);
}
