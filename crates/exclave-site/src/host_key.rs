//! Which key an SSH server must prove to hold.
//!
//! It is named by its fingerprint, the SHA-256 of the key as SSH encodes it (RFC 4253 section 6.6), written `SHA256:` and 43
//! characters of base64 without padding: what `ssh-keygen -l` prints.

use std::fmt;
use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// What a fingerprint begins with; no other hash is known.
const SCHEME: &str = "SHA256:";

/// The fingerprint of an SSH server's key.
///
/// ```
/// use exclave_site::HostKey;
/// let text = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
/// assert_eq!(text.parse::<HostKey>().unwrap().to_string(), text);
/// for bad in ["", "SHA256:", "MD5:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "SHA256:47DEQpj8", "SHA256:a host"] {
///     assert!(bad.parse::<HostKey>().is_err(), "{bad}");
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey([u8; 32]);

/// Why a text is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host key's fingerprint; one is \"SHA256:\" and the base64 of 32 bytes, as `ssh-keygen -l` prints it"
)]
pub struct BadHostKey(String);

impl HostKey {
    /// The fingerprint whose SHA-256 is known.
    pub fn of_sha256(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl FromStr for HostKey {
    type Err = BadHostKey;

    fn from_str(text: &str) -> Result<Self, BadHostKey> {
        let bytes = text
            .strip_prefix(SCHEME)
            .and_then(|rest| STANDARD_NO_PAD.decode(rest).ok());
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes
            .map(Self)
            .ok_or_else(|| BadHostKey(text.chars().take(120).collect()))
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
