//! `exclave kit make`: gathers a kit in a folder. Nothing goes to any site.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context as Hash, SHA256};
use clap::Args;
use exclave_engine::{archive::history_objects, kit};
use exclave_model::{
    Anchor, CharterFile, FileHash, FileKind, Kit, KitFile, Record as _, Version1, hex,
    kit::{CHARTERS_FILE, KIT_PIECE_BYTES, KIT_PIECES_MAX, LOGINS_FILE, SITES_FILE, recipients},
};
use exclave_seal::seal_logins;

use super::{
    logins::{self, Wishes},
    page::Page,
    program,
};
use crate::{
    arguments::SiteArguments,
    command::{
        World,
        charter::{Public, open_public},
    },
    credentials,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    kit::{DRAFT, KitFolder, sites_text},
    surroundings::OsEntropy,
};

/// Sums that any machine can check: `sha256sum -c sha256sums`.
const SUMS: &str = "sha256sums";

/// What travels in every kit, as this program was built with it.
pub(super) const TEXTS: [(&str, &str); 5] = [
    ("format.md", include_str!("../../../../../FORMAT.md")),
    ("recovery.md", include_str!("../../../../../docs/runbooks/recovery.md")),
    (
        "requirements.txt",
        include_str!("../../../../../tools/requirements.txt"),
    ),
    ("rescue.py", include_str!("../../../../../tools/rescue.py")),
    (
        "restore-by-hand.md",
        include_str!("../../../../../docs/runbooks/restore-by-hand.md"),
    ),
];

/// `kit make`.
#[derive(Debug, Args)]
#[command(after_help = "\
The kit is a folder of its own. Compare what `exclave kit show` says of it, sign it with as many roots as a charter takes
(`exclave kit sign`), then put it at the sites (`exclave kit publish`). Its credentials open with any recovery identity of
the newest charter, or with custodians' shares of one; they should be able to read and not to write.")]
pub struct Make {
    /// Make the kit in this directory, which must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Put this program into it instead of the running one: a static build; repeat with NAME= for other machines
    #[arg(long, value_name = "[NAME=]FILE")]
    binary: Vec<String>,
    /// Read the credentials that can only read from FILE (by URL, mode 0600) instead of that of the configuration
    #[arg(long, value_name = "FILE")]
    read_credentials: Option<PathBuf>,
    /// Accept that the kit's credentials for SITE can write; may be repeated
    #[arg(long, value_name = "SITE")]
    accept_writing: Vec<String>,
    /// Make the kit without credentials for SITE; may be repeated
    #[arg(long, value_name = "SITE")]
    without_credentials: Vec<String>,
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

pub fn make(arguments: &Make, world: &mut World) -> Result<Exit, Trouble> {
    is_free(&arguments.out)?;
    let binaries = program::named(&arguments.binary)?;
    let config = world.config()?;
    let public = open_public(&arguments.sites, arguments.archive, world)?;
    public.refuse_doubtful()?;
    let Public {
        archive, chosen, edge, ..
    } = public;
    let mut sites = chosen;
    for (site, handle) in sites.iter_mut().zip(&archive.sites) {
        // In the kit a site bears its name in the charter.
        site.name.clone_from(&handle.name);
    }
    for site in archive
        .charter()
        .sites
        .iter()
        .filter(|site| sites.iter().all(|known| known.name != site.name))
    {
        world.output.note(format!(
            "Warning: the charter's site {} is not in the kit: its address is not known here",
            site.name
        ));
    }
    let read = arguments.read_credentials.as_ref().or(config.read_credentials.as_ref());
    let wishes = Wishes {
        read: read
            .map(|file| credentials::by_address(file))
            .transpose()?
            .unwrap_or_default(),
        shown: read.map_or_else(String::new, |file| file.display().to_string()),
        accept_writing: &arguments.accept_writing,
        without: &arguments.without_credentials,
    };
    let logins = logins::choose(&sites, &wishes, &world.environment)?;
    let history = edge
        .block_on(history_objects(&archive))
        .ok_or_else(|| Trouble::failed("the sites gave the charter and then did not"))?;
    let kits = edge.block_on(kit::find(&archive));
    for trouble in &kits.troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    let version = kits.found.last().map_or(0, |found| found.kit.version).saturating_add(1);
    let charters = CharterFile {
        charters: history,
        plates: Vec::new(),
    };
    let people = recipients(archive.charter());
    let failed = || Trouble::failed("the credentials can't be sealed");
    let sealed = seal_logins(archive.anchor, version, &logins.text, &people, &mut OsEntropy).because(failed)?;
    let mut folder = Folder::new(&arguments.out)?;
    folder.add(CHARTERS_FILE, &charters.to_bytes())?;
    folder.add(LOGINS_FILE, &sealed.to_bytes().because(failed)?)?;
    folder.add(SITES_FILE, sites_text(archive.anchor, &sites)?.as_bytes())?;
    for (name, text) in TEXTS {
        folder.add(name, text.as_bytes())?;
    }
    for (name, path) in &binaries {
        folder.copy(name, path)?;
        if let Some(loader) = program::loader(path) {
            world.output.note(format!(
                "Warning: {} runs only where {} is, and libraries like this machine's; tools/static-build makes one that needs neither",
                path.display(),
                format::plain(&loader)
            ));
        }
    }
    folder.add_sums()?;
    let kit = Kit {
        format: Version1,
        anchor: archive.anchor,
        version,
        charter_version: archive.charter().version,
        charter: archive.charters.newest_hash(),
        created: edge.surroundings.clock.now_unix_seconds(),
        program: program::version(&arguments.binary, &binaries),
        sites: logins.sites,
        files: folder.files,
    };
    let record = kit
        .to_bytes()
        .because(|| Trouble::failed("the kit can't be written down"))?;
    write_new(&arguments.out.join(DRAFT), &record, 0o644)?;
    // Read as whoever gets it will read it.
    let page = Page::of(&KitFolder::read(&arguments.out, Some(archive.anchor))?)?;
    world.output.report(&page)?;
    world.output.note(format!(
        "Compare it, then let roots sign it: exclave kit sign {} --root KEY",
        arguments.out.display()
    ));
    Ok(Exit::Done)
}

fn is_free(out: &Path) -> Result<(), Trouble> {
    let entries = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => out.symlink_metadata().is_ok(),
    };
    match entries {
        true => Err(
            Trouble::usage(format!("{} is there already, and not empty", out.display()))
                .hint("each kit has a folder of its own: name another one"),
        ),
        false => Ok(()),
    }
}

