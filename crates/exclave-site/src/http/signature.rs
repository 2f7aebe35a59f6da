//! Signs a request again, for another time.
//!
//! S3 and Azure refuse a signature whose time is more than 15 minutes off, and `object_store` signs with the local
//! clock and can't be told another time. A restore must work on a machine whose clock is wrong (P2), and such a site
//! tells its own time with every answer. So a request that `object_store` has signed is signed once more, with the
//! site's time in it: same headers, same credentials, same scope. A site that lies about its time gains nothing: it
//! gets a request that it could have had anyway.
//!
//! Sources: "Signature Version 4 for API requests" (AWS), "Authorize with Shared Key" (Azure). The test is that for the
//! same time the result equals what `object_store` signed.

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use exclave_model::hex;
use http::{HeaderMap, HeaderValue, header};
use jiff::{Timestamp, civil, tz::TimeZone};
use object_store::client::HttpRequest;
use url::{Position, Url};

use crate::Credentials;

const S3_DATE: &str = "x-amz-date";
const S3_DATE_FORM: &str = "%Y%m%dT%H%M%SZ";
const S3_ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// When a request was signed, in seconds since 1970; `None` when its signature bears no time.
pub(super) fn signed_at(headers: &HeaderMap, credentials: &Credentials) -> Option<i64> {
    match credentials {
        Credentials::S3 { .. } => {
            let text = headers.get(S3_DATE)?.to_str().ok()?;
            let time = civil::DateTime::strptime(S3_DATE_FORM, text).ok()?;
            Some(TimeZone::UTC.to_timestamp(time).ok()?.as_second())
        }
        Credentials::Azure { .. } => super::seconds_of(headers.get(header::DATE)?),
        Credentials::Anonymous
        | Credentials::Gcs { .. }
        | Credentials::Basic { .. }
        | Credentials::Bearer { .. }
        | Credentials::Ssh { .. } => None,
    }
}

/// Signs a request for the time `at`. `None`, and nothing changed, when it isn't one that these credentials signed.
pub(super) fn sign_again(request: &mut HttpRequest, credentials: &Credentials, at: i64) -> Option<()> {
    match credentials {
        Credentials::S3 { secret_key, .. } => sign_s3(request, secret_key.expose(), at),
        Credentials::Azure { account, key } => sign_azure(request, account, key.expose(), at),
        Credentials::Anonymous
        | Credentials::Gcs { .. }
        | Credentials::Basic { .. }
        | Credentials::Bearer { .. }
        | Credentials::Ssh { .. } => None,
    }
}

/// `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX`
fn sign_s3(request: &mut HttpRequest, secret: &str, at: i64) -> Option<()> {
    let authorization = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let parts = authorization.strip_prefix(S3_ALGORITHM)?.trim_start();
    let field = |name: &str| parts.split(", ").find_map(|part| part.strip_prefix(name));
    let (credential, signed) = (field("Credential=")?.to_owned(), field("SignedHeaders=")?.to_owned());
    let [access_key, _date, region, service, last] = *credential.split('/').collect::<Vec<_>>() else {
        return None;
    };
    let url = Url::parse(&request.uri().to_string()).ok()?;
    let time = Timestamp::from_second(at).ok()?.strftime(S3_DATE_FORM).to_string();
    let day = time.get(..8)?;
    let mut headers = request.headers().clone();
    headers.insert(S3_DATE, HeaderValue::from_str(&time).ok()?);
    let payload = headers.get("x-amz-content-sha256")?.to_str().ok()?.to_owned();
    let canonical = [
        request.method().as_str(),
        url.path(),
        &canonical_query(&url),
        &canonical_headers(&headers, &signed, &url)?,
        &signed,
        &payload,
    ]
    .join("\n");
    let scope = [day, region, service, last].join("/");
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = [S3_ALGORITHM, &time, &scope, &hashed].join("\n");
    let first = zeroize::Zeroizing::new(format!("AWS4{secret}").into_bytes());
    let day_key = hmac_sha256(&first, day);
    let key = [region, service, last]
        .iter()
        .fold(day_key, |key, part| hmac_sha256(key.as_ref(), part));
    let signature = hex(hmac_sha256(key.as_ref(), &to_sign).as_ref());
    let authorization =
        format!("{S3_ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}");
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&authorization).ok()?);
    *request.headers_mut() = headers;
    Some(())
}

