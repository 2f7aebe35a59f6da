//! Finds what a directory tree holds, in the order of the manifest.
//!
//! # Contract
//!
//! * Entries come in component-wise byte order, the root first, each path once. Names are bytes, never text.
//! * Everything is reached through directory descriptors, one component at a time, and no link is followed but the root
//!   itself: a tree that changes under the walk can lead to a finding, never out of the tree.
//! * The walk never ends early. What can't be seen is a [`Finding`] between the entries; a directory that can't be
//!   opened is still an entry, followed by its finding.
//! * Metadata of a directory is read from its descriptor. A file's is read by name and again when the file is opened
//!   (see [`source`](crate::source)), since it may change in between.
//!
//! # Memory
//!
//! The names of the directories between the root and the present entry are held and sorted: together at most
//! [`WalkOptions::names_bytes_max`]. Paths are capped at 4,096 bytes, so there are at most 2,048 such directories.
//! Groups of hard links that are not complete take at most 256 MiB. Descriptors: some 64, see the `directory` module.

pub(crate) mod attributes;
pub(crate) mod directory;
mod exclude;
mod finding;
mod join;
mod links;
mod list;
mod names;
mod owners;
mod single;
mod stat;

use std::{collections::VecDeque, ffi::CString, io, ops::Range, os::fd::AsFd, path::Path, sync::Arc};

use exclave_model::{Entry, EntryKind, EntryPath};
use rustix::{
    fs::{OFlags, Statx},
    io::Errno,
};

pub(crate) use self::stat::kind_of;
use self::{
    attributes::Attributes,
    directory::Directory,
    links::{LinkGroups, LinksFull},
    list::Selection,
    names::Names,
    owners::Owners,
    stat::join_device,
};
pub use self::{
    directory::{OpenError, Opener},
    exclude::{BadRule, ExcludeRules},
    finding::{Counts, Finding, FindingClass, Refusal},
    join::{AtPath, Join, Joined, join},
    links::LinkRole,
    list::{BadFileList, FileList, LIST_BYTES_MAX, ListedDirectory},
    single::{BadFile, find_file},
    stat::{FileStat, SETTLED_SECS, unchanged},
};

/// What a walk does where another file system is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPoints {
    /// Goes on into it.
    Enter,
    /// Keeps the directory, and a finding that nothing below it was looked at. Subvolumes of btrfs count as mounted.
    StayOut,
}

/// What a walk does with directories that carry a CACHEDIR.TAG (bford.info/cachedir).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caches {
    /// Nothing special.
    Include,
    /// Keeps the directory and its tag, leaves out what else it holds.
    Exclude,
}

/// What to find.
#[derive(Debug, Clone)]
pub struct WalkOptions {
    /// Rules for what is left out.
    pub exclude: ExcludeRules,
    /// Only these paths, when given.
    pub list: Option<FileList>,
    /// Other file systems below the root.
    pub mount_points: MountPoints,
    /// Directories marked as caches.
    pub caches: Caches,
    /// Most bytes of names held at a time.
    pub names_bytes_max: usize,
}

impl Default for WalkOptions {
    /// Everything below the root, other file systems included; 1 GiB of names, enough for some forty million files in
    /// one directory.
    fn default() -> Self {
        Self {
            exclude: ExcludeRules::none(),
            list: None,
            mount_points: MountPoints::Enter,
            caches: Caches::Include,
            names_bytes_max: 1 << 30,
        }
    }
}

/// An entry of the tree; its content is yet to be read.
#[derive(Clone)]
pub struct Found {
    /// The entry, without content.
    pub entry: Entry,
    /// What tells this state of it from another.
    pub stat: FileStat,
    /// Its place among the names of one file.
    pub link: LinkRole,
    /// Opens a regular file; `None` for everything else.
    pub opener: Option<Opener>,
}

impl AtPath for Found {
    fn path(&self) -> &EntryPath {
        &self.entry.path
    }
}

/// One step of a walk.
pub enum Walked {
    /// An entry.
    Found(Box<Found>),
    /// Something that is no entry, or not quite.
    Finding(Finding),
}

/// The root can't be walked.
#[derive(Debug, thiserror::Error)]
#[error("the root {} can't be opened as a directory", path.display())]
pub struct BadRoot {
    path: std::path::PathBuf,
    #[source]
    source: io::Error,
}

/// Walks one tree; see the module's contract.
pub struct Walk {
    options: WalkOptions,
    root_device: u64,
    stack: Vec<Frame>,
    names_bytes: usize,
    pending: VecDeque<Walked>,
    counts: Counts,
    owners: Owners,
    links: LinkGroups,
}

/// A directory that is being walked.
struct Frame {
    directory: Arc<Directory>,
    path: EntryPath,
    names: Names,
    listed: Option<Range<usize>>,
}

