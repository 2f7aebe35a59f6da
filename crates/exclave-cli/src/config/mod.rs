//! Settings: a commented TOML compiled in, under the user's own file.
//!
//! `config/exclave.toml` is three things at once: the documentation of every key, the defaults, and, with its examples
//! uncommented, the list of keys there are. So none of them can disagree.
//!
//! 1. [`mod@locate`] finds the user's file;
//! 2. [`known`] refuses keys that don't exist, with the line and the nearest one that does;
//! 3. [`raw`] lays the user's tables over the defaults and reads types;
//! 4. here the result is checked: addresses, names, hosting, code, archive.
//!
//! Secrets are never in this file: see [`crate::credentials`].

mod known;
mod locate;
#[cfg(test)]
mod nearly_good;
mod raw;
mod witness;
pub mod written;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use exclave_dataset::{cut::ChunkSizes, pack::CompressionLevel};
use exclave_model::{Anchor, Geometry, Hosting, Pace, ReadBack, charter::site_name};
use exclave_plan::TripwireLimits;
use exclave_site::{Scheme, SiteAddress, SiteSettings};

use self::raw::{RawClass, RawDataset, RawFile, RawSite};
pub use self::{
    locate::{Found, locate},
    witness::{WitnessConfig, asking},
};
use crate::{
    credentials::CredentialSource,
    environment::Environment,
    error::{Context as _, Trouble},
    names,
};

/// The reference configuration: every key, its default and why.
pub const REFERENCE: &str = include_str!("../../../../config/exclave.toml");

/// Checked settings.
#[derive(Debug)]
pub struct Config {
    /// The file they came from; `None` when there is none and all is default.
    pub file: Option<PathBuf>,
    /// The archive.
    pub archive: Option<Anchor>,
    /// Where our memory lies, when the file says so.
    pub state_dir: Option<PathBuf>,
    /// The identity to open archives with.
    pub identity: Option<PathBuf>,
    /// Credentials of sites by address, where a site doesn't say otherwise.
    pub credentials: Option<PathBuf>,
    /// Credentials that can only read, by address, for kits.
    pub read_credentials: Option<PathBuf>,
    /// Threads; `None` is one per processor.
    pub threads: Option<std::num::NonZeroUsize>,
    /// How datasets are protected.
    pub class: ClassSettings,
    /// The sites.
    pub sites: Vec<SiteConfig>,
    /// The datasets that `replicate` without a path takes.
    pub datasets: Vec<DatasetConfig>,
    /// The witnesses that are asked.
    pub witnesses: Vec<WitnessConfig>,
    every_site: toml::Table,
    every_dataset: toml::Table,
    base: PathBuf,
}

/// How datasets are protected, as far as the file says.
#[derive(Debug, Clone)]
pub struct ClassSettings {
    /// k and n.
    pub code: Option<Geometry>,
    /// f.
    pub losses: Option<u8>,
    /// b.
    pub liars: u8,
    /// Payload of a full shard, in bytes.
    pub payload_bytes: u64,
    /// How shards are read back.
    pub read_back: ReadBack,
}

/// One site.
#[derive(Debug, Clone)]
pub struct SiteConfig {
    /// What reports call it.
    pub name: String,
    /// Where it is.
    pub address: SiteAddress,
    /// How it is reached; the credentials are still to be filled in.
    pub settings: SiteSettings,
    /// Where its credentials come from.
    pub credentials: CredentialSource,
    /// Whose hands it is in.
    pub hosting: Hosting,
    /// When it is used.
    pub pace: Pace,
    /// What fails together with it.
    pub domains: Domains,
}

impl SiteConfig {
    /// True when both name one store: the same bucket and prefix, at the same endpoint.
    pub fn is_one_store_with(&self, other: &Self) -> bool {
        let endpoint = |site: &Self| {
            site.settings
                .endpoint
                .as_deref()
                .map(|text| text.trim_end_matches('/').to_owned())
        };
        self.address == other.address && endpoint(self) == endpoint(other)
    }

