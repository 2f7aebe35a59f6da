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
    ffi::OsString,
    fmt, io,
    io::Read,
    os::{fd::OwnedFd, unix::process::CommandExt, unix::process::ExitStatusExt},
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, Signal},
};

use super::{BadOutput, OutputRule, Piece};
use crate::cut::{Cutter, Window};

/// Bytes of standard error that are kept: the last words explain a failure, the first ones rarely do.
const STDERR_BYTES_MAX: usize = 64 << 10;

/// Bytes read from standard error at a time.
const STDERR_READ_BYTES: usize = 4 << 10;

/// A command to run: program and arguments, no shell.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    program: OsString,
    arguments: Vec<OsString>,
    directory: Option<PathBuf>,
    environment: Environment,
    timeout: Option<Duration>,
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
        self.process.said.last()
    }

    /// Lets another thread end the command.
    pub fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.process.group))
    }

    fn judge(&self, status: ExitStatus) -> Result<(), CommandFailure> {
        match (status.code(), status.signal()) {
            (Some(0), _) => self.rule.check(self.offset).map_err(CommandFailure::Output),
            (Some(code), _) => Err(CommandFailure::Exited(code)),
            (None, signal) => Err(CommandFailure::Signalled(signal.unwrap_or_default())),
        }
    }

    fn failed(&self, source: io::Error) -> CommandError {
        match (source.kind(), self.process.timeout) {
            (io::ErrorKind::TimedOut, Some(timeout)) => self.error(CommandFailure::TimedOut(timeout), None),
            _ => self.error(CommandFailure::NotRead, Some(source)),
        }
    }

    fn error(&self, failure: CommandFailure, source: Option<io::Error>) -> CommandError {
        CommandError {
            program: self.program.clone(),
            failure,
            stderr: self.process.said.last().to_vec(),
            source,
        }
    }
}

/// Ends a command from another thread; its stream then fails with [`CommandFailure::Signalled`].
#[derive(Clone)]
pub struct Killer(Arc<Mutex<Option<Pid>>>);

impl Killer {
    /// Kills the command's process group, unless it has ended.
    pub fn kill(&self) {
        let leader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = *leader {
            // Fails only when nobody is left.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }
}

/// A child, its pipes and its deadline.
struct Process {
    child: Child,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    /// Becomes readable when the child exits.
    exit: OwnedFd,
    /// Leader of the process group, until the child has been waited for: then its number may be anybody's.
    group: Arc<Mutex<Option<Pid>>>,
    said: Tail,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
}

/// What is ready.
#[derive(Clone, Copy, Default)]
struct Ready {
    stdout: bool,
    stderr: bool,
    exit: bool,
}

impl Process {
    fn start(spec: &CommandSpec) -> io::Result<Self> {
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(directory) = &spec.directory {
            command.current_dir(directory);
        }
        if let Environment::Only(variables) = &spec.environment {
            command
                .env_clear()
                .envs(variables.iter().map(|(name, value)| (name, value)));
        }
        let deadline = spec.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut child = command.spawn()?;
        let leader = Pid::from_child(&child);
        let pipes = child.stdout.take().zip(child.stderr.take());
        let opened = pipes
            .ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))
            .and_then(|pipes| Ok((pipes, rustix::process::pidfd_open(leader, PidfdFlags::empty())?)));
        let ((stdout, stderr), exit) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let _ = child.kill();
                child.wait()?;
                return Err(error);
            }
        };
        Ok(Self {
            child,
            stdout,
            stderr: Some(stderr),
            exit,
            group: Arc::new(Mutex::new(Some(leader))),
            said: Tail::default(),
            timeout: spec.timeout,
            deadline,
        })
    }

    /// Waits for output and takes it; 0 when the command has closed it.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = self.poll(true)?;
            if ready.stderr {
                self.listen()?;
            }
            if ready.stdout {
                return self.stdout.read(buffer);
            }
        }
    }

    /// Waits until the command has exited.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        // Once it has exited, standard error is emptied, but who still holds it open is not waited for.
        let mut patience = 2 * STDERR_BYTES_MAX / STDERR_READ_BYTES;
        loop {
            let ready = self.poll(false)?;
            if ready.stderr && (!ready.exit || patience > 0) {
                patience -= usize::from(ready.exit);
                self.listen()?;
            } else if ready.exit {
                return self.reap();
            }
        }
    }

    fn poll(&mut self, with_stdout: bool) -> io::Result<Ready> {
        let left = match self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
        {
            Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
            left => left,
        };
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        // Watching the exit while there may be output would only wake us early.
        let mut watched = vec![if with_stdout {
            PollFd::new(&self.stdout, PollFlags::IN)
        } else {
            PollFd::new(&self.exit, PollFlags::IN)
        }];
        watched.extend(self.stderr.as_ref().map(|stderr| PollFd::new(stderr, PollFlags::IN)));
        match rustix::event::poll(&mut watched, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |at: usize| watched.get(at).is_some_and(|watched| !watched.revents().is_empty());
        Ok(Ready {
            stdout: with_stdout && ready(0),
            exit: !with_stdout && ready(0),
            stderr: ready(1),
        })
    }

    /// Takes what was said on standard error; never waits, since there is something.
    fn listen(&mut self) -> io::Result<()> {
        let mut said = [0; STDERR_READ_BYTES];
        let Some(stderr) = &mut self.stderr else { return Ok(()) };
        match stderr.read(&mut said) {
            Ok(0) => self.stderr = None,
            Ok(count) => self.said.push(said.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes the exit status of a child that has exited or is about to.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        // Killers wait meanwhile, and then find nobody: the number is free for others as soon as it is waited for.
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        *group = None;
        self.child.wait()
    }

    /// Kills the process group, unless the child has been waited for.
    fn end(&mut self) {
        let running = self.group.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if running {
            Killer(Arc::clone(&self.group)).kill();
            // Killed or gone; there is nobody left to tell of an error.
            let _ = self.reap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        // Moved once in 64 KiB, not with every line.
        if self.0.len() > 2 * STDERR_BYTES_MAX {
            self.0.drain(..self.0.len() - STDERR_BYTES_MAX);
        }
    }

    fn last(&self) -> &[u8] {
        self.0
            .get(self.0.len().saturating_sub(STDERR_BYTES_MAX)..)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
