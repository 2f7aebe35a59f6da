//! Long-lived keys on disk: one small TOML file each (FORMAT.md section 13).
//!
//! A recovery identity, a custodian's share and a root key are protected by a passphrase (Argon2id, RFC 9106, then AES-256-GCM). A writer's
//! key may lie open, since an agent starts unattended: whoever has its host has its plaintext anyway. A file with
//! neither part is a public key. Of a signing key whose Ed25519 half lies in a token, the file keeps the ML-DSA-65 half in
//! one of these ways, and the token's name. File modes are the caller's: this module sees text only.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use exclave_model::{
    Anchor, PublicKey, RecipientKey, Role,
    charter::{RECIPIENT_KEY_BYTES, is_note_name},
    hex,
    limit::TAG_BYTES,
    signed::PUBLIC_KEY_BYTES,
    unhex,
};

use crate::{
    aead::Cipher,
    cosigning::{COSIGNING_PUBLIC_BYTES, COSIGNING_SECRET_BYTES},
    entropy::{Entropy, NoEntropy, draw},
    envelope::RecoveryIdentity,
    secret::Secret,
    share::file::{SHARE_PUBLIC_BYTES, read_header},
    signing::{Kept, ML_DSA_SECRET_BYTES, SIGNING_SECRET_BYTES, SigningKey},
    token::{
        NoTokens, TOKEN_KEY_ID_BYTES_MAX, TOKEN_LABEL_BYTES_MAX, TOKEN_SERIAL_BYTES_MAX, TokenKey, TokenTrouble, Tokens,
    },
};

/// First line of every key file.
const FORMAT: &str = "exclave key file v1";
/// Longest key file that is read.
pub const KEY_FILE_BYTES_MAX: usize = 64 << 10;
/// Most memory that a stranger's file may make us spend: 1 GiB.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Most passes and lanes that a stranger's file may ask for.
const PASSES_MAX: u32 = 16;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Opens run keys.
    Recovery,
    /// Signs what its role may.
    Signing(Role),
    /// Opens run keys together with other custodians' shares.
    Share,
    /// Opens shares that come by wire to one ceremony.
    Ceremony,
    /// Cosigns checkpoints ([`crate::cosigning`]).
    Witness,
}

impl KeyKind {
    /// Vouches for charters.
    pub const ROOT: Self = Self::Signing(Role::Root);
    /// Commits snapshots.
    pub const WRITER: Self = Self::Signing(Role::Writer);

    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Signing(role) => role.as_str(),
            Self::Share => "share",
            Self::Ceremony => "ceremony",
            Self::Witness => Role::Witness.as_str(),
        }
    }

    /// True when such a key may lie open: whoever uses it starts unattended.
    const fn may_lie_open(self) -> bool {
        matches!(self, Self::WRITER | Self::Witness)
    }

    /// Bytes of the public and of the secret half.
    const fn lengths(self) -> (usize, usize) {
        match self {
            Self::Recovery | Self::Ceremony => (RECIPIENT_KEY_BYTES, 32),
            Self::Signing(_) => (PUBLIC_KEY_BYTES, SIGNING_SECRET_BYTES),
            Self::Share => (SHARE_PUBLIC_BYTES, 32),
            Self::Witness => (COSIGNING_PUBLIC_BYTES, COSIGNING_SECRET_BYTES),
        }
    }
}

impl Serialize for KeyKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KeyKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        // A witness's key is of another form than those that sign records.
        let roles = Role::ALL.iter().copied().filter(|role| *role != Role::Witness);
        let roles = roles.map(Self::Signing);
        [Self::Recovery, Self::Share, Self::Ceremony, Self::Witness]
            .into_iter()
            .chain(roles)
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| serde::de::Error::custom("its kind is unknown"))
    }
}

/// What a person types; wiped when dropped.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes a passphrase; an empty one is none.
    pub fn new(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        (!text.is_empty()).then_some(Self(text))
    }

    /// True when both are the same.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// How much work a guess at the passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// RFC 9106's second recommendation: 64 MiB, three passes, four lanes.
    pub const STANDARD: Self = Self {
        memory_kib: 64 << 10,
        passes: 3,
        lanes: 4,
    };
    /// For tests that make many keys.
    pub const TEST: Self = Self {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
}

