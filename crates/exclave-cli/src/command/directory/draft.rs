//! `exclave directory new`: a draft, with what is known filled in.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_engine::{registry::Registry, survey::survey};
use exclave_model::{Anchor, CharterFile, DatasetId, RecipientKey, RecordHash, kit::recipients};
use serde::{Deserialize, Serialize};

use super::{
    Directory, Opening, Place,
    names::{DatasetEntry, SiteEntry},
    newest, open,
};
use crate::{
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    output::Report,
    private_file,
};

/// First line of every draft.
const FORMAT: &str = "exclave directory draft v1";

/// A dataset whose name nobody has written down yet.
const UNNAMED: &str = "?";

/// The tier of a dataset that nobody has placed yet: none waits for it.
const TIER_UNPLACED: u8 = 3;

/// Stands above every new draft.
const HEADER: &str = "\
# The next directory of this archive, whole: names and contacts. It is secret until it is sealed; keep it where keys are kept.
#   exclave directory sign THIS-FILE --root KEY        seals it and signs it; every root signs the file that the one before wrote
#   exclave directory publish SIGNED-FILE              puts it at the sites, once enough roots signed
#
# [recipients] says who reads it: everyone who can open data (charter = true), and the identities in `keys`, the paths of
# public key files beside this one: an auditor's, an administrator's.
# A dataset's tier says when it comes back: 0 first, 3 last; `after` names the ids of datasets that it needs.
";

/// `directory new`.
#[derive(Debug, Args)]
pub struct New {
    /// Write the draft to FILE, and the charters that it is signed under beside it (FILE with the ending .charter)
    #[arg(long, value_name = "FILE", default_value = "directory.toml")]
    out: PathBuf,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    place: Place,
}

/// The draft of one version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    format: String,
    pub archive: String,
    pub version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    pub created: String,
    pub recipients: Readers,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dataset: Vec<DatasetEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    site: Vec<SiteEntry>,
}

/// Who is to read it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readers {
    charter: bool,
    #[serde(default)]
    keys: Vec<String>,
}

impl Draft {
    /// Reads a draft.
    pub fn parse(text: &str, shown: &str) -> Result<Self, Trouble> {
        let draft: Self = toml::from_str(text)
            .map_err(|error| Trouble::usage(format!("{shown} is no draft of a directory")).source(error))?;
        match draft.format == FORMAT {
            true => Ok(draft),
            false => Err(Trouble::usage(format!(
                "{shown} is no draft of a directory: its format line is unknown"
            ))),
        }
    }

    /// What it says.
    pub fn directory(&self, shown: &str) -> Result<Directory, Trouble> {
        let directory = Directory::of(self.dataset.clone(), self.site.clone());
        directory.check(shown)?;
        Ok(directory)
    }

    /// The archive that it is for.
    pub fn anchor(&self) -> Result<Anchor, Trouble> {
        let unreadable = || Trouble::usage(format!("archive can't be read: {:?}", self.archive));
        self.archive.parse().because(unreadable)
    }

    /// The hash of the directory before.
    pub fn previous(&self) -> Result<Option<RecordHash>, Trouble> {
        let parse = |text: &String| {
            let unreadable = || Trouble::usage(format!("previous can't be read: {text:?}"));
            text.parse().because(unreadable)
        };
        self.previous.as_ref().map(parse).transpose()
    }
}

impl Readers {
    /// Their keys: each once.
    pub fn keys(&self, charter: &exclave_model::Charter, folder: &Path) -> Result<Vec<RecipientKey>, Trouble> {
        let mut readers = match self.charter {
            true => recipients(charter),
            false => Vec::new(),
        };
        for path in self.keys.iter().map(|path| folder.join(path)) {
            let key = keys::read(&path)?
                .recipient()
                .because(|| Trouble::usage(format!("{} is no recovery identity", path.display())))?;
            readers.push(key);
        }
        let mut seen = BTreeSet::new();
        readers.retain(|key| seen.insert(key.id()));
        match readers.is_empty() {
            true => Err(Trouble::usage("the draft names nobody who could read the directory")),
            false => Ok(readers),
        }
    }
}

/// Where the charters of a draft lie.
pub fn charters_beside(path: &Path) -> PathBuf {
    let stem = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let stem = stem.unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default();
    path.with_file_name(format!("{stem}.charter"))
}

