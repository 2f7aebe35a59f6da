//! Charters that follow each other, and what obeys them (FORMAT.md section 8).

use std::collections::BTreeSet;

use exclave_engine::archive::history;
use exclave_model::{
    Act, Anchor, Charter, CharterFile, Charters, Envelope, Grant, Head, KeyId, PublicKey, Record as _, RecordHash,
    Role, RunId, SealedLogins, SignedObject,
    kit::KIT_BYTES_MAX,
    limit::{ENVELOPE_BYTES_MAX, HEAD_BYTES_MAX, RECORD_BYTES_MAX},
};
use exclave_plan::heads::{HeadFact, pinned};
use exclave_seal::{
    RecoveryIdentity, sealed_box::open_label, secret::Secret, verify_charter, verify_hold, verify_kit, verify_mark,
    verify_next_charter, verify_one_of, verify_sweep,
};
use exclave_tests::vector::Vector;
use minicbor::bytes::ByteVec;

use super::{
    Outcome,
    records::{anchor, without_forks},
};
use crate::kinds::{Refused, need};

pub fn charters(vector: &Vector) -> Outcome {
    let objects: Vec<ByteVec> = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    Ok(charters.newest_hash().as_bytes().to_vec())
}

/// The versions that charter objects show together. Each object must have its place among them.
pub fn read_history(objects: &[ByteVec], anchor: Anchor) -> Result<Charters, Refused> {
    let objects = objects
        .iter()
        .map(|bytes| SignedObject::from_bytes(bytes, RECORD_BYTES_MAX))
        .collect::<Result<Vec<_>, _>>()?;
    let Some((charters, fork)) = history(anchor, &objects, None) else {
        let is_first = |object: &&SignedObject| object.record_hash().as_bytes() == anchor.as_bytes();
        let first = objects.iter().find(is_first).ok_or(Refused("wrong-archive"))?;
        verify_charter(first, anchor)?;
        panic!("a version 1 that verifies was passed over");
    };
    need(fork.is_none(), "fork")?;
    let versions = charters.iter().map(|charter| charter.version);
    let known: BTreeSet<RecordHash> = versions.filter_map(|version| charters.hash(version)).collect();
    for object in objects.iter().filter(|object| !known.contains(&object.record_hash())) {
        verify_next_charter(object, &charters)?;
    }
    Ok(charters)
}

pub fn file(vector: &Vector) -> Outcome {
    let file = CharterFile::from_bytes(&vector.body)?;
    Ok(file.charters.iter().flat_map(SignedObject::to_bytes).collect())
}

/// Whoever had one of these roles in some version.
pub fn people<'c>(charters: &'c Charters, roles: &'static [Role]) -> impl Iterator<Item = &'c PublicKey> {
    let people = charters.iter().flat_map(Charter::keys);
    people.filter(move |(role, _)| roles.contains(role)).map(|(_, key)| key)
}

pub fn obeyed(vector: &Vector) -> Result<(), Refused> {
    let (objects, bytes): (Vec<ByteVec>, ByteVec) = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    let object = SignedObject::from_bytes(&bytes, ENVELOPE_BYTES_MAX)?;
    let (envelope, signer) = verify_one_of::<Envelope>(&object, people(&charters, &[Role::Writer, Role::Restorer]))?;
    envelope.check_place(anchor(vector), RunId::from_bytes(vector.array("run").unwrap()))?;
    envelope.check_charter(charters.obeyed(envelope.charter_version)?, signer)?;
    let run_key = identity(vector).unwrap(&envelope)?;
    open_label(&run_key, &envelope.label)?;
    Ok(())
}

pub fn grant(vector: &Vector) -> Result<(), Refused> {
    let (objects, bytes): (Vec<ByteVec>, ByteVec) = minicbor::decode(&vector.body).unwrap();
    let (anchor, identity) = (anchor(vector), identity(vector));
    let charters = read_history(&objects, anchor)?;
    let object = SignedObject::from_bytes(&bytes, RECORD_BYTES_MAX)?;
    let (grant, signer) = verify_one_of::<Grant>(&object, people(&charters, &[Role::Restorer]))?;
    need(grant.anchor == anchor, "wrong-archive")?;
    need_role(charters.obeyed(grant.charter_version)?, signer, Act::Grant)?;
    need(grant.recipient.id() == identity.public().id(), "not-a-recipient")?;
    let granted = grant.run(RunId::from_bytes(vector.array("run").unwrap()));
    identity.unwrap_granted(&anchor, granted.ok_or(Refused("not-found"))?)?;
    Ok(())
}

pub fn collection(vector: &Vector) -> Outcome {
    let (objects, bytes): (Vec<ByteVec>, ByteVec) = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    let object = SignedObject::from_bytes(&bytes, RECORD_BYTES_MAX)?;
    match vector.text("layer").unwrap() {
        "mark" => verify_mark(&object, &charters).map(drop)?,
        "sweep" => verify_sweep(&object, &charters).map(drop)?,
        _ => verify_hold(&object, &charters).map(drop)?,
    }
    Ok(object.record_hash().as_bytes().to_vec())
}

pub fn kit(vector: &Vector) -> Outcome {
    let (objects, bytes): (Vec<ByteVec>, ByteVec) = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    let object = SignedObject::from_bytes(&bytes, KIT_BYTES_MAX)?;
    verify_kit(&object, &charters)?;
    Ok(object.record_hash().as_bytes().to_vec())
}

pub fn logins(vector: &Vector) -> Outcome {
    let (objects, bytes): (Vec<ByteVec>, ByteVec) = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    let logins = SealedLogins::from_bytes(&bytes)?;
    let kit = u32::try_from(vector.number("kit").unwrap()).unwrap();
    logins.check_place(anchor(vector), kit, charters.newest())?;
    Ok(identity(vector).open_logins(&logins)?.as_bytes().to_vec())
}

/// For readers it is all one whether a signer has another role or none.
fn need_role(charter: &Charter, signer: KeyId, act: Act) -> Result<(), Refused> {
    need(charter.permit(signer, act).is_ok(), "unknown-signer")
}

pub fn identity(vector: &Vector) -> RecoveryIdentity {
    RecoveryIdentity::from_seed(Secret::new(vector.array("identity").unwrap()))
}

pub fn revoked(vector: &Vector) -> Outcome {
    let (objects, heads): (Vec<ByteVec>, Vec<ByteVec>) = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    let facts = heads.iter().map(|bytes| read_head(bytes, anchor(vector), &charters));
    let mut facts = facts.collect::<Result<Vec<_>, _>>()?;
    for revocation in charters.newest().revocations() {
        let held = pinned(revocation.key, &revocation.pins, &facts);
        need(held.missing.is_empty(), "not-found")?;
        facts.retain(|fact| fact.writer != revocation.key || held.counted.contains(&fact.hash));
    }
    let counting: BTreeSet<RecordHash> = facts.iter().map(|fact| fact.hash).collect();
    without_forks(facts)?;
    Ok(counting.iter().flat_map(|hash| *hash.as_bytes()).collect())
}

fn read_head(bytes: &[u8], anchor: Anchor, charters: &Charters) -> Result<HeadFact, Refused> {
    let object = SignedObject::from_bytes(bytes, HEAD_BYTES_MAX)?;
    let (head, signer) = verify_one_of::<Head>(&object, people(charters, &[Role::Writer]))?;
    need(head.anchor == anchor, "wrong-archive")?;
    need(head.writer == signer, "unknown-signer")?;
    need_role(charters.obeyed(head.charter_version)?, signer, Act::Commit)?;
    Ok(HeadFact::of(object.record_hash(), &head, []))
}
