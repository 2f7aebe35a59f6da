//! Why a site didn't do what it was asked.
//!
//! The class decides what happens next, so classes that lead to different acts are kept apart: a site that is slow is
//! waited for, one that denies is reported, one that lacks an object is repaired.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use exclave_model::{ObjectName, Prefix};

use crate::SiteAddress;

/// A failed operation at a site: what, where, on which object, and why.
#[derive(Debug)]
pub struct SiteError(Box<Details>);

/// The parts of a [`SiteError`], boxed so that results stay small.
#[derive(Debug)]
struct Details {
    address: SiteAddress,
    operation: Operation,
    object: Option<String>,
    failure: Failure,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What the site was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Store an object.
    Put,
    /// Read a whole object.
    Get,
    /// Read a range.
    GetRange,
    /// Ask for a length.
    Length,
    /// List below a prefix.
    List,
    /// List one level.
    ListChildren,
    /// Make puts durable.
    Flush,
    /// Delete an object.
    Delete,
    /// Remove what killed puts left behind.
    Sweep,
    /// Ask whether older versions are kept.
    Versioning,
    /// Ask whether objects are locked.
    ObjectLock,
    /// List an object's versions, or those of everything below a prefix.
    ListVersions,
    /// Read a version of an object, whole.
    GetVersion,
    /// Read a range of a version.
    GetVersionRange,
    /// Ask until when a version is locked.
    LockOf,
    /// Delete a version of an object.
    DeleteVersion,
    /// Lock a version of an object for longer.
    Extend,
    /// Reach the site at all.
    Open,
}

/// What went wrong, with its figures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No answer in time.
    #[error("no answer within {} s", .waited.as_secs_f32())]
    Slow {
        /// How long it was waited for.
        waited: Duration,
    },
    /// Credentials or rights don't suffice.
    #[error("denied")]
    Denied,
    /// The object isn't there.
    #[error("no such object")]
    Missing,
    /// No connection: name, route, port or TLS; or it broke.
    #[error("unreachable")]
    Unreachable,
    /// Somebody answered whom the settings don't trust: another key than the pinned ones, another authority, name or date.
    #[error("the server is not trusted: {why}")]
    Untrusted {
        /// What is wrong with it; for a key that isn't pinned, its pin.
        why: String,
    },
    /// The site asks us to slow down.
    #[error("throttled by the site")]
    Throttled,
    /// No room, or a quota is used up.
    #[error("no space left at the site")]
    Full,
    /// The site reports a failure of its own.
    #[error("the site failed inside{}", .status.map(|s| format!(" (HTTP {s})")).unwrap_or_default())]
    Internal {
        /// The HTTP status, where there is one.
        status: Option<u16>,
    },
    /// The site broke the protocol.
    #[error("the site broke the protocol: {what}")]
    Malformed {
        /// How.
        what: String,
    },
    /// The object is longer than the caller accepts.
    #[error("object is longer than {bytes_max} B{}", .length.map(|l| format!(": {l} B")).unwrap_or_default())]
    TooLong {
        /// What the site claims.
        length: Option<u64>,
        /// What the caller accepts.
        bytes_max: u64,
    },
    /// The object or the reply ended early.
    #[error("read {got} B, {wanted} B wanted")]
    ShortRead {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The site can't do this.
    #[error("not supported: {what}")]
    Unsupported {
        /// What it lacks.
        what: String,
    },
    /// A simulated crash of our own process: everything from here on fails.
    #[error("crashed at step {step} (simulated)")]
    Crashed {
        /// The step that didn't happen.
        step: u64,
    },
    /// Anything else.
    #[error("failed")]
    Other,
}

/// The kinds of [`Failure`] without their figures: what the caller decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// No answer in time.
    Slow,
    /// Credentials or rights don't suffice.
    Denied,
    /// The object isn't there.
    Missing,
    /// No connection, or it broke.
    Unreachable,
    /// Somebody answered whom the settings don't trust.
    Untrusted,
    /// The site asks us to slow down.
    Throttled,
    /// No room, or a quota is used up.
    Full,
    /// The site reports a failure of its own.
    Internal,
    /// The site broke the protocol.
    Malformed,
    /// The object is longer than the caller accepts.
    TooLong,
    /// The object or the reply ended early.
    ShortRead,
    /// The site can't do this.
    Unsupported,
    /// A simulated crash.
    Crashed,
    /// Anything else.
    Other,
}

