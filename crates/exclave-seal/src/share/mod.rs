//! A recovery key in the hands of several: split, written down for people, checked, combined (FORMAT.md section 17).
//!
//! [`fn@split`] divides a recovery identity among custodians by Shamir's scheme ([`shamir`]) and makes the public
//! [`ShareSet`], which commits to every share. A [`Share`] is 48 bytes. People keep it as words or as groups of digits
//! ([`text`]), typed back line by line, so that a mistake is known with its place. [`check`] looks at each share alone,
//! against its commitment and before any arithmetic, and says whose is no good and why; nothing is ever tried out.
//! [`Checked::combine`] then gives the identity, or an error when its public key isn't the one that was split.
//!
//! By wire a share travels wrapped for a ceremony's one-time key ([`CeremonyKey`]).
//!
//! What fewer than a threshold of shares say: nothing. The coefficients are uniform and fresh, so the missing values
//! can be any; the commitments hide uniform 32-byte values under a hash, as does the public key, which everyone knows.
//!
//! **Architecture Invariant:** a share's bytes leave this crate only as text made for people, or sealed.

mod combine;
pub(crate) mod file;
mod shamir;
mod split;
pub mod text;
mod wire;

use exclave_model::{Commitment, Place, ShareSet, ShareSetId, custody::PLACES_MAX};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::secret::{Secret, derive};

pub use self::{
    combine::{Checked, CombineError, Finding, Flaw, Lack, check},
    split::{GroupPlan, SplitError, SplitPlan, split},
    text::{Entry, Form, TextError},
    wire::{CeremonyKey, WireError, WrappedShare},
};

/// Bytes of a share: header and value.
pub const SHARE_BYTES: usize = HEADER_BYTES + VALUE_BYTES;
/// Bytes that say what a share is part of.
pub const HEADER_BYTES: usize = 16;
/// Bytes of the secret that is shared, and of each share's value.
const VALUE_BYTES: usize = 32;
/// The version of shares that this format defines.
const VERSION: u8 = 1;

/// What a share is part of: as public as the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareHeader {
    /// The set.
    pub set: ShareSetId,
    /// Which split of it.
    pub epoch: u32,
    /// How many groups are needed.
    pub groups_needed: u8,
    /// How many groups there are.
    pub groups: u8,
    /// Whose share it is.
    pub place: Place,
    /// t of the group.
    pub threshold: u8,
    /// m of the group.
    pub custodians: u8,
}

/// Why bytes are not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadShare {
    /// Another version.
    #[error("a share of version {0}; this program reads version 1")]
    Version(u8),
    /// Numbers that fit no set.
    #[error("not a share: its threshold, place or number of groups fits no set")]
    Numbers,
}

impl ShareHeader {
    /// Reads a header's bytes.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadShare> {
        let [version, set @ .., e0, e1, e2, e3, outer, place, inner] = *bytes;
        if version != VERSION {
            return Err(BadShare::Version(version));
        }
        let (high, low) = (|byte: u8| (byte >> 4) + 1, |byte: u8| (byte & 15) + 1);
        let header = Self {
            set: ShareSetId::from_bytes(set),
            epoch: u32::from_be_bytes([e0, e1, e2, e3]),
            groups_needed: high(outer),
            groups: low(outer),
            place: Place {
                group: high(place) - 1,
                x: low(place),
            },
            threshold: high(inner),
            custodians: low(inner),
        };
        let lawful = header.groups_needed <= header.groups
            && (header.groups == 1 || header.groups_needed > 1)
            && header.place.group < header.groups
            && (2..=header.custodians).contains(&header.threshold)
            && header.place.x <= header.custodians;
        if lawful { Ok(header) } else { Err(BadShare::Numbers) }
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        // Each count is from 1 to 16, so that one less fits four bits.
        let pair = |high: u8, low: u8| (high.wrapping_sub(1) << 4) | (low.wrapping_sub(1) & 15);
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(self.set.as_bytes());
        bytes[9..13].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[13] = pair(self.groups_needed, self.groups);
        bytes[14] = pair(self.place.group + 1, self.place.x);
        bytes[15] = pair(self.threshold, self.custodians);
        bytes
    }

    /// The header that a set gives its share at a place; `None` when the set has no such place.
    pub fn of(set: &ShareSet, place: Place) -> Option<Self> {
        let (group, _) = set.at(place)?;
        let count = |count: usize| u8::try_from(count).ok().filter(|_| count <= PLACES_MAX);
        Some(Self {
            set: set.id,
            epoch: set.epoch,
            groups_needed: set.threshold,
            groups: count(set.groups.len())?,
            place,
            threshold: group.threshold,
            custodians: count(group.custodians.len())?,
        })
    }
}

/// One custodian's share of a recovery key.
pub struct Share {
    header: ShareHeader,
    value: Secret<VALUE_BYTES>,
}

impl Share {
    /// A share of a value.
    pub(crate) fn new(header: ShareHeader, value: Secret<VALUE_BYTES>) -> Self {
        Self { header, value }
    }

    /// Reads a share's bytes.
    pub(crate) fn from_bytes(bytes: &[u8; SHARE_BYTES]) -> Result<Self, BadShare> {
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&bytes[..HEADER_BYTES]);
        let mut value = Zeroizing::new([0; VALUE_BYTES]);
        value.copy_from_slice(&bytes[HEADER_BYTES..]);
        Ok(Self::new(ShareHeader::from_bytes(&header)?, Secret::new(*value)))
    }

    /// Its bytes.
    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; SHARE_BYTES]> {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        bytes[..HEADER_BYTES].copy_from_slice(&self.header.to_bytes());
        bytes[HEADER_BYTES..].copy_from_slice(self.value.expose());
        bytes
    }

    /// What it is part of.
    pub fn header(&self) -> &ShareHeader {
        &self.header
    }

    /// What the set says of it. A value is uniform, so its hash tells nothing about it.
    pub fn commitment(&self) -> Commitment {
        let commitment = derive::<32>("exclave 2026 share commitment v1", &[&self.to_bytes()[..]]);
        Commitment::from_bytes(*commitment.expose())
    }

    /// True when this is the committed share; compared in constant time.
    pub fn fits(&self, commitment: &Commitment) -> bool {
        self.commitment().as_bytes().ct_eq(commitment.as_bytes()).into()
    }
}

/// What a set says of a group's secret.
fn group_commitment(header: &ShareHeader, secret: &Secret<VALUE_BYTES>) -> Commitment {
    let bytes = header.to_bytes();
    let (place, group) = (&bytes[..14], [header.place.group]);
    let commitment = derive::<32>("exclave 2026 group commitment v1", &[place, &group, secret.expose()]);
    Commitment::from_bytes(*commitment.expose())
}

#[cfg(test)]
mod tests;
