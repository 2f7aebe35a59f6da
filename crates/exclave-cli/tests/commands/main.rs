//! The built program against directories: help, exit codes, key files, settings, the first page from end to end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use self::desk::{Desk, mode, same_trees};

mod adopts;
mod charters;
mod collects;
mod desk;
mod directories;
mod kits;
mod parts;
mod provisional;
mod repairs;
mod restores;
mod shares;
mod streams;
mod tenants;
mod unprivileged;

#[test]
fn the_first_help_fits_a_screen_and_ends_in_an_example() {
    let desk = Desk::new();
    let (help, _) = desk.expect(0, &["-h"]);
    assert!(help.lines().count() <= 51, "{} lines", help.lines().count());
    assert!(help.lines().all(|line| line.chars().count() <= 100));
    let example = help.split("Example: ").nth(1).unwrap();
    for verb in ["key generate", "init", "replicate", "restore"] {
        assert!(example.contains(&format!("exclave {verb}")), "{verb}");
    }
    assert!(desk.expect(0, &["--version"]).0.starts_with("exclave 0."));
    for command in [
        "key",
        "init",
        "site",
        "plan",
        "replicate",
        "snapshots",
        "restore",
        "shard",
        "man",
    ] {
        let (help, _) = desk.expect(0, &[command, "-h"]);
        assert!(help.contains("Usage: exclave "), "{command}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_exit_2() {
    let desk = Desk::new();
    let (_, err) = desk.expect(2, &["replicat"]);
    assert!(err.contains("replicate"), "{err}");
    desk.expect(2, &["init"]);
    desk.expect(2, &["restore", "--identity", "x"]);
    let (_, err) = desk.expect(2, &["replicate"]);
    assert!(err.starts_with("Error: nothing to replicate\nHint: "), "{err}");
    let (_, err) = desk.expect(2, &["replicate", "a"]);
    assert!(
        err.contains("Error: no archive is known\nHint: run `exclave init` first"),
        "{err}"
    );
    let (_, err) = desk.expect(2, &["site", "list"]);
    assert!(err.contains("no site is known"), "{err}");
}

#[test]
fn unknown_settings_are_refused_with_a_suggestion() {
    let desk = Desk::new();
    fs::write(desk.path("exclave.toml"), "[every_site]\nsilense_max = \"90s\"\n").unwrap();
    let (out, err) = desk.expect(2, &["site", "list"]);
    assert_eq!(out, "");
    assert_eq!(
        err,
        "Error: exclave.toml:2: unknown key `every_site.silense_max`\nHint: did you mean `silence_max`?\n"
    );
    let other = desk.path("other.toml");
    fs::write(
        &other,
        format!("[[site]]\nname = \"one\"\naddress = \"{}\"\n", desk.site("a")),
    )
    .unwrap();
    let listed = desk.json_lines(0, &["--config", "other.toml", "site", "list"]);
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &Value::from("one")));
    let output = desk
        .command(&["--json", "site", "list"])
        .env("EXCLAVE_CONFIG", &other)
        .output()
        .unwrap();
    assert!(output.status.success());
    let (_, err) = desk.expect(2, &["--config", "absent.toml", "site", "list"]);
    assert!(err.contains("absent.toml can't be read"), "{err}");
    let (reference, _) = desk.expect(0, &["man", "--settings"]);
    assert!(reference.contains("silence_max = \"30s\""));
}

