//! The commands, one file each: arguments, deed, report.

pub mod audit;
pub mod browse;
pub mod catalog;
pub mod charter;
pub mod collect;
pub mod completions;
pub mod dataset;
pub mod demo;
pub mod directory;
pub mod grant;
pub mod hold;
pub mod init;
pub mod key;
pub mod kit;
pub mod lock;
pub mod log;
pub mod man;
pub mod plan;
pub mod readiness;
pub mod repair;
pub mod replicate;
pub mod report;
pub mod restore;
pub mod rewrap;
pub mod shard;
pub mod site;
pub mod snapshots;
pub mod witness;

use std::sync::Arc;

use crate::{
    arguments::{Arguments, Command, Global},
    config::Config,
    environment::Environment,
    error::Trouble,
    exit::Exit,
    hardening,
    output::{Form, Output, Talk},
    tokens::TokenDoor,
};

/// What every command is handed.
pub struct World {
    /// The options of every command.
    pub global: Global,
    /// The process's environment.
    pub environment: Environment,
    /// Where results go.
    pub output: Output,
    /// Halves of signing keys that lie in tokens.
    pub tokens: Arc<TokenDoor>,
}

impl World {
    /// The settings.
    pub fn config(&self) -> Result<Config, Trouble> {
        Config::load(self.global.config.as_deref(), &self.environment)
    }
}

/// Runs a command.
pub fn run(arguments: Arguments) -> Result<Exit, Trouble> {
    hardening::protect_memory()?;
    let Arguments { global, command } = arguments;
    let form = if global.json { Form::Json } else { Form::Text };
    let talk = if global.quiet { Talk::Quiet } else { Talk::Normal };
    let environment = Environment::of_process();
    let mut world = World {
        tokens: Arc::new(TokenDoor::new(&global.token, &environment)),
        global,
        environment,
        output: Output::new(form, talk),
    };
    let world = &mut world;
    match command {
        Command::Key(command) => key::run(&command, world),
        Command::Init(arguments) => init::run(&arguments, world),
        Command::Charter(command) => charter::run(&command, world),
        Command::Dataset(command) => dataset::run(&command, world),
        Command::Directory(command) => directory::run(&command, world),
        Command::Grant(command) => grant::run(&command, world),
        Command::Kit(command) => kit::run(&command, world),
        Command::Site(command) => site::run(&command, world),
        Command::Plan(arguments) => plan::run(&arguments, world),
        Command::Replicate(arguments) => replicate::run(&arguments, world),
        Command::Snapshots(arguments) => snapshots::run(&arguments, world),
        Command::Ls(arguments) => browse::ls(&arguments, world),
        Command::Find(arguments) => browse::find(&arguments, world),
        Command::Diff(arguments) => browse::diff(&arguments, world),
        Command::Restore(arguments) => restore::run(&arguments, world),
        Command::Log(command) => log::run(&command, world),
        Command::Audit(arguments) => audit::run(&arguments, world),
        Command::Repair(arguments) => repair::run(&arguments, world),
        Command::Lock(command) => lock::run(&command, world),
        Command::Collect(command) => collect::run(&command, world),
        Command::Hold(command) => hold::run(&command, world),
        Command::Report(command) => report::run(&command, world),
        Command::Readiness(arguments) => readiness::run(&arguments, world),
        Command::Witness(command) => witness::run(&command, world),
        Command::Catalog(command) => catalog::run(&command, world),
        Command::Shard(command) => shard::run(&command, world),
        Command::Demo(arguments) => demo::run(&arguments, world),
        Command::Completions(arguments) => completions::run(&arguments, world),
        Command::Man(arguments) => man::run(&arguments, world),
    }
}
