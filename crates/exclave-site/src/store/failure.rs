//! What an error of `object_store` means for us.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use http::StatusCode;
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use crate::error::Failure;
use crate::http::Refused;
use crate::http::pinned::why_untrusted;

/// Longest text of a cause.
const WHY_CHARS_MAX: usize = 400;

/// The failure, and what is known of its cause beyond that.
pub(super) fn of(error: &Error) -> (Failure, String) {
    if let Some(refused) = find::<Refused>(error) {
        return (of_refused(refused), refused.to_string());
    }
    if let Some(untrusted) = find::<rustls::Error>(error).and_then(why_untrusted) {
        // What a certificate says is the server's own text.
        let why = shown(&untrusted);
        return (Failure::Untrusted { why }, "the TLS handshake was ended".into());
    }
    if let Some(http) = find::<HttpError>(error) {
        let failure = match http.kind() {
            HttpErrorKind::Timeout => Failure::Slow { waited: Duration::ZERO },
            HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Interrupted => Failure::Unreachable,
            HttpErrorKind::Decode => Failure::Malformed {
                what: "answer can't be decoded".into(),
            },
            _ => Failure::Other,
        };
        return (failure, innermost(http));
    }
    let why = innermost(error);
    let failure = match error {
        // A bucket that isn't there is no missing object: repair must not be told to write there.
        Error::NotFound { .. } if has_no_bucket(&error.to_string()) => Failure::Unreachable,
        Error::NotFound { .. } => Failure::Missing,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Failure::Denied,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => Failure::Unsupported {
            what: "this request by this kind of store".into(),
        },
        Error::Generic { .. } | Error::InvalidPath { .. } => Failure::Malformed {
            what: "answer isn't what the protocol says".into(),
        },
        _ => Failure::Other,
    };
    (failure, why)
}

/// True when the site said that a range begins beyond the object's end.
pub(super) fn is_range_beyond(error: &Error) -> bool {
    let refused = find::<Refused>(error);
    matches!(refused, Some(Refused::Status { status, .. }) if *status == StatusCode::RANGE_NOT_SATISFIABLE)
}

fn of_refused(refused: &Refused) -> Failure {
    match refused {
        Refused::Status { status, text } => of_status(*status, text),
        Refused::Silence(waited) => Failure::Slow { waited: *waited },
        Refused::TooLong(_) => Failure::Malformed {
            what: "answer without end".into(),
        },
        Refused::OtherDocument(what) => Failure::Malformed {
            what: format!("the answer is {what}"),
        },
        Refused::Origin { .. } => Failure::Unsupported {
            what: "a request to another host".into(),
        },
        Refused::Url(_) => Failure::Other,
    }
}

fn of_status(status: StatusCode, text: &str) -> Failure {
    match status.as_u16() {
        // Ceph answers 403 when a quota is used up.
        403 if text.contains("QuotaExceeded") => Failure::Full,
        401 | 403 | 407 => Failure::Denied,
        404 | 410 => Failure::Missing,
        405 | 501 => Failure::Unsupported {
            what: format!("this request (HTTP {})", status.as_u16()),
        },
        408 => Failure::Slow { waited: Duration::ZERO },
        413 => Failure::Unsupported {
            what: "an object of this length".into(),
        },
        // 423: another request holds a WebDAV lock.
        423 | 425 | 429 | 503 => Failure::Throttled,
        507 => Failure::Full,
        300..=399 => Failure::Malformed {
            what: format!("redirect (HTTP {}), not followed", status.as_u16()),
        },
        500..=599 => Failure::Internal {
            status: Some(status.as_u16()),
        },
        _ => Failure::Other,
    }
}

pub(super) fn has_no_bucket(text: &str) -> bool {
    text.contains("NoSuchBucket") || text.contains("ContainerNotFound")
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = below(error);
    }
    None
}

/// The next cause. The one that an I/O error wraps isn't its source, says the standard library: that is the one below it.
fn below<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The last cause's text: the one that says something new.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = below(last) {
        last = source;
    }
    shown(&last.to_string())
}

/// One short line.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WHY_CHARS_MAX)
        .collect()
}
