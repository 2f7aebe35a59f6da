//! Records of datasets, and the directory of names (FORMAT.md section 25).

use exclave_engine::registry::{Registered, Registry, RegistryFinding};
use exclave_model::{
    Charters, ReadBack, Registration, Role, SignedObject, companion::COMPANION_OBJECT_BYTES_MAX,
    registration::REGISTRATION_OBJECT_BYTES_MAX,
};
use exclave_seal::{verify_companion, verify_one_of};
use exclave_tests::vector::Vector;
use minicbor::bytes::ByteVec;

use super::{
    Outcome,
    charters::{identity, people, read_history},
    records::anchor,
};
use crate::kinds::{Refused, need};

pub fn dataset(vector: &Vector) -> Outcome {
    let (objects, records): (Vec<ByteVec>, Vec<ByteVec>) = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    let records = records.iter().map(|bytes| read(bytes, &charters, vector));
    let records = records.collect::<Result<Vec<Registered>, Refused>>()?;
    let dataset = records[0].record.dataset;
    let registry = Registry::of_records(records, &charters);
    if let Some(finding) = registry.findings.first() {
        return Err(match finding {
            RegistryFinding::Fork { .. } => Refused("fork"),
            RegistryFinding::Gap { .. } => Refused("not-found"),
            RegistryFinding::Unlawful { rule, .. } => Refused(rule.kind),
            RegistryFinding::Refused { why, .. } => panic!("{why}"),
        });
    }
    let number = registry.class(dataset)?.unwrap();
    let class = charters.newest().class(number).unwrap().policy()?;
    let policy = registry.policy(dataset, &class)?;
    let read_back = u8::from(policy.read_back == ReadBack::Full);
    let mut output = number.to_be_bytes().to_vec();
    output.extend([policy.losses, policy.liars, read_back]);
    Ok(output)
}

fn read(bytes: &[u8], charters: &Charters, vector: &Vector) -> Result<Registered, Refused> {
    let object = SignedObject::from_bytes(bytes, REGISTRATION_OBJECT_BYTES_MAX)?;
    let administrators = people(charters, &[Role::Administrator]);
    let (record, signer) = verify_one_of::<Registration>(&object, administrators)?;
    need(record.anchor == anchor(vector), "wrong-archive")?;
    record.check_charter(charters, signer)?;
    Ok(Registered {
        void: charters.newest().revocation(signer).is_some(),
        hash: object.record_hash(),
        record,
        signer,
    })
}

pub fn names(vector: &Vector) -> Outcome {
    let (objects, bytes): (Vec<ByteVec>, ByteVec) = minicbor::decode(&vector.body).unwrap();
    let charters = read_history(&objects, anchor(vector))?;
    let object = SignedObject::from_bytes(&bytes, COMPANION_OBJECT_BYTES_MAX)?;
    let companion = verify_companion(&object, &charters)?;
    Ok(identity(vector).open_companion(&companion)?.as_bytes().to_vec())
}
