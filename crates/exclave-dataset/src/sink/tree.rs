//! Restores entries as files, directories and links beneath a target directory.
//!
//! Entries are placed in the manifest's order, so a directory stands before what it holds, and each directory is
//! established exactly once: a name that exists already belongs to someone else, or to an entry that the file system
//! takes for the same. What stands below something refused is refused too, so nothing slips into another directory.
//!
//! What is done when:
//!
//! 1. [`TreeWriter::place`] makes directories, open to the process only, and begins files.
//! 2. [`FileWriter`]s complete files, in any order, on any thread.
//! 3. [`TreeWriter::finish`] makes hard links, then symbolic links (so nothing was ever written through one), then
//!    gives directories their mode and time, deepest first, and asks the kernel once to write it all to disk.
//!
//! Memory is bounded: links and directories wait in spools on the target's disk.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use exclave_model::{Entry, EntryKind, EntryPath};
use rustix::{fs::FileType, io::Errno};

use super::{
    beneath::stat,
    file::{FileWriter, is_reserved},
    links::{LinkGroups, Member},
    metadata::Rights,
    options::{Existing, Options, SpecialNodes},
    order::Order,
    problem::{Refusal, SinkError},
    shared::{Shared, SinkSummary, bare},
    spool::{Spool, SpoolError},
};

mod finish;
mod make;
mod target;

/// What placing an entry led to.
#[derive(Debug)]
pub enum Placed {
    /// Nothing more to do: it is made, or will be at the end, or is left out as the options say.
    Done,
    /// A file that wants its data.
    Content(FileWriter),
}

/// Restores a tree. See the [module](super) for what it promises.
#[derive(Debug)]
pub struct TreeWriter {
    shared: Arc<Shared>,
    special_nodes: SpecialNodes,
    hard_links: bool,
    order: Order,
    /// The deepest directory that is established on the way to the last path.
    established: EntryPath,
    /// The directory that was used last.
    open: Option<(EntryPath, Arc<OwnedFd>)>,
    groups: LinkGroups,
    hard_link_spool: Spool,
    symlink_spool: Spool,
    directory_spool: Spool,
}

impl TreeWriter {
    /// Opens the target, creates it when it is missing (not its parents), and checks that the options allow what it
    /// holds. A directory `lost+found` does not count.
    pub fn create(target: &Path, options: Options) -> Result<Self, SinkError> {
        let target = target::open(target, options.existing)?;
        let traits = target::probe(&target)?;
        let rights = Rights::of_process(options);
        Ok(Self {
            shared: Arc::new(Shared::new(target, rights, options.existing, traits.folds_names)),
            special_nodes: options.special_nodes,
            hard_links: traits.hard_links,
            order: Order::default(),
            established: EntryPath::root(),
            open: None,
            groups: LinkGroups::default(),
            hard_link_spool: Spool::default(),
            symlink_spool: Spool::default(),
            directory_spool: Spool::default(),
        })
    }

    /// Takes the next entry. A file's data is not read from the entry: [`Placed::Content`] asks for it.
    pub fn place(&mut self, entry: &Entry) -> Result<Placed, SinkError> {
        self.admit(entry)
            .and_then(|()| self.dispatch(bare(entry)))
            .map_err(|error| self.shared.record(error))
    }

