//! `exclave report ..`: whether an audit's report is to be believed, and what it says. Nothing here asks a site.

mod compare;
mod html;
pub mod words;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use exclave_engine::{
    archive::history,
    audit::report::{Unbelievable, VerifiedReport, verify_report},
    witness::backdated,
};
use exclave_log::{SignedCheckpoint, note::NOTE_BYTES_MAX};
use exclave_model::{
    Anchor, CharterFile, Charters,
    charter::CHARTER_FILE_BYTES_MAX,
    dsse::DSSE_BYTES_MAX,
    report::{AuditReport, Verdict},
};
use serde::Serialize;

use super::{
    World,
    audit::exit_of,
    directory::{self, Directory},
};
use crate::{
    arguments::{IdentityArguments, PassphraseArguments},
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    output::Report,
    private_file,
    surroundings::{self, SystemClock},
};

/// `report ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a report: who signed it, whether he may, and all of its arithmetic
    Verify(Verify),
    /// Show a report, the plain page first
    Show(Show),
    /// Write a report as one self-contained page for a browser or a printer
    Html(Html),
    /// Show what changed from one report to a later one
    Diff(Diff),
}

/// How a report is believed.
#[derive(Debug, Args)]
pub struct Belief {
    /// The archive's anchor, from paper; without it the report is taken to be about the archive of the configuration
    #[arg(long, value_name = "HEX")]
    anchor: Option<Anchor>,
    /// A charter file with a later version, which may have revoked the auditor
    #[arg(long, value_name = "FILE")]
    charter: Option<PathBuf>,
    /// Take a report that nobody signed
    #[arg(long)]
    unsigned: bool,
}

/// `report verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The report
    file: PathBuf,
    /// Refuse a report that says it is older than this cosigned checkpoint shows; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    #[command(flatten)]
    belief: Belief,
}

/// `report show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The report
    file: PathBuf,
    #[command(flatten)]
    belief: Belief,
}

/// `report html`.
#[derive(Debug, Args)]
pub struct Html {
    /// The report
    file: PathBuf,
    /// Write the page to FILE, which must not be there
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write beside the ids what the sealed directory in FILE (`exclave directory show --out FILE`) calls datasets: the page
    /// is then as secret as that
    #[arg(long, value_name = "FILE")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    identity: IdentityArguments,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    #[command(flatten)]
    belief: Belief,
}

/// What a directory calls datasets, judged by the charters that the report carries.
fn names(arguments: &Html, verified: &VerifiedReport, world: &World) -> Result<Option<Directory>, Trouble> {
    let Some(path) = &arguments.directory else {
        return Ok(None);
    };
    let sets = verified.charters.newest().share_sets();
    let opened = keys::open(&arguments.identity, None, sets, &arguments.passphrase.source(), world)?;
    let opened = opened.ok_or_else(|| {
        Trouble::usage("the directory is sealed").hint("open it: --identity FILE, or --share FILE ..")
    })?;
    directory::open_file(path, &verified.charters, &opened.identity).map(Some)
}

/// `report diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The earlier report
    before: PathBuf,
    /// The later one
    after: PathBuf,
    #[command(flatten)]
    belief: Belief,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    match command {
        Command::Verify(arguments) => {
            let verified = believed(&arguments.file, &arguments.belief, world)?;
            for path in &arguments.checkpoint {
                not_backdated(&verified, path)?;
            }
            world.output.report(&Verified::of(&verified))?;
            Ok(Exit::Done)
        }
        Command::Show(arguments) => {
            let verified = believed(&arguments.file, &arguments.belief, world)?;
            world.output.report(&Shown(&verified.report))?;
            Ok(Exit::Done)
        }
        Command::Html(arguments) => {
            let verified = believed(&arguments.file, &arguments.belief, world)?;
            let names = names(arguments, &verified, world)?;
            private_file::create(&arguments.out, html::page(&verified, names.as_ref()), "page")?;
            Ok(Exit::Done)
        }
        Command::Diff(arguments) => {
            let before = believed(&arguments.before, &arguments.belief, world)?;
            let after = believed(&arguments.after, &arguments.belief, world)?;
            let compared = compare::compare(&before.report, &after.report)?;
            let exit = match compared.is_worse() {
                true => Exit::Findings,
                false => Exit::Done,
            };
            world.output.report(&compared)?;
            Ok(exit)
        }
    }
}

