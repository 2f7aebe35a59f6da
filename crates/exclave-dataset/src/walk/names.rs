//! The names of one directory, sorted, in one piece of memory.

/// Names back to back, and where each begins: about 8 bytes a name on top of the name itself.
#[derive(Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    next: usize,
}

struct Span {
    start: u32,
    length: u16,
}

impl Names {
    /// Adds a name; false when all of them would need more than `bytes_max`.
    pub(crate) fn push(&mut self, name: &[u8], bytes_max: usize) -> bool {
        let (Ok(start), Ok(length)) = (u32::try_from(self.bytes.len()), u16::try_from(name.len())) else {
            return false;
        };
        if self.weight() + name.len() + size_of::<Span>() > bytes_max {
            return false;
        }
        self.bytes.extend_from_slice(name);
        self.spans.push(Span { start, length });
        true
    }

    /// Sorts by bytes; a name that a file system listed twice stays once.
    pub(crate) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans
            .sort_unstable_by(|left, right| name(bytes, left).cmp(name(bytes, right)));
        self.spans
            .dedup_by(|left, right| name(bytes, left) == name(bytes, right));
    }

    /// The next name in order.
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let span = self.spans.get(self.next)?;
        self.next += 1;
        Some(name(&self.bytes, span))
    }

    /// True when `wanted` is among them; they must be sorted.
    pub(crate) fn contains(&self, wanted: &[u8]) -> bool {
        self.spans
            .binary_search_by(|span| name(&self.bytes, span).cmp(wanted))
            .is_ok()
    }

    /// Keeps one name, which must be among them; says how many went.
    pub(crate) fn keep_only(&mut self, wanted: &[u8]) -> u64 {
        let before = self.spans.len();
        let bytes = &self.bytes;
        self.spans.retain(|span| name(bytes, span) == wanted);
        (before - self.spans.len()) as u64
    }

    /// Bytes of memory.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.spans.len() * size_of::<Span>()
    }
}

fn name<'a>(bytes: &'a [u8], span: &Span) -> &'a [u8] {
    let start = span.start as usize;
    bytes.get(start..start + usize::from(span.length)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_sorted_once_and_bounded() {
        let mut names = Names::default();
        for name in [&b"b"[..], b"\xff", b"a b", b"a", b"b"] {
            assert!(names.push(name, 100));
        }
        assert!(!names.push(&[b'x'; 60], 100));
        names.sort();
        assert!(names.contains(b"a b") && !names.contains(b"c"));
        let mut seen = Vec::new();
        while let Some(name) = names.next() {
            seen.push(name.to_vec());
        }
        assert_eq!(seen, [&b"a"[..], b"a b", b"b", b"\xff"]);
        assert_eq!(names.keep_only(b"b"), 3);
    }
}
