//! First thread: what the source holds, in the order of the manifest, as events in batches.
//!
//! An unchanged file is recognised by merging the sorted walk with the catalog's sorted states of the newest snapshot,
//! and is not read. A file that changes while it is read is read again; only the pieces of the last attempt count.

use std::{collections::BTreeMap, io::Read, num::NonZeroU32, path::PathBuf, sync::mpsc::SyncSender, time::Duration};

use exclave_catalog::{Catalog, FileState, StateCursor};
use exclave_dataset::{
    cut::Cutter,
    source::{
        CommandError, CommandSpec, CommandStream, Consistency, FileReader, ImageError, ImageReader, Killer, OutputRule,
        Piece, ShrinkRule, StableError, StreamError, StreamReader, stream_entry,
    },
    walk::{BadFile, BadRoot, FileStat, Finding, Found, LinkRole, Walk, WalkOptions, Walked, find_file, unchanged},
};
use exclave_model::{BadPath, DatasetId, Entry, EntryKind, EntryPath, LiveSet, RunId, SourceKind, Timestamp};

use super::{
    flow::{Flow, Stopped},
    remembered::Remembered,
};
use crate::surroundings::{Progress, Surroundings};

/// A batch is sent on when it holds this many bytes ...
const BATCH_BYTES: usize = 8 << 20;
/// ... or this many events, so that look-ups come in batches of some hundreds.
const BATCH_EVENTS: usize = 1024;

/// How long a silent command goes on after the run was stopped, at most.
const COMMAND_WATCH: Duration = Duration::from_millis(100);

/// What is replicated.
pub enum Source {
    /// A directory tree.
    Tree {
        /// Its root.
        root: PathBuf,
        /// What of it.
        options: WalkOptions,
    },
    /// A single file.
    File(PathBuf),
    /// A block device or disk image, cut in blocks of a fixed size.
    Image {
        /// The device or file.
        path: PathBuf,
        /// Bytes of a block.
        block_bytes: usize,
    },
    /// The output of commands, or standard input: named streams.
    Streams(Vec<NamedStream>),
}

/// One stream of a snapshot.
pub struct NamedStream {
    /// Its path in the snapshot.
    pub name: Vec<u8>,
    /// Where it comes from.
    pub input: StreamInput,
    /// How much shorter than in the snapshot before it may be, in percent of that; `None` for any length.
    pub max_shrink_percent: Option<u8>,
}

/// Where a stream comes from.
pub enum StreamInput {
    /// A command's standard output.
    Command(CommandSpec),
    /// Something that is open already, such as standard input.
    Reader(Box<dyn Read + Send>, OutputRule),
}

impl StreamInput {
    fn held_to(self, shrink: ShrinkRule) -> Self {
        let shrink = Some(shrink);
        match self {
            Self::Command(command) => {
                let rule = OutputRule {
                    shrink,
                    ..command.rule()
                };
                Self::Command(command.with_rule(rule))
            }
            Self::Reader(input, rule) => Self::Reader(input, OutputRule { shrink, ..rule }),
        }
    }
}

impl Source {
    /// What the head calls it.
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Tree { .. } => SourceKind::Tree,
            Self::File(_) => SourceKind::File,
            Self::Image { .. } => SourceKind::Image,
            Self::Streams(_) => SourceKind::Command,
        }
    }
}

