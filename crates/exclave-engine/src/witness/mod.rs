//! Witnesses: allies that cosign checkpoints of an archive's logs (FORMAT.md section 22; C2SP tlog-witness, tlog-cosignature).
//!
//! A witness remembers, of each log, the largest tree that it has cosigned, and cosigns none that doesn't begin with it. So one
//! that is honest makes it impossible to show two histories to two readers, or an old one to all, without its word against that.
//!
//! [`request`] is what goes over the wire, [`cosign`] what is signed and how it is believed, [`store`] what a witness must not
//! forget, [`keeper`] what it does with a request, [`ask`] how it is asked, [`evidence`] what is kept of a log that lied.

pub mod ask;
pub mod cosign;
pub mod evidence;
pub mod keeper;
pub mod request;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;

pub use self::{
    ask::{Asking, NoCosignature, ask_all},
    cosign::{Vouching, verifier_keys, vouching},
    evidence::{Claim, Evidence, EvidenceError},
    keeper::{Keeper, KeeperError, Refusal},
    request::{AddCheckpoint, BadRequest, REQUEST_BYTES_MAX},
    store::{Store, StoreError},
};
