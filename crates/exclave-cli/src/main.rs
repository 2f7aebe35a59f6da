//! The `exclave` command: everything around the engine that people and scripts touch.
//!
//! In the order a call takes: [`arguments`] say what is wanted, [`environment`] and [`config`] what holds here,
//! [`keys`], [`shares`], [`tokens`], [`credentials`], [`sites`] and [`kit`] open what is needed, [`surroundings`] hands the engine clock, randomness and
//! threads, [`command`] has one file for each verb, [`progress`] draws while it works, and [`output`], [`error`] and
//! [`exit`] say how it went.
//!
//! **Architecture Invariant:** clock, randomness and environment enter the program in this crate only.
//!
//! **Architecture Invariant:** no secret is taken from a command line, and none is printed but a custodian's own share, on
//! demand ([`card`]).

#![forbid(unsafe_code)]

mod agent;
mod arguments;
mod card;
mod clock;
mod command;
mod config;
mod credentials;
mod datasets;
mod environment;
mod error;
mod exit;
mod format;
mod hardening;
mod interrupt;
mod keys;
mod kit;
mod loose;
mod names;
mod output;
mod parts;
mod private_file;
mod probed;
mod progress;
mod reader;
mod shares;
mod sites;
mod surroundings;
mod tokens;
mod watched;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match arguments::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit.into(),
    };
    match command::run(arguments) {
        Ok(exit) => exit.into(),
        Err(trouble) => {
            // Whoever closed standard error does not want to know; the code says it too.
            let _ = trouble.print(&mut std::io::stderr().lock());
            trouble.exit().into()
        }
    }
}
