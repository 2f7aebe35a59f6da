//! Whether an earlier try has restored a file already: its size and time say so, and its content must agree.

use std::{fs::File, os::unix::fs::FileExt};

use exclave_dataset::{page::ExtentReader, sink::TreeWriter};
use exclave_model::{ChunkRef, Entry, EntryKind};

use super::chunks::ChunkReader;

/// Bytes of a hole that are compared at once.
const HOLE_STEP_BYTES: usize = 64 << 10;

/// True when the target holds this file with the snapshot's content: every chunk has its id, every hole is zeros. Nothing
/// is fetched but the list of chunks, when it is a long one.
pub(super) fn is_restored(reader: &mut ChunkReader<'_>, writer: &TreeWriter, entry: &Entry) -> bool {
    if entry.kind != EntryKind::File || !writer.already_restored(entry) {
        return false;
    }
    let Ok(file) = writer.open_existing(&entry.path) else {
        return false;
    };
    has_content(reader, &file, entry).unwrap_or(false)
}

/// `None` when the list of chunks or the file can't be read.
fn has_content(reader: &mut ChunkReader<'_>, file: &File, entry: &Entry) -> Option<bool> {
    let (mut extents, mut end, mut buffer) = (ExtentReader::new(entry), 0, Vec::new());
    while let Some(extent) = extents.next_extent(&mut |page: &ChunkRef| reader.page(page)).ok()? {
        if !is_hole(file, end, extent.offset)? {
            return Some(false);
        }
        let mut offset = extent.offset;
        for chunk in &extent.refs {
            // A reference's raw length is capped where pages are decoded.
            buffer.resize(chunk.raw as usize, 0);
            file.read_exact_at(&mut buffer, offset).ok()?;
            if reader.hasher.id(&buffer) != chunk.id {
                return Some(false);
            }
            offset = offset.checked_add(u64::from(chunk.raw))?;
        }
        end = offset;
    }
    is_hole(file, end, entry.size)
}

fn is_hole(file: &File, mut from: u64, to: u64) -> Option<bool> {
    let mut buffer = vec![0; HOLE_STEP_BYTES];
    while from < to {
        let step = usize::try_from(to - from).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..step)?;
        file.read_exact_at(part, from).ok()?;
        if part.iter().any(|byte| *byte != 0) {
            return Some(false);
        }
        from += step as u64;
    }
    Some(true)
}
