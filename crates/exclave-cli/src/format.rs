//! How quantities, times and names are written for people, and how bytes are written in JSON.

use std::{fmt::Write as _, time::Duration};

use exclave_model::{EntryPath, Timestamp};
use jiff::{Timestamp as Moment, tz::TimeZone};

/// Bytes in IEC units (IEC 80000-13): `512 B`, `1.5 KiB`, `23 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // 1023.95 would be printed as 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 99.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A count and its noun: `1 file`, `3 files`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// A count of entries.
pub fn entries(number: u64) -> String {
    if number == 1 {
        "1 entry".to_owned()
    } else {
        format!("{number} entries")
    }
}

/// A length of time in its two greatest units: `850 ms`, `12.3 s`, `4 min 5 s`, `2 h 10 min`, `3 d 4 h`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A moment for people: local time with its zone.
pub fn local(unix_seconds: i64) -> String {
    match Moment::from_second(unix_seconds) {
        Ok(moment) => moment
            .to_zoned_datetime(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S %Z")
            .to_string(),
        // A head may hold any number; it is shown, not judged.
        Err(_) => format!("{unix_seconds} s since 1970"),
    }
}

/// A moment for programs: RFC 3339, UTC.
pub fn rfc3339(unix_seconds: i64) -> String {
    Moment::from_second(unix_seconds).map_or_else(|_| format!("@{unix_seconds}"), |moment| moment.to_string())
}

/// A file's time for programs, with its nanoseconds.
pub fn rfc3339_exact(time: &Timestamp) -> String {
    let moment = i32::try_from(time.nanos)
        .ok()
        .and_then(|nanos| Moment::new(time.secs, nanos).ok());
    moment.map_or_else(
        || format!("@{}.{:09}", time.secs, time.nanos),
        |moment| moment.to_string(),
    )
}

/// Text whose control characters are escaped, so that a name from a site can't move a terminal's cursor.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_unseen(character) {
            let _ = write!(out, "{}", character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Characters that show nothing and change what is around them: line separators, marks that reorder text (UAX 9), and
/// format characters (general category Cf), which make two names look alike. The two joiners stay: Persian and several
/// Indic scripts need them.
pub fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// A path for programs: text where it is UTF-8; else with U+FFFD, and beside it the bytes as hex.
pub fn json_path(path: &EntryPath) -> (String, Option<String>) {
    let bytes = path.as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (
            String::from_utf8_lossy(bytes).into_owned(),
            Some(exclave_model::hex(bytes)),
        ),
    }
}

/// The type and permissions of an entry, as `ls -l` shows them.
pub fn mode(letter: char, bits: u32) -> String {
    let mut text = String::from(letter);
    for (shift, special, shown) in [
        (6, 0o4000, ['s', 'S']),
        (3, 0o2000, ['s', 'S']),
        (0, 0o1000, ['t', 'T']),
    ] {
        let part = bits >> shift;
        text.push(if part & 4 == 0 { '-' } else { 'r' });
        text.push(if part & 2 == 0 { '-' } else { 'w' });
        text.push(match (part & 1 != 0, bits & special != 0) {
            (true, true) => shown[0],
            (false, true) => shown[1],
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        let written: Vec<String> = [0, 1023, 1024, 1536, 102_400, 1_048_575, 1 << 20, u64::MAX]
            .map(bytes)
            .into();
        assert_eq!(
            written,
            [
                "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 KiB", "1.0 MiB", "1.0 MiB", "16.0 EiB"
            ]
        );
        let times: Vec<String> = [50, 12_340, 245_000, 7_800_000, 273_600_000]
            .map(|ms| span(Duration::from_millis(ms)))
            .into();
        assert_eq!(times, ["50 ms", "12.3 s", "4 min 5 s", "2 h 10 min", "3 d 4 h"]);
        assert_eq!(
            (count(1, "file"), count(0, "site")),
            ("1 file".into(), "0 sites".into())
        );
    }

    #[test]
    fn times_are_shown_even_when_they_are_absurd() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), format!("@{}", i64::MAX));
        assert_eq!(local(i64::MIN), format!("{} s since 1970", i64::MIN));
    }

    #[test]
    fn names_from_abroad_are_harmless() {
        assert_eq!(plain("a\u{1b}[2Jb\n\u{202e}c"), "a\\u{1b}[2Jb\\u{a}\\u{202e}c");
        assert_eq!(plain("Grundbuch ß"), "Grundbuch ß");
        assert_eq!(mode('-', 0o4755), "-rwsr-xr-x");
        assert_eq!(mode('d', 0o1776), "drwxrwxrwT");
    }
}
