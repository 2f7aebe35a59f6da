//! `exclave charter new|show|diff|explain|sign|verify|publish`: how an archive's constitution changes.
//!
//! `new` and `publish` speak to sites; everything between them works on files alone, on a machine without a network. The
//! file that goes from hand to hand holds the whole history, so that whoever signs checks it against the anchor he has on
//! paper and against nothing else.

mod draft;
mod words;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use exclave_engine::{
    Archive,
    charter::{Proposal, PublishError, PublishReport, publish_charter, read_history},
    survey::{FoundHead, survey},
};
use exclave_model::{
    Anchor, Charter, CharterFile, Charters, Incarnation, Pin, Record as _, RecordHash, Role, SignedObject, SiteId,
    SitePlate, Version1, Writer,
    charter::{CHARTER_FILE_BYTES_MAX, Reason},
};
use exclave_seal::{SigningKey, entropy::draw, verify_charter};
use exclave_site::Site;
use serde::Serialize;

use self::{
    draft::{Beginning, Draft},
    words::{Page, Signatures, changes},
};
use super::{World, plan};
use crate::{
    agent::open_archive,
    arguments::{PassphraseArguments, SiteArguments},
    error::{Context as _, Trouble},
    exit::Exit,
    format, keys,
    output::Report,
    private_file, sites,
    surroundings::{self, Edge, OsEntropy},
};

/// `charter ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a draft of the next version, to be changed in an editor
    New(New),
    /// Show a version on one page: of a file, or the newest that the sites show
    Show(Show),
    /// Show what a file's last version, or a draft, changes
    Diff(Diff),
    /// Show a draft, or a file's last version, on one page with its digest: what people sign
    Explain(Explain),
    /// Sign a draft, or a file that others signed before
    Sign(Sign),
    /// Check a file against an anchor: its history, and whether enough roots signed the last version
    Verify(Verify),
    /// Put a signed version at the sites
    Publish(Publish),
}

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

/// `charter show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A charter file; without it the sites are asked
    file: Option<PathBuf>,
    /// This version instead of the newest
    #[arg(long, value_name = "NUMBER")]
    version: Option<u32>,
    #[command(flatten)]
    sites: SiteArguments,
    /// The archive's anchor, when the configuration does not say it
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

/// `charter diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// A draft, or a charter file
    file: PathBuf,
    /// Compare with this version instead of the one before
    #[arg(long, value_name = "NUMBER")]
    from: Option<u32>,
}

/// `charter explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// A draft, or a charter file
    file: PathBuf,
}

/// `charter sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// A draft, or a charter file that others signed before
    file: PathBuf,
    /// The root key to sign with
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Write the signed file to FILE [default: FILE with the ending .charter and its version]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign only if the digest begins so: the one on the page that was agreed on
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// Sign only if it is this archive's
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
}

/// `charter verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// A charter file
    file: PathBuf,
    /// The archive's anchor, from paper
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

/// `charter publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// A charter file whose last version enough roots signed
    file: PathBuf,
    #[command(flatten)]
    sites: SiteArguments,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    match command {
        Command::New(arguments) => new(arguments, world),
        Command::Show(arguments) => show(arguments, world),
        Command::Diff(arguments) => diff(arguments, world),
        Command::Explain(arguments) => {
            let subject = Subject::read(&arguments.file)?;
            world.output.report(&subject.page())?;
            Ok(Exit::Done)
        }
        Command::Sign(arguments) => sign(arguments, world),
        Command::Verify(arguments) => verify(arguments, world),
        Command::Publish(arguments) => publish(arguments, world),
    }
}

/// A version that is proposed: compiled from a draft, or in a file with signatures.
struct Subject {
    before: Charters,
    next: Charter,
    /// What the history was read from.
    history: Vec<SignedObject>,
    /// With signatures, when there are any.
    signed: Option<Proposal>,
}

