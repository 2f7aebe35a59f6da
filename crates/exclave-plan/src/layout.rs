//! Which sites hold the shards of a dataset: the ordered list of n sites, and what takes a dead one's place.
//!
//! Sites are taken in PACE order, then by id; one that does not answer comes after all that do. The list itself is in the
//! same order, so that the data shards, which a healthy restore reads without arithmetic, lie at the primary sites. The
//! survivability of a layout against every named loss is arithmetic of its own and not here yet; what several sites of a
//! layout have in common is.

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{Pace, SiteId, SiteRecord, limit::SHARDS_PER_STRIPE_MAX};

/// Whether a site answered when the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reachability {
    /// It did.
    Reachable,
    /// It did not: what is meant for it becomes debt.
    Unreachable,
}

/// What a site shares with others, so that it fails with them. What the owner has not written is unknown, and shared
/// with nobody.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FaultDomains {
    /// Grid, city or cloud region.
    pub region: Option<String>,
    /// Country.
    pub country: Option<String>,
    /// Operator.
    pub operator: Option<String>,
    /// Other states whose law binds the operator.
    pub legal_reach: Vec<String>,
    /// The identity system that guards it.
    pub iam_realm: Option<String>,
}

/// A site that may hold shards of the dataset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Its id.
    pub site: SiteId,
    /// When it is used.
    pub pace: Pace,
    /// Whether it answers.
    pub reachability: Reachability,
    /// What it fails with.
    pub domains: FaultDomains,
}

impl Candidate {
    /// A site of the charter.
    pub fn of(site: &SiteRecord, reachability: Reachability) -> Self {
        Self {
            site: site.id,
            pace: site.pace,
            reachability,
            domains: FaultDomains {
                region: site.region.clone(),
                country: site.country.clone(),
                operator: site.operator.clone(),
                legal_reach: site.legal_reach.clone().unwrap_or_default(),
                iam_realm: site.iam_realm.clone(),
            },
        }
    }

    fn preference(&self) -> (Reachability, Pace, SiteId) {
        (self.reachability, self.pace, self.site)
    }
}

/// Fewer different sites than a stripe has shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} sites are needed, one for each shard, and {found} are eligible")]
pub struct TooFewSites {
    /// Sites that may hold shards.
    pub found: usize,
    /// n.
    pub needed: u8,
}

/// The i-th site holds shard i; no site is in it twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    sites: Vec<SiteId>,
}

impl Layout {
    /// Takes a list of sites as a ledger or a placement gives it; `None` when it is empty, too long or names one twice.
    pub fn from_sites(sites: Vec<SiteId>) -> Option<Self> {
        let different: BTreeSet<&SiteId> = sites.iter().collect();
        let sound = different.len() == sites.len() && (1..=SHARDS_PER_STRIPE_MAX).contains(&sites.len());
        sound.then_some(Self { sites })
    }

    /// Chooses n sites: those that answer before those that don't, in PACE order, then by id.
    pub fn choose(candidates: &[Candidate], n: u8) -> Result<Self, TooFewSites> {
        let mut chosen = preferred(candidates);
        if chosen.len() < usize::from(n) {
            return Err(TooFewSites {
                found: chosen.len(),
                needed: n,
            });
        }
        chosen.truncate(usize::from(n));
        chosen.sort_by_key(|candidate| (candidate.pace, candidate.site));
        Ok(Self {
            sites: chosen.into_iter().map(|candidate| candidate.site).collect(),
        })
    }

    /// The sites, by shard index.
    pub fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    /// n.
    pub fn total(&self) -> u8 {
        // At most 32 by construction.
        self.sites.len() as u8
    }

    /// The site that holds a shard.
    pub fn site(&self, index: u8) -> Option<SiteId> {
        self.sites.get(usize::from(index)).copied()
    }

    /// The shard that a site holds.
    pub fn index_of(&self, site: SiteId) -> Option<u8> {
        (0..)
            .zip(&self.sites)
            .find(|(_, other)| **other == site)
            .map(|(index, _)| index)
    }

