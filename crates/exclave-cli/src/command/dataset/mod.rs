//! `exclave dataset add|tighten|show|list|publish`: an administrator's word about datasets, between one charter and the next.
//!
//! A class of the charter holds the policy; its administrator adds a dataset by its opaque id and may demand more for it,
//! never less. Signing needs no network: `--charters FILE` and `--out FILE`; `publish` puts the file at the sites.

mod list;
mod sign;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bytes::Bytes;
use clap::{Args, Subcommand};
use exclave_engine::registry::{RegisterError, Registered, RegisteredAt, Registry, publish_record};
use exclave_model::{Anchor, ClassPolicy, DatasetId, registration::REGISTRATION_OBJECT_BYTES_MAX};
use serde::Serialize;

use super::World;
use crate::{
    arguments::SiteArguments,
    command::charter::{Public, open_public},
    error::Trouble,
    exit::Exit,
    format,
    output::Report,
    private_file, sites, surroundings,
};

/// `dataset ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a dataset to a class
    Add(sign::Add),
    /// Demand more for a dataset than was demanded so far; without a demand, say the same again
    Tighten(sign::Tighten),
    /// Show what administrators have said of a dataset
    Show(Show),
    /// List datasets by class, registered or not
    List(list::List),
    /// Put a record that was signed elsewhere at the sites
    Publish(Publish),
}

/// `dataset show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The dataset's id, its first digits, or on the agent's host its name
    dataset: String,
    #[command(flatten)]
    place: Place,
}

/// `dataset publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// A record that `dataset add --out` or `dataset tighten --out` wrote
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Which archive.
#[derive(Debug, Args)]
pub struct Place {
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

impl Place {
    fn open(&self, world: &World) -> Result<Public, Trouble> {
        let public = open_public(&self.sites, self.archive, world)?;
        public.refuse_doubtful()?;
        Ok(public)
    }
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    match command {
        Command::Add(arguments) => sign::add(arguments, world),
        Command::Tighten(arguments) => sign::tighten(arguments, world),
        Command::Show(arguments) => show(arguments, world),
        Command::List(arguments) => list::list(arguments, world),
        Command::Publish(arguments) => {
            let public = arguments.place.open(world)?;
            let bytes = read_record(&arguments.file)?;
            publish(&public, Bytes::from(bytes), world)
        }
    }
}

fn read_record(path: &std::path::Path) -> Result<Vec<u8>, Trouble> {
    private_file::read_public(path, REGISTRATION_OBJECT_BYTES_MAX, "dataset record")
}

/// The dataset that a text means: an id, or its beginning among those known, or the agent's name for it.
fn meant(text: &str, public: Option<&Public>, registry: Option<&Registry>) -> Result<DatasetId, Trouble> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let state = public.and_then(|public| public.state.as_ref());
    let local = state.map_or(Ok(Vec::new()), exclave_engine::AgentState::datasets);
    let local = local.map_err(|error| Trouble::failed("the agent's datasets can't be read").source(error))?;
    if let Some(dataset) = local.iter().find(|dataset| dataset.name == text) {
        return Ok(dataset.id);
    }
    let known = registry.into_iter().flat_map(Registry::datasets);
    let mut known: Vec<DatasetId> = known.chain(local.iter().map(|dataset| dataset.id)).collect();
    known.retain(|id| text.len() >= 4 && id.to_hex().starts_with(text));
    known.sort_unstable();
    known.dedup();
    match known.as_slice() {
        [one] => Ok(*one),
        [] => Err(Trouble::usage(format!("no dataset {text} is known here"))
            .hint("give the whole id: `exclave replicate` prints it, and so does `exclave dataset list`")),
        _ => Err(Trouble::usage(format!("several datasets begin with {text}")).hint("give more digits")),
    }
}

fn publish(public: &Public, bytes: Bytes, world: &mut World) -> Result<Exit, Trouble> {
    let put = publish_record(&public.archive, &bytes, &public.edge.surroundings).map_err(not_published)?;
    let RegisteredAt { found, sites, troubles } = put;
    for trouble in &troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    let of = public.archive.charter().sites.len();
    world.output.report(&Published {
        record: Said::of(&found),
        sites,
        of,
    })?;
    Ok(match sites == of && troubles.is_empty() {
        true => Exit::Done,
        false => Exit::Findings,
    })
}

