//! Shares of a recovery key: read from files or typed, held against their set, combined in memory.

use std::{
    io::{self, IsTerminal as _, Read as _},
    path::Path,
};

use exclave_model::{Anchor, Record as _, ShareSet, custody::SHARE_SET_BYTES_MAX};
use exclave_seal::{
    KeyFile, RecoveryIdentity, Share,
    share::{CeremonyKey, Checked, CombineError, Entry, Finding, Form, TextError, WrappedShare, check},
};
use zeroize::Zeroizing;

use crate::{
    arguments::IdentityArguments,
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format::plain,
    interrupt,
    keys::{self, PassphraseSource},
    private_file,
};

/// The name that means: type it, or read it from standard input.
const TYPED: &str = "-";
/// The most that standard input may hold: far more than the texts of all shares of the largest set.
const TYPED_BYTES_MAX: u64 = 64 << 10;

/// A share and where it came from.
pub struct Given {
    /// The share.
    pub share: Share,
    /// A file's name, or that it was typed.
    pub from: String,
    /// The archive, when a file names it.
    pub archive: Option<Anchor>,
}

/// The set that shares are held against, out of a file. It may come from anywhere: it holds no secret, and what comes out
/// must be the key whose id stands in it.
pub fn set_for(file: Option<&Path>) -> Result<ShareSet, Trouble> {
    let path = file.ok_or_else(|| {
        Trouble::usage("the share set is needed").hint("give --set FILE: `key split` wrote it as shares.set")
    })?;
    read_set(path)
}

/// Reads a share set's file.
pub fn read_set(path: &Path) -> Result<ShareSet, Trouble> {
    let bytes = private_file::read_public(path, SHARE_SET_BYTES_MAX, "share set")?;
    ShareSet::from_bytes(&bytes).because(|| Trouble::usage(format!("{} is no share set", path.display())))
}

/// Of the sets that a charter holds, the one of these shares. A share of no set is judged by the only one that there is.
pub fn set_among<'s>(known: &'s [ShareSet], given: &[Given]) -> Result<&'s ShareSet, Trouble> {
    let of_a_share = |set: &&ShareSet| given.iter().any(|given| given.share.header().set == set.id);
    let found: Vec<&ShareSet> = known.iter().filter(of_a_share).collect();
    match (found.as_slice(), known) {
        ([of_theirs], _) => Ok(of_theirs),
        ([], [only]) => Ok(only),
        ([], []) => Err(Trouble::usage("the charter names no share set")
            .hint("give --set FILE: `key split` wrote it as shares.set")),
        ([], _) => Err(
            Trouble::new(Exit::Refused, "the shares are of no set that the charter names")
                .hint("are they of another archive, or of a split that was taken out? --set FILE names it"),
        ),
        (_, _) => Err(Trouble::usage("the shares are of several sets").hint("give those of one set")),
    }
}

/// Shares that could be read, and what was wrong with the others.
pub struct Brought {
    /// The shares.
    pub given: Vec<Given>,
    /// One sentence for each file that is of no use.
    pub unread: Vec<String>,
}

/// Reads shares in the order of the command line; those that are typed are asked for when their turn comes.
/// Those that came by wire open with the ceremony's key. A file that is of no use is told, and does not stop the others.
pub fn read_all(
    names: &[String],
    ceremony: Option<&Path>,
    passphrases: &PassphraseSource,
    world: &World,
) -> Result<Brought, Trouble> {
    let ceremony = ceremony
        .map(|path| keys::open_ceremony(path, passphrases, &world.environment))
        .transpose()?;
    let mut typed = Typed::default();
    let (mut given, mut unread) = (Vec::new(), Vec::new());
    for (number, name) in (1..).zip(names) {
        match name.as_str() {
            TYPED => given.push(Given {
                share: typed.next(number, names.len(), world)?,
                from: format!("number {number}, typed"),
                archive: None,
            }),
            path => match read_file(Path::new(path), ceremony.as_ref(), passphrases, world) {
                Ok(share) => given.push(share),
                // A key that was forgotten is no fault of the share's.
                Err(trouble) if ceremony.is_none() && is_wrapped(Path::new(path)) => return Err(trouble),
                Err(trouble) => unread.push(trouble),
            },
        }
    }
    // Where there is nothing else, the first one's own error says the most.
    if given.is_empty() && !unread.is_empty() {
        return Err(unread.remove(0));
    }
    let unread: Vec<String> = unread.iter().map(Trouble::in_one_line).collect();
    for unread in &unread {
        world.output.note(format!("Warning: {}", plain(unread)));
    }
    Ok(Brought { given, unread })
}

