//! `exclave readiness`: whether a stranger could restore today with what lies at the sites.
//!
//! Looks at the kit as each site shows it, holds it against the newest charter, this program and the configuration, and,
//! with an identity or shares, logs in to every site with the kit's credentials and reads. Nothing is ever written, so
//! whether credentials could write isn't tried.

mod login;
mod report;

use std::collections::BTreeSet;

use clap::Args;
use exclave_engine::{
    Archive,
    fetch::ReadSettings,
    kit::{FoundKit, Kits, fetch_piece, find},
    snapshot::{Depth, Snapshots},
    survey::survey,
};
use exclave_model::{
    Anchor, Kit, Login, RecipientId, RecipientKey,
    kit::{SITES_FILE, recipients},
};
use exclave_seal::RecoveryIdentity;

use self::report::{Dataset, Finding, KitLine, Readiness, SiteLine};
use super::{
    World,
    charter::{Public, open_public},
};
use crate::{
    arguments::{IdentityArguments, PassphraseArguments, SiteArguments},
    config::SiteConfig,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    keys::{self, Opened},
    kit::KitSites,
    shares,
    surroundings::{self, Edge},
};

/// `readiness`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 3 when something is to be done; each finding says what. Without --identity or --share it says so of what could not
be proven: that one can log in with the kit's credentials, and how old the newest snapshots are.")]
pub struct Arguments {
    #[command(flatten)]
    identity: IdentityArguments,
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// Looks.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let public = open_public(&arguments.sites, arguments.archive, world)?;
    public.refuse_doubtful()?;
    let Public {
        archive, chosen, edge, ..
    } = public;
    shares::refuse_others(&arguments.identity.share, archive.anchor)?;
    let opened = open(arguments, &archive, world)?;
    let identity = opened.as_ref().map(|opened| &opened.identity);
    let kits = edge.block_on(find(&archive));
    let mut findings = of_sites(&kits);
    let newest = match kits.choose(None) {
        Ok(newest) => newest,
        Err(fork) => {
            findings.push(Finding::new(
                None,
                fork.to_string(),
                "find out which one the roots meant, and make a newer kit",
            ));
            kits.found.last()
        }
    };
    let mut report = Readiness {
        archive: archive.anchor.to_hex(),
        charter_version: archive.charter().version,
        kit: None,
        login_proven: false,
        sites: site_lines(&archive, &kits, newest),
        datasets: Vec::new(),
        findings,
    };
    match newest {
        None => report.findings.push(Finding::new(
            None,
            "no site has a kit".to_owned(),
            "make one, sign it, publish it: exclave kit make, exclave kit sign, exclave kit publish",
        )),
        Some(found) => {
            report.kit = Some(KitLine::of(found, &edge));
            let found_here = of_kit(&archive, &kits, found);
            report.findings.extend(found_here);
            with_files(&mut report, found, &archive, &chosen, identity, &edge, world);
        }
    }
    if let Some(bad) = opened.as_ref().map(|opened| opened.bad_shares).filter(|bad| *bad > 0) {
        let what = format!("{} among those given is no good", format::count(bad as u64, "share"));
        report.findings.push(Finding::new(
            None,
            what,
            "the warnings name its custodian: ask for the sealed copy",
        ));
    }
    if let Some(identity) = identity {
        report.datasets = datasets(&archive, identity, &edge)?;
    }
    world.output.report(&report)?;
    Ok(match report.findings.is_empty() {
        true => Exit::Done,
        false => Exit::Findings,
    })
}

/// What opens the credentials, when the command line names it. A configured identity would be typed for by mistake.
fn open(arguments: &Arguments, archive: &Archive, world: &World) -> Result<Option<Opened>, Trouble> {
    let bound = keys::archive_of(&arguments.identity, None)?;
    if let Some(other) = bound.filter(|bound| *bound != archive.anchor) {
        return Err(Trouble::new(
            Exit::Refused,
            format!("the identity is of archive {other}, not {}", archive.anchor),
        ));
    }
    let (passphrases, sets) = (arguments.passphrase.source(), archive.charter().share_sets());
    keys::open(&arguments.identity, None, sets, &passphrases, world)
}

