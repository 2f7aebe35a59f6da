//! Chunks in order: a tar stream, or the bytes of one file.
//!
//! The workers open stripes ahead; one thread takes the chunks in order, cuts, checks and writes them. What was written to
//! a stream can't be taken back, so a short file is read whole before its header is written: when a chunk of it is lost it
//! is left out, and the stream goes on. A longer one that loses a chunk ends the stream with an error.

use std::{
    io::Write,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use exclave_dataset::{
    page::ExtentReader,
    sink::{ExpandError, RawWriter, TarError, TarWriter},
};
use exclave_model::{ChunkRef, Entry, EntryKind, EntryPath};

use super::{
    Restored, Selection, Step, Walk,
    chunks::{ChunkReader, Unpacker, Wanted},
    error::{ChunkError, LostWhy, RestoreError},
    jobs::{Jobs, StopOnPanic},
    report::{Lost, Written},
    root_of,
    stripes::{Lease, Stopped},
};
use crate::surroundings::{Progress, Surroundings};

/// Files up to this size are read whole before anything of them is written.
const SHORT_BYTES_MAX: u64 = 8 << 20;

/// Items that wait for the writing thread; some hundred bytes each.
const ITEMS_WAITING_MAX: usize = 256;

/// Chunks of one stripe that are handed over together.
const PIECES_MAX: usize = 512;

type Out = Box<dyn Write + Send>;

/// What is written.
pub(super) enum Format {
    Tar(TarWriter<Out>),
    Raw(RawWriter<Out>),
}

impl Format {
    pub(super) fn tar(out: Out) -> Self {
        Self::Tar(TarWriter::new(out))
    }

    pub(super) fn raw(out: Out) -> Self {
        Self::Raw(RawWriter::new(out))
    }
}

/// What the writing thread takes, in order. A file's entry is followed by its pieces and an end.
enum Item {
    Entry(Box<Entry>),
    Piece {
        chunk: ChunkRef,
        offset: u64,
        lease: Arc<Lease>,
    },
    Lost(LostWhy),
    End,
}

/// The same before its stripe was let in.
enum Planned {
    Ready(Item),
    Piece { chunk: ChunkRef, offset: u64 },
}

/// Refuses a selection that isn't one file.
pub(super) fn require_one_file(reader: &mut ChunkReader<'_>, selection: &Selection) -> Result<(), RestoreError> {
    let mut walk = Walk::new(root_of(reader.snapshot()), selection);
    let mut files: Vec<EntryPath> = Vec::new();
    loop {
        match walk.next(&mut |page| reader.page(page)) {
            Step::Entry(entry) if entry.kind == EntryKind::File => files.push(entry.path),
            Step::Entry(_) | Step::Gap(_) => {}
            Step::End => break,
        }
        if files.len() > 1 {
            break;
        }
    }
    match files.as_slice() {
        [_] => Ok(()),
        [] => Err(RestoreError::NotOneFile {
            found: "no files".to_owned(),
        }),
        several => Err(RestoreError::NotOneFile {
            found: several
                .iter()
                .map(EntryPath::to_string)
                .collect::<Vec<_>>()
                .join(" and "),
        }),
    }
}

/// Writes the walk's entries.
pub(super) fn restore(
    reader: &mut ChunkReader<'_>,
    walk: Walk<'_>,
    format: Format,
    surroundings: &Surroundings,
) -> Result<Restored, RestoreError> {
    let jobs: Jobs<Arc<Lease>> = Jobs::new(&reader.stripes, &surroundings.progress);
    let (to_writer, items) = sync_channel(ITEMS_WAITING_MAX);
    let unpacker = Unpacker::new(&reader.hasher)?;
    let mut planner = Planner {
        reader,
        jobs: &jobs,
        to_writer,
        progress: Arc::clone(&surroundings.progress),
        pending: Vec::new(),
        stripe: None,
        entries: 0,
        lost: Lost::default(),
    };
    let (walked, written) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..surroundings.threads.get())
            .map(|_| {
                scope.spawn(|| {
                    let _guard = StopOnPanic(&jobs);
                    while let Some(lease) = jobs.pop() {
                        // Whether it opened is what the writing thread asks for.
                        let _ = lease.open();
                    }
                })
            })
            .collect();
        let progress = &surroundings.progress;
        let jobs = &jobs;
        let writer = scope.spawn(move || {
            let _guard = StopOnPanic(jobs);
            let written = Writer {
                format,
                pieces: Pieces {
                    items,
                    unpacker,
                    is_at_end: true,
                    bytes: 0,
                },
                files: 0,
                lost: Lost::default(),
            }
            .run(progress);
            if written.is_err() {
                jobs.stop();
            }
            written
        });
        let guard = StopOnPanic(jobs);
        let walked = planner.run(walk);
        if walked.is_err() {
            jobs.stop();
        }
        jobs.close();
        let Planner {
            entries,
            lost,
            to_writer,
            ..
        } = planner;
        drop(guard);
        // With this the writing thread sees the end.
        drop(to_writer);
        let written = writer.join().unwrap_or(Err(RestoreError::Thread));
        let finished: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        match finished.iter().all(Result::is_ok) {
            true => (walked.map(|not_found| (not_found, entries, lost)), written),
            false => (Err(RestoreError::Thread), written),
        }
    });
    // When the writer failed the planner was only told to stop: the writer's reason is the one that counts.
    let done = match (written, &walked) {
        (Err(RestoreError::Interrupted { .. }), Err(_)) => None,
        (written, _) => Some(written?),
    };
    let (not_found, entries, planned) = walked?;
    let done = done.ok_or(RestoreError::Interrupted { entries })?;
    let mut lost = done.lost;
    lost.gaps = planned.gaps;
    lost.gaps_count = planned.gaps_count;
    Ok(Restored {
        entries,
        files: done.files,
        bytes: done.bytes,
        lost,
        not_found,
        written: done.written,
    })
}

