//! Cosignatures for a log that the sites have: witnesses are asked, and what they sign is put beside the checkpoint.

use std::time::Duration;

use bytes::Bytes;
use exclave_log::{LogId, SignedCheckpoint};
use exclave_model::{Tag, charter::Vouchers};

use super::{
    ask::{Asking, NoCosignature, ask_all, join},
    cosign::{vouching, word},
};
use crate::{
    archive::{Archive, SiteTrouble},
    log::growth,
    publish::publish,
    surroundings::Surroundings,
};

/// How long all witnesses together may take. They stand in nobody's way, and nobody waits for the last one.
pub const ASKING_MAX: Duration = Duration::from_secs(10);

/// What came of asking.
#[derive(Debug)]
pub struct Cosignatures {
    /// The checkpoint with all the cosignatures that were had.
    pub checkpoint: SignedCheckpoint,
    /// The witnesses that cosigned, in the order they were asked in.
    pub by: Vec<String>,
    /// The others, and why not.
    pub without: Vec<(String, NoCosignature)>,
    /// How much those are that vouch for it now.
    pub vouchers: Vouchers,
    /// Whether the charter's quorum does.
    pub is_quorum: bool,
    /// Sites that hold it.
    pub sites: usize,
    /// What other sites said.
    pub troubles: Vec<SiteTrouble>,
}

impl Cosignatures {
    /// Those who know another history, or a longer one: no honest log comes to that.
    pub fn alarms(&self) -> impl Iterator<Item = String> + '_ {
        let grave = |why: &NoCosignature| matches!(why, NoCosignature::Behind { .. } | NoCosignature::Forked { .. });
        let without = self.without.iter();
        without
            .filter(move |(_, why)| grave(why))
            .map(|(name, why)| format!("witness {name}: {why}"))
    }
}

/// Asks witnesses to cosign a log's checkpoint, to which all of `entries` lead.
pub fn ask(
    archive: &Archive,
    checkpoint: &SignedCheckpoint,
    entries: &[Vec<u8>],
    some: &[Asking],
    surroundings: &Surroundings,
) -> Cosignatures {
    let proof = |old| growth(entries, old);
    // Most commits add one entry to what witnesses know; else they say what they know.
    let guess = checkpoint.checkpoint.size.saturating_sub(1);
    let asked = ask_all(some, checkpoint, guess, &proof, ASKING_MAX);
    let answers = surroundings.runtime.block_on(asked);
    let mut found = Cosignatures {
        checkpoint: checkpoint.clone(),
        by: Vec::new(),
        without: Vec::new(),
        vouchers: Vouchers::default(),
        is_quorum: false,
        sites: 0,
        troubles: Vec::new(),
    };
    for (asking, answer) in some.iter().zip(answers) {
        let name = asking.witness.name.clone();
        match answer {
            Ok(lines) => {
                join(&mut found.checkpoint, lines);
                found.by.push(name);
            }
            Err(why) => found.without.push((name, why)),
        }
    }
    if let Some(policy) = &archive.charter().witnesses {
        let word = word(policy, &vouching(&found.checkpoint, &policy.witnesses));
        (found.vouchers, found.is_quorum) = (word.ever, word.quorum_at.is_some());
    }
    found
}

impl Cosignatures {
    /// Puts the cosigned checkpoint at the sites, where the log's own lies.
    pub fn put(&mut self, archive: &Archive, surroundings: &Surroundings) {
        let Some(log) = LogId::parse(&self.checkpoint.checkpoint.origin).filter(|_| !self.by.is_empty()) else {
            return;
        };
        let bytes = Bytes::from(self.checkpoint.to_bytes());
        let size = self.checkpoint.checkpoint.size;
        let name = archive
            .names
            .log_checkpoint(log.key, log.incarnation, size, Tag::of(&bytes));
        let published = surroundings.runtime.block_on(publish(&archive.sites, &name, &bytes));
        self.sites = published.count();
        self.troubles = published.troubles;
    }
}
