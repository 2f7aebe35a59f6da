//! The command line: what clap is told, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, error::ErrorKind};
use exclave_model::Role;
use exclave_seal::SigningKey;

use crate::{
    command,
    error::Trouble,
    exit::Exit,
    keys::{self, PassphraseSource},
};

/// Ends the first page of help.
pub const EXAMPLE: &str = "\
Example: three stores, any two restore
  exclave key generate --out recovery.key
  exclave init --recovery recovery.key \\
      --site file:///mnt/a --site file:///mnt/b --site s3://bucket/prefix
  exclave replicate ~/land-register
  exclave restore --identity recovery.key --to ./restored \\
      --site file:///mnt/a --site file:///mnt/b";

/// Replicate critical data abroad so that any sufficient subset of the stores restores it
#[derive(Debug, Parser)]
#[command(name = "exclave", version, about, after_help = EXAMPLE, max_term_width = 110, disable_help_subcommand = true)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Read settings from FILE instead of ./exclave.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON: one document, or one a line for listings
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors and what was asked for, nothing else
    #[arg(short, long, global = true)]
    pub quiet: bool,
    #[command(flatten)]
    pub token: TokenArguments,
}

/// How tokens are reached that hold halves of signing keys.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options for keys in tokens")]
pub struct TokenArguments {
    /// Reach tokens through the PKCS#11 library FILE [env: EXCLAVE_TOKEN_MODULE]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub token_module: Option<PathBuf>,
    /// Read a token's PIN from the first line of FILE (mode 0600, or a pipe) instead of asking; with LABEL, of the token that
    /// is called so; may be repeated [env: EXCLAVE_TOKEN_PIN_FILE]
    #[arg(long, global = true, value_name = "[LABEL=]FILE", hide_short_help = true)]
    pub token_pin_file: Vec<String>,
}

/// The commands, in the order one meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make and show keys
    #[command(subcommand)]
    Key(command::key::Command),
    /// Found an archive at a number of sites
    Init(command::init::Arguments),
    /// Change who may do what, and where: the archive's charter
    #[command(subcommand)]
    Charter(command::charter::Command),
    /// Add datasets to their classes, and demand more for single ones
    #[command(subcommand)]
    Dataset(command::dataset::Command),
    /// Keep names and contacts: the sealed directory
    #[command(subcommand)]
    Directory(command::directory::Command),
    /// Give run keys of named snapshots to someone
    #[command(subcommand)]
    Grant(command::grant::Command),
    /// Make, sign and publish the kit: what a stranger needs to restore
    #[command(subcommand)]
    Kit(command::kit::Command),
    /// List sites, and check what they can do
    #[command(subcommand)]
    Site(command::site::Command),
    /// Show what the sites survive, and what they share
    Plan(command::plan::Arguments),
    /// Take datasets abroad: one new snapshot of each
    Replicate(command::replicate::Arguments),
    /// List what can be restored
    Snapshots(command::snapshots::Arguments),
    /// List what a snapshot holds
    Ls(command::browse::Ls),
    /// Find entries of a snapshot
    Find(command::browse::Find),
    /// Show what changed between two snapshots
    Diff(command::browse::Diff),
    /// Get a snapshot back from any sufficient subset of the sites
    Restore(command::restore::Arguments),
    /// Check that the sites still hold what they should; needs no key
    Audit(Box<command::audit::Arguments>),
    /// Show, verify and export the transparency logs; prove that something is in one
    #[command(subcommand)]
    Log(command::log::Command),
    /// Rebuild shards that are missing or wrong, and put them back; needs no key
    Repair(Box<command::repair::Arguments>),
    /// Show until when everything is locked, and extend that; needs no key
    #[command(subcommand)]
    Lock(command::lock::Command),
    /// Show what a collection of old snapshots would let go
    #[command(subcommand)]
    Collect(command::collect::Command),
    /// Keep snapshots whatever the rules say
    #[command(subcommand)]
    Hold(command::hold::Command),
    /// Verify, show and compare audits' reports
    #[command(subcommand)]
    Report(command::report::Command),
    /// Look whether a stranger could restore today with what lies at the sites
    Readiness(command::readiness::Arguments),
    /// Be a witness: cosign checkpoints of an archive's logs
    #[command(subcommand)]
    Witness(command::witness::Command),
    /// Show what the agent remembers
    #[command(subcommand)]
    Catalog(command::catalog::Command),
    /// Inspect single shards, without keys
    #[command(subcommand)]
    Shard(command::shard::Command),
    /// Show it: seven sites in folders, two destroyed, one lying, everything restored
    Demo(command::demo::Arguments),
    /// Print completions for a shell
    Completions(command::completions::Arguments),
    /// Print the manual, or write its pages into a directory
    Man(command::man::Arguments),
}

