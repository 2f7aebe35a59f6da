//! `exclave lock show|extend`: until when everything is locked that retained snapshots need, and how that is extended.
//!
//! A keeper's work. It takes the anchor and credentials that may list versions, read, ask for retention, and (to extend) put
//! retention; no key, and no right to put or delete an object.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use clap::{Args, Subcommand};
use exclave_engine::{
    audit::locks::{DAYS_MAX, FORECAST_DAYS, LockReport, LockRequest, SiteLocks, locks},
    survey::survey,
};
use exclave_site::{Keep, open_keep};
use jiff::Timestamp;
use serde::Serialize;

use super::{World, audit::PublicArguments};
use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::{Report, aligned, figures, words},
    progress::Shown,
    sites::OpenSite,
};

/// `lock ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show until when everything is locked, what falls out of lock soon, and what it takes to extend it
    #[command(visible_alias = "forecast")]
    Show(Show),
    /// Extend the lock of everything that retained snapshots need; do nothing else
    Extend(Extend),
}

/// `lock show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all is locked for as long as was asked; 3 something isn't, or it isn't known.")]
pub struct Show {
    /// Count what is locked for fewer days than this
    #[arg(long = "for", value_name = "DAYS", default_value_t = 30, value_parser = days())]
    days: u32,
    #[command(flatten)]
    public: PublicArguments,
}

/// `lock extend`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each object is asked for its lock first, and only what falls short is extended: whoever is interrupted begins again. Nobody
can take it back, so there is a cap of 400 days.
Example: exclave lock extend --for 90 --credentials keeper.toml --dry-run