    /// Puts reachable spares in the places of the dead, in PACE order, then by id. Every other site keeps its index. What
    /// no spare is left for stays, as debt.
    pub fn replace(&self, dead: &BTreeSet<SiteId>, candidates: &[Candidate]) -> Replacement {
        let spares = preferred(candidates).into_iter().filter(|candidate| {
            candidate.reachability == Reachability::Reachable
                && !dead.contains(&candidate.site)
                && !self.sites.contains(&candidate.site)
        });
        let mut spares = spares.map(|candidate| candidate.site);
        let mut replacement = Replacement {
            layout: self.clone(),
            moved: Vec::new(),
            owed: Vec::new(),
        };
        for (index, site) in (0..).zip(&mut replacement.layout.sites) {
            if !dead.contains(site) {
                continue;
            }
            match spares.next() {
                Some(spare) => {
                    replacement.moved.push(Moved {
                        index,
                        from: *site,
                        to: spare,
                    });
                    *site = spare;
                }
                None => replacement.owed.push(index),
            }
        }
        replacement
    }

    /// What two or more sites of the layout share, the most shared first: losing it loses all their shards at once.
    pub fn shared_domains(&self, candidates: &[Candidate]) -> Vec<SharedDomain> {
        let mut domains: BTreeMap<Domain, BTreeSet<SiteId>> = BTreeMap::new();
        for candidate in candidates
            .iter()
            .filter(|candidate| self.sites.contains(&candidate.site))
        {
            for domain in Domain::all_of(&candidate.domains) {
                domains.entry(domain).or_default().insert(candidate.site);
            }
        }
        let mut shared: Vec<SharedDomain> = domains
            .into_iter()
            .filter(|(_, sites)| sites.len() > 1)
            .map(|(domain, sites)| SharedDomain { domain, sites })
            .collect();
        shared.sort_by_key(|shared| std::cmp::Reverse(shared.sites.len()));
        shared
    }
}

/// Each site once, the preferred first.
fn preferred(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| candidate.preference());
    let mut seen = BTreeSet::new();
    sorted.retain(|candidate| seen.insert(candidate.site));
    sorted
}

/// A layout after sites have died, for the stripes from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The new layout.
    pub layout: Layout,
    /// What changed.
    pub moved: Vec<Moved>,
    /// Indices whose site is dead and has no spare.
    pub owed: Vec<u8>,
}

/// One place of a layout that changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The shard index.
    pub index: u8,
    /// Who held it.
    pub from: SiteId,
    /// Who holds it now.
    pub to: SiteId,
}

/// Something that fails as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// A country.
    Country(String),
    /// A region.
    Region(String),
    /// An operator.
    Operator(String),
    /// A state whose law reaches the operator.
    LegalReach(String),
    /// An identity system.
    IamRealm(String),
}

impl Domain {
    fn all_of(domains: &FaultDomains) -> Vec<Self> {
        let FaultDomains {
            region,
            country,
            operator,
            legal_reach,
            iam_realm,
        } = domains.clone();
        let single = [
            country.map(Self::Country),
            region.map(Self::Region),
            operator.map(Self::Operator),
            iam_realm.map(Self::IamRealm),
        ];
        single
            .into_iter()
            .flatten()
            .chain(legal_reach.into_iter().map(Self::LegalReach))
            .collect()
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Country(name) => write!(f, "country {name}"),
            Self::Region(name) => write!(f, "region {name}"),
            Self::Operator(name) => write!(f, "operator {name}"),
            Self::LegalReach(name) => write!(f, "legal reach of {name}"),
            Self::IamRealm(name) => write!(f, "IAM realm {name}"),
        }
    }
}

