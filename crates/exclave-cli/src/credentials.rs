//! Who we are to a site: from a private file, a systemd credential or variables; never from a command line.
//!
//! A file holds one table, named after the kind of store:
//!
//! ```toml
//! [s3]                         # or [azure] account, key; [gcs] service_account_json; [basic] user, password; [bearer] token;
//!                              # [ssh] private_key_file or private_key, passphrase, user
//! access_key = "..."
//! secret_key = "..."
//! ```
//!
//! Another holds a table for each address, with all that is needed to reach the site ([`by_address`]).

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use exclave_site::{Credentials, Scheme, Secret, SiteAddress, SiteSettings};
use zeroize::Zeroizing;

use crate::{
    environment::Environment,
    error::{Context as _, Trouble},
    private_file,
};

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// A private file.
    File(PathBuf),
    /// A systemd credential of this name.
    Systemd(String),
    /// Variables with this beginning, which must be there.
    Variables(String),
    /// Variables with this beginning, if they are there.
    VariablesIfSet(String),
    /// The site's entry in a private file of settings by address; without one the variables, if they are there.
    ByAddress {
        /// The file.
        file: PathBuf,
        /// The variables' beginning.
        variables: String,
    },
    /// These.
    Given(Credentials),
}

impl CredentialSource {
    /// Reads the credentials for a site at an endpoint.
    pub fn read(
        &self,
        address: &SiteAddress,
        endpoint: Option<&str>,
        environment: &Environment,
    ) -> Result<Credentials, Trouble> {
        match self {
            Self::File(path) => parse(
                &private_file::read(path, "credentials file")?,
                &path.display().to_string(),
                path,
            ),
            Self::Systemd(name) => systemd(name, environment),
            Self::Variables(prefix) => from_variables(prefix, address, environment)?.ok_or_else(|| {
                Trouble::usage(format!(
                    "no credentials for {address}: {} are not set",
                    wanted(prefix, address)
                ))
            }),
            Self::VariablesIfSet(prefix) => {
                Ok(from_variables(prefix, address, environment)?.unwrap_or(Credentials::Anonymous))
            }
            Self::ByAddress { file, variables } => match from_entry(file, address, endpoint)? {
                Credentials::Anonymous => Self::VariablesIfSet(variables.clone()).read(address, endpoint, environment),
                found => Ok(found),
            },
            Self::Given(credentials) => Ok(credentials.clone()),
        }
    }
}

/// Where they come from; never what they are.
impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::ByAddress { file, variables } => write!(f, "file {} or ${variables}_*", file.display()),
            Self::Systemd(name) => write!(f, "systemd credential {name}"),
            Self::Variables(prefix) | Self::VariablesIfSet(prefix) => write!(f, "${prefix}_*"),
            Self::Given(_) => f.write_str("given"),
        }
    }
}

/// Reads a private file of settings by address:
///
/// ```toml
/// ["s3://bucket/prefix"]
/// endpoint = "https://s3.example.lu"
/// credentials.s3 = { access_key = "...", secret_key = "..." }
/// ```
pub fn by_address(file: &Path) -> Result<BTreeMap<SiteAddress, SiteSettings>, Trouble> {
    let text = private_file::read(file, "credentials file")?;
    by_address_in(&text, &file.display().to_string(), Some(file))
}

/// The same in a text, which names no other files unless it lies in one.
pub fn by_address_in(
    text: &str,
    shown: &str,
    file: Option<&Path>,
) -> Result<BTreeMap<SiteAddress, SiteSettings>, Trouble> {
    let wrong = |message: String| Trouble::usage(format!("{shown}: {message}"));
    // No text of the parser that could quote a secret.
    let tables: BTreeMap<String, toml::Table> = toml::from_str(text)
        .map_err(|error: toml::de::Error| wrong(format!("not tables by address: {}", careful(&error))))?;
    let mut entries = BTreeMap::new();
    for (address, mut table) in tables {
        if let (Some(toml::Value::Table(credentials)), Some(file)) = (table.get_mut("credentials"), file) {
            fetch_private_key(credentials, file)?;
        }
        let address = SiteAddress::parse(&address).map_err(|bad| wrong(bad.to_string()))?;
        let settings: SiteSettings = table
            .try_into()
            .map_err(|error: toml::de::Error| wrong(format!("{address}: {}", careful(&error))))?;
        if entries.insert(address.clone(), settings).is_some() {
            return Err(wrong(format!("{address} stands there twice")));
        }
    }
    Ok(entries)
}