/// Sites that don't answer, or show what isn't to be believed.
fn of_sites(kits: &Kits) -> Vec<Finding> {
    let silent = kits.troubles.iter().map(|trouble| {
        let do_next = format!("exclave site check {} tells more", trouble.site);
        Finding::new(
            Some(&trouble.site),
            format!("it does not answer: {}", trouble.error),
            &do_next,
        )
    });
    let refused = kits.refused.iter().map(|(site, name, why)| {
        let what = format!("{name} is no kit to believe: {why}");
        Finding::new(Some(site), what, "find out who put it there; it is never used")
    });
    silent.chain(refused).collect()
}

fn site_lines(archive: &Archive, kits: &Kits, newest: Option<&FoundKit>) -> Vec<SiteLine> {
    let line = |(at, handle): (usize, &exclave_engine::SiteHandle)| {
        let shown = kits.found.iter().rev().find(|found| found.sites.contains(&at));
        let line = newest.and_then(|found| found.kit.sites.iter().find(|site| site.name == handle.name));
        SiteLine {
            site: handle.name.clone(),
            kit: shown.map(|found| found.kit.version),
            credentials: line.map(|site| site.login.as_str()),
            login: None,
        }
    };
    archive.sites.iter().enumerate().map(line).collect()
}

/// What is stale or missing in the newest kit.
fn of_kit(archive: &Archive, kits: &Kits, found: &FoundKit) -> Vec<Finding> {
    const RENEW: &str = "make a new kit: exclave kit make";
    let (kit, charter) = (&found.kit, archive.charter());
    let mut findings = Vec::new();
    for (at, handle) in archive.sites.iter().enumerate().filter(|(at, _)| kits.answered(*at)) {
        let publish = "put it there: exclave kit publish DIR, or fetch it first: exclave kit fetch --to DIR";
        if !found.sites.contains(&at) {
            let what = format!("it does not have kit {}, the newest", kit.version);
            findings.push(Finding::new(Some(&handle.name), what, publish));
        } else if !kits.is_listed_whole(archive, at, kit) {
            let what = format!("it does not list every piece of kit {}", kit.version);
            findings.push(Finding::new(Some(&handle.name), what, publish));
        }
    }
    if archive.charters.newest_hash() != kit.charter {
        let what = format!(
            "the kit was made under charter version {}, and the newest is {}",
            kit.charter_version, charter.version
        );
        findings.push(Finding::new(None, what, RENEW));
        findings.extend(of_recipients(archive, kit));
    }
    for site in &charter.sites {
        if !kit.sites.iter().any(|known| known.name == site.name) {
            let what = "the charter names it, and the kit does not lead to it".to_owned();
            findings.push(Finding::new(Some(&site.name), what, RENEW));
        }
    }
    let ours = format!("exclave {}", env!("CARGO_PKG_VERSION"));
    if kit.program != ours {
        let what = format!("the kit holds {}, and this is {ours}", kit.program);
        findings.push(Finding::new(None, what, RENEW));
    }
    for site in &kit.sites {
        let what = match site.login {
            Login::Open | Login::Read => continue,
            Login::Writes => "whoever opens the kit can write there",
            Login::Missing => "the kit has no credentials for it",
        };
        let next =
            "make credentials there that can read and not write, name them in read_credentials, and make a new kit";
        findings.push(Finding::new(Some(&site.name), what.to_owned(), next));
    }
    findings
}