/// A kit that is being made.
struct Folder {
    path: PathBuf,
    files: Vec<KitFile>,
    sums: String,
}

impl Folder {
    fn new(path: &Path) -> Result<Self, Trouble> {
        fs::create_dir_all(path).because(|| Trouble::failed(format!("{} can't be made", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            files: Vec::new(),
            sums: String::new(),
        })
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        self.put(name, FileKind::Plain, &mut &*bytes, Path::new(name))
    }

    fn copy(&mut self, name: &str, from: &Path) -> Result<(), Trouble> {
        let cannot = || Trouble::usage(format!("the program {} can't be read", from.display()));
        let mut file = File::open(from).because(cannot)?;
        if !file.metadata().because(cannot)?.is_file() {
            return Err(Trouble::usage(format!("{} is no file", from.display())));
        }
        self.put(name, FileKind::Program, &mut file, from)
    }

    fn add_sums(&mut self) -> Result<(), Trouble> {
        let sums = std::mem::take(&mut self.sums);
        self.add(SUMS, sums.as_bytes())?;
        self.files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(())
    }

    /// Writes a file piece by piece, and takes its hashes.
    fn put(&mut self, name: &str, kind: FileKind, from: &mut dyn std::io::Read, source: &Path) -> Result<(), Trouble> {
        let path = self.path.join(name);
        let cannot = || Trouble::failed(format!("{} can't be written", path.display()));
        let mode = if kind == FileKind::Program { 0o755 } else { 0o644 };
        let mut to = create(&path, mode).because(cannot)?;
        let (mut whole, mut sum) = (blake3::Hasher::new(), Hash::new(&SHA256));
        let (mut pieces, mut length) = (Vec::new(), 0u64);
        loop {
            let mut piece = Vec::new();
            let read = std::io::Read::take(&mut *from, KIT_PIECE_BYTES as u64).read_to_end(&mut piece);
            read.because(|| Trouble::failed(format!("{} can't be read", source.display())))?;
            if piece.is_empty() {
                break;
            }
            if pieces.len() == KIT_PIECES_MAX {
                return Err(Trouble::usage(format!(
                    "{} is longer than a kit's file may be",
                    source.display()
                )));
            }
            length += piece.len() as u64;
            whole.update(&piece);
            sum.update(&piece);
            pieces.push(FileHash::of(&piece));
            to.write_all(&piece).because(cannot)?;
        }
        to.sync_all().because(cannot)?;
        if pieces.is_empty() {
            return Err(Trouble::usage(format!("{} is empty", source.display())));
        }
        self.sums.push_str(&format!("{}  {name}\n", hex(sum.finish().as_ref())));
        self.files.push(KitFile {
            name: name.to_owned(),
            kind,
            length,
            hash: FileHash::from_bytes(*whole.finalize().as_bytes()),
            pieces,
        });
        Ok(())
    }
}

fn create(path: &Path, mode: u32) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(mode).open(path)
}

/// Writes a file that wasn't there.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Trouble> {
    let cannot = || Trouble::failed(format!("{} can't be written", path.display()));
    let mut file = create(path, mode).because(cannot)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).because(cannot)
}
