//! `exclave key split`: a recovery identity becomes shares of custodians, their cards, and the public share set.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use exclave_model::{Anchor, Record as _, ShareSet};
use exclave_seal::{KeyFile, Passphrase, Share, key_file::Cost, share};
use serde::Serialize;

use super::{
    custodians::{self, Custodians, file_stem},
    facts::{self, FactArguments},
};
use crate::{
    arguments::PassphraseArguments,
    card::{self, Card, Surroundings},
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    keys,
    output::Report,
    private_file, shares,
    surroundings::{self, OsEntropy},
};

/// The public record of the split, in the folder of its shares.
const SET_FILE: &str = "shares.set";
/// No template is longer.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// `key split`.
#[derive(Debug, Args)]
#[command(after_help = "\
The custodians file (TOML):
  [[group]]
  name = \"national offices\"
  threshold = 2
  custodian = [
      { name = \"Ministry of Justice\", kind = \"national\", contact = \"+372 600 0000\" },
      { name = \"National Archives\", kind = \"national\" },
      { name = \"Central Bank\", kind = \"national\" },
  ]
  [[group]]
  name = \"allied embassies\"
  ...
Kinds are national, allied and international. All groups are needed unless `threshold = N` stands above them.
Examples:
  exclave key split --identity recovery.key --custodians custodians.toml --out shares --dry-run
  exclave key split --identity recovery.key --threshold 3 --custodians five.toml --out shares")]
pub struct Split {
    /// The recovery identity that is split
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Who is to hold shares
    #[arg(long, value_name = "FILE")]
    custodians: PathBuf,
    /// How many shares open, when there is one group
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u8).range(2..=16))]
    threshold: Option<u8>,
    /// Write shares, cards and the share set into this directory, which must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The share set of the split before: its shares will be outdated
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Read the passphrases of the shares from FILE, a line for each custodian in order, instead of asking
    #[arg(long, value_name = "FILE")]
    share_passphrases: Option<PathBuf>,
    #[command(flatten)]
    facts: FactArguments,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    /// Write nothing: show who would hold what
    #[arg(long)]
    dry_run: bool,
}

/// Splits.
pub fn run(arguments: &Split, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    // All that can be refused is, before anybody types a passphrase.
    let file = keys::read(&arguments.identity)?;
    let shown = arguments.identity.display();
    let recipient = file
        .recipient()
        .because(|| Trouble::usage(format!("{shown} can't be split")))?
        .id();
    let previous = arguments.previous.as_deref().map(shares::read_set).transpose()?;
    if let Some(other) = previous.as_ref().filter(|set| set.recipient != recipient) {
        return Err(Trouble::usage(format!(
            "--previous is a set of identity {}, and {shown} is {recipient}",
            other.recipient
        ))
        .hint("a set becomes outdated by one of the same identity only"));
    }
    let Custodians { plan, contacts } =
        custodians::read(&arguments.custodians, arguments.threshold, previous.as_ref())?;
    let lawless = || Trouble::usage(format!("{} can't be a share set", arguments.custodians.display()));
    let draft = plan.draft(recipient).map_err(|error| match error {
        share::SplitError::Unlawful(error) if is_refused(&error) => {
            Trouble::new(Exit::Refused, "such a body may not hold a share").source(error)
        }
        error => lawless().source(error),
    })?;
    let template = match &arguments.facts.template {
        Some(path) => {
            let template = read_template(path)?;
            card::check_template(&template)?;
            template
        }
        None => arguments.facts.language.template().to_owned(),
    };
    is_free(&arguments.out)?;
    if arguments.dry_run {
        world.output.report(&Done::of(&draft, arguments, true))?;
        return Ok(Exit::Done);
    }
    let facts = facts::gather(&arguments.facts, file.archive(), world)?;
    let (identity, archive) =
        keys::open_recovery(&arguments.identity, &arguments.passphrase.source(), &world.environment)?;
    let split = share::split(&identity, &plan, &mut OsEntropy);
    let (set, made) = split.because(|| Trouble::failed("the identity can't be split"))?;
    drop(identity);
    let protected = protect(arguments, &set, &made, archive, world)?;
    let written = Written {
        set: &set,
        made: &made,
        protected: &protected,
        contacts: &contacts,
        template: &template,
        facts: &facts,
    };
    write_whole(arguments, &written)?;
    world.output.report(&Done::of(&set, arguments, false))?;
    world.output.note(
        "Print the cards on a printer without memory, hand over each card and share file, then destroy this directory. \
         Put shares.set beside the archive's papers: without it no share counts. The identity file still opens everything.",
    );
    Ok(Exit::Done)
}

/// True for a custodian that the format forbids, which is a refusal and no slip.
fn is_refused(error: &exclave_model::RecordError) -> bool {
    matches!(error, exclave_model::RecordError::Unlawful { rule, .. } if rule.kind == "bad-custodian")
}

fn read_template(path: &Path) -> Result<String, Trouble> {
    use std::io::Read as _;
    let cannot = || Trouble::usage(format!("the template {} can't be read", path.display()));
    let mut text = String::new();
    let file = fs::File::open(path).because(cannot)?;
    file.take(TEMPLATE_BYTES_MAX)
        .read_to_string(&mut text)
        .because(cannot)?;
    Ok(text)
}

fn is_free(out: &Path) -> Result<(), Trouble> {
    let Ok(mut entries) = fs::read_dir(out) else {
        return match out.symlink_metadata() {
            Ok(_) => Err(Trouble::usage(format!(
                "{} is no directory that can be read",
                out.display()
            ))),
            Err(_) => Ok(()),
        };
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Trouble::usage(format!("{} is not empty", out.display()))
            .hint("name another directory: shares of two splits must not lie together")),
    }
}

