//! How many shards of each stripe are left, now and after the losses that the charter declares.
//!
//! A stripe is a pattern: which shards of its layout were shown. Stripes of one pattern are alike, so an archive of any
//! size is a short table of patterns. Losing any f sites leaves a stripe with s shown shards s - f at the worst, whichever
//! sites hold them, so the worst stripe for "any f sites" is the one with the fewest. A fault domain (the sites that share a
//! country, an operator, ...) takes the shards that lie in it.

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{SiteId, SiteRecord, limit::SHARDS_PER_STRIPE_MAX};

/// Different patterns of one layout that are kept apart. Random damage of a wide layout has more; what comes behind is
/// joined to one pattern that holds only what all of them have, so nothing looks better than it is.
const PATTERNS_MAX: usize = 4096;

/// What each shard of one stripe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pattern {
    /// Bit i: shard i was shown.
    pub shown: u32,
    /// Bit i: shard i is certainly not where it should be: missing or corrupt, not merely unanswered.
    pub gone: u32,
}

/// Stripes of one layout and class.
#[derive(Debug, Clone)]
struct Tally {
    sites: Vec<SiteId>,
    data: u8,
    losses: u8,
    shown: BTreeMap<u32, u64>,
    beyond: Option<u32>,
    stripes: u64,
}

/// All stripes that were looked at.
#[derive(Debug, Clone, Default)]
pub struct Survivors {
    tallies: Vec<Tally>,
    /// Stripes looked at.
    pub stripes: u64,
    /// Stripes of which certainly fewer than k shards are left.
    pub unrecoverable: u64,
    /// Stripes of which fewer than k shards were shown, and more may be there.
    pub unproven: u64,
}

/// What fails together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultSet {
    /// Any so many sites: f of the class.
    AnySites(u8),
    /// The sites that share something.
    Domain {
        /// country, region, operator, legal reach or IAM realm.
        kind: &'static str,
        /// Which.
        name: String,
        /// The sites.
        sites: BTreeSet<SiteId>,
    },
}

/// The worst that a fault set does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Least {
    /// What fails.
    pub fault: FaultSet,
    /// The sites that are lost in the worst case.
    pub worst: Vec<SiteId>,
    /// Shards left of the stripe that is hit worst.
    pub survivors: u8,
    /// `survivors` less k: how many more may be lost; negative when it can't be restored.
    pub margin: i16,
}

/// What one layout comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The sites, by shard index.
    pub sites: Vec<SiteId>,
    /// k.
    pub data: u8,
    /// f.
    pub losses: u8,
    /// Stripes looked at.
    pub stripes: u64,
    /// Shown shards of the stripe that has the fewest.
    pub least_shown: u8,
    /// The worst of each fault set; any f sites first.
    pub faults: Vec<Least>,
}

impl Survivors {
    /// Counts stripes that came to the same: their layout by shard index, k, f of their class, what their shards came to,
    /// how many.
    pub fn add(&mut self, sites: &[SiteId], data: u8, losses: u8, pattern: Pattern, count: u64) {
        let sites = sites.get(..SHARDS_PER_STRIPE_MAX).unwrap_or(sites);
        self.stripes += count;
        let total = sites.len() as u32;
        if pattern.shown.count_ones() < u32::from(data) {
            match total.saturating_sub(pattern.gone.count_ones()) < u32::from(data) {
                true => self.unrecoverable += count,
                false => self.unproven += count,
            }
        }
        let is_it = |tally: &&mut Tally| tally.sites == sites && (tally.data, tally.losses) == (data, losses);
        let tally = match self.tallies.iter_mut().find(is_it) {
            Some(tally) => tally,
            None => {
                self.tallies.push(Tally {
                    sites: sites.to_vec(),
                    data,
                    losses,
                    shown: BTreeMap::new(),
                    beyond: None,
                    stripes: 0,
                });
                let Some(tally) = self.tallies.last_mut() else { return };
                tally
            }
        };
        tally.stripes += count;
        let room = tally.shown.len() < PATTERNS_MAX;
        match tally.shown.get_mut(&pattern.shown) {
            Some(known) => *known += count,
            None if room => _ = tally.shown.insert(pattern.shown, count),
            None => tally.beyond = Some(tally.beyond.unwrap_or(u32::MAX) & pattern.shown),
        }
    }

    /// What each layout comes to; `records` are the charter's sites.
    pub fn placements(&self, records: &[SiteRecord]) -> Vec<Placement> {
        self.tallies.iter().map(|tally| tally.placement(records)).collect()
    }
}

impl Tally {
    fn patterns(&self) -> impl Iterator<Item = u32> + '_ {
        self.shown.keys().copied().chain(self.beyond)
    }

    fn placement(&self, records: &[SiteRecord]) -> Placement {
        let fewest = self.patterns().min_by_key(|shown| (shown.count_ones(), *shown));
        let fewest = fewest.unwrap_or(0);
        // The first f of its sites; any other f would do the same.
        let held = (0..self.sites.len()).filter(|at| fewest >> at & 1 == 1);
        let worst = held.take(usize::from(self.losses));
        let any = self.least(
            FaultSet::AnySites(self.losses),
            worst.filter_map(|at| self.sites.get(at).copied()).collect(),
            fewest.count_ones().saturating_sub(u32::from(self.losses)),
        );
        let domains = domains(records, &self.sites).into_iter().map(|fault| {
            let FaultSet::Domain { sites, .. } = &fault else {
                return self.least(fault, Vec::new(), 0);
            };
            let lost = (0..self.sites.len()).filter(|at| self.sites.get(*at).is_some_and(|site| sites.contains(site)));
            let mask = lost.fold(0u32, |mask, at| mask | 1 << at);
            let left = self.patterns().map(|shown| (shown & !mask).count_ones()).min();
            let worst = sites.iter().copied().collect();
            self.least(fault, worst, left.unwrap_or(0))
        });
        Placement {
            sites: self.sites.clone(),
            data: self.data,
            losses: self.losses,
            stripes: self.stripes,
            least_shown: fewest.count_ones() as u8,
            faults: std::iter::once(any).chain(domains).collect(),
        }
    }

    fn least(&self, fault: FaultSet, worst: Vec<SiteId>, survivors: u32) -> Least {
        // At most 32.
        let survivors = survivors as u8;
        Least {
            fault,
            worst,
            survivors,
            margin: i16::from(survivors) - i16::from(self.data),
        }
    }
}

