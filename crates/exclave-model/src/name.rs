//! Names of objects at a site.
//!
//! An [`ObjectName`] is a relative path of lowercase letters, digits, `-`, `_` and `.`, cut by single slashes. That is
//! the common subset of what S3, Azure, GCS, WebDAV and POSIX file systems keep unchanged, and it can't climb: no
//! component is empty, `.` or `..`. Parsing refuses everything else, so a hostile listing can't name a file outside.

use std::fmt;

/// Longest object name. S3 allows 1,024 bytes, file systems 255 a component; our longest is below 160.
pub const OBJECT_NAME_BYTES_MAX: usize = 512;

/// Where one object lies inside a site.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// Why a text is not an object name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an object name: {0:?}")]
pub struct BadObjectName(String);

impl ObjectName {
    /// Reads a name; refuses anything that a site might rewrite or that might leave the prefix.
    ///
    /// ```
    /// use exclave_model::ObjectName;
    /// assert!(ObjectName::parse("a1/charter/1.0011223344556677").is_ok());
    /// for bad in ["", "/a", "a/", "a//b", "a/../b", "A", "a b", "a\\b"] {
    ///     assert!(ObjectName::parse(bad).is_err());
    /// }
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadObjectName> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
        let component = |part: &str| {
            !part.is_empty()
                && part.len() <= crate::limit::PATH_COMPONENT_BYTES_MAX
                && part != "."
                && part != ".."
                && part.bytes().all(allowed)
        };
        if text.len() <= OBJECT_NAME_BYTES_MAX && text.split('/').all(component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadObjectName(text.chars().take(120).collect()))
        }
    }

    /// The name as a site stores it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

/// A place that names lie below: everything, or an [`ObjectName`] and a slash.
///
/// The slash is part of it, so that `runs/1` never finds what lies below `runs/10`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// The prefix of every name.
    pub const fn all() -> Self {
        Self(String::new())
    }

    /// The prefix of what lies below `name`.
    pub fn below(name: &ObjectName) -> Self {
        Self(format!("{}/", name.0))
    }

    /// Reads a prefix: empty, or an object name and a slash.
    ///
    /// ```
    /// use exclave_model::Prefix;
    /// assert!(Prefix::parse("").is_ok() && Prefix::parse("a1/runs/").is_ok());
    /// for bad in ["/", "a", "a//", "../", "A/"] {
    ///     assert!(Prefix::parse(bad).is_err());
    /// }
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadObjectName> {
        match text.strip_suffix('/') {
            Some(name) => Ok(Self::below(&ObjectName::parse(name)?)),
            None if text.is_empty() => Ok(Self::all()),
            None => Err(BadObjectName(text.chars().take(120).collect())),
        }
    }

    /// The name `rest` below this prefix.
    pub fn join(&self, rest: &str) -> Result<ObjectName, BadObjectName> {
        ObjectName::parse(&format!("{}{rest}", self.0))
    }

    /// True when `name` lies below this prefix.
    pub fn contains(&self, name: &ObjectName) -> bool {
        name.0.starts_with(&self.0)
    }

    /// The prefix as a site compares it: empty or ending in a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
