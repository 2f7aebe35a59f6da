//! `exclave charter show|diff|verify`: what a version says, what it changes, and whether a file is to be believed.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_engine::charter::Proposal;
use exclave_model::{Anchor, Charter, CharterFile, Charters};
use exclave_seal::verify_charter;
use serde::Serialize;

use super::{
    Subject, open_public, read_bytes, whole_history,
    words::{Page, Signatures, changes},
};
use crate::{
    arguments::SiteArguments,
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
    parts::PartsArguments,
};

/// `charter show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A charter file; without it the sites are asked
    file: Option<PathBuf>,
    /// This version instead of the newest
    #[arg(long, value_name = "NUMBER")]
    version: Option<u32>,
    #[command(flatten)]
    parts: PartsArguments,
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

/// `charter diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// A draft, or a charter file
    file: PathBuf,
    /// Compare with this version instead of the one before
    #[arg(long, value_name = "NUMBER")]
    from: Option<u32>,
}

/// `charter verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// A charter file
    file: PathBuf,
    /// The archive's anchor, from paper
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

/// A charter file, or a draft with the history beside it, in parts.
fn show_parts(arguments: &Show, world: &mut World) -> Result<Exit, Trouble> {
    let path = arguments
        .file
        .as_ref()
        .ok_or_else(|| Trouble::usage("which file is to be shown in parts?").hint("name a draft, or a charter file"))?;
    let bytes = read_bytes(path)?;
    let bytes = match CharterFile::from_bytes(&bytes) {
        Ok(_) => bytes,
        Err(_) => Subject::read(path)?.to_carry()?,
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    arguments.parts.show(&name.unwrap_or_default(), &bytes, world)?;
    Ok(Exit::Done)
}

pub fn show(arguments: &Show, world: &mut World) -> Result<Exit, Trouble> {
    if arguments.parts.are_wanted() {
        return show_parts(arguments, world);
    }
    let charters = match &arguments.file {
        Some(path) => {
            let bytes = read_bytes(path)?;
            whole_history(&bytes, path)?.0
        }
        None => {
            open_public(&arguments.sites, arguments.archive, world)?
                .archive
                .charters
        }
    };
    let number = arguments.version.unwrap_or(charters.newest().version);
    let no_such = || Trouble::usage(format!("there is no version {number}"));
    let charter = charters.version(number).ok_or_else(no_such)?;
    let digest = charters.hash(number).ok_or_else(no_such)?;
    let before = up_to(&charters, number.saturating_sub(1));
    // What is in a history was signed by enough roots: they are not counted again.
    let threshold = |charter: &Charter| (charter.roots.threshold as usize, charter.roots.threshold as usize);
    let signatures = Signatures {
        before: before.as_ref().map(|before| threshold(before.newest())),
        own: threshold(charter),
    };
    world
        .output
        .report(&Page::of(charter, digest, before.as_ref(), signatures))?;
    Ok(Exit::Done)
}

/// The history up to a version; `None` before the first.
fn up_to(charters: &Charters, number: u32) -> Option<Charters> {
    let mut beginning = Charters::begin(charters.version(1)?.clone(), charters.anchor()).ok()?;
    for version in 2..=number {
        beginning
            .push(charters.version(version)?.clone(), charters.hash(version)?)
            .ok()?;
    }
    (number > 0).then_some(beginning)
}

pub fn diff(arguments: &Diff, world: &mut World) -> Result<Exit, Trouble> {
    let subject = Subject::read(&arguments.file)?;
    let from = arguments.from.unwrap_or(subject.before.newest().version);
    let before = subject
        .before
        .version(from)
        .ok_or_else(|| Trouble::usage(format!("there is no version {from} before it")))?;
    world.output.report(&Changed {
        from,
        to: subject.next.version,
        changes: changes(before, &subject.next),
    })?;
    Ok(Exit::Done)
}

/// What changed between two versions.
#[derive(Serialize)]
struct Changed {
    from: u32,
    to: u32,
    changes: Vec<String>,
}

impl Report for Changed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.changes.is_empty() {
            true => writeln!(out, "version {} says what version {} said", self.to, self.from),
            false => self
                .changes
                .iter()
                .try_for_each(|change| writeln!(out, "{}", format::plain(change))),
        }
    }
}

pub fn verify(arguments: &Verify, world: &mut World) -> Result<Exit, Trouble> {
    let bytes = read_bytes(&arguments.file)?;
    let shown = arguments.file.display();
    let file = CharterFile::from_bytes(&bytes).because(|| Trouble::usage(format!("{shown} is no charter file")))?;
    let anchor = file
        .charters
        .first()
        .map(|first| Anchor::from_bytes(*first.record_hash().as_bytes()));
    let anchor = anchor.ok_or_else(|| Trouble::usage(format!("{shown} holds no charter")))?;
    if let Some(wanted) = arguments.archive.filter(|wanted| *wanted != anchor) {
        return Err(Trouble::new(
            Exit::Refused,
            format!("{shown} is of archive {anchor}, not {wanted}"),
        ));
    }
    let unbelieved = || Trouble::new(Exit::Refused, format!("{shown} is not to be believed"));
    let (version, digest, signatures) = match file.charters.as_slice() {
        [first] => {
            let charters = verify_charter(first, anchor).because(unbelieved)?;
            let needed = charters.newest().roots.threshold as usize;
            let own = (first.signatures().len(), needed);
            (1, first.record_hash(), Signatures { before: None, own })
        }
        _ => {
            let proposal = Proposal::read(&file).because(unbelieved)?;
            let [before, own] = proposal.signatures();
            let before = Some(before);
            (proposal.next.version, proposal.digest(), Signatures { before, own })
        }
    };
    let complete = signatures.are_enough();
    world.output.report(&Verified {
        archive: anchor.to_hex(),
        anchor_compared: arguments.archive.is_some(),
        version,
        digest: digest.to_hex(),
        signatures,
        complete,
    })?;
    Ok(if complete { Exit::Done } else { Exit::Refused })
}

/// What a file is.
#[derive(Serialize)]
struct Verified {
    archive: String,
    anchor_compared: bool,
    version: u32,
    digest: String,
    signatures: Signatures,
    complete: bool,
}

impl Report for Verified {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "charter version {} of archive {}", self.version, self.archive)?;
        writeln!(out, "digest {}", self.digest)?;
        if !self.anchor_compared {
            writeln!(
                out,
                "Compare the archive with the anchor that you have on paper, or give it: --archive HEX"
            )?;
        }
        match self.complete {
            true => writeln!(out, "Its history holds, and enough roots signed."),
            false => writeln!(out, "Its history holds; roots have to sign still."),
        }
    }
}
