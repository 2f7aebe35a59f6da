//! What a run says before, while and after it writes: its envelope, its claims, its close (FORMAT.md section 9).

use minicbor::{Decode, Encode};

use crate::{
    charter::{Act, Charter, RecipientKey},
    id::{Anchor, Commitment, DatasetId, Incarnation, KeyId, RecipientId, RunId},
    limit::{ENVELOPE_BYTES_MAX, RECORD_BYTES_MAX, RUNS_PER_HEAD_MAX, STANZAS_MAX},
    live_set::LiveSet,
    signed::SignedRecord,
    wire::{Record, Rule, Version1, strictly_ascending},
};

/// Bytes of an X-Wing ciphertext, which HPKE calls `enc`.
pub const STANZA_ENC_BYTES: usize = 1120;
/// Bytes of a wrapped run key: 32 and a tag.
pub const STANZA_CIPHERTEXT_BYTES: usize = 48;

/// The run key, wrapped for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Stanza {
    /// For whom.
    #[n(0)]
    pub recipient: RecipientId,
    /// The encapsulated key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub enc: Vec<u8>,
    /// The wrapped run key.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub ciphertext: Vec<u8>,
}

impl Stanza {
    /// Whether both parts have the lengths that X-Wing and AES-256-GCM give them.
    pub fn has_lengths(&self) -> bool {
        self.enc.len() == STANZA_ENC_BYTES && self.ciphertext.len() == STANZA_CIPHERTEXT_BYTES
    }
}

/// A run's claim, and its key for the recipients.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Envelope {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The run.
    #[n(2)]
    pub run: RunId,
    /// The dataset.
    #[n(3)]
    pub dataset: DatasetId,
    /// The dataset's class.
    #[n(4)]
    pub class: u32,
    /// The charter that the run obeys.
    #[n(5)]
    pub charter_version: u32,
    /// For whom the key is wrapped.
    #[n(6)]
    pub recipient_set: u32,
    /// The set's epoch at the time.
    #[n(7)]
    pub crypto_epoch: u32,
    /// Commitment to the run key.
    #[n(8)]
    pub commitment: Commitment,
    /// The label, sealed in a box.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub label: Vec<u8>,
    /// The key, once for each recipient, ascending.
    #[n(10)]
    pub stanzas: Vec<Stanza>,
    /// Which life of the writer.
    #[n(11)]
    pub incarnation: Incarnation,
}

impl Envelope {
    /// Is this the envelope that was looked for?
    pub fn check_place(&self, anchor: Anchor, run: RunId) -> Result<(), Rule> {
        if self.anchor != anchor {
            return Err(Rule::new("wrong-archive", "an envelope of another archive"));
        }
        if self.run != run {
            return Err(Rule::new("wrong-run", "an envelope of another run"));
        }
        Ok(())
    }

    /// Are its stanzas for exactly the recipients of this set of this charter version?
    pub fn check_set(
        &self,
        charter_version: u32,
        (set, crypto_epoch): (u32, u32),
        recipients: impl IntoIterator<Item = RecipientId>,
    ) -> Result<(), Rule> {
        if self.charter_version != charter_version || (self.recipient_set, self.crypto_epoch) != (set, crypto_epoch) {
            let text = format!(
                "charter version {}, recipient set {}, epoch {}",
                self.charter_version, self.recipient_set, self.crypto_epoch
            );
            return Err(Rule::new("wrong-charter", text));
        }
        let mut expected: Vec<_> = recipients.into_iter().collect();
        expected.sort_unstable();
        if !self.stanzas.iter().map(|stanza| stanza.recipient).eq(expected) {
            return Err(Rule::new(
                "bad-stanzas",
                "the stanzas are not those of the recipient set",
            ));
        }
        Ok(())
    }

    /// Does the charter allow it: may `signer` write this class, is the set the class's, are the stanzas the set's?
    ///
    /// A restorer may wrap any run anew for the set as it is. The run stays of the epoch in which it was sealed, which is the
    /// set's or an earlier one.
    pub fn check_charter(&self, charter: &Charter, signer: KeyId) -> Result<(), Rule> {
        let wrong = |text: String| Rule::new("wrong-charter", text);
        let class = charter.class(self.class);
        let class = class.ok_or_else(|| wrong(format!("class {} is not in the charter", self.class)))?;
        let set = charter.recipients_of(class).filter(|set| set.id == self.recipient_set);
        let set = set.ok_or_else(|| wrong(format!("set {} is not that of class {}", self.recipient_set, class.id)))?;
        let is_again = charter.permit(signer, Act::Rewrap).is_ok();
        let epoch = match is_again {
            true => self.crypto_epoch.min(set.crypto_epoch),
            false => set.crypto_epoch,
        };
        self.check_set(charter.version, (set.id, epoch), set.keys.iter().map(RecipientKey::id))?;
        let writer = charter.writer(signer);
        if !is_again && !writer.is_some_and(|writer| writer.classes.contains(&self.class)) {
            let text = format!("key {signer} may not write class {}", self.class);
            return Err(Rule::new("unknown-signer", text));
        }
        Ok(())
    }

    /// Is the run one of the head's dataset? Chunk ids of another dataset mean something else.
    pub fn check_dataset(&self, dataset: DatasetId) -> Result<(), Rule> {
        if self.dataset != dataset {
            let text = format!("a run of dataset {}, not {dataset}", self.dataset);
            return Err(Rule::new("wrong-run", text));
        }
        Ok(())
    }
}

