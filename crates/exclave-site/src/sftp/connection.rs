//! From a host and a port to an SFTP session: TCP, SSH, who the server is, who we are.
//!
//! Nothing ambient: no file below `~/.ssh`, no agent, no variable. What the settings don't give isn't looked for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::{self, AuthResult};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Preferred, cipher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::client::Client;
use super::packet::FileKind;
use super::trouble::Trouble;
use super::trust::Trust;
use crate::Secret;
use crate::error::Failure;

/// Bytes of one read or write where the server doesn't say what it takes; section 3 of the draft has every server take
/// packets of 34,000.
const PIECE_BYTES_MIN: u32 = 32 << 10;

/// Most bytes of one read or write: enough that requests cost little, and few enough that a slow link shows progress
/// within the allowed silence (4 s at 256 kbit/s).
const PIECE_BYTES_MAX: u32 = 128 << 10;

/// Whom to connect to, and as whom.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) login: Login,
    pub(super) trust: Trust,
    /// The absolute path of the site's directory.
    pub(super) root: String,
    pub(super) connect_max: Duration,
    pub(super) silence_max: Duration,
}

/// What shows that we are who we say.
#[derive(Debug)]
pub(super) enum Login {
    Key(Arc<PrivateKey>),
    Password(Secret),
    /// SSH's method "none".
    Nobody,
}

/// A session at a server whose root is there.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) extensions: Extensions,
    /// Bytes of one read or write.
    pub(super) piece_bytes: u32,
    _ssh: Ssh,
}

/// Which of OpenSSH's extensions the server has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extensions {
    pub(super) fsync: bool,
    pub(super) hardlink: bool,
    pub(super) posix_rename: bool,
    pub(super) statvfs: bool,
}

/// The connection below; dropping the sender cuts it.
struct Ssh(
    #[expect(dead_code, reason = "held, not used")] client::Handle<Door>,
    #[expect(dead_code, reason = "held, not used")] oneshot::Sender<()>,
);

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ssh")
    }
}

impl Session {
    /// Connects within the allowed time.
    pub(super) async fn connect(target: &Target) -> Result<Self, Trouble> {
        let attempt = tokio::time::timeout(target.connect_max, Self::attempt(target));
        attempt
            .await
            .unwrap_or_else(|_| Err(Trouble::silent(target.connect_max)))
    }

    async fn attempt(target: &Target) -> Result<Self, Trouble> {
        // The brackets of an IPv6 address are the URL's.
        let host = target.host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((host, target.port)).await;
        let socket = socket.map_err(|error| Trouble::lost(error.to_string()))?;
        // Packets are small and wait for replies.
        let _ = socket.set_nodelay(true);
        let (cutter, cut) = oneshot::channel();
        let door = Door(target.trust.clone());
        let mut ssh = client::connect_stream(Arc::new(config(target)), Cuttable { socket, cut }, door)
            .await
            .map_err(Trouble::from)?;
        log_in(&mut ssh, target).await?;
        let mut channel = ssh.channel_open_session().await.map_err(of_ssh)?;
        begin_sftp(&mut channel).await?;
        let (client, hello) = Client::start(channel.into_stream(), target.silence_max).await?;
        let extensions = Extensions {
            fsync: hello.offers("fsync@openssh.com", "1"),
            hardlink: hello.offers("hardlink@openssh.com", "1"),
            posix_rename: hello.offers("posix-rename@openssh.com", "1"),
            statvfs: hello.offers("statvfs@openssh.com", "2"),
        };
        if !extensions.fsync {
            tracing::warn!(host = %target.host, "the SFTP server has no fsync: what is put may not survive its power cut");
        }
        let piece_bytes = if hello.offers("limits@openssh.com", "1") {
            piece_bytes(client.limits().await?)
        } else {
            PIECE_BYTES_MIN
        };
        match client.stat(&target.root).await {
            Ok(about) if matches!(about.kind(), FileKind::Directory | FileKind::Unknown) => {}
            Ok(_) => return Err(Trouble::lost(format!("{} is no directory", target.root))),
            // A root that isn't there is a site that can't be reached, not a missing object.
            Err(trouble) if trouble.is_missing() => {
                return Err(Trouble::lost(format!("the server has no directory {}", target.root)));
            }
            Err(trouble) => return Err(trouble),
        }
        Ok(Self {
            client,
            extensions,
            piece_bytes,
            _ssh: Ssh(ssh, cutter),
        })
    }
}

