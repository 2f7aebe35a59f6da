//! Sets of stripes of one run, as runs of ordinals (FORMAT.md section 11).
//!
//! `[first, count, gap, count, gap, count ...]`: `first` ordinals are not in the set, `count` are, `gap` are not, and so
//! on. A snapshot uses most runs nearly whole, so a set takes a few bytes, and a decoder a few lines (decision 0002).

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::wire::{Rule, broken};

/// How many ordinals there are.
const ORDINALS: u64 = 1 << 32;

/// Stripes of one run, by ordinal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveSet {
    /// Half-open, ascending, not touching.
    ranges: Vec<(u64, u64)>,
}

impl LiveSet {
    /// Nothing.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many stripes are in it.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// True when the stripe is in it.
    pub fn contains(&self, ordinal: u32) -> bool {
        let at = u64::from(ordinal);
        let behind = self.ranges.partition_point(|(start, _)| *start <= at);
        behind > 0 && self.ranges[behind - 1].1 > at
    }

    /// Adds a stripe.
    pub fn insert(&mut self, ordinal: u32) {
        let at = u64::from(ordinal);
        let behind = self.ranges.partition_point(|(start, _)| *start <= at);
        if behind > 0 && self.ranges[behind - 1].1 > at {
            return;
        }
        let joins_left = behind > 0 && self.ranges[behind - 1].1 == at;
        let joins_right = self.ranges.get(behind).is_some_and(|(start, _)| *start == at + 1);
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[behind - 1].1 = self.ranges[behind].1;
                self.ranges.remove(behind);
            }
            (true, false) => self.ranges[behind - 1].1 = at + 1,
            (false, true) => self.ranges[behind].0 = at,
            (false, false) => self.ranges.insert(behind, (at, at + 1)),
        }
    }

    /// Adds all stripes of another set.
    pub fn merge(&mut self, other: &Self) {
        let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(self.ranges.len() + other.ranges.len());
        let mut sorted: Vec<(u64, u64)> = self.ranges.iter().chain(&other.ranges).copied().collect();
        sorted.sort_unstable();
        for (start, end) in sorted {
            match ranges.last_mut() {
                Some((_, last)) if *last >= start => *last = end.max(*last),
                Some(_) | None => ranges.push((start, end)),
            }
        }
        self.ranges = ranges;
    }

    /// Takes all stripes of another set away.
    pub fn subtract(&mut self, other: &Self) {
        let mut left = Vec::with_capacity(self.ranges.len() + other.ranges.len());
        for (mut start, end) in self.ranges.drain(..) {
            let from = other.ranges.partition_point(|(_, gone)| *gone <= start);
            for (gone, back) in other.ranges.iter().skip(from).take_while(|(gone, _)| *gone < end) {
                if start < *gone {
                    left.push((start, *gone));
                }
                start = *back;
            }
            if start < end {
                left.push((start, end));
            }
        }
        self.ranges = left;
    }

    /// The stripes that both sets hold.
    pub fn common(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        rest.subtract(other);
        let mut common = self.clone();
        common.subtract(&rest);
        common
    }

    /// The stripes in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges
            .iter()
            .flat_map(|(start, end)| *start..*end)
            .map(|at| at as u32)
    }

    /// Reads the written form. One stretch may hold all 2^32 ordinals, so the numbers are wider than an ordinal.
    pub fn from_numbers(numbers: &[u64]) -> Result<Self, Rule> {
        if !numbers.len().is_multiple_of(2) {
            return Err(Rule::new("bad-live-set", "a live set has an odd number of lengths"));
        }
        let mut ranges = Vec::with_capacity(numbers.len() / 2);
        let mut at = 0u64;
        for (position, [gap, count]) in numbers.as_chunks::<2>().0.iter().enumerate() {
            if (*gap == 0 && position > 0) || *count == 0 {
                return Err(Rule::new("bad-live-set", "a live set holds an empty stretch"));
            }
            let start = at.saturating_add(*gap);
            at = start.saturating_add(*count);
            if at > ORDINALS {
                return Err(Rule::new("bad-live-set", "a live set ends behind the last ordinal"));
            }
            ranges.push((start, at));
        }
        Ok(Self { ranges })
    }
}

