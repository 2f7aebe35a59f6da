//! `exclave charter new|show|diff|explain|sign|verify|publish`: how an archive's constitution changes.
//!
//! `new` and `publish` speak to sites; everything between them works on files alone, on a machine without a network. The
//! file that goes from hand to hand holds the whole history, so that whoever signs checks it against the anchor he has on
//! paper and against nothing else.

mod begin;
mod draft;
mod look;
mod publish;
mod retention;
mod rules;
mod sign;
mod watch;
mod words;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use exclave_engine::{
    AgentState, Archive,
    charter::{Proposal, read_history},
};
use exclave_model::{
    Anchor, Charter, CharterFile, Charters, Record as _, RecordHash, SignedObject, UnsignedCharter,
    charter::CHARTER_FILE_BYTES_MAX,
};
use exclave_site::Site;

use self::{
    draft::Draft,
    words::{Page, Signatures},
};
use super::World;
use crate::{
    agent::{open_archive, refuse_disputed, see_charters, unremembered},
    arguments::SiteArguments,
    config::SiteConfig,
    error::{Context as _, Trouble},
    exit::Exit,
    format, parts, private_file, sites,
    surroundings::{self, Edge},
};

/// `charter ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a draft of the next version, to be changed in an editor
    New(begin::New),
    /// Show a version on one page: of a file, or the newest that the sites show
    Show(look::Show),
    /// Show what a file's last version, or a draft, changes
    Diff(look::Diff),
    /// Show a draft, or a file's last version, on one page with its digest: what people sign
    Explain(Explain),
    /// Sign a draft, or a file that others signed before
    Sign(sign::Sign),
    /// Check a file against an anchor: its history, and whether enough roots signed the last version
    Verify(look::Verify),
    /// Put a signed version at the sites
    Publish(publish::Publish),
}

/// `charter explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// A draft, or a charter file
    file: PathBuf,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    match command {
        Command::New(arguments) => begin::new(arguments, world),
        Command::Show(arguments) => look::show(arguments, world),
        Command::Diff(arguments) => look::diff(arguments, world),
        Command::Explain(arguments) => {
            let subject = Subject::read(&arguments.file)?;
            world.output.report(&subject.page())?;
            Ok(Exit::Done)
        }
        Command::Sign(arguments) => sign::sign(arguments, world),
        Command::Verify(arguments) => look::verify(arguments, world),
        Command::Publish(arguments) => publish::publish(arguments, world),
    }
}

/// A version that is proposed: compiled from a draft, or in a file with signatures.
struct Subject {
    /// The file.
    bytes: Vec<u8>,
    before: Charters,
    next: Charter,
    /// What the history was read from.
    history: Vec<SignedObject>,
    /// With signatures, when there are any.
    signed: Option<Proposal>,
}

impl Subject {
    fn read(path: &Path) -> Result<Self, Trouble> {
        let bytes = read_bytes(path)?;
        let shown = path.display().to_string();
        if let Ok(file) = CharterFile::from_bytes(&bytes) {
            let proposal = Proposal::read(&file)
                .map_err(|error| Trouble::new(Exit::Refused, format!("{shown} is not to be believed")).source(error))?;
            return Ok(Self {
                bytes,
                before: proposal.before.clone(),
                next: proposal.next.clone(),
                history: file
                    .charters
                    .split_last()
                    .map_or_else(Vec::new, |(_, history)| history.to_vec()),
                signed: Some(proposal),
            });
        }
        if let Ok(unsigned) = UnsignedCharter::from_bytes(&bytes) {
            return Self::unsigned(unsigned, bytes, &shown);
        }
        let text = String::from_utf8(bytes.clone())
            .because(|| Trouble::usage(format!("{shown} is no draft and no charter file")))?;
        let draft = Draft::parse(&text, &shown)?;
        let (before, history) = history_beside(path)?;
        let next = draft.compile(&before, path.parent().unwrap_or(Path::new("")))?;
        let lawful = next.law().and_then(|()| before.check_next(&next));
        lawful.map_err(|rule| {
            Trouble::new(Exit::Refused, format!("{shown} can't be the next charter"))
                .hint("`exclave charter new` shows in its first lines how a draft says such things")
                .source(rule)
        })?;
        Ok(Self {
            bytes,
            before,
            next,
            history,
            signed: None,
        })
    }

    /// A version that nobody has signed, as it crosses to a machine without a network.
    fn unsigned(unsigned: UnsignedCharter, bytes: Vec<u8>, shown: &str) -> Result<Self, Trouble> {
        let unbelieved = || Trouble::new(Exit::Refused, format!("{shown} is not to be believed"));
        let before = read_history(&unsigned.history).because(unbelieved)?;
        let before = before.ok_or_else(unbelieved)?;
        let next = Charter::from_bytes(&unsigned.record).because(unbelieved)?;
        before.check_next(&next).because(unbelieved)?;
        Ok(Self {
            bytes,
            before,
            next,
            history: unsigned.history,
            signed: None,
        })
    }

