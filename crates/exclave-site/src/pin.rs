//! Which key a server must prove to hold.
//!
//! A pin is the SHA-256 of a certificate's SubjectPublicKeyInfo, as HTTP's key pinning defined it (RFC 7469 section
//! 2.4), written `sha256/` and 44 characters of base64. It outlives the certificate: one that is renewed with the same
//! key keeps its pin.
//!
//! Only the server's own certificate counts, not those it sends along. The handshake proves that the server holds the
//! key of the first; the others are mere copies, which anyone can append to a certificate of his own making. Who wants
//! to pin an authority names its certificate instead ([`crate::SiteSettings::ca_pem`]): then the chain is checked.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// What a pin begins with; no other hash is known.
const SCHEME: &str = "sha256/";

/// The SHA-256 of a server's public key.
///
/// ```
/// use exclave_site::Pin;
/// let text = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
/// assert_eq!(text.parse::<Pin>().unwrap().to_string(), text);
/// for bad in ["", "sha256/", "sha1/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "sha256/47DEQpj8"] {
///     assert!(bad.parse::<Pin>().is_err(), "{bad}");
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

/// The pins of one site, of this kind or another: none, or several while a key is changed. In settings one text, or a list
/// of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Pins<T = Pin>(Vec<T>);

/// Why a text is no pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pin; one is \"sha256/\" and the base64 of 32 bytes")]
pub struct BadPin(String);

impl Pin {
    /// The pin of a key, from its SubjectPublicKeyInfo in DER (RFC 5280 section 4.1).
    pub fn of_public_key(subject_public_key_info: &[u8]) -> Self {
        let hash = digest(&SHA256, subject_public_key_info);
        let mut bytes = [0; 32];
        // Both are 32 bytes; `zip` can't panic where a copy could.
        bytes.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

impl<T> Default for Pins<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Pins<T> {
    /// True when any key will do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when this key is one of them.
    pub fn contains(&self, pin: &T) -> bool {
        self.0.contains(pin)
    }

    /// The pins as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl<T> FromIterator<T> for Pins<T> {
    fn from_iter<I: IntoIterator<Item = T>>(pins: I) -> Self {
        Self(pins.into_iter().collect())
    }
}

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Self, BadPin> {
        let bytes = text.strip_prefix(SCHEME).and_then(|rest| STANDARD.decode(rest).ok());
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| BadPin(text.chars().take(120).collect()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T: fmt::Display> fmt::Display for Pins<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(T::to_string).collect();
        f.write_str(&texts.join(", "))
    }
}

impl<T: fmt::Debug> fmt::Debug for Pins<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Pins<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrSeveral<T>(PhantomData<T>);

        impl<'de, T: FromStr<Err: fmt::Display>> Visitor<'de> for OneOrSeveral<T> {
            type Value = Pins<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Pins<T>, E> {
                Ok(Pins(vec![text.parse().map_err(E::custom)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Pins<T>, A::Error> {
                let mut pins = Vec::new();
                while let Some(text) = texts.next_element::<String>()? {
                    pins.push(text.parse().map_err(A::Error::custom)?);
                }
                Ok(Pins(pins))
            }
        }

        from.deserialize_any(OneOrSeveral(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_what_openssl_makes_of_a_key() {
        // The public key of RFC 8032's first test, as `openssl dgst -sha256 -binary | base64` sees its DER.
        let key = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let pin = Pin::of_public_key(&STANDARD.decode(key).unwrap());
        assert_eq!(pin.to_string(), "sha256/BuP9j9opu2CrWVV95h7bCuzbIxE0vjDnW0Vfjht5L6k=");
    }

    #[test]
    fn settings_take_one_pin_or_several() {
        #[derive(Deserialize)]
        struct Settings {
            #[serde(default)]
            pin: Pins,
        }
        let count = |text: &str| toml::from_str::<Settings>(text).map(|settings| settings.pin.iter().count());
        let [a, b] = [b"a", b"b"].map(|key| Pin::of_public_key(key));
        assert_eq!(count(""), Ok(0));
        assert_eq!(count("pin = []"), Ok(0));
        assert_eq!(count(&format!("pin = \"{a}\"")), Ok(1));
        assert_eq!(count(&format!("pin = [\"{a}\", \"{b}\"]")), Ok(2));
        let twice = format!("pin = \"{a}, {b}\"");
        for bad in ["pin = \"\"", "pin = 1", "pin = [\"sha256/AAAA\"]", twice.as_str()] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }
}
