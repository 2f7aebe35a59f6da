//! An SSH server on loopback with one directory to serve over SFTP, which can be told to misbehave.
//!
//! Its SFTP is written from the draft, apart from the client's: the two share no code, so what both read wrongly would have
//! to be misread twice. Its handles are bytes that are no text.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use exclave_site::{HostKey, SiteAddress, SiteSettings};
use russh::keys::{HashAlg, PrivateKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const USER: &str = "exclave";
pub const PASSWORD: &str = "only for this test";

/// The server's key and the one that it lets in, made for these tests with ssh-keygen.
pub const HOST_KEY: &str = include_str!("host_key");
pub const CLIENT_KEY: &str = include_str!("client_key");

/// Types of requests, as in the draft's section 3.
pub mod kind {
    pub const INIT: u8 = 1;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const EXTENDED: u8 = 200;
}

const EXTENSIONS: [(&str, &str); 4] = [
    ("posix-rename@openssh.com", "1"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("limits@openssh.com", "1"),
];

/// What the server does that it shouldn't.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Speaks no SFTP at all.
    pub is_a_shell_only: bool,
    /// Extensions that it doesn't have.
    pub without: Vec<&'static str>,
    /// Names in every directory beside those that are there, said to be plain files of 3 bytes.
    pub more_names: Vec<Vec<u8>>,
    /// Says nothing about what it lists but the names.
    pub lists_names_only: bool,
    /// Hangs up at the nth request of this type, counted from 1.
    pub hangs_up_at: Option<(u8, usize)>,
    /// Never answers requests of this type.
    pub ignores: Option<u8>,
    /// Gives at most this many bytes at a time.
    pub read_bytes_max: Option<usize>,
    /// Ends every file here, whatever it says of its length.
    pub files_end_at: Option<u64>,
    /// Answers requests of this type with these bytes in the place of a packet.
    pub garbage: Option<(u8, Vec<u8>)>,
    /// Answers requests of this type with this status.
    pub refuses: Option<(u8, u32)>,
}

/// A server, and what it has seen.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub port: u16,
    pub behaviour: Arc<Mutex<Behaviour>>,
    /// Every request's type, in order.
    pub seen: Arc<Mutex<Vec<u8>>>,
    /// Connections that were ever accepted; dropping one's task closes it.
    pub connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    listening: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
        self.hang_up();
    }
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let behaviour = Arc::<Mutex<Behaviour>>::default();
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let connections = Arc::<Mutex<Vec<JoinHandle<()>>>>::default();
        let (their_behaviour, their_seen, accepted) =
            (Arc::clone(&behaviour), Arc::clone(&seen), Arc::clone(&connections));
        let listening = tokio::spawn(async move {
            let config = Arc::new(server::Config {
                keys: vec![HOST_KEY.parse::<PrivateKey>().unwrap()],
                auth_rejection_time: std::time::Duration::from_millis(10),
                ..server::Config::default()
            });
            while let Ok((mut socket, _)) = listener.accept().await {
                let (mut near, far) = tokio::io::duplex(64 << 10);
                let door = Door {
                    channels: HashMap::new(),
                    behaviour: Arc::clone(&their_behaviour),
                    seen: Arc::clone(&their_seen),
                };
                let config = Arc::clone(&config);
                let carrying = tokio::spawn(async move {
                    let session = tokio::spawn(async move {
                        if let Ok(session) = server::run_stream(config, far, door).await {
                            let _ = session.await;
                        }
                    });
                    let _ = tokio::io::copy_bidirectional(&mut socket, &mut near).await;
                    session.abort();
                });
                accepted.lock().unwrap().push(carrying);
            }
        });
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            port,
            behaviour,
            seen,
            connections,
            listening,
        }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Breaks every connection.
    pub fn hang_up(&self) {
        self.connections.lock().unwrap().iter().for_each(JoinHandle::abort);
    }

    pub fn accepted(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    pub fn address(&self) -> SiteAddress {
        self.address_of(self.folder.path().to_str().unwrap())
    }

    pub fn address_of(&self, path: &str) -> SiteAddress {
        SiteAddress::parse(&format!("sftp://{USER}@127.0.0.1:{}{path}", self.port)).unwrap()
    }

    pub fn host_key() -> HostKey {
        let key = HOST_KEY.parse::<PrivateKey>().unwrap();
        HostKey::of_sha256(key.public_key().fingerprint(HashAlg::Sha256).sha256().unwrap())
    }

    /// Settings that let us in, and more.
    pub fn settings(&self, more: &str) -> SiteSettings {
        let host_key = Self::host_key();
        toml::from_str(&format!(
            "host_key = \"{host_key}\"\n{more}\n[credentials.basic]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\""
        ))
        .unwrap()
    }

    /// Names of the files below the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.folder.path().to_owned()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => waiting.push(entry.path()),
                    false => found.push(
                        entry
                            .path()
                            .strip_prefix(self.folder.path())
                            .unwrap()
                            .display()
                            .to_string(),
                    ),
                }
            }
        }
        found.sort();
        found
    }
}

