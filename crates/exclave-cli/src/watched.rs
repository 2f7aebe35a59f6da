//! What witnesses say, for whoever reads: checkpoints that are brought along, witnesses that are asked, evidence that is kept.
//!
//! All sites together can show an old state. Whoever has a checkpoint from elsewhere, or reaches a witness, sees that they show less
//! than there was. Nothing of this is looked at where the charter names no witnesses and nothing is brought.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use exclave_engine::{
    Archive,
    log::{Logs, read_logs},
    survey::{Freshness, Grade, Survey},
    witness::{NoCosignature, SetBack, Standing, Watched, collect, view::is_ours},
};
use exclave_log::{SignedCheckpoint, note::NOTE_BYTES_MAX};
use serde::Serialize;

use crate::{
    command::World,
    config::asking,
    error::{Context as _, Trouble},
    exit::Exit,
    format, private_file,
    surroundings::Edge,
};

/// What a reader knows from elsewhere, and whom to ask.
#[derive(Debug, Args)]
pub struct WatchedArguments {
    /// Hold what the sites show against the checkpoint in FILE, which came from elsewhere; may be repeated
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    checkpoint: Vec<PathBuf>,
    /// Ask the configuration's witnesses how large the logs are now
    #[arg(long, conflicts_with = "kit", hide_short_help = true)]
    ask_witnesses: bool,
    /// Keep what shows that the sites were set back, or that a log was forked, in this folder
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    evidence: Option<PathBuf>,
}

/// A report that the sites show less than was signed. Its checkpoint is signed; the rest is the reader's word.
#[derive(Serialize)]
struct Reported<'a> {
    format: &'static str,
    archive: String,
    /// What there was, with its signatures.
    checkpoint: String,
    /// Entries that the sites showed of that log.
    shown: u64,
    /// The sites that answered.
    sites: Vec<&'a str>,
    seen_unix: i64,
}

impl WatchedArguments {
    /// Looks, when there is something to hold the sites against. `doubted` says that this machine's clock is.
    pub fn look(
        &self,
        archive: &Archive,
        survey: &Survey,
        doubted: bool,
        edge: &Edge,
        world: &World,
    ) -> Result<Option<Watched>, Trouble> {
        if archive.charter().witnesses.is_none() && self.checkpoint.is_empty() {
            return Ok(None);
        }
        let mut brought = Vec::new();
        for path in &self.checkpoint {
            let bytes = private_file::read_public(path, NOTE_BYTES_MAX, "checkpoint")?;
            let bad = || Trouble::usage(format!("{} is no checkpoint of this archive's logs", path.display()));
            let checkpoint = SignedCheckpoint::parse(&bytes).because(bad)?;
            if !is_ours(archive, &checkpoint) {
                return Err(bad()
                    .hint("its log's key must be in a charter of the archive, and have signed it with both halves"));
            }
            brought.push(checkpoint);
        }
        let mut logs = edge.block_on(read_logs(archive));
        logs.compare(archive, survey);
        if self.ask_witnesses {
            self.ask(archive, &logs, &mut brought, edge, world)?;
        }
        let now = edge.surroundings.clock.now_unix_seconds();
        let watched = Watched::of(archive, &logs, &brought, (!doubted).then_some(now));
        for set_back in &watched.set_back {
            world
                .output
                .note(format!("ALARM: {}", format::plain(&set_back.to_string())));
            if let Some(folder) = &self.evidence {
                let kept = keep(folder, set_back, archive, now)?;
                world.output.note(format!("evidence is kept in {}", kept.display()));
            }
        }
        Ok(Some(watched))
    }

