//! `exclave completions SHELL`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::World;
use crate::{arguments, error::Trouble, exit::Exit, output::broken};

/// `completions`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(arguments: &Arguments, world: &mut World) -> Result<Exit, Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut arguments::Arguments::command(),
        "exclave",
        &mut script,
    );
    world.output.raw().write_all(&script).map_err(broken)?;
    world.output.finish()?;
    Ok(Exit::Done)
}