struct Door {
    channels: HashMap<ChannelId, Channel<Msg>>,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl server::Handler for Door {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if (user, password) == (USER, PASSWORD) {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }

    async fn auth_publickey(&mut self, user: &str, key: server::VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let ours = CLIENT_KEY.parse::<PrivateKey>().unwrap();
        let is_ours = user == USER && key.public_key.key_data() == ours.public_key().key_data();
        Ok(if is_ours { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        assert_eq!(name, "sftp");
        if self.behaviour.lock().unwrap().is_a_shell_only {
            return session.channel_failure(id);
        }
        let channel = self.channels.remove(&id).unwrap();
        session.channel_success(id)?;
        let files = Files {
            behaviour: Arc::clone(&self.behaviour),
            seen: Arc::clone(&self.seen),
            counts: HashMap::new(),
            open: HashMap::new(),
            number: 0,
        };
        tokio::spawn(files.serve(channel.into_stream()));
        Ok(())
    }
}

enum Open {
    File(File),
    Names(Option<Vec<(Vec<u8>, Option<fs::Metadata>)>>),
}

struct Files {
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Vec<u8>>>,
    counts: HashMap<u8, usize>,
    open: HashMap<Vec<u8>, Open>,
    number: u8,
}

const OK: u32 = 0;
const EOF: u32 = 1;

impl Files {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut self, mut stream: S) {
        loop {
            let Ok(length) = stream.read_u32().await else {
                return;
            };
            let mut packet = vec![0; length as usize];
            if stream.read_exact(&mut packet).await.is_err() {
                return;
            }
            let mut packet = Bytes::from(packet);
            let kind = packet.get_u8();
            self.seen.lock().unwrap().push(kind);
            let behaviour = self.behaviour.lock().unwrap().clone();
            let count = self.counts.entry(kind).or_default();
            *count += 1;
            if behaviour.hangs_up_at == Some((kind, *count)) {
                return;
            }
            let reply = match (&behaviour.garbage, kind) {
                (Some((of, garbage)), _) if *of == kind => garbage.clone(),
                (_, kind::INIT) => framed(&hello(&behaviour)),
                _ => {
                    let id = packet.get_u32();
                    let (reply, body) = match behaviour.refuses {
                        Some((of, status)) if of == kind => (101, status_body(status)),
                        _ => self.answer(kind, packet, &behaviour),
                    };
                    let head = [&[reply][..], &id.to_be_bytes()].concat();
                    framed(&[head, body].concat())
                }
            };
            if behaviour.ignores == Some(kind) {
                continue;
            }
            if stream.write_all(&reply).await.is_err() {
                return;
            }
        }
    }

    fn answer(&mut self, kind: u8, mut packet: Bytes, behaviour: &Behaviour) -> (u8, Vec<u8>) {
        let first = string(&mut packet);
        let path = || Path::new(std::str::from_utf8(&first).unwrap());
        let done = |result: io::Result<()>| (101, status_body(result.map_or_else(|error| status_of(&error), |()| OK)));
        let failed = |error: &io::Error| (101, status_body(status_of(error)));
        match kind {
            kind::OPEN => {
                let opened = match packet.get_u32() {
                    1 => File::open(path()),
                    0x2a => File::create_new(path()),
                    other => panic!("flags {other:#x}"),
                };
                match opened {
                    Ok(file) => (102, self.keep(Open::File(file))),
                    Err(error) => failed(&error),
                }
            }
            kind::OPENDIR => match names(path(), behaviour) {
                Ok(names) => (102, self.keep(Open::Names(Some(names)))),
                Err(error) => failed(&error),
            },
            kind::CLOSE => (101, status_body(self.open.remove(&first).map_or(4, |_| OK))),
            kind::READ => {
                let (offset, wanted) = (packet.get_u64(), packet.get_u32() as usize);
                let end = behaviour.files_end_at.unwrap_or(u64::MAX);
                let wanted = wanted.min(behaviour.read_bytes_max.unwrap_or(usize::MAX));
                let wanted = wanted.min(usize::try_from(end.saturating_sub(offset)).unwrap());
                let mut data = vec![0; wanted];
                let Some(Open::File(file)) = self.open.get(&first) else {
                    return (101, status_body(4));
                };
                match file.read_at(&mut data, offset) {
                    Ok(0) => (101, status_body(EOF)),
                    Ok(got) => (103, counted(&data[..got])),
                    Err(error) => failed(&error),
                }
            }
            kind::WRITE => {
                let offset = packet.get_u64();
                let data = string(&mut packet);
                assert!(packet.is_empty());
                match self.open.get(&first) {
                    Some(Open::File(file)) => done(file.write_all_at(&data, offset)),
                    _ => (101, status_body(4)),
                }
            }
            kind::LSTAT | kind::STAT => {
                let about = if kind == kind::STAT {
                    fs::metadata(path())
                } else {
                    fs::symlink_metadata(path())
                };
                match about {
                    Ok(about) => (105, attributes(&about)),
                    Err(error) => failed(&error),
                }
            }
            kind::READDIR => match self.open.get_mut(&first) {
                Some(Open::Names(names)) => match names.take() {
                    Some(names) => (104, name_body(&names, behaviour)),
                    None => (101, status_body(EOF)),
                },
                _ => (101, status_body(4)),
            },
            kind::REMOVE => done(fs::remove_file(path())),
            kind::MKDIR => done(fs::create_dir(path())),
            kind::RENAME => {
                let to = string(&mut packet);
                let to = Path::new(std::str::from_utf8(&to).unwrap());
                // As OpenSSH: a name that is taken stays.
                match to.exists() {
                    true => (101, status_body(4)),
                    false => done(fs::rename(path(), to)),
                }
            }
            kind::EXTENDED => self.extended(&first, packet, behaviour),
            _ => (101, status_body(8)),
        }
    }

    fn extended(&mut self, name: &[u8], mut packet: Bytes, behaviour: &Behaviour) -> (u8, Vec<u8>) {
        let name = std::str::from_utf8(name).unwrap();
        if behaviour.without.contains(&name) {
            return (101, status_body(8));
        }
        let mut next = || String::from_utf8_lossy(&string(&mut packet)).into_owned();
        let result = match name {
            "posix-rename@openssh.com" => fs::rename(next(), next()),
            "hardlink@openssh.com" => fs::hard_link(next(), next()),
            "fsync@openssh.com" => match self.open.get(&string(&mut packet)) {
                Some(Open::File(file)) => file.sync_all(),
                _ => Err(io::ErrorKind::InvalidInput.into()),
            },
            "limits@openssh.com" => {
                let limits: [u64; 4] = [256 << 10, 40_000, 50_000, 0];
                return (201, limits.iter().flat_map(|limit| limit.to_be_bytes()).collect());
            }
            _ => return (101, status_body(8)),
        };
        (101, status_body(result.map_or_else(|error| status_of(&error), |()| OK)))
    }

    fn keep(&mut self, open: Open) -> Vec<u8> {
        self.number = self.number.wrapping_add(1);
        let handle = vec![0xff, 0, self.number];
        self.open.insert(handle.clone(), open);
        counted(&handle)
    }
}

/// What OpenSSH makes of an error.
fn status_of(error: &io::Error) -> u32 {
    match error.kind() {
        io::ErrorKind::NotFound => 2,
        io::ErrorKind::PermissionDenied => 3,
        _ => 4,
    }
}

fn hello(behaviour: &Behaviour) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 3];
    for (name, version) in EXTENSIONS {
        if !behaviour.without.contains(&name) {
            packet.extend(counted(name.as_bytes()));
            packet.extend(counted(version.as_bytes()));
        }
    }
    packet
}

