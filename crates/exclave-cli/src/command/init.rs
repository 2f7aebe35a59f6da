//! `exclave init`: founds an archive.
//!
//! Order: everything that can be refused is refused before anything is written. Then the charter goes to every site,
//! then the root key, the agent's state, the anchors in the identity files and the configuration are written, in this
//! order: an interrupted `init` leaves an archive that nobody uses, never one whose root key is lost.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_engine::{AgentState, InitError, NewArchive};
use exclave_model::{RecipientKey, Role, SiteId};
use exclave_seal::{KeyKind, SigningKey, entropy::draw};
use exclave_site::Scheme;
use serde::Serialize;

use super::{
    World,
    plan::{self, ClassArguments, Plan},
};
use crate::{
    arguments::{PassphraseArguments, SiteArguments},
    config::{Config, Found, SiteConfig, locate, written},
    credentials::CredentialSource,
    error::{Context as _, Trouble},
    exit::Exit,
    keys,
    output::Report,
    private_file, sites,
    surroundings::{self, Edge, OsEntropy},
};

/// `init`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    sites: SiteArguments,
    /// A recovery identity that will open what is replicated (its public half suffices); may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    recovery: Vec<PathBuf>,
    #[command(flatten)]
    class: ClassArguments,
    /// Write the root key, which vouches for the charter, to FILE
    #[arg(long, value_name = "FILE", default_value = "exclave-root.key")]
    root: PathBuf,
    /// Let FILE be the root key, made before with `key generate --role root`, instead of a new one
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    use_root: Option<PathBuf>,
    /// Let FILE be the agent's writer key, made before with `key generate --role writer`, instead of a new one
    #[arg(long, value_name = "FILE")]
    use_writer: Option<PathBuf>,
    /// Keep the writer's key, journal and catalog in DIR
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    /// Show what would be founded; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Founds the archive.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let target = Target::find(arguments, world)?;
    let chosen = target.sites(arguments)?;
    refuse_one_directory_twice(&chosen)?;
    let recipients = recipients(&arguments.recovery)?;
    let mut entropy = OsEntropy;
    let no_randomness = || Trouble::failed("no archive can be founded");
    let mut records = Vec::new();
    for site in &chosen {
        records.push(plan::record(
            site,
            SiteId::from_bytes(draw(&mut entropy).because(no_randomness)?),
        ));
    }
    let plan = Plan::make(&chosen, &records, &arguments.class.over(&target.config.class))?;
    if arguments.dry_run {
        world.output.report(&plan)?;
        return Ok(Exit::Done);
    }
    let sites_text = target.sites_text(&chosen)?;
    let open = sites::open_all(chosen.clone(), &world.environment)?;
    let source = arguments.passphrase.source();
    let (root, new_root) = match &arguments.use_root {
        Some(path) => (keys::open_signing(path, Role::Root, &source, world)?, None),
        None => {
            let passphrase = source.new_one("the root key", &world.environment)?;
            let root = SigningKey::generate(&mut entropy).because(no_randomness)?;
            let file = keys::signing_file(&root, Role::Root, &passphrase)?;
            (root, Some(file))
        }
    };
    let writer = match &arguments.use_writer {
        Some(path) => keys::open_signing(path, Role::Writer, &source, world)?,
        None => SigningKey::generate(&mut entropy).because(no_randomness)?,
    };

    let edge = Edge::start(target.config.threads)?;
    let new = NewArchive {
        root: &root,
        writer: writer.public().clone(),
        recipients,
        sites: records
            .into_iter()
            .zip(open.into_iter().map(|site| site.site))
            .collect(),
        policy: plan.policy(),
    };
    let archive = exclave_engine::init(new, &edge.surroundings).map_err(refused)?;

    if let Some(file) = &new_root {
        keys::create(&arguments.root, file)?;
    }
    AgentState::set_up(&target.state_dir, &writer, &mut entropy)
        .because(|| Trouble::failed(format!("the state can't be set up in {}", target.state_dir.display())))?;
    for path in &arguments.recovery {
        keys::set_archive(path, archive.anchor)?;
    }
    target.write(&archive.anchor.to_hex(), &sites_text, arguments)?;
    world.output.report(&Founded {
        archive: archive.anchor.to_hex(),
        sites: chosen.iter().map(|site| site.name.clone()).collect(),
        credentials: target.credentials(&chosen),
        promise: plan.promise().to_owned(),
        warnings: plan.warnings().map(str::to_owned).collect(),
        config: target.file.display().to_string(),
        state_dir: target.state_dir.display().to_string(),
        root_key: arguments
            .use_root
            .as_ref()
            .unwrap_or(&arguments.root)
            .display()
            .to_string(),
        identities: arguments
            .recovery
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
    })?;
    Ok(Exit::Done)
}

