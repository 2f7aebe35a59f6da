//! What a server answers, as a parser's input: an operation, and the answers that come to its requests one after another.
//!
//! ```text
//! list runs/                                     the operation, and what of
//! HTTP/1.1 200 OK                                an answer: status, headers, an empty line, a body
//! content-type: application/xml
//!
//! <?xml version="1.0"?><ListBucketResult>...
//! %%                                             the next answer
//! HTTP/1.1 500 ...
//! ```
//!
//! After the last answer no connection is to be had. A site reads all that as it reads a server's answers, up to the
//! transport's client, which is where sockets would begin. Whatever comes, what a site hands on keeps the contract:
//! names lie below the prefix that was asked for, come in order and once, and are no more than the answers had room
//! for; bytes are as many as were asked for; nobody else is asked; requests come to an end.

use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};
use exclave_site::{
    Answers, Body, Children, Credentials, Destroy, Entry, Listing, PutMode, Retention, Secret, Site, SiteAddress,
    SiteSettings, open_answered,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use url::Url;

/// The site that all answers are read for. Real servers' answers name keys below it.
const PREFIX: &str = "exclave";
const ENDPOINT: &str = "http://127.0.0.1:1";
const ENTRIES_MAX: usize = 1_000;
const BYTES_MAX: u64 = 64 << 10;
/// No server says what an object is called and how long it is in fewer bytes.
const ENTRY_BYTES_MIN: usize = 20;

/// A site's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Amazon's protocol.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage, by its XML API.
    Gcs,
    /// WebDAV (RFC 4918).
    WebDav,
}

/// Does what the first line says at a site that answers with the rest; true when the site took it for success.
pub fn read(kind: Kind, bytes: &[u8]) -> bool {
    let Some((asked, ready)) = parse(bytes) else {
        return false;
    };
    let room = ready.iter().map(|answer| answer.body().len()).sum::<usize>() / ENTRY_BYTES_MIN;
    let requests_max = ready.len() + MORE_REQUESTS_MAX;
    let ready = Ready::new(ready);
    let done = at(kind, &ready, async |site| act(site, &asked, room).await);
    let requests = ready.requests.load(Ordering::Relaxed);
    assert!(
        requests <= requests_max,
        "{requests} requests, at most {requests_max} expected"
    );
    done
}