    /// False for directories.
    pub fn needs_credentials(&self) -> bool {
        match self.address.scheme() {
            Scheme::File { .. } | Scheme::Memory { .. } => false,
            Scheme::S3 { .. }
            | Scheme::Azure { .. }
            | Scheme::Gcs { .. }
            | Scheme::WebDav { .. }
            | Scheme::Sftp { .. } => true,
        }
    }
}

/// What fails together with a site.
#[derive(Debug, Clone, Default)]
pub struct Domains {
    /// Country.
    pub country: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Operator.
    pub operator: Option<String>,
    /// Other states whose law binds the operator.
    pub legal_reach: Vec<String>,
    /// The identity system that guards it.
    pub iam_realm: Option<String>,
}

/// One dataset.
#[derive(Debug, Clone)]
pub struct DatasetConfig {
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub source: SourceConfig,
    /// Its class in the charter; none: the one it has, or the first.
    pub class: Option<u32>,
    /// The label of its runs.
    pub label: String,
    /// Exclude rules, those of the file included.
    pub exclude: Vec<String>,
    /// Stays on one file system.
    pub one_file_system: bool,
    /// Leaves out marked caches.
    pub exclude_caches: bool,
    /// Bounds of its chunks.
    pub chunk_sizes: ChunkSizes,
    /// How hard chunks are compressed.
    pub compression: CompressionLevel,
    /// What a stream must give.
    pub streams: StreamRules,
    /// From which share on a change of the source is told.
    pub tripwires: TripwireLimits,
}

/// What a stream must give before it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRules {
    /// Least bytes.
    pub min_bytes: u64,
    /// How much shorter than in the snapshot before it may be, in percent.
    pub max_shrink_percent: u8,
}

/// What a dataset is made of.
#[derive(Debug, Clone)]
pub enum SourceConfig {
    /// A directory, a file or a block device.
    Path(PathBuf),
    /// The output of commands.
    Commands {
        /// By the stream's name: program and arguments.
        argv: BTreeMap<String, Vec<String>>,
        /// Where it runs.
        directory: Option<PathBuf>,
        /// The variables it gets.
        environment: Vec<String>,
        /// When it is killed.
        timeout: Option<std::time::Duration>,
    },
}

impl Config {
    /// Finds, reads and checks the user's file.
    pub fn load(named: Option<&Path>, environment: &Environment) -> Result<Self, Trouble> {
        match locate(named, environment)? {
            Found::File(path) => {
                let text = std::fs::read_to_string(&path)
                    .because(|| Trouble::usage(format!("the configuration {} can't be read", path.display())))?;
                Self::parse(&text, Some(path))
            }
            Found::Nothing => Self::parse("", None),
        }
    }

