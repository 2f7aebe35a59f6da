//! Where a site is: an address that is parsed once and prints without secrets.
//!
//! | form | store |
//! |---|---|
//! | `file:///srv/exclave`, `/srv/exclave` | a directory |
//! | `s3://bucket/prefix` | S3 and what speaks it; `endpoint` in the settings names the host |
//! | `az://container/prefix` | Azure Blob |
//! | `gs://bucket/prefix` | Google Cloud Storage |
//! | `https://host/path`, `http://...` | WebDAV |
//! | `sftp://user@host:port/path` | a directory at an SFTP server, by its absolute path |
//! | `memory://name` | this process, for tests |
//!
//! An address holds no password, query or fragment: addresses are printed and logged. A user only SFTP's has, where it says
//! whose rights a path is for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

/// Where SSH servers listen (RFC 4253 section 4.1).
const SSH_PORT: u16 = 22;

/// A site's address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteAddress {
    text: String,
    scheme: Scheme,
}

/// Which kind of store an address names, with the parts that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// A directory of this machine.
    File {
        /// Its absolute path.
        root: PathBuf,
    },
    /// An S3 bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// What every key starts with; empty, or without slashes at its ends.
        prefix: String,
    },
    /// An Azure Blob container.
    Azure {
        /// The container.
        container: String,
        /// As for S3.
        prefix: String,
    },
    /// A Google Cloud Storage bucket.
    Gcs {
        /// The bucket.
        bucket: String,
        /// As for S3.
        prefix: String,
    },
    /// A WebDAV collection.
    WebDav {
        /// Scheme, host and port.
        origin: String,
        /// The collection's path, as for S3, with its escapes undone.
        prefix: String,
    },
    /// A directory at an SFTP server.
    Sftp {
        /// The user to log in as; without one the credentials name it.
        user: Option<String>,
        /// Its name or address; an IPv6 address in brackets.
        host: String,
        /// Its port.
        port: u16,
        /// The directory's absolute path, without a slash at its end but for `/` itself.
        root: String,
    },
    /// A store in this process.
    Memory {
        /// Its name.
        name: String,
    },
}

/// Why a text is no site address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Not a URL and not an absolute path.
    #[error("site address {0:?} is neither a URL nor an absolute path")]
    Form(String),
    /// A scheme that no backend speaks.
    #[error("site address scheme {0:?} is unknown; known are file, s3, az, gs, https, http, sftp, memory")]
    Scheme(String),
    /// A bucket, container or host is missing.
    #[error("site address {0:?} names no bucket or host")]
    NoHost(String),
    /// It holds credentials. The text is left out for that reason.
    #[error("site address holds a password, or a user that its kind does not take; give them as credentials")]
    Credentials,
    /// It has a query or a fragment.
    #[error("site address {0:?} has a query or a fragment")]
    Extra(String),
    /// A part that a store would rewrite.
    #[error("site address part {0:?} is not made of letters, digits, '-', '_', '.' and '~' cut by single slashes")]
    Part(String),
    /// A WebDAV path that has a second spelling.
    #[error(
        "site address part {0:?} is not made of letters, digits, '-', '_', '.' and '~' cut by single slashes, and of escapes \
         such as %40 (capitals) for anything else but slashes and control characters"
    )]
    Escape(String),
}

impl SiteAddress {
    /// Reads an address.
    ///
    /// ```
    /// use exclave_site::SiteAddress;
    /// assert_eq!(SiteAddress::parse("/srv/exclave").unwrap().to_string(), "file:///srv/exclave");
    /// assert!(SiteAddress::parse("s3://bucket/some/prefix").is_ok());
    /// for bad in ["srv", "ftp://host/a", "s3:///a", "https://me:secret@host/", "s3://b/a//b", "s3://b/../c"] {
    ///     assert!(SiteAddress::parse(bad).is_err(), "{bad}");
    /// }
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        if text.starts_with('/') {
            return Self::of_directory(Path::new(text));
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Self::of_directory(Path::new(path));
        }
        let url = Url::parse(text).map_err(|_| BadAddress::Form(short(text)))?;
        let may_name_user = url.scheme() == "sftp";
        if !url.username().is_empty() && !may_name_user || url.password().is_some() {
            return Err(BadAddress::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BadAddress::Extra(short(text)));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
        let host = host.ok_or_else(|| BadAddress::NoHost(short(text)));
        let prefix = prefix_as_written(text, &url)?;
        let scheme = match url.scheme() {
            "sftp" => return Self::of_sftp(&url, &host?, &prefix),
            "s3" => Scheme::S3 { bucket: host?, prefix },
            "az" => Scheme::Azure {
                container: host?,
                prefix,
            },
            "gs" => Scheme::Gcs { bucket: host?, prefix },
            "memory" => Scheme::Memory { name: host? },
            "http" | "https" => {
                host?;
                Scheme::WebDav {
                    origin: url.origin().ascii_serialization(),
                    prefix,
                }
            }
            other => return Err(BadAddress::Scheme(short(other))),
        };
        Ok(Self {
            text: url.as_str().trim_end_matches('/').to_owned(),
            scheme,
        })
    }

