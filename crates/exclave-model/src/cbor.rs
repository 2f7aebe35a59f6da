//! The subset of CBOR that records are written in: the deterministic form of RFC 8949 section 4.2.1, and less.
//!
//! Allowed are integers, byte strings, UTF-8 texts, arrays, and maps whose keys are unsigned integers and ascend. Each
//! has one spelling: shortest numbers, definite lengths. [`check`] looks at a whole input before any field of it is
//! read, allocates nothing, and takes a stack of [`DEPTH_MAX`] frames whatever the input.

/// Most arrays and maps around an item.
pub const DEPTH_MAX: usize = 16;

/// Why bytes are not exactly one item of deterministic CBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct NotCanonical {
    /// Where.
    pub at: usize,
    /// What stands there.
    pub reason: &'static str,
}

/// Checks that the bytes are exactly one item.
pub fn check(bytes: &[u8]) -> Result<(), NotCanonical> {
    let mut reader = Reader { bytes, at: 0 };
    reader.item(0)?;
    match bytes.len() - reader.at {
        0 => Ok(()),
        _ => Err(reader.refuse("something stands behind the item")),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The major types of RFC 8949 section 3.1 that records use.
enum Major {
    Integer,
    Bytes,
    Text,
    Array,
    Map,
}

impl Reader<'_> {
    fn refuse(&self, reason: &'static str) -> NotCanonical {
        NotCanonical { at: self.at, reason }
    }

    fn item(&mut self, depth: usize) -> Result<(), NotCanonical> {
        if depth > DEPTH_MAX {
            return Err(self.refuse("items are nested too deep"));
        }
        let (major, number) = self.head()?;
        match major {
            Major::Integer => Ok(()),
            Major::Bytes => self.take(number).map(|_| ()),
            Major::Text => {
                let at = self.at;
                let text = self.take(number)?;
                let reason = "a text is not UTF-8";
                std::str::from_utf8(text)
                    .map(|_| ())
                    .map_err(|_| NotCanonical { at, reason })
            }
            // Each item takes a byte at least, so a claimed count ends where the input ends.
            Major::Array => (0..number).try_for_each(|_| self.item(depth + 1)),
            Major::Map => self.map(number, depth),
        }
    }

    fn map(&mut self, pairs: u64, depth: usize) -> Result<(), NotCanonical> {
        let mut last = None;
        for _ in 0..pairs {
            let before = *self;
            if self.bytes.get(self.at).is_none_or(|byte| byte >> 5 != 0) {
                return Err(self.refuse("a key is not an unsigned integer"));
            }
            let (_, key) = self.head()?;
            if last.is_some_and(|last| last >= key) {
                return Err(before.refuse("keys do not ascend"));
            }
            last = Some(key);
            self.item(depth + 1)?;
        }
        Ok(())
    }

    /// The first byte of an item and the number behind it.
    fn head(&mut self) -> Result<(Major, u64), NotCanonical> {
        let first = *self.bytes.get(self.at).ok_or_else(|| self.refuse("the input ends"))?;
        let major = match first >> 5 {
            0 | 1 => Major::Integer,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            _ => return Err(self.refuse("a tag, a float or a simple value")),
        };
        let (width, least) = match first & 31 {
            short @ 0..24 => {
                self.at += 1;
                return Ok((major, u64::from(short)));
            }
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(self.refuse("an indefinite or reserved length")),
        };
        let start = *self;
        self.at += 1;
        let number = self
            .take(width)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        if number < least {
            return Err(start.refuse("a number is not in its shortest form"));
        }
        Ok((major, number))
    }

    fn take(&mut self, bytes: u64) -> Result<&[u8], NotCanonical> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(bytes).ok().and_then(|bytes| rest.get(..bytes));
        match taken {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(self.refuse("the input ends")),
        }
    }
}

impl Clone for Reader<'_> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Reader<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_of_each_item_passes() {
        let deepest = [&[0x81; DEPTH_MAX][..], &[0]].concat();
        for good in [
            &[0][..],
            &[0x17],
            &[0x18, 24],
            &[0x19, 1, 0],
            &[0x1a, 0, 1, 0, 0],
            &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0],
            &[0x20],
            &[0x42, 1, 2],
            &[0x62, 0xc3, 0xa9],
            &[0x80],
            &[0xa2, 0, 0x80, 1, 0xa0],
            &deepest,
        ] {
            assert_eq!(check(good), Ok(()), "{good:02x?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let too_deep = [&[0x81; DEPTH_MAX + 1][..], &[0]].concat();
        for (bad, at) in [
            (&[][..], 0),
            (&[0, 0], 1),
            (&[0x18], 1),
            (&[0x18, 23], 0),
            (&[0x19, 0, 255], 0),
            (&[0x1a, 0, 0, 255, 255], 0),
            (&[0x1b, 0, 0, 0, 0, 255, 255, 255, 255], 0),
            (&[0x1c], 0),
            (&[0x42, 1], 1),
            (&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255], 9),
            (&[0x9b, 255, 255, 255, 255, 255, 255, 255, 255], 9),
            (&[0x5f, 0x41, 0, 0xff], 0),
            (&[0x61, 0xff], 1),
            (&[0x82, 0], 2),
            (&[0xa1, 0x20, 0], 1),
            (&[0xa2, 1, 0, 0, 0], 3),
            (&[0xa2, 1, 0, 1, 0], 3),
            (&[0xa1, 0x41, 0, 0], 1),
            (&[0xc0, 0], 0),
            (&[0xf4], 0),
            (&[0xf6], 0),
            (&[0xf9, 0, 0], 0),
            (&too_deep, DEPTH_MAX + 1),
        ] {
            assert_eq!(check(bad).map_err(|bad| bad.at), Err(at), "{bad:02x?}");
        }
    }
}
