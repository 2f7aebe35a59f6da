//! HTTP/1.1 before a witness: `POST <prefix>/add-checkpoint`, and nothing else.
//!
//! Whoever asks is a stranger, so everything has a bound: connections, headers, bodies, time. What is decided is the keeper's
//! ([`exclave_engine::witness::Keeper`]), on threads that may wait for the disk; here are statuses and lines.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use exclave_engine::{
    Clock,
    witness::{Keeper, REQUEST_BYTES_MAX, Refusal},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    error::{Context as _, Trouble},
    output::Output,
    surroundings::OsEntropy,
};

/// The one thing that is served, below whatever prefix a proxy leaves.
const PATH: &str = "/add-checkpoint";
/// Connections at a time; later ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Requests that are worked on at a time: each may wait for the disk, on a thread of its own.
const REQUESTS_MAX: usize = 8;
/// How long a head may take to come, and a connection to be silent.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a body may take to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a connection may live, whatever happens on it.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// Longest head: hyper's least buffer.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 32;
/// How long requests under way have when the service is told to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// The content type of a size (C2SP tlog-witness).
const SIZE_TYPE: HeaderValue = HeaderValue::from_static("text/x.tlog.size");
const TEXT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: wants a path".to_owned()),
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "expected an address with its port, as 127.0.0.1:8443, or unix:PATH".to_owned()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Door {
    async fn open(listen: &Listen) -> Result<(Self, Listen), Trouble> {
        let failed = || Trouble::failed(format!("can't listen at {listen}"));
        match listen {
            Listen::Tcp(address) => {
                let door = TcpListener::bind(address).await.because(failed)?;
                let bound = door.local_addr().because(failed)?;
                Ok((Self::Tcp(door), Listen::Tcp(bound)))
            }
            Listen::Unix(path) => {
                clear(path).await.because(failed)?;
                let door = UnixListener::bind(path).because(failed)?;
                // A proxy of the same group reaches it, and nobody else.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).because(failed)?;
                Ok((Self::Unix(door), listen.clone()))
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(door) => Ok(Box::new(door.accept().await?.0)),
            Self::Unix(door) => Ok(Box::new(door.accept().await?.0)),
        }
    }
}

/// Removes a socket that nobody answers at: what a killed process left.
async fn clear(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            _ => Err(io::Error::from(io::ErrorKind::AddrInUse)),
        },
        Ok(_) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What every connection shares.
struct Service {
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    work: Semaphore,
}

/// Serves until SIGTERM or SIGINT; then lets requests under way end.
pub async fn serve(
    listen: &Listen,
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    output: &Output,
) -> Result<(), Trouble> {
    let failed = || Trouble::failed("signals can't be listened for");
    let mut terminate = signal(SignalKind::terminate()).because(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).because(failed)?;
    let (door, bound) = Door::open(listen).await?;
    output.note(format!("listening at {bound}"));
    let service = Arc::new(Service {
        keeper,
        clock,
        work: Semaphore::new(REQUESTS_MAX),
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(_) = connections.join_next() => continue,
            stream = next(&door, &places) => stream,
        };
        match stream {
            Ok((stream, place)) => {
                let (service, stopping) = (Arc::clone(&service), stopping.clone());
                connections.spawn(async move {
                    connection(stream, service, stopping).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: what is open ends in time.
                eprintln!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    drop(stop);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_TIME_MAX, ended).await;
    if let Listen::Unix(path) = &bound {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

async fn next(
    door: &Door,
    places: &Arc<Semaphore>,
) -> io::Result<(Box<dyn Stream>, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((door.accept().await?, place))
}

async fn connection(stream: Box<dyn Stream>, service: Arc<Service>, mut stopping: watch::Receiver<()>) {
    let answer = service_fn(|request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), answer);
    let mut served = std::pin::pin!(served);
    let whole = async {
        tokio::select! {
            // What a stranger does to his connection is his affair.
            _ = served.as_mut() => return,
            _ = stopping.changed() => served.as_mut().graceful_shutdown(),
        }
        let _ = served.await;
    };
    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, whole).await;
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !request.uri().path().ends_with(PATH) {
            return plain(StatusCode::NOT_FOUND, "only add-checkpoint is served here\n".to_owned());
        }
        if request.method() != Method::POST {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "add-checkpoint is a POST\n".to_owned());
            refused
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("POST"));
            return refused;
        }
        let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
        let body = match tokio::time::timeout(BODY_TIME_MAX, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => {
                let status = match error.is::<http_body_util::LengthLimitError>() {
                    true => StatusCode::PAYLOAD_TOO_LARGE,
                    false => StatusCode::BAD_REQUEST,
                };
                return plain(status, format!("the body was not read: {error}\n"));
            }
            Err(_) => {
                return plain(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body did not come in time\n".to_owned(),
                );
            }
        };
        let Ok(_permit) = self.work.acquire().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the witness stops\n".to_owned());
        };
        let (keeper, now) = (Arc::clone(&self.keeper), self.clock.now_unix_seconds());
        let done = tokio::task::spawn_blocking(move || keeper.add_checkpoint(&body, now, &mut OsEntropy)).await;
        match done {
            Ok(Ok(lines)) => {
                let text: String = lines.iter().map(|line| line.to_line()).collect();
                plain(StatusCode::OK, text)
            }
            Ok(Err(refusal)) => refused(&refusal),
            Err(_) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request was not done\n".to_owned(),
            ),
        }
    }
}

/// The status of each refusal (C2SP tlog-witness). A size goes with both kinds of conflict: a client that sent it knows that it is a fork.
fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    let status = match refusal {
        Refusal::Malformed(_) | Refusal::OldLarger { .. } => StatusCode::BAD_REQUEST,
        Refusal::UnknownLog => StatusCode::NOT_FOUND,
        Refusal::Unsigned => StatusCode::FORBIDDEN,
        Refusal::OtherSize { known } | Refusal::OtherRoot { known, .. } => {
            if let Refusal::OtherRoot { evidence, .. } = refusal {
                let kept = evidence.as_ref().map(|path| format!(", kept in {}", path.display()));
                eprintln!("ALARM: {refusal}{}", kept.unwrap_or_default());
            }
            let mut conflict = plain(StatusCode::CONFLICT, format!("{known}\n"));
            conflict.headers_mut().insert(header::CONTENT_TYPE, SIZE_TYPE);
            return conflict;
        }
        Refusal::Proof(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::TooMany | Refusal::Store(_) | Refusal::Halted => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Cosign(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if !status.is_client_error() || matches!(refusal, Refusal::Proof(_)) {
        // Of strangers' mistakes there is no end, and none of them is a sign of anything.
        eprintln!("nothing was cosigned: {}", chain(refusal));
    }
    let text = match status.is_server_error() {
        // Paths and the like are the operator's.
        true => "the witness can't cosign now\n".to_owned(),
        false => format!("{refusal}\n"),
    };
    plain(status, text)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT_TYPE);
    response
}
