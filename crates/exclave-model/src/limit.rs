//! Limits and sizes of the format, each with its reason. Settings may lower a cap, never raise it.

/// Most shards in one stripe, data and parity together.
///
/// GF(2^8) has room for 255; 32 sites are more than any alliance in the exercise had, and keep decode matrices small.
pub const SHARDS_PER_STRIPE_MAX: usize = 32;

/// Bytes of one sealed segment, tag included. One group of a shard is one segment, so that one ranged read can be
/// proven by one chaining value and opened by one AEAD call.
pub const SEGMENT_BYTES: usize = 64 * 1024;

/// Bytes of the AES-GCM tag that ends a segment (SP 800-38D, never truncated).
pub const TAG_BYTES: usize = 16;

/// Plaintext bytes in one segment.
pub const SEGMENT_PLAIN_BYTES: usize = SEGMENT_BYTES - TAG_BYTES;

/// Most sealed bytes of one stripe: a shard of a very large dataset may weigh 1 GiB / k.
pub const STRIPE_BYTES_MAX: usize = 1 << 30;

/// Payload bytes of one shard unless a class says otherwise: large enough that a request's latency is paid rarely,
/// small enough that a few stripes fit the in-flight budget of 256 MiB.
pub const PAYLOAD_BYTES_DEFAULT: usize = 8 << 20;

/// Longest record that is read whole from a site, signatures included, unless the record's own cap is lower.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Longest head, signatures included; long lists lie in companions named by hash.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// Longest envelope, signatures included: 32 stanzas of 1.2 KiB.
pub const ENVELOPE_BYTES_MAX: usize = 48 << 10;

/// Longest manifest page, so that a reader needs bounded memory for any number of files.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

/// Most levels of manifest index pages: 4 MiB pages of 100-byte entries reach 10^8 files in three.
pub const PAGE_DEPTH_MAX: usize = 8;

/// Most recipients of one envelope.
pub const STANZAS_MAX: usize = 32;

/// Most tips of other chains that one head names.
pub const TIPS_MAX: usize = 64;

/// Most runs that one head refers to.
pub const RUNS_PER_HEAD_MAX: usize = 4096;

/// Runs described by one page of a head's run table.
pub const RUNS_PER_PAGE: usize = 256;

/// Most stripes described by one part of a ledger.
pub const STRIPES_PER_LEDGER_PART: usize = 4096;

/// Longest name of one file or directory, as on Linux.
pub const PATH_COMPONENT_BYTES_MAX: usize = 255;

/// Longest path below the root of a dataset, as on Linux.
pub const PATH_BYTES_MAX: usize = 4096;

/// Greatest size of one file: offsets are signed 64-bit numbers to the operating system.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// Longest chunk, raw: the cutter's greatest piece, and the bound of one decompression.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

/// zstd window that a reader accepts: 2^23 = 8 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Greatest total of the extended attributes of one file.
pub const XATTR_BYTES_MAX: usize = 64 << 10;

/// Entries of one prefix that a reader lists before it refuses the store.
pub const LIST_ENTRIES_MAX: usize = 100_000_000;

const _: () = assert!(STRIPE_BYTES_MAX.is_multiple_of(SEGMENT_BYTES));
const _: () = assert!(PAYLOAD_BYTES_DEFAULT.is_multiple_of(SEGMENT_BYTES));
const _: () = assert!(SHARDS_PER_STRIPE_MAX < 255);
