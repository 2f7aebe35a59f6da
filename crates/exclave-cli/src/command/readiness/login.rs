//! Logging in to every site with the kit's credentials, as a stranger would: a listing and one ranged read. Never a write.

use exclave_engine::{Archive, kit::FoundKit};
use exclave_model::{
    Prefix, Record as _, SealedLogins, Tag,
    kit::{LOGINS_FILE, SITES_FILE},
};
use exclave_seal::RecoveryIdentity;
use exclave_site::Site;

use super::{
    file,
    report::{Finding, Readiness},
};
use crate::{
    command::World,
    config::SiteConfig,
    error::{Trouble, chain},
    kit::KitSites,
    sites,
    surroundings::Edge,
};

/// The most of a kit's first piece that is read: enough to tell its bytes from others.
const READ_BYTES_MAX: u64 = 256;
/// Names that are listed: one is enough.
const LIST_MAX: usize = 10_000;

/// Opens the credentials, logs in everywhere, and writes down how it went.
pub fn prove(
    report: &mut Readiness,
    found: &FoundKit,
    archive: &Archive,
    sites: &mut KitSites,
    identity: &RecoveryIdentity,
    edge: &Edge,
    world: &World,
) {
    if let Err(what) = open(found, archive, sites, identity, edge) {
        let next = "make a new kit: exclave kit make; is the identity one of those that the charter names?";
        return report.findings.push(Finding::new(None, what, next));
    }
    report.login_proven = true;
    for site in &sites.config.sites {
        let proven = one(site, found, archive, edge, world);
        if let Some(line) = report.sites.iter_mut().find(|line| line.site == site.name) {
            line.login = Some(proven.is_ok());
        }
        if let Err(why) = proven {
            report.login_proven = false;
            let next = format!(
                "if exclave site check {} finds it well, its credentials in the kit are no good: make a new kit",
                site.name
            );
            let what = format!("one can't read there with the kit: {why}");
            report.findings.push(Finding::new(Some(&site.name), what, &next));
        }
    }
}

fn open(
    found: &FoundKit,
    archive: &Archive,
    sites: &mut KitSites,
    identity: &RecoveryIdentity,
    edge: &Edge,
) -> Result<(), String> {
    let bytes = file(found, LOGINS_FILE, archive, edge)?;
    let wrong = |error: &dyn std::fmt::Display| format!("the kit's credentials don't open: {error}");
    let logins = SealedLogins::from_bytes(&bytes).map_err(|error| wrong(&error))?;
    let charter = archive.charters.obeyed(found.kit.charter_version);
    let charter = charter.map_err(|error| wrong(&error))?;
    let placed = logins.check_place(archive.anchor, found.kit.version, charter);
    placed.map_err(|error| wrong(&error))?;
    let text = identity.open_logins(&logins).map_err(|error| wrong(&error))?;
    sites.log_in(&text).map_err(|error| wrong(&error))
}

/// A listing of the kit, and the beginning of one of its pieces.
fn one(site: &SiteConfig, found: &FoundKit, archive: &Archive, edge: &Edge, world: &World) -> Result<(), String> {
    let said = |trouble: &Trouble| chain(trouble);
    let opened = sites::open_all(vec![site.clone()], &world.environment).map_err(|trouble| said(&trouble))?;
    let Some(opened) = opened.first() else {
        return Err("it can't be opened".to_owned());
    };
    edge.block_on(read(&*opened.site, found, archive))
}

async fn read(site: &dyn Site, found: &FoundKit, archive: &Archive) -> Result<(), String> {
    let prefix: Prefix = archive.names.kit_prefix(found.kit.version);
    let listing = site.list(&prefix, LIST_MAX).await.map_err(|error| chain(&error))?;
    let file = found.kit.file(SITES_FILE).ok_or("the kit has no sites")?;
    let hash = file.pieces.first().ok_or("the kit has no sites")?;
    let name = archive
        .names
        .kit_piece(found.kit.version, &file.name, 0, Tag::of_hash(hash.as_bytes()));
    let name = name.ok_or("the kit has no sites")?;
    // A site without this kit is told as such; whether one can read there, any charter shows.
    let (name, length) = match listing.entries.iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.name.clone(), entry.length),
        None => {
            let charters = site.list(&archive.names.charter_prefix(), LIST_MAX).await;
            let charters = charters.map_err(|error| chain(&error))?;
            let first = charters
                .entries
                .into_iter()
                .next()
                .ok_or("it lists neither the kit nor a charter")?;
            (first.name, first.length)
        }
    };
    let range = 0..length.min(READ_BYTES_MAX);
    site.get_range(&name, range)
        .await
        .map(|_| ())
        .map_err(|error| chain(&error))
}
