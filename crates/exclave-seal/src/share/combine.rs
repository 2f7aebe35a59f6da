//! Checking shares one by one, and combining those that are good.

use exclave_model::{Place, RecipientId, ShareSet};
use subtle::ConstantTimeEq as _;

use super::{Share, ShareHeader, VALUE_BYTES, group_commitment, shamir};
use crate::{envelope::RecoveryIdentity, secret::Secret};

/// What is wrong with a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Of another set.
    #[error("foreign: it is a share of another set")]
    Foreign,
    /// Of a split before this one.
    #[error("outdated: it is of epoch {found}, the key was split anew in epoch {wanted}")]
    Outdated {
        /// The share's epoch.
        found: u32,
        /// The set's.
        wanted: u32,
    },
    /// Of a later split than this set.
    #[error("newer than the share set: it is of epoch {found}, the set of epoch {wanted}; bring the newest set")]
    Newer {
        /// The share's epoch.
        found: u32,
        /// The set's.
        wanted: u32,
    },
    /// It names a place that the set doesn't have, or other thresholds.
    #[error("wrong: its place and thresholds are not those of the set")]
    Wrong,
    /// It isn't the share that was given to this custodian.
    #[error("altered: it is not the share that was given out, or was typed wrongly")]
    Altered,
    /// The same share a second time.
    #[error("repeated: the same share was given before")]
    Repeated,
}

/// A share that is no good, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Position in the list that was given.
    pub share: usize,
    /// The place that it claims.
    pub place: Place,
    /// Who has that place in the set; `None` for a foreign share, and for a place that isn't there.
    pub custodian: Option<String>,
    /// What is wrong.
    pub flaw: Flaw,
}

/// A group and the good shares there are of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The group.
    pub group: String,
    /// Good shares.
    pub has: usize,
    /// t.
    pub needs: usize,
}

/// Shares that were looked at.
pub struct Checked<'a> {
    set: &'a ShareSet,
    /// By group; ascending x within.
    good: Vec<Vec<&'a Share>>,
    findings: Vec<Finding>,
}

/// Why shares that are each good give no key.
#[derive(Debug, thiserror::Error)]
pub enum CombineError {
    /// Too few.
    #[error("too few shares: {}", lacks(.groups, *.needed))]
    TooFew {
        /// How many groups are needed.
        needed: u8,
        /// Every group.
        groups: Vec<Lack>,
    },
    /// The shares of a group are what was committed to, and their secret isn't.
    #[error("the shares of {0} do not give what the set commits to: the key was not split as the set says")]
    Group(String),
    /// Another key.
    #[error("the shares give another key than recipient {wanted}: its public key is {found}")]
    WrongKey {
        /// The set's.
        wanted: RecipientId,
        /// What came out.
        found: RecipientId,
    },
}

/// Looks at each share alone. Findings stand in the order of the shares.
pub fn check<'a>(set: &'a ShareSet, shares: &[&'a Share]) -> Checked<'a> {
    let mut checked = Checked {
        set,
        good: set.groups.iter().map(|_| Vec::new()).collect(),
        findings: Vec::new(),
    };
    for (at, share) in shares.iter().enumerate() {
        if let Err(flaw) = checked.take(share) {
            let place = share.header().place;
            let ours = !matches!(flaw, Flaw::Foreign);
            let custodian = set
                .at(place)
                .filter(|_| ours)
                .map(|(_, custodian)| custodian.name.clone());
            checked.findings.push(Finding {
                share: at,
                place,
                custodian,
                flaw,
            });
        }
    }
    for good in &mut checked.good {
        good.sort_by_key(|share| share.header().place);
    }
    checked
}

impl<'a> Checked<'a> {
    /// The cheapest question first; the commitment decides.
    fn take(&mut self, share: &'a Share) -> Result<(), Flaw> {
        let (header, wanted) = (share.header(), self.set.epoch);
        let found = header.epoch;
        if header.set != self.set.id {
            return Err(Flaw::Foreign);
        }
        if found < wanted {
            return Err(Flaw::Outdated { found, wanted });
        }
        if found > wanted {
            return Err(Flaw::Newer { found, wanted });
        }
        let expected = ShareHeader::of(self.set, header.place);
        let place = self.set.at(header.place);
        let (Some((_, custodian)), true) = (place, expected.as_ref() == Some(header)) else {
            return Err(Flaw::Wrong);
        };
        if !share.fits(&custodian.commitment) {
            return Err(Flaw::Altered);
        }
        let Some(good) = self.good.get_mut(usize::from(header.place.group)) else {
            return Err(Flaw::Wrong);
        };
        if good.iter().any(|other| other.header().place == header.place) {
            return Err(Flaw::Repeated);
        }
        good.push(share);
        Ok(())
    }

    /// Shares that are no good.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Places of the good ones.
    pub fn good(&self) -> impl Iterator<Item = Place> {
        self.good.iter().flatten().map(|share| share.header().place)
    }

    /// What there is of each group.
    pub fn groups(&self) -> Vec<Lack> {
        let groups = self.set.groups.iter().zip(&self.good);
        groups
            .map(|(group, good)| Lack {
                group: group.name.clone(),
                has: good.len(),
                needs: usize::from(group.threshold),
            })
            .collect()
    }

    /// True when there are enough.
    pub fn is_enough(&self) -> bool {
        let complete = self.groups().iter().filter(|group| group.has >= group.needs).count();
        complete >= usize::from(self.set.threshold)
    }

    /// The identity. Combines the good shares with the lowest x of the first groups that are complete; since each was
    /// checked alone, no other choice could give another answer.
    pub fn combine(&self) -> Result<RecoveryIdentity, CombineError> {
        if !self.is_enough() {
            return Err(CombineError::TooFew {
                needed: self.set.threshold,
                groups: self.groups(),
            });
        }
        let mut secrets: Vec<(u8, Secret<VALUE_BYTES>)> = Vec::new();
        for ((at, group), good) in (1..=u8::MAX).zip(&self.set.groups).zip(&self.good) {
            let threshold = usize::from(group.threshold);
            if good.len() < threshold || secrets.len() == usize::from(self.set.threshold) {
                continue;
            }
            let wrong = || CombineError::Group(group.name.clone());
            let chosen = good.iter().take(threshold);
            let header = good.first().ok_or_else(wrong)?.header();
            let secret =
                shamir::combine(chosen.map(|share| (share.header().place.x, &share.value))).ok_or_else(wrong)?;
            let found = group_commitment(header, &secret);
            if !bool::from(found.as_bytes().ct_eq(group.commitment.as_bytes())) {
                return Err(wrong());
            }
            secrets.push((at, secret));
        }
        let seed = match (self.set.groups.len(), secrets.pop()) {
            (1, Some((_, only))) => Some(only),
            (_, last) => shamir::combine(secrets.iter().chain(&last).map(|(at, secret)| (*at, secret))),
        };
        let seed = seed.ok_or_else(|| CombineError::Group("the groups".to_owned()))?;
        let identity = RecoveryIdentity::from_seed(seed);
        let found = identity.public().id();
        match found == self.set.recipient {
            true => Ok(identity),
            false => Err(CombineError::WrongKey {
                wanted: self.set.recipient,
                found,
            }),
        }
    }
}

/// What is there and what is needed, in words.
fn lacks(groups: &[Lack], needed: u8) -> String {
    let each: Vec<String> = groups
        .iter()
        .map(|lack| format!("{}: {} of the {} needed", lack.group, lack.has, lack.needs))
        .collect();
    match groups.len() {
        1 => each.concat(),
        _ => format!("{needed} groups are needed; {}", each.join("; ")),
    }
}
