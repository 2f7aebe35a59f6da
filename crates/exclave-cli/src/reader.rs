//! Opens an archive to read it: sites, charter, heads, identity, snapshots. Needs no configuration and no agent, and with a
//! kit nothing of this machine.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use exclave_engine::{
    Archive,
    archive::SiteTrouble,
    fetch::{Problem, ReadSettings},
    snapshot::{Depth, NoSnapshot, PassedOver, Reason, Snapshot, Snapshots, Which},
    survey::{CharterFinding, Grade, HeadProblem, Survey, survey},
};
use exclave_model::{Anchor, RecordHash, SignedObject, limit::RECORD_BYTES_MAX};
use exclave_seal::RecoveryIdentity;
use exclave_site::{Credentials, Site};

use crate::{
    agent::open_archive_bringing,
    arguments::{IdentityArguments, PassphraseArguments, SiteArguments},
    clock,
    command::{
        World,
        directory::{self, Directory},
    },
    config::SiteConfig,
    credentials::CredentialSource,
    error::{Context as _, Trouble},
    exit::Exit,
    format, interrupt,
    keys::{self, Opened, PassphraseSource},
    kit::KitFolder,
    private_file, shares,
    sites::{self, OpenSite},
    surroundings::{self, Edge},
    watched::WatchedArguments,
};

/// Whose archive, opened with what.
#[derive(Debug, Args)]
pub struct ReaderArguments {
    #[command(flatten)]
    identity: IdentityArguments,
    #[command(flatten)]
    sites: SiteArguments,
    /// Take sites, pins and credentials from the kit in DIR; nothing else of this machine is read
    #[arg(long, value_name = "DIR", conflicts_with_all = ["credentials", "config"])]
    kit: Option<PathBuf>,
    /// Pretend that these sites are lost: nothing is asked of them
    #[arg(long, value_name = "SITE", value_delimiter = ',')]
    without: Vec<String>,
    /// Use the grant in FILE, for an identity that was given run keys; those at the sites are found without
    #[arg(long, value_name = "FILE")]
    grant: Vec<PathBuf>,
    /// Where the roots signed two charters of one number: the one that counts, by its digest
    #[arg(long, value_name = "DIGEST")]
    charter: Option<RecordHash>,
    /// The archive's anchor, when the identity does not carry it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
    #[command(flatten)]
    watched: WatchedArguments,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

impl ReaderArguments {
    /// Where the identity's passphrase comes from.
    pub fn passphrases(&self) -> PassphraseSource {
        self.passphrase.source()
    }
}

/// Which snapshot.
#[derive(Debug, Args)]
pub struct SnapshotArguments {
    /// The dataset; may be left out where the archive has one
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// The snapshot whose name begins so, instead of the newest
    #[arg(long, value_name = "HEX", conflicts_with = "dataset")]
    pub snapshot: Option<String>,
    /// The newest snapshot that was complete at TIME, such as 2026-03-01 or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "snapshot")]
    pub at: Option<i64>,
}

impl SnapshotArguments {
    /// As the engine wants it.
    pub fn which(&self) -> Which {
        let dataset = self.dataset.clone().unwrap_or_default();
        match (&self.snapshot, self.at) {
            (Some(prefix), _) => Which::Head {
                prefix: prefix.to_ascii_lowercase(),
            },
            (None, Some(time)) => Which::At { dataset, time },
            (None, None) => Which::Newest { dataset },
        }
    }

    /// Older snapshots have to be opened only when an older one may be meant.
    pub fn depth(&self) -> Depth {
        match self.which() {
            Which::Newest { .. } => Depth::Newest,
            Which::At { .. } | Which::Head { .. } => Depth::All,
        }
    }
}

/// A moment: RFC 3339, or a date, or a date and a time in the local zone. A date alone is its end.
pub fn moment(text: &str) -> Result<i64, String> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(moment.as_second());
    }
    let zone = jiff::tz::TimeZone::system();
    let local = match text.parse::<jiff::civil::Date>() {
        Ok(date) if !text.contains([':', 'T', ' ']) => date.at(23, 59, 59, 0),
        _ => text
            .parse::<jiff::civil::DateTime>()
            .map_err(|error| error.to_string())?,
    };
    let moment = zone.to_timestamp(local).map_err(|error| error.to_string())?;
    Ok(moment.as_second())
}