    /// The version in one file for a machine that has nothing else: signed as far as it is, or unsigned.
    fn to_carry(&self) -> Result<Vec<u8>, Trouble> {
        if self.signed.is_some() {
            return Ok(self.bytes.clone());
        }
        let record = self.next.to_bytes();
        let record = record.because(|| Trouble::failed("the charter can't be written down"))?;
        let unsigned = UnsignedCharter {
            history: self.history.clone(),
            record,
        };
        Ok(unsigned.to_bytes())
    }

    fn digest(&self) -> Result<RecordHash, Trouble> {
        let bytes = self
            .next
            .to_bytes()
            .because(|| Trouble::failed("the charter can't be written down"))?;
        Ok(RecordHash::of(&bytes))
    }

    fn signatures(&self) -> Signatures {
        let [before, own] = match &self.signed {
            Some(proposal) => proposal.signatures(),
            None => [&self.before.newest().roots, &self.next.roots].map(|roots| (0, roots.threshold as usize)),
        };
        Signatures {
            before: Some(before),
            own,
        }
    }

    fn page(&self) -> Page {
        // What was read or compiled obeys the law, and so can be written.
        let digest = self.digest().unwrap_or_else(|_| RecordHash::from_bytes([0; 32]));
        Page::of(&self.next, digest, Some(&self.before), self.signatures())
    }
}

/// The charters of a file all of whose versions are signed by enough roots.
pub fn read_charters(path: &Path) -> Result<Charters, Trouble> {
    Ok(whole_history(&read_bytes(path)?, path)?.0)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Trouble> {
    let bytes = private_file::read_public(path, CHARTER_FILE_BYTES_MAX, "charter file")?;
    parts::whole(bytes, &path.display().to_string())
}

/// Where the history of a draft lies.
fn beside(draft: &Path) -> PathBuf {
    draft.with_extension("charter")
}

fn history_beside(draft: &Path) -> Result<(Charters, Vec<SignedObject>), Trouble> {
    let path = beside(draft);
    let bytes = read_bytes(&path).map_err(|trouble| {
        trouble.hint("a draft is read together with the history that `exclave charter new` wrote beside it")
    })?;
    let (charters, objects) = whole_history(&bytes, &path)?;
    Ok((charters, objects))
}

/// A file all of whose versions are signed by enough roots.
fn whole_history(bytes: &[u8], path: &Path) -> Result<(Charters, Vec<SignedObject>), Trouble> {
    let shown = path.display();
    let file = CharterFile::from_bytes(bytes).because(|| Trouble::usage(format!("{shown} is no charter file")))?;
    let history = read_history(&file.charters)
        .map_err(|error| Trouble::new(Exit::Refused, format!("{shown} is not to be believed")).source(error))?;
    let history = history.ok_or_else(|| Trouble::usage(format!("{shown} holds no charter")))?;
    Ok((history, file.charters))
}

/// An archive as its sites show it, for commands that need no key.
pub struct Public {
    /// The archive.
    pub archive: Archive,
    /// The stores that were asked.
    pub chosen: Vec<SiteConfig>,
    /// Clock, threads, runtime.
    pub edge: Edge,
    /// The agent's folder, where there is one for this archive: it remembers the newest charter.
    pub state: Option<AgentState>,
}

/// The archive at the sites, and the stores that the configuration knows.
pub fn open_public(arguments: &SiteArguments, anchor: Option<Anchor>, world: &World) -> Result<Public, Trouble> {
    let config = world.config()?;
    let anchor = anchor.or(config.archive).ok_or_else(|| {
        Trouble::usage("no archive is known").hint("give --archive HEX, or the settings of an agent with --config FILE")
    })?;
    let state = match config.archive == Some(anchor) {
        true => AgentState::open(&config.state_dir(&world.environment)).ok(),
        false => None,
    };
    let seen = state.as_ref().map(AgentState::seen_charter).transpose();
    let seen = seen.map_err(unremembered)?.flatten();
    let chosen = sites::choose(&arguments.wanted(), &config)?;
    let open = sites::open_all(chosen.clone(), &world.environment)?;
    let edge = Edge::start(config.threads)?;
    let stores: Vec<(String, Arc<dyn Site>)> = open.into_iter().map(|site| (site.config.name, site.site)).collect();
    let (archive, troubles) = open_archive(anchor, stores, seen, &edge)?;
    for trouble in troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    if let Some(fork) = &archive.fork {
        world.output.note(format!("ALARM: {fork}"));
    }
    Ok(Public {
        archive,
        chosen,
        edge,
        state,
    })
}

impl Public {
    /// Refuses to go on from a charter that is disputed, or older than one that was seen on this machine.
    pub fn refuse_doubtful(&self) -> Result<(), Trouble> {
        refuse_disputed(&self.archive)?;
        match &self.state {
            Some(state) => see_charters(state, &self.archive.charters),
            None => Ok(()),
        }
    }
}
