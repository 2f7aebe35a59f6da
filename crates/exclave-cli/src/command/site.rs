//! `exclave site list|check|adopt`: which sites there are, what they are fit for, and how one is taken back.
//!
//! What a check finds about create-only puts is remembered with the agent's state: `replicate` uses them where they are
//! honoured.

mod adopt;
mod plates;

use std::{
    io::{self, Write},
    time::Instant,
};

use clap::{Args, Subcommand};
use exclave_engine::{AgentState, StateError};
use exclave_site::{
    Class, LockMode, ObjectLock, ProbeInputs, ProbeReport, Versioning,
    probe::{CreateOnly, Finding, Kept, Power},
};
use futures::future::join_all;
use jiff::Timestamp;
use serde::Serialize;

use super::World;
use crate::{
    config::{Config, SiteConfig},
    error::{self, Context as _, Trouble},
    exit::Exit,
    format,
    output::{Form, Output, Report, aligned, figures, words},
    probed::Probed,
    sites::{self, OpenSite, Wanted},
    surroundings::{Edge, OsEntropy},
};

/// A site's clock that is further off than this is worth a word: cosignatures and locks go by days, TLS by minutes.
const CLOCK_SKEW_SECONDS_MAX: u64 = 300;

/// `site ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the sites of the configuration
    List,
    /// Find out what sites can do, what our credentials may do there, and how fast they are
    Check(Check),
    /// Take a store that lost everything back under its site: sign its plate anew
    Adopt(adopt::Adopt),
}

/// `site check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Sites by name or URL; all of the configuration when none is given
    #[arg(value_name = "NAME|URL")]
    sites: Vec<String>,
    /// Read settings and credentials by URL from FILE (TOML, mode 0600)
    #[arg(long, value_name = "FILE")]
    credentials: Option<std::path::PathBuf>,
    /// Take a bucket that keeps or locks less than it did for what it is now; without it, that is told at every check
    #[arg(long)]
    accept_drift: bool,
    /// Do not try to delete; what the check wrote stays there then, and unfinished files of killed puts
    #[arg(long)]
    keep: bool,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    match command {
        Command::List => list(world),
        Command::Check(arguments) => check(arguments, world),
        Command::Adopt(arguments) => adopt::run(arguments, world),
    }
}

fn list(world: &mut World) -> Result<Exit, Trouble> {
    let config = world.config()?;
    let sites = sites::choose(&Wanted::default(), &config)?;
    let state = config.state_dir(&world.environment);
    let mut listed = Vec::new();
    for site in &sites {
        // A list of sites is no place to complain about what a check will write again; `replicate` does.
        let probed = Probed::recall(&state, site).ok().flatten();
        listed.push(Listed::of(site, probed));
    }
    let columns = [
        "NAME",
        "ADDRESS",
        "HOSTING",
        "PACE",
        "COUNTRY",
        "OPERATOR",
        "CREATE-ONLY",
        "CREDENTIALS",
    ]
    .map(words);
    world.output.table(&columns, &listed, |site| {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            site.name.clone(),
            site.address.clone(),
            site.hosting.to_owned(),
            site.pace.to_owned(),
            or_dash(&site.country),
            or_dash(&site.operator),
            site.probed
                .as_ref()
                .map_or_else(|| "-".to_owned(), |probed| create_only(&probed.create_only)),
            site.credentials.clone(),
        ]
    })?;
    Ok(Exit::Done)
}

/// A site of the configuration.
#[derive(Serialize)]
struct Listed {
    name: String,
    address: String,
    hosting: &'static str,
    pace: &'static str,
    country: Option<String>,
    region: Option<String>,
    operator: Option<String>,
    legal_reach: Vec<String>,
    iam_realm: Option<String>,
    /// What the last check found.
    probed: Option<Probed>,
    /// Where credentials come from; never what they are.
    credentials: String,
}

