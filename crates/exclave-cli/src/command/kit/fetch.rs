//! `exclave kit fetch`: a kit from the sites into a folder, each piece checked before it is written.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_engine::{
    Archive,
    kit::{FoundKit, fetch_piece, find},
};
use exclave_model::{Anchor, FileKind, Kit, KitFile, kit::MANIFEST};

use super::page::Page;
use crate::{
    arguments::SiteArguments,
    command::{
        World,
        charter::{Public, open_public},
    },
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    kit::{self, KitFolder},
    private_file,
    surroundings::Edge,
};

/// `kit fetch`.
#[derive(Debug, Args)]
pub struct Fetch {
    /// Write the kit into this directory; one that was begun is gone on with
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The kit's version, instead of the newest
    #[arg(long, value_name = "NUMBER")]
    version: Option<u32>,
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

pub fn fetch(arguments: &Fetch, world: &mut World) -> Result<Exit, Trouble> {
    let Public { archive, edge, .. } = open_public(&arguments.sites, arguments.archive, world)?;
    let kits = edge.block_on(find(&archive));
    for trouble in &kits.troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    for (site, name, why) in &kits.refused {
        let said = format!("{site}: {name} is no kit to believe: {why}");
        world.output.note(format!("Warning: {}", format::plain(&said)));
    }
    let chosen = kits.choose(arguments.version).map_err(|fork| {
        Trouble::new(Exit::Refused, "no kit was chosen")
            .hint("find out which one the roots meant; --version NUMBER takes another one")
            .source(fork)
    })?;
    let found = chosen.ok_or_else(|| match arguments.version {
        Some(version) => Trouble::failed(format!("no site has kit {version}")),
        None => Trouble::failed("no site has a kit").hint("`exclave kit make`, `sign` and `publish` put one there"),
    })?;
    write(arguments, found, &archive, &edge)?;
    let kit = KitFolder::open(&arguments.to, Some(archive.anchor))?;
    world.output.report(&Page::of(&kit)?)?;
    Ok(Exit::Done)
}

/// The manifest comes last: a folder without one is no kit.
fn write(arguments: &Fetch, found: &FoundKit, archive: &Archive, edge: &Edge) -> Result<(), Trouble> {
    let folder = &arguments.to;
    let cannot = || Trouble::failed(format!("{} can't be made", folder.display()));
    fs::create_dir_all(folder).because(cannot)?;
    for entry in fs::read_dir(folder).because(cannot)? {
        let name = entry.because(cannot)?.file_name().to_string_lossy().into_owned();
        let known = name.strip_suffix(PART).unwrap_or(&name);
        if known != MANIFEST && found.kit.file(known).is_none() {
            return Err(
                Trouble::usage(format!("{} holds other things, such as {name}", folder.display()))
                    .hint("name another directory: a kit has a folder of its own"),
            );
        }
    }
    for file in &found.kit.files {
        if !is_there(folder, file) {
            fetch_file(folder, &found.kit, file, archive, edge)?;
        }
    }
    private_file::replace_public(&folder.join(MANIFEST), found.object.to_bytes(), "kit's manifest")
}

/// What a file is called until it is whole.
const PART: &str = ".part";

fn is_there(folder: &Path, file: &KitFile) -> bool {
    let hash = |at: usize| kit::piece(folder, file, at).map(|bytes| exclave_model::FileHash::of(&bytes));
    let right = |(at, wanted): (usize, &exclave_model::FileHash)| hash(at).is_ok_and(|found| found == *wanted);
    folder.join(&file.name).is_file() && file.pieces.iter().enumerate().all(right)
}

fn fetch_file(folder: &Path, kit: &Kit, file: &KitFile, archive: &Archive, edge: &Edge) -> Result<(), Trouble> {
    let path = folder.join(&file.name);
    let part = folder.join(format!("{}{PART}", file.name));
    let cannot = || Trouble::failed(format!("{} can't be written", part.display()));
    // Left by a fetch that was cut short.
    if part.symlink_metadata().is_ok() {
        fs::remove_file(&part).because(cannot)?;
    }
    let mode = match file.kind {
        FileKind::Program => 0o755,
        FileKind::Plain => 0o644,
    };
    let mut to = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)
        .because(cannot)?;
    for at in 0..file.pieces.len() {
        let piece = edge.block_on(fetch_piece(archive, kit, file, at));
        let piece = piece.map_err(|missing| {
            let said = format::plain(&missing.troubles.join("; "));
            Trouble::new(
                Exit::Unrecoverable,
                format!("kit {} can't be fetched whole: {said}", kit.version),
            )
            .hint("give more of the archive's sites, or take an older kit: --version NUMBER")
            .source(missing)
        })?;
        to.write_all(&piece).because(cannot)?;
    }
    to.sync_all().because(cannot)?;
    fs::rename(&part, &path).because(cannot)
}