impl Subject {
    fn read(path: &Path) -> Result<Self, Trouble> {
        let bytes = read_bytes(path)?;
        let shown = path.display().to_string();
        if let Ok(file) = CharterFile::from_bytes(&bytes) {
            let proposal = Proposal::read(&file)
                .map_err(|error| Trouble::new(Exit::Refused, format!("{shown} is not to be believed")).source(error))?;
            return Ok(Self {
                before: proposal.before.clone(),
                next: proposal.next.clone(),
                history: file
                    .charters
                    .split_last()
                    .map_or_else(Vec::new, |(_, history)| history.to_vec()),
                signed: Some(proposal),
            });
        }
        let text =
            String::from_utf8(bytes).because(|| Trouble::usage(format!("{shown} is no draft and no charter file")))?;
        let draft = Draft::parse(&text, &shown)?;
        let (before, history) = history_beside(path)?;
        let next = draft.compile(&before, path.parent().unwrap_or(Path::new("")))?;
        let lawful = next.law().and_then(|()| before.check_next(&next));
        lawful.map_err(|rule| {
            Trouble::new(Exit::Refused, format!("{shown} can't be the next charter"))
                .hint("`exclave charter new` shows in its first lines how a draft says such things")
                .source(rule)
        })?;
        Ok(Self {
            before,
            next,
            history,
            signed: None,
        })
    }

    fn digest(&self) -> Result<RecordHash, Trouble> {
        let bytes = self
            .next
            .to_bytes()
            .because(|| Trouble::failed("the charter can't be written down"))?;
        Ok(RecordHash::of(&bytes))
    }

    fn signatures(&self) -> Signatures {
        let [before, own] = match &self.signed {
            Some(proposal) => proposal.signatures(),
            None => [&self.before.newest().roots, &self.next.roots].map(|roots| (0, roots.threshold as usize)),
        };
        Signatures {
            before: Some(before),
            own,
        }
    }