/// The files that will be written.
struct Target {
    /// The configuration as the next command will find it, but for the sites that are given here.
    config: Config,
    /// The configuration's file.
    file: PathBuf,
    /// Its text, when it is there already.
    text: Option<String>,
    /// The key `credentials` that it is to get.
    credentials: Option<String>,
    state_dir: PathBuf,
}

impl Target {
    fn find(arguments: &Arguments, world: &World) -> Result<Self, Trouble> {
        let named = world.global.config.as_deref();
        let file = match locate(named, &world.environment)? {
            Found::File(file) => file,
            Found::Nothing => PathBuf::from("exclave.toml"),
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(
                    Trouble::usage(format!("the configuration {} can't be read", file.display())).source(error),
                );
            }
        };
        let mut config = Config::parse(text.as_deref().unwrap_or_default(), Some(file.clone()))?;
        if let Some(archive) = config.archive {
            return Err(
                Trouble::usage(format!("{} belongs to archive {archive} already", file.display()))
                    .hint("name another file for another archive: --config FILE"),
            );
        }
        if text.is_some() && !arguments.sites.sites.is_empty() {
            return Err(
                Trouble::usage(format!("{} is there already, and --site is given", file.display()))
                    .hint("leave --site out to use the sites of that file, or name another with --config FILE"),
            );
        }
        let credentials = refer_to_credentials(arguments.sites.credentials.as_deref(), &file, &mut config)?;
        let state_dir = match &arguments.state_dir {
            Some(folder) => std::path::absolute(folder).because(|| Trouble::usage("--state-dir is no path"))?,
            None => config.state_dir(&world.environment),
        };
        if AgentState::open(&state_dir).is_ok() {
            return Err(
                Trouble::usage(format!("{} belongs to a writer already", state_dir.display()))
                    .hint("name another folder: --state-dir DIR"),
            );
        }
        if arguments.use_root.is_none() {
            refuse_root_there(&arguments.root)?;
        }
        refuse_root_in_state(arguments.use_root.as_ref().unwrap_or(&arguments.root), &state_dir)?;
        Ok(Self {
            config,
            file,
            text,
            credentials,
            state_dir,
        })
    }

    /// The sites. Those of a configuration that is there already are opened as the next command will open them.
    fn sites(&self, arguments: &Arguments) -> Result<Vec<SiteConfig>, Trouble> {
        let mut wanted = arguments.sites.wanted();
        if self.text.is_some() {
            wanted.credentials = None;
        }
        sites::choose(&wanted, &self.config)
    }

    /// The tables of the sites for a new configuration.
    fn sites_text(&self, sites: &[SiteConfig]) -> Result<String, Trouble> {
        match &self.text {
            Some(_) => Ok(String::new()),
            None => sites.iter().map(written::site).collect(),
        }
    }

    /// Where the next command will get the credentials of each site that needs some.
    fn credentials(&self, sites: &[SiteConfig]) -> Vec<SiteCredentials> {
        let remote = sites.iter().filter(|site| site.needs_credentials());
        remote
            .map(|site| SiteCredentials {
                site: site.name.clone(),
                read_from: match (&site.credentials, &self.config.credentials) {
                    (CredentialSource::Given(_), Some(file)) => format!("file {}", file.display()),
                    (source, _) => source.to_string(),
                },
            })
            .collect()
    }

    /// Writes the configuration: a new one, or the archive's line at the top of the one that is there.
    fn write(&self, anchor: &str, sites_text: &str, arguments: &Arguments) -> Result<(), Trouble> {
        let mut text = String::from("# Every key, its default and why: exclave man --settings\n");
        if self.text.is_some() {
            text.clear();
        }
        text.push_str(&format!("archive = \"{anchor}\"\n"));
        if self.config.state_dir.is_none() && (arguments.state_dir.is_some() || self.text.is_none()) {
            let folder = self
                .file
                .parent()
                .and_then(|base| self.state_dir.strip_prefix(base).ok());
            let folder = folder.unwrap_or(&self.state_dir).display().to_string();
            text.push_str(&format!("state_dir = {}\n", toml::Value::from(folder)));
        }
        if let Some(file) = &self.credentials {
            text.push_str(&format!("credentials = {}\n", toml::Value::from(file.as_str())));
        }
        text.push_str(self.text.as_deref().unwrap_or(sites_text));
        private_file::replace(&self.file, &text, "configuration")
    }
}

