//! Chunks in any order, into files that are named when they are complete; or into nothing, to check that they are there.

use std::sync::{
    Arc, Condvar, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use exclave_dataset::{
    page::ExtentReader,
    sink::{Existing, FileWriter, Placed, SinkError, TreeWriter},
};
use exclave_model::{ChunkRef, Entry, EntryKind, EntryPath};

use super::{
    Restored, Step, Walk,
    chunks::{ChunkReader, Unpacker, Wanted},
    error::{ChunkError, LostWhy, RestoreError},
    jobs::{Jobs, StopOnPanic},
    report::{Lost, Written},
    resume::is_restored,
    stripes::Lease,
};
use crate::{
    fetch::book::lock,
    snapshot::Snapshots,
    surroundings::{Progress, Surroundings},
};

/// Chunks of one job: enough to keep a worker busy, few enough to share a large stripe among several.
const PIECES_MAX: usize = 512;

/// Where the files go.
pub(super) enum Sink {
    Tree {
        writer: Box<TreeWriter>,
        existing: Existing,
    },
    Nothing,
}

/// One chunk of one file.
struct Piece {
    chunk: ChunkRef,
    offset: u64,
    file: Arc<OpenFile>,
}

/// Chunks of one stripe.
struct Job {
    lease: Lease,
    pieces: Vec<Piece>,
}

/// A file until its last chunk is written: whoever lets go of it last finishes it.
struct OpenFile {
    path: EntryPath,
    /// None when the file's bytes are only checked.
    writer: Option<FileWriter>,
    trouble: Mutex<Option<Trouble>>,
    _place: Place,
}

enum Trouble {
    Lost(LostWhy),
    /// The target refused; the sink has it in its summary.
    Refused,
}

/// A count of open files; each holds its place.
#[derive(Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.0.taken);
        *taken = taken.saturating_sub(1);
        drop(taken);
        self.0.freed.notify_all();
    }
}

impl Places {
    fn take(self: &Arc<Self>) -> Place {
        *lock(&self.taken) += 1;
        Place(Arc::clone(self))
    }

    fn is_full(&self, most: usize) -> bool {
        *lock(&self.taken) >= most
    }