/// How passphrases are given when nobody is there to type.
#[derive(Debug, Clone, Args)]
pub struct PassphraseArguments {
    /// Read the passphrase from the first line of FILE (mode 0600, or a pipe) instead of asking
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl PassphraseArguments {
    /// Where passphrases come from.
    pub fn source(&self) -> PassphraseSource {
        PassphraseSource {
            file: self.passphrase_file.clone(),
        }
    }
}

/// What opens an archive.
#[derive(Debug, Clone, Args)]
pub struct IdentityArguments {
    /// Open with the recovery identity in FILE
    #[arg(long, value_name = "FILE", conflicts_with = "share")]
    pub identity: Option<PathBuf>,
    /// Open with custodians' shares of it, in memory only; once for each: a share file, its text, or - to type it
    #[arg(long, value_name = "FILE")]
    pub share: Vec<String>,
    /// The share set that the shares belong to
    #[arg(long, value_name = "FILE", requires = "share")]
    pub set: Option<PathBuf>,
    /// Open shares that came by wire with this ceremony's key (`exclave key request`)
    #[arg(long, value_name = "FILE", requires = "share")]
    pub ceremony_key: Option<PathBuf>,
}

impl IdentityArguments {
    /// True when the command line names nothing that opens.
    pub fn is_empty(&self) -> bool {
        self.identity.is_none() && self.share.is_empty()
    }
}

/// The key that gives run keys away.
#[derive(Debug, Clone, Args)]
pub struct RestorerArguments {
    /// The restorer's key, which signs; the charter names it as a member
    #[arg(long, value_name = "FILE")]
    restorer: PathBuf,
    /// Read the restorer's passphrase from the first line of FILE, when it isn't that of the identity
    #[arg(long, value_name = "FILE")]
    restorer_passphrase_file: Option<PathBuf>,
}

impl RestorerArguments {
    /// Opens the key; `otherwise` says where its passphrase comes from when it has no file of its own.
    pub fn open(&self, otherwise: PassphraseSource, world: &command::World) -> Result<SigningKey, Trouble> {
        let source = match &self.restorer_passphrase_file {
            Some(file) => PassphraseSource {
                file: Some(file.clone()),
            },
            None => otherwise,
        };
        keys::open_signing(&self.restorer, Role::Restorer, &source, world)
    }
}

/// Which sites are asked.
#[derive(Debug, Clone, Args)]
pub struct SiteArguments {
    /// Ask this site instead of those of the configuration; may be repeated
    #[arg(long = "site", value_name = "[NAME=]URL")]
    pub sites: Vec<String>,
    /// Read settings and credentials by URL from FILE (TOML, mode 0600)
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
}

impl SiteArguments {
    /// As the opener of sites wants it.
    pub fn wanted(&self) -> crate::sites::Wanted<'_> {
        crate::sites::Wanted {
            arguments: &self.sites,
            credentials: self.credentials.as_deref(),
        }
    }
}

/// Parses the process's command line; help, version and mistakes are printed here.
pub fn parse() -> Result<Arguments, Exit> {
    Arguments::try_parse().map_err(|error| {
        // Nothing is left to do when even this can't be printed.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
            _ => Exit::Usage,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_agree_with_each_other() {
        super::Arguments::command().debug_assert();
    }
}