impl Record for Envelope {
    const KIND: &'static str = "envelope";
    const BYTES_MAX: usize = ENVELOPE_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        let lengths = self.stanzas.iter().all(Stanza::has_lengths);
        if self.stanzas.is_empty() || !lengths {
            return Err(Rule::new(
                "bad-record",
                "stanzas are missing or their parts have other lengths",
            ));
        }
        let recipients: Vec<_> = self.stanzas.iter().map(|stanza| stanza.recipient).collect();
        if recipients.len() > STANZAS_MAX || !strictly_ascending(&recipients) {
            return Err(Rule::new("bad-stanzas", "stanzas are unsorted, doubled or too many"));
        }
        Ok(())
    }
}

impl SignedRecord for Envelope {
    const TYPE: &'static str = "exclave envelope v1";
}

/// Stripes of one other run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct RunStripes {
    /// The run that wrote them.
    #[n(0)]
    pub run: RunId,
    /// Which.
    #[n(1)]
    pub stripes: LiveSet,
}

/// A run's claim on stripes that others wrote.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ReuseClaim {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The claiming run.
    #[n(2)]
    pub run: RunId,
    /// What it relies on, ascending by run.
    #[n(3)]
    pub stripes: Vec<RunStripes>,
}

impl Record for ReuseClaim {
    const KIND: &'static str = "reuse claim";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        let runs: Vec<_> = self.stripes.iter().map(|stripes| stripes.run).collect();
        if runs.len() > RUNS_PER_HEAD_MAX {
            return Err(Rule::new(
                "too-long",
                format!("{} runs, the cap is {RUNS_PER_HEAD_MAX}", runs.len()),
            ));
        }
        if !strictly_ascending(&runs) {
            return Err(Rule::new("bad-order", "claimed runs are unsorted or doubled"));
        }
        Ok(())
    }
}

impl SignedRecord for ReuseClaim {
    const TYPE: &'static str = "exclave reuse v1";
}

/// A run's last word: it will write nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Close {
    /// The record's version.
    #[n(0)]
    pub format: Version1,
    /// The archive.
    #[n(1)]
    pub anchor: Anchor,
    /// The run.
    #[n(2)]
    pub run: RunId,
    /// Which life of the writer.
    #[n(3)]
    pub incarnation: Incarnation,
}

impl Record for Close {
    const KIND: &'static str = "close";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;

    fn law(&self) -> Result<(), Rule> {
        Ok(())
    }
}

impl SignedRecord for Close {
    const TYPE: &'static str = "exclave close v1";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        charter::{Member, MemberRole, tests::charter},
        signed::PublicKey,
    };

    #[test]
    fn the_charter_must_allow_an_envelope() {
        let charter = charter();
        let signer = charter.writers[0].key.id();
        let good = Envelope {
            format: Version1,
            anchor: Anchor::from_bytes([1; 32]),
            run: RunId::from_bytes([2; 16]),
            dataset: DatasetId::from_bytes([3; 16]),
            class: 9,
            charter_version: 1,
            recipient_set: 4,
            crypto_epoch: 0,
            commitment: Commitment::from_bytes([4; 32]),
            label: Vec::new(),
            stanzas: vec![Stanza {
                recipient: charter.recipient_sets[1].keys[0].id(),
                enc: vec![0; STANZA_ENC_BYTES],
                ciphertext: vec![0; STANZA_CIPHERTEXT_BYTES],
            }],
            incarnation: Incarnation::from_bytes([5; 16]),
        };
        let kind = |change: fn(&mut Envelope), signer| {
            let mut envelope = good.clone();
            change(&mut envelope);
            envelope.check_charter(&charter, signer).map_err(|rule| rule.kind)
        };
        assert_eq!(kind(|_| {}, signer), Ok(()));
        assert_eq!(kind(|_| {}, KeyId::from_bytes([0; 32])), Err("unknown-signer"));
        // A restorer wraps again what is of this epoch or an earlier one.
        let restorer = PublicKey::from_bytes([60; crate::signed::PUBLIC_KEY_BYTES]);
        let mut later = charter.clone();
        later.members = Some(vec![Member {
            role: MemberRole::Restorer,
            key: restorer.clone(),
            classes: Vec::new(),
        }]);
        later.recipient_sets[1].crypto_epoch = 1;
        let again = |epoch| {
            let mut envelope = good.clone();
            envelope.crypto_epoch = epoch;
            envelope.check_charter(&later, restorer.id()).map_err(|rule| rule.kind)
        };
        assert_eq!((again(0), again(1), again(2)), (Ok(()), Ok(()), Err("wrong-charter")));
        assert_eq!(
            good.check_charter(&later, signer).map_err(|rule| rule.kind),
            Err("wrong-charter")
        );
        assert_eq!(kind(|envelope| envelope.class = 7, signer), Err("wrong-charter"));
        assert_eq!(
            kind(|envelope| envelope.recipient_set = 5, signer),
            Err("wrong-charter")
        );
        assert_eq!(kind(|envelope| envelope.crypto_epoch = 1, signer), Err("wrong-charter"));
        assert_eq!(
            kind(|envelope| envelope.charter_version = 2, signer),
            Err("wrong-charter")
        );
        assert_eq!(kind(|envelope| envelope.stanzas.clear(), signer), Err("bad-stanzas"));
        let other_class: fn(&mut Envelope) = |envelope| (envelope.class, envelope.recipient_set) = (8, 5);
        assert_eq!(
            kind(other_class, signer),
            Err("unknown-signer"),
            "a class that is not this writer's"
        );
    }
}
