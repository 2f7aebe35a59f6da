//! What a command writes, as it writes it.
//!
//! The command runs without a shell, in a process group of its own, with nothing on standard input. Its output streams
//! through the cutter; its standard error is kept, the last 64 KiB. One loop polls both and the process, so neither
//! a chatty nor a silent command can block us, and no thread or temporary file is needed.
//!
//! The stream is whole only when the command has closed its output, exited with 0 within its time, and written enough
//! ([`OutputRule`]). Everything else is a [`CommandError`] with what it said on standard error. A command that is not
//! waited for to its end, for whatever reason, is killed with its process group.
//!
//! A pipe can't tell an output that is whole from one whose writer was killed: the exit code does. So a shell pipeline
//! needs `pipefail`.

use std::{
    ffi::OsString, fmt, io, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus, time::Duration,
};

use super::{
    BadOutput, OutputRule, Piece,
    process::{Killer, Process},
};
use crate::cut::{Cutter, Window};

/// A command to run: program and arguments, no shell.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) directory: Option<PathBuf>,
    pub(super) environment: Environment,
    pub(super) timeout: Option<Duration>,
    rule: OutputRule,
}

/// The environment of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Environment {
    /// Ours.
    Inherited,
    /// These variables and no others; without `PATH` the program must be named by its path.
    Only(Vec<(OsString, OsString)>),
}

/// A command needs at least a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a command needs a program")]
pub struct EmptyCommand;

impl CommandSpec {
    /// Takes a program and its arguments. Unless told otherwise it inherits directory and environment, may take for ever
    /// and may write nothing.
    pub fn new(argv: Vec<OsString>) -> Result<Self, EmptyCommand> {
        let mut argv = argv.into_iter();
        let program = argv.next().filter(|program| !program.is_empty()).ok_or(EmptyCommand)?;
        Ok(Self {
            program,
            arguments: argv.collect(),
            directory: None,
            environment: Environment::Inherited,
            timeout: None,
            rule: OutputRule::default(),
        })
    }

    /// Runs it in this directory.
    pub fn in_directory(self, directory: PathBuf) -> Self {
        let directory = Some(directory);
        Self { directory, ..self }
    }

    /// Runs it with this environment.
    pub fn with_environment(self, environment: Environment) -> Self {
        Self { environment, ..self }
    }

    /// Kills it when it has not exited after this time, counted from its start.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        let timeout = Some(timeout);
        Self { timeout, ..self }
    }

    /// What it must write, as it is now.
    pub fn rule(&self) -> OutputRule {
        self.rule
    }

    /// What it must write.
    pub fn with_rule(self, rule: OutputRule) -> Self {
        Self { rule, ..self }
    }
}

/// Why a command gave no stream.
#[derive(thiserror::Error)]
#[error("command {program:?} {failure}")]
pub struct CommandError {
    /// The program.
    pub program: OsString,
    /// What went wrong.
    pub failure: CommandFailure,
    /// The last it said on standard error, at most 64 KiB.
    pub stderr: Vec<u8>,
    /// What the system said, if it was the system.
    #[source]
    source: Option<io::Error>,
}

/// What went wrong with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandFailure {
    /// It can't be started.
    #[error("can't be started")]
    NotStarted,
    /// Its output can't be read.
    #[error("can't be read from")]
    NotRead,
    /// It exited with another code than 0.
    #[error("exited with code {0}")]
    Exited(i32),
    /// It was ended by a signal.
    #[error("was ended by signal {0}")]
    Signalled(i32),
    /// It took too long and was killed.
    #[error("took longer than {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// It wrote too little.
    #[error("is not believed: {0}")]
    Output(BadOutput),
    /// It failed before; what came so far is no stream.
    #[error("has failed before")]
    Over,
}

impl fmt::Debug for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandError")
            .field("program", &self.program)
            .field("failure", &self.failure)
            .field("stderr", &self.stderr.escape_ascii().to_string())
            .field("source", &self.source)
            .finish()
    }
}

/// A command that is running, and the pieces of its output.
pub struct CommandStream {
    program: OsString,
    rule: OutputRule,
    cutter: Cutter,
    window: Window,
    process: Process,
    offset: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Whole,
    Failed,
}

