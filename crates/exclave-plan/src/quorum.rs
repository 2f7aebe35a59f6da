//! How many sites make a commit, and what may be lost after it (DESIGN section 6, THREATS B6).
//!
//! All figures count the sites of one layout. n sites hold one shard each, any k shards restore; f of the sites may be
//! lost and b more may lie (hide what they hold, or serve garbage) at the same time.
//!
//! ```text
//! a = k + f + b                                      shards verified at commit: f are lost, b are garbage, k remain
//! q = max(n - k + b + 1, ceil((n + b + 1) / 2))      sites that hold the head: see below
//! r = n - q + b + 1                                  sites that must answer so that the newest head is surely seen
//! ```
//!
//! Two sets of x and y sites out of n share at least x + y - n. With the first term of q, any k survivors and the holders
//! of a head share more than b sites: one of them is honest and shows it. With the second, the holders of any two heads
//! share more than b: two writers can't both commit without an honest site having seen both. r follows from q, and as
//! q is at least n - k + b + 1, r is never more than k: whoever can restore can also know the newest head. Heads are
//! signed, so a liar can only hide them. The tests count all this out, set by set, for n up to 9.

use exclave_model::Geometry;

/// What a policy wants to survive, in sites of one layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tolerance {
    /// f: sites lost after a commit.
    pub losses: u8,
    /// b: sites that lie at the same time.
    pub liars: u8,
}

/// The figures that every commit and every restore of one class goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quorums {
    geometry: Geometry,
    tolerance: Tolerance,
    shards_at_commit: u8,
    heads: u8,
    answers: u8,
}

/// Why no commit could keep the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusedQuorum {
    /// b >= k: the liars alone could answer for everyone who is left.
    #[error("{geometry} can't stand {liars} lying sites: any {} may be all that is left", geometry.data())]
    TooManyLiars {
        /// k and n.
        geometry: Geometry,
        /// b.
        liars: u8,
    },
    /// a > n: more shards would have to be verified than there are.
    #[error("{geometry} can't lose {losses} sites with {liars} liars: {needed} shards are needed, it has {}", geometry.total())]
    TooManyLosses {
        /// k and n.
        geometry: Geometry,
        /// f.
        losses: u8,
        /// b.
        liars: u8,
        /// a.
        needed: u16,
    },
    /// Nothing to lay shards on.
    #[error("there is no site")]
    NoSites,
}

impl Quorums {
    /// The figures of a geometry. Without `losses`, as many as let one site be down at commit: f = n - k - b - 1. Where
    /// the head must reach every site anyway (q = n), no site may be down in any case; then keeping one shard in reserve
    /// would buy nothing, and f = n - k - b. Where that is negative f is 0, and all k + b shards are needed.
    pub fn new(geometry: Geometry, losses: Option<u8>, liars: u8) -> Result<Self, RefusedQuorum> {
        let [n, k, b] = [geometry.total(), geometry.data(), liars].map(u16::from);
        if b >= k {
            return Err(RefusedQuorum::TooManyLiars { geometry, liars });
        }
        let heads = (n - k + b + 1).max((n + b + 1).div_ceil(2));
        let reserve = u16::from(heads < n);
        let f = losses.map_or(n.saturating_sub(k + b + reserve), u16::from);
        // f came in as a u8, or is below n.
        let losses = f as u8;
        let needed = k + f + b;
        if needed > n {
            return Err(RefusedQuorum::TooManyLosses {
                geometry,
                losses,
                liars,
                needed,
            });
        }
        assert!(
            heads <= n,
            "b < k <= n, so q <= n: that rule needs no refusal of its own"
        );
        let answers = n - heads + b + 1;
        assert!(answers <= k, "q >= n - k + b + 1, so r <= k");
        Ok(Self {
            geometry,
            tolerance: Tolerance { losses, liars },
            // All three are at most n, which is a u8.
            shards_at_commit: needed as u8,
            heads: heads as u8,
            answers: answers as u8,
        })
    }

    /// k and n.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// f and b.
    pub fn tolerance(&self) -> Tolerance {
        self.tolerance
    }

    /// n: sites of the layout.
    pub fn sites(&self) -> u8 {
        self.geometry.total()
    }

    /// k: shards that restore a stripe.
    pub fn data(&self) -> u8 {
        self.geometry.data()
    }

