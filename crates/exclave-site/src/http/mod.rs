//! How requests leave: `object_store` signs and parses, this carries.
//!
//! `object_store` hands every request to a [`Transport`], which
//! - sends to the site's own origin and to no other: not where a redirect points, not to a cloud's metadata address,
//!   whatever `object_store` would like to ask there ([`Refused::Origin`]);
//! - uses no proxy and no credentials but those given;
//! - speaks TLS only with whom the settings name: an authority's or a pinned key's ([`pinned`]);
//! - gives up when no byte moves in either direction for the allowed silence, between one and two times it, however
//!   long a large body takes in total;
//! - reads no more of an error's text than [`ERROR_BODY_BYTES_MAX`], of one page of a listing than
//!   [`LIST_PAGE_BYTES_MAX`], and of a document about a bucket or a deletion than
//!   [`DOCUMENT_BYTES_MAX`];
//! - turns a status that means failure into a [`Refused::Status`], so that its class isn't lost on the way;
//! - takes for a listing only what says that it is one, and no document type ([`listing`]);
//! - remembers the site's clock, and signs a request again by it when the site refused the local one's ([`signature`]).
//!
//! Where a test asks for it, answers that lie ready take the network's place ([`carrier`]).
//!
//! A put that is refused for want of a checksum is sent again with one, and so are the later ones ([`digest`]).
//!
//! Two repairs on the way, for what `object_store` 0.14 can't bear: names in a listing that it would refuse are blanked, or one
//! stray key would hide the whole page (see [`listing`]); `MKCOL` of a directory that another put has just made counts
//! as made (RFC 4918 section 9.3.1: 405 says that it exists), and directories are made one after the other.

pub(crate) mod carrier;
mod digest;
pub(crate) mod listing;
pub(crate) mod pinned;
mod signature;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use url::Url;
use zeroize::Zeroizing;

use self::carrier::{Answers, Carrier};
use self::watch::{Outgoing, Progress, Watched};
use crate::{Credentials, SiteSettings};

/// Most that is read of an error's text (THREATS D5).
const ERROR_BODY_BYTES_MAX: usize = 64 << 10;

/// Most of an error's text that is kept to be shown.
const ERROR_TEXT_CHARS_MAX: usize = 300;

/// Longest page of a listing. Vendors send at most 5,000 names, some 10 MiB; WebDAV a whole directory at once.
const LIST_PAGE_BYTES_MAX: usize = 64 << 20;

/// A site that refuses a request whose signature is this many seconds off its own clock may do so for the time alone.
/// Vendors allow 15 minutes; less than a minute is no reason to doubt the local clock.
const SKEW_S: u64 = 60;

/// Longest document about a bucket or a deletion; the longest that makes sense has some hundred bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// No date yet.
const NO_DATE: i64 = i64::MIN;