/// Asks for SFTP on a channel.
async fn begin_sftp(channel: &mut Channel<client::Msg>) -> Result<(), Trouble> {
    channel.request_subsystem(true, "sftp").await.map_err(of_ssh)?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(()),
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            Some(ChannelMsg::Failure) => return Err(Trouble::unsupported("SFTP by this SSH server")),
            Some(_) => return Err(Trouble::malformed("SSH: no answer to the request for SFTP")),
            None => return Err(Trouble::lost("the server hung up when it was asked for SFTP")),
        }
    }
}

/// What a server takes in one read and in one write, within our own bounds; 0 says nothing.
fn piece_bytes((read_bytes, write_bytes): (u64, u64)) -> u32 {
    let told = [read_bytes, write_bytes].into_iter().filter(|bytes| *bytes > 0).min();
    let told = told.map_or(PIECE_BYTES_MIN, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    told.clamp(1, PIECE_BYTES_MAX)
}

fn config(target: &Target) -> client::Config {
    client::Config {
        preferred: Preferred {
            key: target.trust.algorithms().into(),
            // The one that processors have instructions for goes first.
            cipher: vec![cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR].into(),
            ..Preferred::DEFAULT
        },
        // A firewall on the way forgets connections that say nothing.
        keepalive_interval: Some(target.silence_max),
        nodelay: true,
        ..client::Config::default()
    }
}

async fn log_in(ssh: &mut client::Handle<Door>, target: &Target) -> Result<(), Trouble> {
    let user = target.user.as_str();
    let (method, result) = match &target.login {
        Login::Key(key) => {
            let key = PrivateKeyWithHashAlg::new(Arc::clone(key), None);
            ("key", ssh.authenticate_publickey(user, key).await)
        }
        Login::Password(password) => ("password", ssh.authenticate_password(user, password.expose()).await),
        Login::Nobody => ("login without key and password", ssh.authenticate_none(user).await),
    };
    match result.map_err(of_ssh)? {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { .. } if ssh.is_closed() => Err(Trouble::lost("the server hung up at the login")),
        AuthResult::Failure {
            partial_success: true, ..
        } => Err(Trouble::unsupported("a server that asks for more than one proof")),
        AuthResult::Failure { remaining_methods, .. } => {
            let takes: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
            let why = format!(
                "the server refuses the {method} of {user}; it takes {}",
                takes.join(", ")
            );
            Err(Trouble::new(Failure::Denied, why))
        }
    }
}

/// Who may be let in: asked once the server has proven to hold its key.
struct Door(Trust);

impl client::Handler for Door {
    type Error = Refusal;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Refusal> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.0.check(key).map_err(Refusal::Untrusted).map(|()| true)
            }
            // None was asked for.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
enum Refusal {
    Untrusted(Failure),
    Ssh(russh::Error),
}

impl From<russh::Error> for Refusal {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Untrusted(failure) => Self::new(failure, "the connection was ended before the login"),
            Refusal::Ssh(error) => of_ssh(error),
        }
    }
}

/// What an error of SSH means.
fn of_ssh(error: russh::Error) -> Trouble {
    use russh::Error;
    match error {
        Error::NoCommonAlgo { kind, theirs, .. } => {
            let theirs: String = theirs.join(", ").chars().take(300).collect();
            Trouble::unsupported(format!("{kind:?} algorithms of the server: {theirs}"))
        }
        Error::WrongServerSig => Failure::Untrusted {
            why: "it does not hold the host key that it shows".into(),
        }
        .into(),
        Error::Version
        | Error::Kex
        | Error::KexInit
        | Error::PacketAuth
        | Error::PacketSize(_)
        | Error::DecryptionError
        | Error::StrictKeyExchangeViolation { .. }
        | Error::SshEncoding(_)
        | Error::SshKey(_) => Trouble::malformed(format!("SSH: {error}")),
        Error::ChannelOpenFailure(_) | Error::RequestDenied => Trouble::new(
            Failure::Denied,
            format!("the server lets us in and gives no session: {error}"),
        ),
        other => Trouble::lost(other.to_string()),
    }
}

/// A connection that ends, whatever it waits for, when its owner lets go of the other end of `cut`: a server that takes
/// nothing and says nothing can't keep it.
struct Cuttable {
    socket: TcpStream,
    cut: oneshot::Receiver<()>,
}

impl Cuttable {
    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        // Nothing is ever sent: it is ready once the sender is gone.
        !self.cut.is_terminated() && Pin::new(&mut self.cut).poll(cx).is_ready() || self.cut.is_terminated()
    }
}

fn was_cut<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}

impl AsyncRead for Cuttable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return was_cut();
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut(cx) {
            return was_cut();
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