impl Listed {
    fn of(site: &SiteConfig, probed: Option<Probed>) -> Self {
        let credentials = match site.needs_credentials() {
            true => site.credentials.to_string(),
            false => "-".to_owned(),
        };
        let domains = site.domains.clone();
        Self {
            name: site.name.clone(),
            address: site.address.to_string(),
            hosting: site.hosting.as_str(),
            pace: site.pace.as_str(),
            country: domains.country,
            region: domains.region,
            operator: domains.operator,
            legal_reach: domains.legal_reach,
            iam_realm: domains.iam_realm,
            probed,
            credentials,
        }
    }
}

fn check(arguments: &Check, world: &mut World) -> Result<Exit, Trouble> {
    let config = world.config()?;
    let wanted = Wanted {
        arguments: &arguments.sites,
        credentials: arguments.credentials.as_deref(),
    };
    let open = sites::open_all(sites::choose(&wanted, &config)?, &world.environment)?;
    let state = agent_state(&config, world)?;
    let edge = Edge::start(config.threads)?;
    let now = edge.surroundings.clock.now_unix_seconds();
    let start = Instant::now();
    let probes = open.iter().map(|site| probe(site, start, !arguments.keep));
    let reports = edge.block_on(join_all(probes));
    let swept = match arguments.keep {
        true => Vec::new(),
        false => edge.block_on(join_all(open.iter().map(sweep))),
    };
    let mut plates = plates::of(&open, &config, world, &edge)?;
    let mut checked = Vec::new();
    for (at, (site, report)) in open.iter().zip(reports).enumerate() {
        let report = report?;
        let drift = match &state {
            Some(state) => remember(
                state,
                &site.config,
                &report,
                (now, arguments.accept_drift),
                &world.output,
            ),
            None => Vec::new(),
        };
        let mut site = Checked::of(&site.config.name, report, now);
        site.drifted(drift);
        if let Some(plate) = plates.remove(&site.name) {
            site.take(plate);
        }
        site.leftovers_removed = swept.get(at).copied().unwrap_or_default();
        checked.push(site);
    }
    match world.output.form() {
        // Listings are JSON lines.
        Form::Json => checked.iter().try_for_each(|site| world.output.item(site))?,
        Form::Text => world.output.report(&Page(&checked))?,
    }
    world.output.finish()?;
    let unfit = checked.iter().any(|site| {
        matches!(site.verdict, Verdict::Unfit | Verdict::Unreachable) || site.plate_is_wrong() || site.has_drifted
    });
    Ok(if unfit { Exit::Findings } else { Exit::Done })
}

/// The agent's state folder, where there is one: before `init` sites are checked without.
fn agent_state(config: &Config, world: &World) -> Result<Option<AgentState>, Trouble> {
    let folder = config.state_dir(&world.environment);
    match AgentState::open(&folder) {
        Ok(state) => Ok(Some(state)),
        Err(StateError::NotSetUp(_)) => Ok(None),
        Err(error) => {
            let what = format!("the agent's state in {} can't be opened", folder.display());
            Err(Trouble::failed(what).source(error))
        }
    }
}

/// Keeps what decides how `replicate` puts, and what the bucket promises; returns in what it promises less than before. A check
/// that can't be remembered is a check all the same.
fn remember(
    state: &AgentState,
    site: &SiteConfig,
    report: &ProbeReport,
    (now, accepts_drift): (i64, bool),
    output: &Output,
) -> Vec<String> {
    // What can't be recalled is written anew.
    let before = Probed::recall(state.folder(), site).ok().flatten();
    let drift = before.as_ref().map_or_else(Vec::new, |before| before.drift(report));
    let Finding::Known(found) = &report.create_only else {
        return drift;
    };
    let kept = Timestamp::from_second(now)
        .because(|| Trouble::failed("the clock is out of range"))
        .and_then(|now| {
            let probed = Probed::new(site, *found, now).keeping(report, before.as_ref());
            let probed = match before.as_ref().filter(|_| !drift.is_empty() && !accepts_drift) {
                Some(before) => probed.holding_to(before),
                None => probed,
            };
            probed.remember(state.folder())
        });
    if let Err(trouble) = kept {
        output.note(format!("Warning: {}", format::plain(&error::chain(&trouble))));
    }
    match accepts_drift {
        true => Vec::new(),
        false => drift,
    }
}