/// A fault domain that holds more than one shard of every stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedDomain {
    /// What is shared.
    pub domain: Domain,
    /// By whom.
    pub sites: BTreeSet<SiteId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use Pace::{Alternate, Contingency, Emergency, Primary};
    use Reachability::{Reachable, Unreachable};

    fn site(number: u8) -> SiteId {
        SiteId::from_bytes([number; 16])
    }

    fn candidate(number: u8, pace: Pace, reachability: Reachability) -> Candidate {
        Candidate {
            site: site(number),
            pace,
            reachability,
            domains: FaultDomains::default(),
        }
    }

    fn chosen(candidates: &[Candidate], n: u8) -> Vec<u8> {
        let layout = Layout::choose(candidates, n).unwrap();
        layout.sites().iter().map(|site| site.as_bytes()[0]).collect()
    }

    #[test]
    fn pace_decides_then_the_id() {
        let candidates = [
            candidate(4, Emergency, Reachable),
            candidate(7, Primary, Reachable),
            candidate(2, Alternate, Reachable),
            candidate(9, Primary, Reachable),
            candidate(1, Contingency, Reachable),
        ];
        assert_eq!(chosen(&candidates, 3), [7, 9, 2]);
        assert_eq!(chosen(&candidates, 5), [7, 9, 2, 1, 4]);
        assert_eq!(Layout::choose(&candidates, 6), Err(TooFewSites { found: 5, needed: 6 }));
        let mut reversed = candidates.to_vec();
        reversed.reverse();
        assert_eq!(chosen(&reversed, 4), chosen(&candidates, 4));
    }

    #[test]
    fn a_silent_site_is_used_only_when_there_is_no_other() {
        let candidates = [
            candidate(1, Primary, Unreachable),
            candidate(2, Primary, Reachable),
            candidate(3, Emergency, Reachable),
        ];
        assert_eq!(chosen(&candidates, 2), [2, 3]);
        assert_eq!(
            chosen(&candidates, 3),
            [1, 2, 3],
            "in its PACE place, its shards are debt"
        );
    }

    #[test]
    fn a_site_named_twice_counts_once() {
        let twice = [candidate(1, Primary, Reachable), candidate(1, Alternate, Reachable)];
        assert_eq!(Layout::choose(&twice, 2), Err(TooFewSites { found: 1, needed: 2 }));
        assert_eq!(Layout::from_sites(vec![site(1), site(1)]), None);
        assert_eq!(Layout::from_sites(Vec::new()), None);
        assert_eq!(Layout::from_sites((0..33).map(site).collect()), None);
    }

    #[test]
    fn the_dead_are_replaced_in_pace_order_and_the_others_stay() {
        let layout = Layout::from_sites([5, 1, 3, 4].map(site).to_vec()).unwrap();
        let candidates = [
            candidate(1, Primary, Reachable),
            candidate(3, Primary, Reachable), // holds a shard already: no spare
            candidate(8, Contingency, Reachable),
            candidate(9, Alternate, Reachable),
            candidate(7, Alternate, Unreachable),
            candidate(5, Primary, Reachable),
        ];
        let replaced = layout.replace(&[site(1), site(4), site(5)].into(), &candidates);
        assert_eq!(replaced.layout.sites(), [9, 8, 3, 4].map(site));
        let moved = |index, from, to| Moved {
            index,
            from: site(from),
            to: site(to),
        };
        assert_eq!(replaced.moved, [moved(0, 5, 9), moved(1, 1, 8)]);
        assert_eq!(replaced.owed, [3]);
        assert_eq!(replaced.layout.index_of(site(3)), Some(2));
        assert_eq!(replaced.layout.site(1), Some(site(8)));
        assert_eq!((replaced.layout.site(4), replaced.layout.total()), (None, 4));
        let untouched = layout.replace(&BTreeSet::new(), &candidates);
        assert_eq!((untouched.layout, untouched.owed), (layout, Vec::new()));
    }

    #[test]
    fn what_sites_share_is_named() {
        let mut candidates: Vec<Candidate> = (1..=4).map(|number| candidate(number, Primary, Reachable)).collect();
        for (candidate, country) in candidates.iter_mut().zip(["EE", "LU", "EE", "EE"]) {
            candidate.domains.country = Some(country.to_owned());
        }
        candidates[1].domains.legal_reach = vec!["US".to_owned()];
        candidates[2].domains.legal_reach = vec!["US".to_owned(), "UK".to_owned()];
        let layout = Layout::choose(&candidates, 3).unwrap();
        let shared: Vec<String> = layout
            .shared_domains(&candidates)
            .iter()
            .map(|shared| format!("{}: {}", shared.domain, shared.sites.len()))
            .collect();
        assert_eq!(
            shared,
            ["country EE: 2", "legal reach of US: 2"],
            "site 4 is not in the layout"
        );
    }
}