/// Why the transport itself failed a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The request was meant for a host that isn't the site's.
    #[error("request to {origin} not sent: the site is {site}")]
    Origin { origin: String, site: String },
    /// The answer's status means failure.
    #[error("HTTP {status}{}", if text.is_empty() { String::new() } else { format!(": {text}") })]
    Status { status: StatusCode, text: String },
    /// No byte moved for too long.
    #[error("no byte moved for {} s", .0.as_secs_f32())]
    Silence(Duration),
    /// A page or an error's text is too long.
    #[error("answer is longer than {0} B")]
    TooLong(usize),
    /// A status that says success, and a document that wasn't asked for.
    #[error("the answer is {0}")]
    OtherDocument(&'static str),
    /// A URL that can't be parsed, from our own side.
    #[error("request URL: {0}")]
    Url(#[from] url::ParseError),
}

/// Why a transport can't be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTransport {
    #[error("{0} would travel unencrypted; allow_http permits that")]
    Plain(Url),
    #[error("{0:?} is no http or https URL without credentials, query and fragment")]
    Endpoint(String),
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    #[error("credentials hold what no HTTP header can")]
    Header(#[from] header::InvalidHeaderValue),
    #[error("a key is pinned and {0} is unencrypted: nobody would prove to hold it")]
    PinWithoutTls(Url),
    #[error("the authorities' certificates: {0}")]
    Authorities(String),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The carrier of one site's requests. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Transport(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    carrier: Carrier,
    /// What says who we are, where `object_store` doesn't sign.
    authorization: Option<HeaderValue>,
    site: Url,
    credentials: Credentials,
    silence_max: Duration,
    date: AtomicI64,
    /// Seconds to add to the time of a signature, once the site has refused one by the local clock.
    correction_s: AtomicI64,
    wants_digests: AtomicBool,
    directories: tokio::sync::Mutex<()>,
}

impl Transport {
    /// A transport to the origin of `endpoint`.
    pub(crate) fn new(endpoint: &str, settings: &SiteSettings) -> Result<Self, BadTransport> {
        let site = endpoint_url(endpoint, settings.allow_http)?;
        let carrier = Carrier::network(&site, settings)?;
        Self::over(carrier, site, settings)
    }

    /// A transport whose server is answers that lie ready. Nothing leaves.
    pub(crate) fn ready(
        endpoint: &str,
        settings: &SiteSettings,
        answers: Arc<dyn Answers>,
    ) -> Result<Self, BadTransport> {
        let site = endpoint_url(endpoint, settings.allow_http)?;
        Self::over(Carrier::Ready(answers), site, settings)
    }

    fn over(carrier: Carrier, site: Url, settings: &SiteSettings) -> Result<Self, BadTransport> {
        let inner = Inner {
            carrier,
            authorization: authorization(&settings.credentials)?,
            site,
            credentials: settings.credentials.clone(),
            silence_max: settings.silence_max.0,
            date: AtomicI64::new(NO_DATE),
            correction_s: AtomicI64::new(0),
            wants_digests: AtomicBool::new(false),
            directories: tokio::sync::Mutex::new(()),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Sends a request whose answer is a document: a short one, or a page of a listing.
    pub(crate) async fn ask(&self, request: HttpRequest) -> Result<http::Response<Bytes>, HttpError> {
        let bytes_max = match About::of(&request).lists {
            true => LIST_PAGE_BYTES_MAX,
            false => DOCUMENT_BYTES_MAX,
        };
        let (parts, body) = self.call(request).await?.into_parts();
        let document = read_up_to(body, bytes_max).await?;
        Ok(http::Response::from_parts(parts, document))
    }

    /// The site's clock as its latest answer said, in seconds since 1970.
    pub(crate) fn date(&self) -> Option<i64> {
        Some(self.0.date.load(Ordering::Relaxed)).filter(|date| *date != NO_DATE)
    }

    /// Where the site is.
    pub(crate) fn endpoint(&self) -> &Url {
        &self.0.site
    }
}

/// The header of credentials that aren't a signature's, hidden from logs.
fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>, BadTransport> {
    let text = match credentials {
        Credentials::Basic { user, password } => {
            let both = Zeroizing::new(format!("{user}:{}", password.expose()));
            format!("Basic {}", STANDARD.encode(both.as_bytes()))
        }
        Credentials::Bearer { token } => format!("Bearer {}", token.expose()),
        // `object_store` signs with these.
        Credentials::Anonymous
        | Credentials::S3 { .. }
        | Credentials::Azure { .. }
        | Credentials::Gcs { .. }
        | Credentials::Ssh { .. } => return Ok(None),
    };
    let mut value = HeaderValue::from_bytes(Zeroizing::new(text).as_bytes())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Reads an endpoint; plain HTTP only where allowed or to this machine itself.
pub(crate) fn endpoint_url(text: &str, allow_http: bool) -> Result<Url, BadTransport> {
    let bad = || BadTransport::Endpoint(text.chars().take(120).collect());
    let url = Url::parse(text).map_err(|_| bad())?;
    // A password in an endpoint must not be repeated in an error.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadTransport::Endpoint("(URL with credentials)".into()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad());
    }
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => return Err(bad()),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || loopback => Ok(url),
        "http" => Err(BadTransport::Plain(url)),
        _ => Err(bad()),
    }
}

impl HttpConnector for Transport {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        // All options are ours already; a client for a metadata service gets the same origin check as any other.
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.method() != Method::PUT {
            return self.send(request).await;
        }
        if !self.0.wants_digests.load(Ordering::Relaxed) {
            // Shares the body's bytes.
            match self.send(request.clone()).await {
                Err(error) if digest::is_wanted(&error) => self.0.wants_digests.store(true, Ordering::Relaxed),
                answered => return answered,
            }
        }
        let digest = digest::of(request.body().clone()).await?;
        request.headers_mut().insert(digest::CONTENT_MD5, digest);
        self.send(request).await
    }
}

impl Transport {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let about = About::of(&request);
        // One at a time: servers lock a path while they work on it and answer 423 to the other (seen with rclone).
        let _turn = match about.makes_directory {
            true => Some(self.0.directories.lock().await),
            false => None,
        };
        let (request, correction_s) = self.0.corrected(request);
        let silence_max = self.0.silence_max;
        // The body is shared, not copied.
        let answer = self.0.exchange(request.clone()).await?;
        let answer = match self.0.by_its_clock(request, correction_s, &answer) {
            Some(again) => self.0.exchange(again).await?,
            None => answer,
        };
        let (mut parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
        let body = HttpResponseBody::new(Watched::new(body, silence_max));
        let status = parts.status;
        if status.is_success() {
            if about.posts {
                let document = read_up_to(body, DOCUMENT_BYTES_MAX).await?;
                if !is_about_first(&document) {
                    return Err(refuse(Refused::OtherDocument("about another deletion")));
                }
                return Ok(HttpResponse::from_parts(parts, document.into()));
            }
            if !about.lists {
                return Ok(HttpResponse::from_parts(parts, body));
            }
            let page = read_up_to(body, LIST_PAGE_BYTES_MAX).await?;
            if !listing::is_listing(&page) {
                return Err(refuse(Refused::OtherDocument("no listing")));
            }
            return Ok(HttpResponse::from_parts(parts, listing::without_strays(page).into()));
        }
        if about.makes_directory && status == StatusCode::METHOD_NOT_ALLOWED {
            parts.status = StatusCode::CREATED;
            return Ok(HttpResponse::from_parts(parts, Bytes::new().into()));
        }
        let text = read_up_to(body, ERROR_BODY_BYTES_MAX).await.unwrap_or_default();
        match status {
            // `object_store` knows what these mean for what it was asked.
            StatusCode::NOT_MODIFIED
            | StatusCode::NOT_FOUND
            | StatusCode::CONFLICT
            | StatusCode::PRECONDITION_FAILED => {
                parts.headers.remove(header::CONTENT_LENGTH);
                let text = String::from_utf8_lossy(&text).into_owned();
                Ok(HttpResponse::from_parts(parts, text.into()))
            }
            status => Err(refuse(Refused::Status {
                status,
                text: shown(&text),
            })),
        }
    }
}

impl Inner {
    /// Sends a request and waits for the head of its answer.
    async fn exchange(&self, request: HttpRequest) -> Result<reqwest::Response, HttpError> {
        let progress = Progress::default();
        let request = self.prepare(request, &progress)?;
        let answer = tokio::select! {
            answer = self.carrier.carry(request) => answer?,
            () = progress.stalled(self.silence_max) => return Err(refuse(Refused::Silence(self.silence_max))),
        };
        self.note_date(answer.headers());
        Ok(answer)
    }

    /// The request with the site's time in its signature, once the local one was refused; and by how many seconds that
    /// differs from the local one.
    fn corrected(&self, mut request: HttpRequest) -> (HttpRequest, i64) {
        let correction_s = self.correction_s.load(Ordering::Relaxed);
        if correction_s != 0
            && let Some(at) = signature::signed_at(request.headers(), &self.credentials)
        {
            // What can't be signed again goes as it is, and is refused again.
            let _ = signature::sign_again(&mut request, &self.credentials, at.saturating_add(correction_s));
        }
        (request, correction_s)
    }

    /// The request to be sent once more, when it may have been refused for its time: signed by the site's own.
    fn by_its_clock(
        &self,
        mut request: HttpRequest,
        correction_s: i64,
        answer: &reqwest::Response,
    ) -> Option<HttpRequest> {
        if answer.status() != StatusCode::FORBIDDEN {
            return None;
        }
        let theirs = answer.headers().get(header::DATE).and_then(seconds_of)?;
        let ours = signature::signed_at(request.headers(), &self.credentials)?;
        if theirs.abs_diff(ours) < SKEW_S {
            return None;
        }
        signature::sign_again(&mut request, &self.credentials, theirs)?;
        // Set and not added to: several requests may find out at the same time.
        self.correction_s.store(
            correction_s.saturating_add(theirs.saturating_sub(ours)),
            Ordering::Relaxed,
        );
        tracing::warn!(site = %self.site, "the site's clock and ours differ by {} s: its own is used to sign", theirs.abs_diff(ours));
        Some(request)
    }

    /// Checks where a request goes and makes it one of the client's.
    fn prepare(&self, request: HttpRequest, progress: &Progress) -> Result<reqwest::Request, HttpError> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| refuse(error.into()))?;
        if url.origin() != self.site.origin() {
            let origin = url.origin().ascii_serialization();
            let site = self.site.origin().ascii_serialization();
            return Err(refuse(Refused::Origin { origin, site }));
        }
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, authorization.clone());
        }
        *request.body_mut() = Some(reqwest::Body::wrap(Outgoing::new(body, progress)));
        Ok(request)
    }

    fn note_date(&self, headers: &HeaderMap) {
        if let Some(seconds) = headers.get(header::DATE).and_then(seconds_of) {
            self.date.store(seconds, Ordering::Relaxed);
        }
    }
}

