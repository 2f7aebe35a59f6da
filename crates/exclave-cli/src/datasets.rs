//! From a dataset's settings to a source that the engine can take in.

use std::{
    ffi::OsString,
    fs::File,
    io::{Read, Write as _},
    num::NonZeroU32,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use exclave_dataset::{
    source::{CommandSpec, Environment as CommandEnvironment, OutputRule},
    walk::{Caches, ExcludeRules, FileList, ListedDirectory, MountPoints, WalkOptions},
};
use exclave_engine::{DEFAULT_CLASS, NamedStream, ReplicateRequest, Source, StreamInput, Tripwires};

use crate::{
    config::{DatasetConfig, SourceConfig},
    environment::Environment,
    error::{Context as _, Trouble},
};

/// Block of an image: the page of most databases and file systems divides it, and a 100 GiB disk has 1.6 million.
const IMAGE_BLOCK_BYTES: usize = 64 << 10;

/// A file that changes while it is read is read again this often: a log that is written all the time is not worth more.
const READ_ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

/// Where a list of paths comes from.
#[derive(Debug, Clone)]
pub struct ListFrom {
    /// The file; `-` is standard input.
    pub file: PathBuf,
    /// What ends each path.
    pub separator: Separator,
}

/// What ends each path of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// A newline; such paths hold none.
    Newline,
    /// A NUL byte, as from `find -print0`.
    Nul,
}

/// What a path is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAs {
    /// A file.
    File,
    /// A disk image: cut into blocks of fixed size.
    Image,
}

/// The name of a dataset that is given by its path alone: its last part.
pub fn name_of(path: &Path) -> Result<String, Trouble> {
    let missing = || Trouble::usage(format!("{} can't be replicated", path.display()));
    let whole = path.canonicalize().because(missing)?;
    let name = whole
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| lawful(name));
    name.map(str::to_owned).ok_or_else(|| {
        Trouble::usage(format!("{} gives no name for a dataset", path.display())).hint("name it: --name NAME")
    })
}

/// A dataset's name is shown, typed and, for streams, the name of a file.
pub fn lawful(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && !name.contains('/')
        && !name.chars().any(char::is_control)
        && name != ".."
        && name != "."
}

/// Builds what the engine is asked to do.
pub fn request(
    dataset: &DatasetConfig,
    list: Option<&ListFrom>,
    file_as: FileAs,
    environment: &Environment,
) -> Result<ReplicateRequest, Trouble> {
    let source = source(dataset, list, file_as, environment)?;
    Ok(with_source(dataset, source))
}

/// Builds what the engine is asked to do with standard input.
pub fn request_stdin(dataset: &DatasetConfig) -> ReplicateRequest {
    let input = StreamInput::Reader(Box::new(std::io::stdin()), output_rule(dataset));
    let stream = NamedStream {
        name: dataset.name.clone().into_bytes(),
        input,
        max_shrink_percent: Some(dataset.streams.max_shrink_percent),
    };
    with_source(dataset, Source::Streams(vec![stream]))
}

fn with_source(dataset: &DatasetConfig, source: Source) -> ReplicateRequest {
    ReplicateRequest {
        dataset: dataset.name.clone(),
        class: DEFAULT_CLASS,
        label: dataset.label.clone(),
        source_digest: digest(dataset),
        source,
        chunk_sizes: dataset.chunk_sizes,
        compression: dataset.compression,
        read_attempts: READ_ATTEMPTS,
        in_flight_bytes: exclave_engine::replicate::IN_FLIGHT_BYTES_DEFAULT,
        create_only: std::collections::BTreeSet::new(),
        locks: std::collections::BTreeMap::new(),
        if_forgotten: exclave_engine::IfForgotten::Refuse,
        tripwires: Tripwires {
            limits: dataset.tripwires,
            expected: false,
        },
    }
}

/// Changes when the source's definition does, so that a restorer sees that two snapshots were not taken alike.
fn digest(dataset: &DatasetConfig) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // Lengths keep fields apart.
    let mut field = |bytes: &[u8]| {
        let _ = hasher.write_all(&(bytes.len() as u64).to_be_bytes());
        let _ = hasher.write_all(bytes);
    };
    match &dataset.source {
        SourceConfig::Path(path) => {
            field(b"path");
            // However it was named, it is the same place: relative, absolute, with a slash at its end.
            let whole: PathBuf = std::path::absolute(path)
                .unwrap_or_else(|_| path.clone())
                .components()
                .collect();
            field(std::os::unix::ffi::OsStrExt::as_bytes(whole.as_os_str()));
        }
        SourceConfig::Commands { argv, directory, .. } => {
            for (name, argv) in argv {
                field(b"command");
                field(name.as_bytes());
                argv.iter().for_each(|argument| field(argument.as_bytes()));
            }
            field(
                directory
                    .as_deref()
                    .map_or(&[], |path| std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())),
            );
        }
    }
    field(b"exclude");
    dataset.exclude.iter().for_each(|rule| field(rule.as_bytes()));
    field(&[u8::from(dataset.one_file_system), u8::from(dataset.exclude_caches)]);
    *hasher.finalize().as_bytes()
}

