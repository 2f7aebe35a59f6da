//! Requests and replies over one SFTP session, many at a time.
//!
//! Two tasks own the stream: one writes packets in the order in which they were handed over, one reads replies and gives
//! each to the request whose number it bears. A request that nobody waits for any more is forgotten; the handle that
//! it may still be answered with is closed, and a file that it made is removed, so that a cancelled wait leaves nothing.
//!
//! Memory is bounded: a packet by [`PACKET_BYTES_MAX`], packets on their way out by [`QUEUED_MAX`], replies by the
//! requests that wait for them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::packet::{self, Access, Attributes, HANDLE, Hello, Name, PACKET_BYTES_MAX, Reply, Request, Rest, status};
use super::trouble::Trouble;

/// Packets that wait to be written.
const QUEUED_MAX: usize = 32;

/// A packet's head, and the bytes of a write.
type Packet = [Bytes; 2];

/// An SFTP session. When it is dropped, so is the stream.
#[derive(Debug)]
pub(super) struct Client {
    outgoing: mpsc::Sender<Packet>,
    shared: Arc<Shared>,
    silence_max: Duration,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    moved: Mutex<Instant>,
}

#[derive(Debug, Default)]
struct Waiting {
    number: u32,
    replies: HashMap<u32, oneshot::Sender<(u8, Bytes)>>,
    /// New files whose opening nobody waits for any more, by the request's number.
    abandoned: HashMap<u32, String>,
    /// Why the session is over.
    over: Option<Trouble>,
}

