//! `exclave audit`: do the sites still hold what they should? Needs no key and no secret.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use exclave_engine::{
    Archive,
    archive::SiteTrouble,
    audit::{
        self, Audit, AuditRequest, Mode,
        report::{report_of, seal_report},
    },
    survey::survey,
};
use exclave_model::{
    Anchor, DatasetId, RecordHash, Role,
    report::{AuditReport, Verdict},
};
use exclave_plan::audit::{Confidence, DamageFraction, Detection, Nonce};
use exclave_seal::SigningKey;
use exclave_site::{Limited, Limits, Site};
use serde::Serialize;

use super::{
    World,
    directory::{self, Directory},
    report::words,
};
use crate::{
    agent::{open_archive, patient},
    arguments::{IdentityArguments, PassphraseArguments, SiteArguments},
    clock,
    error::{Context as _, Trouble},
    exit::Exit,
    format, interrupt, keys,
    output::Report,
    private_file,
    progress::Shown,
    sites::{self, OpenSite},
    surroundings::{self, Edge, OsEntropy},
};

/// `audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: a machine that knows nothing but the anchor and two addresses
  exclave audit --archive HEX --site file:///mnt/a --site file:///mnt/b --mode sample --detect 1% --confidence 99%

Exit codes: 0 whole, 3 findings or too little shown, 4 something can't be restored, 5 two truths were signed, 6 there may be
a newer state.")]
pub struct Arguments {
    /// Only these datasets, by the first digits of their opaque ids; all without
    #[arg(value_name = "DATASET")]
    datasets: Vec<String>,
    /// How deep to look
    #[arg(long, value_enum, default_value_t = Depth::Sample)]
    mode: Depth,
    /// Damage that a sample must not miss, of each site's groups
    #[arg(long, value_name = "PERCENT", value_parser = damage, default_value = "1%")]
    detect: DamageFraction,
    /// How sure it must be not to
    #[arg(long, value_name = "PERCENT", value_parser = confidence, default_value = "99%")]
    confidence: Confidence,
    /// Choose the sample with this nonce, to repeat an audit; else it is drawn
    #[arg(long, value_name = "HEX")]
    nonce: Option<Nonce>,
    /// Only say how many bytes would be read where
    #[arg(long, conflicts_with_all = ["report", "key"])]
    dry_run: bool,
    /// Write the report to FILE, which must not be there
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Sign the report with this auditor's key; an unsigned one is believed by nobody
    #[arg(long, value_name = "FILE", requires = "report")]
    key: Option<PathBuf>,
    /// Show beside the ids what the sealed directory calls datasets. The names are for this screen alone: no report and no
    /// JSON has them
    #[arg(long)]
    directory: bool,
    #[command(flatten)]
    identity: IdentityArguments,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(flatten)]
    public: PublicArguments,
}

/// An archive that is looked at without a key.
#[derive(Debug, Args)]
pub struct PublicArguments {
    /// How long a site may take for one answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    deadline: u64,
    /// Move no more bytes from and to each site in a second, such as 4MiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    rate: Option<u64>,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
    /// Where the roots signed two charters of one number: the one that counts, by its digest
    #[arg(long, value_name = "DIGEST")]
    charter: Option<RecordHash>,
    #[command(flatten)]
    sites: SiteArguments,
}

/// How deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Depth {
    /// Charters, plates, heads, run tables, envelopes, ledgers, grants: every copy
    Heads,
    /// These, and random groups of 64 KiB of every site's shards
    Sample,
    /// These, and every shard, byte for byte
    Full,
    /// These, and every stripe computed again from k of its shards
    Deep,
}

/// A share in per cent, as parts of a million: `1%`, `0.1%`, `99.99 %`.
fn ppm(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no percentage; write 1% or 0.1%");
    let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || whole.len() > 3 || decimals.len() > 4 {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| wrong())?;
    Ok(whole * 10_000 + decimals)
}

fn damage(text: &str) -> Result<DamageFraction, String> {
    DamageFraction::from_ppm(ppm(text)?).map_err(|error| error.to_string())
}

fn confidence(text: &str) -> Result<Confidence, String> {
    Confidence::from_ppm(ppm(text)?).map_err(|error| error.to_string())
}

fn bytes(text: &str) -> Result<u64, String> {
    let count = exclave_site::ByteCount::try_from(text.to_owned()).map_err(|error| error.to_string())?;
    match count.0 {
        0 => Err("a rate of nothing reads nothing".to_owned()),
        count => Ok(count),
    }
}

impl Arguments {
    fn mode(&self) -> Result<Mode, Trouble> {
        Ok(match self.mode {
            Depth::Heads => Mode::Heads,
            Depth::Full => Mode::Full,
            Depth::Deep => Mode::Deep,
            Depth::Sample => {
                let detection = Detection {
                    damage: self.detect,
                    confidence: self.confidence,
                };
                if !detection.is_affordable() {
                    return Err(Trouble::usage("such a sample has more groups than any sample may have")
                        .hint("read everything: --mode full"));
                }
                Mode::Sample(detection)
            }
        })
    }