/// Reads a report and verifies it; one that isn't to be believed is not shown at all.
fn believed(path: &Path, belief: &Belief, world: &World) -> Result<VerifiedReport, Trouble> {
    let bytes = private_file::read_public(path, DSSE_BYTES_MAX, "report")?;
    let newer = belief.charter.as_deref().map(charters).transpose()?;
    let anchor = belief.anchor.or(world.config()?.archive);
    let anchor = anchor.or(newer.as_ref().map(Charters::anchor)).ok_or_else(|| {
        Trouble::usage("nothing says which archive the report should be about")
            .hint("give --anchor HEX, from a card or another paper: a report that names its own proves nothing")
    })?;
    verify_report(&bytes, Some(anchor), newer.as_ref(), belief.unsigned).map_err(|error| {
        let what = format!("{} is not to be believed", path.display());
        let trouble = match &error {
            Unbelievable::Envelope(_) | Unbelievable::Payload(_) | Unbelievable::Report(_) => Trouble::usage(what),
            Unbelievable::Unsigned => Trouble::new(Exit::Refused, what).hint("--unsigned shows it all the same"),
            Unbelievable::Archive { .. }
            | Unbelievable::Charter
            | Unbelievable::NotAnAuditor { .. }
            | Unbelievable::Signature(_)
            | Unbelievable::Inconsistent(_) => Trouble::new(Exit::Refused, what),
        };
        trouble.source(error)
    })
}

/// Refuses a report that can't be as old as it says.
fn not_backdated(verified: &VerifiedReport, path: &Path) -> Result<(), Trouble> {
    let bytes = private_file::read_public(path, NOTE_BYTES_MAX, "checkpoint")?;
    let checkpoint =
        SignedCheckpoint::parse(&bytes).because(|| Trouble::usage(format!("{} is no checkpoint", path.display())))?;
    match backdated(&verified.report, &verified.charters, &checkpoint) {
        None => Ok(()),
        Some(found) => Err(Trouble::new(Exit::Refused, "the report is backdated").source(found)),
    }
}

/// The charters of a file, verified from its own first version on; whose they are is compared with the report.
fn charters(path: &Path) -> Result<Charters, Trouble> {
    let bytes = private_file::read_public(path, CHARTER_FILE_BYTES_MAX, "charter file")?;
    let file =
        CharterFile::from_bytes(&bytes).because(|| Trouble::usage(format!("{} is of no use", path.display())))?;
    let first = file
        .charters
        .first()
        .map(|first| Anchor::from_bytes(*first.record_hash().as_bytes()));
    let found = first.and_then(|anchor| history(anchor, &file.charters, None));
    found.map(|(charters, _)| charters).ok_or_else(|| {
        Trouble::new(
            Exit::Refused,
            format!("{} holds no charter that enough roots signed", path.display()),
        )
    })
}

/// The report itself.
#[derive(Serialize)]
struct Shown<'a>(&'a AuditReport);

impl Report for Shown<'_> {
    fn text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        out.write_all(words::whole(self.0, None).as_bytes())
    }
}

/// What `verify` says.
#[derive(Serialize)]
struct Verified {
    archive: String,
    auditor: Option<String>,
    charter_version: u32,
    mode: &'static str,
    verdict: Verdict,
    /// The code that the audit ended with.
    audit_exit: u8,
    started: String,
    finished: String,
    age_seconds: i64,
    nonce: String,
}

impl Verified {
    fn of(verified: &VerifiedReport) -> Self {
        let report = &verified.report;
        let now = exclave_engine::Clock::now_unix_seconds(&SystemClock);
        Self {
            archive: report.archive.to_hex(),
            auditor: verified.auditor.map(|auditor| auditor.to_hex()),
            charter_version: report.charter.version,
            mode: report.audit.mode.as_str(),
            verdict: report.verdict,
            audit_exit: exit_of(report.verdict).code(),
            started: format::rfc3339(report.audit.started),
            finished: format::rfc3339(report.audit.finished),
            age_seconds: now.saturating_sub(report.audit.finished),
            nonce: report.seed.nonce.to_hex(),
        }
    }
}

impl Report for Verified {
    fn text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        match &self.auditor {
            Some(auditor) => writeln!(
                out,
                "signed by auditor {auditor} of charter version {}: both signatures verify",
                self.charter_version
            )?,
            None => writeln!(out, "UNSIGNED: nobody vouches for it; its arithmetic is right")?,
        }
        writeln!(out, "about archive {}", self.archive)?;
        writeln!(out, "mode {}, verdict {}", self.mode, self.verdict)?;
        let age = match u64::try_from(self.age_seconds) {
            Ok(age) => format!(
                "{} old by this machine's clock",
                format::span(std::time::Duration::from_secs(age))
            ),
            Err(_) => "from the future by this machine's clock".to_owned(),
        };
        writeln!(out, "evidence of {} to {}: {age}", self.started, self.finished)?;
        writeln!(out, "nonce {}, chosen by the auditor", self.nonce)?;
        writeln!(
            out,
            "seed, samples, sums, margins, verdict and page were computed again and agree"
        )
    }
}
