//! `exclave hold`: keeps snapshots whatever the charter's rules say.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use exclave_engine::{
    Archive,
    collect::{HoldError, holds, place_hold},
    survey::survey,
};
use exclave_model::{Hold, HoldScope, RecordHash, SignedObject, Version1};
use exclave_seal::{KeyKind, SigningKey};
use serde::Serialize;

use super::{
    World,
    audit::{PublicArguments, datasets},
};
use crate::{
    agent,
    arguments::PassphraseArguments,
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    output::Report,
    surroundings::{self, Edge, OsEntropy},
};

/// `hold`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep a snapshot, a dataset or everything, whatever the rules say
    Place(Box<PlaceArguments>),
    /// End a hold; takes as many roots as a charter does
    Release(Box<ReleaseArguments>),
    /// List the holds that are in force; needs no key
    List(Box<ListArguments>),
}

/// `hold place`.
#[derive(Debug, Args)]
#[command(after_help = "\
One signature suffices: a root's, a collection authority's or an administrator's. The reason is public, at every site.
Example: exclave hold place --dataset 3f2a --reason \"Case 12/2027\" --key root.key")]
pub struct PlaceArguments {
    #[command(flatten)]
    scope: ScopeArguments,
    /// Why: a file number, a court. Everyone can read it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The key that signs
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(flatten)]
    public: PublicArguments,
}

/// What a hold covers.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ScopeArguments {
    /// One snapshot, by the first digits of its id
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// All snapshots of a dataset, by the first digits of its opaque id
    #[arg(long, value_name = "DATASET")]
    dataset: Option<String>,
    /// Every snapshot of every dataset
    #[arg(long)]
    everything: bool,
}

/// `hold release`.
#[derive(Debug, Args)]
#[command(after_help = "\
All keys have to be at hand at once. Example: exclave hold release 8c01 --reason \"Closed\" --key root-1.key --key root-2.key")]
pub struct ReleaseArguments {
    /// The hold, by the first digits of its id
    #[arg(value_name = "HOLD")]
    hold: String,
    /// Why. Everyone can read it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// A root's key; as many as the charter's threshold
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(flatten)]
    public: PublicArguments,
}

/// `hold list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    public: PublicArguments,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    match command {
        Command::Place(arguments) => place(arguments, world),
        Command::Release(arguments) => release(arguments, world),
        Command::List(arguments) => list(arguments, world),
    }
}

fn place(arguments: &PlaceArguments, world: &mut World) -> Result<Exit, Trouble> {
    let (edge, archive, _) = arguments.public.open(world)?;
    agent::refuse_disputed(&archive)?;
    let scope = arguments.scope.scope(&archive, &edge)?;
    let hold = hold(&archive, &edge, scope, &arguments.reason, None);
    put(
        &hold,
        &[open(&arguments.key, &arguments.passphrase, world)?],
        &archive,
        &edge,
        world,
    )
}

fn release(arguments: &ReleaseArguments, world: &mut World) -> Result<Exit, Trouble> {
    let (edge, archive, _) = arguments.public.open(world)?;
    agent::refuse_disputed(&archive)?;
    let known = holds(&archive, &edge.surroundings);
    let hash = one_of(&arguments.hold, known.keys().copied(), "hold")?;
    let scope = known.get(&hash).map_or(HoldScope::Archive, |hold| hold.scope);
    let hold = hold(&archive, &edge, scope, &arguments.reason, Some(hash));
    let keys: Result<Vec<_>, _> = arguments
        .key
        .iter()
        .map(|path| open(path, &arguments.passphrase, world))
        .collect();
    put(&hold, &keys?, &archive, &edge, world)
}

fn list(arguments: &ListArguments, world: &mut World) -> Result<Exit, Trouble> {
    let (edge, archive, troubles) = arguments.public.open(world)?;
    let listed = holds(&archive, &edge.surroundings);
    let listed = Listed(
        listed
            .iter()
            .map(|(hash, hold)| Held::of(*hash, hold, &archive))
            .collect(),
    );
    world.output.report(&listed)?;
    // Another site may show more.
    Ok(if troubles.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    })
}

fn hold(archive: &Archive, edge: &Edge, scope: HoldScope, reason: &str, releases: Option<RecordHash>) -> Hold {
    Hold {
        format: Version1,
        anchor: archive.anchor,
        charter_version: archive.charter().version,
        scope,
        created: edge.surroundings.clock.now_unix_seconds(),
        reason: reason.to_owned(),
        releases,
    }
}

/// Opens a key of whatever role it has; the charter says whether that is enough.
fn open(path: &std::path::Path, passphrase: &PassphraseArguments, world: &World) -> Result<SigningKey, Trouble> {
    match keys::read(path)?.kind() {
        KeyKind::Signing(role) => keys::open_signing(path, role, &passphrase.source(), world),
        _ => Err(Trouble::usage(format!("{} signs nothing", path.display()))),
    }
}

