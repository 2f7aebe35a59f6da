//! What custodians' cards say beside the share: the archive, its sites with their pins, its newest heads, the kit.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context as Hash, SHA256};
use clap::Args;
use exclave_engine::{Clock as _, survey::survey};
use exclave_model::{Anchor, FileKind, hex};
use exclave_site::Site;

use crate::{
    agent::open_archive,
    arguments::SiteArguments,
    card::{Language, Surroundings},
    command::World,
    config::SiteConfig,
    error::{Context as _, Trouble},
    interrupt,
    kit::KitFolder,
    sites,
    surroundings::{Edge, SystemClock},
};

/// What cards are made from.
#[derive(Debug, Args)]
pub struct FactArguments {
    /// The language of the cards; the words of a share are English in each
    #[arg(long, value_enum, default_value_t = Language::En, conflicts_with = "template")]
    pub language: Language,
    /// Use this template for cards, such as one in a language that is not compiled in
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// Write no cards
    #[arg(long, conflicts_with_all = ["template", "kit", "ask_sites"])]
    pub no_cards: bool,
    /// Put FILE's SHA-256 on the cards, beside this program's, or a signed kit's digest and those of its programs; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    pub kit: Vec<PathBuf>,
    /// Ask the sites for the newest heads, and put them on the cards
    #[arg(long)]
    pub ask_sites: bool,
    #[command(flatten)]
    pub sites: SiteArguments,
}

/// Collects it. Sites are those of the command line or the configuration, if there are any; none is asked unless wanted.
pub fn gather(arguments: &FactArguments, archive: Option<Anchor>, world: &World) -> Result<Surroundings, Trouble> {
    let config = world.config()?;
    let archive = archive.or(config.archive);
    if archive.is_none() && !arguments.no_cards {
        return Err(Trouble::usage(
            "nothing says which archive the cards are for: a card without an anchor opens nothing",
        )
        .hint(
            "`init` writes the archive into the identity's file; else --config FILE of the archive, or --no-cards \
                 where it comes later",
        ));
    }
    let known = !arguments.sites.sites.is_empty() || !config.sites.is_empty();
    let chosen = match known {
        true => sites::choose(&arguments.sites.wanted(), &config)?,
        false => Vec::new(),
    };
    let rows = chosen.iter().map(|site| {
        let pins: Vec<String> = site.settings.pin.iter().map(ToString::to_string).collect();
        let pins = if pins.is_empty() {
            "—".to_owned()
        } else {
            pins.join(" ")
        };
        [site.name.clone(), site.address.to_string(), pins]
    });
    let sites = rows.collect();
    let heads = match arguments.ask_sites {
        true => newest_heads(chosen, archive, world)?,
        false => Vec::new(),
    };
    let program = std::env::current_exe().because(|| Trouble::failed("this program's own file is not known"))?;
    let mut kit = Vec::new();
    for file in std::iter::once(&program).chain(&arguments.kit) {
        if file.is_dir() {
            kit.extend(of_kit(&KitFolder::open(file, archive)?)?);
            continue;
        }
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
        kit.push([name.into_owned(), sha256_of(file)?]);
    }
    let today = jiff::Timestamp::from_second(SystemClock.now_unix_seconds())
        .map(|now| jiff::tz::TimeZone::UTC.to_datetime(now).date().to_string());
    Ok(Surroundings {
        archive: archive.map(|anchor| anchor.to_hex()),
        sites,
        kit,
        heads,
        date: today.because(|| Trouble::failed("the clock is out of range"))?,
    })
}

/// A kit's digest, which `exclave kit show` prints, and its programs, which any machine can check.
fn of_kit(folder: &KitFolder) -> Result<Vec<[String; 2]>, Trouble> {
    let digest = [format!("digest of kit {}", folder.kit.version), folder.digest.to_hex()];
    let programs = folder.kit.files.iter().filter(|file| file.kind == FileKind::Program);
    let programs = programs.map(|file| {
        Ok([
            format!("{} in kit {}", file.name, folder.kit.version),
            folder.sha256(file)?,
        ])
    });
    std::iter::once(Ok(digest)).chain(programs).collect()
}

/// The newest heads of each dataset that the sites show. No key is needed for that.
fn newest_heads(chosen: Vec<SiteConfig>, archive: Option<Anchor>, world: &World) -> Result<Vec<[String; 2]>, Trouble> {
    let anchor = archive.ok_or_else(|| {
        Trouble::usage("--ask-sites: nothing says which archive it is")
            .hint("split an identity that `init` was given, or use the archive's exclave.toml")
    })?;
    let open = sites::open_all(chosen, &world.environment)?;
    let edge = Edge::start(None)?;
    interrupt::listen(&edge)?;
    let stores: Vec<(String, Arc<dyn Site>)> = open.into_iter().map(|site| (site.config.name, site.site)).collect();
    let (archive, troubles) = open_archive(anchor, stores, None, &edge)?;
    for trouble in &troubles {
        world
            .output
            .note(format!("Warning: {}", crate::format::plain(&trouble.to_string())));
    }
    let survey =
        survey(&archive, &edge.surroundings).because(|| Trouble::failed(format!("archive {anchor} can't be read")))?;
    let datasets = survey.heads.datasets();
    let newest = datasets.into_iter().flat_map(|dataset| {
        let heads = survey.heads.newest(dataset);
        heads
            .into_iter()
            .map(move |head| [dataset.to_hex(), head.hash.to_hex()])
    });
    Ok(newest.collect())
}

/// The SHA-256 of a file, which any machine can compute.
fn sha256_of(path: &Path) -> Result<String, Trouble> {
    use std::io::Read as _;
    let cannot = || Trouble::usage(format!("{} can't be read", path.display()));
    let mut file = std::fs::File::open(path).because(cannot)?;
    let mut hash = Hash::new(&SHA256);
    let mut block = vec![0; 64 << 10];
    loop {
        match file.read(&mut block).because(cannot)? {
            0 => return Ok(hex(hash.finish().as_ref())),
            read => hash.update(block.get(..read).unwrap_or_default()),
        }
    }
}