/// An archive that can be read.
pub struct Reader {
    /// Clock, threads, runtime.
    pub edge: Edge,
    /// The archive.
    pub archive: Archive,
    /// What its sites show.
    pub survey: Survey,
    identity: RecoveryIdentity,
    /// Shares among those that were given that are no good.
    bad_shares: usize,
}

impl Reader {
    /// Opens everything but the snapshots.
    pub fn open(arguments: &ReaderArguments, world: &World) -> Result<Self, Trouble> {
        surroundings::self_tests()?;
        let ground = match &arguments.kit {
            Some(folder) => Ground::of_kit(folder, arguments, world)?,
            None => Ground::of_settings(arguments, world)?,
        };
        let (anchor, edge) = (ground.anchor, ground.edge);
        let stores = ground.open.into_iter().map(|site| (site.config.name, site.site));
        let stores: Vec<(String, Arc<dyn Site>)> = stores.collect();
        let (mut archive, troubles) = open_archive_bringing(anchor, stores, ground.known, ground.brought, &edge)?;
        let opened = match ground.identity {
            Identity::Opened(opened) => opened,
            // The passphrase comes last: nobody should type it for a command that can't be.
            Identity::Configured(configured) => {
                let passphrases = arguments.passphrase.source();
                let (named, sets) = (configured.as_deref(), archive.charter().share_sets());
                let opened = keys::open(&arguments.identity, named, sets, &passphrases, world)?;
                opened.ok_or_else(no_identity)?
            }
        };
        archive.grants = grants(&arguments.grant, &archive)?;
        let mut survey = survey(&archive, &edge.surroundings)
            .because(|| Trouble::failed(format!("archive {anchor} can't be read")))?;
        warn(&troubles, &archive, &survey, world);
        let doubt = clock::doubt(&archive, &edge);
        if let Some(doubt) = &doubt {
            world.output.note(format!("Warning: {doubt}"));
        }
        survey.watched = arguments
            .watched
            .look(&archive, &survey, doubt.is_some(), &edge, world)?;
        Ok(Self {
            edge,
            archive,
            survey,
            identity: opened.identity,
            bad_shares: opened.bad_shares,
        })
    }

