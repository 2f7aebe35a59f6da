//! `exclave key check|combine`: shares held against their set, and the key that they give.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_model::{Anchor, ShareSet};
use exclave_seal::{KeyFile, key_file::Cost, share::Checked};
use serde::Serialize;

use crate::{
    arguments::{PassphraseArguments, SiteArguments},
    command::{
        World,
        charter::{Public, open_public},
    },
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    output::Report,
    shares::{self, Brought, Given, told},
    surroundings::{self, OsEntropy},
};

/// Shares and their set.
#[derive(Debug, Args)]
pub struct ShareArguments {
    /// A share file, a share's text, or - to type it; once for each
    #[arg(long, value_name = "FILE", required = true)]
    share: Vec<String>,
    /// The share set that they belong to
    #[arg(long, value_name = "FILE")]
    set: Option<PathBuf>,
    /// Open shares that came by wire with this ceremony's key
    #[arg(long, value_name = "FILE")]
    ceremony_key: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// `key check`.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    shares: ShareArguments,
    /// Ask the sites for the set that the charter names, and when a ceremony was held last
    #[arg(long)]
    ask_sites: bool,
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

/// `key combine`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is written: the key's public number shows that the shares are right, and `exclave restore --share` uses them
without a file. --output is for moving to a new custody: one file and one passphrase then open everything.")]
pub struct Combine {
    #[command(flatten)]
    shares: ShareArguments,
    /// Write the recovery identity to FILE, protected by a passphrase
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Looks at each share alone.
pub fn check(arguments: &Check, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let asked = match arguments.ask_sites {
        true => Some(open_public(&arguments.sites, arguments.archive, world)?),
        false => None,
    };
    let Brought { given, unread } = read(&arguments.shares, world)?;
    let set = match (&arguments.shares.set, &asked) {
        (None, Some(public)) => shares::set_among(public.archive.charter().share_sets(), &given)?.clone(),
        (named, _) => shares::set_for(named.as_deref())?,
    };
    let checked = exclave_seal::share::check(&set, &given.iter().map(|given| &given.share).collect::<Vec<_>>());
    let mut report = Looked::of(&set, &given, unread, &checked);
    if let Some(public) = &asked {
        report.custody = Some(Custody::of(&set, public));
    }
    world.output.report(&report)?;
    Ok(report.exit())
}

/// Combines them, in memory.
pub fn combine(arguments: &Combine, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    if let Some(path) = arguments.output.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
        let trouble = Trouble::usage(format!("the key file {} is there already", path.display()));
        return Err(trouble.hint("a key is never written over; name another file or move that one away"));
    }
    let set = shares::set_for(arguments.shares.set.as_deref())?;
    let Brought { given, unread } = read(&arguments.shares, world)?;
    let checked = shares::judge(&set, &given, world);
    let identity = checked.combine().map_err(shares::no_key)?;
    let report = Combined {
        recipient: identity.public().id().to_hex(),
        set: set.id.to_hex(),
        epoch: set.epoch,
        findings: findings(unread, &checked, &given),
        output: arguments.output.as_ref().map(|path| path.display().to_string()),
    };
    if let Some(path) = &arguments.output {
        let source = arguments.shares.passphrase.source();
        let passphrase = source.new_one("the recovery identity", &world.environment)?;
        let file = KeyFile::for_recovery(&identity, &passphrase, Cost::STANDARD, &mut OsEntropy);
        let mut file = file.because(|| Trouble::failed("the identity can't be protected"))?;
        if let Some(archive) = given.iter().find_map(|given| given.archive) {
            file.set_archive(archive);
        }
        keys::create(path, &file)?;
    }
    world.output.report(&report)?;
    if arguments.output.is_some() {
        world.output.note(
            "Warning: this file and its passphrase now open everything, without any custodian. Destroy it when the new \
             custody is set up.",
        );
    }
    Ok(if report.findings.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    })
}

/// Everything that is wrong with shares.
fn findings(unread: Vec<String>, checked: &Checked<'_>, given: &[Given]) -> Vec<String> {
    let told = checked.findings().iter().map(|finding| told(finding, given));
    unread.into_iter().chain(told).collect()
}

fn read(arguments: &ShareArguments, world: &World) -> Result<Brought, Trouble> {
    let (source, ceremony) = (arguments.passphrase.source(), arguments.ceremony_key.as_deref());
    shares::read_all(&arguments.share, ceremony, &source, world)
}