fn names(path: &Path, behaviour: &Behaviour) -> io::Result<Vec<(Vec<u8>, Option<fs::Metadata>)>> {
    use std::os::unix::ffi::OsStringExt;
    let mut names = vec![
        (b".".to_vec(), Some(fs::metadata(path)?)),
        (b"..".to_vec(), Some(fs::metadata(path)?)),
    ];
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        names.push((entry.file_name().into_vec(), Some(entry.metadata()?)));
    }
    names.extend(behaviour.more_names.iter().map(|name| (name.clone(), None)));
    Ok(names)
}

fn name_body(names: &[(Vec<u8>, Option<fs::Metadata>)], behaviour: &Behaviour) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u32(u32::try_from(names.len()).unwrap());
    for (name, about) in names {
        body.put_slice(&counted(name));
        body.put_slice(&counted(b"-rw-r--r-- 1 who ever"));
        match about {
            _ if behaviour.lists_names_only => body.put_u32(0),
            Some(about) => body.put_slice(&attributes(about)),
            None => {
                body.put_u32(5);
                body.put_u64(3);
                body.put_u32(0o100_644);
            }
        }
    }
    body.to_vec()
}

/// Length, owner and group, mode, times.
fn attributes(about: &fs::Metadata) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u32(0xf);
    body.put_u64(about.len());
    body.put_u32(about.uid());
    body.put_u32(about.gid());
    body.put_u32(about.mode());
    body.put_u64(0);
    body.to_vec()
}

fn status_body(code: u32) -> Vec<u8> {
    let texts = [counted(b"what the server says"), counted(b"en")].concat();
    [&code.to_be_bytes()[..], &texts].concat()
}

fn string(packet: &mut Bytes) -> Vec<u8> {
    let length = packet.get_u32() as usize;
    packet.split_to(length).to_vec()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn framed(packet: &[u8]) -> Vec<u8> {
    counted(packet)
}