    /// a: shards of every stripe that are verified before a snapshot counts as committed.
    pub fn shards_at_commit(&self) -> u8 {
        self.shards_at_commit
    }

    /// q: sites that hold the head, the envelope and the ledger of a committed snapshot.
    pub fn heads(&self) -> u8 {
        self.heads
    }

    /// r: sites that must answer completely, so that an honest one among them holds the newest head.
    pub fn answers(&self) -> u8 {
        self.answers
    }

    /// b + 1: sites that hold the envelope before the first shard is put, one of them honest.
    pub fn claims_before_shards(&self) -> u8 {
        self.tolerance.liars + 1
    }

    /// What these figures promise, in sites.
    pub fn describe(&self) -> Promise {
        let n = self.sites();
        Promise {
            quorums: *self,
            down_at_commit: n - self.shards_at_commit.max(self.heads),
            down_at_provisional: n - self.data().max(self.heads),
            lost_after_commit: self.tolerance.losses,
            lost_when_complete: self.geometry.parity() - self.tolerance.liars,
        }
    }
}

/// What may be down and what may be lost, as figures and, through `Display`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Promise {
    /// The figures behind it.
    pub quorums: Quorums,
    /// Sites that may be down while a snapshot is committed.
    pub down_at_commit: u8,
    /// Sites that may be down while a snapshot can still be written as provisional.
    pub down_at_provisional: u8,
    /// Sites that may be lost after a commit, however many were down then.
    pub lost_after_commit: u8,
    /// Sites that may be lost once every shard that was missing at commit has been added.
    pub lost_when_complete: u8,
}

impl std::fmt::Display for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Quorums {
            geometry, tolerance, ..
        } = self.quorums;
        let (n, k) = (geometry.total(), geometry.data());
        match geometry.parity() {
            0 => write!(f, "{geometry}: all of the {} are needed to restore.", sites(n))?,
            _ => write!(f, "{geometry}: any {k} of the {} restore.", sites(n))?,
        }
        match self.down_at_commit {
            0 => write!(f, " A commit needs every site.")?,
            down => write!(f, " A commit may find {} down.", sites(down))?,
        }
        if self.down_at_provisional > self.down_at_commit {
            write!(
                f,
                " With up to {} down it is provisional.",
                sites(self.down_at_provisional)
            )?;
        }
        match self.lost_after_commit {
            0 => write!(f, " Right after it no further loss is promised to be survived")?,
            lost => write!(f, " After it {} may be lost", sites(lost))?,
        }
        if self.lost_when_complete > self.lost_after_commit {
            write!(f, "; {} once every shard is stored", self.lost_when_complete)?;
        }
        match tolerance.liars {
            0 => write!(f, "."),
            liars => write!(f, "; and {} more may lie at the same time.", sites(liars)),
        }
    }
}

fn sites(count: u8) -> String {
    match count {
        1 => "1 site".to_owned(),
        count => format!("{count} sites"),
    }
}

/// Most sites that a default layout spreads over: beyond nine a further site adds cost sooner than safety, and serves
/// better as a spare.
pub const DEFAULT_SITES_MAX: u8 = 9;

