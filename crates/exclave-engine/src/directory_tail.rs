//! A stripe's directory from the end of its plaintext alone.
//!
//! The directory stands last, its length in the last four bytes (FORMAT.md section 4), so a segment or a few of them say
//! which chunks a stripe holds. What a reader of the whole plaintext checks besides, that the bytes between the last chunk
//! and the directory are zero, can't be seen from here: a restore checks it.

use std::collections::BTreeSet;

use exclave_model::{
    ChunkRef, Directory, RunId,
    directory::{ENTRY_BYTES, LENGTH_BYTES},
    limit::{SEGMENT_PLAIN_BYTES, STRIPE_BYTES_MAX},
};

use crate::fetch::ranges::{Segments, stored};

/// Reads a directory and its length, as a stripe ends with them: not a byte more.
pub(crate) fn read(tail: &[u8]) -> Option<Directory> {
    let (table, length) = tail.split_last_chunk::<LENGTH_BYTES>()?;
    let (entries, rest) = table.as_chunks::<ENTRY_BYTES>();
    if u32::from_be_bytes(*length) as usize != table.len() || !rest.is_empty() {
        return None;
    }
    let last = entries.last()?;
    let number = |at: usize| u32::from_be_bytes([last[at], last[at + 1], last[at + 2], last[at + 3]]) as usize;
    let end = number(4)
        .checked_add(number(8))
        .filter(|end| *end <= STRIPE_BYTES_MAX)?;
    // Zeros in the chunks' place, so that one reader serves both. They are never touched, so they take no memory.
    let mut plain = vec![0; end + tail.len()];
    plain.get_mut(end..)?.copy_from_slice(tail);
    Directory::read(&plain).ok()
}

/// Reads the directory of a stripe of `segments` segments, asking `fetch` for as few of them as it takes: the last one,
/// then those before it that the directory reaches into. `None` when `fetch` gives up or what it gives is no directory.
pub(crate) fn collect(segments: usize, mut fetch: impl FnMut(&BTreeSet<u32>) -> Option<Segments>) -> Option<Directory> {
    let plain_bytes = segments.checked_mul(SEGMENT_PLAIN_BYTES)?;
    let last = u32::try_from(segments.checked_sub(1)?).ok()?;
    let mut found = fetch(&BTreeSet::from([last]))?;
    let length = found.get(&last)?.last_chunk::<LENGTH_BYTES>()?;
    let bytes = (u32::from_be_bytes(*length) as usize).checked_add(LENGTH_BYTES)?;
    let start = plain_bytes.checked_sub(bytes)?;
    let before: BTreeSet<u32> = (u32::try_from(start / SEGMENT_PLAIN_BYTES).ok()?..last).collect();
    if !before.is_empty() {
        found.extend(fetch(&before)?);
    }
    let tail = stored(&found, u32::try_from(start).ok()?, u32::try_from(bytes).ok()?)?;
    read(&tail).filter(|directory| directory.bytes_needed() <= plain_bytes)
}

