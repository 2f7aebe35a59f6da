//! Records, signed and not, and key files (FORMAT.md sections 7 to 11 and 13).

use exclave_model::{
    Anchor, Charter, Close, Commitment, DatasetId, Envelope, Head, LedgerPart, PublicKey, RecipientId, Record,
    RecordHash, ReuseClaim, RunId, RunPage, SignedObject, SignedRecord, SitePlate, cbor,
    head::check_run_table,
    limit::{ENVELOPE_BYTES_MAX, HEAD_BYTES_MAX, RECORD_BYTES_MAX},
};
use exclave_plan::heads::{Finding, HeadFact, Heads};
use exclave_seal::{
    KeyFile, KeyFileError, KeyKind, Passphrase, RecoveryIdentity,
    sealed_box::{open_head, open_label},
    secret::Secret,
    signer_of, verify_charter, verify_one_of,
};
use exclave_tests::vector::{Vector, unhex};

use super::{Outcome, blocks::run_key, public_keys};
use crate::kinds::{Refused, need};

pub fn record(vector: &Vector) -> Outcome {
    let bytes = &vector.body;
    match vector.text("shape") {
        None => cbor::check(bytes).map_err(|_| Refused("not-canonical"))?,
        Some("plate") => SitePlate::from_bytes(bytes).map(|_| ())?,
        Some("reuse") => ReuseClaim::from_bytes(bytes).map(|_| ())?,
        Some("close") => Close::from_bytes(bytes).map(|_| ())?,
        Some(other) => panic!("shape {other} is unknown"),
    }
    Ok(bytes.clone())
}

/// Only who signed what type of record; the record inside isn't looked at.
pub fn signed(vector: &Vector) -> Outcome {
    fn check<R: SignedRecord>(object: &SignedObject, keys: &[PublicKey]) -> Result<(), Refused> {
        Ok(signer_of::<R>(object, keys).map(|_| ())?)
    }
    let object = SignedObject::from_bytes(&vector.body, RECORD_BYTES_MAX)?;
    let keys = public_keys(vector);
    match vector.text("type").unwrap() {
        Charter::TYPE => check::<Charter>(&object, &keys)?,
        SitePlate::TYPE => check::<SitePlate>(&object, &keys)?,
        Envelope::TYPE => check::<Envelope>(&object, &keys)?,
        ReuseClaim::TYPE => check::<ReuseClaim>(&object, &keys)?,
        Close::TYPE => check::<Close>(&object, &keys)?,
        Head::TYPE => check::<Head>(&object, &keys)?,
        other => panic!("type {other} is unknown"),
    }
    Ok(object.record_bytes().to_vec())
}

pub fn anchor(vector: &Vector) -> Anchor {
    Anchor::from_bytes(vector.array("anchor").unwrap())
}

pub fn charter(vector: &Vector) -> Outcome {
    let object = SignedObject::from_bytes(&vector.body, RECORD_BYTES_MAX)?;
    let own_hash = Anchor::from_bytes(*object.record_hash().as_bytes());
    let expected = vector.array("anchor").map_or(own_hash, Anchor::from_bytes);
    verify_charter(&object, expected)?;
    Ok(own_hash.as_bytes().to_vec())
}

pub fn envelope(vector: &Vector) -> Result<(), Refused> {
    let object = SignedObject::from_bytes(&vector.body, ENVELOPE_BYTES_MAX)?;
    let (envelope, _) = verify_one_of::<Envelope>(&object, &public_keys(vector))?;
    envelope.check_place(anchor(vector), RunId::from_bytes(vector.array("run").unwrap()))?;
    let set = vector.text("recipient-set").unwrap().split_once(',').unwrap();
    let recipients = vector.text("recipients").unwrap().split(',');
    envelope.check_set(
        charter_version(vector),
        (set.0.parse().unwrap(), set.1.parse().unwrap()),
        recipients.map(|id| RecipientId::from_bytes(unhex(id).try_into().unwrap())),
    )?;
    let identity = RecoveryIdentity::from_seed(Secret::new(vector.array("identity").unwrap()));
    let committed = vector.array("run-commitment").map(Commitment::from_bytes);
    need(committed.is_none_or(|key| key == envelope.commitment), "bad-commitment")?;
    let run_key = identity.unwrap(&envelope)?;
    open_label(&run_key, &envelope.label)?;
    Ok(())
}

