//! `exclave kit make|sign|show|publish|fetch`: what a stranger needs to restore, in one folder, at every site.
//!
//! `make` and `publish` speak to sites; `sign` and `show` work on the folder alone, on a machine without a network. The
//! program in a kit will see the recovery key, so roots sign it, as many as a charter takes: an agent's key can't.

mod fetch;
mod logins;
mod make;
mod page;
mod program;
mod publish;
mod sign;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use exclave_model::Anchor;

use self::page::Page;
use super::World;
use crate::{error::Trouble, exit::Exit, kit::KitFolder, surroundings};

/// `kit ..`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a kit in a folder: program, decoder, run-books, addresses, sealed credentials to read with
    Make(make::Make),
    /// Sign a kit with a root key, once what is in it was compared
    Sign(sign::Sign),
    /// Check every file of a kit, and show what it holds
    Show(Show),
    /// Put a signed kit at every site
    Publish(publish::Publish),
    /// Fetch a kit from the sites, or the newest
    Fetch(fetch::Fetch),
}

/// `kit show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The kit's folder, or a copy of one at a site
    folder: PathBuf,
    /// Refuse it unless it is this archive's
    #[arg(long, value_name = "HEX")]
    archive: Option<Anchor>,
}

/// Runs one of them.
pub fn run(command: &Command, world: &mut World) -> Result<Exit, Trouble> {
    surroundings::self_tests()?;
    match command {
        Command::Make(arguments) => make::make(arguments, world),
        Command::Sign(arguments) => sign::sign(arguments, world),
        Command::Show(arguments) => show(arguments, world),
        Command::Publish(arguments) => publish::publish(arguments, world),
        Command::Fetch(arguments) => fetch::fetch(arguments, world),
    }
}

fn show(arguments: &Show, world: &mut World) -> Result<Exit, Trouble> {
    let kit = KitFolder::read(&arguments.folder, arguments.archive)?;
    let page = Page::of(&kit)?;
    world.output.report(&page)?;
    Ok(match page.is_complete() {
        true => Exit::Done,
        false => Exit::Findings,
    })
}
