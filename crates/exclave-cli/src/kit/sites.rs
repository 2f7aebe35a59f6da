//! Where a kit's sites are, and how one logs in to them.
//!
//! `sites.toml` is a configuration's `[[site]]` tables and nothing else: no key that names a file of this machine, a variable
//! or a credential is taken from a kit. The credentials, once opened, are a file of settings by address as `--credentials`
//! takes it, each with the endpoint that it is for.

use std::collections::BTreeMap;

use exclave_model::Anchor;
use exclave_site::{Credentials, SiteAddress};
use zeroize::Zeroizing;

use crate::{
    config::{Config, SiteConfig, written},
    credentials::{self, CredentialSource},
    error::{Context as _, Trouble},
};

/// Keys of a site that a kit may set.
const KEYS: [&str; 25] = [
    "name",
    "address",
    "hosting",
    "pace",
    "country",
    "region",
    "operator",
    "iam_realm",
    "legal_reach",
    "endpoint",
    "signing_region",
    "ca_pem",
    "pin",
    "host_key",
    "known_hosts",
    "proxy",
    "allow_http",
    "connect_max",
    "silence_max",
    "operation_max",
    "listing_max",
    "requests_in_flight_max",
    "upload_per_second_max",
    "download_per_second_max",
    "durability",
];

/// What the sealed credentials are called where something is wrong with them.
const SHOWN: &str = "the kit's credentials";

/// The sites of a kit.
pub struct KitSites {
    /// A configuration of these sites and nothing else.
    pub config: Config,
}

impl KitSites {
    /// Reads `sites.toml`. No site has credentials yet, and none are looked for in the environment.
    pub fn parse(bytes: &[u8]) -> Result<Self, Trouble> {
        let wrong = |why: String| Trouble::usage(why);
        let text = std::str::from_utf8(bytes).because(|| wrong("it is no text".to_owned()))?;
        let tables: toml::Table = toml::from_str(text).because(|| wrong("it is no TOML".to_owned()))?;
        for (key, value) in &tables {
            let sites = match (key.as_str(), value) {
                ("archive", _) => continue,
                ("site", toml::Value::Array(sites)) => sites,
                _ => return Err(wrong(format!("a kit does not set `{key}`"))),
            };
            let keys = sites
                .iter()
                .filter_map(toml::Value::as_table)
                .flat_map(toml::Table::keys);
            if let Some(key) = keys.into_iter().find(|key| !KEYS.contains(&key.as_str())) {
                return Err(wrong(format!("a kit does not set `{key}` of a site")));
            }
        }
        let mut config = Config::parse(text, None)?;
        for site in &mut config.sites {
            site.credentials = CredentialSource::Given(Credentials::Anonymous);
        }
        Ok(Self { config })
    }

    /// Gives each site its credentials out of the opened text.
    pub fn log_in(&mut self, text: &str) -> Result<(), Trouble> {
        let entries = credentials::by_address_in(text, SHOWN, None)?;
        for site in self.config.sites.iter_mut().filter(|site| site.needs_credentials()) {
            let endpoint = site.settings.endpoint.as_deref();
            let found = credentials::of_site(&entries, &site.address, endpoint, SHOWN)?;
            site.credentials = CredentialSource::Given(found);
        }
        Ok(())
    }
}

/// The text of `sites.toml`.
pub fn sites_text(anchor: Anchor, sites: &[SiteConfig]) -> Result<String, Trouble> {
    let mut text = format!(
        "# Where the archive's shards lie: addresses, pins and what fails together. No credentials stand here.\narchive = \"{}\"\n",
        anchor.to_hex()
    );
    for site in sites {
        text.push_str(&written::placed_site(site)?);
    }
    Ok(text)
}

