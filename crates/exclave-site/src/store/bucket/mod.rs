//! Asks a bucket what it keeps: requests that `object_store` has no call for, signed by it and sent through our transport.
//!
//! | store | versions | lock |
//! |---|---|---|
//! | S3 | `GET /bucket?versioning` | `GET /bucket?object-lock` |
//! | Azure | the version id of an object just put; the switch itself belongs to the account | `GET /container?restype=container` |
//! | Google | `GET /bucket?versioning` | not asked |
//! | WebDAV | has none | has none |
//!
//! Of S3 also what lies beneath: `GET /bucket?versions`, `GET /bucket/key?retention`, `DELETE /bucket/key?versionId`
//! ([`versions`]). Azure's versions and Google's generations aren't asked for yet.

pub(super) mod versions;
mod xml;

use std::fmt;

use http::{HeaderMap, Method, StatusCode};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;

use super::failure;
use crate::error::Failure;
use crate::http::Transport;
use crate::retention::{ObjectLock, Versioning};

/// A bucket, and how one asks about it.
#[derive(Clone)]
pub(crate) struct Bucket {
    transport: Transport,
    /// Without a slash at its end.
    url: String,
    signs: Signs,
}

/// Who signs, and in which way the store wants it. None for stores that are asked anonymously.
#[derive(Clone)]
pub(crate) enum Signs {
    S3 {
        region: String,
        credentials: Option<AwsCredentialProvider>,
    },
    Azure {
        account: String,
        credentials: Option<AzureCredentialProvider>,
    },
    Gcs {
        credentials: Option<GcpCredentialProvider>,
    },
    /// A store that has neither versions nor locks.
    Nobody,
}

/// Why a bucket didn't answer what it was asked: the failure, and its cause in words.
pub(super) type Refusal = (Failure, String);

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Bucket {
    pub(crate) fn new(transport: &Transport, url: String, signs: Signs) -> Self {
        let transport = transport.clone();
        Self { transport, url, signs }
    }

    /// Whether old versions are kept, as far as the bucket itself tells; Azure tells by its objects.
    pub(super) async fn versioning(&self) -> Result<Versioning, Refusal> {
        match &self.signs {
            Signs::S3 { .. } | Signs::Gcs { .. } => xml::versioning(&self.ask("versioning").await?),
            Signs::Azure { .. } | Signs::Nobody => Ok(Versioning::Off),
        }
    }

    /// True for a store that tells by an object's version id whether versions are kept.
    pub(super) fn tells_by_objects(&self) -> bool {
        matches!(self.signs, Signs::Azure { .. })
    }

    /// Whether objects are locked.
    pub(super) async fn object_lock(&self) -> Result<ObjectLock, Refusal> {
        match &self.signs {
            Signs::S3 { .. } => xml::object_lock(&self.ask("object-lock").await?),
            Signs::Azure { .. } => container_lock(&self.ask("restype=container").await?),
            Signs::Gcs { .. } => Err(unsupported("asking a Google bucket whether it is locked")),
            Signs::Nobody => Ok(ObjectLock::None),
        }
    }

    async fn ask(&self, query: &str) -> Result<Answer, Refusal> {
        self.request(Method::GET, "", query, String::new()).await
    }

    /// Asks about the bucket, or about the object whose key follows a slash. The query is in its encoded form.
    async fn request(&self, method: Method, key: &str, query: &str, body: String) -> Result<Answer, Refusal> {
        let blame = |error: object_store::Error| failure::of(&error);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{key}?{query}", self.url))
            .body(HttpRequestBody::from(body));
        let mut request = request.map_err(|error| (Failure::Other, error.to_string()))?;
        self.sign(&mut request).await.map_err(blame)?;
        let answer = self.transport.ask(request).await;
        let answer = answer.map_err(|error| {
            blame(object_store::Error::Generic {
                store: "bucket",
                source: Box::new(error),
            })
        })?;
        let (parts, body) = answer.into_parts();
        let text = String::from_utf8(body.to_vec());
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            text: text.map_err(|error| malformed("the answer is no text", &error))?,
        })
    }

    async fn sign(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        match &self.signs {
            Signs::S3 {
                region,
                credentials: Some(credentials),
            } => {
                let credential = credentials.get_credential().await?;
                AwsAuthorizer::new(&credential, "s3", region).try_authorize(request, None)
            }
            Signs::Azure {
                account,
                credentials: Some(credentials),
            } => {
                let credential = credentials.get_credential().await?;
                AzureAuthorizer::new(&credential, account).try_authorize(request)
            }
            Signs::Gcs {
                credentials: Some(credentials),
            } => {
                let credential = credentials.get_credential().await?;
                let bearer = format!("Bearer {}", credential.bearer).parse();
                let bearer = bearer.map_err(|error| object_store::Error::Generic {
                    store: "bucket",
                    source: Box::new(error),
                })?;
                request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
                Ok(())
            }
            Signs::S3 { .. } | Signs::Azure { .. } | Signs::Gcs { .. } | Signs::Nobody => Ok(()),
        }
    }
}

/// What an Azure container says of itself.
fn container_lock(answer: &Answer) -> Result<ObjectLock, Refusal> {
    if !answer.status.is_success() {
        return Err(refused(answer));
    }
    let says = |name: &str| match answer.headers.get(name).map(http::HeaderValue::as_bytes) {
        None => Ok(None),
        Some(b"true") => Ok(Some(true)),
        Some(b"false") => Ok(Some(false)),
        Some(_) => Err(malformed(
            "a container's property",
            &format!("{name} is neither true nor false"),
        )),
    };
    let policy = says("x-ms-has-immutability-policy")?;
    let hold = says("x-ms-has-legal-hold")?;
    let by_version = says("x-ms-immutable-storage-with-versioning-enabled")?;
    match (policy, hold, by_version) {
        (None, None, None) => Err(unsupported("asking this container whether it is locked")),
        (Some(true), _, _) | (_, Some(true), _) => Ok(ObjectLock::Policy),
        (_, _, Some(true)) => Ok(ObjectLock::OnRequest),
        _ => Ok(ObjectLock::None),
    }
}

/// An answer that is no success, where it isn't one of those that mean something.
fn refused(answer: &Answer) -> Refusal {
    let why = failure::shown(&format!("HTTP {}: {}", answer.status.as_u16(), answer.text));
    if failure::has_no_bucket(&answer.text) {
        return (Failure::Unreachable, why);
    }
    (
        Failure::Unsupported {
            what: "asking this bucket".into(),
        },
        why,
    )
}

fn unsupported(what: &str) -> Refusal {
    (Failure::Unsupported { what: what.into() }, String::new())
}

fn malformed(what: &str, why: &dyn fmt::Display) -> Refusal {
    (
        Failure::Malformed { what: what.into() },
        failure::shown(&why.to_string()),
    )
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No credentials, whatever their provider prints.
        write!(f, "Bucket({})", self.url)
    }
}
