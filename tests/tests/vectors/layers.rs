//! How each layer is evaluated: the calls that a restore makes, in the order of the README.

mod blocks; // contexts, stripes, chunks, shards, the code
mod charters; // charters that follow each other, and what obeys them
mod logs; // proofs of the transparency log
mod pages; // the manifest
mod records; // everything that is CBOR, and key files
mod shares; // split recovery keys
mod tenants; // records of datasets, and the directory of names

use exclave_model::PublicKey;
use exclave_tests::vector::{Vector, unhex};

use crate::kinds::Refused;

pub use self::pages::NoSuchPage;

type Outcome = Result<Vec<u8>, Refused>;

/// Evaluates a file. What comes out is what its `output` line is the hash of; `None` where that is a secret that never
/// leaves `exclave-seal`. There, opening has compared it with a commitment or a public key that fits no other.
pub fn evaluate(vector: &Vector) -> Result<Option<Vec<u8>>, Refused> {
    match vector.text("layer").unwrap() {
        "envelope" => return records::envelope(vector).map(|()| None),
        "obeyed" => return charters::obeyed(vector).map(|()| None),
        "grant" => return charters::grant(vector).map(|()| None),
        "keyfile" => return records::keyfile(vector).map(|()| None),
        "sharetext" => return shares::text(vector).map(|()| None),
        "wrappedshare" => return shares::wrapped(vector).map(|()| None),
        "combine" => return shares::combine(vector).map(|()| None),
        "context" => blocks::context(vector),
        "stripe" => blocks::stripe(vector),
        "directory" => blocks::directory(vector),
        "chunk" => blocks::chunk(vector),
        "shard" => blocks::shard(vector),
        "code" => blocks::code(vector),
        "record" => records::record(vector),
        "signed" => records::signed(vector),
        "charter" => records::charter(vector),
        "charters" => charters::charters(vector),
        "charterfile" => charters::file(vector),
        "revoked" => charters::revoked(vector),
        "mark" | "sweep" | "hold" => charters::collection(vector),
        "kit" => charters::kit(vector),
        "logins" => charters::logins(vector),
        "dataset" => tenants::dataset(vector),
        "names" => tenants::names(vector),
        "ledger" => records::ledger(vector),
        "head" => records::head(vector),
        "chain" => records::chain(vector),
        "runs" => records::runs(vector),
        "manifest" => pages::manifest(vector),
        "logproof" => logs::proof(vector),
        "logconsistency" => logs::consistency(vector),
        "shareset" => shares::set(vector),
        other => panic!("layer {other} is unknown"),
    }
    .map(Some)
}

/// The `public-key` lines.
fn public_keys(vector: &Vector) -> Vec<PublicKey> {
    let lines = vector.all("public-key").iter();
    lines
        .map(|digits| PublicKey::from_bytes(unhex(digits).try_into().unwrap()))
        .collect()
}
