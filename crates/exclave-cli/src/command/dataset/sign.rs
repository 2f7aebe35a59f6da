//! `exclave dataset add|tighten`: an administrator signs, with the sites at hand or without a network.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use exclave_engine::{
    AgentState,
    registry::{Registered, Registry, class_of_run, feasible, may_follow, verify},
    survey::survey,
};
use exclave_model::{Charters, DatasetId, ReadBack, Registration, Role, Version1};
use serde::Serialize;

use super::{Place, Said, meant, publish, read_record};
use crate::{
    arguments::PassphraseArguments,
    command::{
        World,
        charter::{Public, read_charters},
    },
    error::{Context as _, Trouble},
    exit::Exit,
    keys,
    output::Report,
    private_file,
    surroundings::{Edge, OsEntropy},
};

/// What is demanded, beside what the class demands.
#[derive(Debug, Args)]
struct Demands {
    /// After a commit, this many sites may be lost (f)
    #[arg(long, value_name = "NUMBER")]
    losses: Option<u8>,
    /// And this many may lie at the same time (b)
    #[arg(long, value_name = "NUMBER")]
    liars: Option<u8>,
    /// How shards are read back before they count: group or full
    #[arg(long, value_name = "WORD", value_parser = |text: &str| text.parse::<ReadBack>())]
    read_back: Option<ReadBack>,
}

/// Who signs, and where the record goes.
#[derive(Debug, Args)]
struct Signing {
    /// The administrator's key to sign with
    #[arg(long, value_name = "FILE")]
    administrator: PathBuf,
    /// Write the record to FILE instead of publishing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign without a network, by the charters in FILE: a charter file, or `charters` of a kit
    #[arg(long, value_name = "FILE", requires = "out", conflicts_with_all = ["sites", "credentials"])]
    charters: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(flatten)]
    place: Place,
}

/// `dataset add`.
#[derive(Debug, Args)]
pub struct Add {
    /// The dataset's id, or on the agent's host its name
    dataset: String,
    /// The class that it is added to
    #[arg(long, value_name = "NUMBER", default_value_t = exclave_engine::DEFAULT_CLASS)]
    class: u32,
    #[command(flatten)]
    demands: Demands,
    #[command(flatten)]
    signing: Signing,
}

/// `dataset tighten`.
#[derive(Debug, Args)]
pub struct Tighten {
    /// The dataset's id, or on the agent's host its name
    dataset: String,
    #[command(flatten)]
    demands: Demands,
    /// The record that this one follows, where no site is asked
    #[arg(long, value_name = "FILE", requires = "charters")]
    after: Option<PathBuf>,
    #[command(flatten)]
    signing: Signing,
}

/// What is known where the record is signed.
struct Desk {
    charters: Charters,
    registry: Registry,
    public: Option<Public>,
    edge: Option<Edge>,
}

impl Desk {
    fn open(signing: &Signing, after: Option<&Path>, world: &World) -> Result<Self, Trouble> {
        let Some(path) = &signing.charters else {
            let public = signing.place.open(world)?;
            let registry = public.edge.block_on(Registry::find(&public.archive));
            return Ok(Self {
                charters: public.archive.charters.clone(),
                registry,
                public: Some(public),
                edge: None,
            });
        };
        let charters = read_charters(path)?;
        if let Some(wanted) = signing.place.archive.filter(|wanted| *wanted != charters.anchor()) {
            let what = format!("the charters are of archive {}, not {wanted}", charters.anchor());
            return Err(Trouble::new(Exit::Refused, what));
        }
        let before = after.map(|path| {
            let unbelieved = || Trouble::new(Exit::Refused, format!("{} is not to be believed", path.display()));
            verify(&charters, &read_record(path)?).map_err(|why| unbelieved().source(io::Error::other(why)))
        });
        let before = before.transpose()?;
        Ok(Self {
            registry: Registry::of_records(before, &charters),
            charters,
            public: None,
            edge: Some(Edge::start(world.config()?.threads)?),
        })
    }

    fn edge(&self) -> Option<&Edge> {
        self.public.as_ref().map(|public| &public.edge).or(self.edge.as_ref())
    }

    fn now(&self) -> i64 {
        self.edge().map_or(0, |edge| edge.surroundings.clock.now_unix_seconds())
    }
}

pub fn add(arguments: &Add, world: &mut World) -> Result<Exit, Trouble> {
    let desk = Desk::open(&arguments.signing, None, world)?;
    let dataset = meant(&arguments.dataset, desk.public.as_ref(), Some(&desk.registry))?;
    if let Some(newest) = desk.registry.newest(dataset) {
        let class = newest.record.class;
        return Err(
            Trouble::new(Exit::Refused, format!("dataset {dataset} is in class {class} already"))
                .hint("`exclave dataset tighten` demands more for it; a dataset never leaves its class"),
        );
    }
    if let Some(class) = class_so_far(&desk, dataset)?.filter(|class| *class != arguments.class) {
        return Err(Trouble::new(
            Exit::Refused,
            format!("class-is-kept: what there is of dataset {dataset} is in class {class}; nothing was signed"),
        )
        .hint(format!("add it to that one: --class {class}")));
    }
    let record = Registration {
        class: arguments.class,
        ..unsaid(&desk, dataset)
    };
    finish(record, &arguments.demands, &arguments.signing, &desk, world)
}