/// The thread that reads the manifest.
struct Planner<'p, 's> {
    reader: &'p mut ChunkReader<'s>,
    jobs: &'p Jobs<Arc<Lease>>,
    to_writer: SyncSender<Item>,
    progress: Arc<Progress>,
    /// Items in order, whose pieces all lie in one stripe.
    pending: Vec<Planned>,
    stripe: Option<ChunkRef>,
    entries: u64,
    lost: Lost,
}

impl Planner<'_, '_> {
    fn run(&mut self, mut walk: Walk<'_>) -> Result<Vec<EntryPath>, RestoreError> {
        let interrupted = |entries| RestoreError::Interrupted { entries };
        loop {
            if self.jobs.is_stopped() {
                return Err(interrupted(self.entries));
            }
            let reader = &mut *self.reader;
            let step = walk.next(&mut |page| reader.page(page));
            let entry = match step {
                Step::Entry(entry) => entry,
                Step::Gap(gap) => {
                    self.lost.gap(gap);
                    continue;
                }
                Step::End => break,
            };
            self.entries += 1;
            Progress::add(&self.progress.entries, 1);
            self.entry(entry).map_err(|Stopped| interrupted(self.entries))?;
        }
        self.flush().map_err(|Stopped| interrupted(self.entries))?;
        match self.jobs.is_stopped() {
            true => Err(interrupted(self.entries)),
            false => Ok(walk.not_found),
        }
    }

