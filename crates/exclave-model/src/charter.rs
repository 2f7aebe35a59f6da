//! The root-signed constitution of an archive, and the plate on each site's door (FORMAT.md section 8).
//!
//! This is the minimal charter of one owner: one version, its roots, writers, recipients, sites and classes. Its hash is
//! the archive's [`Anchor`].

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::{
    context::PayloadLength,
    geometry::{Code, Geometry},
    id::{Anchor, KeyId, RecipientId, SiteId},
    limit::{RECORD_BYTES_MAX, STANZAS_MAX},
    signed::{PublicKey, SignedRecord},
    wire::{Record, Rule, Version1},
};

/// The version of charters that this format defines.
pub const CHARTER_VERSION: u32 = 1;

/// Bytes of an X-Wing public key (draft-connolly-cfrg-xwing-kem).
pub const RECIPIENT_KEY_BYTES: usize = 1216;

/// A public key that run keys are wrapped to.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientKey(Box<[u8; RECIPIENT_KEY_BYTES]>);

impl RecipientKey {
    /// Takes an X-Wing public key's bytes.
    pub fn from_bytes(bytes: [u8; RECIPIENT_KEY_BYTES]) -> Self {
        Self(Box::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; RECIPIENT_KEY_BYTES] {
        &self.0
    }

    /// The recipient's id.
    pub fn id(&self) -> RecipientId {
        RecipientId::from_bytes(*blake3::hash(&self.0[..]).as_bytes())
    }
}

impl std::fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecipientKey({})", self.id())
    }
}

crate::wire::boxed_bytes!(RecipientKey, RECIPIENT_KEY_BYTES);

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

macro_rules! numbered {
    ($name:ident { $($variant:ident = $number:literal : $text:literal),+ $(,)? }) => {
        impl $name {
            /// The number in charters.
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number),+ }
            }

            /// The word in settings and output.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().find(|value| value.as_str() == text).copied().ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    format!("expected one of {}, found {text:?}", words.join(", "))
                })
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.u8(self.number())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                decoder: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                match decoder.u8()? {
                    $($number => Ok(Self::$variant),)+
                    _ => Err(minicbor::decode::Error::message(concat!(stringify!($name), " has an unknown number"))),
                }
            }
        }
    };
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

/// How many bytes of each shard are read back before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReadBack {
    /// Its length and one random group.
    Group,
    /// Everything.
    Full,
}

numbered!(ReadBack { Group = 0: "group", Full = 1: "full" });

/// Who may vouch for the charter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Roots {
    /// How many must sign.
    #[n(0)]
    pub threshold: u32,
    /// The keys.
    #[n(1)]
    pub keys: Vec<PublicKey>,
}

/// Who may commit snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Writer {
    /// The key.
    #[n(0)]
    pub key: PublicKey,
    /// The classes it may write.
    #[n(1)]
    pub classes: Vec<u32>,
}

/// Whom run keys are wrapped to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct RecipientSet {
    /// Its number.
    #[n(0)]
    pub id: u32,
    /// Raised when someone leaves the set; runs of an older epoch are not reused.
    #[n(1)]
    pub crypto_epoch: u32,
    /// The keys.
    #[n(2)]
    pub keys: Vec<RecipientKey>,
}

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

/// How datasets of one kind are protected.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Class {
    /// Its number.
    #[n(0)]
    pub id: u32,
    #[n(1)]
    code: u8,
    #[n(2)]
    data: u8,
    #[n(3)]
    parity: u8,
    /// f: sites that may be lost after a commit.
    #[n(4)]
    pub losses: u8,
    /// b: sites that may lie at the same time.
    #[n(5)]
    pub liars: u8,
    #[n(6)]
    payload_bytes: u32,
    /// How shards are read back.
    #[n(7)]
    pub read_back: ReadBack,
    /// Whom its run keys are wrapped to.
    #[n(8)]
    pub recipient_set: u32,
}

/// What a class is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassPolicy {
    /// k and n.
    pub geometry: Geometry,
    /// f.
    pub losses: u8,
    /// b.
    pub liars: u8,
    /// Payload of a full shard.
    pub payload: PayloadLength,
    /// How shards are read back.
    pub read_back: ReadBack,
}

impl Class {
    /// A class of Reed-Solomon coded stripes.
    pub fn new(id: u32, recipient_set: u32, policy: ClassPolicy) -> Self {
        Self {
            id,
            code: Code::ReedSolomonVandermonde.number(),
            data: policy.geometry.data(),
            parity: policy.geometry.parity(),
            losses: policy.losses,
            liars: policy.liars,
            payload_bytes: policy.payload.bytes() as u32,
            read_back: policy.read_back,
            recipient_set,
        }
    }

