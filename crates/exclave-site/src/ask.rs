//! A short question to a server that is no store: a POST, and a short answer whatever its status.
//!
//! It travels as requests to sites do: no redirect, no proxy but a given one, TLS only with whom the settings name.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use url::Url;

use crate::SiteSettings;
use crate::http::{BadTransport, carrier::Carrier, endpoint_url};

/// Where a question goes.
#[derive(Debug, Clone)]
pub struct Asked {
    carrier: Carrier,
    url: Url,
    time_max: Duration,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type, where it was text.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody can be asked there.
    #[error("{0}")]
    Address(String),
    /// Not in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The answer is longer than any should be.
    #[error("the answer is longer than {0} B")]
    TooLong(usize),
    /// The way there or back.
    #[error("{0}")]
    Way(String),
}

impl Asked {
    /// A question to `url`; of the settings those count that say how to connect.
    pub fn new(url: &str, settings: &SiteSettings) -> Result<Self, AskError> {
        let bad = |error: BadTransport| AskError::Address(error.to_string());
        let url = endpoint_url(url, settings.allow_http).map_err(bad)?;
        Ok(Self {
            carrier: Carrier::network(&url, settings).map_err(bad)?,
            url,
            time_max: settings.operation_max.0,
        })
    }

    /// Asks; takes an answer of at most `bytes_max`.
    pub async fn post(&self, body: Bytes, bytes_max: usize) -> Result<Answer, AskError> {
        let asked = tokio::time::timeout(self.time_max, self.exchange(body, bytes_max));
        asked.await.map_err(|_| AskError::Late(self.time_max))?
    }

    async fn exchange(&self, body: Bytes, bytes_max: usize) -> Result<Answer, AskError> {
        let mut request = reqwest::Request::new(http::Method::POST, self.url.clone());
        *request.body_mut() = Some(body.into());
        let answer = self.carrier.carry(request).await;
        let mut answer = answer.map_err(|error| AskError::Way(chain(&error)))?;
        let status = answer.status().as_u16();
        let content_type = answer.headers().get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut read = BytesMut::new();
        while let Some(part) = answer.chunk().await.map_err(|error| AskError::Way(chain(&error)))? {
            if read.len() + part.len() > bytes_max {
                return Err(AskError::TooLong(bytes_max));
            }
            read.extend_from_slice(&part);
        }
        Ok(Answer {
            status,
            content_type,
            body: read.freeze(),
        })
    }
}

/// reqwest's own text doesn't say why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
