//! What a directory says, as TOML: the text that is sealed, and most of a draft.

use std::io::{self, Write};

use exclave_model::{DatasetId, SiteId};
use serde::{Deserialize, Serialize};

use crate::{error::Trouble, format};

/// First line of every directory's text.
const FORMAT: &str = "exclave directory v1";

/// Longest entry of a directory.
const TEXT_BYTES_MAX: usize = 4000;

/// The order in which datasets come back: 0 first.
pub type Tier = u8;

/// The last tier.
const TIER_LAST: Tier = 3;

/// Names and contacts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    format: String,
    /// The datasets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dataset: Vec<DatasetEntry>,
    /// The sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub site: Vec<SiteEntry>,
}

/// One dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetEntry {
    /// Its opaque id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Whom to ring about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contact: String,
    /// When it comes back: 0 first, 3 last.
    pub tier: Tier,
    /// Ids of datasets that come back before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

/// One site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteEntry {
    /// Its id in the charter.
    pub id: String,
    /// Its name in the charter.
    pub name: String,
    /// Whom to ring about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contact: String,
    /// What the right to lie there rests on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agreement: String,
    /// Until when it holds: a date.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expires: String,
    /// Anything else.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

impl Directory {
    /// A directory of these entries.
    pub fn of(dataset: Vec<DatasetEntry>, site: Vec<SiteEntry>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            dataset,
            site,
        }
    }

    /// Reads a directory's text.
    pub fn parse(text: &str, shown: &str) -> Result<Self, Trouble> {
        let directory: Self =
            toml::from_str(text).map_err(|error| Trouble::usage(format!("{shown} can't be read")).source(error))?;
        if directory.format != FORMAT {
            return Err(Trouble::usage(format!("{shown} has a format that is unknown here")));
        }
        directory.check(shown)?;
        Ok(directory)
    }

    /// The text that is sealed.
    pub fn to_text(&self) -> Result<String, Trouble> {
        toml::to_string(self).map_err(|error| Trouble::failed("the directory can't be written down").source(error))
    }

    /// Ids are ids and stand once, tiers are tiers, nothing comes back before itself.
    pub fn check(&self, shown: &str) -> Result<(), Trouble> {
        let wrong = |what: String| Err(Trouble::usage(format!("{shown}: {what}")));
        let mut seen = std::collections::BTreeSet::new();
        for entry in &self.dataset {
            let texts = [&entry.name, &entry.owner, &entry.contact, &entry.notes];
            if let Some(why) = entry_trouble(&entry.id, entry.id.parse::<DatasetId>().is_ok(), &texts) {
                return wrong(why);
            }
            if !seen.insert(&entry.id) {
                return wrong(format!("dataset {} stands twice", entry.id));
            }
            if entry.tier > TIER_LAST {
                return wrong(format!("dataset {}: tiers are 0 to {TIER_LAST}", entry.id));
            }
        }
        for entry in &self.dataset {
            for before in &entry.after {
                match self.dataset.iter().find(|other| other.id == *before) {
                    None => return wrong(format!("dataset {} comes after {before}, which is not there", entry.id)),
                    Some(other) if other.tier > entry.tier => {
                        return wrong(format!(
                            "dataset {} of tier {} comes after {before} of tier {}",
                            entry.id, entry.tier, other.tier
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        if self.in_order().len() != self.dataset.len() {
            return wrong("some datasets come after each other in a circle".to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        for entry in &self.site {
            let texts = [&entry.name, &entry.contact, &entry.agreement, &entry.notes];
            if let Some(why) = entry_trouble(&entry.id, entry.id.parse::<SiteId>().is_ok(), &texts) {
                return wrong(why);
            }
            if !seen.insert(&entry.id) {
                return wrong(format!("site {} stands twice", entry.id));
            }
            if !entry.expires.is_empty() && entry.expires.parse::<jiff::civil::Date>().is_err() {
                return wrong(format!("site {}: a date is written as 2027-01-31", entry.name));
            }
        }
        Ok(())
    }

    /// The datasets in the order in which they come back: by tier, each after those that it needs, then by name. Those in a
    /// circle are missing.
    pub fn in_order(&self) -> Vec<&DatasetEntry> {
        let mut left: Vec<&DatasetEntry> = self.dataset.iter().collect();
        left.sort_by(|a, b| (a.tier, &a.name, &a.id).cmp(&(b.tier, &b.name, &b.id)));
        let mut ordered: Vec<&DatasetEntry> = Vec::new();
        let is_done = |ordered: &[&DatasetEntry], id: &String| ordered.iter().any(|done| done.id == *id);
        while let Some(at) = left
            .iter()
            .position(|entry| entry.after.iter().all(|before| is_done(&ordered, before)))
        {
            ordered.push(left.remove(at));
        }
        ordered
    }

    /// A dataset's entry.
    pub fn dataset(&self, id: &str) -> Option<&DatasetEntry> {
        self.dataset.iter().find(|entry| entry.id == id)
    }

    /// Where a dataset stands in the order; those that the directory does not know come last.
    pub fn place(&self, id: &str) -> usize {
        let ordered = self.in_order();
        ordered.iter().position(|entry| entry.id == id).unwrap_or(usize::MAX)
    }

    /// The whole of it, for people.
    pub fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\nDatasets, in the order in which they come back:")?;
        for entry in self.in_order() {
            writeln!(
                out,
                "  tier {}  {}  {}",
                entry.tier,
                entry.id,
                format::plain(&entry.name)
            )?;
            let after = entry.after.iter().filter_map(|id| self.dataset(id));
            let after: Vec<&str> = after.map(|entry| entry.name.as_str()).collect();
            let facts = [
                ("owner", entry.owner.as_str()),
                ("contact", entry.contact.as_str()),
                ("after", &after.join(", ")),
                ("notes", entry.notes.as_str()),
            ];
            said(out, &facts)?;
        }
        writeln!(out, "\nSites:")?;
        for entry in &self.site {
            writeln!(out, "  {}", format::plain(&entry.name))?;
            let facts = [
                ("contact", entry.contact.as_str()),
                ("agreement", entry.agreement.as_str()),
                ("expires", entry.expires.as_str()),
                ("notes", entry.notes.as_str()),
            ];
            said(out, &facts)?;
        }
        Ok(())
    }
}

fn said(out: &mut dyn Write, facts: &[(&str, &str)]) -> io::Result<()> {
    let some = facts.iter().filter(|(_, text)| !text.is_empty());
    for (what, text) in some {
        writeln!(out, "      {what}: {}", format::plain(text))?;
    }
    Ok(())
}

fn entry_trouble(id: &str, is_id: bool, texts: &[&String]) -> Option<String> {
    if !is_id {
        return Some(format!("{id:?} is no id: 32 hex digits"));
    }
    let long = texts.iter().any(|text| text.len() > TEXT_BYTES_MAX);
    long.then(|| format!("{id}: a text is longer than {TEXT_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: char, name: &str, tier: Tier, after: &str) -> DatasetEntry {
        let long = |digit: char| digit.to_string().repeat(32);
        DatasetEntry {
            id: long(id),
            name: name.to_owned(),
            tier,
            after: after.chars().map(long).collect(),
            ..DatasetEntry::default()
        }
    }

    fn names(directory: &Directory) -> Vec<&str> {
        directory.in_order().iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn tiers_come_back_one_after_the_other_and_nothing_before_what_it_needs() {
        let datasets = vec![
            entry('1', "archive", 2, ""),
            entry('2', "payments", 1, "4"),
            entry('3', "accounts", 1, "2"),
            entry('4', "people", 0, ""),
        ];
        let directory = Directory::of(datasets, Vec::new());
        directory.check("it").unwrap();
        assert_eq!(names(&directory), ["people", "payments", "accounts", "archive"]);
        assert_eq!(directory.place(&"4".repeat(32)), 0);
        assert_eq!(directory.place(&"9".repeat(32)), usize::MAX);
        let text = directory.to_text().unwrap();
        assert_eq!(Directory::parse(&text, "it").unwrap(), directory);
    }

    #[test]
    fn entries_that_can_not_be_meant_are_refused() {
        let cases = [
            (vec![entry('1', "a", 4, "")], "tiers are 0 to 3"),
            (vec![entry('x', "a", 0, "")], "is no id"),
            (vec![entry('1', "a", 0, ""), entry('1', "b", 0, "")], "stands twice"),
            (vec![entry('1', "a", 0, "2")], "which is not there"),
            (vec![entry('1', "a", 0, "2"), entry('2', "b", 1, "")], "of tier 1"),
            (vec![entry('1', "a", 0, "2"), entry('2', "b", 0, "1")], "in a circle"),
        ];
        for (datasets, expected) in cases {
            let refused = Directory::of(datasets, Vec::new()).check("it").unwrap_err();
            assert!(refused.to_string().contains(expected), "{refused}");
        }
        let site = SiteEntry {
            id: "5".repeat(32),
            expires: "soon".to_owned(),
            ..SiteEntry::default()
        };
        let refused = Directory::of(Vec::new(), vec![site]).check("it").unwrap_err();
        assert!(refused.to_string().contains("2027-01-31"), "{refused}");
        assert!(Directory::parse("format = \"exclave directory v2\"", "it").is_err());
        assert!(Directory::parse("format = \"exclave directory v1\"\ntiers = 1", "it").is_err());
    }
}