impl Walk {
    /// Opens the root; a link there is followed.
    pub fn new(root: &Path, options: WalkOptions) -> Result<Self, BadRoot> {
        let bad_root = |errno: Errno| BadRoot {
            path: root.to_owned(),
            source: errno.into(),
        };
        let descriptor = directory::open_given(root, OFlags::DIRECTORY).map_err(bad_root)?;
        let statx = directory::stat_descriptor(descriptor.as_fd()).map_err(bad_root)?;
        let directory = Directory::root(descriptor).map_err(bad_root)?;
        let selection = options
            .list
            .as_ref()
            .map_or(Selection::Everything, FileList::select_root);
        let mut walk = Self {
            options,
            root_device: join_device(statx.stx_dev_major, statx.stx_dev_minor),
            stack: Vec::new(),
            names_bytes: 0,
            pending: VecDeque::new(),
            counts: Counts::default(),
            owners: Owners::new(),
            links: LinkGroups::default(),
        };
        walk.enter(directory, EntryPath::root(), &statx, selection);
        Ok(walk)
    }

    /// What was met so far; complete once the walk has ended.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Iterator for Walk {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        loop {
            if let Some(walked) = self.pending.pop_front() {
                return Some(walked);
            }
            let frame = self.stack.last_mut()?;
            let Some(name) = frame.names.next() else {
                self.names_bytes -= frame.names.weight();
                self.stack.pop();
                continue;
            };
            let name = name.to_vec();
            let place = Place {
                directory: Arc::clone(&frame.directory),
                parent: frame.path.clone(),
                listed: frame.listed.clone(),
            };
            self.visit(&place, name);
        }
    }
}

/// Where a name was read.
struct Place {
    directory: Arc<Directory>,
    parent: EntryPath,
    listed: Option<Range<usize>>,
}

impl Walk {
    fn visit(&mut self, place: &Place, name: Vec<u8>) {
        let path = match place.parent.join(&name) {
            Ok(path) => path,
            Err(bad) => {
                let directory = place.parent.clone();
                return self.report(Finding::PathUnlawful { directory, name, bad });
            }
        };
        // `join` has refused NUL bytes, so this can't fail.
        let Ok(name) = CString::new(name) else { return };
        if let Err(errno) = self.look(place, path.clone(), name) {
            self.report(Finding::of_errno(path, errno));
        }
    }

