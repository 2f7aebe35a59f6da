//! Headers of a pax stream (POSIX.1-2017, pax utility, "pax Interchange Format").
//!
//! Every entry is a ustar header. What does not fit there (long or non-ASCII names, nanoseconds, times before 1970, large
//! numbers, extended attributes) stands in records `length key=value\n` before it, where `length` counts itself.
//! Names that are not UTF-8 are announced by `hdrcharset=BINARY`.

use exclave_model::Entry;
use tar::{EntryType, Header};

/// Longest name in a ustar header.
const NAME_BYTES_MAX: usize = 100;

/// Greatest owner's number in seven octal digits.
const OWNER_MAX: u32 = 0o7_777_777;

/// Greatest size in eleven octal digits: 8 GiB - 1.
const SIZE_MAX: u64 = 0o77_777_777_777;

/// Bytes of a header, and what everything is padded to.
pub(super) const BLOCK_BYTES: u64 = 512;

/// The records of one entry.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<u8>);

impl Records {
    /// Adds a record.
    pub(super) fn push(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3; // blank, equals sign, line feed
        let mut length = rest;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// The header of these records and their bytes, unpadded; `None` when there are none.
    pub(super) fn into_block(self) -> Option<(Header, Vec<u8>)> {
        if self.0.is_empty() {
            return None;
        }
        let mut header = Header::new_ustar();
        put_name(&mut header.as_old_mut().name, b"pax-header");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.0.len() as u64);
        header.set_cksum();
        Some((header, self.0))
    }
}

/// One entry's header and records. `name` ends with a slash for directories; `link` is a link's target.
pub(super) fn describe(
    entry: &Entry,
    kind: EntryType,
    name: &[u8],
    link: Option<&[u8]>,
    size: u64,
) -> (Header, Records) {
    let mut header = Header::new_ustar();
    let mut records = Records::default();
    let names = [
        Some(name),
        link,
        entry.owner_name.as_deref(),
        entry.group_name.as_deref(),
    ];
    if names.iter().flatten().any(|name| std::str::from_utf8(name).is_err()) {
        records.push("hdrcharset", b"BINARY");
    }
    if !put_name(&mut header.as_old_mut().name, name) {
        records.push("path", name);
    }
    if let Some(link) = link
        && !put_name(&mut header.as_old_mut().linkname, link)
    {
        records.push("linkpath", link);
    }
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    number(&mut records, "uid", entry.uid, |uid| header.set_uid(uid));
    number(&mut records, "gid", entry.gid, |gid| header.set_gid(gid));
    if size > SIZE_MAX {
        records.push("size", size.to_string().as_bytes());
    }
    header.set_size(size.min(SIZE_MAX));
    let secs = entry.modified.secs;
    let fits = u64::try_from(secs).ok().filter(|secs| *secs <= SIZE_MAX);
    if fits.is_none() || entry.modified.nanos != 0 {
        records.push("mtime", decimal(secs, entry.modified.nanos).as_bytes());
    }
    header.set_mtime(fits.unwrap_or(0));
    if let Some(ustar) = header.as_ustar_mut() {
        let owner = entry.owner_name.as_deref().unwrap_or_default();
        let group = entry.group_name.as_deref().unwrap_or_default();
        for (key, field, name) in [("uname", &mut ustar.uname, owner), ("gname", &mut ustar.gname, group)] {
            if !put_name(field, name) && !name.contains(&0) {
                records.push(key, name);
            }
        }
    }
    (header, records)
}

fn number(records: &mut Records, key: &str, value: u32, set: impl FnOnce(u64)) {
    if value > OWNER_MAX {
        records.push(key, value.to_string().as_bytes());
    }
    set(u64::from(value.min(OWNER_MAX)));
}

/// Fills a field of the header; false when only a record can hold the name. The field then has its beginning, for
/// programs that know no records.
fn put_name<const N: usize>(field: &mut [u8; N], name: &[u8]) -> bool {
    // A field may be full, but some readers want the NUL in the shorter ones.
    let room = if N == NAME_BYTES_MAX { N } else { N - 1 };
    for (to, from) in field.iter_mut().take(room).zip(name) {
        *to = if from.is_ascii() { *from } else { b'_' };
    }
    name.len() <= room && name.is_ascii() && !name.contains(&0)
}

/// Seconds with a fraction, without trailing zeros: what a point in time before 1970 looks like is the sum of both.
fn decimal(secs: i64, nanos: u32) -> String {
    let total = i128::from(secs) * 1_000_000_000 + i128::from(nanos);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_itself() {
        for (value, length) in [
            (0, 5),
            (3, 8),
            (4, 9),
            (5, 11),
            (92, 98),
            (93, 99),
            (94, 101),
            (990, 997),
        ] {
            let mut records = Records::default();
            records.push("k", &vec![b'v'; value]);
            let text = String::from_utf8(records.0).unwrap();
            assert!(text.starts_with(&format!("{length} k=")), "{text}");
            assert_eq!(text.len(), length);
        }
    }

    #[test]
    fn times_before_1970_are_negative_sums() {
        assert_eq!(decimal(5, 0), "5");
        assert_eq!(decimal(5, 250_000_000), "5.25");
        assert_eq!(decimal(-2, 500_000_000), "-1.5");
        assert_eq!(decimal(-1, 999_999_999), "-0.000000001");
    }
}