/// The text that is sealed: credentials by address, each with its endpoint.
pub fn logins_text(
    logins: &BTreeMap<SiteAddress, (Option<String>, Credentials)>,
) -> Result<Zeroizing<String>, Trouble> {
    let mut tables = toml::Table::new();
    for (address, (endpoint, credentials)) in logins {
        let mut table = toml::Table::new();
        if let Some(endpoint) = endpoint {
            table.insert("endpoint".to_owned(), endpoint.clone().into());
        }
        let written = credentials.written().into_iter();
        let words: toml::Table = written.map(|(word, text)| (word.to_owned(), text.into())).collect();
        let kind = toml::Table::from_iter([(credentials.kind().to_owned(), words.into())]);
        table.insert("credentials".to_owned(), kind.into());
        tables.insert(address.to_string(), table.into());
    }
    let text = toml::to_string(&tables).because(|| Trouble::failed("the credentials can't be written down"))?;
    Ok(Zeroizing::new(text))
}

#[cfg(test)]
mod tests {
    use exclave_site::Secret;

    use super::*;

    const SITES: &str = "archive = \"0101010101010101010101010101010101010101010101010101010101010101\"\n[[site]]\nname = \"one\"\n\
                         address = \"s3://b/x\"\nendpoint = \"http://127.0.0.1:9\"\n[[site]]\nname = \"two\"\naddress = \"/srv/two\"\n";

    #[test]
    fn what_is_sealed_logs_in_at_its_own_endpoint_and_nowhere_else() {
        let address = SiteAddress::parse("s3://b/x").unwrap();
        let all = [
            Credentials::S3 {
                access_key: "me".to_owned(),
                secret_key: Secret::new("a \"b\"\n"),
                session_token: Some(Secret::new("t")),
            },
            Credentials::Azure {
                account: "a".to_owned(),
                key: Secret::new("k"),
            },
            Credentials::Gcs {
                service_account_json: Secret::new("{}"),
            },
            Credentials::Basic {
                user: "u".to_owned(),
                password: Secret::new("p"),
            },
            Credentials::Bearer {
                token: Secret::new("t"),
            },
            Credentials::Ssh {
                user: Some("u".to_owned()),
                private_key: Secret::new("-----BEGIN\nx\n"),
                passphrase: None,
            },
        ];
        for credentials in all {
            let entry = (Some("http://127.0.0.1:9".to_owned()), credentials.clone());
            let text = logins_text(&[(address.clone(), entry)].into()).unwrap();
            let mut sites = KitSites::parse(SITES.as_bytes()).unwrap();
            sites.log_in(&text).unwrap();
            let [one, two] = sites.config.sites.as_slice() else {
                panic!("two sites")
            };
            assert_eq!(one.credentials, CredentialSource::Given(credentials));
            assert_eq!(two.credentials, CredentialSource::Given(Credentials::Anonymous));
            let moved = SITES.replace(":9", ":10");
            let error = KitSites::parse(moved.as_bytes()).unwrap().log_in(&text).unwrap_err();
            assert!(error.to_string().contains("has credentials for"), "{error}");
        }
    }

    #[test]
    fn a_kit_names_no_file_and_no_secret_of_this_machine() {
        for bad in [
            "credentials_file = \"/etc/shadow\"",
            "credential = \"x\"",
            "credentials_env = \"AWS\"",
            "ca_file = \"/etc/passwd\"",
            "known_hosts_file = \"x\"",
            "[[dataset]]\nname = \"x\"\ncommand = [\"rm\"]",
            "[every_site]\ncredentials_env = \"AWS\"",
        ] {
            let text = format!("{SITES}{bad}\n");
            let error = KitSites::parse(text.as_bytes()).err().unwrap();
            assert!(error.to_string().contains("a kit does not set"), "{bad}: {error}");
        }
        assert!(KitSites::parse(b"state_dir = \"/\"").is_err() && KitSites::parse(&[0xff]).is_err());
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        let sites = KitSites::parse(SITES.as_bytes()).unwrap().config.sites;
        let text = sites_text(Anchor::from_bytes([1; 32]), &sites).unwrap();
        let again = KitSites::parse(text.as_bytes()).unwrap().config;
        assert_eq!(again.archive, Some(Anchor::from_bytes([1; 32])));
        for (one, two) in sites.iter().zip(&again.sites) {
            assert_eq!(
                (&one.name, &one.address, &one.settings),
                (&two.name, &two.address, &two.settings)
            );
            assert_eq!((one.hosting, one.pace), (two.hosting, two.pace));
        }
    }
}
