//! `exclave replicate --dry-run`: walks, counts, sends nothing.

use std::io::{self, Write};

use exclave_dataset::walk::{Walk, Walked};
use serde::Serialize;

use super::{Arguments, FINDINGS_SHOWN, list_from};
use crate::{
    command::World,
    config::{DatasetConfig, SourceConfig},
    datasets,
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::Report,
};

/// Looks at each dataset.
pub(super) fn dry_run(arguments: &Arguments, wanted: &[DatasetConfig], world: &mut World) -> Result<Exit, Trouble> {
    let mut looked = Vec::new();
    for dataset in wanted {
        looked.push(look(arguments, dataset)?);
    }
    let clean = looked.iter().all(|dataset| dataset.skipped == 0);
    world.output.report(&WouldTake {
        would_replicate: looked,
    })?;
    Ok(if clean { Exit::Done } else { Exit::Findings })
}

fn look(arguments: &Arguments, dataset: &DatasetConfig) -> Result<Looked, Trouble> {
    let mut looked = Looked {
        dataset: dataset.name.clone(),
        source: "command",
        files: 0,
        directories: 0,
        others: 0,
        bytes: None,
        excluded: 0,
        skipped: 0,
        findings: Vec::new(),
    };
    let SourceConfig::Path(path) = &dataset.source else {
        return Ok(looked);
    };
    if arguments.stdin {
        looked.source = "standard input";
        return Ok(looked);
    }
    let cannot = || Trouble::usage(format!("{} can't be replicated", path.display()));
    let metadata = std::fs::metadata(path).because(cannot)?;
    if !metadata.is_dir() {
        looked.source = "file";
        looked.files = 1;
        looked.bytes = Some(metadata.len());
        return Ok(looked);
    }
    let options = datasets::walk_options(dataset, list_from(arguments).as_ref())?;
    let mut walk = Walk::new(path, options).because(cannot)?;
    for walked in &mut walk {
        if let Walked::Finding(finding) = walked
            && looked.findings.len() < FINDINGS_SHOWN
        {
            looked.findings.push(finding.to_string());
        }
    }
    let counts = walk.counts();
    Ok(Looked {
        source: "tree",
        files: counts.files,
        directories: counts.directories,
        others: counts.others,
        bytes: Some(counts.bytes),
        excluded: counts.excluded,
        skipped: counts.skipped,
        ..looked
    })
}

/// What would be taken.
#[derive(Serialize)]
struct WouldTake {
    would_replicate: Vec<Looked>,
}

#[derive(Serialize)]
struct Looked {
    dataset: String,
    source: &'static str,
    files: u64,
    directories: u64,
    others: u64,
    bytes: Option<u64>,
    excluded: u64,
    skipped: u64,
    findings: Vec<String>,
}

impl Report for WouldTake {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for dataset in &self.would_replicate {
            write!(out, "Would replicate {} ({}", dataset.dataset, dataset.source)?;
            if let Some(bytes) = dataset.bytes {
                write!(
                    out,
                    ", {}, {}",
                    format::count(dataset.files, "file"),
                    format::bytes(bytes)
                )?;
            }
            writeln!(
                out,
                "); {} excluded, {} not readable",
                dataset.excluded, dataset.skipped
            )?;
            for finding in &dataset.findings {
                writeln!(out, "  {}", format::plain(finding))?;
            }
        }
        Ok(())
    }
}