/// What `check` found.
#[derive(Serialize)]
struct Looked {
    set: String,
    epoch: u32,
    needed: String,
    enough: bool,
    good: Vec<Holder>,
    findings: Vec<String>,
    groups: Vec<Group>,
    /// What the archive knows about the set, when it was asked.
    custody: Option<Custody>,
}

/// How old custody is, as the archive shows it.
#[derive(Serialize)]
struct Custody {
    /// The first charter version that names the set, and when it was made; `None` for a set that no charter names.
    named_in_version: Option<u32>,
    named: Option<String>,
    /// When run keys were given away last: what a ceremony leaves behind. One that only restored leaves no trace.
    last_grant: Option<String>,
    /// Since the later of the two.
    days: Option<i64>,
}

impl Custody {
    fn of(set: &ShareSet, public: &Public) -> Self {
        let edge = &public.edge;
        let mut versions = public.archive.charters.iter();
        let first = versions.find(|charter| charter.share_sets().contains(set));
        let (grants, _) = edge.block_on(exclave_engine::grant::all(&public.archive));
        let last_grant = grants.values().map(|(_, grant)| grant.created).max();
        let last = first.map(|charter| charter.created).max(last_grant);
        let now = edge.surroundings.clock.now_unix_seconds();
        Self {
            named_in_version: first.map(|charter| charter.version),
            named: first.map(|charter| format::rfc3339(charter.created)),
            last_grant: last_grant.map(format::rfc3339),
            days: last.map(|last| now.saturating_sub(last) / 86_400),
        }
    }
}

impl Report for Custody {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match (&self.named, self.named_in_version) {
            (Some(day), Some(version)) => writeln!(out, "the charter names it since version {version}, {day}")?,
            _ => writeln!(out, "no version of the charter names it")?,
        }
        match &self.last_grant {
            Some(day) => writeln!(out, "run keys were last given away {day}")?,
            None => writeln!(out, "run keys were never given away")?,
        }
        match self.days {
            Some(days) => writeln!(
                out,
                "last trace of a ceremony: {} ago; one that only restored leaves none",
                format::count(days.unsigned_abs(), "day")
            ),
            None => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct Holder {
    group: String,
    x: u8,
    custodian: String,
}

#[derive(Serialize)]
struct Group {
    group: String,
    good: usize,
    needed: usize,
}

impl Looked {
    fn of(set: &ShareSet, given: &[Given], unread: Vec<String>, checked: &Checked<'_>) -> Self {
        let holder = |place: exclave_model::Place| {
            let (group, custodian) = set.at(place)?;
            Some(Holder {
                group: group.name.clone(),
                x: place.x,
                custodian: custodian.name.clone(),
            })
        };
        let group = |lack: exclave_seal::share::Lack| Group {
            group: lack.group,
            good: lack.has,
            needed: lack.needs,
        };
        Self {
            set: set.id.to_hex(),
            epoch: set.epoch,
            needed: set.in_words(),
            enough: checked.is_enough(),
            good: checked.good().filter_map(holder).collect(),
            findings: findings(unread, checked, given),
            groups: checked.groups().into_iter().map(group).collect(),
            custody: None,
        }
    }

    fn exit(&self) -> Exit {
        if self.findings.is_empty() {
            Exit::Done
        } else {
            Exit::Findings
        }
    }
}

impl Report for Looked {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for holder in &self.good {
            writeln!(
                out,
                "good: the share of {}, number {} of {}",
                holder.custodian, holder.x, holder.group
            )?;
        }
        for finding in &self.findings {
            writeln!(out, "BAD: {}", crate::format::plain(finding))?;
        }
        for group in &self.groups {
            writeln!(out, "{}: {} good, {} needed", group.group, group.good, group.needed)?;
        }
        let enough = if self.enough {
            "these are enough"
        } else {
            "more are needed"
        };
        writeln!(
            out,
            "share set {}, epoch {}: {}; {enough}",
            self.set, self.epoch, self.needed
        )?;
        self.custody.as_ref().map_or(Ok(()), |custody| custody.text(out))
    }
}

/// What `combine` found.
#[derive(Serialize)]
struct Combined {
    recipient: String,
    set: String,
    epoch: u32,
    findings: Vec<String>,
    output: Option<String>,
}

impl Report for Combined {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "the shares give recovery key {}", self.recipient)?;
        writeln!(out, "as share set {}, epoch {}, says", self.set, self.epoch)?;
        match &self.output {
            Some(path) => writeln!(out, "written to {path}"),
            None => Ok(()),
        }
    }
}