/// What sites of a layout share, as the charter names it. A site that shares with nobody is a domain too: one country may
/// hold one site.
fn domains(records: &[SiteRecord], layout: &[SiteId]) -> Vec<FaultSet> {
    let mut found: BTreeMap<(&'static str, &str), BTreeSet<SiteId>> = BTreeMap::new();
    for record in records.iter().filter(|record| layout.contains(&record.id)) {
        let single = [
            ("country", record.country.as_deref()),
            ("region", record.region.as_deref()),
            ("operator", record.operator.as_deref()),
            ("iam-realm", record.iam_realm.as_deref()),
        ];
        let single = single.into_iter().filter_map(|(kind, name)| Some((kind, name?)));
        let reach = record.legal_reach.iter().flatten();
        for key in single.chain(reach.map(|name| ("legal-reach", name.as_str()))) {
            found.entry(key).or_default().insert(record.id);
        }
    }
    let set = |((kind, name), sites): ((&'static str, &str), BTreeSet<SiteId>)| FaultSet::Domain {
        kind,
        name: name.to_owned(),
        sites,
    };
    found.into_iter().map(set).collect()
}

#[cfg(test)]
mod tests {
    use exclave_model::{Hosting, Pace};
    use proptest::prelude::*;

    use super::*;

    fn site(number: u8) -> SiteId {
        SiteId::from_bytes([number; 16])
    }

    fn record(number: u8, country: &str, reach: &[&str]) -> SiteRecord {
        SiteRecord {
            id: site(number),
            name: format!("s{number}"),
            hosting: Hosting::OnPrem,
            pace: Pace::Primary,
            country: Some(country.to_owned()),
            region: None,
            operator: None,
            legal_reach: Some(reach.iter().map(|name| (*name).to_owned()).collect()),
            iam_realm: None,
        }
    }

    #[test]
    fn the_margin_is_that_of_the_worst_stripe_and_set() {
        let layout: Vec<SiteId> = (0..5).map(site).collect();
        let mut survivors = Survivors::default();
        survivors.add(
            &layout,
            2,
            1,
            Pattern {
                shown: 0b11111,
                gone: 0,
            },
            1,
        );
        survivors.add(
            &layout,
            2,
            1,
            Pattern {
                shown: 0b01101,
                gone: 0b10010,
            },
            1,
        );
        survivors.add(
            &layout,
            2,
            1,
            Pattern {
                shown: 0b00001,
                gone: 0b01110,
            },
            1,
        );
        survivors.add(
            &layout,
            2,
            1,
            Pattern {
                shown: 0b00001,
                gone: 0b11110,
            },
            1,
        );
        assert_eq!(
            (survivors.stripes, survivors.unproven, survivors.unrecoverable),
            (4, 1, 1)
        );
        let records = [record(0, "ee", &["us"]), record(1, "ee", &[]), record(2, "lu", &["us"])];
        let placements = survivors.placements(&records);
        let [placement] = placements.as_slice() else {
            panic!("one layout")
        };
        assert_eq!((placement.least_shown, placement.stripes), (1, 4));
        let least: Vec<(u8, i16)> = placement
            .faults
            .iter()
            .map(|least| (least.survivors, least.margin))
            .collect();
        // Any one site; ee (0 and 1); lu (2); reach of us (0 and 2).
        assert_eq!(least, [(0, -2), (0, -2), (1, -1), (0, -2)]);
        assert_eq!(placement.faults[0].worst, [site(0)]);
    }

    proptest! {
        /// The shortcut for "any f sites" against every set.
        #[test]
        fn any_f_sites_are_enumerated_right(patterns in proptest::collection::vec(0u32..64, 1..6), losses in 0u8..4) {
            let layout: Vec<SiteId> = (0..6).map(site).collect();
            let mut survivors = Survivors::default();
            for shown in &patterns {
                survivors.add(&layout, 3, losses, Pattern { shown: *shown, gone: 0 }, 1);
            }
            let sets = (0u32..64).filter(|lost| lost.count_ones() == u32::from(losses));
            let brute = sets.flat_map(|lost| patterns.iter().map(move |shown| (shown & !lost).count_ones())).min().unwrap();
            let placement = survivors.placements(&[]).remove(0);
            prop_assert_eq!(u32::from(placement.faults[0].survivors), brute);
            prop_assert!(placement.faults[0].worst.len() <= usize::from(losses));
        }
    }

    #[test]
    fn patterns_beyond_the_cap_only_look_worse() {
        let layout: Vec<SiteId> = (0..16).map(site).collect();
        let mut survivors = Survivors::default();
        for shown in 0xE000..0xFFFF {
            survivors.add(&layout, 2, 1, Pattern { shown, gone: 0 }, 1);
        }
        let placement = survivors.placements(&[]).remove(0);
        assert!(placement.least_shown <= 3);
        assert_eq!(survivors.unproven, 0);
    }
}