impl Client {
    /// Begins a session: versions are exchanged before anything is asked.
    pub(super) async fn start<S>(mut stream: S, silence_max: Duration) -> Result<(Self, Hello), Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let lost = |error: std::io::Error| Trouble::lost(error.to_string());
        stream.write_all(&packet::init()).await.map_err(lost)?;
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            moved: Mutex::new(Instant::now()),
        });
        let hello = Hello::decode(read_packet(&mut stream, &shared).await?)?;
        if hello.version != packet::VERSION {
            return Err(Trouble::unsupported(format!("SFTP version {}", hello.version)));
        }
        let (reader, writer) = tokio::io::split(stream);
        let (outgoing, queue) = mpsc::channel(QUEUED_MAX);
        let tasks = [
            tokio::spawn(write_all(writer, queue, Arc::clone(&shared))),
            tokio::spawn(read_all(reader, outgoing.clone(), Arc::clone(&shared))),
        ];
        let client = Self {
            outgoing,
            shared,
            silence_max,
            tasks,
        };
        Ok((client, hello))
    }

    /// True when nothing can be asked any more.
    pub(super) fn is_over(&self) -> bool {
        self.shared.waiting().over.is_some()
    }

    /// Ends the session for all who wait.
    pub(super) fn end(&self, why: &Trouble) {
        self.shared.end(why);
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// Opens a file.
    pub(super) async fn open(&self, path: &str, access: Access) -> Result<Bytes, Trouble> {
        self.handle(&Request::Open { path, access }).await
    }

    /// Opens a directory.
    pub(super) async fn open_directory(&self, path: &str) -> Result<Bytes, Trouble> {
        self.handle(&Request::OpenDirectory { path }).await
    }

    /// Returns at most `bytes` bytes from `offset` on, fewer at the server's choice; `None` at the file's end.
    pub(super) async fn read(&self, handle: &[u8], offset: u64, bytes: u32) -> Result<Option<Bytes>, Trouble> {
        match self.ask(&Request::Read { handle, offset, bytes }, Bytes::new()).await {
            Ok(Reply::Data(data)) if data.len() > bytes as usize => {
                Err(Trouble::malformed(format!("{} B for {bytes} B wanted", data.len())))
            }
            Ok(Reply::Data(data)) if data.is_empty() => Err(Trouble::malformed("a read of nothing")),
            Ok(Reply::Data(data)) => Ok(Some(data)),
            other => at_end(other),
        }
    }

    /// Writes bytes at an offset.
    pub(super) async fn write(&self, handle: &[u8], offset: u64, data: Bytes) -> Result<(), Trouble> {
        let bytes = u32::try_from(data.len()).map_err(|_| Trouble::malformed("a piece beyond 4 GiB"))?;
        done(self.ask(&Request::Write { handle, offset, bytes }, data).await)
    }

    /// What the server says of a path, not following a link at its end.
    pub(super) async fn lstat(&self, path: &str) -> Result<Attributes, Trouble> {
        attributes(self.ask(&Request::Lstat { path }, Bytes::new()).await)
    }

    /// What the server says of a path or what it links to.
    pub(super) async fn stat(&self, path: &str) -> Result<Attributes, Trouble> {
        attributes(self.ask(&Request::Stat { path }, Bytes::new()).await)
    }

    /// Returns the next names of a directory, some at a time; `None` at its end.
    pub(super) async fn read_directory(&self, handle: &[u8]) -> Result<Option<Vec<Name>>, Trouble> {
        match self.ask(&Request::ReadDirectory { handle }, Bytes::new()).await {
            Ok(Reply::Names(names)) => Ok(Some(names)),
            other => at_end(other),
        }
    }

    /// Bytes that are left on the file system of a path.
    pub(super) async fn space_left(&self, path: &str) -> Result<u64, Trouble> {
        match self.ask(&Request::Statvfs { path }, Bytes::new()).await? {
            Reply::Extended(body) => {
                // f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, ..
                let mut rest = Rest(body);
                let [_, fragment_bytes, _, _, available] =
                    [rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?];
                Ok(fragment_bytes.saturating_mul(available))
            }
            _ => Err(OTHER.into()),
        }
    }

    /// Longest read and longest write that the server takes; 0 where it doesn't say.
    pub(super) async fn limits(&self) -> Result<(u64, u64), Trouble> {
        match self.ask(&Request::Limits, Bytes::new()).await? {
            Reply::Extended(body) => {
                // max-packet-length, max-read-length, max-write-length, ..
                let mut rest = Rest(body);
                let [_, read_bytes, write_bytes] = [rest.u64()?, rest.u64()?, rest.u64()?];
                Ok((read_bytes, write_bytes))
            }
            _ => Err(OTHER.into()),
        }
    }

    /// Asks for something that is done or isn't.
    pub(super) async fn order(&self, request: &Request<'_>) -> Result<(), Trouble> {
        done(self.ask(request, Bytes::new()).await)
    }

    async fn handle(&self, request: &Request<'_>) -> Result<Bytes, Trouble> {
        match self.ask(request, Bytes::new()).await? {
            Reply::Handle(handle) => Ok(handle),
            _ => Err(OTHER.into()),
        }
    }

    /// Sends a request and waits for its reply. A status other than OK is a [`Trouble`].
    async fn ask(&self, request: &Request<'_>, data: Bytes) -> Result<Reply, Trouble> {
        let mut ticket = self.shared.expect()?;
        if let Request::Open {
            path,
            access: Access::WriteNew,
        } = request
        {
            ticket.makes = Some((*path).to_owned());
        }
        let packet = [request.encode(ticket.number), data];
        let exchange = async {
            if self.outgoing.send(packet).await.is_err() {
                return Err(self.shared.why());
            }
            ticket.reply().await
        };
        let (kind, body) = self.while_moving(exchange).await?;
        match Reply::decode(kind, body) {
            Ok(Reply::Status { code, message }) if code != status::OK => Err(Trouble::of_status(code, &message)),
            Ok(reply) => Ok(reply),
            Err(malformed) => {
                // The next packet may begin anywhere.
                let trouble = Trouble::from(malformed);
                self.end(&trouble);
                Err(trouble)
            }
        }
    }

    /// Waits as long as bytes move in either direction, and no longer than the allowed silence without.
    async fn while_moving<T>(&self, exchange: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let mut exchange = std::pin::pin!(exchange);
        let mut since = Instant::now();
        loop {
            tokio::select! {
                biased;
                done = &mut exchange => return done,
                () = tokio::time::sleep_until(since + self.silence_max) => {}
            }
            let moved = *self.shared.moved();
            if moved <= since {
                let trouble = Trouble::silent(self.silence_max);
                self.end(&trouble);
                return Err(trouble);
            }
            since = moved;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end(&Trouble::lost("the session was closed"));
    }
}

const OTHER: packet::Malformed = packet::Malformed("a reply to another question");

fn done(reply: Result<Reply, Trouble>) -> Result<(), Trouble> {
    match reply? {
        Reply::Status { .. } => Ok(()),
        _ => Err(OTHER.into()),
    }
}

fn attributes(reply: Result<Reply, Trouble>) -> Result<Attributes, Trouble> {
    match reply? {
        Reply::Attributes(attributes) => Ok(attributes),
        _ => Err(OTHER.into()),
    }
}

fn at_end<T>(reply: Result<Reply, Trouble>) -> Result<Option<T>, Trouble> {
    match reply {
        Err(trouble) if trouble.status == Some(status::EOF) => Ok(None),
        Err(trouble) => Err(trouble),
        Ok(_) => Err(OTHER.into()),
    }
}

/// A place among those who wait, given up when it is dropped.
struct Ticket {
    shared: Arc<Shared>,
    number: u32,
    reply: oneshot::Receiver<(u8, Bytes)>,
    /// The file that is made by what was asked.
    makes: Option<String>,
}

impl Ticket {
    async fn reply(mut self) -> Result<(u8, Bytes), Trouble> {
        (&mut self.reply).await.map_err(|_| self.shared.why())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        let is_unanswered = waiting.replies.remove(&self.number).is_some();
        if let Some(path) = self.makes.take().filter(|_| is_unanswered) {
            waiting.abandoned.insert(self.number, path);
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that runs under the lock leaves it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) -> MutexGuard<'_, Instant> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.moved() = Instant::now();
    }

    fn expect(self: &Arc<Self>) -> Result<Ticket, Trouble> {
        let mut waiting = self.waiting();
        if let Some(over) = &waiting.over {
            return Err(over.clone());
        }
        // A number comes round after 2^32 requests; whoever still waits keeps his.
        while waiting.replies.contains_key(&waiting.number) || waiting.abandoned.contains_key(&waiting.number) {
            waiting.number = waiting.number.wrapping_add(1);
        }
        let number = waiting.number;
        waiting.number = number.wrapping_add(1);
        let (sender, reply) = oneshot::channel();
        waiting.replies.insert(number, sender);
        let shared = Arc::clone(self);
        Ok(Ticket {
            shared,
            number,
            reply,
            makes: None,
        })
    }

    /// Why the session is over; the first reason stays.
    fn end(&self, why: &Trouble) {
        let mut waiting = self.waiting();
        waiting.over.get_or_insert_with(|| why.clone());
        waiting.replies.clear();
    }

    fn why(&self) -> Trouble {
        let over = self.waiting().over.clone();
        over.unwrap_or_else(|| Trouble::lost("the session is over"))
    }
}

async fn write_all<S: AsyncWrite>(mut stream: WriteHalf<S>, mut queue: mpsc::Receiver<Packet>, shared: Arc<Shared>) {
    while let Some(packet) = queue.recv().await {
        for mut part in packet {
            while part.has_remaining() {
                match stream.write_buf(&mut part).await {
                    Ok(0) => return shared.end(&Trouble::lost("the connection takes no more")),
                    Ok(_) => shared.touch(),
                    Err(error) => return shared.end(&Trouble::lost(error.to_string())),
                }
            }
        }
    }
}

async fn read_all<S: AsyncRead>(mut stream: ReadHalf<S>, outgoing: mpsc::Sender<Packet>, shared: Arc<Shared>) {
    loop {
        let head = read_packet(&mut stream, &shared).await;
        let taken = head.and_then(|mut packet| Ok((Reply::head(&mut packet)?, packet)));
        let ((kind, number), body) = match taken {
            Ok(taken) => taken,
            Err(trouble) => return shared.end(&trouble),
        };
        let (waiting, made) = {
            let mut all = shared.waiting();
            (all.replies.remove(&number), all.abandoned.remove(&number))
        };
        let unwanted = match waiting {
            Some(waiting) => waiting.send((kind, body)).err(),
            None => Some((kind, body)),
        };
        if let Some((HANDLE, body)) = unwanted
            && let Ok(Reply::Handle(handle)) = Reply::decode(HANDLE, body)
        {
            let close = Request::Close { handle: &handle };
            let remove = made.as_deref().map(|path| Request::Remove { path });
            for request in [Some(close), remove].into_iter().flatten() {
                // Nobody waits for these answers either. A full queue is no reason to stop reading: it stays open then.
                if let Ok(ticket) = shared.expect() {
                    let _ = outgoing.try_send([request.encode(ticket.number), Bytes::new()]);
                }
            }
        }
    }
}

async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S, shared: &Shared) -> Result<Bytes, Trouble> {
    let mut length = [0; 4];
    read_exact(stream, &mut length, shared).await?;
    let length = u32::from_be_bytes(length);
    if length > PACKET_BYTES_MAX {
        // What isn't SFTP often is a shell's greeting.
        return Err(Trouble::malformed(format!("a packet of {length} B")));
    }
    let mut packet = BytesMut::zeroed(length as usize);
    read_exact(stream, &mut packet, shared).await?;
    Ok(packet.freeze())
}

async fn read_exact<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut [u8], shared: &Shared) -> Result<(), Trouble> {
    let mut rest = buffer;
    while !rest.is_empty() {
        let got = stream
            .read(rest)
            .await
            .map_err(|error| Trouble::lost(error.to_string()))?;
        if got == 0 {
            return Err(Trouble::lost("the server closed the session"));
        }
        shared.touch();
        rest = rest.get_mut(got..).unwrap_or_default();
    }
    Ok(())
}
