//! An honest S3 bucket in memory, behind a proxy that plays one hostile behaviour.
//!
//! Two test binaries share this file and `support.rs` by path: `hostile_servers` here, which holds a site to a table of
//! outcomes, and `hostile_sites` in `tests/`, which holds the whole system to right bytes. A crate of its own for two test
//! files would have to be a dependency of both, and `exclave-site` may not depend on what is built on it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Reply, Request, reply};

const META: &str = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\n";
const GZIP: &str = "Content-Encoding: gzip\r\n";
const ERROR: &str = "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>";

/// More than a site reads of one page.
const HUGE: u64 = 1 << 40;

/// Requests that a storm lasts.
const STORM: u64 = 3;

/// The behaviours, once: what has no outcome in the table doesn't compile, and what is here is played.
macro_rules! behaviours {
    ($($(#[doc = $text:literal])* $name:ident),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Behaviour { $($(#[doc = $text])* $name),* }
        pub const ALL: &[Behaviour] = &[$(Behaviour::$name),*];
    };
}

behaviours! {
    /// Answers with the ETag of something else.
    WrongEtag,
    /// 200, and the text of an error.
    ErrorInside200,
    /// 200, and a login page, as a captive portal answers everything.
    LoginPage,
    /// Half of what is announced, then the end.
    BodyShort,
    /// Half of the object, announced as such.
    BodyTruncated,
    /// More after the announced end.
    BodyExtra,
    /// Announces 1 TiB, and sends it.
    BodyHuge,
    /// Does what it should, and never stops to say so.
    ReplyEndless,
    /// Another object's bytes.
    OtherObject,
    BitFlipped,
    /// Does what it should, and ends the connection without a word.
    ReplyLost,
    PreconditionAfterSuccess,
    ConflictAfterSuccess,
    /// Says that it has stored, and hasn't.
    PutDropped,
    /// Says that it has stored, and has half of it.
    PutTorn,
    /// 503 to everything.
    Busy,
    /// 503 to the first requests.
    BusyAtFirst,
    RetryAfterCentury,
    Internal,
    Forbidden,
    Unauthorized,
    /// 403 and 401 to two of three requests.
    DeniedAtTimes,
    /// Refuses for the time, by a clock that stands in 1994.
    ClockSkew,
    Redirect301,
    Redirect302,
    Redirect307,
    Redirect308,
    Silent,
    /// Half of the body, and then nothing.
    SilentMidway,
    /// A head that never ends, a byte now and then.
    SlowHead,
    /// A body that takes for ever, a byte now and then.
    SlowBody,
    /// Another protocol.
    Garbage,
    /// A head that never ends, as fast as it is taken.
    EndlessHead,
    /// A thousand times 100, and nothing after.
    InterimStorm,
    /// A chunk of 4 GiB.
    EndlessChunk,
    /// Says gzip, and sends the object itself.
    GzipClaimed,
    /// Some hundred bytes of gzip that become many.
    GzipBomb,
    /// 200 and the whole object.
    RangeIgnored,
    /// Another range, announced as such.
    RangeOther,
    /// Another range, announced as the right one.
    RangeLies,
    LengthLies,
    /// Knows of objects, and has none.
    HeadOnly,
    /// Has objects, and doesn't know of them.
    GetOnly,
    /// Older versions are kept below a delete marker, which is all that is shown.
    DeleteMarker,
    /// Says that it has deleted, and hasn't.
    DeleteIgnored,
    /// Deletes, and reports a failure about another object.
    DeleteOther,
    SameToken,
    FreshTokens,
    ListOmits,
    /// The listing as it was at the beginning.
    ListStale,
    ListDuplicates,
    ListStrays,
    ListGarbage,
    /// A page without end.
    ListHuge,
    /// Entities of its own that double (billion laughs), in a document type.
    ListDoctype,
    /// An entity that nobody defined, in a key.
    ListEntityInKey,
    /// An entity that nobody defined, in the next page's token.
    ListEntityInToken,
    /// A size that no number holds.
    ListSizeHuge,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Put,
    Get,
    Range,
    Length,
    List,
    Delete,
}

impl Step {
    fn of(request: &Request) -> Self {
        match request.line.split(' ').next().unwrap() {
            "PUT" => Self::Put,
            "HEAD" => Self::Length,
            "DELETE" => Self::Delete,
            _ if request.line.contains("list-type=2") => Self::List,
            _ if request.header("range").is_some() => Self::Range,
            _ => Self::Get,
        }
    }
}

/// An honest answer before it is sent.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, headers: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: headers.to_owned(),
            body: body.into(),
        }
    }

    /// Its head with another length, and the start of its body.
    fn cut(&self, announced: u64, sent: usize) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {} Status\r\nContent-Length: {announced}\r\nConnection: close\r\n{}\r\n",
            self.status, self.headers
        );
        [head.as_bytes(), &self.body[..sent.min(self.body.len())]].concat()
    }

    fn send(&self) -> Reply {
        reply(self.status, &self.headers, &self.body)
    }
}

