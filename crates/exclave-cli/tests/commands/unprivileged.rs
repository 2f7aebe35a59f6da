//! The program as a user without rights: what it can't read is told, what it can't write is left out in one line.
//!
//! Under root, who may everything, the program is run as nobody; under anybody else as it is.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::desk::Desk;

const NOBODY: &str = "65534";

/// Gives everything on the desk to nobody, the program included.
fn hand_over(desk: &Desk) {
    fs::copy(env!("CARGO_BIN_EXE_exclave"), desk.path("exclave")).unwrap();
    if is_root() {
        run(Command::new("chown")
            .args(["-R", "-h", &format!("{NOBODY}:{NOBODY}")])
            .arg(desk.path("")));
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn as_nobody(desk: &Desk, code: i32, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(if is_root() {
        "setpriv".into()
    } else {
        desk.path("exclave")
    });
    if is_root() {
        command.args([
            &format!("--reuid={NOBODY}"),
            &format!("--regid={NOBODY}"),
            "--clear-groups",
        ]);
        command.args(["--inh-caps=-all".as_ref(), desk.path("exclave").as_os_str()]);
    }
    let output = command
        .args(arguments)
        .current_dir(desk.path(""))
        .env_clear()
        .env("HOME", desk.path(""))
        .env("EXCLAVE_PASSPHRASE", "correct horse")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    (out, err)
}

fn is_root() -> bool {
    let id = run(Command::new("id").arg("-u"));
    id.stdout.starts_with(b"0\n")
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_can_not_be_read_is_named_and_the_rest_goes_on() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    fs::create_dir(tree.join("closed")).unwrap();
    fs::write(tree.join("closed/inside"), "hidden").unwrap();
    fs::write(tree.join("secret"), "hidden").unwrap();
    hand_over(&desk);
    permit(&tree.join("secret"), 0);
    permit(&tree.join("closed"), 0);
    let (out, _) = as_nobody(&desk, 3, &["replicate", "land-register"]);
    assert!(
        out.contains("Skipped: 2 entries")
            && out.contains("  closed can't be read: Permission denied")
            && out.contains("  secret can't be read: "),
        "{out}"
    );
    let (out, _) = as_nobody(
        &desk,
        0,
        &["--json", "restore", "--identity", "recovery.key", "--to", "back"],
    );
    let restored: serde_json::Value = serde_json::from_str(&out).unwrap();
    // owners.csv, empty and the map; the folder that was closed is there, as empty as it looked.
    assert_eq!(restored["files"], 3, "{restored}");
    assert_eq!(
        fs::read(desk.path("back/owners.csv")).unwrap(),
        fs::read(tree.join("owners.csv")).unwrap()
    );
    assert!(!desk.path("back/secret").exists());
}

#[test]
fn owners_are_left_out_in_one_line_and_modes_and_lists_of_access_are_kept() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    permit(&tree.join("owners.csv"), 0o640);
    // user:65533:r-- beside the owner: what `setfacl -m u:65533:r owners.csv` writes (acl(5), version 2).
    let entry =
        |tag: u16, rights: u16, id: u32| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat();
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 6, u32::MAX),
        entry(0x02, 4, 65_533),
        entry(0x04, 4, u32::MAX),
        entry(0x10, 4, u32::MAX),
        entry(0x20, 0, u32::MAX),
    ]
    .concat();
    let kept = xattr::set(tree.join("owners.csv"), "system.posix_acl_access", &list).is_ok();
    let noted = xattr::set(tree.join("owners.csv"), "user.origin", b"land office").is_ok();
    desk.expect(0, &["replicate", tree.to_str().unwrap()]);
    hand_over(&desk);
    let (out, _) = as_nobody(&desk, 0, &["restore", "--identity", "recovery.key", "--to", "back"]);
    assert_eq!(
        out.contains("owners of entries (only root restores them)"),
        is_root(),
        "{out}"
    );
    let back = desk.path("back/owners.csv");
    assert_eq!(fs::metadata(&back).unwrap().permissions().mode() & 0o777, 0o640);
    if kept {
        assert_eq!(xattr::get(&back, "system.posix_acl_access").unwrap(), Some(list));
    }
    if noted {
        assert_eq!(
            xattr::get(&back, "user.origin").unwrap().as_deref(),
            Some(&b"land office"[..])
        );
    }
}

#[test]
fn a_state_directory_that_can_not_be_written_is_named() {
    let desk = Desk::new();
    let tree = desk.tree();
    desk.found();
    hand_over(&desk);
    permit(&desk.path("exclave-state/journal"), 0o500);
    let (_, err) = as_nobody(&desk, 1, &["replicate", tree.to_str().unwrap()]);
    assert!(
        err.contains("cannot create journal") && err.contains("exclave-state/journal"),
        "{err}"
    );
    permit(&desk.path("exclave-state/journal"), 0o700);
    as_nobody(&desk, 0, &["replicate", tree.to_str().unwrap()]);
}