/// A site's credentials in a file by address. Its other settings stand in the configuration; but for another endpoint they
/// would be shown to a stranger.
fn from_entry(file: &Path, address: &SiteAddress, endpoint: Option<&str>) -> Result<Credentials, Trouble> {
    if matches!(address.scheme(), Scheme::File { .. } | Scheme::Memory { .. }) {
        return Ok(Credentials::Anonymous);
    }
    of_site(&by_address(file)?, address, endpoint, &file.display().to_string())
}

/// A site's credentials among settings by address.
pub fn of_site(
    entries: &BTreeMap<SiteAddress, SiteSettings>,
    address: &SiteAddress,
    endpoint: Option<&str>,
    shown: &str,
) -> Result<Credentials, Trouble> {
    let Some(entry) = entries.get(address) else {
        return Ok(Credentials::Anonymous);
    };
    let trimmed = |endpoint: &str| endpoint.trim_end_matches('/').to_owned();
    if let Some(theirs) = &entry.endpoint
        && endpoint.map(trimmed) != Some(trimmed(theirs))
    {
        let ours = endpoint.unwrap_or("no endpoint");
        let what = format!("{shown} has credentials for {address} at {theirs}");
        return Err(
            Trouble::usage(format!("{what}, and the settings say {ours}")).hint(format!(
                "if that is right, write endpoint = \"{theirs}\" into its [[site]]"
            )),
        );
    }
    Ok(entry.credentials.clone())
}

fn careful(error: &toml::de::Error) -> &str {
    // "invalid type: string .." quotes the value.
    if error.message().starts_with("invalid ") {
        "a value has the wrong type"
    } else {
        error.message()
    }
}

/// Puts a private key in the place of its file's name, which is relative to the file that names it: below this program
/// nobody opens files.
fn fetch_private_key(credentials: &mut toml::Table, named_in: &Path) -> Result<(), Trouble> {
    let Some(toml::Value::Table(ssh)) = credentials.get_mut("ssh") else {
        return Ok(());
    };
    let Some(file) = ssh.remove("private_key_file") else {
        return Ok(());
    };
    let wrong = |what: &str| Trouble::usage(format!("{}: {what}", named_in.display()));
    let file = file.as_str().ok_or_else(|| wrong("private_key_file is no text"))?;
    if ssh.contains_key("private_key") {
        return Err(wrong(
            "it has a private_key_file and a private_key; one of them is enough",
        ));
    }
    let path = named_in.parent().unwrap_or(Path::new("")).join(file);
    let key = private_file::read(&path, "private key")?;
    ssh.insert("private_key".into(), toml::Value::String(key.to_string()));
    Ok(())
}

fn parse(text: &str, shown: &str, file: &Path) -> Result<Credentials, Trouble> {
    // The parser's own text would quote the line, and with it perhaps a secret.
    let wrong = |message: &str| Trouble::usage(format!("{shown}: {message}"));
    let mut table: toml::Table = toml::from_str(text).map_err(|error| wrong(error.message()))?;
    fetch_private_key(&mut table, file)?;
    table
        .try_into()
        .map_err(|error: toml::de::Error| wrong(careful(&error)))
}

fn systemd(name: &str, environment: &Environment) -> Result<Credentials, Trouble> {
    let directory = environment.path("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        Trouble::usage(format!(
            "the credential {name:?} is not there: CREDENTIALS_DIRECTORY is not set"
        ))
        .hint(format!("start through systemd with LoadCredential={name}:FILE"))
    })?;
    let path = directory.join(name);
    // Its directory is the manager's, which guards it in its own way.
    let text = std::fs::read_to_string(&path)
        .because(|| Trouble::usage(format!("the credential {} can't be read", path.display())))?;
    parse(&Zeroizing::new(text), &path.display().to_string(), &path)
}