    fn page(&self) -> Page {
        // What was read or compiled obeys the law, and so can be written.
        let digest = self.digest().unwrap_or_else(|_| RecordHash::from_bytes([0; 32]));
        Page::of(&self.next, digest, Some(&self.before), self.signatures())
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Trouble> {
    private_file::read_public(path, CHARTER_FILE_BYTES_MAX, "charter file")
}

/// Where the history of a draft lies.
fn beside(draft: &Path) -> PathBuf {
    draft.with_extension("charter")
}

fn history_beside(draft: &Path) -> Result<(Charters, Vec<SignedObject>), Trouble> {
    let path = beside(draft);
    let bytes = read_bytes(&path).map_err(|trouble| {
        trouble.hint("a draft is read together with the history that `exclave charter new` wrote beside it")
    })?;
    let (charters, objects) = whole_history(&bytes, &path)?;
    Ok((charters, objects))
}

/// A file all of whose versions are signed by enough roots.
fn whole_history(bytes: &[u8], path: &Path) -> Result<(Charters, Vec<SignedObject>), Trouble> {
    let shown = path.display();
    let file = CharterFile::from_bytes(bytes).because(|| Trouble::usage(format!("{shown} is no charter file")))?;
    let history = read_history(&file.charters)
        .map_err(|error| Trouble::new(Exit::Refused, format!("{shown} is not to be believed")).source(error))?;
    let history = history.ok_or_else(|| Trouble::usage(format!("{shown} holds no charter")))?;
    Ok((history, file.charters))
}

/// The archive at the sites, and the stores that the configuration knows.
fn archive_at(
    arguments: &SiteArguments,
    anchor: Option<Anchor>,
    world: &World,
) -> Result<(Archive, Vec<crate::config::SiteConfig>, Edge), Trouble> {
    let config = world.config()?;
    let anchor = anchor.or(config.archive).ok_or_else(|| {
        Trouble::usage("no archive is known").hint("give --archive HEX, or the settings of an agent with --config FILE")
    })?;
    let chosen = sites::choose(&arguments.wanted(), &config)?;
    let open = sites::open_all(chosen.clone(), &world.environment)?;
    let edge = Edge::start(config.threads)?;
    let stores: Vec<(String, Arc<dyn Site>)> = open.into_iter().map(|site| (site.config.name, site.site)).collect();
    let (archive, troubles) = open_archive(anchor, stores, &edge)?;
    for trouble in troubles {
        world
            .output
            .note(format!("Warning: {}", format::plain(&trouble.to_string())));
    }
    match &archive.fork {
        None => Ok((archive, chosen, edge)),
        Some(fork) => Err(Trouble::new(Exit::Refused, "the archive's charter is disputed").source(fork.clone())),
    }
}

/// The archive, for commands that need no key.
pub fn open_public(
    arguments: &SiteArguments,
    anchor: Option<Anchor>,
    world: &World,
) -> Result<(Archive, Edge), Trouble> {
    let (archive, _, edge) = archive_at(arguments, anchor, world)?;
    Ok((archive, edge))
}

fn new(arguments: &New, world: &mut World) -> Result<Exit, Trouble> {
    let history = beside(&arguments.out);
    for path in [&arguments.out, &history] {
        if path.symlink_metadata().is_ok() {
            return Err(Trouble::usage(format!("{} is there already", path.display()))
                .hint("name another file with --out, or move that one away"));
        }
    }
    let (archive, chosen, edge) = archive_at(&arguments.sites, arguments.archive, world)?;
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
        let pins = pins(&archive, writer, reason, &arguments.accept, &edge)?;
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
fn pins(
    archive: &Archive,
    writer: &Writer,
    reason: Reason,
    accepted: &[String],
    edge: &Edge,
) -> Result<Vec<Pin>, Trouble> {
    let survey = survey(archive, &edge.surroundings).because(|| Trouble::failed("the heads can't be read"))?;
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

fn show(arguments: &Show, world: &mut World) -> Result<Exit, Trouble> {
    let charters = match &arguments.file {
        Some(path) => {
            let bytes = read_bytes(path)?;
            whole_history(&bytes, path)?.0
        }
        None => archive_at(&arguments.sites, arguments.archive, world)?.0.charters,
    };
    let number = arguments.version.unwrap_or(charters.newest().version);
    let no_such = || Trouble::usage(format!("there is no version {number}"));
    let charter = charters.version(number).ok_or_else(no_such)?;
    let digest = charters.hash(number).ok_or_else(no_such)?;
    let before = up_to(&charters, number.saturating_sub(1));
    // What is in a history was signed by enough roots: they are not counted again.
    let threshold = |charter: &Charter| (charter.roots.threshold as usize, charter.roots.threshold as usize);
    let signatures = Signatures {
        before: before.as_ref().map(|before| threshold(before.newest())),
        own: threshold(charter),
    };
    world
        .output
        .report(&Page::of(charter, digest, before.as_ref(), signatures))?;
    Ok(Exit::Done)
}

/// The history up to a version; `None` before the first.
fn up_to(charters: &Charters, number: u32) -> Option<Charters> {
    let mut beginning = Charters::begin(charters.version(1)?.clone(), charters.anchor()).ok()?;
    for version in 2..=number {
        beginning
            .push(charters.version(version)?.clone(), charters.hash(version)?)
            .ok()?;
    }
    (number > 0).then_some(beginning)
}

fn diff(arguments: &Diff, world: &mut World) -> Result<Exit, Trouble> {
    let subject = Subject::read(&arguments.file)?;
    let from = arguments.from.unwrap_or(subject.before.newest().version);
    let before = subject
        .before
        .version(from)
        .ok_or_else(|| Trouble::usage(format!("there is no version {from} before it")))?;
    world.output.report(&Changed {
        from,
        to: subject.next.version,
        changes: changes(before, &subject.next),
    })?;
    Ok(Exit::Done)
}

/// What changed between two versions.
#[derive(Serialize)]
struct Changed {
    from: u32,
    to: u32,
    changes: Vec<String>,
}

impl Report for Changed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.changes.is_empty() {
            true => writeln!(out, "version {} says what version {} said", self.to, self.from),
            false => self
                .changes
                .iter()
                .try_for_each(|change| writeln!(out, "{}", format::plain(change))),
        }
    }
}

fn sign(arguments: &Sign, world: &mut World) -> Result<Exit, Trouble> {
    let subject = Subject::read(&arguments.file)?;
    let digest = subject.digest()?;
    let refused = |what: String| Trouble::new(Exit::Refused, what);
    if let Some(wanted) = &arguments.digest {
        let wanted: String = wanted.chars().filter(char::is_ascii_hexdigit).collect();
        if wanted.len() < 16 || !digest.to_hex().starts_with(&wanted.to_ascii_lowercase()) {
            return Err(
                refused(format!("the digest is {digest}, not {wanted}; nothing was signed"))
                    .hint("at least 16 digits are compared; `exclave charter explain` shows what this file says"),
            );
        }
    }
    let anchor = subject.before.anchor();
    if arguments.archive.is_some_and(|wanted| wanted != anchor) {
        return Err(refused(format!("the file is of archive {anchor}; nothing was signed")));
    }
    let source = arguments.passphrase.source();
    let root = keys::open_signing(&arguments.root, Role::Root, &source, &world.environment)?;
    let has_say = |charter: &Charter| charter.role_of(root.id()) == Some(Role::Root);
    if !has_say(subject.before.newest()) && !has_say(&subject.next) {
        return Err(refused(format!(
            "key {} is no root of version {} or {}",
            root.id(),
            subject.before.newest().version,
            subject.next.version
        )));
    }
    let (object, plates) = signed(&subject, &root)?;
    let mut charters = subject.history.clone();
    charters.push(object);
    let file = CharterFile { charters, plates };
    let out = arguments.out.clone().unwrap_or_else(|| {
        let stem = arguments.file.with_extension("");
        let stem = stem
            .file_stem()
            .map_or_else(|| "charter".into(), |stem| stem.to_string_lossy().into_owned());
        arguments
            .file
            .with_file_name(format!("{stem}.v{}.charter", subject.next.version))
    });
    match out == arguments.file {
        true => private_file::replace(&out, file.to_bytes(), "charter file")?,
        false => private_file::create(&out, file.to_bytes(), "charter file")?,
    }
    let proposal = Proposal::read(&file).because(|| Trouble::failed("what was signed does not verify"))?;
    let signatures = Signatures {
        before: Some(proposal.signatures()[0]),
        own: proposal.signatures()[1],
    };
    world.output.report(&Signed {
        file: out.display().to_string(),
        version: proposal.next.version,
        digest: proposal.digest().to_hex(),
        signed_by: root.id().to_hex(),
        complete: signatures.are_enough(),
        signatures,
    })?;
    Ok(Exit::Done)
}

/// The version with one signature more, and plates for new sites.
fn signed(subject: &Subject, root: &SigningKey) -> Result<(SignedObject, Vec<SignedObject>), Trouble> {
    let failed = || Trouble::failed("the charter can't be signed");
    let mut entropy = OsEntropy;
    let object = match &subject.signed {
        Some(proposal) => root.cosign::<Charter>(&proposal.object, &mut entropy).because(failed)?,
        None => root.sign(&subject.next, &mut entropy).because(failed)?,
    };
    let proposal = Proposal {
        before: subject.before.clone(),
        next: subject.next.clone(),
        object: object.clone(),
        plates: subject
            .signed
            .as_ref()
            .map_or_else(Vec::new, |proposal| proposal.plates.clone()),
    };
    let mut plates = proposal.plates.clone();
    for site in proposal.added().filter(|site| proposal.plate(site.id).is_none()) {
        let plate = SitePlate {
            format: Version1,
            anchor: subject.before.anchor(),
            site: site.id,
        };
        plates.push(root.sign(&plate, &mut entropy).because(failed)?);
    }
    Ok((object, plates))
}

/// A version that was signed once more.
#[derive(Serialize)]
struct Signed {
    file: String,
    version: u32,
    digest: String,
    signed_by: String,
    signatures: Signatures,
    complete: bool,
}

impl Report for Signed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "charter version {} signed in {}", self.version, self.file)?;
        writeln!(out, "digest {}", self.digest)?;
        match self.complete {
            true => writeln!(out, "Enough roots signed: `exclave charter publish {}`", self.file),
            false => writeln!(out, "Others must sign: `exclave charter sign {} --root KEY`", self.file),
        }
    }
}

