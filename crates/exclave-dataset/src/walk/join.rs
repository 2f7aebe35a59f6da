//! Two sorted sequences side by side: what was there before and what is there now.

use std::{cmp::Ordering, iter::Peekable};

use exclave_model::EntryPath;

/// Something that stands at a path.
pub trait AtPath {
    /// Where.
    fn path(&self) -> &EntryPath;
}

impl<T> AtPath for (EntryPath, T) {
    fn path(&self) -> &EntryPath {
        &self.0
    }
}

/// One path in either or both sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined<P, N> {
    /// It was there and is no more.
    Gone(P),
    /// It is there for the first time.
    New(N),
    /// It was and is there.
    Both(P, N),
}

/// Merges `previous` and `now`, both ascending by path, holding one item of each.
///
/// So a catalog is read in one pass, without a query per file. An unsorted `previous` loses matches, so files are read
/// again; it never invents one.
pub fn join<P, N>(previous: P, now: N) -> Join<P::IntoIter, N::IntoIter>
where
    P: IntoIterator<Item: AtPath>,
    N: IntoIterator<Item: AtPath>,
{
    Join {
        previous: previous.into_iter().peekable(),
        now: now.into_iter().peekable(),
    }
}

/// What [`join`] gives.
pub struct Join<P: Iterator, N: Iterator> {
    previous: Peekable<P>,
    now: Peekable<N>,
}

impl<P, N> Iterator for Join<P, N>
where
    P: Iterator<Item: AtPath>,
    N: Iterator<Item: AtPath>,
{
    type Item = Joined<P::Item, N::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.previous.peek(), self.now.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(previous), Some(now)) => previous.path().cmp(now.path()),
        };
        match order {
            Ordering::Less => self.previous.next().map(Joined::Gone),
            Ordering::Greater => self.now.next().map(Joined::New),
            Ordering::Equal => self
                .previous
                .next()
                .zip(self.now.next())
                .map(|(previous, now)| Joined::Both(previous, now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn paths() -> impl Strategy<Value = BTreeMap<EntryPath, u8>> {
        let path = "[ab]{1,2}(/[ab .]{1,2}x){0,2}".prop_map(|text| EntryPath::parse(text.as_bytes()).unwrap());
        proptest::collection::btree_map(path, any::<u8>(), 0..12)
    }

    proptest! {
        #[test]
        fn every_path_comes_once_in_order(previous in paths(), now in paths()) {
            let joined: Vec<_> = join(previous.clone(), now.clone()).collect();
            let mut seen = Vec::new();
            for item in &joined {
                let path = match item {
                    Joined::Gone((path, state)) => {
                        prop_assert!(previous.get(path) == Some(state) && !now.contains_key(path));
                        path
                    }
                    Joined::New((path, state)) => {
                        prop_assert!(now.get(path) == Some(state) && !previous.contains_key(path));
                        path
                    }
                    Joined::Both((path, before), (other, after)) => {
                        prop_assert_eq!(path, other);
                        prop_assert!(previous.get(path) == Some(before) && now.get(path) == Some(after));
                        path
                    }
                };
                seen.push(path.clone());
            }
            let expected: BTreeSet<_> = previous.keys().chain(now.keys()).cloned().collect();
            prop_assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
