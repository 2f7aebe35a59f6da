//! Servers that misbehave, on loopback: each must end in a typed error, soon, in bounded memory, and nowhere else.

#![expect(clippy::unwrap_used, reason = "a test may stop at its first surprise")]

mod bucket;
mod certificates;
mod outcomes;
mod proxy;
mod support;
mod trust;
mod versions;

use std::time::Duration;

use exclave_model::{ObjectName, Prefix};
use exclave_site::{Body, Class, Credentials, PutMode, Site, SiteAddress, SiteError, SiteSettings, Span, Stored, open};
use support::{Reply, Request, Server, reply};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn impatient(server: &Server) -> SiteSettings {
    SiteSettings {
        endpoint: Some(server.url()),
        silence_max: Span(Duration::from_millis(300)),
        operation_max: Span(Duration::from_secs(3)),
        listing_max: Span(Duration::from_secs(2)),
        ..SiteSettings::default()
    }
}

fn s3(server: &Server) -> std::sync::Arc<dyn Site> {
    open(&SiteAddress::parse("s3://bucket/in").unwrap(), &impatient(server)).unwrap()
}

async fn get_from(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<bytes::Bytes, SiteError> {
    let server = Server::start(answer).await;
    s3(&server).get(&name("a"), 1000).await
}

fn class<T: std::fmt::Debug>(outcome: Result<T, SiteError>) -> Class {
    outcome.unwrap_err().class()
}

/// A page of an S3 listing with these keys.
fn page(keys: &[&str], token: Option<&str>) -> Reply {
    let contents: String = keys
        .iter()
        .map(|key| {
            let when = "2026-01-01T00:00:00.000Z";
            format!("<Contents><Key>{key}</Key><Size>5</Size><LastModified>{when}</LastModified></Contents>")
        })
        .collect();
    let token = token
        .map(|t| format!("<NextContinuationToken>{t}</NextContinuationToken>"))
        .unwrap_or_default();
    reply(
        200,
        "",
        format!("<ListBucketResult>{contents}{token}</ListBucketResult>"),
    )
}

#[tokio::test]
async fn every_status_has_its_class() {
    for (status, body, wanted) in [
        (400, "", Class::Other),
        (401, "", Class::Denied),
        (403, "<Code>AccessDenied</Code>", Class::Denied),
        (403, "<Code>QuotaExceeded</Code>", Class::Full),
        (404, "<Code>NoSuchKey</Code>", Class::Missing),
        (404, "<Code>NoSuchBucket</Code>", Class::Unreachable),
        (408, "", Class::Slow),
        (429, "", Class::Throttled),
        (500, "", Class::Internal),
        (501, "", Class::Unsupported),
        (502, "", Class::Internal),
        (503, "<Code>SlowDown</Code>", Class::Throttled),
        (507, "", Class::Full),
    ] {
        let error = get_from(move |_| reply(status, "", body)).await.unwrap_err();
        assert_eq!(error.class(), wanted, "{status}: {error}");
        let server = Server::start(move |_| reply(status, "", body)).await;
        let put = s3(&server)
            .put(&name("a"), Body::default(), PutMode::Plain)
            .await
            .unwrap_err();
        // A put can't miss its object; what is missing is the bucket.
        let wanted = if wanted == Class::Missing {
            Class::Unreachable
        } else {
            wanted
        };
        assert_eq!(put.class(), wanted, "{status}: {put}");
        assert_eq!(server.requests().len(), 1, "{status}: not tried again by itself");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_target_never_asked() {
    let trap = Server::start(|_| reply(200, "", "trapped")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/bucket/in/a\r\n", trap.url());
        let error = get_from(move |_| reply(status, &location, "")).await.unwrap_err();
        assert_eq!(error.class(), Class::Malformed, "{error}");
    }
    assert_eq!(trap.requests().len(), 0);
}

#[tokio::test]
async fn no_credentials_given_means_none_sent_and_nobody_else_asked() {
    let server = Server::start(|request| match request.line.starts_with("PUT") {
        true => reply(200, "ETag: \"x\"\r\n", ""),
        false => page(&["in/a"], None),
    })
    .await;
    let settings = impatient(&server);
    assert_eq!(settings.credentials, Credentials::Anonymous);
    for address in ["s3://bucket/in", "gs://bucket/in", "az://bucket/in"] {
        let site = open(&SiteAddress::parse(address).unwrap(), &settings).unwrap();
        let before = server.requests().len();
        // A client that looks for credentials does so before its first request; it would fail here, since the transport
        // lets it ask nobody.
        let put = site.put(&name("a"), Body::from(vec![1]), PutMode::Plain).await;
        let asked = server.requests();
        assert_eq!(asked.len(), before + 1, "{address}: {put:?}");
        let authorization = asked[before].header("authorization").unwrap_or_default();
        assert!(
            ["", "Bearer"].contains(&authorization.trim()),
            "{address}: {authorization}"
        );
    }
}

#[tokio::test]
async fn plain_http_leaves_this_machine_only_when_allowed() {
    let address = SiteAddress::parse("http://192.0.2.1/dav").unwrap();
    assert_eq!(class(open(&address, &SiteSettings::default())), Class::Unsupported);
    assert!(
        open(
            &address,
            &SiteSettings {
                allow_http: true,
                ..SiteSettings::default()
            }
        )
        .is_ok()
    );
    let settings = SiteSettings {
        endpoint: Some("http://me:hunter2@127.0.0.1".into()),
        ..SiteSettings::default()
    };
    let error = open(&SiteAddress::parse("s3://bucket").unwrap(), &settings).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn bodies_of_the_wrong_length_are_refused() {
    let longer = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\n";
    // Announced too long: refused before it is read.
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n{longer}\r\n");
    assert_eq!(
        class(get_from(move |_| Reply::Endless(huge.clone().into_bytes())).await),
        Class::TooLong
    );
    // Cut off.
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n{longer}\r\nonly this");
    let error = get_from(move |_| Reply::Raw(cut.clone().into_bytes()))
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
    // No length at all, and no end.
    let chunked = format!("HTTP/1.1 200 OK\r\n{longer}\r\n");
    assert_eq!(
        class(get_from(move |_| Reply::Endless(chunked.clone().into_bytes())).await),
        Class::Malformed
    );
    // Not HTTP.
    let error = get_from(|_| Reply::Raw(b"SSH-2.0-OpenSSH_9\r\n".to_vec()))
        .await
        .unwrap_err();
    assert!(
        matches!(error.class(), Class::Unreachable | Class::Malformed),
        "{error}"
    );
}

#[tokio::test]
async fn a_compressed_body_stays_what_it_is() {
    let meta = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\nContent-Encoding: gzip\r\n";
    let bytes = get_from(move |_| reply(200, meta, "\u{1f}bomb")).await.unwrap();
    assert_eq!(bytes, "\u{1f}bomb");
}

#[tokio::test]
async fn silence_and_trickles_end() {
    assert_eq!(class(get_from(|_| Reply::Hang).await), Class::Slow);
    let meta = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\n";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n{meta}\r\n");
    let silent = head.clone();
    assert_eq!(
        class(get_from(move |_| Reply::RawThenHang(silent.clone().into_bytes())).await),
        Class::Slow
    );
    // A byte now and then breaks every silence, not the deadline.
    assert_eq!(
        class(get_from(move |_| Reply::Trickle(head.clone().into_bytes())).await),
        Class::Slow
    );
    let server = Server::start(|_| Reply::Hang).await;
    assert_eq!(class(s3(&server).list(&Prefix::all(), 10).await), Class::Slow);
}

#[tokio::test]
async fn an_endless_error_is_read_up_to_its_cap() {
    for status in [404, 500] {
        let head = format!("HTTP/1.1 {status} Oops\r\n\r\n");
        let error = get_from(move |_| Reply::Endless(head.clone().into_bytes()))
            .await
            .unwrap_err();
        assert!(matches!(error.class(), Class::Missing | Class::Internal), "{error}");
    }
}

#[tokio::test]
async fn ranges_that_are_not_honoured_are_refused() {
    let meta = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\n";
    let whole = Server::start(move |_| reply(200, meta, "0123456789")).await;
    assert_eq!(class(s3(&whole).get_range(&name("a"), 2..5).await), Class::Malformed);
    let other = format!("{meta}Content-Range: bytes 3-5/10\r\n");
    let other = Server::start(move |request| match request.line.starts_with("HEAD") {
        true => reply(200, meta, "0123456789"),
        false => reply(206, &other, "345"),
    })
    .await;
    assert_eq!(class(s3(&other).get_range(&name("a"), 2..5).await), Class::Malformed);
    let beyond = Server::start(|_| reply(416, "", "")).await;
    assert_eq!(class(s3(&beyond).get_range(&name("a"), 2..5).await), Class::ShortRead);
}

#[tokio::test]
async fn a_listing_without_end_ends() {
    let same = Server::start(|_| page(&["in/a"], Some("again"))).await;
    assert_eq!(class(s3(&same).list(&Prefix::all(), 10).await), Class::Malformed);
    // Always another page, and nothing on it: the deadline.
    let count = std::sync::atomic::AtomicU64::new(0);
    let ever = move |_: &Request| {
        let next = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        page(&[], Some(&next.to_string()))
    };
    let server = Server::start(ever).await;
    assert_eq!(class(s3(&server).list(&Prefix::all(), 10).await), Class::Slow);
    // Always more names: the caller's cap.
    let count = std::sync::atomic::AtomicU64::new(0);
    let more = move |_: &Request| {
        let next = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        page(&[&format!("in/a{next}"), "in/a"], Some(&next.to_string()))
    };
    let server = Server::start(more).await;
    let listing = s3(&server).list(&Prefix::all(), 10).await.unwrap();
    assert!(!listing.complete && listing.entries.len() <= 10);
}

#[tokio::test]
async fn a_listing_with_strays_doubles_and_disorder_is_put_right() {
    let server = Server::start(|_| {
        page(
            &[
                "in/b",
                "in/x//y",
                "in/A",
                "in/../c",
                "elsewhere/d",
                "in/a",
                "in/b",
                "in/",
                "in/z&#47;&#47;z",
            ],
            None,
        )
    })
    .await;
    let listing = s3(&server).list(&Prefix::all(), 100).await.unwrap();
    let names: Vec<_> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!((names, listing.complete, listing.ignored), (vec!["a", "b"], true, 6));
    let garbage = Server::start(|_| reply(200, "", "<ListBucketResult><Contents>")).await;
    assert_eq!(class(s3(&garbage).list(&Prefix::all(), 100).await), Class::Malformed);
}

#[tokio::test]
async fn already_exists_is_said_of_create_only_puts_alone() {
    for status in [409, 412] {
        let server = Server::start(move |_| reply(status, "", "")).await;
        let created = s3(&server).put(&name("a"), Body::default(), PutMode::Create).await;
        assert_eq!(created.unwrap(), Stored::AlreadyExists);
        assert_eq!(server.requests()[0].header("if-none-match"), Some("*"));
        assert!(
            s3(&server)
                .put(&name("a"), Body::default(), PutMode::Plain)
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn a_put_gets_a_checksum_where_one_is_asked_for() {
    // As AWS says it of a bucket that locks by default.
    let wanted = "<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for Put \
                  Object requests with Object Lock parameters</Message></Error>";
    let server = Server::start(move |request| match request.header("content-md5") {
        Some(_) => reply(200, "ETag: \"x\"\r\n", ""),
        None => reply(400, "", wanted),
    })
    .await;
    let site = s3(&server);
    for mode in [PutMode::Create, PutMode::Plain] {
        let body: Body = ["a", "bc"].into_iter().map(bytes::Bytes::from).collect();
        assert_eq!(site.put(&name("a"), body, mode).await.unwrap(), Stored::Created);
    }
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().map(|request| request.header("content-md5")).collect();
    // MD5 of "abc" in RFC 1321; the second put knows.
    let digest = Some("kAFQmDzST7DWlj99KOF/cg==");
    assert_eq!(sent, [None, digest, digest]);
    assert!(requests.iter().all(|request| request.body == b"abc"));
    assert_eq!(requests[1].header("if-none-match"), Some("*"));

    let never = Server::start(move |_| reply(400, "", wanted)).await;
    assert_eq!(
        class(s3(&never).put(&name("a"), Body::default(), PutMode::Plain).await),
        Class::Other
    );
    assert_eq!(never.requests().len(), 2);
}

#[tokio::test]
async fn a_put_sends_its_slices_whole_and_hears_the_clock() {
    let server = Server::start(|_| reply(200, "ETag: \"x\"\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "")).await;
    let site = s3(&server);
    assert_eq!(site.date().await, None);
    let slices = [vec![1_u8; 100_000], vec![2; 70_001], vec![3; 1]];
    let body: Body = slices.iter().cloned().map(bytes::Bytes::from).collect();
    site.put(&name("a/b"), body, PutMode::Plain).await.unwrap();
    let request = &server.requests()[0];
    assert!(request.line.starts_with("PUT /bucket/in/a/b "), "{}", request.line);
    assert_eq!(request.header("content-length"), Some("170002"));
    assert_eq!(request.body, slices.concat());
    // RFC 9110 section 5.6.7 has this date.
    assert_eq!(site.date().await, Some(784_111_777));
}

#[tokio::test]
async fn basic_credentials_reach_webdav_and_no_error() {
    let server = Server::start(|_| reply(401, "", "")).await;
    let password = exclave_site::Secret::new("hunter2");
    let credentials = Credentials::Basic {
        user: "me".into(),
        password,
    };
    let settings = SiteSettings {
        credentials,
        endpoint: None,
        ..impatient(&server)
    };
    let site = open(
        &SiteAddress::parse(&format!("{}/dav", server.url())).unwrap(),
        &settings,
    )
    .unwrap();
    let error = site.get(&name("a"), 10).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    // "me:hunter2" in base64.
    assert_eq!(
        server.requests()[0].header("authorization"),
        Some("Basic bWU6aHVudGVyMg==")
    );
    assert!(!format!("{error} {error:?} {site:?}").contains("hunter2"));
    let wrong = open(&SiteAddress::parse("s3://bucket").unwrap(), &settings);
    assert_eq!(class(wrong), Class::Unsupported);
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let server = Server::start(|_| Reply::Hang).await;
    let (settings, address) = (impatient(&server), SiteAddress::parse("s3://bucket").unwrap());
    drop(server);
    let site = open(&address, &settings).unwrap();
    assert_eq!(class(site.get(&name("a"), 10).await), Class::Unreachable);
}

#[tokio::test]
async fn a_wrong_local_clock_is_corrected_by_the_sites_own() {
    // The site lives in 1994 and takes nothing that is signed for another time.
    let at_home = |request: &Request| {
        request
            .header("x-amz-date")
            .is_some_and(|date| date.starts_with("19941106T"))
            || request
                .header("date")
                .is_some_and(|date| date.starts_with("Sun, 06 Nov 1994"))
    };
    let server = Server::start(move |request| {
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"x\"\r\n";
        match at_home(request) {
            true => reply(200, date, ""),
            false => reply(403, date, "<Error><Code>RequestTimeTooSkewed</Code></Error>"),
        }
    })
    .await;
    let s3_keys = Credentials::S3 {
        access_key: "AKID".into(),
        secret_key: exclave_site::Secret::new("secret"),
        session_token: None,
    };
    let azure_key = Credentials::Azure {
        account: "land".into(),
        key: exclave_site::Secret::new("c2VjcmV0"),
    };
    for (address, credentials) in [("s3://bucket/in", s3_keys), ("az://bucket/in", azure_key)] {
        let settings = SiteSettings {
            credentials,
            ..impatient(&server)
        };
        let site = open(&SiteAddress::parse(address).unwrap(), &settings).unwrap();
        let before = server.requests().len();
        let body = vec![7_u8; 100_000];
        site.put(&name("a"), Body::from(bytes::Bytes::from(body.clone())), PutMode::Plain)
            .await
            .unwrap();
        let requests = server.requests();
        let [refused, taken] = &requests[before..] else {
            panic!("{address}: sent once by our clock and once by its own");
        };
        assert!(!at_home(refused) && at_home(taken));
        assert_eq!(taken.body, body, "the whole body goes again");
        // From now on its time is used at once.
        site.put(&name("b"), Body::default(), PutMode::Plain).await.unwrap();
        assert_eq!(server.requests().len(), before + 3);
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_about_time_is_one_request() {
    let server = Server::start(|request: &Request| {
        let now = request.header("x-amz-date").unwrap().to_owned();
        let (hour, minute) = (&now[9..11], &now[11..13]);
        let (year, day) = (&now[..4], &now[6..8]);
        let month = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ][now[4..6].parse::<usize>().unwrap() - 1];
        // The day of the week is not checked by anyone.
        reply(
            403,
            &format!(
                "Date: Mon, {day} {month} {year} {hour}:{minute}:{} GMT\r\n",
                &now[13..15]
            ),
            "no",
        )
    })
    .await;
    let settings = SiteSettings {
        credentials: Credentials::S3 {
            access_key: "AKID".into(),
            secret_key: exclave_site::Secret::new("secret"),
            session_token: None,
        },
        ..impatient(&server)
    };
    let site = open(&SiteAddress::parse("s3://bucket/in").unwrap(), &settings).unwrap();
    assert_eq!(class(site.get(&name("a"), 10).await), Class::Denied);
    assert_eq!(server.requests().len(), 1);
}
