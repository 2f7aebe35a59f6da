//! Witnesses in a charter: as a draft names them, and in plain words.

use std::{collections::BTreeMap, path::Path, time::Duration};

use exclave_model::{
    Charter, Charters, Witness, Witnesses,
    charter::{HomeCounts, is_nation},
};
use serde::{Deserialize, Serialize};

use super::draft::short;
use crate::{
    error::{Context as _, Trouble},
    format, keys,
};

/// How old a checkpoint may be when a draft doesn't say it.
const AGE_MAX_S: u32 = 72 * 3600;

/// `[witnesses]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DraftWitnesses {
    quorum: u32,
    nations: u32,
    home: String,
    #[serde(default)]
    home_counts: bool,
    #[serde(default = "standard_age")]
    age_max_hours: u32,
    #[serde(default)]
    witness: Vec<DraftWitness>,
}

fn standard_age() -> u32 {
    AGE_MAX_S / 3600
}

/// A witness: its name when the version before has it, else the path of its key file beside the draft; or the Ed25519 key alone that
/// it gives the world.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftWitness {
    key: String,
    nation: String,
}

impl DraftWitnesses {
    pub(super) fn of(some: &Witnesses) -> Self {
        Self {
            quorum: some.quorum,
            nations: some.nations,
            home: some.home.clone(),
            home_counts: some.home_counts == HomeCounts::Yes,
            age_max_hours: some.age_max_s / 3600,
            witness: some
                .witnesses
                .iter()
                .map(|witness| DraftWitness {
                    key: witness.name.clone(),
                    nation: witness.nation.clone(),
                })
                .collect(),
        }
    }

    pub(super) fn compile(&self, charters: &Charters, folder: &Path) -> Result<Witnesses, Trouble> {
        for nation in self.witness.iter().map(|witness| &witness.nation).chain([&self.home]) {
            if !is_nation(nation) {
                return Err(Trouble::usage(format!("{nation:?} is no nation"))
                    .hint("two capital letters, as ISO 3166-1 has them: \"LU\""));
            }
        }
        let age_max_s = self.age_max_hours.checked_mul(3600);
        Ok(Witnesses {
            quorum: self.quorum,
            nations: self.nations,
            home: self.home.clone(),
            home_counts: if self.home_counts {
                HomeCounts::Yes
            } else {
                HomeCounts::No
            },
            age_max_s: age_max_s.ok_or_else(|| Trouble::usage("age_max_hours is too large"))?,
            witnesses: self
                .witness
                .iter()
                .map(|witness| one(witness, charters, folder))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn one(draft: &DraftWitness, charters: &Charters, folder: &Path) -> Result<Witness, Trouble> {
    let known = charters.newest().witnesses();
    if let Some(known) = known.iter().find(|known| known.name == draft.key) {
        return Ok(Witness {
            nation: draft.nation.clone(),
            ..known.clone()
        });
    }
    if let Ok(key) = draft.key.parse::<exclave_log::VerifierKey>() {
        return classical(&key, draft);
    }
    let path = folder.join(&draft.key);
    let cosigner = keys::read(&path)?.cosigner();
    let cosigner = cosigner.because(|| Trouble::usage(format!("{} is no witness's key", path.display())))?;
    Ok(cosigner.witness(draft.nation.clone()))
}

/// A witness of the C2SP world, by its verifier key. An ML-DSA-44 key alone is no witness here.
fn classical(key: &exclave_log::VerifierKey, draft: &DraftWitness) -> Result<Witness, Trouble> {
    let ed25519 = match key.kind {
        exclave_log::SignatureType::CosignatureEd25519 => key.public_key.as_slice().try_into().ok(),
        _ => None,
    };
    Ok(Witness {
        name: key.name.to_string(),
        nation: draft.nation.clone(),
        ed25519: ed25519.ok_or_else(|| {
            Trouble::usage(format!(
                "the verifier key of {} is none for Ed25519 cosignatures",
                key.name
            ))
            .hint("a witness with both keys is named by its key file")
        })?,
        ml_dsa: None,
    })
}

/// What a charter says of its witnesses.
pub(super) fn sentences(charter: &Charter) -> Vec<String> {
    let Some(some) = &charter.witnesses else {
        return vec!["no witness watches the logs: all sites together could show an old state".to_owned()];
    };
    let mut lines = vec![format!("{} {}", quorum(some), age(some))];
    lines.extend(some.witnesses.iter().map(|witness| {
        let counts = match (some.counts(witness), &witness.ml_dsa) {
            (true, _) => "",
            (false, None) => ", with an Ed25519 key alone: it fills no quorum",
            (false, Some(_)) => ", of the owner's nation: it fills no quorum",
        };
        format!("witness {}{counts}", called(witness))
    }));
    lines
}

fn called(witness: &Witness) -> String {
    let id = short(witness.id().as_bytes());
    format!("{} in {} (key {id})", witness.name, witness.nation)
}

fn quorum(some: &Witnesses) -> String {
    let home = match some.home_counts {
        HomeCounts::No => format!("those in {} don't count", some.home),
        HomeCounts::Yes => format!("those in {}, the owner's, count too", some.home),
    };
    let witnesses = match some.quorum {
        1 => "1 witness vouches".to_owned(),
        several => format!(
            "{several} witnesses in {} vouch",
            format::count(u64::from(some.nations), "nation")
        ),
    };
    format!("{witnesses} for a state of the logs; {home}.")
}

fn age(some: &Witnesses) -> String {
    let age = format::span(Duration::from_secs(u64::from(some.age_max_s)));
    format!("After {age} that says nothing about now.")
}

/// What one version changes about them.
pub(super) fn changes(before: &Charter, next: &Charter, lines: &mut Vec<String>) {
    match (&before.witnesses, &next.witnesses) {
        (None, None) => return,
        (Some(_), None) => {
            lines.push("no witness is asked any more: all sites together could show an old state".to_owned())
        }
        (None, Some(some)) => lines.push(format!("{} {}", quorum(some), age(some))),
        (Some(was), Some(some)) => {
            if quorum(was) != quorum(some) {
                lines.push(format!("{} Before: {}", quorum(some), quorum(was)));
            }
            if was.age_max_s != some.age_max_s {
                lines.push(format!("{} Before: {}", age(some), age(was)));
            }
        }
    }
    let by_name = |charter: &Charter| -> BTreeMap<String, Witness> {
        let witnesses = charter.witnesses().iter();
        witnesses
            .map(|witness| (witness.name.clone(), witness.clone()))
            .collect()
    };
    let (then, now) = (by_name(before), by_name(next));
    for (name, witness) in &now {
        match then.get(name) {
            None => lines.push(format!("witness {} joins", called(witness))),
            Some(was) if was != witness => lines.push(format!("witness {} becomes {}", called(was), called(witness))),
            Some(_) => {}
        }
    }
    let gone = then.iter().filter(|(name, _)| !now.contains_key(*name));
    lines.extend(gone.map(|(_, witness)| format!("witness {} goes", called(witness))));
}

/// What follows from the changes that nobody should learn afterwards.
pub(super) fn warnings(before: &Charter, next: &Charter) -> Option<String> {
    let weaker = match (&before.witnesses, &next.witnesses) {
        (Some(was), Some(some)) => some.quorum < was.quorum || some.nations < was.nations,
        (Some(_), None) => true,
        (None, _) => false,
    };
    weaker.then(|| "fewer allies than before have to be deceived, or coerced, for an old state to be shown".to_owned())
}
