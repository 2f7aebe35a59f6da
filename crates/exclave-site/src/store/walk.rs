//! Listings, page by page or directory by directory, within caps.

use std::collections::BTreeSet;

use exclave_model::{ObjectName, Prefix};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ListResult, ObjectStore};

use super::failure;
use crate::contract::{Children, Entry, Listing};
use crate::error::{Failure, Operation};
use crate::{SiteAddress, SiteError};

/// Most pages of one listing (THREATS D5): 10^8 names at 1,000 a page.
const PAGES_MAX: usize = 100_000;

/// How far a listing goes down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    One,
    All,
}

/// Why a listing stopped.
pub(super) enum Stop {
    Store(object_store::Error),
    Malformed(String),
}

impl Stop {
    pub(super) fn into_error(self, address: &SiteAddress, operation: Operation) -> SiteError {
        match self {
            Self::Store(error) => {
                let (failure, why) = failure::of(&error);
                SiteError::new(address, operation, failure).because(why)
            }
            Self::Malformed(what) => SiteError::new(address, operation, Failure::Malformed { what }),
        }
    }
}

/// Lists page by page.
pub(super) async fn pages(
    store: &dyn PaginatedListStore,
    site_prefix: &str,
    prefix: &Prefix,
    entries_max: usize,
    depth: Depth,
) -> Result<Children, Stop> {
    let within = format!("{site_prefix}{prefix}");
    let mut found = Children {
        complete: true,
        ..Children::default()
    };
    let mut page_token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let options = PaginatedListOptions {
            delimiter: (depth == Depth::One).then_some("/".into()),
            page_token: page_token.clone(),
            ..PaginatedListOptions::default()
        };
        let asked = (!within.is_empty()).then_some(within.as_str());
        let page = store.list_paginated(asked, options).await.map_err(Stop::Store)?;
        add(&mut found, page.result, site_prefix, prefix, entries_max);
        let Some(next) = page.page_token.filter(|next| !next.is_empty()) else {
            return Ok(tidy(found));
        };
        if !found.complete {
            return Ok(tidy(found));
        }
        if page_token.as_ref() == Some(&next) {
            return Err(Stop::Malformed("listing repeats its page".into()));
        }
        page_token = Some(next);
    }
    Err(Stop::Malformed(format!("listing of more than {PAGES_MAX} pages")))
}

/// Lists a tree of directories.
pub(super) async fn directories(
    store: &dyn ObjectStore,
    site_prefix: &str,
    prefix: &Prefix,
    entries_max: usize,
) -> Result<Listing, Stop> {
    let mut listing = Listing {
        complete: true,
        ..Listing::default()
    };
    let mut waiting = vec![prefix.clone()];
    let mut seen = BTreeSet::new();
    while let Some(below) = waiting.pop() {
        if !seen.insert(below.clone()) {
            continue;
        }
        let left = entries_max.saturating_sub(listing.entries.len());
        let found = directory(store, site_prefix, &below, left).await?;
        listing.entries.extend(found.entries);
        listing.ignored = listing.ignored.saturating_add(found.ignored);
        waiting.extend(found.prefixes);
        if !found.complete {
            listing.complete = false;
            break;
        }
    }
    listing.entries.sort();
    Ok(listing)
}

/// Lists one directory.
pub(super) async fn directory(
    store: &dyn ObjectStore,
    site_prefix: &str,
    prefix: &Prefix,
    entries_max: usize,
) -> Result<Children, Stop> {
    let mut found = Children {
        complete: true,
        ..Children::default()
    };
    let within = Path::parse(format!("{site_prefix}{prefix}")).map_err(|error| Stop::Store(error.into()))?;
    let asked = (!within.as_ref().is_empty()).then_some(&within);
    let result = store.list_with_delimiter(asked).await.map_err(Stop::Store)?;
    add(&mut found, result, site_prefix, prefix, entries_max);
    Ok(tidy(found))
}

/// Adds a page to what was found, up to the cap.
fn add(found: &mut Children, page: ListResult, site_prefix: &str, prefix: &Prefix, entries_max: usize) {
    for child in page.common_prefixes {
        match name_of(&child, site_prefix, prefix) {
            Some(_) if found.prefixes.len() + found.entries.len() >= entries_max => found.complete = false,
            Some(name) => found.prefixes.push(Prefix::below(&name)),
            None => found.ignored = found.ignored.saturating_add(1),
        }
    }
    for object in page.objects {
        match name_of(&object.location, site_prefix, prefix) {
            Some(_) if found.prefixes.len() + found.entries.len() >= entries_max => found.complete = false,
            Some(name) => found.entries.push(Entry {
                name,
                length: object.size,
            }),
            None => found.ignored = found.ignored.saturating_add(1),
        }
    }
}

/// The object name of a key, if it is one and lies below the prefix.
fn name_of(path: &Path, site_prefix: &str, prefix: &Prefix) -> Option<ObjectName> {
    let name = ObjectName::parse(path.as_ref().strip_prefix(site_prefix)?).ok()?;
    prefix.contains(&name).then_some(name)
}

/// Sorts and drops doubles. A site may repeat a name with another length; one of them is kept, as any reader may get.
fn tidy(mut found: Children) -> Children {
    found.prefixes.sort();
    found.prefixes.dedup();
    found.entries.sort();
    found.entries.dedup_by(|a, b| a.name == b.name);
    found
}
