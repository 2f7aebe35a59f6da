//! What opening a site needs to know, as plain data: no environment, no file, no metadata service is asked.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::file::Durability;
use crate::{HostKey, Pins};

/// How to reach one site. Defaults are for a store on the internet that answers within seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteSettings {
    /// URL of the service where the address doesn't say it: an S3, Azure or GCS server that isn't the vendor's own.
    pub endpoint: Option<String>,
    /// Region that S3 requests are signed for.
    pub region: Option<String>,
    /// Who we are. Explicit; nothing is looked for elsewhere.
    pub credentials: Credentials,
    /// Certificates (PEM) that this site's chain must end in, instead of the system's list. A hostile national
    /// authority on that list then can't stand in for the site.
    pub ca_pem: Option<String>,
    /// Keys one of which the server must hold. Alone, a pin settles who the server is, and no authority, name or date is
    /// looked at; with `ca_pem`, both must hold. A proxy that is reached by `https://` is held to the same.
    pub pin: Pins,
    /// Fingerprints of keys one of which an SFTP server must hold. Without these and `known_hosts`, none is trusted.
    pub host_key: Pins<HostKey>,
    /// The text of a known hosts file (sshd(8)) with the SFTP server's keys, instead.
    pub known_hosts: Option<String>,
    /// HTTP proxy. Without one none is used, whatever the environment says.
    pub proxy: Option<String>,
    /// Allows `http://` to hosts that aren't loopback. Credentials and names travel in the clear then; shards are
    /// sealed anyway.
    pub allow_http: bool,
    /// Longest wait for a connection.
    pub connect_max: Span,
    /// Longest time without a byte in either direction.
    pub silence_max: Span,
    /// Longest time for one operation.
    pub operation_max: Span,
    /// Longest time for one listing, which may take thousands of requests.
    pub listing_max: Span,
    /// Requests at the same time.
    pub requests_in_flight_max: u32,
    /// Bytes per second that we send at most; none is no limit.
    pub upload_per_second_max: Option<ByteCount>,
    /// Bytes per second that we receive at most; none is no limit.
    pub download_per_second_max: Option<ByteCount>,
    /// When a directory's puts become durable.
    pub durability: Durability,
}

impl Default for SiteSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            credentials: Credentials::Anonymous,
            ca_pem: None,
            pin: Pins::default(),
            host_key: Pins::default(),
            known_hosts: None,
            proxy: None,
            allow_http: false,
            connect_max: Span(Duration::from_secs(10)),
            silence_max: Span(Duration::from_secs(30)),
            // 8 MiB at 256 kbit/s, a bad satellite link, take 260 s.
            operation_max: Span(Duration::from_secs(300)),
            // 10^6 names come in 1,000 pages; half a second each.
            listing_max: Span(Duration::from_secs(600)),
            // Enough to fill 10 Gbit/s with 8 MiB shards at 50 ms; few enough that no server calls it an attack.
            requests_in_flight_max: 16,
            upload_per_second_max: None,
            download_per_second_max: None,
            durability: Durability::Flush,
        }
    }
}

/// Who we are to a site. The variants are what the stores ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Credentials {
    /// Nobody: requests aren't signed.
    #[default]
    Anonymous,
    /// S3.
    #[serde(rename_all = "snake_case")]
    S3 {
        /// Access key id.
        access_key: String,
        /// Secret access key.
        secret_key: Secret,
        /// Session token of temporary credentials.
        #[serde(default)]
        session_token: Option<Secret>,
    },
    /// Azure storage account.
    Azure {
        /// Account name.
        account: String,
        /// Shared key, base64.
        key: Secret,
    },
    /// Google service account.
    Gcs {
        /// The service account's JSON.
        service_account_json: Secret,
    },
    /// User and password: HTTP basic for WebDAV, SSH's own for SFTP.
    Basic {
        /// User.
        user: String,
        /// Password.
        password: Secret,
    },
    /// Bearer token, for WebDAV.
    Bearer {
        /// Token.
        token: Secret,
    },
    /// A private key, for SFTP.
    Ssh {
        /// User, where the address names none.
        #[serde(default)]
        user: Option<String>,
        /// The key itself in OpenSSH's format (PEM).
        private_key: Secret,
        /// What it is encrypted with.
        #[serde(default)]
        passphrase: Option<Secret>,
    },
}

