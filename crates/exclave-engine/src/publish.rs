//! Small records to many sites: put, flushed, read back whole, counted.
//!
//! The name ends in the bytes' hash, so a put is repeated without harm, and equal bytes found there are a success
//! whatever the reply said. A torn record is put again; foreign bytes under our name make the site not count.

use std::collections::BTreeSet;

use bytes::Bytes;
use exclave_model::{ObjectName, SiteId};
use exclave_site::{Body, Class, Failure, Operation, PutMode, SiteError};
use futures::future::join_all;

use crate::archive::{SiteHandle, SiteTrouble};

/// Where a record now lies.
#[derive(Debug, Default)]
pub struct Published {
    /// Sites that were read back and hold it.
    pub sites: Vec<SiteId>,
    /// What the others said.
    pub troubles: Vec<SiteTrouble>,
}

impl Published {
    /// How many sites hold it. Two stores with one plate are one site.
    pub fn count(&self) -> usize {
        self.sites.iter().collect::<BTreeSet<_>>().len()
    }

    /// How many sites of a layout hold it.
    pub fn count_in(&self, layout: &[SiteId]) -> usize {
        layout.iter().filter(|site| self.sites.contains(site)).count()
    }
}

/// Puts a record at every site at once and reads it back.
pub async fn publish(sites: &[SiteHandle], name: &ObjectName, bytes: &Bytes) -> Published {
    let tried = join_all(sites.iter().map(|handle| publish_at(handle, name, bytes))).await;
    let mut published = Published::default();
    for (handle, result) in sites.iter().zip(tried) {
        match (result, handle.id) {
            (Ok(()), Some(id)) => published.sites.push(id),
            // A store without a plate may keep a copy; it counts for nothing.
            (Ok(()), None) => {}
            (Err(error), _) => published.troubles.push(SiteTrouble {
                site: handle.name.clone(),
                error,
            }),
        }
    }
    published
}

/// Puts a record at one site and reads it back.
pub async fn publish_at(handle: &SiteHandle, name: &ObjectName, bytes: &Bytes) -> Result<(), SiteError> {
    let site = &*handle.site;
    // Two rounds: the second replaces a torn record. Whatever a put answers, only what is read back counts.
    let mut last = None;
    for mode in [PutMode::Create, PutMode::Plain] {
        let put = match site.put(name, Body::from(bytes.clone()), mode).await {
            Err(error) if error.class() == Class::Unsupported => {
                site.put(name, Body::from(bytes.clone()), PutMode::Plain).await
            }
            answered => answered,
        };
        match site.get(name, bytes.len() as u64).await {
            Ok(found) if found == *bytes => return site.flush().await,
            Ok(_) => last = put.err(),
            // Longer than ours: foreign bytes that a second put might or might not replace.
            Err(error) if matches!(error.class(), Class::Missing | Class::TooLong) => last = put.err().or(Some(error)),
            Err(error) => return Err(put.err().unwrap_or(error)),
        }
    }
    let what = "it answers a read-back with other bytes than were put".to_owned();
    Err(last
        .unwrap_or_else(|| SiteError::new(site.address(), Operation::Get, Failure::Malformed { what }).object(name)))
}