async fn probe(site: &OpenSite, start: Instant, may_delete: bool) -> Result<ProbeReport, Trouble> {
    let failed = || Trouble::failed(format!("{} can't be checked", site.config.name));
    let nonce = exclave_seal::entropy::draw(&mut OsEntropy).because(failed)?;
    let destroy = may_delete.then(|| exclave_site::open_destroy(&site.config.address, &site.settings));
    let destroy = destroy.transpose().because(failed)?;
    let retention = exclave_site::open_retention(&site.config.address, &site.settings).because(failed)?;
    let inputs = ProbeInputs {
        nonce,
        elapsed: &|| start.elapsed(),
        destroy: destroy.as_deref(),
        retention: Some(&*retention),
    };
    Ok(exclave_site::probe(&*site.site, &inputs).await)
}

/// Removes what killed puts left there; nothing where we may not delete, or the site does not answer: the probe tells that.
async fn sweep(site: &OpenSite) -> u64 {
    match exclave_site::open_destroy(&site.config.address, &site.settings) {
        Ok(destroy) => destroy.sweep().await.unwrap_or_default(),
        Err(_) => 0,
    }
}

/// What a site may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// Everything works, and our credentials can neither overwrite nor delete.
    Good,
    /// Everything needed works; see the remarks.
    Usable,
    /// Something that every site needs does not work.
    Unfit,
    /// It did not answer.
    Unreachable,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Usable => "usable",
            Self::Unfit => "unfit",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What was learned about one site, and what follows.
#[derive(Serialize)]
struct Checked {
    name: String,
    verdict: Verdict,
    fit_for: Vec<&'static str>,
    /// What its plate says, where an archive is known and the site is one of its own.
    plate: Option<plates::Shown>,
    /// Files of puts that were killed a day ago or longer; they are gone now.
    leftovers_removed: u64,
    /// True when its bucket keeps or locks less than it did at a check before; the remarks say in what.
    has_drifted: bool,
    remarks: Vec<String>,
    probe: ProbeReport,
}

impl Checked {
    /// Adds in what its bucket promises less than before.
    fn drifted(&mut self, drift: Vec<String>) {
        self.has_drifted = !drift.is_empty();
        if self.has_drifted && self.verdict == Verdict::Good {
            self.verdict = Verdict::Usable;
        }
        let told = drift
            .into_iter()
            .map(|drift| format!("ALARM: {drift}; if that was meant: site check --accept-drift"));
        self.remarks.extend(told);
    }

    /// Adds what the site's plate says.
    fn take(&mut self, found: plates::Found) {
        self.plate = Some(found.shown);
        self.remarks.extend(found.remark);
        if self.verdict == Verdict::Good && self.plate_is_wrong() {
            self.verdict = Verdict::Usable;
        }
    }

    fn plate_is_wrong(&self) -> bool {
        self.plate
            .is_some_and(|plate| plate != plates::Shown::Its && plate != plates::Shown::Unread)
    }

    fn of(name: &str, probe: ProbeReport, now: i64) -> Self {
        let right = |finding: &Finding<Kept>| *finding == Finding::Known(Kept::Right);
        let (stores, ranges, lists) = (right(&probe.put_and_get), right(&probe.ranges), right(&probe.listing));
        let mut fit_for = Vec::new();
        if stores {
            fit_for.push("shards");
        }
        // Readers find heads, charters and shards of a lost ledger by listing.
        if stores && lists {
            fit_for.push("heads");
        }
        if stores && ranges {
            fit_for.push("sampled audits");
        }
        let remarks = remarks(&probe, now);
        let verdict = match &probe.put_and_get {
            Finding::Failed {
                class: Class::Slow | Class::Unreachable | Class::Missing,
                ..
            } => Verdict::Unreachable,
            _ if !(stores && ranges && lists) => Verdict::Unfit,
            _ if remarks.is_empty() => Verdict::Good,
            _ => Verdict::Usable,
        };
        Self {
            name: name.to_owned(),
            verdict,
            fit_for,
            plate: None,
            leftovers_removed: 0,
            has_drifted: false,
            remarks,
            probe,
        }
    }
}

