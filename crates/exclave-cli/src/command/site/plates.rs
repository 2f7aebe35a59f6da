//! What the plates of checked sites say: a store that was emptied works well and is no site.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use exclave_engine::{Archive, Plate};
use exclave_site::Site;
use serde::Serialize;

use super::World;
use crate::{
    config::Config,
    error::Trouble,
    sites::{self, OpenSite},
    surroundings::Edge,
};

/// What a store shows as its plate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// The plate of the site that the configuration says it is.
    Its,
    /// The plate of another site of the archive.
    Another,
    /// One that another store shows too.
    Double,
    /// None.
    Missing,
    /// That of a site that the charter names no more.
    Dropped,
    /// Those of several sites.
    Contradictory,
    /// It did not answer.
    Unread,
}

/// A plate, and what to know about it.
pub struct Found {
    /// What is shown.
    pub shown: Shown,
    /// What is wrong, and what to do.
    pub remark: Option<String>,
}

/// What the checked sites of the configuration's archive show, by name. Nothing where no archive is known, or no site
/// gives its charter: then no plate can be verified.
pub fn of(
    checked: &[OpenSite],
    config: &Config,
    world: &World,
    edge: &Edge,
) -> Result<BTreeMap<String, Found>, Trouble> {
    let Some(anchor) = config.archive else {
        return Ok(BTreeMap::new());
    };
    // Any site may have the charter, and two stores with one plate are seen only side by side.
    let asked: BTreeSet<&str> = checked.iter().map(|site| site.config.name.as_str()).collect();
    let others = config.sites.iter().filter(|site| !asked.contains(site.name.as_str()));
    let others = sites::open_all(others.cloned().collect(), &world.environment)?;
    let stores: Vec<(String, Arc<dyn Site>)> = checked
        .iter()
        .chain(&others)
        .map(|site| (site.config.name.clone(), Arc::clone(&site.site)))
        .collect();
    let names: Vec<String> = stores.iter().map(|(name, _)| name.clone()).collect();
    let Ok((archive, _)) = edge.block_on(Archive::open(anchor, stores)) else {
        return Ok(BTreeMap::new());
    };
    let ours = |name: &String| config.sites.iter().any(|site| site.name == *name);
    let found = names.into_iter().enumerate().take(checked.len());
    Ok(found
        .filter(|(_, name)| ours(name))
        .map(|(at, name)| {
            let found = look(&archive, at, &name);
            (name, found)
        })
        .collect())
}

fn look(archive: &Archive, at: usize, name: &str) -> Found {
    let Some(handle) = archive.sites.get(at) else {
        return Found {
            shown: Shown::Unread,
            remark: None,
        };
    };
    let adopt = format!("; if it was emptied, `exclave site adopt {name} --root FILE` takes it back");
    let (shown, remark) = match handle.plate {
        Plate::Of(id) => {
            let mut others = archive.sites.iter().enumerate();
            let other = others.find(|(other, handle)| *other != at && handle.id == Some(id));
            match other {
                Some((_, other)) => (
                    Shown::Double,
                    Some(format!(
                        "shows the plate that {} shows too; a site is one store, and nothing goes to the second",
                        other.site.address()
                    )),
                ),
                None if handle.name != name => (
                    Shown::Another,
                    Some(format!(
                        "shows the plate of site {}, and the configuration calls it {name}",
                        handle.name
                    )),
                ),
                None => (Shown::Its, None),
            }
        }
        Plate::Missing => (
            Shown::Missing,
            handle.plate.complaint().map(|text| format!("{text}{adopt}")),
        ),
        Plate::Dropped => (Shown::Dropped, handle.plate.complaint().map(str::to_owned)),
        Plate::Contradictory => (Shown::Contradictory, handle.plate.complaint().map(str::to_owned)),
        Plate::Unread => (Shown::Unread, None),
    };
    Found { shown, remark }
}