    fn ask(
        &self,
        archive: &Archive,
        logs: &Logs,
        brought: &mut Vec<SignedCheckpoint>,
        edge: &Edge,
        world: &World,
    ) -> Result<(), Trouble> {
        let (some, unknown) = asking(&world.config()?.witnesses, archive.charter());
        for name in unknown {
            world
                .output
                .note(format!("Warning: the charter names no witness {name}"));
        }
        if some.is_empty() {
            return Err(
                Trouble::usage("there is no witness to ask").hint("name those of the charter under [[witness]]")
            );
        }
        for log in &logs.logs {
            let Some(note) = log.proven_note() else { continue };
            let found = collect::ask(archive, note, &log.entries, &some, &edge.surroundings);
            for (name, why) in &found.without {
                world
                    .output
                    .note(format!("Warning: witness {name}: {}", format::plain(&why.to_string())));
                // Its answer isn't signed: it is a reason to stop, and no evidence.
                if let NoCosignature::Behind { known, .. } | NoCosignature::Forked { known } = why {
                    return Err(Trouble::new(
                        Exit::Stale,
                        format!(
                            "witness {name} has cosigned {} of a log of which the sites show {}",
                            format::entries(*known),
                            note.checkpoint.size
                        ),
                    )
                    .hint("the sites may have been set back together; without --ask-witnesses, and with --accept-stale, what they show is taken"));
                }
            }
            brought.push(found.checkpoint);
        }
        Ok(())
    }
}

fn keep(folder: &Path, set_back: &SetBack, archive: &Archive, now: i64) -> Result<PathBuf, Trouble> {
    let cannot = || Trouble::failed(format!("the evidence can't be kept in {}", folder.display()));
    std::fs::create_dir_all(folder).because(cannot)?;
    let (kind, bytes) = match &set_back.evidence {
        Some(evidence) => ("fork", serde_json::to_vec_pretty(evidence).because(cannot)?),
        None => {
            let reported = Reported {
                format: "exclave set-back report v1",
                archive: archive.anchor.to_hex(),
                checkpoint: String::from_utf8_lossy(&set_back.checkpoint.to_bytes()).into_owned(),
                shown: set_back.shown,
                sites: archive.sites.iter().map(|handle| handle.name.as_str()).collect(),
                seen_unix: now,
            };
            ("set-back", serde_json::to_vec_pretty(&reported).because(cannot)?)
        }
    };
    let hash = blake3::hash(&bytes).to_hex();
    let path = folder.join(format!("{kind}.{}.json", hash.get(..16).unwrap_or_default()));
    private_file::replace_public(&path, bytes, "evidence")?;
    Ok(path)
}

/// How fresh a snapshot is, in words: what is proven, how old that is, and what isn't.
pub fn says(freshness: &Freshness) -> String {
    let counted = format!("{} sites answered, {} needed", freshness.answered, freshness.needed);
    let at = |at: i64| format::rfc3339(at);
    let witnesses = match freshness.standing {
        Standing::Unwatched => return counted,
        Standing::NotLogged => "it is in no log that the sites show".to_owned(),
        Standing::Disturbed => "a log holds what the sites don't show, or was forked".to_owned(),
        Standing::NoQuorum { counting, nations } => format!(
            "{counting} witnesses that count, in {}, vouch for it, which is no quorum",
            format::count(u64::from(nations), "nation")
        ),
        Standing::Old { at: time } => format!("witnesses vouched for it at {}, which is too long ago", at(time)),
        Standing::Clock { at: time } => {
            format!(
                "witnesses vouched for it at {}, and this machine's clock can't judge that",
                at(time)
            )
        }
        Standing::Vouched {
            counting,
            nations,
            at: time,
        } => format!(
            "{counting} witnesses in {} vouched for it at {}; not proven: lives of writers whose logs all sites hide",
            format::count(u64::from(nations), "nation"),
            at(time)
        ),
    };
    format!("{counted}; {witnesses}")
}

/// The line of a report, where witnesses were looked at.
pub fn line(freshness: &Freshness, now: i64) -> Option<String> {
    let age = match freshness.standing {
        Standing::Unwatched => return None,
        Standing::Vouched { at, .. } | Standing::Old { at } if at <= now => {
            let age = Duration::from_secs(now.abs_diff(at));
            format!(" ({} ago)", format::span(age))
        }
        _ => String::new(),
    };
    let grade: Grade = freshness.grade;
    Some(format!("Freshness {}: {}{age}", grade.as_str(), says(freshness)))
}