fn remarks(probe: &ProbeReport, now: i64) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut remark = |text: &str| remarks.push(text.to_owned());
    if let Finding::Failed { error, .. } = &probe.put_and_get {
        // The rest fails for the same reason.
        remark(error);
        return remarks;
    }
    match &probe.put_and_get {
        Finding::Known(Kept::Wrong) => remark("other bytes came back than were put"),
        Finding::Known(Kept::Right) | Finding::Unknown | Finding::Failed { .. } => {}
    }
    for (finding, text) in [
        (&probe.ranges, "ranged reads give wrong bytes"),
        (&probe.listing, "a listing does not show what was just put"),
    ] {
        match finding {
            Finding::Known(Kept::Wrong) => remark(text),
            Finding::Failed { error, .. } => remark(error),
            Finding::Known(Kept::Right) | Finding::Unknown => {}
        }
    }
    match &probe.create_only {
        Finding::Known(CreateOnly::SilentlyOverwrites) => {
            remark("create-only puts overwrite and claim success; every put is read back");
        }
        Finding::Known(CreateOnly::Unsupported) => remark("create-only puts are not supported; plain ones are used"),
        Finding::Known(CreateOnly::Broken) => remark("create-only puts do something else; every put is read back"),
        Finding::Failed { error, .. } => remark(error),
        Finding::Known(CreateOnly::Honoured) | Finding::Unknown => {}
    }
    let powers = match (&probe.overwrite, &probe.delete) {
        (Finding::Known(Power::Can), Finding::Known(Power::Can)) => Some("overwrite and delete"),
        (Finding::Known(Power::Can), _) => Some("overwrite"),
        (_, Finding::Known(Power::Can)) => Some("delete"),
        _ => None,
    };
    if let Some(powers) = powers {
        let what_is_left = what_a_thief_leaves(probe);
        remark(&format!(
            "our credentials can {powers}; whoever steals them can too{what_is_left}"
        ));
    }
    if let (Finding::Known(ObjectLock::ByDefault { days, .. }), Finding::Known(locked)) =
        (&probe.object_lock, &probe.put_is_locked)
    {
        // A day for clocks, and for buckets that count whole days.
        let wanted = probe
            .date
            .unwrap_or(now)
            .saturating_add((i64::from(*days) - 1) * 86_400);
        match locked {
            None => remark("its bucket says that it locks what is put, and what was just put is not locked"),
            Some(locked) if locked.until < wanted => {
                remark("what was just put is locked for less than its bucket says")
            }
            Some(_) => {}
        }
    }
    if let Some(date) = probe.date.filter(|date| date.abs_diff(now) > CLOCK_SKEW_SECONDS_MAX) {
        let away = std::time::Duration::from_secs(date.abs_diff(now));
        remarks.push(format!("its clock and ours are {} apart", format::span(away)));
    }
    remarks
}

/// What stands between stolen credentials and the data, as far as the bucket says.
fn what_a_thief_leaves(probe: &ProbeReport) -> &'static str {
    match (&probe.versioning, &probe.object_lock) {
        (
            _,
            Finding::Known(ObjectLock::ByDefault {
                mode: LockMode::Compliance,
                ..
            }),
        ) => ", but the versions beneath are locked",
        (
            _,
            Finding::Known(ObjectLock::ByDefault {
                mode: LockMode::Governance,
                ..
            }),
        ) => ", but the versions beneath are locked for all who lack the right to lift that",
        (_, Finding::Known(ObjectLock::Policy)) => ", unless the policy that lies on it forbids that",
        (Finding::Known(Versioning::Enabled), _) => {
            "; the versions beneath stay for as long as they may not delete those as well"
        }
        (Finding::Known(Versioning::Suspended | Versioning::Off), _) => ", and nothing is kept of what was there",
        (Finding::Unknown | Finding::Failed { .. }, _) => ", unless versions are kept",
    }
}