fn put(hold: &Hold, keys: &[SigningKey], archive: &Archive, edge: &Edge, world: &mut World) -> Result<Exit, Trouble> {
    let failed = || Trouble::usage("the hold can't be signed").hint("a reason has 1 to 400 bytes, on one line");
    let mut object: Option<SignedObject> = None;
    for key in keys {
        object = Some(match object {
            None => key.sign(hold, &mut OsEntropy).because(failed)?,
            Some(object) => key.cosign::<Hold>(&object, &mut OsEntropy).because(failed)?,
        });
    }
    let object = object.ok_or_else(|| Trouble::usage("nobody signs"))?;
    let placed = place_hold(archive, &object, &edge.surroundings).map_err(|error| {
        let exit = match &error {
            HoldError::Unbelievable(_) => Exit::Refused,
            HoldError::NotThere(_) | HoldError::Charter(_) | HoldError::Sites { .. } => Exit::Failed,
        };
        let hint =
            "one root, collection authority or administrator places a hold; as many roots as sign a charter end it";
        Trouble::new(exit, "the hold stands as it was").hint(hint).source(error)
    })?;
    for trouble in &placed.troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    world.output.report(&Placed {
        hold: placed.hash.to_hex(),
        ends: hold.releases.map(|hash| hash.to_hex()),
        covers: covers(&hold.scope, archive),
        sites: placed.sites,
    })?;
    Ok(Exit::Done)
}

impl ScopeArguments {
    fn scope(&self, archive: &Archive, edge: &Edge) -> Result<HoldScope, Trouble> {
        let survey = || {
            survey(archive, &edge.surroundings)
                .because(|| Trouble::failed(format!("archive {} can't be read", archive.anchor)))
        };
        match (&self.snapshot, &self.dataset) {
            (Some(snapshot), _) => {
                let found = survey()?.found;
                one_of(snapshot, found.keys().copied(), "snapshot").map(HoldScope::Snapshot)
            }
            (None, Some(dataset)) => {
                let found = datasets(std::slice::from_ref(dataset), &survey()?.heads.datasets())?;
                let dataset = found.and_then(|found| found.first().copied());
                dataset
                    .map(HoldScope::Dataset)
                    .ok_or_else(|| Trouble::usage("no such dataset"))
            }
            (None, None) => Ok(HoldScope::Archive),
        }
    }
}

/// The one id that begins so.
fn one_of(prefix: &str, known: impl Iterator<Item = RecordHash>, noun: &str) -> Result<RecordHash, Trouble> {
    let prefix = prefix.to_ascii_lowercase();
    let found: Vec<RecordHash> = known.filter(|hash| hash.to_hex().starts_with(&prefix)).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        several => Err(Trouble::usage(format!(
            "{} with an id that begins with {prefix:?}",
            format::count(several.len() as u64, noun)
        ))
        .hint("`exclave hold list` and `exclave collect plan` show ids")),
    }
}

/// What a hold covers, in words.
pub fn covers(scope: &HoldScope, archive: &Archive) -> String {
    match scope {
        HoldScope::Snapshot(head) => format!("snapshot {head}"),
        HoldScope::Dataset(dataset) => format!("dataset {dataset}"),
        HoldScope::Archive => format!("archive {}", archive.anchor),
    }
}

#[derive(Serialize)]
struct Placed {
    hold: String,
    ends: Option<String>,
    covers: String,
    sites: usize,
}

impl Report for Placed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let sites = format::count(self.sites as u64, "site");
        match &self.ends {
            None => writeln!(out, "Hold {} keeps {}; {sites} have it", self.hold, self.covers),
            Some(ended) => writeln!(out, "Hold {ended} on {} is ended; {sites} know it", self.covers),
        }
    }
}

/// One hold.
#[derive(Serialize)]
pub struct Held {
    hold: String,
    covers: String,
    placed: String,
    reason: String,
}

impl Held {
    /// A hold that is in force.
    pub fn of(hash: RecordHash, hold: &Hold, archive: &Archive) -> Self {
        Self {
            hold: hash.to_hex(),
            covers: covers(&hold.scope, archive),
            placed: format::rfc3339(hold.created),
            reason: format::plain(&hold.reason),
        }
    }

    /// Writes it for people.
    pub fn line(&self, out: &mut dyn Write) -> io::Result<()> {
        let short: String = self.hold.chars().take(8).collect();
        writeln!(
            out,
            "Hold {short} on {}, placed {}: {}",
            self.covers, self.placed, self.reason
        )
    }
}

#[derive(Serialize)]
struct Listed(Vec<Held>);

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(out, "No hold is in force.");
        }
        self.0.iter().try_for_each(|held| held.line(out))
    }
}
