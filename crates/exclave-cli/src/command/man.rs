//! `exclave man [DIR]`: the manual, made from the same definitions as the help.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_mangen::Man;

use super::World;
use crate::{
    arguments,
    config::REFERENCE,
    error::{Context as _, Trouble},
    exit::Exit,
    output::broken,
};

/// Ends the first page of the manual.
const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 the command line or the configuration is wrong; 3 done, with findings; 4 fewer shards than \
are needed: unrecoverable; 5 refused by a policy or a signature; 6 stale or provisional; 130 interrupted at a stripe \
boundary. Several at once: 5, 4, 6, 1, 3.";

/// `man`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Write one page for each command into this directory instead of printing the first
    directory: Option<PathBuf>,
    /// Print the reference configuration instead: every key, its default and why
    #[arg(long, conflicts_with = "directory")]
    settings: bool,
}

/// Prints or writes the pages.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    if arguments.settings {
        world.output.raw().write_all(REFERENCE.as_bytes()).map_err(broken)?;
        world.output.finish()?;
        return Ok(Exit::Done);
    }
    let mut command = arguments::Arguments::command().after_help(format!("{}\n\n{EXIT_CODES}", arguments::EXAMPLE));
    command.build();
    let Some(directory) = &arguments.directory else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(broken)?;
        world.output.raw().write_all(&page).map_err(broken)?;
        world.output.finish()?;
        return Ok(Exit::Done);
    };
    let failed = || Trouble::failed(format!("the manual can't be written to {}", directory.display()));
    std::fs::create_dir_all(directory).because(failed)?;
    clap_mangen::generate_to(command, directory).because(failed)?;
    world
        .output
        .note(format!("Wrote the manual to {}", directory.display()));
    Ok(Exit::Done)
}