    /// Reads and checks settings.
    pub fn parse(text: &str, file: Option<PathBuf>) -> Result<Self, Trouble> {
        let shown = file
            .as_ref()
            .map_or_else(|| "configuration".to_owned(), |file| file.display().to_string());
        known::check(text, &shown)?;
        let raw = RawFile::read(text, &shown)?;
        let base = file
            .as_deref()
            .and_then(Path::parent)
            .map_or_else(PathBuf::new, Path::to_owned);
        let archive = raw.archive.as_deref().map(str::parse).transpose();
        let archive =
            archive.map_err(|bad: exclave_model::BadId| Trouble::usage(format!("{shown}: archive: {bad}")))?;
        let mut config = Self {
            archive,
            state_dir: raw.state_dir.map(|path| base.join(path)),
            identity: raw.identity.map(|path| base.join(path)),
            credentials: raw.credentials.map(|path| base.join(path)),
            read_credentials: raw.read_credentials.map(|path| base.join(path)),
            threads: std::num::NonZeroUsize::new(raw.threads as usize),
            class: class(&raw.class, &shown)?,
            sites: Vec::new(),
            datasets: Vec::new(),
            witnesses: Vec::new(),
            every_site: raw.every_site,
            every_dataset: raw.every_dataset,
            base,
            file,
        };
        for (number, table) in raw.sites.into_iter().enumerate() {
            let site = config.site(table, &format!("{shown}: site {}", number + 1))?;
            if let Some(other) = config.sites.iter().find(|other| other.name == site.name) {
                return Err(Trouble::usage(format!(
                    "{shown}: two sites are named {}: {} and {}",
                    site.name, other.address, site.address
                )));
            }
            if config.sites.iter().any(|other| other.is_one_store_with(&site)) {
                return Err(Trouble::usage(format!("{shown}: two sites are {}", site.address))
                    .hint(
                        "a site holds one shard of each stripe; give every site a bucket or prefix of its own, or its endpoint",
                    ));
            }
            config.sites.push(site);
        }
        for (number, table) in raw.datasets.into_iter().enumerate() {
            let dataset = config.dataset(table, &format!("{shown}: dataset {}", number + 1))?;
            if config.datasets.iter().any(|other| other.name == dataset.name) {
                return Err(Trouble::usage(format!(
                    "{shown}: two datasets are named {}",
                    dataset.name
                )));
            }
            config.datasets.push(dataset);
        }
        for (number, table) in raw.witnesses.into_iter().enumerate() {
            let witness = WitnessConfig::read(table, &config.base, &format!("{shown}: witness {}", number + 1))?;
            if config.witnesses.iter().any(|other| other.name == witness.name) {
                return Err(Trouble::usage(format!(
                    "{shown}: two witnesses are named {}",
                    witness.name
                )));
            }
            config.witnesses.push(witness);
        }
        Ok(config)
    }

    /// Takes credentials from a file of settings by address, as with the key `credentials`.
    pub fn take_credentials_from(&mut self, file: PathBuf) {
        for site in &mut self.sites {
            let source = &mut site.credentials;
            if let CredentialSource::VariablesIfSet(variables) | CredentialSource::ByAddress { variables, .. } = source
            {
                *source = CredentialSource::ByAddress {
                    file: file.clone(),
                    variables: std::mem::take(variables),
                };
            }
        }
        self.credentials = Some(file);
    }

    /// A site given by its address alone, with what holds for every site.
    pub fn site_at(&self, address: &SiteAddress, name: Option<&str>) -> Result<SiteConfig, Trouble> {
        let mut table = toml::Table::new();
        table.insert("address".into(), address.to_string().into());
        let taken = self.sites.iter().map(|site| site.name.as_str());
        let name = name.map_or_else(|| names::of_address(address, taken), str::to_owned);
        table.insert("name".into(), name.into());
        self.site(table, &format!("site {address}"))
    }

    /// A dataset given by its path alone, with what holds for every dataset.
    pub fn dataset_at(&self, path: &Path, name: &str) -> Result<DatasetConfig, Trouble> {
        let mut table = toml::Table::new();
        table.insert("name".into(), name.into());
        let mut dataset = self.dataset_from(table, SourceConfig::Path(path.to_owned()), "dataset")?;
        dataset.name = name.to_owned();
        Ok(dataset)
    }

    /// Where our memory lies: as the file says; else beside it, or in `$XDG_STATE_HOME` when the file lies in
    /// `$XDG_CONFIG_HOME`.
    pub fn state_dir(&self, environment: &Environment) -> PathBuf {
        if let Some(folder) = &self.state_dir {
            return folder.clone();
        }
        let in_xdg = environment
            .config_home()
            .is_some_and(|home| self.base.starts_with(home));
        match environment.state_home().filter(|_| in_xdg) {
            Some(home) => home.join("exclave"),
            None => self.base.join("exclave-state"),
        }
    }

