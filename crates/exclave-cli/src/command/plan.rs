//! `exclave plan`: what the sites survive, in words, and what they share.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
};

use clap::Args;
use exclave_model::{ClassPolicy, Geometry, SiteId, SiteRecord};
use exclave_plan::{Candidate, Layout, Quorums, Reachability, default_geometry};
use exclave_site::Scheme;
use serde::Serialize;

use super::World;
use crate::{
    arguments::SiteArguments,
    config::{ClassSettings, SiteConfig},
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::{Report, aligned, figures, words},
    sites,
};

/// `plan`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    sites: SiteArguments,
    #[command(flatten)]
    pub class: ClassArguments,
}

/// How datasets are to be protected.
#[derive(Debug, Clone, Args)]
pub struct ClassArguments {
    /// Data and parity shards, such as 4+2; by default what fits the number of sites
    #[arg(long, value_name = "DATA+PARITY")]
    code: Option<Geometry>,
    /// Sites that may be lost right after a commit
    #[arg(long, value_name = "COUNT")]
    losses: Option<u8>,
    /// Sites that may lie at the same time
    #[arg(long, value_name = "COUNT")]
    liars: Option<u8>,
}

impl ClassArguments {
    /// The settings, where the command line says nothing.
    pub fn over(&self, settings: &ClassSettings) -> ClassSettings {
        ClassSettings {
            code: self.code.or(settings.code),
            losses: self.losses.or(settings.losses),
            liars: self.liars.unwrap_or(settings.liars),
            ..settings.clone()
        }
    }
}

/// Shows the plan.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let config = world.config()?;
    let chosen = sites::choose(&arguments.sites.wanted(), &config)?;
    let records = chosen.iter().enumerate().map(|(number, site)| {
        // Ids are drawn by `init`; until then the order of the configuration stands in.
        let mut id = [0; 16];
        id[15] = u8::try_from(number).unwrap_or(u8::MAX);
        record(site, SiteId::from_bytes(id))
    });
    let plan = Plan::make(
        &chosen,
        &records.collect::<Vec<_>>(),
        &arguments.class.over(&config.class),
    )?;
    world.output.report(&plan)?;
    Ok(plan.exit())
}

/// What the charter will say about a site.
pub fn record(site: &SiteConfig, id: SiteId) -> SiteRecord {
    let domains = site.domains.clone();
    SiteRecord {
        id,
        name: site.name.clone(),
        hosting: site.hosting,
        pace: site.pace,
        country: domains.country,
        region: domains.region,
        operator: domains.operator,
        legal_reach: (!domains.legal_reach.is_empty()).then_some(domains.legal_reach),
        iam_realm: domains.iam_realm,
    }
}

/// Sites, layout, quorums, and what is shared.
#[derive(Serialize)]
pub struct Plan {
    code: String,
    data_shards: u8,
    parity_shards: u8,
    /// a: shards of every stripe that are verified before a snapshot counts as committed.
    shards_at_commit: u8,
    /// q: sites that hold the head.
    heads: u8,
    /// r: sites that must answer for the newest snapshot to be known.
    answers: u8,
    losses_after_commit: u8,
    losses_when_complete: u8,
    down_at_commit: u8,
    liars: u8,
    /// Bytes stored for each byte of data.
    stored_per_byte: f64,
    promise: String,
    sites: Vec<PlannedSite>,
    warnings: Vec<Warning>,
    #[serde(skip)]
    policy: ClassPolicy,
}

#[derive(Serialize)]
struct PlannedSite {
    name: String,
    address: String,
    pace: &'static str,
    hosting: &'static str,
    /// The shard of every stripe that it holds; none when it is a spare.
    shard: Option<u8>,
}

/// Something that is lost together.
#[derive(Serialize)]
struct Warning {
    text: String,
    /// Losing it leaves fewer than k shards.
    fatal: bool,
}

