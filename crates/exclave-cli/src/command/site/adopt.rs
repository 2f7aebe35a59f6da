//! `exclave site adopt`: takes a store back under its site, with a root key.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_engine::{AdoptError, Adoption, adopt, plan_adoption};
use exclave_model::Role;
use serde::Serialize;

use super::World;
use crate::{
    agent,
    arguments::PassphraseArguments,
    error::Trouble,
    exit::Exit,
    format, keys,
    output::Report,
    sites::{self, Wanted},
    surroundings::{self, Edge},
};

/// `site adopt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: the store of site lux lost everything, or was replaced, and exclave.toml has its address
  exclave site adopt lux --root /media/stick/exclave-root.key
  exclave replicate")]
pub struct Adopt {
    /// The site of the configuration and the charter that the store is to be again
    #[arg(value_name = "NAME")]
    name: String,
    /// The root key, which signs the plate
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Read settings and credentials by URL from FILE (TOML, mode 0600)
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    /// Show what the store lacks; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Looks first, then asks for the passphrase, then writes.
pub fn run(arguments: &Adopt, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let config = world.config()?;
    let anchor = agent::anchor(&config)?;
    let wanted = Wanted {
        arguments: &[],
        credentials: arguments.credentials.as_deref(),
    };
    let chosen = sites::choose(&wanted, &config)?;
    let at = chosen.iter().position(|site| site.name == arguments.name);
    let at = at.ok_or_else(|| {
        let known: Vec<&str> = chosen.iter().map(|site| site.name.as_str()).collect();
        Trouble::usage(format!("the configuration has no site {:?}", arguments.name))
            .hint(format!("it has {}", known.join(", ")))
    })?;
    // No site need be asked when there is no such key.
    keys::read(&arguments.root)?;
    let edge = Edge::start(config.threads)?;
    let open = sites::open_all(chosen, &world.environment)?;
    let address = open.get(at).map(|site| site.config.address.to_string());
    let stores = open
        .into_iter()
        .map(|site| (site.config.name.clone(), agent::patient(site)));
    let (archive, troubles) = agent::open_archive(anchor, stores.collect(), None, &edge)?;
    for trouble in &troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    if let Some(fork) = &archive.fork {
        return Err(Trouble::new(Exit::Refused, "the archive's charter is disputed").source(fork.clone()));
    }
    let name = &arguments.name;
    let adoption = plan_adoption(&archive, at, name, &edge.surroundings).map_err(|error| refused(name, error))?;
    if !arguments.dry_run && !adoption.is_done() {
        let root = keys::open_signing(&arguments.root, Role::Root, &arguments.passphrase.source(), world)?;
        adopt(&archive, &adoption, &root, &edge.surroundings).map_err(|error| refused(name, error))?;
    }
    world.output.report(&Adopted {
        archive: anchor.to_hex(),
        site: adoption.site.name.clone(),
        site_id: adoption.site.id.to_hex(),
        address: address.unwrap_or_default(),
        dry_run: arguments.dry_run,
        charter: Part::of(adoption.has_charter, arguments.dry_run),
        plate: Part::of(adoption.has_plate, arguments.dry_run),
        done: done(&adoption, arguments.dry_run),
    })?;
    Ok(Exit::Done)
}

fn refused(name: &str, error: AdoptError) -> Trouble {
    let what = format!("the store can't be taken back as {name}");
    let (exit, hint) = match &error {
        AdoptError::NoSuchSite { .. } => (
            Exit::Usage,
            Some("name the site in the configuration as the charter names it"),
        ),
        AdoptError::OtherSite { .. } | AdoptError::Contradictory | AdoptError::OtherArchive { .. } => (
            Exit::Refused,
            Some("is its address in the configuration right? A site needs a store, or a prefix in one, of its own"),
        ),
        AdoptError::Elsewhere { .. } => (
            Exit::Refused,
            Some("correct the addresses in the configuration: a store that was moved is found without being adopted"),
        ),
        AdoptError::NotARoot => (Exit::Refused, Some("give the root key that `exclave init` wrote")),
        AdoptError::Site(trouble) => {
            let trouble = sites::hint(&trouble.error);
            let refused = Trouble::failed(what).source(error);
            return match trouble {
                Some(hint) => refused.hint(hint),
                None => refused,
            };
        }
        AdoptError::CharterGone | AdoptError::NotShown { .. } => {
            (Exit::Failed, Some("`exclave site check` tells what the sites can do"))
        }
        AdoptError::Sign(_) => (Exit::Failed, None),
    };
    let trouble = Trouble::new(exit, what);
    match hint {
        Some(hint) => trouble.hint(hint).source(error),
        None => trouble.source(error),
    }
}

/// What became of an object that a site needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Part {
    /// It was there.
    There,
    /// It is missing, and this was a dry run.
    Missing,
    /// It was put and read back.
    Put,
}

impl Part {
    fn of(there: bool, dry_run: bool) -> Self {
        match (there, dry_run) {
            (true, _) => Self::There,
            (false, true) => Self::Missing,
            (false, false) => Self::Put,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::There => "was there",
            Self::Missing => "is missing",
            Self::Put => "was put and read back",
        }
    }
}

fn done(adoption: &Adoption, dry_run: bool) -> bool {
    adoption.is_done() || !dry_run
}

/// What was done.
#[derive(Serialize)]
struct Adopted {
    archive: String,
    site: String,
    site_id: String,
    address: String,
    dry_run: bool,
    charter: Part,
    plate: Part,
    /// True when the store counts as the site now.
    done: bool,
}

impl Report for Adopted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} ({})", self.site, self.address)?;
        writeln!(out, "  the charter {}", self.charter.as_str())?;
        writeln!(out, "  its plate {}", self.plate.as_str())?;
        if !self.done {
            return writeln!(
                out,
                "Nothing was written. Without --dry-run the root key signs what is missing."
            );
        }
        writeln!(
            out,
            "The store counts as {} again. What it lost is owed there: the next `exclave replicate` of each dataset\n\
             finds out what that is, and each one after pays, from the other sites and without the source.",
            self.site
        )
    }
}