    /// Opens snapshots.
    pub fn snapshots(&self, depth: Depth) -> Result<Snapshots<'_>, Trouble> {
        let settings = ReadSettings::default();
        let snapshots = Snapshots::open(
            &self.archive,
            &self.survey,
            &self.identity,
            depth,
            settings,
            &self.edge.surroundings,
        );
        match snapshots.passed_over().first() {
            Some(passed) if snapshots.list().is_empty() => Err(none_opens(passed, snapshots.passed_over().len())),
            _ if self.survey.found.is_empty() => Err(self.nothing_there()),
            _ => Ok(snapshots),
        }
    }

    /// The directory of names, when there is one and the identity is among its recipients. It only orders and explains.
    pub fn directory(&self) -> Option<Directory> {
        directory::open_at_sites(&self.archive, &self.identity, &self.edge)
            .ok()
            .flatten()
    }

    /// True when neither chains of heads nor charters give anything away that must not be.
    pub fn is_undisturbed(&self) -> bool {
        self.survey.findings.is_empty() && self.charter_alarms() == 0
    }

    /// What charters give away that must not happen with honest people and honest sites.
    pub fn charter_alarms(&self) -> usize {
        let findings = self.survey.charter_findings(&self.archive);
        findings.iter().filter(|finding| finding.is_alarm()).count()
    }

    /// Why the newest snapshot may be another one: heads that obey a charter that no site shows can't be judged.
    pub fn hidden_charter(&self, which: &Which) -> Option<String> {
        let findings = self.survey.charter_findings(&self.archive);
        let hidden = findings
            .iter()
            .find(|finding| matches!(finding, CharterFinding::Hidden { .. }));
        hidden
            .filter(|_| matches!(which, Which::Newest { .. }))
            .map(ToString::to_string)
    }

    /// Why the newest snapshot may be another one: the sites show less than was signed, or something else.
    pub fn set_back(&self, which: &Which) -> Option<String> {
        let found = self.survey.watched.iter().flat_map(|watched| &watched.set_back).next();
        found
            .filter(|_| matches!(which, Which::Newest { .. }))
            .map(ToString::to_string)
    }

    /// Whether there is something to look at before any snapshot: an alarm that heads or charters give; a head that is
    /// damaged, or listed and not given, though another site gave it; a share that is no good.
    pub fn exit(&self) -> Exit {
        let damaged = |problem: &HeadProblem| matches!(problem.problem, Problem::Corrupt | Problem::Missing);
        let clean = self.is_undisturbed() && !self.survey.problems.iter().any(damaged) && self.bad_shares == 0;
        let set_back = self.survey.watched.iter().any(|watched| !watched.set_back.is_empty());
        let shown = if set_back { Exit::Stale } else { Exit::Done };
        shown.and(if clean { Exit::Done } else { Exit::Findings })
    }

    /// Says what had to be seen through so far, and whether that was something.
    pub fn poisoned(&self, world: &World) -> Exit {
        let poisoned = self.archive.poisoned();
        for site in &poisoned {
            world
                .output
                .note(format!("ALARM: {}", format::plain(&site.to_string())));
        }
        match poisoned.is_empty() {
            true => Exit::Done,
            false => Exit::Findings,
        }
    }

    fn nothing_there(&self) -> Trouble {
        let answered = self.survey.answered(&self.archive).len();
        let asked = self.archive.sites.len();
        let trouble = Trouble::failed(format!(
            "archive {} holds no snapshot at the {answered} of {asked} sites that answered",
            self.archive.anchor
        ));
        trouble.hint("replicate something first, or give more of its sites: --site URL")
    }
}

/// What is known before any site is asked.
struct Ground {
    anchor: Anchor,
    open: Vec<OpenSite>,
    edge: Edge,
    /// A charter that the reader knows.
    known: Option<RecordHash>,
    /// Charters that the reader brings.
    brought: Vec<SignedObject>,
    identity: Identity,
}

enum Identity {
    /// Opened already: a kit's credentials took it.
    Opened(Opened),
    /// To be opened once it is known that the sites hold the archive; the configuration's, when the command line names none.
    Configured(Option<PathBuf>),
}

fn no_identity() -> Trouble {
    Trouble::usage("a recovery identity is needed")
        .hint("give --identity FILE, or custodians' shares; an agent can't read what it wrote")
}

/// A runtime that hears the wish to stop.
fn listening(threads: Option<std::num::NonZeroUsize>) -> Result<Edge, Trouble> {
    let edge = Edge::start(threads)?;
    interrupt::listen(&edge)?;
    Ok(edge)
}

impl Ground {
    /// From the configuration and the command line.
    fn of_settings(arguments: &ReaderArguments, world: &World) -> Result<Self, Trouble> {
        let config = world.config()?;
        if arguments.identity.is_empty() && config.identity.is_none() {
            return Err(no_identity());
        }
        let mut chosen = sites::choose(&arguments.sites.wanted(), &config)?;
        lose(&arguments.without, &mut chosen)?;
        let open = sites::open_all(chosen, &world.environment)?;
        let bound = keys::archive_of(&arguments.identity, config.identity.as_deref())?;
        let anchor = arguments.archive.or(bound).or(config.archive).ok_or_else(|| {
            Trouble::usage("nothing says which archive is to be opened")
                .hint("give --archive HEX: `init` printed it, and exclave.toml and custodians' cards carry it")
        })?;
        shares::refuse_others(&arguments.identity.share, anchor)?;
        Ok(Self {
            anchor,
            open,
            edge: listening(config.threads)?,
            known: arguments.charter,
            brought: Vec::new(),
            identity: Identity::Configured(config.identity),
        })
    }