    /// True when an earlier try completed this file: a regular file of this size and time. Files get their name last,
    /// so its content is likely right; the caller should still check it by [`TreeWriter::open_existing`].
    pub fn already_restored(&self, entry: &Entry) -> bool {
        let time = |stat: &rustix::fs::Stat| (i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec));
        let expected = (i128::from(entry.modified.secs), i128::from(entry.modified.nanos));
        let found = || -> Result<bool, Errno> {
            let Some((parent, name)) = self.shared.target.parent(&entry.path)? else {
                return Ok(false);
            };
            Ok(stat(&parent, name)?.is_some_and(|stat| {
                entry.kind == EntryKind::File
                    && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    && u64::try_from(stat.st_size) == Ok(entry.size)
                    && time(&stat) == expected
            }))
        };
        found().unwrap_or(false)
    }

    /// Opens a file of the target for reading, never through a link.
    pub fn open_existing(&self, path: &EntryPath) -> Result<std::fs::File, SinkError> {
        self.shared
            .target
            .file(path)
            .map_err(|errno| SinkError::system(path, "open it", errno))
    }

    /// Takes the next entry as done: it is a file that an earlier try completed. A further name of such a file is linked
    /// at the end when it is not yet.
    pub fn keep(&mut self, entry: &Entry) -> Result<(), SinkError> {
        self.keep_file(entry).map_err(|error| self.shared.record(error))
    }

    fn keep_file(&mut self, entry: &Entry) -> Result<(), SinkError> {
        self.admit(entry)?;
        self.order.leaf();
        match self.member(entry) {
            Member::Link(first) => {
                let link = Entry {
                    link_group: Some(first),
                    ..bare(entry)
                };
                return spooled(&entry.path, self.hard_link_spool.push(&self.shared.target, &link));
            }
            Member::First => self.groups.note(entry),
            Member::Separate => {}
        }
        let mut summary = self.shared.summary();
        summary.files += 1;
        summary.files_kept += 1;
        Ok(())
    }

    /// What to do with a file, as far as the target knows hard links.
    fn member(&self, entry: &Entry) -> Member {
        match self.hard_links {
            true => self.groups.member(entry),
            false if entry.link_group.as_ref().is_some_and(|group| *group != entry.path) => Member::Separate,
            false => Member::First,
        }
    }

    /// Checks that a path may follow the one before.
    fn admit(&mut self, entry: &Entry) -> Result<(), SinkError> {
        let path = &entry.path;
        let refused = |refusal| SinkError::refused(path, refusal);
        self.order.admit(path).map_err(refused)?;
        if path.components().any(is_reserved) {
            return Err(refused(Refusal::ReservedName));
        }
        Ok(())
    }

    fn dispatch(&mut self, entry: Entry) -> Result<Placed, SinkError> {
        if entry.kind == EntryKind::Directory {
            self.place_directory(entry)?;
            return Ok(Placed::Done);
        }
        self.order.leaf();
        match entry.kind {
            EntryKind::File => self.place_file(entry),
            EntryKind::Symlink => {
                let _ = self.parent_for(&entry)?;
                spooled(&entry.path, self.symlink_spool.push(&self.shared.target, &entry))?;
                Ok(Placed::Done)
            }
            EntryKind::Fifo | EntryKind::Socket | EntryKind::CharDevice | EntryKind::BlockDevice => {
                self.place_special(&entry)?;
                Ok(Placed::Done)
            }
            EntryKind::Directory => Ok(Placed::Done),
        }
    }

    fn place_directory(&mut self, entry: Entry) -> Result<(), SinkError> {
        if let Some(name) = entry.path.file_name() {
            let parent = self.parent_of(&entry.path)?;
            let made = make::directory(&self.shared, parent.as_fd(), name)
                .map_err(|errno| SinkError::system(&entry.path, "make the directory", errno))?;
            self.open = Some((entry.path.clone(), Arc::new(made)));
        }
        spooled(&entry.path, self.directory_spool.push(&self.shared.target, &entry))?;
        self.established = entry.path.clone();
        self.order.directory();
        self.shared.summary().directories += 1;
        Ok(())
    }

    fn place_file(&mut self, entry: Entry) -> Result<Placed, SinkError> {
        let (parent, name) = self.parent_for(&entry)?;
        match self.member(&entry) {
            Member::Link(first) => {
                // From here on the group names the file that really has the content.
                let link = Entry {
                    link_group: Some(first),
                    ..entry
                };
                spooled(&link.path, self.hard_link_spool.push(&self.shared.target, &link))?;
                return Ok(Placed::Done);
            }
            Member::Separate => self.shared.summary().hard_links_separated += 1,
            Member::First => {}
        }
        let writer = FileWriter::begin(&self.shared, &parent, &name, &entry)?;
        self.groups.note(&entry);
        Ok(Placed::Content(writer))
    }

    fn place_special(&mut self, entry: &Entry) -> Result<(), SinkError> {
        if self.special_nodes == SpecialNodes::Skip {
            self.shared.summary().specials_skipped += 1;
            return Ok(());
        }
        let (parent, name) = self.parent_for(entry)?;
        make::node(&self.shared, parent.as_fd(), &name, entry)?;
        self.shared.summary().specials += 1;
        Ok(())
    }

    /// The directory for an entry that is none itself, and its name, after a look at what bears that name now: early,
    /// so that no data is fetched in vain.
    fn parent_for(&mut self, entry: &Entry) -> Result<(Arc<OwnedFd>, Vec<u8>), SinkError> {
        let path = &entry.path;
        let Some(name) = path.file_name() else {
            return Err(SinkError::refused(path, Refusal::RootNotDirectory));
        };
        let parent = self.parent_of(path)?;
        let found = stat(&parent, name).map_err(|errno| SinkError::system(path, "look for it", errno))?;
        match (found, self.shared.existing) {
            (None, _) => {}
            (Some(_), Existing::Refuse) => return Err(SinkError::refused(path, Refusal::Occupied)),
            (Some(stat), Existing::Replace) => {
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    return Err(SinkError::refused(path, Refusal::DirectoryInTheWay));
                }
            }
        }
        Ok((parent, name.to_vec()))
    }

    /// The open directory that holds an entry. Directories that the manifest leaves out, as a partial restore does, are
    /// made on the way and stay private.
    fn parent_of(&mut self, path: &EntryPath) -> Result<Arc<OwnedFd>, SinkError> {
        let parent = path.parent().unwrap_or_default();
        if let Some((open, fd)) = &self.open
            && *open == parent
        {
            return Ok(Arc::clone(fd));
        }
        let refused = |errno| SinkError::system(path, "open its directory", errno);
        while !self.established.contains(&parent) {
            self.established = self.established.parent().unwrap_or_default();
        }
        let mut directory = self.shared.target.directory(&self.established).map_err(refused)?;
        let depth = self.established.components().count();
        for name in parent.components().skip(depth) {
            let here = self
                .established
                .join(name)
                .map_err(|bad| SinkError::refused(path, Refusal::Unlawful { rule: bad.to_string() }))?;
            directory = make::directory(&self.shared, directory.as_fd(), name).map_err(|errno| {
                self.order.refuse_directory(here.clone());
                SinkError::system(path, "make its directory", errno)
            })?;
            self.established = here;
        }
        let directory = Arc::new(directory);
        self.open = Some((parent, Arc::clone(&directory)));
        Ok(directory)
    }

    /// Makes links, finishes directories and writes everything to disk.
    pub fn finish(self) -> Result<SinkSummary, SinkError> {
        finish::finish(self)
    }

    #[cfg(test)]
    pub(super) fn pretend_folded_names(&mut self) {
        Arc::get_mut(&mut self.shared)
            .expect("nothing is being written yet")
            .folds_names = true;
    }

    #[cfg(test)]
    pub(super) fn resolve_step_by_step(&mut self) {
        let shared = Arc::get_mut(&mut self.shared).expect("nothing is being written yet");
        shared.target.set_resolver(super::beneath::Resolver::StepByStep);
    }
}

fn spooled(path: &EntryPath, pushed: Result<(), SpoolError>) -> Result<(), SinkError> {
    pushed.map_err(|error| match error {
        SpoolError::Entry(refusal) => SinkError::refused(path, refusal),
        SpoolError::System(errno) => match errno {
            Errno::NOSPC | Errno::DQUOT => SinkError::TargetFull {
                path: path.clone(),
                errno,
            },
            errno => SinkError::Target {
                doing: "note what is left to do in",
                errno,
            },
        },
    })
}