#[test]
fn keys_are_private_and_never_written_over() {
    let desk = Desk::new();
    let key = desk.path("recovery.key");
    let shown = desk.json(
        0,
        &["key", "generate", "--out", "recovery.key", "--public", "recovery.pub"],
    );
    assert_eq!(shown["kind"], "recovery");
    assert_eq!(shown["recipient"].as_str().unwrap().len(), 64);
    assert_eq!(mode(&key), 0o600);
    let text = fs::read_to_string(&key).unwrap();
    assert!(text.contains("argon2id") && !text.contains("secret ="));
    let before = text.clone();
    let (_, err) = desk.expect(2, &["key", "generate", "--out", "recovery.key"]);
    assert!(err.contains("is there already") && err.contains("Hint: "), "{err}");
    assert_eq!(fs::read_to_string(&key).unwrap(), before);

    assert_eq!(
        desk.json(0, &["key", "show", "recovery.key"])["recipient"],
        shown["recipient"]
    );
    assert_eq!(
        desk.json(0, &["key", "show", "recovery.pub"])["holds"],
        "public half only"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let (_, err) = desk.expect(2, &["key", "show", "recovery.key"]);
    assert!(
        err.contains("is open to others (mode 0640)\nHint: chmod 600 recovery.key"),
        "{err}"
    );
}

#[test]
fn a_passphrase_is_asked_for_or_given_never_assumed() {
    let desk = Desk::new();
    fs::write(desk.path("phrase"), "from a file\n").unwrap();
    fs::set_permissions(desk.path("phrase"), fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["key", "generate", "--out", "k", "--passphrase-file", "phrase"];
    let (_, err) = desk.expect(2, &arguments);
    assert!(err.contains("passphrase file phrase is open to others"), "{err}");
    assert!(!desk.path("k").exists());
    fs::set_permissions(desk.path("phrase"), fs::Permissions::from_mode(0o600)).unwrap();
    desk.expect(0, &arguments);
}

#[test]
fn the_first_page_from_end_to_end() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    for (file, wanted) in [
        ("exclave-root.key", 0o600),
        ("exclave-state", 0o700),
        ("exclave.toml", 0o600),
    ] {
        assert_eq!(mode(&desk.path(file)), wanted, "{file}");
    }
    let (out, err) = desk.expect(0, &["replicate", "land-register"]);
    assert!(out.starts_with("land-register: 3 files, 2.9 MiB; "), "{out}");
    assert!(out.contains("Committed at 3 of 3 sites as snapshot "), "{out}");
    assert_eq!(err, "");

    // One site is lost, and so are configuration and state.
    for lost in ["c", "exclave-state", "exclave.toml", "exclave-root.key"] {
        fs::rename(desk.path(lost), desk.path(&format!("lost-{lost}"))).unwrap();
    }
    let (a, b) = (desk.site("a"), desk.site("b"));
    let from = ["--identity", "recovery.key", "--site", &a, "--site", &b];
    let (out, _) = desk.expect(0, &[&["restore", "--to", "./restored"][..], &from].concat());
    assert!(
        out.starts_with("Restored 3 files, 2.9 MiB of land-register to ./restored\n"),
        "{out}"
    );
    same_trees(&tree, &desk.path("restored"));

    let (_, err) = desk.expect(2, &[&["restore", "--to", "./restored"][..], &from].concat());
    assert!(err.contains("Caused by: the target is not empty"), "{err}");
    let report = desk.json(0, &[&["restore", "--to", "part", "maps"][..], &from].concat());
    assert_eq!((&report["outcome"], &report["files"]), (&"complete".into(), &1.into()));
    assert_eq!(report["bytes"], 3_000_000);
    assert!(desk.path("part/maps/north/1.tif").exists() && !desk.path("part/owners.csv").exists());

    let raw = desk.run(&[&["restore", "--to", "-", "--format", "raw", "owners.csv"][..], &from].concat());
    assert_eq!(raw.stdout, b"1;Anna\n2;Juri\n");
    let tar = desk.run(&[&["restore", "--to", "-"][..], &from].concat());
    assert_eq!(tar.stdout.get(257..262), Some(&b"ustar"[..]));
}

#[test]
fn snapshots_are_listed_with_the_same_facts_in_both_forms() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    let first = desk.json(0, &["replicate", "land-register", "--label", "restricted"]);
    let first = &first["snapshots"][0];
    assert_eq!(
        (&first["outcome"], &first["files"], &first["head_sites"]),
        (&"committed".into(), &3.into(), &3.into())
    );
    fs::write(tree.join("new"), "x").unwrap();
    let second = desk.json(0, &["replicate", "land-register", "--label", "restricted"]);
    assert_eq!(second["snapshots"][0]["files"], 4);

    let identity = ["--identity", "recovery.key"];
    let listed = desk.json_lines(0, &[&["snapshots"][..], &identity].concat());
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1]["snapshot"], first["head"]);
    assert_eq!(
        (&listed[0]["label"], &listed[0]["freshness"]),
        (&"restricted".into(), &"F2".into())
    );
    assert!(listed[0]["finished"].as_str().unwrap().ends_with('Z'));
    let (text, _) = desk.expect(0, &[&["snapshots"][..], &identity].concat());
    assert!(text.starts_with("SNAPSHOT  COMPLETE "), "{text}");
    assert!(text.contains(&first["head"].as_str().unwrap()[..8]) && text.contains(" UTC  land-register  restricted"));

    fn reads<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
        [arguments, &["--identity", "recovery.key"]].concat()
    }
    let names = |lines: &[Value]| {
        lines
            .iter()
            .map(|line| line["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&desk.json_lines(0, &reads(&["ls"]))),
        ["empty", "link", "maps", "new", "owners.csv"]
    );
    let below = desk.json_lines(0, &reads(&["ls", "-r", "./maps/"]));
    assert_eq!(names(&below), ["maps", "maps/north", "maps/north/1.tif"]);
    assert_eq!(
        (&below[2]["size"], &below[2]["type"]),
        (&3_000_000.into(), &"file".into())
    );
    assert!(
        desk.expect(1, &reads(&["ls", "nowhere"]))
            .1
            .contains("nowhere is not in the snapshot")
    );
    assert_eq!(
        names(&desk.json_lines(0, &reads(&["find", "*.tif"]))),
        ["maps/north/1.tif"]
    );
    let (changed, _) = desk.expect(0, &reads(&["diff"]));
    assert_eq!(changed, "m .\n+ new\n");
    assert!(desk.expect(0, &reads(&["ls"])).0.contains(" link -> owners.csv\n"));

    let older = first["head"].as_str().unwrap();
    let restore = ["restore", "--to", "old", "--snapshot", &older[..12]];
    assert_eq!(desk.json(0, &[&restore[..], &identity].concat())["files"], 3);
    assert!(!desk.path("old/new").exists());
}

#[test]
fn too_few_sites_are_stale_then_unrecoverable_never_wrong() {
    let desk = Desk::new();
    desk.tree();
    desk.found();
    desk.expect(0, &["replicate", "land-register"]);
    let a = desk.site("a");
    let from = ["restore", "--to", "x", "--identity", "recovery.key", "--site", &a];
    let (_, err) = desk.expect(6, &from);
    assert!(err.contains("1 of the 2 sites that must answer did\nHint: "), "{err}");
    assert!(!desk.path("x").exists());
    let output = desk.run(&[&from[..], &["--accept-stale"]].concat());
    assert_eq!(
        output.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!desk.path("x/owners.csv").exists());
}

#[test]
fn a_wrong_passphrase_and_a_strangers_key_are_refused() {
    let desk = Desk::new();
    desk.tree();
    desk.found();
    desk.expect(0, &["replicate", "land-register"]);
    let wrong = desk
        .command(&["restore", "--to", "x", "--identity", "recovery.key"])
        .env("EXCLAVE_PASSPHRASE", "wrong")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("the passphrase does not open the key"));
    desk.expect(0, &["key", "generate", "--out", "stranger.key"]);
    let (_, err) = desk.expect(5, &["restore", "--to", "x", "--identity", "stranger.key"]);
    assert!(err.contains("none of 1 snapshot can be opened"), "{err}");
}