/// The time in a `Date` header, in seconds since 1970.
fn seconds_of(value: &header::HeaderValue) -> Option<i64> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// What the transport must know of a request before it is sent.
struct About {
    lists: bool,
    /// Azure deletes by POST; the answer is about one object.
    posts: bool,
    makes_directory: bool,
}

impl About {
    fn of(request: &HttpRequest) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let asks = |pair: &str| query.split('&').any(|part| part == pair);
        let method = request.method().as_str();
        Self {
            lists: method == "PROPFIND"
                || method == "GET" && (asks("list-type=2") || asks("comp=list") || asks("versions")),
            posts: method == "POST",
            makes_directory: method == "MKCOL",
        }
    }
}

async fn read_up_to(body: HttpResponseBody, bytes_max: usize) -> Result<Bytes, HttpError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => match error.downcast::<HttpError>() {
            Ok(error) => Err(*error),
            Err(_) => Err(refuse(Refused::TooLong(bytes_max))),
        },
    }
}

/// True when every part of an Azure batch's answer is about its first request: we send batches of one, and `object_store`
/// 0.14 takes the number for an index without a look.
fn is_about_first(document: &[u8]) -> bool {
    let mut ids = document.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, id) = line.split_at_checked("content-id:".len())?;
        name.eq_ignore_ascii_case(b"content-id:").then(|| id.trim_ascii())
    });
    ids.all(|id| id == b"0")
}

/// The start of an error's text on one line.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable
        .take(ERROR_TEXT_CHARS_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

fn refuse(refused: Refused) -> HttpError {
    let kind = match &refused {
        Refused::Silence(_) => HttpErrorKind::Timeout,
        Refused::Origin { .. }
        | Refused::Status { .. }
        | Refused::TooLong(_)
        | Refused::OtherDocument(_)
        | Refused::Url(_) => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, refused)
}

fn from_reqwest(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () if error.is_decode() => HttpErrorKind::Decode,
        () => HttpErrorKind::Interrupted,
    };
    // The URL may hold a token; the caller names the object anyway.
    HttpError::new(kind, error.without_url())
}

#[cfg(test)]
mod tests;