/// Whom the kit forgets, and whom it still lets in.
fn of_recipients(archive: &Archive, kit: &Kit) -> Vec<Finding> {
    let ids = |keys: Vec<RecipientKey>| keys.iter().map(RecipientKey::id).collect::<BTreeSet<RecipientId>>();
    let now = ids(recipients(archive.charter()));
    let then = archive
        .charters
        .version(kit.charter_version)
        .map_or_else(BTreeSet::new, |charter| ids(recipients(charter)));
    let joined = now.difference(&then).map(|id| {
        let what = format!(
            "recovery identity {} joined, and can't log in with the kit",
            id.to_hex()
        );
        Finding::new(None, what, "make a new kit: exclave kit make")
    });
    let left = then.difference(&now).map(|id| {
        let what = format!(
            "recovery identity {} left, and can still log in with the kit",
            id.to_hex()
        );
        Finding::new(None, what, "change the credentials at the sites, and make a new kit")
    });
    joined.chain(left).collect()
}

/// What the kit's own files say: addresses against the configuration's, and the way in.
fn with_files(
    report: &mut Readiness,
    found: &FoundKit,
    archive: &Archive,
    chosen: &[SiteConfig],
    identity: Option<&RecoveryIdentity>,
    edge: &Edge,
    world: &World,
) {
    let read = file(found, SITES_FILE, archive, edge).and_then(|bytes| {
        let parsed = KitSites::parse(&bytes);
        parsed.map_err(|error| format!("{SITES_FILE} can't be used: {error}"))
    });
    let mut sites = match read {
        Ok(sites) => sites,
        Err(what) => {
            let again = "publish the kit again: exclave kit publish DIR";
            return report.findings.push(Finding::new(None, what, again));
        }
    };
    for (site, handle) in chosen.iter().zip(&archive.sites) {
        let in_kit = sites.config.sites.iter().find(|known| known.name == handle.name);
        let what = match in_kit {
            Some(known) if known.address != site.address => {
                format!(
                    "the kit has it at {}, the configuration at {}",
                    known.address, site.address
                )
            }
            Some(known) if known.settings != site.settings => {
                "the kit reaches it in another way than the configuration: endpoint, pins or limits differ".to_owned()
            }
            Some(_) | None => continue,
        };
        report.findings.push(Finding::new(
            Some(&handle.name),
            what,
            "make a new kit: exclave kit make",
        ));
    }
    if let Some(identity) = identity {
        login::prove(report, found, archive, &mut sites, identity, edge, world);
    }
}

/// A file of the kit from any site, checked. It is of one piece.
fn file(found: &FoundKit, name: &str, archive: &Archive, edge: &Edge) -> Result<Vec<u8>, String> {
    let file = found.kit.file(name).ok_or_else(|| format!("the kit has no {name}"))?;
    if file.pieces.len() != 1 {
        return Err(format!("the kit's {name} is longer than it may be"));
    }
    let piece = edge.block_on(fetch_piece(archive, &found.kit, file, 0));
    piece
        .map(|bytes| bytes.to_vec())
        .map_err(|missing| format!("no site gives the kit's {name}: {}", missing.troubles.join("; ")))
}

/// The newest snapshot of each dataset. Who only reads heads doesn't know when they were made: that is sealed.
fn datasets(archive: &Archive, identity: &RecoveryIdentity, edge: &Edge) -> Result<Vec<Dataset>, Trouble> {
    let cannot = || Trouble::failed(format!("archive {} can't be read", archive.anchor));
    let survey = survey(archive, &edge.surroundings).because(cannot)?;
    let settings = ReadSettings::default();
    let snapshots = Snapshots::open(archive, &survey, identity, Depth::Newest, settings, &edge.surroundings);
    let now = edge.surroundings.clock.now_unix_seconds();
    let line = |snapshot: &exclave_engine::snapshot::Snapshot| Dataset {
        dataset: snapshot.info.name.clone(),
        finished: format::rfc3339(snapshot.info.finished),
        age_s: now.saturating_sub(snapshot.info.finished),
    };
    Ok(snapshots.list().iter().map(line).collect())
}
