//! Asking a bucket what it keeps: the requests that are sent, and what becomes of answers that make no sense.

use std::sync::Arc;

use exclave_site::{
    Class, Credentials, LockMode, ObjectLock, Retention, Secret, SiteAddress, SiteSettings, Versioning, open_retention,
};

use crate::support::{Reply, Request, Server, reply};
use crate::{class, impatient, name};

const VERSIONING: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const LOCK: &str = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                    <Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
const META: &str = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\n";

fn opened(address: &str, server: &Server, credentials: Credentials) -> Arc<dyn Retention> {
    let settings = SiteSettings {
        credentials,
        ..impatient(server)
    };
    open_retention(&SiteAddress::parse(address).unwrap(), &settings).unwrap()
}

fn bucket_answers(request: &Request) -> Reply {
    match request.line.contains("versioning") {
        true => reply(200, "", VERSIONING),
        false => reply(200, "", LOCK),
    }
}

#[tokio::test]
async fn an_s3_bucket_is_asked_twice_and_signed() {
    let server = Server::start(bucket_answers).await;
    let credentials = Credentials::S3 {
        access_key: "me".into(),
        secret_key: Secret::new("hunter2"),
        session_token: Some(Secret::new("token")),
    };
    let bucket = opened("s3://bucket/in", &server, credentials);
    assert_eq!(bucket.versioning(&name("a")).await.unwrap(), Versioning::Enabled);
    let (mode, days) = (LockMode::Compliance, 30);
    assert_eq!(
        bucket.object_lock().await.unwrap(),
        ObjectLock::ByDefault { mode, days }
    );
    let requests = server.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(
        lines,
        ["GET /bucket?versioning HTTP/1.1", "GET /bucket?object-lock HTTP/1.1"]
    );
    for request in &requests {
        let signature = request.header("authorization").unwrap();
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=me/"), "{signature}");
        assert_eq!(request.header("x-amz-security-token"), Some("token"));
    }
    assert!(!format!("{bucket:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_google_bucket_is_asked_for_versions_only() {
    let server = Server::start(bucket_answers).await;
    let bucket = opened("gs://bucket/in", &server, Credentials::Anonymous);
    assert_eq!(bucket.versioning(&name("a")).await.unwrap(), Versioning::Enabled);
    assert_eq!(class(bucket.object_lock().await), Class::Unsupported);
    let requests = server.requests();
    assert_eq!((requests.len(), requests[0].header("authorization")), (1, None));
    assert_eq!(requests[0].line, "GET /bucket?versioning HTTP/1.1");
}

#[tokio::test]
async fn an_azure_container_tells_by_its_objects_and_its_properties() {
    let asked = |version: &'static str, properties: &'static str| async move {
        let server = Server::start(move |request| match request.line.starts_with("HEAD") {
            true => reply(200, &format!("{META}{version}"), ""),
            false => reply(200, properties, ""),
        })
        .await;
        let credentials = Credentials::Azure {
            account: "account".into(),
            key: Secret::new("aHVudGVyMg=="),
        };
        let container = opened("az://container/in", &server, credentials);
        let found = (container.versioning(&name("a")).await, container.object_lock().await);
        let requests = server.requests();
        assert!(
            requests[0].line.starts_with("HEAD /container/in/a "),
            "{}",
            requests[0].line
        );
        assert_eq!(requests[1].line, "GET /container?restype=container HTTP/1.1");
        let signature = requests[1].header("authorization").unwrap();
        assert!(signature.starts_with("SharedKey account:"), "{signature}");
        (found.0.unwrap(), found.1.map_err(|error| error.class()))
    };
    let policy = "x-ms-has-immutability-policy: false\r\nx-ms-has-legal-hold: false\r\n";
    let none = asked("", policy).await;
    assert_eq!(none, (Versioning::Off, Ok(ObjectLock::None)));
    let versions = asked("x-ms-version-id: 2026-01-01T00:00:00Z\r\n", policy).await;
    assert_eq!(versions, (Versioning::Enabled, Ok(ObjectLock::None)));
    for (properties, found) in [
        ("x-ms-has-immutability-policy: true\r\n", Ok(ObjectLock::Policy)),
        (
            "x-ms-has-immutability-policy: false\r\nx-ms-has-legal-hold: true\r\n",
            Ok(ObjectLock::Policy),
        ),
        (
            "x-ms-has-immutability-policy: false\r\nx-ms-immutable-storage-with-versioning-enabled: true\r\n",
            Ok(ObjectLock::OnRequest),
        ),
        ("", Err(Class::Unsupported)),
        ("x-ms-has-legal-hold: perhaps\r\n", Err(Class::Malformed)),
    ] {
        assert_eq!(asked("", properties).await.1, found, "{properties}");
    }
}

#[tokio::test]
async fn nonsense_and_refusals_are_failures_of_their_class() {
    let both = |answer: fn() -> Reply| async move {
        let server = Server::start(move |_| answer()).await;
        let bucket = opened("s3://bucket/in", &server, Credentials::Anonymous);
        let found = [
            class(bucket.versioning(&name("a")).await),
            class(bucket.object_lock().await),
        ];
        assert!(
            server
                .requests()
                .iter()
                .all(|request| request.header("authorization").is_none())
        );
        assert_eq!(found[0], found[1]);
        found[0]
    };
    assert_eq!(
        both(|| reply(501, "", "<Code>NotImplemented</Code>")).await,
        Class::Unsupported
    );
    assert_eq!(
        both(|| reply(403, "", "<Code>AccessDenied</Code>")).await,
        Class::Denied
    );
    assert_eq!(
        both(|| reply(404, "", "<Error><Code>NoSuchBucket</Code></Error>")).await,
        Class::Unreachable
    );
    assert_eq!(both(|| reply(404, "", "")).await, Class::Unsupported);
    assert_eq!(
        both(|| reply(302, "Location: http://127.0.0.1:1/\r\n", "")).await,
        Class::Malformed
    );
    assert_eq!(both(|| reply(200, "", "<html>Sign in</html>")).await, Class::Malformed);
    assert_eq!(both(|| reply(200, "", "")).await, Class::Malformed);
    assert_eq!(
        both(|| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff".into())).await,
        Class::Malformed
    );
    assert_eq!(
        both(|| Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".into())).await,
        Class::Malformed
    );
    assert_eq!(both(|| Reply::Hang).await, Class::Slow);
}
