//! The file as it is written: types only, no meaning yet.

use std::{collections::BTreeMap, path::PathBuf};

use exclave_site::{ByteCount, Credentials, HostKey, Pins, SiteSettings, Span};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    config::{REFERENCE, known},
    error::Trouble,
};

/// A length of time, as in the file.
pub type Duration = Span;
/// A number of bytes, as in the file.
pub type ByteSize = ByteCount;

/// The whole file, defaults filled in for tables that are there once.
pub struct RawFile {
    pub archive: Option<String>,
    pub state_dir: Option<PathBuf>,
    pub identity: Option<PathBuf>,
    pub credentials: Option<PathBuf>,
    pub read_credentials: Option<PathBuf>,
    pub threads: u32,
    pub class: RawClass,
    pub every_site: toml::Table,
    pub every_dataset: toml::Table,
    pub sites: Vec<toml::Table>,
    pub datasets: Vec<toml::Table>,
    pub witnesses: Vec<toml::Table>,
}

#[derive(Deserialize)]
struct Top {
    archive: Option<String>,
    state_dir: Option<PathBuf>,
    identity: Option<PathBuf>,
    credentials: Option<PathBuf>,
    read_credentials: Option<PathBuf>,
    threads: u32,
    class: toml::Table,
    every_site: toml::Table,
    every_dataset: toml::Table,
    #[serde(default)]
    site: Vec<toml::Table>,
    #[serde(default)]
    dataset: Vec<toml::Table>,
    #[serde(default)]
    witness: Vec<toml::Table>,
}

#[derive(Deserialize)]
pub struct RawWitness {
    pub name: Option<String>,
    pub url: Option<String>,
    #[serde(default)]
    pub pin: Pins,
    pub ca_file: Option<PathBuf>,
    pub proxy: Option<String>,
    #[serde(default)]
    pub allow_http: bool,
}

#[derive(Deserialize)]
pub struct RawClass {
    pub code: Option<String>,
    pub losses: Option<u8>,
    pub liars: u8,
    pub payload: ByteSize,
    pub read_back: String,
}

#[derive(Deserialize)]
pub struct RawSite {
    pub name: Option<String>,
    pub address: Option<String>,
    pub hosting: Option<String>,
    pub pace: String,
    pub country: Option<String>,
    pub region: Option<String>,
    pub operator: Option<String>,
    pub iam_realm: Option<String>,
    pub legal_reach: Vec<String>,
    pub endpoint: Option<String>,
    pub signing_region: Option<String>,
    pub credentials_file: Option<PathBuf>,
    pub credential: Option<String>,
    pub credentials_env: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub ca_pem: Option<String>,
    #[serde(default)]
    pub pin: Pins,
    #[serde(default)]
    pub host_key: Pins<HostKey>,
    pub known_hosts_file: Option<PathBuf>,
    pub known_hosts: Option<String>,
    pub proxy: Option<String>,
    pub allow_http: bool,
    pub connect_max: Duration,
    pub silence_max: Duration,
    pub operation_max: Duration,
    pub listing_max: Duration,
    pub requests_in_flight_max: u32,
    pub upload_per_second_max: Option<ByteSize>,
    pub download_per_second_max: Option<ByteSize>,
    pub durability: exclave_site::Durability,
}

impl RawSite {
    /// What opening the site needs, but for the credentials.
    pub fn settings(&self, ca_pem: Option<String>, known_hosts: Option<String>) -> SiteSettings {
        SiteSettings {
            endpoint: self.endpoint.clone(),
            region: self.signing_region.clone(),
            credentials: Credentials::Anonymous,
            ca_pem,
            pin: self.pin.clone(),
            host_key: self.host_key.clone(),
            known_hosts,
            proxy: self.proxy.clone(),
            allow_http: self.allow_http,
            connect_max: self.connect_max,
            silence_max: self.silence_max,
            operation_max: self.operation_max,
            listing_max: self.listing_max,
            requests_in_flight_max: self.requests_in_flight_max,
            upload_per_second_max: self.upload_per_second_max,
            download_per_second_max: self.download_per_second_max,
            durability: self.durability,
        }
    }
}

