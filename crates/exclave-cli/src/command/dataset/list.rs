//! `exclave dataset list`: which datasets there are, in which class, and by whose word.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use clap::Args;
use exclave_engine::{
    registry::{Registry, class_of_run},
    survey::survey,
};
use exclave_model::DatasetId;
use serde::Serialize;

use super::{Place, policy_text};
use crate::{
    command::World,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
};

/// `dataset list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only datasets of this class
    #[arg(long, value_name = "NUMBER")]
    class: Option<u32>,
    #[command(flatten)]
    place: Place,
}

pub fn list(arguments: &List, world: &mut World) -> Result<Exit, Trouble> {
    let public = arguments.place.open(world)?;
    let (archive, edge) = (&public.archive, &public.edge);
    let registry = edge.block_on(Registry::find(archive));
    let survey = survey(archive, &edge.surroundings).because(|| Trouble::failed("the heads can't be read"))?;
    let mut runs = BTreeMap::new();
    for found in survey.found.values() {
        runs.insert(found.head.dataset, found.head.run);
    }
    let local = public
        .state
        .as_ref()
        .map_or(Ok(Vec::new()), exclave_engine::AgentState::datasets);
    let local = local.because(|| Trouble::failed("the agent's datasets can't be read"))?;
    let mut ids: BTreeSet<DatasetId> = runs.keys().copied().chain(registry.datasets()).collect();
    ids.extend(local.iter().map(|dataset| dataset.id));
    let charter = archive.charter();
    let mut datasets = Vec::new();
    for id in ids {
        let ours = local.iter().find(|dataset| dataset.id == id);
        let record = registry.newest(id);
        let run = runs.get(&id);
        let class = match (record, ours, run) {
            (Some(found), ..) => Some(found.record.class),
            (None, Some(ours), _) => Some(ours.class),
            (None, None, Some(run)) => edge.block_on(class_of_run(archive, *run)),
            (None, None, None) => None,
        };
        let policy = class.and_then(|class| charter.class(class)?.policy().ok());
        datasets.push(Line {
            dataset: id.to_hex(),
            name: ours.map(|ours| ours.name.clone()),
            class,
            registered: record.map(|found| found.record.version),
            must_be: class.is_some_and(|class| charter.demands_registration(class)),
            has_snapshots: run.is_some(),
            holds: policy.map(|policy| match registry.policy(id, &policy) {
                Ok(policy) => policy_text(&policy),
                Err(rule) => rule.to_string(),
            }),
        });
    }
    datasets.retain(|line| arguments.class.is_none_or(|class| line.class == Some(class)));
    datasets.sort_by(|left, right| (left.class, &left.dataset).cmp(&(right.class, &right.dataset)));
    let findings: Vec<String> = registry.findings.iter().map(ToString::to_string).collect();
    let amiss = datasets.iter().any(|line| line.must_be && line.registered.is_none());
    let exit = match findings.is_empty() && !amiss {
        true => Exit::Done,
        false => Exit::Findings,
    };
    world.output.report(&Listed { datasets, findings })?;
    Ok(exit)
}

/// One dataset.
#[derive(Serialize)]
struct Line {
    dataset: String,
    /// What this agent calls it.
    name: Option<String>,
    class: Option<u32>,
    /// The version of its newest record that counts.
    registered: Option<u32>,
    /// Whether its class takes registered datasets alone.
    must_be: bool,
    has_snapshots: bool,
    holds: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    datasets: Vec<Line>,
    findings: Vec<String>,
}

impl Report for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.datasets.is_empty() {
            writeln!(out, "No dataset is known.")?;
        }
        for line in &self.datasets {
            let class = line.class.map_or_else(|| "?".to_owned(), |class| class.to_string());
            let standing = match (line.registered, line.must_be) {
                (Some(version), _) => format!("registered ({version})"),
                (None, true) => "NOT REGISTERED, and its class demands it".to_owned(),
                (None, false) => "not registered".to_owned(),
            };
            let name = line.name.as_ref().map(|name| format!(" {}", format::plain(name)));
            writeln!(
                out,
                "class {class}  {}{}  {standing}{}  {}",
                line.dataset,
                name.unwrap_or_default(),
                if line.has_snapshots { "" } else { ", no snapshot yet" },
                line.holds.as_deref().unwrap_or_default()
            )?;
        }
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(out, "Finding: {}", format::plain(finding)))
    }
}