/// The signed headers, in their order, each with its values; the host is not among a request's headers yet.
fn canonical_headers(headers: &HeaderMap, signed: &str, url: &Url) -> Option<String> {
    let mut text = String::new();
    for name in signed.split(';') {
        let values = match name {
            "host" => vec![url[Position::BeforeHost..Position::AfterPort].to_owned()],
            _ => {
                let values = headers.get_all(name).iter().map(|value| value.to_str().ok());
                let values: Option<Vec<&str>> = values.collect();
                let one_space = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
                values?.into_iter().map(one_space).collect()
            }
        };
        text.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    Some(text)
}

fn canonical_query(url: &Url) -> String {
    let mut pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| (percent_encoded(&name), percent_encoded(&value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// All but RFC 3986's unreserved characters as `%XY`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// `SharedKey ACCOUNT:BASE64`
fn sign_azure(request: &mut HttpRequest, account: &str, key: &str, at: i64) -> Option<()> {
    let authorization = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    authorization.strip_prefix("SharedKey ")?;
    let key = zeroize::Zeroizing::new(STANDARD.decode(key).ok()?);
    let url = Url::parse(&request.uri().to_string()).ok()?;
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(u64::try_from(at).ok()?))?;
    let mut headers = request.headers().clone();
    headers.insert(
        header::DATE,
        HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok()?,
    );
    let value = |name: header::HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let length = match value(header::CONTENT_LENGTH) {
        // Since service version 2015-02-21 nothing is nothing.
        "0" => "",
        length => length,
    };
    let mut to_sign = [
        request.method().as_str(),
        value(header::CONTENT_ENCODING),
        value(header::CONTENT_LANGUAGE),
        length,
        value(header::HeaderName::from_static("content-md5")),
        value(header::CONTENT_TYPE),
        value(header::DATE),
        value(header::IF_MODIFIED_SINCE),
        value(header::IF_MATCH),
        value(header::IF_NONE_MATCH),
        value(header::IF_UNMODIFIED_SINCE),
        value(header::RANGE),
        "",
    ]
    .join("\n");
    let mut own: Vec<(&str, &str)> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-ms"))
        .map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect::<Option<_>>()?;
    own.sort_unstable();
    own.iter()
        .for_each(|(name, value)| to_sign.push_str(&format!("{name}:{value}\n")));
    to_sign.push_str(&azure_resource(account, &url));
    let signature = STANDARD.encode(hmac_sha256(&key, &to_sign));
    let authorization = HeaderValue::from_str(&format!("SharedKey {account}:{signature}")).ok()?;
    headers.insert(header::AUTHORIZATION, authorization);
    *request.headers_mut() = headers;
    Some(())
}

/// Account, path, and the query's parameters by name, each with its values.
fn azure_resource(account: &str, url: &Url) -> String {
    let mut parameters: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for (name, value) in url.query_pairs() {
        parameters
            .entry(name.into_owned())
            .or_default()
            .push(value.into_owned());
    }
    let mut resource = format!("/{account}{}", url.path());
    for (name, mut values) in parameters {
        values.sort_unstable();
        resource.push_str(&format!("\n{}:{}", name.to_lowercase(), values.join(",")));
    }
    resource
}

fn hmac_sha256(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::Method;
    use object_store::{
        aws::{AwsAuthorizer, AwsCredential},
        azure::{AzureAccessKey, AzureAuthorizer, AzureCredential},
        client::HttpRequestBody,
    };

    use super::*;
    use crate::Secret;

    const URIS: [&str; 5] = [
        "https://s3.example/bucket/a/b",
        "http://127.0.0.1:9000/bucket/a%20b?list-type=2&prefix=heads%2F&max-keys=7",
        "https://s3.example/bucket?delimiter=%2F&prefix=a+b%25&empty=",
        "https://s3.example:8443/bucket?versioning",
        "https://s3.example/bucket/x?a=2&a=1&B=%C3%A9",
    ];

    fn request(method: &Method, uri: &str, more: &[(&str, &str)]) -> HttpRequest {
        let mut builder = http::Request::builder().method(method).uri(uri);
        for (name, value) in more {
            builder = builder.header(*name, *value);
        }
        builder.body(HttpRequestBody::empty()).unwrap()
    }

    /// Signs as `object_store` does, and again for the very same time: nothing may differ. Then for another time: only
    /// the date and the signature may.
    fn agrees(signed: HttpRequest, credentials: &Credentials) {
        let at = signed_at(signed.headers(), credentials).unwrap();
        let mut again = signed.clone();
        sign_again(&mut again, credentials, at).unwrap();
        assert_eq!(again.headers(), signed.headers(), "{}", signed.uri());
        sign_again(&mut again, credentials, at - 315_360_000).unwrap();
        assert_eq!(signed_at(again.headers(), credentials), Some(at - 315_360_000));
        assert_ne!(
            again.headers()[header::AUTHORIZATION],
            signed.headers()[header::AUTHORIZATION]
        );
        sign_again(&mut again, credentials, at).unwrap();
        assert_eq!(again.headers(), signed.headers(), "and back");
    }

    #[test]
    fn s3_is_signed_as_object_store_signs_it() {
        for token in [None, Some("token")] {
            let credentials = Credentials::S3 {
                access_key: "AKID".into(),
                secret_key: Secret::new("secret/+"),
                session_token: token.map(Secret::new),
            };
            let credential = AwsCredential {
                key_id: "AKID".into(),
                secret_key: "secret/+".into(),
                token: token.map(str::to_owned),
            };
            for uri in URIS {
                for (method, more) in [
                    (Method::GET, &[("range", "bytes=0-9")][..]),
                    (
                        Method::PUT,
                        &[
                            ("if-none-match", "*"),
                            ("x-amz-meta-a", " two  words "),
                            ("content-length", "9"),
                        ],
                    ),
                ] {
                    let mut signed = request(&method, uri, more);
                    AwsAuthorizer::new(&credential, "s3", "lux-1")
                        .with_sign_payload(method == Method::GET)
                        .try_authorize(&mut signed, None)
                        .unwrap();
                    agrees(signed, &credentials);
                }
            }
        }
    }

    #[test]
    fn azure_is_signed_as_object_store_signs_it() {
        let key = STANDARD.encode([7; 64]);
        let credentials = Credentials::Azure {
            account: "land".into(),
            key: Secret::new(key.clone()),
        };
        let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(&key).unwrap());
        for uri in URIS {
            for (method, more) in [
                (Method::GET, &[("range", "bytes=0-9")][..]),
                (
                    Method::PUT,
                    &[
                        ("if-none-match", "*"),
                        ("x-ms-blob-type", "BlockBlob"),
                        ("content-length", "9"),
                    ],
                ),
                (Method::PUT, &[("content-length", "0")]),
            ] {
                let mut signed = request(&method, uri, more);
                AzureAuthorizer::new(&credential, "land")
                    .try_authorize(&mut signed)
                    .unwrap();
                agrees(signed, &credentials);
            }
        }
    }

    #[test]
    fn what_was_not_signed_stays_as_it_is() {
        let azure = Credentials::Azure {
            account: "land".into(),
            key: Secret::new(STANDARD.encode([7; 64])),
        };
        let s3 = Credentials::S3 {
            access_key: "AKID".into(),
            secret_key: Secret::new("secret"),
            session_token: None,
        };
        let basic = Credentials::Basic {
            user: "me".into(),
            password: Secret::new("hunter2"),
        };
        for credentials in [azure, s3, basic, Credentials::Anonymous] {
            for authorization in [
                "",
                "Bearer x",
                "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=, Signature=",
                "SharedKey",
            ] {
                let mut request = request(&Method::GET, URIS[0], &[("authorization", authorization)]);
                let before = request.headers().clone();
                assert_eq!(sign_again(&mut request, &credentials, 1_700_000_000), None);
                assert_eq!(request.headers(), &before);
            }
        }
    }
}