#[test]
fn init_refuses_before_it_writes() {
    let desk = Desk::new();
    desk.expect(0, &["key", "generate", "--out", "recovery.key"]);
    let [a, b] = ["a", "b"].map(|name| desk.site(name));
    let init = |more: &[&str]| {
        [
            &["init", "--recovery", "recovery.key", "--site", &a, "--site", &b][..],
            more,
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
    };
    let refused = |code: i32, more: &[&str]| {
        let arguments = init(more);
        desk.expect(code, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
            .1
    };
    fs::create_dir(desk.path("state")).unwrap();
    let err = refused(2, &["--state-dir", "state", "--root", "state/root.key"]);
    assert!(err.contains("would lie in the agent's state directory"), "{err}");
    let err = refused(2, &["--code", "4+2"]);
    assert!(
        err.contains("6 sites are needed, one for each shard, and 2 are eligible"),
        "{err}"
    );
    let err = refused(2, &["--recovery", "recovery.key"]);
    assert!(err.contains("holds a key that was given before"), "{err}");
    let gone = desk.site("gone");
    let err = refused(1, &["--site", &gone]);
    assert!(err.contains("gone is not there: mount it"), "{err}");
    std::os::unix::fs::symlink(desk.path("a"), desk.path("again")).unwrap();
    for twice in [desk.site("again"), format!("c={}/.", desk.site("a"))] {
        let err = refused(2, &["--site", &twice]);
        assert!(err.contains(" are one directory\nHint: "), "{err}");
    }
    let dry = init(&["--dry-run"]);
    let (out, _) = desk.expect(0, &dry.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(out.contains("1+1: any 1 of the 2 sites restore."), "{out}");
    for file in ["exclave.toml", "exclave-root.key", "exclave-state", "state/writer.key"] {
        assert!(!desk.path(file).exists(), "{file}");
    }
}

#[test]
fn what_init_read_of_a_site_the_next_commands_know() {
    let desk = Desk::new();
    desk.tree();
    desk.expect(0, &["key", "generate", "--out", "recovery.key"]);
    let [a, b, c] = ["a", "b", "c"].map(|name| desk.site(name));
    let entry = format!("[\"{b}\"]\ndurability = \"each\"\nsilence_max = \"90s\"\n");
    fs::write(desk.path("credentials.toml"), &entry).unwrap();
    fs::set_permissions(desk.path("credentials.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let init = [
        "init",
        "--recovery",
        "recovery.key",
        "--credentials",
        "credentials.toml",
    ];
    let founded = desk.json(0, &[&init[..], &["--site", &a, "--site", &b, "--site", &c]].concat());
    // Directories need none.
    assert_eq!(founded["credentials"], serde_json::json!([]));
    let written = fs::read_to_string(desk.path("exclave.toml")).unwrap();
    assert!(written.contains("\ncredentials = \"credentials.toml\"\n"), "{written}");
    let site = format!("\n[[site]]\nname = \"b\"\naddress = \"{b}\"\nsilence_max = \"90s\"\ndurability = \"each\"\n");
    assert!(written.contains(&site), "{written}");
    assert_eq!(written.matches("durability").count(), 1);
    desk.expect(0, &["replicate", "land-register"]);

    // Over a configuration that is there the key is written, once; the sites stay as they are.
    let other = desk.path("other");
    fs::create_dir(&other).unwrap();
    let sites = format!("[[site]]\naddress = \"{a}/x\"\n[[site]]\naddress = \"{b}/x\"\n");
    for site in [&a, &b] {
        fs::create_dir(Path::new(site.strip_prefix("file://").unwrap()).join("x")).unwrap();
    }
    fs::write(other.join("exclave.toml"), &sites).unwrap();
    desk.expect(0, &["key", "generate", "--out", "other.key"]);
    let init = ["--config", "other/exclave.toml", "init", "--recovery", "other.key"];
    let more = ["--root", "other.root", "--credentials", "credentials.toml"];
    desk.expect(0, &[&init[..], &more].concat());
    let written = fs::read_to_string(other.join("exclave.toml")).unwrap();
    let named = format!("\ncredentials = \"{}\"\n", desk.path("credentials.toml").display());
    assert!(written.contains(&named) && written.ends_with(&sites), "{written}");
    let listed = desk.json_lines(0, &["--config", "other/exclave.toml", "site", "list"]);
    assert_eq!(listed[0]["credentials"], "-");
}

#[test]
fn plan_says_what_is_survived_and_what_is_shared() {
    let desk = Desk::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| desk.site(name));
    let plan = desk.json(3, &["plan", "--site", &a, "--site", &b, "--site", &c]);
    assert_eq!(
        (&plan["code"], &plan["heads"], &plan["answers"]),
        (&"2+1".into(), &2.into(), &2.into())
    );
    assert_eq!(plan["sites"].as_array().unwrap().len(), 3);
    let text = "[every_site]\ncountry = \"LU\"\n[[site]]\naddress = \"s3://one\"\n[[site]]\naddress = \"s3://two\"\n\
                [[site]]\naddress = \"s3://three\"\ncountry = \"EE\"\n";
    fs::write(desk.path("exclave.toml"), text).unwrap();
    let (text, _) = desk.expect(3, &["plan"]);
    assert!(text.contains("2+1: any 2 of the 3 sites restore."), "{text}");
    assert!(text.contains("Warning: one, two share country LU: losing it leaves 1 of the 2 shards that restore"));
}

#[test]
fn sites_are_checked_without_an_archive() {
    let desk = Desk::new();
    let (a, gone) = (desk.site("a"), desk.site("gone"));
    let checked = desk.json_lines(0, &["site", "check", &a]);
    assert_eq!(
        (&checked[0]["name"], &checked[0]["verdict"]),
        (&"a".into(), &"usable".into())
    );
    assert_eq!(
        checked[0]["fit_for"],
        serde_json::json!(["shards", "heads", "sampled audits"])
    );
    let checked = desk.json_lines(3, &["site", "check", &a, &gone]);
    assert_eq!(checked[1]["verdict"], "unreachable");
    let (text, _) = desk.expect(3, &["site", "check", &a, &gone]);
    assert!(text.starts_with("SITE  VERDICT "), "{text}");
    // A directory has neither; the site that is gone isn't asked.
    assert_eq!(
        text.matches("\n  older versions: not kept; object lock: none\n")
            .count(),
        1,
        "{text}"
    );
    assert!(
        text.contains("can too, and nothing is kept of what was there\n"),
        "{text}"
    );
    assert_eq!(
        (
            &checked[0]["probe"]["versioning"]["value"],
            &checked[0]["probe"]["object_lock"]["value"]
        ),
        (&"off".into(), &"none".into())
    );
}

#[test]
fn a_check_is_remembered_and_a_damaged_memory_is_no_obstacle() {
    let desk = Desk::new();
    desk.tree();
    desk.found();
    let probes = desk.path("exclave-state/probes");
    let listed = |site: usize| desk.json_lines(0, &["site", "list"])[site]["probed"].clone();
    assert_eq!((probes.exists(), listed(0)), (false, Value::Null));
    desk.expect(0, &["site", "check", "--keep", "a", "b"]);
    assert_eq!((mode(&probes), walk(&probes).len()), (0o700, 2));
    assert_eq!(
        (&listed(0)["create_only"], &listed(0)["address"], listed(2)),
        (&"honoured".into(), &desk.site("a").into(), Value::Null)
    );
    desk.expect(0, &["replicate", "land-register"]);

    for memory in walk(&probes) {
        assert_eq!(mode(&memory), 0o600);
        fs::write(&memory, "create_only = \"honoured\"").unwrap();
    }
    let (_, err) = desk.expect(0, &["replicate", "land-register"]);
    assert_eq!(err.matches("Warning: the memory of a site check ").count(), 2, "{err}");
    assert!(err.contains(" is of no use: ") && !err.contains("Error"), "{err}");
    desk.expect(0, &["site", "check", "a", "b", "c"]);
    assert_eq!(desk.expect(0, &["replicate", "land-register"]).1, "");
}

#[test]
fn a_shard_is_inspected_without_keys() {
    let desk = Desk::new();
    desk.tree();
    desk.found();
    desk.expect(0, &["replicate", "land-register"]);
    let shards = walk(&desk.path("a"))
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("/shards/"));
    // The longest one: it has several groups.
    let shard = shards.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let shard = shard.to_str().unwrap();
    let inspected = desk.json(0, &["shard", "inspect", shard]);
    assert_eq!(
        (&inspected["data_shards"], &inspected["damaged_groups"]),
        (&2.into(), &serde_json::json!([]))
    );
    assert_eq!(inspected["payload_hash"], inspected["trailer_hash"]);
    let payload = desk.run(&["shard", "payload", shard]).stdout;
    assert_eq!(payload.len() as u64, inspected["payload_bytes"].as_u64().unwrap());

    let mut bytes = fs::read(shard).unwrap();
    bytes[152 + 70_000] ^= 1;
    fs::write(desk.path("damaged"), &bytes).unwrap();
    let inspected = desk.json(3, &["shard", "inspect", "damaged"]);
    assert_eq!(inspected["damaged_groups"], serde_json::json!([1]));
    fs::write(desk.path("short"), &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(desk.json(3, &["shard", "inspect", "short"])["length_is_right"], false);
    fs::write(desk.path("other"), "no shard").unwrap();
    let (_, err) = desk.expect(1, &["shard", "inspect", "other"]);
    assert!(err.starts_with("Error: other is no shard object\nCaused by: "), "{err}");
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

#[test]
fn datasets_of_the_configuration_and_standard_input() {
    let desk = Desk::new();
    desk.tree();
    desk.found();
    let mut text = fs::read_to_string(desk.path("exclave.toml")).unwrap();
    text.push_str("\n[[dataset]]\nname = \"dump\"\ncommand = [\"sh\", \"-c\", \"env | cut -d= -f1 | sort\"]\n");
    text.push_str("\n[[dataset]]\nname = \"land\"\npath = \"land-register\"\nexclude = [\"*.tif\"]\n");
    fs::write(desk.path("exclave.toml"), text).unwrap();
    let done = desk
        .command(&["--json", "replicate"])
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&done["snapshots"][1]["files"], &done["snapshots"][1]["excluded"]),
        (&2.into(), &1.into())
    );
    let raw = [
        "restore",
        "--to",
        "-",
        "--format",
        "raw",
        "--identity",
        "recovery.key",
        "--dataset",
    ];
    let dump = desk.run(&[&raw[..], &["dump"]].concat()).stdout;
    let dump = String::from_utf8(dump).unwrap();
    assert!(dump.contains("PATH") && !dump.contains("EXCLAVE"), "{dump}");

    let mut child = desk
        .command(&["replicate", "--stdin", "--name", "piped"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"from a pipe").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(desk.run(&[&raw[..], &["piped"]].concat()).stdout, b"from a pipe");
    assert_eq!(desk.json(0, &["catalog", "show"])["owed"], serde_json::json!([]));
    fs::remove_file(desk.path("exclave-state/catalog.sqlite")).unwrap();
    let rebuilt = desk.json(0, &["catalog", "rebuild", "--identity", "recovery.key"]);
    let chunks = rebuilt["datasets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dataset| dataset["chunks"].as_u64().unwrap());
    assert!(chunks.min() > Some(0), "{rebuilt}");
    let (_, err) = desk.expect(2, &raw[..raw.len() - 1]);
    assert!(
        err.contains("Hint: name the dataset: --dataset NAME; there are dump, land, piped"),
        "{err}"
    );

    let would = desk.json(0, &["replicate", "--dry-run", "land-register", "--exclude", "maps"]);
    assert_eq!(
        (
            &would["would_replicate"][0]["files"],
            &would["would_replicate"][0]["excluded"]
        ),
        (&2.into(), &1.into())
    );
}

#[test]
fn a_damaged_catalog_is_kept_under_another_name_and_a_new_one_filled() {
    let desk = Desk::new();
    desk.tree();
    desk.found();
    desk.expect(0, &["replicate", "land-register"]);
    let catalog = desk.path("exclave-state/catalog.sqlite");
    for number in 1..=2 {
        let mut bytes = fs::read(&catalog).unwrap();
        let half = bytes.len() / 2;
        bytes.truncate(half);
        bytes[100 * number..].fill(0xEE);
        fs::write(&catalog, &bytes).unwrap();
        let (_, err) = desk.expect(1, &["replicate", "land-register"]);
        assert!(err.contains("`exclave catalog rebuild --anew` moves it aside"), "{err}");
        let rebuilt = desk.json(0, &["catalog", "rebuild", "--identity", "recovery.key"]);
        let kept = desk.path(&format!("exclave-state/catalog.sqlite.old-{number}"));
        let told = desk.path(rebuilt["old_kept_as"].as_str().unwrap());
        assert_eq!(told, kept, "{rebuilt}");
        assert_eq!(fs::read(&kept).unwrap(), bytes);
        assert!(rebuilt["datasets"][0]["chunks"].as_u64().unwrap() > 0);
        let again = desk.json(0, &["replicate", "land-register"]);
        assert!(
            again["snapshots"][0]["bytes_new"].as_u64().unwrap() < 100_000,
            "{again}"
        );
    }
    let sound = desk.json(0, &["catalog", "rebuild", "--identity", "recovery.key"]);
    assert_eq!(sound["old_kept_as"], Value::Null);
    let anew = desk.json(0, &["catalog", "rebuild", "--anew", "--identity", "recovery.key"]);
    assert!(anew["old_kept_as"].as_str().unwrap().ends_with(".old-3"));
}

#[test]
fn manual_and_completions_are_generated() {
    let desk = Desk::new();
    assert!(desk.expect(0, &["man"]).0.contains(".TH exclave 1"));
    desk.expect(0, &["man", "pages"]);
    assert!(desk.path("pages/exclave-restore.1").exists());
    for shell in ["bash", "zsh", "fish"] {
        assert!(desk.expect(0, &["completions", shell]).0.contains("exclave"), "{shell}");
    }
}
