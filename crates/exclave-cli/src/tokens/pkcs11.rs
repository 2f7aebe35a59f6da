//! Ed25519 keys in tokens, through PKCS#11 (OASIS, version 3.0): CKM_EC_EDWARDS_KEY_PAIR_GEN and CKM_EDDSA.
//!
//! A token is found by label and serial number, a pair in it by CKA_ID. What a token hands out is believed as far as it
//! can be checked: the public half against the key file's, each signature against the public half (by exclave-seal).

use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{
        Mechanism,
        eddsa::{EddsaParams, EddsaSignatureScheme},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
    types::AuthPin,
};
use exclave_seal::{Ed25519Signer, TokenKey, TokenTrouble};

use super::{NewPair, Settings};

/// id-Ed25519, 1.3.101.112 (RFC 8410), in DER: how PKCS#11 3.0 names the curve.
const CURVE_ID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// The same as a name (PrintableString), which PKCS#11 3.0 allows too and some tokens want.
const CURVE_NAME: &[u8] = b"\x13\x0cedwards25519";

/// The library that talks to tokens: loaded and started once.
#[derive(Default)]
pub struct Library(Mutex<Option<Pkcs11>>);

impl Library {
    /// The signer of a key.
    pub fn open(
        &self,
        settings: &Settings,
        key: &TokenKey,
        public: &[u8; 32],
    ) -> Result<Box<dyn Ed25519Signer>, TokenTrouble> {
        let library = self.start(settings)?;
        let (slot, _) = find(&library, |info| {
            trimmed(info.label()) == key.label && trimmed(info.serial_number()) == key.serial
        })?
        .ok_or_else(|| {
            TokenTrouble(format!(
                "token {:?} (serial number {}) is not there; nothing was signed, and nothing is lost: insert it and try again",
                key.label, key.serial
            ))
        })?;
        let session = log_in(&library, slot, settings, Access::Read)?;
        let trouble = |error| failed(&key.label, "can't look for its key", &error);
        let of_class = |class| [Attribute::Class(class), Attribute::Id(key.id.clone())];
        let secrets = session
            .find_objects(&of_class(ObjectClass::PRIVATE_KEY))
            .map_err(trouble)?;
        let [secret] = secrets[..] else {
            return Err(TokenTrouble(format!(
                "token {:?} holds {} keys with the id that the key file names",
                key.label,
                secrets.len()
            )));
        };
        // Not every token keeps the public half; if one does, a wrong key is known before anything is signed.
        for held in session
            .find_objects(&of_class(ObjectClass::PUBLIC_KEY))
            .map_err(trouble)?
        {
            if point(&session, held).is_some_and(|held| held != *public) {
                return Err(TokenTrouble(format!(
                    "the key in token {:?} is another than the key file's",
                    key.label
                )));
            }
        }
        Ok(Box::new(Signer {
            label: key.label.clone(),
            session: Mutex::new(session),
            secret,
        }))
    }

    /// Makes a pair.
    pub fn generate(&self, settings: &Settings, label: &str, id: [u8; 16]) -> Result<NewPair, TokenTrouble> {
        let library = self.start(settings)?;
        let (slot, info) = find(&library, |info| trimmed(info.label()) == label)?
            .ok_or_else(|| TokenTrouble(format!("token {label:?} is not there")))?;
        let session = log_in(&library, slot, settings, Access::Write)?;
        let make = |curve: &[u8]| {
            let public = [
                Attribute::Token(true),
                Attribute::Private(false),
                Attribute::KeyType(KeyType::EC_EDWARDS),
                Attribute::EcParams(curve.to_vec()),
                Attribute::Verify(true),
                Attribute::Label(b"exclave".to_vec()),
                Attribute::Id(id.to_vec()),
            ];
            let secret = [
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::KeyType(KeyType::EC_EDWARDS),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
                Attribute::Label(b"exclave".to_vec()),
                Attribute::Id(id.to_vec()),
            ];
            session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &secret)
        };
        let (public, secret) = make(&CURVE_ID)
            .or_else(|_| make(CURVE_NAME))
            .map_err(|error| failed(label, "makes no Ed25519 key", &error))?;
        let pair = Self::taken(&session, label, public, secret);
        let public = pair.inspect_err(|_| {
            // A pair that can't be used must not stay there under our name. When this fails too, its label tells.
            let _ = session
                .destroy_object(secret)
                .and_then(|()| session.destroy_object(public));
        })?;
        let key = TokenKey {
            label: label.to_owned(),
            serial: trimmed(info.serial_number()).to_owned(),
            id: id.to_vec(),
        };
        let signer = Box::new(Signer {
            label: label.to_owned(),
            session: Mutex::new(session),
            secret,
        });
        Ok(NewPair { key, public, signer })
    }

    /// The public half of a new pair, when the secret one is what was asked for.
    fn taken(
        session: &Session,
        label: &str,
        public: ObjectHandle,
        secret: ObjectHandle,
    ) -> Result<[u8; 32], TokenTrouble> {
        let wanted = [AttributeType::Sensitive, AttributeType::Extractable];
        let has = session
            .get_attributes(secret, &wanted)
            .map_err(|error| failed(label, "does not say what it has made", &error))?;
        if !has.contains(&Attribute::Sensitive(true)) || !has.contains(&Attribute::Extractable(false)) {
            return Err(TokenTrouble(format!(
                "token {label:?} made a key that can leave it; it is of no use"
            )));
        }
        point(session, public)
            .ok_or_else(|| TokenTrouble(format!("token {label:?} does not show the public half of its key")))
    }

    fn start(&self, settings: &Settings) -> Result<Pkcs11, TokenTrouble> {
        let mut started = held(&self.0);
        if let Some(library) = started.as_ref() {
            return Ok(library.clone());
        }
        let module = settings.module()?;
        let trouble = |error: Error| {
            TokenTrouble(format!(
                "the PKCS#11 library {} can't be used: {error}",
                module.display()
            ))
        };
        let library = Pkcs11::new(module).map_err(trouble)?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(trouble(error)),
        }
        Ok(started.insert(library).clone())
    }
}

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// The one token that is meant; `None` when it isn't there.
fn find(library: &Pkcs11, is_meant: impl Fn(&TokenInfo) -> bool) -> Result<Option<(Slot, TokenInfo)>, TokenTrouble> {
    let slots = library
        .get_slots_with_initialized_token()
        .map_err(|error| TokenTrouble(format!("the PKCS#11 library lists no tokens: {error}")))?;
    // A token that was pulled out meanwhile is not there.
    let infos = slots
        .into_iter()
        .filter_map(|slot| library.get_token_info(slot).ok().map(|info| (slot, info)));
    let mut meant = infos.filter(|(_, info)| is_meant(info));
    match (meant.next(), meant.next()) {
        (found, None) => Ok(found),
        (_, Some((_, info))) => Err(TokenTrouble(format!(
            "two tokens are called {:?}; take one of them out",
            trimmed(info.label())
        ))),
    }
}

