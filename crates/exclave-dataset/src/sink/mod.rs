//! The home edge, inwards: writes what was restored, and nothing else.
//!
//! Three sinks take the entries of a manifest in order:
//!
//! * [`TreeWriter`] restores files, directories and links beneath a target directory,
//! * [`TarWriter`] writes them as one POSIX.1-2001 (pax) stream,
//! * [`RawWriter`] writes the bytes of a single file.
//!
//! [`Comparer`] holds an existing tree against a manifest.
//!
//! A manifest may come from a writer that was taken over, and other programs may change the target while we write to
//! it. So a sink believes no path: the law of [`EntryPath`](exclave_model::EntryPath) keeps it from climbing,
//! `beneath` keeps the kernel from following links, and a file gets its name only once it is complete. What can't be
//! restored safely is a [`Problem`] of one entry; the rest goes on.
//!
//! ```
//! use exclave_dataset::sink::{Options, Placed, TreeWriter};
//! use exclave_model::{Entry, EntryKind, EntryPath};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let mut file = Entry::new(EntryPath::parse(b"land/register")?, EntryKind::File);
//! file.size = 7;
//!
//! let mut tree = TreeWriter::create(&folder.path().join("restored"), Options::default())?;
//! if let Placed::Content(writer) = tree.place(&file)? {
//!     writer.write_at(4, b"two")?; // any thread, any order
//!     writer.write_at(0, b"one ")?;
//!     writer.commit()?; // complete and checked: now it gets its name
//! }
//! assert_eq!(tree.finish()?.files, 1);
//! # Ok(())
//! # }
//! ```
//!
//! Linux only: `openat2`, `syncfs` and `O_TMPFILE` have no equal elsewhere.

mod beneath;
mod compare;
mod expand;
mod file;
mod links;
mod metadata;
mod options;
mod order;
mod pax;
mod problem;
mod raw;
mod shared;
mod spool;
mod tar;
mod tree;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use self::{
    compare::{Comparer, Difference},
    expand::ExpandError,
    file::FileWriter,
    options::{Existing, Options, Owners, SpecialModes, SpecialNodes, Xattrs},
    problem::{Problem, Refusal, SinkError},
    raw::RawWriter,
    shared::SinkSummary,
    tar::{TarError, TarSummary, TarWriter},
    tree::{Placed, TreeWriter},
};
