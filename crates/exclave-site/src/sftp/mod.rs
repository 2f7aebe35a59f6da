//! A site over SFTP: a directory at a server that speaks SSH, and nothing else of that server.
//!
//! An object `a/b/c` is the file `a/b/c` below the address's path, as at a directory ([`crate::FileSite`]); the two can be
//! turned into one another by copying. The path must exist.
//!
//! One connection carries all requests of a site, many at a time; when it breaks, whoever waits is told `Unreachable`, and
//! the next request makes another. SSH is `russh`'s, in our own process: a restore on a strange machine needs no program
//! beside ours. SFTP itself is spoken here ([`packet`], [`client`]).
//!
//! # A put
//!
//! The body goes to `~<process>.<number>` beside its place (no object name has a `~`, so it is never listed or read), is
//! synced by `fsync@openssh.com` where the server has that, and takes its name in one step: `hardlink@openssh.com` for a
//! create-only put, which fails where the name is taken, and `posix-rename@openssh.com` for a plain one. Without the
//! first, create-only puts are `Unsupported`. Without the second, plain SFTP renames; what that does to a name that is
//! taken is the server's choice, and a server that refuses can't overwrite. A killed put leaves at most such a leftover;
//! a failed or abandoned one removes its own while there is a connection.
//!
//! # When it is durable
//!
//! A file is synced before it takes its name; SFTP has nothing that syncs a directory, so after a power cut at the server a
//! name may be missing, never torn. Where there is no `fsync@openssh.com` even that is the server's affair.

mod client;
mod connection;
mod get;
mod handle;
mod packet;
mod put;
mod trouble;
mod trust;
mod walk;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};
use russh::keys::PrivateKey;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::connection::{Login, Session, Target};
use self::get::length_of;
use self::packet::Request;
use self::trouble::Trouble;
use self::trust::Trust;
use self::walk::Depth;
use crate::contract::{Children, Destroy, Listing, PutMode, Site, Stored};
use crate::error::Operation;
use crate::retention::{ObjectLock, Retention, Versioning};
use crate::versions::{self, VersionId, Versions};
use crate::{Body, Credentials, Scheme, SiteAddress, SiteError, SiteSettings};

/// What a leftover's name begins with.
const LEFTOVER: &str = "~";

/// Reads or writes of one object that are on their way together: 2 MiB, as much as SSH's window holds.
const PIECES_AT_ONCE: usize = 16;

/// A site over SFTP.
#[derive(Debug, Clone)]
pub(crate) struct SftpSite(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SiteAddress,
    target: Target,
    line: Mutex<Line>,
    puts: AtomicU64,
}

/// The connection, or how the last attempt at one ended.
#[derive(Debug, Default)]
struct Line {
    session: Option<Arc<Session>>,
    failed: Option<(Instant, Trouble)>,
}

/// Why settings don't make an SFTP site.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSftp {
    #[error("{0} is no SFTP address")]
    Address(SiteAddress),
    #[error("the address names no user, and neither do the credentials: write sftp://USER@HOST/path")]
    NoUser,
    #[error("the address names another user than the credentials")]
    TwoUsers,
    #[error("{0} has no meaning for SFTP{1}")]
    Setting(&'static str, &'static str),
    #[error("it has a host_key and known hosts; one of them is enough")]
    TwoTrusts,
    #[error("credentials of kind {0} for a site of kind SFTP")]
    Credentials(&'static str),
    #[error("the private key can't be read: {0}")]
    Key(String),
}

