//! Who holds a recovery key in parts: the public record of one split (FORMAT.md section 17).
//!
//! A recovery key is shared among custodians by Shamir's scheme, in one group (t of m) or in two levels: a threshold of
//! groups, each with a threshold of its own. The set says which custodian holds which share and commits to every share
//! and to every group's secret, so that a bad share is known by itself, before any is combined. It holds no secret.

use minicbor::{Decode, Encode};

use crate::{
    charter::by_word,
    id::{Commitment, RecipientId, ShareSetId},
    wire::{Record, Rule, Version1},
};

/// Most groups of a set, and most custodians of a group: a place fits four bits, and no one calls more people together.
pub const PLACES_MAX: usize = 16;

/// Fewest shares that open anything: with one, a single person could.
pub const THRESHOLD_MIN: u8 = 2;

/// Longest name of a custodian or a group, in bytes.
pub const CUSTODY_NAME_BYTES_MAX: usize = 80;

/// Longest share set: 256 custodians with the longest names.
pub const SHARE_SET_BYTES_MAX: usize = 64 << 10;

/// Whose body a custodian is.
///
/// The last two exist so that a request for one can be written down and refused: ciphertext may lie there, shares of the
/// key may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Body {
    /// The state's own: a ministry, an office, an embassy of its own.
    #[n(0)]
    National,
    /// An ally's.
    #[n(1)]
    Allied,
    /// An organisation of allied states.
    #[n(2)]
    International,
    /// A foreign hyperscale cloud. Never a custodian.
    #[n(3)]
    Hyperscale,
    /// Neither the state's nor an ally's. Never a custodian.
    #[n(4)]
    NonAllied,
}

impl Body {
    /// Every kind, in order.
    pub const ALL: &'static [Self] = &[
        Self::National,
        Self::Allied,
        Self::International,
        Self::Hyperscale,
        Self::NonAllied,
    ];

    /// The word in settings and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::National => "national",
            Self::Allied => "allied",
            Self::International => "international",
            Self::Hyperscale => "hyperscale",
            Self::NonAllied => "non-allied",
        }
    }

    /// May it hold a share?
    pub const fn may_hold_a_share(self) -> bool {
        match self {
            Self::National | Self::Allied | Self::International => true,
            Self::Hyperscale | Self::NonAllied => false,
        }
    }
}

impl std::fmt::Display for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Body {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_word(Self::ALL, Self::as_str, text)
    }
}

/// Who holds one share. Its x coordinate is its position in the group, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Custodian {
    /// A label that anyone may read.
    #[n(0)]
    pub name: String,
    /// Whose body it is.
    #[n(1)]
    pub body: Body,
    /// Commits to the share.
    #[n(2)]
    pub commitment: Commitment,
}

/// Custodians of whom a number is needed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CustodianGroup {
    /// A label that anyone may read.
    #[n(0)]
    pub name: String,
    /// t: how many of its shares give the group's secret.
    #[n(1)]
    pub threshold: u8,
    /// Commits to the group's secret; of an only group, to the recovery key's seed.
    #[n(2)]
    pub commitment: Commitment,
    /// Who holds the shares x = 1, 2, ...
    #[n(3)]
    pub custodians: Vec<Custodian>,
}

/// One split of one recovery key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ShareSet {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// Names the set; kept when the key is split anew.
    #[n(1)]
    pub id: ShareSetId,
    /// Raised when the key is split anew; shares of another epoch don't combine with these.
    #[n(2)]
    pub epoch: u32,
    /// The recovery key: what comes out must have this public key.
    #[n(3)]
    pub recipient: RecipientId,
    /// How many groups are needed; 1 when there is one.
    #[n(4)]
    pub threshold: u8,
    /// The groups.
    #[n(5)]
    pub groups: Vec<CustodianGroup>,
}

/// Where a share belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Position of the group, from 0.
    pub group: u8,
    /// The x coordinate: position of the custodian in the group, from 1.
    pub x: u8,
}

impl ShareSet {
    /// The group and the custodian of a place.
    pub fn at(&self, place: Place) -> Option<(&CustodianGroup, &Custodian)> {
        let group = self.groups.get(usize::from(place.group))?;
        let custodian = group.custodians.get(usize::from(place.x).checked_sub(1)?)?;
        Some((group, custodian))
    }