/// Where the chunks of a stripe lie.
pub(crate) fn chunk_refs(run: RunId, ordinal: u32, directory: &Directory) -> Vec<ChunkRef> {
    let entries = directory.entries().iter();
    entries
        .map(|entry| ChunkRef {
            run,
            ordinal,
            offset: entry.offset,
            stored: entry.stored,
            raw: entry.raw,
            codec: entry.codec,
            id: entry.id,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use exclave_model::{ChunkId, ChunkKind, Codec};
    use zeroize::Zeroizing;

    use super::*;

    /// A directory of `chunks` chunks of seven bytes, and the plaintext of a stripe of `segments` segments with it.
    fn stripe(segments: usize, chunks: usize) -> (Directory, Vec<u8>) {
        let mut directory = Directory::default();
        for number in 0..chunks {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            directory.push(ChunkKind::Data, Codec::Raw, 7, 7, ChunkId::from_bytes(id));
        }
        let mut plain = vec![0; segments * SEGMENT_PLAIN_BYTES];
        let tail = directory.to_bytes();
        let at = plain.len() - tail.len();
        plain[..directory.end()].fill(9);
        plain[at..].copy_from_slice(&tail);
        (directory, plain)
    }

    fn segments_of(plain: &[u8], wanted: &BTreeSet<u32>) -> Segments {
        let segment = |number: &u32| {
            let start = *number as usize * SEGMENT_PLAIN_BYTES;
            (
                *number,
                Zeroizing::new(plain[start..start + SEGMENT_PLAIN_BYTES].to_vec()),
            )
        };
        wanted.iter().map(segment).collect()
    }

    #[test]
    fn only_the_segments_that_hold_the_directory_are_asked_for() {
        // 65,520 bytes hold 1,364 entries and the length; one more begins in the segment before.
        let expected: [(usize, &[&[u32]]); 4] = [
            (1, &[&[9]]),
            (1_364, &[&[9]]),
            (1_365, &[&[9], &[8]]),
            (3_000, &[&[9], &[7, 8]]),
        ];
        for (chunks, asked) in expected {
            let (directory, plain) = stripe(10, chunks);
            let mut seen = Vec::new();
            let read = collect(10, |wanted| {
                seen.push(wanted.iter().copied().collect::<Vec<_>>());
                Some(segments_of(&plain, wanted))
            });
            assert_eq!(read, Some(directory), "{chunks} chunks");
            assert_eq!(seen, asked, "{chunks} chunks");
        }
    }

    #[test]
    fn what_is_no_directory_is_none() {
        let (_, plain) = stripe(3, 2_000);
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut plain = plain.clone();
            change(&mut plain);
            collect(3, |wanted| Some(segments_of(&plain, wanted)))
        };
        assert!(with(&|_| {}).is_some());
        let end = plain.len();
        // A length that is odd, longer than the stripe, or nothing; an entry that does not follow the one before.
        assert_eq!(with(&|plain| plain[end - 1] ^= 1), None);
        assert_eq!(with(&|plain| plain[end - 4..].fill(0xff)), None);
        assert_eq!(with(&|plain| plain[end - 4..].fill(0)), None);
        assert_eq!(with(&|plain| plain[end - 4 - ENTRY_BYTES * 900 + 7] ^= 1), None);
        // Fetching fails at either step, or gives another segment.
        assert_eq!(collect(3, |_| None), None);
        assert_eq!(
            collect(3, |wanted| wanted.contains(&2).then(|| segments_of(&plain, wanted))),
            None
        );
        assert_eq!(collect(3, |_| Some(segments_of(&plain, &BTreeSet::from([0])))), None);
        assert_eq!(collect(0, |wanted| Some(segments_of(&plain, wanted))), None);
    }

    #[test]
    fn a_directory_whose_chunks_would_reach_into_it_is_none() {
        // As many chunks of seven bytes as fit one segment without their directory.
        let (directory, _) = stripe(40, 2_000);
        let tail = directory.to_bytes();
        let mut plain = vec![0; 2 * SEGMENT_PLAIN_BYTES];
        let at = plain.len() - tail.len();
        plain[at..].copy_from_slice(&tail);
        assert!(collect(2, |wanted| Some(segments_of(&plain, wanted))).is_some());
        let (directory, _) = stripe(40, 2_400);
        let tail = directory.to_bytes();
        let at = plain.len() - tail.len();
        plain[at..].copy_from_slice(&tail);
        assert_eq!(collect(2, |wanted| Some(segments_of(&plain, wanted))), None);
    }

    #[test]
    fn a_journalled_tail_is_read_without_its_stripe() {
        let (directory, _) = stripe(1, 3);
        let tail = directory.to_bytes();
        assert_eq!(read(&tail), Some(directory));
        assert_eq!(read(&tail[1..]), None);
        assert_eq!(read(&[&[0; ENTRY_BYTES][..], &tail].concat()), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0; LENGTH_BYTES]), None);
    }
}
