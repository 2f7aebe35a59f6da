//! What a charter lays down for writers, in plain words: which datasets a class takes, whose runs may be reused, which
//! versions of the format may be written.

use exclave_model::{Charter, KeyId};

use super::draft::short;

fn group(keys: &[KeyId]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| short(key.as_bytes())).collect();
    keys.join(", ")
}

fn numbers(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(", ")
}

/// What holds under a version.
pub fn rules(charter: &Charter) -> Vec<String> {
    let mut lines = Vec::new();
    for class in charter.registered_classes.iter().flatten() {
        lines.push(format!(
            "class {class} takes only datasets that an administrator of it added"
        ));
    }
    for keys in charter.trust_groups.iter().flatten() {
        lines.push(format!(
            "these writers reuse each other's runs and nobody else's: {}",
            group(keys)
        ));
    }
    if charter.trust_groups.is_some() {
        lines.push("writers that are in none of these groups are together in one".to_owned());
    }
    if let Some(versions) = &charter.format_versions {
        lines.push(format!(
            "versions of the format that may be written: {}",
            numbers(versions)
        ));
    }
    lines
}

/// What of it one version changes.
pub fn rule_changes(before: &Charter, next: &Charter, lines: &mut Vec<String>) {
    for class in &next.classes {
        match (
            before.demands_registration(class.id),
            next.demands_registration(class.id),
        ) {
            (false, true) => lines.push(format!(
                "class {} takes only datasets that an administrator of it added",
                class.id
            )),
            (true, false) => lines.push(format!("class {} takes any dataset of its writers", class.id)),
            (true, true) | (false, false) => {}
        }
    }
    if before.trust_groups != next.trust_groups {
        let groups = next.trust_groups.as_deref().unwrap_or_default();
        let named: Vec<String> = groups.iter().map(|keys| format!("({})", group(keys))).collect();
        lines.push(match named.is_empty() {
            true => "all writers may reuse each other's runs".to_owned(),
            false => format!(
                "writers may reuse runs within these groups alone: {}; all others are one group",
                named.join(", ")
            ),
        });
    }
    if before.format_versions != next.format_versions {
        let versions = next.format_versions.as_deref().unwrap_or(&[1]);
        lines.push(format!(
            "versions of the format that may be written: {}",
            numbers(versions)
        ));
    }
}

/// What of it nobody should learn afterwards.
pub fn rule_warnings(before: &Charter, next: &Charter, lines: &mut Vec<String>) {
    if before.trust_groups != next.trust_groups && next.trust_groups.is_some() {
        lines
            .push("what a writer referred to in runs outside its group is sent anew with its next snapshot".to_owned());
    }
    let mine = |version: &Charter| version.allows_format(exclave_engine::replicate::FORMAT_VERSION);
    if !mine(next) {
        lines.push(
            "this program, and every one that writes the same version of the format, will refuse to write".to_owned(),
        );
    }
    let members = before.members().iter().filter(|member| member.role.has_classes());
    for member in members {
        let id = member.key.id();
        let revoked = before.revocation(id).is_none() && next.revocation(id).is_some();
        if revoked {
            lines.push(format!(
                "what administrator {} said of datasets is void: another one says it again with `exclave dataset add`, or \
                 the datasets are registered no more and nothing more is demanded for them",
                short(id.as_bytes())
            ));
        }
    }
}
