//! A child process in a group of its own: its output, what it says, when it must end.

use std::{
    io::{self, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, Signal},
};

use super::command::{CommandSpec, Environment};

/// Bytes of standard error that are kept: the last words explain a failure, the first ones rarely do.
pub(super) const STDERR_BYTES_MAX: usize = 64 << 10;

/// Bytes read from standard error at a time.
const STDERR_READ_BYTES: usize = 4 << 10;

/// A child, its pipes and its deadline.
pub(super) struct Process {
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
    pub(super) fn start(spec: &CommandSpec) -> io::Result<Self> {
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

    /// Lets another thread end it.
    pub(super) fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.group))
    }

    /// The last it said on standard error.
    pub(super) fn said(&self) -> &[u8] {
        self.said.last()
    }

    /// The time it was given.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Waits for output and takes it; 0 when the command has closed it.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
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
    pub(super) fn end(&mut self) {
        let running = self.group.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if running {
            self.killer().kill();
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

/// Ends a command from another thread; its stream then fails with [`CommandFailure::Signalled`](super::CommandFailure::Signalled).
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
