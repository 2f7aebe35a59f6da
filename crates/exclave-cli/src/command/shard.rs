//! `exclave shard inspect|payload`: what a stranger without any key can tell of one object.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use exclave_model::{
    PayloadHash, ShardHeader,
    context::{CHAINING_VALUE_BYTES, HEADER_BYTES},
    limit::{SEGMENT_BYTES, STRIPE_BYTES_MAX},
};
use exclave_stripe::{GroupHash, payload_root};
use serde::Serialize;

use super::World;
use crate::{
    error::{Context as _, Trouble},
    exit::Exit,
    format,
    output::{Report, broken},
};

/// `shard ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a shard's header and check its payload against its trailer
    Inspect(File),
    /// Write a shard's payload, unchecked, to standard output
    Payload(File),
}

/// The object.
#[derive(Debug, Args)]
pub struct File {
    /// The shard object; - is standard input
    file: PathBuf,
}

/// Longest shard object there can be: the whole stripe (k = 1), its trailer, its header.
const OBJECT_BYTES_MAX: u64 =
    (HEADER_BYTES + STRIPE_BYTES_MAX + STRIPE_BYTES_MAX / SEGMENT_BYTES * CHAINING_VALUE_BYTES) as u64;

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    match command {
        Command::Inspect(arguments) => {
            let inspected = inspect(&arguments.file)?;
            world.output.report(&inspected)?;
            Ok(if inspected.damaged_groups.is_empty() && inspected.length_is_right {
                Exit::Done
            } else {
                Exit::Findings
            })
        }
        Command::Payload(arguments) => payload(&arguments.file, world),
    }
}

fn payload(path: &Path, world: &mut World) -> Result<Exit, Trouble> {
    let mut object = open(path)?;
    let header = header(&mut object, path)?;
    let expected = header.context.payload.bytes() as u64;
    let copied = io::copy(&mut object.take(expected), world.output.raw());
    let copied = copied.map_err(broken)?;
    world.output.finish()?;
    if copied == expected {
        Ok(Exit::Done)
    } else {
        Err(Trouble::failed(format!(
            "{} ends after {copied} of {expected} bytes of payload",
            path.display()
        )))
    }
}

/// Reads group by group: memory stays that of one group and one trailer.
fn inspect(path: &Path) -> Result<Inspected, Trouble> {
    let cannot = || Trouble::failed(format!("{} can't be read", path.display()));
    let mut object = open(path)?;
    let header = header(&mut object, path)?;
    let groups = header.context.payload.groups();
    let mut found = Vec::with_capacity(groups);
    let mut read_bytes = HEADER_BYTES as u64;
    let mut whole = blake3::Hasher::new();
    let mut block = vec![0; SEGMENT_BYTES];
    for group in 0..groups {
        let filled = fill(&mut object, &mut block).because(cannot)?;
        read_bytes += filled as u64;
        if filled < SEGMENT_BYTES {
            break;
        }
        whole.update(&block);
        found.push(GroupHash::of(&block, group, groups));
    }
    let mut trailer = vec![0; groups * CHAINING_VALUE_BYTES];
    let filled = fill(&mut object, &mut trailer).because(cannot)?;
    let rest = io::copy(&mut object, &mut io::sink()).because(cannot)?;
    read_bytes += filled as u64 + rest;
    let claimed = GroupHash::read_trailer(trailer.get(..filled).unwrap_or_default()).unwrap_or_default();
    let damaged_groups =
        (0..groups).filter(|group| found.get(*group) != claimed.get(*group) || found.get(*group).is_none());
    let expected_bytes = header.context.payload.object_bytes() as u64;
    Ok(Inspected {
        damaged_groups: damaged_groups.collect(),
        payload_hash: (found.len() == groups).then(|| PayloadHash::from_bytes(*whole.finalize().as_bytes()).to_hex()),
        trailer_hash: (claimed.len() == groups).then(|| payload_root(&claimed).to_hex()),
        length_is_right: read_bytes == expected_bytes,
        object_bytes: read_bytes,
        expected_bytes,
        archive: header.context.anchor.to_hex(),
        run: header.context.run.to_hex(),
        stripe: header.context.ordinal,
        shard: header.index,
        role: if header.index < header.context.data {
            "data"
        } else {
            "parity"
        },
        data_shards: header.context.data,
        payload_bytes: header.context.payload.bytes() as u64,
        groups: groups as u64,
        commitment: header.commitment.to_hex(),
    })
}

fn open(path: &Path) -> Result<Box<dyn Read>, Trouble> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = std::fs::File::open(path);
        Box::new(file.because(|| Trouble::usage(format!("{} can't be opened", path.display())))?)
    };
    // One byte more, so that an object which is too long is seen to be.
    Ok(Box::new(source.take(OBJECT_BYTES_MAX + 1)))
}

fn header(object: &mut dyn Read, path: &Path) -> Result<ShardHeader, Trouble> {
    let mut bytes = [0; HEADER_BYTES];
    let wrong = || Trouble::failed(format!("{} is no shard object", path.display()));
    object.read_exact(&mut bytes).because(wrong)?;
    ShardHeader::from_bytes(&bytes).because(wrong)
}

fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What a shard object says of itself, and whether it agrees with itself.
#[derive(Serialize)]
struct Inspected {
    archive: String,
    run: String,
    stripe: u32,
    shard: u8,
    role: &'static str,
    data_shards: u8,
    payload_bytes: u64,
    groups: u64,
    commitment: String,
    payload_hash: Option<String>,
    trailer_hash: Option<String>,
    object_bytes: u64,
    expected_bytes: u64,
    length_is_right: bool,
    damaged_groups: Vec<usize>,
}

impl Report for Inspected {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "archive     {}", self.archive)?;
        writeln!(out, "run         {}", self.run)?;
        writeln!(out, "stripe      {}", self.stripe)?;
        writeln!(
            out,
            "shard       {} ({}), any {} restore the stripe",
            self.shard, self.role, self.data_shards
        )?;
        writeln!(
            out,
            "payload     {} in {} groups",
            format::bytes(self.payload_bytes),
            self.groups
        )?;
        writeln!(out, "commitment  {}", self.commitment)?;
        writeln!(
            out,
            "hash        {}",
            self.payload_hash
                .as_deref()
                .unwrap_or("unknown: the payload is incomplete")
        )?;
        if !self.length_is_right {
            writeln!(
                out,
                "length      {} bytes, {} expected",
                self.object_bytes, self.expected_bytes
            )?;
        }
        match self.damaged_groups.as_slice() {
            [] => writeln!(
                out,
                "trailer     agrees with the payload; whether the ledger does too, only an audit can tell"
            ),
            groups => {
                let shown: Vec<String> = groups.iter().take(20).map(usize::to_string).collect();
                let more = if groups.len() > shown.len() { ", .." } else { "" };
                writeln!(
                    out,
                    "trailer     disagrees in {} of {} groups: {}{more}",
                    groups.len(),
                    self.groups,
                    shown.join(", ")
                )
            }
        }
    }
}