/// All sites for people: a table, then what to know about each.
struct Page<'a>(&'a [Checked]);

impl Serialize for Page<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl Report for Page<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = [
            words("SITE"),
            words("VERDICT"),
            words("STORES"),
            words("RANGES"),
            words("LISTS"),
            words("CREATE-ONLY"),
            words("OVERWRITE"),
            words("DELETE"),
            figures("ROUND TRIP"),
            figures("UP"),
            figures("DOWN"),
        ];
        write!(out, "{}", aligned(&columns, self.0.iter().map(row)))?;
        for site in self.0 {
            let fit_for = if site.fit_for.is_empty() {
                "nothing".to_owned()
            } else {
                site.fit_for.join(", ")
            };
            writeln!(out, "\n{} ({})\n  fit for {fit_for}", site.name, site.probe.site)?;
            if site.verdict != Verdict::Unreachable {
                let (versions, lock) = (told(&site.probe.versioning), told(&site.probe.object_lock));
                writeln!(out, "  older versions: {versions}; object lock: {lock}")?;
            }
            if site.leftovers_removed > 0 {
                let files = format::count(site.leftovers_removed, "unfinished file");
                writeln!(out, "  removed {files} of puts that were killed")?;
            }
            for remark in &site.remarks {
                writeln!(out, "  {}", format::plain(remark))?;
            }
        }
        Ok(())
    }
}

impl Report for Checked {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        Page(std::slice::from_ref(self)).text(out)
    }
}

fn row(site: &Checked) -> Vec<String> {
    let probe = &site.probe;
    let rate = |rate: &u64| format!("{}/s", format::bytes(*rate));
    vec![
        site.name.clone(),
        site.verdict.as_str().to_owned(),
        cell(&probe.put_and_get, kept),
        cell(&probe.ranges, kept),
        cell(&probe.listing, kept),
        cell(&probe.create_only, create_only),
        cell(&probe.overwrite, power),
        cell(&probe.delete, power),
        cell(&probe.round_trip_us, |us| format!("{:.1} ms", *us as f64 / 1000.0)),
        cell(&probe.upload_bytes_per_second, rate),
        cell(&probe.download_bytes_per_second, rate),
    ]
}

fn cell<T>(finding: &Finding<T>, known: impl Fn(&T) -> String) -> String {
    match finding {
        Finding::Known(value) => known(value),
        Finding::Failed { .. } => "failed".to_owned(),
        Finding::Unknown => "-".to_owned(),
    }
}

/// A bucket's word in a sentence.
fn told<T: std::fmt::Display>(finding: &Finding<T>) -> String {
    match finding {
        Finding::Known(value) => value.to_string(),
        Finding::Failed { class, .. } => match class {
            Class::Unsupported => "can't be asked".to_owned(),
            Class::Denied => "we may not ask".to_owned(),
            class => format!("asking failed ({})", class.as_str()),
        },
        Finding::Unknown => "unknown".to_owned(),
    }
}

fn kept(found: &Kept) -> String {
    match found {
        Kept::Right => "yes".to_owned(),
        Kept::Wrong => "wrongly".to_owned(),
    }
}

fn create_only(found: &CreateOnly) -> String {
    match found {
        CreateOnly::Honoured => "honoured",
        CreateOnly::SilentlyOverwrites => "ignored",
        CreateOnly::Unsupported => "unsupported",
        CreateOnly::Broken => "broken",
    }
    .to_owned()
}

fn power(found: &Power) -> String {
    match found {
        Power::Can => "can".to_owned(),
        Power::Cannot => "cannot".to_owned(),
        Power::SaidSoOnly => "pretended".to_owned(),
    }
}