    fn site(&self, table: toml::Table, place: &str) -> Result<SiteConfig, Trouble> {
        let raw: RawSite = raw::over(&self.every_site, table, place)?;
        let wrong = |why: String| Trouble::usage(format!("{place}: {why}"));
        let text = raw
            .address
            .as_deref()
            .ok_or_else(|| wrong("it has no address".into()))?;
        let address = SiteAddress::parse(text).map_err(|bad| wrong(bad.to_string()))?;
        let name = match &raw.name {
            Some(name) => name.clone(),
            None => names::of_address(&address, self.sites.iter().map(|site| site.name.as_str())),
        };
        if !site_name(&name) {
            return Err(wrong(format!("the name {name:?} is not 1 to 40 of a-z, 0-9 and -")));
        }
        let hosting = match &raw.hosting {
            Some(word) => word.parse().map_err(|why| wrong(format!("hosting: {why}")))?,
            None => hosting_of(&address, raw.endpoint.is_some()),
        };
        let pace = raw.pace.parse().map_err(|why| wrong(format!("pace: {why}")))?;
        let in_base = |path: &PathBuf| self.base.join(path);
        let text_of =
            |file: &Option<PathBuf>, file_key: &str, inline: &Option<String>, inline_key: &str| match (file, inline) {
                (Some(_), Some(_)) => Err(wrong(format!(
                    "it has a {file_key} and a {inline_key}; one of them is enough"
                ))),
                (Some(path), None) => {
                    let text = std::fs::read_to_string(in_base(path));
                    let text =
                        text.because(|| wrong(format!("its {file_key} {} can't be read", in_base(path).display())))?;
                    Ok(Some(text))
                }
                (None, inline) => Ok(inline.clone()),
            };
        let ca_pem = text_of(&raw.ca_file, "ca_file", &raw.ca_pem, "ca_pem")?;
        let known_hosts = text_of(
            &raw.known_hosts_file,
            "known_hosts_file",
            &raw.known_hosts,
            "known_hosts",
        )?;
        let credentials = match (&raw.credentials_file, &raw.credential, &raw.credentials_env) {
            (Some(file), _, _) => CredentialSource::File(in_base(file)),
            (None, Some(name), _) => CredentialSource::Systemd(name.clone()),
            (None, None, Some(prefix)) => CredentialSource::Variables(prefix.clone()),
            (None, None, None) => match &self.credentials {
                Some(file) => CredentialSource::ByAddress {
                    file: file.clone(),
                    variables: names::variable_prefix(&name),
                },
                None => CredentialSource::VariablesIfSet(names::variable_prefix(&name)),
            },
        };
        Ok(SiteConfig {
            settings: raw.settings(ca_pem, known_hosts),
            credentials,
            hosting,
            pace,
            domains: Domains {
                country: raw.country,
                region: raw.region,
                operator: raw.operator,
                legal_reach: raw.legal_reach,
                iam_realm: raw.iam_realm,
            },
            name,
            address,
        })
    }

    fn dataset(&self, table: toml::Table, place: &str) -> Result<DatasetConfig, Trouble> {
        let raw: RawDataset = raw::over(&self.every_dataset, table.clone(), place)?;
        let wrong = |why: &str| Trouble::usage(format!("{place}: {why}"));
        let commands = match (raw.command, raw.commands) {
            // The one stream bears the dataset's name.
            (Some(argv), None) => Some([(raw.name.unwrap_or_default(), argv)].into()),
            (None, commands) => commands,
            (Some(_), Some(_)) => return Err(wrong("it has a command and commands; write it among them")),
        };
        let source = match (raw.path, commands) {
            (Some(path), None) => SourceConfig::Path(self.base.join(path)),
            (None, Some(argv)) => {
                if argv.is_empty() || argv.values().any(Vec::is_empty) {
                    return Err(wrong("its command is empty"));
                }
                if let Some(name) = argv.keys().find(|name| !crate::datasets::lawful(name)) {
                    return Err(wrong(&format!(
                        "{name:?} is no name of a stream: 1 to 200 bytes, no slash, no control character"
                    )));
                }
                SourceConfig::Commands {
                    argv,
                    directory: raw.directory.map(|path| self.base.join(path)),
                    environment: raw.environment,
                    timeout: raw.timeout.map(|span| span.0),
                }
            }
            (None, None) => return Err(wrong("it has neither a path nor a command")),
            (Some(_), Some(_)) => return Err(wrong("it has a path and a command; one of them is the dataset")),
        };
        self.dataset_from(table, source, place)
    }

