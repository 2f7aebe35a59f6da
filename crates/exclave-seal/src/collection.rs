//! Whose word marks, releases and holds are (FORMAT.md section 23).
//!
//! What keeps data needs one signature of someone with standing, and counts for ever. What lets it go needs as many as the
//! charter says, and none of a key that was stolen since.

use std::collections::BTreeSet;

use exclave_model::{
    Act, Anchor, Charter, Charters, Hold, KeyId, Mark, MemberRole, PublicKey, Role, Rule, SignedObject, Sweep,
    charter::{Purpose, Reason},
    signed::SignedRecord,
};

use crate::signing::{VerifyError, verify_one_of, verify_threshold};

/// Why a record of collection is not believed.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// A signature, or the record itself.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// It is another archive's, or refers to a charter that isn't there.
    #[error("{0}")]
    Rule(Rule),
}

/// A mark that a reaper of the charter in it signed.
pub fn verify_mark(object: &SignedObject, charters: &Charters) -> Result<Mark, CollectionError> {
    let (mark, signer) = verify_one_of::<Mark>(object, keys(charters, |role| role.may(Act::Sweep)))?;
    let charter = place(charters, mark.anchor, mark.charter_version)?;
    has_role(charter, signer, |role| role.may(Act::Sweep))?;
    Ok(mark)
}

/// A release that enough collection authorities of the charter in it signed.
pub fn verify_sweep(object: &SignedObject, charters: &Charters) -> Result<Sweep, CollectionError> {
    let releases = |role: Role| role.may(Act::Release);
    let sweep: Sweep = signed_by(object, charters, releases)?;
    let charter = place(charters, sweep.anchor, sweep.charter_version)?;
    let threshold = charter
        .authority(Purpose::Collection)
        .map_or(u32::MAX, |authority| authority.threshold);
    enough(object, charters, charter, releases, threshold)?;
    Ok(sweep)
}

/// A hold that one person with standing placed, or whose end enough roots signed.
pub fn verify_hold(object: &SignedObject, charters: &Charters) -> Result<Hold, CollectionError> {
    let places =
        |role| matches!(role, Role::Root | Role::CollectionAuthority) || role == MemberRole::Administrator.role();
    let hold: Hold = signed_by(object, charters, places)?;
    let charter = place(charters, hold.anchor, hold.charter_version)?;
    if hold.releases.is_some() {
        enough(
            object,
            charters,
            charter,
            |role| role == Role::Root,
            charter.roots.threshold,
        )?;
        return Ok(hold);
    }
    let [one] = object.signatures() else {
        return Err(VerifyError::NotOne(object.signatures().len()).into());
    };
    has_role(charter, one.key, places)?;
    Ok(hold)
}

fn keys(charters: &Charters, role: impl Fn(Role) -> bool) -> impl Iterator<Item = &PublicKey> {
    let keys = charters.iter().flat_map(Charter::keys);
    keys.filter(move |(held, _)| role(*held)).map(|(_, key)| key)
}

/// The record, when everyone who signed had one of these roles in some version.
fn signed_by<R: SignedRecord>(
    object: &SignedObject,
    charters: &Charters,
    role: impl Fn(Role) -> bool,
) -> Result<R, VerifyError> {
    let keys: Vec<PublicKey> = keys(charters, role).cloned().collect();
    verify_threshold(object, &keys, 1)
}

/// The charter that a record of this archive names.
fn place(charters: &Charters, anchor: Anchor, version: u32) -> Result<&Charter, CollectionError> {
    if anchor != charters.anchor() {
        return Err(CollectionError::Rule(Rule::new(
            "wrong-archive",
            "the record is another archive's",
        )));
    }
    charters.obeyed(version).map_err(CollectionError::Rule)
}

fn has_role(charter: &Charter, key: KeyId, role: impl Fn(Role) -> bool) -> Result<(), VerifyError> {
    match charter.role_of(key).is_some_and(role) {
        true => Ok(()),
        false => Err(VerifyError::Stranger(key)),
    }
}

/// All signers have the role in this charter, and enough of their keys are not known as stolen.
fn enough(
    object: &SignedObject,
    charters: &Charters,
    charter: &Charter,
    role: impl Fn(Role) -> bool,
    threshold: u32,
) -> Result<(), VerifyError> {
    let signers: BTreeSet<KeyId> = object.signatures().iter().map(|signature| signature.key).collect();
    for signer in &signers {
        has_role(charter, *signer, &role)?;
    }
    let stolen = |key: &KeyId| {
        let revocation = charters.newest().revocation(*key);
        revocation.is_some_and(|revocation| revocation.reason == Reason::Compromised)
    };
    let (valid, needed) = (signers.iter().filter(|key| !stolen(key)).count(), threshold as usize);
    match valid < needed {
        true => Err(VerifyError::Missing { valid, needed }),
        false => Ok(()),
    }
}
