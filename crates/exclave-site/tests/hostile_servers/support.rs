//! A small HTTP server that answers what a test tells it, one request a connection.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What to answer.
pub enum Reply {
    /// These bytes, then the connection ends.
    Raw(Vec<u8>),
    /// These bytes, then nothing, and no end.
    RawThenHang(Vec<u8>),
    /// These bytes, then a byte now and then.
    Trickle(Vec<u8>),
    /// These bytes, then more as fast as they are taken.
    Endless(Vec<u8>),
    /// Nothing, and no end.
    Hang,
}

/// A proper answer.
pub fn reply(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    Reply::Raw([format!("{head}{headers}\r\n").as_bytes(), body].concat())
}

pub struct Server {
    scheme: &'static str,
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_over("http", |stream| async { Ok(stream) }, answer).await
    }

    /// A server whose connections go through `secure` first.
    pub async fn start_over<S, F>(
        scheme: &'static str,
        secure: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = std::io::Result<S>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer, secure) = (Arc::clone(&log), Arc::clone(&answer), secure.clone());
                tokio::spawn(async move {
                    // The client may go away; whether it should have is what the test looks at.
                    if let Ok(stream) = secure(stream).await {
                        let _ = serve(stream, &log, &*answer).await;
                    }
                });
            }
        });
        Self {
            scheme,
            port,
            requests,
            task,
        }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let mut request = Request {
        line,
        headers,
        body: Vec::new(),
    };
    let length = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    request.body = vec![0; length];
    stream.read_exact(&mut request.body).await?;
    log.lock().unwrap().push(request.clone());
    match answer(&request) {
        Reply::Raw(bytes) => stream.write_all(&bytes).await?,
        Reply::RawThenHang(bytes) => {
            stream.write_all(&bytes).await?;
            stream.read_u8().await?;
        }
        Reply::Trickle(bytes) => {
            stream.write_all(&bytes).await?;
            loop {
                stream.write_all(b".").await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Reply::Endless(bytes) => {
            stream.write_all(&bytes).await?;
            loop {
                stream.write_all(&[b'.'; 65_536]).await?;
            }
        }
        Reply::Hang => {
            stream.read_u8().await?;
        }
    }
    stream.shutdown().await
}
