//! Splitting a recovery identity among custodians.

use exclave_model::{
    Body, Commitment, Custodian, CustodianGroup, Place, RecipientId, Record as _, RecordError, ShareSet, ShareSetId,
    Version1,
};

use super::{CombineError, Share, ShareHeader, VALUE_BYTES, check, group_commitment, shamir};
use crate::{
    entropy::{Entropy, NoEntropy, draw},
    envelope::RecoveryIdentity,
    secret::Secret,
};

/// Custodians of whom a number is needed, before the split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// The group's name.
    pub name: String,
    /// How many of them are needed.
    pub threshold: u8,
    /// Names and bodies, in the order of their x.
    pub custodians: Vec<(String, Body)>,
}

/// Who is to hold a recovery key, before the split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitPlan {
    /// How many groups are needed; 1 when there is one.
    pub threshold: u8,
    /// The groups.
    pub groups: Vec<GroupPlan>,
    /// Id and epoch of the split before this one, whose shares are to be outdated.
    pub previous: Option<(ShareSetId, u32)>,
}

/// Why a key can't be split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The plan breaks a rule of the format.
    #[error("the plan can't be a share set")]
    Unlawful(#[from] RecordError),
    /// Split 2^32 times.
    #[error("the set's epochs are used up; begin a new set")]
    Epochs,
    /// What was split doesn't combine: this machine computes wrongly.
    #[error("the shares that were made do not combine to the key; nothing was given out")]
    SelfCheck(#[source] CombineError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl SplitPlan {
    /// The set that the plan leads to, with empty commitments: for a look at it, and for its law.
    pub fn draft(&self, recipient: RecipientId) -> Result<ShareSet, SplitError> {
        let nothing = Commitment::from_bytes([0; 32]);
        let (id, epoch) = match self.previous {
            None => (ShareSetId::from_bytes([0; 8]), 0),
            Some((id, epoch)) => (id, epoch.checked_add(1).ok_or(SplitError::Epochs)?),
        };
        let set = ShareSet {
            format: Version1,
            id,
            epoch,
            recipient,
            threshold: self.threshold,
            groups: self.groups.iter().map(|group| group.draft(nothing)).collect(),
        };
        // Writing it down checks it.
        set.to_bytes()?;
        Ok(set)
    }
}

impl GroupPlan {
    fn draft(&self, commitment: Commitment) -> CustodianGroup {
        let custodian = |(name, body): &(String, Body)| Custodian {
            name: name.clone(),
            body: *body,
            commitment,
        };
        CustodianGroup {
            name: self.name.clone(),
            threshold: self.threshold,
            commitment,
            custodians: self.custodians.iter().map(custodian).collect(),
        }
    }
}

/// Splits an identity. The shares stand in the order of [`ShareSet::places`]. Before they are given out the last t of each
/// group were combined and gave the identity's public key.
pub fn split(
    identity: &RecoveryIdentity,
    plan: &SplitPlan,
    entropy: &mut dyn Entropy,
) -> Result<(ShareSet, Vec<Share>), SplitError> {
    let mut set = plan.draft(identity.public().id())?;
    if plan.previous.is_none() {
        set.id = ShareSetId::from_bytes(draw(entropy)?);
    }
    let outer = match set.groups.len() {
        1 => vec![Secret::new(*identity.seed().expose())],
        // At most 16 groups by law.
        groups => shamir::split(identity.seed(), set.threshold, groups as u8, entropy)?,
    };
    let mut shares = Vec::new();
    for (group, secret) in (0..).zip(&outer) {
        shares.extend(split_group(&mut set, group, secret, entropy)?);
    }
    let mut last: Vec<&Share> = Vec::new();
    for (at, group) in set.groups.iter().enumerate() {
        let of_group = shares
            .iter()
            .filter(|share| usize::from(share.header.place.group) == at);
        last.extend(of_group.skip(group.custodians.len() - usize::from(group.threshold)));
    }
    check(&set, &last).combine().map_err(SplitError::SelfCheck)?;
    Ok((set, shares))
}

/// Shares a group's secret, and writes the commitments into the set.
fn split_group(
    set: &mut ShareSet,
    group: u8,
    secret: &Secret<VALUE_BYTES>,
    entropy: &mut dyn Entropy,
) -> Result<Vec<Share>, NoEntropy> {
    let mut shares = Vec::new();
    let places: Vec<Place> = set.places().filter(|place| place.group == group).collect();
    let Some(header) = places.first().and_then(|place| ShareHeader::of(set, *place)) else {
        return Ok(shares);
    };
    let values = shamir::split(secret, header.threshold, header.custodians, entropy)?;
    for (place, value) in places.into_iter().zip(values) {
        shares.push(Share::new(ShareHeader { place, ..header }, value));
    }
    if let Some(entry) = set.groups.get_mut(usize::from(group)) {
        entry.commitment = group_commitment(&header, secret);
        for (custodian, share) in entry.custodians.iter_mut().zip(&shares) {
            custodian.commitment = share.commitment();
        }
    }
    Ok(shares)
}
