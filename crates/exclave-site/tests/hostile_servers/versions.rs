//! What lies beneath at an S3 server: the requests that are sent, piles without end, and answers that make no sense.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exclave_model::{Anchor, ArchiveNames, ObjectName, Prefix, Tag};
use exclave_site::{
    Class, Credentials, Destroy, LockMode, Locked, Secret, Seeing, Site, SiteAddress, SiteSettings, Span, VersionId,
    open, open_destroy,
};

use crate::support::{Reply, Request, Server, reply};
use crate::{class, impatient};

const META: &str = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\n";
const KEPT: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const OURS: &str = "ours";

fn address() -> SiteAddress {
    SiteAddress::parse("s3://bucket/in").unwrap()
}

fn settings(server: &Server) -> SiteSettings {
    SiteSettings {
        credentials: Credentials::S3 {
            access_key: "me".into(),
            secret_key: Secret::new("hunter2"),
            session_token: None,
        },
        listing_max: Span(Duration::from_secs(5)),
        ..impatient(server)
    }
}

fn opened(server: &Server) -> Arc<dyn Site> {
    open(&address(), &settings(server)).unwrap()
}

fn destroyer(server: &Server) -> Arc<dyn Destroy> {
    open_destroy(&address(), &settings(server)).unwrap()
}

/// A name that says that its bytes are [`OURS`].
fn ours() -> ObjectName {
    ArchiveNames::new(Anchor::from_bytes([7; 32])).grant(Tag::of(OURS.as_bytes()))
}

fn version(element: &str, id: &str, newest: bool, size: usize) -> String {
    let size = match element {
        "Version" => format!("<Size>{size}</Size>"),
        _ => String::new(),
    };
    let name = ours();
    format!("<{element}><Key>in/{name}</Key><VersionId>{id}</VersionId><IsLatest>{newest}</IsLatest>{size}</{element}>")
}

fn page(inside: &str) -> Reply {
    reply(200, "", format!("<ListVersionsResult>{inside}</ListVersionsResult>"))
}

fn asks(request: &Request, what: &str) -> bool {
    request.line.contains(what)
}

/// A bucket whose newest version of our object is a delete marker, with garbage beneath it, and ours at the bottom.
fn poisoned(request: &Request) -> Reply {
    match () {
        () if asks(request, "?versioning") => reply(200, "", KEPT),
        () if asks(request, "?versions") => page(&format!(
            "{}{}{}<IsTruncated>false</IsTruncated>",
            version("DeleteMarker", "3", true, 0),
            version("Version", "2", false, 4),
            version("Version", "1+", false, 4),
        )),
        () if asks(request, "versionId=1%2B") => reply(200, META, OURS),
        () if asks(request, "versionId=2") => reply(200, META, "junk"),
        () => reply(
            404,
            "x-amz-delete-marker: true\r\n",
            "<Error><Code>NoSuchKey</Code></Error>",
        ),
    }
}

#[tokio::test]
async fn a_poisoned_object_is_seen_through() {
    let server = Server::start(poisoned).await;
    let site = Seeing::new(opened(&server));
    assert_eq!(site.get(&ours(), 10).await.unwrap(), OURS);
    let listed = site.list(&Prefix::parse("").unwrap(), 10).await.unwrap();
    assert_eq!(listed.entries.len(), 1);
    let buried = site.sight().buried();
    assert_eq!((buried.len(), buried[0].on_top, buried[0].is_hidden), (1, 2, true));
    let requests = server.requests();
    let lines: Vec<_> = requests
        .iter()
        .map(|request| request.line.split(' ').nth(1).unwrap())
        .collect();
    let (key, encoded) = (
        format!("/bucket/in/{}", ours()),
        format!("in/{}", ours()).replace('/', "%2F"),
    );
    assert_eq!(
        lines,
        [
            key.clone(),
            "/bucket?versioning".to_owned(),
            format!("/bucket?versions&prefix={encoded}"),
            format!("{key}?versionId=1%2B"),
            "/bucket?versions&prefix=in%2F".to_owned(),
        ]
    );
    for request in requests {
        assert!(request.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256"));
    }
}

#[tokio::test]
async fn a_pile_of_100000_versions_takes_100_requests_and_no_memory() {
    let pages = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&pages);
    let server = Server::start(move |request| {
        if !asks(request, "?versions") {
            return poisoned(request);
        }
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let mut inside: String = (0..1000)
            .map(|at| version("DeleteMarker", &format!("m{number}-{at}"), number == 0 && at == 0, 0))
            .collect();
        match number {
            99 => inside.push_str(&version("Version", "1+", false, 4)),
            _ => inside.push_str(&format!(
                "<IsTruncated>true</IsTruncated><NextKeyMarker>in/{}</NextKeyMarker>\
                 <NextVersionIdMarker>m{number}-999</NextVersionIdMarker>",
                ours()
            )),
        }
        page(&inside)
    })
    .await;
    let site = Seeing::new(opened(&server));
    assert_eq!(site.get(&ours(), 10).await.unwrap(), OURS);
    assert_eq!(pages.load(Ordering::SeqCst), 100);
    assert_eq!(site.sight().buried()[0].on_top, 100_000);
}