/// The value of the key `credentials` that makes the next commands read the file given by `--credentials`; nothing when
/// none is given or the configuration has it.
fn refer_to_credentials(given: Option<&Path>, file: &Path, config: &mut Config) -> Result<Option<String>, Trouble> {
    let Some(given) = given else {
        return Ok(None);
    };
    let absolute = |path: &Path| std::path::absolute(path).because(|| Trouble::usage("--credentials is no path"));
    let wanted = absolute(given)?;
    if let Some(named) = &config.credentials {
        return match absolute(named)? == wanted {
            true => Ok(None),
            false => Err(Trouble::usage(format!(
                "{} names credentials {} already, and --credentials another file",
                file.display(),
                named.display()
            ))
            .hint("leave --credentials out, or put all into one file")),
        };
    }
    let base = absolute(private_file::directory_of(file))?;
    let text = wanted
        .strip_prefix(&base)
        .unwrap_or(&wanted)
        .to_str()
        .map(str::to_owned);
    let text = text.ok_or_else(|| Trouble::usage("the path of --credentials is no UTF-8, which settings must be"))?;
    config.take_credentials_from(given.to_owned());
    Ok(Some(text))
}

/// One directory under two texts would be two sites to the charter, and one to its plates: nothing could be committed. A
/// directory that can't be looked at is told by name when the charter is put there.
fn refuse_one_directory_twice(sites: &[SiteConfig]) -> Result<(), Trouble> {
    let mut seen: BTreeMap<(u64, u64), &SiteConfig> = BTreeMap::new();
    for site in sites {
        let Scheme::File { root } = site.address.scheme() else {
            continue;
        };
        let Ok(about) = root.metadata() else { continue };
        if let Some(other) = seen.insert((about.dev(), about.ino()), site) {
            return Err(
                Trouble::usage(format!("{} and {} are one directory", other.address, site.address))
                    .hint("a site holds one shard of each stripe; give every site a directory of its own"),
            );
        }
    }
    Ok(())
}

/// A new root key is written over nothing.
fn refuse_root_there(root: &Path) -> Result<(), Trouble> {
    match root.symlink_metadata() {
        Ok(_) => Err(
            Trouble::usage(format!("the key file {} is there already", root.display()))
                .hint("a key is never written over; name another file with --root, or found with that key: --use-root"),
        ),
        Err(_) => Ok(()),
    }
}