    fn look(&mut self, place: &Place, path: EntryPath, name: CString) -> Result<(), Errno> {
        let descriptor = place.directory.descriptor()?;
        let statx = directory::stat_name(descriptor.as_fd(), &name)?;
        let Some(kind) = kind_of(&statx) else {
            let mode = u32::from(statx.stx_mode);
            self.report(Finding::UnknownType { path, mode });
            return Ok(());
        };
        if self.options.exclude.exclude(&path, kind == EntryKind::Directory) {
            self.counts.excluded += 1;
            return Ok(());
        }
        if kind == EntryKind::Directory {
            return self.look_at_directory(place, path, name, &statx);
        }
        let mut entry = Entry::new(path.clone(), kind);
        match kind {
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(&descriptor, &name, Vec::new())?;
                entry.link_target = Some(target.into_bytes());
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                entry.device = Some(join_device(statx.stx_rdev_major, statx.stx_rdev_minor));
            }
            EntryKind::File | EntryKind::Directory | EntryKind::Fifo | EntryKind::Socket => {}
        }
        let attributes = attributes::of_name(descriptor.as_fd(), name.as_bytes());
        let opener =
            (kind == EntryKind::File).then(|| Opener::new(Arc::clone(&place.directory), name, FileStat::of(&statx)));
        self.found(entry, &statx, attributes, opener);
        self.report_listed_below(place, path);
        Ok(())
    }

    fn look_at_directory(&mut self, place: &Place, path: EntryPath, name: CString, statx: &Statx) -> Result<(), Errno> {
        let stays_out = self.options.mount_points == MountPoints::StayOut;
        let elsewhere =
            |statx: &Statx| stays_out && join_device(statx.stx_dev_major, statx.stx_dev_minor) != self.root_device;
        let refused = if elsewhere(statx) {
            Finding::OtherFileSystem { path: path.clone() }
        } else {
            match place.directory.child(name.clone()) {
                // Opening may have mounted something.
                Ok((_, statx)) if elsewhere(&statx) => Finding::OtherFileSystem { path: path.clone() },
                Ok((directory, statx)) => {
                    let selection = match (&place.listed, &self.options.list) {
                        (Some(range), Some(list)) => list.select_below(range, &path),
                        _ => Selection::Everything,
                    };
                    self.enter(directory, path, &statx, selection);
                    return Ok(());
                }
                Err(errno @ (Errno::NOENT | Errno::STALE | Errno::NOTDIR | Errno::LOOP)) => return Err(errno),
                Err(errno) => Finding::of_errno(path.clone(), errno),
            }
        };
        let descriptor = place.directory.descriptor()?;
        let attributes = attributes::of_name(descriptor.as_fd(), name.as_bytes());
        self.found(Entry::new(path, EntryKind::Directory), statx, attributes, None);
        self.report(refused);
        Ok(())
    }

    fn report_listed_below(&mut self, place: &Place, path: EntryPath) {
        if let (Some(range), Some(list)) = (&place.listed, &self.options.list) {
            let listed = list.count_below(range, &path);
            if listed > 0 {
                self.report(Finding::NotADirectory { path, listed });
            }
        }
    }

    /// Hands on an open directory and makes it the place to go on from.
    fn enter(&mut self, directory: Arc<Directory>, path: EntryPath, statx: &Statx, selection: Selection) {
        let attributes = match directory.descriptor() {
            Ok(descriptor) => attributes::of_descriptor(descriptor.as_fd()),
            Err(errno) => Err(errno.into()),
        };
        self.found(Entry::new(path.clone(), EntryKind::Directory), statx, attributes, None);
        match self.read_names(&directory, &path, &selection) {
            Ok(Some(names)) => {
                self.names_bytes += names.weight();
                self.stack.push(Frame {
                    directory,
                    path,
                    names,
                    listed: match selection {
                        Selection::Everything => None,
                        Selection::Listed(range) => Some(range),
                    },
                });
            }
            Ok(None) => self.report(Finding::DirectoryTooLarge {
                path,
                names_bytes_max: self.options.names_bytes_max,
            }),
            Err(errno) => self.report(Finding::of_errno(path, errno)),
        }
    }

    /// The names to visit in a directory, sorted; `Ok(None)` when they don't fit.
    fn read_names(
        &mut self,
        directory: &Arc<Directory>,
        path: &EntryPath,
        selection: &Selection,
    ) -> Result<Option<Names>, Errno> {
        let bytes_max = self.options.names_bytes_max.saturating_sub(self.names_bytes);
        let names = match (selection, &self.options.list) {
            (Selection::Listed(range), Some(list)) => {
                let mut names = Names::default();
                let depth = path.components().count();
                let fits = list
                    .components(range, depth)
                    .all(|component| names.push(component, bytes_max));
                fits.then_some(names)
            }
            _ => directory.names(bytes_max)?,
        };
        let Some(mut names) = names else { return Ok(None) };
        names.sort();
        if self.options.caches == Caches::Exclude && names.contains(CACHE_TAG_NAME) && is_cache_tag(directory) {
            let path = path.clone();
            let names = names.keep_only(CACHE_TAG_NAME);
            self.report(Finding::Cache { path, names });
        }
        Ok(Some(names))
    }

    /// Completes an entry and hands it on.
    fn found(
        &mut self,
        mut entry: Entry,
        statx: &Statx,
        attributes: Result<Attributes, io::Error>,
        opener: Option<Opener>,
    ) {
        let stat = FileStat::of(statx);
        entry.mode = u32::from(statx.stx_mode) & 0o7777;
        entry.uid = statx.stx_uid;
        entry.gid = statx.stx_gid;
        entry.modified = stat.modified;
        entry.owner_name = self.owners.user(entry.uid);
        entry.group_name = self.owners.group(entry.gid);
        let mut notes = Vec::new();
        let path = || entry.path.clone();
        match attributes {
            Ok(attributes) => {
                if attributes.left_out > 0 {
                    let left_out = attributes.left_out;
                    notes.push(Finding::AttributesTooLarge { path: path(), left_out });
                }
                entry.xattrs = attributes.pairs;
            }
            Err(error) => {
                let refusal = Refusal::from(&error);
                notes.push(Finding::AttributesUnread { path: path(), refusal });
            }
        }
        let mut link = LinkRole::Single;
        match entry.kind {
            EntryKind::File => {
                entry.size = stat.size;
                self.counts.files += 1;
                self.counts.bytes = self.counts.bytes.saturating_add(stat.size);
                match self.links.place(&stat, &entry.path) {
                    Ok(place) => (link, entry.link_group) = place,
                    Err(LinksFull) => notes.push(Finding::LinksUntracked {
                        path: entry.path.clone(),
                    }),
                }
            }
            EntryKind::Directory => self.counts.directories += 1,
            EntryKind::Symlink
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharDevice
            | EntryKind::BlockDevice => self.counts.others += 1,
        }
        self.pending.push_back(Walked::Found(Box::new(Found {
            entry,
            stat,
            link,
            opener,
        })));
        notes.into_iter().for_each(|note| self.report(note));
    }

    fn report(&mut self, finding: Finding) {
        match finding.class() {
            FindingClass::Skipped => self.counts.skipped += finding.entries(),
            FindingClass::Excluded => self.counts.excluded += finding.entries(),
            FindingClass::Changed | FindingClass::Noted => {}
        }
        self.pending.push_back(Walked::Finding(finding));
    }
}

/// Name and first bytes of a cache's tag (bford.info/cachedir).
const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";
const CACHE_TAG: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

fn is_cache_tag(directory: &Arc<Directory>) -> bool {
    let read = || -> io::Result<bool> {
        let tag = directory::open_file(directory.descriptor()?.as_fd(), c"CACHEDIR.TAG")?;
        let mut found = [0; CACHE_TAG.len()];
        io::Read::read_exact(&mut std::fs::File::from(tag), &mut found)?;
        Ok(found == *CACHE_TAG)
    };
    // No tag, or none that can be read: no cache.
    read().unwrap_or(false)
}

#[cfg(test)]
mod tests;
