//! The SFTP site against a server on loopback: one that keeps to the protocol, and one that doesn't.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at its first surprise")]

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};
use exclave_site::conformance::{self, Outcome};
use exclave_site::{
    Body, Class, HostKey, Patience, PutMode, Retrying, Site, SiteAddress, SiteError, SiteSettings, Stored, open,
    open_destroy,
};

use self::server::{Behaviour, CLIENT_KEY, Server, USER, kind};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn site(server: &Server, more: &str) -> Arc<dyn Site> {
    open(&server.address(), &server.settings(more)).unwrap()
}

/// 300,000 bytes of which no two blocks are alike: several pieces, the last one short.
fn body() -> Bytes {
    (0u32..75_000).flat_map(u32::to_be_bytes).collect::<Vec<u8>>().into()
}

fn shown(error: &SiteError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

async fn asked(address: &SiteAddress, settings: &SiteSettings) -> Result<u64, SiteError> {
    open(address, settings)?.length(&name("a")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let server = Server::start().await;
    let report = conformance::run(&*site(&server, ""), &name("conformance/1")).await;
    assert_eq!(report.checks.len(), 20);
    assert_eq!(report.deviations().count(), 0, "{report}");
    assert_eq!(server.accepted(), 1, "one connection carries it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_few_words_conforms_as_well() {
    let server = Server::start().await;
    server.behave(Behaviour {
        without: vec!["fsync@openssh.com", "limits@openssh.com"],
        lists_names_only: true,
        read_bytes_max: Some(1000),
        ..Behaviour::default()
    });
    let report = conformance::run(&*site(&server, ""), &name("conformance/1")).await;
    assert_eq!(report.deviations().count(), 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_lacks_is_said_and_nothing_is_pretended() {
    let server = Server::start().await;
    server.behave(Behaviour {
        without: vec!["hardlink@openssh.com", "posix-rename@openssh.com"],
        ..Behaviour::default()
    });
    let report = conformance::run(&*site(&server, ""), &name("conformance/1")).await;
    for check in ["create_only", "create_race", "put_again", "overwrite"] {
        let outcome = report.outcome(check).unwrap();
        assert!(matches!(outcome, Outcome::Unsupported { .. }), "{check}: {outcome:?}");
    }
    let site = site(&server, "");
    let error = site.put(&name("a"), body().into(), PutMode::Create).await.unwrap_err();
    assert!(error.to_string().contains("hardlink@openssh.com"), "{error}");
    // A free name can be taken without either.
    site.put(&name("b"), body().into(), PutMode::Plain).await.unwrap();
    let error = site.put(&name("b"), body().into(), PutMode::Plain).await.unwrap_err();
    assert!(error.to_string().contains("posix-rename@openssh.com"), "{error}");
    assert_eq!(site.get(&name("b"), 1 << 20).await.unwrap(), body());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_host_key_is_trusted() {
    let server = Server::start().await;
    let seen = Server::host_key().to_string();
    let refused = async |settings: &SiteSettings| {
        let error = asked(&server.address(), settings).await.unwrap_err();
        assert_eq!(error.class(), Class::Untrusted, "{}", shown(&error));
        assert!(!error.is_retryable());
        assert!(error.to_string().contains(&seen), "{error}");
        error.to_string()
    };
    let unnamed = SiteSettings {
        host_key: [].into_iter().collect(),
        ..server.settings("")
    };
    assert!(refused(&unnamed).await.contains("the settings, which name none"));
    let other = SiteSettings {
        host_key: [HostKey::of_sha256([7; 32])].into_iter().collect(),
        ..unnamed.clone()
    };
    assert!(refused(&other).await.ends_with("is not the one in the settings"));
    assert!(
        server.seen.lock().unwrap().is_empty(),
        "nothing was asked of a stranger"
    );

    let key = server::HOST_KEY.parse::<russh::keys::PrivateKey>().unwrap();
    let key = key.public_key().to_openssh().unwrap();
    let known = |line: String| SiteSettings {
        known_hosts: Some(line),
        ..unnamed.clone()
    };
    let right = known(format!("[127.0.0.1]:{} {key}", server.port));
    assert_eq!(
        asked(&server.address(), &right).await.unwrap_err().class(),
        Class::Missing
    );
    refused(&known(format!("127.0.0.1 {key}"))).await;
    refused(&known(format!("@revoked * {key}\n[127.0.0.1]:{} {key}", server.port))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_are_let_in_by_password_or_by_key_and_not_otherwise() {
    let server = Server::start().await;
    let with = |credentials: &str| -> SiteSettings {
        let host_key = Server::host_key();
        toml::from_str(&format!("host_key = \"{host_key}\"\n{credentials}")).unwrap()
    };
    let key = |text: &str, more: &str| with(&format!("[credentials.ssh]\nprivate_key = \"\"\"{text}\"\"\"\n{more}"));
    let encrypted = include_str!("client_key_encrypted");
    for good in [
        key(CLIENT_KEY, ""),
        key(CLIENT_KEY, "user = \"exclave\""),
        key(encrypted, "passphrase = \"a passphrase\""),
    ] {
        assert_eq!(
            asked(&server.address(), &good).await.unwrap_err().class(),
            Class::Missing
        );
    }
    let wrong = with("[credentials.basic]\nuser = \"exclave\"\npassword = \"hunter2\"");
    for bad in [wrong, key(server::HOST_KEY, ""), with("")] {
        let error = asked(&server.address(), &bad).await.unwrap_err();
        assert_eq!(error.class(), Class::Denied, "{}", shown(&error));
        assert!(
            shown(&error).contains(&format!("of {USER}; it takes")),
            "{}",
            shown(&error)
        );
        assert!(!shown(&error).contains("hunter2"));
    }
    // What can be known before anything is sent.
    for (bad, why) in [
        (key(encrypted, ""), "it is encrypted; give its passphrase"),
        (
            key(encrypted, "passphrase = \"hunter2\""),
            "it is damaged, or has another passphrase",
        ),
        (key("hunter2", ""), "it is no private key in OpenSSH's format"),
        (
            key(CLIENT_KEY, "user = \"root\""),
            "names another user than the credentials",
        ),
        (
            with("[credentials.bearer]\ntoken = \"hunter2\""),
            "credentials of kind bearer",
        ),
        (
            with("proxy = \"http://127.0.0.1:1\""),
            "a proxy has no meaning for SFTP",
        ),
        (with("ca_pem = \"x\""), "its server shows a host_key"),
        (with("known_hosts = \"\""), "one of them is enough"),
    ] {
        let error = open(&server.address(), &bad).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!shown(&error).contains("hunter2"));
    }
    let nobody = SiteAddress::parse(&format!("sftp://127.0.0.1:{}/a", server.port)).unwrap();
    let error = open(&nobody, &with("")).unwrap_err();
    assert!(error.to_string().contains("names no user"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_absolute_and_must_be_there() {
    let server = Server::start().await;
    let settings = server.settings("");
    let folder = server.folder.path().to_str().unwrap().to_owned();
    std::fs::write(server.folder.path().join("file"), "x").unwrap();
    for (path, what) in [("/nowhere", "has no directory"), ("/file", "is no directory")] {
        let address = server.address_of(&format!("{folder}{path}"));
        let site = open(&address, &settings).unwrap();
        let error = site.put(&name("a"), body().into(), PutMode::Plain).await.unwrap_err();
        assert_eq!(error.class(), Class::Unreachable);
        assert!(shown(&error).contains(what), "{}", shown(&error));
    }
    // Once it is there, the same site works, and makes what is missing below, not above.
    let site = open(&server.address_of(&format!("{folder}/new")), &settings).unwrap();
    assert_eq!(site.length(&name("a")).await.unwrap_err().class(), Class::Unreachable);
    std::fs::create_dir(server.folder.path().join("new")).unwrap();
    site.put(&name("a/b/c"), body().into(), PutMode::Create).await.unwrap();
    assert_eq!(server.files(), ["file", "new/a/b/c"]);
    // A file where a directory must be, and a link where an object must be, are no missing objects and no objects.
    let error = site
        .put(&name("a/b/c/d"), body().into(), PutMode::Plain)
        .await
        .unwrap_err();
    assert_ne!(error.class(), Class::Missing, "{}", shown(&error));
    std::os::unix::fs::symlink("/etc/passwd", server.folder.path().join("new/link")).unwrap();
    assert_eq!(
        site.get(&name("link"), 1 << 20).await.unwrap_err().class(),
        Class::Missing
    );
    assert_eq!(site.length(&name("a")).await.unwrap_err().class(), Class::Missing);
    let listing = site.list(&Prefix::all(), 10).await.unwrap();
    assert_eq!((listing.entries.len(), listing.ignored), (1, 1));
    // One of ours under a file is empty.
    let below = Prefix::parse("a/b/c/").unwrap();
    assert!(site.list(&below, 10).await.unwrap().entries.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_elsewhere_are_counted_and_no_more() {
    let server = Server::start().await;
    let site = site(&server, "");
    site.put(&name("a/b"), body().into(), PutMode::Create).await.unwrap();
    let hostile: [&[u8]; 8] = [b"", b"../x", b"/etc/passwd", b"x/y", b"x\0", b"\xff\xfe", b"X", b"x\n"];
    server.behave(Behaviour {
        more_names: hostile
            .iter()
            .map(|name| name.to_vec())
            .chain([b"~9.9".to_vec(), b"..".to_vec(), b"c".to_vec(), b"c".to_vec()])
            .collect(),
        ..Behaviour::default()
    });
    let listing = site.list(&Prefix::parse("a/").unwrap(), 100).await.unwrap();
    let found: Vec<&str> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        (found, listing.ignored, listing.complete),
        (vec!["a/b", "a/c"], 8, true)
    );
    let children = site.list_children(&Prefix::all(), 100).await.unwrap();
    let prefixes: Vec<&str> = children.prefixes.iter().map(Prefix::as_str).collect();
    assert_eq!((prefixes, children.ignored), (vec!["a/"], 8));
    // More names than were asked for end the listing.
    server.behave(Behaviour {
        more_names: (0..1000).map(|number| format!("n{number}").into_bytes()).collect(),
        ..Behaviour::default()
    });
    let listing = site.list(&Prefix::all(), 100).await.unwrap();
    assert_eq!((listing.entries.len(), listing.complete), (100, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_early_is_a_short_read() {
    let server = Server::start().await;
    let site = site(&server, "");
    site.put(&name("a"), body().into(), PutMode::Create).await.unwrap();
    server.behave(Behaviour {
        files_end_at: Some(100_001),
        ..Behaviour::default()
    });
    for error in [
        site.get(&name("a"), 1 << 20).await.unwrap_err(),
        site.get_range(&name("a"), 100_000..200_000).await.unwrap_err(),
    ] {
        assert_eq!(error.class(), Class::ShortRead, "{}", shown(&error));
    }
    assert_eq!(
        site.get_range(&name("a"), 1..100_001).await.unwrap(),
        body().slice(1..100_001)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_a_put_leaves_a_leftover_that_is_no_object() {
    let server = Server::start().await;
    let site = site(&server, "silence_max = \"5s\"");
    server.behave(Behaviour {
        hangs_up_at: Some((kind::WRITE, 3)),
        ..Behaviour::default()
    });
    let error = site
        .put(&name("a/b"), body().into(), PutMode::Create)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Unreachable, "{}", shown(&error));
    server.behave(Behaviour::default());
    let files = server.files();
    assert!(files.len() == 1 && files[0].starts_with("a/~"), "{files:?}");
    let listing = site.list(&Prefix::all(), 10).await.unwrap();
    assert_eq!((listing.entries.len(), listing.ignored), (0, 0));
    assert_eq!(site.length(&name("a/b")).await.unwrap_err().class(), Class::Missing);
    // The same site made another connection, and puts it anew.
    let stored = site.put(&name("a/b"), body().into(), PutMode::Create).await.unwrap();
    assert_eq!((stored, server.accepted()), (Stored::Created, 2));
    assert_eq!(site.get(&name("a/b"), 1 << 20).await.unwrap(), body());
    // With retries, nobody notices.
    let patience = Patience {
        base: Duration::from_millis(1),
        ..Patience::default()
    };
    let site = Retrying::new(site, patience, |_| 0);
    server.hang_up();
    assert_eq!(site.get(&name("a/b"), 1 << 20).await.unwrap(), body());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_fails_or_is_abandoned_leaves_nothing() {
    let server = Server::start().await;
    let site = site(&server, "");
    server.behave(Behaviour {
        refuses: Some((kind::WRITE, 4)),
        ..Behaviour::default()
    });
    let error = site.put(&name("a"), body().into(), PutMode::Plain).await.unwrap_err();
    assert_eq!(error.class(), Class::Internal);
    assert!(shown(&error).contains("what the server says"), "{}", shown(&error));
    nothing_is_left(&server).await;
    server.behave(Behaviour {
        ignores: Some(kind::WRITE),
        ..Behaviour::default()
    });
    for _ in 0..2 {
        let name = name("b");
        let put = site.put(&name, Body::from(body()), PutMode::Create);
        assert!(tokio::time::timeout(Duration::from_millis(300), put).await.is_err());
    }
    nothing_is_left(&server).await;
}

/// Tidying up goes on behind the put's back.
async fn nothing_is_left(server: &Server) {
    let start = Instant::now();
    while !server.files().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", server.files());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_given_up_and_left() {
    let server = Server::start().await;
    let site = site(&server, "silence_max = \"400ms\"\nconnect_max = \"2s\"");
    site.put(&name("a"), body().into(), PutMode::Create).await.unwrap();
    for silent in [kind::READ, kind::LSTAT, kind::OPEN] {
        server.behave(Behaviour {
            ignores: Some(silent),
            ..Behaviour::default()
        });
        let start = Instant::now();
        let error = site.get(&name("a"), 1 << 20).await.unwrap_err();
        assert_eq!(error.class(), Class::Slow, "{}", shown(&error));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        // Not asked again on a connection that says nothing.
        server.behave(Behaviour::default());
        assert_eq!(site.get(&name("a"), 1 << 20).await.unwrap(), body());
    }
    server.behave(Behaviour {
        ignores: Some(kind::INIT),
        ..Behaviour::default()
    });
    server.hang_up();
    let start = Instant::now();
    let mut error = site.get(&name("a"), 1 << 20).await.unwrap_err();
    if error.class() == Class::Unreachable {
        // The broken connection was noticed by this request.
        error = site.get(&name("a"), 1 << 20).await.unwrap_err();
    }
    assert_eq!(error.class(), Class::Slow, "{}", shown(&error));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nobody_or_somebody_else_listens() {
    let server = Server::start().await;
    let settings = server.settings("connect_max = \"1s\"");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = SiteAddress::parse(&format!("sftp://{USER}@127.0.0.1:{port}/a")).unwrap();
    // It accepts and says nothing.
    let site = open(&address, &settings).unwrap();
    let start = Instant::now();
    let names = [name("a"), name("b"), name("c")];
    let all = futures::future::join_all(names.iter().map(|name| site.length(name))).await;
    for answer in all {
        let error = answer.unwrap_err();
        assert_eq!(error.class(), Class::Slow, "{}", shown(&error));
    }
    // Whoever waited shared the attempt.
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
    drop(listener);
    let error = asked(&address, &settings).await.unwrap_err();
    assert_eq!(error.class(), Class::Unreachable, "{}", shown(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_sftp_says_so() {
    let server = Server::start().await;
    server.behave(Behaviour {
        is_a_shell_only: true,
        ..Behaviour::default()
    });
    let error = asked(&server.address(), &server.settings("")).await.unwrap_err();
    assert_eq!(error.class(), Class::Unsupported, "{}", shown(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_sftp_ends_the_session_and_not_the_program() {
    let server = Server::start().await;
    let site = site(&server, "silence_max = \"2s\"");
    site.put(&name("a"), body().into(), PutMode::Create).await.unwrap();
    let cases: [(u8, &[u8]); 9] = [
        (kind::READ, b"\xff\xff\xff\xff"),
        (kind::READ, b"Welcome to this host!\n"),
        (kind::READ, &[0, 0, 0, 0]),
        (kind::READ, &[0, 0, 0, 3, 101, 0, 0]),
        (kind::OPEN, &[0, 0, 0, 5, 102, 0, 0, 0, 2]),
        (kind::LSTAT, &[0, 0, 0, 9, 105, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]),
        (kind::OPENDIR, &[0, 0, 0, 5, 99, 0, 0, 0, 2]),
        (kind::INIT, &[0, 0, 0, 5, 2, 0, 0, 0, 4]),
        (kind::INIT, &[0, 0, 0, 6, 2, 0, 0, 0, 3, 1]),
    ];
    for (of, garbage) in cases {
        server.hang_up();
        server.behave(Behaviour {
            garbage: Some((of, garbage.to_vec())),
            ..Behaviour::default()
        });
        // Any refusal will do that isn't an answer; what becomes of the number that nobody asked for is silence.
        let mut classes = Vec::new();
        for _ in 0..2 {
            classes.extend(site.get(&name("a"), 1 << 20).await.err().map(|error| error.class()));
            classes.extend(site.list(&Prefix::all(), 10).await.err().map(|error| error.class()));
        }
        let expected = [Class::Malformed, Class::Slow, Class::Unsupported, Class::Unreachable];
        assert!(
            !classes.is_empty() && classes.iter().all(|class| expected.contains(class)),
            "{garbage:?}: {classes:?}"
        );
        server.behave(Behaviour::default());
        let start = Instant::now();
        while site.get(&name("a"), 1 << 20).await.ok() != Some(body()) {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "it doesn't recover from {garbage:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_is_a_power_apart_and_what_is_gone_is_deleted() {
    let server = Server::start().await;
    let site = site(&server, "");
    site.put(&name("a"), body().into(), PutMode::Create).await.unwrap();
    let destroy = open_destroy(&server.address(), &server.settings("")).unwrap();
    destroy.delete(&name("a")).await.unwrap();
    destroy.delete(&name("a")).await.unwrap();
    assert!(server.files().is_empty());
    server.behave(Behaviour {
        refuses: Some((kind::REMOVE, 3)),
        ..Behaviour::default()
    });
    assert_eq!(destroy.delete(&name("a")).await.unwrap_err().class(), Class::Denied);
}
