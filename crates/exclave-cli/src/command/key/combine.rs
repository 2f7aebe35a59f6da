//! `exclave key check|combine`: shares held against their set, and the key that they give.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_model::ShareSet;
use exclave_seal::{KeyFile, key_file::Cost, share::Checked};
use serde::Serialize;

use crate::{
    arguments::PassphraseArguments,
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    keys,
    output::Report,
    shares::{self, Given, told},
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
    let (set, given) = read(&arguments.shares, world)?;
    let checked = exclave_seal::share::check(&set, &given.iter().map(|given| &given.share).collect::<Vec<_>>());
    let report = Looked::of(&set, &given, &checked);
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
    let (set, given) = read(&arguments.shares, world)?;
    let checked = shares::judge(&set, &given, world);
    let identity = checked.combine().map_err(shares::no_key)?;
    let report = Combined {
        recipient: identity.public().id().to_hex(),
        set: set.id.to_hex(),
        epoch: set.epoch,
        findings: checked.findings().iter().map(|finding| told(finding, &given)).collect(),
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

fn read(arguments: &ShareArguments, world: &World) -> Result<(ShareSet, Vec<Given>), Trouble> {
    let set = shares::set_for(arguments.set.as_deref())?;
    let (source, ceremony) = (arguments.passphrase.source(), arguments.ceremony_key.as_deref());
    let given = shares::read_all(&arguments.share, ceremony, &source, world)?;
    Ok((set, given))
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
    fn of(set: &ShareSet, given: &[Given], checked: &Checked<'_>) -> Self {
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
            findings: checked.findings().iter().map(|finding| told(finding, given)).collect(),
            groups: checked.groups().into_iter().map(group).collect(),
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
        )
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
