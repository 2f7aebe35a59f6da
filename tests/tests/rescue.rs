//! The independent decoder, written from FORMAT.md alone, restores what the Rust engine wrote.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use exclave_model::ReadBack;
use exclave_tests::{
    tree,
    world::{PASSPHRASE, Whatever, World, WorldPlan},
};

/// The project's Python environment, which `tools/python-env` sets up.
fn python() -> Result<(PathBuf, PathBuf), Whatever> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("the package lies in the project")?;
    let python = root.join(".venv/bin/python");
    if !python.exists() {
        return Err("no Python environment: run tools/python-env".into());
    }
    Ok((python, root.join("tools/rescue.py")))
}

fn rescue(world: &World, folders: &[PathBuf], to: &Path) -> Result<std::process::Output, Whatever> {
    let (python, script) = python()?;
    let key = world.folder().join("recovery.key");
    world.write_identity(&key)?;
    let mut command = Command::new(python);
    command
        .arg(script)
        .arg("restore")
        .arg("--identity")
        .arg(key)
        .arg("--to")
        .arg(to);
    for folder in folders {
        command.arg("--site").arg(folder);
    }
    Ok(command.env("EXCLAVE_PASSPHRASE", PASSPHRASE).output()?)
}

#[test]
fn a_stranger_with_the_format_restores_from_any_k_sites() -> Result<(), Whatever> {
    let world = World::found(WorldPlan {
        read_back: ReadBack::Group,
        ..WorldPlan::new(2, 2)
    })?;
    world.replicate()??;
    tree::plant(&world.source, 2)?;
    world.clock.advance(100);
    world.replicate()??;
    let folders = world.export(&world.folder().join("sites"))?;
    for lost in [[0, 1], [1, 3]] {
        let kept: Vec<_> = folders
            .iter()
            .enumerate()
            .filter(|(at, _)| !lost.contains(at))
            .map(|(_, folder)| folder.clone())
            .collect();
        let to = world.folder().join(format!("restored-{}", lost[0]));
        let output = rescue(&world, &kept, &to)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "without sites {lost:?}: {said}");
        assert_eq!(
            tree::describe(&to)?,
            tree::describe(&world.source)?,
            "without sites {lost:?}"
        );
    }
    Ok(())
}