/// The geometry and tolerance for a number of sites when nobody has chosen one (DESIGN section 6).
///
/// Without liars the data shards are 1, 1, 2, 2, 3, 4, 4, 5, 5 for one to nine sites, nine for more. Eight are 5+3: it
/// loses the same two sites after a commit as 4+3, at 1.6 instead of 1.75 times the data; 4+4 would lose three, for 2.0.
///
/// Each liar moves one site from data to parity, so that f stays what it was. k must be at least b + 1, and at least
/// b + 2 for one site to be down at commit (q = n - k + b + 1 < n), which takes 2 b + 3 sites.
pub fn default_geometry(site_count: u8, liars: u8) -> Result<(Geometry, Tolerance), RefusedQuorum> {
    let n = site_count.min(DEFAULT_SITES_MAX);
    let honest: u8 = match n {
        0 => return Err(RefusedQuorum::NoSites),
        1 | 2 => 1,
        3 | 4 => 2,
        5 => 3,
        6 | 7 => 4,
        _ => 5,
    };
    let data = match liars {
        0 => honest,
        b => {
            let least = if u16::from(n) >= 2 * u16::from(b) + 3 {
                b + 2
            } else {
                b.saturating_add(1)
            };
            honest.saturating_sub(b).max(least).min(n)
        }
    };
    #[expect(clippy::expect_used, reason = "1 <= data <= n <= 9 are a geometry")]
    let geometry = Geometry::new(data, n - data).expect("at most nine shards");
    Quorums::new(geometry, None, liars).map(|quorums| (geometry, quorums.tolerance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorums(k: u8, parity: u8, f: Option<u8>, b: u8) -> Result<Quorums, RefusedQuorum> {
        Quorums::new(Geometry::new(k, parity).unwrap(), f, b)
    }

    fn figures(k: u8, parity: u8, f: Option<u8>, b: u8) -> (u8, u8, u8, u8) {
        let quorums = quorums(k, parity, f, b).unwrap();
        (
            quorums.tolerance().losses,
            quorums.shards_at_commit(),
            quorums.heads(),
            quorums.answers(),
        )
    }

    /// Every set of `size` of n sites.
    fn sets(n: u8, size: u8) -> Vec<u16> {
        (0..1_u16 << n)
            .filter(|set| set.count_ones() == u32::from(size))
            .collect()
    }

    /// The smallest number of sites that a set of `x` and a set of `y` have in common, by counting.
    fn least_shared(n: u8, x: u8, y: u8) -> u32 {
        let (left, right) = (sets(n, x), sets(n, y));
        left.iter()
            .flat_map(|a| right.iter().map(move |b| (a & b).count_ones()))
            .min()
            .unwrap_or(0)
    }

    #[test]
    fn figures_are_those_of_the_design() {
        // (f, a, q, r), f by default: DESIGN section 6.
        assert_eq!(figures(2, 1, None, 0), (0, 2, 2, 2));
        assert_eq!(figures(2, 2, None, 0), (1, 3, 3, 2));
        assert_eq!(figures(3, 2, None, 0), (1, 4, 3, 3));
        assert_eq!(figures(4, 2, None, 0), (1, 5, 4, 3));
        assert_eq!(figures(3, 3, None, 0), (2, 5, 4, 3));
        assert_eq!(figures(4, 3, None, 0), (2, 6, 4, 4));
        assert_eq!(figures(5, 4, None, 0), (3, 8, 5, 5));
        assert_eq!(figures(4, 5, None, 1), (3, 8, 7, 4));
        // THREATS B6: 9,5 with f = 3 and b = 1 needs all nine.
        assert_eq!(figures(5, 4, Some(3), 1), (3, 9, 6, 5));
        // A mirror: both sites must hold the head, so both shards are demanded.
        assert_eq!(figures(1, 1, None, 0), (1, 2, 2, 1));
        assert_eq!(figures(1, 0, None, 0), (0, 1, 1, 1));
        assert_eq!(figures(4, 0, None, 0), (0, 4, 3, 2));
    }

    #[test]
    fn head_quorums_are_those_of_the_threat_table() {
        let table = [
            (3, 2, [Some(2), Some(3), None]),
            (5, 3, [Some(3), Some(4), Some(5)]),
            (6, 3, [Some(4), Some(5), Some(6)]),
            (7, 4, [Some(4), Some(5), Some(6)]),
            (9, 5, [Some(5), Some(6), Some(7)]),
            (9, 6, [Some(5), Some(6), Some(6)]),
        ];
        for (n, k, row) in table {
            for (b, expected) in (0..).zip(row) {
                let found = quorums(k, n - k, Some(0), b).ok().map(|quorums| quorums.heads());
                assert_eq!(found, expected, "n {n}, k {k}, b {b}");
            }
            assert!(
                quorums(k, n - k, Some(n - k - 1), 1).is_ok(),
                "n {n}, k {k}: greatest f with a liar"
            );
            assert!(quorums(k, n - k, Some(n - k), 1).is_err(), "n {n}, k {k}: one more");
        }
    }

    #[test]
    fn every_promise_holds_when_counted_out() {
        for n in 1..=9_u8 {
            let shared: Vec<Vec<u32>> = (0..=n)
                .map(|x| (0..=n).map(|y| least_shared(n, x, y)).collect())
                .collect();
            let least = |x: u8, y: u8| shared[usize::from(x)][usize::from(y)];
            for (k, b) in (1..=n).flat_map(|k| (0..k).map(move |b| (k, b))) {
                for f in 0..=n {
                    let Ok(quorums) = quorums(k, n - k, Some(f), b) else {
                        assert!(k + f + b > n, "{k} of {n}, f {f}, b {b} was refused without need");
                        continue;
                    };
                    let (q, r) = (quorums.heads(), quorums.answers());
                    let liars = u32::from(b);
                    assert!(least(q, k) > liars, "any k survivors see the head");
                    assert!(least(q, q) > liars, "two heads meet at an honest site");
                    assert!(least(q, r) > liars && r <= k, "r answers suffice, and k give them");
                    assert!(r == 1 || least(q, r - 1) <= liars, "r is the least that does");
                    assert!(
                        q == 1 || least(q - 1, k) <= liars || least(q - 1, q - 1) <= liars,
                        "so is q"
                    );
                    // Data: of the shards verified at commit f are lost and b are garbage.
                    assert_eq!(quorums.shards_at_commit() - f - b, k);
                    assert!(quorums.shards_at_commit() <= n && q <= n);
                }
            }
        }
    }

    #[test]
    fn refusals_name_the_rule() {
        let geometry = Geometry::new(2, 1).unwrap();
        assert_eq!(
            quorums(2, 1, None, 2),
            Err(RefusedQuorum::TooManyLiars { geometry, liars: 2 })
        );
        assert_eq!(
            quorums(2, 1, Some(2), 0),
            Err(RefusedQuorum::TooManyLosses {
                geometry,
                losses: 2,
                liars: 0,
                needed: 4
            })
        );
        assert_eq!(
            quorums(2, 1, Some(255), 1).unwrap_err().to_string(),
            "2+1 can't lose 255 sites with 1 liars: 258 shards are needed, it has 3"
        );
        assert!(quorums(32, 0, Some(0), 255).is_err());
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let written = |sites| {
            default_geometry(sites, 0)
                .map(|(geometry, _)| geometry.to_string())
                .unwrap()
        };
        let defaults: Vec<String> = (1..=9).map(written).collect();
        assert_eq!(
            defaults,
            ["1+0", "1+1", "2+1", "2+2", "3+2", "4+2", "4+3", "5+3", "5+4"]
        );
        assert_eq!(written(30), "5+4");
        assert_eq!(default_geometry(0, 0), Err(RefusedQuorum::NoSites));
        let with_liar = default_geometry(9, 1).unwrap();
        assert_eq!(
            with_liar,
            (Geometry::new(4, 5).unwrap(), Tolerance { losses: 3, liars: 1 })
        );
    }

    #[test]
    fn defaults_let_one_site_be_down_wherever_that_is_possible() {
        for n in 1..=9_u8 {
            for b in 0..=255_u8 {
                let Ok((geometry, tolerance)) = default_geometry(n, b) else {
                    assert!(u16::from(n) < 2 * u16::from(b) + 1, "{n} sites, {b} liars were refused");
                    continue;
                };
                assert_eq!((geometry.total(), tolerance.liars), (n, b));
                let promise = Quorums::new(geometry, Some(tolerance.losses), b).unwrap().describe();
                let possible = u16::from(n) >= 2 * u16::from(b) + 3;
                assert_eq!(promise.down_at_commit > 0, possible, "{n} sites, {b} liars: {promise}");
            }
        }
    }

    #[test]
    fn promises_read_as_sentences() {
        let words = |k, parity, b| quorums(k, parity, None, b).unwrap().describe().to_string();
        assert_eq!(
            words(4, 2, 0),
            "4+2: any 4 of the 6 sites restore. A commit may find 1 site down. With up to 2 sites down it is provisional. \
             After it 1 site may be lost; 2 once every shard is stored."
        );
        assert_eq!(
            words(4, 5, 1),
            "4+5: any 4 of the 9 sites restore. A commit may find 1 site down. With up to 2 sites down it is provisional. \
             After it 3 sites may be lost; 4 once every shard is stored; and 1 site more may lie at the same time."
        );
        assert_eq!(
            words(2, 1, 0),
            "2+1: any 2 of the 3 sites restore. A commit may find 1 site down. \
             Right after it no further loss is promised to be survived; 1 once every shard is stored."
        );
        assert_eq!(
            words(1, 1, 0),
            "1+1: any 1 of the 2 sites restore. A commit needs every site. After it 1 site may be lost."
        );
        assert_eq!(
            words(3, 0, 0),
            "3+0: all of the 3 sites are needed to restore. A commit needs every site. \
             Right after it no further loss is promised to be survived."
        );
    }
}
