//! The dedup index: the directories of stripes, several at a time.

use std::sync::{
    Arc, Mutex,
    mpsc::{self, SyncSender},
};

use exclave_model::{BufferPool, Directory};

use super::{
    RebuildError,
    report::{RebuildFinding, StripeGap},
    run::{Labelled, Line, Runs},
};
use crate::{
    directory_tail,
    fetch::{SiteBook, book::lock, ranges::PartsFeed},
    restore::{Opened, StripeError, StripeSource, Stripes},
    surroundings::Progress,
};

/// Stripes whose directories are read at the same time: mostly waiting for two small requests each.
const READ_AT_ONCE: usize = 8;

/// What became of one stripe.
type Read = (Line, Result<Directory, StripeGap>);

impl Runs<'_> {
    /// Adds the chunks of stripes that are noted to the index.
    pub(super) fn index(&mut self, opened: &Labelled, lines: Vec<Line>) -> Result<(), RebuildError> {
        let reader = Reader {
            runtime: self.surroundings.runtime.clone(),
            book: Arc::clone(self.source.book),
            progress: Arc::clone(&self.surroundings.progress),
            stripes: Arc::clone(&self.stripes),
            opened: opened.clone(),
        };
        let waiting = Mutex::new(lines.into_iter());
        let (out, read) = mpsc::sync_channel::<Read>(READ_AT_ONCE);
        std::thread::scope(|scope| {
            for _ in 0..READ_AT_ONCE {
                let (reader, waiting, out) = (&reader, &waiting, out.clone());
                scope.spawn(move || reader.work(waiting, &out));
            }
            drop(out);
            // When adding fails the channel closes behind us, and the readers end.
            read.into_iter().try_for_each(|read| self.add(read))
        })?;
        self.go_on()
    }

    fn add(&mut self, (line, directory): Read) -> Result<(), RebuildError> {
        let (run, ordinal) = (line.record.context.run, line.ordinal());
        match directory {
            Ok(directory) => {
                let chunks = directory_tail::chunk_refs(run, ordinal, &directory);
                self.surroundings
                    .runtime
                    .block_on(self.catalog.insert_chunks(&chunks))?;
                self.rebuilt.chunks += chunks.len() as u64;
                let progress = &self.surroundings.progress;
                Progress::add(&progress.entries, chunks.len() as u64);
                Progress::add(&progress.bytes, chunks.iter().map(|chunk| u64::from(chunk.raw)).sum());
            }
            Err(why) => {
                self.rebuilt.stripes_unread += 1;
                self.findings.add(RebuildFinding::Stripe { run, ordinal, why });
            }
        }
        Ok(())
    }
}

/// What every reading thread uses.
struct Reader {
    runtime: tokio::runtime::Handle,
    book: Arc<SiteBook>,
    progress: Arc<Progress>,
    stripes: Arc<Stripes>,
    opened: Labelled,
}

impl Reader {
    fn work(&self, waiting: &Mutex<std::vec::IntoIter<Line>>, out: &SyncSender<Read>) {
        while !self.progress.stop_asked() {
            let Some(line) = lock(waiting).next() else { return };
            let Some(directory) = self.directory(&line).transpose() else {
                return;
            };
            if out.send((line, directory)).is_err() {
                return;
            }
        }
    }

    /// The directory of a stripe, from its end if that can be had; `None` when someone asked to stop.
    fn directory(&self, line: &Line) -> Result<Option<Directory>, StripeGap> {
        let Labelled { run, label } = &self.opened;
        if !run.key.labelled(label, &line.record.context) {
            return Err(StripeGap::Label);
        }
        match self.end_of(line) {
            Some(directory) => Ok(Some(directory)),
            None => self.whole(line),
        }
    }

    fn end_of(&self, line: &Line) -> Option<Directory> {
        directory_tail::collect(line.record.context.segments(), |segments| {
            PartsFeed::start(&self.runtime, &self.book, &line.record, &line.layout, segments)?.open(
                &self.book,
                &line.record,
                &self.opened.run.key,
            )
        })
    }

    /// From any k shards, when the site of the last data shard is gone, or lied.
    fn whole(&self, line: &Line) -> Result<Option<Directory>, StripeGap> {
        let source = StripeSource {
            runtime: self.runtime.clone(),
            book: Arc::clone(&self.book),
            record: Arc::clone(&line.record),
            layout: line.layout.clone(),
            run: Arc::clone(&self.opened.run),
            // Few stripes are opened whole here.
            pool: BufferPool::default(),
        };
        let Ok(lease) = self.stripes.admit(source, None) else {
            return Ok(None);
        };
        let opened = lease.open().map_err(StripeGap::Directory)?;
        match &*opened {
            Opened::Whole(stripe) => stripe.directory().map(Some).map_err(|rule| {
                StripeGap::Directory(Arc::new(StripeError::Directory {
                    run: line.record.context.run,
                    ordinal: line.ordinal(),
                    rule,
                }))
            }),
            Opened::Parts(_) => Err(StripeGap::Directory(Arc::new(StripeError::Abandoned))),
        }
    }
}