pub fn new(arguments: &New, world: &mut World) -> Result<Exit, Trouble> {
    let history = charters_beside(&arguments.out);
    for path in [&arguments.out, &history] {
        if path.symlink_metadata().is_ok() {
            return Err(Trouble::usage(format!("{} is there already", path.display()))
                .hint("name another file with --out, or move that one away"));
        }
    }
    let public = arguments.place.open(world)?;
    let (archive, edge) = (&public.archive, &public.edge);
    let before = newest(&public)?;
    let identity = arguments.opening.identity(world)?;
    let known = match (&before, &identity) {
        (Some(before), Some(identity)) => open(before, identity)?,
        (Some(_), None) => {
            return Err(
                Trouble::usage("there is a directory already, and the next one begins with what it says")
                    .hint("open it: --identity FILE, or --share FILE .."),
            );
        }
        (None, _) => Directory::default(),
    };
    let survey = survey(archive, &edge.surroundings).because(|| Trouble::failed("the heads can't be read"))?;
    let registry = edge.block_on(Registry::find(archive));
    let local = public
        .state
        .as_ref()
        .map_or(Ok(Vec::new()), exclave_engine::AgentState::datasets);
    let local = local.because(|| Trouble::failed("the agent's datasets can't be read"))?;
    let mut ids: BTreeSet<DatasetId> = survey.found.values().map(|found| found.head.dataset).collect();
    ids.extend(registry.datasets());
    ids.extend(local.iter().map(|dataset| dataset.id));
    let name_of = |id: DatasetId| local.iter().find(|dataset| dataset.id == id);
    let (mut dataset, mut site) = (known.dataset.clone(), known.site.clone());
    for id in ids.iter().filter(|id| known.dataset(&id.to_hex()).is_none()) {
        dataset.push(DatasetEntry {
            id: id.to_hex(),
            name: name_of(*id).map_or_else(|| UNNAMED.to_owned(), |ours| ours.name.clone()),
            tier: TIER_UNPLACED,
            ..DatasetEntry::default()
        });
    }
    let charter = archive.charter();
    for record in &charter.sites {
        if !known.site.iter().any(|entry| entry.id == record.id.to_hex()) {
            site.push(SiteEntry {
                id: record.id.to_hex(),
                name: record.name.clone(),
                ..SiteEntry::default()
            });
        }
    }
    let unnamed = dataset.iter().filter(|entry| entry.name == UNNAMED).count();
    let draft = Draft {
        format: FORMAT.to_owned(),
        archive: archive.anchor.to_hex(),
        version: before
            .as_ref()
            .map_or(0, |before| before.companion.version)
            .saturating_add(1),
        previous: before.as_ref().map(|before| before.digest.to_hex()),
        created: format::rfc3339(edge.surroundings.clock.now_unix_seconds()),
        recipients: Readers {
            charter: true,
            keys: Vec::new(),
        },
        dataset,
        site,
    };
    let body = toml::to_string(&draft).because(|| Trouble::failed("the draft can't be written down"))?;
    let objects = edge
        .block_on(exclave_engine::archive::history_objects(archive))
        .ok_or_else(|| Trouble::failed("the sites gave the charter and then did not"))?;
    let file = CharterFile {
        charters: objects,
        plates: Vec::new(),
    };
    private_file::create(&history, file.to_bytes(), "history")?;
    private_file::create(&arguments.out, format!("{HEADER}\n{body}"), "draft")?;
    world.output.report(&Drafted {
        draft: arguments.out.display().to_string(),
        history: history.display().to_string(),
        version: draft.version,
        datasets: draft.dataset.len(),
        unnamed,
    })?;
    Ok(Exit::Done)
}

/// A draft that was made.
#[derive(Serialize)]
struct Drafted {
    draft: String,
    history: String,
    version: u32,
    datasets: usize,
    unnamed: usize,
}

impl Report for Drafted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { draft, history, .. } = self;
        writeln!(
            out,
            "Directory version {} begun in {draft}, with {history} beside it",
            self.version
        )?;
        let datasets = format::count(self.datasets as u64, "dataset");
        writeln!(out, "{datasets}, {} of them without a name", self.unnamed)?;
        writeln!(
            out,
            "Write down names and contacts, then `exclave directory sign {draft} --root KEY`"
        )
    }
}