fn verify(arguments: &Verify, world: &mut World) -> Result<Exit, Trouble> {
    let bytes = read_bytes(&arguments.file)?;
    let shown = arguments.file.display();
    let file = CharterFile::from_bytes(&bytes).because(|| Trouble::usage(format!("{shown} is no charter file")))?;
    let anchor = file
        .charters
        .first()
        .map(|first| Anchor::from_bytes(*first.record_hash().as_bytes()));
    let anchor = anchor.ok_or_else(|| Trouble::usage(format!("{shown} holds no charter")))?;
    if let Some(wanted) = arguments.archive.filter(|wanted| *wanted != anchor) {
        return Err(Trouble::new(
            Exit::Refused,
            format!("{shown} is of archive {anchor}, not {wanted}"),
        ));
    }
    let unbelieved = || Trouble::new(Exit::Refused, format!("{shown} is not to be believed"));
    let (version, digest, signatures) = match file.charters.as_slice() {
        [first] => {
            let charters = verify_charter(first, anchor).because(unbelieved)?;
            let needed = charters.newest().roots.threshold as usize;
            let own = (first.signatures().len(), needed);
            (1, first.record_hash(), Signatures { before: None, own })
        }
        _ => {
            let proposal = Proposal::read(&file).because(unbelieved)?;
            let [before, own] = proposal.signatures();
            let before = Some(before);
            (proposal.next.version, proposal.digest(), Signatures { before, own })
        }
    };
    let complete = signatures.are_enough();
    world.output.report(&Verified {
        archive: anchor.to_hex(),
        anchor_compared: arguments.archive.is_some(),
        version,
        digest: digest.to_hex(),
        signatures,
        complete,
    })?;
    Ok(if complete { Exit::Done } else { Exit::Refused })
}

