//! What went wrong at an SFTP server, before it is known where and at what.

use std::time::Duration;

use super::packet::{Malformed, status};
use crate::error::{Failure, Operation};
use crate::{SiteAddress, SiteError};

/// A failure, its cause in words, and the server's status where it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) failure: Failure,
    why: String,
    pub(super) status: Option<u32>,
}

impl Trouble {
    pub(super) fn new(failure: Failure, why: impl Into<String>) -> Self {
        Self {
            failure,
            why: why.into(),
            status: None,
        }
    }

    /// The connection is gone.
    pub(super) fn lost(why: impl Into<String>) -> Self {
        Self::new(Failure::Unreachable, why)
    }

    pub(super) fn silent(waited: Duration) -> Self {
        Self::new(Failure::Slow { waited }, "the server is silent")
    }

    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::new(Failure::Malformed { what: what.into() }, String::new())
    }

    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Self::new(Failure::Unsupported { what: what.into() }, String::new())
    }

    /// What a status means. Version 3 has one code for all that isn't a missing file or a missing right: whoever asked
    /// has to look what it was.
    pub(super) fn of_status(code: u32, message: &str) -> Self {
        let failure = match code {
            status::NO_SUCH_FILE | status::NO_SUCH_PATH => Failure::Missing,
            status::PERMISSION_DENIED | status::WRITE_PROTECT => Failure::Denied,
            status::FAILURE => Failure::Internal { status: None },
            status::NO_CONNECTION | status::CONNECTION_LOST => Failure::Unreachable,
            status::OP_UNSUPPORTED => Failure::Unsupported {
                what: "this request by this server".into(),
            },
            status::NO_SPACE_ON_FILESYSTEM | status::QUOTA_EXCEEDED => Failure::Full,
            _ => Failure::Other,
        };
        Self {
            failure,
            why: format!("SFTP status {code}, {message:?}"),
            status: Some(code),
        }
    }

    /// True for a status that may mean "the name is taken".
    pub(super) fn may_be_taken(&self) -> bool {
        matches!(self.status, Some(status::FAILURE | status::FILE_ALREADY_EXISTS))
    }

    pub(super) fn is_missing(&self) -> bool {
        self.failure == Failure::Missing
    }

    /// The same, understood as another failure.
    pub(super) fn meaning(mut self, failure: Failure) -> Self {
        self.failure = failure;
        self
    }

    /// The cause in words.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    pub(super) fn into_error(self, address: &SiteAddress, operation: Operation) -> SiteError {
        let error = SiteError::new(address, operation, self.failure);
        if self.why.is_empty() {
            error
        } else {
            error.because(self.why)
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::new(failure, String::new())
    }
}

impl From<Malformed> for Trouble {
    fn from(Malformed(what): Malformed) -> Self {
        Self::malformed(what)
    }
}
