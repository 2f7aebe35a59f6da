//! Charters that follow each other, and what obeys them (FORMAT.md section 8).

use std::collections::BTreeSet;

use exclave_engine::archive::history;
use exclave_model::{
    Act, Anchor, CharterFile, Charters, Envelope, Head, PublicKey, RecordHash, RunId, SignedObject,
    limit::{ENVELOPE_BYTES_MAX, HEAD_BYTES_MAX, RECORD_BYTES_MAX},
};
use exclave_plan::heads::{HeadFact, pinned};
use exclave_seal::{
    RecoveryIdentity, sealed_box::open_label, secret::Secret, verify_charter, verify_next_charter, verify_one_of,
};
use minicbor::bytes::ByteVec;

use super::{
    Outcome,
    records::{anchor, without_forks},
};
use crate::{
    file::Vector,
    kinds::{Refused, need},
};

pub fn charters(vector: &Vector) -> Outcome {
    let objects: Vec<ByteVec> = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    Ok(charters.newest_hash().as_bytes().to_vec())
}

/// The versions that charter objects show together. Each object must have its place among them.
fn read_history(objects: &[ByteVec], anchor: Anchor) -> Result<Charters, Refused> {
    let objects = objects
        .iter()
        .map(|bytes| SignedObject::from_bytes(bytes, RECORD_BYTES_MAX))
        .collect::<Result<Vec<_>, _>>()?;
    let Some((charters, fork)) = history(anchor, &objects) else {
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

/// Whoever was a writer in some version.
fn writers(charters: &Charters) -> impl Iterator<Item = &PublicKey> {
    let writers = charters.iter().flat_map(|charter| &charter.writers);
    writers.map(|writer| &writer.key)
}

pub fn obeyed(vector: &Vector) -> Result<(), Refused> {
    let (objects, bytes): (Vec<ByteVec>, ByteVec) = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    let object = SignedObject::from_bytes(&bytes, ENVELOPE_BYTES_MAX)?;
    let (envelope, signer) = verify_one_of::<Envelope>(&object, writers(&charters))?;
    envelope.check_place(anchor(vector), RunId::from_bytes(vector.array("run").unwrap()))?;
    envelope.check_charter(charters.obeyed(envelope.charter_version)?, signer)?;
    let identity = RecoveryIdentity::from_seed(Secret::new(vector.array("identity").unwrap()));
    let run_key = identity.unwrap(&envelope)?;
    open_label(&run_key, &envelope.label)?;
    Ok(())
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
    let (head, signer) = verify_one_of::<Head>(&object, writers(charters))?;
    need(head.anchor == anchor, "wrong-archive")?;
    need(head.writer == signer, "unknown-signer")?;
    charters.obeyed(head.charter_version)?.permit(signer, Act::Commit)?;
    Ok(HeadFact::of(object.record_hash(), &head, []))
}