    fn dataset_from(&self, table: toml::Table, source: SourceConfig, place: &str) -> Result<DatasetConfig, Trouble> {
        let raw: RawDataset = raw::over(&self.every_dataset, table, place)?;
        let wrong = |why: String| Trouble::usage(format!("{place}: {why}"));
        let name = raw.name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| wrong("it has no name".into()))?;
        if !crate::datasets::lawful(&name) {
            return Err(wrong(format!(
                "{name:?} is no name: 1 to 200 bytes, no slash, no control character"
            )));
        }
        let mut exclude = raw.exclude;
        if let Some(path) = raw.exclude_file.map(|path| self.base.join(path)) {
            let text = std::fs::read_to_string(&path)
                .because(|| wrong(format!("its exclude_file {} can't be read", path.display())))?;
            exclude.extend(text.lines().map(str::to_owned));
        }
        let shares = [raw.tripwire_changed, raw.tripwire_renamed, raw.tripwire_shrunk];
        if shares.iter().any(|share| !(1..=100).contains(share)) {
            return Err(wrong("a tripwire's share is 1 to 100 percent".into()));
        }
        let compression = CompressionLevel::new(raw.compression).map_err(|bad| wrong(format!("compression: {bad}")))?;
        Ok(DatasetConfig {
            name,
            source,
            class: raw.class,
            label: raw.label,
            exclude,
            one_file_system: raw.one_file_system,
            exclude_caches: raw.exclude_caches,
            chunk_sizes: chunk_sizes(raw.chunk.0).map_err(|why| wrong(format!("chunk: {why}")))?,
            compression,
            streams: StreamRules {
                min_bytes: raw.min_bytes.0,
                max_shrink_percent: raw.max_shrink,
            },
            tripwires: TripwireLimits {
                changed_percent: raw.tripwire_changed,
                renamed_percent: raw.tripwire_renamed,
                shrunk_percent: raw.tripwire_shrunk,
            },
        })
    }
}

fn class(raw: &RawClass, shown: &str) -> Result<ClassSettings, Trouble> {
    let wrong = |key: &str, why: String| Trouble::usage(format!("{shown}: class.{key}: {why}"));
    let code = raw.code.as_deref().map(str::parse).transpose();
    Ok(ClassSettings {
        code: code.map_err(|why: exclave_model::BadGeometry| wrong("code", why.to_string()))?,
        losses: raw.losses,
        liars: raw.liars,
        payload_bytes: raw.payload.0,
        read_back: raw.read_back.parse().map_err(|why| wrong("read_back", why))?,
    })
}

/// Bounds around an average: a quarter and four times, as DESIGN's 256 KiB, 1 MiB and 4 MiB.
fn chunk_sizes(average: u64) -> Result<ChunkSizes, String> {
    let average = usize::try_from(average).map_err(|_| format!("{average} bytes are too many"))?;
    ChunkSizes::new(average / 4, average, average.saturating_mul(4)).map_err(|bad| bad.to_string())
}

