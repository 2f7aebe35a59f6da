//! What a put carries: slices, never joined.

use bytes::Bytes;

/// The bytes of one object as slices in order. A shard's header, payload and trailer are never copied into one buffer;
/// a clone shares the bytes, so a retry costs nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Body {
    slices: Vec<Bytes>,
    length: u64,
}

impl Body {
    /// Bytes of the whole object.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// True for an object of no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The slices in order; none of them is empty.
    pub fn slices(&self) -> &[Bytes] {
        &self.slices
    }

    /// The first `bytes` bytes, or all when there are fewer.
    pub fn first(&self, bytes: u64) -> Self {
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut first = Vec::new();
        for slice in &self.slices {
            let take = slice.len().min(left);
            first.push(slice.slice(..take));
            left -= take;
        }
        first.into_iter().collect()
    }

    /// One buffer with everything: copies, for stores in memory and for tests.
    pub fn to_bytes(&self) -> Bytes {
        match self.slices.as_slice() {
            [one] => one.clone(),
            several => several.concat().into(),
        }
    }
}

impl FromIterator<Bytes> for Body {
    fn from_iter<I: IntoIterator<Item = Bytes>>(slices: I) -> Self {
        let slices: Vec<Bytes> = slices.into_iter().filter(|slice| !slice.is_empty()).collect();
        // Slices are in memory, so their lengths add up to less than 2^64.
        let length = slices.iter().map(|slice| slice.len() as u64).sum();
        Self { slices, length }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        [bytes].into_iter().collect()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} B in {} slices)", self.length, self.slices.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_and_cuts_across_slices() {
        let body: Body = ["ab", "", "cde"].into_iter().map(Bytes::from).collect();
        assert_eq!((body.len(), body.slices().len()), (5, 2));
        assert_eq!(body.to_bytes(), "abcde");
        assert_eq!(body.first(3).to_bytes(), "abc");
        assert_eq!(body.first(0), Body::default());
        assert_eq!(body.first(99), body);
    }
}