    /// Every place, group by group.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        (0..=u8::MAX).zip(&self.groups).flat_map(|(group, members)| {
            (1..=u8::MAX)
                .zip(&members.custodians)
                .map(move |(x, _)| Place { group, x })
        })
    }

    /// What is needed, in words: `2 of 3 national offices and 2 of 4 allied embassies`.
    pub fn in_words(&self) -> String {
        let groups: Vec<String> = self
            .groups
            .iter()
            .map(|group| format!("{} of {} {}", group.threshold, group.custodians.len(), group.name))
            .collect();
        match usize::from(self.threshold) == groups.len() {
            true => groups.join(" and "),
            false => format!("{} of these groups: {}", self.threshold, groups.join("; ")),
        }
    }
}

impl Record for ShareSet {
    const KIND: &'static str = "share set";
    const BYTES_MAX: usize = SHARE_SET_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        let counts = || {
            let custodians = self.groups.iter().map(|group| group.custodians.len());
            std::iter::once(self.groups.len()).chain(custodians)
        };
        if counts().any(|count| count == 0) {
            return Err(Rule::new("bad-record", "a list of the share set is empty"));
        }
        if let Some(count) = counts().find(|count| *count > PLACES_MAX) {
            return Err(Rule::new(
                "too-long",
                format!("{count} groups or custodians, at most 16 fit"),
            ));
        }
        let least = if self.groups.len() == 1 { 1 } else { THRESHOLD_MIN };
        threshold("groups", self.threshold, least, self.groups.len())?;
        if self.groups.len() == 1 && self.threshold != 1 {
            return Err(Rule::new("bad-threshold", "one group, and more than one is asked for"));
        }
        for group in &self.groups {
            threshold(&group.name, group.threshold, THRESHOLD_MIN, group.custodians.len())?;
        }
        self.names()?;
        let custodians = || self.groups.iter().flat_map(|group| &group.custodians);
        match custodians().find(|custodian| !custodian.body.may_hold_a_share()) {
            None => Ok(()),
            Some(Custodian { name, body, .. }) => Err(Rule::new(
                "bad-custodian",
                format!("{name} is a {body} body: no share of a recovery key may lie there"),
            )),
        }
    }
}

impl ShareSet {
    fn names(&self) -> Result<(), Rule> {
        let groups = self.groups.iter().map(|group| &group.name);
        let custodians = || self.groups.iter().flat_map(|group| &group.custodians);
        let bad = |name: &&String| !custody_name(name);
        if let Some(name) = groups.clone().chain(custodians().map(|one| &one.name)).find(bad) {
            let text = format!("{name:?} is no name of a group or custodian: 1 to 80 bytes without control characters");
            return Err(Rule::new("bad-record", text));
        }
        let mut seen = std::collections::BTreeSet::new();
        if let Some(name) = groups.clone().find(|name| !seen.insert(*name)) {
            return Err(Rule::new("bad-record", format!("two groups are called {name}")));
        }
        let mut seen = std::collections::BTreeSet::new();
        match custodians().find(|custodian| !seen.insert(&custodian.name)) {
            None => Ok(()),
            Some(custodian) => {
                let text = format!("{} stands twice: one custodian holds one share", custodian.name);
                Err(Rule::new("bad-record", text))
            }
        }
    }
}

