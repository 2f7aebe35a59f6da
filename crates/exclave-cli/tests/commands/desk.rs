//! A user's desk: a folder with three sites, and the built program run in it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// A folder of its own, with three sites in it and nothing of the caller's environment.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for site in ["a", "b", "c"] {
            fs::create_dir(folder.path().join(site)).unwrap();
        }
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn site(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exclave"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TZ", "UTC")
            .env("EXCLAVE_PASSPHRASE", "correct horse")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs, checks the exit code, returns standard output and standard error.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        (out, err)
    }

    pub fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let (out, _) = self.expect(code, &[&["--json"], arguments].concat());
        serde_json::from_str(&out).unwrap()
    }

    pub fn json_lines(&self, code: i32, arguments: &[&str]) -> Vec<Value> {
        let (out, _) = self.expect(code, &[&["--json"], arguments].concat());
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The first two lines of the first page.
    pub fn found(&self) {
        self.expect(0, &["key", "generate", "--out", "recovery.key"]);
        let [a, b, c] = ["a", "b", "c"].map(|name| self.site(name));
        let sites = ["--site", &a, "--site", &b, "--site", &c];
        self.expect(0, &[&["init", "--recovery", "recovery.key"][..], &sites].concat());
    }

    pub fn tree(&self) -> PathBuf {
        let root = self.path("land-register");
        fs::create_dir_all(root.join("maps/north")).unwrap();
        fs::write(root.join("owners.csv"), "1;Anna\n2;Juri\n").unwrap();
        fs::write(root.join("empty"), "").unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        fs::write(root.join("maps/north/1.tif"), bytes).unwrap();
        symlink("owners.csv", root.join("link")).unwrap();
        root
    }
}

pub fn same_trees(left: &Path, right: &Path) {
    let output = Command::new("diff")
        .arg("-r")
        .arg("--no-dereference")
        .args([left, right])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Raw bytes of the one stream of a dataset's newest snapshot.
pub fn raw(desk: &Desk, dataset: &str) -> Vec<u8> {
    let output = desk.run(&[
        "restore",
        "--to",
        "-",
        "--format",
        "raw",
        "--identity",
        "recovery.key",
        "--dataset",
        dataset,
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
