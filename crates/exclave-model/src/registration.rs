//! Datasets in their classes (FORMAT.md section 25): records of administrators, between one charter and the next.
//!
//! A class of the charter is the policy. An administrator of it adds a dataset by its opaque id, and may demand more for
//! that one: *tightens, never loosens*. Demands of all records of a dataset that count hold together, each at its strictest:
//! so whoever hides or withholds one, or signs two for one place, can make nothing looser than the others say.

use minicbor::{Decode, Encode};

use crate::{
    charter::{Charters, ClassPolicy, ReadBack},
    id::{Anchor, DatasetId, KeyId, RecordHash},
    signed::SignedRecord,
    wire::{Record, Rule, Version1},
};

/// Longest record of a dataset: some ten small fields.
pub const REGISTRATION_BYTES_MAX: usize = 1 << 10;

/// Longest object of one: the record, and one signature of 3.4 KiB.
pub const REGISTRATION_OBJECT_BYTES_MAX: usize = 8 << 10;

/// What is demanded of every commit of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// f: sites that may be lost after a commit.
    pub losses: u8,
    /// b: sites that may lie at the same time.
    pub liars: u8,
    /// How shards are read back.
    pub read_back: ReadBack,
}

impl Terms {
    /// What a class demands.
    pub fn of(policy: &ClassPolicy) -> Self {
        Self {
            losses: policy.losses,
            liars: policy.liars,
            read_back: policy.read_back,
        }
    }

    /// Whether these terms demand no less than others do, or the rule that names what they would loosen.
    pub fn tighten(&self, before: &Self) -> Result<(), Rule> {
        let loosened = |what: &str, now: String, was: String| {
            let text = format!("tightens-never-loosens: {what} {now} where {was} was demanded");
            Err(Rule::new("loosens", text))
        };
        if self.losses < before.losses {
            return loosened("losses", self.losses.to_string(), before.losses.to_string());
        }
        if self.liars < before.liars {
            return loosened("liars", self.liars.to_string(), before.liars.to_string());
        }
        match self.read_back < before.read_back {
            true => loosened("read-back", self.read_back.to_string(), before.read_back.to_string()),
            false => Ok(()),
        }
    }

    /// What both demand: of each the strictest.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self {
            losses: self.losses.max(other.losses),
            liars: self.liars.max(other.liars),
            read_back: self.read_back.max(other.read_back),
        }
    }
}

impl ClassPolicy {
    /// The policy under stricter terms; an error when no stripe of the class could meet them.
    pub fn under(&self, terms: &Terms) -> Result<Self, Rule> {
        let terms = Terms::of(self).join(terms);
        let needed = u16::from(self.geometry.data()) + u16::from(terms.losses) + u16::from(terms.liars);
        if needed > u16::from(self.geometry.total()) || terms.liars >= self.geometry.data() {
            let text = format!(
                "{} can't lose {} sites with {} liars",
                self.geometry, terms.losses, terms.liars
            );
            return Err(Rule::new("bad-geometry", text));
        }
        Ok(Self {
            losses: terms.losses,
            liars: terms.liars,
            read_back: terms.read_back,
            ..*self
        })
    }
}

/// A dataset in its class, and what is demanded for it alone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Registration {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The dataset.
    #[n(2)]
    pub dataset: DatasetId,
    /// Its place among the dataset's records, from 1.
    #[n(3)]
    pub version: u32,
    /// Hash of the record before; absent in the first.
    #[n(4)]
    pub previous: Option<RecordHash>,
    /// The charter that names the administrator.
    #[n(5)]
    pub charter_version: u32,
    /// The class. A dataset never leaves it.
    #[n(6)]
    pub class: u32,
    /// When it was signed, by the administrator's clock: Unix seconds.
    #[n(7)]
    pub created: i64,
    /// More sites that may be lost than the class says.
    #[n(8)]
    pub losses: Option<u8>,
    /// More sites that may lie than the class says.
    #[n(9)]
    pub liars: Option<u8>,
    /// A stricter read-back than the class says.
    #[n(10)]
    pub read_back: Option<ReadBack>,
}