fn source(
    dataset: &DatasetConfig,
    list: Option<&ListFrom>,
    file_as: FileAs,
    environment: &Environment,
) -> Result<Source, Trouble> {
    match &dataset.source {
        SourceConfig::Commands { .. } => commands(dataset, environment),
        SourceConfig::Path(path) => {
            let cannot = || Trouble::usage(format!("{} can't be replicated", path.display()));
            let kind = std::fs::metadata(path).because(cannot)?.file_type();
            if kind.is_dir() {
                let options = walk_options(dataset, list)?;
                Ok(Source::Tree {
                    root: path.clone(),
                    options,
                })
            } else if list.is_some() {
                Err(Trouble::usage(format!(
                    "--files-from needs a directory, {} is none",
                    path.display()
                )))
            } else if kind.is_block_device() || (kind.is_file() && file_as == FileAs::Image) {
                Ok(Source::Image {
                    path: path.clone(),
                    block_bytes: IMAGE_BLOCK_BYTES,
                })
            } else if kind.is_file() {
                Ok(Source::File(path.clone()))
            } else {
                Err(Trouble::usage(format!(
                    "{} is neither a directory nor a file nor a block device",
                    path.display()
                )))
            }
        }
    }
}

/// What a walk of the dataset's directory leaves out.
pub fn walk_options(dataset: &DatasetConfig, list: Option<&ListFrom>) -> Result<WalkOptions, Trouble> {
    let rules = ExcludeRules::parse(dataset.exclude.iter().map(String::as_str));
    let exclude =
        rules.because(|| Trouble::usage(format!("dataset {}: its exclude rules can't be used", dataset.name)))?;
    Ok(WalkOptions {
        exclude,
        list: list.map(read_list).transpose()?,
        mount_points: if dataset.one_file_system {
            MountPoints::StayOut
        } else {
            MountPoints::Enter
        },
        caches: if dataset.exclude_caches {
            Caches::Exclude
        } else {
            Caches::Include
        },
        ..WalkOptions::default()
    })
}

fn read_list(from: &ListFrom) -> Result<FileList, Trouble> {
    let cannot = || Trouble::usage(format!("the list of files {} can't be used", from.file.display()));
    let input: Box<dyn Read> = if from.file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(&from.file).because(cannot)?)
    };
    let input: Box<dyn Read> = match from.separator {
        Separator::Nul => input,
        Separator::Newline => Box::new(Newlines(input)),
    };
    FileList::read(input, ListedDirectory::Whole).because(cannot)
}

/// Lines as NUL-ended items, without holding the list twice.
struct Newlines<R>(R);

impl<R: Read> Read for Newlines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(buffer)?;
        for byte in buffer.iter_mut().take(read) {
            if *byte == b'\n' {
                *byte = 0;
            }
        }
        Ok(read)
    }
}

fn output_rule(dataset: &DatasetConfig) -> OutputRule {
    OutputRule {
        min_bytes: dataset.streams.min_bytes,
        ..OutputRule::default()
    }
}

fn commands(dataset: &DatasetConfig, environment: &Environment) -> Result<Source, Trouble> {
    let SourceConfig::Commands {
        argv,
        directory,
        environment: names,
        timeout,
    } = &dataset.source
    else {
        return Err(Trouble::usage(format!("dataset {} is no command", dataset.name)));
    };
    let mut variables = Vec::new();
    for name in names {
        if name.starts_with("EXCLAVE_") {
            return Err(
                Trouble::usage(format!("dataset {}: {name} is not for its command", dataset.name))
                    .hint("variables of that beginning may hold our secrets"),
            );
        }
        variables.extend(environment.raw(name).map(|value| (OsString::from(name), value)));
    }
    let mut streams = Vec::new();
    for (name, argv) in argv {
        let spec = CommandSpec::new(argv.iter().map(OsString::from).collect());
        let mut spec = spec
            .because(|| Trouble::usage(format!("dataset {}: its command is empty", dataset.name)))?
            .with_environment(CommandEnvironment::Only(variables.clone()))
            .with_rule(output_rule(dataset));
        if let Some(directory) = directory {
            spec = spec.in_directory(directory.clone());
        }
        if let Some(timeout) = timeout {
            spec = spec.with_timeout(*timeout);
        }
        streams.push(NamedStream {
            name: name.clone().into_bytes(),
            input: StreamInput::Command(spec),
            max_shrink_percent: Some(dataset.streams.max_shrink_percent),
        });
    }
    Ok(Source::Streams(streams))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_digest_changes_with_the_definition() {
        let digest_of = |text: &str| {
            let config = Config::parse(&format!("[[dataset]]\nname = \"x\"\n{text}"), None).unwrap();
            digest(&config.datasets[0])
        };
        let texts = [
            "path = \"/a\"",
            "path = \"/b\"",
            "path = \"/a\"\nexclude = [\"x\"]",
            "path = \"/a\"\nexclude = [\"x\", \"y\"]",
            "path = \"/a\"\nexclude = [\"xy\"]",
            "path = \"/a\"\none_file_system = true",
            "command = [\"/a\"]",
            "command = [\"/a\", \"b\"]",
            "commands = { y = [\"/a\", \"b\"] }",
            "commands = { x = [\"/a\"], y = [\"b\"] }",
        ];
        let digests: std::collections::BTreeSet<_> = texts.iter().map(|text| digest_of(text)).collect();
        assert_eq!(digests.len(), texts.len());
        assert_eq!(digest_of(texts[0]), digest_of(texts[0]));
    }

    #[test]
    fn lists_of_lines_become_lists_of_items() {
        let mut text = String::new();
        Newlines(&b"a\nb c\n"[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\0b c\0");
    }

    #[test]
    fn our_secrets_are_not_handed_to_commands() {
        let text = "[[dataset]]\nname = \"x\"\ncommand = [\"true\"]\nenvironment = [\"EXCLAVE_PASSPHRASE\"]";
        let config = Config::parse(text, None).unwrap();
        let refused = request(&config.datasets[0], None, FileAs::File, &Environment::default());
        assert!(
            refused
                .err()
                .unwrap()
                .to_string()
                .contains("EXCLAVE_PASSPHRASE is not for its command")
        );
    }
}