/// Does something at a site that gives these answers.
#[expect(
    clippy::panic,
    reason = "an address and settings of ours that make no site are a broken test"
)]
fn at<T>(kind: Kind, ready: &Arc<Ready>, act: impl AsyncFnOnce(&dyn Everything) -> T) -> T {
    let (address, settings) = site(kind);
    let opened = SiteAddress::parse(&address)
        .ok()
        .and_then(|address| open_answered(&address, &settings, Arc::<Ready>::clone(ready)).ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (Some(site), Ok(runtime)) = (opened, runtime) else {
        panic!("no site of kind {kind:?}, or no runtime, can be had here");
    };
    runtime.block_on(act(&site))
}

/// All that can be asked of a site.
trait Everything: Site + Destroy + Retention {}

impl<S: Site + Destroy + Retention> Everything for S {}

/// Requests beyond the one that finds no answer: a range that fails for no clear reason asks for the length.
const MORE_REQUESTS_MAX: usize = 2;

/// What is asked of the site.
enum Asked {
    List(Prefix),
    Children(Prefix),
    Get,
    Range(Range<u64>),
    Length,
    Put(PutMode),
    Delete,
    Versioning,
    Lock,
}

async fn act(site: &dyn Everything, asked: &Asked, room: usize) -> bool {
    let name = object();
    match asked {
        Asked::List(prefix) => match site.list(prefix, ENTRIES_MAX).await {
            Ok(found) => listing_is_sound(&found, prefix, room),
            Err(_) => false,
        },
        Asked::Children(prefix) => match site.list_children(prefix, ENTRIES_MAX).await {
            Ok(found) => children_are_sound(&found, prefix, room),
            Err(_) => false,
        },
        Asked::Get => site.get(&name, BYTES_MAX).await.is_ok_and(|bytes| {
            assert!(bytes.len() as u64 <= BYTES_MAX, "{} B", bytes.len());
            true
        }),
        Asked::Range(range) => site.get_range(&name, range.clone()).await.is_ok_and(|bytes| {
            assert_eq!(bytes.len() as u64, range.end - range.start);
            true
        }),
        Asked::Length => site.length(&name).await.is_ok(),
        Asked::Put(mode) => site
            .put(&name, Body::from(Bytes::from_static(b"body")), *mode)
            .await
            .is_ok(),
        Asked::Delete => site.delete(&name).await.is_ok(),
        Asked::Versioning => site.versioning(&name).await.is_ok(),
        Asked::Lock => site.object_lock().await.is_ok(),
    }
}

fn listing_is_sound(found: &Listing, prefix: &Prefix, room: usize) -> bool {
    entries_are_sound(&found.entries, prefix);
    assert!(found.entries.len() <= ENTRIES_MAX);
    assert!(found.entries.len() + found.ignored <= room, "{found:?}");
    true
}

fn children_are_sound(found: &Children, prefix: &Prefix, room: usize) -> bool {
    entries_are_sound(&found.entries, prefix);
    assert!(found.prefixes.is_sorted_by(|a, b| a < b), "{found:?}");
    for child in &found.prefixes {
        assert!(child.as_str().starts_with(prefix.as_str()), "{child} in {prefix}");
    }
    let children = found.entries.len() + found.prefixes.len();
    assert!(children <= ENTRIES_MAX);
    assert!(children + found.ignored <= room, "{found:?}");
    true
}

fn entries_are_sound(entries: &[Entry], prefix: &Prefix) {
    assert!(entries.is_sorted_by(|a, b| a.name < b.name), "{entries:?}");
    for entry in entries {
        assert!(prefix.contains(&entry.name), "{} in {prefix}", entry.name);
    }
}

/// The object that is asked for.
fn object() -> ObjectName {
    #[expect(clippy::unwrap_used, reason = "it is a name")]
    ObjectName::parse("runs/0123/stripes/00/0.1.ab").unwrap()
}

/// Address and settings of a site of a kind.
fn site(kind: Kind) -> (String, SiteSettings) {
    let settings = SiteSettings {
        endpoint: Some(ENDPOINT.into()),
        ..SiteSettings::default()
    };
    let secret = || Secret::new("aHVudGVyMg==");
    let (address, credentials) = match kind {
        // Signing again for another time is part of reading an answer.
        Kind::S3 => (
            format!("s3://test/{PREFIX}"),
            Credentials::S3 {
                access_key: "me".into(),
                secret_key: secret(),
                session_token: None,
            },
        ),
        Kind::Azure => (
            format!("az://test/{PREFIX}"),
            Credentials::Azure {
                account: "account".into(),
                key: secret(),
            },
        ),
        Kind::Gcs => (format!("gs://test/{PREFIX}"), Credentials::Anonymous),
        Kind::WebDav => (format!("{ENDPOINT}/{PREFIX}"), Credentials::Anonymous),
    };
    let settings = SiteSettings {
        credentials,
        ..settings
    };
    (address, settings)
}

/// Answers that are handed out one after another.
struct Ready {
    answers: Mutex<VecDeque<Response<Bytes>>>,
    requests: AtomicUsize,
}

impl Ready {
    fn new(answers: VecDeque<Response<Bytes>>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers),
            requests: AtomicUsize::new(0),
        })
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}

impl Answers for Ready {
    fn next(&self, _: &Method, url: &Url) -> Option<Response<Bytes>> {
        assert!(url.as_str().starts_with(ENDPOINT), "{url}");
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answers.lock().ok()?.pop_front()
    }
}

/// The operation and the answers, when the bytes say any.
fn parse(bytes: &[u8]) -> Option<(Asked, VecDeque<Response<Bytes>>)> {
    let (first, mut rest) = line(bytes);
    let asked = asked(std::str::from_utf8(first).ok()?)?;
    let mut answers = VecDeque::new();
    while !rest.is_empty() {
        let end = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let (one, after) = rest.split_at(end.unwrap_or(rest.len()));
        answers.push_back(answer(one)?);
        rest = after.get(SEPARATOR.len()..).unwrap_or_default();
    }
    Some((asked, answers))
}

/// Stands between two answers.
const SEPARATOR: &[u8] = b"\n%%\n";

fn asked(line: &str) -> Option<Asked> {
    let mut words = line.split(' ');
    let verb = words.next()?;
    let what = words.next().unwrap_or_default();
    Some(match verb {
        "list" => Asked::List(prefix(what)?),
        "children" => Asked::Children(prefix(what)?),
        "get" => Asked::Get,
        "range" => Asked::Range(what.parse().ok()?..words.next()?.parse().ok()?),
        "length" => Asked::Length,
        "put" => Asked::Put(PutMode::Plain),
        "create" => Asked::Put(PutMode::Create),
        "delete" => Asked::Delete,
        "versioning" => Asked::Versioning,
        "lock" => Asked::Lock,
        _ => return None,
    })
}