/// Whose hands a site is most probably in.
fn hosting_of(address: &SiteAddress, has_endpoint: bool) -> Hosting {
    match address.scheme() {
        Scheme::File { .. } | Scheme::Memory { .. } => Hosting::OnPrem,
        Scheme::S3 { .. } | Scheme::Azure { .. } | Scheme::Gcs { .. } if !has_endpoint => Hosting::Hyperscale,
        Scheme::S3 { .. } | Scheme::Azure { .. } | Scheme::Gcs { .. } | Scheme::WebDav { .. } | Scheme::Sftp { .. } => {
            Hosting::Sovereign
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::parse(text, Some("dir/exclave.toml".into()))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn defaults_are_those_of_the_libraries() {
        let config = Config::parse("[[site]]\naddress = \"s3://bucket/land\"", None).unwrap();
        let [site] = config.sites.as_slice() else {
            panic!("one site");
        };
        assert_eq!(site.settings, SiteSettings::default());
        assert_eq!((site.name.as_str(), site.hosting), ("bucket-land", Hosting::Hyperscale));
        assert_eq!(
            config.class.payload_bytes,
            exclave_model::limit::PAYLOAD_BYTES_DEFAULT as u64
        );
    }

    #[test]
    fn the_users_file_lies_over_the_defaults() {
        let text = r#"
            state_dir = "state"
            [class]
            code = "4+2"
            [every_site]
            pace = "alternate"
            silence_max = "90s"
            [[site]]
            name = "one"
            address = "/mnt/one"
            [[site]]
            address = "https://dav.example/x"
            pace = "emergency"
            credentials_env = "DAV"
            [[dataset]]
            name = "land"
            command = ["pg_dump", "land"]
        "#;
        let config = Config::parse(text, Some("/etc/exclave/exclave.toml".into())).unwrap();
        assert_eq!(config.state_dir, Some("/etc/exclave/state".into()));
        assert_eq!(config.class.code, Geometry::new(4, 2).ok());
        let paces: Vec<_> = config.sites.iter().map(|site| site.pace).collect();
        assert_eq!(paces, [Pace::Alternate, Pace::Emergency]);
        assert_eq!(config.sites[0].settings.silence_max.0.as_secs(), 90);
        assert_eq!(config.sites[1].name, "dav-example-x");
        assert!(matches!(&config.sites[1].credentials, CredentialSource::Variables(prefix) if prefix == "DAV"));
        assert!(
            matches!(&config.datasets[0].source, SourceConfig::Commands { environment, argv, .. }
                if environment.len() == 7 && argv.keys().eq(["land"]))
        );
        let land = &config.datasets[0];
        assert_eq!(
            (land.chunk_sizes, land.compression),
            (ChunkSizes::DEFAULT, CompressionLevel::DEFAULT)
        );
    }

    #[test]
    fn refusals_name_file_key_and_reason() {
        for (text, expected) in [
            ("[[site]]\nname = \"a\"", "dir/exclave.toml: site 1: it has no address"),
            ("[class]\ncode = \"4\"", "class.code: a code is written data+parity"),
            (
                "threads = \"two\"",
                "dir/exclave.toml:1: threads: invalid type: string \"two\", expected u32",
            ),
            (
                "[every_site]\nsilence_max = \"soon\"",
                "dir/exclave.toml:2: every_site.silence_max: \"soon\" is no length of time",
            ),
            (
                "[[site]]\naddress = \"/a\"\nname = \"A\"",
                "the name \"A\" is not 1 to 40 of a-z, 0-9 and -",
            ),
            (
                "[[site]]\naddress = \"/a\"\n[[site]]\naddress = \"/a/\"",
                "two sites are file:///a",
            ),
            (
                "[[site]]\naddress = \"s3://b/x\"\nendpoint = \"https://one.example\"\n\
                 [[site]]\naddress = \"s3://b/x\"\nendpoint = \"https://one.example/\"",
                "two sites are s3://b/x",
            ),
            (
                "[[site]]\naddress = \"/a\"\nhosting = \"cloud\"",
                "hosting: expected one of on-prem, sovereign",
            ),
            (
                "[[dataset]]\nname = \"x\"",
                "dataset 1: it has neither a path nor a command",
            ),
            (
                "[[dataset]]\nname = \"x\"\npath = \"/a\"\nchunk = \"3000\"",
                "dataset 1: chunk: average chunk size of 3000 bytes",
            ),
            (
                "[[dataset]]\nname = \"x\"\npath = \"/a\"\ncompression = 20",
                "dataset 1: compression: compression level 20 is outside 0 to 19",
            ),
            (
                "[[dataset]]\nname = \"x\"\ncommands = { \"a/b\" = [\"true\"] }",
                "dataset 1: \"a/b\" is no name of a stream",
            ),
        ] {
            let found = refused(text);
            assert!(found.contains(expected), "{text}\n{found}");
        }
    }
}
