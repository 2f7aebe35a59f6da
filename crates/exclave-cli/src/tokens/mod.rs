//! Tokens (PKCS#11) that hold the Ed25519 halves of signing keys: which library talks to them, and their PINs.
//!
//! The library is named on the command line or in the environment, never by a key file: whoever could write the file could
//! have any code loaded into a process that holds keys. A PIN is typed at a hidden prompt, or read from a private file or a
//! pipe; no command line and no variable holds one. Each token is asked for its PIN once, and a wrong one isn't tried again:
//! tokens count tries and lock themselves.

#[cfg(feature = "hsm")]
mod pkcs11;

use std::path::{Path, PathBuf};

use exclave_seal::{Ed25519Signer, TokenKey, TokenTrouble, Tokens};
use zeroize::Zeroizing;

use crate::{arguments::TokenArguments, environment::Environment, error::Trouble, keys, private_file};

/// The variable that names the library.
const MODULE_VARIABLE: &str = "EXCLAVE_TOKEN_MODULE";
/// The variable that names the PIN's file.
const PIN_FILE_VARIABLE: &str = "EXCLAVE_TOKEN_PIN_FILE";

/// Tokens, as this call of the program reaches them.
pub struct TokenDoor {
    /// Read by what is built in.
    #[cfg_attr(
        not(feature = "hsm"),
        expect(dead_code, reason = "no token is reached without PKCS#11")
    )]
    settings: Settings,
    #[cfg(feature = "hsm")]
    library: pkcs11::Library,
}

/// What the caller says of tokens.
struct Settings {
    module: Option<PathBuf>,
    /// Files of PINs, each perhaps for the token with this label only.
    pin_files: Vec<(Option<String>, PathBuf)>,
}

/// A pair that a token has made.
pub struct NewPair {
    /// Where it lies.
    pub key: TokenKey,
    /// Its public half.
    pub public: [u8; 32],
    /// Signs with it.
    pub signer: Box<dyn Ed25519Signer>,
}

impl TokenDoor {
    /// As the command line says, else the environment.
    pub fn new(arguments: &TokenArguments, environment: &Environment) -> Self {
        let module = arguments.token_module.clone();
        let mut pin_files: Vec<_> = arguments.token_pin_file.iter().map(|text| pin_file(text)).collect();
        if pin_files.is_empty() {
            pin_files.extend(environment.text(PIN_FILE_VARIABLE).as_deref().map(pin_file));
        }
        Self {
            settings: Settings {
                module: module.or_else(|| environment.path(MODULE_VARIABLE)),
                pin_files,
            },
            #[cfg(feature = "hsm")]
            library: pkcs11::Library::default(),
        }
    }

    /// Makes an Ed25519 pair in the token with this label; the secret half can't leave it.
    #[cfg(feature = "hsm")]
    pub fn generate(&self, label: &str, id: [u8; 16]) -> Result<NewPair, Trouble> {
        let made = self.library.generate(&self.settings, label, id);
        made.map_err(|trouble| Trouble::failed(trouble.to_string()))
    }

    /// Says that no token can be reached.
    #[cfg(not(feature = "hsm"))]
    pub fn generate(&self, _label: &str, _id: [u8; 16]) -> Result<NewPair, Trouble> {
        Err(Trouble::failed(WITHOUT))
    }
}

/// `[LABEL=]FILE`.
fn pin_file(text: &str) -> (Option<String>, PathBuf) {
    match text.split_once('=') {
        Some((label, file)) if !label.contains('/') => (Some(label.to_owned()), PathBuf::from(file)),
        _ => (None, PathBuf::from(text)),
    }
}

/// What a program without the feature `hsm` says.
#[cfg(not(feature = "hsm"))]
const WITHOUT: &str = "this program was built without PKCS#11 and reaches no token";

impl Tokens for TokenDoor {
    #[cfg(feature = "hsm")]
    fn open(&self, key: &TokenKey, public: &[u8; 32]) -> Result<Box<dyn Ed25519Signer>, TokenTrouble> {
        self.library.open(&self.settings, key, public)
    }

    #[cfg(not(feature = "hsm"))]
    fn open(&self, _key: &TokenKey, _public: &[u8; 32]) -> Result<Box<dyn Ed25519Signer>, TokenTrouble> {
        Err(TokenTrouble(WITHOUT.to_owned()))
    }
}

#[cfg_attr(
    not(feature = "hsm"),
    expect(dead_code, reason = "no token is reached without PKCS#11")
)]
impl Settings {
    /// The library, which must be a file named in full: a bare name would be looked for wherever the loader looks.
    fn module(&self) -> Result<&Path, TokenTrouble> {
        let module = self.module.as_deref().ok_or_else(|| {
            TokenTrouble(format!(
                "no PKCS#11 library is named; give --token-module FILE or {MODULE_VARIABLE}, such as \
                 /usr/lib/softhsm/libsofthsm2.so"
            ))
        })?;
        match module.is_absolute() && module.is_file() {
            true => Ok(module),
            false => Err(TokenTrouble(format!(
                "the PKCS#11 library {} is no file, or not named by its whole path",
                module.display()
            ))),
        }
    }

    /// The PIN of a token; `note` says what the token says of tries.
    fn pin(&self, label: &str, note: &str) -> Result<Zeroizing<String>, TokenTrouble> {
        let said = |trouble: Trouble| TokenTrouble(trouble.to_string());
        let of = |wanted: Option<&str>| self.pin_files.iter().find(|(own, _)| own.as_deref() == wanted);
        let pin = match of(Some(label)).or_else(|| of(None)) {
            Some((_, file)) => private_file::read_line(file, "PIN file").map_err(said)?,
            None => {
                keys::prompt_hidden(&format!("PIN of token {label}{note}: "), "--token-pin-file FILE").map_err(said)?
            }
        };
        match pin.is_empty() {
            true => Err(TokenTrouble(format!(
                "the PIN of token {label} is empty; it was not tried"
            ))),
            false => Ok(pin),
        }
    }
}
