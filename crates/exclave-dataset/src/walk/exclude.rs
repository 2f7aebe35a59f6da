//! What is left out of a walk by rule.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use exclave_model::EntryPath;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Exclude rules in gitignore syntax, all anchored at the root of the dataset.
///
/// As in git, the last rule that matches decides, `!` takes back, a trailing `/` means directories only, and what lies in
/// an excluded directory can't be taken back. Names are matched as bytes; rules are UTF-8.
#[derive(Debug, Clone)]
pub struct ExcludeRules(Gitignore);

/// A rule that can't be understood.
#[derive(Debug, thiserror::Error)]
#[error("exclude rule {number} is malformed: {rule:?}")]
pub struct BadRule {
    number: usize,
    rule: String,
    #[source]
    source: ignore::Error,
}

impl ExcludeRules {
    /// Excludes nothing.
    pub fn none() -> Self {
        Self(Gitignore::empty())
    }

    /// Reads rules, one a line; empty lines and lines that begin with `#` say nothing. Rules count from 1 in errors.
    ///
    /// ```
    /// use exclave_dataset::walk::ExcludeRules;
    /// assert!(ExcludeRules::parse(["*.tmp", "!keep.tmp", "/cache/", "# why"]).is_ok());
    /// assert!(ExcludeRules::parse(["a{b"]).is_err());
    /// ```
    pub fn parse<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, BadRule> {
        let mut builder = GitignoreBuilder::new("");
        let mut last = (0, "");
        for (index, rule) in rules.into_iter().enumerate() {
            last = (index + 1, rule);
            builder.add_line(None, rule).map_err(|source| bad_rule(last, source))?;
        }
        // Building joins all rules; a failure can't be laid at one rule's door.
        builder.build().map(Self).map_err(|source| bad_rule(last, source))
    }

    /// True when the entry, whose parents are all included, is left out.
    pub(crate) fn exclude(&self, path: &EntryPath, is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        self.0.matched(path, is_directory).is_ignore()
    }
}

fn bad_rule((number, rule): (usize, &str), source: ignore::Error) -> BadRule {
    BadRule {
        number,
        rule: rule.chars().take(200).collect(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_mean_what_git_means() {
        let rules = ExcludeRules::parse([
            "*.tmp",
            "!keep.tmp",
            "/top",
            "build/",
            "a/**/z",
            "caf\u{e9}",
            "",
            "# no",
        ])
        .unwrap();
        let excluded = |path: &[u8], is_directory| rules.exclude(&EntryPath::parse(path).unwrap(), is_directory);
        for (path, is_directory, expected) in [
            (&b"x.tmp"[..], false, true),
            (b"d/x.tmp", false, true),
            (b"d/keep.tmp", false, false),
            (b"top", false, true),
            (b"d/top", false, false),
            (b"d/build", true, true),
            (b"d/build", false, false),
            (b"a/b/c/z", false, true),
            (b"d/caf\xc3\xa9", false, true),
            (b"d/caf\xe9", false, false),
            (b"\xff\xfe.tmp", false, true),
            (b"# no", false, false),
        ] {
            assert_eq!(excluded(path, is_directory), expected, "{:?}", EntryPath::parse(path));
        }
    }

    #[test]
    fn malformed_rules_are_named() {
        let error = ExcludeRules::parse(["ok", "x{y"]).unwrap_err();
        assert_eq!(error.to_string(), "exclude rule 2 is malformed: \"x{y\"");
    }
}