    /// What the class demands; an error when a stranger's charter holds numbers that fit no stripe.
    pub fn policy(&self) -> Result<ClassPolicy, Rule> {
        Code::from_number(self.code).ok_or_else(|| Rule::new("bad-suite", format!("code {} is unknown", self.code)))?;
        let geometry =
            Geometry::new(self.data, self.parity).map_err(|bad| Rule::new("bad-geometry", bad.to_string()))?;
        let needed = u16::from(self.data) + u16::from(self.losses) + u16::from(self.liars);
        if needed > u16::from(geometry.total()) || self.liars >= self.data {
            return Err(Rule::new(
                "bad-geometry",
                format!("{geometry} can't lose {} sites with {} liars", self.losses, self.liars),
            ));
        }
        Ok(ClassPolicy {
            geometry,
            losses: self.losses,
            liars: self.liars,
            payload: PayloadLength::new(self.payload_bytes as usize, self.data)?,
            read_back: self.read_back,
        })
    }
}

/// The constitution of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Charter {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The charter's own version, from 1.
    #[n(1)]
    pub version: u32,
    /// Hash of the version before.
    #[n(2)]
    pub previous: Option<Anchor>,
    /// When it was made: Unix seconds.
    #[n(3)]
    pub created: i64,
    /// Who vouches for it.
    #[n(4)]
    pub roots: Roots,
    /// Who writes.
    #[n(5)]
    pub writers: Vec<Writer>,
    /// Who reads.
    #[n(6)]
    pub recipient_sets: Vec<RecipientSet>,
    /// Where.
    #[n(7)]
    pub sites: Vec<SiteRecord>,
    /// How.
    #[n(8)]
    pub classes: Vec<Class>,
    /// Makes two owners' charters differ.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
}

impl Charter {
    /// The recipient set of a class.
    pub fn recipients_of(&self, class: &Class) -> Option<&RecipientSet> {
        self.recipient_sets.iter().find(|set| set.id == class.recipient_set)
    }

    /// The class with a number.
    pub fn class(&self, id: u32) -> Option<&Class> {
        self.classes.iter().find(|class| class.id == id)
    }

    /// The writer with a key.
    pub fn writer(&self, key: KeyId) -> Option<&Writer> {
        self.writers.iter().find(|writer| writer.key.id() == key)
    }

    /// The site with an id.
    pub fn site(&self, id: SiteId) -> Option<&SiteRecord> {
        self.sites.iter().find(|site| site.id == id)
    }
}

impl Record for Charter {
    const KIND: &'static str = "charter";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        let broken = |kind, text: &str| Err(Rule::new(kind, text));
        self.no_list_is_empty()?;
        if self.version != CHARTER_VERSION {
            return broken("bad-version", "this program reads charter version 1 only");
        }
        if self.previous.is_some() {
            return broken("bad-record", "charter version 1 has no predecessor");
        }
        if self.roots.threshold == 0 || self.roots.threshold as usize > self.roots.keys.len() {
            return broken(
                "bad-record",
                "the root threshold is not between 1 and the number of roots",
            );
        }
        for class in &self.classes {
            class.policy()?;
        }
        self.nothing_stands_twice()?;
        if !self.sites.iter().all(|site| site_name(&site.name)) {
            return broken("bad-record", "a site's name is not 1 to 40 of a-z, 0-9 and -");
        }
        if self.classes.iter().any(|class| self.recipients_of(class).is_none()) {
            return broken("bad-record", "a class names a recipient set that is not there");
        }
        if self.recipient_sets.iter().any(|set| set.keys.len() > STANZAS_MAX) {
            return broken("too-long", "a recipient set has more than 32 recipients");
        }
        Ok(())
    }
}

impl Charter {
    fn no_list_is_empty(&self) -> Result<(), Rule> {
        let empty = self.roots.keys.is_empty()
            || self.writers.is_empty()
            || self.writers.iter().any(|writer| writer.classes.is_empty())
            || self.recipient_sets.is_empty()
            || self.recipient_sets.iter().any(|set| set.keys.is_empty())
            || self.sites.is_empty()
            || self
                .sites
                .iter()
                .any(|site| site.legal_reach.as_ref().is_some_and(Vec::is_empty))
            || self.classes.is_empty();
        match empty {
            true => Err(Rule::new("bad-record", "a list of the charter is empty")),
            false => Ok(()),
        }
    }

