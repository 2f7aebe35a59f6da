//! The order of entries as a guard: each path once, and nothing below what is no directory.
//!
//! In component-wise order a directory is followed at once by what it holds. So one path in memory suffices to know
//! that nothing stands below a file, a link or something refused; that is what keeps a hostile manifest from writing
//! "through" a link that it brought along itself, here or when someone unpacks our tar.

use exclave_model::EntryPath;

use super::problem::Refusal;

/// The place in the order, and what must not have children there.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: Option<EntryPath>,
    barrier: Option<Barrier>,
}

#[derive(Debug)]
struct Barrier {
    path: EntryPath,
    refused: bool,
}

impl Order {
    /// Lets a path follow the one before, or says why not. Until [`Order::directory`] or [`Order::leaf`] says what it
    /// is, it counts as refused.
    pub(super) fn admit(&mut self, path: &EntryPath) -> Result<(), Refusal> {
        if let Some(last) = &self.last {
            if path == last {
                return Err(Refusal::Duplicate);
            }
            if path < last {
                return Err(Refusal::OutOfOrder { after: last.clone() });
            }
        }
        self.last = Some(path.clone());
        if let Some(barrier) = self.barrier.as_ref().filter(|barrier| barrier.path.contains(path)) {
            let at = barrier.path.clone();
            return Err(match barrier.refused {
                true => Refusal::BelowRefused { directory: at },
                false => Refusal::BelowFile { above: at },
            });
        }
        self.bar(path.clone(), true);
        Ok(())
    }

    /// The path admitted last is a directory: things may stand below it.
    pub(super) fn directory(&mut self) {
        self.barrier = None;
    }

    /// The path admitted last is anything else: nothing may stand below it.
    pub(super) fn leaf(&mut self) {
        if let Some(barrier) = &mut self.barrier {
            barrier.refused = false;
        }
    }

    /// Nothing may stand below this directory, which could not be made.
    pub(super) fn refuse_directory(&mut self, path: EntryPath) {
        self.bar(path, true);
    }

    fn bar(&mut self, path: EntryPath, refused: bool) {
        self.barrier = Some(Barrier { path, refused });
    }
}