#[derive(Deserialize)]
pub struct RawDataset {
    pub name: Option<String>,
    pub path: Option<PathBuf>,
    pub command: Option<Vec<String>>,
    pub commands: Option<BTreeMap<String, Vec<String>>>,
    pub chunk: ByteSize,
    pub compression: i32,
    pub max_shrink: u8,
    pub tripwire_changed: u8,
    pub tripwire_renamed: u8,
    pub tripwire_shrunk: u8,
    pub class: Option<u32>,
    pub label: String,
    pub exclude: Vec<String>,
    pub exclude_file: Option<PathBuf>,
    pub one_file_system: bool,
    pub exclude_caches: bool,
    pub timeout: Option<Duration>,
    pub min_bytes: ByteSize,
    pub environment: Vec<String>,
    pub directory: Option<PathBuf>,
}

impl RawFile {
    /// Lays the user's file over the reference.
    pub fn read(text: &str, shown: &str) -> Result<Self, Trouble> {
        let reference: toml::Table = parse(REFERENCE, "reference")?;
        let mut tables = reference.clone();
        for (key, value) in parse(text, shown)? {
            let merged = match (tables.get(&key), value) {
                (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay(below, above).into(),
                (_, value) => value,
            };
            tables.insert(key, merged);
        }
        let blame = |path: &[&str], error: toml::de::Error| blame(text, shown, path, &error);
        let top: Top = tables.try_into().map_err(|error| blame(&[], error))?;
        // Read once here, so that a wrong type is laid at the door of the table that has it.
        let class = top.class.try_into().map_err(|error| blame(&["class"], error))?;
        let _: RawSite = top
            .every_site
            .clone()
            .try_into()
            .map_err(|error| blame(&["every_site"], error))?;
        let _: RawDataset = top
            .every_dataset
            .clone()
            .try_into()
            .map_err(|error| blame(&["every_dataset"], error))?;
        Ok(Self {
            archive: top.archive,
            state_dir: top.state_dir,
            identity: top.identity,
            credentials: top.credentials,
            read_credentials: top.read_credentials,
            threads: top.threads,
            class,
            every_site: top.every_site,
            every_dataset: top.every_dataset,
            sites: top.site,
            datasets: top.dataset,
            witnesses: top.witness,
        })
    }
}

/// Reads one table of many, laid over what holds for all.
pub fn over<T: DeserializeOwned>(every: &toml::Table, table: toml::Table, place: &str) -> Result<T, Trouble> {
    lay(every, table)
        .try_into()
        .map_err(|error: toml::de::Error| Trouble::usage(format!("{place}: {}", one_line(&error))))
}

fn lay(below: &toml::Table, above: toml::Table) -> toml::Table {
    let mut merged = below.clone();
    merged.extend(above);
    merged
}

fn parse(text: &str, shown: &str) -> Result<toml::Table, Trouble> {
    toml::from_str(text).map_err(|error: toml::de::Error| Trouble::usage(format!("{shown}: {}", error.message())))
}

/// Says which key has a wrong value, and in which line.
fn blame(text: &str, shown: &str, above: &[&str], error: &toml::de::Error) -> Trouble {
    let key = key_of(error);
    let path: Vec<&str> = above.iter().copied().chain(key.iter().map(String::as_str)).collect();
    let line = known::line_of_key(text, &path)
        .map(|line| format!(":{line}"))
        .unwrap_or_default();
    Trouble::usage(format!("{shown}{line}: {}: {}", path.join("."), error.message()))
}

fn one_line(error: &toml::de::Error) -> String {
    match key_of(error).as_slice() {
        [] => error.message().to_owned(),
        key => format!("{}: {}", key.join("."), error.message()),
    }
}

/// The key that an error is about: `toml` tells it in its text only.
fn key_of(error: &toml::de::Error) -> Vec<String> {
    let text = error.to_string();
    let key = text.rsplit("in `").next().filter(|_| text.contains("in `"));
    key.and_then(|rest| rest.split('`').next())
        .map(|key| key.split('.').map(str::to_owned).collect())
        .unwrap_or_default()
}
