use std::net::TcpListener;

use object_store::client::HttpRequestBody;

use super::*;

fn transport(endpoint: &str) -> Transport {
    Transport::new(endpoint, &SiteSettings::default()).unwrap()
}

#[tokio::test]
async fn no_other_origin_is_ever_asked() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let port = trap.local_addr().unwrap().port();
    let other = port.wrapping_add(1).max(1024);
    // Another port, another scheme, another name of the same host: all other origins.
    for (site, asked) in [
        (
            format!("http://127.0.0.1:{other}"),
            format!("http://127.0.0.1:{port}/latest/api/token"),
        ),
        (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{port}/")),
        (format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}/")),
    ] {
        let request = http::Request::builder()
            .uri(&asked)
            .body(HttpRequestBody::empty())
            .unwrap();
        let client = transport(&site).connect(&ClientOptions::new()).unwrap();
        let error = client.execute(request).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert!(
            matches!(source.downcast_ref(), Some(Refused::Origin { .. })),
            "{asked}: {error}"
        );
    }
    assert_eq!(trap.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn endpoints_are_strict() {
    for good in [
        "https://s3.example",
        "http://127.0.0.1:9000",
        "http://[::1]:9000",
        "http://localhost/x",
    ] {
        assert!(Transport::new(good, &SiteSettings::default()).is_ok(), "{good}");
    }
    for bad in [
        "",
        "s3.example",
        "ftp://127.0.0.1",
        "http://s3.example",
        "http://10.0.0.1",
        "https://s3.example?a=b",
    ] {
        assert!(Transport::new(bad, &SiteSettings::default()).is_err(), "{bad}");
    }
    let bad_ca = SiteSettings {
        ca_pem: Some("-----BEGIN CERTIFICATE-----\n!".into()),
        ..SiteSettings::default()
    };
    assert!(Transport::new("https://s3.example", &bad_ca).is_err());
}

#[test]
fn an_error_text_is_one_short_printable_line() {
    assert_eq!(shown(b" a\r\nb\x1b[31m\xff "), "a  b [31m\u{fffd}");
    assert_eq!(shown(&[b'x'; 5000]).len(), ERROR_TEXT_CHARS_MAX);
}
