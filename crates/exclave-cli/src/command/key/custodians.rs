//! The custodians file: who is to hold shares, in which groups, with which thresholds.
//!
//! ```toml
//! [[group]]
//! name = "national offices"
//! threshold = 2
//! custodian = [
//!     { name = "Ministry of Justice", kind = "national", contact = "+372 600 0000" },
//!     { name = "National Archives", kind = "national" },
//! ]
//! ```

use std::path::Path;

use exclave_model::{Body, ShareSet};
use exclave_seal::share::{GroupPlan, SplitPlan};
use serde::Deserialize;

use crate::{
    error::{Context as _, Trouble},
    format::is_unseen,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    /// How many groups are needed; all of them when left out.
    threshold: Option<u8>,
    #[serde(default)]
    group: Vec<GroupText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupText {
    name: String,
    threshold: Option<u8>,
    #[serde(default)]
    custodian: Vec<CustodianText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CustodianText {
    name: String,
    kind: String,
    #[serde(default)]
    contact: String,
}

/// Who is to hold shares, and how to reach them.
pub struct Custodians {
    /// The plan.
    pub plan: SplitPlan,
    /// How each is reached, in the order of [`ShareSet::places`].
    pub contacts: Vec<String>,
}

/// Reads the file. `threshold` is that of an only group which names none.
pub fn read(path: &Path, threshold: Option<u8>, previous: Option<&ShareSet>) -> Result<Custodians, Trouble> {
    let wrong = || Trouble::usage(format!("the custodians file {} can't be used", path.display()));
    let text = std::fs::read_to_string(path).because(wrong)?;
    let text: Text = toml::from_str(&text).because(wrong)?;
    let only = text.group.len() == 1;
    if threshold.is_some() && !only {
        return Err(
            Trouble::usage("--threshold is for one group; here there are several or none")
                .hint("give each [[group]] its `threshold`"),
        );
    }
    let mut groups = Vec::new();
    let mut contacts = Vec::new();
    for group in text.group {
        let stated = match (group.threshold, threshold) {
            (Some(stated), Some(given)) if stated != given => {
                let what = format!("--threshold {given}, and {} says {stated}", path.display());
                return Err(Trouble::usage(what).hint("leave one of them out"));
            }
            (stated, given) => stated.or(given),
        };
        let threshold = stated.ok_or_else(|| {
            Trouble::usage(format!("group {:?} has no threshold", group.name))
                .hint("say how many of its custodians are needed: `threshold = 2`, or --threshold 2")
        })?;
        let mut custodians = Vec::new();
        for custodian in group.custodian {
            let unseen = custodian
                .name
                .chars()
                .chain(group.name.chars())
                .find(|letter| is_unseen(*letter));
            if let Some(letter) = unseen {
                return Err(Trouble::usage(format!(
                    "the name {:?} holds a character that nobody sees, {}",
                    custodian.name,
                    letter.escape_unicode()
                ))
                .hint("two names must not look alike on cards; write it again by hand"));
            }
            let kind: Body = custodian
                .kind
                .parse()
                .map_err(|why: String| wrong().source(format!("the kind of {}: {why}", custodian.name)))?;
            custodians.push((custodian.name, kind));
            contacts.push(custodian.contact);
        }
        groups.push(GroupPlan {
            name: group.name,
            threshold,
            custodians,
        });
    }
    // At most 16 by law, which the plan's draft checks.
    let all = u8::try_from(groups.len()).unwrap_or(u8::MAX);
    let plan = SplitPlan {
        threshold: text.threshold.unwrap_or(all.max(1)),
        groups,
        previous: previous.map(|set| (set.id, set.epoch)),
    };
    Ok(Custodians { plan, contacts })
}

/// The beginning of a custodian's files: group, share, and the name as far as a file may be called so.
pub fn file_stem(group: u8, x: u8, name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        match letter {
            'a'..='z' | '0'..='9' => slug.push(letter),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
        if slug.len() >= 40 {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    match slug.is_empty() {
        true => format!("{}-{x}", group + 1),
        false => format!("{}-{x}-{slug}", group + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
        [[group]]
        name = "offices"
        threshold = 2
        custodian = [{ name = "A", kind = "national", contact = "+1" }, { name = "B", kind = "national" }]
        [[group]]
        name = "embassies"
        threshold = 2
        custodian = [{ name = "C", kind = "allied" }, { name = "D", kind = "international" }]
    "#;

    fn read_text(text: &str, threshold: Option<u8>) -> Result<Custodians, Trouble> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), threshold, None)
    }

    #[test]
    fn groups_and_thresholds_are_read() {
        let two = read_text(TWO, None).unwrap();
        assert_eq!((two.plan.threshold, two.plan.groups.len()), (2, 2));
        assert_eq!(two.contacts, ["+1", "", "", ""]);
        assert_eq!(two.plan.groups[1].custodians[1], ("D".to_owned(), Body::International));
        let one = "[[group]]\nname = \"all\"\ncustodian = [{ name = \"A\", kind = \"allied\" }]";
        assert_eq!(read_text(one, Some(3)).unwrap().plan.groups[0].threshold, 3);
        assert_eq!(read_text(one, Some(3)).unwrap().plan.threshold, 1);
        let either = format!("threshold = 1\n{TWO}");
        assert_eq!(
            read_text(&either, None).unwrap().plan.threshold,
            1,
            "the law refuses it later"
        );
        for (bad, threshold) in [
            (one.to_owned(), None),
            (TWO.to_owned(), Some(2)),
            (one.replace("name = \"all\"", "name = \"all\"\nthreshold = 2"), Some(3)),
            (one.replace("allied", "friendly"), Some(2)),
            (format!("{TWO}\nextra = 1"), None),
            ("not toml".to_owned(), None),
        ] {
            assert!(read_text(&bad, threshold).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_are_called_after_their_custodian() {
        assert_eq!(file_stem(0, 2, "Ministry of Justice"), "1-2-ministry-of-justice");
        assert_eq!(file_stem(1, 16, "../../etc: \u{1f512}"), "2-16-etc");
        assert_eq!(file_stem(0, 1, "Посольство"), "1-1");
        assert!(file_stem(0, 1, &"long ".repeat(20)).len() < 50);
    }
}