    /// From a kit: no configuration, no state, no variable of this machine. Its archive is held against whatever else
    /// names one.
    fn of_kit(folder: &Path, arguments: &ReaderArguments, world: &World) -> Result<Self, Trouble> {
        if arguments.identity.is_empty() {
            return Err(no_identity());
        }
        let bound = keys::archive_of(&arguments.identity, None)?;
        let named = [arguments.archive, bound].into_iter().flatten();
        let mut kit = KitFolder::open(folder, arguments.archive.or(bound))?;
        let anchor = kit.kit.anchor;
        if let Some(other) = named.into_iter().find(|named| *named != anchor) {
            return Err(Trouble::new(
                Exit::Refused,
                format!("the identity is of archive {other}, not {anchor}"),
            )
            .hint("compare the anchor with the custodians' cards"));
        }
        let by_share = shares::refuse_others(&arguments.identity.share, anchor)?;
        if arguments.archive.or(bound).is_none() && !by_share {
            world.output.note(format!(
                "Warning: only the kit says that this is archive {}; compare that with a custodian's card, or give --archive",
                anchor.to_hex()
            ));
        }
        for name in &kit.missing {
            world.output.note(format!("Warning: the kit's {name} is missing"));
        }
        let edge = listening(None)?;
        let (passphrases, sets) = (arguments.passphrase.source(), kit.charters.newest().share_sets());
        let opened = keys::open(&arguments.identity, None, sets, &passphrases, world)?;
        let opened = opened.ok_or_else(no_identity)?;
        kit.open_logins(&opened.identity)?;
        let mut chosen = sites::choose(&arguments.sites.wanted(), &kit.sites.config)?;
        lose(&arguments.without, &mut chosen)?;
        for site in &mut chosen {
            // An address that the kit doesn't have gets no credentials from it, and none of this machine either.
            if !matches!(site.credentials, CredentialSource::Given(_)) {
                site.credentials = CredentialSource::Given(Credentials::Anonymous);
            }
        }
        Ok(Self {
            anchor,
            open: sites::open_all(chosen, &world.environment)?,
            edge,
            known: arguments.charter.or(Some(kit.charters.newest_hash())),
            brought: kit.history,
            identity: Identity::Opened(opened),
        })
    }
}

/// The grants that the reader brings along; one that says nothing to this archive is a mistake.
fn grants(paths: &[PathBuf], archive: &Archive) -> Result<Vec<Vec<u8>>, Trouble> {
    let read = |path: &PathBuf| {
        let bytes = private_file::read_public(path, RECORD_BYTES_MAX, "grant")?;
        match exclave_engine::grant::verify(archive, &bytes) {
            Some(_) => Ok(bytes),
            None => Err(
                Trouble::new(Exit::Refused, format!("{} is no grant of this archive", path.display()))
                    .hint("was it signed by a restorer that the charter names?"),
            ),
        }
    };
    paths.iter().map(read).collect()
}

/// Takes out the sites that are to be thought lost.
fn lose(without: &[String], chosen: &mut Vec<SiteConfig>) -> Result<(), Trouble> {
    for name in without {
        let Some(at) = chosen.iter().position(|site| site.name == *name) else {
            let names: Vec<&str> = chosen.iter().map(|site| site.name.as_str()).collect();
            return Err(Trouble::usage(format!("--without {name}: there is no such site"))
                .hint(format!("there are {}", names.join(", "))));
        };
        chosen.remove(at);
    }
    match chosen.is_empty() {
        true => Err(Trouble::usage("--without leaves no site")),
        false => Ok(()),
    }
}