/// The variables that a site of this kind would take.
fn wanted(prefix: &str, address: &SiteAddress) -> String {
    let suffixes: &[&str] = match address.scheme() {
        Scheme::S3 { .. } => &["ACCESS_KEY", "SECRET_KEY"],
        Scheme::Azure { .. } => &["ACCOUNT", "KEY"],
        Scheme::Gcs { .. } => &["SERVICE_ACCOUNT_JSON"],
        Scheme::WebDav { .. } => &["USER", "PASSWORD"],
        Scheme::Sftp { .. } => &["PRIVATE_KEY_FILE"],
        Scheme::File { .. } | Scheme::Memory { .. } => &[],
    };
    let names: Vec<String> = suffixes.iter().map(|suffix| format!("{prefix}_{suffix}")).collect();
    names.join(" and ")
}

fn from_variables(
    prefix: &str,
    address: &SiteAddress,
    environment: &Environment,
) -> Result<Option<Credentials>, Trouble> {
    let text = |suffix: &str| environment.text(&format!("{prefix}_{suffix}"));
    let secret = |suffix: &str| text(suffix).map(Secret::new);
    let half = |given: &str, missing: &str| {
        Err(Trouble::usage(format!(
            "{prefix}_{given} is set, {prefix}_{missing} is not: half of the credentials for {address}"
        )))
    };
    Ok(match address.scheme() {
        Scheme::File { .. } | Scheme::Memory { .. } => None,
        Scheme::S3 { .. } => {
            let access_key = text("ACCESS_KEY").or_else(|| text("ACCESS_KEY_ID"));
            let secret_key = secret("SECRET_KEY").or_else(|| secret("SECRET_ACCESS_KEY"));
            match (access_key, secret_key) {
                (Some(access_key), Some(secret_key)) => Some(Credentials::S3 {
                    access_key,
                    secret_key,
                    session_token: secret("SESSION_TOKEN"),
                }),
                (Some(_), None) => return half("ACCESS_KEY", "SECRET_KEY"),
                (None, Some(_)) => return half("SECRET_KEY", "ACCESS_KEY"),
                (None, None) => None,
            }
        }
        Scheme::Azure { .. } => match (text("ACCOUNT"), secret("KEY")) {
            (Some(account), Some(key)) => Some(Credentials::Azure { account, key }),
            (Some(_), None) => return half("ACCOUNT", "KEY"),
            (None, Some(_)) => return half("KEY", "ACCOUNT"),
            (None, None) => None,
        },
        Scheme::Gcs { .. } => {
            secret("SERVICE_ACCOUNT_JSON").map(|service_account_json| Credentials::Gcs { service_account_json })
        }
        Scheme::WebDav { .. } => match (text("USER"), secret("PASSWORD"), secret("TOKEN")) {
            (_, _, Some(token)) => Some(Credentials::Bearer { token }),
            (Some(user), Some(password), None) => Some(Credentials::Basic { user, password }),
            (Some(_), None, None) => return half("USER", "PASSWORD"),
            (None, Some(_), None) => return half("PASSWORD", "USER"),
            (None, None, None) => None,
        },
        Scheme::Sftp { user: named, .. } => {
            let user = text("USER");
            let file = text("PRIVATE_KEY_FILE").map(PathBuf::from);
            match (file, secret("PASSWORD"), user.clone().or_else(|| named.clone())) {
                (Some(file), _, _) => Some(Credentials::Ssh {
                    user,
                    private_key: Secret::new(private_file::read(&file, "private key")?.to_string()),
                    passphrase: secret("PASSPHRASE"),
                }),
                (None, Some(password), Some(user)) => Some(Credentials::Basic { user, password }),
                (None, Some(_), None) => return half("PASSWORD", "USER"),
                (None, None, _) => None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_kind_and_errors_hold_no_secret() {
        let read = |text| parse(text, "f", Path::new("f"));
        let one = read("[s3]\naccess_key = \"me\"\nsecret_key = \"hunter2\"").unwrap();
        assert!(matches!(one, Credentials::S3 { access_key, .. } if access_key == "me"));
        for bad in [
            "[s3]\naccess_key = \"me\"",
            "[s3]\naccess_key = \"me\"\nsecret_key = \"hunter2\"\nx = 1",
            "[ftp]\nuser = \"hunter2\"",
            "secret_key = \"hunter2",
            "s3 = \"hunter2\"",
            "[ssh]\nuser = \"me\"\npassphrase = \"hunter2\"",
            "[ssh]\nprivate_key = \"hunter2\"\nprivate_key_file = \"f\"",
            "[ssh]\nprivate_key_file = [\"hunter2\"]",
            "[basic]\nuser = \"me\"\npassword = \"hunter2\"\n[bearer]\ntoken = \"hunter2\"",
        ] {
            let error = read(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_private_key_is_read_from_its_own_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let [file, key] = ["credentials.toml", "id"].map(|name| folder.path().join(name));
        private_file::create(&key, "a key\n", "private key").unwrap();
        private_file::create(&file, "[ssh]\nprivate_key_file = \"id\"\n", "credentials file").unwrap();
        let address = SiteAddress::parse("sftp://me@host/a").unwrap();
        let environment = Environment::of_process();
        let wanted = Credentials::Ssh {
            user: None,
            private_key: Secret::new("a key\n"),
            passphrase: None,
        };
        let source = CredentialSource::File(file.clone());
        assert_eq!(source.read(&address, None, &environment).unwrap(), wanted);
        let entry = "[\"sftp://me@host/a\"]\ncredentials.ssh.private_key_file = \"id\"\n";
        private_file::replace(&file, entry, "credentials file").unwrap();
        assert_eq!(by_address(&file).unwrap().remove(&address).unwrap().credentials, wanted);
        // One that others can read is no private key.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&key, open).unwrap();
        let error = by_address(&file).unwrap_err();
        assert!(error.to_string().contains("is open to others"), "{error}");
    }

    #[test]
    fn a_file_by_address_serves_its_own_sites_at_their_own_endpoints() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials.toml");
        let entries = r#"
            ["s3://bucket/x"]
            endpoint = "https://s3.example/"
            credentials.s3 = { access_key = "me", secret_key = "hunter2" }
            ["https://dav.example/x"]
            credentials.basic = { user = "me", password = "hunter2" }
        "#;
        private_file::create(&file, entries, "credentials file").unwrap();
        let source = CredentialSource::ByAddress {
            file: file.clone(),
            variables: "EXCLAVE_NO_SUCH".into(),
        };
        let environment = Environment::of_process();
        let read = |address: &str, endpoint: Option<&str>| {
            source.read(&SiteAddress::parse(address).unwrap(), endpoint, &environment)
        };
        for endpoint in ["https://s3.example", "https://s3.example/"] {
            let found = read("s3://bucket/x", Some(endpoint)).unwrap();
            assert!(matches!(found, Credentials::S3 { access_key, .. } if access_key == "me"));
        }
        assert!(matches!(
            read("https://dav.example/x", None).unwrap(),
            Credentials::Basic { .. }
        ));
        for stranger in ["s3://bucket/y", "file:///srv/x"] {
            assert_eq!(read(stranger, None).unwrap(), Credentials::Anonymous);
        }
        for (other, said) in [(None, "no endpoint"), (Some("https://s3.evil"), "https://s3.evil")] {
            let error = read("s3://bucket/x", other).unwrap_err();
            let what = "has credentials for s3://bucket/x at https://s3.example/, and the settings say";
            assert!(error.to_string().ends_with(&format!("{what} {said}")), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
        let twice = format!("{entries}\n[\"s3://bucket/x/\"]\n");
        private_file::replace(&file, &twice, "credentials file").unwrap();
        assert!(
            by_address(&file)
                .unwrap_err()
                .to_string()
                .ends_with("s3://bucket/x stands there twice")
        );
    }
}