    fn wait(&self, most: usize) {
        let mut taken = lock(&self.taken);
        while *taken >= most {
            taken = self.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What all threads of one restore share.
struct Shared {
    jobs: Jobs<Job>,
    lost: Mutex<Lost>,
    fatal: Mutex<Option<RestoreError>>,
    files: AtomicU64,
    bytes: AtomicU64,
    progress: Arc<Progress>,
}

impl Shared {
    /// Ends the restore. The first reason counts.
    fn fail(&self, error: RestoreError) {
        lock(&self.fatal).get_or_insert(error);
        self.jobs.stop();
    }

    /// Gives a file its name, or gives it up.
    fn finish(&self, file: OpenFile) {
        let OpenFile {
            path, writer, trouble, ..
        } = file;
        match trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => match writer.map_or(Ok(()), FileWriter::commit) {
                Ok(()) => _ = self.files.fetch_add(1, Ordering::Relaxed),
                Err(error) if error.stops() => self.fail(error.into()),
                // In the sink's summary.
                Err(_) => {}
            },
            Some(trouble) => {
                if let Some(writer) = writer {
                    writer.abandon();
                }
                match trouble {
                    // A file that was given up because everything stops is not lost.
                    Trouble::Lost(LostWhy::Chunk(ChunkError::Stopped)) | Trouble::Refused => {}
                    Trouble::Lost(why) => lock(&self.lost).entry(path, why),
                }
            }
        }
    }

    /// Lets go of a file; finishes it when nobody else holds it. Not while everything stops: then it is dropped, and
    /// leaves nothing.
    fn release(&self, file: Arc<OpenFile>) {
        if let Some(file) = Arc::into_inner(file)
            && !self.jobs.is_stopped()
        {
            self.finish(file);
        }
    }
}

/// Restores the walk's entries.
pub(super) fn restore(
    reader: &mut ChunkReader<'_>,
    walk: Walk<'_>,
    sink: Sink,
    snapshots: &Snapshots<'_>,
    surroundings: &Surroundings,
) -> Result<Restored, RestoreError> {
    let shared = Shared {
        jobs: Jobs::new(&reader.stripes, &surroundings.progress),
        lost: Mutex::default(),
        fatal: Mutex::default(),
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        progress: Arc::clone(&surroundings.progress),
    };
    let mut unpackers = Vec::new();
    for _ in 0..surroundings.threads.get() {
        unpackers.push(Unpacker::new(&reader.hasher)?);
    }
    let mut planner = Planner {
        reader,
        shared: &shared,
        sink,
        places: Arc::default(),
        files_open_max: snapshots.settings.files_open_max.max(1),
        pending: Vec::new(),
        entries: 0,
    };
    let walked = std::thread::scope(|scope| {
        let workers: Vec<_> = unpackers
            .into_iter()
            .map(|unpacker| scope.spawn(|| work(&shared, unpacker)))
            .collect();
        let guard = StopOnPanic(&shared.jobs);
        let walked = planner.run(walk);
        match &walked {
            Ok(_) => shared.jobs.close(),
            Err(_) => shared.jobs.stop(),
        }
        let finished: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        let all_finished = finished.iter().all(Result::is_ok);
        drop(guard);
        match all_finished {
            true => walked,
            false => Err(RestoreError::Thread),
        }
    });
    let Planner { sink, entries, .. } = planner;
    if let Some(error) = lock(&shared.fatal).take() {
        return Err(error);
    }
    let not_found = walked?;
    if shared.jobs.is_stopped() {
        return Err(RestoreError::Interrupted { entries });
    }
    let written = match sink {
        Sink::Tree { writer, .. } => Written::Tree(writer.finish()?),
        Sink::Nothing => Written::Nothing,
    };
    Ok(Restored {
        entries,
        files: shared.files.into_inner(),
        bytes: shared.bytes.into_inner(),
        lost: shared.lost.into_inner().unwrap_or_else(PoisonError::into_inner),
        not_found,
        written,
    })
}

/// The thread that reads the manifest and places entries.
struct Planner<'p, 's> {
    reader: &'p mut ChunkReader<'s>,
    shared: &'p Shared,
    sink: Sink,
    places: Arc<Places>,
    files_open_max: usize,
    /// Chunks of one stripe, not yet a job.
    pending: Vec<Piece>,
    entries: u64,
}

/// Why pending chunks become a job.
#[derive(Clone, Copy)]
enum Close {
    /// The next chunk lies in another stripe.
    StripeEnds,
    /// There are enough of them; more of the stripe may follow.
    Full,
}

impl Planner<'_, '_> {
    /// The paths that were not found.
    fn run(&mut self, mut walk: Walk<'_>) -> Result<Vec<EntryPath>, RestoreError> {
        loop {
            if self.shared.progress.stop_asked() {
                return Err(RestoreError::Interrupted { entries: self.entries });
            }
            if self.shared.jobs.is_stopped() {
                break;
            }
            let reader = &mut *self.reader;
            match walk.next(&mut |page| reader.page(page)) {
                Step::Entry(entry) => self.entry(&entry)?,
                Step::Gap(gap) => lock(&self.shared.lost).gap(gap),
                Step::End => break,
            }
        }
        self.flush(Close::StripeEnds);
        Ok(walk.not_found)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        self.entries += 1;
        Progress::add(&self.shared.progress.entries, 1);
        let writer = match &mut self.sink {
            Sink::Nothing if entry.kind == EntryKind::File => None,
            Sink::Nothing => return Ok(()),
            Sink::Tree { writer, existing } => {
                if *existing == Existing::Replace && is_restored(self.reader, writer, entry) {
                    self.shared.files.fetch_add(1, Ordering::Relaxed);
                    return going_on(writer.keep(entry));
                }
                if entry.kind == EntryKind::File {
                    self.make_place();
                }
                let Sink::Tree { writer, .. } = &mut self.sink else {
                    return Ok(());
                };
                match writer.place(entry) {
                    Ok(Placed::Done) => return Ok(()),
                    Ok(Placed::Content(writer)) => Some(writer),
                    Err(error) => return going_on(Err(error)),
                }
            }
        };
        let file = Arc::new(OpenFile {
            path: entry.path.clone(),
            writer,
            trouble: Mutex::default(),
            _place: self.places.take(),
        });
        self.chunks(entry, &file);
        self.shared.release(file);
        Ok(())
    }

    /// Waits until one more file may be open.
    fn make_place(&mut self) {
        if self.places.is_full(self.files_open_max) {
            // What is pending keeps files open.
            self.flush(Close::Full);
            if !self.shared.jobs.is_stopped() {
                self.places.wait(self.files_open_max);
            }
        }
    }

    fn chunks(&mut self, entry: &Entry, file: &Arc<OpenFile>) {
        let mut extents = ExtentReader::new(entry);
        loop {
            let reader = &mut *self.reader;
            let extent = match extents.next_extent(&mut |page: &ChunkRef| reader.page(page)) {
                Ok(Some(extent)) => extent,
                Ok(None) => return,
                Err(error) => {
                    lock(&file.trouble).get_or_insert(Trouble::Lost(LostWhy::List(Arc::new(error))));
                    return;
                }
            };
            let mut offset = extent.offset;
            for chunk in extent.refs {
                if self.shared.jobs.is_stopped() || self.shared.progress.stop_asked() {
                    lock(&file.trouble).get_or_insert(Trouble::Lost(ChunkError::Stopped.into()));
                    return;
                }
                // Nothing of a file that can't be completed is worth fetching.
                if lock(&file.trouble).is_some() {
                    return;
                }
                self.chunk(Piece {
                    chunk,
                    offset,
                    file: Arc::clone(file),
                });
                offset = offset.saturating_add(u64::from(chunk.raw));
            }
        }
    }

    fn chunk(&mut self, piece: Piece) {
        let stripe = |piece: &Piece| (piece.chunk.run, piece.chunk.ordinal);
        match self.pending.last() {
            Some(last) if stripe(last) != stripe(&piece) => self.flush(Close::StripeEnds),
            Some(_) if self.pending.len() >= PIECES_MAX => self.flush(Close::Full),
            Some(_) | None => {}
        }
        self.pending.push(piece);
    }

    /// Makes a job of what is pending: from here on its stripe is fetched.
    fn flush(&mut self, close: Close) {
        let pieces = std::mem::take(&mut self.pending);
        let Some(first) = pieces.first() else { return };
        let chunks: Vec<&ChunkRef> = pieces.iter().map(|piece| &piece.chunk).collect();
        let wanted = match close {
            Close::StripeEnds => Wanted::Chunks(&chunks),
            Close::Full => Wanted::Stripe,
        };
        match self.reader.lease(&first.chunk, &wanted) {
            // A push fails only when everything stops; then the job is dropped, and its files leave nothing.
            Ok(lease) => _ = self.shared.jobs.push(Job { lease, pieces }),
            Err(error) => lose(self.shared, pieces, &error),
        }
    }
}

/// Lets a refusal of one entry pass: the sink has it in its summary.
fn going_on(placed: Result<(), SinkError>) -> Result<(), RestoreError> {
    match placed {
        Err(error) if error.stops() => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn lose(shared: &Shared, pieces: Vec<Piece>, error: &ChunkError) {
    for piece in pieces {
        lock(&piece.file.trouble).get_or_insert_with(|| Trouble::Lost(error.clone().into()));
        shared.release(piece.file);
    }
}

/// A worker: opens stripes, cuts chunks, writes them.
fn work(shared: &Shared, mut unpacker: Unpacker) {
    let _guard = StopOnPanic(&shared.jobs);
    while let Some(Job { lease, pieces }) = shared.jobs.pop() {
        match lease.open() {
            Err(error) => lose(shared, pieces, &ChunkError::Stripe(error)),
            Ok(opened) => {
                for piece in pieces {
                    if lock(&piece.file.trouble).is_none() {
                        let written = unpacker.with_chunk(&opened, &piece.chunk, |raw| write(shared, &piece, raw));
                        if let Err(error) = written {
                            *lock(&piece.file.trouble) = Some(Trouble::Lost(error.into()));
                        }
                    }
                    shared.release(piece.file);
                }
            }
        }
    }
}

fn write(shared: &Shared, piece: &Piece, raw: &[u8]) {
    let written = piece
        .file
        .writer
        .as_ref()
        .map_or(Ok(()), |writer| writer.write_at(piece.offset, raw));
    match written {
        Ok(()) => {
            shared.bytes.fetch_add(raw.len() as u64, Ordering::Relaxed);
            Progress::add(&shared.progress.bytes, raw.len() as u64);
        }
        Err(error) => {
            *lock(&piece.file.trouble) = Some(Trouble::Refused);
            if error.stops() {
                shared.fail(error.into());
            }
        }
    }
}
