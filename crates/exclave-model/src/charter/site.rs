//! Sites: what a charter says about an object store, and the plate on its door (FORMAT.md section 8).

use minicbor::{Decode, Encode};

use super::numbered::numbered;
use crate::{
    id::{Anchor, SiteId},
    limit::RECORD_BYTES_MAX,
    signed::SignedRecord,
    wire::{Record, Rule, Version1},
};

/// Whose hands a site is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hosting {
    /// A store on the premises of the owner or an ally.
    OnPrem,
    /// A cloud under sovereign control.
    Sovereign,
    /// A foreign hyperscale cloud.
    Hyperscale,
    /// A small field data centre.
    Tactical,
    /// A store under the owner's flag on an ally's soil.
    Embassy,
}

/// The order in which sites are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pace {
    /// Used first.
    Primary,
    /// Used when a primary site is down.
    Alternate,
    /// Used when both fail.
    Contingency,
    /// Used when everything else has failed.
    Emergency,
}

numbered!(Hosting {
    OnPrem = 0: "on-prem",
    Sovereign = 1: "sovereign",
    Hyperscale = 2: "hyperscale",
    Tactical = 3: "tactical",
    Embassy = 4: "embassy",
});
numbered!(Pace {
    Primary = 0: "primary",
    Alternate = 1: "alternate",
    Contingency = 2: "contingency",
    Emergency = 3: "emergency",
});

/// An object store somewhere, and what fails together with it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SiteRecord {
    /// Its id.
    #[n(0)]
    pub id: SiteId,
    /// Its short name: a-z, 0-9 and -.
    #[n(1)]
    pub name: String,
    /// Whose hands it is in.
    #[n(2)]
    pub hosting: Hosting,
    /// When it is used.
    #[n(3)]
    pub pace: Pace,
    /// Country, as the owner writes it.
    #[n(4)]
    pub country: Option<String>,
    /// Region: grid, city or cloud region.
    #[n(5)]
    pub region: Option<String>,
    /// Operator.
    #[n(6)]
    pub operator: Option<String>,
    /// Other states whose law binds the operator.
    #[n(7)]
    pub legal_reach: Option<Vec<String>>,
    /// The identity system that guards it.
    #[n(8)]
    pub iam_realm: Option<String>,
}

/// True for a short name of a site: 1 to 40 of a-z, 0-9 and -.
pub fn site_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Tells a stranger which site a store is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SitePlate {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The site.
    #[n(2)]
    pub site: SiteId,
}

impl Record for SitePlate {
    const KIND: &'static str = "site plate";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        Ok(())
    }
}

impl SignedRecord for SitePlate {
    const TYPE: &'static str = "exclave site v1";
}
