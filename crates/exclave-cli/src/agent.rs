//! Opens what the agent works with: archive, state, catalog.

use std::{io, path::Path, sync::Arc};

use exclave_catalog::{Catalog, CatalogError};
use exclave_engine::{AgentState, Archive, ArchiveError, StateError, archive::SiteTrouble, watch::SiteWatch};
use exclave_model::{Anchor, Charters, RecordHash, SignedObject, charter::Reason};
use exclave_site::{
    Scheme, Site,
    layer::retrying::{Patience, Retrying},
};

use crate::{
    config::Config,
    environment::Environment,
    error::Trouble,
    exit::Exit,
    sites::{self, OpenSite},
    surroundings::Edge,
};

/// What `replicate` and its kin need.
pub struct Agent {
    /// The archive.
    pub archive: Archive,
    /// Sites that did not answer.
    pub troubles: Vec<SiteTrouble>,
    /// The agent's folder.
    pub state: AgentState,
    /// Its memory.
    pub catalog: Catalog,
}

impl Agent {
    /// Opens all three.
    pub fn open(config: &Config, environment: &Environment, edge: &Edge) -> Result<Self, Trouble> {
        Self::open_with(config, environment, edge, |path| {
            edge.block_on(Catalog::open(path)).map_err(catalog_trouble)
        })
    }

    /// Opens all three, the catalog in some way.
    pub fn open_with(
        config: &Config,
        environment: &Environment,
        edge: &Edge,
        open_catalog: impl FnOnce(&Path) -> Result<Catalog, Trouble>,
    ) -> Result<Self, Trouble> {
        let anchor = anchor(config)?;
        let state = open_state(config, environment)?;
        let chosen = sites::choose(&sites::Wanted::default(), config)?;
        let open = sites::open_all(chosen, environment)?;
        let stores = open
            .into_iter()
            .map(|site| (site.config.name.clone(), patient(site)))
            .collect();
        let seen = state.seen_charter().map_err(unremembered)?;
        let (archive, troubles) = open_archive(anchor, stores, seen, edge)?;
        refuse_disputed(&archive)?;
        see_charters(&state, &archive.charters)?;
        let catalog = open_catalog(&state.catalog_path())?;
        edge.block_on(async {
            // The epoch keeps a thief's runs out of new snapshots; the catalog doesn't offer them either.
            for revocation in archive.charter().revocations() {
                if revocation.reason == Reason::Compromised {
                    catalog.exclude_writer(revocation.key).await?;
                }
            }
            Ok(())
        })
        .map_err(catalog_trouble)?;
        Ok(Self {
            archive,
            troubles,
            state,
            catalog,
        })
    }
}

/// The archive of the configuration.
pub fn anchor(config: &Config) -> Result<Anchor, Trouble> {
    config.archive.ok_or_else(|| {
        let trouble = Trouble::usage("no archive is known");
        match &config.file {
            Some(file) => trouble.hint(format!("{} has no `archive`; run `exclave init`", file.display())),
            None => trouble.hint("run `exclave init` first, or name its settings with --config FILE"),
        }
    })
}

/// Opens the agent's folder.
pub fn open_state(config: &Config, environment: &Environment) -> Result<AgentState, Trouble> {
    let folder = config.state_dir(environment);
    AgentState::open(&folder).map_err(|error| {
        let trouble = Trouble::usage(format!("the agent's state in {} can't be opened", folder.display()));
        let trouble = match &error {
            StateError::NotSetUp(_) => trouble.hint("run `exclave init`, or set `state_dir` to where it set it up"),
            StateError::Local(_)
            | StateError::OlderCharter { .. }
            | StateError::Key { .. }
            | StateError::SetUpAlready(_)
            | StateError::OtherClass { .. }
            | StateError::Entropy(_) => trouble,
        };
        trouble.source(error)
    })
}

/// Refuses to work under a charter that is disputed.
pub fn refuse_disputed(archive: &Archive) -> Result<(), Trouble> {
    match archive.fork.as_ref().filter(|fork| fork.taken.is_none()) {
        None => Ok(()),
        Some(fork) => Err(Trouble::new(Exit::Refused, "the archive's charter is disputed")
            .hint(
                "both are signed by enough roots: the owner has to say which one counts (commands that read take \
                 --charter DIGEST), and that nobody stole root keys",
            )
            .source(fork.clone())),
    }
}