impl SftpSite {
    /// A site at the server that `address` names; nothing is sent yet.
    pub(crate) fn new(address: &SiteAddress, settings: &SiteSettings) -> Result<Self, BadSftp> {
        let Scheme::Sftp { user, host, port, root } = address.scheme() else {
            return Err(BadSftp::Address(address.clone()));
        };
        for (given, setting, instead) in [
            (settings.endpoint.is_some(), "endpoint", ""),
            (settings.proxy.is_some(), "a proxy", ""),
            (!settings.pin.is_empty(), "pin", "; its server shows a host_key"),
            (
                settings.ca_pem.is_some(),
                "an authority",
                "; its server shows a host_key",
            ),
        ] {
            if given {
                return Err(BadSftp::Setting(setting, instead));
            }
        }
        let trust = match (&settings.known_hosts, settings.host_key.is_empty()) {
            (Some(_), false) => return Err(BadSftp::TwoTrusts),
            (Some(text), true) => Trust::of_known_hosts(text, host, *port),
            (None, _) => Trust::of_fingerprints(&settings.host_key),
        };
        let (their_user, login) = login(&settings.credentials)?;
        let user = match (user, their_user) {
            (Some(ours), Some(theirs)) if *ours != theirs => return Err(BadSftp::TwoUsers),
            (Some(user), _) => user.clone(),
            (None, Some(user)) => user,
            (None, None) => return Err(BadSftp::NoUser),
        };
        // A server must be found silent before the whole operation's time is over, or its connection would be used again.
        let silence_max = settings.silence_max.0.min(settings.operation_max.0 / 2);
        let target = Target {
            host: host.clone(),
            port: *port,
            user,
            login,
            trust,
            root: root.clone(),
            connect_max: settings.connect_max.0,
            silence_max,
        };
        Ok(Self(Arc::new(Inner {
            address: address.clone(),
            target,
            line: Mutex::default(),
            puts: AtomicU64::new(0),
        })))
    }

    fn blame(&self, operation: Operation) -> impl Fn(Trouble) -> SiteError {
        move |trouble| trouble.into_error(&self.0.address, operation)
    }
}

/// The user that credentials name, and what they show.
fn login(credentials: &Credentials) -> Result<(Option<String>, Login), BadSftp> {
    match credentials {
        Credentials::Anonymous => Ok((None, Login::Nobody)),
        Credentials::Basic { user, password } => Ok((Some(user.clone()), Login::Password(password.clone()))),
        Credentials::Ssh {
            user,
            private_key,
            passphrase,
        } => {
            let passphrase = passphrase.as_ref().map(|secret| secret.expose());
            Ok((
                user.clone(),
                Login::Key(Arc::new(private_key_of(private_key.expose(), passphrase)?)),
            ))
        }
        other => Err(BadSftp::Credentials(other.kind())),
    }
}

