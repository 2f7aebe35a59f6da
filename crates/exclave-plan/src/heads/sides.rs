//! Which side of a fork a head takes.
//!
//! A fork is two valid heads in one place of a chain. Whatever follows only some of them takes their side; a head that
//! follows all of them, such as the first one of the writer's next life, takes none and settles the matter for what comes
//! after it. Nothing in the heads tells which side is the true one: one of them may be a thief's.

use std::collections::BTreeSet;

use exclave_model::RecordHash;

use super::Heads;

impl Heads {
    /// The newest heads of the same dataset that take another side of a fork than `hash` does, ascending. Empty for a
    /// head that may be taken without asking.
    pub fn other_sides(&self, hash: RecordHash) -> Vec<RecordHash> {
        let Some(fact) = self.get(hash) else {
            return Vec::new();
        };
        let followed = self.followed_by(hash);
        let not_followed: BTreeSet<RecordHash> = self
            .forks()
            .filter(|heads| heads.iter().any(|head| followed.contains(head)))
            .flatten()
            .filter(|head| !followed.contains(head))
            .copied()
            .collect();
        // Ancestors are only looked up when there is a fork: an honest archive has none.
        if not_followed.is_empty() {
            return Vec::new();
        }
        let mut others: Vec<RecordHash> = self
            .newest(fact.dataset)
            .into_iter()
            .map(|other| other.hash)
            .filter(|other| !followed.contains(other) && !self.followed_by(*other).is_disjoint(&not_followed))
            .collect();
        others.sort_unstable();
        others
    }

    /// A head and all its ancestors.
    fn followed_by(&self, hash: RecordHash) -> BTreeSet<RecordHash> {
        let mut followed = self.ancestors_of([hash].iter());
        followed.insert(hash);
        followed
    }

    fn forks(&self) -> impl Iterator<Item = &Vec<RecordHash>> {
        let places = self.chains.values().flat_map(|chain| chain.values());
        places.filter(|heads| heads.len() > 1)
    }
}
