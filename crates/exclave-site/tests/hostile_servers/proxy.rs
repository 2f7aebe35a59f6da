//! An honest bucket in memory behind a proxy that plays one behaviour; the table says what every operation makes of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exclave_model::Prefix;
use exclave_site::{Body, Class, PutMode, Stored};
use tokio::task::JoinSet;

use crate::support::{Reply, Request, Server, reply};
use crate::{name, s3};

const CONTENT: &str = "0123456789abcdef";
const OTHER: &str = "fedcba9876543210";
const META: &str = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\n";

/// The behaviours, once: what isn't in `expected` doesn't compile, and what is here is played.
macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Behaviour { $($name),* }
        const ALL: &[Behaviour] = &[$(Behaviour::$name),*];
    };
}

behaviours! {
    WrongEtag, ErrorInside200, BodyShort, BodyTruncated, BodyExtra, BodyHuge, OtherObject, BitFlipped, ReplyLost,
    PreconditionAfterSuccess, ConflictAfterSuccess, PutDropped, Busy, RetryAfterCentury, Internal, Forbidden,
    Unauthorized, Redirect301, Redirect302, Redirect307, Redirect308, Silent, SlowHead, SlowBody, Garbage, EndlessHead,
    InterimStorm, EndlessChunk, GzipClaimed, RangeIgnored, RangeOther, RangeLies, LengthLies, HeadOnly, GetOnly,
    SameToken, FreshTokens, ListOmits, ListDuplicates, ListStrays, ListGarbage, ListEntities,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Put,
    Get,
    Range,
    Length,
    List,
}

const STEPS: [Step; 5] = [Step::Put, Step::Get, Step::Range, Step::Length, Step::List];

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Right,
    /// An answer that isn't true. No site can know; the layers that hold digests must.
    Lie,
    Failed(Class),
}

fn expected(behaviour: Behaviour, step: Step) -> Outcome {
    use Behaviour as B;
    use Outcome::{Failed, Lie, Right};
    use Step as S;
    match (behaviour, step) {
        (B::WrongEtag | B::BodyExtra | B::GzipClaimed | B::ListDuplicates | B::ListStrays, _) => Right,
        (B::ErrorInside200 | B::OtherObject | B::BitFlipped | B::BodyTruncated, S::Get) => Lie,
        (B::OtherObject | B::BitFlipped | B::RangeLies, S::Range) => Lie,
        (B::ErrorInside200 | B::RangeIgnored | B::RangeOther, S::Range) => Failed(Class::Malformed),
        (B::BodyTruncated, S::Range) => Failed(Class::ShortRead),
        (B::BodyShort, S::Get | S::Range) => Failed(Class::Unreachable),
        (B::BodyHuge, S::Get) => Failed(Class::TooLong),
        (B::ReplyLost, S::Put) => Failed(Class::Unreachable),
        (B::PreconditionAfterSuccess | B::ConflictAfterSuccess, S::Put) => Lie,
        (B::PutDropped, S::Put) => Lie,
        (B::Busy | B::RetryAfterCentury, _) => Failed(Class::Throttled),
        (B::Internal, _) => Failed(Class::Internal),
        (B::Forbidden | B::Unauthorized, _) => Failed(Class::Denied),
        (B::Redirect301 | B::Redirect302 | B::Redirect307 | B::Redirect308, _) => Failed(Class::Malformed),
        (B::Silent | B::SlowHead, _) => Failed(Class::Slow),
        (B::SlowBody, S::Get | S::Range | S::List) => Failed(Class::Slow),
        (B::EndlessChunk, S::Get) => Failed(Class::Malformed),
        // What isn't HTTP is a broken connection to the client below.
        (B::Garbage | B::EndlessHead | B::InterimStorm, _) => Failed(Class::Unreachable),
        (B::LengthLies, S::Length) => Lie,
        (B::HeadOnly, S::Get | S::Range) => Failed(Class::Missing),
        (B::GetOnly, S::Length) => Failed(Class::Missing),
        (B::SameToken | B::ListGarbage, S::List) => Failed(Class::Malformed),
        (B::FreshTokens, S::List) => Failed(Class::Slow),
        // Entities in a listing are not refused as malformed.
        (B::ListOmits | B::ListEntities, S::List) => Lie,
        _ => Right,
    }
}

#[derive(Default)]
struct Bucket(Mutex<BTreeMap<String, Vec<u8>>>);

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn step_of(request: &Request) -> Step {
    match request.line.split(' ').next().unwrap() {
        "PUT" => Step::Put,
        "HEAD" => Step::Length,
        _ if request.line.contains("list-type=2") => Step::List,
        _ if request.header("range").is_some() => Step::Range,
        _ => Step::Get,
    }
}