pub fn ledger(vector: &Vector) -> Outcome {
    let part = LedgerPart::from_bytes(&vector.body)?;
    need(part.anchor == anchor(vector), "wrong-archive")?;
    let run = RunId::from_bytes(vector.array("run").unwrap());
    need(part.run == run, "wrong-run")?;
    Ok(vector.body.clone())
}

/// The one version that is known.
fn charter_version(vector: &Vector) -> u32 {
    let number = vector.number("charter-version").unwrap_or(1);
    number.try_into().unwrap()
}

fn read_head(bytes: &[u8], vector: &Vector, writers: &[PublicKey]) -> Result<(RecordHash, Head), Refused> {
    let object = SignedObject::from_bytes(bytes, HEAD_BYTES_MAX)?;
    let (head, signer) = verify_one_of::<Head>(&object, writers)?;
    need(head.anchor == anchor(vector), "wrong-archive")?;
    need(head.writer == signer, "unknown-signer")?;
    need(head.charter_version == charter_version(vector), "wrong-charter")?;
    Ok((object.record_hash(), head))
}

pub fn head(vector: &Vector) -> Outcome {
    let (hash, head) = read_head(&vector.body, vector, &public_keys(vector))?;
    if vector.text("run-key").is_none() {
        return Ok(hash.as_bytes().to_vec());
    }
    let sealed = open_head(&run_key(vector), &head.sealed)?;
    Ok(sealed.dataset_secret.to_vec())
}

/// The byte strings of an array: the runner's envelope around several objects.
fn several(vector: &Vector) -> Vec<Vec<u8>> {
    let list: Vec<minicbor::bytes::ByteVec> = minicbor::decode(&vector.body).unwrap();
    list.into_iter().map(Into::into).collect()
}

pub fn chain(vector: &Vector) -> Outcome {
    let writers = public_keys(vector);
    let facts = several(vector)
        .iter()
        .map(|bytes| read_head(bytes, vector, &writers).map(|(hash, head)| HeadFact::of(hash, &head, [])))
        .collect::<Result<Vec<_>, _>>()?;
    let heads = without_forks(facts)?;
    let dataset = DatasetId::from_bytes(vector.array("dataset").unwrap());
    let mut newest: Vec<RecordHash> = heads.newest(dataset).iter().map(|head| head.hash).collect();
    newest.sort_unstable();
    Ok(newest.iter().flat_map(|hash| *hash.as_bytes()).collect())
}

/// Heads of which no two stand in one place.
pub fn without_forks(facts: Vec<HeadFact>) -> Result<Heads, Refused> {
    let heads = Heads::new(facts);
    let forked = heads
        .findings()
        .iter()
        .any(|finding| matches!(finding, Finding::Fork { .. }));
    need(!forked, "fork")?;
    Ok(heads)
}

pub fn runs(vector: &Vector) -> Outcome {
    let pages = several(vector)
        .iter()
        .map(|bytes| {
            let page = RunPage::from_bytes(bytes)?;
            need(page.anchor == anchor(vector), "wrong-archive")?;
            Ok(page)
        })
        .collect::<Result<Vec<_>, Refused>>()?;
    check_run_table(&pages)?;
    let runs = pages.iter().flat_map(|page| &page.runs);
    Ok(runs.flat_map(|entry| *entry.run.as_bytes()).collect())
}

pub fn keyfile(vector: &Vector) -> Result<(), Refused> {
    let file = KeyFile::from_bytes(&vector.body)?;
    let passphrase = vector
        .bytes("passphrase")
        .map(|bytes| String::from_utf8(bytes).unwrap());
    let passphrase = passphrase.and_then(Passphrase::new);
    let opened: Result<(), KeyFileError> = match file.kind() {
        KeyKind::Recovery => file.open_recovery(passphrase.as_ref()).map(|_| ()),
        KeyKind::Share => file.open_share(passphrase.as_ref()).map(|_| ()),
        KeyKind::Ceremony => file.open_ceremony(passphrase.as_ref()).map(|_| ()),
        KeyKind::Witness => file.open_cosigning().map(|_| ()),
        kind @ KeyKind::Signing(_) => file.open_signing(kind, passphrase.as_ref()).map(|_| ()),
    };
    Ok(opened?)
}