    /// Lists may stand in any order, but what names something in them stands once.
    fn nothing_stands_twice(&self) -> Result<(), Rule> {
        let doubled = [
            ("roots", doubled(self.roots.keys.iter().map(PublicKey::id))),
            ("writers", doubled(self.writers.iter().map(|writer| writer.key.id()))),
            ("recipient sets", doubled(self.recipient_sets.iter().map(|set| set.id))),
            ("sites", doubled(self.sites.iter().map(|site| site.id))),
            ("classes", doubled(self.classes.iter().map(|class| class.id))),
            (
                "recipients of one set",
                self.recipient_sets
                    .iter()
                    .any(|set| doubled(set.keys.iter().map(RecipientKey::id))),
            ),
        ];
        match doubled.iter().find(|(_, doubled)| *doubled) {
            Some((what, _)) => Err(Rule::new("bad-record", format!("two of the {what} are the same"))),
            None => Ok(()),
        }
    }
}

fn doubled<T: Ord>(ids: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    ids.into_iter().any(|id| !seen.insert(id))
}

impl SignedRecord for Charter {
    const TYPE: &'static str = "exclave charter v1";
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Class 9 with set 4, class 8 with set 5; the one writer may write class 9.
    pub(crate) fn charter() -> Charter {
        let class = |id, set| {
            let policy = ClassPolicy {
                geometry: Geometry::new(2, 1).unwrap(),
                losses: 1,
                liars: 0,
                payload: PayloadLength::new(64 << 10, 2).unwrap(),
                read_back: ReadBack::Full,
            };
            Class::new(id, set, policy)
        };
        let site = |id: u8| SiteRecord {
            id: SiteId::from_bytes([id; 16]),
            name: format!("site-{id}"),
            hosting: Hosting::OnPrem,
            pace: Pace::Primary,
            country: None,
            region: None,
            operator: None,
            legal_reach: None,
            iam_realm: None,
        };
        let set = |id| RecipientSet {
            id,
            crypto_epoch: 0,
            keys: vec![RecipientKey::from_bytes([7; RECIPIENT_KEY_BYTES])],
        };
        let key = |byte| PublicKey::from_bytes([byte; crate::signed::PUBLIC_KEY_BYTES]);
        Charter {
            format: Version1,
            version: 1,
            previous: None,
            created: 0,
            roots: Roots {
                threshold: 1,
                keys: vec![key(2), key(1)],
            },
            writers: vec![Writer {
                key: key(3),
                classes: vec![9],
            }],
            recipient_sets: vec![set(5), set(4)],
            sites: vec![site(2), site(1)],
            classes: vec![class(9, 4), class(8, 5)],
            nonce: [0; 16],
        }
    }

    fn kind_of(change: impl FnOnce(&mut Charter)) -> &'static str {
        let mut charter = charter();
        change(&mut charter);
        charter.law().unwrap_err().kind
    }

    #[test]
    fn lists_stand_in_any_order() {
        let bytes = charter().to_bytes().unwrap();
        assert_eq!(Charter::from_bytes(&bytes).unwrap(), charter());
    }

    #[test]
    fn nothing_is_doubled_empty_or_missing() {
        type Change = fn(&mut Charter);
        let doubled: [Change; 6] = [
            |charter| charter.roots.keys.push(charter.roots.keys[0].clone()),
            |charter| charter.writers.push(charter.writers[0].clone()),
            |charter| charter.recipient_sets[1].id = 5,
            |charter| charter.sites[1].id = charter.sites[0].id,
            |charter| charter.classes[1].id = 9,
            |charter| charter.recipient_sets[0].keys = vec![charter.recipient_sets[0].keys[0].clone(); 2],
        ];
        let empty: [Change; 6] = [
            |charter| charter.writers.clear(),
            |charter| charter.writers[0].classes.clear(),
            |charter| charter.recipient_sets[0].keys.clear(),
            |charter| charter.sites.clear(),
            |charter| charter.sites[0].legal_reach = Some(Vec::new()),
            |charter| charter.classes.clear(),
        ];
        for change in doubled.into_iter().chain(empty) {
            assert_eq!(kind_of(change), "bad-record");
        }
        assert_eq!(kind_of(|charter| charter.classes[0].recipient_set = 6), "bad-record");
        assert_eq!(kind_of(|charter| charter.roots.threshold = 3), "bad-record");
        assert_eq!(
            kind_of(|charter| charter.sites[0].name = "Site".to_owned()),
            "bad-record"
        );
        assert_eq!(kind_of(|charter| charter.version = 2), "bad-version");
        assert_eq!(kind_of(|charter| charter.classes[0].code = 2), "bad-suite");
        let many = |byte: u8| RecipientKey::from_bytes([byte; RECIPIENT_KEY_BYTES]);
        assert_eq!(
            kind_of(|charter| charter.recipient_sets[0].keys = (0..33).map(many).collect()),
            "too-long"
        );
    }
}