/// A session of the token's user, who types a PIN unless an earlier session is open.
fn log_in(library: &Pkcs11, slot: Slot, settings: &Settings, access: Access) -> Result<Session, TokenTrouble> {
    let trouble = |error| TokenTrouble(format!("the token gives no session: {error}"));
    let info = library.get_token_info(slot).map_err(trouble)?;
    let label = trimmed(info.label()).to_owned();
    let session = match access {
        Access::Read => library.open_ro_session(slot),
        Access::Write => library.open_rw_session(slot),
    };
    let session = session.map_err(trouble)?;
    let logged_in = session.get_session_info().map_err(trouble)?;
    use cryptoki::session::SessionState;
    if matches!(logged_in.session_state(), SessionState::RoUser | SessionState::RwUser) {
        return Ok(session);
    }
    if info.user_pin_locked() {
        return Err(TokenTrouble(format!(
            "the PIN of token {label:?} is locked: its security officer can unlock it"
        )));
    }
    // A token with keys of its own for the PIN asks for it itself.
    let pin = match info.protected_authentication_path() {
        true => None,
        false => Some(AuthPin::from(settings.pin(&label, tries(&info))?.as_str())),
    };
    match session.login(UserType::User, pin.as_ref()) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
            let left = library
                .get_token_info(slot)
                .map_or("", |info| match info.user_pin_locked() {
                    true => "; it is locked now",
                    false => tries(&info),
                });
            Err(TokenTrouble(format!("the PIN is not that of token {label:?}{left}")))
        }
        Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenTrouble(format!(
            "the PIN of token {label:?} is locked: its security officer can unlock it"
        ))),
        Err(error) => Err(failed(&label, "lets nobody in", &error)),
    }
}

/// What a token says of the tries that are left. PKCS#11 has no number for it.
fn tries(info: &TokenInfo) -> &'static str {
    match (info.user_pin_final_try(), info.user_pin_count_low()) {
        (true, _) => " (one try is left before it locks itself)",
        (false, true) => " (it was typed wrongly before)",
        (false, false) => "",
    }
}

/// The public half: CKA_EC_POINT, an OCTET STRING in DER, or without that wrapping as some tokens have it.
fn point(session: &Session, public: ObjectHandle) -> Option<[u8; 32]> {
    let attributes = session.get_attributes(public, &[AttributeType::EcPoint]).ok()?;
    let [Attribute::EcPoint(bytes)] = &attributes[..] else {
        return None;
    };
    let raw = bytes
        .strip_prefix(&[0x04, 0x20])
        .filter(|rest| rest.len() == 32)
        .unwrap_or(bytes);
    raw.try_into().ok()
}

/// Labels and serial numbers are padded with blanks.
fn trimmed(text: &str) -> &str {
    text.trim_end_matches([' ', '\0'])
}

fn failed(label: &str, what: &str, error: &Error) -> TokenTrouble {
    TokenTrouble(format!("token {label:?} {what}: {error}"))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked in between left a session that the token knows the state of.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signs in one session, one signature at a time.
struct Signer {
    label: String,
    session: Mutex<Session>,
    secret: ObjectHandle,
}

impl Ed25519Signer for Signer {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], TokenTrouble> {
        let scheme = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signed = held(&self.session)
            .sign(&scheme, self.secret, message)
            .map_err(|error| failed(&self.label, "did not sign", &error))?;
        signed.try_into().map_err(|odd: Vec<u8>| {
            TokenTrouble(format!(
                "token {:?} gave a signature of {} bytes, not 64",
                self.label,
                odd.len()
            ))
        })
    }
}
