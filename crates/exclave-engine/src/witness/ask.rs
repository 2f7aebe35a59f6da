//! Asking witnesses: anyone who has a checkpoint and can prove how its tree grew may (C2SP tlog-witness).

use std::time::Duration;

use exclave_log::{
    SignedCheckpoint, TreeHash,
    checkpoint::decimal,
    note::{NOTE_BYTES_MAX, NoteSignature},
};
use exclave_model::Witness;
use exclave_site::{AskError, Asked};
use futures::future::join_all;

use super::{cosign::vouching, request::AddCheckpoint};

/// How often a witness that knows another size is asked again: others may be asking it, too.
const TRIES_MAX: usize = 4;

/// One witness that is asked.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Who it is.
    pub witness: Witness,
    /// Where.
    pub door: Asked,
}

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
pub enum NoCosignature {
    /// It did not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Not before time was up.
    #[error("no cosignature within {} s", .0.as_secs())]
    Late(Duration),
    /// It knows a larger tree: what was shown to us is old.
    #[error("it has cosigned a tree of {known} leaves, and this one has {size}: this log was set back")]
    Behind {
        /// Leaves of the tree that it has cosigned last.
        known: u64,
        /// Leaves of ours.
        size: u64,
    },
    /// It knows another tree of the same size, or one that doesn't grow into ours.
    #[error("it has cosigned another history: this log was forked at or before {known} leaves")]
    Forked {
        /// Leaves of the tree that it has cosigned last.
        known: u64,
    },
    /// Growth since then can't be proven with what is at hand.
    #[error("it has cosigned a tree of {known} leaves, and how that grew can't be shown")]
    NoProof {
        /// Leaves of the tree that it has cosigned last.
        known: u64,
    },
    /// It refused.
    #[error("it answered HTTP {status}: {text}")]
    Refused {
        /// The status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// Its answer is no cosignature, or not one by its keys.
    #[error("its answer bears no cosignature by its keys")]
    NotItsWord,
}

/// Asks all at once, and waits no longer than that. `proof` shows how the tree grew from that many leaves to the checkpoint's.
///
/// The answers stand in the order of the witnesses; what was cosigned is verified.
pub async fn ask_all(
    some: &[Asking],
    checkpoint: &SignedCheckpoint,
    guess: u64,
    proof: &(dyn Fn(u64) -> Option<Vec<TreeHash>> + Sync),
    time_max: Duration,
) -> Vec<Result<Vec<NoteSignature>, NoCosignature>> {
    let asked = some.iter().map(|asking| async move {
        let one = asking.ask(checkpoint, guess, proof);
        match tokio::time::timeout(time_max, one).await {
            Ok(answer) => answer,
            Err(_) => Err(NoCosignature::Late(time_max)),
        }
    });
    join_all(asked).await
}

impl Asking {
    async fn ask(
        &self,
        checkpoint: &SignedCheckpoint,
        guess: u64,
        proof: &(dyn Fn(u64) -> Option<Vec<TreeHash>> + Sync),
    ) -> Result<Vec<NoteSignature>, NoCosignature> {
        let size = checkpoint.checkpoint.size;
        let mut old = guess.min(size);
        for _ in 0..TRIES_MAX {
            let proof = match old {
                0 => Some(Vec::new()),
                same if same == size => Some(Vec::new()),
                older => proof(older),
            };
            let request = AddCheckpoint {
                old,
                proof: proof.ok_or(NoCosignature::NoProof { known: old })?,
                checkpoint: checkpoint.clone(),
            };
            let answer = self.door.post(request.to_bytes().into(), NOTE_BYTES_MAX).await?;
            let text = String::from_utf8_lossy(&answer.body);
            match answer.status {
                200 => return self.lines(&text, checkpoint),
                409 => {
                    let known = text.strip_suffix('\n').and_then(decimal);
                    let known = known.ok_or(NoCosignature::Refused {
                        status: 409,
                        text: shown(&text),
                    })?;
                    if known > size {
                        return Err(NoCosignature::Behind { known, size });
                    }
                    if known == old {
                        return Err(NoCosignature::Forked { known });
                    }
                    old = known;
                }
                // Our proof holds for our tree. If it doesn't for the witness's, its tree isn't the beginning of ours.
                422 => return Err(NoCosignature::Forked { known: old }),
                status => {
                    return Err(NoCosignature::Refused {
                        status,
                        text: shown(&text),
                    });
                }
            }
        }
        Err(NoCosignature::NoProof { known: old })
    }

    fn lines(&self, text: &str, checkpoint: &SignedCheckpoint) -> Result<Vec<NoteSignature>, NoCosignature> {
        let lines = text.lines().filter_map(|line| NoteSignature::parse(line).ok());
        let mut cosigned = checkpoint.clone();
        cosigned.note.signatures = lines.filter(|line| line.name.as_str() == self.witness.name).collect();
        match vouching(&cosigned, std::slice::from_ref(&self.witness)).is_empty() {
            true => Err(NoCosignature::NotItsWord),
            false => Ok(cosigned.note.signatures),
        }
    }
}

/// A stranger's text, short and in one line.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Adds cosignatures to a checkpoint, in place of earlier ones by the same keys.
pub fn join(checkpoint: &mut SignedCheckpoint, lines: Vec<NoteSignature>) {
    let kept = &mut checkpoint.note.signatures;
    kept.retain(|line| !lines.iter().any(|new| (&new.name, new.key) == (&line.name, line.key)));
    kept.extend(lines);
}
