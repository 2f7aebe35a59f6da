//! A recovery key in the hands of several: split, checked, combined, used, sent by wire.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Output, Stdio},
};

use crate::desk::{Desk, mode, same_trees};

const CUSTODIANS: &str = r#"
[[group]]
name = "national offices"
threshold = 2
custodian = [
    { name = "Ministry of Justice", kind = "national", contact = "+372 600 0000" },
    { name = "National Archives", kind = "national" },
    { name = "Central Bank", kind = "national" },
]
[[group]]
name = "allied embassies"
threshold = 2
custodian = [
    { name = "Embassy in Luxembourg", kind = "allied" },
    { name = "Embassy in Oslo", kind = "allied" },
    { name = "NATO <Agency>", kind = "international" },
    { name = "Embassy in Rome", kind = "allied" },
]
"#;

const JUSTICE: &str = "shares/1-1-ministry-of-justice.share";
const BANK: &str = "shares/1-3-central-bank.share";
const LUXEMBOURG: &str = "shares/2-1-embassy-in-luxembourg.share";
const OSLO: &str = "shares/2-2-embassy-in-oslo.share";
const AGENCY: &str = "shares/2-3-nato-agency.share";

/// An archive with a snapshot, and its recovery key split.
fn split() -> Desk {
    let desk = Desk::new();
    desk.found();
    desk.tree();
    desk.expect(0, &["replicate", "land-register"]);
    fs::write(desk.path("custodians.toml"), CUSTODIANS).unwrap();
    split_into(&desk, &["--out", "shares", "--ask-sites"]);
    desk
}

fn split_into(desk: &Desk, more: &[&str]) -> serde_json::Value {
    let first = [
        "key",
        "split",
        "--identity",
        "recovery.key",
        "--custodians",
        "custodians.toml",
    ];
    desk.json(0, &[&first, more].concat())
}

fn given<'a>(shares: &[&'a str]) -> Vec<&'a str> {
    let each = shares.iter().flat_map(|share| ["--share", share]);
    ["--set", "shares/shares.set"].into_iter().chain(each).collect()
}

fn typed(desk: &Desk, arguments: &[&str], text: &str) -> Output {
    let mut child = desk
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that stops reading early is judged by what it says.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    child.wait_with_output().unwrap()
}

/// The archive's anchor, as cards print it.
fn anchor(desk: &Desk) -> String {
    let shown = desk.json(0, &["charter", "show"]);
    shown["archive"].as_str().unwrap().to_owned()
}

