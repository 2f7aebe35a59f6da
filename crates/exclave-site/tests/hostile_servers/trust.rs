//! Whom a site believes to be the server: pins, authorities, both.

use std::sync::Arc;

use exclave_site::{Class, Pin, Site, SiteAddress, SiteError, SiteSettings, open};
use rustls::SupportedProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};

use crate::certificates::{EXPIRED, LOOPBACK, Party, VALID, pem};
use crate::support::{Server, reply};
use crate::{impatient, name};

/// Who takes part: the site's own server, its authority, and somebody in between.
struct Cast {
    server: Party,
    authority: Party,
    thief: Party,
}

impl Cast {
    fn new() -> Self {
        Self {
            server: Party::new("server"),
            authority: Party::new("authority"),
            thief: Party::new("thief"),
        }
    }

    fn authority_pem(&self) -> String {
        pem(&self.authority.certify(&self.authority, LOOPBACK, VALID))
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.authority.certify(&self.server, LOOPBACK, VALID)
    }
}

/// Asks a server that has this key and shows this chain.
async fn asked(
    key: &Party,
    chain: &[&CertificateDer<'static>],
    version: &'static SupportedProtocolVersion,
    settings: SiteSettings,
) -> Result<(), SiteError> {
    let tls = key.serve(chain, version);
    let server = Server::start_over(
        "https",
        move |stream| tls.accept(stream),
        |_| {
            reply(
                200,
                "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"x\"\r\n",
                "",
            )
        },
    )
    .await;
    let settings = SiteSettings {
        endpoint: impatient(&server).endpoint,
        ..settings
    };
    let site: Arc<dyn Site> = open(&SiteAddress::parse("s3://bucket").unwrap(), &settings).unwrap();
    let answer = site.length(&name("a")).await.map(|_| ());
    assert_eq!(
        server.requests().len(),
        usize::from(answer.is_ok()),
        "no request reaches whom we don't trust"
    );
    answer
}

fn pinned(pins: &[Pin], ca_pem: Option<String>) -> SiteSettings {
    SiteSettings {
        pin: pins.iter().copied().collect(),
        ca_pem,
        ..SiteSettings::default()
    }
}

fn untrusted(answer: Result<(), SiteError>) -> String {
    let error = answer.unwrap_err();
    assert_eq!(
        (error.class(), error.is_retryable()),
        (Class::Untrusted, false),
        "{error}"
    );
    error.to_string()
}

#[tokio::test]
async fn a_pinned_key_suffices_whatever_its_certificate_says() {
    let cast = Cast::new();
    let own = |address, validity| cast.server.certify(&cast.server, address, validity);
    for certificate in [
        cast.certificate(),
        own(LOOPBACK, VALID),
        own(LOOPBACK, EXPIRED),
        own([192, 0, 2, 1], VALID),
    ] {
        for version in [&TLS12, &TLS13] {
            let pins = [cast.thief.pin(), cast.server.pin()];
            asked(&cast.server, &[&certificate], version, pinned(&pins, None))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn another_key_is_refused_and_its_pin_is_told() {
    let cast = Cast::new();
    let pins = [cast.server.pin()];
    let its_own = cast.thief.certify(&cast.thief, LOOPBACK, VALID);
    let by_the_authority = cast.authority.certify(&cast.thief, LOOPBACK, VALID);
    for version in [&TLS12, &TLS13] {
        for chain in [
            &[&its_own][..],
            &[&by_the_authority],
            // The right certificate behind the first proves nothing: it's public.
            &[&its_own, &cast.certificate()],
        ] {
            let error = untrusted(asked(&cast.thief, chain, version, pinned(&pins, None)).await);
            let (seen, wanted) = (cast.thief.pin(), cast.server.pin());
            assert_eq!(
                error.split_once(": the server is not trusted: ").unwrap().1,
                format!("its key is {seen}, pinned is {wanted}")
            );
        }
        // The right certificate in front, without its key.
        let error = untrusted(asked(&cast.thief, &[&cast.certificate()], version, pinned(&pins, None)).await);
        assert!(error.contains("BadSignature"), "{error}");
    }
}

#[tokio::test]
async fn with_an_authority_beside_the_pin_both_must_hold() {
    let cast = Cast::new();
    let right = || pinned(&[cast.server.pin()], Some(cast.authority_pem()));
    let certify = |address, validity| cast.authority.certify(&cast.server, address, validity);
    asked(&cast.server, &[&cast.certificate()], &TLS13, right())
        .await
        .unwrap();
    for (certificate, why) in [
        (cast.server.certify(&cast.server, LOOPBACK, VALID), "UnknownIssuer"),
        (cast.thief.certify(&cast.server, LOOPBACK, VALID), "UnknownIssuer"),
        (certify(LOOPBACK, EXPIRED), "certificate expired"),
        (certify([192, 0, 2, 1], VALID), "not valid for name"),
    ] {
        let error = untrusted(asked(&cast.server, &[&certificate], &TLS13, right()).await);
        assert!(error.contains(why), "{error}");
    }
    // The authority was made to certify another key.
    let other_key = cast.authority.certify(&cast.thief, LOOPBACK, VALID);
    let error = untrusted(asked(&cast.thief, &[&other_key], &TLS13, right()).await);
    assert!(error.contains(&cast.thief.pin().to_string()), "{error}");
}

#[tokio::test]
async fn an_authority_alone_is_held_to_as_before() {
    let cast = Cast::new();
    let settings = || pinned(&[], Some(cast.authority_pem()));
    asked(&cast.server, &[&cast.certificate()], &TLS13, settings())
        .await
        .unwrap();
    let other = cast.thief.certify(&cast.server, LOOPBACK, VALID);
    assert!(untrusted(asked(&cast.server, &[&other], &TLS13, settings()).await).contains("UnknownIssuer"));
    // Nor is a stranger's authority on the system's list.
    assert!(untrusted(asked(&cast.server, &[&other], &TLS13, SiteSettings::default()).await).contains("UnknownIssuer"));
}

#[tokio::test]
async fn a_pin_needs_tls_and_an_authority_needs_a_certificate() {
    let pins = [Party::new("server").pin()];
    let refused = |settings: SiteSettings| {
        let error = open(&SiteAddress::parse("s3://bucket").unwrap(), &settings).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        error.to_string()
    };
    let plain = SiteSettings {
        endpoint: Some("http://127.0.0.1:1".into()),
        ..pinned(&pins, None)
    };
    assert!(refused(plain).contains("is unencrypted"));
    assert!(refused(pinned(&pins, Some(String::new()))).contains("the authorities' certificates: "));
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(refused(pinned(&pins, Some(torn.into()))).contains("the authorities' certificates: "));
}