impl SiteError {
    /// Starts an error; name what it concerns with [`SiteError::object`] and its cause with [`SiteError::because`].
    pub fn new(address: &SiteAddress, operation: Operation, failure: Failure) -> Self {
        let address = address.clone();
        Self(Box::new(Details {
            address,
            operation,
            object: None,
            failure,
            source: None,
        }))
    }

    /// Names the object.
    #[must_use]
    pub fn object(mut self, name: &ObjectName) -> Self {
        self.0.object = Some(name.to_string());
        self
    }

    /// Names the prefix.
    #[must_use]
    pub fn prefix(mut self, prefix: &Prefix) -> Self {
        self.0.object = Some(if prefix.as_str().is_empty() {
            "/".into()
        } else {
            prefix.to_string()
        });
        self
    }

    /// Gives the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Where it happened.
    pub fn address(&self) -> &SiteAddress {
        &self.0.address
    }

    /// What was asked.
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// What went wrong, with its figures.
    pub fn failure(&self) -> &Failure {
        &self.0.failure
    }

    /// What to decide by.
    pub fn class(&self) -> Class {
        self.0.failure.class()
    }

    /// True when the same request may succeed a moment later. Denied, missing, full and too long stay what they are.
    pub fn is_retryable(&self) -> bool {
        self.class().is_retryable()
    }
}

impl fmt::Display for SiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details {
            address,
            operation,
            object,
            failure,
            source: _,
        } = &*self.0;
        match object {
            Some(object) => write!(f, "{operation} {object} at {address}: {failure}"),
            None => write!(f, "{operation} at {address}: {failure}"),
        }
    }
}

impl StdError for SiteError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

impl Failure {
    /// The kind of failure.
    pub fn class(&self) -> Class {
        match self {
            Self::Slow { .. } => Class::Slow,
            Self::Denied => Class::Denied,
            Self::Missing => Class::Missing,
            Self::Unreachable => Class::Unreachable,
            Self::Untrusted { .. } => Class::Untrusted,
            Self::Throttled => Class::Throttled,
            Self::Full => Class::Full,
            Self::Internal { .. } => Class::Internal,
            Self::Malformed { .. } => Class::Malformed,
            Self::TooLong { .. } => Class::TooLong,
            Self::ShortRead { .. } => Class::ShortRead,
            Self::Unsupported { .. } => Class::Unsupported,
            Self::Crashed { .. } => Class::Crashed,
            Self::Other => Class::Other,
        }
    }
}

impl Class {
    /// Its word in reports, the same as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
            Self::Throttled => "throttled",
            Self::Full => "full",
            Self::Internal => "internal",
            Self::Malformed => "malformed",
            Self::TooLong => "too-long",
            Self::ShortRead => "short-read",
            Self::Unsupported => "unsupported",
            Self::Crashed => "crashed",
            Self::Other => "other",
        }
    }

    /// True when the same request may succeed a moment later.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Slow | Self::Unreachable | Self::Throttled | Self::Internal => true,
            Self::Denied
            | Self::Missing
            | Self::Untrusted
            | Self::Full
            | Self::Malformed
            | Self::TooLong
            | Self::ShortRead
            | Self::Unsupported
            | Self::Crashed
            | Self::Other => false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::GetRange => "get range of",
            Self::Length => "length of",
            Self::List => "list",
            Self::ListChildren => "list children of",
            Self::Flush => "flush",
            Self::Delete => "delete",
            Self::Sweep => "sweep",
            Self::Versioning => "versioning",
            Self::ObjectLock => "object lock",
            Self::ListVersions => "list versions of",
            Self::GetVersion => "get version of",
            Self::GetVersionRange => "get range of version of",
            Self::LockOf => "lock of",
            Self::DeleteVersion => "delete version of",
            Self::Extend => "extend the lock of",
            Self::Open => "open",
        })
    }
}