/// A root key in the agent's folder would let whoever takes over the agent rewrite the charter.
fn refuse_root_in_state(root: &Path, state_dir: &Path) -> Result<(), Trouble> {
    let folder = private_file::directory_of(root);
    let folder = folder
        .canonicalize()
        .because(|| Trouble::usage(format!("the folder of {} is not there", root.display())))?;
    // The state folder need not be there yet; then nothing can lie in it.
    let state = state_dir.canonicalize().or_else(|_| std::path::absolute(state_dir));
    let inside = state.is_ok_and(|state| folder.starts_with(state));
    if inside {
        return Err(Trouble::usage(format!(
            "the root key {} would lie in the agent's state directory {}",
            root.display(),
            state_dir.display()
        ))
        .hint("name a place that the agent does not have, best a stick: --root FILE"));
    }
    Ok(())
}

fn recipients(paths: &[PathBuf]) -> Result<Vec<RecipientKey>, Trouble> {
    let mut recipients: Vec<RecipientKey> = Vec::new();
    for path in paths {
        let key = keys::read(path)?;
        if key.kind() != KeyKind::Recovery {
            let what = format!(
                "{} is a {} key, not a recovery identity",
                path.display(),
                key.kind().as_str()
            );
            return Err(Trouble::usage(what).hint("make one: exclave key generate --out recovery.key"));
        }
        if let Some(archive) = key.archive() {
            return Err(
                Trouble::usage(format!("{} belongs to archive {archive} already", path.display()))
                    .hint("make a further one: exclave key generate --out FILE"),
            );
        }
        let recipient = key
            .recipient()
            .because(|| Trouble::usage(format!("{} is of no use", path.display())))?;
        if recipients.contains(&recipient) {
            return Err(Trouble::usage(format!(
                "{} holds a key that was given before",
                path.display()
            )));
        }
        recipients.push(recipient);
    }
    recipients.sort_by_key(RecipientKey::id);
    Ok(recipients)
}

fn refused(error: InitError) -> Trouble {
    let trouble = Trouble::failed("the archive was not founded");
    match &error {
        InitError::Sites { troubles, .. } => {
            let said: Vec<String> = troubles.iter().map(ToString::to_string).collect();
            let hint = troubles.iter().find_map(|trouble| sites::hint(&trouble.error));
            let trouble = Trouble::failed(format!("the archive was not founded: {error}: {}", said.join("; ")));
            match hint {
                Some(hint) => trouble.hint(hint),
                None => trouble.hint("`exclave site check` tells more; founding needs every site"),
            }
        }
        InitError::Charter(_) | InitError::Version(_) | InitError::Entropy(_) => trouble.source(error),
    }
}

/// What was founded.
#[derive(Serialize)]
struct Founded {
    archive: String,
    sites: Vec<String>,
    credentials: Vec<SiteCredentials>,
    promise: String,
    warnings: Vec<String>,
    config: String,
    state_dir: String,
    root_key: String,
    identities: Vec<String>,
}

/// Where a site's credentials are read from; they are copied nowhere.
#[derive(Serialize)]
struct SiteCredentials {
    site: String,
    read_from: String,
}

impl Report for Founded {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Archive {}", self.archive)?;
        writeln!(out, "at {}.", self.sites.join(", "))?;
        writeln!(out, "{}", self.promise)?;
        for warning in &self.warnings {
            writeln!(out, "Warning: {warning}")?;
        }
        writeln!(out, "\nWrote {} (settings), {} (state)", self.config, self.state_dir)?;
        writeln!(
            out,
            "and {} (root key). Take the root key and {}",
            self.root_key,
            self.identities.join(", ")
        )?;
        writeln!(out, "away from this machine: it needs neither to replicate.")?;
        if !self.credentials.is_empty() {
            writeln!(out, "\nCredentials were copied nowhere. The next commands read them")?;
        }
        for SiteCredentials { site, read_from } in &self.credentials {
            writeln!(out, "  for {site} from {read_from}")?;
        }
        writeln!(out, "\nNext: exclave replicate PATH")
    }
}