    fn nonce(&self) -> Result<Nonce, Trouble> {
        match self.nonce {
            Some(nonce) => Ok(nonce),
            None => exclave_seal::entropy::draw::<32>(&mut OsEntropy)
                .map(Nonce::from_bytes)
                .because(|| Trouble::failed("no nonce could be drawn")),
        }
    }
}

/// Runs it.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    let (mode, nonce) = (arguments.mode()?, arguments.nonce()?);
    if let Some(path) = arguments.report.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
        return Err(Trouble::usage(format!("{} is there already", path.display()))
            .hint("a report is never written over; name another file"));
    }
    let (edge, archive, troubles) = arguments.public.open(world)?;
    // Before hours of reading: nobody should find out at the end that he may not sign.
    let auditor = auditor(arguments, &archive, world)?;
    let names = names(arguments, &archive, &edge, world)?;
    let survey = survey(&archive, &edge.surroundings)
        .because(|| Trouble::failed(format!("archive {} can't be read", archive.anchor)))?;
    for trouble in &survey.troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    let request = AuditRequest {
        mode,
        datasets: datasets(&arguments.datasets, &survey.heads.datasets())?,
        nonce,
        deadline: arguments.public.deadline(),
        forecast_only: arguments.dry_run,
        troubles: AuditRequest::troubles_of(&troubles),
    };
    let shown = Shown::begin(&world.output, &edge.surroundings.progress, "auditing");
    let audit = audit::audit(&archive, &survey, &request, &edge.surroundings);
    drop(shown);
    if arguments.dry_run {
        world.output.report(&Forecast::of(&audit))?;
        return Ok(interrupted(&audit));
    }
    let report = report_of(&audit, &archive, env!("CARGO_PKG_VERSION"), &edge.surroundings).ok_or_else(|| {
        Trouble::failed("the charter could not be read again for the report")
            .hint("a site stopped answering; try again")
    })?;
    if let Some(path) = &arguments.report {
        let sealed = seal_report(report.clone(), auditor.as_ref(), &edge.surroundings);
        let sealed = sealed.because(|| Trouble::failed("no report could be made"))?;
        private_file::create(path, sealed, "report")?;
        if auditor.is_none() {
            world
                .output
                .note("The report is unsigned: nobody has to believe it. Sign it with --key.");
        }
    }
    world.output.report(&Told(&report, names))?;
    Ok(exit_of(report.verdict).and(interrupted(&audit)))
}

impl PublicArguments {
    /// How long a site may take for one answer.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline)
    }

    /// The archive's anchor.
    pub fn anchor(&self, world: &World) -> Result<Anchor, Trouble> {
        let known = self.archive.or(world.config()?.archive);
        known.ok_or_else(|| {
            Trouble::usage("nothing says which archive it is")
                .hint("give --archive HEX: `init` printed it, and custodians' cards carry it")
        })
    }

    /// The archive, with no other secret than what the stores ask for.
    pub fn open(&self, world: &World) -> Result<(Edge, Archive, Vec<SiteTrouble>), Trouble> {
        let (edge, archive, troubles, ()) = self.open_with(world, |_| ())?;
        Ok((edge, archive, troubles))
    }

    /// The same, and what `powers` makes of the sites as they were opened, which stand in the archive's order.
    pub fn open_with<T>(
        &self,
        world: &World,
        powers: impl FnOnce(&[OpenSite]) -> T,
    ) -> Result<(Edge, Archive, Vec<SiteTrouble>, T), Trouble> {
        let config = world.config()?;
        let anchor = self.anchor(world)?;
        let chosen = sites::choose(&self.sites.wanted(), &config)?;
        let open = sites::open_all(chosen, &world.environment)?;
        let powers = powers(&open);
        let edge = Edge::start(config.threads)?;
        interrupt::listen(&edge)?;
        let slowed = |site: Arc<dyn Site>| -> Arc<dyn Site> {
            match self.rate {
                None => site,
                Some(rate) => Arc::new(Limited::new(
                    site,
                    &Limits {
                        requests_in_flight_max: u32::MAX,
                        upload_per_second_max: Some(rate),
                        download_per_second_max: Some(rate),
                    },
                )),
            }
        };
        let stores = open
            .into_iter()
            .map(|site| (site.config.name.clone(), slowed(patient(site))));
        let (archive, troubles) = open_archive(anchor, stores.collect(), self.charter, &edge)?;
        for trouble in &troubles {
            world
                .output
                .note(format!("Warning: {}", format::plain(&trouble.to_string())));
        }
        if let Some(doubt) = clock::doubt(&archive, &edge) {
            world.output.note(format!("Warning: {doubt}"));
        }
        Ok((edge, archive, troubles, powers))
    }
}