/// True for a name that can be shown: 1 to 80 bytes, no control characters.
pub fn custody_name(name: &str) -> bool {
    (1..=CUSTODY_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn threshold(what: &str, found: u8, least: u8, of: usize) -> Result<(), Rule> {
    if found >= least && usize::from(found) <= of {
        return Ok(());
    }
    let text = format!("{what}: a threshold of {found} of {of}; it must be from {least} to {of}");
    Err(Rule::new("bad-threshold", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, threshold: u8, of: u8) -> CustodianGroup {
        CustodianGroup {
            name: name.to_owned(),
            threshold,
            commitment: Commitment::from_bytes([1; 32]),
            custodians: (1..=of)
                .map(|x| Custodian {
                    name: format!("{name} {x}"),
                    body: Body::National,
                    commitment: Commitment::from_bytes([x; 32]),
                })
                .collect(),
        }
    }

    fn set(threshold: u8, groups: Vec<CustodianGroup>) -> ShareSet {
        ShareSet {
            format: Version1,
            id: ShareSetId::from_bytes([7; 8]),
            epoch: 1,
            recipient: RecipientId::from_bytes([9; 32]),
            threshold,
            groups,
        }
    }

    #[test]
    fn lawful_sets_read_back() {
        for good in [
            set(1, vec![group("all", 2, 2)]),
            set(1, vec![group("all", 16, 16)]),
            set(2, vec![group("a", 2, 3), group("b", 2, 4)]),
        ] {
            let bytes = good.to_bytes().unwrap();
            assert_eq!(ShareSet::from_bytes(&bytes).unwrap(), good);
            let places = good.groups.iter().map(|group| group.custodians.len()).sum::<usize>();
            assert_eq!(good.places().filter(|place| good.at(*place).is_some()).count(), places);
        }
        let two = set(2, vec![group("offices", 2, 3), group("embassies", 2, 4)]);
        assert_eq!(two.in_words(), "2 of 3 offices and 2 of 4 embassies");
        assert_eq!(two.at(Place { group: 0, x: 0 }), None);
        assert_eq!(two.at(Place { group: 2, x: 1 }), None);
        let sixteen: Vec<_> = (0..16).map(|at| group(&format!("{at:080}")[..70], 16, 16)).collect();
        assert_eq!(
            set(16, sixteen).law().map_err(|rule| rule.kind),
            Err("bad-record"),
            "one name"
        );
        let longest = |at| CustodianGroup {
            custodians: (1..=16)
                .map(|x| Custodian {
                    name: format!("{at:040}{x:040}"),
                    body: Body::Allied,
                    commitment: Commitment::from_bytes([x; 32]),
                })
                .collect(),
            ..group(&format!("{at:080}"), 16, 16)
        };
        assert!(set(16, (0..16).map(longest).collect()).to_bytes().is_ok());
    }

    #[test]
    fn every_rule_refuses() {
        let refused = |set: ShareSet| set.law().unwrap_err().kind;
        let with = |change: &dyn Fn(&mut CustodianGroup)| {
            let mut one = group("all", 2, 3);
            change(&mut one);
            refused(set(1, vec![one]))
        };
        assert_eq!(refused(set(1, vec![])), "bad-record");
        assert_eq!(refused(set(1, vec![group("a", 2, 0)])), "bad-record");
        assert_eq!(refused(set(1, vec![group("a", 2, 17)])), "too-long");
        assert_eq!(
            refused(set(2, (0..17).map(|at| group(&at.to_string(), 2, 2)).collect())),
            "too-long"
        );
        for (threshold, groups) in [(0, 1), (2, 1), (1, 2), (3, 2), (0, 2)] {
            let groups = (0..groups).map(|at| group(&at.to_string(), 2, 2)).collect();
            assert_eq!(refused(set(threshold, groups)), "bad-threshold", "{threshold}");
        }
        for threshold in [0, 1, 4, 255] {
            assert_eq!(
                with(&|group| group.threshold = threshold),
                "bad-threshold",
                "{threshold}"
            );
        }
        for name in ["", "a\nb", "\u{1b}[1m", &"x".repeat(81)] {
            assert_eq!(
                with(&|group| name.clone_into(&mut group.name)),
                "bad-record",
                "{name:?}"
            );
            assert_eq!(
                with(&|group| name.clone_into(&mut group.custodians[1].name)),
                "bad-record"
            );
        }
        assert_eq!(
            with(&|group| group.custodians[2].name = "all 1".to_owned()),
            "bad-record"
        );
        assert_eq!(refused(set(2, vec![group("a", 2, 2), group("a", 2, 2)])), "bad-record");
        for body in [Body::Hyperscale, Body::NonAllied] {
            assert_eq!(with(&|group| group.custodians[0].body = body), "bad-custodian");
        }
        for body in Body::ALL {
            assert_eq!(body.as_str().parse(), Ok(*body));
        }
        assert!("cloud".parse::<Body>().is_err());
    }
}