/// One protected file for each share; passphrases are asked for here, before anything is written.
fn protect(
    arguments: &Split,
    set: &ShareSet,
    made: &[Share],
    archive: Option<Anchor>,
    world: &World,
) -> Result<Vec<KeyFile>, Trouble> {
    let listed = match &arguments.share_passphrases {
        Some(path) => Some(private_file::read(path, "passphrase file")?),
        None => None,
    };
    let mut lines = listed.as_ref().map(|text| text.lines());
    let source = arguments.passphrase.source();
    let mut files = Vec::new();
    for share in made {
        let name = set
            .at(share.header().place)
            .map_or("", |(_, custodian)| custodian.name.as_str());
        let passphrase = match &mut lines {
            None => source.new_one(&format!("the share of {name}"), &world.environment)?,
            Some(lines) => lines
                .next()
                .map(str::to_owned)
                .and_then(Passphrase::new)
                .ok_or_else(|| {
                    Trouble::usage(format!("the passphrase file has no line for {name}"))
                        .hint("one line for each custodian, in the order of the custodians file")
                })?,
        };
        let file = KeyFile::for_share(share, &passphrase, Cost::STANDARD, &mut OsEntropy);
        let mut file = file.because(|| Trouble::failed(format!("the share of {name} can't be protected")))?;
        if let Some(anchor) = archive {
            file.set_archive(anchor);
        }
        files.push(file);
    }
    Ok(files)
}

/// What is written.
struct Written<'a> {
    set: &'a ShareSet,
    made: &'a [Share],
    protected: &'a [KeyFile],
    contacts: &'a [String],
    template: &'a str,
    facts: &'a Surroundings,
}

/// Writes everything beside the folder, and puts it in its place as a whole: cards hold shares in the clear, and must not
/// lie about after a full disk. A killed process leaves a folder whose name says what it is.
fn write_whole(arguments: &Split, written: &Written<'_>) -> Result<(), Trouble> {
    let out = &arguments.out;
    let cannot = || Trouble::failed(format!("{} can't be made", out.display()));
    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).because(cannot)?;
    let staged = tempfile::Builder::new()
        .prefix("unfinished-shares-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .because(cannot)?;
    write(staged.path(), arguments, written)?;
    // An empty directory is replaced (rename(2)).
    fs::rename(staged.path(), out).because(cannot)?;
    let _ = staged.keep();
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .because(cannot)
}

/// Writes everything, the set last: shares without it are void.
fn write(folder: &Path, arguments: &Split, written: &Written<'_>) -> Result<(), Trouble> {
    let each = written.made.iter().zip(written.protected).zip(written.contacts);
    for ((share, file), contact) in each {
        let place = share.header().place;
        let Some((group, custodian)) = written.set.at(place) else {
            continue;
        };
        let stem = file_stem(place.group, place.x, &custodian.name);
        keys::create(&folder.join(format!("{stem}.share")), file)?;
        if arguments.facts.no_cards {
            continue;
        }
        let card = Card {
            set: written.set,
            group,
            custodian,
            contact,
            share,
            surroundings: written.facts,
        };
        let page = card.render(written.template)?;
        private_file::create(&folder.join(format!("{stem}.html")), &page, "card")?;
    }
    let path = folder.join(SET_FILE);
    let cannot = || Trouble::failed(format!("the share set {} can't be written", path.display()));
    let bytes = written.set.to_bytes().because(cannot)?;
    let mut file = fs::File::create_new(&path).because(cannot)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).because(cannot)
}

/// What was made, or would be.
#[derive(Serialize)]
struct Done {
    /// Nothing was written.
    dry_run: bool,
    /// `None` before the set has one.
    set: Option<String>,
    epoch: u32,
    recipient: String,
    needed: String,
    directory: String,
    set_file: &'static str,
    custodians: Vec<Holder>,
}

#[derive(Serialize)]
struct Holder {
    group: String,
    x: u8,
    custodian: String,
    kind: &'static str,
    share: String,
    card: Option<String>,
}

impl Done {
    fn of(set: &ShareSet, arguments: &Split, dry_run: bool) -> Self {
        let holder = |place: exclave_model::Place| {
            let (group, custodian) = set.at(place)?;
            let stem = file_stem(place.group, place.x, &custodian.name);
            Some(Holder {
                group: group.name.clone(),
                x: place.x,
                custodian: custodian.name.clone(),
                kind: custodian.body.as_str(),
                share: format!("{stem}.share"),
                card: (!arguments.facts.no_cards).then(|| format!("{stem}.html")),
            })
        };
        let is_new = dry_run && arguments.previous.is_none();
        Self {
            dry_run,
            set: (!is_new).then(|| set.id.to_hex()),
            epoch: set.epoch,
            recipient: set.recipient.to_hex(),
            needed: set.in_words(),
            directory: arguments.out.display().to_string(),
            set_file: SET_FILE,
            custodians: set.places().filter_map(holder).collect(),
        }
    }
}

impl Report for Done {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let verb = if self.dry_run { "would be split" } else { "is split" };
        writeln!(
            out,
            "recovery identity {} {verb}: it opens with {}",
            self.recipient, self.needed
        )?;
        if let Some(set) = &self.set {
            writeln!(
                out,
                "share set {set}, epoch {}, in {}/{}",
                self.epoch, self.directory, self.set_file
            )?;
        }
        let mut group = "";
        for holder in &self.custodians {
            if holder.group != group {
                group = &holder.group;
                writeln!(out, "{group}")?;
            }
            let card = holder.card.as_ref().map_or(String::new(), |card| format!(", {card}"));
            writeln!(
                out,
                "  {} {} ({}): {}{card}",
                holder.x, holder.custodian, holder.kind, holder.share
            )?;
        }
        Ok(())
    }
}
