//! What a charter must be, looked at alone (FORMAT.md section 8).

use std::collections::{BTreeMap, BTreeSet};

use super::{Authority, Charter, ED25519_KEY_BYTES, MlDsa44Key, RecipientKey, Revocation, Role, site_name};
use crate::{
    id::KeyId,
    limit::STANZAS_MAX,
    wire::{Record as _, Rule, strictly_ascending},
};

pub(super) fn check(charter: &Charter) -> Result<(), Rule> {
    no_list_is_empty(charter)?;
    version_and_predecessor(charter)?;
    thresholds(charter)?;
    for class in &charter.classes {
        class.policy()?;
    }
    nothing_stands_twice(charter)?;
    if !charter.sites.iter().all(|site| site_name(&site.name)) {
        return broken("a site's name is not 1 to 40 of a-z, 0-9 and -");
    }
    if charter
        .classes
        .iter()
        .any(|class| charter.recipients_of(class).is_none())
    {
        return broken("a class names a recipient set that is not there");
    }
    if charter.recipient_sets.iter().any(|set| set.keys.len() > STANZAS_MAX) {
        return Err(Rule::new("too-long", "a recipient set has more than 32 recipients"));
    }
    one_key_has_one_role(charter)?;
    members_have_the_classes_of_their_role(charter)?;
    revoked_keys_are_gone(charter)?;
    witnesses_are_nobody_else(charter)?;
    share_sets_are_of_recipients(charter)?;
    retention_is_of_classes(charter)?;
    rules_for_writers_name_what_there_is(charter)
}

fn broken(text: impl Into<String>) -> Result<(), Rule> {
    Err(Rule::new("bad-record", text))
}

fn version_and_predecessor(charter: &Charter) -> Result<(), Rule> {
    match (charter.version, charter.previous) {
        (0, _) => Err(Rule::new("bad-version", "charter versions begin with 1")),
        (1, Some(_)) => broken("charter version 1 has no predecessor"),
        (1, None) | (_, Some(_)) => Ok(()),
        (version, None) => Err(Rule::new(
            "bad-version",
            format!("charter version {version} does not name the version before it"),
        )),
    }
}

fn thresholds(charter: &Charter) -> Result<(), Rule> {
    let fits = |threshold: u32, keys: usize| threshold > 0 && threshold as usize <= keys;
    if !fits(charter.roots.threshold, charter.roots.keys.len()) {
        return broken("the root threshold is not between 1 and the number of roots");
    }
    let fit = |authority: &Authority| fits(authority.threshold, authority.keys.len());
    match charter.authorities().iter().all(fit) {
        true => Ok(()),
        false => broken("the threshold of an authority is not between 1 and the number of its keys"),
    }
}

fn no_list_is_empty(charter: &Charter) -> Result<(), Rule> {
    let empty = charter.roots.keys.is_empty()
        || charter.writers.is_empty()
        || charter.writers.iter().any(|writer| writer.classes.is_empty())
        || charter.recipient_sets.is_empty()
        || charter.recipient_sets.iter().any(|set| set.keys.is_empty())
        || charter.sites.is_empty()
        || charter
            .sites
            .iter()
            .any(|site| site.legal_reach.as_ref().is_some_and(Vec::is_empty))
        || charter.classes.is_empty()
        || charter.members.as_ref().is_some_and(Vec::is_empty)
        || charter.authorities.as_ref().is_some_and(Vec::is_empty)
        || charter.revocations.as_ref().is_some_and(Vec::is_empty)
        || charter.share_sets.as_ref().is_some_and(Vec::is_empty)
        || charter.retention.as_ref().is_some_and(Vec::is_empty)
        || charter.registered_classes.as_ref().is_some_and(Vec::is_empty)
        || charter
            .trust_groups
            .as_ref()
            .is_some_and(|groups| groups.is_empty() || groups.iter().any(Vec::is_empty))
        || charter.format_versions.as_ref().is_some_and(Vec::is_empty);
    match empty {
        true => broken("a list of the charter is empty"),
        false => Ok(()),
    }
}

/// Lists may stand in any order, but what names something in them stands once.
fn nothing_stands_twice(charter: &Charter) -> Result<(), Rule> {
    let doubled = [
        (
            "recipient sets",
            doubled(charter.recipient_sets.iter().map(|set| set.id)),
        ),
        ("sites", doubled(charter.sites.iter().map(|site| site.id))),
        ("site names", doubled(charter.sites.iter().map(|site| &site.name))),
        ("classes", doubled(charter.classes.iter().map(|class| class.id))),
        (
            "authorities",
            doubled(charter.authorities().iter().map(|authority| authority.purpose)),
        ),
        (
            "recipients of one set",
            charter
                .recipient_sets
                .iter()
                .any(|set| doubled(set.keys.iter().map(RecipientKey::id))),
        ),
    ];
    match doubled.iter().find(|(_, doubled)| *doubled) {
        Some((what, _)) => broken(format!("two of the {what} are the same")),
        None => Ok(()),
    }
}

