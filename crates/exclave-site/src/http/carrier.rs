//! What takes a request to its server and brings the answer's head: the network, or answers that lie ready.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use object_store::client::{HttpError, HttpErrorKind};
use url::Url;

use super::{BadTransport, from_reqwest, pinned};
use crate::SiteSettings;

/// Answers that lie ready in place of a server's: any bytes that a test wants a site's code to read.
///
/// A site reads them as it reads a server's, from the head of each answer on. What HTTP itself does beneath (framing,
/// connections) isn't there, so an answer may say one length and have another.
pub trait Answers: fmt::Debug + Send + Sync {
    /// The answer to the next request; none is a refused connection.
    fn next(&self, method: &Method, url: &Url) -> Option<http::Response<Bytes>>;
}

/// How requests travel.
#[derive(Debug, Clone)]
pub(crate) enum Carrier {
    Network(reqwest::Client),
    Ready(Arc<dyn Answers>),
}

impl Carrier {
    /// The network, to one site.
    pub(crate) fn network(site: &Url, settings: &SiteSettings) -> Result<Self, BadTransport> {
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("exclave/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            .connect_timeout(settings.connect_max.0);
        if let Some(proxy) = &settings.proxy {
            client = client.proxy(reqwest::Proxy::all(proxy)?);
        }
        let ca_pem = settings.ca_pem.as_deref();
        if !settings.pin.is_empty() {
            if site.scheme() != "https" {
                return Err(BadTransport::PinWithoutTls(site.clone()));
            }
            client = client.tls_backend_preconfigured(pinned::config(&settings.pin, ca_pem)?);
        } else if let Some(pem) = ca_pem {
            client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem.as_bytes())?);
        } else if site.scheme() == "http"
            && settings
                .proxy
                .as_deref()
                .is_none_or(|proxy| !proxy.starts_with("https"))
        {
            // Nothing here goes over TLS, and a machine without a list of authorities would refuse to begin.
            client = client.tls_certs_only([]);
        }
        Ok(Self::Network(client.build()?))
    }

    pub(crate) async fn carry(&self, request: reqwest::Request) -> Result<reqwest::Response, HttpError> {
        match self {
            Self::Network(client) => client.execute(request).await.map_err(from_reqwest),
            Self::Ready(answers) => {
                let answer = answers.next(request.method(), request.url());
                let refused = || {
                    HttpError::new(
                        HttpErrorKind::Connect,
                        io::Error::from(io::ErrorKind::ConnectionRefused),
                    )
                };
                answer.map(reqwest::Response::from).ok_or_else(refused)
            }
        }
    }
}