/// Why a source could not be taken in. Single files that can't be read are findings instead.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The root of a tree.
    #[error(transparent)]
    Root(#[from] BadRoot),
    /// A single file.
    #[error(transparent)]
    File(#[from] BadFile),
    /// A single file that can't be read.
    #[error("the file can't be read: {0}")]
    Unreadable(Finding),
    /// A block image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A block image that changed while it was read.
    #[error("the image changed while it was read; take a snapshot of it and replicate that")]
    ImageChanged,
    /// A command.
    #[error("command {name:?} failed")]
    Command {
        /// The stream's name.
        name: String,
        /// How.
        #[source]
        error: Box<CommandError>,
    },
    /// A stream.
    #[error("stream {name:?} failed")]
    Stream {
        /// The stream's name.
        name: String,
        /// How.
        #[source]
        error: StreamError,
    },
    /// A name that can't stand in a manifest.
    #[error("a stream can't be called that")]
    Name(#[from] BadPath),
    /// Two streams of one name.
    #[error("two streams are called {0:?}")]
    SameName(String),
    /// A file name that is not in a tree.
    #[error("{} has no file name", .0.display())]
    NoFileName(PathBuf),
}

/// What the intake says, in order.
pub(super) enum Event {
    /// An entry that is complete, content included.
    Whole(Box<Remembered>),
    /// A piece of the file whose entry comes next; pieces of earlier attempts don't count.
    Piece(u32, Piece),
    /// The entry of the pieces before.
    FileEnd {
        /// Without content.
        entry: Box<Entry>,
        /// The attempt that counts.
        attempts: u32,
        /// What tells its state from another; `None` for streams.
        stat: Option<FileStat>,
        /// Its place among the names of one file.
        link: LinkRole,
        /// It was in the snapshot before, as far as is known here.
        before: bool,
    },
    /// Another name of a file that came before.
    Later(Box<Entry>),
    /// The pieces before belong to nothing.
    Dropped,
    /// Something that could not be seen.
    Finding(Finding),
}

/// Events with their place in the order.
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) events: Vec<Event>,
}

/// What the intake knows when it is through.
#[derive(Default)]
pub(super) struct Taken {
    /// Entries that rules left out.
    pub(super) excluded: u64,
    /// The streams and their lengths in bytes.
    pub(super) streams: Vec<(Vec<u8>, u64)>,
    /// Files of the snapshot before that are there no more.
    pub(super) gone_files: u64,
}

/// The first thread's work.
pub(super) struct Intake<'a> {
    pub(super) flow: &'a Flow,
    pub(super) surroundings: &'a Surroundings,
    pub(super) catalog: &'a Catalog,
    pub(super) dataset: DatasetId,
    pub(super) cutter: Cutter,
    pub(super) attempts: NonZeroU32,
    /// Stripes that unchanged files may refer to.
    pub(super) reusable: BTreeMap<RunId, LiveSet>,
    pub(super) started: Timestamp,
    /// Lengths of the streams in the snapshot before, in bytes.
    pub(super) previous_streams: BTreeMap<Vec<u8>, u64>,
    pub(super) out: SyncSender<Batch>,
}