fn key_of(request: &Request) -> String {
    request
        .line
        .split(' ')
        .nth(1)
        .unwrap()
        .trim_start_matches("/bucket/")
        .to_owned()
}

fn listing(keys: &[&str], token: Option<&str>) -> Reply {
    crate::page(keys, token)
}

fn part(body: &str, from: usize, to: usize) -> Reply {
    reply(
        206,
        &format!("{META}Content-Range: bytes {from}-{}/16\r\n", to - 1),
        body,
    )
}

impl Bucket {
    fn honest(&self, request: &Request) -> Reply {
        let mut objects = self.0.lock().unwrap();
        let step = step_of(request);
        if step == Step::List {
            let keys: Vec<_> = objects.keys().map(String::as_str).collect();
            return listing(&keys, None);
        }
        let key = key_of(request);
        if step == Step::Put {
            if request.header("if-none-match").is_some() && objects.contains_key(&key) {
                return reply(412, "", "");
            }
            objects.insert(key, request.body.clone());
            return reply(200, META, "");
        }
        let Some(body) = objects.get(&key) else {
            return reply(404, "", "<Code>NoSuchKey</Code>");
        };
        let body = text(body);
        match step {
            Step::Length => {
                Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{META}\r\n", body.len()).into_bytes())
            }
            Step::Range => part(&body[2..5], 2, 5),
            _ => reply(200, META, body),
        }
    }

    /// `behaviour` in front of the honest bucket.
    fn play(&self, behaviour: Behaviour, trap: &str, request: &Request) -> Reply {
        use Behaviour as B;
        use Step as S;
        let redirect = |status| reply(status, &format!("Location: {trap}/stolen\r\n"), "");
        let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
        let head = |length: u64| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{META}\r\n");
        let partial = |length: u64| {
            format!("HTTP/1.1 206 Partial\r\nContent-Length: {length}\r\nContent-Range: bytes 2-4/16\r\n{META}\r\n")
        };
        match (behaviour, step_of(request)) {
            (B::WrongEtag, S::Get) => reply(200, &META.replace("\"x\"", "\"wrong\""), CONTENT),
            (B::ErrorInside200, S::Get | S::Range) => reply(200, META, "<Error><Code>InternalError</Code></Error>"),
            (B::BodyShort, S::Get) => raw(&format!("{}{}", head(16), &CONTENT[..7])),
            (B::BodyShort, S::Range) => raw(&format!("{}2", partial(3))),
            (B::BodyTruncated, S::Get) => reply(200, META, &CONTENT[..7]),
            (B::BodyTruncated, S::Range) => raw(&format!("{}2", partial(1))),
            (B::BodyExtra, S::Get) => raw(&format!("{}{CONTENT}{CONTENT}", head(16))),
            (B::BodyHuge, S::Get) => Reply::Endless(head(1 << 40).into_bytes()),
            (B::OtherObject, S::Get) => reply(200, META, OTHER),
            (B::OtherObject, S::Range) => part(&OTHER[2..5], 2, 5),
            (B::BitFlipped, S::Get) => reply(200, META, &CONTENT.replace('7', "6")),
            (B::BitFlipped | B::RangeLies, S::Range) => part("235", 2, 5),
            (B::ReplyLost, S::Put) => {
                self.honest(request);
                raw("")
            }
            (B::PreconditionAfterSuccess | B::ConflictAfterSuccess, S::Put) => {
                self.honest(request);
                reply(if behaviour == B::ConflictAfterSuccess { 409 } else { 412 }, "", "")
            }
            (B::PutDropped, S::Put) => reply(200, META, ""),
            (B::Busy, _) => reply(503, "", "<Code>SlowDown</Code>"),
            (B::RetryAfterCentury, _) => reply(429, "Retry-After: 3155760000\r\n", ""),
            (B::Internal, _) => reply(500, "", ""),
            (B::Forbidden, _) => reply(403, "", "<Code>AccessDenied</Code>"),
            (B::Unauthorized, _) => reply(401, "", ""),
            (B::Redirect301, _) => redirect(301),
            (B::Redirect302, _) => redirect(302),
            (B::Redirect307, _) => redirect(307),
            (B::Redirect308, _) => redirect(308),
            (B::Silent, _) => Reply::Hang,
            (B::SlowHead, _) => Reply::Trickle(b"HTTP/1.1 200 OK\r\nX-Slow: ".to_vec()),
            (B::SlowBody, S::Get | S::List) => Reply::Trickle(head(900).into_bytes()),
            (B::SlowBody, S::Range) => Reply::RawThenHang(partial(3).into_bytes()),
            (B::Garbage, _) => raw("220 smtp.example ESMTP\r\n\r\n"),
            (B::EndlessHead, _) => Reply::Endless(b"HTTP/1.1 200 OK\r\nX-Endless: ".to_vec()),
            (B::InterimStorm, _) => raw(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000)),
            (B::EndlessChunk, S::Get) => Reply::Endless(
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{META}\r\nffffffff\r\n").into_bytes(),
            ),
            (B::GzipClaimed, S::Get) => reply(200, &format!("{META}Content-Encoding: gzip\r\n"), CONTENT),
            (B::RangeIgnored, S::Range) => reply(200, META, CONTENT),
            (B::RangeOther, S::Range) => part("345", 3, 6),
            (B::LengthLies, S::Length) => raw(&head(17)),
            (B::HeadOnly, S::Get | S::Range) => reply(404, "", "<Code>NoSuchKey</Code>"),
            (B::GetOnly, S::Length) => raw("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
            (B::SameToken, S::List) => listing(&["in/a"], Some("again")),
            (B::FreshTokens, S::List) => {
                let mut objects = self.0.lock().unwrap();
                let count = objects.entry("pages".to_owned()).or_default();
                count.push(0);
                listing(&[], Some(&count.len().to_string()))
            }
            (B::ListOmits, S::List) => listing(&["in/a"], None),
            (B::ListDuplicates, S::List) => listing(&["in/b", "in/a", "in/a"], None),
            (B::ListStrays, S::List) => listing(&["in/a", "in/../c", "/etc/passwd", "in/b", "elsewhere"], None),
            (B::ListGarbage, S::List) => reply(200, "", "<ListBucketResult><Contents>"),
            (B::ListEntities, S::List) => reply(
                200,
                "",
                "<!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>\
                 <ListBucketResult><Contents><Key>in/&b;</Key><Size>5</Size>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>",
            ),
            _ => self.honest(request),
        }
    }
}

