//! Witnesses: allies that cosign checkpoints of an archive's logs (FORMAT.md section 22; C2SP tlog-witness, tlog-cosignature).
//!
//! A witness remembers, of each log, the largest tree that it has cosigned, and cosigns none that doesn't begin with it. So one
//! that is honest makes it impossible to show two histories to two readers, or an old one to all, without its word against that.
//!
//! [`request`] is what goes over the wire, [`cosign`] what is signed and how it is believed, [`store`] what a witness must not
//! forget, [`keeper`] what it does with a request, [`ask`] and [`collect`] how it is asked, [`view`] what its word is worth to a reader,
//! and [`backdate`] to who reads a report.

pub mod ask;
pub mod backdate;
pub mod collect;
pub mod cosign;
pub mod keeper;
pub mod request;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
pub mod view;

pub use self::{
    ask::{Asking, NoCosignature, ask_all},
    backdate::{Backdated, backdated},
    collect::Cosignatures,
    cosign::{Vouching, verifier_keys, vouching},
    keeper::{Keeper, KeeperError, Refusal},
    request::{AddCheckpoint, BadRequest, REQUEST_BYTES_MAX},
    store::{Store, StoreError},
    view::{SetBack, Standing, Watched},
};