impl Intake<'_> {
    pub(super) fn run(self, source: Source) -> Result<Taken, Stopped> {
        let mut sender = Sender {
            out: self.out.clone(),
            events: Vec::new(),
            bytes: 0,
            number: 0,
        };
        let taken = match source {
            Source::Tree { root, options } => self.tree(&root, options, &mut sender)?,
            Source::File(path) => self.file(&path, &mut sender)?,
            Source::Image { path, block_bytes } => self.image(&path, block_bytes, &mut sender)?,
            Source::Streams(streams) => self.streams(streams, &mut sender)?,
        };
        sender.flush()?;
        Ok(taken)
    }

    fn fail<E: Into<SourceError>>(&self, error: E) -> Stopped {
        self.flow.fail(error.into().into())
    }

    fn tree(&self, root: &std::path::Path, options: WalkOptions, sender: &mut Sender) -> Result<Taken, Stopped> {
        let mut walk = Walk::new(root, options).map_err(|error| self.fail(error))?;
        let mut previous = self.previous_states()?;
        let mut reader = FileReader::new(self.cutter.clone());
        for walked in &mut walk {
            self.go_on()?;
            match walked {
                Walked::Finding(finding) => sender.send(Event::Finding(finding), 0)?,
                Walked::Found(found) => {
                    let state = match &mut previous {
                        Some(previous) => previous.at(&found.entry.path)?,
                        None => None,
                    };
                    let before = state.is_some();
                    self.found(*found, before, state, &mut reader, sender)?;
                }
            }
        }
        let gone_files = match previous {
            Some(previous) => previous.passed_in_all()?,
            None => 0,
        };
        Ok(Taken {
            excluded: walk.counts().excluded,
            streams: Vec::new(),
            gone_files,
        })
    }

    /// Ends the run when someone asked to stop.
    fn go_on(&self) -> Result<(), Stopped> {
        match self.surroundings.progress.stop_asked() {
            true => Err(self
                .flow
                .fail(super::ReplicateError::Interrupted { durable_stripes: 0 })),
            false => Ok(()),
        }
    }

    fn piece(&self, attempt: u32, piece: Piece, sender: &mut Sender) -> Result<(), Stopped> {
        self.go_on()?;
        Progress::add(&self.surroundings.progress.bytes, piece.raw.len() as u64);
        sender.piece(attempt, piece)
    }

    fn previous_states(&self) -> Result<Option<Previous<'_>>, Stopped> {
        let runtime = &self.surroundings.runtime;
        let cursor = self.flow.check(runtime.block_on(self.catalog.states(self.dataset)))?;
        let Some(run) = cursor.run() else { return Ok(None) };
        let known = self.flow.check(runtime.block_on(self.catalog.run(run)))?;
        Ok(known.map(|known| Previous {
            intake: self,
            scan_started: Timestamp {
                secs: known.record.started,
                nanos: 0,
            },
            cursor,
            page: Vec::new().into_iter().peekable(),
            ended: false,
            passed: 0,
        }))
    }

    fn found(
        &self,
        found: Found,
        before: bool,
        previous: Option<(FileState, Timestamp)>,
        reader: &mut FileReader,
        sender: &mut Sender,
    ) -> Result<(), Stopped> {
        Progress::add(&self.surroundings.progress.entries, 1);
        let Found {
            mut entry,
            stat,
            link,
            opener,
        } = found;
        if link == LinkRole::Later {
            return sender.send(Event::Later(Box::new(entry)), 0);
        }
        let Some(opener) = opener else {
            return sender.send(Event::Whole(Box::new(Remembered::without_content(entry))), 0);
        };
        if let Some(remembered) = previous.and_then(|(state, scan)| self.unchanged(&entry, &stat, &state, scan)) {
            Progress::add(&self.surroundings.progress.bytes, stat.size);
            Progress::add(&self.surroundings.progress.bytes_reused, stat.size);
            return sender.send(Event::Whole(Box::new(remembered)), 0);
        }
        let outcome = reader.read_stable(&opener, self.attempts, |attempt, piece| {
            self.piece(attempt, piece, sender)
        });
        match outcome {
            Ok(outcome) => {
                if outcome.consistency == Consistency::Changed {
                    let (path, attempts) = (entry.path.clone(), outcome.attempts);
                    sender.send(Event::Finding(Finding::ChangedWhileRead { path, attempts }), 0)?;
                }
                let stat = (outcome.consistency == Consistency::Stable).then_some(outcome.metadata.stat);
                outcome.metadata.apply_to(&mut entry);
                sender.send(
                    Event::FileEnd {
                        entry: Box::new(entry),
                        attempts: outcome.attempts,
                        stat,
                        link,
                        before,
                    },
                    0,
                )
            }
            Err(StableError::Read(error)) => {
                sender.send(Event::Dropped, 0)?;
                sender.send(Event::Finding(error.to_finding(entry.path)), 0)
            }
            Err(StableError::Taken(stopped)) => Err(stopped),
        }
    }

    /// The entry with the content it had, when nothing says that it changed and its chunks may be referred to.
    fn unchanged(&self, entry: &Entry, stat: &FileStat, state: &FileState, scan: Timestamp) -> Option<Remembered> {
        let before = super::remembered::stat_of(state);
        if !unchanged(&before, stat, scan) {
            return None;
        }
        let mut remembered = Remembered::from_bytes(&state.entry)?;
        let mut reusable = true;
        remembered.each_stripe(|run, ordinal| {
            reusable &= self.reusable.get(&run).is_some_and(|stripes| stripes.contains(ordinal));
        });
        if !reusable || remembered.entry.path != entry.path || remembered.entry.kind != EntryKind::File {
            return None;
        }
        // Everything but the content is as the walk sees it now.
        let content = std::mem::take(&mut remembered.entry.content);
        remembered.entry = entry.clone();
        remembered.entry.content = content;
        remembered.stat = Some(*stat);
        Some(remembered)
    }

    fn file(&self, path: &std::path::Path, sender: &mut Sender) -> Result<Taken, Stopped> {
        let (found, findings) = find_file(path).map_err(|error| self.fail(error))?;
        for finding in findings {
            sender.send(Event::Finding(finding), 0)?;
        }
        let mut reader = FileReader::new(self.cutter.clone());
        self.found(found, true, None, &mut reader, sender)?;
        Ok(Taken::default())
    }

    fn image(&self, path: &std::path::Path, block_bytes: usize, sender: &mut Sender) -> Result<Taken, Stopped> {
        let mut image = ImageReader::open(path, block_bytes).map_err(|error| self.fail(error))?;
        let name = path
            .file_name()
            .ok_or_else(|| self.fail(SourceError::NoFileName(path.to_owned())))?;
        let name = std::os::unix::ffi::OsStrExt::as_bytes(name);
        let entry = image.entry(EntryPath::parse(name).map_err(|error| self.fail(error))?);
        while let Some(piece) = image.next_piece().map_err(|error| self.fail(error))? {
            self.piece(1, piece, sender)?;
        }
        if image.finish().map_err(|error| self.fail(error))? == Consistency::Changed {
            return Err(self.fail(SourceError::ImageChanged));
        }
        sender.end_of_stream(entry, true)?;
        Ok(Taken::default())
    }

    fn streams(&self, mut streams: Vec<NamedStream>, sender: &mut Sender) -> Result<Taken, Stopped> {
        let parsed = streams
            .iter()
            .map(|stream| EntryPath::parse(&stream.name))
            .collect::<Result<Vec<_>, _>>();
        let mut names = parsed.map_err(|error| self.fail(error))?;
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.fail(SourceError::SameName(pair[0].to_string())));
        }
        let mut taken = Taken::default();
        for path in names {
            let Some(at) = streams.iter().position(|stream| stream.name == path.as_bytes()) else {
                continue;
            };
            let input = self.held_to_its_length(streams.swap_remove(at));
            let bytes = self.stream(path.to_string(), input, sender)?;
            taken.streams.push((path.as_bytes().to_vec(), bytes));
            let before = self.previous_streams.contains_key(path.as_bytes());
            sender.end_of_stream(stream_entry(path, bytes, self.started), before)?;
        }
        Ok(taken)
    }

    fn held_to_its_length(&self, stream: NamedStream) -> StreamInput {
        match (self.previous_streams.get(&stream.name), stream.max_shrink_percent) {
            (Some(&previous_bytes), Some(max_percent)) => stream.input.held_to(ShrinkRule {
                previous_bytes,
                max_percent,
            }),
            (None, _) | (_, None) => stream.input,
        }
    }

    fn stream(&self, name: String, input: StreamInput, sender: &mut Sender) -> Result<u64, Stopped> {
        match input {
            StreamInput::Command(command) => {
                let failed = |error| {
                    self.fail(SourceError::Command {
                        name: name.clone(),
                        error: Box::new(error),
                    })
                };
                let mut stream = CommandStream::start(&command, self.cutter.clone()).map_err(failed)?;
                let killer = stream.killer();
                self.watched(&killer, || {
                    // A command that we have killed ourselves has not failed.
                    while let Some(piece) = stream.next_piece().map_err(|error| match self.go_on() {
                        Ok(()) => failed(error),
                        Err(stopped) => stopped,
                    })? {
                        self.piece(1, piece, sender)?;
                    }
                    Ok(stream.bytes())
                })
            }
            StreamInput::Reader(input, rule) => {
                let failed = |error| {
                    self.fail(SourceError::Stream {
                        name: name.clone(),
                        error,
                    })
                };
                let mut stream = StreamReader::new(input, self.cutter.clone(), rule);
                while let Some(piece) = stream.next_piece().map_err(failed)? {
                    self.piece(1, piece, sender)?;
                }
                Ok(stream.bytes())
            }
        }
    }

    /// Does `work`, which waits for a command, and ends the command when the run has failed or someone asked to stop: a
    /// silent one would keep us waiting for ever.
    fn watched<T>(&self, killer: &Killer, work: impl FnOnce() -> T) -> T {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                use std::sync::mpsc::RecvTimeoutError::Timeout;
                while is_done.recv_timeout(COMMAND_WATCH) == Err(Timeout) {
                    if self.surroundings.progress.stop_asked() || self.flow.has_failed() {
                        return killer.kill();
                    }
                }
            });
            let worked = work();
            drop(done);
            worked
        })
    }
}

