//! A kit on one page: what people compare before they sign it, and before they believe it.

use std::io::{self, Write};

use exclave_model::{KitFile, kit::FileKind};
use exclave_site::Scheme;
use serde::Serialize;

use crate::{
    config::SiteConfig,
    error::Trouble,
    format,
    kit::KitFolder,
    output::{Report, aligned, figures, words},
};

/// A kit.
#[derive(Serialize)]
pub struct Page {
    folder: String,
    archive: String,
    version: u32,
    /// The hash of the manifest's record.
    digest: String,
    charter_version: u32,
    /// The newest charter that the kit brings.
    charter_known: u32,
    created: String,
    program: String,
    signatures: usize,
    signatures_needed: usize,
    /// Recovery identities that open the credentials.
    recipients: usize,
    sites: Vec<SiteLine>,
    files: Vec<FileLine>,
    /// Files that the manifest names and that aren't there.
    missing: Vec<String>,
}

#[derive(Serialize)]
struct SiteLine {
    name: String,
    address: Option<String>,
    login: &'static str,
    /// How its server is known: all but a pin and a host key need authorities and a right clock.
    server: &'static str,
}

/// What vouches for a site's server.
fn server(site: &SiteConfig) -> &'static str {
    let settings = &site.settings;
    let is_plain = |url: &str| url.starts_with("http://");
    match site.address.scheme() {
        Scheme::File { .. } | Scheme::Memory { .. } => "-",
        Scheme::Sftp { .. } => "host key",
        _ if !settings.pin.is_empty() => "pin",
        _ if settings.ca_pem.is_some() => "own authority",
        _ if settings.endpoint.as_deref().is_some_and(is_plain) || is_plain(&site.address.to_string()) => "nothing",
        _ => "machine's authorities",
    }
}

#[derive(Serialize)]
struct FileLine {
    name: String,
    bytes: u64,
    program: bool,
    /// `None` for a file that is missing.
    sha256: Option<String>,
}

impl Page {
    /// What a kit's folder holds.
    pub fn of(folder: &KitFolder) -> Result<Self, Trouble> {
        let kit = &folder.kit;
        let addresses = &folder.sites.config.sites;
        let site = |site: &exclave_model::KitSite| {
            let known = addresses.iter().find(|known| known.name == site.name);
            SiteLine {
                name: site.name.clone(),
                address: known.map(|known| known.address.to_string()),
                login: site.login.as_str(),
                server: known.map_or("-", server),
            }
        };
        let charter = folder.charters.version(kit.charter_version);
        Ok(Self {
            folder: folder.folder.display().to_string(),
            archive: kit.anchor.to_hex(),
            version: kit.version,
            digest: folder.digest.to_hex(),
            charter_version: kit.charter_version,
            charter_known: folder.charters.newest().version,
            created: format::rfc3339(kit.created),
            program: kit.program.clone(),
            signatures: folder.signers.len(),
            signatures_needed: folder.needed(),
            recipients: charter.map_or(0, |charter| exclave_model::kit::recipients(charter).len()),
            sites: kit.sites.iter().map(site).collect(),
            files: kit
                .files
                .iter()
                .map(|file| FileLine::of(folder, file))
                .collect::<Result<_, _>>()?,
            missing: folder.missing.clone(),
        })
    }

    /// Whether it is signed by enough roots, and whole.
    pub fn is_complete(&self) -> bool {
        self.signatures >= self.signatures_needed && self.missing.is_empty()
    }
}

impl FileLine {
    fn of(folder: &KitFolder, file: &KitFile) -> Result<Self, Trouble> {
        let is_there = !folder.missing.contains(&file.name);
        Ok(Self {
            name: file.name.clone(),
            bytes: file.length,
            program: file.kind == FileKind::Program,
            sha256: is_there.then(|| folder.sha256(file)).transpose()?,
        })
    }
}

impl Report for Page {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "kit {} of archive {}", self.version, self.archive)?;
        writeln!(out, "digest {}", self.digest)?;
        writeln!(
            out,
            "made {} under charter version {}, with {}",
            self.created,
            self.charter_version,
            format::plain(&self.program)
        )?;
        writeln!(
            out,
            "signed by {} of {} that must",
            self.signatures,
            format::count(self.signatures_needed as u64, "root")
        )?;
        writeln!(
            out,
            "its credentials open with any of {}\n",
            format::count(self.recipients as u64, "recovery identity").replace("identitys", "identities")
        )?;
        let columns = [
            words("SITE"),
            words("CREDENTIALS"),
            words("SERVER KNOWN BY"),
            words("ADDRESS"),
        ];
        let row = |site: &SiteLine| {
            let address = site.address.clone().unwrap_or_else(|| "-".to_owned());
            vec![
                site.name.clone(),
                site.login.to_owned(),
                site.server.to_owned(),
                address,
            ]
        };
        writeln!(out, "{}", aligned(&columns, self.sites.iter().map(row)))?;
        let columns = [figures("BYTES"), words("FILE"), words("SHA-256")];
        let row = |file: &FileLine| {
            let sum = file.sha256.clone().unwrap_or_else(|| "missing".to_owned());
            vec![file.bytes.to_string(), file.name.clone(), sum]
        };
        write!(out, "{}", aligned(&columns, self.files.iter().map(row)))
    }
}