fn not_published(error: RegisterError) -> Trouble {
    let what = "the record was not published";
    match &error {
        RegisterError::Record(_) | RegisterError::Revoked(_) => Trouble::new(Exit::Refused, what),
        RegisterError::Order(_) => Trouble::new(Exit::Refused, what)
            .hint("another record was published meanwhile: sign again with `exclave dataset tighten`"),
        RegisterError::Sites { troubles, .. } => {
            let hint = troubles.iter().find_map(|trouble| sites::hint(&trouble.error));
            Trouble::failed(what).hint(hint.unwrap_or_else(|| "bring more sites up, and publish it again".to_owned()))
        }
        RegisterError::Needed(_) => Trouble::failed(what),
    }
    .source(error)
}

/// One record, for people.
#[derive(Debug, Serialize)]
struct Said {
    dataset: String,
    class: u32,
    version: u32,
    digest: String,
    signed_by: String,
    created: String,
    charter_version: u32,
    losses: Option<u8>,
    liars: Option<u8>,
    read_back: Option<&'static str>,
    /// Its signer was revoked since.
    void: bool,
}

impl Said {
    fn of(found: &Registered) -> Self {
        let record = &found.record;
        Self {
            dataset: record.dataset.to_hex(),
            class: record.class,
            version: record.version,
            digest: found.hash.to_hex(),
            signed_by: found.signer.to_hex(),
            created: format::rfc3339(record.created),
            charter_version: record.charter_version,
            losses: record.losses,
            liars: record.liars,
            read_back: record.read_back.map(exclave_model::ReadBack::as_str),
            void: found.void,
        }
    }

    /// What is demanded beside the class, in words.
    fn demands(&self) -> String {
        let mut said = Vec::new();
        said.extend(self.losses.map(|losses| format!("losses {losses}")));
        said.extend(self.liars.map(|liars| format!("liars {liars}")));
        said.extend(self.read_back.map(|read_back| format!("read-back {read_back}")));
        match said.is_empty() {
            true => "what the class demands".to_owned(),
            false => said.join(", "),
        }
    }
}

/// What holds for a dataset, in words.
fn policy_text(policy: &ClassPolicy) -> String {
    format!(
        "{}, {} losses, {} liars, read-back {}",
        policy.geometry, policy.losses, policy.liars, policy.read_back
    )
}

/// A record at the sites.
#[derive(Serialize)]
struct Published {
    record: Said,
    sites: usize,
    of: usize,
}

impl Report for Published {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Said {
            dataset,
            class,
            version,
            ..
        } = &self.record;
        writeln!(
            out,
            "Record {version} of dataset {dataset} is at {} of {} sites: class {class}, {}",
            self.sites,
            self.of,
            self.record.demands()
        )
    }
}

fn show(arguments: &Show, world: &mut World) -> Result<Exit, Trouble> {
    let public = arguments.place.open(world)?;
    let registry = public.edge.block_on(Registry::find(&public.archive));
    let dataset = meant(&arguments.dataset, Some(&public), Some(&registry))?;
    let charter = public.archive.charter();
    let class = registry.class(dataset);
    let findings = registry.findings.iter().filter(|finding| finding.is_about(dataset));
    let mut findings: Vec<String> = findings.map(ToString::to_string).collect();
    let holds = match &class {
        Ok(Some(class)) => match charter.class(*class).map(exclave_model::Class::policy) {
            Some(Ok(policy)) => registry.policy(dataset, &policy).map_err(|rule| rule.to_string()),
            _ => Err(format!("the charter has no class {class}")),
        },
        Ok(None) => Err("no administrator added it".to_owned()),
        Err(rule) => Err(rule.to_string()),
    };
    if let Err(why) = &holds {
        findings.push(why.clone());
    }
    let exit = if findings.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    };
    world.output.report(&Shown {
        dataset: dataset.to_hex(),
        class: class.ok().flatten(),
        holds: holds.ok().map(|policy| policy_text(&policy)),
        records: registry.records(dataset).iter().map(Said::of).collect(),
        findings,
    })?;
    Ok(exit)
}

/// What is said of one dataset.
#[derive(Serialize)]
struct Shown {
    dataset: String,
    class: Option<u32>,
    holds: Option<String>,
    records: Vec<Said>,
    findings: Vec<String>,
}

impl Report for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match (&self.class, &self.holds) {
            (Some(class), Some(holds)) => writeln!(out, "dataset {} is in class {class}: {holds}", self.dataset)?,
            _ => writeln!(out, "dataset {}", self.dataset)?,
        }
        for record in &self.records {
            writeln!(
                out,
                "  {}. {}, by administrator {}, {}{}",
                record.version,
                record.demands(),
                record.signed_by.get(..16).unwrap_or_default(),
                record.created,
                if record.void { "; VOID: the key was revoked" } else { "" }
            )?;
        }
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(out, "Finding: {}", format::plain(finding)))
    }
}