/// A key that could do two things would let whoever steals it do both.
fn one_key_has_one_role(charter: &Charter) -> Result<(), Rule> {
    let mut roles: BTreeMap<KeyId, Role> = BTreeMap::new();
    for (role, key) in charter.keys() {
        if let Some(other) = roles.insert(key.id(), role) {
            return broken(match other == role {
                true => format!("key {} stands twice with the role {role}", key.id()),
                false => format!("key {} has two roles, {other} and {role}", key.id()),
            });
        }
    }
    Ok(())
}

fn members_have_the_classes_of_their_role(charter: &Charter) -> Result<(), Rule> {
    for member in charter.members() {
        if member.role.has_classes() == member.classes.is_empty() {
            return broken(match member.classes.is_empty() {
                true => format!("a member with the role {} has no class", member.role),
                false => format!("the role {} has no say in classes", member.role),
            });
        }
        if doubled(member.classes.iter()) {
            return broken("a member's class stands twice");
        }
    }
    Ok(())
}

fn revoked_keys_are_gone(charter: &Charter) -> Result<(), Rule> {
    let keys: Vec<KeyId> = charter.revocations().iter().map(|revocation| revocation.key).collect();
    let lives = |revocation: &Revocation| -> Vec<_> { revocation.pins.iter().map(|pin| pin.incarnation).collect() };
    let sorted = charter
        .revocations()
        .iter()
        .all(|revocation| strictly_ascending(&lives(revocation)));
    if !strictly_ascending(&keys) || !sorted {
        return Err(Rule::new(
            "bad-order",
            "revocations or their pins are unsorted or doubled",
        ));
    }
    match keys.iter().find_map(|key| Some((key, charter.role_of(*key)?))) {
        Some((key, role)) => broken(format!("key {key} is revoked and has the role {role}")),
        None => Ok(()),
    }
}

/// The same holds of halves: a witness's key is made for witnessing alone, and two witnesses are two.
fn witnesses_are_nobody_else(charter: &Charter) -> Result<(), Rule> {
    let Some(some) = &charter.witnesses else {
        return Ok(());
    };
    some.law()?;
    let witnesses = some.witnesses.iter();
    let others = charter
        .keys()
        .filter_map(|(_, key)| key.as_bytes().first_chunk::<ED25519_KEY_BYTES>());
    if doubled(witnesses.clone().map(|witness| &witness.ed25519).chain(others)) {
        return broken("a witness's Ed25519 key has another role, or stands twice");
    }
    match doubled(
        witnesses
            .filter_map(|witness| witness.ml_dsa.as_ref())
            .map(MlDsa44Key::as_bytes),
    ) {
        true => broken("an ML-DSA-44 key of a witness stands twice"),
        false => Ok(()),
    }
}

/// A set for a key that opens nothing would only make custodians believe that they hold something.
fn share_sets_are_of_recipients(charter: &Charter) -> Result<(), Rule> {
    for set in charter.share_sets() {
        set.law()?;
        let mut keys = charter.recipient_sets.iter().flat_map(|recipients| &recipients.keys);
        if !keys.any(|key| key.id() == set.recipient) {
            return broken(format!("a share set is for {}, which is no recipient", set.recipient));
        }
    }
    let sets = charter.share_sets();
    if doubled(sets.iter().map(|set| set.id)) {
        return broken("a share set stands twice");
    }
    match doubled(sets.iter().map(|set| set.recipient)) {
        true => broken("two splits of one recovery key"),
        false => Ok(()),
    }
}

/// Rules for a class that isn't there would protect nothing, and be taken for protection.
fn retention_is_of_classes(charter: &Charter) -> Result<(), Rule> {
    let rules = charter.retention.as_deref().unwrap_or_default();
    if !strictly_ascending(&rules.iter().map(|rules| rules.class).collect::<Vec<_>>()) {
        return Err(Rule::new("bad-order", "retention is unsorted, or a class stands twice"));
    }
    for rules in rules {
        rules.law()?;
        if charter.class(rules.class).is_none() {
            return broken(format!("retention of class {}, which is not there", rules.class));
        }
    }
    Ok(())
}

/// Which datasets, whose runs, which format. Groups may name keys that write no more: their runs are still there.
fn rules_for_writers_name_what_there_is(charter: &Charter) -> Result<(), Rule> {
    let classes = charter.registered_classes.as_deref().unwrap_or_default();
    let versions = charter.format_versions.as_deref().unwrap_or_default();
    if !strictly_ascending(classes) || !strictly_ascending(versions) {
        return Err(Rule::new(
            "bad-order",
            "classes that demand registration, or format versions, are unsorted or doubled",
        ));
    }
    if let Some(missing) = classes.iter().find(|class| charter.class(**class).is_none()) {
        return broken(format!("class {missing} demands registration and is not there"));
    }
    if versions.first() == Some(&0) {
        return broken("versions of the format begin with 1");
    }
    match doubled(charter.trust_groups.iter().flatten().flatten()) {
        true => broken("a key stands twice in the trust groups"),
        false => Ok(()),
    }
}

fn doubled<T: Ord>(ids: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    ids.into_iter().any(|id| !seen.insert(id))
}