fn is_wrapped(path: &Path) -> bool {
    private_file::read(path, "share").is_ok_and(|text| WrappedShare::is_named_in(&text))
}

/// A share file, which a passphrase opens; one that came by wire, which the ceremony's key opens; or a share's text.
fn read_file(
    path: &Path,
    ceremony: Option<&CeremonyKey>,
    passphrases: &PassphraseSource,
    world: &World,
) -> Result<Given, Trouble> {
    let text = private_file::read(path, "share")?;
    let from = path.display().to_string();
    if WrappedShare::is_named_in(&text) {
        let key = ceremony.ok_or_else(|| {
            Trouble::usage(format!("{from} is wrapped for a ceremony")).hint("give its key: --ceremony-key FILE")
        })?;
        let opened = WrappedShare::parse(&text).and_then(|wrapped| key.unwrap(&wrapped));
        let share = opened.because(|| Trouble::new(Exit::Refused, format!("{from} can't be opened")))?;
        return Ok(Given {
            share,
            from,
            archive: None,
        });
    }
    let (share, archive) = if text.contains("exclave key file") {
        let file = KeyFile::parse(&text).because(|| Trouble::usage(format!("{from} is of no use")))?;
        // Its kind first, so that nobody types a passphrase in vain.
        file.share_header()
            .because(|| Trouble::usage(format!("{from} is no share")))?;
        (
            keys::open_share(&file, &from, passphrases, &world.environment)?,
            file.archive(),
        )
    } else {
        let share = Share::from_text(&text).because(|| Trouble::usage(format!("{from} is no share")))?;
        (share, None)
    };
    Ok(Given { share, from, archive })
}

/// Looks at each share alone. Whose share is no good is said at once.
pub fn judge<'a>(set: &'a ShareSet, given: &'a [Given], world: &World) -> Checked<'a> {
    let shares: Vec<&Share> = given.iter().map(|given| &given.share).collect();
    let checked = check(set, &shares);
    for finding in checked.findings() {
        world.output.note(format!("Warning: {}", plain(&told(finding, given))));
    }
    checked
}

/// A finding with its custodian.
pub fn told(finding: &Finding, given: &[Given]) -> String {
    let from = given.get(finding.share).map_or("", |given| given.from.as_str());
    let whose = match &finding.custodian {
        Some(custodian) => format!("the share of {custodian}"),
        None => format!("share {} of group {}", finding.place.x, finding.place.group + 1),
    };
    format!("{whose} ({from}) is {}", finding.flaw)
}

/// The recovery identity that shares give, in memory only, and how many of them are no good. They are held against the set
/// that the command line names, else against the charter's.
pub fn combine(
    arguments: &IdentityArguments,
    known: &[ShareSet],
    passphrases: &PassphraseSource,
    world: &World,
) -> Result<(RecoveryIdentity, usize), Trouble> {
    let named = arguments.set.as_deref().map(read_set).transpose()?;
    let Brought { given, unread } = read_all(&arguments.share, arguments.ceremony_key.as_deref(), passphrases, world)?;
    let set = match &named {
        Some(set) => set,
        None => set_among(known, &given)?,
    };
    let checked = judge(set, &given, world);
    let bad = unread.len() + checked.findings().len();
    Ok((checked.combine().map_err(no_key)?, bad))
}