/// What a file is.
#[derive(Serialize)]
struct Verified {
    archive: String,
    anchor_compared: bool,
    version: u32,
    digest: String,
    signatures: Signatures,
    complete: bool,
}

impl Report for Verified {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "charter version {} of archive {}", self.version, self.archive)?;
        writeln!(out, "digest {}", self.digest)?;
        if !self.anchor_compared {
            writeln!(
                out,
                "Compare the archive with the anchor that you have on paper, or give it: --archive HEX"
            )?;
        }
        match self.complete {
            true => writeln!(out, "Its history holds, and enough roots signed."),
            false => writeln!(out, "Its history holds; roots have to sign still."),
        }
    }
}

fn publish(arguments: &Publish, world: &mut World) -> Result<Exit, Trouble> {
    let bytes = read_bytes(&arguments.file)?;
    let shown = arguments.file.display();
    let file = CharterFile::from_bytes(&bytes).because(|| {
        Trouble::usage(format!("{shown} is no charter file"))
            .hint("a draft has to be signed first: `exclave charter sign`")
    })?;
    let proposal =
        Proposal::read(&file).because(|| Trouble::new(Exit::Refused, format!("{shown} is not to be believed")))?;
    let (archive, _, edge) = archive_at(&arguments.sites, Some(proposal.before.anchor()), world)?;
    let report = publish_charter(&archive, &proposal, arguments.dry_run, &edge.surroundings).map_err(not_published)?;
    let dropped: Vec<String> = proposal.dropped().map(|site| site.name.clone()).collect();
    world
        .output
        .report(&Published::of(report, &proposal, dropped, arguments.dry_run))?;
    Ok(Exit::Done)
}