impl Plan {
    /// Works it out.
    pub fn make(sites: &[SiteConfig], records: &[SiteRecord], class: &ClassSettings) -> Result<Self, Trouble> {
        let refused = || Trouble::usage("these sites can't keep such a promise");
        let count = u8::try_from(sites.len()).unwrap_or(u8::MAX);
        let geometry = match class.code {
            Some(code) => code,
            None => default_geometry(count, class.liars).because(refused)?.0,
        };
        let quorums = Quorums::new(geometry, class.losses, class.liars).because(refused)?;
        let candidates: Vec<Candidate> = records
            .iter()
            .map(|record| Candidate::of(record, Reachability::Reachable))
            .collect();
        let layout = Layout::choose(&candidates, geometry.total()).because(refused)?;
        let payload = usize::try_from(class.payload_bytes).unwrap_or(usize::MAX);
        let payload = exclave_model::PayloadLength::new(payload, geometry.data())
            .because(|| Trouble::usage("class.payload fits no stripe"))?;
        let promise = quorums.describe();
        let mut warnings = shared_domains(&layout, &candidates, records, geometry);
        warnings.extend(shared_disks(sites, records, &layout, geometry));
        Ok(Self {
            code: geometry.to_string(),
            data_shards: geometry.data(),
            parity_shards: geometry.parity(),
            shards_at_commit: quorums.shards_at_commit(),
            heads: quorums.heads(),
            answers: quorums.answers(),
            losses_after_commit: promise.lost_after_commit,
            losses_when_complete: promise.lost_when_complete,
            down_at_commit: promise.down_at_commit,
            liars: class.liars,
            stored_per_byte: f64::from(geometry.total()) / f64::from(geometry.data()),
            promise: promise.to_string(),
            sites: sites
                .iter()
                .zip(records)
                .map(|(site, record)| PlannedSite {
                    name: site.name.clone(),
                    address: site.address.to_string(),
                    pace: site.pace.as_str(),
                    hosting: site.hosting.as_str(),
                    shard: layout.index_of(record.id),
                })
                .collect(),
            warnings,
            policy: ClassPolicy {
                geometry,
                losses: quorums.tolerance().losses,
                liars: quorums.tolerance().liars,
                payload,
                read_back: class.read_back,
            },
        })
    }

    /// What the charter will say about the class.
    pub fn policy(&self) -> ClassPolicy {
        self.policy
    }

    /// What is promised, in words.
    pub fn promise(&self) -> &str {
        &self.promise
    }

    /// What is lost together, in words.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(|warning| warning.text.as_str())
    }

    fn exit(&self) -> Exit {
        if self.warnings.iter().any(|warning| warning.fatal) {
            Exit::Findings
        } else {
            Exit::Done
        }
    }
}

fn shared_domains(
    layout: &Layout,
    candidates: &[Candidate],
    records: &[SiteRecord],
    geometry: Geometry,
) -> Vec<Warning> {
    let name = |id: &SiteId| {
        let record = records.iter().find(|record| record.id == *id);
        record.map_or_else(|| id.to_string(), |record| record.name.clone())
    };
    let shared = layout.shared_domains(candidates).into_iter();
    shared
        .map(|shared| {
            let names: Vec<String> = shared.sites.iter().map(name).collect();
            warning(&shared.domain.to_string(), &names, geometry)
        })
        .collect()
}

/// Directories on one file system are lost with one disk; no one needs to have written that down.
fn shared_disks(sites: &[SiteConfig], records: &[SiteRecord], layout: &Layout, geometry: Geometry) -> Vec<Warning> {
    let mut disks: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (site, record) in sites.iter().zip(records) {
        if let Scheme::File { root } = site.address.scheme()
            && let Ok(metadata) = std::fs::metadata(root)
            && layout.index_of(record.id).is_some()
        {
            disks.entry(metadata.dev()).or_default().insert(site.name.clone());
        }
    }
    let shared = disks.into_values().filter(|names| names.len() > 1);
    shared
        .map(|names| warning("one file system", &names.into_iter().collect::<Vec<_>>(), geometry))
        .collect()
}

fn warning(what: &str, names: &[String], geometry: Geometry) -> Warning {
    let left = usize::from(geometry.total()).saturating_sub(names.len());
    let needed = usize::from(geometry.data());
    let fatal = left < needed;
    let consequence = if fatal {
        format!("losing it leaves {left} of the {needed} shards that restore")
    } else {
        format!(
            "losing it leaves {} more than restore needs",
            format::count((left - needed) as u64, "shard")
        )
    };
    Warning {
        text: format!("{} share {what}: {consequence}", names.join(", ")),
        fatal,
    }
}

impl Report for Plan {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = [
            words("SITE"),
            words("ADDRESS"),
            words("PACE"),
            words("HOSTING"),
            figures("SHARD"),
        ];
        let rows = self.sites.iter().map(|site| {
            let shard = site.shard.map_or_else(|| "spare".to_owned(), |shard| shard.to_string());
            vec![
                site.name.clone(),
                site.address.clone(),
                site.pace.to_owned(),
                site.hosting.to_owned(),
                shard,
            ]
        });
        write!(out, "{}", aligned(&columns, rows))?;
        writeln!(out, "\n{}", self.promise)?;
        writeln!(
            out,
            "Each byte is stored as {:.2}. A commit has {} shards of every stripe and its head at {}.",
            self.stored_per_byte,
            self.shards_at_commit,
            format::count(u64::from(self.heads), "site")
        )?;
        writeln!(
            out,
            "The newest snapshot is known for sure once {}.",
            match self.answers {
                1 => "1 site has answered".to_owned(),
                answers => format!("{answers} sites have answered"),
            }
        )?;
        for warning in &self.warnings {
            writeln!(out, "Warning: {}", warning.text)?;
        }
        Ok(())
    }
}