Exit codes: 0 all is locked for that long; 3 something isn't, or it isn't known.")]
pub struct Extend {
    /// For how many days from now everything has to be locked
    #[arg(long = "for", value_name = "DAYS", value_parser = days())]
    days: u32,
    /// Show what would be extended; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    public: PublicArguments,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX))
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    match command {
        Command::Show(Show { days, public }) => keep(public, *days, Deed::Show, world),
        Command::Extend(Extend { days, dry_run, public }) => {
            let deed = if *dry_run { Deed::Rehearse } else { Deed::Extend };
            keep(public, *days, deed, world)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Show,
    Rehearse,
    Extend,
}

fn keep(public: &PublicArguments, days: u32, deed: Deed, world: &mut World) -> Result<Exit, Trouble> {
    // Who only looks opens no power.
    let powers = |open: &[OpenSite]| match deed {
        Deed::Extend => powers(open),
        Deed::Show | Deed::Rehearse => BTreeMap::new(),
    };
    let (edge, archive, _, keeps) = public.open_with(world, powers)?;
    crate::agent::refuse_disputed(&archive)?;
    let survey = survey(&archive, &edge.surroundings)
        .because(|| Trouble::failed(format!("archive {} can't be read", archive.anchor)))?;
    let request = LockRequest {
        days: Some(days),
        dry_run: deed != Deed::Extend,
        deadline: public.deadline(),
    };
    let doing = if deed == Deed::Extend {
        "extending locks"
    } else {
        "looking at locks"
    };
    let shown = Shown::begin(&world.output, &edge.surroundings.progress, doing);
    let report = locks(&archive, &survey, &request, &keeps, &edge.surroundings);
    drop(shown);
    let kept = Kept::of(report, days, deed);
    world.output.report(&kept)?;
    Ok(kept.exit())
}

/// The power to extend, by the place of a site. A store that locks nothing has none.
fn powers(open: &[OpenSite]) -> BTreeMap<usize, Arc<dyn Keep>> {
    let keeps = open.iter().enumerate();
    keeps
        .filter_map(|(at, site)| Some((at, open_keep(&site.config.address, &site.settings).ok()?)))
        .collect()
}

/// What locks come to.
#[derive(Serialize)]
struct Kept {
    /// For how many days everything should be locked.
    days: u32,
    /// True when nothing was to be changed.
    dry_run: bool,
    sites: Vec<KeptSite>,
    /// Records that could not be read, so that not everything is known that is needed.
    unread_records: u64,
    interrupted: bool,
}

#[derive(Serialize)]
struct KeptSite {
    site: String,
    /// Why nothing is known of its locks.
    unknown: Option<String>,
    objects: u64,
    /// Objects that should be there and aren't; `exclave audit` tells more.
    missing: u64,
    unlocked: u64,
    /// Objects whose lock somebody with a special right may lift.
    governance: u64,
    /// Objects that fall out of lock within so many days.
    falls_out: BTreeMap<u32, u64>,
    /// When the first one does.
    earliest: Option<Timestamp>,
    earliest_object: Option<String>,
    /// Objects that are locked for less than was asked; each takes a request to extend.
    short: u64,
    extended: u64,
    failed: u64,
    error: Option<String>,
    /// Objects that lie beneath delete markers or bytes that are not ours.
    beneath: u64,
    /// By the site's own clock.
    now: Option<Timestamp>,
}

impl KeptSite {
    fn of(site: SiteLocks) -> Self {
        let (earliest, earliest_object) = site.earliest.unzip();
        let time = |seconds: i64| Timestamp::from_second(seconds).ok();
        Self {
            site: site.site,
            unknown: site.unknown,
            objects: site.objects,
            missing: site.missing,
            unlocked: site.unlocked,
            governance: site.governance,
            falls_out: FORECAST_DAYS.into_iter().zip(site.falls_out).collect(),
            earliest: earliest.and_then(time),
            earliest_object,
            short: site.short,
            extended: site.extended,
            failed: site.failed,
            error: site.said,
            beneath: site.beneath,
            now: time(site.now),
        }
    }

    /// Objects that are locked for less than was asked, still.
    fn left(&self) -> u64 {
        self.short.saturating_sub(self.extended)
    }
}

impl Kept {
    fn of(report: LockReport, days: u32, deed: Deed) -> Self {
        Self {
            days,
            dry_run: deed != Deed::Extend,
            sites: report.sites.into_iter().map(KeptSite::of).collect(),
            unread_records: report.unread,
            interrupted: report.interrupted,
        }
    }

    fn exit(&self) -> Exit {
        let lacks = |site: &KeptSite| site.left() > 0 || site.failed > 0 || site.missing > 0 || site.beneath > 0;
        // A store that locks nothing is no finding; one where all is locked, none either. None at all is.
        let none = self.sites.iter().all(|site| site.unknown.is_some());
        let found = match none || self.unread_records > 0 || self.sites.iter().any(lacks) {
            true => Exit::Findings,
            false => Exit::Done,
        };
        match self.interrupted {
            true => found.and(Exit::Interrupted),
            false => found,
        }
    }
}

impl Report for Kept {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut columns = vec![words("SITE"), figures("OBJECTS"), figures("UNLOCKED")];
        columns.extend(FORECAST_DAYS.map(|days| {
            figures(match days {
                30 => "< 30 DAYS",
                60 => "< 60 DAYS",
                _ => "< 90 DAYS",
            })
        }));
        columns.extend([words("FIRST ENDS"), figures("SHORT"), figures("EXTENDED")]);
        let rows = self.sites.iter().filter(|site| site.unknown.is_none()).map(|site| {
            let mut row = vec![site.site.clone(), site.objects.to_string(), site.unlocked.to_string()];
            row.extend(site.falls_out.values().map(ToString::to_string));
            row.push(
                site.earliest
                    .map_or_else(|| "-".to_owned(), |at| format::local(at.as_second())),
            );
            row.extend([site.short.to_string(), site.extended.to_string()]);
            row
        });
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            write!(out, "{}", aligned(&columns, rows.into_iter()))?;
        }
        for site in &self.sites {
            if let Some(why) = &site.unknown {
                writeln!(out, "{}: {}", site.site, format::plain(why))?;
            }
            for (count, what) in [
                (site.missing, "should be there and aren't: exclave audit"),
                (
                    site.governance,
                    "are locked in governance mode: somebody with a special right may lift that",
                ),
                (
                    site.beneath,
                    "lie beneath delete markers or bytes that are not ours: exclave audit",
                ),
            ] {
                if count > 0 {
                    writeln!(out, "{}: {} {what}", site.site, format::count(count, "object"))?;
                }
            }
            if let Some(error) = &site.error {
                let failed = format::count(site.failed, "request");
                writeln!(out, "{}: {failed} failed: {}", site.site, format::plain(error))?;
            }
        }
        let left: u64 = self.sites.iter().map(KeptSite::left).sum();
        if left > 0 {
            let objects = format::count(left, "object");
            writeln!(
                out,
                "Locked for less than {} days: {objects}; to extend that takes as many requests.",
                self.days
            )?;
        }
        if self.unread_records > 0 {
            let records = format::count(self.unread_records, "record");
            writeln!(out, "{records} could not be read: more may be needed than is shown.")?;
        }
        Ok(())
    }
}