#[tokio::test]
async fn a_list_of_versions_without_end_ends() {
    let list = |answer: fn(u64) -> Reply| async move {
        let pages = AtomicU64::new(0);
        let server = Server::start(move |request| match asks(request, "?versions") {
            true => answer(pages.fetch_add(1, Ordering::SeqCst)),
            false => poisoned(request),
        })
        .await;
        let site = opened(&server);
        let versions = site.versions().unwrap();
        let of_one = class(versions.versions_of(&ours(), 4).await);
        let of_all = class(versions.list_versions(&Prefix::parse("").unwrap(), 10, 4).await);
        assert_eq!(of_one, of_all);
        // A reader that can't see beneath goes on with what it was told.
        let seeing = Seeing::new(site.clone());
        assert_eq!(class(seeing.get(&ours(), 10).await), Class::Missing);
        assert!(seeing.sight().blind().is_some());
        of_one
    };
    let fresh = |number| {
        page(&format!(
            "{}<IsTruncated>true</IsTruncated><NextKeyMarker>in/a</NextKeyMarker><NextVersionIdMarker>{number}</NextVersionIdMarker>",
            version("DeleteMarker", "1", true, 0)
        ))
    };
    assert_eq!(list(fresh).await, Class::Slow);
    let same = |_| page("<IsTruncated>true</IsTruncated><NextKeyMarker>in/a</NextKeyMarker>");
    assert_eq!(list(same).await, Class::Malformed);
    assert_eq!(
        list(|_| page("<IsTruncated>true</IsTruncated>")).await,
        Class::Malformed
    );
    assert_eq!(
        list(|_| Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n<ListVersionsResult>".into())).await,
        Class::Malformed
    );
    assert_eq!(list(|_| reply(200, "", "<html>Sign in</html>")).await, Class::Malformed);
    assert_eq!(
        list(|_| reply(200, "", "<ListBucketResult/>")).await,
        Class::Unsupported
    );
    assert_eq!(
        list(|_| reply(501, "", "<Error><Code>NotImplemented</Code></Error>")).await,
        Class::Unsupported
    );
    assert_eq!(
        list(|_| reply(403, "", "<Error><Code>AccessDenied</Code></Error>")).await,
        Class::Denied
    );
    assert_eq!(
        list(|_| reply(
            200,
            "",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><ListVersionsResult>&x;</ListVersionsResult>"
        ))
        .await,
        Class::Malformed
    );
    let huge = |_| {
        page(
            "<Version><Key>in/a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest><Size>99999999999999999999</Size></Version>",
        )
    };
    assert_eq!(list(huge).await, Class::Malformed);
}

#[tokio::test]
async fn a_version_that_lies_about_itself_is_passed_over() {
    // What is listed with 4 bytes has more, or is not there, or is denied.
    for answer in [
        || reply(200, META, "ours and more"),
        || reply(404, "", "<Error><Code>NoSuchVersion</Code></Error>"),
        || reply(403, "", "<Error><Code>AccessDenied</Code></Error>"),
        || reply(200, META, "junk"),
    ] {
        let answer: fn() -> Reply = answer;
        let server = Server::start(move |request| match asks(request, "versionId=1%2B") {
            true => answer(),
            false => poisoned(request),
        })
        .await;
        let site = Seeing::new(opened(&server));
        assert_eq!(class(site.get(&ours(), 10).await), Class::Missing);
        assert_eq!(site.sight().count(), 0);
    }
}

#[tokio::test]
async fn a_version_is_deleted_by_its_name_and_asked_for_its_lock() {
    let server = Server::start(|request| match () {
        () if asks(request, "DELETE") && asks(request, "versionId=locked") => {
            reply(403, "", "<Error><Code>AccessDenied</Code></Error>")
        }
        () if asks(request, "DELETE") => reply(204, "", ""),
        () if asks(request, "?retention") => reply(
            200,
            "",
            "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2027-01-01T00:00:00Z</RetainUntilDate></Retention>",
        ),
        () => reply(404, "", ""),
    })
    .await;
    let (site, destroy) = (opened(&server), destroyer(&server));
    let id = |text: &str| VersionId::parse(text).unwrap();
    destroy.delete_version(&ours(), &id("1+")).await.unwrap();
    assert_eq!(
        class(destroy.delete_version(&ours(), &id("locked")).await),
        Class::Denied
    );
    let lock = site
        .versions()
        .unwrap()
        .lock_of(&ours(), Some(&id("1+")))
        .await
        .unwrap();
    let (until, mode) = (1_798_761_600, LockMode::Compliance);
    assert_eq!(lock, Some(Locked { until, mode }));
    let lines: Vec<String> = server.requests().into_iter().map(|request| request.line).collect();
    let key = format!("/bucket/in/{}", ours());
    assert_eq!(
        lines,
        [
            format!("DELETE {key}?versionId=1%2B HTTP/1.1"),
            format!("DELETE {key}?versionId=locked HTTP/1.1"),
            format!("GET {key}?retention&versionId=1%2B HTTP/1.1"),
        ]
    );

    for (text, unlocked) in [("bucket object lock not configured", true), ("a key is missing", false)] {
        let text = format!("<Error><Code>InvalidRequest</Code><Message>{text}</Message></Error>");
        let server = Server::start(move |_| reply(400, "", &text)).await;
        let site = opened(&server);
        let found = site.versions().unwrap().lock_of(&ours(), None).await;
        assert_eq!(found.ok(), unlocked.then_some(None));
    }
}