/// No text of the parser that could quote a secret.
fn private_key_of(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, BadSftp> {
    use russh::keys::{Error, decode_secret_key};
    let key = decode_secret_key(text, passphrase).map_err(|error| {
        BadSftp::Key(match error {
            Error::KeyIsEncrypted => "it is encrypted; give its passphrase".into(),
            Error::UnsupportedKeyType { .. } => "keys of its kind are not supported; make an ed25519 one".into(),
            _ if passphrase.is_some() => "it is damaged, or has another passphrase".into(),
            _ => "it is no private key in OpenSSH's format".into(),
        })
    })?;
    if key.algorithm().is_rsa() {
        return Err(BadSftp::Key("RSA keys are not supported; make an ed25519 one".into()));
    }
    Ok(key)
}

impl Inner {
    /// The connection; makes one when there is none or it is over. Those who wait meanwhile share the attempt's failure.
    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let asked = Instant::now();
        let mut line = self.line.lock().await;
        if let Some(session) = line.session.as_ref().filter(|session| !session.client.is_over()) {
            return Ok(Arc::clone(session));
        }
        line.session = None;
        if let Some((when, trouble)) = &line.failed
            && *when > asked
        {
            return Err(trouble.clone());
        }
        match Session::connect(&self.target).await {
            Ok(session) => {
                let session = Arc::new(session);
                line.session = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(trouble) => {
                line.failed = Some((Instant::now(), trouble.clone()));
                Err(trouble)
            }
        }
    }

    fn path(&self, name: &ObjectName) -> String {
        join(&self.target.root, name.as_str())
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize, depth: Depth) -> Result<Children, Trouble> {
        let session = self.session().await?;
        walk::walk(&session, &self.target.root, prefix, entries_max, depth).await
    }
}

/// A path below the root.
fn join(root: &str, name: &str) -> String {
    let root = root.trim_end_matches('/');
    match (root, name) {
        ("", "") => "/".to_owned(),
        (root, "") => root.to_owned(),
        (root, name) => format!("{root}/{name}"),
    }
}

#[async_trait]
impl Site for SftpSite {
    async fn put(&self, name: &ObjectName, body: Body, mode: PutMode) -> Result<Stored, SiteError> {
        let put = self.0.put(name, &body, mode).await;
        put.map_err(self.blame(Operation::Put))
            .map_err(|error| error.object(name))
    }

    async fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Bytes, SiteError> {
        let get = self.0.get(name, bytes_max).await;
        get.map_err(self.blame(Operation::Get))
            .map_err(|error| error.object(name))
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, SiteError> {
        let get = self.0.get_range(name, range).await;
        get.map_err(self.blame(Operation::GetRange))
            .map_err(|error| error.object(name))
    }

    async fn length(&self, name: &ObjectName) -> Result<u64, SiteError> {
        let length = async {
            let session = self.0.session().await?;
            length_of(session.client.lstat(&self.0.path(name)).await?)
        };
        length
            .await
            .map_err(self.blame(Operation::Length))
            .map_err(|error| error.object(name))
    }

    async fn list(&self, prefix: &Prefix, entries_max: usize) -> Result<Listing, SiteError> {
        let found = self.0.list(prefix, entries_max, Depth::All).await;
        let found = found
            .map_err(self.blame(Operation::List))
            .map_err(|error| error.prefix(prefix))?;
        Ok(Listing {
            entries: found.entries,
            ignored: found.ignored,
            complete: found.complete,
        })
    }

    async fn list_children(&self, prefix: &Prefix, entries_max: usize) -> Result<Children, SiteError> {
        let found = self.0.list(prefix, entries_max, Depth::One).await;
        found
            .map_err(self.blame(Operation::ListChildren))
            .map_err(|error| error.prefix(prefix))
    }

    /// Each put was synced as far as the server can be asked to.
    async fn flush(&self) -> Result<(), SiteError> {
        Ok(())
    }

    async fn date(&self) -> Option<i64> {
        None
    }

    fn address(&self) -> &SiteAddress {
        &self.0.address
    }

    fn versions(&self) -> Option<&dyn Versions> {
        None
    }
}

#[async_trait]
impl Destroy for SftpSite {
    async fn delete(&self, name: &ObjectName) -> Result<(), SiteError> {
        let delete = async {
            let path = self.0.path(name);
            let session = self.0.session().await?;
            match session.client.order(&Request::Remove { path: &path }).await {
                Err(trouble) if trouble.is_missing() => Ok(()),
                other => other,
            }
        };
        delete
            .await
            .map_err(self.blame(Operation::Delete))
            .map_err(|error| error.object(name))
    }

    async fn delete_version(&self, name: &ObjectName, _version: &VersionId) -> Result<(), SiteError> {
        Err(versions::has_none(&self.0.address, Operation::DeleteVersion).object(name))
    }

    /// Not yet: what a killed put left stays.
    async fn sweep(&self) -> Result<u64, SiteError> {
        let trouble = Trouble::unsupported("removing what killed puts left");
        Err(trouble.into_error(&self.0.address, Operation::Delete))
    }
}

#[async_trait]
impl Retention for SftpSite {
    async fn versioning(&self, _sample: &ObjectName) -> Result<Versioning, SiteError> {
        Ok(Versioning::Off)
    }

    async fn object_lock(&self) -> Result<ObjectLock, SiteError> {
        Ok(ObjectLock::None)
    }
}