/// The one that is meant, with what to do when there is none.
pub fn choose<'s>(snapshots: &'s Snapshots<'_>, which: &Which) -> Result<&'s Snapshot, Trouble> {
    snapshots.choose(which).map_err(|error| {
        let trouble = match &error {
            NoSnapshot::Fork { .. } => Trouble::new(Exit::Refused, "no snapshot was chosen"),
            NoSnapshot::Ambiguous { .. }
            | NoSnapshot::NoDataset { .. }
            | NoSnapshot::NotYet { .. }
            | NoSnapshot::NoHead { .. } => Trouble::usage("no snapshot was chosen"),
        };
        let trouble = match &error {
            NoSnapshot::Fork { side, .. } => trouble.hint(format!(
                "someone signed twice with one key: find out which is yours, then name it: --snapshot {}",
                side.to_hex().get(..16).unwrap_or_default()
            )),
            NoSnapshot::Ambiguous { .. } => {
                let mut names: Vec<&str> = snapshots
                    .list()
                    .iter()
                    .map(|snapshot| snapshot.info.name.as_str())
                    .collect();
                names.sort_unstable();
                names.dedup();
                match which {
                    Which::Newest { dataset } | Which::At { dataset, .. } if !dataset.is_empty() => trouble.hint(
                        "several datasets bear that name, as when an agent's state was lost: `exclave snapshots` shows \
                         when each was complete; give one of these ids as --dataset, or a snapshot as --snapshot",
                    ),
                    _ => trouble.hint(format!(
                        "name the dataset: --dataset NAME; there are {}",
                        names.join(", ")
                    )),
                }
            }
            NoSnapshot::NoDataset { .. } | NoSnapshot::NotYet { .. } | NoSnapshot::NoHead { .. } => {
                trouble.hint("`exclave snapshots` lists what there is")
            }
        };
        trouble.source(error)
    })
}

/// Why what was chosen may not be what was meant: too few answers, or newer snapshots that don't open. Nothing when an
/// older one was asked for by name or time.
pub fn staleness(which: &Which, snapshot: &Snapshot, snapshots: &Snapshots<'_>) -> Option<String> {
    if !matches!(which, Which::Newest { .. }) {
        return None;
    }
    let newer = snapshots
        .passed_over()
        .iter()
        .filter(|passed| passed.dataset == snapshot.info.dataset)
        .count();
    if newer > 0 {
        return Some(format!(
            "{} of {} can't be opened",
            format::count(newer as u64, "newer snapshot"),
            snapshot.info.name
        ));
    }
    match snapshot.freshness.grade {
        Grade::F1 | Grade::F2 => None,
        Grade::F3 => Some(format!(
            "there may be a newer snapshot of {}: {} of the {} sites that must answer did",
            snapshot.info.name, snapshot.freshness.answered, snapshot.freshness.needed
        )),
    }
}

fn none_opens(passed: &PassedOver, count: usize) -> Trouble {
    let what = format!("none of {} can be opened", format::count(count as u64, "snapshot"));
    let exit = match &passed.reason {
        Reason::Key(_) | Reason::Sealed(_) | Reason::Label | Reason::ForeignRun { .. } => Exit::Refused,
        Reason::Table(_) => Exit::Unrecoverable,
        Reason::Class { .. } => Exit::Failed,
    };
    Trouble::new(exit, what)
        .hint("is this one of the archive's recovery identities, and are enough of its sites given?")
        .source(passed.reason.clone())
}

/// Warnings about single objects that are printed.
const WARNINGS_MAX: usize = 20;

fn warn(troubles: &[SiteTrouble], archive: &Archive, survey: &Survey, world: &World) {
    let mut said: Vec<String> = troubles
        .iter()
        .chain(&survey.troubles)
        .map(ToString::to_string)
        .collect();
    said.extend(survey.problems.iter().map(ToString::to_string));
    said.sort();
    said.dedup();
    // A store that lists junk must not bury what matters.
    let more = said.len().saturating_sub(WARNINGS_MAX);
    for trouble in said.iter().take(WARNINGS_MAX) {
        world.output.note(format!("Warning: {}", format::plain(trouble)));
    }
    if more > 0 {
        world.output.note(format!("Warning: and {more} more of this kind"));
    }
    for finding in survey.charter_findings(archive) {
        let word = if finding.is_alarm() { "ALARM" } else { "Note" };
        world.output.note(format!("{word}: {finding}"));
    }
    for finding in &survey.findings {
        world
            .output
            .note(format!("ALARM: {}", crate::command::snapshots::finding(finding)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        assert_eq!(moment("1970-01-02T00:00:00Z"), Ok(86_400));
        let day = moment("2026-03-01").unwrap();
        assert_eq!(moment("2026-03-01T23:59:59").unwrap(), day);
        assert_eq!(moment("2026-03-02 00:00:00").unwrap(), day + 1);
        assert!(moment("yesterday").is_err());
    }
}