/// Refuses shares whose files name another archive than the one that is to be opened. What a file says proves nothing,
/// since any one custodian could have written it: it is compared, and never believed.
/// Returns whether any of them names it.
pub fn refuse_others(names: &[String], archive: Anchor) -> Result<bool, Trouble> {
    let mut is_named = false;
    for name in names.iter().filter(|name| *name != TYPED) {
        let text = private_file::read(Path::new(name), "share")?;
        let named = KeyFile::parse(&text).ok().and_then(|file| file.archive());
        is_named |= named == Some(archive);
        if let Some(other) = named.filter(|named| *named != archive) {
            return Err(
                Trouble::new(Exit::Refused, format!("{name} names archive {other}, not {archive}"))
                    .hint("compare the anchor with the cards, and ask that custodian where the file was"),
            );
        }
    }
    Ok(is_named)
}

/// Why there is no key, and what to do.
pub fn no_key(error: CombineError) -> Trouble {
    let (exit, hint) = match &error {
        CombineError::TooFew { .. } => (
            Exit::Unrecoverable,
            "bring more custodians' shares: one --share for each",
        ),
        CombineError::Group(_) | CombineError::WrongKey { .. } => (
            Exit::Refused,
            "is it the share set that was written together with these shares?",
        ),
    };
    Trouble::new(exit, "the shares give no key").hint(hint).source(error)
}

/// Shares that are typed, or come on standard input one after the other.
#[derive(Default)]
struct Typed {
    /// Lines of standard input that nobody took yet, when it is no terminal.
    rest: Option<Vec<Zeroizing<String>>>,
}

impl Typed {
    fn next(&mut self, number: usize, of: usize, world: &World) -> Result<Share, Trouble> {
        if self.rest.is_none() && io::stdin().is_terminal() {
            return ask(number, of, world);
        }
        if self.rest.is_none() {
            self.rest = Some(read_stdin()?);
        }
        let mut entry = Entry::default();
        let refused = |error: TextError| {
            Trouble::usage(format!("share {number}, on standard input, can't be read")).source(error)
        };
        let lines = self.rest.get_or_insert_default();
        while !entry.is_complete() && !lines.is_empty() {
            entry.add(&lines.remove(0)).map_err(refused)?;
        }
        entry.finish().map_err(refused)
    }
}

fn read_stdin() -> Result<Vec<Zeroizing<String>>, Trouble> {
    let cannot = || Trouble::usage("the shares on standard input can't be read");
    let mut text = Zeroizing::new(String::with_capacity(TYPED_BYTES_MAX as usize + 1));
    let read = io::stdin().lock().take(TYPED_BYTES_MAX + 1).read_to_string(&mut text);
    if read.because(cannot)? as u64 > TYPED_BYTES_MAX {
        return Err(Trouble::usage("standard input is longer than any shares"));
    }
    Ok(text.lines().map(|line| Zeroizing::new(line.to_owned())).collect())
}

/// Asks for a share line by line; what is typed isn't shown. A good line stays, a bad one is asked for again.
fn ask(number: usize, of: usize, world: &World) -> Result<Share, Trouble> {
    let mut entry = Entry::default();
    world.output.note(format!(
        "Share {number} of {of}: seven lines of six words, or six lines of five groups of digits. Nothing is shown."
    ));
    while !entry.is_complete() {
        let lines = entry
            .form()
            .map_or(String::new(), |form| format!(" of {}", form.lines()));
        let question = format!("Share {number}, line {}{lines}: ", entry.lines() + 1);
        let line = interrupt::hidden(&question).map(Zeroizing::new).because(|| {
            Trouble::usage("a share can't be asked for").hint("give its text on standard input, or as a file")
        })?;
        if let Err(error) = entry.add(&line) {
            world.output.note(format!("{error}. Type it again"));
        }
    }
    let refused = || Trouble::usage(format!("share {number} can't be read"));
    entry.finish().because(refused)
}

/// A share in a form for people.
pub fn shown(share: &Share, form: ShareForm) -> Result<Zeroizing<String>, Trouble> {
    match form {
        ShareForm::Words => Ok(share.to_text(Form::Words)),
        ShareForm::Digits => Ok(share.to_text(Form::Digits)),
        ShareForm::Qr => crate::card::terminal(share),
        ShareForm::Svg => crate::card::svg(share),
    }
}

/// How a share is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ShareForm {
    /// Seven lines of six words
    Words,
    /// Six lines of five groups of digits
    Digits,
    /// A QR code for the terminal
    Qr,
    /// A QR code as an image (SVG)
    Svg,
}
