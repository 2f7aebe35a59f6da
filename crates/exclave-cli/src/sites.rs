//! From the configuration or a command line to open sites.

use std::{path::Path, sync::Arc};

use exclave_site::{Credentials, Failure, HostKey, Site, SiteAddress, SiteError, SiteSettings};

use crate::{
    config::{Config, SiteConfig},
    credentials::{self, CredentialSource},
    environment::Environment,
    error::{Context as _, Trouble},
    names,
};

/// A site that can be asked.
pub struct OpenSite {
    /// What the settings say about it.
    pub config: SiteConfig,
    /// Its settings with credentials: what opened it.
    pub settings: SiteSettings,
    /// The store.
    pub site: Arc<dyn Site>,
}

/// Which sites a command asks.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// `--site` arguments: `URL` or `NAME=URL`, or the name of a configured site.
    pub arguments: &'a [String],
    /// `--credentials FILE`.
    pub credentials: Option<&'a Path>,
}

/// Chooses the sites: those of the command line, else those of the configuration.
pub fn choose(wanted: &Wanted<'_>, config: &Config) -> Result<Vec<SiteConfig>, Trouble> {
    let mut sites: Vec<SiteConfig> = Vec::new();
    for argument in wanted.arguments {
        let site = one(argument, config, &sites)?;
        if sites.iter().any(|other| other.is_one_store_with(&site)) {
            return Err(Trouble::usage(format!("--site {}: it is given twice", site.address)));
        }
        if sites.iter().any(|other| other.name == site.name) {
            return Err(
                Trouble::usage(format!("two sites would be named {}", site.name)).hint("name them: --site NAME=URL")
            );
        }
        sites.push(site);
    }
    if wanted.arguments.is_empty() {
        sites.clone_from(&config.sites);
    }
    if let Some(path) = wanted.credentials {
        apply_credentials(path, &mut sites)?;
    }
    if sites.is_empty() {
        let trouble = Trouble::usage("no site is known");
        return Err(match &config.file {
            Some(file) => trouble.hint(format!("add a [[site]] to {}, or give --site URL", file.display())),
            None => trouble.hint("give --site URL, or run `exclave init` first, which writes exclave.toml"),
        });
    }
    Ok(sites)
}

fn one(argument: &str, config: &Config, taken: &[SiteConfig]) -> Result<SiteConfig, Trouble> {
    if let Some(site) = config.sites.iter().find(|site| site.name == argument) {
        return Ok(site.clone());
    }
    let (name, address) = match argument.split_once('=') {
        Some((name, address)) if exclave_model::charter::site_name(name) => (Some(name), address),
        _ => (None, argument),
    };
    let parsed = SiteAddress::parse(address);
    let address = parsed.map_err(|bad| {
        let configured: Vec<&str> = config.sites.iter().map(|site| site.name.as_str()).collect();
        let trouble = Trouble::usage(format!("--site: {bad}"));
        if configured.is_empty() {
            trouble.hint("write file:///directory, s3://bucket/prefix, az://.., gs://.., https://host/path or sftp://user@host/path")
        } else {
            trouble.hint(format!("sites of the configuration are {}", configured.join(", ")))
        }
    })?;
    // What the configuration says about the same address holds for it here too.
    let configured: Vec<&SiteConfig> = config.sites.iter().filter(|site| site.address == address).collect();
    match configured.as_slice() {
        [] => {}
        [site] => return Ok((*site).clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|site| site.name.as_str()).collect();
            return Err(
                Trouble::usage(format!("--site {address}: several sites have that address"))
                    .hint(format!("give its name: {}", names.join(", "))),
            );
        }
    }
    let derived = names::of_address(&address, taken.iter().map(|site| site.name.as_str()));
    config.site_at(&address, Some(name.unwrap_or(&derived)))
}

/// `--credentials FILE`: settings and credentials by address lie over what is known of a site.
fn apply_credentials(path: &Path, sites: &mut [SiteConfig]) -> Result<(), Trouble> {
    for (address, settings) in credentials::by_address(path)? {
        // One file may serve for many restores: an address that isn't asked for is no error. Where several sites have it,
        // the entry is that of the one at its endpoint.
        let several = sites.iter().filter(|site| site.address == address).count() > 1;
        let of_entry = |site: &&mut SiteConfig| {
            site.address == address && (!several || site.settings.endpoint == settings.endpoint)
        };
        let Some(site) = sites.iter_mut().find(of_entry) else {
            continue;
        };
        if settings.credentials != Credentials::Anonymous {
            site.credentials = CredentialSource::Given(settings.credentials.clone());
        }
        site.settings = settings;
    }
    Ok(())
}