fn not_published(error: PublishError) -> Trouble {
    let what = "the charter was not published";
    match &error {
        PublishError::Signatures(_) => Trouble::new(Exit::Refused, what)
            .hint("`exclave charter verify` counts; every root signs with `exclave charter sign`"),
        PublishError::Outdated { .. } => Trouble::new(Exit::Refused, what)
            .hint("another version was published meanwhile: begin again with `exclave charter new`"),
        PublishError::NoStore(name) => Trouble::usage(what).hint(format!(
            "put a [[site]] named {name} into the configuration, or give --site {name}=URL beside the others"
        )),
        PublishError::NoPlate(_) => Trouble::usage(what).hint("let one root sign the file again"),
        PublishError::OtherPlate { .. } => Trouble::new(Exit::Refused, what),
        PublishError::Class { .. } | PublishError::Quorum { .. } => Trouble::new(Exit::Refused, what),
        PublishError::Records { troubles, .. }
        | PublishError::Charter { troubles, .. }
        | PublishError::Unlisted { troubles, .. } => {
            let said: Vec<String> = troubles.iter().map(ToString::to_string).collect();
            let hint = troubles.iter().find_map(|trouble| sites::hint(&trouble.error));
            let what = match said.is_empty() {
                true => what.to_owned(),
                false => format!("{what}: {}", format::plain(&said.join("; "))),
            };
            Trouble::failed(what)
                .hint(hint.unwrap_or_else(|| "try again when more sites answer: it goes on from there".to_owned()))
        }
        PublishError::Plate(_) | PublishError::Record(_) => Trouble::failed(what),
    }
    .source(error)
}

/// A charter at the sites.
#[derive(Serialize)]
struct Published {
    dry_run: bool,
    version: u32,
    digest: String,
    new_sites: Vec<String>,
    dropped_sites: Vec<String>,
    /// Small records that readers need.
    records: usize,
    /// Copies of them that were, or would be, made.
    copied: usize,
    holders: Vec<String>,
    warnings: Vec<String>,
}

impl Published {
    fn of(report: PublishReport, proposal: &Proposal, dropped_sites: Vec<String>, dry_run: bool) -> Self {
        let mut warnings: Vec<String> = report.troubles.iter().map(ToString::to_string).collect();
        warnings.sort();
        warnings.dedup();
        Self {
            dry_run,
            version: proposal.next.version,
            digest: proposal.digest().to_hex(),
            new_sites: report.plates,
            dropped_sites,
            records: report.records,
            copied: report.copied,
            holders: report.holders,
            warnings,
        }
    }
}

impl Report for Published {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for warning in &self.warnings {
            writeln!(out, "Warning: {}", format::plain(warning))?;
        }
        let made = if self.dry_run { "would be made" } else { "were made" };
        for site in &self.new_sites {
            let deed = if self.dry_run { "would get" } else { "got" };
            writeln!(out, "new site {site} {deed} its plate")?;
        }
        writeln!(
            out,
            "{} looked at, {} {made}",
            format::count(self.records as u64, "small record"),
            copies(self.copied)
        )?;
        for site in &self.dropped_sites {
            writeln!(
                out,
                "site {site} is dropped: to snapshots with shards there it is a lost site"
            )?;
        }
        match self.dry_run {
            true => writeln!(out, "charter version {} would be published", self.version),
            false => writeln!(
                out,
                "charter version {} is at {}",
                self.version,
                self.holders.join(", ")
            ),
        }
    }
}

fn copies(count: usize) -> String {
    match count {
        1 => "1 copy".to_owned(),
        _ => format!("{count} copies"),
    }
}