/// A page of a listing.
fn page(objects: &[(&str, String)], prefixes: &[String], token: Option<&str>) -> Answer {
    const WHEN: &str = "<LastModified>2026-01-01T00:00:00.000Z</LastModified>";
    let objects = objects
        .iter()
        .map(|(key, size)| format!("<Contents><Key>{key}</Key><Size>{size}</Size>{WHEN}</Contents>"));
    let prefixes = prefixes
        .iter()
        .map(|prefix| format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"));
    let inside: String = objects.chain(prefixes).collect();
    let token = token.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    let text = format!(
        "<ListBucketResult>{inside}{}</ListBucketResult>",
        token.unwrap_or_default()
    );
    Answer::new(200, "", text)
}

/// Gzip (RFC 1952, 1951) of 2,064 zeros for every 13 bytes: one literal, then matches of 258 bytes at distance 1, in fixed codes.
/// 8 matches of 13 bits fill whole bytes. It is cut off, since a bomb goes off before its end.
pub fn bomb() -> Vec<u8> {
    let mut bits = vec![true, true, false];
    let mut code = |value: u16, width: u32| bits.extend((0..width).rev().map(|bit| value >> bit & 1 == 1));
    code(0b0011_0000, 8);
    for _ in 0..8 * 40 {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    let packed = bits
        .chunks(8)
        .map(|byte| byte.iter().rev().fold(0, |packed, bit| packed << 1 | u8::from(*bit)));
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    head.into_iter().chain(packed).collect()
}

fn key_of(request: &Request) -> String {
    let path = request.line.split(' ').nth(1).unwrap();
    path.trim_start_matches("/bucket/").to_owned()
}

/// A value of the query.
fn asked(request: &Request, name: &str) -> String {
    let target = request.line.split(' ').nth(1).unwrap();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    // Names of ours have nothing else to be escaped.
    value.unwrap_or_default().replace("%2F", "/")
}

/// The range that is asked for.
fn range_of(request: &Request) -> (usize, usize) {
    let range = request.header("range").unwrap();
    let (from, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    (from.parse().unwrap(), last.parse::<usize>().unwrap() + 1)
}

pub type Objects = BTreeMap<String, Vec<u8>>;

fn part(body: &[u8], (from, to): (usize, usize)) -> Answer {
    let to = to.min(body.len());
    if from >= to {
        return Answer::new(416, "", "");
    }
    let headers = format!("{META}Content-Range: bytes {from}-{}/{}\r\n", to - 1, body.len());
    Answer::new(206, &headers, &body[from..to])
}

fn list(objects: &Objects, request: &Request) -> Answer {
    let (prefix, delimiter) = (asked(request, "prefix"), asked(request, "delimiter"));
    let mut below = Vec::new();
    let mut prefixes = Vec::new();
    for (key, body) in objects {
        let Some(rest) = key.strip_prefix(&prefix) else {
            continue;
        };
        match rest.split_once('/').filter(|_| delimiter == "/") {
            Some((child, _)) => prefixes.push(format!("{prefix}{child}/")),
            None => below.push((key.as_str(), body.len().to_string())),
        }
    }
    prefixes.dedup();
    page(&below, &prefixes, None)
}

/// The bucket, its beginnings, and how often it was asked.
pub struct Bucket {
    objects: Mutex<Objects>,
    beginnings: Objects,
    requests: AtomicU64,
}

impl Bucket {
    /// A bucket that once held `beginnings`, and now these objects.
    pub fn new(beginnings: Objects, objects: Objects) -> Self {
        Self {
            beginnings,
            objects: Mutex::new(objects),
            requests: AtomicU64::new(0),
        }
    }

    pub fn objects(&self) -> Objects {
        self.objects.lock().unwrap().clone()
    }

    fn honest(&self, request: &Request) -> Answer {
        let mut objects = self.objects.lock().unwrap();
        let (step, key) = (Step::of(request), key_of(request));
        match step {
            Step::List => return list(&objects, request),
            Step::Put if request.header("if-none-match").is_some() && objects.contains_key(&key) => {
                return Answer::new(412, "", "");
            }
            Step::Put => {
                objects.insert(key, request.body.clone());
                return Answer::new(200, META, "");
            }
            Step::Delete => {
                objects.remove(&key);
                return Answer::new(204, "", "");
            }
            Step::Get | Step::Range | Step::Length => {}
        }
        match objects.get(&key) {
            None => Answer::new(404, "", "<Code>NoSuchKey</Code>"),
            Some(body) if step == Step::Range => part(body, range_of(request)),
            Some(body) => Answer::new(200, META, body.clone()),
        }
    }

    /// The answer about the object that follows the one that is asked for.
    fn other(&self, request: &Request) -> Answer {
        let objects = self.objects.lock().unwrap();
        let key = key_of(request);
        let next = objects.range(key.clone()..).find(|(other, _)| **other != key);
        match (next.or(objects.first_key_value()), Step::of(request)) {
            (Some((_, body)), Step::Range) => part(body, range_of(request)),
            (Some((_, body)), _) => Answer::new(200, META, body.clone()),
            (None, _) => Answer::new(404, "", ""),
        }
    }

    /// The range that begins and ends a byte later.
    fn later(&self, request: &Request) -> Answer {
        let (from, to) = range_of(request);
        let objects = self.objects.lock().unwrap();
        let body = objects.get(&key_of(request)).map(Vec::as_slice);
        part(body.unwrap_or_default(), (from + 1, to + 1))
    }

    /// What is answered, `behaviour` being played. Redirects point to `trap`.
    pub fn play(&self, behaviour: Behaviour, trap: &str, request: &Request) -> Reply {
        let turn = self.requests.fetch_add(1, Ordering::Relaxed);
        let played = match Step::of(request) {
            Step::Put | Step::Delete => self.play_deed(behaviour, request),
            Step::Get | Step::Range | Step::Length => self.play_read(behaviour, request),
            Step::List => self.play_list(behaviour, turn, request),
        };
        played
            .or_else(|| play_refusal(behaviour, trap, turn))
            .unwrap_or_else(|| send(&self.honest(request), request))
    }

    fn play_deed(&self, behaviour: Behaviour, request: &Request) -> Option<Reply> {
        use Behaviour as B;
        use Step as S;
        Some(match (behaviour, Step::of(request)) {
            (B::WrongEtag, S::Put) => {
                self.honest(request);
                reply(200, &META.replace("\"x\"", "\"wrong\""), "")
            }
            (B::ErrorInside200 | B::LoginPage, _) => reply(200, META, ERROR),
            (B::BodyExtra, _) => {
                let honest = self.honest(request);
                Reply::Raw([honest.cut(0, 0), ERROR.into()].concat())
            }
            (B::ReplyEndless, _) => {
                let mut honest = self.honest(request);
                honest.status = 200;
                Reply::Endless(honest.cut(HUGE, 0))
            }
            (B::ReplyLost, _) => {
                self.honest(request);
                Reply::Raw(Vec::new())
            }
            (B::PreconditionAfterSuccess, S::Put) => {
                self.honest(request);
                reply(412, "", "")
            }
            (B::ConflictAfterSuccess, S::Put) => {
                self.honest(request);
                reply(409, "", "")
            }
            (B::PutDropped, S::Put) => reply(200, META, ""),
            (B::PutTorn, S::Put) => {
                let torn = request.body[..request.body.len() / 2].to_vec();
                self.objects.lock().unwrap().insert(key_of(request), torn);
                reply(200, META, "")
            }
            (B::DeleteIgnored, S::Delete) => reply(204, "", ""),
            (B::DeleteMarker, S::Delete) => {
                self.honest(request);
                reply(204, "x-amz-delete-marker: true\r\nx-amz-version-id: 7\r\n", "")
            }
            (B::DeleteOther, S::Delete) => {
                self.honest(request);
                let about = "<Error><Key>elsewhere</Key><Code>AccessDenied</Code><Message>no</Message></Error>";
                reply(200, "", format!("<DeleteResult>{about}</DeleteResult>"))
            }
            _ => return None,
        })
    }

    fn play_read(&self, behaviour: Behaviour, request: &Request) -> Option<Reply> {
        use Behaviour as B;
        use Step as S;
        let step = Step::of(request);
        let mut honest = self.honest(request);
        let (length, half) = (honest.body.len(), honest.body.len() / 2);
        // What isn't there has no bytes to lie about.
        if honest.status >= 300 {
            return None;
        }
        if step == S::Length {
            return Some(match behaviour {
                B::LengthLies => Reply::Raw(honest.cut(length as u64 + 1, 0)),
                B::GetOnly => reply(404, "", ""),
                B::DeleteMarker => reply(404, "x-amz-delete-marker: true\r\n", ""),
                _ => return None,
            });
        }
        Some(match (behaviour, step) {
            (B::WrongEtag, _) => {
                honest.headers = honest.headers.replace("\"x\"", "\"wrong\"");
                honest.send()
            }
            (B::ErrorInside200 | B::LoginPage, _) => reply(200, META, ERROR),
            (B::BodyShort, _) => Reply::Raw(honest.cut(length as u64, half)),
            (B::SilentMidway, _) => Reply::RawThenHang(honest.cut(length as u64, half)),
            (B::BodyTruncated, _) => Reply::Raw(honest.cut(half as u64, half)),
            (B::BodyExtra, _) => Reply::Raw([honest.cut(length as u64, length), honest.body].concat()),
            (B::BodyHuge, _) => Reply::Endless(honest.cut(HUGE, length)),
            (B::OtherObject, _) => self.other(request).send(),
            (B::BitFlipped, _) => {
                honest.body[half] ^= 1;
                honest.send()
            }
            (B::SlowBody, _) => Reply::Trickle(honest.cut((length as u64).max(900), 0)),
            (B::EndlessChunk, _) => {
                let head = format!("HTTP/1.1 {} OK\r\n{}", honest.status, honest.headers);
                Reply::Endless(format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffff\r\n").into())
            }
            (B::GzipClaimed, _) => {
                honest.headers.push_str(GZIP);
                honest.send()
            }
            (B::GzipBomb, S::Get) => reply(200, &format!("{META}{GZIP}"), bomb()),
            (B::RangeIgnored, S::Range) => {
                let objects = self.objects.lock().unwrap();
                reply(200, META, &objects[&key_of(request)])
            }
            (B::RangeOther, S::Range) => self.later(request).send(),
            (B::RangeLies, S::Range) => {
                honest.body.rotate_left(1);
                honest.send()
            }
            (B::HeadOnly, _) => reply(404, "", "<Code>NoSuchKey</Code>"),
            (B::DeleteMarker, _) => reply(404, "x-amz-delete-marker: true\r\n", "<Code>NoSuchKey</Code>"),
            _ => return None,
        })
    }

    fn play_list(&self, behaviour: Behaviour, turn: u64, request: &Request) -> Option<Reply> {
        use Behaviour as B;
        let honest = self.honest(request);
        let text = String::from_utf8(honest.body.clone()).unwrap();
        let prefix = asked(request, "prefix");
        let twice = text.replace("</ListBucketResult>", &text["<ListBucketResult>".len()..]);
        let with = |key: &str| {
            let strays = String::from_utf8(page(&[(key, "1".into())], &[], None).body).unwrap();
            text.replace("</ListBucketResult>", &strays["<ListBucketResult>".len()..])
        };
        Some(match behaviour {
            B::ErrorInside200 => reply(200, "", ERROR),
            B::LoginPage => reply(200, "", "<!DOCTYPE html><html><body>Log in</body></html>"),
            B::BodyShort => Reply::Raw(honest.cut(text.len() as u64, text.len() / 2)),
            B::SilentMidway => Reply::RawThenHang(honest.cut(text.len() as u64, text.len() / 2)),
            B::BodyTruncated => Reply::Raw(honest.cut(text.len() as u64 / 2, text.len() / 2)),
            B::BodyExtra => Reply::Raw([honest.cut(text.len() as u64, text.len()), honest.body].concat()),
            B::SlowBody => Reply::Trickle(honest.cut(HUGE, 0)),
            B::EndlessChunk | B::ListHuge => {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n<ListBucketResult>";
                Reply::Endless(head.into())
            }
            B::GzipBomb => reply(200, GZIP, bomb()),
            B::SameToken => page(&[], &[], Some("again")).send(),
            B::FreshTokens => page(&[], &[], Some(&turn.to_string())).send(),
            // What sorts last: the newest.
            B::ListOmits => match text.rfind("<Contents>") {
                Some(last) => reply(200, "", format!("{}</ListBucketResult>", &text[..last])),
                None => return None,
            },
            B::ListStale => list(&self.beginnings, request).send(),
            B::ListDuplicates => reply(200, "", twice),
            B::ListStrays => reply(200, "", with(&format!("{prefix}../../etc/passwd"))),
            B::ListEntityInKey => reply(200, "", with(&format!("{prefix}&boom;"))),
            B::ListEntityInToken => page(&[], &[], Some("&boom;")).send(),
            B::ListGarbage => reply(200, "", "<ListBucketResult><Contents>"),
            B::ListDoctype => {
                let entities = "<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">";
                reply(
                    200,
                    "",
                    format!("<!DOCTYPE l [{entities}]>{}", with(&format!("{prefix}&b;"))),
                )
            }
            B::ListSizeHuge => page(&[(&format!("{prefix}a"), "9".repeat(30))], &[], None).send(),
            _ => return None,
        })
    }
}

/// What doesn't depend on what is asked.
fn play_refusal(behaviour: Behaviour, trap: &str, turn: u64) -> Option<Reply> {
    use Behaviour as B;
    let redirect = |status| reply(status, &format!("Location: {trap}/stolen\r\n"), "");
    Some(match behaviour {
        B::Busy => reply(503, "", "<Code>SlowDown</Code>"),
        B::BusyAtFirst if turn < STORM => reply(503, "Retry-After: 1\r\n", "<Code>SlowDown</Code>"),
        B::RetryAfterCentury => reply(429, "Retry-After: 3155760000\r\n", ""),
        B::Internal => reply(500, "", ""),
        B::Forbidden => reply(403, "", "<Code>AccessDenied</Code>"),
        B::Unauthorized => reply(401, "", ""),
        B::DeniedAtTimes if turn.is_multiple_of(3) => reply(403, "", "<Code>AccessDenied</Code>"),
        B::DeniedAtTimes if turn % 3 == 1 => reply(401, "", ""),
        B::ClockSkew => {
            let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
            reply(403, date, "<Code>RequestTimeTooSkewed</Code>")
        }
        B::Redirect301 => redirect(301),
        B::Redirect302 => redirect(302),
        B::Redirect307 => redirect(307),
        B::Redirect308 => redirect(308),
        B::Silent => Reply::Hang,
        B::SlowHead => Reply::Trickle(b"HTTP/1.1 200 OK\r\nX-Slow: ".to_vec()),
        B::Garbage => Reply::Raw(b"220 smtp.example ESMTP\r\n\r\n".to_vec()),
        B::EndlessHead => Reply::Endless(b"HTTP/1.1 200 OK\r\nX-Endless: ".to_vec()),
        B::InterimStorm => Reply::Raw("HTTP/1.1 100 Continue\r\n\r\n".repeat(1000).into()),
        _ => return None,
    })
}

/// An answer to `HEAD` has a body's length and no body.
fn send(answer: &Answer, request: &Request) -> Reply {
    match Step::of(request) {
        Step::Length => Reply::Raw(answer.cut(answer.body.len() as u64, 0)),
        _ => answer.send(),
    }
}
