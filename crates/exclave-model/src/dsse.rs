//! DSSE envelopes (Dead Simple Signing Envelope 1.0.2): what a report is signed in.
//!
//! A signature covers `DSSEv1 SP LEN(type) SP type SP LEN(payload) SP payload`, the pre-authentication encoding, so neither
//! type nor payload can be exchanged, and no record of ours has a message that begins so. `sig` is our pair: the Ed25519
//! signature (64 bytes), then the ML-DSA-65 signature (3,309 bytes); `keyid` is the key's id in hex.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    id::KeyId,
    report::REPORT_BYTES_MAX,
    signed::{ED25519_SIGNATURE_BYTES, ML_DSA_65_SIGNATURE_BYTES, Signature},
};

/// The payload's type of an in-toto Statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Longest envelope: base64 takes four bytes for three, and the signatures are few.
pub const DSSE_BYTES_MAX: usize = REPORT_BYTES_MAX / 3 * 4 + (1 << 20);

/// Signatures that are looked at.
const SIGNATURES_MAX: usize = 16;

/// A payload with signatures that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DsseEnvelope {
    /// What the payload is.
    pub payload_type: String,
    /// Its exact bytes.
    pub payload: Vec<u8>,
    /// The signatures; none on an unsigned one.
    pub signatures: Vec<Signature>,
}

/// Why bytes are no envelope.
#[derive(Debug, thiserror::Error)]
pub enum DsseError {
    /// Longer than any.
    #[error("{found} bytes, the longest envelope has {DSSE_BYTES_MAX}")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Not JSON of that form.
    #[error("not a DSSE envelope")]
    Form(#[source] serde_json::Error),
    /// Not base64 in its one spelling.
    #[error("its {0} is not base64")]
    Base64(&'static str),
    /// Not our pair of signatures.
    #[error("a signature has {0} bytes, not those of Ed25519 and ML-DSA-65 together")]
    Signature(usize),
    /// Not a key's id.
    #[error("a signature names no key")]
    Key(#[source] crate::BadId),
    /// More signatures than a report has.
    #[error("{0} signatures")]
    TooMany(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

impl DsseEnvelope {
    /// What signatures are over.
    ///
    /// ```
    /// let message = exclave_model::dsse::pre_authentication("http://example.com/HelloWorld", b"hello world");
    /// assert_eq!(message, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    /// ```
    pub fn message(&self) -> Vec<u8> {
        pre_authentication(&self.payload_type, &self.payload)
    }

    /// The envelope's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let pair = |signature: &Signature| [&signature.ed25519[..], &signature.ml_dsa[..]].concat();
        let signatures = self.signatures.iter().map(|signature| WireSignature {
            keyid: signature.key.to_hex(),
            sig: STANDARD.encode(pair(signature)),
        });
        let wire = Wire {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures: signatures.collect(),
        };
        serde_json::to_vec(&wire)
    }

    /// Reads an envelope strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DsseError> {
        if bytes.len() > DSSE_BYTES_MAX {
            return Err(DsseError::TooLong { found: bytes.len() });
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(DsseError::Form)?;
        if wire.signatures.len() > SIGNATURES_MAX {
            return Err(DsseError::TooMany(wire.signatures.len()));
        }
        let payload = STANDARD
            .decode(&wire.payload)
            .map_err(|_| DsseError::Base64("payload"))?;
        let signatures = wire.signatures.iter().map(signature).collect::<Result<_, _>>()?;
        Ok(Self {
            payload_type: wire.payload_type,
            payload,
            signatures,
        })
    }
}

fn signature(wire: &WireSignature) -> Result<Signature, DsseError> {
    let key: KeyId = wire.keyid.parse().map_err(DsseError::Key)?;
    let pair = STANDARD.decode(&wire.sig).map_err(|_| DsseError::Base64("signature"))?;
    let wrong = || DsseError::Signature(pair.len());
    let (ed25519, ml_dsa) = pair.split_first_chunk::<ED25519_SIGNATURE_BYTES>().ok_or_else(wrong)?;
    let ml_dsa: &[u8; ML_DSA_65_SIGNATURE_BYTES] = ml_dsa.try_into().map_err(|_| wrong())?;
    Ok(Signature {
        key,
        ed25519: *ed25519,
        ml_dsa: Box::new(*ml_dsa),
    })
}

/// The pre-authentication encoding (DSSE protocol, "Signature Definition").
pub fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> DsseEnvelope {
        DsseEnvelope {
            payload_type: IN_TOTO.to_owned(),
            payload: b"{}".to_vec(),
            signatures: vec![Signature {
                key: KeyId::from_bytes([7; 32]),
                ed25519: [1; 64],
                ml_dsa: Box::new([2; ML_DSA_65_SIGNATURE_BYTES]),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = envelope().to_bytes().unwrap();
        assert_eq!(DsseEnvelope::from_bytes(&bytes).unwrap(), envelope());
    }

    #[test]
    fn half_a_signature_and_other_forms_are_refused() {
        let text = String::from_utf8(envelope().to_bytes().unwrap()).unwrap();
        let half = STANDARD.encode([1; 64]);
        let whole = STANDARD.encode([&[1; 64][..], &[2; ML_DSA_65_SIGNATURE_BYTES]].concat());
        for (from, to) in [
            (whole.as_str(), half.as_str()),
            (&whole, ""),
            (&whole, "!!!"),
            ("e30=", "e30"),
            ("e30=", "e31="),
            ("0707", "0x07"),
            ("\"keyid\"", "\"keyId\""),
            ("{\"payloadType\"", "{\"more\":1,\"payloadType\""),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text);
            assert!(DsseEnvelope::from_bytes(bad.as_bytes()).is_err(), "{from} -> {to}");
        }
    }
}
