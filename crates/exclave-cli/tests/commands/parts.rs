//! A charter crosses an air gap in parts, and one signature comes back.

use std::fs;

use super::desk::Desk;

fn lines(desk: &Desk, name: &str) -> Vec<String> {
    let text = fs::read_to_string(desk.path(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_draft_crosses_as_lines_and_a_signature_comes_back_alone() {
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
    assert_ne!(text, two);
    fs::write(desk.path("charter.toml"), two).unwrap();
    desk.expect(
        0,
        &[
            "charter",
            "show",
            "charter.toml",
            "--parts",
            "text",
            "--parts-out",
            "out.txt",
        ],
    );
    let sent = lines(&desk, "out.txt");
    assert!(sent.len() > 5 && sent.iter().all(|line| line.starts_with("EXC1/")));

    // The machine with the key: scanned in another order, one twice, one missing at first, one misread.
    let air = desk.path("air");
    fs::create_dir(&air).unwrap();
    fs::rename(desk.path("second.key"), air.join("second.key")).unwrap();
    let on_air = |code: i32, arguments: &[&str]| {
        let output = desk.command(arguments).current_dir(&air).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout) + &text(&output.stderr)
    };
    let mut scanned: Vec<String> = sent.iter().rev().cloned().collect();
    scanned.push(sent[0].clone());
    let without: Vec<String> = scanned.iter().filter(|line| **line != sent[2]).cloned().collect();
    fs::write(air.join("scan.txt"), without.join("\n")).unwrap();
    let err = on_air(5, &["charter", "explain", "scan.txt"]);
    assert!(err.contains("these are missing: 3"), "{err}");
    let misread = sent[2].replace(&sent[2][50..54], "2222");
    fs::write(
        air.join("scan.txt"),
        [without.clone(), vec![misread]].concat().join("\n"),
    )
    .unwrap();
    let err = on_air(5, &["charter", "explain", "scan.txt"]);
    assert!(err.contains("part 3 (line"), "{err}");
    fs::write(air.join("scan.txt"), scanned.join("\n")).unwrap();
    let page = desk.json(0, &["charter", "explain", "charter.toml"]);
    let digest = page["digest"].as_str().unwrap();
    let shown = on_air(0, &["--json", "charter", "explain", "scan.txt"]);
    assert!(shown.contains(digest), "{shown}");
    let sign = [
        "charter",
        "sign",
        "scan.txt",
        "--root",
        "second.key",
        "--digest",
        digest,
    ];
    on_air(
        0,
        &[
            &sign[..],
            &["--signature-only", "back", "--parts", "text", "--parts-out", "back.txt"],
        ]
        .concat(),
    );
    let size = fs::metadata(air.join("back")).unwrap().len();
    assert!((3400..3600).contains(&size), "{size}");
    let back = fs::read_to_string(air.join("back.txt")).unwrap();
    assert_eq!(back.lines().count(), 5);
    fs::write(
        desk.path("back.txt"),
        back.lines().rev().collect::<Vec<_>>().join("\r\n"),
    )
    .unwrap();

    // A signature over another record is refused, and so is a damaged one.
    desk.expect(0, &["charter", "new", "--out", "other.toml"]);
    let (_, err) = desk.expect(5, &["charter", "sign", "other.toml", "--signature", "back.txt"]);
    assert!(err.contains("the signature is over"), "{err}");
    let joined = desk.json(0, &["charter", "sign", "charter.toml", "--signature", "back.txt"]);
    assert_eq!(
        (&joined["complete"], &joined["digest"]),
        (&false.into(), &digest.into())
    );
    let whole = desk.json(
        0,
        &["charter", "sign", "charter.v2.charter", "--root", "exclave-root.key"],
    );
    assert_eq!(whole["complete"], true);
    desk.expect(0, &["charter", "publish", "charter.v2.charter"]);
    // A signed file crosses too, and a page of codes asks nobody for anything.
    desk.expect(
        0,
        &[
            "charter",
            "show",
            "charter.v2.charter",
            "--parts",
            "text",
            "--parts-out",
            "v2.txt",
        ],
    );
    let verified = desk.json(0, &["charter", "verify", "v2.txt"]);
    assert_eq!(verified["complete"], true);
    desk.expect(
        0,
        &[
            "charter",
            "show",
            "charter.v2.charter",
            "--parts",
            "page",
            "--parts-out",
            "v2.html",
        ],
    );
    let page = fs::read_to_string(desk.path("v2.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("src=") && !page.contains("<script"));
    let (codes, _) = desk.expect(0, &["charter", "show", "charter.v2.charter", "--parts", "terminal"]);
    assert!(codes.contains("part 1 of ") && codes.lines().all(|line| line.chars().count() <= 100));
}
