//! What a store keeps of objects that are overwritten or deleted.
//!
//! It is a property of the bucket, set up by whoever made it. With it a stolen put credential can hide our objects and
//! not destroy them; without it, the store's rights are all there is between a thief and the data (THREATS, P4).

use std::fmt;

use async_trait::async_trait;
use exclave_model::ObjectName;
use serde::{Deserialize, Serialize};

use crate::SiteError;
use crate::versions::{Locked, VersionId};

/// Whether a bucket keeps what was overwritten or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioning {
    /// It keeps older versions.
    Enabled,
    /// It did, and keeps those of that time; what is overwritten now is gone.
    Suspended,
    /// It doesn't, or has none.
    Off,
}

/// Whether a bucket refuses to destroy what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectLock {
    /// It has no lock.
    None,
    /// It locks what asks for it. Our puts don't: they rely on what the bucket does by itself.
    OnRequest,
    /// It locks every new version by itself.
    ByDefault {
        /// Who may lift the lock.
        mode: LockMode,
        /// For how long after the put, in days; a year is 365.
        days: u32,
    },
    /// A policy or a legal hold lies on it. What it says is for the operator's own interface to tell.
    Policy,
}

/// Who may lift a lock before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Whoever was given a special right.
    Governance,
    /// Nobody.
    Compliance,
}

/// The power to ask a bucket what it keeps. Only the probe wants it: no decision about data rests on the answer, which
/// is the store's own word.
#[async_trait]
pub trait Retention: fmt::Debug + Send + Sync {
    /// Returns whether older versions are kept. `sample` is an object that was put a moment ago: some stores tell by what
    /// they say about it, not about the bucket.
    async fn versioning(&self, sample: &ObjectName) -> Result<Versioning, SiteError>;

    /// Returns whether objects are locked.
    async fn object_lock(&self) -> Result<ObjectLock, SiteError>;
}

/// The power to extend locks. A keeper's, never an agent's. It destroys nothing and shortens nothing: a store doesn't let
/// anybody shorten a lock in compliance mode, and whoever keeps asks first how long a lock lasts.
#[async_trait]
pub trait Keep: fmt::Debug + Send + Sync {
    /// Locks a version of an object, until a time and in a mode.
    async fn extend(&self, name: &ObjectName, version: &VersionId, locked: Locked) -> Result<(), SiteError>;
}

impl fmt::Display for Versioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enabled => "kept",
            Self::Suspended => "suspended",
            Self::Off => "not kept",
        })
    }
}

impl fmt::Display for ObjectLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::OnRequest => f.write_str("on request only"),
            Self::ByDefault { mode, days: 1 } => write!(f, "{mode}, 1 day"),
            Self::ByDefault { mode, days } => write!(f, "{mode}, {days} days"),
            Self::Policy => f.write_str("by a policy"),
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        })
    }
}
