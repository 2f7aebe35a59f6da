//! Proofs of the transparency log (FORMAT.md section 21).

use exclave_engine::log::check_proof_by;
use exclave_log::{TreeHash, verify_consistency};
use exclave_model::Record as _;
use exclave_tests::vector::Vector;
use minicbor::bytes::ByteArray;

use super::{Outcome, public_keys, records::anchor};
use crate::kinds::Refused;

pub fn proof(vector: &Vector) -> Outcome {
    let keys = public_keys(vector);
    let key = |id| keys.iter().find(|key| key.id() == id);
    let (_, entry, _, _) = check_proof_by(&vector.body, anchor(vector), key)?;
    Ok(entry.to_bytes()?)
}

type Hash = ByteArray<32>;

pub fn consistency(vector: &Vector) -> Outcome {
    let (old, old_root, new, new_root, hashes): (u64, Hash, u64, Hash, Vec<Hash>) =
        minicbor::decode(&vector.body).map_err(|_| Refused("bad-record"))?;
    let hash = |hash: &Hash| TreeHash::from_bytes(**hash);
    let hashes: Vec<TreeHash> = hashes.iter().map(hash).collect();
    verify_consistency(old, hash(&old_root), new, hash(&new_root), &hashes)?;
    Ok(new_root.to_vec())
}