impl Record for Registration {
    const KIND: &'static str = "dataset record";
    const BYTES_MAX: usize = REGISTRATION_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        if self.charter_version == 0 {
            return Err(Rule::new("wrong-charter", "charter versions begin with 1"));
        }
        match (self.version, self.previous) {
            (0, _) => Err(Rule::new("bad-version", "a dataset's records begin with 1")),
            (1, Some(_)) => Err(Rule::new("bad-record", "a dataset's first record has no predecessor")),
            (1, None) | (_, Some(_)) => Ok(()),
            (version, None) => Err(Rule::new(
                "bad-version",
                format!("record {version} of a dataset does not name the one before it"),
            )),
        }
    }
}

impl SignedRecord for Registration {
    const TYPE: &'static str = "exclave dataset v1";
}

impl Registration {
    /// What it demands, on top of a class's policy.
    pub fn terms(&self, class: &ClassPolicy) -> Terms {
        Terms {
            losses: self.losses.unwrap_or(class.losses),
            liars: self.liars.unwrap_or(class.liars),
            read_back: self.read_back.unwrap_or(class.read_back),
        }
    }

    /// Whether a key may say this: an administrator of the class in the charter that the record obeys, who demands no less
    /// than the class does there, and no more than its stripes can bear. Who is revoked now is another question.
    pub fn check_charter(&self, charters: &Charters, signer: KeyId) -> Result<(), Rule> {
        let charter = charters.obeyed(self.charter_version)?;
        charter.permit(signer, crate::charter::Act::Tenant)?;
        let member = charter.members().iter().find(|member| member.key.id() == signer);
        if !member.is_some_and(|member| member.classes.contains(&self.class)) {
            let text = format!("key {signer} is no administrator of class {}", self.class);
            return Err(Rule::new("unknown-signer", text));
        }
        let class = charter
            .class(self.class)
            .ok_or_else(|| Rule::new("wrong-charter", format!("the charter has no class {}", self.class)))?;
        let policy = class.policy()?;
        let terms = self.terms(&policy);
        terms.tighten(&Terms::of(&policy))?;
        policy.under(&terms).map(|_| ())
    }

    /// Whether it may come after another record of the dataset, as it stands under its class in the charter it obeys.
    pub fn check_after(&self, before: &Self, charters: &Charters) -> Result<(), Rule> {
        if self.dataset != before.dataset {
            return Err(Rule::new("bad-record", "the record before is another dataset's"));
        }
        if self.class != before.class {
            let text = format!(
                "class-is-kept: the dataset is in class {}, and never moves to {}",
                before.class, self.class
            );
            return Err(Rule::new("loosens", text));
        }
        if before.version.checked_add(1) != Some(self.version) {
            let text = format!("record {} does not follow record {}", self.version, before.version);
            return Err(Rule::new("bad-version", text));
        }
        let policy = |version| -> Result<Option<ClassPolicy>, Rule> {
            let class = charters.obeyed(version)?.class(self.class);
            class.map(|class| class.policy()).transpose()
        };
        match (policy(self.charter_version)?, policy(before.charter_version)?) {
            // What the class itself demanded then is the charter's to change.
            (Some(now), Some(_)) => self.terms(&now).tighten(&before.demands(&now)),
            _ => Err(Rule::new(
                "wrong-charter",
                format!("the charter has no class {}", self.class),
            )),
        }
    }

    /// What it demands beside a class's policy as that is now.
    fn demands(&self, class: &ClassPolicy) -> Terms {
        Terms::of(class).join(&Terms {
            losses: self.losses.unwrap_or(0),
            liars: self.liars.unwrap_or(0),
            read_back: self.read_back.unwrap_or(ReadBack::Group),
        })
    }

    /// A class's policy under the demands of records that count, each at its strictest.
    pub fn policy_under<'r>(
        class: &ClassPolicy,
        records: impl IntoIterator<Item = &'r Self>,
    ) -> Result<ClassPolicy, Rule> {
        let strictest = records
            .into_iter()
            .fold(Terms::of(class), |terms, record| terms.join(&record.demands(class)));
        class.under(&strictest)
    }
}

#[cfg(test)]
mod tests;