/// Refuses to work under a charter that is older than one that this agent has seen; remembers a newer one.
pub fn see_charters(state: &AgentState, charters: &Charters) -> Result<(), Trouble> {
    state.see_charters(charters).map_err(|error| match &error {
        StateError::OlderCharter { .. } => Trouble::new(Exit::Refused, "the sites hide the archive's newest charter")
            .hint(
                "reach more of the sites, or publish that charter again; only if it never was published, remove `charter` \
                 from the state directory",
            )
            .source(error),
        _ => unremembered(error),
    })
}

/// What is remembered of the charter can't be used.
pub fn unremembered(error: StateError) -> Trouble {
    Trouble::failed("the newest charter can't be remembered").source(error)
}

/// Finds the archive's charter at any of the sites; `known` is a version that the caller knows, and settles a fork.
pub fn open_archive(
    anchor: Anchor,
    stores: Vec<(String, Arc<dyn Site>)>,
    known: Option<RecordHash>,
    edge: &Edge,
) -> Result<(Archive, Vec<SiteTrouble>), Trouble> {
    open_archive_bringing(anchor, stores, known, Vec::new(), edge)
}

/// The same, with charters that count as if one more site showed them.
pub fn open_archive_bringing(
    anchor: Anchor,
    stores: Vec<(String, Arc<dyn Site>)>,
    known: Option<RecordHash>,
    brought: Vec<SignedObject>,
    edge: &Edge,
) -> Result<(Archive, Vec<SiteTrouble>), Trouble> {
    edge.block_on(Archive::open_bringing(anchor, stores, known, brought))
        .map_err(|error| {
            let ArchiveError::NoCharter { troubles, .. } = &error;
            let said = troubles.iter().map(|trouble| format!("\n  {trouble}"));
            let trouble = Trouble::failed(format!("archive {anchor} can't be opened"));
            let trouble = match troubles.iter().find_map(|trouble| sites::hint(&trouble.error)) {
                Some(hint) => trouble.hint(hint),
                None => trouble.hint("are these the archive's sites, and is it the right identity?"),
            };
            let said: String = said.collect();
            if said.is_empty() {
                trouble.source(error)
            } else {
                trouble.source(io::Error::other(format!("{error}: {}", said.trim())))
            }
        })
}

/// Puts retries around a site on the network. A directory that fails once fails again.
pub fn patient(site: OpenSite) -> Arc<dyn Site> {
    match site.config.address.scheme() {
        Scheme::File { .. } | Scheme::Memory { .. } => site.site,
        Scheme::S3 { .. } | Scheme::Azure { .. } | Scheme::Gcs { .. } | Scheme::WebDav { .. } | Scheme::Sftp { .. } => {
            Arc::new(Retrying::new(site.site, Patience::default(), jitter).watched(SiteWatch::begin()))
        }
    }
}

/// A number from 0 to `most`; needs no secrecy, and without randomness the wait is simply the longest.
fn jitter(most: u64) -> u64 {
    let drawn = exclave_seal::entropy::draw::<8>(&mut crate::surroundings::OsEntropy);
    drawn.map_or(most, |bytes| u64::from_le_bytes(bytes) % most.saturating_add(1).max(1))
}

/// The catalog can't be opened.
pub fn catalog_trouble(error: CatalogError) -> Trouble {
    let trouble = Trouble::failed("the catalog can't be used");
    let trouble = match catalog_hint(&error) {
        Some(hint) => trouble.hint(hint),
        None => trouble,
    };
    trouble.source(error)
}

/// What to do about a catalog's error.
pub fn catalog_hint(error: &CatalogError) -> Option<&'static str> {
    match error {
        CatalogError::Full { .. } => Some("make room in the state directory; nothing is lost"),
        CatalogError::ReadOnly { .. } | CatalogError::Unreachable { .. } | CatalogError::NewerSchema { .. } => None,
        CatalogError::Busy { .. } => Some("wait for the other process, or end it, and try again"),
        CatalogError::Damaged { .. } | CatalogError::NotACatalog { .. } => Some(
            "`exclave catalog rebuild --anew` moves it aside and makes a new one; with --identity FILE the next replicate \
             sends only what is new",
        ),
        _ => Some("try again; if it stays so, `exclave catalog rebuild --anew` moves it aside and makes a new one"),
    }
}