    fn entry(&mut self, entry: Box<Entry>) -> Result<(), Stopped> {
        if entry.kind != EntryKind::File {
            return self.ready(Item::Entry(entry));
        }
        let mut extents = ExtentReader::new(&entry);
        self.ready(Item::Entry(entry))?;
        loop {
            let reader = &mut *self.reader;
            match extents.next_extent(&mut |page: &ChunkRef| reader.page(page)) {
                Ok(Some(extent)) => {
                    let mut offset = extent.offset;
                    for chunk in extent.refs {
                        self.piece(chunk, offset)?;
                        offset = offset.saturating_add(u64::from(chunk.raw));
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.ready(Item::Lost(LostWhy::List(Arc::new(error))))?;
                    break;
                }
            }
        }
        self.ready(Item::End)
    }

    fn ready(&mut self, item: Item) -> Result<(), Stopped> {
        self.pending.push(Planned::Ready(item));
        self.flush_when(self.pending.len() >= PIECES_MAX)
    }

    fn piece(&mut self, chunk: ChunkRef, offset: u64) -> Result<(), Stopped> {
        let differs = |stripe: &ChunkRef| (stripe.run, stripe.ordinal) != (chunk.run, chunk.ordinal);
        self.flush_when(self.stripe.as_ref().is_some_and(differs) || self.pending.len() >= PIECES_MAX)?;
        self.stripe = Some(chunk);
        self.pending.push(Planned::Piece { chunk, offset });
        Ok(())
    }

    fn flush_when(&mut self, is_time: bool) -> Result<(), Stopped> {
        match is_time {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Lets the stripe in and hands the items over.
    fn flush(&mut self) -> Result<(), Stopped> {
        let is_full = self.pending.len() >= PIECES_MAX;
        let items = std::mem::take(&mut self.pending);
        let lease = self.stripe.take().map(|first| self.lease(&first, &items, is_full));
        for item in items {
            let item = match (item, &lease) {
                (Planned::Ready(item), _) => item,
                (Planned::Piece { chunk, offset }, Some(Ok(lease))) => Item::Piece {
                    chunk,
                    offset,
                    lease: Arc::clone(lease),
                },
                (Planned::Piece { .. }, Some(Err(ChunkError::Stopped)) | None) => return Err(Stopped),
                (Planned::Piece { .. }, Some(Err(error))) => Item::Lost(error.clone().into()),
            };
            // The writing thread ends early only when it failed.
            self.to_writer.send(item).map_err(|_| Stopped)?;
        }
        Ok(())
    }

    fn lease(&mut self, first: &ChunkRef, items: &[Planned], is_full: bool) -> Result<Arc<Lease>, ChunkError> {
        let pieces = items.iter().filter_map(|item| match item {
            Planned::Piece { chunk, .. } => Some(chunk),
            Planned::Ready(_) => None,
        });
        let chunks: Vec<&ChunkRef> = pieces.collect();
        let wanted = match is_full {
            true => Wanted::Stripe,
            false => Wanted::Chunks(&chunks),
        };
        let lease = Arc::new(self.reader.lease(first, &wanted)?);
        self.jobs
            .push(Arc::clone(&lease))
            .map_err(|Stopped| ChunkError::Stopped)?;
        Ok(lease)
    }
}

/// The pieces of one file, as they come.
struct Pieces {
    items: Receiver<Item>,
    unpacker: Unpacker,
    is_at_end: bool,
    bytes: u64,
}

impl Iterator for Pieces {
    type Item = Result<(u64, Vec<u8>), LostWhy>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_at_end {
            return None;
        }
        match self.items.recv() {
            Ok(Item::Piece { chunk, offset, lease }) => {
                let raw = self.unpacker.leased(&lease, &chunk);
                Some(raw.map_err(LostWhy::from).map(|raw| {
                    self.bytes += raw.len() as u64;
                    (offset, raw)
                }))
            }
            Ok(Item::Lost(why)) => Some(Err(why)),
            Ok(Item::End) => {
                self.is_at_end = true;
                None
            }
            // Only ever between files, or when everything stops.
            Ok(Item::Entry(_)) | Err(_) => {
                self.is_at_end = true;
                Some(Err(ChunkError::Stopped.into()))
            }
        }
    }
}

struct Done {
    written: Written,
    files: u64,
    bytes: u64,
    lost: Lost,
}

/// The thread that writes.
struct Writer {
    format: Format,
    pieces: Pieces,
    files: u64,
    lost: Lost,
}

impl Writer {
    fn run(mut self, progress: &Progress) -> Result<Done, RestoreError> {
        while let Ok(item) = self.pieces.items.recv() {
            let Item::Entry(entry) = item else { continue };
            let before = self.pieces.bytes;
            match entry.kind {
                EntryKind::File => {
                    self.pieces.is_at_end = false;
                    self.file(&entry)?;
                    // What a further name of a file did not ask for, or what came after a loss.
                    while self.pieces.next().is_some() {}
                }
                EntryKind::Directory
                | EntryKind::Symlink
                | EntryKind::Fifo
                | EntryKind::Socket
                | EntryKind::CharDevice
                | EntryKind::BlockDevice => self.write(&entry, std::iter::empty())?,
            }
            Progress::add(&progress.bytes, self.pieces.bytes - before);
        }
        if progress.stop_asked() {
            // The stream lacks its end on purpose: nobody shall take it for whole.
            return Err(RestoreError::Interrupted { entries: self.files });
        }
        let written = match self.format {
            Format::Tar(tar) => Written::Tar(tar.finish().map_err(RestoreError::Stream)?.1),
            Format::Raw(raw) => {
                raw.finish().map_err(RestoreError::Stream)?;
                Written::Raw
            }
        };
        Ok(Done {
            written,
            files: self.files,
            bytes: self.pieces.bytes,
            lost: self.lost,
        })
    }

    fn file(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        let is_short = entry.size <= SHORT_BYTES_MAX && matches!(self.format, Format::Tar(_));
        if !is_short {
            let Self { format, pieces, .. } = self;
            write_to(format, entry, pieces)?;
            self.files += 1;
            return Ok(());
        }
        // The pieces of a file add up to at most its size.
        match self.pieces.by_ref().collect::<Result<Vec<_>, LostWhy>>() {
            Ok(pieces) => {
                self.write(entry, pieces.into_iter().map(Ok))?;
                self.files += 1;
            }
            Err(LostWhy::Chunk(ChunkError::Stopped)) => {}
            Err(why) => self.lost.entry(entry.path.clone(), why),
        }
        Ok(())
    }

    fn write(
        &mut self,
        entry: &Entry,
        pieces: impl Iterator<Item = Result<(u64, Vec<u8>), LostWhy>>,
    ) -> Result<(), RestoreError> {
        write_to(&mut self.format, entry, pieces)
    }
}

fn write_to(
    format: &mut Format,
    entry: &Entry,
    pieces: impl IntoIterator<Item = Result<(u64, Vec<u8>), LostWhy>>,
) -> Result<(), RestoreError> {
    let broken = |source: ExpandError<LostWhy>| match source {
        ExpandError::Write(error) => RestoreError::Stream(error),
        ExpandError::Data(why) => RestoreError::StreamBroken {
            path: entry.path.clone(),
            source: Box::new(why),
        },
        other @ (ExpandError::Overlap { .. } | ExpandError::BeyondSize { .. }) => RestoreError::StreamBroken {
            path: entry.path.clone(),
            source: Box::new(other),
        },
    };
    match format {
        Format::Raw(raw) => raw.append(entry, pieces).map_err(broken),
        Format::Tar(tar) => match tar.append(entry, pieces) {
            // An entry that the format can't hold is in the summary.
            Ok(()) | Err(TarError::Entry(_)) => Ok(()),
            Err(TarError::Write(error)) => Err(RestoreError::Stream(error)),
            Err(TarError::Content { path: _, source }) => Err(broken(source)),
        },
    }
}