fn prefix(text: &str) -> Option<Prefix> {
    Prefix::parse(text).ok()
}

/// An answer as it stands on the wire of HTTP/1.1, with a line feed for the end of a line, and the body until the end.
fn answer(bytes: &[u8]) -> Option<Response<Bytes>> {
    let (status, mut rest) = line(bytes);
    let status = status.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::from_bytes(status).ok()?;
    loop {
        let (header, after) = line(rest);
        rest = after;
        if header.is_empty() {
            break;
        }
        let at = header.iter().position(|byte| *byte == b':')?;
        let (name, value) = header.split_at(at);
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        answer.headers_mut().append(HeaderName::from_bytes(name).ok()?, value);
    }
    *answer.body_mut() = Bytes::copy_from_slice(rest);
    Some(answer)
}

/// The first line, and what follows it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => {
            let (line, rest) = bytes.split_at(at);
            (line, rest.get(1..).unwrap_or_default())
        }
        None => (bytes, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::seeds;

    const KINDS: [(Kind, &str); 4] = [
        (Kind::S3, "s3-answers"),
        (Kind::Azure, "azure-answers"),
        (Kind::Gcs, "gcs-answers"),
        (Kind::WebDav, "webdav-answers"),
    ];

    /// What a store of each kind writes around a name below our prefix.
    const NAMES: [&str; 4] = [
        "<Key>exclave/",
        "<Prefix>exclave/",
        "<Name>exclave/",
        "<D:href>/exclave/",
    ];

    #[test]
    fn what_servers_listed_comes_out() {
        for (kind, parser) in KINDS {
            let mut named = 0;
            for seed in seeds::answers(parser) {
                let text = String::from_utf8_lossy(&seed).into_owned();
                let (asked, ready) = parse(&seed).unwrap();
                let ready = Ready::new(ready);
                let found = at(kind, &ready, async |site| match &asked {
                    Asked::List(prefix) => site.list(prefix, ENTRIES_MAX).await.map(|found| {
                        assert_eq!(found.ignored, 0, "{text}");
                        found.entries.len()
                    }),
                    Asked::Children(prefix) => site.list_children(prefix, ENTRIES_MAX).await.map(|found| {
                        assert_eq!(found.ignored, 0, "{text}");
                        found.entries.len() + found.prefixes.len()
                    }),
                    _ => Ok(0),
                });
                let names: usize = NAMES.iter().map(|name| text.matches(name).count()).sum();
                // Of these, some are the directory or the prefix that was asked for.
                assert!(found.as_ref().is_ok_and(|found| *found <= names), "{found:?}: {text}");
                named += found.unwrap();
            }
            assert!(named >= 5, "{kind:?}: {named} names");
        }
    }

    #[test]
    fn what_servers_granted_is_success() {
        for (kind, parser) in KINDS {
            for seed in seeds::answers(parser) {
                let text = String::from_utf8_lossy(&seed).into_owned();
                let (asked, answers) = parse(&seed).unwrap();
                let last = answers.back().unwrap();
                // The part of a range that an object has is less than what was asked for.
                let is_part = match asked {
                    Asked::Range(range) => (last.body().len() as u64) < range.end - range.start,
                    _ => false,
                };
                let granted = last.status().is_success() && !is_part;
                assert!(!granted || read(kind, &seed), "{text}");
            }
        }
    }

    #[test]
    fn no_answers_are_a_refused_connection_and_nonsense_is_none() {
        assert!(!read(Kind::S3, b"list \n"));
        assert!(!read(Kind::S3, b"list"));
        assert!(
            parse(b"list runs/\nHTTP/1.1 200\n\n<a/>\n%%\nHTTP/1.1 503\n\n")
                .unwrap()
                .1
                .len()
                == 2
        );
        for nonsense in [
            &b""[..],
            b"sing\n",
            b"list ..\n",
            b"range 1\n",
            b"get\nHTTP/1.1 20",
            b"get\nHTTP/1.1 200\nx",
        ] {
            assert!(parse(nonsense).is_none(), "{nonsense:?}");
        }
    }
}