    /// The address of a directory at an SFTP server, in its one form: the host in lower case, no usual port.
    fn of_sftp(url: &Url, host: &str, path: &str) -> Result<Self, BadAddress> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let user = Some(url.username()).filter(|user| !user.is_empty());
        if let Some(user) = user.filter(|user| !user.bytes().all(allowed)) {
            return Err(BadAddress::Part(short(user)));
        }
        // A name that another kind of host would have in brackets or quotes.
        let is_literal = host.starts_with('[');
        if !is_literal && !host.bytes().all(allowed) {
            return Err(BadAddress::Part(short(host)));
        }
        // Some programs take this for the user's home; here a path is what it says.
        if path.split('/').next().is_some_and(|first| first.starts_with('~')) {
            return Err(BadAddress::Part(short(path)));
        }
        let host = host.to_ascii_lowercase();
        let port = url.port().unwrap_or(SSH_PORT);
        let mut text = "sftp://".to_owned();
        if let Some(user) = user {
            text += &format!("{user}@");
        }
        text += &host;
        if port != SSH_PORT {
            text += &format!(":{port}");
        }
        if !path.is_empty() {
            text += &format!("/{path}");
        }
        let scheme = Scheme::Sftp {
            user: user.map(str::to_owned),
            host,
            port,
            root: format!("/{path}"),
        };
        Ok(Self { text, scheme })
    }

    /// The address of a directory, which must be absolute.
    pub fn of_directory(root: &Path) -> Result<Self, BadAddress> {
        let text = root
            .to_str()
            .filter(|_| root.is_absolute())
            .ok_or_else(|| BadAddress::Form(format!("{root:?}")))?;
        let trimmed = text.trim_end_matches('/');
        let scheme = Scheme::File {
            root: PathBuf::from(if trimmed.is_empty() { "/" } else { trimmed }),
        };
        Ok(Self {
            text: format!("file://{}", if trimmed.is_empty() { "/" } else { trimmed }),
            scheme,
        })
    }

    /// Which store it names.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The path of an address whose text is what `url` says.
///
/// `Url` mends what it reads: it resolves `..` in all its spellings, turns backslashes, drops line ends. What is no address
/// as it stands is a mistake to be told, so that two texts of one site are known for the same. For that reason what needs no
/// escape in a WebDAV path may have none, and what needs one is written in one way.
fn prefix_as_written(text: &str, url: &Url) -> Result<String, BadAddress> {
    let (_, rest) = text.split_once("://").ok_or_else(|| BadAddress::Form(short(text)))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let is_web = matches!(url.scheme(), "http" | "https");
    let kept = url.path().trim_end_matches('/').strip_prefix('/').unwrap_or_default() == path;
    let prefix = match (kept, is_web) {
        (true, true) => unescaped(path).ok_or_else(|| BadAddress::Escape(short(path)))?,
        (true, false) if is_clean(path) => path.to_owned(),
        (true | false, _) => return Err(BadAddress::Part(short(path))),
    };
    let mended = |c: char| c.is_control() || c.is_whitespace() || c == '%';
    let is_dots = url.host_str().is_some_and(|host| matches!(host, "." | ".."));
    // A bucket has no port; its endpoint has. Nor is its name written in other letters, which `Url` would encode.
    let is_odd = !is_web && (url.port().is_some() && url.scheme() != "sftp" || !authority.is_ascii());
    if authority.contains(mended) || is_dots || is_odd {
        return Err(BadAddress::Part(short(authority)));
    }
    Ok(prefix)
}

/// A path with its escapes undone (RFC 3986 section 2.1), when it is the one way to write it: clean characters stand for
/// themselves, and all others but slashes and control characters are escaped, in capitals.
fn unescaped(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match *first {
            b'%' => {}
            b'/' if bytes.last().is_some_and(|last| *last != b'/') => {
                bytes.push(b'/');
                continue;
            }
            clean if is_clean_byte(clean) => {
                bytes.push(clean);
                continue;
            }
            _ => return None,
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        rest = behind;
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        };
        let byte = digit(digits[0])? << 4 | digit(digits[1])?;
        if is_clean_byte(byte) || byte == b'/' || byte.is_ascii_control() {
            return None;
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

/// True when a path is made of parts that every store keeps unchanged.
fn is_clean(path: &str) -> bool {
    path.is_empty()
        || path
            .split('/')
            .all(|part| !part.is_empty() && part.bytes().all(is_clean_byte))
}

/// What RFC 3986 calls unreserved: no store and no URL ever writes it in another way.
fn is_clean_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

impl FromStr for SiteAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        Self::parse(text)
    }
}

