//! `exclave charter new`: a draft of the next version, and the history that it follows.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_engine::{
    Archive,
    survey::{CharterFinding, FoundHead, Freshness, Grade, Survey, survey},
};
use exclave_model::{Anchor, Charter, CharterFile, Incarnation, Pin, SiteId, Writer, charter::Reason};
use exclave_seal::entropy::draw;
use serde::Serialize;

use super::{
    Public, beside,
    draft::{Beginning, Draft},
    open_public,
};
use crate::{
    arguments::SiteArguments,
    command::{World, plan},
    error::{Context as _, Trouble},
    exit::Exit,
    output::Report,
    private_file,
    surroundings::OsEntropy,
};

/// `charter new`.
#[derive(Debug, Args)]
pub struct New {
    /// Write the draft to FILE, and the history that it follows beside it (FILE with the ending .charter)
    #[arg(long, value_name = "FILE", default_value = "charter.toml")]
    out: PathBuf,
    /// Let the draft revoke the writer whose key begins so
    #[arg(long, value_name = "HEX")]
    revoke: Option<String>,
    /// Why: `compromised` when someone else may have the key, which sends its datasets anew, or `retired`
    #[arg(long, value_name = "WORD", default_value = "compromised", requires = "revoke")]
    reason: String,
    /// The last snapshot of the revoked writer that counts, with all before it; may be repeated, once for each of its
    /// lives. Without it nothing counts that a stolen key signed, and everything that a retired one did
    #[arg(long, value_name = "SNAPSHOT", requires = "revoke")]
    accept: Vec<String>,
    /// Let the draft name the writer whose key FILE holds, for the classes of the revoked one, else for all
    #[arg(long, value_name = "FILE")]
    writer: Option<PathBuf>,
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

pub fn new(arguments: &New, world: &mut World) -> Result<Exit, Trouble> {
    let history = beside(&arguments.out);
    for path in [&arguments.out, &history] {
        if path.symlink_metadata().is_ok() {
            return Err(Trouble::usage(format!("{} is there already", path.display()))
                .hint("name another file with --out, or move that one away"));
        }
    }
    let public = open_public(&arguments.sites, arguments.archive, world)?;
    public.refuse_doubtful()?;
    let Public {
        archive, chosen, edge, ..
    } = public;
    let survey = survey(&archive, &edge.surroundings).because(|| Trouble::failed("the heads can't be read"))?;
    refuse_blind(&archive, &survey, arguments.revoke.is_some())?;
    let objects = edge
        .block_on(exclave_engine::archive::history_objects(&archive))
        .ok_or_else(|| Trouble::failed("the sites gave the charter and then did not"))?;
    let failed = || Trouble::failed("no draft can be made");
    let mut entropy = OsEntropy;
    let known = |name: &str| archive.charter().sites.iter().any(|site| site.name == name);
    let mut added = Vec::new();
    for site in chosen.iter().filter(|site| !known(&site.name)) {
        added.push(plan::record(
            site,
            SiteId::from_bytes(draw(&mut entropy).because(failed)?),
        ));
    }
    let names: Vec<String> = added.iter().map(|site| site.name.clone()).collect();
    let beginning = Beginning {
        created: edge.surroundings.clock.now_unix_seconds(),
        nonce: draw(&mut entropy).because(failed)?,
        sites: added,
    };
    let mut draft = Draft::after(&archive.charters, beginning);
    let mut classes: Vec<u32> = archive.charter().classes.iter().map(|class| class.id).collect();
    if let Some(digits) = &arguments.revoke {
        let writer = the_writer(archive.charter(), digits)?;
        let reason: Reason = arguments
            .reason
            .parse()
            .map_err(|why: String| Trouble::usage(format!("--reason: {why}")))?;
        let pins = pins(&survey, writer, reason, &arguments.accept)?;
        draft.revoke(archive.charter(), writer, reason, pins);
        classes.clone_from(&writer.classes);
    }
    if let Some(path) = &arguments.writer {
        draft.add_writer(&beside_draft(path, &arguments.out)?, &classes);
    }
    let text = draft.to_text()?;
    let file = CharterFile {
        charters: objects,
        plates: Vec::new(),
    };
    private_file::create(&history, file.to_bytes(), "history")?;
    private_file::create(&arguments.out, text, "draft")?;
    world.output.report(&Drafted {
        draft: arguments.out.display().to_string(),
        history: history.display().to_string(),
        version: archive.charter().version.saturating_add(1),
        archive: archive.anchor.to_hex(),
        added_sites: names,
    })?;
    Ok(Exit::Done)
}

/// Refuses to begin a version while the newest one, or a head that a revocation would have to pin, may be hidden.
fn refuse_blind(archive: &Archive, survey: &Survey, revokes: bool) -> Result<(), Trouble> {
    let findings = survey.charter_findings(archive);
    if let Some(hidden) = findings
        .into_iter()
        .find(|finding| matches!(finding, CharterFinding::Hidden { .. }))
    {
        return Err(
            Trouble::new(Exit::Stale, "this may not be the archive's newest charter")
                .hint("reach more of the sites")
                .source(hidden),
        );
    }
    let classes = archive.charter().classes.iter();
    let known = |freshness: Option<Freshness>| freshness.is_some_and(|freshness| freshness.grade != Grade::F3);
    match revokes && !classes.map(|class| survey.freshness(archive, class)).all(known) {
        true => Err(Trouble::new(
            Exit::Stale,
            "too few sites answer: a head that the revocation should keep may be among what isn't shown",
        )
        .hint("reach more of the sites; what a revocation does not pin is void")),
        false => Ok(()),
    }
}

fn the_writer<'c>(charter: &'c Charter, digits: &str) -> Result<&'c Writer, Trouble> {
    let digits = digits.to_ascii_lowercase();
    let mut found = charter
        .writers
        .iter()
        .filter(|writer| writer.key.id().to_hex().starts_with(&digits));
    match (found.next(), found.next()) {
        (Some(writer), None) => Ok(writer),
        (None, _) => Err(Trouble::usage(format!("no writer's key begins with {digits}"))
            .hint("`exclave charter show` lists the writers")),
        (Some(_), Some(_)) => Err(Trouble::usage(format!("several writers' keys begin with {digits}"))),
    }
}