/// Does a step at a bucket that holds `a` and `b`, and compares what it says with what is so.
async fn outcome(behaviour: Behaviour, step: Step) -> Outcome {
    let trap = Server::start(|_| reply(200, META, OTHER)).await;
    let bucket = Arc::new(Bucket::default());
    for key in ["in/a", "in/b"] {
        bucket.0.lock().unwrap().insert(key.to_owned(), CONTENT.into());
    }
    let (played, trap_url) = (Arc::clone(&bucket), trap.url());
    let server = Server::start(move |request| played.play(behaviour, &trap_url, request)).await;
    let site = s3(&server);
    let a = name("a");
    let truth = match step {
        Step::Put => {
            let body = Body::from(bytes::Bytes::from(OTHER));
            site.put(&name("c"), body, PutMode::Create).await.map(|stored| {
                let kept = bucket
                    .0
                    .lock()
                    .unwrap()
                    .get("in/c")
                    .is_some_and(|kept| kept == OTHER.as_bytes());
                stored == Stored::Created && kept
            })
        }
        Step::Get => site.get(&a, 1000).await.map(|bytes| bytes == CONTENT),
        Step::Range => site.get_range(&a, 2..5).await.map(|bytes| bytes == CONTENT[2..5]),
        Step::Length => site.length(&a).await.map(|length| length == 16),
        Step::List => site.list(&Prefix::all(), 10).await.map(|listing| {
            let names: Vec<_> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
            names == ["a", "b"] && listing.complete
        }),
    };
    assert!(trap.requests().is_empty(), "{behaviour:?}: {step:?} asked the trap");
    match truth {
        Ok(true) => Outcome::Right,
        Ok(false) => Outcome::Lie,
        Err(error) => Outcome::Failed(error.class()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_behaviour_has_its_outcome_at_every_step() {
    let mut plays = JoinSet::new();
    for (behaviour, step) in ALL.iter().flat_map(|behaviour| STEPS.map(|step| (*behaviour, step))) {
        plays.spawn(async move {
            // Far beyond the settings' own limits, so that a hang is told by name.
            let found = tokio::time::timeout(Duration::from_secs(30), outcome(behaviour, step)).await;
            let wanted = expected(behaviour, step);
            (found != Ok(wanted)).then(|| format!("{behaviour:?} {step:?}: {found:?}, not {wanted:?}"))
        });
    }
    let wrong: Vec<_> = plays.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