/// What the directory calls datasets, when the auditor is one of its recipients.
fn names(arguments: &Arguments, archive: &Archive, edge: &Edge, world: &World) -> Result<Option<Directory>, Trouble> {
    if !arguments.directory {
        return match arguments.identity.is_empty() {
            true => Ok(None),
            false => Err(Trouble::usage(
                "an audit opens nothing; an identity is for the directory alone: --directory",
            )),
        };
    }
    let sets = archive.charter().share_sets();
    let opened = keys::open(&arguments.identity, None, sets, &arguments.passphrase.source(), world)?;
    let opened = opened.ok_or_else(|| {
        Trouble::usage("the directory is sealed").hint("open it: --identity FILE, or --share FILE ..")
    })?;
    let directory = directory::open_at_sites(archive, &opened.identity, edge)?;
    directory
        .map(Some)
        .ok_or_else(|| Trouble::usage("the sites show no directory"))
}

fn auditor(arguments: &Arguments, archive: &Archive, world: &World) -> Result<Option<SigningKey>, Trouble> {
    let Some(path) = &arguments.key else { return Ok(None) };
    let key = keys::open_signing(path, Role::Auditor, &arguments.passphrase.source(), world)?;
    match archive.charter().permit(key.id(), exclave_model::Act::Report) {
        Ok(()) => Ok(Some(key)),
        Err(rule) => Err(
            Trouble::new(Exit::Refused, format!("{} may not sign reports", path.display()))
                .hint("the charter has to name it as a member with the role auditor: `exclave charter new`")
                .source(std::io::Error::other(rule.to_string())),
        ),
    }
}

/// The datasets whose ids begin so.
pub fn datasets(
    wanted: &[String],
    known: &std::collections::BTreeSet<DatasetId>,
) -> Result<Option<std::collections::BTreeSet<DatasetId>>, Trouble> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let one = |prefix: &String| {
        let prefix = prefix.to_ascii_lowercase();
        let found: Vec<DatasetId> = known
            .iter()
            .copied()
            .filter(|id| id.to_hex().starts_with(&prefix))
            .collect();
        match found.as_slice() {
            [one] => Ok(*one),
            several => Err(Trouble::usage(format!(
                "{} datasets have an id that begins with {prefix:?}",
                several.len()
            ))
            .hint("an auditor sees no names; `exclave audit --mode heads --json` lists the ids")),
        }
    };
    wanted.iter().map(one).collect::<Result<_, _>>().map(Some)
}

/// The code of a verdict (DESIGN section 9). What was not shown is no success, and no loss either.
pub fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Whole => Exit::Done,
        Verdict::Findings | Verdict::Unproven => Exit::Findings,
        Verdict::Stale => Exit::Stale,
        Verdict::Unrecoverable => Exit::Unrecoverable,
        Verdict::Disputed => Exit::Refused,
    }
}

fn interrupted(audit: &Audit) -> Exit {
    match audit.interrupted {
        true => Exit::Interrupted,
        false => Exit::Done,
    }
}

/// The report, as it is printed.
#[derive(Serialize)]
#[serde(transparent)]
struct Told<'a>(&'a AuditReport, #[serde(skip)] Option<Directory>);

impl Report for Told<'_> {
    fn text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        out.write_all(words::whole(self.0, self.1.as_ref()).as_bytes())
    }
}

/// What an audit would read.
#[derive(Serialize)]
struct Forecast {
    mode: &'static str,
    stripes: u64,
    sites: Vec<ForecastSite>,
}

#[derive(Serialize)]
struct ForecastSite {
    name: String,
    present: bool,
    shards: u64,
    bytes: u64,
}

impl Forecast {
    fn of(audit: &Audit) -> Self {
        let sites = audit.sites.iter().map(|site| ForecastSite {
            name: site.name.clone(),
            present: site.present,
            shards: site.shards_expected,
            bytes: site.bytes_forecast,
        });
        Self {
            mode: audit.mode.as_str(),
            stripes: audit.stripes,
            sites: sites.collect(),
        }
    }
}

impl Report for Forecast {
    fn text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        writeln!(
            out,
            "An audit of mode {} would read of shards, beside the small records:",
            self.mode
        )?;
        let rows = self.sites.iter().map(|site| {
            vec![
                site.name.clone(),
                site.shards.to_string(),
                format::bytes(site.bytes),
                if site.present { "" } else { "no store shows its plate" }.to_owned(),
            ]
        });
        let columns = [
            crate::output::words("SITE"),
            crate::output::figures("SHARDS"),
            crate::output::figures("TO READ"),
            crate::output::words(""),
        ];
        write!(out, "{}", crate::output::aligned(&columns, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_exactly() {
        for (text, expected) in [
            ("1%", 10_000),
            ("0.1%", 1_000),
            ("99.99 %", 999_900),
            ("100%", 1_000_000),
            ("0.0001%", 1),
        ] {
            assert_eq!(ppm(text), Ok(expected), "{text}");
        }
        for bad in ["1", "0,1%", "%", ".%", "1e2%", "-1%", "1.00001%", "1000%", "1.%"] {
            assert!(ppm(bad).is_err(), "{bad}");
        }
        assert!(damage("0%").is_err() && damage("101%").is_err() && confidence("100%").is_err());
    }
}
