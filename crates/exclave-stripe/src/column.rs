//! A column: one block of 64 KiB of each of some payloads. Listing its blocks allocates nothing.

use std::array;

use exclave_model::limit::{SEGMENT_BYTES, SHARDS_PER_STRIPE_MAX};

/// Block `column` of each payload, of which there are at most 32; the places behind them are empty.
pub(crate) fn blocks<'a>(
    mut payloads: impl Iterator<Item = &'a [u8]>,
    column: usize,
) -> [&'a [u8]; SHARDS_PER_STRIPE_MAX] {
    let at = column * SEGMENT_BYTES;
    array::from_fn(|_| match payloads.next() {
        Some(payload) => &payload[at..][..SEGMENT_BYTES],
        None => &[],
    })
}

/// The same, to be written.
pub(crate) fn blocks_mut<'a>(
    mut payloads: impl Iterator<Item = &'a mut [u8]>,
    column: usize,
) -> [&'a mut [u8]; SHARDS_PER_STRIPE_MAX] {
    let at = column * SEGMENT_BYTES;
    array::from_fn(|_| match payloads.next() {
        Some(payload) => &mut payload[at..][..SEGMENT_BYTES],
        None => &mut [],
    })
}
