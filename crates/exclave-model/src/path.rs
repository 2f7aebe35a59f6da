//! Paths of entries inside a dataset.

use std::{cmp::Ordering, fmt};

use crate::limit::{PATH_BYTES_MAX, PATH_COMPONENT_BYTES_MAX};

/// A relative path of raw bytes below a dataset's root; the empty path is the root itself.
///
/// Components are joined by `/`; none is empty, `.` or `..`, none holds NUL, so a path can't climb out. Order is
/// component by component, so a directory stands right before what it holds.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryPath(Vec<u8>);

/// Why bytes are not an entry's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Over the cap.
    #[error("a path of {0} bytes is longer than {PATH_BYTES_MAX}")]
    TooLong(usize),
    /// One component is over the cap.
    #[error("a path component of {0} bytes is longer than {PATH_COMPONENT_BYTES_MAX}")]
    ComponentTooLong(usize),
    /// Empty component: absolute, doubled or trailing slash.
    #[error("a path component is empty")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("a path component is . or ..")]
    Climbs,
    /// Holds a NUL byte.
    #[error("a path holds a NUL byte")]
    Nul,
}

impl EntryPath {
    /// The root of the dataset.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads a path.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadPath> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong(bytes.len()));
        }
        if !bytes.is_empty() {
            bytes.split(|byte| *byte == b'/').try_for_each(lawful_component)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The path of `name` inside this directory.
    pub fn join(&self, name: &[u8]) -> Result<Self, BadPath> {
        if name.contains(&b'/') {
            return Err(BadPath::EmptyComponent);
        }
        lawful_component(name)?;
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !self.0.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if bytes.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// The bytes, as in the manifest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components in order; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The directory that holds this entry; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// True when `self` is `other` or lies above it.
    pub fn contains(&self, other: &Self) -> bool {
        self.0.is_empty() || (other.0.starts_with(&self.0) && matches!(other.0.get(self.0.len()), None | Some(b'/')))
    }
}

fn lawful_component(part: &[u8]) -> Result<(), BadPath> {
    match part {
        [] => Err(BadPath::EmptyComponent),
        b"." | b".." => Err(BadPath::Climbs),
        _ if part.len() > PATH_COMPONENT_BYTES_MAX => Err(BadPath::ComponentTooLong(part.len())),
        _ if part.contains(&0) => Err(BadPath::Nul),
        _ => Ok(()),
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A component ends where the next byte is `/`; counting that as the least byte compares component by component.
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntryPath {
    /// For people: bytes that are not UTF-8 and control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for part in self.0.utf8_chunks() {
            for character in part.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn order_goes_component_by_component() {
        let sorted = ["", "a", "a/b", "a/b/c", "a/c", "a b", "a.b", "a0", "b"].map(path);
        assert!(sorted.is_sorted_by(|left, right| left < right));
        assert!(path("a/b") < path("a.b"), "what a holds comes before a's siblings");
    }

    #[test]
    fn nothing_climbs() {
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a\0b"] {
            assert!(EntryPath::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(path("a").join(b"..").is_err());
        assert!(path("a").join(b"b/c").is_err());
    }

    #[test]
    fn containment_ends_at_components() {
        assert!(path("a").contains(&path("a/b")) && path("a").contains(&path("a")));
        assert!(!path("a").contains(&path("ab")) && EntryPath::root().contains(&path("a")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(EntryPath::root()));
    }
}
