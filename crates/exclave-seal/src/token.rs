//! Ed25519 halves that lie in tokens (PKCS#11), as this crate sees them: something that signs bytes, or says why not.
//!
//! What a token is, and how one is talked to, is the command line's affair: this crate does no I/O. A key file names the
//! token and the key in it (FORMAT.md section 13), and never the library that talks to it: whoever could write the file
//! could then have any library loaded.

/// Longest label of a token, in bytes (PKCS#11 3.0, CK_TOKEN_INFO).
pub const TOKEN_LABEL_BYTES_MAX: usize = 32;
/// Longest serial number of a token, in bytes.
pub const TOKEN_SERIAL_BYTES_MAX: usize = 16;
/// Longest id of a key in a token (CKA_ID) that a key file may have.
pub const TOKEN_KEY_ID_BYTES_MAX: usize = 64;

/// Which key of which token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The token's label.
    pub label: String,
    /// Its serial number: labels may be given twice.
    pub serial: String,
    /// CKA_ID of the pair.
    pub id: Vec<u8>,
}

/// A token does not do what is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenTrouble(pub String);

/// Signs exact bytes with an Ed25519 key (RFC 8032, pure) that never leaves its token.
pub trait Ed25519Signer: Send + Sync {
    /// The signature of these bytes. Callers verify it; implementations need not.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], TokenTrouble>;
}

/// Finds keys in tokens.
pub trait Tokens: Send + Sync {
    /// The signer of this key, whose public half is known.
    fn open(&self, key: &TokenKey, public: &[u8; 32]) -> Result<Box<dyn Ed25519Signer>, TokenTrouble>;
}

/// Where no token can be reached.
pub struct NoTokens;

impl Tokens for NoTokens {
    fn open(&self, key: &TokenKey, _public: &[u8; 32]) -> Result<Box<dyn Ed25519Signer>, TokenTrouble> {
        Err(TokenTrouble(format!(
            "the key's Ed25519 half lies in token {:?}, and no token can be reached here",
            key.label
        )))
    }
}