/// The heads of a writer that go on counting: those that are named, or the ends of all chains of a retired one.
fn pins(survey: &Survey, writer: &Writer, reason: Reason, accepted: &[String]) -> Result<Vec<Pin>, Trouble> {
    let own = || {
        survey
            .found
            .values()
            .filter(|found| found.head.writer == writer.key.id())
    };
    let mut pins: BTreeMap<Incarnation, Pin> = BTreeMap::new();
    for prefix in accepted {
        let begins = |found: &&FoundHead| found.hash.to_hex().starts_with(&prefix.to_ascii_lowercase());
        let found: Vec<&FoundHead> = own().filter(begins).collect();
        let [found] = found.as_slice() else {
            return Err(
                Trouble::usage(format!("{} snapshots of that writer begin with {prefix}", found.len()))
                    .hint("`exclave snapshots` lists them with their writers"),
            );
        };
        if let Some(other) = pins.insert(found.head.incarnation, pin_of(found)) {
            return Err(Trouble::usage(format!(
                "{} and {} are of one life of the writer",
                other.head, found.hash
            ))
            .hint("the later one includes those before it"));
        }
    }
    if reason == Reason::Retired && accepted.is_empty() {
        for found in own() {
            let pin = pins.entry(found.head.incarnation).or_insert_with(|| pin_of(found));
            if pin.seq < found.head.seq {
                *pin = pin_of(found);
            }
        }
    }
    Ok(pins.into_values().collect())
}

fn pin_of(found: &FoundHead) -> Pin {
    Pin {
        incarnation: found.head.incarnation,
        seq: found.head.seq,
        head: found.hash,
    }
}

/// How a draft names a key file: beside it by its name, elsewhere by its whole path.
fn beside_draft(key: &Path, draft: &Path) -> Result<String, Trouble> {
    let cannot = || Trouble::usage(format!("{} can't be found", key.display()));
    let whole = key.canonicalize().because(cannot)?;
    let folder = private_file::directory_of(draft).canonicalize().because(cannot)?;
    let named = whole.strip_prefix(&folder).unwrap_or(&whole);
    named.to_str().map(str::to_owned).ok_or_else(cannot)
}

/// A draft that was written.
#[derive(Serialize)]
struct Drafted {
    draft: String,
    history: String,
    version: u32,
    archive: String,
    added_sites: Vec<String>,
}

impl Report for Drafted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "draft of charter version {} in {}", self.version, self.draft)?;
        writeln!(out, "history up to there in {}", self.history)?;
        for site in &self.added_sites {
            writeln!(out, "site {site} of the configuration is new in it")?;
        }
        writeln!(out, "Change it, then `exclave charter explain {}`", self.draft)
    }
}