impl fmt::Display for SiteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SiteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<'de> serde::Deserialize<'de> for SiteAddress {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for SiteAddress {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_parses_to_its_parts_and_prints_alike() {
        let s3 = SiteAddress::parse("s3://bucket/a/b/").unwrap();
        assert_eq!(
            *s3.scheme(),
            Scheme::S3 {
                bucket: "bucket".into(),
                prefix: "a/b".into()
            }
        );
        assert_eq!(s3.to_string(), "s3://bucket/a/b");
        let dav = SiteAddress::parse("http://127.0.0.1:8080/dav").unwrap();
        assert_eq!(
            *dav.scheme(),
            Scheme::WebDav {
                origin: "http://127.0.0.1:8080".into(),
                prefix: "dav".into()
            }
        );
        for text in [
            "az://box",
            "gs://bucket/x",
            "memory://one",
            "file:///srv/x",
            "https://host/a",
        ] {
            assert_eq!(SiteAddress::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_a_url_parser_would_mend_is_refused() {
        for bad in [
            "https:./da",
            "https:host/a",
            "https://./a",
            "https://%2e/a",
            "https://\u{3002}/a",
            "https://host//a",
            "https://host/a/%2e%2e/b",
            "https://host\\a",
            "https://host/a\n/b",
            "https://ho\tst/a",
            "s3://bucket/a/%2E%2e/b",
            "s3://bucket/a/./b",
            "s3://bucket//a",
            "s3://bucket:9000/a",
            "s3://b\u{fc}cher/a",
            "memory://one:1",
        ] {
            let read = SiteAddress::parse(bad);
            assert!(
                matches!(
                    read,
                    Err(BadAddress::Form(_) | BadAddress::Part(_) | BadAddress::Escape(_))
                ),
                "{bad:?}: {read:?}"
            );
        }
        // What the text means stays free: case, the usual port, a slash at the end.
        for (text, shown) in [
            ("HTTPS://Host:443/a/", "https://host/a"),
            ("https://host:8443//", "https://host:8443"),
            ("https://b\u{fc}cher.example/a", "https://xn--bcher-kva.example/a"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(SiteAddress::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_webdav_path_may_hold_anything_in_one_spelling() {
        for (text, prefix) in [
            (
                "https://dav.example/remote.php/dav/files/anna%40land.lu",
                "remote.php/dav/files/anna@land.lu",
            ),
            ("https://dav.example/a%20b/50%25/x", "a b/50%/x"),
            ("https://dav.example/B%C3%BCro", "B\u{fc}ro"),
            ("https://dav.example/%2540", "%40"),
            ("https://dav.example/a%2Bb%5C", "a+b\\"),
        ] {
            let address = SiteAddress::parse(text).unwrap();
            let Scheme::WebDav { prefix: read, .. } = address.scheme() else {
                panic!("{address} is no WebDAV");
            };
            assert_eq!((read.as_str(), address.as_str()), (prefix, text));
        }
        for bad in [
            "https://host/a@b",
            "https://host/a+b",
            "https://host/%7Ea",
            "https://host/%61",
            "https://host/a%2fb",
            "https://host/a%2Fb",
            "https://host/%c3%bc",
            "https://host/%FF",
            "https://host/%00",
            "https://host/%0A",
            "https://host/%4",
            "https://host/%",
            "https://host/%4G",
            "https://host/a%2E%2E",
            "https://host/a%20b//c",
            "s3://bucket/a%20b",
        ] {
            assert!(SiteAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_sftp_address_is_a_user_a_host_and_an_absolute_path() {
        let address = SiteAddress::parse("SFTP://me@Host.example:22/srv/exclave/").unwrap();
        assert_eq!(address.to_string(), "sftp://me@host.example/srv/exclave");
        assert_eq!(
            *address.scheme(),
            Scheme::Sftp {
                user: Some("me".into()),
                host: "host.example".into(),
                port: 22,
                root: "/srv/exclave".into()
            }
        );
        for (text, shown, root) in [
            ("sftp://[::1]:2222/a", "sftp://[::1]:2222/a", "/a"),
            ("sftp://host", "sftp://host", "/"),
            ("sftp://u_1.x-y@10.0.0.1/", "sftp://u_1.x-y@10.0.0.1", "/"),
        ] {
            let address = SiteAddress::parse(text).unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(matches!(address.scheme(), Scheme::Sftp { root: found, .. } if found == root));
            assert_eq!(SiteAddress::parse(shown), Ok(address));
        }
        for bad in [
            "sftp:host/a",
            "sftp:///a",
            "sftp://me@/a",
            "sftp://me@host/~/a",
            "sftp://me@host/a/../b",
            "sftp://me@host/./a",
            "sftp://me@host//a",
            "sftp://me@host/a b",
            "sftp://me@ho st/a",
            "sftp://me%40x@host/a",
            "sftp://me@h%6fst/a",
            "sftp://me@h\u{f6}st/a",
            "sftp://me@host:99999/a",
            "sftp://me@host/a?b",
        ] {
            assert!(SiteAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for text in [
            "https://me:hunter2@host/a",
            "https:me:hunter2@host/a",
            "s3://me:hunter2@b/%2e",
            "sftp://me:hunter2@host/a",
        ] {
            let error = SiteAddress::parse(text).unwrap_err();
            assert_eq!(error, BadAddress::Credentials);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