/// Opens sites: credentials are read, nothing is sent.
pub fn open_all(sites: Vec<SiteConfig>, environment: &Environment) -> Result<Vec<OpenSite>, Trouble> {
    sites
        .into_iter()
        .map(|config| {
            let mut settings = config.settings.clone();
            let endpoint = settings.endpoint.as_deref();
            settings.credentials = config.credentials.read(&config.address, endpoint, environment)?;
            let opened = exclave_site::open(&config.address, &settings);
            let site = opened.because(|| Trouble::usage(format!("the site {} can't be opened", config.name)))?;
            Ok(OpenSite { config, settings, site })
        })
        .collect()
}

/// What to do about a site's error.
pub fn hint(error: &SiteError) -> Option<String> {
    use exclave_site::{Class, Scheme};
    let address = error.address();
    Some(match (error.class(), address.scheme()) {
        (Class::Missing | Class::Unreachable, Scheme::File { root }) if !root.exists() => {
            format!("{} is not there: mount it, or make the directory", root.display())
        }
        (Class::Unreachable, Scheme::Sftp { host, port, root, .. }) => {
            format!("is {host} up, does its sshd listen on port {port}, and is the directory {root} there?")
        }
        (Class::Denied, Scheme::File { root }) => format!("this user may not write to {}", root.display()),
        (Class::Denied, _) => {
            format!("the credentials for {address} do not suffice; try `exclave site check {address}`")
        }
        (Class::Unreachable | Class::Slow, _) => format!("is {address} up? `exclave site check {address}` tells more"),
        (Class::Untrusted, Scheme::Sftp { .. }) => {
            let key = untrusted_host_key(error).map_or_else(String::new, |key| format!(": host_key = \"{key}\""));
            format!(
                "ask the operator of {address} for its host key's fingerprint (ssh-keygen -lf on the public key there); if it \
                 is the one above, write it into the site's settings{key}"
            )
        }
        (Class::Untrusted, _) => {
            format!("ask the operator of {address} for the pin of its key; a changed key is added to the site's `pin`")
        }
        (Class::Full, _) => format!("make room at {address}"),
        _ => return None,
    })
}

/// The fingerprint that an SFTP server showed in vain.
fn untrusted_host_key(error: &SiteError) -> Option<HostKey> {
    match error.failure() {
        Failure::Untrusted { why } => why.split(' ').find_map(|word| word.parse().ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(arguments: &[&str], config: &str) -> Result<Vec<(String, String)>, Trouble> {
        let config = Config::parse(config, None)?;
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let wanted = Wanted {
            arguments: &arguments,
            credentials: None,
        };
        let sites = choose(&wanted, &config)?;
        Ok(sites
            .into_iter()
            .map(|site| (site.name, site.address.to_string()))
            .collect())
    }

    #[test]
    fn sites_come_from_the_command_line_else_from_the_configuration() {
        let config = "[[site]]\nname = \"one\"\naddress = \"/srv/one\"\n[[site]]\naddress = \"/srv/two\"";
        let pairs = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<_>>();
        assert_eq!(
            chosen(&[], config).unwrap(),
            pairs(&[("one", "file:///srv/one"), ("two", "file:///srv/two")])
        );
        assert_eq!(
            chosen(&["two", "/srv/one", "lux=s3://b/x", "/mnt/one"], config).unwrap(),
            pairs(&[
                ("two", "file:///srv/two"),
                ("one", "file:///srv/one"),
                ("lux", "s3://b/x"),
                ("one-2", "file:///mnt/one")
            ])
        );
        let twice = "[[site]]\nname = \"one\"\naddress = \"s3://b/x\"\nendpoint = \"https://one.example\"\n\
                     [[site]]\nname = \"two\"\naddress = \"s3://b/x\"\nendpoint = \"https://two.example\"";
        assert_eq!(
            chosen(&["one", "two"], twice).unwrap(),
            pairs(&[("one", "s3://b/x"), ("two", "s3://b/x")])
        );
        let error = chosen(&["s3://b/x"], twice).unwrap_err();
        assert!(error.to_string().contains("several sites have that address"), "{error}");
        for (arguments, refusal) in [
            (&["/a", "/a/"][..], "given twice"),
            (&["x=/a", "x=/b"], "two sites would be named x"),
            (&["nowhere"], "neither a URL nor an absolute path"),
        ] {
            let error = chosen(arguments, "").unwrap_err();
            assert!(error.to_string().contains(refusal), "{error}");
        }
        assert!(chosen(&[], "").unwrap_err().to_string().contains("no site is known"));
    }
}
