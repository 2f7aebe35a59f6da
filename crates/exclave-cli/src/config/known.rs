//! Refuses keys that don't exist, and says which one may have been meant.
//!
//! The known keys are those of the reference with its examples uncommented. A key that is misspelt must not pass for a
//! key that is absent: `silense_max = "90s"` would leave the default in force without a word.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{config::REFERENCE, error::Trouble};

/// Names that differ more are no misspellings of one another: Jaro-Winkler, chosen by eye on the reference's keys.
const LIKENESS_MIN: f64 = 0.75;

/// Checks every key of a file.
pub fn check(text: &str, shown: &str) -> Result<(), Trouble> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, &span));
        malformed(shown, line, error.message())
    })?;
    let reference = uncommented(REFERENCE);
    let known: toml::Table =
        toml::from_str(&reference).map_err(|error| malformed("reference", None, error.message()))?;
    let Some(unknown) = find_unknown(table.get_ref(), &known, &[]) else {
        return Ok(());
    };
    let name = unknown.path.last().cloned().unwrap_or_default();
    let place = format!("{shown}:{}", line_of(text, &unknown.span));
    let trouble = Trouble::usage(format!("{place}: unknown key `{}`", unknown.path.join(".")));
    let nearest = unknown
        .siblings
        .iter()
        .map(|sibling| (strsim::jaro_winkler(&name, sibling), sibling))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Err(match nearest {
        Some((_, sibling)) => trouble.hint(format!("did you mean `{sibling}`?")),
        None => trouble.hint(format!("known here are {}", unknown.siblings.join(", "))),
    })
}

/// The line, from 1, of a key given by its path; `None` when the file doesn't have it.
pub fn line_of_key(text: &str, path: &[&str]) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let (first, rest) = path.split_first()?;
    let mut found = table.get_ref().get_key_value(*first)?;
    for part in rest {
        let DeValue::Table(table) = found.1.get_ref() else {
            return None;
        };
        found = table.get_key_value(*part)?;
    }
    Some(line_of(text, &found.0.span()))
}

/// The reference with its examples in force.
fn uncommented(reference: &str) -> String {
    let example = |line: &&str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
    };
    let lines = reference.lines();
    let lines = lines.map(|line| {
        if example(&line) {
            line.get(1..).unwrap_or(line)
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

struct Unknown {
    path: Vec<String>,
    span: Range<usize>,
    siblings: Vec<String>,
}

fn find_unknown(table: &DeTable<'_>, known: &toml::Table, above: &[String]) -> Option<Unknown> {
    for (key, value) in table {
        let path = [above, &[key.get_ref().to_string()]].concat();
        let Some(expected) = keys_at(known, &path) else {
            // An unknown table is reported itself, not its first key.
            return Some(Unknown {
                span: key.span(),
                siblings: above_keys(known, above),
                path,
            });
        };
        let inner = match (value.get_ref(), expected) {
            (DeValue::Table(inner), Expected::Table) => find_unknown(inner, known, &path),
            (DeValue::Array(items), Expected::Tables) => items
                .iter()
                .filter_map(|item: &Spanned<DeValue<'_>>| item.get_ref().as_table())
                .find_map(|inner| find_unknown(inner, known, &path)),
            // A value of another type is for the types to refuse.
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
    }
    None
}

enum Expected {
    Value,
    Table,
    Tables,
}

fn keys_at(known: &toml::Table, path: &[String]) -> Option<Expected> {
    match path {
        [only] => known.get(only).map(|value| match value {
            toml::Value::Table(_) => Expected::Table,
            toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => Expected::Tables,
            _ => Expected::Value,
        }),
        [above @ .., last] => above_keys(known, above).contains(last).then_some(Expected::Value),
        [] => None,
    }
}

/// The keys that a table may have. A site may have all of `every_site`, a dataset all of `every_dataset`.
fn above_keys(known: &toml::Table, above: &[String]) -> Vec<String> {
    let keys_of = |name: &str| match known.get(name) {
        Some(toml::Value::Table(table)) => table.keys().cloned().collect(),
        Some(toml::Value::Array(items)) => items
            .iter()
            .filter_map(toml::Value::as_table)
            .flat_map(|table| table.keys().cloned())
            .collect(),
        _ => Vec::new(),
    };
    match above {
        [] => known.keys().cloned().collect(),
        [name] if name == "site" || name == "dataset" => [keys_of(name), keys_of(&format!("every_{name}"))].concat(),
        [name, ..] => keys_of(name),
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn malformed(shown: &str, line: Option<usize>, message: &str) -> Trouble {
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    Trouble::usage(format!("{shown}{line}: not TOML: {message}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::Config, *};

    #[test]
    fn the_reference_is_valid_with_and_without_its_examples() {
        check(REFERENCE, "reference").unwrap();
        check(&uncommented(REFERENCE), "reference").unwrap();
        Config::parse(&every_key(), None).unwrap();
    }

    /// A file with every key in it.
    pub fn every_key() -> String {
        let all = uncommented(REFERENCE);
        // Two of path, command and commands have to go: a dataset has one source.
        let all = all.replace("path = \"/srv/land-register\"\n", "");
        let all = all.replace("\ncommand = [", "\n#command = [");
        let all = all.replace("64 hex digits", &"ab".repeat(32));
        all.replace("ca_file", "#ca_file")
            .replace("known_hosts_file", "#known_hosts_file")
            .replace("exclude_file", "#exclude_file")
    }

    #[test]
    fn every_key_stands_under_its_reason() {
        // A key is explained by the comment above it, directly or above its neighbours.
        let mut explained = false;
        for (number, line) in REFERENCE.lines().enumerate() {
            let is_key = line.trim_start_matches('#').split(" = ").next().is_some_and(|key| {
                !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            }) && line.contains(" = ");
            assert!(!is_key || explained, "line {}: {line} has no reason", number + 1);
            let heads_a_table = line.starts_with("#[[");
            explained = line.starts_with("# ") || (explained && (is_key || heads_a_table));
        }
    }

    #[test]
    fn misspelt_keys_are_found_with_their_line() {
        for (text, message, hint) in [
            (
                "\n[every_site]\nsilense_max = \"90s\"",
                "f:3: unknown key `every_site.silense_max`",
                "did you mean `silence_max`?",
            ),
            (
                "[[site]]\nname = \"a\"\n[[site]]\nadress = \"x\"",
                "f:4: unknown key `site.adress`",
                "did you mean `address`?",
            ),
            (
                "[[sites]]\nname = \"a\"",
                "f:1: unknown key `sites`",
                "did you mean `site`?",
            ),
            (
                "[clas]\ncode = \"1+1\"",
                "f:1: unknown key `clas`",
                "did you mean `class`?",
            ),
            (
                "class.zzz = 1",
                "f:1: unknown key `class.zzz`",
                "known here are code, liars",
            ),
        ] {
            let error = check(text, "f").unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(error.hint_text().unwrap().starts_with(hint), "{:?}", error.hint_text());
        }
        assert!(check("a = ", "f").unwrap_err().to_string().starts_with("f:1: not TOML"));
    }
}
