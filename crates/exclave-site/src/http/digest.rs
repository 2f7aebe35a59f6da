//! `Content-MD5` (RFC 1864), for buckets that want it.
//!
//! S3 refuses a put without a checksum where the bucket locks objects by default. Which checksums a server knows differs; this
//! one all know. It costs a pass over the bytes and is worth little to us, who read back what we put: so it is computed
//! only for a site that has asked for it, from then on.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use md5::{Digest as _, Md5};
use object_store::client::{HttpError, HttpRequestBody};

use super::Refused;

pub(super) const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Bytes that are hashed before others get their turn.
const TURN_BYTES: usize = 1 << 20;

/// True for the answer of a server that wants a checksum. AWS and moto name the header in their texts, and nothing else
/// about it is alike.
pub(super) fn is_wanted(error: &HttpError) -> bool {
    let refused = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refused>());
    matches!(refused, Some(Refused::Status { status: StatusCode::BAD_REQUEST, text }) if text.contains("Content-MD5"))
}

/// The header's value for a body.
pub(super) async fn of(mut body: HttpRequestBody) -> Result<HeaderValue, HttpError> {
    let mut hasher = Md5::new();
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        for piece in data.chunks(TURN_BYTES) {
            hasher.update(piece);
            tokio::task::yield_now().await;
        }
    }
    let text = STANDARD.encode(hasher.finalize());
    HeaderValue::from_str(&text).map_err(|error| HttpError::new(object_store::client::HttpErrorKind::Request, error))
}