/// The states of the newest snapshot, read page by page alongside the walk.
struct Previous<'a> {
    intake: &'a Intake<'a>,
    scan_started: Timestamp,
    cursor: StateCursor,
    page: std::iter::Peekable<std::vec::IntoIter<FileState>>,
    ended: bool,
    /// States that the walk has passed without meeting their file.
    passed: u64,
}

impl Previous<'_> {
    /// The state at a path; paths must ascend.
    fn at(&mut self, path: &EntryPath) -> Result<Option<(FileState, Timestamp)>, Stopped> {
        loop {
            while self.page.next_if(|state| state.path < *path).is_some() {
                self.passed += 1;
            }
            if let Some(state) = self.page.next_if(|state| state.path == *path) {
                return Ok(Some((state, self.scan_started)));
            }
            if self.page.peek().is_some() || self.ended {
                return Ok(None);
            }
            self.turn()?;
        }
    }

    /// How many files were met by no entry of the walk, those after its last one included.
    fn passed_in_all(mut self) -> Result<u64, Stopped> {
        loop {
            self.passed += self.page.by_ref().count() as u64;
            if self.ended {
                return Ok(self.passed);
            }
            self.turn()?;
        }
    }

    fn turn(&mut self) -> Result<(), Stopped> {
        let page = self
            .intake
            .surroundings
            .runtime
            .block_on(self.cursor.next_page(BATCH_EVENTS));
        let page = self.intake.flow.check(page)?;
        self.ended = page.is_empty();
        self.page = page.into_iter().peekable();
        Ok(())
    }
}

/// Collects events into batches.
struct Sender {
    out: SyncSender<Batch>,
    events: Vec<Event>,
    bytes: usize,
    number: u64,
}

impl Sender {
    fn send(&mut self, event: Event, bytes: usize) -> Result<(), Stopped> {
        self.events.push(event);
        self.bytes += bytes;
        if self.bytes >= BATCH_BYTES || self.events.len() >= BATCH_EVENTS {
            self.flush()?;
        }
        Ok(())
    }

    fn piece(&mut self, attempt: u32, piece: Piece) -> Result<(), Stopped> {
        let bytes = piece.raw.len();
        self.send(Event::Piece(attempt, piece), bytes)
    }

    fn end_of_stream(&mut self, entry: Entry, before: bool) -> Result<(), Stopped> {
        self.send(
            Event::FileEnd {
                entry: Box::new(entry),
                attempts: 1,
                stat: None,
                link: LinkRole::Single,
                before,
            },
            0,
        )
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        if self.events.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            number: self.number,
            events: std::mem::take(&mut self.events),
        };
        self.number += 1;
        self.bytes = 0;
        // A closed channel means that someone else has failed and said why.
        self.out.send(batch).map_err(|_| Stopped)
    }
}