impl Credentials {
    /// The words and texts that settings name them by, secrets among them: for the one who seals them into a kit.
    pub fn written(&self) -> Vec<(&'static str, &str)> {
        fn optional<'a>(word: &'static str, secret: &'a Option<Secret>) -> Option<(&'static str, &'a str)> {
            secret.as_ref().map(|secret| (word, secret.expose()))
        }
        match self {
            Self::Anonymous => Vec::new(),
            Self::S3 {
                access_key,
                secret_key,
                session_token,
            } => {
                let both = [("access_key", access_key.as_str()), ("secret_key", secret_key.expose())];
                both.into_iter()
                    .chain(optional("session_token", session_token))
                    .collect()
            }
            Self::Azure { account, key } => vec![("account", account), ("key", key.expose())],
            Self::Gcs { service_account_json } => vec![("service_account_json", service_account_json.expose())],
            Self::Basic { user, password } => vec![("user", user), ("password", password.expose())],
            Self::Bearer { token } => vec![("token", token.expose())],
            Self::Ssh {
                user,
                private_key,
                passphrase,
            } => {
                let user = user.as_ref().map(|user| ("user", user.as_str()));
                let key = Some(("private_key", private_key.expose()));
                let all = [user, key, optional("passphrase", passphrase)];
                all.into_iter().flatten().collect()
            }
        }
    }

    /// Whether whoever has these can do no more and no less than whoever has those: they are of one account.
    pub fn is_same_account(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::S3 { access_key: one, .. }, Self::S3 { access_key: two, .. }) => one == two,
            (Self::Azure { account: one, .. }, Self::Azure { account: two, .. }) => one == two,
            (Self::Basic { user: one, .. }, Self::Basic { user: two, .. }) => one == two,
            (one, two) => one == two,
        }
    }

    /// The word for their kind in settings.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::S3 { .. } => "s3",
            Self::Azure { .. } => "azure",
            Self::Gcs { .. } => "gcs",
            Self::Basic { .. } => "basic",
            Self::Bearer { .. } => "bearer",
            Self::Ssh { .. } => "ssh",
        }
    }
}

/// A secret text: reads from settings, never prints.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one who sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A length of time, written `"250ms"`, `"30s"`, `"5m"` or `"2h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// A number of bytes, written `"512"`, `"64 KiB"`, `"8MiB"` or `"1GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ByteCount(pub u64);

/// Why a setting's text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {wanted}")]
pub struct BadQuantity {
    text: String,
    wanted: &'static str,
}

impl TryFrom<String> for Span {
    type Error = BadQuantity;

    fn try_from(text: String) -> Result<Self, BadQuantity> {
        let units = [
            ("ms", 1),
            ("s", 1_000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
        ];
        let milliseconds = quantity(&text, &units);
        let wanted = "length of time; write \"250ms\", \"30s\", \"5m\", \"2h\" or \"1d\"";
        milliseconds
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or(BadQuantity { text, wanted })
    }
}

impl TryFrom<String> for ByteCount {
    type Error = BadQuantity;

    fn try_from(text: String) -> Result<Self, BadQuantity> {
        let units = [
            ("", 1),
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ];
        let wanted = "number of bytes; write \"512\", \"64KiB\", \"8MiB\" or \"1GiB\"";
        quantity(&text, &units).map(Self).ok_or(BadQuantity { text, wanted })
    }
}

/// As it is read, in the largest unit that leaves no fraction.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let unit = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        let unit = unit
            .into_iter()
            .find(|(_, factor)| milliseconds.is_multiple_of(*factor));
        let (name, factor) = unit.unwrap_or(("ms", 1));
        write!(f, "{}{name}", milliseconds / factor)
    }
}

/// As it is read, in the largest unit that leaves no fraction.
impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let unit = units.into_iter().find(|(_, shift)| self.0.trailing_zeros() >= *shift);
        let (name, shift) = unit.unwrap_or(("B", 0));
        write!(f, "{}{name}", self.0 >> shift)
    }
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(*factor)
        .filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_from_toml_and_refuse_what_they_do_not_know() {
        let settings: SiteSettings = toml::from_str(
            r#"
            endpoint = "https://s3.example"
            silence_max = "90s"
            upload_per_second_max = "8 MiB"
            durability = "each"
            [credentials.s3]
            access_key = "me"
            secret_key = "hunter2"
            "#,
        )
        .unwrap();
        assert_eq!(settings.silence_max, Span(Duration::from_secs(90)));
        assert_eq!(settings.upload_per_second_max, Some(ByteCount(8 << 20)));
        assert_eq!(settings.durability, Durability::Each);
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(toml::from_str::<SiteSettings>("silense_max = \"90s\"").is_err());
        assert!(toml::from_str::<SiteSettings>("[credentials.s3]\naccess_key=\"a\"\nsecret_key=\"b\"\nx=1").is_err());
        assert_eq!(toml::from_str::<SiteSettings>("").unwrap(), SiteSettings::default());
    }

    #[test]
    fn quantities_print_as_they_are_read() {
        for text in ["250ms", "1s", "90s", "5m", "2h", "1d", "36h"] {
            assert_eq!(Span::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for text in ["1B", "1023B", "64KiB", "8MiB", "1536MiB", "3GiB", "2TiB"] {
            assert_eq!(ByteCount::try_from(text.to_owned()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn quantities_are_strict() {
        for bad in ["", "s", "0s", "1.5s", "5 parsecs", "99999999999999999999s", "-1s"] {
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for bad in ["", "0", "8MB", "20000000000000000000", "16777216TiB"] {
            assert!(ByteCount::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
