//! The abroad edge: one narrow trait over object stores, its conformance suite, and layers around it.
//!
//! A [`Site`] keeps immutable objects by name, somewhere in a country that isn't ours. It is never believed: whoever
//! calls it checks what comes back. This crate promises only that no site can make us hang for ever, hold memory
//! without bound, follow it to another host, or hand it somebody else's credentials; and that every failure arrives
//! with its class, its site, its operation and its object.
//!
//! **Architecture Invariant:** an agent can't delete. [`Site`] has no such verb; [`Destroy`] is a capability apart, and so
//! are [`Retention`], which asks what would become of a deleted object, and [`Keep`], which extends locks.
//!
//! **Architecture Invariant:** no ambient credentials. What [`SiteSettings`] doesn't give isn't looked for, and no
//! request leaves for any host but the site's own.

#![forbid(unsafe_code)]

// what a site is
mod address;
mod ask;
mod body;
mod contract;
mod error;
mod host_key;
mod pin;
mod retention;
mod settings;
mod versions;

// where objects lie
mod file;
mod http;
mod memory;
mod open;
#[cfg(feature = "sftp")]
mod sftp;
mod store;

// around a site
pub mod layer;
mod simulated;

// whether a site keeps its word
pub mod conformance;
pub mod probe;

pub use self::{
    address::{BadAddress, Scheme, SiteAddress},
    ask::{Answer, AskError, Asked},
    body::Body,
    contract::{Children, Destroy, Entry, Listing, PutMode, Site, Stored},
    error::{Class, Failure, Operation, SiteError},
    file::{Durability, FileSite},
    host_key::{BadHostKey, HostKey},
    http::carrier::Answers,
    layer::faulty::Faulty,
    layer::limited::{Limited, Limits},
    layer::retrying::{Jitter, Patience, Retrying},
    layer::script::{Crash, Fault, Record, Rule, Steps, When},
    layer::seeing::{Buried, Seeing, Sight},
    layer::timed::Timed,
    memory::{MemorySite, MemoryStore},
    open::{open, open_answered, open_destroy, open_keep, open_retention},
    pin::{BadPin, Pin, Pins},
    probe::{ProbeInputs, ProbeReport, probe},
    retention::{Keep, LockMode, ObjectLock, Retention, Versioning},
    settings::{ByteCount, Credentials, Secret, SiteSettings, Span},
    simulated::SimulatedSite,
    versions::{Locked, NameVersions, Version, VersionId, VersionListing, Versions},
};