impl FromIterator<u32> for LiveSet {
    fn from_iter<I: IntoIterator<Item = u32>>(ordinals: I) -> Self {
        let mut set = Self::new();
        for ordinal in ordinals {
            set.insert(ordinal);
        }
        set
    }
}

impl<C> Encode<C> for LiveSet {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.array(self.ranges.len() as u64 * 2)?;
        let mut at = 0;
        for (start, end) in &self.ranges {
            encoder.u64(start - at)?.u64(end - start)?;
            at = *end;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for LiveSet {
    fn decode(decoder: &mut Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let numbers: Vec<u64> = decoder.decode_with(context)?;
        Self::from_numbers(&numbers).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn sets_are_merged_as_if_inserted_one_by_one() {
        for (left, right) in [
            (&[][..], &[][..]),
            (&[1, 2], &[]),
            (&[0, 1, 5], &[2, 3, 6, 9]),
            (&[4, 5, 6], &[5]),
            (&[u32::MAX], &[0, u32::MAX - 1]),
        ] {
            let mut merged: LiveSet = left.iter().copied().collect();
            merged.merge(&right.iter().copied().collect());
            assert_eq!(merged, left.iter().chain(right).copied().collect());
        }
    }

    #[test]
    fn sets_are_taken_away_as_if_one_by_one() {
        for (left, right) in [
            (&[][..], &[1][..]),
            (&[1, 2], &[]),
            (&[0, 1, 2, 3, 4, 5], &[0, 2, 3, 5]),
            (&[0, 1, 5, 9, 10], &[1, 2, 3, 4, 5, 6, 10, 11]),
            (&[4, 5, 6], &[3, 4, 5, 6, 7]),
            (&[u32::MAX - 1, u32::MAX], &[u32::MAX]),
        ] {
            let (from, gone): (LiveSet, LiveSet) = (left.iter().copied().collect(), right.iter().copied().collect());
            let mut rest = from.clone();
            rest.subtract(&gone);
            assert_eq!(rest, from.iter().filter(|at| !gone.contains(*at)).collect());
            assert_eq!(
                from.common(&gone),
                from.iter().filter(|at| gone.contains(*at)).collect()
            );
        }
    }

    #[test]
    fn order_of_insertion_does_not_matter() {
        let set: LiveSet = [5, 3, 4, 9, 0, 4, u32::MAX].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 4, 5, 9, u32::MAX]);
        assert_eq!(set.len(), 6);
        assert!(set.contains(4) && set.contains(u32::MAX) && !set.contains(6) && !set.contains(1));
        let bytes = encode(&set);
        assert_eq!(minicbor::decode::<LiveSet>(&bytes).unwrap(), set);
        assert_eq!(encode(&LiveSet::new()), [0x80]);
        assert_eq!(encode(&[7u32].into_iter().collect::<LiveSet>()), [0x82, 7, 1]);
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            &[1][..],
            &[1, 0],
            &[0, 1, 0, 1],
            &[0, 1, 1, 0],
            &[ORDINALS - 1, 2],
            &[1, ORDINALS - 1, 1, 1],
            &[0, u64::MAX],
            &[u64::MAX, u64::MAX],
            &[0, 7, 0],
        ] {
            assert!(LiveSet::from_numbers(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_set_may_be_all_ordinals() {
        let all = LiveSet::from_numbers(&[0, ORDINALS]).unwrap();
        assert!(all.contains(0) && all.contains(u32::MAX));
        assert_eq!(all.len(), ORDINALS);
        assert_eq!(minicbor::decode::<LiveSet>(&encode(&all)).unwrap(), all);
    }
}