#[test]
fn custodians_restore_without_any_key_file() {
    let desk = split();
    let archive = anchor(&desk);
    fs::remove_file(desk.path("recovery.key")).unwrap();
    fs::remove_file(desk.path("exclave.toml")).unwrap();
    let [a, c] = ["a", "c"].map(|name| desk.site(name));
    let unnamed = ["--site", &a, "--site", &c];
    let sites = [&["--archive", &archive][..], &unnamed].concat();
    let enough = given(&[JUSTICE, BANK, LUXEMBOURG, AGENCY]);
    desk.expect(0, &[&["restore", "--to", "out"][..], &sites, &enough].concat());
    same_trees(&desk.path("land-register"), &desk.path("out"));
    // Every command that reads takes them.
    assert_eq!(
        desk.json_lines(0, &[&["snapshots"][..], &sites, &enough].concat())
            .len(),
        1
    );
    // Too few, and the same one twice.
    let few = given(&[JUSTICE, JUSTICE, LUXEMBOURG, AGENCY]);
    let (_, err) = desk.expect(4, &[&["restore", "--to", "out2"][..], &sites, &few].concat());
    assert!(
        err.contains("the share of Ministry of Justice") && err.contains("repeated"),
        "{err}"
    );
    assert!(err.contains("national offices: 1 of the 2 needed"), "{err}");
    assert!(!desk.path("out2").exists());
    // Words and digits on standard input, beside files; they carry no anchor.
    let show = |share: &str, form: &str| desk.expect(0, &["key", "show", share, "--as", form]).0;
    let text = show(BANK, "words") + &show(AGENCY, "digits");
    assert_eq!(text.lines().count(), 7 + 6);
    let mixed = given(&["-", JUSTICE, "-", OSLO]);
    let output = typed(
        &desk,
        &[&["restore", "--to", "out3"][..], &sites, &mixed].concat(),
        &text,
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same_trees(&desk.path("land-register"), &desk.path("out3"));
    let all_typed = given(&["-", "-", "-", "-"]);
    let text = [BANK, JUSTICE, OSLO, AGENCY].map(|share| show(share, "words")).concat();
    let restore = [&["restore", "--to", "out4"][..], &unnamed, &all_typed].concat();
    let output = typed(&desk, &restore, &text);
    assert_eq!(output.status.code(), Some(2), "nothing names the archive");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--archive HEX"));
}

#[test]
fn what_is_split_is_private_but_for_the_set() {
    let desk = split();
    assert_eq!(mode(&desk.path("shares")), 0o700);
    let names = |folder: &str| {
        let entries = fs::read_dir(desk.path(folder)).unwrap();
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let files = names("shares");
    assert_eq!(files.len(), 7 + 7 + 1);
    for file in files.iter().filter(|file| !file.ends_with("shares.set")) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    let share = fs::read_to_string(desk.path(JUSTICE)).unwrap();
    assert!(share.contains("kind = \"share\"") && share.contains("archive = ") && share.contains("argon2id"));
    // The card has the words that the share file gives, the sites, the anchor and the newest head.
    let card = fs::read_to_string(desk.path("shares/2-3-nato-agency.html")).unwrap();
    let words = desk.expect(0, &["key", "show", AGENCY, "--as", "words"]).0;
    assert!(
        words
            .split_whitespace()
            .all(|word| card.contains(&format!("<td>{word}</td>")))
    );
    let head = desk
        .json_lines(0, &["snapshots", "--identity", "recovery.key"])
        .remove(0);
    for part in [
        &desk.site("b"),
        "NATO &lt;Agency&gt;",
        head["snapshot"].as_str().unwrap(),
        "<svg",
    ] {
        assert!(card.contains(part), "{part}");
    }
    assert!(
        desk.expect(0, &["key", "show", JUSTICE, "--as", "svg"])
            .0
            .starts_with("<svg")
    );
    assert!(desk.expect(0, &["key", "show", JUSTICE, "--as", "qr"]).0.contains('█'));
    let (out, err) = desk.expect(2, &["key", "show", "recovery.key", "--as", "words"]);
    assert!(out.is_empty() && err.contains("nothing else is printed"), "{err}");
    let shown = desk.json(0, &["key", "show", JUSTICE]);
    assert_eq!(
        (&shown["share"]["x"], &shown["share"]["threshold"]),
        (&1.into(), &2.into())
    );

    // Nothing is written over, and a look writes nothing.
    let again = [
        "key",
        "split",
        "--identity",
        "recovery.key",
        "--custodians",
        "custodians.toml",
        "--out",
    ];
    let (_, err) = desk.expect(2, &[&again[..], &["shares"]].concat());
    assert!(err.contains("is not empty"), "{err}");
    let shown = split_into(&desk, &["--out", "other", "--dry-run"]);
    assert_eq!(shown["needed"], "2 of 3 national offices and 2 of 4 allied embassies");
    assert!(!desk.path("other").exists());
    fs::write(desk.path("list"), "one\ntwo\n").unwrap();
    fs::set_permissions(desk.path("list"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (_, err) = desk.expect(2, &[&again[..], &["other", "--share-passphrases", "list"]].concat());
    assert!(err.contains("no line for Central Bank"), "{err}");
    assert!(!desk.path("other").exists());
    // Another identity's set makes none outdated; and two names must not look alike.
    desk.expect(0, &["key", "generate", "--out", "stranger.key"]);
    let stranger = [
        "key",
        "split",
        "--identity",
        "stranger.key",
        "--custodians",
        "custodians.toml",
        "--out",
        "other",
    ];
    let (_, err) = desk.expect(2, &[&stranger[..], &["--previous", "shares/shares.set"]].concat());
    assert!(err.contains("a set of identity"), "{err}");
    fs::write(
        desk.path("alike.toml"),
        CUSTODIANS.replace("Central Bank", "Central\u{200b} Bank"),
    )
    .unwrap();
    let alike = [
        "key",
        "split",
        "--identity",
        "recovery.key",
        "--custodians",
        "alike.toml",
        "--out",
        "other",
    ];
    let (_, err) = desk.expect(2, &alike);
    assert!(err.contains("nobody sees") && !desk.path("other").exists(), "{err}");
    // Nobody could say what the card of an identity of no archive is for.
    desk.expect(2, &[&["--config", "/dev/null"][..], &stranger].concat());
    // A template of one's own, in another language.
    fs::write(desk.path("karte.html"), "<p>Treuhänder: {{custodian}}</p>{{words}}").unwrap();
    let useless = [&again[..], &["other", "--template", "karte.html"]].concat();
    let (_, err) = desk.expect(2, &useless);
    assert!(
        err.contains("no place for {{archive}}") && !desk.path("other").exists(),
        "{err}"
    );
    let needed = "{{ archive }} {{set}} {{x}} {{recipient}} {{words}}";
    let template = format!("<p>Treuhänder: {{{{custodian}}}}</p>{needed}");
    fs::write(desk.path("karte.html"), template).unwrap();
    split_into(&desk, &["--out", "other", "--template", "karte.html"]);
    let card = fs::read_to_string(desk.path("other/1-3-central-bank.html")).unwrap();
    assert!(card.starts_with("<p>Treuhänder: Central Bank</p>"), "{card}");
    // Bodies that may not hold a share.
    for kind in ["hyperscale", "non-allied"] {
        fs::write(desk.path("custodians.toml"), CUSTODIANS.replace("international", kind)).unwrap();
        let (_, err) = desk.expect(5, &[&again[..], &["third", "--dry-run"]].concat());
        assert!(
            err.contains("NATO <Agency>") && err.contains("no share of a recovery key may lie there"),
            "{err}"
        );
    }
}

#[test]
fn bad_shares_are_named_by_custodian() {
    let desk = split();
    let shown = split_into(
        &desk,
        &["--out", "newer", "--previous", "shares/shares.set", "--no-cards"],
    );
    assert_eq!(shown["epoch"], 1);
    let newer = desk.path("newer").join("1-2-national-archives.share");
    // Of a split before.
    let outdated = [
        "key",
        "check",
        "--set",
        "newer/shares.set",
        "--share",
        JUSTICE,
        "--share",
        newer.to_str().unwrap(),
    ];
    let checked = desk.json(3, &outdated);
    let finding = checked["findings"][0].as_str().unwrap();
    assert!(
        finding.contains("Ministry of Justice") && finding.contains("outdated"),
        "{finding}"
    );
    assert_eq!(checked["good"][0]["custodian"], "National Archives");
    assert_eq!(checked["enough"], false);
    // Of another set: a wholly new split.
    split_into(&desk, &["--out", "foreign", "--no-cards"]);
    let foreign = "foreign/2-1-embassy-in-luxembourg.share";
    let checked = desk.json(3, &[&["key", "check"][..], &given(&[OSLO, foreign])].concat());
    assert!(
        checked["findings"][0].as_str().unwrap().contains("foreign"),
        "{checked}"
    );
    // A typed line with a wrong word, and a word that is none.
    let words = desk.expect(0, &["key", "show", BANK, "--as", "words"]).0;
    let mut list: Vec<&str> = words.split_whitespace().collect();
    let check = [&["key", "check"][..], &given(&["-"])].concat();
    list.swap(12, 13);
    let output = typed(&desk, &check, &list.join(" "));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && (err.contains("line 3: its check does not fit") || list[12] == list[13]),
        "{err}"
    );
    list[16] = "abandom";
    list.swap(12, 13);
    let output = typed(&desk, &check, &list.join(" "));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        err.contains("line 3, word 5: not a word of the list; perhaps abandon"),
        "{err}"
    );

    // The good ones give the key, told by its number; the bad ones don't stand in the way.
    let recipient = desk.json(0, &["key", "show", "recovery.key"])["recipient"].clone();
    let enough = given(&[JUSTICE, BANK, OSLO, AGENCY]);
    let combined = desk.json(0, &[&["key", "combine"][..], &enough].concat());
    assert_eq!(combined["recipient"], recipient);
    let with_bad = given(&[JUSTICE, BANK, OSLO, foreign, AGENCY]);
    let combined = desk.json(3, &[&["key", "combine"][..], &with_bad].concat());
    assert_eq!(combined["recipient"], recipient);
    // So with a file that is no share at all; and a restore that had a bad one says so, too.
    fs::write(desk.path("torn.share"), "exclave key file, torn").unwrap();
    fs::set_permissions(
        desk.path("torn.share"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let with_torn = given(&[JUSTICE, "torn.share", BANK, OSLO, AGENCY]);
    for command in ["check", "combine"] {
        let shown = desk.json(3, &[&["key", command][..], &with_torn].concat());
        assert!(shown["findings"][0].as_str().unwrap().contains("torn.share"), "{shown}");
    }
    for bad in [with_bad, with_torn] {
        desk.expect(3, &[&["restore", "--verify"][..], &bad].concat());
    }
    desk.expect(2, &[&["key", "check"][..], &given(&["torn.share"])].concat());
    let (_, err) = desk.expect(0, &[&["key", "combine", "--output", "back.key"][..], &enough].concat());
    assert!(err.contains("now open everything"), "{err}");
    desk.expect(0, &["restore", "--identity", "back.key", "--verify"]);
    let (_, err) = desk.expect(2, &["restore", "--verify", "--share", JUSTICE]);
    assert!(err.contains("--set FILE"), "{err}");
    desk.expect(
        2,
        &["restore", "--verify", "--share", JUSTICE, "--identity", "recovery.key"],
    );
}

#[test]
fn shares_come_by_wire_for_one_ceremony() {
    let desk = split();
    let request = desk.json(0, &["key", "request", "--key", "ceremony.key", "--out", "request"]);
    desk.json(0, &["key", "request", "--key", "other.key", "--out", "other"]);
    for (number, share) in [JUSTICE, BANK, OSLO].iter().enumerate() {
        let out = format!("wrapped-{number}");
        let wrapped = desk.json(
            0,
            &["key", "wrap-share", "--share", share, "--to", "request", "--out", &out],
        );
        assert_eq!(wrapped["key"], request["key"]);
    }
    let by_wire = given(&["wrapped-0", "wrapped-1", "wrapped-2", AGENCY]);
    let restore = [
        &["restore", "--to", "out", "--ceremony-key", "ceremony.key"][..],
        &by_wire,
    ]
    .concat();
    desk.expect(0, &restore);
    same_trees(&desk.path("land-register"), &desk.path("out"));
    let (_, err) = desk.expect(2, &[&["key", "check"][..], &by_wire].concat());
    assert!(err.contains("--ceremony-key FILE"), "{err}");
    let wrong = [&["key", "check", "--ceremony-key", "other.key"][..], &by_wire].concat();
    let (out, _) = desk.expect(3, &wrong);
    assert!(
        out.matches("not for this ceremony's").count() == 3 && out.contains("more are needed"),
        "{out}"
    );
    desk.expect(
        2,
        &[
            "key",
            "wrap-share",
            "--share",
            AGENCY,
            "--to",
            "recovery.key",
            "--out",
            "x",
        ],
    );
    desk.expect(2, &["key", "request", "--key", "ceremony.key", "--out", "again"]);
    let (_, err) = desk.expect(5, &["restore", "--verify", "--identity", "ceremony.key"]);
    assert!(err.contains("ceremony"), "{err}");
}

#[test]
fn a_charter_that_names_the_set_makes_shares_enough() {
    let desk = split();
    desk.expect(0, &["charter", "new"]);
    let draft = fs::read_to_string(desk.path("charter.toml")).unwrap();
    fs::write(
        desk.path("charter.toml"),
        format!("{draft}\n[[shares]]\nset = \"shares/shares.set\"\n"),
    )
    .unwrap();
    let (page, _) = desk.expect(0, &["charter", "explain", "charter.toml"]);
    assert!(
        page.contains("is split: 2 of 3 national offices and 2 of 4 allied embassies"),
        "{page}"
    );
    desk.expect(0, &["charter", "sign", "charter.toml", "--root", "exclave-root.key"]);
    desk.expect(0, &["charter", "publish", "charter.v2.charter"]);
    // On a fresh machine: the shares, the sites, and the anchor from a card.
    let (a, b) = (desk.site("a"), desk.site("b"));
    let anchor = anchor(&desk);
    let shares = |four: [&'static str; 4]| {
        four.into_iter()
            .flat_map(|share| ["--share", share])
            .collect::<Vec<_>>()
    };
    let sites = [
        "--config",
        "/dev/null",
        "--site",
        &a,
        "--site",
        &b,
        "--archive",
        &anchor,
    ];
    let restore = ["restore", "--to", "back"];
    desk.expect(
        0,
        &[&restore[..], &shares([JUSTICE, BANK, OSLO, AGENCY]), &sites].concat(),
    );
    same_trees(&desk.path("land-register"), &desk.path("back"));
    // What a custodian's file says of the archive is compared, and never believed.
    let text = fs::read_to_string(desk.path(OSLO)).unwrap();
    fs::write(desk.path(OSLO), text.replace(&anchor, &"00".repeat(32))).unwrap();
    let (_, err) = desk.expect(
        5,
        &[
            &["restore", "--to", "evil"][..],
            &shares([JUSTICE, BANK, OSLO, AGENCY]),
            &sites,
        ]
        .concat(),
    );
    assert!(err.contains("names archive 0000"), "{err}");
    fs::write(desk.path(OSLO), text).unwrap();
    // Three of four: said of which group, and nothing is tried.
    let few = ["--share", JUSTICE, "--share", BANK, "--share", OSLO];
    let (_, err) = desk.expect(4, &[&["restore", "--to", "few"][..], &few, &sites].concat());
    assert!(err.contains("allied embassies"), "{err}");
    // Split anew: the old shares are outdated once the charter names the new split.
    split_into(&desk, &["--out", "anew", "--previous", "shares/shares.set"]);
    let new = ["charter", "new", "--out", "later.toml"];
    desk.expect(0, &new);
    let text = fs::read_to_string(desk.path("later.toml")).unwrap();
    let (before, set) = text.rsplit_once("[[shares]]").unwrap();
    assert!(set.contains("set = "));
    fs::write(
        desk.path("later.toml"),
        format!("{before}[[shares]]\nset = \"anew/shares.set\"\n"),
    )
    .unwrap();
    let (page, _) = desk.expect(0, &["charter", "explain", "later.toml"]);
    assert!(page.contains("is split anew"), "{page}");
    desk.expect(0, &["charter", "sign", "later.toml", "--root", "exclave-root.key"]);
    desk.expect(0, &["charter", "publish", "later.v3.charter"]);
    let old = desk.run(
        &[
            &["restore", "--to", "old"][..],
            &shares([JUSTICE, BANK, OSLO, AGENCY]),
            &sites,
        ]
        .concat(),
    );
    let err = String::from_utf8_lossy(&old.stderr);
    assert!(
        matches!(old.status.code(), Some(4 | 5)) && err.contains("outdated"),
        "{err}"
    );
}
