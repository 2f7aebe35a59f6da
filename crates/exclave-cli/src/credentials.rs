//! Who we are to a site: from a private file, a systemd credential or variables; never from a command line.
//!
//! A file holds one table, named after the kind of store:
//!
//! ```toml
//! [s3]                         # or [azure] account, key; [gcs] service_account_json; [basic] user, password; [bearer] token
//! access_key = "..."
//! secret_key = "..."
//! ```

use std::path::PathBuf;

use exclave_site::{Credentials, Scheme, Secret, SiteAddress};
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
    /// These.
    Given(Credentials),
}

impl CredentialSource {
    /// Reads the credentials for a site.
    pub fn read(&self, address: &SiteAddress, environment: &Environment) -> Result<Credentials, Trouble> {
        match self {
            Self::File(path) => parse(
                &private_file::read(path, "credentials file")?,
                &path.display().to_string(),
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
            Self::Given(credentials) => Ok(credentials.clone()),
        }
    }
}

fn parse(text: &str, shown: &str) -> Result<Credentials, Trouble> {
    // The parser's own text would quote the line, and with it perhaps a secret.
    let wrong = |message: &str| Trouble::usage(format!("{shown}: {message}"));
    let table: toml::Table = toml::from_str(text).map_err(|error| wrong(error.message()))?;
    table.try_into().map_err(|error: toml::de::Error| {
        // "invalid type: string .." quotes the value.
        let quotes = error.message().starts_with("invalid ");
        wrong(if quotes {
            "a value has the wrong type"
        } else {
            error.message()
        })
    })
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
    parse(&Zeroizing::new(text), &path.display().to_string())
}

/// The variables that a site of this kind would take.
fn wanted(prefix: &str, address: &SiteAddress) -> String {
    let suffixes: &[&str] = match address.scheme() {
        Scheme::S3 { .. } => &["ACCESS_KEY", "SECRET_KEY"],
        Scheme::Azure { .. } => &["ACCOUNT", "KEY"],
        Scheme::Gcs { .. } => &["SERVICE_ACCOUNT_JSON"],
        Scheme::WebDav { .. } => &["USER", "PASSWORD"],
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_kind_and_errors_hold_no_secret() {
        let read = parse("[s3]\naccess_key = \"me\"\nsecret_key = \"hunter2\"", "f").unwrap();
        assert!(matches!(read, Credentials::S3 { access_key, .. } if access_key == "me"));
        for bad in [
            "[s3]\naccess_key = \"me\"",
            "[s3]\naccess_key = \"me\"\nsecret_key = \"hunter2\"\nx = 1",
            "[ftp]\nuser = \"hunter2\"",
            "secret_key = \"hunter2",
            "s3 = \"hunter2\"",
            "[basic]\nuser = \"me\"\npassword = \"hunter2\"\n[bearer]\ntoken = \"hunter2\"",
        ] {
            let error = parse(bad, "f").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
