//! `exclave charter publish`: a signed version goes to the sites.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use exclave_engine::charter::{Proposal, PublishError, PublishReport, Publishing, publish_charter};
use exclave_model::CharterFile;
use serde::Serialize;

use super::{open_public, read_bytes};
use crate::{
    agent::{refuse_disputed, see_charters},
    arguments::SiteArguments,
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
    sites,
};

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
    /// Drop sites although snapshots could not be restored any more from those that stay
    #[arg(long)]
    accept_loss: bool,
}

pub fn publish(arguments: &Publish, world: &mut World) -> Result<Exit, Trouble> {
    let bytes = read_bytes(&arguments.file)?;
    let shown = arguments.file.display();
    let file = CharterFile::from_bytes(&bytes).because(|| {
        Trouble::usage(format!("{shown} is no charter file"))
            .hint("a draft has to be signed first: `exclave charter sign`")
    })?;
    let proposal =
        Proposal::read(&file).because(|| Trouble::new(Exit::Refused, format!("{shown} is not to be believed")))?;
    let public = open_public(&arguments.sites, Some(proposal.before.anchor()), world)?;
    refuse_disputed(&public.archive)?;
    let surroundings = &public.edge.surroundings;
    let publishing = Publishing {
        dry_run: arguments.dry_run,
        accept_loss: arguments.accept_loss,
    };
    let report = publish_charter(&public.archive, &proposal, publishing, surroundings).map_err(not_published)?;
    if let Some(state) = public.state.as_ref().filter(|_| !arguments.dry_run) {
        let mut charters = proposal.before.clone();
        let pushed = charters.push(proposal.next.clone(), proposal.digest());
        pushed.map_err(|rule| Trouble::failed("the charter can't be remembered").source(rule))?;
        see_charters(state, &charters)?;
    }
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
        PublishError::Skips { .. } => Trouble::new(Exit::Refused, what)
            .hint("publish the file of that version first, or begin again with `exclave charter new`"),
        PublishError::Disputed { .. } => Trouble::new(Exit::Refused, "the charter is at the sites, and is disputed")
            .hint("`exclave snapshots` and `replicate` say what they see; find out who else published"),
        PublishError::NoStore(name) => Trouble::usage(what).hint(format!(
            "put a [[site]] named {name} into the configuration, or give --site {name}=URL beside the others"
        )),
        PublishError::NoPlate(_) => Trouble::usage(what).hint("let one root sign the file again"),
        PublishError::OtherPlate { .. } | PublishError::Contradictory(_) => Trouble::new(Exit::Refused, what),
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
        PublishError::Unrestorable { .. } => Trouble::new(Exit::Refused, what).hint(
            "leave one of the dropped sites in until those snapshots are not needed, or replicate to the new sites first; \
             --accept-loss where the sites are lost already",
        ),
        PublishError::Survey(_) | PublishError::Plate(_) | PublishError::Record(_) => Trouble::failed(what),
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
    /// Names at stores that are no record that anybody needs.
    junk: usize,
    /// Stripes that can't be restored from the sites that stay.
    unrestorable_stripes: u64,
    holders: Vec<String>,
    warnings: Vec<String>,
}

impl Published {
    fn of(report: PublishReport, proposal: &Proposal, dropped_sites: Vec<String>, dry_run: bool) -> Self {
        let mut warnings: Vec<String> = report
            .records
            .troubles
            .iter()
            .chain(&report.troubles)
            .map(ToString::to_string)
            .collect();
        warnings.sort();
        warnings.dedup();
        if report.records.unread_pages > 0 {
            warnings.push(format!(
                "{} of run tables that heads name are given by no site: what only they name is not brought over",
                format::count(report.records.unread_pages as u64, "page")
            ));
        }
        if report.records.unrestorable > 0 {
            warnings.push(format!(
                "{} have fewer shards at the sites that stay than a restore needs",
                format::count(report.records.unrestorable, "stripe")
            ));
        }
        Self {
            dry_run,
            version: proposal.next.version,
            digest: proposal.digest().to_hex(),
            new_sites: report.plates,
            dropped_sites,
            records: report.records.records,
            copied: report.records.copied,
            junk: report.records.junk,
            unrestorable_stripes: report.records.unrestorable,
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
        if self.junk > 0 {
            let passed_over = format::count(self.junk as u64, "other name");
            writeln!(out, "{passed_over} passed over: no record that anybody needs")?;
        }
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
