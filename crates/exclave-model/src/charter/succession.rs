//! What a charter may change (FORMAT.md section 8): the law between one version and the next.
//!
//! Whatever a later version says, earlier records must stay readable and nobody may come back unseen. So classes keep
//! their code, a writer or root that leaves is revoked by name with the heads that count, a revoked key stays revoked,
//! and whoever takes a recipient away, or calls a writer's key stolen, raises the crypto epoch: runs of an older epoch
//! are not reused.

use std::collections::BTreeSet;

use super::{Charter, Charters, Class, Reason, RecipientKey, RecipientSet};
use crate::{id::KeyId, wire::Rule};

/// Checks that `next` may follow what there is. Signatures are another matter.
pub(super) fn check(next: &Charter, history: &Charters) -> Result<(), Rule> {
    let before = history.newest();
    if before.version.checked_add(1) != Some(next.version) {
        let text = format!(
            "charter version {} does not follow version {}",
            next.version, before.version
        );
        return Err(Rule::new("bad-version", text));
    }
    if next.previous != Some(history.newest_hash()) {
        let text = format!(
            "charter version {} names another version {}",
            next.version, before.version
        );
        return Err(Rule::new("broken-chain", text));
    }
    no_key_leaves_unseen(next, before)?;
    for class in &before.classes {
        class_stays(next, class)?;
    }
    for set in &before.recipient_sets {
        set_stays(next, set)?;
    }
    stolen_keys_end_the_epoch(next, history)
}

fn broken(text: String) -> Result<(), Rule> {
    Err(Rule::new("bad-succession", text))
}

/// Writers and roots that leave are revoked; who was revoked stays so.
fn no_key_leaves_unseen(next: &Charter, before: &Charter) -> Result<(), Rule> {
    let writers = before.writers.iter().map(|writer| writer.key.id());
    let roots = before.roots.keys.iter().map(|key| key.id());
    for key in writers.chain(roots) {
        let role = before.role_of(key);
        if next.role_of(key) != role && next.revocation(key).is_none() {
            return broken(format!("key {key} lost its role and is not revoked"));
        }
    }
    let stays = |key: KeyId| next.revocation(key).is_some();
    match before.revocations().iter().find(|revocation| !stays(revocation.key)) {
        Some(revocation) => broken(format!("the revocation of key {} is gone", revocation.key)),
        None => Ok(()),
    }
}

/// Stripes and heads of a class outlive every charter, and are judged by its numbers.
fn class_stays(next: &Charter, class: &Class) -> Result<(), Rule> {
    let (Some(later), Ok(policy)) = (next.class(class.id), class.policy()) else {
        return broken(format!("class {} is gone", class.id));
    };
    let same = later
        .policy()
        .is_ok_and(|now| now.geometry == policy.geometry && now.payload == policy.payload);
    match same && later.recipient_set == class.recipient_set {
        true => Ok(()),
        false => broken(format!(
            "class {} has another code, payload length or recipient set; make a new class",
            class.id
        )),
    }
}

fn set_stays(next: &Charter, set: &RecipientSet) -> Result<(), Rule> {
    let Some(later) = next.recipient_sets.iter().find(|later| later.id == set.id) else {
        return broken(format!("recipient set {} is gone", set.id));
    };
    if later.crypto_epoch < set.crypto_epoch {
        return broken(format!("the crypto epoch of recipient set {} fell", set.id));
    }
    let now: BTreeSet<_> = later.keys.iter().map(RecipientKey::id).collect();
    let left = set.keys.iter().any(|key| !now.contains(&key.id()));
    match left && later.crypto_epoch == set.crypto_epoch {
        true => broken(format!(
            "a recipient left set {} and its crypto epoch is still {}",
            set.id, set.crypto_epoch
        )),
        false => Ok(()),
    }
}

/// A thief had the dataset secrets: what he sealed must not enter honest snapshots by its chunk ids.
fn stolen_keys_end_the_epoch(next: &Charter, history: &Charters) -> Result<(), Rule> {
    let before = history.newest();
    let known = |key: KeyId| {
        before
            .revocation(key)
            .is_some_and(|then| then.reason == Reason::Compromised)
    };
    let stolen = next
        .revocations()
        .iter()
        .filter(|revocation| revocation.reason == Reason::Compromised && !known(revocation.key));
    for key in stolen.map(|revocation| revocation.key) {
        // A key that was retired first is found where it last was a writer's.
        let writer = history.iter().rev().find_map(|charter| charter.writer(key));
        let classes = writer.map_or(&[][..], |writer| &writer.classes);
        for set in classes.iter().filter_map(|id| before.recipients_of(before.class(*id)?)) {
            let later = next.recipient_sets.iter().find(|later| later.id == set.id);
            if later.is_none_or(|later| later.crypto_epoch <= set.crypto_epoch) {
                return broken(format!(
                    "the key of writer {key} was stolen and the crypto epoch of recipient set {} is still {}",
                    set.id, set.crypto_epoch
                ));
            }
        }
    }
    Ok(())
}