/// Why a key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Not a key file.
    #[error("not an exclave key file: {0}")]
    Malformed(String),
    /// Too long to be one.
    #[error("a key file of {0} bytes is longer than {KEY_FILE_BYTES_MAX}")]
    TooLong(usize),
    /// A key of another kind.
    #[error("this is a key for the role {found}, one for the role {wanted} is needed", found = found.as_str(), wanted = wanted.as_str())]
    Kind {
        /// What it is.
        found: KeyKind,
        /// What was asked for.
        wanted: KeyKind,
    },
    /// The file asks for more memory or time than is sane.
    #[error("the key file asks for too costly an Argon2id: {memory_kib} KiB, {passes} passes, {lanes} lanes")]
    Cost {
        /// Memory.
        memory_kib: i64,
        /// Passes.
        passes: i64,
        /// Lanes.
        lanes: i64,
    },
    /// It is protected, and no passphrase was given.
    #[error("the key is protected by a passphrase")]
    PassphraseNeeded,
    /// Wrong passphrase, or an altered file.
    #[error("the passphrase does not open the key")]
    WrongPassphrase,
    /// The file holds the public half only.
    #[error("the file holds only the public half of the key")]
    PublicOnly,
    /// Public and secret half do not belong together.
    #[error("the public half does not belong to the secret half")]
    Mismatch,
    /// The half in the token can't be had.
    #[error(transparent)]
    Token(#[from] TokenTrouble),
    /// Argon2id could not run, for want of memory.
    #[error("Argon2id failed: {0}")]
    Argon2(String),
    /// No randomness for a salt.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: String,
    kind: KeyKind,
    public: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenText {
    label: String,
    serial: String,
    id: String,
}

impl TokenText {
    fn read(self) -> Option<TokenKey> {
        let id = unhex_vec(&self.id).filter(|id| (1..=TOKEN_KEY_ID_BYTES_MAX).contains(&id.len()))?;
        let printable = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        let lawful = printable(&self.label)
            && self.label.len() <= TOKEN_LABEL_BYTES_MAX
            && printable(&self.serial)
            && self.serial.len() <= TOKEN_SERIAL_BYTES_MAX;
        lawful.then_some(TokenKey {
            label: self.label,
            serial: self.serial,
            id,
        })
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    kdf: String,
    // TOML's integers. A cap says more than a type does when a file asks for too much.
    memory_kib: i64,
    passes: i64,
    lanes: i64,
    salt: String,
    ciphertext: String,
}

/// One key on disk.
pub struct KeyFile {
    kind: KeyKind,
    public: Vec<u8>,
    /// What a witness is called in signed notes.
    name: Option<String>,
    archive: Option<Anchor>,
    /// Where the Ed25519 half lies; then the protected secret is the ML-DSA-65 seed.
    token: Option<TokenKey>,
    protection: Protection,
}

enum Protection {
    PublicOnly,
    Open(Zeroizing<Vec<u8>>),
    Sealed(Sealed),
}

impl KeyFile {
    /// A file for a new recovery identity.
    pub fn for_recovery(
        identity: &RecoveryIdentity,
        passphrase: &Passphrase,
        cost: Cost,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, KeyFileError> {
        let public = identity.public().as_bytes().to_vec();
        Self::sealed(
            KeyKind::Recovery,
            public,
            identity.seed().expose(),
            passphrase,
            cost,
            entropy,
        )
    }

    /// A file for a signing key of any role, protected by a passphrase.
    pub fn for_signing(
        key: &SigningKey,
        role: Role,
        passphrase: &Passphrase,
        cost: Cost,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, KeyFileError> {
        let public = key.public().as_bytes().to_vec();
        let secret = match key.kept() {
            Kept::Both(seeds) => &seeds.expose()[..],
            Kept::MlDsa(seed) => &seed.expose()[..],
        };
        let file = Self::sealed(KeyKind::Signing(role), public, secret, passphrase, cost, entropy)?;
        Ok(Self {
            token: key.token().cloned(),
            ..file
        })
    }

    /// A file for any key that a passphrase protects.
    pub(crate) fn sealed(
        kind: KeyKind,
        public: Vec<u8>,
        secret: &[u8],
        passphrase: &Passphrase,
        cost: Cost,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, KeyFileError> {
        Ok(Self {
            kind,
            public,
            name: None,
            archive: None,
            token: None,
            protection: Protection::Sealed(seal(kind, secret, passphrase, cost, entropy)?),
        })
    }

    /// A file for a writer's key, which lies open.
    pub fn for_writer(key: &SigningKey) -> Self {
        let secret = match key.kept() {
            Kept::Both(seeds) => seeds.expose().to_vec(),
            Kept::MlDsa(seed) => seed.expose().to_vec(),
        };
        Self {
            kind: KeyKind::WRITER,
            public: key.public().as_bytes().to_vec(),
            name: None,
            archive: None,
            token: key.token().cloned(),
            protection: Protection::Open(Zeroizing::new(secret)),
        }
    }

    /// A file for a witness's key of this name, which lies open.
    pub(crate) fn open_witness_file(name: String, public: Vec<u8>, secret: &[u8; COSIGNING_SECRET_BYTES]) -> Self {
        Self {
            kind: KeyKind::Witness,
            public,
            name: Some(name),
            archive: None,
            token: None,
            protection: Protection::Open(Zeroizing::new(secret.to_vec())),
        }
    }

    /// The same key without its secret.
    pub fn public_part(&self) -> Self {
        Self {
            kind: self.kind,
            public: self.public.clone(),
            name: self.name.clone(),
            archive: self.archive,
            token: None,
            protection: Protection::PublicOnly,
        }
    }

    /// Reads a key file's bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyFileError> {
        if bytes.len() > KEY_FILE_BYTES_MAX {
            return Err(KeyFileError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| KeyFileError::Malformed("it is not UTF-8".to_owned()))?;
        Self::parse(text)
    }

    /// Reads a key file.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(KeyFileError::TooLong(text.len()));
        }
        let malformed = |why: &str| KeyFileError::Malformed(why.to_owned());
        // The parser's own message would quote the line, and with it perhaps a secret.
        let text: Text = toml::from_str(text).map_err(|error| KeyFileError::Malformed(error.message().to_owned()))?;
        if text.format != FORMAT {
            return Err(malformed("its format line is unknown"));
        }
        let archive = text
            .archive
            .map(|digits| {
                digits
                    .parse::<Anchor>()
                    .map_err(|_| malformed("its archive is not an anchor"))
            })
            .transpose()?;
        let (public_bytes, secret_bytes) = text.kind.lengths();
        let public = unhex_vec(&text.public)
            .filter(|public| public.len() == public_bytes)
            .ok_or_else(|| malformed("its public key is not hex, or of another length"))?;
        if text.kind == KeyKind::Share {
            read_header(&public)?;
        }
        match (&text.name, text.kind) {
            (None, KeyKind::Witness) => return Err(malformed("a witness's key has no name")),
            (Some(name), KeyKind::Witness) if !is_note_name(name) => return Err(malformed("its name is none")),
            (Some(_), kind) if kind != KeyKind::Witness => return Err(malformed("only a witness's key has a name")),
            _ => {}
        }
        let token = text
            .token
            .map(|token| token.read().ok_or_else(|| malformed("its token is none")))
            .transpose()?;
        let secret_bytes = match (&token, text.kind) {
            (None, _) => secret_bytes,
            (Some(_), KeyKind::Signing(_)) => ML_DSA_SECRET_BYTES,
            (Some(_), _) => return Err(malformed("only a signing key has a half in a token")),
        };
        let protection = match (text.secret, text.sealed) {
            (None, None) if token.is_some() => return Err(malformed("a public half has no token")),
            (None, None) => Protection::PublicOnly,
            (Some(digits), None) if text.kind.may_lie_open() => Protection::Open(Zeroizing::new(
                unhex_vec(&digits)
                    .filter(|secret| secret.len() == secret_bytes)
                    .ok_or_else(|| malformed("its secret is not hex, or of another length"))?,
            )),
            (None, Some(sealed)) => Protection::Sealed(sealed),
            _ => {
                return Err(malformed(
                    "only a writer's or witness's key may lie open, and no key lies open and sealed",
                ));
            }
        };
        Ok(Self {
            kind: text.kind,
            public,
            name: text.name,
            archive,
            token,
            protection,
        })
    }

    /// The file's text.
    pub fn to_text(&self) -> Result<Zeroizing<String>, KeyFileError> {
        let (secret, sealed) = match &self.protection {
            Protection::PublicOnly => (None, None),
            Protection::Open(secret) => (Some(Zeroizing::new(hex(secret))), None),
            Protection::Sealed(sealed) => (None, Some(sealed.clone())),
        };
        let text = Text {
            format: FORMAT.to_owned(),
            kind: self.kind,
            public: hex(&self.public),
            name: self.name.clone(),
            archive: self.archive.map(|anchor| anchor.to_hex()),
            secret,
            token: self.token.as_ref().map(|token| TokenText {
                label: token.label.clone(),
                serial: token.serial.clone(),
                id: hex(&token.id),
            }),
            sealed,
        };
        toml::to_string(&text)
            .map(Zeroizing::new)
            .map_err(|error| KeyFileError::Malformed(error.to_string()))
    }

    /// What the key is for.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// True when a passphrase is needed.
    pub fn is_sealed(&self) -> bool {
        matches!(self.protection, Protection::Sealed(_))
    }

    /// True when it holds a secret that no passphrase protects.
    pub fn lies_open(&self) -> bool {
        matches!(self.protection, Protection::Open(_))
    }

    /// Where the Ed25519 half lies, when that is a token.
    pub fn token(&self) -> Option<&TokenKey> {
        self.token.as_ref()
    }

    /// What a witness is called in signed notes.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The archive that the key belongs to.
    pub fn archive(&self) -> Option<Anchor> {
        self.archive
    }

    /// Writes down which archive the key belongs to.
    pub fn set_archive(&mut self, anchor: Anchor) {
        self.archive = Some(anchor);
    }

    /// The public half of a recovery identity.
    pub fn recipient(&self) -> Result<RecipientKey, KeyFileError> {
        self.expect(KeyKind::Recovery)?;
        let bytes = self.public.as_slice().try_into().map_err(|_| KeyFileError::Mismatch)?;
        Ok(RecipientKey::from_bytes(bytes))
    }

    /// The public half of a signing key.
    pub fn public_key(&self) -> Result<PublicKey, KeyFileError> {
        if !matches!(self.kind, KeyKind::Signing(_)) {
            return Err(KeyFileError::Kind {
                found: self.kind,
                wanted: KeyKind::WRITER,
            });
        }
        let bytes = self.public.as_slice().try_into().map_err(|_| KeyFileError::Mismatch)?;
        Ok(PublicKey::from_bytes(bytes))
    }

    /// Opens a recovery identity.
    pub fn open_recovery(&self, passphrase: Option<&Passphrase>) -> Result<RecoveryIdentity, KeyFileError> {
        self.expect(KeyKind::Recovery)?;
        let secret = self.secret::<32>(passphrase)?;
        let identity = RecoveryIdentity::from_seed(secret);
        self.check(&identity.public().as_bytes()[..])?;
        Ok(identity)
    }

    /// Opens a signing key of the wanted role, no half of which lies in a token.
    pub fn open_signing(&self, wanted: KeyKind, passphrase: Option<&Passphrase>) -> Result<SigningKey, KeyFileError> {
        self.open_signing_with(wanted, passphrase, &NoTokens)
    }

    /// Opens a signing key of the wanted role.
    pub fn open_signing_with(
        &self,
        wanted: KeyKind,
        passphrase: Option<&Passphrase>,
        tokens: &dyn Tokens,
    ) -> Result<SigningKey, KeyFileError> {
        self.expect(wanted)?;
        let key = match &self.token {
            None => SigningKey::from_seeds(self.secret::<SIGNING_SECRET_BYTES>(passphrase)?),
            Some(token) => {
                // The file's own half first: a wrong passphrase costs no try of the token's PIN.
                let seed = self.secret::<ML_DSA_SECRET_BYTES>(passphrase)?;
                let public = self.public.first_chunk::<32>().ok_or(KeyFileError::Mismatch)?;
                SigningKey::from_token(token.clone(), public, tokens.open(token, public)?, seed)
            }
        };
        self.check(&key.public().as_bytes()[..])?;
        Ok(key)
    }

    /// The public half.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// An error for a key of another kind.
    pub(crate) fn expect(&self, wanted: KeyKind) -> Result<(), KeyFileError> {
        if self.kind == wanted {
            Ok(())
        } else {
            Err(KeyFileError::Kind {
                found: self.kind,
                wanted,
            })
        }
    }

    fn check(&self, public: &[u8]) -> Result<(), KeyFileError> {
        if self.public == public {
            Ok(())
        } else {
            Err(KeyFileError::Mismatch)
        }
    }

    /// The secret half.
    pub(crate) fn secret<const N: usize>(&self, passphrase: Option<&Passphrase>) -> Result<Secret<N>, KeyFileError> {
        match &self.protection {
            Protection::PublicOnly => Err(KeyFileError::PublicOnly),
            Protection::Open(secret) => Ok(Secret::new(
                secret.as_slice().try_into().map_err(|_| KeyFileError::Mismatch)?,
            )),
            Protection::Sealed(sealed) => sealed.open(self.kind, passphrase.ok_or(KeyFileError::PassphraseNeeded)?),
        }
    }
}

fn unhex_vec(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().as_chunks::<2>();
    if !pairs.1.is_empty() {
        return None;
    }
    pairs
        .0
        .iter()
        .map(|pair| unhex::<1>(std::str::from_utf8(pair).ok()?).map(|byte| byte[0]))
        .collect()
}

fn aad(kind: KeyKind) -> Vec<u8> {
    [FORMAT.as_bytes(), &[0], kind.as_str().as_bytes()].concat()
}

fn seal(
    kind: KeyKind,
    secret: &[u8],
    passphrase: &Passphrase,
    cost: Cost,
    entropy: &mut dyn Entropy,
) -> Result<Sealed, KeyFileError> {
    let salt = draw::<16>(entropy)?;
    let key = stretch(passphrase, &salt, cost)?;
    // Of the final size at once: growing would leave a copy behind.
    let mut buffer = Zeroizing::new(vec![0; secret.len() + TAG_BYTES]);
    buffer[..secret.len()].copy_from_slice(secret);
    // The salt is fresh, so this key sees one nonce once.
    Cipher::new(&key).seal(&[0; 12], &aad(kind), &mut buffer);
    Ok(Sealed {
        kdf: "argon2id".to_owned(),
        memory_kib: i64::from(cost.memory_kib),
        passes: i64::from(cost.passes),
        lanes: i64::from(cost.lanes),
        salt: hex(&salt),
        ciphertext: hex(&buffer),
    })
}

impl Sealed {
    /// What the file asks for, when that is lawful and not too much.
    fn cost(&self) -> Result<Cost, KeyFileError> {
        let Self {
            memory_kib,
            passes,
            lanes,
            ..
        } = *self;
        if memory_kib < 1 || passes < 1 || lanes < 1 {
            return Err(KeyFileError::Malformed("a cost is below 1".to_owned()));
        }
        let capped = |value: i64, cap: u32| u32::try_from(value).ok().filter(|value| *value <= cap);
        let caps = (
            capped(memory_kib, MEMORY_KIB_MAX),
            capped(passes, PASSES_MAX),
            capped(lanes, PASSES_MAX),
        );
        let (Some(memory_kib), Some(passes), Some(lanes)) = caps else {
            return Err(KeyFileError::Cost {
                memory_kib,
                passes,
                lanes,
            });
        };
        // RFC 9106 section 3.1.
        if memory_kib < 8 * lanes {
            return Err(KeyFileError::Malformed("Argon2 needs 8 KiB a lane".to_owned()));
        }
        Ok(Cost {
            memory_kib,
            passes,
            lanes,
        })
    }

    fn open<const N: usize>(&self, kind: KeyKind, passphrase: &Passphrase) -> Result<Secret<N>, KeyFileError> {
        let malformed = |why: &str| KeyFileError::Malformed(why.to_owned());
        if self.kdf != "argon2id" {
            return Err(malformed("its key derivation is unknown"));
        }
        let cost = self.cost()?;
        let salt: [u8; 16] = unhex(&self.salt).ok_or_else(|| malformed("its salt is not 16 bytes of hex"))?;
        let mut buffer = Zeroizing::new(
            unhex_vec(&self.ciphertext)
                .filter(|bytes| bytes.len() == N + TAG_BYTES)
                .ok_or_else(|| malformed("its ciphertext has another length"))?,
        );
        let key = stretch(passphrase, &salt, cost)?;
        Cipher::new(&key)
            .open(&[0; 12], &aad(kind), &mut buffer)
            .map_err(|_| KeyFileError::WrongPassphrase)?;
        let mut secret = Zeroizing::new([0; N]);
        secret.copy_from_slice(&buffer[..N]);
        Ok(Secret::new(*secret))
    }
}

fn stretch(passphrase: &Passphrase, salt: &[u8; 16], cost: Cost) -> Result<Secret<32>, KeyFileError> {
    let failed = |error: argon2::Error| KeyFileError::Argon2(error.to_string());
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.0.as_bytes(), salt, &mut key[..])
        .map_err(failed)?;
    Ok(Secret::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned()).unwrap()
    }

    #[test]
    fn keys_survive_the_file_and_only_the_passphrase_opens_them() {
        let mut entropy = SeededEntropy::new(11);
        let identity = RecoveryIdentity::generate(&mut entropy).unwrap();
        let mut file = KeyFile::for_recovery(&identity, &passphrase("correct"), Cost::TEST, &mut entropy).unwrap();
        file.set_archive(Anchor::from_bytes([7; 32]));
        let text = file.to_text().unwrap();
        let read = KeyFile::parse(&text).unwrap();
        assert_eq!(read.archive(), Some(Anchor::from_bytes([7; 32])));
        let opened = read.open_recovery(Some(&passphrase("correct"))).unwrap();
        assert_eq!(opened.public(), identity.public());
        assert!(matches!(
            read.open_recovery(Some(&passphrase("wrong"))),
            Err(KeyFileError::WrongPassphrase)
        ));
        assert!(matches!(read.open_recovery(None), Err(KeyFileError::PassphraseNeeded)));
        assert!(matches!(
            read.open_signing(KeyKind::ROOT, None),
            Err(KeyFileError::Kind { .. })
        ));
        assert!(matches!(
            read.public_part().open_recovery(None),
            Err(KeyFileError::PublicOnly)
        ));
    }

    #[test]
    fn a_writers_key_lies_open_and_no_other_may() {
        let key = SigningKey::generate(&mut SeededEntropy::new(12)).unwrap();
        let text = KeyFile::for_writer(&key).to_text().unwrap();
        let opened = KeyFile::parse(&text)
            .unwrap()
            .open_signing(KeyKind::WRITER, None)
            .unwrap();
        assert_eq!(opened.id(), key.id());
        let as_root = text.replace("\"writer\"", "\"root\"");
        assert!(matches!(KeyFile::parse(&as_root), Err(KeyFileError::Malformed(_))));
    }

    #[test]
    fn a_file_with_a_token_keeps_the_other_half() {
        struct Deaf;
        impl crate::token::Ed25519Signer for Deaf {
            fn sign(&self, _: &[u8]) -> Result<[u8; 64], TokenTrouble> {
                Err(TokenTrouble("deaf".to_owned()))
            }
        }
        impl Tokens for Deaf {
            fn open(&self, key: &TokenKey, public: &[u8; 32]) -> Result<Box<dyn crate::Ed25519Signer>, TokenTrouble> {
                assert_eq!((key.label.as_str(), public), ("safe", &[9; 32]));
                Ok(Box::new(Deaf))
            }
        }
        let mut entropy = SeededEntropy::new(14);
        let token = TokenKey {
            label: "safe".to_owned(),
            serial: "0815".to_owned(),
            id: vec![0xab, 1],
        };
        let key = SigningKey::generate_beside(token, &[9; 32], Box::new(Deaf), &mut entropy).unwrap();
        let file = KeyFile::for_signing(&key, Role::Root, &passphrase("x"), Cost::TEST, &mut entropy).unwrap();
        let text = file.to_text().unwrap();
        let read = KeyFile::parse(&text).unwrap();
        assert_eq!(read.token(), key.token());
        let opened = read
            .open_signing_with(KeyKind::ROOT, Some(&passphrase("x")), &Deaf)
            .unwrap();
        assert_eq!(opened.public(), key.public());
        let wrong = read.open_signing_with(KeyKind::ROOT, Some(&passphrase("y")), &Deaf);
        assert!(matches!(wrong, Err(KeyFileError::WrongPassphrase)));
        let none = read.open_signing(KeyKind::ROOT, Some(&passphrase("x")));
        assert!(matches!(none, Err(KeyFileError::Token(_))));
        assert!(read.public_part().token().is_none());
        for (from, to) in [
            ("kind = \"root\"", "kind = \"share\""),
            ("label = \"safe\"", "label = \"\""),
            ("label = \"safe\"", "label = \"a label of more than thirty-two bytes\""),
            ("serial = \"0815\"", "serial = \"08\\n15\""),
            ("id = \"ab01\"", "id = \"\""),
            ("id = \"ab01\"", "module = \"/evil.so\"\nid = \"ab01\""),
        ] {
            assert_ne!(text.replace(from, to), *text, "{from}");
            assert!(
                matches!(KeyFile::parse(&text.replace(from, to)), Err(KeyFileError::Malformed(_))),
                "{to}"
            );
        }
        let writer = KeyFile::for_writer(&key).to_text().unwrap();
        assert_eq!(KeyFile::parse(&writer).unwrap().token(), key.token());
    }

    #[test]
    fn hostile_files_cost_nothing() {
        let mut entropy = SeededEntropy::new(13);
        let identity = RecoveryIdentity::generate(&mut entropy).unwrap();
        let file = KeyFile::for_recovery(&identity, &passphrase("x"), Cost::TEST, &mut entropy).unwrap();
        let text = file.to_text().unwrap();
        let costly = text.replace("memory_kib = 64", "memory_kib = 4294967295");
        let opened = KeyFile::parse(&costly).unwrap().open_recovery(Some(&passphrase("x")));
        assert!(matches!(opened, Err(KeyFileError::Cost { .. })));
        for cheap in ["passes = 0", "passes = -1", "lanes = 9"] {
            let (name, _) = cheap.split_once(" ").unwrap();
            let text = text.replace(&format!("{name} = 1"), cheap);
            let opened = KeyFile::parse(&text).unwrap().open_recovery(Some(&passphrase("x")));
            assert!(matches!(opened, Err(KeyFileError::Malformed(_))), "{cheap}");
        }
        let short = text.replacen("public = \"", "public = \"00", 1);
        assert!(matches!(KeyFile::parse(&short), Err(KeyFileError::Malformed(_))));
        assert!(matches!(KeyFile::from_bytes(b"\xff"), Err(KeyFileError::Malformed(_))));
        assert!(KeyFile::parse(&text.replace("key file v1", "key file v9")).is_err());
        assert!(KeyFile::parse(&format!("{}\nmore = 1\n", *text)).is_err());
        assert!(matches!(
            KeyFile::parse(&"x".repeat(KEY_FILE_BYTES_MAX + 1)),
            Err(KeyFileError::TooLong(_))
        ));
    }
}
