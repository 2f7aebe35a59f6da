//! Secrecy and authenticity: the only crate that sees key bytes.
//!
//! In the order a run uses it: [`entropy`] is drawn, a [`RunKey`] is made and wrapped for the recipients
//! ([`envelope`]), each stripe gets a [`StripeKey`] of its own ([`stripe_key`]) that seals its segments ([`aead`]), small
//! secrets travel in boxes ([`sealed_box`]), and records are signed ([`signing`]), one half perhaps in a [`token`]; a [`kit`] is signed
//! by roots, its credentials sealed to recipients, and so is the directory of names ([`companion`]). [`dataset_keys`] hands out what the
//! cutter and the packer need without showing the dataset secret. [`key_file`] keeps long-lived keys, and
//! [`share`] divides a recovery identity among custodians.
//!
//! **Architecture Invariant:** no secret has `Debug`, `Clone` or `Serialize`; all are wiped when dropped. The run key is
//! in no file and no record but wrapped. Nothing is opened before its commitment was compared in constant time.

#![forbid(unsafe_code)]

pub mod aead;
pub mod collection;
pub mod companion;
pub mod cosigning;
pub mod dataset_keys;
pub mod entropy;
pub mod envelope;
pub mod key_file;
pub mod kit;
pub mod run_key;
pub mod sealed_box;
pub mod secret;
pub mod self_test;
pub mod share;
pub mod signing;
pub mod stripe_key;
pub mod token;

pub use self::{
    aead::Cipher,
    collection::{CollectionError, verify_hold, verify_mark, verify_sweep},
    companion::{companion_signers, seal_companion, verify_companion},
    cosigning::{Cosigner, CosigningKey},
    dataset_keys::{ChunkHasher, DatasetSecret, GearBytes, PageBoundaryKey},
    entropy::{Entropy, NoEntropy, SeededEntropy},
    envelope::{EnvelopeError, RecoveryIdentity},
    key_file::{KeyFile, KeyFileError, KeyKind, Passphrase},
    kit::{KitError, LoginsError, kit_signers, seal_logins, verify_kit},
    run_key::RunKey,
    sealed_box::{BoxError, Purpose},
    share::{Share, ShareHeader},
    signing::{
        SigningKey, VerifyError, charter_signers, signer_of, verify_charter, verify_next_charter, verify_note,
        verify_one, verify_one_of, verify_threshold,
    },
    stripe_key::{OpenError, StripeKey},
    token::{Ed25519Signer, NoTokens, TokenKey, TokenTrouble, Tokens},
};
