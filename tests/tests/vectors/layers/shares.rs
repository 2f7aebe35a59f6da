//! Share sets, shares as people type them, and combining them (FORMAT.md section 17).

use exclave_model::{Record as _, ShareSet};
use exclave_seal::{
    Share,
    secret::Secret,
    share::{CeremonyKey, WrappedShare, check},
};

use super::Outcome;
use crate::kinds::Refused;
use exclave_tests::vector::Vector;

pub fn set(vector: &Vector) -> Outcome {
    ShareSet::from_bytes(&vector.body)?;
    Ok(vector.body.clone())
}

/// The value stays hidden; that it was read rightly shows when such shares combine.
pub fn text(vector: &Vector) -> Result<(), Refused> {
    let text = std::str::from_utf8(&vector.body).unwrap();
    Ok(Share::from_text(text).map(|_| ())?)
}

pub fn wrapped(vector: &Vector) -> Result<(), Refused> {
    let wrapped = WrappedShare::parse(std::str::from_utf8(&vector.body).unwrap())?;
    let key = CeremonyKey::from_seed(Secret::new(vector.array("ceremony").unwrap()));
    Ok(key.unwrap(&wrapped).map(|_| ())?)
}

pub fn combine(vector: &Vector) -> Result<(), Refused> {
    let set = ShareSet::from_bytes(&vector.bytes("share-set").unwrap())?;
    let texts: Vec<String> = minicbor::decode(&vector.body).unwrap();
    let shares = texts
        .iter()
        .map(|text| Ok(Share::from_text(text)?))
        .collect::<Result<Vec<_>, Refused>>()?;
    let shares: Vec<&Share> = shares.iter().collect();
    let checked = check(&set, &shares);
    match checked.findings().first() {
        Some(finding) => Err(finding.flaw.into()),
        None => Ok(checked.combine().map(|_| ())?),
    }
}
