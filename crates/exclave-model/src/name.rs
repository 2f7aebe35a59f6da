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
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
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
