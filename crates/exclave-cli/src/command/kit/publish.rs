//! `exclave kit publish`: a signed kit goes to every site.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use bytes::Bytes;
use clap::Args;
use exclave_engine::kit::{PublishKitError, PublishedKit, publish_kit};
use exclave_model::KitFile;
use serde::Serialize;

use crate::{
    arguments::SiteArguments,
    command::{World, charter::open_public},
    error::Trouble,
    exit::Exit,
    format,
    kit::KitFolder,
    output::Report,
    sites,
};

/// `kit publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// The folder of a kit that enough roots signed
    folder: PathBuf,
    #[command(flatten)]
    sites: SiteArguments,
}

pub fn publish(arguments: &Publish, world: &mut World) -> Result<Exit, Trouble> {
    let anchor = world.config()?.archive;
    let kit = KitFolder::open(&arguments.folder, anchor)?;
    if let Some(name) = kit.missing.first() {
        return Err(Trouble::new(
            Exit::Refused,
            format!("{name} is missing; nothing was published"),
        ));
    }
    let Some(object) = &kit.object else {
        return Err(Trouble::new(Exit::Refused, "nobody has signed the kit"));
    };
    let public = open_public(&arguments.sites, Some(kit.kit.anchor), world)?;
    public.refuse_doubtful()?;
    if kit.kit.charter_version < public.archive.charter().version {
        world.output.note(format!(
            "Warning: the kit was made under charter version {}, and the newest is {}: make a new one",
            kit.kit.charter_version,
            public.archive.charter().version
        ));
    }
    let read = |file: &KitFile, at: usize| kit.piece(file, at).map(Bytes::from);
    let done = publish_kit(&public.archive, object, &read, &public.edge.surroundings).map_err(not_published)?;
    let published = Published::of(&kit, done);
    world.output.report(&published)?;
    Ok(match published.warnings.is_empty() {
        true => Exit::Done,
        false => Exit::Findings,
    })
}

fn not_published(error: PublishKitError) -> Trouble {
    let what = "the kit was not published";
    match &error {
        PublishKitError::Kit(_) => Trouble::new(Exit::Refused, what),
        PublishKitError::Taken { .. } => Trouble::new(Exit::Refused, what)
            .hint("make a kit again: it gets the next version; find out who published that one"),
        PublishKitError::Needed(_) | PublishKitError::File { .. } => Trouble::failed(what),
        PublishKitError::Sites { troubles, .. } => {
            let said: Vec<String> = troubles.iter().map(ToString::to_string).collect();
            let hint = troubles.iter().find_map(|trouble| sites::hint(&trouble.error));
            let what = match said.is_empty() {
                true => what.to_owned(),
                false => format!("{what}: {}", format::plain(&said.join("; "))),
            };
            Trouble::failed(what)
                .hint(hint.unwrap_or_else(|| "try again when more sites answer: it goes on from there".to_owned()))
        }
    }
    .source(error)
}

/// A kit at the sites.
#[derive(Serialize)]
struct Published {
    version: u32,
    digest: String,
    files: usize,
    bytes: u64,
    sites_needed: usize,
    sites: Vec<Holder>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Holder {
    site: String,
    /// Bytes that weren't there yet.
    sent: u64,
}

impl Published {
    fn of(kit: &KitFolder, done: PublishedKit) -> Self {
        let holders = done.holders.into_iter();
        Self {
            version: kit.kit.version,
            digest: kit.digest.to_hex(),
            files: kit.kit.files.len(),
            bytes: kit.kit.files.iter().map(|file| file.length).sum(),
            sites_needed: done.needed,
            sites: holders.map(|(site, sent)| Holder { site, sent }).collect(),
            warnings: done.troubles.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Report for Published {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for warning in &self.warnings {
            writeln!(out, "Warning: {}", format::plain(warning))?;
        }
        writeln!(
            out,
            "kit {}: {} with {}",
            self.version,
            format::count(self.files as u64, "file"),
            format::bytes(self.bytes)
        )?;
        for Holder { site, sent } in &self.sites {
            match sent {
                0 => writeln!(out, "  {site} had all of it")?,
                sent => writeln!(out, "  {site} got {}", format::bytes(*sent))?,
            }
        }
        writeln!(out, "digest {}", self.digest)
    }
}