impl CommandStream {
    /// Starts the command.
    pub fn start(spec: &CommandSpec, cutter: Cutter) -> Result<Self, CommandError> {
        let process = Process::start(spec).map_err(|source| CommandError {
            program: spec.program.clone(),
            failure: CommandFailure::NotStarted,
            stderr: Vec::new(),
            source: Some(source),
        })?;
        Ok(Self {
            program: spec.program.clone(),
            rule: spec.rule,
            cutter,
            window: Window::default(),
            process,
            offset: 0,
            state: State::Running,
        })
    }

    /// The next piece; `Ok(None)` only when the command has succeeded.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, CommandError> {
        match self.state {
            State::Running => {}
            State::Whole => return Ok(None),
            State::Failed => return Err(self.error(CommandFailure::Over, None)),
        }
        let process = &mut self.process;
        let chunk = self.window.next_chunk(&self.cutter, |buffer| process.read(buffer));
        let failure = match chunk {
            Ok(Some(raw)) => {
                let offset = self.offset;
                self.offset += raw.len() as u64;
                return Ok(Some(Piece { offset, raw }));
            }
            Ok(None) => match self.process.wait() {
                Ok(status) => match self.judge(status) {
                    Ok(()) => {
                        self.state = State::Whole;
                        return Ok(None);
                    }
                    Err(failure) => self.error(failure, None),
                },
                Err(error) => self.failed(error),
            },
            Err(error) => self.failed(error),
        };
        self.state = State::Failed;
        self.process.end();
        Err(failure)
    }

    /// Bytes handed on so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// What the command said last on standard error so far, at most 64 KiB; warnings of a command that succeeded too.
    pub fn stderr(&self) -> &[u8] {
        self.process.said()
    }

    /// Lets another thread end the command.
    pub fn killer(&self) -> Killer {
        self.process.killer()
    }

    fn judge(&self, status: ExitStatus) -> Result<(), CommandFailure> {
        match (status.code(), status.signal()) {
            (Some(0), _) => self.rule.check(self.offset).map_err(CommandFailure::Output),
            (Some(code), _) => Err(CommandFailure::Exited(code)),
            (None, signal) => Err(CommandFailure::Signalled(signal.unwrap_or_default())),
        }
    }

    fn failed(&self, source: io::Error) -> CommandError {
        match (source.kind(), self.process.timeout()) {
            (io::ErrorKind::TimedOut, Some(timeout)) => self.error(CommandFailure::TimedOut(timeout), None),
            _ => self.error(CommandFailure::NotRead, Some(source)),
        }
    }

    fn error(&self, failure: CommandFailure, source: Option<io::Error>) -> CommandError {
        CommandError {
            program: self.program.clone(),
            failure,
            stderr: self.process.said().to_vec(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::process::STDERR_BYTES_MAX, *};
    use crate::{cut::tests::small, source::ShrinkRule};

    fn shell(script: &str) -> CommandSpec {
        CommandSpec::new(["/bin/sh", "-c", script].map(OsString::from).to_vec()).unwrap()
    }

    fn run(spec: &CommandSpec) -> (Vec<u8>, Result<Vec<u8>, CommandError>) {
        let mut stream = CommandStream::start(spec, small()).unwrap();
        let mut output = Vec::new();
        loop {
            match stream.next_piece() {
                Ok(Some(piece)) => {
                    assert_eq!(piece.offset, output.len() as u64);
                    output.extend_from_slice(&piece.raw);
                }
                Ok(None) => {
                    assert_eq!(stream.next_piece().unwrap(), None);
                    return (output, Ok(stream.stderr().to_vec()));
                }
                Err(error) => {
                    assert_eq!(stream.next_piece().unwrap_err().failure, CommandFailure::Over);
                    return (output, Err(error));
                }
            }
        }
    }

    fn failure(spec: &CommandSpec) -> (CommandFailure, Vec<u8>) {
        let error = run(spec).1.unwrap_err();
        (error.failure, error.stderr)
    }

    #[test]
    fn output_streams_and_warnings_are_kept() {
        let (output, said) = run(&shell("seq 1 60000; echo careful >&2"));
        let expected: String = (1..=60_000).map(|number| format!("{number}\n")).collect();
        assert_eq!(output, expected.as_bytes());
        assert_eq!(said.unwrap(), b"careful\n");
        assert!(run(&shell("true")).1.is_ok());
        // Someone who lingers on standard error only is not waited for.
        assert!(
            run(&shell("(exec >&-; timeout 2 yes >&2) & echo done; exit 0"))
                .1
                .is_ok()
        );
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(
            failure(&shell("echo half; echo why >&2; exit 7")),
            (CommandFailure::Exited(7), b"why\n".to_vec())
        );
        assert_eq!(
            failure(&shell("echo half; kill -TERM $$")).0,
            CommandFailure::Signalled(15)
        );
        let rule = OutputRule {
            min_bytes: 6,
            shrink: None,
        };
        let short = BadOutput::TooShort { bytes: 5, min_bytes: 6 };
        assert_eq!(
            failure(&shell("echo half").with_rule(rule)).0,
            CommandFailure::Output(short)
        );
        let shrink = Some(ShrinkRule {
            previous_bytes: 100,
            max_percent: 50,
        });
        let rule = OutputRule { min_bytes: 0, shrink };
        assert!(matches!(
            failure(&shell("echo half").with_rule(rule)).0,
            CommandFailure::Output(BadOutput::Shrunk { .. })
        ));
        let none = CommandSpec::new(vec!["/no/such/program".into()]).unwrap();
        let error = CommandStream::start(&none, small()).err().unwrap();
        assert_eq!(error.failure, CommandFailure::NotStarted);
        assert_eq!(error.to_string(), "command \"/no/such/program\" can't be started");
        assert!(CommandSpec::new(vec![]).is_err());
    }

    #[test]
    fn time_runs_out_for_the_silent_the_chatty_and_those_who_linger() {
        let timeout = Duration::from_millis(200);
        for script in ["sleep 60", "yes", "yes >&2", "exec >&-; sleep 60", "sleep 60 & wait"] {
            let (failure, _) = failure(&shell(script).with_timeout(timeout));
            assert_eq!(failure, CommandFailure::TimedOut(timeout), "{script}");
        }
    }

    #[test]
    fn a_flood_of_complaints_neither_blocks_nor_fills_memory() {
        let (output, said) = run(&shell("yes complaint | head -c 3000000 >&2; echo last >&2; echo out"));
        assert_eq!(output, b"out\n");
        let said = said.unwrap();
        assert_eq!(said.len(), STDERR_BYTES_MAX);
        assert!(said.ends_with(b"last\n"));
    }

    #[test]
    fn dropping_or_killing_ends_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let alive = |pid: &str| std::path::Path::new("/proc").join(pid).join("stat").exists();
        let zombie_or_gone = |pid: &str| {
            // A grandchild that nobody waits for may stay as a zombie in a container without an init.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        for by_drop in [true, false] {
            let file = folder.path().join(format!("pid-{by_drop}"));
            let script = format!(
                "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; echo up; wait",
                file.display()
            );
            let mut stream = CommandStream::start(&shell(&script), Cutter::fixed(512).unwrap()).unwrap();
            let pid = loop {
                if let Ok(pid) = std::fs::read_to_string(&file) {
                    break pid.trim().to_owned();
                }
                std::thread::yield_now();
            };
            assert!(alive(&pid));
            if by_drop {
                drop(stream);
            } else {
                let killer = stream.killer();
                killer.kill();
                while let Ok(Some(_)) = stream.next_piece() {}
                assert!(stream.next_piece().is_err());
                killer.kill(); // nobody is left; harmless
            }
            while !zombie_or_gone(&pid) {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn the_environment_can_be_closed() {
        let only = Environment::Only(vec![("A".into(), "b".into())]);
        let spec = CommandSpec::new(vec!["/usr/bin/env".into()])
            .unwrap()
            .with_environment(only);
        assert_eq!(run(&spec).0, b"A=b\n");
        let spec = shell("pwd").in_directory("/".into());
        assert_eq!(run(&spec).0, b"/\n");
    }
}