/// The class of a dataset that is there already, by its agent's word or a snapshot's; unknown without a network.
fn class_so_far(desk: &Desk, dataset: DatasetId) -> Result<Option<u32>, Trouble> {
    let Some(public) = &desk.public else { return Ok(None) };
    let local = public.state.as_ref().map_or(Ok(Vec::new()), AgentState::datasets);
    let local = local.because(|| Trouble::failed("the agent's datasets can't be read"))?;
    if let Some(ours) = local.iter().find(|ours| ours.id == dataset) {
        return Ok(Some(ours.class));
    }
    let (archive, edge) = (&public.archive, &public.edge);
    let survey = survey(archive, &edge.surroundings).because(|| Trouble::failed("the heads can't be read"))?;
    let mut heads = survey.found.values().map(|found| &found.head);
    let run = heads.find(|head| head.dataset == dataset).map(|head| head.run);
    Ok(run.and_then(|run| edge.block_on(class_of_run(archive, run))))
}

pub fn tighten(arguments: &Tighten, world: &mut World) -> Result<Exit, Trouble> {
    let desk = Desk::open(&arguments.signing, arguments.after.as_deref(), world)?;
    let dataset = meant(&arguments.dataset, desk.public.as_ref(), Some(&desk.registry))?;
    let newest = desk.registry.newest(dataset).ok_or_else(|| {
        Trouble::new(Exit::Refused, format!("no record of dataset {dataset} counts here")).hint(match desk.public {
            Some(_) => "`exclave dataset add` adds it to a class",
            None => "give the record that this one follows: --after FILE",
        })
    })?;
    let before = &newest.record;
    let version = before.version.checked_add(1);
    let record = Registration {
        version: version.ok_or_else(|| Trouble::failed("the dataset's records have come to their end"))?,
        previous: Some(newest.hash),
        class: before.class,
        losses: before.losses,
        liars: before.liars,
        read_back: before.read_back,
        ..unsaid(&desk, dataset)
    };
    finish(record, &arguments.demands, &arguments.signing, &desk, world)
}

/// The first record of a dataset in some class, demanding nothing.
fn unsaid(desk: &Desk, dataset: DatasetId) -> Registration {
    Registration {
        format: Version1,
        anchor: desk.charters.anchor(),
        dataset,
        version: 1,
        previous: None,
        charter_version: desk.charters.newest().version,
        class: 0,
        created: desk.now(),
        losses: None,
        liars: None,
        read_back: None,
    }
}

fn finish(
    mut record: Registration,
    demands: &Demands,
    signing: &Signing,
    desk: &Desk,
    world: &mut World,
) -> Result<Exit, Trouble> {
    record.losses = demands.losses.or(record.losses);
    record.liars = demands.liars.or(record.liars);
    record.read_back = demands.read_back.or(record.read_back);
    let refused = || Trouble::new(Exit::Refused, "nothing was signed");
    let source = signing.passphrase.source();
    let key = keys::open_signing(&signing.administrator, Role::Administrator, &source, world)?;
    record
        .check_charter(&desk.charters, key.id())
        .map_err(|rule| refused().source(rule))?;
    let charter = desk.charters.newest();
    let class = charter.class(record.class).map(exclave_model::Class::policy);
    let policy = class.transpose().because(refused)?;
    let policy = policy.ok_or_else(|| Trouble::usage(format!("the charter has no class {}", record.class)))?;
    feasible(charter, record.class, &record.terms(&policy)).map_err(|rule| refused().source(rule))?;
    if let Some(before) = desk.registry.newest(record.dataset) {
        let lawful = record.check_after(&before.record, &desk.charters);
        lawful.map_err(|rule| refused().source(rule))?;
    }
    let failed = || Trouble::failed("the record can't be signed");
    let bytes = key.sign(&record, &mut OsEntropy).because(failed)?.to_bytes();
    let found = verify(&desk.charters, &bytes).map_err(|why| refused().source(io::Error::other(why)))?;
    may_follow(&desk.registry, &found, &desk.charters).map_err(|rule| refused().source(rule))?;
    match (&signing.out, &desk.public) {
        (Some(path), _) => {
            private_file::create(path, bytes, "dataset record")?;
            world.output.report(&Written::of(path, &found))?;
            Ok(Exit::Done)
        }
        (None, Some(public)) => publish(public, Bytes::from(bytes), world),
        (None, None) => Err(Trouble::usage("name a file for the record: --out FILE")),
    }
}

/// A record in a file.
#[derive(Serialize)]
struct Written {
    file: String,
    record: Said,
}

impl Written {
    fn of(path: &Path, found: &Registered) -> Self {
        Self {
            file: path.display().to_string(),
            record: Said::of(found),
        }
    }
}

impl Report for Written {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Said {
            dataset,
            class,
            version,
            ..
        } = &self.record;
        writeln!(
            out,
            "Record {version} of dataset {dataset} in {}: class {class}, {}",
            self.file,
            self.record.demands()
        )?;
        writeln!(out, "Put it at the sites: `exclave dataset publish {}`", self.file)
    }
}
